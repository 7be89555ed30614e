//! `policy explain`: a question as people type it comes in, the answer of `fedisniff.explain/1` goes out.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::Serialize;

use super::{EvaluatedOn, Facts, Source, State, Verdict, Word};
use crate::policy::compiled::{Address, SCTP, TCP, UDP, address, ip, is_ipv4};
use crate::policy::kube_router::{self, ICMP, ICMPV6, Outcome, Packet, Prediction, Sender};
use crate::policy::services::{Service, Translation};

/// The name of the answer's form.
pub const SCHEMA: &str = "fedisniff.explain/1";

/// An end of a connection as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Address(Address),
    Named { namespace: String, name: String },
    Node(String),
}

/// A port as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TypedPort {
    Number(u16),
    Name(String),
    /// The protocol has none.
    None,
}

/// What is asked: may this connect to that?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    from_text: String,
    to_text: String,
    from: Place,
    to: Place,
    port: TypedPort,
    protocol: u8,
    icmp_type: Option<u8>,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option} {text}: {reason}")]
pub struct Unanswerable {
    /// `--from` or `--to`.
    pub option: &'static str,
    /// What was typed.
    pub text: String,
    /// What is wrong with it, and what is expected.
    pub reason: String,
}

fn unanswerable(option: &'static str, text: &str, reason: impl Into<String>) -> Unanswerable {
    Unanswerable { option, text: text.into(), reason: reason.into() }
}

const TO_FORMS: &str = "expected IP:PORT/PROTO ([IP]:PORT/PROTO for IPv6), IP/ICMP, NS/POD:PORT/PROTO, \
                        NS/SERVICE:PORT/PROTO or node:NAME:PORT/PROTO, with TCP, UDP or SCTP as PROTO";

impl Question {
    /// Reads the two ends. `--from` is `NS/POD`, `node:NAME` or an address; `--to` is one of these (for a Service too)
    /// with `:PORT/TCP|UDP|SCTP`, or with `/ICMP` (`/ICMP:TYPE`) or another protocol's name or number.
    pub fn parse(from: &str, to: &str) -> Result<Self, Unanswerable> {
        let from_place = place("--from", from, from)?;
        let (head, protocol_text) = to.rsplit_once('/').ok_or_else(|| unanswerable("--to", to, TO_FORMS))?;
        let (protocol_text, kind_text) = match protocol_text.split_once(':') {
            Some((protocol, kind)) => (protocol, Some(kind)),
            None => (protocol_text, None),
        };
        let mut protocol =
            protocol(protocol_text).ok_or_else(|| unanswerable("--to", to, format!("no protocol; {TO_FORMS}")))?;
        let is_icmp = matches!(protocol, ICMP | ICMPV6);
        let icmp_type = match kind_text {
            None => None,
            Some(kind) if is_icmp => Some(
                kind.parse().map_err(|_| unanswerable("--to", to, "an ICMP type is a number from 0 to 255"))?,
            ),
            Some(_) => return Err(unanswerable("--to", to, TO_FORMS)),
        };
        let with_ports = matches!(protocol, TCP | UDP | SCTP);
        let (place_text, port) = if with_ports {
            let (place, port) = head
                .rsplit_once(':')
                .ok_or_else(|| unanswerable("--to", to, format!("the port is missing; {TO_FORMS}")))?;
            (place, typed_port(port).ok_or_else(|| unanswerable("--to", to, "a port is a number from 1 to 65535"))?)
        } else {
            (head, TypedPort::None)
        };
        // An IPv6 address with a port needs its brackets: 2001:db8::1:80 could be either.
        if with_ports && place_text.parse::<Ipv6Addr>().is_ok() {
            let reason = "an IPv6 address with a port stands in brackets, as [2001:db8::9]:80/TCP";
            return Err(unanswerable("--to", to, reason));
        }
        let to_place = place("--to", to, place_text)?;
        // `/ICMP` means the one that the address has.
        if is_icmp && let Place::Address(address) = &to_place {
            protocol = if is_ipv4(address) { ICMP } else { ICMPV6 };
        }
        if matches!((&to_place, &port), (Place::Address(_) | Place::Node(_), TypedPort::Name(_))) {
            return Err(unanswerable("--to", to, "only pods and Services have ports with names: give a number"));
        }
        Ok(Self {
            from_text: from.into(),
            to_text: to.into(),
            from: from_place,
            to: to_place,
            port,
            protocol,
            icmp_type,
        })
    }

