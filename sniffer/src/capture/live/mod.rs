//! Live capture on this node: programs in the kernel (`sniffer-ebpf`) copy what pods send and receive from their
//! host-side veths into a ring buffer. Two threads: one follows the interfaces and attaches, one empties the ring buffer
//! into batches of frames. The second never waits: when nobody takes the batches, frames are dropped and counted.
//!
//! Passive: packets are copied, never changed, delayed or dropped. What was not seen is counted, by interface.

// Counts of packets and octets in 64 bits, and lengths that the record's decoder has checked: they do not overflow.
#![allow(clippy::arithmetic_side_effects)]

mod attach;
mod choose;
mod clsact;
pub mod doctor;
mod options;
mod queue;
mod ring;
mod tc;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use aya::maps::{HashMap as BpfHashMap, MapData};
use sniffer_ebpf::TUPLE_LENGTH;

pub use choose::Interfaces;
pub use clsact::{Sweeper, sweep_after};
pub use options::{AttachBy, Network, Options, TLS_PORTS};
pub use queue::{Batch, Item, Taken};
pub use sniffer_ebpf::Counters;
pub use sniffer_ebpf::select::PortPolicy;

/// Why capture on this node cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// Rights are missing.
    #[error("{what}: not permitted. {help}")]
    NotPermitted {
        /// What was tried.
        what: String,
        /// Which capability is missing and how to get it.
        help: String,
    },
    /// The kernel refused the programs.
    #[error("the kernel does not take fedisniff's programs: {0}. `fedisniff doctor` says what it lacks")]
    Refused(String),
    /// An interface cannot be attached to.
    #[error("cannot attach to {interface} by {by}: {why}")]
    Attach {
        /// Its name.
        interface: String,
        /// How.
        by: AttachBy,
        /// Why not.
        why: String,
    },
    /// The interfaces cannot be listed or followed.
    #[error("cannot follow the node's interfaces (rtnetlink): {0}")]
    Links(std::io::Error),
    /// The embedded programs are not those that this version was built for.
    #[error("the embedded eBPF programs are damaged ({0}): build fedisniff again")]
    Object(String),
}

/// The SHA-256 of the programs that copy, hexadecimal, as they are embedded.
pub fn object_sha256() -> String {
    attach::object_sha256()
}

/// The capabilities that watching needs, with what for (capabilities(7)).
const NEEDED: [(caps::Capability, &str); 3] = [
    (caps::Capability::CAP_BPF, "to load programs into the kernel"),
    (caps::Capability::CAP_PERFMON, "so that the verifier lets them compute addresses"),
    (caps::Capability::CAP_NET_ADMIN, "to attach them to interfaces"),
];

/// The capabilities that this process lacks for watching, with what they are for.
pub fn missing_capabilities() -> Vec<(String, &'static str)> {
    let have = caps::read(None, caps::CapSet::Effective).unwrap_or_default();
    // Before Linux 5.8 there was only CAP_SYS_ADMIN, which still stands for CAP_BPF and CAP_PERFMON.
    let all = have.contains(&caps::Capability::CAP_SYS_ADMIN);
    NEEDED
        .iter()
        .filter(|(capability, _)| {
            let stands_for = all && *capability != caps::Capability::CAP_NET_ADMIN;
            !stands_for && !have.contains(capability)
        })
        .map(|(capability, why)| (capability.to_string(), *why))
        .collect()
}

/// So much of the verifier's log is shown: its verdict is at the end.
const VERIFIER_LINES: usize = 12;

impl LiveError {
    fn not_permitted(what: impl Into<String>) -> Self {
        let missing = missing_capabilities();
        let help = if missing.is_empty() {
            "The capabilities are there, so something else forbids it (a seccomp profile, LSM, or \
             kernel.unprivileged_bpf_disabled in a user namespace): run on the node itself, as root"
                .into()
        } else {
            let list: Vec<String> = missing.iter().map(|(name, why)| format!("{name} ({why})")).collect();
            format!("Missing: {}. Run it as root: sudo fedisniff watch", list.join(", "))
        };
        Self::NotPermitted { what: what.into(), help }
    }

