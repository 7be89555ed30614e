//! `/metrics`: the figures of the status for Prometheus, in its text format 0.0.4. Every label's values are bounded:
//! names of the program's own, and those of interfaces, of which no more than [`INTERFACES`] are told apart.

use std::collections::BTreeMap;
use std::fmt;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::gate::Refusal;
use super::{LISTENERS, LiveStatus, PacketCounts, Status, Viewer, api};
use crate::pipeline::Counters;
use crate::store::Stats;

/// Interfaces that are told apart; the others are counted together.
const INTERFACES: usize = 1_000;
/// What stands for interfaces that are not told apart. No interface has such a name: the kernel allows no space.
const GONE: &str = "gone interfaces";
const OTHERS: &str = "other interfaces";

/// Answers a scrape.
pub(super) async fn answer(viewer: &Viewer) -> Result<Response, Refusal> {
    let stats = api::stats(viewer, true).await?;
    let status = viewer.shared.live.status().clone();
    let listeners = LISTENERS.saturating_sub(viewer.shared.listeners.available_permits());
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures { status, stats, listeners: listeners as u64 }));
    let mut text = String::with_capacity(16 << 10);
    if prometheus_text::encode(&mut text, &registry).is_err() {
        // Writing to a String fails only when a figure cannot be written at all.
        return Err(Refusal::new(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            "metrics",
            "the figures could not be written",
        ));
    }
    Ok(([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response())
}

/// The memory that this process has, in bytes (proc(5), statm: the second field, in pages).
pub fn resident_bytes() -> Option<u64> {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten()?;
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(page).ok()?)
}

/// What a scrape gives.
#[derive(Debug)]
struct Figures {
    status: Status,
    stats: Stats,
    listeners: u64,
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut out = Out(encoder);
        self.process(&mut out)?;
        self.store(&mut out)?;
        if let Some(counters) = &self.status.counters {
            decoding(&mut out, counters)?;
            out.counter(
                "fedisniff_capture_lost_frames",
                "Frames that the capture lost, as it says itself",
                self.status.lost.frames,
            )?;
        }
        match &self.status.live {
            Some(live) => packets(&mut out, live),
            None => Ok(()),
        }
    }
}

/// Writes one metric after another. `_total` is put after a counter's name by the encoder.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<[(&str, &str); 0], _, u64>(&value, None)
    }

    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'l str, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (of, value) in values {
            metric
                .encode_family(&[(label, of)])?
                .encode_counter::<[(&str, &str); 0], _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauge_of(name, help, value as f64)
    }

    fn gauge_of(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }
}

impl Figures {
    fn process(&self, out: &mut Out<'_>) -> fmt::Result {
        out.0
            .encode_descriptor("fedisniff_build_info", "The version", None, MetricType::Gauge)?
            .encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?
            .encode_gauge(&1_u64)?;
        if let Some(bytes) = resident_bytes() {
            out.gauge("process_resident_memory_bytes", "Memory that this process has", bytes)?;
        }
        if let Some(started) = self.status.started {
            let help = "When this process began, since the epoch";
            out.gauge_of("process_start_time_seconds", help, started.0 as f64 / 1e9)?;
        }
        let reading = u64::from(self.status.source.reading);
        out.gauge("fedisniff_source_reading", "1 while more frames are to come", reading)?;
        out.gauge("fedisniff_viewer_listeners", "Browsers that follow the events", self.listeners)
    }

    fn store(&self, out: &mut Out<'_>) -> fmt::Result {
        let Stats { exchanges, federation, file_bytes, newest, expired, .. } = &self.stats;
        out.gauge("fedisniff_store_size_bytes", "What the store's file takes on the disk", *file_bytes)?;
        out.gauge("fedisniff_store_exchanges", "Exchanges in the store", *exchanges)?;
        out.gauge(
            "fedisniff_store_federation_exchanges",
            "Exchanges in the store that are between servers",
            *federation,
        )?;
        out.counter(
            "fedisniff_store_expired_exchanges",
            "Exchanges that the limits removed since the store was made",
            *expired,
        )?;
        match newest {
            Some(newest) => out.gauge_of(
                "fedisniff_store_newest_exchange_timestamp_seconds",
                "When the newest exchange in the store began, since the epoch",
                newest.0 as f64 / 1e9,
            ),
            None => Ok(()),
        }
    }
}

