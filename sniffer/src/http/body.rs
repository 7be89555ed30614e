//! A message's body: content octets in as they come, an [`http::Body`](super::Body) out, with sizes, hashes, the kept
//! beginning and the holes. It removes content codings, stops at bombs, and charges what it holds to one [`Budget`] over
//! all flows; what is given up for want of memory is said by an anomaly. It knows no framing: HTTP/1 and h2 do that.
//!
//! Use: [`BodyBuilder::new`] when the head is known, then [`data`](BodyBuilder::data), [`framing`](BodyBuilder::framing)
//! and [`gap`](BodyBuilder::gap) in stream order, and [`finish`](BodyBuilder::finish) exactly once, also for a body that
//! is thrown away: it gives back what was charged.

use sha2::{Digest as _, Sha256};

use super::coding::{self, Coding, STACK_LIMIT, Stage, Stop};
use super::cost::vector;
use super::known::Known;
use super::{Anomaly, AnomalyKind, Body, Config, Headers};

/// A coded body up to this many octets is held as it came and decoded in one go at its end, with decoders that are
/// used over and over; a larger one gets decoders of its own, whose state is many times that of a small body.
const DECODE_AT_END: usize = 64 << 10;

/// A decoder that takes more memory than this (a large window) is not kept for the next body.
const IDLE_COST: usize = 1 << 20;

/// Holes remembered in one body; the last one then stands for all that follow.
const HOLES_LIMIT: usize = 1024;

/// SHA-256 of nothing: most requests have no body.
const SHA256_OF_NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// What all unfinished bodies share: the account of octets held, and decoders to use again.
#[derive(Debug, Default)]
pub struct Budget {
    held: usize,
    spent: u64,
    /// At most one for each coding.
    idle: Vec<Stage>,
    known: Known,
}

impl Budget {
    /// Nothing held.
    pub fn new() -> Self {
        Self::default()
    }

    /// Octets held now.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Octets that the memory of bodies takes, which come again: not charged, as it is bounded by itself.
    pub(super) fn known(&self) -> usize {
        self.known.held()
    }

    /// How often [`Self::take`] refused.
    pub fn refusals(&self) -> u64 {
        self.spent
    }

    /// Asks for `more` octets for someone who holds `own` already; true when they are granted and charged. One may hold
    /// as much as is free, so that the largest are refused first and the many small ones go on. Give back with
    /// [`Self::give`].
    #[must_use]
    pub fn take(&mut self, own: usize, more: usize, config: &Config) -> bool {
        let free = config.body_budget.saturating_sub(self.held);
        let granted = more == 0 || own.saturating_add(more) <= free;
        if granted {
            self.held = self.held.saturating_add(more);
        } else {
            self.spent = self.spent.saturating_add(1);
        }
        granted
    }

    /// Gives back what was taken.
    pub fn give(&mut self, octets: usize) {
        self.held = self.held.saturating_sub(octets);
    }

    /// A decoder for one body; goes back with [`Self::return_stage`].
    fn stage(&mut self, coding: Coding) -> Stage {
        match self.idle.iter().position(|stage| stage.coding() == coding) {
            Some(at) => self.idle.swap_remove(at),
            None => Stage::new(coding),
        }
    }

    /// Fills in the content of a coded body that was decoded before; false when it was not, or there is no memory.
    fn decoded_before(&mut self, coded: &[u8], encoding: &str, config: &Config, body: &mut Body) -> bool {
        let Some((coded_sha256, decoded)) = self.known.decoded(coded, encoding) else { return false };
        // What is given to the exchange is no longer charged: it has only to fit for a moment, as after decoding.
        if decoded.octets.len() > config.body_budget.saturating_sub(self.held).min(config.keep_body) {
            return false;
        }
        body.coded_sha256 = Some(coded_sha256);
        body.sha256 = Some(decoded.sha256);
        body.size = decoded.octets.len() as u64;
        body.bytes = decoded.octets.to_vec();
        true
    }

    fn return_stage(&mut self, mut stage: Stage) {
        stage.reset();
        let known = self.idle.iter().any(|idle| idle.coding() == stage.coding());
        if !known && stage.cost() <= IDLE_COST {
            self.idle.push(stage);
        }
    }
}

