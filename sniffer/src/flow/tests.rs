//! The stage at its edge: frames in, events out. Frames are made with etherparse's builder, which shares no code with
//! the decoder here.
#![allow(clippy::arithmetic_side_effects)]

use etherparse::{
    IpFragOffset, IpNumber, Ipv6Extensions, Ipv6FragmentHeader, Ipv6RawExtHeader, PacketBuilder, TcpHeader, VlanId,
};
use proptest::prelude::*;

use super::*;
use crate::frame::LinkType;

const CLIENT: [u8; 4] = [10, 42, 0, 10];
const SERVER: [u8; 4] = [10, 42, 0, 21];
const PORTS: (u16, u16) = (41_000, 8_080);
const SECOND: u64 = 1_000_000_000;

fn v6(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    (address[0], address[15]) = (0xfd, last);
    address
}

/// What goes into a segment.
#[derive(Clone, Copy, Default)]
struct Say<'a> {
    back: bool,
    seq: u32,
    ack: Option<u32>,
    bits: &'a str,
    payload: &'a [u8],
}

fn tcp_bytes(say: Say<'_>) -> Vec<u8> {
    let (from, to) = if say.back { (PORTS.1, PORTS.0) } else { PORTS };
    let mut header = TcpHeader::new(from, to, say.seq, 1000);
    header.acknowledgment_number = say.ack.unwrap_or(0);
    header.ack = say.ack.is_some();
    (header.syn, header.fin, header.rst) =
        (say.bits.contains('S'), say.bits.contains('F'), say.bits.contains('R'));
    let mut bytes = Vec::new();
    header.write(&mut bytes).unwrap();
    bytes.extend_from_slice(say.payload);
    bytes
}

fn ipv4_bytes(say: Say<'_>) -> Vec<u8> {
    let (from, to) = if say.back { (SERVER, CLIENT) } else { (CLIENT, SERVER) };
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from, to, 64).write(&mut bytes, IpNumber::TCP, &tcp_bytes(say)).unwrap();
    bytes
}

fn ipv6_bytes(say: Say<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv6(v6(1), v6(2), 64).write(&mut bytes, IpNumber::TCP, &tcp_bytes(say)).unwrap();
    bytes
}

fn ethernet(ethertypes: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    for (place, ethertype) in ethertypes.iter().enumerate() {
        if place > 0 {
            bytes.extend_from_slice(&[0, 5]);
        }
        bytes.extend_from_slice(&ethertype.to_be_bytes());
    }
    bytes.extend_from_slice(packet);
    bytes
}

fn frame(link: LinkType, bytes: &[u8]) -> Frame<'_> {
    Frame {
        time: Timestamp(SECOND),
        interface: Interface::Declared(3),
        hook: None,
        link,
        bytes,
        wire_length: bytes.len() as u32,
    }
}

/// A tracker, and all that it said.
#[derive(Default)]
struct Bench {
    stage: Tracker,
    now: u64,
}

