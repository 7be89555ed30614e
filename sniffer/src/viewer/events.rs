//! Live events, one stream per browser (WHATWG HTML §9.2): rows as they are stored, the status at most once a second,
//! the end of a file. A browser that reads too slowly loses rows and is told so; nobody waits for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::gate::{Asked, Refusal};
use super::{InFlightNow, News, Viewer, api, mask};

/// How often a status may be sent.
const STATUS: Duration = Duration::from_secs(1);
/// How often a browser may be told to fetch again: a file is read faster than any page can be drawn.
const RESYNC: Duration = Duration::from_millis(500);
/// Keeps proxies from closing a quiet stream.
const QUIET: Duration = Duration::from_secs(15);

/// Begins a stream.
pub(super) fn answer(viewer: &Viewer, asked: &Asked) -> Result<Response, Refusal> {
    let federation = api::federation(asked)?;
    let Ok(place) = std::sync::Arc::clone(&viewer.shared.listeners).try_acquire_owned() else {
        return Err(Refusal::busy("too many browsers are listening"));
    };
    // Listening begins before the number is read: a row in between is sent, not missed.
    let news = viewer.shared.live.news.subscribe();
    let last_row = viewer.shared.live.last_row.load(Ordering::SeqCst);
    let mut in_flight = viewer.shared.live.in_flight.subscribe();
    // What is there now is told as well, unless it is nothing.
    if in_flight.borrow().total > 0 {
        in_flight.mark_changed();
    }
    let seen =
        asked.headers.get("last-event-id").and_then(|v| v.to_str().ok()).map(|v| v.trim().parse::<u64>());
    // A number beyond ours is from before a restart, and what is no number was not ours: both missed an unknown lot.
    let missed = seen.is_some_and(|seen| seen != Ok(last_row));
    let mut tick = tokio::time::interval(STATUS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listener = Listener {
        viewer: viewer.clone(),
        federation,
        news,
        in_flight,
        closing: viewer.shared.closing.subscribe(),
        tick,
        status_version: None,
        last_row,
        resync_after: Instant::now(),
        done: viewer.shared.live.done.load(Ordering::SeqCst),
        ready: VecDeque::new(),
        _place: place,
    };
    if missed {
        listener.resync();
    }
    let stream = futures_util::stream::unfold(listener, async |mut listener| {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    // The comment's text is of no meaning (§9.2.6).
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(QUIET).text("quiet")).into_response())
}

/// Waits until the server ends.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the viewer itself is gone, which is an end as well.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// One browser.
struct Listener {
    viewer: Viewer,
    federation: bool,
    news: broadcast::Receiver<News>,
    in_flight: watch::Receiver<Arc<InFlightNow>>,
    closing: watch::Receiver<bool>,
    tick: Interval,
    /// Which status was sent last.
    status_version: Option<u64>,
    /// The number of the last row that was sent or passed over; the id of every event.
    last_row: u64,
    /// Rows are not looked at before, so that a flood of them ends in one resync.
    resync_after: Instant,
    /// The end was told, or had come before this browser.
    done: bool,
    ready: VecDeque<Event>,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// The next event; `None` when the server ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let quiet = self.resync_after > Instant::now();
            tokio::select! {
                () = closed(&mut self.closing) => return None,
                _ = self.tick.tick() => self.status().await,
                () = tokio::time::sleep_until(self.resync_after), if quiet => {}
                // The sender lives as long as the viewer.
                Ok(()) = self.in_flight.changed() => {
                    let now = Arc::clone(&self.in_flight.borrow_and_update());
                    self.push("inflight", &*now);
                }
                news = self.news.recv(), if !quiet => match news {
                    Ok(News::Row(number, row)) => {
                        self.last_row = self.last_row.max(number);
                        if row.federation || !self.federation {
                            let mut row = (*row).clone();
                            mask::row(&mut row);
                            self.push("row", &row);
                        }
                    }
                    Ok(News::Done) => self.done(),
                    Err(RecvError::Lagged(_)) => self.resync(),
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }

    fn push(&mut self, name: &str, data: &impl serde::Serialize) {
        // Rows and statuses are made of texts and numbers: writing them cannot fail.
        if let Ok(data) = serde_json::to_string(data) {
            self.ready.push_back(Event::default().id(self.last_row.to_string()).event(name).data(data));
        }
    }

    /// Rows were left out. What is waiting now is left out too: the browser fetches what the store has, and every
    /// published row is in it.
    fn resync(&mut self) {
        self.news = self.news.resubscribe();
        self.last_row = self.last_row.max(self.viewer.shared.live.last_row.load(Ordering::SeqCst));
        let event = Event::default().id(self.last_row.to_string()).event("resync").data("{}");
        self.ready.push_back(event);
        self.resync_after = Instant::now() + RESYNC;
        if self.viewer.shared.live.done.load(Ordering::SeqCst) {
            self.done();
        }
    }

    fn done(&mut self) {
        if !std::mem::replace(&mut self.done, true) {
            self.ready.push_back(Event::default().id(self.last_row.to_string()).event("done").data("{}"));
        }
    }

    async fn status(&mut self) {
        let version = self.viewer.shared.live.status_version.load(Ordering::SeqCst);
        if self.status_version == Some(version) {
            return;
        }
        // A busy store is asked again at the next tick.
        if let Ok(status) = api::status(&self.viewer, true).await {
            self.status_version = Some(version);
            self.push("status", &status);
        }
    }
}
