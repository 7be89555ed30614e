//! NetworkPolicies (networking.k8s.io/v1): from Kubernetes objects to what may connect to what.
//!
//! Objects come in ([`objects`]); one state of the cluster is made of them ([`cluster`], with what the API server would
//! refuse told as problems, and [`services`]); the compiled form goes out ([`compile`], [`compiled`]), which the userspace
//! evaluator and the kernel's maps share. [`kube_router`] predicts what kube-router makes of the same objects.

pub mod cluster;
pub mod compile;
pub mod compiled;
pub mod kube_router;
pub mod objects;
pub mod selector;
pub mod services;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::panic)]
mod tests;
mod validate;

pub use cluster::Cluster;
pub use compile::{TooLarge, compile};
pub use compiled::{Compiled, Decision, Side};
