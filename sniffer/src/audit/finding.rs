//! What an audit finds: what an isolated pod tried, what the policies say of it, and what became of it.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::frame::{Timestamp, rfc3339};
use crate::http::ExchangeId;
use crate::policy::compiled::{SCTP, TCP, UDP, address};
use crate::verdict::Word;

/// The schema of a finding in JSON.
pub const SCHEMA: &str = "fedisniff.finding/1";

/// Pieces of evidence that are kept with a finding; what comes later is counted.
pub const EVIDENCE: usize = 32;
/// Names, and exchanges, that are kept with a finding.
pub const NAMES: usize = 8;

/// What became of an attempt. Never guessed: see [`Witness`] for what each needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// fedisniff's own program dropped it.
    BlockedByFedisniff,
    /// Netfilter refused it, as kube-router has it do: at least two witnesses agree, and none saw it pass.
    BlockedByKubeRouter,
    /// Too few witnesses.
    Unknown,
    /// It arrived, or left the node: one witness who saw that is enough.
    Leaked,
}

impl Outcome {
    /// All, the worst last.
    pub const ALL: [Self; 4] = [Self::BlockedByFedisniff, Self::BlockedByKubeRouter, Self::Unknown, Self::Leaked];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::BlockedByFedisniff => "blocked by fedisniff",
            Self::BlockedByKubeRouter => "blocked by kube-router",
            Self::Unknown => "unknown",
            Self::Leaked => "leaked",
        }
    }
}

/// Who says something of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// The pod's packet itself, at its veth.
    Attempt,
    /// An ICMP error that quotes the packet, from the node (RFC 792; kube-router's REJECT sends port unreachable).
    Icmp,
    /// Netfilter's log of the refused packet (NFLOG).
    Nflog,
    /// The uplink was watched all the time, and nothing of it passed there.
    UplinkSilent,
    /// The connection was reset, by whom is not to be seen: no witness for either side.
    Reset,
    /// fedisniff's program dropped it.
    Program,
    /// It was seen at the uplink: it left the node.
    Uplink,
    /// It was seen on its way to the pod that it was for.
    Arrived,
    /// It was answered.
    Answered,
}

impl Witness {
    /// Whether it saw the packet go on.
    pub fn saw_it_pass(self) -> bool {
        matches!(self, Self::Uplink | Self::Arrived | Self::Answered)
    }

    /// Whether it speaks for a refusal by netfilter.
    fn for_refusal(self) -> bool {
        matches!(self, Self::Icmp | Self::Nflog | Self::UplinkSilent)
    }

    /// Its bit in a set.
    pub(super) fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

/// What follows from all that was said of an attempt: a set of [`Witness::bit`]s.
pub(super) fn outcome(witnesses: u16) -> Outcome {
    const ALL: [Witness; 9] = [
        Witness::Attempt,
        Witness::Icmp,
        Witness::Nflog,
        Witness::UplinkSilent,
        Witness::Reset,
        Witness::Program,
        Witness::Uplink,
        Witness::Arrived,
        Witness::Answered,
    ];
    let said = || ALL.into_iter().filter(|w| witnesses & w.bit() != 0);
    if said().any(Witness::saw_it_pass) {
        return Outcome::Leaked;
    }
    if witnesses & Witness::Program.bit() != 0 {
        return Outcome::BlockedByFedisniff;
    }
    // Silence alone is no witness that somebody refused: the packet may have been lost.
    let refused = witnesses & (Witness::Icmp.bit() | Witness::Nflog.bit()) != 0;
    if refused && said().filter(|w| w.for_refusal()).count() >= 2 {
        return Outcome::BlockedByKubeRouter;
    }
    Outcome::Unknown
}

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When.
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
    /// Who says it.
    pub witness: Witness,
    /// Where it was seen.
    pub interface: Option<Box<str>>,
    /// In words.
    pub detail: Box<str>,
}

/// How a name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameSource {
    /// The pod had asked for it, and the answer held the destination.
    Dns,
    /// The attempt itself asked for it: a DNS query.
    Query,
    /// The TLS ClientHello named it (RFC 6066 section 3).
    Sni,
    /// The HTTP request named it.
    Host,
}

/// A name of the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The name, without the last dot.
    pub name: Box<str>,
    /// How it is known.
    pub by: NameSource,
    /// When it was said.
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
}

/// Where an attempt was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Destination {
    /// The address, as the pod sent it.
    pub address: IpAddr,
    /// The protocol.
    #[serde(serialize_with = "protocol", deserialize_with = "protocol_number")]
    pub protocol: u8,
    /// The port; `null` where the protocol has none.
    pub port: Option<u16>,
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = protocol_name(self.protocol);
        match self.port {
            Some(port) => write!(f, "{}/{name}", std::net::SocketAddr::new(self.address, port)),
            None => write!(f, "{}/{name}", self.address),
        }
    }
}

