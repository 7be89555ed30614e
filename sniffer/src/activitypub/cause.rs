//! What made an exchange necessary: a delivery makes its receiver fetch the key that signed it, a first contact makes
//! the other side look around, a Follow is answered by an Accept. An exchange with its reading comes in, links to
//! exchanges that ended before it go out. Bounded like everything that is learnt.
//!
//! A cause often ends after its effect: a server holds a delivery until it has fetched the key. Readings are made in
//! order of the end and never changed, so such a link stands at the cause ([`Reading::caused`](super::Reading)), and
//! only one whose cause ended first stands at the effect ([`Reading::caused_by`](super::Reading)). Where both stand, what
//! held is the better guess, unless an id proves the other.

use std::hash::{BuildHasher as _, Hasher as _};

use serde::{Deserialize, Serialize, Serializer};

use super::learn::{Memory, Url, Weight};
use super::{Activity, Kind};
use crate::frame::Timestamp;
use crate::http::{Exchange, ExchangeId};

/// A link to the exchange at its other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Link {
    /// That exchange.
    #[serde(serialize_with = "as_text")]
    pub id: ExchangeId,
    /// True where an id says so: what was fetched or answered is what the cause named. Else time, hosts and keys do.
    pub proven: bool,
}

fn as_text<S: Serializer>(id: &ExchangeId, to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() { to.collect_str(id) } else { id.serialize(to) }
}

/// What the links of one exchange are.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) caused_by: Option<Link>,
    pub(super) caused: Vec<Link>,
}

/// What they are drawn from.
pub(super) struct Case<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) kind: Kind,
    /// The host that asked, `None` where only an address is known.
    pub(super) from: Option<&'a str>,
    /// The host that was asked.
    pub(super) to: &'a str,
    /// Path and query of what was asked for.
    pub(super) page: &'a str,
    pub(super) key_id: Option<&'a str>,
    pub(super) activity: Option<&'a Activity>,
}

/// Links that one exchange keeps: a first contact has about a dozen.
const MOST_CAUSED: usize = 32;
/// Requests of one host to another that are remembered, latest last.
const HELD: usize = 8;
/// Fetches of one host from another whose cause has not been seen, latest last.
const LOOSE: usize = 16;
/// How long after a request has ended that which it referred to is still fetched because of it: queues are slow.
const REFERRED_NANOS: u64 = 30_000_000_000;
/// The same for what hangs on an object that it brought along: its replies.
const BROUGHT_NANOS: u64 = 10_000_000_000;
/// The same for its key and actor, which are wanted at once.
const SIGNER_NANOS: u64 = 1_000_000_000;
/// How soon after a request, while it is not held any more, looking around begins.
const BEGIN_NANOS: u64 = 100_000_000;
/// How soon the next look around follows the last.
const NEXT_NANOS: u64 = 1_000_000_000;
/// How long looking around goes on.
const CHAIN_NANOS: u64 = 10_000_000_000;

/// What was seen lately.
#[derive(Debug, Default)]
pub(super) struct Causes {
    /// By the receiving host and what was named to it. Keys are hashes: a link by chance costs a line in a picture.
    named: Memory<u64, Named>,
    /// By the host that fetches, and the host that it fetches from.
    pairs: Memory<u64, Pair>,
}

/// A request that named something.
#[derive(Clone, Copy, Debug)]
struct Named {
    by: Span,
    how: How,
}

/// How it was named: the later, the more it tells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum How {
    /// As the key, or whose key it is.
    Signer,
    /// As an object that was in the request: there is no need to fetch that again.
    Brought,
    /// By its id alone.
    Referred,
}

