//! Documents that come again (actors are fetched over and over, one activity goes to many inboxes) are parsed once. A
//! document is known by the SHA-256 of its body. Bounded by [`LIMIT`]; readings are the same with and without.

use std::ops::Deref;
use std::sync::Arc;

use super::document::Node;
use super::head::whole;
use crate::http::Body;
use crate::http::recurring::Recurring;

/// Octets of bodies whose documents are kept, and of the objects in them.
const LIMIT: usize = 4 << 20;
/// A document that takes more than this is not kept.
const LARGEST: usize = 128 << 10;
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

/// The documents that are kept.
#[derive(Debug)]
pub(super) struct Documents {
    /// Each with the hash of its body.
    kept: Recurring<(Hash, Arc<Node<'static>>)>,
}

impl Default for Documents {
    fn default() -> Self {
        Self { kept: Recurring::new(LIMIT) }
    }
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
        if let Some((_, node)) = self.kept.at(short).filter(|(of, _)| *of == hash) {
            return Some(Parsed::Kept(node.clone()));
        }
        let node = Node::parse(octets)?;
        if !self.kept.again(short) {
            return Some(Parsed::Fresh(Box::new(node)));
        }
        let cost = node.cost().saturating_add(octets.len());
        if cost > LARGEST {
            return Some(Parsed::Fresh(Box::new(node)));
        }
        let node = Arc::new(node.into_owned());
        self.kept.keep(short, (hash, node.clone()), cost);
        Some(Parsed::Kept(node))
    }
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
            let (really, accounted) = documents.kept.held();
            assert!(accounted == really && really <= LIMIT, "{really}");
        }
        let large = body(&format!(r#"{{"type":"Note","content":"{}"}}"#, "x".repeat(LARGEST)));
        for _ in 0..3 {
            assert!(matches!(documents.parse(&large), Some(Parsed::Fresh(_))));
        }
    }
}
