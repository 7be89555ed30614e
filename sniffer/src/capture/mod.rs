//! Capture files: pcap and pcapng, plain or compressed with gzip or zstd, from a path or standard input. Bytes come
//! in, [`Frame`]s go out, borrowed from the reader's own buffer, with the interfaces that the file declares and the
//! losses that it admits. A cut-off or damaged file gives all that came before, then an [`Error`] with the offset;
//! what follows a damaged record is never guessed at. Nothing here looks into a frame.
//!
//! Why not the `pcap-parser` crate: it collects the options of every packet into a `Vec`, knows no losses, no
//! offsets for its errors, and one of its readers must be chosen before the first byte is seen. The formats are
//! small (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng); these readers are shorter than its adapter would be.
#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unreachable,
    clippy::unwrap_used
)]

mod decompress;
mod input;
pub mod live;
mod looks;
mod pcap;
mod pcapng;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::ops::Range;
use std::path::Path;

use crate::frame::{Frame, Hook, Interface, LinkType, Loss, Timestamp};
use input::Input;

/// A pcapng block longer than this is damage. Wireshark's own limit for a packet is 256 KiB; 64 KiB super-packets,
/// BIG TCP (512 KiB) and key logs in a decryption-secrets block stay far below.
pub const MAX_BLOCK: u32 = 64 << 20;

/// More captured bytes than this in one record are damage.
pub const MAX_CAPTURED: u32 = 16 << 20;

/// More interfaces than this in one file are damage: each of them is remembered, so there must be a bound.
pub const MAX_INTERFACES: u32 = 65_536;

/// An open capture.
pub struct Source {
    name: String,
    input: Input,
    format: Format,
    reader: Reader,
    /// The name of the interface that was given last, for the caller to borrow.
    interface_name: Option<String>,
    finished: bool,
}

/// What a capture holds, in the order of the file.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// An interface is declared, before the first frame that was seen on it. Classic pcap declares none.
    Interface {
        /// Its number in [`Interface::Declared`], counted from 0 over all sections of the file.
        number: u32,
        /// `if_name`, else `if_description`; at most 256 octets of it.
        name: Option<&'a str>,
        /// The link type of its frames.
        link: LinkType,
    },
    /// The source says that it lost frames.
    Loss(Loss),
}

/// The file format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// pcap with microseconds.
    Pcap,
    /// pcap with nanoseconds.
    PcapNanos,
    /// pcap with the longer record headers of Kuznetzov's patched libpcap.
    PcapModified,
    /// pcapng.
    PcapNg,
}

/// How the file is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// gzip (RFC 1952), any number of members.
    Gzip,
    /// Zstandard (RFC 8878), any number of frames.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// How far a capture was read, in bytes of the file as it lies on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes taken from the file so far; at most one buffer ahead of the frames.
    pub read: u64,
    /// The file's length; `None` for a pipe.
    pub length: Option<u64>,
}

impl Progress {
    /// Whole percent, 0 to 100; `None` when the length is not known.
    pub fn percent(&self) -> Option<u8> {
        let length = self.length?;
        let percent =
            u128::from(self.read).saturating_mul(100).checked_div(u128::from(length)).unwrap_or(100);
        Some(u8::try_from(percent).unwrap_or(100).min(100))
    }
}

/// A place in a capture: the byte, and whether it is counted after decompression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Bytes before it in the pcap or pcapng data.
    pub offset: u64,
    /// How the file is compressed: then `offset` counts decompressed bytes.
    pub compression: Option<Compression>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}", self.offset)?;
        match self.compression {
            Some(compression) => write!(f, " of the decompressed data ({compression})"),
            None => Ok(()),
        }
    }
}

