//! Names: what pods asked the DNS for (RFC 1035), what they were told, and what of it left the cluster.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::{HashMap, HashMapExt as _, HashSet};
use serde::{Deserialize, Serialize};
use simple_dns::rdata::RData;
use simple_dns::{Packet, PacketFlag, QTYPE, RCODE};

use crate::frame::{Timestamp, rfc3339};

/// Addresses that pods were told of: the oldest go.
const ANSWERS: usize = 8_192;
/// Names in the ledger; those that come later are counted.
const LEDGER: usize = 4_096;
/// A server that is asked asks further within this time (ns).
const FORWARDED: u64 = 5_000_000_000;
/// Questions and answers of one message that are looked at.
const RECORDS: usize = 64;

/// A DNS message, as far as an audit reads it.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) response: bool,
    /// Name and type of each question.
    pub(super) questions: Vec<(Box<str>, Box<str>)>,
    addresses: Vec<IpAddr>,
    /// The answer in words.
    answer: Box<str>,
}

/// Reads a message; `None` where it is none.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    let packet = Packet::parse(bytes).ok()?;
    let mut message = Message { response: packet.has_flags(PacketFlag::RESPONSE), ..Message::default() };
    for question in packet.questions.iter().take(RECORDS) {
        let kind = match question.qtype {
            QTYPE::TYPE(kind) => format!("{kind:?}"),
            other => format!("{other:?}"),
        };
        message.questions.push((shown(&question.qname.to_string()), kind.into()));
    }
    if message.questions.is_empty() {
        return None;
    }
    if message.response {
        for record in packet.answers.iter().take(RECORDS) {
            match &record.rdata {
                RData::A(a) => message.addresses.push(IpAddr::V4(Ipv4Addr::from(a.address))),
                RData::AAAA(a) => message.addresses.push(IpAddr::V6(Ipv6Addr::from(a.address))),
                _ => {}
            }
        }
        message.answer = match (packet.rcode(), message.addresses.first()) {
            (_, Some(first)) if message.addresses.len() == 1 => first.to_string().into(),
            (_, Some(first)) => format!("{first} and {} more", message.addresses.len().saturating_sub(1)).into(),
            (RCODE::NoError, None) if packet.answers.is_empty() => "no such record".into(),
            (RCODE::NoError, None) => format!("{} records", packet.answers.len()).into(),
            (RCODE::NameError, None) => "NXDOMAIN".into(),
            (RCODE::ServerFailure, None) => "SERVFAIL".into(),
            (RCODE::Refused, None) => "REFUSED".into(),
            (other, None) => format!("{other:?}").into(),
        };
    }
    Some(message)
}

/// A name as it may be shown: lower case (RFC 4343), without the last dot, without what a terminal would obey.
fn shown(name: &str) -> Box<str> {
    name.trim_end_matches('.')
        .chars()
        .take(255)
        .map(|c| if c.is_control() || !c.is_ascii() { '\u{fffd}' } else { c.to_ascii_lowercase() })
        .collect::<String>()
        .into()
}

/// A line of the ledger: a name that a pod asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Who asked: `namespace/name`.
    pub pod: Box<str>,
    /// The name.
    pub name: Box<str>,
    /// The record type: `A`, `AAAA` ...
    #[serde(rename = "type")]
    pub kind: Box<str>,
    /// How often.
    pub times: u64,
    /// The last answer in words; `null` without one.
    pub answer: Option<Box<str>>,
    /// The question left the cluster, as far as was seen: to a server outside, by the pod or by the server that it asked.
    pub left: bool,
    /// The first question.
    #[serde(with = "rfc3339")]
    pub first: Timestamp,
    /// The last question.
    #[serde(with = "rfc3339")]
    pub last: Timestamp,
}

/// The names.
#[derive(Debug, Default)]
pub(super) struct Names {
    told: HashMap<(IpAddr, IpAddr), (Box<str>, Timestamp)>,
    order: VecDeque<(IpAddr, IpAddr)>,
    ledger: Vec<Asked>,
    places: HashMap<(IpAddr, Box<str>, Box<str>), usize>,
    /// By name and type, whoever asked.
    askers: HashMap<(Box<str>, Box<str>), Vec<usize>>,
    more: u64,
    /// Lines that changed since [`Self::take_changed`].
    changed: HashSet<usize>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { told: HashMap::new(), ..Self::default() }
    }

    /// The name under which a pod knows an address.
    pub(super) fn of(&self, pod: IpAddr, address: IpAddr) -> Option<(&str, Timestamp)> {
        self.told.get(&(pod, address)).map(|(name, time)| (&**name, *time))
    }

    /// The ledger, and how many questions found no place in it.
    pub(super) fn ledger(&self) -> (&[Asked], u64) {
        (&self.ledger, self.more)
    }

    /// The lines that are new, or changed, since this was asked last; in their order.
    pub(super) fn take_changed(&mut self) -> Vec<&Asked> {
        let mut changed: Vec<usize> = self.changed.drain().collect();
        changed.sort_unstable();
        changed.into_iter().filter_map(|at| self.ledger.get(at)).collect()
    }

    /// A pod asks; `outside` when it asks a server that is not of the cluster.
    pub(super) fn asked(&mut self, pod: IpAddr, pod_name: &str, message: &Message, outside: bool, now: Timestamp) {
        for (name, kind) in &message.questions {
            if outside && let Some(askers) = self.askers.get(&(name.clone(), kind.clone())) {
                // For whom it asks: those who asked it a moment ago.
                for at in askers {
                    if let Some(asked) = self.ledger.get_mut(*at)
                        && now.nanos_since(asked.last) <= FORWARDED
                    {
                        asked.left = true;
                        self.changed.insert(*at);
                    }
                }
            }
            let key = (pod, name.clone(), kind.clone());
            match self.places.get(&key).copied() {
                Some(at) => {
                    let Some(asked) = self.ledger.get_mut(at) else { continue };
                    asked.times = asked.times.saturating_add(1);
                    asked.last = now;
                    asked.left |= outside;
                    self.changed.insert(at);
                }
                None if self.ledger.len() >= LEDGER => self.more = self.more.saturating_add(1),
                None => {
                    let at = self.ledger.len();
                    self.ledger.push(Asked {
                        pod: pod_name.into(),
                        name: name.clone(),
                        kind: kind.clone(),
                        times: 1,
                        answer: None,
                        left: outside,
                        first: now,
                        last: now,
                    });
                    self.changed.insert(at);
                    self.places.insert(key, at);
                    self.askers.entry((name.clone(), kind.clone())).or_default().push(at);
                }
            }
        }
    }

    /// A pod is told.
    pub(super) fn told(&mut self, pod: IpAddr, message: &Message, now: Timestamp) {
        let Some((name, _)) = message.questions.first() else { return };
        for (name, kind) in &message.questions {
            if let Some(at) = self.places.get(&(pod, name.clone(), kind.clone()))
                && let Some(asked) = self.ledger.get_mut(*at)
            {
                asked.answer = Some(message.answer.clone());
                self.changed.insert(*at);
            }
        }
        for address in &message.addresses {
            let key = (pod, *address);
            if self.told.insert(key, (name.clone(), now)).is_none() {
                self.order.push_back(key);
                if self.order.len() > ANSWERS
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.told.remove(&oldest);
                }
            }
        }
    }
}
