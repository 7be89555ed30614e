//! The house's rules as a test (`tests/it/tidy.rs`), run alone: quick enough for an editor's save hook.

use anyhow::Result;

use crate::shell::{cargo, run as run_command};

/// Runs the tidy test.
pub(crate) fn run() -> Result<()> {
    run_command(cargo().args(["test", "--quiet", "--package", "tests", "--test", "it", "--", "tidy"]))
}
