//! What a filter may name: every field with its type, its help, the values it can have, and how to get it from an
//! exchange or from a row. A field that is not here does not exist for filters.

use std::borrow::Cow;

use super::RowKeys;
use super::eval::{Subject, Value};
use crate::activitypub::{Activity, Digest, Kind, Origin, Reading, Scheme, SignatureVerdict, Visibility};
use crate::http::{AnomalyKind, Body, Exchange, Request, Response};
use crate::stream::GapCause;
use crate::view::Row;

/// What a value is. Lists hold one of the others; `Object` only says whether it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    Bool,
    Int,
    Double,
    Text,
    Time,
    Object,
    Headers,
    Texts,
    /// A list written in the filter, of whole numbers and others.
    Numbers,
    /// A list without elements, or a mixed one.
    List,
    /// An element of a mixed list: its type is known only while matching.
    Any,
    Null,
}

impl Type {
    /// As [`FieldInfo::kind`] says it, and as errors do.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::Text => "string",
            Self::Time => "timestamp",
            Self::Object => "object",
            Self::Headers => "map",
            Self::Texts => "list(string)",
            Self::Numbers => "list(int)",
            Self::List => "list",
            Self::Any => "value",
            Self::Null => "null",
        }
    }
}

/// A field as an interface shows it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct FieldInfo {
    /// Its name, as it is written in a filter.
    pub name: &'static str,
    /// Its type: `bool`, `int`, `string`, `timestamp`, `object`, `map` or `list(string)`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Every value it can have, where that is a closed set.
    pub values: Option<Vec<&'static str>>,
}

/// All fields, shortest useful name first where one has two.
pub fn fields() -> Vec<FieldInfo> {
    FIELDS
        .iter()
        .map(|f| FieldInfo { name: f.name, kind: f.ty.name(), help: f.help, values: f.values.map(|v| v()) })
        .collect()
}

type FromWhole = for<'a> fn(&'a Exchange, &'a Reading) -> Value<'a>;
type FromRow = for<'a> fn(&'a Row, &'a RowKeys) -> Value<'a>;

/// One field.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) ty: Type,
    pub(super) help: &'static str,
    pub(super) values: Option<fn() -> Vec<&'static str>>,
    whole: FromWhole,
    row: Option<FromRow>,
    /// Whether it looks at the kept bytes of bodies.
    pub(super) bodies: bool,
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Field {
    pub(super) fn get<'a>(&self, subject: Subject<'a>) -> Value<'a> {
        match subject {
            Subject::Whole(exchange, reading) => (self.whole)(exchange, reading),
            Subject::Row(row, keys) => self.row.map_or(Value::Absent, |get| get(row, keys)),
        }
    }

    /// Whether a row has it.
    pub(super) fn in_row(&self) -> bool {
        self.row.is_some()
    }
}

/// The names that also work, and what they stand for.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("reading.kind", "kind"),
    ("reading.sentence", "sentence"),
    ("reading.reason", "reason"),
    ("reading.federation", "federation"),
    ("reading.digest", "digest"),
    ("reading.lints", "lints"),
    ("reading.template", "template"),
];

/// Prefixes of names that stand for another prefix.
pub(super) const ALIAS_PREFIXES: &[(&str, &str)] =
    &[("reading.activity", "activity"), ("reading.signature", "signature")];

/// The field of that name.
pub(super) fn find(name: &str) -> Option<&'static Field> {
    let aliased = |name: &str| -> Option<&'static Field> {
        let name = ALIASES.iter().find(|(from, _)| *from == name).map_or(name, |(_, to)| to);
        FIELDS.iter().find(|f| f.name == name)
    };
    aliased(name).or_else(|| {
        ALIAS_PREFIXES.iter().find_map(|(from, to)| {
            let rest = name.strip_prefix(from)?;
            (rest.is_empty() || rest.starts_with('.')).then(|| aliased(&format!("{to}{rest}")))?
        })
    })
}

/// Every name, aliases among them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|f| f.name).chain(ALIASES.iter().map(|(from, _)| *from))
}

