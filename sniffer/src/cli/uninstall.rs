//! `fedisniff uninstall`: removes what a fedisniff has left in the kernel, denial among it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use sniffer::capture::live;
use sniffer::enforce;

/// What to remove.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where denial is pinned, when it is not the usual place.
    #[arg(long, value_name = "FOLDER", default_value = enforce::PINS)]
    pins: PathBuf,
}

/// Removes it, and says what there was.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let pins = &arguments.pins;
    let mut removed = enforce::remove(pins).with_context(|| format!("remove {}", pins.display()))?;
    // The folder itself, when nothing else is in it.
    let _ = std::fs::remove_dir(pins);
    removed.extend(live::uninstall()?);
    if removed.is_empty() {
        println!("Nothing of fedisniff is in this node's kernel.");
    }
    for what in removed {
        println!("Removed {what}.");
    }
    Ok(ExitCode::SUCCESS)
}
