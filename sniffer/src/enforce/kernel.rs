//! The programs that deny, their maps and their links, all pinned: what the kernel holds outlives this process, and the
//! next one adopts it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuHashMap, RingBuf, lpm_trie};
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use sniffer_ebpf::deny::{
    CHUNK_WORDS, CONFIG_WORDS, COUNTS, Chunk, Config, ENDPOINT, ENDPOINT_KEY, Endpoint, EndpointKey, LAYOUT,
    MAP_ACTIVE, MAP_CONFIG, MAP_COUNTS, MAP_ENDPOINTS, MAP_EVENTS, MAP_PORTS, MAP_SETS, MAP_VETHS, MAPS,
    PROGRAM_BRIDGE, PROGRAM_FROM_POD, PROGRAM_TO_POD, PortRange, RANGES, SET_KEY, VETH, Veth, config_flag,
    set_key,
};

use super::EnforceError;
use super::tables::{Step, Tables};
use crate::frame::Timestamp;
use crate::policy::compiled::Prefix;

/// The compiled programs, for a little-endian machine.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../sniffer-ebpf/object/deny.o"));

/// Names what is embedded.
pub(super) fn object_sha256() -> String {
    use sha2::Digest as _;
    crate::view::hex(&sha2::Sha256::digest(OBJECT))
}

/// A hook that a program is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    FromPod,
    ToPod,
    Bridge,
}

impl Place {
    const ALL: [Self; 3] = [Self::FromPod, Self::ToPod, Self::Bridge];

    fn program(self) -> &'static str {
        match self {
            Self::FromPod => PROGRAM_FROM_POD,
            Self::ToPod => PROGRAM_TO_POD,
            Self::Bridge => PROGRAM_BRIDGE,
        }
    }

    fn hook(self) -> TcAttachType {
        match self {
            Self::FromPod | Self::Bridge => TcAttachType::Ingress,
            Self::ToPod => TcAttachType::Egress,
        }
    }
}

/// What the kernel holds.
pub(super) struct Kernel {
    ebpf: Ebpf,
    folder: PathBuf,
    active: Array<MapData, u32>,
    config: Array<MapData, [u32; CONFIG_WORDS]>,
    endpoints: HashMap<MapData, [u8; ENDPOINT_KEY], [u8; ENDPOINT]>,
    sets: LpmTrie<MapData, [u8; SET_KEY], u32>,
    ports: HashMap<MapData, [u32; 2], [u16; CHUNK_WORDS]>,
    veths: HashMap<MapData, u32, [u8; VETH]>,
    counts: PerCpuHashMap<MapData, u32, [u64; COUNTS]>,
    attached: BTreeSet<(u32, Place)>,
    /// No other process changes these pins as long as it is held.
    _turn: UnixListener,
}

/// Where pins are, for this layout.
fn folder(pins: &Path) -> PathBuf {
    pins.join(format!("deny-{LAYOUT}"))
}

/// Whether an earlier process has left denial there.
pub(super) fn is_pinned(pins: &Path) -> bool {
    folder(pins).join("maps").join(MAP_ACTIVE).exists()
}

/// All maps, as the file names under which they are pinned.
fn map_pin(folder: &Path, map: &str) -> PathBuf {
    folder.join("maps").join(map)
}

