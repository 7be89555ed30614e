//! What the audit leaves in the store: findings, the DNS ledger and sessions, in tables of their own that a store of an
//! older fedisniff lacks and that are made when they are first written. Values are JSON, compressed, behind a small head
//! that says their version and their last moment, so that what lies outside of a period is not even unpacked.
//!
//! They have a bound of their own, a part of the store's: exchanges go first, then the oldest of these. What went is
//! remembered by number and time, because a certificate must not take it for what never was.

use std::ops::RangeInclusive;
use std::path::Path;

use foldhash::HashSet;
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _,
    TableDefinition, TableError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::tables::Trouble;
use super::{Error, Options};
use crate::audit::session::Session;
use crate::audit::{Asked, Finding, FindingId, Outcome};
use crate::frame::Timestamp;
use crate::http::ExchangeId;

/// Finding's id to the finding.
const FINDINGS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("findings");
/// First question and a hash of who asked for what, to the line of the ledger.
const LEDGER: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("ledger");
/// Session's id to the session.
const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sessions");
/// (exchange's id, finding's id): the exchange was under way then, or went through.
const FOUND: TableDefinition<'_, (u128, u128), ()> = TableDefinition::new("found");
/// Table's name to (octets, entries that went, the last moment of these).
const AUDIT: TableDefinition<'_, &str, (u64, u64, u64)> = TableDefinition::new("audit");

/// The version of values that is written. A newer one is refused.
const VERSION: u8 = 1;
/// Version, last moment.
const HEAD: usize = 9;
/// zstd's fastest ordinary level.
const LEVEL: i32 = 1;
/// A value that is longer unpacked is damaged.
const LARGEST: usize = 64 << 20;
/// What an entry costs in the file beside its octets, about.
const ENTRY: u64 = 48;
/// Findings, lines and sessions that are kept.
const MOST_FINDINGS: u64 = 16_384;
const MOST_ASKED: u64 = 65_536;
const MOST_SESSIONS: u64 = 4_096;
/// Octets of each table, where the store's own limit does not ask for less.
const MOST_OCTETS: u64 = 64 << 20;
/// Each table may have this part of the store's limit.
const PART: u64 = 16;

/// What of the audit had to go, because there was too much of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gone {
    /// Findings that went, and the last moment of the latest.
    pub findings: (u64, Timestamp),
    /// Lines of the ledger.
    pub asked: (u64, Timestamp),
}

/// Which findings.
#[derive(Clone, Debug, Default)]
pub struct FindingQuery {
    /// Those that went on at or after this.
    pub from: Option<Timestamp>,
    /// Those that began at or before this.
    pub to: Option<Timestamp>,
    /// Of this outcome.
    pub outcome: Option<Outcome>,
    /// Of this pod, `namespace/name`.
    pub pod: Option<String>,
    /// At most so many, the newest; the rest is counted.
    pub limit: usize,
}

/// One kind of value.
trait Kept: Serialize + DeserializeOwned {
    type Key: redb::Key + for<'a> redb::Value<SelfType<'a> = Self::Key> + Copy + 'static;
    const TABLE: TableDefinition<'static, Self::Key, &'static [u8]>;
    const MOST: u64;

    fn key(&self) -> Self::Key;
    fn last(&self) -> Timestamp;

    /// Its key as a number, where it names exchanges.
    fn number(&self) -> u128 {
        0
    }

    /// Exchanges that it names.
    fn exchanges(&self) -> impl Iterator<Item = ExchangeId> {
        std::iter::empty()
    }
}

impl Kept for Finding {
    type Key = u128;
    const TABLE: TableDefinition<'static, u128, &'static [u8]> = FINDINGS;
    const MOST: u64 = MOST_FINDINGS;

    fn key(&self) -> u128 {
        u128::from_be_bytes(self.id.octets())
    }

    fn last(&self) -> Timestamp {
        self.last
    }

    fn number(&self) -> u128 {
        self.key()
    }

    fn exchanges(&self) -> impl Iterator<Item = ExchangeId> {
        self.during.iter().chain(&self.exchanges).copied()
    }
}

