//! One call into a plugin, from the host's values to the guest's and back.
//!
//! Owns the order of a call: lease an instance, run it metered on the CPU runtime, give it back if
//! the call ended in order. A caller that goes away cancels the call, and the instance is
//! dropped with it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::bindings::nuke::plugin::types as wit;
use super::clock::{Metered, WaitedTooLong};
use super::convert::{borrow_pairs, datatype_to_guest, error_from_guest, guest_shape, tensor_from_guest};
use super::loader::Plugin;
use super::pool::Lease;
use super::trap;
use crate::error::{Error, ErrorCode};
use crate::model::tensor::Tensor;

/// A request as a plugin's preprocessor sees it.
#[derive(Clone, Debug, Default)]
pub struct PluginRequest {
    /// The media type; empty if the client sent none.
    pub content_type: String,
    /// The bytes.
    pub body: Bytes,
    /// The query string's pairs, then selected headers as `header:<name>`.
    pub parameters: Arc<[(String, String)]>,
}

/// What a preprocessor made of a request.
#[derive(Clone, Debug)]
pub struct Preprocessed {
    /// The model's inputs.
    pub tensors: Vec<Tensor>,
    /// What the same request's postprocessor is to get.
    pub context: Bytes,
}

/// What a postprocessor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The media type.
    pub content_type: String,
    /// The bytes.
    pub body: Bytes,
    /// Response headers, without their `nuke-` prefix.
    pub parameters: Vec<(String, String)>,
}

/// How a call ended, and what it cost.
#[derive(Debug)]
pub struct Called<T> {
    /// What the plugin returned or reported, or how it failed.
    pub outcome: Result<T, Error>,
    /// Running time in the guest and in the host functions it called; zero if it got no instance.
    pub cpu: Duration,
}

impl Plugin {
    /// Runs the preprocessor on one request.
    ///
    /// It fails with what the plugin reports, or `PluginFault`, `ResourceExhausted`.
    pub async fn preprocess(&self, request: PluginRequest) -> Called<Preprocessed> {
        let plugin = self.clone();
        self.on_cpu(async move {
            let mut call = match ActiveCall::begin(plugin).await {
                Ok(call) => call,
                Err(error) => return Called::refused(error),
            };
            let outcome = call.preprocess(&request).await;
            call.end(outcome)
        })
        .await
    }

    /// Runs the postprocessor on one request's outputs.
    ///
    /// It fails with what the plugin reports, or `PluginFault`, `ResourceExhausted`.
    pub async fn postprocess(
        &self,
        outputs: Vec<Tensor>,
        context: Bytes,
        parameters: Arc<[(String, String)]>,
    ) -> Called<Response> {
        let plugin = self.clone();
        self.on_cpu(async move {
            let mut call = match ActiveCall::begin(plugin).await {
                Ok(call) => call,
                Err(error) => return Called::refused(error),
            };
            let outcome = call.postprocess(&outputs, &context, &parameters).await;
            call.end(outcome)
        })
        .await
    }

    /// Runs a call on the CPU runtime. If the caller goes away, it ends at its next yield.
    async fn on_cpu<T: Send + 'static>(
        &self,
        call: impl Future<Output = Called<T>> + Send + 'static,
    ) -> Called<T> {
        AbortOnDrop(self.engine.cpu().spawn(call)).join().await
    }
}

impl<T> Called<T> {
    /// A call that got no instance.
    fn refused(error: Error) -> Self {
        Self { outcome: Err(error), cpu: Duration::ZERO }
    }
}

/// How a call failed, which decides whether its instance may be used again.
enum Failure {
    /// The plugin said no, in order.
    Reported(Error),
    /// The call did not end in order: the instance is not to be trusted.
    Broken(Error),
}

/// A call that has its instance.
struct ActiveCall {
    plugin: Plugin,
    lease: Lease,
}

impl ActiveCall {
    async fn begin(plugin: Plugin) -> Result<Self, Error> {
        let mut lease = plugin.pool.lease().await?;
        lease.instance().begin_call();
        Ok(Self { plugin, lease })
    }

    async fn preprocess(&mut self, request: &PluginRequest) -> Result<Preprocessed, Failure> {
        let parameters = borrow_pairs(&request.parameters);
        let payload = wit::PayloadParam {
            content_type: &request.content_type,
            body: &request.body,
            parameters: &parameters,
        };
        let instance = self.lease.instance();
        let Some(guest) = &instance.preprocessor else {
            return Err(Failure::Reported(self.lacks("preprocessor")));
        };
        let call = guest.call_preprocess(&mut instance.store, payload);
        let time = self.plugin.pool.limits().time;
        let returned = Metered::new(call, Arc::clone(&instance.clock), time).await;
        let made = self.settle(returned)?;
        let tensors = made.tensors.into_iter().map(tensor_from_guest).collect::<Result<_, _>>();
        Ok(Preprocessed {
            tensors: tensors.map_err(|error| self.nonsense(&error))?,
            context: made.context.into(),
        })
    }

