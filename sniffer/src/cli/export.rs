//! placeholder
use anyhow::{Result, bail};
use std::process::ExitCode;
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[arg(long)]
    store: Option<std::path::PathBuf>,
}
pub(super) fn run(_: Arguments) -> Result<ExitCode> {
    bail!("later")
}
