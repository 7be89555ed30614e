//! `watch --enforce`: holds this node's pods to the policies of `--cluster`, and tells what is denied.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use sniffer::audit::KernelEvent;
use sniffer::audit::session::Session;
use sniffer::cluster::{Change, Read, Watcher};
use sniffer::enforce::{self, Enforcer, Mode, OPEN, Options, Reason, Told};
use sniffer::frame::Timestamp;
use sniffer::policy::compiled::ip;
use sniffer::verdict::State;

use super::Usage;
/// Whether and how to deny.
#[derive(clap::Args)]
pub(super) struct Guarding {
    /// Where pods, services and policies come from: a file or folder of Kubernetes objects in YAML, re-read when it
    /// changes.
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// What is done with what the policies do not allow: nothing (off), say so (audit), or deny it. Denial outlives
    /// fedisniff: `fedisniff uninstall` ends it, or --enforce off.
    #[arg(long, value_name = "MODE", default_value = "off")]
    enforce: How,
    /// Nobody but known pods of the cluster may use the pods' bridge: what is not known yet is denied, so that a pod is
    /// held to its policies from its first packet.
    #[arg(long)]
    isolated: bool,
    /// Let pass what the policies do not allow where the specification leaves it open; may repeat, or hold several with
    /// commas.
    #[arg(long, value_name = "CASE", value_delimiter = ',', value_parser = open, long_help = open_help())]
    allow_open: Vec<Reason>,
    /// The bridges whose ports are pods.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_values_t = Options::default().bridges)]
    bridges: Vec<String>,
    /// Where to pin what outlives fedisniff: a folder on a BPF file system.
    #[arg(long, value_name = "FOLDER", default_value = enforce::PINS)]
    pins: PathBuf,
    /// Where the CNI plugins remember what they have made, which names the pod of a veth.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/cni/results")]
    cni_cache: PathBuf,
    /// Where the network namespaces of pods are, in which a veth's other end is asked where the CNI plugins say nothing.
    #[arg(long, value_name = "FOLDER", default_value = "/run/netns")]
    namespaces: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// Nothing is decided.
    Off,
    /// What would be denied is told, and passes.
    Audit,
    /// What is not allowed is denied.
    Deny,
}

fn open(word: &str) -> Result<Reason, String> {
    enforce::open(word).ok_or_else(|| {
        let words: Vec<&str> = OPEN.iter().map(|(reason, _)| reason.word()).collect();
        format!("it is one of {}", words.join(", "))
    })
}

fn open_help() -> String {
    let cases: Vec<String> = OPEN.iter().map(|(reason, what)| format!("{}: {what}", reason.word())).collect();
    format!(
        "Let pass what the policies do not allow where the specification leaves it open, or has no word for it; may \
         repeat, or hold several with commas. Of a pod that a policy isolates each is denied otherwise:\n\n{}",
        cases.join("\n")
    )
}

/// Denial while `watch` runs; nothing when it was not asked for.
pub(super) struct Guard {
    enforcer: Option<Arc<Enforcer>>,
    reader: Option<JoinHandle<()>>,
    mode: Mode,
    pins: PathBuf,
    ended: Arc<AtomicBool>,
    /// The states of the cluster as they come, for the audit.
    states: Option<Receiver<State>>,
    idle: Option<&'static str>,
    isolated: bool,
    /// Denial was found pinned, isolating as it is to be now: since when it hung at the bridge, and its generation.
    adopted: Option<(Timestamp, u32)>,
}

/// How often the files are waited for before the end is looked for.
const PATIENCE: Duration = Duration::from_millis(200);
/// So many events are said as lines at once.
const LINES: usize = 20;

