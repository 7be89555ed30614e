//! From exchanges to readings: what kind of request this was, who did what to whom, said in one sentence, as far as
//! the exchange and what was learnt from earlier ones tell. It reads what was said; it never asks anyone.

use serde::{Deserialize, Serialize};

use crate::http::{Exchange, Request};
use classify::Evidence;
use document::Node;
use head::{Answer, Head, Media, whole};
use learn::{Learnt, Role, Url};
use place::Guess;
use sentence::Outcome;

mod activity;
mod classify;
mod client;
mod delivery;
mod digest;
mod document;
mod fetch;
mod head;
mod learn;
mod lints;
mod names;
mod origin;
mod place;
mod reason;
mod sentence;
mod signature;
#[cfg(test)]
mod tests;

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
}

/// A sentence as a template and its slots. `render` of the pure module gives English; the viewer has Japanese too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sentence {
    /// The stable name of the template: `follow.ask`.
    pub template: Box<str>,
    /// What goes into the slots, as (slot, value). Actors are `name@host` as far as known.
    pub slots: Vec<(Box<str>, Box<str>)>,
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

/// Reads exchanges, in order of their completion, and remembers what helps with later ones (keys, actors, inboxes,
/// who sits behind which address), within bounds.
#[derive(Debug, Default)]
pub struct Reader {
    learnt: Learnt,
}

/// One exchange with everything that the sentences need.
struct Scene<'a> {
    exchange: &'a Exchange,
    head: &'a Head<'a>,
    answer: &'a Answer<'a>,
    /// Who asked, as written in sentences: host, else address.
    from: &'a str,
    /// Who was asked.
    to: &'a str,
    guess: Guess<'a>,
    /// The target's page with and without the query, as [`learn::key`] makes it.
    key: String,
    base_key: String,
    sent: Option<&'a Node<'a>>,
    answered: Option<&'a Node<'a>>,
    /// It was a browser that asked.
    browser: bool,
}

impl Scene<'_> {
    /// The host that was asked, or nothing.
    fn host(&self) -> &str {
        self.head.host.unwrap_or(self.to)
    }

    /// The target as a URL. The scheme is https: what comes in the clear was decrypted by the proxy.
    fn url(&self) -> String {
        let query = self.head.query.map(|q| format!("?{q}")).unwrap_or_default();
        format!("https://{}{}{query}", self.host(), self.head.path.unwrap_or_default())
    }

    /// The target as written in sentences.
    fn page(&self) -> String {
        names::thing(&self.url())
    }

    /// A sentence about asking, with how it ended.
    fn ask(&self, template: &str, slots: &[(&str, &str)]) -> Sentence {
        let outcome = fetch::outcome(self.exchange);
        let status = self.exchange.response.as_ref().and_then(|r| r.status).map(|s| s.to_string());
        let mut all: Vec<(&str, &str)> = vec![("from", self.from), ("to", self.to)];
        all.extend_from_slice(slots);
        if outcome != Outcome::Fine
            && let Some(status) = &status
        {
            all.push(("status", status));
        }
        Sentence::new(outcome.template(template), &all)
    }
}

impl Reader {
    /// With nothing learnt.
    pub fn new() -> Self {
        Self::default()
    }

    /// What this exchange meant. Learns from it.
    pub fn read(&mut self, exchange: &Exchange) -> Reading {
        match &exchange.request {
            Some(request) => self.asked(exchange, request),
            None => self.lone(exchange),
        }
    }

