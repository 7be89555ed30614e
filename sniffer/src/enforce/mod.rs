//! Denial on this node: programs in the kernel (`sniffer-ebpf/src/enforce.rs`) at the veths of pods and at their bridge hold
//! each pod to its policies. Compiled policies go in; events come out.
//!
//! Everything is pinned under `/sys/fs/bpf`: when this process ends, however it ends, denial goes on as it was, and the
//! next one adopts it. `fedisniff uninstall` removes it.
//!
//! What it takes to be closed from a pod's first packet: on an *isolated* bridge whatever a port sends is denied as long
//! as its veth has no program, or the veth's pod is not known. The bridge's program is attached once and is met by all
//! that leaves the node, also while this process is down. What it does not meet is what one pod sends to another of the
//! same node: there the receiver's program denies what comes from a port that has none. Two pods that are both born while
//! this process is down reach each other until it is back, and nobody else.

// Times in 64-bit nanoseconds and counts of 64 bits do not overflow.
#![allow(clippy::arithmetic_side_effects)]

mod events;
mod follow;
mod identity;
mod kernel;
mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use events::{Queue, Told};
use follow::Follower;
use kernel::{Kernel, Place};
use sniffer_ebpf::deny::{COUNTS, Config, DENIALS, Veth, veth_flag};
pub use sniffer_ebpf::deny::{Hook, Mode, Reason};
use tables::{Manner, Plan, Step, Tables};

use crate::causes::chain;
use crate::frame::Timestamp;
use crate::links::Link;
use crate::policy::compiled::{Address, Compiled};

/// Where a fedisniff pins what is to outlive it.
pub const PINS: &str = "/sys/fs/bpf/fedisniff";

/// What the specification of NetworkPolicy leaves open, or has no word for. Of an isolated pod each is denied, unless it is
/// named; what a policy allows passes in any case.
pub const OPEN: &[(Reason, &str)] = &[
    (Reason::Icmp, "ICMP echo, and ICMP that belongs to no connection (kube-router lets echo pass)"),
    (Reason::OtherProtocol, "IP protocols other than TCP, UDP, SCTP and ICMP, as GRE"),
    (
        Reason::OwnNode,
        "the pod's own node: its addresses, the bridge's, node ports, its services (kube-router lets node ports pass)",
    ),
    (Reason::Hairpin, "a pod to itself through a Service"),
    (Reason::Multicast, "multicast and broadcast"),
    (Reason::LinkLocal, "link-local IPv6 beyond neighbour discovery (kube-router lets it pass)"),
    (Reason::Fragment, "later fragments of a datagram whose first one was not seen"),
    (
        Reason::Unparsed,
        "frames that are neither IP nor ARP: VLAN-tagged, PPPoE, other types (kube-router lets them pass)",
    ),
    (Reason::NotAddressed, "frames that reach a pod and are for another address"),
    (Reason::Spoofed, "source addresses that are not the pod's (kube-router lets them pass)"),
    (Reason::Unknown, "on an isolated bridge: whoever is not known to be a pod of the cluster"),
];

/// The reason that a word of [`OPEN`] means.
pub fn open(word: &str) -> Option<Reason> {
    OPEN.iter().map(|(reason, _)| *reason).find(|reason| reason.word() == word)
}

/// How to deny.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is done with what is denied.
    pub mode: Mode,
    /// Where to pin.
    pub pins: PathBuf,
    /// The bridges whose ports are pods, by name.
    pub bridges: Vec<String>,
    /// Only known pods may use them.
    pub isolated: bool,
    /// What passes although no policy allows it ([`OPEN`]).
    pub allow: Vec<Reason>,
    /// Where the namespaces of pods are named.
    pub namespaces: PathBuf,
    /// The CNI plugins' cache.
    pub cni: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Deny,
            pins: PINS.into(),
            bridges: ["cni0", "cbr0", "kube-bridge"].map(str::to_owned).to_vec(),
            isolated: false,
            allow: Vec::new(),
            namespaces: "/run/netns".into(),
            cni: "/var/lib/cni/results".into(),
        }
    }
}

