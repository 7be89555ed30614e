//! One flow: stream events of both directions in, exchanges out. It says what the flow speaks, finds the messages, pairs
//! each response with the request that it answers, and hands over to h2 or WebSocket after a switch.
//!
//! A message that a hole tore ends there, and its direction hunts: it skips until a segment begins with what is surely
//! the start of a message. Behind a hole pairing by order would lie, because messages may be missing. Then only this
//! counts: a request that was sent when its sender had received exactly what came before the response, or a response
//! that was sent when its sender had received no more than the request. Where neither holds the response stays alone.
//!
//! A response waits here until the requests that its sender had received were delivered or are known to be missing: a
//! hole is declared later than what came after it in the other direction.

#![allow(clippy::vec_box, reason = "an exchange is large, and is moved often on its way to the store")]

mod cost;
mod losing;
mod pairing;
mod partial;
mod requests;
mod responses;
mod switching;
mod waiting;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use self::pairing::Doubt;
use self::partial::PartialHead;
use super::body::Budget;
use super::h1::Receiving;
use super::h2::H2;
use super::websocket::Talk;
use super::{
    Anomaly, AnomalyKind, Config, Exchange, GapMark, InFlight, OtherProtocol, Out, Protocol, exchange_id,
};
use crate::flow::{Direction, Ends, FlowId, Handshake, Opened};
use crate::frame::{Interface, Timestamp};
use crate::stream::{Data, EndKind, Event};

/// How long (ns of capture time) events of one direction wait for the other: ten times what a hole that was
/// acknowledged waits before it is declared ([`crate::stream::Config::disorder_nanos`]).
pub(super) const PATIENCE: u64 = 1_000_000_000;

/// Events of one direction that wait for the other.
const WAITING_LIMIT: usize = 1024;
/// Interim responses kept for one exchange.
const INTERIM_LIMIT: usize = 32;
/// Holes remembered for one exchange or one direction; the last one then reaches over all that follow.
const GAPS_LIMIT: usize = 256;
/// Heads of waiting requests up to this many octets are part of what a flow costs; more is charged to the budget.
const FREE_HEADS: usize = 4 << 10;
/// Segments in a row, mid-stream, that look like WebSocket frames, until it is one.
const FRAMES_BELIEVED: u8 = 3;
/// Octets of a line that are looked at once a head is too large to be kept.
const LINE_LIMIT: usize = 4 << 10;

/// What a connection may use while it takes an event.
pub(super) struct Scope<'a> {
    pub(super) config: &'a Config,
    pub(super) budget: &'a mut Budget,
    pub(super) hunted: &'a mut u64,
    pub(super) others: &'a mut BTreeMap<OtherProtocol, u64>,
    pub(super) found_other: &'a mut Vec<Ends>,
    pub(super) now: Timestamp,
    pub(super) out: &'a mut dyn Out,
}

/// A flow and all that is unfinished in it.
#[derive(Debug)]
pub(super) struct Connection {
    ends: Ends,
    flow: FlowId,
    speaks: Speaks,
    to_server: Side,
    to_client: Side,
    /// Requests that are not told yet, in order. Only the last can be incomplete.
    pending: VecDeque<Pending>,
    /// What the response at hand belongs to.
    answering: Answering,
    /// A response whose request is not known.
    lone: Option<Box<Exchange>>,
    /// Responses may have been missed since the last one that was surely paired.
    uncertain: bool,
    /// The client sends requests before it has the answer to the last one: after a hole nothing is sure any more.
    pipelines: bool,
    /// What the client had received when it began its last request.
    last_ack: Option<u64>,
    /// Where the last response ended, and what its sender had received when it began; `None` where that is not known.
    answered_to: Option<u64>,
    answer_ack: Option<u64>,
    /// Where the body that a hole has just cut would have ended.
    torn_end: Option<u64>,
    /// Where the response at hand began.
    answer_begin: Option<Begin>,
    /// A pair that a lost request makes a little doubtful, until the client says more.
    doubt: Option<Box<Doubt>>,
    /// The flow was picked up mid-stream: what its directions begin with is no message start, unless it looks like one.
    mid_stream: bool,
    /// The last so many segments, mid-stream, looked like WebSocket frames.
    frame_like: u8,
    /// A response waited in vain, and nothing of the client was ever seen: its direction may not be captured at all.
    deaf: bool,
    /// Nothing waits: the waiting was too long.
    forced: bool,
    /// The decoder has this flow among those that wait.
    pub(super) listed: bool,
    /// Octets that this flow was last found to take, for how many exchanges, and the events since then.
    accounted: usize,
    counted: usize,
    events_uncounted: usize,
}

