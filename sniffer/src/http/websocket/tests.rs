//! WebSocket conversations made by a small encoder, cut anywhere, with holes, picked up in the middle, and hostile.

#![allow(clippy::arithmetic_side_effects, clippy::string_slice)]

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::*;
use crate::flow::Direction::{ToClient, ToServer};

/// One frame as a peer would send it.
fn frame(direction: Direction, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let masked = if direction == ToServer { 0x80 } else { 0 };
    match payload.len() {
        n @ 0..126 => out.push(masked | n as u8),
        n @ 126..65_536 => {
            out.push(masked | 126);
            out.extend((n as u16).to_be_bytes());
        }
        n => {
            out.push(masked | 127);
            out.extend((n as u64).to_be_bytes());
        }
    }
    if direction == ToServer {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        out.extend(key);
        out.extend(payload.iter().zip(key.iter().cycle()).map(|(o, k)| o ^ k));
    } else {
        out.extend(payload);
    }
    out
}

fn deflated(compress: &mut Compress, text: &[u8]) -> Vec<u8> {
    if text.is_empty() {
        // RFC 7692 §7.2.3.6.
        return vec![0];
    }
    let mut out = Vec::with_capacity(text.len() * 2 + 64);
    compress.compress_vec(text, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

struct Run {
    talk: Talk,
    config: Config,
    budget: Budget,
}

impl Run {
    fn new(talk: Talk) -> Self {
        Self { talk, config: Config::default(), budget: Budget::new() }
    }

    fn data(&mut self, direction: Direction, bytes: &[u8]) -> &mut Self {
        self.talk.data(direction, Timestamp(7), bytes, true, &self.config, &mut self.budget);
        self
    }

    fn gap(&mut self, direction: Direction, length: u64) -> &mut Self {
        self.talk.gap(direction, Timestamp(7), length, &self.config, &mut self.budget);
        self
    }

    fn finish(self) -> (WebSocket, Vec<Anomaly>) {
        let Self { talk, config, mut budget } = self;
        let done = talk.finish(Timestamp(9), &config, &mut budget);
        assert_eq!(budget.held(), 0, "everything charged is given back");
        done
    }

    /// A line a message: direction, opcode, frames, size, `whole` or `cut`, the kept text. Then the anomalies.
    fn shown(self) -> String {
        let (told, anomalies) = self.finish();
        let message = |m: &WsMessage| {
            assert_eq!(m.sha256.is_some(), m.complete);
            if let Some(hash) = m.sha256 {
                assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(&m.bytes)));
            }
            let way = if m.to_server { "->" } else { "<-" };
            let cut = if m.complete { "whole" } else { "cut" };
            format!(
                "{way} {} {} {} {cut} {}\n",
                m.opcode,
                m.frames,
                m.size,
                String::from_utf8_lossy(&m.bytes)
            )
        };
        let odd = |a: &Anomaly| format!("! {}: {}\n", a.kind.id(), a.detail);
        told.messages.iter().map(message).chain(anomalies.iter().map(odd)).collect()
    }
}

#[test]
fn the_examples_of_the_rfc_decode() {
    // RFC 6455 §5.7.
    let mut run = Run::new(Talk::new(None));
    run.data(ToClient, &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f])
        .data(ToServer, &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58])
        .data(ToClient, &[0x01, 0x03, 0x48, 0x65, 0x6c])
        .data(ToClient, &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f])
        .data(ToServer, &[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58])
        .data(ToClient, &[0x80, 0x02, 0x6c, 0x6f]);
    let want = "<- 1 1 5 whole Hello\n-> 1 1 5 whole Hello\n<- 9 1 5 whole Hello\n-> 10 1 5 whole Hello\n\
                <- 1 2 5 whole Hello\n";
    assert_eq!(run.shown(), want);
}

