//! What readings say, at the module's edge: exchanges in, sentences and facts out.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::unwrap_used)]

use std::collections::HashSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use sha2::Digest as _;

use super::head::Media;
use super::*;
use crate::flow::{Ends, FlowId};
use crate::frame::{Interface, Timestamp};
use crate::http::{Body, Exchange, ExchangeId, Headers, Message, Protocol, Request, Response};

/// 2026-11-23T07:26:40Z.
const NOW: u64 = 1_795_418_800;
const DATE: &str = "Mon, 23 Nov 2026 07:26:40 GMT";
const AS_TYPE: &str = "application/activity+json";

/// An exchange from two messages as text: first line, header lines, an empty line, the body. An empty response: none.
fn exchange(request: &str, response: &str) -> Exchange {
    let time = Timestamp(NOW * 1_000_000_000);
    let request = (!request.is_empty()).then(|| {
        let (line, message) = message(request);
        let mut parts = line.split(' ');
        let method = parts.next().map(Into::into);
        let target = parts.next().map(Into::into);
        let host = message.headers.text("Host").map(Into::into);
        Request { method, target, host, scheme: None, message }
    });
    let response = (!response.is_empty()).then(|| {
        let (line, message) = message(response);
        Response { status: line.split(' ').next().unwrap().parse().ok(), reason: "".into(), message }
    });
    Exchange {
        id: ExchangeId::new(time, 1),
        flow: FlowId(1),
        ends: Ends {
            client: "10.42.0.10:40000".parse::<SocketAddr>().unwrap(),
            server: "10.42.0.22:8080".parse::<SocketAddr>().unwrap(),
        },
        interface: Interface::Unknown,
        interface_name: None,
        protocol: Protocol::Http11,
        started: time,
        ended: time,
        request,
        response,
        interim: Vec::new(),
        websocket: None,
        gaps: Vec::new(),
        anomalies: Vec::new(),
    }
}

fn message(text: &str) -> (&str, Message) {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let first = lines.next().unwrap();
    let mut headers = Headers::default();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.push(Some(name.as_bytes()), Some(value.as_bytes()));
    }
    (first, Message { headers, body: whole_body(body.as_bytes()), ..Message::default() })
}

fn whole_body(bytes: &[u8]) -> Body {
    let hash: [u8; 32] = sha2::Sha256::digest(bytes).into();
    let size = bytes.len() as u64;
    Body {
        wire_size: size,
        coded_size: size,
        size,
        complete: true,
        sha256: Some(hash),
        coded_sha256: Some(hash),
        bytes: bytes.to_vec(),
        ..Body::default()
    }
}

/// Reads, and checks what must hold of every reading: the template is in the table, and its slots are filled.
fn read(reader: &mut Reader, exchange: &Exchange) -> Reading {
    let reading = reader.read(exchange);
    let sentence = &reading.sentence;
    let (_, english, japanese) = TEMPLATES
        .iter()
        .find(|(name, _, _)| *name == &*sentence.template)
        .unwrap_or_else(|| panic!("no template {}", sentence.template));
    for slot in slots(english).union(&slots(japanese)) {
        assert!(sentence.slots.iter().any(|(name, _)| **name == **slot), "{} lacks {slot}", sentence.template);
    }
    for (_, value) in &sentence.slots {
        assert!(value.chars().count() <= 201, "bounded");
        assert!(!value.chars().any(char::is_control), "fit for a terminal");
    }
    if let Some(reason) = &reading.reason {
        assert!(known_reason(reason), "{reason}");
    }
    reading
}

/// The table has the reason, save for the status in it.
fn known_reason(reason: &str) -> bool {
    let general = reason.rsplit_once(' ').filter(|(_, last)| last.parse::<u16>().is_ok());
    let general = general.map_or_else(|| reason.to_owned(), |(words, _)| format!("{words} {{status}}"));
    REASONS.iter().any(|(english, _)| *english == general)
}

fn slots(template: &str) -> HashSet<String> {
    template.split('{').skip(1).map(|rest| rest.split('}').next().unwrap().to_owned()).collect()
}

fn said(request: &str, response: &str) -> String {
    read(&mut Reader::new(), &exchange(request, response)).sentence.render()
}

/// A delivery from the host of the activity's actor.
fn delivery(inbox: &str, body: &str) -> String {
    let (host, path) = inbox.split_once('/').unwrap();
    format!("POST /{path} HTTP/1.1\nHost: {host}\nContent-Type: {AS_TYPE}\nDate: {DATE}\nUser-Agent: test/1\n\n{body}")
}

macro_rules! files {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("testdata/", $name, ".json")))),*] };
}

const FILES: &[(&str, &str)] = files! {
    "accept-by-id" "accept-follow" "accept-quote" "actor" "add-moderator" "add-pin" "add-tag" "announce"
    "announce-group" "announce-relay" "bare-note" "block" "block-ban" "collection" "create-article" "create-chat"
    "create-direct" "create-followers" "create-iri" "create-note" "create-page" "create-playlist" "create-poll"
    "create-reply" "create-unlisted" "create-video" "create-vote" "delete-actor" "delete-iri" "delete-note"
    "delete-typed" "delete-unknown" "dislike" "emoji-react" "expanded" "feature-request" "flag" "flag-posts" "follow"
    "follow-relay" "join" "like" "like-reaction" "like-request" "listen" "lock" "move" "quote-request" "reject-follow"
    "remove-pin" "type-array" "undo-announce" "undo-block" "undo-follow" "undo-iri" "undo-like" "undo-lock"
    "undo-reaction" "unknown-type" "untyped" "update-actor" "update-note" "update-poll" "view"
};

fn file(name: &str) -> &'static str {
    FILES.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no {name}.json")).1
}


#[test]
fn every_activity_type_has_its_sentence() {
    let bob = "gts.example/users/bob/inbox";
    // (activity, what it is said to mean when it comes to bob)
    let table: &[(&str, &str)] = &[
        ("follow", "alice@mastodon.example asks to follow bob@gts.example"),
        ("expanded", "alice@mastodon.example asks to follow bob@gts.example"),
        ("follow-relay", "mastodon.example subscribes to the relay gts.example"),
        ("accept-follow", "bob@gts.example accepts the follow by alice@mastodon.example"),
        ("accept-by-id", "bob@gts.example accepts mastodon.example/9a3c6a0e-6d1f-4a67-8f0f-1f5f0f4d1c5e"),
        ("accept-quote", "bob@gts.example lets alice@mastodon.example quote a post"),
        ("reject-follow", "bob@gts.example rejects the follow by alice@mastodon.example"),
        ("undo-follow", "alice@mastodon.example unfollows bob@gts.example"),
        ("create-note", "alice@mastodon.example posts a note to bob@gts.example"),
        ("create-unlisted", "alice@mastodon.example posts a note to bob@gts.example"),
        ("create-followers", "alice@mastodon.example posts a note for followers to bob@gts.example"),
        ("create-direct", "alice@mastodon.example sends a note directly to bob@gts.example"),
        ("create-reply", "alice@mastodon.example replies to a note by bob@gts.example"),
        ("create-poll", "alice@mastodon.example posts a poll to bob@gts.example"),
        ("create-vote", "alice@mastodon.example votes in a poll by bob@gts.example"),
        ("create-article", "blog.example/author/eve posts an article to bob@gts.example"),
        ("create-page", "lena@lemmy.example posts a page to bob@gts.example"),
        ("create-video", "tina@tube.example posts a video to bob@gts.example"),
        ("create-playlist", "tina@tube.example posts an object of type Playlist to bob@gts.example"),
        ("create-chat", "pia@pl.example sends a chat message to bob@gts.example"),
        (
            "create-iri",
            "alice@mastodon.example posts mastodon.example/users/alice/statuses/112233445566778899 to bob@gts.example",
        ),
        ("update-note", "alice@mastodon.example edits a note"),
        ("update-poll", "alice@mastodon.example updates a poll"),
        ("update-actor", "alice@mastodon.example updates their profile"),
        ("delete-note", "alice@mastodon.example deletes a note"),
        ("delete-iri", "bob@gts.example deletes a note"),
        ("delete-typed", "lena@lemmy.example deletes a page"),
        ("delete-actor", "alice@mastodon.example deletes their account"),
        ("delete-unknown", "zed@app.example deletes app.example/x/9"),
        ("like", "alice@mastodon.example likes a note by bob@gts.example"),
        ("type-array", "alice@mastodon.example likes a note by bob@gts.example"),
        ("emoji-react", "pia@pl.example reacts with 🔥 to a note by bob@gts.example"),
        ("dislike", "otto@lemmy2.example dislikes lemmy.example/post/77"),
        ("announce", "alice@mastodon.example boosts a note by bob@gts.example"),
        ("announce-group", "rust@lemmy.example passes on a Create by lena@lemmy.example"),
        (
            "announce-relay",
            "the relay relay.example passes on mastodon.example/users/alice/statuses/112233445566778899",
        ),
        ("undo-like", "alice@mastodon.example unlikes a note by bob@gts.example"),
        ("undo-announce", "alice@mastodon.example unboosts a note by bob@gts.example"),
        ("undo-block", "alice@mastodon.example unblocks bob@gts.example"),
        ("undo-reaction", "pia@pl.example takes back the reaction to a note by bob@gts.example"),
        ("undo-lock", "lena@lemmy.example unlocks lemmy.example/post/77"),
        ("undo-iri", "alice@mastodon.example takes back mastodon.example/unknown/1"),
        ("move", "alice@mastodon.example moves to alice@gts.example"),
        ("block", "alice@mastodon.example blocks bob@gts.example"),
        ("block-ban", "lena@lemmy.example bans otto@lemmy2.example from rust@lemmy.example"),
        ("flag", "mastodon.example reports bob@gts.example"),
        ("flag-posts", "mastodon.example reports a note by bob@gts.example"),
        ("add-pin", "alice@mastodon.example pins a note"),
        ("remove-pin", "alice@mastodon.example unpins a note"),
        ("add-tag", "alice@mastodon.example features a hashtag"),
        ("add-moderator", "lena@lemmy.example makes otto@lemmy2.example a moderator of rust@lemmy.example"),
        ("quote-request", "alice@mastodon.example asks to quote a note by bob@gts.example"),
        ("like-request", "alice@mastodon.example asks to like a note by bob@gts.example"),
        ("feature-request", "alice@mastodon.example asks to feature bob@gts.example in a collection"),
        ("lock", "lena@lemmy.example locks lemmy.example/post/77"),
        ("view", "tube.example counts a view of tube.example/videos/watch/5e2b7c0a-1b1a-4d4e-9d39-0d6c4d7b7a11"),
        ("join", "alice@mastodon.example asks to join mobilizon.example/events/7"),
        ("listen", "pia@pl.example sends an activity of type Listen to bob@gts.example"),
        ("unknown-type", "alice@mastodon.example sends an activity of type Wave to bob@gts.example"),
        ("bare-note", "10.42.0.10 delivers a bare object of type Note to bob@gts.example"),
        ("actor", "10.42.0.10 delivers a bare object of type Person to bob@gts.example"),
        ("collection", "10.42.0.10 delivers a collection of activities to bob@gts.example"),
        ("untyped", "10.42.0.10 delivers JSON without a type to bob@gts.example"),
    ];
    for (name, sentence) in table {
        let reading = read(&mut Reader::new(), &exchange(&delivery(bob, file(name)), "202 Accepted\n\n"));
        assert_eq!(reading.sentence.render(), *sentence, "{name}");
        assert_eq!(reading.kind, Kind::InboxDelivery, "{name}");
        assert!(reading.federation, "{name}");
    }
    let told: HashSet<&str> = table.iter().map(|(name, _)| *name).collect();
    let untold: Vec<&str> = FILES.iter().map(|(n, _)| *n).filter(|n| !told.contains(n) && *n != "like-reaction").collect();
    assert!(untold.is_empty(), "{untold:?}");
}

