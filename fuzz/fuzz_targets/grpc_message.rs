//! Fuzzes messages of gRPC.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nuke_host::fuzzing::grpc_message(data));
