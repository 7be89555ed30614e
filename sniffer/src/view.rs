//! The serialised twins of an exchange and its reading: `fedisniff.exchange/1` (the command line's `--json`, the API,
//! the export) and the row of a list. The only place that knows how they look as JSON. Unknown is `null`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use crate::activitypub::{Slot, Digest, Link, Lint, OriginSource, Reading, Scheme, SignatureVerdict, Visibility};
use crate::frame::Timestamp;
use crate::http::{Anomaly, Body, Exchange, ExchangeId, GapMark, Headers, Timing, WebSocket};

/// The schema that [`ExchangeView`] writes.
pub const SCHEMA: &str = "fedisniff.exchange/1";

/// One exchange as `fedisniff.exchange/1`.
#[derive(Serialize)]
pub struct ExchangeView<'a> {
    schema: &'static str,
    id: String,
    started: String,
    node: Option<&'a str>,
    interface: Option<&'a str>,
    protocol: &'static str,
    client: EndView,
    server: EndView,
    origin: Option<OriginView<'a>>,
    request: Option<RequestView<'a>>,
    response: Option<ResponseView<'a>>,
    interim: Vec<InterimView<'a>>,
    timing: Timing,
    websocket: Option<WebSocketView<'a>>,
    gaps: Vec<GapView>,
    anomalies: Vec<AnomalyView<'a>>,
    reading: ReadingView<'a>,
}

#[derive(Serialize)]
struct EndView {
    address: String,
    name: Option<String>,
}

#[derive(Serialize)]
struct OriginView<'a> {
    address: Option<&'a str>,
    address_from: Option<OriginSource>,
    name: Option<&'a str>,
    host: Option<&'a str>,
    host_from: Option<OriginSource>,
    software: Option<&'a str>,
    software_from: Option<OriginSource>,
}

#[derive(Serialize)]
struct RequestView<'a> {
    method: Option<&'a str>,
    target: Option<&'a str>,
    host: Option<&'a str>,
    version: &'static str,
    headers: HeadersView<'a>,
    trailers: HeadersView<'a>,
    body: BodyView<'a>,
    first_byte: String,
    last_byte: String,
}

#[derive(Serialize)]
struct ResponseView<'a> {
    status: Option<u16>,
    reason: Option<&'a str>,
    version: &'static str,
    headers: HeadersView<'a>,
    trailers: HeadersView<'a>,
    body: BodyView<'a>,
    first_byte: String,
    last_byte: String,
}

#[derive(Serialize)]
struct InterimView<'a> {
    status: u16,
    time: String,
    headers: HeadersView<'a>,
}

/// `[["Name", "value"], …]`; `null` where a name or value is unknown. Octets that are not UTF-8 are replaced.
struct HeadersView<'a>(&'a Headers);

impl Serialize for HeadersView<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let text = |part: Option<&'_ [u8]>| part.map(|p| String::from_utf8_lossy(p).into_owned());
        to.collect_seq(self.0.iter().map(|(name, value)| (text(name), text(value))))
    }
}

#[derive(Serialize)]
struct BodyView<'a> {
    wire_size: u64,
    size: u64,
    encoding: Option<&'a str>,
    complete: bool,
    stored: u64,
    sha256: Option<String>,
}

#[derive(Serialize)]
struct WebSocketView<'a> {
    frames: u64,
    messages: Vec<WsMessageView<'a>>,
    messages_dropped: u64,
    extensions: Option<&'a str>,
    close_code: Option<u16>,
}

#[derive(Serialize)]
struct WsMessageView<'a> {
    direction: &'static str,
    time: String,
    opcode: u8,
    frames: u32,
    size: u64,
    complete: bool,
    sha256: Option<String>,
    text: Option<&'a str>,
}

#[derive(Serialize)]
struct GapView {
    direction: &'static str,
    offset: u64,
    length: u64,
    cause: crate::stream::GapCause,
}

