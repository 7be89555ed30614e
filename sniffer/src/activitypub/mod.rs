//! From exchanges to readings: what kind of request this was, who did what to whom, said in one sentence, as far as
//! the exchange and what was learnt from earlier ones tell. It reads what was said; it never asks anyone.

use std::borrow::Cow;
use serde::{Deserialize, Serialize};

mod activity;
mod cause;
mod classify;
mod client;
mod delivery;
mod digest;
mod document;
mod documents;
mod fetch;
mod head;
mod learn;
mod lints;
mod names;
mod origin;
mod place;
mod reader;
mod reason;
mod sentence;
mod signature;
mod teach;
#[cfg(test)]
mod tests;

pub use cause::Link;
pub use reader::Reader;
use reader::Scene;
pub use reason::REASONS;
pub use sentence::{Language, TEMPLATES};

// The kinds of `facts/activitypub-wire.md` §1.2.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $id:literal,)*) => {
        /// What kind of exchange it was.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        pub enum Kind { $($(#[$doc])* $name,)* }
        impl Kind {
            /// The stable name, as in JSON and filters.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

kinds! {
    /// POST of an activity to an inbox.
    InboxDelivery = "inbox-delivery",
    /// POST of an activity to an outbox (client to server).
    OutboxPost = "outbox-post",
    /// GET of an actor.
    Actor = "actor",
    /// GET of a public key.
    Key = "key",
    /// GET of an object or activity.
    Object = "object",
    /// GET of a collection or a page of one.
    Collection = "collection",
    /// GET of a partial followers collection (FEP-8fcf).
    FollowersSynchronization = "followers-synchronization",
    /// WebFinger (RFC 7033).
    WebFinger = "webfinger",
    /// host-meta (RFC 6415).
    HostMeta = "host-meta",
    /// NodeInfo discovery.
    NodeInfoDiscovery = "nodeinfo-discovery",
    /// A NodeInfo document.
    NodeInfo = "nodeinfo",
    /// Another well-known resource.
    WellKnown = "well-known",
    /// robots.txt.
    Robots = "robots",
    /// A JSON-LD context.
    Context = "context",
    /// oEmbed.
    OEmbed = "oembed",
    /// A page fetched by a server to make a link preview.
    LinkPreview = "link-preview",
    /// Media fetched by a server.
    Media = "media",
    /// A server's API about itself, asked by another server (`/api/v1/instance`).
    InstanceApi = "instance-api",
    /// The client API (Mastodon, Misskey, Lemmy), OAuth among it.
    ClientApi = "client-api",
    /// Streaming of the client API by WebSocket or server-sent events.
    Streaming = "streaming",
    /// A page for a browser.
    Page = "page",
    /// Scripts, styles, images of a page.
    Asset = "asset",
    /// Health checks and metrics.
    Probe = "probe",
    /// None of these.
    Other = "other",
    /// Too little was seen to say.
    Unknown = "unknown",
}

/// What an exchange meant.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// The kind.
    pub kind: Kind,
    /// What happened, as a template with slots: the faces render it in the reader's language.
    pub sentence: Sentence,
    /// The activity, for deliveries.
    pub activity: Option<Activity>,
    /// The signature, as written on the request. Its verdict comes with a later issue.
    pub signature: Signature,
    /// Whether the digest matches the body.
    pub digest: Digest,
    /// Who really sent the request, behind the proxy.
    pub origin: Option<Origin>,
    /// Rules that the exchange breaks.
    pub lints: Vec<Lint>,
    /// Why it went wrong, in two to four words, where it did: *not signed*, *key answers 404*.
    pub reason: Option<Box<str>>,
    /// True for what the *federation* view shows: servers among themselves, not browsers and clients.
    pub federation: bool,
    /// What made it necessary, where that had ended before it did.
    pub caused_by: Option<Link>,
    /// What it made necessary and ended before it did: fetches while it was held.
    pub caused: Vec<Link>,
}

/// The name of a slot, one of the templates' own, and what goes into it.
pub type Slot = (Cow<'static, str>, Box<str>);

/// A sentence as a template and its slots. `render` of the pure module gives English; the viewer has Japanese too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sentence {
    /// The stable name of the template: `follow.ask`.
    pub template: Cow<'static, str>,
    /// What goes into the slots, as (slot, value). Actors are `name@host` as far as known.
    pub slots: Vec<Slot>,
}

