//! Takes secrets out of exchanges and rows before they are shown. Which names are secret is [`redact`]'s to say.

use crate::activitypub::Sentence;
use crate::http::{InFlight, Message};
use crate::redact;
use crate::store::Stored;
use crate::view::Row;

/// Everything but the bodies, which are masked where they are shown: their sizes are told beside them as they were.
pub(super) fn stored(stored: &mut Stored) {
    redact::exchange(&mut stored.exchange);
    redact::slots(&mut stored.reading.sentence.slots);
}

/// A row.
pub(super) fn row(row: &mut Row) {
    if let Some(target) = &mut row.target {
        redact::text(target);
    }
    let mut sentence = Sentence { template: row.template.clone(), slots: std::mem::take(&mut row.slots) };
    if redact::slots(&mut sentence.slots) {
        row.sentence = sentence.render().into();
    }
    row.slots = sentence.slots;
}

/// An exchange that is not finished.
pub(super) fn in_flight(one: &mut InFlight) {
    if let Some(target) = &mut one.target {
        redact::text(target);
    }
}

/// The kept octets of a message's body.
pub(super) fn body(message: &Message) -> Vec<u8> {
    redact::message_body(message).into_owned()
}
