//! The streams of a connection: opened, filled, reset, left behind, and told as exchanges once nothing more can come.

use super::frame;
use super::stream::{Fields, Half, Stream};
use super::{ANOMALIES_LIMIT, BETWEEN, Begin, CLOSED_LIMIT, Content, Cut, H2, Head, Now, Place, message};
use crate::flow::Direction;
use crate::http::body::Budget;
use crate::http::{Anomaly, AnomalyKind, Config, Headers, Out, exchange_id, hpack};

impl H2 {
    /// A header block is there; `cut` where it is only its beginning, with the reason.
    pub(super) fn block(
        &mut self,
        now: &mut Now<'_>,
        head: Head,
        begin: Begin,
        promised: Option<u32>,
        octets: &[u8],
        cut: Option<Cut>,
    ) {
        let mut fields = Fields::default();
        let config = now.config;
        let decoded = self.side_mut(now).hpack.decode(octets, &mut |field| fields.add(field, config));
        self.charge_table(now);
        let number = promised.unwrap_or(head.stream);
        let end = head.has(frame::END_STREAM) && promised.is_none();
        let unknown = fields.unknown;
        let mut odd: Vec<(AnomalyKind, String)> = Vec::new();
        match (decoded, cut) {
            (_, Some(cut)) => {
                odd.push((cut.why, format!("the {}'s header fields are cut off", message(now.direction))));
            }
            (Err(error), None) => odd.push((AnomalyKind::HpackError, error.to_string())),
            (Ok(()), None) => {}
        }
        if unknown {
            odd.push((
                AnomalyKind::HpackLost,
                format!("header fields of the {} are unknown", message(now.direction)),
            ));
        }
        if fields.dropped {
            odd.push((AnomalyKind::HeadTooLarge, "header fields beyond the limit were dropped".into()));
        }
        if let Some(fault) = fields.fault {
            odd.push((AnomalyKind::H2Protocol, fault.into()));
        }
        if promised.is_some() {
            self.promise(now, number, begin, fields);
        } else {
            self.head(now, number, begin, end, fields);
        }
        if let Some(stream) = self.streams.get_mut(&number) {
            for (kind, detail) in &odd {
                stream.name(*kind, detail);
            }
            if let Some(mark) = cut.and_then(|cut| cut.hole) {
                stream.mark(mark);
            }
        }
        self.settle(now, number);
    }

    /// Charges for what the header table grew by, or gives back what it shrank by; forgets it without memory.
    fn charge_table(&mut self, now: &mut Now<'_>) {
        let side = match now.direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        let held = side.hpack.held().saturating_sub(hpack::DEFAULT_LIMIT);
        if held <= side.charged
            || now.budget.take(side.charged, held.saturating_sub(side.charged), now.config)
        {
            now.budget.give(side.charged.saturating_sub(held));
            side.charged = held;
        } else {
            side.hpack.lose();
            now.budget.give(std::mem::take(&mut side.charged));
        }
    }

