//! From a frame's bytes to the IP addresses and the TCP segment (or IP fragment) in it. Lengths come from the IP
//! header, so that Ethernet padding is no payload, and from the wire where the header cannot hold them (offloads).
//! It never trusts a checksum (they are often not filled in where we capture) and never reads beyond the frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::flow::Flags;
use crate::frame::{Frame, Interface, LinkType};

/// What an IP packet holds, with its ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Where it was captured; the cooked header's word where there is one.
    pub(super) interface: Interface,
    /// IP source.
    pub(super) source: IpAddr,
    /// IP destination.
    pub(super) destination: IpAddr,
    /// What is inside.
    pub(super) content: Content<'a>,
}

/// What is inside an IP packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    /// A whole TCP segment, header first.
    Tcp(Cut<'a>),
    /// Part of a datagram.
    Fragment(Fragment<'a>),
    /// UDP, ICMP, an encrypted payload, nothing: the protocol's number, and what follows the IP headers.
    Other(u8, Cut<'a>),
}

/// Bytes of which the capture may have kept only the beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut<'a> {
    /// What was kept.
    pub(super) bytes: &'a [u8],
    /// How many more were on the wire.
    pub(super) missing: u32,
}

/// One fragment of an IP datagram (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    /// The datagram's identification; 16 bits wide in IPv4.
    pub(super) id: u32,
    /// The protocol (IPv4) or the next header of the fragmentable part (IPv6).
    pub(super) protocol: u8,
    /// Where it belongs in the datagram's payload, in bytes.
    pub(super) offset: u32,
    /// Whether others follow.
    pub(super) more: bool,
    /// Its payload.
    pub(super) cut: Cut<'a>,
}

/// Why a frame has no IP packet that we could read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Skip {
    /// Another protocol than IP.
    NotIp,
    /// A header that contradicts itself or is cut.
    Malformed,
    /// A link type that is not decoded.
    UnknownLink,
}

/// A TCP header's fields that a listener needs (RFC 9293 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tcp {
    /// Source port.
    pub(super) source: u16,
    /// Destination port.
    pub(super) destination: u16,
    /// Sequence number.
    pub(super) seq: u32,
    /// Acknowledgement number, where ACK is set.
    pub(super) ack: Option<u32>,
    /// Control bits.
    pub(super) flags: Flags,
    /// Where the payload begins, from the header's first byte; may lie beyond what was captured.
    pub(super) header: usize,
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.1Q, 802.1ad, and the older number that some switches use for the outer tag.
const ETHERTYPES_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// More tags than any network stacks; a bound against frames made of tags.
const VLAN_TAGS_MAX: usize = 8;
/// More extension headers than any stack sends (RFC 8504 §5.3 lets hosts limit them).
const EXTENSIONS_MAX: usize = 16;

const PROTOCOL_HOP_BY_HOP: u8 = 0;
pub(super) const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_ROUTING: u8 = 43;
const PROTOCOL_FRAGMENT: u8 = 44;
const PROTOCOL_AH: u8 = 51;
const PROTOCOL_DESTINATION: u8 = 60;
const PROTOCOL_MOBILITY: u8 = 135;
const PROTOCOL_HIP: u8 = 139;
const PROTOCOL_SHIM6: u8 = 140;

