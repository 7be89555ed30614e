//! The programs in the kernel, and where they are attached.

use std::collections::BTreeMap;

use aya::maps::{Array, HashMap as BpfHashMap, LpmTrie, MapData, PerCpuHashMap, RingBuf, lpm_trie};
use aya::programs::tc::{NlOptions, SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, tc};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use nix::errno::Errno;
use sniffer_ebpf::select::{PORT_WORDS, SELECTION_WORDS, set_port};
use sniffer_ebpf::{
    COUNTERS, Counters, Hook, MAP_ADDRESSES, MAP_COUNTERS, MAP_IGNORED, MAP_LOCAL, MAP_PORTS, MAP_RECORDS,
    MAP_SELECT, PROGRAM_EGRESS, PROGRAM_INGRESS, TUPLE_LENGTH, counter_key,
};

use super::clsact::{Instance, Sweeper};
use super::doctor::{self, Attached};
use super::{AttachBy, LiveError, Options, permission};
use crate::causes::chain;

/// The compiled programs, for a little-endian machine.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../sniffer-ebpf/object/fedisniff.o"));

/// Names what is embedded.
pub(super) fn object_sha256() -> String {
    use sha2::Digest as _;
    crate::view::hex(&sha2::Sha256::digest(OBJECT))
}

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
    /// The user wants it so and no other way.
    forced: bool,
    links: BTreeMap<u32, Links>,
    sweeper: Option<Sweeper>,
    /// Made when something is attached by clsact for the first time.
    clsact: Option<Instance>,
}

