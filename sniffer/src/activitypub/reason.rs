//! Why an exchange went wrong, in two to four words, where the exchange (with what was learnt) proves it: by the text
//! of the refusal (`facts/activitypub-wire.md` §3.7), the status, or the request itself.

use super::lints::{SKEW_REFUSED, date_off};
use super::sentence::Outcome;
use super::signature::Form;
use super::{Digest, Kind, Lint, Scene, Scheme, Signature, fetch};
use crate::activitypub::learn::{Learnt, Url};
use crate::http::Body;

/// Every reason, in English and Japanese. `{status}` stands for a status code.
pub const REASONS: &[(&str, &str)] = &[
    ("RFC 9421 refused", "RFC 9421 が拒否"),
    ("algorithm refused", "アルゴリズムが拒否"),
    ("body ≠ digest", "本文とダイジェストが不一致"),
    ("covers too little", "署名の範囲が不足"),
    ("Date off", "Date のずれ"),
    ("digest refused", "ダイジェストが拒否"),
    ("domain blocked", "ドメインブロック"),
    ("given up", "断念"),
    ("gone", "削除済み"),
    ("key answers {status}", "公開鍵の応答が {status}"),
    ("key not fetched", "公開鍵を取得できず"),
    ("key not found", "公開鍵が見つからず"),
    ("method not allowed", "メソッド不可"),
    ("no User-Agent", "User-Agent なし"),
    ("no answer", "応答なし"),
    ("not acceptable", "形式が合わず"),
    ("not found", "見つからず"),
    ("not signed", "署名なし"),
    ("rate limited", "回数制限"),
    ("redirected", "転送"),
    ("refused", "拒否"),
    ("rejected", "受け付けられず"),
    ("server error", "サーバーエラー"),
    ("signature refused", "署名が拒否"),
    ("signature unreadable", "署名が読めず"),
    ("signer ≠ actor", "署名者とアクターが不一致"),
    ("timed out", "時間切れ"),
    ("too large", "大きすぎ"),
    ("WebFinger mismatch", "WebFinger の不一致"),
    ("wrong media type", "メディアタイプ違い"),
];

/// Octets of a refusal's text that are searched.
const TEXT: usize = 4096;

/// What the reason is drawn from.
pub(super) struct Case<'a> {
    pub(super) kind: Kind,
    pub(super) scene: &'a Scene<'a>,
    pub(super) status: Option<u16>,
    pub(super) signature: &'a Signature,
    pub(super) form: Form,
    pub(super) digest: Digest,
    pub(super) lints: &'a [Lint],
    /// The body of the answer.
    pub(super) answer: Option<&'a Body>,
}

/// Finds it. `None` where nothing went wrong, or nothing proves why.
pub(super) fn find(case: &Case<'_>, learnt: &mut Learnt) -> Option<Box<str>> {
    let head = case.scene.head;
    let signing = matches!(
        case.kind,
        Kind::InboxDelivery
            | Kind::Actor
            | Kind::Key
            | Kind::Object
            | Kind::Collection
            | Kind::FollowersSynchronization
    );
    let refused = case.status.is_some_and(|s| s >= 400);
    if signing {
        if case.digest == Digest::Mismatch {
            return Some("body ≠ digest".into());
        }
        if refused && let Some(reason) = by_text(case) {
            return Some(reason.into());
        }
        if refused && let Some(status) = key_failure(case.signature, learnt) {
            return Some(format!("key answers {status}").into());
        }
        if case.form.malformed && !case.form.both_schemes {
            return Some("signature unreadable".into());
        }
        if !head.signed() && !head.unsure && case.status == Some(401) {
            return Some("not signed".into());
        }
        // What a strict server refuses is said even where a lax one took it.
        if case.lints.iter().any(|lint| &*lint.id == "sig-covers-too-little") && case.kind == Kind::InboxDelivery {
            return Some("covers too little".into());
        }
        let off = head.date.filter(|_| head.signed()).and_then(|date| date_off(case.scene.exchange.started, date));
        if off.is_some_and(|off| off > SKEW_REFUSED) {
            return Some("Date off".into());
        }
        if refused && says_nothing_more(case) {
            return Some(if head.signed() { "signature refused" } else { "not signed" }.into());
        }
    }
    let reason = match fetch::outcome(case.scene.exchange) {
        Outcome::Fine | Outcome::Unseen => return None,
        Outcome::Elsewhere if case.kind == Kind::InboxDelivery => "redirected",
        Outcome::Elsewhere => return None,
        Outcome::Refused => "refused",
        Outcome::Absent => "not found",
        Outcome::Gone => "gone",
        Outcome::Limited => "rate limited",
        Outcome::Failed => "server error",
        Outcome::Unanswered => "no answer",
        Outcome::Abandoned => "given up",
        Outcome::Rejected => match case.status {
            Some(405) => "method not allowed",
            Some(406) => "not acceptable",
            Some(408) => "timed out",
            Some(413) => "too large",
            Some(415) => "wrong media type",
            _ => "rejected",
        },
    };
    Some(reason.into())
}

