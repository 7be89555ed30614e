//! Reading: one snapshot of the file, in which pages, single exchanges and figures are found. A walk goes from bucket
//! to bucket in the order of ids, skips those that the indexes rule out, and never looks at more than it was asked for.

use std::path::Path;
use std::rc::Rc;

use foldhash::{HashMap, HashMapExt as _};
use redb::{Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _};

use super::chunk::{Frame, Meta, inflate};
use super::index::{self, AnyOf, Cell};
use super::record::{self, BodyRef, Damaged};
use super::tables::{
    BODIES, BODY_PIECES, CHUNKS, ERAS, Entry, HOSTS, IDS, META, PIECE, PIECES, STRIP, TERMS, TermKey,
    Trouble, piece_key,
};
use super::write::Totals;
use super::{Bar, Cursor, Error, Host, Page, Query, Stats, Stored};
use crate::filter::RowKeys;
use crate::frame::Timestamp;
use crate::http::ExchangeId;
use crate::view::Row;

/// Chunks whose rows one page keeps inflated.
const ROWS_KEPT: usize = 64;
/// Exchanges that an export takes from one snapshot.
const EXPORT_STEP: usize = 512;

/// One state of the file.
pub(super) struct Snapshot<'p> {
    path: &'p Path,
    meta: ReadOnlyTable<&'static str, u64>,
    chunks: ReadOnlyTable<u64, &'static [u8]>,
    pieces: ReadOnlyTable<u64, &'static [u8]>,
    ids: ReadOnlyTable<(u64, u64), &'static [u8]>,
    terms: ReadOnlyTable<TermKey, u64>,
    eras: ReadOnlyTable<u64, (u64, u64, u64)>,
    strip: ReadOnlyTable<(u8, u64), [u32; 4]>,
    hosts: ReadOnlyTable<&'static str, (u8, u64, u64, u64, Option<&'static str>)>,
    bodies: ReadOnlyTable<[u8; 32], (u64, u64, u64)>,
    body_pieces: ReadOnlyTable<([u8; 32], u32), &'static [u8]>,
    rows: HashMap<u64, Rc<Frame>>,
    /// The chunk that was last inflated for its records.
    loaded: Option<Rc<Loaded>>,
}

struct Loaded {
    number: u64,
    records: Frame,
    /// `None` when they were not asked for.
    bodies: Option<Frame>,
}

/// Where an exchange is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    id: ExchangeId,
    chunk: u64,
    slot: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Older,
    Newer,
}

/// Ids from `low`, and below `high`, as numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    low: u128,
    high: u128,
}

impl Span {
    fn number(id: ExchangeId) -> u128 {
        u128::from_be_bytes(id.0)
    }

    fn contains(&self, id: ExchangeId) -> bool {
        (self.low..self.high).contains(&Self::number(id))
    }

    fn before(self, id: ExchangeId) -> Self {
        Self { high: self.high.min(Self::number(id)), ..self }
    }

    /// Up to `id` itself.
    fn through(self, id: ExchangeId) -> Self {
        Self { high: self.high.min(Self::number(id).saturating_add(1)), ..self }
    }

    /// From `id` itself.
    fn from(self, id: ExchangeId) -> Self {
        Self { low: self.low.max(Self::number(id)), ..self }
    }

    fn after(self, id: ExchangeId) -> Self {
        Self { low: self.low.max(Self::number(id).saturating_add(1)), ..self }
    }

    /// The first and last bucket that it touches.
    fn buckets(&self) -> Option<(u64, u64)> {
        let last = self.high.checked_sub(1).filter(|last| *last >= self.low)?;
        Some((Cell::bucket((self.low >> 64) as u64), Cell::bucket((last >> 64) as u64)))
    }
}