#[derive(Debug)]
enum Speaks {
    /// Nothing was recognised so far.
    Unknown,
    Http1,
    H2(Box<H2>),
    WebSocket(Box<Web>),
    /// Something else: counted, and dropped.
    Other,
}

/// An exchange that became a WebSocket.
#[derive(Debug)]
struct Web {
    exchange: Box<Exchange>,
    talk: Talk,
    last: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answering {
    Nothing,
    /// The first pending request.
    Front,
    /// `lone`.
    Lone,
}

/// One direction.
#[derive(Debug)]
struct Side {
    place: Place,
    /// Where the next byte belongs.
    position: u64,
    ended: Option<EndKind>,
    /// Holes where a message or more may have been lost, since the last sure pair.
    holes: Vec<GapMark>,
    /// The next message follows such a hole, or bytes that are none.
    lost: bool,
    /// Empty lines came before the next message.
    blank: bool,
    /// Bytes that belong to no message came before the next one.
    stray: bool,
    /// Something was delivered.
    seen: bool,
    /// The latest time of a byte of the message at hand.
    latest: Timestamp,
    /// Events that wait for the other direction, and the octets charged for them.
    waiting: VecDeque<Event<'static>>,
    waiting_octets: usize,
    waiting_since: Timestamp,
}

#[derive(Debug)]
enum Place {
    /// At the boundary between messages.
    Start,
    /// In a head that did not come in one piece.
    Head(Box<PartialHead>),
    Body(Box<Receiving>),
    /// Out of step.
    Hunting,
}

/// Where a message began.
#[derive(Clone, Copy, Debug)]
struct Begin {
    time: Timestamp,
    interface: Interface,
    offset: u64,
    ack: Option<u64>,
}

/// A request that was not told yet.
#[derive(Debug)]
struct Pending {
    exchange: Box<Exchange>,
    /// Its place in the client's stream. The end is `u64::MAX` until it was seen, and where the hole begins if it never was.
    start: u64,
    end: u64,
    /// What the client had received when it began it.
    ack: Option<u64>,
    method: Method,
    /// It asks for a switch of protocols.
    switches: bool,
    /// Requests may have been missed before it.
    after_loss: bool,
    /// The request is over.
    asked: bool,
    /// The response is over.
    answered: bool,
    /// It was paired behind a lost request.
    doubtful: bool,
    /// Octets charged to the budget.
    charged: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    Head,
    Connect,
    Other,
}

/// What became of an event.
enum Outcome {
    Done,
    /// It waits (the rest of it does), at the front of its direction's queue.
    Waits,
    /// Another protocol goes on after so many octets.
    Switched(usize),
}

impl Side {
    fn new(mid_stream: bool) -> Self {
        Self {
            place: if mid_stream { Place::Hunting } else { Place::Start },
            position: 0,
            ended: None,
            holes: Vec::new(),
            lost: mid_stream,
            blank: false,
            stray: false,
            seen: false,
            latest: Timestamp::default(),
            waiting: VecDeque::new(),
            waiting_octets: 0,
            waiting_since: Timestamp::default(),
        }
    }

    /// The body at hand, if there is one; its message is over then.
    fn take_body(&mut self) -> Option<Box<Receiving>> {
        match std::mem::replace(&mut self.place, Place::Start) {
            Place::Body(receiving) => Some(receiving),
            other => {
                self.place = other;
                None
            }
        }
    }

