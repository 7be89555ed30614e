//! What `watch` needs of this machine, looked at one by one: what is there, what is missing, why it matters, and what
//! mends it. Nothing is changed; the programs are loaded and unloaded again, and attached to nothing.

use std::io::Read;

use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use sniffer_ebpf::{Hook, PROGRAM_EGRESS, PROGRAM_INGRESS};

use super::attach::{self, Programs};
use super::choose::POD_BRIDGES;
use super::clsact;
use super::tc::Tc;
use super::{AttachBy, LiveError, Options, missing_capabilities, permission};
use crate::links::{Link, ways_out};

/// Where a fedisniff pins what is to outlive it.
pub(super) const PINS: &str = "/sys/fs/bpf/fedisniff";

/// What the programs use of the kernel, with the version that brought it.
const NEEDED: [(Version, &str); 4] = [
    (Version(5, 8), "BPF ring buffer, bpf_ktime_get_boot_ns, CAP_BPF"),
    (Version(5, 3), "loops that end"),
    (Version(4, 11), "longest-prefix maps"),
    (Version(4, 10), "least-recently-used maps"),
];
const TCX: Version = Version(6, 6);
/// Until then the memory of maps was counted against RLIMIT_MEMLOCK; since then against the cgroup.
const NO_MEMLOCK: Version = Version(5, 11);
/// What the maps take besides the ring buffer, generously.
const OTHER_MAPS: u64 = 16 << 20;
/// A kernel's configuration is some 200 KiB.
const CONFIGURATION: u64 = 4 << 20;

/// How something that was looked at is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Watching works, but not all of it, or not as well.
    Warning,
    /// Watching cannot work without.
    Missing,
    /// It could not be looked at.
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Check {
    /// A stable name.
    pub id: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, or what is missing.
    pub found: String,
    /// Why that matters.
    pub why: Option<String>,
    /// The command, or else the thing to do, that mends it.
    pub mend: Option<String>,
}

impl Check {
    fn ok(id: &'static str, found: impl Into<String>) -> Self {
        Self { id, state: State::Ok, found: found.into(), why: None, mend: None }
    }

    fn new(id: &'static str, state: State, found: impl Into<String>, why: impl Into<String>) -> Self {
        Self { id, state, found: found.into(), why: Some(why.into()), mend: None }
    }

    fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }
}

/// An interface of this network namespace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// The kernel's index.
    pub index: u32,
    /// Whether `watch` would take it.
    pub watched: bool,
    /// Why, or why not.
    pub reason: String,
    /// What is on its hooks, as far as could be seen.
    pub attached: Vec<Attached>,
}

/// A program or filter on a hook.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Attached {
    /// `ingress` or `egress`.
    pub hook: &'static str,
    /// `tcx` or `clsact`.
    pub by: &'static str,
    /// What it is called.
    pub name: String,
    /// The kernel's number of the program, where it is one.
    pub program: Option<u32>,
    /// A fedisniff's.
    pub ours: bool,
}

/// All that was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// The things that were looked at.
    pub checks: Vec<Check>,
    /// The interfaces.
    pub interfaces: Vec<Seen>,
}

impl Report {
    /// Whether watching would work.
    pub fn works(&self) -> bool {
        !self.checks.iter().any(|check| check.state == State::Missing)
    }
}

/// A kernel's major and minor version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    /// Of `6.1.0-28-amd64`.
    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// Looks at everything that `watch` with these options would use.
