//! Pods: an object in the API, whose status is written as a kubelet would, and a network namespace with a veth in its
//! node's bridge, as a container runtime would make it.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::place::{Place, ip, mac_of};
use super::{Cluster, api, lock, text};

/// A pod: its object in the API is named the same.
pub struct Pod {
    /// The namespace of the API.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// Its addresses, the first of which the API calls `podIP`.
    pub addresses: Vec<IpAddr>,
    /// The node's end of its veth.
    pub veth: String,
    /// Its network namespace.
    pub place: Arc<Place>,
}

/// What a pod is to be.
pub struct PodSpec<'a> {
    namespace: &'a str,
    name: &'a str,
    labels: Value,
    ports: Value,
    addresses: Vec<IpAddr>,
    node: &'a str,
}

impl<'a> PodSpec<'a> {
    /// On the first node, without labels and ports.
    pub fn new(namespace: &'a str, name: &'a str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|a| a.parse().expect("an address")).collect();
        Self { namespace, name, labels: json!({"app": name}), ports: json!([]), addresses, node: "n1" }
    }

    /// With these labels instead of `app: NAME`.
    #[must_use]
    pub fn labels(mut self, labels: Value) -> Self {
        self.labels = labels;
        self
    }

    /// With these ports of its one container (`[{"name": .., "containerPort": ..}]`).
    #[must_use]
    pub fn ports(mut self, ports: Value) -> Self {
        self.ports = ports;
        self
    }

    /// On this node.
    #[must_use]
    pub fn on(mut self, node: &'a str) -> Self {
        self.node = node;
        self
    }
}

impl std::ops::Deref for Pod {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Pod {
    /// Its first IPv4 address.
    pub fn ip(&self) -> IpAddr {
        self.addresses[0]
    }
}

impl Cluster {
    /// A pod that runs: object, namespace and address.
    ///
    /// # Errors
    /// The API refuses, or the kernel.
    pub fn pod(&self, spec: &PodSpec<'_>) -> Result<Arc<Pod>> {
        let pod = self.unpublished(spec)?;
        self.publish(spec.namespace, spec.name, spec.node, &spec.addresses, "Running")?;
        Ok(pod)
    }

    /// A pod whose address the API does not know yet, as while a kubelet starts it.
    ///
    /// # Errors
    /// The API refuses, or the kernel.
    pub fn unpublished(&self, spec: &PodSpec<'_>) -> Result<Arc<Pod>> {
        self.object(spec)?;
        let name = text(&self.about, "name")?;
        let namespace = format!("{name}.pod.{}.{}", spec.namespace, spec.name);
        let node = if spec.node == "n1" { &self.node } else { &self.node2 };
        let mac = mac_of(&spec.addresses);
        let veth = format!("veth{}", mac.replace(':', "").split_at(4).1);
        let place = Arc::new(Place::new(&namespace));
        let networks: &[&str] = match spec.node {
            "n1" => &["10.42.0.0/24", "10.42.2.0/24", "10.42.3.0/24", "10.42.4.0/24"],
            _ => &["10.42.1.0/24"],
        };
        let (four, six) =
            if spec.node == "n1" { ("10.42.0.1", "fd42::1") } else { ("10.42.1.1", "fd42:0:0:1::1") };
        ip(&["netns", "add", &namespace])?;
        // No time is spent on finding out that nobody else has the addresses.
        place.set("ipv6/conf/default/accept_dad", "0")?;
        ip(&[
            "link",
            "add",
            &veth,
            "netns",
            node.namespace(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "address",
            &mac,
            "netns",
            &namespace,
        ])?;
        let hairpin = ["link", "set", &veth, "master", "cni0"].join(" ");
        node.ip_batch(&format!(
            "{hairpin}\nlink set {veth} type bridge_slave hairpin on\nlink set {veth} up\n"
        ))?;
        let mut lines = "link set lo up\nlink set eth0 up\n".to_owned();
        for address in &spec.addresses {
            match address {
                IpAddr::V4(address) => {
                    lines += &format!("address add {address}/32 dev eth0\n");
                    for network in networks {
                        lines += &format!("route add {network} dev eth0 src {address}\n");
                    }
                    lines += &format!("route add default via {four} src {address}\n");
                }
                IpAddr::V6(address) => {
                    lines +=
                        &format!("address add {address}/64 dev eth0 nodad\nroute add default via {six}\n");
                }
            }
        }
        place.ip_batch(&lines)?;
        // What is sent before that is lost, and sent again only after a second.
        node.carries("cni0")?;
        node.carries(&veth)?;
        place.carries("eth0")?;
        let pod = Arc::new(Pod {
            namespace: spec.namespace.to_owned(),
            name: spec.name.to_owned(),
            addresses: spec.addresses.clone(),
            veth,
            place,
        });
        lock(&self.pods).insert(format!("{}/{}", spec.namespace, spec.name), Arc::clone(&pod));
        Ok(pod)
    }

    /// The pod's object alone.
    pub(super) fn object(&self, spec: &PodSpec<'_>) -> Result<()> {
        self.api.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": spec.namespace, "name": spec.name, "labels": spec.labels},
            "spec": {"nodeName": spec.node, "containers": [{"name": "c", "image": "none", "ports": spec.ports}]},
        }))?;
        Ok(())
    }

    /// Tells the API a pod's addresses and phase, as a kubelet does.
    ///
    /// # Errors
    /// The API refuses.
    pub fn publish(
        &self,
        namespace: &str,
        name: &str,
        node: &str,
        addresses: &[IpAddr],
        phase: &str,
    ) -> Result<()> {
        let host = if node == "n1" { "192.0.2.1" } else { "192.0.2.2" };
        let ips: Vec<Value> = addresses.iter().map(|a| json!({"ip": a.to_string()})).collect();
        self.api.status(
            &api::path("v1", "Pod", Some(namespace), name)?,
            &json!({"phase": phase, "podIP": addresses[0].to_string(), "podIPs": ips, "hostIP": host,
                "hostIPs": [{"ip": host}]}),
        )
    }

    /// The pod `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn find(&self, name: &str) -> Result<Arc<Pod>> {
        lock(&self.pods).get(name).cloned().with_context(|| format!("no pod {name}"))
    }

    /// Whose an address is: a pod's, a node's, or that of what is outside.
    pub fn owner(&self, address: IpAddr) -> Arc<Place> {
        let pod = lock(&self.pods)
            .values()
            .find(|pod| pod.addresses.contains(&address))
            .map(|p| Arc::clone(&p.place));
        pod.unwrap_or_else(|| match address.to_string().as_str() {
            "192.0.2.1" | "10.42.0.1" | "2001:db8:1::1" | "fd42::1" => Arc::clone(&self.node),
            "192.0.2.2" | "10.42.1.1" | "2001:db8:1::2" => Arc::clone(&self.node2),
            _ => Arc::clone(&self.outside),
        })
    }

    /// Takes a pod away.
    ///
    /// # Errors
    /// The API refuses, or the kernel.
    pub fn remove(&self, pod: &Pod) -> Result<()> {
        lock(&self.pods).remove(&format!("{}/{}", pod.namespace, pod.name));
        self.api.delete(&api::path("v1", "Pod", Some(&pod.namespace), &pod.name)?)?;
        let node = if self.node.has(&pod.veth) { &self.node } else { &self.node2 };
        // A socket may keep the pod's namespace alive; its veth would stay.
        ip(&["-n", node.namespace(), "link", "delete", &pod.veth])?;
        ip(&["netns", "delete", pod.place.namespace()])?;
        Ok(())
    }
}
