//! A frame's headers, as far as denial needs them. Octets come in through [`Octets`]; what does not read as netfilter
//! would read it is [`Kind::Unparsed`], never guessed. The same code runs in the kernel and in tests.

use crate::Tuple;

/// Where a frame's octets are.
pub trait Octets {
    /// So many octets from an offset; [`None`] when the frame is shorter.
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]>;
}

impl Octets for &[u8] {
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk::<N>().copied()
    }
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Neither IP nor ARP, or damaged.
    Unparsed,
    /// ARP for IPv4 over Ethernet; the sender's addresses are the tuple's source and the frame's `sender`.
    Arp,
    /// TCP, UDP or SCTP, whole or the first fragment.
    Ports,
    /// ICMP echo request; its identifier is the source port.
    Echo,
    /// ICMP echo reply; its identifier is the destination port.
    EchoReply,
    /// An ICMP error; the tuple is that of the packet that it quotes, turned round: as if that had been answered.
    Error,
    /// Neighbour discovery, router solicitation, multicast listener reports, DHCP from a client: what may pass if it
    /// stays on the link.
    Control,
    /// Other ICMP.
    OtherIcmp,
    /// Another IP protocol.
    Other,
    /// A fragment after the first. Its number stands in the place of ports.
    LaterFragment,
}

/// A frame's headers. In the kernel it lies in a map, as the stack is small. The addresses lie so that they are copied in
/// words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(8))]
pub struct Frame {
    /// The IP source; of an [`Kind::Error`] not the tuple's.
    pub source: [u8; 16],
    /// The IP destination.
    pub destination: [u8; 16],
    /// Source, destination and ports; of an [`Kind::Error`] those of what it is about.
    pub tuple: Tuple,
    /// The source MAC address.
    pub mac: [u8; 6],
    /// What it is.
    pub kind: Kind,
    /// The IP protocol, after extension headers; of an [`Kind::Error`] that of what it is about.
    pub protocol: u8,
    /// TCP's control bits.
    pub tcp_flags: u8,
    /// To a group MAC address: it reaches every port of a bridge.
    pub group: bool,
    /// The first of several fragments, whose number is `fragment`.
    pub fragmented: bool,
    /// The datagram's number.
    pub fragment: [u8; 4],
    /// Ethernet's type.
    pub ether_type: u16,
}

/// TCP control bits.
pub const FIN: u8 = 0x01;
/// As above.
pub const SYN: u8 = 0x02;
/// As above.
pub const RST: u8 = 0x04;
/// As above.
pub const ACK: u8 = 0x10;

const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// SCTP.
pub const SCTP: u8 = 132;
/// ICMP.
pub const ICMP: u8 = 1;
/// ICMPv6.
pub const ICMPV6: u8 = 58;
/// IPv6 extension headers that are walked (RFC 8200 section 4); a packet with more is not parsed.
const EXTENSIONS: usize = 6;
/// What has the form of an extension header and is none (a payload protocol that no one uses so).
const NONE: u8 = 59;

/// ICMPv6 types: multicast listener query, report, done; router solicitation, neighbour solicitation and
/// advertisement; version 2 reports (RFC 2710, RFC 4861, RFC 3810). Router advertisements and redirects are for
/// routers, which pods are not.
const CONTROL_TYPES: [u8; 7] = [130, 131, 132, 133, 135, 136, 143];

impl Frame {
    /// Nothing was read yet.
    pub const NONE: Self = Self {
        tuple: Tuple { source: [0; 16], destination: [0; 16], source_port: [0; 2], destination_port: [0; 2] },
        source: [0; 16],
        destination: [0; 16],
        mac: [0; 6],
        kind: Kind::Unparsed,
        protocol: 0,
        tcp_flags: 0,
        group: false,
        fragmented: false,
        fragment: [0; 4],
        ether_type: 0,
    };
}

/// Reads the headers; `tagged` says that the kernel has taken a VLAN tag off the frame.
#[inline(always)]
pub fn parse(octets: &impl Octets, tagged: bool, frame: &mut Frame) {
    *frame = Frame::NONE;
    let Some(ethernet) = octets.load::<ETHERNET>(0) else { return };
    frame.group = ethernet[0] & 1 != 0;
    frame.mac = [ethernet[6], ethernet[7], ethernet[8], ethernet[9], ethernet[10], ethernet[11]];
    frame.ether_type = u16::from_be_bytes([ethernet[12], ethernet[13]]);
    if tagged {
        return;
    }
    let parsed = match frame.ether_type {
        IPV4 => ipv4(octets, frame),
        IPV6 => ipv6(octets, frame),
        ARP => arp(octets, frame),
        _ => None,
    };
    if parsed.is_none() {
        frame.kind = Kind::Unparsed;
    }
}

