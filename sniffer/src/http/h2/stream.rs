//! One stream of an HTTP/2 connection (RFC 9113 §8): header fields and DATA of both directions in, an exchange out. It
//! knows no frames and no other stream; what the connection could not know is `None` here.

use super::super::body::{BodyBuilder, Budget};
use super::super::InFlight;
use super::super::cost::{ALLOCATION, anomalies, headers, interim, request, vector};
use super::super::websocket::Talk;
use super::super::{
    Anomaly, AnomalyKind, Body, Config, Exchange, ExchangeId, Field, GapMark, Headers, Interim, Message,
    Protocol, Request, Response,
};
use crate::flow::{Direction, Ends, FlowId};
use crate::frame::{Interface, Timestamp};

/// Holes remembered for one stream; the last one then stands for all that follow.
const GAPS_LIMIT: usize = 64;
/// Different anomalies named for one stream.
const ANOMALIES_LIMIT: usize = 32;

/// A decoded header block.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// The regular fields, in order.
    pub(super) headers: Headers,
    pub(super) method: Option<Box<str>>,
    pub(super) path: Option<Box<str>>,
    pub(super) authority: Option<Box<str>>,
    pub(super) scheme: Option<Box<str>>,
    /// RFC 8441 §4.
    pub(super) protocol: Option<Box<str>>,
    pub(super) status: Option<u16>,
    /// A field or a part of one is unknown.
    pub(super) unknown: bool,
    /// Fields were left out: too many, too long, or no memory.
    pub(super) dropped: bool,
    /// What is wrong with the fields (§8.2, §8.3).
    pub(super) fault: Option<&'static str>,
    /// Octets of names and values.
    octets: usize,
    regular: bool,
}

impl Fields {
    /// Takes the next field of the block.
    pub(super) fn add(&mut self, (name, value): Field<'_>, config: &Config) {
        self.unknown |= name.is_none() || value.is_none();
        self.octets = self
            .octets
            .saturating_add(name.map_or(0, <[u8]>::len))
            .saturating_add(value.map_or(0, <[u8]>::len));
        if self.octets > config.head_limit || self.headers.len() >= config.fields_limit {
            self.dropped = true;
            return;
        }
        let Some(pseudo) = name.and_then(|name| name.strip_prefix(b":")) else {
            if let Some(name) = name {
                self.regular = true;
                if name.iter().any(u8::is_ascii_uppercase) {
                    self.fault.get_or_insert("a field name with an upper-case letter");
                }
                const OF_CONNECTION: [&[u8]; 5] =
                    [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
                if OF_CONNECTION.contains(&name) {
                    self.fault.get_or_insert("a field that belongs to HTTP/1.1 connections");
                }
            }
            return self.headers.push(name, value);
        };
        if self.regular {
            self.fault.get_or_insert("a pseudo-header field after regular fields");
        } else if !self.headers.is_empty() {
            // Pseudo-header fields come first (§8.3), so what came before this one were such fields, too.
            self.headers = Headers::default();
        }
        let text = || value.map(|value| String::from_utf8_lossy(value).into());
        match pseudo {
            b"method" => self.method = text(),
            b"path" => self.path = text(),
            b"authority" => self.authority = text(),
            b"scheme" => self.scheme = text(),
            b"protocol" => self.protocol = text(),
            b"status" => {
                let code = value.and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse().ok());
                self.status = code.filter(|code| (100..=999).contains(code));
                if self.status.is_none() {
                    self.fault.get_or_insert("a :status that is not a number of three digits");
                }
            }
            _ => {
                self.fault.get_or_insert("a pseudo-header field that is not known");
            }
        }
    }

    /// Whether a pseudo-header field is known to be there: then it is no trailer section (§8.1).
    pub(super) fn has_pseudo(&self) -> bool {
        self.status.is_some()
            || [&self.method, &self.path, &self.authority, &self.scheme].into_iter().any(Option::is_some)
    }

    /// Octets that keeping them takes.
    pub(super) fn cost(&self) -> usize {
        self.octets.saturating_add(self.headers.len().saturating_mul(12))
    }
}

/// One direction of a stream.
#[derive(Debug)]
pub(super) struct Half {
    /// The header section; empty where it was not seen.
    pub(super) fields: Fields,
    trailers: Headers,
    body: Content,
    first: Timestamp,
    last: Timestamp,
    /// False when the header section lies before the capture or in a hole.
    head_seen: bool,
    /// END_STREAM was seen.
    pub(super) ended: bool,
    /// Octets of unknown number are missing: what comes is counted, not joined to what was before.
    torn: bool,
    /// DATA has come.
    pub(super) content_begun: bool,
    /// The body is taken for gzip because of how it begins.
    taken_for_gzip: bool,
}