#[test]
fn the_examples_of_the_deflate_rfc_decode() {
    // RFC 7692 §7.2.3: one block, a fragmented message, a shared window, no compression, BFINAL set, two blocks.
    let mut run = Run::new(Talk::new(Some("permessage-deflate; client_max_window_bits=15")));
    run.data(ToClient, &[0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00])
        .data(ToClient, &[0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00])
        .data(ToClient, &[0x41, 0x03, 0xf2, 0x48, 0xcd])
        .data(ToClient, &[0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00])
        .data(ToClient, &[0xc1, 0x0b, 0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00])
        .data(ToClient, &[0xc1, 0x08, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00])
        .data(
            ToClient,
            &[0xc1, 0x0d, 0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        );
    let hello = "<- 1 1 5 whole Hello\n";
    assert_eq!(run.shown(), format!("{hello}{hello}<- 1 2 5 whole Hello\n{hello}{hello}{hello}"),);
}

#[test]
fn a_hole_inside_a_payload_is_stepped_over() {
    let long = "x".repeat(200);
    let sent = frame(ToServer, 0x81, long.as_bytes());
    let mut run = Run::new(Talk::new(None));
    run.data(ToServer, &sent[..50]).gap(ToServer, 101).data(ToServer, &sent[151..]);
    run.data(ToServer, &frame(ToServer, 0x82, b"next"));
    // The hole reaches to the end of the payload: still in step.
    run.data(ToServer, &sent[..50]).gap(ToServer, sent.len() as u64 - 50);
    run.data(ToServer, &frame(ToServer, 0x82, b"last"));
    let cut = format!("-> 1 1 200 cut {}\n", "x".repeat(42));
    assert_eq!(run.shown(), format!("{cut}-> 2 1 4 whole next\n{cut}-> 2 1 4 whole last\n"));
}

#[test]
fn a_hole_elsewhere_makes_it_hunt_for_a_segment_that_begins_with_frames() {
    let mut run = Run::new(Talk::new(None));
    run.data(ToClient, &frame(ToClient, 0x01, b"part")).gap(ToClient, 3);
    run.data(ToClient, b"no frame at all");
    run.talk.data(
        ToClient,
        Timestamp(8),
        &frame(ToClient, 0x81, b"in the middle"),
        false,
        &run.config,
        &mut run.budget,
    );
    assert_eq!(run.talk.hunted(), 30);
    // The end of a message whose beginning was lost is told as such; then all is well.
    run.data(ToClient, &frame(ToClient, 0x80, b"end")).data(ToClient, &frame(ToClient, 0x81, b"new"));
    // The other direction never noticed.
    run.data(ToServer, &frame(ToServer, 0x81, b"hi"));
    assert_eq!(run.shown(), "<- 1 1 4 cut part\n<- 0 1 3 cut \n<- 1 1 3 whole new\n-> 1 1 2 whole hi\n");
}

#[test]
fn after_a_hole_a_compressed_message_is_told_only_if_it_needs_nothing_that_was_missed() {
    for (fresh, want) in [
        (
            true,
            "<- 1 1 16 cut one fish two fis\n<- 1 1 18 whole two fish red fish \n<- 1 1 19 whole blue fish one fish \n",
        ),
        (
            false,
            "<- 1 1 16 cut one fish two fis\n<- 1 1 0 cut \n<- 1 1 0 cut \n! content-decoding-failed: a compressed \
             message refers to data that was missed\n",
        ),
    ] {
        let mut compress = Compress::new(Compression::best(), false);
        let mut messages = Vec::new();
        for text in ["one fish two fish ", "two fish red fish ", "blue fish one fish "] {
            messages.push(frame(ToClient, 0xc1, &deflated(&mut compress, text.as_bytes())));
            if fresh {
                compress.reset();
            }
        }
        let extension =
            if fresh { "permessage-deflate; server_no_context_takeover" } else { "permessage-deflate" };
        let mut run = Run::new(Talk::new(Some(extension)));
        let first = messages[0].len();
        run.data(ToClient, &messages[0][..first - 3]).gap(ToClient, 3);
        run.data(ToClient, &messages[1]).data(ToClient, &messages[2]);
        let shown = run.shown();
        // How far the first message was decoded before the hole is the coder's business.
        let tail = |text: &str| text.split_once('\n').unwrap().1.to_owned();
        let cut = |text: &str| text.lines().filter(|l| l.contains(" cut ")).count();
        assert_eq!(cut(&shown), cut(want), "{shown}");
        if fresh {
            assert_eq!(tail(&shown), tail(want));
        } else {
            assert!(shown.ends_with("refers to data that was missed\n"), "{shown}");
        }
    }
}

#[test]
fn picked_up_in_the_middle_it_begins_at_the_first_whole_frame() {
    let mut run = Run::new(Talk::mid_stream());
    run.data(ToClient, b"rest of a text\"}").data(ToClient, &frame(ToClient, 0x81, b"{\"event\":1}"));
    // A lone short frame may be chance; the next one agrees.
    run.data(ToServer, &frame(ToServer, 0x89, b"ping")).data(ToServer, &frame(ToServer, 0x89, b"pong"));
    assert_eq!(run.shown(), "<- 1 1 11 whole {\"event\":1}\n-> 9 1 4 whole ping\n-> 9 1 4 whole pong\n");
}

#[test]
fn what_is_a_frame_and_what_is_not() {
    let long = frame(ToClient, 0x81, "é".repeat(400).as_bytes());
    for (direction, bytes, believed) in [
        (ToClient, frame(ToClient, 0x81, b"{\"a\":\"b\"}"), true),
        (ToServer, frame(ToServer, 0x81, b"{\"a\":\"b\"}"), true),
        // One short frame may be chance.
        (ToClient, frame(ToClient, 0x81, b"{}"), false),
        (ToClient, frame(ToClient, 0x82, b"{\"a\":\"b\"}"), false),
        (ToClient, frame(ToClient, 0x8a, b""), false),
        (ToClient, frame(ToClient, 0x8a, b"").repeat(2), true),
        (ToServer, frame(ToServer, 0x88, b"\x03\xe8"), true),
        (ToServer, frame(ToServer, 0x88, b"\x01\xe8"), false),
        (ToServer, frame(ToClient, 0x81, b"{}"), false),
        (ToClient, frame(ToServer, 0x81, b"{}"), false),
        (ToClient, long[..301].to_vec(), true),
        (ToClient, [frame(ToClient, 0x81, b"{}").repeat(2), vec![0x81]].concat(), true),
        (ToClient, [frame(ToClient, 0x81, b"{}"), vec![0x83, 0]].concat(), false),
        (ToClient, frame(ToClient, 0x81, &[0xff, 0xfe]), false),
        (ToClient, vec![0x81, 126, 0, 5, 1, 2, 3, 4, 5], false),
        (ToClient, vec![0x81], false),
        (ToClient, b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), false),
        (ToServer, b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
        (ToServer, vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03], false),
        (ToClient, b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x01\x00\x00".to_vec(), false),
    ] {
        assert_eq!(looks_like_frames(direction, &bytes), believed, "{bytes:02x?}");
    }
}

#[test]
fn violations_are_named_and_do_not_stop_it() {
    let whole = "<- 2 1 2 whole ok\n";
    for (bytes, want) in [
        (frame(ToServer, 0x82, b"ok"), format!("{whole}! websocket-protocol-error: a frame of the server with a mask\n")),
        (
            frame(ToClient, 0xa2, b"ok"),
            format!("{whole}! websocket-protocol-error: a reserved bit without an extension that uses it\n"),
        ),
        (
            vec![0x82, 126, 0, 2, b'o', b'k'],
            format!("{whole}! websocket-protocol-error: a length that is not in the shortest form\n"),
        ),
        (frame(ToClient, 0x83, b"ok"), "! websocket-protocol-error: a reserved opcode\n".to_owned()),
        (
            frame(ToClient, 0x80, b"ok"),
            "<- 0 1 2 cut \n! websocket-protocol-error: a continuation frame without a beginning\n".to_owned(),
        ),
        (
            [frame(ToClient, 0x01, b"a"), frame(ToClient, 0x82, b"ok")].concat(),
            format!("<- 1 1 1 cut a\n{whole}! websocket-protocol-error: a new message inside a fragmented one\n"),
        ),
        (
            frame(ToClient, 0x81, &[0xff]),
            "<- 1 1 1 whole \u{fffd}\n! websocket-protocol-error: a text message that is not UTF-8\n".to_owned(),
        ),
        (
            vec![0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 1, 9],
            "! websocket-protocol-error: a length with the most significant bit set\n".to_owned(),
        ),
        (
            [frame(ToClient, 0x88, &[3, 0xe8]), frame(ToClient, 0x82, b"ok")].concat(),
            "<- 8 1 2 whole \u{3}\u{fffd}\n<- 2 1 2 whole ok\n! websocket-protocol-error: a frame after a Close frame\n".to_owned(),
        ),
    ] {
        let mut run = Run::new(Talk::new(None));
        run.data(ToClient, &bytes);
        assert_eq!(run.shown(), want, "{bytes:02x?}");
    }
}

#[test]
fn the_first_close_code_is_kept() {
    let mut run = Run::new(Talk::new(None));
    run.data(ToServer, &frame(ToServer, 0x88, b"\x03\xe9bye"))
        .data(ToClient, &frame(ToClient, 0x88, &[3, 0xe8]));
    assert_eq!(run.finish().0.close_code, Some(1001));
}

#[test]
fn limits_hold() {
    let mut run = Run::new(Talk::new(None));
    run.config.messages_limit = 3;
    run.config.keep_body = 10;
    for _ in 0..5 {
        run.data(ToClient, &frame(ToClient, 0x81, b"sixsix"));
    }
    let (told, _) = run.finish();
    assert_eq!((told.frames, told.messages.len(), told.messages_dropped), (5, 3, 2));
    let kept: Vec<usize> = told.messages.iter().map(|m| m.bytes.len()).collect();
    assert_eq!(kept, [6, 4, 0]);
    assert!(told.messages.iter().all(|m| m.size == 6 && m.complete));
    // A bomb.
    let mut run = Run::new(Talk::new(Some("permessage-deflate")));
    run.config.decoded_limit = 100_000;
    let mut compress = Compress::new(Compression::best(), false);
    let bomb = deflated(&mut compress, &vec![0; 10_000_000]);
    run.data(ToClient, &frame(ToClient, 0xc2, &bomb));
    let (told, anomalies) = run.finish();
    assert!(told.messages[0].size < 1_100_000 && !told.messages[0].complete);
    assert_eq!(anomalies[0].kind, AnomalyKind::DecodedTooLarge);
    // No memory.
    let mut run = Run::new(Talk::new(None));
    run.config.body_budget = 2000;
    for _ in 0..100 {
        run.data(ToClient, &frame(ToClient, 0x82, &[0; 100]));
    }
    assert!(run.budget.held() <= 2000);
    assert!(run.finish().0.messages_dropped > 80);
}

/// (client's?, opcode, content, sizes of its frames, compressed?, a ping after the first frame?)
type Said = (bool, u8, Vec<u8>, Vec<usize>, bool, bool);

fn said() -> impl Strategy<Value = Vec<Said>> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(prop::sample::select(b"abc".to_vec()), 0..600),
        Just(vec![7; 70_000]),
    ];
    let frames = prop::collection::vec(0_usize..200, 0..4);
    prop::collection::vec((any::<bool>(), Just(2), content, frames, any::<bool>(), any::<bool>()), 0..8)
}

