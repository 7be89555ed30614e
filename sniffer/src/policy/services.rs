//! What kube-proxy does to a packet: from a Service's addresses and ports to its endpoints.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::cluster::{Cluster, Pod, port_number, protocol};
use super::compiled::{Address, Prefix, address, is_ipv4};
use super::objects::{self, IntOrString, Labels, Metadata};

/// The label by which an EndpointSlice says whose it is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Where the API server listens on its node, unless told otherwise.
const API_SERVER_PORT: u16 = 6443;

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its cluster addresses; none when it is headless or an alias.
    pub cluster_ips: Vec<Address>,
    /// Load balancers' and external addresses that a node translates.
    pub external_ips: Vec<Address>,
    /// It has no address by intent: its name leads straight to the pods.
    pub headless: bool,
    /// It is an alias for this name.
    pub alias_of: Option<String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Only endpoints of the sender's node are used for cluster addresses.
    pub internal_local: bool,
    /// The sender's address is kept for external addresses and node ports.
    pub keeps_source: bool,
    /// It is not among the objects, but every cluster has it (the API server's own).
    pub assumed: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty when it has none.
    pub name: String,
    /// The protocol's number.
    pub protocol: u8,
    /// Where the Service listens.
    pub port: u16,
    /// Where every node listens.
    pub node_port: Option<u16>,
    /// Where it leads to.
    pub backends: Vec<Backend>,
}

/// Where a port of a Service leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// The address.
    pub address: Address,
    /// The port.
    pub port: u16,
    /// The node (an index), when known.
    pub node: Option<usize>,
    /// 0: ready; 1: going, but still serving (used when nothing is ready).
    rank: u8,
}

/// By which of its addresses a Service was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A cluster address.
    ClusterIp,
    /// A load balancer's or external address.
    External,
    /// A port of the sender's own node.
    NodePort,
    /// A port of another node: translated there, not at the sender.
    OtherNodePort,
    /// A port of the sender's own node that leads to one pod (`hostPort`).
    HostPort,
    /// A `hostPort` of another node.
    OtherHostPort,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Whose the address is, as `Service x/s` or `Pod x/p`.
    pub name: String,
    /// How.
    pub via: Via,
    /// Where it goes, one of these; empty when the node refuses for want of endpoints.
    pub destinations: Vec<(Address, u16)>,
    /// On another node than the sender's the sender may be seen under its node's address.
    pub hides_source: bool,
    /// The Service is assumed, and so are its endpoints.
    pub assumed: bool,
}

impl Translation {
    /// Whether the sender's own node translates, before it decides.
    pub fn at_sender(&self) -> bool {
        !matches!(self.via, Via::OtherNodePort | Via::OtherHostPort)
    }
}

impl Service {
    /// Namespace and name.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl ServicePort {
    /// The backends that kube-proxy uses, of one family, for a sender on a node.
    fn used(&self, ipv4: bool, only_on: Option<Option<usize>>) -> Vec<(Address, u16)> {
        let family = self.backends.iter().filter(|b| is_ipv4(&b.address) == ipv4);
        let near = family.filter(|b| only_on.is_none_or(|node| node.is_some() && b.node == node));
        let near: Vec<&Backend> = near.collect();
        let best = near.iter().map(|b| b.rank).min();
        let mut out: Vec<(Address, u16)> =
            near.iter().filter(|b| Some(b.rank) == best).map(|b| (b.address, b.port)).collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The backends' addresses of a headless Service, whose port is not translated.
    pub fn addresses(&self) -> Vec<Address> {
        let both = [true, false].into_iter().flat_map(|ipv4| self.used(ipv4, None));
        both.map(|(address, _)| address).collect()
    }
}

impl Cluster {
    /// The Service of a name.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.services.iter().find(|s| s.namespace == namespace && s.name == name)
    }

    /// The Service that has a cluster address.
    pub fn service_at(&self, address: &Address) -> Option<&Service> {
        self.services.iter().find(|s| s.cluster_ips.contains(address))
    }

