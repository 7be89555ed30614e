//! One state of the cluster: objects in, an index out, with what the API server fills in by itself filled in (defaults).
//! Policies that it would refuse are left out and told as problems.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::compiled::{Address, Prefix, SCTP, TCP, UDP, address, is_ipv4};
use super::objects::{self, IntOrString, Labels, NetworkPolicy, Object, Problem, full_name};
use super::selector::Selector;
use super::services::{self, Service};
use super::validate::{cidr, dns_label, validate};

/// The label that every namespace has, whatever its author wrote.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// One state of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Labels of each namespace.
    pub namespaces: BTreeMap<String, Labels>,
    /// All pods, in the order of namespace and name.
    pub pods: Vec<Pod>,
    /// The nodes, in the order of their names.
    pub nodes: Vec<Node>,
    /// Policies that are valid, in the order of namespace and name.
    pub policies: Vec<Policy>,
    /// Services, in the order of namespace and name.
    pub services: Vec<Service>,
    /// Which pod (an index) has an address. Host-network and finished pods have none of their own.
    pub owners: BTreeMap<Address, usize>,
    /// Which node (an index) has an address.
    pub node_addresses: BTreeMap<Address, usize>,
    /// What was assumed, or is strange but no reason to refuse.
    pub notes: Vec<String>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What selectors look at.
    pub labels: Labels,
    /// The node that it runs on (an index).
    pub node: Option<usize>,
    /// Its addresses: the node's for a host-network pod.
    pub addresses: Vec<Address>,
    /// Its declared ports.
    pub ports: Vec<PodPort>,
    /// It uses the node's addresses.
    pub host_network: bool,
    /// It has ended (Succeeded or Failed) and owns no address any more.
    pub finished: bool,
    /// It takes connections.
    pub ready: bool,
    /// Of two pods with one address the later is meant: when one was asked to go, when it was made.
    age: (bool, String),
}

/// A declared port of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// Its name; empty when it has none.
    pub name: String,
    /// The protocol's number.
    pub protocol: u8,
    /// Where the container listens.
    pub number: u16,
    /// The port of the node that leads here.
    pub host_port: Option<u16>,
    /// The node's address for `host_port`; every one when absent.
    pub host_ip: Option<Address>,
}

impl Pod {
    /// Whether policies hold it, as one end of a connection with an address of its own.
    pub fn is_held(&self) -> bool {
        !self.host_network && !self.finished
    }

    /// Namespace and name.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The numbers that a named port has in this pod, for one protocol.
    pub fn named(&self, name: &str, protocol: u8) -> impl Iterator<Item = u16> {
        self.ports.iter().filter(move |p| p.protocol == protocol && p.name == name).map(|p| p.number)
    }

    /// Its address of a family.
    pub fn address(&self, ipv4: bool) -> Option<Address> {
        self.addresses.iter().copied().find(|a| is_ipv4(a) == ipv4)
    }
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses: of its status, then of its pod bridge (the first address of each pod range).
    pub addresses: Vec<Address>,
    /// The ranges that its pods' addresses come from.
    pub pod_ranges: Vec<Prefix>,
    /// It is labelled as one that runs the API server.
    pub control_plane: bool,
}

/// A policy that is valid, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The pods of its namespace that it selects.
    pub selector: Selector,
    /// Its ingress rules, if it isolates that way.
    pub ingress: Option<Vec<Rule>>,
    /// Its egress rules, if it isolates that way.
    pub egress: Option<Vec<Rule>>,
}

/// A rule: some peer and some port must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Empty is everywhere.
    pub peers: Vec<Peer>,
    /// Empty is every port and protocol.
    pub ports: Vec<Port>,
}

/// Who may be at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Addresses, less some.
    Block {
        /// The range.
        net: Prefix,
        /// Whether it is one of IPv4: `::/0` holds no IPv4 address.
        ipv4: bool,
        /// Parts that are not meant.
        except: Vec<Prefix>,
    },
    /// Pods.
    Pods {
        /// Whose namespaces; `None` is the policy's own.
        namespaces: Option<Selector>,
        /// Which of them; `None` is all.
        pods: Option<Selector>,
    },
}

/// Which ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The protocol's number.
    pub protocol: u8,
    /// Which of its ports.
    pub number: PortNumber,
}

