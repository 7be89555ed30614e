//! HPACK against the examples of RFC 7541 appendix C, against an independent Huffman coder, and after losses.

#![allow(clippy::arithmetic_side_effects, clippy::string_slice)]

use proptest::prelude::*;

use super::*;

type Owned = (Option<Vec<u8>>, Option<Vec<u8>>);

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Owned>, Error> {
    let mut fields = Vec::new();
    decoder.decode(block, &mut |(name, value)| {
        fields.push((name.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec)));
    })?;
    Ok(fields)
}

/// `name: value` a line; `?` is unknown.
fn shown(decoder: &mut Decoder, block: &[u8]) -> String {
    match decode(decoder, block) {
        Ok(fields) => {
            let part = |p: &Option<Vec<u8>>| {
                p.as_ref().map_or("?".into(), |p| String::from_utf8_lossy(p).into_owned())
            };
            fields.iter().map(|(n, v)| format!("{}: {}\n", part(n), part(v))).collect()
        }
        Err(error) => format!("error: {error}\n"),
    }
}

#[test]
fn the_examples_of_the_rfc_decode() {
    const REQUEST_1: &str = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
    const REQUEST_2: &str =
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache\n";
    const REQUEST_3: &str = ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n\
                             custom-key: custom-value\n";
    const RESPONSE_1: &str = ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
                              location: https://www.example.com\n";
    const RESPONSE_2: &str = ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
                              location: https://www.example.com\n";
    const RESPONSE_3: &str = ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n\
                              location: https://www.example.com\ncontent-encoding: gzip\n\
                              set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n";
    // (section, table size to begin with, [(block, fields, size of the table afterwards)])
    type Example = (&'static str, Option<usize>, &'static [(&'static str, &'static str, usize)]);
    let examples: &[Example] = &[
        (
            "C.2.1",
            None,
            &[(
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                "custom-key: custom-header\n",
                55,
            )],
        ),
        ("C.2.2", None, &[("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path\n", 0)]),
        ("C.2.3", None, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret\n", 0)]),
        ("C.2.4", None, &[("82", ":method: GET\n", 0)]),
        (
            "C.3",
            None,
            &[
                ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUEST_1, 57),
                ("8286 84be 5808 6e6f 2d63 6163 6865", REQUEST_2, 110),
                ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", REQUEST_3, 164),
            ],
        ),
        (
            "C.4",
            None,
            &[
                ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUEST_1, 57),
                ("8286 84be 5886 a8eb 1064 9cbf", REQUEST_2, 110),
                ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUEST_3, 164),
            ],
        ),
        (
            "C.5",
            Some(256),
            &[
                (
                    "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 \
                 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                    RESPONSE_1,
                    222,
                ),
                ("4803 3330 37c1 c0bf", RESPONSE_2, 222),
                (
                    "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a \
                 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d \
                 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
                    RESPONSE_3,
                    215,
                ),
            ],
        ),
        (
            "C.6",
            Some(256),
            &[
                (
                    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d \
                 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                    RESPONSE_1,
                    222,
                ),
                ("4883 640e ffc1 c0bf", RESPONSE_2, 222),
                (
                    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d \
                 d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 \
                 3d50 07",
                    RESPONSE_3,
                    215,
                ),
            ],
        ),
    ];
    for (section, limit, blocks) in examples {
        let mut decoder = Decoder::new();
        if let Some(limit) = limit {
            decoder.limit = *limit;
        }
        for (block, fields, size) in *blocks {
            assert_eq!(shown(&mut decoder, &unhex(block)), *fields, "{section} {block}");
            assert_eq!(decoder.held(), *size, "{section} {block}");
        }
        assert!(!decoder.is_lost(), "{section}");
    }
}

