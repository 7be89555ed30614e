//! The compiled form of NetworkPolicies: what each pod address is held to, as sets of prefixes and port lists. The
//! userspace evaluator ([`Compiled::decide`]) reads exactly this form, and the kernel's maps are written from it.
//!
//! One lookup decides: of the prefixes of a set that cover an address the *longest* counts, and its port list is already
//! the union of every rule and peer that covers the whole of that prefix, less excepts, with named ports resolved. So
//! the kernel needs one longest-prefix match keyed by set and address, then one scan of a short list. No match, or an
//! empty list, is denied.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest as _, Sha256};

/// An IP address of either family: IPv4 as `::ffff:a.b.c.d`.
pub type Address = [u8; 16];

/// An address in the form of this module.
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address that is meant: IPv4 for `::ffff:a.b.c.d`.
pub fn ip(address: &Address) -> IpAddr {
    Ipv6Addr::from(*address).to_canonical()
}

/// Whether an address is an IPv4 one.
pub fn is_ipv4(address: &Address) -> bool {
    IPV4.covers(address)
}

/// All IPv4 addresses.
pub const IPV4: Prefix =
    Prefix { address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], length: 96 };

/// All addresses.
pub const EVERYWHERE: Prefix = Prefix { address: [0; 16], length: 0 };

/// A range of addresses with common leading bits. Those beyond `length` are zero. Ordered so that a prefix stands before
/// all that it contains.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The first address.
    pub address: Address,
    /// How many leading bits are fixed, 0 to 128: for IPv4 96 more than as written.
    pub length: u8,
}

impl Prefix {
    /// The prefix of this length (at most 128) that holds an address.
    pub fn new(address: Address, length: u8) -> Self {
        let length = length.min(128);
        let mask = if length == 0 { 0 } else { u128::MAX << 128_u32.saturating_sub(u32::from(length)) };
        Self { address: (u128::from_be_bytes(address) & mask).to_be_bytes(), length }
    }

    /// From an address and a length as written: up to 32 for IPv4.
    pub fn of(ip: IpAddr, length: u8) -> Self {
        let more = if ip.is_ipv4() { 96 } else { 0 };
        Self::new(address(ip), length.saturating_add(more))
    }

    /// The prefix that holds this address alone.
    pub fn host(address: Address) -> Self {
        Self { address, length: 128 }
    }

    /// Whether an address lies in it.
    pub fn covers(&self, address: &Address) -> bool {
        common(&self.address, address) >= self.length
    }

    /// Whether all of another prefix lies in it; its own self does.
    pub fn contains(&self, other: &Self) -> bool {
        self.length <= other.length && self.covers(&other.address)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if IPV4.contains(self) {
            write!(f, "{}/{}", ip(&self.address), self.length.saturating_sub(96))
        } else {
            write!(f, "{}/{}", Ipv6Addr::from(self.address), self.length)
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How many leading bits two addresses share.
fn common(a: &Address, b: &Address) -> u8 {
    let differ = u128::from_be_bytes(*a) ^ u128::from_be_bytes(*b);
    u8::try_from(differ.leading_zeros()).unwrap_or(128)
}

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index into the list that it names a place of.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// A place in [`Compiled::sets`].
    SetId
    /// A place in [`Compiled::ports`].
    PortsId
    /// A place in [`Compiled::rules`].
    RuleId
    /// A place in [`Compiled::pods`].
    PodId
    /// A place in [`Compiled::policies`].
    PolicyId
    /// A place in [`Compiled::nodes`].
    NodeId
}

/// Which end of a connection a policy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// What a pod begins.
    Egress,
    /// What is begun towards a pod.
    Ingress,
}

/// Policies, compiled against one state of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What each pod address is held to. Host-network and finished pods are not in it.
    pub endpoints: BTreeMap<Address, Endpoint>,
    /// Sets of allowed peers, shared by all pods that the same policies select in the same direction.
    pub sets: Vec<Set>,
    /// Port lists, shared, no two the same.
    pub ports: Vec<Vec<PortRule>>,
    /// What a rule id names.
    pub rules: Vec<RuleRef>,
    /// The policies, in the order of namespace and name.
    pub policies: Vec<PolicyRef>,
    /// The pods that have or will have an address of their own (not host-network, not finished), in that order too.
    pub pods: Vec<PodRef>,
    /// The nodes.
    pub nodes: Vec<NodeRef>,
    /// Whose each node address is. Ingress from the pod's own node is always allowed.
    pub node_addresses: BTreeMap<Address, NodeId>,
}

