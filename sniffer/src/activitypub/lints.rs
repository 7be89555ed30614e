//! The rules of `facts/activitypub-wire.md` §6 that one exchange alone can break, without a key and without doubt:
//! what absence proves is not said where header fields are unknown. Each with its stable name.

use super::activity::is_public;
use super::digest::Checked;
use super::document::{Node, Value};
use super::head::Media;
use super::learn::Url;
use super::origin::key_host;
use super::place::{Shape, guess};
use super::sentence::shown;
use super::signature::Form;
use super::{Digest, Kind, Lint, Scene, Scheme, Severity, Signature};
use crate::frame::Timestamp;
use crate::http::{Body, Headers};

use Severity::{Error, Info, Warn};

/// Collects broken rules.
#[derive(Default)]
struct Found(Vec<Lint>);

impl Found {
    fn push(&mut self, id: &'static str, severity: Severity, detail: impl Into<Box<str>>) {
        self.0.push(Lint { id: id.into(), severity, detail: detail.into() });
    }
}

/// Everything that the rules look at.
pub(super) struct Case<'a> {
    pub(super) kind: Kind,
    pub(super) scene: &'a Scene<'a>,
    pub(super) status: Option<u16>,
    pub(super) headers: &'a Headers,
    pub(super) body: &'a Body,
    pub(super) signature: &'a Signature,
    pub(super) form: Form,
    pub(super) digest: Checked,
}

/// Checks all rules.
pub(super) fn check(case: &Case<'_>) -> Vec<Lint> {
    let mut found = Found::default();
    match case.kind {
        Kind::InboxDelivery => {
            delivery(case, &mut found);
            digests(case, &mut found);
            signature(case, &mut found);
            if let Some(node) = case.scene.sent {
                activity(case, node, &mut found);
            }
        }
        Kind::Actor | Kind::Key | Kind::Object | Kind::Collection | Kind::FollowersSynchronization => {
            fetch(case, &mut found);
            signature(case, &mut found);
        }
        Kind::WebFinger => webfinger(case, &mut found),
        Kind::NodeInfo => nodeinfo(case, &mut found),
        _ => {}
    }
    if case.kind != Kind::InboxDelivery && case.digest.digest == Digest::Mismatch {
        found.push("digest-mismatch", Error, "the body is not what its digest says");
    }
    found.0
}

fn delivery(case: &Case<'_>, found: &mut Found) {
    let head = case.scene.head;
    let text = head.content_type_text.unwrap_or("none");
    if head.content_type.has(Media::LD) {
        found.push("ldjson-without-profile", Warn, "application/ld+json without the Activity Streams profile");
    } else if !head.content_type.has(Media::AS) && (!head.unsure || !head.content_type.is_empty()) {
        found.push("inbox-content-type", Error, format!("Content-Type is {}", shown(text, 80)));
    }
    if head.user_agent.is_none() && !head.unsure {
        found.push("missing-user-agent", Error, "GoToSocial answers 418 to requests without User-Agent");
    }
    if !head.signed() && !head.unsure {
        found.push("unsigned-inbox-post", Error, "neither Signature nor Authorization: Signature");
    }
    if case.body.size > 1 << 20 {
        found.push("body-too-large", Error, format!("{} octets; Mastodon takes at most 1 MiB", case.body.size));
    } else if case.body.size > 64 << 10 {
        found.push("body-too-large", Warn, format!("{} octets; Misskey takes at most 64 KiB", case.body.size));
    }
    match case.status {
        Some(status @ 300..=399) => {
            let to = case.scene.answer.location.unwrap_or("elsewhere");
            found.push("redirect-on-inbox", Error, format!("{status} to {}", shown(to, 120)));
        }
        Some(405) => found.push("unexpected-inbox-status", Warn, "405: the server does not federate (ActivityPub §5.2)"),
        Some(status @ 200..=299) if !matches!(status, 200 | 201 | 202 | 204) => {
            found.push("unexpected-inbox-status", Warn, format!("{status} is no usual success"));
        }
        Some(status @ 200..=299) if case.scene.answer.media.has(Media::HTML) => {
            found.push("unexpected-inbox-status", Warn, format!("{status} with an HTML page: a front end answered"));
        }
        _ => {}
    }
    if let (Some(host), Some(forwarded)) = (head.host, head.forwarded_host) {
        let forwarded = super::head::without_default_port(forwarded);
        if !forwarded.contains(',') && !forwarded.eq_ignore_ascii_case(host) {
            let detail = format!("Host is {}, X-Forwarded-Host {}", shown(host, 80), shown(forwarded, 80));
            found.push("proxy-host-rewritten", Error, detail);
        }
    }
}

