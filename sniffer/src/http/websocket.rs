//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692) after the switch: bytes of both directions in, messages
//! out, however the bytes are cut. Inside a frame of known length a hole is stepped over; anywhere else it hunts for a
//! believable frame at a segment's first byte. A message with a hole, or one that refers to compressed data that was
//! missed, is incomplete and says so; nothing is made up.

use std::io::Cursor;

use flate2::{Decompress, FlushDecompress, Status};
use sha2::{Digest as _, Sha256};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::body::Budget;
use super::{Anomaly, AnomalyKind, Config, WebSocket, WsMessage};
use crate::flow::Direction;
use crate::frame::Timestamp;

/// The longest frame header: two octets, eight of length, four of mask (RFC 6455 §5.2).
const HEAD: usize = 14;
/// The longest payload of a control frame (§5.5).
const CONTROL_LIMIT: u64 = 125;
/// While hunting, a longer frame is not believed.
const BELIEVABLE_LENGTH: u64 = 16 << 20;
/// Octets of one decompressor: window, tables and its own state, rounded up.
const INFLATER_COST: usize = 48 << 10;
/// Deflate streams that may end in one run of octets: each costs a reset, for as little as two octets.
const STREAM_ENDS_LIMIT: u32 = 16;
const DOES_NOT_DECODE: &str = "a compressed message does not decode";
/// The window of deflate (RFC 1951 §3.3): how far back data may refer.
const WINDOW: u64 = 32 << 10;
/// Different anomalies named for one connection.
const ANOMALIES_LIMIT: usize = 16;

/// One connection after the switch.
#[derive(Debug)]
pub(super) struct Talk {
    to_server: Side,
    to_client: Side,
    told: WebSocket,
    anomalies: Vec<Anomaly>,
    deflate: Deflate,
    /// Octets of kept messages and decompressors, all charged to the budget.
    charged: usize,
    /// Octets of kept text alone.
    kept: usize,
    hunted: u64,
}

/// What is known of permessage-deflate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deflate {
    /// The handshake did not agree on it: RSV1 must not be set.
    No,
    /// Agreed; whether each side begins every message with an empty window.
    Yes { server_fresh: bool, client_fresh: bool },
    /// The handshake was not seen: RSV1 can hardly mean anything else.
    NotSeen,
}

/// One direction.
#[derive(Debug)]
struct Side {
    place: Place,
    /// The data message whose last frame has not come.
    message: Option<Partial>,
    /// Kept between messages: the window that the next one may refer to.
    inflater: Option<Box<Decompress>>,
    /// The window of `inflater` lacks what a hole swallowed, until the sender begins with an empty one.
    window_lost: bool,
    /// Frames before the first one may belong to a message whose beginning was not seen.
    start_missed: bool,
    /// While hunting: the segment before, and when it came, if it looks like frames and the next one must agree.
    likely: Option<(Timestamp, Box<[u8]>)>,
    /// A Close frame was seen: nothing may follow (§5.5.1).
    closed: bool,
}

#[derive(Debug)]
enum Place {
    /// In (or just before) a frame header, of which that much is there.
    Head { octets: [u8; HEAD], have: usize },
    /// In a payload.
    Payload(Payload),
    /// Out of step.
    Hunting,
}

const BETWEEN: Place = Place::Head { octets: [0; HEAD], have: 0 };

#[derive(Debug)]
struct Payload {
    left: u64,
    mask: Option<[u8; 4]>,
    /// Octets of this payload so far: the mask goes on from there.
    at: u64,
    last: bool,
    /// A control frame's own message; data goes to [`Side::message`].
    control: Option<Partial>,
}

/// A message being received.
#[derive(Debug)]
struct Partial {
    opcode: u8,
    frames: u32,
    compressed: bool,
    /// False once something of it is missing.
    whole: bool,
    /// Decoding has stopped (a hole, an error, a limit, no memory).
    stopped: bool,
    /// Octets as they travelled.
    coded: u64,
    size: u64,
    bytes: Vec<u8>,
    hash: Option<Sha256>,
    /// Over the limit of messages: only counted.
    dropped: bool,
}

