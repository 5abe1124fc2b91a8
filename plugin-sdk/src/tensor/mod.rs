//! Named arrays, in and out.
//!
//! # Copies
//! A tensor is bytes, because that is how it crosses to the host. A `Vec<f32>` cannot become a
//! `Vec<u8>` where it lies: Rust gives memory back with the alignment it was taken with. So
//! [`Tensor::from_f32`] copies once (about 30 µs for 600 kB). To avoid even that, fill the tensor in
//! place: [`Tensor::build`] hands out a `&mut [f32]` that is a view of the tensor's own bytes, which
//! every allocator aligns well enough (if one ever does not, the values take a detour through a
//! buffer). Reading borrows: [`Tensor::as_f32`] is a view of the bytes as they came.

mod bytes;

use std::borrow::Cow;

use bytemuck::Zeroable;
pub use bytes::BytesElements;

use crate::datatype::{DataType, Element};
use crate::error::{Error, Result};

/// A dense, named array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The model's input or output that this is.
    pub name: String,
    /// What each element is.
    pub datatype: DataType,
    /// The size of each dimension, outermost first; empty for a scalar.
    pub shape: Vec<u32>,
    /// The elements, row-major, little-endian, without padding.
    pub data: Vec<u8>,
}

impl Tensor {
    /// A tensor of `f32` (`FP32`); one copy, see [`Tensor::build`].
    ///
    /// # Errors
    /// `Internal` if there are not as many values as the shape takes.
    pub fn from_f32(
        name: impl Into<String>,
        shape: impl Into<Vec<u32>>,
        values: impl AsRef<[f32]>,
    ) -> Result<Self> {
        Self::from_elements(name, shape, values.as_ref())
    }

    /// A tensor of any Rust number; one copy, none for `Vec<u8>` by [`Tensor::from_bytes`].
    ///
    /// # Errors
    /// `Internal` if there are not as many values as the shape takes.
    pub fn from_elements<T: Element>(
        name: impl Into<String>,
        shape: impl Into<Vec<u32>>,
        values: &[T],
    ) -> Result<Self> {
        Self::from_bytes(name, T::DATATYPE, shape, bytemuck::cast_slice(values).to_vec())
    }

    /// A tensor of `BOOL`.
    ///
    /// # Errors
    /// `Internal` if there are not as many values as the shape takes.
    pub fn from_bools(name: impl Into<String>, shape: impl Into<Vec<u32>>, values: &[bool]) -> Result<Self> {
        let data = values.iter().map(|&value| u8::from(value)).collect();
        Self::from_bytes(name, DataType::Bool, shape, data)
    }

    /// A tensor of `BYTES`: strings, or anything else of varying length.
    ///
    /// # Errors
    /// `Internal` if there are not as many elements as the shape takes, or one is over 4 GiB.
    pub fn from_byte_strings<S: AsRef<[u8]>>(
        name: impl Into<String>,
        shape: impl Into<Vec<u32>>,
        elements: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let mut data = Vec::new();
        for element in elements {
            bytes::push(&mut data, element.as_ref())?;
        }
        Self::from_bytes(name, DataType::Bytes, shape, data)
    }

    /// A tensor of elements that are bytes already; no copy.
    ///
    /// # Errors
    /// `Internal` if datatype, shape and bytes do not agree.
    pub fn from_bytes(
        name: impl Into<String>,
        datatype: DataType,
        shape: impl Into<Vec<u32>>,
        data: Vec<u8>,
    ) -> Result<Self> {
        let tensor = Self { name: name.into(), datatype, shape: shape.into(), data };
        tensor.check()?;
        Ok(tensor)
    }

    /// A tensor whose elements, all zero at first, `fill` writes in place; no copy.
    ///
    /// ```
    /// use nuke_plugin_sdk::Tensor;
    ///
    /// let ramp = Tensor::build("x", [1, 4], |values: &mut [f32]| {
    ///     for (index, value) in values.iter_mut().enumerate() {
    ///         *value = index as f32 / 4.0;
    ///     }
    /// })?;
    /// assert_eq!(*ramp.as_f32()?, [0.0, 0.25, 0.5, 0.75]);
    /// # Ok::<(), nuke_plugin_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Internal` if the shape takes more elements than memory can hold.
    pub fn build<T: Element>(
        name: impl Into<String>,
        shape: impl Into<Vec<u32>>,
        fill: impl FnOnce(&mut [T]),
    ) -> Result<Self> {
        let mut tensor =
            Self { name: name.into(), datatype: T::DATATYPE, shape: shape.into(), data: Vec::new() };
        let count = tensor.element_count()?;
        let length = count.checked_mul(size_of::<T>()).ok_or_else(|| tensor.too_many())?;
        tensor.data = vec![0; length];
        if let Ok(elements) = bytemuck::try_cast_slice_mut(&mut tensor.data) {
            fill(elements);
        } else {
            let mut elements = vec![<T as Zeroable>::zeroed(); count];
            fill(&mut elements);
            tensor.data.copy_from_slice(bytemuck::cast_slice(&elements));
        }
        Ok(tensor)
    }

