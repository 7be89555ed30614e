//! Whether a request's body is what its digest fields say: `Digest` (RFC 3230), `Content-Digest` and `Repr-Digest`
//! (RFC 9530). The digest covers the content before content codings are removed, after the transfer coding was.

use base64::Engine as _;
use sfv::{BareItem, Dictionary, ListEntry, Parser};
use sha2::{Digest as _, Sha256, Sha512};

use super::Digest;
use super::head::{Head, whole};
use crate::http::Body;

/// One digest of one field.
struct Claim {
    /// Lower case: `sha-256`.
    algorithm: String,
    /// `None` if it is not base64.
    value: Option<Vec<u8>>,
}

/// What the digest fields of a request amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Checked {
    pub(super) digest: Digest,
    /// `Content-Digest` or `Repr-Digest` is no dictionary of byte sequences.
    pub(super) bad_syntax: bool,
    /// None of the members is SHA-256.
    pub(super) no_sha256: bool,
}

/// Checks all digest fields.
pub(super) fn check(head: &Head<'_>, body: &Body) -> Checked {
    let mut claims = Vec::new();
    let mut checked = Checked { digest: Digest::NotCheckable, bad_syntax: false, no_sha256: false };
    if let Some(field) = head.digest {
        old_style(field, &mut claims);
    }
    for field in [head.content_digest, head.repr_digest].into_iter().flatten() {
        checked.bad_syntax |= !structured(field, &mut claims);
    }
    let present = head.digest.is_some() || head.content_digest.is_some() || head.repr_digest.is_some();
    if !present {
        checked.digest = if head.unsure { Digest::NotCheckable } else { Digest::Absent };
        return checked;
    }
    checked.no_sha256 = !claims.iter().any(|claim| claim.algorithm == "sha-256");
    let verdicts: Vec<Option<bool>> = claims.iter().map(|claim| verdict(claim, body)).collect();
    checked.digest = if verdicts.contains(&Some(false)) {
        Digest::Mismatch
    } else if verdicts.contains(&Some(true)) {
        Digest::Match
    } else {
        Digest::NotCheckable
    };
    checked
}

/// Whether the claim is true; `None` if that cannot be said.
fn verdict(claim: &Claim, body: &Body) -> Option<bool> {
    let computed: Vec<u8> = match claim.algorithm.as_str() {
        "sha-256" => match body.coded_sha256 {
            Some(hash) => hash.to_vec(),
            None if body.complete && body.coded_size == 0 => Sha256::digest([]).to_vec(),
            None => Sha256::digest(plain(body)?).to_vec(),
        },
        "sha-512" if body.complete && body.coded_size == 0 => Sha512::digest([]).to_vec(),
        "sha-512" => Sha512::digest(plain(body)?).to_vec(),
        _ => return None,
    };
    Some(claim.value.as_ref() == Some(&computed))
}

/// The body, where what was kept is all of it and no content coding was removed.
fn plain(body: &Body) -> Option<&[u8]> {
    if body.encoding.is_none() { whole(body) } else { None }
}

/// `SHA-256=…,SHA-512=…` (RFC 3230 §4.3.2): algorithms in any case.
fn old_style(field: &[u8], claims: &mut Vec<Claim>) {
    for member in field.split(|b| *b == b',').take(16) {
        let Ok(member) = std::str::from_utf8(member) else { continue };
        let Some((algorithm, value)) = member.split_once('=') else { continue };
        claims.push(Claim {
            algorithm: algorithm.trim().to_ascii_lowercase(),
            value: base64::engine::general_purpose::STANDARD.decode(value.trim()).ok(),
        });
    }
}

/// A dictionary of byte sequences (RFC 9530 §2). False if it is none.
fn structured(field: &[u8], claims: &mut Vec<Claim>) -> bool {
    let Ok(members) = Parser::new(field).parse::<Dictionary>() else { return false };
    let mut good = !members.is_empty();
    for (name, member) in members.iter().take(16) {
        match member {
            ListEntry::Item(item) => match &item.bare_item {
                BareItem::ByteSequence(bytes) => {
                    claims.push(Claim { algorithm: name.as_str().to_owned(), value: Some(bytes.clone()) });
                }
                _ => good = false,
            },
            ListEntry::InnerList(_) => good = false,
        }
    }
    good
}
