//! Pages against a naive twin: a sorted vector that is filtered.

use proptest::prelude::*;

use super::*;
use crate::filter::Filter;
use crate::http::GapMark;
use crate::stream::GapCause;

/// The naive twin.
fn matching(told: &[Told], query: &Query<'_>) -> Vec<ExchangeId> {
    told.iter()
        .filter(|t| {
            query.filter.is_none_or(|f| f.matches(&t.exchange, &t.reading))
                && (!query.federation || t.reading.federation)
                && query.from.is_none_or(|from| t.exchange.started >= from)
                && query.to.is_none_or(|to| t.exchange.started < to)
        })
        .map(|t| t.exchange.id)
        .collect()
}

fn ids(page: &Page) -> Vec<ExchangeId> {
    page.rows.iter().map(|r| r.id).collect()
}

const FILTERS: &[&str] = &[
    "",
    "activity.actor == 'https://gts1.test/users/user3'",
    "activity.actor == 'https://nobody.test/'",
    "request.host == 'gts2.test' && activity.type == 'Follow'",
    "origin.host == 'fed1.test' && activity.type in ['Undo', 'Like'] && request.host == 'gts1.test'",
    "origin.host in ['gts1.test', 'fed2.test'] && request.host in ['gts1.test', 'fed2.test']",
    "kind == 'webfinger' || kind == 'page'",
    "response.status >= 400 && response.status < 500",
    "response.status == null",
    "!(response.status >= 400)",
    "response.status != 200",
    "request.headers['user-agent'].contains('GoToSocial') && activity.type == 'Accept'",
    "body.text.contains('\"type\":\"Undo\"')",
    "request.path.endsWith('7')",
    "started >= '2026-09-21T14:13:22Z' && kind == 'actor'",
    "activity.id == 'https://gts1.test/users/user3/statuses/7'",
    "kind == 'actor' && kind == 'object'",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn pages_are_those_of_a_sorted_vector(
        // Exchanges in a microsecond, in a bucket of the index, and hours apart.
        step in prop::sample::select(vec![1_u64, 1_000, 20_000_000, 700_000_000, 3_000_000_000_000]),
        sizes in prop::collection::vec(1_u64..90, 1..8),
        queries in prop::collection::vec(
            (0..FILTERS.len(), any::<bool>(), 0..5_usize, 1..30_usize, any::<(u64, u64, u64)>(), any::<bool>()), 20),
    ) {
        let at = place();
        let store = Store::open(&at.path, Options::default()).unwrap();
        let (mut n, mut stored) = (0, Vec::new());
        for size in sizes {
            let mut batch: Vec<Told> = (n..n + size).map(|n| told(n, step)).collect();
            // One that began long before it ended, and so comes late.
            let late = batch.len() / 2;
            batch[late].exchange.started = Timestamp(START + n / 2 * step + 7);
            batch[late].exchange.id = ExchangeId::new(batch[late].exchange.started, n);
            store.append(&batch).unwrap();
            stored.extend(batch);
            n += size;
        }
        stored = sorted(stored);
        stored.dedup_by_key(|t| t.exchange.id);
        let filters: Vec<Filter> = FILTERS.iter().map(|f| Filter::parse(f).unwrap()).collect();
        for (filter, federation, cursor, limit, (a, b, c), bounded) in queries {
            let time = |n: u64| Timestamp(START + n % (stored.len() as u64 + 2) * step);
            let mut query = Query {
                filter: (filter > 0).then(|| &filters[filter]),
                federation,
                from: bounded.then(|| time(a)),
                to: (bounded && b % 2 == 0).then(|| time(b)),
                cursor: Cursor::Newest,
                limit,
                scan_limit: usize::MAX,
            };
            // An id that is there, or one beside.
            let id = pick(&stored.iter().map(|t| t.exchange.id).collect::<Vec<_>>(), c);
            let id = if c % 3 == 0 { ExchangeId::new(id.started(), c) } else { id };
            let expected = matching(&stored, &query);
            let older: Vec<_> = expected.iter().copied().filter(|e| *e < id).collect();
            let newer: Vec<_> = expected.iter().copied().filter(|e| *e > id).collect();
            let tail = |of: &[ExchangeId]| of[of.len().saturating_sub(limit)..].to_vec();
            let head = |of: &[ExchangeId]| of[..limit.min(of.len())].to_vec();
            query.cursor = pick(
                &[Cursor::Newest, Cursor::Oldest, Cursor::Before(id), Cursor::After(id), Cursor::Around(id)],
                cursor as u64,
            );
            let page = store.page(&query).unwrap();
            prop_assert_eq!(page.scanned_to, None);
            match query.cursor {
                Cursor::Newest => {
                    prop_assert_eq!(ids(&page), tail(&expected), "{:?}", query);
                    prop_assert_eq!((page.more_before, page.more_after), (expected.len() > limit, false));
                }
                Cursor::Oldest => {
                    prop_assert_eq!(ids(&page), head(&expected), "{:?}", query);
                    prop_assert_eq!((page.more_before, page.more_after), (false, expected.len() > limit));
                }
                Cursor::Before(_) => {
                    prop_assert_eq!(ids(&page), tail(&older), "{:?}", query);
                    prop_assert_eq!(page.more_before, older.len() > limit);
                    prop_assert!(page.more_after || older.len() == expected.len());
                }
                Cursor::After(_) => {
                    prop_assert_eq!(ids(&page), head(&newer), "{:?}", query);
                    prop_assert_eq!(page.more_after, newer.len() > limit);
                    prop_assert!(page.more_before || newer.len() == expected.len());
                }
                Cursor::Around(_) => {
                    let found = ids(&page);
                    // A run of what matches, that holds the place of the id.
                    let at = expected.windows(found.len().max(1)).position(|w| w == found.as_slice());
                    prop_assert!(at.is_some() || found.is_empty(), "{:?}", query);
                    prop_assert_eq!(page.more_before, found.first().is_some_and(|f| expected[0] < *f)
                        || found.is_empty() && !older.is_empty());
                    prop_assert_eq!(page.more_after, found.last().is_some_and(|l| expected.last().unwrap() > l)
                        || found.is_empty() && expected.len() > older.len());
                    if expected.contains(&id) && limit > 1 {
                        prop_assert!(found.contains(&id));
                    }
                }
            }
            for row in &page.rows {
                let told = stored.iter().find(|t| t.exchange.id == row.id).unwrap();
                prop_assert_eq!(row, &Row::new(&told.exchange, &told.reading));
            }
            prop_assert_eq!(store.count(&query).unwrap(), (expected.len() as u64, true));
            query.cursor = Cursor::Oldest;
            let mut exported = Vec::new();
            store.for_each(&query, &mut |s| { exported.push(s.exchange.id); true }).unwrap();
            prop_assert_eq!(exported, expected);
        }
    }
}