fn decoding(out: &mut Out<'_>, counters: &Counters) -> fmt::Result {
    let Counters { flow, stream, http, readings, memory_peak } = counters;
    out.counter("fedisniff_frames", "Frames that reached decoding", flow.frames)?;
    out.counter("fedisniff_frame_bytes", "Bytes of these on the wire", flow.wire_bytes)?;
    out.counter("fedisniff_truncated_frames", "Frames that were captured in part", flow.truncated)?;
    out.counters(
        "fedisniff_other_frames",
        "Frames that hold no TCP segment that could be decoded",
        "reason",
        [
            ("not-ip", flow.not_ip),
            ("not-tcp", flow.other_ip),
            ("malformed", flow.malformed),
            ("unknown-link", flow.unknown_link),
        ],
    )?;
    out.counter("fedisniff_flows", "TCP connections", flow.flows)?;
    out.counter(
        "fedisniff_evicted_flows",
        "Connections that were given up for lack of room",
        flow.flows_evicted,
    )?;
    out.counter("fedisniff_stream_bytes", "Bytes of streams, in order", stream.delivered)?;
    out.counter("fedisniff_gap_bytes", "Bytes of streams that are missing", stream.gap_bytes)?;
    out.counters("fedisniff_gaps", "Gaps in streams", "cause", stream.gap_causes.named())?;
    out.counter("fedisniff_repeated_bytes", "Bytes that were seen before", stream.duplicate_bytes)?;
    let help = "Retransmissions that differ from the first copy";
    out.counter("fedisniff_conflicting_retransmissions", help, stream.conflicts)?;
    out.gauge("fedisniff_reassembly_held_bytes", "Held until earlier bytes come", stream.held)?;
    out.counter("fedisniff_exchanges", "HTTP exchanges", http.exchanges)?;
    out.counter("fedisniff_unanswered_requests", "Requests without a response", http.unanswered)?;
    out.counter("fedisniff_lone_responses", "Responses without a request", http.lone_responses)?;
    let help = "Bytes that were passed over while looking for the next message";
    out.counter("fedisniff_hunted_bytes", help, http.hunted_bytes)?;
    out.gauge("fedisniff_body_held_bytes", "Bodies of exchanges that are not finished", http.held)?;
    let help = "The most memory that open connections took";
    out.gauge("fedisniff_decoding_memory_peak_bytes", help, *memory_peak)?;
    let others: Vec<(String, u64)> = http
        .other_flows
        .iter()
        .map(|(protocol, n)| {
            let name = serde_json::to_value(protocol).ok().and_then(|v| v.as_str().map(str::to_owned));
            (name.unwrap_or_default(), *n)
        })
        .collect();
    out.counters(
        "fedisniff_other_flows",
        "Connections that are not HTTP",
        "protocol",
        others.iter().map(|(name, n)| (name.as_str(), *n)),
    )?;
    out.counters(
        "fedisniff_readings",
        "Exchanges by what they meant",
        "kind",
        readings.iter().map(|(kind, n)| (*kind, *n)),
    )
}

fn packets(out: &mut Out<'_>, live: &LiveStatus) -> fmt::Result {
    // By name: while interfaces are renamed, two may have the same for a moment, and no series may come twice.
    let mut by_name: BTreeMap<&str, PacketCounts> = BTreeMap::new();
    for (name, counts) in &live.interfaces {
        let name =
            if by_name.len() < INTERFACES || by_name.contains_key(name.as_str()) { name } else { OTHERS };
        let sum = by_name.entry(name).or_default();
        *sum = sum.plus(*counts);
    }
    by_name.insert(GONE, live.gone);
    type Of = fn(&PacketCounts) -> u64;
    let metrics: [(&str, &str, Of); 7] = [
        ("fedisniff_packets_seen", "Packets that went by", |c| c.seen),
        ("fedisniff_packets_skipped", "Packets that were not selected", |c| c.skipped),
        ("fedisniff_packets_copied", "Packets that were copied", |c| c.copied),
        ("fedisniff_packets_copied_bytes", "Bytes that were copied of packets", |c| c.copied_bytes),
        ("fedisniff_packets_cut", "Packets that were copied in part", |c| c.cut),
        ("fedisniff_packets_lost", "Packets that the ring buffer had no room for", |c| c.lost),
        ("fedisniff_packets_lost_bytes", "Bytes of the lost packets", |c| c.lost_bytes),
    ];
    for (name, help, of) in metrics {
        out.counters(name, help, "interface", by_name.iter().map(|(name, counts)| (*name, of(counts))))?;
    }
    let help = "Packets that were copied and then dropped, because decoding was too slow";
    out.counter("fedisniff_packets_dropped", help, live.dropped)?;
    out.counter("fedisniff_packets_dropped_bytes", "Bytes of the dropped packets", live.dropped_bytes)?;
    out.counter("fedisniff_undecodable_records", "Records that could not be read", live.undecodable)?;
    out.gauge("fedisniff_queue_bytes", "Bytes that wait for decoding", live.queued_bytes)?;
    out.gauge("fedisniff_interfaces", "Interfaces that are watched", live.interfaces.len() as u64)?;
    out.counter(
        "fedisniff_gone_interfaces",
        "Interfaces that were watched and have gone",
        live.gone_interfaces,
    )?;
    out.gauge("fedisniff_failed_interfaces", "Interfaces that cannot be watched", live.failed_interfaces)
}
