//! How fast and how small: `cargo test --release -p sniffer --lib store::tests::measure -- --ignored --nocapture`, with
//! `EXCHANGES=1000000` for more than 200,000. The traffic is that of the benchmark, its readings are real ones.

use std::time::{Duration, Instant};

use sha2::Digest as _;

use super::*;
use crate::activitypub::Reader;
use crate::filter::Filter;
use crate::view::Row;

#[path = "../../../../tests/src/federation.rs"]
#[allow(unreachable_pub, dead_code)]
mod federation;

use federation::{Asked, Random, delivery, delivery_head, document, fetch_head, next_asked};

fn message(head: &str, body: Vec<u8>, gzip: bool, at: u64) -> (Message, u64) {
    let mut headers = Headers::default();
    for line in head.lines().skip(1).filter(|l| !l.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        headers.push(Some(name.as_bytes()), Some(value.as_bytes()));
    }
    let size = body.len() as u64;
    let wire = if gzip {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut to, &body).unwrap();
        to.finish().unwrap().len() as u64
    } else {
        size
    };
    let hash: [u8; 32] = sha2::Sha256::digest(&body).into();
    let coded_sha256 = if gzip { sha2::Sha256::digest(hash).into() } else { hash };
    let body = Body {
        wire_size: wire,
        coded_size: wire,
        size,
        encoding: gzip.then(|| "gzip".into()),
        complete: true,
        sha256: Some(hash),
        coded_sha256: Some(coded_sha256),
        bytes: body,
        holes: Vec::new(),
    };
    let wire = wire + head.len() as u64;
    let (first_byte, last_byte) = (Timestamp(at), Timestamp(at + 200_000));
    (Message { version: (1, 1), headers, trailers: Headers::default(), body, first_byte, last_byte }, wire)
}