/// Why there is no denial.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnforceError {
    /// Nothing can be pinned there.
    #[error(
        "{} is not on a BPF file system, so nothing could outlive this process: mount one (mount -t bpf bpf /sys/fs/bpf), \
         or name another place (--pins)", .0.display()
    )]
    NoBpffs(PathBuf),
    /// Another process denies with the same pins.
    #[error("another fedisniff denies already on this node (pins in {}): end it first", .0.display())]
    Busy(PathBuf),
    /// Rights are missing.
    #[error("{0}: not permitted. It takes root, or the capabilities BPF, NET_ADMIN, PERFMON and SYS_ADMIN")]
    NotPermitted(String),
    /// The kernel refused the programs.
    #[error("the kernel does not take the programs that deny: {0}")]
    Refused(String),
    /// A program cannot be attached.
    #[error("cannot attach to {interface}: {why}. Denial takes TCX (Linux 6.6)")]
    Attach {
        /// The interface's name.
        interface: String,
        /// Why not.
        why: String,
    },
    /// The tables in the kernel cannot be read or written.
    #[error("the tables in the kernel: {0}")]
    Map(#[from] aya::maps::MapError),
    /// The interfaces cannot be followed.
    #[error("cannot follow the node's interfaces (rtnetlink): {0}")]
    Links(std::io::Error),
    /// Something that this version embeds or pinned is not as it should be.
    #[error("{0}")]
    Object(String),
}

impl EnforceError {
    fn pins(path: &Path, error: &std::io::Error) -> Self {
        let what = format!("make or read {}", path.display());
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Self::NotPermitted(what),
            _ => Self::Object(format!("{what}: {error}")),
        }
    }

    fn load(error: aya::EbpfError) -> Self {
        let text = chain(&error);
        if permitted(&error) { Self::Refused(text) } else { Self::NotPermitted("load programs".into()) }
    }

    fn attach(interface: &str, error: aya::programs::ProgramError) -> Self {
        if permitted(&error) {
            Self::Attach { interface: interface.into(), why: chain(&error) }
        } else {
            Self::NotPermitted(format!("attach to {interface}"))
        }
    }
}

fn permitted(error: &(dyn std::error::Error + 'static)) -> bool {
    !std::iter::successors(Some(error), |e| e.source()).any(|e| {
        e.downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.raw_os_error() == Some(nix::errno::Errno::EPERM as i32))
    })
}

/// What was counted on one interface.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Counted {
    /// Packets that reached a hook.
    pub seen: u64,
    /// Of these, dropped.
    pub dropped: u64,
    /// Events that were held back because the interface had told enough.
    pub untold: u64,
    /// Events for which the ring buffer had no room.
    pub lost: u64,
    /// Packets by reason, where there were any.
    pub reasons: BTreeMap<&'static str, u64>,
}

impl Counted {
    fn from_words(words: &[u64; COUNTS]) -> Self {
        let [seen, dropped, untold, lost, _, _, reasons @ ..] = words;
        let named = |reason: &Reason| {
            let count = reasons.get(usize::from(*reason as u8)).copied().filter(|count| *count > 0)?;
            Some((reason.word(), count))
        };
        Self {
            seen: *seen,
            dropped: *dropped,
            untold: *untold,
            lost: *lost,
            reasons: Reason::ALL.iter().filter_map(named).collect(),
        }
    }

    /// Packets that were denied, or in [`Mode::Audit`] would have been.
    pub fn denied(&self) -> u64 {
        let denies =
            |word: &&str| Reason::ALL.iter().any(|reason| reason.word() == *word && *reason as u8 >= DENIALS);
        self.reasons.iter().filter(|(word, _)| denies(word)).map(|(_, count)| count).sum()
    }
}

/// An interface with a program that denies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guarded {
    /// The kernel's index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// It is the bridge.
    pub bridge: bool,
    /// The pod behind it, where it is known.
    pub pod: Option<String>,
    /// What was counted.
    pub counted: Counted,
}

/// How denial stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Counts updates, also those of earlier processes.
    pub generation: u32,
    /// What is done with what is denied.
    pub mode: u32,
    /// Addresses, sets, prefixes of sets, and port lists in the kernel.
    pub sizes: [usize; 4],
    /// The interfaces.
    pub interfaces: Vec<Guarded>,
    /// Why interfaces that should have a program have none, by name.
    pub failed: BTreeMap<String, String>,
}

/// What an update has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Updated {
    /// The generation that counts now.
    pub generation: u32,
    /// Entries that were written.
    pub written: usize,
    /// Port lists that are longer than the kernel takes, of which the rest is denied.
    pub cut: usize,
    /// How long it took.
    pub took: Duration,
}

