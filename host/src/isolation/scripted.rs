//! For tests: a model whose process dies when a test wants it to.

use std::sync::Arc;

use super::loss::{Loss, LossKind};
use crate::error::Error;
use crate::model::Signature;
use crate::model::tensor::Tensor;

/// What becomes of a run with these requests: its inputs as they are, or a death.
pub type Script = Arc<dyn Fn(&[&[Tensor]]) -> Option<LossKind> + Send + Sync>;

/// Gives back what comes in, behind each other, until it dies.
pub struct Scripted {
    /// What the model takes and gives.
    pub signature: Arc<Signature>,
    /// Says who dies.
    pub script: Script,
    /// Why it runs nothing any more.
    pub lost: Option<Loss>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    pub(super) fn run_batch(
        &mut self,
        requests: &[&[Tensor]],
        wanted: &[usize],
    ) -> Result<Vec<Tensor>, Error> {
        if self.lost.is_none()
            && let Some(kind) = (self.script)(requests)
        {
            self.lost = Some(Loss { kind, reason: "process died as scripted".to_owned() });
        }
        if let Some(loss) = &self.lost {
            return Err(loss.error());
        }
        let first = requests[0][0].clone();
        let rows = requests.iter().map(|request| request[0].shape[0]).sum();
        let data: Vec<u8> = requests.iter().flat_map(|request| request[0].data.to_vec()).collect();
        let shape = std::iter::once(rows).chain(first.shape[1..].iter().copied()).collect();
        let output = Tensor::new("y", first.datatype, shape, data)?;
        Ok(wanted.iter().map(|_| output.clone()).collect())
    }
}
