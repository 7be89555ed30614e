//! The real kube-router beside the real API server, over nodes of network namespaces, with real packets: what each case
//! of `tests/policy` comes to, and each hole that fedisniff is to shut, as it stands open without it. These
//! tests take root and what `cargo xtask setup` builds, so they run as a part of their own: `cargo xtask test --only
//! cluster`.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tests::cluster::Cluster;

/// The cluster of all these tests, one after the other: to make one takes seconds. It is as it was when it came up; and
/// it goes with this process.
fn cluster() -> MutexGuard<'static, Cluster> {
    static CLUSTER: OnceLock<Result<Mutex<Cluster>, String>> = OnceLock::new();
    let made = CLUSTER.get_or_init(|| {
        let name = format!("it{}", std::process::id());
        Cluster::up(&name).map(Mutex::new).map_err(|error| format!("{error:#}"))
    });
    let cluster = made.as_ref().unwrap_or_else(|error| panic!("{error}"));
    // What a test left that failed is taken away here.
    let cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.reset().expect("an empty cluster");
    cluster
}

/// What stands beside kube-router: nobody, so that its holes are open; or fedisniff with the arguments that
/// `FEDISNIFF_BESIDE` has (`--enforce deny`), and the same attempts must all fail.
struct Beside {
    fedisniff: Option<String>,
}

impl Beside {
    /// Begins when all that an attempt needs is there.
    fn start(cluster: &Cluster) -> Self {
        let fedisniff = std::env::var("FEDISNIFF_BESIDE").ok().filter(|arguments| !arguments.is_empty());
        if let Some(arguments) = &fedisniff {
            let arguments: Vec<&str> = arguments.split_whitespace().collect();
            cluster.with_fedisniff(crate::command::program(), &arguments).expect("fedisniff");
        }
        Self { fedisniff }
    }

    /// What kube-router lets pass and should not, in either case.
    #[track_caller]
    fn lets_pass(&self, what: &str, passed: bool) {
        match &self.fedisniff {
            None => assert!(passed, "kube-router does not let it pass any more: {what}"),
            Some(arguments) => assert!(!passed, "it passes beside fedisniff ({arguments}): {what}"),
        }
    }
}

/// Deny all egress to all pods of a namespace.
fn deny_egress(cluster: &Cluster, namespace: &str) {
    let spec = serde_json::json!({"podSelector": {}, "policyTypes": ["Egress"]});
    cluster.policy(namespace, "deny", spec).expect("a policy");
}

/// By this name `cargo xtask test` leaves them out where it runs the others.
mod as_root {
    mod cases;
    mod dns;
    mod holes;
    mod life;
    mod startup;
    mod syncs;
}
