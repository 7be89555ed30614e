//! What is written, read back: HAR by the field rules of HAR 1.2, pcapng by our own reader and etherparse, JSON lines as
//! JSON; and no secret in any of them.

#![allow(clippy::arithmetic_side_effects)]

use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::capture::{Item, Source};
use crate::flow::{Ends, FlowId};
use crate::frame::{Interface, Timestamp};
use crate::http::{
    Anomaly, AnomalyKind, Body, ExchangeId, GapMark, Headers, Interim, Message, Protocol, Request, Response,
    WebSocket, WsMessage,
};
use crate::stream::GapCause;

const START: u64 = 1_795_419_054_123_456_789;

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in fields {
        headers.push(Some(name.as_bytes()), Some(value.as_bytes()));
    }
    headers
}

fn body(bytes: &[u8], coded: Option<(&str, u64)>) -> Body {
    let size = bytes.len() as u64;
    Body {
        wire_size: coded.map_or(size, |c| c.1),
        coded_size: coded.map_or(size, |c| c.1),
        size,
        encoding: coded.map(|c| c.0.into()),
        complete: true,
        bytes: bytes.to_vec(),
        ..Body::default()
    }
}

fn message(fields: &[(&str, &str)], body: Body, first: u64, last: u64) -> Message {
    Message {
        version: (1, 1),
        headers: headers(fields),
        body,
        first_byte: Timestamp(START + first),
        last_byte: Timestamp(START + last),
        ..Message::default()
    }
}

/// A login with every kind of secret, its answer coded.
fn login() -> Exchange {
    let form = "grant_type=password&username=alice&password=hunter2";
    let request = Request {
        method: Some("POST".into()),
        target: Some("/oauth/token?access_token=QUERYSECRET&a=b%20c".into()),
        host: Some("gts1.fediverse.test".into()),
        scheme: None,
        message: message(
            &[
                ("Host", "gts1.fediverse.test"),
                ("Authorization", "Bearer HEADERSECRET"),
                ("Cookie", "_session=COOKIESECRET; theme=dark"),
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Content-Length", "51"),
            ],
            body(form.as_bytes(), None),
            0,
            1_000_000,
        ),
    };
    let json = br#"{"access_token":"JSONSECRET","scope":"read"}"#;
    let response = Response {
        status: Some(200),
        reason: "OK".into(),
        message: message(
            &[
                (
                    "Set-Cookie",
                    "_session=SETSECRET; path=/; HttpOnly; Secure; expires=Wed, 21-Oct-2026 07:28:00 GMT",
                ),
                ("Content-Type", "application/json; charset=utf-8"),
                ("Content-Encoding", "gzip"),
                ("Transfer-Encoding", "chunked"),
            ],
            body(json, Some(("gzip", 60))),
            3_000_000,
            4_500_000,
        ),
    };
    Exchange {
        id: ExchangeId::new(Timestamp(START), 77),
        flow: FlowId(1),
        ends: Ends {
            client: "10.42.0.10:41234".parse().unwrap(),
            server: "10.42.0.21:8080".parse().unwrap(),
        },
        interface: Interface::Declared(0),
        interface_name: Some(Arc::from("veth0")),
        protocol: Protocol::Http11,
        started: Timestamp(START),
        ended: Timestamp(START + 4_500_000),
        request: Some(request),
        response: Some(response),
        interim: vec![Interim {
            status: 103,
            time: Timestamp(START + 2_000_000),
            headers: headers(&[("Link", "</a.css>; rel=preload")]),
        }],
        websocket: None,
        gaps: vec![],
        anomalies: vec![],
    }
}

