//! What comes of others who write to the same tables: kube-router rewrites the whole filter table at each sync, and is
//! not always first in it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::cluster::pods::PodSpec;

use crate::cluster::{Beside, cluster, deny_egress};

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn a_rule_that_others_add_during_a_sync_is_lost_without_a_word() {
    let cluster = cluster();
    cluster.namespace("web", json!({})).expect("a namespace");
    for number in 0..10 {
        let address = format!("10.42.0.{}", 51 + number);
        cluster.pod(&PodSpec::new("web", &format!("web{number}"), &[&address])).expect("a pod");
    }
    // A chain is lost no less easily.
    while !cluster.rules("iptables").expect("iptables-save").contains(":OTHERS ") {
        let _ = cluster.node.output(&["iptables", "-w", "-N", "OTHERS"]);
        cluster.synced().expect("kube-router");
    }
    let over = AtomicBool::new(false);
    let (added, lost) = std::thread::scope(|scope| {
        let syncing = scope.spawn(|| {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                let block = json!({"ipBlock": {"cidr": format!("192.168.{}.0/24", number % 256)}});
                let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [block]}]});
                cluster.policy("web", "changes", spec).expect("a policy");
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let begin = Instant::now();
        let (mut number, mut added, mut lost) = (0, BTreeSet::new(), BTreeSet::new());
        // It is lost in one of some; more than a few minutes would be another kube-router.
        while lost.is_empty() && begin.elapsed() < Duration::from_secs(60) {
            for _ in 0..50 {
                let comment = format!("other-{number}");
                let rule = [
                    "iptables",
                    "-w",
                    "-A",
                    "OTHERS",
                    "-m",
                    "comment",
                    "--comment",
                    &comment,
                    "-j",
                    "RETURN",
                ];
                // An error would be a word.
                if cluster.node.output(&rule).is_ok() {
                    added.insert(comment);
                }
                number += 1;
            }
            let Ok(rules) = cluster.rules("iptables") else { break };
            lost =
                added.iter().filter(|rule| !rules.contains(&format!("--comment {rule} "))).cloned().collect();
        }
        over.store(true, Ordering::Relaxed);
        syncing.join().expect("no panic");
        (added.len(), lost)
    });
    // What is taken away during a sync comes back as well.
    let begin = Instant::now();
    while cluster.rules("iptables").expect("iptables-save").contains(":OTHERS ") {
        assert!(begin.elapsed() < Duration::from_secs(20), "the chain cannot be taken away");
        cluster.synced().expect("kube-router");
        for action in ["-F", "-X"] {
            let _ = cluster.node.output(&["iptables", "-w", action, "OTHERS"]);
        }
        cluster.synced().expect("kube-router");
    }
    println!("{} of {added} rules were lost", lost.len());
    assert!(!lost.is_empty(), "kube-router keeps the rules of others now: {added} of {added} are there");
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn node_ports_lead_out_after_kube_proxy_started_last() {
    let cluster = cluster();
    cluster.namespace("web", json!({})).expect("a namespace");
    let web = cluster.pod(&PodSpec::new("web", "web", &["10.42.0.61"])).expect("a pod");
    cluster.outside.answers("203.0.113.9:8080".parse().expect("an address"));
    cluster
        .apply(
            &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "web", "name": "ext"},
            "spec": {"type": "NodePort", "clusterIP": "10.43.0.98",
                "ports": [{"name": "p", "port": 80, "targetPort": 8080, "nodePort": 30_088}]}}),
        )
        .expect("a Service");
    cluster
        .apply(&json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "web", "name": "ext-1", "labels": {"kubernetes.io/service-name": "ext"}},
            "endpoints": [{"addresses": ["203.0.113.9"], "conditions": {"ready": true}}],
            "ports": [{"name": "p", "port": 8080}]}))
        .expect("its endpoints");
    let node_port: SocketAddr = "192.0.2.1:30088".parse().expect("an address");
    let by_node_port = || web.tcp(node_port).passed();
    let wait = |what: &str, so: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !so() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait("kube-proxy does not know the Service", &by_node_port);
    deny_egress(&cluster, "web");
    cluster.synced().expect("kube-router");
    assert!(!by_node_port(), "while kube-router is first");

    // As after a reboot on which kube-router was the quicker one. Its next sync may be minutes away, or one that is still to
    // come of what was done above; so it stands still.
    let paused = cluster.pause("kube-router").expect("kube-router");
    cluster.stop("kube-proxy").expect("kube-proxy");
    let rules = cluster.node.output(&["iptables", "-S", "FORWARD"]).expect("iptables");
    for rule in rules.lines().filter(|rule| rule.ends_with("-j KUBE-FORWARD")) {
        let script = format!("iptables -w {}", rule.replacen("-A", "-D", 1));
        cluster.node.output(&["sh", "-c", &script]).expect("iptables");
    }
    let beside = Beside::start(&cluster);
    cluster.start_again("kube-proxy", &[]).expect("kube-proxy");
    let forwards = || cluster.node.output(&["iptables", "-S", "FORWARD"]).expect("iptables");
    wait("kube-proxy does not come back", &|| forwards().contains("-j KUBE-FORWARD"));
    let order = forwards();
    let place = |chain: &str| order.lines().position(|rule| rule.ends_with(&format!("-j {chain}")));
    assert!(place("KUBE-FORWARD") < place("KUBE-ROUTER-FORWARD"), "{order}");
    let begin = Instant::now();
    let mut passed = false;
    // Its rules of Services come a moment later.
    while !passed && begin.elapsed() < Duration::from_secs(5) {
        passed = by_node_port();
    }
    beside.lets_pass("a node port, until the next sync", passed);
    drop(paused);
    // A sync that was half done when kube-router was stopped takes rules of kube-proxy's away, which puts itself first once
    // more when it finds out.
    let begin = Instant::now();
    while by_node_port() {
        assert!(begin.elapsed() < Duration::from_secs(40), "kube-router does not become the first again");
        cluster.synced().expect("kube-router");
    }
}
