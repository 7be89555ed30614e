//! Conversations of HTTP/1, each with what must be said of it.

use super::script::{Script, kinds};
use crate::flow::Direction;
use crate::http::{AnomalyKind, Config, Decoder, OtherProtocol, Protocol};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[track_caller]
fn check(script: Script, lines: &[&str]) {
    assert_eq!(script.run().lines(), lines);
}

#[test]
fn requests_and_answers_alternate_on_a_kept_connection() {
    let script = Script::new()
        .client(get("/a"))
        .server(ok("A"))
        .client(post("/b", "question"))
        .server("HTTP/1.1 204 No Content\r\n\r\n")
        .client("HEAD /c HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
        .client(get("/d"))
        .server("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n")
        .client(get("/e"))
        .server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n")
        .fin();
    let told = script.run();
    assert_eq!(
        told.lines(),
        [
            "GET /a -> 200 \"A\"",
            "POST /b \"question\" -> 204",
            "HEAD /c -> 200",
            "GET /d -> 304",
            "GET /e -> 200 \"abc0123456789\""
        ]
    );
    let sizes = &told.exchanges[4].response.as_ref().unwrap().message.body;
    assert_eq!((sizes.wire_size, sizes.coded_size, sizes.size), (34, 13, 13));
    assert_eq!(told.counters.exchanges, 5);
    assert_eq!(told.counters.hunted_bytes, 0);
}

#[test]
fn times_are_those_of_the_segments() {
    let told = Script::new()
        .client(&post("/a", "0123456789").as_bytes()[..60])
        .client(&post("/a", "0123456789").as_bytes()[60..])
        .server(OK)
        .fin()
        .run();
    let exchange = told.only();
    let (request, response) = (exchange.request.as_ref().unwrap(), exchange.response.as_ref().unwrap());
    assert_eq!(request.message.first_byte.0, 1_001_000);
    assert_eq!(request.message.last_byte.0, 1_002_000);
    assert_eq!(response.message.first_byte.0, 1_003_000);
    assert_eq!((exchange.started.0, exchange.ended.0), (1_001_000, 1_003_000));
    assert_eq!(exchange.id.started(), exchange.started);
    assert_eq!(exchange.protocol, Protocol::Http11);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let head = "HEAD /b HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let all = [get("/a").as_str(), head, post("/c", "x").as_str(), get("/d").as_str()].concat();
    let bare = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n".to_owned();
    let answers = [ok("A"), bare, ok("C"), ok("D")];
    check(
        Script::new().client(all).server(answers.concat()).fin(),
        &["GET /a -> 200 \"A\"", "HEAD /b -> 200", "POST /c \"x\" -> 200 \"C\"", "GET /d -> 200 \"D\""],
    );
}

#[test]
fn interim_responses_come_before_the_final_one() {
    check(
        Script::new()
            .client("POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            .server("HTTP/1.1 100 Continue\r\n\r\n")
            .client("body")
            .server("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\n")
            .server(OK)
            .fin(),
        &["POST /a \"body\" ~100 ~102 ~103 -> 200 \"ok\""],
    );
}

#[test]
fn a_body_that_is_never_sent_is_said() {
    let expects = "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let refused = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    check(
        Script::new().client(expects).server(refused).client(get("/b")).server(OK).fin(),
        &["POST /a ! -> 417 [early-response]", "GET /b -> 200 \"ok\""],
    );
    check(Script::new().client(expects).server(refused).fin(), &["POST /a ! -> 417 [early-response]"]);
}

#[test]
fn an_answer_before_the_end_of_the_request_is_early() {
    let request = post("/a", "0123456789");
    let (one, two) = request.split_at(request.len() - 5);
    check(
        Script::new().client(one).server(OK).client(two).client(get("/b")).server(OK).fin(),
        &["POST /a \"0123456789\" -> 200 \"ok\" [early-response]", "GET /b -> 200 \"ok\""],
    );
    check(
        Script::new().client(one).server("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n").reset(),
        &["POST /a \"01234\"! -> 413 [early-response cut-by-reset]"],
    );
}

#[test]
fn a_body_until_close_is_complete_only_with_fin() {
    let answer = "HTTP/1.0 200 OK\r\n\r\nall of it";
    let start = || Script::new().client("GET / HTTP/1.0\r\n\r\n").server(answer);
    check(start().fin(), &["GET / -> 200 \"all of it\""]);
    check(start().reset(), &["GET / -> 200 \"all of it\"! [cut-by-reset]"]);
    check(start().capture_end(), &["GET / -> 200 \"all of it\"! [cut-by-capture-end]"]);
    assert_eq!(start().fin().run().only().protocol, Protocol::Http10);
}

#[test]
fn what_is_cut_says_by_what() {
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok";
    check(Script::new().client(get("/")).server(long).fin(), &["GET / -> 200 \"ok\"! [cut-by-close]"]);
    check(Script::new().client(get("/")).server(long).reset(), &["GET / -> 200 \"ok\"! [cut-by-reset]"]);
    check(Script::new().client(get("/")).fin(), &["GET / -> - [no-response]"]);
    check(Script::new().client(get("/")).reset(), &["GET / -> - [no-response]"]);
    check(Script::new().client(get("/")).capture_end(), &["GET / -> - [cut-by-capture-end]"]);
    // A head whose first line is there is told as far as it came.
    check(
        Script::new().client(get("/")).server("HTTP/1.1 200 OK\r\nServer: x\r\nCont").reset(),
        &["GET / -> 200 ! [cut-by-reset]"],
    );
    check(
        Script::new().client("GET /half HTTP/1.1\r\nHost: a\r\nAcc").reset(),
        &["GET /half ! -> - [cut-by-reset no-response]"],
    );
}

#[test]
fn trailers_are_kept_in_both_directions() {
    let told = Script::new()
        .client("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nDigest: y\r\nB: c\r\n\r\n")
        .client(get("/next"))
        .server(OK)
        .fin()
        .run();
    assert_eq!(told.lines(), ["POST / \"hi\" -> 200", "GET /next -> 200 \"ok\""]);
    let exchange = &told.exchanges[0];
    let (request, response) = (exchange.request.as_ref().unwrap(), exchange.response.as_ref().unwrap());
    assert_eq!(request.message.trailers.get("x-sum"), Some(b"7".as_slice()));
    assert_eq!(response.message.trailers.len(), 2);
    assert_eq!(response.message.body.wire_size, 22);
}

#[test]
fn targets_of_every_form_have_their_host() {
    for (head, target, host, scheme) in [
        ("GET /a HTTP/1.1\r\nHost: b.example:80\r\n", "/a", Some("b.example:80"), None),
        (
            "GET http://u@c.example/x?y HTTP/1.1\r\nHost: b\r\n",
            "http://u@c.example/x?y",
            Some("c.example"),
            Some("http"),
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: b\r\n", "*", Some("b"), None),
        ("CONNECT d.example:443 HTTP/1.1\r\n", "d.example:443", Some("d.example:443"), None),
        ("GET /a HTTP/1.0\r\n", "/a", None, None),
        ("GET /u?r=https://x.example/ HTTP/1.1\r\nHost: b\r\n", "/u?r=https://x.example/", Some("b"), None),
    ] {
        let told = Script::new()
            .client(format!("{head}\r\n"))
            .server("HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
            .fin()
            .run();
        let request = told.only().request.as_ref().unwrap();
        assert_eq!(
            (request.target.as_deref(), request.host.as_deref(), request.scheme.as_deref()),
            (Some(target), host, scheme)
        );
    }
}

#[test]
fn what_real_servers_send_is_read_and_named() {
    for (head, target, named) in [
        ("GET /a HTTP/1.1\nHost: a\n\n", "/a", vec![AnomalyKind::BareLf]),
        ("\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", "/a", vec![AnomalyKind::EmptyLineBeforeMessage]),
        ("GET /a HTTP/1.1\r\nHost : a\r\n\r\n", "/a", vec![AnomalyKind::SpaceBeforeColon]),
        ("GET /a HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", "/a", vec![AnomalyKind::ObsFold]),
        ("GET /a HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", "/a", vec![AnomalyKind::BadFieldLine]),
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "/a", vec![AnomalyKind::BadHost]),
        ("GET /a HTTP/1.1\r\n\r\n", "/a", vec![AnomalyKind::BadHost]),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "/a b", vec![AnomalyKind::BadStartLine]),
        ("GET  /a HTTP/1.1\r\nHost: a\r\n\r\n", "/a", vec![AnomalyKind::BadStartLine]),
        ("get /a HTTP/1.1\r\nHost: a\r\n\r\n", "/a", vec![]),
        ("M-SEARCH /a HTTP/1.1\r\nHost: a\r\n\r\n", "/a", vec![]),
        ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", "/a", vec![]),
        ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n", "/a", vec![]),
        (
            "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 3\r\n\r\n",
            "/a",
            vec![AnomalyKind::BadContentLength],
        ),
        (
            "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            "/a",
            vec![AnomalyKind::BadContentLength],
        ),
        (
            "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "/a",
            vec![AnomalyKind::LengthAndChunked],
        ),
        (
            "GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "/a",
            vec![AnomalyKind::UnknownTransferCoding],
        ),
        ("GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", "/a", vec![]),
    ] {
        let told = Script::new().client(head).server(OK).client(get("/next")).server(OK).fin().run();
        assert_eq!(told.exchanges.len(), 2, "{head:?}: {:?}", told.lines());
        assert_eq!(told.exchanges[0].request.as_ref().unwrap().target.as_deref(), Some(target));
        assert_eq!(kinds(&told.exchanges[0]), named, "{head:?}");
        assert_eq!(told.lines()[1], "GET /next -> 200 \"ok\"", "{head:?}");
    }
}

#[test]
fn fields_are_kept_as_sent() {
    let told = Script::new()
        .client("GET /a HTTP/1.1\r\nhOsT: a\r\nX-Long: b\r\n\tc\r\nEmpty:\r\nBytes: \u{e9}\r\n\r\n")
        .server("HTTP/1.1 200 Alles gut\r\nContent-Length: 2\r\n\r\nok")
        .fin()
        .run();
    let request = told.only().request.as_ref().unwrap();
    let fields: Vec<_> =
        request.message.headers.iter().map(|(name, value)| (name.unwrap(), value.unwrap())).collect();
    assert_eq!(fields[0], (b"hOsT".as_slice(), b"a".as_slice()));
    assert_eq!(fields[1], (b"X-Long".as_slice(), b"b c".as_slice()));
    assert_eq!(fields[2], (b"Empty".as_slice(), b"".as_slice()));
    assert_eq!(fields[3], (b"Bytes".as_slice(), "\u{e9}".as_bytes()));
    assert_eq!(&*told.only().response.as_ref().unwrap().reason, "Alles gut");
}

#[test]
fn heads_beyond_the_limit_are_cut_and_the_message_is_followed() {
    let config = Config { head_limit: 4000, fields_limit: 10, ..Config::default() };
    let many: String = (0..20).map(|n| format!("X-{n}: y\r\n")).collect();
    let large: String = (0..100).map(|n| format!("X-{n}: {}\r\n", "y".repeat(100))).collect();
    let uri = "z".repeat(9000);
    for head in [
        format!("POST /a HTTP/1.1\r\nHost: a\r\n{many}Content-Length: 3\r\n\r\nabc"),
        format!("POST /a HTTP/1.1\r\nHost: a\r\n{large}Content-Length: 3\r\n\r\nabc"),
        format!("POST /a{uri} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    ] {
        for size in [1, 7, 1448, 100_000] {
            let mut script = Script::new();
            for piece in head.as_bytes().chunks(size) {
                script = script.client(piece);
            }
            let told = script.server(OK).client(get("/next")).server(OK).fin().run_with(config);
            assert_eq!(told.exchanges.len(), 2, "{:?}", told.lines());
            let first = &told.exchanges[0];
            // What comes whole in one segment may pass; what must be held may not.
            let request = first.request.as_ref().unwrap();
            assert!(request.target.as_deref().unwrap().starts_with("/a"));
            assert_eq!(request.message.body.bytes, b"abc");
            assert!(request.message.headers.len() <= 10 + 1);
            if size < 4000 {
                assert_eq!(kinds(first)[0], AnomalyKind::HeadTooLarge, "{:?}", told.lines());
            }
            assert_eq!(told.lines()[1], "GET /next -> 200 \"ok\"");
        }
    }
}

#[test]
fn broken_chunks_end_the_message_and_the_next_is_found() {
    let broken = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n";
    check(
        Script::new().client(get("/a")).server(broken).client(get("/b")).server(OK).fin(),
        &["GET /a -> 200 \"abc\"! [bad-chunk]", "GET /b -> 200 \"ok\""],
    );
    for size in ["", "-1", "0x3", "fffffffffffffffff", ";x"] {
        let told = Script::new()
            .client(get("/a"))
            .server(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nabc\r\n0\r\n\r\n"
            ))
            .fin()
            .run();
        assert_eq!(kinds(told.only())[0], AnomalyKind::BadChunk, "{size}");
    }
}

#[test]
fn a_hole_inside_a_body_of_known_length_is_crossed() {
    check(
        Script::new()
            .client(get("/a"))
            .server("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n0123456789")
            .server_lost(10)
            .server("abcdefghij")
            .client(get("/b"))
            .server(OK)
            .fin(),
        &["GET /a -> 200 \"0123456789abcdefghij\"! {s 49+10}", "GET /b -> 200 \"ok\""],
    );
    // To its very end.
    check(
        Script::new()
            .client(get("/a"))
            .server("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n0123456789")
            .server_lost(20)
            .client(get("/b"))
            .server(OK)
            .fin(),
        &["GET /a -> 200 \"0123456789\"! {s 49+20}", "GET /b -> 200 \"ok\""],
    );
}

#[test]
fn a_hole_inside_a_chunk_is_crossed() {
    check(
        Script::new()
            .client(get("/a"))
            .server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n0123456789")
            .server_lost(4)
            .server("abcdef\r\n2\r\nzz\r\n0\r\n\r\n")
            .client(get("/b"))
            .server(OK)
            .fin(),
        &["GET /a -> 200 \"0123456789abcdefzz\"! {s 61+4}", "GET /b -> 200 \"ok\""],
    );
}

#[test]
fn a_hole_over_framing_cuts_the_message_and_the_next_is_found() {
    // Over the end of a chunk.
    check(
        Script::new()
            .client(get("/a"))
            .server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123")
            .server_lost(20)
            .server("more\r\n0\r\n\r\n")
            .client(get("/b"))
            .server(OK)
            .fin(),
        &["GET /a -> 200 \"0123\"! [cut-by-gap] {s 54+20}", "GET /b -> 200 \"ok\""],
    );
    // In a head.
    check(
        Script::new()
            .client("GET /a HTTP/1.1\r\nHost: a\r\nX: ")
            .client_lost(50)
            .server(OK)
            .client(get("/b"))
            .server(OK)
            .fin(),
        &["GET /a ! -> 200 \"ok\" [cut-by-gap] {c 29+50}", "GET /b -> 200 \"ok\""],
    );
}

#[test]
fn a_lost_request_leaves_its_response_alone() {
    let told = Script::new()
        .client(get("/a"))
        .server(ok("A"))
        .client_lost(60)
        .server(ok("B"))
        .client(get("/c"))
        .server(ok("C"))
        .fin()
        .run();
    assert_eq!(told.lines(), ["GET /a -> 200 \"A\"", "- -> 200 \"B\" {c 36+60}", "GET /c -> 200 \"C\""]);
    assert_eq!((told.counters.lone_responses, told.counters.unanswered), (1, 0));
}

#[test]
fn a_lost_response_leaves_its_request_alone() {
    let told = Script::new().client(get("/a")).server_lost(39).client(get("/b")).server(ok("B")).fin().run();
    assert_eq!(told.lines(), ["GET /a -> - {s 0+39}", "GET /b -> 200 \"B\""]);
    assert_eq!((told.counters.lone_responses, told.counters.unanswered), (0, 1));
}

#[test]
fn a_lost_response_and_the_lost_next_request_pair_nothing_wrongly() {
    check(
        Script::new()
            .client(get("/a"))
            .server_lost(39)
            .client_lost(38)
            .server(ok("B"))
            .client(get("/c"))
            .server(ok("C"))
            .fin(),
        &["- -> 200 \"B\" {c 36+38}", "GET /a -> - {s 0+39}", "GET /c -> 200 \"C\""],
    );
}

#[test]
fn a_response_waits_for_a_hole_that_is_declared_later() {
    // The answers to a lost request and to the next come before anything is known of the hole.
    let script = Script::new().client(get("/a")).server(ok("A")).client_lost(38).server(ok("B"));
    let script = script.client(get("/c")).server(ok("C")).client(get("/d"));
    // In stream order the client's gap, /c and /d come after B and C.
    let mut delayed = script;
    let gap = delayed.events.remove(3);
    let c = delayed.events.remove(4);
    delayed.events.insert(5, gap);
    delayed.events.insert(6, c);
    let told = delayed.server(ok("D")).fin().run();
    assert_eq!(
        told.lines(),
        ["GET /a -> 200 \"A\"", "- -> 200 \"B\" {c 36+38}", "GET /c -> 200 \"C\"", "GET /d -> 200 \"D\""]
    );
}

#[test]
fn directions_that_come_skewed_are_put_right() {
    // Answer before question, twice.
    check(
        Script::new()
            .client(get("/a"))
            .server(ok("A"))
            .late(1)
            .client(get("/b"))
            .server(ok("B"))
            .late(1)
            .fin(),
        &["GET /a -> 200 \"A\"", "GET /b -> 200 \"B\""],
    );
}

#[test]
fn waiting_ends_when_what_is_waited_for_never_comes() {
    let mut script = Script::new().client(get("/a")).server(ok("A")).client(get("/lost")).server(ok("B"));
    script.events.remove(3);
    let script = script.pause(2_000_000_000).client_fin();
    let mut decoder = crate::http::Decoder::new(Config::default());
    let mut out = Vec::new();
    for event in &script.events[..4] {
        decoder.push(event.clone(), &mut out);
    }
    assert_eq!(out.len(), 1, "the second answer waits");
    let deadline = decoder.deadline().unwrap();
    decoder.expire(deadline, &mut out);
    assert_eq!(out.len(), 2, "no longer");
    assert!(out[1].request.is_none());
    assert_eq!(decoder.deadline(), None);
}

#[test]
fn answers_alone_are_told_when_the_client_is_never_captured() {
    let mut script = Script::new().client(get("/a")).server(ok("A")).client(get("/b")).server(ok("B"));
    script = script.pause(1_500_000_000).client(get("/c")).server(ok("C")).client(get("/d")).server(ok("D"));
    let to_client = |event: &crate::stream::Event<'_>| !matches!(event, crate::stream::Event::Data(data) if data.direction == Direction::ToServer);
    script.events.retain(to_client);
    let mut decoder = crate::http::Decoder::new(Config::default());
    let mut out = Vec::new();
    for event in script.events {
        decoder.push(event, &mut out);
    }
    assert_eq!(out.len(), 4, "only the first ones waited");
}

#[test]
fn an_open_flow_costs_little() {
    use crate::http::connection::Connection;
    assert!(size_of::<Connection>() <= 640, "{}", size_of::<Connection>());
}

#[test]
fn mid_stream_the_first_message_found_counts() {
    check(
        Script::mid_stream()
            .server("the rest of a body")
            .client(get("/b"))
            .server(ok("B"))
            .client(post("/c", "x"))
            .server(ok("C"))
            .fin(),
        &["GET /b -> 200 \"B\"", "POST /c \"x\" -> 200 \"C\""],
    );
    check(
        Script::mid_stream().server(ok("A")).client(get("/b")).server(ok("B")).fin(),
        &["- -> 200 \"A\"", "GET /b -> 200 \"B\""],
    );
    check(
        Script::mid_stream().without_acks().client(get("/b")).server(ok("B")).fin(),
        &["GET /b -> 200 \"B\""],
    );
}

#[test]
fn an_answer_to_an_unknown_head_request_does_not_swallow_the_next() {
    check(
        Script::mid_stream()
            .server("HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
            .client(get("/b"))
            .server(ok("B"))
            .fin(),
        &["- -> 200", "GET /b -> 200 \"B\""],
    );
}

#[test]
fn pipelining_and_holes_pair_nothing() {
    // Of three pipelined answers one is lost: nobody can say which.
    let script =
        Script::new().client([get("/a"), get("/b"), get("/c")].concat()).server_lost(39).server(ok("?"));
    let told = script.server(ok("?")).fin().run();
    for exchange in &told.exchanges {
        assert!(exchange.request.is_none() || exchange.response.is_none(), "{:?}", told.lines());
    }
    assert_eq!(told.exchanges.len(), 5);
}

#[test]
fn an_unasked_response_is_alone_and_said() {
    check(
        Script::new()
            .client(get("/a"))
            .server(ok("A"))
            .server(ok("B"))
            .client(get("/c"))
            .server(ok("C"))
            .fin(),
        &["GET /a -> 200 \"A\"", "- -> 200 \"B\" [unsolicited-response]", "GET /c -> 200 \"C\""],
    );
}

#[test]
fn requests_beyond_the_queue_are_told_without_an_answer() {
    let config = Config { pipeline_limit: 3, ..Config::default() };
    let all: String = (0..5).map(|n| get(&format!("/{n}"))).collect();
    let told = Script::new().client(all).fin().run_with(config);
    assert_eq!(
        told.lines(),
        [
            "GET /0 -> - [pipeline-overflow]",
            "GET /1 -> - [pipeline-overflow]",
            "GET /2 -> - [no-response]",
            "GET /3 -> - [no-response]",
            "GET /4 -> - [no-response]",
        ]
    );
}

#[test]
fn bytes_between_messages_are_said() {
    check(
        Script::new()
            .client(get("/a"))
            .server(ok("A"))
            .client("garbage!\x01\x02")
            .client(get("/b"))
            .server(ok("B"))
            .fin(),
        &["GET /a -> 200 \"A\"", "GET /b -> 200 \"B\" [stray-bytes]"],
    );
}

#[test]
fn a_differing_retransmission_is_said_where_it_belongs() {
    check(
        Script::new().client(get("/a")).conflict(Direction::ToServer, 5).server(OK).fin(),
        &["GET /a -> 200 \"ok\" [retransmission-differs]"],
    );
    check(
        Script::new()
            .client(get("/a"))
            .server("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            .conflict(Direction::ToClient, 1)
            .server("cd")
            .fin(),
        &["GET /a -> 200 \"abcd\" [retransmission-differs]"],
    );
}

#[test]
fn other_protocols_are_counted_once_and_not_misread() {
    for (first, direction, kind) in [
        (b"\x16\x03\x01\x00\x05hello".as_slice(), Direction::ToServer, OtherProtocol::Tls),
        (b"SSH-2.0-OpenSSH_9\r\n", Direction::ToClient, OtherProtocol::Ssh),
        (b"SSH-2.0-OpenSSH_9\r\n", Direction::ToServer, OtherProtocol::Ssh),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Direction::ToServer, OtherProtocol::Postgres),
        (b"\0\0\0\x20\0\x03\0\0user\0a\0database\0b\0\0", Direction::ToServer, OtherProtocol::Postgres),
        (b"*1\r\n$4\r\nPING\r\n", Direction::ToServer, OtherProtocol::Redis),
        (
            b"\0\x1d\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01",
            Direction::ToServer,
            OtherProtocol::Dns,
        ),
        (b"GET /\r\n", Direction::ToServer, OtherProtocol::Unknown),
        (b"EHLO mail.example\r\n", Direction::ToServer, OtherProtocol::Unknown),
        (b"220 mail.example ESMTP\r\n", Direction::ToClient, OtherProtocol::Unknown),
        (b"\x10\x20\x30", Direction::ToServer, OtherProtocol::Unknown),
        (
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n\x16\x03\x01\x00\x05hello",
            Direction::ToServer,
            OtherProtocol::Tls,
        ),
    ] {
        let script = Script::new();
        let script = match direction {
            Direction::ToServer => script.client(first),
            Direction::ToClient => script.server(first),
        };
        let told = script.client(get("/not")).server(OK).fin().run();
        assert_eq!(told.lines(), Vec::<String>::new(), "{first:?}");
        assert_eq!(
            told.counters.other_flows.iter().map(|(k, n)| (*k, *n)).collect::<Vec<_>>(),
            [(kind, 1)],
            "{first:?}"
        );
    }
}

#[test]
fn tls_mid_stream_is_told_from_http() {
    let told = Script::mid_stream()
        .client(b"\x17\x03\x03\x00\x04abcd\x17\x03\x03\x00\x02hi")
        .server(b"\x17\x03\x03\x00\x09GET / HTT")
        .fin()
        .run();
    assert_eq!(told.counters.other_flows.get(&OtherProtocol::Tls), Some(&1));
    assert_eq!(told.exchanges.len(), 0);
}

#[test]
fn a_proxy_header_before_http_is_stepped_over() {
    let v1 = b"PROXY TCP4 192.0.2.1 10.0.0.2 56324 80\r\n".to_vec();
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend_from_slice(&[192, 0, 2, 1, 10, 0, 0, 2, 0, 80, 0, 80]);
    for header in [v1, v2] {
        let all = [header.as_slice(), get("/a").as_bytes()].concat();
        for size in [1, 13, 1000] {
            let mut script = Script::new();
            for piece in all.chunks(size) {
                script = script.client(piece);
            }
            check(script.server(OK).fin(), &["GET /a -> 200 \"ok\""]);
        }
    }
}

#[test]
fn empty_lines_before_the_first_request_are_the_same_however_they_are_cut() {
    for blank in ["\r\n", "\n\n", "\r\r\r\n", "\r\n\r\n\r\n"] {
        let all = [blank, get("/a").as_str()].concat();
        for size in [1, 2, 3, 1000] {
            let mut script = Script::new();
            for piece in all.as_bytes().chunks(size) {
                script = script.client(piece);
            }
            check(script.server(OK).fin(), &["GET /a -> 200 \"ok\" [empty-line-before-message]"]);
        }
    }
}

#[test]
fn a_granted_tunnel_is_a_connection_of_its_own() {
    let connect = "CONNECT x.example:443 HTTP/1.1\r\nHost: x.example:443\r\n\r\n";
    let told = Script::new()
        .client(connect)
        .server("HTTP/1.1 200 Connection established\r\n\r\n")
        .client(b"\x16\x03\x01\x00\x05hello")
        .server(b"\x16\x03\x03\x00\x05hello")
        .fin()
        .run();
    assert_eq!(told.lines(), ["CONNECT x.example:443 -> 200"]);
    assert_eq!(told.counters.other_flows.get(&OtherProtocol::Tls), Some(&1));
    check(
        Script::new()
            .client(connect)
            .server("HTTP/1.1 200 Connection established\r\n\r\n")
            .client(get("/inside"))
            .server(OK)
            .fin(),
        &["CONNECT x.example:443 -> 200", "GET /inside -> 200 \"ok\""],
    );
    check(
        Script::new()
            .client(connect)
            .server("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
            .client(get("/b"))
            .server(OK)
            .fin(),
        &["CONNECT x.example:443 -> 403", "GET /b -> 200 \"ok\""],
    );
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

#[test]
fn a_websocket_is_one_exchange_told_at_its_end() {
    let hello = b"\x81\x05hello";
    let masked = b"\x81\x82\0\0\0\0hi";
    let told = Script::new()
        .client(UPGRADE)
        .server([SWITCHED.as_bytes(), hello].concat())
        .client(masked)
        .fin()
        .run();
    let exchange = told.only();
    assert_eq!(exchange.response.as_ref().unwrap().status, Some(101));
    let websocket = exchange.websocket.as_ref().unwrap();
    let texts: Vec<_> = websocket.messages.iter().map(|message| message.bytes.as_slice()).collect();
    assert_eq!(texts, [b"hello".as_slice(), b"hi"]);
    // The client's frame may be seen before the response that allows it.
    let told = Script::new().client(UPGRADE).server(SWITCHED).client(masked).late(1).fin().run();
    assert_eq!(told.only().websocket.as_ref().unwrap().messages.len(), 1);
}

#[test]
fn a_websocket_whose_handshake_was_half_lost_is_still_one() {
    let frames = [b"\x81\x05hello".as_slice(), b"\x81\x06hello!"].concat();
    let told =
        Script::new().client(UPGRADE).server_lost(SWITCHED.len()).server(&frames).server(&frames).fin().run();
    let exchange = told.only();
    assert!(exchange.response.is_none());
    assert_eq!(exchange.websocket.as_ref().unwrap().messages.len(), 4);
    assert_eq!(exchange.gaps.len(), 1);
}

#[test]
fn a_refused_upgrade_is_an_ordinary_exchange() {
    check(
        Script::new().client(UPGRADE).server(ok("no")).client(get("/b")).server(OK).fin(),
        &["GET /chat -> 200 \"no\"", "GET /b -> 200 \"ok\""],
    );
}

#[test]
fn an_unknown_upgrade_is_said_and_what_follows_is_not_misread() {
    check(
        Script::new()
            .client("GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: foo/2\r\n\r\n")
            .server("HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo/2\r\n\r\n")
            .client(get("/not"))
            .server(OK)
            .fin(),
        &["GET /x -> 101 [unknown-upgrade]"],
    );
}

#[test]
fn an_upgrade_to_h2c_goes_on_as_stream_1() {
    // SETTINGS, then HEADERS of stream 1 with `:status: 200` (static index 8), END_HEADERS and END_STREAM.
    let server = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x88";
    let told = Script::new()
        .client("GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
        .server([b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".as_slice(), server].concat())
        .client(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .fin()
        .run();
    assert_eq!(told.lines(), ["GET /up ~101 -> 200"]);
}

#[test]
fn prior_knowledge_is_known_by_the_preface_however_it_is_cut() {
    let client =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86"
            .as_slice();
    let server = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x88".as_slice();
    for size in [1, 3, 10, 24, 1000] {
        let mut script = Script::new();
        for piece in client.chunks(size) {
            script = script.client(piece);
        }
        for piece in server.chunks(size) {
            script = script.server(piece);
        }
        let told = script.fin().run();
        assert_eq!(told.lines(), ["GET / -> 200"], "{size}");
        assert_eq!(told.exchanges[0].protocol, Protocol::H2c);
    }
    // A server may speak first.
    let told = Script::new().server(&server[..9]).client(client).server(&server[9..]).fin().run();
    assert_eq!(told.lines(), ["GET / -> 200"]);
}

#[test]
fn ids_are_distinct_and_the_same_in_every_run() {
    let all: String = (0..20).map(|n| get(&format!("/{n}"))).collect();
    let script = Script::new().client(all).server(ok("x").repeat(20)).fin();
    let ids: Vec<_> = script.run().exchanges.iter().map(|exchange| exchange.id).collect();
    assert_eq!(ids, script.run().exchanges.iter().map(|exchange| exchange.id).collect::<Vec<_>>());
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 20);
}

#[test]
fn what_is_asked_and_not_yet_answered_whole_is_in_flight() {
    let now = |script: Script| {
        let mut decoder = Decoder::new(Config::default());
        let mut out = Vec::new();
        script.events.into_iter().for_each(|event| decoder.push(event, &mut out));
        let (shown, all) = decoder.in_flight(1);
        let first = shown.first().map(|one| (one.target.clone().unwrap_or_default().into_string(), one.status));
        (first, all)
    };
    let target = |name: &str, status| (Some((name.to_owned(), status)), 1);
    assert_eq!(now(Script::new()), (None, 0));
    assert_eq!(now(Script::new().client(get("/a"))), target("/a", None));
    assert_eq!(now(Script::new().client("GET /a HTTP/1.1\r\nHo")), (None, 0), "no head yet");
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal";
    assert_eq!(now(Script::new().client(get("/a")).server(half)), target("/a", Some(200)));
    assert_eq!(now(Script::new().client(get("/a")).server(OK)), (None, 0));
    let (first, all) = now(Script::new().client(get("/a")).client(get("/b")));
    assert_eq!((first, all), (Some(("/a".to_owned(), None)), 2), "the oldest of both");
}
