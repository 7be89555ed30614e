//! Conversations of HTTP/1, whole and byte by byte.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::http1_cut(data));
