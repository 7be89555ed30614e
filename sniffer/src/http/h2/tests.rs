//! HTTP/2 conversations made by a small encoder: whole, cut anywhere, with holes, picked up in the middle, hostile.

#![allow(clippy::arithmetic_side_effects, clippy::string_slice)]

use std::borrow::Cow;

use proptest::prelude::*;

use super::hpack::tests::Encoder;
use super::*;
use crate::flow::Direction::{ToClient, ToServer};
use crate::http::{Exchange, Headers, Message};

fn ends() -> Ends {
    Ends { client: "10.0.0.1:40000".parse().unwrap(), server: "10.0.0.2:80".parse().unwrap() }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Both peers' encoders, and what each has sent.
#[derive(Default)]
struct Peers {
    client: Encoder,
    server: Encoder,
}

impl Peers {
    fn block(&mut self, direction: Direction, fields: &[(&str, &str)]) -> Vec<u8> {
        let encoder = if direction == ToServer { &mut self.client } else { &mut self.server };
        let mut block = Vec::new();
        for (name, value) in fields {
            encoder.field(name.as_bytes(), value.as_bytes(), true, true, &mut block);
        }
        block
    }

    fn get(&mut self, stream: u32, path: &str) -> Vec<u8> {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "a.example"),
            ("x", "y"),
        ];
        frame(frame::HEADERS, frame::END_STREAM | frame::END_HEADERS, stream, &self.block(ToServer, &fields))
    }

    fn post(&mut self, stream: u32, path: &str) -> Vec<u8> {
        let fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a.example")];
        frame(frame::HEADERS, frame::END_HEADERS, stream, &self.block(ToServer, &fields))
    }

    fn answer(&mut self, stream: u32, status: &str, end: bool) -> Vec<u8> {
        let flags = frame::END_HEADERS | if end { frame::END_STREAM } else { 0 };
        frame(frame::HEADERS, flags, stream, &self.block(ToClient, &[(":status", status), ("server", "s")]))
    }
}

fn data(stream: u32, end: bool, content: &[u8]) -> Vec<u8> {
    frame(frame::DATA, u8::from(end), stream, content)
}

struct Run {
    h2: H2,
    config: Config,
    budget: Budget,
    out: Vec<Box<Exchange>>,
    at: [u64; 2],
    clock: u64,
    ack: Option<u64>,
}

impl Run {
    fn new(start: Start) -> Self {
        let base = if matches!(start, Start::MidStream) { MID_STREAM_BASE } else { 0 };
        Self {
            h2: H2::new(ends(), FlowId(1), start),
            config: Config::default(),
            budget: Budget::new(),
            out: Vec::new(),
            at: [base; 2],
            clock: 0,
            ack: None,
        }
    }

    /// After the prefaces of both sides.
    fn begun() -> Self {
        let mut run = Self::new(Start::Preface);
        run.send(ToServer, frame::PREFACE)
            .send(ToServer, &frame(frame::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]));
        run.send(ToClient, &frame(frame::SETTINGS, 0, 0, &[]))
            .send(ToClient, &frame(frame::SETTINGS, 1, 0, &[]));
        run
    }

    fn send(&mut self, direction: Direction, bytes: &[u8]) -> &mut Self {
        self.piece(direction, bytes, true)
    }

    fn piece(&mut self, direction: Direction, bytes: &[u8], segment_start: bool) -> &mut Self {
        self.clock += 1;
        let at = &mut self.at[usize::from(direction == ToServer)];
        let data = Data {
            flow: FlowId(1),
            direction,
            time: Timestamp(self.clock),
            interface: Interface::Unknown,
            offset: *at,
            bytes: Cow::Borrowed(bytes),
            segment_start,
            starts: 0,
            ack: self.ack,
        };
        *at += bytes.len() as u64;
        if !bytes.is_empty() {
            self.h2.data(&data, &self.config, &mut self.budget, &mut self.out);
        }
        self
    }

    fn lose(&mut self, direction: Direction, length: usize) -> &mut Self {
        self.clock += 1;
        let at = &mut self.at[usize::from(direction == ToServer)];
        let (offset, length) = (*at, length as u64);
        *at += length;
        let time = Timestamp(self.clock);
        let cause = GapCause::AckedUnseen;
        self.h2.gap(direction, time, offset, length, cause, &self.config, &mut self.budget, &mut self.out);
        self
    }

    fn close(&mut self, kind: EndKind) -> &mut Self {
        for direction in [ToServer, ToClient] {
            let time = Timestamp(self.clock);
            self.h2.end(direction, time, kind, &self.config, &mut self.budget, &mut self.out);
        }
        assert_eq!(self.budget.held(), 0, "everything charged is given back");
        self
    }

    /// What was told so far, a line an exchange; see [`shown`].
    fn told(&mut self) -> String {
        self.out.drain(..).map(|exchange| shown(&exchange)).collect()
    }
}

/// `GET a.example /path "body" -> 200 "body" [gaps] anomalies`; `?` where unknown, `-` where absent, `…` where incomplete.
fn shown(exchange: &Exchange) -> String {
    let body = |message: &Message| {
        let whole = if message.body.complete { "" } else { "…" };
        let trailers: String =
            message.trailers.iter().map(|(n, v)| format!(" +{}={}", lossy(n), lossy(v))).collect();
        format!("{:?}{whole}{trailers}", String::from_utf8_lossy(&message.body.bytes))
    };
    let known = |part: &Option<Box<str>>| part.as_deref().unwrap_or("?").to_owned();
    let request = exchange.request.as_ref().map_or("-".to_owned(), |r| {
        format!("{} {} {} {}", known(&r.method), known(&r.host), known(&r.target), body(&r.message))
    });
    let response = exchange.response.as_ref().map_or("-".to_owned(), |r| {
        format!("{} {}", r.status.map_or("?".to_owned(), |s| s.to_string()), body(&r.message))
    });
    let interim: String = exchange.interim.iter().map(|i| format!("{} ", i.status)).collect();
    let gaps: String = exchange.gaps.iter().map(|g| format!(" [{}+{}]", g.offset, g.length)).collect();
    let odd: String = exchange.anomalies.iter().map(|a| format!(" !{}({})", a.kind.id(), a.detail)).collect();
    format!("{request} -> {interim}{response}{gaps}{odd}\n")
}

