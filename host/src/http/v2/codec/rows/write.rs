//! An answer of version 1.
//!
//! Owns how tensors become rows: `{"predictions": [row, …]}` where the request had rows, `{"outputs": …}` where it had
//! whole tensors. A model with one output gives values, one with several objects.

use super::base64;
use super::read::Form;
use crate::error::{Error, ErrorCode};
use crate::http::v2::codec::write as json;
use crate::model::tensor::{BytesElements, DataType, Tensor};

/// Writes the answer's body.
///
/// # Errors
/// `InvalidArgument` if an output has no JSON form, or no row for each of the request's.
pub fn write(outputs: &[Tensor], form: Form) -> Result<Vec<u8>, Error> {
    let space: usize = outputs.iter().map(json::space).sum();
    let mut body = Vec::with_capacity(space + 64);
    body.push(b'{');
    match form {
        Form::Columns => {
            json::key(&mut body, "outputs");
            columns(&mut body, outputs)?;
        }
        Form::Rows(count) => {
            json::key(&mut body, "predictions");
            rows(&mut body, outputs, count)?;
        }
    }
    body.push(b'}');
    Ok(body)
}

fn columns(body: &mut Vec<u8>, outputs: &[Tensor]) -> Result<(), Error> {
    if let [output] = outputs {
        return Writer::new(output)?.value(body, 0, 0);
    }
    let mut writers = Writer::all(outputs)?;
    object(body, &mut writers, 0, 0)
}

fn rows(body: &mut Vec<u8>, outputs: &[Tensor], count: usize) -> Result<(), Error> {
    if let Some(output) = outputs.iter().find(|output| output.shape.first() != Some(&count)) {
        return Err(Error::invalid(format!(
            "output '{}' of shape {:?} has no row for each of the {count} instances; ask with 'inputs' instead of \
             'instances', or by version 2 of the protocol",
            output.name, output.shape
        )));
    }
    let mut writers = Writer::all(outputs)?;
    body.push(b'[');
    for row in 0..count {
        if row > 0 {
            body.push(b',');
        }
        match writers.as_mut_slice() {
            [writer] => writer.value(body, 1, row)?,
            several => object(body, several, 1, row)?,
        }
    }
    body.push(b']');
    Ok(())
}

fn object(body: &mut Vec<u8>, writers: &mut [Writer<'_>], depth: usize, index: usize) -> Result<(), Error> {
    body.push(b'{');
    for (at, writer) in writers.iter_mut().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        json::key(body, &writer.tensor.name);
        writer.value(body, depth, index)?;
    }
    body.push(b'}');
    Ok(())
}

/// One output, of which any part can be written.
struct Writer<'a> {
    tensor: &'a Tensor,
    /// BYTES, taken apart.
    texts: Vec<&'a [u8]>,
}

impl<'a> Writer<'a> {
    fn new(tensor: &'a Tensor) -> Result<Self, Error> {
        let texts = match tensor.datatype {
            DataType::Bytes => BytesElements::new(&tensor.data)
                .collect::<Result<_, _>>()
                .map_err(|error| Error::internal(format!("output '{}': {error}", tensor.name)))?,
            _ => Vec::new(),
        };
        Ok(Self { tensor, texts })
    }

    fn all(outputs: &'a [Tensor]) -> Result<Vec<Self>, Error> {
        outputs.iter().map(Self::new).collect()
    }

    /// Writes part `index` of those that the first `depth` dimensions make, as its inner dimensions nest.
    fn value(&mut self, body: &mut Vec<u8>, depth: usize, index: usize) -> Result<(), Error> {
        let inner = self.tensor.shape.get(depth..).unwrap_or_default();
        match inner {
            [] => self.run(body, index, 1, false),
            [count] => self.run(body, index.saturating_mul(*count), *count, true),
            [count, ..] => {
                let count = *count;
                body.push(b'[');
                for item in 0..count {
                    if item > 0 {
                        body.push(b',');
                    }
                    self.value(body, depth + 1, index.saturating_mul(count) + item)?;
                }
                body.push(b']');
                Ok(())
            }
        }
    }

    /// Writes `count` elements in a row, with brackets or, if it is one, without.
    fn run(&self, body: &mut Vec<u8>, start: usize, count: usize, in_brackets: bool) -> Result<(), Error> {
        if self.tensor.datatype == DataType::Bytes {
            return self.text_run(body, start, count, in_brackets);
        }
        let width = self.tensor.datatype.width().unwrap_or(1);
        let (from, to) = (start.saturating_mul(width), (start + count).saturating_mul(width));
        if to > self.tensor.data.len() {
            return Err(Error::internal(format!("output '{}' is shorter than its shape", self.tensor.name)));
        }
        let part = Tensor {
            name: self.tensor.name.clone(),
            datatype: self.tensor.datatype,
            shape: vec![count],
            data: self.tensor.data.slice(from..to),
        };
        let at = body.len();
        json::elements(body, &part).map_err(|error| self.without_a_form(start, error))?;
        if !in_brackets {
            body.pop();
            body.remove(at);
        }
        Ok(())
    }

    fn text_run(
        &self,
        body: &mut Vec<u8>,
        start: usize,
        count: usize,
        in_brackets: bool,
    ) -> Result<(), Error> {
        let texts = self.texts.get(start..start.saturating_add(count)).ok_or_else(|| {
            Error::internal(format!("output '{}' is shorter than its shape", self.tensor.name))
        })?;
        if in_brackets {
            body.push(b'[');
        }
        for (at, bytes) in texts.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            match str::from_utf8(bytes) {
                Ok(text) => json::string(body, text),
                Err(_) => {
                    body.push(b'{');
                    json::key(body, "b64");
                    json::string(body, &base64::encode(bytes));
                    body.push(b'}');
                }
            }
        }
        if in_brackets {
            body.push(b']');
        }
        Ok(())
    }

    /// What version 2 says of binary outputs is of no use here.
    fn without_a_form(&self, start: usize, error: Error) -> Error {
        match error.code {
            ErrorCode::InvalidArgument => Error::invalid(format!(
                "output '{}' has elements that JSON cannot say (NaN, infinity, or {}) from element {start} on; ask by \
                 version 2 of the protocol, with binary_data: true",
                self.tensor.name, "FP16 and BF16"
            )),
            _ => error,
        }
    }
}