/// What the text of a refusal names.
fn by_text(case: &Case<'_>) -> Option<&'static str> {
    let body = case.answer?;
    let bytes = body.bytes.get(..body.bytes.len().min(TEXT)).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    let says = |part: &str| text.contains(part);
    let new_scheme = case.signature.scheme == Some(Scheme::Rfc9421);
    let signed = case.scene.head.signed();
    // GoToSocial answers so to what it does not see as signed: RFC 9421 is unknown to it.
    if says("wasn't signed or http signature was invalid") || says("wasn\\u0027t signed or http signature") {
        return Some(match (new_scheme, signed) {
            (true, _) => "RFC 9421 refused",
            (false, true) => "signature refused",
            (false, false) => "not signed",
        });
    }
    if says("Error parsing signature") {
        return Some(if new_scheme { "RFC 9421 refused" } else { "signature unreadable" });
    }
    if says("Public key not found for key") {
        return Some(if case.status == Some(403) { "domain blocked" } else { "key not found" });
    }
    let table: &[(&[&str], &str)] = &[
        (&["Request not signed", "missing HTTP Signature"], "not signed"),
        (&["outside acceptable time window", "Invalid Date header"], "Date off"),
        (&["Unsupported signature algorithm"], "algorithm refused"),
        (&["pseudo-header to be signed", "header to be signed", "components to be signed", "parameter to be signed"], "covers too little"),
        (&["Invalid Digest value", "invalid digest", "Invalid digest", "Digest header missing"], "digest refused"),
        (&["Content-Digest could not be parsed", "only supports SHA-256"], "digest refused"),
        (&["The signer and the actor do not match"], "signer ≠ actor"),
        (&["Unable to fetch key", "Unable to fetch actor", "Failed to fetch remote data", "Could not refresh public key", "Fetching attempt skipped"], "key not fetched"),
        (&["does not loop back", "Webfinger error"], "WebFinger mismatch"),
        (&["no user-agent sent"], "no User-Agent"),
        (&["Forbidden: blocked"], "domain blocked"),
        (&["Verification failed for", "authentication NOT PASSED", "invalid signature", "Invalid HTTP Signature", "Invalid signature", "Signature could not be verified", "signature could not be checked"], "signature refused"),
    ];
    if let Some((_, reason)) = table.iter().find(|(parts, _)| parts.iter().any(|part| says(part))) {
        return Some(reason);
    }
    // GoToSocial's middleware answers a bare 403 to signers of blocked domains, and to nothing else.
    let gotosocial = case.scene.answer.server.is_some_and(|s| s.eq_ignore_ascii_case("gotosocial"));
    (gotosocial && case.status == Some(403) && body.size == 0 && body.complete && signed).then_some("domain blocked")
}

/// Fedify says the same of a missing signature and of whatever is wrong with one.
fn says_nothing_more(case: &Case<'_>) -> bool {
    let text = b"Failed to verify the request signature";
    case.answer.is_some_and(|body| body.bytes.starts_with(text))
}

/// The status that the signature's key answered when it was last fetched, where that was a failure.
fn key_failure(signature: &Signature, learnt: &mut Learnt) -> Option<u16> {
    let url = Url::parse(signature.key_id.as_deref()?)?;
    learnt.failure(&url.key())
}