impl Bench {
    fn new(config: Config) -> Self {
        Self { stage: Tracker::new(config), now: 0 }
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Vec<String> {
        let mut out = Vec::new();
        self.stage.push(frame, &mut out);
        out.iter().map(short).collect()
    }

    fn say(&mut self, say: Say<'_>) -> Vec<String> {
        let bytes = ipv4_bytes(say);
        self.frame(&Frame { time: Timestamp(SECOND + self.now), ..frame(LinkType::Raw, &bytes) })
    }

    fn wait(&mut self, nanos: u64) -> Vec<String> {
        self.now += nanos;
        let mut out = Vec::new();
        self.stage.expire(Timestamp(SECOND + self.now), &mut out);
        out.iter().map(short).collect()
    }
}

fn short(event: &Event<'_>) -> String {
    match event {
        Event::Opened(opened) => {
            format!("open {} {:?} client :{}", opened.flow.0, opened.handshake, opened.ends.client.port())
        }
        Event::Segment(s) => {
            let way = if s.direction == Direction::ToServer { '>' } else { '<' };
            let place = |offset: u64| match offset.checked_sub(MID_STREAM_BASE - 5000) {
                Some(_) => format!("m{}", offset as i64 - MID_STREAM_BASE as i64),
                None => offset.to_string(),
            };
            let ack = s.ack.map(|ack| format!(" ack {}", place(ack))).unwrap_or_default();
            let missing = if s.missing > 0 { format!(" -{}", s.missing) } else { String::new() };
            let bits = format!(
                "{}{}{}",
                if s.flags.syn { " syn" } else { "" },
                if s.flags.fin { " fin" } else { "" },
                if s.flags.rst { " rst" } else { "" }
            );
            format!("{}{way}{} {}{missing}{ack}{bits}", s.flow.0, place(s.offset), String::from_utf8_lossy(&s.payload))
        }
        Event::Closed { flow, reason, .. } => format!("close {} {reason:?}", flow.0),
    }
}

const GET: Say<'_> = Say { back: false, seq: 100, ack: Some(900), bits: "", payload: b"GET / HTTP/1.1" };
const OPEN_GET: [&str; 2] = ["open 1 MidStream client :41000", "1>m0 GET / HTTP/1.1 ack m0"];

#[test]
fn every_link_type_leads_to_the_segment() {
    let ip = ipv4_bytes(GET);
    let ip6 = ipv6_bytes(GET);
    let with = |head: &[u8], ip: &[u8]| [head, ip].concat();
    let sll = |protocol: u16| {
        let mut head = vec![0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0];
        head.extend_from_slice(&protocol.to_be_bytes());
        head
    };
    let sll2 = |protocol: u16| {
        let mut head = protocol.to_be_bytes().to_vec();
        head.extend_from_slice(&[0, 0, 0, 0, 0, 42, 0, 1, 4, 6, 1, 2, 3, 4, 5, 6, 0, 0]);
        head
    };
    let nflog = |ip: &[u8], order: fn(u16) -> [u8; 2]| {
        let mut bytes = vec![2, 0, 0, 30];
        // A prefix of 5 bytes with its padding, then the payload.
        bytes.extend_from_slice(&[order(9), order(10)].concat());
        bytes.extend_from_slice(b"drop\0\0\0\0");
        bytes.extend_from_slice(&[order(ip.len() as u16 + 4), order(9)].concat());
        bytes.extend_from_slice(ip);
        bytes
    };
    for (name, link, bytes) in [
        ("ethernet", LinkType::Ethernet, ethernet(&[0x0800], &ip)),
        ("ethernet v6", LinkType::Ethernet, ethernet(&[0x86dd], &ip6)),
        ("vlan", LinkType::Ethernet, ethernet(&[0x8100, 0x0800], &ip)),
        ("qinq", LinkType::Ethernet, ethernet(&[0x88a8, 0x8100, 0x86dd], &ip6)),
        ("old qinq", LinkType::Ethernet, ethernet(&[0x9100, 0x8100, 0x0800], &ip)),
        ("three tags", LinkType::Ethernet, ethernet(&[0x8100, 0x8100, 0x8100, 0x0800], &ip)),
        ("null, little", LinkType::Null, with(&[2, 0, 0, 0], &ip)),
        ("null, big", LinkType::Null, with(&[0, 0, 0, 2], &ip)),
        ("null v6 of macOS", LinkType::Null, with(&[30, 0, 0, 0], &ip6)),
        ("null v6 of FreeBSD", LinkType::Null, with(&[0, 0, 0, 28], &ip6)),
        ("loop", LinkType::Loop, with(&[0, 0, 0, 2], &ip)),
        ("loop v6", LinkType::Loop, with(&[0, 0, 0, 24], &ip6)),
        ("sll", LinkType::LinuxSll, with(&sll(0x0800), &ip)),
        ("sll v6", LinkType::LinuxSll, with(&sll(0x86dd), &ip6)),
        ("sll2", LinkType::LinuxSll2, with(&sll2(0x0800), &ip)),
        ("sll2 with vlan", LinkType::LinuxSll2, with(&sll2(0x8100), &with(&[0, 5, 8, 0], &ip))),
        ("raw", LinkType::Raw, ip.clone()),
        ("raw v6", LinkType::Raw, ip6.clone()),
        ("ipv4", LinkType::Ipv4, ip.clone()),
        ("ipv6", LinkType::Ipv6, ip6.clone()),
        ("nflog, little", LinkType::Nflog, nflog(&ip, u16::to_le_bytes)),
        ("nflog, big", LinkType::Nflog, nflog(&ip6, u16::to_be_bytes)),
    ] {
        assert_eq!(Bench::default().frame(&frame(link, &bytes)), OPEN_GET, "{name}");
    }
}

#[test]
fn etherparse_builds_what_is_read() {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .double_vlan(VlanId::try_new(7).unwrap(), VlanId::try_new(8).unwrap())
        .ipv6(v6(1), v6(2), 64)
        .tcp(PORTS.0, PORTS.1, 100, 1000)
        .ack(900)
        .options_raw(&[1, 1, 1, 0])
        .unwrap()
        .write(&mut bytes, b"GET / HTTP/1.1")
        .unwrap();
    assert_eq!(Bench::default().frame(&frame(LinkType::Ethernet, &bytes)), OPEN_GET);
}

#[test]
fn the_cooked_header_names_the_interface() {
    let mut bytes = vec![8, 0, 0, 0, 0, 0, 0, 42, 0, 1, 4, 6, 1, 2, 3, 4, 5, 6, 0, 0];
    bytes.extend_from_slice(&ipv4_bytes(GET));
    let mut out = Vec::new();
    Tracker::default().push(&frame(LinkType::LinuxSll2, &bytes), &mut out);
    let Some(Event::Segment(segment)) = out.get(1) else { panic!("{out:?}") };
    assert_eq!(segment.interface, Interface::Index(42));
}

#[test]
fn lengths_come_from_the_ip_header_except_where_it_has_none() {
    let ip = ipv4_bytes(GET);
    let padded = [&ip[..], &[0; 9]].concat();
    assert_eq!(Bench::default().frame(&frame(LinkType::Raw, &padded)), OPEN_GET, "padding is no payload");

    let big = [b"GET / ".as_slice(), &vec![b'x'; 100_000]].concat();
    let says = |bytes: &[u8], wire: usize| {
        let mut out = Vec::new();
        Tracker::default().push(&Frame { wire_length: wire as u32, ..frame(LinkType::Raw, bytes) }, &mut out);
        match out.pop() {
            Some(Event::Segment(segment)) => (segment.payload.len(), segment.missing as usize),
            other => panic!("{other:?}"),
        }
    };
    let mut v4 = ipv4_bytes(Say { payload: b"", ..GET });
    v4[2..4].fill(0);
    v4.extend_from_slice(&big);
    assert_eq!(says(&v4, v4.len()), (big.len(), 0), "BIG TCP over IPv4 has total length 0");
    let mut v6 = ipv6_bytes(Say { payload: b"", ..GET });
    v6[4..6].fill(0);
    v6.extend_from_slice(&big);
    assert_eq!(says(&v6, v6.len()), (big.len(), 0), "BIG TCP over IPv6 has payload length 0");
    let mut jumbo = ipv6_bytes(Say { payload: b"", ..GET });
    jumbo[4..7].fill(0);
    let length = (8 + 20 + big.len()) as u32;
    let option = [&[6, 0, 0xc2, 4], &length.to_be_bytes()[..]].concat();
    jumbo.splice(40..40, option);
    jumbo.extend_from_slice(&big);
    jumbo.extend_from_slice(&[0; 7]);
    assert_eq!(says(&jumbo, jumbo.len()), (big.len(), 0), "a jumbo option has the length");
    assert_eq!(says(&ip[..50], ip.len()), (10, 4), "the snap length cut the payload");
    assert_eq!(says(&ip[..40], ip.len()), (0, 14), "the snap length cut all payload");
}

#[test]
fn extension_headers_are_passed() {
    let extension = Ipv6RawExtHeader::new_raw(IpNumber::TCP, &[0; 6]).unwrap();
    for extensions in [
        Ipv6Extensions { hop_by_hop_options: Some(extension.clone()), ..Ipv6Extensions::default() },
        Ipv6Extensions {
            hop_by_hop_options: Some(extension.clone()),
            destination_options: Some(extension),
            fragment: Some(Ipv6FragmentHeader::new(IpNumber::TCP, IpFragOffset::ZERO, false, 5)),
            ..Ipv6Extensions::default()
        },
    ] {
        let mut extensions = extensions;
        let next = extensions.set_next_headers(IpNumber::TCP);
        let mut bytes = Vec::new();
        extensions.write(&mut bytes, next).unwrap();
        let mut packet = ipv6_bytes(GET);
        packet[6] = next.0;
        let length = u16::from_be_bytes([packet[4], packet[5]]) + bytes.len() as u16;
        packet[4..6].copy_from_slice(&length.to_be_bytes());
        packet.splice(40..40, bytes);
        assert_eq!(Bench::default().frame(&frame(LinkType::Ipv6, &packet)), OPEN_GET);
    }
}

/// An IPv4 packet cut into fragments of `size` payload bytes.
fn fragments(id: u16, size: usize, segment: &[u8]) -> Vec<Vec<u8>> {
    let count = segment.len().div_ceil(size);
    let mut out = Vec::new();
    for (place, part) in segment.chunks(size).enumerate() {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4(CLIENT, SERVER, 64).write(&mut bytes, IpNumber::TCP, part).unwrap();
        bytes[4..6].copy_from_slice(&id.to_be_bytes());
        let more = if place + 1 < count { 0x2000 } else { 0 };
        let field = (place * size / 8) as u16 | more;
        bytes[6..8].copy_from_slice(&field.to_be_bytes());
        out.push(bytes);
    }
    out
}

#[test]
fn fragments_in_any_order_with_copies_make_the_segment_once() {
    let segment = tcp_bytes(GET);
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
        let parts = fragments(9, 8, &segment);
        assert_eq!(parts.len(), 5);
        let mut b = Bench::default();
        let mut said = Vec::new();
        for place in order {
            // Each is seen at two interfaces.
            said.extend(b.frame(&frame(LinkType::Raw, &parts[place])));
            said.extend(b.frame(&frame(LinkType::Raw, &parts[place])));
        }
        assert_eq!(said, OPEN_GET);
        b.wait(60 * SECOND);
        assert_eq!((b.stage.counters().fragments, b.stage.counters().fragments_lost), (10, 0));
    }
}

