//! From the JSON of a body to the parts of an Activity Streams object, a discovery answer or a NodeInfo document that
//! the readings need. One pass, without building a tree: what is not asked for is skipped. Types and properties may be
//! strings, arrays or objects, compact or expanded JSON-LD; `@context` is only asked whether it names Activity Streams.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize as _;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::head::AS2;

/// Objects inside objects that are read: an Announce of an Undo of a Follow of an actor, and one to spare.
const DEPTH: u8 = 6;
/// Members of an array that are kept.
const MEMBERS: usize = 256;

/// A text of the document, borrowed where it holds no escapes.
pub(super) type Text<'a> = Cow<'a, str>;

/// What a property refers to: the first object or IRI in full, the ids of the others.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Value<'a> {
    /// The first member.
    pub(super) first: Option<One<'a>>,
    /// The ids of the members behind the first.
    pub(super) more: Vec<Text<'a>>,
}

/// An IRI (or plain string), or an embedded object.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum One<'a> {
    Text(Text<'a>),
    Node(Box<Node<'a>>),
}

impl<'a> Value<'a> {
    /// The id of the first member.
    pub(super) fn id(&self) -> Option<&str> {
        match self.first.as_ref()? {
            One::Text(text) => Some(text),
            One::Node(node) => node.id.as_deref(),
        }
    }

    /// The first member, if it is embedded.
    pub(super) fn node(&self) -> Option<&Node<'a>> {
        match self.first.as_ref()? {
            One::Node(node) => Some(node),
            One::Text(_) => None,
        }
    }

    /// All ids, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.id().into_iter().chain(self.more.iter().map(|id| &**id))
    }

    /// True when there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

/// An object, as far as it is read. Absent and unreadable are alike.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Node<'a> {
    pub(super) id: Option<Text<'a>>,
    /// Types, without the Activity Streams prefix.
    pub(super) types: Vec<Text<'a>>,
    pub(super) actor: Value<'a>,
    pub(super) attributed_to: Value<'a>,
    pub(super) object: Value<'a>,
    pub(super) target: Value<'a>,
    pub(super) instrument: Value<'a>,
    pub(super) in_reply_to: Value<'a>,
    pub(super) to: Value<'a>,
    pub(super) cc: Value<'a>,
    /// `bto` or `bcc` is there, and not empty.
    pub(super) blind: bool,
    pub(super) content: Option<Text<'a>>,
    pub(super) name: Option<Text<'a>>,
    pub(super) former_type: Option<Text<'a>>,
    pub(super) preferred_username: Option<Text<'a>>,
    pub(super) inbox: Option<Text<'a>>,
    pub(super) outbox: Option<Text<'a>>,
    pub(super) followers: Option<Text<'a>>,
    pub(super) following: Option<Text<'a>>,
    pub(super) featured: Option<Text<'a>>,
    pub(super) featured_tags: Option<Text<'a>>,
    pub(super) liked: Option<Text<'a>>,
    pub(super) shared_inbox: Option<Text<'a>>,
    pub(super) replies: Option<Text<'a>>,
    pub(super) likes: Option<Text<'a>>,
    pub(super) shares: Option<Text<'a>>,
    pub(super) part_of: Option<Text<'a>>,
    /// `publicKey`: ids of keys and their owners.
    pub(super) public_key: Value<'a>,
    pub(super) owner: Option<Text<'a>>,
    pub(super) has_pem: bool,
    /// `_misskey_reaction`, or the `content` of a reaction.
    pub(super) reaction: Option<Text<'a>>,
    /// `signature` or `proof`: the document vouches for itself.
    pub(super) proof: bool,
    /// `oneOf` or `anyOf`.
    pub(super) poll: bool,
    /// `@context` is there.
    pub(super) context: bool,
    /// `@context` names Activity Streams as a string.
    pub(super) as2_context: bool,
    /// Members beside `@context`.
    pub(super) members: u32,
    /// `items` or `orderedItems`.
    pub(super) items: bool,
    /// JRD: `subject`.
    pub(super) subject: Option<Text<'a>>,
    /// JRD: `links`.
    pub(super) links: Vec<Link<'a>>,
    /// NodeInfo: `software`, with `name` and `version`.
    pub(super) software: Option<(Text<'a>, Text<'a>)>,
    pub(super) version: Option<Text<'a>>,
    pub(super) has_protocols: bool,
    /// What an error answer says: `error` or `message`.
    pub(super) error: Option<Text<'a>>,
}