impl Kernel {
    /// Loads the programs, with the maps that are pinned or new ones, and puts them into the links that are pinned: a
    /// link changes programs at once, and nothing passes in between.
    pub(super) fn open(pins: &Path) -> Result<(Self, RingBuf<MapData>), EnforceError> {
        let turn = take_turn(pins)?;
        let folder = folder(pins);
        for part in ["maps", "links"] {
            let part = folder.join(part);
            std::fs::create_dir_all(&part).map_err(|error| EnforceError::pins(&part, &error))?;
        }
        let on_bpffs = statfs(&folder).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
        if !on_bpffs {
            let _ = std::fs::remove_dir_all(&folder);
            let _ = std::fs::remove_dir(pins);
            return Err(EnforceError::NoBpffs(pins.to_owned()));
        }
        let paths: Vec<(&str, PathBuf)> = MAPS.iter().map(|map| (*map, map_pin(&folder, map))).collect();
        let mut loader = EbpfLoader::new();
        for (map, path) in &paths {
            loader.map_pin_path(map, path);
        }
        let mut ebpf = loader.load(OBJECT).map_err(EnforceError::load)?;
        for place in Place::ALL {
            program(&mut ebpf, place)?.load().map_err(|error| EnforceError::load(error.into()))?;
        }
        let mut take = |name: &'static str| -> Result<Map, EnforceError> {
            ebpf.take_map(name).ok_or_else(|| EnforceError::Object(format!("no map {name}")))
        };
        let (active, config, endpoints) = (take(MAP_ACTIVE)?, take(MAP_CONFIG)?, take(MAP_ENDPOINTS)?);
        let (sets, ports, veths) = (take(MAP_SETS)?, take(MAP_PORTS)?, take(MAP_VETHS)?);
        let (counts, events) = (take(MAP_COUNTS)?, take(MAP_EVENTS)?);
        let events = RingBuf::try_from(events)?;
        let mut kernel = Self {
            active: Array::try_from(active)?,
            config: Array::try_from(config)?,
            endpoints: HashMap::try_from(endpoints)?,
            sets: LpmTrie::try_from(sets)?,
            ports: HashMap::try_from(ports)?,
            veths: HashMap::try_from(veths)?,
            counts: PerCpuHashMap::try_from(counts)?,
            ebpf,
            folder,
            attached: BTreeSet::new(),
            _turn: turn,
        };
        kernel.adopt()?;
        Ok((kernel, events))
    }

    /// Takes over the links that are pinned; those of interfaces that are gone are removed.
    fn adopt(&mut self) -> Result<(), EnforceError> {
        let links = self.folder.join("links");
        let entries = std::fs::read_dir(&links).map_err(|error| EnforceError::pins(&links, &error))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let known = name.split_once('-').and_then(|(index, what)| {
                let place = Place::ALL.into_iter().find(|place| place.program() == what)?;
                Some((index.parse::<u32>().ok()?, place))
            });
            let adopted = known.is_some_and(|(_, place)| self.adopt_one(&path, place).is_ok());
            match known {
                Some(known) if adopted => {
                    self.attached.insert(known);
                }
                // Its device is gone: the link leads nowhere.
                _ => {
                    let _ = std::fs::remove_file(&path);
                }
            }
        }
        Ok(())
    }

    /// Forgets the interfaces that are not there.
    pub(super) fn retain(&mut self, present: &BTreeSet<u32>) {
        let known = self.veths.keys().flatten().chain(self.attached.iter().map(|(index, _)| *index));
        let gone: BTreeSet<u32> = known.filter(|index| !present.contains(index)).collect();
        gone.into_iter().for_each(|index| self.forget(index));
    }

    fn adopt_one(&mut self, path: &Path, place: Place) -> Result<(), EnforceError> {
        let failed = |error: &dyn std::fmt::Display| EnforceError::Object(error.to_string());
        let pinned = PinnedLink::from_pin(path).map_err(|error| failed(&error))?;
        let link: SchedClassifierLink = FdLink::from(pinned).try_into().map_err(|error| failed(&error))?;
        program(&mut self.ebpf, place)?.attach_to_link(link).map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Whether a place of an interface has its program.
    pub(super) fn attached(&self, index: u32, place: Place) -> bool {
        self.attached.contains(&(index, place))
    }

    /// Attaches a program before all others, and pins its link.
    pub(super) fn attach(&mut self, index: u32, name: &str, place: Place) -> Result<(), EnforceError> {
        if self.attached(index, place) {
            return Ok(());
        }
        let none = aya::maps::PerCpuValues::try_from(vec![[0_u64; COUNTS]; cpus()?])
            .map_err(|error| EnforceError::Object(error.to_string()))?;
        // Those of an adopted interface go on.
        let _ = self.counts.insert(index, none, BPF_NOEXIST);
        let error = |error: ProgramError| EnforceError::attach(name, error);
        let program = program(&mut self.ebpf, place)?;
        let link = program
            .attach_with_options(name, place.hook(), TcAttachOptions::TcxOrder(LinkOrder::first()))
            .and_then(|id| program.take_link(id))
            .map_err(error)?;
        let link: FdLink =
            link.try_into().map_err(|error: LinkError| EnforceError::Object(error.to_string()))?;
        let path = self.link_pin(index, place);
        // Of an interface whose number was used before.
        let _ = std::fs::remove_file(&path);
        link.pin(&path).map_err(|error| EnforceError::Object(format!("pin {}: {error}", path.display())))?;
        self.attached.insert((index, place));
        Ok(())
    }

    fn link_pin(&self, index: u32, place: Place) -> PathBuf {
        self.folder.join("links").join(format!("{index}-{}", place.program()))
    }

    /// Removes what an interface has here, when it is gone or not a pod's any more.
    pub(super) fn forget(&mut self, index: u32) {
        for place in Place::ALL {
            if self.attached.remove(&(index, place)) {
                let _ = std::fs::remove_file(self.link_pin(index, place));
            }
        }
        let _ = self.veths.remove(&index);
        let _ = self.counts.remove(&index);
    }

    /// Says whose an interface is.
    pub(super) fn set_veth(&mut self, index: u32, veth: Veth) -> Result<(), EnforceError> {
        Ok(self.veths.insert(index, veth.to_octets(), 0)?)
    }

    /// Whose an interface is, as the kernel has it.
    pub(super) fn veth(&self, index: u32) -> Option<Veth> {
        self.veths.get(&index, 0).ok().map(Veth::from_octets)
    }

    /// What all CPUs counted at an interface.
    pub(super) fn counted(&self, index: u32) -> Option<[u64; COUNTS]> {
        let values = self.counts.get(&index, 0).ok()?;
        Some(values.iter().fold([0; COUNTS], |mut sum, words| {
            for (sum, word) in sum.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
            sum
        }))
    }

    /// Reads back what the tables hold.
    pub(super) fn tables(&self) -> Result<Tables, EnforceError> {
        let mut tables = Tables { generation: self.active.get(&0, 0)?, ..Tables::default() };
        for (slot, config) in (0..).zip(&mut tables.config) {
            let [mode, flags, allow] = self.config.get(&slot, 0)?;
            *config = Config { mode, flags, allow };
        }
        for entry in self.endpoints.iter() {
            let (key, value) = entry?;
            let key = EndpointKey::from_octets(key);
            if let Some(slot) = tables.endpoints.get_mut(key.slot as usize) {
                slot.insert(key.address, Endpoint::from_octets(value));
            }
        }
        for entry in self.sets.iter() {
            let (key, list) = entry?;
            let data = key.data();
            let (Some(length), Some((set, address))) =
                (key.prefix_len().checked_sub(32), data.split_first_chunk::<4>())
            else {
                continue;
            };
            let (Ok(length), Ok(address)) = (u8::try_from(length), <[u8; 16]>::try_from(address)) else {
                continue;
            };
            let peers = tables.sets.entry(u32::from_be_bytes(*set)).or_default();
            peers.insert(Prefix { address, length }, list);
        }
        let mut chunks: BTreeMap<[u32; 2], [u16; CHUNK_WORDS]> = BTreeMap::new();
        for entry in self.ports.iter() {
            let (key, words) = entry?;
            chunks.insert(key, words);
        }
        for ([list, _], words) in chunks {
            let (ranges, _) = Chunk::from_words(&words);
            let ranges = ranges.into_iter().filter(|range| *range != PortRange::NOTHING);
            tables.ports.entry(list).or_default().extend(ranges);
        }
        Ok(tables)
    }

    /// Takes one step.
    pub(super) fn step(&mut self, step: &Step) -> Result<(), EnforceError> {
        match step {
            Step::Ports(list, ranges) => {
                let chunks = ranges.chunks(RANGES);
                let last = chunks.len();
                for (number, chunk) in (0_u32..).zip(chunks) {
                    let more = number as usize + 1 < last;
                    self.ports.insert([*list, number], Chunk::to_words(chunk, more), 0)?;
                }
            }
            Step::Peer(set, prefix, list) => self.sets.insert(&peer(*set, prefix), list, 0)?,
            Step::Endpoint(slot, address, endpoint) => {
                let key = EndpointKey { slot: *slot, address: *address };
                self.endpoints.insert(key.to_octets(), endpoint.to_octets(), 0)?;
            }
            Step::NoEndpoint(slot, address) => {
                gone(self.endpoints.remove(&EndpointKey { slot: *slot, address: *address }.to_octets()))?;
            }
            Step::Config(slot, config) => self.config.set(*slot, config.to_words(), 0)?,
            Step::Flip(generation) => self.active.set(0, generation, 0)?,
            Step::NoPeer(set, prefix) => gone(self.sets.remove(&peer(*set, prefix)))?,
            Step::NoPorts(list, ranges) => {
                for number in (0_u32..).take(ranges.div_ceil(RANGES)) {
                    gone(self.ports.remove(&[*list, number]))?;
                }
            }
        }
        Ok(())
    }
}