    async fn postprocess(
        &mut self,
        outputs: &[Tensor],
        context: &Bytes,
        parameters: &[(String, String)],
    ) -> Result<Response, Failure> {
        let parameters = borrow_pairs(parameters);
        let shapes =
            outputs.iter().map(guest_shape).collect::<Result<Vec<_>, _>>().map_err(Failure::Reported)?;
        let tensors: Vec<_> = outputs
            .iter()
            .zip(&shapes)
            .map(|(tensor, shape)| wit::TensorParam {
                name: &tensor.name,
                datatype: datatype_to_guest(tensor.datatype),
                shape,
                data: &tensor.data,
            })
            .collect();
        let instance = self.lease.instance();
        let Some(guest) = &instance.postprocessor else {
            return Err(Failure::Reported(self.lacks("postprocessor")));
        };
        let call = guest.call_postprocess(&mut instance.store, &tensors, context, &parameters);
        let time = self.plugin.pool.limits().time;
        let returned = Metered::new(call, Arc::clone(&instance.clock), time).await;
        let payload = self.settle(returned)?;
        Ok(Response {
            content_type: payload.content_type,
            body: payload.body.into(),
            parameters: payload.parameters,
        })
    }

    /// Unwraps what a guest returned: a failure of the call, an error in order, or a value.
    fn settle<T>(
        &mut self,
        returned: Result<wasmtime::Result<Result<T, wit::PluginError>>, WaitedTooLong>,
    ) -> Result<T, Failure> {
        match returned.unwrap_or_else(|_| Err(wasmtime::Trap::Interrupt.into())) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(reported)) => Err(Failure::Reported(error_from_guest(reported))),
            Err(failure) => {
                let instance = self.lease.instance();
                let limits = self.plugin.pool.limits();
                let (name, store) = (self.plugin.name(), &mut instance.store);
                Err(Failure::Broken(trap::describe(name, limits, &failure, store, &instance.clock)))
            }
        }
    }

    /// Writes what is left to log, and gives the instance back if it may be used again.
    fn end<T>(mut self, outcome: Result<T, Failure>) -> Called<T> {
        let instance = self.lease.instance();
        let cpu = instance.clock.spent();
        let state = instance.store.data();
        let (bundle, dropped, output) = (&state.bundle, state.log.dropped(), state.output.take());
        let (model, version, plugin) = (&bundle.model, &bundle.version, &bundle.plugin);
        if dropped > 0 {
            tracing::warn!(target: "plugin", %model, %version, %plugin, dropped, "log lines over plugins.log were dropped");
        }
        if let Some(output) = output {
            let output = output.escape_debug();
            tracing::info!(target: "plugin", %model, %version, %plugin, %output, "wrote to its standard output");
        }
        let outcome = match outcome {
            Ok(value) => {
                self.settle_lease();
                Ok(value)
            }
            Err(Failure::Reported(error)) => {
                self.settle_lease();
                Err(error)
            }
            Err(Failure::Broken(error)) => Err(error),
        };
        Called { outcome, cpu }
    }

    /// Gives the instance back after a call that ended in order, unless it holds so many pictures that
    /// its next calls would fail.
    fn settle_lease(mut self) {
        if self.lease.instance().store.data().pictures.was_exhausted() {
            self.lease.retire();
        } else {
            self.lease.give_back();
        }
    }

    fn lacks(&self, half: &str) -> Error {
        Error::internal(format!("plugin '{}' has no {half}", self.plugin.name()))
    }

    fn nonsense(&self, error: &Error) -> Failure {
        let message =
            format!("plugin '{}' returned a tensor that does not add up: {error}", self.plugin.name());
        Failure::Broken(Error::new(ErrorCode::PluginFault, message))
    }
}

/// A task that ends when nobody waits for it any more.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> AbortOnDrop<Called<T>> {
    async fn join(mut self) -> Called<T> {
        match (&mut self.0).await {
            Ok(called) => called,
            Err(error) if error.is_cancelled() => {
                Called::refused(Error::new(ErrorCode::Unavailable, "the plugin engine is shutting down"))
            }
            Err(error) => {
                Called::refused(Error::internal(format!("the plugin call failed inside the host: {error}")))
            }
        }
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
