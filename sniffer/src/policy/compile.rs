//! From a state of the cluster to the compiled form.
//!
//! Pods that the same policies select share a set. A set is made by a sweep over all prefixes that its policies name:
//! what allows at a prefix is what allowed at the prefix around it, plus what begins there, less the excepts that begin
//! there. So the work grows with the prefixes and not with their square.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::Side;
use super::cluster::{Cluster, Peer, Policy, PortNumber, Rule};
use super::compiled::{
    Address, Compiled, EVERYWHERE, Endpoint, IPV4, NodeId, NodeRef, PodId, PodRef, PolicyId, PolicyRef, PortRule,
    PortsId, Prefix, RuleId, RuleRef, Set, SetId,
};

/// What one state of the cluster may cost at most. Whoever may write policies must not be able to stop the agent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rules by policy, peer and port.
    pub rules: usize,
    /// Steps of the sweeps, over all sets.
    pub steps: usize,
}

impl Default for Limits {
    /// Hundreds of times what 1,000 pods with 50 policies take.
    fn default() -> Self {
        Self { rules: 1 << 20, steps: 1 << 26 }
    }
}

/// Policies that are beyond the limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "NetworkPolicy {policy} multiplies into too much ({what}): write it with fewer peers, excepts or ports in one rule"
)]
pub struct TooLarge {
    /// The policy at which the limit was passed.
    pub policy: String,
    /// What there is too much of.
    pub what: &'static str,
}

/// What happens at a prefix: an allowance (an index) begins or ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Begins(u32),
    Ends(u32),
}

/// What one policy adds to the sets of one side. `at` is sorted by prefix.
struct Part {
    changes: Vec<(Prefix, Change)>,
}

struct Compiler<'a> {
    cluster: &'a Cluster,
    limits: Limits,
    steps: usize,
    out: Compiled,
    rule_ids: HashMap<RuleRef, RuleId>,
    port_ids: HashMap<Vec<PortRule>, PortsId>,
    /// What is allowed together: by one rule and peer, at some prefixes.
    allowances: Vec<Rc<[PortRule]>>,
    allowance_ids: HashMap<Rc<[PortRule]>, u32>,
    /// Parts already made: by policy, side, and for ingress the numbers of the names that it uses.
    parts: HashMap<(usize, Side, Names), Rc<Part>>,
}

/// The numbers of named ports in a destination pod, by name and protocol.
type Names = BTreeMap<(String, u8), Vec<u16>>;

/// Compiles with the default limits.
pub fn compile(cluster: &Cluster) -> Result<Compiled, TooLarge> {
    compile_within(cluster, Limits::default())
}

/// Compiles, unless it takes more than the limits allow.
pub fn compile_within(cluster: &Cluster, limits: Limits) -> Result<Compiled, TooLarge> {
    let mut compiler = Compiler {
        cluster,
        limits,
        steps: 0,
        out: Compiled::default(),
        rule_ids: HashMap::new(),
        port_ids: HashMap::new(),
        allowances: Vec::new(),
        allowance_ids: HashMap::new(),
        parts: HashMap::new(),
    };
    compiler.names();
    compiler.pods()?;
    Ok(compiler.out)
}

