//! The cluster: the real API server, kube-proxy and kube-router over two nodes of network namespaces, without any way
//! out. For tests of what kube-router lets pass and fedisniff must not, and for people without a cluster.
//! `tests/cluster/README.md` says what it is made of; `tests/src/cluster.rs` puts pods into it.

mod net;
mod programs;
mod tools;

use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use self::net::{NODES, Names, OUTSIDE};
use self::programs::{Folders, Program};
use self::tools::Tools;
pub(crate) use self::tools::install;
use crate::netns;
use crate::shell::{again_as_root, give_back, make_folder, scratch};

/// What to do with the cluster.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Build it and leave it running
    Up(Which),
    /// Build it, say `up`, and take it away when standard input ends: so it outlives nobody
    Hold(Which),
    /// End everything that runs in it and take it away; also what is left of one that was killed
    Down(Which),
    /// Say whether it is up, and what runs
    Status(Which),
}

#[derive(clap::Args)]
struct Which {
    /// The cluster's name, before `.` in the names of its namespaces; clusters of different names do not meet
    #[arg(long, default_value = "cluster")]
    name: String,
}

/// Where clusters have their sockets.
const RUN: &str = "/run/fedisniff-cluster";

/// How the names of their folders of logs begin.
const LOGS: &str = "cluster-";

/// One cluster, whether it is up or not, and the right to change it.
struct Cluster {
    names: Names,
    folders: Folders,
    _lock: UnixListener,
}

/// Does it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (Action::Up(which) | Action::Hold(which) | Action::Down(which) | Action::Status(which)) =
        &options.action;
    Names::new(&which.name)?;
    if !nix::unistd::geteuid().is_root() {
        return again_as_root("the cluster makes network namespaces, which takes root");
    }
    let cluster = Cluster::new(&which.name)?;
    match &options.action {
        Action::Up(_) => {
            sweep()?;
            let result = cluster.up();
            result.and(give_back(&cluster.folders.logs))
        }
        Action::Hold(_) => {
            sweep()?;
            cluster.hold()
        }
        Action::Down(_) => {
            sweep()?;
            cluster.down()
        }
        Action::Status(_) => cluster.status(),
    }
}

/// The name in the kernel that is the lock of a cluster: unlike a file, it is gone with the process that has it.
fn lock(name: &str) -> Result<Option<UnixListener>> {
    let address = SocketAddr::from_abstract_name(format!("fedisniff-cluster/{name}"))?;
    Ok(UnixListener::bind_addr(&address).ok())
}

/// The file that says that a cluster, or its logs, are somebody's who holds it.
const HELD: &str = "held";

