//! Names as a way out: a pod that may reach nothing but the cluster's DNS asks the whole world through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::cluster::Cluster;
use tests::cluster::place::Outcome;
use tests::cluster::pods::{Pod, PodSpec};
use tests::cluster::tap::Arrival;

use crate::cluster::cluster;

/// The names of the servers in the cluster, which is what the DNS is to tell; as the first bundle had it.
const OPEN: &str = "
.:53 {
    errors
    template IN A fediverse.test {
        match ^(.*\\.)?fediverse\\.test\\.$
        answer \"{{ .Name }} 60 IN A 10.43.0.80\"
        fallthrough
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig KUBECONFIG
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    forward . RESOLV
    loop
}
";

/// The same with every other kind of question answered, and an empty world for the rest.
const SHUT: &str = "
.:53 {
    errors
    template IN A fediverse.test {
        match ^(.*\\.)?fediverse\\.test\\.$
        answer \"{{ .Name }} 60 IN A 10.43.0.80\"
        fallthrough
    }
    template IN ANY fediverse.test {
        rcode NOERROR
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig KUBECONFIG
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    file ROOT .
    forward . RESOLV
    loop
}
";

const ROOT: &str = "$ORIGIN .
@ 60 IN SOA ns.invalid. admin.invalid. 1 60 60 60 60
@ 60 IN NS ns.invalid.
";

/// A question (RFC 1035, section 4.1).
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x5e, 0xed, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(encoded(name));
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// A name's labels.
fn encoded(name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.') {
        octets.push(u8::try_from(label.len()).expect("a short label"));
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    octets
}

/// What pods ask that know nothing but a server's name: by kind, as a resolver does, with search domains, backwards.
const ASKED: &[(&str, &str, u16)] = &[
    ("AAAA", "one.fediverse.test", 28),
    ("HTTPS", "one.fediverse.test", 65),
    ("TXT", "one.fediverse.test", 16),
    ("SOA", "one.fediverse.test", 6),
    ("a name with the node's search domain", "one.fediverse.test.example.org", 1),
    ("a name of another domain", "elsewhere.example", 1),
    ("PTR of an address that no pod has", "77.0.42.10.in-addr.arpa", 12),
];

/// The DNS in its pod, as a Service, and a pod that may reach nothing else.
fn dns(cluster: &Cluster, corefile: &str) -> (Arc<Pod>, SocketAddr) {
    cluster.namespace("web", json!({})).expect("a namespace");
    let labels = json!({"k8s-app": "kube-dns"});
    let coredns = PodSpec::new("kube-system", "coredns", &["10.42.0.3"]).labels(labels);
    let coredns = cluster.pod(&coredns).expect("a pod");
    let pod = cluster.pod(&PodSpec::new("web", "asks", &["10.42.0.41"])).expect("a pod");
    let root = cluster.logs().expect("a folder").join("root.db");
    std::fs::write(&root, ROOT).expect("a file");
    let resolv = root.with_file_name("resolv.conf");
    std::fs::write(&resolv, "nameserver 198.51.100.53\nsearch example.org\n").expect("a file");
    let corefile = corefile.replace("ROOT", &root.display().to_string());
    let corefile = corefile.replace("RESOLV", &resolv.display().to_string());
    let kubeconfig = cluster.kubeconfig().expect("a path");
    cluster.coredns(&coredns, &corefile.replace("KUBECONFIG", kubeconfig)).expect("CoreDNS");
    let to = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]);
    let ports = json!([{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]);
    let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": to, "ports": ports}]});
    cluster.policy("web", "dns", spec).expect("a policy");
    cluster.synced().expect("kube-router");
    let at = SocketAddr::new(coredns.ip(), 53);
    let answer = pod.ask(at, &question("one.fediverse.test", 1)).expect("the DNS answers");
    assert!(answer.ends_with(&[10, 43, 0, 80]), "{answer:?}");
    (pod, at)
}

fn asks_for(arrival: &Arrival, name: &str) -> bool {
    arrival.port == Some(53)
        && arrival.payload.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name.as_bytes()))
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn what_the_dns_does_not_know_leaves_the_cluster_whoever_asks() {
    let cluster = cluster();
    let (pod, at) = dns(&cluster, OPEN);
    // The loop plugin asks itself by what is outside, soon after the start.
    let begin = Instant::now();
    while !cluster.arrivals().iter().any(|a| a.port == Some(53)) {
        assert!(begin.elapsed() < Duration::from_secs(20), "the loop plugin's own question does not leave");
    }
    assert_ne!(pod.udp("198.51.100.53:53".parse().expect("an address")), Outcome::Passed);
    let own = |a: &Arrival| a.payload == b"are you there?";
    assert!(!cluster.arrivals().iter().any(own), "the pod itself gets nowhere");
    for (what, name, kind) in ASKED {
        // Nobody answers outside, so that nobody answers here.
        let _ = pod.ask(at, &question(name, *kind));
        let label = name.split('.').next().expect("a label");
        let mut wanted = vec![u8::try_from(label.len()).expect("a short label")];
        wanted.extend(label.as_bytes());
        let wanted = String::from_utf8(wanted).expect("a label");
        let arrivals = cluster.arrivals();
        let ends = |a: &Arrival| a.payload.windows(2).any(|two| two == kind.to_be_bytes());
        assert!(
            arrivals.iter().any(|a| asks_for(a, &wanted) && ends(a)),
            "{what} does not leave: {arrivals:?}"
        );
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn nothing_leaves_by_a_dns_that_answers_everything_itself() {
    let cluster = cluster();
    let (pod, at) = dns(&cluster, SHUT);
    for (what, name, kind) in ASKED {
        let answer =
            pod.ask(at, &question(name, *kind)).unwrap_or_else(|outcome| panic!("{what}: {outcome:?}"));
        assert!(answer.len() >= 12, "{what}: {answer:?}");
    }
    let arrivals = cluster.arrivals();
    assert!(arrivals.is_empty(), "{arrivals:?}");
}
