//! Fuzzes the three kinds of YAML files.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nuke_host::fuzzing::yaml(data));