/// A walk through what the indexes allow.
struct Walk {
    required: Vec<AnyOf>,
    /// The eras whose buckets overlap the span, in the order of the direction.
    eras: Option<Vec<Era>>,
    direction: Direction,
    span: Span,
    /// Buckets that are still to be seen.
    buckets: Option<(u64, u64)>,
    /// Of the present bucket, the next one last.
    places: Vec<Place>,
}

/// An era with the first and the last bucket of its exchanges.
#[derive(Clone, Copy, Debug)]
struct Era {
    number: u64,
    first: u64,
    last: u64,
}

/// What a walk found.
struct Found {
    rows: Vec<Row>,
    /// There is one more.
    more: bool,
    /// Where it gave up.
    stopped: Option<ExchangeId>,
}

impl<'p> Snapshot<'p> {
    pub(super) fn new(path: &'p Path, db: &Database) -> Result<Self, Error> {
        let open = || -> Result<Self, Trouble> {
            let txn = db.begin_read()?;
            Ok(Self {
                path,
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
                rows: HashMap::new(),
                loaded: None,
            })
        };
        open().map_err(|t| t.tell(path, "read it"))
    }

    pub(super) fn get(&mut self, id: ExchangeId) -> Result<Option<Stored>, Error> {
        let path = self.path;
        self.try_get(id).map_err(|t| t.tell(path, "read it"))
    }

    pub(super) fn page(&mut self, query: &Query<'_>) -> Result<Page, Error> {
        let path = self.path;
        self.try_page(query).map_err(|t| t.tell(path, "read it"))
    }

    pub(super) fn count(&mut self, query: &Query<'_>) -> Result<(u64, bool), Error> {
        let path = self.path;
        self.try_count(query).map_err(|t| t.tell(path, "read it"))
    }

    /// Hands out the next exchanges that match, after `after`; gives the last one that was looked at when there may be
    /// more.
    pub(super) fn some_of(
        &mut self,
        query: &Query<'_>,
        after: Option<ExchangeId>,
        each: &mut dyn FnMut(Stored) -> bool,
    ) -> Result<Option<ExchangeId>, Error> {
        let path = self.path;
        let mut span = span(query);
        match query.cursor {
            Cursor::Before(id) => span = span.before(id),
            Cursor::After(id) => span = span.after(id),
            Cursor::Newest | Cursor::Oldest | Cursor::Around(_) => {}
        }
        if let Some(after) = after {
            span = span.after(after);
        }
        let mut walk = Walk::new(query, span, Direction::Newer);
        let mut last = None;
        for _ in 0..EXPORT_STEP {
            // What `each` does, and how it panics, is not this module's business, and so outside of the guard.
            let next = super::tables::guarded(path, || {
                self.next_stored(query, &mut walk).map_err(|t| t.tell(path, "read it"))
            })?;
            let Some((id, stored)) = next else { return Ok(None) };
            if let Some(stored) = stored
                && !each(stored)
            {
                return Ok(None);
            }
            last = Some(id);
        }
        Ok(last)
    }

    pub(super) fn strip(&self, from: Timestamp, to: Timestamp, bars: usize) -> Result<Vec<Bar>, Error> {
        self.try_strip(from.0, to.0, bars).map_err(|t| t.tell(self.path, "read it"))
    }

    pub(super) fn hosts(&self) -> Result<Vec<Host>, Error> {
        self.try_hosts().map_err(|t| t.tell(self.path, "read it"))
    }

    pub(super) fn stats(&self) -> Result<Stats, Error> {
        self.try_stats().map_err(|t| t.tell(self.path, "read it"))
    }

    fn try_get(&mut self, id: ExchangeId) -> Result<Option<Stored>, Trouble> {
        let bucket = Cell::bucket(id.started().0);
        for entry in self.ids.range((bucket, 0)..=(bucket, u64::MAX))? {
            let (key, entries) = entry?;
            if let Some(place) = places(bucket, key.value().1, entries.value()).find(|p| p.id == id) {
                return self.stored(place, true).map(Some);
            }
        }
        Ok(None)
    }