/// Which ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortNumber {
    /// From the first to the last.
    Range(u16, u16),
    /// What the destination pod calls so.
    Named(String),
}

impl Policy {
    /// Namespace and name.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The rules of one side, if the policy isolates there.
    pub fn rules(&self, side: super::Side) -> Option<&[Rule]> {
        match side {
            super::Side::Egress => self.egress.as_deref(),
            super::Side::Ingress => self.ingress.as_deref(),
        }
    }

    /// Whether it selects a pod.
    pub fn selects(&self, pod: &Pod) -> bool {
        self.namespace == pod.namespace && self.selector.matches(&pod.labels)
    }
}

impl Peer {
    /// Whether an address lies in the block; never for selectors.
    pub fn holds(&self, address: &Address) -> bool {
        match self {
            Self::Block { net, ipv4, except } => {
                *ipv4 == is_ipv4(address) && net.covers(address) && !except.iter().any(|e| e.covers(address))
            }
            Self::Pods { .. } => false,
        }
    }

    /// Whether the selectors choose a pod, for a policy of `own` namespace; never for blocks.
    pub fn chooses(&self, cluster: &Cluster, own: &str, pod: &Pod) -> bool {
        let Self::Pods { namespaces, pods } = self else { return false };
        let here = match namespaces {
            None => pod.namespace == own,
            Some(selector) => cluster.namespaces.get(&pod.namespace).is_some_and(|l| selector.matches(l)),
        };
        here && pods.as_ref().is_none_or(|selector| selector.matches(&pod.labels))
    }
}

/// A protocol's number from its name in an object; `TCP` when absent.
pub(super) fn protocol(name: Option<&str>) -> Option<u8> {
    match name {
        None | Some("TCP" | "") => Some(TCP),
        Some("UDP") => Some(UDP),
        Some("SCTP") => Some(SCTP),
        Some(_) => None,
    }
}

/// A port number from an object.
pub(super) fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|n| *n != 0)
}

/// What objects become while they are taken in.
#[derive(Default)]
struct Intake {
    namespaces: BTreeMap<String, (Option<String>, objects::Namespace)>,
    nodes: BTreeMap<String, (usize, Option<String>, objects::Node)>,
    pods: BTreeMap<(String, String), (Option<String>, objects::Pod)>,
    services: BTreeMap<(String, String), (Option<String>, objects::Service)>,
    slices: BTreeMap<(String, String), (Option<String>, objects::EndpointSlice)>,
    endpoints: BTreeMap<(String, String), (Option<String>, objects::Endpoints)>,
    policies: BTreeMap<(String, String), (Option<String>, NetworkPolicy)>,
    notes: Vec<String>,
    problems: Vec<Problem>,
}

impl Intake {
    fn take(&mut self, place: Option<String>, mut object: Object, order: usize) {
        let (kind, metadata, namespaced) = match &mut object {
            Object::NetworkPolicy(o) => ("NetworkPolicy", &mut o.metadata, true),
            Object::Namespace(o) => ("Namespace", &mut o.metadata, false),
            Object::Node(o) => ("Node", &mut o.metadata, false),
            Object::Pod(o) => ("Pod", &mut o.metadata, true),
            Object::Service(o) => ("Service", &mut o.metadata, true),
            Object::EndpointSlice(o) => ("EndpointSlice", &mut o.metadata, true),
            Object::Endpoints(o) => ("Endpoints", &mut o.metadata, true),
        };
        // What kubectl does with an object that names no namespace.
        if namespaced && metadata.namespace.is_empty() {
            metadata.namespace = "default".into();
        }
        let shown =
            if namespaced { format!("{kind} {}", full_name(metadata)) } else { format!("{kind} {}", metadata.name) };
        if metadata.name.is_empty() {
            let reason = "Required value: name is required".into();
            self.problems.push(Problem { place, object: shown, field: "metadata.name".into(), reason });
            return;
        }
        let key = (metadata.namespace.clone(), metadata.name.clone());
        let again = match object {
            Object::NetworkPolicy(o) => self.policies.insert(key, (place, o)).map(|(place, _)| place),
            Object::Namespace(o) => self.namespaces.insert(key.1, (place, o)).map(|(place, _)| place),
            Object::Node(o) => self.nodes.insert(key.1, (order, place, o)).map(|(_, place, _)| place),
            Object::Pod(o) => self.pods.insert(key, (place, *o)).map(|(place, _)| place),
            Object::Service(o) => self.services.insert(key, (place, *o)).map(|(place, _)| place),
            Object::EndpointSlice(o) => self.slices.insert(key, (place, o)).map(|(place, _)| place),
            Object::Endpoints(o) => self.endpoints.insert(key, (place, o)).map(|(place, _)| place),
        };
        if let Some(earlier) = again {
            let earlier = earlier.map_or_else(String::new, |place| format!(" ({place})"));
            self.notes.push(format!("{shown} is there more than once: the last one counts, not the earlier{earlier}"));
        }
    }
}