/// Why a capture cannot be read, or not further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such file.
    #[error("{name}: no such file; give a pcap or pcapng file, or - for standard input")]
    Missing {
        /// The file.
        name: String,
    },
    /// It is a directory.
    #[error("{name}: is a directory; give one of the capture files in it")]
    Directory {
        /// The directory.
        name: String,
    },
    /// The file may not be read.
    #[error("{name}: no permission to read it; `chmod +r` it, or run as its owner")]
    NoPermission {
        /// The file.
        name: String,
    },
    /// Standard input was asked for, and nothing is piped into it.
    #[error(
        "standard input is a terminal; pipe a capture into it (tcpdump -U -w - | fedisniff read -), or give a file"
    )]
    Terminal,
    /// The system refused to read.
    #[error("{name}: cannot read on at {place}: {source}")]
    Read {
        /// The file.
        name: String,
        /// How far it was read.
        place: Place,
        /// Why not.
        source: io::Error,
    },
    /// Nothing is in it.
    #[error("{name}: is empty{}; capture again, and let the capture run to its end", inside(*compression))]
    Empty {
        /// The file.
        name: String,
        /// How the file is compressed.
        compression: Option<Compression>,
    },
    /// It is something else.
    #[error("{name}: not a capture{}, it looks like {looks_like}; {help}", inside(*compression))]
    NotACapture {
        /// The file.
        name: String,
        /// How the file is compressed.
        compression: Option<Compression>,
        /// What it seems to be, with its article.
        looks_like: String,
        /// What to do.
        help: &'static str,
    },
    /// A version of the format that is not known.
    #[error("{name}: {what} at {place} is not supported; convert the file with `editcap -F pcapng`")]
    Unsupported {
        /// The file.
        name: String,
        /// Where that was said.
        place: Place,
        /// The version.
        what: String,
    },
    /// The file ends inside a record. What came before was given.
    #[error(
        "{name}: cut off: {what} at {place} is not whole, the data end at byte {end}; all before it was read. Copy \
         the file again if it should be longer"
    )]
    CutOff {
        /// The file.
        name: String,
        /// Where the record begins that is not whole.
        place: Place,
        /// How many bytes there are.
        end: u64,
        /// What the record is.
        what: &'static str,
    },
    /// A record cannot be what the format allows. What came before was given.
    #[error(
        "{name}: damaged at {place}: {what}; all before it was read, and nothing after it is guessed at. Copy or \
         capture the file again"
    )]
    Damaged {
        /// The file.
        name: String,
        /// Where the record begins.
        place: Place,
        /// What is wrong with it.
        what: String,
    },
    /// The compressed data are damaged or cut off. What came before was given.
    #[error(
        "{name}: the {compression} data cannot be decompressed beyond {place}: {what}; all before it was read. {help}"
    )]
    Compressed {
        /// The file.
        name: String,
        /// Where the first record begins that is not whole.
        place: Place,
        /// How the file is compressed.
        compression: Compression,
        /// What the decoder said.
        what: String,
        /// What to do.
        help: &'static str,
    },
}

fn inside(compression: Option<Compression>) -> &'static str {
    match compression {
        Some(Compression::Gzip) => " inside the gzip data",
        Some(Compression::Zstd) => " inside the zstd data",
        None => "",
    }
}

impl Source {
    /// Opens the capture at `path`; `-` is standard input. What the file is, is told by its bytes, not by its name.
    ///
    /// # Errors
    /// See [`Error`]; a file without a single whole header is one.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.as_os_str() == "-" {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                return Err(Error::Terminal);
            }
            return Self::from_reader("standard input", stdin, None);
        }
        let name = path.display().to_string();
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { name: name.clone() },
            io::ErrorKind::PermissionDenied => Error::NoPermission { name: name.clone() },
            _ => Error::Read { name: name.clone(), place: Place { offset: 0, compression: None }, source },
        };
        let file = File::open(path).map_err(refused)?;
        let about = file.metadata().map_err(refused)?;
        if about.is_dir() {
            return Err(Error::Directory { name });
        }
        // A pipe or device has no length that would mean anything.
        let length = about.is_file().then_some(about.len());
        Self::from_reader(&name, file, length)
    }

    /// Reads a capture from `from`. `name` is what errors call it, `length` how many bytes will come, if known.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn from_reader(
        name: &str,
        from: impl Read + Send + 'static,
        length: Option<u64>,
    ) -> Result<Self, Error> {
        let mut input = Input::new(Box::new(from), length)
            .map_err(|source| refused(name, Place { offset: 0, compression: None }, source))?;
        let compression = input.compression();
        let (format, reader) = Reader::begin(&mut input).map_err(|fault| match fault {
            Begin::Empty => Error::Empty { name: name.to_owned(), compression },
            Begin::Other(looks) => Error::NotACapture {
                name: name.to_owned(),
                compression,
                looks_like: looks.like,
                help: looks.help,
            },
            Begin::Fault(fault) => fault.named(name, &input),
        })?;
        Ok(Self { name: name.to_owned(), input, format, reader, interface_name: None, finished: false })
    }

    /// The next item; `None` at the end of the capture. After an error there is nothing more.
    ///
    /// # Errors
    /// See [`Error`].
    #[expect(
        clippy::should_implement_trait,
        reason = "an item borrows from the reader, which Iterator cannot say"
    )]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, Error> {
        if self.finished {
            return Ok(None);
        }
        let step = match &mut self.reader {
            Reader::Pcap(reader) => reader.next(&mut self.input),
            Reader::PcapNg(reader) => reader.next(&mut self.input),
        };
        Ok(match step {
            Ok(Some(Step::Frame(head))) => Some(Item::Frame(head.frame(&self.input))),
            Ok(Some(Step::Interface { number, name, link })) => {
                self.interface_name = name;
                Some(Item::Interface { number, name: self.interface_name.as_deref(), link })
            }
            Ok(Some(Step::Loss(loss))) => Some(Item::Loss(loss)),
            Ok(None) => {
                self.finished = true;
                None
            }
            Err(fault) => {
                self.finished = true;
                return Err(fault.named(&self.name, &self.input));
            }
        })
    }

    /// What errors call it: the path as given, or `standard input`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How the file is compressed; `None` if it is not.
    pub fn compression(&self) -> Option<Compression> {
        self.input.compression()
    }

    /// How far the file was read.
    pub fn progress(&self) -> Progress {
        self.input.progress()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("format", &self.format)
            .field("offset", &self.input.offset())
            .finish_non_exhaustive()
    }
}

