//! The bytes of one direction that wait for earlier ones: pieces by offset, first copy wins. Every arrival order costs
//! a logarithm per segment; tiny neighbours share a piece, so that a byte per segment does not cost a node per byte.
//! It knows what it costs, and neither time limits nor the other direction.

use std::collections::BTreeMap;

use crate::frame::{Interface, Timestamp};

/// What is known of a segment besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct About {
    /// When it was captured.
    pub(super) time: Timestamp,
    /// Where.
    pub(super) interface: Interface,
    /// How far its sender had received the other direction.
    pub(super) ack: Option<u64>,
}

/// Held bytes: a segment or the new part of one, or a few tiny ones that are neighbours.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    pub(super) about: About,
    /// When the latest of its segments came, by a clock that never goes back.
    pub(super) arrived: Timestamp,
    /// The bit of each byte that was a segment's first; only the first 128 can be.
    pub(super) starts: u128,
}

/// What inserting a segment found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Met {
    /// Bytes that were held already.
    pub(super) duplicate: u64,
    /// The first byte that differs from the held copy.
    pub(super) differs: Option<u64>,
}

/// A range that was on the wire and not captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hollow {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) arrived: Timestamp,
}

#[derive(Debug)]
pub(super) struct Held {
    pieces: BTreeMap<u64, Piece>,
    /// By their beginning: end and arrival. They may overlap pieces, which are then what counts.
    hollows: BTreeMap<u64, (u64, Timestamp)>,
    runs: usize,
    cost: usize,
    /// Since when the direction waits at its present place.
    pub(super) since: Timestamp,
}

/// What holding costs beside the bytes: the first nodes of the trees and the box; an entry in a half-filled node and
/// the allocator's overhead.
const HELD_COST: usize = 1_536;
const PIECE_COST: usize = 192;
const HOLLOW_COST: usize = 64;
/// Segments up to this length share a piece with a neighbour ...
const TINY: usize = 64;
/// ... as long as it has at most this many bytes: as many as `starts` has bits.
const SHARED: usize = 128;
/// Segments that share a piece share its time; they were captured no further apart than this (ns).
const SHARED_NANOS: u64 = 10_000_000;

