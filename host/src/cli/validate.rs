//! `nuke validate-version`: the process in which a host tries out a version.
//!
//! Owns nothing but its end: no exit handlers, since ONNX Runtime's threads may still run.

use crate::repository::{ChildArgs, run_child};

pub(super) fn run(args: ChildArgs) -> ! {
    run_child(args);
    signal_hook::low_level::exit(0)
}
