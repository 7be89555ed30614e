//! Traffic that is meant to hurt: memory stays within the budget, and the work grows with the bytes and no faster.
//! `cargo xtask bench hostile` does the same with gigabytes, and measures.

use std::time::{Duration, Instant};

use sniffer::frame::{Frame, Interface, LinkType, Timestamp};
use sniffer::pipeline::{Config, Counters, Pipeline};
use tests::genpcap::{Hostile, hostile};
use tests::pcap::{Reader, Writer};

fn run(kind: Hostile, bytes: u64) -> (Duration, Counters) {
    let mut writer = Writer::new(Vec::new()).expect("memory can be written");
    hostile(kind, bytes, &mut writer).expect("memory can be written");
    let capture = writer.into_inner();
    let mut pipeline = Pipeline::new(config());
    let mut told = Vec::new();
    let started = Instant::now();
    for record in Reader::new(&*capture).expect("our own capture can be read") {
        let record = record.expect("our own capture can be read");
        pipeline.push(
            &Frame {
                time: Timestamp(record.time),
                interface: Interface::Unknown,
                hook: None,
                link: LinkType::Ethernet,
                bytes: &record.bytes,
                wire_length: record.bytes.len() as u32,
            },
            &mut told,
        );
        told.clear();
    }
    pipeline.finish(&mut told);
    (started.elapsed(), pipeline.counters())
}

/// Budgets small enough to be reached by a few megabytes.
fn config() -> Config {
    let mut config = Config::default();
    config.stream.budget = 256 << 10;
    config.stream.flow_budget = 64 << 10;
    config.flow.flows_limit = 4_096;
    config
}

#[test]
fn hostile_traffic_costs_linear_time_and_stays_within_the_budget() {
    for (kind, name) in Hostile::ALL {
        let (small, _) = run(kind, 1 << 20);
        let (large, counters) = run(kind, 8 << 20);
        assert!(counters.stream.held_peak <= config().stream.budget as u64, "{name}: {:?}", counters.stream);
        assert_eq!(counters.stream.held, 0, "{name}: something is held after the end");
        assert!(counters.flow.segments > 10_000, "{name}: the test itself is too small: {:?}", counters.flow);
        // Eight times the bytes: about eight times as long when linear, 64 times when quadratic. The margins are for a
        // busy machine.
        let allowed = small * 24 + Duration::from_millis(500);
        assert!(large < allowed, "{name}: {small:?} for 1 MiB, {large:?} for 8 MiB");
    }
}
