//! From a path to what the known servers keep there (`facts/activitypub-wire.md` §1.4). A habit, not a proof: what
//! documents and answers said comes first, and a name is only taken from where names are.

use percent_encoding::percent_decode_str;

/// What a path looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    Actor,
    /// The actor of the server itself.
    InstanceActor,
    Inbox,
    SharedInbox,
    Outbox,
    Followers,
    Following,
    Featured,
    FeaturedTags,
    Liked,
    Moderators,
    /// The partial followers collection of FEP-8fcf.
    FollowersSync,
    Key,
    /// A note, page, video: something that people posted.
    Post,
    Replies,
    Likes,
    Shares,
    /// An activity.
    Activity,
    /// None of these.
    None,
}

impl Shape {
    /// True for the collections that belong to an actor or a post.
    pub(super) fn is_collection(self) -> bool {
        matches!(
            self,
            Self::Outbox
                | Self::Followers
                | Self::Following
                | Self::Featured
                | Self::FeaturedTags
                | Self::Liked
                | Self::Moderators
                | Self::Replies
                | Self::Likes
                | Self::Shares
        )
    }
}

/// Whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose<'a> {
    /// An actor of that name.
    Named(&'a str),
    /// The server as a whole.
    Server,
    /// An actor whose path does not hold the name (a number, an opaque id).
    Opaque,
    /// Unknown.
    Unknown,
}

/// A path by the habits of the known servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Guess<'a> {
    pub(super) shape: Shape,
    pub(super) whose: Whose<'a>,
    /// The part of the path that is the owner's own.
    pub(super) owner_path: Option<&'a str>,
}

/// Guesses from a path without its query.
pub(super) fn guess(path: &str) -> Guess<'_> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments = [""; 8];
    let mut count = 0_usize;
    for segment in path.split('/').skip(1) {
        if let Some(slot) = segments.get_mut(count) {
            *slot = segment;
        }
        count = count.saturating_add(1);
    }
    if !path.starts_with('/') && !path.is_empty() {
        return Guess { shape: Shape::None, whose: Whose::Unknown, owner_path: None };
    }
    let Some(used) = segments.get(..count.min(8)) else {
        return Guess { shape: Shape::None, whose: Whose::Unknown, owner_path: None };
    };
    let (whose, taken) = owner(used);
    let owner_path = prefix(path, taken);
    let rest = used.get(taken..).unwrap_or_default();
    let shape = match (whose, rest) {
        // A path that is deeper than anyone's: only its tail counts.
        _ if count > 8 => Shape::None,
        (Whose::Server, []) => Shape::InstanceActor,
        (Whose::Named(_) | Whose::Opaque, []) => Shape::Actor,
        (Whose::Unknown, [] | ["inbox"] | ["f", "inbox"]) => {
            if rest.is_empty() { Shape::None } else { Shape::SharedInbox }
        }
        (_, rest) => tail(whose, rest, path),
    };
    Guess { shape, whose, owner_path }
}

/// The owner, and how many segments name it.
fn owner<'a>(segments: &[&'a str]) -> (Whose<'a>, usize) {
    match *segments {
        ["actor", ..] | ["relay", ..] => (Whose::Server, 1),
        ["i", "actor", ..] | ["internal", "fetch", ..] | ["accounts", "peertube", ..] => (Whose::Server, 2),
        ["ap", "users", id, ..] if !id.is_empty() => (Whose::Opaque, 3),
        ["users" | "user" | "u" | "c" | "m" | "accounts" | "a" | "video-channels" | "actors" | "profile", name, ..]
            if !name.is_empty() && *name != *"inbox" =>
        {
            (Whose::Named(name), 2)
        }
        ["p", name, _, ..] if !name.is_empty() => (Whose::Named(name), 2),
        [name, ..] if name.len() > 1 && name.starts_with('@') => (Whose::Named(name.get(1..).unwrap_or(name)), 1),
        _ => (Whose::Unknown, 0),
    }
}

fn tail(whose: Whose<'_>, rest: &[&str], path: &str) -> Shape {
    match *rest {
        [.., "inbox"] => Shape::Inbox,
        [.., "followers_synchronization"] => Shape::FollowersSync,
        [.., "main-key" | "publickey"] => Shape::Key,
        [.., "replies" | "comments"] => Shape::Replies,
        [.., "likes" | "dislikes"] => Shape::Likes,
        [.., "shares" | "announces"] => Shape::Shares,
        [.., "outbox"] => Shape::Outbox,
        [.., "followers"] => Shape::Followers,
        [.., "following"] => Shape::Following,
        [.., "liked"] => Shape::Liked,
        [.., "collections", "featured"] | ["featured"] => Shape::Featured,
        [.., "collections", "tags"] => Shape::FeaturedTags,
        [.., "moderators"] => Shape::Moderators,
        [.., "activity"] => Shape::Activity,
        ["statuses" | "notes" | "posts" | "post" | "objects", _] => Shape::Post,
        ["notice" | "questions" | "comment" | "w", _] if whose == Whose::Unknown => Shape::Post,
        ["videos", "watch", _] => Shape::Post,
        ["activities", ..] | ["follow" | "liked" | "blocks" | "moves" | "accepts" | "rejects", _] => Shape::Activity,
        [_] if path.starts_with("/p/") || path.starts_with("/@") => Shape::Post,
        _ => Shape::None,
    }
}

/// The first `segments` segments of a path.
fn prefix(path: &str, segments: usize) -> Option<&str> {
    if segments == 0 {
        return None;
    }
    let end = path
        .match_indices('/')
        .nth(segments)
        .map_or(path.len(), |(at, _)| at);
    path.get(..end)
}

/// A segment as text: percent-decoding removed.
pub(super) fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}
