//! An input's JSON `data` to the tensor's bytes.
//!
//! Owns the JSON form of every datatype and the two layouts, flat and nested. Elements go straight
//! from the text into the byte form. It never keeps more bytes than the shape asks for, and never
//! recurses deeper than the shape has dimensions.

use bytes::Bytes;

use super::fault::Fault;
use super::reader::Reader;
use super::runs::{OneByOne, Run, bool_element, bytes_element, floats, integers};
use crate::error::{Error, ErrorCode};
use crate::model::tensor::{DataType, Tensor, check_span, element_count};

/// Reads the tensor's elements at the cursor. The text must hold exactly the product of `shape`,
/// as one flat array or nested as the shape says.
///
/// # Errors
/// `InvalidArgument` that names the tensor, and the element or level; `PayloadTooLarge` if the
/// elements take more than `most_bytes`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    name: &str,
    datatype: DataType,
    shape: &[usize],
    most_bytes: usize,
) -> Result<Tensor, Fault> {
    let elements = element_count(name, shape)?;
    check_span(name, datatype, shape, most_bytes)?;
    if let Some(bytes) =
        elements.checked_mul(datatype.width().unwrap_or(4)).filter(|&bytes| bytes > most_bytes)
    {
        return Err(too_large(name, bytes, most_bytes).into());
    }
    let width = datatype.width().unwrap_or(4);
    // An element takes two bytes of text at least: a false shape reserves no memory.
    let capacity = elements.min(reader.remaining() / 2 + 1).saturating_mul(width);
    let rows = Rows { name, shape, elements, most_bytes, indices: Vec::new(), count: 0, data: Vec::new() };
    let data = match datatype {
        DataType::Bool => rows.fill(reader, capacity, &OneByOne(bool_element)),
        DataType::Uint8 => rows.fill(reader, capacity, &integers(datatype, u8::to_le_bytes)),
        DataType::Uint16 => rows.fill(reader, capacity, &integers(datatype, u16::to_le_bytes)),
        DataType::Uint32 => rows.fill(reader, capacity, &integers(datatype, u32::to_le_bytes)),
        DataType::Uint64 => rows.fill(reader, capacity, &integers(datatype, u64::to_le_bytes)),
        DataType::Int8 => rows.fill(reader, capacity, &integers(datatype, i8::to_le_bytes)),
        DataType::Int16 => rows.fill(reader, capacity, &integers(datatype, i16::to_le_bytes)),
        DataType::Int32 => rows.fill(reader, capacity, &integers(datatype, i32::to_le_bytes)),
        DataType::Int64 => rows.fill(reader, capacity, &integers(datatype, i64::to_le_bytes)),
        DataType::Fp32 => {
            rows.fill(reader, capacity, &floats(datatype, |number| number.as_f32().map(f32::to_le_bytes)))
        }
        DataType::Fp64 => {
            rows.fill(reader, capacity, &floats(datatype, |number| number.as_f64().map(f64::to_le_bytes)))
        }
        DataType::Bytes => rows.fill(reader, capacity, &OneByOne(bytes_element)),
        DataType::Fp16 | DataType::Bf16 => Err(no_json_form(name, datatype).into()),
    }?;
    Ok(Tensor { name: name.to_owned(), datatype, shape: shape.to_vec(), data: Bytes::from(data) })
}

/// The refusal of FP16 and BF16 in JSON.
pub(super) fn no_json_form(name: &str, datatype: DataType) -> Error {
    Error::invalid(format!(
        "tensor '{name}': {datatype} has no JSON form, send or request it in the binary form (binary_data_size, \
         binary_data)"
    ))
}

/// The refusal of a tensor whose elements take more than a request may have.
pub(crate) fn too_large(name: &str, bytes: usize, most: usize) -> Error {
    Error::new(
        ErrorCode::PayloadTooLarge,
        format!(
            "tensor '{name}': its data takes {bytes} bytes or more, at most {most} are allowed in one request"
        ),
    )
}

/// The walk over the arrays of one tensor's data.
struct Rows<'a> {
    name: &'a str,
    shape: &'a [usize],
    /// The product of `shape`.
    elements: usize,
    most_bytes: usize,
    /// Where the walk stands in the outer levels, for messages.
    indices: Vec<usize>,
    /// How many elements are read.
    count: usize,
    data: Vec<u8>,
}

