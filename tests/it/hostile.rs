//! Traffic that is meant to hurt: memory stays within the limit, and the work grows with the bytes and no faster.
//! `cargo xtask bench hostile` does the same with gigabytes, and measures.

use std::io::{self, BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sniffer::frame::{Frame, Interface, LinkType, Timestamp};
use sniffer::pipeline::{Config, Counters, Pipeline, Told};
use tests::genpcap::{Hostile, hostile, open_flows};
use tests::pcap::{ACK, Reader, SYN, Segment, Writer, frame};

use crate::command::program;

/// Counts the requests that it is told of and keeps nothing.
#[derive(Default)]
struct Count(u64);

impl Extend<Told> for Count {
    fn extend<I: IntoIterator<Item = Told>>(&mut self, told: I) {
        self.0 += told.into_iter().filter(|one| one.exchange.request.is_some()).count() as u64;
    }
}

/// Reads a capture; gives how long it took, the requests that were told, and the counters.
fn read(capture: &[u8], config: Config) -> (Duration, u64, Counters) {
    let mut pipeline = Pipeline::new(config);
    let mut told = Count::default();
    let started = Instant::now();
    for record in Reader::new(capture).expect("our own capture can be read") {
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
    }
    pipeline.finish(&mut told);
    (started.elapsed(), told.0, pipeline.counters())
}

fn made(kind: Hostile, bytes: u64) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).expect("memory can be written");
    hostile(kind, bytes, &mut writer).expect("memory can be written");
    writer.into_inner()
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
        let (small, ..) = read(&made(kind, 1 << 20), config());
        let (large, _, counters) = read(&made(kind, 8 << 20), config());
        assert!(counters.stream.held_peak <= config().stream.budget as u64, "{name}: {:?}", counters.stream);
        assert_eq!(counters.stream.held, 0, "{name}: something is held after the end");
        assert!(counters.flow.segments > 10_000, "{name}: the test itself is too small: {:?}", counters.flow);
        // Eight times the bytes: about eight times as long when linear, 64 times when quadratic. The margins are for a
        // busy machine.
        let allowed = small * 24 + Duration::from_millis(500);
        assert!(large < allowed, "{name}: {small:?} for 1 MiB, {large:?} for 8 MiB");
    }
}

#[test]
fn flows_that_do_not_fit_into_memory_are_told_as_far_as_they_came_and_counted() {
    const FLOWS: u32 = 4_000;
    let mut writer = Writer::new(Vec::new()).expect("memory can be written");
    open_flows(FLOWS, &mut writer).expect("memory can be written");
    let capture = writer.into_inner();

    let (_, told, counters) = read(&capture, Config::default());
    assert_eq!((told, counters.flow.flows_evicted), (u64::from(FLOWS), 0), "all of them fit");
    let memory = 8 << 20;
    assert!(counters.memory_peak > memory, "the test itself is too small: {}", counters.memory_peak);

    let config = Config { memory: memory as usize, ..Config::default() };
    let (_, told, short) = read(&capture, config);
    assert!(short.memory_peak <= memory, "{} octets", short.memory_peak);
    assert!(short.flow.flows_evicted > u64::from(FLOWS / 4), "{:?}", short.flow);
    assert_eq!(told, u64::from(FLOWS), "every request is told once, evicted or not");
    assert_eq!(
        (short.stream.delivered, short.http.held),
        (counters.stream.delivered, 0),
        "and no byte is lost"
    );
}

#[test]
fn many_requests_in_few_frames_are_accounted_too() {
    // Each frame adds hundreds of exchanges that wait for their answers: HTTP/1.1 pipelining, and streams of h2.
    let pipelined = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500);
    let mut h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    for stream in (1..1_000_u16).step_by(2) {
        h2.extend_from_slice(b"\x00\x00\x06\x01\x04\x00\x00");
        h2.extend_from_slice(&stream.to_be_bytes());
        h2.extend_from_slice(b"\x82\x84\x86\x41\x01a");
    }
    for (what, bytes) in [("pipelined", pipelined), ("h2", h2)] {
        let mut writer = Writer::new(Vec::new()).expect("memory can be written");
        let mut out = Vec::new();
        let server = SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, 12), 80);
        for flow in 0..100_u16 {
            let client = SocketAddrV4::new(Ipv4Addr::new(10, 42, 0, 2), 10_000 + flow);
            for (seq, flags, payload) in [(0, SYN, &b""[..]), (1, ACK, &bytes)] {
                frame(&Segment { from: client, to: server, seq, ack: 1, flags, payload }, &mut out);
                writer.write(1_000_000 * u64::from(flow), &out).expect("memory can be written");
            }
        }
        let capture = writer.into_inner();
        let (_, told, whole) = read(&capture, Config::default());
        assert_eq!(told, 100 * 500, "{what}");
        // An unfinished exchange takes more than the request of some 30 octets.
        assert!(whole.memory_peak > 100 * 500 * 512, "{what}: {} octets accounted", whole.memory_peak);
        let memory = 16 << 20;
        let (_, told, short) = read(&capture, Config { memory, ..Config::default() });
        assert_eq!(told, 100 * 500, "{what}");
        assert!(short.memory_peak <= memory as u64, "{what}: {} octets", short.memory_peak);
        assert!(short.flow.flows_evicted > 10, "{what}: {:?}", short.flow);
    }
}

/// The peak of resident memory of `fedisniff read -` on what `write` writes, in octets, and what it said.
fn resident(memory: &str, write: impl Fn(&mut dyn Write) -> io::Result<()>) -> (u64, String) {
    // The program's own figure is gone once it was waited for, so it is asked before: after the last octet is written it
    // still has to finish, and its peak only grows until then. `/proc` is what this project's platform has.
    let mut child = Command::new(program())
        .args(["read", "-", "--quiet", "--memory", memory])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("fedisniff starts");
    let mut input = BufWriter::with_capacity(1 << 16, child.stdin.take().expect("its standard input"));
    write(&mut input).expect("fedisniff reads all");
    input.flush().expect("fedisniff reads all");
    let mut peak = 0;
    let status = format!("/proc/{}/status", child.id());
    let mut ask = || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: Option<u64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = kib.map_or(peak, |kib| kib << 10).max(peak);
    };
    ask();
    drop(input);
    while child.try_wait().expect("a child").is_none() {
        ask();
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().expect("it ended");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(peak > 0, "no figure");
    (peak, said)
}

#[test]
fn the_process_stays_within_its_memory_however_long_the_capture_is() {
    const MEMORY: u64 = 96 << 20;
    for (kind, name) in
        [(Hostile::ManyHoles, "holes"), (Hostile::Reversed, "reversed"), (Hostile::SynFlood, "flood")]
    {
        for megabytes in [16, 48] {
            let (peak, _) = resident("96MiB", |to| hostile(kind, megabytes << 20, &mut Writer::new(to)?));
            assert!(peak <= MEMORY, "{name}, {megabytes} MiB: {} MiB", peak >> 20);
        }
    }
    let (peak, said) = resident("96MiB", |to| open_flows(20_000, &mut Writer::new(to)?));
    assert!(peak <= MEMORY, "open flows: {} MiB", peak >> 20);
    assert!(said.contains("flows were given up for want of room (--memory)"), "{said}");
}
