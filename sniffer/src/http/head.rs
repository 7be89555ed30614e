//! The head of an HTTP/1 message (RFC 9112 §2-§5): octets in, first line, fields and what they say about framing out.
//! `httparse` reads what is well formed; what it refuses and real servers send is read by a lenient second reader, which
//! names everything that it forgave. Nothing here is kept between messages, and nothing is guessed.

use std::mem::MaybeUninit;

use super::{Anomaly, AnomalyKind, Config, Headers};

/// Fields that the fast reader takes; heads with more go to the lenient one.
const FAST_FIELDS: usize = 64;

/// A method is a token (RFC 9110 §9.1) without a limit; longer ones are not believed.
const METHOD_LIMIT: usize = 32;

/// Different oddities named for one head; the kinds are few.
const DETAIL_LIMIT: usize = 80;

/// What the fields say about the message and the connection.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Facts {
    /// `Content-Length`, if there is a usable one.
    pub(super) length: Option<u64>,
    /// `Content-Length` is there and cannot be used.
    pub(super) bad_length: bool,
    /// The last transfer coding is chunked.
    pub(super) chunked: bool,
    /// There is a transfer coding other than chunked and identity.
    pub(super) other_coding: bool,
    /// `Upgrade` is there.
    pub(super) upgrade: bool,
    /// `Expect: 100-continue`.
    pub(super) expects: bool,
}

/// A request's head.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) method: Box<str>,
    pub(super) target: Box<str>,
    pub(super) host: Option<Box<str>>,
    pub(super) scheme: Option<Box<str>>,
    pub(super) version: (u8, u8),
    pub(super) headers: Headers,
    pub(super) facts: Facts,
    pub(super) anomalies: Vec<Anomaly>,
}

/// A response's head.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    pub(super) reason: Box<str>,
    pub(super) version: (u8, u8),
    pub(super) headers: Headers,
    pub(super) facts: Facts,
    pub(super) anomalies: Vec<Anomaly>,
}

/// What octets at a message boundary are.
#[derive(Debug)]
pub(super) enum Parsed<T> {
    /// A head of that many octets, its empty line among them.
    Whole(T, usize),
    /// The beginning of a head, as far as one can see.
    Partial,
    /// No head.
    Not,
}

/// Whether octets are the start of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Start {
    /// The first line is there and is one.
    Yes,
    /// What is there of the first line may be the beginning of one.
    Maybe,
    /// It is not.
    No,
}

/// Is this the first line of a request?
pub(super) fn request_start(bytes: &[u8]) -> Start {
    // Most of what is asked about while hunting ends here.
    if bytes.first().is_some_and(|first| !first.is_ascii_alphabetic()) {
        return Start::No;
    }
    let (line, whole) = first_line(bytes);
    let method =
        line.iter().take(METHOD_LIMIT.saturating_add(1)).take_while(|octet| is_token(**octet)).count();
    if method > METHOD_LIMIT {
        return Start::No;
    }
    let Some((space, rest)) = line.get(method..).and_then(<[u8]>::split_first) else {
        return if whole { Start::No } else { Start::Maybe };
    };
    if *space != b' ' && *space != b'\t' || method == 0 {
        return Start::No;
    }
    // Octets below space do not occur in what a client sends as a target, and do so at once in other protocols.
    if rest.iter().take(64).any(|octet| *octet < b' ' && *octet != b'\t') {
        return Start::No;
    }
    if !whole {
        return Start::Maybe;
    }
    match split_version(line) {
        Some((before, _)) if before.get(method..).is_some_and(|target| !target.trim_ascii().is_empty()) => {
            Start::Yes
        }
        _ => Start::No,
    }
}

/// Is this the first line of a response?
pub(super) fn response_start(bytes: &[u8]) -> Start {
    const NAME: &[u8] = b"HTTP/1.";
    let known = NAME.len().min(bytes.len());
    if bytes.get(..known) != NAME.get(..known) {
        return Start::No;
    }
    let mut octets = bytes.iter().skip(NAME.len());
    let tests: [fn(&u8) -> bool; 6] = [
        u8::is_ascii_digit,
        |octet| *octet == b' ',
        |octet| (b'1'..=b'9').contains(octet),
        u8::is_ascii_digit,
        u8::is_ascii_digit,
        |octet| matches!(octet, b' ' | b'\r' | b'\n'),
    ];
    for test in tests {
        match octets.next() {
            None => return Start::Maybe,
            Some(octet) if test(octet) => {}
            Some(_) => return Start::No,
        }
    }
    Start::Yes
}

