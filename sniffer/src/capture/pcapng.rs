//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks. Interfaces are numbered on over all sections; times become
//! nanoseconds whatever the interface's resolution; drop counters become losses; blocks that hold no frame are
//! passed over. A block whose two lengths differ, or that names an interface nobody declared, is damage.

use super::input::Input;
use super::{Fault, Head, MAX_BLOCK, MAX_CAPTURED, MAX_INTERFACES, Step};
use crate::frame::{Hook, Interface, LinkType, Loss, Timestamp};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// Type and length in front, length again behind.
const BLOCK_HEADER: usize = 8;
const BLOCK_TRAILER: usize = 4;
const SMALLEST_BLOCK: u32 = 12;
/// Type, length, byte-order magic, version, section length, length again.
const SMALLEST_SECTION: u32 = 28;

/// An interface's name is remembered by whoever reads; nobody needs more of it than this.
const MAX_NAME: usize = 256;

/// Whether these bytes begin a pcapng file.
pub(super) fn is_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(&SECTION_HEADER.to_be_bytes())
}

pub(super) struct Reader {
    order: Order,
    /// Of the current section, by the numbers that its blocks use.
    interfaces: Vec<Declared>,
    /// In all sections.
    declared: u32,
    /// The latest frame's time, for simple packet blocks, which have none.
    last_time: Timestamp,
    /// A frame whose loss was given first.
    queued: Option<Step>,
}

#[derive(Clone, Copy)]
struct Declared {
    number: u32,
    link: LinkType,
    snap_length: u32,
    clock: Clock,
    /// How many lost frames were told of, so that a total at the end counts only what is new in it.
    told_lost: u64,
}

impl Reader {
    /// Takes the first section header, whose type has been seen.
    pub(super) fn begin(input: &mut Input) -> Result<Self, Fault> {
        let mut reader = Self {
            order: Order { big_endian: false },
            interfaces: Vec::new(),
            declared: 0,
            last_time: Timestamp(0),
            queued: None,
        };
        reader.section(input)?;
        Ok(reader)
    }

    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Step>, Fault> {
        if let Some(step) = self.queued.take() {
            return Ok(Some(step));
        }
        loop {
            let offset = input.offset();
            let cut = |what| Fault::CutOff { offset, what };
            if !input.want(BLOCK_HEADER).map_err(Fault::Input)? {
                return if input.bytes().is_empty() { Ok(None) } else { Err(cut("the block")) };
            }
            let (kind, length) = self.header(input);
            if kind == SECTION_HEADER {
                self.section(input)?;
                continue;
            }
            if !(SMALLEST_BLOCK..=MAX_BLOCK).contains(&length) || !length.is_multiple_of(4) {
                return Err(Fault::Damaged {
                    offset,
                    what: format!("a block of {length} bytes (type {kind:#x})"),
                });
            }
            let length = length as usize;
            let parse = match kind {
                ENHANCED_PACKET => Self::enhanced_packet,
                SIMPLE_PACKET => Self::simple_packet,
                OBSOLETE_PACKET => Self::obsolete_packet,
                INTERFACE_DESCRIPTION => Self::interface_description,
                INTERFACE_STATISTICS => Self::interface_statistics,
                _ => {
                    // Decryption secrets, names, custom and unknown blocks: not even their bytes are kept.
                    if !(input.skip(length.saturating_sub(BLOCK_TRAILER)).map_err(Fault::Input)?
                        && input.want(BLOCK_TRAILER).map_err(Fault::Input)?)
                    {
                        return Err(cut("the block"));
                    }
                    self.check_trailer(input.bytes(), length, offset)?;
                    input.take(BLOCK_TRAILER);
                    continue;
                }
            };
            if !input.want(length).map_err(Fault::Input)? {
                return Err(cut("the block"));
            }
            let body_end = length.saturating_sub(BLOCK_TRAILER);
            self.check_trailer(input.bytes().get(body_end..).unwrap_or_default(), length, offset)?;
            let body = input.bytes().get(BLOCK_HEADER..body_end).unwrap_or_default();
            let step = parse(self, body).map_err(|what| Fault::Damaged { offset, what })?;
            let taken = input.take(length);
            let Some(mut step) = step else { continue };
            // The parsers know a frame's place in the block's body; here it becomes one in the buffer.
            let base = taken.start.saturating_add(BLOCK_HEADER);
            for step in [Some(&mut step), self.queued.as_mut()].into_iter().flatten() {
                if let Step::Frame(head) = step {
                    head.bytes = head.bytes.start.saturating_add(base)..head.bytes.end.saturating_add(base);
                }
            }
            return Ok(Some(step));
        }
    }

