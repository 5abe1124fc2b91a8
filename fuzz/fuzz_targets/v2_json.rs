//! Fuzzes the JSON of a version 2 request.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nuke_host::fuzzing::v2_json(data));
