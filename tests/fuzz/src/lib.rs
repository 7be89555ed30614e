//! What the fuzz targets do with their bytes, and the invariants that must hold whatever the bytes are. The targets
//! themselves are one line each; everything is here, so that a finding can be run again without the fuzzer.

pub mod check;
pub mod conversation;
pub mod frames;
pub mod policy;
pub mod reading;
pub mod segments;

use std::io::{self, Read};

use sniffer::capture::{Item, Source};
use sniffer::http::{Config, Exchange};
use sniffer::pipeline::{self, Pipeline};

use conversation::Step;

/// A capture, read twice: in one piece, and in pieces of a few bytes as a slow pipe gives them. Both must give the
/// same items and the same end. Of damaged compressed data the decoder gives more or less before it notices, by how
/// much it has at hand: there one must be the beginning of the other.
pub fn capture(data: &[u8]) {
    let whole = items(Box::new(io::Cursor::new(data.to_vec())), Some(data.len() as u64));
    let pieces = items(Box::new(Pieces { left: data.to_vec(), place: 0 }), None);
    let compressed = data.starts_with(&[0x1f, 0x8b])
        || matches!(data, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if compressed && (whole.1.is_some() || pieces.1.is_some()) {
        let common = whole.0.len().min(pieces.0.len());
        assert_eq!(whole.0[..common], pieces.0[..common], "how the bytes arrive must not matter");
    } else {
        assert_eq!(whole, pieces, "how the bytes arrive must not matter");
    }
}

/// Gives one to seven bytes at a time.
struct Pieces {
    left: Vec<u8>,
    place: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = self.left.get(self.place..).unwrap_or_default();
        let count = rest.len().min(into.len()).min(1 + self.place % 7);
        into[..count].copy_from_slice(&rest[..count]);
        self.place += count;
        Ok(count)
    }
}

