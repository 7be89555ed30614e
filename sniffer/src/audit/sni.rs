//! The server's name in a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3).

/// The name that a ClientHello asks for; `None` where these octets do not begin with one, or it names none.
pub(super) fn name(bytes: &[u8]) -> Option<Box<str>> {
    // A handshake record that holds a ClientHello; the name must lie in the first record.
    let [22, 3, _, _, _, 1, _, _, _, _, _, rest @ ..] = bytes else { return None };
    let rest = rest.get(32..)?;
    let rest = behind(rest, 1)?;
    let rest = behind(rest, 2)?;
    let rest = behind(rest, 1)?;
    let mut extensions = rest.get(2..)?;
    while let [k0, k1, l0, l1, after @ ..] = extensions {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        if (*k0, *k1) == (0, 0) {
            // A list of names, of which type 0, the host's, is the only one defined.
            let [_, _, 0, n0, n1, text @ ..] = after.get(..length.min(after.len()))? else { return None };
            let text = text.get(..usize::from(u16::from_be_bytes([*n0, *n1])))?;
            let fine = !text.is_empty() && text.len() <= 255 && text.iter().all(u8::is_ascii_graphic);
            return fine.then(|| text.iter().map(|b| char::from(b.to_ascii_lowercase())).collect::<String>().into());
        }
        extensions = after.get(length..)?;
    }
    None
}

/// What follows a vector whose length takes `octets` octets.
fn behind(bytes: &[u8], octets: usize) -> Option<&[u8]> {
    let length = bytes.get(..octets)?.iter().fold(0_usize, |length, b| length << 8 | usize::from(*b));
    bytes.get(octets.checked_add(length)?..)
}
