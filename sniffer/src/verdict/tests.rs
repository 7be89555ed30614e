//! Verdicts where more than prefixes decides: Services and what nodes translate, both families, host-network pods, own
//! nodes, and what kube-router does beside the policies. The cases with real outcomes are in `tests/policy`.

use serde_json::{Value, json};

use super::State;
use super::explain::Question;
use crate::policy::Cluster;
use crate::policy::objects::parse;

/// Two nodes, pods a (both families) and b on n1, c on n2, all in namespace x; a host-network pod on n2.
fn base() -> Vec<Value> {
    let pod = |name: &str, node: &str, ips: Value, ports: Value| {
        json!({"apiVersion": "v1", "kind": "Pod",
               "metadata": {"name": name, "namespace": "x", "labels": {"pod": name}},
               "spec": {"nodeName": node, "containers": [{"ports": ports}]},
               "status": {"phase": "Running", "podIPs": ips}})
    };
    let node = |name: &str, ip: &str, ranges: Value| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDRs": ranges},
               "status": {"addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}]}})
    };
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}),
        node("n1", "192.0.2.1", json!(["10.42.0.0/24", "fd42::/64"])),
        node("n2", "192.0.2.2", json!(["10.42.1.0/24"])),
        pod("a", "n1", json!([{"ip": "10.42.0.10"}, {"ip": "fd42::10"}]), json!([{"name": "web", "containerPort": 80}])),
        pod("b", "n1", json!([{"ip": "10.42.0.11"}]), json!([{"name": "web", "containerPort": 8080, "hostPort": 8443}])),
        pod("c", "n2", json!([{"ip": "10.42.1.10"}, {"ip": "fd42:1::10"}]), json!([{"name": "web", "containerPort": 80}])),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "host", "namespace": "x", "labels": {"pod": "host"}},
               "spec": {"nodeName": "n2", "hostNetwork": true, "containers": [{"ports": [{"name": "m", "containerPort": 9100}]}]},
               "status": {"podIPs": [{"ip": "192.0.2.2"}]}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "new", "namespace": "x", "labels": {"pod": "new"}},
               "spec": {"nodeName": "n1"}, "status": {"phase": "Pending"}}),
    ]
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
           "metadata": {"name": name, "namespace": "x"}, "spec": spec})
}

fn egress(pod: &str, rules: Value) -> Value {
    policy(&format!("out-{pod}"), json!({"podSelector": {"matchLabels": {"pod": pod}}, "policyTypes": ["Egress"], "egress": rules}))
}

fn ingress(pod: &str, rules: Value) -> Value {
    policy(&format!("in-{pod}"), json!({"podSelector": {"matchLabels": {"pod": pod}}, "policyTypes": ["Ingress"], "ingress": rules}))
}

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "x"}, "spec": spec})
}

/// A slice with one port; endpoints as (address, conditions).
fn slice(service: &str, name: &str, family: &str, port: Value, endpoints: &[(&str, Value)]) -> Value {
    let endpoints: Vec<Value> =
        endpoints.iter().map(|(ip, conditions)| json!({"addresses": [ip], "conditions": conditions})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
           "metadata": {"name": name, "namespace": "x", "labels": {"kubernetes.io/service-name": service}},
           "endpoints": endpoints, "ports": [port]})
}

fn block(cidr: &str) -> Value {
    json!([{"to": [{"ipBlock": {"cidr": cidr}}]}])
}

struct World(State);

fn world(more: &[Value]) -> World {
    let items = [base(), more.to_vec()].concat();
    let parsed = parse(json!({"apiVersion": "v1", "kind": "List", "items": items}));
    assert_eq!(parsed.problems, []);
    let (cluster, problems) = Cluster::new(parsed.objects.into_iter().map(|o| (None, o)));
    assert_eq!(problems, []);
    World(State::new(cluster).expect("small"))
}

impl World {
    fn ask(&self, from: &str, to: &str) -> Value {
        let question = Question::parse(from, to).expect("a question");
        serde_json::to_value(self.0.explain(&question).expect("an answer")).expect("JSON")
    }

