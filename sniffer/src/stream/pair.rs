//! The two directions of one flow, put in order together: a direction's data waits for earlier bytes of its own, and
//! for the bytes of the other direction that its sender had received, so that an answer is never given before its
//! question. Whoever waits, waits for a bounded time; this file says for how long, and what happens then.

use std::borrow::Cow;

use crate::flow::{Direction, FlowId, MID_STREAM_BASE, Segment, begins_at_zero};
use crate::frame::{Interface, Timestamp};
use crate::stream::held::{About, Held, Piece};
use crate::stream::recent::{Recent, RecordId};
use crate::stream::{Config, Counters, Data, EndKind, Event, GapCause};

/// What all flows share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) counters: Counters,
    /// The latest time of any segment, loss or expiry. Never goes back.
    pub(super) now: Timestamp,
    pub(super) recent: Recent,
    /// When each interface last lost frames.
    pub(super) losses: Vec<(Interface, Timestamp)>,
}

/// A hole that appears this long (ns) after a loss was reported is laid to it: sources report with a delay.
const LOSS_NANOS: u64 = 1_000_000_000;

/// A stream picked up midway begins without further waiting when this much is held (bytes): many frames later.
const BEGINNING: usize = 256 << 10;

/// No offset.
const NONE: u64 = u64::MAX;

/// One flow.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) flow: FlowId,
    to_server: Side,
    to_client: Side,
    /// When a RST that was seen takes effect.
    reset: Option<Timestamp>,
    /// The due time of the timers that are set: for waits as short as disorder, and as long as the deadline.
    pub(super) short: Option<Timestamp>,
    pub(super) long: Option<Timestamp>,
}

/// One direction.
#[derive(Debug)]
struct Side {
    /// Where its stream begins, once `started`.
    begin: u64,
    /// The offset up to which everything was delivered or declared a gap.
    next: u64,
    /// The highest acknowledgement of the other end; 0 is none.
    acked: u64,
    /// When `acked` passed `next`, and when it last moved.
    acked_first: Timestamp,
    acked_last: Timestamp,
    /// Where FIN ends the stream.
    fin: u64,
    recent: RecordId,
    started: bool,
    ended: bool,
    /// It waited in vain for the other direction, which then sent nothing: it waits no more.
    waived: bool,
    held: Option<Box<Held>>,
}

/// Why a wait is over before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Force {
    No,
    Budget,
    Close,
}

/// How long a direction waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// At most the time of disorder.
    Short(Timestamp),
    /// At most the deadline.
    Long(Timestamp),
}

impl Wait {
    fn due(self) -> Timestamp {
        match self {
            Self::Short(due) | Self::Long(due) => due,
        }
    }
}

/// What a direction does next.
enum Next {
    Begin(u64),
    Deliver,
    Gap(u64, GapCause),
    Fin,
}

impl Side {
    fn new() -> Self {
        Self {
            begin: 0,
            next: 0,
            acked: 0,
            acked_first: Timestamp::default(),
            acked_last: Timestamp::default(),
            fin: NONE,
            recent: 0,
            started: false,
            ended: false,
            waived: false,
            held: None,
        }
    }

    fn begin(&mut self, at: u64) {
        self.started = true;
        self.begin = at;
        self.next = at;
    }

    fn note_ack(&mut self, ack: u64, now: Timestamp) {
        if ack > self.acked {
            if self.acked <= self.next {
                self.acked_first = now;
            }
            self.acked = ack;
            self.acked_last = now;
        }
    }

    /// The lowest offset that waits.
    fn lowest_held(&self) -> Option<u64> {
        self.held.as_ref().and_then(|held| held.lowest())
    }

    /// Whether a sender that had received up to `ack` of this direction knew more than was given of it so far.
    fn is_behind(&self, ack: Option<u64>) -> bool {
        let Some(ack) = ack else { return false };
        if self.ended {
            false
        } else if self.started {
            // FIN takes a number too.
            ack.min(self.fin) > self.next
        } else {
            let begin = if begins_at_zero(ack) { 0 } else { MID_STREAM_BASE };
            ack > self.lowest_held().unwrap_or(begin)
        }
    }

    fn change_held<R>(&mut self, shared: &mut Shared, change: impl FnOnce(&mut Held) -> R) -> R {
        let now = shared.now;
        let before = self.held.as_ref().map_or(0, |held| held.cost());
        let held = self.held.get_or_insert_with(|| Box::new(Held::new(now)));
        let result = change(held);
        let after = held.cost();
        shared.cost(before, after);
        result
    }