#[test]
fn a_lost_table_says_what_is_unknown_and_learns_again() {
    let mut decoder = Decoder::mid_stream();
    // An entry of the time before, then one with a name of the time before, then what was inserted since.
    let table: &[(&str, &str)] = &[
        ("be", "?: ?\n"),
        ("88", ":status: 200\n"),
        ("7e 03 666f6f", "?: foo\n"),
        ("be", "?: foo\n"),
        ("40 01 61 01 62", "a: b\n"),
        ("be bf c0", "a: b\n?: foo\n?: ?\n"),
        ("0f2f 03 626172", "a: bar\n"),
        ("0f30 03 626172", "?: bar\n"),
    ];
    for (block, fields) in table {
        assert_eq!(shown(&mut decoder, &unhex(block)), *fields, "{block}");
    }
    // Header blocks in a gap: everything older is at an unknown place.
    decoder.lose();
    assert_eq!(shown(&mut decoder, &unhex("be")), "?: ?\n");
    assert!(decoder.is_lost());
    // The sender empties its table: now it is wholly known, and a bad index is an error again.
    assert_eq!(shown(&mut decoder, &unhex("20 3fe11f 40016101 62")), "a: b\n");
    assert!(!decoder.is_lost());
    assert_eq!(shown(&mut decoder, &unhex("be")), "a: b\n");
    assert_eq!(shown(&mut decoder, &unhex("bf")), "error: index 63 is not in the table\n");
    assert!(decoder.is_lost());
}

#[test]
fn an_entry_too_large_for_the_assumed_table_keeps_its_place() {
    let mut decoder = Decoder::mid_stream();
    let long = vec![b'x'; ASSUMED_LIMIT];
    let mut block = vec![0x40, 1, b'a'];
    encode_integer(long.len(), 7, 0, &mut block);
    block.extend_from_slice(&long);
    decode(&mut decoder, &block).unwrap();
    assert_eq!(shown(&mut decoder, &unhex("40 01 62 01 63 be bf")), "b: c\nb: c\n?: ?\n");
}

#[test]
fn an_entry_too_large_for_the_table_empties_it() {
    let mut decoder = Decoder::new();
    // Size 64: `a: b` fits, 40 octets do not.
    decode(&mut decoder, &unhex("3f21 40 01 61 01 62")).unwrap();
    assert_eq!(decoder.held(), 34);
    let mut block = unhex("40 01 63 28");
    block.extend([b'x'; 40]);
    decode(&mut decoder, &block).unwrap();
    assert_eq!(decoder.held(), 0);
    assert_eq!(shown(&mut decoder, &unhex("be")), "error: index 62 is not in the table\n");
}

#[test]
fn what_is_kept_is_bounded_whatever_the_peers_agreed_on() {
    let mut decoder = Decoder::new();
    let mut block = Vec::new();
    encode_integer(u32::MAX as usize, 5, 0x20, &mut block);
    for n in 0..100_000_u32 {
        block.extend([0x40, 4]);
        block.extend(n.to_be_bytes());
        block.push(0);
    }
    decode(&mut decoder, &block).unwrap();
    assert!(decoder.held() <= KEEP_LIMIT);
    assert!(decoder.is_lost(), "older entries exist and are not kept");
    assert_eq!(
        decode(&mut decoder, &[0xbe]).unwrap(),
        [(Some(99_999_u32.to_be_bytes().to_vec()), Some(vec![]))]
    );
    let mut far = Vec::new();
    encode_integer(50_000, 7, 0x80, &mut far);
    assert_eq!(decode(&mut decoder, &far).unwrap(), [(None, None)]);
}

#[test]
fn damaged_blocks_are_errors_with_a_name() {
    for (block, error) in [
        ("80", Error::Index(0)),
        ("be", Error::Index(62)),
        ("ff", Error::Truncated),
        ("ffffffffffff01", Error::Integer),
        ("ff8080808080808000", Error::Integer),
        ("40", Error::Truncated),
        ("4003 6162", Error::Truncated),
        ("40 01 61 05 62", Error::Truncated),
        // Huffman: EOS alone, padding of zeros, a whole octet of padding.
        ("40 84 ffffffff 00", Error::Huffman),
        ("40 81 18 00", Error::Huffman),
        ("40 82 1f ff 00", Error::Huffman),
    ] {
        let mut decoder = Decoder::new();
        assert_eq!(decode(&mut decoder, &unhex(block)), Err(error), "{block}");
        assert!(decoder.is_lost(), "{block}");
    }
}

