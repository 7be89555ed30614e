//! Chunks: up to [`MAX_COUNT`] exchanges that arrived together, packed and compressed as one. Rows, records and bodies
//! are three frames behind one another, so that a list reads rows alone and a filter over header fields no bodies.
//! This file turns exchanges into frames and frames into exchanges; it never touches the database.

use std::hash::BuildHasher;

use foldhash::{HashMap, HashSet};

use super::Bar;
use super::index::{self, Cell};
use super::record::{self, BodyRef, Damaged};
use crate::activitypub::Reading;
use crate::filter::RowKeys;
use crate::http::{Exchange, ExchangeId};
use crate::view::Row;

/// Exchanges of a chunk: the bits of a posting.
pub(super) const MAX_COUNT: usize = 64;
/// A chunk that has grown to so many octets takes no further exchange: getting one means inflating all of it.
const FULL: usize = 192 << 10;
/// A body of so many kept octets is stored for itself, once for all exchanges that have it.
pub(super) const SHARED_BODY: usize = 32 << 10;
/// A body of so many is, when it comes again: what is fetched over and over is then compressed once. What comes once
/// is better off in its chunk, where it looks like its neighbours.
const SHARED_AGAIN: usize = 1 << 10;
/// No frame is longer, inflated: a longer one is damage, or a trap.
const MAX_FRAME: usize = 1 << 30;

/// Ends for which a frame that is being filled leaves room in front of its octets.
const ROOM_ENDS: usize = 2 * MAX_COUNT;
const ROOM: usize = 4 + 4 * ROOM_ENDS;

/// Things of different length one behind the other, with their ends: as written, the number of things, their ends,
/// the things. While it is filled there is room for numbers and ends in front, so that it is whole without a copy.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    bytes: Vec<u8>,
    /// Where the things begin in `bytes`.
    start: usize,
    ends: Vec<u32>,
}

impl Default for Frame {
    fn default() -> Self {
        Self { bytes: vec![0; ROOM], start: ROOM, ends: Vec::new() }
    }
}

impl Frame {
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(ROOM, 0);
        self.start = ROOM;
        self.ends.clear();
    }

    /// Octets of the things.
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn close(&mut self) {
        self.ends.push(u32::try_from(self.len()).unwrap_or(u32::MAX));
    }

    /// The frame as written; `scratch` serves where there are more ends than there is room for.
    pub(super) fn written<'a>(&'a mut self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let header = 4 + 4 * self.ends.len();
        let Some(from) = self.start.checked_sub(header) else {
            scratch.clear();
            scratch.resize(header, 0);
            write_header(&self.ends, scratch);
            scratch.extend_from_slice(&self.bytes[self.start..]);
            return scratch;
        };
        write_header(&self.ends, &mut self.bytes[from..self.start]);
        &self.bytes[from..]
    }

    pub(super) fn from_bytes(bytes: Vec<u8>) -> Result<Self, Damaged> {
        let (count, rest) = bytes.split_first_chunk::<4>().ok_or(Damaged)?;
        let size = (u32::from_le_bytes(*count) as usize).checked_mul(4).ok_or(Damaged)?;
        let (ends, _) = rest.split_at_checked(size).ok_or(Damaged)?;
        let ends =
            ends.chunks_exact(4).map(|e| u32::from_le_bytes([e[0], e[1], e[2], e[3]])).collect::<Vec<u32>>();
        Ok(Self { bytes, start: 4 + size, ends })
    }

    pub(super) fn get(&self, n: usize) -> Result<&[u8], Damaged> {
        let from = match n.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before).ok_or(Damaged)? as usize,
        };
        let to = *self.ends.get(n).ok_or(Damaged)? as usize;
        self.bytes[self.start..].get(from..to).ok_or(Damaged)
    }
}

fn write_header(ends: &[u32], out: &mut [u8]) {
    let count = u32::try_from(ends.len()).unwrap_or(u32::MAX);
    for (place, n) in out.chunks_exact_mut(4).zip(std::iter::once(&count).chain(ends)) {
        place.copy_from_slice(&n.to_le_bytes());
    }
}

/// A body to be stored for itself.
#[derive(Clone, Debug)]
struct SharedBody {
    /// SHA-256 of the octets.
    hash: [u8; 32],
    bytes: Held,
    /// How often it is referred to.
    references: u64,
}

