//! The bytes that were delivered last, of all flows together, in rings of fixed size: what a retransmission is compared
//! with. A segment that another interface saw a moment ago is always found; one that comes after much other traffic
//! may not be, and then nothing is claimed about it. It never grows, and a look takes a bounded number of steps.

/// Bytes that are remembered, a power of two: small enough to stay in a processor's cache, large enough for many super-packets.
const BYTES: usize = 1 << 20;
/// Segments that are remembered, a power of two.
const RECORDS: usize = 1 << 13;
/// How many segments of one direction a look goes back over.
const STEPS: usize = 64;

/// A remembered segment's number; 0 is none.
pub(super) type RecordId = u64;

#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Grows to `BYTES`, then is written round and round.
    bytes: Vec<u8>,
    /// All bytes ever written.
    written: u64,
    records: Vec<Record>,
    /// The number of the latest record.
    latest: RecordId,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// The same direction's record before this.
    before: RecordId,
    offset: u64,
    /// Where its bytes begin, counted as `written` is.
    at: u64,
    length: usize,
}

impl Recent {
    /// Octets of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity().saturating_add(self.records.capacity().saturating_mul(size_of::<Record>()))
    }

    /// Remembers bytes that follow `before` in their direction; gives their number.
    pub(super) fn remember(&mut self, before: RecordId, offset: u64, bytes: &[u8]) -> RecordId {
        if bytes.len() > BYTES {
            return 0;
        }
        let record = Record { before, offset, at: self.written, length: bytes.len() };
        self.latest = self.latest.saturating_add(1);
        let slot = (self.latest & (RECORDS as u64).wrapping_sub(1)) as usize;
        if self.records.is_empty() {
            self.records.resize(RECORDS, Record { before: 0, offset: 0, at: 0, length: 0 });
        }
        if let Some(place) = self.records.get_mut(slot) {
            *place = record;
        }
        let at = (self.written & (BYTES as u64).wrapping_sub(1)) as usize;
        let (head, tail) = bytes.split_at(bytes.len().min(BYTES.saturating_sub(at)));
        self.write(at, head);
        self.write(0, tail);
        self.written = self.written.saturating_add(bytes.len() as u64);
        self.latest
    }

    /// The first of `bytes` that differs from what was delivered at its offset, as far as that is remembered.
    pub(super) fn difference(&self, latest: RecordId, offset: u64, bytes: &[u8]) -> Option<u64> {
        let end = offset.saturating_add(bytes.len() as u64);
        let mut number = latest;
        let mut found = None;
        for _ in 0..STEPS {
            let Some(record) = self.record(number) else { break };
            let record_end = record.offset.saturating_add(record.length as u64);
            if record_end <= offset {
                break;
            }
            let (from, to) = (offset.max(record.offset), end.min(record_end));
            if from < to {
                let within = |base: u64, at: u64| at.saturating_sub(base) as usize;
                let mine = bytes.get(within(offset, from)..within(offset, to)).unwrap_or_default();
                let at = record.at.saturating_add(from.saturating_sub(record.offset));
                if let Some(place) = self.differs(at, mine) {
                    found = Some(from.saturating_add(place as u64));
                }
            }
            number = record.before;
        }
        found
    }

    fn record(&self, number: RecordId) -> Option<&Record> {
        if number == 0 || self.latest.saturating_sub(number) >= RECORDS as u64 {
            return None;
        }
        let record = self.records.get((number & (RECORDS as u64).wrapping_sub(1)) as usize)?;
        (self.written.saturating_sub(record.at) <= BYTES as u64).then_some(record)
    }

    fn differs(&self, at: u64, bytes: &[u8]) -> Option<usize> {
        let at = (at & (BYTES as u64).wrapping_sub(1)) as usize;
        let (head, tail) = bytes.split_at(bytes.len().min(BYTES.saturating_sub(at)));
        let old_head = self.bytes.get(at..)?.get(..head.len())?;
        let old_tail = self.bytes.get(..tail.len())?;
        if old_head == head && old_tail == tail {
            return None;
        }
        old_head.iter().chain(old_tail).zip(bytes).position(|(old, new)| old != new)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let over = self.bytes.len().saturating_sub(at).min(bytes.len());
        let (inside, beyond) = bytes.split_at(over);
        if let Some(place) = self.bytes.get_mut(at..).and_then(|rest| rest.get_mut(..inside.len())) {
            place.copy_from_slice(inside);
        }
        self.bytes.extend_from_slice(beyond);
    }
}
