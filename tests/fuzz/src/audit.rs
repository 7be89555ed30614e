//! Frames into the audit: any bytes, of any link type, at any interface, under the policies of the capture s08.

use std::cell::RefCell;
use std::path::Path;

use sniffer::audit::{Auditor, Config, EVIDENCE, NAMES, Outcome};
use sniffer::cluster::read_text;
use sniffer::frame::{Frame, Hook, Interface, LinkType, Timestamp};
use sniffer::verdict::State;

const LINKS: [LinkType; 4] = [LinkType::Ethernet, LinkType::Raw, LinkType::Nflog, LinkType::LinuxSll];
const NAMES_OF_INTERFACES: [&str; 4] = ["veth-a", "veth-b", "cni0", "eth0"];

thread_local! {
    /// Compiled once; the audit never changes it.
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

fn state() -> State {
    STATE.with_borrow_mut(|state| {
        state
            .get_or_insert_with(|| {
                let text = include_str!("../../policy/s08-cluster.yaml");
                State::new(read_text(Path::new("s08-cluster.yaml"), text).cluster).expect("it compiles")
            })
            .clone()
    })
}

/// Each frame: link type, interface and hook (u8), tens of milliseconds since the last (u8), length (u8), bytes.
pub fn run(mut data: &[u8]) {
    let config = Config { findings: 8, attempts: 8, ..Config::default() };
    let mut auditor = Auditor::new(state(), config);
    for (number, name) in (0..).zip(NAMES_OF_INTERFACES) {
        auditor.name_interface(Interface::Declared(number), name);
    }
    let mut time = Timestamp(1_795_419_000_000_000_000);
    while let [kind, wait, length, rest @ ..] = data {
        let bytes = &rest[..usize::from(*length).min(rest.len())];
        data = &rest[bytes.len()..];
        time = time.plus_nanos(u64::from(*wait) * 10_000_000);
        let hook = match kind >> 4 & 3 {
            0 => Some(Hook::Ingress),
            1 => Some(Hook::Egress),
            _ => None,
        };
        auditor.push(&Frame {
            time,
            interface: Interface::Declared(u32::from(kind >> 2 & 3)),
            hook,
            link: LINKS[usize::from(kind & 3)],
            bytes,
            wire_length: bytes.len() as u32,
        });
    }
    auditor.finish();
    assert!(auditor.findings().len() <= 8, "more findings than the limit");
    for finding in auditor.findings() {
        assert!(
            finding.first <= finding.last && finding.attempts >= 1 && finding.packets >= finding.attempts
        );
        assert!(finding.evidence.len() <= EVIDENCE && finding.names.len() <= NAMES);
        assert!(finding.evidence.is_sorted_by_key(|e| e.time), "evidence out of order");
        let passed = finding.evidence.iter().any(|e| e.witness.saw_it_pass());
        // One witness who saw it pass is enough, and without one nothing leaked.
        assert!(
            passed == (finding.outcome == Outcome::Leaked) || finding.evidence_more > 0,
            "{} {:?}",
            finding.sentence(),
            finding.evidence
        );
        assert!(finding.settled, "the end came and it is not settled");
        serde_json::to_string(finding).expect("it can be written");
    }
}
