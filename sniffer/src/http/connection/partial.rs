//! A head that did not come in one piece: held up to a limit, searched once.

use super::{Begin, Connection, LINE_LIMIT, Place, Scope, begin_at};
use crate::flow::Direction;
use crate::http::Config;
use crate::http::body::Budget;
use crate::http::head;
use crate::http::probe::{self, Prefix};
use crate::stream::Data;

/// A head as far as it came.
#[derive(Debug)]
pub(super) struct PartialHead {
    pub(super) begin: Begin,
    pub(super) bytes: Vec<u8>,
    /// Where to look for the end from.
    pub(super) searched: usize,
    pub(super) charged: usize,
    /// It may yet be the preface of HTTP/2 or a PROXY header.
    pub(super) prefix: bool,
    /// The head is larger than the limit: only lines that decide framing are added to `bytes` from here on, and this is
    /// the line at hand.
    pub(super) overflow: Option<Vec<u8>>,
}

/// What a partial head did with octets.
pub(super) enum Extended {
    /// The head ended after so many of them.
    Ends(usize),
    More,
    /// There is no memory for it.
    Refused,
}

impl PartialHead {
    pub(super) fn new(begin: Begin, prefix: bool) -> Box<Self> {
        Box::new(Self { begin, bytes: Vec::new(), searched: 0, charged: 0, prefix, overflow: None })
    }

    pub(super) fn extend(&mut self, bytes: &[u8], config: &Config, budget: &mut Budget) -> Extended {
        if self.overflow.is_some() {
            return self.extend_overflow(bytes);
        }
        let before = self.bytes.len();
        let need = before.saturating_add(bytes.len());
        if need > self.charged {
            // Room for twice as much, or else for no more than is there: how a head was cut must not decide.
            let granted = [need.max(self.charged.saturating_mul(2)), need]
                .into_iter()
                .find(|want| budget.take(self.charged, want.saturating_sub(self.charged), config));
            let Some(granted) = granted else { return Extended::Refused };
            self.charged = granted;
        }
        self.bytes.extend_from_slice(bytes);
        match head::head_end(&self.bytes, self.searched) {
            Ok(end) => {
                self.bytes.truncate(end);
                Extended::Ends(end.saturating_sub(before))
            }
            Err(searched) => {
                self.searched = searched;
                if self.bytes.len() > config.head_limit {
                    // Whole lines are kept; of a first line that is longer than all the limit, its beginning.
                    let lines = memchr::memrchr(b'\n', &self.bytes).map_or(0, |end| end.saturating_add(1));
                    let line = self.bytes.get(lines..).unwrap_or_default();
                    let line = line.get(line.len().saturating_sub(LINE_LIMIT)..).unwrap_or_default().to_vec();
                    self.bytes.truncate(if lines == 0 { config.head_limit } else { lines });
                    self.overflow = Some(line);
                }
                Extended::More
            }
        }
    }

    /// One octet more of what may be a preface or a PROXY header; ends when it is one. When it is none, `prefix` is
    /// cleared: then it is a head like any other.
    pub(super) fn extend_prefix(&mut self, octet: &[u8], config: &Config, budget: &mut Budget) -> Extended {
        if self.bytes.len() >= self.charged {
            let more = self.charged.max(64);
            if !budget.take(self.charged, more, config) {
                return Extended::Refused;
            }
            self.charged = self.charged.saturating_add(more);
        }
        self.bytes.extend_from_slice(octet);
        match (probe::preface(&self.bytes), probe::proxy_header(&self.bytes)) {
            (Prefix::Whole(_), _) | (_, Prefix::Whole(_)) => return Extended::Ends(1),
            (Prefix::No, Prefix::No) => {
                self.prefix = false;
                self.searched = 0;
            }
            _ => {}
        }
        Extended::More
    }

    /// Reads on line by line; what is kept is the end of a line that is too long, since there the version stands.
    pub(super) fn extend_overflow(&mut self, bytes: &[u8]) -> Extended {
        let mut taken = 0_usize;
        let Some(line) = &mut self.overflow else { return Extended::More };
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let end = memchr::memchr(b'\n', rest);
            let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            line.extend_from_slice(piece);
            if line.len() > LINE_LIMIT.saturating_mul(2) {
                line.drain(..line.len().saturating_sub(LINE_LIMIT));
            }
            taken = taken.saturating_add(piece.len());
            if end.is_none() {
                break;
            }
            taken = taken.saturating_add(1);
            let whole = line.strip_suffix(b"\r").unwrap_or(line);
            if whole.is_empty() {
                self.bytes.extend_from_slice(b"\r\n");
                return Extended::Ends(taken);
            }
            if !self.bytes.contains(&b'\n') {
                let version = whole.get(whole.len().saturating_sub(8)..).unwrap_or_default();
                self.bytes.push(b' ');
                self.bytes.extend_from_slice(version);
                self.bytes.extend_from_slice(b"\r\n");
            } else if head::is_framing_line(whole) {
                self.bytes.extend_from_slice(whole);
                self.bytes.extend_from_slice(b"\r\n");
            }
            line.clear();
        }
        Extended::More
    }
}

impl Connection {
    /// A head begins that does not end in this event.
    pub(super) fn begin_head(&mut self, data: &Data<'_>, taken: usize, scope: &mut Scope<'_>) {
        let rest = data.bytes.get(taken..).unwrap_or_default();
        let mut partial = PartialHead::new(begin_at(data, taken), false);
        let extended = partial.extend(rest, scope.config, scope.budget);
        let side = self.side_mut(data.direction);
        side.latest = data.time;
        side.place = Place::Head(partial);
        if matches!(extended, Extended::Refused) {
            self.drop_head(data.direction, scope);
        }
    }

    pub(super) fn take_head(
        &mut self,
        direction: Direction,
        scope: &mut Scope<'_>,
    ) -> Option<Box<PartialHead>> {
        let side = self.side_mut(direction);
        match std::mem::replace(&mut side.place, Place::Start) {
            Place::Head(partial) => {
                scope.budget.give(partial.charged);
                Some(partial)
            }
            other => {
                side.place = other;
                None
            }
        }
    }

    /// A head cannot be held.
    pub(super) fn drop_head(&mut self, direction: Direction, scope: &mut Scope<'_>) {
        if let Some(partial) = self.take_head(direction, scope) {
            *scope.hunted = scope.hunted.saturating_add(partial.bytes.len() as u64);
        }
        self.side_mut(direction).out_of_step();
        self.uncertain |= direction == Direction::ToClient;
    }
}