/// Denial at work. When it is dropped, the kernel goes on denying.
pub struct Enforcer {
    state: Arc<Mutex<State>>,
    queue: Arc<Queue>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Enforcer {
    /// Loads the programs or adopts what is pinned, attaches to the interfaces that are there, and follows them. Policies
    /// come by [`Self::update`]; until the first one, whatever an earlier process has set stays as it is.
    ///
    /// # Errors
    /// See [`EnforceError`].
    pub fn start(options: Options) -> Result<Self, EnforceError> {
        let (kernel, events) = Kernel::open(&options.pins)?;
        let state = State::new(kernel, options)?;
        let state = Arc::new(Mutex::new(state));
        let queue = Arc::new(Queue::default());
        let stop = Arc::new(AtomicBool::new(false));
        let follower = Follower::start(Arc::clone(&state))?;
        let mut enforcer =
            Self { state, queue: Arc::clone(&queue), stop: Arc::clone(&stop), threads: Vec::new() };
        let ended = Arc::clone(&stop);
        enforcer.spawn("enforce-links", move || follower.run(&ended))?;
        let reader = events::Reader::new(events, queue);
        enforcer.spawn("enforce-events", move || reader.run(&stop))?;
        Ok(enforcer)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), EnforceError> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(body);
        self.threads.push(thread.map_err(|error| EnforceError::Object(format!("start a thread: {error}")))?);
        Ok(())
    }

    /// Holds the pods to these policies from now on: no packet sees a part of it. What was established and is forbidden
    /// now is cut.
    ///
    /// # Errors
    /// When the kernel has no room. Then what counted before still counts.
    pub fn update(&self, compiled: Arc<Compiled>) -> Result<Updated, EnforceError> {
        self.state().update(compiled)
    }

    /// Switches denial off, for all that is pinned: nothing is decided until the next update.
    ///
    /// # Errors
    /// When the tables cannot be written.
    pub fn switch_off(&self) -> Result<(), EnforceError> {
        let mut state = self.state();
        let config = Config { mode: Mode::Off as u32, ..Config::default() };
        let (plan, next) = state.tables.with_config(config);
        state.apply(plan, next).map(|_| ())
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.state().standing()
    }

    /// What was told since the last call, and how many events were dropped because nobody came for them.
    pub fn told(&self) -> (Vec<Told>, u64) {
        let (events, dropped) = self.queue.take();
        let state = self.state();
        (events.into_iter().map(|event| state.name(event)).collect(), dropped)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A panic of another thread leaves tables that say less than the kernel holds; the next update writes it again.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Enforcer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of enforcement panicked");
            }
        }
    }
}

/// Removes all pins of denial: nothing is denied any more. Gives what was removed.
///
/// # Errors
/// What cannot be removed.
pub fn remove(pins: &Path) -> std::io::Result<Vec<String>> {
    kernel::remove(pins)
}

/// Denial that is pinned, by whatever process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pinned {
    /// [`Mode`] as a number.
    pub mode: u32,
    /// Only known pods may use the bridge.
    pub isolated: bool,
    /// Counts updates.
    pub generation: u32,
    /// Programs on interfaces, those of interfaces that are gone among them.
    pub links: usize,
    /// Since when the programs at the bridges hang there; `None` where none does.
    pub since: Option<Timestamp>,
}

/// The SHA-256 of the programs that deny, hexadecimal, as they are embedded.
pub fn object_sha256() -> String {
    kernel::object_sha256()
}

/// What is pinned; changes nothing.
///
/// # Errors
/// When the pins cannot be read, as without root.
pub fn look(pins: &Path) -> Result<Option<Pinned>, EnforceError> {
    kernel::look(pins)
}

/// Whether denial is pinned, by whatever process.
pub fn is_pinned(pins: &Path) -> bool {
    kernel::is_pinned(pins)
}

/// After a flip no packet is decided by the slot before for so long: a program runs for microseconds, with softirqs
/// disabled, and one that is overtaken decides again.
const GRACE: Duration = Duration::from_millis(100);

/// A veth of a pod.
#[derive(Default)]
struct Pod {
    identity: Option<identity::Identity>,
    /// How often it was asked who it is, and when to ask again.
    asked: u32,
    ask_at: Option<Instant>,
}

