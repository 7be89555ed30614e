//! The command line: arguments in, an exit code out. One file per subcommand.
//!
//! Exit codes: 0 done, 1 failed, 2 usage; 3 "denied" of `policy explain`; 128 + N when signal N ended the work early (what was done is kept).

mod auditing;
mod doctor;
mod enforce;
mod export;
mod memory;
mod policy;
mod print;
mod read;
mod serve;
mod summary;
mod tell;
mod text;
mod uninstall;
mod units;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use sniffer::filter::Filter;

/// Watches fediverse servers talk, and explains every exchange in ActivityPub's own terms.
#[derive(Parser)]
#[command(name = "fedisniff", version, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Decode a capture: every HTTP exchange in it, and what it meant.
    Read(read::Arguments),
    /// Watch this node's pods: every HTTP exchange as it happens, and what it meant (root).
    Watch(Box<watch::Arguments>),
    /// Say what this machine lacks for watching, and what mends it.
    Doctor(doctor::Arguments),
    /// Open the web viewer over a store.
    Serve(serve::Arguments),
    /// Write a store's exchanges to a file: HAR, pcapng or JSON lines.
    Export(export::Arguments),
    /// Ask what the NetworkPolicies say, and what kube-router makes of them.
    Policy(policy::Arguments),
    /// Remove all that fedisniff has in the kernel: what one that was killed has left, and denial, which outlives each
    /// (root).
    Uninstall(uninstall::Arguments),
    /// The process beside a watch that attaches by clsact.
    #[command(name = "sweep-after", hide = true)]
    SweepAfter {
        /// The number of that watch.
        number: u16,
    },
}

/// How `watch` starts it.
const SWEEP_AFTER: &[&str] = &["sweep-after"];

/// What to keep of the exchanges.
#[derive(Args)]
struct Selection {
    /// Only exchanges for which this CEL expression is true, as `response.status >= 400` or
    /// `activity.type == "Follow"`. The fields are those of --json.
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
}

impl Selection {
    fn filter(&self) -> Result<Option<Filter>> {
        let Some(text) = &self.filter else { return Ok(None) };
        Ok(Some(
            Filter::parse(text)
                .map_err(|error| Usage(format!("--filter: {error}\n\n{}", point(text, &error))))?,
        ))
    }
}

/// The filter's text with a mark under the place that is wrong.
fn point(text: &str, error: &sniffer::filter::FilterError) -> String {
    let line = text.lines().nth(error.line.saturating_sub(1)).unwrap_or_default();
    format!("  {line}\n  {}^", " ".repeat(error.column.saturating_sub(1)))
}

/// How the viewer is served.
#[derive(Args)]
struct Face {
    /// A host name that the viewer answers to besides addresses and localhost (against DNS rebinding). May repeat.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// The token that the viewer asks for. Without it one is made when ADDR is not a loopback address.
    #[arg(long, env = "FEDISNIFF_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The path below which a reverse proxy serves the viewer.
    #[arg(long, default_value = "/", value_name = "PATH")]
    base_path: String,
    /// Open the viewer in the browser.
    #[arg(long)]
    open: bool,
}

/// Where the viewer listens when --serve is given without an address.
const DEFAULT_ADDRESS: &str = "127.0.0.1:7878";

/// When to colour.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Colour {
    /// When standard output is a terminal and NO_COLOR is not set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// Whether standard output is coloured.
    fn wanted(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                // https://no-color.org: set and not empty.
                std::io::IsTerminal::is_terminal(&std::io::stdout())
                    && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
        }
    }
}

/// An error in what was typed, not in what happened: exit code 2.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Runs the command that the arguments name.
pub(crate) fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap prints help and version to standard output with code 0, mistakes to standard error with code 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // What the edges have to say beside their results, as a store being repaired. Standard output is for exchanges.
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("FEDISNIFF_LOG").unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    let result = match arguments.command {
        Command::Read(arguments) => read::run(arguments),
        Command::Watch(arguments) => watch::run(*arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Uninstall(arguments) => uninstall::run(&arguments),
        Command::SweepAfter { number } => sniffer::capture::live::sweep_after(number)
            .context("remove what a killed fedisniff has left; `fedisniff uninstall` does")
            .map(|()| ExitCode::SUCCESS),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Policy(arguments) => policy::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fedisniff: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// The runtime of the viewer and the signals; decoding has its own threads.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .context("start the runtime")
}

/// Now, for what is about this process; exchanges carry the capture's own time.
fn wall_clock() -> Option<sniffer::frame::Timestamp> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(sniffer::frame::Timestamp(u64::try_from(since.as_nanos()).ok()?))
}

/// A path's last part, for people.
fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// The folder for stores that nobody named: `$XDG_STATE_HOME/fedisniff`, by default `~/.local/state/fedisniff` (XDG
/// Base Directory Specification 0.8).
fn state_folder() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let folder = state.context("neither XDG_STATE_HOME nor HOME is set: give --store DB")?.join("fedisniff");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("make the state folder {}", folder.display()))?;
    Ok(folder)
}

/// The store that was given, else the one under the state folder that was used last.
fn given_or_last_store(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path);
    }
    let folder = state_folder()?;
    let stores = std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let newest = stores
        .filter_map(Result::ok)
        .filter(|file| file.path().extension().is_some_and(|e| e == "redb"))
        .max_by_key(|file| file.metadata().and_then(|m| m.modified()).ok());
    match newest {
        Some(file) => Ok(file.path()),
        None => bail!(Usage(format!(
            "no store was given and there is none in {}: `fedisniff read CAPTURE --store DB` makes one",
            folder.display()
        ))),
    }
}
