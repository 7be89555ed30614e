//! Captures built byte by byte, one per feature; each also cut off at every byte and damaged at every byte.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use std::io::{Cursor, Read, Write};
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// An item without its borrow.
#[derive(Clone, PartialEq, Debug)]
enum Owned {
    Frame { time: u64, interface: Interface, hook: Option<Hook>, link: LinkType, bytes: Vec<u8>, wire: u32 },
    Interface(u32, Option<String>, LinkType),
    Loss(u64, Interface, u64),
}

fn owned(item: Item<'_>) -> Owned {
    match item {
        Item::Frame(f) => Owned::Frame {
            time: f.time.0,
            interface: f.interface,
            hook: f.hook,
            link: f.link,
            bytes: f.bytes.to_vec(),
            wire: f.wire_length,
        },
        Item::Interface { number, name, link } => Owned::Interface(number, name.map(str::to_owned), link),
        Item::Loss(l) => Owned::Loss(l.time.0, l.interface, l.frames),
    }
}

fn frame(time: u64, bytes: &[u8]) -> Owned {
    Owned::Frame {
        time,
        interface: Interface::Unknown,
        hook: None,
        link: LinkType::Ethernet,
        bytes: bytes.to_vec(),
        wire: bytes.len() as u32,
    }
}

fn declared(number: u32, time: u64, bytes: &[u8]) -> Owned {
    match frame(time, bytes) {
        Owned::Frame { time, hook, link, bytes, wire, .. } => {
            Owned::Frame { time, interface: Interface::Declared(number), hook, link, bytes, wire }
        }
        other => other,
    }
}

/// All items, and the error if there was one.
fn read(file: impl Read + Send + 'static) -> (Vec<Owned>, Option<Error>) {
    let mut source = match Source::from_reader("test", file, None) {
        Ok(source) => source,
        Err(e) => return (Vec::new(), Some(e)),
    };
    let mut items = Vec::new();
    loop {
        match source.next() {
            Ok(Some(item)) => items.push(owned(item)),
            Ok(None) => return (items, None),
            Err(e) => {
                assert!(matches!(source.next(), Ok(None)), "after an error there is nothing more");
                return (items, Some(e));
            }
        }
    }
}

fn read_bytes(bytes: &[u8]) -> (Vec<Owned>, Option<Error>) {
    read(Cursor::new(bytes.to_vec()))
}

#[track_caller]
fn check(bytes: &[u8], expected: &[Owned]) {
    let (items, error) = read_bytes(bytes);
    assert_eq!(items, expected);
    assert!(error.is_none(), "{}", error.unwrap());
    // However the bytes come, the items are the same.
    let (items, error) = read(Trickle(Cursor::new(bytes.to_vec())));
    assert_eq!(items, expected);
    assert!(error.is_none());
}

/// Gives one byte per read, as a slow pipe may.
struct Trickle(Cursor<Vec<u8>>);

impl Read for Trickle {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = to.len().min(1);
        self.0.read(&mut to[..n])
    }
}

#[derive(Clone, Copy)]
struct W {
    big: bool,
}

const LITTLE: W = W { big: false };
const BIG: W = W { big: true };

impl W {
    fn u16(self, n: u16) -> Vec<u8> {
        if self.big { n.to_be_bytes().to_vec() } else { n.to_le_bytes().to_vec() }
    }
    fn u32(self, n: u32) -> Vec<u8> {
        if self.big { n.to_be_bytes().to_vec() } else { n.to_le_bytes().to_vec() }
    }
    fn u64(self, n: u64) -> Vec<u8> {
        if self.big { n.to_be_bytes().to_vec() } else { n.to_le_bytes().to_vec() }
    }

