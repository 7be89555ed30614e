//! The compiled form against a naive evaluator, on generated clusters and policies: the families that cyclonus generates
//! (targets, rules, peers by selectors and blocks, ports, conflicts), enumerated, and random ones.

mod naive;

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::compile::{Limits, compile_within};
use super::compiled::address;
use super::objects::{Object, parse};
use super::{Cluster, Compiled, Side, compile};
use naive::Naive;

/// Three namespaces of three pods, two of them with both families, one finished, one host-network; two nodes.
fn cluster() -> Vec<Object> {
    let mut out = Vec::new();
    for (i, name) in ["x", "y", "z"].into_iter().enumerate() {
        out.extend(objects(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"ns": name}}})));
        for (j, pod) in ["a", "b", "c"].into_iter().enumerate() {
            let mut ports = vec![
                json!({"name": "serve-80-tcp", "containerPort": 80}),
                json!({"name": "serve-80-udp", "containerPort": 80, "protocol": "UDP"}),
            ];
            if pod != "c" {
                ports.push(json!({"name": "serve-81-tcp", "containerPort": 81, "protocol": "TCP"}));
            }
            // One name, another number in each pod.
            ports.push(json!({"name": "web", "containerPort": 8080 + j}));
            let mut ips = vec![json!({"ip": format!("10.42.{i}.{}", j + 1)})];
            if pod != "b" {
                ips.push(json!({"ip": format!("fd42::{i}:{}", j + 1)}));
            }
            out.extend(objects(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod, "namespace": name, "labels": {"pod": pod, format!("is-{pod}"): ""}},
                "spec": {"nodeName": format!("n{}", i % 2 + 1), "containers": [{"ports": ports}]},
                "status": {"phase": "Running", "podIPs": ips},
            })));
        }
    }
    out.extend(objects(json!({
        "apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "done", "namespace": "x", "labels": {"pod": "a"}},
             "status": {"phase": "Failed", "podIPs": [{"ip": "10.42.0.3"}]}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "host", "namespace": "x", "labels": {"pod": "a"}},
             "spec": {"hostNetwork": true, "nodeName": "n1"}, "status": {"podIPs": [{"ip": "192.0.2.1"}]}},
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
             "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}},
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"},
             "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]}},
        ],
    })));
    out
}

fn objects(value: Value) -> Vec<Object> {
    let parsed = parse(value);
    assert_eq!(parsed.problems, []);
    parsed.objects
}

fn policy(number: usize, namespace: &str, spec: &Value) -> Object {
    let metadata = json!({"name": format!("p{number}"), "namespace": namespace});
    let mut all = objects(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}),
    );
    all.pop().expect("one policy")
}

const OTHERS: &[&str] = &[
    "192.0.2.1", "192.0.2.2", "203.0.113.9", "10.42.0.0", "10.42.0.255", "10.43.0.1", "0.0.0.1", "2001:db8::9", "fd42::",
    "fd42::0:9", "64:ff9b::1", "::1",
];

const PROTOCOLS: [(&str, u8); 3] = [("TCP", 6), ("UDP", 17), ("SCTP", 132)];

