//! pcap (draft-ietf-opsawg-pcap): a file header, then records. Microseconds and nanoseconds, both byte orders, and the
//! longer records of Kuznetzov's patched libpcap. Its only mark of damage is a length that cannot be.

use super::input::Input;
use super::{Fault, Format, Head, MAX_CAPTURED, Step};
use crate::frame::{Hook, Interface, LinkType, Timestamp};

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// `ifindex` (4), `protocol` (2), `pkt_type` (1) and a byte of padding follow.
const MODIFIED_RECORD_HEADER: usize = 24;

/// `PACKET_OUTGOING` of Linux's `if_packet.h`.
const PACKET_OUTGOING: u8 = 4;

/// The format that the first four bytes promise, in either byte order.
pub(super) fn magic(bytes: &[u8]) -> Option<Format> {
    Some(match *bytes.first_chunk()? {
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xd4, 0xc3, 0xb2, 0xa1] => Format::Pcap,
        [0xa1, 0xb2, 0x3c, 0x4d] | [0x4d, 0x3c, 0xb2, 0xa1] => Format::PcapNanos,
        [0xa1, 0xb2, 0xcd, 0x34] | [0x34, 0xcd, 0xb2, 0xa1] => Format::PcapModified,
        _ => return None,
    })
}

pub(super) struct Reader {
    header: Header,
}

#[derive(Clone, Copy)]
struct Header {
    big_endian: bool,
    format: Format,
    /// Writers before version 2.3 put the wire's length before the captured one, some of 2.3 did.
    minor: u16,
    link: LinkType,
}

impl Reader {
    /// Takes the file header, whose magic number has been seen.
    pub(super) fn begin(input: &mut Input) -> Result<Self, Fault> {
        if !input.want(FILE_HEADER).map_err(Fault::Input)? {
            return Err(Fault::CutOff { offset: input.offset(), what: "the file header" });
        }
        let header = Header::parse(input.bytes()).map_err(|what| Fault::Unsupported { offset: 0, what })?;
        input.take(FILE_HEADER);
        Ok(Self { header })
    }

    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Step>, Fault> {
        loop {
            let header = self.header;
            let head_length = match header.format {
                Format::PcapModified => MODIFIED_RECORD_HEADER,
                _ => RECORD_HEADER,
            };
            let offset = input.offset();
            let cut = Fault::CutOff { offset, what: "the record" };
            if !input.want(head_length).map_err(Fault::Input)? {
                return if input.bytes().is_empty() { Ok(None) } else { Err(cut) };
            }
            let (Some(seconds), Some(fraction), Some(captured), Some(wire)) = (
                header.u32(input.bytes(), 0),
                header.u32(input.bytes(), 4),
                header.u32(input.bytes(), 8),
                header.u32(input.bytes(), 12),
            ) else {
                return Err(cut);
            };
            // Files joined with `cat`: a file header read as a record has no length, as its third and fourth words
            // (time zone and accuracy) are zero in every writer. What follows is as sure as at the beginning.
            if captured == 0 && wire == 0 && magic(input.bytes()).is_some() {
                *self = Self::begin(input)?;
                continue;
            }
            let (captured, wire) = match header.minor {
                0..=2 => (wire, captured),
                3 if captured > wire => (wire, captured),
                _ => (captured, wire),
            };
            if captured > MAX_CAPTURED {
                return Err(Fault::Damaged {
                    offset,
                    what: format!("a record of {captured} captured bytes"),
                });
            }
            let record = head_length.saturating_add(captured as usize);
            if !input.want(record).map_err(Fault::Input)? {
                return Err(cut);
            }
            let (interface, hook) = match header.format {
                Format::PcapModified => header.seen_at(input.bytes()),
                _ => (Interface::Unknown, None),
            };
            let fraction_nanos = match header.format {
                Format::PcapNanos => u64::from(fraction),
                _ => u64::from(fraction).saturating_mul(1_000),
            };
            let taken = input.take(record);
            return Ok(Some(Step::Frame(Head {
                time: Timestamp(u64::from(seconds).saturating_mul(1_000_000_000)).plus_nanos(fraction_nanos),
                interface,
                hook,
                link: header.link,
                bytes: taken.start.saturating_add(head_length)..taken.end,
                wire_length: wire,
            })));
        }
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let format = magic(bytes).unwrap_or(Format::Pcap);
        let big_endian = bytes.first() == Some(&0xa1);
        let mut header = Self { big_endian, format, minor: 4, link: LinkType::Null };
        let (major, minor) = (header.u16(bytes, 4).unwrap_or(0), header.u16(bytes, 6).unwrap_or(0));
        if major != 2 {
            return Err(format!("pcap version {major}.{minor}"));
        }
        header.minor = minor;
        // The upper six bits say whether frames end in a frame check sequence, and how long it is; the ten below
        // are reserved. An FCS lies behind the IP packet's own length, so nothing has to be cut off.
        header.link = LinkType::from_number(header.u32(bytes, 20).unwrap_or(u32::MAX) & 0x03ff_ffff);
        Ok(header)
    }

    /// The interface and the direction in a modified record header.
    fn seen_at(&self, record: &[u8]) -> (Interface, Option<Hook>) {
        let interface = match self.u32(record, 16) {
            Some(index) if index != 0 => Interface::Index(index),
            _ => Interface::Unknown,
        };
        let hook =
            record.get(22).map(|&kind| if kind == PACKET_OUTGOING { Hook::Egress } else { Hook::Ingress });
        (interface, hook)
    }

    #[inline]
    fn u32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let word = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
    }

    fn u16(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let word = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u16::from_be_bytes(word) } else { u16::from_le_bytes(word) })
    }
}
