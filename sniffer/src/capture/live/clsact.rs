//! Filters on clsact hooks, which the kernel keeps when their process dies (kernels before 6.6 know nothing else).
//!
//! Each process that attaches so takes a number, and with it an abstract Unix socket (unix(7)), which belongs to the
//! network namespace as the filters do and ends with its last holder: so whoever looks can tell filters of the living
//! from those of the dead, across containers and whatever process ids are used again. The number is the lower half of
//! the filters' handle; the upper says whether the qdisc is fedisniff's own, so that the kernel itself remembers what
//! is to be removed. A process beside this one, which outlives it by a moment, removes what `kill -9` leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aya::programs::tc::TcHandle;
use nix::sys::signal::{SigSet, Signal};

use super::tc::{Filter, Tc};

/// The upper half of the handles of fedisniff's filters, …
const MARK: u16 = 0xfed0;
/// … and this bit where fedisniff has made the qdisc.
const OWN_QDISC: u16 = 1;
/// How long one waits for another that changes something.
const PATIENCE: Duration = Duration::from_secs(2);
/// Interfaces that the process beside remembers to have been given a qdisc; the rest it finds by their filters.
const REMEMBERED: usize = 100_000;

/// How to start this program again as the process beside: the arguments, after which the number comes.
pub type Sweeper = &'static [&'static str];

/// The number of the process that a filter belongs to, if it has one.
fn number(filter: &Filter) -> Option<u16> {
    let [a, b, c, d] = filter.handle.to_be_bytes();
    let mark = u16::from_be_bytes([a, b]);
    (filter.ours() && mark & !OWN_QDISC == MARK).then_some(u16::from_be_bytes([c, d]))
}

fn own_qdisc(filter: &Filter) -> bool {
    number(filter).is_some() && filter.handle >> 16 & u32::from(OWN_QDISC) != 0
}

fn bind(name: &str) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

fn name(number: u16) -> String {
    format!("fedisniff/clsact/{number}")
}

