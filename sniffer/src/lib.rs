//! fedisniff's library: from captured frames to exchanges with a meaning.
//!
//! The packet's way, and the order in which to read this crate:
//!
//! ```text
//! capture -> frame -> flow -> stream -> http -> activitypub -> store -> viewer
//! cluster -> policy -> verdict -> audit          policy -> enforce (in the kernel)
//! ```
//!
//! A *frame* was captured. It belongs to a *flow*, in one direction. The *stream* says data, gap or end. HTTP says
//! head, body, done; a request and its response are an *exchange*. An exchange has a *reading*: what it meant in
//! ActivityPub's own terms. It is stored and shown.
//!
//! The pure modules (`frame` to `view`, and `pipeline`, which joins them) have no clock, file, socket, thread or
//! environment: time comes with the frame. Each stage has the same shape: `push(input, out)`, `deadline()`,
//! `expire(now, out)`, `finish(out)`. Bad input is a value (an [`http::Anomaly`], a gap, a count), never an error
//! and never a panic. The edges (`capture`, `cluster`, `enforce`, `store`, `export`,
//! `viewer`) touch the world and need the feature `edge`.

macro_rules! pure {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[deny(
            clippy::arithmetic_side_effects,
            clippy::expect_used,
            clippy::indexing_slicing,
            clippy::panic,
            clippy::string_slice,
            clippy::unreachable,
            clippy::unwrap_used
        )]
        pub mod $name;
    )*};
}

pure! {
    frame;
    flow;
    stream;
    http;
    activitypub;
    policy;
    verdict;
    audit;
    view;
    redact;
    filter;
    pipeline;
}

#[cfg(feature = "edge")]
pub mod capture;
#[cfg(feature = "edge")]
mod causes;
#[cfg(feature = "edge")]
pub mod cluster;
#[cfg(feature = "edge")]
pub mod enforce;
#[cfg(feature = "edge")]
pub mod export;
#[cfg(feature = "edge")]
mod links;
#[cfg(feature = "edge")]
pub mod store;
#[cfg(feature = "edge")]
pub mod viewer;
