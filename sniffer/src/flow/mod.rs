//! From frames to segments: finds the TCP segment in a frame, the flow it belongs to, its direction, and its place
//! in the stream as a 64-bit offset. Sequence numbers (RFC 9293 §3.4) end here; nothing after this stage sees one.
//! It never reorders and never judges what is data and what is a hole: that is the stream's work.

pub mod datagram;
mod fragments;
mod guess;
mod packet;
mod seq;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::flow::fragments::{Fragments, Outcome};
use crate::flow::packet::{Content, Packet, Skip, Tcp};
use crate::flow::table::{End, Entry, Key, Place, Table};
use crate::frame::{Frame, Interface, Timestamp};

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
    /// is 0. A stream picked up mid-way starts at (or, where the other end's acknowledgement was seen first, near)
    /// [`MID_STREAM_BASE`], so that earlier bytes that arrive late still have a place below it. Each direction has its
    /// own beginning: [`begins_at_zero`]. With `flags.syn` this is the offset of the stream's first byte.
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

/// Whether a direction that shows `offset` in its first segment began with a SYN that was seen, so that its first byte
/// is 0. (The first segment lies within 1 GiB of where its direction begins.)
pub fn begins_at_zero(offset: u64) -> bool {
    offset < MID_STREAM_BASE >> 1
}

/// Why a flow is over, as far as this stage can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// Both sides sent FIN and acknowledged, or RST was seen, and time has passed for late segments.
    Finished,
    /// A new SYN took the same addresses and ports (port reuse).
    Replaced,
    /// Nothing was seen for the idle time.
    Idle,
    /// The table was full, or the memory spent; this flow was the least recently seen.
    Evicted,
}

/// What this stage gives.
#[derive(Clone, PartialEq, Debug)]
pub enum Event<'a> {
    /// A flow begins; always before its first segment. Told when the first payload comes: connections that carry
    /// none (refused, scanned, flooded) are counted only. [`Opened::time`] is still the first segment's.
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
    /// Segments that no receiver would take and that were dropped: sequence numbers absurdly far from all that was seen.
    pub out_of_window: u64,
    /// Flows met, those without any payload among them (which are not told of otherwise).
    pub flows: u64,
    /// Flows evicted because the table was full or the memory spent.
    pub flows_evicted: u64,
}

/// Limits of the flow table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Flows remembered at once; beyond it the least recently seen is closed as [`CloseReason::Evicted`], those that
    /// carried no payload first. Those may take a quarter of it.
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
#[derive(Debug)]
pub struct Tracker {
    config: Config,
    counters: Counters,
    /// The latest time of any frame: interfaces and CPUs have slightly different clocks, waiting needs one.
    now: Timestamp,
    fragments: Fragments,
    table: Table,
    /// Finished flows in the order in which they are to be forgotten.
    lingering: VecDeque<(Timestamp, Place, FlowId)>,
    next_id: u64,
}

/// A SYN with another initial number on a flow that was silent for this long (ns) begins a new connection at once; a
/// busy flow needs a second witness (RFC 9293 §3.10.7.4 has the receiver challenge such a SYN).
const SILENT_NANOS: u64 = 60_000_000_000;
/// A SYN that comes later than the data that follows it, within this time (ns) and distance, was overtaken.
const OVERTAKEN_NANOS: u64 = 1_000_000_000;
const OVERTAKEN_BYTES: i32 = 1 << 20;
/// Flows that are closed by one call of [`Tracker::expire`]: after an hour's pause in a capture all of them are due, and
/// the events would take as much memory as the flows.
pub const EXPIRED_AT_ONCE: usize = 1024;
/// Listed flows that are gone, which are not worth the work of taking them off the list.
const LINGERING_SLACK: usize = 1024;
/// How far from the highest number seen a RST is believed: a blind one hits it once in 128 tries.
const RST_DISTANCE: u32 = 1 << 24;
/// A finished flow's ports are in use again when data comes from this far beyond its end.
const BEYOND_END: u64 = 1 << 20;

impl Default for Tracker {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

/// One TCP segment before it has a flow.
struct Found<'a> {
    time: Timestamp,
    interface: Interface,
    key: Key,
    sender: End,
    tcp: Tcp,
    payload: Cow<'a, [u8]>,
    missing: u32,
}

impl Found<'_> {
    /// Payload bytes on the wire; a segment has less than 4 GiB.
    fn length(&self) -> u32 {
        u32::try_from(self.payload.len()).unwrap_or(u32::MAX).saturating_add(self.missing)
    }

    /// The number of the first payload byte: SYN takes one (RFC 9293 §3.4).
    fn first(&self) -> u32 {
        self.tcp.seq.wrapping_add(u32::from(self.tcp.flags.syn))
    }
}

