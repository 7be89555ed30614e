//! Content codings (RFC 9110 §8.4.1): coded octets in, decoded octets out to a sink, piece by piece, in bounded memory
//! whatever the input. As lenient as browsers are with what real servers send (raw deflate, missing checksums, bytes
//! after the end), and naming it. It never decodes further than its limit, and never holds decoded content itself.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, SliceWrapper, StandardAlloc};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

/// How many codings may be stacked on one body; more is not decoded.
pub(super) const STACK_LIMIT: usize = 4;

/// Octets that a stage puts out at a time.
const PIECE: usize = 16 << 10;

/// A content coding that we can remove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coding {
    /// RFC 1952, also `x-gzip`.
    Gzip,
    /// RFC 1950, and RFC 1951 alone, which some servers send under this name.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878, with the window limit of RFC 9659.
    Zstd,
}

impl Coding {
    /// By the name in the field, lower case; `identity` and unknown names are not codings.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// Why decoding stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// The octets are not what the coding says.
    Corrupt(Coding, &'static str),
    /// The limit against bombs.
    Limit,
    /// The byte budget for decoder state was spent.
    Budget,
}

impl Stop {
    /// In words, for an anomaly's detail.
    pub(super) fn text(self) -> String {
        match self {
            Self::Corrupt(coding, what) => format!("{}: {what}", coding.name()),
            Self::Limit => "decoding stopped at the limit".to_owned(),
            Self::Budget => "no memory left for decoding".to_owned(),
        }
    }
}

/// One coding being removed.
pub(super) struct Stage {
    coder: Coder,
    /// Where pieces are put out; `PIECE` long.
    out: Box<[u8]>,
    /// Octets put out so far: what the limit is held against, also inside a stack.
    produced: u64,
    /// What was forgiven.
    loose: Option<&'static str>,
}

enum Coder {
    Inflate(Box<Inflate>),
    Brotli(Box<Brotli>),
    Zstd(Zstd),
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("coding", &self.coding()).field("produced", &self.produced).finish()
    }
}

/// Takes decoded pieces.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Stop>;

/// Runs octets through a stack of codings, the outermost (last applied) first.
pub(super) fn run(stack: &mut [Stage], input: &[u8], limit: u64, sink: Sink<'_>) -> Result<(), Stop> {
    match stack.split_first_mut() {
        None => sink(input),
        Some((first, rest)) => first.push(input, limit, &mut |piece| run(rest, piece, limit, sink)),
    }
}

/// The input of a stack has ended: was each coding complete?
pub(super) fn end(stack: &mut [Stage]) -> Result<(), Stop> {
    stack.iter_mut().try_for_each(Stage::end)
}

/// What the stages of a stack forgave.
pub(super) fn loose(stack: &[Stage]) -> impl Iterator<Item = (&'static str, &'static str)> {
    stack.iter().filter_map(|stage| stage.loose.map(|what| (stage.coding().name(), what)))
}

impl Stage {
    pub(super) fn new(coding: Coding) -> Self {
        let coder = match coding {
            Coding::Gzip => Coder::Inflate(Box::new(Inflate::new(Format::Gzip))),
            Coding::Deflate => Coder::Inflate(Box::new(Inflate::new(Format::Deflate))),
            Coding::Brotli => Coder::Brotli(Box::default()),
            Coding::Zstd => Coder::Zstd(Zstd::new()),
        };
        Self { coder, out: vec![0; PIECE].into_boxed_slice(), produced: 0, loose: None }
    }

    pub(super) fn coding(&self) -> Coding {
        match &self.coder {
            Coder::Inflate(inflate) if inflate.format == Format::Gzip => Coding::Gzip,
            Coder::Inflate(_) => Coding::Deflate,
            Coder::Brotli(_) => Coding::Brotli,
            Coder::Zstd(_) => Coding::Zstd,
        }
    }

