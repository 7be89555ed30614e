//! Verdicts: the facts of one attempt to connect come in, what the NetworkPolicies say of it goes out, for both ends, with
//! the rule that decided or the policies that isolate.
//!
//! The specification leaves things open; there the verdict is [`Word::Undefined`], with the reason, and never a guess:
//! protocols other than TCP, UDP and SCTP; host-network pods; a pod's own node; a pod that reaches itself through a
//! Service; and where source or destination are rewritten at a place that the specification does not fix.

pub mod explain;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use crate::policy::cluster::{Cluster, Peer, Pod, Policy, Port, PortNumber};
use crate::policy::compile::{TooLarge, compile};
use crate::policy::compiled::{self, Address, Compiled, PodId, PolicyId, RuleId, SCTP, TCP, UDP, is_ipv4};
use crate::policy::kube_router::NODE_PORTS;
use crate::policy::services::Translation;
use crate::policy::Side;

/// One state of the cluster with its policies compiled.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The objects.
    pub cluster: Cluster,
    /// The policies, compiled against them.
    pub compiled: Compiled,
    /// The compiled pod of each pod of the cluster.
    ids: Vec<Option<PodId>>,
}

impl State {
    /// Compiles the policies of a cluster.
    pub fn new(cluster: Cluster) -> Result<Self, TooLarge> {
        let compiled = compile(&cluster)?;
        let mut next = 0_u32;
        let ids = cluster
            .pods
            .iter()
            .map(|pod| {
                pod.is_held().then(|| {
                    let id = PodId(next);
                    next = next.saturating_add(1);
                    id
                })
            })
            .collect();
        Ok(Self { cluster, compiled, ids })
    }

    /// The compiled form of a pod (an index into the cluster's), unless it is host-network or finished.
    pub fn id(&self, pod: usize) -> Option<PodId> {
        self.ids.get(pod).copied().flatten()
    }
}

/// Who attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A pod (an index) with an address of its own, or one to come.
    Pod(usize),
    /// A host-network pod (an index).
    HostPod(usize),
    /// A node (an index): whatever runs there without an address of its own.
    Node(usize),
    /// An address that is neither a pod's nor a node's.
    Other(Address),
}

/// The facts of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who attempts.
    pub from: Source,
    /// The destination as it was sent.
    pub sent_to: (Address, u16),
    /// The destination after translation; `None` where the node refuses, having none to translate to.
    pub to: Option<(Address, u16)>,
    /// How it was translated, if it was.
    pub translation: Option<&'a Translation>,
    /// The protocol's number.
    pub protocol: u8,
}

impl Facts<'_> {
    fn translated_at_sender(&self) -> bool {
        self.translation.is_some_and(Translation::at_sender)
    }
}

/// What is said of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// The policies let it pass.
    Allow,
    /// They do not.
    Deny,
    /// The specification leaves it open.
    Undefined,
    /// It differs between the destinations that a Service has.
    Mixed,
}

impl Word {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Undefined => "undefined",
            Self::Mixed => "mixed",
        }
    }

    /// Of a connection, from what is said of its two ends: both must let it pass.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deny, _) | (_, Self::Deny) => Self::Deny,
            (Self::Undefined, _) | (_, Self::Undefined) => Self::Undefined,
            (Self::Mixed, _) | (_, Self::Mixed) => Self::Mixed,
            (Self::Allow, Self::Allow) => Self::Allow,
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// On which destination a verdict was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EvaluatedOn {
    /// As the sender sent it.
    #[serde(rename = "pre-nat")]
    PreNat,
    /// After the sender's node translated it; also where nothing is translated.
    #[serde(rename = "post-nat")]
    PostNat,
}

/// What the policies say of one end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Allow, deny or undefined.
    pub word: Word,
    /// The rule that allows.
    pub rule: Option<RuleId>,
    /// The policies that isolate the pod on this side.
    pub isolated_by: Vec<PolicyId>,
    /// One sentence.
    pub reason: String,
    /// On which destination.
    pub evaluated_on: EvaluatedOn,
}

impl Verdict {
    fn of(word: Word, reason: impl Into<String>) -> Self {
        Self { word, rule: None, isolated_by: Vec::new(), reason: reason.into(), evaluated_on: EvaluatedOn::PostNat }
    }
}

