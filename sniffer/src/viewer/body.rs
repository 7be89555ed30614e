//! Bodies as they are shown: as text beside the exchange, and as octets by range.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::mask;
use crate::http::Message;

/// More of a text than this is fetched by range.
const TEXT: usize = 512 << 10;

/// What browsers decode without running anything (SVG is not among them).
const IMAGES: [&str; 5] = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];

/// A body beside its exchange.
#[derive(Serialize)]
pub(super) struct Text {
    text: Option<String>,
    truncated: bool,
    json: bool,
    image: bool,
}

impl Text {
    pub(super) fn of(message: &Message, unmask: bool) -> Self {
        let bytes = &message.body.bytes;
        let json = !bytes.is_empty() && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
        let text = text(bytes);
        let begin = text.map(|text| &text[..text.floor_char_boundary(TEXT)]);
        let shown = begin.map(|begin| {
            if unmask {
                return begin.to_owned();
            }
            let kind = message.headers.text("content-type");
            String::from_utf8_lossy(&crate::redact::body(kind, begin.as_bytes())).into_owned()
        });
        Self {
            truncated: begin.is_some_and(|begin| begin.len() < bytes.len()),
            text: shown,
            json,
            image: image(message).is_some(),
        }
    }
}

/// The octets as text: UTF-8 without NUL, of which the last character may have been cut in keeping.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(bytes.get(..e.valid_up_to())?).ok()?,
        Err(_) => return None,
    };
    (!text.contains('\0')).then_some(text)
}

/// The media type, if the body is an image that may be shown.
fn image(message: &Message) -> Option<&'static str> {
    let kind = message.headers.text("content-type")?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let image = IMAGES.iter().find(|image| kind.eq_ignore_ascii_case(image))?;
    (!message.body.bytes.is_empty()).then_some(image)
}

/// The kept octets, or the range of them that was asked for. `name` is what a download is called.
pub(super) fn octets(
    message: &Message,
    headers: &HeaderMap,
    unmask: bool,
    download: Option<&str>,
) -> Response {
    let complete = message.body.complete && message.body.bytes.len() as u64 == message.body.size;
    let bytes = if unmask { message.body.bytes.clone() } else { mask::body(message) };
    let length = bytes.len();
    // Bodies never change under their id, but have no validator: whoever asks for one gets all of it.
    let range = headers.get(header::RANGE).filter(|_| !headers.contains_key(header::IF_RANGE));
    let mut response =
        match range.and_then(|r| r.to_str().ok()).map_or(Range::Whole, |r| parse_range(r, length)) {
            Range::Whole => Body::from(bytes).into_response(),
            Range::Part(from, to) => {
                let part = bytes.get(from..to).unwrap_or_default().to_vec();
                let range = format!("bytes {from}-{}/{length}", to.saturating_sub(1));
                (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], part).into_response()
            }
            Range::Outside => {
                (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, format!("bytes */{length}"))])
                    .into_response()
            }
        };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(image(message).unwrap_or("application/octet-stream")),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert("x-body-complete", HeaderValue::from_static(if complete { "true" } else { "false" }));
    // What strangers sent is never a document of this origin.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    if let Some(name) = download {
        let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
        headers.insert(
            header::CONTENT_DISPOSITION,
            disposition.unwrap_or(HeaderValue::from_static("attachment")),
        );
    }
    response
}

/// What a Range field asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Range {
    /// Everything: no range, several, or one that cannot be read, which is to be ignored (RFC 9110 §14.2).
    Whole,
    /// From, and up to but not with.
    Part(usize, usize),
    /// Nothing that is there.
    Outside,
}

pub(super) fn parse_range(field: &str, length: usize) -> Range {
    let Some((first, last)) = field.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Range::Whole;
    };
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let digits = |text: &str| text.trim().bytes().all(|b| b.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return Range::Whole;
    }
    match (number(first), number(last)) {
        // `-5`: the last five.
        (None, Some(n)) if first.trim().is_empty() => match n.min(length) {
            0 => Range::Outside,
            n => Range::Part(length.saturating_sub(n), length),
        },
        (Some(from), _) if from >= length => Range::Outside,
        (Some(from), None) if last.trim().is_empty() => Range::Part(from, length),
        (Some(from), Some(last)) if last >= from => Range::Part(from, last.saturating_add(1).min(length)),
        _ => Range::Whole,
    }
}

/// A file name for a download: the end of the target, as far as it is harmless.
pub(super) fn file_name(target: Option<&str>, otherwise: &str) -> String {
    let path = target.unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    let name: String =
        last.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')).take(80).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { otherwise.to_owned() } else { name.to_owned() }
}
