//! Builds the web viewer. The built files are committed in `ui/dist`, and `ui/dist.sha256` is the hash of what they
//! were built from, so that a user needs no Node.js and a stale build is found.

#[path = "../../sniffer/build/sources.rs"]
pub(crate) mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{root, run as run_command, scratch};
use anyhow::{Context, Result, bail};

/// What to do with the viewer.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Only check that ui/dist was built from the sources that are there
    #[arg(long)]
    check: bool,
    /// With --check: also build anew and compare with ui/dist
    #[arg(long, requires = "check")]
    rebuild: bool,
}

/// Builds or checks.
pub(crate) fn run(options: &Options) -> Result<()> {
    let ui = root().join("ui");
    if !ui.join("package.json").exists() {
        bail!("ui/package.json is not there: the viewer has no sources yet");
    }
    if options.check {
        check(&ui)?;
        if options.rebuild { compare(&ui) } else { Ok(()) }
    } else {
        // npm's build writes the hash, too.
        build(&ui, None)
    }
}

/// Whether there is a viewer to check at all.
pub(crate) fn exists() -> bool {
    root().join("ui/package.json").exists()
}

/// Installs the exact dependencies of a folder's `package-lock.json`, unless that was done already.
pub(crate) fn npm_install(folder: &Path) -> Result<()> {
    let stamp = folder.join("node_modules/.xtask-lock");
    let lock = std::fs::read(folder.join("package-lock.json"))
        .with_context(|| format!("read {}", folder.join("package-lock.json").display()))?;
    if std::fs::read(&stamp).is_ok_and(|done| done == lock) {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    run_command(npm.current_dir(folder).args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]))?;
    std::fs::create_dir_all(folder.join("node_modules"))?;
    std::fs::write(&stamp, lock).with_context(|| format!("write {}", stamp.display()))
}

fn build(ui: &Path, into: Option<&Path>) -> Result<()> {
    npm_install(ui)?;
    let mut npm = Command::new("npm");
    match into {
        None => npm.current_dir(ui).args(["run", "--silent", "build"]),
        Some(folder) => npm
            .current_dir(ui)
            .args(["exec", "--", "vite", "build", "--outDir"])
            .arg(folder)
            .arg("--emptyOutDir"),
    };
    run_command(&mut npm)
}

fn check(ui: &Path) -> Result<()> {
    let record = ui.join("dist.sha256");
    let recorded = std::fs::read_to_string(&record)
        .with_context(|| format!("read {}: run `cargo xtask ui` and commit ui/dist", record.display()))?;
    if recorded.trim()
        != sources::hash(ui).with_context(|| format!("read the sources in {}", ui.display()))?
    {
        bail!("ui/dist is older than its sources: run `cargo xtask ui` and commit ui/dist");
    }
    Ok(())
}

fn compare(ui: &Path) -> Result<()> {
    let fresh = scratch("xtask")?.join("ui-dist");
    build(ui, Some(&fresh))?;
    let committed = ui.join("dist");
    let (have, want) = (files(&committed)?, files(&fresh)?);
    if have != want {
        bail!("ui/dist has {have:?}, a fresh build has {want:?}: run `cargo xtask ui` and commit ui/dist");
    }
    for file in have {
        if std::fs::read(committed.join(&file))? != std::fs::read(fresh.join(&file))? {
            bail!(
                "ui/dist/{} differs from a fresh build: run `cargo xtask ui` and commit it",
                file.display()
            );
        }
    }
    Ok(())
}

/// All files below a folder, relative to it, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inner) = open.pop() {
        let path = folder.join(&inner);
        for entry in std::fs::read_dir(&path).with_context(|| format!("read {}", path.display()))? {
            let name = inner.join(entry?.file_name());
            if folder.join(&name).is_dir() { open.push(name) } else { found.push(name) }
        }
    }
    found.sort();
    Ok(found)
}