/// What a pod address is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whose the address is.
    pub pod: PodId,
    /// Where it may connect to; `None` is everywhere, as no policy isolates it.
    pub egress: Option<SetId>,
    /// From where it may be connected to; `None` is from everywhere.
    pub ingress: Option<SetId>,
}

/// The peers that are allowed to pods that the same policies isolate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Which end the set is for.
    pub side: Side,
    /// The policies that isolate, in order. Never empty.
    pub isolated_by: Vec<PolicyId>,
    /// Which ports are allowed at which addresses: the longest prefix that covers an address decides alone. In order,
    /// without two equal prefixes; a prefix that would say the same as the next shorter one is left out.
    pub nets: Vec<(Prefix, PortsId)>,
}

/// Ports of one protocol that one rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRule {
    /// The IP protocol's number (6, 17 or 132); 0 is every protocol.
    pub protocol: u8,
    /// The first port of the range.
    pub first: u16,
    /// The last port of the range, itself allowed too.
    pub last: u16,
    /// The rule that allows.
    pub rule: RuleId,
}

impl PortRule {
    /// Whether a packet's protocol and destination port (0 where the protocol has none) are meant.
    pub fn matches(&self, protocol: u8, port: u16) -> bool {
        (self.protocol == 0 || self.protocol == protocol) && (self.first..=self.last).contains(&port)
    }
}

/// What allows: a rule of a policy, and the peer and port of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleRef {
    /// The policy.
    pub policy: PolicyId,
    /// Which of its lists.
    pub side: Side,
    /// The index in `spec.egress` or `spec.ingress`.
    pub rule: u32,
    /// The index in `to` or `from`; `None` where the list is empty, which means everywhere.
    pub peer: Option<u32>,
    /// The index in `ports`; `None` where the list is empty, which means every port and protocol.
    pub port: Option<u32>,
}

/// A policy's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pod with an address of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node that it runs on, when the node is known.
    pub node: Option<NodeId>,
    /// Its addresses, none before the kubelet has published one.
    pub addresses: Vec<Address>,
    /// Where it may connect to; `None` is everywhere. Stands here too for pods without an address yet.
    pub egress: Option<SetId>,
    /// From where it may be connected to; `None` is from everywhere.
    pub ingress: Option<SetId>,
}

impl PodRef {
    /// The set of one side.
    pub fn set(&self, side: Side) -> Option<SetId> {
        match side {
            Side::Egress => self.egress,
            Side::Ingress => self.ingress,
        }
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRef {
    /// Its name.
    pub name: String,
    /// Its addresses: those of its status, then those of its pod bridge (the first address of each pod range).
    pub addresses: Vec<Address>,
}

/// What the compiled form says of one packet, for one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No policy isolates the pod on this side, or the address is no pod's: allowed.
    NotIsolated,
    /// Ingress from the pod's own node: allowed whatever the policies say.
    OwnNode,
    /// The pod is isolated, and this rule allows.
    Allowed(RuleId),
    /// The pod is isolated by the policies of this set, and nothing in it allows.
    Denied(SetId),
}

impl Decision {
    /// Whether the packet may pass.
    pub fn allows(self) -> bool {
        !matches!(self, Self::Denied(_))
    }
}

impl Compiled {
    /// Decides one side of a connection: `pod` is the address of the pod that is held (the source for egress, the
    /// destination for ingress), `peer` the other end, `port` the destination port (0 where the protocol has none).
    /// Addresses are those after translation of Services.
    pub fn decide(&self, side: Side, pod: &Address, peer: &Address, protocol: u8, port: u16) -> Decision {
        let Some(endpoint) = self.endpoints.get(pod) else { return Decision::NotIsolated };
        self.decide_for(endpoint.pod, side, peer, protocol, port)
    }

