//! IP fragments in, whole datagrams out (RFC 791 §3.2, RFC 8200 §4.5). First bytes win where fragments overlap. Work
//! is linear in the bytes that come, what is held never passes a budget, and the oldest datagram gives way.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::flow::packet::{Fragment, PROTOCOL_TCP, may_be_tcp, tcp_after_extensions};
use crate::frame::Timestamp;

/// A datagram's TCP segment, put together.
#[derive(Debug)]
pub(super) struct Whole {
    /// The segment, from its header on.
    pub(super) bytes: Vec<u8>,
    /// Bytes that were on the wire behind `bytes`, but not captured.
    pub(super) missing: u32,
}

/// What became of a fragment.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Kept, or a copy of what is kept.
    Waiting,
    /// It completed a datagram that holds a TCP segment.
    Whole(Whole),
    /// It is, or completed, something else.
    Other,
}

/// Datagrams that wait for their fragments.
#[derive(Debug)]
pub(super) struct Fragments {
    budget: usize,
    patience_nanos: u64,
    waiting: HashMap<Key, Datagram, RandomState>,
    /// In order of their first fragment; entries of datagrams that are gone are skipped.
    order: VecDeque<(Timestamp, u64, Key)>,
    cost: usize,
    births: u64,
    /// Datagrams that were given up.
    pub(super) lost: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    /// 0 for IPv6, whose identification stands alone.
    protocol: u8,
}

impl Fragments {
    /// Octets of memory that the datagrams take.
    pub(super) fn memory(&self) -> usize {
        let order = self.order.capacity().saturating_mul(size_of::<(Timestamp, u64, Key)>());
        self.cost.saturating_add(order)
    }
}

#[derive(Debug)]
struct Datagram {
    birth: u64,
    /// The protocol that the fragment at offset 0 names.
    protocol: u8,
    pieces: BTreeMap<u32, Piece>,
    /// Bytes in all pieces, as on the wire. They do not overlap.
    have: u32,
    /// Known once the last fragment came.
    total: Option<u32>,
    cost: usize,
    /// Whole and gone; the entry stays to swallow copies that another interface saw.
    done: Option<Timestamp>,
}

#[derive(Debug)]
struct Piece {
    bytes: Box<[u8]>,
    /// Length on the wire; more than `bytes` where the snap length cut it.
    length: u32,
}

/// The largest datagram (RFC 791 §3.1); fragments that reach beyond are malformed.
const DATAGRAM_MAX: u32 = 65_535;
/// What a waiting datagram and each piece cost beside their bytes: entries of map, queue and tree, allocator overhead.
const DATAGRAM_COST: usize = 256;
const PIECE_COST: usize = 96;
/// How long a finished datagram swallows copies (ns). Far below the time in which identifications are used again.
const COPIES_NANOS: u64 = 1_000_000_000;

impl Fragments {
    pub(super) fn new(budget: usize, patience_nanos: u64) -> Self {
        Self {
            budget,
            patience_nanos,
            waiting: HashMap::default(),
            order: VecDeque::new(),
            cost: 0,
            births: 0,
            lost: 0,
        }
    }

    /// Takes a fragment. `now` never goes back.
    pub(super) fn push(
        &mut self,
        now: Timestamp,
        source: IpAddr,
        destination: IpAddr,
        fragment: &Fragment<'_>,
    ) -> Outcome {
        self.expire(now);
        if !may_be_tcp(fragment.protocol) {
            return Outcome::Other;
        }
        let length = u32::try_from(fragment.cut.bytes.len())
            .unwrap_or(u32::MAX)
            .saturating_add(fragment.cut.missing);
        let end = fragment.offset.saturating_add(length);
        let protocol = if source.is_ipv4() { fragment.protocol } else { 0 };
        let key = Key { source, destination, id: fragment.id, protocol };
        // All but the last are multiples of eight octets long.
        if end > DATAGRAM_MAX || length == 0 || (fragment.more && length % 8 != 0) {
            self.lost = self.lost.saturating_add(1);
            return Outcome::Waiting;
        }
        match self.waiting.get(&key).map(|datagram| datagram.done) {
            Some(Some(when)) if now.nanos_since(when) <= COPIES_NANOS => return Outcome::Waiting,
            // The identification is used again.
            Some(Some(_)) => {
                self.waiting.remove(&key);
                self.cost = self.cost.saturating_sub(DATAGRAM_COST);
            }
            Some(None) | None => {}
        }
        if !self.waiting.contains_key(&key) {
            self.births = self.births.saturating_add(1);
            self.order.push_back((now.plus_nanos(self.patience_nanos), self.births, key));
            self.cost = self.cost.saturating_add(DATAGRAM_COST);
        }
        let birth = self.births;
        let datagram = self.waiting.entry(key).or_insert_with(|| Datagram::new(birth));
        let before = datagram.cost;
        datagram.add(fragment, end);
        self.cost = self.cost.saturating_add(datagram.cost.saturating_sub(before));
        let outcome = if datagram.total == Some(datagram.have) {
            let held = std::mem::replace(&mut datagram.cost, DATAGRAM_COST);
            self.cost = self.cost.saturating_sub(held.saturating_sub(DATAGRAM_COST));
            datagram.done = Some(now);
            datagram.join()
        } else {
            Outcome::Waiting
        };
        while self.cost > self.budget && self.drop_oldest() {}
        outcome
    }

