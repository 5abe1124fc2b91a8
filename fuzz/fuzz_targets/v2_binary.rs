//! Fuzzes binary tensors behind JSON, and the raw form.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nuke_host::fuzzing::v2_binary(data));