    /// A message is over that was followed to its end, or is given up: what comes next?
    fn out_of_step(&mut self) {
        self.place = Place::Hunting;
        self.lost = true;
    }
}

impl Connection {
    pub(super) fn new(opened: &Opened) -> Self {
        let mid_stream = opened.handshake == Handshake::MidStream;
        Self {
            ends: opened.ends,
            flow: opened.flow,
            speaks: Speaks::Unknown,
            to_server: Side::new(mid_stream),
            to_client: Side::new(mid_stream),
            pending: VecDeque::new(),
            answering: Answering::Nothing,
            lone: None,
            uncertain: mid_stream,
            pipelines: false,
            last_ack: None,
            answered_to: (!mid_stream).then_some(0),
            answer_ack: (!mid_stream).then_some(0),
            torn_end: None,
            answer_begin: None,
            doubt: None,
            mid_stream,
            frame_like: 0,
            deaf: false,
            forced: false,
            listed: false,
            accounted: 0,
            counted: 0,
            events_uncounted: 0,
        }
    }

    /// Takes the flow's next event.
    pub(super) fn push(&mut self, event: Event<'_>, scope: &mut Scope<'_>) {
        let Some(direction) = direction(&event) else { return };
        if self.side(direction).waiting.is_empty() {
            self.process(event, scope);
        } else if let Err(event) = self.enqueue(direction, event, false, scope) {
            self.release(scope);
            self.process(event, scope);
        }
        self.wake(scope);
    }

    /// Since when events wait, if any do.
    pub(super) fn waits_since(&self) -> Option<Timestamp> {
        [&self.to_server, &self.to_client]
            .into_iter()
            .filter(|side| !side.waiting.is_empty())
            .map(|side| side.waiting_since)
            .chain(self.doubt.as_ref().map(|doubt| doubt.since))
            .min()
    }

    /// Takes all that waits, although what it waits for has not come.
    pub(super) fn release(&mut self, scope: &mut Scope<'_>) {
        self.deaf = !self.to_client.waiting.is_empty() && !self.to_server.seen;
        self.forced = true;
        self.wake(scope);
        self.forced = false;
        self.believe(scope);
    }

    /// Whether both directions have ended and all is told.
    pub(super) fn is_over(&self) -> bool {
        [&self.to_server, &self.to_client]
            .into_iter()
            .all(|side| side.ended.is_some() && side.waiting.is_empty())
    }

    /// Gives each exchange whose request was seen and that is not finished.
    pub(super) fn in_flight(&self, give: &mut impl FnMut(InFlight)) {
        let pending = self.pending.iter().filter(|pending| !pending.answered);
        pending.filter_map(|pending| InFlight::of(&pending.exchange, false)).for_each(&mut *give);
        match &self.speaks {
            Speaks::H2(h2) => h2.in_flight(give),
            Speaks::WebSocket(web) => InFlight::of(&web.exchange, true).into_iter().for_each(give),
            _ => {}
        }
    }

    /// Tells all that is open; for a capture that ended without ends.
    pub(super) fn finish(&mut self, time: Timestamp, scope: &mut Scope<'_>) {
        self.release(scope);
        for direction in [Direction::ToServer, Direction::ToClient] {
            if self.side(direction).ended.is_none() {
                self.process(
                    Event::End { flow: self.flow, direction, time, kind: EndKind::CaptureEnd },
                    scope,
                );
            }
        }
    }

    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn side_mut(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}

/// Events, by what the flow speaks.
impl Connection {
    /// Takes an event that need not queue; true when it (or the rest of it) waits now.
    fn process(&mut self, event: Event<'_>, scope: &mut Scope<'_>) -> bool {
        match event {
            Event::Data(data) => return self.data(data, scope),
            Event::Gap { direction, time, offset, length, cause, .. } => {
                let mark = GapMark { to_server: direction == Direction::ToServer, offset, length, cause };
                let end = offset.saturating_add(length);
                match &mut self.speaks {
                    Speaks::Unknown | Speaks::Http1 => self.hole(mark, scope),
                    Speaks::H2(h2) => {
                        let before = h2.hunted();
                        h2.gap(direction, time, offset, length, cause, scope.config, scope.budget, scope.out);
                        count(scope.hunted, before, h2.hunted());
                    }
                    Speaks::WebSocket(web) => {
                        add_gap(&mut web.exchange.gaps, mark);
                        web.talk.gap(direction, time, length, scope.config, scope.budget);
                    }
                    Speaks::Other => {}
                }
                let side = self.side_mut(direction);
                side.position = side.position.max(end);
            }
            Event::End { direction, time, kind, .. } => self.end(direction, time, kind, scope),
            Event::Conflict { direction, offset, .. } => self.conflict(direction, offset),
            Event::Opened(_) => {}
        }
        false
    }