fn lossy(part: Option<&[u8]>) -> Cow<'_, str> {
    part.map_or("?".into(), String::from_utf8_lossy)
}

#[test]
fn a_request_and_its_response_are_an_exchange() {
    let (mut run, mut peers) = (Run::begun(), Peers::default());
    run.send(ToServer, &peers.post(1, "/inbox"))
        .send(ToServer, &data(1, false, b"{}"))
        .send(ToServer, &data(1, true, b"{}"));
    run.send(ToClient, &peers.answer(1, "202", false)).send(ToClient, &data(1, true, b"Accepted"));
    assert_eq!(run.out.len(), 1);
    let exchange = run.out[0].clone();
    assert_eq!(run.told(), "POST a.example /inbox \"{}{}\" -> 202 \"Accepted\"\n");
    assert_eq!(
        (exchange.protocol, exchange.started, exchange.ended),
        (super::super::Protocol::H2c, Timestamp(5), Timestamp(9))
    );
    assert_eq!(exchange.id.started(), Timestamp(5));
    let request = exchange.request.unwrap();
    assert_eq!((request.scheme.as_deref(), request.message.version), (Some("http"), (2, 0)));
    assert_eq!((request.message.first_byte, request.message.last_byte), (Timestamp(5), Timestamp(7)));
    assert!(request.message.headers.is_empty(), "pseudo-header fields are no header fields");
    assert_eq!((request.message.body.wire_size, request.message.body.size), (4, 4));
    assert!(request.message.body.sha256.is_some());
    let response = exchange.response.unwrap();
    assert_eq!(response.message.headers.text("server"), Some("s"));
    assert_eq!((response.message.first_byte, response.message.last_byte), (Timestamp(8), Timestamp(9)));
}

#[test]
fn every_way_to_frame_a_message_is_followed() {
    let (mut run, mut peers) = (Run::begun(), Peers::default());
    // Padding and priority around a block in three frames; padded DATA, also with nothing but padding; trailers.
    let fields = [
        (":method", "POST"),
        (":path", "/p"),
        (":scheme", "http"),
        ("host", "b.example"),
        ("te", "trailers"),
    ];
    let block = peers.block(ToServer, &fields);
    let first = [&[3, 0x80, 0, 0, 0, 15], &block[..4], &[0; 3]].concat();
    run.send(ToServer, &frame(frame::HEADERS, frame::PADDED | frame::WITH_PRIORITY, 1, &first));
    run.send(ToServer, &frame(frame::CONTINUATION, 0, 1, &block[4..9]));
    run.send(ToServer, &frame(frame::CONTINUATION, frame::END_HEADERS, 1, &block[9..]));
    run.send(ToServer, &frame(frame::DATA, frame::PADDED, 1, b"\x04data\0\0\0\0"));
    run.send(ToServer, &frame(frame::DATA, frame::PADDED, 1, b"\x02\0\0"));
    run.send(ToServer, &frame(frame::DATA, frame::PADDED, 1, b"\x00more"));
    run.send(ToServer, &frame(frame::DATA, 0, 1, b""));
    let trailers = peers.block(ToServer, &[("x-checksum", "7")]);
    run.send(ToServer, &frame(frame::HEADERS, frame::END_STREAM | frame::END_HEADERS, 1, &trailers));
    // Interim responses, a reset window, an unknown frame type, then the answer.
    let interim = peers.block(ToClient, &[(":status", "103"), ("link", "</style.css>")]);
    run.send(ToClient, &frame(frame::HEADERS, frame::END_HEADERS, 1, &interim));
    run.send(ToClient, &frame(frame::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]))
        .send(ToClient, &frame(0xbe, 0xff, 7, b"???"));
    run.send(ToClient, &frame(frame::PING, 0, 0, &[0; 8]))
        .send(ToClient, &frame(frame::PRIORITY, 0, 1, &[0; 5]));
    run.send(ToClient, &peers.answer(1, "200", false)).send(ToClient, &data(1, false, b"ok"));
    let trailers = peers.block(ToClient, &[("grpc-status", "0")]);
    run.send(ToClient, &frame(frame::HEADERS, frame::END_STREAM | frame::END_HEADERS, 1, &trailers));
    assert_eq!(run.told(), "POST b.example /p \"datamore\" +x-checksum=7 -> 103 200 \"ok\" +grpc-status=0\n");
    // Streams side by side, answered in another order.
    run.send(ToServer, &[peers.get(3, "/3"), peers.get(5, "/5"), peers.get(7, "/7")].concat());
    run.send(
        ToClient,
        &[peers.answer(7, "204", true), peers.answer(3, "200", false), data(3, false, b"3")].concat(),
    );
    run.send(ToClient, &[peers.answer(5, "304", true), data(3, true, b"3")].concat());
    assert_eq!(
        run.told(),
        "GET a.example /7 \"\" -> 204 \"\"\nGET a.example /5 \"\" -> 304 \"\"\nGET a.example /3 \"\" -> 200 \"33\"\n"
    );
    run.close(EndKind::Fin);
    assert_eq!(run.told(), "");
}

