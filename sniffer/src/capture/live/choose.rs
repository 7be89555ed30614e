//! Which interfaces are watched: those that `--interfaces` names, else the host-side veths of pods.

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::links::Link;

/// Bridges whose ports are pods, in the clusters that we know: the CNI `bridge` plugin's default and k3s, kubenet,
/// kube-router.
pub(super) const POD_BRIDGES: &[&str] = &["cni0", "cbr0", "kube-bridge"];

/// How CNI plugins name the host's end: bridge and ptp, Calico, Cilium and LXC.
const POD_NAMES: &[&str] = &["veth", "cali", "lxc"];

/// Which interfaces to watch.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    globs: Option<GlobSet>,
}

impl Interfaces {
    /// Those whose name one of `globs` matches; without any, the host-side veths of pods.
    ///
    /// # Errors
    /// A glob that cannot be read, with the reason.
    pub fn new(globs: &[String]) -> Result<Self, String> {
        if globs.is_empty() {
            return Ok(Self::default());
        }
        let mut set = GlobSetBuilder::new();
        for text in globs {
            set.add(Glob::new(text).map_err(|error| format!("`{text}`: {}", error.kind()))?);
        }
        Ok(Self { globs: Some(set.build().map_err(|error| error.to_string())?) })
    }

    /// Whether the user named them.
    pub fn named(&self) -> bool {
        self.globs.is_some()
    }

    /// Whether `link` is watched; `bridge` is the name of the interface that it is a port of. An interface that carries
    /// a default route is the node's way out, whatever it is called, and is taken only by name.
    pub(super) fn takes(&self, link: &Link, bridge: Option<&str>, way_out: bool) -> bool {
        self.judge(link, bridge, way_out).0
    }

    /// The same, with the reason.
    pub(super) fn judge(&self, link: &Link, bridge: Option<&str>, way_out: bool) -> (bool, String) {
        if let Some(globs) = &self.globs {
            let named = globs.is_match(&link.name);
            return (named, format!("{} by --interfaces", if named { "named" } else { "not named" }));
        }
        if !link.veth {
            return (false, "not one end of a veth pair".into());
        }
        if way_out {
            return (false, "carries a default route: the node's own way out".into());
        }
        if let Some(bridge) = bridge.filter(|bridge| POD_BRIDGES.contains(bridge)) {
            return (true, format!("a port of {bridge}, whose ports are pods"));
        }
        if let Some(prefix) = POD_NAMES.iter().find(|prefix| link.name.starts_with(**prefix)) {
            return (true, format!("a veth that is named {prefix}…"));
        }
        // The other end of a container's `eth0`, under whatever name, lies in another namespace.
        if link.name.starts_with("eth") && link.peer_elsewhere {
            return (true, "a veth whose other end lies in another network namespace".into());
        }
        (false, "a veth that nothing marks as a pod's; --interfaces takes it by name".into())
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]
mod tests {
    use super::Interfaces;
    use crate::links::Link;

    fn link(name: &str, veth: bool, peer_elsewhere: bool) -> Link {
        Link {
            index: 1,
            name: name.into(),
            veth,
            peer_elsewhere,
            bridge: None,
            peer: None,
            peer_namespace: None,
        }
    }

    #[test]
    fn by_default_the_host_side_of_pods_is_taken_and_the_nodes_own_interfaces_are_not() {
        let default = Interfaces::default();
        let takes =
            |name, veth, elsewhere, bridge| default.takes(&link(name, veth, elsewhere), bridge, false);
        assert!(takes("veth0a17f1d7", true, true, Some("cni0")));
        assert!(takes("vethtap16", true, false, None));
        assert!(takes("cali12ab", true, true, None));
        assert!(takes("pod-7", true, true, Some("cbr0")));
        assert!(takes("eth7", true, true, None));
        for (name, veth, elsewhere, bridge) in [
            ("lo", false, false, None),
            ("eth0", false, false, None),
            ("cni0", false, false, None),
            ("flannel.1", false, false, None),
            ("lxcbr0", false, false, None),
            ("tap0", true, true, Some("docker0")),
            ("eth7", true, false, None),
        ] {
            assert!(!takes(name, veth, elsewhere, bridge), "{name}");
        }
        assert!(
            !default.takes(&link("eth0", true, true), None, true),
            "the way out of a node that is a container"
        );
    }

    #[test]
    fn named_ones_are_taken_by_name_alone() {
        let named = Interfaces::new(&["eth?".into(), "gts*".into()]).expect("these are globs");
        assert!(named.takes(&link("eth0", false, false), None, true));
        assert!(named.takes(&link("gts1", false, false), None, false));
        assert!(!named.takes(&link("veth1", true, true), Some("cni0"), false));
        let wrong = Interfaces::new(&["veth[".into()]).expect_err("an open class");
        assert!(wrong.starts_with("`veth[`: "), "{wrong}");
    }
}