/// A body being received.
#[derive(Debug)]
pub struct BodyBuilder {
    wire_size: u64,
    coded_size: u64,
    /// Of the field, lower case; `None` without one.
    encoding: Option<Box<str>>,
    /// How many octets the head announced; 0 if it did not. A hint for allocation only.
    expected: u64,
    treatment: Treatment,
    /// A hole lies in the body.
    hole: bool,
    content: Content,
}

/// What is done with the coded octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Treatment {
    /// No content coding, or it is removed.
    Decode,
    /// There is a coding and the configuration says to leave it.
    NotAsked,
    /// There is a coding that is not known, or too many.
    Unknown,
    /// A range of a coded representation (RFC 9110 §14.4), which is not a stream that can be decoded.
    Part,
}

#[derive(Debug)]
enum Content {
    /// Octets that are the content already, or are treated as if they were.
    Plain(Kept),
    /// Coded octets, all of them so far; at most `DECODE_AT_END`, charged by capacity.
    Coded(Vec<u8>),
    /// Coded octets go through decoders as they come.
    Streaming(Box<Streaming>),
}

/// Decoded content: counted, hashed, its beginning kept.
#[derive(Debug, Default)]
struct Kept {
    size: u64,
    bytes: Vec<u8>,
    /// Only once `bytes` is no longer the whole content: until then the hash is computed at the end, in one go.
    hash: Option<Box<Sha256>>,
    holes: Vec<(u64, u64)>,
    /// The budget refused: the rest is not kept.
    refused: bool,
}

#[derive(Debug)]
struct Streaming {
    /// Outermost first; empty once decoding stopped.
    stages: Vec<Stage>,
    /// Octets charged for `stages`.
    charged: usize,
    coded_hash: Option<Sha256>,
    kept: Kept,
    stopped: Option<Stop>,
}

impl BodyBuilder {
    /// For the message with these header fields; `status` is that of a response and `None` for a request.
    pub fn new(headers: &Headers, status: Option<u16>, config: &Config) -> Self {
        let encoding = content_encoding(headers);
        let treatment = match &encoding {
            None => Treatment::Decode,
            Some(text) if names(text).all(|name| name == "identity") => Treatment::Decode,
            Some(text) if names(text).any(|name| name != "identity" && Coding::of(name).is_none()) => {
                Treatment::Unknown
            }
            Some(text) if codings(text).count() > STACK_LIMIT => Treatment::Unknown,
            Some(_) if !config.decode_content => Treatment::NotAsked,
            Some(_) if status == Some(206) && !whole_range(headers) => Treatment::Part,
            Some(_) => Treatment::Decode,
        };
        let coded = encoding.as_deref().is_some_and(|text| codings(text).next().is_some());
        let content = if coded && treatment == Treatment::Decode {
            Content::Coded(Vec::new())
        } else {
            Content::Plain(Kept::default())
        };
        Self { wire_size: 0, coded_size: 0, encoding, expected: 0, treatment, hole: false, content }
    }

    /// Says how long the body will be (`Content-Length`), so that it is kept in one allocation of the right size.
    #[must_use]
    pub fn expecting(mut self, length: u64) -> Self {
        self.expected = length;
        self
    }

    /// What it takes in memory beside its own size and what is charged.
    pub(super) fn cost(&self) -> usize {
        let (state, kept) = match &self.content {
            Content::Plain(kept) => (0, kept),
            Content::Coded(_) => return 0,
            Content::Streaming(streaming) => (size_of_val(&**streaming), &streaming.kept),
        };
        let hash = kept.hash.as_deref().map_or(0, size_of_val);
        vector::<(u64, u64)>(kept.holes.capacity()).saturating_add(hash).saturating_add(state)
    }

    /// Octets of body seen or counted so far, framing included.
    pub fn wire_size(&self) -> u64 {
        self.wire_size
    }

