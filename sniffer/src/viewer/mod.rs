//! The viewer's server: the HTTP API of `ui/API.md` over a store, live events, and the built page. A store and what
//! the producer publishes come in; answers to browsers and scripts go out. It never writes to the store, never asks
//! the network for anything, and never makes the producer wait: a browser that is too slow is told to fetch again.
//!
//! ```text
//! request -> gate (host, method, token) -> api | metrics | page -> store, on blocking threads, a few at a time
//! producer -> Publisher -> broadcast -> one stream of events per browser
//! ```

mod api;
mod assets;
mod body;
mod events;
mod gate;
mod lost;
mod mask;
mod metrics;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use lost::{Lost, LostAt};

use axum::Router;
pub use metrics::resident_bytes;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::filter::Filter;
use crate::frame::Timestamp;
use crate::http::InFlight;
use crate::pipeline::Counters;
use crate::store::{Cursor, Query, Stats, Store};
use crate::view::Row;

/// Rows that wait for a slow browser before it is told to fetch again.
const WAITING_ROWS: usize = 4_096;
/// Requests that may use the store at the same time; more wait, then are refused as `busy`.
const STORE_CALLS: usize = 6;
/// Browsers that may listen to events at the same time.
const LISTENERS: usize = 64;
/// How long open connections may take to end after the shutdown began.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// How the viewer is served.
#[derive(Clone, Default)]
pub struct Options {
    /// What every request to the API must show. Needed unless the listener's address is loopback.
    pub token: Option<String>,
    /// Host names that it answers to, besides addresses and `localhost` (against DNS rebinding).
    pub allow_hosts: Vec<String>,
    /// The path below which a proxy serves it, whether or not the proxy cuts it off: `/` or `/sniffer`. A proxy's
    /// `X-Forwarded-Prefix` goes before it.
    pub base_path: String,
    /// What writes exports; without one `api/export` answers that it cannot be found.
    pub exporter: Option<Arc<Exporter>>,
}

/// The token is a secret, and stays out of logs.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("allow_hosts", &self.allow_hosts)
            .field("base_path", &self.base_path)
            .field("exporter", &self.exporter.is_some())
            .finish()
    }
}

/// Writes the exchanges of a store to a file that a browser downloads. Runs on a thread of its own; an error of the
/// writer means that the browser went away.
pub type Exporter = dyn Fn(&Store, &Export, &mut dyn Write) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    + Send
    + Sync;

/// What to export.
#[derive(Debug)]
pub struct Export {
    /// The file's format.
    pub format: ExportFormat,
    /// Only exchanges that match.
    pub filter: Option<Filter>,
    /// Only those of the federation view.
    pub federation: bool,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
    /// Secrets are written as they were seen, instead of `••••`.
    pub unmask: bool,
}

impl Export {
    /// All of it, oldest first.
    pub fn query(&self) -> Query<'_> {
        Query {
            filter: self.filter.as_ref(),
            federation: self.federation,
            from: self.from,
            to: self.to,
            cursor: Cursor::Oldest,
            limit: usize::MAX,
            scan_limit: usize::MAX,
        }
    }
}

/// The format of an export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExportFormat {
    /// HTTP Archive 1.2.
    Har,
    /// `fedisniff.exchange/1`, one a line.
    Jsonl,
    /// pcapng.
    Pcapng,
}

/// What the producer knows, and the status page shows beside the store's own figures.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// The node's name, in a cluster.
    pub node: Option<String>,
    /// Where exchanges come from.
    pub source: SourceStatus,
    /// What the stages counted; `None` when nothing is being decoded.
    pub counters: Option<Arc<Counters>>,
    /// What the capture lost.
    pub lost: Lost,
    /// Interfaces, with the frames seen on each.
    pub interfaces: Vec<InterfaceStatus>,
    /// What the kernel's side counts, while this node is watched.
    pub live: Option<LiveStatus>,
    /// When this process began.
    pub started: Option<Timestamp>,
    /// What went wrong while reading.
    pub error: Option<String>,
}