#[test]
fn a_stream_that_ends_badly_says_how() {
    type Case = (&'static str, fn(&mut Run, &mut Peers), &'static str);
    let cases: &[Case] = &[
        (
            "reset by the client",
            |run, peers| {
                run.send(ToServer, &peers.get(1, "/a")).send(ToClient, &peers.answer(1, "200", false));
                run.send(ToClient, &data(1, false, b"par"));
                run.send(ToServer, &frame(frame::RST_STREAM, 0, 1, &[0, 0, 0, 8]));
                // What was on its way meanwhile opens nothing.
                run.send(ToClient, &data(1, true, b"tial"));
            },
            "GET a.example /a \"\" -> 200 \"par\"… !h2-stream-reset(by the client: CANCEL)\n",
        ),
        (
            "refused by the server",
            |run, peers| {
                run.send(ToServer, &peers.get(1, "/a"));
                run.send(ToClient, &frame(frame::RST_STREAM, 0, 1, &[0, 0, 0, 7]));
            },
            "GET a.example /a \"\" -> - !h2-stream-reset(by the server: REFUSED_STREAM)\n",
        ),
        (
            "answered before the request was complete, and closed",
            |run, peers| {
                run.send(ToServer, &peers.post(1, "/a")).send(ToServer, &data(1, false, b"12"));
                run.send(ToClient, &peers.answer(1, "413", true));
                run.send(ToServer, &data(1, false, b"34"));
                run.send(ToClient, &frame(frame::RST_STREAM, 0, 1, &[0; 4]));
            },
            "POST a.example /a \"1234\"… -> 413 \"\" !h2-stream-reset(by the server: NO_ERROR) !early-response()\n",
        ),
        (
            "left behind by GOAWAY",
            |run, peers| {
                run.send(ToServer, &[peers.get(1, "/a"), peers.get(3, "/b")].concat());
                run.send(ToClient, &frame(frame::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0, b'b', b'y', b'e']));
                run.send(ToClient, &peers.answer(1, "200", true));
            },
            "GET a.example /b \"\" -> - !h2-goaway(NO_ERROR)\nGET a.example /a \"\" -> 200 \"\"\n",
        ),
        (
            "content-length and DATA disagree",
            |run, peers| {
                run.send(ToServer, &peers.get(1, "/a"));
                let block = peers.block(ToClient, &[(":status", "200"), ("content-length", "5")]);
                run.send(ToClient, &frame(frame::HEADERS, frame::END_HEADERS, 1, &block))
                    .send(ToClient, &data(1, true, b"1234"));
            },
            "GET a.example /a \"\" -> 200 \"1234\" !bad-content-length(content-length is 5, DATA carried 4)\n",
        ),
        (
            "the answer to HEAD has a length and no content",
            |run, peers| {
                let head =
                    [(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")];
                let block = peers.block(ToServer, &head);
                run.send(ToServer, &frame(frame::HEADERS, frame::END_STREAM | frame::END_HEADERS, 1, &block));
                let block = peers.block(ToClient, &[(":status", "200"), ("content-length", "5")]);
                run.send(ToClient, &frame(frame::HEADERS, frame::END_STREAM | frame::END_HEADERS, 1, &block));
            },
            "HEAD a.example / \"\" -> 200 \"\"\n",
        ),
        (
            "pushed",
            |run, peers| {
                run.send(ToServer, &peers.get(1, "/a"));
                let fields = [
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":path", "/style.css"),
                    (":authority", "a.example"),
                ];
                let block = [&[0, 0, 0, 2][..], &peers.block(ToClient, &fields)].concat();
                run.send(ToClient, &frame(frame::PUSH_PROMISE, frame::END_HEADERS, 1, &block));
                run.send(
                    ToClient,
                    &[peers.answer(1, "200", true), peers.answer(2, "200", false), data(2, true, b"css")]
                        .concat(),
                );
            },
            "GET a.example /a \"\" -> 200 \"\"\nGET a.example /style.css \"\" -> 200 \"css\" \
             !unsolicited-response(promised by the server (PUSH_PROMISE))\n",
        ),
        (
            "a block that does not decode, and what follows",
            |run, peers| {
                run.send(
                    ToServer,
                    &frame(frame::HEADERS, frame::END_STREAM | frame::END_HEADERS, 1, &[0x82, 0xff, 0xff]),
                );
                run.send(ToServer, &peers.get(3, "/b"));
                run.send(ToClient, &[peers.answer(1, "400", true), peers.answer(3, "200", true)].concat());
            },
            "GET ? ? \"\" -> 400 \"\" !hpack-error(the block ends inside a field)\nGET a.example /b \"\" -> 200 \"\"\n",
        ),
        (
            "violations that can be stepped over",
            |run, peers| {
                run.send(ToServer, &frame(frame::PING, 0, 3, &[0; 8]))
                    .send(ToServer, &frame(frame::DATA, 1, 0, b"x"));
                let upper = [(":method", "GET"), ("Upper", "1"), (":path", "/a"), ("connection", "close")];
                let block = peers.block(ToServer, &upper);
                run.send(ToServer, &frame(frame::HEADERS, frame::END_STREAM | frame::END_HEADERS, 1, &block));
                run.send(ToClient, &peers.answer(1, "200", true));
            },
            "GET ? /a \"\" -> 200 \"\" !h2-protocol-error(a field name with an upper-case letter) \
             !h2-protocol-error(a frame of the connection on a stream) \
             !h2-protocol-error(a frame of a stream on the connection)\n",
        ),
        (
            "a plain CONNECT",
            |run, peers| {
                let block = peers.block(ToServer, &[(":method", "CONNECT"), (":authority", "b.example:443")]);
                run.send(ToServer, &frame(frame::HEADERS, frame::END_HEADERS, 1, &block));
                run.send(ToClient, &peers.answer(1, "200", false)).send(ToServer, &data(1, true, b"tunnel"));
                run.send(ToClient, &data(1, true, b"through"));
            },
            "CONNECT b.example:443 b.example:443 \"tunnel\" -> 200 \"through\"\n",
        ),
    ];
    for (what, play, want) in cases {
        let (mut run, mut peers) = (Run::begun(), Peers::default());
        play(&mut run, &mut peers);
        assert_eq!(run.told(), *want, "{what}");
        run.close(EndKind::Fin);
        assert_eq!(run.told(), "", "{what}");
    }
}