    /// When [`Self::expire`] has something to do next.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.order.front().map(|(due, ..)| *due)
    }

    /// Gives up what waited too long.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while self.deadline().is_some_and(|due| due <= now) && self.drop_oldest() {}
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((_, birth, key)) = self.order.pop_front() else { return false };
        if self.waiting.get(&key).is_some_and(|datagram| datagram.birth == birth)
            && let Some(gone) = self.waiting.remove(&key)
        {
            self.cost = self.cost.saturating_sub(gone.cost);
            if gone.done.is_none() {
                self.lost = self.lost.saturating_add(1);
            }
        }
        true
    }
}

impl Datagram {
    fn new(birth: u64) -> Self {
        Self {
            birth,
            protocol: PROTOCOL_TCP,
            pieces: BTreeMap::new(),
            have: 0,
            total: None,
            cost: DATAGRAM_COST,
            done: None,
        }
    }

    /// Keeps what is new in the fragment. Every piece that is met covers at least eight bytes of the fragment (or is the
    /// datagram's last), so that the work is linear in the fragment's length.
    fn add(&mut self, fragment: &Fragment<'_>, end: u32) {
        if fragment.offset == 0 {
            self.protocol = fragment.protocol;
        }
        if !fragment.more && self.total.is_none() {
            self.total = Some(end);
        }
        // What lies beyond the end that was announced belongs to no datagram.
        let end = end.min(self.total.unwrap_or(end));
        let mut at = fragment.offset;
        if let Some((start, piece)) = self.pieces.range(..=at).next_back() {
            at = at.max(start.saturating_add(piece.length));
        }
        while at < end {
            let next = self.pieces.range(at..end).next().map(|(start, piece)| (*start, piece.length));
            let until = next.map_or(end, |(start, _)| start);
            if until > at {
                self.keep(fragment, at, until);
            }
            let Some((start, length)) = next else { break };
            at = start.saturating_add(length);
        }
        if let Some(total) = self.total
            && self.pieces.last_key_value().is_some_and(|(start, _)| *start >= total)
        {
            let beyond = self.pieces.split_off(&total);
            for piece in beyond.values() {
                self.have = self.have.saturating_sub(piece.length);
            }
        }
    }

    fn keep(&mut self, fragment: &Fragment<'_>, from: u32, to: u32) {
        let bytes = fragment.cut.bytes;
        let within = |at: u32| (at.saturating_sub(fragment.offset) as usize).min(bytes.len());
        let kept: Box<[u8]> = bytes.get(within(from)..within(to)).unwrap_or_default().into();
        let length = to.saturating_sub(from);
        self.cost = self.cost.saturating_add(PIECE_COST).saturating_add(kept.len());
        self.have = self.have.saturating_add(length);
        self.pieces.insert(from, Piece { bytes: kept, length });
    }

    fn join(&mut self) -> Outcome {
        let pieces = std::mem::take(&mut self.pieces);
        let total = self.total.unwrap_or_default();
        let mut bytes = Vec::with_capacity(total as usize);
        for piece in pieces.into_values() {
            bytes.extend_from_slice(&piece.bytes);
            // From the first byte that was not captured on, nothing can follow.
            if (piece.bytes.len() as u64) < u64::from(piece.length) {
                break;
            }
        }
        let missing = total.saturating_sub(u32::try_from(bytes.len()).unwrap_or(total));
        match tcp_after_extensions(self.protocol, &bytes) {
            Some(0) => Outcome::Whole(Whole { bytes, missing }),
            Some(at) => Outcome::Whole(Whole { bytes: bytes.split_off(at), missing }),
            None => Outcome::Other,
        }
    }
}
