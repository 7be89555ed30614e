//! Recovery: of the exchanges of a damaged capture that lost no byte, how many are reported whole; and that nothing is
//! invented. The truth comes from the undamaged capture, by code that shares nothing with the product.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::decode::{Contender, others};
use super::measure::measured;
use super::traffic::intact::{Score, Truth};
use super::traffic::mangle::{Damage, plan};
use super::traffic::pcap::{Reader, Record, Writer};
use super::{Bench, capture, report};

const SEED: u64 = 20_261_123;

/// Measures.
pub(super) fn run(bench: &Bench) -> Result<String> {
    let capture = capture::get(bench)?;
    let truth = capture::truth(&capture.file)?;
    let records = read_all(&capture.file)?;
    let (others, mut skipped) = if bench.alone { Default::default() } else { others(bench)? };
    let others: Vec<Contender> =
        others.into_iter().filter(|c| !matches!(c.name, "tcpflow" | "httpry")).collect();
    let mut rows = Vec::new();
    for damage in [Damage::None].into_iter().chain(Damage::MEASURED) {
        let plan = plan(truth.records, damage, SEED);
        let file = bench.folder.join("damaged.pcap");
        write_damaged(&file, &records, &plan)?;
        let intact = truth.intact(&plan);
        let score = ours(bench, &file, &truth, &intact)?;
        println!("recovery: {}: {score:?}", damage.name());
        let lies = [
            (score.wrong_bodies, "wrong bodies"),
            (score.false_whole, "holes not marked"),
            (score.mispaired, "wrong pairs"),
            (score.repeated, "said twice"),
            (score.unhashed, "without hash"),
        ];
        let lies: Vec<String> =
            lies.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let mut row = vec![
            damage.name(),
            score.intact.to_string(),
            format!("{} ({:.2} %)", score.whole, score.percent()),
            if lies.is_empty() { "none".to_owned() } else { lies.join(", ") },
        ];
        for other in &others {
            let folder = tempfile::Builder::new().prefix("out").tempdir_in(&bench.folder)?;
            let finished = measured(&(other.command)(&file, folder.path()))?;
            let found = (other.found)(&finished, folder.path())?.unwrap_or(0);
            row.push(format!("{found} ({:.1} %)", found as f64 * 100.0 / score.intact.max(1) as f64));
        }
        rows.push(row);
        std::fs::remove_file(&file)?;
    }
    let mut head = vec!["damage", "intact", "fedisniff: whole", "invented"];
    head.extend(others.iter().map(|c| c.name));
    let mut text = format!(
        "## Recovery\n\n`cargo xtask bench recovery` on {}. *Intact*: answered, and no byte lost. The other programs' \
         figures are the answers that they reported, whether or not the body was whole.\n\n{}",
        capture.facts.line(),
        report::table(&head, &rows)
    );
    skipped.retain(|(name, _)| !matches!(*name, "tcpflow" | "httpry"));
    for (name, why) in skipped {
        text += &format!("\nSKIPPED: {name}: {why}\n");
    }
    Ok(text)
}

/// Runs fedisniff on a file and holds its lines against the truth as they come.
fn ours(bench: &Bench, file: &Path, truth: &Truth, intact: &[bool]) -> Result<Score> {
    let mut child = Command::new(&bench.fedisniff)
        .args(["read", "--json"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("start fedisniff")?;
    let lines = BufReader::with_capacity(1 << 20, child.stdout.take().context("its output")?).split(b'\n');
    let mut failed = None;
    let values = lines.map_while(|line| {
        line.map_err(anyhow::Error::from)
            .and_then(|line| serde_json::from_slice(&line).context("a line that is not JSON"))
            .map_err(|error| failed = Some(error))
            .ok()
    });
    let score = truth.score(intact, values);
    if let Some(error) = failed {
        return Err(error);
    }
    ensure!(child.wait()?.success(), "fedisniff failed on a damaged capture");
    Ok(score)
}

fn read_all(file: &Path) -> Result<Vec<Record>> {
    let reader = Reader::new(BufReader::with_capacity(1 << 20, File::open(file)?))?;
    reader.collect::<std::io::Result<Vec<Record>>>().with_context(|| format!("read {}", file.display()))
}

/// Records in the planned order; each keeps its own time, so displaced ones lie before their neighbour's.
fn write_damaged(file: &Path, records: &[Record], plan: &[u32]) -> Result<()> {
    let mut to = Writer::new(BufWriter::with_capacity(1 << 20, File::create(file)?))?;
    for number in plan {
        let record = records.get(*number as usize).context("a plan for another capture")?;
        to.write(record.time, &record.bytes)?;
    }
    to.into_inner().flush()?;
    Ok(())
}