    /// The next octets of content, without framing.
    pub fn data(&mut self, bytes: &[u8], config: &Config, budget: &mut Budget) {
        let length = bytes.len() as u64;
        self.wire_size = self.wire_size.saturating_add(length);
        self.coded_size = self.coded_size.saturating_add(length);
        let expected = self.expected;
        match &mut self.content {
            Content::Plain(kept) => {
                let keep = if self.treatment == Treatment::NotAsked { 0 } else { config.keep_body };
                kept.add(bytes, keep, expected, config, budget);
            }
            // A decoder cannot go on behind a hole: what comes is counted.
            _ if self.hole => {}
            Content::Coded(buffer) => {
                let small = buffer.len().saturating_add(bytes.len()) <= DECODE_AT_END;
                if small && grow(buffer, bytes.len(), expected, config, budget) {
                    buffer.extend_from_slice(bytes);
                    return;
                }
                let buffer = std::mem::take(buffer);
                let mut streaming = Box::new(Streaming::new(self.encoding.as_deref(), config.hash, budget));
                budget.give(buffer.capacity());
                streaming.push(&buffer, buffer.len() as u64, config, budget);
                if small {
                    // No memory for more coded octets: what is there is decoded, and then decoding is over.
                    streaming.stop(Stop::Budget, budget);
                } else {
                    streaming.charge(config, budget);
                }
                streaming.push(bytes, self.coded_size, config, budget);
                self.content = Content::Streaming(streaming);
            }
            Content::Streaming(streaming) => {
                streaming.push(bytes, self.coded_size, config, budget);
                streaming.charge(config, budget);
            }
        }
    }

    /// Octets that belong to the message body on the wire and not to its content: chunk sizes, line ends, trailers.
    pub fn framing(&mut self, octets: u64) {
        self.wire_size = self.wire_size.saturating_add(octets);
    }

    /// `length` octets of content are missing here. The body goes on, and is not complete.
    pub fn gap(&mut self, length: u64) {
        self.wire_size = self.wire_size.saturating_add(length);
        self.coded_size = self.coded_size.saturating_add(length);
        self.hole = true;
        if let Content::Plain(kept) = &mut self.content {
            let full = kept.holes.len() >= HOLES_LIMIT;
            match kept.holes.last_mut() {
                Some((from, known)) if full || from.saturating_add(*known) == kept.size => {
                    *known = kept.size.saturating_add(length).saturating_sub(*from);
                }
                _ => kept.holes.push((kept.size, length)),
            }
            kept.size = kept.size.saturating_add(length);
            kept.hash = None;
        }
    }

    /// The body is over; `complete` says whether its framing said so. Gives back everything to the budget.
    pub fn finish(self, complete: bool, config: &Config, budget: &mut Budget) -> (Body, Vec<Anomaly>) {
        let whole = complete && !self.hole;
        let hash = config.hash && whole;
        let mut anomalies = Vec::new();
        let mut body = Body {
            wire_size: self.wire_size,
            coded_size: self.coded_size,
            encoding: self.encoding,
            complete: whole,
            ..Body::default()
        };
        match self.content {
            Content::Plain(kept) => {
                let digest = kept.digest(hash);
                kept.settle(&mut body, &mut anomalies, budget);
                body.coded_sha256 = digest;
                body.sha256 = digest;
                // Servers send the field with an empty body, too: then there is nothing that could go wrong.
                if body.coded_size > 0 {
                    let name = body.encoding.as_deref().unwrap_or_default();
                    let opaque = match self.treatment {
                        Treatment::Decode | Treatment::NotAsked => None,
                        Treatment::Unknown => Some(format!("unknown content coding {name}")),
                        Treatment::Part => Some("a range of a coded body is not decoded".to_owned()),
                    };
                    if self.treatment != Treatment::Decode {
                        body.sha256 = None;
                    }
                    if let Some(detail) = opaque {
                        body.complete = false;
                        anomalies.push(Anomaly::new(AnomalyKind::ContentDecoding, detail));
                    }
                }
            }
            Content::Coded(buffer) if buffer.is_empty() => {
                budget.give(buffer.capacity());
                body.sha256 = hash.then_some(SHA256_OF_NOTHING);
                body.coded_sha256 = body.sha256;
            }
            Content::Coded(buffer) => {
                // The coded octets make room for the decoded ones.
                budget.give(buffer.capacity());
                let encoding = body.encoding.clone().unwrap_or_default();
                if hash && budget.decoded_before(&buffer, &encoding, config, &mut body) {
                    return (body, anomalies);
                }
                let mut streaming = Streaming::new(Some(&encoding), false, budget);
                streaming.push(&buffer, self.coded_size, config, budget);
                streaming.settle(whole, config, &mut body, &mut anomalies, budget);
                if hash {
                    let coded = Sha256::digest(&buffer).into();
                    body.coded_sha256 = Some(coded);
                    let all_kept = body.bytes.len() as u64 == body.size;
                    if let Some(sha256) = body.sha256.filter(|_| all_kept && anomalies.is_empty()) {
                        budget.known.learn(&buffer, coded, &encoding, &body.bytes, sha256);
                    }
                }
            }
            Content::Streaming(mut streaming) => {
                body.coded_sha256 = streaming.coded_hash.take().filter(|_| hash).map(|h| h.finalize().into());
                streaming.settle(whole, config, &mut body, &mut anomalies, budget);
            }
        }
        (body, anomalies)
    }
}

