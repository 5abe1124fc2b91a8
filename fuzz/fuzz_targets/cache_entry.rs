//! Fuzzes remembered answers as Redis has them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nuke_host::fuzzing::cache_entry(data));
