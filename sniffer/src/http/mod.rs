//! From streams to exchanges: HTTP/1.0, HTTP/1.1 (RFC 9112), h2c (RFC 9113) and WebSocket (RFC 6455), as a listener
//! that missed the beginning, may miss bytes, and must never invent. A request and its response are an [`Exchange`];
//! they are never paired across a gap, and a response without a request stays alone.

pub mod body;
mod coding;
mod connection;
mod cost;
mod h1;
mod h2;
mod head;
mod hpack;
mod known;
mod probe;
pub(crate) mod recurring;
#[cfg(test)]
mod tests;
mod websocket;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use serde::{Deserialize, Serialize};

use crate::flow::{Direction, Ends, FlowId};
use crate::frame::{Interface, Timestamp};
use self::body::Budget;
use self::connection::{Connection, Scope};
use crate::stream::{Event, GapCause};

/// An exchange's own name: its start (ns, big endian), then a hash of the flow's ends and its place in the flow.
/// Sorted by start, stable over runs on the same capture, written as 26 characters of base 32 (RFC 4648's extended hex
/// alphabet, lower case, which keeps the order).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExchangeId(pub [u8; 16]);

/// What the bytes between the ends are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.0 (of the request line, or of the status line where the request was not seen).
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2 in the clear, by prior knowledge or by Upgrade.
    H2c,
}

/// One request and its response, as far as they were seen. At least one of the two is there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// Its name.
    pub id: ExchangeId,
    /// The flow it was seen in, within this run.
    #[serde(skip, default = "no_flow")]
    pub flow: FlowId,
    /// The two ends of that flow.
    pub ends: Ends,
    /// Where the request (or, without one, the response) was captured.
    #[serde(skip)]
    pub interface: Interface,
    /// The name of that interface, set by the pipeline, `None` where the capture has none.
    pub interface_name: Option<Arc<str>>,
    /// The protocol.
    pub protocol: Protocol,
    /// The first byte of the request; of the response where no request was seen.
    pub started: Timestamp,
    /// The last byte of what was seen.
    pub ended: Timestamp,
    /// The request; `None` when a response came alone (mid-stream, or its request fell into a gap).
    pub request: Option<Request>,
    /// The final response; `None` when none came, or it fell into a gap.
    pub response: Option<Response>,
    /// Interim responses (1xx), in order, without 101 that switched protocols (which is then `response`).
    pub interim: Vec<Interim>,
    /// What was said after a switch to WebSocket.
    pub websocket: Option<WebSocket>,
    /// The holes that touch this exchange.
    pub gaps: Vec<GapMark>,
    /// What was odd about it.
    pub anomalies: Vec<Anomaly>,
}

fn no_flow() -> FlowId {
    FlowId(0)
}

/// A request (RFC 9112 §3).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The method, as sent; `None` where HPACK state was lost.
    pub method: Option<Box<str>>,
    /// The request target, as sent: origin-form, absolute-form, `*` or authority. For h2 the `:path`. `None` where
    /// HPACK state was lost.
    pub target: Option<Box<str>>,
    /// `Host`, `:authority` or the authority of an absolute-form target, as sent; `None` if there is none.
    pub host: Option<Box<str>>,
    /// `:scheme` of h2, or the scheme of an absolute-form target.
    pub scheme: Option<Box<str>>,
    /// What the two messages have in common.
    pub message: Message,
}

/// A final response (RFC 9112 §4).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Response {
    /// The status code; `None` where HPACK state was lost.
    pub status: Option<u16>,
    /// The reason phrase, as sent; empty for h2.
    pub reason: Box<str>,
    /// What the two messages have in common.
    pub message: Message,
}

/// An interim response (RFC 9110 §15.2), 103 Early Hints among them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Interim {
    /// The status code.
    pub status: u16,
    /// When its first byte came.
    pub time: Timestamp,
    /// Its header fields.
    pub headers: Headers,
}

/// A message without its first line.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Message {
    /// `1.0`, `1.1` or `2` as minor and major: (1, 0), (1, 1), (2, 0).
    pub version: (u8, u8),
    /// Header fields in order, as sent. Pseudo-header fields of h2 are not among them.
    pub headers: Headers,
    /// Trailer fields (RFC 9110 §6.5).
    pub trailers: Headers,
    /// The body.
    pub body: Body,
    /// The first byte of the message.
    pub first_byte: Timestamp,
    /// The last byte of the message that was seen.
    pub last_byte: Timestamp,
}