impl Streaming {
    fn new(encoding: Option<&str>, hash: bool, budget: &mut Budget) -> Self {
        let mut stages: Vec<Stage> =
            encoding.map(codings).into_iter().flatten().map(|coding| budget.stage(coding)).collect();
        // The last coding of the field was applied last and comes off first.
        stages.reverse();
        Self { stages, charged: 0, coded_hash: hash.then(Sha256::new), kept: Kept::default(), stopped: None }
    }

    /// Runs coded octets through the stages into what is kept.
    fn push(&mut self, bytes: &[u8], coded_size: u64, config: &Config, budget: &mut Budget) {
        if let Some(hash) = &mut self.coded_hash {
            hash.update(bytes);
        }
        if self.stopped.is_some() {
            return;
        }
        let limit = config.decoded_limit.max(coded_size.saturating_mul(config.decoded_ratio));
        let kept = &mut self.kept;
        let result = coding::run(&mut self.stages, bytes, limit, &mut |piece| {
            kept.add(piece, config.keep_body, 0, config, budget);
            Ok(())
        });
        if let Err(stop) = result {
            self.stop(stop, budget);
        }
    }

    /// Brings the charge for the decoders up to what they take now; without memory for them decoding is over.
    fn charge(&mut self, config: &Config, budget: &mut Budget) {
        let cost = self.stages.iter().map(Stage::cost).fold(0, usize::saturating_add);
        let more = cost.saturating_sub(self.charged);
        if budget.take(self.charged, more, config) {
            self.charged = self.charged.saturating_add(more);
        } else {
            self.stop(Stop::Budget, budget);
        }
    }

    fn stop(&mut self, stop: Stop, budget: &mut Budget) {
        self.stopped.get_or_insert(stop);
        for stage in self.stages.drain(..) {
            budget.return_stage(stage);
        }
        budget.give(std::mem::take(&mut self.charged));
    }

    fn settle(
        mut self,
        whole: bool,
        config: &Config,
        body: &mut Body,
        anomalies: &mut Vec<Anomaly>,
        budget: &mut Budget,
    ) {
        if whole && self.stopped.is_none() {
            match coding::end(&mut self.stages) {
                Ok(()) => {}
                Err(stop) => self.stopped = Some(stop),
            }
            for (name, what) in coding::loose(&self.stages) {
                anomalies.push(Anomaly::new(AnomalyKind::LooseCoding, format!("{name}: {what}")));
            }
        }
        for stage in self.stages.drain(..) {
            budget.return_stage(stage);
        }
        budget.give(self.charged);
        if let Some(stop) = self.stopped {
            let kind = match stop {
                Stop::Corrupt(..) => AnomalyKind::ContentDecoding,
                Stop::Limit => AnomalyKind::DecodedTooLarge,
                Stop::Budget => AnomalyKind::BodyBudget,
            };
            anomalies.push(Anomaly::new(kind, stop.text()));
        }
        body.complete = whole && self.stopped.is_none();
        body.sha256 = self.kept.digest(config.hash && body.complete);
        self.kept.settle(body, anomalies, budget);
    }
}

