//! HTTP at the stage's edge: stream events in, exchanges out.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unreachable,
    clippy::unwrap_used
)]

mod body;
mod conversations;
mod properties;
mod script;