/// A message's body.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Body {
    /// Octets that travelled as message body (RFC 9112 §6: with chunk framing; for h2 the DATA octets without
    /// padding). Missing octets of known number are counted.
    pub wire_size: u64,
    /// Octets of content after the transfer coding was removed and before content codings were (RFC 9110 §6.4).
    pub coded_size: u64,
    /// Octets of content after the content codings were removed; as far as they were.
    pub size: u64,
    /// `Content-Encoding` where there is one, codings in the order of the field, lower case.
    pub encoding: Option<Box<str>>,
    /// True when the whole body was seen and decoded: no hole, not cut off, no bomb limit reached.
    pub complete: bool,
    /// SHA-256 of the content after decoding; `None` if incomplete or hashing was not asked for.
    pub sha256: Option<[u8; 32]>,
    /// SHA-256 of the content before decoding, which Digest and Content-Digest cover (RFC 9530 §2); `None` as above.
    pub coded_sha256: Option<[u8; 32]>,
    /// The kept beginning of the decoded content. Holes are not filled: see [`Body::holes`].
    #[serde(with = "bytes_as_bytes")]
    pub bytes: Vec<u8>,
    /// Holes inside the identity content, as (offset, length); bytes after a hole are kept at their place minus the
    /// holes before.
    pub holes: Vec<(u64, u64)>,
}

mod bytes_as_bytes {
    //! `Vec<u8>` as one run of bytes instead of a sequence of integers.
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct V;
        impl de::Visitor<'_> for V {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<Vec<u8>, E> {
                Ok(v.to_vec())
            }
            fn visit_byte_buf<E: de::Error>(self, v: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(v)
            }
        }
        from.deserialize_byte_buf(V)
    }
}

/// A hole that touches an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GapMark {
    /// True for the request's direction.
    pub to_server: bool,
    /// The first missing octet in its direction's stream.
    pub offset: u64,
    /// How many octets.
    pub length: u64,
    /// Why.
    pub cause: GapCause,
}

impl GapMark {
    /// The direction that lacks the octets.
    pub fn direction(&self) -> Direction {
        if self.to_server { Direction::ToServer } else { Direction::ToClient }
    }
}

/// Something odd in the traffic that did not stop the decoder: a value with a stable name, never an error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Anomaly {
    /// What it is.
    pub kind: AnomalyKind,
    /// What exactly, in a few words; may be empty.
    pub detail: Box<str>,
}

