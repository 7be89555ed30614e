//! `fedisniff watch`: this node's pods, live: as lines, as JSON, into a store, into the viewer.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sniffer::audit::session::Standing;
use sniffer::capture::live::{
    AttachBy, Batch, Counters, Interfaces, Item, Live, Network, Options, PortPolicy, Snapshot, Taken,
};
use sniffer::frame::{Interface, Timestamp};
use sniffer::pipeline::Pipeline;
use sniffer::store::Store;
use sniffer::viewer::{InterfaceStatus, LiveStatus, PacketCounts, SourceKind, Status, resident_bytes};

use super::auditing::Auditing;
use super::print::{Printer, Printing};
use super::summary::Figures;
use super::tell::{Keeping, Line, Teller, recorder};
use super::{DEFAULT_ADDRESS, Face, Selection, Usage, serve};
use crate::node::{Recorder, Stop};

/// Watch this node's pods: every HTTP exchange as it happens, and what it meant (root).
///
/// Copies what pods send and receive from an eBPF program on their host-side veths. Passive: no packet is changed,
/// delayed or dropped, and what could not be seen is counted. Works until Ctrl-C.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interfaces to watch, as veth* or eth1; may repeat, or hold several with commas. By default the host-side
    /// veths of pods: ports of cni0, cbr0 and kube-bridge, and veth*, cali*, lxc*, whenever they appear.
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    interfaces: Vec<String>,
    /// Copy only these TCP ports. By default all, but those of which --tls-ports says otherwise, until a connection
    /// turns out not to carry HTTP.
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    ports: Vec<u16>,
    /// Of these TCP ports copy the TLS ClientHello alone, which names the server.
    #[arg(long, value_name = "PORT", value_delimiter = ',', default_values_t = sniffer::capture::live::TLS_PORTS)]
    tls_ports: Vec<u16>,
    /// Copy only packets from or to these addresses, as 10.42.0.0/24; may repeat.
    #[arg(long, value_name = "NET", value_delimiter = ',')]
    addresses: Vec<Network>,
    /// Do not copy DNS (UDP port 53).
    #[arg(long)]
    no_dns: bool,
    /// The ring buffer in the kernel, a power of two.
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = super::units::size)]
    ring_size: u64,
    /// How much may wait for decoding. Beyond it packets are dropped and counted.
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = super::units::size)]
    queue_size: u64,
    /// How to attach: tcx (kernel 6.6 and later) or clsact; by default what the kernel has.
    #[arg(long, value_name = "HOW", value_parser = ["tcx", "clsact"])]
    attach: Option<String>,
    /// Keep the exchanges in this store (made if it does not exist). With --serve and without this, in watch.redb under
    /// the state folder.
    #[arg(long, value_name = "DB")]
    store: Option<PathBuf>,
    #[command(flatten)]
    guarding: super::enforce::Guarding,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    selection: Selection,
    /// Open the web viewer at this address.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = DEFAULT_ADDRESS)]
    serve: Option<String>,
    #[command(flatten)]
    face: Face,
    #[command(flatten)]
    keeping: Keeping,
}

