//! The stage at its edge: segments in, events out; and against a twin that remembers every byte in a map.
#![allow(clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::flow::{self, CloseReason, Direction::ToClient, Direction::ToServer, Ends, Flags, Handshake};
use crate::flow::{MID_STREAM_BASE, Segment};
use crate::frame::Loss;

const MS: u64 = 1_000_000;
const FLOW: FlowId = FlowId(7);

/// A reassembler with one flow, and all that it said.
struct Bench {
    stage: Reassembler,
    now: u64,
    events: Vec<Event<'static>>,
    /// The most events that one push gave.
    most_at_once: usize,
}

fn opened(flow: FlowId, handshake: Handshake) -> Opened {
    let end = |last, port| SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), port));
    Opened { flow, ends: Ends { client: end(1, 40000), server: end(2, 80) }, time: Timestamp(0), handshake }
}

fn segment(direction: Direction, offset: u64, payload: &[u8]) -> Segment<'_> {
    Segment {
        flow: FLOW,
        direction,
        time: Timestamp(0),
        interface: Interface::Declared(0),
        offset,
        payload: Cow::Borrowed(payload),
        missing: 0,
        flags: Flags::default(),
        ack: None,
    }
}

/// Events that outlive the frame, each segment for itself.
fn owned(event: Event<'_>) -> Vec<Event<'static>> {
    vec![match event {
        Event::Data(data) => {
            let own = |data: Data<'_>| Event::Data(Data { bytes: Cow::Owned(data.bytes.to_vec()), ..data });
            return data.segments().map(own).collect();
        }
        Event::Opened(opened) => Event::Opened(opened),
        Event::Gap { flow, direction, time, offset, length, cause } => {
            Event::Gap { flow, direction, time, offset, length, cause }
        }
        Event::End { flow, direction, time, kind } => Event::End { flow, direction, time, kind },
        Event::Conflict { flow, direction, time, offset } => Event::Conflict { flow, direction, time, offset },
    }]
}

impl Bench {
    fn new(config: Config, handshake: Handshake) -> Self {
        let mut bench = Self { stage: Reassembler::new(config), now: 0, events: Vec::new(), most_at_once: 0 };
        bench.flow_event(flow::Event::Opened(opened(FLOW, handshake)));
        bench
    }

    fn seen() -> Self {
        Self::new(Config::default(), Handshake::Seen)
    }

    fn flow_event(&mut self, event: flow::Event<'_>) {
        let mut out = Vec::new();
        self.stage.push(event, &mut out);
        self.most_at_once = self.most_at_once.max(out.len());
        self.events.extend(out.into_iter().flat_map(owned));
        assert!(self.stage.counters().held <= self.stage.shared.config.budget as u64, "the budget was passed");
    }

    fn push(&mut self, mut segment: Segment<'_>) -> &mut Self {
        segment.time = Timestamp(self.now);
        self.flow_event(flow::Event::Segment(segment));
        self
    }

    fn data(&mut self, direction: Direction, offset: u64, payload: &[u8]) -> &mut Self {
        self.push(segment(direction, offset, payload))
    }

    /// A pure acknowledgement, travelling in `direction`.
    fn ack(&mut self, direction: Direction, ack: u64) -> &mut Self {
        self.push(Segment { ack: Some(ack), ..segment(direction, 0, b"") })
    }

    fn fin(&mut self, direction: Direction, offset: u64) -> &mut Self {
        self.push(Segment { flags: Flags { fin: true, ..Flags::default() }, ..segment(direction, offset, b"") })
    }

    fn wait(&mut self, ms: u64) -> &mut Self {
        self.now += ms * MS;
        let mut out = Vec::new();
        while let Some(due) = self.stage.deadline()
            && due <= Timestamp(self.now)
        {
            self.stage.expire(Timestamp(self.now), &mut out);
        }
        self.events.extend(out.into_iter().flat_map(owned));
        self
    }

    fn finish(&mut self) -> &mut Self {
        let mut out = Vec::new();
        self.stage.finish(Timestamp(self.now), &mut out);
        self.events.extend(out.into_iter().flat_map(owned));
        assert_eq!(self.stage.counters().held, 0, "something is held after the end");
        let counters = self.stage.counters();
        let by_cause: u64 = counters.gap_causes.named().iter().map(|(_, n)| n).sum();
        assert_eq!(by_cause, counters.gaps, "each gap has one cause");
        self
    }

    /// What was said since the last look, in short.
    fn said(&mut self) -> Vec<String> {
        let way = |direction| if direction == ToServer { '>' } else { '<' };
        std::mem::take(&mut self.events)
            .into_iter()
            .filter_map(|event| match event {
                Event::Opened(_) => None,
                Event::Data(data) => {
                    let start = if data.segment_start { "" } else { "~" };
                    Some(format!("{}{start}{}", way(data.direction), String::from_utf8_lossy(&data.bytes)))
                }
                Event::Gap { direction, length, cause, .. } => {
                    Some(format!("{}gap {length} {cause:?}", way(direction)))
                }
                Event::End { direction, kind, .. } => Some(format!("{}{kind:?}", way(direction))),
                Event::Conflict { direction, offset, .. } => Some(format!("{}conflict {offset}", way(direction))),
            })
            .collect()
    }
}

#[test]
fn data_in_order_passes_at_once_and_unheld() {
    let mut b = Bench::seen();
    b.data(ToServer, 0, b"GET ").data(ToServer, 4, b"/");
    assert_eq!(b.said(), [">GET ", ">/"]);
    assert_eq!(b.stage.counters().held_peak, 0);
}

#[test]
fn disordered_segments_come_out_in_order_each_as_it_was_sent() {
    let mut b = Bench::seen();
    b.data(ToServer, 0, b"a").data(ToServer, 2, b"cc").data(ToServer, 4, b"d").data(ToServer, 1, b"b");
    assert_eq!(b.said(), [">a", ">b", ">cc", ">d"]);
}

#[test]
fn tiny_held_neighbours_share_memory_but_stay_segments() {
    let mut b = Bench::seen();
    for (i, byte) in b"abcdefgh".iter().enumerate().skip(1).rev() {
        b.data(ToServer, i as u64, std::slice::from_ref(byte));
    }
    b.data(ToServer, 0, b"a");
    assert_eq!(b.said(), [">a", ">b", ">c", ">d", ">e", ">f", ">g", ">h"]);
}

#[test]
fn an_overlapping_segment_gives_only_what_is_new_and_says_that_it_was_cut() {
    let mut b = Bench::seen();
    b.data(ToServer, 0, b"abc").data(ToServer, 1, b"bcde");
    assert_eq!(b.said(), [">abc", ">~de"]);
    assert_eq!(b.stage.counters().duplicate_bytes, 2);
}

#[test]
fn a_copy_seen_at_another_interface_is_no_anomaly() {
    let mut b = Bench::seen();
    for _ in 0..2 {
        b.push(Segment { interface: Interface::Declared(1), ..segment(ToServer, 0, b"abc") });
    }
    assert_eq!(b.said(), [">abc"]);
    assert_eq!((b.stage.counters().conflicts, b.stage.counters().duplicate_bytes), (0, 3));
}

#[test]
fn a_retransmission_with_other_bytes_is_named_and_the_first_copy_kept() {
    let mut b = Bench::seen();
    b.data(ToServer, 0, b"abcd").data(ToServer, 0, b"abXd").data(ToServer, 6, b"gh").data(ToServer, 5, b"fgH");
    b.data(ToServer, 4, b"e");
    assert_eq!(b.said(), [">abcd", ">conflict 2", ">conflict 7", ">e", ">f", ">gh"]);
    assert_eq!(b.stage.counters().conflicts, 2);
}

#[test]
fn a_keep_alive_probe_is_no_conflict() {
    let mut b = Bench::seen();
    b.data(ToServer, 0, b"abc").data(ToServer, 2, b"\0").data(ToServer, 2, b"").data(ToServer, 3, b"d");
    assert_eq!(b.said(), [">abc", ">d"]);
}

#[test]
fn a_hole_that_the_peer_acknowledged_becomes_a_gap_after_the_time_of_disorder() {
    let mut b = Bench::seen();
    b.data(ToServer, 0, b"ab").data(ToServer, 5, b"f").ack(ToClient, 6).wait(99);
    assert_eq!(b.said(), [">ab"]);
    b.wait(1);
    assert_eq!(b.said(), [">gap 3 AckedUnseen", ">f"]);
}

#[test]
fn a_hole_that_was_acknowledged_long_ago_does_not_wait_again() {
    let mut b = Bench::seen();
    b.data(ToServer, 0, b"ab").ack(ToClient, 5).wait(5_000);
    assert_eq!(b.said(), [">ab"]);
    b.data(ToServer, 5, b"f");
    assert_eq!(b.said(), [">gap 3 AckedUnseen", ">f"]);
}

#[test]
fn an_acknowledgement_beyond_all_that_is_in_hand_declares_nothing() {
    let mut b = Bench::seen();
    b.data(ToServer, 0, b"ab").ack(ToClient, 1_000_000).wait(60_000);
    assert_eq!(b.said(), [">ab"]);
    b.data(ToServer, 3, b"d").wait(50).data(ToServer, 2, b"c");
    assert_eq!(b.said(), [">c", ">d"]);
}

#[test]
fn a_hole_that_nobody_acknowledges_waits_for_the_deadline() {
    let mut b = Bench::seen();
    b.data(ToServer, 1, b"b").wait(29_999);
    assert!(b.said().is_empty());
    b.wait(1);
    assert_eq!(b.said(), [">gap 1 Deadline", ">b"]);
}

#[test]
fn a_hole_soon_after_a_loss_report_is_laid_to_the_capture() {
    let mut b = Bench::seen();
    b.stage.lost(&Loss { time: Timestamp(0), interface: Interface::Declared(0), frames: 3 });
    b.wait(500).data(ToServer, 1, b"b").ack(ToClient, 2).wait(100);
    assert_eq!(b.said(), [">gap 1 CaptureLoss", ">b"]);
    b.wait(2_000).data(ToServer, 3, b"d").ack(ToClient, 4).wait(100);
    assert_eq!(b.said(), [">gap 1 AckedUnseen", ">d"]);
    b.stage.lost(&Loss { time: Timestamp(b.now), interface: Interface::Declared(9), frames: 3 });
    b.data(ToServer, 5, b"f").ack(ToClient, 6).wait(100);
    assert_eq!(b.said(), [">gap 1 AckedUnseen", ">f"]);
}

#[test]
fn a_cut_frame_is_a_gap_inside_the_segment_unless_a_longer_copy_comes() {
    let mut b = Bench::seen();
    b.push(Segment { missing: 3, ..segment(ToServer, 0, b"ab") });
    assert_eq!(b.said(), [">ab"]);
    b.push(Segment { missing: 1, ..segment(ToServer, 0, b"abcd") }).data(ToServer, 5, b"f").wait(100);
    assert_eq!(b.said(), [">~cd", ">gap 1 Truncated", ">f"]);
    b.push(Segment { missing: 3, ..segment(ToServer, 6, b"") }).wait(100).finish();
    assert_eq!(b.said(), [">gap 3 Truncated", ">CaptureEnd", "<CaptureEnd"]);
}

#[test]
fn fin_ends_a_direction_when_all_before_it_was_given() {
    let mut b = Bench::seen();
    b.fin(ToServer, 3).data(ToServer, 1, b"bc").fin(ToServer, 3);
    assert!(b.said().is_empty());
    b.data(ToServer, 0, b"a").data(ToServer, 3, b"zz").fin(ToClient, 0);
    assert_eq!(b.said(), [">a", ">bc", ">Fin", "<Fin"]);
    b.data(ToServer, 1, b"bc");
    assert_eq!((b.stage.counters().after_end, b.stage.counters().duplicate_bytes), (2, 2));
    b.finish();
    assert!(b.said().is_empty());
}

#[test]
fn a_hole_before_fin_becomes_a_gap_once_it_is_acknowledged() {
    let mut b = Bench::seen();
    b.data(ToServer, 0, b"a").fin(ToServer, 3).ack(ToClient, 4).wait(100);
    assert_eq!(b.said(), [">a", ">gap 2 AckedUnseen", ">Fin"]);
}

#[test]
fn a_reset_ends_both_directions_after_late_frames_had_their_chance() {
    let mut b = Bench::seen();
    b.data(ToServer, 0, b"a");
    b.push(Segment { flags: Flags { rst: true, ..Flags::default() }, ..segment(ToClient, 0, b"") });
    b.data(ToServer, 2, b"c").wait(50).data(ToServer, 1, b"b").data(ToServer, 5, b"f").wait(50);
    assert_eq!(b.said(), [">a", ">b", ">c", ">gap 2 Deadline", ">f", ">Reset", "<Reset"]);
    b.flow_event(flow::Event::Closed { flow: FLOW, time: Timestamp(b.now), reason: CloseReason::Finished });
    assert!(b.said().is_empty());
}

#[test]
fn a_closed_flow_gives_what_it_held_and_is_abandoned() {
    let mut b = Bench::seen();
    b.data(ToClient, 1, b"b");
    b.flow_event(flow::Event::Closed { flow: FLOW, time: Timestamp(9), reason: CloseReason::Evicted });
    assert_eq!(b.said(), ["<gap 1 Deadline", "<b", ">Abandoned", "<Abandoned"]);
    b.data(ToClient, 2, b"c");
    assert!(b.said().is_empty(), "an unknown flow");
}

#[test]
fn the_end_of_the_capture_says_which_holes_were_acknowledged() {
    let mut b = Bench::seen();
    b.data(ToServer, 1, b"b").data(ToServer, 3, b"d").ack(ToClient, 2).finish();
    assert_eq!(b.said(), [">gap 1 AckedUnseen", ">b", ">gap 1 Deadline", ">d", ">CaptureEnd", "<CaptureEnd"]);
}

#[test]
fn an_answer_is_never_given_before_its_question() {
    let mut b = Bench::seen();
    b.push(Segment { ack: Some(3), ..segment(ToClient, 0, b"200") });
    assert!(b.said().is_empty());
    b.wait(50).data(ToServer, 0, b"GET");
    assert_eq!(b.said(), [">GET", "<200"]);
}

#[test]
fn an_answer_to_a_question_that_was_lost_comes_after_the_time_of_disorder_and_once_only() {
    let mut b = Bench::seen();
    b.push(Segment { ack: Some(3), ..segment(ToClient, 0, b"200") }).wait(100);
    assert_eq!(b.said(), ["<200"]);
    b.push(Segment { ack: Some(6), ..segment(ToClient, 3, b"200") });
    assert_eq!(b.said(), ["<200"], "one direction only is seen: no waiting for the other");
    b.data(ToServer, 6, b"GET").wait(100);
    assert_eq!(b.said(), [">gap 6 AckedUnseen", ">GET"]);
    b.push(Segment { ack: Some(12), ..segment(ToClient, 6, b"200") });
    assert!(b.said().is_empty(), "the other direction is seen again");
}

#[test]
fn a_stream_picked_up_midway_waits_for_disordered_beginnings() {
    let mut b = Bench::new(Config::default(), Handshake::MidStream);
    let base = MID_STREAM_BASE;
    b.data(ToServer, base, b"cd").data(ToServer, base - 2, b"ab");
    assert!(b.said().is_empty());
    b.wait(100).data(ToServer, base - 3, b"z");
    assert_eq!(b.said(), [">ab", ">cd"]);
    assert_eq!(b.stage.counters().before_start, 1);
}

#[test]
fn a_stream_picked_up_midway_begins_when_it_is_answered() {
    let mut b = Bench::new(Config::default(), Handshake::MidStream);
    let base = MID_STREAM_BASE;
    b.push(Segment { ack: Some(base), ..segment(ToServer, base, b"GET") });
    b.push(Segment { ack: Some(base + 3), ..segment(ToClient, base, b"200") });
    assert_eq!(b.said(), [">GET", "<200"], "no waiting, and the question first");
}

#[test]
fn a_syn_that_was_overtaken_names_the_beginning() {
    let mut b = Bench::new(Config::default(), Handshake::MidStream);
    let base = MID_STREAM_BASE;
    b.data(ToServer, base, b"GET");
    b.push(Segment { flags: Flags { syn: true, ..Flags::default() }, ..segment(ToServer, base, b"") });
    assert_eq!(b.said(), [">GET"]);
}

#[test]
fn too_many_holes_give_up_the_first() {
    let mut b = Bench::new(Config { holes_limit: 2, ..Config::default() }, Handshake::Seen);
    b.data(ToServer, 1, b"b").data(ToServer, 3, b"d").data(ToServer, 5, b"f");
    assert_eq!(b.said(), [">gap 1 Budget", ">b"]);
    assert_eq!(b.stage.counters().evicted, 1);
}

#[test]
fn a_spent_budget_gives_up_whoever_is_nearest_to_giving_up() {
    let mut b = Bench::new(Config { budget: 8_000, ..Config::default() }, Handshake::Seen);
    b.flow_event(flow::Event::Opened(opened(FlowId(8), Handshake::Seen)));
    b.data(ToServer, 1, &[b'a'; 3_000]).wait(1);
    b.push(Segment { flow: FlowId(8), ..segment(ToServer, 1, &[b'b'; 3_000]) });
    assert_eq!(b.said().first().map(String::as_str), Some(">gap 1 Budget"));
    assert!(b.stage.counters().held > 3_000, "the younger one is still held");
}

// The fuzzer found it: the timer of the reset was the first one, and giving it up gave nothing up, for ever.
#[test]
fn a_reset_that_waits_does_not_keep_the_budget_from_being_kept() {
    let mut b = Bench::new(Config { budget: 4_000, ..Config::default() }, Handshake::Seen);
    b.push(Segment { flags: Flags { rst: true, ..Flags::default() }, ..segment(ToClient, 10, b"") });
    b.flow_event(flow::Event::Opened(opened(FlowId(8), Handshake::Seen)));
    b.push(Segment { flow: FlowId(8), ..segment(ToServer, 1, &[b'b'; 5_000]) });
    let said = b.said();
    assert!(said.iter().any(|s| s == ">gap 1 Budget"), "{said:?}");
}

#[test]
fn a_byte_a_segment_in_reverse_order_stays_cheap_and_whole() {
    let mut b = Bench::seen();
    let text: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    for at in (0..text.len()).rev() {
        b.data(ToServer, at as u64, &text[at..=at]);
    }
    let got: Vec<u8> = b
        .events
        .iter()
        .filter_map(|event| if let Event::Data(data) = event { Some(&data.bytes[..]) } else { None })
        .collect::<Vec<_>>()
        .concat();
    assert_eq!(got, text);
    assert!(b.stage.counters().held_peak < 4 * text.len() as u64, "{}", b.stage.counters().held_peak);
    assert!(b.most_at_once < text.len() / 100, "{} events at once", b.most_at_once);
}

#[test]
fn timers_do_not_pile_up() {
    let mut b = Bench::seen();
    for i in 0..20_000 {
        b.data(ToServer, 2 * i + 1, b"b").data(ToServer, 2 * i, b"a").ack(ToClient, 2 * i + 2);
    }
    assert!(b.stage.timers.len() < 100, "{}", b.stage.timers.len());
}

#[test]
fn timers_of_flows_that_are_over_do_not_pile_up() {
    let mut b = Bench::seen();
    for number in 2..20_000 {
        let flow = FlowId(number);
        b.flow_event(flow::Event::Opened(opened(flow, Handshake::Seen)));
        b.flow_event(flow::Event::Segment(Segment { flow, ..segment(ToServer, 100, b"x") }));
        b.flow_event(flow::Event::Closed { flow, time: Timestamp(0), reason: flow::CloseReason::Evicted });
    }
    assert!(b.stage.timers.len() < 2_000, "{}", b.stage.timers.len());
}

#[test]
fn a_thousand_flows_and_more_all_end_with_the_capture() {
    let mut b = Bench::seen();
    for number in 2..=5_000 {
        b.flow_event(flow::Event::Opened(opened(FlowId(number), Handshake::Seen)));
    }
    b.finish();
    let ends = b.events.iter().filter(|event| matches!(event, Event::End { kind: EndKind::CaptureEnd, .. })).count();
    assert_eq!(ends, 2 * 5_000);
}

/// One thing that happens in the model test.
#[derive(Clone, Debug)]
enum Act {
    Send { to_server: bool, offset: u64, length: usize, missing: u32, other: bool, ack: Option<u64> },
    Fin { to_server: bool, offset: u64 },
    Rst,
    Wait(u64),
}

const SPAN: u64 = 600;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (
            any::<bool>(),
            0..SPAN,
            prop_oneof![3 => 1_usize..4, 3 => 1_usize..200],
            prop_oneof![8 => Just(0_u32), 1 => 1_u32..50],
            prop::bool::weighted(0.1),
            prop::option::of(0..SPAN),
        )
            .prop_map(|(to_server, offset, length, missing, other, ack)| Act::Send {
                to_server, offset, length, missing, other, ack
            }),
        1 => (any::<bool>(), 0..SPAN + 200).prop_map(|(to_server, offset)| Act::Fin { to_server, offset }),
        4 => (0_u64..150).prop_map(Act::Wait),
        1 => prop_oneof![9 => Just(Act::Wait(31_000)), 1 => Just(Act::Rst)],
    ]
}

