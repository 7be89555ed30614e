//! The filter: what it takes, what it refuses and where, what it costs.
#![allow(clippy::arithmetic_side_effects, clippy::string_slice)]

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::activitypub::{Activity, Kind, Lint, Origin, OriginSource, Scheme, Sentence, Severity};
use crate::flow::{Ends, FlowId};
use crate::frame::Interface;
use crate::http::{
    Anomaly, AnomalyKind, Body, ExchangeId, GapMark, Headers, Message, Protocol, Request, Response,
};
use crate::stream::GapCause;

const ALICE: &str = "https://gts1.test/users/alice";

fn message(fields: &[(&str, &str)], body: &[u8]) -> Message {
    let mut headers = Headers::default();
    for (name, value) in fields {
        headers.push(Some(name.as_bytes()), Some(value.as_bytes()));
    }
    Message {
        version: (1, 1),
        headers,
        body: Body {
            size: body.len() as u64,
            wire_size: 40,
            bytes: body.to_vec(),
            complete: true,
            ..Body::default()
        },
        first_byte: Timestamp(1_000_000_000_000_000_000),
        last_byte: Timestamp(1_000_000_000_000_210_000),
        ..Message::default()
    }
}

/// A delivery that was answered with 202.
fn delivery() -> (Exchange, Reading) {
    let started = Timestamp(1_000_000_000_000_000_000);
    let exchange = Exchange {
        id: ExchangeId::new(started, 7),
        flow: FlowId(0),
        ends: Ends { client: "10.42.0.2:41234".parse().unwrap(), server: "[fd00::12]:8080".parse().unwrap() },
        interface: Interface::Unknown,
        interface_name: Some("veth1".into()),
        protocol: Protocol::Http11,
        started,
        ended: started.plus_nanos(2_000_000),
        request: Some(Request {
            method: Some("POST".into()),
            target: Some("/users/bob/inbox?x=1".into()),
            host: Some("gts2.test".into()),
            scheme: None,
            message: message(
                &[("User-Agent", "GoToSocial/0.20"), ("X-Twice", "a"), ("x-twice", "b")],
                br#"{"type":"Follow","content":"coffee"}"#,
            ),
        }),
        response: Some(Response {
            status: Some(202),
            reason: "Accepted".into(),
            message: message(&[("Content-Type", "text/plain")], b"tea"),
        }),
        interim: Vec::new(),
        websocket: None,
        gaps: vec![GapMark { to_server: true, offset: 0, length: 9, cause: GapCause::CaptureLoss }],
        anomalies: vec![Anomaly { kind: AnomalyKind::BareLf, detail: "".into() }],
    };
    let mut reading = Reading::unknown();
    reading.kind = Kind::InboxDelivery;
    reading.sentence = Sentence { template: "follow.ask".into(), slots: vec![] };
    reading.activity = Some(Activity {
        id: Some("https://gts1.test/follow/1".into()),
        r#type: Some("Follow".into()),
        actor: Some(ALICE.into()),
        object: Some("https://gts2.test/users/bob".into()),
        to: vec!["https://gts2.test/users/bob".into()],
        ..Activity::default()
    });
    reading.origin = Some(Origin {
        address: Some("10.42.0.11".into()),
        host: Some("gts1.test".into()),
        host_from: Some(OriginSource::KeyId),
        ..Origin::default()
    });
    reading.signature.scheme = Some(Scheme::Cavage);
    reading.signature.covered = vec!["(request-target)".into(), "host".into()];
    reading.lints = vec![Lint { id: "date-skew".into(), severity: Severity::Warn, detail: "".into() }];
    (exchange, reading)
}

/// A request that nobody answered, and of which nothing is known.
fn unanswered() -> (Exchange, Reading) {
    let (mut exchange, _) = delivery();
    exchange.response = None;
    exchange.gaps.clear();
    exchange.anomalies.clear();
    let mut reading = Reading::unknown();
    reading.federation = false;
    (exchange, reading)
}