/// Is this, at the first byte of a segment after something was missed, surely the start of a request? A target that
/// is longer than the segment hides the version; then the method must be a usual one.
pub(super) fn believable_request(bytes: &[u8]) -> bool {
    match request_start(bytes) {
        Start::No => false,
        Start::Maybe => {
            let method = bytes.split(|octet| *octet == b' ').next().unwrap_or_default();
            let target = bytes.get(method.len().saturating_add(1));
            USUAL_METHODS.contains(&method) && target.is_some_and(|first| matches!(first, b'/' | b'h' | b'*'))
        }
        Start::Yes => fields_follow(bytes),
    }
}

/// The same for a response.
pub(super) fn believable_response(bytes: &[u8]) -> bool {
    response_start(bytes) == Start::Yes && fields_follow(bytes)
}

const USUAL_METHODS: &[&[u8]] =
    &[b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"PROPFIND", b"TRACE"];

/// Whether the second line, as far as it is there, is a field or the end of the head.
fn fields_follow(bytes: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', bytes) else { return true };
    let (line, whole) = first_line(bytes.get(end.saturating_add(1)..).unwrap_or_default());
    let name = line.iter().take_while(|octet| is_token(**octet)).count();
    match line.get(name) {
        Some(b':' | b' ') => name > 0,
        Some(_) => false,
        None => !whole || name == 0,
    }
}

/// The octets up to the first LF, without CR, and whether there is one. A line without end is cut at a limit that is
/// far above what is looked at.
fn first_line(bytes: &[u8]) -> (&[u8], bool) {
    match memchr::memchr(b'\n', bytes) {
        Some(end) => {
            let line = bytes.get(..end).unwrap_or_default();
            (line.strip_suffix(b"\r").unwrap_or(line), true)
        }
        None => (bytes.strip_suffix(b"\r").unwrap_or(bytes), false),
    }
}

/// Splits ` HTTP/1.x` off the end of a request line.
fn split_version(line: &[u8]) -> Option<(&[u8], (u8, u8))> {
    let line = line.trim_ascii_end();
    let (before, version) = line.split_at_checked(line.len().checked_sub(8)?)?;
    if !before.last().is_some_and(|octet| matches!(octet, b' ' | b'\t')) {
        return None;
    }
    Some((before, version_of(version)?))
}

/// `HTTP/1.x`: any minor version above 1 is treated as 1 (RFC 9110 §2.5).
fn version_of(text: &[u8]) -> Option<(u8, u8)> {
    match text {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'] => Some((1, 0)),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => Some((1, 1)),
        _ => None,
    }
}

/// RFC 9110 §5.6.2.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// Reads a request's head at the beginning of `bytes`.
pub(super) fn request(bytes: &[u8], config: &Config) -> Parsed<RequestHead> {
    let mut fields = [const { MaybeUninit::uninit() }; FAST_FIELDS];
    let mut fast = httparse::Request::new(&mut []);
    match fast.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) => {
            let (Some(method), Some(target), Some(minor)) = (fast.method, fast.path, fast.version) else {
                return Parsed::Not;
            };
            // As [`request_start`] has it: whether a request came in one segment or in two must not matter.
            if method.len() > METHOD_LIMIT || !method.starts_with(|first: char| first.is_ascii_alphabetic()) {
                return Parsed::Not;
            }
            let mut found = Found::default();
            let headers =
                found.fields(fast.headers.iter().map(|field| (field.name.as_bytes(), field.value)), config);
            found.line_ends(bytes.get(..length).unwrap_or_default());
            let version = if minor == 0 { (1, 0) } else { (1, 1) };
            Parsed::Whole(found.request(method.into(), target.into(), version, headers), length)
        }
        Ok(httparse::Status::Partial) => match request_start(bytes) {
            // What httparse takes for a beginning may be no request line (HTTP/0.9, another protocol).
            Start::No => Parsed::Not,
            _ => Parsed::Partial,
        },
        Err(_) => match (request_start(bytes), head_end(bytes, 0)) {
            (Start::No, _) => Parsed::Not,
            (_, Err(_)) => Parsed::Partial,
            (_, Ok(end)) => match lenient_request(bytes.get(..end).unwrap_or_default(), config) {
                Some(head) => Parsed::Whole(head, end),
                None => Parsed::Not,
            },
        },
    }
}

