//! Write a Nuke plugin in Rust: the code around a model, that turns a request's bytes into tensors and
//! tensors into an answer. It runs sandboxed, as a WebAssembly component.
//!
//! A plugin is a type with up to three functions and one line that exports it:
//!
//! ```
//! use nuke_plugin_sdk::{
//!     Context, DataType, Outputs, Parameters, Plugin, Preprocessed, Request, Response, Result, ResultExt, Tensor,
//!     bundle, ensure, export_plugin, log,
//! };
//!
//! /// Comma-separated numbers in, the name of the largest score out.
//! struct Classify {
//!     labels: Vec<String>,
//! }
//!
//! impl Plugin for Classify {
//!     // Once per instance: what every request needs.
//!     fn new() -> Result<Self> {
//!         let labels: Vec<String> = bundle::text("labels.txt")?.lines().map(str::to_owned).collect();
//!         let model = bundle::whoami().model;
//!         log::debug!("read the labels of {model}", count = labels.len());
//!         Ok(Self { labels })
//!     }
//!
//!     fn preprocess(&self, request: Request) -> Result<Preprocessed> {
//!         let numbers = request.text()?.split(',').enumerate().map(|(index, text)| {
//!             text.trim().parse::<f32>().or_invalid(format!("number {index}, '{text}'"))
//!         });
//!         let numbers = numbers.collect::<Result<Vec<f32>>>()?;
//!         ensure!(numbers.len() == 4, invalid, "4 numbers are expected, got {}", numbers.len());
//!         // Only what is returned reaches `postprocess`, which may run in another instance.
//!         let digits = request.parameter::<usize>("digits")?.unwrap_or(2);
//!         let input = Tensor::from_f32("x", [1, 4], numbers)?;
//!         Ok(Preprocessed::from(input).with_context(Context::json(&digits)?))
//!     }
//!
//!     fn postprocess(&self, outputs: Outputs, context: Context, _: Parameters) -> Result<Response> {
//!         let scores = outputs.first(DataType::Fp32)?.as_f32()?;
//!         let (best, score) =
//!             scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).context("the model gave no scores")?;
//!         let label = self.labels.get(best).context(format!("labels.txt has no line {}", best + 1))?;
//!         let digits = context.read_json::<usize>()?;
//!         Ok(Response::text(format!("{label} {score:.digits$}")))
//!     }
//! }
//!
//! export_plugin!(Classify);
//!
//! // A unit test, on your machine and without WebAssembly:
//! # fn main() -> Result<()> {
//! use nuke_plugin_sdk::testing::TestHost;
//!
//! let host = TestHost::new().file("labels.txt", "cat\ndog\n");
//! let plugin = host.instance::<Classify>()?;
//! let request = Request::new("text/plain", "1, 2, 3, 4").with_parameter("digits", "1");
//! let preprocessed = plugin.preprocess(request)?;
//! assert_eq!(*preprocessed.tensors[0].as_f32()?, [1.0, 2.0, 3.0, 4.0]);
//! let outputs = Outputs::new([Tensor::from_f32("scores", [1, 2], [0.25, 0.75])?]);
//! let answer = plugin.postprocess(outputs, preprocessed.context, Parameters::default())?;
//! assert_eq!(answer.body, b"dog 0.8");
//! let refused = plugin.preprocess(Request::new("text/plain", "1, 2, zwei, 4")).unwrap_err();
//! assert_eq!(refused.message, "number 2, ' zwei': invalid float literal");
//! # Ok(())
//! # }
//! ```
//!
//! The crate is a `cdylib` (and an `rlib`, for its tests), built for `wasm32-unknown-unknown` and made a
//! component by `wasm-tools component new`; `docs/plugin-authors.md` has the commands.
//!
//! # Errors
//! Return an [`Error`]: the instance lives on, and the client reads the message with the status of its
//! [`ErrorCode`]. Any `std::error::Error` becomes an internal one by `?`. A panic is a trap: its message
//! and place go to the host's log, the client sees status 500, and the instance is thrown away.
//!
//! # Features
//! - `image` (default): [`image`], the host's decoders and resizers.
//! - `json` (default): bodies, contexts and settings by serde.
//! - `half`: tensors of `half::f16` and `half::bf16`.

#![deny(unsafe_code)]

pub mod bundle;
mod datatype;
mod error;
mod export;
mod host;
#[cfg(feature = "image")]
pub mod image;
pub mod log;
mod message;
mod pairs;
mod plugin;
mod protocol;
mod tensor;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

/// Generated from `wit/plugin.wit`; the rest of the crate makes it pleasant.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
pub mod bindings;

pub use datatype::{DataType, Element};
pub use error::{Error, ErrorCode, Result, ResultExt};
pub use message::{Context, Outputs, Preprocessed, Request, Response};
pub use pairs::Parameters;
pub use plugin::Plugin;
pub use tensor::{BytesElements, Tensor};

/// What the macros need.
#[doc(hidden)]
pub mod __private {
    pub use crate::__implement_guest as implement_guest;
    pub use crate::export::Instance;
}
