//! Kubernetes objects as far as policies need them, under the names that Kubernetes gives them. A parsed document (a JSON
//! value, whatever it was written in) comes in, typed objects go out. What is not needed here is ignored; what has the
//! wrong shape is refused with the object's name and the field's path.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Takes a list as the API server does: absent and `null` are empty, and a `null` element is one with nothing set.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<Vec<T>, D::Error> {
    let list = Option::<Vec<Option<T>>>::deserialize(from)?;
    Ok(list.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect())
}

/// Takes a value for which `null` is as good as absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Labels, where `null` as a value is the empty text.
fn labels<'de, D: Deserializer<'de>>(from: D) -> Result<Labels, D::Error> {
    let labels = Option::<BTreeMap<String, Option<String>>>::deserialize(from)?;
    Ok(labels.unwrap_or_default().into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect())
}

macro_rules! object {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "camelCase", default, remote = "Self")]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        // Only from a map. What serde derives would also take a list of the fields in order, which the API server does
        // not: `podSelector: []` would select everything.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Map;
                impl<'de> Visitor<'de> for Map {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a map")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                        $name::deserialize(MapAccessDeserializer::new(map))
                    }
                }
                from.deserialize_map(Map)
            }
        }
    )*};
}

object! {
    /// `metadata`.
    Metadata {
        /// Unique within kind and namespace.
        #[serde(deserialize_with = "or_default")]
        name: String,
        /// Empty for what belongs to no namespace.
        #[serde(deserialize_with = "or_default")]
        namespace: String,
        /// What selectors look at.
        #[serde(deserialize_with = "labels")]
        labels: Labels,
        /// When it was made (RFC 3339).
        creation_timestamp: Option<String>,
        /// When it was asked to go.
        deletion_timestamp: Option<String>,
    }

    /// networking.k8s.io/v1 NetworkPolicy.
    NetworkPolicy {
        /// Names it.
        #[serde(deserialize_with = "or_default")]
        metadata: Metadata,
        /// What it says.
        #[serde(deserialize_with = "or_default")]
        spec: NetworkPolicySpec,
    }

    /// What a NetworkPolicy says.
    NetworkPolicySpec {
        /// The pods of its namespace that it selects; empty is all.
        #[serde(deserialize_with = "or_default")]
        pod_selector: LabelSelector,
        /// From where the selected pods may be connected to.
        #[serde(deserialize_with = "list")]
        ingress: Vec<IngressRule>,
        /// Where the selected pods may connect to.
        #[serde(deserialize_with = "list")]
        egress: Vec<EgressRule>,
        /// `Ingress`, `Egress`; what the API server makes of an empty list is in `cluster`.
        #[serde(deserialize_with = "list")]
        policy_types: Vec<String>,
    }

    /// One element of `ingress`.
    IngressRule {
        /// Empty is everywhere.
        #[serde(deserialize_with = "list")]
        from: Vec<Peer>,
        /// Empty is every port and protocol.
        #[serde(deserialize_with = "list")]
        ports: Vec<PolicyPort>,
    }

    /// One element of `egress`.
    EgressRule {
        /// Empty is everywhere.
        #[serde(deserialize_with = "list")]
        to: Vec<Peer>,
        /// Empty is every port and protocol.
        #[serde(deserialize_with = "list")]
        ports: Vec<PolicyPort>,
    }

    /// One element of `to` or `from`.
    Peer {
        /// Pods, in the policy's namespace or in those of `namespace_selector`.
        pod_selector: Option<LabelSelector>,
        /// Namespaces.
        namespace_selector: Option<LabelSelector>,
        /// Addresses.
        ip_block: Option<IpBlock>,
    }

    /// Addresses.
    IpBlock {
        /// As `10.42.0.0/15`.
        #[serde(deserialize_with = "or_default")]
        cidr: String,
        /// Parts of it that are not meant.
        #[serde(deserialize_with = "list")]
        except: Vec<String>,
    }

    /// One element of `ports`.
    PolicyPort {
        /// `TCP` when absent.
        protocol: Option<String>,
        /// Every port when absent.
        port: Option<IntOrString>,
        /// The last port of the range that `port` begins.
        end_port: Option<i32>,
    }

    /// What chooses objects by their labels; empty chooses all.
    LabelSelector {
        /// All of them must be there.
        #[serde(deserialize_with = "labels")]
        match_labels: Labels,
        /// All of them must hold.
        #[serde(deserialize_with = "list")]
        match_expressions: Vec<LabelSelectorRequirement>,
    }

