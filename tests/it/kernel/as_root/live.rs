//! The program at work: it starts and ends under traffic, leaves nothing, says what it could not see, and gets along
//! with others on the same hooks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aya::programs::LinkOrder;
use serde_json::Value;
use sniffer_ebpf::Hook;
use sniffer_ebpf::select::{PortPolicy, Selection};

use super::frames::{Programs, of_length};
use crate::kernel::node::Node;
use crate::kernel::peers::{Client, Talk, chat, same, serve, told};
use crate::kernel::raw::Raw;
use crate::kernel::watch::{PATIENCE, Watch};

const SERVER: &str = "10.42.0.20:8080";

/// An exchange, and when its client began and ended it.
type Timed = (Instant, Instant, Talk);

/// Talks on one connection until the end is set.
fn talk_until(end: &AtomicBool) -> Vec<Timed> {
    let mut client = Client::connect(SERVER, SERVER);
    let mut talks = Vec::new();
    while !end.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let number = talks.len();
        let talk = client.ask(&format!("/{}/under-traffic/{number}", number % 7 * 1_000), number % 3 * 900);
        talks.push((begin, Instant::now(), talk));
        std::thread::sleep(Duration::from_millis(3));
    }
    talks
}

/// Everything between two moments was told whole, and nothing twice. What was under way then may be told in part.
#[track_caller]
fn told_between(exchanges: &[Value], talks: &[Timed], from: Instant, to: Instant) {
    let told: Vec<Talk> = exchanges.iter().map(told).collect();
    for (_, _, talk) in talks.iter().filter(|(begin, end, _)| *begin > from && *end < to) {
        assert_eq!(told.iter().filter(|t| *t == talk).count(), 1, "{talk:?} in {told:#?}");
    }
    for other in told.iter().filter(|t| !talks.iter().any(|(_, _, talk)| talk == *t)) {
        assert!(!other.whole, "made up: {other:?}");
    }
}