#[test]
fn the_first_of_overlapping_fragments_wins() {
    let segment = tcp_bytes(GET);
    let mut other = segment.clone();
    other[20..].fill(b'X');
    let mut b = Bench::default();
    let [small, large] = [fragments(9, 8, &segment), fragments(9, 24, &other)];
    for part in [&small[0], &small[2], &large[0]] {
        assert!(b.frame(&frame(LinkType::Raw, part)).is_empty());
    }
    assert_eq!(b.frame(&frame(LinkType::Raw, &large[1]))[1], "1>m0 GET XXXXXXXXXX ack m0");
}

#[test]
fn fragments_over_ipv6_are_put_together() {
    let segment = tcp_bytes(GET);
    let mut b = Bench::default();
    let mut said = Vec::new();
    for (place, part) in segment.chunks(16).enumerate() {
        let offset = IpFragOffset::try_new(place as u16 * 2).unwrap();
        let header = Ipv6FragmentHeader::new(IpNumber::TCP, offset, place < 2, 77);
        let mut bytes = Vec::new();
        PacketBuilder::ipv6(v6(1), v6(2), 64)
            .write(&mut bytes, IpNumber::IPV6_FRAGMENTATION_HEADER, &[&header.to_bytes()[..], part].concat())
            .unwrap();
        bytes[6] = 44;
        said.extend(b.frame(&frame(LinkType::Ipv6, &bytes)));
    }
    assert_eq!(said, OPEN_GET);
}

