//! `cargo run -p tests --bin import-captures -- FOLDER`: turns the logs beside the captures in FOLDER into
//! `tests/traces/NAME.truth.jsonl`. Run by hand when captures are added; the results are committed.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("which folder holds the captures?")?;
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let mut names: Vec<String> = std::fs::read_dir(&folder)?
        .filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".truth.json")?.to_owned()))
        .collect();
    names.sort();
    for name in names {
        let logged = tests::truth::import(Path::new(&folder), &name)?;
        let mut lines = String::new();
        for one in &logged {
            writeln!(lines, "{}", serde_json::to_string(one)?)?;
        }
        std::fs::write(traces.join(format!("{name}.truth.jsonl")), lines)?;
        println!("{name}: {} lines", logged.len());
    }
    Ok(())
}
