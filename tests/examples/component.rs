//! Writes fixture components where they are told to: `component FOLDER slow good` makes `FOLDER/slow.wasm` and so on.
//!
//! For whoever needs them and is not a test of this crate, such as `tests/bench/traffic.py`. It never runs one.

use std::path::PathBuf;
use std::process::ExitCode;

use nuke_tests::components;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (Some(folder), names) = (words.next().map(PathBuf::from), words.collect::<Vec<_>>()) else {
        eprintln!("usage: component FOLDER NAME…");
        return ExitCode::FAILURE;
    };
    for name in names {
        let file = folder.join(&name).with_extension("wasm");
        if let Err(error) = std::fs::write(&file, components::build(&name)) {
            eprintln!("component: {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