fn check(text: &str, (exchange, reading): &(Exchange, Reading), expected: bool) {
    let filter = Filter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(filter.matches(exchange, reading), expected, "{text}");
    // What a row can answer, it answers alike.
    let (row, keys) = (Row::new(exchange, reading), RowKeys::new(exchange, reading));
    if let Some(by_row) = filter.matches_row(&row, &keys) {
        assert_eq!(by_row, expected, "{text}, by its row");
    }
    // An exchange matches exactly one of a filter and its negation.
    if !text.trim().is_empty() {
        let negated = Filter::parse(&format!("!({text}\n)")).unwrap();
        assert_eq!(negated.matches(exchange, reading), !expected, "!({text})");
    }
}

#[test]
fn what_a_delivery_matches() {
    let told = delivery();
    for text in [
        "",
        "  ",
        "true",
        "kind == \"inbox-delivery\"",
        "reading.kind == 'inbox-delivery'",
        "activity.type == \"Follow\" && response.status == 202",
        "reading.activity.type in ['Like', 'Follow']",
        "response.status >= 200 && response.status < 300",
        "200 <= response.status",
        "response.status in [201, 202]",
        "response.status == 202u && response.status < 202.5",
        "request.path == '/users/bob/inbox' && request.query == 'x=1'",
        "request.path.contains(\"/bob/\")",
        "request.target.startsWith('/users') && request.target.endsWith('x=1')",
        "request.host.matches('^gts[0-9][.]')",
        "matches(request.host, 'test$')",
        "request.headers['user-agent'].contains('GoToSocial')",
        "request.headers['USER-AGENT'] == 'GoToSocial/0.20'",
        "request.headers[\"x-twice\"] == 'a, b'",
        "'user-agent' in request.headers && !('date' in request.headers)",
        "has(request.headers.host) == false",
        "request.headers.exists(name, name.startsWith('x-'))",
        "size(request.headers) == 2",
        "request.body.size == 36 && response.body.size == 3",
        "request.body.text.contains('coffee')",
        "body.text.contains('coffee') && body.text.contains('tea')",
        "origin.host == 'gts1.test' && request.host == 'gts2.test'",
        "origin.host in ['gts1.test', 'gts2.test'] && request.host in ['gts1.test', 'gts2.test']",
        "activity.actor == 'https://gts1.test/users/alice'",
        "'https://gts2.test/users/bob' in activity.to",
        "signature.scheme == 'cavage' && 'host' in signature.covered",
        "signature.covered.all(c, c != 'digest')",
        "signature.covered.exists_one(c, c == 'host')",
        "signature.covered.filter(c, c == 'host').size() == 1",
        "signature.covered.map(c, size(c)) == [16, 4]",
        "signature.covered.map(c, c == 'host', size(c))[0] == 4",
        "signature.covered[1] == 'host'",
        "digest == 'not-checkable'",
        "gaps > 0 && size(gaps) == 1 && 'capture-loss' in gaps",
        "anomalies.exists(a, a == 'bare-lf') && 'bare-lf' in anomalies && anomalies.size() >= 1",
        "'date-skew' in lints",
        "lints == ['date-skew']",
        "federation",
        "websocket == null && response != null && activity != null",
        "has(activity.type) && !has(activity.target)",
        "activity && !websocket",
        "timing.request_us == 210 && timing.total_us < 1000 * 1000",
        "timing.total_us / 2 + 1 > -5 && timing.request_us % 2 == 0",
        "started >= timestamp('2001-09-09T01:46:40Z') && started < '2001-09-09T01:46:41Z'",
        "string(started).startsWith('2001-09-09T01:46:40.0')",
        "client.address == '10.42.0.2:41234' && server.ip == 'fd00::12' && server.port == 8080",
        "interface == 'veth1' && protocol == 'http/1.1'",
        "template == 'follow.ask'",
        "(response.status > 300 ? 'bad' : 'good') == 'good'",
        "activity.type.lowerAscii() == 'follow' && activity.type.upperAscii() == 'FOLLOW'",
        "int('12') == 12 && double('1.5') > 1 && string(202) == '202'",
        "request.host + '/x' == 'gts2.test/x'",
        "id.size() == 26",
        "response.status == 202 // a comment",
        "request.headers.exists(a, signature.covered.exists(b, a == 'user-agent' && b == 'host'))",
    ] {
        check(text, &told, true);
    }
    for text in [
        "false",
        "kind == 'actor'",
        "response.status != 202",
        "activity.type == 'Like' || response.status == 404",
        "request.headers['date'] == ''",
        "'x' in activity.cc",
        "gaps == 0",
        "websocket != null",
        "request.path.matches('^/inbox')",
        "started < timestamp('2001-09-09T01:46:40Z')",
    ] {
        check(text, &told, false);
    }
}

