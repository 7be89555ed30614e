//! Network namespaces, by iproute2: what the benchmark's traffic and the lab are made of. Nothing here connects a
//! namespace to the machine's own interfaces.

use std::process::Command;

use anyhow::Result;

use crate::setup::as_root;
use crate::shell::{output, run as run_command};

/// Runs `ip`.
pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    run_command(as_root("ip")?.args(arguments))
}

/// A command inside a namespace.
pub(crate) fn inside(namespace: &str, program: &str) -> Result<Command> {
    let mut command = as_root("ip")?;
    command.args(["netns", "exec", namespace, program]);
    Ok(command)
}

/// Makes a namespace with its loopback up.
pub(crate) fn add(namespace: &str) -> Result<()> {
    ip(&["netns", "add", namespace])?;
    ip(&["-n", namespace, "link", "set", "lo", "up"])
}

/// A pair of veths: each end is (namespace, name).
pub(crate) fn veth((here, name): (&str, &str), (there, peer): (&str, &str)) -> Result<()> {
    ip(&["link", "add", name, "netns", here, "type", "veth", "peer", "name", peer, "netns", there])
}

/// Gives an interface its addresses, usable at once, and sets it up.
pub(crate) fn address(namespace: &str, interface: &str, addresses: &[&str]) -> Result<()> {
    for address in addresses {
        let family = if address.contains(':') { "-6" } else { "-4" };
        let mut arguments = vec!["-n", namespace, family, "address", "add", address, "dev", interface];
        if family == "-6" {
            // Nobody else is there: no need to wait for duplicate address detection.
            arguments.push("nodad");
        }
        ip(&arguments)?;
    }
    ip(&["-n", namespace, "link", "set", interface, "up"])
}

/// The names of all namespaces.
pub(crate) fn list() -> Result<Vec<String>> {
    let text = output(as_root("ip")?.args(["netns", "list"]))?;
    // `NAME` or `NAME (id: 3)`.
    Ok(text.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect())
}

/// The processes in a namespace.
pub(crate) fn pids(namespace: &str) -> Result<Vec<i32>> {
    let text = output(as_root("ip")?.args(["netns", "pids", namespace]))?;
    Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
}
