//! Exchanges on standard output, a line each: for people, or as JSON.

use std::io::{self, BufWriter, IsTerminal, Write};

use anyhow::{Context, Result};
use sniffer::audit::Finding;
use sniffer::pipeline::Told;
use sniffer::view::{ExchangeView, Row};

use super::{Colour, text};

/// How exchanges are printed.
#[derive(clap::Args)]
pub(super) struct Printing {
    /// Print one JSON object per line (schema fedisniff.exchange/1) instead of text.
    #[arg(long, conflicts_with = "quiet")]
    pub(super) json: bool,
    /// Print no exchanges, only the summary.
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// When to colour.
    #[arg(long, value_enum, default_value = "auto")]
    color: Colour,
    /// The language of the sentences: en or ja; by default as LC_ALL, LC_MESSAGES or LANG say.
    #[arg(long, value_parser = ["en", "ja"])]
    lang: Option<String>,
}

/// Prints exchanges; remembers that the reader of standard output went away.
pub(super) struct Printer {
    out: BufWriter<io::Stdout>,
    how: How,
    /// Whoever watches a pipe or a terminal sees each exchange at once; a file is written in blocks.
    flush_each: bool,
    failure: Option<io::Error>,
}

enum How {
    Not,
    Json,
    Text(text::Lines),
}

impl Printer {
    /// With `at_once` each line is written as soon as it is known.
    pub(super) fn new(printing: &Printing, at_once: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let colour = printing.color.wanted();
        let how = if printing.quiet {
            How::Not
        } else if printing.json {
            How::Json
        } else {
            How::Text(text::Lines::new(colour, japanese(printing)))
        };
        Self {
            out: BufWriter::with_capacity(64 << 10, io::stdout()),
            how,
            flush_each: terminal || at_once,
            failure: None,
        }
    }

    /// Prints an exchange.
    pub(super) fn print(&mut self, told: &Told) {
        if self.failure.is_some() {
            return;
        }
        let written = match &mut self.how {
            How::Not => return,
            How::Json => {
                serde_json::to_writer(&mut self.out, &ExchangeView::new(None, &told.exchange, &told.reading))
                    .map_err(io::Error::from)
                    .and_then(|()| self.out.write_all(b"\n"))
            }
            How::Text(lines) => {
                writeln!(self.out, "{}", lines.line(&Row::new(&told.exchange, &told.reading)))
            }
        };
        let written = written.and_then(|()| if self.flush_each { self.out.flush() } else { Ok(()) });
        self.failure = written.err();
    }

    /// Prints what the audit found.
    pub(super) fn finding(&mut self, finding: &Finding) {
        if self.failure.is_some() {
            return;
        }
        let written = match &self.how {
            How::Not => return,
            How::Json => serde_json::to_writer(&mut self.out, finding)
                .map_err(io::Error::from)
                .and_then(|()| self.out.write_all(b"\n")),
            How::Text(lines) => writeln!(self.out, "{}", lines.finding(finding)),
        };
        let written = written.and_then(|()| if self.flush_each { self.out.flush() } else { Ok(()) });
        self.failure = written.err();
    }

    /// Whoever read has gone, or the disk is full.
    pub(super) fn nobody_reads(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether lines go to the terminal as they come, where a status line must make way for them.
    pub(super) fn shares_terminal(&self) -> bool {
        self.flush_each && !matches!(self.how, How::Not)
    }

    /// A reader that left (`| head`) is not a failure; a full disk is.
    pub(super) fn finish(&mut self) -> Result<()> {
        let result = match self.failure.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("write to standard output"),
        }
    }
}

fn japanese(printing: &Printing) -> bool {
    let from_environment = || {
        ["LC_ALL", "LC_MESSAGES", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
    };
    match &printing.lang {
        Some(lang) => lang == "ja",
        None => from_environment().is_some_and(|lang| lang.starts_with("ja")),
    }
}
