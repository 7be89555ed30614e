//! What fediverse servers say to each other, made up from a seed: the documents that a server serves and the requests
//! that others send it, in the mix of the benchmark (45 % deliveries, 25 % actors, 15 % notes, 5 % WebFinger, 10 %
//! outbox pages). The same seed gives the same bytes on every machine.

use std::fmt::Write as _;

/// SplitMix64: small, quick, and the same everywhere. Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    // An endless source of numbers, not something to iterate over. Three crates include this file, not all see the lint.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// True that often, of a million.
    pub fn of_a_million(&mut self, often: u64) -> bool {
        self.below(1_000_000) < often
    }

    /// Base 64 characters that look like (and compress like) a key or a signature.
    pub fn base64(&mut self, length: usize) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..length).map(|_| char::from(DIGITS[self.below(64) as usize])).collect()
    }
}

/// Actors of the made-up servers.
pub const ACTORS: u64 = 400;
/// Notes that are served.
pub const NOTES: u64 = 800;
/// Servers.
pub const HOSTS: u64 = 8;

/// A document that a server serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// Its path and query.
    pub target: String,
    /// Its host.
    pub host: String,
    /// Its media type.
    pub media_type: &'static str,
    /// Its text.
    pub body: String,
    /// Served with gzip, chunked.
    pub gzip: bool,
}

/// A kind of document that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// A delivery to the shared inbox.
    Delivery,
    /// An actor.
    Actor,
    /// A note.
    Note,
    /// WebFinger.
    WebFinger,
    /// An outbox page.
    Outbox,
}

/// The mix: what the next request is for.
pub fn next_asked(random: &mut Random) -> Asked {
    match random.below(100) {
        0..45 => Asked::Delivery,
        45..70 => Asked::Actor,
        70..85 => Asked::Note,
        85..90 => Asked::WebFinger,
        _ => Asked::Outbox,
    }
}

/// The host that an actor lives on.
pub fn host_of(actor: u64) -> String {
    format!("srv{}.fediverse.test", actor % HOSTS)
}

/// The document of that kind with that number (any number; it is taken modulo what there is). Deliveries have none.
pub fn document(asked: Asked, number: u64) -> Option<Document> {
    let actor = number % ACTORS;
    let host = host_of(actor);
    let json = "application/activity+json; charset=utf-8";
    let mut random = Random(0xf3d1_5ae5 ^ (number << 8) ^ asked as u64);
    Some(match asked {
        Asked::Delivery => return None,
        Asked::Actor => Document {
            target: format!("/users/a{actor}"),
            body: actor_json(actor, &mut Random(actor)),
            host,
            media_type: json,
            gzip: false,
        },
        Asked::Note => {
            let number = number % NOTES;
            let actor = number % ACTORS;
            Document {
                target: format!("/users/a{actor}/statuses/{number}"),
                body: with_context(&note_json(actor, number, &mut Random(number << 20))),
                host: host_of(actor),
                media_type: json,
                gzip: false,
            }
        }
        Asked::WebFinger => Document {
            target: format!("/.well-known/webfinger?resource=acct:a{actor}@{host}"),
            body: webfinger_json(actor),
            host,
            media_type: "application/jrd+json; charset=utf-8",
            gzip: false,
        },
        Asked::Outbox => Document {
            target: format!("/users/a{actor}/outbox?page=true"),
            body: outbox_json(actor, &mut random),
            host,
            media_type: json,
            gzip: true,
        },
    })
}

/// A delivery: the sender's host, and the body in two halves between which an id of the sender's choice goes, so that
/// no two deliveries are alike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The sending actor.
    pub actor: u64,
    /// The server that is sent to.
    pub host: String,
    /// The body up to the id ...
    pub before: String,
    /// ... and from there.
    pub after: String,
}

