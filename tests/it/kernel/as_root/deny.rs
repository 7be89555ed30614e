//! Pods that policies isolate, on a real bridge with a real outside: what they send by whatever frame, where it arrives,
//! and what passes all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::time::Duration;

use serde_json::{Value, json};
use sniffer::enforce::{Enforcer, Hook, Options, Reason};

use crate::kernel::guard::{
    Bpffs, Lookout, audit, cluster, compiled, deny_all, ethernet, guard, icmp, ipv4, ipv6, mac, marked,
    options, policy, send, tcp, told, udp,
};
use crate::kernel::node::Node;
use crate::kernel::peers::{Client, serve};

const A: [u8; 4] = [10, 42, 0, 10];
const B: [u8; 4] = [10, 42, 0, 20];
const BRIDGE: [u8; 4] = [10, 42, 0, 1];
const NODE: [u8; 4] = [192, 0, 2, 2];
const OUTSIDE: [u8; 4] = [192, 0, 2, 1];

fn v6(last: u16) -> [u8; 16] {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[0xfd, 0, 0, 0x42]);
    address[14..].copy_from_slice(&last.to_be_bytes());
    // The number is written in decimal digits, as in 10.42.0.NUMBER.
    address[14..].copy_from_slice(&u16::from_str_radix(&last.to_string(), 16).expect("digits").to_be_bytes());
    address
}

/// Pods a and b on a bridge, and an outside.
fn node(what: &str) -> Node {
    let mut node = Node::with_bridge(what);
    node.pod("a", 10);
    node.pod("b", 20);
    node.outside();
    node.forwards();
    node.ip("node", "address add 2001:db8::2/64 dev eth0 nodad");
    node.ip("outside", "address add 2001:db8::1/64 dev eth0 nodad");
    node.run("node", "sh", &["-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"]);
    // An IPv6 address is of use once nobody else has claimed it (RFC 4862 section 5.4).
    std::thread::sleep(Duration::from_millis(2_500));
    node
}

