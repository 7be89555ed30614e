//! The stored form of an exchange with its reading, and of a row: an exchange in, octets out, and back. Every record
//! begins with its version; each version that was ever written stays readable, whatever becomes of the types of
//! `http` and `activitypub`: those never touch the disk, this code does. Bodies are not part of a record, which only
//! says where they are ([`BodyRef`]).
//!
//! Integers are LEB128, times are differences to the exchange's start, texts are length and octets, closed sets are
//! numbers that are listed here (never a type's own discriminant) or stable names. A change of the form takes a new
//! [`VERSION`] and a branch in the decoder; `testdata/` keeps a record of each version, and a test reads them all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::activitypub::{
    Activity, Digest, Kind, Link, Lint, Origin, OriginSource, Reading, Scheme, Sentence, Severity, Signature,
    SignatureVerdict, Slot, Visibility,
};
use crate::filter::RowKeys;
use crate::flow::{Ends, FlowId};
use crate::frame::{Interface, Timestamp};
use crate::http::{
    Anomaly, AnomalyKind, Body, Exchange, ExchangeId, GapMark, Headers, Interim, Message, Protocol, Request,
    Response, WebSocket, WsMessage,
};
use crate::stream::GapCause;
use crate::view::Row;

/// The version that is written.
pub(super) const VERSION: u8 = 2;
/// The oldest that is read. Version 2 added causes.
const OLDEST: u8 = 1;

/// Where the kept octets of a body are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyRef {
    /// There are none.
    Empty,
    /// The n-th body of the record's own chunk.
    Chunk(u32),
    /// In the table of large bodies, by the SHA-256 of the kept octets.
    Shared([u8; 32]),
}

/// A record that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Damaged;

type Read<T> = Result<T, Damaged>;

/// Puts the octets of a body away: they, and their SHA-256 where it is known.
pub(super) type Keep<'k> = dyn FnMut(&[u8], Option<&[u8; 32]>) -> BodyRef + 'k;

/// Appends the record of an exchange; `keep` puts each body's octets away, which are never empty.
pub(super) fn encode(exchange: &Exchange, reading: &Reading, keep: &mut Keep<'_>, out: &mut Vec<u8>) {
    out.push(VERSION);
    let mut w = Writer { out, base: exchange.started.0, keep };
    w.exchange(exchange);
    w.reading(reading);
}

/// Reads a record; `fetch` gets the octets of each body that has some (or gives none, when they are not wanted).
pub(super) fn decode(
    record: &[u8],
    fetch: &mut dyn FnMut(BodyRef) -> Read<Vec<u8>>,
) -> Read<(Exchange, Reading)> {
    let mut r = Reader::new(record)?;
    let exchange = r.exchange(fetch)?;
    let reading = r.reading()?;
    if r.rest.is_empty() { Ok((exchange, reading)) } else { Err(Damaged) }
}

/// Appends the record of a row.
pub(super) fn encode_row(row: &Row, keys: &RowKeys, out: &mut Vec<u8>) {
    out.push(VERSION);
    let mut w = Writer { out, base: row.started.0, keep: &mut |_, _| BodyRef::Empty };
    w.row(row);
    let RowKeys { actor, object, origin_host, request_host } = keys;
    for key in [actor, object, origin_host, request_host] {
        w.opt_text(key.as_deref());
    }
}

/// Reads the record of a row.
pub(super) fn decode_row(record: &[u8]) -> Read<(Row, RowKeys)> {
    let mut r = Reader::new(record)?;
    let row = r.row()?;
    let keys = RowKeys {
        actor: r.opt_text()?,
        object: r.opt_text()?,
        origin_host: r.opt_text()?,
        request_host: r.opt_text()?,
    };
    if r.rest.is_empty() { Ok((row, keys)) } else { Err(Damaged) }
}