#[derive(Debug)]
enum Content {
    Building(BodyBuilder),
    /// Of the HTTP/1.1 request that was upgraded.
    Done(Body),
}

/// A stream that is not finished.
#[derive(Debug)]
pub(super) struct Stream {
    interface: Interface,
    id: ExchangeId,
    started: Timestamp,
    /// The HTTP/1.1 request that became stream 1 (RFC 7540 §3.2).
    upgraded: Option<Box<Request>>,
    pub(super) request: Option<Half>,
    pub(super) response: Option<Half>,
    interim: Vec<Interim>,
    gaps: Vec<GapMark>,
    anomalies: Vec<Anomaly>,
    /// How far the server had received when it began to answer.
    pub(super) answer_ack: Option<u64>,
    /// DATA is WebSocket frames (RFC 8441).
    talk: Option<Box<Talk>>,
    /// The answer began before the request was complete.
    early: bool,
    /// When it was last heard of, if a hole touched it.
    touched: Option<Timestamp>,
    /// Octets charged for header fields.
    charged: usize,
}

impl Half {
    /// With the header section that begins it.
    pub(super) fn new(fields: Fields, time: Timestamp, answer: bool, config: &Config) -> Self {
        let status = if answer { Some(fields.status.unwrap_or(0)) } else { None };
        let mut body = BodyBuilder::new(&fields.headers, status, config);
        if let Some(length) = content_length(&fields.headers) {
            body = body.expecting(length);
        }
        Self {
            fields,
            trailers: Headers::default(),
            body: Content::Building(body),
            first: time,
            last: time,
            head_seen: true,
            ended: false,
            torn: false,
            content_begun: false,
            taken_for_gzip: false,
        }
    }

    /// For DATA whose header section was not seen.
    pub(super) fn without_head(time: Timestamp, answer: bool, config: &Config) -> Self {
        Self { head_seen: false, ..Self::new(Fields::default(), time, answer, config) }
    }

    fn of_upgrade(request: &mut Request) -> Self {
        let message = &mut request.message;
        Self {
            fields: Fields {
                headers: std::mem::take(&mut message.headers),
                method: request.method.clone(),
                ..Fields::default()
            },
            trailers: std::mem::take(&mut message.trailers),
            body: Content::Done(std::mem::take(&mut message.body)),
            first: message.first_byte,
            last: message.last_byte,
            head_seen: true,
            ended: true,
            torn: false,
            content_begun: false,
            taken_for_gzip: false,
        }
    }

    fn data(&mut self, bytes: &[u8], config: &Config, budget: &mut Budget) {
        if !self.content_begun {
            self.content_begun = true;
            self.recognise(bytes, config, budget);
        }
        if let Content::Building(body) = &mut self.body {
            if self.torn { body.framing(bytes.len() as u64) } else { body.data(bytes, config, budget) }
        }
    }

    /// Content-Encoding may be among the fields that are unknown. gzip says itself what it is (RFC 1952 §2.3.1), and
    /// its checksum proves it; this is said with the body. The other codings have no such mark.
    fn recognise(&mut self, bytes: &[u8], config: &Config, budget: &mut Budget) {
        let may_be_coded = self.fields.unknown && self.fields.headers.get("content-encoding").is_none();
        if !(may_be_coded && bytes.starts_with(&[0x1f, 0x8b, 0x08])) {
            return;
        }
        let mut headers = Headers::default();
        headers.push(Some(b"content-encoding"), Some(b"gzip"));
        let gzip = Content::Building(BodyBuilder::new(&headers, self.fields.status, config));
        if let Content::Building(plain) = std::mem::replace(&mut self.body, gzip) {
            plain.finish(false, config, budget);
        }
        self.taken_for_gzip = true;
    }

    fn gap(&mut self, length: u64) {
        self.content_begun = true;
        if let Content::Building(body) = &mut self.body {
            if self.torn { body.framing(length) } else { body.gap(length) }
        }
    }