impl Side {
    fn new(place: Place) -> Self {
        let start_missed = matches!(place, Place::Hunting);
        Self {
            place,
            message: None,
            inflater: None,
            window_lost: start_missed,
            start_missed,
            likely: None,
            closed: false,
        }
    }
}

impl Talk {
    /// After a handshake whose response had these `Sec-WebSocket-Extensions`, if any.
    pub(super) fn new(extensions: Option<&str>) -> Self {
        Self::with(BETWEEN, BETWEEN, agreed(extensions.unwrap_or_default()), extensions.map(Into::into))
    }

    /// For a connection whose handshake was not seen.
    pub(super) fn mid_stream() -> Self {
        Self::with(Place::Hunting, Place::Hunting, Deflate::NotSeen, None)
    }

    fn with(to_server: Place, to_client: Place, deflate: Deflate, extensions: Option<Box<str>>) -> Self {
        Self {
            to_server: Side::new(to_server),
            to_client: Side::new(to_client),
            told: WebSocket { extensions, ..WebSocket::default() },
            anomalies: Vec::new(),
            deflate,
            charged: 0,
            kept: 0,
            hunted: 0,
        }
    }

    /// Octets skipped so far while hunting for a frame.
    pub(super) fn hunted(&self) -> u64 {
        self.hunted
    }

    /// The next bytes of a direction; `segment_start` as in [`crate::stream::Data`].
    pub(super) fn data(
        &mut self,
        direction: Direction,
        time: Timestamp,
        bytes: &[u8],
        segment_start: bool,
        config: &Config,
        budget: &mut Budget,
    ) {
        let mut turn = self.turn(direction, time, config, budget);
        if matches!(turn.side.place, Place::Hunting) {
            let belief = match segment_start {
                true => belief(direction, bytes, turn.deflate != Deflate::No),
                false => Belief::None,
            };
            match (belief, turn.side.likely.is_some()) {
                (Belief::None, _) => {
                    turn.drop_likely();
                    turn.skip(bytes);
                    return;
                }
                (Belief::Weak, false) => return turn.hold_likely(bytes),
                (Belief::Weak | Belief::Strong, _) => {
                    turn.take_likely();
                    turn.side.place = BETWEEN;
                }
            }
        }
        turn.steps(bytes);
    }

    /// `length` octets of a direction will never come.
    pub(super) fn gap(
        &mut self,
        direction: Direction,
        time: Timestamp,
        length: u64,
        config: &Config,
        budget: &mut Budget,
    ) {
        let mut turn = self.turn(direction, time, config, budget);
        turn.drop_likely();
        match &mut turn.side.place {
            Place::Payload(payload) => {
                let inside = length.min(payload.left);
                payload.left = payload.left.saturating_sub(inside);
                payload.at = payload.at.saturating_add(inside);
                if let Some(partial) = payload.control.as_mut().or(turn.side.message.as_mut()) {
                    partial.whole = false;
                    partial.stopped |= partial.compressed;
                    partial.size = partial.size.saturating_add(if partial.compressed { 0 } else { inside });
                    if partial.compressed {
                        turn.lose_window();
                    }
                }
                turn.end_of_payload();
                if length > inside {
                    turn.lose();
                }
            }
            Place::Head { .. } => turn.lose(),
            Place::Hunting => {}
        }
    }

    /// The connection is over: what was said, and what was odd. Gives back everything to the budget.
    pub(super) fn finish(
        mut self,
        time: Timestamp,
        config: &Config,
        budget: &mut Budget,
    ) -> (WebSocket, Vec<Anomaly>) {
        for direction in [Direction::ToServer, Direction::ToClient] {
            let mut turn = self.turn(direction, time, config, budget);
            turn.drop_likely();
            turn.give_up_message();
            turn.drop_inflater();
        }
        budget.give(self.charged);
        (self.told, self.anomalies)
    }

    fn turn<'a>(
        &'a mut self,
        direction: Direction,
        time: Timestamp,
        config: &'a Config,
        budget: &'a mut Budget,
    ) -> Turn<'a> {
        let side = match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        Turn {
            direction,
            time,
            config,
            budget,
            side,
            told: &mut self.told,
            anomalies: &mut self.anomalies,
            deflate: self.deflate,
            charged: &mut self.charged,
            kept: &mut self.kept,
            hunted: &mut self.hunted,
        }
    }
}