macro_rules! anomalies {
    ($($(#[$doc:meta])* $name:ident = $id:literal,)*) => {
        /// The names of what can be odd.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum AnomalyKind { $($(#[$doc])* $name,)* }

        impl AnomalyKind {
            /// The stable name, as in JSON and filters.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

anomalies! {
    /// A retransmission carried other bytes than the first copy.
    RetransmissionDiffers = "retransmission-differs",
    /// The beginning of the message lies before the capture or in a gap.
    StartNotSeen = "start-not-seen",
    /// The message ends before its framing says so: the connection was closed.
    CutByClose = "cut-by-close",
    /// The message ends before its framing says so: the connection was reset.
    CutByReset = "cut-by-reset",
    /// The capture ended inside the message.
    CutByCaptureEnd = "cut-by-capture-end",
    /// A hole lies in the message where its framing could not be followed across.
    CutByGap = "cut-by-gap",
    /// No response came before the connection ended.
    NoResponse = "no-response",
    /// The response began before the request was complete.
    EarlyResponse = "early-response",
    /// A response came that no request asked for.
    UnsolicitedResponse = "unsolicited-response",
    /// More requests waited for an answer than the queue holds.
    PipelineOverflow = "pipeline-overflow",
    /// Lines ended with LF alone (RFC 9112 §2.2 lets a recipient accept it).
    BareLf = "bare-lf",
    /// White space between field name and colon (RFC 9112 §5.1).
    SpaceBeforeColon = "space-before-colon",
    /// A field line that is folded (obs-fold, RFC 9112 §5.2).
    ObsFold = "obs-fold",
    /// A field line that cannot be read as one.
    BadFieldLine = "bad-field-line",
    /// Empty lines before a request line (RFC 9112 §2.2).
    EmptyLineBeforeMessage = "empty-line-before-message",
    /// More header fields or octets in the head than the limit; the rest was dropped.
    HeadTooLarge = "head-too-large",
    /// Content-Length twice with different values, or not a number (RFC 9112 §6.3).
    BadContentLength = "bad-content-length",
    /// Transfer-Encoding and Content-Length together (RFC 9112 §6.1: a possible request smuggling).
    LengthAndChunked = "content-length-and-transfer-encoding",
    /// A transfer coding other than chunked.
    UnknownTransferCoding = "unknown-transfer-coding",
    /// Chunked framing that cannot be followed.
    BadChunk = "bad-chunk",
    /// A request without Host in HTTP/1.1, or with more than one (RFC 9112 §3.2).
    BadHost = "bad-host",
    /// An invalid first line that could still be read.
    BadStartLine = "bad-start-line",
    /// A content coding that is not known, or a body that does not decode.
    ContentDecoding = "content-decoding-failed",
    /// Decoding stopped at the limit against decompression bombs.
    DecodedTooLarge = "decoded-size-limit",
    /// Bytes between messages that belong to none.
    StrayBytes = "stray-bytes",
    /// The peer switched protocols to one that is not decoded.
    UnknownUpgrade = "unknown-upgrade",
    /// HPACK state was lost: some header fields are unknown (RFC 7541).
    HpackLost = "hpack-state-lost",
    /// A header block that does not decode.
    HpackError = "hpack-error",
    /// A violation of HTTP/2 framing (RFC 9113).
    H2Protocol = "h2-protocol-error",
    /// The stream was reset with RST_STREAM.
    H2StreamReset = "h2-stream-reset",
    /// The stream was refused by GOAWAY.
    H2GoAway = "h2-goaway",
    /// A violation of WebSocket framing (RFC 6455).
    WebSocketProtocol = "websocket-protocol-error",
    /// A content coding without its checksum or wrapper, or with bytes after its end; decoded all the same, as browsers do.
    LooseCoding = "content-coding-loose",
    /// The memory for unfinished bodies was spent: the body was not kept, or not decoded, to its end.
    BodyBudget = "body-budget-spent",
}

impl Anomaly {
    /// From its parts; the detail may be empty.
    pub fn new(kind: AnomalyKind, detail: impl Into<Box<str>>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// What was said over a WebSocket after the switch.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct WebSocket {
    /// Frames seen, control frames and fragments among them.
    pub frames: u64,
    /// Messages in order of their last frame; the oldest are kept, up to the limit.
    pub messages: Vec<WsMessage>,
    /// Messages that were not kept because of the limit.
    pub messages_dropped: u64,
    /// The negotiated extensions, as in the response.
    pub extensions: Option<Box<str>>,
    /// The status code of the first Close frame.
    pub close_code: Option<u16>,
}

/// One WebSocket message (or control frame).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WsMessage {
    /// True when the client sent it.
    pub to_server: bool,
    /// When its last frame was complete.
    pub time: Timestamp,
    /// 1 text, 2 binary, 8 close, 9 ping, 10 pong (RFC 6455 §11.8); 0 where the first frame was not seen.
    pub opcode: u8,
    /// Frames it came in.
    pub frames: u32,
    /// Octets after unmasking and inflating.
    pub size: u64,
    /// False when a hole or a limit cut it.
    pub complete: bool,
    /// SHA-256 of the whole message; `None` if incomplete.
    pub sha256: Option<[u8; 32]>,
    /// The kept beginning.
    #[serde(with = "bytes_as_bytes")]
    pub bytes: Vec<u8>,
}

/// Header fields in order, in one allocation. A name or value may be unknown where HPACK state was lost.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Headers {
    #[serde(with = "bytes_as_bytes")]
    text: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Span {
    /// Where the name begins in `text`; the value follows it.
    start: u32,
    /// Length of the name; `UNKNOWN` when it is not known.
    name: u32,
    /// Length of the value; `UNKNOWN` when it is not known.
    value: u32,
}

const UNKNOWN: u32 = u32::MAX;

/// One header field: name and value as sent, each `None` where unknown.
pub type Field<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

impl Headers {
    /// Room for that many fields and octets.
    pub fn with_capacity(fields: usize, octets: usize) -> Self {
        Self { text: Vec::with_capacity(octets), spans: Vec::with_capacity(fields) }
    }

    /// Adds a field at the end. Fields beyond 4 GiB in all are dropped; heads are limited long before.
    pub fn push(&mut self, name: Option<&[u8]>, value: Option<&[u8]>) {
        let length = |part: Option<&[u8]>| part.map_or(Some(UNKNOWN), |p| u32::try_from(p.len()).ok());
        let (Ok(start), Some(name_length), Some(value_length)) =
            (u32::try_from(self.text.len()), length(name), length(value))
        else {
            return;
        };
        self.text.extend_from_slice(name.unwrap_or_default());
        self.text.extend_from_slice(value.unwrap_or_default());
        self.spans.push(Span { start, name: name_length, value: value_length });
    }

    /// The fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Field<'_>> + Clone {
        self.spans.iter().map(|span| {
            let known = |length: u32| if length == UNKNOWN { 0 } else { length as usize };
            let from = span.start as usize;
            let middle = from.saturating_add(known(span.name));
            let to = middle.saturating_add(known(span.value));
            let name = (span.name != UNKNOWN).then(|| self.text.get(from..middle).unwrap_or_default());
            let value = (span.value != UNKNOWN).then(|| self.text.get(middle..to).unwrap_or_default());
            (name, value)
        })
    }

    /// The value of the first field of that name (ASCII case ignored), if it is known.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find_map(|(n, v)| if n?.eq_ignore_ascii_case(name.as_bytes()) { v } else { None })
    }

    /// The values of all fields of that name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter_map(move |(n, v)| if n?.eq_ignore_ascii_case(name.as_bytes()) { v } else { None })
    }

    /// Octets of all names and values.
    pub fn octets(&self) -> usize {
        self.text.len()
    }

    /// The first field of that name as text, if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// How many fields.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |p: Option<&[u8]>| p.map_or("?".into(), |p| String::from_utf8_lossy(p).into_owned());
        f.debug_map().entries(self.iter().map(|(n, v)| (show(n), show(v)))).finish()
    }
}

impl ExchangeId {
    /// From its parts: the start, and a hash of ends and place.
    pub fn new(started: Timestamp, hash: u64) -> Self {
        Self(((u128::from(started.0) << 64) | u128::from(hash)).to_be_bytes())
    }

    /// When the exchange started.
    pub fn started(self) -> Timestamp {
        Timestamp((u128::from_be_bytes(self.0) >> 64) as u64)
    }
}

/// The id of an exchange that began at `offset` in that direction; `stream` is h2's, 0 for HTTP/1.
pub(crate) fn exchange_id(ends: Ends, started: Timestamp, direction: Direction, offset: u64, stream: u32) -> ExchangeId {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for end in [ends.client, ends.server] {
        match end.ip() {
            std::net::IpAddr::V4(ip) => hash.update(ip.octets()),
            std::net::IpAddr::V6(ip) => hash.update(ip.octets()),
        }
        hash.update(end.port().to_be_bytes());
    }
    hash.update([u8::from(direction == Direction::ToServer)]);
    hash.update(offset.to_be_bytes());
    hash.update(stream.to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    ExchangeId::new(started, digest.first_chunk().map_or(0, |octets| u64::from_be_bytes(*octets)))
}

const BASE32_HEX: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits in 26 characters of 5: two zero bits in front, so that the text sorts as the number does.
        let n = u128::from_be_bytes(self.0);
        let mut text = String::with_capacity(26);
        for place in (0..26_u32).rev() {
            let digit = (n >> place.saturating_mul(5)) & 31;
            text.push(char::from(BASE32_HEX.get(digit as usize).copied().unwrap_or(b'0')));
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an exchange's id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an exchange id: 26 characters of 0-9 and a-v")]
pub struct NotAnId;

impl std::str::FromStr for ExchangeId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.len() != 26 {
            return Err(NotAnId);
        }
        let mut n: u128 = 0;
        for (place, c) in text.bytes().enumerate() {
            let digit = BASE32_HEX.iter().position(|d| *d == c).ok_or(NotAnId)?;
            // 26 × 5 = 130 bits: the first character carries only three.
            if place == 0 && digit > 7 {
                return Err(NotAnId);
            }
            n = (n << 5) | digit as u128;
        }
        Ok(Self(n.to_be_bytes()))
    }
}

impl Protocol {
    /// As in JSON: `http/1.0`, `http/1.1`, `h2c`.
    pub fn id(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
            Self::H2c => "h2c",
        }
    }
}