/// Compares the two on every pod, address, protocol and port that can matter.
fn compare(objects: Vec<Object>) -> Result<Compiled, String> {
    let naive = Naive::new(&objects);
    let (cluster, problems) = Cluster::new(objects.into_iter().map(|o| (None, o)));
    if !problems.is_empty() {
        return Err(format!("refused: {problems:?}"));
    }
    let compiled = compile(&cluster).map_err(|e| e.to_string())?;
    let held = |pod: &&super::objects::Pod| {
        !pod.spec.host_network && !matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"))
    };
    let ips = naive.pods.iter().filter(held).flat_map(|p| &p.status.pod_ips).map(|ip| ip.ip.as_str());
    let peers: Vec<IpAddr> = ips.chain(OTHERS.iter().copied()).map(|a| a.parse().expect("an address")).collect();
    for pod in naive.pods.iter().filter(held) {
        for own in &pod.status.pod_ips {
            let own: IpAddr = own.ip.parse().expect("an address");
            for peer in &peers {
                for (name, protocol) in PROTOCOLS {
                    for port in [1, 79, 80, 81, 82, 443, 8080, 8081, 8082, 65535] {
                        for side in [Side::Egress, Side::Ingress] {
                            let said = compiled.decide(side, &address(own), &address(*peer), protocol, port).allows();
                            let meant = match side {
                                Side::Egress => naive.egress(pod, *peer, name, port),
                                Side::Ingress => naive.ingress(pod, *peer, name, port),
                            };
                            if said != meant {
                                return Err(format!(
                                    "{side:?} of {}/{} ({own}), {peer} {name} {port}: {said} where {meant} is meant, by {:#?}",
                                    pod.metadata.namespace, pod.metadata.name, naive.policies
                                ));
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(compiled)
}

fn check(policies: Vec<Object>) {
    let mut all = cluster();
    all.extend(policies);
    if let Err(wrong) = compare(all) {
        panic!("{wrong}");
    }
}

fn selectors(key: &str) -> Vec<Value> {
    vec![
        json!({}),
        json!({"matchLabels": {key: if key == "ns" { "x" } else { "a" }}}),
        json!({"matchExpressions": [{"key": key, "operator": "In", "values": ["y", "z", "b", "c"]}]}),
        json!({"matchExpressions": [{"key": key, "operator": "NotIn", "values": ["x", "a"]}]}),
        json!({"matchExpressions": [{"key": format!("is-{key}"), "operator": "DoesNotExist"}]}),
        json!({"matchExpressions": [{"key": "is-a", "operator": "Exists"}]}),
    ]
}

/// All forms of one peer: selectors, alone and together, and blocks.
fn peers() -> Vec<Value> {
    let mut out = Vec::new();
    for pods in selectors("pod") {
        out.push(json!({"podSelector": pods}));
        for namespaces in selectors("ns") {
            out.push(json!({"podSelector": pods, "namespaceSelector": namespaces}));
        }
    }
    out.extend(selectors("ns").into_iter().map(|s| json!({"namespaceSelector": s})));
    let blocks = [
        ("0.0.0.0/0", vec![]),
        ("0.0.0.0/0", vec!["10.42.0.0/16"]),
        ("::/0", vec![]),
        ("::/0", vec!["fd42::/64"]),
        ("10.42.0.0/24", vec!["10.42.0.1/32", "10.42.0.2/31"]),
        ("10.42.0.2/32", vec![]),
        ("10.0.0.0/8", vec!["10.42.0.0/15", "10.42.1.0/24", "10.42.1.1/32"]),
        ("fd42::1:0/112", vec!["fd42::1:3/128"]),
        ("192.0.2.0/24", vec!["192.0.2.2/32"]),
        ("::/80", vec![]),
    ];
    out.extend(blocks.into_iter().map(|(cidr, except)| json!({"ipBlock": {"cidr": cidr, "except": except}})));
    out
}

fn ports() -> Vec<Value> {
    let mut out = vec![json!({})];
    for protocol in ["TCP", "UDP", "SCTP"] {
        out.push(json!({"protocol": protocol}));
        for port in [json!(80), json!(81), json!("serve-80-tcp"), json!("serve-81-tcp"), json!("serve-80-udp"), json!("web")] {
            out.push(json!({"protocol": protocol, "port": port}));
        }
        out.push(json!({"protocol": protocol, "port": 80, "endPort": 8080}));
        out.push(json!({"protocol": protocol, "port": 1, "endPort": 65535}));
    }
    // Without a protocol, and a name that nobody has.
    out.extend([json!({"port": 80}), json!({"port": "web"}), json!({"port": "nope"})]);
    out
}

fn both_ways(targets: &Value, peers: &Value, ports: &Value) -> [Object; 2] {
    let egress = json!({"podSelector": targets, "policyTypes": ["Egress"], "egress": [{"to": peers, "ports": ports}]});
    let ingress =
        json!({"podSelector": targets, "policyTypes": ["Ingress"], "ingress": [{"from": peers, "ports": ports}]});
    [policy(0, "x", &egress), policy(1, "x", &ingress)]
}

#[test]
fn every_form_of_a_peer() {
    for peer in peers() {
        check(both_ways(&json!({"matchLabels": {"pod": "a"}}), &json!([peer]), &json!([])).into());
    }
}

#[test]
fn every_form_of_a_port_with_every_kind_of_peer() {
    for port in ports() {
        for peers in [json!([]), json!([{"namespaceSelector": {}}]), json!([{"ipBlock": {"cidr": "10.42.0.0/16"}}])] {
            check(both_ways(&json!({}), &peers, &json!([port])).into());
        }
    }
}

#[test]
fn every_form_of_a_target() {
    for targets in selectors("pod") {
        check(both_ways(&targets, &json!([]), &json!([{"port": 80}])).into());
    }
}

#[test]
fn two_peers_of_a_rule_are_either_and_two_rules_are_apart() {
    let some: Vec<Value> = peers().into_iter().step_by(5).collect();
    for one in &some {
        for two in &some {
            check(both_ways(&json!({}), &json!([one, two]), &json!([{"port": 80}])).into());
            let rules = |key: &str| json!([{key: [one], "ports": [{"port": 80}]}, {key: [two], "ports": [{"port": "web"}]}]);
            let spec = json!({
                "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": rules("from"), "egress": rules("to"),
            });
            check(vec![policy(0, "x", &spec)]);
        }
    }
}

#[test]
fn policies_that_seem_to_conflict_are_additive_and_types_are_filled_in() {
    let specs = [
        json!({"podSelector": {}, "policyTypes": ["Egress"]}),
        json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}),
        json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}),
        json!({"podSelector": {}}),
        json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.42.1.0/24"}}]}]}),
        json!({"egress": []}),
        json!({"policyTypes": ["Egress"], "ingress": [{}]}),
        json!({"policyTypes": ["Ingress"], "egress": [{}], "ingress": null}),
        json!({"policyTypes": null, "egress": [null]}),
        json!({}),
    ];
    for one in &specs {
        for two in &specs {
            check(vec![policy(0, "x", one), policy(1, "x", two), policy(2, "y", two)]);
        }
    }
}

fn some<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = T> {
    prop::sample::select(values)
}

prop_compose! {
    fn block()(length in 0_u8..=32, octets in (some(vec![10_u8, 192]), some(vec![0_u8, 42, 43]), 0_u8..3, 0_u8..4),
               deeper in prop::collection::vec((1_u8..=16, 0_u8..4), 0..3)) -> Value {
        let ip = u32::from_be_bytes([octets.0, octets.1, octets.2, octets.3]);
        let net = |ip: u32, length: u8| {
            let mask = if length == 0 { 0 } else { u32::MAX << (32 - length) };
            format!("{}/{length}", std::net::Ipv4Addr::from(ip & mask))
        };
        let except: Vec<String> = deeper
            .into_iter()
            .filter(|(more, _)| length + more <= 32)
            .map(|(more, low)| {
                let outer = if length == 0 { 0 } else { u32::MAX << (32 - length) };
                net((ip & outer) | ((ip ^ u32::from(low)) & !outer), length + more)
            })
            .collect();
        json!({"ipBlock": {"cidr": net(ip, length), "except": except}})
    }
}

prop_compose! {
    fn rule(key: &'static str)(
        peers in prop::collection::vec(prop_oneof![some(peers()), block()], 0..4),
        ports in prop::collection::vec(some(ports()), 0..4),
    ) -> Value {
        json!({key: peers, "ports": ports})
    }
}

prop_compose! {
    fn spec()(
        targets in some(selectors("pod")),
        types in some(vec![json!([]), json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]),
        ingress in prop::collection::vec(rule("from"), 0..3),
        egress in prop::collection::vec(rule("to"), 0..3),
    ) -> Value {
        json!({"podSelector": targets, "policyTypes": types, "ingress": ingress, "egress": egress})
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_policies(specs in prop::collection::vec((some(vec!["x", "y", "z"]), spec()), 1..6)) {
        let mut all = cluster();
        all.extend(specs.iter().enumerate().map(|(i, (namespace, spec))| policy(i, namespace, spec)));
        let compared = compare(all);
        prop_assert!(compared.is_ok(), "{}", compared.err().unwrap_or_default());
    }
}

#[test]
fn pods_that_the_same_policies_select_share_a_set_and_what_says_nothing_new_is_left_out() {
    let mut all = cluster();
    all.push(policy(0, "x", &json!({"policyTypes": ["Egress"], "egress": [
        {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "10.42.0.0/16"}}, {"podSelector": {}}]},
    ]})));
    let compiled = compare(all).expect("alike");
    assert_eq!(compiled.sets.len(), 1);
    let nets: Vec<String> = compiled.sets[0].nets.iter().map(|(p, _)| p.to_string()).collect();
    // The pods' addresses of IPv4 lie in the blocks; those of IPv6 do not.
    assert_eq!(nets, ["10.0.0.0/8", "fd42::1/128", "fd42::3/128"]);
}

#[test]
fn policies_that_multiply_are_refused_by_name_and_not_compiled_for_ever() {
    let peers: Vec<Value> = (0..3000_u32)
        .map(|i| {
            let except = format!("{}/32", std::net::Ipv4Addr::from(i << 8));
            json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": [except]}})
        })
        .collect();
    let mut all = cluster();
    all.push(policy(0, "x", &json!({"policyTypes": ["Egress"], "egress": [{"to": peers}]})));
    let (cluster, problems) = Cluster::new(all.into_iter().map(|o| (None, o)));
    assert_eq!(problems, []);
    let error = compile_within(&cluster, Limits { steps: 1 << 20, ..Limits::default() }).expect_err("too much");
    assert_eq!((error.policy.as_str(), error.what), ("x/p0", "prefixes and excepts"));
    let many: Vec<Value> = (1..2000).map(|port| json!({"port": port})).collect();
    let wide: Vec<Value> = (0..2000).map(|i| json!({"ipBlock": {"cidr": format!("10.{}.{}.0/24", i / 256, i % 256)}})).collect();
    let mut all = self::cluster();
    all.push(policy(0, "x", &json!({"policyTypes": ["Egress"], "egress": [{"to": wide, "ports": many}]})));
    let (cluster, _) = Cluster::new(all.into_iter().map(|o| (None, o)));
    let error = compile(&cluster).expect_err("too much");
    assert_eq!((error.policy.as_str(), error.what), ("x/p0", "peers and ports"));
}

fn refusals(spec: Value) -> Vec<String> {
    let (_, problems) = Cluster::new([(None, policy(0, "x", &spec))]);
    problems.into_iter().map(|p| format!("{}: {}", p.field, p.reason)).collect()
}

/// What kube-apiserver v1.36 refuses (pkg/apis/networking/validation), by the field that it names.
#[test]
fn what_the_api_server_refuses_is_refused_at_the_same_field() {
    let peer = |peer: Value| json!({"egress": [{"to": [peer]}]});
    let port = |port: Value| json!({"ingress": [{"ports": [port]}]});
    let block = |cidr: &str, except: Value| json!({"egress": [{"to": [{"ipBlock": {"cidr": cidr, "except": except}}]}]});
    let expression = |e: Value| json!({"podSelector": {"matchExpressions": [e]}});
    let cases = [
        (peer(json!({})), "spec.egress[0].to[0]: Required value: must specify a peer"),
        (peer(json!(null)), "spec.egress[0].to[0]: Required value: must specify a peer"),
        (peer(json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}})), "spec.egress[0].to[0]: Forbidden"),
        (peer(json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "namespaceSelector": {}})), "spec.egress[0].to[0]: Forbidden"),
        (peer(json!({"ipBlock": {}})), "spec.egress[0].to[0].ipBlock.cidr: Required value"),
        (block("10.0.0.0", json!([])), "spec.egress[0].to[0].ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR"),
        (block("10.0.0.0/33", json!([])), "spec.egress[0].to[0].ipBlock.cidr: Invalid value"),
        (block("10.0.0.0/+8", json!([])), "spec.egress[0].to[0].ipBlock.cidr: Invalid value"),
        (block("10.0.0.1/8", json!([])), "spec.egress[0].to[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set"),
        (block("010.0.0.0/8", json!([])), "spec.egress[0].to[0].ipBlock.cidr: Invalid value: \"010.0.0.0/8\": must not have leading 0s"),
        (block("10.0.0.0/08", json!([])), "spec.egress[0].to[0].ipBlock.cidr: Invalid value: \"10.0.0.0/08\": must not have leading 0s"),
        (block("::ffff:10.0.0.0/104", json!([])), "spec.egress[0].to[0].ipBlock.cidr: Invalid value: \"::ffff:10.0.0.0/104\": must not have an IPv4-mapped"),
        (block("fe80::%eth0/64", json!([])), "spec.egress[0].to[0].ipBlock.cidr: Invalid value"),
        (block("10.0.0.0/8", json!(["10.1.0.0/16", "10.0.0.0/8"])), "spec.egress[0].to[0].ipBlock.except[1]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`"),
        (block("10.0.0.0/8", json!(["11.0.0.0/16"])), "spec.egress[0].to[0].ipBlock.except[0]: Invalid value"),
        (block("::/0", json!(["10.0.0.0/8"])), "spec.egress[0].to[0].ipBlock.except[0]: Invalid value"),
        (block("10.0.0.0/8", json!(["nothing"])), "spec.egress[0].to[0].ipBlock.except[0]: Invalid value"),
        (port(json!({"protocol": "ICMP"})), "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\""),
        (port(json!({"protocol": "tcp"})), "spec.ingress[0].ports[0].protocol: Unsupported value"),
        (port(json!({"protocol": ""})), "spec.ingress[0].ports[0].protocol: Unsupported value"),
        (port(json!({"port": 0})), "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535"),
        (port(json!({"port": 65536})), "spec.ingress[0].ports[0].port: Invalid value"),
        (port(json!({"port": "80"})), "spec.ingress[0].ports[0].port: Invalid value: \"80\": must contain at least one letter"),
        (port(json!({"port": "Web"})), "spec.ingress[0].ports[0].port: Invalid value"),
        (port(json!({"port": "-web"})), "spec.ingress[0].ports[0].port: Invalid value"),
        (port(json!({"port": "we--b"})), "spec.ingress[0].ports[0].port: Invalid value"),
        (port(json!({"port": "a-name-too-long-"})), "spec.ingress[0].ports[0].port: Invalid value"),
        (port(json!({"port": ""})), "spec.ingress[0].ports[0].port: Invalid value"),
        (port(json!({"port": 80, "endPort": 79})), "spec.ingress[0].ports[0].endPort: Invalid value: 79: must be greater"),
        (port(json!({"port": 80, "endPort": 70000})), "spec.ingress[0].ports[0].endPort: Invalid value: 70000: must be between"),
        (port(json!({"port": "web", "endPort": 90})), "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric"),
        (port(json!({"endPort": 90})), "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is not specified"),
        (json!({"policyTypes": ["egress"]}), "spec.policyTypes[0]: Unsupported value: \"egress\""),
        (json!({"policyTypes": ["Egress", "Ingress", "Egress"]}), "spec.policyTypes: Invalid value"),
        (json!({"podSelector": {"matchLabels": {"a b": "c"}}}), "spec.podSelector.matchLabels: Invalid value: \"a b\""),
        (json!({"podSelector": {"matchLabels": {"/a": "c"}}}), "spec.podSelector.matchLabels: Invalid value: \"/a\": prefix part must be non-empty"),
        (json!({"podSelector": {"matchLabels": {"A_b/c": "c"}}}), "spec.podSelector.matchLabels: Invalid value"),
        (json!({"podSelector": {"matchLabels": {"a/b/c": "c"}}}), "spec.podSelector.matchLabels: Invalid value"),
        (json!({"podSelector": {"matchLabels": {"a": "-c"}}}), "spec.podSelector.matchLabels: Invalid value: \"-c\""),
        (json!({"podSelector": {"matchLabels": {"a": "c".repeat(64)}}}), "spec.podSelector.matchLabels: Invalid value"),
        (expression(json!({"key": "a", "operator": "In"})), "spec.podSelector.matchExpressions[0].values: Required value"),
        (expression(json!({"key": "a", "operator": "NotIn", "values": []})), "spec.podSelector.matchExpressions[0].values: Required value"),
        (expression(json!({"key": "a", "operator": "Exists", "values": ["b"]})), "spec.podSelector.matchExpressions[0].values: Forbidden"),
        (expression(json!({"key": "a", "operator": "DoesNotExist", "values": [""]})), "spec.podSelector.matchExpressions[0].values: Forbidden"),
        (expression(json!({"key": "a", "operator": "Gt", "values": ["1"]})), "spec.podSelector.matchExpressions[0].operator: Invalid value: \"Gt\""),
        (expression(json!({"key": "a"})), "spec.podSelector.matchExpressions[0].operator: Invalid value: \"\""),
        (expression(json!({"operator": "Exists"})), "spec.podSelector.matchExpressions[0].key: Invalid value: \"\": name part must be non-empty"),
        (expression(json!({"key": "a", "operator": "In", "values": ["ok", "not ok"]})), "spec.podSelector.matchExpressions[0].values[1]: Invalid value: \"not ok\""),
        (peer(json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "in", "values": ["b"]}]}})), "spec.egress[0].to[0].namespaceSelector.matchExpressions[0].operator: Invalid value"),
        (json!({"ingress": [{}, {"from": [{"podSelector": {"matchLabels": {"a": "?"}}}]}]}), "spec.ingress[1].from[0].podSelector.matchLabels: Invalid value"),
    ];
    for (spec, wanted) in cases {
        let told = refusals(spec.clone());
        assert!(told.len() == 1 && told[0].starts_with(wanted), "{spec}\n  wanted {wanted}\n  told {told:?}");
    }
}