    fn refused(&self, from: &str, to: &str) -> String {
        let question = Question::parse(from, to).expect("a question");
        self.0.explain(&question).expect_err("no answer").to_string()
    }

    /// Verdict and what kube-router does.
    fn says(&self, from: &str, to: &str, verdict: &str, kube_router: &str) {
        let said = self.ask(from, to);
        assert_eq!((&said["verdict"], &said["kube_router"]["verdict"]), (&json!(verdict), &json!(kube_router)), "{said}");
    }
}

#[test]
fn an_answer_names_the_rule_that_allows_and_the_policies_that_isolate() {
    let rules = json!([{"to": [{"podSelector": {"matchLabels": {"pod": "b"}}}, {"ipBlock": {"cidr": "10.42.1.0/24"}}],
                        "ports": [{"port": 443}, {"port": 80}]}]);
    let said = world(&[egress("a", rules)]).ask("x/a", "10.42.1.10:80/TCP");
    assert_eq!(said["egress"]["allowed_by"], json!({"policy": "x/out-a", "rule": 0, "peer": 1, "port": 1}));
    assert_eq!(said["egress"]["isolated_by"], json!(["x/out-a"]));
    assert_eq!(said["ingress"]["isolated_by"], json!([]));
    assert_eq!(said["destinations"], json!(["10.42.1.10:80"]));
    assert_eq!(said["kube_router"], json!({"verdict": "allow", "reason": null}));
}

#[test]
fn a_service_is_followed_to_its_endpoints_of_the_family_that_was_sent_to() {
    let w = world(&[
        service("s", json!({"clusterIP": "10.43.0.5", "clusterIPs": ["10.43.0.5", "fd43::5"], "ports": [{"port": 80}]})),
        slice("s", "four", "IPv4", json!({"port": 80}), &[("10.42.1.10", json!({}))]),
        slice("s", "six", "IPv6", json!({"port": 8080}), &[("fd42:1::10", json!({"ready": true}))]),
        egress("a", block("fd42:1::/64")),
    ]);
    assert_eq!(w.ask("x/a", "10.43.0.5:80/TCP")["destinations"], json!(["10.42.1.10:80"]));
    assert_eq!(w.ask("x/a", "[fd43::5]:80/TCP")["destinations"], json!(["[fd42:1::10]:8080"]));
    // By name both are possible, and they differ. A pod without IPv6 goes by IPv4 alone.
    let said = w.ask("x/a", "x/s:80/TCP");
    assert_eq!((&said["verdict"], &said["egress"]["verdict"]), (&json!("mixed"), &json!("mixed")));
    assert_eq!(said["kube_router"]["verdict"], "unknown");
    assert_eq!(w.ask("x/b", "x/s:80/TCP")["destinations"], json!(["10.42.1.10:80"]));
}

#[test]
fn endpoints_of_a_service_that_differ_are_mixed() {
    let w = world(&[
        service("s", json!({"clusterIP": "10.43.0.5", "ports": [{"name": "p", "port": 80}]})),
        slice("s", "s", "IPv4", json!({"name": "p", "port": 80}), &[("10.42.0.11", json!({})), ("203.0.113.9", json!({}))]),
        egress("a", block("10.42.0.0/15")),
    ]);
    let said = w.ask("x/a", "x/s:80/TCP");
    assert_eq!((&said["verdict"], &said["egress"]["pre_nat"]), (&json!("mixed"), &json!("allow")));
    assert_eq!(said["destinations"], json!(["10.42.0.11:80", "203.0.113.9:80"]));
}

#[test]
fn endpoints_that_are_not_ready_are_not_used_save_the_going_ones_when_nothing_else_is_there() {
    let ends = |conditions: &[(&str, Value)]| {
        let w = world(&[
            service("s", json!({"clusterIP": "10.43.0.5", "ports": [{"port": 80}]})),
            slice("s", "s", "IPv4", json!({"port": 80}), conditions),
        ]);
        w.ask("x/a", "x/s:80/TCP")["destinations"].clone()
    };
    let going = json!({"ready": false, "serving": true, "terminating": true});
    assert_eq!(ends(&[("10.42.0.11", going.clone()), ("10.42.1.10", json!({"ready": true}))]), json!(["10.42.1.10:80"]));
    assert_eq!(ends(&[("10.42.0.11", going), ("10.42.1.10", json!({"ready": false}))]), json!(["10.42.0.11:80"]));
    assert_eq!(ends(&[("10.42.0.11", json!({"ready": false}))]), json!([]));
}