impl Message {
    /// The version as in JSON: `1.0`, `1.1`, `2`.
    pub fn version_text(&self) -> &'static str {
        match self.version {
            (1, 0) => "1.0",
            (2, _) => "2",
            _ => "1.1",
        }
    }
}

/// Times of an exchange in microseconds, each `None` where one of its ends was not seen.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Timing {
    /// First to last byte of the request.
    pub request_us: Option<u64>,
    /// Last byte of the request to the first byte of the response (interim responses do not count); 0 when it began
    /// before the request was complete.
    pub wait_us: Option<u64>,
    /// First to last byte of the response.
    pub response_us: Option<u64>,
    /// First byte of the request to the last byte of the response.
    pub total_us: Option<u64>,
}

impl Exchange {
    /// The four durations.
    pub fn timing(&self) -> Timing {
        let request = self.request.as_ref().map(|r| (r.message.first_byte, r.message.last_byte));
        let response = self.response.as_ref().map(|r| (r.message.first_byte, r.message.last_byte));
        Timing {
            request_us: request.map(|(first, last)| last.micros_since(first)),
            wait_us: request.zip(response).map(|((_, asked), (answered, _))| answered.micros_since(asked)),
            response_us: response.map(|(first, last)| last.micros_since(first)),
            total_us: request.zip(response).map(|((first, _), (_, last))| last.micros_since(first)),
        }
    }
}