    fn pcap(self, magic: u32, minor: u16, link: u32) -> Vec<u8> {
        [
            self.u32(magic),
            self.u16(2),
            self.u16(minor),
            self.u32(0),
            self.u32(0),
            self.u32(262_144),
            self.u32(link),
        ]
        .concat()
    }
    fn record(self, seconds: u32, fraction: u32, bytes: &[u8], wire: u32) -> Vec<u8> {
        [self.u32(seconds), self.u32(fraction), self.u32(bytes.len() as u32), self.u32(wire), bytes.to_vec()]
            .concat()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let body = padded(body);
        let length = self.u32(body.len() as u32 + 12);
        [self.u32(kind), length.clone(), body, length].concat()
    }
    fn section(self) -> Vec<u8> {
        self.block(
            0x0a0d_0d0a,
            &[self.u32(0x1a2b_3c4d), self.u16(1), self.u16(0), self.u64(u64::MAX)].concat(),
        )
    }
    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        [self.u16(code), self.u16(value.len() as u16), padded(value)].concat()
    }
    fn interface(self, link: u16, snap: u32, options: &[Vec<u8>]) -> Vec<u8> {
        self.block(1, &[self.u16(link), self.u16(0), self.u32(snap), options.concat()].concat())
    }
    fn packet(self, interface: u32, ticks: u64, bytes: &[u8], wire: u32, options: &[Vec<u8>]) -> Vec<u8> {
        self.block(
            6,
            &[
                self.u32(interface),
                self.u32((ticks >> 32) as u32),
                self.u32(ticks as u32),
                self.u32(bytes.len() as u32),
                self.u32(wire),
                padded(bytes),
                options.concat(),
            ]
            .concat(),
        )
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

const SECOND: u64 = 1_000_000_000;
/// 2026-11-23T07:27:01Z, in the seconds of the captures that this was made with.
const T: u32 = 1_795_418_821;

#[test]
fn pcap_is_read_in_both_byte_orders_and_both_resolutions() {
    for w in [LITTLE, BIG] {
        for (magic, nanos) in [(0xa1b2_c3d4_u32, 123_456_000), (0xa1b2_3c4d, 123_456)] {
            let file = [
                w.pcap(magic, 4, 1),
                w.record(T, 123_456, b"hello", 5),
                w.record(u32::MAX, 999_999, b"", 0),
                w.record(0, 0, &[7; 1500], 1500),
            ]
            .concat();
            let last = if magic == 0xa1b2_c3d4 { 999_999_000 } else { 999_999 };
            check(
                &file,
                &[
                    frame(u64::from(T) * SECOND + nanos, b"hello"),
                    frame(u64::from(u32::MAX) * SECOND + last, b""),
                    frame(0, &[7; 1500]),
                ],
            );
        }
    }
}

#[test]
fn a_frame_cut_by_the_snap_length_keeps_its_length_on_the_wire() {
    let file = [LITTLE.pcap(0xa1b2_c3d4, 4, 1), LITTLE.record(1, 0, b"abc", 1500)].concat();
    let mut expected = frame(SECOND, b"abc");
    if let Owned::Frame { wire, .. } = &mut expected {
        *wire = 1500;
    }
    check(&file, &[expected]);
}

#[test]
fn a_length_on_the_wire_below_the_captured_one_is_raised_to_it() {
    let file = [LITTLE.pcap(0xa1b2_c3d4, 4, 1), LITTLE.record(1, 0, b"abc", 2)].concat();
    check(&file, &[frame(SECOND, b"abc")]);
}

#[test]
fn the_check_sequence_bits_of_the_link_type_are_not_part_of_it() {
    for (number, link) in [
        (0x1400_0001_u32, LinkType::Ethernet),
        (0xf400_0114, LinkType::LinuxSll2),
        (12, LinkType::Raw),
        (147, LinkType::Other(147)),
    ] {
        let file = [LITTLE.pcap(0xa1b2_c3d4, 4, number), LITTLE.record(1, 0, b"x", 1)].concat();
        let (items, error) = read_bytes(&file);
        assert!(error.is_none());
        assert!(matches!(&items[..], [Owned::Frame { link: l, .. }] if *l == link), "{items:?}");
    }
}

#[test]
fn modified_pcap_names_the_interface_index_and_the_direction() {
    for w in [LITTLE, BIG] {
        let head = |index: u32, kind: u8| {
            [w.u32(1), w.u32(2), w.u32(1), w.u32(1), w.u32(index), w.u16(0x800), vec![kind, 0]].concat()
        };
        let file = [
            w.pcap(0xa1b2_cd34, 4, 1),
            head(3, 4),
            b"a".to_vec(),
            head(3, 0),
            b"b".to_vec(),
            head(0, 0),
            b"c".to_vec(),
        ]
        .concat();
        let seen = |interface, hook, bytes: &[u8]| Owned::Frame {
            time: SECOND + 2_000,
            interface,
            hook: Some(hook),
            link: LinkType::Ethernet,
            bytes: bytes.to_vec(),
            wire: 1,
        };
        check(
            &file,
            &[
                seen(Interface::Index(3), Hook::Egress, b"a"),
                seen(Interface::Index(3), Hook::Ingress, b"b"),
                seen(Interface::Unknown, Hook::Ingress, b"c"),
            ],
        );
    }
}

#[test]
fn old_pcap_with_its_two_lengths_exchanged_is_read() {
    let swapped = [LITTLE.u32(1), LITTLE.u32(0), LITTLE.u32(1500), LITTLE.u32(3), b"abc".to_vec()].concat();
    let straight = LITTLE.record(1, 0, b"abc", 1500);
    let mut expected = frame(SECOND, b"abc");
    if let Owned::Frame { wire, .. } = &mut expected {
        *wire = 1500;
    }
    check(
        &[LITTLE.pcap(0xa1b2_c3d4, 2, 1), swapped.clone(), swapped.clone()].concat(),
        &[expected.clone(), expected.clone()],
    );
    check(&[LITTLE.pcap(0xa1b2_c3d4, 3, 1), swapped, straight].concat(), &[expected.clone(), expected]);
}

#[test]
fn pcap_files_joined_with_cat_are_read_as_one() {
    let file = [
        LITTLE.pcap(0xa1b2_c3d4, 4, 1),
        LITTLE.record(1, 1, b"one", 3),
        BIG.pcap(0xa1b2_3c4d, 4, 101),
        BIG.record(2, 2, b"two", 3),
    ]
    .concat();
    let mut second = frame(2 * SECOND + 2, b"two");
    if let Owned::Frame { link, .. } = &mut second {
        *link = LinkType::Raw;
    }
    check(&file, &[frame(SECOND + 1_000, b"one"), second]);
}

#[test]
fn pcapng_is_read_in_both_byte_orders() {
    for w in [LITTLE, BIG] {
        let file = [
            w.section(),
            w.interface(1, 262_144, &[w.option(2, b"veth1"), w.option(0, b"")]),
            w.packet(0, u64::from(T) * 1_000_000 + 7, b"hello", 5, &[]),
        ]
        .concat();
        check(
            &file,
            &[
                Owned::Interface(0, Some("veth1".into()), LinkType::Ethernet),
                declared(0, u64::from(T) * SECOND + 7_000, b"hello"),
            ],
        );
    }
}

#[test]
fn each_interface_has_its_own_link_type_resolution_and_offset() {
    let w = LITTLE;
    let with = |link, options: &[Vec<u8>]| w.interface(link, 0, options);
    // (options, ticks, nanoseconds)
    let table: &[(Vec<Vec<u8>>, u64, u64)] = &[
        (vec![], 5, 5_000),
        (vec![w.option(9, &[0])], 5, 5 * SECOND),
        (vec![w.option(9, &[3])], 5, 5_000_000),
        (vec![w.option(9, &[9])], 5, 5),
        (vec![w.option(9, &[12])], 5_999, 5),
        (vec![w.option(9, &[127])], u64::MAX, 0),
        (vec![w.option(9, &[0x80])], 5, 5 * SECOND),
        (vec![w.option(9, &[0x81])], 5, 5 * SECOND / 2),
        (vec![w.option(9, &[0x80 | 30])], 1 << 29, SECOND / 2),
        (vec![w.option(9, &[0xff])], u64::MAX, 0),
        (vec![w.option(9, &[0])], u64::MAX, u64::MAX),
        (vec![w.option(14, &w.u64(10))], 5, 10 * SECOND + 5_000),
        (vec![w.option(14, &w.u64((-2_i64) as u64))], 5_000_000, 3 * SECOND),
        (vec![w.option(14, &w.u64((-9_i64) as u64))], 5_000_000, 0),
        (vec![w.option(14, &w.u64(i64::MIN as u64))], 5_000_000, 0),
        (vec![w.option(14, &w.u64(i64::MAX as u64))], 5_000_000, u64::MAX),
    ];
    let links = [1_u16, 101, 113, 276, 239, 0];
    let mut file = w.section();
    let mut expected = Vec::new();
    for (n, (options, ..)) in table.iter().enumerate() {
        let link = links[n % links.len()];
        file.extend(with(link, options));
        expected.push(Owned::Interface(n as u32, None, LinkType::from_number(u32::from(link))));
    }
    for (n, (_, ticks, nanos)) in table.iter().enumerate().rev() {
        file.extend(w.packet(n as u32, *ticks, b"x", 1, &[]));
        let mut frame = declared(n as u32, *nanos, b"x");
        if let Owned::Frame { link, .. } = &mut frame {
            *link = LinkType::from_number(u32::from(links[n % links.len()]));
        }
        expected.push(frame);
    }
    check(&file, &expected);
}

#[test]
fn interfaces_are_numbered_on_over_sections_of_different_byte_order() {
    let file = [
        LITTLE.section(),
        LITTLE.interface(1, 0, &[LITTLE.option(2, b"a")]),
        LITTLE.interface(1, 0, &[LITTLE.option(3, b"only described")]),
        LITTLE.packet(1, 1, b"1", 1, &[]),
        BIG.section(),
        BIG.interface(1, 0, &[BIG.option(2, b"c\xff\0\0")]),
        BIG.packet(0, 2, b"2", 1, &[]),
    ]
    .concat();
    check(
        &file,
        &[
            Owned::Interface(0, Some("a".into()), LinkType::Ethernet),
            Owned::Interface(1, Some("only described".into()), LinkType::Ethernet),
            declared(1, 1_000, b"1"),
            Owned::Interface(2, Some("c\u{fffd}".into()), LinkType::Ethernet),
            declared(2, 2_000, b"2"),
        ],
    );
}

#[test]
fn an_interface_of_an_earlier_section_is_not_known_in_a_later_one() {
    let before = [LITTLE.section(), LITTLE.interface(1, 0, &[]), LITTLE.section()].concat();
    let file = [before.clone(), LITTLE.packet(0, 1, b"1", 1, &[])].concat();
    let (items, error) = read_bytes(&file);
    assert_eq!(items.len(), 1);
    damaged_at(error, before.len(), "declares 0");
}

#[test]
fn simple_and_obsolete_packet_blocks_are_read() {
    for w in [LITTLE, BIG] {
        let simple = |wire: u32, bytes: &[u8]| w.block(3, &[w.u32(wire), padded(bytes)].concat());
        let obsolete = w.block(
            2,
            &[w.u16(1), w.u16(0xffff), w.u32(0), w.u32(9), w.u32(3), w.u32(3), padded(b"old")].concat(),
        );
        let file = [
            w.section(),
            w.interface(1, 4, &[]),
            w.interface(1, 0, &[]),
            simple(2, b"ab"),
            obsolete,
            simple(9, b"abcd"),
        ]
        .concat();
        let mut cut = declared(0, 9_000, b"abcd");
        if let Owned::Frame { wire, .. } = &mut cut {
            *wire = 9;
        }
        check(
            &file,
            &[
                Owned::Interface(0, None, LinkType::Ethernet),
                Owned::Interface(1, None, LinkType::Ethernet),
                declared(0, 0, b"ab"),
                declared(1, 9_000, b"old"),
                cut,
            ],
        );
    }
}

#[test]
fn the_direction_of_a_packet_is_its_hook() {
    let w = BIG;
    let mut file = [w.section(), w.interface(1, 0, &[])].concat();
    for flags in [0_u32, 1, 2, 0xffff_0001] {
        file.extend(w.packet(0, 1, b"x", 1, &[w.option(1, b"a comment"), w.option(2, &w.u32(flags))]));
    }
    let (items, error) = read_bytes(&file);
    assert!(error.is_none());
    let hooks: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Owned::Frame { hook, .. } => Some(*hook),
            _ => None,
        })
        .collect();
    assert_eq!(hooks, [None, Some(Hook::Ingress), Some(Hook::Egress), Some(Hook::Ingress)]);
}