#[test]
fn the_end_of_the_connection_tells_what_is_open() {
    for (kind, name, unanswered) in [
        (EndKind::Fin, "cut-by-close", "no-response(the connection was closed)"),
        (EndKind::Reset, "cut-by-reset", "no-response(the connection was reset)"),
        (EndKind::Abandoned, "cut-by-close", "no-response(the connection fell silent)"),
        (EndKind::CaptureEnd, "cut-by-capture-end", "cut-by-capture-end(no response until then)"),
    ] {
        let (mut run, mut peers) = (Run::begun(), Peers::default());
        run.send(ToServer, &[peers.get(1, "/1"), peers.post(3, "/3"), data(3, false, b"par")].concat());
        run.send(ToClient, &[peers.answer(1, "200", false), data(1, false, b"half")].concat());
        let next = peers.get(5, "/5");
        run.send(ToServer, &next[..next.len() - 1]);
        run.close(kind);
        let want = format!(
            "GET a.example /1 \"\" -> 200 \"half\"… !{name}(response)\n\
             POST a.example /3 \"par\"… -> - !{name}(request) !{unanswered}\n\
             GET a.example /5 \"\" -> - !{name}(the request's header fields are cut off) !{unanswered}\n"
        );
        assert_eq!(run.told(), want);
    }
}

#[test]
fn an_upgraded_request_is_stream_one() {
    let mut headers = Headers::default();
    headers.push(Some(b"HTTP2-Settings"), Some(b"AAUAAQAA"));
    let request = Request {
        method: Some("GET".into()),
        target: Some("/up".into()),
        host: Some("a.example".into()),
        scheme: None,
        message: Message { version: (1, 1), headers, first_byte: Timestamp(1), ..Message::default() },
    };
    let interim = vec![Interim { status: 101, time: Timestamp(1), headers: Headers::default() }];
    let upgraded = Upgraded {
        request,
        interface: Interface::Unknown,
        offset: 0,
        interim,
        gaps: vec![],
        anomalies: vec![],
    };
    let (mut run, mut peers) = (Run::new(Start::Upgraded(Box::new(upgraded))), Peers::default());
    assert_eq!(run.h2.to_client.max_frame, 65_536, "HTTP2-Settings are the client's settings");
    run.send(
        ToClient,
        &[frame(frame::SETTINGS, 0, 0, &[]), peers.answer(1, "200", false), data(1, true, b"up")].concat(),
    );
    let exchange = run.out[0].clone();
    assert_eq!(run.told(), "GET a.example /up \"\"… -> 101 200 \"up\"\n");
    let request = exchange.request.unwrap();
    assert_eq!((request.message.version, request.message.headers.len()), ((1, 1), 1));
    run.send(
        ToServer,
        &[&frame::PREFACE[..], &frame(frame::SETTINGS, 0, 0, &[]), &peers.get(3, "/3")].concat(),
    );
    run.send(ToClient, &peers.answer(3, "204", true));
    assert_eq!(run.told(), "GET a.example /3 \"\" -> 204 \"\"\n");
}