#[test]
fn what_is_absent_does_not_match_and_is_not_an_error() {
    let told = unanswered();
    for text in [
        "response.status >= 400",
        "response.status < 400",
        "response.status == 200",
        "response.status in [200]",
        "response.status + 1 > 0",
        "response.reason.contains('x')",
        "response.headers['server'] == 'nginx'",
        "response.headers['server'].contains('')",
        "'server' in response.headers",
        "response.headers.exists(n, true)",
        "activity.type.startsWith('')",
        "activity.type == origin.host",
        "activity.to.exists(t, true)",
        "'x' in activity.to",
        "size(response.reason) >= 0",
        "has(response.status)",
        "response != null",
        "response.body.complete",
        "1 / 0 == 1",
        "1 / 0 > 0 || 9223372036854775807 + 1 > 0",
        "[1, 2][5] == 1",
        "int('twelve') == 12",
        "timing.total_us > 0",
        "websocket.close_code >= 0",
        "origin.name != null",
    ] {
        check(text, &told, false);
    }
    for text in [
        "response.status != 200",
        "!(response.status >= 400)",
        "response.status == null && response == null",
        "response.headers.all(n, false)",
        "size(gaps) == 0 && gaps == 0",
        "kind == 'unknown' && !federation",
        "request.method == 'POST'",
        "activity.type == 'Follow' ? false : true",
    ] {
        check(text, &told, true);
    }
}

/// The message holds `part`, and the place is (line, column).
fn refused(text: &str, place: (usize, usize), part: &str) {
    let error = Filter::parse(text).expect_err(text);
    assert_eq!((error.line, error.column), place, "{text}: {error}");
    assert!(error.message.contains(part), "{text}: {error}");
}

#[test]
fn mistakes_are_said_with_their_place_and_what_to_write() {
    for (text, place, part) in [
        // Names.
        ("respons.status == 200", (1, 1), "did you mean response.status?"),
        ("true && respnse.status == 200", (1, 9), "did you mean response.status?"),
        ("true &&\n  request.pth == 'x'", (2, 3), "did you mean request.path?"),
        ("'ééé' == origin.hots", (1, 10), "did you mean origin.host?"),
        ("status == 200", (1, 1), "did you mean response.status?"),
        ("actor == 'x'", (1, 1), "did you mean activity.actor?"),
        ("reading.knd == 'x'", (1, 1), "did you mean reading.kind?"),
        ("completely.different == 1", (1, 1), "no exchange has a field completely.different"),
        ("timing > 3", (1, 1), "timing.total_us"),
        ("activity.type.length == 3", (1, 1), "has no parts"),
        ("length(request.path) > 3", (1, 1), "did you mean size?"),
        ("federation && !(now() > 3)", (1, 17), "no function now"),
        ("request.path.contain('x')", (1, 1), "did you mean contains?"),
        ("gaps.exists(g, x == 1)", (1, 16), "no exchange has a field x"),
        // Syntax.
        ("response.status = 200", (1, 17), "=="),
        ("'ééé' = request.host", (1, 7), "=="),
        ("kind == 'actor' and federation", (1, 17), "&&"),
        ("not federation", (1, 1), "!"),
        ("kind == 'actor", (1, 9), "not closed"),
        ("kind ==", (1, 8), "not complete"),
        ("(kind == 'actor'", (1, 17), "not complete"),
        ("kind == 'actor')", (1, 16), "not an expression"),
        ("{'a': 1} == null", (1, 1), "no maps"),
        // Types.
        ("response.status == '404'", (1, 20), "write 404 without quotes"),
        ("activity.type == 5", (1, 18), "write \"5\" in quotes"),
        ("request.path", (1, 1), "not a condition"),
        ("federation && response.status", (1, 15), "response.status > 0"),
        ("1 + 1", (1, 1), "not a condition"),
        ("null", (1, 1), "not a condition"),
        ("response.status.contains('4')", (1, 1), "needs a text"),
        ("anomalies == 'bare-lf'", (1, 14), "write \"bare-lf\" in anomalies"),
        ("'x' in request.path", (1, 8), "contains"),
        ("response == 'x'", (1, 13), "response != null"),
        ("request.headers['a'] > 3", (1, 24), "cannot be compared"),
        ("request.headers[1] == 'x'", (1, 17), "in quotes"),
        ("started > 'yesterday'", (1, 11), "2026-11-23T07:27:00Z"),
        ("request.path.matches('(')", (1, 22), "not a pattern"),
        ("request.path.matches(request.host)", (1, 22), "written out"),
        ("request.path.matches('(a{1000}){1000}')", (1, 22), "not a pattern"),
        ("kind < null", (1, 1), "null"),
        // Values.
        ("kind == 'inbox-delivry'", (1, 9), "did you mean \"inbox-delivery\"?"),
        ("signature.verdict in ['valid', 'wrong']", (1, 32), "it can be valid, invalid"),
        ("'bare-lff' in anomalies", (1, 1), "did you mean \"bare-lf\"?"),
    ] {
        refused(text, place, part);
    }
}