/// Whether policies are defined for a protocol.
fn is_defined(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

const OTHER_PROTOCOL: &str =
    "the pod is isolated, and policies are defined for TCP, UDP and SCTP only: the specification leaves this protocol open";

const HOST_PODS: &str = "host-network pods are left open: treated as pods, or as traffic of the node";

impl State {
    /// What the policies say of the sending end.
    pub fn egress(&self, facts: &Facts<'_>) -> Verdict {
        let mut verdict = match facts.from {
            Source::Pod(index) => match self.cluster.pods.get(index).zip(self.id(index)) {
                Some((pod, id)) => self.egress_of_pod(facts, index, pod, id),
                None => Verdict::of(Word::Allow, "the source is no pod: policies do not hold what it sends"),
            },
            Source::HostPod(index) => self.egress_of_host_pods(facts, self.cluster.pods.get(index).into_iter()),
            Source::Node(node) => self.egress_of_host_pods(facts, self.host_pods(node)),
            Source::Other(address) => self.egress_of_other(&address),
        };
        if facts.translation.is_some_and(|t| !t.at_sender()) {
            verdict.evaluated_on = EvaluatedOn::PreNat;
        }
        verdict
    }

    /// What the policies would say of the destination as it was sent: what is seen before the node translates.
    pub fn egress_before_translation(&self, facts: &Facts<'_>) -> Option<Word> {
        let Source::Pod(index) = facts.from else { return None };
        facts.translation?;
        let (to, port) = facts.sent_to;
        let decision = self.compiled.decide_for(self.id(index)?, Side::Egress, &to, facts.protocol, port);
        Some(if decision.allows() { Word::Allow } else { Word::Deny })
    }

    fn isolated(&self, word: Word, set: Option<compiled::SetId>, reason: impl Into<String>) -> Verdict {
        let set = set.and_then(|s| self.compiled.sets.get(s.index()));
        let isolated_by = set.map(|s| s.isolated_by.clone()).unwrap_or_default();
        Verdict { isolated_by, ..Verdict::of(word, reason) }
    }

    fn egress_of_pod(&self, facts: &Facts<'_>, index: usize, pod: &Pod, id: PodId) -> Verdict {
        let set = self.compiled.pods.get(id.index()).and_then(|p| p.egress);
        if set.is_none() {
            return Verdict::of(Word::Allow, format!("no policy isolates {} for egress", pod.full_name()));
        }
        let (to, port) = facts.to.unwrap_or(facts.sent_to);
        let itself = self.cluster.owners.get(&to) == Some(&index);
        if itself && facts.translation.is_none() {
            return self.isolated(
                Word::Allow,
                set,
                "what a pod sends to its own address never leaves it: no policy can hold that",
            );
        }
        if !is_defined(facts.protocol) {
            return self.isolated(Word::Undefined, set, OTHER_PROTOCOL);
        }
        let decide = |(to, port): (Address, u16)| {
            self.compiled.decide_for(id, Side::Egress, &to, facts.protocol, port)
        };
        let decision = decide((to, port));
        if facts.translation.is_some_and(|t| !t.at_sender()) && decide(facts.sent_to).allows() != decision.allows() {
            return self.isolated(
                Word::Undefined,
                set,
                "another node translates the destination, after this pod's node has decided: whether policies look \
                 before or after is left open, and here it matters",
            );
        }
        match decision {
            compiled::Decision::Allowed(rule) => {
                let mut verdict = self.isolated(Word::Allow, set, format!("{} allows it", self.rule_name(rule)));
                verdict.rule = Some(rule);
                verdict
            }
            compiled::Decision::NotIsolated | compiled::Decision::OwnNode => {
                self.isolated(Word::Allow, set, "nothing forbids it")
            }
            compiled::Decision::Denied(_) if itself => self.isolated(
                Word::Undefined,
                set,
                "the Service leads back to the pod itself: whether policies hold that is left open; no rule allows it",
            ),
            compiled::Decision::Denied(_) => self.egress_denied(facts, pod, set, (to, port)),
        }
    }

    /// No rule allows: which is a denial, unless the specification leaves it open.
    fn egress_denied(
        &self,
        facts: &Facts<'_>,
        pod: &Pod,
        set: Option<compiled::SetId>,
        (to, port): (Address, u16),
    ) -> Verdict {
        let node = self.cluster.node_addresses.get(&to).copied().filter(|_| self.cluster.pod_at(&to).is_none());
        let isolating = || self.policies_of(set);
        if let Some(node) = node {
            let named = self.host_pods(node).find(|host| {
                isolating().any(|p| chooses_by_name(&self.cluster, p, Side::Egress, host, facts.protocol, port, host))
            });
            if let Some(host) = named {
                return self.isolated(
                    Word::Undefined,
                    set,
                    format!("a rule means {}, which uses the node's address; {HOST_PODS}", host.full_name()),
                );
            }
        }
        if facts.translation.is_none() && node.is_some() && node == pod.node {
            if NODE_PORTS.contains(&port) {
                return self.isolated(
                    Word::Undefined,
                    set,
                    "no rule allows it, but it is a node port of the pod's own node: whether policies hold traffic to the \
                     own node is left open",
                );
            }
            let blocks = isolating().flat_map(|p| p.rules(Side::Egress).unwrap_or_default()).flat_map(|r| &r.peers);
            let by_address =
                blocks.into_iter().any(|p| matches!(p, Peer::Block { ipv4, .. } if *ipv4 == is_ipv4(&to)));
            if by_address {
                return self.isolated(
                    Word::Undefined,
                    set,
                    "no rule allows it, but it is the pod's own node: whether rules by address hold traffic to the own \
                     node is left open",
                );
            }
        }
        if facts.to.is_none() {
            return self.isolated(
                Word::Deny,
                set,
                "no rule allows the address, and the Service has no endpoint that could be allowed instead",
            );
        }
        self.isolated(Word::Deny, set, format!("{} is isolated for egress and no rule allows it", pod.full_name()))
    }

    fn policies_of(&self, set: Option<compiled::SetId>) -> impl Iterator<Item = &Policy> {
        let set = set.and_then(|s| self.compiled.sets.get(s.index()));
        set.into_iter().flat_map(|s| &s.isolated_by).filter_map(|p| self.cluster.policies.get(p.index()))
    }

    /// The host-network pods of a node.
    fn host_pods(&self, node: usize) -> impl Iterator<Item = &Pod> {
        self.cluster.pods.iter().filter(move |p| p.host_network && !p.finished && p.node == Some(node))
    }

    fn egress_of_host_pods<'a>(&self, facts: &Facts<'_>, pods: impl Iterator<Item = &'a Pod>) -> Verdict {
        let (to, port) = facts.to.unwrap_or(facts.sent_to);
        for pod in pods {
            if self.as_if_held(pod, Side::Egress, &to, None, facts.protocol, port) == Some(false) {
                return Verdict::of(
                    Word::Undefined,
                    format!("a policy selects {} and does not allow it; {HOST_PODS}", pod.full_name()),
                );
            }
        }
        Verdict::of(Word::Allow, "policies do not hold what a node sends")
    }

    fn egress_of_other(&self, address: &Address) -> Verdict {
        let range = self.cluster.nodes.iter().flat_map(|n| &n.pod_ranges).find(|r| r.covers(address));
        let isolates = self.cluster.policies.iter().any(|p| p.egress.is_some());
        match range {
            Some(range) if isolates => Verdict::of(
                Word::Undefined,
                format!(
                    "no pod has this address, though it lies in the pod range {range}: policies select pods, so whose \
                     they would be is not known"
                ),
            ),
            _ => Verdict::of(Word::Allow, "the source is no pod: policies do not hold what it sends"),
        }
    }

    /// What the policies say of the receiving end.
    pub fn ingress(&self, facts: &Facts<'_>) -> Verdict {
        let Some((to, port)) = facts.to else {
            return Verdict::of(Word::Allow, "nothing is reached: the Service has no ready endpoint");
        };
        let Some((index, pod)) = self.cluster.pod_at(&to) else { return self.ingress_of_no_pod(facts, to, port) };
        let id = self.id(index);
        let Some(set) = id.and_then(|id| self.compiled.pods.get(id.index())).and_then(|p| p.ingress) else {
            return Verdict::of(Word::Allow, format!("no policy isolates {} for ingress", pod.full_name()));
        };
        let set = Some(set);
        let from_node = match facts.from {
            Source::Node(node) => Some(node),
            Source::HostPod(host) => self.cluster.pods.get(host).and_then(|p| p.node),
            Source::Pod(_) | Source::Other(_) => None,
        };
        if from_node.is_some() && from_node == pod.node {
            return self.isolated(
                Word::Allow,
                set,
                "a pod's own node always reaches it, whatever policies isolate it",
            );
        }
        let itself = facts.from == Source::Pod(index);
        if itself && facts.translation.is_none() {
            return self.isolated(Word::Allow, set, "a pod always reaches itself at its own address");
        }
        if !is_defined(facts.protocol) {
            return self.isolated(Word::Undefined, set, OTHER_PROTOCOL);
        }
        let ipv4 = is_ipv4(&to);
        let of_node = |node: Option<usize>| {
            let addresses = node.and_then(|n| self.cluster.nodes.get(n)).map(|n| n.addresses.as_slice());
            let addresses = addresses.unwrap_or_default();
            addresses.iter().copied().find(|a| is_ipv4(a) == ipv4).or_else(|| addresses.first().copied())
        };
        let (source, sender_node) = match facts.from {
            Source::Pod(i) => {
                let sender = self.cluster.pods.get(i);
                let address = sender.and_then(|p| p.address(ipv4).or_else(|| p.addresses.first().copied()));
                (address, sender.and_then(|p| p.node))
            }
            Source::Other(address) => (Some(address), None),
            Source::Node(_) | Source::HostPod(_) => (of_node(from_node), from_node),
        };
        let Some(id) = id else { return Verdict::of(Word::Allow, "the destination is no pod") };
        let decide = |source: Option<Address>| match source {
            // A pod without an address yet matches selectors, but there is nothing to look up.
            None => compiled::Decision::Denied(compiled::SetId(u32::MAX)),
            Some(source) => self.compiled.decide_for(id, Side::Ingress, &source, facts.protocol, port),
        };
        let decision = decide(source);
        // Node ports and load balancers' addresses: another node than the one that translated sees that one as the
        // source; and what a pod sends to another node's address, its own node sends for it.
        let hiding = facts.translation.filter(|t| t.hides_source).into_iter().flat_map(|t| {
            let sent_for = sender_node.filter(|_| !t.at_sender());
            t.by.into_iter().chain(sent_for)
        });
        let mut hiding = hiding.filter(|node| Some(*node) != pod.node);
        if hiding.any(|node| decide(of_node(Some(node))).allows() != decision.allows()) {
            return self.isolated(
                Word::Undefined,
                set,
                "a node puts its own address in place of the sender's: whether policies look at the one or the other is \
                 left open, and here it matters",
            );
        }
        match decision {
            compiled::Decision::Allowed(rule) => {
                let mut verdict = self.isolated(Word::Allow, set, format!("{} allows it", self.rule_name(rule)));
                verdict.rule = Some(rule);
                verdict
            }
            compiled::Decision::NotIsolated => self.isolated(Word::Allow, set, "nothing forbids it"),
            compiled::Decision::OwnNode => {
                self.isolated(Word::Allow, set, "a pod's own node always reaches it, whatever policies isolate it")
            }
            compiled::Decision::Denied(_) if itself => self.isolated(
                Word::Undefined,
                set,
                "the Service leads back to the pod itself: whether policies hold that is left open; no rule allows it",
            ),
            compiled::Decision::Denied(_) => {
                let hosts: Vec<&Pod> = match facts.from {
                    Source::HostPod(host) => self.cluster.pods.get(host).into_iter().collect(),
                    Source::Node(node) => self.host_pods(node).collect(),
                    Source::Pod(_) | Source::Other(_) => Vec::new(),
                };
                let named = hosts.into_iter().find(|host| {
                    self.policies_of(set).any(|p| {
                        chooses_by_name(&self.cluster, p, Side::Ingress, host, facts.protocol, port, pod)
                    })
                });
                if let Some(host) = named {
                    return self.isolated(
                        Word::Undefined,
                        set,
                        format!("a rule means {}, which uses the node's address; {HOST_PODS}", host.full_name()),
                    );
                }
                self.isolated(
                    Word::Deny,
                    set,
                    format!("{} is isolated for ingress and no rule allows it", pod.full_name()),
                )
            }
        }
    }

    fn ingress_of_no_pod(&self, facts: &Facts<'_>, to: Address, port: u16) -> Verdict {
        let node = self.cluster.node_addresses.get(&to).copied();
        let source = match facts.from {
            Source::Pod(i) | Source::HostPod(i) => self.cluster.pods.get(i),
            Source::Node(_) | Source::Other(_) => None,
        };
        let address = match facts.from {
            Source::Other(address) => Some(address),
            _ => source.and_then(|p| p.address(is_ipv4(&to))),
        };
        let hosts = node.into_iter().flat_map(|n| self.host_pods(n));
        // A declared port says whose it is; a pod that declares none may listen anywhere.
        let listening = hosts.filter(|h| {
            h.ports.is_empty() || h.ports.iter().any(|p| p.protocol == facts.protocol && p.number == port)
        });
        for host in listening {
            let allowed = address.map_or(Some(true), |a| {
                self.as_if_held(host, Side::Ingress, &a, source.filter(|p| p.host_network), facts.protocol, port)
            });
            if allowed == Some(false) {
                return Verdict::of(
                    Word::Undefined,
                    format!("a policy selects {} and does not allow it; {HOST_PODS}", host.full_name()),
                );
            }
        }
        Verdict::of(Word::Allow, "the destination is no pod: policies do not hold what it receives")
    }

    /// What policies would say of a host-network pod, were it held as others are; `None` when none isolates it.
    fn as_if_held(
        &self,
        pod: &Pod,
        side: Side,
        peer: &Address,
        peer_host: Option<&Pod>,
        protocol: u8,
        port: u16,
    ) -> Option<bool> {
        let mut isolated = None;
        let other = self.cluster.pod_at(peer).map(|(_, p)| p).or(peer_host);
        let destination = if side == Side::Egress { other } else { Some(pod) };
        for policy in self.cluster.policies.iter().filter(|p| p.selects(pod)) {
            let Some(rules) = policy.rules(side) else { continue };
            isolated = Some(false);
            let allows = rules.iter().any(|rule| {
                let peer_matches = rule.peers.is_empty()
                    || rule.peers.iter().any(|one| {
                        one.holds(peer)
                            || other.is_some_and(|o| one.chooses(&self.cluster, &policy.namespace, o))
                    });
                peer_matches && (rule.ports.is_empty() || ports_match(&rule.ports, destination, protocol, port))
            });
            if allows {
                return Some(true);
            }
        }
        isolated
    }

    /// A rule's name for people, as `x/p egress[0].to[1].ports[0]`.
    pub fn rule_name(&self, rule: RuleId) -> String {
        let Some(rule) = self.compiled.rules.get(rule.index()) else { return String::new() };
        let policy = self.policy_name(rule.policy);
        let (side, peers) = match rule.side {
            Side::Egress => ("egress", "to"),
            Side::Ingress => ("ingress", "from"),
        };
        let peer = rule.peer.map_or_else(String::new, |p| format!(".{peers}[{p}]"));
        let port = rule.port.map_or_else(String::new, |p| format!(" with ports[{p}]"));
        format!("{policy} {side}[{}]{peer}{port}", rule.rule)
    }

    /// A policy's namespace and name.
    pub fn policy_name(&self, policy: PolicyId) -> String {
        self.compiled.policies.get(policy.index()).map(ToString::to_string).unwrap_or_default()
    }
}

