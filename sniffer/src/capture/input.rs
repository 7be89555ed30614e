//! Bytes of a file or pipe, decompressed if need be, as one growing window: the readers ask for so many bytes, look
//! at them in place, and take them. Large reads go straight into the buffer; only the unfinished record at its end is
//! moved. The buffer grows with what really comes, never with what a record claims.

use std::io::{self, BufReader, Cursor, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::decompress::{Gzip, Zstd};
use super::{Compression, Progress};

/// Large enough that system calls do not count, small enough to stay in a second-level cache.
const BUFFER: usize = 256 << 10;

/// What decoders are fed with at once.
const COMPRESSED_BUFFER: usize = 128 << 10;

pub(super) struct Input {
    from: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// `buffer[start..end]` has been read and not taken.
    start: usize,
    end: usize,
    /// The place of `buffer[start]` in the decompressed data.
    offset: u64,
    ended: bool,
    compression: Option<Compression>,
    consumed: Arc<AtomicU64>,
    length: Option<u64>,
}

impl Input {
    /// Reads the first four bytes of `raw`, which tell whether a decoder has to stand in between.
    pub(super) fn new(raw: Box<dyn Read + Send>, length: Option<u64>) -> io::Result<Self> {
        let consumed = Arc::new(AtomicU64::new(0));
        let mut raw = Counting { from: raw, consumed: consumed.clone() };
        let mut magic = [0; 4];
        let mut got = 0;
        while let Some(rest) = magic.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match retry(|| raw.read(rest))? {
                0 => break,
                n => got = got.saturating_add(n),
            }
        }
        let compression = match magic {
            [0x1f, 0x8b, ..] if got >= 2 => Some(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd] => Some(Compression::Zstd),
            // A skippable frame (RFC 8878 §3.1.2): pzstd writes one first.
            [low, 0x2a, 0x4d, 0x18] if low & 0xf0 == 0x50 => Some(Compression::Zstd),
            _ => None,
        };
        let head = magic.get(..got).unwrap_or_default().to_vec();
        let mut buffer = vec![0; BUFFER];
        let mut end = 0;
        let from: Box<dyn Read + Send> = match compression {
            None => {
                if let Some(to) = buffer.get_mut(..head.len()) {
                    to.copy_from_slice(&head);
                    end = head.len();
                }
                Box::new(raw)
            }
            Some(compression) => {
                let raw = BufReader::with_capacity(COMPRESSED_BUFFER, Cursor::new(head).chain(raw));
                match compression {
                    Compression::Gzip => Box::new(Gzip::new(raw)),
                    Compression::Zstd => Box::new(Zstd::new(raw)?),
                }
            }
        };
        Ok(Self { from, buffer, start: 0, end, offset: 0, ended: false, compression, consumed, length })
    }

    /// Whether `n` bytes are at hand; reads until they are. False when the input ends before.
    #[inline]
    pub(super) fn want(&mut self, n: usize) -> io::Result<bool> {
        if self.end.saturating_sub(self.start) >= n { Ok(true) } else { self.fill(n) }
    }

    #[cold]
    fn fill(&mut self, n: usize) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            self.start = 0;
        }
        while self.end < n && !self.ended {
            if self.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len().saturating_mul(2), 0);
            }
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match retry(|| self.from.read(room))? {
                0 => self.ended = true,
                got => self.end = self.end.saturating_add(got).min(self.buffer.len()),
            }
        }
        Ok(self.end >= n)
    }

    /// All that is at hand.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes `n` bytes, which must be at hand. They stay where they are until more is wanted.
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> Range<usize> {
        let from = self.start;
        self.start = self.start.saturating_add(n).min(self.end);
        let taken = from..self.start;
        self.offset = self.offset.saturating_add(taken.len() as u64);
        taken
    }

    /// What [`Self::take`] took last.
    #[inline]
    pub(super) fn at(&self, taken: Range<usize>) -> &[u8] {
        self.buffer.get(taken).unwrap_or_default()
    }

    /// Passes over `n` bytes without keeping them. False when the input ends before.
    pub(super) fn skip(&mut self, mut n: usize) -> io::Result<bool> {
        loop {
            n = n.saturating_sub(self.take(n).len());
            if n == 0 {
                return Ok(true);
            }
            if !self.want(1)? {
                return Ok(false);
            }
        }
    }

    /// The place, in the decompressed data, of the first byte that was not taken.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The place of the first byte that was not read.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.end.saturating_sub(self.start) as u64)
    }

    /// How large the buffer has become.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    pub(super) fn compression(&self) -> Option<Compression> {
        self.compression
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { read: self.consumed.load(Ordering::Relaxed), length: self.length }
    }
}

/// Counts what is taken from the file itself, beneath any decoder.
struct Counting {
    from: Box<dyn Read + Send>,
    consumed: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(to)?;
        self.consumed.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// A signal during a read is no error.
fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
