//! Every check and test of the repository, in one command with one summary. A part that cannot run here is counted as
//! skipped with its reason; a part that fails shows the end of its log, and the others still run.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, root, scratch, which};
use crate::{fuzz, ui};

/// How much to test.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds for each fuzz target; 0 leaves fuzzing out
    #[arg(long, default_value_t = 20)]
    fuzz_seconds: u64,
    /// Only the parts whose name contains this
    #[arg(long)]
    only: Option<String>,
}

/// Tests passed, failed and skipped.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// What a part came to.
enum Outcome {
    /// It ran, and this is what it counted.
    Ran(Count),
    /// It cannot run here.
    Skipped(String),
}

type Body<'a> = Box<dyn FnMut(&mut Log) -> Result<Outcome> + 'a>;

/// Where a part's programs write.
struct Log {
    path: PathBuf,
    file: File,
}

/// Runs the parts.
pub(crate) fn run(options: &Options) -> Result<()> {
    let ci = std::env::var_os("CI").is_some_and(|v| v != "false" && !v.is_empty());
    let mut total = Count::default();
    let mut failed = Vec::new();
    let begin = Instant::now();
    for (name, mut body) in parts(options, ci) {
        if options.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let started = Instant::now();
        println!("── {name} …");
        let mut log = Log::open(name)?;
        let result = body(&mut log);
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(Outcome::Ran(count)) => {
                total.passed += count.passed;
                total.failed += count.failed;
                total.skipped += count.skipped;
                let skipped =
                    if count.skipped > 0 { format!(", {} skipped", count.skipped) } else { String::new() };
                println!("   {name}: ok, {} passed{skipped} ({seconds:.1} s)", count.passed);
            }
            Ok(Outcome::Skipped(why)) => {
                total.skipped += 1;
                println!("   SKIPPED: {name}: {why}");
            }
            Err(error) => {
                let count = log.count();
                total.passed += count.passed;
                total.failed += count.failed.max(1);
                total.skipped += count.skipped;
                log.show_tail();
                println!("   {name}: FAILED ({seconds:.1} s): {error:#}; the log: {}", log.path.display());
                failed.push(name);
            }
        }
    }
    println!("── {:.0} s in all; logs in {}", begin.elapsed().as_secs_f64(), scratch("xtask")?.display());
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if failed.is_empty() { Ok(()) } else { bail!("{} of the parts failed", failed.len()) }
}

fn parts(options: &Options, ci: bool) -> Vec<(&'static str, Body<'_>)> {
    let mut parts: Vec<(&'static str, Body<'_>)> = vec![
        ("format", check(|| args(&["fmt", "--all", "--", "--check", "--color=never"]))),
        (
            "format of fuzz targets",
            check(|| {
                args(&["fmt", "--manifest-path", "tests/fuzz/Cargo.toml", "--", "--check", "--color=never"])
            }),
        ),
        (
            "clippy",
            check(|| args(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])),
        ),
        (
            "documentation",
            check(|| {
                let mut command = args(&["doc", "--workspace", "--no-deps", "--locked"]);
                command.env("RUSTDOCFLAGS", "-D warnings");
                command
            }),
        ),
        ("pure core alone", tests(|| args(&["test", "--locked", "-p", "sniffer", "--no-default-features"]))),
        ("build", check(|| args(&["build", "--locked", "-p", "sniffer", "--bin", "fedisniff"]))),
        // What takes root is a part of its own, and neither run nor counted here.
        (
            "workspace tests",
            tests(|| {
                args(&["test", "--locked", "--workspace", "--no-fail-fast", "--", "--skip", "as_root::"])
            }),
        ),
        ("kernel's programs are built", Box::new(move |log| ebpf(log, ci))),
        ("lab", Box::new(|log| as_root(log, "lab"))),
        ("kernel", Box::new(|log| as_root(log, "kernel"))),
        ("cluster", Box::new(|log| as_root(log, "cluster"))),
        ("clsact", Box::new(|log| as_root(log, "clsact"))),
        ("doctor", Box::new(|log| as_root(log, "doctor"))),
        ("viewer is built", Box::new(move |log| viewer(log, ci))),
        ("viewer unit tests", Box::new(viewer_tests)),
        ("browser tests on made-up answers", Box::new(|log| browser(log, false))),
        ("browser tests on fedisniff", Box::new(|log| browser(log, true))),
    ];
    if options.fuzz_seconds > 0 {
        parts.push(("fuzz", Box::new(|log| fuzzing(log, options.fuzz_seconds))));
    }
    parts
}

