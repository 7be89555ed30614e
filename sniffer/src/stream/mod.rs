//! From segments to a byte stream per direction: data in order, gaps with their cause, an end. What is delivered and
//! what is declared a gap tile the offsets exactly, once. First bytes win; a retransmission that differs is named.
//! It holds at most its byte budget, over all flows; whoever is evicted gets a gap, never silence.
//!
//! What the next stage can rely on:
//! - Each opened flow gives `Opened` first and one `End` per direction last; nothing of it comes after both.
//! - A direction's `Data` and `Gap` events follow each other without overlap or hole. It begins at offset 0 when its
//!   SYN was seen, else anywhere near [`crate::flow::MID_STREAM_BASE`].
//! - Cause comes before effect: `Data` with `ack: Some(a)` is given after the other direction was given (or declared a
//!   gap) up to `a`. The one exception is a loss that nothing else shows yet: after
//!   [`Config::disorder_nanos`] the data is given without it, and `a` is then higher than what was given.
//! - Nothing waits by a clock other than the capture's, and no longer than [`Config::disorder_nanos`] for what the other
//!   end has acknowledged, or [`Config::deadline_nanos`] for what it has not.

mod held;
mod pair;
mod recent;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::flow::{Direction, FlowId, Opened};
use crate::frame::{Interface, Timestamp};
use crate::stream::pair::{Pair, Shared, Wait};
use crate::stream::recent::Recent;

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

/// Bytes in order: (part of) one segment, or tiny neighbours that had to wait together. [`Data::segments`] gives those
/// one by one, so that a decoder that lost its place can look for a message at a segment's first byte.
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
    /// Which of the other bytes were a segment's first, a bit for each: of a thousand segments of one byte an event for
    /// each would take a hundred times the memory of the bytes.
    pub starts: u128,
    /// How far the sender had received the other direction when it sent this: which requests a response can answer.
    pub ack: Option<u64>,
}

/// Gaps by their cause.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct GapCauses {
    /// [`GapCause::AckedUnseen`].
    pub acked_unseen: u64,
    /// [`GapCause::CaptureLoss`].
    pub capture_loss: u64,
    /// [`GapCause::Truncated`].
    pub truncated: u64,
    /// [`GapCause::Budget`].
    pub budget: u64,
    /// [`GapCause::Deadline`].
    pub deadline: u64,
}

impl GapCauses {
    /// Counts one.
    fn add(&mut self, cause: GapCause) {
        let count = match cause {
            GapCause::AckedUnseen => &mut self.acked_unseen,
            GapCause::CaptureLoss => &mut self.capture_loss,
            GapCause::Truncated => &mut self.truncated,
            GapCause::Budget => &mut self.budget,
            GapCause::Deadline => &mut self.deadline,
        };
        *count = count.saturating_add(1);
    }

    /// Each cause's name, as in JSON, with its count.
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("acked-unseen", self.acked_unseen),
            ("capture-loss", self.capture_loss),
            ("truncated", self.truncated),
            ("budget", self.budget),
            ("deadline", self.deadline),
        ]
    }
}

impl Data<'_> {
    /// The segments in it, in order.
    pub fn segments(&self) -> impl Iterator<Item = Data<'_>> {
        let mut rest = &*self.bytes;
        let mut at = 0_u32;
        let mut starts = self.starts & !1;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let to = if starts == 0 { u32::MAX } else { starts.trailing_zeros() };
            starts &= starts.wrapping_sub(1);
            let (bytes, after) = rest.split_at((to.saturating_sub(at) as usize).min(rest.len()));
            let offset = self.offset.saturating_add(u64::from(at));
            let segment_start = at > 0 || self.segment_start;
            (rest, at) = (after, to);
            Some(Data { bytes: Cow::Borrowed(bytes), offset, segment_start, starts: 0, ..*self })
        })
    }
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
    /// The same by their cause.
    pub gap_causes: GapCauses,
    /// Payload bytes that had been seen before (retransmission, or a second interface).
    pub duplicate_bytes: u64,
    /// Retransmissions whose bytes differed from the first copy.
    pub conflicts: u64,
    /// Bytes that arrived before the start of a stream picked up mid-way, after it had begun to be delivered.
    pub before_start: u64,
    /// Payload bytes after a direction's FIN, or after a RST; dropped.
    pub after_end: u64,
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
#[derive(Debug)]
pub struct Reassembler {
    shared: Shared,
    /// Where each open flow is. Numbers come from our own count, so that nobody can prepare collisions.
    places: HashMap<FlowId, u32, FixedState>,
    pairs: Vec<Option<Pair>>,
    free: Vec<u32>,
    /// When flows have something to do. A flow has at most two timers that count; others are skipped.
    timers: BinaryHeap<Reverse<Timer>>,
    /// How many of `pairs` were ended because the capture ended.
    finished: usize,
}