/// How often the status is renewed.
const STATUS: Duration = Duration::from_secs(1);
/// How often browsers are told what is not finished, and how much of it.
const IN_FLIGHT: Duration = Duration::from_millis(250);
const IN_FLIGHT_SHOWN: usize = 100;
/// How long the decoding thread waits for frames before it looks at the clock.
const WAIT: Duration = Duration::from_millis(50);
/// Frames reach the decoding thread at most so much later than they were captured, when nothing else waits.
const LATE: u64 = 100_000_000;

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    let filter = arguments.selection.filter()?;
    let options = arguments.options()?;
    let runtime = super::runtime()?;
    let stop = Stop::on_signals(runtime.handle())?;
    let listener = arguments.serve.as_deref().map(|a| runtime.block_on(serve::bind(a))).transpose()?;
    // Before what is captured: it is attached first, and what it denies is not copied.
    let guard = super::enforce::Guard::start(&arguments.guarding)?;
    // Before the store: who lacks the rights leaves no file behind.
    let live = Live::start(&options)?;
    let store = open_store(&arguments)?;
    let face = match (listener, &store) {
        (Some(listener), Some(store)) => {
            let mut status = Status::new(SourceKind::Live, node_name());
            status.started = super::wall_clock();
            let running = serve::start(&runtime, listener, store.clone(), &arguments.face, status, &stop)?;
            running.announce(arguments.face.open);
            Some(running)
        }
        _ => None,
    };
    let recorder = store.clone().map(|store| recorder(store, face.as_ref()));
    let now = super::wall_clock().context("the clock is before 1970")?;
    let mut auditing = Auditing::of_watch(node_name(), own_addresses(), now, recorder.is_some());
    if let (_, Some(session)) = auditing.parts() {
        session.capture_program = Some(sniffer::capture::live::object_sha256().into());
        session.partial = arguments.partial().map(Into::into);
        guard.describe(session);
    }
    let mut watching = Watching {
        pipeline: Pipeline::new(arguments.keeping.pipeline()),
        live,
        teller: Teller::new(
            filter,
            Printer::new(&arguments.printing, true),
            recorder,
            auditing,
            StatusLine::new(),
        ),
        face,
        guard,
        stop,
    };
    watching.stand(now);
    watching.begin(&options);
    // Before the first frame, so that the audit sees it.
    watching.audit();
    if let Some(text) = watching.guard.idle() {
        eprintln!("{text}");
    }
    watching.all();
    let Watching { pipeline, live, teller, face, guard, .. } = watching;
    let Teller { mut printer, recorder, line, exchanges, matched, lost, auditing, .. } = teller;
    line.clear();
    printer.finish()?;
    let stored = recorder.map(Recorder::finish).transpose();
    let counters = pipeline.counters();
    if let Some(face) = &face {
        face.publisher().done(None);
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
    for text in figures.lines().into_iter().chain(kernel_lines(&live.snapshot())) {
        eprintln!("{text}");
    }
    guard.end()?;
    if let Some(face) = face {
        face.shut_down(&runtime)?;
    }
    // Ctrl-C is how watching ends.
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn options(&self) -> Result<Options> {
        let interfaces =
            Interfaces::new(&self.interfaces).map_err(|why| Usage(format!("--interfaces: {why}")))?;
        let mut ports: Vec<(u16, PortPolicy)> =
            self.tls_ports.iter().map(|port| (*port, PortPolicy::ClientHello)).collect();
        // What was asked for by number is asked for.
        ports.extend(self.ports.iter().map(|port| (*port, PortPolicy::Everything)));
        let other_ports = if self.ports.is_empty() { PortPolicy::Everything } else { PortPolicy::Nothing };
        let ring_octets = ring_octets(self.ring_size)?;
        Ok(Options {
            interfaces,
            ports,
            other_ports,
            dns: !self.no_dns,
            addresses: self.addresses.clone(),
            ring_octets,
            queue_octets: usize::try_from(self.queue_size).unwrap_or(usize::MAX),
            attach_by: attach_by(self.attach.as_deref()),
            sweeper: Some(super::SWEEP_AFTER),
            ..Options::default()
        })
    }
}

impl Arguments {
    /// What of the traffic is not looked at, where that was asked for.
    fn partial(&self) -> Option<String> {
        let given = [
            (!self.ports.is_empty(), "--ports"),
            (!self.addresses.is_empty(), "--addresses"),
            (self.no_dns, "--no-dns"),
        ];
        let given: Vec<&str> = given.into_iter().filter_map(|(is, name)| is.then_some(name)).collect();
        (!given.is_empty())
            .then(|| format!("{} let the programs copy only a part of what passed", given.join(", ")))
    }
}

pub(super) fn ring_octets(size: u64) -> Result<u32> {
    let size = u32::try_from(size).ok().filter(|size| size.is_power_of_two());
    let size = size.filter(|size| (4_096..=1 << 30).contains(size));
    Ok(size.ok_or_else(|| Usage("--ring-size: must be a power of two from 4KiB to 1GiB".into()))?)
}

pub(super) fn attach_by(how: Option<&str>) -> Option<AttachBy> {
    match how {
        Some("tcx") => Some(AttachBy::Tcx),
        Some(_) => Some(AttachBy::Clsact),
        None => None,
    }
}

fn open_store(arguments: &Arguments) -> Result<Option<Store>> {
    let options = arguments.keeping.store();
    let path = match (&arguments.store, &arguments.serve) {
        (Some(path), _) => path.clone(),
        (None, Some(_)) => super::state_folder()?.join("watch.redb"),
        (None, None) => return Ok(None),
    };
    Ok(Some(Store::open(&path, options)?))
}

/// This machine's name, for the viewer's title.
fn node_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "this node".into())
}

/// This machine's addresses.
fn own_addresses() -> Vec<std::net::IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter_map(|one| {
        let storage = one.address?;
        let v4 = storage.as_sockaddr_in().map(|a| std::net::IpAddr::V4(a.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|a| std::net::IpAddr::V6(a.ip())))
    })
    .collect()
}

/// Everything that a frame may touch, on the decoding thread.
struct Watching {
    pipeline: Pipeline,
    live: Live,
    teller: Teller<StatusLine>,
    face: Option<serve::Running>,
    guard: super::enforce::Guard,
    stop: Stop,
}

