//! gzip and zstd as streams, written for damaged files: what was decoded before the damage is given to the last byte,
//! and only then comes the error. The `Read` adapters of `flate2` and `zstd` drop the output of the call that fails,
//! which with large buffers is up to 256 KiB of good frames. The decoding itself is theirs.

use std::io::{self, BufRead, Read};

use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder, Operation};

/// gzip (RFC 1952): members one after the other.
pub(super) struct Gzip<R> {
    from: R,
    inflate: Decompress,
    crc: Crc,
    place: Place,
    failed: Option<io::Error>,
}

enum Place {
    /// Before a member's header; whether it is the first.
    Header {
        first: bool,
    },
    Data,
    /// Behind the last member.
    End,
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(from: R) -> Self {
        let place = Place::Header { first: true };
        Self { from, inflate: Decompress::new(false), crc: Crc::new(), place, failed: None }
    }

    /// Passes over a member's header (RFC 1952 §2.3). False where no member follows.
    fn header(&mut self, first: bool) -> io::Result<bool> {
        if self.from.fill_buf()?.is_empty() {
            return if first { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(false) };
        }
        let [id1, id2, method, flags] = self.octets()?;
        if [id1, id2] != [0x1f, 0x8b] {
            // Tapes and some copiers fill up with zeros; gzip itself passes over them.
            if !first && [id1, id2, method, flags] == [0; 4] && self.only_zeros()? {
                return Ok(false);
            }
            return Err(damage("what follows a gzip member is not another one"));
        }
        if method != 8 {
            return Err(damage("an unknown compression method in a gzip header"));
        }
        let _time_and_system: [u8; 6] = self.octets()?;
        if flags & 4 != 0 {
            let length = u64::from(u16::from_le_bytes(self.octets()?));
            if io::copy(&mut self.from.by_ref().take(length), &mut io::sink())? != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        // The file's name and a comment, each ended by zero.
        for flag in [8, 16] {
            if flags & flag != 0 {
                while self.octets()? != [0] {}
            }
        }
        if flags & 2 != 0 {
            let _header_crc: [u8; 2] = self.octets()?;
        }
        Ok(true)
    }

    fn trailer(&mut self) -> io::Result<()> {
        let crc = u32::from_le_bytes(self.octets()?);
        let length = u32::from_le_bytes(self.octets()?);
        match (crc, length) == (self.crc.sum(), self.crc.amount()) {
            true => Ok(()),
            false => Err(damage("a gzip member's checksum or length does not match its data")),
        }
    }

    fn octets<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut octets = [0; N];
        self.from.read_exact(&mut octets)?;
        Ok(octets)
    }

    fn only_zeros(&mut self) -> io::Result<bool> {
        loop {
            let rest = self.from.fill_buf()?;
            if rest.is_empty() {
                return Ok(true);
            }
            if rest.iter().any(|&b| b != 0) {
                return Ok(false);
            }
            let n = rest.len();
            self.from.consume(n);
        }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if let Some(failed) = self.failed.take() {
            self.place = Place::End;
            return Err(failed);
        }
        loop {
            match self.place {
                Place::End => return Ok(0),
                Place::Header { first } => {
                    if !self.header(first)? {
                        self.place = Place::End;
                        continue;
                    }
                    self.inflate.reset(false);
                    self.crc.reset();
                    self.place = Place::Data;
                }
                Place::Data => {}
            }
            let from = self.from.fill_buf()?;
            let at_end = from.is_empty();
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(from, to, FlushDecompress::None);
            let taken = self.inflate.total_in().wrapping_sub(before_in) as usize;
            let given = self.inflate.total_out().wrapping_sub(before_out) as usize;
            self.from.consume(taken);
            self.crc.update(to.get(..given).unwrap_or_default());
            let result = match status {
                Ok(Status::StreamEnd) => {
                    self.place = Place::Header { first: false };
                    self.trailer()
                }
                Ok(_) if given > 0 => Ok(()),
                Ok(_) if at_end => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if taken == 0 => Err(damage("a deflate stream without end")),
                Ok(_) => Ok(()),
                Err(e) => Err(damage(e.to_string())),
            };
            match result {
                Err(e) if given == 0 => {
                    self.place = Place::End;
                    return Err(e);
                }
                Err(e) => self.failed = Some(e),
                Ok(()) => {}
            }
            if given > 0 {
                return Ok(given);
            }
        }
    }
}

/// Zstandard (RFC 8878): frames one after the other, skippable ones among them.
pub(super) struct Zstd<R> {
    from: R,
    decoder: Decoder<'static>,
    /// How many octets the decoder can take without beginning another block; 0 between frames. A call that is given
    /// more would decode several blocks, and forget the good ones when a later one is damaged.
    wanted: usize,
}

impl<R: BufRead> Zstd<R> {
    pub(super) fn new(from: R) -> io::Result<Self> {
        Ok(Self { from, decoder: Decoder::new()?, wanted: 0 })
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        // ZSTD_FRAMEHEADERSIZE_PREFIX, the least that a new frame begins with.
        const BETWEEN_FRAMES: usize = 5;
        if to.is_empty() {
            return Ok(0);
        }
        loop {
            let from = self.from.fill_buf()?;
            let at_end = from.is_empty();
            if at_end && self.wanted == 0 {
                return Ok(0);
            }
            let allowed = if self.wanted == 0 { BETWEEN_FRAMES } else { self.wanted };
            let from = from.get(..allowed).unwrap_or(from);
            let step = self.decoder.run_on_buffers(from, to)?;
            self.from.consume(step.bytes_read);
            self.wanted = step.remaining;
            if step.bytes_written > 0 {
                return Ok(step.bytes_written);
            }
            if at_end && step.bytes_read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn damage(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