    /// Ready for another body.
    pub(super) fn reset(&mut self) {
        self.produced = 0;
        self.loose = None;
        match &mut self.coder {
            Coder::Inflate(inflate) => inflate.reset(),
            Coder::Brotli(brotli) => **brotli = Brotli::default(),
            Coder::Zstd(zstd) => zstd.reset(),
        }
    }

    /// Octets of memory that this stage takes, about.
    pub(super) fn cost(&self) -> usize {
        // zlib's state with its 32 KiB window is about 43 KiB; brotli's tables grow to some 60 KiB beside its ring.
        let state = match &self.coder {
            Coder::Inflate(_) => 48 << 10,
            Coder::Brotli(brotli) => brotli.state.ringbuffer.slice().len().saturating_add(64 << 10),
            Coder::Zstd(zstd) => zstd.context.as_ref().map_or(0, DCtx::sizeof),
        };
        state.saturating_add(PIECE)
    }

    fn push(&mut self, input: &[u8], limit: u64, sink: Sink<'_>) -> Result<(), Stop> {
        let produced = &mut self.produced;
        let mut give = |piece: &[u8]| {
            // Give what fits under the limit first, so that the size told is the limit and not a piece less.
            let room = usize::try_from(limit.saturating_sub(*produced)).unwrap_or(usize::MAX);
            *produced = produced.saturating_add(piece.len().min(room) as u64);
            match piece.get(..room) {
                Some(fits) if room < piece.len() => {
                    sink(fits)?;
                    Err(Stop::Limit)
                }
                _ => sink(piece),
            }
        };
        match &mut self.coder {
            Coder::Inflate(inflate) => inflate.push(input, &mut self.out, &mut self.loose, &mut give),
            Coder::Brotli(brotli) => brotli.push(input, &mut self.out, &mut self.loose, &mut give),
            Coder::Zstd(zstd) => zstd.push(input, &mut self.out, &mut self.loose, &mut give),
        }
    }

    fn end(&mut self) -> Result<(), Stop> {
        let done = match &self.coder {
            Coder::Inflate(inflate) => inflate.end(&mut self.loose),
            Coder::Brotli(brotli) => brotli.done,
            Coder::Zstd(zstd) => zstd.between_frames,
        };
        if done { Ok(()) } else { Err(Stop::Corrupt(self.coding(), "ends too early")) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Gzip,
    Deflate,
}

/// gzip and deflate around one raw inflater: headers and trailers are ours, so that they can be forgiven.
struct Inflate {
    format: Format,
    raw: Decompress,
    place: Place,
    /// gzip members that ended.
    members: u32,
    crc: Crc,
    adler: (u32, u32),
    length: u32,
}

/// Where in a gzip member (RFC 1952 §2.3) or zlib stream (RFC 1950 §2.2) the input stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the fixed ten octets of gzip; how many were read, and the flags.
    GzipFixed(u8, u8),
    /// In the two octets of the extra field's length.
    GzipExtraLength { read: u8, length: u16, flags: u8 },
    /// In the extra field.
    GzipExtra { left: u16, flags: u8 },
    /// In the name (`FNAME`) or comment, which end with 0.
    GzipText { flags: u8 },
    /// In the header's checksum.
    GzipHeaderCrc { left: u8 },
    /// At the first octet of zlib's header, or of raw deflate.
    ZlibFirst,
    /// At the second; the first is kept.
    ZlibSecond(u8),
    /// In the deflate blocks.
    Blocks,
    /// In the trailer.
    Trailer { read: u8, value: u64 },
    /// Behind a zlib stream, or behind garbage after a gzip member: the rest is ignored.
    Ignored,
}

const FLAG_HEADER_CRC: u8 = 2;
const FLAG_EXTRA: u8 = 4;
const FLAG_NAME: u8 = 8;
const FLAG_COMMENT: u8 = 16;

impl Inflate {
    fn new(format: Format) -> Self {
        Self {
            format,
            raw: Decompress::new(false),
            place: Self::start(format),
            members: 0,
            crc: Crc::new(),
            adler: (1, 0),
            length: 0,
        }
    }

