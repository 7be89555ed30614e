//! From a parsed body to an [`Activity`]: who does what to what, for whom it is, and the beginning of its text where
//! that is for the public.

use super::document::{Node, Value};
use super::head::AS2;
use super::learn::Learnt;
use super::place::{Shape, guess};
use super::{Activity, Visibility};
use crate::activitypub::learn::{Role, Url};

/// Longer ids are cut, with an ellipsis.
const LONGEST_ID: usize = 2048;
/// Addressees that are kept of each kind.
const ADDRESSEES: usize = 256;
/// Characters of an excerpt.
const EXCERPT: usize = 200;

/// The activity types that have a meaning here: Activity Streams' own, and what the fediverse added.
const TYPES: &[&str] = &[
    "Accept", "Add", "Announce", "AnnounceRequest", "Arrive", "Block", "Create", "Delete", "Dislike", "EmojiReact",
    "EmojiReaction", "FeatureRequest", "Flag", "Follow", "Ignore", "Invite", "Join", "Leave", "Like", "LikeRequest",
    "Listen", "Lock", "Move", "Offer", "Question", "QuoteRequest", "Read", "Reject", "Remove", "ReplyRequest",
    "TentativeAccept", "TentativeReject", "Travel", "Undo", "Update", "View",
];

/// True for the types that have a meaning here.
pub(super) fn known_type(name: &str) -> bool {
    TYPES.binary_search(&name).is_ok()
}

/// The activity in a document.
pub(super) fn read(node: &Node<'_>, learnt: &mut Learnt) -> Activity {
    let object = node.object.node();
    let r#type = node.type_in(known_type);
    let visibility = visibility(node, learnt);
    let inner = object.and_then(|o| o.object.id().or_else(|| o.in_reply_to.id()));
    let shown = matches!(visibility, Some(Visibility::Public | Visibility::Unlisted))
        && matches!(r#type, Some("Create" | "Update" | "Announce"));
    Activity {
        id: node.id.as_deref().map(bounded),
        r#type: r#type.map(bounded),
        actor: node.actor.id().map(bounded),
        object: node.object.id().map(bounded),
        object_type: object.and_then(|o| o.type_in(|_| false)).map(bounded),
        inner: inner.map(bounded),
        target: node.target.id().map(bounded),
        to: addressees(&node.to),
        cc: addressees(&node.cc),
        visibility,
        excerpt: object.filter(|o| shown && !o.is_actor()).and_then(excerpt),
    }
}

/// The Public collection, in its three spellings (ActivityPub §5.6).
pub(super) fn is_public(id: &str) -> bool {
    matches!(id, "as:Public" | "Public") || id.strip_prefix(AS2) == Some("#Public")
}

/// How far it may be seen, as Mastodon reads it (§2.1). `None` where nobody is addressed.
fn visibility(node: &Node<'_>, learnt: &mut Learnt) -> Option<Visibility> {
    // What the object says counts where the wrapper says nothing.
    let node = match node.object.node() {
        Some(object) if node.to.is_empty() && node.cc.is_empty() => object,
        _ => node,
    };
    if node.to.ids().any(is_public) {
        return Some(Visibility::Public);
    }
    if node.cc.ids().any(is_public) {
        return Some(Visibility::Unlisted);
    }
    let mut ids = node.to.ids().chain(node.cc.ids()).peekable();
    ids.peek()?;
    if ids.any(|id| is_followers(id, learnt)) { Some(Visibility::Followers) } else { Some(Visibility::Direct) }
}

fn is_followers(id: &str, learnt: &mut Learnt) -> bool {
    let Some(url) = Url::parse(id) else { return false };
    match learnt.known_role(&url.key()) {
        Some(role) => role == Role::Followers,
        None => guess(url.path()).shape == Shape::Followers,
    }
}

fn addressees(value: &Value<'_>) -> Vec<Box<str>> {
    value.ids().take(ADDRESSEES).map(bounded).collect()
}

fn bounded(text: &str) -> Box<str> {
    if text.len() <= LONGEST_ID {
        return text.into();
    }
    let end = (0..=LONGEST_ID).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let mut cut = text.get(..end).unwrap_or_default().to_owned();
    cut.push('…');
    cut.into()
}

/// The beginning of a note's text, or the title of what has no text.
fn excerpt(object: &Node<'_>) -> Option<Box<str>> {
    let text = object.content.as_deref().map(plain).filter(|t| !t.is_empty());
    text.or_else(|| object.name.as_deref().map(plain).filter(|t| !t.is_empty())).map(Into::into)
}

/// HTML as a line of text: markup removed, entities decoded, white space folded, cut at [`EXCERPT`] characters. It is
/// text for showing, not HTML for a browser.
pub(super) fn plain(html: &str) -> String {
    let mut text = String::with_capacity(html.len().min(EXCERPT.saturating_add(3)));
    let mut count = 0_usize;
    let mut space = false;
    let mut rest = html;
    while let Some(c) = rest.chars().next() {
        // A word of plain letters goes over as a whole.
        let word = rest.bytes().take_while(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'&')).count();
        let apart = usize::from(space && !text.is_empty());
        if word > 1 && count.saturating_add(apart).saturating_add(word) <= EXCERPT {
            text.extend((apart == 1).then_some(' '));
            let (word, after) = rest.split_at_checked(word).unwrap_or((rest, ""));
            text.push_str(word);
            count = count.saturating_add(apart).saturating_add(word.len());
            space = false;
            rest = after;
            continue;
        }
        let (shown, after) = match c {
            '<' => match tag(rest) {
                Some((breaks, after)) => {
                    space |= breaks;
                    (None, after)
                }
                None => (Some('<'), rest.get(1..).unwrap_or_default()),
            },
            '&' => entity(rest),
            c => (Some(c), rest.get(c.len_utf8()..).unwrap_or_default()),
        };
        rest = after;
        let Some(shown) = shown else { continue };
        if shown.is_whitespace() {
            space = true;
            continue;
        }
        if hidden(shown) {
            continue;
        }
        if count >= EXCERPT {
            text.push('…');
            break;
        }
        if space && !text.is_empty() {
            text.push(' ');
            count = count.saturating_add(1);
        }
        space = false;
        text.push(shown);
        count = count.saturating_add(1);
    }
    text
}

