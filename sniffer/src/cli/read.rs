//! `fedisniff read`: a capture in, exchanges out: as lines, as JSON, into a store, into the viewer.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sniffer::audit::Auditor;
use sniffer::capture::{Item, Source};
use sniffer::frame::{Interface, Timestamp};
use sniffer::pipeline::{self, Pipeline};
use sniffer::store::Store;
use sniffer::viewer::{SourceKind, Status};

use super::auditing::Auditing;
use super::print::{Printer, Printing};
use super::summary::Figures;
use super::tell::{Keeping, Line, Teller, recorder};
use super::{DEFAULT_ADDRESS, Face, Selection, Usage, file_name, serve};
use crate::node::{Recorder, Stop, StoppableInput};

/// Decode a capture: every HTTP exchange in it, and what it meant.
///
/// Takes pcap and pcapng, also compressed with gzip or zstd, from tcpdump, dumpcap, Wireshark and others. Prints a
/// line per exchange as it completes, or JSON with --json.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The capture file; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Keep the exchanges in this store (made if it does not exist). With --serve and without this, a store of the
    /// capture's own is made anew under the state folder.
    #[arg(long, value_name = "DB")]
    store: Option<PathBuf>,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    selection: Selection,
    /// Open the web viewer at this address and stay until Ctrl-C.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = DEFAULT_ADDRESS)]
    serve: Option<String>,
    #[command(flatten)]
    face: Face,
    /// Do not look into bodies: no hashes, no content decoding, no readings. For counting, as fast as can be.
    #[arg(long)]
    no_bodies: bool,
    #[command(flatten)]
    keeping: Keeping,
    /// Audit what the pods try against the NetworkPolicies in this file or folder of Kubernetes objects (as `kubectl get
    /// -A -o yaml` writes them). Each thing that they do not allow is told after the exchanges, with what became of it.
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    let filter = arguments.selection.filter()?;
    let runtime = super::runtime()?;
    let stop = Stop::on_signals(runtime.handle())?;

    // What can fail for the user's reasons comes before the long work: the port, the file, the store.
    let listener = arguments.serve.as_deref().map(|a| runtime.block_on(serve::bind(a))).transpose()?;
    let stdin = arguments.file == Path::new("-");
    let source = if stdin {
        if io::stdin().is_terminal() {
            return Err(
                Usage("standard input is a terminal: pipe a capture into `fedisniff read -`".into()).into()
            );
        }
        Source::from_reader("standard input", StoppableInput::stdin(stop.clone()), None)
    } else {
        Source::open(&arguments.file)
    }?;
    let state = arguments.cluster.as_deref().map(super::policy::state).transpose()?;
    let store = open_store(&arguments)?;

    let name = if stdin { "standard input".into() } else { file_name(&arguments.file) };
    let mut auditing = Auditing::of_capture(&name, store.is_some());
    if let Some(state) = state {
        auditing.state(state, Timestamp::default());
    }
    let face = match (listener, &store) {
        (Some(listener), Some(store)) => {
            let mut status = Status::new(SourceKind::File, name);
            status.started = super::wall_clock();
            let running = serve::start(&runtime, listener, store.clone(), &arguments.face, status, &stop)?;
            // A pipe may go on for hours; a file is read first, so that the page has something to show.
            if stdin {
                running.announce(arguments.face.open);
            }
            Some(running)
        }
        _ => None,
    };
    let recorder = store.clone().map(|store| recorder(store, face.as_ref()));

    let mut reading = Reading {
        pipeline: Pipeline::new(config(&arguments)),
        teller: Teller::new(
            filter,
            Printer::new(&arguments.printing, stdin),
            recorder,
            auditing,
            Progress::new(),
        ),
        face,
        stop: stop.clone(),
        frames: 0,
    };
    let damaged = reading.all(source);
    let Reading { pipeline, teller, face, .. } = reading;
    let Teller { mut printer, recorder, line, exchanges, matched, lost, auditing, .. } = teller;
    line.clear();
    for finding in auditing.auditor().into_iter().flat_map(Auditor::findings) {
        printer.finding(finding);
    }
    printer.finish()?;
    let stored = recorder.map(Recorder::finish).transpose();
    let counters = pipeline.counters();
    if let Some(face) = &face {
        let publisher = face.publisher();
        publisher.update(|status| {
            status.counters = Some(Arc::new(counters.clone()));
            status.lost = lost.clone();
        });
        publisher.done(damaged.as_ref().err().map(|e| format!("{e:#}")));
    }
    let stored = stored.context("store the exchanges")?;
    let figures = Figures {
        counters: &counters,
        exchanges,
        matched,
        filtered: arguments.selection.filter.is_some(),
        lost_frames: lost.frames,
        stored,
        store: store.as_ref(),
        auditor: auditing.auditor(),
    };
    for line in figures.lines() {
        eprintln!("{line}");
    }

    let code = match (&damaged, stop.exit_code()) {
        (_, Some(code)) => {
            eprintln!("fedisniff: interrupted; what was read until then is told above");
            ExitCode::from(code)
        }
        (Err(error), None) => {
            eprintln!("fedisniff: {error:#}");
            ExitCode::FAILURE
        }
        (Ok(()), None) => ExitCode::SUCCESS,
    };
    if let Some(face) = face {
        if !stop.is_set() {
            if !stdin {
                face.announce(arguments.face.open);
            }
            // Ctrl-C is how one leaves the viewer: no failure, and not an interrupted reading.
            runtime.block_on(stop.wait());
        }
        face.shut_down(&runtime)?;
    }
    Ok(code)
}

