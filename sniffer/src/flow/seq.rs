//! Sequence numbers of one direction as 64-bit offsets. This is the only place that knows both: a number is placed by
//! its signed distance from the highest one seen, so that no wrap and no initial number makes a difference
//! (RFC 9293 §3.4). It knows nothing of flows.

/// One direction of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Side {
    /// The sequence number after the highest payload byte seen ...
    high_seq: u32,
    /// ... and its offset.
    high: u64,
    /// The initial sequence number, when `syn`.
    isn: u32,
    /// Where the last segment outside the window ended.
    stray: u32,
    /// How many such segments followed one another.
    strays: u8,
    /// Whether numbers can be placed.
    known: bool,
    /// Whether the initial sequence number is known.
    syn: bool,
    /// Whether a FIN was seen; `high` is then its place.
    pub(super) fin: bool,
}

/// How far from the highest number seen another may lie: no window is larger (RFC 7323 §2.3), and a listener that was
/// blind for a while finds its place again.
const WINDOW: u32 = 1 << 30;
/// How many segments outside the window, one after the other, show that it is the window that is wrong.
const STRAYS: u8 = 8;
/// How far behind one another those may lie: what a listener with losses may miss between two segments.
const STRAYS_APART: u32 = 1 << 20;

impl Side {
    /// Learns that the byte numbered `seq` has this offset.
    pub(super) fn begin(&mut self, seq: u32, offset: u64) {
        *self = Self { high_seq: seq, high: offset, known: true, ..Self::default() };
    }

    /// Learns the initial sequence number of a stream that begins at offset 0.
    pub(super) fn begin_syn(&mut self, isn: u32) {
        self.begin(isn.wrapping_add(1), 0);
        self.name_isn(isn);
    }

    /// Learns the initial sequence number of a stream whose numbers can be placed already.
    pub(super) fn name_isn(&mut self, isn: u32) {
        self.isn = isn;
        self.syn = true;
    }

    /// The initial sequence number, if it was seen.
    pub(super) fn isn(&self) -> Option<u32> {
        self.syn.then_some(self.isn)
    }

    /// Whether numbers can be placed.
    pub(super) fn known(&self) -> bool {
        self.known
    }

    /// The offset after the highest payload byte seen.
    pub(super) fn high(&self) -> u64 {
        self.high
    }

    /// How far `seq` lies before the highest number seen; negative when after.
    pub(super) fn behind(&self, seq: u32) -> i32 {
        self.high_seq.wrapping_sub(seq).cast_signed()
    }

    /// The offset of `seq`; `None` where it is absurdly far from all that was seen, or before the stream's beginning.
    pub(super) fn offset(&self, seq: u32) -> Option<u64> {
        let ahead = seq.wrapping_sub(self.high_seq).cast_signed();
        if !self.known || ahead.unsigned_abs() > WINDOW {
            return None;
        }
        self.high.checked_add_signed(i64::from(ahead))
    }

    /// Learns that payload up to `end` was seen; `seq` is the number of the byte after it.
    pub(super) fn advance(&mut self, end: u64, seq: u32) {
        self.strays = 0;
        if end > self.high {
            self.high = end;
            self.high_seq = seq;
        }
    }

    /// Remembers a segment that could not be placed. After several that belong together the window moves forward to
    /// them, and true is returned: the listener missed more than the window holds.
    pub(super) fn stray(&mut self, seq: u32, length: u32) -> bool {
        let together = self.strays > 0 && seq.wrapping_sub(self.stray) <= STRAYS_APART;
        self.strays = if together { self.strays.saturating_add(1) } else { 1 };
        self.stray = seq.wrapping_add(length);
        if self.strays < STRAYS {
            return false;
        }
        self.strays = 0;
        self.high = self.high.saturating_add(u64::from(seq.wrapping_sub(self.high_seq)));
        self.high_seq = seq;
        true
    }
}
