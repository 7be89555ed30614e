//! What kube-router does with a packet: a model of its iptables backend (v2.10.0, dual-stack, without
//! `--netpol-default-deny`), chain by chain, as it was measured beside the specification. It is asked where the report
//! says "the policies intend this, kube-router will do that".
//!
//! Where the model and the specification part:
//! - a policy with both types is jumped to without regard to direction, so that its ingress rules also let egress pass
//!   between the pods that it selects, and the other way round;
//! - ICMP echo requests pass before any policy; unsolicited ICMP errors are INVALID to conntrack and dropped;
//! - local TCP, UDP and SCTP ports 30000 to 32767 pass before any policy;
//! - the blocks of one rule share one ipset: an except of one takes from the others, and of two equal ranges the last counts;
//! - `::/0` becomes 2000::/3 and fd00::/8;
//! - named ports are resolved over all peers together: a name that nobody has opens every port, a name in a rule without
//!   peers opens its number everywhere, and numbers can spill over to pods that do not declare them;
//! - what no pod's chain matches passes: link-local IPv6, host-network pods, and sources that are no pod's address.

use std::fmt;

use super::Side;
use super::cluster::{Cluster, Peer, Pod, Policy, Port, PortNumber, Rule};
use super::compiled::{Address, Prefix, SCTP, TCP, UDP, ip, is_ipv4};

/// ICMP.
pub const ICMP: u8 = 1;
/// ICMP for IPv6.
pub const ICMPV6: u8 = 58;

/// The ports that `--service-node-port-range` is by default.
pub const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A pod (an index) with an address of its own.
    Pod(usize),
    /// A node (an index), or a host-network pod on it.
    Node(usize),
    /// An address that is neither's.
    Other(Address),
}

/// The first packet of a connection, its destination translated as the sender's node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sends.
    pub from: Sender,
    /// To where.
    pub to: Address,
    /// The protocol's number.
    pub protocol: u8,
    /// The destination port; 0 where the protocol has none.
    pub port: u16,
    /// For ICMP: an echo request when `None`.
    pub icmp_type: Option<u8>,
    /// A Service's address was sent to.
    pub translated: bool,
    /// Another node sees the sender's node as the source.
    pub hides_source: bool,
}

/// What kube-router does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Lets it pass.
    Allow,
    /// Refuses it.
    Deny,
    /// It differs from sync to sync, or depends on what the objects do not say.
    Unknown,
}

impl Outcome {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What kube-router does, and why where that is not simply what the policies say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// What it does.
    pub outcome: Outcome,
    /// Why, when it is peculiar to kube-router.
    pub reason: Option<String>,
}

impl Prediction {
    /// One without a peculiar reason.
    pub fn plain(outcome: Outcome) -> Self {
        Self { outcome, reason: None }
    }

    /// One with a reason.
    pub fn because(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: Some(reason.into()) }
    }
}

/// Predicts what kube-router does with a packet.
pub fn predict(cluster: &Cluster, packet: &Packet) -> Prediction {
    let to_pod = cluster.pod_at(&packet.to);
    match packet.from {
        Sender::Pod(index) => match cluster.pods.get(index) {
            Some(pod) => from_pod(cluster, packet, index, pod, to_pod),
            None => Prediction::plain(Outcome::Allow),
        },
        Sender::Node(node) => {
            let Some((to_index, to)) = to_pod else { return Prediction::plain(Outcome::Allow) };
            if to.node == Some(node) {
                // "rule to permit the traffic to pods when source is the pod's local node"
                return Prediction::plain(Outcome::Allow);
            }
            let source = cluster.nodes.get(node).and_then(|n| family(&n.addresses, is_ipv4(&packet.to)));
            chain(cluster, packet, to_index, to, source).prediction()
        }
        Sender::Other(source) => {
            if let Some((to_index, to)) = to_pod {
                return chain(cluster, packet, to_index, to, Some(source)).prediction();
            }
            Prediction::because(
                Outcome::Allow,
                "the source is no known pod's address, so no pod's chain matches it: kube-router lets it pass",
            )
        }
    }
}

