//! The flows that are remembered: found by their ends in one look, whichever way a segment travels, and forgotten in
//! the order in which they were last seen. Every operation takes constant time. It knows no TCP.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

// Seeded from the process's randomness, so that nobody can prepare addresses that collide; no result depends on it,
// because nothing here is given in the table's order. foldhash does not claim to withstand an attacker that measures
// times; the table's bound holds then too, only its speed suffers.
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::flow::seq::Side;
use crate::flow::{Ends, FlowId};
use crate::frame::Timestamp;

/// Two ends, in an order that does not depend on who sent: addresses as two words each, then both ports and whether
/// it is IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key([u64; 5]);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for word in self.0 {
            state.write_u64(word);
        }
    }
}

/// Which of a key's two ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Low,
    High,
}

impl End {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

const V6: u64 = 1 << 32;

impl Key {
    /// The key of a segment's ends, and which of them is the sender.
    pub(super) fn new(source: (IpAddr, u16), destination: (IpAddr, u16)) -> (Self, End) {
        let number = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let from = (number(source.0), source.1);
        let to = (number(destination.0), destination.1);
        let (low, high, sender) = if from <= to { (from, to, End::Low) } else { (to, from, End::High) };
        let version = if source.0.is_ipv6() { V6 } else { 0 };
        let ports = u64::from(low.1) << 16 | u64::from(high.1) | version;
        let top = |n: u128| (n >> 64) as u64;
        (Self([top(low.0), low.0 as u64, top(high.0), high.0 as u64, ports]), sender)
    }

    fn end(&self, end: End) -> SocketAddr {
        let [low_top, low, high_top, high, ports] = self.0;
        let (top, bottom, port) = match end {
            End::Low => (low_top, low, (ports >> 16) as u16),
            End::High => (high_top, high, ports as u16),
        };
        let address = if ports & V6 != 0 {
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(top) << 64 | u128::from(bottom)))
        } else {
            IpAddr::V4((bottom as u32).into())
        };
        SocketAddr::new(address, port)
    }
}

/// A flow that is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    key: Key,
    pub(super) id: FlowId,
    /// When its first segment was captured.
    pub(super) opened: Timestamp,
    /// When its latest segment was captured, by a clock that never goes back.
    seen: Timestamp,
    low: Side,
    high: Side,
    /// A SYN that may be the beginning of another connection with the same ends: who sent it, and its number.
    pub(super) pending: Option<(End, u32)>,
    pub(super) client: End,
    /// Payload was seen, and the flow was told of.
    pub(super) told: bool,
    /// Both FINs or a RST were seen.
    pub(super) finished: bool,
    list: List,
    older: u32,
    newer: u32,
}

impl Entry {
    pub(super) fn ends(&self) -> Ends {
        Ends { client: self.key.end(self.client), server: self.key.end(self.client.other()) }
    }

    pub(super) fn side(&self, end: End) -> &Side {
        match end {
            End::Low => &self.low,
            End::High => &self.high,
        }
    }

    pub(super) fn side_mut(&mut self, end: End) -> &mut Side {
        match end {
            End::Low => &mut self.low,
            End::High => &mut self.high,
        }
    }

    pub(super) fn both_fins(&self) -> bool {
        self.low.fin && self.high.fin
    }

    pub(super) fn seen(&self) -> Timestamp {
        self.seen
    }
}

/// Flows in the order in which they were last seen: those without payload apart, because they are the cheapest to
/// forget, and floods are made of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum List {
    Quiet,
    Told,
}

#[derive(Clone, Copy, Debug)]
struct Chain {
    oldest: u32,
    newest: u32,
    length: usize,
}

const NONE: u32 = u32::MAX;

/// Where an entry is; valid until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place(u32);

#[derive(Debug)]
pub(super) struct Table {
    limit: usize,
    places: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    quiet: Chain,
    told: Chain,
    hasher: RandomState,
}

impl Table {
    /// With room for `limit` flows, at least one.
    pub(super) fn new(limit: usize) -> Self {
        let chain = Chain { oldest: NONE, newest: NONE, length: 0 };
        Self {
            limit: limit.clamp(1, NONE as usize),
            places: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            quiet: chain,
            told: chain,
            hasher: RandomState::default(),
        }
    }

    pub(super) fn find(&self, key: &Key) -> Option<Place> {
        let entries = &self.entries;
        let hash = self.hasher.hash_one(key);
        self.places
            .find(hash, |place| entries.get(*place as usize).is_some_and(|entry| entry.key == *key))
            .map(|place| Place(*place))
    }

