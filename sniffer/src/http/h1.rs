//! The body of one HTTP/1 message (RFC 9112 §6-§7): framing off, content to a [`BodyBuilder`], however the octets are
//! cut. It knows where a hole lies in the framing, and so whether the message can go on behind it. Which message an
//! octet belongs to, and how long a body is, [`super::connection`] decides.

use super::body::{BodyBuilder, Budget};
use super::cost::ALLOCATION;
use super::head;
use super::{Anomaly, AnomalyKind, Body, Config, Headers};

/// Octets of one chunk extension; a longer one is not believed (RFC 9112 §7.1.1 asks for a limit).
const EXTENSION_LIMIT: u32 = 16 << 10;

/// How a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// After so many octets more.
    Length(u64),
    /// By the chunked coding.
    Chunked(Chunk),
    /// With the connection.
    UntilClose,
}

/// Where in the chunked coding (RFC 9112 §7.1) the next octet belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chunk {
    /// In a chunk's size.
    Size { value: u64, digits: u8 },
    /// Behind the size, up to LF; how many octets that were.
    Extension { value: u64, octets: u32 },
    /// In a chunk's data, of which so many octets are left, never 0.
    Data(u64),
    /// In the line end behind a chunk's data.
    DataEnd,
    /// In the trailer section; octets of the line at hand.
    Trailers { line: u32 },
}

impl Chunk {
    /// Before the first chunk.
    pub(super) const FIRST: Self = Self::Size { value: 0, digits: 0 };
}

/// What became of a body with the octets it was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// It took all of them and goes on.
    More,
    /// It is over.
    Done,
    /// Its framing is broken and cannot be followed.
    Broken,
}

/// Where a hole ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hole {
    /// Inside the body, which goes on behind it.
    Inside,
    /// Exactly where the body ends.
    AtEnd,
    /// Behind the end of the body, or where its framing is lost.
    Beyond,
}

/// A body being received.
#[derive(Debug)]
pub(super) struct Receiving {
    builder: BodyBuilder,
    framing: Framing,
    trailers: Vec<u8>,
    /// Trailers were longer than the limit of a head.
    trailers_cut: bool,
    /// It is not known if there is a body at all: the request is not known, and may have been HEAD.
    pub(super) perhaps_none: bool,
    /// The request expects 100, and its body may never be sent.
    pub(super) expects: bool,
    /// Octets of it were seen.
    touched: bool,
    /// Octets of it are missing.
    torn: bool,
}

impl Receiving {
    pub(super) fn new(builder: BodyBuilder, framing: Framing) -> Self {
        Self {
            builder,
            framing,
            trailers: Vec::new(),
            trailers_cut: false,
            perhaps_none: false,
            expects: false,
            touched: false,
            torn: false,
        }
    }

    /// What it takes in memory, beside what is charged.
    pub(super) fn cost(&self) -> usize {
        size_of::<Self>().saturating_add(ALLOCATION).saturating_add(self.builder.cost())
    }

    /// Whether no octet of the body was seen, so that there may be none.
    pub(super) fn untouched(&self) -> bool {
        !self.touched
    }

    /// Whether a hole lies in it.
    pub(super) fn torn(&self) -> bool {
        self.torn
    }

