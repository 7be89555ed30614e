//! What a certificate is made from: one *session* is one `watch` of a node, or one capture that was read, with what it
//! saw and what it could not see. Kept in the store beside the findings, so that "nothing left" is never said of time
//! that nobody watched.
//!
//! Everything is bounded: past [`ENTRIES`] of a list the rest is counted in [`Session::more`], and a certificate says
//! that it knows too little.

use serde::{Deserialize, Serialize};

use super::finding::Destination;
use crate::frame::{Timestamp, rfc3339};

/// The schema of a session in JSON.
pub const SESSION: &str = "fedisniff.session/1";

/// Entries of each list of a session that are kept.
pub const ENTRIES: usize = 4_096;

/// Where a session's frames came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The node itself, live.
    Watch,
    /// A capture file.
    Capture,
}

/// What was done with what the policies do not allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// Nothing.
    #[default]
    Off,
    /// It was told.
    Audit,
    /// It was denied.
    Deny,
}

/// What an interface is to an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Leads to one pod.
    Pod,
    /// Joins pods.
    Bridge,
    /// Leads out of the node.
    Uplink,
    /// Not known.
    Unknown,
}

/// One span of time in which programs hung on an interface, or a capture held frames of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The interface's name; of a capture without names its number.
    pub interface: Box<str>,
    /// What it is.
    pub place: Place,
    /// The pod behind it, `namespace/name`; `null` where it is none, or not known.
    pub pod: Option<Box<str>>,
    /// The capture program hung there: what passed was seen.
    pub seen: bool,
    /// The denying program hung there: what passed was decided.
    pub decided: bool,
    /// From when.
    #[serde(with = "rfc3339")]
    pub from: Timestamp,
    /// Until when; `null` while it goes on: until the session's [`Session::last`].
    #[serde(with = "rfc3339::option")]
    pub to: Option<Timestamp>,
    /// Frames of it that were seen.
    pub frames: u64,
}

/// One span of time in which a pod was there, as the cluster's objects say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// `namespace/name`.
    pub pod: Box<str>,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// The policies isolate it for egress.
    pub isolated: bool,
    /// It is on the node that was watched; `null` where the objects do not say.
    pub here: Option<bool>,
    /// From when, as far as the session knows.
    #[serde(with = "rfc3339")]
    pub from: Timestamp,
    /// Until when; `null` while it is there.
    #[serde(with = "rfc3339::option")]
    pub to: Option<Timestamp>,
}

/// The policies were these from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// When they took effect.
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
    /// Counts from 1 within a session.
    pub number: u64,
    /// A hash of what they were compiled to, hexadecimal: equal policies have equal hashes.
    pub hash: Box<str>,
    /// Policies.
    pub policies: u64,
    /// Pods that they isolate for egress.
    pub isolated: u64,
}

/// Frames that were not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// Where; `null` where it is not known.
    pub interface: Option<Box<str>>,
    /// How many.
    pub frames: u64,
    /// Why, in words.
    pub cause: Box<str>,
    /// When the first of them was missed.
    #[serde(with = "rfc3339")]
    pub from: Timestamp,
    /// When the last was.
    #[serde(with = "rfc3339")]
    pub to: Timestamp,
}

/// A source that belongs to no known pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    /// The address.
    pub address: std::net::IpAddr,
    /// Where it was seen.
    pub interface: Option<Box<str>>,
    /// Packets.
    pub packets: u64,
    /// They were dropped.
    pub dropped: bool,
    /// The first.
    #[serde(with = "rfc3339")]
    pub first: Timestamp,
    /// The last.
    #[serde(with = "rfc3339")]
    pub last: Timestamp,
}

