//! The tables of the file, how it is opened, and what redb's errors mean to a user.

use std::io::ErrorKind;
use std::path::Path;

use redb::{Database, ReadableDatabase as _, TableDefinition, TableHandle as _};

use super::Error;
use super::index::Cell;
use super::record::Damaged;
use crate::frame::Timestamp;
use crate::http::ExchangeId;

/// The format that is written. A newer one is refused.
pub(super) const FORMAT: u64 = 1;

/// What redb may keep of the file in memory. The whole process has 64 MiB.
const CACHE: usize = 12 << 20;

/// Octets of a piece: what fits a page of redb beside its header, the key and the piece's end.
pub(super) const PIECE: usize = 4096 - 4 - 8 - 4;

/// Numbers by name: the format and the totals.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("fedisniff");
/// Chunk to `chunk::Meta`.
pub(super) const CHUNKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("chunks");
/// Chunk × 2^16 + piece, to the piece.
pub(super) const PIECES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pieces");
/// (bucket, chunk) to entries of place in the bucket, rest of the id, slot ([`Entry`]).
pub(super) const IDS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("ids");
/// (era, term, bucket, chunk) to a bit for each slot.
pub(super) const TERMS: TableDefinition<'_, TermKey, u64> = TableDefinition::new("terms");
/// Era to (first bucket, last bucket, chunks).
pub(super) const ERAS: TableDefinition<'_, u64, (u64, u64, u64)> = TableDefinition::new("eras");
/// (level, cell) to a bar.
pub(super) const STRIP: TableDefinition<'_, (u8, u64), [u32; 4]> = TableDefinition::new("strip");
/// Host to (slot, order of first sight, sent, answered, software).
pub(super) const HOSTS: TableDefinition<'_, &str, (u8, u64, u64, u64, Option<&str>)> =
    TableDefinition::new("hosts");
/// Large body to (references, octets, octets compressed).
pub(super) const BODIES: TableDefinition<'_, [u8; 32], (u64, u64, u64)> = TableDefinition::new("bodies");
/// (large body, piece) to the piece.
pub(super) const BODY_PIECES: TableDefinition<'_, ([u8; 32], u32), &[u8]> =
    TableDefinition::new("body-pieces");

/// Era, term, bucket, chunk.
pub(super) type TermKey = (u64, u64, u64, u64);

/// The era of a chunk: 128 chunks that were written one after the other. Terms are hashes, so every new posting would
/// fall on another page of one large tree, and each batch rewrite hundreds of pages; within an era they fall on the
/// few pages that the batch before wrote as well.
pub(super) fn era(chunk: u64) -> u64 {
    chunk >> 7
}

/// Octets of a piece of a large body; its key is longer.
pub(super) const BODY_PIECE: usize = PIECE - 28;

/// Pieces that a chunk may have.
pub(super) const MAX_PIECES: u64 = 1 << 20;

/// The key of a chunk's piece.
pub(super) fn piece_key(chunk: u64, piece: u64) -> u64 {
    chunk * MAX_PIECES + piece
}

/// One id of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) offset: u32,
    pub(super) rest: u64,
    pub(super) slot: u8,
}

impl Entry {
    const SIZE: usize = 13;

    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.rest.to_le_bytes());
        out.push(self.slot);
    }

    /// The id of an entry of that bucket.
    pub(super) fn id(self, bucket: u64) -> ExchangeId {
        ExchangeId::new(Timestamp(Cell::nanos(bucket, self.offset)), self.rest)
    }

    pub(super) fn read_all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        let (entries, _) = bytes.as_chunks::<{ Self::SIZE }>();
        entries.iter().map(|e| Self {
            offset: u32::from_le_bytes([e[0], e[1], e[2], e[3]]),
            rest: u64::from_le_bytes([e[4], e[5], e[6], e[7], e[8], e[9], e[10], e[11]]),
            slot: e[12],
        })
    }
}

/// Opens or makes the file.
pub(super) fn open(path: &Path, must_exist: bool) -> Result<Database, Error> {
    let io = |doing, source| Error::Io { path: path.to_owned(), doing, source };
    let made = match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Err(io("open it as a store", ErrorKind::IsADirectory.into())),
        Ok(meta) if meta.len() == 0 && must_exist => {
            return Err(Error::NotAStore { path: path.to_owned(), what: "it is empty".into() });
        }
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if must_exist {
                return Err(Error::Missing { path: path.to_owned() });
            }
            make(path).map_err(|source| io("make it", source))?;
            true
        }
        Err(source) => return Err(io("open it", source)),
    };
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    let name = path.to_owned();
    let told = std::cell::Cell::new(0);
    builder.set_repair_callback(move |session| {
        let percent = (session.progress() * 100.0) as u32;
        if percent >= told.get() {
            tracing::warn!("{}: was not closed properly; repairing, {percent} %", name.display());
            told.set(percent + 10);
        }
    });
    // redb trusts a file that says it was closed properly, and may panic when it was damaged later.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.create(path)));
    let opened = match opened {
        Ok(opened) => opened.map_err(|error| database_error(path, error)),
        Err(_) => {
            Err(Error::NotAStore { path: path.to_owned(), what: "its pages do not fit together".into() })
        }
    };
    if opened.is_err() && made {
        // Best effort: the error that is told is the first one.
        let _ = std::fs::remove_file(path);
    }
    opened
}

