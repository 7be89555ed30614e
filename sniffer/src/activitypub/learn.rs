//! What earlier exchanges taught, for use with later ones: whose inbox a URL is, what an actor is called, who sits
//! behind an address, what software a host runs. Bounded in entries and octets; what was not used for long is
//! forgotten first. Nothing is learnt about one host from what another says.

use std::borrow::{Borrow, Cow};
use std::hash::{BuildHasher as _, Hash};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::head::without_default_port;
use super::origin::{self, Agent};

/// Entries of one generation of one memory.
const ENTRIES: usize = 8192;
/// Octets of keys and values of one generation of one memory. Two generations live at a time.
const OCTETS: usize = 512 << 10;
/// Longer URLs and names are not learnt.
const LONGEST: usize = 512;

/// A bounded memory of two generations: what is used moves to the young one; when that is full, the old one is
/// forgotten.
pub(super) struct Memory<K, V> {
    young: HashTable<Entry<K, V>>,
    old: HashTable<Entry<K, V>>,
    octets: usize,
    /// How often the young generation became the old one.
    turns: u64,
    // Seeded from the process's randomness, so that nobody can prepare keys that collide. No reading depends on it:
    // nothing is ever taken in the tables' order.
    hasher: RandomState,
}

/// A key with its hash, so that a table that grows need not look at all keys again.
struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        let hasher = RandomState::default();
        Self { young: HashTable::new(), old: HashTable::new(), octets: 0, turns: 0, hasher }
    }
}

impl<K, V> std::fmt::Debug for Memory<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { young, old, octets, turns, hasher: _ } = self;
        f.debug_struct("Memory")
            .field("young", &young.len())
            .field("old", &old.len())
            .field("octets", octets)
            .field("turns", turns)
            .finish()
    }
}

/// Roughly how many octets a key or value holds beside its own size.
pub(super) trait Weight {
    /// Nothing, for what has no part on the heap.
    fn weight(&self) -> usize {
        0
    }
}

impl Weight for Box<str> {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weight for Arc<Agent> {
    fn weight(&self) -> usize {
        256
    }
}

impl Weight for IpAddr {}
impl Weight for SocketAddr {}
impl Weight for u16 {}
impl Weight for () {}

impl<K: Hash + Eq + Weight, V: Weight> Memory<K, V> {
    /// What is remembered of the key; it counts as used.
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let is = |entry: &Entry<K, V>| entry.hash == hash && entry.key.borrow() == key;
        if self.young.find(hash, is).is_none() {
            let (Entry { key, value, .. }, _) = self.old.find_entry(hash, is).ok()?.remove();
            self.put(hash, key, value);
        }
        self.young.find_mut(hash, is).map(|entry| &mut entry.value)
    }

    /// Remembers.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let hash = self.hasher.hash_one(&key);
        if let Ok(entry) = self.old.find_entry(hash, |entry| entry.hash == hash && entry.key == key) {
            entry.remove();
        }
        self.put(hash, key, value);
    }

    fn put(&mut self, hash: u64, key: K, value: V) {
        let weight = key.weight().saturating_add(value.weight()).saturating_add(64);
        if self.young.len() >= ENTRIES || self.octets.saturating_add(weight) > OCTETS {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.octets = 0;
            self.turns = self.turns.saturating_add(1);
        }
        self.octets = self.octets.saturating_add(weight);
        let is = |entry: &Entry<K, V>| entry.hash == hash && entry.key == key;
        match self.young.find_mut(hash, is) {
            Some(entry) => entry.value = value,
            None => {
                self.young.insert_unique(hash, Entry { hash, key, value }, |entry| entry.hash);
            }
        }
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len().saturating_add(self.old.len())
    }
}

/// What a URL is, as an actor's document or a discovery said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Actor,
    Inbox,
    SharedInbox,
    Outbox,
    Followers,
    Following,
    Featured,
    FeaturedTags,
    Liked,
    Replies,
    Likes,
    Shares,
    /// The partial followers collection of FEP-8fcf.
    Synchronization,
    NodeInfo,
}