impl Kept for Asked {
    type Key = (u64, u64);
    const TABLE: TableDefinition<'static, (u64, u64), &'static [u8]> = LEDGER;
    const MOST: u64 = MOST_ASKED;

    fn key(&self) -> (u64, u64) {
        // A line keeps its first question, so what comes again is written over.
        let whole = format!("{}\n{}\n{}", self.pod, self.name, self.kind);
        (self.first.0, super::index::hash(&whole))
    }

    fn last(&self) -> Timestamp {
        self.last
    }
}

impl Kept for Session {
    type Key = u64;
    const TABLE: TableDefinition<'static, u64, &'static [u8]> = SESSIONS;
    const MOST: u64 = MOST_SESSIONS;

    fn key(&self) -> u64 {
        self.id
    }

    fn last(&self) -> Timestamp {
        self.last
    }
}

fn number(exchange: ExchangeId) -> u128 {
    u128::from_be_bytes(exchange.0)
}

fn encode(value: &impl Kept) -> Result<Vec<u8>, Trouble> {
    let json = serde_json::to_vec(value).map_err(|_| Trouble::Damaged("a finding cannot be written"))?;
    let mut out = Vec::with_capacity(HEAD + zstd::zstd_safe::compress_bound(json.len()));
    out.push(VERSION);
    out.extend_from_slice(&value.last().0.to_be_bytes());
    out.extend_from_slice(&zstd::bulk::compress(&json, LEVEL)?);
    Ok(out)
}

/// The last moment of a value.
fn last_of(value: &[u8]) -> Result<Timestamp, Problem> {
    let (version, rest) = value.split_first().ok_or(Problem::DAMAGED)?;
    if *version > VERSION {
        return Err(Problem::Newer(*version));
    }
    let nanos = rest.first_chunk::<8>().ok_or(Problem::DAMAGED)?;
    Ok(Timestamp(u64::from_be_bytes(*nanos)))
}

fn decode<T: Kept>(value: &[u8]) -> Result<T, Problem> {
    let packed = value.get(HEAD..).ok_or(Problem::DAMAGED)?;
    let length = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten().unwrap_or(LARGEST as u64);
    let length = usize::try_from(length).ok().filter(|n| *n <= LARGEST).ok_or(Problem::DAMAGED)?;
    let json = zstd::bulk::decompress(packed, length).map_err(|_| Problem::DAMAGED)?;
    serde_json::from_slice(&json).map_err(|_| Problem::DAMAGED)
}

/// What goes wrong while reading.
#[derive(Debug)]
enum Problem {
    Trouble(Trouble),
    /// A newer fedisniff has written it, in this version.
    Newer(u8),
}

impl Problem {
    const DAMAGED: Self = Self::Trouble(Trouble::Damaged("a finding, name or session cannot be read"));

    fn tell(self, path: &Path) -> Error {
        match self {
            Self::Trouble(trouble) => trouble.tell(path, "read it"),
            Self::Newer(version) => {
                Error::TooNew { path: path.to_owned(), found: u32::from(version), known: u32::from(VERSION) }
            }
        }
    }
}

impl<T: Into<Trouble>> From<T> for Problem {
    fn from(trouble: T) -> Self {
        Self::Trouble(trouble.into())
    }
}

/// Octets that a table may take; 0 where the store has no limit is none of its own either.
fn most_octets(options: &Options) -> u64 {
    if options.max_bytes == 0 { MOST_OCTETS } else { (options.max_bytes / PART).min(MOST_OCTETS) }
}

/// Writes in one durable transaction. Gives what the audit takes of the file now, in octets.
pub(super) fn put(
    path: &Path,
    db: &Database,
    options: &Options,
    (findings, asked, session): (&[Finding], &[Asked], Option<&Session>),
) -> Result<u64, Error> {
    let write = || -> Result<u64, Trouble> {
        let txn = db.begin_write()?;
        let mut sum = 0;
        {
            let mut audit = txn.open_table(AUDIT)?;
            let most = most_octets(options);
            sum += put_all(&txn, &mut audit, findings, most)?;
            sum += put_all(&txn, &mut audit, asked, most)?;
            sum += put_all(&txn, &mut audit, session.map(std::slice::from_ref).unwrap_or_default(), most)?;
        }
        txn.commit()?;
        Ok(sum)
    };
    write().map_err(|trouble| trouble.tell(path, "write to it"))
}