fn config(arguments: &Arguments) -> pipeline::Config {
    let mut config = arguments.keeping.pipeline();
    if arguments.no_bodies {
        config.readings = false;
        config.http.keep_body = 0;
        config.http.hash = false;
        config.http.decode_content = false;
    }
    config
}

/// The store that was named; with --serve and without a name, one of the capture's own, made anew: what an older
/// fedisniff had understood of the same capture must not stay.
fn open_store(arguments: &Arguments) -> Result<Option<Store>> {
    let options = arguments.keeping.store();
    if let Some(path) = &arguments.store {
        return Ok(Some(Store::open(path, options)?));
    }
    if arguments.serve.is_none() {
        return Ok(None);
    }
    let whole = std::fs::canonicalize(&arguments.file).unwrap_or_else(|_| arguments.file.clone());
    // Two captures of one name in two folders are two stores.
    let folder = whole.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let stem = if arguments.file == Path::new("-") { "stdin".into() } else { file_name(&arguments.file) };
    let path = super::state_folder()?.join(format!("{stem}-{folder:016x}.redb"));
    if path.exists() {
        // Opening first: a store that another process has open must not be pulled from under it.
        drop(Store::open(&path, options)?);
        std::fs::remove_file(&path).with_context(|| format!("replace the store {}", path.display()))?;
    }
    Ok(Some(Store::open(&path, options)?))
}

/// Everything that a frame may touch, on the reading thread.
struct Reading {
    pipeline: Pipeline,
    teller: Teller<Progress>,
    face: Option<serve::Running>,
    stop: Stop,
    frames: u64,
}

impl Reading {
    /// Reads to the end, to damage, or to a signal; whatever it was, all that came before is told.
    fn all(&mut self, mut source: Source) -> Result<()> {
        let result = loop {
            match source.next() {
                Ok(Some(Item::Frame(frame))) => {
                    self.frames += 1;
                    self.teller.frame(&frame, &mut self.pipeline);
                }
                Ok(Some(Item::Interface { number, name, .. })) => {
                    self.teller.name(Interface::Declared(number), name, &mut self.pipeline);
                }
                Ok(Some(Item::Loss(loss))) => self.teller.loss(&loss, &mut self.pipeline),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
            if !self.teller.go_on {
                return Ok(());
            }
            if self.frames.is_multiple_of(1_024) {
                if self.stop.is_set() {
                    break Ok(());
                }
                self.teller.auditing.changed(|_| {});
                self.teller.beat(None);
                let percent = source.progress().percent();
                self.teller.line.show(percent, self.frames, self.teller.exchanges);
                if let Some(face) = &self.face {
                    let counters = Arc::new(self.pipeline.counters());
                    let lost = self.teller.lost.clone();
                    face.publisher().update(|status| {
                        status.source.percent = percent;
                        status.counters = Some(counters);
                        status.lost = lost;
                    });
                }
            }
        };
        let in_order = result.is_ok() && !self.stop.is_set();
        self.teller.finish(&mut self.pipeline, None, in_order);
        result
    }
}

/// How far the reading is, on standard error when that is a terminal.
struct Progress {
    terminal: bool,
    shown: bool,
    last: Instant,
    started: Instant,
}

impl Line for Progress {
    fn clear(&self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self { terminal: io::stderr().is_terminal(), shown: false, last: now, started: now }
    }

    fn show(&mut self, percent: Option<u8>, frames: u64, exchanges: u64) {
        // Short work shows nothing; what flickers past cannot be read.
        if !self.terminal
            || self.started.elapsed() < Duration::from_millis(500)
            || self.last.elapsed() < Duration::from_millis(100)
        {
            return;
        }
        self.last = Instant::now();
        self.shown = true;
        let percent = percent.map_or_else(String::new, |p| format!("{p:>3} %  "));
        eprint!("\r\x1b[K{percent}{frames} frames, {exchanges} exchanges");
    }
}