#[test]
fn losses_come_before_the_frame_that_tells_of_them_and_totals_count_once() {
    let w = LITTLE;
    let statistics = |interface: u32, by_interface: u64, by_system: u64| {
        w.block(
            5,
            &[
                w.u32(interface),
                w.u32(0),
                w.u32(50),
                w.option(4, &w.u64(1000)),
                w.option(5, &w.u64(by_interface)),
                w.option(7, &w.u64(by_system)),
                w.option(0, b""),
            ]
            .concat(),
        )
    };
    let file = [
        w.section(),
        w.interface(1, 0, &[]),
        w.interface(1, 0, &[]),
        w.packet(0, 1, b"a", 1, &[w.option(4, &w.u64(3))]),
        statistics(0, 2, 5),
        statistics(0, 2, 5),
        statistics(1, 0, 0),
        w.block(2, &[w.u16(1), w.u16(4), w.u32(0), w.u32(9), w.u32(1), w.u32(1), padded(b"o")].concat()),
        statistics(1, 4, 0),
    ]
    .concat();
    let at = Interface::Declared;
    check(
        &file,
        &[
            Owned::Interface(0, None, LinkType::Ethernet),
            Owned::Interface(1, None, LinkType::Ethernet),
            Owned::Loss(1_000, at(0), 3),
            declared(0, 1_000, b"a"),
            Owned::Loss(50_000, at(0), 4),
            Owned::Loss(9_000, at(1), 4),
            declared(1, 9_000, b"o"),
        ],
    );
}

