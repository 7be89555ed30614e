//! What kube-router lets pass although the policies deny it, each as one test with a packet that arrives. With
//! `FEDISNIFF_BESIDE` the same tests show each hole shut.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etherparse::{PacketBuilder, VlanId};
use serde_json::json;
use tests::cluster::Cluster;
use tests::cluster::pods::{Pod, PodSpec};
use tests::cluster::tap::{sees_frame, send_frame};

use crate::cluster::{Beside, cluster, deny_egress};

const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

/// Two pods of one namespace and one of another, all on the first node and listening at port 80.
struct Three {
    web1: Arc<Pod>,
    web2: Arc<Pod>,
    other: Arc<Pod>,
}

fn three(cluster: &Cluster) -> Three {
    cluster.namespace("web", json!({"team": "web"})).expect("a namespace");
    cluster.namespace("other", json!({"team": "other"})).expect("a namespace");
    let pod = |namespace: &str, name: &str, addresses: &[&str]| {
        let pod = cluster.pod(&PodSpec::new(namespace, name, addresses)).expect("a pod");
        pod.answers(at("[::]:80"));
        pod
    };
    Three {
        web1: pod("web", "web1", &["10.42.0.11", "fd42::11"]),
        web2: pod("web", "web2", &["10.42.0.12", "fd42::12"]),
        other: pod("other", "other", &["10.42.0.21", "fd42::21"]),
    }
}

fn port80(pod: &Pod) -> SocketAddr {
    SocketAddr::new(pod.ip(), 80)
}

/// An octet string that nothing else ends with.
fn mark(text: &str) -> Vec<u8> {
    format!("<{text} {:?}>", Instant::now()).into_bytes()
}

/// A datagram as a frame from a pod's interface, from whatever address one likes.
fn datagram(from: &Pod, to_mac: [u8; 6], source: Ipv4Addr, to: Ipv4Addr, tag: bool, data: &[u8]) -> Vec<u8> {
    let start = PacketBuilder::ethernet2(from.mac("eth0"), to_mac);
    let mut frame = Vec::new();
    let written = if tag {
        let ip = start.single_vlan(VlanId::ZERO).ipv4(source.octets(), to.octets(), 64);
        ip.udp(5000, 5001).write(&mut frame, data)
    } else {
        start.ipv4(source.octets(), to.octets(), 64).udp(5000, 5001).write(&mut frame, data)
    };
    written.expect("a frame");
    frame
}

