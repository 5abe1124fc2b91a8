//! Between the host's tensors and ONNX Runtime's values.
//!
//! Owns the mapping of datatypes. An input is lent to ONNX Runtime where it lies, and copied only if
//! it is not aligned for its datatype; an output is copied once, out of the session's memory.

use bytemuck::Pod;
use bytes::Bytes;
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{
    DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType, TensorRef, ValueType,
};

use super::strings;
use crate::error::Error;
use crate::model::tensor::{DataType, Tensor, element_count};

/// The protocol's datatype of an element type; `None` for those that the protocol lacks.
pub(super) const fn datatype_of(element: TensorElementType) -> Option<DataType> {
    Some(match element {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::Bfloat16 => DataType::Bf16,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}

/// An input's elements where they lie: in a request, or gathered from several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a> {
    pub(super) datatype: DataType,
    pub(super) shape: &'a [usize],
    pub(super) data: &'a [u8],
}

impl<'a> From<&'a Tensor> for Elements<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self { datatype: tensor.datatype, shape: &tensor.shape, data: &tensor.data }
    }
}

/// Lends elements to ONNX Runtime.
pub(super) fn to_ort(elements: Elements<'_>) -> Result<SessionInputValue<'_>, ort::Error> {
    match elements.datatype {
        // A BOOL's bytes have been checked to be 0 or 1.
        DataType::Bool => {
            let bools: Vec<bool> = elements.data.iter().map(|&byte| byte != 0).collect();
            Ok(OrtTensor::from_array((elements.shape, bools))?.into())
        }
        DataType::Uint8 => lend::<u8>(elements),
        DataType::Uint16 => lend::<u16>(elements),
        DataType::Uint32 => lend::<u32>(elements),
        DataType::Uint64 => lend::<u64>(elements),
        DataType::Int8 => lend::<i8>(elements),
        DataType::Int16 => lend::<i16>(elements),
        DataType::Int32 => lend::<i32>(elements),
        DataType::Int64 => lend::<i64>(elements),
        DataType::Fp16 => lend::<f16>(elements),
        DataType::Fp32 => lend::<f32>(elements),
        DataType::Fp64 => lend::<f64>(elements),
        DataType::Bf16 => lend::<bf16>(elements),
        DataType::Bytes => Ok(strings::to_ort(elements.shape, elements.data)?.into()),
    }
}

fn lend<T>(elements: Elements<'_>) -> Result<SessionInputValue<'_>, ort::Error>
where
    T: Pod + PrimitiveTensorElementType + std::fmt::Debug + 'static,
{
    let shape = elements.shape;
    if shape.contains(&0) {
        return Ok(OrtTensor::<T>::new(&ort::memory::Allocator::default(), shape)?.into());
    }
    match bytemuck::try_cast_slice::<u8, T>(elements.data) {
        Ok(slice) => Ok(TensorRef::from_array_view((shape, slice))?.into()),
        Err(_) => {
            let copied: Vec<T> = bytemuck::pod_collect_to_vec(elements.data);
            Ok(OrtTensor::from_array((shape, copied))?.into())
        }
    }
}

/// Copies an output out of the session's memory.
pub(super) fn from_ort(name: &str, value: &DynValue) -> Result<Tensor, Error> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(Error::internal(format!("output '{name}' is no tensor but {}", value.dtype())));
    };
    let Some(datatype) = datatype_of(*ty) else {
        return Err(Error::internal(format!(
            "output '{name}' has element type {ty}, which the protocol lacks"
        )));
    };
    let shape = shape.iter().map(|&dimension| usize::try_from(dimension)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| Error::internal(format!("output '{name}' has a negative dimension")))?;
    let data = match datatype {
        DataType::Bool => {
            let (_, bools) = value.try_extract_tensor::<bool>().map_err(|error| unreadable(name, &error))?;
            bools.iter().map(|&value| u8::from(value)).collect()
        }
        DataType::Uint8 => copy::<u8>(name, value)?,
        DataType::Uint16 => copy::<u16>(name, value)?,
        DataType::Uint32 => copy::<u32>(name, value)?,
        DataType::Uint64 => copy::<u64>(name, value)?,
        DataType::Int8 => copy::<i8>(name, value)?,
        DataType::Int16 => copy::<i16>(name, value)?,
        DataType::Int32 => copy::<i32>(name, value)?,
        DataType::Int64 => copy::<i64>(name, value)?,
        DataType::Fp16 => copy::<f16>(name, value)?,
        DataType::Fp32 => copy::<f32>(name, value)?,
        DataType::Fp64 => copy::<f64>(name, value)?,
        DataType::Bf16 => copy::<bf16>(name, value)?,
        DataType::Bytes => Bytes::from(strings::from_ort(value, element_count(name, &shape)?)?),
    };
    Ok(Tensor { name: name.to_owned(), datatype, shape, data })
}

fn copy<T: Pod + PrimitiveTensorElementType>(name: &str, value: &DynValue) -> Result<Bytes, Error> {
    let (_, elements) = value.try_extract_tensor::<T>().map_err(|error| unreadable(name, &error))?;
    Ok(Bytes::copy_from_slice(bytemuck::cast_slice(elements)))
}

fn unreadable(name: &str, error: &ort::Error) -> Error {
    Error::internal(format!("output '{name}' cannot be read: {error}"))
}