    fn try_page(&mut self, query: &Query<'_>) -> Result<Page, Trouble> {
        let span = span(query);
        let mut budget = query.scan_limit.max(1);
        let limit = query.limit;
        let older = |found: Found| {
            let Found { mut rows, more, stopped } = found;
            rows.reverse();
            Page { rows, more_before: more, more_after: false, scanned_to: stopped }
        };
        let newer = |found: Found| {
            let Found { rows, more, stopped } = found;
            Page { rows, more_before: false, more_after: more, scanned_to: stopped }
        };
        Ok(match query.cursor {
            Cursor::Newest => older(self.find(query, span, Direction::Older, limit, &mut budget)?),
            Cursor::Oldest => newer(self.find(query, span, Direction::Newer, limit, &mut budget)?),
            Cursor::Before(id) => {
                let mut page =
                    older(self.find(query, span.before(id), Direction::Older, limit, &mut budget)?);
                page.more_after = self.any_in(span.from(id))?;
                page
            }
            Cursor::After(id) => {
                let mut page =
                    newer(self.find(query, span.after(id), Direction::Newer, limit, &mut budget)?);
                page.more_before = self.any_in(span.through(id))?;
                page
            }
            Cursor::Around(id) => {
                let half = limit / 2;
                let mut before_budget = budget / 2;
                budget -= before_budget;
                let before = self.find(query, span.before(id), Direction::Older, half, &mut before_budget)?;
                budget += before_budget;
                let rest = limit.saturating_sub(before.rows.len());
                let after = self.find(query, span.from(id), Direction::Newer, rest, &mut budget)?;
                let mut page = older(before);
                page.rows.extend(after.rows);
                page.more_after = after.more;
                page.scanned_to = page.scanned_to.or(after.stopped);
                page
            }
        })
    }

    fn try_count(&mut self, query: &Query<'_>) -> Result<(u64, bool), Trouble> {
        let span = span(query);
        let everything = span == Span { low: 0, high: u128::MAX };
        if query.filter.is_none() && everything {
            let totals = Totals::read(&self.meta)?;
            return Ok((if query.federation { totals.federation } else { totals.exchanges }, true));
        }
        let mut walk = Walk::new(query, span, Direction::Newer);
        let (mut matched, mut looked) = (0, 0);
        while let Some(place) = walk.next(self)? {
            if query.filter.is_none() {
                // The index of the view is exact.
                matched += 1;
                continue;
            }
            if looked >= query.scan_limit {
                return Ok((matched, false));
            }
            looked += 1;
            if self.matches(query, place)?.is_some() {
                matched += 1;
            }
        }
        Ok((matched, true))
    }

    /// The next exchange that the indexes allow, whole if it matches.
    fn next_stored(
        &mut self,
        query: &Query<'_>,
        walk: &mut Walk,
    ) -> Result<Option<(ExchangeId, Option<Stored>)>, Trouble> {
        let Some(place) = walk.next(self)? else { return Ok(None) };
        let stored = match self.matches(query, place)? {
            Some(_) => Some(self.stored(place, true)?),
            None => None,
        };
        Ok(Some((place.id, stored)))
    }

    fn try_strip(&self, from: u64, to: u64, bars: usize) -> Result<Vec<Bar>, Trouble> {
        let mut strip = vec![Bar::default(); bars];
        if to <= from || bars == 0 {
            return Ok(strip);
        }
        let length = u128::from(to - from);
        let level = Cell::strip_level((to - from) / bars as u64);
        let bits = Cell::STRIP_BITS[level];
        let level = level as u8;
        for cell in self.strip.range((level, from >> bits)..=(level, (to - 1) >> bits))? {
            let (key, counts) = cell?;
            // The middle of the cell says which bar it belongs to; the outermost may stand a little beyond the edge.
            let middle = (key.value().1 << bits) + (1 << bits >> 1);
            let place = u128::from(middle.clamp(from, to - 1) - from) * bars as u128 / length;
            let Some(bar) = strip.get_mut(place as usize) else { continue };
            let [deliveries, fetches, failures, gaps] = counts.value();
            bar.deliveries += deliveries;
            bar.fetches += fetches;
            bar.failures += failures;
            bar.gaps += gaps;
        }
        Ok(strip)
    }

