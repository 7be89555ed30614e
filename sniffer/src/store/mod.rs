//! The store: exchanges with their readings in redb, durable, bounded in bytes and age, with the indexes that the
//! viewer's pages need. Written in batches off the capture path; read by the viewer at the same time.
//!
//! # The file
//! One redb file, whose tables are in `tables.rs`. Exchanges lie in *chunks* of up to 64 that arrived together, each
//! compressed as one (`chunk.rs`): against one value for each exchange that is smaller, because zstd sees what the
//! exchanges have in common, and cheaper, because the B-tree is asked once for many. Chunks are cut into pieces
//! that fill a page of redb exactly, which would else round every value up to a power of two. Records are versioned
//! (`record.rs`). Bodies are content-addressed: small ones within their chunk, where both legs of a proxied exchange
//! meet, large ones and those that come again in a table of their own with a count of references. Exchanges are encoded
//! where they were made (`batch.rs`); the writer compresses and inserts.
//!
//! Time is cut into buckets of about a second. For each bucket and chunk there is the list of ids, and for each
//! term (a field and its value, hashed), bucket and chunk a bit for each exchange that has it (`index.rs`), kept apart
//! by eras of 128 chunks so that what is written together lies together. A page intersects the bits of what the filter
//! requires, sorts within the bucket, and reads the rows.
//!
//! # Figures
//! Of 1,000,000 exchanges of the benchmark's traffic (3,200 octets each on the wire), in batches of 2,000, on two
//! cores that others kept busy: 1,206 octets each in the file (0.38 of the wire), 19 µs of CPU each (a third of it
//! zstd, a quarter redb's B-trees, a sixth the commit), 1.4 KB written for each; a page of 50 takes 0.8 to 1.6 ms, one
//! exchange 0.2 ms. Batches of 1,000 cost a tenth more. A dictionary would gain little: what it knows of one exchange,
//! a chunk knows of its 64. zstd's faster levels take as long, because the time goes into signatures and keys, which
//! nothing compresses. (`cargo xtask bench` measures the whole way.)
//!
//! # Limits
//! Beyond the limits of [`Options`] whole chunks go, oldest first, a bounded number with every batch, so that no
//! batch waits long. The limit in bytes holds for what is used in the file; the file itself is longer while it is
//! open, because redb doubles it as it grows, but [`Stats::file_bytes`] says what it takes on the disk, where unused
//! parts take nothing; pages that became free are used again, and the end is cut off when the store is closed.
//!
//! # The audit
//! Findings, the DNS ledger and sessions stand in tables of their own (`audit.rs`), with limits of their own, so that
//! what isolated pods tried outlives the exchanges of that time.
//!
//! # Processes
//! redb locks the file: a second process, even one that only wants to read, gets [`Error::Locked`]. Within a process
//! any number of readers see the last committed batch while the next is written.

mod audit;
mod batch;
mod chunk;
#[cfg(fuzzing)]
pub mod fuzzing;
mod index;
mod read;
mod record;
mod tables;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use audit::{FindingQuery, Gone};
pub use batch::Batch;

use foldhash::HashSet;

use crate::activitypub::Reading;
use crate::audit::session::Session;
use crate::audit::{Asked, Finding, FindingId};
use crate::filter::Filter;
use crate::frame::Timestamp;
use crate::http::{Exchange, ExchangeId};
use crate::pipeline::Told;
use crate::view::Row;

/// How a store is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The file may grow to about this many bytes; beyond it the oldest exchanges go. 0 is no limit.
    pub max_bytes: u64,
    /// Exchanges older than this many nanoseconds, counted back from the newest, go. 0 is no limit.
    pub max_age_nanos: u64,
    /// Fail when the file does not exist, instead of making it.
    pub must_exist: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_bytes: 4 << 30, max_age_nanos: 0, must_exist: false }
    }
}