/// A closed set as numbers. The numbers are the format: they never change and are never used again.
macro_rules! codes {
    ($to:ident, $from:ident, $ty:ty, $($variant:path = $code:literal,)*) => {
        fn $to(value: $ty) -> u8 {
            match value { $($variant => $code,)* }
        }
        fn $from(code: u8) -> Read<$ty> {
            match code { $($code => Ok($variant),)* _ => Err(Damaged) }
        }
    };
}

codes!(protocol_code, protocol, Protocol, Protocol::Http10 = 0, Protocol::Http11 = 1, Protocol::H2c = 2,);
codes!(
    cause_code,
    cause,
    GapCause,
    GapCause::AckedUnseen = 0,
    GapCause::CaptureLoss = 1,
    GapCause::Truncated = 2,
    GapCause::Budget = 3,
    GapCause::Deadline = 4,
);
codes!(scheme_code, scheme, Scheme, Scheme::Cavage = 0, Scheme::Rfc9421 = 1,);
codes!(
    verdict_code,
    verdict,
    SignatureVerdict,
    SignatureVerdict::Valid = 0,
    SignatureVerdict::Invalid = 1,
    SignatureVerdict::KeyNotSeen = 2,
    SignatureVerdict::NotCheckable = 3,
    SignatureVerdict::Unsigned = 4,
);
codes!(
    digest_code,
    digest,
    Digest,
    Digest::Match = 0,
    Digest::Mismatch = 1,
    Digest::Absent = 2,
    Digest::NotCheckable = 3,
);
codes!(
    visibility_code,
    visibility,
    Visibility,
    Visibility::Public = 0,
    Visibility::Unlisted = 1,
    Visibility::Followers = 2,
    Visibility::Direct = 3,
);
codes!(
    source_code,
    source,
    OriginSource,
    OriginSource::ForwardedFor = 0,
    OriginSource::KeyId = 1,
    OriginSource::UserAgent = 2,
    OriginSource::Learnt = 3,
    OriginSource::Peer = 4,
);
codes!(severity_code, severity, Severity, Severity::Info = 0, Severity::Warn = 1, Severity::Error = 2,);

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// What times are relative to.
    base: u64,
    keep: &'a mut Keep<'a>,
}