/// Everything that a capture of today may hold beside frames.
fn rich_pcapng(w: W) -> Vec<Vec<u8>> {
    vec![
        w.section(),
        w.interface(1, 0, &[w.option(2, b"veth1"), w.option(9, &[9]), w.option(0, b"")]),
        // Decryption secrets (TLS key log), name resolution, custom (both kinds), systemd journal, unknown.
        w.block(10, &[w.u32(0x544c_534b), w.u32(6), padded(b"CLIENT")].concat()),
        w.block(4, &[w.u16(0), w.u16(0)].concat()),
        w.packet(0, 1, b"first", 5, &[]),
        w.block(0xbad, &[w.u32(32_473), b"data".to_vec()].concat()),
        w.block(0x4000_0bad, &w.u32(32_473)),
        w.block(9, b"__REALTIME_TIMESTAMP=1\n"),
        w.block(0x8000_0001, &[0; 400]),
        w.block(0x7777_7777, b""),
        w.packet(0, 2, b"second", 6, &[w.option(2, &w.u32(1)), w.option(0, b"")]),
        w.block(5, &[w.u32(0), w.u32(0), w.u32(3), w.option(5, &w.u64(1))].concat()),
        w.section(),
        w.interface(113, 0, &[]),
        w.packet(0, 3, b"third", 5, &[]),
    ]
}

fn rich_items() -> Vec<Owned> {
    let mut second = declared(0, 2, b"second");
    let mut third = declared(1, 3_000, b"third");
    if let Owned::Frame { hook, .. } = &mut second {
        *hook = Some(Hook::Ingress);
    }
    if let Owned::Frame { link, .. } = &mut third {
        *link = LinkType::LinuxSll;
    }
    vec![
        Owned::Interface(0, Some("veth1".into()), LinkType::Ethernet),
        declared(0, 1, b"first"),
        second,
        Owned::Loss(3, Interface::Declared(0), 1),
        Owned::Interface(1, None, LinkType::LinuxSll),
        third,
    ]
}