/// An exchange of a mid-stream h2c connection over IPv6, with an image cut by a hole.
fn torn() -> Exchange {
    let mut exchange = login();
    exchange.id = ExchangeId::new(Timestamp(START), 78);
    exchange.ends =
        Ends { client: "[fd00::1]:50000".parse().unwrap(), server: "[fd00::2]:3002".parse().unwrap() };
    exchange.protocol = Protocol::H2c;
    exchange.interface_name = None;
    exchange.interim.clear();
    let request = exchange.request.as_mut().unwrap();
    (request.method, request.target) = (None, None);
    request.message = message(&[], Body { complete: true, ..Body::default() }, 0, 0);
    request.message.headers.push(None, None);
    request.message.headers.push(Some(b"accept"), Some(b"image/png"));
    let response = exchange.response.as_mut().unwrap();
    (response.status, response.reason) = (None, "".into());
    let mut image = body(&[0x89, b'P', b'N', b'G', 0xff, 0xfe], None);
    (image.size, image.complete, image.holes) = (106, false, vec![(4, 100)]);
    response.message = message(&[("content-type", "image/png")], image, 1, 2);
    response.message.version = (2, 0);
    response.message.trailers = headers(&[("x-checksum", "1")]);
    exchange.gaps =
        vec![GapMark { to_server: false, offset: 1 << 32, length: 100, cause: GapCause::AckedUnseen }];
    exchange.anomalies = vec![Anomaly { kind: AnomalyKind::HpackLost, detail: "unknown".into() }];
    exchange
}