fn family(addresses: &[Address], ipv4: bool) -> Option<Address> {
    addresses.iter().copied().find(|a| is_ipv4(a) == ipv4)
}

/// fe80::/10 and ff02::/16: what leaves towards them has a link-local source.
fn is_link_local(address: &Address) -> bool {
    matches!(address, [0xfe, second, ..] if second & 0xc0 == 0x80) || matches!(address, [0xff, 0x02, ..])
}

fn from_pod(
    cluster: &Cluster,
    packet: &Packet,
    index: usize,
    pod: &Pod,
    to_pod: Option<(usize, &Pod)>,
) -> Prediction {
    let ipv4 = is_ipv4(&packet.to);
    let source = pod.address(ipv4).or_else(|| pod.addresses.first().copied());
    let same_pod = to_pod.is_some_and(|(to, _)| to == index);
    if same_pod && !packet.translated {
        return Prediction::plain(Outcome::Allow);
    }
    if is_link_local(&packet.to) {
        return Prediction::because(
            Outcome::Allow,
            "link-local IPv6 goes out with an fe80:: source, which no pod's chain matches: it passes every policy",
        );
    }
    let local = pod.node.is_some() && cluster.node_addresses.get(&packet.to).copied() == pod.node;
    if local && to_pod.is_none() && matches!(packet.protocol, TCP | UDP | SCTP) && NODE_PORTS.contains(&packet.port) {
        return Prediction::because(
            Outcome::Allow,
            format!("{} is a node port of the pod's own node: KUBE-ROUTER-INPUT returns before any policy", packet.port),
        );
    }
    let own = chain(cluster, packet, index, pod, source);
    let Some((to_index, to)) = to_pod.filter(|_| !same_pod) else { return own.prediction() };
    // One node: an ACCEPT in the first chain ends the way through the table.
    let same_node = pod.node.is_some() && pod.node == to.node;
    if same_node && own.is_final() {
        return own.prediction();
    }
    let seen = if packet.hides_source && !same_node {
        pod.node.and_then(|n| cluster.nodes.get(n)).and_then(|n| family(&n.addresses, ipv4))
    } else {
        source
    };
    own.and(chain(cluster, packet, to_index, to, seen))
}

/// What a pod's chain makes of a packet.
enum Verdict {
    /// ACCEPT: no further chain is asked.
    Final(Option<String>),
    /// The mark is set.
    Pass(Option<String>),
    /// It depends.
    Maybe(String),
    /// REJECT or DROP.
    Deny(Option<String>),
}

impl Verdict {
    fn is_final(&self) -> bool {
        matches!(self, Self::Final(_))
    }

    fn prediction(self) -> Prediction {
        match self {
            Self::Final(reason) | Self::Pass(reason) => Prediction { outcome: Outcome::Allow, reason },
            Self::Maybe(reason) => Prediction::because(Outcome::Unknown, reason),
            Self::Deny(reason) => Prediction { outcome: Outcome::Deny, reason },
        }
    }

    /// Both chains must let it pass.
    fn and(self, other: Self) -> Prediction {
        let (one, two) = (self.prediction(), other.prediction());
        match (one.outcome, two.outcome) {
            (Outcome::Deny, _) => one,
            (_, Outcome::Deny) => two,
            (Outcome::Unknown, _) => one,
            (_, Outcome::Unknown) => two,
            (Outcome::Allow, Outcome::Allow) => Prediction { reason: one.reason.or(two.reason), ..two },
        }
    }
}

