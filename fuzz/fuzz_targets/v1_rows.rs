//! Fuzzes rows and columns of version 1.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nuke_host::fuzzing::v1_rows(data));