    /// The same question, of another ICMP type than an echo request.
    pub fn with_icmp_type(self, icmp_type: Option<u8>) -> Self {
        Self { icmp_type: icmp_type.or(self.icmp_type), ..self }
    }
}

fn place(option: &'static str, whole: &str, text: &str) -> Result<Place, Unanswerable> {
    if let Some(name) = text.strip_prefix("node:") {
        return Ok(Place::Node(name.into()));
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(found) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Ok(Place::Address(address(found)));
    }
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Place::Named { namespace: namespace.into(), name: name.into() })
        }
        _ if option == "--from" => {
            Err(unanswerable(option, whole, "expected NS/POD, node:NAME or an address"))
        }
        _ => Err(unanswerable(option, whole, TO_FORMS)),
    }
}

fn typed_port(text: &str) -> Option<TypedPort> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|n| *n != 0).map(TypedPort::Number);
    }
    Some(TypedPort::Name(text.into()))
}

fn protocol(text: &str) -> Option<u8> {
    Some(match text.to_ascii_uppercase().as_str() {
        "TCP" => TCP,
        "UDP" => UDP,
        "SCTP" => SCTP,
        "ICMP" => ICMP,
        "ICMPV6" | "ICMP6" => ICMPV6,
        "IGMP" => 2,
        "IPIP" => 4,
        "DCCP" => 33,
        "GRE" => 47,
        "ESP" => 50,
        "AH" => 51,
        other => other.parse().ok()?,
    })
}

/// The answer, as `fedisniff.explain/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// As it was typed.
    pub from: String,
    /// As it was typed.
    pub to: String,
    /// Of the whole connection, both ends.
    pub verdict: Word,
    /// Where it arrives, after translation: one of these.
    pub destinations: Vec<String>,
    /// The sending end.
    pub egress: End,
    /// The receiving end.
    pub ingress: End,
    /// What kube-router does with it.
    pub kube_router: KubeRouter,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// One end of the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// What the policies say of it.
    pub verdict: Word,
    /// The policies that isolate the pod there.
    pub isolated_by: Vec<String>,
    /// The rule that allows.
    pub allowed_by: Option<AllowedBy>,
    /// Before or after translation.
    pub evaluated_on: EvaluatedOn,
    /// What would be said of the destination as sent, before translation; `null` where nothing is translated.
    pub pre_nat: Option<Word>,
    /// One sentence.
    pub reason: String,
}

/// The rule that allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AllowedBy {
    /// Its policy.
    pub policy: String,
    /// Its index.
    pub rule: u32,
    /// The index of the peer; `null` where the rule names none.
    pub peer: Option<u32>,
    /// The index of the port; `null` where the rule names none.
    pub port: Option<u32>,
}

/// What kube-router does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KubeRouter {
    /// `allow`, `deny` or `unknown`.
    pub verdict: &'static str,
    /// Why, where it differs from what the policies say.
    pub reason: Option<String>,
}

/// One destination with what is said of it.
struct Part {
    destination: String,
    egress: Verdict,
    ingress: Verdict,
    pre_nat: Option<Word>,
    prediction: Prediction,
}

impl Part {
    fn word(&self) -> Word {
        self.egress.word.and(self.ingress.word)
    }
}

/// An address and port that is sent to, and what becomes of it.
struct Aim {
    sent_to: (Address, u16),
    translation: Option<Translation>,
    /// The Service whose port this is not.
    misses: Option<String>,
}

