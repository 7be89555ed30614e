//! Sentences for everything that is not a delivery: who asked whom for what, and how it ended where it went wrong.

use super::client;
use super::document::Node;
use super::head::{Media, query_value};
use super::learn::{Learnt, Role, Url};
use super::names;
use super::place::{Shape, Whose};
use super::sentence::{Noun, Outcome, shown};
use super::{Kind, Scene, Sentence};

/// Says it. `None` where too little is known.
pub(super) fn sentence(kind: Kind, scene: &Scene<'_>, learnt: &mut Learnt) -> Sentence {
    let method = scene.head.method.unwrap_or("?");
    let path = shown(scene.head.path.unwrap_or("?"), 80);
    match kind {
        Kind::WebFinger => webfinger(scene),
        Kind::HostMeta => scene.ask("hostmeta", &[]),
        Kind::NodeInfoDiscovery => scene.ask("nodeinfo.discovery", &[]),
        Kind::NodeInfo => scene.ask("nodeinfo", &[]),
        Kind::WellKnown => scene.ask("wellknown", &[("path", &path)]),
        Kind::Robots => scene.ask("robots", &[]),
        Kind::InstanceApi => scene.ask("instance", &[]),
        Kind::Actor => actor(scene, learnt),
        Kind::Key => key(scene, learnt),
        Kind::Collection => collection(scene, learnt),
        Kind::Object => object(scene, learnt),
        Kind::FollowersSynchronization => synchronization(scene, learnt),
        Kind::Context => scene.ask("context", &[]),
        Kind::OEmbed => scene.ask("oembed", &[]),
        Kind::LinkPreview => scene.ask("preview", &[("path", &path)]),
        Kind::Media => scene.ask(media(scene), &[]),
        Kind::Probe if path == "/metrics" => scene.ask("metrics", &[]),
        Kind::Probe => scene.ask("probe", &[]),
        Kind::Streaming => match client::stream(scene.head.query, &path) {
            Some(stream) => scene.ask("streaming", &[("stream", &stream)]),
            None => scene.ask("streaming.all", &[]),
        },
        Kind::ClientApi if method == "OPTIONS" => scene.ask("preflight", &[("path", &path)]),
        Kind::ClientApi => client::sentence(scene, method, &path),
        Kind::Page if method == "OPTIONS" => scene.ask("preflight", &[("path", &path)]),
        Kind::Page if scene.browser && scene.head.is_get() => scene.ask("page", &[("path", &path)]),
        Kind::Page if scene.browser => scene.ask("page.form", &[("path", &path)]),
        Kind::Page if scene.head.is_get() => scene.ask("page.read", &[("path", &path)]),
        Kind::Asset if scene.browser => scene.ask("asset", &[("path", &path)]),
        Kind::Asset => scene.ask("asset.client", &[("path", &path)]),
        Kind::Unknown | Kind::InboxDelivery | Kind::OutboxPost | Kind::Other | Kind::Page => match (scene.head.method, scene.head.path) {
            (None, None) => Sentence::new("request.unknown", &[("from", scene.from), ("to", scene.to)]),
            (Some(method), None) => {
                let slots = [("from", scene.from), ("method", method), ("to", scene.to)];
                Sentence::new("request.unknown.method", &slots)
            }
            _ => scene.ask("other", &[("method", &shown(method, 20)), ("path", &path)]),
        },
    }
}

fn synchronization(scene: &Scene<'_>, learnt: &mut Learnt) -> Sentence {
    let owner = match learnt.known_place(&scene.base_key) {
        Some((Role::Synchronization, Some(owner))) => Some(names::actor(&owner, learnt)),
        _ => names::owner(scene.host(), &scene.guess, learnt),
    };
    match owner {
        Some(owner) => scene.ask("synchronization", &[("actor", &owner)]),
        None => scene.ask("object", &[("object", &scene.page())]),
    }
}

fn webfinger(scene: &Scene<'_>) -> Sentence {
    let Some(resource) = query_value(scene.head.query, "resource") else {
        return scene.ask("webfinger.none", &[]);
    };
    let account = match resource.strip_prefix("acct:") {
        Some(account) => shown(account.trim_start_matches('@'), 120),
        None => names::thing(&resource),
    };
    scene.ask("webfinger", &[("account", &account)])
}

