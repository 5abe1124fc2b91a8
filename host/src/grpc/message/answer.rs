//! Outputs as a `ModelInferResponse`.
//!
//! Owns their form: always raw, which every client reads; the bytes are handed on, not copied.

use crate::grpc::protocol::infer_parameter::ParameterChoice;
use crate::grpc::protocol::model_infer_response::InferOutputTensor;
use crate::grpc::protocol::{InferParameter, ModelInferResponse};
use crate::model::tensor::Tensor;

/// Says of an answer that it is the last one of its request.
const IS_FINAL: &str = "triton_final_response";

/// The answer of a model's version.
pub(in crate::grpc) fn answer(
    model: &str,
    version: &str,
    id: Option<String>,
    outputs: Vec<Tensor>,
) -> ModelInferResponse {
    let mut response = ModelInferResponse {
        model_name: model.to_owned(),
        model_version: version.to_owned(),
        id: id.unwrap_or_default(),
        outputs: Vec::with_capacity(outputs.len()),
        raw_output_contents: Vec::with_capacity(outputs.len()),
        ..ModelInferResponse::default()
    };
    for tensor in outputs {
        response.outputs.push(InferOutputTensor {
            name: tensor.name,
            datatype: tensor.datatype.as_str().to_owned(),
            // What fits memory fits an i64.
            shape: tensor.shape.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect(),
            ..InferOutputTensor::default()
        });
        response.raw_output_contents.push(tensor.data);
    }
    response
}

/// Marks an answer as the last one of its request.
pub(in crate::grpc) fn final_answer(mut response: ModelInferResponse) -> ModelInferResponse {
    let value = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    response.parameters.insert(IS_FINAL.to_owned(), value);
    response
}