impl State {
    /// Answers a question.
    pub fn explain(&self, question: &Question) -> Result<Explanation, Unanswerable> {
        let from = self.source(question)?;
        let mut notes: Vec<String> = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        for aim in self.aims(question, from)? {
            if let Some(service) = &aim.misses {
                notes.push(format!(
                    "{} is the address of Service {service}, which has no such port: nothing translates it",
                    ip(&aim.sent_to.0)
                ));
            }
            if let Some(translation) = &aim.translation
                && translation.assumed
            {
                notes.push(format!(
                    "{} is not among the objects; its address and endpoint are assumed",
                    translation.name
                ));
            }
            parts.extend(self.parts(question, from, &aim));
        }
        if parts.is_empty() {
            return Err(unanswerable("--to", &question.to_text, "it has no address"));
        }
        Ok(self.put_together(question, &parts, notes))
    }

    fn put_together(&self, question: &Question, parts: &[Part], notes: Vec<String>) -> Explanation {
        let verdict = one_word(parts.iter().map(Part::word));
        let outcome = one_outcome(parts);
        // Where kube-router does what the policies say, there is nothing to explain.
        let differs = outcome.name() != verdict.name();
        let peculiar = parts.iter().find(|p| {
            p.prediction.outcome.name() != p.word().name() && p.prediction.reason.is_some()
        });
        let reason = differs.then(|| {
            if outcome == Outcome::Unknown && parts.iter().all(|p| p.prediction.outcome != Outcome::Unknown) {
                return "it depends on which destination is chosen".to_owned();
            }
            match peculiar.or_else(|| parts.iter().find(|p| p.prediction.reason.is_some())) {
                Some(part) => part.prediction.reason.clone().unwrap_or_default(),
                None => usual_reason(outcome).to_owned(),
            }
        });
        Explanation {
            schema: SCHEMA,
            from: question.from_text.clone(),
            to: question.to_text.clone(),
            verdict,
            destinations: {
                let mut all: Vec<String> = Vec::new();
                for part in parts.iter().filter(|p| !p.destination.is_empty()) {
                    if !all.contains(&part.destination) {
                        all.push(part.destination.clone());
                    }
                }
                all
            },
            egress: self.end(parts, |p| &p.egress, true),
            ingress: self.end(parts, |p| &p.ingress, false),
            kube_router: KubeRouter { verdict: outcome.name(), reason },
            notes,
        }
    }

    fn end<'a>(&self, parts: &'a [Part], side: impl Fn(&'a Part) -> &'a Verdict, sending: bool) -> End {
        let word = one_word(parts.iter().map(|p| side(p).word));
        let mut isolated_by: Vec<String> = Vec::new();
        for policy in parts.iter().flat_map(|p| &side(p).isolated_by) {
            let name = self.policy_name(*policy);
            if !isolated_by.contains(&name) {
                isolated_by.push(name);
            }
        }
        let rule = if word == Word::Allow { parts.iter().find_map(|p| side(p).rule) } else { None };
        let allowed_by = rule.and_then(|r| self.compiled.rules.get(r.index())).map(|rule| AllowedBy {
            policy: self.policy_name(rule.policy),
            rule: rule.rule,
            peer: rule.peer,
            port: rule.port,
        });
        let reason = if word == Word::Mixed {
            let each: Vec<String> =
                parts.iter().map(|p| format!("{}: {}", p.destination, side(p).word)).collect();
            format!("it depends on which destination is chosen: {}", each.join(", "))
        } else {
            parts.first().map(|p| side(p).reason.clone()).unwrap_or_default()
        };
        let before = parts.iter().filter_map(|p| p.pre_nat);
        End {
            verdict: word,
            isolated_by,
            allowed_by,
            evaluated_on: parts.first().map_or(EvaluatedOn::PostNat, |p| side(p).evaluated_on),
            pre_nat: if sending { before.reduce(|a, b| if a == b { a } else { Word::Mixed }) } else { None },
            reason,
        }
    }

