//! The endpoints below `api/`: parameters in, a call or two to the store on a blocking thread, JSON out.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::gate::{Asked, Refusal, unauthorised};
use super::{Export, ExportFormat, Shared, Viewer, body, events, mask};
use crate::activitypub::Link;
use crate::filter::{Filter, fields};
use crate::frame::Timestamp;
use crate::http::ExchangeId;
use crate::store::{Bar, Cursor, Host, Query, Stats, Store, Stored};
use crate::view::{ExchangeView, Row, tie};

/// Exchanges that no index could rule out are looked at up to such a number before an answer says where it stopped,
/// so that it takes about half a second at most: rows, whole exchanges, and whole exchanges with their bodies.
const SCAN_ROWS: usize = 200_000;
const SCAN_EXCHANGES: usize = 80_000;
const SCAN_BODIES: usize = 20_000;
/// How long a request waits for its turn at the store.
const PATIENCE: Duration = Duration::from_secs(10);
/// How old the store's figures in an event may be.
const STATS_AGE: Duration = Duration::from_millis(900);

/// Answers what came to `api/` + `path`.
pub(super) async fn answer(viewer: &Viewer, path: &str, asked: Asked) -> Result<Response, Refusal> {
    let segments: Vec<&str> = path.split('/').collect();
    match segments[..] {
        ["status"] => Ok(Json(status(viewer, false).await?).into_response()),
        ["exchanges"] => exchanges(viewer, &asked).await,
        ["count"] => count(viewer, &asked).await,
        ["exchanges", id] => exchange(viewer, id_of(id)?, &asked).await,
        ["exchanges", id, side @ ("request" | "response"), "body"] => {
            octets(viewer, id_of(id)?, side == "request", asked).await
        }
        ["around", id] => around(viewer, id_of(id)?, &asked).await,
        ["strip"] => strip(viewer, &asked).await,
        ["hosts"] => {
            #[derive(Serialize)]
            struct Hosts {
                hosts: Vec<Host>,
            }
            let hosts = with_store(viewer, |store| Ok(store.hosts()?)).await?;
            Ok(Json(Hosts { hosts }).into_response())
        }
        ["filter"] => {
            filter(&asked)?;
            Ok(Json(json!({"ok": true})).into_response())
        }
        ["fields"] => Ok(Json(json!({"fields": fields()})).into_response()),
        ["export"] => export(viewer, &asked).await,
        ["events"] => events::answer(viewer, &asked),
        _ => Err(Refusal::not_found("there is no such endpoint; ui/API.md lists them")),
    }
}

/// Runs a call to the store on a blocking thread, a few at a time.
async fn with_store<T: Send + 'static>(
    viewer: &Viewer,
    call: impl FnOnce(&Store) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let turns = Arc::clone(&viewer.shared.store_calls);
    let turn = tokio::time::timeout(PATIENCE, turns.acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Err(Refusal::busy("too many requests are using the store")) };
    let store = viewer.shared.store.clone();
    let work = tokio::task::spawn_blocking(move || {
        let result = call(&store);
        // A request that was given up still holds its turn until its thread is free.
        drop(turn);
        result
    });
    match work.await {
        Ok(result) => result,
        // The panic itself was written to standard error by its thread.
        Err(_) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "store", "the call failed inside")),
    }
}

/// `Status`: what the producer says and what the store holds. `recent` figures of the store are good enough for events.
pub(super) async fn status(viewer: &Viewer, recent: bool) -> Result<Value, Refusal> {
    let stats = stats(viewer, recent).await?;
    Ok(status_view(&viewer.shared, &stats))
}

/// The store's figures, now or those of a moment ago.
pub(super) async fn stats(viewer: &Viewer, recent: bool) -> Result<Stats, Refusal> {
    if !recent {
        return with_store(viewer, |store| Ok(store.stats()?)).await;
    }
    let mut kept = viewer.shared.stats.lock().await;
    match &*kept {
        Some((at, stats)) if at.elapsed() < STATS_AGE => Ok(stats.clone()),
        _ => {
            let stats = with_store(viewer, |store| Ok(store.stats()?)).await?;
            *kept = Some((Instant::now(), stats.clone()));
            Ok(stats)
        }
    }
}

