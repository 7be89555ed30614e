//! Batches: what is done before the writer has them must not show in what is stored.

use super::*;

/// The n-th exchange, whose answer is one of a few documents that come again and again.
fn fetched(n: u64) -> Told {
    use sha2::Digest as _;
    let mut told = told(n, 1_000_000);
    let document: Vec<u8> =
        (0..2_000_u64).map(|i| b"abcdefgh \n"[(mix(i + n % 7 * 10_000) % 10) as usize]).collect();
    let response = told.exchange.response.get_or_insert_with(|| Response {
        status: Some(200),
        reason: "OK".into(),
        message: Message::default(),
    });
    let body = &mut response.message.body;
    body.size = document.len() as u64;
    body.complete = true;
    body.sha256 = Some(sha2::Sha256::digest(&document).into());
    body.bytes = document;
    told
}

fn sorted(mut exchanges: Vec<Told>) -> Vec<Told> {
    exchanges.sort_by_key(|told| told.exchange.id);
    exchanges
}

/// Stores them over one batch that is handed on as a recorder does.
fn record(store: &Store, exchanges: &[Told], every: usize) -> usize {
    let mut waiting = store.batch();
    let mut added = 0;
    for (n, told) in exchanges.iter().enumerate() {
        waiting.push(&told.exchange, &told.reading);
        let last = n + 1 == exchanges.len();
        if (n + 1) % every == 0 || last {
            let mut batch = waiting.take(last);
            assert!(!batch.is_empty());
            let rows: Vec<Row> = batch.rows().collect();
            assert_eq!(rows.len(), batch.len());
            added += store.write(&mut batch).unwrap();
            assert_eq!(batch.rows().collect::<Vec<_>>(), rows, "rows that were written");
            waiting.recycle(batch);
        }
    }
    assert!(waiting.is_empty());
    added
}

#[test]
fn batches_of_any_size_store_the_same() {
    let exchanges: Vec<Told> = (0..700).map(fetched).collect();
    let expected = sorted(exchanges.clone());
    let stats = |store: &Store| Stats { file_bytes: 0, ..store.stats().unwrap() };
    let mut known = None;
    for every in [1, 5, 31, 33, 64, 150, 700] {
        let at = place();
        let store = Store::open(&at.path, Options::default()).unwrap();
        assert_eq!(record(&store, &exchanges, every), exchanges.len(), "{every}");
        assert_eq!(everything(&store), expected, "{every}");
        // Once more, and a newcomer between them.
        let mut again = exchanges.clone();
        again.insert(300, fetched(10_000));
        assert_eq!(record(&store, &again, every), 1, "{every}");
        assert_eq!(everything(&store).len(), exchanges.len() + 1);
        let got = (stats(&store), store.hosts().unwrap());
        assert_eq!(known.get_or_insert_with(|| got.clone()), &got, "{every}");
    }
}

#[test]
fn what_comes_again_is_stored_once_and_goes_with_the_last_that_has_it() {
    let bodies = |store: &Store| {
        use redb::{ReadableDatabase as _, ReadableTableMetadata as _};
        let txn = store.db().unwrap().begin_read().unwrap();
        txn.open_table(tables::BODIES).unwrap().len().unwrap()
    };
    let at = place();
    let hour = 3_600_000_000_000;
    let store = Store::open(&at.path, Options { max_age_nanos: hour, ..Options::default() }).unwrap();
    let exchanges: Vec<Told> = (0..1_000).map(fetched).collect();
    assert_eq!(record(&store, &exchanges, 200), exchanges.len());
    assert_eq!(everything(&store), sorted(exchanges));
    assert_eq!(bodies(&store), 7);
    // Hours later, enough batches to let everything else go.
    for n in 0..40 {
        let mut late = told(n, 1_000_000);
        late.exchange.started = late.exchange.started.plus_nanos(5 * hour);
        late.exchange.id = ExchangeId::new(late.exchange.started, n);
        store.append(&[late]).unwrap();
    }
    assert_eq!(everything(&store).len(), 40);
    assert_eq!(bodies(&store), 0);
}

#[test]
fn a_batch_says_what_it_holds() {
    let at = place();
    let store = Store::open(&at.path, Options::default()).unwrap();
    let mut batch = store.batch();
    assert!(batch.is_empty() && batch.octets() == 0);
    let mut large = told(1, 1);
    large.exchange.request.as_mut().unwrap().message.body.bytes = vec![7; 3 << 20];
    batch.push(&large.exchange, &large.reading);
    assert_eq!(batch.len(), 1);
    assert!(batch.octets() > 3 << 20, "a large body counts");
    for n in 2..300 {
        let told = fetched(n);
        batch.push(&told.exchange, &told.reading);
    }
    assert_eq!(batch.len(), 299);
    // The last chunk, which is not full, is left.
    let (whole, octets) = (batch.len(), batch.octets());
    let taken = batch.take(false);
    assert!(taken.len() > 200 && taken.len() < whole);
    assert_eq!(taken.len() + batch.len(), whole);
    assert_eq!(taken.octets() + batch.octets(), octets);
    assert_eq!(batch.take(false).len() + taken.len(), whole, "nothing else is there: all of it");
}
