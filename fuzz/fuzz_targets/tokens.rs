//! Fuzzes tokens, API keys and sets of keys.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nuke_host::fuzzing::tokens(data));
