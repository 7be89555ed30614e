//! Takes secrets out of exchanges and rows before they are shown. Which names are secret is `redact`'s to say.

use crate::http::{Exchange, Headers, Message};
use crate::redact;
use crate::store::Stored;
use crate::view::Row;

/// Everything but the bodies: header fields, targets, sentences, and what was said over a WebSocket. Bodies are masked
/// where they are shown, because their sizes are told beside them as they were.
pub(super) fn stored(stored: &mut Stored) {
    let Exchange { request, response, interim, websocket, .. } = &mut stored.exchange;
    if let Some(request) = request {
        if let Some(target) = &mut request.target {
            text(target);
        }
        message(&mut request.message);
    }
    if let Some(response) = response {
        message(&mut response.message);
    }
    for interim in interim {
        interim.headers = headers(&interim.headers);
    }
    for said in websocket.iter_mut().flat_map(|w| &mut w.messages) {
        let shown = redact::body(Some("application/json"), &said.bytes).into_owned();
        said.bytes = shown;
    }
    slots(&mut stored.reading.sentence.slots);
}

/// A row.
pub(super) fn row(row: &mut Row) {
    if let Some(target) = &mut row.target {
        text(target);
    }
    let sentence = crate::activitypub::Sentence {
        template: row.template.clone(),
        slots: std::mem::take(&mut row.slots),
    };
    let mut sentence = sentence;
    if slots(&mut sentence.slots) {
        row.sentence = sentence.render().into();
    }
    row.slots = sentence.slots;
}

/// The kept octets of a message's body.
pub(super) fn body(message: &Message) -> Vec<u8> {
    redact::body(message.headers.text("content-type"), &message.body.bytes).into_owned()
}

/// True when something was masked.
fn slots(slots: &mut [(Box<str>, Box<str>)]) -> bool {
    let mut masked = false;
    for (_, value) in slots {
        masked |= text(value);
    }
    masked
}

fn text(value: &mut Box<str>) -> bool {
    let shown = redact::target(value);
    if *shown == **value {
        return false;
    }
    *value = shown.into();
    true
}

fn message(message: &mut Message) {
    message.headers = headers(&message.headers);
    message.trailers = headers(&message.trailers);
}

fn headers(fields: &Headers) -> Headers {
    let mut shown = Headers::with_capacity(fields.len(), 0);
    for (name, value) in fields.iter() {
        match (name, value) {
            (Some(name), Some(value)) => {
                let text = String::from_utf8_lossy(value);
                let masked = redact::header(&String::from_utf8_lossy(name), &text).into_owned();
                // Octets that are not UTF-8 stay as they are where nothing is hidden.
                shown.push(Some(name), Some(if masked == text { value } else { masked.as_bytes() }));
            }
            _ => shown.push(name, value),
        }
    }
    shown
}
