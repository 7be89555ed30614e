//! Damaged captures: of the exchanges that lost no byte, how many are reported whole, and that nothing is invented.
//! The truth is found by `tests::intact`, without the product's code. `cargo xtask bench recovery` measures the same on
//! a capture thirty times as large, beside other programs.

use sniffer::frame::{Frame, Interface, LinkType, Timestamp};
use sniffer::pipeline::{Config, Pipeline, Told};
use sniffer::view::ExchangeView;
use tests::genpcap::{KeepAlive, keep_alive};
use tests::intact::{Score, Truth};
use tests::mangle::{Damage, plan};
use tests::pcap::{Reader, Record, Writer};

/// Runs the records of the plan through the pipeline; each keeps its own time unless `restamp`, which gives it the time
/// of the record whose place it took, as a capture on one clock would.
fn score(records: &[Record], truth: &Truth, damage: Damage, restamp: bool) -> Score {
    let plan = plan(truth.records, damage, 42);
    let mut pipeline = Pipeline::new(Config::default());
    let mut told: Vec<Told> = Vec::new();
    let mut clock = 0;
    for number in &plan {
        let record = &records[*number as usize];
        clock = clock.max(record.time);
        pipeline.push(
            &Frame {
                time: Timestamp(if restamp { clock } else { record.time }),
                interface: Interface::Unknown,
                hook: None,
                link: LinkType::Ethernet,
                bytes: &record.bytes,
                wire_length: record.bytes.len() as u32,
            },
            &mut told,
        );
    }
    pipeline.finish(&mut told);
    let lines = told.iter().map(|told| {
        serde_json::to_value(ExchangeView::new(None, &told.exchange, &told.reading))
            .expect("an exchange serialises")
    });
    truth.score(&truth.intact(&plan), lines)
}

#[test]
fn exchanges_that_lost_no_byte_are_reported_whole_whatever_happened_around_them() {
    let mut writer = Writer::new(Vec::new()).expect("memory can be written");
    let options = KeepAlive { connections: 64, exchanges: 6_000, seed: 7 };
    keep_alive(options, &mut writer).expect("memory can be written");
    let capture = writer.into_inner();
    let truth = Truth::read(&*capture).expect("our own capture can be read");
    let records: Vec<Record> =
        Reader::new(&*capture).and_then(Iterator::collect).expect("our own capture can be read");
    // What must be reached, in percent (facts/performance.md, P6); suricata reaches 93.5, 62, 66 and 100.
    for (damage, least) in [
        (Damage::None, 100.0),
        (Damage::Drop(1_000), 99.5),
        (Damage::Drop(10_000), 99.0),
        (Damage::Displace(50_000), 100.0),
        (Damage::Duplicate(50_000), 100.0),
    ] {
        for restamp in [false, true] {
            let score = score(&records, &truth, damage, restamp);
            let name = damage.name();
            assert!(
                score.intact > options.exchanges / 2,
                "{name}: the test itself lost its exchanges: {score:?}"
            );
            assert!(score.honest(), "{name}: something was invented: {score:?}");
            assert!(score.percent() >= least, "{name}: {:.2} % of {least} %: {score:?}", score.percent());
        }
    }
}