/// KUBE-POD-FW-…: the chain of one pod, for a packet from `source`.
fn chain(cluster: &Cluster, packet: &Packet, index: usize, pod: &Pod, source: Option<Address>) -> Verdict {
    if let Some(verdict) = common(packet) {
        return verdict;
    }
    let is = |address: Option<&Address>| address.and_then(|a| cluster.owners.get(a)) == Some(&index);
    let (from_here, to_here) = (is(source.as_ref()), is(Some(&packet.to)));
    let selecting: Vec<&Policy> = cluster.policies.iter().filter(|p| p.selects(pod)).collect();
    let egress_covered = selecting.iter().any(|p| p.egress.is_some());
    let ingress_covered = selecting.iter().any(|p| p.ingress.is_some());
    // KUBE-NWPLCY-DEFAULT.
    let by_default_egress = from_here && !egress_covered;
    let by_default_ingress = to_here && !ingress_covered;
    if by_default_egress || by_default_ingress {
        let hairpin = from_here && to_here && egress_covered != ingress_covered;
        return Verdict::Pass(hairpin.then(|| {
            let side = if by_default_egress { "egress" } else { "ingress" };
            format!("back to itself through a Service the pod's one chain decides, and its open {side} marks the packet")
        }));
    }
    let mut best = Verdict::Deny(None);
    for policy in selecting {
        let both = policy.egress.is_some() && policy.ingress.is_some();
        let applies = both || (policy.egress.is_some() && from_here) || (policy.ingress.is_some() && to_here);
        if !applies {
            continue;
        }
        for side in [Side::Egress, Side::Ingress] {
            // Whether a rule of this side is what should decide here; if not, it does so by the both-type hole.
            let proper = match side {
                Side::Egress => from_here,
                Side::Ingress => to_here,
            };
            for (number, rule) in policy.rules(side).unwrap_or_default().iter().enumerate() {
                let marks = rule_marks(cluster, policy, side, rule, source.as_ref(), packet);
                best = better(best, marks, || {
                    (!proper).then(|| {
                        let (has, lets) = match side {
                            Side::Egress => ("egress", "ingress"),
                            Side::Ingress => ("ingress", "egress"),
                        };
                        format!(
                            "policy {} has both types, and kube-router then runs its {has} rule {number} for {lets} too, \
                             between the pods that it selects",
                            policy.full_name()
                        )
                    })
                });
                if matches!(best, Verdict::Pass(None)) {
                    return best;
                }
            }
        }
    }
    best
}

/// Keeps what decides: a mark over a perhaps over none; of two marks the one that is not peculiar.
fn better(best: Verdict, marks: Marks, other_side: impl FnOnce() -> Option<String>) -> Verdict {
    match (best, marks) {
        (Verdict::Pass(None), _) => Verdict::Pass(None),
        (best, Marks::Yes(why)) => match (best, other_side().or(why)) {
            (Verdict::Pass(Some(earlier)), Some(_)) => Verdict::Pass(Some(earlier)),
            (_, why) => Verdict::Pass(why),
        },
        (Verdict::Deny(_), Marks::Maybe(why)) => Verdict::Maybe(why),
        (Verdict::Deny(None), Marks::No(why)) => Verdict::Deny(why),
        (best, _) => best,
    }
}

/// KUBE-NWPLCY-COMMON, for the first packet of a connection.
fn common(packet: &Packet) -> Option<Verdict> {
    let echo = || Verdict::Final(Some("KUBE-NWPLCY-COMMON accepts it before any policy".into()));
    let invalid =
        |kind: u8| Verdict::Deny(Some(format!("ICMP type {kind} that nobody asked for is INVALID to conntrack: dropped")));
    match (packet.protocol, packet.icmp_type) {
        (ICMP, None | Some(8)) | (ICMPV6, None | Some(128)) => Some(echo()),
        // Timestamp, information and address mask requests begin something (nf_conntrack_proto_icmp); the rest answers.
        (ICMP, Some(13 | 15 | 17)) => None,
        (ICMP, Some(kind)) => Some(invalid(kind)),
        // Neighbour solicitation and advertisement are not tracked, and accepted.
        (ICMPV6, Some(135 | 136)) => Some(echo()),
        // The rest of neighbour discovery and of group membership is not tracked either, and not accepted.
        (ICMPV6, Some(130..=134 | 137 | 139 | 143)) => None,
        (ICMPV6, Some(kind)) => Some(invalid(kind)),
        _ => None,
    }
}