    fn try_hosts(&self) -> Result<Vec<Host>, Trouble> {
        let mut hosts = Vec::new();
        for entry in self.hosts.iter()? {
            let (host, known) = entry?;
            let (slot, order, sent, answered, software) = known.value();
            let software = software.map(str::to_owned);
            hosts.push((order, Host { host: host.value().to_owned(), slot, software, sent, answered }));
        }
        hosts.sort_by_key(|(order, _)| *order);
        Ok(hosts.into_iter().map(|(_, host)| host).collect())
    }

    fn try_stats(&self) -> Result<Stats, Trouble> {
        let totals = Totals::read(&self.meta)?;
        let whole = Span { low: 0, high: u128::MAX };
        let end = |direction| -> Result<Option<Timestamp>, Trouble> {
            let mut walk = Walk::over(Vec::new(), whole, direction);
            Ok(walk.next(self)?.map(|place| place.id.started()))
        };
        Ok(Stats {
            exchanges: totals.exchanges,
            federation: totals.federation,
            file_bytes: file_bytes(self.path),
            oldest: end(Direction::Newer)?,
            newest: end(Direction::Older)?,
            expired: totals.expired,
        })
    }

    /// Whether there is any exchange in that span, whether it matches or not.
    fn any_in(&self, span: Span) -> Result<bool, Trouble> {
        Ok(Walk::over(Vec::new(), span, Direction::Newer).next(self)?.is_some())
    }

    fn find(
        &mut self,
        query: &Query<'_>,
        span: Span,
        direction: Direction,
        limit: usize,
        budget: &mut usize,
    ) -> Result<Found, Trouble> {
        let mut walk = Walk::new(query, span, direction);
        let mut found = Found { rows: Vec::new(), more: false, stopped: None };
        let mut last = None;
        while let Some(place) = walk.next(self)? {
            if *budget == 0 {
                found.more = true;
                // The next page goes on behind the last one that was looked at.
                found.stopped = last;
                break;
            }
            *budget -= 1;
            last = Some(place.id);
            if let Some(row) = self.matches(query, place)? {
                if found.rows.len() >= limit {
                    found.more = true;
                    break;
                }
                found.rows.push(row);
            }
        }
        Ok(found)
    }

    /// The row of an exchange, if it matches.
    fn matches(&mut self, query: &Query<'_>, place: Place) -> Result<Option<Row>, Trouble> {
        let (row, keys) = self.row(place)?;
        if query.federation && !row.federation {
            return Ok(None);
        }
        let Some(filter) = query.filter else { return Ok(Some(row)) };
        let matches = match filter.matches_row(&row, &keys) {
            Some(matches) => matches,
            None => {
                let Stored { exchange, reading } = self.stored(place, filter.needs_bodies())?;
                filter.matches(&exchange, &reading)
            }
        };
        Ok(matches.then_some(row))
    }

    fn chunk_meta(&self, number: u64) -> Result<Meta, Trouble> {
        let meta = self.chunks.get(number)?.ok_or(Trouble::Damaged("a chunk is missing"))?;
        Meta::from_bytes(meta.value()).map_err(super::tables::record)
    }

