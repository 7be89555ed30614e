//! Takes secrets out of an exchange and its reading before they leave. Which names are secret is [`redact`]'s to say.

use crate::activitypub::Reading;
use crate::http::{Exchange, Message};
use crate::redact;

pub(super) fn secrets(exchange: &mut Exchange, reading: &mut Reading) {
    // Bodies first: their media type is a header field.
    for message in [
        exchange.request.as_mut().map(|request| &mut request.message),
        exchange.response.as_mut().map(|response| &mut response.message),
    ] {
        message.into_iter().for_each(body);
    }
    redact::exchange(exchange);
    redact::slots(&mut reading.sentence.slots);
}

fn body(message: &mut Message) {
    if let std::borrow::Cow::Owned(shown) = redact::message_body(message) {
        message.body.bytes = shown;
    }
}