impl Watching {
    /// Says what is watched.
    fn begin(&self, options: &Options) {
        let snapshot = self.live.snapshot();
        let names: Vec<&str> = snapshot.interfaces.iter().map(|w| w.name.as_str()).collect();
        let mut ways: Vec<String> = snapshot.interfaces.iter().map(|w| w.by.to_string()).collect();
        ways.sort_unstable();
        ways.dedup();
        let by = ways.join(" and ");
        match names.as_slice() {
            [] => {
                let wanted = if options.interfaces.named() {
                    "No interface here has such a name yet"
                } else {
                    "No pod's veth is on this node yet"
                };
                eprintln!(
                    "{wanted}; each is watched as soon as it appears (`ip link` lists them). Ctrl-C ends it."
                );
            }
            [one] => eprintln!("Watching {one} by {by}. Ctrl-C ends it."),
            some => {
                let shown = some.iter().take(8).copied().collect::<Vec<_>>().join(", ");
                let more = if some.len() > 8 { ", …" } else { "" };
                eprintln!("Watching {} interfaces by {by}: {shown}{more}. Ctrl-C ends it.", some.len());
            }
        }
    }

    /// Until a signal, or until nobody wants what is found.
    fn all(&mut self) {
        let mut stopped = false;
        let mut ended = None;
        let mut shown = Instant::now();
        let mut told_in_flight = Instant::now();
        loop {
            match self.live.take(WAIT) {
                Taken::Batch(batch) => {
                    self.batch(&batch);
                    self.live.recycle(batch);
                }
                Taken::Nothing => {
                    if let Some(now) = super::wall_clock() {
                        self.pipeline.expire(Timestamp(now.0.saturating_sub(LATE)), &mut self.teller);
                    }
                }
                Taken::Ended => break,
            }
            for ends in self.pipeline.take_others() {
                self.live.ignore(ends.client, ends.server);
            }
            if (self.stop.is_set() || !self.teller.go_on) && !stopped {
                stopped = true;
                // Until now everything was there to see it; what comes while programs are detached is a bonus.
                ended = super::wall_clock();
                self.stand_now();
                self.live.stop();
            }
            if told_in_flight.elapsed() >= IN_FLIGHT {
                told_in_flight = Instant::now();
                self.tell_in_flight();
                self.audit();
            }
            if shown.elapsed() >= STATUS {
                shown = Instant::now();
                self.show();
                if !stopped {
                    self.stand_now();
                    self.beat();
                }
            }
        }
        self.tell_in_flight();
        self.audit();
        self.teller.finish(&mut self.pipeline, ended, true);
        self.audit();
        self.show();
    }

    /// Takes the cluster's state and the kernel's events, and tells what the audit makes of them.
    fn audit(&mut self) {
        let now = super::wall_clock();
        let Teller { auditing, printer, line, .. } = &mut self.teller;
        if let (Some(state), Some(now)) = (self.guard.state(), now) {
            auditing.state(state, now);
        }
        let lines = self.guard.told(|event| auditing.kernel(&super::enforce::seen(event)));
        for text in lines {
            line.clear();
            eprintln!("{text}");
        }
        if let Some(now) = now {
            auditing.expire(Timestamp(now.0.saturating_sub(LATE)));
        }
        auditing.changed(|finding| {
            line.clear();
            printer.finding(finding);
        });
    }

    /// Says to the audit what programs hang on now.
    fn stand(&mut self, now: Timestamp) {
        let snapshot = self.live.snapshot();
        let standing = self.guard.standing();
        let guarded = standing.as_ref().map(|standing| &*standing.interfaces).unwrap_or_default();
        let mut interfaces: BTreeMap<u32, Standing<'_>> = BTreeMap::new();
        let of = |index, name| Standing {
            interface: Interface::Index(index),
            name,
            seen: false,
            decided: false,
            bridge: false,
            pod: None,
        };
        for watched in &snapshot.interfaces {
            interfaces.entry(watched.index).or_insert_with(|| of(watched.index, &watched.name)).seen = true;
        }
        for guarded in guarded {
            let one = interfaces.entry(guarded.index).or_insert_with(|| of(guarded.index, &guarded.name));
            (one.decided, one.bridge, one.pod) = (true, guarded.bridge, guarded.pod.as_deref());
        }
        let interfaces: Vec<Standing<'_>> = interfaces.into_values().collect();
        let auditing = &mut self.teller.auditing;
        auditing.standing(&interfaces, snapshot.total().lost + snapshot.dropped_frames, now);
        if let (Some(standing), (_, Some(session))) = (&standing, auditing.parts()) {
            session.deny_generation = Some(standing.generation);
        }
    }

    fn stand_now(&mut self) {
        if let Some(now) = super::wall_clock() {
            self.stand(now);
        }
    }

    /// The session goes on: all was looked at until a moment ago, if nothing waits.
    fn beat(&mut self) {
        let waits = self.live.snapshot().queued_octets > 0;
        let now = super::wall_clock().filter(|_| !waits);
        self.teller.beat(now.map(|now| Timestamp(now.0.saturating_sub(LATE))));
    }