#[test]
fn blocks_that_hold_no_frame_are_passed_over() {
    check(&rich_pcapng(LITTLE).concat(), &rich_items());
    check(&rich_pcapng(BIG).concat(), &rich_items());
}

#[test]
fn a_block_to_pass_over_is_not_kept_in_memory() {
    let w = LITTLE;
    let mut file = w.section();
    file.extend(w.block(0x7777, &vec![1; 10 << 20]));
    file.extend(w.interface(1, 0, &[]));
    let mut source = Source::from_reader("test", Cursor::new(file), None).unwrap();
    assert!(matches!(source.next(), Ok(Some(Item::Interface { .. }))));
    assert!(source.input.capacity() < 1 << 20);
}

/// A frame larger than the buffer, then one that needs what the larger one left behind it.
#[test]
fn frames_larger_than_the_buffer_are_read_whole() {
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let file = [
        LITTLE.pcap(0xa1b2_c3d4, 4, 1),
        LITTLE.record(1, 0, b"small", 5),
        LITTLE.record(2, 0, &large, large.len() as u32),
        LITTLE.record(3, 0, b"small", 5),
    ]
    .concat();
    let (items, error) = read_bytes(&file);
    assert!(error.is_none());
    assert_eq!(items, [frame(SECOND, b"small"), frame(2 * SECOND, &large), frame(3 * SECOND, b"small")]);
}

/// The files that are cut and damaged everywhere below, in the pieces (records, blocks) that they are made of.
fn samples() -> Vec<Vec<Vec<u8>>> {
    let pcap = |w: W, magic| {
        vec![
            w.pcap(magic, 4, 1),
            w.record(T, 123_456, b"hello", 5),
            w.record(T, 123_457, b"", 1500),
            w.record(T, 123_458, &[7; 60], 60),
        ]
    };
    vec![pcap(LITTLE, 0xa1b2_c3d4), pcap(BIG, 0xa1b2_3c4d), rich_pcapng(LITTLE), rich_pcapng(BIG)]
}

#[test]
fn a_capture_cut_at_any_byte_gives_what_came_before_and_the_place() {
    for pieces in samples() {
        let file = pieces.concat();
        let (whole, _) = read_bytes(&file);
        for cut in 0..file.len() {
            let mut begins = 0;
            let whole_pieces = pieces
                .iter()
                .take_while(|piece| {
                    let fits = begins + piece.len() <= cut;
                    begins += if fits { piece.len() } else { 0 };
                    fits
                })
                .count();
            let (expected, none) = read_bytes(&pieces[..whole_pieces].concat());
            let (items, error) = read_bytes(&file[..cut]);
            assert!(whole.starts_with(&items));
            match error {
                Some(Error::Empty { .. }) => assert_eq!(cut, 0),
                Some(Error::NotACapture { .. }) => assert!((1..4).contains(&cut)),
                Some(Error::CutOff { place, end, .. }) => {
                    assert_eq!((place.offset, end), (begins as u64, cut as u64));
                    assert!(cut > begins);
                    assert_eq!(items, expected);
                    // Without its header there is nothing to compare with.
                    assert!(none.is_none() || whole_pieces == 0);
                }
                Some(other) => panic!("cut at {cut}: {other}"),
                None => {
                    assert_eq!(cut, begins, "a cut inside a piece is never silent");
                    assert_eq!(items, expected);
                }
            }
        }
    }
}

