//! The store: exchanges with their readings in redb, durable, bounded in bytes and age, with the indexes that the
//! viewer's pages need. Written in batches off the capture path; read by the viewer at the same time.

use std::path::{Path, PathBuf};

use crate::activitypub::Reading;
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
#[derive(Clone, Debug)]
pub struct Store {}

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
    /// Bytes of the file.
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
    /// Opens or makes the store at `path`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(path: &Path, _options: Options) -> Result<Self, Error> {
        let _ = path;
        Ok(Self {})
    }

    /// Writes a batch. When it returns, the batch survives `kill -9`. An exchange whose id is already there is
    /// left as it is and counted out: reading a capture twice into one store stores it once.
    ///
    /// # Errors
    /// See [`Error`]; nothing of the batch is stored then.
    pub fn append(&self, _batch: &[Told]) -> Result<usize, Error> {
        Ok(0)
    }

    /// One exchange.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn get(&self, _id: ExchangeId) -> Result<Option<Stored>, Error> {
        Ok(None)
    }

    /// A page of rows.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn page(&self, _query: &Query<'_>) -> Result<Page, Error> {
        Ok(Page::default())
    }

    /// How many match, of how many looked at; stops counting at `scan_limit` (then the first is a lower bound).
    ///
    /// # Errors
    /// See [`Error`].
    pub fn count(&self, _query: &Query<'_>) -> Result<(u64, bool), Error> {
        Ok((0, true))
    }

    /// Calls `each` for every exchange that matches, oldest first, until it says false. For export.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn for_each(&self, _query: &Query<'_>, _each: &mut dyn FnMut(Stored) -> bool) -> Result<(), Error> {
        Ok(())
    }

    /// The strip: `bars` equal spans from `from` to `to`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn strip(&self, _from: Timestamp, _to: Timestamp, bars: usize) -> Result<Vec<Bar>, Error> {
        Ok(vec![Bar::default(); bars])
    }

    /// The hosts that were seen.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn hosts(&self) -> Result<Vec<Host>, Error> {
        Ok(Vec::new())
    }

    /// Figures of the whole store.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(Stats::default())
    }

    /// The path it was opened at.
    pub fn path(&self) -> &Path {
        Path::new("")
    }
}