/// `BPF_NOEXIST` (bpf.h).
const BPF_NOEXIST: u64 = 1;

fn peer(set: u32, prefix: &Prefix) -> lpm_trie::Key<[u8; SET_KEY]> {
    lpm_trie::Key::new(32 + u32::from(prefix.length), set_key(set, &prefix.address))
}

/// Removed, or not there.
fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn program(ebpf: &mut Ebpf, place: Place) -> Result<&mut SchedClassifier, EnforceError> {
    let name = place.program();
    let program = ebpf.program_mut(name).ok_or_else(|| EnforceError::Object(format!("no program {name}")))?;
    program.try_into().map_err(|error: ProgramError| EnforceError::Object(format!("{name}: {error}")))
}

fn cpus() -> Result<usize, EnforceError> {
    aya::util::nr_cpus().map_err(|(file, error)| EnforceError::Object(format!("{file}: {error}")))
}

/// One process at a time. An abstract socket (unix(7)) ends with its holder, however that ends.
fn take_turn(pins: &Path) -> Result<UnixListener, EnforceError> {
    let name = format!("fedisniff/enforce{}", pins.display());
    SocketAddr::from_abstract_name(name)
        .and_then(|address| UnixListener::bind_addr(&address))
        .map_err(|_| EnforceError::Busy(pins.to_owned()))
}

