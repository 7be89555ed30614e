//! `--memory`: what the process may take, and what of it is for open connections.

/// The limit of the process's memory.
#[derive(clap::Args)]
pub(super) struct Memory {
    /// How much memory the process may take, at least 96MiB: open connections with all that is held for them get what is
    /// left beside 64MiB for the rest. When it is spent those not heard of for longest are told as far as they came, and
    /// counted in the summary. A store (--store, --serve) takes its own beside this.
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = least)]
    memory: u64,
}

/// What the process takes beside open connections: the program, the reader with its decompressor, what was learnt, the
/// allocator's slack.
const BESIDE: u64 = 64 << 20;
/// The least that is of use.
const LEAST: u64 = 96 << 20;

impl Memory {
    /// Octets for open connections.
    pub(super) fn for_flows(&self) -> usize {
        usize::try_from(self.memory.saturating_sub(BESIDE)).unwrap_or(usize::MAX)
    }
}

fn least(text: &str) -> Result<u64, String> {
    let memory = super::units::size(text)?;
    if memory < LEAST { Err("less than 96MiB".into()) } else { Ok(memory) }
}
