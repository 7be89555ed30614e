//! The wiring of the edges: who runs on which thread, what passes between them, and how all of it stops. The only
//! place that knows everyone.
//!
//! ```text
//! reading thread: Source -> Pipeline -> filter -> print     (never waits for a browser; waits for the disk, bounded)
//!                                   \-> Batch, Audited -> writing thread: Store -> viewer's events
//! tokio: viewer, signals
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sniffer::audit::session::Session;
use sniffer::audit::{Asked, Finding, FindingId};
use sniffer::pipeline::Told;
use sniffer::store::{Batch, Store};
use tokio::signal::unix::{SignalKind, signal};

/// Whether and why to stop: set by a signal, looked at by everyone.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    inner: Arc<StopInner>,
}

#[derive(Default)]
struct StopInner {
    stopped: AtomicBool,
    signal: AtomicI32,
    notify: tokio::sync::Notify,
}

impl Stop {
    /// Listens for SIGINT, SIGTERM and SIGHUP (the terminal was closed) on `runtime`. A second signal ends the process
    /// at once: the store survives that.
    pub(crate) fn on_signals(runtime: &tokio::runtime::Handle) -> Result<Self> {
        let stop = Self::default();
        let _inside = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut signals = signal(kind).context("listen for signals")?;
            let stop = stop.clone();
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    if stop.is_set() {
                        std::process::exit(128 + kind.as_raw_value());
                    }
                    stop.inner.signal.store(kind.as_raw_value(), Ordering::SeqCst);
                    stop.inner.stopped.store(true, Ordering::SeqCst);
                    stop.inner.notify.notify_waiters();
                }
            });
        }
        Ok(stop)
    }

    /// True once a signal came.
    pub(crate) fn is_set(&self) -> bool {
        self.inner.stopped.load(Ordering::Relaxed)
    }

    /// The exit code that tells of the signal, `None` without one.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        self.is_set().then(|| u8::try_from(128 + self.inner.signal.load(Ordering::SeqCst)).unwrap_or(1))
    }

    /// Waits for a signal.
    pub(crate) async fn wait(&self) {
        let notified = self.inner.notify.notified();
        if !self.is_set() {
            notified.await;
        }
    }
}

/// Standard input that a signal can end. A blocked `read` cannot be interrupted, so a thread of its own reads and the
/// blocks come over a bounded channel.
pub(crate) struct StoppableInput {
    blocks: std::sync::mpsc::Receiver<io::Result<Vec<u8>>>,
    current: io::Cursor<Vec<u8>>,
    stop: Stop,
}

impl StoppableInput {
    pub(crate) fn stdin(stop: Stop) -> Self {
        let (sender, blocks) = std::sync::mpsc::sync_channel(4);
        std::thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            loop {
                let mut block = vec![0; 256 << 10];
                let result = io::Read::read(&mut stdin, &mut block).map(|length| {
                    block.truncate(length);
                    block
                });
                let last = !matches!(&result, Ok(block) if !block.is_empty());
                if sender.send(result).is_err() || last {
                    return;
                }
            }
        });
        Self { blocks, current: io::Cursor::default(), stop }
    }
}

impl io::Read for StoppableInput {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = io::Read::read(&mut self.current, into)?;
            if length > 0 {
                return Ok(length);
            }
            match self.blocks.recv_timeout(Duration::from_millis(100)) {
                Ok(block) => {
                    self.current = io::Cursor::new(block?);
                    if self.current.get_ref().is_empty() {
                        return Ok(0);
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) if !self.stop.is_set() => {}
                Err(_) => return Ok(0),
            }
        }
    }
}

/// What the audit has to store: of each finding, line and session the latest word. As large as the audit itself at most,
/// however slow the store is.
#[derive(Default)]
pub(crate) struct Audited {
    /// Findings that changed.
    pub(crate) findings: BTreeMap<FindingId, Finding>,
    /// Lines of the DNS ledger that changed, by pod, name and type.
    pub(crate) asked: BTreeMap<(Box<str>, Box<str>, Box<str>), Asked>,
    /// The session as it stands.
    pub(crate) session: Option<Session>,
}

impl Audited {
    fn merge(&mut self, later: Self) {
        self.findings.extend(later.findings);
        self.asked.extend(later.asked);
        self.session = later.session.or(self.session.take());
    }
}

/// Exchanges on their way to the store, in their stored form and at most so many octets at once: a slow disk makes the
/// reader wait, it never makes the process grow.
struct Queue {
    state: Mutex<QueueState>,
    /// For the writer: there is something to write.
    filled: Condvar,
    /// For the reader: there is room again.
    emptied: Condvar,
}

