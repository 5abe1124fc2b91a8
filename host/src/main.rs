//! The `nuke` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    nuke_host::cli::run()
}
