//! The lab: real fediverse servers (Fedify) behind a real reverse proxy (Traefik) on a "node" of network namespaces, as
//! a small Kubernetes cluster would run them. For tests, and for people without a cluster. Nothing in it reaches
//! anything outside it. `tests/lab/README.md` says what it is made of.

mod control;
mod net;
mod scenario;
mod services;
mod tools;
mod truth;

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::net::{Names, PODS};
use self::services::{Folders, SERVERS};
use self::tools::Tools;
pub(crate) use self::tools::install;
use self::truth::Logs;
use crate::netns;
use crate::shell::{give_back, make_folder, scratch, tail};

/// What to do with the lab.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Build it and leave it running
    Up(Up),
    /// Play the scenario, in the lab that is up or in a new one, and write what the servers logged
    Run(Run),
    /// End everything that runs in it and take it away; also what is left of one that was killed
    Down(Which),
    /// Say whether it is up, and what runs
    Status(Which),
}

#[derive(clap::Args)]
struct Which {
    /// The lab's name, before `-` in the names of its namespaces; labs of different names do not meet
    #[arg(long, default_value = "lab")]
    name: String,
}

#[derive(clap::Args)]
struct Up {
    #[command(flatten)]
    which: Which,
    /// How the proxy speaks to the servers (http1 if the lab is not up yet)
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// The proxy speaks to the servers over IPv6
    #[arg(long)]
    ipv6: bool,
}

#[derive(clap::Args)]
struct Run {
    #[command(flatten)]
    up: Up,
    /// How often to play
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The folder for the truth; without it, `truth` in the lab's own folder
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The protocol between proxy and servers.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Backend {
    /// HTTP/1.1, port 3000
    Http1,
    /// HTTP/2 in the clear, by prior knowledge, port 3002
    H2c,
}

/// What is known of a lab that is up; the file is written when it is complete.
#[derive(Serialize, Deserialize)]
struct State {
    backend: Backend,
    ipv6: bool,
    /// Where its logs are: in the repository that it was made from.
    logs: PathBuf,
    /// The processes of its programs.
    pids: Vec<u32>,
}

/// Where labs have their sockets.
const RUN: &str = "/run/fedisniff-lab";

/// One lab, whether it is up or not, and the right to change it.
struct Lab {
    names: Names,
    folders: Folders,
    _lock: UnixListener,
}

/// Does it.
pub(crate) fn run(options: &Options) -> Result<()> {
    // A bad name is told before anything is asked of sudo.
    let name = match &options.action {
        Action::Up(up) => &up.which.name,
        Action::Run(run) => &run.up.which.name,
        Action::Down(which) | Action::Status(which) => &which.name,
    };
    Names::new(name)?;
    if !nix::unistd::geteuid().is_root() {
        return crate::shell::again_as_root("the lab makes network namespaces, which takes root");
    }
    let lab = Lab::new(name)?;
    let result = match &options.action {
        Action::Up(up) => lab.up(up).map(|()| lab.describe(true)),
        Action::Run(run) => lab.play(run),
        Action::Down(_) => lab.down(),
        Action::Status(_) => lab.status(),
    };
    let out = match &options.action {
        Action::Run(run) => run.out.as_deref(),
        _ => None,
    };
    let given = [Some(lab.folders.logs.as_path()), out].into_iter().flatten().try_for_each(give_back);
    result.and(given)
}

impl Lab {
    fn new(name: &str) -> Result<Self> {
        let names = Names::new(name)?;
        // A name in the kernel as the lock: unlike a file, it is gone with the process that has it.
        let address = SocketAddr::from_abstract_name(format!("fedisniff-lab/{name}"))?;
        let Ok(lock) = UnixListener::bind_addr(&address) else {
            bail!("another command is at work on the lab `{name}`: wait for it, or choose another --name");
        };
        let folders = Folders { logs: scratch("lab")?.join(name), run: PathBuf::from(RUN).join(name) };
        Ok(Self { names, folders, _lock: lock })
    }

