//! Chunks: up to [`MAX_COUNT`] exchanges that arrived together, packed and compressed as one. Rows, records and bodies
//! are three frames behind one another, so that a list reads rows alone and a filter over header fields no bodies.
//! This file turns exchanges into frames and frames into exchanges; it never touches the database.

use std::hash::BuildHasher;

use foldhash::HashMap;

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
/// No frame is longer, inflated: a longer one is damage, or a trap.
const MAX_FRAME: usize = 1 << 30;

/// Things of different length one behind the other, with their ends.
#[derive(Clone, Default, Debug)]
pub(super) struct Frame {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Frame {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn close(&mut self) {
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// The number of things, their ends, the things.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.reserve(4 + self.ends.len() * 4 + self.bytes.len());
        out.extend_from_slice(&u32::try_from(self.ends.len()).unwrap_or(u32::MAX).to_le_bytes());
        for end in &self.ends {
            out.extend_from_slice(&end.to_le_bytes());
        }
        out.extend_from_slice(&self.bytes);
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        let (count, rest) = bytes.split_first_chunk::<4>().ok_or(Damaged)?;
        let size = (u32::from_le_bytes(*count) as usize).checked_mul(4).ok_or(Damaged)?;
        let (ends, rest) = rest.split_at_checked(size).ok_or(Damaged)?;
        let ends =
            ends.chunks_exact(4).map(|e| u32::from_le_bytes([e[0], e[1], e[2], e[3]])).collect::<Vec<u32>>();
        Ok(Self { bytes: rest.to_vec(), ends })
    }

    pub(super) fn get(&self, n: usize) -> Result<&[u8], Damaged> {
        let from = match n.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before).ok_or(Damaged)? as usize,
        };
        let to = *self.ends.get(n).ok_or(Damaged)? as usize;
        self.bytes.get(from..to).ok_or(Damaged)
    }
}

/// A large body, to be stored for itself.
#[derive(Debug)]
pub(super) struct SharedBody {
    /// SHA-256 of the octets.
    pub(super) hash: [u8; 32],
    pub(super) bytes: Vec<u8>,
}

/// A chunk that is being filled.
#[derive(Default, Debug)]
pub(super) struct Builder {
    rows: Frame,
    records: Frame,
    bodies: Frame,
    /// Bodies of this chunk by a hash of their octets.
    seen: HashMap<u64, u32>,
    /// Large bodies, each as often as it is referred to.
    pub(super) shared: Vec<[u8; 32]>,
    pub(super) ids: Vec<ExchangeId>,
    /// (term, bucket) and the exchanges that have it.
    pub(super) terms: HashMap<(u64, u64), u64>,
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Builder {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Begins the next chunk, in the same memory.
    pub(super) fn clear(&mut self) {
        let Self { rows, records, bodies, seen, shared, ids, terms, min, max } = self;
        for frame in [rows, records, bodies] {
            frame.clear();
        }
        seen.clear();
        shared.clear();
        ids.clear();
        terms.clear();
        (*min, *max) = (0, 0);
    }

    /// Octets before compression.
    pub(super) fn size(&self) -> usize {
        self.rows.bytes.len() + self.records.bytes.len() + self.bodies.bytes.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= MAX_COUNT || self.size() >= FULL
    }

    /// Adds an exchange; gives its row and the large bodies that are to be stored.
    pub(super) fn push(&mut self, exchange: &Exchange, reading: &Reading) -> (Row, RowKeys, Vec<SharedBody>) {
        let (row, keys) = (Row::new(exchange, reading), RowKeys::new(exchange, reading));
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
        let mut large = Vec::new();
        let (bodies, seen, shared) = (&mut self.bodies, &mut self.seen, &mut self.shared);
        let mut keep = |bytes: &[u8], hash: Option<&[u8; 32]>| {
            if bytes.len() >= SHARED_BODY {
                let hash = hash.copied().unwrap_or_else(|| sha256(bytes));
                shared.push(hash);
                large.push(SharedBody { hash, bytes: bytes.to_vec() });
                return BodyRef::Shared(hash);
            }
            // Both legs of a proxied exchange carry the same octets, and documents are fetched again and again.
            let key = foldhash::fast::FixedState::default().hash_one(bytes);
            if let Some(at) = seen.get(&key)
                && bodies.get(*at as usize) == Ok(bytes)
            {
                return BodyRef::Chunk(*at);
            }
            let at = u32::try_from(bodies.ends.len()).unwrap_or(u32::MAX);
            bodies.bytes.extend_from_slice(bytes);
            bodies.close();
            seen.insert(key, at);
            BodyRef::Chunk(at)
        };
        record::encode(exchange, reading, &mut keep, &mut self.records.bytes);
        self.records.close();
        (row, keys, large)
    }

    /// The three frames that are to be compressed.
    pub(super) fn frames(&self) -> [&Frame; 3] {
        [&self.rows, &self.records, &self.bodies]
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
