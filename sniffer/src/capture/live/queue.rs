//! Frames on their way from the reading to the decoding thread, at most so many octets at once. The reading thread never
//! waits for room.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::frame::{Frame, Hook, Interface, LinkType, Loss, Timestamp};

/// What came from the ring buffer in one go.
#[derive(Default, Debug)]
pub struct Batch {
    octets: Vec<u8>,
    items: Vec<Entry>,
}

#[derive(Debug)]
enum Entry {
    Frame { time: Timestamp, interface: u32, hook: Hook, range: Range<usize>, wire_length: u32 },
    Loss { time: Timestamp, interface: u32, frames: u64 },
    Name { interface: u32, name: Option<Box<str>> },
}

/// What a batch holds, in order.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Frames were lost.
    Loss(Loss),
    /// An interface is called so from here on; `None`: it went away.
    Name(u32, Option<&'a str>),
}

impl Batch {
    pub(super) fn frame(
        &mut self,
        time: Timestamp,
        interface: u32,
        hook: Hook,
        packet: &[u8],
        wire_length: u32,
    ) {
        let start = self.octets.len();
        self.octets.extend_from_slice(packet);
        let range = start..self.octets.len();
        self.items.push(Entry::Frame { time, interface, hook, range, wire_length });
    }

    pub(super) fn loss(&mut self, time: Timestamp, interface: u32, frames: u64) {
        self.items.push(Entry::Loss { time, interface, frames });
    }

    pub(super) fn name(&mut self, interface: u32, name: Option<&str>) {
        self.items.push(Entry::Name { interface, name: name.map(Into::into) });
    }

    /// How much memory it stands for.
    pub(super) fn weight(&self) -> usize {
        self.octets.len() + self.items.len() * size_of::<Entry>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn clear(&mut self) {
        self.octets.clear();
        self.items.clear();
    }

    /// What is in it.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.items.iter().map(|entry| match entry {
            Entry::Frame { time, interface, hook, range, wire_length } => Item::Frame(Frame {
                time: *time,
                interface: Interface::Index(*interface),
                hook: Some(*hook),
                link: LinkType::Ethernet,
                bytes: self.octets.get(range.clone()).unwrap_or_default(),
                wire_length: *wire_length,
            }),
            Entry::Loss { time, interface, frames } => {
                Item::Loss(Loss { time: *time, interface: Interface::Index(*interface), frames: *frames })
            }
            Entry::Name { interface, name } => Item::Name(*interface, name.as_deref()),
        })
    }

    /// Frames and their octets on the wire, by interface: what is lost with this batch.
    fn frames(&self) -> impl Iterator<Item = (Timestamp, u32, u32)> {
        self.items.iter().filter_map(|entry| match entry {
            Entry::Frame { time, interface, wire_length, .. } => Some((*time, *interface, *wire_length)),
            _ => None,
        })
    }
}

/// What [`super::Live::take`] gives.
#[derive(Debug)]
pub enum Taken {
    /// Frames.
    Batch(Batch),
    /// None came in time.
    Nothing,
    /// None will come any more.
    Ended,
}

pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Batch>,
    octets: usize,
    /// Emptied batches, to be filled again.
    spare: Vec<Batch>,
    /// Frames that were dropped since the last batch went in, by interface.
    dropped: std::collections::BTreeMap<u32, (Timestamp, u64)>,
    closed: bool,
}