#[test]
fn a_websocket_over_extended_connect_is_followed() {
    let (mut run, mut peers) = (Run::begun(), Peers::default());
    let fields =
        [(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/ws"), (":authority", "a.example")];
    let block = peers.block(ToServer, &fields);
    run.send(ToServer, &frame(frame::HEADERS, frame::END_HEADERS, 1, &block))
        .send(ToClient, &peers.answer(1, "200", false));
    run.send(ToServer, &data(1, false, &[0x81, 0x85, 0x37, 0xfa]))
        .send(ToServer, &data(1, false, &[0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]));
    run.send(ToClient, &data(1, true, &[0x81, 0x02, b'h', b'i'])).send(ToServer, &data(1, true, b""));
    let websocket = run.out[0].websocket.clone().unwrap();
    let texts: Vec<_> = websocket.messages.iter().map(|m| (m.to_server, &m.bytes[..])).collect();
    assert_eq!(texts, [(true, &b"Hello"[..]), (false, b"hi")]);
    assert_eq!(run.told(), "CONNECT a.example /ws \"\" -> 200 \"\"\n");
    // Another protocol is named.
    let fields =
        [(":method", "CONNECT"), (":protocol", "connect-udp"), (":path", "/"), (":authority", "a.example")];
    let block = peers.block(ToServer, &fields);
    run.send(ToServer, &frame(frame::HEADERS, frame::END_HEADERS, 3, &block))
        .send(ToClient, &peers.answer(3, "200", true));
    run.send(ToServer, &data(3, true, b""));
    assert_eq!(
        run.told(),
        "CONNECT a.example / \"\" -> 200 \"\" !unknown-upgrade(extended CONNECT to connect-udp, which is not decoded)\n"
    );
}

#[test]
fn picked_up_in_the_middle_it_says_what_is_unknown() {
    let (mut run, mut peers) = (Run::new(Start::MidStream), Peers::default());
    // Before the capture: both tables are filled, stream 9 is asked and its upload half done, stream 7 half answered.
    let _ = [peers.post(9, "/before"), peers.answer(5, "202", true), peers.answer(7, "200", false)];
    // Now: the rest of a frame, the rest of an upload, the rest of a download, then new streams.
    run.send(ToServer, b"...the rest of a frame").send(ToServer, &data(9, true, b"upload"));
    run.send(ToClient, &data(7, true, b"download"));
    assert_eq!(
        run.told(),
        "- -> ? \"download\"… !start-not-seen(the response's header section was not seen)\n"
    );
    run.send(ToClient, &peers.answer(9, "200", true));
    assert_eq!(
        run.told(),
        "? ? ? \"upload\"… -> 200 \"\" !hpack-state-lost(header fields of the response are unknown) \
         !start-not-seen(the request's header section was not seen)\n"
    );
    // :authority is an entry of before, the path is a literal; 202 is an entry of before, 201 is not.
    run.send(ToServer, &[peers.post(11, "/new"), data(11, true, b"{}")].concat());
    run.send(ToClient, &[peers.answer(11, "202", true)].concat());
    assert_eq!(
        run.told(),
        "POST ? /new \"{}\" -> ? \"\" !hpack-state-lost(header fields of the request are unknown) \
         !hpack-state-lost(header fields of the response are unknown)\n"
    );
    // What was inserted since is known.
    run.send(ToServer, &[peers.post(13, "/new"), data(13, true, b"{}")].concat());
    run.send(ToClient, &[peers.answer(13, "201", false), data(13, true, b"1")].concat());
    run.send(ToServer, &[peers.get(15, "/new")].concat());
    run.send(ToClient, &[peers.answer(15, "201", true)].concat());
    let told = run.told();
    assert!(told.starts_with("POST ? /new \"{}\" -> 201 \"1\""), "{told}");
    assert!(told.contains("GET ? /new \"\" -> 201 \"\""), "{told}");
    // A response whose request lies before the capture comes alone.
    run.ack = Some(run.at[1]);
    run.send(ToClient, &peers.answer(3, "404", true));
    let told = run.told();
    assert!(told.starts_with("- -> 404 \"\""), "{told}");
}

#[test]
fn a_body_that_says_itself_that_it_is_gzip_is_decoded_where_the_field_is_unknown() {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(b"{\"type\":\"Note\"}").unwrap();
    let gzip = gzip.finish().unwrap();
    let head = |peers: &mut Peers| {
        let fields = [(":status", "200"), ("content-encoding", "gzip")];
        frame(frame::HEADERS, frame::END_HEADERS, 1, &peers.block(ToClient, &fields))
    };
    for (before, want) in [
        (
            true,
            "- -> 200 \"{\\\"type\\\":\\\"Note\\\"}\" !hpack-state-lost(header fields of the response are unknown) \
                !hpack-state-lost(Content-Encoding is unknown; the body begins as gzip, and was decoded as that)\n",
        ),
        (false, "- -> 200 \"{\\\"type\\\":\\\"Note\\\"}\"\n"),
    ] {
        let (mut run, mut peers) = (Run::new(Start::MidStream), Peers::default());
        if before {
            head(&mut peers);
        }
        run.send(ToClient, &[head(&mut peers), data(1, true, &gzip)].concat());
        assert_eq!(run.told(), want);
    }
}

#[test]
fn an_answer_that_overtakes_its_request_waits_for_it() {
    let (mut run, mut peers) = (Run::begun(), Peers::default());
    let request = peers.get(1, "/late");
    run.ack = Some(run.at[1] + request.len() as u64);
    run.send(ToClient, &peers.answer(1, "200", true));
    assert_eq!(run.told(), "", "the client's bytes up to the acknowledged offset are still to come");
    run.send(ToServer, &request);
    assert_eq!(run.told(), "GET a.example /late \"\" -> 200 \"\"\n");
    // Here they come as a hole: the request is never known.
    let request = peers.get(3, "/lost");
    run.ack = Some(run.at[1] + request.len() as u64);
    run.send(ToClient, &peers.answer(3, "200", true));
    run.lose(ToServer, request.len());
    assert_eq!(
        run.told(),
        format!("- -> 200 \"\" [{}+{}]\n", run.at[1] - request.len() as u64, request.len())
    );
}

#[test]
fn a_hole_takes_only_what_it_must() {
    // (what is lost of a conversation, from, length; what is told)
    let content = |text: &str| data(3, false, text.as_bytes());
    type Case = (&'static str, Direction, usize, usize, &'static str);
    // Offsets count from the HEADERS of stream 3 in each direction.
    let cases: &[Case] = &[
        ("nothing", ToClient, 0, 0, "POST a.example /3 \"12345678\" -> 200 \"abcdefgh\"\n"),
        (
            "in DATA of the request",
            ToServer,
            0x100 + 9 + 2,
            3,
            "POST a.example /3 \"12678\"… -> 200 \"abcdefgh\" [G]\n",
        ),
        (
            "in DATA of the response, to its end",
            ToClient,
            0x100 + 9 + 4,
            4,
            "POST a.example /3 \"12345678\" -> 200 \"abcd\"… [G]\n",
        ),
        (
            "the header of a DATA frame",
            ToClient,
            0x100 + 3,
            4,
            "POST a.example /3 \"12345678\" -> 200 \"\"… [G] !cut-by-gap(response)\n",
        ),
        (
            "inside the response's header fields",
            ToClient,
            9 + 2,
            1,
            "POST a.example /3 \"12345678\" -> 200 \"abcdefgh\" [G] !cut-by-gap(the response's header fields are cut off)\n",
        ),
        (
            "the whole HEADERS of the response",
            ToClient,
            0,
            0x100,
            "POST a.example /3 \"12345678\" -> ? \"abcdefgh\"… [G] !start-not-seen(the response's header section was not seen)\n",
        ),
        (
            "the whole HEADERS of the request",
            ToServer,
            0,
            0x100,
            "? ? ? \"12345678\"… -> 200 \"abcdefgh\" !start-not-seen(the request's header section was not seen)\n",
        ),
    ];
    for (what, direction, from, length, want) in cases {
        let (mut run, mut peers) = (Run::begun(), Peers::default());
        let request = [peers.post(3, "/3"), content("12345678"), data(3, true, b"")];
        let response = [peers.answer(3, "200", false), content("abcdefgh"), data(3, true, b"")];
        for (way, frames) in [(ToServer, request), (ToClient, response)] {
            if way != *direction {
                run.send(way, &frames.concat());
                continue;
            }
            // 0x100 stands for the length of the first frame.
            let first = frames[0].len();
            let real = |n: usize| if n >= 0x100 { n - 0x100 + first } else { n };
            let (from, to) = (real(*from), real(*from) + real(*length));
            let mut at = 0;
            for frame in &frames {
                // Each frame is a segment, less what is lost.
                let end = at + frame.len();
                let (lost_from, lost_to) = (from.clamp(at, end), to.clamp(at, end));
                run.send(way, &frame[..lost_from - at]);
                if lost_to > lost_from {
                    run.lose(way, lost_to - lost_from);
                }
                run.piece(way, &frame[lost_to - at..], lost_to == at || lost_to == lost_from);
                at = end;
            }
        }
        run.close(EndKind::Fin);
        let told = run.told();
        // Where exactly the hole lies depends on the coder.
        let shown = match (told.find(" ["), told.find(']')) {
            (Some(from), Some(to)) => format!("{} [G]{}", &told[..from], &told[to + 1..]),
            _ => told,
        };
        assert_eq!(shown, *want, "{what}");
    }
}

#[test]
fn after_a_hole_the_table_is_lost_and_other_streams_go_on() {
    let (mut run, mut peers) = (Run::begun(), Peers::default());
    run.send(ToServer, &[peers.post(1, "/1"), data(1, false, b"begin")].concat());
    let lost = peers.get(3, "/lost");
    run.lose(ToServer, lost.len());
    run.send(ToServer, b"in the middle of a frame");
    run.send(ToServer, &[peers.get(5, "/5"), data(1, true, b"end")].concat());
    run.send(
        ToClient,
        &[peers.answer(5, "200", true), peers.answer(3, "200", true), peers.answer(1, "200", true)].concat(),
    );
    let told = run.told();
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("GET ? /5 \"\" -> 200 \"\" !hpack-state-lost"), "{told}");
    assert!(lines[1].starts_with("- -> 200 \"\""), "{told}");
    assert!(lines[2].starts_with("POST a.example /1 \"begin\"… -> 200 \"\" ["), "{told}");
    assert!(lines[2].ends_with("!cut-by-gap(request)"), "{told}");
    assert_eq!(run.h2.hunted(), 24);
}

#[test]
fn a_stream_that_a_hole_may_have_ended_is_not_waited_for_for_ever() {
    let (mut run, mut peers) = (Run::begun(), Peers::default());
    run.send(ToServer, &[peers.get(1, "/1"), peers.get(3, "/3")].concat())
        .send(ToClient, &peers.answer(3, "200", false));
    run.lose(ToClient, 100);
    run.clock += PATIENCE / 2;
    run.send(ToClient, &data(3, false, b"after"));
    assert_eq!(run.told(), "");
    run.clock += PATIENCE / 2;
    run.send(ToServer, &peers.get(5, "/5"));
    let told = run.told();
    assert!(told.starts_with("GET a.example /1 \"\" -> - [") && told.lines().count() == 1, "{told}");
    run.send(ToClient, &data(3, true, b""));
    assert!(run.told().starts_with("GET a.example /3 \"\" -> 200 \"\"… ["));
}

#[test]
fn limits_hold() {
    // Streams.
    let (mut run, mut peers) = (Run::begun(), Peers::default());
    run.config.streams_limit = 2;
    for n in 0..5 {
        run.send(ToServer, &peers.get(n * 2 + 1, "/"));
    }
    assert_eq!(run.told().matches("pipeline-overflow").count(), 3);
    assert_eq!(run.h2.streams.len(), 2);
    run.close(EndKind::Fin);
    // Heads: by octets, by fields, and in many frames.
    let (mut run, mut peers) = (Run::begun(), Peers::default());
    (run.config.head_limit, run.config.fields_limit) = (200, 5);
    let block = peers
        .block(ToServer, &[(":method", "GET"), ("a", &"x".repeat(150)), ("b", &"y".repeat(150)), ("c", "d")]);
    run.send(ToServer, &frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 1, &block[..]));
    let fields: Vec<(String, String)> = (0..9).map(|n| (format!("f{n}"), "v".into())).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (&**n, &**v)).collect();
    run.send(
        ToServer,
        &frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 3, &peers.block(ToServer, &fields)),
    );
    run.send(ToServer, &frame(frame::HEADERS, 0, 5, &peers.block(ToServer, &[(":method", "PUT")])));
    for _ in 0..9 {
        run.send(ToServer, &frame(frame::CONTINUATION, 0, 5, &[0x83; 50]));
    }
    run.send(ToClient, &[1, 3, 5].map(|n| peers.answer(n, "431", true)).concat());
    run.close(EndKind::Fin);
    assert_eq!(run.told().lines().filter(|line| line.contains("head-too-large")).count(), 3);
    // Memory for bodies and heads.
    let (mut run, mut peers) = (Run::begun(), Peers::default());
    run.config.body_budget = 10_000;
    for n in 0..200 {
        run.send(ToServer, &[peers.post(n * 2 + 1, "/"), data(n * 2 + 1, false, &[7; 300])].concat());
        assert!(run.budget.held() <= 10_000);
    }
    run.close(EndKind::Fin);
    assert!(run.told().contains("body-budget-spent"));
}