/// An activity, as in JSON; ids are URLs, `None` where absent or not a string.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Activity {
    /// Its id.
    pub id: Option<Box<str>>,
    /// Its type; the first known one where there are several.
    pub r#type: Option<Box<str>>,
    /// Who does it.
    pub actor: Option<Box<str>>,
    /// The id of what it is done to.
    pub object: Option<Box<str>>,
    /// The type of the object, where it is embedded.
    pub object_type: Option<Box<str>>,
    /// The id of what the object is itself about: the followed of an accepted Follow, the note replied to.
    pub inner: Option<Box<str>>,
    /// `target` (Add, Remove, Move).
    pub target: Option<Box<str>>,
    /// Primary addressees.
    pub to: Vec<Box<str>>,
    /// Secondary addressees.
    pub cc: Vec<Box<str>>,
    /// How far it may be seen, as Mastodon reads `to` and `cc` (§2.1).
    pub visibility: Option<Visibility>,
    /// The beginning of the note's text without markup; `None` when there is none or it is not for the public.
    pub excerpt: Option<Box<str>>,
}

/// How far an activity may be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Visibility {
    /// Public in `to`.
    Public,
    /// Public in `cc`.
    Unlisted,
    /// A followers collection is addressed.
    Followers,
    /// Named actors only.
    Direct,
}

/// How a request is signed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// draft-cavage-http-signatures.
    Cavage,
    /// RFC 9421.
    Rfc9421,
}

/// What can be said of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureVerdict {
    /// It verifies with a key that was seen.
    Valid,
    /// It does not.
    Invalid,
    /// The key was not seen on the wire.
    KeyNotSeen,
    /// It cannot be checked: a hole, an unknown algorithm, or checking is not built yet.
    NotCheckable,
    /// The request carries none.
    Unsigned,
}

/// A signature as written, and the verdict.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Signature {
    /// The scheme; `None` when unsigned or unreadable.
    pub scheme: Option<Scheme>,
    /// The key's id.
    pub key_id: Option<Box<str>>,
    /// The algorithm it names.
    pub algorithm: Option<Box<str>>,
    /// What it covers, in order.
    pub covered: Vec<Box<str>>,
    /// The verdict.
    pub verdict: SignatureVerdict,
    /// Why, in a sentence.
    pub explanation: Option<Box<str>>,
}

/// Whether the body is what its digest says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Digest {
    /// It is.
    Match,
    /// It is not.
    Mismatch,
    /// No digest was sent.
    Absent,
    /// The body is incomplete, or the algorithm is not known.
    NotCheckable,
}

/// Where one fact about the origin came from, in order of trust.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OriginSource {
    /// `X-Forwarded-For` (or `Forwarded`, `X-Real-Ip`) that the proxy added.
    ForwardedFor,
    /// The host of the signature's key id.
    KeyId,
    /// The User-Agent.
    UserAgent,
    /// What earlier exchanges of the same address said.
    Learnt,
    /// The peer of the connection itself.
    Peer,
}

/// Who really sent the request.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Origin {
    /// The address behind the proxy.
    pub address: Option<Box<str>>,
    /// Where the address came from.
    pub address_from: Option<OriginSource>,
    /// The host name of the sending server.
    pub host: Option<Box<str>>,
    /// Where the host came from.
    pub host_from: Option<OriginSource>,
    /// The software, with version: `GoToSocial 0.20.0`.
    pub software: Option<Box<str>>,
    /// Where the software came from.
    pub software_from: Option<OriginSource>,
}

/// How bad a broken rule is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Will fail with some peers.
    Warn,
    /// Wrong.
    Error,
}

/// A broken rule (`facts/activitypub-wire.md` §6).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Lint {
    /// Its stable name.
    pub id: Box<str>,
    /// How bad.
    pub severity: Severity,
    /// What exactly.
    pub detail: Box<str>,
}

impl Reading {
    /// Nothing can be said.
    pub fn unknown() -> Self {
        Self {
            kind: Kind::Unknown,
            sentence: Sentence { template: "unknown".into(), slots: Vec::new() },
            activity: None,
            signature: Signature {
                scheme: None,
                key_id: None,
                algorithm: None,
                covered: Vec::new(),
                verdict: SignatureVerdict::NotCheckable,
                explanation: None,
            },
            digest: Digest::NotCheckable,
            origin: None,
            lints: Vec::new(),
            reason: None,
            federation: true,
            caused_by: None,
            caused: Vec::new(),
        }
    }
}