/// A WebSocket.
fn streaming() -> Exchange {
    let mut exchange = login();
    exchange.id = ExchangeId::new(Timestamp(START), 79);
    exchange.interim.clear();
    let request = exchange.request.as_mut().unwrap();
    request.method = Some("GET".into());
    request.target = Some("/api/v1/streaming?i=MISSKEYSECRET".into());
    request.message = message(
        &[
            ("Host", "a"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="),
        ],
        body(b"", None),
        0,
        1,
    );
    let response = exchange.response.as_mut().unwrap();
    (response.status, response.reason) = (Some(101), "Switching Protocols".into());
    response.message = message(
        &[
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="),
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ],
        body(b"", None),
        2,
        3,
    );
    let said = |to_server, opcode, bytes: &[u8]| WsMessage {
        to_server,
        time: Timestamp(START + 10_000_000),
        opcode,
        frames: 1,
        size: bytes.len() as u64,
        complete: true,
        sha256: None,
        bytes: bytes.to_vec(),
    };
    exchange.websocket = Some(WebSocket {
        frames: 4,
        messages: vec![
            said(true, 1, br#"{"type":"connect","password":"WSSECRET"}"#),
            said(false, 1, "é".repeat(200).as_bytes()),
            said(false, 2, &[0xff; 70_000]),
            said(true, 8, &[3, 0xe8]),
        ],
        ..WebSocket::default()
    });
    exchange
}

fn alone() -> Exchange {
    Exchange { id: ExchangeId::new(Timestamp(START), 80), request: None, ..login() }
}

fn unanswered() -> Exchange {
    Exchange { id: ExchangeId::new(Timestamp(START), 81), response: None, interim: vec![], ..login() }
}

fn all() -> Vec<Exchange> {
    vec![login(), torn(), streaming(), alone(), unanswered()]
}

fn exported(format: Format, exchanges: Vec<Exchange>, unmask: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut exporter = Exporter::new(format, &mut out, Options { unmask, node: None }).unwrap();
    for exchange in exchanges {
        exporter.push(exchange, Reading::unknown()).unwrap();
    }
    exporter.finish().unwrap();
    out
}

fn har(exchanges: Vec<Exchange>, unmask: bool) -> Value {
    serde_json::from_slice(&exported(Format::Har, exchanges, unmask)).unwrap()
}

#[test]
fn no_format_gives_secrets_away_unless_told_to() {
    let secrets = [
        "QUERYSECRET",
        "HEADERSECRET",
        "COOKIESECRET",
        "hunter2",
        "JSONSECRET",
        "SETSECRET",
        "MISSKEYSECRET",
        "WSSECRET",
    ];
    for format in Format::ALL {
        for (unmask, _) in [(false, "masked"), (true, "as seen")] {
            let bytes = exported(*format, all(), unmask);
            for secret in secrets {
                // `fedisniff.exchange/1` has no bodies; a WebSocket's text it has.
                let in_body = ["hunter2", "JSONSECRET"].contains(&secret);
                let there = memchr::memmem::find(&bytes, secret.as_bytes()).is_some();
                let want = unmask && !(in_body && *format == Format::Jsonl);
                assert_eq!(there, want, "{} {secret} unmask {unmask}", format.id());
            }
        }
    }
}

#[test]
fn formats_are_found_by_their_names() {
    for format in Format::ALL {
        assert_eq!(Format::from_id(format.id()), Some(*format));
    }
    assert_eq!(Format::from_id("HAR"), None);
}

#[test]
fn json_lines_are_the_exchanges_view() {
    let bytes = exported(Format::Jsonl, all(), true);
    let lines: Vec<Value> = bytes
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 5);
    for (line, exchange) in lines.iter().zip(all()) {
        assert_eq!(line["schema"], "fedisniff.exchange/1");
        assert_eq!(line["id"], exchange.id.to_string());
    }
}

/// The fields of HAR 1.2: name, required, kind.
fn fields(of: &str) -> &'static [(&'static str, bool, &'static str)] {
    match of {
        "log" => &[
            ("version", true, "string"),
            ("creator", true, "creator"),
            ("pages", false, "array"),
            ("entries", true, "[entry"),
            ("comment", false, "string"),
        ],
        "creator" => &[("name", true, "string"), ("version", true, "string")],
        "entry" => &[
            ("pageref", false, "string"),
            ("startedDateTime", true, "date"),
            ("time", true, "time"),
            ("request", true, "request"),
            ("response", true, "response"),
            ("cache", true, "object"),
            ("timings", true, "timings"),
            ("serverIPAddress", false, "string"),
            ("connection", false, "string"),
            ("comment", false, "string"),
        ],
        "request" => &[
            ("method", true, "string"),
            ("url", true, "url"),
            ("httpVersion", true, "string"),
            ("cookies", true, "[cookie"),
            ("headers", true, "[pair"),
            ("queryString", true, "[pair"),
            ("postData", false, "postData"),
            ("headersSize", true, "size"),
            ("bodySize", true, "size"),
            ("comment", false, "string"),
        ],
        "response" => &[
            ("status", true, "size"),
            ("statusText", true, "string"),
            ("httpVersion", true, "string"),
            ("cookies", true, "[cookie"),
            ("headers", true, "[pair"),
            ("content", true, "content"),
            ("redirectURL", true, "string"),
            ("headersSize", true, "size"),
            ("bodySize", true, "size"),
            ("comment", false, "string"),
        ],
        "cookie" => &[
            ("name", true, "string"),
            ("value", true, "string"),
            ("path", false, "string"),
            ("domain", false, "string"),
            ("expires", false, "date"),
            ("httpOnly", false, "bool"),
            ("secure", false, "bool"),
            ("sameSite", false, "string"),
        ],
        "pair" => &[("name", true, "string"), ("value", true, "string"), ("comment", false, "string")],
        "postData" => &[
            ("mimeType", true, "string"),
            ("params", false, "[pair"),
            ("text", false, "string"),
            ("comment", false, "string"),
        ],
        "content" => &[
            ("size", true, "size"),
            ("compression", false, "integer"),
            ("mimeType", true, "string"),
            ("text", false, "string"),
            ("encoding", false, "string"),
            ("comment", false, "string"),
        ],
        "timings" => &[
            ("blocked", false, "time"),
            ("dns", false, "time"),
            ("connect", false, "time"),
            ("send", true, "spent"),
            ("wait", true, "spent"),
            ("receive", true, "spent"),
            ("ssl", false, "time"),
        ],
        other => panic!("{other}"),
    }
}