/// Where exchanges come from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SourceStatus {
    /// The kind of source.
    pub kind: SourceKind,
    /// The file's name without its folder, the node's interfaces, or the store's file name.
    pub name: String,
    /// More is to come.
    pub reading: bool,
    /// How much of a file has been read, where its length is known.
    pub percent: Option<u8>,
}

/// The kind of source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A capture file, or standard input.
    File,
    /// This node's interfaces.
    Live,
    /// A store that nobody adds to.
    Store,
}

/// One interface.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Frames seen on it.
    pub frames: u64,
}

/// How capture on this node goes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LiveStatus {
    /// The interfaces that are watched, by name.
    pub interfaces: Vec<(String, PacketCounts)>,
    /// What was counted on interfaces that have gone, together.
    pub gone: PacketCounts,
    /// How many have gone.
    pub gone_interfaces: u64,
    /// Interfaces that could not be attached to.
    pub failed_interfaces: u64,
    /// Packets that were copied and then dropped, because decoding was too slow.
    pub dropped: u64,
    /// Bytes of these.
    pub dropped_bytes: u64,
    /// Records of the kernel's side that could not be read.
    pub undecodable: u64,
    /// Bytes that wait for decoding.
    pub queued_bytes: u64,
}

/// What was counted on an interface: each packet is skipped, lost or copied.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PacketCounts {
    /// Packets that went by.
    pub seen: u64,
    /// Of these, not selected.
    pub skipped: u64,
    /// Selected, and lost: the ring buffer was full.
    pub lost: u64,
    /// Bytes of the lost ones.
    pub lost_bytes: u64,
    /// Copied.
    pub copied: u64,
    /// Bytes that were copied of them.
    pub copied_bytes: u64,
    /// Of the copied, those that are not whole.
    pub cut: u64,
}

impl PacketCounts {
    /// This and `other` together.
    fn plus(self, other: Self) -> Self {
        Self {
            seen: self.seen.saturating_add(other.seen),
            skipped: self.skipped.saturating_add(other.skipped),
            lost: self.lost.saturating_add(other.lost),
            lost_bytes: self.lost_bytes.saturating_add(other.lost_bytes),
            copied: self.copied.saturating_add(other.copied),
            copied_bytes: self.copied_bytes.saturating_add(other.copied_bytes),
            cut: self.cut.saturating_add(other.cut),
        }
    }
}

impl Status {
    /// Of a source that has just been opened; `reading` is true unless it is a store.
    pub fn new(kind: SourceKind, name: impl Into<String>) -> Self {
        let reading = kind != SourceKind::Store;
        Self {
            node: None,
            source: SourceStatus { kind, name: name.into(), reading, percent: None },
            counters: None,
            lost: Lost::default(),
            interfaces: Vec::new(),
            live: None,
            started: None,
            error: None,
        }
    }
}

/// The server's state. Cloning is cheap and shares it.
#[derive(Clone)]
pub struct Viewer {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    gate: gate::Gate,
    exporter: Option<Arc<Exporter>>,
    live: Live,
    store_calls: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
    /// The store's figures and when they were taken, for the events of all browsers together.
    stats: tokio::sync::Mutex<Option<(tokio::time::Instant, Stats)>>,
    /// Becomes true when the shutdown begins, so that streams of events end.
    closing: watch::Sender<bool>,
}

/// What passes from the producer to the browsers.
struct Live {
    status: Mutex<Status>,
    /// Grows with every change of the status.
    status_version: AtomicU64,
    news: broadcast::Sender<News>,
    /// The number of the last row that was published, or passed over because nobody listened.
    last_row: AtomicU64,
    done: AtomicBool,
    /// What is not finished: the latest word of the producer.
    in_flight: watch::Sender<Arc<InFlightNow>>,
}

/// What is not finished, as browsers are told.
#[derive(Default, Serialize)]
struct InFlightNow {
    /// Those that began first.
    exchanges: Vec<InFlight>,
    /// How many there are.
    total: usize,
}

#[derive(Clone)]
enum News {
    /// A row and its number.
    Row(u64, Arc<Row>),
    /// The source was read to its end.
    Done,
}