/// Flows that are ended in one go when the capture ends.
const FINISHED_AT_ONCE: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Timer {
    due: Timestamp,
    flow: FlowId,
    place: u32,
}

/// Timers that no longer count, which are not worth the work of taking them out.
const TIMERS_SLACK: usize = 1024;

/// Interfaces whose latest loss is remembered; beyond it losses are laid to every interface.
const LOSSES_LIMIT: usize = 64;

impl Default for Reassembler {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Reassembler {
    /// Holding nothing.
    pub fn new(config: Config) -> Self {
        Self {
            shared: Shared {
                config,
                counters: Counters::default(),
                now: Timestamp::default(),
                recent: Recent::default(),
                losses: Vec::new(),
            },
            places: HashMap::default(),
            pairs: Vec::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            finished: 0,
        }
    }

    /// Takes a flow event; appends what follows from it to `out`.
    pub fn push<'a>(&mut self, event: crate::flow::Event<'a>, out: &mut Vec<Event<'a>>) {
        match event {
            crate::flow::Event::Opened(opened) => self.open(opened, out),
            crate::flow::Event::Segment(segment) => {
                self.shared.now = self.shared.now.max(segment.time);
                let Some(place) = self.places.get(&segment.flow).copied() else { return };
                let Some(Some(pair)) = self.pairs.get_mut(place as usize) else { return };
                pair.segment(segment, &mut self.shared, out);
                if pair.waits_for_anything() {
                    self.set_timers(place);
                    self.keep_budget(out);
                }
                self.note_peak();
            }
            crate::flow::Event::Closed { flow, time, .. } => {
                self.shared.now = self.shared.now.max(time);
                let Some(place) = self.places.remove(&flow) else { return };
                if let Some(mut pair) = self.pairs.get_mut(place as usize).and_then(Option::take) {
                    pair.end(EndKind::Abandoned, &mut self.shared, out);
                }
                self.free.push(place);
            }
        }
    }

    /// The capture source lost frames: holes from now on may be its doing.
    pub fn lost(&mut self, loss: &crate::frame::Loss) {
        self.shared.now = self.shared.now.max(loss.time);
        let losses = &mut self.shared.losses;
        let interface = if losses.len() < LOSSES_LIMIT { loss.interface } else { Interface::Unknown };
        match losses.iter_mut().find(|(known, _)| *known == interface) {
            Some((_, time)) => *time = loss.time.max(*time),
            None => losses.push((interface, loss.time)),
        }
    }