    /// The elements of an `FP32` tensor, where they lie if that is aligned for `f32` (it is).
    ///
    /// # Errors
    /// `Internal` if the tensor is of another type.
    pub fn as_f32(&self) -> Result<Cow<'_, [f32]>> {
        self.elements()
    }

    /// The elements as Rust numbers, where they lie if that is aligned for them (it is).
    ///
    /// # Errors
    /// `Internal` if the tensor is of another type.
    pub fn elements<T: Element>(&self) -> Result<Cow<'_, [T]>> {
        self.expect_type(T::DATATYPE)?;
        self.check()?;
        let copied = |_| self.data.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect();
        Ok(bytemuck::try_cast_slice(&self.data).map_or_else(|error| Cow::Owned(copied(error)), Cow::Borrowed))
    }

    /// The elements of a `BOOL` tensor.
    ///
    /// # Errors
    /// `Internal` if the tensor is of another type.
    pub fn as_bools(&self) -> Result<impl ExactSizeIterator<Item = bool> + '_> {
        self.expect_type(DataType::Bool)?;
        Ok(self.data.iter().map(|&byte| byte != 0))
    }

    /// The elements of a `BYTES` tensor.
    ///
    /// # Errors
    /// `Internal` if the tensor is of another type, or ends within an element.
    pub fn as_byte_strings(&self) -> Result<BytesElements<'_>> {
        self.expect_type(DataType::Bytes)?;
        self.check()?;
        Ok(BytesElements::new(&self.data))
    }

    /// The product of the shape.
    ///
    /// # Errors
    /// `Internal` if memory could not hold as many.
    pub fn element_count(&self) -> Result<usize> {
        self.shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(usize::try_from(size).ok()?))
            .ok_or_else(|| self.too_many())
    }

    fn expect_type(&self, wanted: DataType) -> Result<()> {
        if self.datatype == wanted {
            return Ok(());
        }
        Err(Error::internal(format!("tensor '{}' is {}, not {wanted}", self.name, self.datatype)))
    }

    fn check(&self) -> Result<()> {
        let count = self.element_count()?;
        let Some(width) = self.datatype.width() else {
            return bytes::check(&self.name, &self.shape, &self.data, count);
        };
        let expected = count.checked_mul(width).ok_or_else(|| self.too_many())?;
        if self.data.len() == expected {
            return Ok(());
        }
        Err(Error::internal(format!(
            "tensor '{}': {} of shape {:?} takes {expected} bytes, got {}",
            self.name,
            self.datatype,
            self.shape,
            self.data.len()
        )))
    }

    fn too_many(&self) -> Error {
        Error::internal(format!(
            "tensor '{}': shape {:?} has more elements than memory could hold",
            self.name, self.shape
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_in_and_come_out_without_a_copy() {
        let tensor = Tensor::from_f32("x", [2, 2], vec![1.0, -2.5, f32::MAX, 0.0]).unwrap();
        assert_eq!(tensor.data[..4], 1.0_f32.to_le_bytes());
        let values = tensor.as_f32().unwrap();
        assert_eq!(*values, [1.0, -2.5, f32::MAX, 0.0]);
        assert!(matches!(values, Cow::Borrowed(_)));
        let ids = Tensor::from_elements("ids", [3], &[1_i64, -1, i64::MAX]).unwrap();
        assert_eq!(ids.datatype, DataType::Int64);
        assert_eq!(*ids.elements::<i64>().unwrap(), [1, -1, i64::MAX]);
    }

    #[test]
    fn another_type_is_refused_by_name() {
        let tensor = Tensor::from_elements("ids", [1], &[1_i64]).unwrap();
        assert_eq!(tensor.as_f32().unwrap_err().message, "tensor 'ids' is INT64, not FP32");
        assert!(tensor.as_bools().is_err());
        assert!(tensor.as_byte_strings().is_err());
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused() {
        let error = Tensor::from_f32("x", [3], [1.0]).unwrap_err();
        assert_eq!(error.message, "tensor 'x': FP32 of shape [3] takes 12 bytes, got 4");
        let huge = [u32::MAX; 4];
        assert!(Tensor::build("x", huge, |_: &mut [u8]| ()).unwrap_err().message.contains("memory"));
        assert!(Tensor::from_bytes("x", DataType::Bytes, huge, vec![]).is_err());
    }

    #[test]
    fn a_scalar_has_one_element_and_an_empty_dimension_none() {
        assert_eq!(Tensor::from_f32("x", [], [5.0]).unwrap().element_count().unwrap(), 1);
        assert_eq!(Tensor::from_f32("x", [0, 7], []).unwrap().as_f32().unwrap().len(), 0);
    }

    #[test]
    fn bools_are_bytes() {
        let tensor = Tensor::from_bools("b", [2], &[true, false]).unwrap();
        assert_eq!(tensor.data, [1, 0]);
        assert_eq!(tensor.as_bools().unwrap().collect::<Vec<_>>(), [true, false]);
    }

    #[cfg(feature = "half")]
    #[test]
    fn halves_are_elements() {
        let values = [half::f16::from_f32(1.5), half::f16::NEG_ONE];
        let tensor = Tensor::from_elements("h", [2], &values).unwrap();
        assert_eq!((tensor.datatype, tensor.data.len()), (DataType::Fp16, 4));
        assert_eq!(*tensor.elements::<half::f16>().unwrap(), values);
        assert!(tensor.elements::<half::bf16>().is_err());
    }
}
