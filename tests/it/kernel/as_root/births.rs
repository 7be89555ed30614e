//! Pods that are born under denial: nothing of them arrives outside, from their first packet on. And what denial costs: time
//! for each packet, and until a new policy counts. `FEDISNIFF_DENY_BIRTHS=1000` has so many pods born.

use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use serde_json::json;
use sniffer::enforce::Options;

use crate::kernel::guard::{
    Bpffs, Lookout, cluster, compiled, ethernet, guard, ipv4, mac, marked, options, pod, policy, tcp, udp,
};
use crate::kernel::node::Node;
use crate::kernel::peers::{Client, serve};
use crate::kernel::raw::Raw;

/// `BR_STATE_FORWARDING` (if_bridge.h).
const FORWARDING: &str = "3";

/// Has pods born one after another, each of which sends as soon as it can: as itself, and as a pod that may.
fn births(node: &mut Node, from: u32, count: u32) {
    let bridge = mac(node, "node", "cni0");
    for number in from..from + count {
        let name = format!("n{number}");
        node.namespace(&name);
        let there = node.name_of(&name);
        node.ip(
            "node",
            &format!(
                "link add veth{name} type veth peer name eth0 netns {there}\nlink set veth{name} master cni0 up"
            ),
        );
        node.ip(&name, "link set eth0 up");
        let own = mac(node, &name, "eth0");
        let out = [192, 0, 2, 1];
        let up = |packet: &[u8]| ethernet(bridge, own, 0x0800, packet);
        let last = 100 + (number % 100) as u8;
        let frames = [
            up(&ipv4([10, 42, 0, last], out, 6, 0, &tcp(4000, 80, 2, &marked(number)))),
            up(&ipv4([10, 42, 0, last], out, 17, 0, &udp(4000, 53, &marked(number)))),
            up(&ipv4([10, 42, 0, 20], out, 17, 0, &udp(4000, 53, &marked(number)))),
        ];
        // From the first moment, until some time after the bridge takes what comes from there.
        let (end, is_over) = std::sync::mpsc::channel::<()>();
        let sender = node.inside(&name, move || {
            let raw = Raw::open("eth0");
            while is_over.recv_timeout(Duration::from_millis(1)).is_err() {
                frames.iter().for_each(|frame| raw.send(frame));
            }
        });
        let state = format!("/sys/class/net/veth{name}/brport/state");
        while node.run("node", "cat", &[&state]).trim() != FORWARDING {}
        // Where the two ends happen to have the same index, the kernel lets the pod's end send a second later (`linkwatch`).
        while node.run(&name, "cat", &["/sys/class/net/eth0/operstate"]).trim() != "up" {}
        std::thread::sleep(Duration::from_millis(20));
        end.send(()).expect("it sends");
        sender.join().expect("it sent");
        // The next one shall not wait for this one's end.
        node.ip("node", &format!("link delete veth{name}"));
        node.forget(&name);
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn nothing_of_a_pod_that_is_born_arrives_outside_from_its_first_packet_on() {
    let count = std::env::var("FEDISNIFF_DENY_BIRTHS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let mut node = Node::with_bridge("births");
    node.pod("b", 20);
    node.outside();
    node.forwards();
    // Else the bridge takes the lowest MAC address of its ports, which come and go.
    node.ip("node", "link set cni0 address 0a:00:00:00:00:01");
    // What gets as far as the node's way out shall not wait there for an answer to ARP.
    let octets = mac(&node, "outside", "eth0").map(|octet| format!("{octet:02x}")).join(":");
    node.ip("node", &format!("neighbour replace 192.0.2.1 lladdr {octets} dev eth0 nud permanent"));
    // The kernel begins to send on a new interface up to a second after it is set up (`linkwatch`).
    for interface in ["cni0", "eth0"] {
        let state = format!("/sys/class/net/{interface}/operstate");
        crate::netns::until("it is up", || node.run("node", "cat", &[&state]).trim() == "up");
    }
    let outside = Lookout::new(&node, "outside", "eth0");
    births(&mut node, 0, 2);
    assert_eq!(outside.arrived().into_iter().collect::<Vec<_>>(), [0, 1], "without denial they arrive");
    let bpffs = Bpffs::mount();
    let objects = [
        cluster(&[("b", 20)]),
        vec![json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": "x", "name": "deny"},
            "spec": {"podSelector": {"matchExpressions": [{"key": "pod", "operator": "NotIn", "values": ["b"]}]},
                     "policyTypes": ["Egress"]}})],
    ]
    .concat();
    let enforcer = guard(&node, Options { isolated: true, ..options(&bpffs) }, &objects, 1);
    // While it is there and attaches to each …
    let outside = Lookout::new(&node, "outside", "eth0");
    births(&mut node, 10, count / 2);
    // … and while the bridge's program alone is, which nobody looks after.
    drop(enforcer);
    births(&mut node, 10 + count / 2, count - count / 2);
    let arrived = outside.arrived();
    assert!(arrived.is_empty(), "of {count} born these got out: {arrived:?}");
    println!("{count} born, nothing arrived");
}

/// Run time and runs of the programs on an interface of this thread's namespace.
fn costs(interface: &str) -> Vec<(String, Duration, u64)> {
    [TcAttachType::Ingress, TcAttachType::Egress]
        .into_iter()
        .flat_map(|hook| SchedClassifier::query_tcx(interface, hook).expect("it is there").1)
        .map(|info| (info.name_as_str().unwrap_or("?").to_owned(), info.run_time(), info.run_count()))
        .collect()
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn a_verdict_costs_little_and_a_new_policy_counts_soon() {
    let mut node = Node::with_bridge("cost");
    node.pod("a", 10);
    node.pod("b", 20);
    serve(&node, "b", "0.0.0.0:8080");
    let bpffs = Bpffs::mount();
    let to_b = |port: u16| {
        policy(
            "to-b",
            "a",
            json!({"policyTypes": ["Egress", "Ingress"], "egress": [{
            "to": [{"podSelector": {"matchLabels": {"pod": "b"}}}], "ports": [{"port": 8080}, {"port": port}]}]}),
        )
    };
    // A cluster of some size, all of whose pods are peers of all: each set is as large as the cluster.
    let mut objects = cluster(&[("a", 10), ("b", 20)]);
    for number in 0..200_u16 {
        let mut one = pod(&format!("p{number}"), 99);
        one["status"] = json!({"phase": "Running", "podIP": format!("10.42.7.{number}")});
        objects.push(one);
    }
    for number in 0..50 {
        objects.push(policy(
            &format!("policy-{number}"),
            &format!("p{number}"),
            json!({"policyTypes": ["Egress"],
            "egress": [{"to": [{"podSelector": {}}], "ports": [{"port": 1_000 + number}]}]}),
        ));
    }
    let with = |port| [objects.clone(), vec![to_b(port)]].concat();
    let enforcer = guard(&node, options(&bpffs), &with(1), 2);
    let mut took: Vec<Duration> = (2..12)
        .map(|port| {
            let compiled = compiled(&with(port));
            enforcer.update(compiled).expect("there is room").took
        })
        .collect();
    took.sort();
    println!(
        "an update of one policy among 51, 202 pods: {:?} in the middle, {:?} at most",
        took[5], took[9]
    );
    assert!(took[5] < Duration::from_millis(50), "{took:?}");

    node.run("node", "sh", &["-c", "echo 1 >/proc/sys/kernel/bpf_stats_enabled"]);
    let mut samples: std::collections::BTreeMap<String, Vec<u64>> = std::collections::BTreeMap::new();
    for _ in 0..11 {
        let measure = || node.inside("node", || costs("vetha")).join().expect("costs");
        let before = measure();
        let talk = || {
            let mut client = Client::connect("10.42.0.20:8080", "10.42.0.20:8080");
            for number in 0..4 {
                client.ask(&format!("/8000000/{number}"), 300);
            }
        };
        node.inside("a", talk).join().expect("it talks");
        for ((name, time, runs), (_, time_after, runs_after)) in before.iter().zip(measure()) {
            let nanos = (time_after - *time).as_nanos() as u64;
            samples.entry(name.clone()).or_default().push(nanos / (runs_after - runs).max(1));
        }
    }
    node.run("node", "sh", &["-c", "echo 0 >/proc/sys/kernel/bpf_stats_enabled"]);
    for (name, mut samples) in samples {
        samples.sort_unstable();
        println!("{name}: {} ns a packet in the middle, {} to {}", samples[5], samples[0], samples[10]);
        // A machine that is busy with other things measures those too.
        assert!(samples[5] < 1_500, "{name}: {samples:?}");
    }
    let started = Instant::now();
    drop(enforcer);
    assert!(started.elapsed() < Duration::from_secs(2));
}