fn put_all<T: Kept>(
    txn: &redb::WriteTransaction,
    audit: &mut redb::Table<'_, &'static str, (u64, u64, u64)>,
    values: &[T],
    most_octets: u64,
) -> Result<u64, Trouble> {
    let name = redb::TableHandle::name(&T::TABLE).to_owned();
    let known = audit.get(&*name)?.map(|known| known.value());
    let (mut octets, mut went, mut latest) = known.unwrap_or_default();
    if values.is_empty() {
        return Ok(octets);
    }
    let mut table = txn.open_table(T::TABLE)?;
    let mut found = txn.open_table(FOUND)?;
    for value in values {
        for exchange in value.exchanges() {
            found.insert((number(exchange), value.number()), ())?;
        }
        let bytes = encode(value)?;
        octets = octets.saturating_add(bytes.len() as u64 + ENTRY);
        if let Some(before) = table.insert(value.key(), &*bytes)? {
            octets = octets.saturating_sub(before.value().len() as u64 + ENTRY);
        }
    }
    // The last one stays, however large it is.
    while (octets > most_octets || table.len()? > T::MOST) && table.len()? > 1 {
        let Some((_, oldest)) = table.pop_first()? else { break };
        octets = octets.saturating_sub(oldest.value().len() as u64 + ENTRY);
        went = went.saturating_add(1);
        latest = latest.max(last_of(oldest.value()).map_or(u64::MAX, |last| last.0));
        if let Ok(oldest) = decode::<T>(oldest.value()) {
            for exchange in oldest.exchanges() {
                found.remove((number(exchange), oldest.number()))?;
            }
        }
    }
    audit.insert(&*name, (octets, went, latest))?;
    Ok(octets)
}

/// What the audit takes of the file, in octets.
pub(super) fn octets(path: &Path, db: &Database) -> Result<u64, Error> {
    let read = || -> Result<u64, Problem> {
        let Some(audit) = opened(&db.begin_read().map_err(Trouble::from)?, AUDIT)? else { return Ok(0) };
        let mut sum = 0_u64;
        for entry in audit.iter().map_err(Trouble::from)? {
            sum = sum.saturating_add(entry.map_err(Trouble::from)?.1.value().0);
        }
        Ok(sum)
    };
    read().map_err(|problem| problem.tell(path))
}

/// A table, unless the store has none.
fn opened<K: redb::Key + 'static, V: redb::Value + 'static>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<Option<redb::ReadOnlyTable<K, V>>, Problem> {
    match txn.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(Trouble::from(error).into()),
    }
}

/// Calls `each` with what overlaps a period, newest first, until it says false.
fn each<T: Kept>(
    db: &Database,
    keys: RangeInclusive<T::Key>,
    from: Option<Timestamp>,
    mut each: impl FnMut(T) -> bool,
) -> Result<(), Problem> {
    let txn = db.begin_read().map_err(Trouble::from)?;
    let Some(table) = opened(&txn, T::TABLE)? else { return Ok(()) };
    for entry in table.range(keys).map_err(Trouble::from)?.rev() {
        let (_, value) = entry.map_err(Trouble::from)?;
        if from.is_some_and(|from| last_of(value.value()).is_ok_and(|last| last < from)) {
            continue;
        }
        last_of(value.value())?;
        if !each(decode(value.value())?) {
            break;
        }
    }
    Ok(())
}

