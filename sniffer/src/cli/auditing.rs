//! What `read` and `watch` have of the audit: the auditor, the session that is being recorded, and what of both goes into
//! the store, once a second.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sniffer::audit::session::{Enforcement, Recording, Session, Source, Standing};
use sniffer::audit::{self, Auditor, Finding, FindingId, KernelEvent, Outcome};
use sniffer::frame::{Frame, Interface, Loss, Timestamp};
use sniffer::http::Exchange;
use sniffer::policy::compiled::address;
use sniffer::verdict::State;

use crate::node::{Audited, Recorder};

/// How often the store is told of a session that goes on.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The audit of one session.
pub(super) struct Auditing {
    auditor: Option<Auditor>,
    /// Where there is a store for it.
    recording: Option<Recording>,
    /// What this node is called and which addresses it has: its own pods are those of the cluster's node that is so.
    own: Option<(String, Vec<IpAddr>)>,
    /// Changed since the store was told.
    changed: BTreeMap<FindingId, Finding>,
    /// The findings that were shown, with the outcome that was told.
    told: BTreeMap<FindingId, Outcome>,
    beat: Instant,
    /// The last frame's time.
    seen: Timestamp,
}

impl Auditing {
    /// Of a capture file of this name; without a store nothing is recorded.
    pub(super) fn of_capture(name: &str, stored: bool) -> Self {
        Self::new(stored.then(|| Recording::of_capture(name)), None)
    }

    /// Of this node from now on; without a store nothing is recorded.
    pub(super) fn of_watch(node: String, own: Vec<IpAddr>, now: Timestamp, stored: bool) -> Self {
        let session = || Session::new(now.0, &node, Source::Watch, now);
        let recording = stored.then(|| Recording::of_watch(session()));
        Self::new(recording, Some((node, own)))
    }

    fn new(recording: Option<Recording>, own: Option<(String, Vec<IpAddr>)>) -> Self {
        Self {
            auditor: None,
            recording,
            own,
            changed: BTreeMap::new(),
            told: BTreeMap::new(),
            beat: Instant::now(),
            seen: Timestamp::default(),
        }
    }

    /// The auditor, once there are policies.
    pub(super) fn auditor(&self) -> Option<&Auditor> {
        self.auditor.as_ref()
    }

    /// The auditor and the session, for those who know more of either.
    pub(super) fn parts(&mut self) -> (Option<&mut Auditor>, Option<&mut Session>) {
        (self.auditor.as_mut(), self.recording.as_mut().map(Recording::session_mut))
    }

    /// The cluster is so from now on.
    pub(super) fn state(&mut self, state: State, now: Timestamp) {
        if let Some(recording) = &mut self.recording {
            let node = self.own.as_ref().and_then(|(name, addresses)| {
                let by_name = state.cluster.nodes.iter().position(|node| node.name == *name);
                let of = |ip: &IpAddr| state.cluster.node_addresses.get(&address(*ip)).copied();
                by_name.or_else(|| addresses.iter().find_map(of))
            });
            recording.set_node(node);
            recording.state(&state, now);
        }
        match &mut self.auditor {
            Some(auditor) => auditor.set_state(state),
            None => self.auditor = Some(Auditor::new(state, audit::Config::default())),
        }
    }

    /// A frame.
    pub(super) fn frame(&mut self, frame: &Frame<'_>) {
        self.seen = self.seen.max(frame.time);
        if let Some(auditor) = &mut self.auditor {
            auditor.push(frame);
        }
        if let Some(recording) = &mut self.recording {
            recording.frame(frame, self.auditor.as_ref().map(Auditor::state));
        }
    }

    /// The source lost frames.
    pub(super) fn loss(&mut self, loss: &Loss) {
        if let Some(auditor) = &mut self.auditor {
            auditor.lost(loss);
        }
        if let Some(recording) = &mut self.recording {
            let live = self.own.is_some();
            recording.lost(
                loss,
                if live { "the ring buffer or the queue was full" } else { "the capture says so" },
            );
        }
    }