fn digests(case: &Case<'_>, found: &mut Found) {
    match case.digest.digest {
        Digest::Absent => found.push("digest-missing", Error, "neither Digest nor Content-Digest"),
        Digest::Mismatch => found.push("digest-mismatch", Error, "the body is not what its digest says"),
        Digest::Match | Digest::NotCheckable => {}
    }
    if case.digest.bad_syntax {
        let detail = "Content-Digest is no dictionary of byte sequences (RFC 9530 §2)";
        found.push("content-digest-syntax", Error, detail);
    } else if case.digest.no_sha256 {
        found.push("digest-algorithm", Error, "no SHA-256 among the digests");
    }
}

fn signature(case: &Case<'_>, found: &mut Found) {
    let (head, signature, form) = (case.scene.head, case.signature, case.form);
    if form.two_carriers {
        found.push("two-signature-carriers", Error, "both Signature and Authorization: Signature");
    }
    if let Some(date) = head.date.filter(|_| head.signed()) {
        match http_date(date) {
            Some(at) => skew(case.scene.exchange.started, at, found),
            None => found.push("date-format", Error, format!("Date is {}", shown(date, 60))),
        }
    }
    let covers = |name: &str| signature.covered.iter().any(|c| &**c == name);
    match signature.scheme {
        Some(Scheme::Cavage) => {
            if form.whitespace {
                found.push("sig-param-whitespace", Error, "white space behind a comma of the Signature header");
            }
            if form.duplicate {
                found.push("sig-duplicate-param", Error, "a parameter of the Signature header comes twice");
            }
            if form.quoted_time {
                found.push("sig-quoted-created", Warn, "created and expires are numbers without quotes");
            }
            if form.malformed {
                return;
            }
            match signature.algorithm.as_deref() {
                None => found.push("sig-algorithm-missing", Error, "no algorithm; Misskey and PeerTube want one"),
                Some("rsa-sha256" | "hs2019") => {}
                Some(other) => {
                    found.push("sig-algorithm-unsupported", Error, format!("algorithm is {}", shown(other, 60)));
                }
            }
            let old = signature
                .algorithm
                .as_deref()
                .is_some_and(|a| ["rsa", "hmac", "ecdsa"].iter().any(|prefix| a.starts_with(prefix)));
            if old && (covers("(created)") || covers("(expires)")) {
                let detail = "(created) or (expires) is covered, which this algorithm must not (draft-cavage-12 §2.3)";
                found.push("sig-created-with-rsa-sha256", Error, detail);
            }
            let post = case.kind == Kind::InboxDelivery;
            let mut lacks: Vec<&str> = Vec::new();
            if !covers("(request-target)") && (post || !covers("digest")) {
                lacks.push("(request-target)");
            }
            if !covers("host") {
                lacks.push("host");
            }
            if !covers("date") && !covers("(created)") {
                lacks.push("date");
            }
            if post && !covers("digest") && !covers("content-digest") {
                lacks.push("digest");
            }
            too_little(&lacks, found);
        }
        Some(Scheme::Rfc9421) if !form.malformed => {
            let mut wrong: Vec<&str> = Vec::new();
            if form.no_created {
                wrong.push("no created");
            }
            if signature.key_id.is_none() {
                wrong.push("no keyid");
            }
            if !covers("@method") {
                wrong.push("@method not covered");
            }
            if !covers("@target-uri") {
                wrong.push("@target-uri not covered");
            }
            if form.labels {
                wrong.push("several labels");
            }
            if !wrong.is_empty() {
                found.push("rfc9421-profile", Error, wrong.join(", "));
            }
            if case.kind == Kind::InboxDelivery && !covers("content-digest") && !covers("digest") {
                too_little(&["content-digest"], found);
            }
        }
        _ => return,
    }
    if head.unsure {
        return;
    }
    let headers = signature.covered.iter().map(|name| name.split(';').next().unwrap_or_default());
    let headers: Vec<&str> = headers.filter(|name| !name.starts_with(['(', '@'])).collect();
    let list = |names: Vec<&str>| shown(&names.join(", "), 120);
    let absent: Vec<&str> =
        headers.iter().copied().filter(|name| *name != "host" && case.headers.get(name).is_none()).collect();
    if !absent.is_empty() {
        found.push("sig-covers-absent-header", Error, format!("covered but not there: {}", list(absent)));
    }
    let fragile = |name: &&str| {
        matches!(*name, "user-agent" | "accept-encoding" | "accept" | "content-length" | "connection")
            || name.starts_with("x-forwarded-")
    };
    let fragile: Vec<&str> = headers.iter().copied().filter(fragile).collect();
    if !fragile.is_empty() {
        found.push("sig-covers-fragile-header", Warn, format!("covered, but proxies change: {}", list(fragile)));
    }
}