pub fn examine(options: &Options) -> Report {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version = Version::parse(&release);
    let configuration = configuration(&release);
    let has_tcx = tcx();
    let mut checks = vec![
        kernel(&release, version),
        capabilities(),
        namespace(),
        btf(),
        jit(),
        memory_lock(version, options),
        hook_by_tcx(&has_tcx, version),
        hook_by_clsact(has_tcx.is_ok(), configuration.as_deref(), options),
        programs(options),
        ring(options),
        bpffs(),
        cgroup(),
        clocks(),
    ];
    let interfaces = match crate::links::list() {
        Ok(links) => {
            checks.push(bridge(&links));
            let (seen, left) = interfaces(&links, options);
            checks.push(choice(&seen, options));
            checks.push(hooks(&seen));
            checks.push(leftovers(left));
            seen
        }
        Err(error) => {
            let why = "interfaces are found, and their coming and going followed, by rtnetlink";
            checks.push(Check::new("interfaces", State::Missing, error.to_string(), why));
            Vec::new()
        }
    };
    Report { checks, interfaces }
}

fn kernel(release: &str, version: Option<Version>) -> Check {
    let id = "kernel";
    let Some(version) = version else {
        let why = "what the kernel has is told by its version";
        return Check::new(id, State::Unknown, format!("no version in `{release}`"), why);
    };
    let lacks: Vec<String> = NEEDED
        .iter()
        .filter(|(since, _)| version < *since)
        .map(|(since, what)| format!("{what} (Linux {since})"))
        .collect();
    if !lacks.is_empty() {
        let found = format!("Linux {release} lacks {}", lacks.join("; "));
        let why = "the programs that copy packets use them";
        let mend =
            "boot a newer kernel: 5.8 at least, better 6.6 (its package: apt-cache search '^linux-image')";
        return Check::new(id, State::Missing, found, why).mend(mend);
    }
    if !cfg!(target_endian = "little") {
        let why = "the programs are built for little-endian machines";
        return Check::new(id, State::Missing, format!("Linux {release} on a big-endian machine"), why);
    }
    let needed: Vec<String> = NEEDED.iter().map(|(since, what)| format!("{what} ({since})")).collect();
    Check::ok(id, format!("Linux {release}; needed: {}", needed.join("; ")))
}

fn capabilities() -> Check {
    let missing = missing_capabilities();
    if missing.is_empty() {
        return Check::ok("capabilities", "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON (or CAP_SYS_ADMIN for them)");
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
    let why: Vec<String> = missing.iter().map(|(name, why)| format!("{name} {why}")).collect();
    let for_pods: Vec<&str> = names.iter().map(|name| name.trim_start_matches("CAP_")).collect();
    Check::new("capabilities", State::Missing, format!("without {}", names.join(", ")), why.join("; ")).mend(
        format!(
            "sudo fedisniff watch (in a pod: securityContext: {{capabilities: {{add: [{}]}}}})",
            for_pods.join(", ")
        ),
    )
}

fn namespace() -> Check {
    let id = "namespace";
    // The kernel asks for these capabilities in the first user namespace, not in one's own.
    let whole = |map: &str| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    if read("/proc/self/uid_map").is_some_and(|map| !whole(&map)) {
        let why = "capabilities that hold in a user namespace alone do not let one load programs";
        return Check::new(id, State::Missing, "in a user namespace (rootless container)", why)
            .mend("run it outside: sudo fedisniff watch");
    }
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    match (of("self"), of("1")) {
        (Some(ours), Some(first)) if ours != first => {
            let why = "the host-side veths of pods are in the node's network namespace; here are others";
            Check::new(id, State::Warning, "not in the network namespace of process 1", why)
                .mend("sudo nsenter --net=/proc/1/ns/net fedisniff watch (in a pod: hostNetwork: true)")
        }
        (_, None) => {
            let why = "the host-side veths of pods are in the node's network namespace";
            Check::new(id, State::Unknown, "whether process 1 has this network namespace cannot be seen", why)
                .mend("sudo fedisniff doctor (in a pod: hostNetwork: true, hostPID: true)")
        }
        _ => Check::ok(id, "the network namespace of process 1"),
    }
}

fn btf() -> Check {
    if std::fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false) {
        return Check::ok("btf", "the kernel describes its types (/sys/kernel/btf/vmlinux)");
    }
    let why = "fedisniff's programs need none, but bpftool then shows maps and programs without their types";
    Check::new("btf", State::Warning, "no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF, Linux 5.4)", why)
        .mend("boot a kernel that is built with CONFIG_DEBUG_INFO_BTF=y, as those of distributions are")
}

