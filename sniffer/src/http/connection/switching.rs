//! A switch of protocols in the middle of a connection: WebSocket, h2c, tunnels, and what is not known.

use super::{Answering, Connection, Place, Scope, Speaks, Web, add_gap, odd, tell};
use crate::http::h2::{self, H2};
use crate::http::websocket::Talk;
use crate::http::{AnomalyKind, Headers, Interim, Response};

impl Connection {
    /// 101 was said: both directions go on with another protocol.
    pub(super) fn switch(&mut self, scope: &mut Scope<'_>) {
        if let Some(receiving) = self.to_client.take_body() {
            let (body, _) = receiving.finish(true, scope.config, scope.budget, &mut Vec::new());
            if let Some(response) = self.target().and_then(|exchange| exchange.response.as_mut()) {
                response.message.body = body;
            }
        }
        self.finish_request(false, Some((AnomalyKind::EarlyResponse, "")), scope);
        self.leave(scope);
        let (mut exchange, offset) = match std::mem::replace(&mut self.answering, Answering::Nothing) {
            Answering::Front => match self.pending.pop_front() {
                Some(mut front) => {
                    scope.budget.give(std::mem::take(&mut front.charged));
                    (front.exchange, front.start)
                }
                None => return,
            },
            Answering::Lone => match self.lone.take() {
                Some(lone) => (lone, 0),
                None => return,
            },
            Answering::Nothing => return,
        };
        self.believe(scope);
        for left in self.pending.drain(..) {
            left.tell(scope);
        }
        let upgrade = |headers: Option<&Headers>| {
            headers.and_then(|headers| headers.text("upgrade")).map(|text| text.trim().to_ascii_lowercase())
        };
        let token = upgrade(exchange.response.as_ref().map(|response| &response.message.headers))
            .or_else(|| upgrade(exchange.request.as_ref().map(|request| &request.message.headers)))
            .unwrap_or_default();
        self.speaks = match (token.as_str(), exchange.request.is_some()) {
            ("websocket", _) => {
                let extensions = exchange
                    .response
                    .as_ref()
                    .map(|response| {
                        let values = response.message.headers.get_all("sec-websocket-extensions");
                        values
                            .map(|value| String::from_utf8_lossy(value).into_owned())
                            .collect::<Vec<_>>()
                            .join(", ")
                    })
                    .filter(|text| !text.is_empty());
                let talk = Talk::new(extensions.as_deref());
                let last = self.to_client.latest;
                Speaks::WebSocket(Box::new(Web { exchange, talk, last }))
            }
            ("h2c", true) => {
                let (request, response) = (exchange.request.take(), exchange.response.take());
                let mut interim = std::mem::take(&mut exchange.interim);
                if let Some(Response { status: Some(status), message, .. }) = response {
                    interim.push(Interim { status, time: message.first_byte, headers: message.headers });
                }
                match request {
                    Some(request) => {
                        let upgraded = h2::Upgraded {
                            request,
                            interface: exchange.interface,
                            offset,
                            interim,
                            gaps: std::mem::take(&mut exchange.gaps),
                            anomalies: std::mem::take(&mut exchange.anomalies),
                        };
                        let start = h2::Start::Upgraded(Box::new(upgraded));
                        Speaks::H2(Box::new(H2::new(self.ends, self.flow, start)))
                    }
                    None => Speaks::Other,
                }
            }
            _ => {
                odd(&mut exchange, AnomalyKind::UnknownUpgrade, &token);
                tell(exchange, scope);
                Speaks::Other
            }
        };
    }

    /// Whether the last request asked for a WebSocket and its response may be among what was missed.
    pub(super) fn became_websocket(&self) -> bool {
        self.uncertain
            && self.pending.back().is_some_and(|last| {
                let upgrade =
                    last.exchange.request.as_ref().and_then(|request| request.message.headers.get("upgrade"));
                last.asked
                    && !last.answered
                    && upgrade.is_some_and(|token| token.eq_ignore_ascii_case(b"websocket"))
            })
    }

    /// 101 was missed: frames say that it was said.
    pub(super) fn switch_unseen(&mut self, scope: &mut Scope<'_>) {
        self.believe(scope);
        self.leave(scope);
        let Some(last) = self.pending.pop_back() else { return };
        for missed in self.pending.drain(..) {
            missed.tell(scope);
        }
        scope.budget.give(last.charged);
        let mut exchange = last.exchange;
        for hole in &self.to_client.holes {
            add_gap(&mut exchange.gaps, *hole);
        }
        let last = exchange.started;
        self.speaks = Speaks::WebSocket(Box::new(Web { exchange, talk: Talk::mid_stream(), last }));
    }

    /// CONNECT was granted (RFC 9110 §9.3.6): what follows is a connection of its own.
    pub(super) fn tunnel(&mut self, scope: &mut Scope<'_>) {
        self.believe(scope);
        for left in self.pending.drain(..) {
            left.tell(scope);
        }
        self.speaks = Speaks::Unknown;
        for side in [&mut self.to_server, &mut self.to_client] {
            side.place = Place::Start;
            side.lost = false;
            side.seen = false;
            side.holes.clear();
        }
        self.uncertain = false;
        self.pipelines = false;
        (self.last_ack, self.answered_to, self.answer_ack) = (None, None, None);
    }
}