/// Where the octets of a [`SharedBody`] are.
#[derive(Clone, Debug)]
enum Held {
    /// By themselves: a large one.
    Alone(Vec<u8>),
    /// In [`Builder::held`].
    Together(std::ops::Range<usize>),
}

/// Bodies that were seen lately, by the beginnings of their hashes: two generations of bounded length.
#[derive(Default, Debug)]
pub(super) struct Recent {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Recent {
    const MOST: usize = 8192;

    /// Whether it was seen lately; from now on it was.
    fn saw(&mut self, hash: u64) -> bool {
        if self.young.contains(&hash) {
            return true;
        }
        if self.young.len() >= Self::MOST {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(hash);
        self.old.remove(&hash)
    }
}

/// What rows add to the counts of the whole store.
#[derive(Clone, Default, Debug)]
pub(super) struct Counts {
    pub(super) exchanges: u64,
    pub(super) federation: u64,
    /// By narrowest cell of the strip; a cell may come more than once.
    pub(super) bars: Vec<(u64, [i64; 4])>,
    /// In the order of first sight.
    pub(super) hosts: Vec<HostCount>,
}

/// What a host sent and answered.
#[derive(Clone, Debug)]
pub(super) struct HostCount {
    pub(super) host: Box<str>,
    pub(super) sent: i64,
    pub(super) answered: i64,
    /// What it ran last.
    pub(super) software: Option<Box<str>>,
}

impl Counts {
    pub(super) fn clear(&mut self) {
        let Self { exchanges, federation, bars, hosts } = self;
        (*exchanges, *federation) = (0, 0);
        bars.clear();
        hosts.clear();
    }

    pub(super) fn add(&mut self, row: &Row, keys: &RowKeys) {
        self.exchanges += 1;
        self.federation += u64::from(row.federation);
        let Bar { deliveries, fetches, failures, gaps } = index::bar(row);
        let bar = [deliveries, fetches, failures, gaps].map(i64::from);
        if bar != [0; 4] {
            let cell = row.id.started().0 >> Cell::STRIP_BITS[0];
            match self.bars.last_mut() {
                Some((last, sums)) if *last == cell => {
                    for (sum, n) in sums.iter_mut().zip(bar) {
                        *sum += n;
                    }
                }
                _ => self.bars.push((cell, bar)),
            }
        }
        // Browsers and apps are not servers, and what they ask by address is none that has a name.
        if row.federation || keys.origin_host.is_some() {
            let from = self.host(&row.from);
            from.sent += 1;
            if row.from_software.is_some() && from.software != row.from_software {
                from.software.clone_from(&row.from_software);
            }
        }
        if row.federation || keys.request_host.is_some() && &*row.kind != "probe" {
            self.host(&row.to).answered += 1;
        }
    }

    /// A chunk has few rows, so it names few hosts.
    fn host(&mut self, host: &str) -> &mut HostCount {
        let at = match self.hosts.iter().rposition(|known| *known.host == *host) {
            Some(at) => at,
            None => {
                self.hosts.push(HostCount { host: host.into(), sent: 0, answered: 0, software: None });
                self.hosts.len() - 1
            }
        };
        &mut self.hosts[at]
    }
}

/// A chunk that is being filled.
#[derive(Clone, Default, Debug)]
pub(super) struct Builder {
    rows: Frame,
    records: Frame,
    bodies: Frame,
    /// Bodies of this chunk by a hash of their octets.
    seen: HashMap<u64, u32>,
    /// Shared bodies, each as often as it is referred to.
    pub(super) shared: Vec<[u8; 32]>,
    /// Those that were not stored yet.
    fresh: Vec<SharedBody>,
    /// Octets of some of them.
    held: Vec<u8>,
    pub(super) ids: Vec<ExchangeId>,
    /// (term, bucket) and the exchanges that have it.
    pub(super) terms: HashMap<(u64, u64), u64>,
    pub(super) min: u64,
    pub(super) max: u64,
    /// What was not counted yet.
    pub(super) counts: Counts,
}

impl Builder {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Begins the next chunk, in the same memory.
    pub(super) fn clear(&mut self) {
        let Self { rows, records, bodies, seen, shared, fresh, held, ids, terms, min, max, counts } = self;
        for frame in [rows, records, bodies] {
            frame.clear();
        }
        seen.clear();
        shared.clear();
        fresh.clear();
        held.clear();
        ids.clear();
        terms.clear();
        (*min, *max) = (0, 0);
        counts.clear();
    }

