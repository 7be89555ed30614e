//! A conversation as stream events: who says what, what is lost, how it ends. Offsets, acknowledgements and times are
//! kept here, so that a test reads like the talk it is about.

use std::borrow::Cow;

use crate::flow::{Direction, Ends, FlowId, Handshake, MID_STREAM_BASE, Opened};
use crate::frame::{Interface, Timestamp};
use crate::http::{AnomalyKind, Config, Counters, Decoder, Exchange};
use crate::stream::{Data, EndKind, Event, GapCause};

pub(super) const ENDS: (&str, &str) = ("10.0.0.1:40000", "10.0.0.2:8080");

pub(super) fn ends() -> Ends {
    Ends { client: ENDS.0.parse().unwrap(), server: ENDS.1.parse().unwrap() }
}

/// Events of one flow, in order.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) events: Vec<Event<'static>>,
    /// Where each direction goes on: to server, to client.
    next: [u64; 2],
    time: u64,
    ended: [bool; 2],
    acks: bool,
}

fn index(direction: Direction) -> usize {
    match direction {
        Direction::ToServer => 0,
        Direction::ToClient => 1,
    }
}

impl Script {
    pub(super) fn new() -> Self {
        Self::with(Handshake::Seen, 0)
    }

    /// Picked up mid-stream.
    pub(super) fn mid_stream() -> Self {
        Self::with(Handshake::MidStream, MID_STREAM_BASE)
    }

    fn with(handshake: Handshake, base: u64) -> Self {
        let opened = Opened { flow: FlowId(1), ends: ends(), time: Timestamp(1_000_000), handshake };
        Self {
            events: vec![Event::Opened(opened)],
            next: [base; 2],
            time: 1_000_000,
            ended: [false; 2],
            acks: true,
        }
    }

    /// As if no segment said what its sender had received.
    pub(super) fn without_acks(mut self) -> Self {
        self.acks = false;
        self
    }

    fn tick(&mut self) -> Timestamp {
        self.time += 1_000;
        Timestamp(self.time)
    }

    /// Lets capture time pass.
    pub(super) fn pause(mut self, nanos: u64) -> Self {
        self.time += nanos;
        self
    }

    fn says(mut self, direction: Direction, bytes: &[u8]) -> Self {
        let time = self.tick();
        let ack = self.acks.then_some(self.next[index(direction.reverse())]);
        let offset = self.next[index(direction)];
        self.next[index(direction)] += bytes.len() as u64;
        self.events.push(Event::Data(Data {
            flow: FlowId(1),
            direction,
            time,
            interface: Interface::Declared(0),
            offset,
            bytes: Cow::Owned(bytes.to_vec()),
            segment_start: true,
                starts: 0,
            ack,
        }));
        self
    }

    /// One segment from the client.
    pub(super) fn client(self, bytes: impl AsRef<[u8]>) -> Self {
        self.says(Direction::ToServer, bytes.as_ref())
    }

    /// One segment from the server.
    pub(super) fn server(self, bytes: impl AsRef<[u8]>) -> Self {
        self.says(Direction::ToClient, bytes.as_ref())
    }

    fn lost(mut self, direction: Direction, length: usize) -> Self {
        let time = self.tick();
        let offset = self.next[index(direction)];
        self.next[index(direction)] += length as u64;
        self.events.push(Event::Gap {
            flow: FlowId(1),
            direction,
            time,
            offset,
            length: length as u64,
            cause: GapCause::AckedUnseen,
        });
        self
    }

    /// Bytes of the client that were never seen.
    pub(super) fn client_lost(self, length: usize) -> Self {
        self.lost(Direction::ToServer, length)
    }

    /// Bytes of the server that were never seen.
    pub(super) fn server_lost(self, length: usize) -> Self {
        self.lost(Direction::ToClient, length)
    }

    fn end(mut self, direction: Direction, kind: EndKind) -> Self {
        if !self.ended[index(direction)] {
            self.ended[index(direction)] = true;
            let time = self.tick();
            self.events.push(Event::End { flow: FlowId(1), direction, time, kind });
        }
        self
    }

