//! Where no message is: hunting for one, holes, ends, other protocols. What was begun is told as far as it came.

use super::pairing::Doubt;
use super::partial::PartialHead;
use super::{
    Answering, Connection, FRAMES_BELIEVED, Outcome, Place, Scope, Speaks, Web, add_gap, count, odd, tell,
};
use crate::flow::Direction;
use crate::frame::Timestamp;
use crate::http::h1::Hole;
use crate::http::h2::{self, H2};
use crate::http::head::{self, Facts};
use crate::http::probe::{self, Prefix};
use crate::http::websocket;
use crate::http::{AnomalyKind, FOUND_OTHER_LIMIT, GapMark, OtherProtocol};
use crate::stream::{Data, EndKind};

impl Connection {
    /// Looks for a message at the first byte of a segment. `None` when one begins there, or another protocol does not.
    pub(super) fn hunt(&mut self, data: &Data<'_>, scope: &mut Scope<'_>) -> Option<Outcome> {
        let direction = data.direction;
        let bytes = &*data.bytes;
        if data.segment_start {
            let unknown = matches!(self.speaks, Speaks::Unknown);
            let begins = match direction {
                Direction::ToServer => head::believable_request(bytes),
                Direction::ToClient => head::believable_response(bytes),
            };
            if begins {
                self.side_mut(direction).place = Place::Start;
                return None;
            }
            if unknown
                && direction == Direction::ToServer
                && matches!(probe::preface(bytes), Prefix::Whole(_))
            {
                self.leave(scope);
                self.speaks = Speaks::H2(Box::new(H2::new(self.ends, self.flow, h2::Start::Preface)));
                return Some(Outcome::Switched(0));
            }
            if !unknown && self.became_websocket() && websocket::looks_like_frames(direction, bytes) {
                self.switch_unseen(scope);
                return Some(Outcome::Switched(0));
            }
            if unknown && probe::tls(bytes) {
                self.is_other(OtherProtocol::Tls, scope);
                return Some(Outcome::Done);
            }
            if unknown && h2::looks_like_frames(bytes) {
                self.leave(scope);
                self.speaks = Speaks::H2(Box::new(H2::new(self.ends, self.flow, h2::Start::MidStream)));
                return Some(Outcome::Switched(0));
            }
            // The handshake, which would be the exchange, was before the capture: the flow is counted, not told. Bytes
            // of a body may look like frames by chance, but not in segment after segment.
            if unknown && websocket::looks_like_frames(direction, bytes) {
                self.frame_like = self.frame_like.saturating_add(1);
                if self.frame_like >= FRAMES_BELIEVED {
                    self.is_other(OtherProtocol::WebSocket, scope);
                    return Some(Outcome::Done);
                }
            } else {
                self.frame_like = 0;
            }
        }
        *scope.hunted = scope.hunted.saturating_add(bytes.len() as u64);
        Some(Outcome::Done)
    }

    /// Where a message should begin, none does.
    pub(super) fn no_message(&mut self, data: &Data<'_>, taken: usize, scope: &mut Scope<'_>) -> Outcome {
        let direction = data.direction;
        let rest = data.bytes.get(taken..).unwrap_or_default();
        if matches!(self.speaks, Speaks::Unknown) && !self.mid_stream && !self.side(direction).lost {
            self.is_other(probe::other(direction, rest), scope);
            return Outcome::Done;
        }
        *scope.hunted = scope.hunted.saturating_add(rest.len() as u64);
        // What follows a response of unknown length may well be part of it.
        let sure = direction == Direction::ToServer || !self.uncertain;
        let side = self.side_mut(direction);
        side.stray |= sure;
        side.out_of_step();
        self.uncertain |= direction == Direction::ToClient;
        Outcome::Done
    }

    /// What was collected as a head is none.
    pub(super) fn no_head(
        &mut self,
        partial: &PartialHead,
        data: &Data<'_>,
        taken: usize,
        scope: &mut Scope<'_>,
    ) -> Outcome {
        if matches!(self.speaks, Speaks::Unknown) && !self.mid_stream && !self.side(data.direction).lost {
            let kind = match (probe::preface(&partial.bytes), probe::proxy_header(&partial.bytes)) {
                (_, Prefix::Whole(_)) => OtherProtocol::ProxyProtocol,
                _ => probe::other(data.direction, &partial.bytes),
            };
            self.is_other(kind, scope);
            return Outcome::Done;
        }
        *scope.hunted = scope.hunted.saturating_add(partial.bytes.len() as u64);
        self.no_message(data, taken, scope)
    }