/// The n-th exchange, and its octets on the wire without those of TCP and IP.
fn exchange(n: u64, random: &mut Random) -> (Exchange, u64) {
    // Twelve thousand a second.
    let started = START + n * 83_000 + random.below(400_000);
    let asked = next_asked(random);
    let id = format!("X-Request-Id: {}\r\n", random.base64(16));
    let date = "Date: Mon, 23 Nov 2026 07:27:01 GMT\r\nConnection: keep-alive\r\nServer: nginx/1.26.3\r\n";
    let (target, host, request, response) = if asked == Asked::Delivery {
        let delivery = delivery(random.next() % 100_000);
        let body = format!("{}{}{}", delivery.before, random.base64(12), delivery.after);
        let (digest, signature) = (random.base64(44), random.base64(344));
        let head = delivery_head(&delivery, body.len(), &digest, &signature) + &id;
        let request = message(&head, body.into_bytes(), false, started);
        let response =
            message(&format!("HTTP/1.1 202 Accepted\r\n{date}"), Vec::new(), false, started + 900_000);
        ("/inbox".to_owned(), delivery.host, (request, "POST"), (response, 202))
    } else {
        let document = document(asked, random.next() % 100_000).unwrap();
        let head = fetch_head(&document) + &id;
        let answer = format!(
            "HTTP/1.1 200 OK\r\n{date}Content-Type: {}\r\nContent-Length: {}\r\nETag: \"{}\"\r\n",
            document.media_type,
            document.body.len(),
            random.base64(12)
        );
        let request = message(&head, Vec::new(), false, started);
        let response = message(&answer, document.body.into_bytes(), document.gzip, started + 900_000);
        (document.target, document.host, (request, "GET"), (response, 200))
    };
    let wire = request.0.1 + response.0.1 + 60;
    let exchange = Exchange {
        id: ExchangeId::new(Timestamp(started), random.next()),
        flow: FlowId(0),
        ends: Ends {
            client: format!("10.42.0.2:{}", 40_000 + n % 64).parse().unwrap(),
            server: "10.42.0.12:3000".parse().unwrap(),
        },
        interface: Interface::Unknown,
        interface_name: None,
        protocol: Protocol::Http11,
        started: Timestamp(started),
        ended: Timestamp(started + 1_100_000),
        request: Some(Request {
            method: Some(request.1.into()),
            target: Some(target.into()),
            host: Some(host.into()),
            scheme: None,
            message: request.0.0,
        }),
        response: Some(Response { status: Some(response.1), reason: "OK".into(), message: response.0.0 }),
        interim: Vec::new(),
        websocket: None,
        gaps: Vec::new(),
        anomalies: Vec::new(),
    };
    (exchange, wire)
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // A tick is a hundredth of a second on every Linux that matters here.
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
#[ignore = "measures; run it alone and in release"]
fn how_fast_and_how_small() {
    let count: u64 = std::env::var("EXCHANGES").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let batch_size: u64 = std::env::var("BATCH").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let at = place();
    let store = Store::open(&at.path, Options { max_bytes: 0, ..Options::default() }).unwrap();
    let mut random = Random(1);
    let mut reader = Reader::new();
    let (mut wire, mut used, mut wall) = (0, Duration::ZERO, Duration::ZERO);
    let mut ids = Vec::new();
    let mut actors = Vec::new();
    for batch in 0..count / batch_size {
        let told: Vec<Told> = (batch * batch_size..(batch + 1) * batch_size)
            .map(|n| {
                let (exchange, octets) = exchange(n, &mut random);
                wire += octets;
                let reading = reader.read(&exchange);
                Told { exchange: Box::new(exchange), reading }
            })
            .collect();
        if batch % 7 == 0 {
            ids.push(told[0].exchange.id);
            actors.extend(told.iter().find_map(|t| t.reading.activity.as_ref()?.actor.clone()));
        }
        let (before, started) = (cpu(), Instant::now());
        store.append(&told).unwrap();
        used += cpu() - before;
        wall += started.elapsed();
    }
    let stats = store.stats().unwrap();
    let each = |n: u64| n as f64 / count as f64;
    println!(
        "{count} exchanges of {:.0} octets: {:.1} us of CPU each, {:.1} us in all; {:.0} octets each while open ({:.3} of the wire)",
        each(wire),
        used.as_micros() as f64 / count as f64,
        wall.as_micros() as f64 / count as f64,
        each(stats.file_bytes),
        stats.file_bytes as f64 / wire as f64,
    );
    let filters: Vec<(&str, Vec<Filter>)> = vec![
        (
            "by actor",
            actors.iter().map(|a| Filter::parse(&format!("activity.actor == '{a}'")).unwrap()).collect(),
        ),
        (
            "by host and type",
            (0..8)
                .map(|n| {
                    let text =
                        format!("request.host == 'srv{n}.fediverse.test' && activity.type == 'Follow'");
                    Filter::parse(&text).unwrap()
                })
                .collect(),
        ),
        ("failed", vec![Filter::parse("response.status >= 400").unwrap()]),
        ("by a header", vec![Filter::parse("request.headers['x-request-id'].startsWith('AAA')").unwrap()]),
    ];
    let query =
        |filter, cursor| Query { filter, cursor, limit: 50, scan_limit: 20_000, federation: true, ..all() };
    let time = |name: &str, rounds: usize, ask: &mut dyn FnMut(usize) -> usize| {
        let mut took: Vec<Duration> = Vec::new();
        let mut rows = 0;
        for round in 0..rounds {
            let started = Instant::now();
            rows += ask(round);
            took.push(started.elapsed());
        }
        took.sort_unstable();
        println!(
            "{name}: p50 {:.2} ms, p99 {:.2} ms, {} rows a page",
            took[rounds / 2].as_micros() as f64 / 1e3,
            took[rounds * 99 / 100].as_micros() as f64 / 1e3,
            rows / rounds
        );
    };
    time("one by id", 300, &mut |n| usize::from(store.get(ids[n % ids.len()]).unwrap().is_some()));
    let page = |name: &str, ask: &mut dyn FnMut(usize) -> Page| time(name, 300, &mut |n| ask(n).rows.len());
    page("newest", &mut |_| store.page(&query(None, Cursor::Newest)).unwrap());
    page("before any", &mut |n| store.page(&query(None, Cursor::Before(ids[n % ids.len()]))).unwrap());
    page("around any", &mut |n| store.page(&query(None, Cursor::Around(ids[n % ids.len()]))).unwrap());
    for (name, filters) in &filters[..3] {
        page(name, &mut |n| store.page(&query(Some(&filters[n % filters.len()]), Cursor::Newest)).unwrap());
    }
    time("by a header, of 20,000", 5, &mut |_| {
        store.page(&query(Some(&filters[3].1[0]), Cursor::Newest)).unwrap().rows.len()
    });
    time("strip", 50, &mut |_| store.strip(stats.oldest.unwrap(), stats.newest.unwrap(), 240).unwrap().len());
    time("stats", 50, &mut |_| usize::from(store.stats().unwrap().exchanges > 0));
    let rows = store.page(&query(None, Cursor::Newest)).unwrap().rows;
    let first: Option<&Row> = rows.first();
    println!("as {}", first.map(|r| r.sentence.to_string()).unwrap_or_default());
    drop(store);
    let length = std::fs::metadata(&at.path).unwrap().len();
    println!("closed: {:.0} octets each ({:.3} of the wire)", each(length), length as f64 / wire as f64);
    let started = Instant::now();
    let store = Store::open(&at.path, Options::default()).unwrap();
    println!("opened in {:.1} ms", started.elapsed().as_micros() as f64 / 1e3);
    drop(store);
}
