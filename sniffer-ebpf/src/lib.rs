//! What both sides of the kernel know: the layout of a captured record, the names of the maps, the limits.
//!
//! The programs (copying on the pods' veths, denying at the bridge) come with the next issue; they and userspace share
//! this library so that the two, which are compiled apart, cannot disagree. It has no dependency and no allocation.
#![no_std]
#![forbid(unsafe_code)]

pub mod decode;

/// The ring buffer that carries records, one per node.
pub const MAP_RECORDS: &str = "FEDISNIFF_RECORDS";
/// Per-CPU counters of what was copied and what was lost, keyed by interface index.
pub const MAP_COUNTERS: &str = "FEDISNIFF_COUNTERS";
/// Which ports, addresses and protocols are copied.
pub const MAP_SELECT: &str = "FEDISNIFF_SELECT";

/// Sizes, in octets of packet, that the kernel side reserves in the ring buffer. A ring-buffer reservation needs a size
/// that the verifier knows, so a packet takes the smallest tier that holds it; the last one holds a whole GSO
/// super-packet (64 KiB and its headers, `GSO_LEGACY_MAX_SIZE`). What is longer (BIG TCP) is cut and counted.
pub const TIERS: [u32; 5] = [256, 1_536, 4_096, 16_384, 65_536 + 256];

/// The most octets of one packet that a record carries.
pub const CAPTURED_MAX: u32 = TIERS[TIERS.len() - 1];

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
    /// Counts the records of this CPU, lost ones included: a jump is a loss.
    pub sequence: u64,
    /// Octets of the packet on the wire (`skb->len`).
    pub wire_length: u32,
    /// Octets that follow this header.
    pub captured_length: u32,
    /// Index of the interface (`skb->ifindex`).
    pub interface: u32,
    /// The CPU that copied it.
    pub cpu: u16,
    /// [`Hook`] as a number.
    pub hook: u8,
    /// Layout version, so that an agent that adopts an older pinned program knows.
    pub version: u8,
}

/// The layout that this library describes.
pub const VERSION: u8 = 1;

/// Octets of [`Header`].
pub const HEADER_LENGTH: usize = 32;

const _: () = assert!(core::mem::size_of::<Header>() == HEADER_LENGTH);
const _: () = assert!(core::mem::align_of::<Header>() == 8);