impl Writer<'_> {
    fn int(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.out.push((n as u8) | 0x80);
            n >>= 7;
        }
        self.out.push(n as u8);
    }

    fn len(&mut self, n: usize) {
        self.int(n as u64);
    }

    fn bool(&mut self, b: bool) {
        self.out.push(u8::from(b));
    }

    /// Zigzag, so that a time shortly before the base is short as well.
    fn time(&mut self, time: Timestamp) {
        let delta = time.0.wrapping_sub(self.base) as i64;
        self.int(((delta << 1) ^ (delta >> 63)) as u64);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    fn opt_bytes(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.out.push(0),
            Some(bytes) => {
                self.int((bytes.len() as u64).saturating_add(1));
                self.out.extend_from_slice(bytes);
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn opt_text(&mut self, text: Option<&str>) {
        self.opt_bytes(text.map(str::as_bytes));
    }

    fn opt_int(&mut self, n: Option<u64>) {
        match n {
            None => self.out.push(0),
            Some(n) => {
                self.out.push(1);
                self.int(n);
            }
        }
    }

    fn opt_code(&mut self, code: Option<u8>) {
        self.out.push(code.map_or(0, |c| c.saturating_add(1)));
    }

    fn hash(&mut self, hash: Option<&[u8; 32]>) {
        match hash {
            None => self.out.push(0),
            Some(hash) => {
                self.out.push(1);
                self.out.extend_from_slice(hash);
            }
        }
    }

    fn address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => {
                self.out.push(4);
                self.out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.out.push(6);
                self.out.extend_from_slice(&ip.octets());
            }
        }
        self.int(u64::from(address.port()));
        if let SocketAddr::V6(v6) = address {
            self.int(u64::from(v6.flowinfo()));
            self.int(u64::from(v6.scope_id()));
        }
    }

    fn kept(&mut self, bytes: &[u8], hash: Option<&[u8; 32]>) {
        let at = if bytes.is_empty() { BodyRef::Empty } else { (self.keep)(bytes, hash) };
        match at {
            BodyRef::Empty => self.out.push(0),
            BodyRef::Chunk(n) => {
                self.out.push(1);
                self.int(u64::from(n));
            }
            BodyRef::Shared(hash) => {
                self.out.push(2);
                self.out.extend_from_slice(&hash);
            }
        }
    }

    fn headers(&mut self, headers: &Headers) {
        self.len(headers.len());
        for (name, value) in headers.iter() {
            self.opt_bytes(name);
            self.opt_bytes(value);
        }
    }

    fn body(&mut self, body: &Body) {
        let Body { wire_size, coded_size, size, encoding, complete, sha256, coded_sha256, bytes, holes } =
            body;
        self.int(*wire_size);
        self.int(*coded_size);
        self.int(*size);
        self.opt_text(encoding.as_deref());
        self.bool(*complete);
        self.hash(sha256.as_ref());
        // Without a content coding both are the same, and 32 octets that nothing compresses are saved.
        if coded_sha256.is_some() && coded_sha256 == sha256 {
            self.out.push(2);
        } else {
            self.hash(coded_sha256.as_ref());
        }
        // Only the hash of a whole body that was kept whole names the kept octets.
        let whole = *complete && bytes.len() as u64 == *size && holes.is_empty();
        self.kept(bytes, sha256.as_ref().filter(|_| whole));
        self.len(holes.len());
        for (offset, length) in holes {
            self.int(*offset);
            self.int(*length);
        }
    }

    fn message(&mut self, message: &Message) {
        let Message { version, headers, trailers, body, first_byte, last_byte } = message;
        self.out.extend_from_slice(&[version.0, version.1]);
        self.headers(headers);
        self.headers(trailers);
        self.body(body);
        self.time(*first_byte);
        self.time(*last_byte);
    }

    fn exchange(&mut self, exchange: &Exchange) {
        let Exchange {
            id,
            // Numbers of one run; they mean nothing in another.
            flow: _,
            ends,
            interface: _,
            interface_name,
            protocol,
            started,
            ended,
            request,
            response,
            interim,
            websocket,
            gaps,
            anomalies,
        } = exchange;
        self.out.extend_from_slice(&id.0);
        self.out.extend_from_slice(&started.0.to_be_bytes());
        self.time(*ended);
        self.address(ends.client);
        self.address(ends.server);
        self.opt_text(interface_name.as_deref());
        self.out.push(protocol_code(*protocol));
        self.bool(request.is_some());
        if let Some(Request { method, target, host, scheme, message }) = request {
            self.opt_text(method.as_deref());
            self.opt_text(target.as_deref());
            self.opt_text(host.as_deref());
            self.opt_text(scheme.as_deref());
            self.message(message);
        }
        self.bool(response.is_some());
        if let Some(Response { status, reason, message }) = response {
            self.opt_int(status.map(u64::from));
            self.text(reason);
            self.message(message);
        }
        self.len(interim.len());
        for Interim { status, time, headers } in interim {
            self.int(u64::from(*status));
            self.time(*time);
            self.headers(headers);
        }
        self.bool(websocket.is_some());
        if let Some(WebSocket { frames, messages, messages_dropped, extensions, close_code }) = websocket {
            self.int(*frames);
            self.int(*messages_dropped);
            self.opt_text(extensions.as_deref());
            self.opt_int(close_code.map(u64::from));
            self.len(messages.len());
            for WsMessage { to_server, time, opcode, frames, size, complete, sha256, bytes } in messages {
                self.bool(*to_server);
                self.time(*time);
                self.out.push(*opcode);
                self.int(u64::from(*frames));
                self.int(*size);
                self.bool(*complete);
                self.hash(sha256.as_ref());
                let whole = *complete && bytes.len() as u64 == *size;
                self.kept(bytes, sha256.as_ref().filter(|_| whole));
            }
        }
        self.len(gaps.len());
        for GapMark { to_server, offset, length, cause } in gaps {
            self.bool(*to_server);
            self.int(*offset);
            self.int(*length);
            self.out.push(cause_code(*cause));
        }
        self.len(anomalies.len());
        for Anomaly { kind, detail } in anomalies {
            self.text(kind.id());
            self.text(detail);
        }
    }

    fn reading(&mut self, reading: &Reading) {
        let Reading {
            kind,
            sentence,
            activity,
            signature,
            digest,
            origin,
            lints,
            reason,
            federation,
            caused_by,
            caused,
        } = reading;
        self.text(kind.id());
        self.text(&sentence.template);
        self.slots(&sentence.slots);
        self.bool(activity.is_some());
        if let Some(activity) = activity {
            let Activity {
                id,
                r#type,
                actor,
                object,
                object_type,
                inner,
                target,
                to,
                cc,
                visibility,
                excerpt,
            } = activity;
            for part in [id, r#type, actor, object, object_type, inner, target, excerpt] {
                self.opt_text(part.as_deref());
            }
            self.texts(to);
            self.texts(cc);
            self.opt_code(visibility.map(visibility_code));
        }
        let Signature { scheme, key_id, algorithm, covered, verdict, explanation } = signature;
        self.opt_code(scheme.map(scheme_code));
        self.opt_text(key_id.as_deref());
        self.opt_text(algorithm.as_deref());
        self.texts(covered);
        self.out.push(verdict_code(*verdict));
        self.opt_text(explanation.as_deref());
        self.out.push(digest_code(*digest));
        self.bool(origin.is_some());
        if let Some(Origin { address, address_from, host, host_from, software, software_from }) = origin {
            for (part, from) in [(address, address_from), (host, host_from), (software, software_from)] {
                self.opt_text(part.as_deref());
                self.opt_code(from.map(source_code));
            }
        }
        self.len(lints.len());
        for Lint { id, severity, detail } in lints {
            self.text(id);
            self.out.push(severity_code(*severity));
            self.text(detail);
        }
        self.opt_text(reason.as_deref());
        self.bool(*federation);
        self.links(*caused_by, caused);
    }

    fn links(&mut self, caused_by: Option<Link>, caused: &[Link]) {
        for links in [caused_by.as_slice(), caused] {
            self.len(links.len());
            for Link { id, proven } in links {
                self.out.extend_from_slice(&id.0);
                self.bool(*proven);
            }
        }
    }

    fn slots(&mut self, slots: &[Slot]) {
        self.len(slots.len());
        for (slot, value) in slots {
            self.text(slot);
            self.text(value);
        }
    }

    fn texts(&mut self, texts: &[Box<str>]) {
        self.len(texts.len());
        for text in texts {
            self.text(text);
        }
    }

    fn row(&mut self, row: &Row) {
        let Row {
            id,
            started,
            from,
            from_software,
            to,
            kind,
            activity,
            activity_id,
            sentence,
            template,
            slots,
            excerpt,
            visibility,
            method,
            target,
            status,
            took_us,
            sent,
            answered,
            scheme,
            signature,
            digest,
            reason,
            federation,
            gaps,
            lint_errors,
            lint_warnings,
            anomalies,
            websocket,
            caused_by,
            caused,
        } = row;
        self.out.extend_from_slice(&id.0);
        self.out.extend_from_slice(&started.0.to_be_bytes());
        for part in [&**from, to, kind, sentence, template] {
            self.text(part);
        }
        for part in [from_software, activity, activity_id, excerpt, method, target, reason] {
            self.opt_text(part.as_deref());
        }
        self.slots(slots);
        self.opt_code(visibility.map(visibility_code));
        self.opt_int(status.map(u64::from));
        for part in [took_us, sent, answered] {
            self.opt_int(*part);
        }
        self.opt_code(scheme.map(scheme_code));
        self.out.push(verdict_code(*signature));
        self.out.push(digest_code(*digest));
        self.bool(*federation);
        for count in [gaps, lint_errors, lint_warnings, anomalies] {
            self.int(u64::from(*count));
        }
        self.bool(*websocket);
        self.links(*caused_by, caused);
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    base: u64,
    version: u8,
}

impl<'a> Reader<'a> {
    fn new(record: &'a [u8]) -> Read<Self> {
        let (version, rest) = record.split_first().ok_or(Damaged)?;
        if (OLDEST..=VERSION).contains(version) {
            Ok(Self { rest, base: 0, version: *version })
        } else {
            Err(Damaged)
        }
    }

    fn take(&mut self, n: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Damaged)
    }

    fn byte(&mut self) -> Read<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn int(&mut self) -> Read<u64> {
        let mut n = 0_u64;
        for place in 0..10_u32 {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << (place * 7).min(63);
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(Damaged)
    }

    /// A length or number of things, each of which takes at least an octet: never more than is left, so that no
    /// damaged number makes us allocate.
    fn len(&mut self) -> Read<usize> {
        let n = usize::try_from(self.int()?).map_err(|_| Damaged)?;
        if n > self.rest.len() { Err(Damaged) } else { Ok(n) }
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Read<T> {
        self.int()?.try_into().map_err(|_| Damaged)
    }

    fn bool(&mut self) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Damaged),
        }
    }

    fn time(&mut self) -> Read<Timestamp> {
        let n = self.int()?;
        let delta = ((n >> 1) as i64) ^ -((n & 1) as i64);
        Ok(Timestamp(self.base.wrapping_add(delta as u64)))
    }

    fn opt_bytes(&mut self) -> Read<Option<&'a [u8]>> {
        match self.int()? {
            0 => Ok(None),
            n => Ok(Some(self.take(usize::try_from(n - 1).map_err(|_| Damaged)?)?)),
        }
    }

    fn text(&mut self) -> Read<&'a str> {
        let n = self.len()?;
        std::str::from_utf8(self.take(n)?).map_err(|_| Damaged)
    }

    fn boxed(&mut self) -> Read<Box<str>> {
        Ok(self.text()?.into())
    }

    fn opt_text(&mut self) -> Read<Option<Box<str>>> {
        self.opt_bytes()?.map(|b| std::str::from_utf8(b).map(Box::from).map_err(|_| Damaged)).transpose()
    }

    fn opt_int(&mut self) -> Read<Option<u64>> {
        if self.bool()? { Ok(Some(self.int()?)) } else { Ok(None) }
    }

    fn opt_small<T: TryFrom<u64>>(&mut self) -> Read<Option<T>> {
        if self.bool()? { Ok(Some(self.small()?)) } else { Ok(None) }
    }

    fn opt_code<T>(&mut self, from: fn(u8) -> Read<T>) -> Read<Option<T>> {
        match self.byte()? {
            0 => Ok(None),
            n => from(n - 1).map(Some),
        }
    }

    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let n = self.len()?;
        let mut items = Vec::with_capacity(n.min(1024));
        for _ in 0..n {
            items.push(one(self)?);
        }
        Ok(items)
    }

    fn address(&mut self) -> Read<SocketAddr> {
        Ok(match self.byte()? {
            4 => SocketAddr::new(IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)), self.small()?),
            6 => {
                let ip = Ipv6Addr::from(self.array::<16>()?);
                std::net::SocketAddrV6::new(ip, self.small()?, self.small()?, self.small()?).into()
            }
            _ => return Err(Damaged),
        })
    }

    fn kept(&mut self, fetch: &mut dyn FnMut(BodyRef) -> Read<Vec<u8>>) -> Read<Vec<u8>> {
        match self.byte()? {
            0 => Ok(Vec::new()),
            1 => fetch(BodyRef::Chunk(self.small()?)),
            2 => fetch(BodyRef::Shared(self.array()?)),
            _ => Err(Damaged),
        }
    }

    fn headers(&mut self) -> Read<Headers> {
        let n = self.len()?;
        let mut headers = Headers::with_capacity(n.min(64), n.min(64) * 32);
        for _ in 0..n {
            let (name, value) = (self.opt_bytes()?, self.opt_bytes()?);
            headers.push(name, value);
        }
        Ok(headers)
    }

    fn hash(&mut self) -> Read<Option<[u8; 32]>> {
        if self.bool()? { Ok(Some(self.array()?)) } else { Ok(None) }
    }

    fn body(&mut self, fetch: &mut dyn FnMut(BodyRef) -> Read<Vec<u8>>) -> Read<Body> {
        let (wire_size, coded_size, size) = (self.int()?, self.int()?, self.int()?);
        let encoding = self.opt_text()?;
        let complete = self.bool()?;
        let sha256 = self.hash()?;
        let coded_sha256 = match self.byte()? {
            0 => None,
            1 => Some(self.array()?),
            2 => sha256,
            _ => return Err(Damaged),
        };
        let bytes = self.kept(fetch)?;
        let holes = self.many(|r| Ok((r.int()?, r.int()?)))?;
        Ok(Body { wire_size, coded_size, size, encoding, complete, sha256, coded_sha256, bytes, holes })
    }

    fn message(&mut self, fetch: &mut dyn FnMut(BodyRef) -> Read<Vec<u8>>) -> Read<Message> {
        let [major, minor] = self.array()?;
        Ok(Message {
            version: (major, minor),
            headers: self.headers()?,
            trailers: self.headers()?,
            body: self.body(fetch)?,
            first_byte: self.time()?,
            last_byte: self.time()?,
        })
    }

    fn exchange(&mut self, fetch: &mut dyn FnMut(BodyRef) -> Read<Vec<u8>>) -> Read<Exchange> {
        let id = ExchangeId(self.array()?);
        let started = Timestamp(u64::from_be_bytes(self.array()?));
        self.base = started.0;
        let ended = self.time()?;
        let ends = Ends { client: self.address()?, server: self.address()? };
        let interface_name = self.opt_text()?.map(Arc::from);
        let protocol = protocol(self.byte()?)?;
        let request = if self.bool()? {
            Some(Request {
                method: self.opt_text()?,
                target: self.opt_text()?,
                host: self.opt_text()?,
                scheme: self.opt_text()?,
                message: self.message(fetch)?,
            })
        } else {
            None
        };
        let response = if self.bool()? {
            Some(Response { status: self.opt_small()?, reason: self.boxed()?, message: self.message(fetch)? })
        } else {
            None
        };
        let interim =
            self.many(|r| Ok(Interim { status: r.small()?, time: r.time()?, headers: r.headers()? }))?;
        let websocket = if self.bool()? {
            let (frames, messages_dropped) = (self.int()?, self.int()?);
            let (extensions, close_code) = (self.opt_text()?, self.opt_small()?);
            let messages = self.many(|r| {
                Ok(WsMessage {
                    to_server: r.bool()?,
                    time: r.time()?,
                    opcode: r.byte()?,
                    frames: r.small()?,
                    size: r.int()?,
                    complete: r.bool()?,
                    sha256: r.hash()?,
                    bytes: r.kept(fetch)?,
                })
            })?;
            Some(WebSocket { frames, messages, messages_dropped, extensions, close_code })
        } else {
            None
        };
        let gaps = self.many(|r| {
            Ok(GapMark { to_server: r.bool()?, offset: r.int()?, length: r.int()?, cause: cause(r.byte()?)? })
        })?;
        let anomalies = self.many(|r| {
            let (id, detail) = (r.text()?, r.boxed()?);
            // A name that we do not know was written by a newer fedisniff of the same format: left out.
            Ok(AnomalyKind::ALL.iter().find(|k| k.id() == id).map(|kind| Anomaly { kind: *kind, detail }))
        })?;
        Ok(Exchange {
            id,
            flow: FlowId(0),
            ends,
            interface: Interface::Unknown,
            interface_name,
            protocol,
            started,
            ended,
            request,
            response,
            interim,
            websocket,
            gaps,
            anomalies: anomalies.into_iter().flatten().collect(),
        })
    }

    fn reading(&mut self) -> Read<Reading> {
        let id = self.text()?;
        // As with anomalies: a kind that only a newer fedisniff knows.
        let kind = Kind::ALL.iter().copied().find(|k| k.id() == id).unwrap_or(Kind::Unknown);
        let sentence = Sentence { template: self.boxed()?.into_string().into(), slots: self.slots()? };
        let activity = if self.bool()? {
            Some(Activity {
                id: self.opt_text()?,
                r#type: self.opt_text()?,
                actor: self.opt_text()?,
                object: self.opt_text()?,
                object_type: self.opt_text()?,
                inner: self.opt_text()?,
                target: self.opt_text()?,
                excerpt: self.opt_text()?,
                to: self.many(Self::boxed)?,
                cc: self.many(Self::boxed)?,
                visibility: self.opt_code(visibility)?,
            })
        } else {
            None
        };
        let signature = Signature {
            scheme: self.opt_code(scheme)?,
            key_id: self.opt_text()?,
            algorithm: self.opt_text()?,
            covered: self.many(Self::boxed)?,
            verdict: verdict(self.byte()?)?,
            explanation: self.opt_text()?,
        };
        let digest = digest(self.byte()?)?;
        let origin = if self.bool()? {
            Some(Origin {
                address: self.opt_text()?,
                address_from: self.opt_code(source)?,
                host: self.opt_text()?,
                host_from: self.opt_code(source)?,
                software: self.opt_text()?,
                software_from: self.opt_code(source)?,
            })
        } else {
            None
        };
        let lints =
            self.many(|r| Ok(Lint { id: r.boxed()?, severity: severity(r.byte()?)?, detail: r.boxed()? }))?;
        let (reason, federation) = (self.opt_text()?, self.bool()?);
        let (caused_by, caused) = self.links()?;
        Ok(Reading {
            kind,
            sentence,
            activity,
            signature,
            digest,
            origin,
            lints,
            reason,
            federation,
            caused_by,
            caused,
        })
    }

    fn links(&mut self) -> Read<(Option<Link>, Vec<Link>)> {
        if self.version < 2 {
            return Ok((None, Vec::new()));
        }
        let link = |r: &mut Self| Ok(Link { id: ExchangeId(r.array()?), proven: r.bool()? });
        let by = self.many(link)?;
        if by.len() > 1 {
            return Err(Damaged);
        }
        Ok((by.first().copied(), self.many(link)?))
    }

    fn slots(&mut self) -> Read<Vec<Slot>> {
        self.many(|r| Ok((r.boxed()?.into_string().into(), r.boxed()?)))
    }

    fn row(&mut self) -> Read<Row> {
        let id = ExchangeId(self.array()?);
        let started = Timestamp(u64::from_be_bytes(self.array()?));
        let (from, to, kind) = (self.boxed()?, self.boxed()?, self.boxed()?);
        let (sentence, template) = (self.boxed()?, self.boxed()?);
        let (from_software, activity, activity_id) = (self.opt_text()?, self.opt_text()?, self.opt_text()?);
        let (excerpt, method, target) = (self.opt_text()?, self.opt_text()?, self.opt_text()?);
        let reason = self.opt_text()?;
        let mut row = Row {
            id,
            started,
            from,
            from_software,
            to,
            kind,
            activity,
            activity_id,
            sentence,
            template: template.into_string().into(),
            slots: self.slots()?,
            excerpt,
            visibility: self.opt_code(visibility)?,
            method,
            target,
            status: self.opt_small()?,
            took_us: self.opt_int()?,
            sent: self.opt_int()?,
            answered: self.opt_int()?,
            scheme: self.opt_code(scheme)?,
            signature: verdict(self.byte()?)?,
            digest: digest(self.byte()?)?,
            reason,
            federation: self.bool()?,
            gaps: self.small()?,
            lint_errors: self.small()?,
            lint_warnings: self.small()?,
            anomalies: self.small()?,
            websocket: self.bool()?,
            caused_by: None,
            caused: Vec::new(),
        };
        (row.caused_by, row.caused) = self.links()?;
        Ok(row)
    }
}
