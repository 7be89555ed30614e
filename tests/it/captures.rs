//! Whole captures of real servers: the exchanges equal those of the servers' and the proxy's own logs, each exactly
//! once. Where a log and the wire differ, the table below says why.

use std::collections::BTreeMap;
use std::io::Read;

use sniffer::capture::{Item, Source};
use sniffer::pipeline::{Config, Counters, Pipeline, Told};
use sniffer::view::hex;
use tests::truth::Logged;

/// The files of a capture in `tests/traces`: one, or its parts in order.
pub(crate) fn parts(name: &str) -> Vec<std::path::PathBuf> {
    let folder = tests::traces();
    let mut parts: Vec<_> = std::fs::read_dir(&folder)
        .expect("tests/traces")
        .map(|f| f.expect("a file").path())
        .filter(|p| {
            let file = p.file_name().expect("a name").to_string_lossy().into_owned();
            file.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(".pcap.zst") || rest.starts_with(".pcapng.zst"))
        })
        .collect();
    parts.sort();
    assert!(!parts.is_empty(), "no capture {name} in {}", folder.display());
    parts
}

pub(crate) fn open(name: &str) -> Source {
    let mut bytes = Vec::new();
    for part in parts(name) {
        std::fs::File::open(&part).expect("open").read_to_end(&mut bytes).expect("read");
    }
    Source::from_reader(name, std::io::Cursor::new(bytes), None).expect("a capture")
}

/// A capture through the whole pipeline.
pub(crate) fn decode(name: &str) -> (Vec<Told>, Counters) {
    let mut source = open(name);
    let mut pipeline = Pipeline::new(Config::default());
    let mut told = Vec::new();
    while let Some(item) = source.next().expect("undamaged") {
        match item {
            Item::Frame(frame) => pipeline.push(&frame, &mut told),
            Item::Interface { number, name, .. } => pipeline.name_interface(number, name),
            Item::Loss(loss) => pipeline.lost(&loss),
        }
    }
    pipeline.finish(&mut told);
    (told, pipeline.counters())
}

pub(crate) fn truth(name: &str) -> Vec<Logged> {
    let text = std::fs::read_to_string(tests::traces().join(format!("{name}.truth.jsonl"))).expect("truth");
    text.lines().map(|line| serde_json::from_str(line).expect("a logged exchange")).collect()
}

/// What identifies an exchange for a log: method, target, host, status.
pub(crate) type Key = (String, String, String, Option<u16>);

pub(crate) fn key_of(told: &Told) -> Key {
    let text = |part: &Option<Box<str>>| part.as_deref().unwrap_or("?").to_owned();
    let request = told.exchange.request.as_ref();
    (
        request.map_or("?".into(), |r| text(&r.method)),
        request.map_or("?".into(), |r| text(&r.target)),
        request.map_or("?".into(), |r| text(&r.host)),
        told.exchange.response.as_ref().and_then(|r| r.status),
    )
}

/// A multiset of keys.
fn count(keys: impl Iterator<Item = Key>) -> BTreeMap<Key, i64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

/// What one side has and the other has not, as text; empty when they agree.
fn difference(left: &BTreeMap<Key, i64>, right: &BTreeMap<Key, i64>) -> Vec<String> {
    let mut keys: Vec<_> = left.keys().chain(right.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter_map(|key| {
            let (l, r) = (left.get(key).copied().unwrap_or(0), right.get(key).copied().unwrap_or(0));
            (l != r).then(|| {
                let status = key.3.map_or("–".to_owned(), |s| s.to_string());
                format!("{} {} {} -> {status}: {l} told, {r} logged", key.0, key.2, key.1)
            })
        })
        .collect()
}

/// The differences to the proxy's log that are right, and why.
fn explained(name: &str) -> &'static [&'static str] {
    match name {
        _ => &[],
    }
}

pub(crate) const ALL: &[&str] = &[
    "s01-gts-gts-traefik-any",
    "s02-fedify-rfc9421-gts-traefik",
    "s03-mastoapi-websocket-traefik",
    "s04-bigmedia-gso-traefik",
    "s05-h2c-fedify-traefik",
    "s06-lossy-gts-traefik",
    "s07-midstream-gts-traefik",
    "s08-egress-reject-traefik",
    "s09-signatures-traefik",
    "s10-tls-keylog-fedify-traefik",
    "s11-http-oddities-traefik",
    "s12-keyfetch-loop-bot-gts-traefik",
    "s13-ipv6-fedify-traefik",
    "s14-h2c-midstream-traefik",
    "s15-busy-gts-traefik",
];

#[test]
fn every_exchange_of_the_proxys_log_is_told_exactly_once() {
    let mut wrong = Vec::new();
    for name in ALL {
        let told = count(decode(name).0.iter().map(key_of));
        let logged = count(
            truth(name)
                .into_iter()
                .filter(|l| l.log == "proxy")
                .map(|l| (l.method, l.target, l.host.unwrap_or_else(|| "?".into()), l.status)),
        );
        let found = difference(&told, &logged);
        if found != explained(name) {
            wrong.push(format!("{name}:\n  {}", found.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bodies_have_the_sizes_and_hashes_that_the_servers_logged() {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for name in ALL {
        let mut told = decode(name).0;
        for logged in truth(name).into_iter().filter(|l| l.sent.is_some()) {
            let matches = |t: &Told| {
                let (method, target, host, status) = key_of(t);
                let body = |m: &sniffer::http::Message, decoded: bool| {
                    let (size, sha) = if decoded {
                        (m.body.size, m.body.sha256)
                    } else {
                        (m.body.coded_size, m.body.coded_sha256)
                    };
                    sha.map(|sha| (size, hex(&sha)))
                };
                let exchange = &t.exchange;
                let request = exchange.request.as_ref().and_then(|r| body(&r.message, false));
                let answered = exchange.response.as_ref().and_then(|r| body(&r.message, false));
                let decoded = exchange.response.as_ref().and_then(|r| body(&r.message, true));
                method == logged.method
                    && target == logged.target
                    && Some(host) == logged.host
                    && status == logged.status
                    && request == logged.sent
                    && (logged.answered.is_none() || answered == logged.answered)
                    && (logged.decoded.is_none() || decoded == logged.decoded)
            };
            compared += 1;
            match told.iter().position(matches) {
                Some(at) => {
                    told.swap_remove(at);
                }
                None => wrong.push(format!("{name}: {logged:?}")),
            }
        }
    }
    assert!(compared > 200, "only {compared} log lines carry hashes");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