impl Rows<'_> {
    fn fill(mut self, reader: &mut Reader<'_>, capacity: usize, run: &impl Run) -> Result<Vec<u8>, Fault> {
        self.data.reserve_exact(capacity);
        reader.skip_space();
        if self.shape.is_empty() && reader.peek() != Some(b'[') {
            let read = run.read(reader, 1, &mut self.count, &mut self.data);
            read.map_err(|fault| self.at_element(fault))?;
            return Ok(self.data);
        }
        let mut ahead = reader.rewound(reader.position());
        let nested = self.shape.len() > 1 && ahead.eat(b'[') && ahead.eat(b'[');
        if nested {
            self.level(reader, run)?;
        } else {
            let found = self.row(reader, self.elements, run)?;
            if found != self.elements {
                return Err(self.miscounted(found).into());
            }
        }
        Ok(self.data)
    }

    /// One array of a nested layout; `indices` says which.
    fn level(&mut self, reader: &mut Reader<'_>, run: &impl Run) -> Result<(), Fault> {
        let depth = self.indices.len();
        let wanted = self.shape.get(depth).copied().unwrap_or_default();
        if depth + 1 >= self.shape.len() {
            let found = self.row(reader, wanted, run)?;
            return if found == wanted { Ok(()) } else { Err(self.ragged(found).into()) };
        }
        self.open(reader)?;
        let mut found = 0;
        if !reader.eat(b']') {
            loop {
                if found >= wanted {
                    reader.skip_value().map_err(|fault| self.syntax(fault))?;
                } else {
                    self.indices.push(found);
                    self.level(reader, run)?;
                    self.indices.pop();
                }
                found += 1;
                if !reader.eat(b',') {
                    break;
                }
            }
            reader.take(b']', "',' or ']'").map_err(|fault| self.syntax(fault))?;
        }
        if found == wanted { Ok(()) } else { Err(self.ragged(found).into()) }
    }

    fn open(&self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        reader.take(b'[', "an array").map_err(|fault| self.syntax(fault))
    }

    /// One array of elements. Returns how many it has, and keeps no more than `wanted`.
    fn row(&mut self, reader: &mut Reader<'_>, wanted: usize, run: &impl Run) -> Result<usize, Fault> {
        self.open(reader)?;
        if reader.eat(b']') {
            return Ok(0);
        }
        let mut found = self.count;
        if wanted > 0 {
            let read = run.read(reader, wanted, &mut self.count, &mut self.data);
            read.map_err(|fault| self.at_element(fault))?;
        } else {
            reader.skip_value().map_err(|fault| self.syntax(fault))?;
        }
        found = self.count - found + usize::from(wanted == 0);
        while reader.eat(b',') {
            reader.skip_value().map_err(|fault| self.syntax(fault))?;
            found += 1;
        }
        reader.take(b']', "',' or ']'").map_err(|fault| self.syntax(fault))?;
        if self.data.len() > self.most_bytes {
            return Err(too_large(self.name, self.data.len(), self.most_bytes).into());
        }
        Ok(found)
    }

    #[cold]
    fn at_element(&self, fault: Fault) -> Fault {
        fault.into_error(&format!("tensor '{}' element {}", self.name, self.count)).into()
    }

    #[cold]
    fn syntax(&self, fault: Fault) -> Fault {
        fault.into_error(&format!("tensor '{}' {}", self.name, self.path())).into()
    }

    fn path(&self) -> String {
        self.indices.iter().fold("data".to_owned(), |path, index| format!("{path}[{index}]"))
    }

    #[cold]
    fn miscounted(&self, found: usize) -> Error {
        Error::invalid(format!(
            "tensor '{}': shape {:?} takes {} elements, data has {found}",
            self.name, self.shape, self.elements
        ))
    }

    #[cold]
    fn ragged(&self, found: usize) -> Error {
        let depth = self.indices.len();
        Error::invalid(format!(
            "tensor '{}': dimension {depth} of shape {:?} takes {} items, {} has {found}",
            self.name,
            self.shape,
            self.shape.get(depth).copied().unwrap_or_default(),
            self.path()
        ))
    }
}
