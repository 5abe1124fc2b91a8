//! BYTES tensors in ONNX Runtime.
//!
//! Owns the two conversions, over the C interface: the wrapper's own take and give UTF-8 without NUL
//! bytes only, while the protocol's BYTES are any bytes. ARCHITECTURE.md lists all `unsafe` code of the
//! host.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void};
use std::ptr;

use ort::AsPointer as _;
use ort::memory::Allocator;
use ort::value::{DynTensor, DynValue, TensorElementType};

use crate::error::Error;
use crate::model::tensor::{BytesElements, push_bytes_element};

/// Copies a BYTES tensor into one of ONNX Runtime's. `data` has been checked to hold the elements of `shape`.
pub(super) fn to_ort(shape: &[usize], data: &[u8]) -> Result<DynTensor, ort::Error> {
    let allocator = Allocator::default();
    let mut value = DynTensor::new(&allocator, TensorElementType::String, shape)?;
    for (index, element) in BytesElements::new(data).enumerate() {
        let element = element.map_err(|error| ort::Error::new(error.to_string()))?;
        let mut buffer: *mut c_char = ptr::null_mut();
        // SAFETY: `value` is a live string tensor of as many elements as the checked `data` has, so
        // `index` is within it. On success ONNX Runtime has resized that element to `element.len()`
        // bytes and stored a pointer to them, which stays valid until the element is touched again.
        unsafe {
            let status = (ort::api().GetResizedStringTensorElementBuffer)(
                value.ptr_mut(),
                index,
                element.len(),
                &raw mut buffer,
            );
            ort::Error::result_from_status(status)?;
            if !element.is_empty() {
                ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast::<u8>(), element.len());
            }
        }
    }
    Ok(value)
}

/// Copies one of ONNX Runtime's string tensors of `count` elements into the byte form of BYTES.
pub(super) fn from_ort(value: &DynValue, count: usize) -> Result<Vec<u8>, Error> {
    let failed = |error: ort::Error| Error::internal(format!("cannot read a string tensor: {error}"));
    let mut total = 0_usize;
    // SAFETY: `value` is a live string tensor; `total` receives the sum of its elements' lengths.
    unsafe {
        let status = (ort::api().GetStringTensorDataLength)(value.ptr(), &raw mut total);
        ort::Error::result_from_status(status).map_err(failed)?;
    }
    let (mut content, mut offsets) = (vec![0_u8; total], vec![0_usize; count]);
    // SAFETY: both buffers are as long as said. ONNX Runtime fills `content` with the elements one
    // after the other and `offsets` with where each begins, and refuses lengths that do not match.
    unsafe {
        let status = (ort::api().GetStringTensorContent)(
            value.ptr(),
            content.as_mut_ptr().cast::<c_void>(),
            total,
            offsets.as_mut_ptr(),
            count,
        );
        ort::Error::result_from_status(status).map_err(failed)?;
    }
    let mut data = Vec::with_capacity(total + 4 * count);
    for (index, &start) in offsets.iter().enumerate() {
        let end = offsets.get(index + 1).copied().unwrap_or(total);
        let element =
            content.get(start..end).ok_or_else(|| Error::internal("a string tensor's offsets are wrong"))?;
        push_bytes_element(&mut data, element)?;
    }
    Ok(data)
}
