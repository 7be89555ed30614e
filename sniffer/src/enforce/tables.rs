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
        if ranges.contains(&EVERYTHING) {
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

#[cfg(test)]
#[allow(clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use sniffer_ebpf::deny::{CHUNKS, Config, Endpoint, PortRange, RANGES, endpoint_flag};

    use super::{Manner, Plan, Step, Tables, pod_number};
    use crate::policy::compiled::{
        Compiled, Endpoint as Held, PodId, PodRef, PolicyId, PortRule, PortsId, Prefix, RuleId, Set, SetId,
        Side, v4,
    };

    fn manner() -> Manner {
        Manner {
            config: Config { mode: 2, flags: 0, allow: 0 },
            own: BTreeSet::new(),
            learned: BTreeMap::new(),
        }
    }

    fn rule(protocol: u8, first: u16, last: u16) -> PortRule {
        PortRule { protocol, first, last, rule: RuleId(0) }
    }

    /// One pod, x/a at 10.42.0.1, that may connect to 10.0.0.0/8 on these ports.
    fn compiled(ports: Vec<PortRule>) -> Compiled {
        let mut compiled = Compiled { ports: vec![ports], ..Compiled::default() };
        let nets = vec![(Prefix::new(v4(10, 0, 0, 0), 104), PortsId(0))];
        compiled.sets.push(Set { side: Side::Egress, isolated_by: vec![PolicyId(0)], nets });
        let (namespace, name) = ("x".into(), "a".into());
        let (egress, ingress) = (Some(SetId(0)), None);
        compiled.pods.push(PodRef { namespace, name, node: None, addresses: Vec::new(), egress, ingress });
        compiled.endpoints.insert(v4(10, 42, 0, 1), Held { pod: PodId(0), egress, ingress });
        compiled
    }

    /// Takes the steps as the kernel does.
    fn take(tables: &mut Tables, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Ports(list, ranges) => {
                    tables.ports.insert(*list, ranges.clone());
                }
                Step::Peer(set, prefix, list) => {
                    tables.sets.entry(*set).or_default().insert(*prefix, *list);
                }
                Step::Endpoint(slot, address, endpoint) => {
                    tables.endpoints[*slot as usize].insert(*address, *endpoint);
                }
                Step::NoEndpoint(slot, address) => {
                    tables.endpoints[*slot as usize].remove(address).expect("it is there");
                }
                Step::Config(slot, config) => tables.config[*slot as usize] = *config,
                Step::Flip(generation) => tables.generation = *generation,
                Step::NoPeer(set, prefix) => {
                    let peers = tables.sets.get_mut(set).expect("it is there");
                    peers.remove(prefix).expect("it is there");
                    if peers.is_empty() {
                        tables.sets.remove(set);
                    }
                }
                Step::NoPorts(list, _) => {
                    tables.ports.remove(list).expect("it is there");
                }
            }
        }
    }

    fn update(tables: &mut Tables, compiled: &Compiled) -> Plan {
        let (plan, next) = tables.plan(compiled, &manner());
        let (slot, before) = (tables.generation & 1, tables.endpoints.clone());
        let (flip, steps) = plan.steps.split_last().expect("a flip");
        take(tables, steps);
        assert_eq!(
            tables.endpoints[slot as usize], before[slot as usize],
            "the slot that counts is not written"
        );
        assert!(matches!(flip, Step::Flip(_)), "{flip:?}");
        take(tables, std::slice::from_ref(flip));
        take(tables, &plan.after);
        assert_eq!(*tables, next, "what is planned is what comes of the steps");
        plan
    }

    #[test]
    fn an_update_writes_what_is_new_and_removes_what_nobody_needs() {
        let mut tables = Tables::default();
        update(&mut tables, &compiled(vec![rule(6, 80, 80)]));
        let (_, active) = tables.active();
        let held = active[&v4(10, 42, 0, 1)];
        assert_eq!((held.pod, held.flags), (pod_number("x", "a"), endpoint_flag::EGRESS));
        let again = update(&mut tables, &compiled(vec![rule(6, 80, 80)]));
        let written =
            |plan: &Plan| plan.steps.iter().filter(|s| matches!(s, Step::Peer(..) | Step::Ports(..))).count();
        assert_eq!((written(&again), again.after.len()), (0, 0), "the same content keeps its number");
        let other = update(&mut tables, &compiled(vec![rule(6, 81, 81)]));
        assert_eq!(
            (written(&other), other.after.len()),
            (2, 2),
            "another has another number, and the old one goes"
        );
        update(&mut tables, &Compiled::default());
        let (_, active) = tables.active();
        assert!(active.is_empty() && tables.sets.is_empty() && tables.ports.is_empty());
    }

    #[test]
    fn what_an_interrupted_writer_left_is_not_taken_for_a_whole() {
        let whole = compiled(vec![rule(6, 80, 80)]);
        let (plan, _) = Tables::default().plan(&whole, &manner());
        for cut in 0..plan.steps.len() {
            let mut tables = Tables::default();
            take(&mut tables, &plan.steps[..cut]);
            update(&mut tables, &whole);
            let (_, active) = tables.active();
            let set = tables.sets.get(&active[&v4(10, 42, 0, 1)].egress).expect("the set is there");
            let list = set[&Prefix::new(v4(10, 0, 0, 0), 104)];
            assert_eq!(tables.ports[&list], [PortRange { first: 80, last: 80, protocol: 6 }]);
        }
    }

    #[test]
    fn ranges_are_joined_and_a_list_that_is_too_long_is_cut_and_said() {
        let mut tables = Tables::default();
        let joined = update(&mut tables, &compiled(vec![rule(6, 80, 90), rule(6, 91, 99), rule(17, 80, 80)]));
        assert!(joined.steps.iter().any(|step| matches!(step, Step::Ports(_, ranges) if ranges.len() == 2)));
        let most = CHUNKS as usize * RANGES;
        let long = (0..=most as u16).map(|n| rule(6, n * 3, n * 3)).collect();
        let (plan, next) = tables.plan(&compiled(long), &manner());
        assert_eq!(plan.cut, 1);
        assert!(next.ports.values().any(|ranges| ranges.len() == most));
    }

    #[test]
    fn the_nodes_addresses_are_no_pods_whatever_a_pod_says() {
        let own = BTreeSet::from([v4(10, 42, 0, 1)]);
        let manner = Manner { own, ..manner() };
        let (_, next) = Tables::default().plan(&compiled(vec![rule(6, 80, 80)]), &manner);
        let (_, active) = next.active();
        assert_eq!(active[&v4(10, 42, 0, 1)], Endpoint { flags: endpoint_flag::OWN_NODE, ..Endpoint::NONE });
    }

    #[test]
    fn a_pod_is_held_by_an_address_that_only_its_plugin_knows_yet() {
        let learned = BTreeMap::from([(v4(10, 42, 0, 7), pod_number("x", "a")), (v4(10, 42, 0, 8), 5)]);
        let manner = Manner { learned, ..manner() };
        let (_, next) = Tables::default().plan(&compiled(vec![rule(6, 80, 80)]), &manner);
        let (_, active) = next.active();
        assert_eq!(active[&v4(10, 42, 0, 7)].flags, endpoint_flag::EGRESS);
        assert!(
            !active.contains_key(&v4(10, 42, 0, 8)),
            "a pod that the cluster does not know stays unknown"
        );
    }
}
