//! A request's signature as written: draft-cavage-http-signatures in `Signature` or `Authorization: Signature`, or
//! RFC 9421. It reads scheme, key, algorithm and what is covered, and names what is malformed. It verifies nothing.

use sfv::{BareItem, Dictionary, InnerList, ListEntry, Parser};

use super::head::Head;
use super::{Scheme, Signature, SignatureVerdict};

/// Longest list of covered components, and longest text of one, that is kept.
const COVERED: usize = 64;
const LONGEST: usize = 1024;

/// What a signature is like beside its contents: what the lints need.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Form {
    /// A header that cannot be read as a signature.
    pub(super) malformed: bool,
    /// Both `Signature` and `Authorization: Signature`.
    pub(super) two_carriers: bool,
    /// White space behind a comma of draft-cavage parameters.
    pub(super) whitespace: bool,
    /// A draft-cavage parameter twice.
    pub(super) duplicate: bool,
    /// `created` or `expires` in quotes.
    pub(super) quoted_time: bool,
    /// More than one RFC 9421 label.
    pub(super) labels: bool,
    /// RFC 9421 without `created`.
    pub(super) no_created: bool,
    /// A draft-cavage signature beside an RFC 9421 one.
    pub(super) both_schemes: bool,
}

/// Reads the signature of a request.
pub(super) fn read(head: &Head<'_>) -> (Signature, Form) {
    let mut form = Form::default();
    let in_authorization = head.authorization_signature();
    form.two_carriers = in_authorization.is_some() && !head.signature.is_empty();
    if !head.signature_input.is_empty() {
        return (rfc9421(head, &mut form), form);
    }
    if let Some(field) = head.signature.first() {
        return (cavage(field, &mut form), form);
    }
    if let Some(field) = in_authorization {
        return (cavage(field.as_bytes(), &mut form), form);
    }
    let (verdict, explanation) = if head.unsure {
        let why = "some header fields are unknown, so a signature may be among them";
        (SignatureVerdict::NotCheckable, Some(why.into()))
    } else {
        (SignatureVerdict::Unsigned, None)
    };
    (Signature { scheme: None, key_id: None, algorithm: None, covered: Vec::new(), verdict, explanation }, form)
}

fn unchecked(scheme: Scheme) -> Signature {
    Signature {
        scheme: Some(scheme),
        key_id: None,
        algorithm: None,
        covered: Vec::new(),
        verdict: SignatureVerdict::NotCheckable,
        explanation: Some("verdicts come with a later version".into()),
    }
}

fn malformed(scheme: Option<Scheme>, form: &mut Form, why: &str) -> Signature {
    form.malformed = true;
    Signature {
        scheme,
        key_id: None,
        algorithm: None,
        covered: Vec::new(),
        verdict: SignatureVerdict::NotCheckable,
        explanation: Some(why.into()),
    }
}

