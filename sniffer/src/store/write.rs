//! The writer: a batch in, one durable transaction out. There is one at a time. What it keeps in memory (totals,
//! hosts, the chunk that is not full yet) is a copy of what is in the file, and is thrown away when anything fails.

use std::collections::BTreeMap;
use std::path::Path;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use redb::{Database, ReadableDatabase as _, ReadableTable, Table, WriteTransaction};

use super::chunk::{Builder, Frame, Meta, SharedBody, inflate};
use super::index::{self, Cell};
use super::tables::{
    BODIES, BODY_PIECE, BODY_PIECES, CHUNKS, ERAS, Entry, HOSTS, IDS, META, PIECE, PIECES, STRIP, TERMS,
    TermKey, Trouble, era, piece_key, record,
};
use super::{Bar, Error, Options};
use crate::filter::RowKeys;
use crate::http::ExchangeId;
use crate::pipeline::Told;
use crate::view::Row;

/// A chunk with fewer exchanges is taken up again by the next batch.
const REOPEN_BELOW: usize = 32;
/// Unless it has so many octets.
const REOPEN_SIZE: usize = 64 << 10;
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

    /// Writes a batch; gives how many exchanges of it were new.
    pub(super) fn append(
        &mut self,
        path: &Path,
        db: &Database,
        options: &Options,
        batch: &[Told],
    ) -> Result<usize, Error> {
        let result = self.try_append(db, options, batch);
        if result.is_err() {
            self.forget();
        }
        result.map_err(|t| t.tell(path, "write to it"))
    }

    fn try_append(&mut self, db: &Database, options: &Options, batch: &[Told]) -> Result<usize, Trouble> {
        if batch.is_empty() {
            return Ok(0);
        }
        if !self.current {
            self.reload(db)?;
        }
        let txn = db.begin_write()?;
        let added = {
            let mut open = Open::new(&txn, self)?;
            let new = open.new_ones(batch)?;
            if new.is_empty() {
                0
            } else {
                open.add(&new, options)?;
                open.expire(options)?;
                open.finish()?;
                new.len()
            }
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
            bars: BTreeMap::new(),
            removed: HashSet::new(),
            touched_hosts: HashSet::new(),
            writer,
        })
    }

    /// Those of the batch that are not in the file, each once.
    fn new_ones<'b>(&self, batch: &'b [Told]) -> Result<Vec<&'b Told>, Trouble> {
        let mut seen = HashSet::with_capacity(batch.len());
        let unique: Vec<&Told> = batch.iter().filter(|told| seen.insert(told.exchange.id)).collect();
        // What is greater than everything stored is new. For the rest, the span of each bucket that is to be searched.
        let mut spans: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for told in &unique {
            let id = told.exchange.id;
            if self.writer.greatest.is_some_and(|greatest| id <= greatest) {
                let (bucket, offset) = (Cell::bucket(id.started().0), Cell::offset(id.started().0));
                let (low, high) = spans.entry(bucket).or_insert((offset, offset));
                (*low, *high) = ((*low).min(offset), (*high).max(offset));
            }
        }
        for (bucket, (low, high)) in spans {
            for chunk in self.ids.range((bucket, 0)..=(bucket, u64::MAX))? {
                for entry in Entry::read_all(chunk?.1.value()) {
                    if (low..=high).contains(&entry.offset) {
                        seen.remove(&entry.id(bucket));
                    }
                }
            }
        }
        Ok(unique.into_iter().filter(|told| seen.contains(&told.exchange.id)).collect())
    }

    fn add(&mut self, new: &[&Told], options: &Options) -> Result<(), Trouble> {
        // With an age limit no chunk spans more than a sixteenth of it, so that it holds that exactly.
        let span = if options.max_age_nanos == 0 { u64::MAX } else { options.max_age_nanos / 16 };
        let (mut number, mut chunk) = match self.writer.tail.take() {
            Some(tail) => tail,
            None => (self.next_number(), Builder::default()),
        };
        for told in new {
            let started = told.exchange.id.started().0;
            let too_long =
                chunk.len() > 0 && chunk.max.max(started).saturating_sub(chunk.min.min(started)) > span;
            if chunk.is_full() || too_long {
                self.store(number, &chunk)?;
                number = self.next_number();
                chunk.clear();
            }
            let (row, keys, bodies) = chunk.push(&told.exchange, &told.reading);
            for body in bodies {
                self.share(body)?;
            }
            self.count(&row, &keys, 1);
            self.totals.newest = self.totals.newest.max(started);
            self.writer.greatest = self.writer.greatest.max(Some(row.id));
        }
        self.store(number, &chunk)?;
        if chunk.len() < REOPEN_BELOW && chunk.size() < REOPEN_SIZE {
            self.writer.tail = Some((number, chunk));
        }
        Ok(())
    }

    fn next_number(&mut self) -> u64 {
        let number = self.totals.next_chunk;
        self.totals.next_chunk += 1;
        number
    }

    /// Adds a row to all counts (`by` = 1) or takes it out (-1).
    fn count(&mut self, row: &Row, keys: &RowKeys, by: i64) {
        let add = |n: &mut u64| *n = n.saturating_add_signed(by);
        add(&mut self.totals.exchanges);
        if row.federation {
            add(&mut self.totals.federation);
        }
        let Bar { deliveries, fetches, failures, gaps } = index::bar(row);
        let bar = [deliveries, fetches, failures, gaps];
        if bar != [0; 4] {
            let cell = self.bars.entry(row.id.started().0 >> Cell::STRIP_BITS[0]).or_default();
            for (sum, n) in cell.iter_mut().zip(bar) {
                *sum += by * i64::from(n);
            }
        }
        // Browsers and apps are not servers, and what they ask by address is none that has a name.
        if row.federation || keys.origin_host.is_some() {
            self.host(&row.from, by, 0);
            let software = row.from_software.as_ref();
            if let (Some(software), Some(known)) = (software, self.writer.hosts.get_mut(&row.from))
                && by > 0
                && known.software.as_ref() != Some(software)
            {
                known.software = Some(software.clone());
            }
        }
        if row.federation || keys.request_host.is_some() && &*row.kind != "probe" {
            self.host(&row.to, 0, by);
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

    /// Refers to a large body once more, and stores it if nobody did.
    fn share(&mut self, body: SharedBody) -> Result<(), Trouble> {
        let known = self.bodies.get(body.hash)?.map(|known| known.value());
        let (references, plain, packed) = match known {
            Some(known) => known,
            None => {
                let packed = self.writer.compressor.compress(&body.bytes)?;
                for (piece, bytes) in (0_u32..).zip(packed.chunks(BODY_PIECE)) {
                    self.body_pieces.insert((body.hash, piece), bytes)?;
                }
                self.totals.cost += body_cost(packed.len() as u64);
                (0, body.bytes.len() as u64, packed.len() as u64)
            }
        };
        self.bodies.insert(body.hash, (references + 1, plain, packed))?;
        Ok(())
    }

    /// Writes a chunk, in place of what it was before.
    fn store(&mut self, number: u64, chunk: &Builder) -> Result<(), Trouble> {
        if chunk.len() == 0 {
            return Ok(());
        }
        let size = |n: usize| {
            u32::try_from(n).map_err(|_| Trouble::Damaged("an exchange is too large to be stored"))
        };
        let mut packed = std::mem::take(&mut self.writer.packed);
        let mut plain = std::mem::take(&mut self.writer.plain);
        packed.clear();
        let (mut packed_sizes, mut plain_sizes) = ([0_u32; 3], [0_u32; 3]);
        for (place, frame) in chunk.frames().into_iter().enumerate() {
            plain.clear();
            frame.write(&mut plain);
            let before = packed.len();
            packed.resize(before + zstd::zstd_safe::compress_bound(plain.len()), 0);
            let written =
                self.writer.compressor.compress_to_buffer(plain.as_slice(), &mut packed[before..])?;
            packed.truncate(before + written);
            packed_sizes[place] = size(written)?;
            plain_sizes[place] = size(plain.len())?;
        }
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
        if packed.capacity().max(plain.capacity()) <= 1 << 20 {
            (self.writer.packed, self.writer.plain) = (packed, plain);
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
        let rows =
            inflate(rows, meta.plain[0] as usize).and_then(|r| Frame::from_bytes(&r)).map_err(record)?;
        let mut terms = HashSet::new();
        let mut buckets = HashSet::new();
        for slot in 0..meta.count as usize {
            let (row, keys) = rows.get(slot).and_then(super::record::decode_row).map_err(record)?;
            let bucket = Cell::bucket(row.id.started().0);
            buckets.insert(bucket);
            terms.extend(index::terms(&row, &keys).map(|term| (term, bucket)));
            self.count(&row, &keys, -1);
        }
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