/// A URL that was named.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) role: Role,
    /// Whose it is: the actor's (or, for replies, likes and shares, the author's) id.
    pub(super) owner: Option<Box<str>>,
}

impl Weight for Place {
    fn weight(&self) -> usize {
        self.owner.as_ref().map_or(0, |o| o.len())
    }
}

/// A key id without its fragment.
#[derive(Debug, Default)]
pub(super) struct KeyPage {
    /// The actor it belongs to, if a document said so.
    pub(super) owner: Option<Box<str>>,
}

impl Weight for KeyPage {
    fn weight(&self) -> usize {
        self.owner.as_ref().map_or(0, |o| o.len())
    }
}

/// An object or activity that was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Thing {
    pub(super) r#type: Option<Box<str>>,
    /// Its author or actor.
    pub(super) by: Option<Box<str>>,
    /// For activities: the id of the object.
    pub(super) object: Option<Box<str>>,
    /// For objects: what they reply to.
    pub(super) in_reply_to: Option<Box<str>>,
}

impl Weight for Thing {
    fn weight(&self) -> usize {
        [&self.r#type, &self.by, &self.object, &self.in_reply_to]
            .iter()
            .map(|part| part.as_ref().map_or(0, |p| p.len()))
            .fold(0, usize::saturating_add)
    }
}

/// Who sits behind an address.
#[derive(Debug)]
pub(super) enum Behind {
    /// One host.
    One(Box<str>),
    /// Several: the address tells nothing (a proxy, a NAT).
    Several,
}

impl Weight for Behind {
    fn weight(&self) -> usize {
        match self {
            Self::One(host) => host.len(),
            Self::Several => 0,
        }
    }
}

/// Everything that was learnt. URLs are kept as [`key`] makes them.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    pub(super) places: Memory<Box<str>, Place>,
    pub(super) keys: Memory<Box<str>, KeyPage>,
    /// The status of the last answer to a fetch of a page, where that was no success; 0 after a success.
    pub(super) failed: Memory<Box<str>, u16>,
    /// `name@host` of an actor's URL.
    pub(super) names: Memory<Box<str>, Box<str>>,
    pub(super) things: Memory<Box<str>, Thing>,
    pub(super) behind: Memory<IpAddr, Behind>,
    /// The host that a server's address answered for.
    pub(super) served: Memory<SocketAddr, Behind>,
    pub(super) software: Memory<Box<str>, Box<str>>,
    /// What User-Agents were read to say.
    pub(super) agents: Memory<Box<str>, Arc<Agent>>,
    /// Peers that add forwarding headers.
    pub(super) proxies: Memory<IpAddr, ()>,
    /// Where keys are written that are looked up; kept for its memory.
    key: String,
    /// How often something that was known became something else.
    changes: u64,
    taught: Taught,
}

/// Documents that taught all they can: a hash of each, and the state of the memories that it left.
struct Taught {
    slots: Vec<(u64, u64)>,
    hasher: RandomState,
}

impl Taught {
    const SLOTS: usize = 4096;
}

impl Default for Taught {
    fn default() -> Self {
        Self { slots: vec![(0, 0); Self::SLOTS], hasher: RandomState::default() }
    }
}

impl std::fmt::Debug for Taught {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Taught").finish_non_exhaustive()
    }
}

impl Learnt {
    /// Lets a document of `host` teach; leaves that out where it would change nothing: the same document was here, and
    /// since then nothing of what it taught grew old or became something else. Documents are fetched again and again.
    pub(super) fn once(&mut self, document: Option<&[u8; 32]>, host: &str, teach: impl FnOnce(&mut Self)) {
        let Some(document) = document else { return teach(self) };
        let hash = self.taught.hasher.hash_one((document, host));
        let at = usize::try_from(hash).unwrap_or_default() % Taught::SLOTS;
        let state = self.state();
        if self.taught.slots.get(at) == Some(&(hash, state)) {
            return;
        }
        teach(self);
        if self.state() == state
            && let Some(slot) = self.taught.slots.get_mut(at)
        {
            *slot = (hash, state);
        }
    }