/// Reads a response's head at the beginning of `bytes`.
pub(super) fn response(bytes: &[u8], config: &Config) -> Parsed<ResponseHead> {
    let mut fields = [const { MaybeUninit::uninit() }; FAST_FIELDS];
    let mut fast = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    match parser.parse_response_with_uninit_headers(&mut fast, bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) => {
            let (Some(status), Some(reason), Some(minor)) = (fast.code, fast.reason, fast.version) else {
                return Parsed::Not;
            };
            // As [`response_start`] has it.
            if status < 100 {
                return Parsed::Not;
            }
            let mut found = Found::default();
            let headers =
                found.fields(fast.headers.iter().map(|field| (field.name.as_bytes(), field.value)), config);
            found.line_ends(bytes.get(..length).unwrap_or_default());
            let version = if minor == 0 { (1, 0) } else { (1, 1) };
            Parsed::Whole(found.response(status, reason.into(), version, headers), length)
        }
        Ok(httparse::Status::Partial) => match response_start(bytes) {
            Start::No => Parsed::Not,
            _ => Parsed::Partial,
        },
        Err(_) => match (response_start(bytes), head_end(bytes, 0)) {
            (Start::No, _) => Parsed::Not,
            (_, Err(_)) => Parsed::Partial,
            (_, Ok(end)) => match lenient_response(bytes.get(..end).unwrap_or_default(), config) {
                Some(head) => Parsed::Whole(head, end),
                None => Parsed::Not,
            },
        },
    }
}

/// Where the head ends (behind its empty line), looking from `from`; otherwise where to look from next time.
pub(super) fn head_end(bytes: &[u8], from: usize) -> Result<usize, usize> {
    let mut at = from;
    while let Some(found) = memchr::memchr(b'\n', bytes.get(at..).unwrap_or_default()) {
        let line_end = at.saturating_add(found);
        let after = line_end.saturating_add(1);
        match (bytes.get(after), bytes.get(after.saturating_add(1))) {
            (Some(b'\n'), _) => return Ok(after.saturating_add(1)),
            (Some(b'\r'), Some(b'\n')) => return Ok(after.saturating_add(2)),
            (None, _) | (Some(b'\r'), None) => return Err(line_end),
            _ => at = after,
        }
    }
    Err(bytes.len())
}

/// Reads a request's head leniently; `bytes` may also be cut at a line's end.
pub(super) fn lenient_request(bytes: &[u8], config: &Config) -> Option<RequestHead> {
    let (line, rest) = cut_line(bytes)?;
    let (before, version) = split_version(line)?;
    let method_end = before.iter().position(|octet| matches!(octet, b' ' | b'\t'))?;
    let (method, target) = before.split_at_checked(method_end)?;
    let trimmed = target.trim_ascii();
    if trimmed.is_empty() {
        return None;
    }
    let mut found = Found::default();
    // One space before and after the target, none inside, and nothing behind the version (RFC 9112 §3).
    if target.len() != trimmed.len().saturating_add(2)
        || !trimmed.iter().all(u8::is_ascii_graphic)
        || line.last().is_some_and(|last| !last.is_ascii_digit())
    {
        found.odd(AnomalyKind::BadStartLine, line);
    }
    let headers = found.lenient_fields(rest, config);
    found.line_ends(bytes);
    Some(found.request(lossy(method), lossy(trimmed), version, headers))
}

/// Reads a response's head leniently; `bytes` may also be cut at a line's end.
pub(super) fn lenient_response(bytes: &[u8], config: &Config) -> Option<ResponseHead> {
    let (line, rest) = cut_line(bytes)?;
    let (version, after) = line.split_at_checked(8)?;
    let version = version_of(version)?;
    let (status, reason) = after.strip_prefix(b" ")?.split_at_checked(3)?;
    let status = std::str::from_utf8(status).ok()?.parse().ok()?;
    let mut found = Found::default();
    let reason = reason.strip_prefix(b" ").unwrap_or(reason);
    if reason.iter().any(|octet| *octet < b' ' && *octet != b'\t') {
        found.odd(AnomalyKind::BadStartLine, line);
    }
    let headers = found.lenient_fields(rest, config);
    found.line_ends(bytes);
    Some(found.response(status, lossy(reason), version, headers))
}