fn actor(scene: &Scene<'_>, learnt: &mut Learnt) -> Sentence {
    if scene.head.path.is_none() {
        return match scene.answered.and_then(|node| node.id.as_deref()) {
            Some(id) => scene.ask("actor", &[("actor", &names::actor(id, learnt))]),
            None => Sentence::new("request.unknown", &[("from", scene.from), ("to", scene.to)]),
        };
    }
    let root = scene.head.path == Some("/");
    let named_after_host = scene.guess.shape == Shape::Actor
        && matches!(scene.guess.whose, Whose::Named(name) if name.eq_ignore_ascii_case(scene.host()));
    if scene.guess.shape == Shape::InstanceActor || named_after_host || (root && scene.answered.is_some()) {
        return scene.ask("actor.instance", &[]);
    }
    let id = scene.answered.and_then(|node| node.id.as_deref());
    let name = names::actor(id.unwrap_or(&scene.url()), learnt);
    scene.ask("actor", &[("actor", &name)])
}

fn key(scene: &Scene<'_>, learnt: &mut Learnt) -> Sentence {
    let owner = scene.answered.and_then(key_owner).map(ToOwned::to_owned);
    let owner = owner.or_else(|| learnt.keys.get(&*scene.key).and_then(|page| page.owner.as_deref().map(Into::into)));
    let name = match owner {
        Some(owner) => Some(names::actor(&owner, learnt)),
        None => names::owner(scene.host(), &scene.guess, learnt),
    };
    // The page of the key may be the actor itself, or a page of its own.
    let is_actor = match scene.answered.and_then(|node| node.id.as_deref()).and_then(Url::parse) {
        Some(id) => id.key() == scene.key,
        None => scene.guess.shape == Shape::Actor,
    };
    match name {
        Some(name) if is_actor => scene.ask("key.actor", &[("actor", &name)]),
        Some(name) => scene.ask("key", &[("actor", &name)]),
        None => scene.ask("key.url", &[("object", &scene.page())]),
    }
}

/// The actor that a key document or an actor document is about.
pub(super) fn key_owner<'a>(node: &'a Node<'_>) -> Option<&'a str> {
    if node.is_key() && node.public_key.is_empty() {
        return node.owner.as_deref();
    }
    node.public_key.node().and_then(|key| key.owner.as_deref()).or(node.id.as_deref())
}

fn collection(scene: &Scene<'_>, learnt: &mut Learnt) -> Sentence {
    let place = learnt.known_place(&scene.base_key);
    let role = place.as_ref().map(|(role, _)| *role);
    let shape = scene.guess.shape;
    let (name, of_post) = match (role, shape) {
        (Some(Role::Followers), _) | (None, Shape::Followers) => ("collection.followers", false),
        (Some(Role::Following), _) | (None, Shape::Following) => ("collection.following", false),
        (Some(Role::Outbox), _) | (None, Shape::Outbox) => ("collection.outbox", false),
        (Some(Role::Featured), _) | (None, Shape::Featured) => ("collection.featured", false),
        (Some(Role::FeaturedTags), _) | (None, Shape::FeaturedTags) => ("collection.tags", false),
        (Some(Role::Liked), _) | (None, Shape::Liked) => ("collection.liked", false),
        (Some(Role::Replies), _) | (None, Shape::Replies) => ("collection.replies", true),
        (Some(Role::Likes), _) | (None, Shape::Likes) => ("collection.likes", true),
        (Some(Role::Shares), _) | (None, Shape::Shares) => ("collection.shares", true),
        (_, Shape::Moderators) => ("collection.moderators", false),
        _ => ("collection.other", false),
    };
    let page = match scene.answered {
        Some(node) if node.is_collection() => node.is_page(),
        _ => scene.head.query.is_some_and(|query| {
            query.split('&').any(|pair| {
                let name = pair.split_once('=').map_or(pair, |(name, _)| name);
                matches!(name, "page" | "cursor" | "max_id" | "min_id" | "since_id" | "offset" | "start")
            })
        }),
    };
    let owner = match place.and_then(|(_, owner)| owner) {
        Some(owner) => Some(names::actor(&owner, learnt)),
        None if scene.head.path.is_some() => names::owner(scene.host(), &scene.guess, learnt),
        None => None,
    };
    let tail = if page { ".page" } else { "" };
    match owner {
        Some(owner) if name != "collection.other" => scene.ask(format!("{name}{tail}"), &[("actor", &owner)]),
        _ => {
            let object = match scene.answered.and_then(|n| n.id.as_deref()) {
                Some(id) => names::thing(id),
                None => scene.page(),
            };
            let name = if of_post { format!("{name}.object{tail}") } else { format!("collection.other{tail}") };
            scene.ask(name, &[("object", &object)])
        }
    }
}

