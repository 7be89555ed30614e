//! What must be true of every exchange, whatever it was decoded from.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};
use sniffer::activitypub::Reading;
use sniffer::http::{Body, Config, Exchange};
use sniffer::view::{ExchangeView, Row, SCHEMA};

/// An exchange holds together.
pub fn exchange(exchange: &Exchange, config: &Config) {
    assert!(exchange.request.is_some() || exchange.response.is_some(), "an exchange of nothing");
    assert!(exchange.started <= exchange.ended, "it ended before it began: {exchange:?}");
    let messages =
        [exchange.request.as_ref().map(|r| &r.message), exchange.response.as_ref().map(|r| &r.message)];
    for message in messages.into_iter().flatten() {
        body(&message.body, config);
        assert!(message.headers.len() <= config.fields_limit, "more fields than the limit");
        assert!(message.trailers.len() <= config.fields_limit, "more trailers than the limit");
    }
    assert!(exchange.gaps.iter().all(|gap| gap.length > 0), "a gap of nothing");
    if let Some(websocket) = &exchange.websocket {
        assert!(websocket.messages.len() <= config.messages_limit, "more messages kept than the limit");
    }
}

fn body(body: &Body, config: &Config) {
    assert!(body.bytes.len() <= config.keep_body, "more of a body kept than the limit");
    assert!(body.bytes.len() as u64 <= body.size, "more kept than there was: {body:?}");
    if body.complete {
        assert!(body.holes.is_empty(), "complete, with a hole");
        let hash = body.sha256.expect("hashing was asked for");
        if body.bytes.len() as u64 == body.size {
            assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(&body.bytes)), "the hash is of something else");
        }
    } else {
        assert!(body.sha256.is_none(), "a hash of an incomplete body");
    }
}

/// No two exchanges of a run have the same id: a store would keep one of them only.
pub fn ids_differ<'a>(exchanges: impl Iterator<Item = &'a Exchange>) {
    let mut seen = HashSet::new();
    for exchange in exchanges {
        assert!(seen.insert(exchange.id), "the id {} twice", exchange.id);
    }
}

/// The exchange as a line of JSON, which must parse, and as a row of a list, which must as well.
pub fn json(exchange: &Exchange, reading: &Reading) -> String {
    let line = serde_json::to_string(&ExchangeView::new(None, exchange, reading)).expect("it serialises");
    assert!(!line.contains('\n'), "one exchange, one line");
    let back: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
    assert_eq!(back["schema"], SCHEMA);
    assert_eq!(back["id"], exchange.id.to_string());
    serde_json::to_string(&Row::new(exchange, reading)).expect("a row serialises");
    line
}
