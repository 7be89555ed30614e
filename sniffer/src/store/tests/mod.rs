//! The store as its users meet it.

mod audit;
mod batches;
mod broken;
mod pages;
mod records;
mod retention;

use std::path::PathBuf;

use super::*;
use crate::activitypub::{Activity, Kind, Origin, OriginSource, Sentence};
use crate::flow::{Ends, FlowId};
use crate::frame::Interface;
use crate::http::{Body, Headers, Message, Protocol, Request, Response};

const START: u64 = 1_790_000_000_000_000_000;

/// A number that looks random and is not: splitmix64.
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn pick<T: Copy>(of: &[T], n: u64) -> T {
    of[(n % of.len() as u64) as usize]
}

/// The n-th exchange of a made-up federation. Ids follow one another with a little disorder, `step` ns apart.
fn told(n: u64, step: u64) -> Told {
    let r = |salt: u64| mix(n ^ (salt << 48));
    let jitter = if n.is_multiple_of(50) { 0 } else { r(1) % (step * 4) };
    let started = Timestamp(START + n * step + jitter);
    let hosts = ["gts1.test", "gts2.test", "fed1.test", "fed2.test"];
    let (from, to) = (pick(&hosts, r(2)), pick(&hosts, r(3)));
    let delivery = r(4) % 100 < 45;
    let kind = if delivery {
        Kind::InboxDelivery
    } else {
        pick(&[Kind::Actor, Kind::Object, Kind::WebFinger, Kind::Page], r(5))
    };
    let federation = kind != Kind::Page;
    let ty = pick(&["Create", "Create", "Create", "Follow", "Accept", "Undo", "Like", "Announce"], r(6));
    let actor = format!("https://{from}/users/user{}", r(7) % 20);
    let status = pick(&[Some(200), Some(202), Some(202), Some(404), Some(500), None], r(8));
    let body = if delivery {
        format!(
            "{{\"@context\":\"https://www.w3.org/ns/activitystreams\",\"id\":\"{actor}/statuses/{n}\",\"type\":\"{ty}\",\
             \"actor\":\"{actor}\",\"object\":\"https://{to}/users/bob\",\"content\":\"{:x} {:x}\"}}",
            r(9),
            r(10)
        )
    } else {
        String::new()
    };
    let message = |fields: &[(&str, &str)], body: &[u8], at: u64| {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(Some(name.as_bytes()), Some(value.as_bytes()));
        }
        Message {
            version: (1, 1),
            headers,
            trailers: Headers::default(),
            body: Body {
                wire_size: body.len() as u64,
                coded_size: body.len() as u64,
                size: body.len() as u64,
                complete: true,
                bytes: body.to_vec(),
                ..Body::default()
            },
            first_byte: started.plus_nanos(at),
            last_byte: started.plus_nanos(at + 100_000),
        }
    };
    let target = if delivery { "/users/bob/inbox".to_owned() } else { format!("/users/user{}", r(11) % 50) };
    let response = status.map(|status| Response {
        status: Some(status),
        reason: "OK".into(),
        message: message(
            &[("Content-Type", "application/activity+json"), ("Server", "x")],
            if delivery { b"" } else { b"{\"type\":\"Person\",\"name\":\"somebody\"}" },
            2_000_000,
        ),
    });
    let exchange = Exchange {
        id: ExchangeId::new(started, r(12)),
        flow: FlowId(0),
        ends: Ends { client: "10.42.0.2:41234".parse().unwrap(), server: "10.42.0.12:8080".parse().unwrap() },
        interface: Interface::Unknown,
        interface_name: Some("veth1".into()),
        protocol: Protocol::Http11,
        started,
        ended: started.plus_nanos(3_000_000),
        request: Some(Request {
            method: Some(if delivery { "POST" } else { "GET" }.into()),
            target: Some(target.into()),
            host: Some(to.into()),
            scheme: None,
            message: message(&[("User-Agent", "GoToSocial/0.20"), ("Host", to)], body.as_bytes(), 0),
        }),
        response,
        interim: Vec::new(),
        websocket: None,
        gaps: Vec::new(),
        anomalies: Vec::new(),
    };
    let mut reading = Reading::unknown();
    reading.kind = kind;
    reading.federation = federation;
    reading.sentence = Sentence {
        template: "follow.ask".into(),
        slots: vec![("actor".into(), format!("user@{from}").into()), ("object".into(), "bob".into())],
    };
    if delivery {
        reading.activity = Some(Activity {
            id: Some(format!("{actor}/statuses/{}", n / 3).into()),
            r#type: Some(ty.into()),
            actor: Some(actor.into()),
            object: Some(format!("https://{to}/users/bob").into()),
            ..Activity::default()
        });
    }
    if federation {
        reading.origin = Some(Origin {
            host: Some(from.into()),
            host_from: Some(OriginSource::KeyId),
            software: Some("GoToSocial 0.20.0".into()),
            ..Origin::default()
        });
    }
    Told { exchange: Box::new(exchange), reading }
}

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    Place { _folder: folder, path }
}

