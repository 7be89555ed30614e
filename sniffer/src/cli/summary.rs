//! What is said at the end of a run.

use sniffer::audit::{Auditor, Outcome};
use sniffer::pipeline::Counters;
use sniffer::store::Store;

/// What was seen in all.
pub(super) struct Figures<'a> {
    /// What the stages counted.
    pub(super) counters: &'a Counters,
    /// Exchanges that were told.
    pub(super) exchanges: u64,
    /// Of these, what the filter let through.
    pub(super) matched: u64,
    /// Whether there was a filter.
    pub(super) filtered: bool,
    /// Frames that the source says it lost.
    pub(super) lost_frames: u64,
    /// Exchanges that were new to the store.
    pub(super) stored: Option<u64>,
    /// The store.
    pub(super) store: Option<&'a Store>,
    /// What isolated pods tried.
    pub(super) auditor: Option<&'a Auditor>,
}

impl Figures<'_> {
    /// The summary, a line for each thing there is to say.
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { counters, exchanges, matched, lost_frames, .. } = *self;
        let mut lines = vec![format!(
            "{exchanges} exchange{} in {} frames of {} flows{}",
            if exchanges == 1 { "" } else { "s" },
            counters.flow.frames,
            counters.flow.flows,
            if self.filtered { format!("; {matched} match the filter") } else { String::new() },
        )];
        if counters.http.unanswered + counters.http.lone_responses > 0 {
            lines.push(format!(
                "{} without an answer, {} answers without a request",
                counters.http.unanswered, counters.http.lone_responses
            ));
        }
        if counters.stream.gaps > 0 || lost_frames > 0 {
            lines.push(format!(
                "lost: {} gap{} of {} octets in all; the capture itself reports {lost_frames} lost frames",
                counters.stream.gaps,
                if counters.stream.gaps == 1 { "" } else { "s" },
                counters.stream.gap_bytes
            ));
        }
        if counters.flow.flows_evicted > 0 {
            lines.push(format!(
                "{} flow{} given up for want of room (--memory)",
                counters.flow.flows_evicted,
                if counters.flow.flows_evicted == 1 { " was" } else { "s were" }
            ));
        }
        if counters.stream.evicted > 0 {
            lines.push(format!(
                "{} time{} held segments were not waited for, for want of room (--reassembly-budget)",
                counters.stream.evicted,
                if counters.stream.evicted == 1 { "" } else { "s" }
            ));
        }
        let others: Vec<String> = counters
            .http
            .other_flows
            .iter()
            .map(|(what, n)| {
                let name = serde_json::to_value(what)
                    .ok()
                    .and_then(|v| v.as_str().map(str::to_owned))
                    .unwrap_or_default();
                format!("{n} {name}")
            })
            .collect();
        if !others.is_empty() {
            lines.push(format!("flows that are not HTTP: {}", others.join(", ")));
        }
        let undecoded = counters.flow.malformed + counters.flow.unknown_link;
        if undecoded > 0 {
            lines.push(format!("{undecoded} frames could not be decoded"));
        }
        lines.extend(self.auditor.map(audit));
        if let (Some(stored), Some(store)) = (self.stored, self.store) {
            let already = matched.saturating_sub(stored);
            let already =
                if already > 0 { format!(" ({already} were there already)") } else { String::new() };
            lines.push(format!("{stored} stored in {}{already}", store.path().display()));
        }
        lines
    }
}

/// What was tried, and what became of it: all four outcomes, zeros included.
fn audit(auditor: &Auditor) -> String {
    let findings = auditor.findings();
    let packets: u64 = findings.iter().map(|f| f.packets).sum();
    let of = |outcome: Outcome| findings.iter().filter(|f| f.outcome == outcome).count();
    let outcomes: Vec<String> =
        Outcome::ALL.into_iter().map(|outcome| format!("{} {}", of(outcome), outcome.name())).collect();
    let watched: Vec<&str> = auditor.uplinks().collect();
    let uplink = if watched.is_empty() {
        "no uplink was watched".to_owned()
    } else {
        format!("uplink {}", watched.join(", "))
    };
    let not_kept = match auditor.counters().not_kept {
        0 => String::new(),
        more => format!("; {more} attempts more found no room"),
    };
    format!(
        "{} finding{} from {packets} packets that the policies do not allow: {} ({uplink}){not_kept}",
        findings.len(),
        if findings.len() == 1 { "" } else { "s" },
        outcomes.join(", ")
    )
}