    /// Type and total length of the block at hand.
    fn header(&self, input: &Input) -> (u32, u32) {
        let word = |at| self.order.u32(input.bytes(), at).unwrap_or(0);
        (word(0), word(4))
    }

    fn check_trailer(&self, trailer: &[u8], length: usize, offset: u64) -> Result<(), Fault> {
        match self.order.u32(trailer, 0) {
            Some(again) if again as usize == length => Ok(()),
            again => Err(Fault::Damaged {
                offset,
                what: format!(
                    "a block says {length} bytes at its beginning and {} at its end",
                    again.unwrap_or(0)
                ),
            }),
        }
    }

    /// A section begins: its byte order holds from here, and no interface is declared in it yet.
    fn section(&mut self, input: &mut Input) -> Result<(), Fault> {
        let offset = input.offset();
        let cut = || Fault::CutOff { offset, what: "the section header" };
        let damaged = |what| Fault::Damaged { offset, what };
        if !input.want(12).map_err(Fault::Input)? {
            return Err(cut());
        }
        self.order = match input.bytes().get(8..12) {
            Some([0x1a, 0x2b, 0x3c, 0x4d]) => Order { big_endian: true },
            Some([0x4d, 0x3c, 0x2b, 0x1a]) => Order { big_endian: false },
            other => return Err(damaged(format!("a section header with byte-order magic {other:02x?}"))),
        };
        let (_, length) = self.header(input);
        if !(SMALLEST_SECTION..=MAX_BLOCK).contains(&length) || !length.is_multiple_of(4) {
            return Err(damaged(format!("a section header of {length} bytes")));
        }
        let length = length as usize;
        if !input.want(length).map_err(Fault::Input)? {
            return Err(cut());
        }
        self.check_trailer(
            input.bytes().get(length.saturating_sub(BLOCK_TRAILER)..).unwrap_or_default(),
            length,
            offset,
        )?;
        let version = |at| self.order.u16(input.bytes(), at).unwrap_or(0);
        // Minor 2 was written by some and means the same (§4.1 of the draft).
        if version(12) != 1 {
            let what = format!("pcapng version {}.{}", version(12), version(14));
            return Err(Fault::Unsupported { offset, what });
        }
        input.take(length);
        self.interfaces.clear();
        Ok(())
    }

    fn interface_description(&mut self, body: &[u8]) -> Result<Option<Step>, String> {
        let short = || "an interface description that is too short".to_owned();
        let link = LinkType::from_number(u32::from(self.order.u16(body, 0).ok_or_else(short)?));
        let snap_length = self.order.u32(body, 4).ok_or_else(short)?;
        if self.declared >= MAX_INTERFACES {
            return Err(format!("more than {MAX_INTERFACES} interfaces"));
        }
        let mut clock = Clock::default();
        let mut name = None;
        let mut description = None;
        for option in self.options(body, 8) {
            match option? {
                (2, value) => name = name.or(Some(value)),
                (3, value) => description = description.or(Some(value)),
                (9, [resolution, ..]) => clock.resolution = Resolution::from_option(*resolution),
                (14, value) => clock.offset_seconds = self.order.u64(value, 0).map_or(0, u64::cast_signed),
                _ => {}
            }
        }
        let number = self.declared;
        self.declared = self.declared.saturating_add(1);
        self.interfaces.push(Declared { number, link, snap_length, clock, told_lost: 0 });
        Ok(Some(Step::Interface { number, name: name.or(description).and_then(name_text), link }))
    }

    fn enhanced_packet(&mut self, body: &[u8]) -> Result<Option<Step>, String> {
        let short = || "a packet block that is too short".to_owned();
        let interface = self.order.u32(body, 0).ok_or_else(short)?;
        let (high, low) =
            (self.order.u32(body, 4).ok_or_else(short)?, self.order.u32(body, 8).ok_or_else(short)?);
        let (captured, wire) =
            (self.order.u32(body, 12).ok_or_else(short)?, self.order.u32(body, 16).ok_or_else(short)?);
        self.packet(body, interface, ticks(high, low), captured, wire, None)
    }

