//! Takes secrets out of what is shown or exported: credentials in header fields, targets and bodies become `••••`.
//! It works on text, also on text that was cut off, keeps everything else as it was, and takes linear time. Key
//! material that is public by design (signatures, key ids, `publicKeyPem`) stays.

use std::borrow::Cow;

use crate::activitypub::Slot;
use crate::http::{Exchange, Headers, Message};

/// What stands where a secret was.
pub const MASK: &str = "••••";

/// Names, in lower case, whose value is a secret in a query, a form, a multipart form or JSON.
const SECRET_NAMES: &[&str] = &[
    "access_token",
    "api_key",
    "apikey",
    "assertion",
    "auth_token",
    "authenticity_token",
    "authorization",
    "client_secret",
    "code_verifier",
    "confirm_password",
    "csrf_token",
    "current_password",
    "id_token",
    "new_password",
    "otp",
    "otp_attempt",
    "otp_code",
    "passphrase",
    "passwd",
    "password",
    "password_confirmation",
    "privatekeypem",
    "private_key",
    "refresh_token",
    "secret",
    "session_token",
    "setuppassword",
    "token",
    "totp",
    "user[password]",
    "user[otp_attempt]",
    "vapid_private_key",
    "webhook_secret",
    // Misskey's access token travels as `i` in JSON bodies and in the query of its streaming API.
    "i",
];

/// Secret only in a query or a form: OAuth's authorization code is one, JSON's `code` is an error code.
const SECRET_IN_QUERY: &[&str] = &["code", "sig", "signature", "x-amz-signature"];

fn is_secret(name: &str) -> bool {
    SECRET_NAMES.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

fn is_secret_in_query(name: &str) -> bool {
    is_secret(name) || SECRET_IN_QUERY.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

/// Masks the secrets of an exchange outside its bodies: header fields, targets, and what was said over a WebSocket.
/// Sizes and hashes stay as they were.
pub fn exchange(exchange: &mut Exchange) {
    if let Some(request) = &mut exchange.request {
        if let Some(target) = &mut request.target {
            text(target);
        }
        message(&mut request.message);
    }
    if let Some(response) = &mut exchange.response {
        message(&mut response.message);
    }
    for interim in &mut exchange.interim {
        interim.headers = headers(&interim.headers);
    }
    for said in exchange.websocket.iter_mut().flat_map(|websocket| &mut websocket.messages) {
        // Streaming APIs speak JSON, whatever the message's type.
        said.bytes = body(Some("application/json"), &said.bytes).into_owned();
    }
}

/// Masks the slots of a sentence; true when something was.
pub fn slots(slots: &mut [Slot]) -> bool {
    slots.iter_mut().fold(false, |masked, (_, value)| text(value) || masked)
}

/// Masks a target or URL in place; true when something was.
pub fn text(value: &mut Box<str>) -> bool {
    let shown = target(value);
    if *shown == **value {
        return false;
    }
    *value = shown.into();
    true
}

/// The kept octets of a message's body as they may be shown.
pub fn message_body(message: &Message) -> Cow<'_, [u8]> {
    body(message.headers.text("content-type"), &message.body.bytes)
}

fn message(message: &mut Message) {
    message.headers = headers(&message.headers);
    message.trailers = headers(&message.trailers);
}

fn headers(fields: &Headers) -> Headers {
    let mut shown = Headers::with_capacity(fields.len(), 0);
    for (name, value) in fields.iter() {
        // A value that is not UTF-8 has no secret that could be told from the rest.
        let masked = name
            .zip(value.and_then(|value| std::str::from_utf8(value).ok()))
            .map(|(name, value)| header(&String::from_utf8_lossy(name), value).into_owned());
        shown.push(name, masked.as_deref().map(str::as_bytes).or(value));
    }
    shown
}

/// The value of a header field as it may be shown.
pub fn header<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    let named = |other: &str| name.eq_ignore_ascii_case(other);
    if named("authorization") || named("proxy-authorization") {
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        // draft-cavage §3: a signature is no secret. The scheme alone tells what kind of secret it was.
        return match (scheme.eq_ignore_ascii_case("signature"), rest.is_empty()) {
            (true, _) => Cow::Borrowed(value),
            (false, true) => Cow::Borrowed(MASK),
            (false, false) => Cow::Owned(format!("{scheme} {MASK}")),
        };
    }
    if named("cookie") {
        return Cow::Owned(value.split(';').map(|pair| mask_pair(pair, '=')).collect::<Vec<_>>().join(";"));
    }
    if named("set-cookie") {
        let (pair, attributes) = value.find(';').and_then(|at| value.split_at_checked(at)).unwrap_or((value, ""));
        return Cow::Owned(format!("{}{attributes}", mask_pair(pair, '=')));
    }
    if ["x-api-key", "x-auth-token", "x-csrf-token", "x-xsrf-token"].into_iter().any(named) {
        return Cow::Borrowed(MASK);
    }
    if named("sec-websocket-protocol") {
        // Mastodon's streaming takes the access token as a subprotocol name; registered names are short words.
        let token = |word: &str| word.len() >= 20 && word.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
        if value.split(',').any(|word| token(word.trim())) {
            let shown = value.split(',').map(|word| if token(word.trim()) { MASK } else { word.trim() });
            return Cow::Owned(shown.collect::<Vec<_>>().join(", "));
        }
    }
    if ["location", "content-location", "referer", "link"].into_iter().any(named) {
        return target(value);
    }
    Cow::Borrowed(value)
}