fn args(arguments: &[&str]) -> Command {
    let mut command = cargo();
    command.args(arguments);
    command
}

/// A part that is one command and counts as one test.
fn check<'a>(command: impl Fn() -> Command + 'a) -> Body<'a> {
    Box::new(move |log| {
        log.run(&mut command())?;
        Ok(Outcome::Ran(Count { passed: 1, ..Count::default() }))
    })
}

/// A part that is a test runner.
fn tests<'a>(command: impl Fn() -> Command + 'a) -> Body<'a> {
    Box::new(move |log| {
        log.run(&mut command())?;
        ran(log)
    })
}

fn ebpf(log: &mut Log, ci: bool) -> Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["ebpf", "--check"]);
    if ci {
        command.arg("--rebuild");
    }
    log.run(&mut command)?;
    Ok(Outcome::Ran(Count { passed: 1, ..Count::default() }))
}

/// The tests of one file that need a real kernel or real servers in network namespaces.
fn as_root(log: &mut Log, file: &str) -> Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::Skipped("network namespaces take root".into()));
    }
    log.run(&mut args(&[
        "test",
        "--locked",
        "-p",
        "tests",
        "--test",
        "it",
        "--",
        "--ignored",
        &format!("{file}::as_root::"),
    ]))?;
    ran(log)
}

fn viewer(log: &mut Log, ci: bool) -> Result<Outcome> {
    if !ui::exists() {
        return Ok(Outcome::Skipped("the viewer has no sources yet".into()));
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["ui", "--check"]);
    if ci {
        command.arg("--rebuild");
    }
    log.run(&mut command)?;
    Ok(Outcome::Ran(Count { passed: 1, ..Count::default() }))
}

fn viewer_tests(log: &mut Log) -> Result<Outcome> {
    if !ui::exists() {
        return Ok(Outcome::Skipped("the viewer has no sources yet".into()));
    }
    let folder = root().join("ui");
    ui::npm_install(&folder)?;
    log.run(Command::new("npm").current_dir(folder).args(["run", "--silent", "check"]))?;
    ran(log)
}

/// The capture whose exchanges the browser looks at.
const BROWSED: &str = "tests/traces/s01-gts-gts-traefik-any.pcap.zst";

