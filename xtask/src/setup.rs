//! Installs what the tests and benchmarks need on Debian or Ubuntu. Asks nothing, changes nothing that is already
//! there, and says of each missing thing what it is for. Never leaves a service running.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, output, run as run_command, scratch, which};

/// A program that must be there, and the package that brings it.
struct Need {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
    /// Without it a comparison is left out and said to be; with the rest, tests fail.
    optional: bool,
}

const NEEDS: &[Need] = &[
    need("gcc", "gcc", "to build zstd"),
    need("pkg-config", "pkg-config", "to build dependencies"),
    need("git", "git", "to list the files that tidy looks at"),
    need("tshark", "tshark", "the tests compare with it"),
    need("node", "nodejs", "to build and test the viewer"),
    need("npm", "npm", "to build and test the viewer"),
    need("chromium", "chromium", "to test the viewer"),
    need("zstd", "zstd", "the tests make compressed captures"),
    need("promtool", "prometheus", "checks the viewer's metrics; the server itself never runs"),
    need("ip", "iproute2", "network namespaces"),
    need("sysctl", "procps", "the tests of doctor and of clsact set and look"),
    need("nginx", "nginx-light", "makes the benchmark's traffic"),
    need("wrk", "wrk", "makes the benchmark's traffic"),
    need("tcpdump", "tcpdump", "captures the benchmark's and the lab's traffic"),
    need("dnsmasq", "dnsmasq-base", "the lab's DNS"),
    need("iptables", "iptables", "the tests translate addresses as a cluster's node does"),
    need("openssl", "openssl", "makes the lab's certificates"),
    need("pip3", "python3-pip", "fetches the lab's proxy"),
    need("etcd", "etcd-server", "the cluster's API server keeps its objects there"),
    need("ipset", "ipset", "the cluster's kube-router keeps its addresses there"),
    need("conntrack", "conntrack", "the cluster's tests make the kernel forget connections"),
    need("ethtool", "ethtool", "turns offloads off for the benchmark's traffic"),
    need("tcpflow", "tcpflow", "the benchmark compares with it"),
    need("httpry", "httpry", "the benchmark compares with it"),
    need("go", "golang-go", "builds the cluster's parts, and a program that the benchmark compares with"),
    Need { optional: true, ..need("suricata", "suricata", "the benchmark compares with it") },
];

const fn need(program: &'static str, package: &'static str, purpose: &'static str) -> Need {
    Need { program, package, purpose, optional: false }
}

/// Node.js majors that the viewer's build tools run on.
const NODE_MAJOR: u32 = 20;

/// Installs what is missing.
pub(crate) fn run() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|n| which(n.program).is_none()).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    let mut lacking = Vec::new();
    for need in NEEDS.iter().filter(|n| which(n.program).is_none()) {
        if need.optional {
            println!("setup: no `{}` to be had here ({}): that part is left out", need.program, need.purpose);
        } else {
            lacking.push(format!("`{}` ({}; package {})", need.program, need.purpose, need.package));
        }
    }
    if !lacking.is_empty() {
        bail!("still missing after installing: {}", lacking.join(", "));
    }
    check_node()?;
    fuzzer()?;
    llvm()?;
    crate::ebpf::set_up()?;
    crate::lab::install()?;
    crate::cluster::install()?;
    // Some tests ask cargo about all crates without the network, also about those for other systems.
    run_command(cargo().args(["fetch", "--quiet", "--locked"])).context("fetch the crates")?;
    println!("setup: everything is there");
    Ok(())
}

/// What the live benchmark compares with; too much to install for the tests, so it comes when it is asked for.
const LIVE_BENCH: &[Need] = &[
    Need { optional: true, ..need("haproxy", "haproxy", "the live benchmark compares with it") },
    Need { optional: true, ..need("caddy", "caddy", "the live benchmark compares with it") },
    Need { optional: true, ..need("mitmdump", "mitmproxy", "the live benchmark compares with it") },
    Need { optional: true, ..need("iperf3", "iperf3", "the live benchmark's traffic that is not HTTP") },
    need("curl", "curl", "the live benchmark asks whether servers are up"),
];

/// What trying older kernels takes.
const KERNELS: &[Need] = &[
    need("qemu-system-x86_64", "qemu-system-x86", "runs older kernels"),
    need("busybox", "busybox-static", "is the shell in their machine"),
    need("curl", "curl", "fetches them"),
    need("strip", "binutils", "makes their memory disk smaller"),
    need("xz", "xz-utils", "unpacks their modules"),
];

