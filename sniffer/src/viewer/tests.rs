//! A real server on a real socket, asked by a small client of the test's own: each sentence of `ui/API.md`.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use serde_json::{Value, json};

use super::body::{Range, file_name, parse_range};
use super::*;
use crate::activitypub::{Activity, Digest, Link, Origin, Reading, Sentence};
use crate::flow::{Ends, FlowId};
use crate::frame::{Interface, Loss};
use crate::http::{
    Body, Exchange, ExchangeId, GapMark, Headers, Interim, Message, Protocol, Request, Response,
};
use crate::http::{WebSocket, WsMessage};
use crate::pipeline::Told;
use crate::store;
use crate::stream::GapCause;

const SECOND: u64 = 1_000_000_000;
/// 2026-11-23T07:27:01Z.
const T: u64 = 1_795_418_821 * SECOND;

fn id(n: u64) -> ExchangeId {
    ExchangeId::new(Timestamp(T + n * SECOND), n)
}

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::with_capacity(fields.len(), 0);
    for (name, value) in fields {
        headers.push(Some(name.as_bytes()), Some(value.as_bytes()));
    }
    headers
}

fn message(fields: &[(&str, &str)], body: &[u8]) -> Message {
    let size = body.len() as u64;
    Message {
        version: (1, 1),
        headers: headers(fields),
        body: Body {
            wire_size: size,
            coded_size: size,
            size,
            complete: true,
            bytes: body.to_vec(),
            ..Body::default()
        },
        ..Message::default()
    }
}

/// The n-th exchange: every tenth is a browser's, which the federation view hides; the others are between two hosts.
fn told(n: u64) -> Told {
    let federation = !n.is_multiple_of(10);
    let target: Box<str> = format!("/users/alice/{n}").into();
    let exchange = Exchange {
        id: id(n),
        flow: FlowId(n),
        ends: Ends {
            client: "10.42.0.10:40000".parse().unwrap(),
            server: "10.42.0.21:8080".parse().unwrap(),
        },
        interface: Interface::Unknown,
        interface_name: Some("veth1".into()),
        protocol: Protocol::Http11,
        started: Timestamp(T + n * SECOND),
        ended: Timestamp(T + n * SECOND + 2_000_000),
        request: Some(Request {
            method: Some("GET".into()),
            target: Some(target.clone()),
            host: Some("gts1.fediverse.test".into()),
            scheme: None,
            message: message(&[("Accept", "application/activity+json")], b""),
        }),
        response: Some(Response {
            status: Some(if n.is_multiple_of(7) { 404 } else { 200 }),
            reason: "OK".into(),
            message: message(&[("Content-Type", "application/activity+json")], b"{\"type\":\"Person\"}"),
        }),
        interim: Vec::new(),
        websocket: None,
        gaps: Vec::new(),
        anomalies: Vec::new(),
    };
    let reading = Reading {
        federation,
        origin: Some(Origin { host: Some("gts2.fediverse.test".into()), ..Origin::default() }),
        digest: Digest::Absent,
        sentence: Sentence { template: "unknown".into(), slots: vec![("target".into(), target)] },
        ..Reading::unknown()
    };
    Told { exchange: Box::new(exchange), reading }
}

/// An exchange full of secrets, each of which contains the word `hush`.
fn secret(n: u64) -> Told {
    let mut told = told(n);
    let request = told.exchange.request.as_mut().unwrap();
    request.method = Some("POST".into());
    request.target = Some("/oauth/token?access_token=hush-target&x=1".into());
    request.message = message(
        &[
            ("Authorization", "Bearer hush-bearer"),
            ("Cookie", "_session=hush-cookie"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ],
        b"grant_type=password&password=hush-form",
    );
    request.message.trailers = headers(&[("Authorization", "hush-trailer")]);
    let response = told.exchange.response.as_mut().unwrap();
    response.message = message(
        &[("Set-Cookie", "_session=hush-set; Path=/"), ("Content-Type", "application/json")],
        b"{\"access_token\":\"hush-json\",\"i\":\"hush-misskey\",\"scope\":\"read\"}",
    );
    let early = headers(&[("Set-Cookie", "a=hush-early")]);
    told.exchange.interim = vec![Interim { status: 103, time: told.exchange.started, headers: early }];
    told.exchange.websocket = Some(WebSocket {
        frames: 1,
        messages: vec![WsMessage {
            to_server: true,
            time: told.exchange.started,
            opcode: 1,
            frames: 1,
            size: 30,
            complete: true,
            sha256: None,
            bytes: b"{\"access_token\":\"hush-ws\"}".to_vec(),
        }],
        messages_dropped: 0,
        extensions: None,
        close_code: None,
    });
    told.reading.sentence.slots = vec![("target".into(), "/oauth/token?access_token=hush-slot".into())];
    told
}

/// A running viewer.
struct Site {
    address: SocketAddr,
    store: Store,
    publisher: Publisher,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    server: Option<tokio::task::JoinHandle<io::Result<()>>>,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

fn site(exchanges: impl IntoIterator<Item = Told>, options: Options) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("test.redb"), store::Options::default()).unwrap();
    store.append(&exchanges.into_iter().collect::<Vec<_>>()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let viewer = Viewer::new(store.clone(), options, Status::new(SourceKind::File, "s01.pcap"));
    let publisher = viewer.publisher();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let server = runtime.spawn(serve(listener, viewer, async {
        let _ = stopped.await;
    }));
    Site { address, store, publisher, stop: Some(stop), server: Some(server), runtime, _folder: folder }
}

fn plain(exchanges: impl IntoIterator<Item = Told>) -> Site {
    site(exchanges, Options::default())
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }
    #[track_caller]
    fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], code);
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()));
        error
    }
}

fn read_head(from: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let status =
        line.split(' ').nth(1).unwrap_or_else(|| panic!("no status line: {line:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        line.clear();
        from.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => return (status, headers),
        }
    }
}

/// The content of a chunked body, and whether it came to its end.
fn dechunked(mut from: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let Ok(length) = usize::from_str_radix(line.trim_end(), 16) else { return (content, false) };
        if length == 0 {
            return (content, true);
        }
        content.extend(&from[..length]);
        from = &from[length + 2..];
    }
}