/// Whether a rule sets the mark.
enum Marks {
    /// It does; why, when the specification would not have it so.
    Yes(Option<String>),
    /// It does after some syncs.
    Maybe(String),
    /// It does not; why, when the specification would have it so.
    No(Option<String>),
}

fn actionable(pod: &Pod) -> bool {
    pod.is_held() && !pod.addresses.is_empty()
}

fn rule_marks(
    cluster: &Cluster,
    policy: &Policy,
    side: Side,
    rule: &Rule,
    source: Option<&Address>,
    packet: &Packet,
) -> Marks {
    let Some(source) = source else { return Marks::No(None) };
    let (target, peer) = match side {
        Side::Egress => (source, &packet.to),
        Side::Ingress => (&packet.to, source),
    };
    // The set of the pods that the policy selects.
    if !cluster.pod_at(target).is_some_and(|(_, pod)| policy.selects(pod)) {
        return Marks::No(None);
    }
    let peer_pod = cluster.pod_at(peer).map(|(_, pod)| pod);
    let everywhere = rule.peers.is_empty();
    let chosen = |pod: &Pod| rule.peers.iter().any(|p| p.chooses(cluster, &policy.namespace, pod));
    let in_pods = peer_pod.is_some_and(chosen);
    let (in_blocks, miss) = block_set(rule, peer);
    if rule.ports.is_empty() {
        return if everywhere || in_pods || in_blocks { Marks::Yes(None) } else { Marks::No(miss) };
    }
    let numbered = rule.ports.iter().any(|port| number_matches(port, packet));
    if numbered && (everywhere || in_pods || in_blocks) {
        return Marks::Yes(None);
    }
    let missed = || Marks::No(if numbered { miss.clone() } else { None });
    let names: Vec<(&str, u8)> = rule
        .ports
        .iter()
        .filter_map(|port| match &port.number {
            PortNumber::Named(name) => Some((name.as_str(), port.protocol)),
            PortNumber::Range(..) => None,
        })
        .collect();
    if names.is_empty() {
        return missed();
    }
    // Over whose declared ports the names are resolved.
    let resolving: Vec<&Pod> = cluster
        .pods
        .iter()
        .filter(|pod| actionable(pod))
        .filter(|pod| match side {
            Side::Ingress => policy.selects(pod),
            Side::Egress if everywhere => pod.namespace == policy.namespace,
            Side::Egress => chosen(pod),
        })
        .collect();
    let resolved =
        names.iter().any(|(name, protocol)| resolving.iter().any(|pod| pod.named(name, *protocol).next().is_some()));
    let only_names = rule.ports.iter().all(|port| matches!(port.number, PortNumber::Named(_)));
    if in_pods && only_names && !resolved {
        let name = names.first().map(|(name, _)| *name).unwrap_or_default();
        return Marks::Yes(Some(format!(
            "nobody whom rule {} of policy {} means has a port named {name}: kube-router then opens every port and protocol",
            rule_place(policy, side, rule),
            policy.full_name()
        )));
    }
    let matching: Vec<(&str, u8)> = names
        .iter()
        .copied()
        .filter(|(name, protocol)| {
            *protocol == packet.protocol
                && resolving.iter().any(|pod| pod.named(name, *protocol).any(|n| n == packet.port))
        })
        .collect();
    if matching.is_empty() {
        return missed();
    }
    if side == Side::Egress && everywhere {
        let strict = matching.iter().any(|(name, protocol)| {
            peer_pod.is_some_and(|pod| pod.named(name, *protocol).any(|n| n == packet.port))
        });
        return Marks::Yes((!strict).then(|| {
            format!(
                "a named port without peers is opened by its number, here {}, towards everywhere",
                packet.port
            )
        }));
    }
    // Egress to blocks: names are not looked at.
    let peers_match = in_pods || (side == Side::Ingress && (everywhere || in_blocks));
    if !peers_match {
        return Marks::No(None);
    }
    // The addresses behind a resolved name: of the pods that declare it, and perhaps of others (below).
    let Some((_, destination)) = cluster.pod_at(&packet.to) else { return Marks::No(None) };
    let declares = |pod: &Pod, name: &str| pod.named(name, packet.protocol).any(|n| n == packet.port);
    if matching.iter().any(|(name, _)| declares(destination, name)) && resolving.contains(&destination) {
        return Marks::Yes(None);
    }
    // All named ports of the pod that comes first share one list of addresses: whoever shares one of them with it is
    // added to the list, and so to its other ports.
    let spills = resolving.contains(&destination)
        && resolving.iter().any(|first| {
            matching.iter().any(|(name, _)| declares(first, name))
                && first.ports.iter().any(|own| {
                    destination.ports.iter().any(|theirs| {
                        (&own.name, own.protocol, own.number) == (&theirs.name, theirs.protocol, theirs.number)
                    })
                })
        });
    if spills {
        return Marks::Maybe(format!(
            "named ports spill: {} shares one with a pod that has this one, and whether it gets this one too depends on \
             the order of kube-router's list at each sync",
            destination.full_name()
        ));
    }
    missed()
}

