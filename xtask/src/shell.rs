//! Running other programs: where the repository is, what is installed, and commands whose failure says what was run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where commands leave their logs and downloads; ignored by git, kept by nobody.
pub(crate) fn scratch(name: &str) -> Result<PathBuf> {
    let folder = root().join("target").join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// The cargo that runs this (so that the pinned toolchain stays the one in use).
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The path of a program, as a shell would find it, looking into the system folders as well.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let quote = |part: &OsStr| {
        let part = part.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
        if !part.is_empty() && part.chars().all(plain) { part.into_owned() } else { format!("'{part}'") }
    };
    std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect::<Vec<_>>().join(" ")
}

/// Runs a command that shows its own output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let text = shown(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("run `{text}`"))?;
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    Ok(())
}

/// Runs a command and gives its standard output; its standard error becomes part of the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let text = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run `{text}`"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("`{text}` failed ({}): {}", output.status, why.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same command again, as root.
pub(crate) fn again_as_root(why: &str) -> Result<()> {
    if which("sudo").is_none() {
        bail!("{why}: run this as root");
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    let status = command.status().context("run sudo")?;
    match status.code() {
        Some(0) => Ok(()),
        _ => bail!("{why}, and `sudo` did not do it ({status}): run this as root if it was refused"),
    }
}

/// What root wrote below `target` belongs to the one who called sudo, and can be removed by them.
pub(crate) fn give_back(folder: &Path) -> Result<()> {
    let id = |name: &str| std::env::var(name).ok().and_then(|id| id.parse::<u32>().ok());
    let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) else { return Ok(()) };
    let mut left = Vec::from_iter(folder.exists().then(|| folder.to_path_buf()));
    while let Some(path) = left.pop() {
        if path.is_dir() && !path.is_symlink() {
            left.extend(std::fs::read_dir(&path)?.filter_map(|entry| Some(entry.ok()?.path())));
        }
        std::os::unix::fs::lchown(&path, Some(user), Some(group))
            .with_context(|| format!("give {} back", path.display()))?;
    }
    Ok(())
}

/// Makes a folder, also while somebody else takes the empty folder above it away.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    let made = (0..10)
        .map(|_| std::fs::create_dir_all(path))
        .find(|made| !made.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound));
    made.unwrap_or_else(|| std::fs::create_dir_all(path)).with_context(|| format!("make {}", path.display()))
}

/// The end of what a program said.
pub(crate) fn tail(said: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(said).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(15)..];
    shown.iter().map(|line| format!("   | {line}\n")).collect()
}