/// Nothing is attached, at once or a moment after the process has gone.
#[track_caller]
fn nothing_is_left(node: &Node, interfaces: &[&str]) {
    let begin = Instant::now();
    loop {
        let left: Vec<String> = interfaces.iter().flat_map(|name| node.attached(name)).collect();
        if left.is_empty() {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(2), "still attached: {left:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn ends_and_starts_under_traffic_harm_nobody_and_leave_nothing() {
    let mut node = Node::with_bridge("res");
    node.pod("a", 10);
    node.pod("b", 20);
    serve(&node, "b", SERVER);
    let end = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&end);
    let client = node.inside("a", move || talk_until(&until));
    let veths = ["vetha", "vethb"];
    let mut rounds = Vec::new();
    for kill in [false, true, false] {
        let mut watch = Watch::start(&node, &[]);
        let from = Instant::now();
        for veth in veths {
            assert_eq!(node.attached(veth), ["fs_ingress", "fs_egress"]);
        }
        watch.wait_for(20);
        let to = Instant::now();
        if kill {
            watch.kill();
        } else {
            rounds.push((watch.finish(), from, to));
        }
        nothing_is_left(&node, &veths);
    }
    end.store(true, Ordering::Relaxed);
    let talks = client.join().expect("no exchange fails");
    for (seen, from, to) in rounds {
        told_between(&seen.exchanges, &talks, from, to);
        seen.lost_nothing();
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn by_clsact_the_same_is_told_and_a_killed_one_leaves_nothing() {
    let mut node = Node::with_bridge("cls");
    node.pod("a", 10);
    node.pod("b", 20);
    serve(&node, "b", SERVER);
    let filters = |node: &Node| {
        let list = |hook| node.run("node", "tc", &["filter", "show", "dev", "vetha", hook]);
        [list("ingress"), list("egress")].concat()
    };
    let arguments = ["--attach", "clsact"];
    let watch = Watch::start(&node, &arguments);
    let of_watch = filters(&node);
    assert!(of_watch.contains("fs_ingress") && of_watch.contains("fs_egress"), "{of_watch}");
    let talks =
        node.inside("a", || chat(SERVER, SERVER, "clsact", 30, Duration::ZERO)).join().expect("a talk");
    let seen = watch.finish();
    same(&seen.exchanges, &talks);
    seen.lost_nothing();
    assert_eq!(filters(&node), "");
    // The process beside it outlives it by a moment.
    Watch::start(&node, &arguments).kill();
    let begin = Instant::now();
    while !filters(&node).is_empty() {
        assert!(begin.elapsed() < PATIENCE, "{}", filters(&node));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn other_programs_on_the_hooks_see_every_packet_before_and_behind() {
    let mut node = Node::with_bridge("oth");
    node.pod("a", 10);
    node.pod("b", 20);
    serve(&node, "b", SERVER);
    // They copy nothing, and count.
    let count = |order: fn() -> LinkOrder| {
        let programs = move || {
            let selection = Selection {
                flags: 0,
                other_ports: PortPolicy::Nothing as u32,
                snap_length: 0,
                wake_octets: 1,
            };
            let mut programs = Programs::load(selection, &[]);
            programs.attach("vethb", order);
            (programs, nix::net::if_::if_nametoindex("vethb").expect("an interface"))
        };
        node.inside("node", programs).join().expect("attached")
    };
    let before = count(LinkOrder::first);
    let watch = Watch::start(&node, &["--interfaces", "vethb"]);
    let behind = count(LinkOrder::last);
    assert_eq!(node.attached("vethb").len(), 6);
    let seen = |(programs, index): &(Programs, u32)| {
        [Hook::Ingress, Hook::Egress].map(|hook| programs.counted(*index, hook).seen)
    };
    let (first, then) = (seen(&before), seen(&behind));
    let talks =
        node.inside("a", || chat(SERVER, SERVER, "other", 20, Duration::ZERO)).join().expect("a talk");
    std::thread::sleep(Duration::from_millis(100));
    let grown = |now: [u64; 2], before: [u64; 2]| [now[0] - before[0], now[1] - before[1]];
    let (by_first, by_last) = (grown(seen(&before), first), grown(seen(&behind), then));
    assert_eq!(by_first, by_last);
    assert!(by_first.iter().all(|packets| *packets > 20), "{by_first:?}");
    let told = watch.finish();
    same(&told.exchanges, &talks);
    told.lost_nothing();
    assert_eq!(node.attached("vethb").len(), 4, "theirs stay");
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn what_a_ring_that_is_too_small_loses_is_counted_exactly() {
    const SENT: u64 = 30_000;
    let mut node = Node::new("rin");
    // No packets but ours.
    node.run("node", "sh", &["-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"]);
    node.loose_pod("a", 10);
    node.run("a", "sh", &["-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"]);
    std::thread::sleep(Duration::from_millis(200));
    let watch = Watch::start(&node, &["--ring-size", "4KiB"]);
    let send = || {
        let raw = Raw::open("eth0");
        let frame = of_length(100);
        (0..SENT).for_each(|_| raw.send(&frame));
    };
    node.inside("a", send).join().expect("sent");
    let seen = watch.finish();
    seen.adds_up();
    assert_eq!((seen.seen, seen.skipped), (SENT, 0), "{}", seen.said);
    assert!(seen.lost > 0 && seen.copied > 0, "{}", seen.said);
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn exchanges_that_a_loss_tears_say_so_and_none_is_made_up() {
    let mut node = Node::with_bridge("tor");
    node.pod("a", 10);
    node.pod("b", 20);
    for pod in ["a", "b"] {
        node.run(pod, "ethtool", &["-K", "eth0", "tso", "off", "gso", "off"]);
    }
    serve(&node, "b", SERVER);
    let watch = Watch::start(&node, &["--ring-size", "64KiB", "--queue-size", "1KiB"]);
    let talks =
        node.inside("a", || chat(SERVER, SERVER, "torn", 120, Duration::ZERO)).join().expect("a talk");
    let seen = watch.finish();
    seen.adds_up();
    assert!(seen.lost > 0 && seen.frames > 0, "{}", seen.said);
    let mut torn = 0;
    let mut whole: BTreeMap<Talk, u32> = BTreeMap::new();
    for exchange in &seen.exchanges {
        let talk = told(exchange);
        if talk.whole {
            assert!(talks.contains(&talk), "made up: {exchange}");
            *whole.entry(talk).or_default() += 1;
        }
        let gaps = exchange["gaps"].as_array().expect("gaps");
        torn += u32::from(gaps.iter().any(|gap| gap["cause"] == "capture-loss"));
    }
    assert!(whole.values().all(|times| *times == 1), "told twice: {whole:#?}");
    assert!(torn > 0, "no exchange names the loss: {:#?}", seen.exchanges);
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn without_a_capability_it_says_which_and_makes_no_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("live.redb");
    for (without, words) in [
        ("-bpf,-sys_admin", &["CAP_BPF", "sudo fedisniff watch"][..]),
        ("-net_admin", &["CAP_NET_ADMIN", "sudo fedisniff watch"]),
        ("-all", &["CAP_BPF", "CAP_NET_ADMIN"]),
    ] {
        let output = std::process::Command::new("setpriv")
            .args(["--bounding-set", without, "--inh-caps", without])
            .arg(crate::command::program())
            .arg("watch")
            .arg("--store")
            .arg(&store)
            .env("HOME", folder.path())
            .output()
            .expect("setpriv (util-linux) runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{without}: {said}");
        for word in words {
            assert!(said.contains(word), "{without}: {word} is not in: {said}");
        }
        assert!(!store.exists(), "{without}: a store is left");
    }
}