/// What is attached to an interface, by the program's name.
type OnHooks = Vec<(&'static str, SchedClassifierLinkId)>;

struct Links {
    by: AttachBy,
    links: OnHooks,
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
        lift_memory_limit();
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
        let maps = Maps {
            records: RingBuf::try_from(records).map_err(LiveError::map)?,
            ignored: BpfHashMap::try_from(ignored).map_err(LiveError::map)?,
        };
        let counters = PerCpuHashMap::try_from(counters).map_err(LiveError::map)?;
        let local = BpfHashMap::try_from(local).map_err(LiveError::map)?;
        let programs = Self {
            ebpf,
            counters,
            local,
            by,
            forced: options.attach_by.is_some(),
            links: BTreeMap::new(),
            sweeper: options.sweeper,
            clsact: None,
        };
        Ok((programs, maps))
    }

    /// How they are attached to an interface.
    pub(super) fn attached_by(&self, index: u32) -> AttachBy {
        self.links.get(&index).map_or(self.by, |links| links.by)
    }

    /// Whether they are attached to an interface.
    pub(super) fn attached(&self, index: u32) -> bool {
        self.links.contains_key(&index)
    }

    /// Attaches both programs behind whatever else is there, and marks the interface as one of this node's.
    pub(super) fn attach(&mut self, index: u32, name: &str, bridge: Option<u32>) -> Result<(), LiveError> {
        // Counting begins before the first packet can come; the entries would otherwise be made by the programs.
        for (hook, ..) in HOOKS {
            let none = aya::maps::PerCpuValues::try_from(vec![[0_u64; COUNTERS]; cpus()?])
                .map_err(|error| LiveError::Object(error.to_string()))?;
            self.counters.insert(counter_key(index, hook), none, 0).map_err(LiveError::map)?;
        }
        self.local.insert(index, 1, 0).map_err(LiveError::map)?;
        let mut by = self.by;
        let mut result = self.attach_both(index, name, by);
        if let Err(error) = &result
            && by == AttachBy::Tcx
            && !self.forced
            && falls_back(error)
        {
            tracing::info!("{name}: TCX is refused ({}); attaching by clsact", chain(error));
            by = AttachBy::Clsact;
            result = self.attach_both(index, name, by);
        }
        match result {
            Ok(links) => {
                self.links.insert(index, links);
                self.set_bridge(index, bridge)
            }
            Err(error) => {
                let _ = self.local.remove(&index);
                Err(LiveError::attach(name, by, error))
            }
        }
    }

    /// Both programs, or none.
    fn attach_both(&mut self, index: u32, name: &str, by: AttachBy) -> Result<Links, ProgramError> {
        let ebpf = &mut self.ebpf;
        let links = match by {
            AttachBy::Tcx => attach_each(ebpf, name, || TcAttachOptions::TcxOrder(LinkOrder::default()))?,
            AttachBy::Clsact => {
                let instance = match &mut self.clsact {
                    Some(instance) => instance,
                    none => none.insert(
                        Instance::begin(self.sweeper)
                            .map_err(|error| ProgramError::TcError(tc::TcError::IoError(error)))?,
                    ),
                };
                instance.attach(index, name, |handle| {
                    attach_each(ebpf, name, || {
                        TcAttachOptions::Netlink(NlOptions { handle, ..NlOptions::default() })
                    })
                })?
            }
        };
        Ok(Links { by, links, bridge: None })
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
        self.drop_links(index, attached);
        let _ = self.local.remove(&index);
        self.forget_bridge(bridge);
        let last = self.counted(index);
        for (hook, ..) in HOOKS {
            let _ = self.counters.remove(&counter_key(index, hook));
        }
        last
    }

    fn drop_links(&mut self, index: u32, attached: Links) {
        let ebpf = &mut self.ebpf;
        let detach = || detach_each(ebpf, attached.links);
        match &mut self.clsact {
            Some(instance) if attached.by == AttachBy::Clsact => instance.detach(index, detach),
            _ => detach(),
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

/// Attaches the program of each hook, or none.
fn attach_each(
    ebpf: &mut Ebpf,
    name: &str,
    options: impl Fn() -> TcAttachOptions,
) -> Result<OnHooks, ProgramError> {
    let mut links = Vec::new();
    for (_, hook, program_name) in HOOKS {
        let attached = program(ebpf, program_name)
            .map_err(|_| ProgramError::NotLoaded)
            .and_then(|program| program.attach_with_options(name, hook, options()));
        match attached {
            Ok(link) => links.push((program_name, link)),
            Err(error) => {
                detach_each(ebpf, links);
                return Err(error);
            }
        }
    }
    Ok(links)
}

fn detach_each(ebpf: &mut Ebpf, links: OnHooks) {
    for (name, link) in links {
        if let Ok(program) = program(ebpf, name) {
            // An interface that is gone took its link with it; nothing remains to be done then.
            let _ = program.detach(link);
        }
    }
}

/// Whether another way to attach may work where TCX was refused: not when rights or the interface are missing.
fn falls_back(error: &ProgramError) -> bool {
    let ProgramError::SyscallError(error) = error else { return false };
    let gone = [Errno::ENODEV, Errno::ENOENT, Errno::ENXIO].map(|errno| Some(errno as i32));
    !permission(error) && !gone.contains(&error.io_error.raw_os_error())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, LiveError> {
    let program = ebpf.program_mut(name).ok_or_else(|| LiveError::Object(format!("no program {name}")))?;
    program.try_into().map_err(|error: ProgramError| LiveError::Object(format!("{name}: {error}")))
}

/// Before Linux 5.11 the memory of maps counts as locked, of which a process may have little. Best effort: when it is not
/// enough, the kernel says so for the map.
fn lift_memory_limit() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
    if KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(5, 11, 0)) {
        return;
    }
    let all = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    if let (Err(_), Ok((_, hard))) = (all, getrlimit(Resource::RLIMIT_MEMLOCK)) {
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard);
    }
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

/// What is attached to both hooks of an interface by TCX, as far as that may be seen.
pub(super) fn by_tcx(name: &str) -> Vec<Attached> {
    let mut found = Vec::new();
    for (hook, at, _) in HOOKS {
        let Ok((_, programs)) = SchedClassifier::query_tcx(name, at) else { continue };
        found.extend(programs.iter().map(|program| {
            let name = program.name_as_str().unwrap_or("unnamed").to_owned();
            Attached {
                hook: doctor::hook(hook),
                by: "tcx",
                ours: name == PROGRAM_INGRESS || name == PROGRAM_EGRESS,
                name,
                program: Some(program.id()),
            }
        }));
    }
    found
}

/// Why it cannot be seen what is attached by TCX; `None` when it can, or when the kernel has no TCX.
pub(super) fn tcx_hidden(name: &str) -> Option<String> {
    let error = SchedClassifier::query_tcx(name, TcAttachType::Ingress).err()?;
    permission(&error).then(|| "asking for it takes root".into())
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]
mod tests {
    use std::io;

    use aya::programs::ProgramError;
    use aya::programs::tc::TcError;
    use aya::sys::SyscallError;
    use nix::errno::Errno;

    use super::falls_back;

    #[test]
    fn clsact_is_tried_where_the_kernel_refuses_tcx_and_not_where_it_would_be_refused_as_well() {
        let refused = |errno: Errno| {
            let io_error = io::Error::from_raw_os_error(errno as i32);
            falls_back(&ProgramError::SyscallError(SyscallError { call: "bpf_mprog_attach", io_error }))
        };
        // Built without TCX; more programs there than the kernel allows; something that this version does not know.
        assert!(refused(Errno::EINVAL) && refused(Errno::ERANGE) && refused(Errno::EOPNOTSUPP));
        assert!(!refused(Errno::EPERM) && !refused(Errno::EACCES) && !refused(Errno::ENODEV));
        let gone = TcError::IoError(io::Error::from_raw_os_error(Errno::ENODEV as i32));
        assert!(!falls_back(&ProgramError::TcError(gone)));
    }
}
