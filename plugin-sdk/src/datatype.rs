//! The protocol's element types, and the Rust types that stand for them.

use std::fmt;

/// An element type of the Open Inference Protocol v2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// One byte, 0 or 1.
    Bool,
    /// One byte.
    Uint8,
    /// Two bytes, little-endian, as all that follow.
    Uint16,
    /// Four bytes.
    Uint32,
    /// Eight bytes.
    Uint64,
    /// One byte.
    Int8,
    /// Two bytes.
    Int16,
    /// Four bytes.
    Int32,
    /// Eight bytes.
    Int64,
    /// Two bytes, IEEE 754 binary16.
    Fp16,
    /// Four bytes, IEEE 754 binary32.
    Fp32,
    /// Eight bytes, IEEE 754 binary64.
    Fp64,
    /// Two bytes, the upper half of an FP32.
    Bf16,
    /// For each element a four-byte length and that many bytes.
    Bytes,
}

impl DataType {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bf16,
        Self::Bytes,
    ];

    /// The protocol's name: `FP32`, `INT64`, `BYTES` …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bf16 => "BF16",
            Self::Bytes => "BYTES",
        }
    }

    /// Bytes per element; `None` for [`DataType::Bytes`], whose elements differ in length.
    pub const fn width(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A Rust type whose memory is a tensor's element as it stands: `f32`, `i64`, `u8` … and, with the
/// feature `half`, `half::f16` and `half::bf16`.
pub trait Element: bytemuck::Pod {
    /// The protocol's name for it.
    const DATATYPE: DataType;
}

macro_rules! element {
    ($($rust:ty => $datatype:ident),* $(,)?) => {
        $(impl Element for $rust {
            const DATATYPE: DataType = DataType::$datatype;
        })*
    };
}

element! {
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    f32 => Fp32, f64 => Fp64,
}

#[cfg(feature = "half")]
element! { half::f16 => Fp16, half::bf16 => Bf16 }

// Tensors are little-endian, and elements are read and written where they lie. So are WebAssembly and
// every machine that plugins are tested on; a big-endian one would need its bytes swapped.
const _: () = assert!(cfg!(target_endian = "little"), "nuke-plugin-sdk needs a little-endian machine");
