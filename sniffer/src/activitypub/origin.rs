//! Who really sent a request: the address that the proxy saw, the host that the signature's key and the User-Agent
//! claim, the software. Each fact with its source, in the order of trust of `design.md` §4.2. A guess is never made.

use std::net::{IpAddr, SocketAddr};

use super::head::{Head, without_default_port};
use super::learn::{Learnt, Url};
use super::{Origin, OriginSource, Signature};

/// Finds the origin; learns which host sits behind the address and what it runs. `refused`: the answer was an error.
pub(super) fn find(
    head: &Head<'_>,
    agent: &Agent,
    signature: &Signature,
    peer: SocketAddr,
    refused: bool,
    learnt: &mut Learnt,
) -> Origin {
    let peer = peer.ip().to_canonical();
    let mut hops: Vec<&str> = head.forwarded_for.iter().flat_map(|field| field.split(',')).collect();
    if hops.is_empty() {
        hops = head.forwarded.iter().flat_map(|field| field.split(',')).filter_map(forwarded_for).collect();
    }
    if hops.is_empty() {
        hops.extend(head.real_ip);
    }
    // A field may hold thousands of made-up hops; the ones that count are at the end.
    let hops = hops.get(hops.len().saturating_sub(16)..).unwrap_or_default();
    let proxied = !hops.is_empty();
    if proxied && learnt.proxies.get(&peer).is_none() {
        learnt.proxies.insert(peer, ());
    }
    let address = if proxied { sender(hops, learnt) } else { Some(peer) };

    let key_host = signature.key_id.as_deref().and_then(key_host);
    let client = agent.browser || head.has_bearer() || head.cookie;
    // The address in an app's User-Agent is its maker's.
    let agent_host = agent.host.as_deref().filter(|_| agent.known || !client);
    let claimed = key_host.map(|h| (h, OriginSource::KeyId)).or(agent_host.map(|h| (h, OriginSource::UserAgent)));
    let (host, host_from) = match (claimed, address) {
        (Some((host, source)), address) => {
            // Anyone may claim a key; who was refused with it may have lied: then what is known of the address counts.
            let doubtful = refused && source == OriginSource::KeyId;
            if let Some(address) = address.filter(|_| !doubtful) {
                learnt.sender(address, host);
            }
            let behind = address.filter(|_| doubtful).and_then(|address| learnt.host_behind(address));
            match behind.filter(|behind| !behind.eq_ignore_ascii_case(host)) {
                Some(behind) => (Some(behind), Some(OriginSource::Learnt)),
                None => (Some(host.to_ascii_lowercase().into_boxed_str()), Some(source)),
            }
        }
        (None, Some(address)) if !client => match learnt.host_behind(address) {
            Some(host) => (Some(host), Some(OriginSource::Learnt)),
            None => (None, None),
        },
        _ => (None, None),
    };

    let (software, software_from) = software(agent, host.as_deref(), learnt);
    Origin {
        address: address.map(|a| a.to_string().into()),
        address_from: address.map(|_| if proxied { OriginSource::ForwardedFor } else { OriginSource::Peer }),
        host,
        host_from,
        software,
        software_from,
    }
}

/// The software: what a known User-Agent says, else what is known of the host, else what any User-Agent says.
fn software(
    agent: &Agent, host: Option<&str>, learnt: &mut Learnt,
) -> (Option<Box<str>>, Option<OriginSource>) {
    if agent.software.is_none() {
        let known = host.and_then(|host| learnt.software_of(host));
        return (known.clone(), known.map(|_| OriginSource::Learnt));
    }
    if agent.known {
        if let (Some(host), Some(software)) = (host, agent.software.as_deref()) {
            learnt.runs(host, software);
        }
    } else if agent.runtime
        && let Some(known) = host.and_then(|host| learnt.software_of(host))
    {
        return (Some(known), Some(OriginSource::Learnt));
    }
    (agent.software.clone(), Some(OriginSource::UserAgent))
}

/// The first hop from our end that is not itself a proxy: what stands before it was written by others.
fn sender(hops: &[&str], learnt: &mut Learnt) -> Option<IpAddr> {
    let mut last = None;
    for hop in hops.iter().rev() {
        let Some(address) = hop_address(hop) else { break };
        last = Some(address);
        if learnt.proxies.get(&address).is_none() {
            break;
        }
    }
    last
}

