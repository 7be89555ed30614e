//! The cluster's network: two nodes and what is outside, each a namespace. `NAME.n1` has the control plane, kube-proxy
//! and kube-router; `NAME.n2` only its pods. Pods come later, as namespaces `NAME.pod.*` with a veth in a node's `cni0`.
//! `NAME.outside` is the switch between the nodes, their way out, and everything that is beyond it: it has the addresses
//! of "the internet" itself, and there is no way to the machine's own interfaces or to anywhere.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::netns;
use crate::shell::run as run_command;

/// A node: its name, its addresses on the switch, its bridge's address, and the networks of the pods on that bridge.
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) addresses: &'static [&'static str],
    bridge: &'static [&'static str],
    /// Besides the bridge's own: the cases of `tests/policy` have pods of one node in several networks.
    pods: &'static [&'static str],
}

pub(super) const NODES: &[Node] = &[
    Node {
        name: "n1",
        addresses: &["192.0.2.1/24", "2001:db8:1::1/64"],
        bridge: &["10.42.0.1/24", "fd42::1/64"],
        pods: &["10.42.2.0/24", "10.42.3.0/24", "10.42.4.0/24"],
    },
    Node {
        name: "n2",
        addresses: &["192.0.2.2/24", "2001:db8:1::2/64"],
        bridge: &["10.42.1.1/24", "fd42:0:0:1::1/64"],
        pods: &[],
    },
];

/// The way out, on the switch.
const ROUTER: &[&str] = &["192.0.2.254/24", "2001:db8:1::fe/64"];

/// Where the nodes' names are told: outside, so that each question is seen to leave.
pub(super) const NAMESERVER: &str = "198.51.100.53";

/// What is there outside: addresses reserved for documentation (RFC 5737, RFC 3849), those that the cases of
/// `tests/policy` name, and one of NAT64's (RFC 6052).
pub(super) const OUTSIDE: &[&str] = &[
    "203.0.113.9",
    "198.51.100.7",
    NAMESERVER,
    "10.1.5.5",
    "10.1.2.3",
    "10.9.9.9",
    "2001:db8::9",
    "64:ff9b::cb00:7109",
];

impl Node {
    /// The networks of its pods that its object in the API names.
    pub(super) fn networks(&self) -> Vec<String> {
        self.bridge.iter().map(|address| network_of(address)).collect()
    }
}

/// Names of one cluster.
pub(super) struct Names {
    pub(super) cluster: String,
}

impl Names {
    /// A name that clusters may have: `.` separates it from the namespace's own.
    pub(super) fn new(cluster: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if cluster.is_empty() || cluster.len() > 20 || !cluster.chars().all(fits) {
            bail!("`{cluster}` is no name for a cluster: up to 20 small letters and digits");
        }
        Ok(Self { cluster: cluster.to_owned() })
    }

    /// The namespace of a node, or of what is outside.
    pub(super) fn namespace(&self, of: &str) -> String {
        format!("{}.{of}", self.cluster)
    }

    /// The cluster's namespaces that are there, with those of its pods.
    pub(super) fn there(&self) -> Result<Vec<String>> {
        let prefix = self.namespace("");
        Ok(netns::list()?.into_iter().filter(|name| name.starts_with(&prefix)).collect())
    }
}

