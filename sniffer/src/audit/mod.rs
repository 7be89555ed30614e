//! The audit: what isolated pods try that their policies do not allow, and what becomes of it, with evidence. Frames and
//! the policies' state come in; [`Finding`]s come out, one for all that a pod tries towards one destination.
//!
//! An attempt is the first packet of a connection, of a datagram flow, or an echo request, at the sender. Its outcome is
//! settled [`Config::settle_nanos`] after its last packet from what was seen until then: an ICMP error or an NFLOG record
//! that quotes it, the uplink's silence, or the packet itself further on its way (facts, section 3.3). Names come from
//! the answers that the pod got from the DNS, from the query itself, from a ClientHello or from an HTTP request.

mod finding;
mod names;
mod packet;
pub mod session;
mod sni;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;

use foldhash::{HashMap, HashMapExt as _, HashSet};

pub use finding::{
    Destination, EVIDENCE, Evidence, Finding, FindingId, Judged, NAMES, Name, NameSource, Outcome, PodName, SCHEMA, Witness,
    protocol_name,
};
pub use names::Asked;

use self::names::Names;
use self::packet::{Key, Kind, Quote};
use crate::flow::datagram::{Datagram, datagram};
use crate::frame::{Frame, Hook, Interface, LinkType, Loss, Timestamp};
use crate::http::Exchange;
use crate::policy::compiled::{SCTP, TCP, UDP, address};
use crate::verdict::explain::Question;
use crate::verdict::{State, Word};

/// Limits and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Findings that are kept; attempts towards further destinations are counted.
    pub findings: usize,
    /// Attempts that are remembered at once; the oldest is settled early.
    pub attempts: usize,
    /// How long after its last packet an attempt is settled (ns). Netfilter hands its log over with a delay of up to a
    /// second.
    pub settle_nanos: u64,
    /// How long an attempt is remembered, so that what is sent again is known (ns).
    pub remember_nanos: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { findings: 4_096, attempts: 16_384, settle_nanos: 2_500_000_000, remember_nanos: 130_000_000_000 }
    }
}

/// What an interface is to the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Leads out of the node.
    Uplink,
    /// Joins pods; what passes here is still on its way.
    Bridge,
    /// Leads to one pod.
    Pod,
    /// Not known.
    Unknown,
}

impl Role {
    /// By the name, as CNI plugins and systemd give it.
    fn of(name: &str) -> Self {
        let begins = |starts: &[&str]| starts.iter().any(|s| name.starts_with(s));
        if begins(&["veth", "cali", "lxc", "tap"]) {
            Self::Pod
        } else if begins(&["cni", "cbr", "br-", "docker", "kube-bridge", "flannel", "any", "lo", "nflog"]) {
            Self::Bridge
        } else if begins(&["eth", "en", "wl", "ww", "bond", "uplink"]) {
            Self::Uplink
        } else {
            Self::Unknown
        }
    }
}

/// What was counted beside the findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Frames looked at.
    pub frames: u64,
    /// Attempts that the policies do not allow.
    pub attempts: u64,
    /// Attempts for whose destination there was no place among the findings.
    pub not_kept: u64,
    /// Attempts towards a Service whose endpoints the policies treat differently: not judged here.
    pub mixed: u64,
    /// Frames that the capture lost: the uplink's silence proves nothing where there are any.
    pub lost: u64,
}

/// A packet that fedisniff's own program denied, or would have denied.
#[derive(Clone, Copy, Debug)]
pub struct KernelEvent<'a> {
    /// When.
    pub time: Timestamp,
    /// The pod at whose veth it was seen, `namespace/name`; `None` where it is not known.
    pub pod: Option<&'a str>,
    /// Source address and port, as the hook saw them.
    pub source: (IpAddr, u16),
    /// Destination address and port, as the hook saw them: at the bridge after translation.
    pub destination: (IpAddr, u16),
    /// The IP protocol; 0 where the frame is no IP.
    pub protocol: u8,
    /// The interface.
    pub interface: Option<&'a str>,
    /// Why, as one word.
    pub reason: &'a str,
    /// The policies that isolate the pod.
    pub policies: &'a [String],
    /// It was dropped.
    pub dropped: bool,
    /// Like ones that were not told since the last of the kind.
    pub untold: u32,
}

