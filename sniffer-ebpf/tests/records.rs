//! What the kernel side writes, userspace reads; what it could not have written is refused with the reason.

use proptest::prelude::*;
use sniffer_ebpf::decode::{DecodeError, decode, encode};
use sniffer_ebpf::{CAPTURED_MAX, Header, Hook, VERSION};

fn header(captured_length: u32, wire_length: u32) -> Header {
    Header {
        boot_nanos: 1,
        sequence: 2,
        wire_length,
        captured_length,
        offset: 0,
        interface: 3,
        came_from: 5,
        cpu: 4,
        hook: 0,
        version: VERSION,
    }
}

fn record(header: Header, packet: &[u8]) -> Vec<u8> {
    [&encode(&header)[..], packet].concat()
}

#[test]
fn a_record_ends_where_its_header_says_and_the_rest_of_the_tier_is_ignored() {
    let bytes = record(header(3, 1500), b"abcdef");
    let got = decode(&bytes).unwrap();
    assert_eq!((got.packet, got.hook, got.header.wire_length), (&b"abc"[..], Hook::Ingress, 1500));
}

#[test]
fn what_no_program_writes_is_refused_with_the_reason() {
    assert_eq!(decode(&[0; 39]), Err(DecodeError::TooShort { length: 39 }));
    let other = Header { version: VERSION + 1, ..header(0, 0) };
    assert_eq!(decode(&record(other, b"")), Err(DecodeError::Version { found: VERSION + 1 }));
    let nowhere = Header { hook: 2, ..header(0, 0) };
    assert_eq!(decode(&record(nowhere, b"")), Err(DecodeError::Hook { found: 2 }));
    let short = DecodeError::Length { captured: 5, available: 4 };
    assert_eq!(decode(&record(header(5, 5), b"abcd")), Err(short));
    let longer_than_the_wire = DecodeError::Length { captured: 4, available: 4 };
    assert_eq!(decode(&record(header(4, 3), b"abcd")), Err(longer_than_the_wire));
    let beyond = Header { offset: u32::MAX, ..header(4, 4) };
    assert_eq!(decode(&record(beyond, b"abcd")), Err(longer_than_the_wire));
    let huge = CAPTURED_MAX + 1;
    assert!(matches!(decode(&record(header(huge, huge), b"")), Err(DecodeError::Length { .. })));
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn encoding_then_decoding_is_the_same(
        boot_nanos: u64, sequence: u64, interface: u32, came_from: u32, cpu: u16, hook in 0_u8..2,
        offset in 0_u32..600_000, more in 0_u32..9000,
        packet in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let captured_length = u32::try_from(packet.len()).unwrap();
        let header = Header {
            boot_nanos, sequence, wire_length: offset + captured_length + more, captured_length, offset, interface,
            came_from, cpu, hook, version: VERSION,
        };
        let bytes = record(header, &packet);
        let got = decode(&bytes).unwrap();
        prop_assert_eq!(got.header, header);
        prop_assert_eq!(got.packet, &packet[..]);
    }
}
