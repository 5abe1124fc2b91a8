//! A model's weights in memory, once for all of its sessions.
//!
//! Owns the form in which that is possible: the model as ONNX Runtime has optimised it, since it is optimised
//! weights that sessions hold; its large initializers as tensors that are handed to each session; and the rest,
//! which is small and opens quickly. What kernels pack of shared weights is made once, too.

use std::sync::{Arc, OnceLock};

use bytemuck::Pod;
use half::{bf16, f16};
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor as OrtTensor};

use super::inline::{DATA_LOCATION, EXTERNAL_DATA, GRAPH, INITIALIZER, RAW_DATA, rewrite, say_elsewhere};
use super::protobuf::{Content, CutShort, Fields};

/// Bytes from which on a tensor is worth it.
const LARGE: usize = 4 << 10;
/// A file that is nowhere: each tensor that names it is handed in.
const HANDED_IN: &str = "handed-in";

/// What the sessions of one model share. Made with the first session that asks for it.
#[derive(Debug, Default)]
pub(super) struct SharedWeights(OnceLock<Option<Shared>>);

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    /// The optimised model without its large initializers.
    pub(super) model: Vec<u8>,
    tensors: Vec<(String, Arc<DynValue>)>,
    prepacked: PrepackedWeights,
}

impl SharedWeights {
    /// What is shared; `None` if nothing is worth it or can be. `optimised` gives the model as ONNX Runtime
    /// has optimised it, the first time.
    pub(super) fn get(&self, optimised: impl FnOnce() -> Result<Vec<u8>, String>) -> Option<&Shared> {
        let shared = self.0.get_or_init(|| {
            let made = optimised().and_then(|model| Shared::new(&model).map_err(|error| error.to_string()));
            made.unwrap_or_else(|reason| {
                tracing::debug!(reason, "weights are not shared");
                None
            })
        });
        shared.as_ref()
    }
}

impl Shared {
    fn new(model: &[u8]) -> Result<Option<Self>, CutShort> {
        let value = |tensor: &Initializer<'_>| Some((tensor.name.to_owned(), Arc::new(tensor.to_value()?)));
        let tensors: Vec<_> = initializers(model)?.iter().filter_map(value).collect();
        if tensors.is_empty() {
            return Ok(None);
        }
        let is_shared = |name: &str| tensors.iter().any(|(shared, _)| shared == name);
        let model = without(model, &is_shared)?;
        Ok(Some(Self { model, tensors, prepacked: PrepackedWeights::new() }))
    }

    /// Hands the weights to a session that is to be opened from [`model`](Self::model).
    ///
    /// # Errors
    /// ONNX Runtime's.
    pub(super) fn lend(&self, mut builder: SessionBuilder) -> Result<SessionBuilder, ort::Error> {
        for (name, value) in &self.tensors {
            // The first is what a session computes with, the second what it believes to have read.
            builder = builder.with_initializer(name, Arc::clone(value))?;
            builder = builder.with_external_initializer(name, Arc::clone(value))?;
        }
        // It has been optimised.
        let builder = builder.with_optimization_level(GraphOptimizationLevel::Disable)?;
        Ok(builder.with_prepacked_weights(&self.prepacked)?)
    }
}

/// A model in which the elements of these initializers lie elsewhere.
fn without(model: &[u8], is_shared: &dyn Fn(&str) -> bool) -> Result<Vec<u8>, CutShort> {
    rewrite(model, GRAPH, &mut |graph| {
        rewrite(graph, INITIALIZER, &mut |tensor| {
            let found = initializer(tensor)?.filter(|found| is_shared(found.name));
            found.map_or_else(|| Ok(tensor.to_vec()), |_| elsewhere(tensor))
        })
    })
}

/// A tensor whose elements lie elsewhere.
fn elsewhere(tensor: &[u8]) -> Result<Vec<u8>, CutShort> {
    let (mut lean, mut fields) = (Vec::new(), Fields::new(tensor));
    while let Some((field, _)) = fields.next()? {
        if field != RAW_DATA {
            lean.extend_from_slice(fields.whole());
        }
    }
    say_elsewhere(&mut lean, &[("location", HANDED_IN)]);
    Ok(lean)
}

/// An initializer of the main graph whose elements lie in the model as they are in memory.
#[derive(Clone, Debug, PartialEq)]
struct Initializer<'a> {
    name: &'a str,
    shape: Vec<i64>,
    /// ONNX's number of the datatype.
    datatype: u64,
    data: &'a [u8],
}

/// The large initializers of a model's main graph.
fn initializers(model: &[u8]) -> Result<Vec<Initializer<'_>>, CutShort> {
    let (mut found, mut fields) = (Vec::new(), Fields::new(model));
    while let Some((field, content)) = fields.next()? {
        let (GRAPH, Content::Bytes(graph)) = (field, content) else {
            continue;
        };
        let mut fields = Fields::new(graph);
        while let Some((field, content)) = fields.next()? {
            if let (INITIALIZER, Content::Bytes(tensor)) = (field, content) {
                found.extend(initializer(tensor)?);
            }
        }
    }
    // A name that occurs twice means something to nobody.
    let names: Vec<&str> = found.iter().map(|tensor| tensor.name).collect();
    let is_single = |name: &str| names.iter().filter(|other| **other == name).count() == 1;
    found.retain(|tensor| is_single(tensor.name));
    Ok(found)
}