    /// The lab that is up and complete.
    fn state(&self) -> Option<State> {
        let text = std::fs::read(self.folders.run.join("lab.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Builds it, unless it is there.
    fn up(&self, up: &Up) -> Result<()> {
        if let Some(state) = self.state().filter(|state| self.lives(state)) {
            let as_asked = up.backend.is_none_or(|backend| backend == state.backend)
                && (!up.ipv6 || state.ipv6)
                && state.logs == self.folders.logs;
            if as_asked {
                return Ok(());
            }
            bail!(
                "the lab `{0}` is up, but made otherwise or from another folder (its logs are in {1}): \
                 `cargo xtask lab down --name {0}` first, or choose another --name",
                self.names.lab,
                state.logs.display()
            );
        }
        if up.ipv6 && !net::has_ipv6() {
            bail!("this machine's kernel has no IPv6");
        }
        let tools = Tools::find()?;
        let backend = up.backend.unwrap_or(Backend::Http1);
        self.remove()?;
        let begin = Instant::now();
        let Folders { logs, run } = &self.folders;
        if logs.exists() {
            std::fs::remove_dir_all(logs).with_context(|| format!("clear {}", logs.display()))?;
        }
        for folder in [logs, run] {
            make_folder(folder)?;
        }
        let made = net::build(&self.names).context("build the network").and_then(|()| {
            services::start(&self.names, &self.folders, &tools, backend, up.ipv6).context("start the lab")
        });
        let pids = match made {
            Ok(pids) => pids,
            Err(error) => {
                self.remove().context("clear away a lab that did not start")?;
                return Err(error);
            }
        };
        let about = json!({"name": self.names.lab, "node": self.names.namespace("node"), "pods": self.names.places()});
        std::fs::write(logs.join("lab.json"), format!("{about:#}\n"))?;
        let state = State { backend, ipv6: up.ipv6, logs: logs.clone(), pids };
        std::fs::write(run.join("lab.json"), serde_json::to_vec(&state)?)?;
        println!("lab: up after {:.1} s", begin.elapsed().as_secs_f64());
        Ok(())
    }

    /// Whether all that belongs to a complete lab is still there: every process, and where they write.
    fn lives(&self, state: &State) -> bool {
        let Ok(running) = self.names.running() else { return false };
        let runs = |pid: &u32| running.iter().any(|one| i64::from(*one) == i64::from(*pid));
        state.pids.iter().all(runs)
            && state.logs.is_dir()
            && self.names.there().is_ok_and(|there| there.len() == self.names.namespaces().len())
    }

    fn describe(&self, how: bool) {
        let name = &self.names.lab;
        let node = self.names.namespace("node");
        println!("lab `{name}`: a node and its pods, each a network namespace; no way out");
        println!(
            "  {node:<14} 10.42.0.1   the node: bridge cni0, DNS, one veth per pod, uplink eth0 to nowhere"
        );
        for pod in PODS {
            let what = match SERVERS.iter().find(|server| server.pod == pod.name) {
                Some(s) => format!("Fedify as `{}`: @{}@{}", s.software, s.user, s.host()),
                None if pod.name == "ingress" => "Traefik: HTTPS in, in the clear to the servers".to_owned(),
                None => "a client".to_owned(),
            };
            let (namespace, veth) = (self.names.namespace(pod.name), self.names.veth(pod.name));
            println!("  {namespace:<14} {:<11} {veth}  {what}", pod.address());
        }
        println!("  logs: {}", self.folders.logs.display());
        if how {
            let option = if name == "lab" { String::new() } else { format!(" --name {name}") };
            println!("to let the servers federate:   cargo xtask lab run{option}");
            println!("to watch meanwhile:            ip netns exec {node} fedisniff watch --serve");
            println!("to capture meanwhile:          ip netns exec {node} tcpdump -i any -w lab.pcap");
            println!(
                "to look in from a pod:         ip netns exec {} curl --cacert {} -H 'Accept: application/activity+json' {}",
                self.names.namespace("client"),
                self.folders.ca().display(),
                SERVERS[0].actor()
            );
            println!("to take it away:               cargo xtask lab down{option}");
        }
    }

    fn play(&self, run: &Run) -> Result<()> {
        self.up(&run.up)?;
        self.describe(false);
        let logs = Logs::mark_at_rest(&self.folders).context("before the play")?;
        let mut steps = Vec::new();
        let mut played = Ok(());
        let begin = Instant::now();
        for number in 1..=run.runs {
            println!("play {number} of {}:", run.runs);
            played = scenario::play(&self.folders, number, &mut steps);
            if played.is_err() {
                break;
            }
        }
        let out = run.out.clone().unwrap_or_else(|| self.folders.logs.join("truth"));
        if let Err(error) = played {
            logs.write(&out, &self.names, &steps)?;
            for name in ["traefik", "fed1", "fed2", "client"] {
                println!("-- {name}:\n{}", tail(&self.folders.logs.join(format!("{name}.log"))));
            }
            return Err(error.context("the play failed at a step"));
        }
        let exchanges = logs.settle(&self.folders)?;
        logs.write(&out, &self.names, &steps)?;
        println!(
            "{} steps done, {exchanges} exchanges, {:.1} s; what the servers logged: {}",
            steps.len(),
            begin.elapsed().as_secs_f64(),
            out.display()
        );
        Ok(())
    }

    fn down(&self) -> Result<()> {
        let there = !self.names.there()?.is_empty();
        self.remove()?;
        let name = &self.names.lab;
        if there {
            println!("lab `{name}`: down; its logs stay in {}", self.folders.logs.display());
        } else {
            println!("lab `{name}`: is not up");
        }
        Ok(())
    }

    /// Takes away what there is.
    fn remove(&self) -> Result<()> {
        net::remove(&self.names)?;
        if self.folders.run.exists() {
            std::fs::remove_dir_all(&self.folders.run).context("remove the lab's sockets")?;
        }
        // Only when no other lab has anything in it.
        let _ = std::fs::remove_dir(RUN);
        Ok(())
    }

    fn status(&self) -> Result<()> {
        let name = &self.names.lab;
        let there = self.names.there()?;
        if there.is_empty() {
            println!("lab `{name}`: is not up");
            return Ok(());
        }
        if self.state().is_some_and(|state| self.lives(&state)) {
            self.describe(true);
        } else {
            println!("lab `{name}`: parts of it are there; `up` makes it anew, `down` takes it away");
        }
        for namespace in there {
            println!("  {namespace}: {} processes", netns::pids(&namespace)?.len());
        }
        Ok(())
    }
}
