//! Denial outlives fedisniff: `watch --enforce deny` is killed and started again while a pod tries without pause, and what
//! was pinned is removed by `uninstall` and by nothing else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kernel::guard::{
    Bpffs, Lookout, cluster, deny_all, ethernet, ipv4, mac, marked, pod, policy, tcp, udp,
};
use crate::kernel::node::Node;
use crate::kernel::peers::{Client, serve};
use crate::kernel::raw::Raw;
use crate::kernel::watch::Watch;

/// Writes objects to a file as a cluster would give them.
fn write(folder: &Path, objects: &[Value]) -> String {
    let file = folder.join("cluster.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    // As an editor does it: the file is never half there.
    std::fs::write(folder.join("new"), list.to_string()).expect("written");
    std::fs::rename(folder.join("new"), &file).expect("renamed");
    file.to_str().expect("UTF-8").to_owned()
}

fn watch(node: &Node, bpffs: &Bpffs, file: &str, more: &[&str]) -> Watch {
    let pins = bpffs.pins();
    let pins = pins.to_str().expect("UTF-8");
    let arguments = ["--cluster", file, "--enforce", "deny", "--pins", pins, "--cni-cache", "/nonexistent"];
    Watch::start(node, &[&arguments[..], more].concat())
}

/// A pod that tries to get out by each of some frames, until it is told to end.
struct Trying {
    end: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Trying {
    fn begin(node: &Node, pod: &str, frames: Vec<Vec<u8>>) -> Self {
        let (end, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, count) = (Arc::clone(&end), Arc::clone(&sent));
        let thread = node.inside(pod, move || {
            let raw = Raw::open("eth0");
            while !ended.load(Ordering::Relaxed) {
                frames.iter().for_each(|frame| raw.send(frame));
                count.fetch_add(frames.len() as u64, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        Self { end, sent, thread }
    }

    fn end(self) -> u64 {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
        self.sent.load(Ordering::Relaxed)
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn denial_outlives_the_agent_and_the_next_one_adopts_it_without_a_hole() {
    let mut node = Node::with_bridge("restart");
    node.pod("a", 10);
    node.pod("b", 20);
    node.outside();
    node.forwards();
    serve(&node, "b", "0.0.0.0:8080");
    let (bpffs, folder) = (Bpffs::mount(), tempfile::tempdir().expect("a folder"));
    let to_b = policy(
        "to-b",
        "a",
        json!({"policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]}),
    );
    let objects = [cluster(&[("a", 10), ("b", 20)]), vec![to_b]].concat();
    let file = write(folder.path(), &objects);
    let first = watch(&node, &bpffs, &file, &["--isolated"]);
    assert!(first.said().contains("What policies do not allow is denied: 2 pods"), "{}", first.said());
    // It answers as soon as it is known whose the veths are.
    let allowed = |node: &Node| {
        node.inside("a", || Client::connect("10.42.0.20:8080", "10.42.0.20:8080").ask("/1000/x", 0))
            .join()
            .expect("what is allowed passes")
    };
    allowed(&node);
    let (own, bridge) = (mac(&node, "a", "eth0"), mac(&node, "node", "cni0"));
    let up = |packet: &[u8]| ethernet(bridge, own, 0x0800, packet);
    let out = [192, 0, 2, 1];
    let frames = vec![
        up(&ipv4([10, 42, 0, 10], out, 6, 0, &tcp(4000, 80, 2, &marked(1)))),
        up(&ipv4([10, 42, 0, 10], out, 17, 0, &udp(4000, 53, &marked(2)))),
        up(&ipv4([10, 42, 0, 99], out, 17, 0, &udp(4000, 53, &marked(3)))),
    ];
    let outside = Lookout::new(&node, "outside", "eth0");
    let trying = Trying::begin(&node, "a", frames);
    std::thread::sleep(Duration::from_millis(100));
    first.kill();
    std::thread::sleep(Duration::from_millis(100));
    allowed(&node);
    // A pod that is born now is known to nobody. Its neighbours do not hear of it either.
    let neighbour = Lookout::new(&node, "b", "eth0");
    node.pod("c", 30);
    let c = mac(&node, "c", "eth0");
    let to_b = ethernet(
        mac(&node, "b", "eth0"),
        c,
        0x0800,
        &ipv4([10, 42, 0, 30], [10, 42, 0, 20], 17, 0, &udp(1, 2, &marked(7))),
    );
    let to_out = ethernet(bridge, c, 0x0800, &ipv4([10, 42, 0, 30], out, 17, 0, &udp(1, 2, &marked(8))));
    let as_b = ethernet(bridge, c, 0x0800, &ipv4([10, 42, 0, 20], out, 17, 0, &udp(1, 2, &marked(9))));
    let born = Trying::begin(&node, "c", vec![to_b, to_out, as_b]);
    for _ in 0..3 {
        let next = watch(&node, &bpffs, &file, &["--isolated"]);
        allowed(&node);
        std::thread::sleep(Duration::from_millis(50));
        next.kill();
    }
    assert!(born.end() > 100);
    assert!(neighbour.arrived().is_empty(), "a port without a program reached a neighbour");
    let tried = trying.end();
    assert!(tried > 1_000, "{tried}");
    let arrived = outside.arrived();
    assert!(arrived.is_empty(), "{arrived:?} of {tried} arrived outside");

    // A policy that is written while it runs counts at once, and an orderly end changes nothing.
    let with_c = [cluster(&[("a", 10), ("b", 20)]), vec![pod("c", 30), deny_all("a")]].concat();
    let last = watch(&node, &bpffs, &file, &["--isolated"]);
    write(folder.path(), &with_c);
    let begin = std::time::Instant::now();
    while node
        .inside("a", || {
            std::net::TcpStream::connect_timeout(
                &"10.42.0.20:8080".parse().expect("an address"),
                Duration::from_millis(200),
            )
            .is_ok()
        })
        .join()
        .expect("no panic")
    {
        assert!(begin.elapsed() < Duration::from_secs(10), "{}", last.said());
    }
    let seen = last.finish();
    assert!(seen.said.contains("Denial stays in place"), "{}", seen.said);
    assert_eq!(node.attached("vetha"), ["fd_from_pod", "fd_to_pod"]);
    assert_eq!(node.attached("cni0"), ["fd_bridge"]);

    // An interface that goes leaves a pin, which the next one removes.
    let links = || std::fs::read_dir(bpffs.pins().join("deny-1/links")).map_or(0, Iterator::count);
    assert_eq!(links(), 7);
    node.ip("node", "link delete vethc");
    assert_eq!(links(), 7);
    watch(&node, &bpffs, &file, &[]).kill();
    assert_eq!(links(), 5);
    let pins = bpffs.pins();
    let mut command = node.command("node", crate::command::program());
    let output = command.args(["uninstall", "--pins"]).arg(&pins).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("5 links, 10 maps"), "{said}");
    // The kernel lets go of what nothing pins any more a moment later (`bpf_free_inode`).
    crate::netns::until("all is detached", || {
        ["vetha", "vethb", "cni0"].iter().all(|interface| node.attached(interface).is_empty())
    });
    assert!(!pins.exists());
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn what_a_pod_tries_is_a_finding_with_what_became_of_it() {
    let mut node = Node::with_bridge("finding");
    node.pod("a", 10);
    node.outside();
    node.forwards();
    serve(&node, "outside", "0.0.0.0:8080");
    let (bpffs, folder) = (Bpffs::mount(), tempfile::tempdir().expect("a folder"));
    let file = write(folder.path(), &[cluster(&[("a", 10)]), vec![deny_all("a")]].concat());
    let findings = |seen: &[Value]| -> Vec<Value> {
        seen.iter().filter(|line| line["schema"] == "fedisniff.finding/1").cloned().collect()
    };
    let witnesses = |finding: &Value| -> Vec<String> {
        let evidence = finding["evidence"].as_array().into_iter().flatten();
        evidence.filter_map(|e| e["witness"].as_str().map(str::to_owned)).collect()
    };

    // Nothing is enforced: it gets out, is answered, and that is told, with the exchange that went that way.
    let open = Watch::start(&node, &["--cluster", &file]);
    node.inside("a", || Client::connect("192.0.2.1:8080", "192.0.2.1:8080").ask("/1000/x", 0))
        .join()
        .expect("nobody forbids it");
    let seen = open.finish();
    let told = findings(&seen.exchanges);
    let leaked = told.last().unwrap_or_else(|| panic!("no finding: {}", seen.said));
    assert_eq!(leaked["outcome"], "leaked", "{leaked}");
    assert_eq!(leaked["pod"]["name"], "x/a");
    assert_eq!(leaked["verdict"]["isolated_by"], json!(["x/deny-all"]));
    assert_eq!(
        (&leaked["destination"]["address"], &leaked["destination"]["port"]),
        (&json!("192.0.2.1"), &json!(8080))
    );
    assert!(witnesses(leaked).contains(&"answered".to_owned()), "{leaked}");
    assert_eq!(leaked["exchanges"].as_array().map(Vec::len), Some(1), "{leaked}");

    // Denied, the kernel's program is the witness.
    let deny = watch(&node, &bpffs, &file, &[]);
    let refused = node
        .inside("a", || {
            let to = "192.0.2.1:8080".parse().expect("an address");
            std::net::TcpStream::connect_timeout(&to, Duration::from_millis(500)).is_err()
        })
        .join()
        .expect("no panic");
    assert!(refused, "it got out");
    let seen = deny.finish();
    let told = findings(&seen.exchanges);
    let blocked = told
        .iter()
        .find(|f| f["destination"]["port"] == 8080)
        .unwrap_or_else(|| panic!("no finding: {}", seen.said));
    assert_eq!(blocked["outcome"], "blocked-by-fedisniff", "{blocked}");
    assert!(witnesses(blocked).contains(&"program".to_owned()), "{blocked}");
    assert_eq!(blocked["pod"]["name"], "x/a");
}
