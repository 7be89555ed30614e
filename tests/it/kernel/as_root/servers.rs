//! Real servers in the lab, live: what is told while they federate equals what they logged, each exchange once, and
//! nothing is lost. `FEDISNIFF_LAB_RUNS=20` plays it so often.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::lab::Lab;
use tests::truth::Logged;

use crate::captures::{Key, count, difference, key_of_logged};
use crate::kernel::watch::{PATIENCE, Watch};

/// What identifies an exchange for a log.
fn key(exchange: &Value) -> Key {
    let text = |pointer: &str| exchange.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned();
    let status = exchange.pointer("/response/status").and_then(Value::as_u64);
    (
        text("/request/method"),
        text("/request/target"),
        text("/request/host"),
        status.and_then(|status| u16::try_from(status).ok()),
    )
}

/// Whether an exchange is the one that a server logged, to the last octet of its bodies.
fn has_bodies_of(exchange: &Value, logged: &Logged) -> bool {
    let body = |side: &str| {
        let body = &exchange[side]["body"];
        Some((body["size"].as_u64()?, body["sha256"].as_str()?.to_owned()))
    };
    key(exchange) == key_of_logged(logged)
        && body("request") == logged.sent
        && (logged.decoded.is_none() || body("response") == logged.decoded)
}

/// One play of the scenario, watched.
fn play(lab: &Lab) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let watch = Watch::from_command(lab.in_node(crate::command::program()), &[]);
    let logged = lab.run(1, folder.path()).expect("the scenario");
    let of = |proxy: bool| logged.iter().filter(move |l| (l.log == "proxy") == proxy);
    let by_proxy = count(of(true).map(key_of_logged));
    let wanted = usize::try_from(by_proxy.values().sum::<i64>()).expect("a number");
    assert!(wanted >= 20, "{by_proxy:?}");
    // The last ones may still be under way to it.
    let begin = Instant::now();
    while watch.told() < wanted && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut seen = watch.finish();
    assert_eq!(difference(&count(seen.exchanges.iter().map(key)), &by_proxy), Vec::<String>::new());
    seen.lost_nothing();
    for one in of(false) {
        let found = seen.exchanges.iter().position(|exchange| has_bodies_of(exchange, one));
        seen.exchanges.swap_remove(found.unwrap_or_else(|| panic!("no exchange has these bodies: {one:?}")));
    }
    wanted
}

/// How often to play.
fn runs() -> u32 {
    std::env::var("FEDISNIFF_LAB_RUNS")
        .map_or(1, |runs| runs.parse().expect("FEDISNIFF_LAB_RUNS is a number"))
}

fn lab(what: &str, options: &[&str]) -> Lab {
    Lab::up(&format!("live{what}{}", std::process::id()), options).expect("the lab")
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn every_exchange_of_the_servers_logs_is_told_once_live_over_http1() {
    let lab = lab("", &[]);
    for run in 1..=runs() {
        // Those after the first meet connections that the proxy has kept.
        let exchanges = play(&lab);
        println!("HTTP/1, run {run}: {exchanges} exchanges, each told once, nothing lost");
    }
}

#[test]
#[ignore = "takes root: `cargo xtask test --only kernel`"]
fn every_exchange_of_the_servers_logs_is_told_once_live_over_h2c_and_ipv6() {
    for run in 1..=runs() {
        // A new one each time: of an HTTP/2 connection that is older than the watching, headers may name what was said
        // before (RFC 7541 section 2.3.2).
        let lab = lab("h", &["--backend", "h2c", "--ipv6"]);
        let exchanges = play(&lab);
        println!("h2c, run {run}: {exchanges} exchanges, each told once, nothing lost");
    }
}
