//! From start to end on a small capture, in milliseconds of wall time: what a person waits for.

use std::path::Path;

use anyhow::{Context, Result};

use super::decode::{MakeCommand, others};
use super::measure::{Series, command, measured};
use super::traffic::genpcap::{KeepAlive, keep_alive};
use super::traffic::intact::Truth;
use super::traffic::pcap::Writer;
use super::{Bench, report};

/// Exchanges in the small capture: about 6 KB.
const EXCHANGES: u64 = 2;

/// Measures.
pub(super) fn run(bench: &Bench) -> Result<String> {
    let file = bench.folder.join("small.pcap");
    let mut writer = Writer::new(Vec::new())?;
    keep_alive(KeepAlive { connections: 1, exchanges: EXCHANGES, seed: 11 }, &mut writer)?;
    let bytes = writer.into_inner();
    let truth = Truth::read(&*bytes)?;
    std::fs::write(&file, &bytes).with_context(|| format!("write {}", file.display()))?;
    let program = bench.fedisniff.clone();
    let ours = move |file: &Path, _: &Path| command(&program, &["read", &file.display().to_string()]);
    let mut contenders: Vec<(&str, MakeCommand, Series)> =
        vec![("fedisniff", Box::new(ours), Series::default())];
    if !bench.alone {
        let (others, _) = others(bench)?;
        contenders.extend(others.into_iter().map(|c| (c.name, c.command, Series::default())));
    }
    // One more than is kept: the first run of each reads its program from disk.
    for round in 0..=bench.runs.max(5) {
        for (_, command, wall) in &mut contenders {
            let folder = tempfile::Builder::new().prefix("out").tempdir_in(&bench.folder)?;
            let finished = measured(&command(&file, folder.path()))?;
            if round > 0 {
                wall.push(finished.cost.wall_s * 1e3);
            }
        }
    }
    let rows: Vec<Vec<String>> =
        contenders.iter().map(|(name, _, wall)| vec![(*name).to_owned(), wall.show()]).collect();
    Ok(format!(
        "## Start-up\n\n`cargo xtask bench startup`: a capture of {:.1} KB with {} exchanges, from start to end.\n\n{}",
        bytes.len() as f64 / 1e3,
        truth.answered(),
        report::table(&["program", "wall ms: median (min..max)"], &rows)
    ))
}