    pub(super) fn get(&self, place: Place) -> Option<&Entry> {
        self.entries.get(place.0 as usize)
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Entry> {
        self.entries.get_mut(place.0 as usize)
    }

    /// Whether a flow must go before another can come: at the limit, or when those without payload take a quarter of
    /// it, so that a flood of them does not fill the memory that the limit allows.
    pub(super) fn is_full(&self) -> bool {
        self.quiet.length >= self.limit.div_ceil(4)
            || self.len() >= self.limit
    }

    /// Flows that are remembered.
    pub(super) fn len(&self) -> usize {
        self.quiet.length.saturating_add(self.told.length)
    }

    /// Octets of memory that it takes. It grows to the limit and does not shrink.
    pub(super) fn memory(&self) -> usize {
        let entries = self.entries.capacity().saturating_mul(size_of::<Entry>());
        let free = self.free.capacity().saturating_mul(size_of::<u32>());
        entries.saturating_add(free).saturating_add(self.places.allocation_size())
    }

    /// The least recently seen flow of those that carried payload.
    pub(super) fn oldest_told(&self) -> Option<Place> {
        self.entries.get(self.told.oldest as usize).map(|_| Place(self.told.oldest))
    }

    /// Adds a flow that [`Self::find`] does not know. The caller has made room.
    pub(super) fn insert(&mut self, key: Key, id: FlowId, client: End, opened: Timestamp, now: Timestamp) -> Place {
        let entry = Entry {
            key,
            id,
            opened,
            seen: now,
            low: Side::default(),
            high: Side::default(),
            pending: None,
            client,
            told: false,
            finished: false,
            list: List::Quiet,
            older: NONE,
            newer: NONE,
        };
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(slot) = self.entries.get_mut(place as usize) {
                    *slot = entry;
                }
                place
            }
            None => {
                // The limit is below u32::MAX.
                let place = u32::try_from(self.entries.len()).unwrap_or(NONE);
                self.entries.push(entry);
                place
            }
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.places.insert_unique(hasher.hash_one(key), place, |place| {
            entries.get(*place as usize).map_or(0, |entry| hasher.hash_one(entry.key))
        });
        self.link(place, List::Quiet);
        Place(place)
    }

    /// Notes that the flow was seen; `told` moves it for good to those that carried payload.
    pub(super) fn touch(&mut self, place: Place, now: Timestamp, told: bool) {
        let Some(entry) = self.get_mut(place) else { return };
        entry.seen = now;
        let list = if told || entry.list == List::Told { List::Told } else { List::Quiet };
        if entry.list == list && entry.newer == NONE {
            return;
        }
        self.unlink(place.0);
        self.link(place.0, list);
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Entry> {
        let entry = *self.get(place)?;
        let hash = self.hasher.hash_one(entry.key);
        let found = self.places.find_entry(hash, |other| *other == place.0).ok()?;
        found.remove();
        self.unlink(place.0);
        self.free.push(place.0);
        Some(entry)
    }

    /// The flow to forget first when the table is full: the least recently seen of those that never carried payload;
    /// but of all flows when those are few, so that a new connection has a chance in a table full of busy ones.
    pub(super) fn least(&self) -> Option<Place> {
        if self.quiet.length > self.limit / 8 { Some(Place(self.quiet.oldest)) } else { self.oldest() }
    }

    /// The least recently seen flow.
    pub(super) fn oldest(&self) -> Option<Place> {
        let seen = |place: u32| Some((self.entries.get(place as usize)?.seen, place));
        match (seen(self.quiet.oldest), seen(self.told.oldest)) {
            (Some(a), Some(b)) => Some(Place(a.min(b).1)),
            (a, b) => a.or(b).map(|(_, place)| Place(place)),
        }
    }

    fn chain(&mut self, list: List) -> &mut Chain {
        match list {
            List::Quiet => &mut self.quiet,
            List::Told => &mut self.told,
        }
    }

    fn link(&mut self, place: u32, list: List) {
        let chain = self.chain(list);
        let newest = std::mem::replace(&mut chain.newest, place);
        chain.length = chain.length.saturating_add(1);
        if newest == NONE {
            chain.oldest = place;
        }
        if let Some(entry) = self.entries.get_mut(newest as usize) {
            entry.newer = place;
        }
        if let Some(entry) = self.entries.get_mut(place as usize) {
            (entry.list, entry.older, entry.newer) = (list, newest, NONE);
        }
    }

    fn unlink(&mut self, place: u32) {
        let Some(&Entry { list, older, newer, .. }) = self.entries.get(place as usize) else { return };
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.chain(list).oldest = newer,
        }
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.chain(list).newest = older,
        }
        let chain = self.chain(list);
        chain.length = chain.length.saturating_sub(1);
    }
}
