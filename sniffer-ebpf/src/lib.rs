//! What both sides of the kernel know: the layout of a captured record, the names and values of the maps, the limits.
//!
//! The programs (`main.rs`, copying on the pods' veths) and userspace share this library so that the two, which are
//! compiled apart, cannot disagree. It has no dependency and no allocation.
#![no_std]
#![forbid(unsafe_code)]

pub mod decode;
pub mod deny;
pub mod select;
pub mod verdict;
pub mod wire;

/// The program for packets that come in on an interface: sent by the pod behind a host-side veth.
pub const PROGRAM_INGRESS: &str = "fs_ingress";
/// The program for packets that go out on an interface: to the pod.
pub const PROGRAM_EGRESS: &str = "fs_egress";

/// The ring buffer that carries records, one per node.
pub const MAP_RECORDS: &str = "FS_RECORDS";
/// Per-CPU [`Counters`] of what was seen, copied and lost, by [`counter_key`].
pub const MAP_COUNTERS: &str = "FS_COUNTERS";
/// One [`select::Selection`]: what is copied.
pub const MAP_SELECT: &str = "FS_SELECT";
/// Two bits for each TCP port: [`select::PortPolicy`].
pub const MAP_PORTS: &str = "FS_PORTS";
/// Longest-prefix trie of the addresses that are copied (IPv4 as `::ffff:a.b.c.d`), where the selection asks for it.
pub const MAP_ADDRESSES: &str = "FS_ADDRESSES";
/// TCP connections (both orientations of [`Tuple`]) that turned out to carry something else than HTTP.
pub const MAP_IGNORED: &str = "FS_IGNORED";
/// Interfaces whose packets are copied when they come in, and the bridges above them: what comes from there is not
/// copied a second time on its way out.
pub const MAP_LOCAL: &str = "FS_LOCAL";
/// Connections whose addresses the node translates, by [`Tuple`]: which of the two sights of a packet is taken.
pub const MAP_TRANSLATED: &str = "FS_TRANSLATED";
/// The SYNs of a moment ago by their initial sequence number, which translation leaves as it is.
pub const MAP_SYNS: &str = "FS_SYNS";

/// Sizes, in octets of packet, that the kernel side reserves in the ring buffer. A ring-buffer reservation needs a size
/// that the verifier knows, so a packet takes the smallest tier that holds it; the last one holds a whole GSO
/// super-packet (64 KiB and its headers, `GSO_LEGACY_MAX_SIZE`). A longer packet (BIG TCP) takes several records.
pub const TIERS: [u32; 6] = [128, 512, 1_536, 4_096, 16_384, 65_536 + 256];

/// The most octets of one packet that a record carries.
pub const CAPTURED_MAX: u32 = TIERS[TIERS.len() - 1];

/// The most records that one packet takes: enough for `gso_max_size` as far as the kernel lets it grow (512 KiB,
/// `GSO_MAX_SIZE` of 8 × 65,535) and its headers.
pub const CHUNKS_MAX: u32 = 8;

/// Octets of ring buffer without a reader; the loader sets the size that the user wants.
pub const RING_OCTETS: u32 = 64 << 20;

/// The hook that copied the packet, seen from the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Hook {
    /// Came in on the interface: sent by the pod behind a host-side veth.
    Ingress = 0,
    /// Went out on the interface: to the pod.
    Egress = 1,
}

/// What stands in front of a packet's octets in a record. Multi-octet fields are in the machine's own order: both
/// sides are the same machine. No padding: the size is asserted, and so is every offset's alignment by the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Header {
    /// Nanoseconds of `CLOCK_BOOTTIME` (`bpf_ktime_get_boot_ns`); userspace adds the offset to the wall clock.
    pub boot_nanos: u64,
    /// Counts the packets that this CPU selected on this interface and hook, from 1, lost ones included: a jump is a
    /// loss. All records of one packet have the same.
    pub sequence: u64,
    /// Octets of the packet on the wire (`skb->len`).
    pub wire_length: u32,
    /// Octets that follow this header.
    pub captured_length: u32,
    /// Where in the packet they begin: 0, or a multiple of [`CAPTURED_MAX`] in a packet that takes several records.
    pub offset: u32,
    /// Index of the interface (`skb->ifindex`).
    pub interface: u32,
    /// Index of the interface where the packet came in (`skb->ingress_ifindex`); 0 when the node itself made it.
    pub came_from: u32,
    /// The CPU that copied it.
    pub cpu: u16,
    /// [`Hook`] as a number.
    pub hook: u8,
    /// Layout version, so that an agent that adopts an older pinned program knows.
    pub version: u8,
}

