//! HTTP/2 in the clear (RFC 9113) for a listener: bytes of both directions in, an exchange a stream out. It starts at
//! the client's preface, after an Upgrade (RFC 7540 §3.2), or in the middle of a connection, where header compression
//! has a past that nobody saw: what is unknown then is `None`. After a hole it hunts for a believable frame header at a
//! segment's first byte. It never guesses a field, and never joins what a hole tore.

#![allow(clippy::vec_box, reason = "an exchange is large, and is moved often on its way to the store")]

mod frame;
mod stream;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;

use self::frame::{Chain, Head, Limits};
use self::stream::{Fields, Half, Stream};
use super::body::Budget;
use super::{Anomaly, AnomalyKind, Config, Exchange, GapMark, Interim, Request, exchange_id, hpack};
use crate::flow::{Direction, Ends, FlowId, MID_STREAM_BASE};
use crate::frame::{Interface, Timestamp};
use crate::stream::{Data, EndKind, GapCause};

/// Finished streams whose number is remembered while older streams may be unknown: their late frames open nothing.
const CLOSED_LIMIT: usize = 64;
/// A stream that a hole touched may have ended in it. After so long (ns of capture time) without another octet of it
/// nobody waits for its end any more.
const PATIENCE: u64 = 60_000_000_000;
/// Anomalies of the connection that wait for an exchange to be told with.
const ANOMALIES_LIMIT: usize = 16;

/// How a connection comes to speak HTTP/2.
#[derive(Debug)]
pub(super) enum Start {
    /// The client's next bytes are the connection preface; the server's next bytes are its first.
    Preface,
    /// Earlier bytes were not seen, in either direction.
    MidStream,
    /// An HTTP/1.1 request was answered with 101 and `Upgrade: h2c`: both directions begin after that.
    Upgraded(Box<Upgraded>),
}

/// The request that became stream 1.
#[derive(Debug)]
pub(super) struct Upgraded {
    /// It, whole.
    pub(super) request: Request,
    /// Where it was captured.
    pub(super) interface: Interface,
    /// The offset of its first byte.
    pub(super) offset: u64,
    /// Interim responses, 101 among them if it shall be told.
    pub(super) interim: Vec<Interim>,
    /// Holes that touch it.
    pub(super) gaps: Vec<GapMark>,
    /// What was odd about it.
    pub(super) anomalies: Vec<Anomaly>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct H2 {
    ends: Ends,
    flow: FlowId,
    to_server: Side,
    to_client: Side,
    /// Open streams by number: the first is the oldest of the client's.
    streams: BTreeMap<u32, Box<Stream>>,
    /// The highest stream that the client was seen to open.
    highest: u32,
    /// From this number to `highest` every opened stream was seen: one that is not in `streams` is finished.
    known_from: u32,
    /// Streams below `known_from` that are finished, the latest ones; a ring.
    closed: Vec<u32>,
    closed_next: usize,
    /// Answered streams whose request may still come, because the client's bytes up to that offset have not.
    waiting: BTreeSet<(u64, u32)>,
    anomalies: Vec<Anomaly>,
    hunted: u64,
    /// When to look for streams that a hole touched and that were not heard of since.
    overdue: Option<Timestamp>,
}

/// One direction.
#[derive(Debug)]
struct Side {
    place: Place,
    hpack: hpack::Decoder,
    /// What `hpack` holds beyond the default size, charged to the budget; a table of the default size is part of what a
    /// flow costs.
    charged: usize,
    /// The longest payload that the receiver allows, as far as it was seen to say so.
    max_frame: u32,
    /// A header block whose CONTINUATION has not come.
    block: Option<Box<Block>>,
    /// Frames may have been missed: a stream may have begun without us.
    missed: bool,
    /// Octets of unknown content since it was last in step.
    missed_octets: u64,
    /// Where the next byte belongs.
    position: u64,
    ended: Option<EndKind>,
}

#[derive(Debug)]
enum Place {
    /// In the client's preface, of which that much was there.
    Preface(usize),
    /// In (or just before) a frame header.
    Head { octets: [u8; frame::HEAD], have: usize, begin: Begin },
    /// In a DATA frame.
    Data(Content),
    /// In a frame that is taken whole.
    Whole(Box<Whole>),
    /// In a frame of no interest, or one that is broken: that many octets are left.
    Skip(u32),
    /// Out of step.
    Hunting,
}

/// Where and when a frame began.
#[derive(Clone, Copy, Debug)]
struct Begin {
    time: Timestamp,
    offset: u64,
}

const BETWEEN: Place =
    Place::Head { octets: [0; frame::HEAD], have: 0, begin: Begin { time: Timestamp(0), offset: 0 } };

#[derive(Clone, Copy, Debug)]
struct Content {
    stream: u32,
    end: bool,
    /// Octets of payload to come, padding among them.
    left: u32,
    /// How many of them are padding; `None` until the octet that says so.
    padding: Option<u32>,
    /// No octet of content has come.
    first: bool,
}

#[derive(Debug)]
struct Whole {
    head: Head,
    begin: Begin,
    held: Held,
}

/// Octets that are being collected, charged to the budget.
#[derive(Debug, Default)]
struct Held {
    octets: Vec<u8>,
    charged: usize,
}

impl Held {
    /// Adds octets; false when there is no memory for them.
    fn push(&mut self, bytes: &[u8], config: &Config, budget: &mut Budget) -> bool {
        let need = self.octets.len().saturating_add(bytes.len());
        if need > self.charged {
            // Room for the octets that came, not for those that were announced; doubled, so that many small pieces
            // stay linear.
            let want = need.max(self.charged.saturating_mul(2));
            if !budget.take(self.charged, want.saturating_sub(self.charged), config) {
                return false;
            }
            self.charged = want;
            self.octets.reserve_exact(want.saturating_sub(self.octets.len()));
        }
        self.octets.extend_from_slice(bytes);
        true
    }