impl Cluster {
    /// Takes objects, each with the place that it was written at. What the API server would refuse is left out and
    /// told; so is an address that is none.
    pub fn new(objects: impl IntoIterator<Item = (Option<String>, Object)>) -> (Self, Vec<Problem>) {
        let mut intake = Intake::default();
        for (order, (place, object)) in objects.into_iter().enumerate() {
            intake.take(place, object, order);
        }
        let mut cluster = Self { notes: std::mem::take(&mut intake.notes), ..Self::default() };
        let mut problems = std::mem::take(&mut intake.problems);
        cluster.take_namespaces(&intake);
        let first_node = cluster.take_nodes(&intake, &mut problems);
        cluster.take_pods(&intake, &mut problems);
        for ((namespace, name), (place, policy)) in &intake.policies {
            let wrong = validate(policy);
            if wrong.is_empty() {
                cluster.policies.push(take_policy(namespace, name, policy));
            }
            problems.extend(wrong.into_iter().map(|p| Problem { place: place.clone(), ..p }));
        }
        cluster.services = services::take(
            &cluster,
            intake.services.into_values().map(|(_, s)| s).collect(),
            intake.slices.into_values().map(|(_, s)| s),
            intake.endpoints.into_values().map(|(_, e)| e),
            first_node,
        );
        (cluster, problems)
    }

    fn take_namespaces(&mut self, intake: &Intake) {
        for (name, (_, namespace)) in &intake.namespaces {
            self.namespaces.insert(name.clone(), namespace.metadata.labels.clone());
        }
        let named = intake.pods.keys().map(|(n, _)| n).chain(intake.policies.keys().map(|(n, _)| n));
        for name in named {
            if !self.namespaces.contains_key(name) && dns_label(name).is_none() {
                self.notes.push(format!("Namespace {name} is not there: it is taken to have no labels of its own"));
                self.namespaces.insert(name.clone(), Labels::new());
            }
        }
        for (name, labels) in &mut self.namespaces {
            labels.insert(NAMESPACE_NAME.into(), name.clone());
        }
    }