    /// Browsers see what has begun and is not finished.
    fn tell_in_flight(&self) {
        let Some(face) = &self.face else { return };
        let publisher = face.publisher();
        if publisher.listened_to() {
            let (exchanges, total) = self.pipeline.in_flight(IN_FLIGHT_SHOWN);
            publisher.in_flight(exchanges, total);
        }
    }

    fn batch(&mut self, batch: &Batch) {
        for item in batch.items() {
            match item {
                Item::Frame(frame) => self.teller.frame(&frame, &mut self.pipeline),
                Item::Loss(loss) => self.teller.loss(&loss, &mut self.pipeline),
                Item::Name(index, name) => {
                    self.teller.name(Interface::Index(index), name, &mut self.pipeline);
                }
            }
        }
    }

    fn show(&mut self) {
        let snapshot = self.live.snapshot();
        let counters = self.pipeline.counters();
        self.teller.line.show(&snapshot, counters.flow.frames, self.teller.exchanges);
        if let Some(face) = &self.face {
            let mut lost = self.teller.lost.clone();
            // Those after which no packet came yet are known to the kernel alone.
            lost.frames = lost.frames.max(snapshot.total().lost + snapshot.dropped_frames);
            let interfaces = snapshot
                .interfaces
                .iter()
                .map(|w| InterfaceStatus { name: w.name.clone(), frames: w.counters.copied })
                .collect();
            let live = live_status(&snapshot);
            face.publisher().update(|status| {
                status.live = Some(live);
                status.counters = Some(Arc::new(counters));
                status.lost = lost;
                status.interfaces = interfaces;
            });
        }
    }
}

/// The same for the viewer, which knows nothing of capture.
fn live_status(snapshot: &Snapshot) -> LiveStatus {
    let counts = |c: Counters| PacketCounts {
        seen: c.seen,
        skipped: c.skipped,
        lost: c.lost,
        lost_bytes: c.lost_octets,
        copied: c.copied,
        copied_bytes: c.copied_octets,
        cut: c.cut,
    };
    LiveStatus {
        interfaces: snapshot.interfaces.iter().map(|w| (w.name.clone(), counts(w.counters))).collect(),
        gone: counts(snapshot.gone),
        gone_interfaces: snapshot.gone_interfaces,
        failed_interfaces: snapshot.failed.len() as u64,
        dropped: snapshot.dropped_frames,
        dropped_bytes: snapshot.dropped_octets,
        undecodable: snapshot.undecodable,
        queued_bytes: snapshot.queued_octets as u64,
    }
}

/// What the kernel's side counted, where there is something to say.
fn kernel_lines(snapshot: &Snapshot) -> Vec<String> {
    let total = snapshot.total();
    let mut lines = vec![format!(
        "in the kernel: {} packets seen, {} not selected, {} copied, {} lost ({} octets)",
        total.seen, total.skipped, total.copied, total.lost, total.lost_octets
    )];
    if snapshot.dropped_frames > 0 {
        lines.push(format!(
            "copied and then dropped, because decoding was too slow: {} packets ({} octets)",
            snapshot.dropped_frames, snapshot.dropped_octets
        ));
    }
    if total.cut > 0 {
        lines.push(format!("{} packets were copied in part", total.cut));
    }
    if snapshot.undecodable > 0 {
        lines.push(format!("{} records could not be read", snapshot.undecodable));
    }
    for (name, why) in &snapshot.failed {
        lines.push(format!("not watched: {name}: {why}"));
    }
    lines
}

/// How it goes, on standard error when that is a terminal.
struct StatusLine {
    terminal: bool,
    shown: bool,
    last: Instant,
    packets: u64,
    exchanges: u64,
}

impl Line for StatusLine {
    fn clear(&self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

impl StatusLine {
    fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            shown: false,
            last: Instant::now(),
            packets: 0,
            exchanges: 0,
        }
    }

    fn show(&mut self, snapshot: &Snapshot, packets: u64, exchanges: u64) {
        let seconds = self.last.elapsed().as_secs_f64().max(0.001);
        let per_second = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds).round();
        let (new_packets, new_exchanges) =
            (per_second(packets, self.packets), per_second(exchanges, self.exchanges));
        (self.last, self.packets, self.exchanges) = (Instant::now(), packets, exchanges);
        if !self.terminal {
            return;
        }
        self.shown = true;
        let lost = snapshot.total().lost + snapshot.dropped_frames;
        eprint!(
            "\r\x1b[K{} interfaces  {new_packets} packets/s  {new_exchanges} exchanges/s  {exchanges} in all  lost {lost}  {} MiB",
            snapshot.interfaces.len(),
            resident_bytes().unwrap_or(0) >> 20,
        );
    }
}