#[test]
fn japanese_sentences_are_whole_templates_of_their_own() {
    let japanese = |name: &str| {
        let told = read(&mut Reader::new(), &exchange(&delivery("gts.example/users/bob/inbox", file(name)), "202\n\n"));
        told.sentence.render_in(Language::Japanese)
    };
    assert_eq!(japanese("follow"), "alice@mastodon.example が bob@gts.example にフォローを申請");
    assert_eq!(japanese("accept-follow"), "bob@gts.example が alice@mastodon.example のフォローを承認");
    assert_eq!(japanese("announce"), "alice@mastodon.example が bob@gts.example の投稿をブースト");
}

#[test]
fn templates_are_unique_and_both_languages_have_the_same_slots() {
    let mut seen = HashSet::new();
    for (name, english, japanese) in TEMPLATES {
        assert!(seen.insert(*name), "{name} twice");
        assert_eq!(slots(english), slots(japanese), "{name}");
        assert!(!english.is_empty() && !japanese.is_empty(), "{name}");
    }
}

#[test]
fn an_activity_is_taken_apart() {
    let activity = |name: &str| {
        let delivery = delivery("gts.example/users/bob/inbox", file(name));
        read(&mut Reader::new(), &exchange(&delivery, "202\n\n")).activity.unwrap()
    };
    let create = activity("create-reply");
    assert_eq!(create.r#type.as_deref(), Some("Create"));
    assert_eq!(create.actor.as_deref(), Some("https://mastodon.example/users/alice"));
    assert_eq!(create.object.as_deref(), Some("https://mastodon.example/users/alice/statuses/112233445566778899"));
    assert_eq!(create.object_type.as_deref(), Some("Note"));
    assert_eq!(create.inner.as_deref(), Some("https://gts.example/users/bob/statuses/01HX2Y8W9Q4T6V7B3N5M1K2J3H"));
    assert_eq!(create.visibility, Some(Visibility::Public));
    assert_eq!(create.excerpt.as_deref(), Some("Good morning, fediverse & friends"));
    assert_eq!(create.to, vec!["https://www.w3.org/ns/activitystreams#Public".into()]);
    assert_eq!(create.cc.len(), 2);

    let accept = activity("accept-follow");
    assert_eq!(accept.object.as_deref(), Some("https://mastodon.example/9a3c6a0e-6d1f-4a67-8f0f-1f5f0f4d1c5e"));
    assert_eq!(accept.inner.as_deref(), Some("https://gts.example/users/bob"));
    assert_eq!(activity("move").target.as_deref(), Some("https://gts.example/users/alice"));
    // The first known type counts; an actor may be embedded, an object in an array.
    let like = activity("type-array");
    assert_eq!(like.r#type.as_deref(), Some("Like"));
    assert_eq!(like.actor.as_deref(), Some("https://mastodon.example/users/alice"));
    assert_eq!(like.object.as_deref(), Some("https://gts.example/users/bob/statuses/01HX2Y8W9Q4T6V7B3N5M1K2J3H"));
    // A title stands in where there is no text.
    assert_eq!(activity("create-page").excerpt.as_deref(), Some("A link worth reading"));
}

#[test]
fn what_is_not_for_the_public_has_no_excerpt() {
    let table = [
        ("create-note", Visibility::Public, true),
        ("create-unlisted", Visibility::Unlisted, true),
        ("create-followers", Visibility::Followers, false),
        ("create-direct", Visibility::Direct, false),
        ("create-vote", Visibility::Direct, false),
    ];
    for (name, visibility, shown) in table {
        let delivery = delivery("gts.example/users/bob/inbox", file(name));
        let activity = read(&mut Reader::new(), &exchange(&delivery, "202\n\n")).activity.unwrap();
        assert_eq!(activity.visibility, Some(visibility), "{name}");
        assert_eq!(activity.excerpt.is_some(), shown, "{name}");
    }
    let follow = delivery("gts.example/users/bob/inbox", file("follow"));
    assert_eq!(read(&mut Reader::new(), &exchange(&follow, "202\n\n")).activity.unwrap().visibility, None);
}

#[test]
fn excerpts_are_text_without_markup() {
    let table = [
        ("<p>one</p><p>two</p>", "one two"),
        ("one<br>two<br/>three", "one two three"),
        ("a<span class=\"x\">b</span>c", "abc"),
        ("1 &lt; 2 &amp;&amp; 3 &gt; 2 &#39;x&#x27; &quot;", "1 < 2 && 3 > 2 'x' \""),
        ("&unknown; & &#xfffffff; &", "&unknown; & &#xfffffff; &"),
        ("a < b <3 <", "a < b <3 <"),
        ("open <a href=", "open"),
        ("<script>x</script>", "x"),
        ("\u{1b}[31mred\u{202e}\u{7}", "[31mred"),
        ("  \n spaced \t out  ", "spaced out"),
        ("", ""),
    ];
    for (html, text) in table {
        assert_eq!(activity::plain(html), text, "{html}");
    }
    let long = activity::plain(&"wörd ".repeat(1000));
    assert!(long.chars().count() <= 202 && long.ends_with('…'));
}

/// Words go over as a whole as long as they fit; where they do not, it is cut within the word.
#[test]
fn excerpts_are_cut_at_the_same_place_whatever_the_words_are() {
    for length in [1, 2, 7, 199, 200, 201, 500] {
        let text = format!("{} ", "x".repeat(length)).repeat(400);
        let excerpt = activity::plain(&text);
        let whole: String = text.chars().take(202).collect();
        let shown = excerpt.strip_suffix('…').expect("it was cut");
        assert!(whole.starts_with(shown), "{length}: {excerpt}");
        assert!((199..=201).contains(&shown.chars().count()), "{length}: {excerpt}");
    }
    assert_eq!(activity::plain(&"x".repeat(200)), "x".repeat(200));
    assert_eq!(activity::plain(&"x".repeat(201)), format!("{}…", "x".repeat(200)));
}

#[test]
fn a_url_has_a_host_whatever_stands_around_it() {
    let table = [
        ("https://a.test/users/b?q=1#k", Some(("https", "a.test", "/users/b?q=1", Some("k")))),
        ("HTTPS://A.test", Some(("HTTPS", "A.test", "", None))),
        ("http://a.test:80/x", Some(("http", "a.test", "/x", None))),
        ("https://a.test:443", Some(("https", "a.test", "", None))),
        ("https://a.test:8443/x", Some(("https", "a.test:8443", "/x", None))),
        ("https://user:pass@a.test/x", Some(("https", "a.test", "/x", None))),
        ("https://us er@a.test?x", Some(("https", "a.test", "?x", None))),
        ("https://a.test#f", Some(("https", "a.test", "", Some("f")))),
        ("https://\u{e9}.test/", Some(("https", "\u{e9}.test", "/", None))),
        ("https://[::1]:3000/x", Some(("https", "[::1]:3000", "/x", None))),
        ("https://a b.test/x", None),
        ("https://a\u{7f}.test/x", None),
        ("https:///x", None),
        ("https://", None),
        ("acct:a@b.test", None),
        ("ftp://a.test/x", None),
        ("https:/a.test", None),
    ];
    for (text, expected) in table {
        let url = learn::Url::parse(text);
        assert_eq!(url.map(|u| (u.scheme, u.host, u.path_and_query, u.fragment)), expected, "{text}");
    }
    let long = |n: usize| format!("https://{}/x", "a".repeat(n));
    assert!(learn::Url::parse(&long(253)).is_some() && learn::Url::parse(&long(254)).is_none());
}

#[test]
fn a_date_is_an_imf_fixdate_or_none() {
    let table = [
        (DATE, Some(NOW as i64)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("Sat, 29 Feb 2020 23:59:60 GMT", Some(1_583_020_799)),
        ("Sun, 29 Feb 2021 00:00:00 GMT", None),
        ("Mon, 23 Nov 2026 07:26:40 UTC", None),
        ("Mon, 23 nov 2026 07:26:40 GMT", None),
        ("Mon, 23 Nov 2026 7:26:40 GMT", None),
        ("Mon, 23 Nov 2026 24:26:40 GMT", None),
        ("Mon, 2x Nov 2026 07:26:40 GMT", None),
        ("Monday, 23-Nov-26 07:26:40 GMT", None),
        ("", None),
    ];
    for (text, expected) in table {
        assert_eq!(lints::http_date(text), expected, "{text}");
    }
}

/// Sentences of the viewer's pictures 01, 02 and 04 (host names in full), one after another as in the capture.
#[test]
fn first_contact_reads_as_in_the_pictures() {
    let mut reader = Reader::new();
    let gts = |host: &str, ip: &str| {
        format!("Accept: {AS_TYPE}\nUser-Agent: gotosocial/0.20.0 (+https://{host})\nX-Forwarded-For: {ip}\nDate: {DATE}")
    };
    let (g1, g2) = (gts("gts1.test", "10.42.0.21"), gts("gts2.test", "10.42.0.22"));
    let alice = r#"{"@context":"https://www.w3.org/ns/activitystreams","id":"https://gts1.test/users/alice","type":"Person",
        "preferredUsername":"alice","inbox":"https://gts1.test/users/alice/inbox","outbox":"https://gts1.test/users/alice/outbox",
        "featured":"https://gts1.test/users/alice/collections/featured","followers":"https://gts1.test/users/alice/followers",
        "following":"https://gts1.test/users/alice/following",
        "publicKey":{"id":"https://gts1.test/users/alice/main-key","owner":"https://gts1.test/users/alice","publicKeyPem":"x"}}"#;
    let stub = r#"{"id":"https://gts1.test/users/alice","type":"Person","preferredUsername":"alice",
        "publicKey":{"id":"https://gts1.test/users/alice/main-key","owner":"https://gts1.test/users/alice","publicKeyPem":"x"}}"#;
    let ok = |kind: &str, body: &str| format!("200 OK\nContent-Type: {kind}\n\n{body}");
    let collection = ok(AS_TYPE, r#"{"id":"https://gts1.test/c","type":"OrderedCollection","totalItems":0}"#);
    let page = ok(AS_TYPE, r#"{"id":"https://gts1.test/c","type":"OrderedCollectionPage"}"#);
    let get = |host: &str, target: &str, head: &str| format!("GET {target} HTTP/1.1\nHost: {host}\n{head}\n\n");
    let table: Vec<(String, String, &str, Kind)> = vec![
        (
            get("gts2.test", "/.well-known/webfinger?resource=acct%3Abob%40gts2.test", &g1),
            ok("application/jrd+json", "{}"),
            "gts1.test asks gts2.test who bob@gts2.test is",
            Kind::WebFinger,
        ),
        (
            get("gts1.test", "/users/alice/main-key", &g2),
            ok(AS_TYPE, stub),
            "gts2.test fetches the key of alice@gts1.test",
            Kind::Key,
        ),
        (
            get("gts1.test", "/robots.txt", &g2),
            ok("text/plain", "User-agent: *"),
            "gts2.test reads robots.txt of gts1.test",
            Kind::Robots,
        ),
        (
            get("gts1.test", "/.well-known/nodeinfo", &g2),
            ok(
                "application/json",
                r#"{"links":[{"rel":"http://nodeinfo.diaspora.software/ns/schema/2.0","href":"https://gts1.test/about/node"}]}"#,
            ),
            "gts2.test looks for the NodeInfo of gts1.test",
            Kind::NodeInfoDiscovery,
        ),
        (
            get("gts1.test", "/about/node", &g2),
            ok("application/json", r#"{"version":"2.0","software":{"name":"gotosocial","version":"0.20.0"},"protocols":[]}"#),
            "gts2.test reads the NodeInfo of gts1.test",
            Kind::NodeInfo,
        ),
        (get("gts1.test", "/users/alice", &g2), ok(AS_TYPE, alice), "gts2.test fetches the actor alice@gts1.test", Kind::Actor),
        (
            get("gts1.test", "/users/alice/collections/featured", &g2),
            collection.clone(),
            "gts2.test reads the pinned notes of alice@gts1.test",
            Kind::Collection,
        ),
        (
            get("gts1.test", "/users/alice/followers", &g2),
            collection.clone(),
            "gts2.test reads the followers of alice@gts1.test",
            Kind::Collection,
        ),
        (
            get("gts1.test", "/users/alice/following", &g2),
            collection,
            "gts2.test reads the follows of alice@gts1.test",
            Kind::Collection,
        ),
        (
            get("gts1.test", "/users/alice/outbox?page=true", &g2),
            page.clone(),
            "gts2.test reads a page of the outbox of alice@gts1.test",
            Kind::Collection,
        ),
        (
            get("gts1.test", "/users/alice/statuses/01HX/replies?page=true", &g2),
            page,
            "gts2.test reads a page of the replies to a note by alice@gts1.test",
            Kind::Collection,
        ),
        (
            get("gts1.test", "/media/avatar.png", &g2),
            ok("image/png", "x"),
            "gts2.test fetches a picture from gts1.test",
            Kind::Media,
        ),
        (
            get("gts1.test", "/users/nobody", &g2),
            "404 Not Found\nContent-Type: text/plain\n\nNot found".to_owned(),
            "gts2.test fetches the actor nobody@gts1.test, but it is not found (404)",
            Kind::Actor,
        ),
        (
            get("gts1.test", "/api/v1/instance", &g2),
            ok("application/json", "{}"),
            "gts2.test reads the description of gts1.test",
            Kind::InstanceApi,
        ),
    ];
    for (request, response, sentence, kind) in table {
        let reading = read(&mut reader, &exchange(&request, &response));
        assert_eq!(reading.sentence.render(), sentence);
        assert_eq!(reading.kind, kind, "{sentence}");
        assert!(reading.federation, "{sentence}");
    }
    // What NodeInfo and User-Agents said is known of the host from now on.
    assert_eq!(reader.learnt.software_of("GTS1.test").as_deref(), Some("GoToSocial 0.20.0"));
}

#[test]
fn names_come_from_documents_before_paths() {
    let mut reader = Reader::new();
    let actor = r#"{"id":"https://m.test/ap/users/116","type":"Person","preferredUsername":"nina",
        "inbox":"https://m.test/ap/users/116/inbox","outbox":"https://m.test/ap/users/116/outbox"}"#;
    let follow = r#"{"type":"Follow","id":"https://m.test/1","actor":"https://m.test/ap/users/116","object":"https://g.test/users/bob"}"#;
    let post = delivery("g.test/users/bob/inbox", follow);
    let sentence = read(&mut reader, &exchange(&post, "202\n\n")).sentence.render();
    assert_eq!(sentence, "m.test/ap/users/116 asks to follow bob@g.test", "a number is no name");
    let get = format!("GET /ap/users/116 HTTP/1.1\nHost: m.test\nAccept: {AS_TYPE}\n\n");
    read(&mut reader, &exchange(&get, &format!("200\nContent-Type: {AS_TYPE}\n\n{actor}")));
    let sentence = read(&mut reader, &exchange(&post, "202\n\n")).sentence.render();
    assert_eq!(sentence, "nina@m.test asks to follow bob@g.test");
    let to_inbox = delivery("m.test/ap/users/116/inbox", file("like"));
    let like = read(&mut reader, &exchange(&to_inbox, "202\n\n"));
    assert_eq!(like.kind, Kind::InboxDelivery);
    // Misskey's paths hold ids, not names.
    let reaction = delivery("gts.example/users/bob/inbox", file("like-reaction"))
        .replace("User-Agent: test/1", "User-Agent: Misskey/2025.4.1 (https://note.example)");
    let sentence = read(&mut reader, &exchange(&reaction, "202\n\n")).sentence.render();
    assert_eq!(sentence, "note.example/users/9abcdefghi reacts with :blobcat: to a note by bob@gts.example");
}

#[test]
fn nothing_is_learnt_about_a_host_from_another() {
    let mut reader = Reader::new();
    let lie = r#"{"id":"https://victim.test/users/1","type":"Person","preferredUsername":"mallory",
        "inbox":"https://victim.test/users/1/inbox","outbox":"https://victim.test/users/1/outbox"}"#;
    let get = format!("GET /users/1 HTTP/1.1\nHost: evil.test\nAccept: {AS_TYPE}\n\n");
    read(&mut reader, &exchange(&get, &format!("200\nContent-Type: {AS_TYPE}\n\n{lie}")));
    assert_eq!(reader.learnt.names.len(), 0);
    assert_eq!(reader.learnt.places.len(), 0);
}

#[test]
fn an_accept_that_only_names_the_follow_is_understood_after_it() {
    let mut reader = Reader::new();
    let signed = |inbox: &str, body: &str, host: &str| {
        delivery(inbox, body).replace(
            "User-Agent: test/1",
            &format!("User-Agent: test/1\nSignature: keyId=\"https://{host}/users/alice#main-key\",signature=\"eA==\""),
        )
    };
    let follow = signed("gts.example/users/bob/inbox", file("follow"), "mastodon.example");
    read(&mut reader, &exchange(&follow, "202\n\n"));
    let accept = signed("mastodon.example/users/alice/inbox", file("accept-by-id"), "gts.example");
    let sentence = read(&mut reader, &exchange(&accept, "202\n\n")).sentence.render();
    assert_eq!(sentence, "bob@gts.example accepts the follow by alice@mastodon.example");
}

#[test]
fn a_synchronization_is_known_by_the_header_that_named_it() {
    let mut reader = Reader::new();
    let key = "Signature: keyId=\"https://mastodon.example/users/alice#main-key\",signature=\"eA==\"";
    let sync = "Collection-Synchronization: collectionId=\"https://mastodon.example/users/alice/followers\", \
                url=\"https://mastodon.example/sync/1\", digest=\"b08a\"";
    let post = delivery("gts.example/users/bob/inbox", file("create-note"))
        .replace("User-Agent: test/1", &format!("User-Agent: test/1\n{key}\n{sync}"));
    read(&mut reader, &exchange(&post, "202\n\n"));
    let get = format!("GET /sync/1 HTTP/1.1\nHost: mastodon.example\nX-Real-Ip: 10.0.0.1\nAccept: {AS_TYPE}\n\n");
    let reading = read(&mut reader, &exchange(&get, "200\n\n"));
    assert_eq!(reading.kind, Kind::FollowersSynchronization);
    assert_eq!(
        reading.sentence.render(),
        "10.0.0.1 compares which of its accounts follow alice@mastodon.example"
    );
}

#[test]
fn a_shared_inbox_names_the_one_who_is_addressed() {
    let said = |inbox: &str, name: &str| said(&delivery(inbox, file(name)), "202\n\n");
    assert_eq!(
        said("gts.example/inbox", "create-direct"),
        "alice@mastodon.example sends a note directly to bob@gts.example"
    );
    assert_eq!(said("other.example/inbox", "create-note"), "alice@mastodon.example posts a note to other.example");
}

#[test]
fn kinds_follow_the_decision_procedure() {
    let asks = format!("Accept: {AS_TYPE}");
    let browser = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0\nAccept: text/html,*/*\n\
                   Sec-Fetch-Dest: document\nSec-Fetch-Site: none";
    let app = "User-Agent: Tusky/25.2 Android/14\nAuthorization: Bearer x\nAccept: */*";
    let server = "User-Agent: Mastodon/4.5.0 (http.rb/5.2.0; +https://m.test/)";
    let runtime = "User-Agent: Fedify/2.3.6 (Node.js/24.21.0)\nSec-Fetch-Mode: cors\nAccept-Language: *";
    let html = "200\nContent-Type: text/html; charset=utf-8\n\n<html>";
    let json = "200\nContent-Type: application/json\n\n{}";
    // (request line, headers, answer, kind, whether the federation view shows it)
    let table: Vec<(&str, &str, &str, Kind, bool)> = vec![
        ("GET /.well-known/webfinger?resource=acct:a@b", server, json, Kind::WebFinger, true),
        ("GET /.well-known/webfinger?resource=acct:a@b", runtime, json, Kind::WebFinger, true),
        ("GET /.well-known/webfinger?resource=acct:a@b", browser, json, Kind::WebFinger, false),
        ("GET /.well-known/host-meta", server, "404\n\n", Kind::HostMeta, true),
        ("GET /.well-known/nodeinfo", server, json, Kind::NodeInfoDiscovery, true),
        ("GET /nodeinfo/2.0", server, json, Kind::NodeInfo, true),
        ("GET /nodeinfo/2.1.json", server, json, Kind::NodeInfo, true),
        ("GET /api/nodeinfo/2.0.json", server, json, Kind::NodeInfo, true),
        ("GET /nodeinfo/3.0", server, "404\n\n", Kind::Other, true),
        ("GET /.well-known/oauth-authorization-server", app, json, Kind::WellKnown, false),
        ("GET /robots.txt", server, "200\n\n", Kind::Robots, true),
        ("POST /inbox", "Content-Type: application/activity+json", "202\n\n", Kind::InboxDelivery, true),
        ("POST /f/inbox", "Content-Type: application/ld+json", "200\n\n", Kind::InboxDelivery, true),
        ("POST /users/a/inbox", "Content-Type: application/json", "406\n\n", Kind::InboxDelivery, true),
        ("POST /inbox", "Content-Type: application/x-www-form-urlencoded", "404\n\n", Kind::Other, true),
        ("POST /users/a/outbox", app, "201\n\n", Kind::OutboxPost, false),
        ("GET /users/a/followers_synchronization", &asks, json, Kind::FollowersSynchronization, true),
        ("GET /users/a/followers", &asks, "401\n\n", Kind::Collection, true),
        ("GET /users/a/followers?page=1", &asks, "401\n\n", Kind::Collection, true),
        ("GET /users/a", &asks, "401\n\n", Kind::Actor, true),
        ("GET /actor", &asks, "401\n\n", Kind::Actor, true),
        ("GET /users/a/main-key", &asks, "401\n\n", Kind::Key, true),
        ("GET /users/a/publickey", &asks, "404\n\n", Kind::Key, true),
        ("GET /notes/9abc", &asks, "404\n\n", Kind::Object, true),
        ("GET /users/a", browser, html, Kind::Page, false),
        ("GET /@a", browser, html, Kind::Page, false),
        ("GET /@a/112233", server, html, Kind::Page, true),
        ("GET /@a/112233", "User-Agent: Mastodon/4.5.0 (http.rb/5.2.0; +https://m.test/) Bot\nAccept: text/html", html, Kind::LinkPreview, true),
        ("GET /ns/context", "Accept: application/ld+json", "404\n\n", Kind::Context, true),
        ("GET /api/oembed?url=x", server, json, Kind::OEmbed, true),
        ("GET /system/media/1.png", server, "200\nContent-Type: image/png\n\nx", Kind::Media, true),
        ("GET /system/media/1.png", browser, "200\nContent-Type: image/png\n\nx", Kind::Asset, false),
        ("GET /api/v1/instance", server, json, Kind::InstanceApi, true),
        ("GET /api/v1/instance", app, json, Kind::ClientApi, false),
        ("GET /api/v1/timelines/home", app, json, Kind::ClientApi, false),
        ("POST /api/notes/create", "Content-Type: application/json", json, Kind::ClientApi, false),
        ("POST /oauth/token", "Content-Type: application/json", json, Kind::ClientApi, false),
        ("GET /api/v1/streaming?stream=user", "Connection: Upgrade\nUpgrade: websocket", "101\n\n", Kind::Streaming, false),
        ("GET /streaming?i=x", "Connection: Upgrade\nUpgrade: websocket", "101\n\n", Kind::Streaming, false),
        ("GET /api/v1/streaming/user", "Accept: text/event-stream", "200\nContent-Type: text/event-stream\n\n", Kind::Streaming, false),
        ("GET /api/v1/streaming/health", "User-Agent: x", "200\n\nOK", Kind::Probe, false),
        ("GET /health", "User-Agent: kube-probe/1.30", "200\n\nOK", Kind::Probe, false),
        ("GET /", "User-Agent: kube-probe/1.30", html, Kind::Probe, false),
        ("GET /metrics", "User-Agent: Prometheus/2.54.0", "200\n\n", Kind::Probe, false),
        ("GET /packs/application.js", browser, "200\nContent-Type: text/javascript\n\n", Kind::Asset, false),
        ("GET /settings/profile", browser, html, Kind::Page, false),
        ("GET /anything", "Referer: https://m.test/", "200\n\n", Kind::Page, false),
        ("GET /odd/gzip", "User-Agent: curl/8.5.0\nAccept: */*", "200\n\nx", Kind::Other, true),
    ];
    for (line, headers, answer, kind, federation) in table {
        let request = format!("{line} HTTP/1.1\nHost: h.test\n{headers}\n\n");
        let reading = read(&mut Reader::new(), &exchange(&request, answer));
        assert_eq!(reading.kind, kind, "{line} {headers}");
        assert_eq!(reading.federation, federation, "{line} {headers}");
    }
}

#[test]
fn answers_decide_before_paths() {
    let kind = |path: &str, body: &str| {
        let request = format!("GET {path} HTTP/1.1\nHost: h.test\nAccept: {AS_TYPE}\n\n");
        let response = format!("200\nContent-Type: application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"\n\n{body}");
        read(&mut Reader::new(), &exchange(&request, &response)).kind
    };
    assert_eq!(kind("/x", r#"{"type":"Group","inbox":"https://h.test/i","outbox":"https://h.test/o"}"#), Kind::Actor);
    assert_eq!(kind("/", r#"{"type":"Application","inbox":"https://h.test/i","preferredUsername":"x"}"#), Kind::Actor);
    assert_eq!(kind("/users/a", r#"{"type":"Note","id":"https://h.test/users/a"}"#), Kind::Object);
    assert_eq!(kind("/k", r#"{"type":"Key","id":"https://h.test/k","publicKeyPem":"x"}"#), Kind::Key);
    assert_eq!(kind("/x", r#"{"type":"OrderedCollectionPage","partOf":"https://h.test/y"}"#), Kind::Collection);
    assert_eq!(kind("/ctx", r#"{"@context":{"a":"b"}}"#), Kind::Context);
}

#[test]
fn failed_fetches_say_how() {
    let outcome = |status: &str| {
        said(&format!("GET /users/bob HTTP/1.1\nHost: h.test\nAccept: {AS_TYPE}\nX-Forwarded-For: 10.0.0.9\n\n"), status)
    };
    let asked = "10.0.0.9 fetches the actor bob@h.test";
    assert_eq!(outcome("401\n\n"), format!("{asked}, but is refused (401)"));
    assert_eq!(outcome("404\n\n"), format!("{asked}, but it is not found (404)"));
    assert_eq!(outcome("410\n\n"), format!("{asked}, but it is gone (410)"));
    assert_eq!(outcome("429\n\n"), format!("{asked}, but is told to slow down (429)"));
    assert_eq!(outcome("406\n\n"), format!("{asked}, but the request is rejected (406)"));
    assert_eq!(outcome("502\n\n"), format!("{asked}, but the server fails (502)"));
    assert_eq!(outcome("301\n\n"), format!("{asked}, and is sent elsewhere (301)"));
    assert_eq!(outcome("304\n\n"), asked);
    assert_eq!(outcome(""), format!("{asked}; the answer was not seen"));
    let mut unanswered = exchange(&format!("GET /users/bob HTTP/1.1\nHost: h.test\nAccept: {AS_TYPE}\n\n"), "");
    unanswered.anomalies.push(crate::http::Anomaly { kind: crate::http::AnomalyKind::NoResponse, detail: "".into() });
    let reading = read(&mut Reader::new(), &unanswered);
    assert_eq!(reading.sentence.render(), "10.42.0.10 fetches the actor bob@h.test, but no answer comes");
    assert_eq!(reading.reason.as_deref(), Some("no answer"));
}

#[test]
fn what_was_not_seen_is_not_said() {
    let mut reader = Reader::new();
    let lone = read(&mut reader, &exchange("", "200 OK\n\n"));
    assert_eq!(lone.kind, Kind::Unknown);
    assert_eq!(lone.sentence.render(), "10.42.0.22:8080 answers 200; the request was not seen");
    assert_eq!(lone.origin, None);
    assert!(lone.federation);

    let actor = format!("200\nContent-Type: {AS_TYPE}\n\n{}", file("actor"));
    let lone = read(&mut reader, &exchange("", &actor));
    assert_eq!(
        lone.sentence.render(),
        "10.42.0.22:8080 answers with the actor alice@mastodon.example; the request was not seen"
    );

    let mut cut = exchange(&delivery("g.test/users/bob/inbox", file("follow")), "202\n\n");
    let body = &mut cut.request.as_mut().unwrap().message.body;
    body.complete = false;
    body.sha256 = None;
    body.coded_sha256 = None;
    body.bytes.truncate(20);
    let reading = read(&mut reader, &cut);
    assert_eq!(
        reading.sentence.render(),
        "10.42.0.10 delivers an activity to bob@g.test; its body was not wholly seen"
    );
    assert_eq!(reading.activity, None);

    // A lost HPACK table: neither method nor target nor headers, but the body.
    let mut blind = exchange(&delivery("g.test/users/bob/inbox", file("follow")), "202\n\n");
    let request = blind.request.as_mut().unwrap();
    (request.method, request.target, request.host) = (None, None, None);
    request.message.headers = Headers::default();
    request.message.headers.push(None, None);
    let reading = read(&mut Reader::new(), &blind);
    assert_eq!(reading.kind, Kind::InboxDelivery);
    assert_eq!(reading.sentence.render(), "alice@mastodon.example asks to follow bob@gts.example");
    assert_eq!(reading.signature.verdict, SignatureVerdict::NotCheckable, "absence is not known");
    assert_eq!(reading.digest, Digest::NotCheckable);
    let absences = ["unsigned-inbox-post", "digest-missing", "missing-user-agent", "inbox-content-type"];
    assert!(reading.lints.iter().all(|lint| !absences.contains(&&*lint.id)), "{:?}", reading.lints);
}

#[test]
fn user_agents_tell_software_and_host() {
    // (User-Agent, software, host, known server)
    let table: &[(&str, &str, Option<&str>, bool)] = &[
        ("Mastodon/4.5.3 (http.rb/5.2.0; +https://m.test/)", "Mastodon 4.5.3", Some("m.test"), true),
        ("Mastodon/4.5.3 (http.rb/5.2.0; +https://m.test/) Bot", "Mastodon 4.5.3", Some("m.test"), true),
        ("http.rb/5.1.1 (Mastodon/4.2.9+glitch; +https://m.test/)", "Mastodon 4.2.9+glitch", Some("m.test"), true),
        ("gotosocial/0.20.0 (+https://g.test)", "GoToSocial 0.20.0", Some("g.test"), true),
        ("Misskey/2025.4.1 (https://mi.test)", "Misskey 2025.4.1", Some("mi.test"), true),
        ("Sharkey/2025.2.0 (https://sk.test)", "Sharkey 2025.2.0", Some("sk.test"), true),
        ("Akkoma 3.13.2; https://a.test <admin@a.test>", "Akkoma 3.13.2", Some("a.test"), true),
        ("Pleroma 2.7.0-12-gabc; https://p.test <x@p.test>", "Pleroma 2.7.0-12-gabc", Some("p.test"), true),
        ("Lemmy/0.19.5; +https://l.test", "Lemmy 0.19.5", Some("l.test"), true),
        ("PeerTube/7.0.0 (+https://t.test)", "PeerTube 7.0.0", Some("t.test"), true),
        ("(Pixelfed/0.11.13; +https://px.test)", "Pixelfed 0.11.13", Some("px.test"), true),
        ("PixelFedBot/1.0.0 (Pixelfed/0.11.13; +https://px.test)", "Pixelfed 0.11.13", Some("px.test"), true),
        ("PixelfedBot v0.1 - https://pixelfed.org", "Pixelfed", Some("pixelfed.org"), true),
        ("Fedify/2.3.6 (Node.js/24.21.0)", "Fedify 2.3.6", None, true),
        ("Fedify/2.3.6 (Deno/2.1; +https://f.test/)", "Fedify 2.3.6", Some("f.test"), true),
        ("Hollo/0.6.0 (Fedify/1.8.1; Node.js/22; +https://h.test/)", "Hollo 0.6.0 (Fedify 1.8.1)", Some("h.test"), true),
        ("MyApp/1.0 (Fedify/1.8.1)", "MyApp 1.0 (Fedify 1.8.1)", None, true),
        ("activitypub.bot/0.51.2 (https://github.com/evanp/activitypub-bot)", "activitypub.bot 0.51.2", None, true),
        ("Friendica 'Yellow Archangel' 2024.08; https://fr.test", "Friendica", Some("fr.test"), true),
        ("WordPress/6.6; https://wp.test", "WordPress 6.6", Some("wp.test"), true),
        ("node", "node", None, false),
        ("python-requests/2.34.2", "python-requests 2.34.2", None, false),
        ("LabClient/1.0", "LabClient 1.0", None, false),
        ("Mozilla/5.0 (X11; Linux) Gecko/20100101 Firefox/130.0", "Firefox 130", None, false),
        ("Mozilla/5.0 (Macintosh) AppleWebKit/605.1 (KHTML, like Gecko) Version/17.5 Safari/605.1", "Safari 17", None, false),
        ("Mozilla/5.0 (Windows) AppleWebKit/537.36 Chrome/128.0.0.0 Safari/537.36 Edg/128.0", "Edge 128", None, false),
    ];
    for (text, software, host, known) in table {
        let agent = origin::agent(text);
        assert_eq!(agent.software.as_deref(), Some(*software), "{text}");
        assert_eq!(agent.host.as_deref(), *host, "{text}");
        assert_eq!(agent.known, *known, "{text}");
    }
    for name in ["mastodon", "takahē", "snac", "activity-relay", "wordpress", "iceshrimp.net"] {
        assert!(origin::proper_name(name).is_some(), "{name}: the table must be sorted");
    }
}

#[test]
fn the_origin_is_the_first_hop_that_is_no_proxy() {
    // (headers, address, source)
    let table = [
        ("", "10.42.0.10", OriginSource::Peer),
        ("X-Forwarded-For: 10.42.0.21", "10.42.0.21", OriginSource::ForwardedFor),
        // The sender wrote the first, our proxy the second.
        ("X-Forwarded-For: 1.2.3.4, 10.42.0.21", "10.42.0.21", OriginSource::ForwardedFor),
        ("X-Forwarded-For: 1.2.3.4\nX-Forwarded-For: 10.42.0.21", "10.42.0.21", OriginSource::ForwardedFor),
        // The last hop is the peer itself: a chain of proxies.
        ("X-Forwarded-For: 10.42.0.21, 10.42.0.10", "10.42.0.21", OriginSource::ForwardedFor),
        ("X-Forwarded-For: [2001:db8::1]:443", "2001:db8::1", OriginSource::ForwardedFor),
        ("X-Forwarded-For: 10.42.0.21:5000", "10.42.0.21", OriginSource::ForwardedFor),
        ("Forwarded: for=1.2.3.4, for=\"[2001:db8::2]:80\";proto=https", "2001:db8::2", OriginSource::ForwardedFor),
        ("X-Real-Ip: 10.42.0.23", "10.42.0.23", OriginSource::ForwardedFor),
    ];
    for (headers, address, source) in table {
        let separator = if headers.is_empty() { "" } else { "\n" };
        let request = format!("GET / HTTP/1.1\nHost: h.test{separator}{headers}\n\n");
        let origin = read(&mut Reader::new(), &exchange(&request, "200\n\n")).origin.unwrap();
        assert_eq!(origin.address.as_deref(), Some(address), "{headers}");
        assert_eq!(origin.address_from, Some(source), "{headers}");
    }
    let garbage = "GET / HTTP/1.1\nHost: h.test\nX-Forwarded-For: unknown\n\n";
    assert_eq!(read(&mut Reader::new(), &exchange(garbage, "200\n\n")).origin.unwrap().address, None);
}

#[test]
fn the_sending_host_is_known_by_key_then_agent_then_memory() {
    let mut reader = Reader::new();
    let host = |reader: &mut Reader, headers: &str, ip: &str| {
        let request = format!("GET /users/x HTTP/1.1\nHost: h.test\nX-Forwarded-For: {ip}\n{headers}\n\n");
        let origin = read(reader, &exchange(&request, "200\n\n")).origin.unwrap();
        (origin.host.map(String::from), origin.host_from, origin.software.map(String::from), origin.software_from)
    };
    let fedify = "User-Agent: Fedify/2.3.6 (Node.js/24.21.0)";
    let (none, _, software, _) = host(&mut reader, fedify, "10.0.0.1");
    assert_eq!((none, software.as_deref()), (None, Some("Fedify 2.3.6")));
    let keyed = format!("{fedify}\nSignature: keyId=\"https://F1.test/users/a#main-key\",signature=\"eA==\"");
    let (key, from, ..) = host(&mut reader, &keyed, "10.0.0.1");
    assert_eq!((key.as_deref(), from), (Some("f1.test"), Some(OriginSource::KeyId)));
    let (learnt, from, ..) = host(&mut reader, fedify, "10.0.0.1");
    assert_eq!((learnt.as_deref(), from), (Some("f1.test"), Some(OriginSource::Learnt)));
    // Deliveries of Fedify carry the runtime's User-Agent; what the host runs is known from before.
    let bare = "User-Agent: node\nSignature: keyId=\"https://f1.test/users/a#main-key\",signature=\"eA==\"";
    let (_, _, software, from) = host(&mut reader, bare, "10.0.0.1");
    assert_eq!((software.as_deref(), from), (Some("Fedify 2.3.6"), Some(OriginSource::Learnt)));
    let agent = "User-Agent: gotosocial/0.20.0 (+https://g1.test)";
    let (by_agent, from, ..) = host(&mut reader, agent, "10.0.0.2");
    assert_eq!((by_agent.as_deref(), from), (Some("g1.test"), Some(OriginSource::UserAgent)));
    // A claim that was refused is not believed.
    let false_claim = "GET /users/x HTTP/1.1\nHost: h.test\nX-Forwarded-For: 10.0.0.1\nSignature: keyId=\"https://x.test/k\",signature=\"eA==\"\n\n";
    let refused = read(&mut reader, &exchange(false_claim, "401\n\n")).origin.unwrap();
    assert_eq!((refused.host.as_deref(), refused.host_from), (Some("f1.test"), Some(OriginSource::Learnt)));
    assert_eq!(host(&mut reader, fedify, "10.0.0.1").0.as_deref(), Some("f1.test"));
    // Two hosts behind one address: it tells nothing any more.
    host(&mut reader, "User-Agent: gotosocial/0.20.0 (+https://g2.test)", "10.0.0.2");
    assert_eq!(host(&mut reader, "Accept: */*", "10.0.0.2").0, None);
    // An app's User-Agent names its maker, not a server.
    let app = "User-Agent: Tusky/25 (+https://tusky.app)\nAuthorization: Bearer x";
    assert_eq!(host(&mut reader, app, "10.0.0.3").0, None);
}

#[test]
fn signatures_are_read_as_written() {
    let signature = |headers: &str| {
        let request = format!("POST /inbox HTTP/1.1\nHost: h.test\nDate: {DATE}\nDigest: x\n{headers}\n\n");
        read(&mut Reader::new(), &exchange(&request, "202\n\n")).signature
    };
    let cavage = signature(
        "Signature: keyId=\"https://m.test/users/a#main-key\",algorithm=\"rsa-sha256\",headers=\"(request-target) Host date digest\",signature=\"eA==\"",
    );
    assert_eq!(cavage.scheme, Some(Scheme::Cavage));
    assert_eq!(cavage.key_id.as_deref(), Some("https://m.test/users/a#main-key"));
    assert_eq!(cavage.algorithm.as_deref(), Some("rsa-sha256"));
    assert_eq!(cavage.covered, ["(request-target)", "host", "date", "digest"].map(Box::from));
    assert_eq!(cavage.verdict, SignatureVerdict::NotCheckable);

    let carried = signature("Authorization: Signature keyId=\"https://m.test/k\",algorithm=\"hs2019\",signature=\"eA==\",created=1795418800");
    assert_eq!((carried.scheme, carried.key_id.as_deref()), (Some(Scheme::Cavage), Some("https://m.test/k")));
    assert_eq!(carried.covered, ["(created)"].map(Box::from), "the default of draft-cavage-12");

    let rfc = signature(
        "Signature-Input: sig1=(\"@method\" \"@target-uri\" \"content-digest\" \"@query-param\";name=\"x\");created=1795418800;keyid=\"https://f.test/users/a#main-key\";alg=\"rsa-v1_5-sha256\"\nSignature: sig1=:eA==:",
    );
    assert_eq!(rfc.scheme, Some(Scheme::Rfc9421));
    assert_eq!(rfc.key_id.as_deref(), Some("https://f.test/users/a#main-key"));
    assert_eq!(rfc.algorithm.as_deref(), Some("rsa-v1_5-sha256"));
    assert_eq!(
        rfc.covered,
        ["@method", "@target-uri", "content-digest", "@query-param;name=\"x\""].map(Box::from)
    );

    assert_eq!(signature("Authorization: Bearer x").verdict, SignatureVerdict::Unsigned);
    // (header, scheme, a word of the explanation)
    let malformed = [
        ("Signature: garbage", None, "name"),
        ("Signature: keyId=\"https://m.test/k", Some(Scheme::Cavage), "quote"),
        ("Signature: keyId=\"https://m.test/k\"", Some(Scheme::Cavage), "signature parameter"),
        ("Signature: signature=\"eA==\"", Some(Scheme::Cavage), "keyId"),
        ("Signature: keyId=\"x\" y,signature=\"eA==\"", Some(Scheme::Cavage), "behind"),
        ("Signature-Input: (((\nSignature: sig1=:eA==:", Some(Scheme::Rfc9421), "dictionary"),
        ("Signature-Input: sig1=(\"@method\")\nSignature: sig2=:eA==:", Some(Scheme::Rfc9421), "label"),
        ("Signature-Input: sig1=(\"@method\")\nSignature: keyId=\"k\",signature=\"eA==\"", Some(Scheme::Rfc9421), "label"),
        ("Signature-Input: sig1=1\nSignature: sig1=:eA==:", Some(Scheme::Rfc9421), "components"),
    ];
    for (header, scheme, word) in malformed {
        let signature = signature(header);
        assert_eq!(signature.scheme, scheme, "{header}");
        assert_eq!(signature.verdict, SignatureVerdict::NotCheckable, "{header}");
        assert!(signature.explanation.as_deref().unwrap().contains(word), "{header}: {:?}", signature.explanation);
    }
}

#[test]
fn digests_are_compared_with_the_coded_body() {
    use base64::Engine as _;
    let b64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let right = b64(&sha2::Sha256::digest(b"hello"));
    let wrong = b64(&sha2::Sha256::digest(b"hullo"));
    let long = b64(&sha2::Sha512::digest(b"hello"));
    let digest = |headers: &str, change: fn(&mut Body)| {
        let request = format!("POST /inbox HTTP/1.1\nHost: h.test\n{headers}\n\nhello");
        let mut exchange = exchange(&request, "202\n\n");
        change(&mut exchange.request.as_mut().unwrap().message.body);
        read(&mut Reader::new(), &exchange).digest
    };
    let same: fn(&mut Body) = |_| {};
    let table = [
        ("X-None: x".to_owned(), Digest::Absent),
        (format!("Digest: SHA-256={right}"), Digest::Match),
        (format!("Digest: sha-256={right}"), Digest::Match),
        (format!("Digest: SHA-512={long}, SHA-256={right}"), Digest::Match),
        (format!("Digest: SHA-256={wrong}"), Digest::Mismatch),
        (format!("Digest: SHA-256={right},SHA-512={right}"), Digest::Mismatch),
        ("Digest: SHA-256=!!!".to_owned(), Digest::Mismatch),
        ("Digest: MD5=abc".to_owned(), Digest::NotCheckable),
        (format!("Content-Digest: sha-256=:{right}:"), Digest::Match),
        (format!("Content-Digest: sha-512=:{long}:"), Digest::Match),
        (format!("Content-Digest: sha-256=:{wrong}:"), Digest::Mismatch),
        (format!("Content-Digest: SHA-256=:{right}:"), Digest::NotCheckable),
        (format!("Repr-Digest: sha-256=:{right}:"), Digest::Match),
    ];
    for (headers, expected) in table {
        assert_eq!(digest(&headers, same), expected, "{headers}");
    }
    let right = format!("Digest: SHA-256={right}");
    let incomplete: fn(&mut Body) = |body| {
        body.complete = false;
        body.coded_sha256 = None;
    };
    assert_eq!(digest(&right, incomplete), Digest::NotCheckable);
    let unhashed: fn(&mut Body) = |body| body.coded_sha256 = None;
    assert_eq!(digest(&right, unhashed), Digest::Match, "what was kept whole is hashed here");
    let empty = format!("Digest: SHA-256={}", b64(&sha2::Sha256::digest(b"")));
    let emptied: fn(&mut Body) = |body| {
        *body = Body { complete: true, ..Body::default() };
    };
    assert_eq!(digest(&empty, emptied), Digest::Match);
}

#[test]
fn reasons_are_given_where_the_exchange_proves_them() {
    let cavage = "Signature: keyId=\"https://mastodon.example/users/alice#main-key\",algorithm=\"rsa-sha256\",headers=\"(request-target) host date digest\",signature=\"eA==\"";
    let rfc = "Signature-Input: sig1=(\"@method\" \"@target-uri\" \"content-digest\");created=1795418800;keyid=\"https://mastodon.example/users/alice#main-key\"\nSignature: sig1=:eA==:";
    let gts = "401\nServer: gotosocial\n\n{\"error\":\"Unauthorized: http request wasn't signed or http signature was invalid: (verifier)\"}";
    // (headers, answer, reason)
    let table: &[(&str, &str, Option<&str>)] = &[
        (cavage, "202\n\n", None),
        ("X-None: x", "401\n\n", Some("not signed")),
        ("X-None: x", gts, Some("not signed")),
        (rfc, gts, Some("RFC 9421 refused")),
        (cavage, gts, Some("signature refused")),
        (cavage, "401\n\nFailed to verify the request signature.", Some("signature refused")),
        (cavage, "401\n\n{\"error\":\"Signed request date outside acceptable time window\"}", Some("Date off")),
        (cavage, "403\n\n{\"error\":\"Public key not found for key https://x/y\"}", Some("domain blocked")),
        (cavage, "403\nServer: gotosocial\n\n", Some("domain blocked")),
        (cavage, "403\n\n", Some("refused")),
        (cavage, "401\n\n", Some("refused")),
        ("Signature: garbage", "500\n\n", Some("signature unreadable")),
        (cavage, "404\n\n", Some("not found")),
        (cavage, "410\n\n", Some("gone")),
        (cavage, "413\n\n", Some("too large")),
        (cavage, "503\n\n", Some("server error")),
        (cavage, "301\n\n", Some("redirected")),
        ("Digest: SHA-256=eA==\nX-None: x", "202\n\n", Some("body ≠ digest")),
        ("Signature: keyId=\"https://mastodon.example/k\",algorithm=\"hs2019\",headers=\"date\",signature=\"eA==\"", "202\n\n", Some("covers too little")),
    ];
    for (headers, answer, reason) in table {
        let request = delivery("gts.example/users/bob/inbox", file("follow"))
            .replace("User-Agent: test/1", &format!("User-Agent: test/1\n{headers}"));
        let reading = read(&mut Reader::new(), &exchange(&request, answer));
        assert_eq!(reading.reason.as_deref(), *reason, "{headers} {answer}");
    }
    let late = delivery("gts.example/users/bob/inbox", file("follow"))
        .replace(DATE, "Fri, 20 Nov 2026 07:26:40 GMT")
        .replace("User-Agent: test/1", &format!("User-Agent: test/1\n{cavage}"));
    assert_eq!(read(&mut Reader::new(), &exchange(&late, "202\n\n")).reason.as_deref(), Some("Date off"));
}

#[test]
fn a_key_that_answered_404_is_the_reason_of_the_refusal() {
    let mut reader = Reader::new();
    let get = format!("GET /users/alice HTTP/1.1\nHost: mastodon.example\nAccept: {AS_TYPE}\n\n");
    let fetch = read(&mut reader, &exchange(&get, "404\n\n"));
    assert_eq!(fetch.reason.as_deref(), Some("not found"));
    let cavage = "Signature: keyId=\"https://mastodon.example/users/alice#main-key\",algorithm=\"rsa-sha256\",headers=\"(request-target) host date digest\",signature=\"eA==\"";
    let request = delivery("gts.example/users/bob/inbox", file("follow"))
        .replace("User-Agent: test/1", &format!("User-Agent: test/1\n{cavage}"));
    let delivery = read(&mut reader, &exchange(&request, "500\n\n"));
    assert_eq!(delivery.reason.as_deref(), Some("key answers 404"));
}

#[test]
fn broken_rules_are_named() {
    let lints = |request: &str, answer: &str| -> Vec<String> {
        let reading = read(&mut Reader::new(), &exchange(request, answer));
        reading.lints.iter().map(|lint| lint.id.to_string()).collect()
    };
    let good_signature = "Signature: keyId=\"https://mastodon.example/users/alice#main-key\",algorithm=\"rsa-sha256\",headers=\"(request-target) host date digest\",signature=\"eA==\"";
    let body = file("follow");
    let digest = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(body))
    };
    let good = delivery("gts.example/users/bob/inbox", body)
        .replace("User-Agent: test/1", &format!("User-Agent: test/1\nDigest: SHA-256={digest}\n{good_signature}"));
    assert_eq!(lints(&good, "202\n\n"), Vec::<String>::new(), "a good delivery breaks none");

    // (what is changed, into what, the rule)
    let table: &[(&str, &str, &str)] = &[
        ("application/activity+json", "application/json", "inbox-content-type"),
        ("application/activity+json", "application/ld+json", "ldjson-without-profile"),
        ("User-Agent: test/1\n", "", "missing-user-agent"),
        ("Signature: ", "X-Signature: ", "unsigned-inbox-post"),
        ("Digest: SHA-256", "X-Digest: SHA-256", "digest-missing"),
        ("Digest: SHA-256=", "Digest: SHA-256=A", "digest-mismatch"),
        ("Digest: SHA-256=", "Digest: MD5=", "digest-algorithm"),
        ("Digest: SHA-256=", "Content-Digest: SHA-256=:", "content-digest-syntax"),
        ("\",algorithm=", "\", algorithm=", "sig-param-whitespace"),
        ("algorithm=\"rsa-sha256\",", "", "sig-algorithm-missing"),
        ("algorithm=\"rsa-sha256\"", "algorithm=\"ed25519\"", "sig-algorithm-unsupported"),
        ("algorithm=\"rsa-sha256\"", "algorithm=\"rsa-sha256\",algorithm=\"rsa-sha256\"", "sig-duplicate-param"),
        ("algorithm=\"rsa-sha256\"", "algorithm=\"rsa-sha256\",created=\"5\"", "sig-quoted-created"),
        ("host date digest", "host date digest (created)", "sig-created-with-rsa-sha256"),
        ("host date digest", "host date", "sig-covers-too-little"),
        ("host date digest", "host date digest x-gone", "sig-covers-absent-header"),
        ("host date digest", "host date digest user-agent", "sig-covers-fragile-header"),
        ("Signature: ", "Authorization: Signature keyId=\"k\",signature=\"eA==\"\nSignature: ", "two-signature-carriers"),
        (DATE, "Mon, 23 Nov 2026 07:20:00 GMT", "date-skew"),
        (DATE, "Mon, 23 Nov 2026 07:26:40 +0000", "date-format"),
        ("mastodon.example/users/alice#main-key", "evil.example/users/alice#main-key", "keyid-host-differs"),
        ("Host: gts.example", "Host: gts.example\nX-Forwarded-Host: other.example", "proxy-host-rewritten"),
    ];
    for (from, to, id) in table {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{id}");
        assert!(lints(&bad, "202\n\n").iter().any(|l| l == id), "{id}: {:?}", lints(&bad, "202\n\n"));
    }
    let body_table: &[(&str, &str, &str)] = &[
        ("\"type\": \"Follow\"", "\"type\": \"Follow\", \"bcc\": \"https://x.example/u\"", "bto-bcc-leak"),
        ("\"type\": \"Follow\"", "\"type\": \"Follow\", \"to\": \"as:Public\"", "public-shorthand"),
        ("\"id\": \"https://mastodon", "\"id\": \"https://other", "activity-id-foreign"),
        ("\"id\": \"https://mastodon", "\"id\": \"http://mastodon", "id-not-https"),
        ("\"id\"", "\"ident\"", "activity-without-id"),
        ("\"@context\"", "\"context\"", "missing-context"),
    ];
    for (from, to, id) in body_table {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{id}");
        assert!(lints(&bad, "202\n\n").iter().any(|l| l == id), "{id}: {:?}", lints(&bad, "202\n\n"));
    }
    let answers: &[(&str, &str)] = &[
        ("301\nLocation: https://x\n\n", "redirect-on-inbox"),
        ("405\n\n", "unexpected-inbox-status"),
        ("200\nContent-Type: text/html\n\n<html>", "unexpected-inbox-status"),
    ];
    for (answer, id) in answers {
        assert!(lints(&good, answer).iter().any(|l| l == id), "{id}");
    }
    let forged = delivery("gts.example/users/bob/inbox", file("undo-like")).replacen(
        "\"actor\": \"https://mastodon.example/users/alice\"",
        "\"actor\": \"https://mastodon.example/users/eve\"",
        1,
    );
    assert!(lints(&forged, "202\n\n").iter().any(|l| l == "undo-actor-mismatch"));
    let foreign = delivery("gts.example/users/bob/inbox", file("delete-iri")).replacen("gts.example/users/bob\"", "evil.example/users/bob\"", 1);
    assert!(lints(&foreign, "202\n\n").iter().any(|l| l == "update-delete-cross-origin"));

    let get = format!("GET /users/bob HTTP/1.1\nHost: gts.example\nUser-Agent: test/1\nAccept: {AS_TYPE}, application/ld+json\n\n");
    assert!(lints(&get, "200\nContent-Type: text/html\n\n<html>").iter().any(|l| l == "answer-wrong-type"));
    assert!(lints(&get, "401\n\n").iter().any(|l| l == "unsigned-get-authorized-fetch"));
    let other = format!("200\nContent-Type: {AS_TYPE}\n\n{}", file("actor"));
    assert!(lints(&get, &other).iter().any(|l| l == "object-id-not-url"));
    let finger = "GET /.well-known/webfinger?resource=acct:a@b HTTP/1.1\nHost: b\nAccept: application/jrd+json\n\n";
    assert!(lints(finger, "200\nContent-Type: text/html\n\n<html>").iter().any(|l| l == "webfinger-media-type"));
    assert!(lints(finger, "200\nContent-Type: application/jrd+json\n\n{\"links\":[]}").iter().any(|l| l == "webfinger-self-link"));
    let nodeinfo = "GET /nodeinfo/2.1 HTTP/1.1\nHost: b\n\n";
    assert!(lints(nodeinfo, "200\nContent-Type: application/json\n\n{\"software\":{\"name\":\"My Server\"}}").iter().any(|l| l == "nodeinfo-schema"));
}

#[test]
fn paths_are_read_by_the_habits_of_the_known_servers() {
    use place::{Shape as S, Whose as W};
    let table = [
        ("/users/alice", S::Actor, W::Named("alice")),
        ("/users/alice/", S::Actor, W::Named("alice")),
        ("/ap/users/116", S::Actor, W::Opaque),
        ("/@alice", S::Actor, W::Named("alice")),
        ("/u/alice", S::Actor, W::Named("alice")),
        ("/c/rust", S::Actor, W::Named("rust")),
        ("/accounts/tina", S::Actor, W::Named("tina")),
        ("/accounts/peertube", S::InstanceActor, W::Server),
        ("/video-channels/talks", S::Actor, W::Named("talks")),
        ("/user/ok", S::Actor, W::Named("ok")),
        ("/actor", S::InstanceActor, W::Server),
        ("/i/actor", S::InstanceActor, W::Server),
        ("/internal/fetch", S::InstanceActor, W::Server),
        ("/inbox", S::SharedInbox, W::Unknown),
        ("/f/inbox", S::SharedInbox, W::Unknown),
        ("/users/alice/inbox", S::Inbox, W::Named("alice")),
        ("/actor/inbox", S::Inbox, W::Server),
        ("/users/alice/outbox", S::Outbox, W::Named("alice")),
        ("/users/alice/followers", S::Followers, W::Named("alice")),
        ("/users/alice/following", S::Following, W::Named("alice")),
        ("/users/alice/liked", S::Liked, W::Named("alice")),
        ("/users/alice/liked/01HX", S::Activity, W::Named("alice")),
        ("/users/alice/collections/featured", S::Featured, W::Named("alice")),
        ("/users/alice/collections/tags", S::FeaturedTags, W::Named("alice")),
        ("/c/rust/featured", S::Featured, W::Named("rust")),
        ("/c/rust/moderators", S::Moderators, W::Named("rust")),
        ("/users/alice/main-key", S::Key, W::Named("alice")),
        ("/users/9abc/publickey", S::Key, W::Named("9abc")),
        ("/users/alice/followers_synchronization", S::FollowersSync, W::Named("alice")),
        ("/users/alice/statuses/1", S::Post, W::Named("alice")),
        ("/users/alice/statuses/1/activity", S::Activity, W::Named("alice")),
        ("/users/alice/statuses/1/replies", S::Replies, W::Named("alice")),
        ("/users/alice/statuses/1/likes", S::Likes, W::Named("alice")),
        ("/users/alice/statuses/1/shares", S::Shares, W::Named("alice")),
        ("/ap/users/116/statuses/1", S::Post, W::Opaque),
        ("/users/fred/notes/32339fb8", S::Post, W::Named("fred")),
        ("/@alice/112233", S::Post, W::Named("alice")),
        ("/@alice/statuses/01HX", S::Post, W::Named("alice")),
        ("/p/pix/112233", S::Post, W::Named("pix")),
        ("/notes/9abc", S::Post, W::Unknown),
        ("/objects/6a6c", S::Post, W::Unknown),
        ("/post/77", S::Post, W::Unknown),
        ("/comment/78", S::Post, W::Unknown),
        ("/videos/watch/5e2b", S::Post, W::Unknown),
        ("/videos/watch/5e2b/comments", S::Replies, W::Unknown),
        ("/activities/like/1", S::Activity, W::Unknown),
        ("/", S::None, W::Unknown),
        ("", S::None, W::Unknown),
        ("*", S::None, W::Unknown),
        ("/users/", S::None, W::Unknown),
        ("/a/b/c/d/e/f/g/h/i/j", S::None, W::Named("b")),
        ("/about/more", S::None, W::Unknown),
    ];
    for (path, shape, whose) in table {
        let guess = place::guess(path);
        assert_eq!((guess.shape, guess.whose), (shape, whose), "{path}");
    }
}

#[test]
fn media_types_are_taken_apart() {
    let table = [
        ("application/activity+json", Media::ACTIVITY),
        ("Application/Activity+JSON; charset=utf-8", Media::ACTIVITY),
        ("application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"", Media::LD_PROFILE),
        ("application/ld+json;profile=https://www.w3.org/ns/activitystreams", Media::LD_PROFILE),
        ("application/ld+json; a=b; PROFILE=\"https://x https://www.w3.org/ns/activitystreams\"", Media::LD_PROFILE),
        ("application/ld+json; profile=\"https://example.org, https://x\"", Media::LD),
        ("application/ld+json", Media::LD),
        ("application/problem+json", Media::JSON),
        ("text/html;q=0.1", Media::HTML),
        ("", Media::default()),
        ("é", Media::OTHER),
    ];
    for (text, media) in table {
        assert_eq!(Media::parse(text), media, "{text}");
    }
    let all = Media::parse("application/ld+json; profile=\"https://www.w3.org/ns/activitystreams, x\", text/html;q=0.1");
    assert!(all.has(Media::LD) && all.has(Media::HTML) && !all.has(Media::ACTIVITY));
}

#[test]
fn memories_are_bounded_and_keep_what_is_used() {
    let mut memory: learn::Memory<Box<str>, ()> = learn::Memory::default();
    memory.insert("used".into(), ());
    for n in 0..100_000 {
        memory.insert(format!("https://host.example/{n}").into(), ());
        if n % 1000 == 0 {
            assert!(memory.get("used").is_some(), "after {n}");
        }
    }
    assert!(memory.len() <= 2 * 8192 + 1, "{}", memory.len());
    assert!(memory.get("https://host.example/0").is_none());
    assert!(memory.get("https://host.example/99999").is_some());
}

#[test]
fn a_document_that_comes_again_teaches_as_if_it_was_read_again() {
    // Documents of one host that contradict one another, in every order of four, and enough others between them that
    // what they taught grows old.
    let actor = |name: &str, inbox: &str, shared: &str| {
        format!(
            "{{\"@context\":\"https://www.w3.org/ns/activitystreams\",\"type\":\"Person\",\"id\":\"https://a.test/users/{name}\",\
             \"preferredUsername\":\"{name}\",\"inbox\":\"https://a.test/{inbox}\",\"outbox\":\"https://a.test/x/{name}\",\
             \"endpoints\":{{\"sharedInbox\":\"https://a.test/{shared}\"}}}}"
        )
    };
    let documents =
        [actor("ann", "in/1", "in"), actor("bea", "in/1", "in/2"), actor("cat", "in/2", "in/2"), actor("dan", "in", "in/1")];
    let fetch = |body: &str| {
        exchange(
            &format!("GET /users/some HTTP/1.1\nHost: a.test\nAccept: {AS_TYPE}\nUser-Agent: t/1\n\n"),
            &format!("200 OK\nContent-Type: {AS_TYPE}\n\n{body}"),
        )
    };
    let (mut plain, mut quick) = (Reader::new(), Reader::new());
    let mut sentences = HashSet::new();
    let mut random = 1_u64;
    for n in 0..6_000_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = (random >> 40) as usize;
        let asked = match pick % 6 {
            4 => {
                let other = actor(&format!("n{n}-{}", "x".repeat(200)), &format!("n/{n}"), "in");
                fetch(&other)
            }
            5 => {
                let body = "{\"type\":\"Create\",\"actor\":\"https://b.test/users/b\",\"object\":{\"type\":\"Note\",\"content\":\"c\"}}";
                exchange(&delivery(&format!("a.test/{}", ["in", "in/1", "in/2"][pick / 6 % 3]), body), "202\n\n")
            }
            which => fetch(&documents[which]),
        };
        // Without the hash nobody can tell that it came again.
        let mut unknown = asked.clone();
        unknown.response.as_mut().unwrap().message.body.sha256 = None;
        let (expected, got) = (read(&mut plain, &unknown), read(&mut quick, &asked));
        assert_eq!(got, expected, "after {n}");
        sentences.insert(got.sentence.render());
    }
    assert!(sentences.iter().filter(|s| s.contains("ann") || s.contains("bea") || s.contains("dan")).count() > 3);
}

#[test]
fn hostile_json_is_survived() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let objects = format!("{}1{}", "{\"object\":".repeat(100_000), "}".repeat(100_000));
    let skipped = format!("{{\"type\":\"Like\",\"x\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let huge = format!("{{\"type\":\"Create\",\"actor\":\"https://a.test/{}\"}}", "x".repeat(1_000_000));
    let many = format!("{{\"type\":\"Like\",\"actor\":[{}]}}", vec!["\"https://a.test/u\""; 50_000].join(","));
    let twice = "{\"type\":\"Like\",\"type\":\"Follow\",\"actor\":\"https://a.test/users/a\",\"actor\":null}";
    for body in [&deep, &objects, &skipped, &huge, &many, twice, "{", "null", "\u{feff}{}", "[]", "[1,2]", "\"x\""] {
        let reading = read(&mut Reader::new(), &exchange(&delivery("g.test/users/b/inbox", body), "202\n\n"));
        assert_eq!(reading.kind, Kind::InboxDelivery);
        if let Some(activity) = reading.activity {
            assert!(activity.actor.is_none_or(|actor| actor.len() < 3000));
        }
    }
}

/// Header names that mean something here, and values from nonsense to nearly right.
fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop::sample::select(vec![
        "Host", "Accept", "Content-Type", "User-Agent", "Signature", "Signature-Input", "Digest", "Content-Digest",
        "Repr-Digest", "X-Forwarded-For", "Forwarded", "X-Real-Ip", "X-Forwarded-Host", "Date", "Authorization", "Upgrade",
        "Cookie", "Referer", "Sec-Fetch-Dest", "Location", "Server",
    ]);
    let value = prop_oneof![
        ".{0,80}",
        "[-a-zA-Z0-9 \"=,;:/()@#?.]{0,120}",
        "keyId=\"[a-z:/.#]{0,20}\",headers=\"[a-z() -]{0,30}\",signature=\"[a-zA-Z=]{0,8}\"",
        "sig1=\\(\"@method\" \"[a-z-]{0,9}\"\\);created=[0-9]{1,12};keyid=\"[a-z:/.#]{0,20}\"",
        "(application/(activity|ld)\\+json|text/html)(;[ a-z=\"]{0,20}){0,2}",
        "SHA-256=[a-zA-Z0-9+/=]{0,50}",
        "[0-9a-f:.\\[\\], ]{0,60}",
    ];
    prop::collection::vec((name.prop_map(str::to_owned), value), 0..12)
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let key = prop::sample::select(vec![
        "id", "type", "@type", "@id", "actor", "object", "target", "to", "cc", "bcc", "content", "name", "inReplyTo",
        "attributedTo", "inbox", "outbox", "followers", "publicKey", "owner", "endpoints", "sharedInbox", "@context", "links",
        "software", "subject", "rel", "href", "proof", "oneOf", "@value", "preferredUsername", "formerType", "x",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
        prop::sample::select(vec![
            "Create", "Follow", "Undo", "Announce", "Accept", "Person", "Note", "Question", "OrderedCollection", "Delete",
            "https://a.test/users/alice", "https://b.test/@bob", "https://a.test/users/alice/statuses/1#x",
            "https://www.w3.org/ns/activitystreams#Public", "as:Public", "https://", "http://[::1]:80/x?y#z", "acct:a@b", "Add",
            "https://a.test/users/alice/collections/featured", "self", "application/activity+json",
        ])
        .prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((key.clone(), inner), 0..8).prop_map(|members| {
                serde_json::Value::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_request_and_no_answer_breaks_the_reader(
        method in "(GET|POST|HEAD|[A-Z]{0,5})",
        target in prop_oneof![
            ".{0,60}",
            "(/[-@a-z0-9.%]{0,12}){1,10}(\\?[a-z=&%0-9]{0,20})?",
            "/(users|ap/users|@x|u|c|p)/[a-z%@]{0,8}(/(inbox|outbox|followers|statuses/1|main-key|collections/featured))?",
            "/(api/v1|api|oauth|.well-known|nodeinfo)/[a-z0-9./_-]{0,24}(\\?resource=[a-z:@%./]{0,20})?",
        ],
        asked in headers(),
        answered in headers(),
        sent in json(),
        got in json(),
        status in prop::option::of(0_u16..=999),
    ) {
        let mut reader = Reader::new();
        let mut exchange = exchange("GET / HTTP/1.1\nHost: a.test\n\n", "200\n\n");
        let fill = |message: &mut Message, fields: &[(String, String)], body: &serde_json::Value| {
            for (name, value) in fields {
                message.headers.push(Some(name.as_bytes()), Some(value.as_bytes()));
            }
            message.body = whole_body(body.to_string().as_bytes());
        };
        {
            let request = exchange.request.as_mut().unwrap();
            request.method = Some(method.into());
            request.target = Some(target.into());
            request.host = Some("a.test".into());
            fill(&mut request.message, &asked, &sent);
        }
        {
            let response = exchange.response.as_mut().unwrap();
            response.status = status;
            fill(&mut response.message, &answered, &got);
        }
        let first = read(&mut reader, &exchange);
        read(&mut reader, &exchange);
        // The same exchange, read by a reader that knows as little, means the same.
        prop_assert_eq!(&first, &read(&mut Reader::new(), &exchange));
        exchange.request = None;
        read(&mut reader, &exchange);
    }

    #[test]
    fn no_delivery_breaks_the_reader(body in json()) {
        let mut reader = Reader::new();
        let request = delivery("a.test/users/alice/inbox", &body.to_string());
        let request = request.replace("User-Agent", "Signature: keyId=\"https://a.test/k\",signature=\"eA==\"\nUser-Agent");
        for _ in 0..2 {
            let reading = read(&mut reader, &exchange(&request, "202\n\n"));
            prop_assert_eq!(reading.kind, Kind::InboxDelivery);
        }
    }

    #[test]
    fn no_octets_are_taken_for_json_that_breaks(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut broken = exchange(&delivery("a.test/users/alice/inbox", ""), "202\n\n");
        broken.request.as_mut().unwrap().message.body = whole_body(&body);
        read(&mut Reader::new(), &broken);
    }

    #[test]
    fn markup_never_breaks_excerpts(html in "[<>&;/a-z#x0-9\" é\u{1b}]{0,400}") {
        let text = activity::plain(&html);
        prop_assert!(text.chars().count() <= 202);
        prop_assert!(!text.chars().any(char::is_control));
    }
}

// --- causes -------------------------------------------------------------------------------------------------------

/// An exchange of its own id that lasted from the `from`-th to the `to`-th millisecond.
fn lasting(n: u64, from: u64, to: u64, request: &str, response: &str) -> Exchange {
    let mut one = exchange(request, response);
    let at = |ms: u64| Timestamp(NOW * 1_000_000_000 + ms * 1_000_000);
    (one.id, one.started, one.ended) = (ExchangeId::new(at(from), n), at(from), at(to));
    one
}

/// A delivery from a.test to b.test that alice signed.
fn from_alice(body: &str) -> String {
    let signature = "Signature: keyId=\"https://a.test/users/alice/main-key\",signature=\"eA==\"\nUser-Agent";
    delivery("b.test/users/bob/inbox", body).replace("User-Agent", signature)
}

/// A signed fetch of a server.
fn fetch(from: &str, of: &str) -> String {
    let (host, path) = of.split_once('/').unwrap();
    format!(
        "GET /{path} HTTP/1.1\nHost: {host}\nAccept: {AS_TYPE}\nUser-Agent: x/1 (+https://{from}/)\n\
         Signature: keyId=\"https://{from}/actor#main-key\",signature=\"eA==\"\n\n"
    )
}

const NOTE: &str = r#"{"type":"Create","id":"https://a.test/c/1","actor":"https://a.test/users/alice",
    "object":{"type":"Note","id":"https://a.test/n/1","attributedTo":"https://a.test/users/alice"}}"#;
const FOLLOW: &str = r#"{"type":"Follow","id":"https://a.test/f/1","actor":"https://a.test/users/alice","object":"https://b.test/users/bob"}"#;

fn ids(links: &[Link]) -> Vec<ExchangeId> {
    links.iter().map(|link| link.id).collect()
}

#[test]
fn a_held_delivery_names_what_its_receiver_fetched_for_it() {
    let mut reader = Reader::new();
    let key = lasting(2, 5, 9, &fetch("b.test", "a.test/users/alice/main-key"), "200\n\n");
    let robots = lasting(3, 10, 11, "GET /robots.txt HTTP/1.1\nHost: a.test\nUser-Agent: x/1 (+https://b.test/)\n\n", "404\n\n");
    let other = lasting(4, 12, 13, &fetch("c.test", "a.test/users/alice/main-key"), "200\n\n");
    for effect in [&key, &robots, &other] {
        assert_eq!(read(&mut reader, effect).caused_by, None, "the cause has not ended");
    }
    let held = read(&mut reader, &lasting(1, 0, 20, &from_alice(NOTE), "202\n\n"));
    assert_eq!(ids(&held.caused), [key.id, robots.id], "of its receiver alone");
    assert!(held.caused.iter().all(|link| !link.proven), "by time and key");
    let next = read(&mut reader, &lasting(5, 15, 30, &from_alice(NOTE), "202\n\n"));
    assert_eq!(next.caused, [], "each but once");
}

#[test]
fn what_follows_a_delivery_soon_is_because_of_it() {
    let mut reader = Reader::new();
    let note = lasting(1, 0, 20, &from_alice(NOTE), "202\n\n");
    read(&mut reader, &note);
    let mut cause = |n, from, of: &str| {
        read(&mut reader, &lasting(n, from, from + 1, &fetch("b.test", of), "200\n\n")).caused_by
    };
    let inferred = Some(Link { id: note.id, proven: false });
    assert_eq!(cause(2, 30, "a.test/users/alice/main-key"), inferred, "a queue fetches the key");
    assert_eq!(cause(3, 40, "a.test/n/1/replies?page=true"), inferred, "the note's replies");
    assert_eq!(cause(4, 1_900, "a.test/users/alice/main-key"), None, "much later");
    assert_eq!(cause(5, 1_901, "a.test/n/1"), None, "the note was in the delivery");
}

#[test]
fn a_cause_that_is_told_after_its_effect_is_found_all_the_same() {
    // Its response was retransmitted, say: readings come in order of completion, not of the wire's times.
    let mut reader = Reader::new();
    let replies = lasting(2, 30, 31, &fetch("b.test", "a.test/n/1/replies"), "200\n\n{\"type\":\"Collection\"}");
    let key = lasting(3, 35, 36, &fetch("b.test", "a.test/users/alice/main-key"), "200\n\n");
    let later = lasting(4, 2_000, 2_001, &fetch("b.test", "a.test/users/alice/main-key"), "200\n\n");
    for effect in [&replies, &key, &later] {
        assert_eq!(read(&mut reader, effect).caused_by, None);
    }
    let told = read(&mut reader, &lasting(1, 0, 20, &from_alice(NOTE), "202\n\n"));
    assert_eq!(ids(&told.caused), [replies.id, key.id]);
}

#[test]
fn an_accept_answers_the_follow_that_it_names() {
    let mut reader = Reader::new();
    let follow = lasting(1, 0, 5, &from_alice(FOLLOW), "202\n\n");
    read(&mut reader, &follow);
    let accept = |to: &str, id: &str| {
        let body = format!(
            r#"{{"type":"Accept","id":"https://b.test/a/1","actor":"https://b.test/users/bob","object":"{id}"}}"#
        );
        let signature = "Signature: keyId=\"https://b.test/users/bob#main-key\",signature=\"eA==\"\nUser-Agent";
        let request = delivery(&format!("{to}/inbox"), &body).replace("User-Agent", signature);
        lasting(2, 90_000, 90_005, &request, "202\n\n")
    };
    let link = Link { id: follow.id, proven: true };
    assert_eq!(read(&mut reader, &accept("a.test", "https://a.test/f/1")).caused_by, Some(link));
    assert_eq!(read(&mut reader, &accept("a.test", "https://a.test/f/2")).caused_by, None, "another one");
}

#[test]
fn a_boost_makes_its_receiver_fetch_from_a_third_server() {
    let boost = r#"{"type":"Announce","id":"https://a.test/b/1","actor":"https://a.test/users/alice","object":"https://c.test/n/9"}"#;
    let of = |reader: &mut Reader, n, from| {
        read(reader, &lasting(n, from, from + 2, &fetch("b.test", "c.test/n/9"), "200\n\n{\"type\":\"Note\",\"id\":\"https://c.test/n/9\"}"))
    };
    let mut reader = Reader::new();
    let fetched = of(&mut reader, 2, 3);
    assert_eq!((fetched.kind, fetched.caused_by), (Kind::Object, None));
    let delivered = lasting(1, 0, 20, &from_alice(boost), "202\n\n");
    let reading = read(&mut reader, &delivered);
    assert_eq!(reading.caused.len(), 1);
    assert!(reading.caused[0].proven, "by the id");
    assert_eq!(of(&mut reader, 3, 4_000).caused_by, Some(Link { id: delivered.id, proven: true }), "by a slow queue");
}

#[test]
fn links_are_bounded() {
    let mut reader = Reader::new();
    for n in 0..500 {
        let page = format!("a.test/users/alice/followers?page={n}");
        read(&mut reader, &lasting(n + 2, 1 + n, 2 + n, &fetch("b.test", &page), "200\n\n{\"type\":\"Collection\"}"));
    }
    let held = read(&mut reader, &lasting(1, 0, 1_000, &from_alice(NOTE), "202\n\n"));
    assert!((1..=32).contains(&held.caused.len()), "{}", held.caused.len());
}
