//! Processes that the host starts of itself, for what may crash: validation, and workers on their own.
//!
//! Owns how such a child is started, which rights it takes away from itself, and the words for how it ended.
//! It never knows what a child is for.

mod command;
mod confine;
mod ending;
mod syscalls;

pub(crate) use command::{command, program};
pub(crate) use confine::{Limits, close_files, confine};
#[cfg(test)]
pub(crate) use ending::LAST_WORDS;
pub(crate) use ending::{lacks_memory, last_bytes, quote, told};
