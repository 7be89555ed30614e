//! The programs on frames that are made up, by `BPF_PROG_TEST_RUN` and on a veth: what they select, that what they copy
//! is the frame to the last octet, that each is counted once, and that whatever comes, the next program runs.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use aya::maps::{Array, HashMap, LpmTrie, MapData, PerCpuHashMap, RingBuf, lpm_trie::Key};
use aya::programs::tc::{TcAttachOptions, TcAttachType};
use aya::programs::{LinkOrder, SchedClassifier};
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use sniffer_ebpf::select::{PORT_WORDS, PortPolicy, SELECTION_WORDS, Selection, flag, set_port};
use sniffer_ebpf::{
    CAPTURED_MAX, COUNTERS, Counters, Header, Hook, MAP_ADDRESSES, MAP_COUNTERS, MAP_IGNORED, MAP_LOCAL,
    MAP_PORTS, MAP_RECORDS, MAP_SELECT, PROGRAM_EGRESS, PROGRAM_INGRESS, TIERS, TUPLE_LENGTH, Tuple,
    counter_key, decode::decode,
};
use tests::federation::Random;

use crate::kernel::node::Node;
use crate::kernel::raw::Raw;

static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../sniffer-ebpf/object/fedisniff.o"));

/// `TC_ACT_UNSPEC`, which is -1: the next program runs.
const NEXT: u32 = u32::MAX;
/// A test run of less than an IPv6 header is refused.
const SHORTEST_RUN: usize = 14 + 40;
/// What `BPF_PROG_TEST_RUN` gives as the packet's interface: `lo`, which is always the first.
const LOOPBACK: u32 = 1;

/// The programs, loaded for one test.
pub(super) struct Programs {
    ebpf: Ebpf,
    records: RingBuf<MapData>,
    counters: PerCpuHashMap<MapData, u64, [u64; COUNTERS]>,
}

/// Everything but what a test says otherwise.
pub(super) const ALL: Selection = Selection {
    flags: flag::TCP | flag::DNS,
    other_ports: PortPolicy::Everything as u32,
    snap_length: u32::MAX,
    wake_octets: 1 << 20,
};

impl Programs {
    pub(super) fn load(selection: Selection, ports: &[(u16, PortPolicy)]) -> Self {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(MAP_RECORDS, 4 << 20)
            .load(OBJECT)
            .expect("the kernel takes the programs");
        for name in [PROGRAM_INGRESS, PROGRAM_EGRESS] {
            classifier(&mut ebpf, name).load().expect("the verifier takes the program");
        }
        let mut words = vec![0; PORT_WORDS as usize];
        ports.iter().for_each(|(port, policy)| set_port(&mut words, *port, *policy));
        let mut map: Array<_, u64> =
            Array::try_from(ebpf.map_mut(MAP_PORTS).expect("a map")).expect("its kind");
        for (at, word) in (0..).zip(words).filter(|(_, word)| *word != 0) {
            map.set(at, word, 0).expect("a word");
        }
        let mut map: Array<_, [u32; SELECTION_WORDS]> =
            Array::try_from(ebpf.map_mut(MAP_SELECT).expect("a map")).expect("its kind");
        map.set(0, selection.to_words(), 0).expect("the selection");
        let records = RingBuf::try_from(ebpf.take_map(MAP_RECORDS).expect("a map")).expect("its kind");
        let counters =
            PerCpuHashMap::try_from(ebpf.take_map(MAP_COUNTERS).expect("a map")).expect("its kind");
        Self { ebpf, records, counters }
    }

    /// Names one address in the place of the last one.
    fn address(&mut self, address: Ipv6Addr, prefix: u32) {
        let map = self.ebpf.map_mut(MAP_ADDRESSES).expect("a map");
        let mut map: LpmTrie<_, [u8; 16], u32> = LpmTrie::try_from(map).expect("its kind");
        let before: Vec<_> = map.keys().map(|key| key.expect("a key")).collect();
        before.iter().for_each(|key| map.remove(key).expect("it is there"));
        map.insert(&Key::new(prefix, address.octets()), 1, 0).expect("an address");
    }

    fn local(&mut self, interface: u32) {
        let mut map: HashMap<_, u32, u32> =
            HashMap::try_from(self.ebpf.map_mut(MAP_LOCAL).expect("a map")).expect("its kind");
        map.insert(interface, 1, 0).expect("an interface");
    }

