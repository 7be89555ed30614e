//! Conversations in text, the form that anyone can type into a bug report: what each end sent, segment by segment,
//! what was lost, and what fedisniff must make of it. Each is turned into Ethernet frames and goes through the whole
//! pipeline, so that it tests flow, stream, HTTP and reading at once, and seeds the fuzz corpora.
//!
//! ```text
//! # why this conversation is here
//! syn                          the three-way handshake (without it: picked up mid-stream)
//! > GET / HTTP/1.1\r\n         a segment from the client; \r \n \t \\ \xNN are escapes
//! +                            … more of the same segment
//! < HTTP/1.1 204 No Content\r\n\r\n
//! lost< 1000                   the server sent so many octets that the capture missed (the client acknowledged them)
//! lost> GET /x HTTP/1.1\r\n    the client sent these, the capture missed them
//! again> 10                    the last segment of the client once more, and its last 10 octets only when a number is given
//! instead< evil                the last octets of the server once more, with other content
//! swap                         the next two segments are captured in the other order
//! wait 1500ms
//! fin> fin< rst> rst<
//! repeat 100 > x               the same segment many times
//! === expected
//! ```
//!
//! After the mark: one line per exchange, in order of completion, as [`describe`] writes it, then a line of counters.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use sniffer::frame::{Frame, Interface, LinkType, Timestamp};
use sniffer::http::{Exchange, Message};
use sniffer::pipeline::{Config, Pipeline, Told};

/// Between a conversation and what is expected of it.
pub const MARK: &str = "=== expected";

/// The conversation, and what is expected.
pub fn split(text: &str) -> (&str, &str) {
    match text.split_once(MARK) {
        Some((head, expected)) => (head, expected.trim_start_matches('\n')),
        None => (text, ""),
    }
}

/// One end's state.
#[derive(Default)]
struct End {
    sequence: u32,
    /// The last payload, for `again`.
    last: Vec<u8>,
}

/// Writes frames of one TCP connection.
pub struct Wire {
    client: End,
    server: End,
    time: u64,
    /// The frames: time in ns, bytes.
    pub frames: Vec<(u64, Vec<u8>)>,
}

/// Which end speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// The client.
    Client,
    /// The server.
    Server,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

impl Default for Wire {
    fn default() -> Self {
        // Sequence numbers near the wrap, so that every conversation crosses it sooner or later.
        Self {
            client: End { sequence: u32::MAX - 20, last: Vec::new() },
            server: End { sequence: 1_000, last: Vec::new() },
            time: 1_795_419_000_000_000_000,
            frames: Vec::new(),
        }
    }
}

impl Wire {
    /// Lets time pass.
    pub fn wait(&mut self, nanos: u64) {
        self.time += nanos;
    }

    /// The three-way handshake.
    pub fn handshake(&mut self) {
        self.frame(From::Client, SYN, &[], true);
        self.client.sequence = self.client.sequence.wrapping_add(1);
        self.frame(From::Server, SYN | ACK, &[], true);
        self.server.sequence = self.server.sequence.wrapping_add(1);
        self.frame(From::Client, ACK, &[], true);
    }

    /// A segment; `seen` is whether the capture has it. The other end acknowledges it.
    pub fn say(&mut self, from: From, payload: &[u8], seen: bool) {
        self.frame(from, PSH | ACK, payload, seen);
        let end = self.end(from);
        end.sequence = end.sequence.wrapping_add(payload.len() as u32);
        end.last = payload.to_vec();
        let other = match from {
            From::Client => From::Server,
            From::Server => From::Client,
        };
        self.frame(other, ACK, &[], true);
    }

    /// The end of the last segment once more: `octets` of it.
    pub fn again(&mut self, from: From, octets: usize) {
        let end = self.end(from);
        let last = end.last.clone();
        let tail = &last[last.len().saturating_sub(octets)..];
        end.sequence = end.sequence.wrapping_sub(tail.len() as u32);
        self.frame(from, PSH | ACK, tail, true);
        let end = self.end(from);
        end.sequence = end.sequence.wrapping_add(tail.len() as u32);
    }