/// One direction with all that it may touch, for the length of one event.
struct Turn<'a> {
    direction: Direction,
    time: Timestamp,
    config: &'a Config,
    budget: &'a mut Budget,
    side: &'a mut Side,
    told: &'a mut WebSocket,
    anomalies: &'a mut Vec<Anomaly>,
    deflate: Deflate,
    charged: &'a mut usize,
    kept: &'a mut usize,
    hunted: &'a mut u64,
}

impl Turn<'_> {
    fn steps(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.step(rest);
        }
    }

    /// Keeps a segment that may be frames until the next one says.
    fn hold_likely(&mut self, bytes: &[u8]) {
        if bytes.len() <= LIKELY_LIMIT && self.charge(bytes.len()) {
            self.side.likely = Some((self.time, bytes.into()));
        } else {
            self.skip(bytes);
        }
    }

    /// The segment that was kept is no frames.
    fn drop_likely(&mut self) {
        if let Some((_, bytes)) = self.side.likely.take() {
            self.uncharge(bytes.len());
            self.skip(&bytes);
        }
    }

    /// The segment that was kept is frames.
    fn take_likely(&mut self) {
        if let Some((time, bytes)) = self.side.likely.take() {
            self.uncharge(bytes.len());
            let now = std::mem::replace(&mut self.time, time);
            self.side.place = BETWEEN;
            self.steps(&bytes);
            self.time = now;
        }
    }

    /// Takes what belongs to the current place off the front; gives the rest. Always takes at least one octet.
    fn step<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        match &mut self.side.place {
            Place::Head { octets, have } => {
                let before = *have;
                let mut fill = bytes.iter();
                for (to, from) in octets.iter_mut().skip(before).zip(&mut fill) {
                    *to = *from;
                }
                let filled = before.saturating_add(bytes.len()).min(HEAD);
                let mut cursor = Cursor::new(octets.get(..filled).unwrap_or_default());
                match FrameHeader::parse(&mut cursor) {
                    Ok(None) => {
                        *have = filled;
                        &[]
                    }
                    Ok(Some((head, length))) => {
                        let taken = usize::try_from(cursor.position()).unwrap_or(HEAD);
                        let canonical = taken == head.len(length);
                        self.head(&head, length, canonical);
                        bytes.get(taken.saturating_sub(before)..).unwrap_or_default()
                    }
                    Err(_) => {
                        self.odd("a reserved opcode");
                        self.lose();
                        self.skip(bytes)
                    }
                }
            }
            Place::Payload(payload) => {
                let inside = usize::try_from(payload.left).unwrap_or(usize::MAX).min(bytes.len());
                let (inside, rest) = bytes.split_at_checked(inside).unwrap_or((bytes, &[]));
                self.payload(inside);
                self.end_of_payload();
                rest
            }
            Place::Hunting => self.skip(bytes),
        }
    }

    fn skip<'b>(&mut self, bytes: &[u8]) -> &'b [u8] {
        *self.hunted = self.hunted.saturating_add(bytes.len() as u64);
        &[]
    }

    /// A frame begins (RFC 6455 §5.2).
    fn head(&mut self, head: &FrameHeader, length: u64, canonical: bool) {
        self.told.frames = self.told.frames.saturating_add(1);
        if self.side.closed {
            self.odd("a frame after a Close frame");
        }
        if !canonical {
            self.odd("a length that is not in the shortest form");
        }
        if head.mask.is_some() != (self.direction == Direction::ToServer) {
            self.odd(match self.direction {
                Direction::ToServer => "a frame of the client without a mask",
                Direction::ToClient => "a frame of the server with a mask",
            });
        }
        if length >> 63 != 0 {
            self.odd("a length with the most significant bit set");
            return self.lose();
        }
        let opcode = u8::from(head.opcode);
        let compressed = head.rsv1 && self.deflate != Deflate::No && matches!(head.opcode, OpCode::Data(_));
        if head.rsv2 || head.rsv3 || (head.rsv1 && !compressed) {
            self.odd("a reserved bit without an extension that uses it");
        }
        let mut control = None;
        match head.opcode {
            OpCode::Control(_) => {
                if !head.is_final || length > CONTROL_LIMIT {
                    self.odd("a control frame that is fragmented or too long");
                }
                control = Some(self.begin(opcode, false));
            }
            OpCode::Data(Data::Continue) => match &mut self.side.message {
                Some(message) => {
                    message.frames = message.frames.saturating_add(1);
                    if head.rsv1 {
                        self.odd("a continuation frame with the compression bit");
                    }
                }
                None => {
                    if !self.side.start_missed {
                        self.odd("a continuation frame without a beginning");
                    }
                    // Whether it is compressed is not known, and neither what it is: opcode 0.
                    let message = self.begin(opcode, false);
                    self.side.message = Some(Partial { whole: false, ..message });
                }
            },
            OpCode::Data(_) => {
                if self.side.message.is_some() {
                    self.odd("a new message inside a fragmented one");
                    self.give_up_message();
                }
                self.side.start_missed = false;
                let message = self.begin(opcode, compressed);
                self.side.message = Some(message);
            }
        }
        self.side.place =
            Place::Payload(Payload { left: length, mask: head.mask, at: 0, last: head.is_final, control });
        self.end_of_payload();
    }

    fn begin(&mut self, opcode: u8, compressed: bool) -> Partial {
        let dropped = self.told.messages.len() >= self.config.messages_limit;
        let hash = (self.config.hash && !dropped).then(Sha256::new);
        Partial {
            opcode,
            frames: 1,
            compressed,
            whole: true,
            stopped: false,
            coded: 0,
            size: 0,
            bytes: Vec::new(),
            hash,
            dropped,
        }
    }

    /// Payload octets: unmask, inflate, keep.
    fn payload(&mut self, octets: &[u8]) {
        let Place::Payload(payload) = &mut self.side.place else { return };
        let (mask, at) = (payload.mask, payload.at);
        payload.at = at.saturating_add(octets.len() as u64);
        payload.left = payload.left.saturating_sub(octets.len() as u64);
        let in_control = payload.control.is_some();
        let Some(mut partial) = payload.control.take().or_else(|| self.side.message.take()) else { return };
        match mask {
            None => self.content(&mut partial, octets),
            Some(mask) => {
                let mut plain = [0_u8; 4096];
                let mut key = mask.iter().cycle().skip(usize::try_from(at % 4).unwrap_or(0));
                for masked in octets.chunks(plain.len()) {
                    for ((to, from), key) in plain.iter_mut().zip(masked).zip(&mut key) {
                        *to = from ^ key;
                    }
                    self.content(&mut partial, plain.get(..masked.len()).unwrap_or_default());
                }
            }
        }
        match &mut self.side.place {
            Place::Payload(payload) if in_control => payload.control = Some(partial),
            _ => self.side.message = Some(partial),
        }
    }

    /// Unmasked octets of a message.
    fn content(&mut self, partial: &mut Partial, octets: &[u8]) {
        partial.coded = partial.coded.saturating_add(octets.len() as u64);
        if partial.dropped || (partial.stopped && partial.compressed) {
            return;
        }
        if partial.compressed {
            self.inflate(partial, octets);
        } else {
            self.keep(partial, octets);
        }
    }

    fn keep(&mut self, partial: &mut Partial, octets: &[u8]) {
        partial.size = partial.size.saturating_add(octets.len() as u64);
        match &mut partial.hash {
            Some(hash) if partial.whole => hash.update(octets),
            _ => {}
        }
        // Octets behind a hole are not kept: they would stand at the wrong place.
        if !partial.whole {
            return;
        }
        // The limit is for the whole connection: what is one body elsewhere is all messages here.
        let room = self.config.keep_body.saturating_sub(*self.kept);
        let octets = octets.get(..octets.len().min(room)).unwrap_or(octets);
        let (have, need) = (partial.bytes.capacity(), partial.bytes.len().saturating_add(octets.len()));
        if need > have {
            let want = need.max(have.saturating_mul(2).min(1 << 20));
            if !self.charge(want.saturating_sub(have)) {
                return;
            }
            partial.bytes.reserve_exact(want.saturating_sub(partial.bytes.len()));
        }
        *self.kept = self.kept.saturating_add(octets.len());
        partial.bytes.extend_from_slice(octets);
    }

    /// Octets of a compressed message (RFC 7692 §7.2.2).
    fn inflate(&mut self, partial: &mut Partial, octets: &[u8]) {
        if self.side.inflater.is_none() {
            if !self.charge(INFLATER_COST) {
                return self.stop(partial, AnomalyKind::BodyBudget, "a message was not inflated: no memory");
            }
            self.side.inflater = Some(Box::new(Decompress::new(false)));
        }
        let Some(mut inflater) = self.side.inflater.take() else { return };
        let limit = self.config.decoded_limit.max(partial.coded.saturating_mul(self.config.decoded_ratio));
        let mut out = [0_u8; 8192];
        let mut rest = octets;
        let mut fault = None;
        let mut ends = 0_u32;
        loop {
            let (read, written) = (inflater.total_in(), inflater.total_out());
            let status = inflater.decompress(rest, &mut out, FlushDecompress::None);
            let read = usize::try_from(inflater.total_in().saturating_sub(read)).unwrap_or(usize::MAX);
            let written = usize::try_from(inflater.total_out().saturating_sub(written)).unwrap_or(0);
            self.keep(partial, out.get(..written).unwrap_or_default());
            rest = rest.get(read..).unwrap_or_default();
            match status {
                Err(_) => fault = Some((AnomalyKind::ContentDecoding, DOES_NOT_DECODE)),
                // A block with BFINAL set ends the deflate stream, not the message (§7.2.3.4); another may follow.
                Ok(Status::StreamEnd) if ends < STREAM_ENDS_LIMIT => {
                    ends = ends.saturating_add(1);
                    inflater.reset(false);
                    self.side.window_lost = true;
                }
                Ok(Status::StreamEnd) => fault = Some((AnomalyKind::ContentDecoding, DOES_NOT_DECODE)),
                Ok(_) if read == 0 && written == 0 => break,
                Ok(_) => {}
            }
            if partial.size > limit {
                fault = Some((AnomalyKind::DecodedTooLarge, "a message inflates beyond the limit"));
            }
            if fault.is_some() || (rest.is_empty() && written < out.len()) {
                break;
            }
        }
        self.side.inflater = Some(inflater);
        if let Some((kind, detail)) = fault {
            if self.side.window_lost && kind == AnomalyKind::ContentDecoding {
                self.stop(partial, kind, "a compressed message refers to data that was missed");
            } else {
                self.stop(partial, kind, detail);
            }
        }
    }

    /// The message cannot be decoded to its end, and neither what refers to it.
    fn stop(&mut self, partial: &mut Partial, kind: AnomalyKind, detail: &str) {
        partial.whole = false;
        partial.stopped = true;
        self.lose_window();
        self.name(kind, detail);
    }

    /// The compressed data that later messages may refer to is not known any more. An empty window is right for those
    /// that do not: a reference to before its beginning is an error, never a wrong octet.
    fn lose_window(&mut self) {
        self.side.window_lost = true;
        self.drop_inflater();
    }

    fn drop_inflater(&mut self) {
        if self.side.inflater.take().is_some() {
            self.uncharge(INFLATER_COST);
        }
    }

    /// If the payload is over: the frame is, and with the last frame the message.
    fn end_of_payload(&mut self) {
        let Place::Payload(payload) = &mut self.side.place else { return };
        if payload.left > 0 {
            return;
        }
        let (control, last) = (payload.control.take(), payload.last);
        self.side.place = BETWEEN;
        if let Some(message) = control {
            if message.opcode == u8::from(OpCode::Control(Control::Close)) {
                self.side.closed = true;
                if let (None, Some([high, low])) = (self.told.close_code, message.bytes.first_chunk()) {
                    self.told.close_code = Some(u16::from_be_bytes([*high, *low]));
                }
            }
            self.tell(message);
        } else if last && let Some(mut message) = self.side.message.take() {
            if message.compressed && !message.stopped && !message.dropped {
                // §7.2.2: the sender took these four octets off the end.
                self.inflate(&mut message, &[0x00, 0x00, 0xff, 0xff]);
            }
            if message.compressed {
                self.end_of_compressed();
            }
            self.tell(message);
        }
    }

    fn end_of_compressed(&mut self) {
        let fresh = match self.deflate {
            Deflate::Yes { server_fresh, client_fresh } => match self.direction {
                Direction::ToServer => client_fresh,
                Direction::ToClient => server_fresh,
            },
            Deflate::No | Deflate::NotSeen => false,
        };
        if fresh {
            self.side.window_lost = false;
            self.drop_inflater();
        } else if self.side.inflater.as_ref().is_some_and(|inflater| inflater.total_out() >= WINDOW) {
            self.side.window_lost = false;
        }
    }

    fn tell(&mut self, mut message: Partial) {
        let entry = std::mem::size_of::<WsMessage>();
        let slack = message.bytes.capacity().saturating_sub(message.bytes.len());
        message.bytes.shrink_to_fit();
        self.uncharge(slack);
        let full = message.dropped || self.told.messages.len() >= self.config.messages_limit;
        if full || !self.charge(entry) {
            self.told.messages_dropped = self.told.messages_dropped.saturating_add(1);
            *self.kept = self.kept.saturating_sub(message.bytes.len());
            return self.uncharge(message.bytes.len());
        }
        let all_kept = message.whole && message.size == message.bytes.len() as u64;
        if message.opcode == 1 && all_kept && std::str::from_utf8(&message.bytes).is_err() {
            self.odd("a text message that is not UTF-8");
        }
        self.told.messages.push(WsMessage {
            to_server: self.direction == Direction::ToServer,
            time: self.time,
            opcode: message.opcode,
            frames: message.frames,
            size: message.size,
            complete: message.whole,
            sha256: message.hash.filter(|_| message.whole).map(|hash| hash.finalize().into()),
            bytes: message.bytes,
        });
    }

    /// Tells the unfinished messages as far as they came.
    fn give_up_message(&mut self) {
        let control = match &mut self.side.place {
            Place::Payload(payload) => payload.control.take(),
            _ => None,
        };
        for mut message in [control, self.side.message.take()].into_iter().flatten() {
            if message.compressed {
                self.lose_window();
            }
            message.whole = false;
            self.tell(message);
        }
    }

    /// Out of step: frames of unknown number may be missing.
    fn lose(&mut self) {
        self.give_up_message();
        self.lose_window();
        self.side.place = Place::Hunting;
        self.side.start_missed = true;
    }

    fn charge(&mut self, octets: usize) -> bool {
        let granted = self.budget.take(*self.charged, octets, self.config);
        if granted {
            *self.charged = self.charged.saturating_add(octets);
        }
        granted
    }

    fn uncharge(&mut self, octets: usize) {
        *self.charged = self.charged.saturating_sub(octets);
        self.budget.give(octets);
    }

    fn odd(&mut self, detail: &str) {
        self.name(AnomalyKind::WebSocketProtocol, detail);
    }

    fn name(&mut self, kind: AnomalyKind, detail: &str) {
        let known = self.anomalies.iter().any(|a| a.kind == kind && &*a.detail == detail);
        if !known && self.anomalies.len() < ANOMALIES_LIMIT {
            self.anomalies.push(Anomaly { kind, detail: detail.into() });
        }
    }
}

