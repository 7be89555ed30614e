//! The lab's network: a node as a small Kubernetes distribution makes it, in namespaces. `NAME-node` has the bridge
//! `cni0` with one veth per pod, and an uplink `eth0` whose other end, `NAME-outside`, forwards nothing: there is no
//! way to the machine's own interfaces or to anywhere.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::netns;
use crate::shell::run as run_command;

/// A pod: its name, and the last part of its addresses.
pub(super) struct Pod {
    pub(super) name: &'static str,
    number: u8,
}

/// The pods, with the addresses that the captures in `tests/traces` have.
pub(super) const PODS: &[Pod] = &[
    Pod { name: "ingress", number: 10 },
    Pod { name: "fed1", number: 31 },
    Pod { name: "fed2", number: 32 },
    Pod { name: "client", number: 90 },
];

/// The node's own address on the bridge, where the DNS is.
pub(super) const GATEWAY: &str = "10.42.0.1";
const GATEWAY6: &str = "fd00:42::1";
/// flannel's VXLAN takes 50 of 1500.
const MTU: &str = "1450";

impl Pod {
    pub(super) fn address(&self) -> String {
        format!("10.42.0.{}", self.number)
    }

    pub(super) fn address6(&self) -> String {
        format!("fd00:42::{}", self.number)
    }
}

/// Names of one lab.
pub(super) struct Names {
    pub(super) lab: String,
}

/// What a listener needs to know.
#[derive(Serialize)]
pub(super) struct Place {
    pod: &'static str,
    namespace: String,
    /// The node's end of the pod's veth.
    veth: String,
    addresses: Vec<String>,
}

impl Names {
    /// A name that labs may have: `-` separates it from the namespace's own.
    pub(super) fn new(lab: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if lab.is_empty() || lab.len() > 20 || !lab.chars().all(fits) {
            bail!("`{lab}` is no name for a lab: up to 20 small letters and digits");
        }
        Ok(Self { lab: lab.to_owned() })
    }

    /// The namespace of the node, of a pod, or of what is outside.
    pub(super) fn namespace(&self, of: &str) -> String {
        format!("{}-{of}", self.lab)
    }

    /// The node's end of a pod's veth, named as a container runtime does: `veth` and eight hexadecimal digits, the same
    /// for the same lab and pod.
    pub(super) fn veth(&self, pod: &str) -> String {
        let hash = Sha256::digest(self.namespace(pod));
        hash.iter().take(4).fold("veth".to_owned(), |name, byte| format!("{name}{byte:02x}"))
    }

    pub(super) fn places(&self) -> Vec<Place> {
        let place = |pod: &Pod| Place {
            pod: pod.name,
            namespace: self.namespace(pod.name),
            veth: self.veth(pod.name),
            addresses: vec![pod.address(), pod.address6()],
        };
        PODS.iter().map(place).collect()
    }

    /// The namespaces of this lab, by their exact names: whatever else has a name that begins alike is not ours.
    pub(super) fn namespaces(&self) -> Vec<String> {
        let pods = PODS.iter().map(|pod| pod.name);
        ["node", "outside"].into_iter().chain(pods).map(|of| self.namespace(of)).collect()
    }

    /// Those that are there.
    pub(super) fn there(&self) -> Result<Vec<String>> {
        let all = netns::list()?;
        Ok(self.namespaces().into_iter().filter(|name| all.contains(name)).collect())
    }

    /// The processes in them.
    pub(super) fn running(&self) -> Result<Vec<i32>> {
        netns::running(&self.there()?)
    }
}

/// Whether the kernel knows IPv6.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Makes the network.
pub(super) fn build(names: &Names) -> Result<()> {
    let (node, outside) = (names.namespace("node"), names.namespace("outside"));
    let six = has_ipv6();
    let both = |four: String, six_: String| if six { vec![four, six_] } else { vec![four] };
    for name in [&node, &outside] {
        netns::etc(name, GATEWAY)?;
        netns::add(name)?;
    }
    netns::ip(&["-n", &node, "link", "add", "cni0", "mtu", MTU, "type", "bridge"])?;
    address(&node, "cni0", &both(format!("{GATEWAY}/24"), format!("{GATEWAY6}/64")))?;
    netns::veth((&node, "eth0"), (&outside, "eth0"))?;
    // Addresses that are reserved for documentation (RFC 5737).
    address(&node, "eth0", &["192.0.2.2/24".into()])?;
    address(&outside, "eth0", &["192.0.2.1/24".into()])?;
    netns::ip(&["-n", &node, "route", "add", "default", "via", "192.0.2.1"])?;
    // A new namespace may have these from the machine.
    for (namespace, value) in [(&node, 1), (&outside, 0)] {
        let forward = format!(
            "for f in /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding; do \
             if [ -e $f ]; then echo {value} >$f || exit 1; fi; done"
        );
        run_command(netns::inside(namespace, "sh")?.args(["-c", &forward]))?;
    }
    for pod in PODS {
        let (name, veth) = (names.namespace(pod.name), names.veth(pod.name));
        netns::etc(&name, GATEWAY)?;
        netns::add(&name)?;
        netns::veth((&node, &veth), (&name, "eth0"))?;
        for (namespace, interface) in [(&node, veth.as_str()), (&name, "eth0")] {
            netns::ip(&["-n", namespace, "link", "set", interface, "mtu", MTU])?;
        }
        netns::ip(&["-n", &node, "link", "set", &veth, "master", "cni0", "up"])?;
        let addresses = both(format!("{}/24", pod.address()), format!("{}/64", pod.address6()));
        address(&name, "eth0", &addresses)?;
        netns::ip(&["-n", &name, "route", "add", "default", "via", GATEWAY])?;
        if six {
            netns::ip(&["-n", &name, "-6", "route", "add", "default", "via", GATEWAY6])?;
        }
    }
    Ok(())
}

fn address(namespace: &str, interface: &str, addresses: &[String]) -> Result<()> {
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    netns::address(namespace, interface, &addresses)
}

/// Takes the network away, and ends every process in it.
pub(super) fn remove(names: &Names) -> Result<()> {
    netns::remove(&names.there()?, &names.namespaces(), Duration::from_secs(3))
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn the_names_of_two_labs_never_meet() {
        let (one, two) = (Names::new("lab").expect("a name"), Names::new("lab2").expect("a name"));
        let theirs = two.namespaces();
        assert!(one.namespaces().iter().all(|ours| !theirs.contains(ours)));
        assert_ne!(one.veth("fed1"), two.veth("fed1"));
        // An interface's name has 15 octets at most.
        assert_eq!(one.veth("fed1").len(), 12);
        for bad in ["", "a-b", "Lab", "a/b", "a.b", "twenty1characters1long"] {
            assert!(Names::new(bad).is_err(), "{bad}");
        }
    }
}
