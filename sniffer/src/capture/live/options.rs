//! What is watched and copied, as the command line says it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use sniffer_ebpf::select::{PortPolicy, Selection, flag};

use super::{Interfaces, Sweeper};

/// Ports whose connections are TLS: only the ClientHello is copied, which names the server.
pub const TLS_PORTS: [u16; 2] = [443, 8443];

/// What to watch, and what to copy of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The interfaces.
    pub interfaces: Interfaces,
    /// TCP ports that say otherwise than `other_ports`.
    pub ports: Vec<(u16, PortPolicy)>,
    /// What is copied of all other TCP ports.
    pub other_ports: PortPolicy,
    /// Whether UDP port 53 is copied.
    pub dns: bool,
    /// Only packets from or to these; all when empty.
    pub addresses: Vec<Network>,
    /// At most this many octets of each packet.
    pub snap_length: u32,
    /// Octets of the ring buffer in the kernel: a power of two, at least a page.
    pub ring_octets: u32,
    /// Octets that may wait for the decoding thread. Beyond it frames are dropped and counted.
    pub queue_octets: usize,
    /// How to attach; `None` for TCX where the kernel has it.
    pub attach_by: Option<AttachBy>,
    /// How this program is started as the process beside, which removes what a killed one leaves where programs are
    /// attached by clsact: it calls [`super::sweep_after`]. Without one, the next start removes it.
    pub sweeper: Option<Sweeper>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interfaces: Interfaces::default(),
            ports: TLS_PORTS.iter().map(|port| (*port, PortPolicy::ClientHello)).collect(),
            other_ports: PortPolicy::Everything,
            dns: true,
            addresses: Vec::new(),
            snap_length: u32::MAX,
            ring_octets: 32 << 20,
            queue_octets: 16 << 20,
            attach_by: None,
            sweeper: None,
        }
    }
}

impl Options {
    pub(super) fn selection(&self) -> Selection {
        let when = |condition, flag| if condition { flag } else { 0 };
        Selection {
            flags: flag::TCP
                | flag::IGNORED
                | when(self.dns, flag::DNS)
                | when(!self.addresses.is_empty(), flag::ADDRESSES),
            other_ports: self.other_ports as u32,
            snap_length: self.snap_length,
            // The reader looks by itself every few milliseconds. Where that is not enough it is woken in time.
            wake_octets: self.ring_octets / 4,
        }
    }
}

/// How programs are attached to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachBy {
    /// TCX (kernel 6.6 and later): the link ends with the process.
    Tcx,
    /// A clsact qdisc with direct-action filters: what a killed process leaves is removed by a process beside it.
    Clsact,
}

impl fmt::Display for AttachBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "TCX",
            Self::Clsact => "clsact",
        })
    }
}

/// An address with the length of its prefix, as `10.42.0.0/16`, or one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// The length within the address as [`Self::octets`] has it.
    pub(super) fn prefix_length(&self) -> u32 {
        u32::from(self.length) + if self.address.is_ipv4() { 96 } else { 0 }
    }

    /// As IPv6; IPv4 is mapped (RFC 4291 section 2.5.5.2).
    pub(super) fn octets(&self) -> [u8; 16] {
        match self.address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("`{address}` is no IP address; write it as 10.42.0.0/16 or fd00:42::/64"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= most)
                .ok_or_else(|| format!("`/{length}` is no prefix length of {address}: 0 to {most}"))?,
        };
        Ok(Self { address, length })
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]
mod tests {
    use super::Network;

    #[test]
    fn networks_are_read_and_what_is_none_is_refused_with_the_reason() {
        let network = |text: &str| text.parse::<Network>().map(|n| (n.prefix_length(), n.octets()));
        let mapped = |last: [u8; 4]| {
            let mut octets = [0; 16];
            octets[10..12].fill(255);
            octets[12..].copy_from_slice(&last);
            octets
        };
        assert_eq!(network("10.42.0.0/16"), Ok((112, mapped([10, 42, 0, 0]))));
        assert_eq!(network("10.42.0.7"), Ok((128, mapped([10, 42, 0, 7]))));
        assert_eq!(network("fd00:42::/64").map(|n| n.0), Ok(64));
        assert!(network("10.42.0.0/33").is_err_and(|e| e.contains("0 to 32")));
        assert!(network("gts1").is_err_and(|e| e.contains("no IP address")));
    }
}