fn jit() -> Check {
    match read("/proc/sys/net/core/bpf_jit_enable").as_deref() {
        Some("0") => {
            let why =
                "programs are interpreted: each packet on a watched interface costs several times as much";
            Check::new("jit", State::Warning, "programs are not compiled (net.core.bpf_jit_enable is 0)", why)
                .mend("sudo sysctl -w net.core.bpf_jit_enable=1")
        }
        Some(_) => Check::ok("jit", "programs are compiled to machine code"),
        None => {
            let why = "programs that are interpreted cost several times as much";
            Check::new("jit", State::Unknown, "net.core.bpf_jit_enable is only in the node's namespace", why)
                .mend("sudo nsenter --net=/proc/1/ns/net sysctl net.core.bpf_jit_enable")
        }
    }
}

fn memory_lock(version: Option<Version>, options: &Options) -> Check {
    let id = "memory-lock";
    if version.is_some_and(|version| version >= NO_MEMLOCK) {
        return Check::ok(id, format!("maps do not count against RLIMIT_MEMLOCK (since Linux {NO_MEMLOCK})"));
    }
    let needed = u64::from(options.ring_octets) + OTHER_MAPS;
    let may_raise = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE);
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((_, hard)) if hard >= needed || may_raise.unwrap_or(false) => {
            Check::ok(id, "the limit of locked memory can be raised as far as the maps need it")
        }
        Ok((_, hard)) => {
            let found =
                format!("at most {} KiB may be locked, and the maps need {} KiB", hard >> 10, needed >> 10);
            let why = format!("before Linux {NO_MEMLOCK} the memory of maps counts as locked");
            Check::new(id, State::Missing, found, why).mend(
                "sudo sh -c 'ulimit -l unlimited && exec fedisniff watch' (a service: LimitMEMLOCK=infinity)",
            )
        }
        Err(error) => {
            Check::new(id, State::Unknown, error.to_string(), "the memory of maps counts as locked")
        }
    }
}

/// Whether the kernel answers what is attached by TCX. One without it knows no such question.
fn tcx() -> Result<(), ProgramError> {
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).map(|_| ())
}

fn hook_by_tcx(tcx: &Result<(), ProgramError>, version: Option<Version>) -> Check {
    let id = "tcx";
    let new_enough = version.is_some_and(|version| version >= TCX);
    match tcx {
        Ok(()) => Check::ok(id, "programs attach by TCX: they end with the process, however it ends"),
        Err(error) if permission(error) && new_enough => {
            let found = format!("a kernel of this version has TCX (since Linux {TCX}); asking it takes root");
            Check::new(id, State::Unknown, found, "by TCX programs end with the process, however it ends")
                .mend("sudo fedisniff doctor")
        }
        Err(error) => {
            let found = if new_enough {
                format!("refused: {}", crate::causes::chain(error))
            } else {
                format!("this kernel has no TCX (since Linux {TCX})")
            };
            let why = "fedisniff attaches by clsact then; what a killed process leaves is removed by a process beside it";
            Check::new(id, State::Warning, found, why)
                .mend(format!("boot Linux {TCX} or newer, built with CONFIG_NET_XGRESS=y"))
        }
    }
}

