//! Sentences for the client API of Mastodon and those that speak it, Misskey and Lemmy: what a user's app did, for the
//! well-known requests.

use super::head::query_value;
use super::sentence::shown;
use super::{Scene, Sentence};

/// Method (`*`: any), path (`*`: any one segment, `**` at the end: anything), template without `client.`. The first
/// match counts.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("GET", "/api/v1/timelines/home", "timeline.home"),
    ("GET", "/api/v1/timelines/public", "timeline.public"),
    ("GET", "/api/v1/timelines/tag/*", "timeline.tag"),
    ("GET", "/api/v1/timelines/list/*", "timeline.list"),
    ("GET", "/api/v1/timelines/direct", "conversations"),
    ("GET", "/api/v1/notifications", "notifications"),
    ("GET", "/api/v2/notifications", "notifications"),
    ("POST", "/api/v1/notifications/**", "notifications.clear"),
    ("GET", "/api/v1/notifications/**", "notifications"),
    ("GET", "/api/v2/notifications/**", "notifications"),
    ("GET", "/api/v1/conversations", "conversations"),
    ("POST", "/api/v1/statuses", "status.post"),
    ("GET", "/api/v1/statuses", "status.read"),
    ("GET", "/api/v1/statuses/*", "status.read"),
    ("PUT", "/api/v1/statuses/*", "status.edit"),
    ("DELETE", "/api/v1/statuses/*", "status.delete"),
    ("GET", "/api/v1/statuses/*/context", "status.context"),
    ("GET", "/api/v1/statuses/*/history", "status.history"),
    ("GET", "/api/v1/statuses/*/source", "status.source"),
    ("GET", "/api/v1/statuses/*/favourited_by", "status.likers"),
    ("GET", "/api/v1/statuses/*/reblogged_by", "status.boosters"),
    ("POST", "/api/v1/statuses/*/favourite", "like"),
    ("POST", "/api/v1/statuses/*/unfavourite", "unlike"),
    ("POST", "/api/v1/statuses/*/reblog", "boost"),
    ("POST", "/api/v1/statuses/*/unreblog", "unboost"),
    ("POST", "/api/v1/statuses/*/bookmark", "bookmark"),
    ("POST", "/api/v1/statuses/*/unbookmark", "unbookmark"),
    ("POST", "/api/v1/statuses/*/pin", "pin"),
    ("POST", "/api/v1/statuses/*/unpin", "unpin"),
    ("*", "/api/v1/pleroma/statuses/*/reactions/*", "react"),
    ("GET", "/api/v1/accounts/verify_credentials", "account.verify"),
    ("PATCH", "/api/v1/accounts/update_credentials", "account.update"),
    ("GET", "/api/v1/accounts/relationships", "account.relationships"),
    ("GET", "/api/v1/accounts/lookup", "account.lookup"),
    ("GET", "/api/v1/accounts/search", "account.lookup"),
    ("POST", "/api/v1/accounts", "account.register"),
    ("GET", "/api/v1/accounts/*", "account.read"),
    ("GET", "/api/v1/accounts/*/statuses", "account.statuses"),
    ("GET", "/api/v1/accounts/*/followers", "account.followers"),
    ("GET", "/api/v1/accounts/*/following", "account.following"),
    ("POST", "/api/v1/accounts/*/follow", "follow"),
    ("POST", "/api/v1/accounts/*/unfollow", "unfollow"),
    ("POST", "/api/v1/accounts/*/block", "block"),
    ("POST", "/api/v1/accounts/*/unblock", "unblock"),
    ("POST", "/api/v1/accounts/*/mute", "mute"),
    ("POST", "/api/v1/accounts/*/unmute", "unmute"),
    ("GET", "/api/v1/follow_requests", "follow.requests"),
    ("POST", "/api/v1/follow_requests/*/authorize", "follow.authorize"),
    ("POST", "/api/v1/follow_requests/*/reject", "follow.reject"),
    ("GET", "/api/v1/search", "search"),
    ("GET", "/api/v2/search", "search"),
    ("POST", "/api/v1/polls/*/votes", "vote"),
    ("GET", "/api/v1/polls/*", "poll"),
    ("POST", "/api/v1/media", "media.upload"),
    ("POST", "/api/v2/media", "media.upload"),
    ("GET", "/api/v1/media/*", "media.read"),
    ("PUT", "/api/v1/media/*", "media.upload"),
    ("POST", "/api/v1/reports", "report"),
    ("GET", "/api/v1/preferences", "preferences"),
    ("GET", "/api/v1/custom_emojis", "emojis"),
    ("GET", "/api/v1/lists", "lists"),
    ("GET", "/api/v1/filters", "filters"),
    ("GET", "/api/v2/filters", "filters"),
    ("GET", "/api/v1/bookmarks", "bookmarks"),
    ("GET", "/api/v1/favourites", "favourites"),
    ("GET", "/api/v1/blocks", "blocks"),
    ("GET", "/api/v1/mutes", "mutes"),
    ("*", "/api/v1/markers", "markers"),
    ("GET", "/api/v1/trends/**", "trends"),
    ("GET", "/api/v1/trends", "trends"),
    ("GET", "/api/v1/announcements", "announcements"),
    ("*", "/api/v1/push/subscription", "push"),
    ("GET", "/api/v1/instance", "instance"),
    ("GET", "/api/v2/instance", "instance"),
    ("GET", "/api/v1/instance/**", "instance"),
    ("POST", "/api/v1/apps", "app"),
    ("GET", "/api/v1/apps/verify_credentials", "account.verify"),
    ("*", "/oauth/authorize", "oauth.authorize"),
    ("POST", "/oauth/token", "oauth.token"),
    ("POST", "/oauth/revoke", "oauth.revoke"),
    ("POST", "/api/v1/admin/domain_blocks", "admin.block"),
    ("DELETE", "/api/v1/admin/domain_blocks/*", "admin.unblock"),
    ("*", "/api/v1/admin/**", "admin"),
    ("*", "/api/v2/admin/**", "admin"),
    // Misskey: everything is POST.
    ("POST", "/api/notes/timeline", "timeline.home"),
    ("POST", "/api/notes/hybrid-timeline", "timeline.home"),
    ("POST", "/api/notes/local-timeline", "timeline.local"),
    ("POST", "/api/notes/global-timeline", "timeline.public"),
    ("POST", "/api/notes/user-list-timeline", "timeline.list"),
    ("POST", "/api/notes/search-by-tag", "timeline.tag"),
    ("POST", "/api/notes/create", "status.post"),
    ("POST", "/api/notes/delete", "status.delete"),
    ("POST", "/api/notes/show", "status.read"),
    ("POST", "/api/notes/conversation", "status.context"),
    ("POST", "/api/notes/children", "status.context"),
    ("POST", "/api/notes/replies", "status.context"),
    ("POST", "/api/notes/reactions/create", "react"),
    ("POST", "/api/notes/polls/vote", "vote"),
    ("POST", "/api/notes/favorites/create", "bookmark"),
    ("POST", "/api/notes/favorites/delete", "unbookmark"),
    ("POST", "/api/i/notifications", "notifications"),
    ("POST", "/api/i/notifications-grouped", "notifications"),
    ("POST", "/api/i/update", "account.update"),
    ("POST", "/api/i", "account.verify"),
    ("POST", "/api/users/show", "account.read"),
    ("POST", "/api/users/notes", "account.statuses"),
    ("POST", "/api/users/followers", "account.followers"),
    ("POST", "/api/users/following", "account.following"),
    ("POST", "/api/following/create", "follow"),
    ("POST", "/api/following/delete", "unfollow"),
    ("POST", "/api/following/requests/list", "follow.requests"),
    ("POST", "/api/following/requests/accept", "follow.authorize"),
    ("POST", "/api/following/requests/reject", "follow.reject"),
    ("POST", "/api/blocking/create", "block"),
    ("POST", "/api/blocking/delete", "unblock"),
    ("POST", "/api/mute/create", "mute"),
    ("POST", "/api/mute/delete", "unmute"),
    ("POST", "/api/drive/files/create", "media.upload"),
    ("POST", "/api/notes/search", "search"),
    ("POST", "/api/users/search", "search"),
    ("POST", "/api/meta", "instance"),
    ("POST", "/api/emojis", "emojis"),
    ("GET", "/api/emojis", "emojis"),
    ("POST", "/api/users/report-abuse", "report"),
    ("POST", "/api/admin/**", "admin"),
    // Lemmy.
    ("GET", "/api/v3/site", "instance"),
    ("GET", "/api/v4/site", "instance"),
    ("GET", "/api/v3/post/list", "timeline.public"),
    ("GET", "/api/v4/post/list", "timeline.public"),
    ("POST", "/api/v3/post", "status.post"),
    ("POST", "/api/v4/post", "status.post"),
    ("POST", "/api/v3/comment", "status.post"),
    ("POST", "/api/v4/comment", "status.post"),
    ("GET", "/api/v3/post", "status.read"),
    ("GET", "/api/v4/post", "status.read"),
    ("GET", "/api/v3/comment/list", "status.context"),
    ("GET", "/api/v4/comment/list", "status.context"),
    ("POST", "/api/v3/community/follow", "follow"),
    ("POST", "/api/v4/community/follow", "follow"),
    ("GET", "/api/v3/search", "search"),
    ("GET", "/api/v4/search", "search"),
];

