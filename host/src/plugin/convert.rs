//! Between the host's values and the contract's.
//!
//! Owns the mapping of datatypes, tensors and errors. A guest's tensor is checked before anything
//! else sees it.

use super::bindings::nuke::plugin::types::{Datatype, ErrorCode as GuestCode, PluginError, TensorResult};
use crate::error::{Error, ErrorCode};
use crate::model::tensor::{DataType, Tensor};

pub(super) fn borrow_pairs(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

pub(super) fn guest_shape(tensor: &Tensor) -> Result<Vec<u32>, Error> {
    let narrow = |&dimension: &usize| u32::try_from(dimension);
    tensor.shape.iter().map(narrow).collect::<Result<_, _>>().map_err(|_| {
        Error::internal(format!(
            "output '{}' has a dimension over 4294967295: {:?}",
            tensor.name, tensor.shape
        ))
    })
}

pub(super) fn tensor_from_guest(tensor: TensorResult) -> Result<Tensor, Error> {
    let shape = tensor.shape.into_iter().map(|dimension| dimension as usize).collect();
    Tensor::new(tensor.name, datatype_from_guest(tensor.datatype), shape, tensor.data)
}

pub(super) fn error_from_guest(reported: PluginError) -> Error {
    let code = match reported.code {
        GuestCode::InvalidInput => ErrorCode::InvalidArgument,
        GuestCode::UnsupportedMediaType => ErrorCode::UnsupportedMediaType,
        GuestCode::TooLarge => ErrorCode::PayloadTooLarge,
        GuestCode::NotFound => ErrorCode::NotFound,
        GuestCode::Unavailable => ErrorCode::Unavailable,
        GuestCode::Internal => ErrorCode::PluginFault,
    };
    let details = reported.details.into_iter().take(MOST_DETAILS);
    let details = details.map(|(name, value)| (cut(name, MESSAGE), cut(value, DETAIL))).collect();
    Error { details, ..Error::new(code, cut(reported.message, MESSAGE)) }
}

/// Bytes of a plugin's message that clients and logs see.
const MESSAGE: usize = 4 << 10;
/// Details of a plugin's error, and bytes of each.
const MOST_DETAILS: usize = 16;
const DETAIL: usize = 16 << 10;

fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}

pub(super) const fn datatype_to_guest(datatype: DataType) -> Datatype {
    match datatype {
        DataType::Bool => Datatype::Bool,
        DataType::Uint8 => Datatype::Uint8,
        DataType::Uint16 => Datatype::Uint16,
        DataType::Uint32 => Datatype::Uint32,
        DataType::Uint64 => Datatype::Uint64,
        DataType::Int8 => Datatype::Int8,
        DataType::Int16 => Datatype::Int16,
        DataType::Int32 => Datatype::Int32,
        DataType::Int64 => Datatype::Int64,
        DataType::Fp16 => Datatype::Fp16,
        DataType::Fp32 => Datatype::Fp32,
        DataType::Fp64 => Datatype::Fp64,
        DataType::Bf16 => Datatype::Bf16,
        DataType::Bytes => Datatype::Bytes,
    }
}

pub(super) const fn datatype_from_guest(datatype: Datatype) -> DataType {
    match datatype {
        Datatype::Bool => DataType::Bool,
        Datatype::Uint8 => DataType::Uint8,
        Datatype::Uint16 => DataType::Uint16,
        Datatype::Uint32 => DataType::Uint32,
        Datatype::Uint64 => DataType::Uint64,
        Datatype::Int8 => DataType::Int8,
        Datatype::Int16 => DataType::Int16,
        Datatype::Int32 => DataType::Int32,
        Datatype::Int64 => DataType::Int64,
        Datatype::Fp16 => DataType::Fp16,
        Datatype::Fp32 => DataType::Fp32,
        Datatype::Fp64 => DataType::Fp64,
        Datatype::Bf16 => DataType::Bf16,
        Datatype::Bytes => DataType::Bytes,
    }
}
