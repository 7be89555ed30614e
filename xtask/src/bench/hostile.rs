//! Traffic that is meant to hurt, streamed into standard input: the time must grow with the bytes and no faster, the
//! memory not at all. Both are checked, not only shown.

use std::io::{BufWriter, Write as _};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::measure::{Cost, Running, command};
use super::traffic::genpcap::{Hostile, hostile};
use super::traffic::pcap::Writer;
use super::{Bench, report};

/// What `fedisniff read --memory` is by default, which no input may make it pass.
pub(super) const MEMORY_MIB: f64 = 512.0;
/// Twice the bytes may take this many times as long: twice, and what else happens on the machine.
const LINEAR: f64 = 2.5;
/// Runs shorter than this (s of CPU) say nothing about how the time grows.
const TOO_SHORT: f64 = 1.0;

/// Measures.
pub(super) fn run(bench: &Bench) -> Result<String> {
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for (kind, name) in Hostile::ALL {
        let half = one(bench, kind, bench.bytes / 2)?;
        let whole = one(bench, kind, bench.bytes)?;
        let ratio = whole.cpu_s / half.cpu_s;
        println!(
            "hostile: {name}: {:.1} s for half, {:.1} s and {:.0} MiB for all",
            half.cpu_s, whole.cpu_s, whole.rss_mib
        );
        if half.cpu_s >= TOO_SHORT && ratio > LINEAR {
            wrong.push(format!("{name}: {ratio:.2} times as long for twice the bytes"));
        }
        wrong.extend(passed(name, half.rss_mib.max(whole.rss_mib)));
        rows.push(vec![
            name.to_owned(),
            format!("{:.1}", half.cpu_s),
            format!("{:.1}", whole.cpu_s),
            format!("{ratio:.2}"),
            format!("{:.0}", half.rss_mib),
            format!("{:.0}", whole.rss_mib),
        ]);
    }
    let size = format!("{:.2} GiB", bench.bytes as f64 / f64::from(1 << 30));
    let head = [
        "traffic",
        "CPU s, half",
        &format!("CPU s, {size}"),
        "ratio (linear: 2)",
        "RSS MiB, half",
        "RSS MiB",
    ];
    let table = report::table(&head, &rows);
    if !wrong.is_empty() {
        bail!("{table}\n{}", wrong.join("\n"));
    }
    Ok(format!("## Hostile traffic\n\n`cargo xtask bench hostile --bytes {}`\n\n{table}", bench.bytes))
}

/// What is wrong with that much memory, if anything is.
pub(super) fn passed(name: &str, rss_mib: f64) -> Option<String> {
    (rss_mib > MEMORY_MIB)
        .then(|| format!("{name}: {rss_mib:.0} MiB, more than the {MEMORY_MIB} MiB of --memory"))
}

fn one(bench: &Bench, kind: Hostile, bytes: u64) -> Result<Cost> {
    piped(bench, |to| hostile(kind, bytes, to))
}

/// What it costs to read what `write` writes, through a pipe: it would be gigabytes on disk.
pub(super) fn piped(
    bench: &Bench,
    write: impl FnOnce(&mut Writer<BufWriter<std::process::ChildStdin>>) -> std::io::Result<()>,
) -> Result<Cost> {
    let mut running = Running::start(&command(&bench.fedisniff, &["read", "-", "--quiet"]), Stdio::piped())?;
    let input = running.input().context("its standard input")?;
    let mut to = Writer::new(BufWriter::with_capacity(1 << 16, input))?;
    write(&mut to).context("write to fedisniff")?;
    to.into_inner().flush()?;
    Ok(running.finish()?.cost)
}