/// What the decoder keeps and does with bodies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Octets of each decoded body that are kept in the exchange. What is beyond is hashed and counted, not kept.
    pub keep_body: usize,
    /// Octets of bodies that may be held for all unfinished exchanges together; beyond it the largest stop being kept.
    pub body_budget: usize,
    /// Whether to compute SHA-256 of bodies.
    pub hash: bool,
    /// Whether to remove content codings. Without it `size` stays the coded size.
    pub decode_content: bool,
    /// Decoding stops when a body grows beyond this many octets ...
    pub decoded_limit: u64,
    /// ... and beyond this many times its coded size (both must be passed: a bomb is large and dense).
    pub decoded_ratio: u64,
    /// Requests that may wait for an answer on one connection.
    pub pipeline_limit: usize,
    /// Octets of one head.
    pub head_limit: usize,
    /// Fields of one head.
    pub fields_limit: usize,
    /// WebSocket messages kept for one connection.
    pub messages_limit: usize,
    /// Open h2 streams on one connection.
    pub streams_limit: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keep_body: 8 << 20,
            body_budget: 24 << 20,
            hash: true,
            decode_content: true,
            decoded_limit: 64 << 20,
            decoded_ratio: 100,
            pipeline_limit: 512,
            head_limit: 256 << 10,
            fields_limit: 1024,
            messages_limit: 1000,
            streams_limit: 4096,
        }
    }
}

/// What a flow turned out to speak, when it is not HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherProtocol {
    /// TLS records (RFC 8446 §5.1).
    Tls,
    /// SSH.
    Ssh,
    /// PostgreSQL.
    Postgres,
    /// Redis (RESP).
    Redis,
    /// DNS over TCP.
    Dns,
    /// WebSocket whose handshake was not seen (RFC 6455 §5).
    #[serde(rename = "websocket")]
    WebSocket,
    /// The PROXY protocol in front of something else that is not HTTP.
    ProxyProtocol,
    /// None that we know.
    Unknown,
}

/// What this stage has seen.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Counters {
    /// Exchanges given.
    pub exchanges: u64,
    /// Of those, without a request.
    pub lone_responses: u64,
    /// Of those, without a final response.
    pub unanswered: u64,
    /// Octets skipped while hunting for a message after a gap or mid-stream.
    pub hunted_bytes: u64,
    /// Flows that speak something else, by what it is.
    pub other_flows: std::collections::BTreeMap<OtherProtocol, u64>,
    /// Octets of bodies held now for unfinished exchanges.
    pub held: u64,
}