/// The viewer in a browser: over answers that the tests make up, which reach every state, or over fedisniff itself.
fn browser(log: &mut Log, real: bool) -> Result<Outcome> {
    let is_test = |f: &PathBuf| f.to_str().is_some_and(|f| f.ends_with(".test.mjs"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("tests/browser"))
        .map(|entries| entries.filter_map(|e| Some(e.ok()?.path())).filter(is_test).collect())
        .unwrap_or_default();
    files.sort();
    if files.is_empty() {
        return Ok(Outcome::Skipped("no browser tests yet".into()));
    }
    if which("chromium").is_none() {
        return Ok(Outcome::Skipped("no chromium: run `cargo xtask setup`".into()));
    }
    // Their libraries are the viewer's development dependencies.
    ui::npm_install(&root().join("ui"))?;
    let mut command = Command::new("node");
    command.current_dir(root()).args(["--test", "--test-reporter=tap", "--test-concurrency=1"]);
    if real {
        command.env("FEDISNIFF_BIN", root().join("target/debug/fedisniff"));
        command.env("FEDISNIFF_CAPTURE", root().join(BROWSED));
        files.retain(|f| ["viewer.test.mjs", "har.test.mjs"].iter().any(|name| f.ends_with(name)));
    } else {
        // What is made up cannot be exported.
        files.retain(|f| !f.ends_with("har.test.mjs"));
    }
    log.run(command.args(&files))?;
    ran(log)
}

/// What a test runner counted; none at all is a failure.
fn ran(log: &Log) -> Result<Outcome> {
    let count = log.count();
    if count.passed == 0 {
        bail!("no test ran");
    }
    Ok(Outcome::Ran(count))
}

fn fuzzing(log: &mut Log, seconds: u64) -> Result<Outcome> {
    let mut build = Command::new(std::env::current_exe()?);
    // A build that takes no input reports what is wrong with the targets before any time is spent.
    log.run(build.args(["fuzz", "--seconds", &seconds.to_string(), "--jobs", "2"]))?;
    Ok(Outcome::Ran(Count { passed: fuzz::targets()?.len() as u64, ..Count::default() }))
}

impl Log {
    fn open(name: &str) -> Result<Self> {
        let path = scratch("xtask")?.join(format!("{}.log", name.replace(' ', "-")));
        let file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
        Ok(Self { path, file })
    }

    fn run(&mut self, command: &mut Command) -> Result<()> {
        let text = crate::shell::shown(command);
        writeln!(self.file, "$ {text}")?;
        let status = command
            // Colours are for terminals, and this goes to a file.
            .env("NO_COLOR", "1")
            .env("CARGO_TERM_COLOR", "never")
            .stdin(Stdio::null())
            .stdout(self.file.try_clone()?)
            .stderr(self.file.try_clone()?)
            .status()
            .with_context(|| format!("run `{text}`"))?;
        if status.success() { Ok(()) } else { bail!("`{text}` failed ({status})") }
    }

    fn count(&self) -> Count {
        count(&String::from_utf8_lossy(&std::fs::read(&self.path).unwrap_or_default()))
    }

    fn show_tail(&self) {
        let text = String::from_utf8_lossy(&std::fs::read(&self.path).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        // A person scrolls up; CI's page has no second place to look.
        let shown = if std::io::stdout().is_terminal() { 40 } else { 150 };
        for line in lines.iter().skip(lines.len().saturating_sub(shown)) {
            println!("   | {line}");
        }
    }
}

/// Adds up what test runners said: cargo's `test result:` lines, the totals of TAP as node writes them, vitest's line.
fn count(text: &str) -> Count {
    let mut total = Count::default();
    let number = |text: &str| text.trim().split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    for line in text.lines() {
        if let Some((_, figures)) =
            line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". "))
        {
            for figure in figures.split("; ") {
                match figure.trim().split(' ').nth(1) {
                    Some("passed") => total.passed += number(figure),
                    Some("failed") => total.failed += number(figure),
                    Some("ignored") => total.skipped += number(figure),
                    _ => {}
                }
            }
        } else if let Some(figure) = line.strip_prefix("# pass ") {
            total.passed += number(figure);
        } else if let Some(figure) = line.strip_prefix("# fail ") {
            total.failed += number(figure);
        } else if let Some(figure) = line.strip_prefix("# skipped ") {
            total.skipped += number(figure);
        } else if let Some(figures) = line.trim_start().strip_prefix("Tests  ") {
            for figure in figures.split('|') {
                match figure.trim().split(' ').nth(1) {
                    Some("passed") => total.passed += number(figure),
                    Some("failed") => total.failed += number(figure),
                    Some("skipped") => total.skipped += number(figure),
                    _ => {}
                }
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::{Count, count};

    #[test]
    fn the_lines_of_cargo_of_tap_and_of_vitest_are_added_up() {
        let text = "running 3 tests\n\
            test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s\n\
            test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            # tests 4\n# pass 3\n# fail 1\n# cancelled 0\n# skipped 2\n\
            \x20     Tests  1 failed | 20 passed | 2 skipped (23)\n";
        assert_eq!(count(text), Count { passed: 31, failed: 4, skipped: 5 });
        assert_eq!(count("nothing of that kind"), Count::default());
    }
}