#[test]
fn fragments_that_never_complete_are_given_up_and_bounded() {
    let mut b = Bench::new(Config { fragments_budget: 10_000, ..Config::default() });
    for id in 0..1_000 {
        b.frame(&frame(LinkType::Raw, &fragments(id, 8, &tcp_bytes(GET))[1]));
    }
    assert!(b.stage.counters().fragments_lost > 900);
    b.wait(15 * SECOND);
    assert_eq!(b.stage.counters().fragments_lost, 1_000);
    assert_eq!(b.stage.deadline(), None);
}

#[test]
fn what_is_no_segment_is_counted_by_its_cause() {
    let udp = {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4(CLIENT, SERVER, 64).udp(1, 2).write(&mut bytes, b"x").unwrap();
        bytes
    };
    let ip = ipv4_bytes(GET);
    let mut short_header = ip.clone();
    short_header[0] = 0x44;
    let mut short_total = ip.clone();
    short_total[3] = 12;
    let mut bad_offset = ip.clone();
    bad_offset[32] = 0xf0;
    let mut b = Bench::default();
    for (link, bytes) in [
        (LinkType::Ethernet, ethernet(&[0x0806], &[0; 28])),
        (LinkType::Null, vec![7, 0, 0, 0, 1, 2]),
        (LinkType::Raw, udp),
        (LinkType::Other(147), ip.clone()),
        (LinkType::Raw, short_header),
        (LinkType::Raw, short_total),
        (LinkType::Raw, bad_offset),
        (LinkType::Raw, ip[..19].to_vec()),
        (LinkType::Raw, Vec::new()),
        (LinkType::Ethernet, ethernet(&[0x8100; 12], &ip)),
        (LinkType::Nflog, vec![2, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        assert!(b.frame(&frame(link, &bytes)).is_empty());
    }
    let counters = b.stage.counters();
    assert_eq!((counters.not_ip, counters.other_ip, counters.unknown_link, counters.malformed), (2, 1, 1, 7));
}

const SYN: Say<'_> = Say { back: false, seq: 99, ack: None, bits: "S", payload: b"" };
const SYN_ACK: Say<'_> = Say { back: true, seq: 899, ack: Some(100), bits: "S", payload: b"" };
const ANSWER: Say<'_> = Say { back: true, seq: 900, ack: Some(114), bits: "", payload: b"HTTP/1.1 200" };
const OPEN_SEEN: [&str; 2] = ["open 1 Seen client :41000", "1>0 GET / HTTP/1.1 ack 0"];

#[test]
fn a_handshake_gives_offsets_from_zero_and_is_told_with_the_first_payload() {
    let mut b = Bench::default();
    assert!(b.say(SYN).is_empty());
    assert!(b.say(SYN_ACK).is_empty());
    assert!(b.say(Say { payload: b"", ..GET }).is_empty());
    assert_eq!(b.say(GET), OPEN_SEEN);
    assert_eq!(b.say(ANSWER), ["1<0 HTTP/1.1 200 ack 14"]);
}

#[test]
fn every_frame_seen_twice_opens_and_closes_one_flow() {
    let mut b = Bench::default();
    let mut said = Vec::new();
    let fin = Say { seq: 114, ack: Some(912), bits: "F", payload: b"", back: false };
    let fin_back = Say { seq: 912, ack: Some(115), bits: "F", payload: b"", back: true };
    for say in [SYN, SYN, SYN_ACK, SYN_ACK, GET, SYN, GET, SYN_ACK, ANSWER, ANSWER, fin, fin, fin_back, fin, fin_back] {
        said.extend(b.say(say));
    }
    said.extend(b.say(Say { seq: 115, bits: "R", ..fin }));
    said.extend(b.say(Say { seq: 115, bits: "R", ..fin }));
    said.extend(b.say(SYN));
    let flows = said.iter().filter(|s| s.starts_with("open")).count();
    assert_eq!((flows, b.stage.counters().flows, b.stage.counters().out_of_window), (1, 1, 0), "{said:#?}");
    assert_eq!(b.wait(2 * SECOND), ["close 1 Finished"]);
    assert!(b.say(Say { seq: 115, bits: "R", ..fin }).is_empty(), "a late copy opens nothing");
    assert!(b.say(Say { payload: b"", ..GET }).is_empty());
    assert_eq!(b.stage.deadline(), None);
}

#[test]
fn a_syn_ack_alone_is_enough_and_a_syn_with_data_begins_at_zero() {
    let mut b = Bench::default();
    b.say(SYN_ACK);
    assert_eq!(b.say(GET), OPEN_SEEN);
    let mut b = Bench::default();
    assert_eq!(b.say(Say { payload: b"GET", ..SYN }), ["open 1 Seen client :41000", "1>0 GET syn"]);
    assert!(b.say(Say { ack: Some(103), ..SYN_ACK })[0].starts_with("1<0"));
}

#[test]
fn a_syn_that_was_overtaken_belongs_to_the_flow() {
    let mut b = Bench::default();
    assert_eq!(b.say(GET), OPEN_GET);
    assert_eq!(b.say(SYN), ["1>m0  syn"]);
    assert_eq!(b.say(SYN_ACK), ["1<m0  ack m0 syn"]);
    assert_eq!(b.stage.counters().flows, 1);
}

#[test]
fn used_ports_begin_a_new_flow() {
    // After the end, at once.
    let mut b = Bench::default();
    for say in [SYN, GET, Say { payload: b"", bits: "R", seq: 114, ..GET }] {
        b.say(say);
    }
    assert_eq!(b.say(Say { seq: 5_000_000, ..SYN }), ["close 1 Replaced"]);
    assert_eq!(b.say(Say { seq: 5_000_001, ack: None, ..GET })[0], "open 2 Seen client :41000");
    // On a busy flow, once the other end agrees.
    let mut b = Bench::default();
    b.say(SYN);
    b.say(GET);
    assert!(b.say(Say { seq: 5_000_000, ..SYN }).is_empty());
    assert_eq!(b.say(Say { seq: 114, ..GET })[0], "1>14 GET / HTTP/1.1 ack m0", "a blind SYN changes nothing");
    assert_eq!(b.say(Say { ack: Some(5_000_001), seq: 7, ..SYN_ACK }), ["close 1 Replaced"]);
    let said = b.say(Say { seq: 5_000_001, ack: Some(8), ..GET });
    assert_eq!(said, ["open 2 Seen client :41000", "2>0 GET / HTTP/1.1 ack 0"]);
    // Or by its first byte.
    let mut b = Bench::default();
    b.say(SYN);
    b.say(GET);
    b.say(Say { seq: 5_000_000, ..SYN });
    let said = b.say(Say { seq: 5_000_001, ack: Some(8), ..GET });
    assert_eq!(said, ["close 1 Replaced", "open 2 Seen client :41000", "2>0 GET / HTTP/1.1 ack m0"]);
}

#[test]
fn the_client_is_told_by_the_first_bytes_or_else_by_the_ports() {
    for (back, payload, client) in [
        (false, b"GET / HTTP/1.1".as_slice(), 41_000),
        (true, b"POST /inbox HTTP/1.1", 8_080),
        (true, b"PRI * HTTP/2.0\r\n", 8_080),
        (false, b"HTTP/1.1 200", 8_080),
        (true, b"HTTP/1.1 200", 41_000),
        (false, b"\x16\x03\x01\0\x05\x01", 41_000),
        (false, b"\x16\x03\x03\0\x05\x02", 8_080),
        (false, b"\0\0\x04", 41_000),
        (true, b"middle of something", 41_000),
    ] {
        let said = Bench::default().say(Say { back, payload, ..GET });
        assert_eq!(said[0], format!("open 1 MidStream client :{client}"), "{payload:?} {back}");
    }
}

#[test]
fn absurd_numbers_are_dropped_until_several_agree() {
    let mut b = Bench::default();
    b.say(GET);
    let far = 100_u32.wrapping_add(0x7000_0000);
    for step in 0..7 {
        assert!(b.say(Say { seq: far + step * 14, ..GET }).is_empty());
    }
    assert_eq!(b.say(Say { seq: 114, payload: b"x", ..GET }), ["1>m14 x ack m0"]);
    for step in 0..7 {
        assert!(b.say(Say { seq: far + step * 14, ..GET }).is_empty());
    }
    assert_eq!(b.say(Say { seq: far + 7 * 14, ..GET }).len(), 1, "the listener was blind");
    assert_eq!(b.stage.counters().out_of_window, 14);
    assert!(b.say(Say { seq: 5, bits: "R", payload: b"", ..GET }).is_empty(), "a blind reset");
}

#[test]
fn idle_flows_are_closed_and_full_tables_forget_the_quiet_first() {
    let mut b = Bench::new(Config { flows_limit: 16, ..Config::default() });
    b.say(SYN);
    b.say(GET);
    for port in 0..1_000_u16 {
        let mut bytes = ipv4_bytes(SYN);
        bytes[20..22].copy_from_slice(&(20_000 + port).to_be_bytes());
        assert!(b.frame(&frame(LinkType::Raw, &bytes)).is_empty());
    }
    assert_eq!(b.stage.counters().flows_evicted, 996);
    assert_eq!(b.say(ANSWER), ["1<m0 HTTP/1.1 200 ack 14"], "a flood of SYN does not touch what carries data");
    assert_eq!(b.wait(3_600 * SECOND), ["close 1 Idle"]);
    assert_eq!(b.stage.deadline(), None);
}

#[test]
fn a_keep_alive_probe_before_the_first_byte_carries_nothing() {
    let mut b = Bench::default();
    for say in [SYN, SYN_ACK, GET] {
        b.say(say);
    }
    assert_eq!(b.say(Say { back: true, seq: 899, ack: Some(114), payload: b"\0", bits: "" }), ["1<0  ack 14"]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        number in prop::sample::select(vec![0_u32, 1, 101, 108, 113, 228, 229, 239, 276]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        more in 0_u32..2000,
    ) {
        let mut b = Bench::default();
        let link = LinkType::from_number(number);
        let wire_length = bytes.len() as u32 + more;
        b.frame(&Frame { wire_length, ..frame(link, &bytes) });
    }

    #[test]
    fn no_damage_makes_it_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        size in 0_usize..90,
        which in 0..4,
    ) {
        let mut bytes = match which {
            0 => ipv4_bytes(GET),
            1 => ipv6_bytes(GET),
            2 => fragments(3, 16, &tcp_bytes(GET))[1].clone(),
            _ => ipv4_bytes(SYN_ACK),
        };
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let wire_length = bytes.len() as u32;
        bytes.truncate(size);
        let mut b = Bench::default();
        for say in [SYN, SYN_ACK] {
            b.say(say);
        }
        b.frame(&Frame { wire_length, ..frame(LinkType::Raw, &bytes) });
        b.say(GET);
    }

    #[test]
    fn no_initial_number_makes_a_difference(isn in any::<u32>(), near in -40_i32..40, wraps in any::<bool>()) {
        let shift = if wraps { 0_u32.wrapping_add_signed(near) } else { isn };
        let run = |client: u32, server: u32| -> Vec<String> {
            let mut b = Bench::default();
            let parts = [
                (false, -1, None, "S", b"".as_slice()),
                (true, -1, Some(0), "S", b""),
                (false, 0, Some(0), "", b"GET / HTTP/1.1"),
                (false, 30, Some(0), "", b"ahead"),
                (false, 14, Some(0), "", b"between"),
                (true, 0, Some(35), "", b"HTTP/1.1 200"),
                (true, 12, Some(35), "F", b"x"),
                (false, 35, Some(14), "F", b""),
            ];
            let mut said = Vec::new();
            for (back, seq, ack, bits, payload) in parts {
                let (mine, theirs) = if back { (server, client) } else { (client, server) };
                let ack = ack.map(|ack| theirs.wrapping_add_signed(ack));
                said.extend(b.say(Say { back, seq: mine.wrapping_add_signed(seq), ack, bits, payload }));
            }
            said
        };
        prop_assert_eq!(run(shift, shift.wrapping_mul(7)), run(1_000, 2_000_000));
    }
}
