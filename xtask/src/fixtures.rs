//! Golden files: the tests compare with them, and renew them when asked to.

use anyhow::Result;

use crate::shell::{cargo, run as run_command};

/// What to do with golden files.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write what the code gives now into the golden files; look at `git diff` afterwards
    #[arg(long)]
    bless: bool,
}

/// Runs the tests that have golden files, renewing the files if asked to.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--workspace", "--all-targets"]);
    if options.bless {
        command.env("BLESS", "1").env("INSTA_UPDATE", "always").env("INSTA_FORCE_PASS", "1");
    }
    run_command(&mut command)
}