fn hook_by_clsact(has_tcx: bool, configuration: Option<&str>, options: &Options) -> Check {
    let id = "clsact";
    let needed = options.attach_by == Some(AttachBy::Clsact) || (!has_tcx && options.attach_by.is_none());
    let setting = |name: &str| {
        let line = configuration?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        Some(line.is_some_and(|value| value == "y" || value == "m"))
    };
    let parts = [("CONFIG_NET_SCH_INGRESS", "sch_ingress"), ("CONFIG_NET_CLS_BPF", "cls_bpf")];
    let loaded = |module: &str| std::fs::exists(format!("/sys/module/{module}")).unwrap_or(false);
    let lacks: Vec<&str> = parts
        .iter()
        .filter(|(name, module)| setting(name) == Some(false) && !loaded(module))
        .map(|(name, _)| *name)
        .collect();
    if lacks.is_empty() {
        let known = configuration.is_some() || parts.iter().all(|(_, module)| loaded(module));
        return match (known, needed) {
            (true, _) => Check::ok(id, "the kernel has the clsact qdisc and its bpf filters"),
            (false, true) => {
                let why = "without TCX the programs are attached as its filters";
                Check::new(
                    id,
                    State::Unknown,
                    "neither a configuration of the kernel nor the modules are here",
                    why,
                )
                .mend("sudo modprobe -a sch_ingress cls_bpf")
            }
            (false, false) => Check::ok(id, "not needed where TCX is"),
        };
    }
    let state = if needed { State::Missing } else { State::Warning };
    let why = "where TCX is refused, programs are attached as filters of a clsact qdisc";
    Check::new(id, state, format!("the kernel is built without {}", lacks.join(", ")), why)
        .mend(format!("boot a kernel that is built with {}", lacks.join(" and ")))
}

fn programs(options: &Options) -> Check {
    let id = "programs";
    let why = "they copy the packets";
    if !missing_capabilities().is_empty() {
        let found = "loading them, to hear what the verifier says, takes the capabilities";
        return Check::new(id, State::Unknown, found, why).mend("sudo fedisniff doctor");
    }
    match Programs::load(options) {
        Ok(_) => Check::ok(id, format!("the verifier takes {PROGRAM_INGRESS} and {PROGRAM_EGRESS}")),
        Err(LiveError::Refused(text)) => Check::new(id, State::Missing, format!("refused: {text}"), why)
            .mend("report it with the kernel's version (uname -r) and these lines"),
        Err(error) => Check::new(id, State::Missing, error.to_string(), why),
    }
}

fn ring(options: &Options) -> Check {
    let id = "ring";
    let ring = u64::from(options.ring_octets);
    let available = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? << 10)
    });
    let Some(available) = available else {
        let why = "the ring buffer lies in the kernel's memory";
        return Check::new(id, State::Unknown, "no MemAvailable in /proc/meminfo", why);
    };
    let found = format!("{} MiB of ring buffer; {} MiB of memory available", ring >> 20, available >> 20);
    if ring.saturating_mul(4) <= available {
        return Check::ok(id, found);
    }
    let why = "it is allocated at once and stays; with little memory left, pods may be killed for it";
    Check::new(id, State::Warning, found, why).mend("fedisniff watch --ring-size 8MiB")
}

/// The kind of file system at a path.
fn file_system(path: &str) -> Option<FsType> {
    statfs(path).ok().map(|s| s.filesystem_type())
}

fn bpffs() -> Check {
    if file_system("/sys/fs/bpf") == Some(BPF_FS_MAGIC) {
        return Check::ok("bpffs", "mounted at /sys/fs/bpf");
    }
    let why = "what is to outlive fedisniff is pinned there; watching alone pins nothing";
    Check::new("bpffs", State::Warning, "no BPF file system at /sys/fs/bpf", why)
        .mend("sudo mount -t bpf bpf /sys/fs/bpf")
}

fn cgroup() -> Check {
    if file_system("/sys/fs/cgroup") == Some(CGROUP2_SUPER_MAGIC) {
        return Check::ok("cgroup", "version 2 at /sys/fs/cgroup");
    }
    let why = "programs attach to cgroups of version 2 alone; watching veths needs none";
    Check::new("cgroup", State::Warning, "no cgroup of version 2 at /sys/fs/cgroup", why).mend(
        "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line and boot (in a container: mount it)",
    )
}

