//! Segments into reassembly, against a simple twin: each direction is a fixed text, every segment a piece of it, in any
//! order, overlapping, cut short, acknowledged or not. What comes out must tile the offsets exactly once, carry the
//! text, and declare nothing missing that had been given.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;

use arbitrary::Arbitrary;
use sniffer::flow::{
    self, CloseReason, Direction, Ends, Flags, FlowId, Handshake, MID_STREAM_BASE, Opened, Segment,
};
use sniffer::frame::{Interface, Loss, Timestamp};
use sniffer::stream::{Config, Event, GapCause, Reassembler};

/// What a fuzzer chooses.
#[derive(Arbitrary, Debug)]
pub struct Plan {
    /// Bytes for all flows, in units of 256.
    budget: u8,
    flow_budget: u8,
    holes: u8,
    operations: Vec<Operation>,
}

/// One event.
#[derive(Arbitrary, Debug)]
enum Operation {
    /// A segment.
    Segment {
        flow: bool,
        to_server: bool,
        /// In the text, which is 16 KiB.
        offset: u16,
        length: u16,
        missing: u8,
        /// How far the other direction was received, in the text.
        ack: Option<u16>,
        fin: bool,
        rst: bool,
        /// Its bytes are not the text's.
        differs: bool,
    },
    /// Time passes, in units of 10 ms.
    Wait(u16),
    /// The source lost frames.
    Lost,
    /// The flow is closed.
    Close(bool),
}

const TEXT: u64 = 16 << 10;

fn text(to_server: bool, offset: u64, differs: bool) -> u8 {
    let byte = (offset.wrapping_mul(31) >> 3) as u8 ^ u8::from(to_server);
    if differs { !byte } else { byte }
}

/// One direction of one flow, as the twin knows it.
#[derive(Default)]
struct Side {
    /// Where the next event must begin; `None` until the first.
    next: Option<u64>,
    ended: bool,
    /// Which bytes of the text were given, as the text has them and otherwise.
    given: Vec<[bool; 2]>,
}

struct Twin {
    sides: HashMap<(FlowId, bool), Side>,
    base: HashMap<FlowId, u64>,
    delivered: u64,
    missing: u64,
    budget: u64,
}

/// Runs a plan.
pub fn run(plan: &Plan) {
    let config = Config {
        budget: 256 * (1 + usize::from(plan.budget)),
        flow_budget: 256 * (1 + usize::from(plan.flow_budget)),
        holes_limit: 1 + usize::from(plan.holes % 32),
        ..Config::default()
    };
    let mut reassembler = Reassembler::new(config);
    let mut twin = Twin {
        sides: HashMap::new(),
        base: HashMap::new(),
        delivered: 0,
        missing: 0,
        budget: config.budget as u64,
    };
    let mut time = Timestamp(1_795_419_000_000_000_000);
    // The current number of each of the two flows; a closed one is followed by a new one.
    let mut current = [None::<FlowId>; 2];
    let mut numbers = 0;
    let mut out = Vec::new();
    for operation in &plan.operations {
        match operation {
            Operation::Segment { flow, to_server, offset, length, missing, ack, fin, rst, differs } => {
                let slot = usize::from(*flow);
                let id = *current[slot].get_or_insert_with(|| {
                    numbers += 1;
                    // The first flow's beginning was seen, the second's was not.
                    let handshake = if *flow { Handshake::MidStream } else { Handshake::Seen };
                    let opened = Opened { flow: FlowId(numbers), ends: ends(numbers), time, handshake };
                    twin.base.insert(opened.flow, if *flow { MID_STREAM_BASE } else { 0 });
                    reassembler.push(flow::Event::Opened(opened), &mut out);
                    opened.flow
                });
                let base = twin.base[&id];
                let from = u64::from(*offset) % TEXT;
                let length = (u64::from(*length) % 2048).min(TEXT - from);
                let bytes: Vec<u8> = (from..from + length).map(|o| text(*to_server, o, *differs)).collect();
                let side = twin.sides.entry((id, *to_server)).or_default();
                side.given.resize(TEXT as usize, [false; 2]);
                for byte in from..from + length {
                    side.given[byte as usize][usize::from(*differs)] = true;
                }
                let segment = Segment {
                    flow: id,
                    direction: if *to_server { Direction::ToServer } else { Direction::ToClient },
                    time,
                    interface: Interface::Declared(0),
                    offset: base + from,
                    payload: Cow::Owned(bytes),
                    missing: u32::from(*missing),
                    flags: Flags { syn: false, fin: *fin, rst: *rst },
                    ack: ack.map(|a| base + u64::from(a) % (2 * TEXT)),
                };
                reassembler.push(flow::Event::Segment(segment), &mut out);
            }
            Operation::Wait(tens) => {
                time = time.plus_nanos(u64::from(*tens) * 10_000_000);
                if reassembler.deadline().is_some_and(|at| at <= time) {
                    reassembler.expire(time, &mut out);
                    assert!(reassembler.deadline().is_none_or(|at| at > time), "what was due is still due");
                }
            }
            Operation::Lost => reassembler.lost(&Loss { time, interface: Interface::Declared(0), frames: 1 }),
            Operation::Close(flow) => {
                if let Some(id) = current[usize::from(*flow)].take() {
                    let closed = flow::Event::Closed { flow: id, time, reason: CloseReason::Idle };
                    reassembler.push(closed, &mut out);
                    twin.take(&mut out);
                    twin.all_ended(id);
                }
            }
        }
        twin.take(&mut out);
        let held = reassembler.counters().held;
        assert!(held <= twin.budget, "{held} bytes held, of {}", twin.budget);
    }
    reassembler.finish(time, &mut out);
    twin.take(&mut out);
    for id in current.into_iter().flatten() {
        twin.all_ended(id);
    }
    let counters = reassembler.counters();
    assert_eq!(counters.held, 0, "nothing is held after the end");
    assert!(counters.held_peak <= twin.budget, "{} bytes were held, of {}", counters.held_peak, twin.budget);
    assert_eq!(counters.delivered, twin.delivered, "delivered bytes are counted");
    assert_eq!(counters.gap_bytes, twin.missing, "missing bytes are counted");
}