#[test]
fn a_large_header_table_is_charged() {
    let (mut run, mut peers) = (Run::begun(), Peers::default());
    run.config.body_budget = 40_000;
    let mut block = vec![0x3f, 0xe1, 0xff, 0x07];
    block.extend(peers.block(ToServer, &[(":method", "GET"), (":path", "/")]));
    run.send(ToServer, &frame(frame::HEADERS, frame::END_HEADERS, 1, &block));
    let fields: Vec<(String, String)> = (0..600).map(|n| (format!("f{n}"), "v".repeat(60))).collect();
    let before = run.budget.held();
    for (n, part) in fields.chunks(100).enumerate() {
        let part: Vec<(&str, &str)> = part.iter().map(|(n, v)| (&**n, &**v)).collect();
        let block = peers.block(ToServer, &part);
        run.send(ToServer, &frame(frame::HEADERS, frame::END_HEADERS, 2 * n as u32 + 3, &block));
        assert!(run.budget.held() <= 40_000);
    }
    assert!(run.budget.held() > before + 10_000);
    run.close(EndKind::Fin);
}

#[test]
fn what_looks_like_frames_and_what_does_not() {
    let mut peers = Peers::default();
    let get = peers.get(5, "/");
    for (bytes, looks) in [
        (get.clone(), true),
        (peers.answer(5, "200", true), true),
        ([get.clone(), vec![0, 0]].concat(), true),
        ([get.clone(), b"GET / HTTP/1.1".to_vec()].concat(), false),
        (get[..20].to_vec(), true),
        (get[..8].to_vec(), false),
        (data(7, false, &[0; 16_384])[..1000].to_vec(), true),
        (data(7, false, &[0; 300_000])[..1000].to_vec(), false),
        ([data(7, false, &[0; 300_000]), data(7, true, b"")].concat(), true),
        (frame(frame::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]), true),
        (frame(frame::PUSH_PROMISE, 4, 2, &[0; 8]), false),
        (data(3, false, b""), false),
        (data(3, true, b""), true),
        (vec![0; 40], false),
        (b"GET /users/alice HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), false),
        (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), false),
        // TLS: ClientHello, application data. PostgreSQL: SSLRequest, startup. DNS over TCP. SSH. Redis. WebSocket.
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), false),
        (b"\x17\x03\x03\x00\x20abcdefghabcdefghabcdefghabcdefgh".to_vec(), false),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f".to_vec(), false),
        (b"\x00\x00\x00\x54\x00\x03\x00\x00user\0postgres\0".to_vec(), false),
        (b"\x00\x1d\x00\x04\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04gts1\x04test\x00".to_vec(), false),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), false),
        (b"*2\r\n$4\r\nPING\r\n".to_vec(), false),
        (b"\x81\x05Hello\x81\x05Hello".to_vec(), false),
    ] {
        assert_eq!(looks_like_frames(&bytes), looks, "{:02x?}", &bytes[..bytes.len().min(40)]);
    }
}

