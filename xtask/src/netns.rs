//! Network namespaces, by iproute2: what the benchmark's traffic and the lab are made of. Nothing here connects a
//! namespace to the machine's own interfaces.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::setup::as_root;
use crate::shell::{make_folder, output, run as run_command};

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

/// The processes in some namespaces.
pub(crate) fn running(namespaces: &[String]) -> Result<Vec<i32>> {
    let mut all = Vec::new();
    for namespace in namespaces {
        all.extend(pids(namespace)?);
    }
    Ok(all)
}

const ETC: &str = "/etc/netns";

/// What `ip netns exec` lays over files of `/etc`: names are told by `nameserver` alone, whatever the machine has.
pub(crate) fn etc(namespace: &str, nameserver: &str) -> Result<()> {
    let folder = PathBuf::from(ETC).join(namespace);
    make_folder(&folder)?;
    for (name, text) in [
        ("resolv.conf", format!("nameserver {nameserver}\n")),
        ("hosts", "127.0.0.1 localhost\n::1 localhost\n".to_owned()),
        ("nsswitch.conf", "hosts: files dns\n".to_owned()),
    ] {
        if Path::new("/etc").join(name).exists() {
            std::fs::write(folder.join(name), text)
                .with_context(|| format!("write {name} of {namespace}"))?;
        }
    }
    Ok(())
}

/// Takes namespaces away that are there, and ends every process in them, with `patience` for one that ends by itself;
/// those told in `etc` may be there no more.
pub(crate) fn remove(there: &[String], told: &[String], patience: Duration) -> Result<()> {
    for (signal, patience) in [(Signal::SIGTERM, patience), (Signal::SIGKILL, Duration::from_secs(10))] {
        let begin = Instant::now();
        let mut ended = Vec::new();
        loop {
            let pids = running(there)?;
            if pids.is_empty() || begin.elapsed() > patience {
                break;
            }
            for pid in pids {
                if !ended.contains(&pid) {
                    // It may be gone by itself.
                    let _ = kill(Pid::from_raw(pid), signal);
                    ended.push(pid);
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    for namespace in there {
        ip(&["netns", "delete", namespace])?;
    }
    for namespace in told {
        let folder = Path::new(ETC).join(namespace);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
    }
    // Only when nothing else is in it.
    let _ = std::fs::remove_dir(ETC);
    Ok(())
}