    /// One element of `matchExpressions`.
    LabelSelectorRequirement {
        /// The label.
        #[serde(deserialize_with = "or_default")]
        key: String,
        /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
        #[serde(deserialize_with = "or_default")]
        operator: String,
        /// For `In` and `NotIn`.
        #[serde(deserialize_with = "list")]
        values: Vec<String>,
    }

    /// v1 Namespace.
    Namespace {
        /// Names it.
        #[serde(deserialize_with = "or_default")]
        metadata: Metadata,
    }

    /// v1 Node.
    Node {
        /// Names it.
        #[serde(deserialize_with = "or_default")]
        metadata: Metadata,
        /// Its pod ranges.
        #[serde(deserialize_with = "or_default")]
        spec: NodeSpec,
        /// Its addresses.
        #[serde(deserialize_with = "or_default")]
        status: NodeStatus,
    }

    /// What a Node is given.
    NodeSpec {
        /// The first of `pod_cidrs`.
        pod_cidr: Option<String>,
        /// The ranges that its pods' addresses come from.
        #[serde(rename = "podCIDRs", deserialize_with = "list")]
        pod_cidrs: Vec<String>,
    }

    /// What a Node says of itself.
    NodeStatus {
        /// Addresses and names.
        #[serde(deserialize_with = "list")]
        addresses: Vec<NodeAddress>,
    }

    /// One element of a Node's `status.addresses`.
    NodeAddress {
        /// `InternalIP`, `ExternalIP`, `Hostname` …
        #[serde(rename = "type", deserialize_with = "or_default")]
        kind: String,
        /// The address or name.
        #[serde(deserialize_with = "or_default")]
        address: String,
    }

    /// v1 Pod.
    Pod {
        /// Names it.
        #[serde(deserialize_with = "or_default")]
        metadata: Metadata,
        /// How it runs.
        #[serde(deserialize_with = "or_default")]
        spec: PodSpec,
        /// How it fares.
        #[serde(deserialize_with = "or_default")]
        status: PodStatus,
    }

    /// How a Pod runs.
    PodSpec {
        /// The node.
        node_name: Option<String>,
        /// It uses the node's addresses.
        #[serde(deserialize_with = "or_default")]
        host_network: bool,
        /// Its containers.
        #[serde(deserialize_with = "list")]
        containers: Vec<Container>,
        /// Those that run before; of these only sidecars have ports that matter.
        #[serde(deserialize_with = "list")]
        init_containers: Vec<Container>,
    }

    /// A container.
    Container {
        /// `Always` makes an init container a sidecar.
        restart_policy: Option<String>,
        /// Its declared ports.
        #[serde(deserialize_with = "list")]
        ports: Vec<ContainerPort>,
    }

    /// A declared port.
    ContainerPort {
        /// What named ports of policies and Services refer to.
        name: Option<String>,
        /// Its number.
        #[serde(deserialize_with = "or_default")]
        container_port: i32,
        /// `TCP` when absent.
        protocol: Option<String>,
        /// A port of the node that leads here.
        host_port: Option<i32>,
        /// The address of the node that `host_port` is bound to; every one when absent.
        #[serde(rename = "hostIP")]
        host_ip: Option<String>,
    }

    /// How a Pod fares.
    PodStatus {
        /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
        phase: Option<String>,
        /// The first of `pod_i_ps`.
        #[serde(rename = "podIP")]
        pod_ip: Option<String>,
        /// One of each family at most.
        #[serde(rename = "podIPs", deserialize_with = "list")]
        pod_ips: Vec<Ip>,
        /// The first of `host_ips`.
        #[serde(rename = "hostIP")]
        host_ip: Option<String>,
        /// The node's addresses.
        #[serde(rename = "hostIPs", deserialize_with = "list")]
        host_ips: Vec<Ip>,
        /// Whether it is ready stands here.
        #[serde(deserialize_with = "list")]
        conditions: Vec<Condition>,
    }

    /// One element of a Pod's `status.conditions`.
    Condition {
        /// As `Ready`.
        #[serde(rename = "type", deserialize_with = "or_default")]
        kind: String,
        /// `True`, `False` or `Unknown`.
        #[serde(deserialize_with = "or_default")]
        status: String,
    }

    /// An address in a list.
    Ip {
        /// As text.
        #[serde(deserialize_with = "or_default")]
        ip: String,
    }

    /// v1 Service.
    Service {
        /// Names it.
        #[serde(deserialize_with = "or_default")]
        metadata: Metadata,
        /// What it offers.
        #[serde(deserialize_with = "or_default")]
        spec: ServiceSpec,
        /// What a load balancer gave it.
        #[serde(deserialize_with = "or_default")]
        status: ServiceStatus,
    }

