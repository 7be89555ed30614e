//! A second evaluator, as stupid as can be: the specification's sentences one by one over the objects as they were
//! written. Nothing is compiled, indexed or shared with the other but the types of the objects.

use std::net::IpAddr;

use crate::policy::objects::{
    IntOrString, IpBlock, LabelSelector, Labels, NetworkPolicy, Node, Object, Peer, Pod, PolicyPort,
};

pub(super) struct Naive {
    pub(super) pods: Vec<Pod>,
    namespaces: Vec<(String, Labels)>,
    pub(super) policies: Vec<NetworkPolicy>,
    nodes: Vec<Node>,
}

impl Naive {
    pub(super) fn new(objects: &[Object]) -> Self {
        let mut naive = Self { pods: Vec::new(), namespaces: Vec::new(), policies: Vec::new(), nodes: Vec::new() };
        for object in objects.iter().cloned() {
            match object {
                Object::Pod(pod) => naive.pods.push(*pod),
                Object::NetworkPolicy(policy) => naive.policies.push(policy),
                Object::Node(node) => naive.nodes.push(node),
                Object::Namespace(namespace) => {
                    let mut labels = namespace.metadata.labels;
                    labels.insert("kubernetes.io/metadata.name".into(), namespace.metadata.name.clone());
                    naive.namespaces.push((namespace.metadata.name, labels));
                }
                Object::Service(_) | Object::EndpointSlice(_) | Object::Endpoints(_) => {}
            }
        }
        naive
    }

    /// "Pods that have ended own no address", and host-network pods have the node's.
    fn pod_at(&self, address: IpAddr) -> Option<&Pod> {
        self.pods.iter().find(|p| {
            let ended = matches!(p.status.phase.as_deref(), Some("Succeeded" | "Failed"));
            !ended && !p.spec.host_network && p.status.pod_ips.iter().any(|ip| ip.ip.parse() == Ok(address))
        })
    }

    pub(super) fn egress(&self, pod: &Pod, to: IpAddr, protocol: &str, port: u16) -> bool {
        let isolating: Vec<&NetworkPolicy> = self.policies.iter().filter(|p| selects(p, pod, "Egress")).collect();
        if isolating.is_empty() {
            return true;
        }
        isolating.iter().any(|policy| {
            policy.spec.egress.iter().any(|rule| {
                (rule.to.is_empty() || rule.to.iter().any(|peer| self.peer(policy, peer, to)))
                    && ports(&rule.ports, self.pod_at(to), protocol, port)
            })
        })
    }

    pub(super) fn ingress(&self, pod: &Pod, from: IpAddr, protocol: &str, port: u16) -> bool {
        let isolating: Vec<&NetworkPolicy> = self.policies.iter().filter(|p| selects(p, pod, "Ingress")).collect();
        if isolating.is_empty() {
            return true;
        }
        // "traffic from the pod's local node" is always allowed.
        let own_node = self.nodes.iter().any(|node| {
            pod.spec.node_name.as_deref() == Some(node.metadata.name.as_str())
                && node.status.addresses.iter().any(|a| a.address.parse() == Ok(from))
        });
        own_node
            || isolating.iter().any(|policy| {
                policy.spec.ingress.iter().any(|rule| {
                    (rule.from.is_empty() || rule.from.iter().any(|peer| self.peer(policy, peer, from)))
                        && ports(&rule.ports, Some(pod), protocol, port)
                })
            })
    }

    fn peer(&self, policy: &NetworkPolicy, peer: &Peer, address: IpAddr) -> bool {
        if let Some(block) = &peer.ip_block {
            return in_block(block, address);
        }
        let Some(pod) = self.pod_at(address) else { return false };
        let namespace = match &peer.namespace_selector {
            None => pod.metadata.namespace == policy.metadata.namespace,
            Some(selector) => self
                .namespaces
                .iter()
                .any(|(name, labels)| *name == pod.metadata.namespace && chooses(selector, labels)),
        };
        namespace && peer.pod_selector.as_ref().is_none_or(|s| chooses(s, &pod.metadata.labels))
    }
}

fn selects(policy: &NetworkPolicy, pod: &Pod, kind: &str) -> bool {
    let types: Vec<&str> = if policy.spec.policy_types.is_empty() {
        if policy.spec.egress.is_empty() { vec!["Ingress"] } else { vec!["Ingress", "Egress"] }
    } else {
        policy.spec.policy_types.iter().map(String::as_str).collect()
    };
    types.contains(&kind)
        && policy.metadata.namespace == pod.metadata.namespace
        && chooses(&policy.spec.pod_selector, &pod.metadata.labels)
}

fn chooses(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.match_labels.iter().all(|(k, v)| labels.get(k) == Some(v))
        && selector.match_expressions.iter().all(|e| match (e.operator.as_str(), labels.get(&e.key)) {
            ("In", Some(value)) => e.values.contains(value),
            ("In", None) => false,
            ("NotIn", Some(value)) => !e.values.contains(value),
            ("NotIn", None) => true,
            ("Exists", value) => value.is_some(),
            ("DoesNotExist", value) => value.is_none(),
            (other, _) => panic!("operator {other}"),
        })
}

fn ports(list: &[PolicyPort], destination: Option<&Pod>, protocol: &str, port: u16) -> bool {
    list.is_empty()
        || list.iter().any(|one| {
            one.protocol.as_deref().unwrap_or("TCP") == protocol
                && match &one.port {
                    None => true,
                    Some(IntOrString::Int(first)) => {
                        (*first..=one.end_port.unwrap_or(*first)).contains(&i32::from(port))
                    }
                    Some(IntOrString::String(name)) => destination.is_some_and(|pod| {
                        pod.spec.containers.iter().flat_map(|c| &c.ports).any(|p| {
                            p.name.as_ref() == Some(name)
                                && p.protocol.as_deref().unwrap_or("TCP") == protocol
                                && p.container_port == i32::from(port)
                        })
                    }),
                }
        })
}

fn in_block(block: &IpBlock, address: IpAddr) -> bool {
    in_range(&block.cidr, address) && !block.except.iter().any(|e| in_range(e, address))
}

/// Bit by bit.
fn in_range(range: &str, address: IpAddr) -> bool {
    let (net, length) = range.split_once('/').expect("a range");
    let bits = |ip: IpAddr| -> Vec<bool> {
        let octets = match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        octets.iter().flat_map(|o| (0..8).rev().map(move |i| o >> i & 1 == 1)).collect()
    };
    let (net, length): (IpAddr, usize) = (net.parse().expect("an address"), length.parse().expect("a length"));
    net.is_ipv4() == address.is_ipv4() && bits(net)[..length] == bits(address)[..length]
}