fn mask_pair(pair: &str, sign: char) -> String {
    match pair.split_once(sign) {
        Some((name, _)) => format!("{name}{sign}{MASK}"),
        None => pair.to_owned(),
    }
}

/// A request target, or a URL, as it may be shown: secrets in the query and the fragment are masked, and so is the user
/// information of an absolute URL.
pub fn target(target: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(target);
    if let Some((scheme, rest)) = target.split_once("://") {
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        if let Some((authority, tail)) = rest.split_at_checked(authority_end)
            && let Some((_, host)) = authority.rsplit_once('@')
        {
            out = Cow::Owned(format!("{scheme}://{MASK}@{host}{tail}"));
        }
    }
    let Some(start) = out.find('?') else { return out };
    let Some((path, query)) = out.split_at_checked(start) else { return out };
    match form_pairs(query.strip_prefix('?').unwrap_or(query)) {
        Some(masked) => Cow::Owned(format!("{path}?{masked}")),
        None => out,
    }
}

/// `a=1&token=x` with the values of secret names masked; `None` when there is none.
fn form_pairs(text: &str) -> Option<String> {
    let secret = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        pair.contains('=') && is_secret_in_query(&name)
    };
    if !text.split('&').any(secret) {
        return None;
    }
    let shown = text.split('&').map(|pair| if secret(pair) { mask_pair(pair, '=') } else { pair.to_owned() });
    Some(shown.collect::<Vec<_>>().join("&"))
}

/// A body as it may be shown, by its media type. Bodies that are neither JSON, a form nor a multipart form are given
/// back as they are.
pub fn body<'a>(content_type: Option<&str>, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    let full = content_type.unwrap_or_default();
    let media = full.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media == "application/x-www-form-urlencoded" {
        return match std::str::from_utf8(bytes).ok().and_then(form_pairs) {
            Some(masked) => Cow::Owned(masked.into_bytes()),
            None => Cow::Borrowed(bytes),
        };
    }
    if media == "multipart/form-data" {
        return multipart(full, bytes);
    }
    // Media types lie; what begins like JSON is treated as JSON.
    let begins = bytes.iter().find(|b| !b.is_ascii_whitespace());
    if media.ends_with("json") || matches!(begins, Some(b'{' | b'[')) {
        return json(bytes);
    }
    Cow::Borrowed(bytes)
}