fn status_view(shared: &Shared, stats: &Stats) -> Value {
    let status = shared.live.status().clone();
    let streams = status.counters.as_ref().map(|c| c.stream);
    let lost = &status.lost;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node": status.node,
        "source": status.source,
        "store": {
            "path": shared.store.path().display().to_string(),
            "exchanges": stats.exchanges,
            "federation": stats.federation,
            "file_bytes": stats.file_bytes,
            "expired": stats.expired,
            "oldest": stats.oldest.map(|t| t.to_string()),
            "newest": stats.newest.map(|t| t.to_string()),
        },
        "counters": status.counters.as_deref(),
        "lost": {
            "frames": lost.frames,
            "gap_bytes": streams.map_or(0, |c| c.gap_bytes),
            "gaps": streams.map_or(0, |c| c.gaps),
            "exchanges": lost.exchanges,
            "from": lost.span.map(|(from, _)| from.to_string()),
            "to": lost.span.map(|(_, to)| to.to_string()),
            "interfaces": lost.interfaces,
        },
        "interfaces": status.interfaces,
        "started": status.started.map(|t| t.to_string()),
        "error": status.error,
    })
}

/// Which exchanges a request is about.
struct Selection {
    filter: Option<Filter>,
    federation: bool,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Selection {
    fn of(asked: &Asked) -> Result<Self, Refusal> {
        Ok(Self {
            filter: filter(asked)?,
            federation: federation(asked)?,
            from: time(asked, "from")?,
            to: time(asked, "to")?,
        })
    }

    fn query(&self, cursor: Cursor, limit: usize) -> Query<'_> {
        let scan_limit = match &self.filter {
            Some(filter) if filter.needs_bodies() => SCAN_BODIES,
            Some(filter) if !filter.row_only() => SCAN_EXCHANGES,
            _ => SCAN_ROWS,
        };
        Query {
            filter: self.filter.as_ref(),
            federation: self.federation,
            from: self.from,
            to: self.to,
            cursor,
            limit,
            scan_limit,
        }
    }
}

fn filter(asked: &Asked) -> Result<Option<Filter>, Refusal> {
    Ok(asked.parameter("q").map(Filter::parse).transpose()?)
}

/// Whether the view is *federation*, which it is unless another is named.
pub(super) fn federation(asked: &Asked) -> Result<bool, Refusal> {
    match asked.parameter("v") {
        None | Some("federation") => Ok(true),
        Some("all") => Ok(false),
        Some(other) => Err(Refusal::bad_request(format!("v={other}: the views are federation and all"))),
    }
}

fn time(asked: &Asked, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = asked.parameter(name) else { return Ok(None) };
    let time = text.parse::<jiff::Timestamp>().ok().and_then(|t| u64::try_from(t.as_nanosecond()).ok());
    match time {
        Some(nanos) => Ok(Some(Timestamp(nanos))),
        None => {
            Err(Refusal::bad_request(format!("{name}={text}: not a time as 2026-11-23T07:27:01Z (RFC 3339)")))
        }
    }
}

/// A number, brought between 1 and `most`.
fn number(asked: &Asked, name: &str, otherwise: usize, most: usize) -> Result<usize, Refusal> {
    match asked.parameter(name).map(str::parse::<usize>) {
        None => Ok(otherwise),
        Some(Ok(n)) => Ok(n.clamp(1, most)),
        Some(Err(_)) => Err(Refusal::bad_request(format!("{name} is a whole number from 1 to {most}"))),
    }
}

fn flag(asked: &Asked, name: &str) -> Result<bool, Refusal> {
    match asked.parameter(name) {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(_) => Err(Refusal::bad_request(format!("{name} is 1, or is left out"))),
    }
}