fn four(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => panic!("{address} is not IPv4"),
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn a_policy_of_both_types_lets_the_pods_that_it_selects_reach_each_other() {
    let cluster = cluster();
    let Three { web1, web2, other } = three(&cluster);
    cluster.outside.answers(at("203.0.113.9:443"));
    let both = json!(["Ingress", "Egress"]);
    // Ingress from everybody, egress to nobody; and the mirror of it.
    for (ingress, egress) in [(json!([{}]), json!([])), (json!([]), json!([{}]))] {
        cluster
            .policy(
                "web",
                "both",
                json!({"podSelector": {}, "policyTypes": both, "ingress": ingress, "egress": egress}),
            )
            .expect("a policy");
        cluster.synced().expect("kube-router");
        let beside = Beside::start(&cluster);
        let what = format!("ingress {ingress}, egress {egress}");
        beside.lets_pass(&what, web1.tcp(port80(&web2)).passed());
        // Only between those that it selects.
        if egress == json!([]) {
            assert!(!web1.tcp(port80(&other)).passed(), "{what}");
            assert!(!web1.tcp(at("203.0.113.9:443")).passed(), "{what}");
        } else {
            assert!(!other.tcp(port80(&web2)).passed(), "{what}");
        }
        cluster.no_policies().expect("no policies");
    }
    // The same rules as two policies leak nothing.
    cluster
        .policy("web", "in", json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}))
        .expect("a policy");
    deny_egress(&cluster, "web");
    cluster.synced().expect("kube-router");
    let _beside = Beside::start(&cluster);
    assert!(!web1.tcp(port80(&web2)).passed());
    assert!(other.tcp(port80(&web2)).passed());
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn a_ping_leaves_whatever_is_denied() {
    let cluster = cluster();
    let Three { web1, .. } = three(&cluster);
    cluster.outside.answers(at("203.0.113.9:443"));
    deny_egress(&cluster, "web");
    cluster.synced().expect("kube-router");
    let beside = Beside::start(&cluster);
    assert!(!web1.tcp(at("203.0.113.9:443")).passed());
    assert!(cluster.arrivals().is_empty());
    for to in [OUTSIDE, "2001:db8::9".parse().expect("an address")] {
        beside.lets_pass(&format!("an echo request to {to}"), web1.ping(to).passed());
        let left =
            cluster.arrivals().iter().filter(|a| a.destination == to && matches!(a.protocol, 1 | 58)).count();
        beside.lets_pass(&format!("an echo request that reaches {to}"), left > 0);
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn node_ports_are_open_to_pods_that_may_go_nowhere() {
    let cluster = cluster();
    let Three { web1, .. } = three(&cluster);
    for port in [29_999, 31_000] {
        cluster.node.answers(SocketAddr::new("192.0.2.1".parse().expect("an address"), port));
        cluster.node.answers(SocketAddr::new("10.42.0.1".parse().expect("an address"), port));
    }
    deny_egress(&cluster, "web");
    cluster.synced().expect("kube-router");
    let beside = Beside::start(&cluster);
    for node in ["192.0.2.1", "10.42.0.1"] {
        beside.lets_pass(&format!("TCP to {node}:31000"), web1.tcp(at(&format!("{node}:31000"))).passed());
        beside.lets_pass(&format!("UDP to {node}:31000"), web1.udp(at(&format!("{node}:31000"))).passed());
        assert!(!web1.tcp(at(&format!("{node}:29999"))).passed(), "a port below those of nodes");
        assert!(!web1.udp(at(&format!("{node}:29999"))).passed(), "a port below those of nodes");
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn the_bridge_s_address_is_the_node_to_those_who_may_reach_pods() {
    let cluster = cluster();
    let Three { web1, .. } = three(&cluster);
    // What a kubelet listens on; and everything else that listens on all addresses.
    cluster.node.answers(at("[::]:10250"));
    let pods = json!([{"to": [{"ipBlock": {"cidr": "10.42.0.0/15"}}]}]);
    cluster
        .policy("web", "pods", json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": pods}))
        .expect("a policy");
    cluster.synced().expect("kube-router");
    let _beside = Beside::start(&cluster);
    // The block has the address, so that the specification allows it: whoever writes such a block is to be told.
    assert!(web1.tcp(at("10.42.0.1:10250")).passed(), "the node's services by 10.42.0.1");
    assert!(!web1.tcp(at("192.0.2.1:10250")).passed(), "the node's own address is not in 10.42.0.0/15");
}

/// kube-router sees the address behind the Service; whoever looks at a pod's veth sees the Service's, which is allowed.
#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn a_service_without_a_selector_is_no_way_out() {
    let cluster = cluster();
    let Three { web1, .. } = three(&cluster);
    cluster.outside.answers(at("203.0.113.9:8080"));
    let (namespace, name) = ("web", "ext");
    cluster
        .apply(
            &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": "10.43.0.99", "ports": [{"name": "p", "port": 80, "targetPort": 8080}]}}),
        )
        .expect("a Service");
    cluster
        .apply(&json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": namespace, "name": "ext-1", "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": ["203.0.113.9"], "conditions": {"ready": true}}],
            "ports": [{"name": "p", "port": 8080}]}))
        .expect("its endpoints");
    let service = at("10.43.0.99:80");
    let begin = Instant::now();
    while !web1.tcp(service).passed() {
        assert!(begin.elapsed() < Duration::from_secs(20), "kube-proxy does not know the Service");
    }
    assert!(cluster.arrivals().iter().any(|a| a.destination == OUTSIDE && a.port == Some(8080)));
    let pods = json!([{"to": [{"ipBlock": {"cidr": "10.42.0.0/15"}}]}]);
    cluster
        .policy(namespace, "pods", json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": pods}))
        .expect("a policy");
    cluster.synced().expect("kube-router");
    let _beside = Beside::start(&cluster);
    drop(cluster.arrivals());
    assert!(!web1.tcp(service).passed());
    assert!(cluster.arrivals().is_empty(), "it left the node");
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn whoever_lies_about_its_address_walks_out() {
    let cluster = cluster();
    let Three { web1, web2, other } = three(&cluster);
    deny_egress(&cluster, "web");
    cluster.policy("web", "shut", json!({"podSelector": {}, "policyTypes": ["Ingress"]})).expect("a policy");
    cluster.synced().expect("kube-router");
    let beside = Beside::start(&cluster);
    let bridge = cluster.node.mac("cni0");
    let node: IpAddr = "192.0.2.1".parse().expect("an address");
    let leaves = |source: IpAddr| {
        drop(cluster.arrivals());
        let data = mark(&format!("{source}"));
        let frame = datagram(&web1, bridge, four(source), four(OUTSIDE), false, &data);
        send_frame(&web1, "eth0", &frame).expect("a frame");
        cluster.arrivals().into_iter().find(|arrival| arrival.payload == data).map(|arrival| arrival.source)
    };
    assert_eq!(leaves(web1.ip()), None, "its own address is held to the policy");
    for (source, seen) in [
        // Nobody's.
        ("10.42.0.99", node),
        // A pod's that may go anywhere.
        (other.ip().to_string().as_str(), node),
        // One of another network.
        ("198.18.0.1", "198.18.0.1".parse().expect("an address")),
    ] {
        let left = leaves(source.parse().expect("an address"));
        beside.lets_pass(&format!("a datagram from {source}"), left.is_some());
        assert!(left.is_none_or(|left| left == seen), "it left as {left:?}");
    }

    // The node may reach every pod; so may who says that it is the node, past two policies.
    let reaches = |source: Ipv4Addr| {
        let data = mark(&format!("{source}"));
        let frame = datagram(&web1, web2.mac("eth0"), source, four(web2.ip()), false, &data);
        let send = || send_frame(&web1, "eth0", &frame).expect("a frame");
        web2.hears(17, web2.ip(), &data, send).expect("a raw socket")
    };
    assert!(!reaches(four(web1.ip())), "its own address is held to the policies");
    for source in ["10.42.0.1", "192.0.2.1"] {
        beside.lets_pass(
            &format!("a datagram from {source}, the node's"),
            reaches(source.parse().expect("an address")),
        );
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn link_local_ipv6_is_held_to_no_policy() {
    let cluster = cluster();
    let Three { web1, web2, other } = three(&cluster);
    cluster.node.answers(at("[::]:10250"));
    for namespace in ["web", "other"] {
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
        cluster.policy(namespace, "shut", spec).expect("a policy");
    }
    cluster.synced().expect("kube-router");
    let beside = Beside::start(&cluster);
    let local = |place: &tests::cluster::place::Place, interface: &str| {
        let is = |a: IpAddr| matches!(a, IpAddr::V6(a) if a.is_unicast_link_local());
        match place.address(interface, is) {
            Some(IpAddr::V6(address)) => address,
            found => panic!("the link-local address of {interface}: {found:?}"),
        }
    };
    let scope = web1.index("eth0");
    for (what, address, port) in [
        ("the node's kubelet", local(&cluster.node, "cni0"), 10_250),
        ("a pod of the same namespace", local(&web2, "eth0"), 80),
        ("a pod of another namespace", local(&other, "eth0"), 80),
    ] {
        let to = SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope));
        beside.lets_pass(what, web1.tcp(to).passed());
    }
    let global: SocketAddr = SocketAddr::new(web2.addresses[1], 80);
    assert!(!web1.tcp(global).passed(), "its global address is held to the policies");
}

/// As it stands wherever nobody said `--enable-ipv6`: not one rule is written, and pods have IPv6 all the same.
#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn without_enable_ipv6_all_of_ipv6_is_open() {
    let cluster = cluster();
    let Three { web1, .. } = three(&cluster);
    let four: SocketAddr = at("203.0.113.9:443");
    let six: SocketAddr = at("[2001:db8::9]:443");
    cluster.outside.answers(four);
    cluster.outside.answers(six);
    deny_egress(&cluster, "web");
    cluster.synced().expect("kube-router");
    assert!(!web1.tcp(six).passed(), "with it, IPv6 is held to the policy");
    cluster.stop("kube-router").expect("kube-router");
    for action in ["-F", "-X"] {
        cluster.node.output(&["ip6tables", "-w", action]).expect("ip6tables");
    }
    cluster
        .start_without("kube-router", &["--enable-ipv6=true", "--service-cluster-ip-range=fd43::/112"])
        .expect("kube-router");
    cluster.synced_in(&["iptables"]).expect("kube-router");
    let beside = Beside::start(&cluster);
    let (by_four, by_six) = (web1.tcp(four), web1.tcp(six));
    cluster.stop("kube-router").expect("kube-router");
    cluster.start_again("kube-router", &[]).expect("kube-router");
    cluster.synced().expect("kube-router");
    assert!(!by_four.passed());
    beside.lets_pass("IPv6 to the internet", by_six.passed());
}

/// What the kernel's table of connections tells: of a refused one nothing, of one that passed where it went.
#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn only_what_passed_is_in_the_table_of_connections() {
    let cluster = cluster();
    let Three { web1, other, .. } = three(&cluster);
    let to = at("203.0.113.9:443");
    cluster.outside.answers(to);
    deny_egress(&cluster, "web");
    cluster.synced().expect("kube-router");
    let _beside = Beside::start(&cluster);
    assert!(!web1.tcp(to).passed() && !web1.udp(to).passed());
    assert!(other.tcp(to).passed() && other.udp(to).passed());
    let table = cluster.node.output(&["conntrack", "-L", "-d", "203.0.113.9"]).expect("conntrack");
    let of = |pod: &Pod| table.lines().filter(|line| line.contains(&format!("src={} ", pod.ip()))).count();
    assert_eq!((of(&web1), of(&other)), (0, 2), "{table}");
    // The answer goes to the node's address: the pod's was translated.
    assert!(table.lines().all(|line| line.contains("src=203.0.113.9 dst=192.0.2.1 ")), "{table}");
}

/// Which of the named ports of pods get opened changes from one sync to the next.
#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn a_named_port_opens_ports_that_do_not_bear_the_name() {
    let cluster = cluster();
    let named = |ports: &[(&str, u16)]| {
        json!(
            ports.iter().map(|(name, port)| json!({"name": name, "containerPort": port})).collect::<Vec<_>>()
        )
    };
    let two = named(&[("serve-80", 80), ("serve-81", 81)]);
    let one = named(&[("serve-80", 80)]);
    let pods: Vec<Arc<Pod>> =
        [("x", "a", 31, &two), ("x", "b", 32, &two), ("y", "a", 33, &two), ("z", "a", 34, &one)]
            .iter()
            .map(|(namespace, name, number, ports)| {
                cluster.namespace(namespace, json!({"ns": namespace})).expect("a namespace");
                let address = format!("10.42.0.{number}");
                let spec = PodSpec::new(namespace, name, &[&address]).ports((*ports).clone());
                cluster.pod(&spec).expect("a pod")
            })
            .collect();
    let (from, to) = (&pods[0], SocketAddr::new(pods[3].ip(), 81));
    pods[3].answers(to);
    let spec = |name: &str| {
        json!({"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"namespaceSelector": {}}], "ports": [{"port": name}]}]})
    };
    cluster.policy("x", "named", spec("serve-81")).expect("a policy");
    let mut beside = None;
    let mut passed = false;
    for _ in 0..40 {
        cluster.synced().expect("kube-router");
        let _ = beside.get_or_insert_with(|| Beside::start(&cluster));
        passed |= from.tcp(to).passed();
        if passed {
            break;
        }
    }
    let beside = beside.expect("some syncs");
    beside.lets_pass("port 81 of a pod that names only its port 80", passed);

    // A name that no pod has opens all ports.
    cluster.no_policies().expect("no policies");
    cluster.policy("x", "named", spec("nobody-has-it")).expect("a policy");
    cluster.synced().expect("kube-router");
    let beside = Beside::start(&cluster);
    beside.lets_pass("any port by a name that nobody has", from.tcp(to).passed());
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn frames_that_netfilter_does_not_parse_pass_the_bridge() {
    let cluster = cluster();
    let Three { web1, web2, .. } = three(&cluster);
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    cluster.policy("web", "shut", spec).expect("a policy");
    cluster.synced().expect("kube-router");
    let beside = Beside::start(&cluster);
    let (mac, source, to) = (web2.mac("eth0"), four(web1.ip()), four(web2.ip()));
    let heard = |tag: bool| {
        let data = mark(if tag { "tagged" } else { "bare" });
        let frame = datagram(&web1, mac, source, to, tag, &data);
        web2.hears(17, web2.ip(), &data, || send_frame(&web1, "eth0", &frame).expect("a frame"))
            .expect("a raw socket")
    };
    assert!(!heard(false), "a datagram in a bare frame is held to the policies");
    // To the pod's kernel a frame with a priority and no VLAN is as one without a tag (IEEE 802.1Q): the datagram arrives.
    beside.lets_pass("a datagram in a frame with a priority tag", heard(true));
    for (what, ether_type) in [("PPPoE", 0x8864_u16), ("of an experimental type", 0x88b5)] {
        let data = mark(what);
        let frame = [&mac[..], &web1.mac("eth0"), &ether_type.to_be_bytes(), &data].concat();
        let seen = sees_frame(&web2, "eth0", &data, || send_frame(&web1, "eth0", &frame).expect("a frame"));
        beside.lets_pass(&format!("a frame {what}"), seen.expect("a packet socket"));
    }
}