fn too_little(lacks: &[&str], found: &mut Found) {
    if !lacks.is_empty() {
        found.push("sig-covers-too-little", Error, format!("not covered: {}", lacks.join(", ")));
    }
}

/// Seconds that `Date` may be off before anyone refuses (§3.6).
const SKEW: u64 = 30;
/// Seconds from which Misskey refuses.
pub(super) const SKEW_REFUSED: u64 = 300;

fn skew(seen: Timestamp, date: i64, found: &mut Found) {
    let seen = i64::try_from(seen.0 / 1_000_000_000).unwrap_or(i64::MAX);
    let off = seen.abs_diff(date);
    if off <= SKEW {
        return;
    }
    let way = if date < seen { "before" } else { "after" };
    let refusers: &[(u64, &str)] = &[(300, "Misskey"), (1800, "PeerTube"), (3600, "Lemmy, Fedify"), (3900, "Mastodon")];
    let refuse: Vec<&str> = refusers.iter().filter(|(limit, _)| off > *limit).map(|(_, name)| *name).collect();
    let tail = if refuse.is_empty() { String::new() } else { format!("; refused by {}", refuse.join(", ")) };
    let severity = if off > SKEW_REFUSED { Error } else { Warn };
    found.push("date-skew", severity, format!("Date is {off} s {way} the capture{tail}"));
}

/// How far `Date` is off, in seconds.
pub(super) fn date_off(seen: Timestamp, date: &str) -> Option<u64> {
    let seen = i64::try_from(seen.0 / 1_000_000_000).ok()?;
    Some(seen.abs_diff(http_date(date)?))
}

