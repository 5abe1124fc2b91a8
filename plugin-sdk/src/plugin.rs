//! What an author writes.

use crate::error::{Error, Result};
use crate::message::{Context, Outputs, Preprocessed, Request, Response};
use crate::pairs::Parameters;

/// A plugin: the code around a model. [`export_plugin!`](crate::export_plugin) makes it a component.
///
/// An instance serves one call at a time, and many in its life. Whatever `new` makes is kept; nothing
/// else is, and nothing is shared with the other instances that serve the same model beside it.
pub trait Plugin: Sized + 'static {
    /// Called once per instance, before its first request: read settings, parse the bundle's files.
    ///
    /// # Errors
    /// Whatever is wrong with the bundle. Each call of this instance answers with it.
    fn new() -> Result<Self>;

    /// Turns a request's body into the model's inputs. A plugin without this reads no bodies.
    ///
    /// # Errors
    /// Whatever is wrong with the request.
    fn preprocess(&self, request: Request) -> Result<Preprocessed> {
        Err(Error::unsupported_media_type(format!(
            "this plugin reads no bodies, got {} bytes: send the model's inputs as tensors",
            request.body.len()
        )))
    }

    /// Turns the model's outputs into the answer. Without this, the answer is the outputs in the JSON of
    /// the Open Inference Protocol.
    ///
    /// # Errors
    /// Whatever keeps the outputs from becoming an answer.
    fn postprocess(&self, outputs: Outputs, context: Context, parameters: Parameters) -> Result<Response> {
        let _ = (context, parameters);
        crate::protocol::to_response(&outputs)
    }
}