/// All the ways in which a deny-all pod might send something: a name, and the frame.
fn ways(node: &Node) -> Vec<(&'static str, Vec<u8>)> {
    let (own, bridge, neighbour) =
        (mac(node, "a", "eth0"), mac(node, "node", "cni0"), mac(node, "b", "eth0"));
    let mut ways: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let mut add = |name, frame: &dyn Fn(&[u8]) -> Vec<u8>| {
        let payload = marked(ways.len() as u32);
        ways.push((name, frame(&payload)));
    };
    let up = |packet: &[u8]| ethernet(bridge, own, 0x0800, packet);
    let over = |packet: &[u8]| ethernet(neighbour, own, 0x0800, packet);
    let plain = |to, protocol, rest: &[u8]| ipv4(A, to, protocol, 0, rest);
    add("TCP SYN to outside", &|p| up(&plain(OUTSIDE, 6, &tcp(4000, 80, 2, p))));
    add("TCP mid-stream to outside", &|p| up(&plain(OUTSIDE, 6, &tcp(4001, 80, 0x18, p))));
    add("TCP answer that nobody asked for", &|p| up(&plain(OUTSIDE, 6, &tcp(80, 4002, 0x12, p))));
    add("UDP to outside", &|p| up(&plain(OUTSIDE, 17, &udp(4000, 53, p))));
    add("SCTP to outside", &|p| up(&plain(OUTSIDE, 132, &udp(4000, 80, p))));
    add("ICMP echo", &|p| up(&plain(OUTSIDE, 1, &icmp(8, 0, &[&[0, 1, 0, 1], p].concat()))));
    add("ICMP echo reply", &|p| up(&plain(OUTSIDE, 1, &icmp(0, 0, &[&[0, 1, 0, 1], p].concat()))));
    add("ICMP error that belongs to nothing", &|p| {
        let quoted = ipv4(OUTSIDE, A, 17, 0, &udp(9, 9, p));
        up(&plain(OUTSIDE, 1, &icmp(3, 3, &[&[0; 4][..], &quoted].concat())))
    });
    add("ICMP timestamp", &|p| up(&plain(OUTSIDE, 1, &icmp(13, 0, &[&[0, 1, 0, 1], p].concat()))));
    add("GRE", &|p| up(&plain(OUTSIDE, 47, &[&[0; 4], p].concat())));
    add("an unused address of the subnet", &|p| up(&ipv4([10, 42, 0, 99], OUTSIDE, 17, 0, &udp(1, 2, p))));
    add("another pod's address", &|p| up(&ipv4(B, OUTSIDE, 17, 0, &udp(1, 2, p))));
    add("a foreign address", &|p| up(&ipv4([198, 51, 100, 7], OUTSIDE, 17, 0, &udp(1, 2, p))));
    add("the bridge's address to a neighbour", &|p| over(&ipv4(BRIDGE, B, 17, 0, &udp(1, 2, p))));
    add("the node's address to a neighbour", &|p| over(&ipv4(NODE, B, 17, 0, &udp(1, 2, p))));
    add("UDP to a neighbour", &|p| over(&plain(B, 17, &udp(1, 2, p))));
    add("UDP for outside to a neighbour's MAC address", &|p| over(&plain(OUTSIDE, 17, &udp(3, 4, p))));
    add("UDP to the bridge's address", &|p| up(&plain(BRIDGE, 17, &udp(1, 10_250, p))));
    add("a node port on the bridge's address", &|p| up(&plain(BRIDGE, 6, &tcp(4000, 31_000, 2, p))));
    add("a node port on the node's address", &|p| up(&plain(NODE, 6, &tcp(4000, 31_000, 2, p))));
    add("the subnet's broadcast", &|p| {
        ethernet([0xff; 6], own, 0x0800, &plain([10, 42, 0, 255], 17, &udp(1, 2, p)))
    });
    add("the limited broadcast", &|p| ethernet([0xff; 6], own, 0x0800, &plain([255; 4], 17, &udp(1, 2, p))));
    add("multicast DNS", &|p| {
        let to = [1, 0, 0x5e, 0, 0, 0xfb];
        ethernet(to, own, 0x0800, &plain([224, 0, 0, 251], 17, &udp(5353, 5353, p)))
    });
    let six = |to: [u8; 6], packet: &[u8]| ethernet(to, own, 0x86dd, packet);
    add("IPv6 to a neighbour", &|p| six(neighbour, &ipv6(v6(10), v6(20), 17, &udp(1, 2, p))));
    add("ICMPv6 echo to a neighbour", &|p| {
        six(neighbour, &ipv6(v6(10), v6(20), 58, &[&[128, 0, 0, 0, 0, 1, 0, 1], p].concat()))
    });
    add("an extension header before UDP", &|p| {
        let rest = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(1, 2, p)].concat();
        six(neighbour, &ipv6(v6(10), v6(20), 60, &rest))
    });
    let local = |last: u8| {
        let mut address = [0; 16];
        address[..2].copy_from_slice(&[0xfe, 0x80]);
        address[15] = last;
        address
    };
    let own_local = own_local(node);
    add("link-local IPv6 to a neighbour", &|p| six(neighbour, &ipv6(local(1), local(2), 17, &udp(1, 2, p))));
    add("link-local IPv6 to the node", &|p| six(bridge, &ipv6(local(1), own_local, 17, &udp(1, 22, p))));
    add("link-local multicast", &|p| {
        let mut all = [0; 16];
        (all[0], all[1], all[15]) = (0xff, 2, 0xfb);
        six([0x33, 0x33, 0, 0, 0, 0xfb], &ipv6(local(1), all, 17, &udp(5353, 5353, p)))
    });
    add("a router advertisement", &|p| {
        let mut all = [0; 16];
        (all[0], all[1], all[15]) = (0xff, 2, 1);
        six([0x33, 0x33, 0, 0, 0, 1], &ipv6(local(1), all, 58, &[&[134, 0, 0, 0, 64, 0, 0, 0], p].concat()))
    });
    let mut far = [0; 16];
    far[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    far[15] = 1;
    add("IPv6 to outside", &|p| six(bridge, &ipv6(v6(10), far, 17, &udp(1, 2, p))));
    add("neighbour discovery that would be routed", &|p| {
        six(bridge, &ipv6(v6(10), far, 58, &[&[135, 0, 0, 0, 0, 0, 0, 0], p].concat()))
    });
    add("the first of some fragments", &|p| {
        up(&ipv4(A, OUTSIDE, 17, 0x2000, &[&udp(1, 2, &[])[..], p, &[0; 8]].concat()[..32]))
    });
    add("a later fragment alone", &|p| over(&ipv4(A, B, 17, 0x0010, p)));
    let tagged = |tag: u16, kind: u16, rest: &[u8]| {
        ethernet(neighbour, own, tag, &[&7_u16.to_be_bytes()[..], &kind.to_be_bytes(), rest].concat())
    };
    add("a VLAN tag", &|p| tagged(0x8100, 0x0800, &plain(B, 17, &udp(1, 2, p))));
    add("a service VLAN tag", &|p| tagged(0x88a8, 0x0800, &plain(B, 17, &udp(1, 2, p))));
    add("PPPoE", &|p| {
        let inner = plain(B, 17, &udp(1, 2, p));
        let head = [0x11, 0, 0, 1, 0, (inner.len() + 2) as u8, 0, 0x21];
        ethernet(neighbour, own, 0x8864, &[&head[..], &inner].concat())
    });
    add("an unknown type", &|p| ethernet(neighbour, own, 0x88b5, p));
    add("802.3 without a type", &|p| ethernet(neighbour, own, p.len() as u16, p));
    ways
}