#[test]
fn every_field_can_be_named_and_is_told() {
    let (whole, nothing) = (delivery(), unanswered());
    for field in fields() {
        let text = match field.kind {
            "bool" | "object" => field.name.to_owned(),
            "int" => format!("{} >= 0", field.name),
            "string" => format!("{}.size() >= 0", field.name),
            "timestamp" => format!("{} > '1970-01-01T00:00:00Z'", field.name),
            "map" => format!("'x' in {}", field.name),
            "list(string)" => format!("size({}) >= 0", field.name),
            other => panic!("{other}"),
        };
        let filter = Filter::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        for (exchange, reading) in [&whole, &nothing] {
            let by_row = filter.matches_row(&Row::new(exchange, reading), &RowKeys::new(exchange, reading));
            assert!(by_row.is_none_or(|by_row| by_row == filter.matches(exchange, reading)), "{text}");
        }
        for value in field.values.unwrap_or_default() {
            let text = match field.kind {
                "string" => format!("{} == '{value}'", field.name),
                _ => format!("'{value}' in {}", field.name),
            };
            Filter::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        }
        assert!(!field.help.is_empty());
    }
}

#[test]
fn the_plan_says_what_indexes_can_use() {
    let plan = |text: &str| Filter::parse(text).unwrap().plan().clone();
    let one =
        |field, values: &[&str]| (field, values.iter().map(|v| Box::from(*v)).collect::<Vec<Box<str>>>());
    assert_eq!(
        plan("activity.actor == 'a' && 'actor' == kind || true"),
        Plan::default(),
        "an alternative frees both sides"
    );
    assert_eq!(
        plan(
            "origin.host in ['b', 'a'] && (activity.type == 'Follow' || activity.type == 'Undo') && gaps > 0"
        )
        .any_of,
        [one(Indexed::OriginHost, &["a", "b"]), one(Indexed::ActivityType, &["Follow", "Undo"])]
    );
    assert_eq!(plan("activity.actor == 'a' || kind == 'actor'").any_of, []);
    assert_eq!(plan("!(activity.actor == 'a')"), Plan::default());
    assert_eq!(plan("activity.actor != 'a'"), Plan::default());
    assert_eq!(plan("response.status >= 400 && 500 > response.status").status, Some((400, 499)));
    assert_eq!(plan("response.status == 404").status, Some((404, 404)));
    let times = plan("started >= '1970-01-01T00:00:01Z' && started < timestamp('1970-01-01T00:00:02Z')");
    assert_eq!((times.from, times.to), (Some(Timestamp(1_000_000_000)), Some(Timestamp(2_000_000_000))));
}