    /// Octets before compression.
    pub(super) fn size(&self) -> usize {
        self.rows.len() + self.records.len() + self.bodies.len()
    }

    /// Octets of memory that it takes, about.
    pub(super) fn weight(&self) -> usize {
        let alone = self.fresh.iter().map(|body| match &body.bytes {
            Held::Alone(bytes) => bytes.len(),
            Held::Together(_) => 0,
        });
        alone.fold(self.size() + self.held.len() + self.len() * 512, usize::saturating_add)
    }

    /// Octets of memory that it would take when it was cleared.
    pub(super) fn capacity(&self) -> usize {
        let frames =
            [&self.rows, &self.records, &self.bodies].into_iter().map(|frame| frame.bytes.capacity());
        frames.fold(self.held.capacity(), usize::saturating_add)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= MAX_COUNT || self.size() + self.held.len() >= FULL
    }

    /// Whether it would span more than `span` nanoseconds with an exchange of that start.
    pub(super) fn is_too_long(&self, started: u64, span: u64) -> bool {
        self.len() > 0 && self.max.max(started).saturating_sub(self.min.min(started)) > span
    }

    /// Adds an exchange.
    pub(super) fn push(&mut self, exchange: &Exchange, reading: &Reading, recent: &mut Recent) {
        let (row, keys) = (Row::new(exchange, reading), RowKeys::new(exchange, reading));
        self.counts.add(&row, &keys);
        let started = exchange.id.started().0;
        (self.min, self.max) = match self.len() {
            0 => (started, started),
            _ => (self.min.min(started), self.max.max(started)),
        };
        let bit = 1_u64 << self.len();
        for term in index::terms(&row, &keys) {
            *self.terms.entry((term, Cell::bucket(started))).or_default() |= bit;
        }
        self.ids.push(exchange.id);
        record::encode_row(&row, &keys, &mut self.rows.bytes);
        self.rows.close();
        let Self { bodies, seen, shared, fresh, held, .. } = self;
        let mut keep = |bytes: &[u8], hash: Option<&[u8; 32]>| {
            // Both legs of a proxied exchange carry the same octets, and documents are fetched again and again.
            let key = match hash {
                Some(hash) => u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|n| hash[n])),
                None => foldhash::fast::FixedState::default().hash_one(bytes),
            };
            if let Some(at) = seen.get(&key)
                && bodies.get(*at as usize) == Ok(bytes)
            {
                return BodyRef::Chunk(*at);
            }
            let large = bytes.len() >= SHARED_BODY;
            let again = bytes.len() >= SHARED_AGAIN && hash.is_some() && recent.saw(key);
            if large || again {
                let hash = hash.copied().unwrap_or_else(|| sha256(bytes));
                shared.push(hash);
                match fresh.iter_mut().find(|body| body.hash == hash) {
                    Some(body) => body.references += 1,
                    None => {
                        let bytes = if large {
                            Held::Alone(bytes.to_vec())
                        } else {
                            let from = held.len();
                            held.extend_from_slice(bytes);
                            Held::Together(from..held.len())
                        };
                        fresh.push(SharedBody { hash, bytes, references: 1 });
                    }
                }
                return BodyRef::Shared(hash);
            }
            let at = u32::try_from(bodies.ends.len()).unwrap_or(u32::MAX);
            bodies.bytes.extend_from_slice(bytes);
            bodies.close();
            seen.insert(key, at);
            BodyRef::Chunk(at)
        };
        record::encode(exchange, reading, &mut keep, &mut self.records.bytes);
        self.records.close();
    }