/// The octets of each direction.
fn conversation(said: &[Said], fresh: bool) -> (Vec<u8>, Vec<u8>) {
    let mut octets = (Vec::new(), Vec::new());
    let mut compress =
        (Compress::new(Compression::default(), false), Compress::new(Compression::default(), false));
    for (client, opcode, content, sizes, compressed, ping) in said {
        let direction = if *client { ToServer } else { ToClient };
        let (out, compress) =
            if *client { (&mut octets.0, &mut compress.0) } else { (&mut octets.1, &mut compress.1) };
        let payload = if *compressed { deflated(compress, content) } else { content.clone() };
        if fresh && *compressed {
            compress.reset();
        }
        let mut rest = &payload[..];
        let mut first = if *compressed { 0x40 } else { 0 } | opcode;
        for size in sizes {
            let (part, further) = rest.split_at((*size).min(rest.len()));
            out.extend(frame(direction, first, part));
            first = 0;
            rest = further;
            if *ping {
                out.extend(frame(direction, 0x89, b"p"));
            }
        }
        out.extend(frame(direction, 0x80 | first, rest));
    }
    octets
}

proptest! {
    #[test]
    fn what_was_said_is_what_is_told_however_it_is_cut(
        said in said(),
        fresh in any::<bool>(),
        cuts in prop::collection::vec(1_usize..3000, 1..20),
    ) {
        let (to_server, to_client) = conversation(&said, fresh);
        let extension = if fresh {
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
        } else {
            "permessage-deflate"
        };
        let mut run = Run::new(Talk::new(Some(extension)));
        for (direction, octets) in [(ToServer, &to_server), (ToClient, &to_client)] {
            let mut rest = &octets[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (part, further) = rest.split_at((*cut).min(rest.len()));
                run.data(direction, part);
                rest = further;
            }
        }
        let (told, anomalies) = run.finish();
        prop_assert_eq!(anomalies, vec![]);
        for client in [true, false] {
            let want: Vec<_> = said.iter().filter(|s| s.0 == client).map(|s| (&s.2, s.3.len() as u32 + 1)).collect();
            let got: Vec<_> = told.messages.iter().filter(|m| m.to_server == client && m.opcode == 2).collect();
            prop_assert_eq!(got.len(), want.len());
            for (got, (content, frames)) in got.into_iter().zip(want) {
                prop_assert!(got.complete);
                prop_assert_eq!(got.frames, frames);
                prop_assert_eq!(&got.bytes, content);
            }
        }
    }

    /// With holes anywhere: never a wrong octet, and never a message that was not said.
    #[test]
    fn holes_never_make_up_anything(
        said in said(),
        fresh in any::<bool>(),
        pieces in prop::collection::vec((1_usize..600, prop::bool::weighted(0.9), any::<bool>()), 1..30),
    ) {
        let (_, to_client) = conversation(&said, fresh);
        let mut run = Run::new(Talk::new(Some("permessage-deflate")));
        let mut rest = &to_client[..];
        for (size, seen, start) in pieces.iter().cycle() {
            if rest.is_empty() { break; }
            let (part, further) = rest.split_at((*size).min(rest.len()));
            if *seen {
                run.talk.data(ToClient, Timestamp(1), part, *start, &run.config, &mut run.budget);
            } else {
                run.gap(ToClient, part.len() as u64);
            }
            rest = further;
        }
        let (told, _) = run.finish();
        for message in told.messages {
            // A resynchronisation inside the content of a frame can be believed by chance; these contents are made
            // so that it is not: few of them are frames.
            if message.opcode == 2 && message.complete && !message.bytes.is_empty() {
                prop_assert!(said.iter().any(|s| s.2 == message.bytes), "{:?}", message);
            }
        }
    }

    #[test]
    fn random_octets_are_no_panic_and_bounded(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..300), any::<bool>()), 0..40),
        mid_stream in any::<bool>(),
    ) {
        let talk = if mid_stream { Talk::mid_stream() } else { Talk::new(Some("permessage-deflate")) };
        let mut run = Run::new(talk);
        run.config.body_budget = 100_000;
        for (client, bytes, gap) in pieces {
            let direction = if client { ToServer } else { ToClient };
            if gap { run.gap(direction, bytes.len() as u64); }
            run.data(direction, &bytes);
            prop_assert!(run.budget.held() <= 100_000);
        }
        run.finish();
    }
}
