//! Runs the fuzz targets of `tests/fuzz` with the pinned stable toolchain: `RUSTC_BOOTSTRAP=1` lets it take the
//! sanitizer's flags, so that no second toolchain is needed. What is found anew goes to `target/fuzz`; the committed
//! corpus (`tests/fuzz/corpus`) is only read, and renewed, small, by `--minimise`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, output, root, run as run_command, scratch, shown};

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The target; all of them, one after the other, without it
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Targets that run at the same time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Which sanitizer to build with: `address` also watches the C code of dependencies; `none` is twice as quick
    #[arg(long, default_value = "address", value_parser = ["address", "none"])]
    sanitizer: String,
    /// Afterwards renew the committed corpus with a small choice of the inputs that reach most
    #[arg(long)]
    minimise: bool,
}

/// A committed input is at most this long: the corpus is for reach, not for bulk.
const INPUT_LIMIT: u64 = 4096;
/// So many are committed for a target; the rest grows again from them.
const INPUTS: usize = 100;

/// Runs what was asked for.
pub(crate) fn run(options: &Options) -> Result<()> {
    let all = targets()?;
    let chosen: Vec<String> = match &options.target {
        Some(name) if all.contains(name) => vec![name.clone()],
        Some(name) => bail!("no fuzz target `{name}`; there are: {}", all.join(", ")),
        None => all,
    };
    build(&options.sanitizer)?;
    for group in chosen.chunks(options.jobs.max(1)) {
        let results: Vec<Result<String>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                group.iter().map(|t| scope.spawn(|| fuzz_one(t, options.seconds))).collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap_or_else(|_| bail!("the thread that watched a target panicked")))
                .collect()
        });
        for (target, result) in group.iter().zip(results) {
            println!("fuzz {target}: {}", result?);
        }
    }
    if options.minimise {
        for target in &chosen {
            minimise(target)?;
        }
    }
    Ok(())
}

/// The names of the targets: the programs of `tests/fuzz/Cargo.toml`.
pub(crate) fn targets() -> Result<Vec<String>> {
    let folder = root().join("tests/fuzz/fuzz_targets");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .with_context(|| format!("read {}", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// Builds all targets.
pub(crate) fn build(sanitizer: &str) -> Result<()> {
    let mut command = cargo();
    // The flags of the ordinary build's environment (coverage, -D warnings) are not meant for this one.
    command.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTFLAGS");
    run_command(command.args(["fuzz", "build", "--fuzz-dir", "tests/fuzz", "--sanitizer", sanitizer]))
}

/// Runs one built target; gives a line of figures, or an error that names the input that broke it.
pub(crate) fn fuzz_one(target: &str, seconds: u64) -> Result<String> {
    let folder = root().join("tests/fuzz");
    let (work, corpus) = (scratch(&format!("fuzz/{target}"))?, folder.join("corpus").join(target));
    let artifacts = folder.join("artifacts").join(target);
    std::fs::create_dir_all(&artifacts)?;
    std::fs::create_dir_all(&corpus)?;
    let mut command = program(target)?;
    command.args(limits()).arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg("-print_final_stats=1");
    command.args([&work, &corpus]);
    let text = shown(&command);
    let result = command.stdin(Stdio::null()).output().with_context(|| format!("run `{text}`"))?;
    let said = String::from_utf8_lossy(&result.stderr);
    let log = scratch("xtask")?.join(format!("fuzz-{target}.log"));
    std::fs::write(&log, said.as_bytes()).with_context(|| format!("write {}", log.display()))?;
    if !result.status.success() {
        let tail: Vec<&str> = said.lines().rev().take(40).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        bail!(
            "{tail}\nfuzz target {target} failed; its log is {}; run it again with `{text}`",
            log.display()
        );
    }
    let figure = |name: &str| {
        said.lines().find_map(|l| l.strip_prefix(&format!("stat::{name}:"))).map_or("?", str::trim).to_owned()
    };
    Ok(format!(
        "{} inputs tried in {seconds} s, {} new ones kept, {} MiB at most",
        figure("number_of_executed_units"),
        figure("new_units_added"),
        figure("peak_rss_mb")
    ))
}

/// An input that needs more is a finding: the budgets of the pipeline are far below.
fn limits() -> [&'static str; 3] {
    ["-timeout=10", "-rss_limit_mb=1500", "-malloc_limit_mb=512"]
}

fn program(target: &str) -> Result<Command> {
    let host = output(Command::new("rustc").current_dir(root()).arg("-vV"))?;
    let triple = host.lines().find_map(|l| l.strip_prefix("host: ")).context("rustc names no host")?;
    let file = root().join("tests/fuzz/target").join(triple).join("release").join(target);
    let mut command = Command::new(file);
    command.current_dir(root());
    Ok(command)
}

fn minimise(target: &str) -> Result<()> {
    let corpus = root().join("tests/fuzz/corpus").join(target);
    let work = scratch(&format!("fuzz/{target}"))?;
    let small = scratch("fuzz-minimised")?.join(target);
    // An earlier result would count as "already covered".
    if small.exists() {
        std::fs::remove_dir_all(&small)?;
    }
    std::fs::create_dir_all(&small)?;
    let mut command = program(target)?;
    command
        .args(limits())
        .args(["-merge=1", &format!("-max_len={INPUT_LIMIT}")])
        .arg(&small)
        .args([&corpus, &work]);
    output(&mut command)?;
    replace(&small, &corpus).with_context(|| format!("renew {}", corpus.display()))
}

fn replace(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(to)? {
        std::fs::remove_file(entry?.path())?;
    }
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        files.push((entry.metadata()?.len(), entry.path()));
    }
    files.retain(|(length, _)| *length <= INPUT_LIMIT);
    files.sort();
    // Spread over all sizes: the small ones reach the corners, the large ones the depth.
    let every = files.len().div_ceil(INPUTS).max(1);
    for (_, file) in files.iter().rev().step_by(every) {
        if let Some(name) = file.file_name() {
            std::fs::copy(file, to.join(name))?;
        }
    }
    Ok(())
}