/// A link of a JRD (RFC 7033 §4.4.4).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Link<'a> {
    pub(super) rel: Text<'a>,
    pub(super) r#type: Text<'a>,
    pub(super) href: Text<'a>,
}

const ACTORS: &[&str] = &["Application", "Group", "Organization", "Person", "Service"];
const COLLECTIONS: &[&str] = &["Collection", "CollectionPage", "OrderedCollection", "OrderedCollectionPage"];

impl<'a> Node<'a> {
    /// Parses a body. The top level may be an array of one object (expanded JSON-LD). `None` for anything else.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let first = body.iter().find(|b| !b.is_ascii_whitespace())?;
        if !matches!(first, b'{' | b'[') {
            return None;
        }
        // To look at all octets once is cheaper than at those of each text. What is not UTF-8 throughout may still have
        // texts that are.
        let value = match std::str::from_utf8(body) {
            Ok(text) => Self::value(serde_json::Deserializer::from_str(text))?,
            Err(_) => Self::value(serde_json::Deserializer::from_slice(body))?,
        };
        match value.first? {
            One::Node(node) => Some(*node),
            One::Text(_) => None,
        }
    }

    fn value<R: serde_json::de::Read<'a>>(mut parser: serde_json::Deserializer<R>) -> Option<Value<'a>> {
        let value = ValueSeed { depth: 0 }.deserialize(&mut parser).ok()?;
        parser.end().ok()?;
        Some(value)
    }

    /// The same without the body.
    pub(super) fn into_owned(self) -> Node<'static> {
        owned::node(self)
    }

    /// Octets that it takes beside its texts, which are no longer than the body.
    pub(super) fn cost(&self) -> usize {
        let values = [
            &self.actor, &self.attributed_to, &self.object, &self.target, &self.instrument, &self.in_reply_to,
            &self.to, &self.cc, &self.public_key,
        ];
        let inside = values.into_iter().map(|value| {
            let more = value.more.len().saturating_mul(size_of::<Text<'_>>());
            value.node().map_or(0, Node::cost).saturating_add(more)
        });
        let lists = [
            size_of::<Self>(),
            self.types.len().saturating_mul(size_of::<Text<'_>>()),
            self.links.len().saturating_mul(size_of::<Link<'_>>()),
        ];
        inside.chain(lists).fold(0, usize::saturating_add)
    }

    /// The first type that `known` knows, else the first.
    pub(super) fn type_in(&self, known: impl Fn(&str) -> bool) -> Option<&str> {
        self.types.iter().find(|t| known(t)).or(self.types.first()).map(|t| &**t)
    }

    /// True when one of the types is this.
    pub(super) fn is(&self, name: &str) -> bool {
        self.types.iter().any(|t| t == name)
    }

    /// True for an actor: by type, or by having an inbox and a key.
    pub(super) fn is_actor(&self) -> bool {
        let typed = self.types.iter().any(|t| ACTORS.contains(&&**t));
        (typed && (self.inbox.is_some() || self.preferred_username.is_some() || !self.public_key.is_empty()))
            || (self.inbox.is_some() && (self.outbox.is_some() || !self.public_key.is_empty()))
    }

    /// True for a collection or a page of one.
    pub(super) fn is_collection(&self) -> bool {
        self.types.iter().any(|t| COLLECTIONS.contains(&&**t))
    }

    /// True for a page of a collection.
    pub(super) fn is_page(&self) -> bool {
        self.is("CollectionPage") || self.is("OrderedCollectionPage")
    }

    /// True for a document that is a key and nothing else.
    pub(super) fn is_key(&self) -> bool {
        self.is("Key") || self.is("CryptographicKey") || self.is("Multikey") || (self.has_pem && self.inbox.is_none())
    }

    /// True for an activity: something that someone does.
    pub(super) fn is_activity(&self) -> bool {
        !self.actor.is_empty() && !self.types.is_empty()
    }

    /// Who made it: `attributedTo`, else `actor`.
    pub(super) fn author(&self) -> Option<&str> {
        self.attributed_to.id().or_else(|| self.actor.id())
    }
}

/// To own what was borrowed from the body.
mod owned {
    use super::{Cow, Link, Node, One, Text, Value};

    fn text(text: Text<'_>) -> Text<'static> {
        Cow::Owned(text.into_owned())
    }

    fn texts(all: Vec<Text<'_>>) -> Vec<Text<'static>> {
        all.into_iter().map(text).collect()
    }

    fn value(value: Value<'_>) -> Value<'static> {
        let first = value.first.map(|one| match one {
            One::Text(one) => One::Text(text(one)),
            One::Node(one) => One::Node(Box::new(node(*one))),
        });
        Value { first, more: texts(value.more) }
    }

    fn link(link: Link<'_>) -> Link<'static> {
        Link { rel: text(link.rel), r#type: text(link.r#type), href: text(link.href) }
    }

    pub(super) fn node(node: Node<'_>) -> Node<'static> {
        Node {
            id: node.id.map(text),
            types: texts(node.types),
            actor: value(node.actor),
            attributed_to: value(node.attributed_to),
            object: value(node.object),
            target: value(node.target),
            instrument: value(node.instrument),
            in_reply_to: value(node.in_reply_to),
            to: value(node.to),
            cc: value(node.cc),
            blind: node.blind,
            content: node.content.map(text),
            name: node.name.map(text),
            former_type: node.former_type.map(text),
            preferred_username: node.preferred_username.map(text),
            inbox: node.inbox.map(text),
            outbox: node.outbox.map(text),
            followers: node.followers.map(text),
            following: node.following.map(text),
            featured: node.featured.map(text),
            featured_tags: node.featured_tags.map(text),
            liked: node.liked.map(text),
            shared_inbox: node.shared_inbox.map(text),
            replies: node.replies.map(text),
            likes: node.likes.map(text),
            shares: node.shares.map(text),
            part_of: node.part_of.map(text),
            public_key: value(node.public_key),
            owner: node.owner.map(text),
            has_pem: node.has_pem,
            reaction: node.reaction.map(text),
            proof: node.proof,
            poll: node.poll,
            context: node.context,
            as2_context: node.as2_context,
            members: node.members,
            items: node.items,
            subject: node.subject.map(text),
            links: node.links.into_iter().map(link).collect(),
            software: node.software.map(|(name, version)| (text(name), text(version))),
            version: node.version.map(text),
            has_protocols: node.has_protocols,
            error: node.error.map(text),
        }
    }
}

/// A name without the Activity Streams prefix, in its three spellings.
fn local(name: Text<'_>) -> Text<'_> {
    let cut = |name: &str| -> Option<usize> {
        name.strip_prefix("as:")
            .or_else(|| name.strip_prefix(AS2).and_then(|rest| rest.strip_prefix('#')))
            .map(|rest| name.len().saturating_sub(rest.len()))
    };
    match (cut(&name), name) {
        (Some(at), Cow::Borrowed(name)) => Cow::Borrowed(name.get(at..).unwrap_or(name)),
        (Some(at), Cow::Owned(name)) => Cow::Owned(name.get(at..).unwrap_or(&name).to_owned()),
        (None, name) => name,
    }
}

macro_rules! fields {
    ($($name:literal $(| $alias:literal)* => $field:ident,)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(non_camel_case_types)]
        enum Field { $($field,)* other }

        impl Field {
            // Octets, not text: the compiler then switches on lengths and octets instead of comparing one by one.
            fn named(name: &[u8]) -> Self {
                match name { $($name $(| $alias)* => Self::$field,)* _ => Self::other }
            }
        }
    };
}

fields! {
    b"id" | b"@id" => id,
    b"type" | b"@type" => types,
    b"actor" => actor,
    b"attributedTo" => attributed_to,
    b"object" => object,
    b"target" => target,
    b"instrument" => instrument,
    b"inReplyTo" => in_reply_to,
    b"to" => to,
    b"cc" => cc,
    b"bto" | b"bcc" => blind,
    b"content" => content,
    b"name" => name,
    b"formerType" => former_type,
    b"preferredUsername" => preferred_username,
    b"inbox" | b"http://www.w3.org/ns/ldp#inbox" => inbox,
    b"outbox" => outbox,
    b"followers" => followers,
    b"following" => following,
    b"featured" | b"toot:featured" | b"http://joinmastodon.org/ns#featured" => featured,
    b"featuredTags" => featured_tags,
    b"liked" => liked,
    b"endpoints" => endpoints,
    b"sharedInbox" => shared_inbox,
    b"replies" => replies,
    b"likes" => likes,
    b"shares" => shares,
    b"partOf" => part_of,
    b"publicKey" | b"https://w3id.org/security#publicKey" => public_key,
    b"owner" | b"controller" | b"https://w3id.org/security#owner" => owner,
    b"publicKeyPem" | b"publicKeyMultibase" => has_pem,
    b"_misskey_reaction" => reaction,
    b"signature" | b"proof" => proof,
    b"oneOf" | b"anyOf" => poll,
    b"@context" => context,
    b"items" | b"orderedItems" => items,
    b"subject" => subject,
    b"links" => links,
    b"software" => software,
    b"version" => version,
    b"protocols" => has_protocols,
    b"error" | b"message" => error,
    b"@value" => value,
}

struct FieldSeed;

impl<'de> DeserializeSeed<'de> for FieldSeed {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Field, D::Error> {
        struct Names;
        impl Visitor<'_> for Names {
            type Value = Field;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Field, E> {
                let local = name
                    .strip_prefix("as:")
                    .or_else(|| name.strip_prefix(AS2).and_then(|rest| rest.strip_prefix('#')))
                    .unwrap_or(name);
                Ok(Field::named(local.as_bytes()))
            }
        }
        from.deserialize_identifier(Names)
    }
}

/// Reads any JSON value as a [`Value`].
#[derive(Clone, Copy)]
struct ValueSeed {
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value<'de>, D::Error> {
        if self.depth > DEPTH {
            IgnoredAny::deserialize(from)?;
            return Ok(Value::default());
        }
        from.deserialize_any(ValueVisitor { depth: self.depth })
    }
}

struct ValueVisitor {
    depth: u8,
}

/// The visits of what is neither text, array nor object: all give the same.
macro_rules! scalars {
    ($value:expr) => {
        fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
}

impl<'de> ValueVisitor {
    fn text<E>(text: Text<'de>) -> Result<Value<'de>, E> {
        Ok(Value { first: Some(One::Text(text)), more: Vec::new() })
    }
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Self::text(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value<'de>, E> {
        Self::text(Cow::Owned(text.to_owned()))
    }

    scalars!(Value::default());

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Value<'de>, A::Error> {
        let mut all = Value::default();
        let seed = ValueSeed { depth: self.depth.saturating_add(1) };
        while let Some(one) = members.next_element_seed(seed)? {
            let Some(first) = one.first else { continue };
            if all.first.is_none() {
                all.first = Some(first);
            } else if all.more.len() < MEMBERS {
                match first {
                    One::Text(text) => all.more.push(text),
                    One::Node(node) => all.more.extend(node.id),
                }
            }
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Value<'de>, A::Error> {
        let (node, value) = read_node(members, self.depth)?;
        if let Some(value) = value {
            return Self::text(value);
        }
        // An expanded reference is an object with nothing but an id.
        if node.members == 1
            && let Some(id) = node.id
        {
            return Self::text(id);
        }
        Ok(Value { first: Some(One::Node(Box::new(node))), more: Vec::new() })
    }
}

fn read_node<'de, A: MapAccess<'de>>(
    mut members: A, depth: u8,
) -> Result<(Node<'de>, Option<Text<'de>>), A::Error> {
    let mut node = Node::default();
    let mut literal = None;
    let seed = ValueSeed { depth: depth.saturating_add(1) };
    while let Some(field) = members.next_key_seed(FieldSeed)? {
        if field != Field::context {
            node.members = node.members.saturating_add(1);
        }
        macro_rules! text {
            () => {
                members.next_value_seed(seed).map(text_of)?
            };
        }
        match field {
            Field::other => {
                members.next_value::<IgnoredAny>()?;
            }
            Field::id => node.id = text!(),
            Field::types => {
                let value = members.next_value_seed(seed)?;
                let first = value.first.and_then(|one| match one {
                    One::Text(text) => Some(text),
                    One::Node(_) => None,
                });
                node.types = first.into_iter().chain(value.more).take(16).map(local).collect();
            }
            Field::actor => node.actor = members.next_value_seed(seed)?,
            Field::attributed_to => node.attributed_to = members.next_value_seed(seed)?,
            Field::object => node.object = members.next_value_seed(seed)?,
            Field::target => node.target = members.next_value_seed(seed)?,
            Field::instrument => node.instrument = members.next_value_seed(seed)?,
            Field::in_reply_to => node.in_reply_to = members.next_value_seed(seed)?,
            Field::to => node.to = members.next_value_seed(seed)?,
            Field::cc => node.cc = members.next_value_seed(seed)?,
            Field::blind => node.blind |= !members.next_value_seed(seed)?.is_empty(),
            Field::content => node.content = text!(),
            Field::name => node.name = text!(),
            Field::former_type => node.former_type = text!().map(local),
            Field::preferred_username => node.preferred_username = text!(),
            Field::inbox => node.inbox = text!(),
            Field::outbox => node.outbox = text!(),
            Field::followers => node.followers = text!(),
            Field::following => node.following = text!(),
            Field::featured => node.featured = text!(),
            Field::featured_tags => node.featured_tags = text!(),
            Field::liked => node.liked = text!(),
            Field::endpoints => {
                if let Some(One::Node(endpoints)) = members.next_value_seed(seed)?.first {
                    node.shared_inbox = endpoints.shared_inbox;
                }
            }
            Field::shared_inbox => node.shared_inbox = text!(),
            Field::replies => node.replies = text!(),
            Field::likes => node.likes = text!(),
            Field::shares => node.shares = text!(),
            Field::part_of => node.part_of = text!(),
            Field::public_key => node.public_key = members.next_value_seed(seed)?,
            Field::owner => node.owner = text!(),
            Field::has_pem => node.has_pem = text!().is_some(),
            Field::reaction => node.reaction = text!(),
            Field::proof => node.proof = !members.next_value_seed(seed)?.is_empty(),
            Field::poll => node.poll = !members.next_value_seed(seed)?.is_empty(),
            Field::context => {
                let value = members.next_value_seed(ContextSeed { inside: false })?;
                node.context = true;
                node.as2_context |= value;
            }
            Field::items => {
                members.next_value::<IgnoredAny>()?;
                node.items = true;
            }
            Field::subject => node.subject = text!(),
            Field::links => node.links = members.next_value_seed(LinksSeed)?,
            Field::software => {
                if let Some(One::Node(software)) = members.next_value_seed(seed)?.first {
                    let Node { name, version, .. } = *software;
                    node.software = name.map(|name| (name, version.unwrap_or_default()));
                }
            }
            Field::version => node.version = text!(),
            Field::has_protocols => {
                members.next_value::<IgnoredAny>()?;
                node.has_protocols = true;
            }
            Field::error => node.error = text!(),
            Field::value => literal = text!(),
        }
    }
    Ok((node, literal))
}

/// A text: a string, or the id of an object.
fn text_of(value: Value<'_>) -> Option<Text<'_>> {
    match value.first? {
        One::Text(text) => Some(text),
        One::Node(node) => node.id,
    }
}

/// Whether a `@context` names Activity Streams by its IRI: it, or a member of it.
struct ContextSeed {
    /// This is a member.
    inside: bool,
}

impl<'de> DeserializeSeed<'de> for ContextSeed {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ContextSeed {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a context")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<bool, E> {
        Ok(text == AS2 || text == "http://www.w3.org/ns/activitystreams")
    }

    scalars!(false);

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        if self.inside {
            while members.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(false);
        }
        let mut found = false;
        while let Some(named) = members.next_element_seed(ContextSeed { inside: true })? {
            found |= named;
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }
}

/// The links of a JRD.
struct LinksSeed;

impl<'de> DeserializeSeed<'de> for LinksSeed {
    type Value = Vec<Link<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LinksSeed {
    type Value = Vec<Link<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("links")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    scalars!(Vec::new());

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut links = Vec::new();
        while let Some(link) = members.next_element_seed(LinkSeed)? {
            if links.len() < 64 {
                links.extend(link);
            }
        }
        Ok(links)
    }
}

struct LinkSeed;

impl<'de> DeserializeSeed<'de> for LinkSeed {
    type Value = Option<Link<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LinkSeed {
    type Value = Option<Link<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a link")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    scalars!(None);

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut link = Link::default();
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            let slot = match &*name {
                "rel" => &mut link.rel,
                "type" => &mut link.r#type,
                "href" => &mut link.href,
                _ => {
                    members.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = members.next_value_seed(ValueSeed { depth: DEPTH }).map(text_of)?.unwrap_or_default();
        }
        Ok(Some(link))
    }
}