/// What the two callers share: whoever updates, and the thread that follows interfaces.
struct State {
    kernel: Kernel,
    options: Options,
    tables: Tables,
    compiled: Option<Arc<Compiled>>,
    own: BTreeSet<Address>,
    /// Names of pods by their number.
    names: HashMap<u64, String>,
    /// Steps for when the grace is over.
    after: Vec<(Instant, Vec<Step>)>,
    links: BTreeMap<u32, Link>,
    pods: BTreeMap<u32, Pod>,
    failed: BTreeMap<String, String>,
}

impl State {
    fn new(kernel: Kernel, options: Options) -> Result<Self, EnforceError> {
        let tables = kernel.tables()?;
        Ok(Self {
            kernel,
            options,
            tables,
            compiled: None,
            own: identity::own_addresses(),
            names: HashMap::new(),
            after: Vec::new(),
            links: BTreeMap::new(),
            pods: BTreeMap::new(),
            failed: BTreeMap::new(),
        })
    }

    fn update(&mut self, compiled: Arc<Compiled>) -> Result<Updated, EnforceError> {
        let begin = Instant::now();
        self.names = compiled.pods.iter().map(|pod| (tables::number_of(pod), pod.to_string())).collect();
        self.compiled = Some(Arc::clone(&compiled));
        let updated = self.rewrite(&compiled)?;
        // Who could not be told from its address before, perhaps can now.
        self.recognise();
        Ok(Updated { took: begin.elapsed(), ..updated })
    }

    fn rewrite(&mut self, compiled: &Compiled) -> Result<Updated, EnforceError> {
        self.collect(true)?;
        let allow = self.options.allow.iter().fold(0, |bits, reason| bits | reason.option());
        let manner = Manner {
            config: tables::config(self.options.mode, self.options.isolated, allow),
            own: self.own.clone(),
            learned: self.learned(),
        };
        let (plan, next) = self.tables.plan(compiled, &manner);
        self.apply(plan, next)
    }

    /// Addresses of this node's pods that the CNI plugins know, perhaps before the API server.
    fn learned(&self) -> BTreeMap<Address, u64> {
        self.pods
            .values()
            .filter_map(|pod| pod.identity.as_ref())
            .filter_map(|identity| {
                let (namespace, name) = identity.pod.as_ref()?;
                Some((tables::pod_number(namespace, name), &identity.addresses))
            })
            .flat_map(|(number, addresses)| addresses.iter().map(move |address| (*address, number)))
            .collect()
    }

    fn apply(&mut self, plan: Plan, next: Tables) -> Result<Updated, EnforceError> {
        let begin = Instant::now();
        for step in &plan.steps {
            if let Err(error) = self.kernel.step(step) {
                // What was written so far counts for nothing; read what is there, so that it is found again.
                self.tables = self.kernel.tables()?;
                return Err(error);
            }
        }
        self.tables = next;
        if !plan.after.is_empty() {
            self.after.push((Instant::now() + GRACE, plan.after));
        }
        Ok(Updated {
            generation: self.tables.generation,
            written: plan.steps.len().saturating_sub(1),
            cut: plan.cut,
            took: begin.elapsed(),
        })
    }

    /// Removes what nothing leads to any more, where the grace is over; `now` where the next update begins, whose flip
    /// would make the slot before count again.
    fn collect(&mut self, now: bool) -> Result<(), EnforceError> {
        let due = |at: &Instant| now || *at <= Instant::now();
        let (over, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.after).into_iter().partition(|(at, _)| due(at));
        self.after = rest;
        for step in over.iter().flat_map(|(_, steps)| steps) {
            self.kernel.step(step)?;
        }
        Ok(())
    }

    fn name(&self, told: Told) -> Told {
        let interface = self.links.get(&told.interface_index).map(|link| link.name.clone());
        let pod = self.names.get(&told.pod_number).cloned();
        let named = |address: &Address| {
            let compiled = self.compiled.as_ref()?;
            let endpoint = compiled.endpoints.get(address)?;
            compiled.pods.get(endpoint.pod.index()).map(ToString::to_string)
        };
        let (source_pod, destination_pod) = (named(&told.source.0), named(&told.destination.0));
        let policies = self.isolating(&told);
        Told { interface, pod, source_pod, destination_pod, policies, ..told }
    }