    fn ignore(&mut self, tuple: &Tuple) {
        let map = self.ebpf.map_mut(MAP_IGNORED).expect("a map");
        let mut map: HashMap<_, [u8; TUPLE_LENGTH], u32> = HashMap::try_from(map).expect("its kind");
        map.insert(tuple.to_octets(), 1, 0).expect("a connection");
    }

    /// Gives a frame to a program as if it had come in on another interface; true when it was copied. The frame is
    /// unchanged, the next program runs, and it was counted once: that is checked of every one.
    #[track_caller]
    fn takes_from(&mut self, hook: Hook, came_from: u32, frame: &[u8]) -> bool {
        // struct __sk_buff as far as `ingress_ifindex`; what the kernel does not let be given is 0.
        let mut context = [0; 44];
        context[36..40].copy_from_slice(&came_from.to_ne_bytes());
        let mut after = vec![0; frame.len()];
        let before = self.counted(LOOPBACK, hook);
        let name = if matches!(hook, Hook::Ingress) { PROGRAM_INGRESS } else { PROGRAM_EGRESS };
        let run = classifier(&mut self.ebpf, name)
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut after),
                ctx_in: Some(&context),
                ..TestRunOptions::default()
            })
            .expect("the kernel runs it");
        assert_eq!((run.return_value, run.data_size_out as usize), (NEXT, frame.len()));
        assert!(after == frame, "the frame is changed");
        let now = self.counted(LOOPBACK, hook);
        let copied = now.copied - before.copied;
        assert_eq!(
            (now.seen - before.seen, now.skipped - before.skipped + copied, now.lost),
            (1, 1, 0),
            "counted once"
        );
        let records = self.records();
        assert_eq!(records.len() as u64, copied, "a record for each that is copied");
        for (header, octets) in &records {
            let cut = &frame[..octets.len()];
            assert!(octets == cut, "the copy differs from the frame");
            assert_eq!(
                (header.wire_length as usize, header.interface, header.came_from, header.hook, header.offset),
                (frame.len(), LOOPBACK, came_from, hook as u8, 0)
            );
            assert_eq!(now.copied_octets - before.copied_octets, octets.len() as u64);
        }
        copied == 1
    }

    /// The same on ingress.
    #[track_caller]
    fn takes(&mut self, frame: &[u8]) -> bool {
        self.takes_from(Hook::Ingress, 0, frame)
    }

    /// What is in the ring buffer.
    fn records(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut records = Vec::new();
        while let Some(item) = self.records.next() {
            let record = decode(&item).expect("a record");
            records.push((record.header, record.packet.to_vec()));
        }
        records
    }

    pub(super) fn counted(&self, interface: u32, hook: Hook) -> Counters {
        let Ok(values) = self.counters.get(&counter_key(interface, hook), 0) else {
            return Counters::default();
        };
        values.iter().map(|words| Counters::from_words(*words)).fold(Counters::default(), Counters::plus)
    }

    /// Attaches both programs in this thread's namespace.
    pub(super) fn attach(&mut self, interface: &str, order: fn() -> LinkOrder) {
        for (name, hook) in [(PROGRAM_INGRESS, TcAttachType::Ingress), (PROGRAM_EGRESS, TcAttachType::Egress)]
        {
            classifier(&mut self.ebpf, name)
                .attach_with_options(interface, hook, TcAttachOptions::TcxOrder(order()))
                .expect("attached");
        }
    }
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    ebpf.program_mut(name).expect("a program").try_into().expect("its kind")
}

const A: [u8; 4] = [10, 42, 0, 10];
const B: [u8; 4] = [10, 42, 0, 20];
const A6: [u8; 16] = [0xfd, 0, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10];
const B6: [u8; 16] = [0xfd, 0, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20];
const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// An Ethernet header with tags in front of the type.
fn ethernet(tags: &[u16], kind: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend_from_slice(&tag.to_be_bytes());
        frame.extend_from_slice(&7_u16.to_be_bytes());
    }
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(rest);
    frame
}

/// `fragment` is the field of flags and offset; options come in units of 4.
fn ipv4(protocol: u8, fragment: u16, options: &[u8], rest: &[u8]) -> Vec<u8> {
    let length = (20 + options.len() + rest.len()) as u16;
    let mut packet = vec![0x45 + (options.len() / 4) as u8, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[64, protocol, 0, 0]);
    packet.extend_from_slice(&A);
    packet.extend_from_slice(&B);
    packet.extend_from_slice(options);
    packet.extend_from_slice(rest);
    packet
}