    /// Gives the index of the node that came first, which is taken for the API server's when none is marked so.
    fn take_nodes(&mut self, intake: &Intake, problems: &mut Vec<Problem>) -> Option<usize> {
        let mut first: Option<(usize, usize)> = None;
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        for (name, (_, place, object)) in &intake.nodes {
            let mut node = Node { name: name.clone(), ..Node::default() };
            let mut refuse = |field: String, reason: String| {
                let object = format!("Node {name}");
                problems.push(Problem { place: place.clone(), object, field, reason });
            };
            for (i, one) in object.status.addresses.iter().enumerate() {
                if matches!(one.kind.as_str(), "InternalIP" | "ExternalIP") {
                    match one.address.parse() {
                        Ok(ip) => add(&mut node.addresses, address(ip)),
                        Err(_) => refuse(
                            format!("status.addresses[{i}].address"),
                            format!("Invalid value: {:?}: must be a valid IP address", one.address),
                        ),
                    }
                }
            }
            let ranges = if object.spec.pod_cidrs.is_empty() {
                object.spec.pod_cidr.iter().map(|range| ("spec.podCIDR".to_owned(), range)).collect::<Vec<_>>()
            } else {
                let numbered = object.spec.pod_cidrs.iter().enumerate();
                numbered.map(|(i, range)| (format!("spec.podCIDRs[{i}]"), range)).collect()
            };
            for (field, range) in ranges {
                match cidr(range) {
                    Ok(range) => {
                        node.pod_ranges.push(range.prefix);
                        // The bridge plugin's gateway: the first address behind that of the net itself.
                        let bridge = u128::from_be_bytes(range.prefix.address) | 1;
                        if range.prefix.length < 128 {
                            add(&mut node.addresses, bridge.to_be_bytes());
                        }
                    }
                    Err(reason) => refuse(field, format!("Invalid value: {range:?}: {reason}")),
                }
            }
            let role = |role: &str| object.metadata.labels.contains_key(&format!("node-role.kubernetes.io/{role}"));
            node.control_plane = role("control-plane") || role("master");
            nodes.insert(name.clone(), node);
        }
        // Without Node objects the pods still say where they run.
        for (_, pod) in intake.pods.values() {
            let Some(name) = pod.spec.node_name.as_ref().filter(|n| !n.is_empty()) else { continue };
            let node = nodes.entry(name.clone()).or_insert_with(|| Node { name: name.clone(), ..Node::default() });
            let ips = pod.status.host_ips.iter().map(|h| &h.ip).chain(&pod.status.host_ip);
            for ip in ips.filter_map(|ip| ip.parse::<IpAddr>().ok()) {
                if !node.addresses.contains(&address(ip)) {
                    // Before the bridge's addresses: it is one of the node's own.
                    node.addresses.insert(0, address(ip));
                }
            }
        }
        for (index, node) in nodes.into_values().enumerate() {
            for address in &node.addresses {
                self.node_addresses.entry(*address).or_insert(index);
            }
            if let Some((order, _, _)) = intake.nodes.get(&node.name)
                && first.is_none_or(|(before, _)| *order < before)
            {
                first = Some((*order, index));
            }
            self.nodes.push(node);
        }
        first.map(|(_, index)| index)
    }

    fn take_pods(&mut self, intake: &Intake, problems: &mut Vec<Problem>) {
        let by_name: HashMap<&str, usize> =
            self.nodes.iter().enumerate().map(|(i, node)| (node.name.as_str(), i)).collect();
        for ((namespace, name), (place, object)) in &intake.pods {
            let mut addresses = Vec::new();
            let listed = object.status.pod_ips.iter().enumerate();
            let listed: Vec<(String, &String)> =
                listed.map(|(i, ip)| (format!("status.podIPs[{i}].ip"), &ip.ip)).collect();
            let one = object.status.pod_ip.iter().map(|ip| ("status.podIP".to_owned(), ip));
            for (field, ip) in listed.into_iter().chain(one).filter(|(_, ip)| !ip.is_empty()) {
                match ip.parse() {
                    Ok(ip) => add(&mut addresses, address(ip)),
                    Err(_) => problems.push(Problem {
                        place: place.clone(),
                        object: format!("Pod {namespace}/{name}"),
                        field,
                        reason: format!("Invalid value: {ip:?}: must be a valid IP address"),
                    }),
                }
            }
            let sidecars =
                object.spec.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let ports = object.spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports).filter_map(|port| {
                Some(PodPort {
                    name: port.name.clone().unwrap_or_default(),
                    protocol: protocol(port.protocol.as_deref())?,
                    number: port_number(port.container_port)?,
                    host_port: port.host_port.and_then(port_number),
                    host_ip: port
                        .host_ip
                        .as_ref()
                        .and_then(|ip| ip.parse::<IpAddr>().ok())
                        .filter(|ip| !ip.is_unspecified())
                        .map(address),
                })
            });
            let phase = object.status.phase.as_deref().unwrap_or_default();
            let ready = object.status.conditions.iter().find(|c| c.kind == "Ready").map(|c| c.status == "True");
            self.pods.push(Pod {
                namespace: namespace.clone(),
                name: name.clone(),
                labels: object.metadata.labels.clone(),
                node: object.spec.node_name.as_deref().and_then(|n| by_name.get(n)).copied(),
                ports: ports.collect(),
                host_network: object.spec.host_network,
                finished: matches!(phase, "Succeeded" | "Failed"),
                ready: ready.unwrap_or(matches!(phase, "Running" | "")),
                age: (
                    object.metadata.deletion_timestamp.is_none(),
                    object.metadata.creation_timestamp.clone().unwrap_or_default(),
                ),
                addresses,
            });
        }
        // An address is used again while its earlier pod is still going: who was asked to go, or is older, has it not.
        let mut contested = Vec::new();
        for (index, pod) in self.pods.iter().enumerate().filter(|(_, pod)| pod.is_held()) {
            for address in &pod.addresses {
                if let Some(other) = self.owners.get(address).and_then(|o| self.pods.get(*o)) {
                    contested.push(format!(
                        "{} and {} both say that they have {}: the one made last is taken at its word",
                        other.full_name(),
                        pod.full_name(),
                        super::compiled::ip(address)
                    ));
                    if other.age >= pod.age {
                        continue;
                    }
                }
                self.owners.insert(*address, index);
            }
        }
        self.notes.extend(contested);
    }

    /// The pod that has an address of its own.
    pub fn pod_at(&self, address: &Address) -> Option<(usize, &Pod)> {
        let index = *self.owners.get(address)?;
        Some((index, self.pods.get(index)?))
    }

    /// The pod of a name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<(usize, &Pod)> {
        let key = |pod: &Pod| pod.namespace.as_str().cmp(namespace).then_with(|| pod.name.as_str().cmp(name));
        let index = self.pods.binary_search_by(key).ok()?;
        Some((index, self.pods.get(index)?))
    }

    /// The addresses of a pod that are its own.
    pub fn own_addresses<'a>(&'a self, index: usize, pod: &'a Pod) -> impl Iterator<Item = Address> + 'a {
        pod.addresses.iter().copied().filter(move |a| self.owners.get(a) == Some(&index))
    }
}

