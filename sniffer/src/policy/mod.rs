//! NetworkPolicies: from Kubernetes objects to what may connect to what. Objects come in, a compiled form
//! goes out ([`compiled`]) that the userspace evaluator and the kernel's maps share.

pub mod compiled;
