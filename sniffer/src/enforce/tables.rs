//! What the kernel's tables are to hold, and the steps from what they hold to that. Compiled policies go in, steps come
//! out; nothing is touched here.
//!
//! Sets and port lists are never changed once they are written: each content has a number of its own, and a new content
//! a new number. Only the slot that does not count is written. So the steps up to the flip change nothing that a packet
//! sees, and the flip changes all.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sha2::{Digest as _, Sha256};
use sniffer_ebpf::deny::{
    ALL_PORTS, CHUNKS, Config, Endpoint, PortRange, RANGES, config_flag, endpoint_flag,
};

use crate::policy::compiled::{Address, Compiled, PodRef, PortsId, Prefix, SetId};

/// The most ranges of one port list that the kernel takes.
const RANGES_MAX: usize = CHUNKS as usize * RANGES;

/// A change of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Writes a port list.
    Ports(u32, Vec<PortRange>),
    /// Writes a prefix of a set with its port list.
    Peer(u32, Prefix, u32),
    /// Writes an address of a slot.
    Endpoint(u32, Address, Endpoint),
    /// Removes an address from a slot.
    NoEndpoint(u32, Address),
    /// Writes how a slot decides.
    Config(u32, Config),
    /// Makes a generation the one that counts.
    Flip(u32),
    /// Removes a prefix of a set.
    NoPeer(u32, Prefix),
    /// Removes a port list of so many ranges.
    NoPorts(u32, usize),
}

/// What the kernel's tables hold.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Tables {
    pub(super) generation: u32,
    pub(super) config: [Config; 2],
    pub(super) endpoints: [BTreeMap<Address, Endpoint>; 2],
    pub(super) sets: BTreeMap<u32, BTreeMap<Prefix, u32>>,
    pub(super) ports: BTreeMap<u32, Vec<PortRange>>,
}

/// A pod's number: stands for its namespace and name, also across restarts. Never 0.
pub(super) fn pod_number(namespace: &str, name: &str) -> u64 {
    let hash = Sha256::digest(format!("{namespace}/{name}"));
    let number = hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    number.max(1)
}

pub(super) fn number_of(pod: &PodRef) -> u64 {
    pod_number(&pod.namespace, &pod.name)
}

type Key = [u8; 32];

fn ports_key(ranges: &[PortRange]) -> Key {
    let mut hash = Sha256::new();
    for range in ranges {
        for word in [range.protocol, range.first, range.last] {
            hash.update(word.to_be_bytes());
        }
    }
    hash.finalize().into()
}

fn set_key<'a>(peers: impl Iterator<Item = (&'a Prefix, Key)>) -> Key {
    let mut hash = Sha256::new();
    for (prefix, ports) in peers {
        hash.update(prefix.address);
        hash.update([prefix.length]);
        hash.update(ports);
    }
    hash.finalize().into()
}