/// The layout that this library describes.
pub const VERSION: u8 = 2;

/// Octets of [`Header`].
pub const HEADER_LENGTH: usize = 40;

const _: () = assert!(core::mem::size_of::<Header>() == HEADER_LENGTH);
const _: () = assert!(core::mem::align_of::<Header>() == 8);

/// What one CPU counted on one hook of one interface. Each packet is in `seen`, and in just one of `skipped`, `lost`,
/// `copied`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Counters {
    /// Packets that reached the hook.
    pub seen: u64,
    /// Of these, not selected.
    pub skipped: u64,
    /// Selected, and not copied: the ring buffer was full, or the kernel would not give the octets.
    pub lost: u64,
    /// Octets of the lost packets.
    pub lost_octets: u64,
    /// Copied to the ring buffer, whole or in part.
    pub copied: u64,
    /// Octets of them that were copied.
    pub copied_octets: u64,
    /// Of the copied, those of which the ring buffer could not take the rest, or that are longer than
    /// [`CHUNKS_MAX`] records.
    pub cut: u64,
}

/// [`Counters`] as userspace reads them.
pub const COUNTERS: usize = 7;

const _: () = assert!(core::mem::size_of::<Counters>() == COUNTERS * 8);

impl Counters {
    /// From the map's words.
    pub fn from_words(words: [u64; COUNTERS]) -> Self {
        let [seen, skipped, lost, lost_octets, copied, copied_octets, cut] = words;
        Self { seen, skipped, lost, lost_octets, copied, copied_octets, cut }
    }

    /// This and `other` together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            seen: self.seen.wrapping_add(other.seen),
            skipped: self.skipped.wrapping_add(other.skipped),
            lost: self.lost.wrapping_add(other.lost),
            lost_octets: self.lost_octets.wrapping_add(other.lost_octets),
            copied: self.copied.wrapping_add(other.copied),
            copied_octets: self.copied_octets.wrapping_add(other.copied_octets),
            cut: self.cut.wrapping_add(other.cut),
        }
    }
}

/// The key of [`MAP_COUNTERS`].
pub const fn counter_key(interface: u32, hook: Hook) -> u64 {
    (interface as u64) << 1 | hook as u64
}

/// One direction of a TCP connection. IPv4 addresses are `::ffff:a.b.c.d`; ports are in network order, as in the packet.
/// Aligned, so that it is copied in words: the kernel's machine has no unaligned ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(4))]
pub struct Tuple {
    /// IP source.
    pub source: [u8; 16],
    /// IP destination.
    pub destination: [u8; 16],
    /// TCP source port.
    pub source_port: [u8; 2],
    /// TCP destination port.
    pub destination_port: [u8; 2],
}

/// Octets of [`Tuple`].
pub const TUPLE_LENGTH: usize = 36;

const _: () = assert!(core::mem::size_of::<Tuple>() == TUPLE_LENGTH);

impl Tuple {
    /// The other direction.
    #[must_use]
    pub const fn reverse(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }

    /// The map key's octets.
    pub fn to_octets(&self) -> [u8; TUPLE_LENGTH] {
        let mut octets = [0; TUPLE_LENGTH];
        let (source, rest) = octets.split_at_mut(16);
        source.copy_from_slice(&self.source);
        let (destination, ports) = rest.split_at_mut(16);
        destination.copy_from_slice(&self.destination);
        let [a, b] = self.source_port;
        let [c, d] = self.destination_port;
        ports.copy_from_slice(&[a, b, c, d]);
        octets
    }
}