    fn load(error: aya::EbpfError) -> Self {
        // EACCES is also what the verifier says; then it says why.
        if let aya::EbpfError::ProgramError(aya::programs::ProgramError::LoadError { verifier_log, .. }) =
            &error
        {
            let log = verifier_log.to_string();
            let tail: Vec<&str> = log.lines().rev().filter(|l| !l.is_empty()).take(VERIFIER_LINES).collect();
            if !tail.is_empty() {
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n  ");
                return Self::Refused(format!("the verifier says:\n  {tail}\n"));
            }
        }
        if permission(&error) {
            return Self::not_permitted("load programs into the kernel");
        }
        Self::Refused(crate::causes::chain(&error))
    }

    fn map(error: aya::maps::MapError) -> Self {
        if permission(&error) {
            return Self::not_permitted("use the programs' maps");
        }
        Self::Refused(crate::causes::chain(&error))
    }

    fn attach(interface: &str, by: AttachBy, error: aya::programs::ProgramError) -> Self {
        if permission(&error) {
            return Self::not_permitted(format!("attach to {interface}"));
        }
        Self::Attach { interface: interface.into(), by, why: crate::causes::chain(&error) }
    }
}

/// Whether EPERM or EACCES is somewhere among an error's causes.
fn permission(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |e| e.source()).any(|e| {
        e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
    })
}

/// An interface that is or was watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    /// The kernel's index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// How the programs are attached there.
    pub by: AttachBy,
    /// What was counted there.
    pub counters: Counters,
}

/// How capture goes, as of the last look (four times a second).
#[derive(Clone, Default, Debug)]
pub struct Snapshot {
    /// Interfaces that are watched now.
    pub interfaces: Vec<Watched>,
    /// What was counted on interfaces that have gone, together.
    pub gone: Counters,
    /// How many have gone.
    pub gone_interfaces: u64,
    /// Interfaces that cannot be watched, by name, with the reason.
    pub failed: std::collections::BTreeMap<String, String>,
    /// Frames that were copied and then dropped, because nobody took them in time.
    pub dropped_frames: u64,
    /// Octets of these.
    pub dropped_octets: u64,
    /// Records that were no records: the programs and this process do not fit each other.
    pub undecodable: u64,
    /// Octets that wait for the decoding thread.
    pub queued_octets: usize,
}

impl Snapshot {
    /// What was counted on all interfaces, also on those that have gone.
    pub fn total(&self) -> Counters {
        self.interfaces.iter().fold(self.gone, |sum, w| sum.plus(w.counters))
    }
}

/// Running capture. Ends, and detaches everywhere, when it is dropped.
pub struct Live {
    shared: Arc<Shared>,
    queue: Arc<queue::Queue>,
    threads: Vec<JoinHandle<()>>,
    ignored: BpfHashMap<MapData, [u8; TUPLE_LENGTH], u32>,
}