impl Kept {
    /// Counts, hashes and keeps; `keep` is how many octets are kept in all.
    fn add(&mut self, bytes: &[u8], keep: usize, expected: u64, config: &Config, budget: &mut Budget) {
        self.size = self.size.saturating_add(bytes.len() as u64);
        let mut take = keep.saturating_sub(self.bytes.len()).min(bytes.len());
        if self.refused {
            take = 0;
        } else if take > 0 && !grow(&mut self.bytes, take, expected.min(keep as u64), config, budget) {
            self.refused = true;
            take = 0;
        }
        let kept = bytes.get(..take).unwrap_or_default();
        if config.hash && self.holes.is_empty() && self.hash.is_none() && take < bytes.len() {
            let mut hash = Box::new(Sha256::new());
            hash.update(&self.bytes);
            self.hash = Some(hash);
        }
        self.bytes.extend_from_slice(kept);
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
    }

    /// SHA-256 of all that was added, if `wanted`; then there must be no hole.
    fn digest(&self, wanted: bool) -> Option<[u8; 32]> {
        wanted.then(|| match &self.hash {
            Some(hash) => hash.clone().finalize().into(),
            None if self.size == 0 => SHA256_OF_NOTHING,
            None => Sha256::digest(&self.bytes).into(),
        })
    }

    fn settle(self, body: &mut Body, anomalies: &mut Vec<Anomaly>, budget: &mut Budget) {
        budget.give(self.bytes.capacity());
        body.size = self.size;
        if self.refused {
            let detail = format!("kept {} of {} octets", self.bytes.len(), self.size);
            anomalies.push(Anomaly::new(AnomalyKind::BodyBudget, detail));
        }
        body.bytes = self.bytes;
        body.holes = self.holes;
    }
}

/// Makes room for `more` octets and charges it; false when the budget refuses. `expected` octets in all are likely.
fn grow(buffer: &mut Vec<u8>, more: usize, expected: u64, config: &Config, budget: &mut Budget) -> bool {
    let need = buffer.len().saturating_add(more);
    let have = buffer.capacity();
    if need <= have {
        return true;
    }
    // A head may announce much and send little: trust it up to four times of what came.
    let announced = usize::try_from(expected).unwrap_or(usize::MAX);
    let likely = if announced >= need {
        announced.min(need.saturating_mul(4))
    } else {
        need.max(have.saturating_mul(2).min(config.keep_body.max(DECODE_AT_END)))
    };
    for capacity in [likely, need] {
        if budget.take(have, capacity.saturating_sub(have), config) {
            buffer.reserve_exact(capacity.saturating_sub(buffer.len()));
            // The allocator may give more than was asked for; what is given back later is the capacity.
            budget.held = budget.held.saturating_add(buffer.capacity().saturating_sub(capacity));
            return true;
        }
    }
    false
}

/// The field's codings in order, lower case, joined with `, `; `None` without the field (RFC 9110 §8.4).
fn content_encoding(headers: &Headers) -> Option<Box<str>> {
    let mut values = headers.get_all("content-encoding").peekable();
    values.peek()?;
    let mut text = String::new();
    for value in values {
        for name in String::from_utf8_lossy(value).split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(name);
        }
    }
    text.make_ascii_lowercase();
    (!text.is_empty()).then(|| text.into_boxed_str())
}

fn names(encoding: &str) -> impl Iterator<Item = &str> {
    encoding.split(", ")
}

fn codings(encoding: &str) -> impl Iterator<Item = Coding> {
    names(encoding).filter_map(Coding::of)
}

/// Whether a 206 carries the whole representation: `bytes 0-99/100` (RFC 9110 §14.4).
fn whole_range(headers: &Headers) -> bool {
    let parse = || {
        let (range, length) =
            headers.text("content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let last: u64 = last.parse().ok()?;
        Some(first == "0" && length.parse() == Ok(last.checked_add(1)?))
    };
    parse().unwrap_or(false)
}
