//! HAR 1.2 (the W3C draft of 2012 that browsers import and export), one entry at a time. HAR has no word for unknown:
//! strings are empty then, sizes -1, and the entry's comment says what was not seen. What is ours stands in `_fedisniff`.

use std::io::{self, Write};

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::activitypub::Reading;
use crate::frame::Timestamp;
use crate::http::{Body, Exchange, Headers, Message, Request, Response, WebSocket};
use crate::view::ExchangeView;

/// The media type where there is none, as Chrome writes it.
const NO_TYPE: &str = "x-unknown";

/// An archive being written.
pub(super) struct Har {
    first: bool,
}

impl Har {
    pub(super) fn begin(to: &mut dyn Write) -> io::Result<Self> {
        let creator = json!({"name": "fedisniff", "version": env!("CARGO_PKG_VERSION")});
        write!(to, r#"{{"log":{{"version":"1.2","creator":{creator},"pages":[],"entries":["#)?;
        Ok(Self { first: true })
    }

    pub(super) fn entry(
        &mut self,
        to: &mut dyn Write,
        node: Option<&str>,
        exchange: &Exchange,
        reading: &Reading,
    ) -> io::Result<()> {
        to.write_all(if self.first { b"\n" } else { b",\n" })?;
        self.first = false;
        serde_json::to_writer(to, &entry(node, exchange, reading)?)?;
        Ok(())
    }

    pub(super) fn end(self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(b"\n]}}\n")
    }
}

fn entry(node: Option<&str>, exchange: &Exchange, reading: &Reading) -> io::Result<Value> {
    let timing = exchange.timing();
    let milliseconds = |micros: Option<u64>| micros.map_or(0.0, |micros| micros as f64 / 1000.0);
    let (send, wait, receive) =
        (milliseconds(timing.request_us), milliseconds(timing.wait_us), milliseconds(timing.response_us));
    let mut missing = Vec::new();
    if exchange.request.is_none() {
        missing.push("the request was not seen".to_owned());
    }
    if exchange.response.is_none() {
        missing.push("no response was seen".to_owned());
    }
    for (message, what) in [
        (exchange.request.as_ref().map(|r| &r.message), "request"),
        (exchange.response.as_ref().map(|r| &r.message), "response"),
    ] {
        missing.extend(
            message.and_then(|message| body_comment(&message.body)).map(|text| format!("{what}: {text}")),
        );
    }
    let mut entry = json!({
        "startedDateTime": date(exchange.started),
        "time": send + wait + receive,
        "request": request(exchange),
        "response": response(exchange.response.as_ref()),
        "cache": {},
        "timings": {"blocked": -1, "dns": -1, "connect": -1, "ssl": -1, "send": send, "wait": wait, "receive": receive},
        "serverIPAddress": exchange.ends.server.ip().to_string(),
        "connection": exchange.ends.client.to_string(),
        "_fedisniff": ours(node, exchange, reading)?,
    });
    if let Some(object) = entry.as_object_mut() {
        if !missing.is_empty() {
            object.insert("comment".into(), missing.join("; ").into());
        }
        if let Some(websocket) = &exchange.websocket {
            object.insert("_resourceType".into(), "websocket".into());
            object.insert("_webSocketMessages".into(), messages(websocket));
        }
    }
    Ok(entry)
}

fn request(exchange: &Exchange) -> Value {
    let Some(request) = &exchange.request else {
        return json!({
            "method": "", "url": format!("http://{}/", exchange.ends.server), "httpVersion": "", "cookies": [],
            "headers": [], "queryString": [], "headersSize": -1, "bodySize": -1,
        });
    };
    let message = &request.message;
    let target = request.target.as_deref().unwrap_or_default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let mut value = json!({
        "method": request.method.as_deref().unwrap_or_default(),
        "url": url(request, exchange),
        "httpVersion": version(message),
        "cookies": request_cookies(&message.headers),
        "headers": headers(&message.headers),
        "queryString": pairs(query),
        "headersSize": -1,
        "bodySize": message.body.wire_size,
    });
    if let Some(object) = value.as_object_mut() {
        if message.body.size > 0 {
            object.insert("postData".into(), post_data(message));
        }
        comment_unknown(object, message);
    }
    value
}

fn response(response: Option<&Response>) -> Value {
    // Status 0 is what browsers write, and show, for a request that failed.
    let Some(response) = response else {
        return json!({
            "status": 0, "statusText": "", "httpVersion": "", "cookies": [], "headers": [],
            "content": {"size": 0, "mimeType": NO_TYPE}, "redirectURL": "", "headersSize": -1, "bodySize": -1,
        });
    };
    let message = &response.message;
    let mut value = json!({
        "status": response.status.unwrap_or(0),
        "statusText": &*response.reason,
        "httpVersion": version(message),
        "cookies": response_cookies(&message.headers),
        "headers": headers(&message.headers),
        "content": content(message),
        "redirectURL": message.headers.text("location").unwrap_or_default(),
        "headersSize": -1,
        "bodySize": message.body.wire_size,
    });
    if let Some(object) = value.as_object_mut() {
        comment_unknown(object, message);
    }
    value
}

/// What HAR has no place for: the reading, holes and oddities, and the rest of `fedisniff.exchange/1` that is not
/// already said.
fn ours(node: Option<&str>, exchange: &Exchange, reading: &Reading) -> io::Result<Value> {
    let mut value = serde_json::to_value(ExchangeView::new(node, exchange, reading))?;
    for message in ["request", "response"] {
        if let Some(Value::Object(message)) = value.get_mut(message) {
            message.retain(|key, _| matches!(key.as_str(), "body" | "trailers"));
        }
    }
    if let Some(Value::Object(websocket)) = value.get_mut("websocket") {
        websocket.remove("messages");
    }
    Ok(value)
}

/// As Chrome writes them: `send` is the client's, the time is in seconds since 1970, binary data is base64.
fn messages(websocket: &WebSocket) -> Value {
    let message = |m: &crate::http::WsMessage| {
        let text = if m.opcode == 2 { None } else { std::str::from_utf8(&m.bytes).ok() };
        json!({
            "type": if m.to_server { "send" } else { "receive" },
            "time": m.time.0 as f64 / 1e9,
            "opcode": m.opcode,
            "data": text.map_or_else(|| base64(&m.bytes), str::to_owned),
        })
    };
    websocket.messages.iter().map(message).collect()
}

fn content(message: &Message) -> Value {
    let Body { bytes, size, coded_size, encoding, .. } = &message.body;
    let mut value = json!({
        "size": size,
        "mimeType": message.headers.text("content-type").unwrap_or(NO_TYPE),
    });
    let Some(object) = value.as_object_mut() else { return value };
    if encoding.is_some() {
        let signed = |octets: u64| i64::try_from(octets).unwrap_or(i64::MAX);
        object.insert("compression".into(), signed(*size).saturating_sub(signed(*coded_size)).into());
    }
    if !bytes.is_empty() {
        match std::str::from_utf8(bytes) {
            Ok(text) => object.insert("text".into(), text.into()),
            Err(_) => {
                object.insert("encoding".into(), "base64".into());
                object.insert("text".into(), base64(bytes).into())
            }
        };
    }
    if let Some(comment) = body_comment(&message.body) {
        object.insert("comment".into(), comment.into());
    }
    value
}

/// A posted body. Forms are `text`, too: `params` would exclude it, and browsers read only `text`. HAR 1.2 knows no
/// coding here; octets that are not text are base64, and `_encoding` says so.
fn post_data(message: &Message) -> Value {
    let mut value = json!({"mimeType": message.headers.text("content-type").unwrap_or(NO_TYPE)});
    let Some(object) = value.as_object_mut() else { return value };
    match std::str::from_utf8(&message.body.bytes) {
        Ok(text) => object.insert("text".into(), text.into()),
        Err(_) => {
            object.insert("_encoding".into(), "base64".into());
            object.insert("text".into(), base64(&message.body.bytes).into())
        }
    };
    if let Some(comment) = body_comment(&message.body) {
        object.insert("comment".into(), comment.into());
    }
    value
}

/// Why the text is not the whole body, if it is not.
fn body_comment(body: &Body) -> Option<String> {
    let kept = body.bytes.len() as u64;
    let missing: u64 = body.holes.iter().map(|(_, length)| length).sum();
    if missing > 0 {
        Some(format!("{missing} octets of the body are missing"))
    } else if !body.complete {
        Some("the body is not complete".to_owned())
    } else if kept < body.size {
        Some(format!("{kept} octets here of {} that were seen", body.size))
    } else {
        None
    }
}

fn comment_unknown(object: &mut Map<String, Value>, message: &Message) {
    let unknown = message.headers.iter().filter(|(name, value)| name.is_none() || value.is_none()).count();
    if unknown > 0 {
        let comment = format!("{unknown} header fields are unknown: their HPACK state was not seen");
        object.insert("comment".into(), comment.into());
    }
}

/// Name and value of the fields that are known.
fn headers(headers: &Headers) -> Value {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name?, value?)))
        .map(|(name, value)| pair(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value)))
        .collect()
}

