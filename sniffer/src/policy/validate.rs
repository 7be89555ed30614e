//! What kube-apiserver v1.36 refuses in a NetworkPolicy, with the field's path and the words that it uses
//! (pkg/apis/networking/validation, apimachinery's label and CIDR rules with StrictIPCIDRValidation, which 1.36 has on).

use std::fmt::Display;
use std::net::IpAddr;

use super::compiled::Prefix;
use super::objects::{IntOrString, IpBlock, LabelSelector, NetworkPolicy, Peer, PolicyPort, Problem, full_name};

/// Everything in a policy that the API server refuses; empty when it takes it.
pub(super) fn validate(policy: &NetworkPolicy) -> Vec<Problem> {
    let mut check = Check { object: format!("NetworkPolicy {}", full_name(&policy.metadata)), problems: Vec::new() };
    let metadata = &policy.metadata;
    if metadata.name.is_empty() {
        check.refuse("metadata.name", "Required value: name is required");
    } else {
        check.name("metadata.name", &metadata.name, subdomain(&metadata.name));
    }
    check.name("metadata.namespace", &metadata.namespace, dns_label(&metadata.namespace));
    check.labels("metadata.labels", &metadata.labels);
    let spec = &policy.spec;
    check.selector("spec.podSelector", &spec.pod_selector);
    for (i, rule) in spec.ingress.iter().enumerate() {
        check.rule(&format!("spec.ingress[{i}]"), "from", &rule.from, &rule.ports);
    }
    for (i, rule) in spec.egress.iter().enumerate() {
        check.rule(&format!("spec.egress[{i}]"), "to", &rule.to, &rule.ports);
    }
    if spec.policy_types.len() > 2 {
        check.refuse("spec.policyTypes", "Invalid value: may not specify more than two policyTypes");
    } else {
        for (i, kind) in spec.policy_types.iter().enumerate() {
            if !matches!(kind.as_str(), "Ingress" | "Egress") {
                check.refuse(
                    format!("spec.policyTypes[{i}]"),
                    format!("Unsupported value: {kind:?}: supported values: \"Egress\", \"Ingress\""),
                );
            }
        }
    }
    check.problems
}

struct Check {
    object: String,
    problems: Vec<Problem>,
}

impl Check {
    fn refuse(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        let (object, field, reason) = (self.object.clone(), field.into(), reason.into());
        self.problems.push(Problem { place: None, object, field, reason });
    }

    fn invalid(&mut self, field: impl Into<String>, value: impl Display, reason: impl Display) {
        self.refuse(field, format!("Invalid value: {value}: {reason}"));
    }

    fn name(&mut self, field: &str, value: &str, wrong: Option<&str>) {
        if let Some(reason) = wrong {
            self.invalid(field, format!("{value:?}"), reason);
        }
    }

    fn labels(&mut self, field: &str, labels: &super::objects::Labels) {
        for (key, value) in labels {
            if let Some(reason) = qualified_name(key) {
                self.invalid(field, format!("{key:?}"), reason);
            }
            if let Some(reason) = label_value(value) {
                self.invalid(field, format!("{value:?}"), reason);
            }
        }
    }

    fn selector(&mut self, field: &str, selector: &LabelSelector) {
        self.labels(&format!("{field}.matchLabels"), &selector.match_labels);
        for (i, expression) in selector.match_expressions.iter().enumerate() {
            let field = format!("{field}.matchExpressions[{i}]");
            match expression.operator.as_str() {
                "In" | "NotIn" if expression.values.is_empty() => self.refuse(
                    format!("{field}.values"),
                    "Required value: must be specified when `operator` is 'In' or 'NotIn'",
                ),
                "Exists" | "DoesNotExist" if !expression.values.is_empty() => self.refuse(
                    format!("{field}.values"),
                    "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ),
                "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
                other => {
                    self.invalid(format!("{field}.operator"), format!("{other:?}"), "not a valid selector operator");
                }
            }
            if let Some(reason) = qualified_name(&expression.key) {
                self.invalid(format!("{field}.key"), format!("{:?}", expression.key), reason);
            }
            for (j, value) in expression.values.iter().enumerate() {
                if let Some(reason) = label_value(value) {
                    self.invalid(format!("{field}.values[{j}]"), format!("{value:?}"), reason);
                }
            }
        }
    }

    fn rule(&mut self, field: &str, peers_name: &str, peers: &[Peer], ports: &[PolicyPort]) {
        for (i, port) in ports.iter().enumerate() {
            self.port(&format!("{field}.ports[{i}]"), port);
        }
        for (i, peer) in peers.iter().enumerate() {
            self.peer(&format!("{field}.{peers_name}[{i}]"), peer);
        }
    }

    fn port(&mut self, field: &str, port: &PolicyPort) {
        if let Some(protocol) = &port.protocol
            && !matches!(protocol.as_str(), "TCP" | "UDP" | "SCTP")
        {
            self.refuse(
                format!("{field}.protocol"),
                format!("Unsupported value: {protocol:?}: supported values: \"SCTP\", \"TCP\", \"UDP\""),
            );
        }
        let end_field = format!("{field}.endPort");
        match (&port.port, port.end_port) {
            (Some(IntOrString::Int(first)), end) => {
                if !is_port(*first) {
                    self.invalid(format!("{field}.port"), first, "must be between 1 and 65535, inclusive");
                }
                if let Some(last) = end {
                    if last < *first {
                        self.invalid(&end_field, last, "must be greater than or equal to `port`");
                    }
                    if !is_port(last) {
                        self.invalid(&end_field, last, "must be between 1 and 65535, inclusive");
                    }
                }
            }
            (Some(IntOrString::String(name)), end) => {
                if let Some(last) = end {
                    self.invalid(&end_field, last, "may not be specified when `port` is non-numeric");
                }
                if let Some(reason) = port_name(name) {
                    self.invalid(format!("{field}.port"), format!("{name:?}"), reason);
                }
            }
            (None, Some(last)) => {
                self.invalid(&end_field, last, "may not be specified when `port` is not specified");
            }
            (None, None) => {}
        }
    }

    fn peer(&mut self, field: &str, peer: &Peer) {
        if let Some(selector) = &peer.pod_selector {
            self.selector(&format!("{field}.podSelector"), selector);
        }
        if let Some(selector) = &peer.namespace_selector {
            self.selector(&format!("{field}.namespaceSelector"), selector);
        }
        if let Some(block) = &peer.ip_block {
            self.block(&format!("{field}.ipBlock"), block);
        }
        let selectors = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match (selectors, peer.ip_block.is_some()) {
            (false, false) => self.refuse(field, "Required value: must specify a peer"),
            (true, true) => self.refuse(field, "Forbidden: may not specify both ipBlock and another peer"),
            _ => {}
        }
    }

    fn block(&mut self, field: &str, block: &IpBlock) {
        if block.cidr.is_empty() {
            self.refuse(format!("{field}.cidr"), "Required value");
            return;
        }
        let cidr = match cidr(&block.cidr) {
            Ok(cidr) => Some(cidr),
            Err(reason) => {
                self.invalid(format!("{field}.cidr"), format!("{:?}", block.cidr), reason);
                None
            }
        };
        for (i, text) in block.except.iter().enumerate() {
            let field = format!("{field}.except[{i}]");
            match self::cidr(text) {
                Err(reason) => self.invalid(field, format!("{text:?}"), reason),
                Ok(except) => {
                    if cidr.is_some_and(|cidr| !strictly_inside(&except, &cidr)) {
                        self.invalid(field, format!("{text:?}"), "must be a strict subset of `cidr`");
                    }
                }
            }
        }
    }
}

/// A range as written, with its family: `::/0` holds no IPv4 address although its prefix would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) prefix: Prefix,
    pub(super) ipv4: bool,
}