    /// The octets, no longer charged.
    fn release(self, budget: &mut Budget) -> Vec<u8> {
        budget.give(self.charged);
        self.octets
    }
}

/// A header block in several frames (RFC 9113 §4.3).
#[derive(Debug)]
struct Block {
    head: Head,
    begin: Begin,
    /// The stream that a PUSH_PROMISE announces.
    promised: Option<u32>,
    held: Held,
}

/// Why a header block is not there to its end, and the hole if it is one.
#[derive(Clone, Copy, Debug)]
struct Cut {
    why: AnomalyKind,
    hole: Option<GapMark>,
}

/// One event's circumstances, handed down.
struct Now<'a> {
    direction: Direction,
    time: Timestamp,
    interface: Interface,
    ack: Option<u64>,
    config: &'a Config,
    budget: &'a mut Budget,
    out: &'a mut Vec<Box<Exchange>>,
}

impl Side {
    fn new(place: Place, hpack: hpack::Decoder) -> Self {
        let missed = matches!(place, Place::Hunting);
        let (max_frame, position) = if missed {
            (frame::BELIEVABLE_MAX_FRAME, MID_STREAM_BASE)
        } else {
            (frame::DEFAULT_MAX_FRAME, 0)
        };
        Self {
            place,
            hpack,
            charged: 0,
            max_frame,
            block: None,
            missed,
            missed_octets: 0,
            position,
            ended: None,
        }
    }
}

impl H2 {
    /// A connection that speaks HTTP/2 from here on.
    pub(super) fn new(ends: Ends, flow: FlowId, start: Start) -> Self {
        let mid_stream = matches!(start, Start::MidStream);
        let (to_server, to_client) = if mid_stream {
            let side = || Side::new(Place::Hunting, hpack::Decoder::mid_stream());
            (side(), side())
        } else {
            let side = |place| Side::new(place, hpack::Decoder::new());
            (side(Place::Preface(0)), side(BETWEEN))
        };
        let mut connection = Self {
            ends,
            flow,
            to_server,
            to_client,
            streams: BTreeMap::new(),
            highest: 0,
            known_from: if mid_stream { u32::MAX } else { 1 },
            closed: Vec::new(),
            closed_next: 0,
            waiting: BTreeSet::new(),
            anomalies: Vec::new(),
            hunted: 0,
            overdue: None,
        };
        if let Start::Upgraded(upgraded) = start {
            connection.upgrade(*upgraded);
        }
        connection
    }

    /// Octets skipped so far while hunting for a frame.
    pub(super) fn hunted(&self) -> u64 {
        self.hunted
    }