/// Batches that are kept for later; their memory would otherwise come and go thousands of times a second.
const SPARE: usize = 8;

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a batch in; gives an empty one back, and how many frames and octets were dropped because it is full.
    pub(super) fn push(&self, mut batch: Batch) -> (Batch, u64, u64) {
        let mut state = self.lock();
        if state.octets.saturating_add(batch.weight()) > self.limit && !state.waiting.is_empty() {
            let (mut frames, mut octets) = (0, 0);
            for (time, interface, length) in batch.frames() {
                let dropped = state.dropped.entry(interface).or_insert((time, 0));
                *dropped = (time, dropped.1 + 1);
                frames += 1;
                octets += u64::from(length);
            }
            // What an interface is called is no matter of room.
            batch.items.retain(|entry| !matches!(entry, Entry::Frame { .. }));
            let mut kept = Batch::default();
            std::mem::swap(&mut kept.items, &mut batch.items);
            if !kept.is_empty() {
                state.octets += kept.weight();
                state.waiting.push_back(kept);
            }
            batch.clear();
            return (batch, frames, octets);
        }
        if !state.dropped.is_empty() {
            let mut losses = Batch::default();
            for (interface, (time, frames)) in std::mem::take(&mut state.dropped) {
                losses.loss(time, interface, frames);
            }
            state.octets += losses.weight();
            state.waiting.push_back(losses);
        }
        state.octets += batch.weight();
        state.waiting.push_back(batch);
        self.changed.notify_one();
        (state.spare.pop().unwrap_or_default(), 0, 0)
    }

    pub(super) fn take(&self, wait: Duration) -> Taken {
        let mut state = self.lock();
        if state.waiting.is_empty() && !state.closed {
            (state, _) = self
                .changed
                .wait_timeout_while(state, wait, |s| s.waiting.is_empty() && !s.closed)
                .unwrap_or_else(PoisonError::into_inner);
        }
        match state.waiting.pop_front() {
            Some(batch) => {
                state.octets = state.octets.saturating_sub(batch.weight());
                Taken::Batch(batch)
            }
            None if state.closed => {
                let Some((interface, (time, frames))) = state.dropped.pop_first() else {
                    return Taken::Ended;
                };
                let mut losses = Batch::default();
                losses.loss(time, interface, frames);
                Taken::Batch(losses)
            }
            None => Taken::Nothing,
        }
    }

    pub(super) fn recycle(&self, mut batch: Batch) {
        batch.clear();
        let mut state = self.lock();
        if state.spare.len() < SPARE {
            state.spare.push(batch);
        }
    }

    /// Octets that wait.
    pub(super) fn octets(&self) -> usize {
        self.lock().octets
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use super::{Batch, Item, Queue, Taken};
    use crate::frame::{Hook, Interface, Timestamp};

    fn batch(interface: u32, length: usize) -> Batch {
        let mut batch = Batch::default();
        batch.frame(Timestamp(7), interface, Hook::Ingress, &vec![1; length], length as u32);
        batch
    }

    fn taken(queue: &Queue) -> Batch {
        match queue.take(Duration::ZERO) {
            Taken::Batch(batch) => batch,
            other => panic!("a batch is there, got {other:?}"),
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_counted_and_told_before_what_comes_next() {
        let queue = Queue::new(1_000);
        assert_eq!(queue.push(batch(3, 800)).1, 0);
        let (_, frames, octets) = queue.push(batch(4, 800));
        assert_eq!((frames, octets), (1, 800), "the reading thread does not wait, and nothing grows");
        assert!(matches!(taken(&queue).items().next(), Some(Item::Frame(_))));
        assert_eq!(queue.push(batch(3, 10)).1, 0);
        let losses = taken(&queue);
        let Some(Item::Loss(loss)) = losses.items().next() else { panic!("a loss: {losses:?}") };
        assert_eq!((loss.interface, loss.frames), (Interface::Index(4), 1));
        assert!(matches!(taken(&queue).items().next(), Some(Item::Frame(_))));
        assert_eq!(queue.octets(), 0);
    }

    #[test]
    fn the_end_comes_after_all_that_waits_and_the_last_losses() {
        let queue = Queue::new(100);
        queue.push(batch(3, 90));
        queue.push(batch(4, 90));
        queue.close();
        assert!(matches!(taken(&queue).items().next(), Some(Item::Frame(_))));
        assert!(matches!(taken(&queue).items().next(), Some(Item::Loss(_))));
        assert!(matches!(queue.take(Duration::ZERO), Taken::Ended));
    }

    #[test]
    fn a_name_is_not_lost_with_the_frames_around_it() {
        let queue = Queue::new(100);
        queue.push(batch(3, 90));
        let mut second = batch(4, 90);
        second.name(4, Some("veth4"));
        queue.push(second);
        taken(&queue);
        assert!(matches!(taken(&queue).items().next(), Some(Item::Name(4, Some("veth4")))));
    }
}
