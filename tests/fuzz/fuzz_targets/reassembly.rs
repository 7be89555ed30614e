//! Segments in any order through reassembly, against a simple twin.
#![no_main]

libfuzzer_sys::fuzz_target!(|plan: fuzz::segments::Plan| fuzz::segments::run(&plan));
