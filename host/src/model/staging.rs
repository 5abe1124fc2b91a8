//! Tensors on their way to a GPU and back.
//!
//! Owns the memory in between: pages that the driver has pinned, which a device copies by itself while others
//! compute. Inputs are gathered straight into it, and outputs come back to it; without any it is the machine's
//! ordinary memory, which costs the driver a copy more. Texts stay with the machine.

use bytes::Bytes;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::{DynTensor, DynTensorValueType, DynValue, TensorElementType, ValueType};

use super::options::Device;
use super::session::run_failed;
use super::signature::Signature;
use super::strings;
use super::values::{self, datatype_of};
use crate::error::Error;
use crate::model::tensor::{DataType, Tensor};

/// Where one session's tensors pass through.
#[derive(Debug)]
pub(super) struct Staging {
    inputs: Allocator,
    outputs: MemoryInfo<'static>,
    texts: MemoryInfo<'static>,
}

impl Staging {
    /// Pinned memory for a device, or ordinary memory if there is none, which is logged.
    ///
    /// # Errors
    /// ONNX Runtime has no memory at all.
    pub(super) fn new(session: &Session, device: Device) -> Result<Self, ort::Error> {
        let texts = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)?;
        let pinned = match device {
            Device::Cpu => None,
            Device::Cuda(number) => Self::pinned(session, number)
                .inspect_err(|error| tracing::warn!(%error, %device, "no pinned memory: copies take longer"))
                .ok(),
        };
        Ok(match pinned {
            Some((inputs, outputs)) => Self { inputs, outputs, texts },
            None => Self { inputs: Allocator::default(), outputs: texts.to_owned(), texts },
        })
    }

    fn pinned(session: &Session, number: u32) -> Result<(Allocator, MemoryInfo<'static>), ort::Error> {
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        let info =
            |memory| MemoryInfo::new(AllocationDevice::CUDA_PINNED, number, AllocatorType::Device, memory);
        Ok((Allocator::new(session, info(MemoryType::CPUInput)?)?, info(MemoryType::CPUOutput)?))
    }

    /// Runs requests together, and copies out the outputs at the positions asked for. All outputs are
    /// calculated if none is asked for.
    ///
    /// # Errors
    /// As the session's run.
    pub(super) fn run(
        &self,
        session: &mut Session,
        signature: &Signature,
        requests: &[&[Tensor]],
        wanted: &[usize],
        options: &RunOptions,
    ) -> Result<Vec<Tensor>, Error> {
        let mut binding = session.create_binding().map_err(run_failed)?;
        for (position, spec) in signature.inputs.iter().enumerate() {
            self.bind_input(&mut binding, &spec.name, requests, position)?;
        }
        let all: Vec<usize> = (0..signature.outputs.len()).collect();
        for &position in if wanted.is_empty() { &all } else { wanted } {
            let spec = output(signature, position)?;
            let is_text = spec.datatype == DataType::Bytes;
            let memory = if is_text { &self.texts } else { &self.outputs };
            binding.bind_output_to_device(spec.name.as_str(), memory).map_err(run_failed)?;
        }
        let outputs = session.run_binding_with_options(&binding, options).map_err(run_failed)?;
        wanted
            .iter()
            .map(|&position| {
                let spec = output(signature, position)?;
                let value = outputs.get(&spec.name);
                let value =
                    value.ok_or_else(|| Error::internal(format!("output '{}' did not come", spec.name)))?;
                copy_out(&spec.name, value)
            })
            .collect()
    }

    fn bind_input(
        &self,
        binding: &mut IoBinding,
        name: &str,
        requests: &[&[Tensor]],
        position: usize,
    ) -> Result<(), Error> {
        let unlike =
            || Error::internal(format!("requests that differ at input {position} were put together"));
        let tensors: Option<Vec<&Tensor>> = requests.iter().map(|inputs| inputs.get(position)).collect();
        let tensors = tensors.ok_or_else(unlike)?;
        let first = *tensors.first().ok_or_else(unlike)?;
        let mut shape = first.shape.clone();
        if let [_, others @ ..] = tensors.as_slice()
            && !others.is_empty()
        {
            let is_like = |other: &&Tensor| {
                other.datatype == first.datatype && other.shape.get(1..) == first.shape.get(1..)
            };
            let items =
                tensors.iter().filter(|tensor| is_like(tensor)).filter_map(|tensor| tensor.shape.first());
            let count = items.clone().count();
            let rows = shape.first_mut().filter(|_| count == tensors.len()).ok_or_else(unlike)?;
            *rows = items.sum();
        }
        let Some(element) = element_of(first.datatype) else {
            let data: Vec<u8> = tensors.iter().flat_map(|tensor| tensor.data.iter().copied()).collect();
            let value = strings::to_ort(&shape, &data).map_err(run_failed)?;
            return binding.bind_input(name, &value).map_err(run_failed);
        };
        let mut value = DynTensor::new(&self.inputs, element, shape).map_err(run_failed)?;
        fill(&mut value, tensors.iter().map(|tensor| tensor.data.as_ref()))?;
        binding.bind_input(name, &value).map_err(run_failed)
    }
}