fn unmask(asked: &Asked) -> Result<bool, Refusal> {
    let unmask = flag(asked, "unmask")?;
    if unmask && !asked.may_unmask {
        return Err(unauthorised("secrets are shown only with a token, or on this machine itself"));
    }
    Ok(unmask)
}

fn id_of(text: &str) -> Result<ExchangeId, Refusal> {
    text.parse().map_err(|_| Refusal::not_found(format!("{text} is not the id of an exchange")))
}

fn missing(id: ExchangeId) -> Refusal {
    Refusal::not_found(format!("the store has no exchange {id}"))
        .help("it may have been removed by the limits on the store's size and age")
}

fn masked(mut rows: Vec<Row>) -> Vec<Row> {
    tie(&mut rows);
    rows.iter_mut().for_each(mask::row);
    rows
}

async fn exchanges(viewer: &Viewer, asked: &Asked) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Page {
        rows: Vec<Row>,
        more_before: bool,
        more_after: bool,
        scanned_to: Option<String>,
    }
    let mut cursors = Vec::new();
    for (name, cursor) in [
        ("before", Cursor::Before as fn(ExchangeId) -> Cursor),
        ("after", Cursor::After),
        ("around", Cursor::Around),
    ] {
        if let Some(text) = asked.parameter(name) {
            let id = text
                .parse()
                .map_err(|_| Refusal::bad_request(format!("{name}={text}: not the id of an exchange")))?;
            cursors.push(cursor(id));
        }
    }
    if flag(asked, "oldest")? {
        cursors.push(Cursor::Oldest);
    }
    let cursor = match cursors[..] {
        [] => Cursor::Newest,
        [cursor] => cursor,
        _ => return Err(Refusal::bad_request("only one of before, after, around and oldest can be given")),
    };
    let selection = Selection::of(asked)?;
    let limit = number(asked, "limit", 200, 1_000)?;
    let page = with_store(viewer, move |store| Ok(store.page(&selection.query(cursor, limit))?)).await?;
    Ok(Json(Page {
        rows: masked(page.rows),
        more_before: page.more_before,
        more_after: page.more_after,
        scanned_to: page.scanned_to.map(|id| id.to_string()),
    })
    .into_response())
}

async fn count(viewer: &Viewer, asked: &Asked) -> Result<Response, Refusal> {
    let selection = Selection::of(asked)?;
    let answer = with_store(viewer, move |store| {
        let stats = store.stats()?;
        let everything = selection.filter.is_none() && selection.from.is_none() && selection.to.is_none();
        let (matched, exact, hidden) = if everything {
            let hidden = stats.exchanges.saturating_sub(stats.federation);
            if selection.federation {
                (stats.federation, true, Some(hidden))
            } else {
                (stats.exchanges, true, Some(0))
            }
        } else {
            let query = selection.query(Cursor::Oldest, usize::MAX);
            let (matched, exact) = store.count(&query)?;
            let hidden = if !selection.federation {
                Some(0)
            } else if exact {
                let (all, exact) = store.count(&Query { federation: false, ..query })?;
                exact.then(|| all.saturating_sub(matched))
            } else {
                None
            };
            (matched, exact, hidden)
        };
        Ok(json!({"matched": matched, "exact": exact, "total": stats.exchanges, "hidden": hidden}))
    })
    .await?;
    Ok(Json(answer).into_response())
}

fn get(store: &Store, id: ExchangeId) -> Result<Stored, Refusal> {
    store.get(id)?.ok_or_else(|| missing(id))
}