/// `extensions` are headers with their number, each whole but for its first octet, which names the next.
fn ipv6(extensions: &[(u8, &[u8])], protocol: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (at, (_, octets)) in extensions.iter().enumerate() {
        body.push(extensions.get(at + 1).map_or(protocol, |(number, _)| *number));
        body.extend_from_slice(octets);
    }
    body.extend_from_slice(rest);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(body.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[extensions.first().map_or(protocol, |(number, _)| *number), 64]);
    packet.extend_from_slice(&A6);
    packet.extend_from_slice(&B6);
    packet.extend_from_slice(&body);
    packet
}

fn tcp(ports: (u16, u16), sequence: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend_from_slice(&ports.0.to_be_bytes());
    segment.extend_from_slice(&ports.1.to_be_bytes());
    segment.extend_from_slice(&sequence.to_be_bytes());
    segment.extend_from_slice(&[0, 0, 0, 0, ((20 + options.len()) << 2) as u8, flags, 1, 0, 0, 0, 0, 0]);
    segment.extend_from_slice(options);
    segment.extend_from_slice(payload);
    segment
}

fn udp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend_from_slice(&ports.0.to_be_bytes());
    datagram.extend_from_slice(&ports.1.to_be_bytes());
    datagram.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    datagram
}

/// A segment of a plain connection over IPv4.
fn plain(ports: (u16, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x0800, &ipv4(TCP, 0, &[], &tcp(ports, 9, flags, &[], payload)))
}

/// A frame of just this length.
pub(super) fn of_length(length: usize) -> Vec<u8> {
    let mut random = Random(length as u64);
    let payload: Vec<u8> = (54..length).map(|_| random.next() as u8).collect();
    // Beyond what IPv4 can say the length is wrong, as in a super-packet of BIG TCP.
    plain((40_000, 80), ACK, &payload)
}

