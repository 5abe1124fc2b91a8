//! The same tensors over HTTP and over gRPC are the same request, or the same refusal.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::{Writer, input};
use crate::error::Error;
use crate::http::v2::codec::{Body, InferRequest, Limits, parse};
use crate::model::tensor::DataType;

/// A tensor as a client describes it, true or not.
#[derive(Clone, Debug)]
struct Sent {
    datatype: DataType,
    shape: Vec<usize>,
    data: Vec<u8>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let datatype = proptest::sample::select(DataType::ALL.to_vec());
    let shape = vec(0_usize..4, 0..4);
    (datatype, shape, any::<bool>(), -2_i32..3).prop_flat_map(|(datatype, shape, fits, slip)| {
        let elements: usize = shape.iter().product();
        let length = elements * datatype.width().unwrap_or(5);
        let length =
            if fits { length } else { length.saturating_add_signed(isize::try_from(slip).unwrap_or(0)) };
        let byte = if datatype == DataType::Bool { (0..2_u8).boxed() } else { any::<u8>().boxed() };
        vec(byte, length).prop_map(move |mut data| {
            if datatype == DataType::Bytes {
                // Elements of one byte each, the last of them possibly cut.
                data.chunks_mut(5).for_each(|element| {
                    element.iter_mut().zip([1, 0, 0, 0]).for_each(|(byte, length)| *byte = length);
                });
            }
            Sent { datatype, shape: shape.clone(), data }
        })
    })
}

fn by_http(tensors: &[Sent]) -> Result<InferRequest, Error> {
    let inputs = tensors.iter().enumerate().map(|(at, tensor)| {
        json!({
            "name": format!("t{at}"), "datatype": tensor.datatype.as_str(), "shape": tensor.shape,
            "parameters": {"binary_data_size": tensor.data.len()},
        })
    });
    let inputs: Vec<_> = inputs.collect();
    let head = json!({"id": "i", "parameters": {"binary_data_output": true}, "inputs": inputs});
    let mut body = head.to_string().into_bytes();
    let length = body.len();
    tensors.iter().for_each(|tensor| body.extend_from_slice(&tensor.data));
    match parse(&Bytes::from(body), Some(length), &Limits::default())? {
        Body::Request(request) => Ok(request),
        Body::Raw(_) => panic!("a raw body"),
    }
}

fn by_grpc(tensors: &[Sent]) -> Result<InferRequest, Error> {
    let mut message = Writer::default().bytes(3, "i");
    for (at, tensor) in tensors.iter().enumerate() {
        let shape: Vec<i64> = tensor.shape.iter().map(|&size| i64::try_from(size).unwrap()).collect();
        message = message.message(5, &input(&format!("t{at}"), tensor.datatype.as_str(), &shape));
        message = message.bytes(7, &tensor.data);
    }
    message.split().map(|split| split.request)
}

/// Integers in JSON and in typed contents.
fn integers(
    datatype: DataType,
    shape: usize,
    values: &[i64],
) -> (Result<InferRequest, Error>, Result<InferRequest, Error>) {
    let head =
        json!({"inputs": [{"name": "x", "datatype": datatype.as_str(), "shape": [shape], "data": values}]});
    let body = Bytes::from(head.to_string());
    let http = parse(&body, None, &Limits::default()).map(|body| match body {
        Body::Request(request) => request,
        Body::Raw(_) => panic!("a raw body"),
    });
    let contents = Writer::default().packed(2, values.iter().map(|value| value.cast_unsigned()));
    let input = input("x", datatype.as_str(), &[i64::try_from(shape).unwrap()]).message(5, &contents);
    (http, Writer::default().message(5, &input).split().map(|split| split.request))
}

proptest! {
    #[test]
    fn raw_tensors_are_those_of_the_binary_form(tensors in vec(sent(), 0..4)) {
        match (by_http(&tensors), by_grpc(&tensors)) {
            (Ok(http), Ok(grpc)) => {
                prop_assert_eq!(&http.inputs, &grpc.inputs);
                prop_assert_eq!(http.id, grpc.id);
                prop_assert!(grpc.outputs.is_empty());
            }
            (http, grpc) => prop_assert_eq!(http.err(), grpc.err()),
        }
    }

    #[test]
    fn typed_integers_are_those_of_json(
        values in vec(-40_000_i64..40_000, 1..6),
        slip in 0..3_usize,
        datatype in proptest::sample::select(vec![DataType::Int8, DataType::Int16, DataType::Int32]),
    ) {
        let (http, grpc) = integers(datatype, values.len() + slip - slip.min(1), &values);
        match (http, grpc) {
            (Ok(http), Ok(grpc)) => prop_assert_eq!(http.inputs, grpc.inputs),
            (http, grpc) => prop_assert_eq!(http.err(), grpc.err()),
        }
    }
}