    /// Frees what only costs.
    fn tidy(&mut self, shared: &mut Shared) {
        let waits_for_fin = self.fin != NONE && self.next < self.fin;
        let next = self.next;
        if let Some(held) = &mut self.held {
            let before = held.cost();
            held.forget_before(next);
            let after = held.cost();
            shared.cost(before, after);
            if self.ended || (held.is_empty() && !waits_for_fin) {
                shared.cost(after, 0);
                self.held = None;
            }
        }
    }
}

impl Shared {
    fn cost(&mut self, before: usize, after: usize) {
        let held = self.counters.held.saturating_add(after as u64).saturating_sub(before as u64);
        self.counters.held = held;
    }

    fn after_disorder(&self, time: Timestamp) -> Timestamp {
        time.plus_nanos(self.config.disorder_nanos)
    }

    fn lost_near(&self, interface: Option<Interface>, since: Timestamp) -> bool {
        self.losses.iter().any(|(place, time)| {
            let same = *place == Interface::Unknown || interface.is_none_or(|interface| interface == *place);
            same && time.plus_nanos(LOSS_NANOS) >= since
        })
    }
}

impl Pair {
    pub(super) fn new(flow: FlowId) -> Self {
        Self { flow, to_server: Side::new(), to_client: Side::new(), reset: None, short: None, long: None }
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        self.both(direction).0
    }

    fn both(&mut self, direction: Direction) -> (&mut Side, &mut Side) {
        match direction {
            Direction::ToServer => (&mut self.to_server, &mut self.to_client),
            Direction::ToClient => (&mut self.to_client, &mut self.to_server),
        }
    }