/// The time between a pod's first packet and the rules that hold it (facts, section 0.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// `namespace/name`.
    pub pod: Box<str>,
    /// Its address.
    pub address: std::net::IpAddr,
    /// Its veth appeared; `null` where that was not seen.
    #[serde(with = "rfc3339::option")]
    pub born: Option<Timestamp>,
    /// Its first packet; `null` while it has sent none.
    #[serde(with = "rfc3339::option")]
    pub first_packet: Option<Timestamp>,
    /// fedisniff's program decided its packets; `null` where it does not.
    #[serde(with = "rfc3339::option")]
    pub held_by_us: Option<Timestamp>,
    /// kube-router's chain of it was seen; `null` until then.
    #[serde(with = "rfc3339::option")]
    pub held_by_kube_router: Option<Timestamp>,
    /// What it tried in between that the policies do not allow.
    pub attempts: u64,
    /// Where, the first few.
    pub towards: Vec<Destination>,
}

/// How kube-router does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// A chain for each pod that needs one.
    Good,
    /// Some pods have no chain.
    Incomplete,
    /// Nothing of it is on the node: it does not run, or k3s skipped it.
    Absent,
    /// It could not be asked.
    Unknown,
}

/// What was seen of kube-router from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeRouter {
    /// When it was seen.
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
    /// In one word.
    pub health: Health,
    /// In one sentence: what is missing, and what to do.
    pub detail: Box<str>,
    /// `iptables`, `nftables`, or both; empty where nothing was found.
    pub backends: Vec<Box<str>>,
    /// Pods of this node without a chain that ought to have one.
    pub missing: Vec<Box<str>>,
    /// When its rules changed last, as far as was seen.
    #[serde(with = "rfc3339::option")]
    pub last_sync: Option<Timestamp>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// [`SESSION`].
    pub schema: Box<str>,
    /// Unique in a store: of a watch when it began, in nanoseconds since the epoch; of a capture a hash of its name and
    /// first frame.
    pub id: u64,
    /// The node's name; of a capture the file's.
    pub node: Box<str>,
    /// What it is.
    pub source: Source,
    /// The first moment it vouches for.
    #[serde(with = "rfc3339")]
    pub from: Timestamp,
    /// The last moment that it vouches for; while it runs, of a moment ago.
    #[serde(with = "rfc3339")]
    pub last: Timestamp,
    /// It came to its end in order.
    pub ended: bool,
    /// There were cluster objects: without them nothing can be said of pods.
    pub cluster: bool,
    /// What was done.
    pub enforcement: Enforcement,
    /// Sources that nobody knows were denied at the bridge.
    pub isolated_bridge: bool,
    /// SHA-256 of the capture program's object, hexadecimal; `null` of a capture file.
    pub capture_program: Option<Box<str>>,
    /// SHA-256 of the denying program's object; `null` where none was loaded.
    pub deny_program: Option<Box<str>>,
    /// The denying program was found pinned, and has decided since then: denial outlived an agent.
    #[serde(with = "rfc3339::option")]
    pub adopted_since: Option<Timestamp>,
    /// What was watched.
    pub watched: Vec<Watched>,
    /// Pods.
    pub pods: Vec<Present>,
    /// Policies.
    pub generations: Vec<Generation>,
    /// What was missed.
    pub missed: Vec<Missed>,
    /// Sources that belong to nobody.
    pub strangers: Vec<Stranger>,
    /// Start-up windows of the pods that were born meanwhile.
    pub windows: Vec<Window>,
    /// kube-router.
    pub kube_router: Vec<KubeRouter>,
    /// Attempts for which there was no place among the findings, and names without a place in the ledger.
    pub not_kept: u64,
    /// Entries of the lists above that did not fit.
    pub more: u64,
}

impl Session {
    /// One that has just begun and saw nothing.
    pub fn new(id: u64, node: &str, source: Source, from: Timestamp) -> Self {
        Self {
            schema: SESSION.into(),
            id,
            node: node.into(),
            source,
            from,
            last: from,
            ended: false,
            cluster: false,
            enforcement: Enforcement::Off,
            isolated_bridge: false,
            capture_program: None,
            deny_program: None,
            adopted_since: None,
            watched: Vec::new(),
            pods: Vec::new(),
            generations: Vec::new(),
            missed: Vec::new(),
            strangers: Vec::new(),
            windows: Vec::new(),
            kube_router: Vec::new(),
            not_kept: 0,
            more: 0,
        }
    }
}
