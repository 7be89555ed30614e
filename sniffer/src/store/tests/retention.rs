//! The limits hold, and nothing that expired leaves a trace.

use super::*;
use redb::ReadableDatabase as _;
use redb::ReadableTableMetadata as _;

/// Entries of the indexes: none may point to what is gone.
fn index_entries(store: &Store) -> [u64; 8] {
    let txn = store.db().unwrap().begin_read().unwrap();
    [
        txn.open_table(tables::CHUNKS).unwrap().len().unwrap(),
        txn.open_table(tables::PIECES).unwrap().len().unwrap(),
        txn.open_table(tables::IDS).unwrap().len().unwrap(),
        txn.open_table(tables::TERMS).unwrap().len().unwrap(),
        txn.open_table(tables::STRIP).unwrap().len().unwrap(),
        txn.open_table(tables::BODIES).unwrap().len().unwrap(),
        txn.open_table(tables::BODY_PIECES).unwrap().len().unwrap(),
        txn.open_table(tables::ERAS).unwrap().len().unwrap(),
    ]
}

#[test]
fn the_file_stays_within_its_limit_and_the_oldest_go() {
    let at = place();
    let max_bytes = 2 << 20;
    let store = Store::open(&at.path, Options { max_bytes, ..Options::default() }).unwrap();
    let mut largest = 0;
    for batch in 0..60_u64 {
        let batch: Vec<Told> = (batch * 200..(batch + 1) * 200)
            .map(|n| {
                let mut told = told(n, 10_000_000);
                // Something that does not compress; now and then a large body.
                let size = if n % 100 == 0 { 60_000 } else { 600 };
                let noise = (0..size).map(|i| mix(n * 100_000 + i) as u8).collect();
                told.exchange.request.as_mut().unwrap().message.body.bytes = noise;
                told
            })
            .collect();
        store.append(&batch).unwrap();
        largest = largest.max(store.stats().unwrap().file_bytes);
    }
    let stats = store.stats().unwrap();
    assert!(stats.expired > 0);
    assert_eq!(stats.exchanges + stats.expired, 60 * 200);
    assert!(largest <= max_bytes + max_bytes / 2, "the file grew to {largest}");
    assert!(largest >= max_bytes / 2, "the file only grew to {largest}");
    let left = everything(&store);
    assert_eq!(left.len() as u64, stats.exchanges);
    // Those that are left are the newest ones, whole; a chunk's disorder at the border.
    let oldest = left.iter().map(|t| t.exchange.started.0).min().unwrap();
    assert!(oldest + 50_000_000 >= START + stats.expired * 10_000_000 - 640_000_000);
    assert_eq!(store.stats().unwrap().oldest.unwrap().0, oldest);
    let strip = store.strip(Timestamp(0), Timestamp(u64::MAX), 1).unwrap();
    assert_eq!(u64::from(strip[0].deliveries + strip[0].fetches), stats.federation);
    let gone = told(0, 10_000_000).exchange.id;
    assert_eq!(store.get(gone).unwrap(), None);
    // Its length is what redb doubled it to, not more; what of it was never used takes no place.
    drop(store);
    let length = std::fs::metadata(&at.path).unwrap().len();
    assert!(length <= 5 * max_bytes / 2, "the file is {length} octets long");
}

#[test]
fn what_is_too_old_goes_without_a_trace() {
    let at = place();
    let hour = 3_600_000_000_000;
    let options = Options { max_age_nanos: hour, ..Options::default() };
    let store = Store::open(&at.path, options).unwrap();
    let picture = vec![9_u8; 100_000];
    for n in 0..250 {
        // Thirty seconds apart.
        let mut told = told(n, hour / 120);
        told.exchange.request.as_mut().unwrap().message.body.bytes = picture.clone();
        store.append(&[told]).unwrap();
    }
    let stats = store.stats().unwrap();
    let age = stats.newest.unwrap().0 - stats.oldest.unwrap().0;
    assert!(age <= hour + hour / 8, "the oldest is {} minutes old", age / 60_000_000_000);
    assert!(age >= hour - hour / 8);
    let store_entries = index_entries(&store);
    assert_eq!(store_entries[5], 1, "one picture");
    // Two hours later there is only one left, and of the others nothing.
    let mut last = told(1000, hour / 120);
    last.exchange.started = Timestamp(stats.newest.unwrap().0 + 2 * hour);
    last.exchange.id = ExchangeId::new(last.exchange.started, 1);
    store.append(std::slice::from_ref(&last)).unwrap();
    for more in 0..20 {
        let mut told = last.clone();
        told.exchange.id = ExchangeId::new(Timestamp(last.exchange.started.0 + more + 1), 1);
        store.append(&[told]).unwrap();
    }
    assert_eq!(everything(&store).len(), 21);
    assert_eq!(store.stats().unwrap().exchanges, 21);
    let one = {
        let at = place();
        let store = Store::open(&at.path, Options::default()).unwrap();
        let batch: Vec<Told> = everything_of(&last, 20);
        for told in batch {
            store.append(&[told]).unwrap();
        }
        index_entries(&store)
    };
    assert_eq!(index_entries(&store), one, "traces of what expired");
    let sent: u64 = store.hosts().unwrap().iter().map(|h| h.sent + h.answered).sum();
    assert!(sent <= 42);
}

fn everything_of(last: &Told, more: u64) -> Vec<Told> {
    std::iter::once(last.clone())
        .chain((0..more).map(|n| {
            let mut told = last.clone();
            told.exchange.id = ExchangeId::new(Timestamp(last.exchange.started.0 + n + 1), 1);
            told
        }))
        .collect()
}