/// Whether a segment of a flow picked up mid-stream begins with WebSocket frames. Random octets pass about once in a
/// million times.
pub(super) fn looks_like_frames(direction: Direction, bytes: &[u8]) -> bool {
    belief(direction, bytes, true) == Belief::Strong
}

/// How much speaks for it that a segment begins with frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Belief {
    /// It does not.
    None,
    /// One frame that fits, as it does by chance once in ten thousand times: the next segment must agree.
    Weak,
    /// Several frames that fit, or text, or a Close with a code.
    Strong,
}

/// A longer segment is not kept while it is only likely.
const LIKELY_LIMIT: usize = 16 << 10;
/// So many octets that are UTF-8 are no chance.
const ENOUGH_TEXT: usize = 8;

/// Whether a segment begins with frames: every header in it obeys RFC 6455 §5.2, masks are as §5.1 demands, texts are
/// UTF-8, and the frames end where the segment ends, or the last one reaches beyond it.
fn belief(direction: Direction, bytes: &[u8], compression: bool) -> Belief {
    let mut rest = bytes;
    let mut frames = 0_u32;
    let mut proof = false;
    let so_far = |frames: u32, proof: bool| match frames {
        0 => Belief::None,
        1 if !proof => Belief::Weak,
        _ => Belief::Strong,
    };
    loop {
        let mut cursor = Cursor::new(rest);
        let Ok(parsed) = FrameHeader::parse(&mut cursor) else { return Belief::None };
        // A header that is cut says too little.
        let Some((head, length)) = parsed else { return so_far(frames, proof) };
        let at = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let control = matches!(head.opcode, OpCode::Control(_));
        let continued = head.opcode == OpCode::Data(Data::Continue);
        let sound = !(head.rsv2 || head.rsv3)
            && !(head.rsv1 && (!compression || control || continued))
            && !(control && (!head.is_final || length > CONTROL_LIMIT))
            && head.mask.is_some() == (direction == Direction::ToServer)
            && at == head.len(length)
            && length <= BELIEVABLE_LENGTH;
        if !sound {
            return Belief::None;
        }
        let payload = rest.get(at..).unwrap_or_default();
        let inside = usize::try_from(length).unwrap_or(usize::MAX);
        let seen = payload.get(..inside).unwrap_or(payload);
        let text = head.opcode == OpCode::Data(Data::Text) && !head.rsv1;
        if text && !begins_as_text(seen, head.mask, head.is_final && payload.len() >= inside) {
            return Belief::None;
        }
        proof |= text && seen.len() >= ENOUGH_TEXT;
        proof |= head.opcode == OpCode::Control(Control::Close) && closes(seen, head.mask);
        frames = frames.saturating_add(1);
        if payload.len() < inside {
            // Beyond this segment nothing can be checked, so a lone frame must at least be a usual one.
            let usual = head.is_final && !control && !continued && length > CONTROL_LIMIT;
            return if frames > 1 || usual { so_far(frames, proof) } else { Belief::None };
        }
        rest = payload.get(inside..).unwrap_or_default();
        if rest.is_empty() {
            return so_far(frames, proof);
        }
    }
}

