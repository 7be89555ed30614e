//! What the integration tests share: the truth of the captures, made-up captures, and where things are.

pub mod cluster;
pub mod conversation;
pub mod federation;
pub mod genpcap;
pub mod intact;
pub mod lab;
pub mod mangle;
pub mod pcap;
pub mod truth;

use std::path::{Path, PathBuf};

/// The folder of captures in the repository.
pub fn traces() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("traces")
}