    /// What a Service offers.
    ServiceSpec {
        /// `ClusterIP` when absent.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// The first of `cluster_ips`; `None` is headless.
        #[serde(rename = "clusterIP")]
        cluster_ip: Option<String>,
        /// One of each family at most.
        #[serde(rename = "clusterIPs", deserialize_with = "list")]
        cluster_ips: Vec<String>,
        /// Addresses that lead here where packets to them arrive.
        #[serde(rename = "externalIPs", deserialize_with = "list")]
        external_ips: Vec<String>,
        /// For `ExternalName`.
        external_name: Option<String>,
        /// What it listens on.
        #[serde(deserialize_with = "list")]
        ports: Vec<ServicePort>,
        /// Its pods.
        #[serde(deserialize_with = "labels")]
        selector: Labels,
        /// `Cluster` when absent.
        external_traffic_policy: Option<String>,
        /// `Cluster` when absent.
        internal_traffic_policy: Option<String>,
        /// Pods count before they are ready.
        #[serde(deserialize_with = "or_default")]
        publish_not_ready_addresses: bool,
    }

    /// One port of a Service.
    ServicePort {
        /// Links it to the port of its endpoints.
        name: Option<String>,
        /// `TCP` when absent.
        protocol: Option<String>,
        /// Where it listens.
        #[serde(deserialize_with = "or_default")]
        port: i32,
        /// The pods' port: `port` when absent.
        target_port: Option<IntOrString>,
        /// The port on every node.
        node_port: Option<i32>,
    }

    /// What a load balancer gave a Service.
    ServiceStatus {
        /// Its addresses.
        #[serde(deserialize_with = "or_default")]
        load_balancer: LoadBalancer,
    }

    /// A load balancer's addresses.
    LoadBalancer {
        /// Each.
        #[serde(deserialize_with = "list")]
        ingress: Vec<LoadBalancerIngress>,
    }

    /// One address of a load balancer.
    LoadBalancerIngress {
        /// The address; a name when absent.
        ip: Option<String>,
        /// With `Proxy` the node does not translate it.
        ip_mode: Option<String>,
    }

    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice {
        /// Its label `kubernetes.io/service-name` says whose it is.
        #[serde(deserialize_with = "or_default")]
        metadata: Metadata,
        /// `IPv4`, `IPv6` or `FQDN`.
        #[serde(deserialize_with = "or_default")]
        address_type: String,
        /// Where the Service leads.
        #[serde(deserialize_with = "list")]
        endpoints: Vec<SliceEndpoint>,
        /// At which ports.
        #[serde(deserialize_with = "list")]
        ports: Vec<EndpointPort>,
    }

    /// Where a Service leads.
    SliceEndpoint {
        /// The first counts.
        #[serde(deserialize_with = "list")]
        addresses: Vec<String>,
        /// Whether it takes connections.
        #[serde(deserialize_with = "or_default")]
        conditions: EndpointConditions,
        /// The node that it runs on.
        node_name: Option<String>,
    }

    /// Whether an endpoint takes connections.
    EndpointConditions {
        /// Absent is yes.
        ready: Option<bool>,
        /// Absent is as `ready`.
        serving: Option<bool>,
        /// Absent is no.
        terminating: Option<bool>,
    }

    /// A port of endpoints.
    EndpointPort {
        /// That of the Service's port.
        name: Option<String>,
        /// `TCP` when absent.
        protocol: Option<String>,
        /// Every port when absent.
        port: Option<i32>,
    }

    /// v1 Endpoints, the old form of EndpointSlices.
    Endpoints {
        /// Named as its Service.
        #[serde(deserialize_with = "or_default")]
        metadata: Metadata,
        /// Groups with the same ports.
        #[serde(deserialize_with = "list")]
        subsets: Vec<EndpointSubset>,
    }

    /// Endpoints with the same ports.
    EndpointSubset {
        /// Those that are ready.
        #[serde(deserialize_with = "list")]
        addresses: Vec<EndpointAddress>,
        /// At which ports.
        #[serde(deserialize_with = "list")]
        ports: Vec<EndpointPort>,
    }

    /// One address of Endpoints.
    EndpointAddress {
        /// The address.
        #[serde(deserialize_with = "or_default")]
        ip: String,
        /// The node that it runs on.
        node_name: Option<String>,
    }
}

/// A number or a name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a port: a number below 65536 or a name")]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A name.
    String(String),
}

/// One object of the kinds that policies depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A NetworkPolicy.
    NetworkPolicy(NetworkPolicy),
    /// A Namespace.
    Namespace(Namespace),
    /// A Node.
    Node(Node),
    /// A Pod.
    Pod(Box<Pod>),
    /// A Service.
    Service(Box<Service>),
    /// An EndpointSlice.
    EndpointSlice(EndpointSlice),
    /// Endpoints.
    Endpoints(Endpoints),
}

