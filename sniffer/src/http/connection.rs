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

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use super::body::{BodyBuilder, Budget};
use super::h1::{Chunk, Framing, Hole, Progress, Receiving};
use super::h2::{self, H2};
use super::head::{self, Facts, Parsed, RequestHead, ResponseHead};
use super::probe::{self, Prefix};
use super::websocket::{self, Talk};
use super::{
    Anomaly, AnomalyKind, Config, Exchange, GapMark, Interim, Message, OtherProtocol, Protocol, Request, Response,
    exchange_id,
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
    pub(super) now: Timestamp,
    pub(super) out: &'a mut Vec<Box<Exchange>>,
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

/// A head as far as it came.
#[derive(Debug)]
struct PartialHead {
    begin: Begin,
    bytes: Vec<u8>,
    /// Where to look for the end from.
    searched: usize,
    charged: usize,
    /// It may yet be the preface of HTTP/2 or a PROXY header.
    prefix: bool,
    /// The head is larger than the limit: only lines that decide framing are added to `bytes` from here on, and this is
    /// the line at hand.
    overflow: Option<Vec<u8>>,
}

/// What a partial head did with octets.
enum Extended {
    /// The head ended after so many of them.
    Ends(usize),
    More,
    /// There is no memory for it.
    Refused,
}

/// A whole exchange whose request came after a lost one. If the client does not wait for answers, the response may be
/// that of the lost request; then another response follows before another request does.
#[derive(Debug)]
struct Doubt {
    pending: Pending,
    answer: Begin,
    /// Where the response ended.
    end: Option<u64>,
    /// The client went on, and neither said that it had waited nor that it had not.
    undecided: bool,
    since: Timestamp,
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
        [&self.to_server, &self.to_client].into_iter().all(|side| side.ended.is_some() && side.waiting.is_empty())
    }

    /// Tells all that is open; for a capture that ended without ends.
    pub(super) fn finish(&mut self, time: Timestamp, scope: &mut Scope<'_>) {
        self.release(scope);
        for direction in [Direction::ToServer, Direction::ToClient] {
            if self.side(direction).ended.is_none() {
                self.process(Event::End { flow: self.flow, direction, time, kind: EndKind::CaptureEnd }, scope);
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

/// Waiting.
impl Connection {
    /// Puts an event behind (or before) those that wait; gives it back where there is no room.
    fn enqueue<'a>(
        &mut self,
        direction: Direction,
        event: Event<'a>,
        first: bool,
        scope: &mut Scope<'_>,
    ) -> Result<(), Event<'a>> {
        let octets = cost(&event);
        let side = self.side_mut(direction);
        // What waits already, and only goes back to the front, has its room.
        let full = !first && side.waiting.len() >= WAITING_LIMIT;
        if full || !scope.budget.take(side.waiting_octets, octets, scope.config) {
            return Err(event);
        }
        side.waiting_octets = side.waiting_octets.saturating_add(octets);
        if side.waiting.is_empty() {
            side.waiting_since = scope.now;
        }
        let event = owned(event);
        if first {
            side.waiting.push_front(event);
        } else {
            side.waiting.push_back(event);
        }
        Ok(())
    }

    /// Takes what no longer has to wait.
    fn wake(&mut self, scope: &mut Scope<'_>) {
        loop {
            let mut moved = false;
            for direction in [Direction::ToServer, Direction::ToClient] {
                let mut since = self.side(direction).waiting_since;
                while let Some(event) = self.side_mut(direction).waiting.pop_front() {
                    let octets = cost(&event);
                    let side = self.side_mut(direction);
                    side.waiting_octets = side.waiting_octets.saturating_sub(octets);
                    scope.budget.give(octets);
                    if self.process(event, scope) {
                        self.side_mut(direction).waiting_since = since;
                        break;
                    }
                    // The next one is at the front only since now.
                    since = scope.now;
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Must a response whose sender had received `ack` wait for requests? One octet more than was delivered may be the
    /// client's FIN, which takes a sequence number.
    fn response_waits(&self, ack: Option<u64>) -> bool {
        !self.forced
            && self.to_server.ended.is_none()
            && self.to_server.waiting.is_empty()
            && (self.to_server.seen || !(self.mid_stream || self.deaf))
            && ack.is_some_and(|ack| ack > self.to_server.position.saturating_add(1))
    }

    /// Must the client's next bytes wait because a switch of protocols may come before them?
    fn request_waits(&self) -> bool {
        !self.forced
            && self.to_client.ended.is_none()
            && self.pending.back().is_some_and(|last| last.switches && !last.answered)
    }

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

    /// Lets the rest of an event wait. Without room for it, it is taken at once: then nothing waits any more.
    fn wait(&mut self, data: &Data<'_>, taken: usize, scope: &mut Scope<'_>) -> Outcome {
        let direction = data.direction;
        let rest = after(borrowed(data), taken);
        let side = self.side_mut(direction);
        side.position = side.position.max(rest.offset);
        match self.enqueue(direction, Event::Data(rest), true, scope) {
            Ok(()) => Outcome::Waits,
            Err(_) => {
                self.forced = true;
                let outcome = self.data(after(borrowed(data), taken), scope);
                self.forced = false;
                if outcome { Outcome::Waits } else { Outcome::Done }
            }
        }
    }
}

/// Requests.
impl Connection {
    fn request_bytes(&mut self, data: &Data<'_>, scope: &mut Scope<'_>) -> Outcome {
        let bytes = &*data.bytes;
        let mut taken = 0_usize;
        if matches!(self.to_server.place, Place::Hunting)
            && let Some(outcome) = self.hunt(data, scope)
        {
            return outcome;
        }
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match &mut self.to_server.place {
                Place::Start => {
                    if matches!(self.speaks, Speaks::Unknown) && !self.to_server.lost {
                        match (probe::preface(rest), probe::proxy_header(rest)) {
                            (Prefix::Whole(_), _) => {
                                self.leave(scope);
                                self.speaks = Speaks::H2(Box::new(H2::new(self.ends, self.flow, h2::Start::Preface)));
                                return Outcome::Switched(taken);
                            }
                            (_, Prefix::Whole(length)) => {
                                taken = taken.saturating_add(length);
                                continue;
                            }
                            (Prefix::Partial, _) | (_, Prefix::Partial) if self.to_client.ended.is_none() => {
                                self.to_server.latest = data.time;
                                self.to_server.place = Place::Head(PartialHead::new(begin_at(data, taken), true));
                                continue;
                            }
                            _ => {}
                        }
                    }
                    let blank = blank_lines(rest);
                    if blank > 0 {
                        self.to_server.blank = true;
                        taken = taken.saturating_add(blank);
                        continue;
                    }
                    if self.request_waits() {
                        return self.wait(data, taken, scope);
                    }
                    match head::request(rest, scope.config) {
                        Parsed::Whole(head, length) => {
                            let begin = begin_at(data, taken);
                            taken = taken.saturating_add(length);
                            self.to_server.latest = data.time;
                            self.request_head(head, begin, offset_at(data, taken), scope);
                        }
                        Parsed::Partial => {
                            self.begin_head(data, taken, scope);
                            return Outcome::Done;
                        }
                        Parsed::Not => return self.no_message(data, taken, scope),
                    }
                }
                Place::Head(partial) if partial.prefix => {
                    let octet = rest.get(..1).unwrap_or_default();
                    match partial.extend_prefix(octet, scope.config, scope.budget) {
                        Extended::Refused => {
                            self.drop_head(Direction::ToServer, scope);
                            continue;
                        }
                        Extended::More => {
                            taken = taken.saturating_add(1);
                            if !partial.prefix {
                                // The empty lines before a request look like the beginning of a PROXY header.
                                let blank = blank_lines(&partial.bytes);
                                partial.bytes.drain(..blank);
                                partial.begin.offset = partial.begin.offset.saturating_add(blank as u64);
                                self.to_server.blank |= blank > 0;
                            }
                        }
                        Extended::Ends(_) => {
                            taken = taken.saturating_add(1);
                            let Some(partial) = self.take_head(Direction::ToServer, scope) else { continue };
                            if matches!(probe::preface(&partial.bytes), Prefix::Whole(_)) {
                                let mut h2 = Box::new(H2::new(self.ends, self.flow, h2::Start::Preface));
                                let (bytes, offset) = (Cow::Borrowed(&*partial.bytes), partial.begin.offset);
                                let preface = Data { bytes, offset, ..*data };
                                h2.data(&preface, scope.config, scope.budget, scope.out);
                                self.leave(scope);
                                self.speaks = Speaks::H2(h2);
                                return Outcome::Switched(taken);
                            }
                        }
                    }
                }
                Place::Head(partial) => {
                    self.to_server.latest = self.to_server.latest.max(data.time);
                    match partial.extend(rest, scope.config, scope.budget) {
                        Extended::More => return Outcome::Done,
                        Extended::Refused => {
                            self.drop_head(Direction::ToServer, scope);
                            *scope.hunted = scope.hunted.saturating_add(rest.len() as u64);
                            return Outcome::Done;
                        }
                        Extended::Ends(length) => {
                            taken = taken.saturating_add(length);
                            let Some(partial) = self.take_head(Direction::ToServer, scope) else { continue };
                            match self.request_of(&partial, scope.config) {
                                Some(head) => self.request_head(head, partial.begin, offset_at(data, taken), scope),
                                None => return self.no_head(&partial, data, taken, scope),
                            }
                        }
                    }
                }
                Place::Body(receiving) => {
                    if taken == 0
                        && receiving.expects
                        && receiving.untouched()
                        && data.segment_start
                        && head::believable_request(rest)
                    {
                        self.to_server.lost |= receiving.torn();
                        self.finish_request(false, Some((AnomalyKind::EarlyResponse, "the body was never sent")), scope);
                        continue;
                    }
                    self.to_server.latest = self.to_server.latest.max(data.time);
                    let (length, progress) = receiving.push(rest, scope.config, scope.budget);
                    taken = taken.saturating_add(length);
                    match progress {
                        Progress::More => {}
                        Progress::Done => {
                            if let Some(last) = self.pending.back_mut() {
                                last.end = offset_at(data, taken);
                            }
                            self.finish_request(true, None, scope);
                        }
                        Progress::Broken => {
                            self.finish_request(false, Some((AnomalyKind::BadChunk, "")), scope);
                            self.to_server.out_of_step();
                        }
                    }
                }
                Place::Hunting => {
                    *scope.hunted = scope.hunted.saturating_add(rest.len() as u64);
                    return Outcome::Done;
                }
            }
        }
        Outcome::Done
    }

    /// A request's head is there to its end.
    fn request_head(&mut self, head: RequestHead, begin: Begin, end: u64, scope: &mut Scope<'_>) {
        self.speaks = Speaks::Http1;
        self.client_goes_on(begin.ack, self.to_server.lost, scope);
        let RequestHead { method, target, host, scheme, version, headers, facts, anomalies } = head;
        let kind = match &*method {
            "HEAD" => Method::Head,
            "CONNECT" => Method::Connect,
            _ => Method::Other,
        };
        let framing = if facts.chunked {
            Some(Framing::Chunked(Chunk::FIRST))
        } else if facts.other_coding {
            // RFC 9112 §6.3: its length cannot be told; a server refuses it and closes.
            Some(Framing::UntilClose)
        } else {
            facts.length.filter(|length| *length > 0).map(Framing::Length)
        };
        let builder = BodyBuilder::new(&headers, None, scope.config).expecting(facts.length.unwrap_or(0));
        let octets = headers.octets().saturating_add(target.len());
        let message =
            Message { version, headers, first_byte: begin.time, last_byte: self.to_server.latest, ..Message::default() };
        let mut exchange = self.exchange(Direction::ToServer, begin, version);
        exchange.request = Some(Request { method: Some(method), target: Some(target), host, scheme, message });
        exchange.anomalies = anomalies;
        self.oddities_before(Direction::ToServer, &mut exchange);
        let after_loss = std::mem::take(&mut self.to_server.lost);
        // Sent without having received anything since the last request?
        self.pipelines |= begin.ack.zip(self.last_ack).is_some_and(|(ack, before)| ack <= before);
        self.last_ack = begin.ack.or(self.last_ack);
        let charge = if octets > FREE_HEADS || !self.pending.is_empty() { octets } else { 0 };
        let granted = scope.budget.take(0, charge, scope.config);
        self.pending.push_back(Pending {
            exchange,
            start: begin.offset,
            end: u64::MAX,
            ack: begin.ack,
            method: kind,
            switches: facts.upgrade || kind == Method::Connect,
            after_loss,
            asked: false,
            answered: false,
            doubtful: false,
            charged: if granted { charge } else { 0 },
        });
        let mut receiving = Receiving::new(builder, framing.unwrap_or(Framing::Length(0)));
        receiving.expects = facts.expects;
        self.to_server.place = Place::Body(Box::new(receiving));
        if self.pending.len() > scope.config.pipeline_limit || !granted {
            self.overflow(scope);
        }
        if framing.is_none() {
            if let Some(last) = self.pending.back_mut() {
                last.end = end;
            }
            self.finish_request(true, None, scope);
        }
    }

    /// The request at hand is over.
    fn finish_request(&mut self, complete: bool, cut: Option<(AnomalyKind, &str)>, scope: &mut Scope<'_>) {
        let Some(receiving) = self.to_server.take_body() else { return };
        let latest = self.to_server.latest;
        let mut anomalies = Vec::new();
        let (body, trailers) = receiving.finish(complete, scope.config, scope.budget, &mut anomalies);
        // The request at hand is always the last; where it was given up (overflow) nothing is left to fill.
        let Some(last) = self.pending.back_mut().filter(|last| !last.asked) else { return };
        last.asked = true;
        if let Some(request) = &mut last.exchange.request {
            request.message.body = body;
            request.message.trailers = trailers;
            request.message.last_byte = request.message.last_byte.max(latest);
        }
        for anomaly in anomalies {
            odd(&mut last.exchange, anomaly.kind, &anomaly.detail);
        }
        if let Some((kind, detail)) = cut {
            odd(&mut last.exchange, kind, detail);
        }
        if !last.answered {
            last.hold(Direction::ToServer, scope);
        }
        self.settle(scope);
    }

    /// Too many requests wait: the oldest that is not being answered is told without an answer.
    fn overflow(&mut self, scope: &mut Scope<'_>) {
        let at = usize::from(self.answering == Answering::Front);
        if at.saturating_add(1) >= self.pending.len() {
            return;
        }
        if let Some(mut oldest) = self.pending.remove(at) {
            odd(&mut oldest.exchange, AnomalyKind::PipelineOverflow, "");
            oldest.tell(scope);
        }
        if let Some(next) = self.pending.get_mut(at) {
            next.after_loss = true;
        }
        self.pipelines = true;
    }
}

/// Responses.
impl Connection {
    fn response_bytes(&mut self, data: &Data<'_>, scope: &mut Scope<'_>) -> Outcome {
        let bytes = &*data.bytes;
        let mut taken = 0_usize;
        // The server says more, and has heard no more than the doubtful request: so that one's answer is yet to come.
        if let Some(doubt) = &self.doubt
            && doubt.end.is_some_and(|end| data.offset >= end)
            && data.ack.is_some_and(|ack| doubt.is_all_heard(ack))
        {
            self.disbelieve(scope);
        }
        if matches!(self.to_client.place, Place::Hunting)
            && let Some(outcome) = self.hunt(data, scope)
        {
            return outcome;
        }
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match &mut self.to_client.place {
                Place::Start => {
                    let blank = blank_lines(rest);
                    if blank > 0 && (matches!(self.speaks, Speaks::Http1)) {
                        self.to_client.blank = true;
                        taken = taken.saturating_add(blank);
                        continue;
                    }
                    if self.response_waits(data.ack) {
                        return self.wait(data, taken, scope);
                    }
                    if matches!(self.speaks, Speaks::Unknown)
                        && !self.to_server.seen
                        && !self.forced
                        && self.to_server.ended.is_none()
                        && h2::looks_like_frames(rest)
                    {
                        // An h2 server may say its settings before the client has said that it is h2.
                        return self.wait(data, taken, scope);
                    }
                    match head::response(rest, scope.config) {
                        Parsed::Whole(head, length) => {
                            let begin = begin_at(data, taken);
                            taken = taken.saturating_add(length);
                            self.to_client.latest = data.time;
                            self.to_client.position = offset_at(data, taken);
                            if self.response_head(head, begin, scope) {
                                return Outcome::Switched(taken);
                            }
                        }
                        Parsed::Partial => {
                            self.begin_head(data, taken, scope);
                            return Outcome::Done;
                        }
                        Parsed::Not => return self.no_message(data, taken, scope),
                    }
                }
                Place::Head(partial) => {
                    self.to_client.latest = self.to_client.latest.max(data.time);
                    match partial.extend(rest, scope.config, scope.budget) {
                        Extended::More => return Outcome::Done,
                        Extended::Refused => {
                            self.drop_head(Direction::ToClient, scope);
                            *scope.hunted = scope.hunted.saturating_add(rest.len() as u64);
                            return Outcome::Done;
                        }
                        Extended::Ends(length) => {
                            taken = taken.saturating_add(length);
                            self.to_client.position = offset_at(data, taken);
                            let Some(partial) = self.take_head(Direction::ToClient, scope) else { continue };
                            match response_of(&partial, scope.config) {
                                Some(head) => {
                                    if self.response_head(head, partial.begin, scope) {
                                        return Outcome::Switched(taken);
                                    }
                                }
                                None => return self.no_head(&partial, data, taken, scope),
                            }
                        }
                    }
                }
                Place::Body(receiving) => {
                    if taken == 0
                        && receiving.perhaps_none
                        && receiving.untouched()
                        && data.segment_start
                        && head::believable_response(rest)
                    {
                        self.finish_response(true, None, scope);
                        continue;
                    }
                    self.to_client.latest = self.to_client.latest.max(data.time);
                    let (length, progress) = receiving.push(rest, scope.config, scope.budget);
                    taken = taken.saturating_add(length);
                    self.to_client.position = offset_at(data, taken);
                    match progress {
                        Progress::More => {}
                        Progress::Done => self.finish_response(true, None, scope),
                        Progress::Broken => {
                            self.finish_response(false, Some((AnomalyKind::BadChunk, "")), scope);
                            self.to_client.out_of_step();
                            self.uncertain = true;
                        }
                    }
                }
                Place::Hunting => {
                    *scope.hunted = scope.hunted.saturating_add(rest.len() as u64);
                    return Outcome::Done;
                }
            }
        }
        Outcome::Done
    }

    /// A response's head is there to its end; true when the protocol switches behind it.
    fn response_head(&mut self, head: ResponseHead, begin: Begin, scope: &mut Scope<'_>) -> bool {
        self.speaks = Speaks::Http1;
        self.to_client.lost = false;
        if self.answering == Answering::Nothing {
            self.answering = self.pair(begin, head.version, scope);
            self.answer_begin = Some(begin);
        }
        let ResponseHead { status, reason, version, headers, facts, anomalies } = head;
        let (method, asked) = match self.answering {
            Answering::Front => self.pending.front().map_or((Method::Other, true), |p| (p.method, p.asked)),
            _ => (Method::Other, true),
        };
        let known =
            self.answering == Answering::Front && self.pending.front().is_some_and(|front| !front.doubtful);
        // Where its sender had heard more than was delivered here, nobody knows.
        let early = !asked && self.answer_begin.is_some_and(|begin| begin.ack.is_none_or(|ack| ack <= self.to_server.position));
        let latest = self.to_client.latest;
        let (blank, stray) = (std::mem::take(&mut self.to_client.blank), std::mem::take(&mut self.to_client.stray));
        let Some(exchange) = self.target() else { return false };
        for anomaly in anomalies {
            odd(exchange, anomaly.kind, &anomaly.detail);
        }
        if blank {
            odd(exchange, AnomalyKind::EmptyLineBeforeMessage, "");
        }
        if stray {
            odd(exchange, AnomalyKind::StrayBytes, "before the response");
        }
        if (100..200).contains(&status) && status != 101 {
            if exchange.interim.len() < INTERIM_LIMIT {
                exchange.interim.push(Interim { status, time: begin.time, headers });
            }
            self.to_client.place = Place::Start;
            return false;
        }
        if early {
            odd(exchange, AnomalyKind::EarlyResponse, "");
        }
        let framing = response_framing(status, method, &facts);
        let mut receiving = Receiving::new(
            BodyBuilder::new(&headers, Some(status), scope.config).expecting(facts.length.unwrap_or(0)),
            framing.unwrap_or(Framing::Length(0)),
        );
        receiving.perhaps_none = !known;
        let Some(exchange) = self.target() else { return false };
        let message = Message { version, headers, first_byte: begin.time, last_byte: latest, ..Message::default() };
        exchange.response = Some(Response { status: Some(status), reason, message });
        self.to_client.place = Place::Body(Box::new(receiving));
        if status == 101 {
            self.switch(scope);
            return true;
        }
        if framing.is_none() {
            self.finish_response(true, None, scope);
            if method == Method::Connect && (200..300).contains(&status) {
                self.tunnel(scope);
                return true;
            }
        }
        false
    }

    /// The exchange that the response at hand belongs to.
    fn target(&mut self) -> Option<&mut Exchange> {
        match self.answering {
            Answering::Nothing => None,
            Answering::Front => self.pending.front_mut().map(|front| &mut *front.exchange),
            Answering::Lone => self.lone.as_deref_mut(),
        }
    }

    /// Which request does the response that begins here answer?
    fn pair(&mut self, begin: Begin, version: (u8, u8), scope: &mut Scope<'_>) -> Answering {
        // Unless its sender has heard more of the client than the doubtful request: then that is what it answers.
        let same = self.doubt.as_ref().is_some_and(|doubt| begin.ack.is_none_or(|ack| doubt.is_all_heard(ack)));
        if same {
            self.disbelieve(scope);
        } else {
            self.believe(scope);
        }
        // The request at hand is not over and has its response: if it was doubtful, it was not its own.
        if self.pending.front().is_some_and(|front| front.answered && front.doubtful)
            && let (Some(mut front), Some(answer)) = (self.pending.pop_front(), self.answer_begin)
        {
            tell(self.part(&mut front, answer), scope);
            self.pending.push_front(front);
            self.pipelines = true;
        }
        let received = |pending: &Pending| !pending.answered && begin.ack.is_none_or(|ack| pending.start < ack);
        let sure_order = !self.uncertain && self.pending.front().is_some_and(|front| !front.after_loss);
        if sure_order {
            if self.pending.front().is_some_and(received) {
                return Answering::Front;
            }
        } else {
            let sent_before = |pending: &Pending| pending.ack.is_none_or(|ack| ack <= begin.offset);
            let candidate = self.pending.iter().rposition(|pending| received(pending) && sent_before(pending));
            if let Some(pending) = candidate.and_then(|at| self.pending.get(at)) {
                self.pipelines |= self.did_not_wait(pending, begin);
            }
            if let Some(at) = candidate
                && self.pending.get(at).is_some_and(|pending| self.is_sure(pending, at, begin))
            {
                for _ in 0..at {
                    let Some(mut missed) = self.pending.pop_front() else { break };
                    for hole in &self.to_client.holes {
                        add_gap(&mut missed.exchange.gaps, *hole);
                    }
                    missed.tell(scope);
                }
                if let Some(front) = self.pending.front_mut() {
                    front.doubtful = std::mem::take(&mut front.after_loss);
                    let start = front.start;
                    self.to_server.holes.retain(|hole| hole.offset > start);
                }
                self.to_client.holes.clear();
                self.uncertain = false;
                return Answering::Front;
            }
        }
        // Alone, then.
        let mut exchange = self.exchange(Direction::ToClient, begin, version);
        let missed = self.to_server.lost || !self.to_server.holes.is_empty() || self.mid_stream;
        if !self.uncertain && !missed && !self.forced {
            odd(&mut exchange, AnomalyKind::UnsolicitedResponse, "");
        }
        for hole in &self.to_server.holes {
            if begin.ack.is_none_or(|ack| hole.offset < ack) {
                add_gap(&mut exchange.gaps, *hole);
            }
        }
        self.uncertain |= !sure_order && !self.pending.is_empty();
        self.lone = Some(exchange);
        Answering::Lone
    }

    /// Does the client send requests before it has the answers, judged by this one, behind a hole, and by the response
    /// that begins here?
    fn did_not_wait(&self, pending: &Pending, begin: Begin) -> bool {
        let Some(had) = pending.ack else { return false };
        // After the last response its sender heard more of the client, of which something is missing. So there was a
        // request, and its answer would have to lie between that response and what the client had received when it
        // sent this one. But there is nothing.
        if let (Some(answered), Some(heard)) = (self.answered_to, self.answer_ack)
            && had <= answered
            && self
                .to_server
                .holes
                .iter()
                .any(|hole| hole.offset < pending.start && hole.offset.saturating_add(hole.length) > heard)
        {
            return true;
        }
        // The client said more after this request, and had nothing of the answer yet; more than an empty line or FIN.
        let cut = pending.exchange.anomalies.iter().any(|anomaly| anomaly.kind == AnomalyKind::CutByGap);
        had == begin.offset && !cut && begin.ack.is_some_and(|ack| ack > pending.end.saturating_add(4))
    }

    /// Behind a hole: does the response that begins here surely answer that request, the last that its sender had
    /// received? The module's text says why.
    fn is_sure(&self, pending: &Pending, at: usize, begin: Begin) -> bool {
        if self.pipelines {
            return false;
        }
        match (pending.ack, begin.ack) {
            (Some(had), _) if had == begin.offset => true,
            (_, Some(ack)) => ack <= pending.end,
            // Nothing is known: only the order is left, and only where there is nothing else.
            (None, None) => at == 0 && self.pending.len() == 1 && self.to_client.holes.is_empty(),
            (Some(_), None) => false,
        }
    }

    /// The response at hand is over.
    fn finish_response(&mut self, complete: bool, cut: Option<(AnomalyKind, &str)>, scope: &mut Scope<'_>) {
        let Some(receiving) = self.to_client.take_body() else { return };
        let latest = self.to_client.latest;
        // A response that was cut ended nobody knows where, unless its length was known.
        let end = match &cut {
            None => Some(self.to_client.position),
            Some(_) => self.torn_end.take(),
        };
        self.uncertain |= cut.is_some();
        self.answered_to = end;
        self.answer_ack = self.answer_begin.and_then(|begin| begin.ack);
        let mut anomalies = Vec::new();
        let (body, trailers) = receiving.finish(complete, scope.config, scope.budget, &mut anomalies);
        let Some(exchange) = self.target() else { return };
        if let Some(response) = &mut exchange.response {
            response.message.body = body;
            response.message.trailers = trailers;
            response.message.last_byte = response.message.last_byte.max(latest);
        }
        for anomaly in anomalies {
            odd(exchange, anomaly.kind, &anomaly.detail);
        }
        if let Some((kind, detail)) = cut {
            odd(exchange, kind, detail);
        }
        match std::mem::replace(&mut self.answering, Answering::Nothing) {
            Answering::Front => {
                // The next request was sent before this answer was received whole.
                let next = self.pending.get(1).and_then(|next| next.ack);
                self.pipelines |= next.zip(end).is_some_and(|(had, end)| had < end);
                if let Some(front) = self.pending.front_mut() {
                    front.answered = true;
                    if !front.asked {
                        front.hold(Direction::ToClient, scope);
                    }
                }
                self.settle(scope);
            }
            Answering::Lone => {
                if let Some(lone) = self.lone.take() {
                    tell(lone, scope);
                }
            }
            Answering::Nothing => {}
        }
    }

    /// Tells what is finished, in order.
    fn settle(&mut self, scope: &mut Scope<'_>) {
        while let Some(front) = self.pending.front() {
            let unanswered = match self.to_client.ended {
                Some(kind) if !front.answered && self.answering != Answering::Front => Some(kind),
                _ => None,
            };
            if !front.asked || !(front.answered || unanswered.is_some()) {
                return;
            }
            let Some(mut front) = self.pending.pop_front() else { return };
            if let Some(kind) = unanswered {
                for hole in &self.to_client.holes {
                    add_gap(&mut front.exchange.gaps, *hole);
                }
                let (anomaly, detail) = match kind {
                    EndKind::Fin => (AnomalyKind::NoResponse, "the connection was closed"),
                    EndKind::Reset => (AnomalyKind::NoResponse, "the connection was reset"),
                    EndKind::Abandoned => (AnomalyKind::NoResponse, "the connection fell silent"),
                    EndKind::CaptureEnd => (AnomalyKind::CutByCaptureEnd, "no response until then"),
                };
                odd(&mut front.exchange, anomaly, detail);
            }
            if front.doubtful
                && front.answered
                && let Some(answer) = self.answer_begin
            {
                self.believe(scope);
                front.hold(Direction::ToClient, scope);
                let end = self.answered_to;
                if end.is_none() && self.to_client.ended.is_none() {
                    // A hole hides where it ended, and what else may have come.
                    let alone = self.part(&mut front, answer);
                    front.tell(scope);
                    tell(alone, scope);
                    continue;
                }
                self.doubt = Some(Box::new(Doubt { pending: front, answer, end, undecided: false, since: scope.now }));
                // The client may have gone on already.
                if let Some(next) = self.pending.front() {
                    let (had, after_loss) = (next.ack, next.after_loss);
                    self.client_goes_on(had, after_loss, scope);
                }
                continue;
            }
            front.tell(scope);
        }
    }

    /// The client began another request, having received so much. If that is up to the end of the doubtful response, it
    /// waited for it; if it is less, it does not wait for answers; if it is more, there was a further response, which
    /// answered a request that was lost in between, or else this one.
    fn client_goes_on(&mut self, had: Option<u64>, after_loss: bool, scope: &mut Scope<'_>) {
        let Some(doubt) = &mut self.doubt else { return };
        match (had, doubt.end) {
            _ if doubt.undecided => self.believe(scope),
            (Some(had), Some(end)) if had > end && after_loss => doubt.undecided = true,
            (Some(had), Some(end)) if had != end => self.disbelieve(scope),
            _ => self.believe(scope),
        }
    }

    /// The doubtful pair is one: the client went on after its response, or the connection did not go on at all.
    fn believe(&mut self, scope: &mut Scope<'_>) {
        if let Some(doubt) = self.doubt.take() {
            doubt.pending.tell(scope);
        }
    }

    /// The doubtful pair is none: another response came before another request. Each is told alone.
    fn disbelieve(&mut self, scope: &mut Scope<'_>) {
        let Some(doubt) = self.doubt.take() else { return };
        let Doubt { mut pending, answer, .. } = *doubt;
        let alone = self.part(&mut pending, answer);
        self.pipelines = true;
        pending.tell(scope);
        tell(alone, scope);
    }

    /// Takes a response away from a request that it does not answer.
    fn part(&mut self, pending: &mut Pending, answer: Begin) -> Box<Exchange> {
        let version = pending.exchange.response.as_ref().map_or((1, 1), |response| response.message.version);
        let mut alone = self.exchange(Direction::ToClient, answer, version);
        alone.response = pending.exchange.response.take();
        alone.interim = std::mem::take(&mut pending.exchange.interim);
        alone.anomalies = pending.exchange.anomalies.clone();
        alone.gaps = pending.exchange.gaps.clone();
        (pending.answered, pending.doubtful) = (false, false);
        self.uncertain = true;
        alone
    }
}

/// Switching.
impl Connection {
    /// 101 was said: both directions go on with another protocol.
    fn switch(&mut self, scope: &mut Scope<'_>) {
        if let Some(receiving) = self.to_client.take_body() {
            let (body, _) = receiving.finish(true, scope.config, scope.budget, &mut Vec::new());
            if let Some(response) = self.target().and_then(|exchange| exchange.response.as_mut()) {
                response.message.body = body;
            }
        }
        self.finish_request(false, Some((AnomalyKind::EarlyResponse, "")), scope);
        self.leave(scope);
        let (mut exchange, offset) = match std::mem::replace(&mut self.answering, Answering::Nothing) {
            Answering::Front => match self.pending.pop_front() {
                Some(mut front) => {
                    scope.budget.give(std::mem::take(&mut front.charged));
                    (front.exchange, front.start)
                }
                None => return,
            },
            Answering::Lone => match self.lone.take() {
                Some(lone) => (lone, 0),
                None => return,
            },
            Answering::Nothing => return,
        };
        self.believe(scope);
        for left in self.pending.drain(..) {
            left.tell(scope);
        }
        let upgrade = |headers: Option<&super::Headers>| {
            headers.and_then(|headers| headers.text("upgrade")).map(|text| text.trim().to_ascii_lowercase())
        };
        let token = upgrade(exchange.response.as_ref().map(|response| &response.message.headers))
            .or_else(|| upgrade(exchange.request.as_ref().map(|request| &request.message.headers)))
            .unwrap_or_default();
        self.speaks = match (token.as_str(), exchange.request.is_some()) {
            ("websocket", _) => {
                let extensions = exchange
                    .response
                    .as_ref()
                    .map(|response| {
                        let values = response.message.headers.get_all("sec-websocket-extensions");
                        values.map(|value| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>().join(", ")
                    })
                    .filter(|text| !text.is_empty());
                let talk = Talk::new(extensions.as_deref());
                let last = self.to_client.latest;
                Speaks::WebSocket(Box::new(Web { exchange, talk, last }))
            }
            ("h2c", true) => {
                let (request, response) = (exchange.request.take(), exchange.response.take());
                let mut interim = std::mem::take(&mut exchange.interim);
                if let Some(Response { status: Some(status), message, .. }) = response {
                    interim.push(Interim { status, time: message.first_byte, headers: message.headers });
                }
                match request {
                    Some(request) => {
                        let upgraded = h2::Upgraded {
                            request,
                            interface: exchange.interface,
                            offset,
                            interim,
                            gaps: std::mem::take(&mut exchange.gaps),
                            anomalies: std::mem::take(&mut exchange.anomalies),
                        };
                        let start = h2::Start::Upgraded(Box::new(upgraded));
                        Speaks::H2(Box::new(H2::new(self.ends, self.flow, start)))
                    }
                    None => Speaks::Other,
                }
            }
            _ => {
                odd(&mut exchange, AnomalyKind::UnknownUpgrade, &token);
                tell(exchange, scope);
                Speaks::Other
            }
        };
    }

    /// Whether the last request asked for a WebSocket and its response may be among what was missed.
    fn became_websocket(&self) -> bool {
        self.uncertain
            && self.pending.back().is_some_and(|last| {
                let upgrade = last.exchange.request.as_ref().and_then(|request| request.message.headers.get("upgrade"));
                last.asked && !last.answered && upgrade.is_some_and(|token| token.eq_ignore_ascii_case(b"websocket"))
            })
    }

    /// 101 was missed: frames say that it was said.
    fn switch_unseen(&mut self, scope: &mut Scope<'_>) {
        self.believe(scope);
        self.leave(scope);
        let Some(last) = self.pending.pop_back() else { return };
        for missed in self.pending.drain(..) {
            missed.tell(scope);
        }
        scope.budget.give(last.charged);
        let mut exchange = last.exchange;
        for hole in &self.to_client.holes {
            add_gap(&mut exchange.gaps, *hole);
        }
        let last = exchange.started;
        self.speaks = Speaks::WebSocket(Box::new(Web { exchange, talk: Talk::mid_stream(), last }));
    }

    /// CONNECT was granted (RFC 9110 §9.3.6): what follows is a connection of its own.
    fn tunnel(&mut self, scope: &mut Scope<'_>) {
        self.believe(scope);
        for left in self.pending.drain(..) {
            left.tell(scope);
        }
        self.speaks = Speaks::Unknown;
        for side in [&mut self.to_server, &mut self.to_client] {
            side.place = Place::Start;
            side.lost = false;
            side.seen = false;
            side.holes.clear();
        }
        self.uncertain = false;
        self.pipelines = false;
        (self.last_ack, self.answered_to, self.answer_ack) = (None, None, None);
    }
}

/// What is no message.
impl Connection {
    /// Looks for a message at the first byte of a segment. `None` when one begins there, or another protocol does not.
    fn hunt(&mut self, data: &Data<'_>, scope: &mut Scope<'_>) -> Option<Outcome> {
        let direction = data.direction;
        let bytes = &*data.bytes;
        if data.segment_start {
            let unknown = matches!(self.speaks, Speaks::Unknown);
            let begins = match direction {
                Direction::ToServer => head::believable_request(bytes),
                Direction::ToClient => head::believable_response(bytes),
            };
            if begins {
                self.side_mut(direction).place = Place::Start;
                return None;
            }
            if unknown && direction == Direction::ToServer && matches!(probe::preface(bytes), Prefix::Whole(_)) {
                self.leave(scope);
                self.speaks = Speaks::H2(Box::new(H2::new(self.ends, self.flow, h2::Start::Preface)));
                return Some(Outcome::Switched(0));
            }
            if !unknown && self.became_websocket() && websocket::looks_like_frames(direction, bytes) {
                self.switch_unseen(scope);
                return Some(Outcome::Switched(0));
            }
            if unknown && probe::tls(bytes) {
                self.is_other(OtherProtocol::Tls, scope);
                return Some(Outcome::Done);
            }
            if unknown && h2::looks_like_frames(bytes) {
                self.leave(scope);
                self.speaks = Speaks::H2(Box::new(H2::new(self.ends, self.flow, h2::Start::MidStream)));
                return Some(Outcome::Switched(0));
            }
            // The handshake, which would be the exchange, was before the capture: the flow is counted, not told. Bytes
            // of a body may look like frames by chance, but not in segment after segment.
            if unknown && websocket::looks_like_frames(direction, bytes) {
                self.frame_like = self.frame_like.saturating_add(1);
                if self.frame_like >= FRAMES_BELIEVED {
                    self.is_other(OtherProtocol::WebSocket, scope);
                    return Some(Outcome::Done);
                }
            } else {
                self.frame_like = 0;
            }
        }
        *scope.hunted = scope.hunted.saturating_add(bytes.len() as u64);
        Some(Outcome::Done)
    }

    /// Where a message should begin, none does.
    fn no_message(&mut self, data: &Data<'_>, taken: usize, scope: &mut Scope<'_>) -> Outcome {
        let direction = data.direction;
        let rest = data.bytes.get(taken..).unwrap_or_default();
        if matches!(self.speaks, Speaks::Unknown) && !self.mid_stream && !self.side(direction).lost {
            self.is_other(probe::other(direction, rest), scope);
            return Outcome::Done;
        }
        *scope.hunted = scope.hunted.saturating_add(rest.len() as u64);
        // What follows a response of unknown length may well be part of it.
        let sure = direction == Direction::ToServer || !self.uncertain;
        let side = self.side_mut(direction);
        side.stray |= sure;
        side.out_of_step();
        self.uncertain |= direction == Direction::ToClient;
        Outcome::Done
    }

    /// What was collected as a head is none.
    fn no_head(&mut self, partial: &PartialHead, data: &Data<'_>, taken: usize, scope: &mut Scope<'_>) -> Outcome {
        if matches!(self.speaks, Speaks::Unknown) && !self.mid_stream && !self.side(data.direction).lost {
            let kind = match (probe::preface(&partial.bytes), probe::proxy_header(&partial.bytes)) {
                (_, Prefix::Whole(_)) => OtherProtocol::ProxyProtocol,
                _ => probe::other(data.direction, &partial.bytes),
            };
            self.is_other(kind, scope);
            return Outcome::Done;
        }
        *scope.hunted = scope.hunted.saturating_add(partial.bytes.len() as u64);
        self.no_message(data, taken, scope)
    }

    fn is_other(&mut self, kind: OtherProtocol, scope: &mut Scope<'_>) {
        let number = scope.others.entry(kind).or_default();
        *number = number.saturating_add(1);
        self.speaks = Speaks::Other;
        self.leave(scope);
    }

    /// HTTP/1 ends here: what was held of either direction, in case it became a head, is looked at no further.
    fn leave(&mut self, scope: &mut Scope<'_>) {
        for direction in [Direction::ToServer, Direction::ToClient] {
            if let Some(partial) = self.take_head(direction, scope) {
                *scope.hunted = scope.hunted.saturating_add(partial.bytes.len() as u64);
            }
        }
    }

    /// A head begins that does not end in this event.
    fn begin_head(&mut self, data: &Data<'_>, taken: usize, scope: &mut Scope<'_>) {
        let rest = data.bytes.get(taken..).unwrap_or_default();
        let mut partial = PartialHead::new(begin_at(data, taken), false);
        let extended = partial.extend(rest, scope.config, scope.budget);
        let side = self.side_mut(data.direction);
        side.latest = data.time;
        side.place = Place::Head(partial);
        if matches!(extended, Extended::Refused) {
            self.drop_head(data.direction, scope);
        }
    }

    fn take_head(&mut self, direction: Direction, scope: &mut Scope<'_>) -> Option<Box<PartialHead>> {
        let side = self.side_mut(direction);
        match std::mem::replace(&mut side.place, Place::Start) {
            Place::Head(partial) => {
                scope.budget.give(partial.charged);
                Some(partial)
            }
            other => {
                side.place = other;
                None
            }
        }
    }

    /// A head cannot be held.
    fn drop_head(&mut self, direction: Direction, scope: &mut Scope<'_>) {
        if let Some(partial) = self.take_head(direction, scope) {
            *scope.hunted = scope.hunted.saturating_add(partial.bytes.len() as u64);
        }
        self.side_mut(direction).out_of_step();
        self.uncertain |= direction == Direction::ToClient;
    }

    fn request_of(&self, partial: &PartialHead, config: &Config) -> Option<RequestHead> {
        if partial.overflow.is_none() {
            match head::request(&partial.bytes, config) {
                Parsed::Whole(head, _) => return Some(head),
                // In one segment it would be none either.
                Parsed::Not => return None,
                Parsed::Partial => {}
            }
        }
        let mut head = head::lenient_request(&partial.bytes, config)?;
        if partial.overflow.is_some() {
            head.anomalies.push(Anomaly::new(AnomalyKind::HeadTooLarge, ""));
        }
        Some(head)
    }

    /// A hole in a direction, where HTTP/1 is or may be spoken.
    fn hole(&mut self, mark: GapMark, scope: &mut Scope<'_>) {
        let direction = mark.direction();
        let to_server = direction == Direction::ToServer;
        let gap = Some((AnomalyKind::CutByGap, if to_server { "request" } else { "response" }));
        let side = match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        self.torn_end = None;
        match &mut side.place {
            Place::Body(receiving) => {
                let hole = match receiving.perhaps_none && receiving.untouched() {
                    // There may be no body, and another response in the hole.
                    true => Hole::Beyond,
                    false => {
                        self.torn_end = receiving.left().map(|left| mark.offset.saturating_add(left));
                        receiving.gap(mark.length)
                    }
                };
                let end = mark.offset.saturating_add(mark.length);
                match direction {
                    Direction::ToServer => {
                        if let Some(last) = self.pending.back_mut() {
                            add_gap(&mut last.exchange.gaps, mark);
                            if hole != Hole::Inside {
                                last.end = if hole == Hole::AtEnd { end } else { mark.offset };
                            }
                        }
                    }
                    Direction::ToClient => {
                        self.to_client.position = end;
                        if let Some(exchange) = self.target() {
                            add_gap(&mut exchange.gaps, mark);
                        }
                    }
                }
                match (hole, direction) {
                    (Hole::Inside, _) => return,
                    (Hole::AtEnd, Direction::ToServer) => return self.finish_request(true, None, scope),
                    (Hole::AtEnd, Direction::ToClient) => return self.finish_response(true, None, scope),
                    (Hole::Beyond, Direction::ToServer) => self.finish_request(false, gap, scope),
                    (Hole::Beyond, Direction::ToClient) => self.finish_response(false, gap, scope),
                }
            }
            Place::Head(_) => self.cut_head(direction, gap, Some(mark), scope),
            Place::Start | Place::Hunting => {}
        }
        let side = self.side_mut(direction);
        add_gap(&mut side.holes, mark);
        side.out_of_step();
        if !to_server {
            self.uncertain = true;
            self.drop_interim();
        }
    }

    /// A head ends before its end: what is there of it is told if its first line is.
    fn cut_head(
        &mut self,
        direction: Direction,
        cut: Option<(AnomalyKind, &str)>,
        mark: Option<GapMark>,
        scope: &mut Scope<'_>,
    ) {
        let Some(partial) = self.take_head(direction, scope) else { return };
        let lines = memchr::memrchr(b'\n', &partial.bytes).map_or(0, |end| end.saturating_add(1));
        let bytes = partial.bytes.get(..lines).unwrap_or_default();
        match direction {
            Direction::ToServer => match head::lenient_request(bytes, scope.config) {
                Some(mut head) => {
                    head.anomalies.retain(|anomaly| anomaly.kind != AnomalyKind::BadHost);
                    // Whether there was a body, and how long it was, may stand in what is missing.
                    head.facts = Facts { length: Some(1), ..Facts::default() };
                    self.request_head(head, partial.begin, u64::MAX, scope);
                    if let Some(last) = self.pending.back_mut() {
                        last.end = mark.map_or(u64::MAX, |mark| mark.offset);
                        if let Some(mark) = mark {
                            add_gap(&mut last.exchange.gaps, mark);
                        }
                    }
                    self.finish_request(false, cut, scope);
                }
                None => *scope.hunted = scope.hunted.saturating_add(partial.bytes.len() as u64),
            },
            Direction::ToClient => match head::lenient_response(bytes, scope.config) {
                Some(mut head) if head.status >= 200 => {
                    head.facts = Facts { length: Some(1), ..Facts::default() };
                    self.response_head(head, partial.begin, scope);
                    if let (Some(mark), Some(exchange)) = (mark, self.target()) {
                        add_gap(&mut exchange.gaps, mark);
                    }
                    self.finish_response(false, cut, scope);
                }
                _ => *scope.hunted = scope.hunted.saturating_add(partial.bytes.len() as u64),
            },
        }
    }

    /// After an interim response the final one was lost: a request waits on, what has none is nothing.
    fn drop_interim(&mut self) {
        if self.answering != Answering::Nothing && !matches!(self.to_client.place, Place::Body(_) | Place::Head(_)) {
            self.answering = Answering::Nothing;
            self.lone = None;
        }
    }

    fn end(&mut self, direction: Direction, time: Timestamp, kind: EndKind, scope: &mut Scope<'_>) {
        match &mut self.speaks {
            Speaks::Unknown | Speaks::Http1 => self.end_of_messages(direction, kind, scope),
            Speaks::H2(h2) => {
                let before = h2.hunted();
                h2.end(direction, time, kind, scope.config, scope.budget, scope.out);
                count(scope.hunted, before, h2.hunted());
            }
            Speaks::WebSocket(_) | Speaks::Other => {}
        }
        let side = self.side_mut(direction);
        side.ended = Some(kind);
        let both = self.to_server.ended.is_some() && self.to_client.ended.is_some();
        if direction == Direction::ToClient {
            self.settle(scope);
        }
        if !both {
            return;
        }
        // Something of a further response was lost, and the client said nothing more that it could answer.
        let (said, holes) = (self.to_server.position, &self.to_client.holes);
        let more = |doubt: &Doubt| holes.iter().any(|hole| doubt.end.is_some_and(|end| hole.offset >= end));
        if self.doubt.as_ref().is_some_and(|doubt| more(doubt) && said <= doubt.pending.end) {
            self.disbelieve(scope);
        }
        self.believe(scope);
        match std::mem::replace(&mut self.speaks, Speaks::Other) {
            Speaks::WebSocket(web) => {
                let Web { mut exchange, talk, last } = *web;
                let (websocket, anomalies) = talk.finish(time, scope.config, scope.budget);
                exchange.websocket = Some(websocket);
                exchange.ended = last;
                for anomaly in anomalies {
                    odd(&mut exchange, anomaly.kind, &anomaly.detail);
                }
                tell(exchange, scope);
            }
            // A direction may have ended before the other showed that this is HTTP/2: that end was not told to it.
            Speaks::H2(mut h2) => h2.finish(scope.config, scope.budget, scope.out),
            // Data came, and nothing of it was ever recognised.
            Speaks::Unknown if self.to_server.seen || self.to_client.seen => {
                let websocket = self.frame_like > 0;
                let kind = if websocket { OtherProtocol::WebSocket } else { OtherProtocol::Unknown };
                self.is_other(kind, scope);
            }
            _ => {}
        }
    }

    fn end_of_messages(&mut self, direction: Direction, kind: EndKind, scope: &mut Scope<'_>) {
        let to_server = direction == Direction::ToServer;
        let cut = (
            match kind {
                EndKind::Fin | EndKind::Abandoned => AnomalyKind::CutByClose,
                EndKind::Reset => AnomalyKind::CutByReset,
                EndKind::CaptureEnd => AnomalyKind::CutByCaptureEnd,
            },
            if to_server { "request" } else { "response" },
        );
        match &self.side(direction).place {
            Place::Body(receiving) => {
                let complete = receiving.until_close() && kind == EndKind::Fin;
                let never_sent = receiving.expects && receiving.untouched();
                match direction {
                    Direction::ToServer => {
                        let answered = self.pending.back().is_some_and(|last| last.exchange.response.is_some());
                        let cut = match never_sent && answered {
                            true => (AnomalyKind::EarlyResponse, "the body was never sent"),
                            false => cut,
                        };
                        self.finish_request(complete, (!complete).then_some(cut), scope);
                    }
                    Direction::ToClient => self.finish_response(complete, (!complete).then_some(cut), scope),
                }
            }
            Place::Head(_) => {
                let unknown = matches!(self.speaks, Speaks::Unknown);
                self.cut_head(direction, Some(cut), None, scope);
                if unknown && matches!(self.speaks, Speaks::Unknown) {
                    self.is_other(OtherProtocol::Unknown, scope);
                }
            }
            Place::Start | Place::Hunting => {}
        }
        if !to_server {
            self.drop_interim();
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

impl Doubt {
    /// Whether a server that had received so much had heard no more of the client than when it answered.
    fn is_all_heard(&self, ack: u64) -> bool {
        ack <= self.answer.ack.unwrap_or(0).max(self.pending.end)
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

impl PartialHead {
    fn new(begin: Begin, prefix: bool) -> Box<Self> {
        Box::new(Self { begin, bytes: Vec::new(), searched: 0, charged: 0, prefix, overflow: None })
    }

    fn extend(&mut self, bytes: &[u8], config: &Config, budget: &mut Budget) -> Extended {
        if self.overflow.is_some() {
            return self.extend_overflow(bytes);
        }
        let before = self.bytes.len();
        let need = before.saturating_add(bytes.len());
        if need > self.charged {
            let want = need.max(self.charged.saturating_mul(2));
            if !budget.take(self.charged, want.saturating_sub(self.charged), config) {
                return Extended::Refused;
            }
            self.charged = want;
        }
        self.bytes.extend_from_slice(bytes);
        match head::head_end(&self.bytes, self.searched) {
            Ok(end) => {
                self.bytes.truncate(end);
                Extended::Ends(end.saturating_sub(before))
            }
            Err(searched) => {
                self.searched = searched;
                if self.bytes.len() > config.head_limit {
                    // Whole lines are kept; of a first line that is longer than all the limit, its beginning.
                    let lines = memchr::memrchr(b'\n', &self.bytes).map_or(0, |end| end.saturating_add(1));
                    let line = self.bytes.get(lines..).unwrap_or_default();
                    let line = line.get(line.len().saturating_sub(LINE_LIMIT)..).unwrap_or_default().to_vec();
                    self.bytes.truncate(if lines == 0 { config.head_limit } else { lines });
                    self.overflow = Some(line);
                }
                Extended::More
            }
        }
    }

    /// One octet more of what may be a preface or a PROXY header; ends when it is one. When it is none, `prefix` is
    /// cleared: then it is a head like any other.
    fn extend_prefix(&mut self, octet: &[u8], config: &Config, budget: &mut Budget) -> Extended {
        if self.bytes.len() >= self.charged {
            let more = self.charged.max(64);
            if !budget.take(self.charged, more, config) {
                return Extended::Refused;
            }
            self.charged = self.charged.saturating_add(more);
        }
        self.bytes.extend_from_slice(octet);
        match (probe::preface(&self.bytes), probe::proxy_header(&self.bytes)) {
            (Prefix::Whole(_), _) | (_, Prefix::Whole(_)) => return Extended::Ends(1),
            (Prefix::No, Prefix::No) => {
                self.prefix = false;
                self.searched = 0;
            }
            _ => {}
        }
        Extended::More
    }

    /// Reads on line by line; what is kept is the end of a line that is too long, since there the version stands.
    fn extend_overflow(&mut self, bytes: &[u8]) -> Extended {
        let mut taken = 0_usize;
        let Some(line) = &mut self.overflow else { return Extended::More };
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let end = memchr::memchr(b'\n', rest);
            let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            line.extend_from_slice(piece);
            if line.len() > LINE_LIMIT.saturating_mul(2) {
                line.drain(..line.len().saturating_sub(LINE_LIMIT));
            }
            taken = taken.saturating_add(piece.len());
            if end.is_none() {
                break;
            }
            taken = taken.saturating_add(1);
            let whole = line.strip_suffix(b"\r").unwrap_or(line);
            if whole.is_empty() {
                self.bytes.extend_from_slice(b"\r\n");
                return Extended::Ends(taken);
            }
            if !self.bytes.contains(&b'\n') {
                let version = whole.get(whole.len().saturating_sub(8)..).unwrap_or_default();
                self.bytes.push(b' ');
                self.bytes.extend_from_slice(version);
                self.bytes.extend_from_slice(b"\r\n");
            } else if head::is_framing_line(whole) {
                self.bytes.extend_from_slice(whole);
                self.bytes.extend_from_slice(b"\r\n");
            }
            line.clear();
        }
        Extended::More
    }
}

fn response_of(partial: &PartialHead, config: &Config) -> Option<ResponseHead> {
    if partial.overflow.is_none() {
        match head::response(&partial.bytes, config) {
            Parsed::Whole(head, _) => return Some(head),
            Parsed::Not => return None,
            Parsed::Partial => {}
        }
    }
    let mut head = head::lenient_response(&partial.bytes, config)?;
    if partial.overflow.is_some() {
        head.anomalies.push(Anomaly::new(AnomalyKind::HeadTooLarge, ""));
    }
    Some(head)
}

/// How long a response's body is (RFC 9112 §6.3); `None` when there is none.
fn response_framing(status: u16, method: Method, facts: &Facts) -> Option<Framing> {
    let tunnel = method == Method::Connect && (200..300).contains(&status);
    if method == Method::Head || tunnel || matches!(status, 101 | 204 | 304) {
        None
    } else if facts.chunked {
        Some(Framing::Chunked(Chunk::FIRST))
    } else if facts.other_coding {
        Some(Framing::UntilClose)
    } else {
        match facts.length {
            Some(0) => None,
            Some(length) => Some(Framing::Length(length)),
            None => Some(Framing::UntilClose),
        }
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
    let (offset, segment_start) = (offset_at(&data, taken), false);
    let bytes = match data.bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(taken..).unwrap_or_default()),
        Cow::Owned(mut bytes) => {
            bytes.drain(..taken.min(bytes.len()));
            Cow::Owned(bytes)
        }
    };
    Data { bytes, offset, segment_start, ..data }
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
            let Data { flow, direction, time, interface, offset, bytes, segment_start, ack } = data;
            let bytes = Cow::Owned(bytes.into_owned());
            Event::Data(Data { flow, direction, time, interface, offset, bytes, segment_start, ack })
        }
        Event::Opened(opened) => Event::Opened(opened),
        Event::Gap { flow, direction, time, offset, length, cause } => {
            Event::Gap { flow, direction, time, offset, length, cause }
        }
        Event::End { flow, direction, time, kind } => Event::End { flow, direction, time, kind },
        Event::Conflict { flow, direction, time, offset } => Event::Conflict { flow, direction, time, offset },
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