    /// When [`Self::expire`] has something to do next. It may find that there is nothing to do yet, never that there
    /// was something earlier.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.timers.peek().map(|Reverse(timer)| timer.due)
    }

    /// Declares the gaps that are due at `now`.
    pub fn expire(&mut self, now: Timestamp, out: &mut Vec<Event<'_>>) {
        self.shared.now = self.shared.now.max(now);
        while self.deadline().is_some_and(|due| due <= now) {
            let Some(place) = self.take_timer() else { continue };
            if let Some(Some(pair)) = self.pairs.get_mut(place as usize) {
                pair.settle(&mut self.shared, out);
            }
            self.set_timers(place);
        }
    }

    /// The capture ended: gives all that is held, with gaps between, and ends every open direction.
    pub fn finish(&mut self, now: Timestamp, out: &mut Vec<Event<'_>>) {
        while self.finish_some(now, out) {}
    }

    /// Does a part of what [`Self::finish`] does; true when there is more to do. The ends of all flows at once would take
    /// as much memory as the flows.
    pub fn finish_some(&mut self, now: Timestamp, out: &mut Vec<Event<'_>>) -> bool {
        self.shared.now = self.shared.now.max(now);
        let from = self.finished;
        self.finished = from.saturating_add(FINISHED_AT_ONCE);
        for pair in self.pairs.get_mut(from..).into_iter().flatten().take(FINISHED_AT_ONCE) {
            if let Some(mut pair) = pair.take() {
                pair.end(EndKind::CaptureEnd, &mut self.shared, out);
            }
        }
        if self.finished < self.pairs.len() {
            return true;
        }
        self.finished = 0;
        self.pairs.clear();
        self.places.clear();
        self.free.clear();
        self.timers.clear();
        false
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Octets of memory that the open flows take, with what is held for them.
    pub fn memory(&self) -> usize {
        let pairs = self.pairs.capacity().saturating_mul(size_of::<Option<Pair>>());
        let free = self.free.capacity().saturating_mul(size_of::<u32>());
        let timers = self.timers.capacity().saturating_mul(size_of::<Reverse<Timer>>());
        let held = usize::try_from(self.shared.counters.held).unwrap_or(usize::MAX);
        [pairs, free, timers, held, self.places.allocation_size(), self.shared.recent.memory()]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    fn open(&mut self, opened: Opened, out: &mut Vec<Event<'_>>) {
        let pair = Some(Pair::new(opened.flow));
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(slot) = self.pairs.get_mut(place as usize) {
                    *slot = pair;
                }
                place
            }
            None => {
                // The flow table holds fewer than 2^32 flows.
                let place = u32::try_from(self.pairs.len()).unwrap_or(u32::MAX);
                self.pairs.push(pair);
                place
            }
        };
        self.places.insert(opened.flow, place);
        out.push(Event::Opened(opened));
    }

    /// Takes the first timer; gives its flow's place if the timer still counts.
    fn take_timer(&mut self) -> Option<u32> {
        let Reverse(timer) = self.timers.pop()?;
        let pair = self.pairs.get_mut(timer.place as usize)?.as_mut().filter(|pair| pair.flow == timer.flow)?;
        let mut counts = false;
        for set in [&mut pair.short, &mut pair.long] {
            if *set == Some(timer.due) {
                *set = None;
                counts = true;
            }
        }
        counts.then_some(timer.place)
    }

    /// Sees to it that a flow that waits is looked at when its wait is over.
    fn set_timers(&mut self, place: u32) {
        let Some(Some(pair)) = self.pairs.get_mut(place as usize) else { return };
        let (mut short, mut long) = (pair.short, pair.long);
        for wait in pair.waits(&self.shared) {
            let (set, due) = match wait {
                Wait::Short(due) => (&mut short, due),
                Wait::Long(due) => (&mut long, due),
            };
            if set.is_none_or(|set| due < set) {
                *set = Some(due);
                self.timers.push(Reverse(Timer { due, flow: pair.flow, place }));
            }
        }
        (pair.short, pair.long) = (short, long);
        // Timers of flows that are over stay until their time: many of them must not pile up.
        if self.timers.len() > self.places.len().saturating_mul(4).saturating_add(TIMERS_SLACK) {
            let pairs = &self.pairs;
            self.timers.retain(|Reverse(timer)| {
                pairs.get(timer.place as usize).and_then(Option::as_ref).is_some_and(|pair| {
                    pair.flow == timer.flow && [pair.short, pair.long].contains(&Some(timer.due))
                })
            });
        }
    }

    /// Gives up what is nearest to the end of its wait, until the budget is kept.
    fn keep_budget(&mut self, out: &mut Vec<Event<'_>>) {
        while self.shared.counters.held > self.shared.config.budget as u64 && !self.timers.is_empty() {
            let Some(place) = self.take_timer() else { continue };
            if let Some(Some(pair)) = self.pairs.get_mut(place as usize) {
                match pair.longest_waiting() {
                    Some(direction) => {
                        pair.give_up(direction, &mut self.shared, out);
                    }
                    // It holds nothing: the timer was that of a reset, which waits for late bytes. Set again, it would
                    // be the first one for ever.
                    None => pair.reset_now(&mut self.shared, out),
                }
            }
            self.set_timers(place);
        }
    }

    fn note_peak(&mut self) {
        let counters = &mut self.shared.counters;
        counters.held_peak = counters.held_peak.max(counters.held);
    }
}