    /// Some frames of a chunk, inflated.
    fn frames(
        &self,
        number: u64,
        meta: &Meta,
        frames: std::ops::Range<usize>,
    ) -> Result<Vec<Frame>, Trouble> {
        let (first, end) = (meta.span(frames.start).start, meta.span(frames.end - 1).end);
        let (first_piece, last_piece) = (first / PIECE, end.saturating_sub(1) / PIECE);
        let mut packed = Vec::with_capacity((last_piece - first_piece + 1) * PIECE);
        let keys = piece_key(number, first_piece as u64)..=piece_key(number, last_piece as u64);
        for piece in self.pieces.range(keys)? {
            packed.extend_from_slice(piece?.1.value());
        }
        let skipped = first_piece * PIECE;
        frames
            .map(|frame| {
                let span = meta.span(frame);
                let bytes = packed
                    .get(span.start - skipped..span.end - skipped)
                    .ok_or(Trouble::Damaged("a chunk is cut off"))?;
                inflate(bytes, meta.plain[frame] as usize)
                    .and_then(Frame::from_bytes)
                    .map_err(super::tables::record)
            })
            .collect()
    }

    fn row(&mut self, place: Place) -> Result<(Row, RowKeys), Trouble> {
        let frame = match self.rows.get(&place.chunk) {
            Some(frame) => frame.clone(),
            None => {
                let meta = self.chunk_meta(place.chunk)?;
                let frame = self.frames(place.chunk, &meta, 0..1)?.pop();
                let frame = Rc::new(frame.ok_or(Trouble::Damaged("a chunk is cut off"))?);
                if self.rows.len() >= ROWS_KEPT {
                    self.rows.clear();
                }
                self.rows.insert(place.chunk, frame.clone());
                frame
            }
        };
        frame.get(place.slot.into()).and_then(record::decode_row).map_err(super::tables::record)
    }

    fn stored(&mut self, place: Place, with_bodies: bool) -> Result<Stored, Trouble> {
        let loaded = match &self.loaded {
            Some(loaded) if loaded.number == place.chunk && (loaded.bodies.is_some() || !with_bodies) => {
                loaded.clone()
            }
            _ => {
                let meta = self.chunk_meta(place.chunk)?;
                let mut frames = self.frames(place.chunk, &meta, 1..if with_bodies { 3 } else { 2 })?;
                let bodies = if with_bodies { frames.pop() } else { None };
                let records = frames.pop().ok_or(Trouble::Damaged("a chunk is cut off"))?;
                let loaded = Rc::new(Loaded { number: place.chunk, records, bodies });
                self.loaded = Some(loaded.clone());
                loaded
            }
        };
        let record = loaded.records.get(place.slot.into()).map_err(super::tables::record)?;
        let mut trouble = None;
        let mut fetch = |body: BodyRef| match (body, &loaded.bodies) {
            (_, None) | (BodyRef::Empty, _) => Ok(Vec::new()),
            (BodyRef::Chunk(n), Some(bodies)) => bodies.get(n as usize).map(<[u8]>::to_vec),
            (BodyRef::Shared(hash), Some(_)) => self.shared(hash).map_err(|t| {
                trouble = Some(t);
                Damaged
            }),
        };
        let decoded = record::decode(record, &mut fetch);
        match (decoded, trouble) {
            (_, Some(trouble)) => Err(trouble),
            (decoded, None) => {
                let (exchange, reading) = decoded.map_err(super::tables::record)?;
                Ok(Stored { exchange, reading })
            }
        }
    }

    fn shared(&self, hash: [u8; 32]) -> Result<Vec<u8>, Trouble> {
        let (_, plain, packed) =
            self.bodies.get(hash)?.ok_or(Trouble::Damaged("a large body is missing"))?.value();
        let mut bytes = Vec::with_capacity(usize::try_from(packed.min(1 << 24)).unwrap_or(0));
        for piece in self.body_pieces.range((hash, 0)..=(hash, u32::MAX))? {
            bytes.extend_from_slice(piece?.1.value());
        }
        inflate(&bytes, usize::try_from(plain).unwrap_or(usize::MAX)).map_err(super::tables::record)
    }