    /// The policies because of which a packet is denied.
    fn isolating(&self, told: &Told) -> Vec<String> {
        let Some(compiled) = &self.compiled else { return Vec::new() };
        let (held, ingress) = match (told.reason, told.hook) {
            (Reason::Ingress, _) => (&told.destination.0, true),
            (Reason::Egress, _) | (_, Hook::FromPod | Hook::Bridge) => (&told.source.0, false),
            (_, Hook::ToPod) => (&told.destination.0, true),
        };
        let set = compiled
            .endpoints
            .get(held)
            .and_then(|endpoint| if ingress { endpoint.ingress } else { endpoint.egress })
            .and_then(|set| compiled.sets.get(set.index()));
        let Some(set) = set.filter(|_| told.reason.denies()) else { return Vec::new() };
        set.isolated_by
            .iter()
            .filter_map(|policy| compiled.policies.get(policy.index()))
            .map(ToString::to_string)
            .collect()
    }

    fn standing(&self) -> Standing {
        let interfaces = self
            .links
            .values()
            .filter_map(|link| {
                let bridge = self.kernel.attached(link.index, Place::Bridge);
                let guarded = bridge || self.kernel.attached(link.index, Place::FromPod);
                let veth = self.kernel.veth(link.index).unwrap_or(Veth::NONE);
                guarded.then(|| Guarded {
                    index: link.index,
                    name: link.name.clone(),
                    bridge,
                    pod: self.names.get(&veth.pod).cloned(),
                    counted: self
                        .kernel
                        .counted(link.index)
                        .map(|words| Counted::from_words(&words))
                        .unwrap_or_default(),
                })
            })
            .collect();
        let (config, endpoints) = self.tables.active();
        Standing {
            generation: self.tables.generation,
            mode: config.mode,
            sizes: [endpoints.len(), self.tables.sets.len(), self.tables.prefixes(), self.tables.ports.len()],
            interfaces,
            failed: self.failed.clone(),
        }
    }

    // What follows is called by the thread that follows the interfaces.

    fn present(&mut self, link: Link) {
        let index = link.index;
        let bridges = &self.options.bridges;
        let is_bridge = bridges.contains(&link.name);
        let bridge = link.bridge.and_then(|bridge| self.links.get(&bridge));
        let is_pod = link.veth && bridge.is_some_and(|bridge| bridges.contains(&bridge.name));
        let name = link.name.clone();
        self.links.insert(index, link);
        let result = if is_bridge {
            self.bridge(index, &name)
        } else if is_pod {
            self.pod(index, &name)
        } else {
            if self.pods.remove(&index).is_some() {
                self.kernel.forget(index);
            }
            let routed = Veth { flags: veth_flag::ROUTED, ..Veth::NONE };
            if self.kernel.veth(index) == Some(routed) { Ok(()) } else { self.kernel.set_veth(index, routed) }
        };
        match result {
            Ok(()) => {
                self.failed.remove(&name);
            }
            Err(error) => {
                let text = error.to_string();
                if self.failed.insert(name.clone(), text.clone()).as_ref() != Some(&text) {
                    tracing::warn!("{name}: {error}");
                }
            }
        }
    }

    fn bridge(&mut self, index: u32, name: &str) -> Result<(), EnforceError> {
        let routed = Veth { flags: veth_flag::ROUTED, ..Veth::NONE };
        if self.kernel.veth(index) != Some(routed) {
            self.kernel.set_veth(index, routed)?;
        }
        self.kernel.attach(index, name, Place::Bridge)
    }

    fn pod(&mut self, index: u32, name: &str) -> Result<(), EnforceError> {
        if self.pods.contains_key(&index) && self.kernel.attached(index, Place::ToPod) {
            return Ok(());
        }
        // Of an adopted one it is known already whose it is.
        if self.kernel.veth(index).is_none_or(|veth| veth.flags & veth_flag::BRIDGED == 0) {
            self.kernel.set_veth(index, Veth { flags: veth_flag::BRIDGED, ..Veth::NONE })?;
        }
        self.kernel.attach(index, name, Place::FromPod)?;
        self.kernel.attach(index, name, Place::ToPod)?;
        self.pods.entry(index).or_default().ask_at = Some(Instant::now());
        Ok(())
    }

