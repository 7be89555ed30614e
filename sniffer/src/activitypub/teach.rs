//! What an exchange teaches: names, inboxes, keys, objects, software. A host is believed about itself when it was
//! asked, and about its own actors when the receiver took what it signed; never about another host.

use super::document::Node;
use super::head::Media;
use super::learn::{About, Learnt, Role, Url};
use super::{Kind, Scene, Signature, activity, names, origin};

/// Learns from an exchange what may be believed: what a host says of itself when asked, and what it sends about its own
/// actors and was believed by the receiver.
pub(super) fn teach(kind: Kind, scene: &Scene<'_>, signature: &Signature, status: Option<u16>, learnt: &mut Learnt) {
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
            Kind::Actor | Kind::Key | Kind::Object | Kind::Collection => {
                let document = scene.exchange.response.as_ref().and_then(|r| r.message.body.sha256.as_ref());
                learnt.once(document, scene.host(), |learnt| teach_document(node, scene.host(), learnt));
            }
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
        if let (Some(url), Some(actor)) = (scene.head.synchronization.and_then(synchronization_url), node.actor.id()) {
            learnt.places(actor, [(Some(url), Role::Synchronization)]);
        }
        teach_document(node, actor.host, learnt);
        if let Some(object) = node.object.node() {
            teach_document(object, actor.host, learnt);
        }
    }
}

/// The `url` of a `Collection-Synchronization` header (FEP-8fcf).
fn synchronization_url(header: &str) -> Option<&str> {
    header.split(',').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name.trim() == "url").then(|| value.trim().trim_matches('"'))
    })
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
            && learnt.known_name(&url).is_none()
        {
            let name = names::account(&format!("{name}@{}", url.host), url.host);
            learnt.name(id, &name);
        }
        let own = node.is_actor().then_some((Some(id), Role::Actor));
        let named = [
            (&node.inbox, Role::Inbox),
            (&node.shared_inbox, Role::SharedInbox),
            (&node.outbox, Role::Outbox),
            (&node.followers, Role::Followers),
            (&node.following, Role::Following),
            (&node.featured, Role::Featured),
            (&node.featured_tags, Role::FeaturedTags),
            (&node.liked, Role::Liked),
        ];
        learnt.places(id, own.into_iter().chain(named.map(|(place, role)| (place.as_deref(), role))));
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
    let about = About { object: node.object.id(), in_reply_to: node.in_reply_to.id() };
    learnt.thing(id, Some(r#type), node.author(), about);
    if let Some(author) = node.author() {
        let named = [(&node.replies, Role::Replies), (&node.likes, Role::Likes), (&node.shares, Role::Shares)];
        learnt.places(author, named.map(|(place, role)| (place.as_deref(), role)));
    }
}