/// Makes the network, without pods.
pub(super) fn build(names: &Names) -> Result<()> {
    demand_kernel()?;
    let outside = names.namespace("outside");
    netns::add(&outside)?;
    sysctl(&outside, &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
    netns::ip(&["-n", &outside, "link", "add", "switch", "type", "bridge"])?;
    netns::address(&outside, "switch", ROUTER)?;
    netns::address(&outside, "lo", OUTSIDE)?;
    for node in NODES {
        let name = names.namespace(node.name);
        netns::etc(&name, NAMESERVER)?;
        netns::add(&name)?;
        netns::veth((&name, "eth0"), (&outside, node.name))?;
        netns::ip(&["-n", &outside, "link", "set", node.name, "master", "switch", "up"])?;
        netns::ip(&["-n", &name, "link", "add", "cni0", "type", "bridge"])?;
        sysctl(
            &name,
            &[
                ("ipv4/ip_forward", "1"),
                ("ipv6/conf/all/forwarding", "1"),
                // As Kubernetes wants it of its nodes; bridged packets pass iptables by this alone.
                ("bridge/bridge-nf-call-iptables", "1"),
                ("bridge/bridge-nf-call-ip6tables", "1"),
                // Refusals are told as fast as they come, so that no test waits for a SYN to be sent again.
                ("ipv4/icmp_ratelimit", "0"),
                ("ipv6/icmp/ratelimit", "0"),
            ],
        )?;
        netns::address(&name, "eth0", node.addresses)?;
        netns::address(&name, "cni0", node.bridge)?;
        for network in node.pods {
            netns::ip(&["-n", &name, "route", "add", network, "dev", "cni0"])?;
        }
        for gateway in ROUTER {
            let gateway = without_prefix(gateway);
            netns::ip(&["-n", &name, "route", "add", "default", "via", gateway])?;
        }
        for (pods, iptables) in [("10.42.0.0/16", "iptables"), ("fd42::/16", "ip6tables")] {
            // As flannel does it: pods among themselves keep their addresses.
            let rule =
                ["-w", "-t", "nat", "-A", "POSTROUTING", "-s", pods, "!", "-d", pods, "-j", "MASQUERADE"];
            run_command(netns::inside(&name, iptables)?.args(rule))?;
        }
    }
    // Each node finds the other's pods by the other's address.
    for node in NODES {
        for other in NODES.iter().filter(|other| other.name != node.name) {
            for (network, via) in other.networks().iter().zip(other.addresses) {
                netns::ip(&[
                    "-n",
                    &names.namespace(node.name),
                    "route",
                    "add",
                    network,
                    "via",
                    without_prefix(via),
                ])?;
            }
            for network in other.pods {
                let via = without_prefix(other.addresses[0]);
                netns::ip(&["-n", &names.namespace(node.name), "route", "add", network, "via", via])?;
            }
        }
    }
    Ok(())
}

/// What a node's kernel must have.
fn demand_kernel() -> Result<()> {
    if !Path::new("/proc/sys/net/ipv6").exists() {
        bail!("this machine's kernel has no IPv6, which the cluster's nodes need");
    }
    if !Path::new("/proc/sys/net/bridge").exists() {
        run_command(Command::new("modprobe").arg("br_netfilter"))
            .context("bridged packets must pass iptables, which takes the kernel's br_netfilter")?;
    }
    Ok(())
}

fn without_prefix(address: &str) -> &str {
    address.split('/').next().unwrap_or(address)
}

/// The network of a bridge's address, which ends in 1.
fn network_of(address: &str) -> String {
    match address.split_once(".1/") {
        Some((network, prefix)) => format!("{network}.0/{prefix}"),
        None => address.replace("::1/", "::/"),
    }
}

/// Writes settings below `/proc/sys/net`, which are a namespace's own.
fn sysctl(namespace: &str, settings: &[(&str, &str)]) -> Result<()> {
    let script: Vec<String> =
        settings.iter().map(|(name, value)| format!("echo {value} >/proc/sys/net/{name}")).collect();
    run_command(netns::inside(namespace, "sh")?.args(["-ec", &script.join("\n")]))
}

#[cfg(test)]
mod tests {
    use super::{NODES, Names, Node};

    #[test]
    fn the_names_of_two_clusters_never_meet() {
        let (one, two) = (Names::new("a").expect("a name"), Names::new("ab").expect("a name"));
        assert!(!two.namespace("n1").starts_with(&one.namespace("")));
        for bad in ["", "a-b", "Lab", "a/b", "a.b", "twenty1characters1long"] {
            assert!(Names::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bridge_is_the_first_address_of_its_network() {
        let networks: Vec<String> = NODES.iter().flat_map(Node::networks).collect();
        assert_eq!(networks, ["10.42.0.0/24", "fd42::/64", "10.42.1.0/24", "fd42:0:0:1::/64"]);
    }
}