#[derive(Debug)]
struct Attempt {
    finding: usize,
    /// [`Witness::bit`]s.
    witnesses: u16,
    last: Timestamp,
    /// Where its first packet was seen, and its sequence number.
    interface: Interface,
    sequence: Option<u32>,
    settled: bool,
    first: Timestamp,
    /// Its entries in [`Auditor::aims`].
    aims: Vec<(IpAddr, u8, u16)>,
}

/// What is known of an interface.
#[derive(Debug)]
struct Known {
    name: Box<str>,
    role: Role,
}

/// The audit of one node or capture.
#[derive(Debug)]
pub struct Auditor {
    config: Config,
    state: State,
    now: Timestamp,
    interfaces: HashMap<Interface, Known>,
    findings: Vec<Finding>,
    places: HashMap<(IpAddr, Destination), usize>,
    /// The findings of each pod, by its address.
    of_pod: HashMap<IpAddr, Vec<usize>>,
    /// Findings that changed since [`Self::take_changed`].
    changed: HashSet<usize>,
    attempts: HashMap<Key, Attempt>,
    /// Attempts by when they are due, and by when they are forgotten; entries that are out of date are skipped.
    due: VecDeque<(Timestamp, Key)>,
    forget: VecDeque<(Timestamp, Key)>,
    /// Attempts by destination, protocol and port, also where the node translates to: what the uplink shows has another
    /// source.
    aims: HashMap<(IpAddr, u8, u16), Key>,
    /// Datagram flows, by who began them: two generations.
    opened: HashSet<Key>,
    opened_before: HashSet<Key>,
    judged: HashMap<(IpAddr, IpAddr, u8, u16), Option<Judgement>>,
    names: Names,
    counters: Counters,
}

/// How an attempt begins.
struct Begun {
    time: Timestamp,
    interface: Interface,
    /// Of a SYN.
    sequence: Option<u32>,
    /// In words.
    what: String,
}

/// A verdict that is no plain permission.
#[derive(Clone, Debug)]
struct Judgement {
    judged: Judged,
    pod: Box<str>,
    /// Where it goes after translation.
    destinations: Vec<(IpAddr, u16)>,
}

/// Verdicts and datagram flows that are remembered.
const REMEMBERED: usize = 32_768;
/// A pod's findings that an exchange is compared with: the latest.
const RECENT: usize = 64;

impl Auditor {
    /// For the policies of this state of the cluster.
    pub fn new(state: State, config: Config) -> Self {
        Self {
            config,
            state,
            now: Timestamp::default(),
            interfaces: HashMap::new(),
            findings: Vec::new(),
            places: HashMap::new(),
            of_pod: HashMap::new(),
            changed: HashSet::default(),
            attempts: HashMap::new(),
            due: VecDeque::new(),
            forget: VecDeque::new(),
            aims: HashMap::new(),
            opened: HashSet::default(),
            opened_before: HashSet::default(),
            judged: HashMap::new(),
            names: Names::new(),
            counters: Counters::default(),
        }
    }

    /// The cluster or its policies changed: what comes from now on is judged by these.
    pub fn set_state(&mut self, state: State) {
        self.state = state;
        self.judged.clear();
    }

    /// The state that is judged by.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Names an interface. What it is (a pod's, a bridge, an uplink) follows from the name.
    pub fn name_interface(&mut self, interface: Interface, name: &str) {
        self.interfaces.insert(interface, Known { name: name.into(), role: Role::of(name) });
    }

    /// The names of the uplinks that are watched.
    pub fn uplinks(&self) -> impl Iterator<Item = &str> {
        self.interfaces.values().filter(|k| k.role == Role::Uplink).map(|k| &*k.name)
    }

    /// The source lost frames.
    pub fn lost(&mut self, loss: &Loss) {
        self.counters.lost = self.counters.lost.saturating_add(loss.frames);
    }

    /// What was found so far, in the order in which it began.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The findings that are new, or changed, since this was asked last; in their order.
    pub fn take_changed(&mut self) -> Vec<&Finding> {
        let mut changed: Vec<usize> = self.changed.drain().collect();
        changed.sort_unstable();
        changed.into_iter().filter_map(|at| self.findings.get(at)).collect()
    }

    /// What pods asked the DNS for, and how many questions were too many to keep.
    pub fn ledger(&self) -> (&[Asked], u64) {
        self.names.ledger()
    }

    /// The lines of the ledger that are new, or changed, since this was asked last; in their order.
    pub fn take_asked(&mut self) -> Vec<&Asked> {
        self.names.take_changed()
    }

