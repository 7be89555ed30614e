//! Records of any bytes, as the store reads them back from its file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sniffer::store::fuzzing::record(data));