fn byte(offset: u64, other: bool) -> u8 {
    let byte = (offset.wrapping_mul(31) % 251) as u8;
    if other { byte.wrapping_add(1) } else { byte }
}

/// Runs the acts, and checks what must always hold against a map of first copies.
fn against_the_twin(acts: Vec<Act>, config: Config, base: u64) -> Result<(), TestCaseError> {
    let handshake = if base == 0 { Handshake::Seen } else { Handshake::MidStream };
    let mut b = Bench::new(config, handshake);
    let mut twin: [BTreeMap<u64, u8>; 2] = Default::default();
    let mut sent = [0_u64; 2];
    for act in acts {
        match act {
            Act::Send { to_server, offset, length, missing, other, ack } => {
                let payload: Vec<u8> = (offset..offset + length as u64).map(|at| byte(at, other)).collect();
                let side = usize::from(to_server);
                for (at, byte) in (base + offset..).zip(&payload) {
                    twin[side].entry(at).or_insert(*byte);
                }
                sent[side] += payload.len() as u64;
                let direction = if to_server { ToServer } else { ToClient };
                let ack = ack.map(|ack| base + ack);
                b.push(Segment { missing, ack, ..segment(direction, base + offset, &payload) });
            }
            Act::Fin { to_server, offset } => {
                b.fin(if to_server { ToServer } else { ToClient }, base + offset);
            }
            Act::Rst => {
                let flags = Flags { rst: true, ..Flags::default() };
                b.push(Segment { flags, ..segment(ToServer, base, b"") });
            }
            Act::Wait(ms) => {
                b.wait(ms);
            }
        }
    }
    b.finish();
    let counters = *b.stage.counters();
    let mut delivered = 0;
    for (side, direction) in [(0, ToClient), (1, ToServer)] {
        let mut next = None;
        let mut ends = 0;
        for event in &b.events {
            match event {
                Event::Data(data) if data.direction == direction => {
                    prop_assert!(ends == 0 && !data.bytes.is_empty());
                    prop_assert_eq!(data.offset, next.unwrap_or(data.offset), "tiles exactly");
                    for (at, byte) in (data.offset..).zip(data.bytes.iter()) {
                        prop_assert_eq!(twin[side].get(&at), Some(byte), "the first copy wins");
                    }
                    delivered += data.bytes.len() as u64;
                    next = Some(data.offset + data.bytes.len() as u64);
                }
                Event::Gap { direction: d, offset, length, .. } if *d == direction => {
                    prop_assert!(ends == 0 && *length > 0);
                    prop_assert_eq!(*offset, next.unwrap_or(*offset), "tiles exactly");
                    next = Some(offset + length);
                }
                Event::End { direction: d, .. } if *d == direction => ends += 1,
                _ => {}
            }
        }
        prop_assert_eq!(ends, 1, "one end a direction");
    }
    prop_assert_eq!(delivered, counters.delivered);
    let accounted = counters.delivered + counters.duplicate_bytes + counters.before_start + counters.after_end;
    prop_assert_eq!(accounted, sent[0] + sent[1], "every byte that came is accounted for");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_its_twin(acts in prop::collection::vec(act(), 1..60), midway in any::<bool>()) {
        against_the_twin(acts, Config::default(), if midway { MID_STREAM_BASE } else { 0 })?;
    }

    #[test]
    fn behaves_as_its_twin_when_memory_is_short(
        acts in prop::collection::vec(act(), 1..60),
        budget in 0_usize..6_000,
        flow_budget in 0_usize..6_000,
        holes_limit in 0_usize..4,
        midway in any::<bool>(),
    ) {
        let config = Config { budget, flow_budget, holes_limit, ..Config::default() };
        against_the_twin(acts, config, if midway { MID_STREAM_BASE } else { 0 })?;
    }

    #[test]
    fn any_order_of_segments_gives_the_same_bytes(
        cuts in prop::collection::btree_set(1_u64..SPAN, 0..40),
        order in prop::collection::vec(any::<prop::sample::Index>(), 80),
        copies in prop::collection::vec((0..SPAN, 1_u64..100), 0..10),
    ) {
        let mut pieces: Vec<(u64, u64)> = copies.iter().map(|(at, n)| (*at, (at + n).min(SPAN))).collect();
        let mut from = 0;
        for cut in cuts.into_iter().chain([SPAN]) {
            pieces.push((from, cut));
            from = cut;
        }
        let mut b = Bench::seen();
        for index in order {
            if pieces.is_empty() { break }
            let (from, to) = pieces.swap_remove(index.index(pieces.len()));
            let payload: Vec<u8> = (from..to).map(|at| byte(at, false)).collect();
            b.data(ToServer, from, &payload);
        }
        let got: Vec<u8> = b.events.iter().filter_map(|event| match event {
            Event::Data(data) => Some(&data.bytes[..]),
            _ => None,
        }).collect::<Vec<_>>().concat();
        prop_assert_eq!(got, (0..SPAN).map(|at| byte(at, false)).collect::<Vec<_>>());
        let counters = b.stage.counters();
        prop_assert_eq!((counters.gaps, counters.conflicts, counters.held), (0, 0, 0));
    }
}

