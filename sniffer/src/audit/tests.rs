//! Packets of pods in, findings out.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name as DnsName, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

use super::{Auditor, Config, Finding, NameSource, Outcome, Witness};
use crate::frame::{Frame, Hook, Interface, LinkType, Loss, Timestamp};
use crate::policy::Cluster;
use crate::policy::objects;
use crate::verdict::{State, Word};

const POD: &str = "10.42.0.21";
const OTHER: &str = "10.42.0.22";
const NODE: &str = "10.42.0.1";
const OUTSIDE: &str = "203.0.113.80";
const VETH: Interface = Interface::Declared(0);
const VETH_OTHER: Interface = Interface::Declared(1);
const UPLINK: Interface = Interface::Declared(2);
const SECOND: u64 = 1_000_000_000;

/// x/a is held to 10.42.0.0/16 and 10.43.0.0/16; x/b takes nothing; Service x/ext leads outside.
fn state() -> State {
    let pod = |name: &str, ip: &str| {
        serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "x", "labels": {"pod": name}},
            "spec": {"nodeName": "n"}, "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}})
    };
    let policy = |name: &str, spec: serde_json::Value| {
        serde_json::json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": "x"}, "spec": spec})
    };
    let all = [
        serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}),
        serde_json::json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.42.0.0/24"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}),
        pod("a", POD),
        pod("b", OTHER),
        policy("inside", serde_json::json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.42.0.0/15"}}]}]})),
        policy("nobody", serde_json::json!({"podSelector": {"matchLabels": {"pod": "b"}}, "policyTypes": ["Ingress"]})),
        serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ext", "namespace": "x"},
            "spec": {"clusterIP": "10.43.0.99", "clusterIPs": ["10.43.0.99"], "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]}}),
        serde_json::json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "ext-1", "namespace": "x", "labels": {"kubernetes.io/service-name": "ext"}},
            "ports": [{"port": 8080, "protocol": "TCP"}], "endpoints": [{"addresses": [OUTSIDE]}]}),
    ];
    let objects = all.into_iter().flat_map(|o| objects::parse(o).objects).map(|o| (None, o));
    let (cluster, problems) = Cluster::new(objects);
    assert!(problems.is_empty(), "{problems:?}");
    State::new(cluster).expect("it compiles")
}

fn auditor() -> Auditor {
    let mut auditor = Auditor::new(state(), Config::default());
    auditor.name_interface(VETH, "veth-a");
    auditor.name_interface(VETH_OTHER, "veth-b");
    auditor.name_interface(UPLINK, "eth0");
    auditor
}

fn octets(ip: &str) -> [u8; 4] {
    match ip.parse() {
        Ok(IpAddr::V4(v4)) => v4.octets(),
        other => panic!("{ip}: {other:?}"),
    }
}

fn ip(from: &str, to: &str) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(octets(from), octets(to), 64)
}

