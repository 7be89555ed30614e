//! The pure way as one piece: frames in, exchanges with their readings out. `read`, `watch`, the tests and the fuzz
//! targets all go through here, so that what is tested is what runs.
//!
//! Here the memory of all stages is held against one limit, [`Config::memory`]: each says what it takes, and when that is
//! too much the flow that was not heard of for longest goes, as if its capture had ended: what was seen of it is told,
//! and it is counted as evicted.

use std::collections::BTreeMap;
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
    /// Octets that all stages together may take, for open flows with all that is held for them. The budgets of the
    /// stages and the flow table are made smaller where they would not fit.
    pub memory: usize,
    /// Whether exchanges are read (`false` gives every exchange an unknown reading: for counting only).
    pub readings: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flow: flow::Config::default(),
            stream: stream::Config::default(),
            http: http::Config::default(),
            memory: 448 << 20,
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
    pub readings: BTreeMap<&'static str, u64>,
    /// The most memory that the stages took, octets (see [`Config::memory`]).
    pub memory_peak: u64,
}

/// The stages, joined.
#[derive(Debug)]
pub struct Pipeline {
    flow: flow::Tracker,
    stream: stream::Reassembler,
    http: http::Decoder,
    telling: Telling,
    /// The limit of memory.
    memory: usize,
    memory_peak: u64,
    frames: u64,
    /// The latest time that any frame carried: the clock of all stages. Never goes back.
    now: Timestamp,
    flow_events: Vec<flow::Event<'static>>,
    stream_events: Vec<stream::Event<'static>>,
}

/// What is done with each exchange.
#[derive(Debug)]
struct Telling {
    reader: Option<activitypub::Reader>,
    interface_names: Vec<Option<Arc<str>>>,
    /// How interfaces are written that are known by their index alone (Linux cooked v2 has no names).
    index_names: BTreeMap<u32, Arc<str>>,
    /// How many readings of each kind there were.
    readings: BTreeMap<&'static str, u64>,
}

/// The memory is looked at once in so many frames: none of them can take much.
const FRAMES_UNCOUNTED: u64 = 16;

/// Indices whose names are kept for the next exchange; no node has more interfaces.
const INDEX_NAMES: usize = 4096;

/// Flows that the table may always hold, however little memory there is.
const FEWEST_FLOWS: usize = 64;

/// What an entry of each stage's table takes at most, octets: the tables do not shrink, so that their size alone must
/// leave room for what hangs on the entries.
const TABLES_COST: usize = 1_024;

/// An empty vector's allocation, under another element type of the same layout: the lifetimes of borrowed events end
/// with each frame, the memory need not. `filter_map` to nothing collects in place, without unsafe code.
fn reuse<A, B>(mut used: Vec<A>) -> Vec<B> {
    used.clear();
    used.into_iter().filter_map(|_| None).collect()
}

impl Pipeline {
    /// With nothing seen.
    pub fn new(mut config: Config) -> Self {
        let memory = config.memory;
        config.flow.flows_limit = config.flow.flows_limit.min((memory / TABLES_COST).max(FEWEST_FLOWS));
        config.flow.fragments_budget = config.flow.fragments_budget.min(memory / 8);
        config.stream.budget = config.stream.budget.min(memory / 8);
        config.stream.flow_budget = config.stream.flow_budget.min(config.stream.budget);
        config.http.body_budget = config.http.body_budget.min(memory / 8);
        Self {
            flow: flow::Tracker::new(config.flow),
            stream: stream::Reassembler::new(config.stream),
            http: http::Decoder::new(config.http),
            telling: Telling {
                reader: config.readings.then(activitypub::Reader::new),
                interface_names: Vec::new(),
                index_names: BTreeMap::new(),
                readings: BTreeMap::new(),
            },
            memory: config.memory,
            memory_peak: 0,
            frames: 0,
            now: Timestamp::default(),
            flow_events: Vec::new(),
            stream_events: Vec::new(),
        }
    }

    /// Names the n-th declared interface (see [`Interface::Declared`]); later calls rename it.
    pub fn name_interface(&mut self, number: u32, name: Option<&str>) {
        let number = number as usize;
        // A capture file cannot declare more interfaces than it has blocks; the reader bounds the number.
        let names = &mut self.telling.interface_names;
        if names.len() <= number {
            names.resize(number.saturating_add(1), None);
        }
        if let Some(slot) = names.get_mut(number) {
            *slot = name.map(Arc::from);
        }
    }

    /// Names an interface that is known by its index; `None` forgets the name, and it is written as `ifindex:N` again.
    pub fn name_index(&mut self, index: u32, name: Option<&str>) {
        match name {
            Some(name) => {
                self.telling.index_names.insert(index, name.into());
            }
            None => {
                self.telling.index_names.remove(&index);
            }
        }
    }

    /// The ends of flows that turned out not to be HTTP since this was asked last: see
    /// [`http::Decoder::take_others`].
    pub fn take_others(&mut self) -> Vec<flow::Ends> {
        self.http.take_others()
    }

