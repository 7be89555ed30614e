//! The pure way as one piece: frames in, exchanges with their readings out. `read`, `watch`, the tests and the fuzz
//! targets all go through here, so that what is tested is what runs.

use std::sync::Arc;

use crate::activitypub::{self, Reading};
use crate::flow;
use crate::frame::{Frame, Interface, Loss, Timestamp};
use crate::http::{self, Exchange};
use crate::stream;

/// The limits of every stage in one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// The flow table.
    pub flow: flow::Config,
    /// Reassembly.
    pub stream: stream::Config,
    /// HTTP.
    pub http: http::Config,
    /// Whether exchanges are read (`false` gives every exchange an unknown reading: for counting only).
    pub readings: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flow: flow::Config::default(),
            stream: stream::Config::default(),
            http: http::Config::default(),
            readings: true,
        }
    }
}

/// What comes out: an exchange and what it meant.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    /// The exchange.
    pub exchange: Box<Exchange>,
    /// Its reading.
    pub reading: Reading,
}

/// What every stage counted.
#[derive(Clone, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct Counters {
    /// Frames and flows.
    pub flow: flow::Counters,
    /// Bytes, gaps, retransmissions.
    pub stream: stream::Counters,
    /// Exchanges and what is not HTTP.
    pub http: http::Counters,
    /// Readings by [`activitypub::Kind`].
    pub readings: std::collections::BTreeMap<&'static str, u64>,
}

/// The stages, joined.
#[derive(Debug)]
pub struct Pipeline {
    flow: flow::Tracker,
    stream: stream::Reassembler,
    http: http::Decoder,
    reader: Option<activitypub::Reader>,
    /// The latest time that any frame carried: the clock of all stages. Never goes back.
    now: Timestamp,
    interface_names: Vec<Option<Arc<str>>>,
    /// How interfaces are written that are known by their index alone (Linux cooked v2 has no names).
    index_names: std::collections::BTreeMap<u32, Arc<str>>,
    /// How many readings of each kind there were.
    readings: std::collections::BTreeMap<&'static str, u64>,
    flow_events: Vec<flow::Event<'static>>,
    stream_events: Vec<stream::Event<'static>>,
    exchanges: Vec<Box<Exchange>>,
}

/// An empty vector's allocation, under another element type of the same layout: the lifetimes of borrowed events end
/// with each frame, the memory need not. `filter_map` to nothing collects in place, without unsafe code.
fn reuse<A, B>(mut used: Vec<A>) -> Vec<B> {
    used.clear();
    used.into_iter().filter_map(|_| None).collect()
}

impl Pipeline {
    /// With nothing seen.
    pub fn new(config: Config) -> Self {
        Self {
            flow: flow::Tracker::new(config.flow),
            stream: stream::Reassembler::new(config.stream),
            http: http::Decoder::new(config.http),
            reader: config.readings.then(activitypub::Reader::new),
            now: Timestamp::default(),
            interface_names: Vec::new(),
            index_names: std::collections::BTreeMap::new(),
            readings: std::collections::BTreeMap::new(),
            flow_events: Vec::new(),
            stream_events: Vec::new(),
            exchanges: Vec::new(),
        }
    }

    /// Names the n-th declared interface (see [`Interface::Declared`]); later calls rename it.
    pub fn name_interface(&mut self, number: u32, name: Option<&str>) {
        let number = number as usize;
        // A capture file cannot declare more interfaces than it has blocks; the reader bounds the number.
        if self.interface_names.len() <= number {
            self.interface_names.resize(number.saturating_add(1), None);
        }
        if let Some(slot) = self.interface_names.get_mut(number) {
            *slot = name.map(Arc::from);
        }
    }

    /// Names an interface that is known by its index; `None` forgets the name, and it is written as `ifindex:N` again.
    pub fn name_index(&mut self, index: u32, name: Option<&str>) {
        match name {
            Some(name) => {
                self.index_names.insert(index, name.into());
            }
            None => {
                self.index_names.remove(&index);
            }
        }
    }

