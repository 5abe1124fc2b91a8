//! What tests share that run models: one ONNX Runtime, the fixtures' models, a place to count.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use super::ticket::Running;
use crate::isolation::Executor;
use crate::model::{ModelSession, ModelSource, Runtime, RuntimeOptions, SessionOptions};
use crate::telemetry::{ComputeSeries, Metrics};

/// The process's one ONNX Runtime, as in a host.
pub(crate) fn runtime() -> Arc<Runtime> {
    static RUNTIME: LazyLock<Arc<Runtime>> = LazyLock::new(|| {
        let library = std::env::var_os("NUKE_ORT_LIB").map(Into::into);
        let options = RuntimeOptions { library, intra_threads: 1 };
        Arc::new(Runtime::start(options).unwrap_or_else(|error| panic!("{error}")))
    });
    Arc::clone(&RUNTIME)
}

/// A session of a model in `tests/fixtures/models`.
pub(super) fn session(model: &str) -> Executor {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models");
    let bytes = std::fs::read(models.join(model).join("1/model.onnx")).unwrap();
    let source = ModelSource::new(bytes.into(), |_| Err("there are no other files".to_owned())).unwrap();
    ModelSession::open(&runtime(), &source, &SessionOptions::default()).unwrap().into()
}

pub(super) fn series() -> Arc<ComputeSeries> {
    Metrics::new("test").compute().generation("m", "1")
}

/// A run that has not begun.
pub(super) fn running() -> Arc<Running> {
    drop(runtime());
    Running::new(&series()).unwrap()
}