fn obeys(value: &Value, kind: &str, path: &str) {
    match kind {
        "string" => assert!(value.is_string(), "{path}"),
        "bool" => assert!(value.is_boolean(), "{path}"),
        "array" => assert!(value.is_array(), "{path}"),
        "object" => assert!(value.is_object(), "{path}"),
        "integer" => assert!(value.is_i64() || value.is_u64(), "{path}"),
        "size" => assert!(value.as_i64().is_some_and(|n| n >= -1), "{path} {value}"),
        "time" => assert!(value.as_f64().is_some_and(|n| n >= 0.0 || n == -1.0), "{path} {value}"),
        "spent" => assert!(value.as_f64().is_some_and(|n| n >= 0.0), "{path} {value}"),
        "date" => {
            assert!(value.as_str().is_some_and(|s| s.parse::<jiff::Timestamp>().is_ok()), "{path} {value}");
        }
        "url" => {
            let url = value.as_str().unwrap();
            let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("{path} {url}"));
            assert!(rest.contains('/') && !rest.starts_with('/'), "{path} {url}");
        }
        _ if kind.starts_with('[') => {
            for (n, item) in value.as_array().unwrap_or_else(|| panic!("{path}")).iter().enumerate() {
                obeys(item, &kind[1..], &format!("{path}[{n}]"));
            }
        }
        _ => {
            let object = value.as_object().unwrap_or_else(|| panic!("{path}"));
            for (name, required, kind) in fields(kind) {
                match object.get(*name) {
                    Some(value) => obeys(value, kind, &format!("{path}.{name}")),
                    None => assert!(!required, "{path}.{name} is missing"),
                }
            }
            // §3: custom fields begin with an underscore.
            for name in object.keys() {
                assert!(name.starts_with('_') || fields(kind).iter().any(|f| f.0 == name), "{path}.{name}");
            }
            if kind == "postData" {
                assert!(object.contains_key("params") != object.contains_key("text"), "{path}");
            }
            if kind == "entry" {
                let spent: f64 =
                    ["send", "wait", "receive"].iter().map(|t| value["timings"][t].as_f64().unwrap()).sum();
                assert!(
                    (value["time"].as_f64().unwrap() - spent).abs() < 1e-9,
                    "{path}: time is the sum of timings"
                );
            }
        }
    }
}

#[test]
fn the_archive_obeys_har_1_2() {
    for exchanges in [vec![], vec![login()], all()] {
        for unmask in [true, false] {
            let archive = har(exchanges.clone(), unmask);
            assert_eq!(archive.as_object().unwrap().len(), 1);
            obeys(&archive["log"], "log", "log");
            assert_eq!(archive["log"]["version"], "1.2");
            assert_eq!(archive["log"]["entries"].as_array().unwrap().len(), exchanges.len());
        }
    }
}

