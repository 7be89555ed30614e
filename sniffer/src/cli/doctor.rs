//! `fedisniff doctor`: what this machine lacks for watching, and what mends it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::json;
use sniffer::capture::live::doctor::{self, Check, Report, Seen, State};
use sniffer::capture::live::{Interfaces, Options};
use sniffer::enforce::{self, Mode};

use super::text::{DIM, GREEN, RED, RESET, YELLOW, clean};
use super::{Colour, Usage, watch};

/// Say what this machine lacks for watching, and what mends it.
///
/// Looks and changes nothing. Each line begins with ok, warning (watching works, but not as well), missing (it cannot
/// work) or unknown (it could not be looked at: most takes root). Exit code 0 when watching would work, else 1.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interfaces that are to be watched, as for `watch`.
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    interfaces: Vec<String>,
    /// The ring buffer in the kernel, as for `watch`.
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = super::units::size)]
    ring_size: u64,
    /// How to attach, as for `watch`.
    #[arg(long, value_name = "HOW", value_parser = ["tcx", "clsact"])]
    attach: Option<String>,
    /// Print one JSON object (schema fedisniff.doctor/1).
    #[arg(long)]
    json: bool,
    /// When to colour.
    #[arg(long, value_enum, default_value = "auto")]
    color: Colour,
}

/// Names of unwatched interfaces that are shown for each reason.
const NAMES: usize = 8;

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let interfaces =
        Interfaces::new(&arguments.interfaces).map_err(|why| Usage(format!("--interfaces: {why}")))?;
    let options = Options {
        interfaces,
        ring_octets: watch::ring_octets(arguments.ring_size)?,
        attach_by: watch::attach_by(arguments.attach.as_deref()),
        ..Options::default()
    };
    let mut report = doctor::examine(&options);
    report.checks.push(denial());
    let mut out = io::stdout().lock();
    let written = if arguments.json {
        let whole = json!({
            "schema": "fedisniff.doctor/1",
            "works": report.works(),
            "checks": report.checks,
            "interfaces": report.interfaces,
        });
        writeln!(out, "{whole}")
    } else {
        print(&mut out, &report, arguments.color.wanted())
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other.context("write to standard output")?,
    }
    Ok(if report.works() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Denial that `watch --enforce` has pinned, which outlives it.
fn denial() -> Check {
    let check = |state, found| Check { id: "denial", state, found, why: None, mend: None };
    match enforce::look(Path::new(enforce::PINS)) {
        Ok(None) => check(State::Ok, "nothing is denied on this node".into()),
        Ok(Some(pinned)) => {
            let mode = match pinned.mode {
                mode if mode == Mode::Deny as u32 => "what policies do not allow is denied",
                mode if mode == Mode::Audit as u32 => "what policies do not allow is told, and passes",
                _ => "switched off",
            };
            let isolated = if pinned.isolated { ", and whoever is not known" } else { "" };
            let (links, generation) = (pinned.links, pinned.generation);
            check(
                State::Ok,
                format!("{mode}{isolated}: {links} programs, policies of generation {generation}"),
            )
        }
        Err(error) => Check {
            why: Some("denial outlives fedisniff, so it may be there although nothing runs".into()),
            mend: Some("sudo fedisniff doctor".into()),
            ..check(State::Unknown, error.to_string())
        },
    }
}

fn print(out: &mut impl Write, report: &Report, colour: bool) -> io::Result<()> {
    for check in &report.checks {
        print_check(out, check, colour)?;
    }
    print_interfaces(out, &report.interfaces)?;
    let unknown = report.checks.iter().filter(|check| check.state == State::Unknown).count();
    let verdict = match (report.works(), unknown) {
        (true, 0) => "Watching works here.".to_owned(),
        (true, n) => format!("Watching works here, as far as could be seen; {n} not looked at (unknown)."),
        (false, _) => "Watching does not work here; what is `missing` above is in the way.".to_owned(),
    };
    writeln!(out, "\n{verdict}")
}

fn print_check(out: &mut impl Write, check: &Check, colour: bool) -> io::Result<()> {
    let (word, shade) = match check.state {
        State::Ok => ("ok", GREEN),
        State::Warning => ("warning", YELLOW),
        State::Missing => ("missing", RED),
        State::Unknown => ("unknown", DIM),
    };
    let (on, off) = if colour { (shade, RESET) } else { ("", "") };
    let mut found = check.found.trim_end().lines();
    let first = clean(found.next().unwrap_or_default());
    writeln!(out, "{on}{word:<8}{off} {:<13} {first}", check.id)?;
    // What the verifier says has several lines.
    for line in found {
        writeln!(out, "{:22} {}", "", clean(line))?;
    }
    for (label, text) in [("why: ", &check.why), ("do:  ", &check.mend)] {
        if let Some(text) = text {
            writeln!(out, "{:22} {label}{}", "", clean(text))?;
        }
    }
    Ok(())
}

fn print_interfaces(out: &mut impl Write, interfaces: &[Seen]) -> io::Result<()> {
    let mut others: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for seen in interfaces {
        if !seen.watched {
            others.entry(&seen.reason).or_default().push(clean(&seen.name));
            continue;
        }
        writeln!(out, "\nwould watch {} ({})", clean(&seen.name), clean(&seen.reason))?;
        for on in &seen.attached {
            let id = on.program.map(|id| format!(" (program {id})")).unwrap_or_default();
            let ours = if on.ours { ", a fedisniff's" } else { "" };
            writeln!(out, "    {} by {}: {}{id}{ours}", on.hook, on.by, clean(&on.name))?;
        }
    }
    if !others.is_empty() {
        writeln!(out)?;
    }
    for (reason, names) in others {
        let shown = names.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(NAMES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        writeln!(out, "not watched: {shown}{more} ({})", clean(reason))?;
    }
    Ok(())
}
