//! Policies as a user asks about them: all cases with real outcomes through the program, what it says of bad objects and
//! bad questions, and its exit codes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::Value;
use sniffer::cluster::read;
use sniffer::policy::Cluster;
use sniffer::policy::objects::{self, Object};
use sniffer::verdict::State;
use sniffer::verdict::explain::Question;

use crate::command::{program, stderr, stdout};

#[derive(Deserialize)]
struct Case {
    id: Value,
    policies: Vec<Value>,
    #[serde(default)]
    invalid: bool,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    from: String,
    to: String,
    verdict: String,
    icmp_type: Option<u8>,
    kube_router: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policy")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join("cases.yaml")).expect("the cases are there");
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(&text, options).expect("the cases are as described")
}

fn cluster_objects() -> Vec<(Option<String>, Object)> {
    let text = std::fs::read_to_string(folder().join("cluster.yaml")).expect("the cluster is there");
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options).expect("YAML");
    documents.into_iter().flat_map(|d| objects::parse(d).objects).map(|o| (None, o)).collect()
}

#[test]
fn every_case_has_the_verdict_of_the_specification_and_what_kube_router_really_did() {
    let cluster = cluster_objects();
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for case in cases() {
        let mut all = cluster.clone();
        let mut problems = Vec::new();
        for policy in case.policies {
            let parsed = objects::parse(policy);
            all.extend(parsed.objects.into_iter().map(|o| (None, o)));
            problems.extend(parsed.problems);
        }
        let (cluster, refused) = Cluster::new(all);
        problems.extend(refused);
        if case.invalid == problems.is_empty() {
            wrong.push(format!("{}: invalid {} but refused {problems:?}", case.id, case.invalid));
        }
        if case.invalid {
            checked += 1;
            continue;
        }
        let state = State::new(cluster).expect("small");
        for check in case.checks {
            checked += 1;
            let question = Question::parse(&check.from, &check.to).expect("a question");
            let answer = state.explain(&question.with_icmp_type(check.icmp_type)).expect("an answer");
            let said = serde_json::to_value(&answer).expect("JSON");
            let place = format!("{} {} -> {}", case.id, check.from, check.to);
            if said["verdict"] != check.verdict.as_str() {
                wrong.push(format!(
                    "{place}: verdict {} instead of {}: {said}",
                    said["verdict"], check.verdict
                ));
            }
            let predicted = &said["kube_router"]["verdict"];
            match &check.kube_router {
                Some(real) if predicted != real.as_str() => {
                    wrong.push(format!("{place}: kube-router {predicted} instead of {real}: {said}"));
                }
                // What the policies do not let pass, and kube-router lets pass after some syncs only.
                None if check.verdict == "deny" && predicted != "unknown" => {
                    wrong.push(format!("{place}: kube-router {predicted} instead of unknown"));
                }
                _ => {}
            }
            let differs = *predicted != said["verdict"];
            if differs != said["kube_router"]["reason"].is_string() {
                wrong.push(format!("{place}: a reason where it differs, and only there: {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 100, "only {checked} checks");
}

fn explain(arguments: &[&str]) -> Output {
    Command::new(program())
        .args(["policy", "explain"])
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("fedisniff starts")
}

/// A folder with the cluster and some policies in it.
fn room(policies: &[Value]) -> tempfile::TempDir {
    let room = tempfile::tempdir().expect("a temporary folder");
    std::fs::copy(folder().join("cluster.yaml"), room.path().join("cluster.yaml")).expect("copied");
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": policies});
    std::fs::write(room.path().join("policies.json"), list.to_string()).expect("written");
    room
}

#[test]
fn the_program_gives_every_answer_as_json_with_its_exit_code() {
    for case in cases() {
        let room = room(&case.policies);
        let path = room.path().to_str().expect("UTF-8");
        if case.invalid {
            let output = explain(&["--cluster", path, "--from", "x/a", "--to", "10.42.2.2:80/TCP", "--json"]);
            assert_eq!(output.status.code(), Some(1), "{}: {}", case.id, stderr(&output));
            let told = stderr(&output);
            assert!(told.contains("NetworkPolicy x/bad: spec.egress[0]."), "{}: {told}", case.id);
            assert!(output.stdout.is_empty());
            continue;
        }
        for check in case.checks {
            let mut arguments = vec!["--cluster", path, "--from", &check.from, "--to", &check.to, "--json"];
            let kind = check.icmp_type.map(|t| t.to_string());
            if let Some(kind) = &kind {
                arguments.extend(["--icmp-type", kind]);
            }
            let output = explain(&arguments);
            let place = format!("{} {} -> {}: {}", case.id, check.from, check.to, stderr(&output));
            let said: Value = serde_json::from_str(&stdout(&output)).expect(&place);
            assert_eq!(said["schema"], "fedisniff.explain/1", "{place}");
            assert_eq!(
                (&said["from"], &said["to"]),
                (&check.from.clone().into(), &check.to.clone().into()),
                "{place}"
            );
            assert_eq!(said["verdict"], check.verdict.as_str(), "{place}");
            let code = if check.verdict == "allow" { 0 } else { 3 };
            assert_eq!(output.status.code(), Some(code), "{place}");
        }
    }
}

#[test]
fn the_answer_for_people_says_verdict_rule_isolation_and_kube_router() {
    let policy = serde_json::json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "x"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": []},
    });
    let room = room(&[policy]);
    let path = room.path().to_str().expect("UTF-8");
    let output = explain(&["--cluster", path, "--from", "x/a", "--to", "x/npsvc:80/TCP"]);
    let told = stdout(&output);
    assert!(
        told.starts_with("deny       x/a → x/npsvc:80/TCP: the policies do not let it connect\n"),
        "{told}"
    );
    for part in ["arrives at  10.42.2.2:80", "isolated by x/p", "kube-router allow", "both types"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let coloured =
        explain(&["--cluster", path, "--from", "x/a", "--to", "x/npsvc:80/TCP", "--color", "always"]);
    assert!(stdout(&coloured).contains("\u{1b}[31mdeny"), "{}", stdout(&coloured));
}

#[test]
fn bad_questions_are_usage_and_name_what_is_near() {
    let room = room(&[]);
    let path = room.path().to_str().expect("UTF-8");
    let asked = |from: &str, to: &str| {
        let output = explain(&["--cluster", path, "--from", from, "--to", to]);
        assert_eq!(output.status.code(), Some(2), "{from} -> {to}: {}", stderr(&output));
        stderr(&output)
    };
    assert!(asked("fediverse/mastodon1", "203.0.113.9:443/TCP").contains("near are fediverse/mastodon1-"));
    assert!(asked("x/a", "kube-system/traefk:443/TCP").contains("kube-system/traefik"));
    assert!(asked("x/a", "kube-system/kube-dns:54/TCP").contains("p0 53/UDP, p1 53/TCP"));
    assert!(asked("node:n9", "203.0.113.9:443/TCP").contains("near are n1, n2"));
    assert!(asked("x/done", "203.0.113.9:443/TCP").contains("has ended"));
    assert!(asked("x/a", "203.0.113.9:443").contains("expected IP:PORT/PROTO"));
    assert!(asked("x/a", "203.0.113.9:0/TCP").contains("1 to 65535"));
    assert!(asked("x/a", "2001:db8::9:443/TCP").contains("brackets"));
    let absent = explain(&["--cluster", "/absent.yaml", "--from", "x/a", "--to", "203.0.113.9:1/TCP"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("/absent.yaml: No such file"), "{}", stderr(&absent));
}

#[test]
fn objects_come_from_standard_input_as_well() {
    let mut child = Command::new(program())
        .args(["policy", "explain", "--cluster", "-", "--from", "x/a", "--to", "x/b:80/TCP", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("fedisniff starts");
    let text = std::fs::read(folder().join("cluster.yaml")).expect("the cluster is there");
    child.stdin.take().expect("piped").write_all(&text).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    let said: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(said["destinations"], serde_json::json!(["10.42.2.2:80"]));
}

#[test]
fn the_cluster_of_the_cases_reads_without_a_note() {
    let read = read(&folder().join("cluster.yaml")).expect("read");
    assert_eq!((read.problems.len(), read.cluster.pods.len(), read.cluster.services.len()), (0, 14, 6));
    assert_eq!(read.cluster.notes, Vec::<String>::new());
}