    /// The next bytes of a direction.
    pub(super) fn data(
        &mut self,
        data: &Data<'_>,
        config: &Config,
        budget: &mut Budget,
        out: &mut Vec<Box<Exchange>>,
    ) {
        let mut now = Now {
            direction: data.direction,
            time: data.time,
            interface: data.interface,
            ack: data.ack,
            config,
            budget,
            out,
        };
        if self.overdue.is_some_and(|overdue| now.time >= overdue) {
            self.give_up_torn(&mut now);
        }
        let bytes = &*data.bytes;
        if matches!(self.side(&now).place, Place::Hunting) {
            self.hunt(&now, bytes, data.segment_start);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = data.offset.saturating_add(bytes.len().saturating_sub(rest.len()) as u64);
            let taken = self.step(&mut now, offset, rest);
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.passed(&mut now, data.offset.saturating_add(bytes.len() as u64));
    }

    /// Bytes of a direction that will never come.
    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of stream::Event::Gap, and where the result goes"
    )]
    pub(super) fn gap(
        &mut self,
        direction: Direction,
        time: Timestamp,
        offset: u64,
        length: u64,
        cause: GapCause,
        config: &Config,
        budget: &mut Budget,
        out: &mut Vec<Box<Exchange>>,
    ) {
        let interface = Interface::Unknown;
        let mut now = Now { direction, time, interface, ack: None, config, budget, out };
        let mark = GapMark { to_server: direction == Direction::ToServer, offset, length, cause };
        self.miss(&mut now, mark);
        self.passed(&mut now, offset.saturating_add(length));
    }

    /// Nothing more will come in a direction. After the second one all that is open is told as far as it came.
    pub(super) fn end(
        &mut self,
        direction: Direction,
        time: Timestamp,
        kind: EndKind,
        config: &Config,
        budget: &mut Budget,
        out: &mut Vec<Box<Exchange>>,
    ) {
        let interface = Interface::Unknown;
        let mut now = Now { direction, time, interface, ack: None, config, budget, out };
        self.drop_frame(&mut now, cut_by(kind));
        self.side_mut(&now).ended = Some(kind);
        if direction == Direction::ToServer {
            self.passed(&mut now, u64::MAX);
        }
        if self.to_server.ended.is_some() && self.to_client.ended.is_some() {
            self.finish(now.config, now.budget, now.out);
        }
    }

    /// The connection is over, or given up: tells all that is open. Gives back everything to the budget.
    pub(super) fn finish(&mut self, config: &Config, budget: &mut Budget, out: &mut Vec<Box<Exchange>>) {
        for side in [&mut self.to_server, &mut self.to_client] {
            side.hpack.lose();
            budget.give(std::mem::take(&mut side.charged));
            if let Some(block) = side.block.take() {
                block.held.release(budget);
            }
            if let Place::Whole(whole) = std::mem::replace(&mut side.place, Place::Hunting) {
                whole.held.release(budget);
            }
        }
        self.waiting.clear();
        let kind = |side: &Side| side.ended.unwrap_or(EndKind::CaptureEnd);
        let (to_server, to_client) = (kind(&self.to_server), kind(&self.to_client));
        while let Some((number, mut stream)) = self.streams.pop_first() {
            for (direction, end) in [(Direction::ToServer, to_server), (Direction::ToClient, to_client)] {
                if !stream.open(direction) {
                    continue;
                }
                if stream.half(direction).is_none() {
                    if direction == Direction::ToClient {
                        stream.name(AnomalyKind::NoResponse, "");
                    }
                    continue;
                }
                if !stream.torn(direction) {
                    stream.name(cut_by(end), message(direction));
                }
            }
            self.tell(number, stream, config, budget, out);
        }
    }

    fn side(&self, now: &Now<'_>) -> &Side {
        match now.direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn side_mut(&mut self, now: &Now<'_>) -> &mut Side {
        match now.direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// RFC 7540 §3.2: the request is stream 1, half closed; its HTTP2-Settings are the client's first (§3.2.1).
    fn upgrade(&mut self, upgraded: Upgraded) {
        let Upgraded { request, interface, offset, interim, gaps, anomalies } = upgraded;
        if let Some(coded) = request.message.headers.get("http2-settings") {
            let padding = base64::engine::DecodePaddingMode::Indifferent;
            let config = base64::engine::GeneralPurposeConfig::new().with_decode_padding_mode(padding);
            let engine = base64::engine::GeneralPurpose::new(&base64::alphabet::URL_SAFE, config);
            if let Ok(settings) = engine.decode(coded) {
                self.settings(Direction::ToServer, &settings);
            }
        }
        let id = exchange_id(self.ends, request.message.first_byte, Direction::ToServer, offset, 1);
        let stream = Stream::upgraded(id, interface, Box::new(request), interim, gaps, anomalies);
        self.streams.insert(1, Box::new(stream));
        self.highest = 1;
    }
}

/// Frames.
impl H2 {
    /// Looks for the beginning of a frame at the first byte of a segment.
    fn hunt(&mut self, now: &Now<'_>, bytes: &[u8], segment_start: bool) {
        if !segment_start {
            return;
        }
        if now.direction == Direction::ToServer && bytes.starts_with(frame::PREFACE) {
            self.to_server.place = Place::Preface(0);
            self.to_server.hpack = hpack::Decoder::new();
            return;
        }
        let side = self.side(now);
        // Not many more streams can have been opened than the missed octets could open, at 16 and more each, and are
        // under way in the other direction. A header that is read one octet too late shows a number 256 times as high.
        let opened = u32::try_from(side.missed_octets.saturating_div(8)).unwrap_or(u32::MAX);
        let stream = match self.highest {
            0 => u32::MAX,
            highest => highest.saturating_add(opened).saturating_add(200),
        };
        if believed(bytes, side.max_frame, stream) {
            let side = self.side_mut(now);
            side.place = BETWEEN;
            side.missed_octets = 0;
        }
    }

    /// Takes what belongs to the current place off the front of `bytes`; gives how many octets, never 0.
    fn step(&mut self, now: &mut Now<'_>, offset: u64, bytes: &[u8]) -> usize {
        let side = self.side_mut(now);
        match &mut side.place {
            Place::Preface(have) => {
                let want = frame::PREFACE.get(*have..).unwrap_or_default();
                let taken = want.len().min(bytes.len());
                if bytes.get(..taken) != want.get(..taken) {
                    side.place = Place::Hunting;
                    side.hpack.lose();
                    self.odd("no client preface");
                    return bytes.len();
                }
                *have = have.saturating_add(taken);
                if *have >= frame::PREFACE.len() {
                    side.place = BETWEEN;
                }
                taken.max(1)
            }
            Place::Head { octets, have, begin } => {
                if *have == 0 {
                    *begin = Begin { time: now.time, offset };
                }
                let mut taken = 0_usize;
                for (to, from) in octets.iter_mut().skip(*have).zip(bytes) {
                    *to = *from;
                    taken = taken.saturating_add(1);
                }
                *have = have.saturating_add(taken);
                if *have < frame::HEAD {
                    return taken.max(1);
                }
                let (head, begin) = (Head::parse(octets), *begin);
                let after = bytes.get(taken..).unwrap_or_default();
                taken.saturating_add(self.begin(now, head, begin, after))
            }
            Place::Data(_) => self.content(now, bytes),
            Place::Whole(whole) => {
                let left = (whole.head.length as usize).saturating_sub(whole.held.octets.len());
                let taken = left.min(bytes.len());
                if !whole.held.push(bytes.get(..taken).unwrap_or_default(), now.config, now.budget) {
                    self.drop_frame(now, AnomalyKind::BodyBudget);
                    return self.step(now, offset, bytes);
                }
                if taken == left
                    && let Place::Whole(whole) = std::mem::replace(&mut side.place, BETWEEN)
                {
                    let Whole { head, begin, held } = *whole;
                    let octets = held.release(now.budget);
                    self.whole(now, head, begin, &octets);
                }
                taken.max(1)
            }
            Place::Skip(left) => {
                let taken = (*left as usize).min(bytes.len());
                *left = left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
                if *left == 0 {
                    side.place = BETWEEN;
                }
                taken.max(1)
            }
            Place::Hunting => {
                let octets = bytes.len() as u64;
                side.missed_octets = side.missed_octets.saturating_add(octets);
                self.hunted = self.hunted.saturating_add(octets);
                bytes.len()
            }
        }
    }

    /// A frame begins; `after` are the octets in hand that follow its header. Gives how many of them it took.
    fn begin(&mut self, now: &mut Now<'_>, head: Head, begin: Begin, after: &[u8]) -> usize {
        let length = head.length as usize;
        let side = self.side_mut(now);
        side.place = if head.length == 0 { BETWEEN } else { Place::Skip(head.length) };
        // RFC 9113 §6.2: nothing may come between the frames of a header block.
        let continues = side.block.as_ref().is_some_and(|block| block.head.stream == head.stream);
        if side.block.is_some() && !(continues && head.kind == frame::CONTINUATION) {
            self.odd("a frame inside a header block");
            self.drop_block(now, AnomalyKind::H2Protocol);
        }
        if let Some(fault) = head.fault() {
            self.odd(fault);
            if head.stream == 0 || matches!(head.kind, frame::SETTINGS | frame::PING | frame::GOAWAY) {
                return 0;
            }
        }
        match head.kind {
            frame::DATA => {
                let padding = if head.has(frame::PADDED) { None } else { Some(0) };
                let end = head.has(frame::END_STREAM);
                let content = Content { stream: head.stream, end, left: head.length, padding, first: true };
                self.content_begins(now, begin, &content);
                self.side_mut(now).place = Place::Data(content);
                if head.length == 0 {
                    self.content_ends(now);
                }
                0
            }
            frame::HEADERS
            | frame::PUSH_PROMISE
            | frame::CONTINUATION
            | frame::RST_STREAM
            | frame::GOAWAY
            | frame::SETTINGS => {
                if let Some(payload) = after.get(..length) {
                    self.side_mut(now).place = BETWEEN;
                    self.whole(now, head, begin, payload);
                    return length;
                }
                let limit = match head.kind {
                    frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION => now.config.head_limit,
                    _ => frame::DEFAULT_MAX_FRAME as usize,
                };
                if length > limit {
                    self.broken(now, head, begin, &[], Cut { why: AnomalyKind::HeadTooLarge, hole: None });
                } else {
                    let whole = Whole { head, begin, held: Held::default() };
                    self.side_mut(now).place = Place::Whole(Box::new(whole));
                }
                0
            }
            _ => 0,
        }
    }

    /// A frame is there whole.
    fn whole(&mut self, now: &mut Now<'_>, head: Head, begin: Begin, payload: &[u8]) {
        match head.kind {
            frame::SETTINGS if !head.has(frame::ACK) => self.settings(now.direction, payload),
            frame::RST_STREAM => {
                let code = payload.first_chunk().map_or(0, |octets| u32::from_be_bytes(*octets));
                self.reset(now, head.stream, code);
            }
            frame::GOAWAY => {
                if let Some((last, rest)) = payload.split_first_chunk() {
                    let code = rest.first_chunk().map_or(0, |octets| u32::from_be_bytes(*octets));
                    self.go_away(now, u32::from_be_bytes(*last) & 0x7fff_ffff, code);
                }
            }
            frame::HEADERS | frame::PUSH_PROMISE => {
                let Some((promised, fragment)) = fragment(&head, payload) else {
                    self.odd("a header block that its frame has no room for");
                    self.side_mut(now).hpack.lose();
                    return;
                };
                if head.has(frame::END_HEADERS) {
                    return self.block(now, head, begin, promised, fragment, None);
                }
                let mut held = Held::default();
                if !held.push(fragment, now.config, now.budget) {
                    return self.broken(
                        now,
                        head,
                        begin,
                        fragment,
                        Cut { why: AnomalyKind::BodyBudget, hole: None },
                    );
                }
                self.side_mut(now).block = Some(Box::new(Block { head, begin, promised, held }));
            }
            frame::CONTINUATION => {
                let side = self.side_mut(now);
                let Some(mut block) = side.block.take() else {
                    // Its beginning was missed, or there was none; either way it changed the table.
                    let lost = side.hpack.is_lost();
                    side.hpack.lose();
                    if !lost {
                        self.odd("a CONTINUATION frame without a header block");
                    }
                    return;
                };
                let fits = block.held.octets.len().saturating_add(payload.len()) <= now.config.head_limit;
                let kept = fits && block.held.push(payload, now.config, now.budget);
                if kept && !head.has(frame::END_HEADERS) {
                    side.block = Some(block);
                    return;
                }
                let Block { head, begin, promised, held } = *block;
                let octets = held.release(now.budget);
                if kept {
                    self.block(now, head, begin, promised, &octets, None);
                } else {
                    let why = if fits { AnomalyKind::BodyBudget } else { AnomalyKind::HeadTooLarge };
                    self.broken(now, head, begin, &octets, Cut { why, hole: None });
                }
            }
            _ => {}
        }
    }

    /// SETTINGS bind the other side.
    fn settings(&mut self, sender: Direction, payload: &[u8]) {
        let bound = match sender {
            Direction::ToServer => &mut self.to_client,
            Direction::ToClient => &mut self.to_server,
        };
        for setting in payload.chunks_exact(6) {
            // §6.5.2: SETTINGS_MAX_FRAME_SIZE. The size of the header table is told again in the header blocks.
            if let &[0, 5, a, b, c, d] = setting {
                bound.max_frame = u32::from_be_bytes([a, b, c, d]).clamp(frame::DEFAULT_MAX_FRAME, 0xff_ffff);
            }
        }
    }

    /// Octets of a DATA frame (§6.1).
    fn content(&mut self, now: &mut Now<'_>, bytes: &[u8]) -> usize {
        let side = self.side_mut(now);
        let Place::Data(content) = &mut side.place else { return bytes.len().max(1) };
        let Some(padding) = content.padding else {
            content.left = content.left.saturating_sub(1);
            let padding = bytes.first().map_or(0, |octet| u32::from(*octet));
            content.padding = Some(padding.min(content.left));
            let (over, left) = (padding > content.left, content.left);
            if over {
                self.odd("padding longer than its frame");
            }
            if left == 0 {
                self.content_ends(now);
            }
            return 1;
        };
        let useful = content.left.saturating_sub(padding);
        let (number, first) = (content.stream, content.first);
        let taken = (if useful > 0 { useful } else { content.left } as usize).min(bytes.len());
        content.left = content.left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
        let over = content.left == 0;
        if useful > 0 {
            content.first = false;
            let bytes = bytes.get(..taken).unwrap_or_default();
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.data(now.direction, now.time, bytes, first, now.config, now.budget);
            }
        }
        if over {
            self.content_ends(now);
        }
        taken.max(1)
    }
}