/// Finds the IP packet in a frame.
pub(super) fn decode<'a>(frame: &Frame<'a>) -> Result<Packet<'a>, Skip> {
    let bytes = frame.bytes;
    // Readers clamp it; be safe where a caller does not.
    let wire = frame.wire_length.max(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    let layer = |skip: usize| -> Result<(&'a [u8], u32), Skip> {
        let rest = bytes.get(skip..).ok_or(Skip::Malformed)?;
        Ok((rest, wire.saturating_sub(u32::try_from(skip).unwrap_or(u32::MAX))))
    };
    match frame.link {
        LinkType::Ethernet => ethertype(frame.interface, bytes, wire, 12),
        LinkType::LinuxSll => ethertype(frame.interface, bytes, wire, 14),
        LinkType::LinuxSll2 => {
            let index = be32(bytes, 4).ok_or(Skip::Malformed)?;
            let protocol = be16(bytes, 0).ok_or(Skip::Malformed)?;
            let (rest, wire) = layer(20)?;
            tagged(Interface::Index(index), protocol, rest, wire)
        }
        LinkType::Null | LinkType::Loop => {
            // Null is written in the writer's byte order, which the frame does not tell; families are small numbers,
            // so that only one order makes sense. Some systems write Loop in their own order too.
            let family = be32(bytes, 0).ok_or(Skip::Malformed)?;
            let (rest, wire) = layer(4)?;
            match family.min(family.swap_bytes()) {
                2 => ipv4(frame.interface, rest, wire),
                // AF_INET6 of Linux, NetBSD, FreeBSD and macOS.
                10 | 24 | 28 | 30 => ipv6(frame.interface, rest, wire),
                _ => Err(Skip::NotIp),
            }
        }
        LinkType::Raw => ip(frame.interface, bytes, wire),
        LinkType::Ipv4 => ipv4(frame.interface, bytes, wire),
        LinkType::Ipv6 => ipv6(frame.interface, bytes, wire),
        LinkType::Nflog => nflog(frame),
        LinkType::Other(_) => Err(Skip::UnknownLink),
    }
}

/// Reads a TCP header. `None` when it is cut before the control bits or contradicts itself; `length` is the segment's
/// length on the wire.
pub(super) fn tcp(bytes: &[u8], length: u64) -> Option<Tcp> {
    // The 20 bytes that every header has must be there; options may be cut by the snap length.
    let fixed: &[u8; 20] = bytes.first_chunk()?;
    let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, bits, ..] = *fixed;
    let header = usize::from(offset >> 4).saturating_mul(4);
    if header < 20 || header as u64 > length {
        return None;
    }
    Some(Tcp {
        source: u16::from_be_bytes([s0, s1]),
        destination: u16::from_be_bytes([d0, d1]),
        seq: u32::from_be_bytes([q0, q1, q2, q3]),
        ack: (bits & 0x10 != 0).then(|| u32::from_be_bytes([a0, a1, a2, a3])),
        flags: Flags { fin: bits & 0x01 != 0, syn: bits & 0x02 != 0, rst: bits & 0x04 != 0 },
        header,
    })
}

/// Where TCP begins in the fragmentable part of an IPv6 datagram that was put together, which may begin with
/// extension headers. `None` when it is not TCP.
pub(super) fn tcp_after_extensions(protocol: u8, bytes: &[u8]) -> Option<usize> {
    match extensions(protocol, bytes) {
        Ok(Extensions { protocol: PROTOCOL_TCP, at, fragment: None, .. }) => Some(at),
        _ => None,
    }
}

/// Whether a fragment's protocol can lead to TCP; others need not be put together.
pub(super) fn may_be_tcp(protocol: u8) -> bool {
    protocol == PROTOCOL_TCP || is_extension(protocol)
}

fn ethertype(
    interface: Interface,
    bytes: &[u8],
    wire: u32,
    protocol_at: usize,
) -> Result<Packet<'_>, Skip> {
    let protocol = be16(bytes, protocol_at).ok_or(Skip::Malformed)?;
    let header = protocol_at.saturating_add(2);
    let rest = bytes.get(header..).ok_or(Skip::Malformed)?;
    tagged(interface, protocol, rest, wire.saturating_sub(u32::try_from(header).unwrap_or(u32::MAX)))
}

/// What an EtherType announces, behind any number of VLAN tags.
fn tagged(
    interface: Interface,
    mut protocol: u16,
    mut bytes: &[u8],
    mut wire: u32,
) -> Result<Packet<'_>, Skip> {
    for _ in 0..=VLAN_TAGS_MAX {
        match protocol {
            ETHERTYPE_IPV4 => return ipv4(interface, bytes, wire),
            ETHERTYPE_IPV6 => return ipv6(interface, bytes, wire),
            tag if ETHERTYPES_VLAN.contains(&tag) => {
                protocol = be16(bytes, 2).ok_or(Skip::Malformed)?;
                bytes = bytes.get(4..).ok_or(Skip::Malformed)?;
                wire = wire.saturating_sub(4);
            }
            _ => return Err(Skip::NotIp),
        }
    }
    Err(Skip::Malformed)
}