/// An exchange that is not finished: its request was seen, and no answer, or not all of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct InFlight {
    /// The name that the exchange will have.
    #[serde(serialize_with = "id_as_text")]
    pub id: ExchangeId,
    /// The first byte of the request.
    #[serde(serialize_with = "time_as_text")]
    pub started: Timestamp,
    /// The two ends of the flow.
    pub ends: Ends,
    /// The method; `None` where HPACK state was lost.
    pub method: Option<Box<str>>,
    /// The request target, as sent.
    pub target: Option<Box<str>>,
    /// The host that is asked, as sent.
    pub host: Option<Box<str>>,
    /// The answer's status, where it has begun.
    pub status: Option<u16>,
    /// It became a WebSocket, which is open.
    pub websocket: bool,
}

fn id_as_text<S: serde::Serializer>(id: &ExchangeId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

fn time_as_text<S: serde::Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(time)
}

impl InFlight {
    /// Of an exchange whose request was seen.
    fn of(exchange: &Exchange, websocket: bool) -> Option<Self> {
        let request = exchange.request.as_ref()?;
        Some(Self {
            id: exchange.id,
            started: exchange.started,
            ends: exchange.ends,
            method: request.method.clone(),
            target: request.target.clone(),
            host: request.host.clone(),
            status: exchange.response.as_ref().and_then(|r| r.status),
            websocket,
        })
    }
}

/// Where finished exchanges go, each as soon as it is there: one event can finish many, which together would take
/// far more memory than the bytes that they came from.
pub trait Out {
    /// Takes the next one.
    fn push(&mut self, exchange: Box<Exchange>);
}

impl Out for Vec<Box<Exchange>> {
    fn push(&mut self, exchange: Box<Exchange>) {
        Self::push(self, exchange);
    }
}

/// Counts what it passes on.
struct Counted<'a> {
    exchanges: &'a mut u64,
    lone_responses: &'a mut u64,
    unanswered: &'a mut u64,
    out: &'a mut dyn Out,
}

impl Out for Counted<'_> {
    fn push(&mut self, exchange: Box<Exchange>) {
        *self.exchanges = self.exchanges.saturating_add(1);
        *self.lone_responses = self.lone_responses.saturating_add(u64::from(exchange.request.is_none()));
        *self.unanswered = self.unanswered.saturating_add(u64::from(exchange.response.is_none()));
        self.out.push(exchange);
    }
}

/// The stage: stream events of both directions in, finished exchanges out.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    counters: Counters,
    budget: Budget,
    flows: HashMap<FlowId, Box<Connection>, FixedState>,
    /// Octets that the flows take, beside those that are charged to the budget.
    accounted: usize,
    /// Flows in which one direction waits for the other, by when the waiting began; each is listed once.
    waiting: VecDeque<(Timestamp, FlowId)>,
    /// Flows that turned out to speak something else, and were not asked for yet.
    found_other: Vec<Ends>,
    /// The latest time of any event.
    now: Timestamp,
}

/// Listed flows that are over, which are not worth the work of taking them off the list.
const WAITING_SLACK: usize = 1024;
/// Ends of flows that speak something else are kept for the asking up to this number.
const FOUND_OTHER_LIMIT: usize = 1024;

