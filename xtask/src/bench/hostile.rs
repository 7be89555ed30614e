//! Traffic that is meant to hurt, streamed into standard input: the time must grow with the bytes and no faster, the
//! memory not at all.

use std::io::BufWriter;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::measure::{Cost, Running, command};
use super::traffic::genpcap::{Hostile, hostile};
use super::traffic::pcap::Writer;
use super::{Bench, report};

/// Measures.
pub(super) fn run(bench: &Bench) -> Result<String> {
    let mut rows = Vec::new();
    for (kind, name) in Hostile::ALL {
        let half = one(bench, kind, bench.bytes / 2)?;
        let whole = one(bench, kind, bench.bytes)?;
        println!("hostile: {name}: {:.1} s for half, {:.1} s for all", half.cpu_s, whole.cpu_s);
        rows.push(vec![
            name.to_owned(),
            format!("{:.1}", half.cpu_s),
            format!("{:.1}", whole.cpu_s),
            format!("{:.2}", whole.cpu_s / half.cpu_s),
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
    Ok(format!(
        "## Hostile traffic\n\n`cargo xtask bench hostile --bytes {}`\n\n{}",
        bench.bytes,
        report::table(&head, &rows)
    ))
}

fn one(bench: &Bench, kind: Hostile, bytes: u64) -> Result<Cost> {
    let mut running = Running::start(&command(&bench.fedisniff, &["read", "-", "--quiet"]), Stdio::piped())?;
    let input = running.input().context("its standard input")?;
    let mut writer = Writer::new(BufWriter::with_capacity(1 << 16, input))?;
    hostile(kind, bytes, &mut writer).context("write to fedisniff")?;
    drop(writer);
    Ok(running.finish()?.cost)
}