#[derive(Serialize)]
struct AnomalyView<'a> {
    id: &'static str,
    detail: &'a str,
}

#[derive(Serialize)]
struct ReadingView<'a> {
    kind: &'static str,
    sentence: String,
    template: &'a str,
    slots: BTreeMap<&'a str, &'a str>,
    activity: Option<ActivityView<'a>>,
    signature: SignatureView<'a>,
    digest: Digest,
    reason: Option<&'a str>,
    federation: bool,
    lints: &'a [Lint],
    caused_by: Option<Link>,
    caused: &'a [Link],
}

#[derive(Serialize)]
struct ActivityView<'a> {
    id: Option<&'a str>,
    r#type: Option<&'a str>,
    actor: Option<&'a str>,
    object: Option<&'a str>,
    object_type: Option<&'a str>,
    inner: Option<&'a str>,
    target: Option<&'a str>,
    to: &'a [Box<str>],
    cc: &'a [Box<str>],
    visibility: Option<Visibility>,
}

#[derive(Serialize)]
struct SignatureView<'a> {
    scheme: Option<Scheme>,
    key_id: Option<&'a str>,
    algorithm: Option<&'a str>,
    covered: &'a [Box<str>],
    verdict: SignatureVerdict,
    explanation: Option<&'a str>,
}

fn direction(to_server: bool) -> &'static str {
    if to_server { "to-server" } else { "to-client" }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

fn body_view(body: &Body) -> BodyView<'_> {
    BodyView {
        wire_size: body.wire_size,
        size: body.size,
        encoding: body.encoding.as_deref(),
        complete: body.complete,
        stored: body.bytes.len() as u64,
        sha256: body.sha256.map(|h| hex(&h)),
    }
}

fn websocket_view(websocket: &WebSocket) -> WebSocketView<'_> {
    WebSocketView {
        frames: websocket.frames,
        messages: websocket
            .messages
            .iter()
            .map(|m| WsMessageView {
                direction: direction(m.to_server),
                time: m.time.to_string(),
                opcode: m.opcode,
                frames: m.frames,
                size: m.size,
                complete: m.complete,
                sha256: m.sha256.map(|h| hex(&h)),
                text: if m.opcode == 1 { std::str::from_utf8(&m.bytes).ok() } else { None },
            })
            .collect(),
        messages_dropped: websocket.messages_dropped,
        extensions: websocket.extensions.as_deref(),
        close_code: websocket.close_code,
    }
}

fn gap_view(gap: &GapMark) -> GapView {
    GapView { direction: direction(gap.to_server), offset: gap.offset, length: gap.length, cause: gap.cause }
}

fn anomaly_view(anomaly: &Anomaly) -> AnomalyView<'_> {
    AnomalyView { id: anomaly.kind.id(), detail: &anomaly.detail }
}