/// What a HEADERS or PUSH_PROMISE frame carries of a header block: padding and priority removed, and the stream that is
/// promised (§6.2, §6.6).
fn fragment<'a>(head: &Head, payload: &'a [u8]) -> Option<(Option<u32>, &'a [u8])> {
    let mut rest = payload;
    if head.has(frame::PADDED) {
        let (padding, after) = rest.split_first()?;
        rest = after.get(..after.len().checked_sub(usize::from(*padding))?)?;
    }
    if head.kind == frame::PUSH_PROMISE {
        let (promised, after) = rest.split_first_chunk()?;
        return Some((Some(u32::from_be_bytes(*promised) & 0x7fff_ffff), after));
    }
    if head.has(frame::WITH_PRIORITY) {
        rest = rest.get(5..)?;
    }
    Some((None, rest))
}

/// The header fields in the beginning of a HEADERS or CONTINUATION frame. Where its padding begins is not told apart:
/// it is zeros, and no beginning of a field.
fn cut_fragment<'a>(head: &Head, octets: &'a [u8]) -> &'a [u8] {
    let padded = head.kind == frame::HEADERS && head.has(frame::PADDED);
    let priority = head.kind == frame::HEADERS && head.has(frame::WITH_PRIORITY);
    let start = usize::from(padded).saturating_add(if priority { 5 } else { 0 });
    octets.get(start..).unwrap_or_default()
}