/// Whether a rule of a policy means a host-network pod by labels that only some pods have. A selector that asks for
/// nothing (`{}`, or namespaces alone) means pods of the pod network, by every reading.
fn chooses_by_name(
    cluster: &Cluster,
    policy: &Policy,
    side: Side,
    host: &Pod,
    protocol: u8,
    port: u16,
    destination: &Pod,
) -> bool {
    policy.rules(side).unwrap_or_default().iter().any(|rule| {
        let named = |peer: &Peer| match peer {
            Peer::Pods { pods: Some(pods), .. } => {
                !pods.chooses_everything() && peer.chooses(cluster, &policy.namespace, host)
            }
            Peer::Pods { pods: None, .. } | Peer::Block { .. } => false,
        };
        rule.peers.iter().any(named)
            && (rule.ports.is_empty() || ports_match(&rule.ports, Some(destination), protocol, port))
    })
}

fn ports_match(ports: &[Port], destination: Option<&Pod>, protocol: u8, port: u16) -> bool {
    ports.iter().filter(|p| p.protocol == protocol).any(|p| match &p.number {
        PortNumber::Range(first, last) => (*first..=*last).contains(&port),
        PortNumber::Named(name) => destination.is_some_and(|d| d.named(name, protocol).any(|n| n == port)),
    })
}