/// Trailer fields: the lines behind the last chunk, with the empty line or without.
pub(super) fn trailers(bytes: &[u8], config: &Config) -> (Headers, Vec<Anomaly>) {
    let mut found = Found::default();
    let headers = found.lenient_fields(bytes, config);
    found.anomalies.retain(|anomaly| {
        !matches!(anomaly.kind, AnomalyKind::LengthAndChunked | AnomalyKind::BadContentLength)
    });
    (headers, found.anomalies)
}

/// Whether a field line decides framing or decoding: such a line is kept when a head is too large to be kept whole.
pub(super) fn is_framing_line(line: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] = [
        b"content-length:",
        b"transfer-encoding:",
        b"content-encoding:",
        b"upgrade:",
        b"connection:",
        b"host:",
    ];
    NAMES.iter().any(|name| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
}

fn cut_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', bytes)?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default()))
}

fn lossy(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into_owned().into_boxed_str()
}

/// What is found while fields are read.
#[derive(Default)]
struct Found {
    facts: Facts,
    anomalies: Vec<Anomaly>,
    hosts: u32,
    host: Option<Box<str>>,
    lengths: u32,
    codings: u32,
}

impl Found {
    fn odd(&mut self, kind: AnomalyKind, line: &[u8]) {
        if self.anomalies.iter().any(|anomaly| anomaly.kind == kind) {
            return;
        }
        let mut detail =
            String::from_utf8_lossy(line.get(..DETAIL_LIMIT.min(line.len())).unwrap_or_default())
                .escape_debug()
                .to_string();
        if line.len() > DETAIL_LIMIT {
            detail.push('…');
        }
        self.anomalies.push(Anomaly::new(kind, detail));
    }