impl Live {
    fn status(&self) -> MutexGuard<'_, Status> {
        // A closure that panicked while it changed the status leaves it as far changed as it got: still a status.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewer {
    /// A viewer over `store`, before anything was published.
    pub fn new(store: Store, options: Options, status: Status) -> Self {
        let (news, _) = broadcast::channel(WAITING_ROWS);
        Self {
            shared: Arc::new(Shared {
                store,
                gate: gate::Gate::new(&options),
                exporter: options.exporter,
                live: Live {
                    status: Mutex::new(status),
                    status_version: AtomicU64::new(0),
                    news,
                    last_row: AtomicU64::new(0),
                    done: AtomicBool::new(false),
                    in_flight: watch::Sender::default(),
                },
                store_calls: Arc::new(Semaphore::new(STORE_CALLS)),
                listeners: Arc::new(Semaphore::new(LISTENERS)),
                stats: tokio::sync::Mutex::new(None),
                closing: watch::Sender::new(false),
            }),
        }
    }

    /// A handle for the producer.
    pub fn publisher(&self) -> Publisher {
        Publisher { shared: Arc::clone(&self.shared) }
    }
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer").field("store", &self.shared.store.path()).finish_non_exhaustive()
    }
}

/// The producer's end: usable from any thread, never waits. Cloning is cheap.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

impl Publisher {
    /// Rows that are in the store now. When nobody listens they are not even made.
    pub fn rows(&self, rows: impl IntoIterator<Item = Row>) {
        let live = &self.shared.live;
        if live.news.receiver_count() == 0 {
            // Who comes back later must learn that something was missed.
            live.last_row.fetch_add(1, Ordering::SeqCst);
            return;
        }
        for row in rows {
            let number = live.last_row.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
            // The last listener may have left just now: then nobody misses the row.
            let _ = live.news.send(News::Row(number, Arc::new(row)));
        }
    }

    /// Whether a browser is listening now.
    pub fn listened_to(&self) -> bool {
        self.shared.live.news.receiver_count() > 0
    }

    /// The exchanges that are not finished, in place of those that were told before: the first of `total`.
    pub fn in_flight(&self, mut exchanges: Vec<InFlight>, total: usize) {
        exchanges.iter_mut().for_each(mask::in_flight);
        self.shared.live.in_flight.send_if_modified(|now| {
            let changed = now.total != total || now.exchanges != exchanges;
            if changed {
                *now = Arc::new(InFlightNow { exchanges, total });
            }
            changed
        });
    }

    /// Changes the status.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.shared.live.status());
        self.shared.live.status_version.fetch_add(1, Ordering::SeqCst);
    }

    /// The source was read to its end, or to what `error` says.
    pub fn done(&self, error: Option<String>) {
        self.update(|status| {
            status.source.reading = false;
            if error.is_none() {
                status.source.percent = status.source.percent.map(|_| 100);
            }
            status.error = error;
        });
        self.shared.live.done.store(true, Ordering::SeqCst);
        let _ = self.shared.live.news.send(News::Done);
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher")
    }
}

/// A token that nobody can guess: 128 bits from the system, in hexadecimal.
///
/// # Errors
/// The system has no randomness to give.
pub fn new_token() -> io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(crate::view::hex(&bytes))
}

/// Serves until `shutdown` is there, then lets open answers end for two seconds.
///
/// # Errors
/// Without a token, a listener on an address that is not loopback; else what the listener says.
pub async fn serve(
    listener: TcpListener,
    viewer: Viewer,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    if !viewer.shared.gate.has_token() && !address.ip().to_canonical().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{address} can be reached from elsewhere: a token is needed"),
        ));
    }
    let shared = Arc::clone(&viewer.shared);
    let mut closing = viewer.shared.closing.subscribe();
    let begin = async move {
        shutdown.await;
        shared.closing.send_replace(true);
    };
    let app = Router::new().fallback(gate::answer).with_state(viewer);
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let serving = async { axum::serve(listener, service).with_graceful_shutdown(begin).await };
    let too_long = async {
        // The sender lives as long as the viewer, so waiting can only end by the value.
        let _ = closing.wait_for(|closing| *closing).await;
        tokio::time::sleep(SHUTDOWN).await;
    };
    tokio::select! {
        result = serving => result,
        () = too_long => Ok(()),
    }
}
