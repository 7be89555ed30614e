//! Selecting and copying. Each packet is counted once: skipped, lost or copied.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_skb_load_bytes};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuHashMap, RingBuf};
use aya_ebpf::programs::TcContext;
use sniffer_ebpf::select::{
    PORT_WORDS, PORTS_IN_WORD, PortPolicy, SIGHT_SKIPPED, SIGHT_TAKEN, Selection, flag, port_in,
};
use sniffer_ebpf::{
    CAPTURED_MAX, CHUNKS_MAX, Counters, Header, Hook, RING_OCTETS, TIERS, Tuple, VERSION, counter_key,
};

use crate::parse::{Content, Packet, TCP_ACK, TCP_SYN, parse};

#[map(name = "FS_RECORDS")]
static RECORDS: RingBuf = RingBuf::with_byte_size(RING_OCTETS, 0);
#[map(name = "FS_COUNTERS")]
static COUNTERS: PerCpuHashMap<u64, Counters> = PerCpuHashMap::with_max_entries(8_192, 0);
#[map(name = "FS_SELECT")]
static SELECT: Array<Selection> = Array::with_max_entries(1, 0);
#[map(name = "FS_PORTS")]
static PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);
#[map(name = "FS_ADDRESSES")]
static ADDRESSES: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(1_024, 1);
#[map(name = "FS_IGNORED")]
static IGNORED: LruHashMap<Tuple, u32> = LruHashMap::with_max_entries(32_768, 0);
#[map(name = "FS_LOCAL")]
static LOCAL: HashMap<u32, u32> = HashMap::with_max_entries(8_192, 0);
#[map(name = "FS_TRANSLATED")]
static TRANSLATED: LruHashMap<Tuple, u32> = LruHashMap::with_max_entries(32_768, 0);
#[map(name = "FS_SYNS")]
static SYNS: LruHashMap<u32, Tuple> = LruHashMap::with_max_entries(4_096, 0);

/// Counts a packet and copies it if it is selected.
#[inline(always)]
pub(crate) fn packet(context: &TcContext, hook: Hook) {
    // SAFETY: the context is the kernel's own; reading its fields is what the verifier checks.
    let skb = unsafe { &*context.skb.skb };
    let Some(counters) = counters(skb.ifindex, hook) else { return };
    counters.seen += 1;
    let Some(selection) = SELECT.get(0) else { return };
    if !selected(context, selection, hook, skb.ingress_ifindex) {
        counters.skipped += 1;
        return;
    }
    let header = Header {
        // SAFETY: helpers without arguments.
        boot_nanos: unsafe { bpf_ktime_get_boot_ns() },
        sequence: counters.lost + counters.copied + 1,
        wire_length: skb.len,
        captured_length: 0,
        offset: 0,
        interface: skb.ifindex,
        came_from: skb.ingress_ifindex,
        // SAFETY: as above.
        cpu: unsafe { bpf_get_smp_processor_id() } as u16,
        hook: hook as u8,
        version: VERSION,
    };
    let end = if skb.len < selection.snap_length { skb.len } else { selection.snap_length };
    let mut offset = 0;
    for _ in 0..CHUNKS_MAX {
        if offset >= end {
            break;
        }
        let mut length = end - offset;
        if length > CAPTURED_MAX {
            length = CAPTURED_MAX;
        }
        if !chunk(context, &header, offset, length, selection.wake_octets) {
            break;
        }
        offset += length;
    }
    if offset == 0 {
        counters.lost += 1;
        counters.lost_octets += u64::from(skb.len);
    } else {
        counters.copied += 1;
        counters.copied_octets += u64::from(offset);
        if offset < end {
            counters.cut += 1;
        }
    }
}

/// This CPU's counters; made here where userspace has not (the interface was renumbered under it).
#[inline(always)]
fn counters(interface: u32, hook: Hook) -> Option<&'static mut Counters> {
    let key = counter_key(interface, hook);
    let found = COUNTERS.get_ptr_mut(key).or_else(|| {
        let _ = COUNTERS.insert(key, Counters::default(), 0);
        COUNTERS.get_ptr_mut(key)
    })?;
    // SAFETY: a per-CPU value, and the program is not interrupted by itself: nobody else has it.
    Some(unsafe { &mut *found })
}

#[inline(always)]
fn selected(context: &TcContext, selection: &Selection, hook: Hook, came_from: u32) -> bool {
    let Some(Packet { tuple, content }) = parse(context) else { return false };
    if selection.flags & flag::ADDRESSES != 0
        && ADDRESSES.get(Key::new(128, tuple.source)).is_none()
        && ADDRESSES.get(Key::new(128, tuple.destination)).is_none()
    {
        return false;
    }
    let wanted = match content {
        Content::Tcp { flags, sequence, payload } => {
            let opening = flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
            // Whatever is not copied, the two sights of a connection are told apart from its first packet on.
            if !sight(&tuple, hook, came_from, opening, sequence) {
                return false;
            }
            selection.flags & flag::TCP != 0 && tcp(context, selection, &tuple, opening, payload)
        }
        Content::Udp => {
            selection.flags & flag::DNS != 0
                && (tuple.source_port == [0, 53] || tuple.destination_port == [0, 53])
                && first_sight(hook, came_from)
        }
        // Whose ports it has is not known here; userspace puts the datagram together and knows.
        Content::Fragment => first_sight(hook, came_from),
    };
    wanted
}