/// A list as the kernel takes it: in order, without what another range says already.
fn ranges(compiled: &Compiled, id: PortsId) -> Vec<PortRange> {
    let mut all: Vec<PortRange> = compiled
        .ports
        .get(id.index())
        .into_iter()
        .flatten()
        .map(|rule| PortRange { first: rule.first, last: rule.last, protocol: u16::from(rule.protocol) })
        .collect();
    all.sort_by_key(|range| (range.protocol, range.first, range.last));
    let mut joined: Vec<PortRange> = Vec::with_capacity(all.len());
    for range in all {
        match joined.last_mut() {
            Some(last) if last.protocol == range.protocol && range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// How the kernel is to decide, beside the policies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Manner {
    pub(super) config: Config,
    /// This node's addresses: those that its interfaces have.
    pub(super) own: BTreeSet<Address>,
    /// Addresses of pods that were learnt elsewhere, with the pods' numbers.
    pub(super) learned: BTreeMap<Address, u64>,
}

/// The steps, and what had to be left out.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    /// Up to the flip, which is the last.
    pub(super) steps: Vec<Step>,
    /// After it, once no packet is decided by the old slot any more.
    pub(super) after: Vec<Step>,
    /// Port lists that are longer than the kernel takes: the rest of them is denied.
    pub(super) cut: usize,
}

impl Tables {
    /// The steps to what `compiled` says, with the tables as they are after them.
    pub(super) fn plan(&self, compiled: &Compiled, manner: &Manner) -> (Plan, Self) {
        let mut next = self.clone();
        let mut plan = Plan::default();
        let mut writer = Writer::new(self);
        let mut hold = |number: u64, egress: Option<SetId>, ingress: Option<SetId>| {
            let mut held = Endpoint { pod: number, ..Endpoint::NONE };
            if let Some(set) = egress {
                held.flags |= endpoint_flag::EGRESS;
                held.egress = writer.set(compiled, set, &mut plan, &mut next);
            }
            if let Some(set) = ingress {
                held.flags |= endpoint_flag::INGRESS;
                held.ingress = writer.set(compiled, set, &mut plan, &mut next);
            }
            held
        };
        let mut wanted: BTreeMap<Address, Endpoint> = BTreeMap::new();
        if !manner.learned.is_empty() {
            let pods: HashMap<u64, &PodRef> = compiled.pods.iter().map(|pod| (number_of(pod), pod)).collect();
            for (address, number) in &manner.learned {
                if let Some(pod) = pods.get(number) {
                    wanted.insert(*address, hold(*number, pod.egress, pod.ingress));
                }
            }
        }
        for (address, endpoint) in &compiled.endpoints {
            if let Some(pod) = compiled.pods.get(endpoint.pod.index()) {
                wanted.insert(*address, hold(number_of(pod), endpoint.egress, endpoint.ingress));
            }
        }
        for address in &manner.own {
            // What a pod claims of the node's stays the node's.
            wanted.insert(*address, Endpoint { flags: endpoint_flag::OWN_NODE, ..Endpoint::NONE });
        }

        let generation = self.generation.wrapping_add(1);
        let slot = generation & 1;
        let into = if slot == 0 { &mut next.endpoints[0] } else { &mut next.endpoints[1] };
        for address in into.keys().filter(|address| !wanted.contains_key(*address)) {
            plan.steps.push(Step::NoEndpoint(slot, *address));
        }
        for (address, endpoint) in &wanted {
            if into.get(address) != Some(endpoint) {
                plan.steps.push(Step::Endpoint(slot, *address, *endpoint));
            }
        }
        *into = wanted;
        let config = if slot == 0 { &mut next.config[0] } else { &mut next.config[1] };
        if *config != manner.config {
            *config = manner.config;
            plan.steps.push(Step::Config(slot, manner.config));
        }
        plan.steps.push(Step::Flip(generation));
        next.generation = generation;
        next.forget_unused(slot, &mut plan.after);
        (plan, next)
    }

    /// The same policies, decided otherwise.
    pub(super) fn with_config(&self, config: Config) -> (Plan, Self) {
        let mut next = self.clone();
        let generation = self.generation.wrapping_add(1);
        let [zero, one] = &mut next.endpoints;
        let (from, into) = if generation & 1 == 0 { (one, zero) } else { (zero, one) };
        let mut plan = Plan::default();
        let slot = generation & 1;
        plan.steps.extend(
            into.keys().filter(|a| !from.contains_key(*a)).map(|address| Step::NoEndpoint(slot, *address)),
        );
        plan.steps.extend(
            from.iter()
                .filter(|(address, endpoint)| into.get(*address) != Some(endpoint))
                .map(|(address, endpoint)| Step::Endpoint(slot, *address, *endpoint)),
        );
        into.clone_from(from);
        if let Some(of_slot) = next.config.get_mut(slot as usize) {
            *of_slot = config;
        }
        plan.steps.extend([Step::Config(slot, config), Step::Flip(generation)]);
        next.generation = generation;
        (plan, next)
    }

    /// What the slot that counts does not lead to.
    fn forget_unused(&mut self, slot: u32, after: &mut Vec<Step>) {
        let endpoints = self.endpoints.get(slot as usize).into_iter().flat_map(BTreeMap::values);
        let used: BTreeSet<u32> = endpoints
            .flat_map(|e| {
                let egress = (e.flags & endpoint_flag::EGRESS != 0).then_some(e.egress);
                egress.into_iter().chain((e.flags & endpoint_flag::INGRESS != 0).then_some(e.ingress))
            })
            .collect();
        self.sets.retain(|set, peers| {
            let keep = used.contains(set);
            if !keep {
                after.extend(peers.keys().map(|prefix| Step::NoPeer(*set, *prefix)));
            }
            keep
        });
        let used: BTreeSet<u32> = self.sets.values().flat_map(|peers| peers.values().copied()).collect();
        self.ports.retain(|list, ranges| {
            let keep = used.contains(list);
            if !keep {
                after.push(Step::NoPorts(*list, ranges.len()));
            }
            keep
        });
    }

    /// What counts now.
    pub(super) fn active(&self) -> (Config, &BTreeMap<Address, Endpoint>) {
        let [zero, one] = &self.endpoints;
        let [config_zero, config_one] = self.config;
        if self.generation & 1 == 0 { (config_zero, zero) } else { (config_one, one) }
    }

    /// How many prefixes are in all sets.
    pub(super) fn prefixes(&self) -> usize {
        self.sets.values().map(BTreeMap::len).sum()
    }
}

/// Gives contents their numbers.
struct Writer {
    sets: HashMap<Key, u32>,
    ports: HashMap<Key, u32>,
    next_set: u32,
    next_ports: u32,
    /// Sets of this compilation that have a number.
    known: HashMap<SetId, u32>,
    lists: HashMap<PortsId, (u32, Key)>,
}

impl Writer {
    fn new(tables: &Tables) -> Self {
        let mut ports: HashMap<Key, u32> =
            tables.ports.iter().map(|(list, ranges)| (ports_key(ranges), *list)).collect();
        ports.insert(ports_key(&[]), 0);
        ports.insert(ports_key(&[EVERYTHING]), ALL_PORTS);
        let keys: HashMap<u32, Key> = ports.iter().map(|(key, list)| (*list, *key)).collect();
        let sets = tables
            .sets
            .iter()
            .filter_map(|(set, peers)| {
                // One that was being written when its writer ended leads to lists that are not there.
                let all: Option<Vec<_>> = peers.iter().map(|(p, list)| Some((p, *keys.get(list)?))).collect();
                Some((set_key(all?.into_iter()), *set))
            })
            .collect();
        let after = |last: Option<&u32>| last.copied().unwrap_or(0).max(ALL_PORTS).saturating_add(1);
        Self {
            sets,
            ports,
            next_set: after(tables.sets.keys().next_back()),
            next_ports: after(tables.ports.keys().next_back()),
            known: HashMap::new(),
            lists: HashMap::new(),
        }
    }

    fn list(&mut self, compiled: &Compiled, id: PortsId, plan: &mut Plan, next: &mut Tables) -> (u32, Key) {
        if let Some(known) = self.lists.get(&id) {
            return *known;
        }
        let mut ranges = ranges(compiled, id);
        if ranges.iter().any(|range| *range == EVERYTHING) {
            ranges = vec![EVERYTHING];
        }
        if ranges.len() > RANGES_MAX {
            plan.cut = plan.cut.saturating_add(1);
            ranges.truncate(RANGES_MAX);
        }
        let key = ports_key(&ranges);
        let number = *self.ports.entry(key).or_insert_with(|| {
            let number = self.next_ports;
            self.next_ports = number.saturating_add(1);
            next.ports.insert(number, ranges.clone());
            plan.steps.push(Step::Ports(number, ranges));
            number
        });
        self.lists.insert(id, (number, key));
        (number, key)
    }

    fn set(&mut self, compiled: &Compiled, id: SetId, plan: &mut Plan, next: &mut Tables) -> u32 {
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        let nets = compiled.sets.get(id.index()).map(|set| set.nets.as_slice()).unwrap_or_default();
        let peers: Vec<(&Prefix, u32, Key)> = nets
            .iter()
            .map(|(prefix, list)| {
                let (number, key) = self.list(compiled, *list, plan, next);
                (prefix, number, key)
            })
            .collect();
        let key = set_key(peers.iter().map(|(prefix, _, key)| (*prefix, *key)));
        let number = match self.sets.get(&key) {
            Some(number) => *number,
            None => {
                let number = self.next_set;
                self.next_set = number.saturating_add(1);
                plan.steps.extend(peers.iter().map(|(prefix, list, _)| Step::Peer(number, **prefix, *list)));
                next.sets.insert(number, peers.iter().map(|(prefix, list, _)| (**prefix, *list)).collect());
                self.sets.insert(key, number);
                number
            }
        };
        self.known.insert(id, number);
        number
    }
}

const EVERYTHING: PortRange = PortRange { first: 0, last: u16::MAX, protocol: 0 };

/// The configuration as the kernel has it.
pub(super) fn config(mode: sniffer_ebpf::deny::Mode, isolated: bool, allow: u32) -> Config {
    Config { mode: mode as u32, flags: if isolated { config_flag::ISOLATED } else { 0 }, allow }
}
