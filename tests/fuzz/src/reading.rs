//! Exchanges into the reader: any method, target, header fields and bodies, written as text that a fuzzer can mutate.

use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};
use sniffer::activitypub::{Reader, Reading};
use sniffer::flow::{Ends, FlowId};
use sniffer::frame::{Interface, Timestamp};
use sniffer::http::{Body, Exchange, ExchangeId, Headers, Message, Protocol, Request, Response};

use crate::check;

/// Between two exchanges, and between the parts of one: bytes that occur in no text.
const NEXT_EXCHANGE: u8 = 0x1d;
const NEXT_PART: u8 = 0x1e;

/// Reads the exchanges that the bytes describe, with two readers that must agree.
pub fn run(data: &[u8]) {
    let (mut one, mut other) = (Reader::new(), Reader::new());
    for (number, part) in data.split(|b| *b == NEXT_EXCHANGE).enumerate().take(64) {
        let exchange = exchange(number as u64, part);
        let reading = one.read(&exchange);
        assert_eq!(reading, other.read(&exchange), "the same exchanges must be read the same");
        hold(&exchange, &reading, part.len());
    }
}

fn hold(exchange: &Exchange, reading: &Reading, length: usize) {
    let sentence = reading.sentence.render();
    assert!(!sentence.trim().is_empty(), "nothing is said of {exchange:?}");
    // A reading must not be larger than what it is about, give or take: a few fields are said in several places.
    let said: usize = reading.sentence.slots.iter().map(|(_, value)| value.len()).sum();
    assert!(said <= 8 * length + 4096, "{said} octets in the slots of {length}");
    assert!(sentence.len() <= 8 * length + 4096, "{} octets of sentence about {length}", sentence.len());
    assert!(reading.lints.len() <= 64 + length, "{} lints about {length} octets", reading.lints.len());
    check::json(exchange, reading);
}

/// `METHOD target\nName: value\n…` NEXT_PART body NEXT_PART `status\nName: value\n…` NEXT_PART body. What is not there
/// was not seen.
pub fn exchange(number: u64, data: &[u8]) -> Exchange {
    let mut parts = data.splitn(4, |b| *b == NEXT_PART);
    let mut time = Timestamp(1_795_419_000_000_000_000 + number * 1_000_000_000);
    let started = time;
    let mut message = |headers: Headers, body: Option<&[u8]>| {
        let first_byte = time;
        time = time.plus_nanos(1_000_000);
        Message {
            version: (1, 1),
            headers,
            trailers: Headers::default(),
            body: self::body(body),
            first_byte,
            last_byte: time,
        }
    };
    let (line, headers) = head(parts.next().unwrap_or_default());
    let mut words = line.splitn(2, ' ').map(Box::<str>::from);
    let asked = message(headers, parts.next());
    let request = Request {
        method: words.next(),
        target: words.next(),
        host: asked.headers.text("host").map(Box::from),
        scheme: None,
        message: asked,
    };
    let response = parts.next().map(|part| {
        let (line, headers) = head(part);
        Response {
            status: line.trim().parse().ok(),
            reason: "".into(),
            message: message(headers, parts.next()),
        }
    });
    let request = (!line.is_empty() || response.is_none()).then_some(request);
    Exchange {
        id: ExchangeId::new(started, number),
        flow: FlowId(number),
        ends: Ends { client: ([10, 42, 0, 2], 40_000).into(), server: ([10, 42, 0, 12], 8080).into() },
        interface: Interface::Unknown,
        interface_name: None,
        protocol: Protocol::Http11,
        started,
        ended: time,
        request,
        response,
        interim: Vec::new(),
        websocket: None,
        gaps: Vec::new(),
        anomalies: Vec::new(),
    }
}

fn head(bytes: &[u8]) -> (String, Headers) {
    let mut lines = bytes.split(|b| *b == b'\n');
    let line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut headers = Headers::default();
    for field in lines.take(64) {
        let colon = field.iter().position(|b| *b == b':').unwrap_or(field.len());
        let (name, value) = field.split_at(colon);
        // A field with an empty name stands for one that HPACK state was lost for.
        let name = (!name.is_empty()).then_some(name);
        headers.push(name, value.get(1..).map(<[u8]>::trim_ascii));
    }
    (line, headers)
}

fn body(bytes: Option<&[u8]>) -> Body {
    let Some(bytes) = bytes else { return Body { complete: true, ..Body::default() } };
    let hash = <[u8; 32]>::from(Sha256::digest(bytes));
    let size = bytes.len() as u64;
    Body {
        wire_size: size,
        coded_size: size,
        size,
        encoding: None,
        complete: true,
        sha256: Some(hash),
        coded_sha256: Some(hash),
        bytes: bytes.to_vec(),
        holes: Vec::new(),
    }
}

/// A few exchanges with their readings, to ask filters about.
pub fn samples() -> impl Iterator<Item = (&'static Exchange, &'static Reading)> {
    static SAMPLES: OnceLock<Vec<(Exchange, Reading)>> = OnceLock::new();
    let samples = SAMPLES.get_or_init(|| {
        let mut reader = Reader::new();
        let texts: [&[u8]; 3] = [
            b"POST /inbox\nHost: a.test\nContent-Type: application/activity+json\nSignature: keyId=\"https://b.test/u/x#k\"\
              \x1e{\"type\":\"Follow\",\"id\":\"https://b.test/1\",\"actor\":\"https://b.test/u/x\",\"object\":\"https://a.test/u/y\"}\
              \x1e202\nServer: nginx\x1e",
            b"GET /users/x\nHost: a.test\nAccept: application/activity+json\x1e\x1e404\x1enot found",
            b"\x1e\x1e500\x1e",
        ];
        texts
            .iter()
            .enumerate()
            .map(|(number, text)| {
                let exchange = exchange(number as u64, text);
                let reading = reader.read(&exchange);
                (exchange, reading)
            })
            .collect()
    });
    samples.iter().map(|(exchange, reading)| (exchange, reading))
}
