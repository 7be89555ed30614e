//! The real kube-router beside the real API server, over nodes of network namespaces, with real packets: what each case
//! of `tests/cluster/policy` comes to, and each hole that fedisniff is to shut, as it stands open without it. These
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

/// By this name `cargo xtask test` leaves them out where it runs the others.
mod as_root {
    mod cases;
}