    fn source(&self, question: &Question) -> Result<Source, Unanswerable> {
        let text = &question.from_text;
        match &question.from {
            Place::Node(name) => self.node("--from", text, name).map(Source::Node),
            Place::Address(address) => {
                if let Some((index, _)) = self.cluster.pod_at(address) {
                    return Ok(Source::Pod(index));
                }
                Ok(match self.cluster.node_addresses.get(address) {
                    Some(node) => Source::Node(*node),
                    None => Source::Other(*address),
                })
            }
            Place::Named { namespace, name } => {
                let Some((index, pod)) = self.cluster.pod(namespace, name) else {
                    let pods = self.cluster.pods.iter().map(|p| p.full_name());
                    return Err(unanswerable("--from", text, unknown("pod", &format!("{namespace}/{name}"), pods)));
                };
                if pod.finished {
                    let reason = "the pod has ended (Succeeded or Failed): it sends nothing, and its address may be another's";
                    return Err(unanswerable("--from", text, reason));
                }
                Ok(if pod.host_network { Source::HostPod(index) } else { Source::Pod(index) })
            }
        }
    }

    fn node(&self, option: &'static str, text: &str, name: &str) -> Result<usize, Unanswerable> {
        self.cluster.nodes.iter().position(|n| n.name == name).ok_or_else(|| {
            let names = self.cluster.nodes.iter().map(|n| n.name.clone());
            unanswerable(option, text, unknown("node", name, names))
        })
    }

    /// The node from which an attempt is made.
    fn sender_node(&self, from: Source) -> Option<usize> {
        match from {
            Source::Pod(i) | Source::HostPod(i) => self.cluster.pods.get(i).and_then(|p| p.node),
            Source::Node(node) => Some(node),
            Source::Other(_) => None,
        }
    }

    /// Of addresses of both families, those that the sender can send to; all when it has none yet.
    fn reachable(&self, from: Source, addresses: &[Address]) -> Vec<Address> {
        let own: Vec<Address> = match from {
            Source::Pod(i) => self.cluster.pods.get(i).map(|p| p.addresses.clone()).unwrap_or_default(),
            Source::Other(address) => vec![address],
            Source::HostPod(_) | Source::Node(_) => {
                let node = self.sender_node(from).and_then(|n| self.cluster.nodes.get(n));
                node.map(|n| n.addresses.clone()).unwrap_or_default()
            }
        };
        let near: Vec<Address> =
            addresses.iter().copied().filter(|a| own.iter().any(|o| is_ipv4(o) == is_ipv4(a))).collect();
        if near.is_empty() { addresses.to_vec() } else { near }
    }

    fn aims(&self, question: &Question, from: Source) -> Result<Vec<Aim>, Unanswerable> {
        let text = &question.to_text;
        let number = match &question.port {
            TypedPort::Number(number) => Some(*number),
            TypedPort::None => Some(0),
            TypedPort::Name(_) => None,
        };
        match &question.to {
            Place::Address(address) => Ok(vec![self.aim(question, from, *address, number.unwrap_or(0))]),
            Place::Node(name) => {
                let node = self.node("--to", text, name)?;
                let addresses = self.cluster.nodes.get(node).map(|n| n.addresses.clone()).unwrap_or_default();
                // Its address, not those of its bridge.
                let near = self.reachable(from, &addresses);
                let first = near.first().map(|a| self.aim(question, from, *a, number.unwrap_or(0)));
                Ok(first.into_iter().collect())
            }
            Place::Named { namespace, name } => {
                if let Some((_, pod)) = self.cluster.pod(namespace, name) {
                    if pod.finished {
                        let reason = "the pod has ended (Succeeded or Failed): it has no address any more";
                        return Err(unanswerable("--to", text, reason));
                    }
                    let port = match (&question.port, number) {
                        (TypedPort::Name(port), _) => {
                            pod.named(port, question.protocol).next().ok_or_else(|| {
                                let names = pod.ports.iter().map(|p| p.name.clone());
                                unanswerable("--to", text, unknown("port", port, names))
                            })?
                        }
                        (_, number) => number.unwrap_or(0),
                    };
                    if pod.addresses.is_empty() {
                        return Err(unanswerable("--to", text, "the pod has no address yet"));
                    }
                    let addresses = self.reachable(from, &pod.addresses);
                    return Ok(addresses.into_iter().map(|a| self.aim(question, from, a, port)).collect());
                }
                let Some(service) = self.cluster.service(namespace, name) else {
                    let pods = self.cluster.pods.iter().map(|p| p.full_name());
                    let all = pods.chain(self.cluster.services.iter().map(Service::full_name));
                    let reason = unknown("pod or Service", &format!("{namespace}/{name}"), all);
                    return Err(unanswerable("--to", text, reason));
                };
                self.aims_at_service(question, from, service)
            }
        }
    }