    fn start(format: Format) -> Place {
        match format {
            Format::Gzip => Place::GzipFixed(0, 0),
            Format::Deflate => Place::ZlibFirst,
        }
    }

    fn reset(&mut self) {
        self.members = 0;
        self.next_member();
    }

    fn next_member(&mut self) {
        self.raw.reset(false);
        self.place = Self::start(self.format);
        self.crc.reset();
        self.adler = (1, 0);
        self.length = 0;
    }

    fn push(
        &mut self,
        mut input: &[u8],
        out: &mut [u8],
        loose: &mut Option<&'static str>,
        give: Sink<'_>,
    ) -> Result<(), Stop> {
        while let Some((&octet, rest)) = input.split_first() {
            match self.place {
                Place::Blocks => input = self.blocks(input, out, give)?,
                Place::Ignored => {
                    loose.get_or_insert("bytes after the end");
                    return Ok(());
                }
                Place::ZlibFirst => {
                    self.place = Place::ZlibSecond(octet);
                    input = rest;
                }
                Place::ZlibSecond(first) => {
                    self.place = Place::Blocks;
                    // CM 8, a window of at most 32 KiB, no dictionary, and the check of RFC 1950 §2.2.
                    let check = u16::from_be_bytes([first, octet]).checked_rem(31) == Some(0);
                    if first & 0x0f == 8 && first >> 4 <= 7 && check && octet & 0x20 == 0 {
                        input = rest;
                    } else {
                        loose.get_or_insert("deflate without its zlib wrapper");
                        self.adler = RAW;
                        self.blocks(&[first], out, give)?;
                    }
                }
                Place::Trailer { read, value } => {
                    input = rest;
                    self.trailer(read.saturating_add(1), (value << 8) | u64::from(octet))?;
                }
                header => {
                    let Some(next) = gzip_header(header, octet) else {
                        if self.members == 0 {
                            return Err(Stop::Corrupt(Coding::Gzip, "no gzip header"));
                        }
                        self.place = Place::Ignored;
                        continue;
                    };
                    self.place = next;
                    input = rest;
                }
            }
        }
        Ok(())
    }

    /// Inflates; returns what was not consumed.
    fn blocks<'a>(&mut self, mut input: &'a [u8], out: &mut [u8], give: Sink<'_>) -> Result<&'a [u8], Stop> {
        let coding = if self.format == Format::Gzip { Coding::Gzip } else { Coding::Deflate };
        loop {
            let (in_before, out_before) = (self.raw.total_in(), self.raw.total_out());
            let status = self
                .raw
                .decompress(input, out, FlushDecompress::None)
                .map_err(|_| Stop::Corrupt(coding, "not a deflate stream"))?;
            let used = usize::try_from(self.raw.total_in().saturating_sub(in_before)).unwrap_or(usize::MAX);
            let made = usize::try_from(self.raw.total_out().saturating_sub(out_before)).unwrap_or(usize::MAX);
            input = input.get(used..).unwrap_or_default();
            let piece = out.get(..made).unwrap_or_default();
            if !piece.is_empty() {
                if self.format == Format::Gzip {
                    self.crc.update(piece);
                } else if self.adler != RAW {
                    self.adler = adler32(self.adler, piece);
                }
                self.length = self.length.wrapping_add(piece.len() as u32);
                give(piece)?;
            }
            if status == Status::StreamEnd {
                self.place =
                    if self.adler == RAW { Place::Ignored } else { Place::Trailer { read: 0, value: 0 } };
                return Ok(input);
            }
            // A full output may hide more to come; otherwise all input is consumed, or nothing moves any more.
            if made < out.len() && (input.is_empty() || used == 0) {
                return if input.is_empty() { Ok(input) } else { Err(Stop::Corrupt(coding, "stuck")) };
            }
        }
    }

