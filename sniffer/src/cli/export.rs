//! `fedisniff export`: a store's exchanges into a file of another format; also for the viewer's downloads.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;
use sniffer::export::{Exporter, Format, Options};
use sniffer::store::{self, Cursor, Query, Store};
use sniffer::viewer::{Export, ExportFormat};

use super::{Selection, Usage};

/// Write a store's exchanges to a file: HAR, pcapng or JSON lines.
///
/// Secrets (tokens, cookies, passwords) are masked unless --unmask is given. A pcapng holds conversations that are
/// rebuilt from what is stored, and says so in each packet's comment: the frames themselves are not kept.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The store; by default the one under the state folder that was used last.
    #[arg(long, value_name = "DB")]
    store: Option<PathBuf>,
    /// The format of the file.
    #[arg(long, value_enum)]
    format: FormatName,
    #[command(flatten)]
    selection: Selection,
    /// The file to write; standard output by default. It appears when it is whole.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write secrets as they were seen.
    #[arg(long)]
    unmask: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    /// HTTP Archive 1.2, for a browser's network panel.
    Har,
    /// Packets, for Wireshark and its like.
    Pcapng,
    /// fedisniff.exchange/1, one object a line.
    Jsonl,
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    let filter = arguments.selection.filter()?;
    let format = match arguments.format {
        FormatName::Har => Format::Har,
        FormatName::Pcapng => Format::Pcapng,
        FormatName::Jsonl => Format::Jsonl,
    };
    let path = super::given_or_last_store(arguments.store)?;
    let store = Store::open(&path, store::Options { must_exist: true, ..store::Options::default() })?;
    let query = Query {
        filter: filter.as_ref(),
        federation: false,
        from: None,
        to: None,
        cursor: Cursor::Oldest,
        limit: usize::MAX,
        scan_limit: usize::MAX,
    };
    let options = Options { unmask: arguments.unmask, node: None };
    let output = arguments.output.filter(|o| o != Path::new("-"));
    let count = match &output {
        None => {
            if format == Format::Pcapng && io::stdout().is_terminal() {
                return Err(Usage("a pcapng is not for terminals: give -o FILE, or pipe it".into()).into());
            }
            match write(&store, &query, format, options, &mut BufWriter::new(io::stdout())) {
                Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(ExitCode::SUCCESS);
                }
                other => other.map_err(anyhow::Error::from).context("export to standard output")?,
            }
        }
        Some(file) => write_whole(file, |to| write(&store, &query, format, options, to))
            .with_context(|| format!("export to {}", file.display()))?,
    };
    let to = output.map_or_else(String::new, |o| format!(" to {}", o.display()));
    eprintln!("{count} exchange{} written{to}", if count == 1 { "" } else { "s" });
    Ok(ExitCode::SUCCESS)
}

/// Which side failed: the store, or whoever takes the file.
#[derive(Debug)]
enum Failure {
    Store(store::Error),
    Write(io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

fn write(
    store: &Store,
    query: &Query<'_>,
    format: Format,
    options: Options,
    to: &mut dyn Write,
) -> Result<u64, Failure> {
    let mut exporter = Exporter::new(format, to, options).map_err(Failure::Write)?;
    let mut count = 0;
    let mut failure = None;
    store
        .for_each(query, &mut |stored| {
            count += 1;
            failure = exporter.push(stored.exchange, stored.reading).err();
            failure.is_none()
        })
        .map_err(Failure::Store)?;
    match failure {
        Some(error) => Err(Failure::Write(error)),
        None => exporter.finish().map(|()| count).map_err(Failure::Write),
    }
}

/// Writes beside the file and renames at the end: nobody finds half a file, and an older one stays until then.
fn write_whole(file: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<u64, Failure>) -> Result<u64> {
    // A pipe or device takes what it gets; only plain files can be replaced.
    if std::fs::metadata(file).is_ok_and(|m| !m.is_file()) {
        let target = std::fs::OpenOptions::new().write(true).open(file)?;
        return Ok(fill(&mut BufWriter::new(target))?);
    }
    let mut name = file.file_name().context("the name of a file is needed")?.to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let beside = file.with_file_name(name);
    let result = std::fs::File::create(&beside)
        .map_err(anyhow::Error::from)
        .and_then(|target| Ok(fill(&mut BufWriter::new(target))?))
        .and_then(|count| Ok(std::fs::rename(&beside, file).map(|()| count)?));
    if result.is_err() {
        // It may not exist; what failed is told by the result.
        let _ = std::fs::remove_file(&beside);
    }
    result
}

/// The viewer's download.
pub(super) fn for_viewer(
    store: &Store,
    export: &Export,
    to: &mut dyn Write,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let format = match export.format {
        ExportFormat::Har => Format::Har,
        ExportFormat::Jsonl => Format::Jsonl,
        ExportFormat::Pcapng => Format::Pcapng,
    };
    write(store, &export.query(), format, Options { unmask: export.unmask, node: None }, to)?;
    Ok(())
}