fn encode_integer(value: usize, prefix: u32, first: u8, out: &mut Vec<u8>) {
    let most = (1_usize << prefix) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// An encoder as plain as the RFC: it indexes what it can, and inserts, hides or updates as the test says.
#[derive(Default)]
pub(in crate::http) struct Encoder {
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    limit: Option<usize>,
}

impl Encoder {
    fn trim(&mut self) {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        while self.entries.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>() > limit {
            self.entries.pop_back();
        }
    }

    fn resize(&mut self, limit: usize, out: &mut Vec<u8>) {
        self.limit = Some(limit);
        encode_integer(limit, 5, 0x20, out);
        self.trim();
    }

    fn string(text: &[u8], huffman: bool, out: &mut Vec<u8>) {
        let mut coded = Vec::new();
        if huffman {
            httlib_huffman::encode(text, &mut coded).unwrap();
        } else {
            coded.extend_from_slice(text);
        }
        encode_integer(coded.len(), 7, if huffman { 0x80 } else { 0 }, out);
        out.extend(coded);
    }

    pub(in crate::http) fn field(
        &mut self,
        name: &[u8],
        value: &[u8],
        insert: bool,
        huffman: bool,
        out: &mut Vec<u8>,
    ) {
        let all = || {
            STATIC
                .iter()
                .map(|(n, v)| (n.as_bytes(), v.as_bytes()))
                .chain(self.entries.iter().map(|(n, v)| (&**n, &**v)))
        };
        if let Some(place) = all().position(|(n, v)| n == name && v == value) {
            return encode_integer(place + 1, 7, 0x80, out);
        }
        let index = all().position(|(n, _)| n == name).map_or(0, |p| p + 1);
        encode_integer(index, if insert { 6 } else { 4 }, if insert { 0x40 } else { 0 }, out);
        if index == 0 {
            Self::string(name, huffman, out);
        }
        Self::string(value, huffman, out);
        if insert {
            self.entries.push_front((name.to_vec(), value.to_vec()));
            self.trim();
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Field { name: Vec<u8>, value: Vec<u8>, insert: bool, huffman: bool },
    Resize(usize),
}

fn steps() -> impl Strategy<Value = Vec<(bool, Vec<Step>)>> {
    let name = prop_oneof![
        prop::sample::select(vec![&b":status"[..], b"content-type", b"x-a", b"x-b", b"date"])
            .prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    let value = prop_oneof![
        prop::sample::select(vec![&b"200"[..], b"", b"one", b"two"]).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..200),
    ];
    let step = prop_oneof![
        12 => (name, value, any::<bool>(), any::<bool>())
            .prop_map(|(name, value, insert, huffman)| Step::Field { name, value, insert, huffman }),
        1 => prop_oneof![Just(0_usize), 0_usize..300, Just(4096), Just(100_000)].prop_map(Step::Resize),
    ];
    prop::collection::vec((prop::bool::weighted(0.85), prop::collection::vec(step, 0..12)), 0..24)
}

proptest! {
    /// What a listener says of blocks of which it missed some: never a wrong field, all fields where it missed none.
    #[test]
    fn never_a_wrong_field_whatever_was_missed(blocks in steps(), from_start in any::<bool>()) {
        let mut encoder = Encoder::default();
        let mut decoder = if from_start { Decoder::new() } else { Decoder::mid_stream() };
        let mut whole = from_start;
        for (seen, steps) in blocks {
            let mut block = Vec::new();
            let mut sent = Vec::new();
            for step in steps {
                match step {
                    Step::Field { name, value, insert, huffman } => {
                        encoder.field(&name, &value, insert, huffman, &mut block);
                        sent.push((name, value));
                    }
                    Step::Resize(limit) => encoder.resize(limit, &mut block),
                }
            }
            if !seen {
                decoder.lose();
                whole = false;
                continue;
            }
            let got = decode(&mut decoder, &block).unwrap();
            prop_assert_eq!(got.len(), sent.len());
            for ((name, value), (true_name, true_value)) in got.into_iter().zip(sent) {
                if whole {
                    prop_assert!(name.is_some() && value.is_some());
                }
                if let Some(name) = name { prop_assert_eq!(name, true_name); }
                if let Some(value) = value { prop_assert_eq!(value, true_value); }
            }
            prop_assert!(decoder.held() <= KEEP_LIMIT);
        }
    }

    #[test]
    fn huffman_agrees_with_an_independent_coder(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut coded, mut plain) = (Vec::new(), Vec::new());
        httlib_huffman::encode(&text, &mut coded).unwrap();
        huffman_decode(&coded, &mut plain).unwrap();
        prop_assert_eq!(plain, text);
    }

    #[test]
    fn random_octets_are_no_panic_and_bounded(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..20)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            let _ = decode(&mut decoder, &block);
            prop_assert!(decoder.held() <= KEEP_LIMIT);
        }
    }
}