/// JSON text, whole or cut off, with the scalar values of secret names masked.
fn json(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::new();
    let mut copied = 0_usize;
    let mut at = 0_usize;
    while let Some(quote) = memchr::memchr(b'"', bytes.get(at..).unwrap_or_default()) {
        let start = at.saturating_add(quote).saturating_add(1);
        let end = string_end(bytes, start);
        let name = bytes.get(start..end).unwrap_or_default();
        at = end.saturating_add(1);
        let colon = skip_space(bytes, at);
        if bytes.get(colon) != Some(&b':') {
            continue;
        }
        // Short: no secret's name is longer, and a name may be as long as the body.
        let secret = name.len() <= 40 && std::str::from_utf8(name).is_ok_and(is_secret);
        let value = skip_space(bytes, colon.saturating_add(1));
        at = value;
        if !secret {
            continue;
        }
        let value_end = match bytes.get(value) {
            Some(b'"') => string_end(bytes, value.saturating_add(1)).saturating_add(1).min(bytes.len()),
            Some(b'0'..=b'9' | b'-') => {
                let rest = bytes.get(value..).unwrap_or_default();
                let length = rest.iter().position(|b| matches!(b, b',' | b'}' | b']') || b.is_ascii_whitespace());
                value.saturating_add(length.unwrap_or(rest.len()))
            }
            _ => continue,
        };
        out.extend_from_slice(bytes.get(copied..value).unwrap_or_default());
        out.extend_from_slice(b"\"");
        out.extend_from_slice(MASK.as_bytes());
        out.extend_from_slice(b"\"");
        copied = value_end;
        at = value_end;
    }
    if copied == 0 {
        return Cow::Borrowed(bytes);
    }
    out.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// Where the string that began before `at` ends: its closing quote, or the end of a text that was cut off.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        let place = at.saturating_add(found);
        if bytes.get(place) == Some(&b'"') {
            return place;
        }
        at = place.saturating_add(2);
    }
    bytes.len()
}

fn skip_space(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at.saturating_add(rest.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(rest.len()))
}

