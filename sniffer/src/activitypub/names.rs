//! What actors and things are called in sentences: `name@host` where a document said the name or the path holds it,
//! else the URL itself without its scheme. Never made up.

use super::learn::{Learnt, Role, Url, key};
use super::place::{Guess, Shape, Whose, decoded, guess};
use super::sentence::{Noun, shown};

/// Servers whose actor paths hold an opaque id where others have the name.
const OPAQUE: &[&str] = &[
    "Misskey", "Sharkey", "Firefish", "Iceshrimp", "CherryPick", "FoundKey", "Calckey", "Catodon", "Iceshrimp.NET",
];

/// An actor by its id.
pub(super) fn actor(id: &str, learnt: &mut Learnt) -> String {
    let Some(url) = Url::parse(id) else {
        return shown(id.strip_prefix("acct:").unwrap_or(id), 120);
    };
    if let Some(name) = learnt.known_name(&url) {
        return name.to_owned();
    }
    let guess = guess(url.path());
    if matches!(guess.shape, Shape::Actor | Shape::InstanceActor)
        && let Some(name) = guessed(url.host, &guess, learnt)
    {
        return name;
    }
    page(&url)
}

/// An account as it is written: the actor of a server itself, which GoToSocial names after the host, by the host.
pub(super) fn account(account: &str, host: &str) -> String {
    let whole = account.strip_suffix(host).and_then(|rest| rest.strip_suffix('@')) == Some(host);
    shown(if whole { host } else { account }, 120)
}

/// The owner of a page, by what is known and by habit.
pub(super) fn owner(host: &str, guess: &Guess<'_>, learnt: &mut Learnt) -> Option<String> {
    let path = guess.owner_path?;
    if let Some(name) = learnt.names.get(&*key(host, path)) {
        return Some(name.to_string());
    }
    guessed(host, guess, learnt).or_else(|| Some(format!("{}{}", shown(host, 100), shown(path, 100))))
}

/// The name that a path holds.
fn guessed(host: &str, guess: &Guess<'_>, learnt: &mut Learnt) -> Option<String> {
    match guess.whose {
        Whose::Named(name) => {
            let opaque = learnt
                .software_of(host)
                .is_some_and(|software| OPAQUE.contains(&software.split(' ').next().unwrap_or_default()));
            if opaque && guess.owner_path.is_some_and(|path| path.starts_with("/users/")) {
                return None;
            }
            let name = decoded(name);
            // `/@bob@example.org` is a page about an actor of elsewhere, and names it in full.
            let full = if name.eq_ignore_ascii_case(host) {
                host.to_owned()
            } else if name.contains('@') {
                name
            } else {
                format!("{name}@{host}")
            };
            Some(shown(&full, 120))
        }
        Whose::Server => Some(shown(host, 120)),
        Whose::Opaque | Whose::Unknown => None,
    }
}

/// A page as it is written in sentences: host and path.
pub(super) fn page(url: &Url<'_>) -> String {
    let path = if url.path_and_query == "/" { "" } else { url.path_and_query };
    let length = [path.len(), url.fragment.map_or(0, str::len), 1].into_iter().fold(url.host.len(), usize::saturating_add);
    let mut text = String::with_capacity(length);
    text.push_str(url.host);
    text.push_str(path);
    if let Some(fragment) = url.fragment {
        text.push('#');
        text.push_str(fragment);
    }
    shown(&text, 120)
}

/// Any id as it is written in sentences.
pub(super) fn thing(id: &str) -> String {
    Url::parse(id).map_or_else(|| shown(id, 120), |url| page(&url))
}

/// What is known of a thing that is only named by its id: what to call it, its type, and who made it.
pub(super) struct Known {
    pub(super) noun: Noun,
    pub(super) r#type: String,
    /// As written in sentences.
    pub(super) author: Option<String>,
}

/// What is known of a thing.
pub(super) fn known(id: &str, learnt: &mut Learnt) -> Known {
    let thing = learnt.known_thing(id);
    let r#type = thing.and_then(|thing| thing.r#type.clone());
    let by = thing.and_then(|thing| thing.by.clone());
    let author = author(id, by.as_deref(), learnt);
    match r#type {
        Some(r#type) => Known { noun: Noun::of(&r#type), r#type: r#type.into(), author },
        None => {
            let note = Url::parse(id).is_some_and(|url| {
                guess(url.path()).shape == Shape::Post
                    && ["/statuses/", "/notes/"].iter().any(|part| url.path().contains(part))
            });
            let noun = if note { Noun::Note } else { Noun::Post };
            Known { noun, r#type: String::new(), author }
        }
    }
}

/// Who made a thing: as it was seen to say, else the owner of the path that it is under.
fn author(id: &str, by: Option<&str>, learnt: &mut Learnt) -> Option<String> {
    if let Some(by) = by {
        return Some(actor(by, learnt));
    }
    let url = Url::parse(id)?;
    let guess = guess(url.path());
    if !matches!(guess.shape, Shape::Post | Shape::Activity) {
        return None;
    }
    owner(url.host, &guess, learnt)
}

/// True when the id is that of an actor, as far as known or by habit.
pub(super) fn is_actor(id: &str, learnt: &mut Learnt) -> bool {
    let Some(url) = Url::parse(id) else { return false };
    let key = url.key();
    if learnt.names.get(&*key).is_some() {
        return true;
    }
    match learnt.known_role(&key) {
        Some(role) => role == Role::Actor,
        None => matches!(guess(url.path()).shape, Shape::Actor | Shape::InstanceActor),
    }
}
