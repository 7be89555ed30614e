//! Classic pcap files, read and written as plainly as can be, so that what is measured is never measured with the
//! product's own code: microseconds or nanoseconds of this machine's byte order in, nanoseconds out; Ethernet and
//! IPv4 only; anything else is an error or `None`, never a guess.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};

/// One record of a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Nanoseconds since the epoch.
    pub time: u64,
    /// The frame, from its Ethernet header on.
    pub bytes: Vec<u8>,
}

/// Magic number of a file with microseconds, and with nanoseconds.
const MICROS: u32 = 0xa1b2_c3d4;
const NANOS: u32 = 0xa1b2_3c4d;

/// Reads records one by one.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    nanos: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// The file cannot be read, or is not a classic pcap of this byte order with Ethernet frames.
    pub fn new(mut from: R) -> io::Result<Self> {
        let mut header = [0; 24];
        from.read_exact(&mut header)?;
        let (magic, link) = (word(&header, 0), word(&header, 20));
        if !(magic == MICROS || magic == NANOS) || link != 1 {
            return Err(io::Error::other(format!(
                "not an Ethernet pcap: magic {magic:08x}, link type {link}"
            )));
        }
        Ok(Self { from, nanos: magic == NANOS })
    }

    /// Reads the next record into `record`, using its memory again; false at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read, or ends inside a record.
    pub fn next_into(&mut self, record: &mut Record) -> io::Result<bool> {
        let mut header = [0; 16];
        let first = self.from.read(&mut header)?;
        if first == 0 {
            return Ok(false);
        }
        self.from.read_exact(&mut header[first..])?;
        let fraction = u64::from(word(&header, 4)) * if self.nanos { 1 } else { 1_000 };
        record.time = u64::from(word(&header, 0)) * 1_000_000_000 + fraction;
        record.bytes.resize(word(&header, 8) as usize, 0);
        self.from.read_exact(&mut record.bytes)?;
        Ok(true)
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut record = Record { time: 0, bytes: Vec::new() };
        match self.next_into(&mut record) {
            Ok(true) => Some(Ok(record)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// Writes records with nanoseconds.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the file's header: Ethernet, nanoseconds, version 2.4, snap length 256 KiB.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(&NANOS.to_ne_bytes())?;
        to.write_all(&[2_u16.to_ne_bytes(), 4_u16.to_ne_bytes()].concat())?;
        to.write_all(&[0, 0, 262_144, 1].map(u32::to_ne_bytes).concat())?;
        Ok(Self { to, written: 24 })
    }

    /// Writes one record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, time: u64, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u32;
        let header = [(time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32, length, length];
        self.to.write_all(header.map(u32::to_ne_bytes).as_flattened())?;
        self.to.write_all(bytes)?;
        self.written += 16 + u64::from(length);
        Ok(())
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Gives back what was written to.
    pub fn into_inner(self) -> W {
        self.to
    }
}

/// SYN, ACK, FIN, RST and PSH of a TCP header's flags.
pub const FIN: u8 = 1;
/// See [`FIN`].
pub const SYN: u8 = 2;
/// See [`FIN`].
pub const RST: u8 = 4;
/// See [`FIN`].
pub const PSH: u8 = 8;
/// See [`FIN`].
pub const ACK: u8 = 16;

/// A TCP segment inside a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// To whom.
    pub to: SocketAddrV4,
    /// Sequence number of the first payload byte (of the SYN, where it has one).
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Payload.
    pub payload: &'a [u8],
}

const HEADERS: usize = 14 + 20 + 20;

/// The segment in an Ethernet frame with IPv4; `None` for anything else.
pub fn segment(frame: &[u8]) -> Option<Segment<'_>> {
    if frame.len() < HEADERS || frame[12..14] != [8, 0] || frame[14] >> 4 != 4 || frame[23] != 6 {
        return None;
    }
    let ip = &frame[14..];
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let ip = ip.get(..total)?;
    let tcp = ip.get(usize::from(ip[0] & 15) * 4..)?;
    let payload = tcp.get(usize::from(*tcp.get(12)? >> 4) * 4..)?;
    let address = |at: usize, port: usize| {
        SocketAddrV4::new(
            Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]),
            u16::from_be_bytes([tcp[port], tcp[port + 1]]),
        )
    };
    let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    Some(Segment {
        from: address(12, 0),
        to: address(16, 2),
        seq: number(4),
        ack: number(8),
        flags: tcp[13],
        payload,
    })
}

/// Writes the frame of a segment into `frame`. Checksums are 0, as a sender with offload leaves them.
pub fn frame(segment: &Segment<'_>, frame: &mut Vec<u8>) {
    frame.clear();
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    let total = (40 + segment.payload.len()) as u16;
    frame.extend_from_slice(&[0x45, 0]);
    frame.extend_from_slice(&total.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend_from_slice(&segment.from.ip().octets());
    frame.extend_from_slice(&segment.to.ip().octets());
    frame.extend_from_slice(&segment.from.port().to_be_bytes());
    frame.extend_from_slice(&segment.to.port().to_be_bytes());
    frame.extend_from_slice(&segment.seq.to_be_bytes());
    frame.extend_from_slice(&segment.ack.to_be_bytes());
    frame.extend_from_slice(&[0x50, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend_from_slice(segment.payload);
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