/// Characters that must not reach a terminal or turn a line around: controls and bidirectional overrides.
pub(super) fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{061c}' | '\u{feff}')
        || matches!(c, '\u{2028}' | '\u{2029}')
}

/// What follows a tag, and whether it separates words. `None` for a lone `<`.
fn tag(html: &str) -> Option<(bool, &str)> {
    let inner = html.get(1..)?;
    if !inner.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
        return None;
    }
    // A tag without an end swallows the rest: nothing behind it is text.
    let (tag, after) = inner.split_once('>').unwrap_or((inner, ""));
    let tag = tag.strip_prefix('/').unwrap_or(tag);
    let end = tag.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(tag.len()).min(12);
    let name = tag.get(..end).unwrap_or_default();
    let inline = ["a", "span", "b", "i", "em", "strong", "u", "s", "del", "code", "small", "sub", "sup", "img"];
    Some((!inline.iter().any(|i| i.eq_ignore_ascii_case(name)), after))
}

/// A character reference, and what follows it.
fn entity(html: &str) -> (Option<char>, &str) {
    let plain = (Some('&'), html.get(1..).unwrap_or_default());
    let window = html.as_bytes().get(1..html.len().min(12)).unwrap_or_default();
    let Some(end) = window.iter().position(|b| *b == b';') else { return plain };
    let Some(name) = html.get(1..end.saturating_add(1)) else { return plain };
    let c = match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        "hellip" => Some('…'),
        _ => name.strip_prefix('#').and_then(|number| {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }),
    };
    match c {
        Some(c) => (Some(c), html.get(end.saturating_add(2)..).unwrap_or_default()),
        None => plain,
    }
}
