//! The developer commands: `cargo xtask serve`, `cargo xtask test` and the steps they are made of.
//! This crate fetches, builds and starts things; it holds no part of the product.

mod apt;
mod bindings;
mod clients;
mod commands;
mod component;
mod fetch;
mod guests;
mod node;
mod onnxruntime;
mod packages;
mod paths;
mod plugins;
mod process;
mod programs;
mod progress;
mod python;
mod redis;
mod serve;
mod tidy;
mod wasm;

use std::process::ExitCode;

use crate::paths::Paths;

const HELP: &str = "\
cargo xtask COMMAND

  serve [-- ARGS]      prepare everything, then run `nuke serve` on the sample bundles;
                       ARGS go to `nuke serve`
  test [-- ARGS]       prepare everything, then run every test; ARGS go to `cargo test`
  setup                build the host; fetch ONNX Runtime, the Python packages and the wasm toolchain
  clients              fetch the client programs that the tests drive (`test` does it, too)
  plugins              build the sample plugins into target/plugins
  guests               build the C, JavaScript and Rust guests into target/guests
  componentize A B     turn the core module A into the component B
  bindings [--check]   write the committed guest bindings again, or compare them
  tidy                 check the rules of ARCHITECTURE.md that a text scan can check
  help                 this page

Environment
  NUKE_CACHE           where downloads are kept (else $XDG_CACHE_HOME/nuke, else ~/.cache/nuke)
  NUKE_ORT_LIB         an ONNX Runtime library to use; nothing is fetched then
  NUKE_WASM_TOOLCHAIN  `rustup` or `debian`: which wasm toolchain to use (else the first that works)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Paths::discover().and_then(|paths| commands::run(&paths, &arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