    /// An interface has a name.
    pub(super) fn name(&mut self, interface: Interface, name: &str) {
        if let Some(auditor) = &mut self.auditor {
            auditor.name_interface(interface, name);
        }
        if let Some(recording) = &mut self.recording {
            recording.name(interface, name);
        }
    }

    /// An exchange was told.
    pub(super) fn exchange(&mut self, exchange: &Exchange) {
        if let Some(auditor) = &mut self.auditor {
            auditor.exchange(exchange);
        }
    }

    /// fedisniff's own program denied a packet, or would have.
    pub(super) fn kernel(&mut self, event: &KernelEvent<'_>) {
        if let Some(auditor) = &mut self.auditor {
            auditor.kernel(event);
        }
        if let Some(recording) = &mut self.recording {
            recording.kernel(event);
        }
    }

    /// This is what programs hang on now; `lost` frames were lost in all.
    pub(super) fn standing(&mut self, interfaces: &[Standing<'_>], lost: u64, now: Timestamp) {
        if let Some(recording) = &mut self.recording {
            recording.standing(interfaces, now);
            recording.lost_in_all(lost, now);
        }
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, now: Timestamp) {
        if let Some(auditor) = &mut self.auditor {
            auditor.expire(now);
        }
    }

    /// What changed since the last call: each finding is shown once its outcome is settled, and again when that changes.
    pub(super) fn changed(&mut self, mut show: impl FnMut(&Finding)) {
        let Some(auditor) = &mut self.auditor else { return };
        for finding in auditor.take_changed() {
            if finding.settled && self.told.insert(finding.id, finding.outcome) != Some(finding.outcome) {
                show(finding);
            }
            if self.recording.is_some() {
                self.changed.insert(finding.id, finding.clone());
            }
        }
    }

    /// Tells the store, once a second: all until `now` was looked at, or until the last frame. False when the store failed.
    pub(super) fn beat(&mut self, recorder: Option<&Recorder>, now: Option<Timestamp>) -> bool {
        if self.beat.elapsed() < HEARTBEAT {
            return true;
        }
        self.beat = Instant::now();
        let (now, not_kept) = (now.unwrap_or(self.seen), self.not_kept());
        if let Some(recording) = &mut self.recording {
            recording.until(now, not_kept);
        }
        self.store(recorder)
    }

    /// Findings are shown as they come; those of a capture are shown at its end, all together.
    pub(super) fn is_live(&self) -> bool {
        self.own.is_some()
    }

    /// The source has ended, in order or not: what the audit waits for is settled and shown, and the store is told.
    pub(super) fn finish(
        &mut self,
        recorder: Option<&Recorder>,
        now: Option<Timestamp>,
        in_order: bool,
        show: impl FnMut(&Finding),
    ) -> bool {
        if let Some(auditor) = &mut self.auditor {
            auditor.finish();
        }
        self.changed(show);
        let (now, not_kept) = (now.unwrap_or(self.seen), self.not_kept());
        if let Some(recording) = &mut self.recording {
            recording.until(now, not_kept);
            recording.finish(in_order, not_kept);
        }
        self.store(recorder)
    }

    fn not_kept(&self) -> u64 {
        self.auditor.as_ref().map_or(0, Auditor::not_kept)
    }

    fn store(&mut self, recorder: Option<&Recorder>) -> bool {
        let (Some(recorder), Some(recording)) = (recorder, &self.recording) else { return true };
        let mut audited = Audited {
            findings: std::mem::take(&mut self.changed),
            session: recording.session().cloned(),
            ..Audited::default()
        };
        if let Some(auditor) = &mut self.auditor {
            for asked in auditor.take_asked() {
                audited
                    .asked
                    .insert((asked.pod.clone(), asked.name.clone(), asked.kind.clone()), asked.clone());
            }
        }
        recorder.audit(audited)
    }
}

/// The mode of the programs that deny, as a session says it.
pub(super) fn enforcement(mode: sniffer::enforce::Mode) -> Enforcement {
    match mode {
        sniffer::enforce::Mode::Off => Enforcement::Off,
        sniffer::enforce::Mode::Audit => Enforcement::Audit,
        sniffer::enforce::Mode::Deny => Enforcement::Deny,
    }
}
