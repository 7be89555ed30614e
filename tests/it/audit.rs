//! The audit over a real capture of pods that try to leave, beside what its makers say happened.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::command::{program, stderr, stdout};

/// The violations of s08 as its truth file lists its steps: pod, destination, the name asked, packets that the pod sent.
/// The node's counters say nine packets, all refused (`iptables_counters`); nothing may appear on its eth0.
const S08: &[(&str, &str, &str, &str, u64)] = &[
    // 2: gts1 is asked to look up @someone@mastodon.example
    ("fediverse/gts1", "203.0.113.80:443/tcp", "mastodon.example", "deny", 1),
    // 3: fed1 looks up https://public-social.example/users/x
    ("fediverse/fed1", "198.51.100.77:443/tcp", "public-social.example", "deny", 2),
    // 4: without DNS
    ("fediverse/fed1", "203.0.113.99:443/tcp", "", "deny", 2),
    // 6: a DNS query of gts1 straight to 203.0.113.53
    ("fediverse/gts1", "203.0.113.53:53/udp", "exfil.data.attacker.example", "deny", 1),
    // 7: plain HTTP of fed1
    ("fediverse/fed1", "203.0.113.80:80/tcp", "", "deny", 1),
    // 8: ping of gts1. Policies are defined for TCP, UDP and SCTP; the name is the one that gts1 had asked before.
    ("fediverse/gts1", "203.0.113.80/icmp", "mastodon.example", "undefined", 2),
];

#[test]
fn each_violation_of_the_capture_is_found_with_its_name_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Command::new(program())
        .arg("read")
        .arg(root.join("traces/s08-egress-reject-traefik.pcapng.zst"))
        .arg("--cluster")
        .arg(root.join("policy/s08-cluster.yaml"))
        .arg("--json")
        .output()
        .expect("fedisniff runs");
    assert!(out.status.success(), "{}", stderr(&out));
    let lines: Vec<Value> =
        stdout(&out).lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    let findings: Vec<&Value> = lines.iter().filter(|l| l["schema"] == "fedisniff.finding/1").collect();
    let told: Vec<(String, String, String, String, u64)> = findings
        .iter()
        .map(|f| {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let to = &f["destination"];
            let to = match to["port"].as_u64() {
                Some(port) => format!("{}:{port}/{}", text(&to["address"]), text(&to["protocol"])),
                None => format!("{}/{}", text(&to["address"]), text(&to["protocol"])),
            };
            let name = text(&f["names"][0]["name"]);
            (
                text(&f["pod"]["name"]),
                to,
                name,
                text(&f["verdict"]["word"]),
                f["packets"].as_u64().unwrap_or_default(),
            )
        })
        .collect();
    let truth: Vec<_> = S08
        .iter()
        .map(|(pod, to, name, word, n)| {
            (pod.to_string(), to.to_string(), name.to_string(), word.to_string(), *n)
        })
        .collect();
    assert_eq!(told, truth);
    for finding in &findings {
        assert_eq!(finding["outcome"], "blocked-by-kube-router", "{finding}");
        let witnesses: Vec<&str> = finding["evidence"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| e["witness"].as_str())
            .collect();
        for witness in ["attempt", "icmp", "uplink-silent"] {
            assert!(witnesses.contains(&witness), "{finding}");
        }
    }
    // The search that the first one broke was under way then: it leads there.
    let during = findings[0]["during"][0].as_str().expect("an exchange was under way");
    let search = lines.iter().find(|l| l["id"] == during).expect("it is told");
    assert!(search["request"]["target"].as_str().is_some_and(|t| t.contains("mastodon.example")), "{search}");
    assert!(
        stderr(&out).contains(
            "6 findings from 9 packets that the policies do not allow: 0 blocked by fedisniff, 6 blocked by kube-router, \
             0 unknown, 0 leaked (uplink eth0)"
        ),
        "{}",
        stderr(&out)
    );
}

#[test]
fn without_policies_nothing_is_audited_and_a_bad_file_is_an_error_before_the_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let capture = root.join("traces/s08-egress-reject-traefik.pcapng.zst");
    let out =
        Command::new(program()).arg("read").arg(&capture).arg("--json").output().expect("fedisniff runs");
    assert!(out.status.success() && !stdout(&out).contains("fedisniff.finding/1"));
    let out = Command::new(program())
        .arg("read")
        .arg(&capture)
        .args(["--cluster", "/nowhere.yaml"])
        .output()
        .expect("fedisniff runs");
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("/nowhere.yaml") && stdout(&out).is_empty(), "{}", stderr(&out));
}