/// `for=` of one element of `Forwarded` (RFC 7239 §4).
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    })
}

/// An address with or without port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let address = hop
        .parse::<IpAddr>()
        .or_else(|_| hop.parse::<SocketAddr>().map(|a| a.ip()))
        .or_else(|_| hop.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>());
    address.ok().map(|a| a.to_canonical())
}

/// The host that a key id names: a URL's, or that of `acct:name@host`.
pub(super) fn key_host(key_id: &str) -> Option<&str> {
    match Url::parse(key_id) {
        Some(url) => Some(url.host),
        None => key_id
            .strip_prefix("acct:")
            .and_then(|account| account.rsplit_once('@'))
            .map(|(_, host)| host)
            .filter(|host| is_host(host)),
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_') || b >= 0x80)
}

/// What a User-Agent claims.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Agent {
    /// Name and version.
    pub(super) software: Option<Box<str>>,
    /// The host of the URL in it.
    pub(super) host: Option<Box<str>>,
    /// It is one of the servers of §1.5.
    pub(super) known: bool,
    /// Only the runtime's own name, as of a program that set none.
    pub(super) runtime: bool,
    /// A browser.
    pub(super) browser: bool,
    /// A prober: kubelet, Prometheus.
    pub(super) probe: bool,
    /// Fetches pages for previews.
    pub(super) preview: bool,
}

/// Names as the projects write them, by the first product of their User-Agent or NodeInfo's `software.name`.
const SERVERS: &[(&str, &str)] = &[
    ("activity-relay", "Activity-Relay"),
    ("activitypub.bot", "activitypub.bot"),
    ("activityrelay", "ActivityRelay"),
    ("akkoma", "Akkoma"),
    ("bookwyrm", "BookWyrm"),
    ("bovine", "bovine"),
    ("calckey", "Calckey"),
    ("castopod", "Castopod"),
    ("catodon", "Catodon"),
    ("cherrypick", "CherryPick"),
    ("fedify", "Fedify"),
    ("firefish", "Firefish"),
    ("foundkey", "FoundKey"),
    ("friendica", "Friendica"),
    ("funkwhale", "Funkwhale"),
    ("gancio", "Gancio"),
    ("gotosocial", "GoToSocial"),
    ("hollo", "Hollo"),
    ("hometown", "Hometown"),
    ("hubzilla", "Hubzilla"),
    ("iceshrimp", "Iceshrimp"),
    ("iceshrimp.net", "Iceshrimp.NET"),
    ("kbin", "kbin"),
    ("lemmy", "Lemmy"),
    ("loops", "Loops"),
    ("mastodon", "Mastodon"),
    ("mbin", "Mbin"),
    ("misskey", "Misskey"),
    ("mitra", "Mitra"),
    ("mobilizon", "Mobilizon"),
    ("owncast", "Owncast"),
    ("peertube", "PeerTube"),
    ("piefed", "PieFed"),
    ("pixelfed", "Pixelfed"),
    ("pleroma", "Pleroma"),
    ("plume", "Plume"),
    ("sharkey", "Sharkey"),
    ("smithereen", "Smithereen"),
    ("snac", "snac"),
    ("takahe", "Takahē"),
    ("takahē", "Takahē"),
    ("threads", "Threads"),
    ("wafrn", "wafrn"),
    ("wordpress", "WordPress"),
    ("writefreely", "WriteFreely"),
];

/// Products that are a language's or library's own: the program behind them said nothing.
const RUNTIMES: &[&str] = &[
    "aiohttp", "axios", "bun", "curl", "deno", "dart", "faraday", "go-http-client", "got", "guzzlehttp", "hackney", "httpx",
    "java", "mint", "node", "node-fetch", "okhttp", "python", "python-httpx", "python-requests", "python-urllib", "reqwest",
    "ruby", "undici", "wget",
];

/// The name of a software as its project writes it.
pub(super) fn proper_name(name: &str) -> Option<&'static str> {
    let lower = || name.bytes().map(|b| b.to_ascii_lowercase());
    SERVERS.binary_search_by(|(key, _)| key.bytes().cmp(lower())).ok().and_then(|at| SERVERS.get(at)).map(|(_, n)| *n)
}

