//! What the audit leaves in the store.

use super::*;
use crate::audit::session::{Session, Source};
use crate::audit::{Asked, Finding, Outcome};

fn at(seconds: u64) -> Timestamp {
    Timestamp(START + seconds * 1_000_000_000)
}

/// A finding of a pod, that began and ended at these seconds, and broke an exchange.
fn finding(pod: &str, first: u64, last: u64, outcome: &str, broke: Option<ExchangeId>) -> Finding {
    serde_json::from_value(serde_json::json!({
        "schema": "fedisniff.finding/1", "id": ExchangeId::new(at(first), mix(first)).to_string(),
        "pod": {"name": pod, "address": "10.42.0.5"},
        "destination": {"address": "203.0.113.9", "protocol": "tcp", "port": 443},
        "names": [{"name": "out.example", "by": "dns", "time": at(first).to_string()}],
        "verdict": {"word": "deny", "isolated_by": ["x/p"], "reason": "no rule", "kube_router": "deny", "kube_router_reason": null},
        "outcome": outcome, "first": at(first).to_string(), "last": at(last).to_string(), "attempts": 1, "packets": 2,
        "evidence": [{"time": at(first).to_string(), "witness": "attempt", "interface": "veth1", "detail": "SYN"}],
        "evidence_more": 0, "during": broke.iter().map(ToString::to_string).collect::<Vec<_>>(), "exchanges": [],
        "settled": true
    }))
    .unwrap()
}

fn asked(name: &str, first: u64, times: u64) -> Asked {
    Asked {
        pod: "x/a".into(),
        name: name.into(),
        kind: "A".into(),
        times,
        answer: None,
        left: false,
        first: at(first),
        last: at(first + times),
    }
}

fn query() -> FindingQuery {
    FindingQuery { from: None, to: None, outcome: None, pod: None, limit: 100 }
}

#[test]
fn what_the_audit_found_is_there_after_reopening_and_the_latest_word_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let broken = ExchangeId::new(at(10), 7);
    let session = |last| Session { last: at(last), ..Session::new(1, "node", Source::Watch, at(0)) };
    {
        let store = Store::open(&path, Options::default()).unwrap();
        let early = [finding("x/a", 10, 10, "unknown", Some(broken)), finding("x/b", 20, 30, "leaked", None)];
        store.put_audit(&early, &[asked("a.example", 1, 1)], Some(&session(20))).unwrap();
        let late = finding("x/a", 10, 25, "blocked-by-kube-router", Some(broken));
        store.put_audit(&[late], &[asked("a.example", 1, 4)], Some(&session(30))).unwrap();
    }
    let store = Store::open(&path, Options { must_exist: true, ..Options::default() }).unwrap();
    let (all, total) = store.findings(&query()).unwrap();
    assert_eq!((all.len(), total), (2, 2));
    assert_eq!((all[0].outcome, all[0].last), (Outcome::BlockedByKubeRouter, at(25)));
    assert_eq!(all[0], finding("x/a", 10, 25, "blocked-by-kube-router", Some(broken)));
    assert_eq!(store.finding(all[0].id).unwrap().as_ref(), Some(&all[0]));
    assert_eq!(store.findings_of(broken).unwrap(), all[..1]);
    let others = [broken, ExchangeId::new(at(11), 7)];
    assert_eq!(store.have_findings(others.into_iter()).unwrap().into_iter().collect::<Vec<_>>(), [broken]);
    assert_eq!(store.asked(None, None).unwrap(), [asked("a.example", 1, 4)]);
    assert_eq!(store.sessions(None, None).unwrap(), [session(30)]);

    let of = |query: FindingQuery| {
        let (found, total) = store.findings(&query).unwrap();
        (found.iter().map(|f| f.pod.name.to_string()).collect::<Vec<_>>(), total)
    };
    assert_eq!(of(FindingQuery { outcome: Some(Outcome::Leaked), ..query() }), (vec!["x/b".into()], 1));
    assert_eq!(of(FindingQuery { pod: Some("x/a".into()), ..query() }), (vec!["x/a".into()], 1));
    assert_eq!(of(FindingQuery { limit: 1, ..query() }), (vec!["x/b".into()], 2), "the newest");
    assert_eq!(of(FindingQuery { from: Some(at(26)), ..query() }), (vec!["x/b".into()], 1), "it went on");
    assert_eq!(of(FindingQuery { to: Some(at(19)), ..query() }), (vec!["x/a".into()], 1));
    assert!(store.sessions(Some(at(31)), None).unwrap().is_empty());
}

#[test]
fn a_store_without_an_audit_has_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db"), Options::default()).unwrap();
    store.append(&[told(1, 1_000)]).unwrap();
    assert_eq!(store.findings(&query()).unwrap(), (Vec::new(), 0));
    assert!(store.sessions(None, None).unwrap().is_empty() && store.asked(None, None).unwrap().is_empty());
    assert!(store.findings_of(ExchangeId::new(at(1), 1)).unwrap().is_empty());
}

/// The audit's part of a small store is small, the oldest go first, and what went is counted.
#[test]
fn findings_have_a_limit_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { max_bytes: 1 << 20, ..Options::default() };
    let store = Store::open(&folder.path().join("db"), options).unwrap();
    let many: Vec<Finding> = (0..600).map(|n| finding("x/a", n, n, "unknown", None)).collect();
    for some in many.chunks(100) {
        store.put_audit(some, &[], None).unwrap();
    }
    let (kept, total) = store.findings(&FindingQuery { limit: 1_000, ..query() }).unwrap();
    let (gone, latest) = store.audit_gone().unwrap().findings;
    assert!(total > 0 && total < 600, "{total}");
    assert_eq!(gone + total, 600);
    assert_eq!(latest, at(gone - 1));
    assert_eq!(kept, many[usize::try_from(gone).unwrap()..]);
}