    /// The eras that overlap a span, those that come first in the direction first.
    fn eras_in(&self, span: Span, direction: Direction) -> Result<Vec<Era>, Trouble> {
        let mut eras = Vec::new();
        let Some((first_bucket, last_bucket)) = span.buckets() else { return Ok(eras) };
        for era in self.eras.iter()? {
            let (number, bounds) = era?;
            let (first, last, _) = bounds.value();
            if first <= last_bucket && last >= first_bucket {
                eras.push(Era { number: number.value(), first, last });
            }
        }
        match direction {
            Direction::Newer => eras.sort_by_key(|e| e.first),
            Direction::Older => eras.sort_by_key(|e| std::cmp::Reverse(e.last)),
        }
        Ok(eras)
    }

    /// The next bucket in the direction, within the bounds, in which some exchange has the term.
    fn next_bucket_of(
        &self,
        term: u64,
        eras: &[Era],
        direction: Direction,
        (first, last): (u64, u64),
    ) -> Result<Option<u64>, Trouble> {
        let mut best: Option<u64> = None;
        for era in eras {
            // Eras begin (or end) ever later, so none that follows has a nearer bucket.
            let behind = match direction {
                Direction::Newer => era.first > best.unwrap_or(last),
                Direction::Older => era.last < best.unwrap_or(first),
            };
            if behind {
                break;
            }
            let (low, high) = match direction {
                Direction::Newer => (first.max(era.first), best.unwrap_or(last).min(era.last)),
                Direction::Older => (best.unwrap_or(first).max(era.first), last.min(era.last)),
            };
            if low > high {
                continue;
            }
            let mut range =
                self.terms.range((era.number, term, low, 0)..=(era.number, term, high, u64::MAX))?;
            let entry = if direction == Direction::Newer { range.next() } else { range.next_back() };
            if let Some(entry) = entry.transpose()? {
                best = Some(entry.0.value().2);
            }
        }
        Ok(best)
    }

    /// The next bucket in the direction, within the bounds, in which every requirement is met by some exchange (though
    /// perhaps not by the same one).
    fn next_bucket(
        &self,
        required: &[AnyOf],
        eras: &[Era],
        direction: Direction,
        (first, last): (u64, u64),
    ) -> Result<Option<u64>, Trouble> {
        if required.is_empty() {
            let mut range = self.ids.range((first, 0)..=(last, u64::MAX))?;
            let entry = if direction == Direction::Newer { range.next() } else { range.next_back() };
            return Ok(entry.transpose()?.map(|e| e.0.value().0));
        }
        let (mut first, mut last) = (first, last);
        // Each requirement moves the bound to its own next bucket, until all agree on one.
        let mut agreed = 0;
        let mut candidate = None;
        for any_of in required.iter().cycle() {
            let mut best: Option<u64> = None;
            for term in any_of {
                let bounds = match (best, direction) {
                    (None, _) => (first, last),
                    (Some(best), Direction::Newer) => (first, best),
                    (Some(best), Direction::Older) => (best, last),
                };
                best = self.next_bucket_of(*term, eras, direction, bounds)?.or(best);
            }
            let Some(best) = best else { return Ok(None) };
            match direction {
                Direction::Newer => first = best,
                Direction::Older => last = best,
            }
            agreed = if candidate == Some(best) { agreed + 1 } else { 1 };
            candidate = Some(best);
            if agreed >= required.len() {
                break;
            }
        }
        Ok(candidate)
    }