impl Decoder {
    /// With no flow open.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            counters: Counters::default(),
            budget: Budget::new(),
            flows: HashMap::with_hasher(FixedState::default()),
            accounted: 0,
            waiting: VecDeque::new(),
            found_other: Vec::new(),
            now: Timestamp::default(),
        }
    }

    /// The ends of flows that turned out to speak something else than HTTP since this was asked last: whoever captures
    /// may leave out the rest of them. At most so many; the others are merely passed over here.
    pub fn take_others(&mut self) -> Vec<Ends> {
        std::mem::take(&mut self.found_other)
    }

    /// Takes a stream event; gives the exchanges that it finished to `out`.
    pub fn push(&mut self, event: Event<'_>, out: &mut dyn Out) {
        if let Event::Data(data) = &event
            && data.starts != 0
        {
            for segment in data.segments() {
                self.push(Event::Data(segment), out);
            }
            return;
        }
        let (flow, time) = match &event {
            Event::Opened(opened) => (opened.flow, opened.time),
            Event::Data(data) => (data.flow, data.time),
            Event::Gap { flow, time, .. } | Event::End { flow, time, .. } | Event::Conflict { flow, time, .. } => {
                (*flow, *time)
            }
        };
        if time > self.now {
            self.expire(time, out);
        }
        if let Event::Opened(opened) = &event {
            let connection = self.flows.entry(flow).insert(Box::new(Connection::new(opened))).into_mut();
            connection.account(&mut self.accounted);
        } else {
            self.with(flow, out, |connection, scope| connection.push(event, scope));
        }
    }

    /// When [`Self::expire`] has something to do next, in capture time.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.waiting.front().map(|(since, _)| since.plus_nanos(connection::PATIENCE))
    }

    /// Time has passed: what has waited too long for the other direction of its flow is told without it.
    pub fn expire(&mut self, now: Timestamp, out: &mut dyn Out) {
        self.now = self.now.max(now);
        while let Some((since, flow)) = self.waiting.front().copied() {
            if since.plus_nanos(connection::PATIENCE) > now {
                break;
            }
            self.waiting.pop_front();
            self.with(flow, out, |connection, scope| {
                connection.listed = false;
                if connection.waits_since().is_some_and(|since| since.plus_nanos(connection::PATIENCE) <= now) {
                    connection.release(scope);
                }
            });
        }
    }

    /// The capture ended: gives what is unfinished. (Every flow has had its `End`s by then.)
    pub fn finish(&mut self, out: &mut dyn Out) {
        let mut open: Vec<FlowId> = self.flows.keys().copied().collect();
        open.sort_unstable();
        let now = self.now;
        for flow in open {
            self.with(flow, out, |connection, scope| connection.finish(now, scope));
        }
        self.waiting.clear();
    }

    /// Exchanges whose request was seen and that are not finished, those that began first, at most `limit`; and how many
    /// there are in all. Looks at every open flow once.
    pub fn in_flight(&self, limit: usize) -> (Vec<InFlight>, usize) {
        let mut all: Vec<InFlight> = Vec::new();
        let mut count = 0_usize;
        for connection in self.flows.values() {
            connection.in_flight(&mut |one| {
                count = count.saturating_add(1);
                all.push(one);
            });
            // Twice the limit at most is held: what began last of it is let go.
            if all.len() >= limit.saturating_mul(2).max(64) {
                all.sort_by_key(|one| (one.started, one.id));
                all.truncate(limit);
            }
        }
        all.sort_by_key(|one| (one.started, one.id));
        all.truncate(limit);
        (all, count)
    }

    /// What was seen so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Octets of memory that the open flows take.
    pub fn memory(&self) -> usize {
        let waiting = self.waiting.capacity().saturating_mul(size_of::<(Timestamp, FlowId)>());
        [self.accounted, self.budget.held(), self.budget.known(), self.flows.allocation_size(), waiting]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    /// Lets a flow work, and forgets it when it is over.
    fn with(
        &mut self,
        flow: FlowId,
        out: &mut dyn Out,
        work: impl FnOnce(&mut Connection, &mut Scope<'_>),
    ) {
        let Some(connection) = self.flows.get_mut(&flow) else { return };
        let Counters { exchanges, lone_responses, unanswered, hunted_bytes, other_flows, .. } = &mut self.counters;
        let found_other = &mut self.found_other;
        let mut out = Counted { exchanges, lone_responses, unanswered, out };
        let mut scope = Scope {
            config: &self.config,
            budget: &mut self.budget,
            hunted: hunted_bytes,
            others: other_flows,
            found_other,
            now: self.now,
            out: &mut out,
        };
        work(connection, &mut scope);
        self.counters.held = self.budget.held() as u64;
        if connection.is_over() {
            connection.account_none(&mut self.accounted);
            self.flows.remove(&flow);
            return;
        }
        connection.account(&mut self.accounted);
        if let Some(since) = connection.waits_since()
            && !connection.listed
        {
            connection.listed = true;
            self.waiting.push_back((since, flow));
            // Flows that are over stay listed until their time: many of them must not pile up.
            if self.waiting.len() > self.flows.len().saturating_mul(2).saturating_add(WAITING_SLACK) {
                self.waiting.retain(|(_, flow)| self.flows.contains_key(flow));
            }
        }
    }
}
