//! What a plugin's two functions take and give.

use crate::datatype::DataType;
use crate::error::{Error, Result};
use crate::pairs::Parameters;
use crate::tensor::Tensor;

/// What a client sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The media type as sent, such as `image/jpeg`; empty when the client sent none.
    pub content_type: String,
    /// The bytes, already decompressed.
    pub body: Vec<u8>,
    /// The query string's pairs and the selected headers.
    pub parameters: Parameters,
}

impl Request {
    /// A request without parameters.
    pub fn new(content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { content_type: content_type.into(), body: body.into(), parameters: Parameters::default() }
    }

    /// Adds a parameter, as if it came with the query string.
    #[must_use]
    pub fn with_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let mut pairs: Vec<(String, String)> =
            self.parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        pairs.push((name.into(), value.into()));
        self.parameters = Parameters::new(pairs);
        self
    }

    /// A typed parameter: `request.parameter::<usize>("k")?`; see [`Parameters::get`].
    ///
    /// # Errors
    /// `InvalidInput` if it cannot be read, or was given several times.
    pub fn parameter<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        self.parameters.get(name)
    }

    /// The media type in lower case without its parameters: `text/plain` of `Text/Plain; charset=x`.
    pub fn media_type(&self) -> String {
        let kind = self.content_type.split(';').next().unwrap_or_default();
        kind.trim().to_ascii_lowercase()
    }

    /// The body as text.
    ///
    /// # Errors
    /// `InvalidInput` if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body)
            .map_err(|error| Error::invalid(format!("the body is no UTF-8 text: {error}")))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// `InvalidInput` if it is not what `T` expects.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::invalid(format!("the body is not the JSON expected: {error}")))
    }
}

/// What a preprocessor makes of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preprocessed {
    /// The model's inputs, each once, in any order.
    pub tensors: Vec<Tensor>,
    /// What `postprocess` of the same request will receive.
    pub context: Context,
}

impl Preprocessed {
    /// Inputs without a context.
    pub fn new(tensors: impl Into<Vec<Tensor>>) -> Self {
        Self { tensors: tensors.into(), context: Context::default() }
    }

    /// Adds what `postprocess` of the same request will receive.
    #[must_use]
    pub fn with_context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }
}

impl From<Tensor> for Preprocessed {
    fn from(tensor: Tensor) -> Self {
        Self::new([tensor])
    }
}

/// What `preprocess` hands over to `postprocess`. Instances are pooled, so the two calls of a request
/// may run in different ones: nothing else gets across.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(pub Vec<u8>);

impl Context {
    /// A context as JSON.
    ///
    /// # Errors
    /// `Internal` if the value cannot be written as JSON.
    #[cfg(feature = "json")]
    pub fn json(value: &impl serde::Serialize) -> Result<Self> {
        Ok(Self(serde_json::to_vec(value)?))
    }

    /// Reads what [`Context::json`] wrote.
    ///
    /// # Errors
    /// `Internal` if the bytes are not what `T` expects.
    #[cfg(feature = "json")]
    pub fn read_json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.0)
            .map_err(|error| Error::internal(format!("the context is not what preprocess wrote: {error}")))
    }
}

/// All of the model's outputs, in the model's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs(Vec<Tensor>);

impl Outputs {
    /// Wraps tensors in their order.
    pub fn new(tensors: impl Into<Vec<Tensor>>) -> Self {
        Self(tensors.into())
    }

    /// The output of a name.
    ///
    /// # Errors
    /// `Internal` if the model has none, naming those it has.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.iter().find(|tensor| tensor.name == name).ok_or_else(|| {
            Error::internal(format!("the model has no output '{name}', only {}", self.described()))
        })
    }

    /// The first output of a type.
    ///
    /// # Errors
    /// `Internal` if the model has none, naming those it has.
    pub fn first(&self, datatype: DataType) -> Result<&Tensor> {
        self.0.iter().find(|tensor| tensor.datatype == datatype).ok_or_else(|| {
            Error::internal(format!("the model has no output of {datatype}, only {}", self.described()))
        })
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Tensor> {
        self.0.iter()
    }

    fn described(&self) -> String {
        if self.0.is_empty() {
            return "none at all".to_owned();
        }
        let described: Vec<String> =
            self.0.iter().map(|tensor| format!("{} ({})", tensor.name, tensor.datatype)).collect();
        described.join(", ")
    }
}

impl IntoIterator for Outputs {
    type Item = Tensor;
    type IntoIter = std::vec::IntoIter<Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Outputs {
    type Item = &'a Tensor;
    type IntoIter = std::slice::Iter<'a, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What the client is to receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The media type of the body.
    pub content_type: String,
    /// The bytes.
    pub body: Vec<u8>,
    /// Each becomes a response header `nuke-<name>`.
    pub headers: Vec<(String, String)>,
}

impl Response {
    /// A body of any media type.
    pub fn new(content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { content_type: content_type.into(), body: body.into(), headers: Vec::new() }
    }

    /// A body of UTF-8 text.
    pub fn text(body: impl Into<String>) -> Self {
        Self::new("text/plain; charset=utf-8", body.into())
    }

    /// A body of JSON.
    ///
    /// # Errors
    /// `Internal` if the value cannot be written as JSON.
    #[cfg(feature = "json")]
    pub fn json(value: &impl serde::Serialize) -> Result<Self> {
        Ok(Self::new("application/json", serde_json::to_vec(value)?))
    }

    /// Adds a response header `nuke-<name>`.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn a_media_type_is_compared_in_lower_case_and_alone() {
        assert_eq!(Request::new("Image/JPEG ; q=1", "").media_type(), "image/jpeg");
        assert_eq!(Request::default().media_type(), "");
    }

    #[test]
    fn a_missing_output_names_those_there_are() {
        let outputs = Outputs::new([Tensor::from_f32("logits", [1], [0.5]).unwrap()]);
        assert_eq!(outputs.get("logits").unwrap().name, "logits");
        let error = outputs.get("scores").unwrap_err();
        assert_eq!(error.message, "the model has no output 'scores', only logits (FP32)");
        assert_eq!(
            outputs.first(DataType::Int64).unwrap_err().message,
            "the model has no output of INT64, only logits (FP32)"
        );
        assert!(Outputs::default().get("x").unwrap_err().message.ends_with("only none at all"));
    }

    #[test]
    fn a_body_that_is_no_text_is_the_clients_fault() {
        let error = Request::new("", vec![0xff]).text().unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidInput);
    }

    #[cfg(feature = "json")]
    #[test]
    fn a_context_gets_across() {
        let context = Context::json(&(5, "x")).unwrap();
        assert_eq!(context.read_json::<(u8, String)>().unwrap(), (5, "x".to_owned()));
        assert_eq!(context.read_json::<u8>().unwrap_err().code, ErrorCode::Internal);
        assert_eq!(Request::new("", "{").json::<u8>().unwrap_err().code, ErrorCode::InvalidInput);
    }
}