/// Runs something that reads or writes the file. redb trusts what it once wrote, and panics where a file was damaged
/// later; to a user that is an error like any other (the panic itself is in the log).
pub(super) fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(damaged(path, "its pages do not fit together")))
}

/// Makes the file, for its owner alone: it will hold private messages and keys to accounts.
fn make(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    match options.open(path) {
        // Another process was faster; whoever locks it first has it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Makes the tables of a new file; refuses what is not ours.
pub(super) fn prepare(path: &Path, db: &Database) -> Result<(), Error> {
    let cannot = |doing| move |error: redb::Error| database_error_of(path, doing, error);
    let read = db.begin_read().map_err(|e| cannot("read it")(e.into()))?;
    let names: Vec<String> =
        read.list_tables().map_err(|e| cannot("read it")(e.into()))?.map(|t| t.name().to_owned()).collect();
    let format = if names.iter().any(|n| n == META.name()) {
        let meta = read.open_table(META).map_err(|e| cannot("read it")(e.into()))?;
        meta.get("format").map_err(|e| cannot("read it")(e.into()))?.map(|f| f.value())
    } else {
        None
    };
    match format {
        Some(FORMAT) => return Ok(()),
        Some(found) if found > FORMAT => {
            return Err(Error::TooNew {
                path: path.to_owned(),
                found: u32::try_from(found).unwrap_or(u32::MAX),
                known: FORMAT as u32,
            });
        }
        Some(_) => {
            return Err(Error::NotAStore { path: path.to_owned(), what: "it has an unknown format".into() });
        }
        None if !names.is_empty() => {
            return Err(Error::NotAStore {
                path: path.to_owned(),
                what: "it is the redb file of another program".into(),
            });
        }
        None => {}
    }
    drop(read);
    let make = || -> Result<(), redb::Error> {
        let txn = db.begin_write()?;
        txn.open_table(META)?.insert("format", FORMAT)?;
        txn.open_table(CHUNKS)?;
        txn.open_table(PIECES)?;
        txn.open_table(IDS)?;
        txn.open_table(TERMS)?;
        txn.open_table(ERAS)?;
        txn.open_table(STRIP)?;
        txn.open_table(HOSTS)?;
        txn.open_table(BODIES)?;
        txn.open_table(BODY_PIECES)?;
        txn.commit()?;
        Ok(())
    };
    make().map_err(cannot("write to it"))
}

fn database_error(path: &Path, error: redb::DatabaseError) -> Error {
    let path = path.to_owned();
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen | redb::DatabaseError::LockProtocolMismatch => {
            Error::Locked { path }
        }
        redb::DatabaseError::UpgradeRequired(version) => {
            Error::NotAStore { path, what: format!("it has redb's old file format {version}") }
        }
        redb::DatabaseError::Storage(redb::StorageError::Io(source))
            if matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            Error::NotAStore { path, what: source.to_string() }
        }
        error => database_error_of(&path, "open it", error.into()),
    }
}

/// What any error of redb means to a user.
pub(super) fn database_error_of(path: &Path, doing: &'static str, error: redb::Error) -> Error {
    let path = path.to_owned();
    match error {
        redb::Error::Io(source) => Error::Io { path, doing, source },
        redb::Error::DatabaseAlreadyOpen => Error::Locked { path },
        redb::Error::PreviousIo => Error::Io {
            path,
            doing,
            source: std::io::Error::other("an earlier write failed; the store must be opened again"),
        },
        error @ (redb::Error::Corrupted(_)
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::UpgradeRequired(_)) => Error::NotAStore { path, what: error.to_string() },
        error => Error::Io { path, doing, source: std::io::Error::other(error) },
    }
}

/// Of something that does not decode.
pub(super) fn damaged(path: &Path, what: &str) -> Error {
    Error::NotAStore { path: path.to_owned(), what: what.to_owned() }
}

/// What goes wrong inside of one operation, before it is told with the file's name.
#[derive(Debug)]
pub(super) enum Trouble {
    Database(redb::Error),
    Damaged(&'static str),
}

impl Trouble {
    pub(super) fn tell(self, path: &Path, doing: &'static str) -> Error {
        match self {
            Self::Database(error) => database_error_of(path, doing, error),
            Self::Damaged(what) => damaged(path, what),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// Of a record or frame.
pub(super) fn record(_: Damaged) -> Trouble {
    Trouble::Damaged("a record cannot be read")
}