/// The anomaly of a message that its direction's end cut off.
fn cut_by(end: EndKind) -> AnomalyKind {
    match end {
        EndKind::Fin => AnomalyKind::CutByClose,
        EndKind::Reset => AnomalyKind::CutByReset,
        EndKind::Abandoned | EndKind::CaptureEnd => AnomalyKind::CutByCaptureEnd,
    }
}

/// What travels in a direction, for details.
fn message(direction: Direction) -> &'static str {
    match direction {
        Direction::ToServer => "request",
        Direction::ToClient => "response",
    }
}

/// Holes.
impl H2 {
    /// What a hole takes with it: part of a payload where it lies inside one, and more where it does not.
    fn miss(&mut self, now: &mut Now<'_>, mark: GapMark) {
        let side = self.side_mut(now);
        let left = match &side.place {
            Place::Hunting => {
                side.missed_octets = side.missed_octets.saturating_add(mark.length);
                return;
            }
            Place::Preface(_) | Place::Head { .. } => None,
            Place::Data(content) => Some(content.left),
            Place::Whole(whole) => {
                let have = u32::try_from(whole.held.octets.len()).unwrap_or(u32::MAX);
                Some(whole.head.length.saturating_sub(have))
            }
            Place::Skip(left) => Some(*left),
        };
        let Some(left) = left else { return self.tear(now, mark) };
        let inside = u32::try_from(mark.length).unwrap_or(u32::MAX).min(left);
        match std::mem::replace(&mut side.place, BETWEEN) {
            Place::Data(content) => self.content_missed(now, content, inside, mark),
            Place::Whole(whole) => {
                let after = left.saturating_sub(inside);
                if after > 0 {
                    self.side_mut(now).place = Place::Skip(after);
                }
                let Whole { head, begin, held } = *whole;
                let octets = held.release(now.budget);
                match head.kind {
                    frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION => {
                        let cut = Cut { why: AnomalyKind::CutByGap, hole: Some(mark) };
                        self.broken(now, head, begin, cut_fragment(&head, &octets), cut);
                    }
                    frame::RST_STREAM => self.reset(now, head.stream, u32::MAX),
                    frame::SETTINGS => self.side_mut(now).max_frame = frame::BELIEVABLE_MAX_FRAME,
                    _ => {}
                }
            }
            Place::Skip(_) if left > inside => {
                self.side_mut(now).place = Place::Skip(left.saturating_sub(inside))
            }
            _ => {}
        }
        if mark.length > u64::from(inside) {
            self.tear(now, mark);
        }
    }

    /// Octets of DATA are missing.
    fn content_missed(&mut self, now: &mut Now<'_>, mut content: Content, inside: u32, mark: GapMark) {
        // Where the padding's length itself is missing, the rest may be either; it is taken for content.
        let padding = content.padding.unwrap_or(0);
        let useful = content.left.saturating_sub(padding).min(inside);
        content.padding = Some(padding);
        content.left = content.left.saturating_sub(inside);
        if let Some(stream) = self.streams.get_mut(&content.stream) {
            if useful > 0 {
                stream.gap(now.direction, now.time, u64::from(useful), now.config, now.budget);
            }
            stream.mark(mark);
        }
        self.side_mut(now).place = Place::Data(content);
        if content.left == 0 {
            self.content_ends(now);
        }
    }