    /// A retransmission of the end of the last segment that carries other bytes.
    pub fn instead(&mut self, from: From, payload: &[u8]) {
        let end = self.end(from);
        end.sequence = end.sequence.wrapping_sub(payload.len() as u32);
        self.frame(from, PSH | ACK, payload, true);
        let end = self.end(from);
        end.sequence = end.sequence.wrapping_add(payload.len() as u32);
    }

    /// FIN.
    pub fn finish(&mut self, from: From) {
        self.frame(from, FIN | ACK, &[], true);
        let end = self.end(from);
        end.sequence = end.sequence.wrapping_add(1);
    }

    /// RST.
    pub fn reset(&mut self, from: From) {
        self.frame(from, RST | ACK, &[], true);
    }

    fn end(&mut self, from: From) -> &mut End {
        match from {
            From::Client => &mut self.client,
            From::Server => &mut self.server,
        }
    }

    fn frame(&mut self, from: From, flags: u8, payload: &[u8], seen: bool) {
        self.time += 100_000;
        let (sequence, acknowledged) = match from {
            From::Client => (self.client.sequence, self.server.sequence),
            From::Server => (self.server.sequence, self.client.sequence),
        };
        if !seen {
            return;
        }
        let (source, target) = match from {
            From::Client => (([10, 42, 0, 10], 40_000_u16), ([10, 42, 0, 21], 8_080_u16)),
            From::Server => (([10, 42, 0, 21], 8_080), ([10, 42, 0, 10], 40_000)),
        };
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        let length = u16::try_from(40 + payload.len()).expect("a segment fits into a datagram");
        frame.extend([0x45, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(source.0);
        frame.extend(target.0);
        frame.extend(source.1.to_be_bytes());
        frame.extend(target.1.to_be_bytes());
        frame.extend(sequence.to_be_bytes());
        frame.extend(if flags & ACK == 0 { [0; 4] } else { acknowledged.to_be_bytes() });
        frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(payload);
        self.frames.push((self.time, frame));
    }
}

/// Plays a conversation; gives what came of it, as the expected part is written.
///
/// # Errors
/// A line that cannot be read, with its number.
pub fn run(text: &str) -> Result<String> {
    let wire = parse(split(text).0)?;
    let mut pipeline = Pipeline::new(Config::default());
    let mut told = Vec::new();
    for (time, bytes) in &wire.frames {
        let frame = Frame {
            time: Timestamp(*time),
            interface: Interface::Unknown,
            hook: None,
            link: LinkType::Ethernet,
            bytes,
            wire_length: bytes.len() as u32,
        };
        pipeline.push(&frame, &mut told);
    }
    pipeline.finish(&mut told);
    let mut out = String::new();
    for one in &told {
        writeln!(out, "{}", describe(one))?;
    }
    let counters = pipeline.counters();
    let others: Vec<String> =
        counters.http.other_flows.iter().map(|(what, n)| format!("{what:?} {n}")).collect();
    writeln!(
        out,
        "delivered {} gaps {} ({}) duplicate {} conflicts {} hunted {}{}{}",
        counters.stream.delivered,
        counters.stream.gaps,
        counters.stream.gap_bytes,
        counters.stream.duplicate_bytes,
        counters.stream.conflicts,
        counters.http.hunted_bytes,
        if others.is_empty() { "" } else { " not HTTP: " },
        others.join(", ")
    )?;
    Ok(out)
}

/// A conversation as frames.
///
/// # Errors
/// A line that cannot be read, with its number.
pub fn parse(text: &str) -> Result<Wire> {
    let mut wire = Wire::default();
    let mut swap_at = None;
    let lines: Vec<&str> = text.lines().collect();
    let mut number = 0;
    while let Some(line) = lines.get(number) {
        number += 1;
        let place = number;
        let at = || format!("line {place}: {line}");
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let before = wire.frames.len();
        match word {
            "syn" => wire.handshake(),
            ">" | "<" | "lost>" | "lost<" => {
                let from = if word.ends_with('>') { From::Client } else { From::Server };
                let mut payload = match rest.trim().parse::<usize>() {
                    Ok(octets) if word.starts_with("lost") => vec![b'.'; octets],
                    _ => unescape(rest).with_context(at)?,
                };
                while let Some(more) = lines.get(number).and_then(|l| l.strip_prefix('+')) {
                    payload.extend(unescape(more.strip_prefix(' ').unwrap_or(more)).with_context(at)?);
                    number += 1;
                }
                wire.say(from, &payload, !word.starts_with("lost"));
            }
            "again>" | "again<" => {
                let from = if word.ends_with('>') { From::Client } else { From::Server };
                let octets =
                    if rest.is_empty() { usize::MAX } else { rest.trim().parse().with_context(at)? };
                wire.again(from, octets);
            }
            "instead>" | "instead<" => {
                let from = if word.ends_with('>') { From::Client } else { From::Server };
                let payload = unescape(rest).with_context(at)?;
                wire.instead(from, &payload);
            }
            "repeat" => {
                let (times, rest) = rest.split_once(' ').with_context(at)?;
                let (word, payload) = rest.split_once(' ').with_context(at)?;
                let from = if word == ">" { From::Client } else { From::Server };
                let payload = unescape(payload).with_context(at)?;
                for _ in 0..times.parse::<u32>().with_context(at)? {
                    wire.say(from, &payload, true);
                }
            }
            "wait" => {
                let millis: u64 = rest.trim_end_matches("ms").parse().with_context(at)?;
                wire.wait(millis * 1_000_000);
            }
            "swap" => swap_at = Some(wire.frames.len()),
            "fin>" => wire.finish(From::Client),
            "fin<" => wire.finish(From::Server),
            "rst>" => wire.reset(From::Client),
            "rst<" => wire.reset(From::Server),
            _ => bail!("{}: not a step of a conversation", at()),
        }
        // A step's first frame is the segment, the second its acknowledgement. Two steps after `swap`, the two
        // segments change places and keep the times of the places: a capture that was written in the wrong order.
        if let Some(first) = swap_at.filter(|first| before > *first) {
            let (time_a, time_b) = (wire.frames[first].0, wire.frames[before].0);
            wire.frames.swap(first, before);
            wire.frames[first].0 = time_a;
            wire.frames[before].0 = time_b;
            swap_at = None;
        }
    }
    Ok(wire)
}

fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next().context("a backslash at the end")? {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'\\' => out.push(b'\\'),
            b'x' => {
                let digits = [
                    bytes.next().context("\\x needs two digits")?,
                    bytes.next().context("\\x needs two digits")?,
                ];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?);
            }
            other => bail!("unknown escape \\{}", other as char),
        }
    }
    Ok(out)
}