#[test]
fn a_service_without_endpoints_is_refused_by_the_node_whatever_the_policies_say() {
    let w = world(&[service("s", json!({"clusterIP": "10.43.0.5", "ports": [{"port": 80}]})), egress("b", json!([]))]);
    w.says("x/a", "x/s:80/TCP", "allow", "deny");
    assert!(w.ask("x/a", "x/s:80/TCP")["kube_router"]["reason"].as_str().is_some_and(|r| r.contains("no ready endpoint")));
    w.says("x/b", "x/s:80/TCP", "deny", "deny");
}

#[test]
fn without_slices_the_selector_says_where_a_service_leads_and_names_give_each_pods_number() {
    let w = world(&[service(
        "s",
        json!({"clusterIP": "10.43.0.5", "selector": {}, "ports": [{"port": 80, "targetPort": "web"}]}),
    )]);
    assert_eq!(w.ask("x/a", "x/s:80/TCP")["destinations"], json!([]), "no selector selects nothing");
    let w = world(&[service(
        "s",
        json!({"clusterIP": "10.43.0.5", "selector": {"pod": "b"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}),
    )]);
    assert_eq!(w.ask("x/a", "x/s:http/TCP")["destinations"], json!(["10.42.0.11:8080"]));
}

#[test]
fn a_headless_service_leads_to_its_pods_at_the_port_that_was_asked_for_and_an_alias_nowhere() {
    let w = world(&[
        service("s", json!({"clusterIP": "None", "selector": {"pod": "c"}, "ports": [{"port": 80}]})),
        service("e", json!({"type": "ExternalName", "externalName": "example.org"})),
        egress("a", json!([{"to": [{"podSelector": {}}], "ports": [{"port": 81}]}])),
    ]);
    let said = w.ask("x/a", "x/s:81/TCP");
    assert_eq!((&said["verdict"], &said["destinations"]), (&json!("allow"), &json!(["10.42.1.10:81", "[fd42:1::10]:81"])));
    assert!(w.refused("x/a", "x/e:80/TCP").contains("example.org"));
}

#[test]
fn node_ports_and_load_balancers_of_the_own_node_are_translated_before_policies_look() {
    let w = world(&[
        service("s", json!({"type": "LoadBalancer", "clusterIP": "10.43.0.5", "selector": {"pod": "c"},
                            "ports": [{"port": 80, "nodePort": 30080}], "externalIPs": ["198.51.100.1"]})),
        egress("a", json!([{"to": [{"podSelector": {"matchLabels": {"pod": "c"}}}]}])),
        egress("b", block("192.0.2.0/24")),
    ]);
    for to in ["192.0.2.1:30080/TCP", "10.42.0.1:30080/TCP", "198.51.100.1:80/TCP"] {
        w.says("x/a", to, "allow", "allow");
        assert_eq!(w.ask("x/a", to)["destinations"], json!(["10.42.1.10:80"]), "{to}");
        assert_eq!(w.ask("x/a", to)["egress"]["pre_nat"], "deny", "{to}");
    }
    // Another node translates later: there the one who looks before and the one who looks after differ.
    w.says("x/a", "192.0.2.2:30080/TCP", "undefined", "deny");
    assert_eq!(w.ask("x/a", "192.0.2.2:30080/TCP")["egress"]["evaluated_on"], "pre-nat");
}

#[test]
fn host_ports_lead_to_their_pod() {
    let w = world(&[egress("a", json!([{"to": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]))]);
    assert_eq!(w.ask("x/a", "192.0.2.1:8443/TCP")["destinations"], json!(["10.42.0.11:8080"]));
    w.says("x/a", "192.0.2.1:8443/TCP", "allow", "allow");
    assert_eq!(w.ask("x/a", "192.0.2.1:8443/UDP")["destinations"], json!(["192.0.2.1:8443"]));
}

#[test]
fn a_port_that_a_service_has_not_is_not_translated_and_that_is_said() {
    let w = world(&[service("s", json!({"clusterIP": "10.43.0.5", "selector": {"pod": "c"}, "ports": [{"port": 80}]}))]);
    let said = w.ask("x/a", "10.43.0.5:81/TCP");
    assert_eq!(said["destinations"], json!(["10.43.0.5:81"]));
    assert!(said["notes"][0].as_str().is_some_and(|n| n.contains("no such port")), "{said}");
    assert!(w.refused("x/a", "x/s:81/TCP").contains("it has 80/TCP"));
}

#[test]
fn the_internal_traffic_policy_keeps_to_the_senders_node() {
    let w = world(&[service(
        "s",
        json!({"clusterIP": "10.43.0.5", "internalTrafficPolicy": "Local", "selector": {"pod": "c"}, "ports": [{"port": 80}]}),
    )]);
    assert_eq!(w.ask("x/a", "x/s:80/TCP")["destinations"], json!([]));
    assert_eq!(w.ask("x/c", "x/s:80/TCP")["destinations"], json!(["10.42.1.10:80"]));
}

#[test]
fn a_source_that_a_node_hides_is_left_open_where_it_matters() {
    let w = world(&[
        service("s", json!({"type": "NodePort", "clusterIP": "10.43.0.5", "selector": {"pod": "c"},
                            "ports": [{"port": 80, "nodePort": 30080}]})),
        ingress("c", json!([{"from": [{"podSelector": {"matchLabels": {"pod": "a"}}}]}])),
    ]);
    w.says("x/a", "x/s:80/TCP", "allow", "allow");
    w.says("x/b", "x/s:80/TCP", "deny", "deny");
    w.says("x/a", "192.0.2.1:30080/TCP", "undefined", "deny");
    w.says("x/b", "192.0.2.1:30080/TCP", "deny", "deny");
}

#[test]
fn both_ends_must_allow() {
    let w = world(&[egress("a", json!([{}])), ingress("b", json!([]))]);
    let said = w.ask("x/a", "x/b:80/TCP");
    assert_eq!((&said["egress"]["verdict"], &said["ingress"]["verdict"]), (&json!("allow"), &json!("deny")));
    w.says("x/a", "x/b:80/TCP", "deny", "deny");
    w.says("203.0.113.9", "x/b:80/TCP", "deny", "deny");
    w.says("203.0.113.9", "x/c:80/TCP", "allow", "allow");
}

#[test]
fn a_pods_own_node_reaches_it_and_another_node_does_not() {
    let w = world(&[ingress("b", json!([])), ingress("c", json!([]))]);
    w.says("node:n1", "x/b:80/TCP", "allow", "allow");
    w.says("192.0.2.1", "x/b:80/TCP", "allow", "allow");
    w.says("10.42.0.1", "x/b:80/TCP", "allow", "allow");
    w.says("node:n2", "x/b:80/TCP", "deny", "deny");
    w.says("x/host", "x/c:80/TCP", "allow", "allow");
    w.says("x/host", "x/b:80/TCP", "deny", "deny");
}

#[test]
fn host_network_pods_are_left_open_where_a_policy_means_them() {
    let w = world(&[
        ingress("b", json!([{"from": [{"podSelector": {"matchLabels": {"pod": "host"}}}]}])),
        egress("host", json!([{"ports": [{"port": 443}]}])),
    ]);
    w.says("x/host", "x/b:80/TCP", "undefined", "deny");
    w.says("x/host", "203.0.113.9:443/TCP", "allow", "allow");
    w.says("x/host", "203.0.113.9:80/TCP", "undefined", "allow");
    w.says("node:n2", "203.0.113.9:80/TCP", "undefined", "allow");
    let w = world(&[ingress("host", json!([]))]);
    w.says("x/a", "x/host:9100/TCP", "undefined", "allow");
    w.says("x/a", "192.0.2.2:9101/TCP", "allow", "allow");
}

#[test]
fn a_pod_reaches_itself_and_through_a_service_that_is_left_open() {
    let more = [
        service("s", json!({"clusterIP": "10.43.0.5", "selector": {"pod": "b"}, "ports": [{"port": 80}]})),
        egress("b", json!([])),
        ingress("b", json!([])),
    ];
    let w = world(&more);
    w.says("x/b", "10.42.0.11:80/TCP", "allow", "allow");
    w.says("x/b", "x/s:80/TCP", "undefined", "deny");
    world(&more[..2]).says("x/b", "x/s:80/TCP", "undefined", "allow");
    world(&more[..1]).says("x/b", "x/s:80/TCP", "allow", "allow");
}

#[test]
fn protocols_that_policies_do_not_know_are_left_open_for_isolated_pods_only() {
    let w = world(&[egress("a", json!([{}])), ingress("b", json!([]))]);
    w.says("x/a", "203.0.113.9/ICMP", "undefined", "allow");
    w.says("x/a", "203.0.113.9/GRE", "undefined", "allow");
    w.says("x/c", "203.0.113.9/GRE", "allow", "allow");
    w.says("x/c", "x/b/ICMP", "undefined", "allow");
    w.says("x/c", "x/b/ICMP:13", "undefined", "deny");
    w.says("x/c", "203.0.113.9/ICMP:3", "allow", "deny");
    w.says("x/c", "[2001:db8::9]/ICMP:135", "allow", "allow");
}

#[test]
fn what_kube_router_cannot_see_it_lets_pass() {
    let w = world(&[egress("a", json!([])), ingress("b", json!([]))]);
    for to in ["[fe80::1]:22/TCP", "[ff02::fb]:5353/UDP"] {
        w.says("x/a", to, "deny", "allow");
    }
    // A source that is no pod's matches no chain of the sender, but the receiver's.
    w.says("10.42.0.99", "203.0.113.9:443/TCP", "undefined", "allow");
    w.says("10.42.0.99", "x/b:80/TCP", "deny", "deny");
}

#[test]
fn named_ports_spill_to_pods_that_share_one_with_whoever_comes_first() {
    let rules = json!([{"to": [{"podSelector": {"matchExpressions": [{"key": "pod", "operator": "In", "values": ["a", "b", "c"]}]}}],
                        "ports": [{"port": "web"}]}]);
    let w = world(&[egress("a", rules)]);
    // a and c share web 80; b has web at 8080 and shares nothing.
    w.says("x/a", "x/c:80/TCP", "allow", "allow");
    w.says("x/a", "x/b:8080/TCP", "allow", "allow");
    w.says("x/a", "x/b:80/TCP", "deny", "deny");
    w.says("x/a", "x/c:8080/TCP", "deny", "deny");
}

#[test]
fn a_pod_without_an_address_is_held_from_its_first_instant() {
    let w = world(&[egress("new", block("10.42.0.0/16"))]);
    assert_eq!(w.ask("x/new", "203.0.113.9:443/TCP")["verdict"], "deny");
    assert_eq!(w.ask("x/new", "x/b:80/TCP")["verdict"], "allow");
    assert!(w.refused("x/a", "x/new:80/TCP").contains("no address yet"));
}

#[test]
fn what_cannot_be_asked_is_refused_when_it_is_typed() {
    for (from, to) in [
        ("a", "203.0.113.9:1/TCP"),
        ("x/a/b", "203.0.113.9:1/TCP"),
        ("x/a", "203.0.113.9"),
        ("x/a", "203.0.113.9:1"),
        ("x/a", "203.0.113.9/TCP"),
        ("x/a", "203.0.113.9:web/TCP"),
        ("x/a", "203.0.113.9:70000/TCP"),
        ("x/a", "fd42::1:80/TCP"),
        ("x/a", "203.0.113.9:1/QUIC"),
        ("x/a", "203.0.113.9/ICMP:300"),
        ("x/a", ""),
        ("", ":/"),
        ("x/a", "[::1:80/TCP"),
    ] {
        assert!(Question::parse(from, to).is_err(), "{from} -> {to}");
    }
}
