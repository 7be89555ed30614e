//! The programs that deny, on made-up frames by `BPF_PROG_TEST_RUN`, beside the same decision in userspace over the
//! compiled policies that the kernel's tables were written from, and beside the policies' own evaluator. By
//! `FEDISNIFF_DENY_PACKETS=1000000 FEDISNIFF_DENY_SETS=200 cargo xtask test --only kernel` so many, over so many random sets
//! of policies.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use aya::maps::{HashMap as BpfHashMap, Map, MapData};
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use sniffer::enforce::Options;
use sniffer::policy::compiled::{
    self, Address, Compiled, Endpoint as Held, NodeRef, PodId, PodRef, PolicyId, PolicyRef, PortRule,
    PortsId, Prefix, RuleId, RuleRef, Set, SetId, Side,
};
use sniffer_ebpf::deny::{
    Chunk, ChunkKey, Config, Endpoint, FLOW_KEY, Flow, FlowKey, Hook, MAP_FLOWS, MAP_VETHS, MAPS, Mode,
    PROGRAM_BRIDGE, PROGRAM_FROM_POD, PROGRAM_TO_POD, PortRange, RANGES, VETH, Veth, config_flag,
    endpoint_flag,
};
use sniffer_ebpf::verdict::{Here, TOKEN_DONE, TOKEN_FORWARD, Work, World, decide};
use sniffer_ebpf::wire::parse;
use tests::federation::Random;

use crate::kernel::guard::{Bpffs, ethernet, icmp, ipv4, ipv6, knows, options, start, tcp, udp};
use crate::kernel::node::Node;

static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../sniffer-ebpf/object/deny.o"));

/// `TC_ACT_SHOT`.
const SHOT: u32 = 2;
/// `TC_ACT_UNSPEC`, which is -1.
const NEXT: u32 = u32::MAX;
/// A test run of less than an IPv6 header is refused.
const SHORTEST_RUN: usize = 14 + 40;

/// The programs once more, over the maps that an enforcer has pinned.
fn load(bpffs: &Bpffs) -> Ebpf {
    let folder = bpffs.pins().join("deny-1/maps");
    let paths = MAPS.map(|map| (map, folder.join(map)));
    let mut loader = EbpfLoader::new();
    paths.iter().for_each(|(map, path)| {
        loader.map_pin_path(map, path);
    });
    let mut ebpf = loader.load(OBJECT).expect("the kernel takes the programs");
    for name in [PROGRAM_FROM_POD, PROGRAM_BRIDGE, PROGRAM_TO_POD] {
        let program: &mut SchedClassifier = classifier(&mut ebpf, name);
        program.load().expect("the verifier takes the program");
    }
    ebpf
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    ebpf.program_mut(name).expect("a program").try_into().expect("its kind")
}

/// The world of the verdict, over compiled policies. Nothing in it was in the kernel, but for whose the veths are.
struct Model {
    compiled: Arc<Compiled>,
    own: Vec<Address>,
    veths: BTreeMap<u32, Veth>,
    flows: RefCell<HashMap<[u8; 43], Flow>>,
    chunks: Vec<Chunk>,
}

fn flow_key(key: &FlowKey) -> [u8; 43] {
    let mut octets = [0; 43];
    octets[..36].copy_from_slice(&key.tuple.to_octets());
    octets[36..40].copy_from_slice(&key.interface.to_ne_bytes());
    octets[40] = key.protocol;
    octets[41] = key.role;
    octets
}

impl Model {
    fn new(compiled: Arc<Compiled>, own: Vec<Address>, veths: BTreeMap<u32, Veth>) -> Self {
        let chunk = |list: &Vec<PortRule>| {
            assert!(list.len() <= RANGES, "the model has one chunk");
            let mut ranges = [PortRange::NOTHING; RANGES];
            for (range, rule) in ranges.iter_mut().zip(list) {
                *range = PortRange { first: rule.first, last: rule.last, protocol: u16::from(rule.protocol) };
            }
            Chunk { more: 0, ranges }
        };
        let chunks = compiled.ports.iter().map(chunk).collect();
        Self { compiled, own, veths, flows: RefCell::default(), chunks }
    }
}