/// The delivery with that number.
pub fn delivery(number: u64) -> Delivery {
    let mut random = Random(0xde11 ^ (number << 16));
    let (actor, target) = (random.below(ACTORS), random.below(ACTORS));
    let (host, there) = (host_of(actor), host_of(target));
    let object = format!("https://{there}/users/a{target}/statuses/{}", random.below(NOTES));
    let followers = format!("https://{host}/users/a{actor}/followers");
    let public = "https://www.w3.org/ns/activitystreams#Public";
    let addressed = format!(r#""to":["{public}"],"cc":["{followers}","https://{there}/users/a{target}"]"#);
    let (kind, rest) = match random.below(20) {
        0..13 => {
            let number = random.below(1 << 40);
            ("Create", format!(r#"{addressed},"object":{}"#, note_json(actor, number, &mut random)))
        }
        13..15 => ("Like", format!(r#""object":"{object}""#)),
        15..17 => ("Announce", format!(r#"{addressed},"object":"{object}""#)),
        17 => ("Follow", format!(r#""object":"https://{there}/users/a{target}""#)),
        18 => {
            let follow = format!(
                r#"{{"id":"https://{host}/users/a{actor}#follows/{}","type":"Follow","actor":"https://{host}/users/a{actor}","object":"https://{there}/users/a{target}"}}"#,
                random.below(1 << 40)
            );
            ("Undo", format!(r#""object":{follow}"#))
        }
        _ => ("Update", format!(r#"{addressed},"object":{}"#, actor_json(actor, &mut Random(actor)))),
    };
    Delivery {
        actor,
        host: there,
        before: format!(
            r#"{{"@context":{CONTEXT},"type":"{kind}","actor":"https://{host}/users/a{actor}",{rest},"published":"2026-11-23T0{}:{:02}:{:02}Z","id":"https://{host}/users/a{actor}#activities/"#,
            random.below(10),
            random.below(60),
            random.below(60)
        ),
        after: "\"}".to_owned(),
    }
}

/// The head of a delivery's request, without `X-Request-Id` and the empty line. The signature has the right form and
/// proves nothing.
pub fn delivery_head(delivery: &Delivery, length: usize, digest: &str, signature: &str) -> String {
    let sender = host_of(delivery.actor);
    format!(
        "POST /inbox HTTP/1.1\r\nHost: {}\r\nUser-Agent: http.rb/5.2.0 (Mastodon/4.4.1; +https://{sender}/)\r\n\
         Date: Mon, 23 Nov 2026 07:27:01 GMT\r\nAccept-Encoding: gzip\r\nDigest: SHA-256={digest}\r\n\
         Content-Type: application/activity+json\r\nSignature: keyId=\"https://{sender}/users/a{}#main-key\",\
         algorithm=\"rsa-sha256\",headers=\"(request-target) host date digest content-type\",\
         signature=\"{signature}\"\r\nContent-Length: {length}\r\n",
        delivery.host, delivery.actor,
    )
}

/// The head of a fetch, without `X-Request-Id` and the empty line.
pub fn fetch_head(document: &Document) -> String {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: http.rb/5.2.0 (Mastodon/4.4.1; +https://srv1.fediverse.test/)\r\n\
         Accept: application/activity+json, application/ld+json\r\nAccept-Encoding: gzip\r\n",
        document.target, document.host
    )
}

const CONTEXT: &str = r#"["https://www.w3.org/ns/activitystreams","https://w3id.org/security/v1",{"manuallyApprovesFollowers":"as:manuallyApprovesFollowers","toot":"http://joinmastodon.org/ns#","featured":{"@id":"toot:featured","@type":"@id"},"schema":"http://schema.org#","PropertyValue":"schema:PropertyValue","value":"schema:value","discoverable":"toot:discoverable","Hashtag":"as:Hashtag","sensitive":"as:sensitive","ostatus":"http://ostatus.org#","conversation":"ostatus:conversation"}]"#;

fn with_context(object: &str) -> String {
    format!("{{\"@context\":{CONTEXT},{}", object.trim_start_matches('{'))
}

fn actor_json(actor: u64, random: &mut Random) -> String {
    let host = host_of(actor);
    let id = format!("https://{host}/users/a{actor}");
    let (length, about) = (100 + random.below(400) as usize, random.below(60) as usize);
    let key = random.base64(392);
    format!(
        r#"{{"@context":{CONTEXT},"id":"{id}","type":"Person","following":"{id}/following","followers":"{id}/followers","inbox":"{id}/inbox","outbox":"{id}/outbox","featured":"{id}/collections/featured","preferredUsername":"a{actor}","name":"{}","summary":"<p>{}</p>","url":"https://{host}/@a{actor}","manuallyApprovesFollowers":false,"discoverable":true,"published":"2025-0{}-1{}T00:00:00Z","publicKey":{{"id":"{id}#main-key","owner":"{id}","publicKeyPem":"-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n"}},"attachment":[{{"type":"PropertyValue","name":"web","value":"<a href=\"https://{host}/~a{actor}\">{host}</a>"}}],"endpoints":{{"sharedInbox":"https://{host}/inbox"}},"icon":{{"type":"Image","mediaType":"image/png","url":"https://{host}/media/avatars/{:016x}.png"}}}}"#,
        words(random, about),
        words(random, length),
        1 + random.below(9),
        random.below(10),
        random.next(),
    )
    .replace('\n', "\\n")
}

fn note_json(actor: u64, number: u64, random: &mut Random) -> String {
    let host = host_of(actor);
    let id = format!("https://{host}/users/a{actor}/statuses/{number}");
    // Most notes are short, a few are essays: 100 to 2,200 characters, the square of an even draw.
    let draw = random.below(1000);
    let length = (100 + draw * draw * 2100 / 1_000_000) as usize;
    let content = words(random, length);
    let tag = WORDS[random.below(WORDS.len() as u64) as usize];
    format!(
        r##"{{"id":"{id}","type":"Note","summary":null,"inReplyTo":null,"published":"2026-11-2{}T1{}:00:00Z","url":"https://{host}/@a{actor}/{number}","attributedTo":"https://{host}/users/a{actor}","to":["https://www.w3.org/ns/activitystreams#Public"],"cc":["https://{host}/users/a{actor}/followers"],"sensitive":false,"conversation":"tag:{host},2026-11-23:objectId={}:objectType=Conversation","content":"<p>{content}</p>","contentMap":{{"en":"<p>{content}</p>"}},"attachment":[],"tag":[{{"type":"Hashtag","href":"https://{host}/tags/{tag}","name":"#{tag}"}}],"replies":{{"id":"{id}/replies","type":"Collection","first":{{"type":"CollectionPage","next":"{id}/replies?page=true","partOf":"{id}/replies","items":[]}}}}}}"##,
        random.below(4),
        random.below(10),
        random.below(1 << 32),
    )
}

fn webfinger_json(actor: u64) -> String {
    let host = host_of(actor);
    let id = format!("https://{host}/users/a{actor}");
    format!(
        r#"{{"subject":"acct:a{actor}@{host}","aliases":["https://{host}/@a{actor}","{id}"],"links":[{{"rel":"http://webfinger.net/rel/profile-page","type":"text/html","href":"https://{host}/@a{actor}"}},{{"rel":"self","type":"application/activity+json","href":"{id}"}},{{"rel":"http://ostatus.org/schema/1.0/subscribe","template":"https://{host}/authorize_interaction?uri={{uri}}"}}]}}"#
    )
}

fn outbox_json(actor: u64, random: &mut Random) -> String {
    let host = host_of(actor);
    let id = format!("https://{host}/users/a{actor}/outbox");
    let mut items = String::new();
    for place in 0..2 + random.below(4) {
        let number = random.below(1 << 40);
        let note = note_json(actor, number, random);
        let comma = if place == 0 { "" } else { "," };
        let _ = write!(
            items,
            r#"{comma}{{"id":"https://{host}/users/a{actor}/statuses/{number}/activity","type":"Create","actor":"https://{host}/users/a{actor}","object":{note}}}"#
        );
    }
    format!(
        r#"{{"@context":{CONTEXT},"id":"{id}?page=true","type":"OrderedCollectionPage","partOf":"{id}","next":"{id}?max_id={}&page=true","orderedItems":[{items}]}}"#,
        random.below(1 << 40)
    )
}

/// About `length` characters of words.
fn words(random: &mut Random, length: usize) -> String {
    let mut text = String::with_capacity(length + 12);
    while text.len() < length {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(WORDS[random.below(WORDS.len() as u64) as usize]);
    }
    text
}

const WORDS: &[&str] = &[
    "about",
    "above",
    "again",
    "album",
    "anyone",
    "arrive",
    "asked",
    "autumn",
    "balcony",
    "bakery",
    "bicycle",
    "birds",
    "blue",
    "bread",
    "bridge",
    "bright",
    "build",
    "camera",
    "canal",
    "cat",
    "chapter",
    "cheese",
    "city",
    "clouds",
    "coffee",
    "cold",
    "compile",
    "concert",
    "corner",
    "country",
    "cup",
    "dance",
    "database",
    "day",
    "deploy",
    "dinner",
    "dog",
    "dream",
    "early",
    "east",
    "editor",
    "evening",
    "every",
    "federated",
    "fern",
    "ferry",
    "field",
    "film",
    "finally",
    "flower",
    "fog",
    "forest",
    "fresh",
    "friend",
    "garden",
    "ghost",
    "glass",
    "green",
    "guitar",
    "happy",
    "harbour",
    "hello",
    "hill",
    "history",
    "holiday",
    "home",
    "honey",
    "house",
    "idea",
    "instance",
    "island",
    "journey",
    "kernel",
    "kettle",
    "kitchen",
    "language",
    "late",
    "lemon",
    "letter",
    "library",
    "light",
    "little",
    "lost",
    "lunch",
    "map",
    "market",
    "meadow",
    "message",
    "midnight",
    "moon",
    "morning",
    "mountain",
    "museum",
    "music",
    "neighbour",
    "new",
    "night",
    "north",
    "notebook",
    "ocean",
    "old",
    "orange",
    "packet",
    "paper",
    "park",
    "path",
    "photo",
    "piano",
    "picture",
    "poem",
    "question",
    "quiet",
    "radio",
    "rain",
    "read",
    "recipe",
    "river",
    "road",
    "room",
    "rust",
    "sea",
    "season",
    "server",
    "shadow",
    "short",
    "silence",
    "silver",
    "slow",
    "small",
    "snow",
    "song",
    "south",
    "spring",
    "station",
    "stone",
    "story",
    "street",
    "summer",
    "sun",
    "table",
    "tea",
    "thread",
    "today",
    "tomorrow",
    "train",
    "tree",
    "under",
    "valley",
    "village",
    "walk",
    "warm",
    "water",
    "weather",
    "west",
    "white",
    "wind",
    "window",
    "winter",
    "wonder",
    "wood",
    "word",
    "write",
    "yellow",
    "yesterday",
];
