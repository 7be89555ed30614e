//! Coded bodies that come again: actors and notes are fetched over and over, mostly compressed. What was decoded a moment
//! ago is recognised by its octets (all of them are compared) and not decoded again. Bounded by [`LIMIT`]; results are
//! the same with and without. (Bodies that are not coded have only to be hashed, which takes no longer than to compare.)

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use super::recurring::Recurring;

/// Longer bodies are not remembered, neither coded nor decoded.
const LONGEST: usize = 64 << 10;
/// Octets that all remembered bodies take together.
const LIMIT: usize = 4 << 20;
/// A coded body and what came of it.
#[derive(Debug)]
struct Entry {
    hash: u64,
    /// As it came.
    octets: Box<[u8]>,
    sha256: [u8; 32],
    decoded: Decoded,
}

/// What a coded body holds.
#[derive(Debug)]
pub(super) struct Decoded {
    /// As the field names the codings.
    encoding: Box<str>,
    /// The content.
    pub(super) octets: Box<[u8]>,
    /// Of `octets`.
    pub(super) sha256: [u8; 32],
}

/// The memory of bodies.
#[derive(Debug)]
pub(super) struct Known {
    bodies: Recurring<Entry>,
    hasher: RandomState,
}

impl Default for Known {
    fn default() -> Self {
        Self { bodies: Recurring::new(LIMIT), hasher: RandomState::default() }
    }
}

impl Known {
    /// Octets that it takes, its tables included.
    pub(super) fn held(&self) -> usize {
        self.bodies.memory()
    }

    /// SHA-256 of a coded body, and its content, if both are known.
    pub(super) fn decoded(&self, octets: &[u8], encoding: &str) -> Option<([u8; 32], &Decoded)> {
        let entry = self.find(self.hash(octets)?, octets)?;
        (*entry.decoded.encoding == *encoding).then_some((entry.sha256, &entry.decoded))
    }

    /// Says what a coded body holds, after it was decoded without anything being odd.
    pub(super) fn learn(
        &mut self,
        octets: &[u8],
        sha256: [u8; 32],
        encoding: &str,
        decoded: &[u8],
        decoded_sha256: [u8; 32],
    ) {
        let Some(hash) = self.hash(octets).filter(|_| decoded.len() <= LONGEST) else { return };
        if self.bodies.again(hash) {
            let cost = octets.len().saturating_add(decoded.len());
            let decoded =
                Decoded { encoding: encoding.into(), octets: decoded.into(), sha256: decoded_sha256 };
            self.bodies.keep(hash, Entry { hash, octets: octets.into(), sha256, decoded }, cost);
        }
    }

    /// `None` for what is not remembered. Never 0, which stands for nothing.
    fn hash(&self, octets: &[u8]) -> Option<u64> {
        (octets.len() <= LONGEST).then(|| self.hasher.hash_one(octets).max(1))
    }

    fn find(&self, hash: u64, octets: &[u8]) -> Option<&Entry> {
        let entry = self.bodies.at(hash)?;
        (entry.hash == hash && *entry.octets == *octets).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coded_body_is_known_from_its_second_time_on_and_only_under_its_own_coding() {
        let mut known = Known::default();
        for _ in 0..2 {
            assert!(known.decoded(b"coded", "gzip").is_none());
            known.learn(b"coded", [1; 32], "gzip", b"content", [2; 32]);
        }
        let (coded, decoded) = known.decoded(b"coded", "gzip").expect("it came twice");
        assert_eq!((coded, &*decoded.octets, decoded.sha256), ([1; 32], &b"content"[..], [2; 32]));
        assert!(known.decoded(b"coded", "br").is_none());
        assert!(known.decoded(b"other", "gzip").is_none());
    }

    #[test]
    fn memory_is_bounded_and_counted() {
        let mut known = Known::default();
        for _ in 0..2 {
            for n in 0..2_000_u32 {
                let mut body = vec![0; 32 << 10];
                body[..4].copy_from_slice(&n.to_be_bytes());
                for _ in 0..2 {
                    known.learn(&body, [0; 32], "gzip", &body[..n as usize], [0; 32]);
                }
                let (really, accounted) = known.bodies.held();
                assert_eq!(accounted, really);
                // The tables have 2,048 places and 8,192 hashes.
                assert!(known.held() <= LIMIT + 160 * 2_048 + 8 * 8_192, "{}", known.held());
            }
        }
    }
}