    fn trailer(&mut self, read: u8, value: u64) -> Result<(), Stop> {
        match self.format {
            Format::Gzip if read == 8 => {
                // RFC 1952 §2.3.1: CRC32, then ISIZE, both little endian.
                let expected = (u64::from(self.crc.sum()) << 32) | u64::from(self.length);
                let sent =
                    (u64::from((value >> 32) as u32).swap_bytes()) | (u64::from((value as u32).swap_bytes()));
                if sent != expected {
                    return Err(Stop::Corrupt(Coding::Gzip, "checksum differs"));
                }
                self.members = self.members.saturating_add(1);
                self.next_member();
            }
            Format::Deflate if read == 4 => {
                let (low, high) = self.adler;
                if value != (u64::from(high) << 16) | u64::from(low) {
                    return Err(Stop::Corrupt(Coding::Deflate, "checksum differs"));
                }
                self.place = Place::Ignored;
            }
            _ => self.place = Place::Trailer { read, value },
        }
        Ok(())
    }

    /// Whether the content is whole at this end of the input.
    fn end(&self, loose: &mut Option<&'static str>) -> bool {
        match self.place {
            Place::Ignored => true,
            Place::Trailer { .. } => {
                loose.get_or_insert("ends without its checksum");
                true
            }
            Place::GzipFixed(0, _) => self.members > 0,
            Place::Blocks | Place::ZlibFirst | Place::ZlibSecond(_) => false,
            // In the header of a further member that has no more than that.
            _ => {
                loose.get_or_insert("bytes after the end");
                self.members > 0
            }
        }
    }
}

/// An Adler-32 that cannot occur: both halves are below 65,521. It says that the stream is raw deflate.
const RAW: (u32, u32) = (u32::MAX, u32::MAX);

/// RFC 1950 §8.2.
fn adler32((mut a, mut b): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    const BASE: u32 = 65_521;
    // 5,552 is the most octets before the sums can pass 32 bits (as in zlib's adler32.c).
    for run in bytes.chunks(5_552) {
        for &octet in run {
            a = a.wrapping_add(u32::from(octet));
            b = b.wrapping_add(a);
        }
        a = a.checked_rem(BASE).unwrap_or_default();
        b = b.checked_rem(BASE).unwrap_or_default();
    }
    (a, b)
}

/// One octet of a gzip header (RFC 1952 §2.3); `None` when it cannot be one.
fn gzip_header(place: Place, octet: u8) -> Option<Place> {
    Some(match place {
        Place::GzipFixed(read, flags) => match (read, octet) {
            (0, 0x1f) | (1, 0x8b) | (2, 8) => Place::GzipFixed(read.saturating_add(1), 0),
            (0..=2, _) => return None,
            (3, flags) if flags & 0xe0 != 0 => return None,
            (3, flags) => Place::GzipFixed(4, flags),
            (4..=8, _) => Place::GzipFixed(read.saturating_add(1), flags),
            _ => after_field(flags),
        },
        Place::GzipExtraLength { read: 0, flags, .. } => {
            Place::GzipExtraLength { read: 1, length: u16::from(octet), flags }
        }
        Place::GzipExtraLength { length, flags, .. } => match length | (u16::from(octet) << 8) {
            0 => after_field(flags),
            left => Place::GzipExtra { left, flags },
        },
        Place::GzipExtra { left: 0 | 1, flags } => after_field(flags),
        Place::GzipExtra { left, flags } => Place::GzipExtra { left: left.saturating_sub(1), flags },
        Place::GzipText { flags } if octet == 0 => after_field(flags),
        Place::GzipText { flags } => Place::GzipText { flags },
        Place::GzipHeaderCrc { left: 0 | 1 } => Place::Blocks,
        Place::GzipHeaderCrc { left } => Place::GzipHeaderCrc { left: left.saturating_sub(1) },
        other => other,
    })
}

/// The next optional field of a gzip header; its flag is taken away.
fn after_field(flags: u8) -> Place {
    if flags & FLAG_EXTRA != 0 {
        Place::GzipExtraLength { read: 0, length: 0, flags: flags & !FLAG_EXTRA }
    } else if flags & FLAG_NAME != 0 {
        Place::GzipText { flags: flags & !FLAG_NAME }
    } else if flags & FLAG_COMMENT != 0 {
        Place::GzipText { flags: flags & !FLAG_COMMENT }
    } else if flags & FLAG_HEADER_CRC != 0 {
        Place::GzipHeaderCrc { left: 2 }
    } else {
        Place::Blocks
    }
}

struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    total: usize,
    done: bool,
}