impl Tracker {
    /// An empty table.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            counters: Counters::default(),
            now: Timestamp::default(),
            fragments: Fragments::new(config.fragments_budget, config.fragments_nanos),
            table: Table::new(config.flows_limit),
            lingering: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Takes a frame; appends what follows from it to `out`.
    pub fn push<'a>(&mut self, frame: &Frame<'a>, out: &mut Vec<Event<'a>>) {
        let counters = &mut self.counters;
        add(&mut counters.frames, 1);
        add(&mut counters.wire_bytes, u64::from(frame.wire_length));
        if (frame.bytes.len() as u64) < u64::from(frame.wire_length) {
            add(&mut counters.truncated, 1);
        }
        self.now = self.now.max(frame.time);
        let packet = match packet::decode(frame) {
            Ok(packet) => packet,
            Err(skip) => {
                add(
                    match skip {
                        Skip::NotIp => &mut counters.not_ip,
                        Skip::Malformed => &mut counters.malformed,
                        Skip::UnknownLink => &mut counters.unknown_link,
                    },
                    1,
                );
                return;
            }
        };
        match packet.content {
            Content::Tcp(cut) => {
                self.segment(frame.time, &packet, Cow::Borrowed(cut.bytes), cut.missing, out);
            }
            Content::Other(..) => add(&mut counters.other_ip, 1),
            Content::Fragment(fragment) => {
                add(&mut counters.fragments, 1);
                let outcome = self.fragments.push(self.now, packet.source, packet.destination, &fragment);
                self.counters.fragments_lost = self.fragments.lost;
                match outcome {
                    Outcome::Waiting => {}
                    Outcome::Other => add(&mut self.counters.other_ip, 1),
                    Outcome::Whole(whole) => {
                        self.segment(frame.time, &packet, Cow::Owned(whole.bytes), whole.missing, out);
                    }
                }
            }
        }
    }

    /// When [`Self::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Timestamp> {
        let lingering = self.lingering.front().map(|(due, ..)| *due);
        let idle = self.table.oldest().and_then(|place| self.table.get(place)).map(|entry| self.idle_due(entry));
        [lingering, idle, self.fragments.deadline()].into_iter().flatten().min()
    }

    /// Closes what is due at `now`, but no more than [`EXPIRED_AT_ONCE`]: as long as [`Self::deadline`] is due, there is
    /// more.
    pub fn expire(&mut self, now: Timestamp, out: &mut Vec<Event<'_>>) {
        let full = out.len().saturating_add(EXPIRED_AT_ONCE);
        self.now = self.now.max(now);
        self.fragments.expire(now);
        self.counters.fragments_lost = self.fragments.lost;
        while out.len() < full
            && let Some((_, place, id)) = self.lingering.pop_front_if(|(due, ..)| *due <= now)
        {
            if self.table.get(place).is_some_and(|entry| entry.id == id && entry.finished) {
                self.close(place, CloseReason::Finished, out);
            }
        }
        while out.len() < full
            && let Some(place) = self.table.oldest()
            && self.table.get(place).is_some_and(|entry| self.idle_due(entry) <= now)
        {
            self.close(place, CloseReason::Idle, out);
        }
    }

    /// The capture ended. Open flows are *not* closed here: the next stage's `finish` ends them as `CaptureEnd`.
    pub fn finish(&mut self, _out: &mut Vec<Event<'_>>) {}

    /// What was seen so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Octets of memory that the table and what waits for fragments take.
    pub fn memory(&self) -> usize {
        let lingering = self.lingering.capacity().saturating_mul(size_of::<(Timestamp, Place, FlowId)>());
        self.table.memory().saturating_add(lingering).saturating_add(self.fragments.memory())
    }

    /// There is no memory for all the flows: closes the one that was not heard of for longest, of those that later
    /// stages know. False when there is none.
    pub fn evict(&mut self, out: &mut Vec<Event<'_>>) -> bool {
        let Some(place) = self.table.oldest_told() else { return false };
        self.close(place, CloseReason::Evicted, out);
        true
    }

    fn idle_due(&self, entry: &Entry) -> Timestamp {
        entry.seen().plus_nanos(self.config.idle_nanos)
    }

    /// A TCP segment, header first, was found in a packet.
    fn segment<'a>(
        &mut self,
        time: Timestamp,
        packet: &Packet<'_>,
        bytes: Cow<'a, [u8]>,
        missing: u32,
        out: &mut Vec<Event<'a>>,
    ) {
        let length = (bytes.len() as u64).saturating_add(u64::from(missing));
        let Some(tcp) = packet::tcp(&bytes, length) else {
            add(&mut self.counters.malformed, 1);
            return;
        };
        add(&mut self.counters.segments, 1);
        // Options that were not captured are no payload.
        let cut_options = tcp.header.saturating_sub(bytes.len());
        let missing = missing.saturating_sub(u32::try_from(cut_options).unwrap_or(u32::MAX));
        let payload = match bytes {
            Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(tcp.header..).unwrap_or_default()),
            Cow::Owned(mut bytes) => {
                bytes.drain(..tcp.header.min(bytes.len()));
                Cow::Owned(bytes)
            }
        };
        let (key, sender) =
            Key::new((packet.source, tcp.source), (packet.destination, tcp.destination));
        let found = Found { time, interface: packet.interface, key, sender, tcp, payload, missing };
        let place = match self.table.find(&key) {
            Some(place) => self.admit(place, &found, out),
            None => self.open(&found, out),
        };
        if let Some(place) = place {
            self.place(place, found, out);
        }
    }

    /// Decides whether a segment belongs to the flow that has its ends. Gives the flow that it does belong to (a new
    /// one where the ports are used again), or nothing when it is not believed.
    fn admit(&mut self, place: Place, found: &Found<'_>, out: &mut Vec<Event<'_>>) -> Option<Place> {
        let now = self.now;
        let entry = self.table.get_mut(place)?;
        let Tcp { seq, ack, flags, .. } = found.tcp;
        let side = entry.side(found.sender);
        if flags.syn && !flags.rst {
            if side.isn() == Some(seq) {
                return Some(place);
            }
            let peer = entry.side(found.sender.other());
            // The SYN of the other end that this one would answer, or cross.
            let answers = |isn: u32| ack.is_none_or(|ack| ack.wrapping_sub(isn.wrapping_add(1)) < 1 << 16);
            let overtaken = side.isn().is_none()
                && side.known()
                && peer.isn().is_none_or(answers)
                && (0..=OVERTAKEN_BYTES).contains(&side.behind(seq.wrapping_add(1)))
                && now.nanos_since(entry.opened) <= OVERTAKEN_NANOS;
            let begins = side.isn().is_none() && !side.known() && peer.isn().is_some_and(answers);
            if overtaken {
                entry.side_mut(found.sender).name_isn(seq);
                return Some(place);
            }
            if begins {
                entry.side_mut(found.sender).begin_syn(seq);
                return Some(place);
            }
            let confirmed = entry
                .pending
                .is_some_and(|(from, isn)| from != found.sender && ack == Some(isn.wrapping_add(1)));
            if confirmed || entry.finished || !entry.told || now.nanos_since(entry.seen()) >= SILENT_NANOS {
                return self.replace(place, found, out);
            }
            if ack.is_none() {
                entry.pending = Some((found.sender, seq));
            } else {
                add(&mut self.counters.out_of_window, 1);
            }
            return None;
        }
        if let Some((from, isn)) = entry.pending
            && from == found.sender
            && seq == isn.wrapping_add(1)
            && !flags.rst
        {
            return self.replace(place, found, out);
        }
        if flags.rst {
            // A refused SYN is answered with sequence number 0 and its own acknowledgement (RFC 9293 §3.10.7.1).
            let near = side.known() && side.behind(seq).unsigned_abs() <= RST_DISTANCE;
            let peer = entry.side(found.sender.other());
            let refuses = ack.is_some_and(|ack| {
                peer.known() && !entry.told && peer.behind(ack).unsigned_abs() <= RST_DISTANCE
            });
            if near || refuses || !side.known() {
                return Some(place);
            }
            add(&mut self.counters.out_of_window, 1);
            return None;
        }
        if entry.finished && found.length() > 1 && side.known() {
            let high = side.high();
            let reused = side.offset(seq).is_none_or(|offset| {
                offset > high.saturating_add(BEYOND_END) || (side.fin && offset > high)
            });
            if reused {
                return self.replace(place, found, out);
            }
        }
        Some(place)
    }

    /// Ends the flow with these ends and begins another.
    fn replace(&mut self, place: Place, found: &Found<'_>, out: &mut Vec<Event<'_>>) -> Option<Place> {
        let pending = self.table.get(place).and_then(|entry| entry.pending);
        self.close(place, CloseReason::Replaced, out);
        let place = self.open(found, out)?;
        // The SYN that was held in doubt was the new connection's.
        if let Some((from, isn)) = pending
            && let Some(entry) = self.table.get_mut(place)
            && entry.side(from).isn().is_none()
            && (!entry.side(from).known() || entry.side(from).behind(isn.wrapping_add(1)) == 0)
        {
            entry.side_mut(from).begin_syn(isn);
            entry.client = from;
        }
        Some(place)
    }

    /// Begins a flow. Only a SYN or payload begins one: what follows a flow that is forgotten (late copies, the last
    /// acknowledgements, resets) tells nothing, and floods of it cost nothing.
    fn open(&mut self, found: &Found<'_>, out: &mut Vec<Event<'_>>) -> Option<Place> {
        let Tcp { seq, ack, flags, .. } = found.tcp;
        if flags.rst || (!flags.syn && found.length() == 0) {
            return None;
        }
        while self.table.is_full() {
            let least = self.table.least()?;
            self.close(least, CloseReason::Evicted, out);
        }
        let sender_is_client = if flags.syn {
            ack.is_none()
        } else {
            guess::sender_is_client(&found.payload, found.tcp.source, found.tcp.destination)
        };
        let client = if sender_is_client { found.sender } else { found.sender.other() };
        self.next_id = self.next_id.saturating_add(1);
        add(&mut self.counters.flows, 1);
        let place = self.table.insert(found.key, FlowId(self.next_id), client, found.time, self.now);
        let entry = self.table.get_mut(place)?;
        let (mine, theirs) = (found.sender, found.sender.other());
        if flags.syn {
            entry.side_mut(mine).begin_syn(seq);
            if let Some(ack) = ack {
                entry.side_mut(theirs).begin_syn(ack.wrapping_sub(1));
            }
        } else {
            entry.side_mut(mine).begin(seq, MID_STREAM_BASE);
        }
        Some(place)
    }

    /// Gives a segment its offsets, and tells of it.
    fn place<'a>(&mut self, place: Place, mut found: Found<'a>, out: &mut Vec<Event<'a>>) {
        let now = self.now;
        let Some(entry) = self.table.get_mut(place) else { return };
        let (mine, theirs) = (found.sender, found.sender.other());
        let Tcp { ack, flags, .. } = found.tcp;
        let first = found.first();
        let length = found.length();
        if !entry.side(mine).known() {
            entry.side_mut(mine).begin(first, MID_STREAM_BASE);
        }
        if let Some(ack) = ack
            && !flags.rst
            && !entry.side(theirs).known()
        {
            entry.side_mut(theirs).begin(ack, MID_STREAM_BASE);
        }
        let side = entry.side_mut(mine);
        let offset = match side.offset(first) {
            Some(offset) => offset,
            // A RST needs no place. A keep-alive probe before the first byte has a place before the first.
            None if flags.rst || (length <= 1 && side.offset(first.wrapping_add(1)) == Some(0)) => {
                found.payload = Cow::Borrowed(&[]);
                found.missing = 0;
                side.high()
            }
            None if length > 0 && side.stray(first, length) => side.high(),
            None => {
                add(&mut self.counters.out_of_window, 1);
                return;
            }
        };
        let length = found.length();
        side.advance(offset.saturating_add(u64::from(length)), first.wrapping_add(length));
        side.fin |= flags.fin;
        let ack = ack.and_then(|ack| entry.side(theirs).offset(ack));
        let finishes = !entry.finished && (flags.rst || entry.both_fins());
        entry.finished |= finishes;
        let (id, told) = (entry.id, entry.told);
        let tell = told || length > 0;
        if tell && !told {
            entry.told = true;
            let seen = entry.side(mine).isn().is_some() || entry.side(theirs).isn().is_some();
            out.push(Event::Opened(Opened {
                flow: id,
                ends: entry.ends(),
                time: entry.opened,
                handshake: if seen { Handshake::Seen } else { Handshake::MidStream },
            }));
        }
        let direction = if mine == entry.client { Direction::ToServer } else { Direction::ToClient };
        self.table.touch(place, now, tell);
        if finishes {
            self.lingering.push_back((now.plus_nanos(self.config.linger_nanos), place, id));
            self.tidy_lingering();
        }
        if tell {
            out.push(Event::Segment(Segment {
                flow: id,
                direction,
                time: found.time,
                interface: found.interface,
                offset,
                payload: found.payload,
                missing: found.missing,
                flags,
                ack,
            }));
        }
    }

    /// Flows that were replaced or evicted stay listed until their time: many of them must not pile up.
    fn tidy_lingering(&mut self) {
        if self.lingering.len() > self.table.len().saturating_mul(2).saturating_add(LINGERING_SLACK) {
            let table = &self.table;
            self.lingering
                .retain(|(_, place, id)| table.get(*place).is_some_and(|entry| entry.id == *id && entry.finished));
        }
    }

    fn close(&mut self, place: Place, reason: CloseReason, out: &mut Vec<Event<'_>>) {
        let Some(entry) = self.table.remove(place) else { return };
        if reason == CloseReason::Evicted {
            add(&mut self.counters.flows_evicted, 1);
        }
        if entry.told {
            out.push(Event::Closed { flow: entry.id, time: self.now, reason });
        }
    }
}

/// Counts; a counter that is full stays full.
fn add(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more);
}
