//! The frame layer of HTTP/2 (RFC 9113 §4, §6): nine octets in, a frame header out, and what makes one believable when
//! a direction is picked up in the middle. It holds no state.

/// Octets of a frame header.
pub(super) const HEAD: usize = 9;
/// What a client sends first (§3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest payload that a peer may send without being allowed more (§6.5.2).
pub(super) const DEFAULT_MAX_FRAME: u32 = 16_384;
/// The longest payload that is believed where the settings were not seen: what Go's server allows.
pub(super) const BELIEVABLE_MAX_FRAME: u32 = 1 << 20;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
/// RFC 9218 §7.1; browsers send it.
const PRIORITY_UPDATE: u8 = 0x10;

pub(super) const ACK: u8 = 0x01;
pub(super) const END_STREAM: u8 = 0x01;
pub(super) const END_HEADERS: u8 = 0x04;
pub(super) const PADDED: u8 = 0x08;
pub(super) const WITH_PRIORITY: u8 = 0x20;

/// A frame header (§4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// Octets of payload.
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// Without the reserved bit.
    pub(super) stream: u32,
    reserved: bool,
}

impl Head {
    pub(super) fn parse(octets: &[u8; HEAD]) -> Self {
        let &[a, b, c, kind, flags, s, t, u, v] = octets;
        let stream = u32::from_be_bytes([s, t, u, v]);
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: stream & 0x7fff_ffff,
            reserved: stream >> 31 != 0,
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What §6 demands of this frame's length and stream, in the words of the anomaly; `None` if it is as it should be.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let of_connection = matches!(self.kind, SETTINGS | PING | GOAWAY | PRIORITY_UPDATE);
        let of_stream =
            matches!(self.kind, DATA | HEADERS | PRIORITY | RST_STREAM | PUSH_PROMISE | CONTINUATION);
        if of_connection && self.stream != 0 {
            return Some("a frame of the connection on a stream");
        }
        if of_stream && self.stream == 0 {
            return Some("a frame of a stream on the connection");
        }
        let least = u32::from(self.has(PADDED)).saturating_add(if self.has(WITH_PRIORITY) { 5 } else { 0 });
        let fits = match self.kind {
            DATA => self.length >= u32::from(self.has(PADDED)),
            HEADERS => self.length >= least,
            PRIORITY => self.length == 5,
            RST_STREAM | WINDOW_UPDATE => self.length == 4,
            SETTINGS => self.length.is_multiple_of(6) && (self.length == 0 || !self.has(ACK)),
            PUSH_PROMISE | PRIORITY_UPDATE => self.length >= u32::from(self.has(PADDED)).saturating_add(4),
            PING => self.length == 8,
            GOAWAY => self.length >= 8,
            _ => true,
        };
        (!fits).then_some("a frame whose length does not fit its type")
    }

    /// Whether a listener that has lost its place may take this for a header: a known type with only the flags that
    /// this type has, on a stream of the client's. Of random octets about one in ten million passes.
    fn believable(&self, limits: Limits) -> bool {
        // Streams of the server's, which are even (§5.1.1), are left to those that are in step: hardly anybody pushes.
        let pushed = self.kind == PUSH_PROMISE || (self.stream.is_multiple_of(2) && self.stream != 0);
        // Nobody sends these; zeros look like them.
        let pointless = self.kind == DATA && self.length == 0 && !self.has(END_STREAM);
        known_flags(self.kind).is_some_and(|known| self.flags & !known == 0)
            && !self.reserved
            && self.length <= limits.length
            && self.stream <= limits.stream
            && self.fault().is_none()
            && !pushed
            && !pointless
    }
}

/// The flags of a type (§6); `None` for a type that is not known.
fn known_flags(kind: u8) -> Option<u8> {
    Some(match kind {
        DATA => END_STREAM | PADDED,
        HEADERS => END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY,
        SETTINGS | PING => ACK,
        PUSH_PROMISE => END_HEADERS | PADDED,
        CONTINUATION => END_HEADERS,
        PRIORITY | RST_STREAM | GOAWAY | WINDOW_UPDATE | PRIORITY_UPDATE => 0,
        _ => return None,
    })
}

/// What a listener that has lost its place believes at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Octets of a payload.
    pub(super) length: u32,
    /// The number of a stream.
    pub(super) stream: u32,
}

/// What a run of octets is, taken for frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chain {
    /// No frames.
    None,
    /// One believable header, whose frame reaches beyond what is in hand.
    One,
    /// Believable headers, each where the frame before ends; or frames that end where the octets end.
    Whole,
}

/// Reads octets as frames, one after the other, as far as they go.
pub(super) fn chain(bytes: &[u8], limits: Limits) -> Chain {
    let mut rest = bytes;
    let mut frames = 0_u32;
    // A handful proves as much as a thousand, and keeps the cost independent of the segment's size.
    while frames < 16 {
        let Some((octets, after)) = rest.split_first_chunk::<HEAD>() else {
            return if frames > 0 && begins(rest, limits) { Chain::Whole } else { Chain::None };
        };
        let head = Head::parse(octets);
        if !head.believable(limits) {
            return Chain::None;
        }
        frames = frames.saturating_add(1);
        match after.get(head.length as usize..) {
            Some([]) => return Chain::Whole,
            Some(next) => rest = next,
            None => return if frames == 1 { Chain::One } else { Chain::Whole },
        }
    }
    Chain::Whole
}

/// Whether octets can be the beginning of a header, as far as they go.
fn begins(octets: &[u8], limits: Limits) -> bool {
    let at = |place: usize| octets.get(place).copied();
    let length = u32::from_be_bytes([0, at(0).unwrap_or(0), at(1).unwrap_or(0), at(2).unwrap_or(0)]);
    let known = at(3).is_none_or(|kind| {
        known_flags(kind).is_some_and(|known| at(4).is_none_or(|flags| flags & !known == 0))
    });
    known && length <= limits.length
}

/// The name of an error code (§7).
pub(super) fn error_name(code: u32) -> &'static str {
    match code {
        0x0 => "NO_ERROR",
        0x1 => "PROTOCOL_ERROR",
        0x2 => "INTERNAL_ERROR",
        0x3 => "FLOW_CONTROL_ERROR",
        0x4 => "SETTINGS_TIMEOUT",
        0x5 => "STREAM_CLOSED",
        0x6 => "FRAME_SIZE_ERROR",
        0x7 => "REFUSED_STREAM",
        0x8 => "CANCEL",
        0x9 => "COMPRESSION_ERROR",
        0xa => "CONNECT_ERROR",
        0xb => "ENHANCE_YOUR_CALM",
        0xc => "INADEQUATE_SECURITY",
        0xd => "HTTP_1_1_REQUIRED",
        _ => "an unknown error",
    }
}
