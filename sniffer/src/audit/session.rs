//! What a certificate is made from: one *session* is one `watch` of a node, or one capture that was read, with what it
//! saw and what it could not see. Kept in the store beside the findings, so that "nothing left" is never said of time
//! that nobody watched.
//!
//! Everything is bounded: past [`ENTRIES`] of a list the rest is counted in [`Session::more`], and a certificate says
//! that it knows too little.

use std::net::IpAddr;

use foldhash::{HashMap, HashMapExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::finding::Destination;
use super::{KernelEvent, Role, is_near};
use crate::flow::datagram::datagram;
use crate::frame::{Frame, Hook, Interface, Loss, Timestamp, rfc3339};
use crate::policy::compiled::{Compiled, SetId, address};
use crate::verdict::State;

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

impl Place {
    /// By an interface's name. What holds all interfaces together, as `any` does, is none of them.
    pub fn of(name: &str) -> Self {
        if ["any", "lo", "nflog"].iter().any(|all| name.starts_with(all)) {
            return Self::Unknown;
        }
        match Role::of(name) {
            Role::Pod => Self::Pod,
            Role::Bridge => Self::Bridge,
            Role::Uplink => Self::Uplink,
            Role::Unknown => Self::Unknown,
        }
    }

    /// In JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Bridge => "bridge",
            Self::Uplink => "uplink",
            Self::Unknown => "unknown",
        }
    }
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
    /// It ended because the interface itself went: nothing passed there afterwards.
    #[serde(default)]
    pub gone: bool,
}

/// One span of time in which a pod was there, as the cluster's objects say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// `namespace/name`.
    pub pod: Box<str>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
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
    pub address: IpAddr,
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
    pub address: IpAddr,
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
    /// The denying program was found pinned, isolating and denying, and hung at the bridge since then: denial outlived an
    /// agent.
    #[serde(with = "rfc3339::option")]
    pub adopted_since: Option<Timestamp>,
    /// The generation of policies in the kernel that was adopted: where it is the last one of the session before
    /// ([`Self::deny_generation`]), nobody changed anything in between.
    #[serde(default)]
    pub adopted_generation: Option<u32>,
    /// The generation of policies in the kernel, as it was last seen.
    #[serde(default)]
    pub deny_generation: Option<u32>,
    /// Why not all was looked at that passed where programs hung, in words: options that copy only a part.
    #[serde(default)]
    pub partial: Option<Box<str>>,
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
            adopted_generation: None,
            deny_generation: None,
            partial: None,
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

/// Losses at one place that lie closer together (ns) are one entry: a minute.
const TOGETHER: u64 = 60_000_000_000;

/// An interface as it stands, of a node that is watched.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// As frames name it.
    pub interface: Interface,
    /// Its name.
    pub name: &'a str,
    /// The capture program hangs there.
    pub seen: bool,
    /// The denying program hangs there.
    pub decided: bool,
    /// Its ports are pods, as the denying program was told.
    pub bridge: bool,
    /// The pod behind it, where the node knows.
    pub pod: Option<&'a str>,
}

/// What is known of an interface.
#[derive(Debug)]
struct Slot {
    name: Box<str>,
    place: Place,
    /// Its span that goes on, in [`Session::watched`].
    at: Option<usize>,
    /// Frames since that began.
    frames: u64,
    /// Each packet of a pod that passed was to or from one of these.
    candidates: Option<Vec<Box<str>>>,
    /// The ends of the packet before: most are like it.
    before: Option<(IpAddr, IpAddr, Option<Hook>)>,
}

impl Slot {
    fn new(name: &str) -> Self {
        Self { name: name.into(), place: Place::of(name), at: None, frames: 0, candidates: None, before: None }
    }

    /// The pod whose own interface this is: the one that had to do with all that passed.
    fn pod(&self) -> Option<&str> {
        match self.candidates.as_deref() {
            Some([pod]) if self.place == Place::Pod => Some(pod),
            _ => None,
        }
    }
}

