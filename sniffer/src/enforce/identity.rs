//! Whose a veth is: asked of the pod's own end, inside its network namespace, and of the CNI plugins' cache, which names
//! the pod before the API server knows its address.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};

use crate::links;
use crate::policy::compiled::{Address, address};

/// What is known of a pod's end of a veth.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Identity {
    /// Namespace and name, where the CNI cache says them.
    pub(super) pod: Option<(String, String)>,
    /// Its addresses, but for link-local ones.
    pub(super) addresses: Vec<Address>,
    /// Its MAC address.
    pub(super) mac: [u8; 6],
}

/// The interfaces in the namespaces that `folder` names, by the number that this namespace has for theirs, and their index
/// there: what a veth here says of its other end. Namespaces that no veth here leads to are not entered; one that cannot
/// be entered is passed over, and its pods stay unknown.
pub(super) fn by_namespace(folder: &Path) -> BTreeMap<(i32, u32), Identity> {
    let mut found = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let Ok(namespace) = File::open(entry.path()) else { continue };
        let Ok(Some(number)) = links::namespace_number(&namespace) else { continue };
        // A thread of its own changes namespaces, and ends there.
        let inside = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).ok()?;
            Some(ends())
        });
        if let Ok(Some(ends)) = inside.join() {
            found.extend(ends.into_iter().map(|(index, identity)| ((number, index), identity)));
        }
    }
    found
}

/// Of the current namespace.
fn ends() -> BTreeMap<u32, Identity> {
    let mut by_name: BTreeMap<String, Identity> = BTreeMap::new();
    for one in getifaddrs().into_iter().flatten() {
        let identity = by_name.entry(one.interface_name).or_default();
        let Some(storage) = one.address else { continue };
        if let Some(mac) = storage.as_link_addr().and_then(nix::sys::socket::LinkAddr::addr) {
            identity.mac = mac;
        } else if let Some(ip) = ip_of(&storage) {
            identity.addresses.push(address(ip));
        }
    }
    let links = links::list().unwrap_or_default();
    links
        .into_iter()
        .filter(|link| link.veth && link.peer_elsewhere)
        .filter_map(|link| Some((link.index, by_name.remove(&link.name)?)))
        .collect()
}

/// An address that others can have too does not say who one is.
fn ip_of(storage: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let ip = storage
        .as_sockaddr_in()
        .map(|a| IpAddr::V4(a.ip()))
        .or_else(|| storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))?;
    let local = match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    };
    (!local).then_some(ip)
}

/// This namespace's own addresses, link-local ones too: those of the node.
pub(super) fn own_addresses() -> std::collections::BTreeSet<Address> {
    getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|one| {
            let storage = one.address?;
            let v6 = storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
            ip_of(&storage).or(v6.filter(|ip| !ip.is_loopback()))
        })
        .map(address)
        .collect()
}

/// What the CNI plugins say that they have made (libcni's cache, `cniCacheV1`), by the name of the host's end.
pub(super) fn by_cni(folder: &Path) -> BTreeMap<String, Identity> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| cached(&serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok()?))
        .collect()
}

/// One file of the cache.
fn cached(file: &serde_json::Value) -> Option<(String, Identity)> {
    let argument = |name: &str| {
        let arguments = file.get("cniArgs")?.as_array()?;
        let pair = arguments.iter().find(|pair| pair.get(0).and_then(|n| n.as_str()) == Some(name))?;
        pair.get(1)?.as_str().map(str::to_owned)
    };
    let result = file.get("result")?;
    let interfaces = result.get("interfaces")?.as_array()?;
    let text = |of: &serde_json::Value, name: &str| of.get(name)?.as_str().map(str::to_owned);
    let inside = |i: &serde_json::Value| text(i, "sandbox").is_some_and(|sandbox| !sandbox.is_empty());
    let pod = interfaces.iter().find(|i| inside(i))?;
    // The bridge stands there too, before the veth.
    let host = interfaces.iter().rfind(|i| !inside(i))?;
    let mut identity = Identity {
        pod: argument("K8S_POD_NAMESPACE").zip(argument("K8S_POD_NAME")),
        mac: text(pod, "mac").and_then(|mac| octets(&mac)).unwrap_or_default(),
        addresses: Vec::new(),
    };
    for ip in result.get("ips").and_then(|ips| ips.as_array()).into_iter().flatten() {
        let written = text(ip, "address")?;
        let plain = written.split('/').next()?.parse::<IpAddr>().ok()?;
        identity.addresses.push(address(plain));
    }
    Some((text(host, "name")?, identity))
}

fn octets(mac: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = mac.split(':');
    for octet in &mut octets {
        *octet = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(octets)
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::cached;
    use crate::policy::compiled::v4;

    #[test]
    fn the_cni_cache_names_the_pod_of_a_veth() {
        let file = serde_json::json!({
            "kind": "cniCacheV1", "containerId": "0a1b", "ifName": "eth0", "networkName": "cbr0",
            "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "fediverse"], ["K8S_POD_NAME", "gts1-0"]],
            "result": {
                "cniVersion": "1.0.0",
                "interfaces": [
                    {"mac": "8a:11:22:33:44:55", "name": "cni0"},
                    {"mac": "d2:11:22:33:44:55", "name": "veth3c4d"},
                    {"mac": "6e:00:00:00:00:0a", "name": "eth0", "sandbox": "/var/run/netns/cni-1"}
                ],
                "ips": [{"address": "10.42.0.10/24", "gateway": "10.42.0.1", "interface": 2}]
            }
        });
        let (veth, identity) = cached(&file).expect("a cache file");
        assert_eq!(veth, "veth3c4d");
        assert_eq!(identity.pod, Some(("fediverse".into(), "gts1-0".into())));
        assert_eq!(identity.mac, [0x6e, 0, 0, 0, 0, 0x0a]);
        assert_eq!(identity.addresses, [v4(10, 42, 0, 10)]);
        assert_eq!(cached(&serde_json::json!({"kind": "cniCacheV1", "result": {}})), None);
    }
}