    pub(super) fn client_fin(self) -> Self {
        self.end(Direction::ToServer, EndKind::Fin)
    }

    pub(super) fn server_fin(self) -> Self {
        self.end(Direction::ToClient, EndKind::Fin)
    }

    pub(super) fn fin(self) -> Self {
        self.client_fin().server_fin()
    }

    pub(super) fn reset(self) -> Self {
        self.end(Direction::ToServer, EndKind::Reset).end(Direction::ToClient, EndKind::Reset)
    }

    pub(super) fn capture_end(self) -> Self {
        self.end(Direction::ToServer, EndKind::CaptureEnd).end(Direction::ToClient, EndKind::CaptureEnd)
    }

    /// A retransmission with other bytes, at that distance before where the direction goes on.
    pub(super) fn conflict(mut self, direction: Direction, before: u64) -> Self {
        let time = self.tick();
        let offset = self.next[index(direction)] - before;
        self.events.push(Event::Conflict { flow: FlowId(1), direction, time, offset });
        self
    }

    /// The last event of a direction is delivered only after that many later ones: interfaces of one capture have
    /// slightly different clocks.
    pub(super) fn late(mut self, events: usize) -> Self {
        let last = self.events.pop().unwrap();
        let at = self.events.len() - events;
        self.events.insert(at, last);
        self
    }

    pub(super) fn run(&self) -> Told {
        self.run_with(Config::default())
    }

    pub(super) fn run_with(&self, config: Config) -> Told {
        let mut decoder = Decoder::new(config);
        let mut exchanges = Vec::new();
        for event in &self.events {
            decoder.push(event.clone(), &mut exchanges);
            assert!(decoder.counters().held <= config.body_budget as u64);
        }
        decoder.finish(&mut exchanges);
        assert_eq!(decoder.counters().held, 0, "everything is given back");
        Told { exchanges, counters: decoder.counters().clone() }
    }
}

/// What came out.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) exchanges: Vec<Box<Exchange>>,
    pub(super) counters: Counters,
}

impl Told {
    /// A line per exchange: `GET /a "body" -> 200 "body" [anomalies] {holes}`; `-` for what is not there, `!` behind an
    /// incomplete body.
    pub(super) fn lines(&self) -> Vec<String> {
        self.exchanges.iter().map(|exchange| line(exchange)).collect()
    }

    pub(super) fn only(&self) -> &Exchange {
        assert_eq!(self.exchanges.len(), 1, "{:#?}", self.lines());
        &self.exchanges[0]
    }
}

pub(super) fn kinds(exchange: &Exchange) -> Vec<AnomalyKind> {
    exchange.anomalies.iter().map(|anomaly| anomaly.kind).collect()
}

pub(super) fn line(exchange: &Exchange) -> String {
    let body = |body: &crate::http::Body| {
        let mark = if body.complete { "" } else { "!" };
        match String::from_utf8_lossy(&body.bytes) {
            text if text.is_empty() => mark.to_owned(),
            text if text.len() > 40 => format!("[{}]{mark}", body.size),
            text => format!("{text:?}{mark}"),
        }
    };
    let mut line = match &exchange.request {
        None => "-".to_owned(),
        Some(request) => format!(
            "{} {} {}",
            request.method.as_deref().unwrap_or("?"),
            request.target.as_deref().unwrap_or("?"),
            body(&request.message.body)
        ),
    };
    for interim in &exchange.interim {
        line += &format!(" ~{}", interim.status);
    }
    line += " -> ";
    line += &match &exchange.response {
        None => "-".to_owned(),
        Some(response) => {
            format!("{} {}", response.status.unwrap_or(0), body(&response.message.body))
        }
    };
    let names: Vec<&str> = exchange.anomalies.iter().map(|anomaly| anomaly.kind.id()).collect();
    if !names.is_empty() {
        line += &format!(" [{}]", names.join(" "));
    }
    for gap in &exchange.gaps {
        line += &format!(" {{{} {}+{}}}", if gap.to_server { "c" } else { "s" }, gap.offset, gap.length);
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