fn output(signature: &Signature, position: usize) -> Result<&super::signature::TensorSpec, Error> {
    let spec = signature.outputs.get(position);
    spec.ok_or_else(|| Error::internal(format!("the model has no output {position}")))
}

/// ONNX Runtime's element type of fixed width; `None` for texts.
const fn element_of(datatype: DataType) -> Option<TensorElementType> {
    Some(match datatype {
        DataType::Bool => TensorElementType::Bool,
        DataType::Uint8 => TensorElementType::Uint8,
        DataType::Uint16 => TensorElementType::Uint16,
        DataType::Uint32 => TensorElementType::Uint32,
        DataType::Uint64 => TensorElementType::Uint64,
        DataType::Int8 => TensorElementType::Int8,
        DataType::Int16 => TensorElementType::Int16,
        DataType::Int32 => TensorElementType::Int32,
        DataType::Int64 => TensorElementType::Int64,
        DataType::Fp16 => TensorElementType::Float16,
        DataType::Fp32 => TensorElementType::Float32,
        DataType::Fp64 => TensorElementType::Float64,
        DataType::Bf16 => TensorElementType::Bfloat16,
        DataType::Bytes => return None,
    })
}

/// Bytes of a tensor of fixed width.
fn size_of_value(ty: TensorElementType, shape: &[i64]) -> Option<usize> {
    let width = datatype_of(ty)?.width()?;
    shape.iter().try_fold(width, |size, &dimension| size.checked_mul(usize::try_from(dimension).ok()?))
}

/// Memory that the machine can read and write.
const OF_MACHINE: [AllocationDevice<'static>; 2] = [AllocationDevice::CPU, AllocationDevice::CUDA_PINNED];

/// Copies pieces into a tensor, which they have to fill.
#[allow(unsafe_code, reason = "ort lends no slice of pinned memory below version 23 of the C interface")]
fn fill<'a>(value: &mut DynTensor, pieces: impl Iterator<Item = &'a [u8]> + Clone) -> Result<(), Error> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(Error::internal("a tensor was made that is none"));
    };
    let size = size_of_value(*ty, shape);
    let length = pieces.clone().map(<[u8]>::len).sum::<usize>();
    if size != Some(length) {
        return Err(Error::internal(format!(
            "an input of {length} bytes does not fill a tensor of {size:?}"
        )));
    }
    if length == 0 {
        return Ok(());
    }
    // SAFETY: the tensor was just allocated by `Staging::inputs`, which is memory of the machine (pinned or
    // not), nobody else has it yet, and it has `length` bytes by its own datatype and shape.
    let target = unsafe { std::slice::from_raw_parts_mut(value.data_ptr_mut().cast::<u8>(), length) };
    let mut rest = target;
    for piece in pieces {
        let (place, after) = rest.split_at_mut(piece.len());
        place.copy_from_slice(piece);
        rest = after;
    }
    Ok(())
}