fn filled(n: u64, step: u64) -> (super::Place, Store, Vec<Told>) {
    let at = place();
    let store = Store::open(&at.path, Options::default()).unwrap();
    let told: Vec<Told> = (0..n).map(|n| told(n, step)).collect();
    for batch in told.chunks(500) {
        store.append(batch).unwrap();
    }
    (at, store, sorted(told))
}

#[test]
fn a_scan_that_was_cut_short_goes_on_where_it_stopped() {
    let (_at, store, stored) = filled(1500, 10_000_000);
    let filter = Filter::parse("request.path.endsWith('/user7')").unwrap();
    let mut query =
        Query { filter: Some(&filter), cursor: Cursor::Newest, limit: 10, scan_limit: 40, ..all() };
    let expected = matching(&stored, &query);
    assert!(expected.len() > 10);
    let mut found = Vec::new();
    for _ in 0..200 {
        let page = store.page(&query).unwrap();
        let mut next = page.rows.first().map(|r| r.id);
        found.splice(0..0, ids(&page));
        if let Some(stopped) = page.scanned_to {
            assert!(page.more_before);
            assert!(next.is_none_or(|n| stopped <= n));
            next = Some(stopped);
        }
        if !page.more_before {
            break;
        }
        query.cursor = Cursor::Before(next.unwrap());
    }
    assert_eq!(found, expected);
    let (counted, exact) = store.count(&query).unwrap();
    assert!(!exact && counted <= expected.len() as u64);
}