    /// A number that is another one as soon as anything that documents teach was moved to the old generation, or
    /// became something else. Never 0.
    fn state(&self) -> u64 {
        let turns = [self.places.turns, self.names.turns, self.keys.turns, self.things.turns];
        turns.into_iter().fold(self.changes, u64::saturating_add).saturating_add(1)
    }

    /// What a User-Agent says; read once, as the same few come again and again.
    pub(super) fn agent(&mut self, text: &str) -> Arc<Agent> {
        if let Some(agent) = self.agents.get(text) {
            return agent.clone();
        }
        let agent = Arc::new(origin::agent(text));
        if text.len() <= LONGEST {
            self.agents.insert(text.into(), agent.clone());
        }
        agent
    }

    /// Learns which URLs are in which role of `owner`; only those that are of its host.
    pub(super) fn places<'a>(&mut self, owner: &str, of: impl IntoIterator<Item = (Option<&'a str>, Role)>) {
        let Some(home) = Url::parse(owner).filter(|_| owner.len() <= LONGEST) else { return };
        for (url, role) in of {
            let Some(place) = url.and_then(Url::parse) else { continue };
            if !place.host.eq_ignore_ascii_case(home.host) {
                continue;
            }
            place.key_into(&mut self.key);
            if self.key.len() > LONGEST {
                continue;
            }
            if let Some(known) = self.places.get(&*self.key) {
                // A shared inbox is named by many actors and belongs to none.
                let mut changed = std::mem::replace(&mut known.role, role) != role;
                if known.owner.as_deref() != Some(owner) {
                    let owner = (role != Role::SharedInbox).then_some(owner);
                    changed |= known.owner.as_deref() != owner;
                    known.owner = owner.map(Into::into);
                }
                if changed {
                    self.changes = self.changes.saturating_add(1);
                }
                continue;
            }
            let owner = (role != Role::SharedInbox).then(|| owner.into());
            self.places.insert(self.key.as_str().into(), Place { role, owner });
        }
    }

    /// Learns a URL that belongs to a host as a whole.
    pub(super) fn host_place(&mut self, url: &str, role: Role, host: &str) {
        let Some(parsed) = Url::parse(url) else { return };
        let key = parsed.key();
        if parsed.host.eq_ignore_ascii_case(host) && key.len() <= LONGEST {
            self.places.insert(key.into(), Place { role, owner: None });
            self.changes = self.changes.saturating_add(1);
        }
    }

    /// Learns an actor's name.
    pub(super) fn name(&mut self, actor: &str, name: &str) {
        let Some(url) = Url::parse(actor) else { return };
        let key = url.key();
        if key.len() > LONGEST || name.len() > LONGEST {
            return;
        }
        match self.names.get(&*key) {
            Some(known) if **known == *name => {}
            Some(known) => {
                *known = name.into();
                self.changes = self.changes.saturating_add(1);
            }
            None => self.names.insert(key.into(), name.into()),
        }
    }

    /// Learns that a URL (fragment ignored) is a key's, and whose if known.
    pub(super) fn key_page(&mut self, url: &str, owner: Option<&str>) {
        let Some(parsed) = Url::parse(url) else { return };
        parsed.key_into(&mut self.key);
        let key = self.key.as_str();
        if key.len() > LONGEST || owner.is_some_and(|o| o.len() > LONGEST) {
            return;
        }
        if let Some(page) = self.keys.get(key) {
            if let Some(owner) = owner
                && page.owner.as_deref() != Some(owner)
            {
                page.owner = Some(owner.into());
                self.changes = self.changes.saturating_add(1);
            }
            return;
        }
        self.keys.insert(key.into(), KeyPage { owner: owner.map(Into::into) });
    }

    /// Learns an object or activity; only if it is of the host of who made it.
    pub(super) fn thing(&mut self, id: &str, r#type: Option<&str>, by: Option<&str>, about: About<'_>) {
        let Some(url) = Url::parse(id) else { return };
        let foreign = by.and_then(Url::parse).is_some_and(|by| !by.host.eq_ignore_ascii_case(url.host));
        let too_long = |part: Option<&str>| part.is_some_and(|p| p.len() > LONGEST);
        if foreign || too_long(r#type) || too_long(by) || too_long(about.object) || too_long(about.in_reply_to) {
            return;
        }
        url.key_with_fragment_into(&mut self.key);
        let key = self.key.as_str();
        if key.len() > LONGEST {
            return;
        }
        let known = self.things.get(key);
        if known.as_ref().is_some_and(|known| r#type.is_none() && known.r#type.is_some()) {
            return;
        }
        let new = |part: Option<&str>| part.map(Into::into);
        match known {
            Some(known) => {
                let mut keep = |known: &mut Option<Box<str>>, part: Option<&str>| {
                    if known.as_deref() != part {
                        *known = part.map(Into::into);
                        self.changes = self.changes.saturating_add(1);
                    }
                };
                keep(&mut known.r#type, r#type);
                keep(&mut known.by, by);
                keep(&mut known.object, about.object);
                keep(&mut known.in_reply_to, about.in_reply_to);
            }
            None => {
                let thing = Thing {
                    r#type: new(r#type),
                    by: new(by),
                    object: new(about.object),
                    in_reply_to: new(about.in_reply_to),
                };
                self.things.insert(key.into(), thing);
            }
        }
    }

    /// Learns how a fetch of a page ended.
    pub(super) fn fetched(&mut self, key: &str, status: u16) {
        let failed = if status >= 400 { status } else { 0 };
        match self.failed.get(key) {
            Some(known) => *known = failed,
            None if failed != 0 && key.len() <= LONGEST => self.failed.insert(key.into(), failed),
            None => {}
        }
    }

    /// The status of the last answer to a fetch of a page, where that was no success.
    pub(super) fn failure(&mut self, key: &str) -> Option<u16> {
        self.failed.get(key).copied().filter(|status| *status != 0)
    }

    /// What is known of an object or activity.
    pub(super) fn known_thing(&mut self, id: &str) -> Option<&Thing> {
        Url::parse(id)?.key_with_fragment_into(&mut self.key);
        self.things.get(self.key.as_str()).map(|thing| &*thing)
    }

    /// The name of an actor.
    pub(super) fn known_name(&mut self, actor: &Url<'_>) -> Option<&str> {
        actor.key_into(&mut self.key);
        self.names.get(self.key.as_str()).map(|name| &**name)
    }

    /// What is known of a place.
    pub(super) fn known_place(&mut self, key: &str) -> Option<(Role, Option<Box<str>>)> {
        self.places.get(key).map(|place| (place.role, place.owner.clone()))
    }

    /// What a page is, as far as known.
    pub(super) fn known_role(&mut self, key: &str) -> Option<Role> {
        self.places.get(key).map(|place| place.role)
    }

    /// Learns that `host` sends from the address.
    pub(super) fn sender(&mut self, address: IpAddr, host: &str) {
        remember(&mut self.behind, address, host);
    }

    /// Learns that the server's address answers for `host`.
    pub(super) fn server(&mut self, address: SocketAddr, host: &str) {
        remember(&mut self.served, address, host);
    }

    /// The one host behind an address.
    pub(super) fn host_behind(&mut self, address: IpAddr) -> Option<Box<str>> {
        one(self.behind.get(&address))
    }

    /// The one host that a server's address answers for.
    pub(super) fn host_served(&mut self, address: SocketAddr) -> Option<Box<str>> {
        one(self.served.get(&address))
    }

    /// Learns a host's software.
    pub(super) fn runs(&mut self, host: &str, software: &str) {
        if host.len() > LONGEST || software.len() > LONGEST {
            return;
        }
        let host = lower(host);
        match self.software.get(&*host) {
            Some(known) if **known == *software => {}
            Some(known) => *known = software.into(),
            None => self.software.insert(host.into(), software.into()),
        }
    }

    /// A host's software.
    pub(super) fn software_of(&mut self, host: &str) -> Option<Box<str>> {
        self.software.get(&*lower(host)).cloned()
    }
}