fn items(from: Box<dyn Read + Send>, length: Option<u64>) -> (Vec<String>, Option<String>) {
    let mut source = match Source::from_reader("fuzz", from, length) {
        Ok(source) => source,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let mut items = Vec::new();
    // A few kilobytes that decompress to gigabytes of empty frames are read in constant memory, but not in a fuzzer's
    // time.
    while items.len() < 10_000 {
        match source.next() {
            Ok(Some(item)) => {
                if let Item::Frame(frame) = &item {
                    assert!(
                        frame.bytes.len() <= frame.wire_length as usize,
                        "more captured than was on the wire"
                    );
                }
                items.push(format!("{item:?}"));
            }
            Ok(None) => return (items, None),
            Err(error) => {
                assert!(matches!(source.next(), Ok(None)), "after an error there is nothing more");
                return (items, Some(error.to_string()));
            }
        }
    }
    (items, None)
}

/// Limits low enough for a fuzzer to reach them.
pub fn tight() -> Config {
    Config {
        keep_body: 512,
        body_budget: 2048,
        decoded_limit: 64 << 10,
        decoded_ratio: 50,
        pipeline_limit: 4,
        head_limit: 1024,
        fields_limit: 24,
        messages_limit: 4,
        streams_limit: 8,
        ..Config::default()
    }
}

fn config(byte: u8) -> Config {
    if byte & 1 == 0 { Config::default() } else { tight() }
}

/// A conversation of HTTP/1, from the bytes of [`conversation`].
pub fn http1(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let conversation = conversation::read(rest);
    conversation::run(config(*first), first & 2 != 0, &conversation);
}

/// The same conversation with its data cut into single bytes: it must give the same exchanges, where all of it is HTTP
/// seen from its beginning and without holes. Elsewhere the decoder judges by what a segment begins with, and takes a
/// segment as what was sent in one go.
pub fn http1_cut(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let mut conversation = conversation::read(rest);
    conversation.retain(|step| !matches!(step, Step::Gap { .. } | Step::Conflict { .. }));
    let (whole, understood) = conversation::run_and_count(config(*first), false, &conversation);
    let cut = conversation::cut(&conversation);
    let (cut, also_understood) = conversation::run_and_count(config(*first), false, &cut);
    // A head that came in pieces must be held, and is given up where there is no memory for it; then it is hunted over.
    if understood && also_understood {
        assert_eq!(told(&whole), told(&cut), "where data are cut must not matter");
    }
}

fn told(exchanges: &[Box<Exchange>]) -> Vec<String> {
    exchanges.iter().map(|e| format!("{e:#?}")).collect()
}

/// h2c: frames whose lengths are right and whose content is anything, with the preface (first byte even) or picked up
/// mid-stream.
pub fn h2(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let mut steps = Vec::new();
    let mid_stream = first & 2 != 0;
    if !mid_stream {
        steps.push(Step::data(true, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        steps.push(Step::data(true, &[0, 0, 0, 4, 0, 0, 0, 0, 0]));
        steps.push(Step::data(false, &[0, 0, 0, 4, 0, 0, 0, 0, 0]));
    }
    let mut rest = rest;
    // A frame: direction and type, flags, stream, length, payload.
    while let [head, flags, stream, length, tail @ ..] = rest {
        let payload = &tail[..usize::from(*length).min(tail.len())];
        rest = &tail[payload.len()..];
        let to_server = head & 1 == 0;
        let kind = (head >> 1) % 12;
        if kind == 11 {
            steps.push(Step::Gap { to_server, length: 1 + u64::from(*flags), cause: *stream });
            continue;
        }
        let mut frame = vec![0, 0, payload.len() as u8, kind, *flags, 0, 0, 0, *stream];
        frame.extend_from_slice(payload);
        steps.push(Step::data(to_server, &frame));
    }
    conversation::run(config(*first), mid_stream, &steps);
}

/// WebSocket after an Upgrade, with (first byte's bit 1) or without permessage-deflate: frames whose lengths are right
/// and whose content is anything.
pub fn websocket(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let extension = if first & 2 != 0 { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let ask = format!(
        "GET /api/v1/streaming HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{extension}\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extension}\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
    let mut steps = vec![Step::data(true, ask.as_bytes()), Step::data(false, answer.as_bytes())];
    let mut rest = rest;
    while let [how, head, length, tail @ ..] = rest {
        let payload = &tail[..usize::from(*length).min(tail.len())];
        rest = &tail[payload.len()..];
        let to_server = how & 1 == 0;
        match how >> 1 & 7 {
            7 => steps.push(Step::Gap { to_server, length: 1 + u64::from(*head), cause: how >> 4 }),
            6 => steps.push(Step::data(to_server, payload)),
            _ => {
                let mut frame = vec![*head];
                if to_server {
                    frame.extend_from_slice(&[0x80 | payload.len().min(125) as u8, 0, 0, 0, 0]);
                } else {
                    frame.push(payload.len().min(125) as u8);
                }
                frame.extend_from_slice(&payload[..payload.len().min(125)]);
                steps.push(Step::data(to_server, &frame));
            }
        }
    }
    let exchanges = conversation::run(config(*first), false, &steps);
    assert_eq!(exchanges.len(), 1, "one Upgrade is one exchange");
}

/// A whole capture through the whole way, twice: the same bytes must come out, and what comes out must hold together.
pub fn pipeline(data: &[u8]) {
    let first = through(data);
    assert_eq!(first, through(data), "the same capture must give the same exchanges");
}

fn through(data: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let Ok(mut source) = Source::from_reader("fuzz", io::Cursor::new(data.to_vec()), None) else {
        return lines;
    };
    let config = pipeline::Config { http: tight(), ..pipeline::Config::default() };
    let mut pipeline = Pipeline::new(config);
    let mut out = Vec::new();
    let mut frames = 0;
    while let Ok(Some(item)) = source.next() {
        frames += 1;
        match item {
            Item::Frame(frame) => pipeline.push(&frame, &mut out),
            Item::Interface { number, name, .. } => pipeline.name_interface(number, name),
            Item::Loss(loss) => pipeline.lost(&loss),
        }
        if frames >= 10_000 {
            break;
        }
    }
    pipeline.finish(&mut out);
    let counters = pipeline.counters();
    assert_eq!(counters.http.exchanges, out.len() as u64, "every exchange is counted");
    assert_eq!((counters.stream.held, counters.http.held), (0, 0), "nothing is held after the end");
    assert!(out.len() as u64 <= counters.stream.delivered, "every exchange has at least one byte");
    check::ids_differ(out.iter().map(|t| &*t.exchange));
    for told in &out {
        check::exchange(&told.exchange, &config.http);
        lines.push(check::json(&told.exchange, &told.reading));
    }
    lines
}

/// A filter's text: it compiles, and can then be asked about an exchange, or its error points into the text.
pub fn filter(text: &str) {
    // The grammar is recursive; the command line and the viewer take no longer text either.
    if text.len() > 4096 {
        return;
    }
    match sniffer::filter::Filter::parse(text) {
        Ok(filter) => {
            assert_eq!(filter.text(), text);
            for (exchange, reading) in reading::samples() {
                filter.matches(exchange, reading);
            }
        }
        Err(error) => {
            let lines = text.split('\n').count().max(1);
            assert!((1..=lines).contains(&error.line), "line {} of {lines}: {error}", error.line);
            let line = text.split('\n').nth(error.line - 1).unwrap_or_default();
            let width = line.chars().count();
            assert!((1..=width + 1).contains(&error.column), "column {} of {width}: {error}", error.column);
            assert!(!error.message.is_empty());
        }
    }
}
