//! A conversation on one connection, as the stream stage tells it, in a compact form that a fuzzer can mutate. Each
//! step is an opcode byte and its operands: bit 0 is the direction (0: to the server), bits 1 to 3 the kind.
//!
//! | kind | step | operands |
//! | --- | --- | --- |
//! | 0, 1, 2 | data, the start of a segment | length (u16, little endian), octets |
//! | 3 | data, the rest of a segment | the same |
//! | 4 | a gap | length - 1 (u16), cause (u8) |
//! | 5 | the end of the direction | how (u8) |
//! | 6 | a retransmission with other bytes | none |
//! | 7 | time passes | tens of milliseconds (u8) |

use std::borrow::Cow;
use std::net::SocketAddr;

use sniffer::flow::{Direction, Ends, FlowId, Handshake, MID_STREAM_BASE, Opened};
use sniffer::frame::{Interface, Timestamp};
use sniffer::http::{Config, Decoder, Exchange};
use sniffer::stream::{Data, EndKind, Event, GapCause};

use crate::check;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bytes in order.
    Data { to_server: bool, bytes: Vec<u8>, segment_start: bool },
    /// Bytes that will not come.
    Gap { to_server: bool, length: u64, cause: u8 },
    /// The direction ends.
    End { to_server: bool, kind: u8 },
    /// A retransmission differs.
    Conflict { to_server: bool },
    /// Time passes.
    Wait { tens_of_millis: u8 },
}

impl Step {
    /// A whole segment.
    pub fn data(to_server: bool, bytes: &[u8]) -> Self {
        Self::Data { to_server, bytes: bytes.to_vec(), segment_start: true }
    }
}

/// Reads steps; whatever the bytes are, they are some conversation.
pub fn read(mut data: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    let byte = |data: &mut &[u8]| {
        let (first, rest) = data.split_first().map_or((0, *data), |(f, r)| (*f, r));
        *data = rest;
        first
    };
    while !data.is_empty() {
        let op = byte(&mut data);
        let to_server = op & 1 == 0;
        steps.push(match op >> 1 & 7 {
            kind @ 0..=3 => {
                let length =
                    usize::from(u16::from_le_bytes([byte(&mut data), byte(&mut data)])).min(data.len());
                let (bytes, rest) = data.split_at(length);
                data = rest;
                Step::Data { to_server, bytes: bytes.to_vec(), segment_start: kind != 3 }
            }
            4 => {
                let length = 1 + u64::from(u16::from_le_bytes([byte(&mut data), byte(&mut data)]));
                Step::Gap { to_server, length, cause: byte(&mut data) }
            }
            5 => Step::End { to_server, kind: byte(&mut data) },
            6 => Step::Conflict { to_server },
            _ => Step::Wait { tens_of_millis: byte(&mut data) },
        });
    }
    steps
}

/// Writes steps so that [`read`] reads them: for seeds.
pub fn write(steps: &[Step]) -> Vec<u8> {
    let mut out = Vec::new();
    for step in steps {
        let mut op = |kind: u8, to_server: bool| out.push(kind << 1 | u8::from(!to_server));
        match step {
            Step::Data { to_server, bytes, segment_start } => {
                op(if *segment_start { 0 } else { 3 }, *to_server);
                let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
                out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Step::Gap { to_server, length, cause } => {
                op(4, *to_server);
                out.extend_from_slice(&(length.saturating_sub(1).min(65_535) as u16).to_le_bytes());
                out.push(*cause);
            }
            Step::End { to_server, kind } => {
                op(5, *to_server);
                out.push(*kind);
            }
            Step::Conflict { to_server } => op(6, *to_server),
            Step::Wait { tens_of_millis } => {
                op(7, true);
                out.push(*tens_of_millis);
            }
        }
    }
    out
}

/// The same conversation, its data byte by byte.
pub fn cut(steps: &[Step]) -> Vec<Step> {
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::Data { to_server, bytes, segment_start } if !bytes.is_empty() => {
                for (place, byte) in bytes.iter().enumerate() {
                    let segment_start = *segment_start && place == 0;
                    out.push(Step::Data { to_server: *to_server, bytes: vec![*byte], segment_start });
                }
            }
            other => out.push(other.clone()),
        }
    }
    out
}

/// The causes, by number.
pub const CAUSES: [GapCause; 5] =
    [GapCause::AckedUnseen, GapCause::CaptureLoss, GapCause::Truncated, GapCause::Budget, GapCause::Deadline];