fn ip(interface: Interface, bytes: &[u8], wire: u32) -> Result<Packet<'_>, Skip> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => ipv4(interface, bytes, wire),
        Some(6) => ipv6(interface, bytes, wire),
        Some(_) => Err(Skip::NotIp),
        None => Err(Skip::Malformed),
    }
}

/// The kernel's nfnetlink_log messages: a 4-byte header, then attributes of length, type and value, padded to four.
/// Length and type are in the writer's byte order, which the frame does not tell, so both are tried.
fn nflog<'a>(frame: &Frame<'a>) -> Result<Packet<'a>, Skip> {
    let attributes = frame.bytes.get(4..).ok_or(Skip::Malformed)?;
    let (payload, wire) = nflog_payload(attributes, u16::from_le_bytes)
        .or_else(|| nflog_payload(attributes, u16::from_be_bytes))
        .ok_or(Skip::Malformed)?;
    ip(frame.interface, payload, wire)
}

/// NFULA_PAYLOAD of linux/netfilter/nfnetlink_log.h.
const NFULA_PAYLOAD: u16 = 9;

fn nflog_payload(mut bytes: &[u8], order: fn([u8; 2]) -> u16) -> Option<(&[u8], u32)> {
    loop {
        let [l0, l1, t0, t1] = *bytes.first_chunk()?;
        let length = usize::from(order([l0, l1]));
        // The two high bits are flags of netlink (nested, byte order).
        let kind = order([t0, t1]) & 0x3fff;
        if length < 4 {
            return None;
        }
        if kind == NFULA_PAYLOAD {
            let value = bytes.get(4..length.min(bytes.len()))?;
            return Some((value, u32::try_from(length.saturating_sub(4)).ok()?));
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

fn ipv4(interface: Interface, bytes: &[u8], wire: u32) -> Result<Packet<'_>, Skip> {
    let [first, _, t0, t1, i0, i1, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        *bytes.first_chunk::<20>().ok_or(Skip::Malformed)?;
    let header = u32::from(first & 0x0f).saturating_mul(4);
    // A total length of 0 is what segmentation offload leaves, and BIG TCP above 64 KiB: the wire knows better.
    let length = match u16::from_be_bytes([t0, t1]) {
        0 => wire,
        total => u32::from(total),
    };
    if first >> 4 != 4 || header < 20 || length < header {
        return Err(Skip::Malformed);
    }
    let cut = payload(bytes, header, length)?;
    let fragmentation = u16::from_be_bytes([f0, f1]);
    let more = fragmentation & 0x2000 != 0;
    let offset = u32::from(fragmentation & 0x1fff).saturating_mul(8);
    let content = if more || offset != 0 {
        let id = u32::from(u16::from_be_bytes([i0, i1]));
        Content::Fragment(Fragment { id, protocol, offset, more, cut })
    } else if protocol == PROTOCOL_AH {
        after_extensions(protocol, cut)?
    } else if protocol == PROTOCOL_TCP {
        Content::Tcp(cut)
    } else {
        Content::Other(protocol, cut)
    };
    let source = IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3));
    let destination = IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3));
    Ok(Packet { interface, source, destination, content })
}

const IPV6_HEADER: u32 = 40;

fn ipv6(interface: Interface, bytes: &[u8], wire: u32) -> Result<Packet<'_>, Skip> {
    let header: &[u8; 40] = bytes.first_chunk().ok_or(Skip::Malformed)?;
    let [first, _, _, _, l0, l1, next, _, addresses @ ..] = *header;
    if first >> 4 != 6 {
        return Err(Skip::Malformed);
    }
    let length = match u16::from_be_bytes([l0, l1]) {
        // 32 bits can say four gigabytes of a frame of a hundred bytes; the wire knows better.
        0 => jumbo_length(next, bytes).unwrap_or(u32::MAX).min(wire.saturating_sub(IPV6_HEADER)),
        length => u32::from(length),
    };
    let cut = payload(bytes, IPV6_HEADER, IPV6_HEADER.saturating_add(length))?;
    let content = after_extensions(next, cut)?;
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = *addresses.get(at..)?.first_chunk()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let (Some(source), Some(destination)) = (address(0), address(16)) else { return Err(Skip::Malformed) };
    Ok(Packet { interface, source, destination, content })
}