    /// The message as far as it came, and what was odd about its body.
    fn finish(self, config: &Config, budget: &mut Budget, anomalies: &mut Vec<Anomaly>) -> (Message, Fields) {
        let Self { mut fields, trailers, body, first, last, ended, torn, taken_for_gzip, head_seen, .. } =
            self;
        if taken_for_gzip {
            let detail = "Content-Encoding is unknown; the body begins as gzip, and was decoded as that";
            anomalies.push(Anomaly::new(AnomalyKind::HpackLost, detail));
        }
        let body = match body {
            Content::Done(body) => body,
            Content::Building(body) => {
                // Without the header section, DATA may have been missed with it.
                let (body, odd) = body.finish(head_seen && ended && !torn, config, budget);
                anomalies.extend(odd);
                body
            }
        };
        let headers = std::mem::take(&mut fields.headers);
        (Message { version: (2, 0), headers, trailers, body, first_byte: first, last_byte: last }, fields)
    }
}

impl Stream {
    /// What is known of it while it is open; `None` before its request.
    pub(super) fn in_flight(&self, ends: Ends) -> Option<InFlight> {
        let request = self.request.as_ref()?;
        Some(InFlight {
            id: self.id,
            started: self.started,
            ends,
            method: request.fields.method.clone(),
            target: request.fields.path.clone(),
            host: request.fields.authority.clone(),
            status: self.response.as_ref().and_then(|response| response.fields.status),
            websocket: self.talk.is_some(),
        })
    }

    /// A stream whose first octet was seen now.
    pub(super) fn new(id: ExchangeId, interface: Interface, started: Timestamp) -> Self {
        Self {
            interface,
            id,
            started,
            upgraded: None,
            request: None,
            response: None,
            interim: Vec::new(),
            gaps: Vec::new(),
            anomalies: Vec::new(),
            answer_ack: None,
            talk: None,
            early: false,
            touched: None,
            charged: 0,
        }
    }

    /// Stream 1 of a connection that was upgraded: its request is complete.
    pub(super) fn upgraded(
        id: ExchangeId,
        interface: Interface,
        mut request: Box<Request>,
        interim: Vec<Interim>,
        gaps: Vec<GapMark>,
        anomalies: Vec<Anomaly>,
    ) -> Self {
        let half = Half::of_upgrade(&mut request);
        let mut stream = Self::new(id, interface, half.first);
        stream.request = Some(half);
        stream.upgraded = Some(request);
        Self { interim, gaps, anomalies, ..stream }
    }

    /// The half that travels in this direction.
    pub(super) fn half(&mut self, direction: Direction) -> &mut Option<Half> {
        match direction {
            Direction::ToServer => &mut self.request,
            Direction::ToClient => &mut self.response,
        }
    }

    /// A request's header section. `interface` is where it was seen.
    pub(super) fn asked(&mut self, half: Half, id: ExchangeId, interface: Interface) {
        self.started = half.first;
        self.id = id;
        self.interface = interface;
        self.request = Some(half);
    }

    /// A final response's header section.
    pub(super) fn answered(&mut self, half: Half) {
        self.early |= self.request.as_ref().is_some_and(|request| !request.ended);
        let asked = self.request.as_ref().and_then(|request| request.fields.protocol.as_deref());
        let accepted = half.fields.status.is_some_and(|status| (200..300).contains(&status));
        if let (Some(protocol), true) = (asked, accepted) {
            self.early = false;
            if protocol.eq_ignore_ascii_case("websocket") {
                let extensions = half.fields.headers.text("sec-websocket-extensions");
                self.talk = Some(Box::new(Talk::new(extensions)));
            } else {
                let detail = format!("extended CONNECT to {protocol}, which is not decoded");
                self.name(AnomalyKind::UnknownUpgrade, &detail);
            }
        }
        if self.request.as_ref().is_some_and(|r| r.fields.method.as_deref() == Some("CONNECT")) {
            self.early = false;
        }
        self.response = Some(half);
    }

    /// An interim response (1xx).
    pub(super) fn interim(&mut self, status: u16, headers: Headers, time: Timestamp) {
        // RFC 9110 §15.2: any number of them may come; a hundred are enough to show it.
        if self.interim.len() < 100 {
            self.interim.push(Interim { status, time, headers });
        }
    }

    /// A trailer section.
    pub(super) fn trailers(&mut self, direction: Direction, fields: Fields) {
        if let Some(half) = self.half(direction) {
            half.trailers = fields.headers;
        }
    }

    /// DATA, without padding; `frame_start` at the beginning of a frame. The half must be there.
    pub(super) fn data(
        &mut self,
        direction: Direction,
        time: Timestamp,
        bytes: &[u8],
        frame_start: bool,
        config: &Config,
        budget: &mut Budget,
    ) {
        self.touch(direction, time);
        match &mut self.talk {
            Some(talk) => talk.data(direction, time, bytes, frame_start, config, budget),
            None => {
                if let Some(half) = self.half(direction) {
                    half.data(bytes, config, budget);
                }
            }
        }
    }