/// Seconds since 1970 of an IMF-fixdate (RFC 9110 §5.6.7): `Mon, 23 Nov 2026 07:26:40 GMT`. The name of the day is not
/// compared with the date.
pub(super) fn http_date(text: &str) -> Option<i64> {
    let [_, _, _, b',', b' ', d1, d2, b' ', m1, m2, m3, b' ', y1, y2, y3, y4, b' ', rest @ ..] = text.as_bytes() else {
        return None;
    };
    let [h1, h2, b':', i1, i2, b':', s1, s2, b' ', b'G', b'M', b'T'] = rest else { return None };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i16::from(byte & 15));
    let two = |tens: &u8, ones: &u8| -> Option<i16> { digit(tens)?.checked_mul(10)?.checked_add(digit(ones)?) };
    let small = |tens: &u8, ones: &u8| two(tens, ones).and_then(|n| i8::try_from(n).ok());
    let months = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let month = i8::try_from(months.iter().position(|month| **month == [*m1, *m2, *m3])?).ok()?.checked_add(1)?;
    let year = two(y1, y2)?.checked_mul(100)?.checked_add(two(y3, y4)?)?;
    let date = jiff::civil::Date::new(year, month, small(d1, d2)?).ok()?;
    let clock = jiff::civil::Time::new(small(h1, h2)?, small(i1, i2)?, small(s1, s2)?.min(59), 0).ok()?;
    Some(jiff::tz::Offset::UTC.to_timestamp(date.to_datetime(clock)).ok()?.as_second())
}

fn activity(case: &Case<'_>, node: &Node<'_>, found: &mut Found) {
    let actor = node.actor.id();
    let actor_host = actor.and_then(Url::parse).map(|url| url.host);
    if let Some((key, actor)) = differs(actor_host, case.signature.key_id.as_deref().and_then(key_host))
        && !node.proof
    {
        let detail = format!("signed by {}, done by {}, without a proof in the body", shown(key, 80), shown(actor, 80));
        found.push("keyid-host-differs", Error, detail);
    }
    let r#type = node.type_in(super::activity::known_type).unwrap_or_default();
    match node.id.as_deref() {
        Some(id) => {
            let url = Url::parse(id);
            if let Some((id, actor)) = differs(actor_host, url.map(|url| url.host)) {
                let detail = format!("the id is of {}, the actor of {}", shown(id, 80), shown(actor, 80));
                found.push("activity-id-foreign", Error, detail);
            }
            let numeric = url.is_some_and(|u| u.host.parse::<std::net::SocketAddr>().is_ok() || u.host.parse::<std::net::IpAddr>().is_ok());
            if numeric || url.is_some_and(|url| url.scheme.eq_ignore_ascii_case("http")) {
                found.push("id-not-https", Warn, format!("the id is {}", shown(id, 120)));
            }
        }
        // Mastodon sends Add and Remove without one (§2.1).
        None if !matches!(r#type, "Add" | "Remove") => {
            found.push("activity-without-id", Warn, "GoToSocial ignores it, Misskey refuses it");
        }
        None => {}
    }
    if !node.as2_context && node.is_activity() {
        found.push("missing-context", Error, "@context does not name Activity Streams; Mastodon drops it after its 202");
    }
    blind(node, found);
    let shorthand = |value: &Value<'_>| value.ids().take(256).any(|id| is_public(id) && !id.starts_with("http"));
    if shorthand(&node.to) || shorthand(&node.cc) {
        found.push("public-shorthand", Warn, "Public is not written as its full IRI");
    }
    let object = node.object.node();
    if r#type == "Undo"
        && let (Some(actor), Some(undone)) = (actor, object.and_then(|o| o.actor.id()))
        && actor != undone
    {
        let detail = format!("{} takes back what {} did", shown(actor, 100), shown(undone, 100));
        found.push("undo-actor-mismatch", Error, detail);
    }
    if matches!(r#type, "Update" | "Delete")
        && let Some((object, actor)) = differs(actor_host, node.object.id().and_then(Url::parse).map(|url| url.host))
    {
        let detail = format!("the object is of {}, the actor of {}", shown(object, 80), shown(actor, 80));
        found.push("update-delete-cross-origin", Error, detail);
    }
}

/// Two hosts, where they are not the same.
fn differs<'a>(actor: Option<&'a str>, other: Option<&'a str>) -> Option<(&'a str, &'a str)> {
    other.zip(actor).filter(|(other, actor)| !other.eq_ignore_ascii_case(actor))
}

