//! Helpers that the integration tests share.

pub mod federation;
pub mod genpcap;
pub mod intact;
pub mod mangle;
pub mod pcap;