    /// Missing octets of DATA.
    pub(super) fn gap(
        &mut self,
        direction: Direction,
        time: Timestamp,
        length: u64,
        config: &Config,
        budget: &mut Budget,
    ) {
        match &mut self.talk {
            Some(talk) => talk.gap(direction, time, length, config, budget),
            None => {
                if let Some(half) = self.half(direction) {
                    half.gap(length);
                }
            }
        }
    }

    /// Frames of unknown number and kind are missing, and this stream's may be among them.
    pub(super) fn tear(
        &mut self,
        direction: Direction,
        time: Timestamp,
        config: &Config,
        budget: &mut Budget,
    ) {
        if let Some(talk) = &mut self.talk {
            // More than any frame: out of step for certain.
            talk.gap(direction, time, u64::MAX, config, budget);
        }
        if let Some(half) = self.half(direction) {
            half.torn |= !half.ended;
        }
        self.touched = Some(time);
    }

    /// When it was last heard of, if frames of unknown number were missing since it began.
    pub(super) fn touched(&self) -> Option<Timestamp> {
        self.touched
    }

    /// Whether octets missing in this direction may belong to this stream.
    pub(super) fn open(&self, direction: Direction) -> bool {
        let half = match direction {
            Direction::ToServer => &self.request,
            Direction::ToClient => &self.response,
        };
        half.as_ref().is_none_or(|half| !half.ended)
    }

    /// Whether a hole cut this half where its framing could not be followed.
    pub(super) fn torn(&self, direction: Direction) -> bool {
        let half = match direction {
            Direction::ToServer => &self.request,
            Direction::ToClient => &self.response,
        };
        half.as_ref().is_some_and(|half| half.torn)
    }

    /// Remembers a hole.
    pub(super) fn mark(&mut self, gap: GapMark) {
        if self.gaps.len() < GAPS_LIMIT {
            self.gaps.push(gap);
        } else if let Some(last) = self.gaps.iter_mut().rfind(|last| last.to_server == gap.to_server) {
            last.length = gap.offset.saturating_add(gap.length).saturating_sub(last.offset);
        }
    }

    /// Octets of this half came at `time`.
    pub(super) fn touch(&mut self, direction: Direction, time: Timestamp) {
        if let Some(half) = self.half(direction) {
            half.last = half.last.max(time);
        }
        if let Some(touched) = &mut self.touched {
            *touched = time.max(*touched);
        }
    }

    /// The sender has no more to say.
    pub(super) fn end(&mut self, direction: Direction) {
        if let Some(half) = self.half(direction) {
            half.ended = true;
        }
    }

    /// Names something odd, once.
    pub(super) fn name(&mut self, kind: AnomalyKind, detail: &str) {
        let known = self.anomalies.iter().any(|a| a.kind == kind && &*a.detail == detail);
        if !known && self.anomalies.len() < ANOMALIES_LIMIT {
            self.anomalies.push(Anomaly { kind, detail: detail.into() });
        }
    }

    /// Charges for header fields; false when there is no memory for them.
    pub(super) fn charge(&mut self, octets: usize, config: &Config, budget: &mut Budget) -> bool {
        let granted = budget.take(self.charged, octets, config);
        if granted {
            self.charged = self.charged.saturating_add(octets);
        }
        granted
    }

    /// Both sides have said all: nothing more can come.
    pub(super) fn complete(&self) -> bool {
        let ended = |half: &Option<Half>| half.as_ref().is_some_and(|half| half.ended);
        // A request that a hole tore may have ended in it.
        ended(&self.response) && (ended(&self.request) || self.torn(Direction::ToServer))
    }

