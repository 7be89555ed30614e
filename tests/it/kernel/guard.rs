//! Denial at work on a node: policies as Kubernetes objects, the enforcer in the node's namespace, and frames by hand.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sniffer::enforce::{Enforcer, Mode, Options, Told};
use sniffer::policy::{Cluster, Compiled, compile, objects};

use super::node::Node;
use super::raw::Raw;
use super::watch::PATIENCE;

/// A BPF file system for one test, so that nothing of it is where a node has its own.
pub(super) struct Bpffs(tempfile::TempDir);

impl Bpffs {
    pub(super) fn mount() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let status = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(folder.path()).status();
        assert!(status.expect("mount runs").success(), "this runs as root");
        Self(folder)
    }

    pub(super) fn pins(&self) -> PathBuf {
        self.0.path().join("fedisniff")
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// How the test's node denies.
pub(super) fn options(bpffs: &Bpffs) -> Options {
    Options { pins: bpffs.pins(), cni: bpffs.0.path().join("none"), ..Options::default() }
}

/// Starts the enforcer in the node's namespace.
pub(super) fn start(node: &Node, options: Options) -> Enforcer {
    node.inside("node", move || Enforcer::start(options)).join().expect("no panic").expect("it denies")
}

/// Starts it, and holds the pods to these objects; waits until it knows so many pods.
pub(super) fn guard(node: &Node, options: Options, objects: &[Value], pods: usize) -> Enforcer {
    let enforcer = start(node, options);
    enforcer.update(compiled(objects)).expect("there is room");
    knows(&enforcer, pods);
    enforcer
}

/// Waits until it knows whose so many veths are.
pub(super) fn knows(enforcer: &Enforcer, pods: usize) {
    let begin = Instant::now();
    loop {
        let standing = enforcer.standing();
        if standing.interfaces.iter().filter(|i| i.pod.is_some()).count() >= pods {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{standing:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Compiles objects, which must be right.
pub(super) fn compiled(objects: &[Value]) -> Arc<Compiled> {
    let parsed: Vec<_> = objects.iter().flat_map(|o| objects::parse(o.clone()).objects).collect();
    assert_eq!(parsed.len(), objects.len());
    let (cluster, problems) = Cluster::new(parsed.into_iter().map(|object| (None, object)));
    assert!(problems.is_empty(), "{problems:?}");
    Arc::new(compile(&cluster).expect("it is small"))
}

/// A namespace, a node, and pods `x/NAME` labelled `pod: NAME` at 10.42.0.NUMBER and fd00:42::NUMBER.
pub(super) fn cluster(pods: &[(&str, u8)]) -> Vec<Value> {
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "labels": {"ns": "x"}}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
               "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]}}),
    ];
    objects.extend(pods.iter().map(|(name, number)| pod(name, *number)));
    objects
}

pub(super) fn pod(name: &str, number: u8) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "x", "name": name, "labels": {"pod": name}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "podIP": format!("10.42.0.{number}"),
            "podIPs": [{"ip": format!("10.42.0.{number}")}, {"ip": format!("fd00:42::{number}")}]}})
}

/// A policy for the pod `NAME`; `spec` is what it says beside the selector.
pub(super) fn policy(name: &str, pod: &str, spec: Value) -> Value {
    let mut policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "x", "name": name},
        "spec": {"podSelector": {"matchLabels": {"pod": pod}}}});
    let fields = spec.as_object().expect("fields").clone();
    policy["spec"].as_object_mut().expect("a spec").extend(fields);
    policy
}

pub(super) fn deny_all(pod: &str) -> Value {
    policy("deny-all", pod, json!({"policyTypes": ["Egress", "Ingress"]}))
}

/// What marks a frame of a test, before its number.
const MARK: &[u8; 8] = b"fedimark";

/// A payload that is recognised wherever it arrives.
pub(super) fn marked(number: u32) -> Vec<u8> {
    [MARK.as_slice(), &number.to_be_bytes(), &[0; 12]].concat()
}

/// Looks for marked frames at an interface of a namespace until it is asked what arrived.
pub(super) struct Lookout {
    end: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<BTreeSet<u32>>,
}

impl Lookout {
    /// What passes an interface of a namespace.
    pub(super) fn new(node: &Node, of: &str, interface: &str) -> Self {
        let interface = interface.to_owned();
        Self::of(node, of, move || vec![Raw::open(&interface)])
    }