impl Guard {
    /// Begins to deny, with the policies that there are now; follows them.
    pub(super) fn start(arguments: &Guarding) -> Result<Self> {
        let mode = match arguments.enforce {
            How::Off => Mode::Off,
            How::Audit => Mode::Audit,
            How::Deny => Mode::Deny,
        };
        let mut guard = Self {
            enforcer: None,
            reader: None,
            mode,
            pins: arguments.pins.clone(),
            ended: Arc::default(),
            states: None,
            idle: None,
            isolated: arguments.isolated,
            adopted: None,
        };
        guard.idle = Some("Nothing is enforced: that takes --cluster FILE, which names pods and policies.");
        let Some(cluster) = &arguments.cluster else {
            if mode != Mode::Off {
                return Err(
                    Usage("--enforce takes --cluster: it names the pods and their policies".into()).into()
                );
            }
            if enforce::is_pinned(&arguments.pins) {
                guard.idle = None;
                eprintln!(
                    "Denial of an earlier fedisniff is in place and stays so: --cluster FILE --enforce off switches it \
                     off, `fedisniff uninstall` removes it."
                );
            }
            return Ok(guard);
        };
        guard.idle = None;
        let (watcher, read) = Watcher::new(cluster)?;
        complain(&read);
        let state = State::new(read.cluster).context("compile the policies")?;
        let (states, receiver) = channel();
        guard.states = Some(receiver);
        if mode == Mode::Off && !enforce::is_pinned(&arguments.pins) {
            eprintln!(
                "Nothing is enforced: --enforce audit says what the policies would deny, --enforce deny denies it. What \
                 is seen of attempts that they do not allow is told."
            );
            let _ = states.send(state);
            return guard.following(watcher, None, states);
        }
        let pinned = enforce::look(&arguments.pins).ok().flatten();
        guard.adopted = pinned
            .filter(|pinned| mode == Mode::Deny && pinned.mode == Mode::Deny as u32)
            .filter(|pinned| arguments.isolated && pinned.isolated)
            .and_then(|pinned| Some((pinned.since?, pinned.generation)));
        let enforcer = Enforcer::start(Options {
            mode,
            pins: arguments.pins.clone(),
            bridges: arguments.bridges.clone(),
            isolated: arguments.isolated,
            allow: arguments.allow_open.clone(),
            namespaces: arguments.namespaces.clone(),
            cni: arguments.cni_cache.clone(),
        })?;
        if mode == Mode::Off {
            enforcer.switch_off()?;
            drop(enforcer);
            enforce::remove(&arguments.pins)
                .with_context(|| format!("remove {}", arguments.pins.display()))?;
            eprintln!("Denial of an earlier fedisniff is removed: nothing is enforced.");
            let _ = states.send(state);
            return guard.following(watcher, None, states);
        }
        let enforcer = Arc::new(enforcer);
        update(&enforcer, &state)?;
        let _ = states.send(state);
        let standing = enforcer.standing();
        let what = if mode == Mode::Deny { "denied" } else { "told (audit), and passes" };
        let pods = standing.interfaces.iter().filter(|i| !i.bridge).count();
        eprintln!(
            "What policies do not allow is {what}: {pods} pods of this node, {} addresses.",
            standing.sizes[0]
        );
        for (interface, why) in &standing.failed {
            eprintln!("warning: {interface} is not guarded: {why}");
        }
        guard.following(watcher, Some(enforcer), states)
    }

    /// Follows the cluster's objects from now on.
    fn following(
        mut self,
        watcher: Watcher,
        enforcer: Option<Arc<Enforcer>>,
        states: Sender<State>,
    ) -> Result<Self> {
        let (shared, ended) = (enforcer.clone(), Arc::clone(&self.ended));
        let follow = move || follow(watcher, shared.as_deref(), &ended, &states);
        let reader =
            std::thread::Builder::new().name("cluster".into()).spawn(follow).context("start a thread")?;
        self.enforcer = enforcer;
        self.reader = Some(reader);
        Ok(self)
    }

    /// The cluster's newest state, if it is another one than at the last call.
    pub(super) fn state(&self) -> Option<State> {
        self.states.as_ref()?.try_iter().last()
    }

    /// How denial stands; `None` where nothing is enforced.
    pub(super) fn standing(&self) -> Option<enforce::Standing> {
        self.enforcer.as_ref().map(|enforcer| enforcer.standing())
    }

    /// What a session says of denial.
    pub(super) fn describe(&self, session: &mut Session) {
        if self.enforcer.is_some() {
            session.enforcement = super::auditing::enforcement(self.mode);
            session.isolated_bridge = self.isolated;
            session.deny_program = Some(enforce::object_sha256().into());
            (session.adopted_since, session.adopted_generation) = self.adopted.unzip();
        }
    }

