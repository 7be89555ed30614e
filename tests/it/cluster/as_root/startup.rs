//! A pod is free until kube-router has made its chain, which it cannot before the API has the pod's address; and a
//! connection that was opened by then stays open.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::cluster::Cluster;
use tests::cluster::place::{Outcome, say};
use tests::cluster::pods::{Pod, PodSpec};

use crate::cluster::{Beside, cluster, deny_egress};

fn outside() -> SocketAddr {
    "203.0.113.9:9000".parse().expect("an address")
}

/// Connects again and again; gives how many connections got out, and when the first was refused.
fn knock(pod: &Pod, over: &AtomicBool) -> (u32, Option<Instant>) {
    let mut through = 0;
    while !over.load(Ordering::Relaxed) {
        match pod.tcp(outside()) {
            Outcome::Passed => through += 1,
            Outcome::Refused => return (through, Some(Instant::now())),
            Outcome::Silent => {}
        }
    }
    (through, None)
}

/// Each pod's first connections, from its birth to its first refusal.
struct Births {
    /// From its address being told to the first refusal, sorted.
    windows: Vec<Duration>,
    /// Connections that got out, sorted.
    got_out: Vec<u32>,
}

fn births(cluster: &Cluster, pods: usize) -> Births {
    let mut births = Births { windows: Vec::new(), got_out: Vec::new() };
    for number in 0..pods {
        let pod = newborn(cluster, number);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let knocking = scope.spawn(|| knock(&pod, &over));
            // As long as a kubelet that is quick.
            std::thread::sleep(Duration::from_millis(20));
            publish(cluster, &pod);
            let published = Instant::now();
            while !knocking.is_finished() && published.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(1));
            }
            over.store(true, Ordering::Relaxed);
            let (through, refused) = knocking.join().expect("no panic");
            births.windows.extend(refused.map(|refused| refused.saturating_duration_since(published)));
            births.got_out.push(through);
        });
    }
    births.windows.sort();
    births.got_out.sort_unstable();
    births
}

/// The cluster with a namespace that denies all egress, and an outside that answers.
fn young() -> MutexGuard<'static, Cluster> {
    let cluster = cluster();
    cluster.namespace("young", json!({})).expect("a namespace");
    cluster.outside.answers(outside());
    deny_egress(&cluster, "young");
    cluster
}

/// A pod in a namespace that denies all egress, and which the API has no address of.
fn newborn(cluster: &Cluster, number: usize) -> Arc<Pod> {
    let address = format!("10.42.0.{}", 100 + number);
    cluster.unpublished(&PodSpec::new("young", &format!("pod{number}"), &[&address])).expect("a pod")
}

fn publish(cluster: &Cluster, pod: &Pod) {
    cluster.publish(&pod.namespace, &pod.name, "n1", &pod.addresses, "Running").expect("its status");
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn a_pod_is_free_until_kube_router_knows_its_address() {
    let cluster = young();
    cluster.synced().expect("kube-router");
    let beside = Beside::start(&cluster);
    if let Some(arguments) = &beside.fedisniff {
        // It denies in silence, so that no refusal ends a pod's knocking.
        let Births { got_out, .. } = births(&cluster, 3);
        assert_eq!(got_out, [0, 0, 0], "connections get out beside fedisniff ({arguments})");
        return;
    }
    let Births { windows, got_out } = births(&cluster, 12);
    assert_eq!(windows.len(), 12, "each pod is refused in the end");
    println!(
        "podIP published -> first refused connect: {} / {} / {} ms (min / median / max of 12 pods); connections that \
         got out: {} / {} / {}",
        windows[0].as_millis(),
        windows[6].as_millis(),
        windows[11].as_millis(),
        got_out[0],
        got_out[6],
        got_out[11],
    );
    assert!(got_out[6] > 0, "kube-router has no window any more: {got_out:?}");
}

/// Rules stay when kube-router goes; but who is born meanwhile has none.
#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn a_pod_that_is_born_while_kube_router_is_away_is_free() {
    let cluster = young();
    let old = newborn(&cluster, 0);
    publish(&cluster, &old);
    cluster.synced().expect("kube-router");
    let beside = Beside::start(&cluster);
    cluster.stop("kube-router").expect("kube-router");
    let young = newborn(&cluster, 1);
    publish(&cluster, &young);
    assert!(!old.tcp(outside()).passed(), "whoever has rules keeps them");
    // Much longer than a sync takes.
    std::thread::sleep(Duration::from_secs(1));
    beside.lets_pass("a connection of a pod that kube-router never saw", young.tcp(outside()).passed());
    cluster.start_again("kube-router", &[]).expect("kube-router");
    cluster.synced().expect("kube-router");
    assert!(!young.tcp(outside()).passed(), "kube-router is back");
}

/// What kube-router itself has against it; from v2.10.0, and not in k3s.
#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn with_default_deny_nothing_gets_out_before_the_address_is_known() {
    let cluster = young();
    let restart = |arguments: &[&str]| {
        cluster.stop("kube-router").expect("kube-router");
        cluster.start_again("kube-router", arguments).expect("kube-router");
        cluster.synced().expect("kube-router");
    };
    restart(&["--netpol-default-deny=true"]);
    let pods = births(&cluster, 3);
    restart(&["--netpol-default-deny=false"]);
    assert_eq!(pods.got_out, [0, 0, 0]);
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn a_connection_opened_before_the_policy_holds_stays_open() {
    let cluster = young();
    cluster.synced().expect("kube-router");
    let beside = Beside::start(&cluster);
    let pod = newborn(&cluster, 0);
    let opened = pod.connect(outside());
    beside.lets_pass("a connection before the API has the pod's address", opened.is_ok());
    publish(&cluster, &pod);
    cluster.synced().expect("kube-router");
    assert!(!pod.tcp(outside()).passed(), "a new connection");
    if let Ok(mut opened) = opened {
        beside.lets_pass(
            "what is said on a connection that is older than the pod's chain",
            say(&mut opened).passed(),
        );
    }

    // So does one that is older than the policy.
    cluster.no_policies().expect("no policies");
    cluster.synced().expect("kube-router");
    let _beside = Beside::start(&cluster);
    let mut opened = pod.connect(outside()).expect("no policy, no refusal");
    deny_egress(&cluster, "young");
    cluster.synced().expect("kube-router");
    assert!(!pod.tcp(outside()).passed(), "a new connection");
    let beside = Beside::start(&cluster);
    beside.lets_pass("what is said on a connection that is older than the policy", say(&mut opened).passed());
}
