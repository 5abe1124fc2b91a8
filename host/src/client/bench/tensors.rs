//! Tensors that a model takes, made up from its metadata.
//!
//! Owns the reading of `/v2/models/{m}`, the filling of open dimensions and the making of elements.
//! The metadata is from elsewhere: sizes are checked before anything is allocated.

use half::{bf16, f16};
use serde::Deserialize;

use super::super::error::ClientError;
use super::args::{Data, TensorArgs};
use super::random::Random;
use crate::model::tensor::{DataType, Tensor, element_count, push_bytes_element};

/// The most that one request's tensors may take: 1 GiB.
const REQUEST_LIMIT: usize = 1 << 30;
/// Random integers are below this: within INT8, and within nearly any vocabulary.
const INTEGERS_BELOW: u64 = 100;
/// The length of a random element of BYTES.
const WORD_LENGTH: usize = 8;

/// What is read of a model's metadata.
#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    inputs: Vec<InputMetadata>,
}

#[derive(Debug, Deserialize)]
struct InputMetadata {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

/// A size for the open dimensions of an input, or for one of them.
struct Dimension {
    input: String,
    index: Option<usize>,
    size: usize,
}

/// Makes one tensor for each input in the model's metadata.
///
/// # Errors
/// [`ClientError::Nonsense`] if the metadata is none; [`ClientError::Usage`] if the sizes asked for
/// do not fit it, or the tensors would be too large.
pub(super) fn generate(metadata: &[u8], args: &TensorArgs) -> Result<Vec<Tensor>, ClientError> {
    let metadata: Metadata = serde_json::from_slice(metadata).map_err(|error| {
        ClientError::Nonsense(format!("the host's model metadata cannot be read: {error}"))
    })?;
    let dimensions: Vec<Dimension> =
        args.dimensions.iter().map(|pair| parse_dimension(pair, &metadata)).collect::<Result<_, _>>()?;
    let mut random = Random::new(args.seed);
    let mut total = 0_usize;
    let mut tensors = Vec::new();
    for input in &metadata.inputs {
        let datatype: DataType = input
            .datatype
            .parse()
            .map_err(|error| ClientError::Nonsense(format!("input '{}': {error}", input.name)))?;
        let shape = fill(input, args.batch, &dimensions)?;
        let elements = element_count(&input.name, &shape).map_err(|error| usage(error.to_string()))?;
        let width = datatype.width().unwrap_or(4 + WORD_LENGTH);
        total = elements.checked_mul(width).and_then(|size| size.checked_add(total)).unwrap_or(usize::MAX);
        if total > REQUEST_LIMIT {
            return Err(usage(format!(
                "input '{}' of shape {shape:?} makes the request larger than {REQUEST_LIMIT} bytes: ask for \
                 smaller dimensions with --dim or --batch",
                input.name
            )));
        }
        let data = match args.data() {
            Data::Zeros => vec![0; datatype.width().unwrap_or(4) * elements],
            Data::Random => random_elements(datatype, elements, &mut random)?,
        };
        let tensor = Tensor::new(&*input.name, datatype, shape, data);
        tensors.push(tensor.map_err(|error| ClientError::Nonsense(error.to_string()))?);
    }
    Ok(tensors)
}

/// Reads `INPUT=N` or `INPUT[I]=N`; the input must be one of the model's.
fn parse_dimension((name, size): &(String, String), metadata: &Metadata) -> Result<Dimension, ClientError> {
    let size: usize = size
        .parse()
        .map_err(|_| usage(format!("--dim {name}={size}: the size must be a whole number, got '{size}'")))?;
    let is_input = |name: &str| metadata.inputs.iter().any(|input| input.name == name);
    if is_input(name) {
        return Ok(Dimension { input: name.clone(), index: None, size });
    }
    let indexed = name.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
    if let Some((input, index)) = indexed
        && is_input(input)
        && let Ok(index) = index.parse()
    {
        return Ok(Dimension { input: input.to_owned(), index: Some(index), size });
    }
    let names: Vec<_> = metadata.inputs.iter().map(|input| input.name.as_str()).collect();
    let model = &metadata.name;
    Err(usage(format!("--dim {name}: model '{model}' has no such input, it has {}", names.join(", "))))
}

/// The shape with its open dimensions filled: `--batch` for the first, then `--dim`, then 1.
fn fill(input: &InputMetadata, batch: Option<u32>, all: &[Dimension]) -> Result<Vec<usize>, ClientError> {
    let wanted: Vec<&Dimension> = all.iter().filter(|dimension| dimension.input == input.name).collect();
    if let Some(beyond) =
        wanted.iter().filter_map(|dimension| dimension.index).find(|i| *i >= input.shape.len())
    {
        return Err(usage(format!("--dim {}[{beyond}]: the shape is {:?}", input.name, input.shape)));
    }
    if batch.is_some() && input.shape.is_empty() {
        return Err(usage(format!("--batch: input '{}' is a scalar without dimensions", input.name)));
    }
    let fill_one = |(index, &size): (usize, &i64)| {
        let exact = wanted.iter().rev().find(|dimension| dimension.index == Some(index));
        let general = wanted.iter().rev().find(|dimension| dimension.index.is_none());
        let batch = batch.filter(|_| index == 0).map(|batch| batch as usize);
        let demanded = exact.map(|dimension| dimension.size).or(batch);
        match (usize::try_from(size), demanded) {
            (Ok(fixed), Some(demanded)) if fixed != demanded => Err(usage(format!(
                "input '{}': dimension {index} is {fixed} in the model, it cannot be {demanded}",
                input.name
            ))),
            (Ok(fixed), _) => Ok(fixed),
            (Err(_), Some(demanded)) => Ok(demanded),
            (Err(_), None) => Ok(general.map_or(1, |dimension| dimension.size)),
        }
    };
    input.shape.iter().enumerate().map(fill_one).collect()
}

/// Random elements in the tensor's byte form.
fn random_elements(datatype: DataType, count: usize, random: &mut Random) -> Result<Vec<u8>, ClientError> {
    let mut data = Vec::with_capacity(count * datatype.width().unwrap_or(4 + WORD_LENGTH));
    for _ in 0..count {
        match datatype {
            DataType::Bool => data.push(u8::from(random.below(2) == 1)),
            DataType::Fp16 => data.extend_from_slice(&f16::from_f64(random.unit()).to_le_bytes()),
            DataType::Bf16 => data.extend_from_slice(&bf16::from_f64(random.unit()).to_le_bytes()),
            DataType::Fp32 => data.extend_from_slice(&(random.unit() as f32).to_le_bytes()),
            DataType::Fp64 => data.extend_from_slice(&random.unit().to_le_bytes()),
            DataType::Bytes => {
                let word: [u8; WORD_LENGTH] = std::array::from_fn(|_| b'a' + random.below(26) as u8);
                push_bytes_element(&mut data, &word).map_err(|error| usage(error.to_string()))?;
            }
            // Little-endian integers of any width and sign: the low bytes of a small number.
            _ => {
                let width = datatype.width().unwrap_or(8);
                data.extend_from_slice(&random.below(INTEGERS_BELOW).to_le_bytes()[..width]);
            }
        }
    }
    Ok(data)
}

const fn usage(message: String) -> ClientError {
    ClientError::Usage(message)
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::parse;
    use super::*;

    fn args(line: &[&str]) -> TensorArgs {
        parse(&[&["--infer", "m"], line].concat()).unwrap().tensors
    }

    fn metadata(inputs: &str) -> Vec<u8> {
        format!(r#"{{"name":"m","platform":"p","inputs":[{inputs}],"outputs":[]}}"#).into_bytes()
    }

    fn shapes(inputs: &str, line: &[&str]) -> Result<Vec<Vec<usize>>, String> {
        let tensors = generate(&metadata(inputs), &args(line)).map_err(|error| error.to_string())?;
        Ok(tensors.into_iter().map(|tensor| tensor.shape).collect())
    }

    #[test]
    fn every_datatype_is_generated_as_zeros_and_as_random() {
        for datatype in DataType::ALL {
            let input = format!(r#"{{"name":"x","datatype":"{datatype}","shape":[-1,50]}}"#);
            for data in ["zeros", "random"] {
                let tensors = generate(&metadata(&input), &args(&["--batch", "2", "--data", data])).unwrap();
                assert_eq!((tensors[0].datatype, &*tensors[0].shape), (datatype, [2, 50].as_slice()));
                assert_eq!(tensors[0].data.iter().all(|byte| *byte == 0), data == "zeros", "{datatype}");
            }
        }
    }

    #[test]
    fn the_seed_decides_the_elements() {
        let input = metadata(r#"{"name":"x","datatype":"FP32","shape":[8]}"#);
        let with = |seed| generate(&input, &args(&["--seed", seed])).unwrap();
        assert_eq!(with("3"), with("3"));
        assert_ne!(with("3"), with("4"));
    }

    #[test]
    fn open_dimensions_take_batch_then_dim_then_one() {
        let inputs = r#"{"name":"a","datatype":"INT64","shape":[-1,-1]},{"name":"b:0","datatype":"BOOL","shape":[-1,3,-1]}"#;
        assert_eq!(shapes(inputs, &[]).unwrap(), [vec![1, 1], vec![1, 3, 1]]);
        assert_eq!(shapes(inputs, &["--batch", "4"]).unwrap(), [vec![4, 1], vec![4, 3, 1]]);
        let line = ["--batch", "4", "--dim", "a=7", "--dim", "b:0[2]=9", "--dim", "b:0[0]=4"];
        assert_eq!(shapes(inputs, &line).unwrap(), [vec![4, 7], vec![4, 3, 9]]);
        assert_eq!(shapes(inputs, &["--dim", "a=7"]).unwrap()[0], [7, 7]);
    }

    #[test]
    fn sizes_that_do_not_fit_name_the_input() {
        let input = r#"{"name":"a","datatype":"INT64","shape":[1,-1]}"#;
        let refusal = |line: &[&str]| shapes(input, line).unwrap_err();
        assert_eq!(refusal(&["--batch", "4"]), "input 'a': dimension 0 is 1 in the model, it cannot be 4");
        assert_eq!(refusal(&["--dim", "z=1"]), "--dim z: model 'm' has no such input, it has a");
        assert_eq!(refusal(&["--dim", "a[2]=1"]), "--dim a[2]: the shape is [1, -1]");
        assert!(refusal(&["--dim", "a=x"]).contains("whole number"));
        assert!(refusal(&["--dim", "a=999999999999"]).contains("larger than"));
        assert!(refusal(&["--dim", &format!("a={}", usize::MAX)]).contains("larger than"));
        let scalar = r#"{"name":"s","datatype":"FP32","shape":[]}"#;
        assert_eq!(shapes(scalar, &[]).unwrap(), [Vec::<usize>::new()]);
        assert!(shapes(scalar, &["--batch", "2"]).unwrap_err().contains("scalar"));
    }

    #[test]
    fn metadata_that_is_none_is_refused() {
        for wrong in [b"".as_slice(), b"{}", b"[1]", br#"{"name":1,"inputs":[]}"#] {
            assert!(matches!(generate(wrong, &args(&[])), Err(ClientError::Nonsense(_))));
        }
        let unknown = metadata(r#"{"name":"x","datatype":"FP8","shape":[1]}"#);
        assert!(generate(&unknown, &args(&[])).unwrap_err().to_string().contains("'FP8' is no datatype"));
        let huge = metadata(r#"{"name":"x","datatype":"FP32","shape":[9223372036854775807,9]}"#);
        assert!(generate(&huge, &args(&[])).is_err());
    }
}
