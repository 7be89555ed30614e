//! What unfinished exchanges take in memory, beside the octets of their bodies, which are charged to the
//! [`Budget`](super::body::Budget) as they are kept.

use super::{Anomaly, Exchange, GapMark, Headers, Interim, Message, Request, Span};

/// What an allocation takes beside its size: rounding up to a size class, about.
pub(super) const ALLOCATION: usize = 24;

/// What a vector with room for so many takes.
pub(super) fn vector<T>(capacity: usize) -> usize {
    if capacity == 0 { 0 } else { capacity.saturating_mul(size_of::<T>()).saturating_add(ALLOCATION) }
}

/// A boxed exchange with all that hangs on it.
pub(super) fn exchange(exchange: &Exchange) -> usize {
    let response = exchange
        .response
        .as_ref()
        .map_or(0, |response| response.reason.len().saturating_add(message(&response.message)));
    [
        size_of::<Exchange>(),
        ALLOCATION,
        exchange.request.as_ref().map_or(0, request),
        response,
        interim(&exchange.interim),
        vector::<GapMark>(exchange.gaps.capacity()),
        anomalies(&exchange.anomalies),
    ]
    .into_iter()
    .fold(0, usize::saturating_add)
}

/// What hangs on a request.
pub(super) fn request(request: &Request) -> usize {
    let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len().saturating_add(ALLOCATION));
    [&request.method, &request.target, &request.host, &request.scheme]
        .into_iter()
        .map(text)
        .fold(message(&request.message), usize::saturating_add)
}

/// What interim responses take.
pub(super) fn interim(interim: &Vec<Interim>) -> usize {
    interim.iter().map(|one| headers(&one.headers)).fold(vector::<Interim>(interim.capacity()), usize::saturating_add)
}

/// What anomalies take.
pub(super) fn anomalies(anomalies: &Vec<Anomaly>) -> usize {
    let details = anomalies.iter().map(|anomaly| anomaly.detail.len().saturating_add(ALLOCATION));
    details.fold(vector::<Anomaly>(anomalies.capacity()), usize::saturating_add)
}

/// What header fields take.
pub(super) fn headers(headers: &Headers) -> usize {
    vector::<u8>(headers.text.capacity()).saturating_add(vector::<Span>(headers.spans.capacity()))
}

fn message(message: &Message) -> usize {
    [
        headers(&message.headers),
        headers(&message.trailers),
        vector::<(u64, u64)>(message.body.holes.capacity()),
        message.body.encoding.as_ref().map_or(0, |encoding| encoding.len()),
    ]
    .into_iter()
    .fold(0, usize::saturating_add)
}
