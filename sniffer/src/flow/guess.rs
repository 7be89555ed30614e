//! Who is the client of a connection whose beginning was not seen: by the first bytes, else by the ports. A guess, and
//! told as one ([`crate::flow::Handshake::MidStream`]).

/// Whether the sender of a flow's first payload is its client.
pub(super) fn sender_is_client(payload: &[u8], source: u16, destination: u16) -> bool {
    payload_of_client(payload).unwrap_or_else(|| match (is_service(source), is_service(destination)) {
        (true, false) => false,
        (false, true) => true,
        // Ephemeral ports are the high ones (RFC 6335 §6; Linux takes them from 32768 on).
        _ => destination <= source,
    })
}

/// Ports on which fediverse servers and what they need listen.
const SERVICES: [u16; 12] = [80, 443, 3000, 3002, 4000, 5000, 5432, 6379, 8000, 8080, 8443, 9000];

fn is_service(port: u16) -> bool {
    port < 1024 || SERVICES.contains(&port)
}

/// What only one side of a protocol says first.
fn payload_of_client(payload: &[u8]) -> Option<bool> {
    if payload.starts_with(b"HTTP/1.") {
        return Some(false);
    }
    // A TLS handshake record with a ClientHello or a ServerHello (RFC 8446 §4, §5.1).
    if let [0x16, 3, _, _, _, hello @ (1 | 2), ..] = payload {
        return Some(*hello == 1);
    }
    if payload.starts_with(b"PRI * HTTP/2.0") {
        return Some(true);
    }
    // A method is a token (RFC 9110 §9.1); those in use are upper case. The target follows after one space.
    let space = payload.iter().take(20).position(|byte| *byte == b' ')?;
    let (method, target) = payload.split_at_checked(space)?;
    let looks = method.len() >= 3 && method.iter().all(|b| b.is_ascii_uppercase() || *b == b'-');
    let target_looks = matches!(target, [b' ', b'/' | b'*', ..]) || target.starts_with(b" http");
    (looks && target_looks).then_some(true)
}