    fn gone(&mut self, index: u32) {
        if let Some(link) = self.links.remove(&index) {
            self.failed.remove(&link.name);
        }
        self.pods.remove(&index);
        self.kernel.forget(index);
    }

    /// Removes what is pinned for interfaces that are not there.
    fn listed(&mut self, present: &BTreeSet<u32>) {
        let gone: Vec<u32> = self.links.keys().copied().filter(|index| !present.contains(index)).collect();
        gone.into_iter().for_each(|index| self.gone(index));
        self.kernel.retain(present);
    }

    /// What is to be done from time to time.
    fn tick(&mut self) {
        if let Err(error) = self.collect(false) {
            tracing::warn!("remove what no policy needs: {error}");
        }
        let now = Instant::now();
        let due = |pod: &Pod| pod.ask_at.is_some_and(|at| at <= now);
        if self.pods.values().any(due) {
            self.ask(now);
        }
    }

    /// The node's addresses may have changed.
    fn look_at_own(&mut self) {
        let own = identity::own_addresses();
        if own != self.own {
            self.own = own;
            self.again();
        }
    }

    fn again(&mut self) {
        if let Some(compiled) = self.compiled.clone()
            && let Err(error) = self.rewrite(&compiled)
        {
            tracing::warn!("{error}");
        }
    }

    /// Asks whose the veths are of which that is not known.
    fn ask(&mut self, now: Instant) {
        let cached = identity::by_cni(&self.options.cni);
        let mut found = None;
        let mut learned = false;
        for (index, pod) in &mut self.pods {
            if pod.ask_at.is_none_or(|at| at > now) {
                continue;
            }
            let Some(link) = self.links.get(index) else { continue };
            let mut identity = cached.get(&link.name).cloned();
            learned |= identity.is_some();
            if identity.is_none()
                && let (Some(namespace), Some(peer)) = (link.peer_namespace, link.peer)
            {
                let all = found.get_or_insert_with(|| identity::by_namespace(&self.options.namespaces));
                identity = all.get(&(namespace, peer)).filter(|i| !i.addresses.is_empty()).cloned();
            }
            pod.asked = pod.asked.saturating_add(1);
            // A container is made within some tens of milliseconds; then only now and then.
            let wait = Duration::from_millis(10 << pod.asked.min(7));
            pod.ask_at = identity.is_none().then(|| now + wait);
            if identity.is_some() {
                pod.identity = identity;
            }
        }
        if learned {
            self.again();
        }
        self.recognise();
    }

    /// Tells the kernel whose the veths are, as far as it is known.
    fn recognise(&mut self) {
        let mut writes = Vec::new();
        for (index, pod) in &self.pods {
            let Some(identity) = &pod.identity else { continue };
            let endpoints = self.compiled.as_ref().map(|c| (&c.endpoints, &c.pods));
            let by_address = || {
                let (endpoints, pods) = endpoints?;
                let found = identity.addresses.iter().find_map(|address| endpoints.get(address))?;
                pods.get(found.pod.index()).map(tables::number_of)
            };
            let number = match &identity.pod {
                Some((namespace, name)) => Some(tables::pod_number(namespace, name)),
                None => by_address(),
            };
            let (Some(number), Some(address)) = (number, identity.addresses.first()) else { continue };
            let veth = Veth { pod: number, address: *address, mac: identity.mac, flags: veth_flag::BRIDGED };
            if self.kernel.veth(*index) != Some(veth) {
                writes.push((*index, veth));
            }
        }
        for (index, veth) in writes {
            if let Err(error) = self.kernel.set_veth(index, veth) {
                tracing::warn!("{error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{OPEN, Reason, open};

    #[test]
    fn every_case_that_is_left_open_has_a_word_of_its_own() {
        let words: BTreeSet<&str> = OPEN.iter().map(|(reason, _)| reason.word()).collect();
        assert_eq!(words.len(), OPEN.len());
        assert!(OPEN.iter().all(|(reason, _)| open(reason.word()) == Some(*reason)));
        // What a policy says is not for an option to undo.
        let closed = [Reason::Egress, Reason::Ingress];
        assert!(closed.iter().all(|reason| open(reason.word()).is_none()));
        let denies = |reason: &&Reason| reason.denies() && !closed.contains(reason);
        assert_eq!(Reason::ALL.iter().filter(denies).count(), OPEN.len());
    }
}