fn strictly_inside(inner: &Cidr, outer: &Cidr) -> bool {
    inner.ipv4 == outer.ipv4 && outer.prefix.contains(&inner.prefix) && outer.prefix.length < inner.prefix.length
}

/// Reads a range as the API server does.
pub(super) fn cidr(text: &str) -> Result<Cidr, &'static str> {
    const SHAPE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let (ip, length) = text.split_once('/').ok_or(SHAPE)?;
    let digits = !length.is_empty() && length.len() <= 3 && length.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(SHAPE);
    }
    let ip: IpAddr = ip.parse().map_err(|_| {
        let zeros = ip.split('.').any(|octet| octet.len() > 1 && octet.starts_with('0'));
        if zeros && !ip.contains(':') { "must not have leading 0s in IP or prefix length" } else { SHAPE }
    })?;
    let bits: u8 = length.parse().map_err(|_| SHAPE)?;
    if bits > if ip.is_ipv4() { 32 } else { 128 } {
        return Err(SHAPE);
    }
    if length.len() > 1 && length.starts_with('0') {
        return Err("must not have leading 0s in IP or prefix length");
    }
    if matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err("must not have an IPv4-mapped IPv6 address");
    }
    let prefix = Prefix::of(ip, bits);
    if prefix.address != super::compiled::address(ip) {
        return Err("must not have bits set beyond the prefix length");
    }
    Ok(Cidr { prefix, ipv4: ip.is_ipv4() })
}

fn is_port(number: i32) -> bool {
    (1..=65535).contains(&number)
}

fn alphanumeric_ends(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends(text.chars().next()) && ends(text.chars().next_back())
}

/// IsValidPortName.
fn port_name(name: &str) -> Option<&'static str> {
    if name.len() > 15 {
        Some("must be no more than 15 characters")
    } else if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    } else if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        Some("must contain at least one letter (a-z)")
    } else if name.contains("--") {
        Some("must not contain consecutive hyphens")
    } else if !alphanumeric_ends(name) {
        Some("must not begin or end with a hyphen")
    } else {
        None
    }
}

/// IsDNS1123Label.
pub(super) fn dns_label(name: &str) -> Option<&'static str> {
    if name.len() > 63 {
        Some("must be no more than 63 characters")
    } else if !part_of_name(name) {
        Some(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
             and end with an alphanumeric character",
        )
    } else {
        None
    }
}

fn part_of_name(name: &str) -> bool {
    alphanumeric_ends(name) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// IsDNS1123Subdomain.
fn subdomain(name: &str) -> Option<&'static str> {
    if name.len() > 253 {
        Some("must be no more than 253 characters")
    } else if !name.split('.').all(part_of_name) {
        Some(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
        )
    } else {
        None
    }
}

fn label_text(text: &str) -> bool {
    alphanumeric_ends(text) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// IsQualifiedName: a label's key.
fn qualified_name(key: &str) -> Option<&'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    match prefix {
        Some("") => return Some("prefix part must be non-empty"),
        Some(prefix) if subdomain(prefix).is_some() => {
            return Some(
                "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                 '.', and must start and end with an alphanumeric character",
            );
        }
        _ => {}
    }
    if name.is_empty() {
        Some("name part must be non-empty")
    } else if name.len() > 63 {
        Some("name part must be no more than 63 characters")
    } else if !label_text(name) {
        Some(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
             alphanumeric character",
        )
    } else {
        None
    }
}

/// IsValidLabelValue.
fn label_value(value: &str) -> Option<&'static str> {
    if value.len() > 63 {
        Some("must be no more than 63 characters")
    } else if !value.is_empty() && !label_text(value) {
        Some(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
        )
    } else {
        None
    }
}