impl Site {
    fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let (status, headers) = read_head(&mut reader);
        let mut body = Vec::new();
        reader.read_to_end(&mut body).unwrap();
        if headers.iter().any(|(n, v)| n == "transfer-encoding" && v == "chunked") {
            let (content, whole) = dechunked(&body);
            assert!(whole, "cut off");
            body = content;
        }
        Answer { status, headers, body }
    }

    fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut fields = fields.to_vec();
        if !fields.iter().any(|(n, _)| *n == "Host") {
            fields.push(("Host", "127.0.0.1"));
        }
        let fields: String = fields.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        self.send(&format!("GET {path} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"))
    }

    fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// The numbers of the exchanges that a path lists.
    #[track_caller]
    fn listed(&self, path: &str) -> Vec<u64> {
        numbers(&self.json(path))
    }

    fn events(&self, query: &str, fields: &[(&str, &str)]) -> Events {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let fields: String = fields.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        write!(stream, "GET /api/events{query} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut reader = BufReader::new(stream);
        let (status, headers) = read_head(&mut reader);
        assert_eq!(status, 200);
        assert!(headers.contains(&("content-type".into(), "text/event-stream".into())), "{headers:?}");
        Events { reader, chunk: 0, lines: Vec::new() }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server).unwrap().unwrap();
        }
    }
}

fn numbers(page: &Value) -> Vec<u64> {
    let number = |row: &Value| {
        let id: ExchangeId = row["id"].as_str().unwrap().parse().unwrap();
        (id.started().0 - T) / SECOND
    };
    page["rows"].as_array().unwrap().iter().map(number).collect()
}

#[derive(Debug, PartialEq)]
struct Event {
    id: u64,
    name: String,
    data: Value,
}

/// A stream of events, read as a browser does.
struct Events {
    reader: BufReader<TcpStream>,
    /// Octets left in the current chunk.
    chunk: usize,
    lines: Vec<u8>,
}

impl Events {
    fn byte(&mut self) -> Option<u8> {
        while self.chunk == 0 {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            if line == "\r\n" {
                line.clear();
                self.reader.read_line(&mut line).unwrap();
            }
            self.chunk = usize::from_str_radix(line.trim_end(), 16).ok().filter(|n| *n > 0)?;
        }
        self.chunk -= 1;
        let mut byte = [0];
        self.reader.read_exact(&mut byte).unwrap();
        Some(byte[0])
    }

    /// The next event; `None` when the stream ended.
    fn next(&mut self) -> Option<Event> {
        loop {
            let byte = self.byte()?;
            self.lines.push(byte);
            if !self.lines.ends_with(b"\n\n") {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut self.lines)).unwrap();
            let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
            let Some(name) = field("event") else { continue };
            return Some(Event {
                id: field("id").unwrap().parse().unwrap(),
                name: name.to_owned(),
                data: serde_json::from_str(field("data").unwrap()).unwrap(),
            });
        }
    }

    /// The next event that is not a status.
    fn news(&mut self) -> Event {
        loop {
            let event = self.next().expect("the stream ended");
            if event.name != "status" {
                return event;
            }
        }
    }
}

fn rows(numbers: impl IntoIterator<Item = u64>) -> Vec<Row> {
    numbers.into_iter().map(told).map(|t| Row::new(&t.exchange, &t.reading)).collect()
}

#[test]
fn every_answer_carries_the_protective_headers() {
    let site = plain([told(1)]);
    for path in
        ["/", "/e/x", "/api/status", "/api/none", "/none", "/api/filter?q=%28", "/assets/page-1a2b3c.js"]
    {
        let answer = site.get(path);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{path}");
        assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"));
        let cached =
            if path.starts_with("/assets/") { "public, max-age=31536000, immutable" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), Some(cached), "{path}");
    }
}