/// The length in a jumbo payload option (RFC 2675 §2), which BIG TCP puts first in a hop-by-hop header.
fn jumbo_length(next: u8, bytes: &[u8]) -> Option<u32> {
    if next != PROTOCOL_HOP_BY_HOP {
        return None;
    }
    let [_, _, 0xc2, 4, j0, j1, j2, j3] = *bytes.get(40..)?.first_chunk::<8>()? else { return None };
    Some(u32::from_be_bytes([j0, j1, j2, j3]))
}

/// What lies between `header` and `length`, as far as it was captured.
fn payload(bytes: &[u8], header: u32, length: u32) -> Result<Cut<'_>, Skip> {
    let end = bytes.len().min(length as usize);
    let kept = bytes.get(header as usize..end).ok_or(Skip::Malformed)?;
    let on_wire = length.saturating_sub(header);
    Ok(Cut { bytes: kept, missing: on_wire.saturating_sub(u32::try_from(kept.len()).unwrap_or(on_wire)) })
}

fn after_extensions(protocol: u8, cut: Cut<'_>) -> Result<Content<'_>, Skip> {
    if protocol == PROTOCOL_TCP {
        return Ok(Content::Tcp(cut));
    }
    if !is_extension(protocol) && protocol != PROTOCOL_FRAGMENT {
        return Ok(Content::Other(protocol, cut));
    }
    let found = extensions(protocol, cut.bytes)?;
    let rest = Cut { bytes: cut.bytes.get(found.at..).ok_or(Skip::Malformed)?, missing: cut.missing };
    Ok(match found.fragment {
        Some((id, offset, more)) => {
            Content::Fragment(Fragment { id, protocol: found.protocol, offset, more, cut: rest })
        }
        None if found.protocol == PROTOCOL_TCP => Content::Tcp(rest),
        None => Content::Other(found.protocol, rest),
    })
}

struct Extensions {
    protocol: u8,
    at: usize,
    fragment: Option<(u32, u32, bool)>,
}

fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        PROTOCOL_HOP_BY_HOP
            | PROTOCOL_ROUTING
            | PROTOCOL_AH
            | PROTOCOL_DESTINATION
            | PROTOCOL_MOBILITY
            | PROTOCOL_HIP
            | PROTOCOL_SHIM6
    )
}

/// Walks the chain of extension headers (RFC 8200 §4) to the upper protocol, or to a fragment header that leads a
/// real fragment (an atomic one, RFC 6946, is a header like the others).
fn extensions(mut protocol: u8, bytes: &[u8]) -> Result<Extensions, Skip> {
    let mut at = 0_usize;
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(protocol) && protocol != PROTOCOL_FRAGMENT {
            return Ok(Extensions { protocol, at, fragment: None });
        }
        let Some([next, length, o0, o1, rest @ ..]) = bytes.get(at..).and_then(|b| b.first_chunk::<8>()) else {
            return Err(Skip::Malformed);
        };
        if protocol == PROTOCOL_FRAGMENT {
            let field = u16::from_be_bytes([*o0, *o1]);
            let (offset, more) = (u32::from(field & 0xfff8), field & 1 != 0);
            protocol = *next;
            at = at.saturating_add(8);
            if more || offset != 0 {
                return Ok(Extensions { protocol, at, fragment: Some((u32::from_be_bytes(*rest), offset, more)) });
            }
            continue;
        }
        let units = usize::from(*length);
        let size = if protocol == PROTOCOL_AH {
            units.saturating_add(2).saturating_mul(4)
        } else {
            units.saturating_add(1).saturating_mul(8)
        };
        at = at.saturating_add(size);
        if at > bytes.len() {
            // Beyond what was captured, or beyond the packet: either way nothing can be said.
            return Err(Skip::Malformed);
        }
        protocol = *next;
    }
    Err(Skip::Malformed)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_be_bytes(*chunk))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}