impl<'a> ExchangeView<'a> {
    /// The view of an exchange with its reading, as `node` saw it.
    pub fn new(node: Option<&'a str>, exchange: &'a Exchange, reading: &'a Reading) -> Self {
        let end = |address: std::net::SocketAddr| EndView { address: address.to_string(), name: None };
        Self {
            schema: SCHEMA,
            id: exchange.id.to_string(),
            started: exchange.started.to_string(),
            node,
            interface: exchange.interface_name.as_deref(),
            protocol: exchange.protocol.id(),
            client: end(exchange.ends.client),
            server: end(exchange.ends.server),
            origin: reading.origin.as_ref().map(|o| OriginView {
                address: o.address.as_deref(),
                address_from: o.address_from,
                name: None,
                host: o.host.as_deref(),
                host_from: o.host_from,
                software: o.software.as_deref(),
                software_from: o.software_from,
            }),
            request: exchange.request.as_ref().map(|r| RequestView {
                method: r.method.as_deref(),
                target: r.target.as_deref(),
                host: r.host.as_deref(),
                version: r.message.version_text(),
                headers: HeadersView(&r.message.headers),
                trailers: HeadersView(&r.message.trailers),
                body: body_view(&r.message.body),
                first_byte: r.message.first_byte.to_string(),
                last_byte: r.message.last_byte.to_string(),
            }),
            response: exchange.response.as_ref().map(|r| ResponseView {
                status: r.status,
                reason: (r.message.version.0 < 2).then_some(&*r.reason),
                version: r.message.version_text(),
                headers: HeadersView(&r.message.headers),
                trailers: HeadersView(&r.message.trailers),
                body: body_view(&r.message.body),
                first_byte: r.message.first_byte.to_string(),
                last_byte: r.message.last_byte.to_string(),
            }),
            interim: exchange
                .interim
                .iter()
                .map(|i| InterimView { status: i.status, time: i.time.to_string(), headers: HeadersView(&i.headers) })
                .collect(),
            timing: exchange.timing(),
            websocket: exchange.websocket.as_ref().map(websocket_view),
            gaps: exchange.gaps.iter().map(gap_view).collect(),
            anomalies: exchange.anomalies.iter().map(anomaly_view).collect(),
            reading: ReadingView {
                kind: reading.kind.id(),
                sentence: reading.sentence.render(),
                template: &reading.sentence.template,
                slots: reading.sentence.slots.iter().map(|(slot, value)| (&**slot, &**value)).collect(),
                activity: reading.activity.as_ref().map(|a| ActivityView {
                    id: a.id.as_deref(),
                    r#type: a.r#type.as_deref(),
                    actor: a.actor.as_deref(),
                    object: a.object.as_deref(),
                    object_type: a.object_type.as_deref(),
                    inner: a.inner.as_deref(),
                    target: a.target.as_deref(),
                    to: &a.to,
                    cc: &a.cc,
                    visibility: a.visibility,
                }),
                signature: SignatureView {
                    scheme: reading.signature.scheme,
                    key_id: reading.signature.key_id.as_deref(),
                    algorithm: reading.signature.algorithm.as_deref(),
                    covered: &reading.signature.covered,
                    verdict: reading.signature.verdict,
                    explanation: reading.signature.explanation.as_deref(),
                },
                digest: reading.digest,
                reason: reading.reason.as_deref(),
                federation: reading.federation,
                lints: &reading.lints,
                caused_by: reading.caused_by,
                caused: &reading.caused,
            },
        }
    }
}

/// One row of a list: enough to draw it without opening the exchange.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The exchange.
    #[serde(serialize_with = "id_as_text")]
    pub id: ExchangeId,
    /// When it started.
    #[serde(serialize_with = "time_as_text")]
    pub started: Timestamp,
    /// Who asked: host, else address behind the proxy, else the peer.
    pub from: Box<str>,
    /// The software that asked, as far as known.
    pub from_software: Option<Box<str>>,
    /// Who was asked: host, else the address.
    pub to: Box<str>,
    /// The kind ([`crate::activitypub::Kind::id`]).
    pub kind: Box<str>,
    /// The activity's type.
    pub activity: Option<Box<str>>,
    /// The activity's id.
    pub activity_id: Option<Box<str>>,
    /// The sentence in English.
    pub sentence: Box<str>,
    /// Its template ...
    pub template: Cow<'static, str>,
    /// ... and slots, for other languages.
    pub slots: Vec<Slot>,
    /// The start of the note, where it may be shown.
    pub excerpt: Option<Box<str>>,
    /// How far the activity may be seen.
    pub visibility: Option<Visibility>,
    /// The method.
    pub method: Option<Box<str>>,
    /// The target, as sent.
    pub target: Option<Box<str>>,
    /// The status code.
    pub status: Option<u16>,
    /// First byte of the request to last byte of the response, microseconds.
    pub took_us: Option<u64>,
    /// Decoded octets of the request's body.
    pub sent: Option<u64>,
    /// Decoded octets of the response's body.
    pub answered: Option<u64>,
    /// The signature's scheme.
    pub scheme: Option<Scheme>,
    /// The signature's verdict.
    pub signature: SignatureVerdict,
    /// The digest.
    pub digest: Digest,
    /// Why it went wrong.
    pub reason: Option<Box<str>>,
    /// Belongs to the *federation* view.
    pub federation: bool,
    /// Holes touch it.
    pub gaps: u32,
    /// Lints of severity error.
    pub lint_errors: u32,
    /// Lints of severity warn.
    pub lint_warnings: u32,
    /// Oddities.
    pub anomalies: u32,
    /// It became a WebSocket.
    pub websocket: bool,
    /// What made it necessary, where that ended first.
    pub caused_by: Option<Link>,
    /// What it made necessary and ended first.
    pub caused: Vec<Link>,
}