impl How {
    /// How long after the request has ended a fetch may still be because of it.
    fn late(self) -> u64 {
        match self {
            Self::Signer => SIGNER_NANOS,
            Self::Brought => BROUGHT_NANOS,
            Self::Referred => REFERRED_NANOS,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Span {
    id: ExchangeId,
    started: Timestamp,
    ended: Timestamp,
}

impl Span {
    fn holds(self, at: Timestamp) -> bool {
        self.reaches(at, 0)
    }

    /// Whether that time is in it, or that soon after it.
    fn reaches(self, at: Timestamp, late: u64) -> bool {
        self.started <= at && at.nanos_since(self.ended) <= late
    }
}

/// A fetch whose cause may still be held.
#[derive(Clone, Copy, Debug)]
struct Loose {
    fetch: Span,
    /// When the chain that it belongs to began: what came later did not make it go on.
    first: Timestamp,
    page: u64,
    /// What a collection hangs on.
    owner: Option<u64>,
    around: bool,
    /// It has a cause, which did not hold it: another that does is the better guess.
    guessed: bool,
}

/// What goes on between a host and one that it fetches from.
#[derive(Debug, Default)]
struct Pair {
    /// What came the other way.
    held: Vec<Span>,
    loose: Vec<Loose>,
    chain: Option<Chain>,
}

/// Looking around: several fetches of one cause, one after the other.
#[derive(Clone, Copy, Debug)]
struct Chain {
    cause: Span,
    /// When the first began ...
    first: Timestamp,
    /// ... and the last ended.
    last: Timestamp,
}

impl Weight for u64 {}
impl Weight for Named {}
impl Weight for Pair {
    fn weight(&self) -> usize {
        HELD.saturating_mul(size_of::<Span>()).saturating_add(LOOSE.saturating_mul(size_of::<Loose>()))
    }
}

impl Causes {
    /// Finds the links of an exchange, and remembers it for those to come.
    pub(super) fn tie(&mut self, case: &Case<'_>) -> Links {
        let mut links = Links::default();
        let Some(from) = case.from else { return links };
        let Exchange { id, started, ended, .. } = *case.exchange;
        let mine = Span { id, started, ended };
        links.caused_by = match case.kind {
            Kind::InboxDelivery => self.answered(case, from),
            kind if is_fetch(kind) => self.fetched(case, from, mine),
            _ => None,
        };
        if case.kind == Kind::InboxDelivery || case.key_id.is_some() {
            self.cause(case, from, mine, &mut links.caused);
        }
        links
    }

    /// An Accept or Reject answers what came the other way under the id that it names.
    fn answered(&mut self, case: &Case<'_>, from: &str) -> Option<Link> {
        let activity = case.activity?;
        if !activity.r#type.as_deref().is_some_and(|t| t.ends_with("Accept") || t.ends_with("Reject")) {
            return None;
        }
        let named = self.named.get(&activity_key(from, activity.object.as_deref()?))?;
        (named.by.started < case.exchange.started).then_some(Link { id: named.by.id, proven: true })
    }

    /// The cause of a fetch, where that has ended; else the fetch waits for it.
    fn fetched(&mut self, case: &Case<'_>, from: &str, mine: Span) -> Option<Link> {
        let page = page_key(from, case.to, case.page);
        let around = looks_around(case.kind);
        // What hangs on a note that was delivered: `…/ID/replies?page=true`.
        let owner = case.page.split('?').next().and_then(|path| path.rsplit_once('/')).map(|(owner, _)| owner);
        let owner = owner.filter(|_| case.kind == Kind::Collection).map(|owner| page_key(from, case.to, owner));
        let named = match owner {
            Some(owner) => self.named.get(&owner).copied().filter(|named| named.how != How::Signer),
            None => {
                let wanted = if case.kind == Kind::Object { How::Referred } else { How::Signer };
                self.named.get(&page).copied().filter(|named| named.how == wanted)
            }
        };
        let named = named.filter(|named| named.by.reaches(mine.started, named.how.late()));
        let pair = pair_key(from, case.to);
        if self.pairs.get(&pair).is_none() {
            self.pairs.insert(pair, Pair::default());
        }
        let pair = self.pairs.get(&pair)?;
        let chain = pair.chain.filter(|chain| {
            around
                && chain.cause.reaches(mine.started, CHAIN_NANOS)
                && mine.started.nanos_since(chain.last) <= NEXT_NANOS
        });
        let before = || pair.held.iter().rev().find(|cause| around && cause.reaches(mine.started, BEGIN_NANOS));
        let cause = named.map(|named| named.by).or(chain.map(|chain| chain.cause)).or_else(|| before().copied());
        let proven = named.is_some() && case.kind == Kind::Object;
        let first = chain.map_or(mine.started, |chain| chain.first);
        if !proven && !cause.is_some_and(|cause| cause.holds(mine.started)) {
            let guessed = cause.is_some();
            keep(&mut pair.loose, LOOSE, Loose { fetch: mine, first, page, owner, around, guessed });
        }
        let cause = cause?;
        let first = if pair.chain.is_some_and(|chain| chain.cause.id == cause.id) { first } else { mine.started };
        pair.chain = Some(Chain { cause, first, last: mine.ended });
        Some(Link { id: cause.id, proven })
    }

    /// What waited for this request, and what may still come of it.
    fn cause(&mut self, case: &Case<'_>, from: &str, mine: Span, caused: &mut Vec<Link>) {
        let receiver = case.to;
        let activity = case.activity;
        let key = case.key_id.map(|id| id.split('#').next().unwrap_or(id));
        // `…/users/alice/main-key` is a page of its own, of the actor above it.
        let above = key.and_then(|key| key.rsplit_once('/')).map(|(above, _)| above);
        let actor = activity.and_then(|a| a.actor.as_deref());
        let (object, inner) = activity.map(refers).unwrap_or_default();
        let signer = [key, actor, above].map(|url| url.map(|url| (url, How::Signer)));
        for (url, how) in [object, inner].into_iter().chain(signer).flatten() {
            let Some(url) = Url::parse(url) else { continue };
            let page = page_key(receiver, url.host, url.path_and_query);
            if let Some(pair) = self.pairs.get(&pair_key(receiver, url.host)) {
                pair.claim(mine, how.late(), how == How::Referred, caused, |loose| match how {
                    How::Brought => loose.owner == Some(page),
                    How::Signer | How::Referred => loose.page == page,
                });
            }
            let named = Named { by: mine, how };
            match self.named.get(&page) {
                Some(known) if known.how > how && known.by.reaches(mine.ended, known.how.late()) => {}
                Some(known) => *known = named,
                None => self.named.insert(page, named),
            }
        }
        if let Some(id) = activity.filter(|a| may_be_answered(a)).and_then(|a| a.id.as_deref()) {
            self.named.insert(activity_key(receiver, id), Named { by: mine, how: How::Referred });
        }
        let pair = pair_key(receiver, from);
        if self.pairs.get(&pair).is_none() {
            self.pairs.insert(pair, Pair::default());
        }
        if let Some(pair) = self.pairs.get(&pair) {
            pair.claim(mine, BEGIN_NANOS, false, caused, |loose| loose.around);
            keep(&mut pair.held, HELD, mine);
        }
    }
}

impl Pair {
    /// Takes the fetches that began while `cause` was held, or so soon after it.
    fn claim(
        &mut self,
        cause: Span,
        late: u64,
        proven: bool,
        caused: &mut Vec<Link>,
        wanted: impl Fn(&Loose) -> bool,
    ) {
        let mut span: Option<(Timestamp, Timestamp)> = None;
        self.loose.retain(|loose| {
            let Loose { fetch, first, guessed, .. } = *loose;
            let mine = caused.len() < MOST_CAUSED
                && cause.started <= first
                && cause.reaches(fetch.started, if guessed { 0 } else { late })
                && cause.id != fetch.id
                && wanted(loose);
            if mine {
                caused.push(Link { id: fetch.id, proven });
                let (first, last) = span.unwrap_or((fetch.started, fetch.ended));
                span = Some((first.min(fetch.started), last.max(fetch.ended)));
            }
            !mine
        });
        if let Some((first, last)) = span {
            let first = self.chain.filter(|chain| chain.cause.id == cause.id).map_or(first, |chain| first.min(chain.first));
            self.chain = Some(Chain { cause, first, last });
        }
    }
}

/// Adds the latest; the oldest makes room.
fn keep<T>(list: &mut Vec<T>, most: usize, latest: T) {
    if list.len() >= most {
        list.remove(0);
    }
    list.push(latest);
}

/// What a server fetches because another made it.
fn is_fetch(kind: Kind) -> bool {
    matches!(kind, Kind::Actor | Kind::Key | Kind::Object) || looks_around(kind)
}

/// What is fetched of a server that is met, rather than because something named it.
fn looks_around(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Collection
            | Kind::FollowersSynchronization
            | Kind::WebFinger
            | Kind::HostMeta
            | Kind::NodeInfoDiscovery
            | Kind::NodeInfo
            | Kind::WellKnown
            | Kind::Robots
            | Kind::InstanceApi
            | Kind::OEmbed
            | Kind::LinkPreview
            | Kind::Media
    )
}

/// The object of an activity, and what a note replies to, where the receiver may want them.
fn refers(activity: &Activity) -> (Option<(&str, How)>, Option<(&str, How)>) {
    let of = |types: &[&str]| activity.r#type.as_deref().is_some_and(|t| types.contains(&t));
    if !of(&["Announce", "Like", "Dislike", "EmojiReact", "Create", "Update", "Add", "QuoteRequest"]) {
        return (None, None);
    }
    let how = if activity.object_type.is_some() { How::Brought } else { How::Referred };
    let inner = activity.inner.as_deref().filter(|_| of(&["Create"]));
    (activity.object.as_deref().map(|url| (url, how)), inner.map(|url| (url, How::Referred)))
}

/// Activities that are asked, not told: Follow, Join, Offer, Invite, QuoteRequest.
fn may_be_answered(activity: &Activity) -> bool {
    activity.r#type.as_deref().is_some_and(|t| matches!(t, "Follow" | "Join" | "Offer" | "Invite") || t.ends_with("Request"))
}

const PAGE: u8 = 0;
const ACTIVITY: u8 = 1;
const PAIR: u8 = 2;

/// A page of `host` as `receiver` knows it.
fn page_key(receiver: &str, host: &str, path_and_query: &str) -> u64 {
    hash(PAGE, receiver, host, if path_and_query == "/" { "" } else { path_and_query })
}

/// An activity that `receiver` was sent. Ids are compared as written.
fn activity_key(receiver: &str, id: &str) -> u64 {
    hash(ACTIVITY, receiver, "", id)
}

fn pair_key(from: &str, to: &str) -> u64 {
    hash(PAIR, from, to, "")
}

/// Hosts ignore case. The same in every run.
fn hash(what: u8, one: &str, other: &str, rest: &str) -> u64 {
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write_u8(what);
    for host in [one, other] {
        // Most are in lower case already. All octets are looked at: without an early end that takes one instruction for
        // many of them.
        if host.bytes().fold(false, |found, byte| found | byte.is_ascii_uppercase()) {
            hasher.write(host.to_ascii_lowercase().as_bytes());
        } else {
            hasher.write(host.as_bytes());
        }
        hasher.write_u8(0xff);
    }
    hasher.write(rest.as_bytes());
    hasher.finish()
}
