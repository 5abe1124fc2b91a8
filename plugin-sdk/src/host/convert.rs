//! The contract's generated types to ours and back. Bytes are moved, never copied.

use crate::bindings::exports::nuke::plugin::preprocessor;
use crate::bindings::nuke::plugin::types;
use crate::datatype::DataType;
use crate::error::{Error, ErrorCode};
use crate::message::{Preprocessed, Request, Response};
use crate::pairs::Parameters;
use crate::tensor::Tensor;

macro_rules! datatypes {
    ($($name:ident),* $(,)?) => {
        impl From<types::Datatype> for DataType {
            fn from(datatype: types::Datatype) -> Self {
                match datatype {
                    $(types::Datatype::$name => Self::$name),*
                }
            }
        }

        impl From<DataType> for types::Datatype {
            fn from(datatype: DataType) -> Self {
                match datatype {
                    $(DataType::$name => Self::$name),*
                }
            }
        }
    };
}

datatypes! {
    Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64, Bf16, Bytes,
}

impl From<types::Tensor> for Tensor {
    fn from(tensor: types::Tensor) -> Self {
        Self { name: tensor.name, datatype: tensor.datatype.into(), shape: tensor.shape, data: tensor.data }
    }
}

impl From<Tensor> for types::Tensor {
    fn from(tensor: Tensor) -> Self {
        Self { name: tensor.name, datatype: tensor.datatype.into(), shape: tensor.shape, data: tensor.data }
    }
}

impl From<types::Payload> for Request {
    fn from(payload: types::Payload) -> Self {
        Self {
            content_type: payload.content_type,
            body: payload.body,
            parameters: Parameters::new(payload.parameters),
        }
    }
}

impl From<Response> for types::Payload {
    fn from(response: Response) -> Self {
        Self { content_type: response.content_type, body: response.body, parameters: response.headers }
    }
}

impl From<Preprocessed> for preprocessor::Preprocessed {
    fn from(preprocessed: Preprocessed) -> Self {
        Self {
            tensors: preprocessed.tensors.into_iter().map(Into::into).collect(),
            context: preprocessed.context.0,
        }
    }
}

impl From<Error> for types::PluginError {
    fn from(error: Error) -> Self {
        let code = match error.code {
            ErrorCode::InvalidInput => types::ErrorCode::InvalidInput,
            ErrorCode::UnsupportedMediaType => types::ErrorCode::UnsupportedMediaType,
            ErrorCode::TooLarge => types::ErrorCode::TooLarge,
            ErrorCode::NotFound => types::ErrorCode::NotFound,
            ErrorCode::Unavailable => types::ErrorCode::Unavailable,
            ErrorCode::Internal => types::ErrorCode::Internal,
        };
        Self { code, message: error.message, details: error.details }
    }
}
