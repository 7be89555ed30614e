//! From frames to segments: finds the TCP segment in a frame, the flow it belongs to, its direction, and its place
//! in the stream as a 64-bit offset. Sequence numbers (RFC 9293 §3.4) end here; nothing after this stage sees one.
//! It never reorders and never judges what is data and what is a hole: that is the stream's work.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use crate::frame::{Interface, Timestamp};

/// Which way bytes travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// From the client to the server: requests.
    ToServer,
    /// From the server to the client: responses.
    ToClient,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub fn reverse(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// A flow's number within one run; never used twice, also when the same ports are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FlowId(pub u64);

/// The two ends of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct Ends {
    /// The end that opened the connection, or most likely did (see [`Opened::handshake`]).
    pub client: SocketAddr,
    /// The other end.
    pub server: SocketAddr,
}

/// How the beginning of a flow was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handshake {
    /// A SYN was seen: both ends are certain and offset 0 is the first byte of the stream.
    Seen,
    /// Picked up mid-stream: who is client was decided by the first bytes or the ports, and earlier bytes existed.
    MidStream,
}

/// A flow was met for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Its number.
    pub flow: FlowId,
    /// Its ends.
    pub ends: Ends,
    /// When its first segment was captured.
    pub time: Timestamp,
    /// How it began.
    pub handshake: Handshake,
}

/// TCP control bits that matter to a listener (RFC 9293 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags {
    /// Synchronize sequence numbers.
    pub syn: bool,
    /// No more data from sender.
    pub fin: bool,
    /// Reset the connection.
    pub rst: bool,
}

/// One TCP segment, placed in its stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// The flow it belongs to.
    pub flow: FlowId,
    /// Which way it travelled.
    pub direction: Direction,
    /// When it was captured.
    pub time: Timestamp,
    /// Where it was captured.
    pub interface: Interface,
    /// Offset of the first payload byte in its direction's stream. SYN takes none: the first byte after a seen SYN
    /// is 0. A stream picked up mid-way starts at [`MID_STREAM_BASE`], so that earlier bytes that arrive late still
    /// have a place below it.
    pub offset: u64,
    /// The payload that was captured. Owned only when it was put together from IP fragments.
    pub payload: Cow<'a, [u8]>,
    /// Payload bytes that were on the wire but not captured (snap length); they follow `payload`.
    pub missing: u32,
    /// Control bits.
    pub flags: Flags,
    /// How far the sender has received the *other* direction, as an offset there: `None` without ACK, or when that
    /// direction has no base yet. May exceed what was seen.
    pub ack: Option<u64>,
}

/// Where the offsets of a direction begin when its SYN was not seen.
pub const MID_STREAM_BASE: u64 = 1 << 32;

/// Why a flow is over, as far as this stage can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// Both sides sent FIN and acknowledged, or RST was seen, and time has passed for late segments.
    Finished,
    /// A new SYN took the same addresses and ports (port reuse).
    Replaced,
    /// Nothing was seen for the idle time.
    Idle,
    /// The table was full; this flow was the least recently seen.
    Evicted,
}

/// What this stage gives.
#[derive(Clone, PartialEq, Debug)]
pub enum Event<'a> {
    /// A flow begins; always before its first segment.
    Opened(Opened),
    /// A segment of an opened flow.
    Segment(Segment<'a>),
    /// No further segment will carry this flow's number.
    Closed {
        /// The flow.
        flow: FlowId,
        /// When.
        time: Timestamp,
        /// Why.
        reason: CloseReason,
    },
}

/// What was seen and not turned into segments, by cause. Shown, never hidden.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct Counters {
    /// Frames pushed.
    pub frames: u64,
    /// Bytes of those frames on the wire.
    pub wire_bytes: u64,
    /// Frames cut by the snap length.
    pub truncated: u64,
    /// TCP segments found.
    pub segments: u64,
    /// UDP, ICMP and other IP traffic.
    pub other_ip: u64,
    /// ARP, LLDP and other frames without IP.
    pub not_ip: u64,
    /// Frames whose headers could not be decoded.
    pub malformed: u64,
    /// Frames of a link type that is not supported.
    pub unknown_link: u64,
    /// IP fragments seen.
    pub fragments: u64,
    /// Datagrams given up because fragments never came or did not fit.
    pub fragments_lost: u64,
    /// Flows opened.
    pub flows: u64,
    /// Flows evicted because the table was full.
    pub flows_evicted: u64,
}

/// An address without a port, for those who need only that.
pub fn ip_of(end: SocketAddr) -> IpAddr {
    end.ip()
}

/// Limits of the flow table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Flows remembered at once; beyond it the least recently seen is closed as [`CloseReason::Evicted`].
    pub flows_limit: usize,
    /// A flow without frames for this long (ns of capture time) is closed as idle.
    pub idle_nanos: u64,
    /// After both FINs or a RST, how long late segments are still taken (ns).
    pub linger_nanos: u64,
    /// Bytes held for IP fragments.
    pub fragments_budget: usize,
    /// How long fragments wait for their siblings (ns; RFC 791 suggests 15 s as a lower bound).
    pub fragments_nanos: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flows_limit: 1 << 18,
            idle_nanos: 3_600 * 1_000_000_000,
            linger_nanos: 2 * 1_000_000_000,
            fragments_budget: 4 << 20,
            fragments_nanos: 15 * 1_000_000_000,
        }
    }
}

/// The stage: frames in, segments out.
#[derive(Debug, Default)]
pub struct Tracker {
    counters: Counters,
}

impl Tracker {
    /// An empty table.
    pub fn new(_config: Config) -> Self {
        Self::default()
    }

    /// Takes a frame; appends what follows from it to `out`.
    pub fn push<'a>(&mut self, _frame: &crate::frame::Frame<'a>, _out: &mut Vec<Event<'a>>) {}

    /// When [`Self::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Timestamp> {
        None
    }

    /// Closes what is due at `now`.
    pub fn expire(&mut self, _now: Timestamp, _out: &mut Vec<Event<'_>>) {}

    /// The capture ended. Open flows are *not* closed here: the next stage's `finish` ends them as `CaptureEnd`.
    pub fn finish(&mut self, _out: &mut Vec<Event<'_>>) {}

    /// What was seen so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
