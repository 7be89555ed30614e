//! Memory: that it does not grow with the length of a capture, and what an open flow costs.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::measure::{command, measured};
use super::traffic::genpcap::open_flows;
use super::traffic::pcap::{Reader, Record, Writer};
use super::{Bench, capture, decode, hostile, report};

/// Flows that are open at once.
const FLOWS: [u32; 3] = [1_000, 20_000, 100_000];

/// Measures.
pub(super) fn run(bench: &Bench) -> Result<String> {
    let capture = capture::get(bench)?;
    let twice = twice(bench, &capture.file)?;
    let mut rows = Vec::new();
    for (name, file) in [("the capture", &capture.file), ("twice its length", &twice)] {
        let mut row = vec![format!("{name}, {:.0} MB", file.metadata()?.len() as f64 / 1e6)];
        for extra in [&["--no-bodies"][..], &[], &["--store", "DB"]] {
            row.push(format!("{:.0}", ours(bench, file, extra)?));
        }
        rows.push(row);
    }
    std::fs::remove_file(&twice)?;
    let head = ["peak RSS MiB", "decoding alone", "with bodies and readings", "into a store"];
    let mut text = format!("## Memory\n\n`cargo xtask bench memory`\n\n{}", report::table(&head, &rows));

    let counts = if bench.quick { &FLOWS[..2] } else { &FLOWS[..] };
    let mut programs: Vec<(&str, Vec<f64>)> = vec![("fedisniff", Vec::new())];
    let others = if bench.alone { Vec::new() } else { decode::others(bench)?.0 };
    // httpry holds nothing: it has no flows.
    let others: Vec<_> = others.into_iter().filter(|c| c.name != "httpry").collect();
    programs.extend(others.iter().map(|c| (c.name, Vec::new())));
    for flows in counts {
        let file = flows_file(bench, *flows)?;
        for (name, figures) in &mut programs {
            let figure = match others.iter().find(|c| c.name == *name) {
                None => ours(bench, &file, &[])?,
                Some(other) => {
                    let folder = tempfile::Builder::new().prefix("out").tempdir_in(&bench.folder)?;
                    measured(&(other.command)(&file, folder.path()))?.cost.rss_mib
                }
            };
            figures.push(figure);
        }
        std::fs::remove_file(&file)?;
    }
    let (first, last) = (f64::from(counts[0]), f64::from(counts[counts.len() - 1]));
    let rows: Vec<Vec<String>> = programs
        .iter()
        .map(|(name, figures)| {
            let each = (figures[figures.len() - 1] - figures[0]) * 1024.0 / (last - first);
            let mut row = vec![(*name).to_owned()];
            row.extend(figures.iter().map(|f| format!("{f:.0}")));
            row.push(format!("{each:.1}"));
            row
        })
        .collect();
    let counts: Vec<String> = counts.iter().map(|n| format!("{n} flows")).collect();
    let mut head = vec!["peak RSS MiB"];
    head.extend(counts.iter().map(String::as_str));
    head.push("KiB per open flow");
    text += "\nOpen at once, each with a POST of 1,000 octets and half of a response of 2,800:\n\n";
    text += &report::table(&head, &rows);
    if !bench.quick {
        let rss_mib = hostile::piped(bench, |to| open_flows(MANY, to))?.rss_mib;
        text +=
            &format!("\nfedisniff with {MANY} such flows, more than its memory holds: {rss_mib:.0} MiB.\n");
        if let Some(wrong) = hostile::passed("that many open flows", rss_mib) {
            bail!("{text}\n{wrong}");
        }
    }
    Ok(text)
}

/// More flows than the memory holds: the rest must be evicted, not kept.
const MANY: u32 = 1_000_000;

fn ours(bench: &Bench, file: &Path, extra: &[&str]) -> Result<f64> {
    let folder = tempfile::Builder::new().prefix("out").tempdir_in(&bench.folder)?;
    let mut all = command(&bench.fedisniff, &["read", &file.display().to_string(), "--quiet"]);
    all.extend(extra.iter().map(|a| if *a == "DB" { folder.path().join("db").into() } else { (*a).into() }));
    Ok(measured(&all)?.cost.rss_mib)
}

/// The capture twice, the second time a day later: other flows on the same addresses and ports.
fn twice(bench: &Bench, file: &Path) -> Result<PathBuf> {
    let out = bench.folder.join("twice.pcap");
    let mut to = Writer::new(BufWriter::with_capacity(1 << 20, File::create(&out)?))?;
    let mut record = Record { time: 0, bytes: Vec::new() };
    for later in [0, 86_400_000_000_000] {
        let mut from = Reader::new(BufReader::with_capacity(1 << 20, File::open(file)?))?;
        while from.next_into(&mut record)? {
            to.write(record.time + later, &record.bytes)?;
        }
    }
    to.into_inner().flush()?;
    Ok(out)
}

fn flows_file(bench: &Bench, flows: u32) -> Result<PathBuf> {
    let out = bench.folder.join(format!("flows-{flows}.pcap"));
    let to = File::create(&out).with_context(|| format!("write {}", out.display()))?;
    let mut to = Writer::new(BufWriter::with_capacity(1 << 20, to))?;
    open_flows(flows, &mut to)?;
    to.into_inner().flush()?;
    Ok(out)
}