fn written<S>(step: etherparse::PacketBuilderStep<S>, write: impl FnOnce(etherparse::PacketBuilderStep<S>, &mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(step, &mut bytes);
    bytes
}

fn syn(from: &str, to: &str, ports: (u16, u16), sequence: u32) -> Vec<u8> {
    written(ip(from, to).tcp(ports.0, ports.1, sequence, 64_000).syn(), |s, out| s.write(out, &[]).expect("memory"))
}

fn segment(from: &str, to: &str, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    written(ip(from, to).tcp(ports.0, ports.1, 7, 64_000).ack(8), |s, out| s.write(out, payload).expect("memory"))
}

fn reset(from: &str, to: &str, ports: (u16, u16)) -> Vec<u8> {
    written(ip(from, to).tcp(ports.0, ports.1, 0, 0).rst().ack(8), |s, out| s.write(out, &[]).expect("memory"))
}

fn udp(from: &str, to: &str, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    written(ip(from, to).udp(ports.0, ports.1), |s, out| s.write(out, payload).expect("memory"))
}

fn echo(from: &str, to: &str) -> Vec<u8> {
    written(ip(from, to).icmpv4_echo_request(5, 1), |s, out| s.write(out, b"ping").expect("memory"))
}

/// ICMP port unreachable about a frame.
fn unreachable(from: &str, to: &str, about: &[u8]) -> Vec<u8> {
    let kind = etherparse::Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
    let quote = &about[14..about.len().min(14 + 28)];
    written(ip(from, to).icmpv4(kind), |s, out| s.write(out, quote).expect("memory"))
}

fn question(name: &str) -> Vec<u8> {
    let mut packet = Packet::new_query(9);
    packet.questions.push(Question::new(
        DnsName::new_unchecked(name).into_owned(),
        QTYPE::TYPE(TYPE::A),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().expect("it fits")
}

fn answer(name: &str, ip: &str) -> Vec<u8> {
    let mut packet = Packet::new_reply(9);
    packet.set_flags(PacketFlag::RESPONSE);
    packet.questions.push(Question::new(
        DnsName::new_unchecked(name).into_owned(),
        QTYPE::TYPE(TYPE::A),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    let address = A { address: u32::from_be_bytes(octets(ip)) };
    packet.answers.push(ResourceRecord::new(DnsName::new_unchecked(name).into_owned(), CLASS::IN, 60, RData::A(address)));
    packet.build_bytes_vec().expect("it fits")
}

fn see_at(auditor: &mut Auditor, nanos: u64, interface: Interface, hook: Option<Hook>, bytes: &[u8]) {
    auditor.push(&Frame {
        time: Timestamp(nanos),
        interface,
        hook,
        link: LinkType::Ethernet,
        bytes,
        wire_length: bytes.len() as u32,
    });
}

fn see(auditor: &mut Auditor, nanos: u64, interface: Interface, bytes: &[u8]) {
    see_at(auditor, nanos, interface, None, bytes);
}

fn only(auditor: &mut Auditor) -> Finding {
    auditor.finish();
    assert_eq!(auditor.findings().len(), 1, "{:#?}", auditor.findings());
    auditor.findings()[0].clone()
}

#[test]
fn a_refused_connection_is_told_once_with_its_name_and_two_witnesses() {
    let mut auditor = auditor();
    see(&mut auditor, 1, VETH, &udp(POD, NODE, (5_000, 53), &question("Mastodon.Example")));
    see(&mut auditor, 2, VETH, &udp(NODE, POD, (53, 5_000), &answer("Mastodon.Example", OUTSIDE)));
    let first = syn(POD, OUTSIDE, (40_000, 443), 1);
    see(&mut auditor, 3, VETH, &first);
    see(&mut auditor, 4, VETH, &unreachable(NODE, POD, &first));
    // The same again after a second, and another connection.
    see(&mut auditor, SECOND, VETH, &first);
    see(&mut auditor, 2 * SECOND, VETH, &syn(POD, OUTSIDE, (40_001, 443), 9));
    let second = syn(POD, OUTSIDE, (40_001, 443), 9);
    see(&mut auditor, 2 * SECOND + 1, VETH, &unreachable(NODE, POD, &second));
    let finding = only(&mut auditor);
    assert_eq!(finding.outcome, Outcome::BlockedByKubeRouter);
    assert_eq!((finding.packets, finding.attempts), (3, 2));
    assert_eq!((&*finding.pod.name, finding.destination.to_string()), ("x/a", format!("{OUTSIDE}:443/tcp")));
    assert_eq!(finding.verdict.word, Word::Deny);
    assert_eq!(finding.verdict.isolated_by, ["x/inside"]);
    let names: Vec<_> = finding.names.iter().map(|n| (&*n.name, n.by)).collect();
    assert_eq!(names, [("mastodon.example", NameSource::Dns)]);
}

#[test]
fn what_is_allowed_is_not_told() {
    let mut auditor = auditor();
    see(&mut auditor, 1, VETH, &syn(POD, "10.42.3.3", (1, 80), 1));
    see(&mut auditor, 2, VETH_OTHER, &syn(OTHER, OUTSIDE, (1, 80), 1));
    see(&mut auditor, 3, UPLINK, &syn("192.0.2.1", OUTSIDE, (1, 80), 1));
    // An answer to a datagram from outside is no attempt; nor is a DNS answer, whose question was not seen.
    see(&mut auditor, 4, VETH, &udp(OUTSIDE, POD, (7, 8), b"x"));
    see(&mut auditor, 5, VETH, &udp(POD, OUTSIDE, (8, 7), b"y"));
    see(&mut auditor, 6, VETH, &udp(POD, OUTSIDE, (53, 7_000), &answer("a.example", OUTSIDE)));
    // A segment in the middle says nothing of who began.
    see(&mut auditor, 7, VETH, &segment(POD, OUTSIDE, (1, 2), b"x"));
    auditor.finish();
    assert_eq!(auditor.findings(), []);
}

#[test]
fn one_witness_is_not_enough_for_a_refusal_and_none_is_enough_for_nothing() {
    // No uplink is watched: the ICMP error stands alone.
    let mut auditor = Auditor::new(state(), Config::default());
    let packet = syn(POD, OUTSIDE, (1, 443), 1);
    see(&mut auditor, 1, VETH, &packet);
    see(&mut auditor, 2, VETH, &unreachable(NODE, POD, &packet));
    assert_eq!(only(&mut auditor).outcome, Outcome::Unknown);
    // Silence alone may be a lost packet.
    let mut auditor = self::auditor();
    see(&mut auditor, 1, VETH, &packet);
    assert_eq!(only(&mut auditor).outcome, Outcome::Unknown);
    // Where frames were lost, the uplink's silence proves nothing.
    let mut auditor = self::auditor();
    see(&mut auditor, 1, VETH, &packet);
    see(&mut auditor, 2, VETH, &unreachable(NODE, POD, &packet));
    auditor.lost(&Loss { time: Timestamp(3), interface: UPLINK, frames: 1 });
    assert_eq!(only(&mut auditor).outcome, Outcome::Unknown);
    // A reset comes from whoever forged or sent it.
    let mut auditor = self::auditor();
    see(&mut auditor, 1, VETH, &packet);
    see(&mut auditor, 2, VETH, &reset(OUTSIDE, POD, (443, 1)));
    let finding = only(&mut auditor);
    assert_eq!(finding.outcome, Outcome::Unknown);
    assert!(finding.evidence.iter().any(|e| e.witness == Witness::Reset));
}

#[test]
fn what_left_or_was_answered_is_leaked_whoever_else_says_something() {
    let packet = syn(POD, OUTSIDE, (1, 443), 1);
    // At the uplink with the node's address, after masquerading.
    let mut auditor = auditor();
    see(&mut auditor, 1, VETH, &packet);
    see(&mut auditor, 2, UPLINK, &syn("192.0.2.1", OUTSIDE, (61_000, 443), 1));
    assert_eq!(auditor.take_changed().first().map(|f| f.outcome), Some(Outcome::Leaked), "told at once");
    see(&mut auditor, 3, VETH, &unreachable(NODE, POD, &packet));
    assert_eq!(only(&mut auditor).outcome, Outcome::Leaked);
    for back in [segment(OUTSIDE, POD, (443, 1), b""), unreachable(OUTSIDE, POD, &packet)] {
        let mut auditor = self::auditor();
        see(&mut auditor, 1, VETH, &packet);
        see(&mut auditor, 2, VETH, &back);
        assert_eq!(only(&mut auditor).outcome, Outcome::Leaked);
    }
    // An echo is left open by the specification, and told as that.
    let mut auditor = self::auditor();
    see(&mut auditor, 1, VETH, &echo(POD, OUTSIDE));
    see(&mut auditor, 2, UPLINK, &echo("192.0.2.1", OUTSIDE));
    let finding = only(&mut auditor);
    assert_eq!((finding.outcome, finding.verdict.word), (Outcome::Leaked, Word::Undefined));
}

#[test]
fn a_refused_pod_is_reached_when_the_packet_comes_to_its_veth() {
    let packet = syn(POD, OTHER, (1, 80), 1);
    let mut auditor = auditor();
    see(&mut auditor, 1, VETH, &packet);
    see(&mut auditor, 2, VETH_OTHER, &packet);
    let finding = only(&mut auditor);
    assert_eq!((finding.outcome, finding.packets), (Outcome::Leaked, 1));
    assert_eq!(finding.verdict.isolated_by, ["x/nobody"]);
    // Live, the hook says so, whatever the interface is called.
    let mut auditor = Auditor::new(state(), Config::default());
    see_at(&mut auditor, 1, Interface::Index(7), Some(Hook::Ingress), &packet);
    see_at(&mut auditor, 2, Interface::Index(8), Some(Hook::Egress), &packet);
    assert_eq!(only(&mut auditor).outcome, Outcome::Leaked);
    // A capture on every interface shows it at the bridge too, where it may still be refused.
    let mut auditor = self::auditor();
    auditor.name_interface(Interface::Declared(9), "cni0");
    see(&mut auditor, 1, VETH, &packet);
    see(&mut auditor, 2, Interface::Declared(9), &packet);
    assert_eq!(only(&mut auditor).outcome, Outcome::Unknown);
}

#[test]
fn a_service_that_leads_outside_is_judged_by_where_it_leads() {
    let mut auditor = auditor();
    see(&mut auditor, 1, VETH, &syn(POD, "10.43.0.99", (1, 80), 1));
    see(&mut auditor, 2, UPLINK, &syn("192.0.2.1", OUTSIDE, (61_000, 8_080), 1));
    let finding = only(&mut auditor);
    assert_eq!(finding.outcome, Outcome::Leaked);
    assert_eq!(finding.destination.to_string(), "10.43.0.99:80/tcp");
}

#[test]
fn a_query_to_a_server_outside_is_known_by_the_name_it_asks_for() {
    let mut auditor = auditor();
    let query = udp(POD, "203.0.113.53", (5_000, 53), &question("exfil.attacker.example"));
    see(&mut auditor, 1, VETH, &query);
    see(&mut auditor, 2, VETH, &unreachable(NODE, POD, &query));
    let finding = only(&mut auditor);
    assert_eq!(finding.outcome, Outcome::BlockedByKubeRouter);
    let names: Vec<_> = finding.names.iter().map(|n| (&*n.name, n.by)).collect();
    assert_eq!(names, [("exfil.attacker.example", NameSource::Query)]);
    let (ledger, more) = auditor.ledger();
    assert_eq!((ledger.len(), more), (1, 0));
    assert!(!ledger[0].left, "it was refused");
}

#[test]
fn a_name_that_the_name_server_asks_outside_has_left_for_whom_it_was_asked() {
    let mut auditor = auditor();
    // x/b serves names; x/a asks it, and it asks further.
    see(&mut auditor, 1, VETH, &udp(POD, OTHER, (5_000, 53), &question("blog.example")));
    see(&mut auditor, 2, VETH_OTHER, &udp(OTHER, "198.51.100.53", (6_000, 53), &question("blog.example")));
    see(&mut auditor, 3, VETH, &udp(OTHER, POD, (53, 5_000), &answer("blog.example", OUTSIDE)));
    let (ledger, _) = auditor.ledger();
    let all: Vec<_> = ledger.iter().map(|a| (&*a.pod, &*a.name, &*a.kind, a.left, a.answer.as_deref())).collect();
    assert_eq!(
        all,
        [
            ("x/a", "blog.example", "A", true, Some(OUTSIDE)),
            ("x/b", "blog.example", "A", true, None),
        ]
    );
}

#[test]
fn a_client_hello_names_the_server() {
    // A ClientHello as RFC 8446 section 4.1.2 has it, with one extension: server_name (RFC 6066 section 3).
    let name = b"Leak.Example";
    let list = [&[0, 0, name.len() as u8][..], name].concat();
    let extension = [&[0, 0, 0, list.len() as u8 + 2, 0, list.len() as u8][..], &list].concat();
    let mut hello = vec![22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0x13, 0x01, 1, 0, 0, extension.len() as u8]);
    hello.extend(&extension);
    let mut auditor = auditor();
    see(&mut auditor, 1, VETH, &syn(POD, OUTSIDE, (1, 443), 1));
    see(&mut auditor, 2, VETH, &segment(OUTSIDE, POD, (443, 1), b""));
    see(&mut auditor, 3, VETH, &segment(POD, OUTSIDE, (1, 443), &hello));
    let finding = only(&mut auditor);
    assert_eq!(finding.names.iter().map(|n| (&*n.name, n.by)).collect::<Vec<_>>(), [("leak.example", NameSource::Sni)]);
    for cut in 0..hello.len() {
        super::sni::name(&hello[..cut]);
    }
}

#[test]
fn many_destinations_are_counted_beyond_the_limit_and_memory_stays() {
    let config = Config { findings: 10, attempts: 100, ..Config::default() };
    let mut auditor = Auditor::new(state(), config);
    for n in 0..5_000_u32 {
        let to = format!("198.51.{}.{}", n / 250 % 250, n % 250);
        see(&mut auditor, u64::from(n) * 1_000, VETH, &syn(POD, &to, (1, 443), n));
    }
    auditor.finish();
    assert_eq!(auditor.findings().len(), 10);
    let counters = auditor.counters();
    assert_eq!((counters.attempts, counters.not_kept), (5_000, 4_990));
    assert!(auditor.attempts.len() <= 100 && auditor.aims.len() <= 100);
}
