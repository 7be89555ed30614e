//! The writer: a batch in, one durable transaction out. There is one at a time. What it keeps in memory (totals,
//! hosts, the chunk that is not full yet) is a copy of what is in the file, and is thrown away when anything fails.

use std::collections::BTreeMap;
use std::path::Path;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use redb::{Database, ReadableDatabase as _, ReadableTable, Table, WriteTransaction};

use super::batch::Batch;
use super::chunk::{Builder, Counts, Frame, HostCount, Meta, Recent, inflate};
use super::index::{self, Cell};
use super::tables::{
    BODIES, BODY_PIECE, BODY_PIECES, CHUNKS, ERAS, Entry, HOSTS, IDS, META, PIECE, PIECES, STRIP, TERMS,
    TermKey, Trouble, era, piece_key, record,
};
use super::{Error, Options};
use crate::http::ExchangeId;

/// A chunk with fewer exchanges is taken up again by the next batch, if that is as small.
const REOPEN_BELOW: usize = 32;
/// Unless it has so many octets.
const REOPEN_SIZE: usize = 64 << 10;
/// Buffers that are longer are not kept for the next batch.
const KEPT_BUFFER: usize = 1 << 20;
/// Hosts that are kept; names come from the network, and anyone can make up more.
const MAX_HOSTS: usize = 10_000;
/// What an entry of an index costs in the file beside its octets, about: B-trees are two thirds full.
const ENTRY: u64 = 48;
/// zstd's fastest ordinary level.
const LEVEL: i32 = 1;

/// Totals of the file, kept in it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Totals {
    pub(super) exchanges: u64,
    pub(super) federation: u64,
    pub(super) expired: u64,
    /// What all chunks take, about.
    pub(super) cost: u64,
    /// The number of the next chunk.
    pub(super) next_chunk: u64,
    /// The latest start that was ever stored.
    pub(super) newest: u64,
}

impl Totals {
    pub(super) fn read(meta: &impl ReadableTable<&'static str, u64>) -> Result<Self, Trouble> {
        let get =
            |name: &'static str| -> Result<u64, Trouble> { Ok(meta.get(name)?.map_or(0, |n| n.value())) };
        Ok(Self {
            exchanges: get("exchanges")?,
            federation: get("federation")?,
            expired: get("expired")?,
            cost: get("cost")?,
            next_chunk: get("next-chunk")?,
            newest: get("newest")?,
        })
    }

