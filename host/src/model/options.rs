//! How a model's sessions are opened: on which device, with how much memory.
//!
//! Owns the choices, as plain data that can be handed to another process. What they lead to is decided in
//! `placement` and `open`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the sessions of a model are opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionOptions {
    /// Where they are to run.
    pub device: DeviceWish,
    /// Whether TensorRT takes what it can before CUDA does; on a GPU only.
    pub tensorrt: bool,
    /// Bytes of a GPU's memory that the arena of one session may have; `None` for as much as there is.
    pub gpu_memory: Option<u64>,
    /// The memory between runs.
    pub arena: ArenaOptions,
    /// Whether all sessions of a model use the same weights in memory. Costs memory if there is only one.
    pub share_weights: bool,
}

/// What becomes of memory that a run has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArenaOptions {
    /// Whether it is kept for the next run.
    pub enabled: bool,
    /// By how much a GPU's arena grows.
    pub extend: ArenaExtend,
    /// When what is kept is given back.
    pub shrink: Shrink,
}

impl Default for ArenaOptions {
    fn default() -> Self {
        Self { enabled: true, extend: ArenaExtend::AsRequested, shrink: Shrink::Auto }
    }
}

/// By how much an arena on a GPU grows when it has to. ONNX Runtime leaves no such choice for the machine's
/// own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArenaExtend {
    /// By twice as much each time: few calls of the driver.
    PowerOfTwo,
    /// By what is asked for: nothing more than that.
    AsRequested,
}

/// When an arena gives back what no tensor needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shrink {
    /// After a run that was much larger than those before it.
    Auto,
    /// After each run.
    Always,
    /// Never.
    Never,
}

/// Where sessions are to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceWish {
    /// On a GPU if there is one that can run the whole model, else on the machine's cores; which one, and
    /// why, is told.
    #[default]
    Auto,
    /// On the machine's cores.
    Cpu,
    /// On this GPU, or not at all.
    Cuda(u32),
}

/// Where a session runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Device {
    /// On the machine's cores.
    Cpu,
    /// On the GPU that CUDA gives this number.
    Cuda(u32),
}

impl From<Device> for DeviceWish {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Cpu,
            Device::Cuda(number) => Self::Cuda(number),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// Whether a run was so large that what it used should not be kept: decided from the bytes of its inputs, to
/// which all other tensors of a model are about proportional.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// A mean in which each run counts an eighth.
    usual: Option<u64>,
}

impl Sizes {
    /// A run is large from so many times the usual size on.
    const TIMES: u64 = 4;
    /// Less than this is never worth it: the tokens of a text are small, and what becomes of them is not.
    const LEAST: u64 = 16 << 10;

    /// Takes a run into account, and says whether to shrink after it.
    pub(super) fn shrinks(&mut self, bytes: u64, when: Shrink) -> bool {
        match when {
            Shrink::Always => return true,
            Shrink::Never => return false,
            Shrink::Auto => {}
        }
        let usual = *self.usual.get_or_insert(bytes);
        let is_large = bytes >= Self::LEAST && bytes > usual.saturating_mul(Self::TIMES);
        // What becomes usual is not large any more after a few runs.
        self.usual = Some(usual - usual / 8 + bytes / 8);
        is_large
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_much_larger_than_the_usual_ones_shrinks_until_it_is_usual() {
        let (mut sizes, mib) = (Sizes::default(), 1_u64 << 20);
        // The first run of all says nothing.
        assert!(!sizes.shrinks(mib, Shrink::Auto));
        assert!((0..10).all(|_| !sizes.shrinks(2 * mib, Shrink::Auto)));
        assert!(sizes.shrinks(64 * mib, Shrink::Auto));
        let again = (0..20).filter(|_| sizes.shrinks(64 * mib, Shrink::Auto)).count();
        assert!((1..5).contains(&again), "{again}");
        let mut small = Sizes::default();
        assert!(!small.shrinks(16, Shrink::Auto) && !small.shrinks(1024, Shrink::Auto));
        assert!(small.shrinks(16, Shrink::Always) && !small.shrinks(u64::MAX, Shrink::Never));
        assert!(small.shrinks(u64::MAX, Shrink::Auto));
    }

    #[test]
    fn a_device_is_named_as_it_is_configured() {
        assert_eq!((Device::Cpu.to_string(), Device::Cuda(3).to_string()), ("cpu".into(), "cuda:3".into()));
    }
}
