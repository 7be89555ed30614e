//! Exchanges with their readings in, a file of another format out: HAR 1.2 for browsers' network panels, pcapng for
//! packet tools, JSON lines for scripts. It writes as it goes and holds one exchange at a time. Secrets are masked unless
//! it is told otherwise, by the rules of [`crate::redact`]. What is unknown is left out, or said beside.

mod har;
mod jsonl;
mod mask;
mod pcapng;

use std::io::{self, Write};

use crate::activitypub::Reading;
use crate::http::Exchange;

/// What an export is written as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// HTTP Archive 1.2, as browsers' network panels import it.
    Har,
    /// Packets, rebuilt from the exchanges, for Wireshark and its like.
    Pcapng,
    /// `fedisniff.exchange/1`, one object a line.
    Jsonl,
}

impl Format {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Har, Self::Pcapng, Self::Jsonl];

    /// The name on the command line and in the API; also the file name's extension.
    pub fn id(self) -> &'static str {
        match self {
            Self::Har => "har",
            Self::Pcapng => "pcapng",
            Self::Jsonl => "jsonl",
        }
    }

    /// The media type of the file.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Har => "application/json",
            Self::Pcapng => "application/x-pcapng",
            Self::Jsonl => "application/x-ndjson",
        }
    }

    /// The format with this name.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.id() == id)
    }
}

/// How an export is written.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Options {
    /// Secrets are written as they were seen, instead of `••••`.
    pub unmask: bool,
    /// The node that saw the exchanges, where it has a name.
    pub node: Option<String>,
}

/// An export being written: [`Self::push`] each exchange, then [`Self::finish`]. Wrap a file or socket in a buffer.
pub struct Exporter<'w> {
    to: &'w mut dyn Write,
    options: Options,
    state: State,
}

enum State {
    Har(har::Har),
    Pcapng(pcapng::Pcapng),
    Jsonl,
}

impl<'w> Exporter<'w> {
    /// Writes the file's beginning.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn new(format: Format, to: &'w mut dyn Write, options: Options) -> io::Result<Self> {
        let state = match format {
            Format::Har => State::Har(har::Har::begin(to)?),
            Format::Pcapng => State::Pcapng(pcapng::Pcapng::begin(to)?),
            Format::Jsonl => State::Jsonl,
        };
        Ok(Self { to, options, state })
    }

    /// Writes an exchange.
    ///
    /// # Errors
    /// Those of the writer. The file is not whole then.
    pub fn push(&mut self, mut exchange: Exchange, mut reading: Reading) -> io::Result<()> {
        if !self.options.unmask {
            mask::secrets(&mut exchange, &mut reading);
        }
        let node = self.options.node.as_deref();
        match &mut self.state {
            State::Har(har) => har.entry(self.to, node, &exchange, &reading),
            State::Pcapng(pcapng) => pcapng.conversation(self.to, &exchange),
            State::Jsonl => jsonl::line(self.to, node, &exchange, &reading),
        }
    }

    /// Writes the file's end and flushes it.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(self) -> io::Result<()> {
        if let State::Har(har) = self.state {
            har.end(self.to)?;
        }
        self.to.flush()
    }
}

impl std::fmt::Debug for Exporter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