/// Whether this is not the second sight of a packet that was copied when it came in on a veth of this node.
#[inline(always)]
fn first_sight(hook: Hook, came_from: u32) -> bool {
    // SAFETY: the value is not used, only whether there is one.
    matches!(hook, Hook::Ingress) || unsafe { LOCAL.get(came_from) }.is_none()
}

/// Each transmission is taken once: where it comes in, or where it goes out when it came from elsewhere. Where the node
/// translates addresses (a Service), the two sights have different ends and would be two halves of two connections.
/// Then all is taken at the server's veth, which shows the real server. The two are recognised by their SYN: its
/// initial sequence number passes translation (RFC 9293 section 3.4.1: hardly another connection has it at that moment).
#[inline(always)]
fn sight(tuple: &Tuple, hook: Hook, came_from: u32, opening: bool, sequence: u32) -> bool {
    let ingress = matches!(hook, Hook::Ingress);
    if opening && ingress {
        let _ = SYNS.insert(sequence, *tuple, 0);
        let _ = TRANSLATED.remove(tuple);
        let _ = TRANSLATED.remove(tuple.reverse());
        return true;
    }
    let first = first_sight(hook, came_from);
    if opening && !first {
        // SAFETY: a copy; a concurrent replacement gives another SYN's ends, which then do not fit.
        let before = unsafe { SYNS.get(sequence) }.copied();
        if let Some(before) = before {
            if before != *tuple {
                let _ = TRANSLATED.insert(before, SIGHT_SKIPPED, 0);
                let _ = TRANSLATED.insert(before.reverse(), SIGHT_SKIPPED, 0);
                let _ = TRANSLATED.insert(*tuple, SIGHT_TAKEN, 0);
                let _ = TRANSLATED.remove(tuple.reverse());
            }
        }
    }
    // SAFETY: a number.
    match unsafe { TRANSLATED.get(tuple) } {
        Some(&SIGHT_TAKEN) => true,
        Some(_) => false,
        None => first,
    }
}

#[inline(always)]
fn tcp(context: &TcContext, selection: &Selection, tuple: &Tuple, opening: bool, payload: usize) -> bool {
    if selection.flags & flag::IGNORED != 0 {
        if opening {
            let _ = IGNORED.remove(tuple);
            let _ = IGNORED.remove(tuple.reverse());
        // SAFETY: the value is not used, only whether there is one.
        } else if unsafe { IGNORED.get(tuple) }.is_some() {
            return false;
        }
    }
    let (a, b) = (port_policy(tuple.source_port), port_policy(tuple.destination_port));
    let mut policy = if a > b { a } else { b };
    if policy == PortPolicy::Other as u32 {
        policy = selection.other_ports;
    }
    if policy == PortPolicy::ClientHello as u32 {
        // A TLS record of type handshake that holds a ClientHello (RFC 8446 sections 5.1 and 4).
        return context
            .load::<[u8; 6]>(payload)
            .is_ok_and(|head| head[0] == 22 && head[1] == 3 && head[5] == 1);
    }
    policy == PortPolicy::Everything as u32
}

#[inline(always)]
fn port_policy(port: [u8; 2]) -> u32 {
    let port = u16::from_be_bytes(port);
    PORTS.get(u32::from(port) / PORTS_IN_WORD).map_or(0, |word| port_in(*word, port))
}

/// A record in the ring buffer.
#[repr(C)]
struct Record<const N: usize> {
    header: Header,
    packet: [u8; N],
}

/// Copies `length` octets from `offset` in the smallest tier that holds them. False when there was no room.
#[inline(always)]
fn chunk(context: &TcContext, header: &Header, offset: u32, length: u32, wake_octets: u32) -> bool {
    macro_rules! tier {
        ($($tier:literal)*) => {
            $(if length <= TIERS[$tier] {
                return record::<{ TIERS[$tier] as usize }>(context, header, offset, length, wake_octets);
            })*
        };
    }
    tier!(0 1 2 3 4 5);
    false
}

#[inline(always)]
fn record<const N: usize>(
    context: &TcContext,
    header: &Header,
    offset: u32,
    length: u32,
    wake_octets: u32,
) -> bool {
    // What the callers know, the verifier wants to see: 1 to N octets. The compiler must not know it, or it takes the
    // check out. A comparison with 0 tells verifiers before Linux 6.3 nothing, so one less is compared, and one added. In
    // 64 bits, because before Linux 5.16 the verifier forgets what it knew of narrower numbers on the stack.
    let less = core::hint::black_box(u64::from(length).wrapping_sub(1));
    if less >= N as u64 {
        return false;
    }
    let length = (less + 1) as u32;
    let Some(mut entry) = RECORDS.reserve::<Record<N>>(0) else { return false };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is as large as the record; the rest of the tier stays as it is and is never read.
    let loaded = unsafe {
        (*record).header = Header { captured_length: length, offset, ..*header };
        bpf_skb_load_bytes(context.as_ptr(), offset, (&raw mut (*record).packet).cast::<c_void>(), length)
    };
    if loaded != 0 {
        entry.discard(u64::from(BPF_RB_NO_WAKEUP));
        return false;
    }
    // Once when the line is crossed, not for each packet beyond it.
    let waiting = RECORDS.query(u64::from(BPF_RB_AVAIL_DATA));
    let line = u64::from(wake_octets);
    let crossed = waiting >= line && waiting < line + core::mem::size_of::<Record<N>>() as u64 + 8;
    entry.submit(u64::from(if crossed { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }));
    true
}