/// Records a session: frames, losses, states of the cluster and of the interfaces come in, a [`Session`] goes out.
#[derive(Debug)]
pub struct Recording {
    session: Session,
    /// The first moment is known; of a capture that is its first frame's.
    begun: bool,
    slots: HashMap<Interface, Slot>,
    strangers: HashMap<(IpAddr, Option<Box<str>>, bool), usize>,
    /// Present pods, by name, in [`Session::pods`].
    present: HashMap<Box<str>, usize>,
    /// When the interfaces were looked at last.
    looked: Timestamp,
    /// Frames that were missed, as told in their place.
    told_lost: u64,
    /// The entry of those that were not told so, in [`Session::missed`].
    unplaced: Option<usize>,
    /// The node's own place in the cluster, where it is known.
    node: Option<usize>,
}

impl Recording {
    /// Of a node that is watched from now on. What is known of it is set in the session.
    pub fn of_watch(session: Session) -> Self {
        Self::new(session, true)
    }

    /// Of a capture file of this name: it begins with its first frame.
    pub fn of_capture(name: &str) -> Self {
        Self::new(Session::new(0, name, Source::Capture, Timestamp::default()), false)
    }

    fn new(session: Session, begun: bool) -> Self {
        Self {
            looked: session.from,
            session,
            begun,
            slots: HashMap::new(),
            strangers: HashMap::new(),
            present: HashMap::new(),
            told_lost: 0,
            unplaced: None,
            node: None,
        }
    }

    /// The session as it stands; `None` before its first moment.
    pub fn session(&self) -> Option<&Session> {
        self.begun.then_some(&self.session)
    }

    /// The same, for what others know of it: start-up windows, kube-router.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Which node of the cluster this is, an index: pods of others are none of its business.
    pub fn set_node(&mut self, node: Option<usize>) {
        self.node = node;
    }

    /// An interface has a name. One that a capture declares was captured all the time: the capture is taken at its word.
    pub fn name(&mut self, interface: Interface, name: &str) {
        if let Some(slot) = self.slots.get_mut(&interface) {
            if *slot.name == *name {
                return;
            }
            slot.name = name.into();
            slot.place = Place::of(name);
            if let Some(watched) = slot.at.and_then(|at| self.session.watched.get_mut(at)) {
                watched.interface = name.into();
                watched.place = slot.place;
            }
        } else if self.slots.len() < ENTRIES {
            self.slots.insert(interface, Slot::new(name));
            if self.session.source == Source::Capture {
                self.open(interface, Place::of(name), None, (true, false), self.session.from);
            }
        } else {
            self.more();
        }
    }

    /// Takes a frame.
    pub fn frame(&mut self, frame: &Frame<'_>, state: Option<&State>) {
        if !self.begun {
            self.begin(frame);
        }
        let capture = self.session.source == Source::Capture;
        if capture {
            self.session.from = self.session.from.min(frame.time);
            self.session.last = self.session.last.max(frame.time);
        }
        if !self.slots.contains_key(&frame.interface) {
            let name = match frame.interface {
                Interface::Declared(n) => n.to_string(),
                Interface::Index(n) => format!("if{n}"),
                Interface::Unknown => "capture".into(),
            };
            self.name(frame.interface, &name);
        }
        let Some(slot) = self.slots.get_mut(&frame.interface) else { return };
        slot.frames = slot.frames.saturating_add(1);
        let Some(state) = state else { return };
        let Some(packet) = datagram(frame) else { return };
        let ends = (packet.source, packet.destination, frame.hook);
        if slot.before == Some(ends) {
            if self.strangers.is_empty() {
                return;
            }
        } else {
            slot.before = Some(ends);
            let pod = |ip: IpAddr| state.cluster.pod_at(&address(ip)).map(|(_, pod)| pod.full_name());
            let pods: Vec<String> = match frame.hook {
                Some(Hook::Ingress) => pod(packet.source).into_iter().collect(),
                Some(Hook::Egress) => pod(packet.destination).into_iter().collect(),
                None => [packet.source, packet.destination].into_iter().filter_map(pod).collect(),
            };
            if !pods.is_empty() {
                match &mut slot.candidates {
                    Some(known) => known.retain(|known| pods.iter().any(|pod| **pod == **known)),
                    none => *none = Some(pods.into_iter().map(Into::into).collect()),
                }
            }
        }
        if is_stranger(state, packet.source, slot.place, frame.hook) {
            let name = slot.name.clone();
            self.stranger(packet.source, Some(name), false, frame.time, 1);
        }
    }

