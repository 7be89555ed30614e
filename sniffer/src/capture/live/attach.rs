//! The programs in the kernel, and where they are attached.

use std::collections::BTreeMap;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use aya::maps::{Array, HashMap as BpfHashMap, LpmTrie, MapData, PerCpuHashMap, RingBuf, lpm_trie};
use aya::programs::tc::{NlOptions, SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, tc};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use sniffer_ebpf::select::{PORT_WORDS, SELECTION_WORDS, set_port};
use sniffer_ebpf::{
    COUNTERS, Counters, Hook, MAP_ADDRESSES, MAP_COUNTERS, MAP_IGNORED, MAP_LOCAL, MAP_PORTS, MAP_RECORDS,
    MAP_SELECT, PROGRAM_EGRESS, PROGRAM_INGRESS, TUPLE_LENGTH, counter_key,
};

use super::{AttachBy, LiveError, Options};

/// The compiled programs, for a little-endian machine.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../sniffer-ebpf/object/fedisniff.o"));

/// Both hooks, with the program for each.
const HOOKS: [(Hook, TcAttachType, &str); 2] = [
    (Hook::Ingress, TcAttachType::Ingress, PROGRAM_INGRESS),
    (Hook::Egress, TcAttachType::Egress, PROGRAM_EGRESS),
];

/// The loaded programs, and what is known of where they are attached.
pub(super) struct Programs {
    ebpf: Ebpf,
    counters: PerCpuHashMap<MapData, u64, [u64; COUNTERS]>,
    local: BpfHashMap<MapData, u32, u32>,
    by: AttachBy,
    /// By clsact: no other fedisniff lives in this network namespace, so what bears our name was left by a killed one.
    alone: Option<UnixListener>,
    links: BTreeMap<u32, Attached>,
}

struct Attached {
    links: Vec<(&'static str, SchedClassifierLinkId)>,
    bridge: Option<u32>,
}

/// What other threads use of the maps.
pub(super) struct Maps {
    pub(super) records: RingBuf<MapData>,
    pub(super) ignored: BpfHashMap<MapData, [u8; TUPLE_LENGTH], u32>,
}

impl Programs {
    /// Loads them, with nothing attached and the selection set.
    pub(super) fn load(options: &Options) -> Result<(Self, Maps), LiveError> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(MAP_RECORDS, options.ring_octets)
            .load(OBJECT)
            .map_err(LiveError::load)?;
        for (_, _, name) in HOOKS {
            program(&mut ebpf, name)?.load().map_err(|error| LiveError::load(error.into()))?;
        }
        let mut take =
            |name: &'static str| ebpf.take_map(name).ok_or(LiveError::Object(format!("no map {name}")));
        let (records, counters, local) = (take(MAP_RECORDS)?, take(MAP_COUNTERS)?, take(MAP_LOCAL)?);
        let (ignored, select, ports, addresses) =
            (take(MAP_IGNORED)?, take(MAP_SELECT)?, take(MAP_PORTS)?, take(MAP_ADDRESSES)?);
        set_selection(options, select, ports, addresses).map_err(LiveError::map)?;
        let by = match options.attach_by {
            Some(by) => by,
            None if has_tcx() => AttachBy::Tcx,
            None => AttachBy::Clsact,
        };
        let alone = if by == AttachBy::Clsact { alone() } else { None };
        let maps = Maps {
            records: RingBuf::try_from(records).map_err(LiveError::map)?,
            ignored: BpfHashMap::try_from(ignored).map_err(LiveError::map)?,
        };
        let counters = PerCpuHashMap::try_from(counters).map_err(LiveError::map)?;
        let local = BpfHashMap::try_from(local).map_err(LiveError::map)?;
        Ok((Self { ebpf, counters, local, by, alone, links: BTreeMap::new() }, maps))
    }

    /// How the programs are attached.
    pub(super) fn by(&self) -> AttachBy {
        self.by
    }

    /// Whether they are attached to an interface.
    pub(super) fn attached(&self, index: u32) -> bool {
        self.links.contains_key(&index)
    }

    /// Attaches both programs behind whatever else is there, and marks the interface as one of this node's.
    pub(super) fn attach(&mut self, index: u32, name: &str, bridge: Option<u32>) -> Result<(), LiveError> {
        if self.alone.is_some() && sweep(name) {
            tracing::info!("removed from {name} the filters of a fedisniff that was killed");
        }
        // Counting begins before the first packet can come; the entries would otherwise be made by the programs.
        for (hook, ..) in HOOKS {
            let none = aya::maps::PerCpuValues::try_from(vec![[0_u64; COUNTERS]; cpus()?])
                .map_err(|error| LiveError::Object(error.to_string()))?;
            self.counters.insert(counter_key(index, hook), none, 0).map_err(LiveError::map)?;
        }
        self.local.insert(index, 1, 0).map_err(LiveError::map)?;
        let mut attached = Attached { links: Vec::new(), bridge: None };
        for (_, hook, program) in HOOKS {
            match self.attach_one(name, hook, program) {
                Ok(link) => attached.links.push((program, link)),
                Err(error) => {
                    self.drop_links(attached);
                    let _ = self.local.remove(&index);
                    return Err(LiveError::attach(name, self.by, error));
                }
            }
        }
        self.links.insert(index, attached);
        self.set_bridge(index, bridge)
    }