    /// As [`decide`](Self::decide), for a pod that need not have an address yet.
    pub fn decide_for(&self, pod: PodId, side: Side, peer: &Address, protocol: u8, port: u16) -> Decision {
        let Some(pod) = self.pods.get(pod.index()) else { return Decision::NotIsolated };
        let Some(set) = pod.set(side) else { return Decision::NotIsolated };
        if side == Side::Ingress && pod.node.is_some() && self.node_addresses.get(peer).copied() == pod.node {
            return Decision::OwnNode;
        }
        match self.allowing(set, peer, protocol, port) {
            Some(rule) => Decision::Allowed(rule),
            None => Decision::Denied(set),
        }
    }

    /// The rule of a set that allows, if one does.
    pub fn allowing(&self, set: SetId, peer: &Address, protocol: u8, port: u16) -> Option<RuleId> {
        let ports = self.sets.get(set.index())?.ports_at(peer)?;
        let list = self.ports.get(ports.index())?;
        list.iter().find(|p| p.matches(protocol, port)).map(|p| p.rule)
    }

    /// Names the content of a port list, so that an update can leave alone what it has already written. Lists that allow
    /// the same have the same key, whatever their rules are called. (A cryptographic hash: who may write policies must
    /// not be able to give two lists one name.)
    pub fn ports_key(&self, ports: PortsId) -> [u8; 16] {
        let mut hash = Sha256::new();
        for rule in self.ports.get(ports.index()).into_iter().flatten() {
            hash.update([rule.protocol]);
            hash.update(rule.first.to_be_bytes());
            hash.update(rule.last.to_be_bytes());
        }
        first_half(hash)
    }

    /// Names the content of a set: side, prefixes, and what their port lists allow.
    pub fn set_key(&self, set: SetId) -> [u8; 16] {
        let mut hash = Sha256::new();
        if let Some(set) = self.sets.get(set.index()) {
            hash.update([u8::from(set.side == Side::Ingress)]);
            for (prefix, ports) in &set.nets {
                hash.update(prefix.address);
                hash.update([prefix.length]);
                hash.update(self.ports_key(*ports));
            }
        }
        first_half(hash)
    }
}

fn first_half(hash: Sha256) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    out
}

impl Set {
    /// The port list of the longest prefix that covers an address.
    pub fn ports_at(&self, address: &Address) -> Option<PortsId> {
        // The last prefix not after the key is either the answer or shares fewer bits with the address than the key has;
        // then no prefix that covers the address is longer than what it shares. So the key shrinks at every turn.
        let mut key = Prefix::host(*address);
        loop {
            let before = self.nets.partition_point(|(prefix, _)| *prefix <= key).checked_sub(1)?;
            let (prefix, ports) = self.nets.get(before)?;
            let shared = common(&prefix.address, address);
            if shared >= prefix.length {
                return Some(*ports);
            }
            key = Prefix::new(*address, shared);
        }
    }
}