/// Installs what trying older kernels takes.
pub(crate) fn for_kernels() -> Result<()> {
    let missing: Vec<&Need> = KERNELS.iter().filter(|n| which(n.program).is_none()).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Installs what the live benchmark compares with.
pub(crate) fn for_live_bench() -> Result<()> {
    let missing: Vec<&Need> = LIVE_BENCH.iter().filter(|n| which(n.program).is_none()).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    for need in LIVE_BENCH.iter().filter(|n| which(n.program).is_none()) {
        println!("bench: no `{}` to be had here: that part is left out", need.program);
    }
    Ok(())
}

fn install(missing: &[&Need]) -> Result<()> {
    let list =
        |needs: &[&Need]| needs.iter().map(|n| format!("{} ({})", n.package, n.purpose)).collect::<Vec<_>>();
    println!("setup: missing: {}", list(missing).join(", "));
    if which("apt-get").is_none() {
        bail!("this is not Debian or Ubuntu (no apt-get): install by hand: {}", list(missing).join(", "));
    }
    run_command(as_root("apt-get")?.args(["-q", "-o", "Acquire::Retries=3", "update"]))
        .context("refresh the package lists")?;
    let (here, elsewhere): (Vec<&Need>, Vec<&Need>) = missing.iter().partition(|n| has_candidate(n.package));
    if !here.is_empty() {
        let _quiet = NoServices::begin()?;
        apt_install(here.iter().map(|n| n.package), &[])?;
    }
    for need in elsewhere {
        let Some(options) = backports()? else { continue };
        println!("setup: {} has no candidate here; trying backports", need.package);
        let update = run_command(as_root("apt-get")?.arg("-q").args(&options).arg("update"));
        let _quiet = NoServices::begin()?;
        if let Err(error) = update.and_then(|()| apt_install([need.package].into_iter(), &options)) {
            println!("setup: {error:#}");
        }
    }
    Ok(())
}

fn apt_install<'a>(packages: impl Iterator<Item = &'a str>, options: &[String]) -> Result<()> {
    let mut command = as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "--no-install-recommends"]);
    run_command(command.args(["-o", "Acquire::Retries=3"]).args(options).arg("install").args(packages))
}

fn has_candidate(package: &str) -> bool {
    output(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", package]))
        .is_ok_and(|text| text.lines().any(|l| l.contains("Candidate:") && !l.contains("(none)")))
}

/// Options with which apt also takes this release's backports, from the archive that is configured; `None` where that
/// cannot be told. The system's own sources stay as they are.
fn backports() -> Result<Option<Vec<String>>> {
    let format = "$(REPO_URI) $(CODENAME) $(COMPONENT) $(SIGNED_BY)";
    let targets =
        output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME=")).unwrap_or_default();
    if codename.is_empty() || !release.lines().any(|l| l == "ID=debian") {
        return Ok(None);
    }
    let found = targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (uri, name, component) = (words.next()?, words.next()?, words.next()?);
        (name == codename && component == "main")
            .then(|| (uri.to_owned(), words.next().unwrap_or_default().to_owned()))
    });
    let Some((uri, key)) = found else { return Ok(None) };
    let signed = if key.starts_with('/') { format!("[signed-by={key}] ") } else { String::new() };
    let configured = std::fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    let list = scratch("xtask")?.join("backports.list");
    std::fs::write(&list, format!("{configured}\ndeb {signed}{uri} {codename}-backports main\n"))
        .with_context(|| format!("write {}", list.display()))?;
    let list = format!("Dir::Etc::sourcelist={}", list.display());
    Ok(Some(vec!["-o".to_owned(), list, "-t".to_owned(), format!("{codename}-backports")]))
}

/// A command as root, without ever asking for a password.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    if nix::unistd::geteuid().is_root() {
        return Ok(Command::new(program));
    }
    if which("sudo").is_none() {
        bail!("`{program}` needs root, and there is no sudo: run `cargo xtask setup` as root once");
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    Ok(command)
}

/// While it lives, packages that are installed do not start their services (Debian's `invoke-rc.d` asks
/// `policy-rc.d`, and 101 means "forbidden by policy"); afterwards they do not start at boot either.
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn begin() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        let script = format!("printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY}");
        run_command(as_root("sh")?.args(["-c", &script])).context("keep services from starting")?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let forbid = "test ! -d /run/systemd/system || systemctl disable --quiet nginx suricata haproxy caddy iperf3 prometheus etcd 2>/dev/null; true";
        let undo = if self.ours { format!("rm -f {POLICY}; {forbid}") } else { forbid.to_owned() };
        if let Err(error) = as_root("sh").and_then(|mut sh| run_command(sh.args(["-c", &undo]))) {
            eprintln!("setup: {error:#}");
        }
    }
}

fn check_node() -> Result<()> {
    let version = output(Command::new("node").arg("--version"))?;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|n| n.parse::<u32>().ok());
    if major.is_none_or(|m| m < NODE_MAJOR) {
        bail!(
            "node {} is too old for the viewer's build: Node.js {NODE_MAJOR} or newer is needed",
            version.trim()
        );
    }
    Ok(())
}

/// The libraries that the linker of the kernel's programs is built with; they have no program to look for.
fn llvm() -> Result<()> {
    let version = crate::ebpf::LLVM;
    if Path::new(&format!("/usr/lib/llvm-{version}/lib/libPolly.a")).exists() || which("bpf-linker").is_some()
    {
        return Ok(());
    }
    let packages = [
        format!("llvm-{version}-dev"),
        format!("libclang-{version}-dev"),
        format!("libpolly-{version}-dev"),
        "zlib1g-dev".to_owned(),
        "libzstd-dev".to_owned(),
    ];
    println!("setup: missing: {} (to build the linker of the kernel's programs)", packages.join(", "));
    run_command(as_root("apt-get")?.args(["-q", "-o", "Acquire::Retries=3", "update"]))
        .context("refresh the package lists")?;
    apt_install(packages.iter().map(String::as_str), &[])
}

fn fuzzer() -> Result<()> {
    if output(cargo().args(["fuzz", "--version"])).is_ok() {
        return Ok(());
    }
    println!("setup: missing: cargo-fuzz (runs the fuzz targets)");
    run_command(cargo().args(["install", "--quiet", "--locked", "cargo-fuzz"])).context("install cargo-fuzz")
}