#[test]
fn a_host_that_is_not_ours_is_refused() {
    let site = site([], Options { allow_hosts: vec!["Sniffer.Example".into()], ..Options::default() });
    for (host, status) in [
        ("127.0.0.1", 200),
        ("127.0.0.1:7878", 200),
        ("10.42.0.1:80", 200),
        ("[::1]:7878", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("localhost.", 200),
        ("sniffer.example:443", 200),
        ("attacker.example", 421),
        ("localhost.attacker.example", 421),
        ("127.0.0.1.attacker.example:80", 421),
        ("", 421),
    ] {
        for path in ["/", "/api/status", "/assets/page-1a2b3c.js"] {
            let answer = site.get_with(path, &[("Host", host)]);
            assert_eq!(answer.status, status, "{host} {path}");
        }
    }
    site.get_with("/", &[("Host", "x.example")]).refused(421, "bad-request");
    let target = site.send(
        "GET http://attacker.example/api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(target.status, 421);
    assert_eq!(site.send("GET /api/status HTTP/1.0\r\n\r\n").status, 421);
}

#[test]
fn only_get_and_head_are_understood() {
    let site = plain([told(1)]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = site
            .send(&format!("{method} /api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        answer.refused(405, "bad-request");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    let head = site.send("HEAD /api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn with_a_token_the_api_answers_only_those_who_show_it() {
    let site = site([told(1)], Options { token: Some("s3cret".into()), ..Options::default() });
    for path in ["/api/status", "/api/exchanges", "/api/events", "/api/export?format=har", "/api/none"] {
        let answer = site.get(path);
        answer.refused(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for (value, status) in
        [("Bearer s3cret", 200), ("bearer s3cret", 200), ("Bearer s3cre", 401), ("Basic s3cret", 401)]
    {
        assert_eq!(site.get_with("/api/status", &[("Authorization", value)]).status, status, "{value}");
    }
    assert_eq!(site.get("/").status, 200, "the page itself is no secret");

    let entered = site.get("/e/abc?token=s3cret&lang=ja");
    assert_eq!(entered.status, 303);
    assert_eq!(entered.header("location"), Some("/e/abc?lang=ja"), "the token leaves the address");
    let cookie = entered.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains("s3cret"));
    let pair = cookie.split(';').next().unwrap();
    let with = |cookie: &str| site.get_with("/api/status", &[("Cookie", cookie)]).status;
    assert_eq!(with(&format!("a=b; {pair}; c=d")), 200);
    assert_eq!(with(&format!("{pair}0")), 401);
    assert_eq!(with(&pair.replace('=', "x=")), 401);
    assert_eq!(with("fedisniff=s3cret"), 401);
    let secure = site.get_with("/?token=s3cret", &[("X-Forwarded-Proto", "https")]);
    assert!(secure.header("set-cookie").unwrap().ends_with("; Secure"));

    let wrong = site.get("/?token=wrong");
    assert_eq!((wrong.status, wrong.header("location"), wrong.header("set-cookie")), (303, Some("/"), None));
}

#[test]
fn an_address_that_others_can_reach_needs_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("test.redb"), store::Options::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begin = |token: Option<String>| {
        let options = Options { token, ..Options::default() };
        let viewer = Viewer::new(store.clone(), options, Status::new(SourceKind::Store, "x"));
        runtime.block_on(async {
            let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
            serve(listener, viewer, async {}).await
        })
    };
    assert_eq!(begin(None).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(begin(Some(String::new())).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(begin(Some(new_token().unwrap())).is_ok());
    assert_ne!(new_token().unwrap(), new_token().unwrap());
}

#[test]
fn the_status_says_what_the_producer_and_the_store_know() {
    let site = plain((0..30).map(told));
    let status = site.json("/api/status");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        status["source"],
        json!({"kind": "file", "name": "s01.pcap", "reading": true, "percent": null})
    );
    assert_eq!(status["store"]["exchanges"], 30);
    assert_eq!(status["store"]["federation"], 27);
    assert_eq!(status["store"]["oldest"], "2026-11-23T07:27:01.000000000Z");
    assert_eq!(status["store"]["newest"], "2026-11-23T07:27:30.000000000Z");
    assert!(status["store"]["path"].as_str().unwrap().ends_with("test.redb"));
    assert_eq!(
        status["lost"],
        json!({
            "frames": 0, "gap_bytes": 0, "gaps": 0, "exchanges": 0, "from": null, "to": null, "interfaces": [],
        })
    );
    assert_eq!(
        (&status["counters"], &status["node"], &status["error"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );

    let mut counters = Counters::default();
    counters.stream.gaps = 2;
    counters.stream.gap_bytes = 99;
    site.publisher.update(|status| {
        status.node = Some("node-1".into());
        status.source.percent = Some(42);
        status.counters = Some(Arc::new(counters));
        let loss = |at, frames| Loss { time: Timestamp(T + at), interface: Interface::Unknown, frames };
        status.lost.source(&loss(SECOND, 3), Some("veth1"));
        status.lost.source(&loss(2 * SECOND, 4), None);
        let mut touched = *told(3).exchange;
        touched.interface_name = None;
        touched.gaps = vec![GapMark { to_server: true, offset: 0, length: 9, cause: GapCause::AckedUnseen }];
        status.lost.exchange(&touched);
        status.lost.exchange(&told(9).exchange);
        status.started = Some(Timestamp(T));
        status.interfaces = vec![InterfaceStatus { name: "veth1".into(), frames: 5 }];
    });
    let status = site.json("/api/status");
    assert_eq!(status["source"]["percent"], 42);
    assert_eq!(
        status["lost"],
        json!({
            "frames": 7, "gap_bytes": 99, "gaps": 2, "exchanges": 1,
            "from": "2026-11-23T07:27:02.000000000Z", "to": told(3).exchange.ended.to_string(),
            "interfaces": [
                {"name": "veth1", "frames": 3, "exchanges": 0},
                {"name": null, "frames": 4, "exchanges": 1},
            ],
        })
    );
    assert_eq!(status["counters"]["stream"]["gaps"], 2);
    assert_eq!(status["interfaces"], json!([{"name": "veth1", "frames": 5}]));
    assert_eq!(
        (&status["node"], &status["started"]),
        (&json!("node-1"), &json!("2026-11-23T07:27:01.000000000Z"))
    );

    site.publisher.done(Some("damaged".into()));
    let status = site.json("/api/status");
    assert_eq!(
        status["source"],
        json!({"kind": "file", "name": "s01.pcap", "reading": false, "percent": 42})
    );
    assert_eq!(status["error"], "damaged");
    site.publisher.done(None);
    assert_eq!(site.json("/api/status")["source"]["percent"], 100);
}

#[test]
fn a_page_is_the_newest_rows_of_the_federation_view_oldest_first() {
    let site = plain((0..300).map(told));
    let page = site.json("/api/exchanges");
    let shown = numbers(&page);
    assert_eq!(shown.len(), 200);
    assert!(shown.is_sorted() && shown.last() == Some(&299));
    assert!(shown.iter().all(|n| !n.is_multiple_of(10)));
    assert_eq!(
        (&page["more_before"], &page["more_after"], &page["scanned_to"]),
        (&json!(true), &json!(false), &Value::Null)
    );
    let row = &page["rows"][199];
    assert_eq!(row["from"], "gts2.fediverse.test");
    assert_eq!(row["slots"], json!([["target", "/users/alice/299"]]));
    assert_eq!(row["started"], "2026-11-23T07:32:00.000000000Z");
}

#[test]
fn pages_go_both_ways_from_any_exchange() {
    let site = plain((0..30).map(told));
    let all = |query: &str| site.listed(&format!("/api/exchanges?v=all&limit=5&{query}"));
    assert_eq!(all(""), [25, 26, 27, 28, 29]);
    assert_eq!(all("oldest=1"), [0, 1, 2, 3, 4]);
    assert_eq!(all(&format!("before={}", id(10))), [5, 6, 7, 8, 9]);
    assert_eq!(all(&format!("after={}", id(10))), [11, 12, 13, 14, 15]);
    let around = all(&format!("around={}", id(10)));
    assert!(around.contains(&10) && around.contains(&9) && around.contains(&11), "{around:?}");
    assert_eq!(all("from=2026-11-23T07:27:11Z&to=2026-11-23T07:27:14Z"), [10, 11, 12]);
    assert_eq!(all("from=2026-11-23T07:27:11.000000001Z&to=2026-11-23T08:27:14%2B01:00"), [11, 12]);
    assert_eq!(site.listed("/api/exchanges?v=all&limit=5000").len(), 30, "the most is 1000, not an error");

    // Walking back page by page shows everything once.
    let mut walked = Vec::new();
    let mut query = String::new();
    loop {
        let page = site.json(&format!("/api/exchanges?limit=4{query}"));
        let mut shown = numbers(&page);
        shown.extend(std::mem::take(&mut walked));
        walked = shown;
        if page["more_before"] == false {
            break;
        }
        query = format!("&before={}", page["rows"][0]["id"].as_str().unwrap());
    }
    assert_eq!(walked, (0..30).filter(|n| n % 10 != 0).collect::<Vec<_>>());
}

#[test]
fn filters_narrow_pages_and_mistakes_are_placed() {
    let site = plain((0..30).map(told));
    let q = "response.status%20%3D%3D%20404";
    assert_eq!(site.listed(&format!("/api/exchanges?q={q}")), [7, 14, 21, 28]);
    assert_eq!(site.json(&format!("/api/filter?q={q}")), json!({"ok": true}));
    for path in ["/api/exchanges", "/api/filter", "/api/count", "/api/export?format=jsonl"] {
        let sign = if path.contains('?') { '&' } else { '?' };
        let answer = site.get(&format!("{path}{sign}q=response.status%20%3D%3D%20%0A%20nonsuch"));
        if path.starts_with("/api/export") {
            answer.refused(404, "not-found");
            continue;
        }
        let error = answer.refused(400, "bad-filter");
        assert_eq!((&error["line"], &error["column"]), (&json!(2), &json!(2)), "{error}");
        assert!(error["help"].is_string());
    }
    let error = site.get("/api/exchanges?v=some").refused(400, "bad-request");
    assert_eq!((&error["line"], &error["column"]), (&Value::Null, &Value::Null));
    for bad in ["from=yesterday", "to=1969-01-01T00:00:00Z", "limit=many", "before=x", "oldest=yes"] {
        site.get(&format!("/api/exchanges?{bad}")).refused(400, "bad-request");
    }
    site.get(&format!("/api/exchanges?before={}&after={}", id(1), id(2))).refused(400, "bad-request");
}

#[test]
fn the_count_says_what_matches_and_what_the_view_hides() {
    let site = plain((0..30).map(told));
    let count = |query: &str| site.json(&format!("/api/count?{query}"));
    assert_eq!(count(""), json!({"matched": 27, "exact": true, "total": 30, "hidden": 3}));
    assert_eq!(count("v=all"), json!({"matched": 30, "exact": true, "total": 30, "hidden": 0}));
    let q = "q=response.status%20%3D%3D%20404";
    // 0, 7, 14, 21 and 28, of which 0 is a browser's.
    assert_eq!(count(q), json!({"matched": 4, "exact": true, "total": 30, "hidden": 1}));
    assert_eq!(count(&format!("{q}&v=all")), json!({"matched": 5, "exact": true, "total": 30, "hidden": 0}));
    assert_eq!(count("from=2026-11-23T07:27:26Z")["matched"], 5);
}

#[test]
fn one_exchange_comes_with_its_row_and_its_bodies_as_text() {
    let site = plain([told(1)]);
    let detail = site.json(&format!("/api/exchanges/{}", id(1)));
    assert_eq!(detail["exchange"]["schema"], "fedisniff.exchange/1");
    assert_eq!(detail["exchange"]["id"], id(1).to_string());
    assert_eq!(detail["exchange"]["response"]["status"], 200);
    assert_eq!(detail["row"]["id"], id(1).to_string());
    assert_eq!(
        detail["request_text"],
        json!({"text": "", "truncated": false, "json": false, "image": false})
    );
    assert_eq!(
        detail["response_text"],
        json!({"text": "{\"type\":\"Person\"}", "truncated": false, "json": true, "image": false})
    );
    site.get(&format!("/api/exchanges/{}", id(2))).refused(404, "not-found");
    site.get("/api/exchanges/none").refused(404, "not-found");
}

fn with_body(n: u64, kind: &str, body: &[u8]) -> Told {
    let mut told = told(n);
    told.exchange.response.as_mut().unwrap().message = message(&[("Content-Type", kind)], body);
    told
}

#[test]
fn bodies_are_shown_as_text_only_where_they_are() {
    let long = "é".repeat(400 << 10);
    let cut = "{\"a\":\"é\"}".as_bytes();
    // Media type, body; text, truncated, JSON, image.
    type Case<'a> = (&'a str, &'a [u8], Value, bool, bool, bool);
    let table: &[Case<'_>] = &[
        ("text/plain", b"plain", json!("plain"), false, false, false),
        ("application/json", b"[1]", json!("[1]"), false, true, false),
        ("application/json", &cut[..7], json!("{\"a\":\""), true, false, false),
        ("application/octet-stream", b"\xff\xfe", Value::Null, false, false, false),
        ("application/octet-stream", b"a\0b", Value::Null, false, false, false),
        ("image/png", b"\x89PNG", Value::Null, false, false, true),
        ("IMAGE/WebP; q=1", b"\xffx", Value::Null, false, false, true),
        ("image/svg+xml", b"<svg/>", json!("<svg/>"), false, false, false),
        ("image/png", b"", json!(""), false, false, false),
        ("text/plain", long.as_bytes(), json!("é".repeat(256 << 10)), true, false, false),
    ];
    let site = plain(table.iter().zip(1..).map(|((kind, body, ..), n)| with_body(n, kind, body)));
    for ((kind, _, text, truncated, json, image), n) in table.iter().zip(1..) {
        let detail = site.json(&format!("/api/exchanges/{}", id(n)));
        let shown = &detail["response_text"];
        assert!(shown["text"] == *text, "{kind} {n}");
        assert_eq!(shown["truncated"], *truncated, "{kind} {n}");
        assert_eq!((&shown["json"], &shown["image"]), (&json!(json), &json!(image)), "{kind} {n}");
    }
    let mut lone = told(99);
    lone.exchange.request = None;
    site.store.append(&[lone]).unwrap();
    let detail = site.json(&format!("/api/exchanges/{}", id(99)));
    assert_eq!((&detail["request_text"], &detail["exchange"]["request"]), (&Value::Null, &Value::Null));
    site.get(&format!("/api/exchanges/{}/request/body", id(99))).refused(404, "not-found");
}

#[test]
fn body_octets_come_whole_in_ranges_and_as_downloads() {
    let mut cut = with_body(2, "text/html", b"<script>");
    cut.exchange.response.as_mut().unwrap().message.body.complete = false;
    cut.exchange.request.as_mut().unwrap().target = Some("/media/a%20\"b.html?x=1".into());
    let site =
        plain([with_body(1, "image/png", b"0123456789"), cut, with_body(3, "image/svg+xml", b"<svg/>")]);
    let path = format!("/api/exchanges/{}/response/body", id(1));
    let whole = site.get(&path);
    assert_eq!((whole.status, whole.text()), (200, "0123456789"));
    assert_eq!(whole.header("content-type"), Some("image/png"));
    assert_eq!(whole.header("x-body-complete"), Some("true"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("content-disposition"), None);
    assert_eq!(whole.header("content-security-policy"), Some("default-src 'none'; sandbox"));
    for (range, status, content, place) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=7-", 206, "789", Some("bytes 7-9/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=0-99", 206, "0123456789", Some("bytes 0-9/10")),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("bytes=-0", 416, "", Some("bytes */10")),
        ("bytes=4-2", 200, "0123456789", None),
        ("bytes=0-1,3-4", 200, "0123456789", None),
        ("lines=0-1", 200, "0123456789", None),
    ] {
        let part = site.get_with(&path, &[("Range", range)]);
        assert_eq!(
            (part.status, part.text(), part.header("content-range")),
            (status, content, place),
            "{range}"
        );
    }
    let conditional = site.get_with(&path, &[("Range", "bytes=2-4"), ("If-Range", "\"x\"")]);
    assert_eq!(conditional.status, 200);

    let html = site.get(&format!("/api/exchanges/{}/response/body?download=1", id(2)));
    assert_eq!(html.header("content-type"), Some("application/octet-stream"));
    assert_eq!(html.header("x-body-complete"), Some("false"));
    assert_eq!(html.header("content-disposition"), Some("attachment; filename=\"a20b.html\""));
    let svg = site.get(&format!("/api/exchanges/{}/response/body", id(3)));
    assert_eq!(svg.header("content-type"), Some("application/octet-stream"), "SVG runs scripts");
}

#[test]
fn ranges_and_file_names_are_read_strictly() {
    assert_eq!(parse_range("bytes=0-", 0), Range::Outside);
    assert_eq!(parse_range("bytes=-5", 0), Range::Outside);
    assert_eq!(parse_range("bytes=-", 5), Range::Whole);
    assert_eq!(parse_range("bytes=+1-2", 5), Range::Whole);
    assert_eq!(parse_range(&format!("bytes=0-{}", usize::MAX), 5), Range::Part(0, 5));
    assert_eq!(parse_range("bytes=99999999999999999999999-", 5), Range::Whole);
    assert_eq!(file_name(Some("/media/../..%2f.bashrc"), "x"), "2f.bashrc");
    assert_eq!(file_name(Some("/"), "x"), "x");
    assert_eq!(file_name(None, "x"), "x");
}

#[test]
fn secrets_are_masked_everywhere_until_they_are_asked_for() {
    let site = plain([secret(1)]);
    let exchange = format!("/api/exchanges/{}", id(1));
    let paths = [
        exchange.clone(),
        format!("{exchange}/request/body"),
        format!("{exchange}/response/body"),
        "/api/exchanges".into(),
        format!("/api/around/{}", id(1)),
    ];
    for path in &paths {
        let answer = site.get(path);
        assert_eq!(answer.status, 200);
        assert!(!answer.text().contains("hush"), "{path}: {}", answer.text());
        assert!(answer.text().contains("••••"), "{path}: {}", answer.text());
    }
    let shown = site.get(&format!("{exchange}?unmask=1"));
    for word in
        ["target", "bearer", "cookie", "trailer", "form", "set", "json", "misskey", "early", "ws", "slot"]
    {
        assert!(shown.text().contains(&format!("hush-{word}")), "{word}");
    }
    assert!(site.get(&format!("{exchange}/request/body?unmask=1")).text().contains("hush-form"));
    assert!(site.get(&format!("{exchange}/response/body?unmask=1")).text().contains("hush-json"));
    // Sizes are told as they were.
    let masked = site.json(&exchange);
    assert_eq!(masked["exchange"]["request"]["body"], shown.json()["exchange"]["request"]["body"]);

    let mut events = site.events("", &[]);
    let told = secret(2);
    site.publisher.rows([Row::new(&told.exchange, &told.reading)]);
    let row = events.news().data.to_string();
    assert!(row.contains("••••") && !row.contains("hush"), "{row}");
}

#[test]
fn secrets_are_not_shown_through_a_proxy_without_a_token() {
    let open = plain([secret(1)]);
    let path = format!("/api/exchanges/{}?unmask=1", id(1));
    assert_eq!(open.get(&path).status, 200);
    open.get_with(&path, &[("X-Forwarded-For", "192.0.2.1")]).refused(401, "unauthorized");
    open.get_with("/api/export?format=har&unmask=1", &[("Via", "1.1 x")]).refused(404, "not-found");
    let closed = site([secret(1)], Options { token: Some("t".into()), ..Options::default() });
    let fields = [("Authorization", "Bearer t"), ("X-Forwarded-For", "192.0.2.1")];
    assert_eq!(closed.get_with(&path, &fields).status, 200);
}

#[test]
fn an_effect_that_ended_before_its_cause_is_given_it() {
    let (mut held, mut guessed, mut proven) = (told(2), told(3), told(4));
    let link = |n, proven| Link { id: id(n), proven };
    held.reading.caused = vec![link(3, false), link(4, false)];
    guessed.reading.caused_by = Some(link(1, false));
    proven.reading.caused_by = Some(link(1, true));
    let site = plain([told(1), held, guessed, proven]);
    let cause = |n: u64, proven: bool| json!({"id": id(n).to_string(), "proven": proven});
    let rows = site.json("/api/exchanges")["rows"].clone();
    assert_eq!(rows[1]["caused"], json!([cause(3, false), cause(4, false)]));
    assert_eq!(rows[1]["caused_by"], Value::Null);
    assert_eq!(rows[2]["caused_by"], cause(2, false), "what held it outranks a guess");
    assert_eq!(rows[3]["caused_by"], cause(1, true), "what an id proves stays");
    let alone = |n: u64| site.json(&format!("/api/exchanges/{}", id(n)))["row"]["caused_by"].clone();
    assert_eq!((alone(2), alone(3), alone(4)), (Value::Null, cause(2, false), cause(1, true)));
}

#[test]
fn what_is_around_an_exchange_has_its_hosts_or_its_activity() {
    let mut exchanges: Vec<Told> = (0..40).map(told).collect();
    for n in [3, 11, 12, 13, 14, 15, 16, 17, 18, 21, 22, 23, 24, 25, 26, 27, 28, 29] {
        exchanges[n].exchange.request.as_mut().unwrap().host = Some("other.test".into());
        exchanges[n].reading.origin = None;
    }
    // The answer goes the other way between the same two.
    exchanges[9].reading.origin.as_mut().unwrap().host = Some("gts1.fediverse.test".into());
    exchanges[9].exchange.request.as_mut().unwrap().host = Some("gts2.fediverse.test".into());
    // The same activity goes to another host.
    for n in [19, 28] {
        let id = Some("https://gts2.fediverse.test/1\"\\".into());
        exchanges[n].reading.activity = Some(Activity { id, ..Activity::default() });
    }
    let site = plain(exchanges);
    let around = site.listed(&format!("/api/around/{}?limit=6", id(19)));
    assert_eq!(around.len(), 6);
    assert!(around.is_sorted() && around.contains(&19));
    assert!(around.contains(&28) && around.contains(&9), "{around:?}");
    assert!(around.iter().all(|n| ![11, 18, 21, 27, 10, 20, 30].contains(n)), "{around:?}");
    assert_eq!(site.listed(&format!("/api/around/{}", id(19))).len(), 12);
    site.get(&format!("/api/around/{}", id(99))).refused(404, "not-found");
}

#[test]
fn the_strip_spans_the_store_unless_told_otherwise() {
    let site = plain((0..30).map(told));
    let strip = site.json("/api/strip");
    assert_eq!(strip["bars"].as_array().unwrap().len(), 240);
    assert_eq!(strip["from"], "2026-11-23T07:27:01.000000000Z");
    let sum = |strip: &Value, field: &str| -> u64 {
        strip["bars"].as_array().unwrap().iter().map(|bar| bar[field].as_u64().unwrap()).sum()
    };
    let all = sum(&strip, "deliveries") + sum(&strip, "fetches");
    assert!(all >= 23, "the newest is in it too: {all}");
    assert_eq!(sum(&strip, "gaps"), 0);
    let part = site.json("/api/strip?from=2026-11-23T07:27:06Z&to=2026-11-23T07:27:08Z&bars=2&q=((&v=x");
    assert_eq!(part["bars"].as_array().unwrap().len(), 2);
    assert_eq!(site.json("/api/strip?bars=99999")["bars"].as_array().unwrap().len(), 2_000);
    site.get("/api/strip?from=2026-11-23T07:27:06Z&to=2026-11-23T07:27:06Z").refused(400, "bad-request");
    assert_eq!(plain([]).json("/api/strip"), json!({"from": null, "to": null, "bars": []}));
}

#[test]
fn hosts_and_fields_are_listed() {
    let site = plain((0..5).map(told));
    let hosts = site.json("/api/hosts");
    let names: Vec<_> =
        hosts["hosts"].as_array().unwrap().iter().map(|h| h["host"].as_str().unwrap()).collect();
    assert!(names.contains(&"gts1.fediverse.test") && names.contains(&"gts2.fediverse.test"), "{hosts}");
    assert!(hosts["hosts"][0]["slot"].as_u64().unwrap() < 8);
    let fields = site.json("/api/fields");
    let field = |name: &str| fields["fields"].as_array().unwrap().iter().find(|f| f["name"] == name).unwrap();
    assert_eq!(field("response.status")["type"], "int");
    assert!(field("signature.verdict")["values"].as_array().unwrap().contains(&json!("valid")));
}

fn exporter(what: &'static str) -> Options {
    let exporter: Arc<Exporter> = Arc::new(move |store, export, to| {
        match what {
            "fails" => return Err("the disk is gone".into()),
            "large" => {
                for _ in 0..200 {
                    to.write_all(&[b'x'; 10_000])?;
                }
            }
            _ => {
                writeln!(to, "{:?} {}", export.format, export.unmask)?;
                store.for_each(&export.query(), &mut |stored| {
                    writeln!(to, "{}", stored.exchange.id).is_ok()
                })?;
            }
        }
        Ok(())
    });
    Options { exporter: Some(exporter), ..Options::default() }
}

#[test]
fn an_export_is_a_file_of_what_matches() {
    let made = site((0..30).map(told), exporter("lists"));
    for (format, name, kind) in [
        ("har", "Har", "application/json"),
        ("jsonl", "Jsonl", "application/x-ndjson"),
        ("pcapng", "Pcapng", "application/vnd.tcpdump.pcap"),
    ] {
        let file = made
            .get(&format!("/api/export?format={format}&q=response.status%3D%3D404&to=2026-11-23T07:27:20Z"));
        assert_eq!(file.header("content-type"), Some(kind));
        let disposition = format!("attachment; filename=\"fedisniff-s01.pcap.{format}\"");
        assert_eq!(file.header("content-disposition"), Some(&*disposition));
        assert_eq!(file.text(), format!("{name} false\n{}\n{}\n", id(7), id(14)));
    }
    assert!(made.get("/api/export?format=har&unmask=1").text().starts_with("Har true"));
    assert_eq!(made.get("/api/export?format=har&v=all").text().lines().count(), 31);
    made.get("/api/export?format=xml").refused(400, "bad-request");
    made.get("/api/export").refused(400, "bad-request");
    made.get("/api/export?format=har&q=%28").refused(400, "bad-filter");
    made.get_with("/api/export?format=har&unmask=1", &[("Via", "1.1 x")]).refused(401, "unauthorized");
    assert_eq!(site([], exporter("large")).get("/api/export?format=har").body.len(), 2_000_000);
    site([], exporter("fails")).get("/api/export?format=har").refused(500, "store");
    plain([]).get("/api/export?format=har").refused(404, "not-found");
}

#[test]
fn a_browser_that_leaves_an_export_frees_its_place() {
    let site = site([], exporter("large"));
    for _ in 0..STORE_CALLS * 3 {
        let mut stream = TcpStream::connect(site.address).unwrap();
        write!(stream, "GET /api/export?format=har HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut begin = [0; 100];
        stream.read_exact(&mut begin).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        drop(stream);
        let until = Instant::now() + Duration::from_secs(5);
        while site.get("/api/export?format=har").status == 503 {
            assert!(Instant::now() < until, "the place is not free again");
        }
    }
}

#[test]
fn events_are_the_rows_of_the_view_in_order_with_numbers() {
    let site = plain([]);
    let mut federation = site.events("", &[]);
    let mut all = site.events("?v=all", &[]);
    assert_eq!(federation.next().unwrap().name, "status", "the first event");
    assert_eq!(all.next().unwrap().name, "status");
    site.publisher.rows(rows(1..25));
    site.publisher.done(None);
    let mut last = 0;
    for n in (1..25).filter(|n| n % 10 != 0) {
        let event = federation.news();
        assert_eq!((&*event.name, &event.data["id"]), ("row", &json!(id(n).to_string())));
        assert!(event.id > last);
        last = event.id;
    }
    assert_eq!(federation.news().name, "done");
    for n in 1..25 {
        let event = all.news();
        assert_eq!((event.id, &event.data["id"]), (n, &json!(id(n).to_string())));
    }
    assert_eq!(all.news().name, "done");
    site.get("/api/events?v=some").refused(400, "bad-request");
}

#[test]
fn the_status_comes_at_most_once_a_second_and_only_when_it_changed() {
    let site = plain((0..3).map(told));
    let mut events = site.events("", &[]);
    let first = events.next().unwrap();
    assert_eq!((&*first.name, &first.data["store"]["exchanges"]), ("status", &json!(3)));
    let begin = Instant::now();
    for percent in 0..=50 {
        site.publisher.update(|s| s.source.percent = Some(percent));
        std::thread::sleep(Duration::from_millis(2));
    }
    let second = events.next().unwrap();
    assert_eq!((&*second.name, &second.data["source"]["percent"]), ("status", &json!(50)));
    assert!(begin.elapsed() > Duration::from_millis(600), "{:?}", begin.elapsed());
    site.publisher.rows(rows([1]));
    assert_eq!(events.next().unwrap().name, "row", "an unchanged status is not sent again");
}

#[test]
fn whoever_comes_back_is_told_when_rows_were_missed() {
    let site = plain([]);
    let mut events = site.events("", &[]);
    site.publisher.rows(rows([1, 2]));
    events.news();
    let last = events.news().id;
    let mut back = site.events("", &[("Last-Event-ID", &last.to_string())]);
    site.publisher.rows(rows([3]));
    assert_eq!(back.news().name, "row", "nothing was missed");
    let mut late = site.events("", &[("Last-Event-ID", &last.to_string())]);
    assert_eq!(late.news().name, "resync");
    for from_before_a_restart in ["99999", "x"] {
        assert_eq!(site.events("", &[("Last-Event-ID", from_before_a_restart)]).news().name, "resync");
    }
    // Rows that nobody listened to count as missed as well.
    let last = back.news_after(&site);
    drop((events, back, late));
    let until = Instant::now() + Duration::from_secs(10);
    while site.publisher.shared.live.news.receiver_count() > 0 {
        site.publisher.rows(rows([5]));
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    site.publisher.rows(rows([6]));
    assert_eq!(site.events("", &[("Last-Event-ID", &last.to_string())]).news().name, "resync");
}

impl Events {
    /// Publishes a row, and gives its number.
    fn news_after(&mut self, site: &Site) -> u64 {
        site.publisher.rows(rows([4]));
        self.news().id
    }
}

#[test]
fn a_slow_browser_is_told_to_fetch_again_and_never_holds_up_the_producer() {
    let site = plain([]);
    let mut slow = site.events("", &[]);
    let row = rows([1]).remove(0);
    let begin = Instant::now();
    for _ in 0..100 {
        site.publisher.rows(std::iter::repeat_n(row.clone(), 1_000));
    }
    site.publisher.done(None);
    assert!(begin.elapsed() < Duration::from_secs(10), "the producer waited: {:?}", begin.elapsed());
    let mut names = Vec::new();
    let mut last = 0;
    loop {
        let event = slow.news();
        assert!(event.id >= last, "numbers never go back");
        last = event.id;
        if names.last() != Some(&event.name) {
            names.push(event.name.clone());
        }
        if event.name == "done" {
            break;
        }
    }
    assert!(names.contains(&"resync".to_owned()), "{names:?}");
    assert_eq!(last, 100_000);
    // After that it is served as before.
    site.publisher.rows(rows([2]));
    let event = slow.news();
    assert_eq!((&*event.name, event.id), ("row", 100_001));
}

#[test]
fn the_shutdown_ends_open_streams() {
    let mut site = plain([]);
    let mut events = site.events("", &[]);
    events.next().unwrap();
    let begin = Instant::now();
    drop(site.stop.take());
    assert_eq!(events.next(), None);
    let server = site.server.take().unwrap();
    site.runtime.block_on(server).unwrap().unwrap();
    assert!(begin.elapsed() < SHUTDOWN + Duration::from_secs(1));
}

#[test]
fn there_is_a_limit_to_the_browsers_that_listen() {
    let site = plain([]);
    let mut streams: Vec<Events> = (0..LISTENERS).map(|_| site.events("", &[])).collect();
    let answer = site.get("/api/events");
    answer.refused(503, "busy");
    assert_eq!(answer.header("retry-after"), Some("1"));
    streams.pop();
    let until = Instant::now() + Duration::from_secs(10);
    while site.publisher.shared.listeners.available_permits() == 0 {
        // A stream that nobody reads is noticed when something is sent.
        site.publisher.rows(rows([1]));
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    site.events("", &[]);
}

#[test]
fn every_page_answers_with_the_index_below_its_base() {
    let plain_site = plain([]);
    let based = site([], Options { base_path: "/sniff/er/".into(), ..Options::default() });
    let base = |answer: &Answer| {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        answer.text().split_once("<base href=\"").unwrap().1.split_once('"').unwrap().0.to_owned()
    };
    for page in [
        "",
        "e/ID",
        "e/ID/request",
        "c/ID",
        "c?between=a,b",
        "servers",
        "servers/gts1",
        "isolation",
        "isolation/f/ID",
        "health",
        "diff/a/b",
        "?sel=ID&q=x",
        "index.html",
    ] {
        assert_eq!(base(&plain_site.get(&format!("/{page}"))), "/", "{page}");
        // Whether or not the proxy cuts the path off.
        assert_eq!(base(&based.get(&format!("/{page}"))), "/sniff/er/", "{page}");
        assert_eq!(base(&based.get(&format!("/sniff/er/{page}"))), "/sniff/er/", "{page}");
    }
    assert_eq!(base(&based.get("/sniff/er")), "/sniff/er/");
    for path in ["/sniff/er/api/status", "/sniff/er/assets/page-1a2b3c.js", "/api/status"] {
        assert_eq!(based.get(path).status, 200, "{path}");
    }
    for (prefix, wanted) in [
        ("/node-1", "/node-1/"),
        ("/node-1/, /x", "/node-1/"),
        ("/", "/"),
        ("//evil.example", "/"),
        ("/a\"><script>", "/"),
        ("evil", "/"),
    ] {
        assert_eq!(base(&plain_site.get_with("/e/x", &[("X-Forwarded-Prefix", prefix)])), wanted, "{prefix}");
    }
    let open = site([], Options { token: Some("t".into()), base_path: "/x".into(), ..Options::default() });
    let entered = open.get_with("/e/y?token=t", &[("X-Forwarded-Prefix", "/p")]);
    assert_eq!(entered.header("location"), Some("/p/e/y"));
    assert!(entered.header("set-cookie").unwrap().contains("Path=/p/;"));
    assert_eq!(open.get("//evil.example?token=t").status, 404, "no way to elsewhere");
    for path in ["/nothing", "/assets/none.js", "/eee", "/../Cargo.toml", "/api", "/api/", "/api/exchanges/"]
    {
        plain_site.get(path).refused(404, "not-found");
    }
    let script = plain_site.get("/assets/page-1a2b3c.js");
    assert_eq!((script.text(), script.header("content-type")), ("page()", Some("text/javascript")));
}

#[test]
fn the_base_is_set_wherever_the_page_has_its_head() {
    use super::assets::with_base;
    assert_eq!(with_base("<head><base href=\"/\" /><p>", "/x/"), "<head><base href=\"/x/\"><p>");
    assert_eq!(with_base("<html><head><p>", "/x/"), "<html><head><base href=\"/x/\"><p>");
    assert_eq!(with_base("<p>", "/x/"), "<base href=\"/x/\"><p>");
}

#[test]
fn names_with_quotes_stay_one_string_in_a_filter() {
    use super::api::quoted;
    assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    let name = "x\" || true || \"";
    let filter = Filter::parse(&format!("request.host == {}", quoted(name))).unwrap();
    let mut told = told(1);
    assert!(!filter.matches(&told.exchange, &told.reading));
    told.exchange.request.as_mut().unwrap().host = Some(name.into());
    assert!(filter.matches(&told.exchange, &told.reading));
}

#[test]
fn the_token_stays_out_of_logs() {
    let options = Options { token: Some("s3cret".into()), ..Options::default() };
    assert!(!format!("{options:?}").contains("s3cret"));
}

/// `promtool check metrics`: the format, and Prometheus' own rules for names and units.
#[track_caller]
fn check_by_promtool(text: &str) {
    let child = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|e| panic!("promtool: {e}; `cargo xtask setup` installs it"));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

/// The series of a scrape with their values.
fn series(text: &str) -> std::collections::BTreeMap<&str, f64> {
    let mut all = std::collections::BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(all.insert(name, value.parse().unwrap()).is_none(), "{name} comes twice");
    }
    all
}

#[test]
fn metrics_are_what_prometheus_takes_before_and_after_something_was_decoded() {
    let site = plain((0..30).map(told));
    let empty = site.get("/metrics");
    assert_eq!(empty.status, 200);
    assert_eq!(empty.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    check_by_promtool(empty.text());
    let all = series(empty.text());
    assert_eq!(all["fedisniff_store_exchanges"], 30.0);
    assert_eq!(all["fedisniff_store_federation_exchanges"], 27.0);
    assert_eq!(all["fedisniff_store_newest_exchange_timestamp_seconds"], (T / SECOND + 29) as f64);
    assert_eq!(all["fedisniff_source_reading"], 1.0);
    assert!(all["process_resident_memory_bytes"] > 1e6);
    assert!(!empty.text().contains("fedisniff_exchanges_total"), "nothing is being decoded");

    let mut counters = Counters::default();
    counters.http.exchanges = 12;
    counters.http.other_flows.insert(crate::http::OtherProtocol::Tls, 3);
    counters.stream.gaps = 2;
    counters.stream.gap_causes.capture_loss = 2;
    counters.readings.insert("inbox-delivery", 4);
    site.publisher.update(|status| {
        status.counters = Some(Arc::new(counters));
        status.lost.frames = 7;
        status.started = Some(Timestamp(T));
    });
    let answer = site.get("/metrics");
    check_by_promtool(answer.text());
    let all = series(answer.text());
    assert_eq!(all["fedisniff_exchanges_total"], 12.0);
    assert_eq!(all["fedisniff_other_flows_total{protocol=\"tls\"}"], 3.0);
    assert_eq!(all["fedisniff_gaps_total{cause=\"capture-loss\"}"], 2.0);
    assert_eq!(
        all["fedisniff_gaps_total{cause=\"deadline\"}"], 0.0,
        "a cause is there before it first comes"
    );
    assert_eq!(all["fedisniff_readings_total{kind=\"inbox-delivery\"}"], 4.0);
    assert_eq!(all["fedisniff_capture_lost_frames_total"], 7.0);
    assert_eq!(all["process_start_time_seconds"], (T / SECOND) as f64);
}

#[test]
fn metrics_of_interfaces_stay_few_and_whole_whatever_interfaces_are_called() {
    let site = plain([]);
    let one =
        PacketCounts { seen: 10, skipped: 3, lost: 1, copied: 6, lost_bytes: 60, ..PacketCounts::default() };
    let hostile = ["veth\"}", "a\\b", "new\nline 1", "\u{1b}[2J", "ü", "", "twice", "twice"];
    let many = (0..5_000).map(|n| format!("veth{n}"));
    let names = hostile.into_iter().map(str::to_owned).chain(many);
    let interfaces: Vec<_> = names.map(|name| (name, one)).collect();
    let all_seen = 10.0 * interfaces.len() as f64;
    let gone = PacketCounts { seen: 5, ..PacketCounts::default() };
    site.publisher.update(|status| {
        status.live = Some(LiveStatus { interfaces, gone, gone_interfaces: 1, ..LiveStatus::default() });
    });
    let answer = site.get("/metrics");
    check_by_promtool(answer.text());
    let all = series(answer.text());
    let seen = |name: &str| all[format!("fedisniff_packets_seen_total{{interface=\"{name}\"}}").as_str()];
    assert_eq!(seen("gone interfaces"), 5.0);
    assert_eq!(seen("twice"), 20.0);
    assert_eq!(seen("veth\\\"}"), 10.0);
    let of_seen = all.iter().filter(|(name, _)| name.starts_with("fedisniff_packets_seen_total"));
    let (series, sum) = of_seen.fold((0, 0.0), |(n, sum), (_, value)| (n + 1, sum + value));
    assert!(series <= 1_002, "{series} series");
    assert_eq!(sum, all_seen + 5.0, "none is left out");
}

#[test]
fn metrics_ask_for_the_token_as_the_api_does() {
    let options =
        Options { token: Some("s3cret".into()), base_path: "/sniffer".into(), ..Options::default() };
    let site = site([], options);
    site.get("/metrics").refused(401, "unauthorized");
    site.get_with("/metrics", &[("Authorization", "Bearer wrong")]).refused(401, "unauthorized");
    for path in ["/metrics", "/sniffer/metrics"] {
        let answer = site.get_with(path, &[("Authorization", "Bearer s3cret")]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("fedisniff_build_info{version=\""), "{}", answer.text());
    }
    site.get_with("/metrics", &[("Host", "evil.example")]).refused(421, "bad-request");
}

#[test]
fn what_is_not_finished_is_told_when_it_changes_and_to_who_comes_later_without_secrets() {
    let site = plain([]);
    let mut early = site.events("", &[]);
    early.next();
    let Ends { client, server } = told(1).exchange.ends;
    let one = |n| InFlight {
        id: id(n),
        started: Timestamp(T + n * SECOND),
        ends: Ends { client, server },
        method: Some("GET".into()),
        target: Some("/api/v1/streaming?access_token=hunter2".into()),
        host: Some("gts1.fediverse.test".into()),
        status: None,
        websocket: false,
    };
    site.publisher.in_flight(vec![one(3), one(4)], 7);
    site.publisher.in_flight(vec![one(3), one(4)], 7);
    let event = early.news();
    assert_eq!((event.name.as_str(), &event.data["total"]), ("inflight", &json!(7)));
    assert_eq!(event.data["exchanges"][1]["id"], id(4).to_string());
    assert!(!event.data.to_string().contains("hunter2"), "{}", event.data);
    assert_eq!(site.events("", &[]).news(), event, "who comes later sees what there is");
    site.publisher.in_flight(Vec::new(), 0);
    let last = early.news();
    assert_eq!(last.data, json!({"exchanges": [], "total": 0}), "the same twice was told once");
}
