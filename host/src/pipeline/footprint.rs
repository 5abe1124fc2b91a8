//! How much memory a generation is taken to use.
//!
//! Owns the estimate. What a single version uses cannot be measured in a process that serves others at the same
//! time: allocators keep what was freed, and loads overlap. So it is worked out from the sizes of what was loaded,
//! with factors that were measured on single models (docs/operators.md).

/// What a worker needs beside its weights: the session itself, its thread, working memory of small models.
const WORKER: u64 = 1 << 20;
/// What ONNX Runtime makes of a byte of a model file for each worker, in hundredths: the weights as tensors, and
/// packed for its kernels.
const OF_WORKER: u64 = 175;
/// What the first worker has on top of that, in hundredths: the memory of the largest batches that were tried.
const OF_FIRST: u64 = 225;
/// What a byte of a component costs, in hundredths: machine code, and instances that are kept warm.
const OF_PLUGIN: u64 = 400;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    shared: u64,
    per_worker: u64,
}

impl Footprint {
    /// Of a model of so many bytes, weights in other files included, whose own bytes are `kept` for further
    /// workers or not; its plugin, and files that are kept for that.
    pub fn new(model: u64, kept: bool, plugin: u64, files: u64) -> Self {
        let kept = if kept { model } else { 0 };
        let parts = [kept, hundredths(model, OF_FIRST), hundredths(plugin, OF_PLUGIN), files];
        let shared = parts.into_iter().fold(0, u64::saturating_add);
        Self { shared, per_worker: hundredths(model, OF_WORKER).saturating_add(WORKER) }
    }

    /// Bytes, with so many workers.
    pub fn bytes(&self, workers: usize) -> u64 {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX);
        self.per_worker.saturating_mul(workers).saturating_add(self.shared)
    }
}

fn hundredths(bytes: u64, factor: u64) -> u64 {
    bytes.saturating_mul(factor) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_weights_of_its_own_and_the_rest_is_there_once() {
        let lean = Footprint::new(10 << 20, false, 0, 0);
        let further = lean.bytes(2) - lean.bytes(1);
        assert!(lean.bytes(1) > further && further > 10 << 20);
        let rich = Footprint::new(10 << 20, true, 1 << 20, 5);
        assert_eq!(rich.bytes(3) - rich.bytes(2), further);
        assert!(rich.bytes(1) > lean.bytes(1) + (10 << 20) + (1 << 20));
        assert_eq!(Footprint::new(u64::MAX, true, u64::MAX, u64::MAX).bytes(usize::MAX), u64::MAX);
    }
}