    /// A response whose request was not seen: what it holds is said, what it answers is not guessed.
    fn lone(&mut self, exchange: &Exchange) -> Reading {
        let mut reading = Reading::unknown();
        let Some(response) = &exchange.response else { return reading };
        let learnt = &mut self.learnt;
        let to = learnt
            .host_served(exchange.ends.server)
            .map_or_else(|| exchange.ends.server.to_string(), String::from);
        let answer = Answer::new(&response.message.headers);
        let body = whole(&response.message.body).filter(|_| answer.media.has(Media::ASISH));
        let node = body.and_then(Node::parse);
        reading.sentence = match (node.as_ref(), response.status) {
            (Some(node), _) if node.is_actor() && node.id.is_some() => {
                let name = names::actor(node.id.as_deref().unwrap_or_default(), learnt);
                Sentence::new("response.lone.actor", &[("to", &to), ("actor", &name)])
            }
            (Some(node), _) if node.is_collection() => {
                let object = node.id.as_deref().map_or_else(|| "?".to_owned(), names::thing);
                Sentence::new("response.lone.collection", &[("to", &to), ("object", &object)])
            }
            (Some(node), _) if !node.types.is_empty() => {
                let r#type = node.type_in(activity::known_type).unwrap_or_default();
                Sentence::new("response.lone.object", &[("to", &to), ("type", r#type)])
            }
            (_, Some(status)) => {
                Sentence::new("response.lone", &[("to", &to), ("status", &status.to_string())])
            }
            (_, None) => Sentence::new("response.lone.unknown", &[("to", &to)]),
        };
        reading.signature.explanation = Some("the request was not seen".into());
        reading
    }

    fn asked(&mut self, exchange: &Exchange, request: &Request) -> Reading {
        let learnt = &mut self.learnt;
        let head = Head::new(request);
        let response = exchange.response.as_ref();
        let status = response.and_then(|r| r.status);
        let answer = response.map(|r| Answer::new(&r.message.headers)).unwrap_or_default();

        let (signature, form) = signature::read(&head);
        let digest = digest::check(&head, &request.message.body);
        let agent = head.user_agent.map(|text| learnt.agent(text)).unwrap_or_default();
        let refused = status.is_some_and(|s| s >= 400);
        let origin = origin::find(&head, &agent, &signature, exchange.ends.client, refused, learnt);
        if let Some(host) = head.host {
            learnt.server(exchange.ends.server, host);
        }

        let path = head.path.unwrap_or_default();
        let guess = place::guess(path);
        let (base_key, key) = keys(&head);
        let role = learnt.known_place(&base_key).or_else(|| learnt.known_place(&key)).map(|(role, _)| role);
        let is_key = learnt.keys.get(&*key).is_some();

        let sent = request_body(&head, request).and_then(Node::parse);
        let fine = status.is_some_and(|s| (200..300).contains(&s));
        let answered = response
            .filter(|_| fine && wants_document(&head, &answer, path))
            .and_then(|r| whole(&r.message.body))
            .and_then(Node::parse);

        let evidence = Evidence {
            head: &head,
            agent: &agent,
            answer: &answer,
            sent: sent.as_ref(),
            answered: answered.as_ref(),
            guess,
            role,
            key: is_key,
            server: origin.host.is_some(),
            websocket: exchange.websocket.is_some(),
        };
        let kind = classify::kind(&evidence);
        let federation = classify::federation(kind, &evidence);
        let browser = evidence.is_client() && agent.browser;

        let from = origin
            .host
            .as_deref()
            .or(origin.address.as_deref())
            .map_or_else(|| exchange.ends.client.ip().to_string(), ToOwned::to_owned);
        let to = match head.host {
            Some(host) => host.to_ascii_lowercase(),
            None => learnt
                .host_served(exchange.ends.server)
                .map_or_else(|| exchange.ends.server.to_string(), String::from),
        };
        let scene = Scene {
            exchange,
            head: &head,
            answer: &answer,
            from: &from,
            to: &to,
            guess,
            key,
            base_key,
            sent: sent.as_ref(),
            answered: answered.as_ref(),
            browser,
        };
        teach(kind, &scene, &signature, status, learnt);

        let delivered = matches!(kind, Kind::InboxDelivery | Kind::OutboxPost);
        let activity = sent
            .as_ref()
            .filter(|node| delivered && (node.is_activity() || node.type_in(|_| false).is_some()))
            .map(|node| activity::read(node, learnt));
        let sentence = match kind {
            Kind::InboxDelivery => {
                delivery::sentence(&scene, &request.message.body, activity.as_ref(), learnt)
            }
            Kind::OutboxPost => delivery::outbox(&scene, learnt),
            _ => fetch::sentence(kind, &scene, learnt),
        };
        let lints = lints::check(&lints::Case {
            kind,
            scene: &scene,
            status,
            headers: &request.message.headers,
            body: &request.message.body,
            signature: &signature,
            form,
            digest,
        });
        let reason = reason::find(
            &reason::Case {
                kind,
                scene: &scene,
                status,
                signature: &signature,
                form,
                digest: digest.digest,
                lints: &lints,
                answer: response.map(|r| &r.message.body),
            },
            learnt,
        );
        Reading {
            kind,
            sentence,
            activity,
            signature,
            digest: digest.digest,
            origin: Some(origin),
            lints,
            reason,
            federation,
        }
    }
}

/// The target's page as keys of the memory: without and with the query.
fn keys(head: &Head<'_>) -> (String, String) {
    let (Some(host), Some(path)) = (head.host, head.path) else { return (String::new(), String::new()) };
    let base = learn::key(host, path);
    let full = match head.query {
        Some(query) => format!("{base}?{query}"),
        None => base.clone(),
    };
    (base, full)
}

/// The request's body, where it may be an activity.
fn request_body<'a>(head: &Head<'_>, request: &'a Request) -> Option<&'a [u8]> {
    let path = head.path.unwrap_or_default();
    let tail = path.strip_suffix('/').unwrap_or(path);
    let likely = head.content_type.has(Media::ASISH)
        || ((head.is_post() || head.method.is_none())
            && (head.path.is_none() || tail.ends_with("/inbox") || tail.ends_with("/outbox")));
    whole(&request.message.body).filter(|_| likely)
}

/// Whether the answer may be a document that tells something.
fn wants_document(head: &Head<'_>, answer: &Answer<'_>, path: &str) -> bool {
    if !answer.media.has(Media::ANY_JSON) || head.method.is_some_and(|m| m != "GET") {
        return false;
    }
    let api = path.starts_with("/api/") && !path.contains("nodeinfo");
    answer.media.has(Media::ASISH) || !api && !head.has_bearer()
}

/// Learns from an exchange what may be believed: what a host says of itself when asked, and what it sends about its own
/// actors and was believed by the receiver.
fn teach(kind: Kind, scene: &Scene<'_>, signature: &Signature, status: Option<u16>, learnt: &mut Learnt) {
    if let Some(key_id) = signature.key_id.as_deref() {
        learnt.key_page(key_id, None);
    }
    // Less than what User-Agents and NodeInfo say, so only where they said nothing.
    if let (Some(host), Some(server)) = (scene.head.host, scene.answer.server.and_then(origin::proper_name))
        && learnt.software_of(host).is_none()
    {
        learnt.runs(host, server);
    }
    if matches!(kind, Kind::Key | Kind::Actor | Kind::Object)
        && let Some(status) = status
    {
        learnt.fetched(&scene.key, status);
    }
    if let Some(node) = scene.answered {
        match kind {
            Kind::WebFinger => teach_webfinger(node, learnt),
            Kind::NodeInfoDiscovery => {
                for link in node.links.iter().filter(|link| link.rel.contains("/ns/schema/")) {
                    learnt.host_place(&link.href, Role::NodeInfo, scene.host());
                }
            }
            Kind::NodeInfo => {
                if let Some((name, version)) = &node.software {
                    learnt.runs(scene.host(), &origin::titled(name, version));
                }
            }
            Kind::Actor | Kind::Key | Kind::Object | Kind::Collection => teach_document(node, scene.host(), learnt),
            _ => {}
        }
    }
    let believed = status.is_some_and(|s| (200..300).contains(&s));
    if kind == Kind::InboxDelivery
        && believed
        && let Some(node) = scene.sent
        && let Some(actor) = node.actor.id().and_then(Url::parse)
        && signature.key_id.as_deref().and_then(origin::key_host).is_some_and(|h| h.eq_ignore_ascii_case(actor.host))
    {
        teach_document(node, actor.host, learnt);
        if let Some(object) = node.object.node() {
            teach_document(object, actor.host, learnt);
        }
    }
}

/// Names: `acct:name@host` is the subject of whom the `self` link points to.
fn teach_webfinger(node: &Node<'_>, learnt: &mut Learnt) {
    let Some(account) = node.subject.as_deref().and_then(|s| s.strip_prefix("acct:")) else { return };
    let selves = node.links.iter().filter(|link| link.rel == "self" && Media::parse(&link.r#type).has(Media::ASISH));
    for link in selves.take(4) {
        if let Some(url) = Url::parse(&link.href) {
            learnt.name(&link.href, &names::account(account, url.host));
        }
    }
}

/// An actor, a key or an object, as the host itself tells it. What is of another host is not believed.
fn teach_document(node: &Node<'_>, host: &str, learnt: &mut Learnt) {
    let Some(id) = node.id.as_deref() else { return };
    let Some(url) = Url::parse(id).filter(|url| url.host.eq_ignore_ascii_case(host)) else { return };
    if node.is_actor() || node.preferred_username.is_some() {
        if let Some(name) = node.preferred_username.as_deref().filter(|n| !n.is_empty())
            && learnt.names.get(&*url.key()).is_none()
        {
            let name = names::account(&format!("{name}@{}", url.host), url.host);
            learnt.name(id, &name);
        }
        if node.is_actor() {
            learnt.place(Some(id), Role::Actor, id);
        }
        for (place, role) in [
            (&node.inbox, Role::Inbox),
            (&node.shared_inbox, Role::SharedInbox),
            (&node.outbox, Role::Outbox),
            (&node.followers, Role::Followers),
            (&node.following, Role::Following),
            (&node.featured, Role::Featured),
            (&node.featured_tags, Role::FeaturedTags),
            (&node.liked, Role::Liked),
        ] {
            learnt.place(place.as_deref(), role, id);
        }
        if let Some(key) = node.public_key.id().and_then(|key| key.split('#').next()) {
            let own = Url::parse(key).is_some_and(|key| key.key() != url.key());
            if own {
                learnt.key_page(key, Some(id));
            }
        }
        return;
    }
    if node.is_key() {
        learnt.key_page(id, node.owner.as_deref().filter(|o| Url::parse(o).is_some_and(|o| o.host == url.host)));
        return;
    }
    let Some(r#type) = node.type_in(activity::known_type) else { return };
    // A Tombstone says less than what was known before it.
    if node.is_collection() || r#type == "Tombstone" {
        return;
    }
    let about = learn::About { object: node.object.id(), in_reply_to: node.in_reply_to.id() };
    learnt.thing(id, Some(r#type), node.author(), about);
    if let Some(author) = node.author() {
        for (place, role) in [(&node.replies, Role::Replies), (&node.likes, Role::Likes), (&node.shares, Role::Shares)] {
            learnt.place(place.as_deref(), role, author);
        }
    }
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
        }
    }
}
