//! What an h2 connection takes beside what the budget for bodies was charged for.

use super::H2;
use crate::http::cost::{ALLOCATION, anomalies, vector};

/// An entry of an ordered tree whose nodes are half full.
const ENTRY: usize = 48;

impl H2 {
    /// Open streams.
    pub(in crate::http) fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// The memory that it takes; the work grows with the open streams.
    pub(in crate::http) fn cost(&self) -> usize {
        let streams = self.streams.values().map(|stream| stream.cost().saturating_add(ENTRY));
        let tables = [&self.to_server, &self.to_client].map(|side| side.hpack.held());
        let fixed = [
            size_of::<Self>(),
            ALLOCATION,
            vector::<u32>(self.closed.capacity()),
            self.waiting.len().saturating_mul(ENTRY),
            anomalies(&self.anomalies),
        ];
        streams.chain(tables).chain(fixed).fold(0, usize::saturating_add)
    }
}