/// `name version` of a server that calls itself so; only what is worth showing of long texts.
pub(super) fn titled(name: &str, version: &str) -> String {
    let name = proper_name(name).unwrap_or(name);
    let text = if version.is_empty() { name.to_owned() } else { format!("{name} {version}") };
    super::sentence::shown(&text, 80)
}

/// Reads a User-Agent (§1.5).
pub(super) fn agent(text: &str) -> Agent {
    let mut agent = Agent { host: url_host(text).map(Into::into), ..Agent::default() };
    agent.preview = text.ends_with(" Bot");
    // Pixelfed writes all in brackets; Mastodon up to 4.2 and PixelFedBot put the product into the comment.
    let (first, comment) = match text.strip_prefix('(') {
        Some(inner) => (inner, ""),
        None => text.split_once(" (").unwrap_or((text, "")),
    };
    let (name, version) = product(first);
    let (inner_name, inner_version) = product(comment);
    let lower = name.to_ascii_lowercase();
    if lower == "mozilla" {
        agent.browser = !["bot", "crawler", "spider"].iter().any(|word| text.to_ascii_lowercase().contains(word));
        agent.software = Some(browser(text).into());
    } else if matches!(lower.as_str(), "kube-probe" | "prometheus") {
        agent.probe = true;
        agent.software = Some(titled(name, version).into());
    } else if proper_name(inner_name).is_some() && !inner_name.eq_ignore_ascii_case("fedify") {
        agent.known = true;
        agent.software = Some(titled(inner_name, inner_version).into());
    } else if inner_name.eq_ignore_ascii_case("fedify") {
        agent.known = true;
        agent.software = Some(format!("{} ({})", titled(name, version), titled(inner_name, inner_version)).into());
    } else if proper_name(name).is_some() {
        agent.known = true;
        agent.software = Some(titled(name, version).into());
    } else if lower == "pixelfedbot" {
        agent.known = true;
        agent.software = Some("Pixelfed".into());
    } else if !name.is_empty() {
        agent.runtime = RUNTIMES.contains(&lower.as_str());
        agent.software = Some(titled(name, version).into());
    }
    agent
}

/// `Name/1.2`, `Name 1.2;`, `Name`: the first product and its version.
fn product(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(['(', ' ']);
    let end = text.find([' ', '/', ';', '(', ')', ',']).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let rest = match rest.as_bytes().first() {
        Some(b'/') => rest.get(1..).unwrap_or_default(),
        // `Akkoma 3.13.2; https://…`: a version begins with a digit, or with v and a digit.
        Some(b' ') => {
            let rest = rest.trim_start();
            let digits = rest.strip_prefix('v').unwrap_or(rest);
            if digits.starts_with(|c: char| c.is_ascii_digit()) { rest } else { "" }
        }
        _ => "",
    };
    let end = rest.find([' ', ';', '(', ')', ',']).unwrap_or(rest.len());
    (name, rest.get(..end).unwrap_or_default())
}

/// The host of the first URL in a User-Agent, as servers write it: `(+https://host/)`, `; https://host <mail>`.
fn url_host(text: &str) -> Option<&str> {
    let at = text.find("https://").or_else(|| text.find("http://"))?;
    let rest = text.get(at..)?.split_once("://")?.1;
    let end = rest.find(['/', ')', ' ', ';', '<', '>', ',', '"']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end)?;
    // A project's page is not the sender: `(https://github.com/evanp/activitypub-bot)`.
    let path = path.trim_start_matches('/');
    let bare = path.is_empty() || path.starts_with([')', ' ', ';', '<', '>', ',', '"']);
    let host = without_default_port(host);
    (bare && is_host(host)).then_some(host)
}

/// A browser's name and major version.
fn browser(text: &str) -> String {
    for (token, name) in
        [("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Version/", "Safari")]
    {
        if let Some((_, version)) = text.split_once(token) {
            let major: String = version.chars().take_while(char::is_ascii_digit).take(6).collect();
            return format!("{name} {major}");
        }
    }
    "Mozilla".to_owned()
}