fn id_as_text<S: Serializer>(id: &ExchangeId, to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() { to.collect_str(id) } else { id.serialize(to) }
}

fn time_as_text<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() { to.collect_str(time) } else { time.serialize(to) }
}

impl Row {
    /// The row of an exchange with its reading.
    pub fn new(exchange: &Exchange, reading: &Reading) -> Self {
        let origin = reading.origin.as_ref();
        let request = exchange.request.as_ref();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let lints = |severity| count(reading.lints.iter().filter(|l| l.severity == severity).count());
        let activity = reading.activity.as_ref();
        Self {
            id: exchange.id,
            started: exchange.started,
            from: origin
                .and_then(|o| o.host.clone().or_else(|| o.address.clone()))
                .unwrap_or_else(|| exchange.ends.client.ip().to_string().into()),
            from_software: origin.and_then(|o| o.software.clone()),
            to: request
                .and_then(|r| r.host.clone())
                .unwrap_or_else(|| exchange.ends.server.to_string().into()),
            kind: reading.kind.id().into(),
            activity: activity.and_then(|a| a.r#type.clone()),
            activity_id: activity.and_then(|a| a.id.clone()),
            sentence: reading.sentence.render().into(),
            template: reading.sentence.template.clone(),
            slots: reading.sentence.slots.clone(),
            excerpt: activity.and_then(|a| a.excerpt.clone()),
            visibility: activity.and_then(|a| a.visibility),
            method: request.and_then(|r| r.method.clone()),
            target: request.and_then(|r| r.target.clone()),
            status: exchange.response.as_ref().and_then(|r| r.status),
            took_us: exchange.timing().total_us,
            sent: request.map(|r| r.message.body.size),
            answered: exchange.response.as_ref().map(|r| r.message.body.size),
            scheme: reading.signature.scheme,
            signature: reading.signature.verdict,
            digest: reading.digest,
            reason: reading.reason.clone(),
            federation: reading.federation,
            gaps: count(exchange.gaps.len()),
            lint_errors: lints(crate::activitypub::Severity::Error),
            lint_warnings: lints(crate::activitypub::Severity::Warn),
            anomalies: count(exchange.anomalies.len()),
            websocket: exchange.websocket.is_some(),
            caused_by: reading.caused_by,
            caused: reading.caused.clone(),
        }
    }
}

/// Gives each row the cause that another of them names (see [`Row::caused`]). What held a request is a better guess
/// than what came before it; what an id proves is no guess.
pub fn tie(rows: &mut [Row]) {
    let mut causes: BTreeMap<ExchangeId, Link> = BTreeMap::new();
    for row in rows.iter() {
        for effect in &row.caused {
            causes.insert(effect.id, Link { id: row.id, proven: effect.proven });
        }
    }
    for row in rows {
        if let Some(cause) = causes.get(&row.id)
            && (cause.proven || row.caused_by.is_none_or(|known| !known.proven))
        {
            row.caused_by = Some(*cause);
        }
    }
}
