//! The kind of an exchange: the ordered decision procedure of `facts/activitypub-wire.md` §1.2. What answers and
//! earlier documents said counts more than what paths look like.

use super::Kind;
use super::document::Node;
use super::head::{Answer, Head, Media};
use super::learn::Role;
use super::origin::Agent;
use super::place::{Guess, Shape};

/// All that the decision looks at.
pub(super) struct Evidence<'a> {
    pub(super) head: &'a Head<'a>,
    pub(super) agent: &'a Agent,
    pub(super) answer: &'a Answer<'a>,
    /// The parsed body of the request.
    pub(super) sent: Option<&'a Node<'a>>,
    /// The parsed body of a successful answer.
    pub(super) answered: Option<&'a Node<'a>>,
    pub(super) guess: Guess<'a>,
    /// What the target was learnt to be.
    pub(super) role: Option<Role>,
    /// The target is a key that was named.
    pub(super) key: bool,
    /// The sender's host is known: a server.
    pub(super) server: bool,
    /// A WebSocket came of it.
    pub(super) websocket: bool,
}

impl Evidence<'_> {
    /// Signs of a browser or of a user's app. Referer is sent by neither servers nor their workers.
    pub(super) fn is_client(&self) -> bool {
        self.agent.browser
            || self.head.has_bearer()
            || self.head.cookie
            || self.head.referer
            || self.head.fetch_dest.is_some()
            || self.head.fetch_site
    }

    /// Signs of a fediverse server.
    pub(super) fn is_server(&self) -> bool {
        !self.is_client() && (self.head.signed() || self.agent.known || self.server)
    }

    fn path(&self) -> &str {
        self.head.path.unwrap_or_default()
    }

    /// Asks for, or was given, Activity Streams.
    fn asish(&self) -> bool {
        self.head.accept.has(Media::ASISH) || self.answer.media.has(Media::ASISH)
    }
}

/// Decides.
pub(super) fn kind(e: &Evidence<'_>) -> Kind {
    if e.head.path.is_none() {
        return targetless(e);
    }
    let path = e.path();
    if let Some(kind) = stream_or_probe(e, path) {
        return kind;
    }
    if let Some(kind) = discovery(e, path) {
        return kind;
    }
    if let Some(kind) = delivery(e, path) {
        return kind;
    }
    if e.head.is_get()
        && let Some(kind) = fetch(e, path)
    {
        return kind;
    }
    rest(e, path)
}

/// Without a target (HPACK state was lost) the bodies must tell.
fn targetless(e: &Evidence<'_>) -> Kind {
    match (e.sent, e.answered) {
        (Some(sent), _) if sent.is_activity() => Kind::InboxDelivery,
        (_, Some(answered)) => document(answered).unwrap_or(Kind::Unknown),
        _ => Kind::Unknown,
    }
}

/// Rows 1, 2 and 23.
fn stream_or_probe(e: &Evidence<'_>, path: &str) -> Option<Kind> {
    let streams = path.starts_with("/api/v1/streaming") || path == "/streaming" || path.ends_with("/socket/websocket");
    if (e.head.websocket || e.websocket) && streams {
        return Some(Kind::Streaming);
    }
    if path == "/api/v1/streaming/health" {
        return Some(Kind::Probe);
    }
    if path.starts_with("/api/v1/streaming")
        && (e.head.accept.has(Media::EVENTS) || e.answer.media.has(Media::EVENTS) || e.head.has_bearer())
    {
        return Some(Kind::Streaming);
    }
    let probed = matches!(path, "/health" | "/healthz" | "/readyz" | "/livez" | "/metrics" | "/_health" | "/-/healthy");
    (e.agent.probe || (probed && e.head.is_get())).then_some(Kind::Probe)
}

/// Rows 3 to 7, and 22b.
fn discovery(e: &Evidence<'_>, path: &str) -> Option<Kind> {
    if !e.head.is_get() && e.head.method.is_some() {
        return None;
    }
    if let Some(name) = path.strip_prefix("/.well-known/") {
        return Some(match name {
            "webfinger" => Kind::WebFinger,
            "host-meta" | "host-meta.json" => Kind::HostMeta,
            "nodeinfo" | "x-nodeinfo2" => Kind::NodeInfoDiscovery,
            _ => Kind::WellKnown,
        });
    }
    if path == "/robots.txt" {
        return Some(Kind::Robots);
    }
    (e.role == Some(Role::NodeInfo) || is_nodeinfo(path)).then_some(Kind::NodeInfo)
}

fn is_nodeinfo(path: &str) -> bool {
    let path = path.strip_prefix("/api").unwrap_or(path);
    let Some(version) = path.strip_prefix("/nodeinfo/") else { return false };
    matches!(version.strip_suffix(".json").unwrap_or(version), "1.0" | "1.1" | "2.0" | "2.1" | "2.2")
}

/// Rows 8 and 9.
fn delivery(e: &Evidence<'_>, path: &str) -> Option<Kind> {
    if !e.head.is_post() {
        return None;
    }
    let form = e.head.content_type_text.is_some_and(|t| {
        t.starts_with("application/x-www-form-urlencoded") || t.starts_with("multipart/")
    });
    let learnt = matches!(e.role, Some(Role::Inbox | Role::SharedInbox));
    let tail = path.strip_suffix('/').unwrap_or(path);
    if learnt || (tail.ends_with("/inbox") && !form && !path.starts_with("/api/")) {
        return Some(Kind::InboxDelivery);
    }
    let activity = e.sent.is_some_and(Node::is_activity);
    if e.role == Some(Role::Outbox) || tail.ends_with("/outbox") {
        return Some(Kind::OutboxPost);
    }
    // An inbox whose actor was not seen, at a server of unknown habits.
    (activity && e.head.content_type.has(Media::ASISH)).then_some(Kind::InboxDelivery)
}