/// A multipart form (RFC 7578) with the content of secret fields masked; files stay.
fn multipart<'a>(content_type: &str, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    let Some(boundary) = content_type.split(';').skip(1).find_map(|p| p.trim().strip_prefix("boundary=")) else {
        return Cow::Borrowed(bytes);
    };
    let delimiter = format!("--{}", boundary.trim_matches('"'));
    let mut out = Vec::new();
    let mut copied = 0_usize;
    let mut starts = memchr::memmem::find_iter(bytes, delimiter.as_bytes()).peekable();
    while let Some(start) = starts.next() {
        let end = starts.peek().copied().unwrap_or(bytes.len());
        let part = bytes.get(start..end).unwrap_or_default();
        // A head longer than this is not one that a form has; do not search a whole file for its end.
        let head_room = part.get(..part.len().min(4_096)).unwrap_or_default();
        let Some(head_length) = memchr::memmem::find(head_room, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(part.get(..head_length).unwrap_or_default());
        let name = head.split(';').find_map(|p| p.trim().strip_prefix("name=")).unwrap_or_default();
        let name = name.split('\r').next().unwrap_or_default().trim_matches('"');
        if !is_secret_in_query(name) {
            continue;
        }
        let content = start.saturating_add(head_length).saturating_add(4);
        let content_end = if bytes.get(end.saturating_sub(2)..end) == Some(b"\r\n") { end.saturating_sub(2) } else { end };
        out.extend_from_slice(bytes.get(copied..content).unwrap_or_default());
        out.extend_from_slice(MASK.as_bytes());
        copied = content_end.max(content);
    }
    if copied == 0 {
        return Cow::Borrowed(bytes);
    }
    out.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_fields_lose_their_secrets_and_keep_the_rest() {
        let cases = [
            ("Authorization", "Bearer abc", "Bearer ••••"),
            ("authorization", "Basic dTpw", "Basic ••••"),
            ("Authorization", "opaque", "••••"),
            ("Authorization", "Signature keyId=\"k\",signature=\"s\"", "Signature keyId=\"k\",signature=\"s\""),
            ("Cookie", "_session=abc; theme=dark", "_session=••••; theme=••••"),
            ("Set-Cookie", "_session=abc; Path=/; HttpOnly", "_session=••••; Path=/; HttpOnly"),
            ("Signature", "keyId=\"k\"", "keyId=\"k\""),
            ("Sec-WebSocket-Protocol", "NGQ2ZTQ4MZCTNJQ5ZS0ZYTJL", "••••"),
            ("Sec-WebSocket-Protocol", "graphql-transport-ws", "graphql-transport-ws"),
            ("Location", "/cb?code=abc&state=1", "/cb?code=••••&state=1"),
            ("Accept", "application/activity+json", "application/activity+json"),
        ];
        for (name, value, want) in cases {
            assert_eq!(header(name, value), want, "{name}: {value}");
        }
    }

    #[test]
    fn targets_lose_tokens_and_user_information() {
        let cases = [
            ("/api/v1/streaming?access_token=abc&stream=user", "/api/v1/streaming?access_token=••••&stream=user"),
            ("/streaming?i=abc", "/streaming?i=••••"),
            ("/x?access%5Ftoken=abc", "/x?access%5Ftoken=••••"),
            ("/.well-known/webfinger?resource=acct:a@b", "/.well-known/webfinger?resource=acct:a@b"),
            ("https://u:p@h/x?token=1", "https://••••@h/x?token=••••"),
            ("/users/alice", "/users/alice"),
            ("*", "*"),
        ];
        for (given, want) in cases {
            assert_eq!(target(given), want);
        }
    }

    #[test]
    fn bodies_lose_secrets_also_when_they_are_cut_off() {
        let json = Some("application/json");
        let cases = [
            (json, r#"{"password": "a\"b", "x":1}"#, r#"{"password": "••••", "x":1}"#),
            (json, r#"{"access_token":"abc"#, r#"{"access_token":"••••""#),
            (json, r#"{"otp": 123456}"#, r#"{"otp": "••••"}"#),
            (json, r#"{"publicKeyPem":"-----BEGIN"}"#, r#"{"publicKeyPem":"-----BEGIN"}"#),
            (json, r#"{"token":{"a":"b"}}"#, r#"{"token":{"a":"b"}}"#),
            (json, r#"["password","x"]"#, r#"["password","x"]"#),
            (None, r#" {"i":"abc"}"#, r#" {"i":"••••"}"#),
            (Some("application/x-www-form-urlencoded"), "username=a&password=b", "username=a&password=••••"),
            (Some("text/plain"), "password=b", "password=b"),
        ];
        for (kind, given, want) in cases {
            assert_eq!(String::from_utf8_lossy(&body(kind, given.as_bytes())), want);
        }
        let form = "--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nsecret\r\n--b\r\n\
                    Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nkept\r\n--b--\r\n";
        let shown = body(Some("multipart/form-data; boundary=b"), form.as_bytes()).into_owned();
        assert_eq!(String::from_utf8_lossy(&shown), form.replace("secret", MASK));
    }

    proptest! {
        #[test]
        fn nothing_that_is_not_secret_changes(text in "[a-z0-9{}:,\\[\\] ]{0,80}") {
            prop_assert_eq!(&*body(Some("application/json"), text.as_bytes()), text.as_bytes());
            prop_assert_eq!(&*header("Accept", &text), &text);
        }

        #[test]
        fn no_bytes_make_it_panic(kind in 0..4_usize, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let kinds = [None, Some("application/json"), Some("multipart/form-data; boundary=b"),
                Some("application/x-www-form-urlencoded")];
            let _ = body(kinds[kind], &bytes);
            let _ = target(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn a_value_under_a_secret_name_never_remains(value in "[A-Za-z0-9]{8,20}", cut in 0..10_usize) {
            let text = format!(r#"{{"a":"b","access_token":"{value}"}}"#);
            let cut = &text.as_bytes()[..text.len().saturating_sub(cut.min(3))];
            let shown = body(Some("application/json"), cut).into_owned();
            prop_assert!(!String::from_utf8_lossy(&shown).contains(&value));
        }
    }
}
