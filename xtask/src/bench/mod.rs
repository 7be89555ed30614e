//! Measures what fedisniff costs and recovers, beside other programs, in one run on one machine: the ratios are the
//! claim, the seconds are this machine's. Each part writes a section of `target/bench/report.md`, ready for the README.

mod capture;
mod decode;
mod hostile;
mod live;
pub(crate) mod measure;
mod memory;
mod policy;
mod query;
mod recovery;
mod report;
mod startup;
mod traffic;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::shell::{cargo, root, run as run_command, scratch};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The part; all of them without it
    #[arg(value_enum)]
    part: Option<Part>,
    /// Rounds; every program runs once in each
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// A small made-up capture and few rounds: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
    /// Make the capture from a seed instead of with nginx and wrk in network namespaces (which takes root)
    #[arg(long)]
    synthetic: bool,
    /// Bytes of each hostile capture
    #[arg(long, default_value = "2GiB", value_parser = bytes)]
    bytes: u64,
    /// Leave the other programs out
    #[arg(long)]
    alone: bool,
}

/// The parts.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Only make the capture that the others measure on
    Capture,
    /// CPU and memory for decoding, reading and storing a capture
    Decode,
    /// Memory for long captures and for many open flows
    Memory,
    /// Exchanges recovered from damaged captures
    Recovery,
    /// Time and memory on traffic that is meant to hurt
    Hostile,
    /// Answers of the viewer's API over a store of a million exchanges
    Query,
    /// From start to end on a small capture
    Startup,
    /// Policies of a large cluster: read, compiled, asked about
    Policy,
    /// What watching costs while it happens, beside other captures and proxies (root)
    Live,
}

/// What every part needs.
struct Bench {
    /// The measured program, built for release.
    fedisniff: PathBuf,
    folder: PathBuf,
    runs: usize,
    quick: bool,
    synthetic: bool,
    alone: bool,
    bytes: u64,
}

/// Runs the parts that were asked for.
pub(crate) fn run(options: &Options) -> Result<()> {
    let bench = Bench {
        fedisniff: root().join("target/release/fedisniff"),
        folder: scratch("bench")?,
        runs: if options.quick { options.runs.min(2) } else { options.runs.max(1) },
        quick: options.quick,
        synthetic: options.synthetic || options.quick,
        alone: options.alone,
        bytes: if options.quick { options.bytes.min(64 << 20) } else { options.bytes },
    };
    if options.part == Some(Part::Capture) {
        let capture = capture::get(&bench)?;
        println!("{}: {}", capture.file.display(), capture.facts.line());
        return Ok(());
    }
    run_command(cargo().args(["build", "--release", "--locked", "-p", "sniffer", "--bin", "fedisniff"]))
        .context("build what is measured")?;
    let parts: &[Part] = match &options.part {
        Some(part) => std::slice::from_ref(part),
        None => &[
            Part::Startup,
            Part::Decode,
            Part::Memory,
            Part::Recovery,
            Part::Query,
            Part::Policy,
            Part::Hostile,
            Part::Live,
        ],
    };
    for part in parts {
        let (name, section) = match part {
            Part::Decode => ("2-decode", decode::run(&bench)?),
            Part::Memory => ("3-memory", memory::run(&bench)?),
            Part::Recovery => ("4-recovery", recovery::run(&bench)?),
            Part::Hostile => ("6-hostile", hostile::run(&bench)?),
            Part::Query => ("5-query", query::run(&bench)?),
            Part::Startup => ("1-startup", startup::run(&bench)?),
            Part::Live => ("7-live", live::run(&bench)?),
            Part::Policy => ("8-policy", policy::run(&bench)?),
            Part::Capture => continue,
        };
        println!("\n{section}");
        report::keep(&bench.folder, name, &section)?;
    }
    let file = report::assemble(&bench.folder)?;
    println!("the report: {}", file.display());
    Ok(())
}

/// `2GiB`, `500MB`, `1000`.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("`{unit}` is no unit: B, KiB, MiB, GiB, MB or GB")),
    };
    let number: u64 = number.parse().map_err(|_| "not a number of bytes".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}