impl Options {
    /// Nanoseconds that a chunk may span: with an age limit a sixteenth of it, so that the store holds it exactly.
    fn chunk_span(&self) -> u64 {
        if self.max_age_nanos == 0 { u64::MAX } else { self.max_age_nanos / 16 }
    }
}

/// What can go wrong with a store; each names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has it open.
    #[error("{}: another fedisniff has this store open; stop it, or give another file with --store", path.display())]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// There is no such file.
    #[error("{}: no such store; `fedisniff read FILE --store DB` makes one", path.display())]
    Missing {
        /// The store.
        path: PathBuf,
    },
    /// The file is not a store, or is damaged.
    #[error("{}: not a fedisniff store, or damaged: {what}", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        what: String,
    },
    /// Written by a newer fedisniff.
    #[error("{}: written by a newer fedisniff (format {found}, this one reads up to {known})", path.display())]
    TooNew {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The system refused.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// The store.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// An open store. Cloning is cheap and shares it; reads run beside writes.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    options: Options,
    /// `None` only while it is dropped.
    db: Option<redb::Database>,
    writer: Mutex<write::Writer>,
    /// What the audit takes of the file, in octets: exchanges get what is left.
    audit: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing writes; on a damaged file or a full disk it fails, which loses nothing that was acknowledged.
        let closed = tables::guarded(&self.path, || match self.db.take() {
            Some(db) => db.close().map_err(|e| tables::database_error_of(&self.path, "close it", e.into())),
            None => Ok(()),
        });
        if let Err(error) = closed {
            tracing::warn!("{error}");
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// An exchange as it was stored.
#[derive(Clone, PartialEq, Debug)]
pub struct Stored {
    /// The exchange, with the kept bodies.
    pub exchange: Exchange,
    /// Its reading.
    pub reading: Reading,
}

/// Where a page begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cursor {
    /// The newest ones.
    Newest,
    /// The oldest ones.
    Oldest,
    /// Those just older than this one.
    Before(ExchangeId),
    /// Those just newer than this one.
    After(ExchangeId),
    /// This one (or where it would stand) in the middle.
    Around(ExchangeId),
}

/// Which exchanges, and how many.
#[derive(Debug)]
pub struct Query<'a> {
    /// Only those that match.
    pub filter: Option<&'a Filter>,
    /// Only those of the *federation* view.
    pub federation: bool,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
    /// Where to begin.
    pub cursor: Cursor,
    /// At most so many.
    pub limit: usize,
    /// Give up after looking at so many exchanges that no index could rule out; the page then says where it stopped.
    pub scan_limit: usize,
}

/// A page, oldest first whatever the cursor.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// Older ones that match exist, or may exist.
    pub more_before: bool,
    /// Newer ones that match exist, or may exist.
    pub more_after: bool,
    /// Where an unfinished scan stopped (`scan_limit`): ask again from there.
    pub scanned_to: Option<ExchangeId>,
}

/// One bar of the strip.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct Bar {
    /// Deliveries.
    pub deliveries: u32,
    /// Other exchanges of the federation view.
    pub fetches: u32,
    /// Refused, failed or unanswered ones.
    pub failures: u32,
    /// Exchanges touched by a gap.
    pub gaps: u32,
}

/// Figures of the whole store.
#[derive(Clone, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct Stats {
    /// Exchanges.
    pub exchanges: u64,
    /// Of those, in the federation view.
    pub federation: u64,
    /// Bytes that the file takes on the disk.
    pub file_bytes: u64,
    /// The oldest exchange's start.
    pub oldest: Option<Timestamp>,
    /// The newest exchange's start.
    pub newest: Option<Timestamp>,
    /// Exchanges removed by the limits since the store was made.
    pub expired: u64,
}

