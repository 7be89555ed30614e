//! A cluster goes with whoever holds it, however that one ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tests::cluster::command;

/// The namespaces of a cluster.
fn namespaces(name: &str) -> Vec<String> {
    let out = Command::new("ip").args(["netns", "list"]).output().expect("ip");
    let text = String::from_utf8(out.stdout).expect("names");
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|one| one.starts_with(&format!("{name}."))).map(str::to_owned).collect()
}

fn hold(name: &str) -> Child {
    command("hold", name).spawn().expect("cargo")
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn a_cluster_goes_when_its_holder_s_input_ends() {
    let name = format!("ends{}", std::process::id());
    let mut holder = hold(&name);
    let lines = BufReader::new(holder.stdout.take().expect("its output")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "up"), "it comes up");
    assert_eq!(namespaces(&name).len(), 3);
    drop(holder.stdin.take());
    assert!(holder.wait().expect("its end").success());
    assert_eq!(namespaces(&name), Vec::<String>::new());
}

#[test]
#[ignore = "takes root: `cargo xtask test --only cluster`"]
fn what_is_left_of_a_holder_that_was_killed_goes_with_the_next_command() {
    let name = format!("dead{}", std::process::id());
    let mut holder = hold(&name);
    let begin = Instant::now();
    // The last that is made before the programs start.
    while namespaces(&name).len() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not come up");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(500));
    holder.kill().expect("kill");
    holder.wait().expect("its end");
    assert!(!namespaces(&name).is_empty());
    // Of any cluster.
    let down = command("down", &format!("other{}", std::process::id())).output().expect("cargo");
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert_eq!(namespaces(&name), Vec::<String>::new());
    for folder in ["/etc/netns", "/run/fedisniff-cluster"] {
        let left = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let ours = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name)).count();
        assert_eq!(ours, 0, "in {folder}");
    }
}