fn all<'a>() -> Query<'a> {
    Query {
        filter: None,
        federation: false,
        from: None,
        to: None,
        cursor: Cursor::Oldest,
        limit: 1_000_000,
        scan_limit: usize::MAX,
    }
}

fn everything(store: &Store) -> Vec<Told> {
    let mut found = Vec::new();
    store
        .for_each(&all(), &mut |stored: Stored| {
            found.push(Told { exchange: Box::new(stored.exchange), reading: stored.reading });
            true
        })
        .unwrap();
    found
}

fn sorted(mut told: Vec<Told>) -> Vec<Told> {
    told.sort_by_key(|t| t.exchange.id);
    told
}

#[test]
fn what_was_stored_comes_back_whole_and_survives_reopening() {
    let at = place();
    let batches: Vec<Vec<Told>> = [1, 3, 100, 64, 1, 250]
        .iter()
        .scan(0, |n, size| {
            let batch = (*n..*n + size).map(|n| told(n, 1_000_000)).collect();
            *n += size;
            Some(batch)
        })
        .collect();
    let expected = sorted(batches.iter().flatten().cloned().collect());
    let store = Store::open(&at.path, Options::default()).unwrap();
    for batch in &batches {
        assert_eq!(store.append(batch).unwrap(), batch.len());
    }
    assert_eq!(everything(&store), expected);
    drop(store);
    let store = Store::open(&at.path, Options { must_exist: true, ..Options::default() }).unwrap();
    assert_eq!(everything(&store), expected);
    for told in &expected {
        let stored = store.get(told.exchange.id).unwrap().expect("it is there");
        assert_eq!((&stored.exchange, &stored.reading), (&*told.exchange, &told.reading));
    }
    assert_eq!(store.get(ExchangeId::new(Timestamp(START), 1)).unwrap(), None);
    let stats = store.stats().unwrap();
    assert_eq!(stats.exchanges, expected.len() as u64);
    assert_eq!(stats.federation, expected.iter().filter(|t| t.reading.federation).count() as u64);
    assert_eq!(stats.oldest, Some(expected[0].exchange.started));
    assert_eq!(stats.newest, Some(expected.last().unwrap().exchange.started));
    assert!(stats.file_bytes > 0);
    // It goes on where it was.
    assert_eq!(store.append(&[told(1000, 1_000_000)]).unwrap(), 1);
    assert_eq!(store.stats().unwrap().exchanges, expected.len() as u64 + 1);
}

