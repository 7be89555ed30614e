//! Exchanges on their way into a store, in their stored form already: they are taken apart where they were made, while
//! they are in that processor's cache, and what is handed to the writing thread is a few long buffers instead of
//! hundreds of small ones.

use super::chunk::{Builder, Recent};
use crate::activitypub::Reading;
use crate::http::Exchange;
use crate::view::Row;

/// Exchanges to be stored together; made by [`Store::batch`](super::Store::batch).
#[derive(Debug)]
pub struct Batch {
    /// All but the last are full.
    chunks: Vec<Builder>,
    /// Bodies of this batch and of those before it.
    recent: Recent,
    /// Chunks to be used again.
    spare: Vec<Builder>,
    /// No chunk spans more nanoseconds.
    span: u64,
    /// Of all chunks but the last.
    len: usize,
    octets: usize,
}

/// Memory that a chunk may have grown to and still be used again.
const SPARE_SIZE: usize = 1 << 20;

impl Batch {
    pub(super) fn new(span: u64) -> Self {
        let (chunks, spare, recent) = (Vec::new(), Vec::new(), Recent::default());
        Self { chunks, recent, spare, span, len: 0, octets: 0 }
    }

    /// Adds an exchange with its reading.
    pub fn push(&mut self, exchange: &Exchange, reading: &Reading) {
        let started = exchange.id.started().0;
        let room =
            self.chunks.last().filter(|chunk| !chunk.is_full() && !chunk.is_too_long(started, self.span));
        if room.is_none() {
            if let Some(full) = self.chunks.last() {
                self.len += full.len();
                self.octets += full.weight();
            }
            self.chunks.push(self.spare.pop().unwrap_or_default());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(exchange, reading, &mut self.recent);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len + self.chunks.last().map_or(0, Builder::len)
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets of memory that they take, about.
    pub fn octets(&self) -> usize {
        self.octets + self.chunks.last().map_or(0, Builder::weight)
    }

    /// Takes what is there, save the last ones where they would still share a chunk with those that come next. Gives
    /// everything when `all` is set or there is nothing else.
    pub fn take(&mut self, all: bool) -> Self {
        let mut taken = Self::new(self.span);
        let last = if all || self.chunks.len() < 2 { None } else { self.chunks.pop() };
        std::mem::swap(&mut taken.chunks, &mut self.chunks);
        self.chunks.extend(last);
        let full = taken.chunks.split_last().map_or(&[][..], |(_, full)| full);
        taken.len = full.iter().map(Builder::len).sum();
        taken.octets = full.iter().map(Builder::weight).sum();
        (self.len, self.octets) = (0, 0);
        taken
    }

    /// Gives the memory of a batch that is done with to this one.
    pub fn recycle(&mut self, done: Self) {
        for mut chunk in done.chunks.into_iter().chain(done.spare) {
            if chunk.capacity() <= SPARE_SIZE {
                chunk.clear();
                self.spare.push(chunk);
            }
        }
    }

    /// The rows of the exchanges, in their order.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        // What was just encoded can be read.
        self.chunks.iter().flat_map(|chunk| (0..chunk.len()).filter_map(|n| chunk.row(n).ok()))
    }

    pub(super) fn chunks(&self) -> &[Builder] {
        &self.chunks
    }

    pub(super) fn chunks_mut(&mut self) -> &mut [Builder] {
        &mut self.chunks
    }
}