/// A stream as both sides played it.
#[derive(Clone, Debug)]
struct Played {
    path: String,
    sent: Vec<Vec<u8>>,
    status: u16,
    answer: Vec<Vec<u8>>,
    /// Padding of each DATA frame.
    padding: Option<u8>,
    trailers: bool,
    /// The block in two frames.
    continued: bool,
}

fn played() -> impl Strategy<Value = Vec<Played>> {
    let content = || prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..3);
    let path =
        prop::sample::select(vec!["/inbox", "/users/alice", "/outbox?page=1", "/"]).prop_map(str::to_owned);
    let status = prop::sample::select(vec![200_u16, 202, 404, 503]);
    let stream =
        (path, content(), status, content(), prop::option::of(any::<u8>()), any::<bool>(), any::<bool>())
            .prop_map(|(path, sent, status, answer, padding, trailers, continued)| Played {
                path,
                sent,
                status,
                answer,
                padding,
                trailers,
                continued,
            });
    prop::collection::vec(stream, 0..8)
}

fn message(
    peers: &mut Peers,
    direction: Direction,
    number: u32,
    fields: &[(&str, &str)],
    content: &[Vec<u8>],
    played: &Played,
) -> Vec<u8> {
    let block = peers.block(direction, fields);
    let mut out = if played.continued {
        let (first, second) = block.split_at(block.len() / 2);
        [
            frame(frame::HEADERS, 0, number, first),
            frame(frame::CONTINUATION, frame::END_HEADERS, number, second),
        ]
        .concat()
    } else {
        frame(frame::HEADERS, frame::END_HEADERS, number, &block)
    };
    for part in content {
        out.extend(match played.padding {
            Some(padding) => {
                let payload = [&[padding], &part[..], &vec![0; usize::from(padding)]].concat();
                frame(frame::DATA, frame::PADDED, number, &payload)
            }
            None => frame(frame::DATA, 0, number, part),
        });
    }
    if played.trailers {
        let block = peers.block(direction, &[("x-trailer", "t")]);
        out.extend(frame(frame::HEADERS, frame::END_STREAM | frame::END_HEADERS, number, &block));
    } else {
        out.extend(data(number, true, b""));
    }
    out
}