    /// Takes a frame; gives what was finished by it to `out`, each as soon as it is there: one frame can finish very
    /// many, and who keeps none of them needs no memory for them.
    pub fn push(&mut self, frame: &Frame<'_>, out: &mut impl Extend<Told>) {
        if frame.time > self.now {
            self.now = frame.time;
            self.expire_due(out);
        }
        let mut events = reuse(std::mem::take(&mut self.flow_events));
        self.flow.push(frame, &mut events);
        self.run(&mut events, out);
        self.flow_events = reuse(events);
        self.frames = self.frames.wrapping_add(1);
        if self.frames.is_multiple_of(FRAMES_UNCOUNTED) {
            self.keep_memory(out);
        }
    }

    /// The name of an interface, where it has one.
    pub fn interface_name(&self, interface: Interface) -> Option<&str> {
        match interface {
            Interface::Declared(number) => self.telling.interface_names.get(number as usize)?.as_deref(),
            Interface::Index(index) => self.telling.index_names.get(&index).map(|name| &**name),
            Interface::Unknown => None,
        }
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
    pub fn expire(&mut self, now: Timestamp, out: &mut impl Extend<Told>) {
        if now > self.now {
            self.now = now;
            self.expire_due(out);
        }
    }

    /// Exchanges that are not finished: see [`http::Decoder::in_flight`].
    pub fn in_flight(&self, limit: usize) -> (Vec<http::InFlight>, usize) {
        self.http.in_flight(limit)
    }

    /// The capture ended: gives everything that is unfinished, marked as such.
    pub fn finish(&mut self, out: &mut impl Extend<Told>) {
        let mut events = Vec::new();
        self.flow.finish(&mut events);
        self.run(&mut events, out);
        let mut events = Vec::new();
        while self.stream.finish_some(self.now, &mut events) {
            self.decode(&mut events, out);
        }
        self.decode(&mut events, out);
        self.http.finish(&mut self.telling.to(out));
    }

    /// What every stage counted so far.
    pub fn counters(&self) -> Counters {
        Counters {
            flow: *self.flow.counters(),
            stream: *self.stream.counters(),
            http: self.http.counters().clone(),
            readings: self.telling.readings.clone(),
            memory_peak: self.memory_peak,
        }
    }

    /// Octets of memory that all stages take for open flows.
    pub fn memory(&self) -> usize {
        [self.flow.memory(), self.stream.memory(), self.http.memory()].into_iter().fold(0, usize::saturating_add)
    }

    /// Lets flows go until the memory is enough.
    fn keep_memory(&mut self, out: &mut impl Extend<Told>) {
        let mut memory = self.memory();
        while memory > self.memory {
            let mut events = Vec::new();
            if !self.flow.evict(&mut events) {
                break;
            }
            self.run(&mut events, out);
            memory = self.memory();
        }
        self.memory_peak = self.memory_peak.max(memory as u64);
    }

    fn expire_due(&mut self, out: &mut impl Extend<Told>) {
        while self.flow.deadline().is_some_and(|at| at <= self.now) {
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
            self.http.expire(self.now, &mut self.telling.to(out));
        }
    }

    fn run<'a>(&mut self, flow_events: &mut Vec<flow::Event<'a>>, out: &mut impl Extend<Told>) {
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

    fn decode(&mut self, events: &mut Vec<stream::Event<'_>>, out: &mut impl Extend<Told>) {
        let mut to = self.telling.to(out);
        for event in events.drain(..) {
            self.http.push(event, &mut to);
        }
    }
}

impl Telling {
    /// Tells `out` of each exchange.
    fn to<'a, E: Extend<Told>>(&'a mut self, out: &'a mut E) -> TellingTo<'a, E> {
        TellingTo { telling: self, out }
    }

    fn tell(&mut self, mut exchange: Box<Exchange>) -> Told {
        exchange.interface_name = match exchange.interface {
            Interface::Unknown => None,
            Interface::Declared(n) => self.interface_names.get(n as usize).cloned().flatten(),
            Interface::Index(n) => Some(self.index_name(n)),
        };
        let reading = match &mut self.reader {
            Some(reader) => reader.read(&exchange),
            None => Reading::unknown(),
        };
        let count = self.readings.entry(reading.kind.id()).or_default();
        *count = count.saturating_add(1);
        Told { exchange, reading }
    }

    fn index_name(&mut self, index: u32) -> Arc<str> {
        if let Some(name) = self.index_names.get(&index) {
            return Arc::clone(name);
        }
        let name: Arc<str> = format!("ifindex:{index}").into();
        if self.index_names.len() < INDEX_NAMES {
            self.index_names.insert(index, Arc::clone(&name));
        }
        name
    }
}

struct TellingTo<'a, E> {
    telling: &'a mut Telling,
    out: &'a mut E,
}

impl<E: Extend<Told>> http::Out for TellingTo<'_, E> {
    fn push(&mut self, exchange: Box<Exchange>) {
        self.out.extend(Some(self.telling.tell(exchange)));
    }
}
