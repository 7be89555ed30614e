//! Kubernetes objects in YAML: read, refused or compiled, asked about.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| fuzz::policy::run(text));
