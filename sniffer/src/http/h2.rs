//! HTTP/2 in the clear (RFC 9113) for a listener: bytes of both directions in, an exchange a stream out. It starts at
//! the client's preface, after an Upgrade (RFC 7540 §3.2), or in the middle of a connection, where header compression
//! has a past that nobody saw: what is unknown then is `None`. After a hole it hunts for a believable frame header at a
//! segment's first byte. It never guesses a field, and never joins what a hole tore.

#![allow(clippy::vec_box, reason = "an exchange is large, and is moved often on its way to the store")]

mod cost;
mod frame;
mod holes;
mod stream;
mod streams;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;

use self::frame::{Chain, Head, Limits};
use self::stream::Stream;
use super::body::Budget;
use super::{Anomaly, AnomalyKind, Config, GapMark, Interim, Out, Request, exchange_id, hpack};
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
    out: &'a mut dyn Out,
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
    /// Gives each stream whose request was seen and that is not finished.
    pub(super) fn in_flight(&self, give: &mut impl FnMut(super::InFlight)) {
        self.streams.values().filter_map(|stream| stream.in_flight(self.ends)).for_each(give);
    }

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
        out: &mut dyn Out,
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
        out: &mut dyn Out,
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
        out: &mut dyn Out,
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
    pub(super) fn finish(&mut self, config: &Config, budget: &mut Budget, out: &mut dyn Out) {
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
                        let (kind, detail) = match end {
                            EndKind::Fin => (AnomalyKind::NoResponse, "the connection was closed"),
                            EndKind::Reset => (AnomalyKind::NoResponse, "the connection was reset"),
                            EndKind::Abandoned => (AnomalyKind::NoResponse, "the connection fell silent"),
                            EndKind::CaptureEnd => (AnomalyKind::CutByCaptureEnd, "no response until then"),
                        };
                        stream.name(kind, detail);
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
        EndKind::Fin | EndKind::Abandoned => AnomalyKind::CutByClose,
        EndKind::Reset => AnomalyKind::CutByReset,
        EndKind::CaptureEnd => AnomalyKind::CutByCaptureEnd,
    }
}

/// What travels in a direction, for details.
fn message(direction: Direction) -> &'static str {
    match direction {
        Direction::ToServer => "request",
        Direction::ToClient => "response",
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
