//! Fuzzes the headers that the host reads itself.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nuke_host::fuzzing::headers(data));
