//! The client's direction: bytes in, pending requests out.

use std::borrow::Cow;

use super::partial::{Extended, PartialHead};
use super::{
    Answering, Begin, Connection, FREE_HEADS, Method, Outcome, Pending, Place, Scope, Speaks, begin_at,
    blank_lines, odd, offset_at,
};
use crate::flow::Direction;
use crate::http::body::BodyBuilder;
use crate::http::h1::{Chunk, Framing, Progress, Receiving};
use crate::http::h2::{self, H2};
use crate::http::head::{self, Parsed, RequestHead};
use crate::http::probe::{self, Prefix};
use crate::http::{Anomaly, AnomalyKind, Config, Message, Request};
use crate::stream::Data;

impl Connection {
    pub(super) fn request_bytes(&mut self, data: &Data<'_>, scope: &mut Scope<'_>) -> Outcome {
        let bytes = &*data.bytes;
        let mut taken = 0_usize;
        if matches!(self.to_server.place, Place::Hunting)
            && let Some(outcome) = self.hunt(data, scope)
        {
            return outcome;
        }
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match &mut self.to_server.place {
                Place::Start => {
                    if matches!(self.speaks, Speaks::Unknown) && !self.to_server.lost {
                        match (probe::preface(rest), probe::proxy_header(rest)) {
                            (Prefix::Whole(_), _) => {
                                self.leave(scope);
                                self.speaks =
                                    Speaks::H2(Box::new(H2::new(self.ends, self.flow, h2::Start::Preface)));
                                return Outcome::Switched(taken);
                            }
                            (_, Prefix::Whole(length)) => {
                                taken = taken.saturating_add(length);
                                continue;
                            }
                            (Prefix::Partial, _) | (_, Prefix::Partial) if self.to_client.ended.is_none() => {
                                self.to_server.latest = data.time;
                                self.to_server.place =
                                    Place::Head(PartialHead::new(begin_at(data, taken), true));
                                continue;
                            }
                            _ => {}
                        }
                    }
                    let blank = blank_lines(rest);
                    if blank > 0 {
                        self.to_server.blank = true;
                        taken = taken.saturating_add(blank);
                        continue;
                    }
                    if self.request_waits() {
                        return self.wait(data, taken, scope);
                    }
                    match head::request(rest, scope.config) {
                        Parsed::Whole(head, length) => {
                            let begin = begin_at(data, taken);
                            taken = taken.saturating_add(length);
                            self.to_server.latest = data.time;
                            self.request_head(head, begin, offset_at(data, taken), scope);
                        }
                        Parsed::Partial => {
                            self.begin_head(data, taken, scope);
                            return Outcome::Done;
                        }
                        Parsed::Not => return self.no_message(data, taken, scope),
                    }
                }
                Place::Head(partial) if partial.prefix => {
                    let octet = rest.get(..1).unwrap_or_default();
                    match partial.extend_prefix(octet, scope.config, scope.budget) {
                        Extended::Refused => {
                            self.drop_head(Direction::ToServer, scope);
                            continue;
                        }
                        Extended::More => {
                            taken = taken.saturating_add(1);
                            if !partial.prefix {
                                // The empty lines before a request look like the beginning of a PROXY header.
                                let blank = blank_lines(&partial.bytes);
                                partial.bytes.drain(..blank);
                                if blank > 0 {
                                    // The octet at hand is the first that is none.
                                    partial.begin = begin_at(data, taken.saturating_sub(1));
                                }
                                let nothing_else = partial.bytes.is_empty();
                                self.to_server.blank |= blank > 0;
                                if nothing_else {
                                    self.take_head(Direction::ToServer, scope);
                                }
                            }
                        }
                        Extended::Ends(_) => {
                            taken = taken.saturating_add(1);
                            let Some(partial) = self.take_head(Direction::ToServer, scope) else { continue };
                            if matches!(probe::preface(&partial.bytes), Prefix::Whole(_)) {
                                let mut h2 = Box::new(H2::new(self.ends, self.flow, h2::Start::Preface));
                                let (bytes, offset) = (Cow::Borrowed(&*partial.bytes), partial.begin.offset);
                                let preface = Data { bytes, offset, ..*data };
                                h2.data(&preface, scope.config, scope.budget, scope.out);
                                self.leave(scope);
                                self.speaks = Speaks::H2(h2);
                                return Outcome::Switched(taken);
                            }
                        }
                    }
                }
                Place::Head(partial) => {
                    self.to_server.latest = self.to_server.latest.max(data.time);
                    match partial.extend(rest, scope.config, scope.budget) {
                        Extended::More => return Outcome::Done,
                        Extended::Refused => {
                            self.drop_head(Direction::ToServer, scope);
                            *scope.hunted = scope.hunted.saturating_add(rest.len() as u64);
                            return Outcome::Done;
                        }
                        Extended::Ends(length) => {
                            taken = taken.saturating_add(length);
                            let Some(partial) = self.take_head(Direction::ToServer, scope) else { continue };
                            match self.request_of(&partial, scope.config) {
                                Some(head) => {
                                    self.request_head(head, partial.begin, offset_at(data, taken), scope);
                                }
                                None => return self.no_head(&partial, data, taken, scope),
                            }
                        }
                    }
                }
                Place::Body(receiving) => {
                    if taken == 0
                        && receiving.expects
                        && receiving.untouched()
                        && data.segment_start
                        && head::believable_request(rest)
                    {
                        self.to_server.lost |= receiving.torn();
                        self.finish_request(
                            false,
                            Some((AnomalyKind::EarlyResponse, "the body was never sent")),
                            scope,
                        );
                        continue;
                    }
                    self.to_server.latest = self.to_server.latest.max(data.time);
                    let (length, progress) = receiving.push(rest, scope.config, scope.budget);
                    taken = taken.saturating_add(length);
                    match progress {
                        Progress::More => {}
                        Progress::Done => {
                            if let Some(last) = self.pending.back_mut() {
                                last.end = offset_at(data, taken);
                            }
                            self.finish_request(true, None, scope);
                        }
                        Progress::Broken => {
                            self.finish_request(false, Some((AnomalyKind::BadChunk, "")), scope);
                            self.to_server.out_of_step();
                        }
                    }
                }
                Place::Hunting => {
                    *scope.hunted = scope.hunted.saturating_add(rest.len() as u64);
                    return Outcome::Done;
                }
            }
        }
        Outcome::Done
    }

    /// A request's head is there to its end.
    pub(super) fn request_head(&mut self, head: RequestHead, begin: Begin, end: u64, scope: &mut Scope<'_>) {
        self.speaks = Speaks::Http1;
        self.client_goes_on(begin.ack, self.to_server.lost, scope);
        let RequestHead { method, target, host, scheme, version, headers, facts, anomalies } = head;
        let kind = match &*method {
            "HEAD" => Method::Head,
            "CONNECT" => Method::Connect,
            _ => Method::Other,
        };
        let framing = if facts.chunked {
            Some(Framing::Chunked(Chunk::FIRST))
        } else if facts.other_coding {
            // RFC 9112 §6.3: its length cannot be told; a server refuses it and closes.
            Some(Framing::UntilClose)
        } else {
            facts.length.filter(|length| *length > 0).map(Framing::Length)
        };
        let builder = BodyBuilder::new(&headers, None, scope.config).expecting(facts.length.unwrap_or(0));
        let octets = headers.octets().saturating_add(target.len());
        let message = Message {
            version,
            headers,
            first_byte: begin.time,
            last_byte: self.to_server.latest,
            ..Message::default()
        };
        let mut exchange = self.exchange(Direction::ToServer, begin, version);
        exchange.request =
            Some(Request { method: Some(method), target: Some(target), host, scheme, message });
        exchange.anomalies = anomalies;
        self.oddities_before(Direction::ToServer, &mut exchange);
        let after_loss = std::mem::take(&mut self.to_server.lost);
        // Sent without having received anything since the last request?
        self.pipelines |= begin.ack.zip(self.last_ack).is_some_and(|(ack, before)| ack <= before);
        self.last_ack = begin.ack.or(self.last_ack);
        let charge = if octets > FREE_HEADS || !self.pending.is_empty() { octets } else { 0 };
        let granted = scope.budget.take(0, charge, scope.config);
        self.pending.push_back(Pending {
            exchange,
            start: begin.offset,
            end: u64::MAX,
            ack: begin.ack,
            method: kind,
            switches: facts.upgrade || kind == Method::Connect,
            after_loss,
            asked: false,
            answered: false,
            doubtful: false,
            charged: if granted { charge } else { 0 },
        });
        let mut receiving = Receiving::new(builder, framing.unwrap_or(Framing::Length(0)));
        receiving.expects = facts.expects;
        self.to_server.place = Place::Body(Box::new(receiving));
        if self.pending.len() > scope.config.pipeline_limit || !granted {
            self.overflow(scope);
        }
        if framing.is_none() {
            if let Some(last) = self.pending.back_mut() {
                last.end = end;
            }
            self.finish_request(true, None, scope);
        }
    }

    /// The request at hand is over.
    pub(super) fn finish_request(
        &mut self,
        complete: bool,
        cut: Option<(AnomalyKind, &str)>,
        scope: &mut Scope<'_>,
    ) {
        let Some(receiving) = self.to_server.take_body() else { return };
        let latest = self.to_server.latest;
        let mut anomalies = Vec::new();
        let (body, trailers) = receiving.finish(complete, scope.config, scope.budget, &mut anomalies);
        // The request at hand is always the last; where it was given up (overflow) nothing is left to fill.
        let Some(last) = self.pending.back_mut().filter(|last| !last.asked) else { return };
        last.asked = true;
        if let Some(request) = &mut last.exchange.request {
            request.message.body = body;
            request.message.trailers = trailers;
            request.message.last_byte = request.message.last_byte.max(latest);
        }
        for anomaly in anomalies {
            odd(&mut last.exchange, anomaly.kind, &anomaly.detail);
        }
        if let Some((kind, detail)) = cut {
            odd(&mut last.exchange, kind, detail);
        }
        if !last.answered {
            last.hold(Direction::ToServer, scope);
        }
        self.settle(scope);
    }

    /// Too many requests wait: the oldest that is not being answered is told without an answer.
    pub(super) fn overflow(&mut self, scope: &mut Scope<'_>) {
        let at = usize::from(self.answering == Answering::Front);
        if at.saturating_add(1) >= self.pending.len() {
            return;
        }
        if let Some(mut oldest) = self.pending.remove(at) {
            odd(&mut oldest.exchange, AnomalyKind::PipelineOverflow, "");
            oldest.tell(scope);
        }
        if let Some(next) = self.pending.get_mut(at) {
            next.after_loss = true;
        }
        self.pipelines = true;
    }

    pub(super) fn request_of(&self, partial: &PartialHead, config: &Config) -> Option<RequestHead> {
        if partial.overflow.is_none() {
            match head::request(&partial.bytes, config) {
                Parsed::Whole(head, _) => return Some(head),
                // In one segment it would be none either.
                Parsed::Not => return None,
                Parsed::Partial => {}
            }
        }
        let mut head = head::lenient_request(&partial.bytes, config)?;
        if partial.overflow.is_some() {
            head.anomalies.push(Anomaly::new(AnomalyKind::HeadTooLarge, ""));
        }
        Some(head)
    }
}