struct QueueState {
    waiting: Batch,
    audited: Option<Audited>,
    closed: bool,
    failed: bool,
}

/// Octets that make a durable commit at once, about. Each commit costs an fsync, and rewrites the upper pages of the
/// store's trees; see the store's figures.
const BATCH_OCTETS: usize = 3 << 20;
/// Octets that may wait for the store while it commits.
const QUEUE_OCTETS: usize = 4 << 20;
/// How long exchanges may wait for more.
const BATCH_WAIT: Duration = Duration::from_millis(50);

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, QueueState> {
        // A panic of the other thread is reported when it is joined; the queue itself is never left half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing thread: takes exchanges, stores them in batches, then tells `stored` of each batch; and what the audit has.
pub(crate) struct Recorder {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<Result<u64>>>,
}

impl Recorder {
    /// Starts the thread. `stored` is called with each batch after it is durable, `audited` with what the audit had.
    pub(crate) fn start(
        store: Store,
        mut stored: impl FnMut(&Batch) + Send + 'static,
        mut audited: impl FnMut(&Audited) + Send + 'static,
    ) -> Self {
        let state = QueueState { waiting: store.batch(), audited: None, closed: false, failed: false };
        let queue =
            Arc::new(Queue { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() });
        let taken = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            let mut added = 0;
            while let Some((mut batch, news)) = next_batch(&taken) {
                // Exchanges first: a finding leads to them.
                let written = store.write(&mut batch).and_then(|new| {
                    let Some(news) = &news else { return Ok(new) };
                    let findings: Vec<Finding> = news.findings.values().cloned().collect();
                    let asked: Vec<Asked> = news.asked.values().cloned().collect();
                    store.put_audit(&findings, &asked, news.session.as_ref()).map(|()| new)
                });
                match written {
                    Ok(new) => added += new as u64,
                    Err(error) => {
                        taken.lock().failed = true;
                        taken.emptied.notify_all();
                        return Err(error.into());
                    }
                }
                stored(&batch);
                news.iter().for_each(&mut audited);
                taken.lock().waiting.recycle(batch);
            }
            Ok(added)
        });
        Self { queue, thread: Some(thread) }
    }

    /// Hands over what the audit has; never waits. False when the store has failed.
    pub(crate) fn audit(&self, audited: Audited) -> bool {
        let mut state = self.queue.lock();
        if !state.failed {
            state.audited.get_or_insert_default().merge(audited);
            self.queue.filled.notify_all();
        }
        !state.failed
    }

    /// Hands an exchange over; waits while the queue is full. False when the store has failed: stop reading, and
    /// learn the cause from [`Self::finish`].
    pub(crate) fn push(&self, told: &Told) -> bool {
        let mut state = self.queue.lock();
        while state.waiting.octets() >= QUEUE_OCTETS && !state.failed {
            state = self.queue.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.failed {
            return false;
        }
        let before = state.waiting.octets();
        state.waiting.push(&told.exchange, &told.reading);
        // Wake the writer for the first, and for a full batch; not for each.
        if before == 0 || before < BATCH_OCTETS && state.waiting.octets() >= BATCH_OCTETS {
            self.queue.filled.notify_all();
        }
        true
    }

    /// Waits until everything is stored; gives the number of exchanges that were new to the store.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.close();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => anyhow::bail!("the writing thread panicked; what it had acknowledged is stored"),
            None => Ok(0),
        }
    }

    fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.filled.notify_all();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.close();
    }
}

fn next_batch(queue: &Queue) -> Option<(Batch, Option<Audited>)> {
    let mut state = queue.lock();
    loop {
        if !state.waiting.is_empty() {
            if !state.closed && state.waiting.octets() < BATCH_OCTETS {
                let deadline = Instant::now() + BATCH_WAIT;
                // Who waits for the first is also woken by it; the rest of the time is for more.
                while !state.closed && state.waiting.octets() < BATCH_OCTETS {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let (waited, _) =
                        queue.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                    state = waited;
                }
            }
            // When much comes, the last chunk is left to be filled.
            let all = state.waiting.octets() < BATCH_OCTETS;
            let batch = state.waiting.take(all);
            queue.emptied.notify_all();
            return Some((batch, state.audited.take()));
        }
        if let Some(audited) = state.audited.take() {
            return Some((state.waiting.take(true), Some(audited)));
        }
        if state.closed {
            return None;
        }
        state = queue.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}