/// The ends, by number.
pub const ENDS: [EndKind; 4] = [EndKind::Fin, EndKind::Reset, EndKind::Abandoned, EndKind::CaptureEnd];

/// Has the conversation decoded, and checks what came out.
pub fn run(config: Config, mid_stream: bool, steps: &[Step]) -> Vec<Box<Exchange>> {
    run_and_count(config, mid_stream, steps).0
}

/// The same; also tells whether every octet was understood as HTTP.
pub fn run_and_count(config: Config, mid_stream: bool, steps: &[Step]) -> (Vec<Box<Exchange>>, bool) {
    let mut decoder = Decoder::new(config);
    let mut out = Vec::new();
    let flow = FlowId(7);
    let mut time = Timestamp(1_795_419_000_000_000_000);
    let ends = Ends {
        client: SocketAddr::from(([10, 42, 0, 2], 40_000)),
        server: SocketAddr::from(([10, 42, 0, 12], 8080)),
    };
    let handshake = if mid_stream { Handshake::MidStream } else { Handshake::Seen };
    decoder.push(Event::Opened(Opened { flow, ends, time, handshake }), &mut out);
    let mut next = [if mid_stream { MID_STREAM_BASE } else { 0 }; 2];
    let mut ended = [false; 2];
    let mut fed = 0;
    let side = |to_server: bool| usize::from(!to_server);
    let direction = |to_server: bool| if to_server { Direction::ToServer } else { Direction::ToClient };
    for step in steps {
        // The pieces of one segment have the segment's time.
        if !matches!(step, Step::Data { segment_start: false, .. }) {
            time = time.plus_nanos(1_000);
        }
        match step {
            Step::Data { to_server, bytes, segment_start }
                if !ended[side(*to_server)] && !bytes.is_empty() =>
            {
                fed += bytes.len();
                let offset = next[side(*to_server)];
                next[side(*to_server)] += bytes.len() as u64;
                let data = Data {
                    flow,
                    direction: direction(*to_server),
                    time,
                    interface: Interface::Declared(0),
                    offset,
                    bytes: Cow::Borrowed(bytes),
                    segment_start: *segment_start,
                    starts: 0,
                    ack: Some(next[side(!to_server)]),
                };
                decoder.push(Event::Data(data), &mut out);
            }
            Step::Gap { to_server, length, cause } if !ended[side(*to_server)] => {
                let offset = next[side(*to_server)];
                next[side(*to_server)] += length;
                let cause = CAUSES[usize::from(*cause) % CAUSES.len()];
                let direction = direction(*to_server);
                decoder.push(Event::Gap { flow, direction, time, offset, length: *length, cause }, &mut out);
            }
            Step::End { to_server, kind } if !ended[side(*to_server)] => {
                ended[side(*to_server)] = true;
                let kind = ENDS[usize::from(*kind) % ENDS.len()];
                decoder.push(Event::End { flow, direction: direction(*to_server), time, kind }, &mut out);
            }
            Step::Conflict { to_server } if !ended[side(*to_server)] => {
                let offset = next[side(*to_server)].saturating_sub(1);
                decoder
                    .push(Event::Conflict { flow, direction: direction(*to_server), time, offset }, &mut out);
            }
            Step::Wait { tens_of_millis } => time = time.plus_nanos(u64::from(*tens_of_millis) * 10_000_000),
            _ => {}
        }
        let held = decoder.counters().held;
        assert!(held <= config.body_budget as u64, "{held} octets of bodies held, of {}", config.body_budget);
    }
    for to_server in [true, false] {
        if !ended[side(to_server)] {
            let kind = EndKind::CaptureEnd;
            decoder.push(Event::End { flow, direction: direction(to_server), time, kind }, &mut out);
        }
    }
    decoder.finish(&mut out);
    assert_eq!(decoder.counters().held, 0, "nothing is held after the end");
    assert_eq!(decoder.counters().exchanges, out.len() as u64, "every exchange is counted");
    assert!(out.len() <= fed, "every exchange has at least one byte of its own");
    check::ids_differ(out.iter().map(|e| &**e));
    let unknown = sniffer::activitypub::Reading::unknown();
    for exchange in &out {
        check::exchange(exchange, &config);
        check::json(exchange, &unknown);
    }
    let counters = decoder.counters();
    let understood = counters.hunted_bytes == 0 && counters.other_flows.is_empty();
    (out, understood)
}
