//! `nuke worker`: the process in which a worker's model runs.
//!
//! Owns nothing but its end: no exit handlers, since ONNX Runtime's threads may still run.

use crate::isolation::{WorkerArgs, run_worker};

pub(super) fn run(args: WorkerArgs) -> ! {
    let code = match run_worker(args) {
        Ok(()) => 0,
        Err(reason) => {
            eprintln!("{reason}");
            1
        }
    };
    signal_hook::low_level::exit(code)
}