/// What the threads share.
pub(crate) struct Shared {
    /// Watching shall end.
    stop: AtomicBool,
    /// Nothing is attached any more: what is in the ring buffer now is the last.
    detached: AtomicBool,
    snapshot: Mutex<Snapshot>,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }

    fn snapshot(&self) -> std::sync::MutexGuard<'_, Snapshot> {
        // Each field is set at once; a panic of another thread leaves none half changed.
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Loads the programs, attaches them to the interfaces that are there, and begins to follow and to read. The ring
    /// buffer's reader runs before the first program is attached.
    ///
    /// # Errors
    /// See [`LiveError`].
    pub fn start(options: &Options) -> Result<Self, LiveError> {
        if !missing_capabilities().is_empty() {
            return Err(LiveError::not_permitted("watch this node's interfaces"));
        }
        // Best effort: what is left costs each packet a moment, and nothing else.
        if let Err(error) = clsact::sweep_dead() {
            tracing::debug!("remove what a dead fedisniff has left: {error}");
        }
        let (programs, attach::Maps { records, ignored }) = attach::Programs::load(options)?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            snapshot: Mutex::default(),
        });
        let queue = Arc::new(queue::Queue::new(options.queue_octets));
        let reader = ring::Reader::new(records, Arc::clone(&queue), Arc::clone(&shared));
        let mut live =
            Self { shared: Arc::clone(&shared), queue: Arc::clone(&queue), threads: Vec::new(), ignored };
        let closed = Arc::clone(&queue);
        live.spawn("capture", move || {
            let _end = AtEnd(|| closed.close());
            reader.run();
        })?;
        // Also when the start fails or the thread panics: the reading thread waits for it.
        let detached = Arc::clone(&shared);
        let end = AtEnd(move || detached.detached.store(true, Ordering::Release));
        let follower = watch::Follower::start(programs, options.interfaces.clone(), queue, &shared)?;
        live.spawn("follow", move || {
            let _end = end;
            follower.run();
        })?;
        Ok(live)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), LiveError> {
        let thread = std::thread::Builder::new().name(format!("fedisniff-{name}")).spawn(body);
        self.threads.push(thread.map_err(LiveError::Links)?);
        Ok(())
    }

    /// The next frames, after at most `wait`; [`Taken::Ended`] after [`Self::stop`], when all have been taken.
    pub fn take(&self, wait: std::time::Duration) -> Taken {
        self.queue.take(wait)
    }

    /// Gives a batch's memory back.
    pub fn recycle(&self, batch: Batch) {
        self.queue.recycle(batch);
    }

    /// No more is copied of a connection, given in both orientations: what it carries is not HTTP.
    pub fn ignore(&mut self, client: std::net::SocketAddr, server: std::net::SocketAddr) {
        let octets = |address: std::net::SocketAddr| match address.ip() {
            std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            std::net::IpAddr::V6(v6) => v6.octets(),
        };
        let tuple = sniffer_ebpf::Tuple {
            source: octets(client),
            destination: octets(server),
            source_port: client.port().to_be_bytes(),
            destination_port: server.port().to_be_bytes(),
        };
        for tuple in [tuple, tuple.reverse()] {
            // Best effort: without it the connection costs a copy, and is passed over all the same.
            let _ = self.ignored.insert(tuple.to_octets(), 1, 0);
        }
    }

    /// How it goes.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.shared.snapshot().clone();
        snapshot.queued_octets = self.queue.octets();
        snapshot
    }

    /// Begins the end: the programs are detached everywhere, then the ring buffer is emptied. Meanwhile and after it
    /// [`Self::take`] gives what is left, then the end; so nothing that was copied is missed.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a capture thread panicked");
            }
        }
    }
}

/// Does something when it goes out of scope.
struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Removes all of fedisniff's that outlives a process: pinned programs, maps and links, and the clsact filters (and
/// qdiscs of its own) on this namespace's interfaces, also those of one that runs. Gives what was removed, for people.
///
/// # Errors
/// When the interfaces cannot be listed, or something found cannot be removed.
pub fn uninstall() -> Result<Vec<String>, LiveError> {
    let mut removed = Vec::new();
    let links = crate::links::list().map_err(LiveError::Links)?;
    let filters = clsact::remove_all().map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => LiveError::not_permitted("remove filters from interfaces"),
        _ => LiveError::Links(error),
    })?;
    for (index, alive) in filters {
        let name = links.iter().find(|link| link.index == index).map(|link| link.name.as_str());
        let alive = if alive { ", where a fedisniff that runs sees nothing any more" } else { "" };
        removed.push(format!("the filters on {}{alive}", name.unwrap_or("an interface that was just born")));
    }
    let pins = std::path::Path::new(doctor::PINS);
    if pins.exists() {
        std::fs::remove_dir_all(pins).map_err(|error| {
            if error.kind() == std::io::ErrorKind::PermissionDenied {
                LiveError::not_permitted(format!("remove {}", pins.display()))
            } else {
                LiveError::Object(format!("remove {}: {error}", pins.display()))
            }
        })?;
        removed.push(format!("the pins in {}", pins.display()));
    }
    Ok(removed)
}