/// A raw IPv4 frame with a TCP segment, as few bytes as can be.
fn raw_frame(back: bool, seq: u32, ack: Option<u32>, bits: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&(40 + payload.len() as u16).to_be_bytes());
    bytes[9] = 6;
    bytes[12..16].copy_from_slice(if back { &server } else { &client });
    bytes[16..20].copy_from_slice(if back { &client } else { &server });
    let (from, to): (u16, u16) = if back { (80, 40_000) } else { (40_000, 80) };
    bytes[20..22].copy_from_slice(&from.to_be_bytes());
    bytes[22..24].copy_from_slice(&to.to_be_bytes());
    bytes[24..28].copy_from_slice(&seq.to_be_bytes());
    bytes[28..32].copy_from_slice(&ack.unwrap_or(0).to_be_bytes());
    bytes[32] = 0x50;
    bytes[33] = bits | if ack.is_some() { 0x10 } else { 0 };
    bytes.extend_from_slice(payload);
    bytes
}

proptest! {
    #[test]
    fn no_initial_number_makes_a_difference_to_what_is_said(
        client in any::<u32>(),
        server in any::<u32>(),
        handshake in any::<bool>(),
        steps in prop::collection::vec((any::<bool>(), 0_u32..400, prop::option::of(0_u32..400), 0_usize..60), 1..40),
    ) {
        let run = |client: u32, server: u32| {
            let mut tracker = flow::Tracker::default();
            let mut stage = Reassembler::default();
            let mut said = Vec::new();
            let open = [
                raw_frame(false, client, None, 2, b""),
                raw_frame(true, server, Some(client.wrapping_add(1)), 2, b""),
            ];
            let frames = open.into_iter().filter(|_| handshake).chain(steps.iter().map(|step| {
                let (back, at, ack, length) = *step;
                let (mine, theirs) = if back { (server, client) } else { (client, server) };
                let payload: Vec<u8> = (0..length as u64).map(|i| byte(u64::from(at) + i, false)).collect();
                let place = |isn: u32, at: u32| isn.wrapping_add(1).wrapping_add(at);
                raw_frame(back, place(mine, at), ack.map(|ack| place(theirs, ack)), 0, &payload)
            }));
            for (i, bytes) in frames.enumerate() {
                let time = Timestamp(i as u64 * 30 * MS);
                let (mut events, mut out) = (Vec::new(), Vec::new());
                stage.expire(time, &mut out);
                let frame = crate::frame::Frame {
                    time, interface: Interface::Unknown, hook: None, link: crate::frame::LinkType::Raw,
                    bytes: &bytes, wire_length: bytes.len() as u32,
                };
                tracker.push(&frame, &mut events);
                for event in events {
                    stage.push(event, &mut out);
                }
                said.extend(out.into_iter().map(|event| format!("{event:?}")));
            }
            let mut out = Vec::new();
            stage.finish(Timestamp(u64::MAX), &mut out);
            said.extend(out.into_iter().map(|event| format!("{event:?}")));
            said
        };
        prop_assert_eq!(run(client, server), run(1_000_000, 2_000_000));
    }
}