#[inline(always)]
fn arp(octets: &impl Octets, frame: &mut Frame) -> Option<()> {
    let arp = octets.load::<28>(ETHERNET)?;
    // Ethernet, IPv4, 6 and 4 octets of address (RFC 826).
    if arp[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    // The sender in the frame and the sender that others will remember are to be the same.
    if arp[8..14] != frame.mac {
        return None;
    }
    mapped(&mut frame.tuple.source, [arp[14], arp[15], arp[16], arp[17]]);
    mapped(&mut frame.tuple.destination, [arp[24], arp[25], arp[26], arp[27]]);
    frame.source = frame.tuple.source;
    frame.destination = frame.tuple.destination;
    frame.kind = Kind::Arp;
    Some(())
}

/// RFC 4291 section 2.5.5.2.
#[inline(always)]
fn mapped(into: &mut [u8; 16], [a, b, c, d]: [u8; 4]) {
    *into = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d];
}

#[inline(always)]
fn ipv4(octets: &impl Octets, frame: &mut Frame) -> Option<()> {
    let header = octets.load::<20>(ETHERNET)?;
    let length = usize::from(header[0] & 15) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return None;
    }
    mapped(&mut frame.tuple.source, [header[12], header[13], header[14], header[15]]);
    mapped(&mut frame.tuple.destination, [header[16], header[17], header[18], header[19]]);
    frame.source = frame.tuple.source;
    frame.destination = frame.tuple.destination;
    frame.protocol = header[9];
    frame.fragment = [0, 0, header[4], header[5]];
    let offset = u16::from_be_bytes([header[6] & 0x1f, header[7]]);
    let more = header[6] & 0x20 != 0;
    if offset != 0 {
        return later(frame);
    }
    frame.fragmented = more;
    content(octets, frame, ETHERNET + length, false)
}

#[inline(always)]
fn ipv6(octets: &impl Octets, frame: &mut Frame) -> Option<()> {
    let header = octets.load::<40>(ETHERNET)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    frame.source.copy_from_slice(&header[8..24]);
    frame.destination.copy_from_slice(&header[24..40]);
    frame.tuple.source = frame.source;
    frame.tuple.destination = frame.destination;
    // IPv4 in the form of IPv6 is not for the wire (RFC 4291 section 2.5.5.2) and would be taken for IPv4.
    if is_mapped(&frame.source) || is_mapped(&frame.destination) {
        return None;
    }
    let mut next = header[6];
    let mut at = ETHERNET + 40;
    for _ in 0..EXTENSIONS {
        match next {
            // Hop-by-hop, routing, destination options; mobility, HIP and shim6 have the same form.
            0 | 43 | 60 | 135 | 139 | 140 => {
                let head = octets.load::<2>(at)?;
                next = head[0];
                at += usize::from(head[1]) * 8 + 8;
            }
            44 => {
                let head = octets.load::<8>(at)?;
                next = head[0];
                at += 8;
                frame.fragment = [head[4], head[5], head[6], head[7]];
                if u16::from_be_bytes([head[2], head[3]]) & 0xfff8 != 0 {
                    frame.protocol = next;
                    return later(frame);
                }
                frame.fragmented |= head[3] & 1 != 0;
            }
            _ => break,
        }
    }
    // More extension headers than were walked: what follows is not known.
    if matches!(next, 0 | 43 | 44 | 60 | 135 | 139 | 140) {
        return None;
    }
    frame.protocol = next;
    content(octets, frame, at, true)
}

