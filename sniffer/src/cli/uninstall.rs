//! `fedisniff uninstall`: removes what a fedisniff that was killed has left in the kernel.

use std::process::ExitCode;

use anyhow::Result;
use sniffer::capture::live;

/// Removes it, and says what there was.
pub(super) fn run() -> Result<ExitCode> {
    let removed = live::uninstall()?;
    if removed.is_empty() {
        println!("Nothing of fedisniff is in this node's kernel.");
    }
    for what in removed {
        println!("Removed {what}.");
    }
    Ok(ExitCode::SUCCESS)
}
