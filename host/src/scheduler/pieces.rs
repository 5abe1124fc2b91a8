//! A request that is too large for one run, in pieces.
//!
//! Owns the cut, which shares the request's memory, and the way back, which copies each output once.

use super::job::InferOutcome;
use crate::error::Error;
use crate::model::split;
use crate::model::tensor::Tensor;

/// Cuts inputs whose first dimension is the same into requests of `size` items, the last one of the rest.
pub(super) fn cut(inputs: &[Tensor], size: usize) -> Result<Vec<Vec<Tensor>>, Error> {
    let items = inputs.first().and_then(|tensor| tensor.shape.first()).copied().unwrap_or(0);
    let mut sizes = vec![size.max(1); items / size.max(1)];
    sizes.extend(Some(items % size.max(1)).filter(|&rest| rest > 0));
    let mut pieces: Vec<Vec<Tensor>> = sizes.iter().map(|_| Vec::with_capacity(inputs.len())).collect();
    for tensor in inputs {
        let parts = split(tensor, &sizes).map_err(|error| Error::internal(error.to_string()))?;
        for (piece, part) in pieces.iter_mut().zip(parts) {
            piece.push(part);
        }
    }
    Ok(pieces)
}

/// Puts the pieces' answers together, in order.
pub(super) fn join(outcomes: Vec<InferOutcome>) -> Result<InferOutcome, Error> {
    let mut rest = outcomes.into_iter();
    let first = rest.next().ok_or_else(|| Error::internal("a request was cut into no pieces"))?;
    let (queued, mut compute, mut times) = (first.queued, first.compute, first.times);
    let mut joined: Vec<(Tensor, Vec<u8>)> = first
        .outputs
        .into_iter()
        .map(|tensor| {
            let data = tensor.data.to_vec();
            (tensor, data)
        })
        .collect();
    for outcome in rest {
        compute += outcome.compute;
        times += outcome.times;
        for ((whole, data), part) in joined.iter_mut().zip(outcome.outputs) {
            let (Some(rows), Some(more)) = (whole.shape.first_mut(), part.shape.first()) else {
                return Err(Error::internal(format!("output '{}' has no first dimension", part.name)));
            };
            *rows += more;
            if whole.shape.get(1..) != part.shape.get(1..) {
                return Err(Error::internal(format!(
                    "output '{}' has different shapes for the pieces of one request, {:?} and {:?}; set \
                     batching.oversize to run",
                    part.name, whole.shape, part.shape
                )));
            }
            data.extend_from_slice(&part.data);
        }
    }
    let outputs = joined.into_iter().map(|(tensor, data)| Tensor { data: data.into(), ..tensor });
    Ok(InferOutcome { outputs: outputs.collect(), queued, compute, times })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tensor::DataType;
    use std::time::Duration;

    #[test]
    fn what_is_cut_comes_together_again() {
        for items in 0_u8..9 {
            let data: Vec<u8> = (0..items * 3).collect();
            let whole = Tensor::new("x", DataType::Uint8, vec![items.into(), 3], data).unwrap();
            let pieces = cut(std::slice::from_ref(&whole), 4).unwrap();
            assert_eq!(pieces.len(), usize::from(items).div_ceil(4));
            assert!(pieces.iter().all(|piece| (1..=4).contains(&piece[0].shape[0])));
            let outcome = |outputs| InferOutcome {
                outputs,
                queued: Duration::ZERO,
                compute: Duration::from_secs(1),
                times: crate::telemetry::RunTimes::default(),
            };
            let joined = join(pieces.into_iter().map(outcome).collect());
            if items > 0 {
                assert_eq!(joined.unwrap().outputs, [whole]);
            }
        }
    }
}