    /// What the nodes make of a packet's destination; `None` when it goes where it was sent.
    pub fn translate(&self, node: Option<usize>, to: &Address, protocol: u8, port: u16) -> Option<Translation> {
        let ipv4 = is_ipv4(to);
        let with_port = |service: &'_ Service| {
            service.ports.iter().position(|p| p.protocol == protocol && p.port == port)
        };
        for service in &self.services {
            let cluster = service.cluster_ips.contains(to);
            if !cluster && !service.external_ips.contains(to) {
                continue;
            }
            let Some(found) = with_port(service).and_then(|i| service.ports.get(i)) else { continue };
            let only_on = (cluster && service.internal_local).then_some(node);
            return Some(Translation {
                name: format!("Service {}", service.full_name()),
                via: if cluster { Via::ClusterIp } else { Via::External },
                destinations: found.used(ipv4, only_on),
                hides_source: !cluster && !service.keeps_source,
                assumed: service.assumed,
            });
        }
        let at = *self.node_addresses.get(to)?;
        let own = node == Some(at);
        for service in &self.services {
            let mut ports = service.ports.iter();
            if let Some(found) = ports.find(|p| p.protocol == protocol && p.node_port == Some(port)) {
                return Some(Translation {
                    name: format!("Service {}", service.full_name()),
                    via: if own { Via::NodePort } else { Via::OtherNodePort },
                    destinations: found.used(ipv4, (!own && service.keeps_source).then_some(Some(at))),
                    hides_source: !own || !service.keeps_source,
                    assumed: service.assumed,
                });
            }
        }
        for pod in self.pods.iter().filter(|pod| pod.is_held() && pod.node == Some(at)) {
            let leads = |p: &&super::cluster::PodPort| {
                p.protocol == protocol && p.host_port == Some(port) && p.host_ip.is_none_or(|ip| ip == *to)
            };
            if let (Some(found), Some(address)) = (pod.ports.iter().find(leads), pod.address(ipv4)) {
                return Some(Translation {
                    name: format!("Pod {}", pod.full_name()),
                    via: if own { Via::HostPort } else { Via::OtherHostPort },
                    destinations: vec![(address, found.number)],
                    hides_source: !own,
                    assumed: false,
                });
            }
        }
        None
    }
}

/// Which node an address is on, and whether a pod there is ready.
fn node_of(cluster: &Cluster, address: &Address) -> Option<usize> {
    cluster.pod_at(address).map_or_else(|| cluster.node_addresses.get(address).copied(), |(_, pod)| pod.node)
}

/// Endpoints as they were written, by Service.
#[derive(Default)]
struct Written {
    /// (port name, protocol, where). A `None` as port is every port.
    backends: Vec<(String, u8, Option<u16>, Backend)>,
}

/// Takes Services with their endpoints: those of EndpointSlices, else of Endpoints, else the pods that the selector
/// chooses (the same objects without what the controller makes of them).
pub(super) fn take(
    cluster: &Cluster,
    services: Vec<objects::Service>,
    slices: impl Iterator<Item = objects::EndpointSlice>,
    endpoints: impl Iterator<Item = objects::Endpoints>,
    first_node: Option<usize>,
) -> Vec<Service> {
    let by_name: HashMap<&str, usize> =
        cluster.nodes.iter().enumerate().map(|(i, node)| (node.name.as_str(), i)).collect();
    let node = |name: &Option<String>, address: &Address| {
        let named = name.as_deref().and_then(|n| by_name.get(n)).copied();
        named.or_else(|| node_of(cluster, address))
    };
    let mut written: BTreeMap<(String, String), Written> = BTreeMap::new();
    for slice in slices {
        let Some(service) = slice.metadata.labels.get(SERVICE_NAME) else { continue };
        let entry = written.entry((slice.metadata.namespace.clone(), service.clone())).or_default();
        for endpoint in &slice.endpoints {
            let conditions = &endpoint.conditions;
            let ready = conditions.ready.unwrap_or(true);
            let serving = conditions.serving.unwrap_or(ready);
            let rank = match (ready, serving && conditions.terminating == Some(true)) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => continue,
            };
            let Some(ip) = endpoint.addresses.first().and_then(|a| a.parse::<IpAddr>().ok()) else { continue };
            let address = address(ip);
            let node = node(&endpoint.node_name, &address);
            for port in &slice.ports {
                let Some(protocol) = protocol(port.protocol.as_deref()) else { continue };
                let number = port.port.and_then(port_number);
                let backend = Backend { address, port: number.unwrap_or(0), node, rank };
                entry.backends.push((port.name.clone().unwrap_or_default(), protocol, number, backend));
            }
        }
    }
    for old in endpoints {
        let key = (old.metadata.namespace.clone(), old.metadata.name.clone());
        if written.contains_key(&key) {
            continue;
        }
        let entry = written.entry(key).or_default();
        for subset in &old.subsets {
            for one in &subset.addresses {
                let Ok(ip) = one.ip.parse::<IpAddr>() else { continue };
                let address = address(ip);
                let node = node(&one.node_name, &address);
                for port in &subset.ports {
                    let Some(protocol) = protocol(port.protocol.as_deref()) else { continue };
                    let number = port.port.and_then(port_number);
                    let backend = Backend { address, port: number.unwrap_or(0), node, rank: 0 };
                    entry.backends.push((port.name.clone().unwrap_or_default(), protocol, number, backend));
                }
            }
        }
    }
    let mut out: Vec<Service> = services
        .iter()
        .map(|service| {
            let key = (service.metadata.namespace.clone(), service.metadata.name.clone());
            let own = written.get(&key);
            take_service(cluster, service, own, first_node)
        })
        .collect();
    if !out.iter().any(is_api_server)
        && let Some(address) = api_server_address(&out)
    {
        let metadata =
            Metadata { name: "kubernetes".into(), namespace: "default".into(), ..Metadata::default() };
        let port = objects::ServicePort { name: Some("https".into()), port: 443, ..objects::ServicePort::default() };
        let spec = objects::ServiceSpec {
            cluster_ip: Some(super::compiled::ip(&address).to_string()),
            ports: vec![port],
            ..objects::ServiceSpec::default()
        };
        let object = objects::Service { metadata, spec, ..objects::Service::default() };
        let mut service = take_service(cluster, &object, None, first_node);
        service.assumed = true;
        out.push(service);
        out.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    }
    out
}