    /// Takes a segment.
    pub(super) fn segment<'a>(&mut self, segment: Segment<'a>, shared: &mut Shared, out: &mut Vec<Event<'a>>) {
        let now = shared.now;
        let direction = segment.direction;
        let (side, other) = self.both(direction);
        if let Some(ack) = segment.ack {
            other.note_ack(ack, now);
        }
        let plain = !segment.flags.syn && !segment.flags.fin && !segment.flags.rst && segment.missing == 0;
        if plain && side.started && side.held.is_none() && side.fin == NONE && !side.ended {
            if segment.payload.is_empty() {
                if other.held.is_some() {
                    self.settle(shared, out);
                }
                return;
            }
            if segment.offset == side.next && (side.waived || !other.is_behind(segment.ack)) {
                other.waived = false;
                let about = About { time: segment.time, interface: segment.interface, ack: segment.ack };
                let waiting = other.held.is_some();
                self.deliver(direction, segment.payload, 1, about, shared, out);
                if waiting {
                    self.settle(shared, out);
                }
                return;
            }
        }
        self.slow_segment(segment, shared, out);
    }

    fn slow_segment<'a>(&mut self, segment: Segment<'a>, shared: &mut Shared, out: &mut Vec<Event<'a>>) {
        let now = shared.now;
        let direction = segment.direction;
        if segment.flags.rst && self.reset.is_none() {
            self.reset = Some(shared.after_disorder(now));
        }
        if self.both(direction).1.held.is_some() {
            self.settle(shared, out);
        }
        let length = (segment.payload.len() as u64).saturating_add(u64::from(segment.missing));
        let sequence_end = segment.offset.saturating_add(length);
        let side = self.side(direction);
        if side.ended {
            let end = segment.offset.saturating_add(segment.payload.len() as u64);
            let after = end.saturating_sub(side.next.clamp(segment.offset, end));
            let before = (segment.payload.len() as u64).saturating_sub(after);
            shared.counters.after_end = shared.counters.after_end.saturating_add(after);
            shared.counters.duplicate_bytes = shared.counters.duplicate_bytes.saturating_add(before);
            self.settle(shared, out);
            return;
        }
        if !side.started && (length > 0 || segment.flags.fin || segment.flags.syn) {
            let offset = segment.offset;
            let lowest = side.lowest_held();
            if segment.flags.syn {
                side.begin(lowest.map_or(offset, |lowest| lowest.min(offset)));
            } else if begins_at_zero(offset) {
                side.begin(0);
            } else if lowest.is_none() && (side.acked == offset || length == 0) {
                // Its receiver had everything before this.
                side.begin(offset);
            }
        }
        if length > 0 {
            self.bytes(&segment, shared, out);
        }
        let side = self.side(direction);
        if segment.flags.fin
            && side.fin == NONE
            && sequence_end >= side.next
            && side.held.as_ref().is_none_or(|held| held.end() <= sequence_end)
        {
            side.fin = sequence_end;
            if side.started && side.next < sequence_end {
                side.change_held(shared, |_| ());
            }
        }
        self.settle(shared, out);
        // One direction has its own bounds.
        let (flow_budget, holes_limit) = (shared.config.flow_budget, shared.config.holes_limit);
        while self
            .side(direction)
            .held
            .as_ref()
            .is_some_and(|held| held.cost() > flow_budget || held.runs() > holes_limit)
        {
            if !self.give_up(direction, shared, out) {
                break;
            }
        }
    }

    /// Sorts a segment's payload: what was seen before, what comes next, what has to wait.
    fn bytes<'a>(&mut self, segment: &Segment<'a>, shared: &mut Shared, out: &mut Vec<Event<'a>>) {
        let direction = segment.direction;
        let (flow, now) = (self.flow, shared.now);
        let about = About { time: segment.time, interface: segment.interface, ack: segment.ack };
        let (side, other) = self.both(direction);
        other.waived = false;
        let data_end = segment.offset.saturating_add(segment.payload.len() as u64);
        let end = data_end.saturating_add(u64::from(segment.missing));
        let mut at = segment.offset;
        let part = |from: u64, to: u64| -> &[u8] {
            let within = |place: u64| place.saturating_sub(segment.offset) as usize;
            segment.payload.get(within(from)..within(to)).unwrap_or_default()
        };
        let mut differs = None;
        if side.started && at < side.next {
            let to = side.next.min(data_end);
            let early = side.begin.min(to).saturating_sub(at);
            let old = to.saturating_sub(at).saturating_sub(early);
            shared.counters.before_start = shared.counters.before_start.saturating_add(early);
            shared.counters.duplicate_bytes = shared.counters.duplicate_bytes.saturating_add(old);
            // A keep-alive probe repeats the last byte's number with any byte (RFC 9293 §3.8.4).
            let probe = segment.payload.len() == 1 && to == side.next;
            if !probe && old > 0 {
                differs = shared.recent.difference(side.recent, at, part(at, to));
            }
            at = side.next;
        }
        // What comes after FIN is not of this stream.
        let limit = data_end.min(side.fin);
        shared.counters.after_end =
            shared.counters.after_end.saturating_add(data_end.saturating_sub(limit.max(at).min(data_end)));
        if at < limit && side.started && at == side.next && (side.waived || !other.is_behind(segment.ack)) {
            let first = side.held.as_ref().and_then(|held| held.first()).map_or(NONE, |(first, _)| first);
            let to = limit.min(first);
            if to > at {
                let bytes = match &segment.payload {
                    Cow::Borrowed(bytes) => {
                        let within = |place: u64| place.saturating_sub(segment.offset) as usize;
                        Cow::Borrowed(bytes.get(within(at)..within(to)).unwrap_or_default())
                    }
                    Cow::Owned(_) => Cow::Owned(part(at, to).to_vec()),
                };
                self.deliver(direction, bytes, u128::from(at == segment.offset), about, shared, out);
                at = to;
            }
        }
        let side = self.side(direction);
        if at < limit {
            let met = side.change_held(shared, |held| {
                held.insert(at, part(at, limit), at == segment.offset, about, now)
            });
            shared.counters.duplicate_bytes = shared.counters.duplicate_bytes.saturating_add(met.duplicate);
            differs = differs.or(met.differs);
        }
        let (from, to) = (data_end.max(if side.started { side.next } else { 0 }), end.min(side.fin));
        if from < to {
            side.change_held(shared, |held| held.hollow(from, to, now));
        }
        if let Some(offset) = differs {
            shared.counters.conflicts = shared.counters.conflicts.saturating_add(1);
            out.push(Event::Conflict { flow, direction, time: segment.time, offset });
        }
    }

    /// Gives what can be given, in both directions, until nothing can.
    pub(super) fn settle(&mut self, shared: &mut Shared, out: &mut Vec<Event<'_>>) {
        loop {
            let mut moved = false;
            for direction in [Direction::ToServer, Direction::ToClient] {
                while self.step(direction, Force::No, shared, out) {
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        if self.reset.is_some_and(|due| due <= shared.now) {
            self.end(EndKind::Reset, shared, out);
        }
    }

    /// The budget is spent: gives up what this direction waits for first. False when it waits for nothing.
    pub(super) fn give_up(
        &mut self,
        direction: Direction,
        shared: &mut Shared,
        out: &mut Vec<Event<'_>>,
    ) -> bool {
        if !self.step(direction, Force::Budget, shared, out) {
            return false;
        }
        shared.counters.evicted = shared.counters.evicted.saturating_add(1);
        self.settle(shared, out);
        true
    }

    /// Waits no longer for bytes that a reset overtook.
    pub(super) fn reset_now(&mut self, shared: &mut Shared, out: &mut Vec<Event<'_>>) {
        if self.reset.is_some() {
            self.end(EndKind::Reset, shared, out);
        }
    }

    /// The direction that waits longest, of those that hold anything.
    pub(super) fn longest_waiting(&self) -> Option<Direction> {
        let since = |side: &Side| side.held.as_ref().map(|held| held.since);
        match (since(&self.to_server), since(&self.to_client)) {
            (Some(a), Some(b)) if b < a => Some(Direction::ToClient),
            (Some(_), _) => Some(Direction::ToServer),
            (None, Some(_)) => Some(Direction::ToClient),
            (None, None) => None,
        }
    }

    /// Gives everything that is held, with gaps between, and ends both directions.
    pub(super) fn end(&mut self, kind: EndKind, shared: &mut Shared, out: &mut Vec<Event<'_>>) {
        let kind = if self.reset.take().is_some() { EndKind::Reset } else { kind };
        self.settle(shared, out);
        while let Some(direction) = self.longest_waiting() {
            if !self.step(direction, Force::Close, shared, out) {
                break;
            }
            self.settle(shared, out);
        }
        for direction in [Direction::ToServer, Direction::ToClient] {
            self.end_one(direction, kind, shared, out);
        }
    }

    /// Whether a timer may be needed.
    pub(super) fn waits_for_anything(&self) -> bool {
        self.to_server.held.is_some() || self.to_client.held.is_some() || self.reset.is_some()
    }

    /// When something is due, and how long a wait that is.
    pub(super) fn waits(&self, shared: &Shared) -> impl Iterator<Item = Wait> {
        let side = |direction| self.plan(direction, Force::No, shared).map(|(wait, _)| wait);
        let reset = self.reset.map(Wait::Short);
        [side(Direction::ToServer), side(Direction::ToClient), reset].into_iter().flatten()
    }

    /// What a direction does next, and when.
    fn plan(&self, direction: Direction, force: Force, shared: &Shared) -> Option<(Wait, Next)> {
        let (side, other) = match direction {
            Direction::ToServer => (&self.to_server, &self.to_client),
            Direction::ToClient => (&self.to_client, &self.to_server),
        };
        let at_once = Wait::Short(Timestamp::default());
        if side.ended {
            return None;
        }
        if side.started && side.next >= side.fin {
            return Some((at_once, Next::Fin));
        }
        let held = side.held.as_ref()?;
        let first = held.first();
        if !side.started {
            let lowest = held.lowest()?;
            // An acknowledgement comes a round trip later: what was only disordered is here by then.
            let answered = first.is_some_and(|(at, piece)| side.acked >= at.saturating_add(piece.bytes.len() as u64));
            let enough = held.cost() > BEGINNING;
            let wait = if answered || enough { at_once } else { Wait::Short(shared.after_disorder(held.since)) };
            return Some((wait, Next::Begin(lowest)));
        }
        if let Some((at, piece)) = first
            && at == side.next
        {
            let waits = !side.waived && other.is_behind(piece.about.ack);
            let wait = if waits { Wait::Short(shared.after_disorder(piece.arrived)) } else { at_once };
            return Some((wait, Next::Deliver));
        }
        let hollow = held.first_hollow().filter(|hollow| hollow.to > side.next);
        let piece_at = first.map_or(NONE, |(at, _)| at);
        if let Some(hollow) = hollow
            && hollow.from <= side.next
        {
            let end = hollow.to.min(piece_at);
            return Some((Wait::Short(shared.after_disorder(hollow.arrived)), Next::Gap(end, GapCause::Truncated)));
        }
        let end = piece_at.min(hollow.map_or(NONE, |hollow| hollow.from)).min(side.fin);
        if end == NONE {
            return None;
        }
        let acked = side.acked >= end;
        let beyond = first.filter(|(at, _)| *at == end);
        let wait = if acked {
            // What was sent before the bytes beyond the hole, and before the acknowledgement, is late by more than
            // disorder when both are. An acknowledgement of no more than is in hand is worth its own time.
            let arrived = beyond.map_or(held.since, |(_, piece)| piece.arrived);
            let patient = side.acked_first.max(arrived);
            let in_hand = beyond.map_or(end, |(at, piece)| at.saturating_add(piece.bytes.len() as u64));
            let from = if side.acked <= in_hand { patient.min(side.acked_last) } else { patient };
            Wait::Short(shared.after_disorder(from))
        } else {
            Wait::Long(held.since.plus_nanos(shared.config.deadline_nanos))
        };
        let cause = if shared.lost_near(beyond.map(|(_, piece)| piece.about.interface), held.since) {
            GapCause::CaptureLoss
        } else if acked {
            GapCause::AckedUnseen
        } else if force == Force::Budget {
            GapCause::Budget
        } else {
            GapCause::Deadline
        };
        Some((wait, Next::Gap(end, cause)))
    }

    /// Does what a direction does next, if it is due or forced. True when something was done.
    fn step(&mut self, direction: Direction, force: Force, shared: &mut Shared, out: &mut Vec<Event<'_>>) -> bool {
        let Some((wait, next)) = self.plan(direction, force, shared) else { return false };
        let due = wait.due() <= shared.now;
        if !due && force == Force::No {
            return false;
        }
        let (flow, now) = (self.flow, shared.now);
        let (side, other) = self.both(direction);
        match next {
            Next::Begin(at) => {
                side.begin(at);
                if let Some(held) = &mut side.held {
                    held.since = now;
                }
            }
            Next::Deliver => {
                let before = side.held.as_ref().map_or(0, |held| held.cost());
                let Some((_, piece)) = side.held.as_mut().and_then(|held| held.take_first()) else {
                    return false;
                };
                let after = side.held.as_ref().map_or(0, |held| held.cost());
                shared.cost(before, after);
                if other.is_behind(piece.about.ack) {
                    side.waived = true;
                }
                let Piece { bytes, about, starts, .. } = piece;
                self.deliver(direction, Cow::Owned(bytes), starts, about, shared, out);
            }
            Next::Gap(end, cause) => {
                let offset = std::mem::replace(&mut side.next, end);
                let length = end.saturating_sub(offset);
                shared.counters.gaps = shared.counters.gaps.saturating_add(1);
                shared.counters.gap_causes.add(cause);
                shared.counters.gap_bytes = shared.counters.gap_bytes.saturating_add(length);
                if let Some(held) = &mut side.held {
                    held.since = now;
                }
                side.tidy(shared);
                out.push(Event::Gap { flow, direction, time: now, offset, length, cause });
            }
            Next::Fin => self.end_one(direction, EndKind::Fin, shared, out),
        }
        true
    }

    fn end_one(&mut self, direction: Direction, kind: EndKind, shared: &mut Shared, out: &mut Vec<Event<'_>>) {
        let (flow, time) = (self.flow, shared.now);
        let side = self.side(direction);
        if !std::mem::replace(&mut side.ended, true) {
            side.tidy(shared);
            out.push(Event::End { flow, direction, time, kind });
        }
    }

    /// Gives the next bytes of a direction. `starts` has a bit for each byte that was a segment's first.
    fn deliver<'a>(
        &mut self,
        direction: Direction,
        bytes: Cow<'a, [u8]>,
        starts: u128,
        about: About,
        shared: &mut Shared,
        out: &mut Vec<Event<'a>>,
    ) {
        let (flow, now) = (self.flow, shared.now);
        let side = self.side(direction);
        let offset = side.next;
        let length = bytes.len() as u64;
        side.next = offset.saturating_add(length);
        side.recent = shared.recent.remember(side.recent, offset, &bytes);
        shared.counters.delivered = shared.counters.delivered.saturating_add(length);
        if let Some(held) = &mut side.held {
            held.since = now;
            side.tidy(shared);
        }
        out.push(Event::Data(Data {
            flow,
            direction,
            time: about.time,
            interface: about.interface,
            offset,
            bytes,
            segment_start: starts & 1 != 0,
            starts: starts & !1,
            ack: about.ack,
        }));
    }
}