    fn aims_at_service(
        &self,
        question: &Question,
        from: Source,
        service: &Service,
    ) -> Result<Vec<Aim>, Unanswerable> {
        let text = &question.to_text;
        if let Some(alias) = &service.alias_of {
            let reason = format!(
                "the Service is a name for {alias} (ExternalName) and has no address: give one that this name has"
            );
            return Err(unanswerable("--to", text, reason));
        }
        let found = service.ports.iter().find(|p| {
            p.protocol == question.protocol
                && match &question.port {
                    TypedPort::Number(number) => p.port == *number,
                    TypedPort::Name(name) => p.name == *name,
                    TypedPort::None => false,
                }
        });
        if service.headless {
            // Its name leads to the pods themselves, at the port that is asked for.
            let addresses = match (&question.port, found) {
                (TypedPort::Name(name), None) => {
                    let names = service.ports.iter().map(|p| p.name.clone());
                    return Err(unanswerable("--to", text, unknown("port", name, names)));
                }
                (_, Some(port)) => port.addresses(),
                (_, None) => {
                    let all = service.ports.iter().flat_map(|p| p.addresses());
                    let mut all: Vec<Address> = all.collect();
                    all.sort_unstable();
                    all.dedup();
                    all
                }
            };
            if addresses.is_empty() {
                return Err(unanswerable("--to", text, "the Service is headless and has no ready endpoint"));
            }
            let number = match (&question.port, found) {
                (TypedPort::Number(number), _) => *number,
                (_, Some(port)) => port.port,
                _ => 0,
            };
            let near = self.reachable(from, &addresses);
            return Ok(near.into_iter().map(|a| self.aim(question, from, a, number)).collect());
        }
        let number = match (&question.port, found) {
            (_, Some(port)) => port.port,
            (TypedPort::None, None) => 0,
            (TypedPort::Number(_) | TypedPort::Name(_), None) => {
                let ports: Vec<String> = service
                    .ports
                    .iter()
                    .map(|p| format!("{}{}/{}", named(&p.name), p.port, protocol_name(p.protocol)))
                    .collect();
                let reason = format!("the Service has no such port; it has {}", ports.join(", "));
                return Err(unanswerable("--to", text, reason));
            }
        };
        let near = self.reachable(from, &service.cluster_ips);
        Ok(near.into_iter().map(|a| self.aim(question, from, a, number)).collect())
    }

    fn aim(&self, question: &Question, from: Source, to: Address, port: u16) -> Aim {
        let translation = self.cluster.translate(self.sender_node(from), &to, question.protocol, port);
        let misses = match &translation {
            Some(_) => None,
            None => self.cluster.service_at(&to).map(Service::full_name),
        };
        Aim { sent_to: (to, port), translation, misses }
    }

    /// What is said of each destination that an aim may arrive at.
    fn parts(&self, question: &Question, from: Source, aim: &Aim) -> Vec<Part> {
        let destinations: Vec<Option<(Address, u16)>> = match &aim.translation {
            None => vec![Some(aim.sent_to)],
            Some(translation) if translation.destinations.is_empty() => vec![None],
            Some(translation) => translation.destinations.iter().copied().map(Some).collect(),
        };
        // `/ICMP` to a pod or Service: the one that the address has.
        let protocol = match question.protocol {
            ICMP | ICMPV6 => {
                if is_ipv4(&aim.sent_to.0) {
                    ICMP
                } else {
                    ICMPV6
                }
            }
            other => other,
        };
        let part = |to: Option<(Address, u16)>| {
            let translation = aim.translation.as_ref();
            let facts = Facts { from, sent_to: aim.sent_to, to, translation, protocol };
            Part {
                destination: to.map(|to| shown(to, protocol)).unwrap_or_default(),
                egress: self.egress(&facts),
                ingress: self.ingress(&facts),
                pre_nat: self.egress_before_translation(&facts).filter(|_| facts.translated_at_sender()),
                prediction: self.predict(&facts, question.icmp_type),
            }
        };
        destinations.into_iter().map(part).collect()
    }

