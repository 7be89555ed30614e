//! Exchanges of any content through the reader.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::reading::run(data));
