//! The made-up traffic of the tests, in this program as well. The files are taken by path and not as the crate
//! `tests`, whose other half is the product: `cargo xtask setup` must build in seconds on a machine that has nothing.

#[path = "../../../tests/src/federation.rs"]
#[allow(unreachable_pub, dead_code)]
pub(crate) mod federation;
#[path = "../../../tests/src/genpcap.rs"]
#[allow(unreachable_pub, dead_code)]
pub(crate) mod genpcap;
#[path = "../../../tests/src/intact.rs"]
#[allow(unreachable_pub, dead_code)]
pub(crate) mod intact;
#[path = "../../../tests/src/mangle.rs"]
#[allow(unreachable_pub, dead_code)]
pub(crate) mod mangle;
#[path = "../../../tests/src/pcap.rs"]
#[allow(unreachable_pub, dead_code)]
pub(crate) mod pcap;
