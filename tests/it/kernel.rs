//! The programs in the running kernel, and `fedisniff watch` on a node of network namespaces: what is copied is what was
//! on the wire, what the ends said to each other is told exactly once, and what is lost is counted. These tests take
//! root and a kernel with TCX (Linux 6.6), so they run as a part of their own: `cargo xtask test --only kernel`.

mod guard;
mod node;
mod peers;
mod raw;
mod watch;

/// By this name `cargo xtask test` leaves them out where it runs the others.
mod as_root {
    mod births;
    mod churn;
    mod deny;
    mod frames;
    mod live;
    mod restart;
    mod servers;
    mod traffic;
    mod verdicts;
}

/// The names of the programs on both TCX hooks of an interface of this thread's namespace; none when it is not there.
fn attached_here(interface: &str) -> Vec<String> {
    use aya::programs::{SchedClassifier, TcAttachType};

    [TcAttachType::Ingress, TcAttachType::Egress]
        .into_iter()
        .flat_map(|hook| {
            SchedClassifier::query_tcx(interface, hook).map_or_else(|_| Vec::new(), |(_, programs)| programs)
        })
        .map(|program| program.name_as_str().unwrap_or("unnamed").to_owned())
        .collect()
}