fn text(value: Option<&str>) -> Value<'_> {
    value.map_or(Value::Absent, |v| Value::Text(Cow::Borrowed(v)))
}

fn known(value: &'static str) -> Value<'static> {
    Value::Text(Cow::Borrowed(value))
}

fn int(value: Option<u64>) -> Value<'static> {
    // Sizes and durations beyond 2^63 do not occur; were one to, it would compare as the largest number.
    value.map_or(Value::Absent, |v| Value::Int(i64::try_from(v).unwrap_or(i64::MAX)))
}

fn present(is: bool) -> Value<'static> {
    if is { Value::Present } else { Value::Absent }
}

fn texts<'a>(items: impl Iterator<Item = &'a str>) -> Value<'a> {
    Value::List(items.map(|i| Value::Text(Cow::Borrowed(i))).collect())
}

fn request(exchange: &Exchange) -> Option<&Request> {
    exchange.request.as_ref()
}

fn response(exchange: &Exchange) -> Option<&Response> {
    exchange.response.as_ref()
}

fn request_body(exchange: &Exchange) -> Option<&Body> {
    request(exchange).map(|r| &r.message.body)
}

fn response_body(exchange: &Exchange) -> Option<&Body> {
    response(exchange).map(|r| &r.message.body)
}

fn activity(reading: &Reading) -> Option<&Activity> {
    reading.activity.as_ref()
}

fn origin(reading: &Reading) -> Option<&Origin> {
    reading.origin.as_ref()
}

/// The target without what leads to it in absolute-form (RFC 9112 §3.2.2).
fn origin_form(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => target,
    }
}

fn path(target: Option<&str>) -> Value<'_> {
    text(target.map(|t| {
        let t = origin_form(t);
        t.split_once('?').map_or(t, |(path, _)| path)
    }))
}

fn query(target: Option<&str>) -> Value<'_> {
    text(target.and_then(|t| t.split_once('?')).map(|(_, query)| query))
}

/// A kept body as text. What has a NUL near its beginning is not text; other octets that are not UTF-8 are replaced.
fn body_text(body: Option<&Body>) -> Option<Cow<'_, str>> {
    let bytes = &body?.bytes;
    if bytes.is_empty() || bytes.iter().take(512).any(|b| *b == 0) {
        return None;
    }
    Some(String::from_utf8_lossy(bytes))
}

fn either_body(exchange: &Exchange) -> Value<'_> {
    match (body_text(request_body(exchange)), body_text(response_body(exchange))) {
        (Some(one), None) | (None, Some(one)) => Value::Text(one),
        (Some(asked), Some(answered)) => Value::Text(Cow::Owned(format!("{asked}\n{answered}"))),
        (None, None) => Value::Absent,
    }
}

fn hash(hash: Option<[u8; 32]>) -> Value<'static> {
    hash.map_or(Value::Absent, |h| Value::Text(Cow::Owned(crate::view::hex(&h))))
}

fn scheme_id(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Cavage => "cavage",
        Scheme::Rfc9421 => "rfc9421",
    }
}

fn verdict_id(verdict: SignatureVerdict) -> &'static str {
    match verdict {
        SignatureVerdict::Valid => "valid",
        SignatureVerdict::Invalid => "invalid",
        SignatureVerdict::KeyNotSeen => "key-not-seen",
        SignatureVerdict::NotCheckable => "not-checkable",
        SignatureVerdict::Unsigned => "unsigned",
    }
}

fn digest_id(digest: Digest) -> &'static str {
    match digest {
        Digest::Match => "match",
        Digest::Mismatch => "mismatch",
        Digest::Absent => "absent",
        Digest::NotCheckable => "not-checkable",
    }
}

fn visibility_id(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Public => "public",
        Visibility::Unlisted => "unlisted",
        Visibility::Followers => "followers",
        Visibility::Direct => "direct",
    }
}

