//! Models: ONNX Runtime, its sessions, and the tensors that go in and out.
//!
//! Owns everything that names `ort`. It never knows a request, a plugin or a queue.
//!
//! Invariants: one ONNX Runtime environment per process; a session is used by one thread at a time;
//! what leaves a session is the host's own bytes, so no output keeps an old model alive; a model that is asked to
//! run on a GPU runs there, or is refused.

mod batch;
mod external;
mod inline;
mod labels;
mod open;
mod options;
mod placement;
mod protobuf;
mod provider;
mod runtime;
mod session;
mod shared;
mod signature;
mod staging;
mod stop;
mod strings;
pub mod tensor;
mod values;
mod weights;

pub use batch::{DoesNotFollow, split};
pub use external::external_files;
pub use labels::{Labels, OutputLabels};
pub use options::{ArenaExtend, ArenaOptions, Device, DeviceWish, SessionOptions, Shrink};
pub use placement::Placement;
pub use runtime::{Runtime, RuntimeError, RuntimeOptions};
pub use session::{ModelError, ModelSession, ModelSource};
pub use signature::{Signature, TensorSpec};
pub use stop::RunStop;