fn bounded(text: &str) -> Box<str> {
    let end = (0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().into()
}

/// `keyId="…",algorithm="…",headers="…",signature="…"` (draft-cavage-12 §4).
fn cavage(field: &[u8], form: &mut Form) -> Signature {
    let Ok(text) = std::str::from_utf8(field) else {
        return malformed(None, form, "the Signature header is not text");
    };
    let text = text.trim();
    // An old node-http-signature wrote the scheme's name into the header.
    let text = text.strip_prefix("Signature ").unwrap_or(text);
    let mut signature = unchecked(Scheme::Cavage);
    let (mut has_signature, mut covered) = (false, None);
    let mut seen: Vec<&str> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some((name, after)) = rest.split_once('=') else {
            return malformed(None, form, "the Signature header is not a list of name=\"value\"");
        };
        form.whitespace |= !seen.is_empty() && name.starts_with([' ', '\t']);
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return malformed(None, form, "the Signature header is not a list of name=\"value\"");
        }
        let (value, quoted, after) = match after.strip_prefix('"') {
            Some(inner) => {
                let Some((value, after)) = inner.split_once('"') else {
                    return malformed(Some(Scheme::Cavage), form, "a quote in the Signature header is not closed");
                };
                (value, true, after)
            }
            None => {
                let end = after.find(',').unwrap_or(after.len());
                let (value, after) = after.split_at_checked(end).unwrap_or((after, ""));
                (value.trim(), false, after)
            }
        };
        form.duplicate |= seen.contains(&name);
        if seen.len() >= 32 {
            return malformed(Some(Scheme::Cavage), form, "the Signature header has more than 32 parameters");
        }
        seen.push(name);
        match name {
            "keyId" => signature.key_id = Some(bounded(value)),
            "algorithm" => signature.algorithm = Some(bounded(value)),
            "headers" => covered = Some(value),
            "signature" => has_signature = !value.is_empty(),
            "created" | "expires" => form.quoted_time |= quoted,
            _ => {}
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next,
            None if after.is_empty() => "",
            None => {
                return malformed(Some(Scheme::Cavage), form, "something stands behind a value in the Signature header");
            }
        };
    }
    match (signature.key_id.is_some(), has_signature) {
        (true, true) => {}
        (false, false) => return malformed(None, form, "the Signature header has neither keyId nor signature"),
        (false, true) => return malformed(Some(Scheme::Cavage), form, "the Signature header has no keyId"),
        (true, false) => {
            form.malformed = true;
            signature.explanation = Some("the Signature header has no signature parameter".into());
        }
    }
    signature.covered = match covered {
        Some(list) => list.split_ascii_whitespace().take(COVERED).map(|c| bounded(&c.to_ascii_lowercase())).collect(),
        // What draft-cavage-12 §2.1.6 says is covered by default; older drafts and verifiers say `date`.
        None if signature.algorithm.as_deref() == Some("hs2019") => vec!["(created)".into()],
        None => vec!["date".into()],
    };
    signature
}

/// `Signature-Input: label=("@method" …);created=…;keyid="…"` with `Signature: label=:…:` (RFC 9421 §4).
fn rfc9421(head: &Head<'_>, form: &mut Form) -> Signature {
    let joined = |fields: &[&[u8]]| fields.join(&b", "[..]);
    let Ok(inputs) = Parser::new(&joined(&head.signature_input)).parse::<Dictionary>() else {
        return malformed(Some(Scheme::Rfc9421), form, "Signature-Input is not a dictionary (RFC 9421 §4.1)");
    };
    // Both schemes share the name of the header `Signature`: fields that are no dictionary belong to the other one.
    let mut labels: Vec<String> = Vec::new();
    for field in &head.signature {
        match Parser::new(*field).parse::<Dictionary>() {
            Ok(signatures) => labels.extend(signatures.keys().take(16).map(|label| label.as_str().to_owned())),
            Err(_) => form.both_schemes = true,
        }
    }
    form.labels = inputs.len() > 1;
    let chosen = inputs
        .iter()
        .find(|(label, _)| labels.iter().any(|l| l == label.as_str()))
        .or_else(|| inputs.iter().next());
    let Some((label, ListEntry::InnerList(list))) = chosen else {
        return malformed(Some(Scheme::Rfc9421), form, "Signature-Input has no list of covered components");
    };
    let mut signature = unchecked(Scheme::Rfc9421);
    signature.covered = list.items.iter().take(COVERED).filter_map(component).collect();
    let text = |name: &str| parameter(list, name).and_then(|item| item.as_string().map(|s| bounded(s.as_str())));
    signature.key_id = text("keyid");
    signature.algorithm = text("alg");
    form.no_created = parameter(list, "created").is_none();
    if !labels.iter().any(|l| l == label.as_str()) {
        form.malformed = true;
        let why = format!("Signature-Input names {}, but Signature has no such label", label.as_str());
        signature.explanation = Some(bounded(&why));
    }
    signature
}

fn parameter<'a>(list: &'a InnerList, name: &str) -> Option<&'a BareItem> {
    list.params.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
}

/// A covered component: its name, and its parameters as written (RFC 9421 §2).
fn component(item: &sfv::Item) -> Option<Box<str>> {
    let name = item.bare_item.as_string()?.as_str();
    if item.params.is_empty() {
        return Some(bounded(name));
    }
    let mut text = name.to_owned();
    for (key, value) in item.params.iter().take(4) {
        text.push(';');
        text.push_str(key.as_str());
        if let Some(value) = value.as_string() {
            text.push_str("=\"");
            text.push_str(value.as_str());
            text.push('"');
        }
    }
    Some(bounded(&text))
}