/// Sessions that overlap a period, in order.
pub(super) fn sessions(
    path: &Path,
    db: &Database,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Vec<Session>, Error> {
    let mut found = Vec::new();
    each(db, 0..=u64::MAX, from, |session: Session| {
        if to.is_none_or(|to| session.from <= to) {
            found.push(session);
        }
        true
    })
    .map_err(|problem| problem.tell(path))?;
    found.sort_by_key(|session| (session.from, session.id));
    Ok(found)
}

/// Findings, oldest first, and how many there are in all.
pub(super) fn findings(
    path: &Path,
    db: &Database,
    query: &FindingQuery,
) -> Result<(Vec<Finding>, u64), Error> {
    let last = query.to.map_or(u128::MAX, |to| (u128::from(to.0) << 64) | u128::from(u64::MAX));
    let (mut found, mut total) = (Vec::new(), 0);
    each(db, 0..=last, query.from, |finding: Finding| {
        let wanted = query.outcome.is_none_or(|outcome| finding.outcome == outcome)
            && query.pod.as_ref().is_none_or(|pod| **pod == *finding.pod.name);
        if wanted {
            total += 1;
            if found.len() < query.limit {
                found.push(finding);
            }
        }
        true
    })
    .map_err(|problem| problem.tell(path))?;
    found.reverse();
    Ok((found, total))
}

/// One finding.
pub(super) fn finding(path: &Path, db: &Database, id: FindingId) -> Result<Option<Finding>, Error> {
    let key = u128::from_be_bytes(id.octets());
    let mut found = None;
    each(db, key..=key, None, |finding: Finding| {
        found = Some(finding);
        false
    })
    .map_err(|problem| problem.tell(path))?;
    Ok(found)
}

/// Findings that name an exchange, as what was under way meanwhile or what went through; in order of time.
pub(super) fn findings_of(path: &Path, db: &Database, exchange: ExchangeId) -> Result<Vec<Finding>, Error> {
    let read = || -> Result<Vec<Finding>, Problem> {
        let txn = db.begin_read().map_err(Trouble::from)?;
        let (Some(found), Some(findings)) = (opened(&txn, FOUND)?, opened(&txn, FINDINGS)?) else {
            return Ok(Vec::new());
        };
        let exchange = number(exchange);
        let mut out = Vec::new();
        for entry in found.range((exchange, 0)..=(exchange, u128::MAX)).map_err(Trouble::from)? {
            let (_, finding) = entry.map_err(Trouble::from)?.0.value();
            if let Some(value) = findings.get(finding).map_err(Trouble::from)? {
                last_of(value.value())?;
                out.push(decode(value.value())?);
            }
        }
        Ok(out)
    };
    read().map_err(|problem| problem.tell(path))
}

/// Which of these exchanges a finding names.
pub(super) fn have_findings(
    path: &Path,
    db: &Database,
    exchanges: impl Iterator<Item = ExchangeId>,
) -> Result<HashSet<ExchangeId>, Error> {
    let read = || -> Result<HashSet<ExchangeId>, Problem> {
        let txn = db.begin_read().map_err(Trouble::from)?;
        let mut out = HashSet::default();
        let Some(found) = opened(&txn, FOUND)? else { return Ok(out) };
        if found.is_empty().map_err(Trouble::from)? {
            return Ok(out);
        }
        for id in exchanges {
            let exchange = number(id);
            let named = found.range((exchange, 0)..=(exchange, u128::MAX)).map_err(Trouble::from)?.next();
            if named.transpose().map_err(Trouble::from)?.is_some() {
                out.insert(id);
            }
        }
        Ok(out)
    };
    read().map_err(|problem| problem.tell(path))
}

/// Lines of the ledger that overlap a period, in order of the first question.
pub(super) fn asked(
    path: &Path,
    db: &Database,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Vec<Asked>, Error> {
    let mut found = Vec::new();
    each(db, (0, 0)..=(to.map_or(u64::MAX, |to| to.0), u64::MAX), from, |asked: Asked| {
        found.push(asked);
        true
    })
    .map_err(|problem| problem.tell(path))?;
    found.reverse();
    Ok(found)
}

/// What had to go.
pub(super) fn gone(path: &Path, db: &Database) -> Result<Gone, Error> {
    let read = || -> Result<Gone, Problem> {
        let Some(audit) = opened(&db.begin_read().map_err(Trouble::from)?, AUDIT)? else {
            return Ok(Gone::default());
        };
        let of = |name: &str| -> Result<(u64, Timestamp), Problem> {
            let known = audit.get(name).map_err(Trouble::from)?.map(|known| known.value());
            Ok(known.map_or((0, Timestamp(0)), |(_, went, latest)| (went, Timestamp(latest))))
        };
        Ok(Gone { findings: of("findings")?, asked: of("ledger")? })
    };
    read().map_err(|problem| problem.tell(path))
}