#[inline(always)]
fn is_mapped(address: &[u8; 16]) -> bool {
    address[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
}

#[inline(always)]
fn later(frame: &mut Frame) -> Option<()> {
    let [a, b, c, d] = frame.fragment;
    frame.tuple.source_port = [a, b];
    frame.tuple.destination_port = [c, d];
    frame.kind = Kind::LaterFragment;
    Some(())
}

#[inline(always)]
fn content(octets: &impl Octets, frame: &mut Frame, at: usize, six: bool) -> Option<()> {
    match frame.protocol {
        TCP => {
            let head = octets.load::<14>(at)?;
            frame.tuple.source_port = [head[0], head[1]];
            frame.tuple.destination_port = [head[2], head[3]];
            frame.tcp_flags = head[13];
            frame.kind = Kind::Ports;
        }
        UDP | SCTP => {
            let head = octets.load::<8>(at)?;
            frame.tuple.source_port = [head[0], head[1]];
            frame.tuple.destination_port = [head[2], head[3]];
            frame.kind = if frame.protocol == UDP && dhcp(frame, six) { Kind::Control } else { Kind::Ports };
        }
        ICMP if !six => icmp(octets, frame, at, false)?,
        ICMPV6 if six => icmp(octets, frame, at, true)?,
        NONE if six => frame.kind = Kind::Other,
        _ => frame.kind = Kind::Other,
    }
    Some(())
}

/// From a client to the servers of its link (RFC 2131 section 4.1, RFC 9915 section 7).
#[inline(always)]
fn dhcp(frame: &Frame, six: bool) -> bool {
    let ports = [
        frame.tuple.source_port[0],
        frame.tuple.source_port[1],
        frame.tuple.destination_port[0],
        frame.tuple.destination_port[1],
    ];
    if six {
        ports == [2, 34, 2, 35] && link_scope(&frame.destination)
    } else {
        ports == [0, 68, 0, 67] && frame.destination[12..] == [255; 4]
    }
}

#[inline(always)]
fn icmp(octets: &impl Octets, frame: &mut Frame, at: usize, six: bool) -> Option<()> {
    let head = octets.load::<8>(at)?;
    let (request, reply) = if six { (128, 129) } else { (8, 0) };
    let error = if six { head[0] < 5 && head[0] > 0 } else { matches!(head[0], 3 | 4 | 5 | 11 | 12) };
    if head[0] == request {
        frame.tuple.source_port = [head[4], head[5]];
        frame.kind = Kind::Echo;
    } else if head[0] == reply {
        frame.tuple.destination_port = [head[4], head[5]];
        frame.kind = Kind::EchoReply;
    } else if error {
        frame.kind = Kind::OtherIcmp;
        // A quotation that cannot be read belongs to nothing that is known.
        let _ = quoted(octets, frame, at + 8, six);
    } else if six && CONTROL_TYPES.contains(&head[0]) {
        frame.kind = Kind::Control;
    } else {
        frame.kind = Kind::OtherIcmp;
    }
    Some(())
}

/// The packet that an error quotes, turned round.
#[inline(always)]
fn quoted(octets: &impl Octets, frame: &mut Frame, at: usize, six: bool) -> Option<()> {
    let read = if six { quoted_ipv6(octets, frame, at) } else { quoted_ipv4(octets, frame, at) };
    let Some((protocol, at)) = read else { return outer(frame) };
    let Some(head) = octets.load::<8>(at) else { return outer(frame) };
    match protocol {
        TCP | UDP | SCTP => {
            frame.tuple.destination_port = [head[0], head[1]];
            frame.tuple.source_port = [head[2], head[3]];
        }
        // An echo request that was quoted, turned round, is its answer; and the other way round.
        ICMP if !six && head[0] == 8 => frame.tuple.destination_port = [head[4], head[5]],
        ICMP if !six && head[0] == 0 => frame.tuple.source_port = [head[4], head[5]],
        ICMPV6 if six && head[0] == 128 => frame.tuple.destination_port = [head[4], head[5]],
        ICMPV6 if six && head[0] == 129 => frame.tuple.source_port = [head[4], head[5]],
        _ => return outer(frame),
    }
    frame.protocol = protocol;
    frame.kind = Kind::Error;
    Some(())
}

/// Its own ends again.
#[inline(always)]
fn outer(frame: &mut Frame) -> Option<()> {
    frame.tuple.source = frame.source;
    frame.tuple.destination = frame.destination;
    None
}

#[inline(always)]
fn quoted_ipv6(octets: &impl Octets, frame: &mut Frame, at: usize) -> Option<(u8, usize)> {
    let header = octets.load::<40>(at)?;
    frame.tuple.destination.copy_from_slice(&header[8..24]);
    frame.tuple.source.copy_from_slice(&header[24..40]);
    Some((header[6], at + 40))
}

#[inline(always)]
fn quoted_ipv4(octets: &impl Octets, frame: &mut Frame, at: usize) -> Option<(u8, usize)> {
    let header = octets.load::<20>(at)?;
    let length = usize::from(header[0] & 15) * 4;
    // Of a later fragment nothing is known.
    if length < 20 || u16::from_be_bytes([header[6] & 0x1f, header[7]]) != 0 {
        return None;
    }
    mapped(&mut frame.tuple.destination, [header[12], header[13], header[14], header[15]]);
    mapped(&mut frame.tuple.source, [header[16], header[17], header[18], header[19]]);
    Some((header[9], at + length))
}

/// `fe80::/10`.
#[inline(always)]
pub fn link_local(address: &[u8; 16]) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80
}

/// `ff02::/16`: all that are on the link and nobody beyond.
#[inline(always)]
pub fn link_scope(address: &[u8; 16]) -> bool {
    address[0] == 0xff && address[1] & 15 == 2
}

/// Multicast of either family, or IPv4's limited broadcast.
#[inline(always)]
pub fn multicast(address: &[u8; 16]) -> bool {
    address[0] == 0xff || is_mapped(address) && (address[12] & 0xf0 == 0xe0 || address[12..] == [255; 4])
}

/// `::` or `0.0.0.0`: the sender has no address yet.
#[inline(always)]
pub fn unspecified(address: &[u8; 16]) -> bool {
    *address == [0; 16] || is_mapped(address) && address[12..] == [0; 4]
}