    pub(super) fn is_other(&mut self, kind: OtherProtocol, scope: &mut Scope<'_>) {
        let number = scope.others.entry(kind).or_default();
        *number = number.saturating_add(1);
        if scope.found_other.len() < FOUND_OTHER_LIMIT {
            scope.found_other.push(self.ends);
        }
        self.speaks = Speaks::Other;
        self.leave(scope);
    }

    /// HTTP/1 ends here: what was held of either direction, in case it became a head, is looked at no further.
    pub(super) fn leave(&mut self, scope: &mut Scope<'_>) {
        for direction in [Direction::ToServer, Direction::ToClient] {
            if let Some(partial) = self.take_head(direction, scope) {
                *scope.hunted = scope.hunted.saturating_add(partial.bytes.len() as u64);
            }
        }
    }

    /// A hole in a direction, where HTTP/1 is or may be spoken.
    pub(super) fn hole(&mut self, mark: GapMark, scope: &mut Scope<'_>) {
        let direction = mark.direction();
        let to_server = direction == Direction::ToServer;
        let gap = Some((AnomalyKind::CutByGap, if to_server { "request" } else { "response" }));
        let side = match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        self.torn_end = None;
        match &mut side.place {
            Place::Body(receiving) => {
                let hole = match receiving.perhaps_none && receiving.untouched() {
                    // There may be no body, and another response in the hole.
                    true => Hole::Beyond,
                    false => {
                        self.torn_end = receiving.left().map(|left| mark.offset.saturating_add(left));
                        receiving.gap(mark.length)
                    }
                };
                let end = mark.offset.saturating_add(mark.length);
                match direction {
                    Direction::ToServer => {
                        if let Some(last) = self.pending.back_mut() {
                            add_gap(&mut last.exchange.gaps, mark);
                            if hole != Hole::Inside {
                                last.end = if hole == Hole::AtEnd { end } else { mark.offset };
                            }
                        }
                    }
                    Direction::ToClient => {
                        self.to_client.position = end;
                        if let Some(exchange) = self.target() {
                            add_gap(&mut exchange.gaps, mark);
                        }
                    }
                }
                match (hole, direction) {
                    (Hole::Inside, _) => return,
                    (Hole::AtEnd, Direction::ToServer) => return self.finish_request(true, None, scope),
                    (Hole::AtEnd, Direction::ToClient) => return self.finish_response(true, None, scope),
                    (Hole::Beyond, Direction::ToServer) => self.finish_request(false, gap, scope),
                    (Hole::Beyond, Direction::ToClient) => self.finish_response(false, gap, scope),
                }
            }
            Place::Head(_) => self.cut_head(direction, gap, Some(mark), scope),
            Place::Start | Place::Hunting => {}
        }
        let side = self.side_mut(direction);
        add_gap(&mut side.holes, mark);
        side.out_of_step();
        if !to_server {
            self.uncertain = true;
            self.drop_interim();
        }
    }

    /// A head ends before its end: what is there of it is told if its first line is.
    pub(super) fn cut_head(
        &mut self,
        direction: Direction,
        cut: Option<(AnomalyKind, &str)>,
        mark: Option<GapMark>,
        scope: &mut Scope<'_>,
    ) {
        let Some(partial) = self.take_head(direction, scope) else { return };
        let lines = memchr::memrchr(b'\n', &partial.bytes).map_or(0, |end| end.saturating_add(1));
        let bytes = partial.bytes.get(..lines).unwrap_or_default();
        match direction {
            Direction::ToServer => match head::lenient_request(bytes, scope.config) {
                Some(mut head) => {
                    head.anomalies.retain(|anomaly| anomaly.kind != AnomalyKind::BadHost);
                    // Whether there was a body, and how long it was, may stand in what is missing.
                    head.facts = Facts { length: Some(1), ..Facts::default() };
                    self.request_head(head, partial.begin, u64::MAX, scope);
                    if let Some(last) = self.pending.back_mut() {
                        last.end = mark.map_or(u64::MAX, |mark| mark.offset);
                        if let Some(mark) = mark {
                            add_gap(&mut last.exchange.gaps, mark);
                        }
                    }
                    self.finish_request(false, cut, scope);
                }
                None => *scope.hunted = scope.hunted.saturating_add(partial.bytes.len() as u64),
            },
            Direction::ToClient => match head::lenient_response(bytes, scope.config) {
                Some(mut head) if head.status >= 200 => {
                    head.facts = Facts { length: Some(1), ..Facts::default() };
                    self.response_head(head, partial.begin, scope);
                    if let (Some(mark), Some(exchange)) = (mark, self.target()) {
                        add_gap(&mut exchange.gaps, mark);
                    }
                    self.finish_response(false, cut, scope);
                }
                _ => *scope.hunted = scope.hunted.saturating_add(partial.bytes.len() as u64),
            },
        }
    }