fn id(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

impl Compiler<'_> {
    fn names(&mut self) {
        self.out.nodes = self
            .cluster
            .nodes
            .iter()
            .map(|n| NodeRef { name: n.name.clone(), addresses: n.addresses.clone() })
            .collect();
        self.out.node_addresses =
            self.cluster.node_addresses.iter().map(|(a, n)| (*a, NodeId(id(*n)))).collect();
        self.out.policies = self
            .cluster
            .policies
            .iter()
            .map(|p| PolicyRef { namespace: p.namespace.clone(), name: p.name.clone() })
            .collect();
    }

    fn pods(&mut self) -> Result<(), TooLarge> {
        let mut by_namespace: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, policy) in self.cluster.policies.iter().enumerate() {
            by_namespace.entry(policy.namespace.as_str()).or_default().push(index);
        }
        let mut sets: HashMap<(Side, Vec<usize>, Names), SetId> = HashMap::new();
        for (index, pod) in self.cluster.pods.iter().enumerate().filter(|(_, pod)| pod.is_held()) {
            let near = by_namespace.get(pod.namespace.as_str()).map(Vec::as_slice).unwrap_or_default();
            let selecting: Vec<usize> = near
                .iter()
                .copied()
                .filter(|i| self.cluster.policies.get(*i).is_some_and(|p| p.selector.matches(&pod.labels)))
                .collect();
            let mut ids = [None, None];
            for (side, slot) in [Side::Egress, Side::Ingress].into_iter().zip(&mut ids) {
                let held: Vec<usize> = selecting
                    .iter()
                    .copied()
                    .filter(|i| self.cluster.policies.get(*i).is_some_and(|p| p.rules(side).is_some()))
                    .collect();
                if held.is_empty() {
                    continue;
                }
                // For ingress the destination, whose port names count, is the pod itself.
                let mut names = Names::new();
                if side == Side::Ingress {
                    for policy in held.iter().filter_map(|i| self.cluster.policies.get(*i)) {
                        for (name, protocol) in used_names(policy) {
                            let numbers = sorted(pod.named(&name, protocol).collect());
                            names.insert((name, protocol), numbers);
                        }
                    }
                }
                let key = (side, held, names);
                *slot = Some(match sets.get(&key) {
                    Some(set) => *set,
                    None => {
                        let set = self.set(side, &key.1, &key.2)?;
                        sets.insert(key, set);
                        set
                    }
                });
            }
            let [egress, ingress] = ids;
            let pod_id = PodId(id(self.out.pods.len()));
            let addresses: Vec<Address> = self.cluster.own_addresses(index, pod).collect();
            for address in &addresses {
                self.out.endpoints.insert(*address, Endpoint { pod: pod_id, egress, ingress });
            }
            self.out.pods.push(PodRef {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                node: pod.node.map(|n| NodeId(id(n))),
                addresses,
                egress,
                ingress,
            });
        }
        Ok(())
    }

    fn set(&mut self, side: Side, policies: &[usize], names: &Names) -> Result<SetId, TooLarge> {
        let mut changes: Vec<(Prefix, Change)> = Vec::new();
        for index in policies {
            let part = self.part(*index, side, names)?;
            changes.extend_from_slice(&part.changes);
        }
        changes.sort_unstable();
        changes.dedup();
        let last = policies.last().copied().unwrap_or(0);
        let nets = self.sweep(&changes, last)?;
        let set = SetId(id(self.out.sets.len()));
        let isolated_by = policies.iter().map(|i| PolicyId(id(*i))).collect();
        self.out.sets.push(Set { side, isolated_by, nets });
        Ok(set)
    }

    /// From changes at prefixes to what is allowed at each.
    fn sweep(&mut self, changes: &[(Prefix, Change)], policy: usize) -> Result<Vec<(Prefix, PortsId)>, TooLarge> {
        let mut nets: Vec<(Prefix, PortsId)> = Vec::new();
        let mut known: HashMap<Rc<[u32]>, PortsId> = HashMap::new();
        // The prefixes around the one at hand, with what allows there.
        let mut around: Vec<(Prefix, Rc<[u32]>, Option<PortsId>)> = Vec::new();
        for group in changes.chunk_by(|a, b| a.0 == b.0) {
            let Some((prefix, _)) = group.first().copied() else { continue };
            while around.last().is_some_and(|(outer, _, _)| !outer.contains(&prefix)) {
                around.pop();
            }
            let (outer, outer_ports) = match around.last() {
                Some((_, active, ports)) => (Rc::clone(active), *ports),
                None => (Rc::from([]), None),
            };
            // An except is smaller than its block: nothing begins and ends at one prefix.
            let ended: BTreeSet<u32> = group
                .iter()
                .filter_map(|(_, c)| if let Change::Ends(one) = c { Some(*one) } else { None })
                .collect();
            let mut active: Vec<u32> = outer.iter().copied().filter(|one| !ended.contains(one)).collect();
            active.extend(group.iter().filter_map(|(_, c)| if let Change::Begins(one) = c { Some(*one) } else { None }));
            active.sort_unstable();
            active.dedup();
            self.steps = self.steps.saturating_add(active.len()).saturating_add(group.len());
            if self.steps > self.limits.steps {
                return Err(self.too_large(policy, "prefixes and excepts"));
            }
            let active: Rc<[u32]> = active.into();
            let ports = match known.get(&active) {
                Some(ports) => *ports,
                None => {
                    let ports = self.union(&active, policy)?;
                    known.insert(Rc::clone(&active), ports);
                    ports
                }
            };
            let nothing = self.out.ports.get(ports.index()).is_none_or(Vec::is_empty);
            let same_as_around = outer_ports == Some(ports) || (outer_ports.is_none() && nothing);
            if same_as_around {
                around.push((prefix, active, outer_ports));
            } else {
                nets.push((prefix, ports));
                around.push((prefix, active, Some(ports)));
            }
        }
        Ok(nets)
    }

    /// The port list of several allowances together.
    fn union(&mut self, active: &[u32], policy: usize) -> Result<PortsId, TooLarge> {
        let lists = active.iter().filter_map(|one| self.allowances.get(*one as usize));
        let mut all: Vec<PortRule> = lists.flat_map(|list| list.iter().copied()).collect();
        self.steps = self.steps.saturating_add(all.len());
        if self.steps > self.limits.steps {
            return Err(self.too_large(policy, "ports"));
        }
        // Every protocol first, then the wider range first: what another covers says nothing more.
        all.sort_unstable_by_key(|r| (r.protocol, r.first, std::cmp::Reverse(r.last), r.rule));
        if let Some(every) = all.first().copied().filter(|r| r.protocol == 0) {
            all = vec![every];
        }
        let mut kept: Vec<PortRule> = Vec::new();
        for rule in all {
            if kept.last().is_none_or(|k| k.protocol != rule.protocol || k.last < rule.last) {
                kept.push(rule);
            }
        }
        Ok(self.intern(kept))
    }

    fn intern(&mut self, list: Vec<PortRule>) -> PortsId {
        if let Some(ports) = self.port_ids.get(&list) {
            return *ports;
        }
        let ports = PortsId(id(self.out.ports.len()));
        self.out.ports.push(list.clone());
        self.port_ids.insert(list, ports);
        ports
    }

    fn part(&mut self, index: usize, side: Side, names: &Names) -> Result<Rc<Part>, TooLarge> {
        let Some(policy) = self.cluster.policies.get(index) else {
            return Ok(Rc::new(Part { changes: Vec::new() }));
        };
        let used = used_names(policy);
        let own: Names = names
            .iter()
            .filter(|(key, _)| used.contains(*key))
            .map(|(key, numbers)| (key.clone(), numbers.clone()))
            .collect();
        let key = (index, side, own);
        if let Some(part) = self.parts.get(&key) {
            return Ok(Rc::clone(part));
        }
        let mut part = Part { changes: Vec::new() };
        for (rule_index, rule) in policy.rules(side).unwrap_or_default().iter().enumerate() {
            let place = Place { index, side, rule: id(rule_index) };
            if rule.peers.is_empty() {
                self.peer(&mut part, policy, place, rule, None, &key.2)?;
            }
            for peer in 0..rule.peers.len() {
                self.peer(&mut part, policy, place, rule, Some(peer), &key.2)?;
            }
        }
        let part = Rc::new(part);
        self.parts.insert(key, Rc::clone(&part));
        Ok(part)
    }

    /// What one peer of a rule adds.
    fn peer(
        &mut self,
        part: &mut Part,
        policy: &Policy,
        place: Place,
        rule: &Rule,
        peer_index: Option<usize>,
        names: &Names,
    ) -> Result<(), TooLarge> {
        let peer = peer_index.and_then(|i| rule.peers.get(i));
        let peer_id = peer_index.map(id);
        // What is allowed whoever the destination is; and, for egress, names whose numbers each destination gives.
        let mut numbers: Vec<PortRule> = Vec::new();
        let mut open_names: Vec<(&str, u8, RuleId)> = Vec::new();
        if rule.ports.is_empty() {
            let rule = self.rule(place, peer_id, None)?;
            numbers.push(PortRule { protocol: 0, first: 0, last: u16::MAX, rule });
        }
        for (i, port) in rule.ports.iter().enumerate() {
            let rule = self.rule(place, peer_id, Some(id(i)))?;
            let protocol = port.protocol;
            match &port.number {
                PortNumber::Range(first, last) => {
                    numbers.push(PortRule { protocol, first: *first, last: *last, rule });
                }
                PortNumber::Named(name) if place.side == Side::Egress => open_names.push((name, protocol, rule)),
                PortNumber::Named(name) => {
                    for number in names.get(&(name.clone(), protocol)).into_iter().flatten() {
                        numbers.push(PortRule { protocol, first: *number, last: *number, rule });
                    }
                }
            }
        }
        let chosen = |c: &Cluster, pod: &super::cluster::Pod| peer.is_none_or(|p| p.chooses(c, &policy.namespace, pod));
        if !numbers.is_empty() {
            match peer {
                None => {
                    let allowance = self.allowance(&numbers);
                    part.changes.push((EVERYWHERE, Change::Begins(allowance)));
                }
                Some(Peer::Block { net, ipv4, except }) => {
                    let allowance = self.allowance(&numbers);
                    part.changes.push((*net, Change::Begins(allowance)));
                    part.changes.extend(except.iter().map(|e| (*e, Change::Ends(allowance))));
                    // A block of IPv6 never holds IPv4, whose addresses lie inside `::/0` in this form.
                    if !ipv4 && net.contains(&IPV4) {
                        part.changes.push((IPV4, Change::Ends(allowance)));
                    }
                }
                Some(Peer::Pods { .. }) => {
                    let allowance = self.allowance(&numbers);
                    for (i, pod) in self.cluster.pods.iter().enumerate().filter(|(_, pod)| pod.is_held()) {
                        if chosen(self.cluster, pod) {
                            let own = self.cluster.own_addresses(i, pod);
                            part.changes.extend(own.map(|a| (Prefix::host(a), Change::Begins(allowance))));
                        }
                    }
                }
            }
        }
        if open_names.is_empty() {
            return Ok(());
        }
        for (i, pod) in self.cluster.pods.iter().enumerate().filter(|(_, pod)| pod.is_held()) {
            let mut resolved: Vec<PortRule> = Vec::new();
            for (name, protocol, rule) in &open_names {
                for number in sorted(pod.named(name, *protocol).collect()) {
                    resolved.push(PortRule { protocol: *protocol, first: number, last: number, rule: *rule });
                }
            }
            if resolved.is_empty() {
                continue;
            }
            let whole = match peer {
                Some(Peer::Block { .. }) => false,
                _ => chosen(self.cluster, pod),
            };
            for address in self.cluster.own_addresses(i, pod) {
                if whole || peer.is_some_and(|p| p.holds(&address)) {
                    let allowance = self.allowance(&resolved);
                    part.changes.push((Prefix::host(address), Change::Begins(allowance)));
                }
            }
        }
        Ok(())
    }

    fn allowance(&mut self, ports: &[PortRule]) -> u32 {
        if let Some(found) = self.allowance_ids.get(ports) {
            return *found;
        }
        let index = id(self.allowances.len());
        let ports: Rc<[PortRule]> = ports.into();
        self.allowances.push(Rc::clone(&ports));
        self.allowance_ids.insert(ports, index);
        index
    }

    fn rule(&mut self, place: Place, peer: Option<u32>, port: Option<u32>) -> Result<RuleId, TooLarge> {
        let rule = RuleRef { policy: PolicyId(id(place.index)), side: place.side, rule: place.rule, peer, port };
        if let Some(found) = self.rule_ids.get(&rule) {
            return Ok(*found);
        }
        if self.out.rules.len() >= self.limits.rules {
            return Err(self.too_large(place.index, "peers and ports"));
        }
        let rule_id = RuleId(id(self.out.rules.len()));
        self.out.rules.push(rule);
        self.rule_ids.insert(rule, rule_id);
        Ok(rule_id)
    }

    fn too_large(&self, policy: usize, what: &'static str) -> TooLarge {
        let policy = self.cluster.policies.get(policy).map(Policy::full_name).unwrap_or_default();
        TooLarge { policy, what }
    }
}

/// Which rule is being compiled.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    side: Side,
    rule: u32,
}

/// The port names that a policy's ingress rules use.
fn used_names(policy: &Policy) -> BTreeSet<(String, u8)> {
    let rules = policy.ingress.iter().flatten();
    let ports = rules.flat_map(|rule| &rule.ports);
    ports
        .filter_map(|port| match &port.number {
            PortNumber::Named(name) => Some((name.clone(), port.protocol)),
            PortNumber::Range(..) => None,
        })
        .collect()
}

fn sorted(mut numbers: Vec<u16>) -> Vec<u16> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
