//! What comes again: a bounded memory of values by the hash of what they were made from. Only what comes a second time is
//! kept, so that what is all different does not drive out what comes again. A place is found by a hash; whether it is
//! really the same is the caller's to compare.

/// Values kept at most: a table of one place for each.
const PLACES: usize = 2048;
/// How many find no room before all are forgotten.
const REFUSALS: usize = 4 * PLACES;
/// Hashes of what came once.
const ONCE: usize = 8192;

/// The memory.
#[derive(Debug)]
pub(crate) struct Recurring<T> {
    /// Octets that the values may take together.
    limit: usize,
    /// Empty until the first value.
    once: Vec<u64>,
    /// Each value with what it costs, octets.
    entries: Vec<Option<(T, usize)>>,
    /// What `entries` cost together.
    held: usize,
    /// Found no room since.
    refused: usize,
}

impl<T> Recurring<T> {
    /// An empty one, whose values may take so many octets together.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, once: Vec::new(), entries: Vec::new(), held: 0, refused: 0 }
    }

    /// Octets that it takes, its tables included.
    pub(crate) fn memory(&self) -> usize {
        let once = self.once.capacity().saturating_mul(size_of::<u64>());
        let places = self.entries.capacity().saturating_mul(size_of::<Option<(T, usize)>>());
        self.held.saturating_add(once).saturating_add(places)
    }

    /// What stands where this hash belongs: perhaps another's value.
    pub(crate) fn at(&self, hash: u64) -> Option<&T> {
        self.entries.get(place(hash, PLACES))?.as_ref().map(|(value, _)| value)
    }

    /// Whether this hash came before; from now on it did. 0 stands for nothing, and always came.
    pub(crate) fn again(&mut self, hash: u64) -> bool {
        if self.once.is_empty() {
            self.once = vec![0; ONCE];
            self.entries.resize_with(PLACES, || None);
        }
        self.once.get_mut(place(hash, ONCE)).is_some_and(|known| std::mem::replace(known, hash) == hash)
    }

    /// Keeps a value that costs so many octets, if there is room.
    pub(crate) fn keep(&mut self, hash: u64, value: T, cost: usize) {
        if self.held.saturating_add(cost) > self.limit {
            // What is kept stays for a while: to replace one by another would help neither. Then all begins anew, so that
            // what no longer comes makes room.
            self.refused = self.refused.saturating_add(1);
            if self.refused < REFUSALS {
                return;
            }
            self.entries.fill_with(|| None);
            (self.held, self.refused) = (0, 0);
        }
        let Some(slot) = self.entries.get_mut(place(hash, PLACES)) else { return };
        let old = slot.replace((value, cost)).map_or(0, |(_, cost)| cost);
        self.held = self.held.saturating_add(cost).saturating_sub(old);
    }

    /// What the values cost, added up, and as it is accounted.
    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.entries.iter().flatten().map(|(_, cost)| cost).sum(), self.held)
    }
}

/// Where a hash stands in a table of so many places.
fn place(hash: u64, places: usize) -> usize {
    usize::try_from(hash).unwrap_or_default().checked_rem(places).unwrap_or_default()
}
