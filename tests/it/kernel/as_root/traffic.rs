//! Real TCP between pods: however the node carries it, every exchange is told once and whole, with the server's real
//! address.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::kernel::node::Node;
use crate::kernel::peers::{Client, chat, same, serve};
use crate::kernel::raw::{longest, relay};
use crate::kernel::watch::Watch;

const NO_REST: Duration = Duration::ZERO;
/// The server in every test.
const SERVER: &str = "10.42.0.20:8080";
const SERVER6: &str = "[fd00:42::20]:8080";

/// Watches while somebody talks to an address behind which is the server, and compares.
fn told_once(node: &Node, from: &str, address: &'static str) {
    serve(node, "b", SERVER);
    told_once_of(node, from, address, SERVER);
}

fn told_once_of(node: &Node, from: &str, address: &'static str, server: &'static str) {
    let watch = Watch::start(node, &[]);
    let talks = node.inside(from, move || chat(address, server, "chat", 60, NO_REST)).join().expect("a talk");
    let seen = watch.finish();
    same(&seen.exchanges, &talks);
    seen.lost_nothing();
}

/// Two pods on a bridge.
fn bridged(what: &str) -> Node {
    let mut node = Node::with_bridge(what);
    node.pod("a", 10);
    node.pod("b", 20);
    node
}

/// Two pods that the node routes between.
fn routed(what: &str) -> Node {
    let mut node = Node::new(what);
    node.forwards();
    node.routed_pod("a", 10);
    node.routed_pod("b", 20);
    node
}

/// A Service on the node: 10.43.0.80:80 is the server.
fn service(node: &Node) {
    let arguments = "-w -t nat -A PREROUTING -d 10.43.0.80 -p tcp --dport 80 -j DNAT --to-destination";
    let arguments: Vec<&str> = arguments.split(' ').chain([SERVER]).collect();
    node.run("node", "iptables", &arguments);
}

/// Large bodies both ways; gives the longest frame that passed the server's veth.
fn large_bodies(node: &Node, server: &'static str) -> usize {
    serve(node, "b", server);
    let end = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&end);
    let length = node.inside("node", move || longest("vethb", &until));
    let watch = Watch::start(node, &[]);
    let talk = move || {
        let mut client = Client::connect(server, server);
        vec![client.ask("/8000000/down", 0), client.ask("/10/up", 6_000_000)]
    };
    let talks = node.inside("a", talk).join().expect("a talk");
    let seen = watch.finish();
    end.store(true, Ordering::Relaxed);
    same(&seen.exchanges, &talks);
    seen.lost_nothing();
    let length = length.join().expect("a length");
    println!("the longest frame: {length} octets; {} packets copied", seen.copied);
    length
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn large_bodies_in_super_packets_are_whole() {
    let longest = large_bodies(&bridged("gso"), SERVER);
    // 45 segments of 1448 octets and their headers: as much as fits into an IPv4 packet.
    assert!(longest >= 65_226, "no super-packet passed, the longest frame had {longest} octets");
}

