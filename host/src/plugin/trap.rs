//! From the way a guest failed to an error that names the plugin, the limit and the remedy.
//!
//! Owns that mapping. It never decides what becomes of the instance: the pool drops it in every case.

use std::sync::Arc;

use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

use super::clock::CpuClock;
use super::instance::InstanceState;
use super::limits::PluginLimits;
use crate::error::{Error, ErrorCode};

/// Frames of a guest's backtrace that go into an error's details.
const FRAMES: usize = 12;

/// Describes why a call into `plugin` failed.
pub(super) fn describe(
    plugin: &str,
    limits: &PluginLimits,
    failure: &wasmtime::Error,
    store: &mut Store<InstanceState>,
    clock: &Arc<CpuClock>,
) -> Error {
    if failure.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return Error::new(
            ErrorCode::ResourceExhausted,
            format!("no memory slot is free for another instance of plugin '{plugin}'; try again"),
        );
    }
    let refused_memory = store.data_mut().memory.take_refused();
    let message = match failure.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => format!(
            "plugin '{plugin}' was ended after running for {} ms; a call may run for {} ms (plugins.time)",
            clock.spent().as_millis(),
            limits.time.as_millis()
        ),
        Some(Trap::StackOverflow) => format!("plugin '{plugin}' ran out of stack: it recurses too deeply"),
        trap => describe_other(plugin, limits, failure, trap, refused_memory),
    };
    let state = store.data_mut();
    let details = [
        ("backtrace", backtrace(failure)),
        ("log", state.log.take_last_error()),
        ("output", state.output.take()),
    ];
    let (model, version) = (&state.bundle.model, &state.bundle.version);
    let [(_, backtrace), _, (_, output)] = &details;
    let output = output.as_ref().map(|output| output.escape_debug().to_string());
    tracing::warn!(target: "plugin", %model, %version, plugin, backtrace, output, "{message}");
    let said = details.into_iter().filter_map(|(name, value)| Some((name, value?)));
    said.fold(Error::new(ErrorCode::PluginFault, message), |error, (name, value)| {
        error.with_detail(name, value)
    })
}

fn describe_other(
    plugin: &str,
    limits: &PluginLimits,
    failure: &wasmtime::Error,
    trap: Option<&Trap>,
    refused_memory: Option<usize>,
) -> String {
    if let Some(total) = refused_memory {
        return format!(
            "plugin '{plugin}' failed after it was refused {} of memory in all; its limit is {} \
             (plugins.memory)",
            mebibytes(total),
            mebibytes(limits.memory)
        );
    }
    let root = failure.root_cause().to_string();
    if root.contains("too much data is being copied") {
        return format!(
            "plugin '{plugin}' handed over more than {} in one go (plugins.output)",
            mebibytes(limits.output)
        );
    }
    match trap {
        Some(Trap::UnreachableCodeReached) => {
            format!("plugin '{plugin}' panicked or hit an unreachable instruction")
        }
        Some(trap) => format!("plugin '{plugin}' trapped: {trap}"),
        None => format!("plugin '{plugin}' broke its contract: {root}"),
    }
}

fn mebibytes(bytes: usize) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn backtrace(failure: &wasmtime::Error) -> Option<String> {
    let frames = failure.downcast_ref::<WasmBacktrace>()?.frames();
    let names: Vec<_> = frames
        .iter()
        .take(FRAMES)
        .map(|frame| match (frame.func_name(), frame.module_offset()) {
            (Some(name), _) => name.to_owned(),
            (None, Some(offset)) => format!("<unnamed at {offset:#x}>"),
            (None, None) => "<unnamed>".to_owned(),
        })
        .collect();
    (!names.is_empty()).then(|| names.join(" < "))
}