/// Takes clusters away that were held, and whose holder is no more; and the logs of those that went before.
fn sweep() -> Result<()> {
    for entry in std::fs::read_dir(RUN).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.path().join(HELD).exists() || Names::new(&name).is_err() {
            continue;
        }
        if let Some(_lock) = lock(&name)? {
            println!("cluster `{name}`: its holder is gone; it goes, too");
            remove(&Names::new(&name)?, &entry.path())?;
        }
    }
    for entry in std::fs::read_dir(scratch("lab")?)?.flatten() {
        let folder = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = folder.strip_prefix(LOGS) else { continue };
        if entry.path().join(HELD).exists() && !Path::new(RUN).join(name).exists() {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Takes away what there is.
fn remove(names: &Names, run: &Path) -> Result<()> {
    let there = names.there()?;
    let mut told = there.clone();
    told.extend(NODES.iter().map(|node| names.namespace(node.name)));
    // Nothing that they would write is of use to anybody.
    netns::remove(&there, &told, Duration::ZERO)?;
    let pins = run.join("bpf");
    if pins.exists() {
        // It is mounted if all went well; what is pinned in it goes with the mount.
        let _ = Command::new("umount").arg("--quiet").arg(&pins).status();
    }
    if run.exists() {
        std::fs::remove_dir_all(run).context("remove the cluster's sockets")?;
    }
    // Only when no other cluster has anything in it.
    let _ = std::fs::remove_dir(RUN);
    Ok(())
}

impl Cluster {
    fn new(name: &str) -> Result<Self> {
        let names = Names::new(name)?;
        let Some(lock) = lock(name)? else {
            bail!(
                "another command is at work on the cluster `{name}`: wait for it, or choose another --name"
            );
        };
        let folders = Folders {
            logs: scratch("lab")?.join(format!("{LOGS}{name}")),
            run: PathBuf::from(RUN).join(name),
        };
        Ok(Self { names, folders, _lock: lock })
    }

    fn about(&self) -> PathBuf {
        self.folders.run.join("cluster.json")
    }

    /// Builds it, unless it is there.
    fn up(&self) -> Result<()> {
        if self.lives()? {
            println!("cluster `{}`: is up", self.names.cluster);
            return Ok(());
        }
        self.make(false)?;
        self.describe()
    }

    fn hold(&self) -> Result<()> {
        self.make(true)?;
        println!("up");
        // Whatever is written there is nothing to us.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        // Nobody may be left to say it to.
        remove(&self.names, &self.folders.run)
    }

    fn make(&self, held: bool) -> Result<()> {
        let tools = Tools::find()?;
        remove(&self.names, &self.folders.run)?;
        let begin = Instant::now();
        let Folders { logs, run } = &self.folders;
        if logs.exists() {
            std::fs::remove_dir_all(logs).with_context(|| format!("clear {}", logs.display()))?;
        }
        for folder in [logs, run] {
            make_folder(folder)?;
        }
        if held {
            std::fs::write(run.join(HELD), "")?;
            std::fs::write(logs.join(HELD), "")?;
        }
        let programs = programs::list(&self.folders, &tools);
        let made = net::build(&self.names).context("build the network").and_then(|()| {
            programs::start(&self.names, &self.folders, &tools, &programs).context("start the cluster")
        });
        if let Err(error) = made {
            remove(&self.names, run).context("clear away a cluster that did not start")?;
            return Err(error);
        }
        let nodes: Vec<_> = NODES.iter().map(|node| self.names.namespace(node.name)).collect();
        let about = json!({
            "name": self.names.cluster,
            "nodes": nodes,
            "outside": self.names.namespace("outside"),
            "addresses_outside": OUTSIDE,
            "api": self.folders.socket(),
            "kubeconfig": self.folders.kubeconfig(),
            "logs": logs,
            "kubectl": tools.kubectl,
            "coredns": tools.coredns,
            "programs": programs,
        });
        std::fs::write(self.about(), format!("{about:#}\n"))?;
        println!("cluster: up after {:.1} s", begin.elapsed().as_secs_f64());
        Ok(())
    }

    /// Whether it is complete: every namespace, and every program.
    fn lives(&self) -> Result<bool> {
        let Ok(text) = std::fs::read(self.about()) else { return Ok(false) };
        let about: serde_json::Value = serde_json::from_slice(&text)?;
        let programs: Vec<Program> = serde_json::from_value(about["programs"].clone())?;
        let node = self.names.namespace(NODES[0].name);
        if !self.names.there()?.contains(&node) {
            return Ok(false);
        }
        let commands: Vec<Vec<u8>> = netns::pids(&node)?
            .iter()
            .filter_map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok())
            .collect();
        Ok(programs.iter().all(|program| commands.iter().any(|line| program.is(line))))
    }

    fn describe(&self) -> Result<()> {
        let name = &self.names.cluster;
        let node = self.names.namespace(NODES[0].name);
        println!("cluster `{name}`: two nodes, each a network namespace; no way out");
        println!("  {node:<18} 192.0.2.1   etcd, API server, kube-proxy, kube-router; bridge cni0 10.42.0.1");
        println!(
            "  {:<18} 192.0.2.2   only pods; bridge cni0 10.42.1.1",
            self.names.namespace(NODES[1].name)
        );
        println!("  {:<18} {}", self.names.namespace("outside"), OUTSIDE.join(" "));
        println!("  logs: {}", self.folders.logs.display());
        let option = if name == "cluster" { String::new() } else { format!(" --name {name}") };
        println!(
            "to ask the API:       ip netns exec {node} {} --kubeconfig {} get -A all",
            Tools::find()?.kubectl.display(),
            self.folders.kubeconfig().display()
        );
        println!("to see the rules:     ip netns exec {node} iptables-save -t filter");
        println!("to take it away:      cargo xtask cluster down{option}");
        Ok(())
    }

    fn down(&self) -> Result<()> {
        let there = !self.names.there()?.is_empty();
        remove(&self.names, &self.folders.run)?;
        let name = &self.names.cluster;
        if there {
            println!("cluster `{name}`: down; its logs stay in {}", self.folders.logs.display());
        } else {
            println!("cluster `{name}`: is not up");
        }
        Ok(())
    }

    fn status(&self) -> Result<()> {
        let name = &self.names.cluster;
        let there = self.names.there()?;
        if there.is_empty() {
            println!("cluster `{name}`: is not up");
            return Ok(());
        }
        if self.lives()? {
            self.describe()?;
        } else {
            println!("cluster `{name}`: parts of it are there; `up` makes it anew, `down` takes it away");
        }
        for namespace in there {
            println!("  {namespace}: {} processes", netns::pids(&namespace)?.len());
        }
        Ok(())
    }
}