/// Two pods on a bridge that carries BIG TCP (IPv6 only, as the kernel has it by default).
fn bridged_big(what: &str) -> Node {
    let node = bridged(what);
    for (of, interfaces) in [("a", &["eth0"][..]), ("b", &["eth0"]), ("node", &["vetha", "vethb", "cni0"])] {
        for interface in interfaces {
            node.ip(of, &format!("link set {interface} gso_max_size 200000 gro_max_size 200000"));
        }
    }
    node
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn packets_beyond_64_kib_are_put_together() {
    let longest = large_bodies(&bridged_big("big"), SERVER6);
    assert!(longest > 100_000, "no BIG TCP packet passed, the longest frame had {longest} octets");
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn a_packet_of_which_the_ring_takes_a_part_is_told_as_cut() {
    let node = bridged_big("par");
    serve(&node, "b", SERVER6);
    // Room for one record of a packet that takes several.
    let watch = Watch::start(&node, &["--ring-size", "128KiB"]);
    let talk = || Client::connect(SERVER6, SERVER6).ask("/4000000/down", 0);
    node.inside("a", talk).join().expect("a talk");
    let seen = watch.finish();
    seen.adds_up();
    assert!(seen.said.contains("packets were copied in part"), "{}", seen.said);
    let causes: Vec<_> = seen.exchanges.iter().flat_map(|e| e["gaps"].as_array().expect("gaps")).collect();
    assert!(causes.iter().any(|gap| gap["cause"] == "truncated"), "{causes:?}");
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn pods_on_a_bridge_are_told_once() {
    told_once(&bridged("bri"), "a", SERVER);
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn pods_that_the_node_routes_between_are_told_once() {
    told_once(&routed("rou"), "a", SERVER);
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn a_service_on_a_bridge_is_told_once_with_the_servers_address() {
    let node = bridged("svb");
    node.forwards();
    // What is bridged passes the translation as well: a cluster's node cannot do without.
    node.run("node", "sh", &["-c", "echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables"]);
    service(&node);
    told_once(&node, "a", "10.43.0.80:80");
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn a_service_without_a_bridge_is_told_once_with_the_servers_address() {
    let node = routed("svr");
    service(&node);
    told_once(&node, "a", "10.43.0.80:80");
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn a_pod_that_reaches_itself_through_a_service_is_told_once() {
    let node = bridged("svs");
    node.forwards();
    node.run("node", "sh", &["-c", "echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables"]);
    node.run("node", "sh", &["-c", "echo 1 >/sys/class/net/vethb/brport/hairpin_mode"]);
    service(&node);
    node.run(
        "node",
        "iptables",
        &["-w", "-t", "nat", "-A", "POSTROUTING", "-s", "10.42.0.20", "-d", "10.42.0.20", "-j", "MASQUERADE"],
    );
    told_once(&node, "b", "10.43.0.80:80");
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn a_client_outside_the_node_is_told_once() {
    let mut node = bridged("out");
    node.outside();
    node.forwards();
    told_once(&node, "outside", SERVER);
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn a_server_outside_the_node_is_told_once_however_the_pod_is_called_there() {
    let mut node = bridged("way");
    node.outside();
    node.forwards();
    let masquerade = "-w -t nat -A POSTROUTING -s 10.42.0.0/24 -o eth0 -j MASQUERADE";
    node.run("node", "iptables", &masquerade.split(' ').collect::<Vec<_>>());
    serve(&node, "outside", "192.0.2.1:8080");
    told_once_of(&node, "a", "192.0.2.1:8080", "192.0.2.1:8080");
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn the_node_itself_as_client_is_told_once() {
    told_once(&bridged("own"), "node", SERVER);
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn loss_and_disorder_are_repaired_as_the_ends_repair_them() {
    let mut node = Node::new("los");
    node.loose_pod("a", 10);
    node.loose_pod("b", 20);
    for (of, interface) in [("a", "eth0"), ("b", "eth0"), ("node", "vetha"), ("node", "vethb")] {
        // The relay hands on what fits a wire, with the checksums that stand on it.
        node.run(of, "ethtool", &["-K", interface, "tso", "off", "gso", "off", "gro", "off", "tx", "off"]);
    }
    serve(&node, "b", SERVER);
    let end = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&end);
    let relayed = node.inside("node", move || relay(["vetha", "vethb"], &until));
    // One sees what is lost before and after it; the other sees every frame twice, and some only on one side.
    let one = Watch::start(&node, &["--interfaces", "vethb"]);
    let both = Watch::start(&node, &[]);
    let clients =
        ["left", "right"].map(|name| node.inside("a", move || chat(SERVER, SERVER, name, 30, NO_REST)));
    let talks: Vec<_> = clients.into_iter().flat_map(|c| c.join().expect("a talk")).collect();
    // The last packets may still be under way.
    std::thread::sleep(Duration::from_millis(300));
    let seen = [one, both].map(Watch::finish);
    end.store(true, Ordering::Relaxed);
    let lost = relayed.join().expect("the relay");
    assert!(lost > 20, "the relay lost only {lost} frames");
    for seen in seen {
        same(&seen.exchanges, &talks);
        seen.lost_nothing();
    }
}