fn cause_id(cause: GapCause) -> &'static str {
    match cause {
        GapCause::AckedUnseen => "acked-unseen",
        GapCause::CaptureLoss => "capture-loss",
        GapCause::Truncated => "truncated",
        GapCause::Budget => "budget",
        GapCause::Deadline => "deadline",
    }
}

const KINDS: fn() -> Vec<&'static str> = || Kind::ALL.iter().map(|k| k.id()).collect();
const ANOMALIES: fn() -> Vec<&'static str> = || AnomalyKind::ALL.iter().map(|k| k.id()).collect();
const CAUSES: fn() -> Vec<&'static str> =
    || vec!["acked-unseen", "capture-loss", "truncated", "budget", "deadline"];
const VERDICTS: fn() -> Vec<&'static str> =
    || vec!["valid", "invalid", "key-not-seen", "not-checkable", "unsigned"];
const SCHEMES: fn() -> Vec<&'static str> = || vec!["cavage", "rfc9421"];
const DIGESTS: fn() -> Vec<&'static str> = || vec!["match", "mismatch", "absent", "not-checkable"];
const VISIBILITIES: fn() -> Vec<&'static str> = || vec!["public", "unlisted", "followers", "direct"];
const PROTOCOLS: fn() -> Vec<&'static str> = || vec!["http/1.0", "http/1.1", "h2c"];

macro_rules! field {
    ($name:literal, $ty:ident, $help:literal, values $values:expr, $($rest:tt)*) => {
        field!(@ $name, $ty, $help, Some($values), $($rest)*)
    };
    ($name:literal, $ty:ident, $help:literal, $($rest:tt)*) => {
        field!(@ $name, $ty, $help, None, $($rest)*)
    };
    (@ $name:literal, $ty:ident, $help:literal, $values:expr, $whole:expr) => {
        Field { name: $name, ty: Type::$ty, help: $help, values: $values, whole: $whole, row: None, bodies: false }
    };
    (@ $name:literal, $ty:ident, $help:literal, $values:expr, $whole:expr, row $row:expr) => {
        Field { name: $name, ty: Type::$ty, help: $help, values: $values, whole: $whole, row: Some($row), bodies: false }
    };
    (@ $name:literal, $ty:ident, $help:literal, $values:expr, $whole:expr, bodies) => {
        Field { name: $name, ty: Type::$ty, help: $help, values: $values, whole: $whole, row: None, bodies: true }
    };
}