    /// The n-th exchange again, as long as its shared bodies are not forgotten.
    pub(super) fn get(&self, n: usize) -> Result<(Exchange, Reading), Damaged> {
        record::decode(self.records.get(n)?, &mut |body| match body {
            BodyRef::Empty => Ok(Vec::new()),
            BodyRef::Chunk(at) => self.bodies.get(at as usize).map(<[u8]>::to_vec),
            BodyRef::Shared(hash) => {
                let body = self.fresh.iter().find(|body| body.hash == hash).ok_or(Damaged)?;
                Ok(self.octets(body).to_vec())
            }
        })
    }

    fn octets<'a>(&'a self, body: &'a SharedBody) -> &'a [u8] {
        match &body.bytes {
            Held::Alone(bytes) => bytes,
            Held::Together(range) => self.held.get(range.clone()).unwrap_or_default(),
        }
    }

    /// The shared bodies that were not stored yet: hash, octets, and how often each is referred to.
    pub(super) fn fresh(&self) -> impl Iterator<Item = (&[u8; 32], &[u8], u64)> {
        self.fresh.iter().map(|body| (&body.hash, self.octets(body), body.references))
    }

    /// They are stored.
    pub(super) fn forget_fresh(&mut self) {
        self.fresh.clear();
        self.held.clear();
    }

    /// The n-th row again.
    pub(super) fn row(&self, n: usize) -> Result<Row, Damaged> {
        Ok(record::decode_row(self.rows.get(n)?)?.0)
    }

    /// The three frames that are to be compressed.
    pub(super) fn frames(&mut self) -> [&mut Frame; 3] {
        [&mut self.rows, &mut self.records, &mut self.bodies]
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

/// What is known of a chunk without inflating it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    pub(super) count: u32,
    /// Octets of the three frames, compressed and not.
    pub(super) packed: [u32; 3],
    pub(super) plain: [u32; 3],
    /// The earliest and the latest start.
    pub(super) min: u64,
    pub(super) max: u64,
    /// What it takes in the file, about.
    pub(super) cost: u64,
    pub(super) shared: Vec<[u8; 32]>,
}

impl Meta {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(52 + self.shared.len() * 32);
        for n in [self.count].iter().chain(&self.packed).chain(&self.plain) {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for n in [self.min, self.max, self.cost] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for hash in &self.shared {
            out.extend_from_slice(hash);
        }
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        let (numbers, rest) = bytes.split_first_chunk::<28>().ok_or(Damaged)?;
        let (longs, hashes) = rest.split_first_chunk::<24>().ok_or(Damaged)?;
        let n = |i: usize| u32::from_le_bytes([0, 1, 2, 3].map(|b| numbers[i * 4 + b]));
        let l = |i: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|b| longs[i * 8 + b]));
        let (hashes, rest) = hashes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(Damaged);
        }
        Ok(Self {
            count: n(0),
            packed: [n(1), n(2), n(3)],
            plain: [n(4), n(5), n(6)],
            min: l(0),
            max: l(1),
            cost: l(2),
            shared: hashes.to_vec(),
        })
    }

    /// How many pieces it is cut into.
    pub(super) fn pieces(&self) -> u64 {
        self.packed.iter().map(|n| u64::from(*n)).sum::<u64>().div_ceil(super::tables::PIECE as u64)
    }

    /// Where the n-th frame lies among the compressed octets.
    pub(super) fn span(&self, frame: usize) -> std::ops::Range<usize> {
        let from: usize = self.packed.iter().take(frame).map(|n| *n as usize).sum();
        from..from + self.packed.get(frame).map_or(0, |n| *n as usize)
    }
}

/// Inflates to exactly `plain` octets.
pub(super) fn inflate(packed: &[u8], plain: usize) -> Result<Vec<u8>, Damaged> {
    if plain > MAX_FRAME {
        return Err(Damaged);
    }
    thread_local! {
        // Making one costs more than inflating a frame of rows.
        static INFLATER: std::cell::RefCell<Option<zstd::bulk::Decompressor<'static>>> =
            const { std::cell::RefCell::new(None) };
    }
    let bytes = INFLATER.with_borrow_mut(|inflater| {
        let inflater = match inflater {
            Some(inflater) => inflater,
            None => inflater.insert(zstd::bulk::Decompressor::new().map_err(|_| Damaged)?),
        };
        inflater.decompress(packed, plain).map_err(|_| Damaged)
    })?;
    if bytes.len() == plain { Ok(bytes) } else { Err(Damaged) }
}
