//! Sentences for deliveries: what someone did to what of whom, as the activity says (`facts/activitypub-wire.md` §2.2).

use std::borrow::Cow;

use super::activity::{is_public, known_type};
use super::document::Node;
use super::head::whole;
use super::learn::{Learnt, Role, Url};
use super::names::{self, Known};
use super::place::{Shape, guess};
use super::sentence::{Noun, shown};
use super::{Activity, Scene, Sentence, Visibility};
use crate::http::Body;

/// What a sentence about a delivery is made of.
struct Said<'a> {
    actor: String,
    recipient: String,
    node: &'a Node<'a>,
    r#type: &'a str,
    visibility: Option<Visibility>,
}

impl Said<'_> {
    fn say(&self, template: impl Into<Cow<'static, str>>, slots: &[(&'static str, &str)]) -> Sentence {
        let mut all: Vec<(&'static str, &str)> = Vec::with_capacity(slots.len().saturating_add(1));
        all.push(("actor", &self.actor));
        all.extend_from_slice(slots);
        Sentence::new(template, &all)
    }

    /// A template that exists for each noun. The type is only named where the noun is not a word of its own.
    fn noun(&self, template: &str, noun: Noun, r#type: &str, slots: &[(&'static str, &str)]) -> Sentence {
        let mut all = slots.to_vec();
        if noun == Noun::Type {
            all.push(("type", r#type));
        }
        self.say(noun.template(template), &all)
    }

    /// `template.NOUN` with the author where one is known, `template.object` with the id else, `template.unknown`
    /// without one.
    fn about(&self, template: &'static str, thing: Option<&Thing>, slots: &[(&'static str, &str)]) -> Sentence {
        let mut all = slots.to_vec();
        match thing {
            Some(Thing { known: Known { author: Some(author), noun, r#type }, .. }) => {
                all.push(("author", author));
                self.noun(template, *noun, r#type, &all)
            }
            Some(thing) => {
                all.push(("object", &thing.page));
                self.say(format!("{template}.object"), &all)
            }
            None => self.say(format!("{template}.unknown"), &all),
        }
    }

    /// The same, where no template for the unknown exists.
    fn about_some(&self, template: &'static str, thing: Option<&Thing>) -> Sentence {
        match thing {
            Some(thing) => self.about(template, Some(thing), &[]),
            None => self.other(),
        }
    }

    fn other(&self) -> Sentence {
        self.say("activity.other", &[("type", &shown(self.r#type, 40)), ("recipient", &self.recipient)])
    }
}

/// A thing that an activity is about.
struct Thing {
    known: Known,
    /// Its id as written.
    page: String,
}

/// Says what a delivery did.
pub(super) fn sentence(
    scene: &Scene<'_>, body: &Body, activity: Option<&Activity>, learnt: &mut Learnt,
) -> Sentence {
    let recipient = recipient(scene, learnt);
    let from_to = [("from", scene.from), ("recipient", recipient.as_str())];
    let Some(node) = scene.sent else {
        let template = if !body.complete || !body.holes.is_empty() {
            "delivery.unseen"
        } else if body.size == 0 {
            "delivery.empty"
        } else if whole(body).is_none() {
            "delivery.large"
        } else {
            "delivery.unreadable"
        };
        return Sentence::new(template, &from_to);
    };
    let r#type = node.type_in(known_type).unwrap_or_default();
    if node.is_collection() {
        return Sentence::new("delivery.collection", &from_to);
    }
    if r#type.is_empty() {
        return Sentence::new("delivery.untyped", &from_to);
    }
    if node.actor.is_empty() && !known_type(r#type) {
        let slots = [("from", scene.from), ("type", r#type), ("recipient", recipient.as_str())];
        return Sentence::new("delivery.bare", &slots);
    }
    let actor = node.actor.id().map_or_else(|| scene.from.to_owned(), |id| names::actor(id, learnt));
    let visibility = activity.and_then(|a| a.visibility);
    let said = Said { actor, recipient, node, r#type, visibility };
    say(&said, scene, learnt)
}

/// Says what a client put into an outbox.
pub(super) fn outbox(scene: &Scene<'_>, learnt: &mut Learnt) -> Sentence {
    let owner = names::owner(scene.host(), &scene.guess, learnt).unwrap_or_else(|| scene.to.to_owned());
    match scene.sent.and_then(|node| node.type_in(known_type)) {
        Some(r#type) => Sentence::new("outbox.post", &[("type", r#type), ("actor", &owner)]),
        None => Sentence::new("outbox.post.unknown", &[("actor", &owner)]),
    }
}

fn say(said: &Said<'_>, scene: &Scene<'_>, learnt: &mut Learnt) -> Sentence {
    match said.r#type {
        "Follow" => follow(said, scene, learnt),
        "Accept" | "TentativeAccept" => answer(said, true, learnt),
        "Reject" | "TentativeReject" => answer(said, false, learnt),
        "Create" => create(said, learnt),
        "Update" => update(said, learnt),
        "Delete" => delete(said, learnt),
        "Like" => match reaction(said.node) {
            Some(emoji) => react(said, "react", &emoji, learnt),
            None => said.about("like", object(said.node, learnt).as_ref(), &[]),
        },
        "EmojiReact" | "EmojiReaction" => {
            let emoji = reaction(said.node).unwrap_or_else(|| "?".to_owned());
            react(said, "react", &emoji, learnt)
        }
        "Dislike" => said.about("dislike", object(said.node, learnt).as_ref(), &[]),
        "Announce" => announce(said, learnt),
        "Undo" => undo(said, scene, learnt),
        "Move" => r#move(said, learnt),
        "Block" => match (person(said.node, learnt), said.node.target.id()) {
            (Some(object), Some(target)) => {
                let target = actor_or_host(target, learnt);
                said.say("block.ban", &[("object", &object), ("target", &target)])
            }
            (Some(object), None) => said.say("block", &[("object", &object)]),
            _ => said.other(),
        },
        "Flag" => flag(said, learnt),
        "Add" => add(said, "add", learnt),
        "Remove" => add(said, "remove", learnt),
        "QuoteRequest" => said.about_some("ask.quote", object(said.node, learnt).as_ref()),
        "LikeRequest" => said.about_some("ask.like", object(said.node, learnt).as_ref()),
        "ReplyRequest" => said.about_some("ask.reply", object(said.node, learnt).as_ref()),
        "AnnounceRequest" => said.about_some("ask.boost", object(said.node, learnt).as_ref()),
        "FeatureRequest" => with_person(said, "ask.feature", learnt),
        "Join" => with_person(said, "join", learnt),
        "Leave" => with_person(said, "leave", learnt),
        "Invite" => with_person(said, "invite", learnt),
        "Offer" => with_person(said, "offer", learnt),
        "Lock" => said.about_some("lock", object(said.node, learnt).as_ref()),
        "View" => said.about_some("view", object(said.node, learnt).as_ref()),
        _ => said.other(),
    }
}

/// Whose inbox it went to: the owner's name; of a shared inbox the one actor there that is addressed, else the host.
fn recipient(scene: &Scene<'_>, learnt: &mut Learnt) -> String {
    if let Some((Role::Inbox, Some(owner))) = learnt.known_place(&scene.base_key) {
        return names::actor(&owner, learnt);
    }
    if scene.guess.shape == Shape::Inbox
        && let Some(owner) = names::owner(scene.host(), &scene.guess, learnt)
    {
        return owner;
    }
    let mut addressed: Option<String> = None;
    if let Some(node) = scene.sent {
        let inner = node.object.node();
        let all = node.to.ids().chain(node.cc.ids());
        let all = all.chain(inner.into_iter().flat_map(|o| o.to.ids().chain(o.cc.ids())));
        for id in all.take(512).filter(|id| !is_public(id)) {
            let here = Url::parse(id).is_some_and(|url| url.host.eq_ignore_ascii_case(scene.host()));
            if !here || !names::is_actor(id, learnt) {
                continue;
            }
            let name = names::actor(id, learnt);
            match &addressed {
                Some(first) if *first != name => return scene.to.to_owned(),
                _ => addressed = Some(name),
            }
        }
    }
    addressed.unwrap_or_else(|| scene.to.to_owned())
}

/// The object, where it is an actor or may be one.
fn person(node: &Node<'_>, learnt: &mut Learnt) -> Option<String> {
    node.object.id().map(|id| names::actor(id, learnt))
}

fn with_person(said: &Said<'_>, template: &'static str, learnt: &mut Learnt) -> Sentence {
    match person(said.node, learnt) {
        Some(object) => said.say(template, &[("object", &object)]),
        None => said.other(),
    }
}

/// The name of an actor, or the host where the id is that of a server.
fn actor_or_host(id: &str, learnt: &mut Learnt) -> String {
    match Url::parse(id) {
        Some(url) if matches!(url.path_and_query, "" | "/") => shown(url.host, 120),
        _ => names::actor(id, learnt),
    }
}

/// What is known of the object.
fn object(node: &Node<'_>, learnt: &mut Learnt) -> Option<Thing> {
    if let Some(embedded) = node.object.node() {
        let id = embedded.id.as_deref();
        let r#type = embedded.type_in(known_type).unwrap_or_default();
        let by = embedded.author().map(|author| names::actor(author, learnt));
        let known = match id {
            Some(id) if r#type.is_empty() || r#type == "Tombstone" || by.is_none() => names::known(id, learnt),
            _ => Known { noun: Noun::Post, r#type: String::new(), author: None },
        };
        let typed = !r#type.is_empty() && r#type != "Tombstone";
        return Some(Thing {
            known: Known {
                noun: if typed { Noun::of(r#type) } else { known.noun },
                r#type: if typed { r#type.to_owned() } else { known.r#type },
                author: by.or(known.author),
            },
            page: id.map_or_else(|| "?".to_owned(), names::thing),
        });
    }
    let id = node.object.id()?;
    Some(Thing { known: names::known(id, learnt), page: names::thing(id) })
}

fn follow(said: &Said<'_>, scene: &Scene<'_>, learnt: &mut Learnt) -> Sentence {
    match said.node.object.id() {
        // A relay is subscribed to by following the Public collection.
        Some(id) if is_public(id) => said.say("follow.relay", &[("recipient", scene.to)]),
        Some(id) => said.say("follow.ask", &[("object", &names::actor(id, learnt))]),
        None => said.say("follow.ask.unknown", &[("recipient", &said.recipient)]),
    }
}

/// An activity inside another, embedded or known by its id.
struct Inner {
    r#type: String,
    actor: Option<String>,
    object: Option<String>,
    /// It is no activity but a reply (GoToSocial accepts likes, boosts and replies as such).
    reply: bool,
}

fn inner(node: &Node<'_>, learnt: &mut Learnt) -> Option<Inner> {
    if let Some(embedded) = node.object.node() {
        let r#type = embedded.type_in(known_type)?.to_owned();
        return Some(Inner {
            r#type,
            actor: embedded.actor.id().or_else(|| embedded.author()).map(ToOwned::to_owned),
            object: embedded.object.id().map(ToOwned::to_owned),
            reply: !embedded.in_reply_to.is_empty(),
        });
    }
    let thing = learnt.known_thing(node.object.id()?)?;
    Some(Inner {
        r#type: thing.r#type.as_deref()?.into(),
        actor: thing.by.as_deref().map(Into::into),
        object: thing.object.as_deref().map(Into::into),
        reply: thing.in_reply_to.is_some(),
    })
}

fn answer(said: &Said<'_>, accepted: bool, learnt: &mut Learnt) -> Sentence {
    let verb = if accepted { "accept" } else { "reject" };
    let Some(inner) = inner(said.node, learnt) else {
        return match said.node.object.id() {
            Some(id) => said.say(format!("{verb}.object"), &[("object", &names::thing(id))]),
            None => said.say(format!("{verb}.unknown"), &[("recipient", &said.recipient)]),
        };
    };
    // Where the embedded Follow does not say who follows, it is the one who is told.
    let other = inner.actor.as_deref().map_or_else(|| said.recipient.clone(), |id| names::actor(id, learnt));
    match inner.r#type.as_str() {
        "Follow" if accepted && inner.object.as_deref().is_some_and(is_public) => {
            said.say("relay.accept", &[("follower", &other)])
        }
        "Follow" => said.say(format!("follow.{verb}"), &[("follower", &other)]),
        "Like" | "LikeRequest" => said.say(format!("{verb}.like"), &[("author", &other)]),
        "Announce" | "AnnounceRequest" => said.say(format!("{verb}.boost"), &[("author", &other)]),
        "ReplyRequest" => said.say(format!("{verb}.reply"), &[("author", &other)]),
        _ if inner.reply => said.say(format!("{verb}.reply"), &[("author", &other)]),
        "QuoteRequest" => said.say(format!("{verb}.quote"), &[("author", &other)]),
        r#type => said.say(format!("{verb}.type"), &[("type", r#type), ("author", &other)]),
    }
}

fn create(said: &Said<'_>, learnt: &mut Learnt) -> Sentence {
    let recipient = ("recipient", said.recipient.as_str());
    let Some(object) = said.node.object.node() else {
        return match said.node.object.id() {
            Some(id) => said.say("create.object", &[("object", &names::thing(id)), recipient]),
            None => said.say("create.unknown", &[recipient]),
        };
    };
    let r#type = object.type_in(known_type).unwrap_or_default();
    let parent = object.in_reply_to.id().map(|id| Thing { known: names::known(id, learnt), page: names::thing(id) });
    // A vote is a Note with the option as its name and no content (§2.2).
    if r#type == "Note"
        && object.name.is_some()
        && object.content.is_none()
        && let Some(parent) = &parent
    {
        return match &parent.known.author {
            Some(author) => said.say("create.vote", &[("author", author)]),
            None => said.say("create.vote.unknown", &[("object", &parent.page)]),
        };
    }
    if r#type == "ChatMessage" {
        return said.say("create.chat", &[recipient]);
    }
    if let Some(parent) = &parent {
        return said.about("create.reply", Some(parent), &[]);
    }
    let template = match said.visibility {
        Some(Visibility::Direct) => "create.direct",
        Some(Visibility::Followers) => "create.followers",
        _ => "create",
    };
    said.noun(template, Noun::of(r#type), &shown(r#type, 40), &[recipient])
}

fn update(said: &Said<'_>, learnt: &mut Learnt) -> Sentence {
    let id = said.node.object.id();
    let own = id.is_some() && id == said.node.actor.id();
    let is_actor = said.node.object.node().is_some_and(Node::is_actor);
    match (id, said.node.object.node()) {
        _ if own => said.say("update.actor", &[]),
        (Some(id), _) if is_actor => said.say("update.profile", &[("object", &names::actor(id, learnt))]),
        (_, Some(object)) => {
            let r#type = object.type_in(known_type).unwrap_or_default();
            // An Update of a poll may be new text or new counts.
            if r#type == "Question" {
                return said.say("update.question", &[]);
            }
            said.noun("update", Noun::of(r#type), &shown(r#type, 40), &[])
        }
        (Some(id), None) => {
            let known = names::known(id, learnt);
            if known.r#type.is_empty() {
                said.say("update.object", &[("object", &names::thing(id))])
            } else {
                said.noun("update", known.noun, &known.r#type, &[])
            }
        }
        (None, None) => said.say("update.unknown", &[]),
    }
}

fn delete(said: &Said<'_>, learnt: &mut Learnt) -> Sentence {
    let Some(id) = said.node.object.id() else { return said.say("delete.unknown", &[]) };
    if said.node.actor.id() == Some(id) {
        return said.say("delete.actor", &[]);
    }
    let mut known = names::known(id, learnt);
    let former = said.node.object.node().and_then(|object| {
        object.former_type.as_deref().or_else(|| object.type_in(known_type).filter(|t| *t != "Tombstone"))
    });
    if let Some(former) = former {
        known.noun = Noun::of(former);
        known.r#type = shown(former, 40);
    } else if known.r#type.is_empty() {
        if names::is_actor(id, learnt) {
            return said.say("delete.account", &[("object", &names::actor(id, learnt))]);
        }
        // Only a habit of paths says that it is a note; without even that, the id is all that is known.
        let posted = Url::parse(id).is_some_and(|url| guess(url.path()).shape == Shape::Post);
        if !posted {
            return said.say("delete.object", &[("object", &names::thing(id))]);
        }
    }
    match known.author {
        Some(author) if author != said.actor && said.node.actor.id().is_some() => {
            said.noun("delete.other", known.noun, &known.r#type, &[("author", &author)])
        }
        _ => said.noun("delete", known.noun, &known.r#type, &[]),
    }
}

/// The emoji of a reaction. A plain heart or star is what others send for a like, but Misskey means it as it is.
fn reaction(node: &Node<'_>) -> Option<String> {
    let text = node.reaction.as_deref().or(node.content.as_deref())?;
    let text = shown(text.trim(), 40);
    (!text.is_empty()).then_some(text)
}

fn react(said: &Said<'_>, template: &'static str, emoji: &str, learnt: &mut Learnt) -> Sentence {
    said.about(template, object(said.node, learnt).as_ref(), &[("emoji", emoji)])
}

fn announce(said: &Said<'_>, learnt: &mut Learnt) -> Sentence {
    // Lemmy's groups pass on whole activities (FEP-1b12).
    if let Some(embedded) = said.node.object.node()
        && embedded.is_activity()
        && let Some(r#type) = embedded.type_in(known_type)
    {
        let author = embedded.actor.id().map_or_else(|| "?".to_owned(), |id| names::actor(id, learnt));
        return said.say("boost.activity", &[("type", r#type), ("author", &author)]);
    }
    // The actor of a relay boosts whatever it was given.
    let relay = said.node.actor.id().and_then(Url::parse).is_some_and(|url| {
        guess(url.path()).shape == Shape::InstanceActor || url.path().ends_with("/relay")
    });
    if relay && let Some(id) = said.node.object.id() {
        return said.say("boost.relay", &[("object", &names::thing(id))]);
    }
    said.about("boost", object(said.node, learnt).as_ref(), &[])
}

fn undo(said: &Said<'_>, scene: &Scene<'_>, learnt: &mut Learnt) -> Sentence {
    let Some(inner) = inner(said.node, learnt) else {
        return match said.node.object.id() {
            Some(id) => said.say("undo.object", &[("object", &names::thing(id))]),
            None => said.say("undo.unknown", &[]),
        };
    };
    let undone = inner.object.as_deref();
    let thing = undone.map(|id| Thing { known: names::known(id, learnt), page: names::thing(id) });
    let thing = thing.as_ref();
    match (inner.r#type.as_str(), undone) {
        ("Follow", Some(id)) if is_public(id) => said.say("relay.leave", &[("recipient", scene.to)]),
        ("Follow", Some(id)) => said.say("follow.undo", &[("object", &names::actor(id, learnt))]),
        ("Block", Some(id)) => {
            let object = names::actor(id, learnt);
            match said.node.object.node().and_then(|block| block.target.id()) {
                Some(target) => {
                    let target = actor_or_host(target, learnt);
                    said.say("undo.ban", &[("object", &object), ("target", &target)])
                }
                None => said.say("undo.block", &[("object", &object)]),
            }
        }
        ("Like", _) if said.node.object.node().is_some_and(|like| reaction(like).is_some()) => {
            said.about("undo.react", thing, &[])
        }
        ("Like", _) => said.about("undo.like", thing, &[]),
        ("EmojiReact" | "EmojiReaction", _) => said.about("undo.react", thing, &[]),
        ("Dislike", _) => said.about("undo.dislike", thing, &[]),
        ("Announce", _) => said.about("undo.boost", thing, &[]),
        ("Delete", Some(id)) => said.say("undo.delete", &[("object", &names::thing(id))]),
        ("Lock", Some(id)) => said.say("undo.lock", &[("object", &names::thing(id))]),
        ("Accept", Some(id)) => said.say("undo.accept", &[("object", &names::thing(id))]),
        (r#type, _) => said.say("undo.type", &[("type", &shown(r#type, 40))]),
    }
}

fn r#move(said: &Said<'_>, learnt: &mut Learnt) -> Sentence {
    let Some(target) = said.node.target.id().map(|id| names::actor(id, learnt)) else {
        return said.say("move.unknown", &[]);
    };
    match said.node.object.id() {
        Some(object) if said.node.actor.id() != Some(object) => {
            said.say("move.other", &[("object", &names::actor(object, learnt)), ("target", &target)])
        }
        _ => said.say("move", &[("target", &target)]),
    }
}

fn flag(said: &Said<'_>, learnt: &mut Learnt) -> Sentence {
    // Mastodon puts the account first and the notes behind it; others send notes alone.
    let account = said.node.object.ids().take(64).find(|id| names::is_actor(id, learnt)).map(ToOwned::to_owned);
    match account {
        Some(account) => said.say("flag", &[("object", &names::actor(&account, learnt))]),
        None => match object(said.node, learnt) {
            Some(Thing { known: Known { author: Some(author), noun, r#type }, .. }) => {
                said.noun("flag.post", noun, &r#type, &[("author", &author)])
            }
            Some(thing) => said.say("flag", &[("object", &thing.page)]),
            None => said.other(),
        },
    }
}

fn add(said: &Said<'_>, verb: &str, learnt: &mut Learnt) -> Sentence {
    let target = said.node.target.id();
    let place = target.and_then(Url::parse).map(|url| {
        let shape = guess(url.path()).shape;
        match learnt.known_role(&url.key()) {
            Some(Role::Featured) => Shape::Featured,
            Some(Role::FeaturedTags) => Shape::FeaturedTags,
            _ => shape,
        }
    });
    let tag = said.node.object.node().is_some_and(|object| object.is("Hashtag"));
    match (place, said.node.object.id()) {
        (Some(Shape::FeaturedTags), _) => said.say(format!("{verb}.tag"), &[]),
        (Some(Shape::Featured), _) if tag => said.say(format!("{verb}.tag"), &[]),
        (Some(Shape::Featured), Some(id)) => {
            let known = names::known(id, learnt);
            said.noun(&format!("{verb}.pin"), known.noun, &known.r#type, &[])
        }
        (Some(Shape::Moderators), Some(id)) => {
            let object = names::actor(id, learnt);
            let group = target.and_then(|t| t.strip_suffix("/moderators")).unwrap_or_default();
            said.say(format!("{verb}.moderator"), &[("object", &object), ("target", &names::actor(group, learnt))])
        }
        (_, Some(id)) => {
            let target = target.map_or_else(|| "?".to_owned(), names::thing);
            said.say(format!("{verb}.object"), &[("object", &names::thing(id)), ("target", &target)])
        }
        (_, None) => said.other(),
    }
}