    /// Copies fields that are well formed, and looks at each.
    fn fields<'a>(
        &mut self,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
        config: &Config,
    ) -> Headers {
        let (mut count, mut octets) = (0_usize, 0_usize);
        for (name, value) in fields.clone() {
            count = count.saturating_add(1);
            octets = octets.saturating_add(name.len()).saturating_add(value.len());
        }
        if count > config.fields_limit {
            self.odd(AnomalyKind::HeadTooLarge, b"more fields than the limit");
        }
        let mut headers = Headers::with_capacity(count.min(config.fields_limit), octets);
        for (name, value) in fields {
            self.field(name, value);
            if headers.len() < config.fields_limit {
                headers.push(Some(name), Some(value));
            }
        }
        headers
    }

    /// Reads field lines one by one up to the empty line, forgiving and naming.
    fn lenient_fields(&mut self, mut rest: &[u8], config: &Config) -> Headers {
        let mut headers = Headers::default();
        // The field at hand: it may be continued by folded lines.
        let mut open: Option<(&[u8], Vec<u8>)> = None;
        let mut dropped = false;
        while let Some((line, after)) = cut_line(rest) {
            rest = after;
            if line.is_empty() {
                break;
            }
            if line.first().is_some_and(|octet| matches!(octet, b' ' | b'\t')) {
                // RFC 9112 §5.2: a fold is replaced by a space.
                match &mut open {
                    Some((_, value)) => {
                        self.odd(AnomalyKind::ObsFold, line);
                        value.push(b' ');
                        value.extend_from_slice(line.trim_ascii());
                    }
                    None => self.odd(AnomalyKind::BadFieldLine, line),
                }
                continue;
            }
            self.close(&mut open, &mut headers, &mut dropped, config);
            let Some(colon) = memchr::memchr(b':', line) else {
                self.odd(AnomalyKind::BadFieldLine, line);
                continue;
            };
            let (name, value) = (line.get(..colon), line.get(colon.saturating_add(1)..));
            let (name, value) = (name.unwrap_or_default(), value.unwrap_or_default());
            let trimmed = name.trim_ascii_end();
            if trimmed.len() < name.len() {
                self.odd(AnomalyKind::SpaceBeforeColon, line);
            }
            let control = |octet: &u8| (*octet < b' ' && *octet != b'\t') || *octet == 0x7f;
            let bad_name = trimmed.is_empty() || !trimmed.iter().all(|octet| is_token(*octet));
            if bad_name || value.iter().any(control) {
                self.odd(AnomalyKind::BadFieldLine, line);
            }
            open = Some((trimmed, value.trim_ascii().to_vec()));
        }
        self.close(&mut open, &mut headers, &mut dropped, config);
        if dropped {
            self.odd(AnomalyKind::HeadTooLarge, b"more fields than the limit");
        }
        headers
    }

    fn close(
        &mut self,
        open: &mut Option<(&[u8], Vec<u8>)>,
        headers: &mut Headers,
        dropped: &mut bool,
        config: &Config,
    ) {
        if let Some((name, value)) = open.take() {
            self.field(name, &value);
            if headers.len() < config.fields_limit {
                headers.push(Some(name), Some(&value));
            } else {
                *dropped = true;
            }
        }
    }

    /// A line that ended with LF alone? In what the readers take, a CR occurs only before LF.
    fn line_ends(&mut self, head: &[u8]) {
        let count = |octet| memchr::memchr_iter(octet, head).count();
        if count(b'\n') > count(b'\r') {
            self.anomalies.push(Anomaly::new(AnomalyKind::BareLf, ""));
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            4 if is(b"host") => {
                self.hosts = self.hosts.saturating_add(1);
                self.host.get_or_insert_with(|| lossy(value));
            }
            6 if is(b"expect") => {
                self.facts.expects |= value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
            }
            7 if is(b"upgrade") => self.facts.upgrade = true,
            14 if is(b"content-length") => self.length(value),
            17 if is(b"transfer-encoding") => self.transfer_coding(value),
            _ => {}
        }
    }

    /// RFC 9112 §6.3: several equal values are one; anything else is an error, and the first number is taken.
    fn length(&mut self, value: &[u8]) {
        for part in value.split(|octet| *octet == b',') {
            self.lengths = self.lengths.saturating_add(1);
            let digits = part.trim_ascii();
            let number = if digits.iter().all(u8::is_ascii_digit) {
                std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok())
            } else {
                None
            };
            let differs = self.lengths > 1 && number != self.facts.length;
            if number.is_none() || differs {
                self.odd(AnomalyKind::BadContentLength, value);
            }
            self.facts.length = self.facts.length.or(number);
        }
        self.facts.bad_length = self.facts.length.is_none();
    }

    fn transfer_coding(&mut self, value: &[u8]) {
        for coding in value.split(|octet| *octet == b',') {
            let coding = coding.trim_ascii();
            if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            self.codings = self.codings.saturating_add(1);
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            if !chunked || self.facts.chunked {
                self.odd(AnomalyKind::UnknownTransferCoding, value);
                self.facts.other_coding |= !chunked;
            }
            self.facts.chunked = chunked;
        }
    }

    fn framing(&mut self) {
        if self.codings > 0 && self.lengths > 0 {
            self.odd(AnomalyKind::LengthAndChunked, b"");
        }
    }

    fn request(
        mut self,
        method: Box<str>,
        target: Box<str>,
        version: (u8, u8),
        headers: Headers,
    ) -> RequestHead {
        self.framing();
        if self.hosts > 1 {
            self.odd(AnomalyKind::BadHost, b"more than one");
        } else if self.hosts == 0 && version >= (1, 1) {
            self.odd(AnomalyKind::BadHost, b"none");
        }
        let (mut host, mut scheme) = (self.host, None);
        if &*method == "CONNECT" {
            host = host.or_else(|| Some(target.clone()));
        } else if !target.starts_with('/')
            && let Some((name, rest)) = target.split_once("://")
        {
            // RFC 9112 §3.2.2: the authority of an absolute-form target goes before the Host field.
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            (host, scheme) = (Some(authority.into()), Some(name.into()));
        }
        RequestHead {
            method,
            target,
            host,
            scheme,
            version,
            headers,
            facts: self.facts,
            anomalies: self.anomalies,
        }
    }

    fn response(
        mut self,
        status: u16,
        reason: Box<str>,
        version: (u8, u8),
        headers: Headers,
    ) -> ResponseHead {
        self.framing();
        ResponseHead { status, reason, version, headers, facts: self.facts, anomalies: self.anomalies }
    }
}
