//! The report: one Markdown section per part, kept in files so that parts can be measured one at a time.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell::output;

/// The machine, in a line: figures mean nothing without it.
pub(crate) fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map(|l| l.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse::<u64>().ok());
    let kernel = output(Command::new("uname").arg("-r")).unwrap_or_default();
    let rust =
        output(Command::new("rustc").current_dir(crate::shell::root()).arg("--version")).unwrap_or_default();
    format!(
        "{cores} cores ({}), {} GiB, Linux {}, {}",
        model.unwrap_or("unknown processor"),
        memory.unwrap_or(0) / (1 << 20),
        kernel.trim(),
        rust.trim()
    )
}

/// A Markdown table.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head.to_vec()) + &line(head.iter().map(|_| "---").collect());
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

/// Keeps a part's section.
pub(crate) fn keep(folder: &Path, name: &str, section: &str) -> Result<()> {
    let folder = folder.join("sections");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{name}.md"));
    std::fs::write(&file, section).with_context(|| format!("write {}", file.display()))
}

/// Puts the sections that there are together.
pub(crate) fn assemble(folder: &Path) -> Result<PathBuf> {
    let sections = folder.join("sections");
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(&sections)?.map(|e| Ok(e?.path())).collect::<Result<_, std::io::Error>>()?;
    names.sort();
    let mut text = format!("# What fedisniff costs and recovers\n\nMeasured on {}.\n", machine());
    for name in names {
        text += "\n";
        text += &std::fs::read_to_string(&name)?;
    }
    let file = folder.join("report.md");
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}
