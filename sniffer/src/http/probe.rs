//! What a flow speaks when its first bytes are no HTTP/1 message: a name for the counters, or what must be looked at
//! further. Bytes in, a word out; it keeps nothing and is only asked at the beginning of a flow or of a segment.

use super::OtherProtocol;
use crate::flow::Direction;

/// The client's connection preface (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The signature of the PROXY protocol's binary form (haproxy's proxy-protocol.txt §2.2).
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest text form: 107 octets (the same document, §2.1).
const PROXY_V1_LIMIT: usize = 107;

/// What a prefix of a stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prefix {
    /// All of it: that many octets.
    Whole(usize),
    /// It may be, and more is needed.
    Partial,
    /// It is not.
    No,
}

/// HTTP/2's preface.
pub(super) fn preface(bytes: &[u8]) -> Prefix {
    literal(bytes, PREFACE)
}

/// A PROXY protocol header, as load balancers put in front of what they forward.
pub(super) fn proxy_header(bytes: &[u8]) -> Prefix {
    match (literal(bytes, PROXY_V2), literal(bytes, b"PROXY ")) {
        (Prefix::Whole(_), _) => match bytes.get(14..16) {
            Some(length) => {
                let length = length.iter().fold(0_usize, |sum, octet| (sum << 8) | usize::from(*octet));
                let whole = length.saturating_add(16);
                if bytes.len() >= whole { Prefix::Whole(whole) } else { Prefix::Partial }
            }
            None => Prefix::Partial,
        },
        (_, Prefix::Whole(_)) => {
            let looked = bytes.get(..PROXY_V1_LIMIT.min(bytes.len())).unwrap_or_default();
            match memchr::memchr(b'\n', looked) {
                Some(end) => Prefix::Whole(end.saturating_add(1)),
                None if bytes.len() < PROXY_V1_LIMIT => Prefix::Partial,
                None => Prefix::No,
            }
        }
        (Prefix::Partial, _) | (_, Prefix::Partial) => Prefix::Partial,
        _ => Prefix::No,
    }
}

fn literal(bytes: &[u8], wanted: &[u8]) -> Prefix {
    let known = bytes.len().min(wanted.len());
    match bytes.get(..known) == wanted.get(..known) {
        true if bytes.len() >= wanted.len() => Prefix::Whole(wanted.len()),
        true => Prefix::Partial,
        false => Prefix::No,
    }
}

/// TLS records (RFC 8446 §5.1) at the beginning of `bytes`: every record header that is there must be one.
pub(super) fn tls(mut bytes: &[u8]) -> bool {
    let mut seen = false;
    while let [kind, 3, minor, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // 2^14 octets of content and 2,048 of expansion in TLS 1.2 (RFC 5246 §6.2.3).
        if !(20..=24).contains(kind) || *minor > 4 || length == 0 || length > (1 << 14) + 2048 {
            return false;
        }
        seen = true;
        match rest.get(length..) {
            Some(next) => bytes = next,
            None => return true,
        }
    }
    seen && (bytes.is_empty() || (20..=24).contains(bytes.first().unwrap_or(&0)))
}

/// The name of what is not HTTP, by a direction's first bytes.
pub(super) fn other(direction: Direction, bytes: &[u8]) -> OtherProtocol {
    let to_server = direction == Direction::ToServer;
    if tls(bytes) {
        OtherProtocol::Tls
    } else if bytes.starts_with(b"SSH-") {
        OtherProtocol::Ssh
    } else if to_server && postgres(bytes) {
        OtherProtocol::Postgres
    } else if to_server && redis(bytes) {
        OtherProtocol::Redis
    } else if dns(bytes) {
        OtherProtocol::Dns
    } else {
        OtherProtocol::Unknown
    }
}

/// StartupMessage, SSLRequest, GSSENCRequest or CancelRequest (PostgreSQL's "Message Formats").
fn postgres(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return false };
    let Some(code) = rest.first_chunk::<4>() else { return false };
    let (length, code) = (u32::from_be_bytes(*length), u32::from_be_bytes(*code));
    (8..=10_000).contains(&length) && (code >> 16 == 3 || (80_877_102..=80_877_104).contains(&code))
}

/// An array of bulk strings, as every Redis client sends: `*2\r\n$4\r\n`.
fn redis(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"*") else { return false };
    let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
    (1..=7).contains(&digits) && rest.get(digits..).is_some_and(|rest| rest.starts_with(b"\r\n$"))
}

/// Two octets of length, then a DNS header (RFC 7766 §8, RFC 1035 §4.1.1) of a query or answer with one question.
fn dns(bytes: &[u8]) -> bool {
    let [high, low, _, _, _, flags, 0, 1, rest @ ..] = bytes else { return false };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    (17..=bytes.len().saturating_sub(2)).contains(&length) && flags & 0x40 == 0 && rest.len() >= 6
}