fn alive(number: u16) -> bool {
    bind(&name(number)).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// While it is held, no other fedisniff of this namespace adds or removes a qdisc: none is removed under a filter that
/// is just being attached.
struct Turn {
    _held: Option<UnixListener>,
}

impl Turn {
    fn take() -> Self {
        let begin = Instant::now();
        loop {
            match bind("fedisniff/clsact") {
                Ok(held) => return Self { _held: Some(held) },
                Err(_) if begin.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => {
                    // Whoever keeps it for so long is no fedisniff. Better watch than wait.
                    tracing::warn!("change filters without a turn: {error}");
                    return Self { _held: None };
                }
            }
        }
    }
}

/// Takes fedisniff's filters of which `of` is true off all interfaces, and the qdiscs that then serve nobody and are
/// fedisniff's own, or are among `added`. Gives the interfaces with the numbers that were removed there.
fn remove(
    tc: &mut Tc,
    added: &BTreeSet<u32>,
    mut of: impl FnMut(Option<u16>) -> bool,
) -> io::Result<Vec<(u32, BTreeSet<Option<u16>>)>> {
    let mut removed = Vec::new();
    let mut failed = None;
    for (index, kind) in tc.qdiscs()? {
        match remove_from(tc, index, kind == "clsact", added.contains(&index), &mut of) {
            Ok(numbers) if numbers.is_empty() => {}
            Ok(numbers) => removed.push((index, numbers)),
            // The others are not left because of one.
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(removed), Err)
}

fn remove_from(
    tc: &mut Tc,
    index: u32,
    clsact: bool,
    added: bool,
    of: &mut impl FnMut(Option<u16>) -> bool,
) -> io::Result<BTreeSet<Option<u16>>> {
    let mut numbers = BTreeSet::new();
    let mut own = added;
    for filter in tc.filters(index)?.iter().filter(|filter| filter.handle != 0 && filter.ours()) {
        let number = number(filter);
        if of(number) {
            tc.remove_filter(index, filter)?;
            own |= own_qdisc(filter);
            numbers.insert(number);
        }
    }
    if clsact && own {
        remove_qdisc(tc, index)?;
    }
    Ok(numbers)
}

/// Removes a qdisc of ours unless a filter, whosever it is, is on it. The kernel has no way to do both at once: a
/// filter that another program attaches in the microseconds between goes with the qdisc.
fn remove_qdisc(tc: &mut Tc, index: u32) -> io::Result<()> {
    if tc.filters(index)?.is_empty() { tc.remove_clsact(index) } else { Ok(()) }
}

/// Removes what fedisniffs that died have left in this namespace.
pub(super) fn sweep_dead() -> io::Result<()> {
    let mut tc = Tc::open()?;
    let _turn = Turn::take();
    sweep_all_but_living(&mut tc, None)
}

fn sweep_all_but_living(tc: &mut Tc, mine: Option<u16>) -> io::Result<()> {
    let mut known = BTreeMap::new();
    // Without a number it cannot be told whose it is: `uninstall` takes it.
    let dead = |number: Option<u16>| {
        number.is_some_and(|n| mine == Some(n) || !*known.entry(n).or_insert_with(|| alive(n)))
    };
    for (index, numbers) in remove(tc, &BTreeSet::new(), dead)? {
        tracing::info!("took filters of {} dead fedisniff off interface {index}", numbers.len());
    }
    Ok(())
}

/// Removes all of fedisniff's, also of those that live. Gives the interfaces, and whether one that lives was on it.
pub(super) fn remove_all() -> io::Result<Vec<(u32, bool)>> {
    let mut tc = Tc::open()?;
    let _turn = Turn::take();
    let removed = remove(&mut tc, &BTreeSet::new(), |_| true)?;
    let any_alive = |numbers: BTreeSet<Option<u16>>| numbers.into_iter().flatten().any(alive);
    Ok(removed.into_iter().map(|(index, numbers)| (index, any_alive(numbers))).collect())
}

/// Whether a filter was left by a fedisniff that is dead.
pub(super) fn left(filter: &Filter) -> bool {
    filter.ours() && number(filter).is_none_or(|number| !alive(number))
}

/// A process that attaches by clsact.
pub(super) struct Instance {
    number: u16,
    socket: UnixListener,
    tc: Tc,
    sweeper: Option<Sweeper>,
    beside: Option<Child>,
}

impl Instance {
    /// Takes a number, and removes what the dead have left.
    pub(super) fn begin(sweeper: Option<Sweeper>) -> io::Result<Self> {
        let mut tc = Tc::open()?;
        let _turn = Turn::take();
        let mut free = (1..=u16::MAX).map_while(|number| match bind(&name(number)) {
            Ok(socket) => Some(Ok((number, socket))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Some(Err(error)),
            Err(_) => None,
        });
        let Some((number, socket)) = free.find_map(Result::ok) else {
            return Err(io::Error::other("no abstract Unix socket is to be had"));
        };
        sweep_all_but_living(&mut tc, Some(number))?;
        Ok(Self { number, socket, tc, sweeper, beside: None })
    }

    /// Makes sure that an interface has a clsact qdisc, and lets `attach` put filters on it with the handle that they
    /// are found by.
    pub(super) fn attach<T>(
        &mut self,
        index: u32,
        name: &str,
        attach: impl FnOnce(TcHandle) -> Result<T, aya::programs::ProgramError>,
    ) -> Result<T, aya::programs::ProgramError> {
        use aya::programs::tc::{TcError, qdisc_add_clsact};
        let _turn = Turn::take();
        let failed = |error: io::Error| aya::programs::ProgramError::TcError(TcError::IoError(error));
        let there = self.tc.qdiscs().map_err(failed)?.into_iter().find(|(at, _)| *at == index);
        let own = match there.as_ref().map(|(_, kind)| kind.as_str()) {
            None => {
                self.start_beside();
                self.tell_beside(format_args!("+{index}"));
                qdisc_add_clsact(name)?;
                true
            }
            // Another fedisniff's: who leaves last removes it.
            Some("clsact") => self.tc.filters(index).map_err(failed)?.iter().any(own_qdisc),
            Some(kind) => {
                // Its second hook would be the first one again: each packet would be seen twice, or not at all.
                let why = format!(
                    "there is an {kind} qdisc, which has no hook for what goes out; \
                                   `tc qdisc del dev {name} {kind}` removes it with its filters"
                );
                return Err(failed(io::Error::other(why)));
            }
        };
        self.start_beside();
        let result = attach(TcHandle::new(if own { MARK | OWN_QDISC } else { MARK }, self.number));
        if result.is_err() && own {
            let _ = remove_qdisc(&mut self.tc, index);
            self.tell_beside(format_args!("-{index}"));
        }
        result
    }

    /// Lets `detach` take filters off an interface, and removes the qdisc if it was ours and serves nobody now.
    pub(super) fn detach(&mut self, index: u32, detach: impl FnOnce()) {
        let _turn = Turn::take();
        let own = self.tc.filters(index).is_ok_and(|filters| {
            filters.iter().any(|filter| number(filter) == Some(self.number) && own_qdisc(filter))
        });
        detach();
        // An interface that is gone took everything with it.
        if own && let Err(error) = remove_qdisc(&mut self.tc, index) {
            tracing::debug!("remove the clsact qdisc of interface {index}: {error}");
        }
        self.tell_beside(format_args!("-{index}"));
    }

    /// Tells the process beside which interfaces are about to be given a qdisc by this one, which their filters say
    /// only later.
    fn tell_beside(&mut self, what: std::fmt::Arguments<'_>) {
        if let Some(pipe) = self.beside.as_mut().and_then(|child| child.stdin.as_mut()) {
            // When it cannot be told, it has died, and the next start of fedisniff removes what is left.
            let _ = writeln!(pipe, "{what}");
        }
    }

    /// Starts the process beside, unless it runs.
    fn start_beside(&mut self) {
        let runs = self.beside.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        let Some(arguments) = self.sweeper.filter(|_| !runs) else { return };
        let start = || -> io::Result<Child> {
            // The socket goes along, so that the number is taken until all is removed.
            let socket: OwnedFd = self.socket.try_clone()?.into();
            Command::new("/proc/self/exe")
                .arg0("fedisniff")
                .args(arguments)
                .arg(self.number.to_string())
                .stdin(Stdio::piped())
                .stdout(socket)
                // Not of the terminal's group in the foreground, which Ctrl-C is for.
                .process_group(0)
                .spawn()
        };
        match start() {
            Ok(child) => self.beside = Some(child),
            Err(error) => {
                self.sweeper = None;
                tracing::warn!(
                    "no process beside this one ({error}): after kill -9, `fedisniff uninstall` removes what is left"
                );
            }
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(mut child) = self.beside.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// The process beside: waits until whoever started it is dead, then removes what that one has left. Takes the number
/// and, from standard input, the interfaces that were given a qdisc; standard output is the socket, which it holds.
///
/// # Errors
/// When something cannot be removed; all else is.
pub fn sweep_after(dead: u16) -> io::Result<()> {
    let mut ignored = SigSet::empty();
    // Those come when a terminal is closed or a service stopped; the work begins only then.
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGPIPE] {
        ignored.add(signal);
    }
    ignored.thread_block()?;
    let mut added = BTreeSet::new();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match line.split_at_checked(1) {
            Some(("+", index)) if added.len() < REMEMBERED => added.extend(index.parse::<u32>()),
            Some(("-", index)) => {
                index.parse::<u32>().map(|index| added.remove(&index)).ok();
            }
            _ => {}
        }
    }
    let mut tc = Tc::open()?;
    let _turn = Turn::take();
    remove(&mut tc, &added, |number| number == Some(dead)).map(|_| ())
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]
mod tests {
    use sniffer_ebpf::Hook;

    use super::{alive, bind, name, number, own_qdisc};
    use crate::capture::live::tc::Filter;

    fn filter(handle: u32, name: &str) -> Filter {
        Filter {
            hook: Hook::Ingress,
            kind: "bpf".into(),
            info: 0,
            handle,
            name: Some(name.into()),
            program: None,
        }
    }

    #[test]
    fn a_filters_handle_says_whose_it_is_and_whether_the_qdisc_is_ours() {
        let told = |f: &Filter| (number(f), own_qdisc(f));
        assert_eq!(told(&filter(0xfed1_0007, "fs_ingress")), (Some(7), true));
        assert_eq!(told(&filter(0xfed0_ffff, "fs_ingress")), (Some(u16::MAX), false));
        assert_eq!(told(&filter(0xfed1_0007, "cil_from_container")), (None, false), "another's");
        assert_eq!(told(&filter(0xfed1_0007, "fs_egress")), (None, false), "on the other hook");
        assert_eq!(told(&filter(1, "fs_ingress")), (None, false));
        assert_eq!(told(&filter(0xfed3_0001, "fs_ingress")), (None, false), "a mark of some other version");
    }

    #[test]
    fn a_number_is_taken_as_long_as_anyone_holds_its_socket() {
        // None of those that a fedisniff takes on this machine while it is tested: they begin at 1.
        let mine = 60_000 + u16::try_from(std::process::id() % 5_000).expect("it is small");
        assert!(!alive(mine));
        let held = bind(&name(mine)).expect("free");
        let also = held.try_clone().expect("a second holder");
        assert!(alive(mine));
        drop(held);
        assert!(alive(mine), "the process beside holds it");
        drop(also);
        assert!(!alive(mine));
    }
}