    fn obsolete_packet(&mut self, body: &[u8]) -> Result<Option<Step>, String> {
        let short = || "a packet block that is too short".to_owned();
        let interface = u32::from(self.order.u16(body, 0).ok_or_else(short)?);
        // All ones: not known.
        let dropped = self.order.u16(body, 2).filter(|&n| n != u16::MAX && n != 0).map(u64::from);
        let (high, low) =
            (self.order.u32(body, 4).ok_or_else(short)?, self.order.u32(body, 8).ok_or_else(short)?);
        let (captured, wire) =
            (self.order.u32(body, 12).ok_or_else(short)?, self.order.u32(body, 16).ok_or_else(short)?);
        self.packet(body, interface, ticks(high, low), captured, wire, dropped)
    }

    /// What both packet blocks share: twenty bytes, the frame, padding, options of the same numbers.
    fn packet(
        &mut self,
        body: &[u8],
        interface: u32,
        ticks: u64,
        captured: u32,
        wire: u32,
        mut dropped: Option<u64>,
    ) -> Result<Option<Step>, String> {
        let declared = self.declared(interface)?;
        let end = 20_usize.saturating_add(captured as usize);
        if captured > MAX_CAPTURED || end > body.len() {
            return Err(format!(
                "a packet block of {} bytes that claims {captured} captured ones",
                body.len()
            ));
        }
        let mut hook = None;
        let options = end.next_multiple_of(4);
        if options < body.len() {
            for option in self.options(body, options) {
                match option? {
                    // epb_flags, bits 0 and 1: 01 inbound, 10 outbound (§4.3.1 of the draft).
                    (2, value) => {
                        hook = match self.order.u32(value, 0).unwrap_or(0) & 3 {
                            1 => Some(Hook::Ingress),
                            2 => Some(Hook::Egress),
                            _ => None,
                        }
                    }
                    // epb_dropcount: lost between this packet and the one before it on the same interface.
                    (4, value) => dropped = self.order.u64(value, 0).filter(|&n| n != 0),
                    _ => {}
                }
            }
        }
        let time = declared.clock.time(ticks);
        self.last_time = time;
        let frame = Step::Frame(Head {
            time,
            interface: Interface::Declared(declared.number),
            hook,
            link: declared.link,
            bytes: 20..end,
            wire_length: wire,
        });
        let Some(frames) = dropped else { return Ok(Some(frame)) };
        if let Some(slot) = self.interfaces.get_mut(interface as usize) {
            slot.told_lost = slot.told_lost.saturating_add(frames);
        }
        self.queued = Some(frame);
        Ok(Some(Step::Loss(Loss { time, interface: Interface::Declared(declared.number), frames })))
    }

    /// A simple packet is of interface 0 and carries no time: it is given that of the frame before it. Its captured
    /// length is the wire's, unless the interface's snap length is shorter.
    fn simple_packet(&mut self, body: &[u8]) -> Result<Option<Step>, String> {
        let wire = self.order.u32(body, 0).ok_or("a packet block that is too short")?;
        let declared = self.declared(0)?;
        let captured = match declared.snap_length {
            0 => wire,
            limit => wire.min(limit),
        };
        let end = 4_usize.saturating_add(captured as usize);
        if captured > MAX_CAPTURED || end > body.len() {
            return Err(format!(
                "a packet block of {} bytes that claims {captured} captured ones",
                body.len()
            ));
        }
        Ok(Some(Step::Frame(Head {
            time: self.last_time,
            interface: Interface::Declared(declared.number),
            hook: None,
            link: declared.link,
            bytes: 4..end,
            wire_length: wire,
        })))
    }

    /// Totals since the capture began; only what no packet block has told of is new.
    fn interface_statistics(&mut self, body: &[u8]) -> Result<Option<Step>, String> {
        let short = || "an interface statistics block that is too short".to_owned();
        let interface = self.order.u32(body, 0).ok_or_else(short)?;
        let (high, low) =
            (self.order.u32(body, 4).ok_or_else(short)?, self.order.u32(body, 8).ok_or_else(short)?);
        let declared = self.declared(interface)?;
        let (mut by_interface, mut by_system) = (0, 0);
        for option in self.options(body, 12) {
            match option? {
                (5, value) => by_interface = self.order.u64(value, 0).unwrap_or(0),
                (7, value) => by_system = self.order.u64(value, 0).unwrap_or(0),
                _ => {}
            }
        }
        let total: u64 = by_interface.saturating_add(by_system);
        let frames = total.saturating_sub(declared.told_lost);
        if frames == 0 {
            return Ok(None);
        }
        if let Some(slot) = self.interfaces.get_mut(interface as usize) {
            slot.told_lost = total;
        }
        let time = declared.clock.time(ticks(high, low));
        Ok(Some(Step::Loss(Loss { time, interface: Interface::Declared(declared.number), frames })))
    }

