//! Builds the web viewer. The built files are committed in `ui/dist`, with a list of the hashes of what they were
//! built from (`sha256sum` format, paths relative to `ui/`), so that a user needs no Node.js and a stale build is found.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::shell::{root, run as run_command, scratch};

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

/// The list of hashes, in `ui/dist`.
const SOURCES: &str = "SOURCES.sha256";

/// Folders of `ui/` that the build reads; files directly in `ui/` count as well.
const FOLDERS: &[&str] = &["src", "public"];

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
        build(&ui, None)?;
        let list = ui.join("dist").join(SOURCES);
        std::fs::write(&list, sources(&ui)?).with_context(|| format!("write {}", list.display()))
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
    npm.current_dir(ui).args(["run", "--silent", "build"]);
    if let Some(folder) = into {
        npm.arg("--").arg("--outDir").arg(folder).arg("--emptyOutDir");
    }
    run_command(&mut npm)
}

fn check(ui: &Path) -> Result<()> {
    let list = ui.join("dist").join(SOURCES);
    let recorded = std::fs::read_to_string(&list)
        .with_context(|| format!("read {}: run `cargo xtask ui` and commit ui/dist", list.display()))?;
    let actual = sources(ui)?;
    if recorded == actual {
        return Ok(());
    }
    let missing_in = |a: &str, b: &str| {
        let lines: Vec<&str> = b.lines().collect();
        a.lines()
            .filter(|l| !lines.contains(l))
            .filter_map(|l| l.split("  ").nth(1))
            .map(str::to_owned)
            .collect()
    };
    let mut changed: Vec<String> = missing_in(&actual, &recorded);
    changed.extend(missing_in(&recorded, &actual));
    changed.sort();
    changed.dedup();
    bail!(
        "ui/dist is older than its sources ({}): run `cargo xtask ui` and commit ui/dist",
        changed.join(", ")
    )
}

fn compare(ui: &Path) -> Result<()> {
    let fresh = scratch("xtask")?.join("ui-dist");
    build(ui, Some(&fresh))?;
    let committed = ui.join("dist");
    let (have, want) = (files(&committed)?, files(&fresh)?);
    let have: Vec<PathBuf> = have.into_iter().filter(|f| f != Path::new(SOURCES)).collect();
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

/// One line per source file: its SHA-256, two spaces, its path; sorted by path.
fn sources(ui: &Path) -> Result<String> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(ui)
        .with_context(|| format!("read {}", ui.display()))?
        .filter_map(|entry| entry.ok().filter(|e| e.path().is_file()).map(|e| PathBuf::from(e.file_name())))
        // Documentation does not change what is built.
        .filter(|name| name.extension().is_none_or(|e| e != "md"))
        .collect();
    for folder in FOLDERS.iter().filter(|f| ui.join(f).is_dir()) {
        names.extend(files(&ui.join(folder))?.into_iter().map(|f| Path::new(folder).join(f)));
    }
    names.sort();
    let mut list = String::new();
    for name in names {
        let path = ui.join(&name);
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let digest = Sha256::digest(&bytes);
        for byte in digest {
            write!(list, "{byte:02x}")?;
        }
        writeln!(list, "  {}", name.display())?;
    }
    Ok(list)
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