    /// What it takes in memory, beside what is charged.
    pub(super) fn cost(&self) -> usize {
        let content = |half: &Half| match &half.body {
            Content::Building(body) => body.cost(),
            Content::Done(_) => 0,
        };
        let half = |half: &Option<Half>| {
            half.as_ref().map_or(0, |half| headers(&half.trailers).saturating_add(content(half)))
        };
        [
            size_of::<Self>(),
            ALLOCATION,
            self.upgraded.as_deref().map_or(0, |asked| size_of_val(asked).saturating_add(request(asked))),
            half(&self.request),
            half(&self.response),
            interim(&self.interim),
            vector::<GapMark>(self.gaps.capacity()),
            anomalies(&self.anomalies),
            self.talk.as_deref().map_or(0, size_of_val),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// Nothing was said on it: gives back what it took of the budget.
    pub(super) fn discard(self, budget: &mut Budget) {
        budget.give(self.charged);
    }

    /// The exchange, as far as it came. Gives back everything to the budget.
    pub(super) fn finish(
        mut self,
        flow: FlowId,
        ends: Ends,
        config: &Config,
        budget: &mut Budget,
    ) -> Box<Exchange> {
        budget.give(self.charged);
        // A method that is not known may be HEAD.
        let method = self.request.as_ref().and_then(|request| request.fields.method.as_deref());
        let head = method.is_none_or(|method| method == "HEAD");
        for (half, what) in [(&self.request, "request"), (&self.response, "response")] {
            if let Some(odd) = half.as_ref().and_then(|half| length_fault(half, head && what == "response")) {
                self.anomalies.push(odd);
            }
            if half.as_ref().is_some_and(|half| half.torn) {
                self.anomalies.push(Anomaly::new(AnomalyKind::CutByGap, what));
            }
            if half.as_ref().is_some_and(|half| !half.head_seen) {
                let detail = format!("the {what}'s header section was not seen");
                self.anomalies.push(Anomaly::new(AnomalyKind::StartNotSeen, detail));
            }
        }
        if self.early
            && let (Some(request), Some(response)) = (&self.request, &self.response)
            && response.first < request.last
        {
            self.anomalies.push(Anomaly::new(AnomalyKind::EarlyResponse, ""));
        }
        let last = [&self.request, &self.response].into_iter().flatten().map(|half| half.last);
        let mut ended = last.chain(self.interim.iter().map(|i| i.time)).fold(self.started, Timestamp::max);
        let websocket = self.talk.map(|talk| {
            let (told, odd) = talk.finish(ended, config, budget);
            self.anomalies.extend(odd);
            told
        });
        if let Some(last) = websocket.as_ref().and_then(|told| told.messages.last()) {
            ended = ended.max(last.time);
        }
        let anomalies = &mut self.anomalies;
        let request = self.request.map(|half| {
            let (message, fields) = half.finish(config, budget, anomalies);
            match self.upgraded {
                Some(mut request) => {
                    let version = request.message.version;
                    request.message = Message { version, ..message };
                    *request
                }
                None => request_of(message, fields),
            }
        });
        let response = self.response.map(|half| {
            let (message, fields) = half.finish(config, budget, anomalies);
            Response { status: fields.status, reason: "".into(), message }
        });
        Box::new(Exchange {
            id: self.id,
            flow,
            ends,
            interface: self.interface,
            interface_name: None,
            protocol: Protocol::H2c,
            started: self.started,
            ended,
            request,
            response,
            interim: self.interim,
            websocket,
            gaps: self.gaps,
            anomalies: self.anomalies,
        })
    }
}

fn request_of(message: Message, fields: Fields) -> Request {
    let host = fields.authority.clone().or_else(|| message.headers.text("host").map(Into::into));
    // An ordinary CONNECT has no path: its target is the authority (RFC 9113 §8.5).
    let connect = fields.method.as_deref() == Some("CONNECT") && fields.protocol.is_none();
    let target = fields.path.or(if connect { fields.authority } else { None });
    Request { method: fields.method, target, host, scheme: fields.scheme, message }
}

/// The value of Content-Length, if it is one number.
fn content_length(headers: &Headers) -> Option<u64> {
    let mut values = headers.get_all("content-length");
    let first = values.next()?;
    let same = values.all(|value| value == first);
    std::str::from_utf8(first).ok().filter(|_| same)?.trim().parse().ok()
}

/// RFC 9113 §8.1.1: the content-length and the sum of the DATA payloads must agree, save where there is no content.
fn length_fault(half: &Half, answer_to_head: bool) -> Option<Anomaly> {
    let known = half.head_seen && half.ended && !half.torn;
    let Content::Building(body) = &half.body else { return None };
    let without_content = answer_to_head || matches!(half.fields.status, Some(204 | 304));
    let carried = body.wire_size();
    if !known || (without_content && carried == 0) || half.fields.headers.get("content-length").is_none() {
        return None;
    }
    match content_length(&half.fields.headers) {
        Some(length) if length == carried => None,
        Some(length) => Some(Anomaly::new(
            AnomalyKind::BadContentLength,
            format!("content-length is {length}, DATA carried {carried}"),
        )),
        None => Some(Anomaly::new(AnomalyKind::BadContentLength, "not one number")),
    }
}
