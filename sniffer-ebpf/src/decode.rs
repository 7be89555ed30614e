//! A record's octets, as they lie in the ring buffer, to a header and the packet's octets; and back, for tests and
//! replay. It trusts nothing: a ring buffer that an older pinned program fills may hold other layouts.

use crate::{CAPTURED_MAX, HEADER_LENGTH, Header, Hook, VERSION};

/// One record, borrowed from the ring buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// What the kernel said of the packet.
    pub header: Header,
    /// The hook that copied it.
    pub hook: Hook,
    /// The packet's octets that were copied.
    pub packet: &'a [u8],
}

/// Why octets are not a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// Shorter than a header.
    TooShort {
        /// How long it is.
        length: usize,
    },
    /// Another layout.
    Version {
        /// The version it names.
        found: u8,
    },
    /// A hook that does not exist.
    Hook {
        /// Its number.
        found: u8,
    },
    /// The header promises more octets than follow, or more than any tier holds, or than the packet has from there on.
    Length {
        /// What it promises.
        captured: u32,
        /// What follows.
        available: usize,
    },
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooShort { length } => write!(f, "a record of {length} octets is shorter than its header"),
            Self::Version { found } => write!(f, "record layout {found}, expected {VERSION}"),
            Self::Hook { found } => write!(f, "no hook has the number {found}"),
            Self::Length { captured, available } => {
                write!(f, "the record promises {captured} octets of packet, {available} are there")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// Reads a record. Octets after the promised ones are the rest of the tier and are ignored.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, DecodeError> {
    let too_short = DecodeError::TooShort { length: bytes.len() };
    let (head, rest) = bytes.split_at_checked(HEADER_LENGTH).ok_or(too_short)?;
    let mut fields = Fields(head);
    let header = Header {
        boot_nanos: fields.u64().ok_or(too_short)?,
        sequence: fields.u64().ok_or(too_short)?,
        wire_length: fields.u32().ok_or(too_short)?,
        captured_length: fields.u32().ok_or(too_short)?,
        offset: fields.u32().ok_or(too_short)?,
        interface: fields.u32().ok_or(too_short)?,
        came_from: fields.u32().ok_or(too_short)?,
        cpu: fields.u16().ok_or(too_short)?,
        hook: fields.u8().ok_or(too_short)?,
        version: fields.u8().ok_or(too_short)?,
    };
    if header.version != VERSION {
        return Err(DecodeError::Version { found: header.version });
    }
    let hook = match header.hook {
        0 => Hook::Ingress,
        1 => Hook::Egress,
        found => return Err(DecodeError::Hook { found }),
    };
    let captured = header.captured_length;
    let wrong = DecodeError::Length { captured, available: rest.len() };
    let end = header.offset.checked_add(captured);
    if captured > CAPTURED_MAX || end.is_none_or(|end| end > header.wire_length) {
        return Err(wrong);
    }
    let packet = rest.get(..captured as usize).ok_or(wrong)?;
    Ok(Record { header, hook, packet })
}

/// Writes a header as the kernel side does.
pub fn encode(header: &Header) -> [u8; HEADER_LENGTH] {
    let mut bytes = [0; HEADER_LENGTH];
    let (numbers, rest) = bytes.split_at_mut(16);
    let (boot, sequence) = numbers.split_at_mut(8);
    boot.copy_from_slice(&header.boot_nanos.to_ne_bytes());
    sequence.copy_from_slice(&header.sequence.to_ne_bytes());
    let (words, rest) = rest.split_at_mut(20);
    let values =
        [header.wire_length, header.captured_length, header.offset, header.interface, header.came_from];
    for (word, value) in words.chunks_exact_mut(4).zip(values) {
        word.copy_from_slice(&value.to_ne_bytes());
    }
    let (cpu, rest) = rest.split_at_mut(2);
    cpu.copy_from_slice(&header.cpu.to_ne_bytes());
    rest.copy_from_slice(&[header.hook, header.version]);
    bytes
}

/// Takes numbers off the front, in the machine's own order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*number)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[n]| n)
    }
}
