//! From segments to a byte stream per direction: data in order, gaps with their cause, an end. What is delivered and
//! what is declared a gap tile the offsets exactly, once. First bytes win; a retransmission that differs is named.
//! It holds at most its byte budget, over all flows; whoever is evicted gets a gap, never silence.

use std::borrow::Cow;

use crate::flow::{Direction, FlowId, Opened};
use crate::frame::{Interface, Timestamp};

/// Why bytes are missing from a stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapCause {
    /// The receiver acknowledged the bytes, we never saw them (and waited for disordered frames).
    AckedUnseen,
    /// The capture source says that it lost frames.
    CaptureLoss,
    /// The capture kept only the beginning of a frame (snap length).
    Truncated,
    /// The byte budget was spent.
    Budget,
    /// The deadline passed without the bytes or an acknowledgement.
    Deadline,
}

/// How a direction ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EndKind {
    /// FIN, and all bytes before it were delivered or declared gaps.
    Fin,
    /// RST from either side.
    Reset,
    /// Idle too long, evicted, or replaced by a new connection on the same ports.
    Abandoned,
    /// The capture ended first: the connection may well have gone on.
    CaptureEnd,
}

/// What one direction of one flow did next.
#[derive(Clone, PartialEq, Debug)]
pub enum Event<'a> {
    /// A flow begins; always before its other events.
    Opened(Opened),
    /// The next bytes of a direction.
    Data(Data<'a>),
    /// Bytes that will never come. `offset + length` is where the direction goes on.
    Gap {
        /// The flow.
        flow: FlowId,
        /// The direction that lacks them.
        direction: Direction,
        /// When the gap was declared.
        time: Timestamp,
        /// The first missing byte.
        offset: u64,
        /// How many; never 0.
        length: u64,
        /// Why.
        cause: GapCause,
    },
    /// Nothing more will come in this direction. Given once per direction of every opened flow.
    End {
        /// The flow.
        flow: FlowId,
        /// The direction.
        direction: Direction,
        /// When.
        time: Timestamp,
        /// How.
        kind: EndKind,
    },
    /// A retransmission carried other bytes than the first copy, which was kept (a security signal).
    Conflict {
        /// The flow.
        flow: FlowId,
        /// The direction.
        direction: Direction,
        /// When the second copy came.
        time: Timestamp,
        /// The first differing byte.
        offset: u64,
    },
}

/// Bytes in order. One event is (part of) one segment: segments are never joined, so that a decoder that lost its
/// place can look for a message at a segment's first byte.
#[derive(Clone, PartialEq, Debug)]
pub struct Data<'a> {
    /// The flow.
    pub flow: FlowId,
    /// The direction.
    pub direction: Direction,
    /// When the segment was captured. Held segments keep their own time; it may lie before that of earlier events.
    pub time: Timestamp,
    /// Where it was captured.
    pub interface: Interface,
    /// Offset of the first byte in its direction.
    pub offset: u64,
    /// The bytes; never empty. Owned when they had to be held.
    pub bytes: Cow<'a, [u8]>,
    /// True when the first byte is also the first byte of the segment as it was sent (nothing was trimmed before).
    pub segment_start: bool,
    /// How far the sender had received the other direction when it sent this: which requests a response can answer.
    pub ack: Option<u64>,
}

/// What happened to the bytes. `delivered + gap` is every offset between a direction's begin and its end.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct Counters {
    /// Bytes given as data.
    pub delivered: u64,
    /// Bytes declared missing.
    pub gap_bytes: u64,
    /// Gaps declared.
    pub gaps: u64,
    /// Payload bytes that had been seen before (retransmission, or a second interface).
    pub duplicate_bytes: u64,
    /// Retransmissions whose bytes differed from the first copy.
    pub conflicts: u64,
    /// Bytes that arrived before the start of a stream picked up mid-way, after it had begun to be delivered.
    pub before_start: u64,
    /// Bytes held now, waiting for earlier ones, including the cost of holding them.
    pub held: u64,
    /// The most that was ever held.
    pub held_peak: u64,
    /// Directions whose held data was given up because the budget was spent.
    pub evicted: u64,
}

/// Limits and patience of reassembly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bytes held for all flows together, with the cost of holding them.
    pub budget: usize,
    /// Bytes held for one direction of one flow.
    pub flow_budget: usize,
    /// Holes in one direction (separate runs of held bytes).
    pub holes_limit: usize,
    /// How long (ns of capture time) a hole that the peer has acknowledged still waits for disordered frames:
    /// interfaces of one capture have slightly different clocks, and so have CPUs.
    pub disorder_nanos: u64,
    /// How long a hole waits that nobody acknowledges.
    pub deadline_nanos: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            budget: 16 << 20,
            flow_budget: 4 << 20,
            holes_limit: 4096,
            disorder_nanos: 100_000_000,
            deadline_nanos: 30_000_000_000,
        }
    }
}

/// The stage: segments in, ordered events out.
#[derive(Debug, Default)]
pub struct Reassembler {
    counters: Counters,
}

impl Reassembler {
    /// Holding nothing.
    pub fn new(_config: Config) -> Self {
        Self::default()
    }

    /// Takes a flow event; appends what follows from it to `out`.
    pub fn push<'a>(&mut self, _event: crate::flow::Event<'a>, _out: &mut Vec<Event<'a>>) {}

    /// The capture source lost frames: holes from now on may be its doing.
    pub fn lost(&mut self, _loss: &crate::frame::Loss) {}

    /// When [`Self::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Timestamp> {
        None
    }

    /// Declares the gaps that are due at `now`.
    pub fn expire(&mut self, _now: Timestamp, _out: &mut Vec<Event<'_>>) {}

    /// The capture ended: gives all that is held, with gaps between, and ends every open direction.
    pub fn finish(&mut self, _now: Timestamp, _out: &mut Vec<Event<'_>>) {}

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