#[test]
fn the_same_exchange_is_stored_once() {
    let at = place();
    let batch: Vec<Told> = (0..200).map(|n| told(n, 1_000_000)).collect();
    let store = Store::open(&at.path, Options::default()).unwrap();
    let twice: Vec<Told> = batch.iter().chain(&batch).cloned().collect();
    assert_eq!(store.append(&twice).unwrap(), 200);
    let (before, hosts) = (store.stats().unwrap(), store.hosts().unwrap());
    assert_eq!(store.append(&batch).unwrap(), 0);
    drop(store);
    let store = Store::open(&at.path, Options::default()).unwrap();
    assert_eq!(store.append(&batch[50..150]).unwrap(), 0);
    let mut half: Vec<Told> = batch[190..].to_vec();
    half.push(told(500, 1_000_000));
    assert_eq!(store.append(&half).unwrap(), 1);
    assert_eq!(store.stats().unwrap().exchanges, before.exchanges + 1);
    assert_eq!(everything(&store).len(), 201);
    // The newcomer alone was counted.
    let sum = |hosts: &[Host]| hosts.iter().map(|h| h.sent + h.answered).sum::<u64>();
    assert!(sum(&store.hosts().unwrap()) <= sum(&hosts) + 2);
    assert_eq!(store.append(&[]).unwrap(), 0);
}

#[test]
fn hosts_have_colours_that_stay_and_differ_as_long_as_there_are_any() {
    let at = place();
    let store = Store::open(&at.path, Options::default()).unwrap();
    let batch: Vec<Told> = (0..300).map(|n| told(n, 1_000_000)).collect();
    store.append(&batch[..150]).unwrap();
    let before = store.hosts().unwrap();
    drop(store);
    let store = Store::open(&at.path, Options::default()).unwrap();
    store.append(&batch[150..]).unwrap();
    let hosts = store.hosts().unwrap();
    let named: Vec<&Host> = hosts.iter().filter(|h| h.host.ends_with(".test")).collect();
    assert_eq!(named.len(), 4);
    for host in &before {
        assert_eq!(hosts.iter().find(|h| h.host == host.host).unwrap().slot, host.slot);
    }
    let mut slots: Vec<u8> = hosts.iter().map(|h| h.slot).collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), hosts.len().min(8));
    assert!(slots.iter().all(|s| *s < 8));
    for host in named {
        let sent = batch
            .iter()
            .filter(|t| t.reading.origin.as_ref().and_then(|o| o.host.as_deref()) == Some(&*host.host));
        let answered = batch
            .iter()
            .filter(|t| t.exchange.request.as_ref().unwrap().host.as_deref() == Some(&*host.host));
        assert_eq!(
            (host.sent, host.answered),
            (sent.count() as u64, answered.count() as u64),
            "{}",
            host.host
        );
        assert_eq!(host.software.as_deref(), Some("GoToSocial 0.20.0"));
    }
    assert_eq!(
        before.iter().map(|h| &h.host).collect::<Vec<_>>(),
        hosts.iter().take(before.len()).map(|h| &h.host).collect::<Vec<_>>()
    );
}

#[test]
fn readers_see_whole_batches_while_the_writer_writes() {
    let at = place();
    let store = Store::open(&at.path, Options::default()).unwrap();
    const BATCHES: u64 = 40;
    const SIZE: u64 = 37;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for b in 0..BATCHES {
                let batch: Vec<Told> = (b * SIZE..(b + 1) * SIZE).map(|n| told(n, 1_000_000)).collect();
                store.append(&batch).unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while last < BATCHES * SIZE {
                    let page = store.page(&all()).unwrap();
                    let seen = page.rows.len() as u64;
                    assert_eq!(seen % SIZE, 0, "a batch was seen in part");
                    assert!(seen >= last, "what was seen went away");
                    assert!(page.rows.is_sorted_by_key(|r| r.id));
                    if let Some(row) = page.rows.get(seen as usize / 2) {
                        assert!(store.get(row.id).unwrap().is_some());
                    }
                    last = seen;
                }
            });
        }
        writer.join().unwrap();
    });
}