fn initializer(tensor: &[u8]) -> Result<Option<Initializer<'_>>, CutShort> {
    let mut fields = Fields::new(tensor);
    let (mut shape, mut datatype, mut name, mut data) = (Vec::new(), 0, "", None);
    while let Some((field, content)) = fields.next()? {
        match (field, content) {
            (1, Content::Number(dimension)) => shape.push(dimension.cast_signed()),
            (1, Content::Bytes(packed)) => {
                let mut numbers = Fields::new(packed);
                while let Some(dimension) = numbers.next_number()? {
                    shape.push(dimension.cast_signed());
                }
            }
            (2, Content::Number(number)) => datatype = number,
            (8, Content::Bytes(text)) => name = std::str::from_utf8(text).unwrap_or_default(),
            (RAW_DATA, Content::Bytes(bytes)) => data = Some(bytes),
            // It is elsewhere already, or may be.
            (EXTERNAL_DATA | DATA_LOCATION, _) => return Ok(None),
            _ => {}
        }
    }
    let data = data.filter(|data| data.len() >= LARGE && !name.is_empty());
    Ok(data.map(|data| Initializer { name, shape, datatype, data }))
}

impl Initializer<'_> {
    /// The tensor, in memory of its own; `None` if the shape does not go with the bytes, or the datatype is one
    /// that weights do not have. ONNX Runtime then says what is wrong, if anything is.
    fn to_value(&self) -> Option<DynValue> {
        match self.datatype {
            1 => self.copy::<f32>(),
            2 => self.copy::<u8>(),
            3 => self.copy::<i8>(),
            6 => self.copy::<i32>(),
            7 => self.copy::<i64>(),
            10 => self.copy::<f16>(),
            11 => self.copy::<f64>(),
            16 => self.copy::<bf16>(),
            _ => None,
        }
    }

    fn copy<T>(&self) -> Option<DynValue>
    where
        T: Pod + PrimitiveTensorElementType + std::fmt::Debug + 'static,
    {
        let sizes = self.shape.iter().map(|&dimension| usize::try_from(dimension).ok());
        let count = sizes.collect::<Option<Vec<_>>>()?.into_iter().try_fold(1_usize, usize::checked_mul)?;
        if count.checked_mul(size_of::<T>()) != Some(self.data.len()) {
            return None;
        }
        let elements: Vec<T> = bytemuck::pod_collect_to_vec(self.data);
        Some(OrtTensor::from_array((self.shape.clone(), elements)).ok()?.into_dyn())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::protobuf;

    fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut field = Vec::new();
        protobuf::write(&mut field, number, bytes);
        field
    }

    fn tensor(name: &str, dims: &[u8], datatype: u8, data: &[u8]) -> Vec<u8> {
        [field(1, dims), vec![2 << 3, datatype], field(8, name.as_bytes()), field(9, data)].concat()
    }

    fn model(tensors: &[Vec<u8>]) -> Vec<u8> {
        let graph: Vec<u8> = tensors.iter().flat_map(|tensor| field(5, tensor)).collect();
        field(7, &graph)
    }

    #[test]
    fn large_initializers_are_found_with_their_shapes() {
        let data = vec![1; 4096];
        let unpacked = [vec![1 << 3, 32, 1 << 3, 32], tensor("b", &[], 1, &data)].concat();
        let bytes = model(&[
            tensor("a", &[64, 64], 3, &data),
            unpacked,
            tensor("small", &[4], 2, &[0; 4]),
            [tensor("elsewhere", &[64, 64], 3, &data), vec![14 << 3, 1]].concat(),
            tensor("twice", &[64, 64], 3, &data),
            tensor("twice", &[64, 64], 3, &data),
        ]);
        let found = initializers(&bytes).unwrap();
        let shapes: Vec<_> = found.iter().map(|tensor| (tensor.name, tensor.shape.clone())).collect();
        assert_eq!(shapes, [("a", vec![64, 64]), ("b", vec![32, 32])]);
    }

    #[test]
    fn what_is_shared_is_taken_out_and_all_else_stays() {
        let data = vec![1; 4096];
        let (shared, small) = (tensor("a", &[64, 64], 3, &data), tensor("b", &[4], 2, &[0; 4]));
        let node = field(1, b"a node");
        let whole =
            [field(7, &[node.clone(), field(5, &shared), field(5, &small)].concat()), field(2, b"maker")]
                .concat();
        let lean = without(&whole, &|name| name == "a").unwrap();
        let entry = field(13, &[field(1, b"location"), field(2, b"handed-in")].concat());
        let lean_tensor =
            [field(1, &[64, 64]), vec![2 << 3, 3], field(8, b"a"), entry, vec![14 << 3, 1]].concat();
        let expected =
            [field(7, &[node, field(5, &lean_tensor), field(5, &small)].concat()), field(2, b"maker")]
                .concat();
        assert_eq!(lean, expected);
        assert_eq!(without(&whole, &|_| false).unwrap(), whole);
    }

    #[test]
    fn a_shape_that_does_not_go_with_the_bytes_is_left_to_onnx_runtime() {
        drop(crate::scheduler::testing::runtime());
        let data = vec![0; 4096];
        let value = |shape: &[i64], datatype| {
            Initializer { name: "x", shape: shape.to_vec(), datatype, data: &data }.to_value().is_some()
        };
        assert!(value(&[32, 32], 1) && value(&[4096], 2) && value(&[2048], 10));
        assert!(!value(&[32, 33], 1) && !value(&[-1, 4096], 2) && !value(&[4096], 99));
        assert!(!value(&[i64::MAX, i64::MAX], 1));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..4096) {
            let _any = (initializers(&bytes), without(&bytes, &|_| true));
            let mut whole = model(&[tensor("a", &[64, 64], 3, &vec![1; 4096])]);
            for (place, byte) in whole.iter_mut().skip(at).zip(bytes) {
                *place = byte;
            }
            let _any = (initializers(&whole), without(&whole, &|_| true));
        }
    }
}