/// What the API server would refuse, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it was written (file, document), when known.
    pub place: Option<String>,
    /// Kind and name, as `NetworkPolicy x/bad`.
    pub object: String,
    /// The path of the field, as `spec.egress[0].to[1].ipBlock.except[0]`; empty when the whole object is meant.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.object)?;
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// What one parsed document held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Objects of the kinds that matter here.
    pub objects: Vec<Object>,
    /// What was refused.
    pub problems: Vec<Problem>,
    /// How many objects were of other kinds.
    pub ignored: usize,
}

/// How deep lists may hold lists: kubectl nests them once.
const NESTED_LISTS: usize = 4;

/// Takes a document: an object, or a list of them (`kind: List`, `PodList` …).
pub fn parse(document: Value) -> Parsed {
    let mut parsed = Parsed::default();
    take(document, None, NESTED_LISTS, &mut parsed);
    parsed
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn take(document: Value, listed: Option<(&str, &str)>, depth: usize, parsed: &mut Parsed) {
    // Documents that hold nothing (comments between `---`) are none.
    if document.is_null() {
        return;
    }
    let refuse = |object: String, field: &str, reason: &str, parsed: &mut Parsed| {
        parsed.problems.push(Problem { place: None, object, field: field.into(), reason: reason.into() });
    };
    if !document.is_object() {
        refuse("a document".into(), "", "is no Kubernetes object: a map with apiVersion and kind is expected", parsed);
        return;
    }
    // The items of a typed list need not repeat what the list says.
    let (version, kind) = match (text(&document, "apiVersion"), text(&document, "kind"), listed) {
        ("" , "", Some((version, kind))) => (version.to_owned(), kind.to_owned()),
        (version, kind, _) => (version.to_owned(), kind.to_owned()),
    };
    if let Some(of) = kind.strip_suffix("List")
        && document.get("items").is_some_and(|i| i.is_array() || i.is_null())
    {
        let Some(depth) = depth.checked_sub(1) else {
            refuse(kind, "items", "lists are nested too deep", parsed);
            return;
        };
        let items = match document {
            Value::Object(mut map) => map.remove("items"),
            _ => None,
        };
        if let Some(Value::Array(items)) = items {
            let listed = if of.is_empty() { None } else { Some((version.as_str(), of)) };
            for item in items {
                take(item, listed, depth, parsed);
            }
        }
        return;
    }
    let metadata = document.get("metadata").unwrap_or(&Value::Null);
    let (namespace, name) = (text(metadata, "namespace"), text(metadata, "name"));
    let name = if name.is_empty() { "without a name" } else { name };
    let object = if matches!(kind.as_str(), "Node" | "Namespace") {
        format!("{kind} {name}")
    } else {
        format!("{kind} {}/{name}", if namespace.is_empty() { "default" } else { namespace })
    };
    if kind.is_empty() || version.is_empty() {
        let field = if kind.is_empty() { "kind" } else { "apiVersion" };
        refuse(format!("an object named {name}"), field, "Required value", parsed);
        return;
    }
    let result = match (version.as_str(), kind.as_str()) {
        ("networking.k8s.io/v1", "NetworkPolicy") => typed(document).map(Object::NetworkPolicy),
        ("extensions/v1beta1" | "networking.k8s.io/v1beta1", "NetworkPolicy") => {
            Err(("apiVersion".to_owned(), format!("{version} is served no more: networking.k8s.io/v1 is expected")))
        }
        ("v1", "Namespace") => typed(document).map(Object::Namespace),
        ("v1", "Node") => typed(document).map(Object::Node),
        ("v1", "Pod") => typed(document).map(|pod| Object::Pod(Box::new(pod))),
        ("v1", "Service") => typed(document).map(|service| Object::Service(Box::new(service))),
        ("discovery.k8s.io/v1" | "discovery.k8s.io/v1beta1", "EndpointSlice") => {
            typed(document).map(Object::EndpointSlice)
        }
        ("v1", "Endpoints") => typed(document).map(Object::Endpoints),
        _ => {
            parsed.ignored = parsed.ignored.saturating_add(1);
            return;
        }
    };
    match result {
        Ok(object) => parsed.objects.push(object),
        Err((field, reason)) => refuse(object, &field, &reason, parsed),
    }
}

fn typed<T: for<'de> Deserialize<'de>>(document: Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(document).map_err(|error| {
        let path = error.path().to_string();
        (if path == "." { String::new() } else { path }, error.into_inner().to_string())
    })
}

/// A name with its namespace, as `x/a`.
pub(super) fn full_name(metadata: &Metadata) -> String {
    format!("{}/{}", metadata.namespace, metadata.name)
}