fn is_api_server(service: &Service) -> bool {
    service.namespace == "default" && service.name == "kubernetes"
}

/// Every cluster has a Service for the API server; it takes the first address of the Services' range. The range is not
/// among the objects: it is taken to be what all known cluster addresses share, and at most 256 addresses of it.
fn api_server_address(services: &[Service]) -> Option<Address> {
    let known: Vec<u128> = services
        .iter()
        .flat_map(|s| &s.cluster_ips)
        .filter(|a| is_ipv4(a))
        .map(|a| u128::from_be_bytes(*a))
        .collect();
    let first = *known.first()?;
    let shared = known.iter().map(|a| (a ^ first).leading_zeros()).min()?.min(120);
    let net = Prefix::new(first.to_be_bytes(), u8::try_from(shared).ok()?);
    let guess = u128::from_be_bytes(net.address) | 1;
    (!known.contains(&guess)).then(|| guess.to_be_bytes())
}

fn take_service(
    cluster: &Cluster,
    service: &objects::Service,
    written: Option<&Written>,
    first_node: Option<usize>,
) -> Service {
    let spec = &service.spec;
    let kind = spec.kind.as_deref().unwrap_or("ClusterIP");
    let alias = kind == "ExternalName";
    let mut cluster_ips: Vec<Address> = Vec::new();
    for ip in spec.cluster_ips.iter().chain(&spec.cluster_ip).filter_map(|ip| ip.parse::<IpAddr>().ok()) {
        if !cluster_ips.contains(&address(ip)) && !alias {
            cluster_ips.push(address(ip));
        }
    }
    let balancers = service.status.load_balancer.ingress.iter();
    let balancers =
        balancers.filter(|i| i.ip_mode.as_deref() != Some("Proxy")).filter_map(|i| i.ip.as_ref());
    let external = spec.external_ips.iter().chain(balancers).filter_map(|ip| ip.parse::<IpAddr>().ok());
    let mut out = Service {
        namespace: service.metadata.namespace.clone(),
        name: service.metadata.name.clone(),
        headless: !alias && cluster_ips.is_empty(),
        cluster_ips,
        external_ips: if alias { Vec::new() } else { external.map(address).collect() },
        alias_of: alias.then(|| spec.external_name.clone().unwrap_or_default()),
        ports: Vec::new(),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        keeps_source: spec.external_traffic_policy.as_deref() == Some("Local"),
        assumed: false,
    };
    let opens_node_ports = matches!(kind, "NodePort" | "LoadBalancer");
    for port in &spec.ports {
        let (Some(protocol), Some(number)) = (protocol(port.protocol.as_deref()), port_number(port.port)) else {
            continue;
        };
        let name = port.name.clone().unwrap_or_default();
        let backends = match written {
            Some(written) => {
                let own = written.backends.iter().filter(|(n, p, _, _)| *n == name && *p == protocol);
                // An endpoint that names no port takes every one, untranslated.
                own.map(|(_, _, to, b)| Backend { port: to.unwrap_or(number), ..b.clone() }).collect()
            }
            None if is_api_server(&out) => {
                let marked = cluster.nodes.iter().any(|n| n.control_plane);
                let nodes = cluster.nodes.iter().enumerate();
                let servers =
                    nodes.filter(|(i, n)| if marked { n.control_plane } else { Some(*i) == first_node });
                servers
                    .filter_map(|(i, n)| {
                        let address = *n.addresses.iter().find(|a| is_ipv4(a))?;
                        Some(Backend { address, port: API_SERVER_PORT, node: Some(i), rank: 0 })
                    })
                    .collect()
            }
            None if spec.selector.is_empty() => Vec::new(),
            None => selected(cluster, service, port, protocol, number),
        };
        let node_port = port.node_port.filter(|_| opens_node_ports).and_then(port_number);
        out.ports.push(ServicePort { name, protocol, port: number, node_port, backends });
    }
    out
}

/// The pods that a Service's selector chooses, as the endpoint controller would list them.
fn selected(
    cluster: &Cluster,
    service: &objects::Service,
    port: &objects::ServicePort,
    protocol: u8,
    number: u16,
) -> Vec<Backend> {
    let chosen = |pod: &&Pod| {
        pod.namespace == service.metadata.namespace
            && !pod.finished
            && (pod.ready || service.spec.publish_not_ready_addresses)
            && has_all(&pod.labels, &service.spec.selector)
    };
    let mut out = Vec::new();
    for pod in cluster.pods.iter().filter(chosen) {
        let target = match &port.target_port {
            None => Some(number),
            Some(IntOrString::Int(target)) => port_number(*target),
            Some(IntOrString::String(name)) => pod.named(name, protocol).next(),
        };
        let Some(target) = target else { continue };
        let addresses = pod.addresses.iter();
        out.extend(addresses.map(|a| Backend { address: *a, port: target, node: pod.node, rank: 0 }));
    }
    out
}

fn has_all(labels: &Labels, selector: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