/// Whether masked octets are a status code that may be sent, and perhaps a reason (§5.5.1, §7.4).
fn closes(masked: &[u8], mask: Option<[u8; 4]>) -> bool {
    let [a, b, ..] = mask.unwrap_or_default();
    let Some(([high, low], _)) = masked.split_first_chunk() else { return false };
    matches!(u16::from_be_bytes([high ^ a, low ^ b]), 1000..=1014 | 3000..=4999)
}

/// Whether masked octets are UTF-8; `whole` when nothing follows them.
fn begins_as_text(masked: &[u8], mask: Option<[u8; 4]>, whole: bool) -> bool {
    let key = mask.unwrap_or_default();
    let plain: Vec<u8> = masked.iter().zip(key.iter().cycle()).map(|(octet, key)| octet ^ key).collect();
    match std::str::from_utf8(&plain) {
        Ok(_) => true,
        Err(error) => !whole && error.error_len().is_none(),
    }
}

/// What `Sec-WebSocket-Extensions` of a response agreed on (RFC 7692 §7.1).
fn agreed(extensions: &str) -> Deflate {
    for extension in extensions.split(',') {
        let mut parts = extension.split(';').map(str::trim);
        if parts.next().is_some_and(|name| name.eq_ignore_ascii_case("permessage-deflate")) {
            let parameters: Vec<&str> = parts.collect();
            let has = |name: &str| parameters.iter().any(|p| p.eq_ignore_ascii_case(name));
            return Deflate::Yes {
                server_fresh: has("server_no_context_takeover"),
                client_fresh: has("client_no_context_takeover"),
            };
        }
    }
    Deflate::No
}

#[cfg(test)]
mod tests;