    fn data(&mut self, mut data: Data<'_>, scope: &mut Scope<'_>) -> bool {
        loop {
            let direction = data.direction;
            let end = data.offset.saturating_add(data.bytes.len() as u64);
            let outcome = match &mut self.speaks {
                Speaks::Unknown | Speaks::Http1 => {
                    let outcome = match direction {
                        Direction::ToServer => self.request_bytes(&data, scope),
                        Direction::ToClient => self.response_bytes(&data, scope),
                    };
                    self.side_mut(direction).seen = true;
                    outcome
                }
                Speaks::H2(h2) => {
                    let before = h2.hunted();
                    h2.data(&data, scope.config, scope.budget, scope.out);
                    count(scope.hunted, before, h2.hunted());
                    Outcome::Done
                }
                Speaks::WebSocket(web) => {
                    let before = web.talk.hunted();
                    web.last = web.last.max(data.time);
                    let (bytes, start) = (&*data.bytes, data.segment_start);
                    web.talk.data(direction, data.time, bytes, start, scope.config, scope.budget);
                    count(scope.hunted, before, web.talk.hunted());
                    Outcome::Done
                }
                Speaks::Other => Outcome::Done,
            };
            let side = self.side_mut(direction);
            match outcome {
                Outcome::Done => {
                    side.position = side.position.max(end);
                    return false;
                }
                Outcome::Waits => return true,
                Outcome::Switched(taken) => {
                    data = after(data, taken);
                    side.position = side.position.max(data.offset);
                    if data.bytes.is_empty() {
                        return false;
                    }
                }
            }
        }
    }

    /// A retransmission carried other bytes: said with the exchange that they belong to, or the one at hand.
    fn conflict(&mut self, direction: Direction, offset: u64) {
        let to_server = direction == Direction::ToServer;
        let detail = if to_server { "request" } else { "response" };
        let found = match &mut self.speaks {
            Speaks::WebSocket(web) => Some(&mut *web.exchange),
            _ if to_server => {
                let at = self.pending.iter().position(|pending| offset < pending.end);
                let at = at.unwrap_or(self.pending.len().saturating_sub(1));
                self.pending.get_mut(at).map(|pending| &mut *pending.exchange)
            }
            _ if self.answering == Answering::Nothing => {
                self.pending.front_mut().map(|pending| &mut *pending.exchange)
            }
            _ => self.target(),
        };
        if let Some(exchange) = found {
            odd(exchange, AnomalyKind::RetransmissionDiffers, detail);
        }
    }

    /// An exchange that begins here.
    fn exchange(&self, direction: Direction, begin: Begin, version: (u8, u8)) -> Box<Exchange> {
        Box::new(Exchange {
            id: exchange_id(self.ends, begin.time, direction, begin.offset, 0),
            flow: self.flow,
            ends: self.ends,
            interface: begin.interface,
            interface_name: None,
            protocol: if version == (1, 0) { Protocol::Http10 } else { Protocol::Http11 },
            started: begin.time,
            ended: begin.time,
            request: None,
            response: None,
            interim: Vec::new(),
            websocket: None,
            gaps: Vec::new(),
            anomalies: Vec::new(),
        })
    }

    fn oddities_before(&mut self, direction: Direction, exchange: &mut Exchange) {
        let side = self.side_mut(direction);
        if std::mem::take(&mut side.blank) {
            odd(exchange, AnomalyKind::EmptyLineBeforeMessage, "");
        }
        if std::mem::take(&mut side.stray) {
            odd(exchange, AnomalyKind::StrayBytes, "before the request");
        }
    }
}

impl Pending {
    /// The message is over and waits for the other: its body is held, or dropped for want of memory.
    fn hold(&mut self, direction: Direction, scope: &mut Scope<'_>) {
        let message = match direction {
            Direction::ToServer => self.exchange.request.as_mut().map(|request| &mut request.message),
            Direction::ToClient => self.exchange.response.as_mut().map(|response| &mut response.message),
        };
        let Some(body) = message.map(|message| &mut message.body) else { return };
        let octets = body.bytes.capacity();
        if scope.budget.take(self.charged, octets, scope.config) {
            self.charged = self.charged.saturating_add(octets);
        } else {
            body.bytes = Vec::new();
            odd(&mut self.exchange, AnomalyKind::BodyBudget, "not kept while waiting for the response");
        }
    }

