//! Objects in YAML of any text. Whatever it holds, nothing panics; what compiles decides as the policies say when one reads
//! them rule by rule.

use std::path::Path;

use sniffer::cluster::read_text;
use sniffer::policy::Side;
use sniffer::policy::cluster::{Cluster, Pod, PortNumber};
use sniffer::policy::compiled::{Address, address};
use sniffer::verdict::State;
use sniffer::verdict::explain::Question;

/// Addresses that are asked about besides those of pods and at the edges of prefixes.
const OTHERS: &[&str] =
    &["192.0.2.1", "203.0.113.9", "0.0.0.0", "255.255.255.255", "::", "2001:db8::9", "fe80::1"];

/// Reads, compiles, compares, asks.
pub fn run(text: &str) {
    let read = read_text(Path::new("fuzz.yaml"), text);
    for problem in &read.problems {
        assert!(!problem.to_string().is_empty());
    }
    let Ok(state) = State::new(read.cluster) else { return };
    compare(&state);
    let places: Vec<String> = state.cluster.pods.iter().take(4).map(Pod::full_name).collect();
    let services = state.cluster.services.iter().take(4);
    let ends = services
        .flat_map(|s| s.ports.iter().take(2).map(move |p| format!("{}:{}/TCP", s.full_name(), p.port)))
        .chain(places.iter().map(|p| format!("{p}:80/TCP")))
        .chain(
            ["192.0.2.1:30080/TCP", "[2001:db8::9]:80/UDP", "203.0.113.9/ICMP", "10.43.0.1:443/TCP"]
                .map(String::from),
        );
    let ends: Vec<String> = ends.collect();
    for from in places.iter().map(String::as_str).chain(["10.42.0.99", "node:n1"]) {
        for to in &ends {
            let Ok(question) = Question::parse(from, to) else { continue };
            if let Ok(answer) = state.explain(&question) {
                let same = answer.kube_router.verdict == answer.verdict.name();
                assert_eq!(same, answer.kube_router.reason.is_none(), "{answer:?}");
            }
        }
    }
}

fn compare(state: &State) {
    let prefixes = state.compiled.sets.iter().flat_map(|s| &s.nets).map(|(p, _)| p.address);
    let mut peers: Vec<Address> = OTHERS.iter().filter_map(|a| Some(address(a.parse().ok()?))).collect();
    peers.extend(state.compiled.endpoints.keys());
    for edge in prefixes.take(64) {
        let number = u128::from_be_bytes(edge);
        peers.extend([edge, number.wrapping_sub(1).to_be_bytes(), number.wrapping_add(1).to_be_bytes()]);
    }
    for (own, _) in state.compiled.endpoints.iter().take(16) {
        let Some((_, pod)) = state.cluster.pod_at(own) else { panic!("an endpoint is a pod's") };
        for peer in &peers {
            for (protocol, port) in [(6, 80), (17, 53), (132, 8080), (6, 65535)] {
                for side in [Side::Egress, Side::Ingress] {
                    let said = state.compiled.decide(side, own, peer, protocol, port).allows();
                    let meant = read_out(&state.cluster, pod, side, peer, protocol, port);
                    assert_eq!(said, meant, "{side:?} of {} {peer:?} {protocol} {port}", pod.full_name());
                }
            }
        }
    }
}

/// The policies, rule by rule.
fn read_out(cluster: &Cluster, pod: &Pod, side: Side, peer: &Address, protocol: u8, port: u16) -> bool {
    let selecting: Vec<_> = cluster
        .policies
        .iter()
        .filter(|p| p.selects(pod))
        .filter_map(|p| Some((p, p.rules(side)?)))
        .collect();
    let own_node =
        side == Side::Ingress && pod.node.is_some() && cluster.node_addresses.get(peer).copied() == pod.node;
    if selecting.is_empty() || own_node {
        return true;
    }
    let other = cluster.pod_at(peer).map(|(_, p)| p);
    let destination = if side == Side::Egress { other } else { Some(pod) };
    selecting.iter().any(|(policy, rules)| {
        rules.iter().any(|rule| {
            let peers = &rule.peers;
            let here = peers.is_empty()
                || peers.iter().any(|p| {
                    p.holds(peer) || other.is_some_and(|o| p.chooses(cluster, &policy.namespace, o))
                });
            let ports = &rule.ports;
            here && (ports.is_empty()
                || ports.iter().filter(|p| p.protocol == protocol).any(|p| match &p.number {
                    PortNumber::Range(first, last) => (*first..=*last).contains(&port),
                    PortNumber::Named(name) => {
                        destination.is_some_and(|d| d.named(name, protocol).any(|n| n == port))
                    }
                }))
        })
    })
}
