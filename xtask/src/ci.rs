//! What CI runs on a fresh clone: install, then test. `.ci/run` calls this and nothing else.

use anyhow::Result;

/// Sets up, then tests.
pub(crate) fn run(options: &crate::test::Options) -> Result<()> {
    crate::setup::run()?;
    crate::test::run(options)
}