    #[inline]
    fn declared(&self, interface: u32) -> Result<Declared, String> {
        self.interfaces.get(interface as usize).copied().ok_or_else(|| {
            format!("a block names interface {interface}, but its section declares {}", self.interfaces.len())
        })
    }

    /// The options from `at` on, as (code, value), up to `opt_endofopt` or the end of the body.
    fn options<'a>(&self, body: &'a [u8], at: usize) -> Options<'a> {
        Options { order: self.order, rest: body.get(at..).unwrap_or_default() }
    }
}

struct Options<'a> {
    order: Order,
    rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u16, &'a [u8]), String>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        let (Some(code), Some(length)) = (self.order.u16(rest, 0), self.order.u16(rest, 2)) else {
            return Some(Err("an option without a length".to_owned()));
        };
        if code == 0 {
            return None;
        }
        let length = usize::from(length);
        let value = rest.get(4..).and_then(|value| value.get(..length));
        match (value, rest.get(4_usize.saturating_add(length.next_multiple_of(4))..)) {
            (Some(value), Some(rest)) => {
                self.rest = rest;
                Some(Ok((code, value)))
            }
            _ => Some(Err(format!("option {code} of {length} bytes passes its block's end"))),
        }
    }
}

/// A name as text: what is not UTF-8 is replaced, what writers put behind it as padding is dropped.
fn name_text(value: &[u8]) -> Option<String> {
    let value = value.split(|&b| b == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(value.get(..MAX_NAME).unwrap_or(value));
    (!text.is_empty()).then(|| text.into_owned())
}

fn ticks(high: u32, low: u32) -> u64 {
    (u64::from(high) << 32) | u64::from(low)
}

/// How an interface counts time.
#[derive(Clone, Copy, Default)]
struct Clock {
    resolution: Resolution,
    offset_seconds: i64,
}

/// What one tick is, as a way to nanoseconds.
#[derive(Clone, Copy)]
enum Resolution {
    /// So many nanoseconds.
    Times(u64),
    /// So many to a nanosecond.
    Per(u64),
    /// 2 to the power of minus this, seconds.
    Binary(u8),
}

/// Microseconds, where an interface does not say.
impl Default for Resolution {
    fn default() -> Self {
        Self::Times(1_000)
    }
}

impl Resolution {
    /// From `if_tsresol`: a negative power of 2 with the highest bit set, else of 10.
    fn from_option(value: u8) -> Self {
        match value {
            128.. => Self::Binary(value & 0x7f),
            0..=9 => Self::Times(10_u64.saturating_pow(9_u32.saturating_sub(u32::from(value)))),
            // A tick too short for the power to fit: no number of them makes a nanosecond, which `Per(0)` stands for.
            10.. => Self::Per(10_u64.checked_pow(u32::from(value).saturating_sub(9)).unwrap_or(0)),
        }
    }
}

impl Clock {
    #[inline]
    fn time(&self, ticks: u64) -> Timestamp {
        let nanos = match self.resolution {
            Resolution::Times(n) => ticks.saturating_mul(n),
            Resolution::Per(n) => ticks.checked_div(n).unwrap_or(0),
            Resolution::Binary(n) => {
                u64::try_from(u128::from(ticks).saturating_mul(1_000_000_000) >> n).unwrap_or(u64::MAX)
            }
        };
        let offset = self.offset_seconds.unsigned_abs().saturating_mul(1_000_000_000);
        Timestamp(match self.offset_seconds {
            0.. => nanos.saturating_add(offset),
            _ => nanos.saturating_sub(offset),
        })
    }
}

/// The byte order of a section.
#[derive(Clone, Copy)]
struct Order {
    big_endian: bool,
}

impl Order {
    #[inline]
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let word = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u16::from_be_bytes(word) } else { u16::from_le_bytes(word) })
    }

    #[inline]
    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let word = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
    }

    fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let word = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u64::from_be_bytes(word) } else { u64::from_le_bytes(word) })
    }
}
