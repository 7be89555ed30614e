//! Real servers in network namespaces, alive: what is captured while they federate equals what they logged. These
//! tests take root and what `cargo xtask setup` installs, so they run as a part of their own: `cargo xtask test --only
//! lab`.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sniffer::capture::Source;
use sniffer::pipeline::Told;
use tests::lab::Lab;
use tests::truth::Logged;

use crate::captures::{count, decode_from, difference, has_bodies_of, key_of, key_of_logged, open_files};

/// A name that no other run of the tests has.
fn name(what: &str) -> String {
    format!("{what}{}", std::process::id())
}

/// Plays the scenario and captures the veth of the ingress meanwhile.
fn captured(lab: &Lab, runs: u32, folder: &std::path::Path) -> (Source, Vec<Logged>) {
    let file = folder.join("ingress.pcap");
    let capture = lab.capture(lab.veth("ingress").expect("a veth"), &file).expect("tcpdump");
    let logged = lab.run(runs, folder).expect("the scenario");
    capture.finish().expect("every packet");
    (open_files("the lab", &[file]), logged)
}

/// The exchanges of a capture of the ingress against the logs: each once, with the right bodies, and none besides.
fn told_as_logged(lab: &Lab, runs: u32) {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, logged) = captured(lab, runs, folder.path());
    let of = |proxy: bool| logged.iter().filter(move |l| (l.log == "proxy") == proxy);
    let by_proxy = count(of(true).map(key_of_logged));
    let by_servers = count(of(false).map(key_of_logged));
    assert_eq!(difference(&by_servers, &by_proxy), Vec::<String>::new(), "the servers and the proxy");
    assert!(by_proxy.values().sum::<i64>() >= 20 * i64::from(runs), "{by_proxy:?}");

    let (mut told, _) = decode_from(source);
    assert_eq!(difference(&count(told.iter().map(key_of)), &by_proxy), Vec::<String>::new());
    let accepted = |t: &&Told| t.exchange.response.as_ref().and_then(|r| r.status) == Some(202);
    let read: BTreeSet<_> =
        told.iter().filter(accepted).filter_map(|t| t.reading.activity.clone()?.r#type).collect();
    let kinds = ["Accept", "Announce", "Create", "Delete", "Follow", "Like", "Undo"];
    assert_eq!(read.iter().map(|kind| &**kind).collect::<Vec<_>>(), kinds);
    for one in of(false) {
        let found = told.iter().position(|t| has_bodies_of(t, one));
        told.swap_remove(found.unwrap_or_else(|| panic!("no exchange has these bodies: {one:?}")));
    }
}

/// The namespaces whose names begin so.
fn namespaces(prefix: &str) -> Vec<String> {
    let out = Command::new("ip").args(["netns", "list"]).output().expect("ip");
    let text = String::from_utf8(out.stdout).expect("names");
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
}

/// By this name `cargo xtask test` leaves them out where it runs the others.
mod as_root {
    use super::*;

    #[test]
    #[ignore = "takes root: `cargo xtask test --only lab`"]
    fn real_servers_are_told_as_they_logged_over_http1() {
        let lab = Lab::up(&name("one"), &[]).expect("the lab");
        told_as_logged(&lab, 2);
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only lab`"]
    fn real_servers_are_told_as_they_logged_over_h2c_and_ipv6() {
        let lab = Lab::up(&name("two"), &["--backend", "h2c", "--ipv6"]).expect("the lab");
        told_as_logged(&lab, 1);
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only lab`"]
    fn down_takes_away_what_is_left_of_a_lab_that_was_killed_while_it_came_up() {
        let name = name("dead");
        let prefix = format!("{name}-");
        let mut up = tests::lab::command("up", &name, &[]).stdout(Stdio::null()).spawn().expect("cargo");
        let begin = Instant::now();
        // The client's comes last; what follows are the programs.
        while !namespaces(&prefix).contains(&format!("{prefix}client")) {
            assert!(begin.elapsed() < Duration::from_secs(60), "it does not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100));
        up.kill().expect("kill");
        up.wait().expect("wait");
        assert!(!namespaces(&prefix).is_empty());
        for _ in 0..2 {
            let down = tests::lab::command("down", &name, &[]).output().expect("cargo");
            assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
            assert_eq!(namespaces(&prefix), Vec::<String>::new());
        }
        for folder in ["/etc/netns", "/run/fedisniff-lab"] {
            let left = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let ours = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name)).count();
            assert_eq!(ours, 0, "in {folder}");
        }
    }
}