    /// Frames of unknown number are missing: out of step, the header table is lost, and every open stream is touched.
    fn tear(&mut self, now: &mut Now<'_>, mark: GapMark) {
        self.drop_block(now, AnomalyKind::CutByGap);
        let side = self.side_mut(now);
        side.place = Place::Hunting;
        side.missed = true;
        side.missed_octets = mark.length;
        side.hpack.lose();
        side.max_frame = side.max_frame.max(frame::BELIEVABLE_MAX_FRAME);
        if now.direction == Direction::ToServer {
            // Streams may have been opened in the hole.
            self.known_from = u32::MAX;
        }
        self.overdue.get_or_insert(now.time.plus_nanos(PATIENCE));
        for stream in self.streams.values_mut().filter(|stream| stream.open(now.direction)) {
            stream.mark(mark);
            stream.tear(now.direction, now.time, now.config, now.budget);
        }
    }

    /// Tells the streams that a hole touched and that were not heard of since.
    fn give_up_torn(&mut self, now: &mut Now<'_>) {
        self.overdue = None;
        let mut due = Vec::new();
        for (number, stream) in &self.streams {
            let Some(heard) = stream.touched() else { continue };
            let overdue = heard.plus_nanos(PATIENCE);
            if now.time >= overdue {
                due.push(*number);
            } else {
                self.overdue = Some(self.overdue.map_or(overdue, |earliest| earliest.min(overdue)));
            }
        }
        for number in due {
            if let Some(mut stream) = self.streams.remove(&number) {
                stream.name(AnomalyKind::CutByGap, "not heard of after a hole");
                self.tell(number, stream, now.config, now.budget, now.out);
            }
        }
    }

    /// Gives up a frame that is being collected; the rest of it is skipped.
    fn drop_frame(&mut self, now: &mut Now<'_>, why: AnomalyKind) {
        let side = self.side_mut(now);
        let Place::Whole(whole) = &mut side.place else { return self.drop_block(now, why) };
        let have = u32::try_from(whole.held.octets.len()).unwrap_or(u32::MAX);
        let left = whole.head.length.saturating_sub(have);
        if let Place::Whole(whole) = std::mem::replace(&mut side.place, Place::Skip(left)) {
            let Whole { head, begin, held } = *whole;
            let octets = held.release(now.budget);
            if matches!(head.kind, frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION) {
                self.broken(now, head, begin, cut_fragment(&head, &octets), Cut { why, hole: None });
            }
        }
        self.drop_block(now, why);
    }

    /// Gives up a header block that is not complete.
    fn drop_block(&mut self, now: &mut Now<'_>, why: AnomalyKind) {
        if let Some(block) = self.side_mut(now).block.take() {
            let Block { head, begin, held, .. } = *block;
            let octets = held.release(now.budget);
            self.broken(now, head, begin, &octets, Cut { why, hole: None });
        }
    }

    /// A header block of which only the beginning is there: that much is told, and the table is lost.
    fn broken(&mut self, now: &mut Now<'_>, head: Head, begin: Begin, fragment: &[u8], cut: Cut) {
        if head.kind == frame::CONTINUATION {
            // The block that it continues is the one that is broken.
            if let Some(block) = self.side_mut(now).block.take() {
                let Block { head, begin, held, .. } = *block;
                let octets = held.release(now.budget);
                return self.broken(now, head, begin, &octets, cut);
            }
        } else if head.kind == frame::HEADERS {
            self.block(now, head, begin, None, fragment, Some(cut));
        }
        self.side_mut(now).hpack.lose();
    }
}

/// Streams.
impl H2 {
    /// A header block is there; `cut` where it is only its beginning, with the reason.
    fn block(
        &mut self,
        now: &mut Now<'_>,
        head: Head,
        begin: Begin,
        promised: Option<u32>,
        octets: &[u8],
        cut: Option<Cut>,
    ) {
        let mut fields = Fields::default();
        let config = now.config;
        let decoded = self.side_mut(now).hpack.decode(octets, &mut |field| fields.add(field, config));
        self.charge_table(now);
        let number = promised.unwrap_or(head.stream);
        let end = head.has(frame::END_STREAM) && promised.is_none();
        let unknown = fields.unknown;
        let mut odd: Vec<(AnomalyKind, String)> = Vec::new();
        match (decoded, cut) {
            (_, Some(cut)) => {
                odd.push((cut.why, format!("the {}'s header fields are cut off", message(now.direction))))
            }
            (Err(error), None) => odd.push((AnomalyKind::HpackError, error.to_string())),
            (Ok(()), None) => {}
        }
        if unknown {
            odd.push((
                AnomalyKind::HpackLost,
                format!("header fields of the {} are unknown", message(now.direction)),
            ));
        }
        if fields.dropped {
            odd.push((AnomalyKind::HeadTooLarge, "header fields beyond the limit were dropped".into()));
        }
        if let Some(fault) = fields.fault {
            odd.push((AnomalyKind::H2Protocol, fault.into()));
        }
        if promised.is_some() {
            self.promise(now, number, begin, fields);
        } else {
            self.head(now, number, begin, end, fields);
        }
        if let Some(stream) = self.streams.get_mut(&number) {
            for (kind, detail) in &odd {
                stream.name(*kind, detail);
            }
            if let Some(mark) = cut.and_then(|cut| cut.hole) {
                stream.mark(mark);
            }
        }
        self.settle(now, number);
    }