/// The bridge's link-local address.
fn own_local(node: &Node) -> [u8; 16] {
    let addresses = node.run("node", "cat", &["/proc/net/if_inet6"]);
    let line = addresses.lines().find(|l| l.starts_with("fe80") && l.ends_with("cni0")).expect("it has one");
    u128::from_str_radix(&line[..32], 16).expect("hexadecimal").to_be_bytes()
}

/// Sends all of them, and gives the names of those that arrived.
fn arrive(node: &Node, ways: &[(&'static str, Vec<u8>)]) -> BTreeSet<&'static str> {
    let lookouts = BTreeMap::from([
        ("outside", Lookout::new(node, "outside", "eth0")),
        ("b", Lookout::new(node, "b", "eth0")),
        ("node", Lookout::delivered(node, "node")),
    ]);
    send(node, "a", ways.iter().map(|(_, frame)| frame.clone()).collect());
    let arrived: BTreeMap<&str, BTreeSet<u32>> =
        lookouts.into_iter().map(|(of, lookout)| (of, lookout.arrived())).collect();
    (0..)
        .zip(ways)
        .filter(|(number, _)| arrived.values().any(|there| there.contains(number)))
        .map(|(_, (name, _))| *name)
        .collect()
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn a_pod_that_is_denied_everything_sends_nothing_to_anybody_by_any_frame() {
    let node = node("every");
    let ways = ways(&node);
    let all: BTreeSet<&str> = ways.iter().map(|(name, ..)| *name).collect();
    let open = arrive(&node, &ways);
    let missing: Vec<_> = all.difference(&open).collect();
    assert!(missing.is_empty(), "without denial these do not arrive either, and show nothing: {missing:?}");

    let bpffs = Bpffs::mount();
    let objects = [cluster(&[("a", 10), ("b", 20)]), vec![deny_all("a")]].concat();
    let enforcer = guard(&node, audit(options(&bpffs)), &objects, 2);
    assert_eq!(arrive(&node, &ways), all, "audit drops nothing");
    let counted = of(&enforcer, "vetha");
    assert_eq!(counted.1, 0, "nothing was dropped");
    drop(enforcer);

    let enforcer = guard(&node, options(&bpffs), &objects, 2);
    assert_eq!(arrive(&node, &ways), BTreeSet::new(), "{:#?}", enforcer.standing());
    let event = told(&enforcer, "TCP to outside is told", |e| e.destination.1 == 80 && e.protocol == 6);
    assert_eq!(
        (event.pod.as_deref(), event.dropped, event.policies.as_slice()),
        (Some("x/a"), true, ["x/deny-all".to_owned()].as_slice()),
        "{event}"
    );
}

/// Denied and dropped at an interface.
fn of(enforcer: &Enforcer, interface: &str) -> (u64, u64) {
    let standing = enforcer.standing();
    let found = standing.interfaces.iter().find(|i| i.name == interface).expect("it is guarded");
    (found.counted.denied(), found.counted.dropped)
}

/// Whether a pod can connect, as far as one sees within a moment.
fn connects(node: &Node, from: &str, to: &str) -> bool {
    let to: std::net::SocketAddr = to.parse().expect("an address");
    let connect = move || std::net::TcpStream::connect_timeout(&to, Duration::from_millis(400)).is_ok();
    node.inside(from, connect).join().expect("no panic")
}

/// An exchange with a server that answers `/NUMBER/…`, from a pod; it panics when anything is missing.
fn exchange(node: &Node, from: &str, to: &str, octets: usize) {
    let to = to.to_owned();
    let ask = move || Client::connect(&to, &to).ask(&format!("/{octets}/x"), octets / 4);
    let talk = node.inside(from, ask).join().expect("the exchange");
    assert!(talk.whole);
}

fn allow_egress(pod: &str, rule: Value) -> Value {
    policy("allow", pod, json!({"policyTypes": ["Egress"], "egress": [rule]}))
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn what_policies_allow_and_its_answers_pass_and_nothing_else() {
    let node = node("pass");
    for (pod, address) in [
        ("a", "0.0.0.0:8080"),
        ("b", "0.0.0.0:8080"),
        ("b", "0.0.0.0:8081"),
        ("outside", "0.0.0.0:8080"),
        ("node", "0.0.0.0:10250"),
        ("b", "[fd00:42::20]:8080"),
    ] {
        serve(&node, pod, address);
    }
    let bpffs = Bpffs::mount();
    let to_b = json!({"to": [{"podSelector": {"matchLabels": {"pod": "b"}}}],
                      "ports": [{"protocol": "TCP", "port": 8080}]});
    let from_b = policy(
        "from-b",
        "a",
        json!({"policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]}),
    );
    let objects = [cluster(&[("a", 10), ("b", 20)]), vec![allow_egress("a", to_b), from_b]].concat();
    let enforcer = guard(&node, options(&bpffs), &objects, 2);
    // Allowed, and large enough that packets are cut and acknowledged on the way.
    exchange(&node, "a", "10.42.0.20:8080", 3_000_000);
    exchange(&node, "a", "[fd00:42::20]:8080", 3_000_000);
    // A pod that may connect to nobody answers those who may connect to it, its own node always.
    exchange(&node, "b", "10.42.0.10:8080", 3_000_000);
    exchange(&node, "node", "10.42.0.10:8080", 3_000_000);
    for (from, to) in [
        ("a", "10.42.0.20:8081"),
        ("a", "192.0.2.1:8080"),
        ("a", "192.0.2.2:10250"),
        ("a", "10.42.0.1:10250"),
        ("outside", "10.42.0.10:8080"),
    ] {
        assert!(!connects(&node, from, to), "{from} to {to}: {:#?}", enforcer.standing());
    }
    // Whom no policy isolates is as before.
    exchange(&node, "b", "192.0.2.1:8080", 1_000_000);
    exchange(&node, "outside", "10.42.0.20:8081", 1_000_000);
    assert!(connects(&node, "b", "10.42.0.1:10250"));
    std::thread::sleep(Duration::from_millis(200));
    let (events, _) = enforcer.told();
    let of = |reason| events.iter().find(|e| e.reason == reason).expect("it is told");
    assert_eq!(of(Reason::Ingress).policies, ["x/from-b"]);
    let event = of(Reason::OwnNode);
    assert_eq!((event.hook, event.pod.as_deref()), (Hook::Bridge, Some("x/a")), "{event}");
    drop(enforcer);
    // One case that is left open is let pass, and no other with it.
    let lenient = Options { allow: vec![Reason::OwnNode], ..options(&bpffs) };
    let enforcer = guard(&node, lenient, &objects, 2);
    assert!(connects(&node, "a", "10.42.0.1:10250") && connects(&node, "a", "192.0.2.2:10250"));
    assert!(!connects(&node, "a", "192.0.2.1:8080") && !connects(&node, "a", "10.42.0.20:8081"));
    drop(enforcer);
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn a_service_is_decided_by_where_it_leads() {
    let node = node("service");
    for (of, address) in [("b", "0.0.0.0:8080"), ("a", "0.0.0.0:8080"), ("outside", "0.0.0.0:8080")] {
        serve(&node, of, address);
    }
    for (service, to) in [("20", "10.42.0.20"), ("99", "192.0.2.1"), ("10", "10.42.0.10")] {
        let (service, to) = (format!("10.43.0.{service}/32"), format!("{to}:8080"));
        let rule =
            ["-t", "nat", "-A", "PREROUTING", "-d", &service, "-p", "tcp", "--dport", "80", "-j", "DNAT"];
        node.run("node", "iptables", &[&rule[..], &["--to-destination", &to]].concat());
    }
    // As kube-proxy does it for a pod that reaches itself.
    let hairpin = ["-s", "10.42.0.10/32", "-d", "10.42.0.10/32", "-j", "MASQUERADE"];
    node.run("node", "iptables", &[&["-t", "nat", "-A", "POSTROUTING"][..], &hairpin].concat());
    assert!(connects(&node, "a", "10.43.0.99:80"), "without denial the Service leads outside");
    let bpffs = Bpffs::mount();
    // The policy that the seed has: it names pods and Services by one range.
    let seed = allow_egress("a", json!({"to": [{"ipBlock": {"cidr": "10.42.0.0/15"}}]}));
    let pods = cluster(&[("a", 10), ("b", 20)]);
    let enforcer = guard(&node, options(&bpffs), &[pods.clone(), vec![seed]].concat(), 2);
    exchange(&node, "a", "10.43.0.20:80", 3_000_000);
    assert!(!connects(&node, "a", "10.43.0.99:80"), "its range is allowed, where it leads is not");
    let event = told(&enforcer, "it is told", |e| e.reason == Reason::Egress);
    assert_eq!((event.destination.1, event.hook), (8080, Hook::Bridge), "as translated: {event}");
    // The other end's policy counts as well.
    let shut = policy("shut", "b", json!({"policyTypes": ["Ingress"]}));
    enforcer.update(compiled(&[pods, vec![shut]].concat())).expect("room");
    assert!(!connects(&node, "a", "10.43.0.20:80"));
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn what_is_established_and_forbidden_now_is_cut_and_the_rest_goes_on() {
    let node = node("cut");
    serve(&node, "outside", "0.0.0.0:8080");
    serve(&node, "b", "0.0.0.0:8080");
    let bpffs = Bpffs::mount();
    let pods = cluster(&[("a", 10), ("b", 20)]);
    let with = |blocks: &[&str]| {
        let to: Vec<Value> = blocks.iter().map(|block| json!({"ipBlock": {"cidr": block}})).collect();
        compiled(&[pods.clone(), vec![allow_egress("a", json!({"to": to}))]].concat())
    };
    let enforcer = guard(&node, options(&bpffs), &pods, 2);
    enforcer.update(with(&["10.42.0.20/32", "192.0.2.1/32"])).expect("room");
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (tell, answers) = std::sync::mpsc::channel();
    let thread = node.inside("a", move || {
        let open = |to: &str| {
            let stream = std::net::TcpStream::connect(to).expect("it is allowed");
            stream.set_read_timeout(Some(Duration::from_millis(600))).expect("a timeout");
            stream
        };
        let mut streams = [open("10.42.0.20:8080"), open("192.0.2.1:8080")];
        while asked.recv().is_ok() {
            let got = streams.each_mut().map(|stream| {
                let _ = stream.write_all(b"GET /10/x HTTP/1.1\r\n\r\n");
                stream.read(&mut [0; 1000]).is_ok_and(|length| length > 0)
            });
            tell.send(got).expect("the test waits");
        }
    });
    let ask = move || {
        ask.send(()).expect("it runs");
        answers.recv_timeout(Duration::from_secs(10)).expect("it answers")
    };
    assert_eq!(ask(), [true, true]);
    enforcer.update(with(&["10.42.0.20/32"])).expect("room");
    assert_eq!(ask(), [true, false], "one is cut");
    enforcer.update(with(&["10.42.0.20/32", "192.0.2.1/32"])).expect("room");
    assert_eq!(ask(), [true, true], "TCP sends again what was held up");
    enforcer.switch_off().expect("off");
    assert_eq!(ask(), [true, true]);
    drop(ask);
    thread.join().expect("no panic");
}