async fn exchange(viewer: &Viewer, id: ExchangeId, asked: &Asked) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Detail<'a> {
        exchange: ExchangeView<'a>,
        row: Row,
        request_text: Option<body::Text>,
        response_text: Option<body::Text>,
    }
    let unmask = unmask(asked)?;
    let node = viewer.shared.live.status().node.clone();
    let json = with_store(viewer, move |store| {
        let mut stored = get(store, id)?;
        let request_text = stored.exchange.request.as_ref().map(|r| body::Text::of(&r.message, unmask));
        let response_text = stored.exchange.response.as_ref().map(|r| body::Text::of(&r.message, unmask));
        if !unmask {
            mask::stored(&mut stored);
        }
        let mut row = Row::new(&stored.exchange, &stored.reading);
        if row.federation && !row.caused_by.is_some_and(|link| link.proven) {
            row.caused_by = held_by(store, &row)?.or(row.caused_by);
        }
        let exchange = ExchangeView::new(node.as_deref(), &stored.exchange, &stored.reading);
        serde_json::to_vec(&Detail { exchange, row, request_text, response_text })
            .map_err(|e| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "store", e.to_string()))
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// Exchanges around one, among which its cause is looked for.
const NEAR: usize = 64;

/// The request that names this one as what it was held for.
fn held_by(store: &Store, row: &Row) -> Result<Option<Link>, Refusal> {
    let query = Query {
        filter: None,
        federation: true,
        from: None,
        to: None,
        cursor: Cursor::Around(row.id),
        limit: NEAR,
        scan_limit: SCAN_ROWS,
    };
    let mut rows = store.page(&query)?.rows;
    tie(&mut rows);
    Ok(rows.iter().find(|near| near.id == row.id).and_then(|near| near.caused_by))
}

async fn octets(
    viewer: &Viewer,
    id: ExchangeId,
    of_request: bool,
    asked: Asked,
) -> Result<Response, Refusal> {
    let unmask = unmask(&asked)?;
    let download = flag(&asked, "download")?;
    with_store(viewer, move |store| {
        let exchange = get(store, id)?.exchange;
        let target = exchange.request.as_ref().and_then(|r| r.target.as_deref());
        let name = download.then(|| {
            let side = if of_request { "request" } else { "response" };
            body::file_name(target.filter(|_| !of_request), &format!("{id}-{side}.bin"))
        });
        let message = if of_request {
            exchange.request.as_ref().map(|r| &r.message)
        } else {
            exchange.response.as_ref().map(|r| &r.message)
        };
        match message {
            Some(message) => Ok(body::octets(message, &asked.headers, unmask, name.as_deref())),
            None => Err(Refusal::not_found("this side of the exchange was not seen")),
        }
    })
    .await
}

async fn around(viewer: &Viewer, id: ExchangeId, asked: &Asked) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Around {
        rows: Vec<Row>,
    }
    let limit = number(asked, "limit", 12, 200)?;
    let rows = with_store(viewer, move |store| {
        let stored = get(store, id)?;
        let filter = neighbours(&stored);
        let query = Query {
            filter: filter.as_ref(),
            federation: stored.reading.federation,
            from: None,
            to: None,
            cursor: Cursor::Around(id),
            limit,
            scan_limit: SCAN_ROWS,
        };
        Ok(store.page(&query)?.rows)
    })
    .await?;
    Ok(Json(Around { rows: masked(rows) }).into_response())
}

/// The same two hosts, in either direction, or the same activity; `None` where neither is known.
fn neighbours(stored: &Stored) -> Option<Filter> {
    let origin = stored.reading.origin.as_ref().and_then(|o| o.host.as_deref());
    let host = stored.exchange.request.as_ref().and_then(|r| r.host.as_deref());
    let activity = stored.reading.activity.as_ref().and_then(|a| a.id.as_deref());
    let mut ways = Vec::new();
    if let (Some(a), Some(b)) = (origin, host) {
        let both = format!("[{}, {}]", quoted(a), quoted(b));
        ways.push(format!("(origin.host in {both} && request.host in {both})"));
    } else if let Some(host) = host {
        ways.push(format!("request.host == {}", quoted(host)));
    }
    if let Some(id) = activity {
        ways.push(format!("activity.id == {}", quoted(id)));
    }
    if ways.is_empty() {
        return None;
    }
    // A name too long for a filter names nothing that anyone would look for.
    Filter::parse(&ways.join(" || ")).ok()
}

