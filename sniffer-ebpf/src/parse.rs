//! The headers of a packet, as far as selecting needs them: each read is bounded, none is trusted further than its
//! length, and what is not understood is [`None`].

use aya_ebpf::programs::TcContext;
use sniffer_ebpf::Tuple;

/// What a packet is.
pub(crate) struct Packet {
    /// Its ends; the ports are 0 where it is a later fragment, which has none.
    pub(crate) tuple: Tuple,
    /// What it carries.
    pub(crate) content: Content,
}

/// What an IP packet carries.
pub(crate) enum Content {
    /// A TCP segment.
    Tcp {
        /// Control bits, as in the header's 14th octet.
        flags: u8,
        /// Sequence number.
        sequence: u32,
        /// Where in the packet its payload begins.
        payload: usize,
    },
    /// A UDP datagram.
    Udp,
    /// A later fragment of a TCP or UDP datagram.
    Fragment,
}

pub(crate) const TCP_SYN: u8 = 0x02;
pub(crate) const TCP_ACK: u8 = 0x10;

const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const VLAN_OUTER: u16 = 0x88a8;
/// Tags inside the packet; an outermost one that the driver took off is not in its octets.
const VLAN_TAGS: usize = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// IPv6 extension headers that are walked (hop-by-hop, routing, destination, fragment; RFC 8200 section 4).
const EXTENSIONS: usize = 6;

/// Reads the headers.
#[inline(always)]
pub(crate) fn parse(context: &TcContext) -> Option<Packet> {
    let mut at = ETHERNET;
    let mut ether_type = u16::from_be(context.load::<u16>(12).ok()?);
    for _ in 0..VLAN_TAGS {
        if ether_type == VLAN || ether_type == VLAN_OUTER {
            ether_type = u16::from_be(context.load::<u16>(at + 2).ok()?);
            at += 4;
        }
    }
    match ether_type {
        IPV4 => ipv4(context, at),
        IPV6 => ipv6(context, at),
        _ => None,
    }
}

#[inline(always)]
fn ipv4(context: &TcContext, at: usize) -> Option<Packet> {
    let header = context.load::<[u8; 20]>(at).ok()?;
    if header[0] >> 4 != 4 {
        return None;
    }
    let length = usize::from(header[0] & 15) * 4;
    if length < 20 {
        return None;
    }
    let mut tuple =
        Tuple { source: [0; 16], destination: [0; 16], source_port: [0; 2], destination_port: [0; 2] };
    mapped(&mut tuple.source, [header[12], header[13], header[14], header[15]]);
    mapped(&mut tuple.destination, [header[16], header[17], header[18], header[19]]);
    let later = u16::from_be_bytes([header[6] & 0x1f, header[7]]) != 0;
    content(context, tuple, header[9], at + length, later)
}

/// RFC 4291 section 2.5.5.2.
#[inline(always)]
fn mapped(into: &mut [u8; 16], address: [u8; 4]) {
    into[10] = 0xff;
    into[11] = 0xff;
    into[12] = address[0];
    into[13] = address[1];
    into[14] = address[2];
    into[15] = address[3];
}

#[inline(always)]
fn ipv6(context: &TcContext, at: usize) -> Option<Packet> {
    let mut protocol = context.load::<u8>(at + 6).ok()?;
    let tuple = Tuple {
        source: context.load::<[u8; 16]>(at + 8).ok()?,
        destination: context.load::<[u8; 16]>(at + 24).ok()?,
        source_port: [0; 2],
        destination_port: [0; 2],
    };
    let mut at = at + 40;
    let mut later = false;
    for _ in 0..EXTENSIONS {
        match protocol {
            // Hop-by-hop, routing, destination options; mobility, HIP and shim6 have the same form.
            0 | 43 | 60 | 135 | 139 | 140 => {
                let head = context.load::<[u8; 2]>(at).ok()?;
                protocol = head[0];
                at += usize::from(head[1]) * 8 + 8;
            }
            44 => {
                let head = context.load::<[u8; 4]>(at).ok()?;
                protocol = head[0];
                later |= u16::from_be_bytes([head[2], head[3]]) & 0xfff8 != 0;
                at += 8;
            }
            // Authentication counts in units of 4 octets (RFC 4302 section 2.2).
            51 => {
                let head = context.load::<[u8; 2]>(at).ok()?;
                protocol = head[0];
                at += usize::from(head[1]) * 4 + 8;
            }
            _ => break,
        }
        if later {
            break;
        }
    }
    content(context, tuple, protocol, at, later)
}

#[inline(always)]
fn content(context: &TcContext, mut tuple: Tuple, protocol: u8, at: usize, later: bool) -> Option<Packet> {
    let known = protocol == TCP || protocol == UDP;
    if !known {
        return None;
    }
    if later {
        return Some(Packet { tuple, content: Content::Fragment });
    }
    tuple.source_port = context.load::<[u8; 2]>(at).ok()?;
    tuple.destination_port = context.load::<[u8; 2]>(at + 2).ok()?;
    if protocol == UDP {
        return Some(Packet { tuple, content: Content::Udp });
    }
    let sequence = u32::from_be(context.load::<u32>(at + 4).ok()?);
    let offset = context.load::<u8>(at + 12).ok()?;
    let flags = context.load::<u8>(at + 13).ok()?;
    let payload = at + usize::from(offset >> 4) * 4;
    Some(Packet { tuple, content: Content::Tcp { flags, sequence, payload } })
}