    /// The session's first moment is that of this frame.
    fn begin(&mut self, first: &Frame<'_>) {
        self.begun = true;
        let mut hash = Sha256::new();
        hash.update(self.session.node.as_bytes());
        hash.update(first.time.0.to_be_bytes());
        hash.update(first.bytes);
        let hash: [u8; 32] = hash.finalize().into();
        let session = &mut self.session;
        session.id = hash.iter().take(8).fold(0, |id, octet| (id << 8) | u64::from(*octet));
        (session.from, session.last) = (first.time, first.time);
        let spans = session.watched.iter_mut().map(|w| &mut w.from);
        let spans = spans.chain(session.pods.iter_mut().map(|p| &mut p.from));
        for from in spans.chain(session.generations.iter_mut().map(|g| &mut g.time)) {
            *from = first.time;
        }
    }

    /// Frames were lost; `cause` in words.
    pub fn lost(&mut self, loss: &Loss, cause: &str) {
        self.told_lost = self.told_lost.saturating_add(loss.frames);
        let name = self.slots.get(&loss.interface).map(|slot| slot.name.clone());
        let missed = self.session.missed.iter_mut().rev().find(|m| m.interface == name && *m.cause == *cause);
        if let Some(missed) = missed.filter(|m| loss.time.nanos_since(m.to) <= TOGETHER) {
            missed.frames = missed.frames.saturating_add(loss.frames);
            (missed.from, missed.to) = (missed.from.min(loss.time), missed.to.max(loss.time));
        } else if self.session.missed.len() < ENTRIES {
            let (from, to) = (loss.time, loss.time);
            self.session.missed.push(Missed { interface: name, frames: loss.frames, cause: cause.into(), from, to });
        } else {
            self.more();
        }
    }

    /// So many frames were lost in all, as the kernel counts: those after which no frame came yet are told nowhere else.
    pub fn lost_in_all(&mut self, frames: u64, now: Timestamp) {
        let untold = frames.saturating_sub(self.told_lost);
        if let Some(missed) = self.unplaced.and_then(|at| self.session.missed.get_mut(at)) {
            // The others were told in their place by now.
            if missed.frames != untold {
                missed.frames = untold;
                missed.to = now;
            }
        } else if untold > 0 && self.session.missed.len() < ENTRIES {
            self.unplaced = Some(self.session.missed.len());
            let cause = "the kernel counted them; where they belong is not known yet".into();
            let missed = Missed { interface: None, frames: untold, cause, from: self.looked, to: now };
            self.session.missed.push(missed);
        }
    }

    /// The cluster is so from now on.
    pub fn state(&mut self, state: &State, now: Timestamp) {
        let now = if self.begun { now } else { self.session.from };
        self.session.cluster = true;
        let names: Vec<(String, &crate::policy::cluster::Pod, bool)> = state
            .cluster
            .pods
            .iter()
            .enumerate()
            .filter(|(_, pod)| pod.is_held() && !pod.addresses.is_empty())
            .map(|(at, pod)| {
                let compiled = state.id(at).and_then(|id| state.compiled.pods.get(id.index()));
                (pod.full_name(), pod, compiled.is_some_and(|pod| pod.egress.is_some()))
            })
            .collect();
        let before = std::mem::take(&mut self.present);
        for (name, pod, isolated) in &names {
            let here = self.node.zip(pod.node).map(|(own, of_pod)| own == of_pod);
            let addresses: Vec<IpAddr> = pod.addresses.iter().map(crate::policy::compiled::ip).collect();
            let known = before.get(&**name).copied();
            let same = known.filter(|at| {
                self.session.pods.get(*at).is_some_and(|known| {
                    known.isolated == *isolated && known.here == here && known.addresses == addresses
                })
            });
            let at = match same {
                Some(at) => at,
                None if self.session.pods.len() < ENTRIES => {
                    let pod = name.as_str().into();
                    self.session.pods.push(Present { pod, addresses, isolated: *isolated, here, from: now, to: None });
                    self.session.pods.len().saturating_sub(1)
                }
                None => {
                    self.more();
                    continue;
                }
            };
            self.present.insert(name.as_str().into(), at);
        }
        for (name, at) in before {
            if self.present.get(&name) != Some(&at)
                && let Some(gone) = self.session.pods.get_mut(at)
            {
                gone.to = Some(now);
            }
        }
        // Who an interface led to and is no more does not stand in the way of who comes.
        for slot in self.slots.values_mut() {
            slot.before = None;
            if slot.candidates.as_ref().is_some_and(|pods| pods.iter().any(|pod| !self.present.contains_key(pod))) {
                slot.candidates = None;
            }
        }
        self.generation(state, names.iter().filter(|(.., isolated)| *isolated).count(), now);
    }

