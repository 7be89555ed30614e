//! `fedisniff doctor`: what it finds is so, what it says is missing is just what keeps `watch` from working, and without
//! rights it says what it could not look at. What takes root: `cargo xtask test --only doctor`.

use std::process::Command;

use serde_json::Value;

use crate::command::{program, stderr, stdout};

/// Keeps a command's capabilities to these, whoever runs the test.
fn with_capabilities(only: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set=-all{only}")).arg("--inh-caps=-all").arg(program());
    command
}

fn json(output: &std::process::Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|e| panic!("{e}: {}", stderr(output)))
}

/// A check by its name.
fn check<'a>(report: &'a Value, id: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|c| c["id"] == id).unwrap_or_else(|| panic!("no check {id}: {report}"))
}

#[test]
fn without_rights_it_says_which_are_missing_and_what_it_could_not_look_at() {
    // Only who has root can lower its bounding set; all others have no capabilities to begin with.
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    let command = || if root { with_capabilities("") } else { Command::new(program()) };
    let output = command().args(["doctor", "--json"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["schema"], "fedisniff.doctor/1");
    assert_eq!(report["works"], false);
    assert_eq!(check(&report, "capabilities")["state"], "missing");
    assert_eq!(check(&report, "programs")["state"], "unknown");
    assert_eq!(check(&report, "hooks")["state"], "unknown");
    for one in report["checks"].as_array().expect("checks") {
        let fine = one["state"] == "ok";
        assert!(fine || one["why"].is_string(), "why does it matter: {one}");
        assert!(one["found"].as_str().is_some_and(|f| !f.is_empty()), "{one}");
    }
    let text = stdout(&command().arg("doctor").output().expect("it starts"));
    assert!(text.contains("missing  capabilities  without CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN"), "{text}");
    assert!(text.contains("sudo fedisniff watch"), "{text}");
    assert!(text.trim_end().ends_with("is in the way."), "{text}");
    assert!(!text.contains('\x1b'), "no colour into a pipe");
    let coloured = stdout(&command().args(["doctor", "--color", "always"]).output().expect("it starts"));
    assert!(coloured.contains("\x1b[31mmissing"), "{coloured}");
}

/// By this name `cargo xtask test` leaves them out where it runs the others.
mod as_root {
    use super::*;
    use crate::netns::{Namespace, run};

    #[test]
    #[ignore = "takes root: `cargo xtask test --only doctor`"]
    fn it_names_what_would_be_watched_and_what_else_is_there() {
        let node = Namespace::new();
        node.ip("link add cni0 type bridge");
        node.ip("link add pod-a type veth peer name a0");
        node.ip("link set pod-a master cni0");
        node.ip("link add other type veth peer name b0");
        node.tc("qdisc add dev pod-a clsact");
        node.foreign_filter("pod-a", "egress");

        let output = node.fedisniff(&["doctor", "--json"]);
        let report = json(&output);
        assert_eq!(output.status.code(), Some(0), "{report}");
        assert_eq!(report["works"], true);
        for fine in ["kernel", "capabilities", "programs", "interfaces", "clocks", "ring", "leftovers"] {
            assert_eq!(check(&report, fine)["state"], "ok", "{report}");
        }
        let interface = |name: &str| {
            let all = report["interfaces"].as_array().expect("interfaces");
            all.iter().find(|i| i["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}"))
        };
        assert_eq!(interface("pod-a")["watched"], true);
        assert_eq!(interface("pod-a")["reason"], "a port of cni0, whose ports are pods");
        let attached = &interface("pod-a")["attached"];
        assert_eq!(attached.as_array().map(Vec::len), Some(1), "{attached}");
        assert_eq!(attached[0]["hook"], "egress");
        assert_eq!(attached[0]["by"], "clsact");
        assert_eq!(attached[0]["name"], "bpf");
        assert_eq!(interface("other")["watched"], false);
        assert_eq!(interface("lo")["reason"], "not one end of a veth pair");
        assert_eq!(check(&report, "hooks")["state"], "warning");
        assert!(check(&report, "hooks")["found"].as_str().is_some_and(|f| f.starts_with("bpf on 1")));

        let named = json(&node.fedisniff(&["doctor", "--json", "--interfaces", "oth*"]));
        assert_eq!(check(&named, "interfaces")["found"], "1 of 6 interfaces would be watched");
        assert_eq!(check(&named, "hooks")["state"], "ok", "{named}");
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only doctor`"]
    fn bridged_packets_that_pass_netfilter_by_are_told_until_they_do_not() {
        let node = Namespace::new();
        let setting = "net.bridge.bridge-nf-call-iptables";
        let state = || check(&json(&node.fedisniff(&["doctor", "--json"])), "bridge-nf").clone();
        assert_eq!(state()["state"], "ok", "without a bridge there is nothing to say");
        node.ip("link add cni0 type bridge");
        if !std::path::Path::new("/proc/sys/net/bridge").exists() {
            // No such module here: then that is what is told.
            assert_eq!(state()["state"], "warning");
            return;
        }
        run(node.command("sysctl").args(["-w", &format!("{setting}=0")]));
        let off = state();
        assert_eq!(off["state"], "warning");
        let mend = off["mend"].as_str().expect("what mends it");
        let (_, set) = mend.split_once("sudo sysctl -w ").expect("a setting");
        assert_eq!(set, format!("{setting}=1"));
        run(node.command("sysctl").args(["-w", set]));
        assert_eq!(state()["state"], "ok");
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only doctor`"]
    fn a_watch_that_runs_is_seen_on_the_hooks_and_gone_after_it() {
        let node = Namespace::with_veth();
        let attached = || {
            let report = json(&node.fedisniff(&["doctor", "--json"]));
            let all = report["interfaces"].as_array().expect("interfaces").clone();
            let veth = all.into_iter().find(|i| i["name"] == "veth0").expect("veth0");
            let of = |a: &Value| (a["hook"].clone(), a["name"].clone(), a["ours"].clone());
            veth["attached"].as_array().expect("a list").iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(attached(), []);
        let watch = node.watch(&[]);
        let ours = |hook: &str, name: &str| (hook.into(), name.into(), true.into());
        assert_eq!(attached(), [ours("ingress", "fs_ingress"), ours("egress", "fs_egress")]);
        watch.end("INT");
        assert_eq!(attached(), []);
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only doctor`"]
    fn the_capabilities_that_it_asks_for_are_enough_for_watch_and_each_is_needed() {
        let all = ["bpf", "perfmon", "net_admin"];
        let doctor = |names: &[&str]| {
            let only: String = names.iter().map(|name| format!(",+{name}")).collect();
            let output = with_capabilities(&only).args(["doctor", "--json"]).output().expect("it starts");
            (output.status.code(), json(&output))
        };
        let (code, report) = doctor(&all);
        assert_eq!(code, Some(0), "{report}");
        assert_eq!(check(&report, "programs")["state"], "ok", "the verifier takes them with these alone");
        for left_out in all {
            let rest: Vec<&str> = all.into_iter().filter(|name| *name != left_out).collect();
            let (code, report) = doctor(&rest);
            assert_eq!(code, Some(1), "{report}");
            let found = check(&report, "capabilities")["found"].clone();
            assert_eq!(found, format!("without CAP_{}", left_out.to_uppercase()));
        }
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only doctor`"]
    fn metrics_of_a_watch_have_what_the_kernel_counted_and_promtool_takes_them() {
        let node = Namespace::with_veth();
        node.ip("address add 10.9.0.1/24 dev veth0");
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("watch.redb");
        let watch =
            node.watch(&["--serve", "127.0.0.1:7878", "--store", store.to_str().expect("UTF-8"), "-q"]);
        // To an address that nobody has: asking for it is a packet.
        run(node.command("bash").args(["-c", "echo > /dev/udp/10.9.0.2/9"]));
        let scrape = "exec 3<>/dev/tcp/127.0.0.1/7878 && \
                      printf 'GET /metrics HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && \
                      sed '1,/^\\r$/d' <&3";
        let value = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<f64>().ok())
        };
        let mut text = String::new();
        crate::netns::until("a packet was counted", || {
            text = run(node.command("bash").args(["-c", scrape]));
            value(&text, "fedisniff_packets_seen_total{interface=\"veth0\"}").is_some_and(|n| n > 0.0)
        });
        assert_eq!(value(&text, "fedisniff_interfaces"), Some(1.0), "{text}");
        assert_eq!(value(&text, "fedisniff_packets_seen_total{interface=\"gone interfaces\"}"), Some(0.0));
        assert!(value(&text, "fedisniff_frames_total").is_some(), "{text}");
        let file = folder.path().join("metrics");
        std::fs::write(&file, &text).expect("written");
        let checked = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(std::fs::File::open(&file).expect("it is there"))
            .output()
            .expect("promtool (`cargo xtask setup`)");
        assert!(checked.status.success(), "{}{}", stdout(&checked), stderr(&checked));
        watch.end("INT");
    }
}