/// A host that was seen, for colours, letters and filters.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Host {
    /// Its name (or address).
    pub host: String,
    /// Its colour's slot, 0 to 7; kept over restarts.
    pub slot: u8,
    /// Its software, last seen.
    pub software: Option<String>,
    /// Exchanges it sent.
    pub sent: u64,
    /// Exchanges it answered.
    pub answered: u64,
}

impl Store {
    /// Opens or makes the store at `path`. A store that its process did not close (`kill -9`) is repaired first, which
    /// reads all of it; the log says how far that is.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let db = tables::open(path, options.must_exist)?;
        Self::start(path, db, options)
    }

    fn start(path: &Path, db: redb::Database, options: Options) -> Result<Self, Error> {
        let loaded = tables::guarded(path, || {
            tables::prepare(path, &db)?;
            Ok((write::Writer::load(path, &db)?, audit::octets(path, &db)?))
        });
        match loaded {
            Ok((writer, audit)) => {
                let (path, writer, audit) = (path.to_owned(), Mutex::new(writer), AtomicU64::new(audit));
                Ok(Self { inner: Arc::new(Inner { path, options, db: Some(db), writer, audit }) })
            }
            Err(error) => {
                // The first error is the one to tell.
                let _ = tables::guarded(path, || {
                    drop(db);
                    Ok(())
                });
                Err(error)
            }
        }
    }

    /// An empty batch for this store.
    pub fn batch(&self) -> Batch {
        Batch::new(self.inner.options.chunk_span())
    }

    /// Writes exchanges: a batch made of them, and [`Self::write`].
    ///
    /// # Errors
    /// See [`Error`]; nothing of the batch is stored then.
    pub fn append(&self, exchanges: &[Told]) -> Result<usize, Error> {
        let mut batch = self.batch();
        for told in exchanges {
            batch.push(&told.exchange, &told.reading);
        }
        self.write(&mut batch)
    }

    /// Writes a batch. When it returns, the batch survives `kill -9`. An exchange whose id is already there is
    /// left as it is and counted out: reading a capture twice into one store stores it once. Gives how many were new.
    /// What is left in the batch is good for [`Batch::rows`] and [`Batch::recycle`].
    ///
    /// # Errors
    /// See [`Error`]; nothing of the batch is stored then.
    pub fn write(&self, batch: &mut Batch) -> Result<usize, Error> {
        let Inner { path, options, writer, audit, .. } = &*self.inner;
        // 0 would be no limit.
        let left = options.max_bytes.saturating_sub(audit.load(Ordering::Relaxed)).max(1);
        let options = Options { max_bytes: if options.max_bytes == 0 { 0 } else { left }, ..*options };
        // A panic while writing left the transaction undone; the writer reloads what it knows from the file.
        let mut writer = writer.lock().unwrap_or_else(|poisoned| {
            let mut writer = PoisonError::into_inner(poisoned);
            writer.forget();
            writer
        });
        tables::guarded(path, || writer.append(path, self.db()?, &options, batch))
    }

    /// One exchange.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn get(&self, id: ExchangeId) -> Result<Option<Stored>, Error> {
        tables::guarded(self.path(), || self.snapshot()?.get(id))
    }

    /// A page of rows.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn page(&self, query: &Query<'_>) -> Result<Page, Error> {
        tables::guarded(self.path(), || self.snapshot()?.page(query))
    }

    /// How many match, and whether that is exact: counting stops when `scan_limit` exchanges were looked at (the number
    /// is a lower bound then). Cursor and limit do not count.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn count(&self, query: &Query<'_>) -> Result<(u64, bool), Error> {
        tables::guarded(self.path(), || self.snapshot()?.count(query))
    }

    /// Calls `each` for every exchange that matches, oldest first, until it says false. For export. Cursors
    /// [`Cursor::After`] and [`Cursor::Before`] bound it; limits do not. Exchanges that are stored or expire while it
    /// runs may be seen or not, each at most once.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn for_each(&self, query: &Query<'_>, each: &mut dyn FnMut(Stored) -> bool) -> Result<(), Error> {
        // A reader pins the pages of its snapshot, and the file grows meanwhile: a long export takes many short ones.
        let mut after = None;
        loop {
            let mut snapshot = tables::guarded(self.path(), || self.snapshot())?;
            match snapshot.some_of(query, after, each)? {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// The strip: `bars` equal spans from `from` to `to`. Bars are added up from cells of at most half their width (but
    /// never less than a millisecond), so an exchange may be counted in the neighbour of its bar.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn strip(&self, from: Timestamp, to: Timestamp, bars: usize) -> Result<Vec<Bar>, Error> {
        tables::guarded(self.path(), || self.snapshot()?.strip(from, to, bars))
    }

    /// The hosts that were seen, by first sight.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn hosts(&self) -> Result<Vec<Host>, Error> {
        tables::guarded(self.path(), || self.snapshot()?.hosts())
    }

    /// Figures of the whole store.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn stats(&self) -> Result<Stats, Error> {
        tables::guarded(self.path(), || self.snapshot()?.stats())
    }

    /// Writes what the audit has: findings and lines of the ledger in place of what was known of the same ones, and the
    /// session as it stands. When it returns, all of it survives `kill -9`. Beyond their own limits the oldest go
    /// ([`Self::audit_gone`]).
    ///
    /// # Errors
    /// See [`Error`]; nothing of it is stored then.
    pub fn put_audit(
        &self,
        findings: &[Finding],
        asked: &[Asked],
        session: Option<&Session>,
    ) -> Result<(), Error> {
        let Inner { path, options, audit, .. } = &*self.inner;
        let octets =
            tables::guarded(path, || audit::put(path, self.db()?, options, (findings, asked, session)))?;
        audit.store(octets, Ordering::Relaxed);
        Ok(())
    }

    /// The sessions that overlap a period, in order of their beginning.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn sessions(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Result<Vec<Session>, Error> {
        tables::guarded(self.path(), || audit::sessions(self.path(), self.db()?, from, to))
    }

    /// The findings that are asked for, oldest first, and how many there are in all.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn findings(&self, query: &FindingQuery) -> Result<(Vec<Finding>, u64), Error> {
        tables::guarded(self.path(), || audit::findings(self.path(), self.db()?, query))
    }

    /// One finding.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn finding(&self, id: FindingId) -> Result<Option<Finding>, Error> {
        tables::guarded(self.path(), || audit::finding(self.path(), self.db()?, id))
    }

    /// The findings that name an exchange: it was under way meanwhile, or went through.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn findings_of(&self, exchange: ExchangeId) -> Result<Vec<Finding>, Error> {
        tables::guarded(self.path(), || audit::findings_of(self.path(), self.db()?, exchange))
    }

    /// Which of these exchanges a finding names.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn have_findings(
        &self,
        exchanges: impl Iterator<Item = ExchangeId>,
    ) -> Result<HashSet<ExchangeId>, Error> {
        tables::guarded(self.path(), || audit::have_findings(self.path(), self.db()?, exchanges))
    }

    /// The lines of the DNS ledger that overlap a period, in order of the first question.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn asked(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Result<Vec<Asked>, Error> {
        tables::guarded(self.path(), || audit::asked(self.path(), self.db()?, from, to))
    }

    /// What of findings and ledger had to go.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn audit_gone(&self) -> Result<Gone, Error> {
        tables::guarded(self.path(), || audit::gone(self.path(), self.db()?))
    }

    /// The path it was opened at.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn snapshot(&self) -> Result<read::Snapshot<'_>, Error> {
        read::Snapshot::new(&self.inner.path, self.db()?)
    }

    fn db(&self) -> Result<&redb::Database, Error> {
        // It is taken out only by drop, which nobody outlives.
        self.inner.db.as_ref().ok_or_else(|| tables::damaged(&self.inner.path, "it is closed"))
    }
}