#[test]
fn an_export_can_be_stopped_and_sees_everything_else() {
    let (_at, store, stored) = filled(2000, 10_000_000);
    let mut seen = 0;
    store
        .for_each(&all(), &mut |_| {
            seen += 1;
            seen < 700
        })
        .unwrap();
    assert_eq!(seen, 700);
    assert_eq!(everything(&store), stored);
    let after = stored[1200].exchange.id;
    let mut found = Vec::new();
    store
        .for_each(&Query { cursor: Cursor::After(after), ..all() }, &mut |s| {
            found.push(s.exchange.id);
            true
        })
        .unwrap();
    assert_eq!(found, stored[1201..].iter().map(|t| t.exchange.id).collect::<Vec<_>>());
}

#[test]
fn the_strip_adds_up() {
    for step in [3_000, 5_000_000, 900_000_000, 70_000_000_000] {
        let at = place();
        let store = Store::open(&at.path, Options::default()).unwrap();
        let mut told: Vec<Told> = (0..600).map(|n| told(n, step)).collect();
        for t in told.iter_mut().step_by(7) {
            t.exchange.gaps =
                vec![GapMark { to_server: true, offset: 0, length: 1, cause: GapCause::CaptureLoss }];
        }
        store.append(&told).unwrap();
        let stats = store.stats().unwrap();
        let (from, to) = (stats.oldest.unwrap(), stats.newest.unwrap().plus_nanos(1));
        for bars in [1, 7, 240, 2000] {
            let strip = store.strip(from, to, bars).unwrap();
            assert_eq!(strip.len(), bars);
            let sum = |f: fn(&Bar) -> u32| strip.iter().map(f).sum::<u32>() as usize;
            let federation = || told.iter().filter(|t| t.reading.federation);
            let deliveries = federation().filter(|t| t.reading.kind == Kind::InboxDelivery).count();
            assert_eq!(sum(|b| b.deliveries), deliveries, "{step} {bars}");
            assert_eq!(sum(|b| b.fetches), federation().count() - deliveries);
            let failed = |t: &&Told| t.exchange.response.as_ref().is_none_or(|r| r.status.unwrap() >= 400);
            assert_eq!(sum(|b| b.failures), federation().filter(failed).count());
            assert_eq!(sum(|b| b.gaps), told.iter().filter(|t| !t.exchange.gaps.is_empty()).count());
        }
        // Each stands in its bar or beside it.
        if step > 2_000_000 {
            let strip = store.strip(from, to, 100).unwrap();
            let width = (to.0 - from.0) / 100;
            let mut sums = [0_i64; 100];
            for t in told.iter().filter(|t| t.reading.federation) {
                sums[(((t.exchange.started.0 - from.0) / width) as usize).min(99)] += 1;
            }
            let mut drift = 0_i64;
            for (bar, exact) in strip.iter().zip(sums) {
                drift += i64::from(bar.deliveries + bar.fetches) - exact;
                assert!(drift.abs() <= 12, "{drift} exchanges stand in another bar");
            }
        }
        assert_eq!(store.strip(to, from, 5).unwrap(), [Bar::default(); 5]);
        assert!(store.strip(from, to, 0).unwrap().is_empty());
        let far = Timestamp(u64::MAX);
        assert_eq!(store.strip(Timestamp(0), far, 3).unwrap().len(), 3);
    }
}

#[test]
fn an_empty_store_has_empty_pages() {
    let at = place();
    let store = Store::open(&at.path, Options::default()).unwrap();
    for cursor in [
        Cursor::Newest,
        Cursor::Oldest,
        Cursor::Around(ExchangeId([0; 16])),
        Cursor::After(ExchangeId([255; 16])),
    ] {
        assert_eq!(store.page(&Query { cursor, ..all() }).unwrap(), Page::default());
    }
    assert_eq!(store.count(&all()).unwrap(), (0, true));
    let stats = store.stats().unwrap();
    assert_eq!((stats.exchanges, stats.oldest, stats.newest), (0, None, None));
    assert!(store.hosts().unwrap().is_empty() && everything(&store).is_empty());
}