    /// The ends of flows that turned out not to be HTTP since this was asked last: see
    /// [`http::Decoder::take_others`].
    pub fn take_others(&mut self) -> Vec<flow::Ends> {
        self.http.take_others()
    }

    /// Takes a frame; appends what was finished by it to `out`.
    pub fn push(&mut self, frame: &Frame<'_>, out: &mut Vec<Told>) {
        if frame.time > self.now {
            self.now = frame.time;
            self.expire_due(out);
        }
        let mut events = reuse(std::mem::take(&mut self.flow_events));
        self.flow.push(frame, &mut events);
        self.run(&mut events, out);
        self.flow_events = reuse(events);
    }

    /// The source lost frames.
    pub fn lost(&mut self, loss: &Loss) {
        self.stream.lost(loss);
    }

    /// When [`Self::expire`] has something to do next, in capture time.
    pub fn deadline(&self) -> Option<Timestamp> {
        [self.flow.deadline(), self.stream.deadline(), self.http.deadline()].into_iter().flatten().min()
    }

    /// Time has passed without a frame (live capture).
    pub fn expire(&mut self, now: Timestamp, out: &mut Vec<Told>) {
        if now > self.now {
            self.now = now;
            self.expire_due(out);
        }
    }

    /// The capture ended: gives everything that is unfinished, marked as such.
    pub fn finish(&mut self, out: &mut Vec<Told>) {
        let mut events = Vec::new();
        self.flow.finish(&mut events);
        self.run(&mut events, out);
        let mut events = Vec::new();
        self.stream.finish(self.now, &mut events);
        self.decode(&mut events, out);
        self.http.finish(&mut self.exchanges);
        self.tell(out);
    }

    /// What every stage counted so far.
    pub fn counters(&self) -> Counters {
        Counters {
            flow: *self.flow.counters(),
            stream: *self.stream.counters(),
            http: self.http.counters().clone(),
            readings: self.readings.clone(),
        }
    }

    fn expire_due(&mut self, out: &mut Vec<Told>) {
        if self.flow.deadline().is_some_and(|at| at <= self.now) {
            let mut events = Vec::new();
            self.flow.expire(self.now, &mut events);
            self.run(&mut events, out);
        }
        if self.stream.deadline().is_some_and(|at| at <= self.now) {
            let mut events = Vec::new();
            self.stream.expire(self.now, &mut events);
            self.decode(&mut events, out);
        }
        if self.http.deadline().is_some_and(|at| at <= self.now) {
            self.http.expire(self.now, &mut self.exchanges);
            self.tell(out);
        }
    }

    fn run<'a>(&mut self, flow_events: &mut Vec<flow::Event<'a>>, out: &mut Vec<Told>) {
        if flow_events.is_empty() {
            return;
        }
        let mut events: Vec<stream::Event<'a>> = reuse(std::mem::take(&mut self.stream_events));
        for event in flow_events.drain(..) {
            self.stream.push(event, &mut events);
        }
        self.decode(&mut events, out);
        self.stream_events = reuse(events);
    }

    fn decode(&mut self, events: &mut Vec<stream::Event<'_>>, out: &mut Vec<Told>) {
        for event in events.drain(..) {
            self.http.push(event, &mut self.exchanges);
        }
        self.tell(out);
    }

    fn tell(&mut self, out: &mut Vec<Told>) {
        for mut exchange in self.exchanges.drain(..) {
            exchange.interface_name = match exchange.interface {
                Interface::Unknown => None,
                Interface::Declared(n) => self.interface_names.get(n as usize).cloned().flatten(),
                Interface::Index(n) => {
                    Some(self.index_names.entry(n).or_insert_with(|| format!("ifindex:{n}").into()).clone())
                }
            };
            let reading = match &mut self.reader {
                Some(reader) => reader.read(&exchange),
                None => Reading::unknown(),
            };
            let count = self.readings.entry(reading.kind.id()).or_default();
            *count = count.saturating_add(1);
            out.push(Told { exchange, reading });
        }
    }
}