    /// What the indexes allow in a bucket, unordered.
    fn places_in(&self, required: &[AnyOf], eras: &[Era], bucket: u64) -> Result<Vec<Place>, Trouble> {
        let mut found = Vec::new();
        let Some((first, others)) = required.split_first() else {
            for entry in self.ids.range((bucket, 0)..=(bucket, u64::MAX))? {
                let (key, entries) = entry?;
                found.extend(places(bucket, key.value().1, entries.value()));
            }
            return Ok(found);
        };
        let bits_of = |any_of: &AnyOf| -> Result<HashMap<u64, u64>, Trouble> {
            let mut chunks = HashMap::new();
            for era in eras.iter().filter(|e| (e.first..=e.last).contains(&bucket)) {
                for term in any_of {
                    let keys = (era.number, *term, bucket, 0)..=(era.number, *term, bucket, u64::MAX);
                    for posting in self.terms.range(keys)? {
                        let (key, bits) = posting?;
                        *chunks.entry(key.value().3).or_default() |= bits.value();
                    }
                }
            }
            Ok(chunks)
        };
        let mut chunks = bits_of(first)?;
        for any_of in others {
            let other = bits_of(any_of)?;
            chunks.retain(|chunk, bits| {
                *bits &= other.get(chunk).copied().unwrap_or(0);
                *bits != 0
            });
        }
        for (chunk, bits) in chunks {
            let Some(entries) = self.ids.get((bucket, chunk))? else { continue };
            found.extend(places(bucket, chunk, entries.value()).filter(|p| bits >> p.slot & 1 == 1));
        }
        Ok(found)
    }
}

impl Walk {
    fn new(query: &Query<'_>, span: Span, direction: Direction) -> Self {
        let nothing = crate::filter::Plan::default();
        let plan = query.filter.map_or(&nothing, |f| f.plan());
        Self::over(index::required(plan, query.federation), span, direction)
    }

    fn over(required: Vec<AnyOf>, span: Span, direction: Direction) -> Self {
        Self { required, eras: None, direction, span, buckets: span.buckets(), places: Vec::new() }
    }

    /// The next exchange that the indexes allow.
    fn next(&mut self, snapshot: &Snapshot<'_>) -> Result<Option<Place>, Trouble> {
        loop {
            if let Some(place) = self.places.pop() {
                return Ok(Some(place));
            }
            let Some((first, last)) = self.buckets else { return Ok(None) };
            let eras = match &mut self.eras {
                Some(eras) => eras,
                // Without a requirement no term is looked up.
                none if self.required.is_empty() => none.insert(Vec::new()),
                none => none.insert(snapshot.eras_in(self.span, self.direction)?),
            };
            let Some(bucket) = snapshot.next_bucket(&self.required, eras, self.direction, (first, last))?
            else {
                self.buckets = None;
                return Ok(None);
            };
            self.buckets = match self.direction {
                Direction::Newer => bucket.checked_add(1).map(|first| (first, last)),
                Direction::Older => bucket.checked_sub(1).map(|last| (first, last)),
            }
            .filter(|(first, last)| first <= last);
            self.places = snapshot.places_in(&self.required, eras, bucket)?;
            self.places.retain(|p| self.span.contains(p.id));
            self.places.sort_unstable();
            if self.direction == Direction::Newer {
                self.places.reverse();
            }
        }
    }
}

fn places(bucket: u64, chunk: u64, entries: &[u8]) -> impl Iterator<Item = Place> {
    Entry::read_all(entries).map(move |e| Place { id: e.id(bucket), chunk, slot: e.slot })
}

/// What query and filter say of time.
fn span(query: &Query<'_>) -> Span {
    let plan = query.filter.map(|f| f.plan());
    let number = |t: Timestamp| u128::from(t.0) << 64;
    let low = [query.from, plan.and_then(|p| p.from)].into_iter().flatten().map(number).max();
    let high = [query.to, plan.and_then(|p| p.to)].into_iter().flatten().map(number).min();
    Span { low: low.unwrap_or(0), high: high.unwrap_or(u128::MAX) }
}

/// What the file takes on the disk.
fn file_bytes(path: &Path) -> u64 {
    let Ok(meta) = std::fs::metadata(path) else { return 0 };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        // Parts that were never written take nothing; st_blocks counts 512 octets whatever the file system's block is.
        meta.blocks().saturating_mul(512).min(meta.len())
    }
    #[cfg(not(unix))]
    meta.len()
}
