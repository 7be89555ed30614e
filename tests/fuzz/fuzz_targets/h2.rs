//! h2c, from its preface and mid-stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::h2(data));