    fn write(&self, meta: &mut Table<'_, &'static str, u64>) -> Result<(), Trouble> {
        let Self { exchanges, federation, expired, cost, next_chunk, newest } = *self;
        meta.insert("exchanges", exchanges)?;
        meta.insert("federation", federation)?;
        meta.insert("expired", expired)?;
        meta.insert("cost", cost)?;
        meta.insert("next-chunk", next_chunk)?;
        meta.insert("newest", newest)?;
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Known {
    slot: u8,
    /// Its place in the order of first sight.
    order: u64,
    sent: u64,
    answered: u64,
    software: Option<Box<str>>,
}

/// What the writer knows between two batches.
pub(super) struct Writer {
    /// False when it has to be read from the file again.
    current: bool,
    totals: Totals,
    /// The greatest id of the file: what is greater is new.
    greatest: Option<ExchangeId>,
    hosts: HashMap<Box<str>, Known>,
    /// The last chunk, as long as it is small.
    tail: Option<(u64, Builder)>,
    /// Bodies of exchanges that were taken apart again.
    recent: Recent,
    compressor: zstd::bulk::Compressor<'static>,
    /// Buffers, kept for their memory.
    packed: Vec<u8>,
    plain: Vec<u8>,
}

impl Writer {
    /// Reads what is to be known.
    pub(super) fn load(path: &Path, db: &Database) -> Result<Self, Error> {
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(|source| Error::Io {
            path: path.to_owned(),
            doing: "make a compressor",
            source,
        })?;
        let mut writer = Self {
            current: false,
            totals: Totals::default(),
            greatest: None,
            hosts: HashMap::new(),
            tail: None,
            recent: Recent::default(),
            compressor,
            packed: Vec::new(),
            plain: Vec::new(),
        };
        writer.reload(db).map_err(|t| t.tell(path, "read it"))?;
        Ok(writer)
    }

    /// Trust nothing in memory.
    pub(super) fn forget(&mut self) {
        self.current = false;
        self.tail = None;
    }

    fn reload(&mut self, db: &Database) -> Result<(), Trouble> {
        self.forget();
        let txn = db.begin_read()?;
        self.totals = Totals::read(&txn.open_table(META)?)?;
        let ids = txn.open_table(IDS)?;
        self.greatest = None;
        if let Some(last) = ids.last()? {
            let bucket = last.0.value().0;
            for chunk in ids.range((bucket, 0)..)? {
                let greatest = Entry::read_all(chunk?.1.value()).map(|e| e.id(bucket)).max();
                self.greatest = self.greatest.max(greatest);
            }
        }
        self.hosts.clear();
        for host in txn.open_table(HOSTS)?.iter()? {
            let (host, known) = host?;
            let (slot, order, sent, answered, software) = known.value();
            let known = Known { slot, order, sent, answered, software: software.map(Box::from) };
            self.hosts.insert(host.value().into(), known);
        }
        self.current = true;
        Ok(())
    }

    /// Writes a batch; gives how many exchanges of it were new. What it had to store and count is taken out of it.
    pub(super) fn append(
        &mut self,
        path: &Path,
        db: &Database,
        options: &Options,
        batch: &mut Batch,
    ) -> Result<usize, Error> {
        let result = self.try_append(db, options, batch);
        if result.is_err() {
            self.forget();
        }
        result.map_err(|t| t.tell(path, "write to it"))
    }

    fn try_append(&mut self, db: &Database, options: &Options, batch: &mut Batch) -> Result<usize, Trouble> {
        if batch.is_empty() {
            return Ok(0);
        }
        if !self.current {
            self.reload(db)?;
        }
        let txn = db.begin_write()?;
        let added = {
            let mut open = Open::new(&txn, self)?;
            let known = open.known(batch)?;
            let added = batch.len() - known.len();
            if added > 0 {
                open.add(batch, &known, options)?;
                open.refer()?;
                open.expire(options)?;
                open.finish()?;
            }
            added
        };
        if added == 0 {
            txn.abort()?;
        } else {
            txn.commit()?;
        }
        Ok(added)
    }
}

/// The part of an id that is not its start.
fn rest(id: ExchangeId) -> u64 {
    u128::from_be_bytes(id.0) as u64
}

/// A transaction that is being written.
struct Open<'t, 'w> {
    writer: &'w mut Writer,
    meta: Table<'t, &'static str, u64>,
    chunks: Table<'t, u64, &'static [u8]>,
    pieces: Table<'t, u64, &'static [u8]>,
    ids: Table<'t, (u64, u64), &'static [u8]>,
    terms: Table<'t, TermKey, u64>,
    eras: Table<'t, u64, (u64, u64, u64)>,
    strip: Table<'t, (u8, u64), [u32; 4]>,
    hosts: Table<'t, &'static str, (u8, u64, u64, u64, Option<&'static str>)>,
    bodies: Table<'t, [u8; 32], (u64, u64, u64)>,
    body_pieces: Table<'t, ([u8; 32], u32), &'static [u8]>,
    totals: Totals,
    /// Postings of this transaction, written in order at its end: neighbours in the B-tree are touched once.
    postings: Vec<(TermKey, u64)>,
    /// Shared bodies that are referred to more often now, as their entries will be.
    referred: BTreeMap<[u8; 32], (u64, u64, u64)>,
    /// What the strip's narrowest cells gain and lose.
    bars: BTreeMap<u64, [i64; 4]>,
    /// Chunks that went.
    removed: HashSet<u64>,
    touched_hosts: HashSet<Box<str>>,
}

impl<'t, 'w> Open<'t, 'w> {
    fn new(txn: &'t WriteTransaction, writer: &'w mut Writer) -> Result<Self, Trouble> {
        Ok(Self {
            meta: txn.open_table(META)?,
            chunks: txn.open_table(CHUNKS)?,
            pieces: txn.open_table(PIECES)?,
            ids: txn.open_table(IDS)?,
            terms: txn.open_table(TERMS)?,
            eras: txn.open_table(ERAS)?,
            strip: txn.open_table(STRIP)?,
            hosts: txn.open_table(HOSTS)?,
            bodies: txn.open_table(BODIES)?,
            body_pieces: txn.open_table(BODY_PIECES)?,
            totals: writer.totals,
            postings: Vec::new(),
            referred: BTreeMap::new(),
            bars: BTreeMap::new(),
            removed: HashSet::new(),
            touched_hosts: HashSet::new(),
            writer,
        })
    }

    /// The places (chunk, slot) of a batch's exchanges that are in the file already, or were in the batch before.
    fn known(&self, batch: &Batch) -> Result<HashSet<(usize, usize)>, Trouble> {
        let mut places: HashMap<ExchangeId, (usize, usize)> = HashMap::with_capacity(batch.len());
        let mut known = HashSet::new();
        // What is greater than everything stored is new. For the rest, the span of each bucket that is to be searched.
        let mut spans: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for (at, chunk) in batch.chunks().iter().enumerate() {
            for (slot, id) in chunk.ids.iter().enumerate() {
                if places.contains_key(id) {
                    known.insert((at, slot));
                    continue;
                }
                places.insert(*id, (at, slot));
                if self.writer.greatest.is_some_and(|greatest| *id <= greatest) {
                    let (bucket, offset) = (Cell::bucket(id.started().0), Cell::offset(id.started().0));
                    let (low, high) = spans.entry(bucket).or_insert((offset, offset));
                    (*low, *high) = ((*low).min(offset), (*high).max(offset));
                }
            }
        }
        for (bucket, (low, high)) in spans {
            for chunk in self.ids.range((bucket, 0)..=(bucket, u64::MAX))? {
                for entry in Entry::read_all(chunk?.1.value()) {
                    if (low..=high).contains(&entry.offset) {
                        known.extend(places.get(&entry.id(bucket)));
                    }
                }
            }
        }
        Ok(known)
    }

    fn add(
        &mut self,
        batch: &mut Batch,
        known: &HashSet<(usize, usize)>,
        options: &Options,
    ) -> Result<(), Trouble> {
        let small = |chunk: &Builder| chunk.len() < REOPEN_BELOW && chunk.size() < REOPEN_SIZE;
        let chunks = batch.chunks_mut();
        // A small chunk goes on with what is as small; else it stays as it is.
        let mut open = self.writer.tail.take().filter(|_| chunks.len() == 1 && chunks.iter().all(small));
        for (at, chunk) in chunks.iter_mut().enumerate() {
            let whole = (0..chunk.len()).all(|slot| !known.contains(&(at, slot)));
            if whole && open.is_none() {
                let number = self.next_number();
                self.store(number, chunk)?;
                if small(chunk) {
                    self.writer.tail = Some((number, chunk.clone()));
                }
                continue;
            }
            // One by one: rare, and few.
            for slot in (0..chunk.len()).filter(|slot| !known.contains(&(at, *slot))) {
                let (exchange, reading) = chunk.get(slot).map_err(record)?;
                let started = exchange.id.started().0;
                let full = |(_, chunk): &(u64, Builder)| {
                    chunk.is_full() || chunk.is_too_long(started, options.chunk_span())
                };
                if open.as_ref().is_some_and(full)
                    && let Some((number, mut chunk)) = open.take()
                {
                    self.store(number, &mut chunk)?;
                }
                let (_, chunk) = open.get_or_insert_with(|| (self.next_number(), Builder::default()));
                chunk.push(&exchange, &reading, &mut self.writer.recent);
            }
        }
        if let Some((number, mut chunk)) = open {
            self.store(number, &mut chunk)?;
            self.writer.tail = small(&chunk).then_some((number, chunk));
        }
        Ok(())
    }

    fn next_number(&mut self) -> u64 {
        let number = self.totals.next_chunk;
        self.totals.next_chunk += 1;
        number
    }

    /// Adds rows to all counts (`by` = 1) or takes them out (-1).
    fn count(&mut self, counts: &Counts, by: i64) {
        let Counts { exchanges, federation, bars, hosts } = counts;
        let add = |sum: &mut u64, n: u64| {
            *sum = if by > 0 { sum.saturating_add(n) } else { sum.saturating_sub(n) };
        };
        add(&mut self.totals.exchanges, *exchanges);
        add(&mut self.totals.federation, *federation);
        for (cell, bar) in bars {
            for (sum, n) in self.bars.entry(*cell).or_default().iter_mut().zip(bar) {
                *sum += by * n;
            }
        }
        for HostCount { host, sent, answered, software } in hosts {
            self.host(host, by * sent, by * answered);
            if by > 0
                && software.is_some()
                && let Some(known) = self.writer.hosts.get_mut(host)
                && known.software != *software
            {
                known.software.clone_from(software);
            }
        }
    }

    fn host(&mut self, host: &str, sent: i64, answered: i64) {
        let hosts = &mut self.writer.hosts;
        if !hosts.contains_key(host) {
            if hosts.len() >= MAX_HOSTS || sent + answered < 0 {
                return;
            }
            // A name has the same colour everywhere as long as nobody else has it; then the next free one.
            let first = (index::hash(host) % 8) as u8;
            let mut taken = 0_u8;
            for known in hosts.values() {
                taken |= 1 << (known.slot % 8);
                if taken == u8::MAX {
                    break;
                }
            }
            let slot = (0..8).map(|n| (first + n) % 8).find(|s| taken >> s & 1 == 0).unwrap_or(first);
            // None is ever removed.
            let order = hosts.len() as u64;
            hosts.insert(host.into(), Known { slot, order, sent: 0, answered: 0, software: None });
        }
        if let Some(known) = hosts.get_mut(host) {
            known.sent = known.sent.saturating_add_signed(sent);
            known.answered = known.answered.saturating_add_signed(answered);
            if !self.touched_hosts.contains(host) {
                self.touched_hosts.insert(host.into());
            }
        }
    }

    /// Refers to a shared body, and stores it if nobody did.
    fn share(&mut self, hash: &[u8; 32], bytes: &[u8], more: u64) -> Result<(), Trouble> {
        if let Some((references, ..)) = self.referred.get_mut(hash) {
            *references += more;
            return Ok(());
        }
        let known = self.bodies.get(hash)?.map(|known| known.value());
        let (references, plain, packed) = match known {
            Some(known) => known,
            None => {
                let packed = self.writer.compressor.compress(bytes)?;
                for (piece, bytes) in (0_u32..).zip(packed.chunks(BODY_PIECE)) {
                    self.body_pieces.insert((*hash, piece), bytes)?;
                }
                self.totals.cost += body_cost(packed.len() as u64);
                (0, bytes.len() as u64, packed.len() as u64)
            }
        };
        self.referred.insert(*hash, (references + more, plain, packed));
        Ok(())
    }

    /// Writes how often shared bodies are referred to: once for the whole batch, in the order of the tree.
    fn refer(&mut self) -> Result<(), Trouble> {
        for (hash, known) in std::mem::take(&mut self.referred) {
            self.bodies.insert(hash, known)?;
        }
        Ok(())
    }

    /// Writes a chunk, in place of what it was before, and counts what is new in it.
    fn store(&mut self, number: u64, chunk: &mut Builder) -> Result<(), Trouble> {
        if chunk.len() == 0 {
            return Ok(());
        }
        for (hash, bytes, references) in chunk.fresh() {
            self.share(hash, bytes, references)?;
        }
        chunk.forget_fresh();
        self.count(&chunk.counts, 1);
        chunk.counts.clear();
        self.totals.newest = self.totals.newest.max(chunk.max);
        self.writer.greatest = self.writer.greatest.max(chunk.ids.iter().max().copied());
        let size = |n: usize| {
            u32::try_from(n).map_err(|_| Trouble::Damaged("an exchange is too large to be stored"))
        };
        let mut buffer = std::mem::take(&mut self.writer.packed);
        let mut scratch = std::mem::take(&mut self.writer.plain);
        let (mut packed_sizes, mut plain_sizes) = ([0_u32; 3], [0_u32; 3]);
        let mut length = 0;
        for (place, frame) in chunk.frames().into_iter().enumerate() {
            let plain = frame.written(&mut scratch);
            // Never made shorter, so that nothing is filled with zeros over and over.
            let most = length + zstd::zstd_safe::compress_bound(plain.len());
            if buffer.len() < most {
                buffer.resize(most, 0);
            }
            let written = self.writer.compressor.compress_to_buffer(plain, &mut buffer[length..])?;
            length += written;
            packed_sizes[place] = size(written)?;
            plain_sizes[place] = size(plain.len())?;
        }
        let packed = &buffer[..length];
        let before =
            self.chunks.get(number)?.map(|m| Meta::from_bytes(m.value())).transpose().map_err(record)?;
        let before_pieces = before.as_ref().map_or(0, Meta::pieces);
        let mut pieces = 0;
        for piece in packed.chunks(PIECE) {
            self.pieces.insert(piece_key(number, pieces), piece)?;
            pieces += 1;
        }
        for piece in pieces..before_pieces {
            self.pieces.remove(piece_key(number, piece))?;
        }
        let mut buckets: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (slot, id) in (0_u8..).zip(&chunk.ids) {
            let nanos = id.started().0;
            let entry = Entry { offset: Cell::offset(nanos), rest: rest(*id), slot };
            entry.write(buckets.entry(Cell::bucket(nanos)).or_default());
        }
        // Those of an ordinary chunk; an enormous one must not stay in memory for ever.
        if buffer.capacity().max(scratch.capacity()) <= KEPT_BUFFER {
            (self.writer.packed, self.writer.plain) = (buffer, scratch);
        }
        let cost = pieces * 4096
            + (chunk.terms.len() + buckets.len()) as u64 * ENTRY
            + chunk.len() as u64 * ENTRY
            + chunk.shared.len() as u64 * 32;
        for (bucket, entries) in buckets {
            self.ids.insert((bucket, number), &*entries)?;
        }
        let terms = chunk.terms.iter();
        self.postings
            .extend(terms.map(|((term, bucket), bits)| ((era(number), *term, *bucket, number), *bits)));
        let (first, last) = (Cell::bucket(chunk.min), Cell::bucket(chunk.max));
        let known = self.eras.get(era(number))?.map(|e| e.value());
        let (low, high, chunks) = known.unwrap_or((first, last, 0));
        let chunks = chunks + u64::from(before.is_none());
        self.eras.insert(era(number), (low.min(first), high.max(last), chunks))?;
        let meta = Meta {
            count: chunk.len() as u32,
            packed: packed_sizes,
            plain: plain_sizes,
            min: chunk.min,
            max: chunk.max,
            cost,
            shared: chunk.shared.clone(),
        };
        self.chunks.insert(number, &*meta.to_bytes())?;
        self.totals.cost = (self.totals.cost + cost).saturating_sub(before.map_or(0, |b| b.cost));
        Ok(())
    }

    /// Removes the oldest chunks as far as the limits ask for it: at most a few more than were written, so that no batch
    /// takes long, and those that come after catch up.
    fn expire(&mut self, options: &Options) -> Result<(), Trouble> {
        let written = self.totals.next_chunk - self.writer.totals.next_chunk;
        for _ in 0..written * 2 + 8 {
            let Some((number, meta)) = self.oldest()? else { return Ok(()) };
            let too_old = options.max_age_nanos > 0
                && self.totals.newest.saturating_sub(meta.max) > options.max_age_nanos;
            let too_much = options.max_bytes > 0 && self.totals.cost > options.max_bytes;
            let last = number + 1 == self.totals.next_chunk;
            if !(too_old || too_much) || last {
                return Ok(());
            }
            self.remove(number, &meta)?;
        }
        Ok(())
    }

    fn oldest(&self) -> Result<Option<(u64, Meta)>, Trouble> {
        let Some((number, meta)) = self.chunks.first()? else { return Ok(None) };
        Ok(Some((number.value(), Meta::from_bytes(meta.value()).map_err(record)?)))
    }

    fn remove(&mut self, number: u64, meta: &Meta) -> Result<(), Trouble> {
        let mut packed = Vec::new();
        for piece in self.pieces.range(piece_key(number, 0)..piece_key(number + 1, 0))? {
            packed.extend_from_slice(piece?.1.value());
        }
        let rows = packed.get(meta.span(0)).ok_or(Trouble::Damaged("a chunk is cut off"))?;
        let rows = inflate(rows, meta.plain[0] as usize).and_then(Frame::from_bytes).map_err(record)?;
        let mut terms = HashSet::new();
        let mut buckets = HashSet::new();
        let mut counts = Counts::default();
        for slot in 0..meta.count as usize {
            let (row, keys) = rows.get(slot).and_then(super::record::decode_row).map_err(record)?;
            let bucket = Cell::bucket(row.id.started().0);
            buckets.insert(bucket);
            terms.extend(index::terms(&row, &keys).map(|term| (term, bucket)));
            counts.add(&row, &keys);
        }
        self.count(&counts, -1);
        for (term, bucket) in terms {
            self.terms.remove((era(number), term, bucket, number))?;
        }
        for bucket in buckets {
            self.ids.remove((bucket, number))?;
        }
        for piece in 0..meta.pieces() {
            self.pieces.remove(piece_key(number, piece))?;
        }
        for hash in &meta.shared {
            self.unshare(*hash)?;
        }
        let known = self.eras.get(era(number))?.map(|e| e.value());
        if let Some((first, last, chunks)) = known {
            if chunks > 1 {
                self.eras.insert(era(number), (first, last, chunks - 1))?;
            } else {
                self.eras.remove(era(number))?;
            }
        }
        self.chunks.remove(number)?;
        self.removed.insert(number);
        self.totals.cost = self.totals.cost.saturating_sub(meta.cost);
        self.totals.expired += u64::from(meta.count);
        Ok(())
    }

    /// Refers to a large body once less, and removes it when nobody does.
    fn unshare(&mut self, hash: [u8; 32]) -> Result<(), Trouble> {
        let Some((references, plain, packed)) = self.bodies.get(hash)?.map(|known| known.value()) else {
            return Ok(());
        };
        if references > 1 {
            self.bodies.insert(hash, (references - 1, plain, packed))?;
            return Ok(());
        }
        self.bodies.remove(hash)?;
        for piece in (0_u32..).take((packed as usize).div_ceil(BODY_PIECE)) {
            self.body_pieces.remove((hash, piece))?;
        }
        self.totals.cost = self.totals.cost.saturating_sub(body_cost(packed));
        Ok(())
    }

    fn change_bar(&mut self, cell: (u8, u64), by: [i64; 4]) -> Result<(), Trouble> {
        let old = self.strip.get(cell)?.map_or([0; 4], |bar| bar.value());
        let mut new = [0_u32; 4];
        for ((new, old), by) in new.iter_mut().zip(old).zip(by) {
            *new = u32::try_from((i64::from(old) + by).max(0)).unwrap_or(u32::MAX);
        }
        if new == [0; 4] {
            self.strip.remove(cell)?;
        } else {
            self.strip.insert(cell, new)?;
        }
        Ok(())
    }

    /// Writes what was gathered.
    fn finish(mut self) -> Result<(), Trouble> {
        self.postings.sort_unstable();
        for (key, bits) in &self.postings {
            // A chunk that was written and expired in the same transaction leaves none.
            if !self.removed.contains(&key.3) {
                self.terms.insert(*key, *bits)?;
            }
        }
        let mut cells = std::mem::take(&mut self.bars);
        for (level, bits) in (0_u8..).zip(Cell::STRIP_BITS) {
            let mut wider: BTreeMap<u64, [i64; 4]> = BTreeMap::new();
            let next = Cell::STRIP_BITS.get(usize::from(level) + 1).map_or(0, |next| next - bits);
            for (cell, by) in cells {
                for (sum, n) in wider.entry(cell >> next).or_default().iter_mut().zip(by) {
                    *sum += n;
                }
                self.change_bar((level, cell), by)?;
            }
            cells = wider;
        }
        for host in &self.touched_hosts {
            if let Some(Known { slot, order, sent, answered, software }) = self.writer.hosts.get(host) {
                self.hosts.insert(&**host, (*slot, *order, *sent, *answered, software.as_deref()))?;
            }
        }
        self.totals.write(&mut self.meta)?;
        self.writer.totals = self.totals;
        Ok(())
    }
}

fn body_cost(packed: u64) -> u64 {
    packed.div_ceil(BODY_PIECE as u64) * 4096 + ENTRY
}