/// A CEL string literal.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len().saturating_add(2));
    literal.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                literal.push('\\');
                literal.push(c);
            }
            c if c.is_control() => literal.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

async fn strip(viewer: &Viewer, asked: &Asked) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Strip {
        from: Option<String>,
        to: Option<String>,
        bars: Vec<Bar>,
    }
    let (from, to) = (time(asked, "from")?, time(asked, "to")?);
    let bars = number(asked, "bars", 240, 2_000)?;
    let strip = with_store(viewer, move |store| {
        let stats = store.stats()?;
        // The newest exchange belongs to the last bar, whose end is not part of it.
        let from = from.or(stats.oldest);
        let to = to.or(stats.newest.map(|t| t.plus_nanos(1)));
        let (Some(from), Some(to)) = (from, to) else {
            return Ok(Strip { from: None, to: None, bars: Vec::new() });
        };
        if to <= from {
            return Err(Refusal::bad_request("from must be before to"));
        }
        Ok(Strip {
            from: Some(from.to_string()),
            to: Some(to.to_string()),
            bars: store.strip(from, to, bars)?,
        })
    })
    .await?;
    Ok(Json(strip).into_response())
}

async fn export(viewer: &Viewer, asked: &Asked) -> Result<Response, Refusal> {
    let (format, kind, extension) = match asked.parameter("format") {
        Some("har") => (ExportFormat::Har, "application/json", "har"),
        Some("jsonl") => (ExportFormat::Jsonl, "application/x-ndjson", "jsonl"),
        Some("pcapng") => (ExportFormat::Pcapng, "application/vnd.tcpdump.pcap", "pcapng"),
        _ => return Err(Refusal::bad_request("format is har, jsonl or pcapng")),
    };
    let Some(exporter) = viewer.shared.exporter.clone() else {
        return Err(Refusal::not_found("this viewer cannot export"));
    };
    let Selection { filter, federation, from, to } = Selection::of(asked)?;
    let export = Export { format, filter, federation, from, to, unmask: unmask(asked)? };
    let (sender, mut chunks) = mpsc::channel(4);
    let turns = Arc::clone(&viewer.shared.store_calls);
    let Ok(turn) = turns.try_acquire_owned() else {
        return Err(Refusal::busy("too many requests are using the store"));
    };
    let store = viewer.shared.store.clone();
    tokio::task::spawn_blocking(move || {
        let mut to = Chunks { sender, chunk: Vec::with_capacity(CHUNK) };
        let result = exporter(&store, &export, &mut to).and_then(|()| Ok(to.flush()?));
        if let Err(error) = result {
            // Whoever went away is not told.
            let _ = to.sender.blocking_send(Err(io::Error::other(error.to_string())));
        }
        drop(turn);
    });
    // The first chunk decides whether there is an answer; what fails later cuts it off, which the client notices.
    let first = match chunks.recv().await {
        Some(Err(error)) => {
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "store", error.to_string()));
        }
        Some(Ok(chunk)) => chunk,
        None => Bytes::new(),
    };
    let rest = futures_util::stream::unfold(chunks, async |mut chunks| Some((chunks.recv().await?, chunks)));
    let stream = futures_util::StreamExt::chain(futures_util::stream::iter([Ok(first)]), rest);
    let name = body::file_name(Some(&viewer.shared.live.status().source.name), "exchanges");
    Ok((
        [
            (header::CONTENT_TYPE, kind.to_owned()),
            (header::CONTENT_DISPOSITION, format!("attachment; filename=\"fedisniff-{name}.{extension}\"")),
        ],
        Body::from_stream(stream),
    )
        .into_response())
}

/// Large enough that a message between threads does not count.
const CHUNK: usize = 64 << 10;

/// Passes what is written to a browser; waits for a slow one, fails when it went away.
struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
