//! The programs that deny. They decide by [`sniffer_ebpf::verdict`], tell what they decided in a ring buffer, count, and
//! return `TC_ACT_UNSPEC` for what passes, so that whatever is attached after them runs, or `TC_ACT_SHOT`. Of what passes
//! they change only the priority, which tells the next hook what this one has checked.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// The helpers of the kernel are unsafe functions; the verifier checks what the compiler cannot.
#![allow(unsafe_code)]

#[cfg(target_arch = "bpf")]
mod programs {
    #![allow(unreachable_pub)] // The macros need it; the loader finds the programs by their symbols.

    use aya_ebpf::bindings::{BPF_ANY, TC_ACT_SHOT, TC_ACT_UNSPEC};
    use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
    use aya_ebpf::macros::{classifier, map};
    use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
    use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};
    use aya_ebpf::programs::TcContext;
    use sniffer_ebpf::deny::{
        CHUNKS_TOTAL, Chunk, ChunkKey, Config, Counts, ENDPOINTS_MAX, EVENT_VERSION, EVENTS_OCTETS, Endpoint,
        EndpointKey, Event, FLOWS_MAX, Flow, FlowKey, Hook, Mode, PREFIXES_MAX, REASONS, Reason, SET_KEY,
        TOLD_EVERY, TOLD_MOST, Told, ToldKey, VETHS_MAX, Veth, set_key,
    };
    use sniffer_ebpf::verdict::{Here, TOKEN_DONE, TOKEN_FORWARD, Work, World, decide};
    use sniffer_ebpf::wire::{Frame, Octets, parse};

    /// Entries are made when they are needed (`BPF_F_NO_PREALLOC`).
    const ON_DEMAND: u32 = 1;

    #[map(name = "FD_ACTIVE")]
    static ACTIVE: Array<u32> = Array::with_max_entries(1, 0);
    #[map(name = "FD_CONFIG")]
    static CONFIG: Array<Config> = Array::with_max_entries(2, 0);
    #[map(name = "FD_ENDPOINTS")]
    static ENDPOINTS: HashMap<EndpointKey, Endpoint> = HashMap::with_max_entries(ENDPOINTS_MAX, ON_DEMAND);
    #[map(name = "FD_SETS")]
    static SETS: LpmTrie<[u8; SET_KEY], u32> = LpmTrie::with_max_entries(PREFIXES_MAX, ON_DEMAND);
    #[map(name = "FD_PORTS")]
    static PORTS: HashMap<ChunkKey, Chunk> = HashMap::with_max_entries(CHUNKS_TOTAL, ON_DEMAND);
    #[map(name = "FD_VETHS")]
    static VETHS: HashMap<u32, Veth> = HashMap::with_max_entries(VETHS_MAX, 0);
    #[map(name = "FD_FLOWS")]
    static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(FLOWS_MAX, 0);
    #[map(name = "FD_EVENTS")]
    static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_OCTETS, 0);
    #[map(name = "FD_TOLD")]
    static TOLD: LruHashMap<ToldKey, Told> = LruHashMap::with_max_entries(16_384, 0);
    #[map(name = "FD_COUNTS")]
    static COUNTS: PerCpuHashMap<u32, Counts> = PerCpuHashMap::with_max_entries(VETHS_MAX, ON_DEMAND);

    /// Two updates while one packet is decided do not happen; should they, it is dropped.
    const TRIES: u32 = 2;

    /// Room to work in: more than the 512 octets of stack.
    #[repr(C)]
    struct Room {
        work: Work,
        endpoint: EndpointKey,
        peer: Key<[u8; SET_KEY]>,
        told: ToldKey,
    }

    #[map(name = "FD_ROOM")]
    static ROOM: PerCpuArray<Room> = PerCpuArray::with_max_entries(1, 0);

    /// [`sniffer_ebpf::deny::PROGRAM_FROM_POD`].
    #[classifier]
    pub fn fd_from_pod(context: TcContext) -> i32 {
        run(&context, Hook::FromPod)
    }

    /// [`sniffer_ebpf::deny::PROGRAM_BRIDGE`].
    #[classifier]
    pub fn fd_bridge(context: TcContext) -> i32 {
        run(&context, Hook::Bridge)
    }

    /// [`sniffer_ebpf::deny::PROGRAM_TO_POD`].
    #[classifier]
    pub fn fd_to_pod(context: TcContext) -> i32 {
        run(&context, Hook::ToPod)
    }

    struct Packet<'c>(&'c TcContext);

    impl Octets for Packet<'_> {
        #[inline(always)]
        fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
            self.0.load::<[u8; N]>(at).ok()
        }
    }

    /// The maps, in the slot that counts.
    struct Maps {
        endpoint: *mut EndpointKey,
        peer: *mut Key<[u8; SET_KEY]>,
    }

    impl World for Maps {
        #[inline(always)]
        fn endpoint(&self, address: &[u8; 16], into: &mut Endpoint) {
            // SAFETY: the room is this run's alone. Userspace writes a slot only while it does not count.
            let found = unsafe {
                (*self.endpoint).address = *address;
                ENDPOINTS.get(&*self.endpoint)
            };
            *into = found.copied().unwrap_or(Endpoint::NONE);
        }

        #[inline(always)]
        fn ports(&self, set: u32, address: &[u8; 16]) -> Option<u32> {
            // SAFETY: as above.
            unsafe {
                *self.peer = Key::new(32 + 128, set_key(set, address));
                SETS.get(&*self.peer).copied()
            }
        }

        #[inline(always)]
        fn chunk(&self, key: &ChunkKey) -> Option<&Chunk> {
            // SAFETY: a port list is never changed once a slot that counts leads to it.
            unsafe { PORTS.get(key) }
        }

        #[inline(always)]
        fn veth(&self, interface: u32, into: &mut Veth) {
            // SAFETY: a mixture of an old and a new value of one veth denies, as it names no pod's address.
            *into = unsafe { VETHS.get(interface) }.copied().unwrap_or(Veth::NONE);
        }

        #[inline(always)]
        fn flow(&self, key: &FlowKey, into: &mut Flow) -> bool {
            // SAFETY: an entry that is used again for another flow meanwhile has that one's generation and end: at worst
            // one packet is taken for a part of a flow that another has, once.
            let found = unsafe { FLOWS.get(key) };
            if let Some(flow) = found {
                *into = *flow;
            }
            found.is_some()
        }

        #[inline(always)]
        fn remember(&self, key: &FlowKey, flow: &Flow) {
            let _ = FLOWS.insert(key, flow, u64::from(BPF_ANY));
        }

        #[inline(always)]
        fn now(&self) -> u64 {
            // SAFETY: a helper without arguments.
            unsafe { bpf_ktime_get_boot_ns() }
        }
    }

    #[inline(always)]
    fn run(context: &TcContext, hook: Hook) -> i32 {
        let skb = context.skb.skb;
        // SAFETY: the context is the kernel's own; reading its fields is what the verifier checks.
        let (interface, came_from, token, tagged, length) = unsafe {
            ((*skb).ifindex, (*skb).ingress_ifindex, (*skb).priority, (*skb).vlan_present != 0, (*skb).len)
        };
        let Some(config) = CONFIG.get(active() & 1) else { return TC_ACT_UNSPEC };
        if config.mode == Mode::Off as u32 {
            hand_on(context, hook, token, Reason::Off);
            return TC_ACT_UNSPEC;
        }
        let Some(room) = ROOM.get_ptr_mut(0) else { return TC_ACT_SHOT };
        // SAFETY: a per-CPU value, and no program of these is interrupted by another: they run with softirqs disabled. Each
        // of its parts is used through one reference.
        let (work, told, world) = unsafe {
            let world = Maps { endpoint: &raw mut (*room).endpoint, peer: &raw mut (*room).peer };
            (&mut (*room).work, &mut (*room).told, world)
        };
        read(context, tagged, &mut work.frame);
        // While it decided, the generation may have ended, and userspace may have begun to write the next but one into the
        // slot that was read. Then nothing of that holds.
        let mut settled = false;
        for _ in 0..TRIES {
            let generation = active();
            let Some(config) = CONFIG.get(generation & 1) else { break };
            // SAFETY: as above.
            unsafe { (*room).endpoint.slot = generation & 1 };
            work.here = Here { hook, interface, came_from, token, generation };
            work.config = *config;
            decide(&world, work);
            settled = active() == generation;
            if settled {
                break;
            }
        }
        if !settled {
            return TC_ACT_SHOT;
        }
        let denied = work.outcome.reason.denies();
        let dropped = denied && work.config.mode == Mode::Deny as u32;
        let counts = count(interface, work.outcome.reason, dropped);
        if denied || work.outcome.first {
            tell(counts, told, work, dropped, length);
        }
        if dropped {
            return TC_ACT_SHOT;
        }
        hand_on(context, hook, token, work.outcome.reason);
        TC_ACT_UNSPEC
    }

    /// The generation that counts now, which another CPU may change.
    #[inline(always)]
    fn active() -> u32 {
        // SAFETY: the map's only word; it is written whole.
        ACTIVE.get_ptr(0).map_or(0, |word| unsafe { word.read_volatile() })
    }

    /// A step of its own: whatever was read, the verifier goes on from here once.
    #[inline(never)]
    fn read(context: &TcContext, tagged: bool, frame: &mut Frame) {
        parse(&Packet(context), tagged, frame);
    }

    /// Tells the next hook what has been checked; the last one takes that off.
    #[inline(always)]
    fn hand_on(context: &TcContext, hook: Hook, token: u32, reason: Reason) {
        let next = match hook {
            Hook::FromPod if matches!(reason, Reason::Reply | Reason::Control) || reason.denies() => {
                TOKEN_DONE
            }
            Hook::FromPod => TOKEN_FORWARD,
            _ if token == TOKEN_FORWARD || token == TOKEN_DONE => 0,
            _ => return,
        };
        // SAFETY: the field may be written (`tc_cls_act_is_valid_access`).
        unsafe { (*context.skb.skb).priority = next };
    }

    #[inline(always)]
    fn count(interface: u32, reason: Reason, dropped: bool) -> Option<&'static mut Counts> {
        let counts = COUNTS.get_ptr_mut(interface)?;
        // SAFETY: a per-CPU value, and the program is not interrupted by itself: nobody else has it.
        let counts = unsafe { &mut *counts };
        counts.seen += 1;
        counts.dropped += u64::from(dropped);
        // The compiler knows the numbers of reasons and would take the bound out; the verifier does not.
        let reason = core::hint::black_box(reason as usize);
        if reason < REASONS {
            counts.reasons[reason] += 1;
        }
        Some(counts)
    }

    /// Tells, unless the like was told a moment ago or the interface has told enough.
    #[inline(always)]
    fn tell(counts: Option<&'static mut Counts>, key: &mut ToldKey, work: &Work, dropped: bool, length: u32) {
        let Some(counts) = counts else { return };
        let frame = &work.frame;
        // SAFETY: a helper without arguments.
        let now = unsafe { bpf_ktime_get_boot_ns() };
        key.peer = if work.here.hook as u8 == Hook::ToPod as u8 { frame.source } else { frame.destination };
        key.interface = work.here.interface;
        key.port = frame.tuple.destination_port;
        key.protocol = frame.protocol;
        key.reason = work.outcome.reason as u8;
        let mut untold = 0;
        if let Some(told) = TOLD.get_ptr_mut(&*key) {
            // SAFETY: two words; a race of two CPUs miscounts what is not told by one, or tells twice.
            let told = unsafe { &mut *told };
            if now < told.at + TOLD_EVERY {
                told.untold += 1;
                return;
            }
            untold = told.untold as u32;
        }
        if now >= counts.second + TOLD_EVERY {
            counts.second = now;
            counts.told = 0;
        }
        if counts.told >= u64::from(TOLD_MOST) {
            counts.untold += 1;
            return;
        }
        let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
            counts.lost += 1;
            return;
        };
        counts.told += 1;
        let event = entry.as_mut_ptr();
        // SAFETY: the reservation is as large as an event, and each of its fields is written.
        unsafe {
            (*event).boot_nanos = now;
            (*event).pod = work.outcome.pod;
            (*event).tuple.source = frame.source;
            (*event).tuple.destination = frame.destination;
            (*event).tuple.source_port = frame.tuple.source_port;
            (*event).tuple.destination_port = frame.tuple.destination_port;
            (*event).interface = work.here.interface;
            (*event).generation = work.here.generation;
            (*event).length = length;
            (*event).untold = untold;
            (*event).ether_type = frame.ether_type;
            (*event).protocol = frame.protocol;
            (*event).hook = work.here.hook as u8;
            (*event).reason = work.outcome.reason as u8;
            (*event).dropped = u8::from(dropped);
            (*event).version = EVENT_VERSION;
            (*event).reserved = [0; 5];
        }
        entry.submit(0);
        let _ = TOLD.insert(&*key, Told { at: now, untold: 0 }, u64::from(BPF_ANY));
    }

    /// Some helpers are for programs under the GPL; this one is also under the project's own licence.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        // Nothing here panics: the verifier would refuse this loop.
        loop {}
    }
}

/// On the host there is nothing to run; the workspace builds and lints all the same.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