    /// What a namespace's own IP takes in.
    pub(super) fn delivered(node: &Node, of: &str) -> Self {
        use nix::sys::socket::{AddressFamily, SockProtocol};
        Self::of(node, of, || {
            [AddressFamily::Inet, AddressFamily::Inet6]
                .into_iter()
                .flat_map(|family| [SockProtocol::Tcp, SockProtocol::Udp].map(|p| Raw::delivered(family, p)))
                .collect()
        })
    }

    fn of(node: &Node, of: &str, open: impl FnOnce() -> Vec<Raw> + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let (up, is_up) = std::sync::mpsc::channel();
        let thread = node.inside(of, move || {
            let sockets = open();
            up.send(()).expect("the test waits");
            let mut arrived = BTreeSet::new();
            let mut buffer = vec![0; 70_000];
            loop {
                // What was sent before the end is there by the end.
                let last = ended.load(Ordering::Relaxed);
                while let Some(length) = sockets.iter().find_map(|socket| socket.next(&mut buffer)) {
                    let frame = &buffer[..length.min(buffer.len())];
                    if let Some(at) = frame.windows(MARK.len()).position(|w| w == MARK)
                        && let Some(number) = frame.get(at + 8..at + 12)
                    {
                        arrived.insert(u32::from_be_bytes(number.try_into().expect("four octets")));
                    }
                }
                if last {
                    return arrived;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        is_up.recv_timeout(PATIENCE).expect("it looks");
        Self { end, thread }
    }

    pub(super) fn arrived(self) -> BTreeSet<u32> {
        std::thread::sleep(Duration::from_millis(100));
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}

/// Sends frames from a pod's `eth0`.
pub(super) fn send(node: &Node, pod: &str, frames: Vec<Vec<u8>>) {
    node.inside(pod, move || {
        let raw = Raw::open("eth0");
        frames.iter().for_each(|frame| raw.send(frame));
    })
    .join()
    .expect("sent");
}

/// The MAC address of an interface.
pub(super) fn mac(node: &Node, of: &str, interface: &str) -> [u8; 6] {
    let text = node.run(of, "cat", &[&format!("/sys/class/net/{interface}/address")]);
    let octets: Vec<u8> =
        text.trim().split(':').map(|octet| u8::from_str_radix(octet, 16).expect("an octet")).collect();
    octets.try_into().expect("six octets")
}

/// An Ethernet frame.
pub(super) fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), rest].concat()
}

/// An IPv4 packet with its checksum; `fragment` is the field of flags and offset.
pub(super) fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, fragment: u16, rest: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend_from_slice(&((20 + rest.len()) as u16).to_be_bytes());
    header.extend_from_slice(&[0x12, 0x34]);
    header.extend_from_slice(&fragment.to_be_bytes());
    header.extend_from_slice(&[64, protocol, 0, 0]);
    header.extend_from_slice(&from);
    header.extend_from_slice(&to);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend_from_slice(rest);
    header
}

/// An IPv6 packet.
pub(super) fn ipv6(from: [u8; 16], to: [u8; 16], next: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(rest.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[next, 64]);
    packet.extend_from_slice(&from);
    packet.extend_from_slice(&to);
    packet.extend_from_slice(rest);
    packet
}

/// A UDP datagram without a checksum.
pub(super) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

/// A TCP segment, whose checksum nobody looks at on the way.
pub(super) fn tcp(from: u16, to: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let head = [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0; 8], &[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]];
    [&head.concat()[..], payload].concat()
}

/// An ICMP message with its checksum.
pub(super) fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], rest].concat();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 =
        octets.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Waits for an event.
pub(super) fn told(enforcer: &Enforcer, what: &str, is: impl Fn(&Told) -> bool) -> Told {
    let begin = Instant::now();
    let mut seen = Vec::new();
    loop {
        let (events, _) = enforcer.told();
        if let Some(found) = events.iter().find(|event| is(event)) {
            return found.clone();
        }
        seen.extend(events);
        assert!(begin.elapsed() < PATIENCE, "{what}: {seen:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Only what is said of a pod.
pub(super) fn audit(options: Options) -> Options {
    Options { mode: Mode::Audit, ..options }
}
