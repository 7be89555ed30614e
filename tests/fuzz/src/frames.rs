//! Frames into the flow stage: any bytes, of any link type, with any snap length.

use std::collections::HashMap;

use sniffer::flow::{Config, Event, FlowId, Tracker};
use sniffer::frame::{Frame, Interface, LinkType, Timestamp};

/// The link types, by number.
const LINKS: [LinkType; 10] = [
    LinkType::Ethernet,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::Raw,
    LinkType::Null,
    LinkType::Loop,
    LinkType::Ipv4,
    LinkType::Ipv6,
    LinkType::Nflog,
    LinkType::Other(147),
];

/// Each frame: link type and interface (u8), bytes that the snap length cut off (u8), tens of milliseconds since the
/// last (u8), length (u8), bytes.
pub fn run(mut data: &[u8]) {
    // A small table, so that eviction is reached.
    let config = Config { flows_limit: 8, fragments_budget: 4096, ..Config::default() };
    let mut tracker = Tracker::new(config);
    let mut flows = Flows::default();
    let mut time = Timestamp(1_795_419_000_000_000_000);
    let mut frames = 0;
    while let [link, cut, wait, length, rest @ ..] = data {
        let bytes = &rest[..usize::from(*length).min(rest.len())];
        data = &rest[bytes.len()..];
        time = time.plus_nanos(u64::from(*wait) * 10_000_000);
        frames += 1;
        if tracker.deadline().is_some_and(|at| at <= time) {
            let mut out = Vec::new();
            tracker.expire(time, &mut out);
            flows.take(&out, None);
            assert!(tracker.deadline().is_none_or(|at| at > time), "what was due is still due");
        }
        let frame = Frame {
            time,
            interface: Interface::Declared(u32::from(link >> 4)),
            hook: None,
            link: LINKS[usize::from(link & 15) % LINKS.len()],
            bytes,
            wire_length: bytes.len() as u32 + u32::from(*cut),
        };
        let mut out = Vec::new();
        tracker.push(&frame, &mut out);
        flows.take(&out, Some(&frame));
        // A frame holds one segment; opening its flow may evict or replace another.
        assert!(out.len() <= 4, "{} events of one frame", out.len());
    }
    let mut out = Vec::new();
    tracker.finish(&mut out);
    flows.take(&out, None);
    let counters = tracker.counters();
    assert_eq!(counters.frames, frames, "every frame is counted");
    // A flow that never carried a byte is counted and not told.
    assert!(flows.opened <= counters.flows, "a flow that was not counted");
    assert!(flows.segments <= counters.segments, "a segment that was not counted");
}

#[derive(Default)]
struct Flows {
    /// Whether each flow is still open.
    open: HashMap<FlowId, bool>,
    opened: u64,
    segments: u64,
}

impl Flows {
    fn take(&mut self, events: &[Event<'_>], frame: Option<&Frame<'_>>) {
        for event in events {
            match event {
                Event::Opened(opened) => {
                    self.opened += 1;
                    assert!(self.open.insert(opened.flow, true).is_none(), "a flow's number used twice");
                    let live = self.open.values().filter(|open| **open).count();
                    assert!(live <= 8, "{live} flows open, the limit is 8");
                }
                Event::Segment(segment) => {
                    self.segments += 1;
                    assert_eq!(self.open.get(&segment.flow), Some(&true), "a segment of no open flow");
                    // Put together from fragments it may be longer than the last one.
                    if let (Some(frame), std::borrow::Cow::Borrowed(payload)) = (frame, &segment.payload) {
                        // A header of 16 bits may say more than was on the wire (NFLOG does not know the wire).
                        let most = (frame.wire_length as usize).max(40 + usize::from(u16::MAX));
                        assert!(payload.len() + segment.missing as usize <= most, "longer than the frame");
                    }
                }
                Event::Closed { flow, .. } => {
                    assert_eq!(
                        self.open.insert(*flow, false),
                        Some(true),
                        "a flow that was not open is closed"
                    );
                }
            }
        }
    }
}