fn rule_place(policy: &Policy, side: Side, rule: &Rule) -> usize {
    policy.rules(side).unwrap_or_default().iter().position(|r| std::ptr::eq(r, rule)).unwrap_or(0)
}

fn number_matches(port: &Port, packet: &Packet) -> bool {
    match &port.number {
        PortNumber::Range(first, last) => {
            port.protocol == packet.protocol && (*first..=*last).contains(&packet.port)
        }
        PortNumber::Named(_) => false,
    }
}

/// Whether the ipset of a rule's blocks holds an address; and, when it does not although a block does, why.
fn block_set(rule: &Rule, address: &Address) -> (bool, Option<String>) {
    // hash:net: the most specific entry decides; of equal entries the one added last is there.
    let mut found: Option<(Prefix, bool)> = None;
    let mut consider = |entry: Prefix, matches: bool| {
        if entry.covers(address) && found.is_none_or(|(best, _)| entry.length >= best.length) {
            found = Some((entry, matches));
        }
    };
    for peer in &rule.peers {
        let Peer::Block { net, ipv4, except } = peer else { continue };
        if *ipv4 != is_ipv4(address) {
            continue;
        }
        if *ipv4 && net.length == 96 {
            consider(Prefix::of([0, 0, 0, 0].into(), 1), true);
            consider(Prefix::of([128, 0, 0, 0].into(), 1), true);
        } else if !ipv4 && net.length == 0 {
            consider(Prefix::of([0x2000, 0, 0, 0, 0, 0, 0, 0].into(), 3), true);
            consider(Prefix::of([0xfd00, 0, 0, 0, 0, 0, 0, 0].into(), 8), true);
        } else {
            consider(*net, true);
        }
        for one in except {
            consider(*one, false);
        }
    }
    let holds = found.is_some_and(|(_, matches)| matches);
    if holds || !rule.peers.iter().any(|p| p.holds(address)) {
        return (holds, None);
    }
    let why = match found {
        Some((except, _)) => format!(
            "the blocks of one rule share one ipset, in which the except {except} counts for all of them: {} is not in it",
            ip(address)
        ),
        None => format!("::/0 becomes 2000::/3 and fd00::/8, which do not hold {}", ip(address)),
    };
    (false, Some(why))
}