impl Default for Brotli {
    fn default() -> Self {
        let alloc = StandardAlloc::default;
        Self { state: BrotliState::new(alloc(), alloc(), alloc()), total: 0, done: false }
    }
}

impl Brotli {
    fn push(
        &mut self,
        input: &[u8],
        out: &mut [u8],
        loose: &mut Option<&'static str>,
        give: Sink<'_>,
    ) -> Result<(), Stop> {
        let (mut left, mut from) = (input.len(), 0);
        loop {
            if self.done {
                if left > 0 {
                    loose.get_or_insert("bytes after the end");
                }
                return Ok(());
            }
            let (mut room, mut made) = (out.len(), 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut from,
                input,
                &mut room,
                &mut made,
                out,
                &mut self.total,
                &mut self.state,
            );
            let piece = out.get(..made).unwrap_or_default();
            if !piece.is_empty() {
                give(piece)?;
            }
            match result {
                BrotliResult::ResultSuccess => self.done = true,
                BrotliResult::NeedsMoreInput => return Ok(()),
                BrotliResult::NeedsMoreOutput if made > 0 => {}
                BrotliResult::NeedsMoreOutput => return Err(Stop::Corrupt(Coding::Brotli, "stuck")),
                BrotliResult::ResultFailure => {
                    return Err(Stop::Corrupt(Coding::Brotli, "not a brotli stream"));
                }
            }
        }
    }
}

struct Zstd {
    /// `None` when the library could not give one.
    context: Option<DCtx<'static>>,
    between_frames: bool,
    frames: u32,
    /// Whether the frame at hand gave anything.
    gave: bool,
}

impl Zstd {
    fn new() -> Self {
        let mut new = Self { context: DCtx::try_create(), between_frames: false, frames: 0, gave: false };
        // RFC 9659: a content coding must not need a window above 8 MiB.
        if let Some(context) = &mut new.context {
            let _ = context.set_parameter(DParameter::WindowLogMax(23));
        }
        new
    }

    fn reset(&mut self) {
        (self.between_frames, self.frames, self.gave) = (false, 0, false);
        if let Some(context) = &mut self.context {
            let _ = context.reset(ResetDirective::SessionOnly);
        }
    }

    fn push(
        &mut self,
        input: &[u8],
        out: &mut [u8],
        loose: &mut Option<&'static str>,
        give: Sink<'_>,
    ) -> Result<(), Stop> {
        let Some(context) = &mut self.context else {
            return Err(Stop::Budget);
        };
        if loose.is_some() {
            return Ok(());
        }
        let mut from = InBuffer::around(input);
        loop {
            let before = from.pos();
            let mut to = OutBuffer::around(&mut *out);
            let hint = context.decompress_stream(&mut to, &mut from);
            let made = to.pos();
            let Ok(hint) = hint else {
                // What follows a whole frame and is none itself is not content.
                if self.frames > 0 && !self.gave {
                    loose.get_or_insert("bytes after the end");
                    self.between_frames = true;
                    return Ok(());
                }
                return Err(Stop::Corrupt(Coding::Zstd, "not a zstd frame"));
            };
            let piece = out.get(..made).unwrap_or_default();
            if !piece.is_empty() {
                self.gave = true;
                give(piece)?;
            }
            let used = from.pos() != before;
            if hint == 0 && (used || made > 0) {
                self.frames = self.frames.saturating_add(1);
                (self.gave, self.between_frames) = (false, true);
            } else if used {
                self.between_frames = false;
            }
            if made == out.len() {
                continue;
            }
            if from.pos() >= input.len() {
                return Ok(());
            }
            if !used && made == 0 {
                return Err(Stop::Corrupt(Coding::Zstd, "stuck"));
            }
        }
    }
}