    fn generation(&mut self, state: &State, isolated: usize, now: Timestamp) {
        let hash: Box<str> = hash_of(&state.compiled).into();
        let before = self.session.generations.last();
        if before.is_some_and(|before| before.hash == hash) {
            return;
        }
        let number = before.map_or(0, |before| before.number).saturating_add(1);
        if self.session.generations.len() >= ENTRIES {
            return self.more();
        }
        let policies = state.compiled.policies.len() as u64;
        self.session.generations.push(Generation { time: now, number, hash, policies, isolated: isolated as u64 });
    }

    /// The node's interfaces are so now, all that programs hang on. Those that went are taken to have gone when they were
    /// last there.
    pub fn standing(&mut self, interfaces: &[Standing<'_>], now: Timestamp) {
        for one in interfaces {
            let name = one.name;
            self.name(one.interface, name);
            let Some(slot) = self.slots.get_mut(&one.interface) else { continue };
            if one.bridge {
                slot.place = Place::Bridge;
            }
            let place = slot.place;
            let pod = one.pod.or(slot.pod()).map(Box::from);
            let (at, frames) = (slot.at, slot.frames);
            let now_known = at.and_then(|at| self.session.watched.get_mut(at));
            match now_known {
                Some(watched) if (watched.seen, watched.decided) == (one.seen, one.decided) => {
                    watched.pod = pod.or(watched.pod.take());
                    watched.place = place;
                    watched.frames = frames;
                }
                Some(watched) => {
                    // What hung there may have gone at any time since the last look.
                    let less = (watched.seen && !one.seen) || (watched.decided && !one.decided);
                    watched.to = Some(if less { self.looked } else { now });
                    watched.frames = frames;
                    self.open(one.interface, place, pod, (one.seen, one.decided), now);
                }
                None => self.open(one.interface, place, pod, (one.seen, one.decided), now),
            }
        }
        let here = |interface: &Interface| interfaces.iter().any(|one| one.interface == *interface);
        let gone: Vec<Interface> = self.slots.keys().copied().filter(|interface| !here(interface)).collect();
        for slot in gone.iter().filter_map(|interface| self.slots.remove(interface)) {
            let pod = slot.pod().map(Box::from);
            if let Some(watched) = slot.at.and_then(|at| self.session.watched.get_mut(at)) {
                watched.to = Some(self.looked);
                watched.gone = true;
                watched.frames = slot.frames;
                watched.pod = watched.pod.take().or(pod);
            }
        }
        self.looked = now;
    }

    fn open(
        &mut self,
        interface: Interface,
        place: Place,
        pod: Option<Box<str>>,
        (seen, decided): (bool, bool),
        from: Timestamp,
    ) {
        let at = self.session.watched.len();
        if at >= ENTRIES {
            return self.more();
        }
        let Some(slot) = self.slots.get_mut(&interface) else { return };
        (slot.at, slot.frames) = (Some(at), 0);
        let interface = slot.name.clone();
        let watched =
            Watched { interface, place, pod, seen, decided, from, to: None, frames: 0, gone: false };
        self.session.watched.push(watched);
    }

    /// fedisniff's own program has met a source that it does not know.
    pub fn kernel(&mut self, event: &KernelEvent<'_>) {
        if matches!(event.reason, "spoofed-source" | "unknown-pod") {
            let packets = u64::from(event.untold).saturating_add(1);
            let interface = event.interface.map(Into::into);
            self.stranger(event.source.0, interface, event.dropped, event.time, packets);
        }
    }

    fn stranger(&mut self, address: IpAddr, at: Option<Box<str>>, dropped: bool, time: Timestamp, packets: u64) {
        let key = (address, at, dropped);
        if let Some(known) = self.strangers.get(&key).and_then(|at| self.session.strangers.get_mut(*at)) {
            known.packets = known.packets.saturating_add(packets);
            (known.first, known.last) = (known.first.min(time), known.last.max(time));
        } else if self.session.strangers.len() < ENTRIES {
            let interface = key.1.clone();
            self.strangers.insert(key, self.session.strangers.len());
            let (first, last) = (time, time);
            self.session.strangers.push(Stranger { address, interface, packets, dropped, first, last });
        } else {
            self.more();
        }
    }

    /// All until `now` was looked at; `not_kept` is what the audit had no room for.
    pub fn until(&mut self, now: Timestamp, not_kept: u64) {
        self.session.last = self.session.last.max(now);
        self.look(not_kept);
    }

    /// The session came to its end, in order or not.
    pub fn finish(&mut self, in_order: bool, not_kept: u64) {
        self.look(not_kept);
        self.session.ended = in_order;
        let last = self.session.last;
        let spans = self.session.watched.iter_mut().map(|w| &mut w.to);
        for to in spans.chain(self.session.pods.iter_mut().map(|p| &mut p.to)) {
            *to = Some(to.unwrap_or(last));
        }
    }

    fn look(&mut self, not_kept: u64) {
        self.session.not_kept = not_kept;
        let from = self.session.from;
        let capture = self.session.source == Source::Capture;
        for slot in self.slots.values() {
            if let Some(watched) = slot.at.and_then(|at| self.session.watched.get_mut(at)) {
                watched.frames = slot.frames;
                if capture {
                    watched.pod = slot.pod().map(Into::into);
                    watched.from = from;
                }
            }
        }
    }

    fn more(&mut self) {
        self.session.more = self.session.more.saturating_add(1);
    }
}

/// Whether a source belongs to nobody whom the cluster knows. What a pod's veth takes in must be the pod's; elsewhere
/// only what lies in a range for pods is sure to be none of the world outside.
fn is_stranger(state: &State, source: IpAddr, place: Place, hook: Option<Hook>) -> bool {
    if is_near(source) || source.is_unspecified() {
        return false;
    }
    let (cluster, ip) = (&state.cluster, address(source));
    let known = || {
        cluster.pod_at(&ip).is_some()
            || cluster.node_addresses.contains_key(&ip)
            || cluster.service_at(&ip).is_some()
    };
    let of_pods = || cluster.nodes.iter().flat_map(|node| &node.pod_ranges).any(|range| range.covers(&ip));
    ((place == Place::Pod && hook == Some(Hook::Ingress)) || of_pods()) && !known()
}

/// Names what policies were compiled to, hexadecimal.
fn hash_of(compiled: &Compiled) -> String {
    let keys: Vec<[u8; 16]> = (0..compiled.sets.len())
        .map(|at| compiled.set_key(SetId(u32::try_from(at).unwrap_or(u32::MAX))))
        .collect();
    let key = |set: Option<SetId>| set.and_then(|set| keys.get(set.index())).copied().unwrap_or_default();
    let mut hash = Sha256::new();
    for (address, endpoint) in &compiled.endpoints {
        hash.update(address);
        hash.update([u8::from(endpoint.egress.is_some()), u8::from(endpoint.ingress.is_some())]);
        hash.update(key(endpoint.egress));
        hash.update(key(endpoint.ingress));
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash.iter().take(16).map(|octet| format!("{octet:02x}")).collect()
}
