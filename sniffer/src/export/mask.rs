//! Takes secrets out of an exchange and its reading before they leave: header fields, targets, bodies, what was said
//! over a WebSocket, sentences. Which names are secret is [`redact`]'s to say. Sizes and hashes stay as they were.

use crate::activitypub::Reading;
use crate::http::{Exchange, Headers, Message};
use crate::redact;

pub(super) fn secrets(exchange: &mut Exchange, reading: &mut Reading) {
    if let Some(request) = &mut exchange.request {
        if let Some(target) = &mut request.target {
            text(target);
        }
        message(&mut request.message);
    }
    if let Some(response) = &mut exchange.response {
        message(&mut response.message);
    }
    for interim in &mut exchange.interim {
        interim.headers = headers(&interim.headers);
    }
    for said in exchange.websocket.iter_mut().flat_map(|websocket| &mut websocket.messages) {
        // Streaming APIs speak JSON, whatever the message's type.
        said.bytes = redact::body(Some("application/json"), &said.bytes).into_owned();
    }
    for (_, value) in &mut reading.sentence.slots {
        text(value);
    }
}

fn text(value: &mut Box<str>) {
    let shown = redact::target(value);
    if *shown != **value {
        *value = shown.into();
    }
}

fn message(message: &mut Message) {
    let body = &mut message.body.bytes;
    let shown = redact::body(message.headers.text("content-type"), body);
    if let std::borrow::Cow::Owned(shown) = shown {
        *body = shown;
    }
    message.headers = headers(&message.headers);
    message.trailers = headers(&message.trailers);
}

fn headers(fields: &Headers) -> Headers {
    let mut shown = Headers::with_capacity(fields.len(), 0);
    for (name, value) in fields.iter() {
        // A value that is not UTF-8 has no secret that could be told from the rest.
        let masked = name
            .zip(value.and_then(|value| std::str::from_utf8(value).ok()))
            .map(|(name, value)| redact::header(&String::from_utf8_lossy(name), value).into_owned());
        shown.push(name, masked.as_deref().map(str::as_bytes).or(value));
    }
    shown
}
