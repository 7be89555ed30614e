//! What earlier exchanges taught, for use with later ones: whose inbox a URL is, what an actor is called, who sits
//! behind an address, what software a host runs. Bounded in entries and octets; what was not used for long is
//! forgotten first. Nothing is learnt about one host from what another says.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hash};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::head::without_default_port;
use super::origin::{self, Agent};

/// Entries of one generation of one memory.
const ENTRIES: usize = 8192;
/// Octets of keys and values of one generation of one memory. Two generations live at a time.
const OCTETS: usize = 512 << 10;
/// Longer URLs and names are not learnt.
const LONGEST: usize = 512;

/// A bounded memory of two generations: what is used moves to the young one; when that is full, the old one is
/// forgotten. Ordered by a hash of the key: comparing hashes is fast, and a tree does not slow down whatever keys are
/// chosen. Two keys of one hash cannot both be remembered.
#[derive(Debug)]
pub(super) struct Memory<K, V> {
    young: BTreeMap<u64, (K, V)>,
    old: BTreeMap<u64, (K, V)>,
    octets: usize,
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new(), octets: 0 }
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
        let hash = hash(key);
        if let Some((old, _)) = self.old.get(&hash)
            && old.borrow() == key
            && let Some((key, value)) = self.old.remove(&hash)
        {
            self.put(hash, key, value);
        }
        self.young.get_mut(&hash).filter(|(known, _)| (*known).borrow() == key).map(|(_, value)| value)
    }

    /// Remembers.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let hash = hash(&key);
        self.old.remove(&hash);
        self.put(hash, key, value);
    }

    fn put(&mut self, hash: u64, key: K, value: V) {
        let weight = key.weight().saturating_add(value.weight()).saturating_add(64);
        if self.young.len() >= ENTRIES || self.octets.saturating_add(weight) > OCTETS {
            self.old = std::mem::take(&mut self.young);
            self.octets = 0;
        }
        self.octets = self.octets.saturating_add(weight);
        self.young.insert(hash, (key, value));
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len().saturating_add(self.old.len())
    }
}

/// The same in every run: readings must not depend on chance.
fn hash<Q: Hash + ?Sized>(key: &Q) -> u64 {
    foldhash::fast::FixedState::default().hash_one(key)
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
}

impl Learnt {
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

    /// Learns that `url` is in that role of `owner`; only if both are of one host.
    pub(super) fn place(&mut self, url: Option<&str>, role: Role, owner: &str) {
        let Some(url) = url else { return };
        let (Some(place), Some(home)) = (Url::parse(url), Url::parse(owner)) else { return };
        if !place.host.eq_ignore_ascii_case(home.host) || owner.len() > LONGEST {
            return;
        }
        let key = place.key();
        if key.len() > LONGEST {
            return;
        }
        if let Some(known) = self.places.get(&*key) {
            // A shared inbox is named by many actors and belongs to none.
            known.role = role;
            if known.owner.as_deref() != Some(owner) {
                known.owner = (role != Role::SharedInbox).then(|| owner.into());
            }
            return;
        }
        let owner = (role != Role::SharedInbox).then(|| owner.into());
        self.places.insert(key.into(), Place { role, owner });
    }

    /// Learns a URL that belongs to a host as a whole.
    pub(super) fn host_place(&mut self, url: &str, role: Role, host: &str) {
        let Some(parsed) = Url::parse(url) else { return };
        let key = parsed.key();
        if parsed.host.eq_ignore_ascii_case(host) && key.len() <= LONGEST {
            self.places.insert(key.into(), Place { role, owner: None });
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
            Some(known) => *known = name.into(),
            None => self.names.insert(key.into(), name.into()),
        }
    }

    /// Learns that a URL (fragment ignored) is a key's, and whose if known.
    pub(super) fn key_page(&mut self, url: &str, owner: Option<&str>) {
        let Some(parsed) = Url::parse(url) else { return };
        let key = parsed.key();
        if key.len() > LONGEST || owner.is_some_and(|o| o.len() > LONGEST) {
            return;
        }
        if let Some(page) = self.keys.get(&*key) {
            if let Some(owner) = owner
                && page.owner.as_deref() != Some(owner)
            {
                page.owner = Some(owner.into());
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
        let key = url.key_with_fragment();
        if key.len() > LONGEST {
            return;
        }
        let thing = Thing {
            r#type: r#type.map(Into::into),
            by: by.map(Into::into),
            object: about.object.map(Into::into),
            in_reply_to: about.in_reply_to.map(Into::into),
        };
        match self.things.get(&*key) {
            Some(known) => {
                if thing.r#type.is_some() || known.r#type.is_none() {
                    *known = thing;
                }
            }
            None => self.things.insert(key.into(), thing),
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
    pub(super) fn known_thing(&mut self, id: &str) -> Option<Thing> {
        let key = Url::parse(id)?.key_with_fragment();
        self.things.get(&*key).cloned()
    }

    /// What is known of a place.
    pub(super) fn known_place(&mut self, key: &str) -> Option<(Role, Option<Box<str>>)> {
        self.places.get(key).map(|place| (place.role, place.owner.clone()))
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
        let is = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        let end = if is("https://") {
            5
        } else if is("http://") {
            4
        } else {
            return None;
        };
        let (scheme, rest) = (text.get(..end)?, text.get(end.saturating_add(3)..)?);
        let (rest, fragment) = match rest.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (rest, None),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at_checked(end)?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host = without_default_port(host);
        let sane = !host.is_empty() && host.len() <= 253 && !host.bytes().any(|b| b <= b' ' || b == 0x7f);
        sane.then_some(Self { scheme, host, path_and_query, fragment })
    }

    /// The path without the query.
    pub(super) fn path(&self) -> &'a str {
        self.path_and_query.split_once('?').map_or(self.path_and_query, |(path, _)| path)
    }

    /// Host (lower case), path and query: what two spellings of one page have in common.
    pub(super) fn key(&self) -> String {
        key(self.host, self.path_and_query)
    }

    /// The same with the fragment, for ids.
    pub(super) fn key_with_fragment(&self) -> String {
        let mut key = self.key();
        if let Some(fragment) = self.fragment {
            key.push('#');
            key.push_str(fragment);
        }
        key
    }
}

/// The key of a page: host in lower case, then path and query.
pub(super) fn key(host: &str, path_and_query: &str) -> String {
    let mut key = String::with_capacity(host.len().saturating_add(path_and_query.len()));
    key.push_str(host);
    key.make_ascii_lowercase();
    if path_and_query != "/" {
        key.push_str(path_and_query);
    }
    key
}
