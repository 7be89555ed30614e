//! Bodies: codings made by independent encoders, limits, holes and the account.

use std::io::Write as _;

use flate2::Compression;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::http::body::{BodyBuilder, Budget};
use crate::http::{AnomalyKind, Body, Config, Headers};

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in fields {
        headers.push(Some(name.as_bytes()), Some(value.as_bytes()));
    }
    headers
}

fn sha(bytes: &[u8]) -> Option<[u8; 32]> {
    Some(Sha256::digest(bytes).into())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new()
        .filename("n")
        .comment("c")
        .extra(vec![1, 2, 3])
        .write(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// Compressible, and not a mere repetition.
fn text(length: usize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut n = 7_u32;
    while text.len() < length {
        n = n.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        write!(text, "{{\"id\":{},\"type\":\"Note\"}}", n >> 12).unwrap();
    }
    text.truncate(length);
    text
}

/// What the brotli fixture decodes to (it was made by node's zlib module).
fn notes() -> Vec<u8> {
    let mut text = String::new();
    for i in 0..40 {
        text += &format!(
            "{{\"type\":\"Note\",\"id\":\"https://a.example/notes/{i}\",\"content\":\"<p>Hello {}</p>\"}}\n",
            i * 7919 % 1000
        );
    }
    text.into_bytes()
}

const NOTES_BR: &[u8] = include_bytes!("notes.br");
const ZEROS_BR: &[u8] = include_bytes!("zeros-100m.br");

struct Got {
    body: Body,
    kinds: Vec<AnomalyKind>,
}

/// Pushes in pieces, checks that the account is settled at the end.
fn run(fields: &[(&str, &str)], status: Option<u16>, pieces: &[&[u8]], config: &Config) -> Got {
    let mut budget = Budget::new();
    let mut builder = BodyBuilder::new(&headers(fields), status, config);
    for piece in pieces {
        builder.data(piece, config, &mut budget);
        assert!(budget.held() <= config.body_budget);
    }
    let (body, anomalies) = builder.finish(true, config, &mut budget);
    assert_eq!(budget.held(), 0, "everything is given back");
    Got { body, kinds: anomalies.iter().map(|a| a.kind).collect() }
}

fn decoded(encoding: &str, coded: &[u8]) -> Got {
    run(&[("Content-Encoding", encoding)], Some(200), &[coded], &Config::default())
}

#[track_caller]
fn assert_whole(got: &Got, content: &[u8], coded: &[u8]) {
    assert_eq!(got.body.bytes, content);
    assert_eq!(got.body.size, content.len() as u64);
    assert_eq!(got.body.coded_size, coded.len() as u64);
    assert_eq!(got.body.wire_size, coded.len() as u64);
    assert!(got.body.complete);
    assert_eq!(got.body.sha256, sha(content));
    assert_eq!(got.body.coded_sha256, sha(coded));
    assert_eq!(got.body.holes, []);
}

#[test]
fn each_coding_is_removed() {
    let content = text(5000);
    for (encoding, coded) in [
        ("gzip", gzip(&content)),
        ("x-gzip", gzip(&content)),
        ("GZip", gzip(&content)),
        ("deflate", zlib(&content)),
        ("zstd", zstd(&content)),
        ("identity", content.clone()),
        ("gzip, identity", gzip(&content)),
        ("gzip, zstd", zstd(&gzip(&content))),
        ("deflate,gzip, zstd", zstd(&gzip(&zlib(&content)))),
        ("gzip, gzip", gzip(&gzip(&content))),
    ] {
        let got = decoded(encoding, &coded);
        assert_whole(&got, &content, &coded);
        assert_eq!(got.kinds, [], "{encoding}");
    }
    let got = decoded("br", NOTES_BR);
    assert_whole(&got, &notes(), NOTES_BR);
    assert_eq!(got.kinds, []);
    let stacked = gzip(NOTES_BR);
    let got = decoded("br, gzip", &stacked);
    assert_whole(&got, &notes(), &stacked);
    assert_eq!(got.body.encoding.as_deref(), Some("br, gzip"));
}

#[test]
fn codings_in_several_fields_are_one_list() {
    let content = text(100);
    let coded = zstd(&gzip(&content));
    let fields = [("content-encoding", "gzip"), ("Content-Encoding", " ZSTD ")];
    let got = run(&fields, None, &[&coded], &Config::default());
    assert_whole(&got, &content, &coded);
    assert_eq!(got.body.encoding.as_deref(), Some("gzip, zstd"));
}

#[test]
fn what_browsers_forgive_is_forgiven_and_named() {
    let content = text(3000);
    let without = |coded: Vec<u8>, octets: usize| coded[..coded.len() - octets].to_vec();
    let with = |mut coded: Vec<u8>| {
        coded.extend_from_slice(b"trailing garbage");
        coded
    };
    for (what, encoding, coded) in [
        ("raw deflate", "deflate", raw_deflate(&content)),
        ("zlib without Adler-32", "deflate", without(zlib(&content), 4)),
        ("gzip without trailer", "gzip", without(gzip(&content), 8)),
        ("gzip with half a trailer", "gzip", without(gzip(&content), 5)),
        ("gzip and garbage", "gzip", with(gzip(&content))),
        ("zlib and garbage", "deflate", with(zlib(&content))),
        ("zstd and garbage", "zstd", with(zstd(&content))),
    ] {
        let got = decoded(encoding, &coded);
        assert_whole(&got, &content, &coded);
        assert_eq!(got.kinds, [AnomalyKind::LooseCoding], "{what}");
    }
    let coded = with(NOTES_BR.to_vec());
    let got = decoded("br", &coded);
    assert_whole(&got, &notes(), &coded);
    assert_eq!(got.kinds, [AnomalyKind::LooseCoding]);
}

#[test]
fn members_and_frames_in_a_row_are_one_content() {
    let (one, two) = (text(1000), text(2000));
    let both = [one.clone(), two.clone()].concat();
    for (encoding, coded) in
        [("gzip", [gzip(&one), gzip(&two)].concat()), ("zstd", [zstd(&one), zstd(&two)].concat())]
    {
        let got = decoded(encoding, &coded);
        assert_whole(&got, &both, &coded);
        assert_eq!(got.kinds, [], "{encoding}");
    }
}

#[test]
fn a_corrupt_body_keeps_what_decoded_and_is_not_complete() {
    let content = text(60_000);
    for (encoding, coded) in [("gzip", gzip(&content)), ("deflate", zlib(&content)), ("zstd", zstd(&content))]
    {
        // Cut off, though the framing says that this is all.
        let cut = &coded[..coded.len() / 2];
        let got = decoded(encoding, cut);
        assert_eq!(got.kinds, [AnomalyKind::ContentDecoding], "{encoding}");
        assert!(!got.body.complete);
        assert_eq!(got.body.sha256, None);
        assert_eq!(got.body.coded_sha256, sha(cut));
        assert_eq!(got.body.size, got.body.bytes.len() as u64);
        assert!(content.starts_with(&got.body.bytes));
        // Not that coding at all.
        let got = decoded(encoding, b"{\"type\":\"Note\"}");
        assert_eq!(got.kinds, [AnomalyKind::ContentDecoding], "{encoding}");
        assert_eq!((got.body.complete, got.body.size), (false, 0));
    }
    // A checksum that differs is no small matter.
    for (encoding, mut coded) in [("gzip", gzip(&content)), ("deflate", zlib(&content))] {
        let at = coded.len() - if encoding == "gzip" { 8 } else { 1 };
        coded[at] ^= 1;
        let got = decoded(encoding, &coded);
        assert_eq!(got.kinds, [AnomalyKind::ContentDecoding], "{encoding}");
        assert!(!got.body.complete);
    }
}

#[test]
fn an_unknown_coding_leaves_the_octets_as_they_are() {
    for encoding in ["compress", "gzip, aws-chunked", "utf-8", "gzip,gzip,gzip,gzip,gzip"] {
        let got = decoded(encoding, b"abc");
        assert_eq!(got.kinds, [AnomalyKind::ContentDecoding]);
        assert_eq!((got.body.bytes.as_slice(), got.body.size), (b"abc".as_slice(), 3));
        assert_eq!((got.body.complete, got.body.sha256), (false, None));
        assert_eq!(got.body.coded_sha256, sha(b"abc"));
        let empty = run(&[("content-encoding", encoding)], Some(200), &[], &Config::default());
        assert_eq!((empty.kinds, empty.body.complete), (vec![], true));
    }
}

#[test]
fn a_field_without_a_body_is_an_empty_body() {
    for fields in
        [&[][..], &[("Content-Encoding", "gzip")], &[("Content-Encoding", "br")], &[("Content-Encoding", "")]]
    {
        let got = run(fields, Some(304), &[], &Config::default());
        assert!(got.body.complete);
        assert_eq!((got.body.size, got.body.wire_size), (0, 0));
        assert_eq!(got.body.sha256, sha(b""));
        assert_eq!(got.body.coded_sha256, sha(b""));
        assert_eq!(got.kinds, []);
    }
}

#[test]
fn a_range_of_a_coded_body_is_not_decoded_unless_it_is_all() {
    let content = text(500);
    let coded = gzip(&content);
    let all = format!("bytes 0-{}/{}", coded.len() - 1, coded.len());
    let fields = [("Content-Encoding", "gzip"), ("Content-Range", all.as_str())];
    assert_whole(&run(&fields, Some(206), &[&coded], &Config::default()), &content, &coded);
    let fields = [("Content-Encoding", "gzip"), ("Content-Range", "bytes 10-59/4000")];
    let got = run(&fields, Some(206), &[&coded[10..60]], &Config::default());
    assert_eq!(got.kinds, [AnomalyKind::ContentDecoding]);
    assert_eq!(got.body.bytes, &coded[10..60]);
    assert!(!got.body.complete);
    // An identity range is simply what came.
    let got =
        run(&[("Content-Range", "bytes 10-59/4000")], Some(206), &[&content[10..60]], &Config::default());
    assert_whole(&got, &content[10..60], &content[10..60]);
}

#[test]
fn bombs_stop_at_the_limit() {
    let zeros = vec![0; 10 << 20];
    let config = Config { decoded_limit: 1 << 20, decoded_ratio: 100, ..Config::default() };
    for (encoding, coded) in [
        ("gzip", gzip(&zeros)),
        ("deflate", zlib(&zeros)),
        ("zstd", zstd(&zeros)),
        ("br", ZEROS_BR.to_vec()),
        ("zstd, gzip", gzip(&zstd(&zeros))),
        ("gzip, gzip", gzip(&gzip(&zeros))),
    ] {
        let got = run(&[("Content-Encoding", encoding)], Some(200), &[&coded], &config);
        assert_eq!(got.kinds, [AnomalyKind::DecodedTooLarge], "{encoding}");
        assert_eq!(got.body.size, (1 << 20).max(coded.len() as u64 * 100), "{encoding}");
        assert!(!got.body.complete);
        assert_eq!(got.body.coded_sha256, sha(&coded));
    }
    // Dense, but small enough in all.
    let config = Config { decoded_limit: 100 << 20, ..config };
    let got = run(&[("Content-Encoding", "br")], Some(200), &[ZEROS_BR], &config);
    assert_eq!((got.body.size, got.body.complete), (100 << 20, true));
    // Large, but not dense.
    let noise: Vec<u8> = (0..2_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let config = Config { decoded_limit: 1 << 20, ..Config::default() };
    let got = run(&[("Content-Encoding", "gzip")], Some(200), &[&gzip(&noise)], &config);
    assert_eq!((got.body.size, got.body.complete), (noise.len() as u64, true));
}

#[test]
fn only_the_beginning_is_kept_and_all_of_it_is_hashed() {
    let content = text(200_000);
    let config = Config { keep_body: 1000, ..Config::default() };
    for (fields, coded) in [
        (&[][..], content.clone()),
        (&[("Content-Encoding", "gzip")], gzip(&content)),
        (&[("Content-Encoding", "zstd")], zstd(&content)),
    ] {
        let pieces: Vec<&[u8]> = coded.chunks(700).collect();
        let got = run(fields, None, &pieces, &config);
        assert_eq!(got.body.bytes, &content[..1000]);
        assert_eq!(got.body.size, 200_000);
        assert_eq!((got.body.sha256, got.body.coded_sha256), (sha(&content), sha(&coded)));
        assert!(got.body.complete);
        assert_eq!(got.kinds, []);
        let bare = Config { keep_body: 0, hash: false, ..Config::default() };
        let got = run(fields, None, &pieces, &bare);
        assert_eq!((got.body.size, got.body.complete), (200_000, true));
        assert_eq!((got.body.sha256, got.body.coded_sha256, got.body.bytes.len()), (None, None, 0));
    }
}

#[test]
fn without_decoding_a_coded_body_is_counted_and_hashed_as_it_came() {
    let coded = gzip(&text(100));
    let config = Config { decode_content: false, ..Config::default() };
    let got = run(&[("Content-Encoding", "gzip")], None, &[&coded], &config);
    assert_eq!((got.body.size, got.body.coded_size), (coded.len() as u64, coded.len() as u64));
    assert_eq!((got.body.sha256, got.body.coded_sha256), (None, sha(&coded)));
    assert_eq!((got.body.bytes.len(), got.body.complete), (0, true));
    assert_eq!(got.kinds, []);
}

#[test]
fn a_hole_in_an_identity_body_has_its_place() {
    let config = Config::default();
    let mut budget = Budget::new();
    let mut builder = BodyBuilder::new(&Headers::default(), None, &config).expecting(30);
    builder.data(b"0123456789", &config, &mut budget);
    builder.gap(5);
    builder.gap(3);
    builder.data(b"8901", &config, &mut budget);
    builder.framing(7);
    builder.gap(2);
    let (body, anomalies) = builder.finish(true, &config, &mut budget);
    assert_eq!(body.holes, [(10, 8), (22, 2)]);
    assert_eq!(body.bytes, b"01234567898901");
    assert_eq!((body.size, body.coded_size, body.wire_size), (24, 24, 31));
    assert_eq!((body.complete, body.sha256, body.coded_sha256), (false, None, None));
    assert_eq!(anomalies, []);
    assert_eq!(budget.held(), 0);
}

#[test]
fn a_hole_in_a_coded_body_ends_what_can_be_decoded() {
    let content = text(300_000);
    for coded in [gzip(&content[..20_000]), gzip(&content)] {
        let config = Config::default();
        let mut budget = Budget::new();
        let mut builder = BodyBuilder::new(&headers(&[("Content-Encoding", "gzip")]), None, &config);
        let (one, rest) = coded.split_at(coded.len() / 2);
        for piece in one.chunks(1000) {
            builder.data(piece, &config, &mut budget);
        }
        builder.gap(100);
        for piece in rest[100..].chunks(1000) {
            builder.data(piece, &config, &mut budget);
        }
        let (body, anomalies) = builder.finish(true, &config, &mut budget);
        assert_eq!(body.coded_size, coded.len() as u64);
        assert!(body.size > 1000 && content.starts_with(&body.bytes));
        assert_eq!((body.complete, body.sha256, body.coded_sha256), (false, None, None));
        assert_eq!(anomalies, [], "the hole says it");
        assert_eq!(budget.held(), 0);
    }
}

#[test]
fn a_spent_budget_is_said_and_the_sizes_stay_right() {
    let content = text(100_000);
    let config = Config { body_budget: 40_000, ..Config::default() };
    let pieces: Vec<&[u8]> = content.chunks(1448).collect();
    let got = run(&[], None, &pieces, &config);
    assert_eq!(got.kinds, [AnomalyKind::BodyBudget]);
    assert_eq!(got.body.size, 100_000);
    assert_eq!((got.body.sha256, got.body.complete), (sha(&content), true), "hashing needs no memory");
    assert!(!got.body.bytes.is_empty() && content.starts_with(&got.body.bytes));
    // Coded: what could be held is decoded, the rest is not, and its own hash is still right.
    let noise: Vec<u8> =
        (0..100_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 16).to_le_bytes()).collect();
    let coded = gzip(&noise);
    let pieces: Vec<&[u8]> = coded.chunks(1448).collect();
    let got = run(&[("Content-Encoding", "gzip")], None, &pieces, &config);
    assert!(got.kinds.contains(&AnomalyKind::BodyBudget));
    assert_eq!((got.body.complete, got.body.sha256, got.body.coded_sha256), (false, None, sha(&coded)));
    assert!(got.body.size > 0 && noise.starts_with(&got.body.bytes));
    assert_eq!(got.body.coded_size, coded.len() as u64);
}

#[test]
fn the_largest_are_refused_first() {
    let config = Config { body_budget: 100_000, ..Config::default() };
    let mut budget = Budget::new();
    let mut large = BodyBuilder::new(&Headers::default(), None, &config);
    for _ in 0..100 {
        large.data(&[0; 10_000], &config, &mut budget);
    }
    assert!(budget.held() <= 50_000);
    let mut small: Vec<_> = (0..20).map(|_| BodyBuilder::new(&Headers::default(), None, &config)).collect();
    for builder in &mut small {
        builder.data(&[1; 1000], &config, &mut budget);
    }
    for builder in small {
        assert_eq!(builder.finish(true, &config, &mut budget).1, []);
    }
    assert_eq!(large.finish(true, &config, &mut budget).1[0].kind, AnomalyKind::BodyBudget);
    assert_eq!(budget.held(), 0);
}

#[test]
fn a_builder_without_content_is_small() {
    assert!(size_of::<BodyBuilder>() <= 176, "{}", size_of::<BodyBuilder>());
}

fn coding() -> impl Strategy<Value = (&'static str, Vec<u8>, Vec<u8>)> {
    (0..6_usize, 0..150_000_usize).prop_map(|(kind, length)| {
        let content = text(length);
        match kind {
            0 => ("gzip", gzip(&content), content),
            1 => ("deflate", zlib(&content), content),
            2 => ("deflate", raw_deflate(&content), content),
            3 => ("zstd", zstd(&content), content),
            4 => ("zstd, gzip", gzip(&zstd(&content)), content),
            _ => ("br", NOTES_BR.to_vec(), notes()),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cutting_the_octets_anywhere_gives_the_same_body(
        (encoding, coded, content) in coding(),
        sizes in prop::collection::vec(1..5000_usize, 1..20),
    ) {
        let mut pieces = Vec::new();
        let mut rest = coded.as_slice();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let cut = run(&[("Content-Encoding", encoding)], None, &pieces, &Config::default());
        let whole = decoded(encoding, &coded);
        prop_assert_eq!(&cut.body, &whole.body);
        prop_assert_eq!(cut.kinds, whole.kinds);
        prop_assert!(coded.is_empty() || cut.body.bytes == content);
    }

    #[test]
    fn no_octets_make_it_panic_or_pass_its_limits(
        encoding in prop::sample::select(vec!["gzip", "deflate", "br", "zstd", "br, gzip", "zstd, deflate"]),
        (_, mut octets, _) in coding(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..10),
    ) {
        for (at, value) in damage {
            if !octets.is_empty() {
                let at = at.index(octets.len());
                octets[at] = value;
            }
        }
        let config = Config { decoded_limit: 1 << 20, keep_body: 64 << 10, ..Config::default() };
        let pieces: Vec<&[u8]> = octets.chunks(1000).collect();
        let got = run(&[("Content-Encoding", encoding)], None, &pieces, &config);
        prop_assert!(got.body.bytes.len() <= 64 << 10);
        prop_assert_eq!(got.body.coded_sha256, sha(&octets));
    }
}
