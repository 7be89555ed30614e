//! Every case of `tests/policy`: the API refuses what is invalid, and for the rest each packet becomes what is
//! written there under `kube_router`. Each is sent without any policy first, where it must get through; so nothing is
//! taken for refused that could not have arrived.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;
use serde_json::Value;
use tests::cluster::Cluster;
use tests::cluster::place::{Outcome, icmp};
use tests::cluster::pods::PodSpec;

use crate::cluster::cluster;

#[derive(Deserialize)]
struct Case {
    id: String,
    policies: Vec<Value>,
    #[serde(default)]
    invalid: bool,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize, Clone)]
struct Check {
    from: String,
    to: String,
    icmp_type: Option<u8>,
    /// Not there where it differs from one time to the next.
    kube_router: Option<String>,
}

/// Where a packet goes: `203.0.113.9:443/TCP`, `[2001:db8::9]/ICMP`.
struct Target {
    address: IpAddr,
    port: u16,
    protocol: String,
}

impl Target {
    fn of(text: &str) -> Self {
        let (at, protocol) = text.split_once('/').unwrap_or_else(|| panic!("no protocol in {text}"));
        let socket: Option<SocketAddr> = at.parse().ok();
        let alone = || at.trim_matches(['[', ']']).parse().unwrap_or_else(|_| panic!("no address in {text}"));
        Self {
            address: socket.map_or_else(alone, |s| s.ip()),
            port: socket.map_or(0, |s| s.port()),
            protocol: protocol.to_owned(),
        }
    }

    fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

fn read<T: serde::de::DeserializeOwned>(file: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // To Kubernetes a `y` is a name.
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents = if file == "cases.yaml" {
        serde_saphyr::from_str_with_options(&text, options)
    } else {
        serde_saphyr::from_multiple_with_options(&text, options)
    };
    documents.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The cluster that the cases speak of: its objects in the API, and a namespace for each pod that runs.
fn furnish(cluster: &Cluster) {
    let objects: Vec<Value> = read("cluster.yaml");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for object in &objects {
        let (kind, meta) = (text(&object["kind"]), &object["metadata"]);
        let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
        match kind.as_str() {
            // They are there already.
            "Node" => {}
            "Namespace" => cluster.namespace(&name, meta["labels"].clone()).expect("a namespace"),
            "Pod" => {
                let (spec, status) = (&object["spec"], &object["status"]);
                let ips = status["podIPs"].as_array().into_iter().flatten();
                let addresses: Vec<String> = ips.map(|ip| text(&ip["ip"])).collect();
                let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
                let node = text(&spec["nodeName"]);
                let pod = PodSpec::new(&namespace, &name, &addresses)
                    .labels(meta["labels"].clone())
                    .ports(spec["containers"][0]["ports"].clone())
                    .on(&node);
                if spec["hostNetwork"] == true || text(&status["phase"]) != "Running" {
                    // It has no namespace of its own, or none any more.
                    cluster.apply(object).expect("a pod");
                } else {
                    cluster.pod(&pod).expect("a pod");
                }
            }
            _ => cluster.apply(object).expect("an object"),
        }
    }
}

/// Everybody that a packet of the cases goes to listens there.
fn listen(cluster: &Cluster, checks: &[Check]) {
    for check in checks {
        let target = Target::of(&check.to);
        let ip = target.address.to_string();
        // Services, and where kube-proxy takes them.
        let at: SocketAddr = match check.to.as_str() {
            "10.43.0.80:443/TCP" => "10.42.1.5:8443".parse().expect("an address"),
            "10.43.0.99:80/TCP" => "203.0.113.9:8080".parse().expect("an address"),
            "10.43.0.10:53/UDP" | "10.43.0.10:53/TCP" => "10.42.0.3:53".parse().expect("an address"),
            "10.43.0.20:80/TCP" => "10.42.0.10:3000".parse().expect("an address"),
            "192.0.2.1:30080/TCP" => "10.42.2.2:80".parse().expect("an address"),
            _ => target.socket(),
        };
        // The API server listens by itself; nobody listens for what is no transport.
        if ip != "10.43.0.1" && at.port() != 0 {
            cluster.owner(at.ip()).answers(at);
        }
    }
}

/// One packet, or one connection.
fn attempt(cluster: &Cluster, check: &Check) -> Outcome {
    let target = Target::of(&check.to);
    let from = match check.from.as_str() {
        "node:n1" => Arc::clone(&cluster.node),
        pod => Arc::clone(&cluster.find(pod).expect("a pod").place),
    };
    let to = cluster.owner(target.address);
    let one_way = |protocol: u8, message: &[u8]| {
        from.one_way(protocol, target.address, &to, message).expect("a raw socket, as root")
    };
    match (target.protocol.as_str(), check.icmp_type) {
        // The API server speaks TLS and hangs up on whoever does not.
        ("TCP", _) if check.to == "10.43.0.1:443/TCP" => {
            from.connect(target.socket()).map_or_else(|outcome| outcome, |_| Outcome::Passed)
        }
        ("TCP", _) => from.tcp(target.socket()),
        ("UDP", _) => from.udp(target.socket()),
        ("ICMP", None) => from.ping(target.address),
        ("ICMP", Some(kind)) => {
            let message = icmp(true, kind, u8::from(kind == 3) * 3, [0; 4], &marked(&check.to, 28));
            one_way(1, &message)
        }
        ("SCTP", _) => one_way(132, &init(target.port)),
        ("GRE", _) => one_way(47, &[&[0, 0, 8, 0][..], &marked(&check.to, 28)].concat()),
        (other, _) => panic!("{other}?"),
    }
}

/// So many octets that differ each time.
fn marked(what: &str, length: usize) -> Vec<u8> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut octets = format!("{what:.<length$}").into_bytes();
    octets.truncate(length - 4);
    octets.extend(NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    octets
}

/// SCTP's first packet: INIT (RFC 9260, section 3.3.2). The kernel here has no SCTP of its own; the checksum is right, for
/// netfilter looks at it.
fn init(port: u16) -> Vec<u8> {
    let mut packet = [&12_345_u16.to_be_bytes()[..], &port.to_be_bytes(), &[0; 8]].concat();
    packet.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1]);
    packet.extend(&marked("", 8)[4..]);
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// CRC32c (RFC 9260, appendix A).
fn crc32c(octets: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !octets.iter().fold(!0, |crc, octet| (0..8).fold(crc ^ u32::from(*octet), step))
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn what_is_invalid_is_refused_by_the_api_with_the_reason() {
    let cluster = cluster();
    furnish(&cluster);
    let cases: Vec<Case> = read("cases.yaml");
    let invalid: Vec<&Case> = cases.iter().filter(|case| case.invalid).collect();
    assert!(invalid.len() >= 7, "only {} cases", invalid.len());
    for case in invalid {
        for policy in &case.policies {
            let error = cluster.apply(policy).expect_err(&case.id).to_string();
            assert!(error.contains("422") && error.contains("spec.egress[0]"), "case {}: {error}", case.id);
            println!("case {}: {error}", case.id);
        }
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn every_packet_of_the_cases_becomes_what_is_written_there() {
    let cluster = cluster();
    furnish(&cluster);
    let cases: Vec<Case> = read("cases.yaml");
    let cases: Vec<&Case> = cases.iter().filter(|case| !case.invalid).collect();
    let checks: Vec<Check> = cases.iter().flat_map(|case| case.checks.clone()).collect();
    listen(&cluster, &checks);
    cluster.synced().expect("kube-router");

    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for check in &checks {
        if seen.insert((&check.from, &check.to, check.icmp_type)) {
            let outcome = attempt(&cluster, check);
            // An answer to nothing is dropped as invalid, with and without policies.
            if !outcome.passed() && check.icmp_type != Some(3) {
                wrong.push(format!("without a policy: {} -> {}: {outcome:?}", check.from, check.to));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let mut sent = 0;
    for case in cases {
        for policy in &case.policies {
            cluster.apply(policy).unwrap_or_else(|e| panic!("case {}: {e:#}", case.id));
        }
        cluster.synced().unwrap_or_else(|e| panic!("case {}: {e:#}", case.id));
        cluster.forget().expect("conntrack");
        for check in &case.checks {
            let outcome = attempt(&cluster, check);
            let became = if outcome.passed() { "allow" } else { "deny" };
            sent += 1;
            if check.kube_router.as_ref().is_some_and(|expected| expected != became) {
                wrong.push(format!("case {}: {} -> {}: {outcome:?}", case.id, check.from, check.to));
            }
        }
        cluster.no_policies().expect("no policies");
    }
    assert!(wrong.is_empty(), "{} of {sent}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(sent > 90, "only {sent}");
}

/// fedisniff's `--cluster FILE` takes this form.
#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn what_is_exported_has_every_object_with_its_status() {
    let cluster = cluster();
    furnish(&cluster);
    cluster.policy("x", "p", serde_json::json!({"podSelector": {}, "egress": [{}]})).expect("a policy");
    let file = cluster.export_yaml().expect("kubectl");
    let text = std::fs::read_to_string(&file).expect("a file");
    let options = serde_saphyr::options! { strict_booleans: true };
    let list: Value = serde_saphyr::from_str_with_options(&text, options).expect("YAML");
    let items = list["items"].as_array().expect("a list");
    let names = |kind: &str| -> BTreeSet<String> {
        let of_kind = items.iter().filter(|item| item["kind"] == kind);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        of_kind
            .map(|o| format!("{}/{}", text(&o["metadata"]["namespace"]), text(&o["metadata"]["name"])))
            .collect()
    };
    for object in read::<Value>("cluster.yaml") {
        let (kind, meta) = (object["kind"].as_str().expect("a kind"), &object["metadata"]);
        let name = format!(
            "{}/{}",
            meta["namespace"].as_str().unwrap_or_default(),
            meta["name"].as_str().unwrap_or_default()
        );
        assert!(names(kind).contains(&name), "{kind} {name}: {:?}", names(kind));
    }
    let pod = items.iter().find(|o| o["kind"] == "Pod" && o["metadata"]["name"] == "d6").expect("a pod");
    assert_eq!(pod["status"]["podIPs"][1]["ip"], "fd42::6");
    // The API server has written what was left out.
    let policy = items
        .iter()
        .find(|o| o["kind"] == "NetworkPolicy" && o["metadata"]["name"] == "p")
        .expect("a policy");
    assert_eq!(policy["spec"]["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
}