fn blind(node: &Node<'_>, found: &mut Found) {
    if node.blind || node.object.node().is_some_and(|object| object.blind) {
        found.push("bto-bcc-leak", Error, "bto or bcc is in what was sent (ActivityPub §7.1: must be removed)");
    }
}

fn fetch(case: &Case<'_>, found: &mut Found) {
    let (head, answer) = (case.scene.head, case.scene.answer);
    let asks = head.accept.has(Media::ASISH) && !head.accept.has(Media::HTML);
    if head.accept.only(Media::ACTIVITY) {
        found.push("accept-only-activity-json", Info, "ActivityPub §3.2 asks for application/ld+json with its profile");
    }
    if head.user_agent.is_none() && !head.unsure {
        found.push("missing-user-agent", Error, "GoToSocial answers 418 to requests without User-Agent");
    }
    let bare = !head.signed() && !head.unsure;
    if bare && matches!(case.status, Some(401 | 403)) {
        let status = case.status.unwrap_or_default();
        found.push("unsigned-get-authorized-fetch", Error, format!("answered {status}: the server wants signed fetches"));
        let gated = case.scene.guess.shape == Shape::InstanceActor
            || (case.scene.guess.shape == Shape::Key && case.kind == Kind::Key);
        if gated {
            let detail = "the instance actor and keys must be readable without a signature";
            found.push("instance-actor-gated", Error, detail);
        }
    }
    if case.status == Some(200) {
        if answer.media.has(Media::LD) {
            found.push("ldjson-without-profile", Warn, "answered application/ld+json without the profile");
        } else if asks && head.is_get() && !answer.media.has(Media::AS) {
            let text = answer.content_type.unwrap_or("none");
            found.push("answer-wrong-type", Error, format!("asked for Activity Streams, got {}", shown(text, 80)));
        }
    }
    let Some(node) = case.scene.answered else { return };
    blind(node, found);
    if let Some(id) = node.id.as_deref().filter(|_| matches!(case.kind, Kind::Actor | Kind::Object))
        && let Some(url) = Url::parse(id)
        && !case.scene.key.is_empty()
        && url.key() != case.scene.key
        // Key pages and HTML addresses name the actor or note that they belong to.
        && guess(case.scene.head.path.unwrap_or_default()).shape != Shape::Key
    {
        found.push("object-id-not-url", Warn, format!("the answer's id is {}", shown(id, 120)));
    }
}

fn webfinger(case: &Case<'_>, found: &mut Found) {
    if case.status != Some(200) || !case.scene.head.is_get() || case.scene.head.method == Some("HEAD") {
        return;
    }
    let media = case.scene.answer.media;
    // XRD is an older form that may be asked for.
    if !media.has(Media::JRD) && !media.has(Media::JSON) && !media.has(Media::XML) {
        let text = case.scene.answer.content_type.unwrap_or("none");
        found.push("webfinger-media-type", Warn, format!("answered as {}", shown(text, 80)));
    }
    let Some(node) = case.scene.answered else { return };
    let linked = node.links.iter().any(|l| l.rel == "self" && Media::parse(&l.r#type).has(Media::AS));
    if !linked && node.links.len() < 64 {
        found.push("webfinger-self-link", Error, "no link rel=self of an Activity Streams type");
    }
}

fn nodeinfo(case: &Case<'_>, found: &mut Found) {
    let Some(node) = case.scene.answered else { return };
    let mut wrong: Vec<&str> = Vec::new();
    if node.version.is_none() {
        wrong.push("no version");
    }
    if !node.has_protocols {
        wrong.push("no protocols");
    }
    match &node.software {
        None => wrong.push("no software"),
        Some((name, _)) => {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if name.is_empty() || !name.bytes().all(plain) {
                wrong.push("software.name is not of a-z, 0-9 and -");
            }
        }
    }
    if !wrong.is_empty() {
        found.push("nodeinfo-schema", Warn, wrong.join(", "));
    }
}
