//! Builds the programs that run in the kernel. The object is committed in `sniffer-ebpf/object`, beside the hash of what
//! it was built from, so that a user needs neither LLVM nor the standard library's sources, and a stale object is found.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, output, root, run as run_command, scratch, which};
use crate::ui::sources;

/// What to do with the object.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Only check that the object was built from the sources that are there
    #[arg(long)]
    check: bool,
    /// With --check: also build anew and compare
    #[arg(long, requires = "check")]
    rebuild: bool,
}

/// The committed objects, with the programs of the crate that they are.
const OBJECTS: [(&str, &str); 2] = [("fedisniff.o", "fedisniff-ebpf"), ("deny.o", "fedisniff-deny")];
const TARGET: &str = "bpfel-unknown-none";
/// The linker's version: the object's bytes depend on it.
pub(crate) const LINKER: &str = "0.13.0";
/// The LLVM that the linker is built with; it must be at least as new as the pinned rustc's own.
pub(crate) const LLVM: &str = "22";

/// Builds or checks.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = root().join("sniffer-ebpf");
    let record = folder.join("object/sources.sha256");
    let hash = sources::ebpf(&folder).with_context(|| format!("read the sources in {}", folder.display()))?;
    if options.check {
        let recorded = std::fs::read_to_string(&record)
            .with_context(|| format!("read {}: run `cargo xtask ebpf` and commit it", record.display()))?;
        if recorded.trim() != hash {
            bail!("sniffer-ebpf/object is older than its sources: run `cargo xtask ebpf` and commit it");
        }
        if options.rebuild {
            let built = build()?;
            for (name, binary) in OBJECTS {
                let (object, fresh) = (folder.join("object").join(name), built.join(binary));
                if std::fs::read(&object).with_context(|| format!("read {}", object.display()))?
                    != std::fs::read(&fresh)?
                {
                    bail!(
                        "{} differs from a fresh build ({}): run `cargo xtask ebpf` and commit it",
                        object.display(),
                        fresh.display()
                    );
                }
            }
        }
        return Ok(());
    }
    let built = build()?;
    std::fs::create_dir_all(folder.join("object"))?;
    for (name, binary) in OBJECTS {
        let object = folder.join("object").join(name);
        std::fs::copy(built.join(binary), &object).with_context(|| format!("write {}", object.display()))?;
        println!("{}: {} octets", object.display(), std::fs::metadata(&object)?.len());
    }
    std::fs::write(&record, format!("{hash}\n")).with_context(|| format!("write {}", record.display()))
}

/// Builds with the pinned stable toolchain: `RUSTC_BOOTSTRAP=1` lets it build `core` for the kernel's target.
fn build() -> Result<PathBuf> {
    if which("bpf-linker").is_none() && home_bin("bpf-linker").is_none() {
        bail!("bpf-linker is not there: run `cargo xtask setup`");
    }
    let target = scratch("ebpf")?;
    let remap = |from: &str, to: &str| format!("--remap-path-prefix={from}={to}");
    let flags = [
        "-Clinker=bpf-linker".to_owned(),
        // No debug information: it holds paths, and the verifier needs none.
        "-Cdebuginfo=0".to_owned(),
        "-Cpanic=abort".to_owned(),
        // Else the linker has LLVM call functions that copy and clear octet by octet: 88 of them for each packet.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        remap(&root().display().to_string(), "."),
    ];
    let mut command = cargo();
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .args(["build", "--quiet", "--locked", "--release", "--package", "sniffer-ebpf"])
        .args(["--bins", "--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(&target);
    run_command(&mut command)
        .context("build the kernel's programs; `cargo xtask setup` installs what it needs")?;
    Ok(target.join(TARGET).join("release"))
}

fn home_bin(program: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("bin").join(program)).filter(|path| path.is_file())
}

/// Installs the linker and the standard library's sources, where they are missing.
pub(crate) fn set_up() -> Result<()> {
    let sysroot = output(cargo().args(["rustc", "--quiet", "-p", "xtask", "--", "--print", "sysroot"]))
        .or_else(|_| output(std::process::Command::new("rustc").args(["--print", "sysroot"])))?;
    if !PathBuf::from(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir() {
        println!("setup: missing: rust-src (to build the kernel's programs)");
        run_command(
            std::process::Command::new("rustup").args(["component", "add", "rust-src"]).current_dir(root()),
        )
        .context("add rust-src: it comes with rustup")?;
    }
    let linker = home_bin("bpf-linker").or_else(|| which("bpf-linker"));
    let there = linker.is_some_and(|path| {
        output(std::process::Command::new(path).arg("--version")).is_ok_and(|v| v.trim().ends_with(LINKER))
    });
    if !there {
        println!(
            "setup: missing: bpf-linker {LINKER} (links the kernel's programs); building it takes some minutes"
        );
        let features = format!("llvm-{LLVM}");
        run_command(
            cargo()
                .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"))
                .args(["install", "--quiet", "--locked", "bpf-linker", "--version", LINKER])
                .args(["--no-default-features", "--features", &features]),
        )
        .context("install bpf-linker")?;
    }
    Ok(())
}