/// Numbers of sets and lists here are their places; 2 is added so that no list has the number of the one that allows all.
impl World for Model {
    fn endpoint(&self, address: &[u8; 16], into: &mut Endpoint) {
        *into = Endpoint::NONE;
        if self.own.contains(address) {
            into.flags = endpoint_flag::OWN_NODE;
        } else if let Some(held) = self.compiled.endpoints.get(address) {
            let pod = &self.compiled.pods[held.pod.index()];
            into.pod = number(pod);
            if let Some(set) = held.egress {
                (into.egress, into.flags) = (set.0, into.flags | endpoint_flag::EGRESS);
            }
            if let Some(set) = held.ingress {
                (into.ingress, into.flags) = (set.0, into.flags | endpoint_flag::INGRESS);
            }
        }
    }

    fn ports(&self, set: u32, address: &[u8; 16]) -> Option<u32> {
        self.compiled.sets[set as usize].ports_at(address).map(|list| list.0 + 2)
    }

    fn chunk(&self, key: &ChunkKey) -> Option<&Chunk> {
        self.chunks.get(key.list as usize - 2)
    }

    fn veth(&self, interface: u32, into: &mut Veth) {
        *into = self.veths.get(&interface).copied().unwrap_or(Veth::NONE);
    }

    fn flow(&self, key: &FlowKey, into: &mut Flow) -> bool {
        let found = self.flows.borrow().get(&flow_key(key)).copied();
        if let Some(flow) = found {
            *into = flow;
        }
        found.is_some()
    }

    fn remember(&self, key: &FlowKey, flow: &Flow) {
        self.flows.borrow_mut().insert(flow_key(key), *flow);
    }

    /// A set of policies is done within the shortest life of a flow.
    fn now(&self) -> u64 {
        1
    }
}

