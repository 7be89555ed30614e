//! Documents that come again (actors are fetched over and over, one activity goes to many inboxes) are parsed once. A
//! document is known by the SHA-256 of its body. Bounded by [`LIMIT`]; readings are the same with and without.

use std::ops::Deref;
use std::sync::Arc;

use super::document::Node;
use super::head::whole;
use crate::http::Body;

/// Octets of bodies whose documents are kept, and of the objects in them.
const LIMIT: usize = 4 << 20;
/// A document that takes more than this is not kept.
const LARGEST: usize = 128 << 10;
/// Documents kept at most.
const PLACES: usize = 2048;
/// How many find no room before all are forgotten.
const REFUSALS: usize = 4 * PLACES;
/// Bodies that came once: only what comes a second time is kept.
const ONCE: usize = 8192;

type Hash = [u8; 32];

/// A parsed document, made for this exchange or kept from an earlier one.
pub(super) enum Parsed<'a> {
    Fresh(Box<Node<'a>>),
    Kept(Arc<Node<'static>>),
}

impl<'a> Deref for Parsed<'a> {
    type Target = Node<'a>;

    fn deref(&self) -> &Node<'a> {
        match self {
            Self::Fresh(node) => node,
            Self::Kept(node) => node,
        }
    }
}

#[derive(Debug)]
struct Entry {
    hash: Hash,
    node: Arc<Node<'static>>,
    cost: usize,
}

/// The documents that are kept.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// Empty until the first document.
    once: Vec<u64>,
    entries: Vec<Option<Entry>>,
    /// What `entries` cost together.
    held: usize,
    /// Found no room since.
    refused: usize,
}

impl Documents {
    /// The document that is the whole content of a body; `None` where there is none.
    pub(super) fn parse<'a>(&mut self, body: &'a Body) -> Option<Parsed<'a>> {
        let octets = whole(body)?;
        let Some(hash) = body.sha256.filter(|_| octets.len() <= LARGEST) else {
            return Node::parse(octets).map(|node| Parsed::Fresh(Box::new(node)));
        };
        // Any part of a SHA-256 is as good as another.
        let [a, b, c, d, e, f, g, h, ..] = hash;
        let short = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        if let Some(Some(entry)) = self.entries.get(place(short, PLACES))
            && entry.hash == hash
        {
            return Some(Parsed::Kept(entry.node.clone()));
        }
        let node = Node::parse(octets)?;
        if !self.again(short) {
            return Some(Parsed::Fresh(Box::new(node)));
        }
        let cost = node.cost().saturating_add(octets.len());
        if cost > LARGEST {
            return Some(Parsed::Fresh(Box::new(node)));
        }
        let node = Arc::new(node.into_owned());
        self.keep(short, Entry { hash, node: node.clone(), cost });
        Some(Parsed::Kept(node))
    }

    fn again(&mut self, short: u64) -> bool {
        if self.once.is_empty() {
            self.once = vec![0; ONCE];
            self.entries.resize_with(PLACES, || None);
        }
        self.once.get_mut(place(short, ONCE)).is_some_and(|known| std::mem::replace(known, short) == short)
    }

    fn keep(&mut self, short: u64, entry: Entry) {
        let cost = entry.cost;
        if self.held.saturating_add(cost) > LIMIT {
            // What is kept stays for a while: to replace one by another would help neither. Then all begins anew, so that
            // what no longer comes makes room.
            self.refused = self.refused.saturating_add(1);
            if self.refused < REFUSALS {
                return;
            }
            self.entries.fill_with(|| None);
            (self.held, self.refused) = (0, 0);
        }
        let Some(slot) = self.entries.get_mut(place(short, PLACES)) else { return };
        let old = slot.replace(entry).map_or(0, |entry| entry.cost);
        self.held = self.held.saturating_add(cost).saturating_sub(old);
    }
}

/// Where a hash stands in a table of so many places.
fn place(hash: u64, places: usize) -> usize {
    usize::try_from(hash).unwrap_or_default().checked_rem(places).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn body(text: &str) -> Body {
        Body {
            size: text.len() as u64,
            complete: true,
            bytes: text.as_bytes().to_vec(),
            sha256: Some(Sha256::digest(text).into()),
            ..Body::default()
        }
    }

    #[test]
    fn a_document_reads_the_same_each_time() {
        let mut documents = Documents::default();
        let note = body(
            r#"{"@context":["https://www.w3.org/ns/activitystreams"],"id":"https://a/1","type":["Create","x\n"],
            "actor":{"id":"https://a/u","publicKey":{"id":"https://a/u#k","owner":"https://a/u"}},"to":["p","q",{"id":"r"}],
            "object":{"type":"Note","content":"<p>\u3042</p>","attributedTo":"https://a/u"},
            "links":[{"rel":"self","href":"h"}],"software":{"name":"n","version":"1"}}"#,
        );
        let fresh = Node::parse(&note.bytes).expect("it is an object");
        for round in 0..4 {
            let again = documents.parse(&note).expect("it is an object");
            assert_eq!(*again, fresh, "round {round}");
            assert_eq!(matches!(again, Parsed::Kept(_)), round > 0);
        }
        let other = body(r#"{"id":"https://a/2","type":"Note"}"#);
        assert_eq!(documents.parse(&other).expect("an object").id.as_deref(), Some("https://a/2"));
        assert!(documents.parse(&body("[1,2]")).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let mut documents = Documents::default();
        for n in 0..600 {
            let document = body(&format!(r#"{{"id":"https://a/{n}","content":"{}"}}"#, "x".repeat(30_000)));
            for _ in 0..3 {
                documents.parse(&document);
            }
            let really: usize = documents.entries.iter().flatten().map(|e| e.cost).sum();
            assert!(documents.held == really && really <= LIMIT, "{really}");
        }
        let large = body(&format!(r#"{{"type":"Note","content":"{}"}}"#, "x".repeat(LARGEST)));
        for _ in 0..3 {
            assert!(matches!(documents.parse(&large), Some(Parsed::Fresh(_))));
        }
    }
}