    /// What kube-router and kube-proxy do.
    fn predict(&self, facts: &Facts<'_>, icmp_type: Option<u8>) -> Prediction {
        let sender = match facts.from {
            Source::Pod(pod) => Sender::Pod(pod),
            Source::HostPod(pod) => match self.cluster.pods.get(pod).and_then(|p| p.node) {
                Some(node) => Sender::Node(node),
                None => return Prediction::because(Outcome::Allow, HOST),
            },
            Source::Node(node) => Sender::Node(node),
            Source::Other(address) => Sender::Other(address),
        };
        let Some((to, port)) = facts.to else {
            return Prediction::because(
                Outcome::Deny,
                "the Service has no ready endpoint: kube-proxy refuses the connection",
            );
        };
        let packet = Packet {
            from: sender,
            to,
            protocol: facts.protocol,
            port,
            icmp_type,
            translated: facts.translation.is_some(),
            hides_source: facts.translation.is_some_and(|t| t.hides_source),
        };
        let mut prediction = match facts.translation.filter(|t| !t.at_sender()) {
            None => kube_router::predict(&self.cluster, &packet),
            Some(_) => {
                // The sender's node sees what was sent; the other node translates, and sees the sender's node.
                let (to, port) = facts.sent_to;
                let here = Packet { to, port, translated: false, ..packet };
                let here = kube_router::predict(&self.cluster, &here);
                let node = self.sender_node(facts.from);
                match (here.outcome, node) {
                    (Outcome::Allow, Some(node)) => {
                        kube_router::predict(&self.cluster, &Packet { from: Sender::Node(node), ..packet })
                    }
                    _ => here,
                }
            }
        };
        let of_node = matches!(facts.from, Source::HostPod(_) | Source::Node(_));
        if of_node && prediction.reason.is_none() && prediction.outcome == Outcome::Allow {
            prediction.reason = Some(HOST.to_owned());
        }
        prediction
    }
}

const HOST: &str = "kube-router holds no host-network pods: what they send is the node's";

fn usual_reason(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allow => "kube-router lets it pass",
        Outcome::Deny => "kube-router refuses what no rule allows, and makes no exception here",
        Outcome::Unknown => "it differs from sync to sync",
    }
}

fn one_word(words: impl Iterator<Item = Word>) -> Word {
    words.reduce(|a, b| if a == b { a } else { Word::Mixed }).unwrap_or(Word::Undefined)
}

fn one_outcome(parts: &[Part]) -> Outcome {
    let all = parts.iter().map(|p| p.prediction.outcome);
    all.reduce(|a, b| if a == b { a } else { Outcome::Unknown }).unwrap_or(Outcome::Unknown)
}

fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        TCP => "TCP",
        UDP => "UDP",
        SCTP => "SCTP",
        _ => "?",
    }
}

fn named(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("{name} ") }
}

/// An address with its port, where the protocol has ports.
fn shown((to, port): (Address, u16), protocol: u8) -> String {
    let ip = ip(&to);
    if matches!(protocol, TCP | UDP | SCTP) {
        std::net::SocketAddr::new(ip, port).to_string()
    } else {
        ip.to_string()
    }
}

/// That a name is not there, and which are near.
fn unknown(what: &str, name: &str, known: impl Iterator<Item = String>) -> String {
    let mut near: Vec<(f64, String)> =
        known.filter(|k| !k.is_empty()).map(|k| (strsim::jaro_winkler(name, &k), k)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    near.dedup();
    let names: Vec<&str> = near.iter().take(5).map(|(_, k)| k.as_str()).collect();
    if names.is_empty() {
        format!("there is no {what} of this name, nor any other")
    } else {
        format!("there is no {what} of this name; near are {}", names.join(", "))
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from_text, self.to_text)
    }
}
