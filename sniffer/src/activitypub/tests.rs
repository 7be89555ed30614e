//! What readings say, at the module's edge: exchanges in, sentences and facts out.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::unwrap_used)]

use std::collections::HashSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use sha2::Digest as _;

use super::*;
use crate::flow::{Ends, FlowId};
use crate::frame::{Interface, Timestamp};
use crate::http::{Body, ExchangeId, Headers, Message, Protocol, Response};

/// 2026-11-23T07:26:40Z.
const NOW: u64 = 1_795_418_800;
const DATE: &str = "Mon, 23 Nov 2026 07:26:40 GMT";
const AS_TYPE: &str = "application/activity+json";

/// An exchange from two messages as text: first line, header lines, an empty line, the body. An empty response: none.
fn exchange(request: &str, response: &str) -> Exchange {
    let time = Timestamp(NOW * 1_000_000_000);
    let request = (!request.is_empty()).then(|| {
        let (line, message) = message(request);
        let mut parts = line.split(' ');
        let method = parts.next().map(Into::into);
        let target = parts.next().map(Into::into);
        let host = message.headers.text("Host").map(Into::into);
        Request { method, target, host, scheme: None, message }
    });
    let response = (!response.is_empty()).then(|| {
        let (line, message) = message(response);
        Response { status: line.split(' ').next().unwrap().parse().ok(), reason: "".into(), message }
    });
    Exchange {
        id: ExchangeId::new(time, 1),
        flow: FlowId(1),
        ends: Ends {
            client: "10.42.0.10:40000".parse::<SocketAddr>().unwrap(),
            server: "10.42.0.22:8080".parse::<SocketAddr>().unwrap(),
        },
        interface: Interface::Unknown,
        interface_name: None,
        protocol: Protocol::Http11,
        started: time,
        ended: time,
        request,
        response,
        interim: Vec::new(),
        websocket: None,
        gaps: Vec::new(),
        anomalies: Vec::new(),
    }
}

fn message(text: &str) -> (&str, Message) {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let first = lines.next().unwrap();
    let mut headers = Headers::default();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.push(Some(name.as_bytes()), Some(value.as_bytes()));
    }
    (first, Message { headers, body: whole_body(body.as_bytes()), ..Message::default() })
}

fn whole_body(bytes: &[u8]) -> Body {
    let hash: [u8; 32] = sha2::Sha256::digest(bytes).into();
    let size = bytes.len() as u64;
    Body {
        wire_size: size,
        coded_size: size,
        size,
        complete: true,
        sha256: Some(hash),
        coded_sha256: Some(hash),
        bytes: bytes.to_vec(),
        ..Body::default()
    }
}

/// Reads, and checks what must hold of every reading: the template is in the table, and its slots are filled.
fn read(reader: &mut Reader, exchange: &Exchange) -> Reading {
    let reading = reader.read(exchange);
    let sentence = &reading.sentence;
    let (_, english, japanese) = TEMPLATES
        .iter()
        .find(|(name, _, _)| *name == &*sentence.template)
        .unwrap_or_else(|| panic!("no template {}", sentence.template));
    for slot in slots(english).union(&slots(japanese)) {
        assert!(sentence.slots.iter().any(|(name, _)| **name == **slot), "{} lacks {slot}", sentence.template);
    }
    for (_, value) in &sentence.slots {
        assert!(value.chars().count() <= 201, "bounded");
        assert!(!value.chars().any(char::is_control), "fit for a terminal");
    }
    reading
}

fn slots(template: &str) -> HashSet<String> {
    template.split('{').skip(1).map(|rest| rest.split('}').next().unwrap().to_owned()).collect()
}

fn said(request: &str, response: &str) -> String {
    read(&mut Reader::new(), &exchange(request, response)).sentence.render()
}

/// A delivery from the host of the activity's actor.
fn delivery(inbox: &str, body: &str) -> String {
    let (host, path) = inbox.split_once('/').unwrap();
    format!("POST /{path} HTTP/1.1\nHost: {host}\nContent-Type: {AS_TYPE}\nDate: {DATE}\nUser-Agent: test/1\n\n{body}")
}

macro_rules! files {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("testdata/", $name, ".json")))),*] };
}

const FILES: &[(&str, &str)] = files! {
    "accept-by-id" "accept-follow" "accept-quote" "actor" "add-moderator" "add-pin" "add-tag" "announce"
    "announce-group" "announce-relay" "bare-note" "block" "block-ban" "collection" "create-article" "create-chat"
    "create-direct" "create-followers" "create-iri" "create-note" "create-page" "create-playlist" "create-poll"
    "create-reply" "create-unlisted" "create-video" "create-vote" "delete-actor" "delete-iri" "delete-note"
    "delete-typed" "delete-unknown" "dislike" "emoji-react" "expanded" "feature-request" "flag" "flag-posts" "follow"
    "follow-relay" "join" "like" "like-reaction" "like-request" "listen" "lock" "move" "quote-request" "reject-follow"
    "remove-pin" "type-array" "undo-announce" "undo-block" "undo-follow" "undo-iri" "undo-like" "undo-lock"
    "undo-reaction" "unknown-type" "untyped" "update-actor" "update-note" "update-poll" "view"
};

fn file(name: &str) -> &'static str {
    FILES.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no {name}.json")).1
}

#[test]
fn every_activity_type_has_its_sentence() {
    // (activity, the inbox it goes to, English, Japanese)
    let table: &[(&str, &str, &str, &str)] = &[
        ("follow", "gts.example/users/bob/inbox", "", ""),
    ];
    let _ = table;
    for (name, body) in FILES {
        let reading = read(&mut Reader::new(), &exchange(&delivery("gts.example/users/bob/inbox", body), "202 Accepted\n\n"));
        println!("{name}: {} | {} | {:?}", reading.sentence.render(), reading.sentence.render_in(Language::Japanese), reading.kind);
    }
}
