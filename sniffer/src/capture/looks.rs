//! What a file that is no capture seems to be, from its first bytes, and what its owner can do about it.

/// How many bytes are enough to tell.
pub(super) const ENOUGH: usize = 1024;

/// A guess, for an error message only.
pub(super) struct Looks {
    pub(super) like: String,
    pub(super) help: &'static str,
}

const GIVE: &str = "give a pcap or pcapng file, as `tcpdump -w FILE` or `dumpcap -w FILE` write it";
const UNPACK: &str = "unpack it, and give the capture that is inside";
const DECOMPRESS: &str = "decompress it first: only gzip and zstd are decompressed here";
const CONVERT: &str = "convert it first: editcap -F pcapng FILE FILE.pcapng";

const MAGIC: &[(&[u8], &str, &str)] = &[
    (b"\x7fELF", "a program (ELF)", GIVE),
    (b"PK\x03\x04", "a ZIP archive", UNPACK),
    (b"\xfd7zXZ\0", "xz data", DECOMPRESS),
    (b"BZh", "bzip2 data", DECOMPRESS),
    (b"\x04\x22\x4d\x18", "lz4 data", DECOMPRESS),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"\x1f\x8b", "gzip data, compressed twice", "decompress it once, and give the result"),
    (b"\x28\xb5\x2f\xfd", "zstd data, compressed twice", "decompress it once, and give the result"),
    (b"redb\x1a\x0a\xa9\x0d\x0a", "a store of fedisniff", "open it with `fedisniff serve --store FILE`"),
    (b"SQLite format 3\0", "an SQLite database", GIVE),
    (b"snoop\0\0\0", "a capture of Solaris snoop", CONVERT),
    (b"GMBU", "a capture of Microsoft Network Monitor", CONVERT),
    (b"RTSS", "a capture of Microsoft Network Monitor 1", CONVERT),
    (b"TRSNIFF data", "a capture of NetXray or Sniffer", CONVERT),
    (b"XCP\0", "a capture of NetXray or Sniffer", CONVERT),
    (b"\x1c\x00\x01\xac", "a pcap variant of IXIA", CONVERT),
    (b"\xac\x01\x00\x1c", "a pcap variant of IXIA", CONVERT),
    (b"\xa1\xb2\x34\xcd", "a pcap variant of Navtel", CONVERT),
    (b"\xcd\x34\xb2\xa1", "a pcap variant of Navtel", CONVERT),
    (b"%PDF", "a PDF document", GIVE),
    (b"\x89PNG", "an image (PNG)", GIVE),
    (b"\xff\xd8\xff", "an image (JPEG)", GIVE),
    (b"GIF8", "an image (GIF)", GIVE),
    (b"\xff\xfe", "text (UTF-16)", GIVE),
    (b"\xfe\xff", "text (UTF-16)", GIVE),
    (
        b"{\"schema\":\"fedisniff.exchange",
        "fedisniff's own JSON lines",
        "give the capture that they were made from",
    ),
];

pub(super) fn of(bytes: &[u8]) -> Looks {
    let looks = |like: &str, help| Looks { like: like.to_owned(), help };
    if bytes.len() < 4 {
        return Looks { like: format!("a file of {} bytes", bytes.len()), help: GIVE };
    }
    if let Some((_, like, help)) = MAGIC.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return looks(like, help);
    }
    if bytes.get(257..).is_some_and(|rest| rest.starts_with(b"ustar")) {
        return looks("a tar archive", UNPACK);
    }
    if bytes.iter().all(|&b| b == 0) {
        return looks("nothing but zero bytes", "capture again: this file was never written");
    }
    if let Some(text) = text(bytes) {
        return looks_of_text(text);
    }
    let begin: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
    Looks { like: format!("unknown binary data (it begins with {})", begin.join(" ")), help: GIVE }
}

/// The bytes as text, if they are: a character may be cut at the end, and control characters are none.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(bytes.get(..e.valid_up_to())?).ok()?,
        Err(_) => return None,
    };
    let printable = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{1b}' | '\u{c}');
    text.chars().all(printable).then_some(text)
}

fn looks_of_text(text: &str) -> Looks {
    const METHODS: [&str; 8] =
        ["GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "PATCH ", "OPTIONS ", "CONNECT "];
    let looks = |like: &str, help| Looks { like: like.to_owned(), help };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let first_line = text.lines().next().unwrap_or("");
    if first_line.starts_with("HTTP/") || METHODS.iter().any(|m| first_line.starts_with(m)) {
        return looks("HTTP messages without packets around them", GIVE);
    }
    // `1.2.3.4 - - [24/Nov/2026:08:00:00 +0000] "GET / HTTP/1.1" 200 ...`, or the same fields as JSON.
    let logged = METHODS.iter().any(|m| first_line.contains(&format!("\"{m}")));
    if (logged && first_line.contains(" HTTP/")) || first_line.contains("\"RequestMethod\"") {
        return looks("the access log of a web server", GIVE);
    }
    // `08:24:50.123456 IP 10.0.0.1.80 > 10.0.0.2.4242: Flags [S] ...`
    if [" IP ", " IP6 ", " ARP, "].iter().any(|word| first_line.contains(word)) && first_line.contains(':') {
        return looks("what tcpdump prints", "let it write packets instead: tcpdump -w FILE");
    }
    if first_line.starts_with(['{', '[']) {
        let archive = text.contains("\"log\"") && text.contains("\"creator\"");
        return match archive {
            true => looks(
                "an HTTP archive (HAR)",
                "it holds no packets; give the capture that was made at the time",
            ),
            false => looks("JSON", GIVE),
        };
    }
    if first_line.starts_with('<') {
        return looks("HTML or XML", GIVE);
    }
    looks("text", GIVE)
}