fn clocks() -> Check {
    let id = "clocks";
    let times = [ClockId::CLOCK_BOOTTIME, ClockId::CLOCK_REALTIME].map(clock_gettime);
    if let Some(error) = times.iter().find_map(|t| t.as_ref().err()) {
        let why = "packets are stamped by the clock since boot, and told by the wall clock";
        return Check::new(id, State::Missing, error.to_string(), why);
    }
    let folder = "/sys/devices/system/clocksource/clocksource0";
    let source = read(&format!("{folder}/current_clocksource"));
    match source.as_deref() {
        // These are read over a slow bus, each time.
        Some(slow @ ("hpet" | "acpi_pm" | "jiffies" | "refined-jiffies" | "pit")) => {
            let available = read(&format!("{folder}/available_clocksource")).unwrap_or_default();
            let better = available.split_ascii_whitespace().find(|s| !["hpet", "acpi_pm", slow].contains(s));
            let why = "each copied packet reads it, which takes microseconds with this one";
            let check = Check::new(id, State::Warning, format!("the kernel's clock is {slow}"), why);
            match better {
                Some(better) => check.mend(format!("echo {better} | sudo tee {folder}/current_clocksource")),
                None => check
                    .mend("see the kernel's log for why there is no better one: dmesg | grep -i clocksource"),
            }
        }
        Some(source) => Check::ok(id, format!("CLOCK_BOOTTIME and CLOCK_REALTIME, by {source}")),
        None => Check::ok(id, "CLOCK_BOOTTIME and CLOCK_REALTIME"),
    }
}

fn bridge(links: &[Link]) -> Check {
    let id = "bridge-nf";
    let bridges: Vec<&str> =
        links.iter().map(|link| link.name.as_str()).filter(|name| POD_BRIDGES.contains(name)).collect();
    if bridges.is_empty() {
        return Check::ok(id, "no bridge of pods here, so nothing bridged passes netfilter or has to");
    }
    let setting = |name: &str| read(&format!("/proc/sys/net/bridge/{name}"));
    let names = ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"];
    let off: Vec<&str> = names.into_iter().filter(|name| setting(name).as_deref() != Some("1")).collect();
    if off.is_empty() {
        return Check::ok(
            id,
            format!("what {} passes between pods goes through netfilter", bridges.join(", ")),
        );
    }
    let why = "between pods of this node, Services are not translated and kube-router's policies do not apply; \
               fedisniff sees the packets all the same";
    let found = format!("{} not 1 ({})", off.join(" and "), bridges.join(", "));
    let set: Vec<String> = off.iter().map(|name| format!("net.bridge.{name}=1")).collect();
    Check::new(id, State::Warning, found, why)
        .mend(format!("sudo modprobe br_netfilter && sudo sysctl -w {}", set.join(" ")))
}

/// The interfaces, and the names of those on which a fedisniff that died has left filters.
fn interfaces(links: &[Link], options: &Options) -> (Vec<Seen>, Vec<String>) {
    let mut left = Vec::new();
    let ways_out = ways_out();
    let name_of = |index: u32| links.iter().find(|l| l.index == index).map(|l| l.name.as_str());
    let mut tc = Tc::open().ok();
    let with_hooks: Vec<u32> = tc
        .as_mut()
        .and_then(|tc| tc.qdiscs().ok())
        .map(|qdiscs| qdiscs.into_iter().map(|(index, _)| index).collect())
        .unwrap_or_default();
    let mut seen: Vec<Seen> = links
        .iter()
        .map(|link| {
            let bridge = link.bridge.and_then(name_of);
            let (watched, reason) = options.interfaces.judge(link, bridge, ways_out.contains(&link.name));
            let mut attached = attach::by_tcx(&link.name);
            if let Some(tc) = tc.as_mut().filter(|_| with_hooks.contains(&link.index)) {
                let filters = tc.filters(link.index).unwrap_or_default();
                if filters.iter().any(clsact::left) {
                    left.push(link.name.clone());
                }
                attached.extend(filters.into_iter().filter(|f| f.handle != 0).map(|f| Attached {
                    hook: hook(f.hook),
                    by: "clsact",
                    ours: f.ours(),
                    name: f.name.unwrap_or(f.kind),
                    program: f.program,
                }));
            }
            Seen { name: link.name.clone(), index: link.index, watched, reason, attached }
        })
        .collect();
    seen.sort_by(|a, b| b.watched.cmp(&a.watched).then_with(|| a.index.cmp(&b.index)));
    (seen, left)
}

