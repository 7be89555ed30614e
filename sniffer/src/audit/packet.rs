//! What of a packet an audit looks at: which attempt it belongs to, and what it says of another.

use std::net::IpAddr;

use crate::flow::datagram::{Datagram, quoted};
use crate::policy::compiled::{SCTP, TCP, UDP};

pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;

/// The two ends of an attempt, as its first packet has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    /// The source port, or an echo's identifier.
    pub(super) from: u16,
    /// The destination port; the type of an ICMP message that is no echo.
    pub(super) to: u16,
}

impl Key {
    /// The other direction.
    pub(super) fn reverse(self) -> Self {
        let Self { source, destination, protocol, from, to } = self;
        match protocol {
            // The answer to an echo has the same identifier.
            ICMP | ICMPV6 => Self { source: destination, destination: source, protocol, from, to },
            _ => Self { source: destination, destination: source, protocol, from: to, to: from },
        }
    }

    /// The destination port of a protocol that has ports.
    pub(super) fn port(&self) -> Option<u16> {
        matches!(self.protocol, TCP | UDP | SCTP).then_some(self.to)
    }
}

/// What a packet is, for an audit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    /// Begins a connection: a SYN, with its sequence number.
    Opening(u32),
    /// A segment of a connection, its payload and whether it resets.
    Segment { reset: bool, payload: &'a [u8] },
    /// A UDP datagram's payload.
    Udp(&'a [u8]),
    /// An echo request.
    Echo,
    /// An echo reply.
    EchoReply,
    /// An error about another packet.
    Error(Quote<'a>),
    /// A message of the network itself (neighbour discovery, group membership): no policy is about it.
    Housekeeping,
    /// Anything else: another ICMP type, another protocol, a later fragment.
    Other,
}

/// An ICMP error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote<'a> {
    /// Its type and code.
    pub(super) kind: (u8, u8),
    /// What it quotes.
    pub(super) inner: Datagram<'a>,
}

/// Reads a packet's transport header. `None` where it is cut before its ports.
pub(super) fn read<'a>(packet: &Datagram<'a>) -> Option<(Key, Kind<'a>)> {
    let Datagram { source, destination, protocol, payload, .. } = *packet;
    let key = |from: u16, to: u16| Key { source, destination, protocol, from, to };
    if packet.later_fragment {
        return Some((key(0, 0), Kind::Other));
    }
    Some(match protocol {
        TCP => {
            let [s0, s1, d0, d1, q0, q1, q2, q3, rest @ ..] = payload else { return None };
            let key = key(u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1]));
            // Errors quote no more than eight octets of it.
            let Some(flags) = rest.get(5) else { return Some((key, Kind::Other)) };
            let offset = rest.get(4).map_or(0, |offset| usize::from(offset >> 4).saturating_mul(4));
            if flags & 0x12 == 0x02 {
                return Some((key, Kind::Opening(u32::from_be_bytes([*q0, *q1, *q2, *q3]))));
            }
            let payload = payload.get(offset..).unwrap_or_default();
            (key, Kind::Segment { reset: flags & 0x04 != 0, payload })
        }
        UDP | SCTP => {
            let [s0, s1, d0, d1, ..] = payload else { return None };
            let key = key(u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1]));
            let kind = if protocol == UDP { Kind::Udp(payload.get(8..).unwrap_or_default()) } else { Kind::Other };
            (key, kind)
        }
        ICMP | ICMPV6 => {
            let [kind, code, _, _, i0, i1, ..] = payload else { return None };
            let identifier = u16::from_be_bytes([*i0, *i1]);
            match (protocol, *kind) {
                (ICMP, 8) | (ICMPV6, 128) => (key(identifier, 0), Kind::Echo),
                (ICMP, 0) | (ICMPV6, 129) => (key(identifier, 0), Kind::EchoReply),
                (ICMP, 3 | 5 | 11 | 12) | (ICMPV6, 1..=4) => {
                    let inner = quoted(payload.get(8..)?)?;
                    (key(0, u16::from(*kind)), Kind::Error(Quote { kind: (*kind, *code), inner }))
                }
                (ICMPV6, 130..=137 | 141..=143 | 151..=153) | (ICMP, 9 | 10) => {
                    (key(0, u16::from(*kind)), Kind::Housekeeping)
                }
                (_, other) => (key(0, u16::from(other)), Kind::Other),
            }
        }
        // IGMP: group membership.
        2 => (key(0, 0), Kind::Housekeeping),
        _ => (key(0, 0), Kind::Other),
    })
}