#[rustfmt::skip]
static FIELDS: &[Field] = &[
    // What it was.
    field!("kind", Text, "What kind of exchange it was", values KINDS,
        |_, r| known(r.kind.id()), row |row, _| text(Some(&row.kind))),
    field!("sentence", Text, "What happened, in English",
        |_, r| Value::Text(Cow::Owned(r.sentence.render())), row |row, _| text(Some(&row.sentence))),
    field!("reason", Text, "Why it went wrong, in a few words",
        |_, r| text(r.reason.as_deref()), row |row, _| text(row.reason.as_deref())),
    field!("template", Text, "The sentence's template, as follow.ask",
        |_, r| text(Some(&r.sentence.template)), row |row, _| text(Some(&row.template))),
    field!("federation", Bool, "Servers among themselves, not browsers and clients",
        |_, r| Value::Bool(r.federation), row |row, _| Value::Bool(row.federation)),
    // The activity.
    field!("activity", Object, "The activity of a delivery",
        |_, r| present(r.activity.is_some())),
    field!("activity.id", Text, "The activity's id",
        |_, r| text(activity(r).and_then(|a| a.id.as_deref())), row |row, _| text(row.activity_id.as_deref())),
    field!("activity.type", Text, "The activity's type: Create, Follow, …",
        |_, r| text(activity(r).and_then(|a| a.r#type.as_deref())), row |row, _| text(row.activity.as_deref())),
    field!("activity.actor", Text, "Who does it, as a URL",
        |_, r| text(activity(r).and_then(|a| a.actor.as_deref())), row |_, k| text(k.actor.as_deref())),
    field!("activity.object", Text, "The id of what it is done to",
        |_, r| text(activity(r).and_then(|a| a.object.as_deref())), row |_, k| text(k.object.as_deref())),
    field!("activity.object_type", Text, "The type of the embedded object: Note, Person, …",
        |_, r| text(activity(r).and_then(|a| a.object_type.as_deref()))),
    field!("activity.inner", Text, "The id of what the object is about: the followed of an accepted Follow",
        |_, r| text(activity(r).and_then(|a| a.inner.as_deref()))),
    field!("activity.target", Text, "The target of an Add, Remove or Move",
        |_, r| text(activity(r).and_then(|a| a.target.as_deref()))),
    field!("activity.to", Texts, "Primary addressees",
        |_, r| activity(r).map_or(Value::Absent, |a| texts(a.to.iter().map(|t| &**t)))),
    field!("activity.cc", Texts, "Secondary addressees",
        |_, r| activity(r).map_or(Value::Absent, |a| texts(a.cc.iter().map(|t| &**t)))),
    field!("activity.visibility", Text, "How far the activity may be seen", values VISIBILITIES,
        |_, r| activity(r).and_then(|a| a.visibility).map_or(Value::Absent, |v| known(visibility_id(v))),
        row |row, _| row.visibility.map_or(Value::Absent, |v| known(visibility_id(v)))),
    // The answer.
    field!("response", Object, "The final response",
        |e, _| present(e.response.is_some())),
    field!("response.status", Int, "The status code",
        |e, _| int(response(e).and_then(|r| r.status).map(u64::from)),
        row |row, _| int(row.status.map(u64::from))),
    field!("response.reason", Text, "The reason phrase of HTTP/1",
        |e, _| text(response(e).filter(|r| r.message.version.0 < 2).map(|r| &*r.reason))),
    field!("response.version", Text, "The HTTP version of the response",
        |e, _| response(e).map_or(Value::Absent, |r| known(r.message.version_text()))),
    field!("response.headers", Headers, "Header fields of the response, by lower-case name",
        |e, _| response(e).map_or(Value::Absent, |r| Value::Headers(&r.message.headers))),
    field!("response.trailers", Headers, "Trailer fields of the response, by lower-case name",
        |e, _| response(e).map_or(Value::Absent, |r| Value::Headers(&r.message.trailers))),
    field!("response.body.size", Int, "Octets of the decoded body",
        |e, _| int(response_body(e).map(|b| b.size)), row |row, _| int(row.answered)),
    field!("response.body.wire_size", Int, "Octets of the body as it travelled",
        |e, _| int(response_body(e).map(|b| b.wire_size))),
    field!("response.body.stored", Int, "Octets of the body that were kept",
        |e, _| int(response_body(e).map(|b| b.bytes.len() as u64)), bodies),
    field!("response.body.encoding", Text, "The content coding: gzip, br, …",
        |e, _| text(response_body(e).and_then(|b| b.encoding.as_deref()))),
    field!("response.body.complete", Bool, "The whole body was seen and decoded",
        |e, _| response_body(e).map_or(Value::Absent, |b| Value::Bool(b.complete))),
    field!("response.body.sha256", Text, "SHA-256 of the decoded body",
        |e, _| hash(response_body(e).and_then(|b| b.sha256))),
    field!("response.body.text", Text, "The kept body of the response as text",
        |e, _| body_text(response_body(e)).map_or(Value::Absent, Value::Text), bodies),
    // The request.
    field!("request", Object, "The request",
        |e, _| present(e.request.is_some())),
    field!("request.method", Text, "GET, POST, …",
        |e, _| text(request(e).and_then(|r| r.method.as_deref())), row |row, _| text(row.method.as_deref())),
    field!("request.target", Text, "The request target, as sent",
        |e, _| text(request(e).and_then(|r| r.target.as_deref())), row |row, _| text(row.target.as_deref())),
    field!("request.path", Text, "The target's path, without the query",
        |e, _| path(request(e).and_then(|r| r.target.as_deref())), row |row, _| path(row.target.as_deref())),
    field!("request.query", Text, "What follows ? in the target",
        |e, _| query(request(e).and_then(|r| r.target.as_deref())), row |row, _| query(row.target.as_deref())),
    field!("request.host", Text, "Host or :authority, as sent",
        |e, _| text(request(e).and_then(|r| r.host.as_deref())), row |_, k| text(k.request_host.as_deref())),
    field!("request.scheme", Text, "The scheme that the request names",
        |e, _| text(request(e).and_then(|r| r.scheme.as_deref()))),
    field!("request.version", Text, "The HTTP version of the request",
        |e, _| request(e).map_or(Value::Absent, |r| known(r.message.version_text()))),
    field!("request.headers", Headers, "Header fields of the request, by lower-case name",
        |e, _| request(e).map_or(Value::Absent, |r| Value::Headers(&r.message.headers))),
    field!("request.trailers", Headers, "Trailer fields of the request, by lower-case name",
        |e, _| request(e).map_or(Value::Absent, |r| Value::Headers(&r.message.trailers))),
    field!("request.body.size", Int, "Octets of the decoded body",
        |e, _| int(request_body(e).map(|b| b.size)), row |row, _| int(row.sent)),
    field!("request.body.wire_size", Int, "Octets of the body as it travelled",
        |e, _| int(request_body(e).map(|b| b.wire_size))),
    field!("request.body.stored", Int, "Octets of the body that were kept",
        |e, _| int(request_body(e).map(|b| b.bytes.len() as u64)), bodies),
    field!("request.body.encoding", Text, "The content coding: gzip, br, …",
        |e, _| text(request_body(e).and_then(|b| b.encoding.as_deref()))),
    field!("request.body.complete", Bool, "The whole body was seen and decoded",
        |e, _| request_body(e).map_or(Value::Absent, |b| Value::Bool(b.complete))),
    field!("request.body.sha256", Text, "SHA-256 of the decoded body",
        |e, _| hash(request_body(e).and_then(|b| b.sha256))),
    field!("request.body.text", Text, "The kept body of the request as text",
        |e, _| body_text(request_body(e)).map_or(Value::Absent, Value::Text), bodies),
    field!("body.text", Text, "The kept bodies of request and response as text",
        |e, _| either_body(e), bodies),
    // Who.
    field!("origin", Object, "Who really sent it, behind the proxy",
        |_, r| present(r.origin.is_some())),
    field!("origin.host", Text, "The host name of the sending server",
        |_, r| text(origin(r).and_then(|o| o.host.as_deref())), row |_, k| text(k.origin_host.as_deref())),
    field!("origin.address", Text, "The address behind the proxy",
        |_, r| text(origin(r).and_then(|o| o.address.as_deref()))),
    field!("origin.software", Text, "The sending software, with version",
        |_, r| text(origin(r).and_then(|o| o.software.as_deref())), row |row, _| text(row.from_software.as_deref())),
    field!("origin.name", Text, "The sending pod, where the cluster is known",
        |_, _| Value::Absent),
    field!("client.address", Text, "The end that opened the connection, as address:port",
        |e, _| Value::Text(Cow::Owned(e.ends.client.to_string()))),
    field!("client.ip", Text, "The address of that end",
        |e, _| Value::Text(Cow::Owned(e.ends.client.ip().to_string()))),
    field!("client.port", Int, "The port of that end",
        |e, _| Value::Int(i64::from(e.ends.client.port()))),
    field!("client.name", Text, "The pod of that end, where the cluster is known",
        |_, _| Value::Absent),
    field!("server.address", Text, "The other end, as address:port",
        |e, _| Value::Text(Cow::Owned(e.ends.server.to_string()))),
    field!("server.ip", Text, "The address of the other end",
        |e, _| Value::Text(Cow::Owned(e.ends.server.ip().to_string()))),
    field!("server.port", Int, "The port of the other end",
        |e, _| Value::Int(i64::from(e.ends.server.port()))),
    field!("server.name", Text, "The pod of the other end, where the cluster is known",
        |_, _| Value::Absent),
    // Signature and digest.
    field!("signature.verdict", Text, "What can be said of the signature", values VERDICTS,
        |_, r| known(verdict_id(r.signature.verdict)), row |row, _| known(verdict_id(row.signature))),
    field!("signature.scheme", Text, "The signature's scheme", values SCHEMES,
        |_, r| r.signature.scheme.map_or(Value::Absent, |s| known(scheme_id(s))),
        row |row, _| row.scheme.map_or(Value::Absent, |s| known(scheme_id(s)))),
    field!("signature.key_id", Text, "The id of the key that signed",
        |_, r| text(r.signature.key_id.as_deref())),
    field!("signature.algorithm", Text, "The algorithm that the signature names",
        |_, r| text(r.signature.algorithm.as_deref())),
    field!("signature.covered", Texts, "What the signature covers",
        |_, r| texts(r.signature.covered.iter().map(|c| &**c))),
    field!("signature.explanation", Text, "Why the verdict is what it is",
        |_, r| text(r.signature.explanation.as_deref())),
    field!("digest", Text, "Whether the body is what its digest says", values DIGESTS,
        |_, r| known(digest_id(r.digest)), row |row, _| known(digest_id(row.digest))),
    // Time.
    field!("started", Time, "When the request began",
        |e, _| Value::Time(e.started.0), row |row, _| Value::Time(row.started.0)),
    field!("timing.total_us", Int, "Microseconds from the request's first octet to the response's last",
        |e, _| int(e.timing().total_us), row |row, _| int(row.took_us)),
    field!("timing.wait_us", Int, "Microseconds from the end of the request to the response",
        |e, _| int(e.timing().wait_us)),
    field!("timing.request_us", Int, "Microseconds that the request took",
        |e, _| int(e.timing().request_us)),
    field!("timing.response_us", Int, "Microseconds that the response took",
        |e, _| int(e.timing().response_us)),
    // What was odd.
    field!("gaps", Texts, "Why octets are missing: the cause of each hole", values CAUSES,
        |e, _| texts(e.gaps.iter().map(|g| cause_id(g.cause)))),
    field!("anomalies", Texts, "What was odd about it", values ANOMALIES,
        |e, _| texts(e.anomalies.iter().map(|a| a.kind.id()))),
    field!("lints", Texts, "Rules that it breaks, by id",
        |_, r| texts(r.lints.iter().map(|l| &*l.id))),
    // Where it was seen.
    field!("id", Text, "The exchange's id",
        |e, _| Value::Text(Cow::Owned(e.id.to_string())),
        row |row, _| Value::Text(Cow::Owned(row.id.to_string()))),
    field!("protocol", Text, "The protocol", values PROTOCOLS,
        |e, _| known(e.protocol.id())),
    field!("interface", Text, "The interface it was captured at",
        |e, _| text(e.interface_name.as_deref())),
    field!("node", Text, "The node that saw it",
        |_, _| Value::Absent),
    field!("websocket", Object, "It became a WebSocket",
        |e, _| present(e.websocket.is_some()), row |row, _| present(row.websocket)),
    field!("websocket.frames", Int, "WebSocket frames",
        |e, _| int(e.websocket.as_ref().map(|w| w.frames))),
    field!("websocket.close_code", Int, "The code of the first Close frame",
        |e, _| int(e.websocket.as_ref().and_then(|w| w.close_code).map(u64::from))),
];

/// Lengths of lists that a row counts without naming: what `size(gaps)` becomes.
pub(super) static COUNTS: &[Field] = &[
    field!(
        "gaps",
        Int,
        "Holes",
        |e, _| int(Some(e.gaps.len() as u64)),
        row | row,
        _ | int(Some(u64::from(row.gaps)))
    ),
    field!(
        "anomalies",
        Int,
        "Oddities",
        |e, _| int(Some(e.anomalies.len() as u64)),
        row | row,
        _ | int(Some(u64::from(row.anomalies)))
    ),
    field!("lints", Int, "Broken rules, infos among them", |_, r| int(Some(r.lints.len() as u64))),
];