    fn tell(self, scope: &mut Scope<'_>) {
        scope.budget.give(self.charged);
        tell(self.exchange, scope);
    }
}

/// Gives an exchange away.
fn tell(mut exchange: Box<Exchange>, scope: &mut Scope<'_>) {
    let messages = [
        exchange.request.as_ref().map(|request| request.message.last_byte),
        exchange.response.as_ref().map(|response| response.message.last_byte),
    ];
    exchange.ended = messages.into_iter().flatten().fold(exchange.ended, Timestamp::max);
    scope.out.push(exchange);
}

/// Names an oddity, once of each kind.
fn odd(exchange: &mut Exchange, kind: AnomalyKind, detail: &str) {
    if !exchange.anomalies.iter().any(|anomaly| anomaly.kind == kind) {
        exchange.anomalies.push(Anomaly::new(kind, detail));
    }
}

fn add_gap(gaps: &mut Vec<GapMark>, mark: GapMark) {
    if gaps.contains(&mark) {
        return;
    }
    if gaps.len() < GAPS_LIMIT {
        gaps.push(mark);
    } else if let Some(last) = gaps.last_mut() {
        last.length = mark.offset.saturating_add(mark.length).saturating_sub(last.offset);
    }
}

fn count(total: &mut u64, before: u64, now: u64) {
    *total = total.saturating_add(now.saturating_sub(before));
}

/// CR and LF before a first line (RFC 9112 §2.2).
fn blank_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count()
}

fn offset_at(data: &Data<'_>, taken: usize) -> u64 {
    data.offset.saturating_add(taken as u64)
}

fn begin_at(data: &Data<'_>, taken: usize) -> Begin {
    Begin { time: data.time, interface: data.interface, offset: offset_at(data, taken), ack: data.ack }
}

fn borrowed<'a>(data: &'a Data<'_>) -> Data<'a> {
    Data { bytes: Cow::Borrowed(&data.bytes), ..*data }
}

/// What is left of an event after so many octets.
fn after(data: Data<'_>, taken: usize) -> Data<'_> {
    if taken == 0 {
        return data;
    }
    // What more segments begin in it was seen to before: see `Decoder::push`.
    let (offset, segment_start, starts) = (offset_at(&data, taken), false, 0);
    let bytes = match data.bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(taken..).unwrap_or_default()),
        Cow::Owned(mut bytes) => {
            bytes.drain(..taken.min(bytes.len()));
            Cow::Owned(bytes)
        }
    };
    Data { bytes, offset, segment_start, starts, ..data }
}

/// What an event that waits takes.
fn cost(event: &Event<'_>) -> usize {
    let octets = match event {
        Event::Data(data) => data.bytes.len(),
        _ => 0,
    };
    octets.saturating_add(size_of::<Event<'_>>())
}

fn owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Data(data) => {
            let Data { flow, direction, time, interface, offset, bytes, segment_start, starts, ack } = data;
            let bytes = Cow::Owned(bytes.into_owned());
            Event::Data(Data { flow, direction, time, interface, offset, bytes, segment_start, starts, ack })
        }
        Event::Opened(opened) => Event::Opened(opened),
        Event::Gap { flow, direction, time, offset, length, cause } => {
            Event::Gap { flow, direction, time, offset, length, cause }
        }
        Event::End { flow, direction, time, kind } => Event::End { flow, direction, time, kind },
        Event::Conflict { flow, direction, time, offset } => {
            Event::Conflict { flow, direction, time, offset }
        }
    }
}

fn direction(event: &Event<'_>) -> Option<Direction> {
    match event {
        Event::Opened(_) => None,
        Event::Data(Data { direction, .. })
        | Event::Gap { direction, .. }
        | Event::End { direction, .. }
        | Event::Conflict { direction, .. } => Some(*direction),
    }
}