    /// How many octets are left, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(left) => Some(left),
            Framing::Chunked(_) | Framing::UntilClose => None,
        }
    }

    /// Whether the end of the connection is the end of the body.
    pub(super) fn until_close(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// Takes octets; gives how many, and what became of the body.
    pub(super) fn push(&mut self, bytes: &[u8], config: &Config, budget: &mut Budget) -> (usize, Progress) {
        self.touched = true;
        match self.framing {
            Framing::UntilClose => {
                self.builder.data(bytes, config, budget);
                (bytes.len(), Progress::More)
            }
            Framing::Length(left) => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.builder.data(bytes.get(..taken).unwrap_or_default(), config, budget);
                let left = left.saturating_sub(taken as u64);
                self.framing = Framing::Length(left);
                (taken, if left == 0 { Progress::Done } else { Progress::More })
            }
            Framing::Chunked(mut chunk) => {
                let mut rest = bytes;
                let mut progress = Progress::More;
                while progress == Progress::More && !rest.is_empty() {
                    (chunk, rest, progress) = self.chunk(chunk, rest, config, budget);
                }
                self.framing = Framing::Chunked(chunk);
                (bytes.len().saturating_sub(rest.len()), progress)
            }
        }
    }

    /// One step through the chunked coding; takes at least one octet unless the framing is broken.
    fn chunk<'a>(
        &mut self,
        chunk: Chunk,
        bytes: &'a [u8],
        config: &Config,
        budget: &mut Budget,
    ) -> (Chunk, &'a [u8], Progress) {
        if let Chunk::Data(left) = chunk {
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            self.builder.data(bytes.get(..taken).unwrap_or_default(), config, budget);
            let left = left.saturating_sub(taken as u64);
            let next = if left == 0 { Chunk::DataEnd } else { Chunk::Data(left) };
            return (next, bytes.get(taken..).unwrap_or_default(), Progress::More);
        }
        let Some((&octet, rest)) = bytes.split_first() else { return (chunk, bytes, Progress::More) };
        let broken = (chunk, bytes, Progress::Broken);
        let next = match (chunk, octet) {
            (Chunk::Size { value, digits }, _) if octet.is_ascii_hexdigit() => {
                // 16 digits fill 64 bits; leading zeros may be more.
                if value >> 60 != 0 || digits == u8::MAX {
                    return broken;
                }
                let digit = char::from(octet).to_digit(16).unwrap_or_default();
                Chunk::Size { value: (value << 4) | u64::from(digit), digits: digits.saturating_add(1) }
            }
            (Chunk::Size { digits: 0, .. }, _) => return broken,
            (Chunk::Size { value, .. } | Chunk::Extension { value, .. }, b'\n') => match value {
                0 => Chunk::Trailers { line: 0 },
                _ => Chunk::Data(value),
            },
            (Chunk::Size { value, .. }, b' ' | b'\t' | b';' | b'\r') => Chunk::Extension { value, octets: 0 },
            (Chunk::Size { .. }, _) => return broken,
            (Chunk::Extension { octets, .. }, _) if octets >= EXTENSION_LIMIT => return broken,
            (Chunk::Extension { value, octets }, _) => {
                Chunk::Extension { value, octets: octets.saturating_add(1) }
            }
            (Chunk::DataEnd, b'\r') => Chunk::DataEnd,
            (Chunk::DataEnd, b'\n') => Chunk::FIRST,
            (Chunk::DataEnd | Chunk::Data(_), _) => return broken,
            (Chunk::Trailers { line: 0 }, b'\n') => {
                self.builder.framing(1);
                return (chunk, rest, Progress::Done);
            }
            (Chunk::Trailers { line }, _) => {
                if self.trailers.len() < config.head_limit && budget.take(self.trailers.len(), 1, config) {
                    self.trailers.push(octet);
                } else {
                    self.trailers_cut = true;
                }
                match octet {
                    b'\n' => Chunk::Trailers { line: 0 },
                    b'\r' if line == 0 => Chunk::Trailers { line },
                    _ => Chunk::Trailers { line: line.saturating_add(1) },
                }
            }
        };
        self.builder.framing(1);
        (next, rest, Progress::More)
    }

    /// `length` octets are missing here.
    pub(super) fn gap(&mut self, length: u64) -> Hole {
        self.torn = true;
        let left = match self.framing {
            Framing::UntilClose => u64::MAX,
            Framing::Length(left) | Framing::Chunked(Chunk::Data(left)) => left,
            Framing::Chunked(_) => return Hole::Beyond,
        };
        self.builder.gap(length.min(left));
        let after = left.saturating_sub(length);
        match self.framing {
            _ if length > left => return Hole::Beyond,
            Framing::UntilClose => {}
            Framing::Length(_) => self.framing = Framing::Length(after),
            Framing::Chunked(_) if after == 0 => self.framing = Framing::Chunked(Chunk::DataEnd),
            Framing::Chunked(_) => self.framing = Framing::Chunked(Chunk::Data(after)),
        }
        if self.framing == Framing::Length(0) { Hole::AtEnd } else { Hole::Inside }
    }

    /// The body is over; `complete` as for [`BodyBuilder::finish`].
    pub(super) fn finish(
        mut self,
        complete: bool,
        config: &Config,
        budget: &mut Budget,
        anomalies: &mut Vec<Anomaly>,
    ) -> (Body, Headers) {
        budget.give(self.trailers.len());
        let mut trailers = Headers::default();
        if !self.trailers.is_empty() {
            // The empty line's CR was kept like any other octet.
            self.trailers.push(b'\n');
            let odd;
            (trailers, odd) = head::trailers(&self.trailers, config);
            anomalies.extend(odd);
        }
        if self.trailers_cut {
            anomalies.push(Anomaly::new(AnomalyKind::HeadTooLarge, "trailers"));
        }
        let (body, odd) = self.builder.finish(complete, config, budget);
        anomalies.extend(odd);
        (body, trailers)
    }
}