#[test]
fn a_capture_damaged_at_any_byte_never_panics_and_loses_nothing_before_the_damage() {
    for pieces in samples() {
        let file = pieces.concat();
        for at in 0..file.len() {
            let mut begins = 0;
            let before = pieces
                .iter()
                .take_while(|piece| {
                    let fits = begins + piece.len() <= at;
                    begins += if fits { piece.len() } else { 0 };
                    fits
                })
                .count();
            let (expected, _) = read_bytes(&pieces[..before].concat());
            for bits in [0xff_u8, 0x80, 0x01] {
                let mut damaged = file.clone();
                damaged[at] ^= bits;
                let (items, _) = read_bytes(&damaged);
                assert!(items.starts_with(&expected), "byte {at}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_behind_a_header_are_read_without_panic(
        which in 0_usize..4,
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut file = samples()[which][0].clone();
        file.extend(bytes);
        let _ = read_bytes(&file);
    }

    #[test]
    fn any_pcapng_body_is_read_without_panic(
        big in any::<bool>(),
        blocks in proptest::collection::vec(
            (prop_oneof![Just(1_u32), Just(2), Just(3), Just(5), Just(6), Just(0x0a0d_0d0a), any::<u32>()],
             proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..60)),
            0..8,
        ),
    ) {
        let w = W { big };
        let mut file = [w.section(), w.interface(1, 0, &[])].concat();
        for (kind, body) in &blocks {
            file.extend(w.block(*kind, body));
        }
        let _ = read_bytes(&file);
    }
}

#[track_caller]
fn damaged_at(error: Option<Error>, at: usize, words: &str) {
    match error {
        Some(Error::Damaged { place, what, .. }) => {
            assert_eq!(place.offset, at as u64, "{what}");
            assert!(what.contains(words), "{what}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn lengths_that_cannot_be_are_damage_and_cost_no_memory() {
    let w = LITTLE;
    let pcap = [w.pcap(0xa1b2_c3d4, 4, 1), w.record(1, 0, b"a", 1)].concat();
    let huge = [pcap.clone(), w.u32(1), w.u32(1), w.u32(u32::MAX), w.u32(1)].concat();
    let (items, error) = read_bytes(&huge);
    assert_eq!(items.len(), 1);
    damaged_at(error, pcap.len(), "4294967295 captured bytes");

    let begin = [w.section(), w.interface(1, 0, &[])].concat();
    for (block, words) in [
        ([w.u32(6), w.u32(u32::MAX - 3)].concat(), "4294967292 bytes"),
        ([w.u32(6), w.u32(0)].concat(), "a block of 0 bytes"),
        ([w.u32(6), w.u32(8)].concat(), "a block of 8 bytes"),
        ([w.u32(6), w.u32(33), vec![0; 33]].concat(), "a block of 33 bytes"),
        ([w.u32(6), w.u32(16), w.u32(0), w.u32(20)].concat(), "16 bytes at its beginning and 20 at its end"),
        (
            [w.u32(0x777), w.u32(16), w.u32(0), w.u32(20)].concat(),
            "16 bytes at its beginning and 20 at its end",
        ),
        (w.block(6, &[0; 12]), "too short"),
        (w.packet(1, 1, b"x", 1, &[]), "interface 1"),
        (
            w.block(6, &[w.u32(0), w.u32(0), w.u32(0), w.u32(100), w.u32(100), vec![0; 8]].concat()),
            "claims 100",
        ),
        (w.packet(0, 1, b"x", 1, &[[w.u16(2), w.u16(40), w.u32(0)].concat()]), "option 2 of 40 bytes"),
        (w.block(3, &[w.u32(100), vec![0; 8]].concat()), "claims 100"),
        (w.block(0x0a0d_0d0a, &[w.u32(0x1234_5678), w.u32(1), w.u64(0)].concat()), "byte-order magic"),
    ] {
        let file = [begin.clone(), block].concat();
        let (items, error) = read_bytes(&file);
        assert_eq!(items.len(), 1, "{words}");
        damaged_at(error, begin.len(), words);
    }

    // A length within the limit, with nothing behind it: the buffer does not grow for a promise.
    let file = [begin, w.u32(6), w.u32(60 << 20), vec![0; 100]].concat();
    let mut source = Source::from_reader("test", Cursor::new(file), None).unwrap();
    assert!(matches!(source.next(), Ok(Some(_))));
    assert!(matches!(source.next(), Err(Error::CutOff { .. })));
    assert!(source.input.capacity() < 1 << 20);
}

#[test]
fn there_is_a_limit_to_the_number_of_interfaces() {
    let mut file = LITTLE.section();
    for _ in 0..=MAX_INTERFACES {
        file.extend(LITTLE.interface(1, 0, &[]));
    }
    let (items, error) = read_bytes(&file);
    assert_eq!(items.len(), MAX_INTERFACES as usize);
    assert!(matches!(error, Some(Error::Damaged { .. })));
}

#[test]
fn other_versions_are_named() {
    let mut pcap = LITTLE.pcap(0xa1b2_c3d4, 4, 1);
    pcap[4] = 3;
    let mut ng = LITTLE.section();
    ng[12] = 2;
    for (file, words) in [(pcap, "pcap version 3.4"), (ng, "pcapng version 2.0")] {
        match read_bytes(&file).1 {
            Some(Error::Unsupported { what, .. }) => assert_eq!(what, words),
            other => panic!("{other:?}"),
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::GzBuilder::new()
        .filename("capture.pcap")
        .comment("a comment")
        .extra(vec![1, 2, 3])
        .write(Vec::new(), flate2::Compression::default());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    // With a checksum, as the zstd command writes them.
    let mut to = zstd::Encoder::new(Vec::new(), 3).unwrap();
    to.include_checksum(true).unwrap();
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

fn skippable() -> Vec<u8> {
    [0x184d_2a50_u32.to_le_bytes().to_vec(), 4_u32.to_le_bytes().to_vec(), b"skip".to_vec()].concat()
}

#[test]
fn compressed_captures_of_one_or_more_members_are_read() {
    let pieces = rich_pcapng(LITTLE);
    let each = |f: fn(&[u8]) -> Vec<u8>| pieces.iter().flat_map(|piece| f(piece)).collect::<Vec<u8>>();
    check(&gzip(&pieces.concat()), &rich_items());
    check(&each(gzip), &rich_items());
    check(&[gzip(&pieces.concat()), vec![0; 512]].concat(), &rich_items());
    check(&zst(&pieces.concat()), &rich_items());
    check(&each(zst), &rich_items());
    check(&[skippable(), zst(&pieces.concat()), skippable()].concat(), &rich_items());
    let source = |bytes| Source::from_reader("test", Cursor::new(bytes), None).unwrap();
    assert_eq!(source(gzip(&pieces.concat())).compression(), Some(Compression::Gzip));
    assert_eq!(source(zst(&pieces.concat())).compression(), Some(Compression::Zstd));
    assert_eq!(source(pieces.concat()).compression(), None);
}

/// Frames whose bytes do not compress, so that a place in the compressed data is about the same in the capture.
fn noisy_pcap(frames: u32) -> Vec<u8> {
    let mut state = 1_u64;
    let mut file = LITTLE.pcap(0xa1b2_c3d4, 4, 1);
    for n in 0..frames {
        let bytes: Vec<u8> = (0..1000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        file.extend(LITTLE.record(n, 0, &bytes, 1000));
    }
    file
}

#[test]
fn a_compressed_capture_cut_off_gives_every_frame_that_can_be_decompressed() {
    let file = noisy_pcap(2_000);
    let (all, _) = read_bytes(&file);
    // What the block format holds back at the end of a cut: 128 KiB in zstd, next to nothing in deflate.
    for (packed, hold) in [(gzip(&file), 40), (zst(&file), 140)] {
        for cut in [30, packed.len() / 3, packed.len() - 9, packed.len() - 1] {
            let (items, error) = read_bytes(&packed[..cut]);
            assert!(all.starts_with(&items));
            assert!(items.len() + hold >= cut / 1017, "{} frames of {cut} bytes", items.len());
            match error {
                Some(Error::Compressed { place, what, .. }) => {
                    assert!(place.offset as usize <= file.len());
                    assert_eq!(what, "they end too early");
                }
                Some(Error::CutOff { .. }) => assert!(cut == 30),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn damage_in_compressed_data_loses_nothing_before_it() {
    let file = noisy_pcap(2_000);
    let (all, _) = read_bytes(&file);
    // Many members or frames, so that the damage is found where it is: 100 frames each.
    let parts: Vec<&[u8]> = file.chunks(101_600).collect();
    for pack in [gzip as fn(&[u8]) -> Vec<u8>, zst] {
        let packed: Vec<Vec<u8>> = parts.iter().map(|part| pack(part)).collect();
        let mut bytes = packed.concat();
        // The header of the eleventh member.
        let at: usize = packed[..10].iter().map(Vec::len).sum();
        bytes[at] ^= 0x55;
        let (items, error) = read_bytes(&bytes);
        assert!(all.starts_with(&items));
        assert_eq!(items.len(), (101_600 * 10 - 24) / 1016);
        assert!(matches!(error, Some(Error::Compressed { .. })), "{error:?}");
    }
}

#[test]
fn damage_inside_a_member_keeps_the_blocks_before_it() {
    // Hexadecimal noise: compressed to half, so that the codes themselves are hit.
    let mut file = LITTLE.pcap(0xa1b2_c3d4, 4, 1);
    for (n, chunk) in noisy_pcap(2_000).chunks(500).enumerate() {
        let text = crate::view::hex(chunk);
        file.extend(LITTLE.record(n as u32, 0, text.as_bytes(), text.len() as u32));
    }
    let (all, _) = read_bytes(&file);
    for mut packed in [gzip(&file), zst(&file)] {
        let at = packed.len() * 2 / 3;
        packed[at..at + 64].fill(0xff);
        let (items, error) = read_bytes(&packed);
        assert!(error.is_some());
        // One block of zstd is 128 KiB, 3 % of this file.
        let sure = all.len() * 62 / 100;
        assert_eq!(items[..sure], all[..sure]);
    }
}

#[test]
fn a_wrong_checksum_is_told_after_all_frames() {
    let file = noisy_pcap(10);
    let mut packed = gzip(&file);
    let at = packed.len() - 6;
    packed[at] ^= 1;
    let (items, error) = read_bytes(&packed);
    assert_eq!(items.len(), 10);
    assert!(error.unwrap().to_string().contains("checksum"));
}

#[test]
fn damage_at_any_place_of_compressed_data_never_panics() {
    let pieces = rich_pcapng(LITTLE).concat();
    for packed in [gzip(&pieces), zst(&pieces)] {
        for at in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 0xff;
            let _ = read_bytes(&damaged);
            let _ = read_bytes(&packed[..at]);
        }
    }
}

#[test]
fn what_is_no_capture_is_called_by_its_name() {
    let tar = {
        let mut tar = b"capture.pcap".to_vec();
        tar.resize(257, 0);
        tar.extend(b"ustar\x0000");
        tar.resize(512, 0);
        tar
    };
    let table: &[(&[u8], &str)] = &[
        (b"ab", "a file of 2 bytes"),
        (b"hello world, this is a note", "text"),
        ("grüße".as_bytes(), "text"),
        (b"\x7fELF\x02\x01\x01", "ELF"),
        (b"PK\x03\x04....", "ZIP"),
        (b"\xfd7zXZ\0....", "xz"),
        (b"BZh91AY", "bzip2"),
        (&tar, "tar"),
        (&[0; 64], "zero bytes"),
        (b"POST /users/bob/inbox HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP messages"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "HTTP messages"),
        (b"10.0.0.1 - - [24/Nov/2026:08:00:00 +0000] \"GET / HTTP/1.1\" 200 5\n", "access log"),
        (b"{\"ClientAddr\":\"10.0.0.1\",\"RequestMethod\":\"GET\"}\n", "access log"),
        (b"08:24:50.123456 IP 10.0.0.1.80 > 10.0.0.2.4242: Flags [S], seq 1\n", "tcpdump prints"),
        (b"{\"log\":{\"version\":\"1.2\",\"creator\":{}}}", "HAR"),
        (b"{\"a\":1}", "JSON"),
        (b"<!doctype html>", "HTML"),
        (b"redb\x1a\x0a\xa9\x0d\x0a", "a store"),
        (b"snoop\0\0\0\0\0\0\x02", "snoop"),
        (b"\x01\x02\x03\x04\x05\x06", "begins with 01 02 03 04 05 06"),
    ];
    for (bytes, like) in table {
        for (file, compression) in [
            (bytes.to_vec(), None),
            (gzip(bytes), Some(Compression::Gzip)),
            (zst(bytes), Some(Compression::Zstd)),
        ] {
            match read_bytes(&file).1 {
                Some(Error::NotACapture { looks_like, compression: c, .. }) => {
                    assert!(looks_like.contains(like), "{looks_like} is not {like}");
                    assert_eq!(c, compression);
                }
                other => panic!("{like}: {other:?}"),
            }
        }
    }
    assert!(matches!(read_bytes(b"").1, Some(Error::Empty { compression: None, .. })));
    assert!(matches!(read_bytes(&gzip(b"")).1, Some(Error::Empty { compression: Some(_), .. })));
    assert!(matches!(read_bytes(&zst(b"")).1, Some(Error::Empty { compression: Some(_), .. })));
}

#[test]
fn what_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| Source::open(path).unwrap_err();
    assert!(matches!(open(&folder.path().join("none")), Error::Missing { .. }));
    assert!(matches!(open(folder.path()), Error::Directory { .. }));
    assert!(matches!(open(&folder.path().join("none/none")), Error::Missing { .. }));
    let empty = folder.path().join("empty");
    File::create(&empty).unwrap();
    let error = open(&empty);
    assert!(error.to_string().starts_with(&format!("{}: is empty", empty.display())), "{error}");
    // Root may read everything.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o0)).unwrap();
    if File::open(&empty).is_err() {
        assert!(matches!(open(&empty), Error::NoPermission { .. }));
    }
}

/// Some frames, then an error of the system.
struct Failing(Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.0.read(to)? {
            0 => Err(io::Error::from_raw_os_error(5)),
            n => Ok(n),
        }
    }
}

#[test]
fn an_error_of_the_system_comes_after_the_frames_before_it() {
    let file = noisy_pcap(10);
    for (bytes, compression) in [(file.clone(), None), (gzip(&file), Some(Compression::Gzip))] {
        let (items, error) = read(Failing(Cursor::new(bytes)));
        assert_eq!(items.len(), 10);
        match error {
            Some(Error::Read { place, source, .. }) => {
                assert_eq!(place, Place { offset: file.len() as u64, compression });
                assert_eq!(source.raw_os_error(), Some(5));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn progress_counts_the_bytes_of_the_file_itself() {
    let file = noisy_pcap(2_000);
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("plain", file.clone()), ("gzip", gzip(&file)), ("zstd", zst(&file))] {
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let mut source = Source::open(&path).unwrap();
        let mut before = 0;
        let mut steps = 0;
        while let Some(_item) = source.next().unwrap() {
            let progress = source.progress();
            assert!(progress.read >= before && progress.length == Some(bytes.len() as u64));
            steps += usize::from(progress.read > before);
            before = progress.read;
        }
        assert!(steps > 4, "{name} moved {steps} times");
        assert_eq!(source.progress().percent(), Some(100));
    }
    assert_eq!(Progress { read: 5, length: None }.percent(), None);
    assert_eq!(Progress { read: 5, length: Some(0) }.percent(), Some(100));
    assert_eq!(Progress { read: 9, length: Some(5) }.percent(), Some(100), "a file that grows");
    assert_eq!(Progress { read: 1, length: Some(3) }.percent(), Some(33));
}

#[test]
fn errors_name_file_offset_and_what_to_do() {
    let cut = Error::CutOff {
        name: "a.pcap.gz".into(),
        place: Place { offset: 1234, compression: Some(Compression::Gzip) },
        end: 1300,
        what: "the record",
    };
    assert_eq!(
        cut.to_string(),
        "a.pcap.gz: cut off: the record at byte 1234 of the decompressed data (gzip) is not whole, the data end at \
         byte 1300; all before it was read. Copy the file again if it should be longer"
    );
}