/// Short spelling of an IPv4 address in this form.
pub fn v4(a: u8, b: u8, c: u8, d: u8) -> Address {
    address(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        let (ip, length) = text.split_once('/').expect("a prefix");
        Prefix::of(ip.parse().expect("an address"), length.parse().expect("a length"))
    }

    fn at(text: &str) -> Address {
        address(text.parse().expect("an address"))
    }

    /// One pod at 10.42.0.1 on a node at 192.0.2.1, held by one set both ways.
    fn compiled(nets: &[(&str, &[(u8, u16, u16)])]) -> Compiled {
        let mut compiled = Compiled::default();
        let mut list = Vec::new();
        for (net, ports) in nets {
            let rules = ports
                .iter()
                .map(|(protocol, first, last)| PortRule {
                    protocol: *protocol,
                    first: *first,
                    last: *last,
                    rule: RuleId(7),
                })
                .collect();
            list.push((prefix(net), PortsId(u32::try_from(compiled.ports.len()).expect("few"))));
            compiled.ports.push(rules);
        }
        list.sort();
        compiled.sets.push(Set { side: Side::Egress, isolated_by: vec![PolicyId(0)], nets: list });
        let (pod, set) = (PodId(0), Some(SetId(0)));
        compiled.pods.push(PodRef {
            namespace: "x".into(),
            name: "a".into(),
            node: Some(NodeId(0)),
            addresses: vec![at("10.42.0.1")],
            egress: set,
            ingress: set,
        });
        compiled.endpoints.insert(at("10.42.0.1"), Endpoint { pod, egress: set, ingress: set });
        compiled.node_addresses.insert(at("192.0.2.1"), NodeId(0));
        compiled
    }

    fn allows(compiled: &Compiled, to: &str, protocol: u8, port: u16) -> bool {
        compiled.decide(Side::Egress, &at("10.42.0.1"), &at(to), protocol, port).allows()
    }

    #[test]
    fn the_longest_prefix_decides_alone_even_when_a_shorter_one_would_allow() {
        let c = compiled(&[
            ("10.0.0.0/8", &[(0, 0, 65535)]),
            ("10.1.0.0/16", &[]),
            ("10.1.2.0/24", &[(TCP, 80, 81)]),
        ]);
        assert!(allows(&c, "10.2.0.1", UDP, 9));
        assert!(!allows(&c, "10.1.0.1", TCP, 80));
        assert!(allows(&c, "10.1.2.3", TCP, 81));
        assert!(!allows(&c, "10.1.2.3", TCP, 82));
        assert!(!allows(&c, "10.1.2.3", UDP, 80));
        assert!(!allows(&c, "11.0.0.1", TCP, 80));
    }

    #[test]
    fn all_of_ipv6_does_not_hold_ipv4_when_ipv4_has_a_prefix_of_its_own() {
        let c = compiled(&[("::/0", &[(0, 0, 65535)]), ("0.0.0.0/0", &[])]);
        assert!(allows(&c, "2001:db8::9", TCP, 443));
        assert!(!allows(&c, "203.0.113.9", TCP, 443));
    }

    #[test]
    fn an_address_that_is_no_pods_is_not_isolated() {
        let c = compiled(&[]);
        let decision = c.decide(Side::Egress, &at("10.42.0.9"), &at("203.0.113.9"), TCP, 1);
        assert_eq!(decision, Decision::NotIsolated);
    }

    #[test]
    fn the_own_node_reaches_its_pods_but_is_not_thereby_reached() {
        let c = compiled(&[]);
        let decide = |side| c.decide(side, &at("10.42.0.1"), &at("192.0.2.1"), TCP, 80);
        assert_eq!(decide(Side::Ingress), Decision::OwnNode);
        assert_eq!(decide(Side::Egress), Decision::Denied(SetId(0)));
    }

    #[test]
    fn keys_follow_what_is_allowed_and_not_the_names_of_rules() {
        let one = compiled(&[("10.0.0.0/8", &[(TCP, 80, 80)])]);
        let mut renamed = one.clone();
        renamed.ports[0][0].rule = RuleId(9);
        let other = compiled(&[("10.0.0.0/8", &[(TCP, 80, 81)])]);
        assert_eq!(one.set_key(SetId(0)), renamed.set_key(SetId(0)));
        assert_ne!(one.set_key(SetId(0)), other.set_key(SetId(0)));
    }

    #[test]
    fn prefixes_are_written_as_in_the_policy() {
        assert_eq!(prefix("10.1.0.0/16").to_string(), "10.1.0.0/16");
        assert_eq!(prefix("fd42::/64").to_string(), "fd42::/64");
        assert_eq!(EVERYWHERE.to_string(), "::/0");
    }

    proptest! {
        /// The search that jumps against one that looks at every prefix.
        #[test]
        fn the_longest_prefix_is_found(
            nets in prop::collection::btree_set((0..16_u32, 20..=32_u8), 0..24),
            wanted in 0..16_u32,
        ) {
            let place = |n: u32| {
                // A few bits spread over the last octets, so that prefixes nest and part at many lengths.
                let n = (n & 1) | (n & 2) << 4 | (n & 4) << 5 | (n & 8) << 8;
                address(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | n)))
            };
            let prefixes: std::collections::BTreeSet<Prefix> =
                nets.iter().map(|(n, length)| Prefix::new(place(*n), 96 + length)).collect();
            let nets: Vec<_> = (0..).map(PortsId).zip(prefixes).map(|(id, prefix)| (prefix, id)).collect();
            let set = Set { side: Side::Egress, isolated_by: Vec::new(), nets: nets.clone() };
            let wanted = place(wanted);
            let naive =
                nets.iter().filter(|(p, _)| p.covers(&wanted)).max_by_key(|(p, _)| p.length).map(|(_, id)| *id);
            prop_assert_eq!(set.ports_at(&wanted), naive);
        }
    }
}