/// The octets of each direction, one run for each stream.
fn conversation(all: &[Played]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut peers = Peers::default();
    all.iter()
        .enumerate()
        .map(|(n, played)| {
            let number = n as u32 * 2 + 1;
            let status = played.status.to_string();
            let number_text = format!("n{n}");
            let asked =
                [(":method", "POST"), (":path", &*played.path), (":authority", "a"), ("x-n", &*number_text)];
            let answered = [(":status", &*status), ("x-n", &*number_text)];
            (
                message(&mut peers, ToServer, number, &asked, &played.sent, played),
                message(&mut peers, ToClient, number, &answered, &played.answer, played),
            )
        })
        .collect()
}

/// Whether an offset lies in a frame header, but for its first octet: read from there, the header looks much like one.
fn inside_header(octets: &[u8], at: usize) -> bool {
    let mut begin = 0;
    while begin + frame::HEAD <= at {
        let head = Head::parse(octets[begin..].first_chunk().unwrap());
        begin += frame::HEAD + head.length as usize;
    }
    begin < at
}

/// What of an exchange must be so if it is known.
fn check(exchange: &Exchange, all: &[Played], whole: bool) -> Result<(), TestCaseError> {
    let number =
        |headers: &Headers| -> Option<usize> { headers.text("x-n")?.strip_prefix('n')?.parse().ok() };
    let asked = exchange.request.as_ref().and_then(|r| number(&r.message.headers));
    let answered = exchange.response.as_ref().and_then(|r| number(&r.message.headers));
    if let (Some(asked), Some(answered)) = (asked, answered) {
        prop_assert_eq!(asked, answered, "never paired with another's");
    }
    if whole {
        prop_assert!(asked.is_some() && answered.is_some());
        prop_assert!(exchange.anomalies.is_empty(), "{:?}", exchange.anomalies);
    }
    if let (Some(n), Some(request)) = (asked, &exchange.request) {
        let played = &all[n];
        if whole || request.target.is_some() {
            prop_assert_eq!(request.target.as_deref(), Some(&*played.path));
        }
        if whole || request.message.body.complete {
            prop_assert!(request.message.body.complete);
            prop_assert_eq!(&request.message.body.bytes, &played.sent.concat());
        }
        if whole {
            prop_assert_eq!(request.message.trailers.len(), usize::from(played.trailers));
        }
    }
    if let (Some(n), Some(response)) = (answered, &exchange.response) {
        let played = &all[n];
        if whole || response.status.is_some() {
            prop_assert_eq!(response.status, Some(played.status));
        }
        if whole || response.message.body.complete {
            prop_assert!(response.message.body.complete);
            prop_assert_eq!(&response.message.body.bytes, &played.answer.concat());
            prop_assert_eq!(response.message.body.wire_size as usize, played.answer.concat().len());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_was_played_is_what_is_told_however_it_is_cut(
        all in played(),
        cuts in prop::collection::vec((1_usize..400, any::<bool>()), 1..20),
    ) {
        let mut run = Run::begun();
        let mut cuts = cuts.iter().cycle();
        for (request, response) in conversation(&all) {
            for (direction, octets) in [(ToServer, request), (ToClient, response)] {
                let mut rest = &octets[..];
                while !rest.is_empty() {
                    let (size, start) = cuts.next().unwrap();
                    let (part, further) = rest.split_at((*size).min(rest.len()));
                    run.piece(direction, part, *start);
                    rest = further;
                }
            }
        }
        run.close(EndKind::Fin);
        prop_assert_eq!(run.out.len(), all.len());
        for exchange in &run.out {
            check(exchange, &all, true)?;
        }
    }

    /// With holes anywhere: nothing that was not so, and no stream twice.
    #[test]
    fn holes_never_make_up_anything(
        all in played(),
        mid_stream in any::<bool>(),
        pieces in prop::collection::vec((1_usize..400, prop::bool::weighted(0.85)), 1..40),
    ) {
        let mut run = if mid_stream { Run::new(Start::MidStream) } else { Run::begun() };
        let mut pieces = pieces.iter().cycle();
        for (request, response) in conversation(&all) {
            for (direction, octets) in [(ToServer, request), (ToClient, response)] {
                let mut at = 0;
                while at < octets.len() {
                    let (size, seen) = pieces.next().unwrap();
                    let part = &octets[at..octets.len().min(at + size)];
                    if *seen {
                        run.piece(direction, part, !inside_header(&octets, at));
                    } else {
                        run.lose(direction, part.len());
                    }
                    at += part.len();
                }
            }
        }
        run.close(EndKind::CaptureEnd);
        prop_assert!(run.out.len() <= all.len());
        for exchange in &run.out {
            check(exchange, &all, false)?;
        }
    }

    #[test]
    fn random_octets_are_no_panic_and_bounded(
        frames in prop::collection::vec(
            (any::<bool>(), 0_u8..12, any::<u8>(), 0_u32..6, prop::collection::vec(any::<u8>(), 0..60), 0_usize..20, any::<bool>()),
            0..60,
        ),
        mid_stream in any::<bool>(),
    ) {
        let mut run = if mid_stream { Run::new(Start::MidStream) } else { Run::begun() };
        run.config.body_budget = 2_000;
        for (client, kind, flags, stream, payload, lost, cut) in frames {
            let direction = if client { ToServer } else { ToClient };
            let octets = frame(kind, flags, stream, &payload);
            if lost > 15 { run.lose(direction, lost); }
            run.send(direction, if cut { &octets[..octets.len() / 2] } else { &octets });
            prop_assert!(run.budget.held() <= 2_000);
        }
        run.close(EndKind::Reset);
    }
}