enum Reader {
    Pcap(pcap::Reader),
    PcapNg(pcapng::Reader),
}

/// Why there is no reader.
enum Begin {
    Empty,
    Other(looks::Looks),
    Fault(Fault),
}

impl From<Fault> for Begin {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Reader {
    fn begin(input: &mut Input) -> Result<(Format, Self), Begin> {
        if !input.want(4).map_err(Fault::Input)? {
            return Err(match input.bytes() {
                [] => Begin::Empty,
                some => Begin::Other(looks::of(some)),
            });
        }
        if pcapng::is_magic(input.bytes()) {
            return Ok((Format::PcapNg, Self::PcapNg(pcapng::Reader::begin(input)?)));
        }
        if let Some(format) = pcap::magic(input.bytes()) {
            return Ok((format, Self::Pcap(pcap::Reader::begin(input)?)));
        }
        // What else it is may only be told further in (tar has its mark at 257); an error on the way tells nothing new.
        let _ = input.want(looks::ENOUGH);
        // No more than that, so that how the bytes arrive does not matter.
        let begin = input.bytes();
        Err(Begin::Other(looks::of(begin.get(..looks::ENOUGH).unwrap_or(begin))))
    }
}

/// What a reader finds; a frame's bytes are a place in the input's buffer, valid until the reader goes on.
enum Step {
    Frame(Head),
    Interface { number: u32, name: Option<String>, link: LinkType },
    Loss(Loss),
}

/// A frame without its bytes.
struct Head {
    time: Timestamp,
    interface: Interface,
    hook: Option<Hook>,
    link: LinkType,
    bytes: Range<usize>,
    wire_length: u32,
}

impl Head {
    fn frame<'a>(&self, input: &'a Input) -> Frame<'a> {
        let bytes = input.at(self.bytes.clone());
        let captured = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Frame {
            time: self.time,
            interface: self.interface,
            hook: self.hook,
            link: self.link,
            bytes,
            wire_length: self.wire_length.max(captured),
        }
    }
}

/// What stops a reader, before it has a file's name.
enum Fault {
    Input(io::Error),
    CutOff { offset: u64, what: &'static str },
    Damaged { offset: u64, what: String },
    Unsupported { offset: u64, what: String },
}

impl Fault {
    fn named(self, name: &str, input: &Input) -> Error {
        let name = name.to_owned();
        let compression = input.compression();
        let place = |offset| Place { offset, compression };
        match self {
            Self::Input(source) => refused(&name, place(input.offset()), source),
            Self::CutOff { offset, what } => {
                Error::CutOff { name, place: place(offset), end: input.end(), what }
            }
            Self::Damaged { offset, what } => Error::Damaged { name, place: place(offset), what },
            Self::Unsupported { offset, what } => Error::Unsupported { name, place: place(offset), what },
        }
    }
}

/// Tells the decoder's complaints from the system's: only the latter carry an error number.
fn refused(name: &str, place: Place, source: io::Error) -> Error {
    let name = name.to_owned();
    match (place.compression, source.raw_os_error()) {
        (Some(compression), None) => {
            let cut = source.kind() == io::ErrorKind::UnexpectedEof;
            // The words of libzstd for a window above its limit (ZSTD_error_frameParameter_windowTooLarge).
            let large = source.to_string().contains("too much memory");
            Error::Compressed {
                name,
                place,
                compression,
                what: if cut { "they end too early".to_owned() } else { source.to_string() },
                help: match (cut, large) {
                    (true, _) => "Copy the file again if it should be longer",
                    (_, true) => "Decompress it first: zstd -dc --long=31 FILE | fedisniff read -",
                    _ => "Copy or capture the file again",
                },
            }
        }
        _ => Error::Read { name, place, source },
    }
}
