//! Rust for the messages and the service of `proto/`, and their descriptors for reflection.
//!
//! Owns how they are compiled: in Rust alone, without protoc. A request for inference is taken as bytes, since the
//! host splits it itself, within limits (`grpc::message`).

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(["grpc_service.proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("inference.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .bytes(".")
        .btree_map(".")
        .extern_path(".inference.ModelInferRequest", "crate::grpc::message::WholeMessage")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