    /// A header section or trailer section of a stream.
    fn head(&mut self, now: &mut Now<'_>, number: u32, begin: Begin, end: bool, fields: Fields) {
        let direction = now.direction;
        if !self.ready(now, number, begin, &fields) {
            return;
        }
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let mut fields = fields;
        if !stream.charge(fields.cost(), now.config, now.budget) {
            fields.headers = Headers::default();
            stream.name(AnomalyKind::BodyBudget, "header fields were not kept");
        }
        let status = fields.status;
        let id = |from| exchange_id(self.ends, begin.time, from, begin.offset, number);
        match (direction, stream.half(direction)) {
            (_, Some(half)) if half.ended => self.odd("a header block after the end of its stream"),
            (Direction::ToClient, Some(half))
                if status.is_some() && half.fields.status.is_none() && !half.content_begun =>
            {
                // A final status after a header section of unknown status: that one was interim.
                stream.name(AnomalyKind::HpackLost, "an interim response of unknown status");
                stream.answered(Half::new(fields, begin.time, true, now.config));
            }
            (_, Some(_)) => {
                if fields.has_pseudo() {
                    stream.name(AnomalyKind::H2Protocol, "pseudo-header fields in trailers");
                } else if !end {
                    stream.name(AnomalyKind::H2Protocol, "trailers that do not end the stream");
                }
                stream.trailers(direction, fields);
            }
            (Direction::ToServer, None) => {
                stream.asked(Half::new(fields, begin.time, false, now.config), id(direction), now.interface);
            }
            (Direction::ToClient, None) => {
                stream.answer_ack = now.ack;
                match status {
                    Some(status @ 100..200) if !end => stream.interim(status, fields.headers, begin.time),
                    _ => stream.answered(Half::new(fields, begin.time, true, now.config)),
                }
            }
        }
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.touch(direction, now.time);
            if end {
                stream.end(direction);
            }
        }
    }

    /// Makes sure that the stream of a header block is there; false where it must not be.
    fn ready(&mut self, now: &mut Now<'_>, number: u32, begin: Begin, fields: &Fields) -> bool {
        let opens = now.direction == Direction::ToServer;
        if number == 0 || (opens && number.is_multiple_of(2)) {
            return false;
        }
        let new = opens && number > self.highest;
        if new {
            // The first stream after a loss: those from here on are known.
            self.known_from = self.known_from.min(number);
            self.highest = number;
        }
        if self.streams.contains_key(&number) {
            return true;
        }
        if !new && self.is_closed(number) {
            return false;
        }
        let trailers_alone = opens && !fields.unknown && !fields.has_pseudo();
        self.open(now, number, begin);
        if trailers_alone && let Some(stream) = self.streams.get_mut(&number) {
            *stream.half(now.direction) = Some(Half::without_head(begin.time, false, now.config));
        }
        true
    }

    /// Whether a stream that is not open is finished, as far as that is known.
    fn is_closed(&self, number: u32) -> bool {
        self.was_seen(number) || self.closed.contains(&number)
    }

    /// Whether a stream is the client's, and all that it opened from there on were seen.
    fn was_seen(&self, number: u32) -> bool {
        !number.is_multiple_of(2) && (self.known_from..=self.highest).contains(&number)
    }

    fn open(&mut self, now: &mut Now<'_>, number: u32, begin: Begin) {
        if self.streams.len() >= now.config.streams_limit.max(1)
            && let Some((oldest, mut stream)) = self.streams.pop_first()
        {
            stream.name(AnomalyKind::PipelineOverflow, "more open streams than are followed");
            self.tell(oldest, stream, now.config, now.budget, now.out);
        }
        let id = exchange_id(self.ends, begin.time, now.direction, begin.offset, number);
        self.streams.insert(number, Box::new(Stream::new(id, now.interface, begin.time)));
    }

    /// The server announces a request that it answers unasked (§8.4).
    fn promise(&mut self, now: &mut Now<'_>, number: u32, begin: Begin, fields: Fields) {
        if number == 0 || !number.is_multiple_of(2) || self.streams.contains_key(&number) {
            return self.odd("a PUSH_PROMISE for a stream that cannot be promised");
        }
        self.open(now, number, begin);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let half = Half::new(fields, begin.time, false, now.config);
        let id = exchange_id(self.ends, begin.time, now.direction, begin.offset, number);
        stream.asked(half, id, now.interface);
        stream.end(Direction::ToServer);
        stream.name(AnomalyKind::UnsolicitedResponse, "promised by the server (PUSH_PROMISE)");
    }

    /// DATA of a stream begins: its half must be there, with or without a header section.
    pub(super) fn content_begins(&mut self, now: &mut Now<'_>, begin: Begin, content: &Content) {
        let (direction, number) = (now.direction, content.stream);
        if number == 0 {
            return;
        }
        if !self.streams.contains_key(&number) {
            // Without a header section only where that can have been missed.
            if !self.side(now).missed || self.is_closed(number) {
                return;
            }
            if direction == Direction::ToServer {
                self.highest = self.highest.max(number);
            }
            self.open(now, number, begin);
        }
        let Some(stream) = self.streams.get_mut(&number) else { return };
        match stream.half(direction) {
            Some(half) if half.ended => self.odd("DATA after the end of its stream"),
            Some(_) => {}
            None => {
                let half = Half::without_head(now.time, direction == Direction::ToClient, now.config);
                if direction == Direction::ToClient {
                    stream.answer_ack = now.ack;
                    stream.answered(half);
                } else {
                    *stream.half(direction) = Some(half);
                }
            }
        }
    }

    /// A DATA frame is over.
    pub(super) fn content_ends(&mut self, now: &mut Now<'_>) {
        let place = std::mem::replace(&mut self.side_mut(now).place, BETWEEN);
        let Place::Data(content) = place else { return };
        if content.end
            && let Some(stream) = self.streams.get_mut(&content.stream)
        {
            stream.touch(now.direction, now.time);
            stream.end(now.direction);
        }
        self.settle(now, content.stream);
    }

    /// RST_STREAM (§6.4).
    pub(super) fn reset(&mut self, now: &mut Now<'_>, number: u32, code: u32) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let who = match now.direction {
            Direction::ToServer => "client",
            Direction::ToClient => "server",
        };
        let detail = format!("by the {who}: {}", frame::error_name(code));
        stream.name(AnomalyKind::H2StreamReset, &detail);
        // The request may come yet, if a hole holds it up.
        if stream.request.is_none() && self.waits(now, number) {
            return;
        }
        if let Some(stream) = self.streams.remove(&number) {
            self.tell(number, stream, now.config, now.budget, now.out);
        }
    }

    /// GOAWAY (§6.8): the server has not looked at streams above `last`, and will not.
    pub(super) fn go_away(&mut self, now: &mut Now<'_>, last: u32, code: u32) {
        if now.direction != Direction::ToClient {
            return;
        }
        let above = self.streams.split_off(&last.saturating_add(1));
        for (number, mut stream) in above {
            if number.is_multiple_of(2) || stream.response.is_some() {
                self.streams.insert(number, stream);
                continue;
            }
            stream.name(AnomalyKind::H2GoAway, frame::error_name(code));
            self.tell(number, stream, now.config, now.budget, now.out);
        }
    }

    /// Tells a stream if nothing more can come.
    pub(super) fn settle(&mut self, now: &mut Now<'_>, number: u32) {
        let Some(stream) = self.streams.get(&number) else { return };
        if stream.request.is_none() {
            let answered = stream.response.as_ref().is_some_and(|response| response.ended);
            if !answered || self.waits(now, number) {
                return;
            }
        } else if !stream.complete() {
            return;
        }
        if let Some(stream) = self.streams.remove(&number) {
            self.tell(number, stream, now.config, now.budget, now.out);
        }
    }

    /// Whether the request of an answered stream may still come: the server had received more than was delivered here.
    fn waits(&mut self, now: &Now<'_>, number: u32) -> bool {
        let ack = self.streams.get(&number).and_then(|stream| stream.answer_ack).or(now.ack);
        let Some(ack) = ack else { return false };
        let due = self.to_server.position < ack && self.to_server.ended.is_none();
        if due {
            self.waiting.insert((ack, number));
        }
        due
    }

    /// A direction has been delivered up to `position`.
    pub(super) fn passed(&mut self, now: &mut Now<'_>, position: u64) {
        self.side_mut(now).position = position;
        if now.direction != Direction::ToServer {
            return;
        }
        while let Some(&(ack, number)) = self.waiting.first() {
            if ack > position {
                break;
            }
            self.waiting.pop_first();
            // Still without a request: it never came. With one, it goes its ordinary way.
            let lone = self.streams.get(&number).is_some_and(|stream| stream.request.is_none());
            if lone && let Some(stream) = self.streams.remove(&number) {
                self.tell(number, stream, now.config, now.budget, now.out);
            }
        }
    }

    pub(super) fn tell(
        &mut self,
        number: u32,
        mut stream: Box<Stream>,
        config: &Config,
        budget: &mut Budget,
        out: &mut dyn Out,
    ) {
        for odd in self.anomalies.drain(..) {
            stream.name(odd.kind, &odd.detail);
        }
        if !self.was_seen(number) {
            match self.closed.get_mut(self.closed_next) {
                Some(place) => *place = number,
                None => self.closed.push(number),
            }
            self.closed_next = self.closed_next.wrapping_add(1) % CLOSED_LIMIT;
        }
        // A promise that is never kept, or a reset of what was never said, is no exchange.
        if stream.request.is_none() && stream.response.is_none() {
            stream.discard(budget);
            return;
        }
        out.push(stream.finish(self.flow, self.ends, config, budget));
    }

    pub(super) fn odd(&mut self, detail: &str) {
        let kind = AnomalyKind::H2Protocol;
        let known = self.anomalies.iter().any(|a| a.kind == kind && &*a.detail == detail);
        if !known && self.anomalies.len() < ANOMALIES_LIMIT {
            self.anomalies.push(Anomaly { kind, detail: detail.into() });
        }
    }
}
