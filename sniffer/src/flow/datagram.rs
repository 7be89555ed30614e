//! One IP packet by itself, whatever it carries: what auditing looks at. The flows of this module are for TCP alone.

use std::net::IpAddr;

use super::packet::{self, Content, PROTOCOL_TCP};
use crate::frame::{Frame, Interface};

/// An IP packet.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Where it was captured; the cooked header's word where there is one.
    pub interface: Interface,
    /// IP source.
    pub source: IpAddr,
    /// IP destination.
    pub destination: IpAddr,
    /// The protocol inside (IANA's Assigned Internet Protocol Numbers).
    pub protocol: u8,
    /// Whether it is a fragment behind the first: `payload` has no header then.
    pub later_fragment: bool,
    /// What follows the IP headers, as far as it was captured.
    pub payload: &'a [u8],
}

/// The IP packet in a frame; `None` where there is none that can be read.
pub fn datagram<'a>(frame: &Frame<'a>) -> Option<Datagram<'a>> {
    let packet = packet::decode(frame).ok()?;
    let (protocol, later_fragment, payload) = match packet.content {
        Content::Tcp(cut) => (PROTOCOL_TCP, false, cut.bytes),
        Content::Fragment(fragment) => (fragment.protocol, fragment.offset != 0, fragment.cut.bytes),
        Content::Other(protocol, cut) => (protocol, false, cut.bytes),
    };
    Some(Datagram {
        interface: packet.interface,
        source: packet.source,
        destination: packet.destination,
        protocol,
        later_fragment,
        payload,
    })
}

/// The packet that begins with these octets, as ICMP errors quote it (RFC 792, RFC 4443 section 3): its length may say
/// more than is there.
pub fn quoted(bytes: &[u8]) -> Option<Datagram<'_>> {
    let frame = Frame {
        time: crate::frame::Timestamp::default(),
        interface: Interface::Unknown,
        hook: None,
        link: crate::frame::LinkType::Raw,
        bytes,
        wire_length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
    };
    datagram(&frame)
}
