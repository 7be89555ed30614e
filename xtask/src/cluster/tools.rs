//! What the cluster runs that Debian does not have: the API server, kubectl and kube-proxy of Kubernetes, kube-router and
//! CoreDNS, built from their sources, which the Go module proxy has and Go's checksum database vouches for. Their
//! versions, and the hashes of all that goes into them, are in `tests/cluster/go`. `cargo xtask setup` builds them; the
//! cluster itself never downloads.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::shell::{output, root, run as run_command, scratch, which};

/// The programs.
pub(super) struct Tools {
    pub(super) etcd: PathBuf,
    pub(super) apiserver: PathBuf,
    pub(super) kubectl: PathBuf,
    pub(super) kube_proxy: PathBuf,
    pub(super) kube_router: PathBuf,
    pub(super) coredns: PathBuf,
}

impl Tools {
    /// Finds them.
    pub(super) fn find() -> Result<Self> {
        for module in MODULES {
            if !module.is_there()? {
                bail!(
                    "{} is not built, or from another {}: run `cargo xtask setup` first",
                    module.programs.iter().map(|package| program_of(package)).collect::<Vec<_>>().join(", "),
                    module.source().display()
                );
            }
        }
        let folder = folder()?;
        let ours = |name: &str| folder.join(name);
        for (program, package) in [("iptables-save", "iptables"), ("ipset", "ipset"), ("openssl", "openssl")]
        {
            which(program).with_context(|| {
                format!("no {program} (package {package}): run `cargo xtask setup` first")
            })?;
        }
        Ok(Self {
            etcd: which("etcd").context("no etcd: run `cargo xtask setup` first")?,
            apiserver: ours("kube-apiserver"),
            kubectl: ours("kubectl"),
            kube_proxy: ours("kube-proxy"),
            kube_router: ours("kube-router"),
            coredns: ours("coredns"),
        })
    }
}

/// Beside the lab's other tools.
fn folder() -> Result<PathBuf> {
    Ok(scratch("lab")?.join("tools"))
}

/// A module in `tests/cluster/go`, and the packages in it that are programs.
struct Module {
    name: &'static str,
    programs: &'static [&'static str],
    /// What the linker is told besides.
    flags: &'static str,
}

const MODULES: &[Module] = &[
    Module {
        name: "kubernetes",
        programs: &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-proxy",
            "k8s.io/kubernetes/cmd/kubectl",
        ],
        // Without a version the API server takes itself for one of no features.
        flags: " -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 \
                -X k8s.io/component-base/version.gitMinor=36",
    },
    Module {
        name: "kube-router",
        programs: &["github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"],
        flags: "",
    },
    Module { name: "coredns", programs: &["fedisniff.test/coredns"], flags: "" },
];

impl Module {
    fn source(&self) -> PathBuf {
        root().join("tests/cluster/go").join(self.name)
    }

    /// What the programs are built from and how, in one text.
    fn recipe(&self) -> Result<Vec<u8>> {
        let mut text = format!("{:?} {}\n", self.programs, self.flags).into_bytes();
        for file in ["go.mod", "go.sum", "main.go"] {
            let path = self.source().join(file);
            if file != "main.go" || path.exists() {
                text.extend(std::fs::read(&path).with_context(|| format!("read {}", path.display()))?);
            }
        }
        Ok(text)
    }

    fn stamp(&self) -> Result<PathBuf> {
        Ok(folder()?.join(format!("{}.stamp", self.name)))
    }

    fn is_there(&self) -> Result<bool> {
        let folder = folder()?;
        let same = std::fs::read(self.stamp()?).ok() == Some(self.recipe()?);
        Ok(same && self.programs.iter().all(|package| folder.join(program_of(package)).exists()))
    }
}

/// What `go build` calls a package's program.
fn program_of(package: &str) -> &str {
    package.rsplit('/').next().unwrap_or(package)
}

/// The Go that understands `tool` and a `go` line with three numbers, and can fetch a newer one by itself.
const GO: (u32, u32) = (1, 21);

/// Builds what is missing.
pub(crate) fn install() -> Result<()> {
    let mut missing = Vec::new();
    for module in MODULES {
        if !module.is_there()? {
            missing.push(module);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let go = go()?;
    let folder = folder()?;
    std::fs::create_dir_all(&folder)?;
    // Caches of its own, which go away afterwards: they grow to some 4 GB, and nothing else has a use for them.
    let caches = tempfile::Builder::new().prefix("go").tempdir_in(&folder)?;
    let names: Vec<&str> = missing.iter().map(|module| module.name).collect();
    println!("setup: missing: {} (the cluster's parts; minutes of building)", names.join(", "));
    let built = missing.iter().try_for_each(|module| build(module, &go, &folder, caches.path()));
    // Modules are unpacked without the right to write to them.
    run_command(Command::new("chmod").args(["-R", "u+w"]).arg(caches.path()))?;
    built
}

fn build(module: &Module, go: &Path, folder: &Path, caches: &Path) -> Result<()> {
    let begin = Instant::now();
    let fresh = caches.join(module.name);
    std::fs::create_dir(&fresh).with_context(|| format!("make {}", fresh.display()))?;
    // It takes all cores for minutes; whoever works beside it comes first.
    let mut command = Command::new("nice");
    command.arg(go).current_dir(module.source()).args([
        "build",
        "-trimpath",
        "-mod=readonly",
        "-buildvcs=false",
    ]);
    command
        .arg(format!("-ldflags=-s -w{}", module.flags))
        .arg("-o")
        .arg(fresh.join(""))
        .args(module.programs);
    command.env("GOMODCACHE", caches.join("modules")).env("GOCACHE", caches.join("built"));
    // A newer Go, where the modules want one, comes from the proxy as a module.
    command.env("GOTOOLCHAIN", "auto").env("GOFLAGS", "").env("CGO_ENABLED", "0").env("GOWORK", "off");
    // It tells every module that it fetches, which is of interest only if it fails.
    output(&mut command).with_context(|| format!("build {} (of tests/cluster/go)", module.name))?;
    // By renaming, for one of them may be running.
    for package in module.programs {
        let name = program_of(package);
        std::fs::rename(fresh.join(name), folder.join(name))
            .with_context(|| format!("put {name} into place"))?;
    }
    let stamp = module.stamp()?;
    std::fs::write(&stamp, module.recipe()?).with_context(|| format!("write {}", stamp.display()))?;
    println!("setup: {} is built ({:.0} s)", module.name, begin.elapsed().as_secs_f64());
    Ok(())
}

fn go() -> Result<PathBuf> {
    let (major, minor) = GO;
    let wanted = format!(
        "Go {major}.{minor} or newer is needed (a still newer one, if it must be, it fetches itself)"
    );
    let go = which("go").with_context(|| format!("no go: {wanted}"))?;
    let said = output(Command::new(&go).arg("version").env("GOTOOLCHAIN", "local"))?;
    // `go version go1.26.8 linux/amd64`
    let version = said.split_whitespace().find_map(|word| word.strip_prefix("go1."));
    let number = version.and_then(|v| v.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok());
    if number.is_none_or(|number| number < minor) {
        bail!(
            "{} is {}: {wanted}; Debian's backports and https://go.dev/dl have it",
            go.display(),
            said.trim()
        );
    }
    Ok(go)
}