/// Copies an output, which the run has finished.
#[allow(unsafe_code, reason = "ort lends no slice of pinned memory below version 23 of the C interface")]
fn copy_out(name: &str, value: &DynValue) -> Result<Tensor, Error> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return values::from_ort(name, value);
    };
    let (Some(datatype), Some(size)) = (datatype_of(*ty), size_of_value(*ty, shape)) else {
        return values::from_ort(name, value);
    };
    let tensor = value.view().downcast::<DynTensorValueType>();
    let tensor = tensor.map_err(|error| Error::internal(format!("output '{name}': {error}")))?;
    let shape = shape.iter().filter_map(|&dimension| usize::try_from(dimension).ok()).collect();
    if size == 0 {
        return Ok(Tensor { name: name.to_owned(), datatype, shape, data: Bytes::new() });
    }
    if !OF_MACHINE.contains(&tensor.memory_info().allocation_device()) {
        return Err(Error::internal(format!("output '{name}' was left on the device")));
    }
    // SAFETY: the memory is the machine's, as was just looked at; it has `size` bytes by the value's own
    // datatype and shape, all written by the run, which waited for its device; the value outlives the slice.
    let bytes = unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), size) };
    Ok(Tensor { name: name.to_owned(), datatype, shape, data: Bytes::copy_from_slice(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tensor::push_bytes_element;
    use crate::model::{ModelSession, ModelSource, SessionOptions};
    use crate::scheduler::testing;

    /// A model by the way that a GPU's sessions take, and by the usual one.
    struct Both {
        session: Session,
        staging: Staging,
        usual: ModelSession,
    }

    impl Both {
        fn open(model: &str) -> Self {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/models");
            let bytes = std::fs::read(format!("{folder}/{model}/1/model.onnx")).unwrap();
            let runtime = testing::runtime();
            let mut builder = Session::builder(&runtime.environment).unwrap();
            let session = builder.commit_from_memory(&bytes).unwrap();
            let staging = Staging::new(&session, Device::Cpu).unwrap();
            let source = ModelSource::new(bytes.into(), |_| Err(String::new())).unwrap();
            let usual = ModelSession::open(&runtime, &source, &SessionOptions::default()).unwrap();
            Self { session, staging, usual }
        }

        fn run(&mut self, requests: &[&[Tensor]], wanted: &[usize]) -> Result<Vec<Tensor>, Error> {
            let signature = std::sync::Arc::clone(self.usual.signature());
            let options = RunOptions::new().unwrap();
            self.staging.run(&mut self.session, &signature, requests, wanted, &options)
        }

        fn agree(&mut self, requests: &[&[Tensor]]) {
            let all: Vec<usize> = (0..self.usual.signature().outputs.len()).collect();
            let expected = self.usual.run_batch(requests, &all, None).unwrap();
            assert_eq!(self.run(requests, &all).unwrap(), expected);
            // Twice, since memory is used again.
            assert_eq!(self.run(requests, &all).unwrap(), expected);
            assert_eq!(self.run(requests, &[]).unwrap(), []);
        }

        /// A request of `items` for each input, with bytes that differ by `tag`.
        fn request(&self, items: usize, tag: u8) -> Vec<Tensor> {
            let inputs = self.usual.signature().inputs.iter();
            let tensors = inputs.map(|spec| {
                let open = |(place, &size): (usize, &i64)| {
                    usize::try_from(size).unwrap_or(if place == 0 { items } else { 3 })
                };
                let shape: Vec<usize> = spec.shape.iter().enumerate().map(open).collect();
                let count: usize = shape.iter().product();
                let data = match spec.datatype {
                    DataType::Bytes => {
                        let mut data = Vec::new();
                        (0..count).for_each(|at| push_bytes_element(&mut data, &vec![tag; at % 4]).unwrap());
                        data
                    }
                    DataType::Bool => (0..count).map(|at| u8::from(at % 2 == usize::from(tag % 2))).collect(),
                    // No pattern of these bytes is a NaN.
                    datatype => (0..count * datatype.width().unwrap())
                        .map(|at| u8::try_from(at % 50).unwrap() + tag % 10)
                        .collect(),
                };
                Tensor::new(spec.name.clone(), spec.datatype, shape, data).unwrap()
            });
            tensors.collect()
        }
    }

    #[test]
    fn every_datatype_comes_back_as_by_the_usual_way() {
        for model in ["all_types", "echo_bytes", "two_inputs", "tiny", "scalar", "vector_fp32"] {
            let mut both = Both::open(model);
            for items in [1, 5] {
                let request = both.request(items, 7);
                both.agree(&[&request]);
            }
        }
    }

    #[test]
    fn requests_are_put_behind_each_other() {
        for model in ["tiny", "vector_fp32", "identity_fp32"] {
            let mut both = Both::open(model);
            let requests: Vec<_> =
                [(1, 1), (4, 2), (2, 3)].iter().map(|&(items, tag)| both.request(items, tag)).collect();
            let requests: Vec<&[Tensor]> = requests.iter().map(Vec::as_slice).collect();
            both.agree(&requests);
        }
    }

    #[test]
    fn no_items_and_requests_that_differ() {
        let mut both = Both::open("identity_fp32");
        let empty = both.request(0, 1);
        both.agree(&[&empty]);
        let mut both = Both::open("tiny");
        let one = both.request(1, 1);
        let mut other = both.request(1, 1);
        other[0].shape.push(1);
        for requests in [&[one.as_slice(), &other][..], &[&one, &[]], &[]] {
            assert_eq!(both.run(requests, &[0]).unwrap_err().code, crate::error::ErrorCode::Internal);
        }
        other = both.request(1, 1);
        other[0].data = other[0].data.slice(1..);
        assert!(both.run(&[&other], &[0]).unwrap_err().message.contains("does not fill"));
        assert!(both.run(&[&one], &[9]).unwrap_err().message.contains("no output 9"));
    }
}