/// Rows 10 to 16.
fn fetch(e: &Evidence<'_>, path: &str) -> Option<Kind> {
    if e.guess.shape == Shape::FollowersSync || e.role == Some(Role::Synchronization) {
        return Some(Kind::FollowersSynchronization);
    }
    let api = path.starts_with("/api/") || path.starts_with("/oauth/");
    if api && !e.answer.media.has(Media::AS) {
        return None;
    }
    if e.answer.media.has(Media::MEDIA) {
        return None;
    }
    // An answer that was understood tells for certain; what is not Activity Streams has no type.
    if let Some(answered) = e.answered
        && (e.asish() || answered.as2_context)
    {
        if (e.key || e.guess.shape == Shape::Key) && !answered.is_collection() && !answered.public_key.is_empty() {
            return Some(Kind::Key);
        }
        if let Some(kind) = document(answered) {
            return Some(kind);
        }
    }
    if !e.asish() {
        return None;
    }
    if let Some(role) = e.role {
        let collection = match role {
            Role::Actor => None,
            Role::NodeInfo => Some(Kind::NodeInfo),
            _ => Some(Kind::Collection),
        };
        if collection.is_some() {
            return collection;
        }
    }
    if e.guess.shape.is_collection() {
        return Some(Kind::Collection);
    }
    if e.key || e.guess.shape == Shape::Key {
        return Some(Kind::Key);
    }
    if e.role == Some(Role::Actor) || matches!(e.guess.shape, Shape::Actor | Shape::InstanceActor) {
        return Some(Kind::Actor);
    }
    let html = e.answer.media.has(Media::HTML) && e.head.accept_html_first;
    if html || e.is_client() && e.head.accept_html_first {
        return None;
    }
    if e.head.accept.only(Media::LD) && !e.head.signed() && e.guess.shape == Shape::None {
        return Some(Kind::Context);
    }
    Some(Kind::Object)
}

/// The kind of a document that was answered.
fn document(node: &Node<'_>) -> Option<Kind> {
    if node.is_collection() {
        Some(Kind::Collection)
    } else if node.is_actor() {
        Some(Kind::Actor)
    } else if node.is_key() {
        Some(Kind::Key)
    } else if node.context && node.members == 0 {
        Some(Kind::Context)
    } else if node.types.is_empty() {
        None
    } else {
        Some(Kind::Object)
    }
}

/// Rows 17 to 22.
fn rest(e: &Evidence<'_>, path: &str) -> Kind {
    if matches!(path, "/api/oembed" | "/services/oembed" | "/oembed") {
        return Kind::OEmbed;
    }
    if matches!(path, "/api/v1/instance" | "/api/v2/instance") && e.head.is_get() && e.is_server() {
        return Kind::InstanceApi;
    }
    if is_client_api(path) || (path.starts_with("/api/") && !is_media(path)) {
        return Kind::ClientApi;
    }
    if e.head.is_get() {
        if e.agent.preview || (e.head.accept.has(Media::HTML) && e.is_server()) {
            return Kind::LinkPreview;
        }
        if is_media(path) || e.answer.media.has(Media::MEDIA) {
            return if e.is_server() { Kind::Media } else { Kind::Asset };
        }
        if is_asset(path) || e.answer.media.has(Media::ASSET) {
            return Kind::Asset;
        }
        if e.head.accept_html_first || e.head.fetch_dest == Some("document") || e.answer.media.has(Media::HTML) {
            return Kind::Page;
        }
    }
    if e.head.has_bearer() {
        return Kind::ClientApi;
    }
    if is_interface(path) || path.starts_with("/@") || e.is_client() {
        return Kind::Page;
    }
    Kind::Other
}

fn under(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn is_client_api(path: &str) -> bool {
    under(path, &["/api/v1", "/api/v2", "/api/v3", "/api/v4", "/api/pleroma", "/api/friendica", "/oauth"])
}

/// Where the known servers keep pictures, films and sound (§1.4).
fn is_media(path: &str) -> bool {
    under(
        path,
        &[
            "/system", "/media_proxy", "/fileserver", "/files", "/proxy", "/pictrs/image", "/api/v4/image", "/storage/m",
            "/media", "/lazy-static", "/static/streaming-playlists", "/static/web-videos",
        ],
    )
}

fn is_interface(path: &str) -> bool {
    under(
        path,
        &[
            "/auth", "/settings", "/admin", "/login", "/logout", "/about", "/explore", "/web", "/home", "/tags", "/share",
            "/authorize_interaction", "/relationships", "/filters", "/invites", "/signup", "/search",
        ],
    )
}

fn is_asset(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let ending = file.rsplit_once('.').map(|(_, ending)| ending);
    under(path, &["/packs", "/assets", "/emoji", "/static", "/vite", "/fonts", "/avatars", "/headers", "/sounds"])
        || matches!(path, "/sw.js" | "/manifest" | "/manifest.json" | "/favicon.ico")
        || matches!(ending, Some("js" | "mjs" | "css" | "woff" | "woff2" | "ttf" | "map" | "ico" | "webmanifest"))
}

/// Whether the *federation* view shows it: servers among themselves.
pub(super) fn federation(kind: Kind, e: &Evidence<'_>) -> bool {
    match kind {
        Kind::Page => e.is_server(),
        Kind::ClientApi | Kind::Streaming | Kind::Asset | Kind::Probe | Kind::OutboxPost => false,
        Kind::InboxDelivery | Kind::FollowersSynchronization | Kind::Unknown => true,
        _ if e.head.signed() => true,
        _ => !e.is_client(),
    }
}