/// What is pinned, as far as one sees without changing anything.
pub(super) fn look(pins: &Path) -> Result<Option<super::Pinned>, EnforceError> {
    let folder = folder(pins);
    if !is_pinned(pins) {
        return Ok(None);
    }
    let open = |map: &str| MapData::from_pin(map_pin(&folder, map)).map(Map::Array);
    let active: Array<MapData, u32> = Array::try_from(open(MAP_ACTIVE)?)?;
    let config: Array<MapData, [u32; CONFIG_WORDS]> = Array::try_from(open(MAP_CONFIG)?)?;
    let generation = active.get(&0, 0)?;
    let [mode, flags, _] = config.get(&(generation & 1), 0)?;
    let entries: Vec<std::fs::DirEntry> =
        std::fs::read_dir(folder.join("links")).into_iter().flatten().flatten().collect();
    // A pin is written when the program is attached, and never again.
    let at_bridge = format!("-{}", Place::Bridge.program());
    let bridges = entries.iter().filter(|entry| entry.file_name().to_string_lossy().ends_with(&at_bridge));
    let since = bridges.filter_map(|entry| {
        let modified = entry.metadata().ok()?.modified().ok()?;
        let nanos = modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos();
        u64::try_from(nanos).ok().map(Timestamp)
    });
    let (isolated, links) = (flags & config_flag::ISOLATED != 0, entries.len());
    Ok(Some(super::Pinned { mode, isolated, generation, links, since: since.max() }))
}

/// Removes all pins of denial, of whatever layout, so that nothing is denied any more. Gives what was removed.
pub(super) fn remove(pins: &Path) -> std::io::Result<Vec<String>> {
    let mut removed = Vec::new();
    let entries = match std::fs::read_dir(pins) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(removed),
        entries => entries?,
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with("deny-") {
            continue;
        }
        let count = |part: &str| std::fs::read_dir(path.join(part)).map_or(0, Iterator::count);
        let (links, maps) = (count("links"), count("maps"));
        // The links first: a program without maps cannot be.
        for part in ["links", "maps"] {
            match std::fs::remove_dir_all(path.join(part)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::remove_dir(&path)?;
        removed.push(format!("denial in {}: {links} links, {maps} maps", path.display()));
    }
    Ok(removed)
}
