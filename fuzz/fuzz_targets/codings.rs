//! Fuzzes compressed bodies.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nuke_host::fuzzing::codings(data));