fn object(scene: &Scene<'_>, learnt: &mut Learnt) -> Sentence {
    if let Some(node) = scene.answered
        && let Some(r#type) = node.type_in(super::activity::known_type)
    {
        let r#type = shown(r#type, 40);
        let Some(author) = node.author().map(|id| names::actor(id, learnt)) else {
            let object = node.id.as_deref().map_or_else(|| scene.page(), names::thing);
            return scene.ask("object.typed", &[("object", &object), ("type", &r#type)]);
        };
        if node.is_activity() {
            return scene.ask("object.activity", &[("type", &r#type), ("author", &author)]);
        }
        return by(scene, Noun::of(&r#type), &r#type, &author);
    }
    if scene.head.path.is_none() {
        return Sentence::new("request.unknown", &[("from", scene.from), ("to", scene.to)]);
    }
    let known = names::known(&scene.url(), learnt);
    match known.author {
        Some(author) if known.r#type.is_empty() || !super::activity::known_type(&known.r#type) => {
            by(scene, known.noun, &known.r#type, &author)
        }
        Some(author) => scene.ask("object.activity", &[("type", &known.r#type), ("author", &author)]),
        None => scene.ask("object", &[("object", &scene.page())]),
    }
}

fn by(scene: &Scene<'_>, noun: Noun, r#type: &str, author: &str) -> Sentence {
    let template = noun.template("object");
    let slots = [("author", author), ("type", r#type)];
    // Only one of the templates names the type.
    scene.ask(template, if noun == Noun::Type { &slots } else { slots.get(..1).unwrap_or_default() })
}

fn media(scene: &Scene<'_>) -> &'static str {
    let ending = scene.head.path.and_then(|path| path.rsplit_once('.')).map(|(_, ending)| ending.to_ascii_lowercase());
    let of = |media: Media, endings: &[&str]| {
        scene.answer.media.has(media)
            || (!scene.answer.media.has(Media::MEDIA) && ending.as_deref().is_some_and(|e| endings.contains(&e)))
    };
    if of(Media::IMAGE, &["png", "jpg", "jpeg", "gif", "webp", "avif", "svg"]) {
        "media.picture"
    } else if of(Media::VIDEO, &["mp4", "webm", "mov", "m4v"]) {
        "media.video"
    } else if of(Media::AUDIO, &["mp3", "ogg", "oga", "flac", "wav", "opus", "m4a"]) {
        "media.sound"
    } else {
        "media"
    }
}

/// How asking ended: by the status; without one, by whether a hole could hide it.
pub(super) fn outcome(exchange: &crate::http::Exchange) -> Outcome {
    match &exchange.response {
        Some(response) => response.status.map_or(Outcome::Unseen, Outcome::of),
        None => {
            use crate::http::AnomalyKind as A;
            let ended = exchange.anomalies.iter().any(|a| {
                matches!(a.kind, A::NoResponse | A::H2StreamReset | A::H2GoAway)
            });
            let hole = exchange.gaps.iter().any(|gap| !gap.to_server)
                || exchange.anomalies.iter().any(|a| matches!(a.kind, A::CutByCaptureEnd | A::CutByGap));
            if ended && !hole { Outcome::Unanswered } else { Outcome::Unseen }
        }
    }
}