#[test]
fn what_the_api_server_takes_is_taken() {
    for spec in [
        json!({}),
        json!(null),
        json!({"podSelector": null, "ingress": null, "egress": null, "policyTypes": null}),
        json!({"policyTypes": ["Egress", "Egress"]}),
        json!({"egress": [{"to": null, "ports": null}, null]}),
        json!({"egress": [{"ports": [null, {"protocol": "SCTP"}, {"port": 1, "endPort": 65535}, {"port": "a-9"}]}]}),
        json!({"egress": [{"to": [{"ipBlock": {"cidr": "FD42:0:0:0::/64", "except": ["fd42::8000/113"]}}]}]}),
        json!({"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["0.0.0.0/1", "0.0.0.0/1"]}}]}]}),
        json!({"podSelector": {"matchLabels": {"example.com/a_B.c": "", "x": "A_b.9"}}}),
        json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": [""]}]}}),
    ] {
        assert_eq!(refusals(spec.clone()), Vec::<String>::new(), "{spec}");
    }
}

#[test]
fn what_has_the_wrong_shape_is_refused_with_its_path() {
    for (spec, field) in [
        (json!({"egress": {}}), "spec.egress"),
        (json!({"egress": [{"to": [{"ipBlock": {"cidr": 10}}]}]}), "spec.egress[0].to[0].ipBlock.cidr"),
        (json!({"egress": [{"ports": [{"port": 1.5}]}]}), "spec.egress[0].ports[0].port"),
        (json!({"egress": [{"ports": [{"port": 99_999_999_999_u64}]}]}), "spec.egress[0].ports[0].port"),
        (json!({"podSelector": {"matchLabels": {"a": true}}}), "spec.podSelector.matchLabels.a"),
        (json!([]), "spec"),
        (json!({"podSelector": []}), "spec.podSelector"),
        (json!({"egress": [{"to": [{"ipBlock": ["10.0.0.0/8"]}]}]}), "spec.egress[0].to[0].ipBlock"),
        (json!({"egress": [[]]}), "spec.egress[0]"),
    ] {
        let metadata = json!({"name": "p", "namespace": "x"});
        let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec});
        let parsed = parse(object);
        let told: Vec<(&str, &str)> =
            parsed.problems.iter().map(|p| (p.object.as_str(), p.field.as_str())).collect();
        assert_eq!(told, [("NetworkPolicy x/p", field)], "{spec}");
    }
}