/// What else is known of a [`Thing`].
#[derive(Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub(super) object: Option<&'a str>,
    pub(super) in_reply_to: Option<&'a str>,
}

fn remember<K: Hash + Eq + Weight>(memory: &mut Memory<K, Behind>, address: K, host: &str) {
    if host.len() > LONGEST {
        return;
    }
    match memory.get(&address) {
        Some(Behind::One(known)) if known.eq_ignore_ascii_case(host) => {}
        Some(behind) => *behind = Behind::Several,
        None => memory.insert(address, Behind::One(lower(host).into())),
    }
}

fn one(behind: Option<&mut Behind>) -> Option<Box<str>> {
    match behind? {
        Behind::One(host) => Some(host.clone()),
        Behind::Several => None,
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// An absolute http(s) URL, taken apart without copying.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Url<'a> {
    /// `https` or `http`, as written.
    pub(super) scheme: &'a str,
    /// The authority without user information and default port.
    pub(super) host: &'a str,
    /// From the first `/` to the end, without the fragment; may be empty.
    pub(super) path_and_query: &'a str,
    /// Behind `#`.
    pub(super) fragment: Option<&'a str>,
}

impl<'a> Url<'a> {
    /// `None` for anything but http and https URLs with a host.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        // As nearly all are written; then the same in other letters.
        let end = if text.starts_with("https://") || starts_with_ignoring_case(text, "https://") {
            5
        } else if starts_with_ignoring_case(text, "http://") {
            4
        } else {
            return None;
        };
        let (scheme, rest) = (text.get(..end)?, text.get(end.saturating_add(3)..)?);
        // Nearly always the first octet that is no part of a plain host name ends the authority.
        let special = |byte: &u8| SPECIAL.get(usize::from(*byte)).is_some_and(|special| *special);
        let octets = rest.as_bytes();
        let end = octets.iter().position(special).unwrap_or(octets.len());
        let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#');
        let plain = octets.get(end).is_none_or(ends);
        let end = if plain { end } else { octets.iter().position(ends).unwrap_or(octets.len()) };
        let (authority, rest) = rest.split_at_checked(end)?;
        let (host, sane) = if plain {
            (authority, true)
        } else {
            let host = without_default_port(authority.rsplit_once('@').map_or(authority, |(_, host)| host));
            (host, !host.bytes().any(|b| b <= b' ' || b == 0x7f))
        };
        if !sane || host.is_empty() || host.len() > 253 {
            return None;
        }
        let (path_and_query, fragment) = match memchr::memchr(b'#', rest.as_bytes()) {
            Some(at) => (rest.get(..at)?, rest.get(at.saturating_add(1)..)),
            None => (rest, None),
        };
        Some(Self { scheme, host, path_and_query, fragment })
    }

    /// The path without the query.
    pub(super) fn path(&self) -> &'a str {
        let query = memchr::memchr(b'?', self.path_and_query.as_bytes());
        query.and_then(|at| self.path_and_query.get(..at)).unwrap_or(self.path_and_query)
    }

    /// Host (lower case), path and query: what two spellings of one page have in common.
    pub(super) fn key(&self) -> String {
        key(self.host, self.path_and_query)
    }

    /// The same into a buffer.
    fn key_into(&self, key: &mut String) {
        key.clear();
        key_onto(key, self.host, self.path_and_query);
    }

    /// The same with the fragment, for ids.
    fn key_with_fragment_into(&self, key: &mut String) {
        self.key_into(key);
        if let Some(fragment) = self.fragment {
            key.push('#');
            key.push_str(fragment);
        }
    }
}

/// Octets of an authority that are to be looked at more closely, or end it.
#[expect(clippy::indexing_slicing, reason = "it runs while compiling")]
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        special[byte] = byte <= 0x20 || byte >= 0x7f || matches!(byte as u8, b'/' | b'?' | b'#' | b'@' | b':');
        byte += 1;
    }
    special
};

fn starts_with_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(start))
}

/// The key of a page: host in lower case, then path and query.
pub(super) fn key(host: &str, path_and_query: &str) -> String {
    let mut key = String::with_capacity(host.len().saturating_add(path_and_query.len()));
    key_onto(&mut key, host, path_and_query);
    key
}

fn key_onto(key: &mut String, host: &str, path_and_query: &str) {
    key.push_str(host);
    key.make_ascii_lowercase();
    if path_and_query != "/" {
        key.push_str(path_and_query);
    }
}