    /// After an interim response the final one was lost: a request waits on, what has none is nothing.
    pub(super) fn drop_interim(&mut self) {
        if self.answering != Answering::Nothing
            && !matches!(self.to_client.place, Place::Body(_) | Place::Head(_))
        {
            self.answering = Answering::Nothing;
            self.lone = None;
        }
    }

    pub(super) fn end(
        &mut self,
        direction: Direction,
        time: Timestamp,
        kind: EndKind,
        scope: &mut Scope<'_>,
    ) {
        match &mut self.speaks {
            Speaks::Unknown | Speaks::Http1 => self.end_of_messages(direction, kind, scope),
            Speaks::H2(h2) => {
                let before = h2.hunted();
                h2.end(direction, time, kind, scope.config, scope.budget, scope.out);
                count(scope.hunted, before, h2.hunted());
            }
            Speaks::WebSocket(_) | Speaks::Other => {}
        }
        let side = self.side_mut(direction);
        side.ended = Some(kind);
        let both = self.to_server.ended.is_some() && self.to_client.ended.is_some();
        if direction == Direction::ToClient {
            self.settle(scope);
        }
        if !both {
            return;
        }
        // Something of a further response was lost, and the client said nothing more that it could answer.
        let (said, holes) = (self.to_server.position, &self.to_client.holes);
        let more = |doubt: &Doubt| holes.iter().any(|hole| doubt.end.is_some_and(|end| hole.offset >= end));
        if self.doubt.as_ref().is_some_and(|doubt| more(doubt) && said <= doubt.pending.end) {
            self.disbelieve(scope);
        }
        self.believe(scope);
        match std::mem::replace(&mut self.speaks, Speaks::Other) {
            Speaks::WebSocket(web) => {
                let Web { mut exchange, talk, last } = *web;
                let (websocket, anomalies) = talk.finish(time, scope.config, scope.budget);
                exchange.websocket = Some(websocket);
                exchange.ended = last;
                for anomaly in anomalies {
                    odd(&mut exchange, anomaly.kind, &anomaly.detail);
                }
                tell(exchange, scope);
            }
            // A direction may have ended before the other showed that this is HTTP/2: that end was not told to it.
            Speaks::H2(mut h2) => h2.finish(scope.config, scope.budget, scope.out),
            // Data came, and nothing of it was ever recognised.
            Speaks::Unknown if self.to_server.seen || self.to_client.seen => {
                let websocket = self.frame_like > 0;
                let kind = if websocket { OtherProtocol::WebSocket } else { OtherProtocol::Unknown };
                self.is_other(kind, scope);
            }
            _ => {}
        }
    }

    pub(super) fn end_of_messages(&mut self, direction: Direction, kind: EndKind, scope: &mut Scope<'_>) {
        let to_server = direction == Direction::ToServer;
        let cut = (
            match kind {
                EndKind::Fin | EndKind::Abandoned => AnomalyKind::CutByClose,
                EndKind::Reset => AnomalyKind::CutByReset,
                EndKind::CaptureEnd => AnomalyKind::CutByCaptureEnd,
            },
            if to_server { "request" } else { "response" },
        );
        match &self.side(direction).place {
            Place::Body(receiving) => {
                let complete = receiving.until_close() && kind == EndKind::Fin;
                let never_sent = receiving.expects && receiving.untouched();
                match direction {
                    Direction::ToServer => {
                        let answered =
                            self.pending.back().is_some_and(|last| last.exchange.response.is_some());
                        let cut = match never_sent && answered {
                            true => (AnomalyKind::EarlyResponse, "the body was never sent"),
                            false => cut,
                        };
                        self.finish_request(complete, (!complete).then_some(cut), scope);
                    }
                    Direction::ToClient => self.finish_response(complete, (!complete).then_some(cut), scope),
                }
            }
            Place::Head(_) => {
                let unknown = matches!(self.speaks, Speaks::Unknown);
                self.cut_head(direction, Some(cut), None, scope);
                if unknown && matches!(self.speaks, Speaks::Unknown) {
                    self.is_other(OtherProtocol::Unknown, scope);
                }
            }
            Place::Start | Place::Hunting => {}
        }
        if !to_server {
            self.drop_interim();
        }
    }
}