/// Frames of every form, and whether they are taken when everything is.
fn forms() -> Vec<(&'static str, Vec<u8>, bool)> {
    let segment = tcp((40_000, 80), 9, ACK, &[1; 12], b"GET / HTTP/1.1\r\n");
    let four = ipv4(TCP, 0x4000, &[], &segment);
    let hop: &[u8] = &[0, 0, 0, 0, 0, 0, 0];
    let long: &[u8] = &[&[1][..], &[0; 14]].concat();
    let six = |extensions: &[(u8, &[u8])]| ethernet(&[], 0x86dd, &ipv6(extensions, TCP, &segment));
    let is_first: &[u8] = &[0, 0, 1, 0, 0, 0, 7];
    let is_later: &[u8] = &[0, 1, 0xa8, 0, 0, 0, 7];
    vec![
        ("TCP over IPv4", ethernet(&[], 0x0800, &four), true),
        ("with a VLAN tag", ethernet(&[0x8100], 0x0800, &four), true),
        ("with two tags", ethernet(&[0x88a8, 0x8100], 0x0800, &four), true),
        ("with three tags", ethernet(&[0x88a8, 0x8100, 0x8100], 0x0800, &four), false),
        ("with IPv4 options", ethernet(&[], 0x0800, &ipv4(TCP, 0, &[1; 40], &segment)), true),
        ("a first fragment", ethernet(&[], 0x0800, &ipv4(TCP, 0x2000, &[], &segment)), true),
        ("a later fragment", ethernet(&[], 0x0800, &ipv4(TCP, 0x2003, &[], &segment)), true),
        ("the last fragment of UDP", ethernet(&[], 0x0800, &ipv4(UDP, 0x00b9, &[], b"rest")), true),
        ("a fragment of ICMP", ethernet(&[], 0x0800, &ipv4(1, 0x2003, &[], b"rest")), false),
        ("TCP over IPv6", six(&[]), true),
        ("IPv6 behind a VLAN tag", ethernet(&[0x8100], 0x86dd, &ipv6(&[], TCP, &segment)), true),
        ("hop-by-hop", six(&[(0, hop)]), true),
        ("hop-by-hop, routing, destination", six(&[(0, hop), (43, long), (60, hop)]), true),
        ("authentication", six(&[(51, &[&[4][..], &[0; 22]].concat())]), true),
        ("a first fragment of IPv6", six(&[(44, is_first)]), true),
        ("a later fragment of IPv6", six(&[(0, hop), (44, is_later)]), true),
        ("six extensions", six(&[(0, hop), (60, hop), (60, hop), (60, hop), (60, hop), (60, hop)]), true),
        ("seven", six(&[(0, hop), (60, hop), (60, hop), (60, hop), (60, hop), (60, hop), (60, hop)]), false),
        ("no next header", ethernet(&[], 0x86dd, &ipv6(&[(0, hop)], 59, &[])), false),
        ("a question to a DNS", ethernet(&[], 0x0800, &ipv4(UDP, 0, &[], &udp((40_000, 53), b"?"))), true),
        ("its answer", ethernet(&[], 0x0800, &ipv4(UDP, 0, &[], &udp((53, 40_000), b"!"))), true),
        ("DNS over IPv6", ethernet(&[], 0x86dd, &ipv6(&[], UDP, &udp((40_000, 53), b"?"))), true),
        ("other UDP", ethernet(&[], 0x0800, &ipv4(UDP, 0, &[], &udp((40_000, 443), b"quic"))), false),
        ("ICMP", ethernet(&[], 0x0800, &ipv4(1, 0, &[], &[8, 0, 0, 0])), false),
        ("ARP", ethernet(&[], 0x0806, &[0; 28]), false),
        ("IPv4 that says it is 6", ethernet(&[], 0x0800, &[&[0x65][..], &four[1..]].concat()), false),
        (
            "an IPv4 header that is too short",
            ethernet(&[], 0x0800, &[&[0x44][..], &four[1..]].concat()),
            false,
        ),
    ]
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn what_is_selected_is_copied_octet_for_octet_and_the_rest_is_counted() {
    let mut programs = Programs::load(ALL, &[]);
    for (what, frame, taken) in forms() {
        assert_eq!(programs.takes(&frame), taken, "{what}");
        assert_eq!(programs.takes_from(Hook::Egress, 0, &frame), taken, "{what}, to the pod");
    }
    let mut nothing = Programs::load(Selection { flags: 0, ..ALL }, &[]);
    let mut tcp_alone = Programs::load(Selection { flags: flag::TCP, ..ALL }, &[]);
    let dns = ethernet(&[], 0x0800, &ipv4(UDP, 0, &[], &udp((40_000, 53), b"?")));
    assert!(!nothing.takes(&of_length(80)) && !nothing.takes(&dns));
    assert!(tcp_alone.takes(&of_length(80)) && !tcp_alone.takes(&dns));
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn frames_that_are_cut_or_damaged_anywhere_harm_nothing() {
    let mut programs = Programs::load(ALL, &[(80, PortPolicy::ClientHello)]);
    let mut random = Random(20);
    for (_, frame, _) in forms() {
        for length in SHORTEST_RUN..frame.len() {
            programs.takes(&frame[..length]);
        }
        for _ in 0..100 {
            let mut damaged = frame.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(damaged.len() as u64) as usize;
                damaged[at] = random.next() as u8;
            }
            damaged.truncate(SHORTEST_RUN.max(random.below(damaged.len() as u64 * 2) as usize));
            if damaged.len() >= SHORTEST_RUN {
                programs.takes(&damaged);
            }
        }
    }
    // Cut within the TCP header there are no flags to judge by.
    assert!(!programs.takes(&ethernet(&[0x8100; 2], 0x0800, &plain((40_000, 81), ACK, &[])[14..47])));
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn frames_of_every_length_from_nothing_are_counted_once_on_a_veth() {
    let mut node = Node::new("cut");
    node.run("node", "sh", &["-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"]);
    node.loose_pod("a", 10);
    node.run("a", "sh", &["-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"]);
    let (mut programs, index) = on_vetha(&node);
    // A tag would be taken off before the program runs.
    let frames = forms().into_iter().map(|(_, frame, _)| frame).filter(|f| ![0x81, 0x88].contains(&f[12]));
    // The least that a packet socket sends is an Ethernet header.
    let cut = |frame: Vec<u8>| (14..=frame.len()).map(move |length| frame[..length].to_vec());
    let frames: Vec<Vec<u8>> = frames.flat_map(cut).collect();
    let sent = frames.clone();
    node.inside("a", move || {
        let raw = Raw::open("eth0");
        sent.iter().for_each(|frame| raw.send(frame));
    })
    .join()
    .expect("sent");
    let counted = programs.counted(index, Hook::Ingress);
    assert_eq!((counted.seen, counted.lost), (frames.len() as u64, 0));
    assert_eq!(counted.skipped + counted.copied, counted.seen);
    let records = programs.records();
    assert_eq!(records.len() as u64, counted.copied);
    let mut left = frames.iter();
    for (_, octets) in records {
        assert!(left.any(|frame| *frame == octets), "in order, and as it was sent: {octets:?}");
    }
}

/// The programs on the veth of the node's pod `a`, and its index.
fn on_vetha(node: &Node) -> (Programs, u32) {
    let attached = || {
        let mut programs = Programs::load(ALL, &[]);
        programs.attach("vetha", LinkOrder::default);
        (programs, nix::net::if_::if_nametoindex("vetha").expect("an interface"))
    };
    node.inside("node", attached).join().expect("attached")
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn lengths_around_every_edge_of_the_records_are_copied_whole() {
    // A packet that is made of pages as well, which a test run makes only small ones of.
    let mut node = Node::new("len");
    node.loose_pod("a", 10);
    node.ip("node", "link set vetha mtu 65535");
    node.ip("a", "link set eth0 mtu 65535");
    let lengths: Vec<usize> = TIERS
        .iter()
        .flat_map(|tier| [*tier as usize - 1, *tier as usize, *tier as usize + 1])
        .chain([54, 60, 3_000, 65_226, 65_535, 65_536, 65_549])
        .filter(|length| *length <= 65_549)
        .collect();
    let sent = lengths.clone();
    let (mut programs, index) = on_vetha(&node);
    node.inside("a", move || {
        let raw = Raw::open("eth0");
        sent.into_iter().for_each(|length| raw.send(&of_length(length)));
    })
    .join()
    .expect("sent");
    // What the pod's own kernel says meanwhile is no TCP.
    let records = programs.records();
    let got: Vec<usize> = records.iter().map(|(_, octets)| octets.len()).collect();
    assert_eq!(got, lengths);
    let mut last = BTreeMap::new();
    for (header, octets) in &records {
        assert!(*octets == of_length(octets.len()), "{} octets differ", octets.len());
        assert_eq!((header.wire_length as usize, header.interface), (octets.len(), index));
        let before = last.insert(header.cpu, header.sequence).unwrap_or(0);
        assert_eq!(header.sequence, before + 1, "each CPU counts from 1");
    }
    let counted = programs.counted(index, Hook::Ingress);
    assert_eq!(counted.copied_octets, lengths.iter().sum::<usize>() as u64);
    assert_eq!((counted.copied as usize, counted.lost, counted.cut), (lengths.len(), 0, 0));
    assert!(lengths.iter().all(|length| *length < CAPTURED_MAX as usize));
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn no_more_than_the_snap_length_is_copied() {
    let mut programs = Programs::load(Selection { snap_length: 100, ..ALL }, &[]);
    for (length, copied) in [(99, 99), (100, 100), (101, 100), (3_000, 100)] {
        let before = programs.counted(LOOPBACK, Hook::Ingress).copied_octets;
        assert!(programs.takes(&of_length(length)));
        assert_eq!(programs.counted(LOOPBACK, Hook::Ingress).copied_octets - before, copied);
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn ports_decide_and_of_tls_the_client_hello_alone_is_copied() {
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    let server_hello = [22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3];
    let data = [23, 3, 3, 0, 20, 1, 1, 1, 1, 1, 1];
    let policies =
        [(443, PortPolicy::ClientHello), (9_000, PortPolicy::Everything), (22, PortPolicy::Nothing)];
    let mut programs = Programs::load(ALL, &policies);
    for (ports, flags, payload, taken) in [
        ((40_000, 443), ACK, &hello[..], true),
        ((40_000, 443), ACK, &hello[..6], true),
        ((40_000, 443), ACK, &hello[..5], false),
        ((443, 40_000), ACK, &server_hello, false),
        ((40_000, 443), ACK, &data, false),
        ((40_000, 443), SYN, &[], false),
        ((40_000, 22), ACK, b"SSH-2.0-", false),
        ((22, 40_000), ACK, b"SSH-2.0-", false),
        ((40_000, 80), SYN, &[], true),
        // What is wanted is wanted, whatever the other end's port happens to be.
        ((443, 9_000), ACK, b"GET /", true),
        ((9_000, 22), ACK, b"GET /", true),
    ] {
        assert_eq!(programs.takes(&plain(ports, flags, payload)), taken, "{ports:?} {flags} {payload:?}");
    }
    // Behind TCP options as well.
    let behind = tcp((40_000, 443), 9, ACK, &[1; 40], &hello);
    assert!(programs.takes(&ethernet(&[], 0x86dd, &ipv6(&[], TCP, &behind))));
    let mut one_port = Programs::load(
        Selection { other_ports: PortPolicy::Nothing as u32, ..ALL },
        &[(8_080, PortPolicy::Everything)],
    );
    assert!(one_port.takes(&plain((8_080, 40_000), ACK, b"HTTP/1.1")));
    assert!(!one_port.takes(&plain((40_000, 80), ACK, b"GET /")));
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn where_addresses_are_named_only_theirs_are_copied() {
    let four = of_length(80);
    let six = ethernet(&[], 0x86dd, &ipv6(&[], TCP, &tcp((40_000, 80), 9, ACK, &[], b"GET /")));
    let mapped = |a: [u8; 4]| std::net::Ipv4Addr::from(a).to_ipv6_mapped();
    let mut programs = Programs::load(Selection { flags: ALL.flags | flag::ADDRESSES, ..ALL }, &[]);
    for (address, prefix, takes_four, takes_six) in [
        (mapped(A), 128, true, false),
        (mapped(B), 128, true, false),
        (mapped([10, 42, 0, 0]), 96 + 16, true, false),
        (mapped([10, 42, 0, 11]), 128, false, false),
        (Ipv6Addr::from(B6), 128, false, true),
        (Ipv6Addr::from(A6), 64, false, true),
        (Ipv6Addr::UNSPECIFIED, 0, true, true),
    ] {
        programs.address(address, prefix);
        assert_eq!(
            (programs.takes(&four), programs.takes(&six)),
            (takes_four, takes_six),
            "{address}/{prefix}"
        );
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn a_connection_that_is_not_http_is_passed_over_until_its_ports_are_used_anew() {
    let mut programs = Programs::load(Selection { flags: ALL.flags | flag::IGNORED, ..ALL }, &[]);
    let mapped = |a: [u8; 4]| std::net::Ipv4Addr::from(a).to_ipv6_mapped().octets();
    let tuple = Tuple {
        source: mapped(A),
        destination: mapped(B),
        source_port: 40_000_u16.to_be_bytes(),
        destination_port: 5_432_u16.to_be_bytes(),
    };
    let data = plain((40_000, 5_432), ACK, b"select");
    assert!(programs.takes(&data));
    programs.ignore(&tuple);
    assert!(!programs.takes(&data));
    assert!(programs.takes(&plain((40_001, 5_432), ACK, b"GET /")));
    assert!(programs.takes(&plain((40_000, 5_432), SYN, &[])));
    assert!(programs.takes(&data));
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn of_two_sights_one_is_taken_and_with_translated_ends_the_servers() {
    const BRIDGE: u32 = 77;
    const UPLINK: u32 = 5;
    let mut programs = Programs::load(ALL, &[]);
    programs.local(BRIDGE);
    let segment = |ports, sequence, flags, service: bool| {
        let mut frame =
            ethernet(&[], 0x0800, &ipv4(TCP, 0, &[], &tcp(ports, sequence, flags, &[], b"GET /")));
        // A Service's address instead of the server's.
        if service {
            frame[30..34].copy_from_slice(&[10, 43, 0, 80]);
        }
        frame
    };
    let dns = ethernet(&[], 0x0800, &ipv4(UDP, 0, &[], &udp((40_000, 53), b"?")));
    for frame in [segment((40_000, 80), 9, ACK, false), dns] {
        assert!(programs.takes(&frame));
        assert!(!programs.takes_from(Hook::Egress, BRIDGE, &frame), "seen when it came in");
        assert!(programs.takes_from(Hook::Egress, UPLINK, &frame), "it came from outside");
        assert!(programs.takes_from(Hook::Egress, 0, &frame), "the node itself sent it");
    }
    // Through a Service: told apart by the SYN, and from there on taken where the real server is.
    assert!(programs.takes(&segment((40_001, 80), 1_000, SYN, true)), "nothing is known yet");
    assert!(programs.takes_from(Hook::Egress, BRIDGE, &segment((40_001, 8_080), 1_000, SYN, false)));
    assert!(!programs.takes(&segment((40_001, 80), 1_001, ACK, true)));
    assert!(programs.takes_from(Hook::Egress, BRIDGE, &segment((40_001, 8_080), 1_001, ACK, false)));
    // The same client's port again, now without translation.
    assert!(programs.takes(&segment((40_001, 8_080), 5_000, SYN, false)));
    assert!(!programs.takes_from(Hook::Egress, BRIDGE, &segment((40_001, 8_080), 5_000, SYN, false)));
    assert!(programs.takes(&segment((40_001, 8_080), 5_001, ACK, false)));
    assert!(!programs.takes_from(Hook::Egress, BRIDGE, &segment((40_001, 8_080), 5_001, ACK, false)));
}
