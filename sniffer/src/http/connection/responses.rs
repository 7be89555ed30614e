//! The server's direction: bytes in, responses out, each to the exchange that pairing names.

use super::partial::{Extended, PartialHead};
use super::{
    Answering, Begin, Connection, INTERIM_LIMIT, Method, Outcome, Place, Scope, Speaks, begin_at,
    blank_lines, odd, offset_at, tell,
};
use crate::flow::Direction;
use crate::http::body::BodyBuilder;
use crate::http::h1::{Chunk, Framing, Progress, Receiving};
use crate::http::h2;
use crate::http::head::{self, Facts, Parsed, ResponseHead};
use crate::http::{Anomaly, AnomalyKind, Config, Exchange, Interim, Message, Response};
use crate::stream::Data;

impl Connection {
    pub(super) fn response_bytes(&mut self, data: &Data<'_>, scope: &mut Scope<'_>) -> Outcome {
        let bytes = &*data.bytes;
        let mut taken = 0_usize;
        // The server says more, and has heard no more than the doubtful request: so that one's answer is yet to come.
        if let Some(doubt) = &self.doubt
            && doubt.end.is_some_and(|end| data.offset >= end)
            && data.ack.is_some_and(|ack| doubt.is_all_heard(ack))
        {
            self.disbelieve(scope);
        }
        if matches!(self.to_client.place, Place::Hunting)
            && let Some(outcome) = self.hunt(data, scope)
        {
            return outcome;
        }
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match &mut self.to_client.place {
                Place::Start => {
                    let blank = blank_lines(rest);
                    if blank > 0 && (matches!(self.speaks, Speaks::Http1)) {
                        self.to_client.blank = true;
                        taken = taken.saturating_add(blank);
                        continue;
                    }
                    if self.response_waits(data.ack) {
                        return self.wait(data, taken, scope);
                    }
                    if matches!(self.speaks, Speaks::Unknown)
                        && !self.to_server.seen
                        && !self.forced
                        && self.to_server.ended.is_none()
                        && h2::looks_like_frames(rest)
                    {
                        // An h2 server may say its settings before the client has said that it is h2.
                        return self.wait(data, taken, scope);
                    }
                    match head::response(rest, scope.config) {
                        Parsed::Whole(head, length) => {
                            let begin = begin_at(data, taken);
                            taken = taken.saturating_add(length);
                            self.to_client.latest = data.time;
                            self.to_client.position = offset_at(data, taken);
                            if self.response_head(head, begin, scope) {
                                return Outcome::Switched(taken);
                            }
                        }
                        Parsed::Partial => {
                            self.begin_head(data, taken, scope);
                            return Outcome::Done;
                        }
                        Parsed::Not => return self.no_message(data, taken, scope),
                    }
                }
                Place::Head(partial) => {
                    self.to_client.latest = self.to_client.latest.max(data.time);
                    match partial.extend(rest, scope.config, scope.budget) {
                        Extended::More => return Outcome::Done,
                        Extended::Refused => {
                            self.drop_head(Direction::ToClient, scope);
                            *scope.hunted = scope.hunted.saturating_add(rest.len() as u64);
                            return Outcome::Done;
                        }
                        Extended::Ends(length) => {
                            taken = taken.saturating_add(length);
                            self.to_client.position = offset_at(data, taken);
                            let Some(partial) = self.take_head(Direction::ToClient, scope) else { continue };
                            match response_of(&partial, scope.config) {
                                Some(head) => {
                                    if self.response_head(head, partial.begin, scope) {
                                        return Outcome::Switched(taken);
                                    }
                                }
                                None => return self.no_head(&partial, data, taken, scope),
                            }
                        }
                    }
                }
                Place::Body(receiving) => {
                    if taken == 0
                        && receiving.perhaps_none
                        && receiving.untouched()
                        && data.segment_start
                        && head::believable_response(rest)
                    {
                        self.finish_response(true, None, scope);
                        continue;
                    }
                    self.to_client.latest = self.to_client.latest.max(data.time);
                    let (length, progress) = receiving.push(rest, scope.config, scope.budget);
                    taken = taken.saturating_add(length);
                    self.to_client.position = offset_at(data, taken);
                    match progress {
                        Progress::More => {}
                        Progress::Done => self.finish_response(true, None, scope),
                        Progress::Broken => {
                            self.finish_response(false, Some((AnomalyKind::BadChunk, "")), scope);
                            self.to_client.out_of_step();
                            self.uncertain = true;
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

    /// A response's head is there to its end; true when the protocol switches behind it.
    pub(super) fn response_head(&mut self, head: ResponseHead, begin: Begin, scope: &mut Scope<'_>) -> bool {
        self.speaks = Speaks::Http1;
        self.to_client.lost = false;
        if self.answering == Answering::Nothing {
            self.answering = self.pair(begin, head.version, scope);
            self.answer_begin = Some(begin);
        }
        let ResponseHead { status, reason, version, headers, facts, anomalies } = head;
        let (method, asked) = match self.answering {
            Answering::Front => self.pending.front().map_or((Method::Other, true), |p| (p.method, p.asked)),
            _ => (Method::Other, true),
        };
        let known =
            self.answering == Answering::Front && self.pending.front().is_some_and(|front| !front.doubtful);
        // Where its sender had heard more than was delivered here, nobody knows.
        let early = !asked
            && self
                .answer_begin
                .is_some_and(|begin| begin.ack.is_none_or(|ack| ack <= self.to_server.position));
        let latest = self.to_client.latest;
        let (blank, stray) =
            (std::mem::take(&mut self.to_client.blank), std::mem::take(&mut self.to_client.stray));
        let Some(exchange) = self.target() else { return false };
        for anomaly in anomalies {
            odd(exchange, anomaly.kind, &anomaly.detail);
        }
        if blank {
            odd(exchange, AnomalyKind::EmptyLineBeforeMessage, "");
        }
        if stray {
            odd(exchange, AnomalyKind::StrayBytes, "before the response");
        }
        if (100..200).contains(&status) && status != 101 {
            if exchange.interim.len() < INTERIM_LIMIT {
                exchange.interim.push(Interim { status, time: begin.time, headers });
            }
            self.to_client.place = Place::Start;
            return false;
        }
        if early {
            odd(exchange, AnomalyKind::EarlyResponse, "");
        }
        let framing = response_framing(status, method, &facts);
        let mut receiving = Receiving::new(
            BodyBuilder::new(&headers, Some(status), scope.config).expecting(facts.length.unwrap_or(0)),
            framing.unwrap_or(Framing::Length(0)),
        );
        receiving.perhaps_none = !known;
        let Some(exchange) = self.target() else { return false };
        let message =
            Message { version, headers, first_byte: begin.time, last_byte: latest, ..Message::default() };
        exchange.response = Some(Response { status: Some(status), reason, message });
        self.to_client.place = Place::Body(Box::new(receiving));
        if status == 101 {
            self.switch(scope);
            return true;
        }
        if framing.is_none() {
            self.finish_response(true, None, scope);
            if method == Method::Connect && (200..300).contains(&status) {
                self.tunnel(scope);
                return true;
            }
        }
        false
    }

    /// The response at hand is over.
    pub(super) fn finish_response(
        &mut self,
        complete: bool,
        cut: Option<(AnomalyKind, &str)>,
        scope: &mut Scope<'_>,
    ) {
        let Some(receiving) = self.to_client.take_body() else { return };
        let latest = self.to_client.latest;
        // A response that was cut ended nobody knows where, unless its length was known.
        let end = match &cut {
            None => Some(self.to_client.position),
            Some(_) => self.torn_end.take(),
        };
        self.uncertain |= cut.is_some();
        self.answered_to = end;
        self.answer_ack = self.answer_begin.and_then(|begin| begin.ack);
        let mut anomalies = Vec::new();
        let (body, trailers) = receiving.finish(complete, scope.config, scope.budget, &mut anomalies);
        let Some(exchange) = self.target() else { return };
        if let Some(response) = &mut exchange.response {
            response.message.body = body;
            response.message.trailers = trailers;
            response.message.last_byte = response.message.last_byte.max(latest);
        }
        for anomaly in anomalies {
            odd(exchange, anomaly.kind, &anomaly.detail);
        }
        if let Some((kind, detail)) = cut {
            odd(exchange, kind, detail);
        }
        match std::mem::replace(&mut self.answering, Answering::Nothing) {
            Answering::Front => {
                // The next request was sent before this answer was received whole.
                let next = self.pending.get(1).and_then(|next| next.ack);
                self.pipelines |= next.zip(end).is_some_and(|(had, end)| had < end);
                if let Some(front) = self.pending.front_mut() {
                    front.answered = true;
                    if !front.asked {
                        front.hold(Direction::ToClient, scope);
                    }
                }
                self.settle(scope);
            }
            Answering::Lone => {
                if let Some(lone) = self.lone.take() {
                    tell(lone, scope);
                }
            }
            Answering::Nothing => {}
        }
    }

    /// The exchange that the response at hand belongs to.
    pub(super) fn target(&mut self) -> Option<&mut Exchange> {
        match self.answering {
            Answering::Nothing => None,
            Answering::Front => self.pending.front_mut().map(|front| &mut *front.exchange),
            Answering::Lone => self.lone.as_deref_mut(),
        }
    }
}

fn response_of(partial: &PartialHead, config: &Config) -> Option<ResponseHead> {
    if partial.overflow.is_none() {
        match head::response(&partial.bytes, config) {
            Parsed::Whole(head, _) => return Some(head),
            Parsed::Not => return None,
            Parsed::Partial => {}
        }
    }
    let mut head = head::lenient_response(&partial.bytes, config)?;
    if partial.overflow.is_some() {
        head.anomalies.push(Anomaly::new(AnomalyKind::HeadTooLarge, ""));
    }
    Some(head)
}

/// How long a response's body is (RFC 9112 §6.3); `None` when there is none.
fn response_framing(status: u16, method: Method, facts: &Facts) -> Option<Framing> {
    let tunnel = method == Method::Connect && (200..300).contains(&status);
    if method == Method::Head || tunnel || matches!(status, 101 | 204 | 304) {
        None
    } else if facts.chunked {
        Some(Framing::Chunked(Chunk::FIRST))
    } else if facts.other_coding {
        Some(Framing::UntilClose)
    } else {
        match facts.length {
            Some(0) => None,
            Some(length) => Some(Framing::Length(length)),
            None => Some(Framing::UntilClose),
        }
    }
}