#[test]
fn an_entry_says_what_was_seen() {
    let archive = har(all(), true);
    let [login, torn, streaming, alone, unanswered] = &archive["log"]["entries"].as_array().unwrap()[..]
    else {
        panic!()
    };
    assert_eq!(login["startedDateTime"], "2026-11-23T07:30:54.123Z");
    assert_eq!(login["_fedisniff"]["started"], "2026-11-23T07:30:54.123456789Z");
    assert_eq!(
        login["timings"],
        serde_json::json!({"blocked": -1, "dns": -1, "connect": -1, "ssl": -1, "send": 1.0, "wait": 2.0, "receive": 1.5})
    );
    let request = &login["request"];
    assert_eq!(request["url"], "http://gts1.fediverse.test/oauth/token?access_token=QUERYSECRET&a=b%20c");
    assert_eq!(request["queryString"][1], serde_json::json!({"name": "a", "value": "b c"}));
    assert_eq!(request["cookies"][1], serde_json::json!({"name": "theme", "value": "dark"}));
    assert_eq!(request["postData"]["text"], "grant_type=password&username=alice&password=hunter2");
    assert_eq!(request["bodySize"], 51);
    let response = &login["response"];
    assert_eq!(
        response["cookies"][0],
        serde_json::json!({"name": "_session", "value": "SETSECRET", "path": "/", "httpOnly": true, "secure": true, "expires": "2026-10-21T07:28:00Z"})
    );
    assert_eq!(response["content"]["text"], r#"{"access_token":"JSONSECRET","scope":"read"}"#);
    assert_eq!(
        (&response["content"]["size"], &response["content"]["compression"], &response["bodySize"]),
        (&44.into(), &(-16).into(), &60.into())
    );
    assert_eq!(login.get("comment"), None);

    assert_eq!(torn["request"]["headers"], serde_json::json!([{"name": "accept", "value": "image/png"}]));
    assert_eq!(torn["request"]["comment"], "1 header fields are unknown: their HPACK state was not seen");
    assert_eq!(
        (&torn["response"]["status"], &torn["response"]["httpVersion"]),
        (&0.into(), &"HTTP/2".into())
    );
    assert_eq!(
        (&torn["response"]["content"]["encoding"], &torn["response"]["content"]["text"]),
        (&"base64".into(), &"iVBOR//+".into())
    );
    assert_eq!(torn["comment"], "response: 100 octets of the body are missing");
    assert_eq!(torn["_fedisniff"]["gaps"][0]["length"], 100);
    assert_eq!(torn["_fedisniff"]["anomalies"][0]["id"], "hpack-state-lost");

    assert_eq!(streaming["_resourceType"], "websocket");
    let said = streaming["_webSocketMessages"].as_array().unwrap();
    assert_eq!(
        (&said[0]["type"], &said[0]["opcode"], &said[1]["type"]),
        (&"send".into(), &1.into(), &"receive".into())
    );
    assert_eq!(said[1]["data"], "é".repeat(200));
    assert!(said[2]["data"].as_str().unwrap().starts_with("/////"));
    assert!((said[0]["time"].as_f64().unwrap() - 1_795_419_054.133).abs() < 0.001);

    assert_eq!(
        (&alone["request"]["method"], &alone["comment"]),
        (&"".into(), &"the request was not seen".into())
    );
    assert_eq!(
        (&unanswered["response"]["status"], &unanswered["comment"]),
        (&0.into(), &"no response was seen".into())
    );
}

/// The octets that each side of each connection sends: by order of their SYN, checked as packets.
fn conversations(file: &[u8]) -> Vec<[Vec<u8>; 2]> {
    let mut source = Source::from_reader("export", std::io::Cursor::new(file.to_vec()), None).unwrap();
    let mut connections: Vec<([Vec<u8>; 2], [u32; 2])> = Vec::new();
    let mut client = None;
    let mut last = Timestamp(0);
    while let Some(item) = source.next().unwrap() {
        let Item::Frame(frame) = item else { continue };
        let packet = etherparse::PacketHeaders::from_ethernet_slice(frame.bytes).unwrap();
        let Some(etherparse::TransportHeader::Tcp(tcp)) = packet.transport else { panic!() };
        let payload = packet.payload.slice();
        let checksum = match packet.net.as_ref().unwrap() {
            etherparse::NetHeaders::Ipv4(ip, _) => {
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                tcp.calc_checksum_ipv4(ip, payload).unwrap()
            }
            etherparse::NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(ip, payload).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(tcp.checksum, checksum);
        if tcp.syn && !tcp.ack {
            connections.push(([Vec::new(), Vec::new()], [tcp.sequence_number.wrapping_add(1), 0]));
            client = Some(tcp.source_port);
            last = frame.time;
        }
        assert!(frame.time >= last, "times do not go back in a connection");
        last = frame.time;
        let (octets, next) = connections.last_mut().unwrap();
        let side = usize::from(Some(tcp.source_port) != client);
        if tcp.syn && tcp.ack {
            next[1] = tcp.sequence_number.wrapping_add(1);
        } else if !tcp.syn {
            assert_eq!(tcp.sequence_number, next[side]);
            assert_eq!(tcp.acknowledgment_number, next[1 - side], "everything is acknowledged at once");
            next[side] = next[side].wrapping_add(payload.len() as u32 + u32::from(tcp.fin));
            octets[side].extend_from_slice(payload);
        }
    }
    connections.into_iter().map(|(octets, _)| octets).collect()
}

#[test]
fn rebuilt_packets_tell_the_exchanges() {
    let file = exported(Format::Pcapng, all(), true);
    let told = conversations(&file);
    assert_eq!(told.len(), 5);
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    assert_eq!(
        text(&told[0][0]),
        "POST /oauth/token?access_token=QUERYSECRET&a=b%20c HTTP/1.1\r\nHost: gts1.fediverse.test\r\n\
         Authorization: Bearer HEADERSECRET\r\nCookie: _session=COOKIESECRET; theme=dark\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nX-Fedisniff-Content-Length: 51\r\nContent-Length: 51\r\n\r\n\
         grant_type=password&username=alice&password=hunter2"
    );
    assert_eq!(
        text(&told[0][1]),
        "HTTP/1.1 103\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n\
         Set-Cookie: _session=SETSECRET; path=/; HttpOnly; Secure; expires=Wed, 21-Oct-2026 07:28:00 GMT\r\n\
         Content-Type: application/json; charset=utf-8\r\nX-Fedisniff-Content-Encoding: gzip\r\n\
         X-Fedisniff-Transfer-Encoding: chunked\r\nContent-Length: 44\r\n\r\n\
         {\"access_token\":\"JSONSECRET\",\"scope\":\"read\"}"
    );
    let torn = text(&told[1][1]);
    for part in [
        "HTTP/1.1 000 ",
        "X-Fedisniff-Protocol: h2c",
        "X-Fedisniff-Trailer: x-checksum: 1",
        "complete: false",
        "Content-Length: 6\r\n",
    ] {
        assert!(torn.contains(part), "{part} in {torn}");
    }
    let request = text(&told[1][0]);
    assert!(
        request.starts_with("UNKNOWN / HTTP/1.1\r\nX-Fedisniff-Unknown: ?\r\naccept: image/png\r\n"),
        "{request}"
    );
    // The WebSocket's frames follow its heads.
    let frames = &told[2][0][memchr::memmem::find(&told[2][0], b"\r\n\r\n").unwrap() + 4..];
    assert_eq!(frames[..6], [0x81, 0x80 | 40, 0, 0, 0, 0]);
    assert!(text(&told[2][1]).contains("X-Fedisniff-Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    assert!(told[3][0].is_empty() && told[4][1].is_empty());
    for comment in
        [&b"Rebuilt by fedisniff"[..], b"not a captured frame", b"told as HTTP/1.1 (it was HTTP/2)"]
    {
        assert!(memchr::memmem::find(&file, comment).is_some());
    }
}

#[test]
fn interfaces_of_rebuilt_packets_keep_their_names() {
    let mut other = login();
    other.interface_name = Some(Arc::from("veth1"));
    let file = exported(Format::Pcapng, vec![login(), torn(), other, login()], true);
    let mut source = Source::from_reader("export", std::io::Cursor::new(file), None).unwrap();
    let (mut names, mut used) = (Vec::new(), Vec::new());
    while let Some(item) = source.next().unwrap() {
        match item {
            Item::Interface { name, .. } => names.push(name.map(str::to_owned)),
            Item::Frame(frame) => used.push(frame.interface),
            Item::Loss(_) => {}
        }
    }
    used.dedup();
    assert_eq!(names, [None, Some("veth0".into()), Some("veth1".into())]);
    assert_eq!(used, [1, 0, 2, 1].map(Interface::Declared));
}

#[test]
fn a_writer_that_fails_is_an_error() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for format in Format::ALL {
        let whole = exported(*format, vec![login()], true).len();
        for room in [0, 1, whole / 2, whole - 1] {
            let mut to = Full(room);
            let done = Exporter::new(*format, &mut to, Options::default()).and_then(|mut exporter| {
                exporter.push(login(), Reading::unknown())?;
                exporter.finish()
            });
            assert!(done.is_err(), "{} {room}", format.id());
        }
    }
}