    /// Charges for what the header table grew by, or gives back what it shrank by; forgets it without memory.
    fn charge_table(&mut self, now: &mut Now<'_>) {
        let side = match now.direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        let held = side.hpack.held().saturating_sub(hpack::DEFAULT_LIMIT);
        if held <= side.charged
            || now.budget.take(side.charged, held.saturating_sub(side.charged), now.config)
        {
            now.budget.give(side.charged.saturating_sub(held));
            side.charged = held;
        } else {
            side.hpack.lose();
            now.budget.give(std::mem::take(&mut side.charged));
        }
    }

    /// A header section or trailer section of a stream.
    fn head(&mut self, now: &mut Now<'_>, number: u32, begin: Begin, end: bool, fields: Fields) {
        let direction = now.direction;
        if !self.ready(now, number, begin, &fields) {
            return;
        }
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let mut fields = fields;
        if !stream.charge(fields.cost(), now.config, now.budget) {
            fields.headers = super::Headers::default();
            stream.name(AnomalyKind::BodyBudget, "header fields were not kept");
        }
        let status = fields.status;
        let id = |from| exchange_id(self.ends, begin.time, from, begin.offset, number);
        match (direction, stream.half(direction)) {
            (_, Some(half)) if half.ended => self.odd("a header block after the end of its stream"),
            (Direction::ToClient, Some(half))
                if status.is_some() && half.fields.status.is_none() && !half.content_begun =>
            {
                // A final status after a header section of unknown status: that one was interim.
                stream.name(AnomalyKind::HpackLost, "an interim response of unknown status");
                stream.answered(Half::new(fields, begin.time, true, now.config));
            }
            (_, Some(_)) => {
                if fields.has_pseudo() {
                    stream.name(AnomalyKind::H2Protocol, "pseudo-header fields in trailers");
                } else if !end {
                    stream.name(AnomalyKind::H2Protocol, "trailers that do not end the stream");
                }
                stream.trailers(direction, fields);
            }
            (Direction::ToServer, None) => {
                stream.asked(Half::new(fields, begin.time, false, now.config), id(direction), now.interface);
            }
            (Direction::ToClient, None) => {
                stream.answer_ack = now.ack;
                match status {
                    Some(status @ 100..200) if !end => stream.interim(status, fields.headers, begin.time),
                    _ => stream.answered(Half::new(fields, begin.time, true, now.config)),
                }
            }
        }
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.touch(direction, now.time);
            if end {
                stream.end(direction);
            }
        }
    }

    /// Makes sure that the stream of a header block is there; false where it must not be.
    fn ready(&mut self, now: &mut Now<'_>, number: u32, begin: Begin, fields: &Fields) -> bool {
        let opens = now.direction == Direction::ToServer;
        if number == 0 || (opens && number.is_multiple_of(2)) {
            return false;
        }
        let new = opens && number > self.highest;
        if new {
            // The first stream after a loss: those from here on are known.
            self.known_from = self.known_from.min(number);
            self.highest = number;
        }
        if self.streams.contains_key(&number) {
            return true;
        }
        if !new && self.is_closed(number) {
            return false;
        }
        let trailers_alone = opens && !fields.unknown && !fields.has_pseudo();
        self.open(now, number, begin);
        if trailers_alone && let Some(stream) = self.streams.get_mut(&number) {
            *stream.half(now.direction) = Some(Half::without_head(begin.time, false, now.config));
        }
        true
    }

    /// Whether a stream that is not open is finished, as far as that is known.
    fn is_closed(&self, number: u32) -> bool {
        self.was_seen(number) || self.closed.contains(&number)
    }

    /// Whether a stream is the client's, and all that it opened from there on were seen.
    fn was_seen(&self, number: u32) -> bool {
        !number.is_multiple_of(2) && (self.known_from..=self.highest).contains(&number)
    }

    fn open(&mut self, now: &mut Now<'_>, number: u32, begin: Begin) {
        if self.streams.len() >= now.config.streams_limit.max(1)
            && let Some((oldest, mut stream)) = self.streams.pop_first()
        {
            stream.name(AnomalyKind::PipelineOverflow, "more open streams than are followed");
            self.tell(oldest, stream, now.config, now.budget, now.out);
        }
        let id = exchange_id(self.ends, begin.time, now.direction, begin.offset, number);
        self.streams.insert(number, Box::new(Stream::new(id, now.interface, begin.time)));
    }

    /// The server announces a request that it answers unasked (§8.4).
    fn promise(&mut self, now: &mut Now<'_>, number: u32, begin: Begin, fields: Fields) {
        if number == 0 || !number.is_multiple_of(2) || self.streams.contains_key(&number) {
            return self.odd("a PUSH_PROMISE for a stream that cannot be promised");
        }
        self.open(now, number, begin);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let half = Half::new(fields, begin.time, false, now.config);
        let id = exchange_id(self.ends, begin.time, now.direction, begin.offset, number);
        stream.asked(half, id, now.interface);
        stream.end(Direction::ToServer);
        stream.name(AnomalyKind::UnsolicitedResponse, "promised by the server (PUSH_PROMISE)");
    }

    /// DATA of a stream begins: its half must be there, with or without a header section.
    fn content_begins(&mut self, now: &mut Now<'_>, begin: Begin, content: &Content) {
        let (direction, number) = (now.direction, content.stream);
        if number == 0 {
            return;
        }
        if !self.streams.contains_key(&number) {
            // Without a header section only where that can have been missed.
            if !self.side(now).missed || self.is_closed(number) {
                return;
            }
            if direction == Direction::ToServer {
                self.highest = self.highest.max(number);
            }
            self.open(now, number, begin);
        }
        let Some(stream) = self.streams.get_mut(&number) else { return };
        match stream.half(direction) {
            Some(half) if half.ended => self.odd("DATA after the end of its stream"),
            Some(_) => {}
            None => {
                let half = Half::without_head(now.time, direction == Direction::ToClient, now.config);
                if direction == Direction::ToClient {
                    stream.answer_ack = now.ack;
                    stream.answered(half);
                } else {
                    *stream.half(direction) = Some(half);
                }
            }
        }
    }

    /// A DATA frame is over.
    fn content_ends(&mut self, now: &mut Now<'_>) {
        let place = std::mem::replace(&mut self.side_mut(now).place, BETWEEN);
        let Place::Data(content) = place else { return };
        if content.end
            && let Some(stream) = self.streams.get_mut(&content.stream)
        {
            stream.touch(now.direction, now.time);
            stream.end(now.direction);
        }
        self.settle(now, content.stream);
    }

    /// RST_STREAM (§6.4).
    fn reset(&mut self, now: &mut Now<'_>, number: u32, code: u32) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let who = match now.direction {
            Direction::ToServer => "client",
            Direction::ToClient => "server",
        };
        let detail = format!("by the {who}: {}", frame::error_name(code));
        stream.name(AnomalyKind::H2StreamReset, &detail);
        // The request may come yet, if a hole holds it up.
        if stream.request.is_none() && self.waits(now, number) {
            return;
        }
        if let Some(stream) = self.streams.remove(&number) {
            self.tell(number, stream, now.config, now.budget, now.out);
        }
    }

    /// GOAWAY (§6.8): the server has not looked at streams above `last`, and will not.
    fn go_away(&mut self, now: &mut Now<'_>, last: u32, code: u32) {
        if now.direction != Direction::ToClient {
            return;
        }
        let above = self.streams.split_off(&last.saturating_add(1));
        for (number, mut stream) in above {
            if number.is_multiple_of(2) || stream.response.is_some() {
                self.streams.insert(number, stream);
                continue;
            }
            stream.name(AnomalyKind::H2GoAway, frame::error_name(code));
            self.tell(number, stream, now.config, now.budget, now.out);
        }
    }

    /// Tells a stream if nothing more can come.
    fn settle(&mut self, now: &mut Now<'_>, number: u32) {
        let Some(stream) = self.streams.get(&number) else { return };
        if stream.request.is_none() {
            let answered = stream.response.as_ref().is_some_and(|response| response.ended);
            if !answered || self.waits(now, number) {
                return;
            }
        } else if !stream.complete() {
            return;
        }
        if let Some(stream) = self.streams.remove(&number) {
            self.tell(number, stream, now.config, now.budget, now.out);
        }
    }

    /// Whether the request of an answered stream may still come: the server had received more than was delivered here.
    fn waits(&mut self, now: &Now<'_>, number: u32) -> bool {
        let ack = self.streams.get(&number).and_then(|stream| stream.answer_ack).or(now.ack);
        let Some(ack) = ack else { return false };
        let due = self.to_server.position < ack && self.to_server.ended.is_none();
        if due {
            self.waiting.insert((ack, number));
        }
        due
    }

    /// A direction has been delivered up to `position`.
    fn passed(&mut self, now: &mut Now<'_>, position: u64) {
        self.side_mut(now).position = position;
        if now.direction != Direction::ToServer {
            return;
        }
        while let Some(&(ack, number)) = self.waiting.first() {
            if ack > position {
                break;
            }
            self.waiting.pop_first();
            // Still without a request: it never came. With one, it goes its ordinary way.
            let lone = self.streams.get(&number).is_some_and(|stream| stream.request.is_none());
            if lone && let Some(stream) = self.streams.remove(&number) {
                self.tell(number, stream, now.config, now.budget, now.out);
            }
        }
    }

    fn tell(
        &mut self,
        number: u32,
        mut stream: Box<Stream>,
        config: &Config,
        budget: &mut Budget,
        out: &mut Vec<Box<Exchange>>,
    ) {
        for odd in self.anomalies.drain(..) {
            stream.name(odd.kind, &odd.detail);
        }
        if !self.was_seen(number) {
            match self.closed.get_mut(self.closed_next) {
                Some(place) => *place = number,
                None => self.closed.push(number),
            }
            self.closed_next = self.closed_next.wrapping_add(1) % CLOSED_LIMIT;
        }
        // A promise that is never kept, or a reset of what was never said, is no exchange.
        if stream.request.is_none() && stream.response.is_none() {
            stream.discard(budget);
            return;
        }
        out.push(stream.finish(self.flow, self.ends, config, budget));
    }

    fn odd(&mut self, detail: &str) {
        let kind = AnomalyKind::H2Protocol;
        let known = self.anomalies.iter().any(|a| a.kind == kind && &*a.detail == detail);
        if !known && self.anomalies.len() < ANOMALIES_LIMIT {
            self.anomalies.push(Anomaly { kind, detail: detail.into() });
        }
    }
}

/// Whether a segment of a flow picked up mid-stream begins with HTTP/2 frames. Octets of other protocols do not pass:
/// every header in the segment must be believable, and random octets are so once in ten million times.
pub(super) fn looks_like_frames(bytes: &[u8]) -> bool {
    believed(bytes, frame::BELIEVABLE_MAX_FRAME, u32::MAX)
}

fn believed(bytes: &[u8], length: u32, stream: u32) -> bool {
    let chain = |length| frame::chain(bytes, Limits { length, stream });
    match chain(length) {
        Chain::Whole => true,
        // Nothing but the header speaks for it: it must be a usual one.
        Chain::One => chain(frame::DEFAULT_MAX_FRAME.min(length)) == Chain::One,
        Chain::None => false,
    }
}

#[cfg(test)]
mod tests;