fn add(addresses: &mut Vec<Address>, one: Address) {
    if !addresses.contains(&one) {
        addresses.push(one);
    }
}

/// A valid policy, with what the API server fills in.
fn take_policy(namespace: &str, name: &str, policy: &NetworkPolicy) -> Policy {
    let spec = &policy.spec;
    // "If this field is not specified, it will default based on the existence of ingress or egress rules; policies that
    // contain an egress section are assumed to affect egress, and all policies … are assumed to affect ingress"
    // (networking/v1 types.go). An `egress: []` is no egress section.
    let (ingress, egress) = if spec.policy_types.is_empty() {
        (true, !spec.egress.is_empty())
    } else {
        let has = |kind: &str| spec.policy_types.iter().any(|k| k == kind);
        (has("Ingress"), has("Egress"))
    };
    Policy {
        namespace: namespace.into(),
        name: name.into(),
        selector: Selector::new(&spec.pod_selector),
        ingress: ingress.then(|| spec.ingress.iter().map(|r| take_rule(&r.from, &r.ports)).collect()),
        egress: egress.then(|| spec.egress.iter().map(|r| take_rule(&r.to, &r.ports)).collect()),
    }
}

fn take_rule(peers: &[objects::Peer], ports: &[objects::PolicyPort]) -> Rule {
    Rule { peers: peers.iter().map(take_peer).collect(), ports: ports.iter().filter_map(take_port).collect() }
}

fn take_peer(peer: &objects::Peer) -> Peer {
    let pods = || Peer::Pods {
        namespaces: peer.namespace_selector.as_ref().map(Selector::new),
        pods: peer.pod_selector.as_ref().map(Selector::new),
    };
    let Some(block) = &peer.ip_block else { return pods() };
    // Validation has read it before.
    let Ok(net) = cidr(&block.cidr) else { return pods() };
    let except = block.except.iter().filter_map(|e| cidr(e).ok()).map(|e| e.prefix).collect();
    Peer::Block { net: net.prefix, ipv4: net.ipv4, except }
}

fn take_port(port: &objects::PolicyPort) -> Option<Port> {
    let protocol = protocol(port.protocol.as_deref())?;
    let number = match &port.port {
        None => PortNumber::Range(0, u16::MAX),
        Some(IntOrString::String(name)) => PortNumber::Named(name.clone()),
        Some(IntOrString::Int(first)) => {
            let first = port_number(*first)?;
            PortNumber::Range(first, port.end_port.and_then(port_number).unwrap_or(first))
        }
    };
    Some(Port { protocol, number })
}
