//! What one side writes, the other reads: every datatype and shape, in both forms.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Body, Encoded, InferResponse, Limits, ResponseOutput, encode, parse};
use crate::model::tensor::{DataType, Tensor, push_bytes_element};

/// A tensor of any datatype, shape and elements; of JSON's values only, if `json`.
fn tensor(json: bool) -> impl Strategy<Value = Tensor> {
    let types = DataType::ALL
        .into_iter()
        .filter(move |kind| !json || !matches!(kind, DataType::Fp16 | DataType::Bf16));
    let datatype = proptest::sample::select(types.collect::<Vec<_>>());
    (datatype, vec(0_usize..5, 0..4)).prop_flat_map(move |(datatype, shape)| {
        let elements = shape.iter().product::<usize>();
        vec(element(datatype, json), elements).prop_map(move |elements| {
            Tensor::new("täst \"x\"", datatype, shape.clone(), elements.concat()).unwrap()
        })
    })
}

fn element(datatype: DataType, json: bool) -> BoxedStrategy<Vec<u8>> {
    let text = |bytes: &[u8]| {
        let mut data = Vec::new();
        push_bytes_element(&mut data, bytes).unwrap();
        data
    };
    match datatype {
        DataType::Bool => any::<bool>().prop_map(|value| vec![u8::from(value)]).boxed(),
        DataType::Bytes if json => any::<String>().prop_map(move |value| text(value.as_bytes())).boxed(),
        DataType::Bytes => vec(any::<u8>(), 0..20).prop_map(move |value| text(&value)).boxed(),
        DataType::Fp32 if json => {
            finite(any::<u32>().prop_map(f32::from_bits), |value| value.is_finite()).boxed()
        }
        DataType::Fp64 if json => {
            let doubles =
                any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite());
            doubles.prop_map(|value| value.to_le_bytes().to_vec()).boxed()
        }
        _ => vec(any::<u8>(), datatype.width().unwrap()).boxed(),
    }
}

fn finite(values: impl Strategy<Value = f32>, keep: fn(&f32) -> bool) -> impl Strategy<Value = Vec<u8>> {
    values.prop_filter("finite", keep).prop_map(|value| value.to_le_bytes().to_vec())
}

fn written(outputs: Vec<(Tensor, bool)>) -> Encoded {
    let outputs = outputs.into_iter().map(|(tensor, binary)| ResponseOutput { tensor, binary }).collect();
    let parameters = vec![];
    encode(&InferResponse {
        id: Some("i"),
        model_name: "m",
        model_version: "1",
        parameters: &parameters,
        outputs,
    })
    .unwrap()
}

/// An answer's outputs look as a request's inputs do, and the other keys are stepped over.
fn as_request(encoded: &Encoded) -> (Bytes, Option<usize>) {
    let head = str::from_utf8(&encoded.head).unwrap().replacen("\"outputs\":", "\"inputs\":", 1);
    let body = [head.as_bytes(), &encoded.blobs.concat()].concat();
    (body.into(), Some(head.len()))
}

fn read_back(encoded: &Encoded) -> Vec<Tensor> {
    let (body, length) = as_request(encoded);
    match parse(&body, length, &Limits::default()).unwrap() {
        Body::Request(request) => request.inputs,
        Body::Raw(_) => panic!("a raw body"),
    }
}

/// The tensor's data, nested as its shape says.
fn nested(flat: &[serde_json::Value], shape: &[usize]) -> serde_json::Value {
    match shape {
        [] => flat[0].clone(),
        [_] => flat.to_vec().into(),
        [outer, inner @ ..] => {
            let size = inner.iter().product::<usize>();
            (0..*outer).map(|index| nested(&flat[index * size..][..size], inner)).collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn json_reads_back(tensor in tensor(true)) {
        let encoded = written(vec![(tensor.clone(), false)]);
        // The strict reader of another make takes it too.
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&encoded.head).is_ok());
        prop_assert_eq!(read_back(&encoded), vec![tensor]);
    }

    #[test]
    fn nested_json_reads_back(tensor in tensor(true)) {
        // Floats would lose digits on the way through serde_json's own numbers.
        prop_assume!(!matches!(tensor.datatype, DataType::Fp32 | DataType::Fp64));
        let encoded = written(vec![(tensor.clone(), false)]);
        let mut answer: serde_json::Value = serde_json::from_slice(&encoded.head).unwrap();
        let flat = answer["outputs"][0]["data"].as_array().unwrap().clone();
        answer["outputs"][0]["data"] = nested(&flat, &tensor.shape);
        let encoded = Encoded { head: serde_json::to_vec_pretty(&answer).unwrap(), ..encoded };
        prop_assert_eq!(read_back(&encoded), vec![tensor]);
    }

    #[test]
    fn binary_reads_back(tensor in tensor(false)) {
        let encoded = written(vec![(tensor.clone(), true)]);
        prop_assert_eq!(encoded.json_length.is_some(), !tensor.data.is_empty());
        prop_assert_eq!(read_back(&encoded), vec![tensor]);
    }

    #[test]
    fn any_mixture_reads_back(tensors in vec((tensor(true), any::<bool>()), 0..5)) {
        let mut tensors = tensors;
        for (index, (tensor, _)) in tensors.iter_mut().enumerate() {
            tensor.name = format!("t{index}");
        }
        let wanted: Vec<_> = tensors.iter().map(|(tensor, _)| tensor.clone()).collect();
        prop_assert_eq!(read_back(&written(tensors)), wanted);
    }
}