/// What a client did.
pub(super) fn sentence(scene: &Scene<'_>, method: &str, path: &str) -> Sentence {
    let full = scene.head.path.unwrap_or_default();
    let full = full.strip_suffix('/').unwrap_or(full);
    let found = REQUESTS
        .iter()
        .find(|(m, pattern, _)| (*m == "*" || *m == method || (*m == "GET" && method == "HEAD")) && fits(pattern, full));
    let method = shown(method, 20);
    match found {
        Some((_, _, "admin")) | None => {
            let name = if found.is_some() { "client.admin" } else { "client.other" };
            scene.ask(name, &[("method", &method), ("path", path)])
        }
        Some((_, _, name)) => scene.ask(format!("client.{name}"), &[]),
    }
}

fn fits(pattern: &str, path: &str) -> bool {
    let mut wanted = pattern.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (Some("**"), Some(_)) => return true,
            (Some("*"), Some(segment)) if !segment.is_empty() => {}
            (Some(want), Some(segment)) if want == segment => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// The stream that is listened to: named in the path or in the query.
pub(super) fn stream(query: Option<&str>, path: &str) -> Option<String> {
    let named = path.strip_prefix("/api/v1/streaming/").filter(|rest| !rest.is_empty()).map(ToOwned::to_owned);
    named.or_else(|| query_value(query, "stream")).map(|stream| shown(&stream, 60))
}