    /// What is to be said of it once it is said what is watched.
    pub(super) fn idle(&self) -> Option<&'static str> {
        self.idle
    }

    /// What was told since the last call, as lines; each is given to `audit`.
    pub(super) fn told(&self, mut audit: impl FnMut(&Told)) -> Vec<String> {
        let Some(enforcer) = &self.enforcer else { return Vec::new() };
        let (events, dropped) = enforcer.told();
        events.iter().filter(|event| event.reason.denies()).for_each(&mut audit);
        let denied: Vec<_> = events.iter().filter(|event| event.reason.denies()).collect();
        let mut lines: Vec<String> = denied.iter().take(LINES).map(ToString::to_string).collect();
        let more = denied.len().saturating_sub(LINES) as u64 + dropped;
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines
    }

    /// Says how it went on and what stays.
    pub(super) fn end(mut self) -> Result<()> {
        self.join();
        let Some(enforcer) = self.enforcer.take() else { return Ok(()) };
        let standing = enforcer.standing();
        let (mut seen, mut denied) = (0, 0);
        for interface in standing.interfaces.iter().filter(|i| !i.bridge) {
            seen += interface.counted.seen;
            denied += interface.counted.denied();
        }
        drop(enforcer);
        if self.mode == Mode::Audit {
            enforce::remove(&self.pins).with_context(|| format!("remove {}", self.pins.display()))?;
            eprintln!("of {seen} packets at the pods' veths {denied} would have been denied.");
        } else {
            eprintln!(
                "of {seen} packets at the pods' veths {denied} were denied there. Denial stays in place: the next watch \
                 adopts it, `fedisniff uninstall` ends it."
            );
        }
        Ok(())
    }

    fn join(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            tracing::error!("the thread that follows the cluster's objects panicked");
        }
    }
}

/// What the API server would refuse counts for nothing; that is said.
fn complain(read: &Read) {
    for problem in read.problems.iter().take(LINES) {
        eprintln!("warning: left out: {problem}");
    }
    for note in read.cluster.notes.iter().take(LINES) {
        eprintln!("note: {note}");
    }
}

fn update(enforcer: &Enforcer, state: &State) -> Result<()> {
    let updated = enforcer.update(Arc::new(state.compiled.clone()))?;
    tracing::info!(
        "policies, generation {}: {} entries written in {:?}",
        updated.generation,
        updated.written,
        updated.took
    );
    if updated.cut > 0 {
        eprintln!(
            "warning: {} lists of ports are longer than the kernel takes; what does not fit is denied",
            updated.cut
        );
    }
    Ok(())
}

fn follow(mut watcher: Watcher, enforcer: Option<&Enforcer>, ended: &AtomicBool, states: &Sender<State>) {
    while !ended.load(Ordering::Relaxed) {
        match watcher.wait(PATIENCE) {
            None => {}
            Some(Change::New(read)) => {
                complain(&read);
                let updated = State::new(read.cluster).map_err(anyhow::Error::from).and_then(|state| {
                    // The kernel first: it decides.
                    enforcer.map_or(Ok(()), |enforcer| update(enforcer, &state))?;
                    Ok(state)
                });
                match updated {
                    Ok(state) => drop(states.send(state)),
                    Err(error) => {
                        eprintln!("error: the policies that count are still those before: {error:#}");
                    }
                }
            }
            Some(Change::Kept(error)) => {
                eprintln!("error: the policies that count are still those before: {error}");
            }
        }
    }
}

/// An event of the kernel, as the audit takes it.
pub(super) fn seen(event: &Told) -> KernelEvent<'_> {
    KernelEvent {
        time: event.time,
        pod: event.pod.as_deref().or(event.source_pod.as_deref()),
        source: (ip(&event.source.0), event.source.1),
        destination: (ip(&event.destination.0), event.destination.1),
        protocol: event.protocol,
        interface: event.interface.as_deref(),
        reason: event.reason.word(),
        policies: &event.policies,
        dropped: event.dropped,
        untold: event.untold,
    }
}