impl Held {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { pieces: BTreeMap::new(), hollows: BTreeMap::new(), runs: 0, cost: HELD_COST, since: now }
    }

    /// What all this costs, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Runs of held bytes, with holes between.
    pub(super) fn runs(&self) -> usize {
        self.runs
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.hollows.is_empty()
    }

    /// The first piece and where it begins.
    pub(super) fn first(&self) -> Option<(u64, &Piece)> {
        self.pieces.first_key_value().map(|(at, piece)| (*at, piece))
    }

    /// The first range that was not captured.
    pub(super) fn first_hollow(&self) -> Option<Hollow> {
        self.hollows.first_key_value().map(|(from, (to, arrived))| Hollow { from: *from, to: *to, arrived: *arrived })
    }

    /// The lowest offset that is known to exist.
    pub(super) fn lowest(&self) -> Option<u64> {
        let hollow = self.hollows.keys().next();
        self.pieces.keys().next().into_iter().chain(hollow).min().copied()
    }

    /// The offset after the last byte that is known to exist.
    pub(super) fn end(&self) -> u64 {
        let piece = self.pieces.last_key_value().map_or(0, |(at, piece)| piece.end(*at));
        let hollow = self.hollows.last_key_value().map_or(0, |(_, (to, _))| *to);
        piece.max(hollow)
    }

    /// Takes the first piece out.
    pub(super) fn take_first(&mut self) -> Option<(u64, Piece)> {
        let (at, piece) = self.pieces.pop_first()?;
        self.cost = self.cost.saturating_sub(piece.cost());
        let end = piece.end(at);
        // A run goes when its last piece does.
        if self.pieces.keys().next() != Some(&end) {
            self.runs = self.runs.saturating_sub(1);
        }
        Some((at, piece))
    }

    /// Notes that `from..to` was not captured.
    pub(super) fn hollow(&mut self, from: u64, to: u64, now: Timestamp) {
        if let Some((_, last)) = self.hollows.range_mut(..=from).next_back()
            && last.0 >= from
        {
            last.0 = last.0.max(to);
            return;
        }
        if self.hollows.insert(from, (to, now)).is_none() {
            self.cost = self.cost.saturating_add(HOLLOW_COST);
        }
    }

    /// Forgets hollows that lie wholly before `next`.
    pub(super) fn forget_before(&mut self, next: u64) {
        while let Some(entry) = self.hollows.first_entry()
            && entry.get().0 <= next
        {
            entry.remove();
            self.cost = self.cost.saturating_sub(HOLLOW_COST);
        }
    }

    /// Keeps what is new in a segment. `start` says whether its first byte is the first that was sent. Each piece that
    /// is met covers bytes of the segment, so that the work is bounded by its length.
    pub(super) fn insert(
        &mut self,
        offset: u64,
        bytes: &[u8],
        start: bool,
        about: About,
        now: Timestamp,
    ) -> Met {
        let mut met = Met::default();
        let end = offset.saturating_add(bytes.len() as u64);
        let part = |from: u64, to: u64| {
            let within = |at: u64| at.saturating_sub(offset) as usize;
            bytes.get(within(from)..within(to)).unwrap_or_default()
        };
        let mut at = offset;
        if let Some((piece_at, piece)) = self.pieces.range(..offset).next_back() {
            let to = piece.end(*piece_at).min(end);
            if to > offset {
                met.compare(*piece_at, piece, offset, part(offset, to));
                at = to;
            }
        }
        while at < end {
            let next = self.pieces.range(at..end).next();
            let until = next.map_or(end, |(piece_at, _)| *piece_at);
            let mut after = end;
            if let Some((piece_at, piece)) = next {
                after = piece.end(*piece_at).min(end);
                met.compare(*piece_at, piece, until, part(until, after));
            }
            if until > at {
                self.keep(at, part(at, until), start && at == offset, about, now);
            }
            at = after;
        }
        met
    }

    fn keep(&mut self, at: u64, bytes: &[u8], start: bool, about: About, now: Timestamp) {
        let end = at.saturating_add(bytes.len() as u64);
        let before = self.pieces.range_mut(..at).next_back().filter(|(other, piece)| piece.end(**other) == at);
        let touches_before = before.is_some();
        if let Some((_, piece)) = before
            && piece.takes(bytes, about)
        {
            let old = piece.cost();
            if start {
                piece.starts |= 1_u128.checked_shl(piece.bytes.len() as u32).unwrap_or_default();
            }
            piece.bytes.extend_from_slice(bytes);
            piece.arrived = now;
            let new = piece.cost();
            self.cost = self.cost.saturating_add(new.saturating_sub(old));
            if self.pieces.contains_key(&end) {
                self.runs = self.runs.saturating_sub(1);
            }
            return;
        }
        let touches_after = self.pieces.contains_key(&end);
        self.runs = self
            .runs
            .saturating_add(1)
            .saturating_sub(usize::from(touches_before))
            .saturating_sub(usize::from(touches_after));
        if touches_after
            && self.pieces.get(&end).is_some_and(|piece| piece.takes(bytes, about))
            && let Some(mut piece) = self.pieces.remove(&end)
        {
            self.cost = self.cost.saturating_sub(piece.cost());
            piece.bytes.splice(..0, bytes.iter().copied());
            piece.starts = piece.starts.checked_shl(bytes.len() as u32).unwrap_or_default() | u128::from(start);
            piece.arrived = now;
            self.put(at, piece);
            return;
        }
        self.put(at, Piece { bytes: bytes.to_vec(), about, arrived: now, starts: u128::from(start) });
    }

    fn put(&mut self, at: u64, piece: Piece) {
        self.cost = self.cost.saturating_add(piece.cost());
        self.pieces.insert(at, piece);
    }
}

impl Piece {
    fn end(&self, at: u64) -> u64 {
        at.saturating_add(self.bytes.len() as u64)
    }

    fn cost(&self) -> usize {
        self.bytes.capacity().saturating_add(PIECE_COST)
    }

    /// Whether a tiny neighbour may share this piece.
    fn takes(&self, bytes: &[u8], about: About) -> bool {
        let apart = self.about.time.0.abs_diff(about.time.0);
        bytes.len() <= TINY
            && self.bytes.len().saturating_add(bytes.len()) <= SHARED
            && self.about.ack == about.ack
            && self.about.interface == about.interface
            && apart <= SHARED_NANOS
    }
}

impl Met {
    fn compare(&mut self, piece_at: u64, piece: &Piece, from: u64, bytes: &[u8]) {
        self.duplicate = self.duplicate.saturating_add(bytes.len() as u64);
        let old = piece.bytes.get(from.saturating_sub(piece_at) as usize..).unwrap_or_default();
        if self.differs.is_none() && old.get(..bytes.len()) != Some(bytes) {
            let place = old.iter().zip(bytes).position(|(old, new)| old != new).unwrap_or(0);
            self.differs = Some(from.saturating_add(place as u64));
        }
    }
}