#[test]
fn what_is_looked_at_is_known() {
    let filter = |text: &str| Filter::parse(text).unwrap();
    assert!(filter("activity.actor == 'x' && response.status >= 400 && size(gaps) > 0").row_only());
    assert!(!filter("request.headers['x'] == 'y'").row_only());
    assert!(!filter("'bare-lf' in anomalies").row_only());
    assert!(filter("body.text.contains('x')").needs_bodies());
    assert!(!filter("sentence.contains('x')").needs_bodies());
}

#[test]
fn hostile_texts_are_refused_or_answered_quickly() {
    let told = delivery();
    let n = 100_000;
    let texts = [
        "(".repeat(n),
        "(".repeat(24) + "true" + &")".repeat(24),
        "!".repeat(n) + "true",
        "!".repeat(30) + "true",
        "-".repeat(30) + "1 > 0",
        "[".repeat(n),
        "{".repeat(n),
        "1+".repeat(n) + "1 == 1",
        "true && ".repeat(n) + "true",
        "true && ".repeat(1000) + "true",
        "true || ".repeat(1000) + "true",
        "true && true || ".repeat(500) + "true",
        "true ? true : ".repeat(1000) + "true",
        "true ? true : ".repeat(15) + "true",
        "a.".repeat(1000) + "b",
        "a.".repeat(30) + "b",
        "request.path.lowerAscii()".to_owned() + &".lowerAscii()".repeat(1000) + " == 'x'",
        "'".repeat(8000),
        "\"\\".repeat(4000),
        "x".repeat(8000),
        "kind == 'actor' ".repeat(500),
        ", ".repeat(4000),
        "é(".repeat(1000),
        "\u{0}\u{feff}\u{202e}".repeat(500),
        "request.path.matches('((((a*)*)*)*)*b')".into(),
        format!("response.status in [{}]", vec!["1"; 3000].join(",")),
        // Four loops of 100 × 100 × 100 × 100 = 10^8 turns.
        {
            let list = format!("[{}]", vec!["1"; 100].join(","));
            format!("{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d > 0))))")
        },
    ];
    for text in texts {
        let start = Instant::now();
        // As small as a thread's stack gets in practice.
        let (text_for_thread, told) = (text.clone(), told.clone());
        std::thread::Builder::new()
            .stack_size(1 << 20)
            .spawn(move || {
                if let Ok(filter) = Filter::parse(&text_for_thread) {
                    filter.matches(&told.0, &told.1);
                    drop(filter);
                }
            })
            .unwrap()
            .join()
            .unwrap_or_else(|_| panic!("{}", text.chars().take(60).collect::<String>()));
        let took = start.elapsed();
        assert!(took.as_secs() < 5, "{} took {took:?}", text.chars().take(60).collect::<String>());
    }
}

#[test]
fn out_of_steps_is_no_match_and_neither_is_its_opposite() {
    let list = format!("[{}]", vec!["1"; 200].join(","));
    let text = format!("{list}.all(a, {list}.all(b, {list}.all(c, a + b + c > 0)))");
    let (exchange, reading) = delivery();
    assert!(!Filter::parse(&text).unwrap().matches(&exchange, &reading));
    assert!(!Filter::parse(&format!("!{text}")).unwrap().matches(&exchange, &reading));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// No text panics, whatever the parser makes of it.
    #[test]
    fn no_text_panics(words in proptest::collection::vec(proptest::sample::select(vec![
        "request", "response", ".", "status", "headers", "[", "]", "(", ")", "{", "}", "'x'", "\"", "'", "1", "-1",
        "0x", "1e", "1u", "==", "!=", "<", "=", "&&", "||", "!", "?", ":", ",", "in", "has", "exists", "all", "map",
        "kind", "gaps", "null", "true", "x", "\\", "`", "r'", "b'", "//", "\n", " ", "é", "@", "_", "...", "optional",
    ]), 0..24)) {
        let text = words.concat();
        if let Ok(filter) = Filter::parse(&text) {
            let (exchange, reading) = delivery();
            filter.matches(&exchange, &reading);
        }
        let text = words.join(" ");
        if let Err(error) = Filter::parse(&text) {
            prop_assert!(error.line >= 1 && error.column >= 1);
        }
    }
}