/// A hook's name.
pub(super) fn hook(hook: Hook) -> &'static str {
    match hook {
        Hook::Ingress => "ingress",
        Hook::Egress => "egress",
    }
}

fn choice(seen: &[Seen], options: &Options) -> Check {
    let watched = seen.iter().filter(|seen| seen.watched).count();
    let of = format!("{watched} of {} interfaces would be watched", seen.len());
    if watched > 0 {
        return Check::ok("interfaces", of);
    }
    let why = "there is nothing to watch yet; `watch` takes each such interface as soon as it appears";
    let check = Check::new("interfaces", State::Warning, of, why);
    if options.interfaces.named() {
        check.mend("ip -brief link (names the interfaces; --interfaces takes them by name)")
    } else {
        check.mend("fedisniff watch --interfaces 'NAME*' (ip -brief link names the interfaces)")
    }
}

fn hooks(seen: &[Seen]) -> Check {
    let id = "hooks";
    if let Some(error) = attach::tcx_hidden("lo") {
        let why = "a program in front of fedisniff's can keep packets from it";
        return Check::new(id, State::Unknown, format!("what is attached by TCX: {error}"), why)
            .mend("sudo fedisniff doctor");
    }
    let with_others: Vec<&Seen> =
        seen.iter().filter(|s| s.watched && s.attached.iter().any(|a| !a.ours)).collect();
    let Some(first) = with_others.first() else {
        return Check::ok(id, "nothing else is attached to the interfaces that would be watched");
    };
    let mut names: Vec<&str> = with_others
        .iter()
        .flat_map(|s| s.attached.iter())
        .filter(|a| !a.ours)
        .map(|a| a.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let found = format!("{} on {} of the interfaces", names.join(", "), with_others.len());
    let why = "fedisniff attaches behind what is there: a packet that these drop, redirect or accept for good \
               (TC_ACT_OK) does not reach it";
    Check::new(id, State::Warning, found, why)
        .mend(format!("bpftool net show dev {} (shows them)", first.name))
}

fn leftovers(left: Vec<String>) -> Check {
    let id = "leftovers";
    let mut found: Vec<String> = left.into_iter().map(|name| format!("filters on {name}")).collect();
    // Denial is meant to stay, and is told by itself.
    let left = |entry: std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with("deny-");
    if std::fs::read_dir(PINS).is_ok_and(|entries| entries.flatten().any(left)) {
        found.push(format!("pins in {PINS}"));
    }
    if found.is_empty() {
        return Check::ok(id, "nothing of a fedisniff that was killed");
    }
    let why = "each packet runs through what a fedisniff that was killed has left";
    Check::new(id, State::Warning, found.join(", "), why).mend("sudo fedisniff uninstall")
}

/// A file's text without white space around it.
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The kernel's configuration, where it can be had.
fn configuration(release: &str) -> Option<String> {
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open("/proc/config.gz") {
        flate2::read::GzDecoder::new(file).take(CONFIGURATION).read_to_string(&mut text).ok()?;
        return Some(text);
    }
    let file = std::fs::File::open(format!("/boot/config-{release}")).ok()?;
    file.take(CONFIGURATION).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{Attached, NEEDED, Seen, State, Version, hook_by_clsact, hooks, kernel, memory_lock};
    use crate::capture::live::{AttachBy, Options};

    #[test]
    fn a_kernel_that_lacks_something_is_named_with_what_it_lacks_and_since_when_there_is_that() {
        let check = |release: &str| kernel(release, Version::parse(release));
        assert_eq!(check("6.1.0-28-amd64").state, State::Ok);
        assert_eq!(check("5.8.0").state, State::Ok);
        let old = check("5.4.0-200-generic");
        assert_eq!(old.state, State::Missing);
        assert!(old.found.contains("BPF ring buffer") && old.found.contains("(Linux 5.8)"), "{}", old.found);
        assert!(!old.found.contains("(Linux 5.3)"), "it has those: {}", old.found);
        assert!(NEEDED.iter().all(|(_, what)| check("4.9.337").found.contains(what)));
        assert_eq!(check("unreadable").state, State::Unknown);
        assert!(Version(5, 10) > Version(5, 8) && Version(6, 6) > Version(5, 15));
    }

    #[test]
    fn clsact_is_missing_only_where_it_is_needed() {
        let without = Some("CONFIG_NET_SCH_NONE=y\n# CONFIG_NET_CLS_BPF_OF_NOBODY is not set\n");
        let with = Some("CONFIG_NET_SCH_INGRESS=m\nCONFIG_NET_CLS_BPF=y\n");
        let forced = Options { attach_by: Some(AttachBy::Clsact), ..Options::default() };
        assert_eq!(hook_by_clsact(true, with, &forced).state, State::Ok);
        // A module that is loaded here is there, whatever the made-up configuration says.
        let here = std::fs::exists("/sys/module/cls_bpf").is_ok_and(|e| e)
            && std::fs::exists("/sys/module/sch_ingress").is_ok_and(|e| e);
        if !here {
            let state = |tcx, options: &Options| hook_by_clsact(tcx, without, options).state;
            assert_eq!(state(true, &Options::default()), State::Warning);
            assert_eq!(state(false, &Options::default()), State::Missing);
            assert_eq!(state(true, &forced), State::Missing);
            let tcx = Options { attach_by: Some(AttachBy::Tcx), ..Options::default() };
            assert_eq!(state(false, &tcx), State::Warning, "who forces TCX needs no clsact");
        }
    }

    #[test]
    fn the_limit_of_locked_memory_matters_before_linux_5_11_alone() {
        let huge = Options { ring_octets: 1 << 30, ..Options::default() };
        assert_eq!(memory_lock(Some(Version(5, 11)), &huge).state, State::Ok);
        let old = memory_lock(Some(Version(5, 10)), &huge);
        assert!(old.state == State::Ok || old.mend.is_some_and(|m| m.contains("ulimit -l")));
    }

    #[test]
    fn programs_of_others_are_named_once_where_they_would_be_in_front_of_ours() {
        let other = |name: &str| Attached {
            hook: "ingress",
            by: "tcx",
            name: name.into(),
            program: Some(7),
            ours: false,
        };
        let seen = |name: &str, watched, attached| Seen {
            name: name.into(),
            index: 1,
            watched,
            reason: String::new(),
            attached,
        };
        let ours = Attached { ours: true, ..other("fs_ingress") };
        let quiet = [seen("veth1", true, vec![ours]), seen("eth0", false, vec![other("cil_from_netdev")])];
        let twice = [
            seen("veth1", true, vec![other("cil_from_container")]),
            seen("veth2", true, vec![other("cil_from_container"), other("acl")]),
        ];
        // Without rights nothing of this can be seen, and that is said.
        if hooks(&quiet).state != State::Unknown {
            assert_eq!(hooks(&quiet).state, State::Ok);
            assert_eq!(hooks(&twice).found, "acl, cil_from_container on 2 of the interfaces");
        }
    }
}