    fn attach_one(
        &mut self,
        name: &str,
        hook: TcAttachType,
        program_name: &str,
    ) -> Result<SchedClassifierLinkId, ProgramError> {
        let options = |by| match by {
            AttachBy::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
            AttachBy::Clsact => TcAttachOptions::Netlink(NlOptions::default()),
        };
        if self.by == AttachBy::Clsact {
            // It is an error when there is one already, which is fine: attaching says whether it works.
            let _ = tc::qdisc_add_clsact(name);
        }
        let by = self.by;
        let program = program(&mut self.ebpf, program_name).map_err(|_| ProgramError::NotLoaded)?;
        program.attach_with_options(name, hook, options(by))
    }

    /// The interface is now a port of `bridge`, or of none: what comes from there has been seen on its ports.
    pub(super) fn set_bridge(&mut self, index: u32, bridge: Option<u32>) -> Result<(), LiveError> {
        let Some(attached) = self.links.get_mut(&index) else { return Ok(()) };
        let before = std::mem::replace(&mut attached.bridge, bridge);
        if let Some(bridge) = bridge {
            self.local.insert(bridge, 1, 0).map_err(LiveError::map)?;
        }
        self.forget_bridge(before);
        Ok(())
    }

    fn forget_bridge(&mut self, bridge: Option<u32>) {
        let Some(bridge) = bridge else { return };
        if !self.links.contains_key(&bridge) && !self.links.values().any(|a| a.bridge == Some(bridge)) {
            let _ = self.local.remove(&bridge);
        }
    }

    /// Detaches from an interface that went away or is no longer wanted; gives what was counted there.
    pub(super) fn detach(&mut self, index: u32) -> Counters {
        let Some(attached) = self.links.remove(&index) else { return Counters::default() };
        let bridge = attached.bridge;
        self.drop_links(attached);
        let _ = self.local.remove(&index);
        self.forget_bridge(bridge);
        let last = self.counted(index);
        for (hook, ..) in HOOKS {
            let _ = self.counters.remove(&counter_key(index, hook));
        }
        last
    }

    fn drop_links(&mut self, attached: Attached) {
        for (name, link) in attached.links {
            if let Ok(program) = program(&mut self.ebpf, name) {
                // An interface that is gone took its link with it; nothing remains to be done then.
                let _ = program.detach(link);
            }
        }
    }

    /// Detaches everywhere.
    pub(super) fn detach_all(&mut self) -> BTreeMap<u32, Counters> {
        let indexes: Vec<u32> = self.links.keys().copied().collect();
        indexes.into_iter().map(|index| (index, self.detach(index))).collect()
    }

    /// What all CPUs counted on both hooks of an interface.
    pub(super) fn counted(&self, index: u32) -> Counters {
        HOOKS
            .iter()
            .filter_map(|(hook, ..)| self.counters.get(&counter_key(index, *hook), 0).ok())
            .flat_map(|per_cpu| per_cpu.iter().map(|words| Counters::from_words(*words)).collect::<Vec<_>>())
            .fold(Counters::default(), Counters::plus)
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, LiveError> {
    let program = ebpf.program_mut(name).ok_or_else(|| LiveError::Object(format!("no program {name}")))?;
    program.try_into().map_err(|error: ProgramError| LiveError::Object(format!("{name}: {error}")))
}

/// A name that one process at a time can have in a network namespace, and that is free again however the process ends.
fn alone() -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name("fedisniff/clsact").ok()?;
    UnixListener::bind_addr(&name).ok()
}

/// TCX came with Linux 6.6. A kernel that was built without it refuses the first attachment.
fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

fn cpus() -> Result<usize, LiveError> {
    aya::util::nr_cpus().map_err(|(file, error)| LiveError::Object(format!("{file}: {error}")))
}

fn set_selection(
    options: &Options,
    select: aya::maps::Map,
    ports: aya::maps::Map,
    addresses: aya::maps::Map,
) -> Result<(), aya::maps::MapError> {
    let mut words = vec![0_u64; PORT_WORDS as usize];
    for (port, policy) in &options.ports {
        set_port(&mut words, *port, *policy);
    }
    let mut map: Array<MapData, u64> = Array::try_from(ports)?;
    for (at, word) in (0..).zip(words) {
        if word != 0 {
            map.set(at, word, 0)?;
        }
    }
    let mut map: LpmTrie<MapData, [u8; 16], u32> = LpmTrie::try_from(addresses)?;
    for network in &options.addresses {
        map.insert(&lpm_trie::Key::new(network.prefix_length(), network.octets()), 1, 0)?;
    }
    let mut map: Array<MapData, [u32; SELECTION_WORDS]> = Array::try_from(select)?;
    map.set(0, options.selection().to_words(), 0)
}

/// What else is attached to both hooks of an interface by TCX: the programs' names.
pub(super) fn others(name: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (_, hook, _) in HOOKS {
        let Ok((_, programs)) = SchedClassifier::query_tcx(name, hook) else { continue };
        names.extend(programs.iter().map(|p| p.name_as_str().unwrap_or("unnamed").to_owned()));
    }
    names.retain(|name| name != PROGRAM_INGRESS && name != PROGRAM_EGRESS);
    names
}

/// Takes our filters off an interface's clsact hooks, those of a process that was killed. True when there were some.
pub(super) fn sweep(name: &str) -> bool {
    let mut found = false;
    for (_, hook, program) in HOOKS {
        while tc::qdisc_detach_program(name, hook, program).is_ok() {
            found = true;
        }
    }
    found
}