/// One exchange in one line: what was asked and answered, sizes, and what was odd.
pub fn describe(told: &Told) -> String {
    let exchange: &Exchange = &told.exchange;
    let body = |m: &Message| {
        let complete = if m.body.complete { "" } else { "?" };
        let trailers =
            if m.trailers.is_empty() { String::new() } else { format!(" +{} trailers", m.trailers.len()) };
        let coding = m.body.encoding.as_deref().map(|e| format!(" {e}")).unwrap_or_default();
        format!("[{}{complete} of {}{coding}]{trailers}", m.body.size, m.body.wire_size)
    };
    let request = exchange.request.as_ref().map_or_else(
        || "null".to_owned(),
        |r| {
            let text = |part: &Option<Box<str>>| part.as_deref().unwrap_or("?").to_owned();
            format!("{} {} {}", text(&r.method), text(&r.target), body(&r.message))
        },
    );
    let interim: String = exchange.interim.iter().map(|i| format!("{} ", i.status)).collect();
    let response = exchange.response.as_ref().map_or_else(
        || "null".to_owned(),
        |r| format!("{} {}", r.status.map_or_else(|| "?".to_owned(), |s| s.to_string()), body(&r.message)),
    );
    let mut line = format!("{} {request} -> {interim}{response}", exchange.protocol.id());
    if let Some(ws) = &exchange.websocket {
        let messages: Vec<String> = ws
            .messages
            .iter()
            .map(|m| {
                let arrow = if m.to_server { '>' } else { '<' };
                format!("{arrow}{}:{}{}", m.opcode, m.size, if m.complete { "" } else { "?" })
            })
            .collect();
        let _ = write!(line, " websocket {} frames {}", ws.frames, messages.join(" "));
    }
    for gap in &exchange.gaps {
        let _ = write!(line, " gap{}{}", if gap.to_server { '>' } else { '<' }, gap.length);
    }
    for anomaly in &exchange.anomalies {
        let _ = write!(line, " !{}", anomaly.kind.id());
    }
    line
}