fn ends(number: u64) -> Ends {
    Ends {
        client: SocketAddr::from(([10, 42, 0, 2], 40_000 + (number % 1000) as u16)),
        server: SocketAddr::from(([10, 42, 0, 12], 8080)),
    }
}

impl Twin {
    fn take(&mut self, events: &mut Vec<Event<'_>>) {
        for event in events.drain(..) {
            match event {
                Event::Opened(_) | Event::Conflict { .. } => {}
                Event::Data(data) => {
                    let length = data.bytes.len() as u64;
                    assert!(length > 0, "data of no bytes");
                    let (side, from) = self.go_on(data.flow, data.direction, data.offset, length);
                    self.delivered += length;
                    for (place, byte) in data.bytes.iter().enumerate() {
                        let offset = from + place as u64;
                        let given = self.sides[&side].given[offset as usize];
                        let right = (given[0] && *byte == text(side.1, offset, false))
                            || (given[1] && *byte == text(side.1, offset, true));
                        assert!(right, "a byte that no segment had, at {offset}");
                    }
                }
                Event::Gap { flow, direction, offset, length, cause, .. } => {
                    assert!(length > 0, "a gap of nothing");
                    let (side, from) = self.go_on(flow, direction, offset, length);
                    self.missing += length;
                    let given = &self.sides[&side].given;
                    let known =
                        (from..from + length).find(|o| given.get(*o as usize).is_some_and(|g| g[0] || g[1]));
                    // What the budget could not keep is missing, and said to be.
                    assert!(
                        cause == GapCause::Budget || known.is_none(),
                        "{known:?} is declared missing ({cause:?}), and was given"
                    );
                }
                Event::End { flow, direction, .. } => {
                    let side = self.sides.entry((flow, direction == Direction::ToServer)).or_default();
                    assert!(!side.ended, "a direction that ends twice");
                    side.ended = true;
                }
            }
        }
    }

    /// The next event of a direction begins where the last one ended. Gives the place in the text.
    fn go_on(
        &mut self,
        flow: FlowId,
        direction: Direction,
        offset: u64,
        length: u64,
    ) -> ((FlowId, bool), u64) {
        let key = (flow, direction == Direction::ToServer);
        let base = self.base[&flow];
        let side = self.sides.entry(key).or_default();
        assert!(!side.ended, "something after the end");
        // A stream whose beginning was seen begins at 0; another where its first bytes are.
        let expected = side.next.unwrap_or(if base == 0 { 0 } else { offset });
        assert_eq!(offset, expected, "delivered bytes and gaps must tile the offsets");
        side.next = Some(offset + length);
        (key, offset - base)
    }

    fn all_ended(&self, flow: FlowId) {
        for to_server in [true, false] {
            // A direction that was never met here has ended all the same.
            let ended = self.sides.get(&(flow, to_server)).is_some_and(|side| side.ended);
            assert!(ended, "{flow:?} is over, and a direction has no end");
        }
    }
}