/// The `Cookie` fields' pairs (RFC 6265 §4.2.1).
fn request_cookies(headers: &Headers) -> Value {
    headers
        .get_all("cookie")
        .flat_map(|value| {
            String::from_utf8_lossy(value)
                .split(';')
                .map(str::trim)
                .filter(|cookie| !cookie.is_empty())
                .map(|cookie| {
                    let (name, value) = cookie.split_once('=').unwrap_or((cookie, ""));
                    pair(name, value)
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The `Set-Cookie` fields (RFC 6265 §4.1.1).
fn response_cookies(headers: &Headers) -> Value {
    headers
        .get_all("set-cookie")
        .map(|value| {
            let text = String::from_utf8_lossy(value);
            let mut parts = text.split(';').map(str::trim);
            let (name, value) = parts.next().unwrap_or_default().split_once('=').unwrap_or_default();
            let mut cookie = pair(name, value);
            let Some(object) = cookie.as_object_mut() else { return cookie };
            for attribute in parts {
                let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
                match name.trim().to_ascii_lowercase().as_str() {
                    "path" => object.insert("path".into(), value.into()),
                    "domain" => object.insert("domain".into(), value.into()),
                    "httponly" => object.insert("httpOnly".into(), true.into()),
                    "secure" => object.insert("secure".into(), true.into()),
                    // Browsers write `sameSite`, and HAR's own `expires` is ISO 8601, not the field's date.
                    "samesite" => object.insert("sameSite".into(), value.into()),
                    "expires" => match jiff::fmt::rfc2822::parse(&value.replace('-', " ")) {
                        Ok(date) => object.insert("expires".into(), date.timestamp().to_string().into()),
                        Err(_) => None,
                    },
                    _ => None,
                };
            }
            cookie
        })
        .collect()
}

/// `a=1&b=2` as name and value, percent-decoded where that gives text.
fn pairs(query: &str) -> Value {
    let decode = |part: &str| {
        let part = part.replace('+', " ");
        percent_encoding::percent_decode_str(&part).decode_utf8_lossy().into_owned()
    };
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pair(&decode(name), &decode(value))
        })
        .collect()
}

fn pair(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

/// HAR wants an absolute URL: that of the connection that was seen, which behind a proxy is plain HTTP.
fn url(request: &Request, exchange: &Exchange) -> String {
    let target = request.target.as_deref().unwrap_or("/");
    if target.contains("://") {
        return target.to_owned();
    }
    let scheme = request.scheme.as_deref().unwrap_or("http");
    let server = exchange.ends.server.to_string();
    let host = request.host.as_deref().unwrap_or(&server);
    match target.strip_prefix('/') {
        Some(path) => format!("{scheme}://{host}/{path}"),
        // `*`, or the authority of a CONNECT.
        None if target == host => format!("{scheme}://{host}/"),
        None => format!("{scheme}://{host}/{target}"),
    }
}

fn version(message: &Message) -> &'static str {
    match message.version_text() {
        "1.0" => "HTTP/1.0",
        "2" => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// ISO 8601 with milliseconds, which every reader of dates takes; `_fedisniff` has the nanoseconds.
fn date(time: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time.0)) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => time.to_string(),
    }
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
