//! Frames of any bytes into the audit.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::audit::run(data));