/// A protocol's name, lower case, or its number.
pub fn protocol_name(protocol: u8) -> String {
    match protocol {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        SCTP => "sctp".to_owned(),
        1 => "icmp".to_owned(),
        58 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

/// The number of a protocol that [`protocol_name`] named.
fn protocol_number<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let name = <std::borrow::Cow<'_, str>>::deserialize(from)?;
    Ok(match &*name {
        "tcp" => TCP,
        "udp" => UDP,
        "sctp" => SCTP,
        "icmp" => 1,
        "icmpv6" => 58,
        other => other.parse().map_err(serde::de::Error::custom)?,
    })
}

fn protocol<S: Serializer>(protocol: &u8, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&protocol_name(*protocol))
}

/// The pod that tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// `namespace/name`.
    pub name: Box<str>,
    /// The address that it sent from.
    pub address: IpAddr,
}

/// What the policies say, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Deny, or undefined.
    pub word: Word,
    /// The policies that isolate the pod, `namespace/name`.
    pub isolated_by: Vec<String>,
    /// One sentence.
    pub reason: String,
    /// What kube-router is expected to do: `allow`, `deny` or `unknown`.
    pub kube_router: Box<str>,
    /// Why, where that differs.
    pub kube_router_reason: Option<String>,
}

/// All that one pod tried towards one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// [`SCHEMA`].
    pub schema: Box<str>,
    /// The same whenever the same traffic is read again.
    pub id: FindingId,
    /// Who.
    pub pod: PodName,
    /// Whereto.
    pub destination: Destination,
    /// Names of the destination, as far as known; the latest [`NAMES`].
    pub names: Vec<Name>,
    /// What the policies say.
    pub verdict: Judged,
    /// The worst of what became of the attempts.
    pub outcome: Outcome,
    /// The first packet.
    #[serde(with = "rfc3339")]
    pub first: Timestamp,
    /// The last packet.
    #[serde(with = "rfc3339")]
    pub last: Timestamp,
    /// Attempts: connections, datagram flows, echo requests.
    pub attempts: u64,
    /// Packets of them that the pod sent.
    pub packets: u64,
    /// What was seen, in order of time; the first [`EVIDENCE`].
    pub evidence: Vec<Evidence>,
    /// How much more there was.
    pub evidence_more: u64,
    /// Exchanges that were under way at the pod while it tried: what it may have broken.
    #[serde(serialize_with = "ids", deserialize_with = "read_ids")]
    pub during: Vec<ExchangeId>,
    /// Exchanges that went through this hole.
    #[serde(serialize_with = "ids", deserialize_with = "read_ids")]
    pub exchanges: Vec<ExchangeId>,
    /// Whether the outcome of an attempt is settled already; until then it is unknown.
    pub settled: bool,
}

fn ids<S: Serializer>(ids: &[ExchangeId], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(ids.iter().map(ToString::to_string))
}

fn read_ids<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ExchangeId>, D::Error> {
    let texts = <Vec<std::borrow::Cow<'_, str>>>::deserialize(from)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

/// A finding's own name: its first packet's time, then a hash of pod and destination. Written, and sorted, as an
/// exchange's id is; the same traffic gives the same ids whenever it is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindingId(ExchangeId);

impl FindingId {
    pub(super) fn new(first: Timestamp, pod: IpAddr, destination: Destination) -> Self {
        use sha2::{Digest as _, Sha256};
        let mut hash = Sha256::new();
        for ip in [pod, destination.address] {
            hash.update(address(ip));
        }
        hash.update([destination.protocol, u8::from(destination.port.is_some())]);
        hash.update(destination.port.unwrap_or(0).to_be_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let hash = hash.iter().take(8).fold(0, |n: u64, octet| (n << 8) | u64::from(*octet));
        Self(ExchangeId::new(first, hash))
    }

    /// As the store's key: sorted by time.
    pub fn octets(self) -> [u8; 16] {
        self.0.0
    }

    /// The first packet's time.
    pub fn first(self) -> Timestamp {
        self.0.started()
    }
}

impl std::fmt::Display for FindingId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for FindingId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for FindingId {
    type Err = crate::http::NotAnId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for FindingId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FindingId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'_, str>>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Finding {
    pub(super) fn witness(
        &mut self,
        time: Timestamp,
        witness: Witness,
        interface: Option<&str>,
        detail: impl Into<Box<str>>,
    ) {
        if self.evidence.len() >= EVIDENCE {
            self.evidence_more = self.evidence_more.saturating_add(1);
            return;
        }
        let evidence = Evidence { time, witness, interface: interface.map(Into::into), detail: detail.into() };
        // Interfaces have slightly different clocks.
        let at = self.evidence.partition_point(|e| e.time <= time);
        self.evidence.insert(at, evidence);
    }

    pub(super) fn name(&mut self, name: &str, by: NameSource, time: Timestamp) {
        if self.names.iter().any(|n| *n.name == *name && n.by == by) {
            return;
        }
        if self.names.len() >= NAMES {
            self.names.remove(0);
        }
        self.names.push(Name { name: name.into(), by, time });
    }

    /// One sentence.
    pub fn sentence(&self) -> String {
        let name = self.names.first().map(|n| format!(" ({})", n.name)).unwrap_or_default();
        format!("{} tried to reach {}{name}: {}", self.pod.name, self.destination, self.outcome.name())
    }
}