/// As the veths have it.
fn number(pod: &PodRef) -> u64 {
    use sha2::{Digest as _, Sha256};
    let hash = Sha256::digest(format!("{}/{}", pod.namespace, pod.name));
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn address(text: &str) -> Address {
    compiled::address(text.parse::<IpAddr>().expect("an address"))
}

/// Where packets come from and go to: pods here and elsewhere, the node, outside, groups, the link.
const ADDRESSES: [&str; 24] = [
    "10.42.0.10",
    "10.42.0.20",
    "10.42.0.30",
    "fd00:42::10",
    "fd00:42::20",
    "fd00:42::30",
    "10.42.1.7",
    "10.42.1.8",
    "fd00:42:1::7",
    "10.42.0.1",
    "192.0.2.2",
    "fd00:42::1",
    "192.0.2.1",
    "203.0.113.9",
    "198.51.100.7",
    "10.43.0.80",
    "2001:db8::9",
    "10.42.0.99",
    "10.42.0.255",
    "224.0.0.251",
    "255.255.255.255",
    "fe80::1",
    "ff02::fb",
    "0.0.0.0",
];

/// Random policies over pods p0 to p2 here and q0, q1 elsewhere.
fn policies(random: &mut Random) -> Compiled {
    let mut compiled = Compiled::default();
    compiled
        .nodes
        .push(NodeRef { name: "n1".into(), addresses: vec![address("192.0.2.2"), address("10.42.0.1")] });
    for node_address in &compiled.nodes[0].addresses {
        compiled.node_addresses.insert(*node_address, compiled::NodeId(0));
    }
    compiled.policies.push(PolicyRef { namespace: "x".into(), name: "p".into() });
    compiled.rules.push(RuleRef { policy: PolicyId(0), side: Side::Egress, rule: 0, peer: None, port: None });
    for _ in 0..6 {
        let mut list: Vec<PortRule> = (0..random.below(4))
            .map(|_| {
                let first = random.below(40) as u16;
                let last = first + random.below(20) as u16;
                let protocol = [6, 17, 132][random.below(3) as usize];
                PortRule { protocol, first, last, rule: RuleId(0) }
            })
            .collect();
        if random.below(5) == 0 {
            list = vec![PortRule { protocol: 0, first: 0, last: u16::MAX, rule: RuleId(0) }];
        }
        list.sort();
        compiled.ports.push(list);
    }
    for at in 0..6 {
        let side = if at % 2 == 0 { Side::Egress } else { Side::Ingress };
        let mut nets: BTreeMap<Prefix, PortsId> = BTreeMap::new();
        for _ in 0..random.below(9) {
            let ip: IpAddr = ADDRESSES[random.below(24) as usize].parse().expect("an address");
            let most = if ip.is_ipv4() { 33 } else { 129 };
            let length = if random.below(2) == 0 { most - 1 } else { random.below(most) };
            nets.insert(Prefix::of(ip, length as u8), PortsId(random.below(6) as u32));
        }
        compiled.sets.push(Set { side, isolated_by: vec![PolicyId(0)], nets: nets.into_iter().collect() });
    }
    let pods: [(&str, &[&str]); 5] = [
        ("p0", &["10.42.0.10", "fd00:42::10"]),
        ("p1", &["10.42.0.20", "fd00:42::20"]),
        ("p2", &["10.42.0.30", "fd00:42::30"]),
        ("q0", &["10.42.1.7", "fd00:42:1::7"]),
        ("q1", &["10.42.1.8"]),
    ];
    for (name, addresses) in pods {
        let mut set = |side| {
            let number = random.below(3) as u32 * 2 + u32::from(side == Side::Ingress);
            (random.below(4) > 0).then_some(SetId(number))
        };
        let (egress, ingress) = (set(Side::Egress), set(Side::Ingress));
        let pod = PodId(compiled.pods.len() as u32);
        let addresses: Vec<Address> = addresses.iter().map(|text| address(text)).collect();
        for address in &addresses {
            compiled.endpoints.insert(*address, Held { pod, egress, ingress });
        }
        let node = name.starts_with('p').then_some(compiled::NodeId(0));
        let (namespace, name) = ("x".into(), name.into());
        compiled.pods.push(PodRef { namespace, name, node, addresses, egress, ingress });
    }
    compiled
}

/// A frame, and what it is where it is nothing but a first packet of TCP, UDP or SCTP.
struct Made {
    frame: Vec<u8>,
    plain: Option<(Address, Address, u8, u16)>,
}

fn make(random: &mut Random, mac: [u8; 6], own: [&str; 2]) -> Made {
    let pick = |random: &mut Random| ADDRESSES[random.below(24) as usize];
    let to: IpAddr = pick(random).parse().expect("an address");
    let mut from: IpAddr = match random.below(8) {
        0 => pick(random),
        _ if to.is_ipv4() => own[0],
        _ => own[1],
    }
    .parse()
    .expect("an address");
    if from.is_ipv4() != to.is_ipv4() {
        from = own[usize::from(to.is_ipv6())].parse().expect("an address");
    }
    // An answer of one is never taken for a question of another.
    let ports = (40_000 + random.below(20_000) as u16, random.below(70) as u16);
    let group = to.is_multicast() || to.to_string() == "255.255.255.255";
    let (kind, rest, whole) = match random.below(16) {
        0..=4 => (6, tcp(ports.0, ports.1, [2, 2, 0x10, 0x18][random.below(4) as usize], &[0; 20]), true),
        5..=8 => (17, udp(ports.0, ports.1, &[0; 20]), true),
        9 => (132, udp(ports.0, ports.1, &[0; 20]), true),
        10 => (
            if to.is_ipv4() { 1 } else { 58 },
            {
                let kinds: [u8; 8] = if to.is_ipv4() {
                    [8, 8, 0, 3, 11, 13, 5, 9]
                } else {
                    [128, 128, 129, 1, 3, 133, 135, 134]
                };
                let id = random.below(3) as u8;
                icmp(kinds[random.below(8) as usize], 0, &[&[0, id, 0, 1][..], &[0; 28]].concat())
            },
            false,
        ),
        // An answer, perhaps to a packet that was let in.
        11 => (6, tcp(ports.1, ports.0, 0x10, &[0; 20]), false),
        12 => (17, udp(68, 67, &[0; 20]), false),
        13 => (47, vec![0; 30], false),
        _ => (17, udp(ports.0, ports.1, &[0; 20]), true),
    };
    let mut plain = whole.then(|| {
        let address = |ip: IpAddr| compiled::address(ip);
        (address(from), address(to), kind, ports.1)
    });
    let fragment = match random.below(12) {
        0 => 0x2000,
        1 => 0x0004,
        _ => 0,
    };
    let (ether_type, packet) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            if fragment & 0x1fff != 0 {
                plain = None;
            }
            (0x0800, ipv4(from.octets(), to.octets(), kind, fragment, &rest))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let packet = match random.below(8) {
                0 => {
                    ipv6(from.octets(), to.octets(), 60, &[&[kind, 0, 1, 4, 0, 0, 0, 0][..], &rest].concat())
                }
                1 => {
                    plain = None;
                    let more = [0, 1, 8][random.below(3) as usize];
                    ipv6(
                        from.octets(),
                        to.octets(),
                        44,
                        &[&[kind, 0, 0, more, 0, 0, 0, 9][..], &rest].concat(),
                    )
                }
                _ => ipv6(from.octets(), to.octets(), kind, &rest),
            };
            (0x86dd, packet)
        }
        _ => unreachable!("one family"),
    };
    let destination_mac = if group { [0xff; 6] } else { [2, 0, 0, 0, 0, 9] };
    let mut frame = ethernet(destination_mac, mac, ether_type, &packet);
    match random.below(24) {
        0 => {
            // A tag, PPPoE, ARP, another type.
            let other: u16 = [0x8100, 0x88a8, 0x8864, 0x0806, 0x88b5][random.below(5) as usize];
            frame[12..14].copy_from_slice(&other.to_be_bytes());
            plain = None;
        }
        1 => {
            frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 8]);
            plain = None;
        }
        2..=5 => {
            for _ in 0..=random.below(4) {
                let at = random.below(frame.len() as u64) as usize;
                frame[at] = random.next() as u8;
            }
            plain = None;
        }
        6 => {
            frame.truncate(SHORTEST_RUN + random.below(8) as usize);
            plain = None;
        }
        _ => {}
    }
    frame.resize(frame.len().max(SHORTEST_RUN), 0);
    Made { frame, plain }
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn pinned<K: aya::Pod, V: aya::Pod>(bpffs: &Bpffs, name: &str) -> BpfHashMap<MapData, K, V> {
    let data = MapData::from_pin(bpffs.pins().join("deny-1/maps").join(name)).expect("it is pinned");
    let map = if name == MAP_FLOWS { Map::LruHashMap(data) } else { Map::HashMap(data) };
    BpfHashMap::try_from(map).expect("its kind")
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn the_kernel_and_the_evaluator_say_the_same_of_every_packet() {
    let (packets, sets) = (setting("FEDISNIFF_DENY_PACKETS", 40_000), setting("FEDISNIFF_DENY_SETS", 40));
    let mut node = Node::with_bridge("verdicts");
    for (pod, number) in [("p0", 10), ("p1", 20), ("p2", 30)] {
        node.pod(pod, number);
    }
    node.outside();
    for isolated in [false, true] {
        let bpffs = Bpffs::mount();
        let enforcer = start(&node, Options { isolated, ..options(&bpffs) });
        let begin = std::time::Instant::now();
        node.inside("node", move || compare(&bpffs, &enforcer, isolated, packets / 2, sets / 2))
            .join()
            .expect("they say the same");
        println!("{packets} packets, half of them with isolated {isolated}: {:?}", begin.elapsed());
    }
}

/// In the node's namespace.
fn compare(bpffs: &Bpffs, enforcer: &sniffer::enforce::Enforcer, isolated: bool, packets: u64, sets: u64) {
    let mut ebpf = load(bpffs);
    let mut flows: BpfHashMap<MapData, [u8; FLOW_KEY], [u8; 16]> = pinned(bpffs, MAP_FLOWS);
    let own: Vec<Address> = nix::ifaddrs::getifaddrs()
        .expect("addresses")
        .filter_map(|one| {
            let storage = one.address?;
            let v4 = storage.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .filter(|ip| !ip.is_loopback())
        .map(compiled::address)
        .collect();
    let mut random = Random(if isolated { 77 } else { 78 });
    let (mut denied, mut plain) = (0_u64, 0_u64);
    for set in 0..sets {
        let compiled = Arc::new(policies(&mut random));
        let generation = enforcer.update(Arc::clone(&compiled)).expect("there is room").generation;
        knows(enforcer, 3);
        let keys: Vec<_> = flows.keys().flatten().collect();
        keys.iter().for_each(|key| {
            let _ = flows.remove(key);
        });
        let veths: BpfHashMap<MapData, u32, [u8; VETH]> = pinned(bpffs, MAP_VETHS);
        let veths: BTreeMap<u32, Veth> =
            veths.iter().flatten().map(|(index, octets)| (index, Veth::from_octets(octets))).collect();
        let standing = enforcer.standing();
        let index = |name: &str| standing.interfaces.iter().find(|i| i.name == name).expect("guarded").index;
        let bridge = index("cni0");
        let pods = ["p0", "p1", "p2"].map(|name| index(&format!("veth{name}")));
        let model = Model::new(Arc::clone(&compiled), own.clone(), veths.clone());
        for packet in 0..packets / sets {
            let pod = random.below(3) as usize;
            let hook = [Hook::FromPod, Hook::Bridge, Hook::ToPod][random.below(3) as usize];
            let own =
                [["10.42.0.10", "fd00:42::10"], ["10.42.0.20", "fd00:42::20"], ["10.42.0.30", "fd00:42::30"]];
            let mac = veths[&pods[pod]].mac;
            let made = make(&mut random, mac, own[pod]);
            // To a pod goes what another sent.
            let interface = match hook {
                Hook::FromPod => pods[pod],
                Hook::Bridge => bridge,
                Hook::ToPod => pods[(pod + 1) % 3],
            };
            let token = [0, TOKEN_FORWARD, TOKEN_FORWARD, TOKEN_DONE][random.below(4) as usize];
            let token = if matches!(hook, Hook::FromPod) { 0 } else { token };
            let came_from = match hook {
                Hook::ToPod => [0, bridge, pods[pod], 999][random.below(4) as usize],
                _ => interface,
            };
            let here = Here { hook, interface, came_from, token, generation };
            let mut work = Work::NONE;
            parse(&made.frame.as_slice(), false, &mut work.frame);
            work.here = here;
            work.config = Config {
                mode: Mode::Deny as u32,
                flags: if isolated { config_flag::ISOLATED } else { 0 },
                allow: 0,
            };
            decide(&model, &mut work);
            let expected = work.outcome.reason;
            let got = run(&mut ebpf, &here, &made.frame);
            assert_eq!(
                got,
                if expected.denies() { SHOT } else { NEXT },
                "set {set}, packet {packet}: {expected:?} of {here:?}: {:02x?} {:?}",
                made.frame,
                work.frame
            );
            denied += u64::from(expected.denies());
            // And beside the policies' own evaluator, which knows nothing of frames.
            if let Some((from, to, protocol, port)) = made.plain
                && matches!((hook, token), (Hook::Bridge, TOKEN_FORWARD))
                && compiled.endpoints.contains_key(&from)
            {
                plain += 1;
                let allowed = compiled.decide(Side::Egress, &from, &to, protocol, port).allows()
                    && compiled.decide(Side::Ingress, &to, &from, protocol, port).allows();
                assert_eq!(
                    got == NEXT,
                    allowed,
                    "set {set}: {from:?} {to:?} {protocol} {port}: {expected:?}"
                );
            }
        }
    }
    assert!(denied > packets / 10 && denied < packets * 9 / 10, "{denied} of {packets}");
    assert!(plain > packets / 30, "{plain} of {packets}");
}

fn run(ebpf: &mut Ebpf, here: &Here, frame: &[u8]) -> u32 {
    // struct __sk_buff: priority, ingress_ifindex and ifindex are what may be given of it.
    let mut context = [0; 44];
    context[32..36].copy_from_slice(&here.token.to_ne_bytes());
    context[36..40].copy_from_slice(&here.came_from.to_ne_bytes());
    context[40..44].copy_from_slice(&here.interface.to_ne_bytes());
    let name = match here.hook {
        Hook::FromPod => PROGRAM_FROM_POD,
        Hook::Bridge => PROGRAM_BRIDGE,
        Hook::ToPod => PROGRAM_TO_POD,
    };
    let mut after = vec![0; frame.len()];
    let run = classifier(ebpf, name)
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        })
        .expect("the kernel runs it");
    assert!(after == frame, "the frame is changed");
    run.return_value
}

/// `FEDISNIFF_DENY_REPEAT=1000000` measures.
#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn a_packet_of_a_known_flow_is_decided_in_little_time() {
    let mut node = Node::with_bridge("repeat");
    for (pod, number) in [("p0", 10), ("p1", 20), ("p2", 30)] {
        node.pod(pod, number);
    }
    let bpffs = Bpffs::mount();
    let enforcer = start(&node, options(&bpffs));
    let repeat = setting("FEDISNIFF_DENY_REPEAT", 10_000) as u32;
    let mut compiled = policies(&mut Random(1));
    compiled.ports = vec![vec![PortRule { protocol: 6, first: 1, last: 100, rule: RuleId(0) }]; 6];
    let everywhere = vec![(Prefix { address: [0; 16], length: 0 }, PortsId(0))];
    compiled.sets.iter_mut().for_each(|set| set.nets.clone_from(&everywhere));
    for pod in &mut compiled.pods {
        (pod.egress, pod.ingress) = (Some(SetId(0)), Some(SetId(1)));
    }
    for held in compiled.endpoints.values_mut() {
        (held.egress, held.ingress) = (Some(SetId(0)), Some(SetId(1)));
    }
    let generation = enforcer.update(Arc::new(compiled)).expect("there is room").generation;
    knows(&enforcer, 3);
    let standing = enforcer.standing();
    let index = |name: &str| standing.interfaces.iter().find(|i| i.name == name).expect("guarded").index;
    let (first, second, bridge) = (index("vethp0"), index("vethp1"), index("cni0"));
    node.inside("node", move || {
        let mut ebpf = load(&bpffs);
        let veths: BpfHashMap<MapData, u32, [u8; VETH]> = pinned(&bpffs, MAP_VETHS);
        let mac = Veth::from_octets(veths.get(&first, 0).expect("a veth")).mac;
        let packet = ipv4([10, 42, 0, 10], [10, 42, 0, 20], 6, 0, &tcp(4000, 80, 0x10, &[0; 100]));
        let frame = ethernet([2, 0, 0, 0, 0, 9], mac, 0x0800, &packet);
        for (hook, interface, came_from, token) in [
            (Hook::FromPod, first, first, 0),
            (Hook::Bridge, bridge, bridge, TOKEN_FORWARD),
            (Hook::ToPod, second, first, TOKEN_FORWARD),
        ] {
            let here = Here { hook, interface, came_from, token, generation };
            assert_eq!(run(&mut ebpf, &here, &frame), NEXT);
            let mut context = [0; 44];
            context[32..36].copy_from_slice(&token.to_ne_bytes());
            context[36..40].copy_from_slice(&came_from.to_ne_bytes());
            context[40..44].copy_from_slice(&interface.to_ne_bytes());
            let name = match hook {
                Hook::FromPod => PROGRAM_FROM_POD,
                Hook::Bridge => PROGRAM_BRIDGE,
                Hook::ToPod => PROGRAM_TO_POD,
            };
            let mut times: Vec<_> = (0..99)
                .map(|_| {
                    let options = TestRunOptions {
                        data_in: Some(&frame),
                        ctx_in: Some(&context),
                        repeat,
                        ..TestRunOptions::default()
                    };
                    classifier(&mut ebpf, name).test_run(options).expect("it runs").duration
                })
                .collect();
            times.sort();
            println!("{name}: {:?} a packet in the middle, {:?} to {:?}", times[49], times[0], times[98]);
        }
    })
    .join()
    .expect("measured");
}