    /// What found no place among findings and names.
    pub fn not_kept(&self) -> u64 {
        self.counters.not_kept.saturating_add(self.names.ledger().1)
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// When [`Self::expire`] has something to do next, in capture time.
    pub fn deadline(&self) -> Option<Timestamp> {
        let times = [self.due.front(), self.forget.front()];
        times.into_iter().flatten().map(|(time, _)| *time).min()
    }

    /// Time has passed.
    pub fn expire(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some((_, key)) = self.due.pop_front_if(|(time, _)| *time <= self.now) {
            self.settle(&key, false);
        }
        while let Some((_, key)) = self.forget.pop_front_if(|(time, _)| *time <= self.now) {
            let remember = self.config.remember_nanos;
            match self.attempts.get(&key).map(|attempt| attempt.last.plus_nanos(remember)) {
                Some(until) if until > self.now => self.forget.push_back((until, key)),
                _ => self.drop_attempt(&key),
            }
        }
    }

    /// The capture ended: what is open is settled with what was seen.
    pub fn finish(&mut self) {
        while let Some((_, key)) = self.due.pop_front() {
            self.settle(&key, true);
        }
    }

    /// Takes a frame.
    pub fn push(&mut self, frame: &Frame<'_>) {
        self.counters.frames = self.counters.frames.saturating_add(1);
        if frame.time > self.now {
            self.expire(frame.time);
        }
        let Some(packet) = datagram(frame) else { return };
        let Some((key, kind)) = packet::read(&packet) else { return };
        if frame.link == LinkType::Nflog {
            let detail = format!("netfilter logged the refused packet to {}", key.destination);
            return self.witness(&key, frame.time, Witness::Nflog, packet.interface, detail);
        }
        let role = self.interfaces.get(&packet.interface).map_or(Role::Unknown, |known| known.role);
        match kind {
            Kind::Housekeeping => {}
            Kind::Error(quote) => self.error(frame, &packet, &quote),
            _ if role == Role::Uplink => self.at_uplink(frame.time, &packet, key, kind),
            // Nothing here waits for a segment, nearly always.
            Kind::Segment { .. } | Kind::EchoReply if self.attempts.is_empty() => {}
            Kind::Segment { reset, payload } => self.segment(frame.time, packet.interface, key, reset, payload),
            Kind::EchoReply => self.answered(frame.time, packet.interface, key, "an echo reply"),
            Kind::Udp(payload) => self.udp(frame, packet.interface, role, key, payload),
            Kind::Opening(sequence) => self.opening(frame, packet.interface, role, key, Some(sequence)),
            Kind::Echo | Kind::Other => self.opening(frame, packet.interface, role, key, None),
        }
    }

    /// fedisniff's program in the kernel denied a packet, or says that it would.
    pub fn kernel(&mut self, event: &KernelEvent<'_>) {
        if event.time > self.now {
            self.expire(event.time);
        }
        let ports = matches!(event.protocol, TCP | UDP | SCTP);
        let (from, to) = if ports { (event.source.1, event.destination.1) } else { (0, 0) };
        let (source, destination) = (event.source.0, event.destination.0);
        let key = Key { source, destination, protocol: event.protocol, from, to };
        let more = u64::from(event.untold);
        match self.attempts.get_mut(&key) {
            Some(attempt) => {
                attempt.last = attempt.last.max(event.time);
                let at = attempt.finding;
                if let Some(finding) = self.findings.get_mut(at) {
                    // What was dropped is seen here alone; what passed was counted when it was copied.
                    let packets = if event.dropped { more.saturating_add(1) } else { 0 };
                    finding.packets = finding.packets.saturating_add(packets);
                    finding.last = finding.last.max(event.time);
                    self.changed.insert(at);
                }
            }
            None => {
                let judgement = self.judge(&key).cloned().unwrap_or_else(|| Judgement {
                    judged: Judged {
                        word: Word::Deny,
                        isolated_by: event.policies.to_vec(),
                        reason: event.reason.to_owned(),
                        kube_router: "unknown".into(),
                        kube_router_reason: None,
                    },
                    pod: event.pod.unwrap_or("unknown pod").into(),
                    destinations: Vec::new(),
                });
                let what = format!("{} [{}]", if event.dropped { "dropped" } else { "would be dropped" }, event.reason);
                let begun = Begun { time: event.time, interface: Interface::Unknown, sequence: None, what };
                let name = event.interface.map(Into::into);
                let Some(at) = self.begin(key, judgement, begun, name) else { return };
                if let Some(finding) = self.findings.get_mut(at) {
                    finding.packets = finding.packets.saturating_add(more);
                }
            }
        }
        if event.dropped {
            let detail = format!("fedisniff dropped it [{}]", event.reason);
            self.witness(&key, event.time, Witness::Program, Interface::Unknown, detail);
        }
    }

    /// An exchange was told: it may have gone through a hole, or been under way while its server tried something.
    pub fn exchange(&mut self, exchange: &Exchange) {
        if self.findings.is_empty() {
            return;
        }
        let (client, server) = (exchange.ends.client, exchange.ends.server);
        let aim = Destination { address: server.ip(), protocol: TCP, port: Some(server.port()) };
        if let Some(at) = self.places.get(&(client.ip(), aim)).copied()
            && let Some(finding) = self.findings.get_mut(at)
        {
            if finding.exchanges.len() < NAMES {
                finding.exchanges.push(exchange.id);
            }
            let host = exchange.request.as_ref().and_then(|r| r.message.headers.text("host"));
            if let Some(host) = host {
                finding.name(&host.chars().filter(|c| !c.is_control()).take(255).collect::<String>(), NameSource::Host, exchange.started);
            }
            self.changed.insert(at);
        }
        let of_pod = self.of_pod.get(&server.ip()).map(Vec::as_slice).unwrap_or_default();
        for at in of_pod.iter().rev().take(RECENT) {
            let Some(finding) = self.findings.get_mut(*at) else { continue };
            let meanwhile = finding.first <= exchange.ended && exchange.started <= finding.last;
            if meanwhile && finding.during.len() < NAMES {
                finding.during.push(exchange.id);
                self.changed.insert(*at);
            }
        }
    }

    fn interface_name(&self, interface: Interface) -> Option<Box<str>> {
        self.interfaces.get(&interface).map(|known| known.name.clone())
    }

    /// Whether an address is of the cluster: a pod's, a node's or a Service's.
    fn of_cluster(&self, ip: IpAddr) -> bool {
        let address = address(ip);
        let cluster = &self.state.cluster;
        cluster.pod_at(&address).is_some()
            || cluster.node_addresses.contains_key(&address)
            || cluster.service_at(&address).is_some()
    }

    fn pod_name(&self, ip: IpAddr) -> Option<String> {
        self.state.cluster.pod_at(&address(ip)).map(|(_, pod)| pod.full_name())
    }

    fn error(&mut self, frame: &Frame<'_>, packet: &Datagram<'_>, quote: &Quote<'_>) {
        let Some((key, _)) = packet::read(&quote.inner) else { return };
        let (kind, code) = quote.kind;
        if packet.source == key.destination && !self.of_node(packet.source) {
            let detail = format!("{} answers with ICMP type {kind} code {code}: it got there", packet.source);
            return self.witness(&key, frame.time, Witness::Answered, packet.interface, detail);
        }
        let what = match (packet.source.is_ipv4(), kind, code) {
            (true, 3, 3) | (false, 1, 4) => "port unreachable".to_owned(),
            (true, 3, 9 | 10 | 13) | (false, 1, 1 | 5) => "administratively prohibited".to_owned(),
            (true, 3, 0 | 1) | (false, 1, 0 | 3) => "no route".to_owned(),
            _ => format!("type {kind} code {code}"),
        };
        let detail = format!("ICMP {what} from {}, quoting the packet", packet.source);
        self.witness(&key, frame.time, Witness::Icmp, packet.interface, detail);
    }

    fn of_node(&self, ip: IpAddr) -> bool {
        self.state.cluster.node_addresses.contains_key(&address(ip))
    }

    /// What leaves the node. Its source may be the node's, after masquerading.
    fn at_uplink(&mut self, time: Timestamp, packet: &Datagram<'_>, key: Key, kind: Kind<'_>) {
        if let Kind::Udp(payload) = kind
            && key.to == 53
            && let Some(message) = names::read(payload).filter(|m| !m.response)
        {
            let who = self.pod_name(key.source).unwrap_or_else(|| format!("node {}", key.source));
            self.names.asked(key.source, &who, &message, true, time);
        }
        let found = if self.attempts.contains_key(&key) {
            Some(key)
        } else {
            self.aims.get(&(key.destination, key.protocol, key.port().unwrap_or_default())).copied()
        };
        if let Some(attempt) = found {
            let detail = format!("left the node, from {} to {}", key.source, key.destination);
            self.witness(&attempt, time, Witness::Uplink, packet.interface, detail);
        }
    }

    fn segment(&mut self, time: Timestamp, interface: Interface, key: Key, reset: bool, payload: &[u8]) {
        let back = key.reverse();
        if self.attempts.contains_key(&back) {
            if reset {
                return self.witness(&back, time, Witness::Reset, interface, "the connection was reset");
            }
            return self.answered(time, interface, key, "a TCP segment came back");
        }
        if let Some(attempt) = self.attempts.get(&key) {
            let at = attempt.finding;
            if let Some(name) = sni::name(payload)
                && let Some(finding) = self.findings.get_mut(at)
            {
                finding.name(&name, NameSource::Sni, time);
                self.changed.insert(at);
            }
        }
    }

    fn answered(&mut self, time: Timestamp, interface: Interface, key: Key, what: &str) {
        let detail = format!("{what} from {}", key.source);
        self.witness(&key.reverse(), time, Witness::Answered, interface, detail);
    }

    fn udp(&mut self, frame: &Frame<'_>, interface: Interface, role: Role, key: Key, payload: &[u8]) {
        let back = key.reverse();
        let message = (key.from == 53 || key.to == 53).then(|| names::read(payload)).flatten();
        if let Some(message) = &message {
            if message.response && self.pod_name(key.destination).is_some() {
                self.names.told(key.destination, message, frame.time);
            } else if !message.response
                && let Some(pod) = self.pod_name(key.source)
                && !self.known_flow(&key)
            {
                let outside = !self.of_cluster(key.destination) && !is_near(key.destination);
                // A query that the policies forbid leaves only if somebody sees it leave.
                let outside = outside && self.judge(&key).is_none_or(|j| j.judged.word != Word::Deny);
                self.names.asked(key.source, &pod, message, outside, frame.time);
            }
        }
        if self.attempts.contains_key(&back) {
            return self.answered(frame.time, interface, key, "a datagram came back");
        }
        // Replies are no attempts; a DNS answer says itself that it is one.
        if self.known_flow(&back) || message.as_ref().is_some_and(|m| m.response) {
            return;
        }
        let new = self.remember_flow(key);
        if new || self.attempts.contains_key(&key) {
            self.opening(frame, interface, role, key, None);
        }
        if let Some(message) = &message
            && let Some(at) = self.attempts.get(&key).map(|attempt| attempt.finding)
            && let Some(finding) = self.findings.get_mut(at)
        {
            for (name, _) in &message.questions {
                finding.name(name, NameSource::Query, frame.time);
            }
        }
    }

    fn known_flow(&self, key: &Key) -> bool {
        self.opened.contains(key) || self.opened_before.contains(key)
    }

    /// Remembers who began a datagram flow; false when it was known.
    fn remember_flow(&mut self, key: Key) -> bool {
        let new = !self.known_flow(&key);
        if self.opened.len() >= REMEMBERED {
            self.opened_before = std::mem::take(&mut self.opened);
        }
        self.opened.insert(key);
        new
    }

    /// What the policies say of a packet, where they do not simply let it pass.
    fn judge(&mut self, key: &Key) -> Option<&Judgement> {
        if self.judged.len() >= REMEMBERED {
            self.judged.clear();
        }
        let short = (key.source, key.destination, key.protocol, key.to);
        if !self.judged.contains_key(&short) {
            let judgement = self.judge_anew(key);
            self.judged.insert(short, judgement);
        }
        self.judged.get(&short)?.as_ref()
    }

    fn judge_anew(&mut self, key: &Key) -> Option<Judgement> {
        let pod = self.pod_name(key.source)?;
        let icmp = matches!(key.protocol, packet::ICMP | packet::ICMPV6);
        let kind = u8::try_from(key.to).ok().filter(|kind| icmp && *kind != 0);
        let question = Question::of(key.source, key.destination, key.protocol, key.port()).with_icmp_type(kind);
        let explanation = self.state.explain(&question).ok()?;
        match explanation.verdict {
            Word::Allow => return None,
            Word::Mixed => {
                self.counters.mixed = self.counters.mixed.saturating_add(1);
                return None;
            }
            Word::Deny | Word::Undefined => {}
        }
        // What the specification leaves open is only of interest where somebody meant to isolate.
        let ends = [&explanation.egress, &explanation.ingress];
        let guilty = ends.into_iter().find(|end| end.verdict == explanation.verdict)?;
        if explanation.verdict == Word::Undefined && ends.iter().all(|end| end.isolated_by.is_empty()) {
            return None;
        }
        let destinations = explanation
            .destinations
            .iter()
            .filter_map(|text| text.parse::<std::net::SocketAddr>().ok().map(|a| (a.ip(), a.port())))
            .take(NAMES)
            .collect();
        Some(Judgement {
            judged: Judged {
                word: explanation.verdict,
                isolated_by: guilty.isolated_by.clone(),
                reason: guilty.reason.clone(),
                kube_router: explanation.kube_router.verdict.into(),
                kube_router_reason: explanation.kube_router.reason.clone(),
            },
            pod: pod.into(),
            destinations,
        })
    }

    /// The first packet of something, or the same again.
    fn opening(&mut self, frame: &Frame<'_>, interface: Interface, role: Role, key: Key, sequence: Option<u32>) {
        if let Some(attempt) = self.attempts.get_mut(&key) {
            let elsewhere = attempt.interface != interface;
            let same = sequence.is_none() || attempt.sequence == sequence;
            if elsewhere && same {
                // The packet itself, further on.
                let to_pod = frame.hook == Some(Hook::Egress) || (frame.hook.is_none() && role == Role::Pod);
                if to_pod {
                    let detail = format!("the packet itself, on its way to {}", key.destination);
                    self.witness(&key, frame.time, Witness::Arrived, interface, detail);
                }
                return;
            }
            let new_connection = !same;
            attempt.sequence = sequence;
            attempt.last = attempt.last.max(frame.time);
            let (at, settled) = (attempt.finding, std::mem::take(&mut attempt.settled));
            if settled || new_connection {
                attempt.witnesses &= Witness::Attempt.bit();
            }
            self.due.push_back((frame.time.plus_nanos(self.config.settle_nanos), key));
            if let Some(finding) = self.findings.get_mut(at) {
                finding.packets = finding.packets.saturating_add(1);
                finding.attempts = finding.attempts.saturating_add(u64::from(new_connection));
                finding.last = finding.last.max(frame.time);
                self.changed.insert(at);
            }
            return;
        }
        // At the receiver's end nothing begins.
        if frame.hook == Some(Hook::Egress) {
            return;
        }
        let Some(judgement) = self.judge(&key).cloned() else { return };
        let destination = Destination { address: key.destination, protocol: key.protocol, port: key.port() };
        let what = match (key.protocol, sequence) {
            (_, Some(_)) => format!("SYN to {destination}, from port {}", key.from),
            (UDP, None) => format!("datagram to {destination}, from port {}", key.from),
            _ => format!("packet to {destination}"),
        };
        let name = self.interface_name(interface);
        self.begin(key, judgement, Begun { time: frame.time, interface, sequence, what }, name);
    }

    /// A new attempt. `None` where there is no place for what it is about.
    fn begin(&mut self, key: Key, judgement: Judgement, begun: Begun, name: Option<Box<str>>) -> Option<usize> {
        let Begun { time, interface, sequence, what } = begun;
        self.counters.attempts = self.counters.attempts.saturating_add(1);
        let destination = Destination { address: key.destination, protocol: key.protocol, port: key.port() };
        let place = (key.source, destination);
        let at = match self.places.get(&place) {
            Some(at) => *at,
            None if self.findings.len() >= self.config.findings => {
                self.counters.not_kept = self.counters.not_kept.saturating_add(1);
                return None;
            }
            None => {
                let at = self.findings.len();
                self.findings.push(Finding {
                    schema: SCHEMA.into(),
                    id: FindingId::new(time, key.source, destination),
                    pod: PodName { name: judgement.pod.clone(), address: key.source },
                    destination,
                    names: Vec::new(),
                    verdict: judgement.judged.clone(),
                    outcome: Outcome::Unknown,
                    first: time,
                    last: time,
                    attempts: 0,
                    packets: 0,
                    evidence: Vec::new(),
                    evidence_more: 0,
                    during: Vec::new(),
                    exchanges: Vec::new(),
                    settled: false,
                });
                self.places.insert(place, at);
                self.of_pod.entry(key.source).or_default().push(at);
                at
            }
        };
        if let Some(finding) = self.findings.get_mut(at) {
            finding.attempts = finding.attempts.saturating_add(1);
            finding.packets = finding.packets.saturating_add(1);
            finding.first = finding.first.min(time);
            finding.last = finding.last.max(time);
            if let Some((known, time)) = self.names.of(key.source, key.destination) {
                finding.name(known, NameSource::Dns, time);
            }
            finding.witness(time, Witness::Attempt, name.as_deref(), what);
        }
        self.changed.insert(at);
        if self.attempts.len() >= self.config.attempts
            && let Some((_, oldest)) = self.forget.pop_front()
        {
            self.settle(&oldest, true);
            self.drop_attempt(&oldest);
        }
        let aims = std::iter::once((key.destination, key.to)).chain(judgement.destinations.iter().copied());
        let aims: Vec<_> =
            aims.map(|(ip, port)| (ip, key.protocol, if key.port().is_some() { port } else { 0 })).collect();
        self.aims.extend(aims.iter().map(|aim| (*aim, key)));
        let attempt = Attempt {
            finding: at,
            witnesses: Witness::Attempt.bit(),
            last: time,
            interface,
            sequence,
            settled: false,
            first: time,
            aims,
        };
        self.attempts.insert(key, attempt);
        self.due.push_back((time.plus_nanos(self.config.settle_nanos), key));
        self.forget.push_back((time.plus_nanos(self.config.remember_nanos), key));
        Some(at)
    }

    fn drop_attempt(&mut self, key: &Key) {
        let Some(attempt) = self.attempts.remove(key) else { return };
        for aim in attempt.aims {
            // A later attempt of the same aim may have taken the place.
            if self.aims.get(&aim) == Some(key) {
                self.aims.remove(&aim);
            }
        }
    }

    /// Somebody says something of an attempt.
    fn witness(
        &mut self,
        key: &Key,
        time: Timestamp,
        witness: Witness,
        interface: Interface,
        detail: impl Into<Box<str>>,
    ) {
        let name = self.interface_name(interface);
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let new = attempt.witnesses & witness.bit() == 0;
        attempt.witnesses |= witness.bit();
        let (at, settled) = (attempt.finding, attempt.settled);
        if !new {
            return;
        }
        if let Some(finding) = self.findings.get_mut(at) {
            finding.witness(time, witness, name.as_deref(), detail);
            self.changed.insert(at);
        }
        // A leak is told at once; another late witness may change what was settled.
        if witness.saw_it_pass() || settled {
            if let Some(attempt) = self.attempts.get_mut(key) {
                attempt.settled = false;
            }
            self.settle(key, true);
        }
    }

    /// Says what became of an attempt; `now` also if more could still come.
    fn settle(&mut self, key: &Key, now: bool) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let due = attempt.last.plus_nanos(self.config.settle_nanos);
        if attempt.settled || (!now && due > self.now) {
            return;
        }
        attempt.settled = true;
        let passed = attempt.witnesses & (Witness::Uplink.bit() | Witness::Arrived.bit()) != 0;
        let silent = self.counters.lost == 0 && !passed;
        let uplinks: Vec<&str> = if silent {
            self.interfaces.values().filter(|k| k.role == Role::Uplink).map(|k| &*k.name).collect()
        } else {
            Vec::new()
        };
        let mut said = None;
        if !uplinks.is_empty() {
            if attempt.witnesses & Witness::UplinkSilent.bit() == 0 {
                said = Some(format!("uplink {}: nothing of it passed, and nothing was lost", uplinks.join(", ")));
            }
            attempt.witnesses |= Witness::UplinkSilent.bit();
        }
        let outcome = finding::outcome(attempt.witnesses);
        let (at, time) = (attempt.finding, attempt.last.max(attempt.first));
        let Some(finding) = self.findings.get_mut(at) else { return };
        let told = finding.evidence.iter().any(|e| e.witness == Witness::UplinkSilent);
        if let Some(said) = said.filter(|_| !told) {
            finding.witness(time, Witness::UplinkSilent, None, said);
        }
        // The first that is settled decides, then the worst.
        finding.outcome = if finding.settled { finding.outcome.max(outcome) } else { outcome };
        finding.settled = true;
        self.changed.insert(at);
    }
}

/// An address of the link itself: the name server of a node without a cluster's objects is there.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast(),
    }
}
