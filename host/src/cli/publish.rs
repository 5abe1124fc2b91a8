//! `nuke publish` and `nuke unpublish`.
//!
//! Owns their arguments, the progress bar and what they print. What happens in the folders is the
//! repository's.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{EXIT_INTERRUPTED, Failure, signing};
use crate::client::text;
use crate::repository::{Kind, PublishError, PublishRequest, Published, Signer, publish, unpublish};

/// Copies a version beside its place, checks it, writes manifest.json, and gives it its name at once.
#[derive(Args, Debug)]
pub(super) struct PublishArgs {
    /// A version's folder, or an .onnx file with --model
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The folder of models that a host serves
    #[arg(value_name = "MODELS_DIR")]
    models: PathBuf,
    /// The model's name [default: that of SRC's folder]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The version's name: a number or a semantic version [default: the number after the highest]
    #[arg(long, value_name = "V")]
    version: Option<String>,
    /// SRC is a plugin (a folder with plugin.wasm, or a .wasm file), MODELS_DIR the folder of plugins
    #[arg(long)]
    plugin: bool,
    /// Sign the manifest with this minisign secret key
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
    /// The file with that key's password; without it an encrypted key asks on the terminal
    #[arg(long, value_name = "FILE", requires = "sign")]
    password_file: Option<PathBuf>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// Renames the version out of sight, then removes its files.
#[derive(Args, Debug)]
pub(super) struct UnpublishArgs {
    /// The folder of models (or of plugins)
    #[arg(value_name = "MODELS_DIR")]
    models: PathBuf,
    /// The model's name
    #[arg(value_name = "MODEL")]
    model: String,
    /// The version's name
    #[arg(value_name = "VERSION")]
    version: String,
}

pub(super) fn run(args: &PublishArgs) -> ExitCode {
    match publish_one(args) {
        Ok(published) => {
            print(&published, args.json);
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(),
    }
}

pub(super) fn remove(args: &UnpublishArgs) -> ExitCode {
    match unpublish(&args.models, &args.model, &args.version) {
        Ok(path) => {
            println!("unpublished {} {}: {} is gone", args.model, args.version, path.display());
            ExitCode::SUCCESS
        }
        Err(error) => failure(error).report(),
    }
}

fn publish_one(args: &PublishArgs) -> Result<Published, Failure> {
    let key = args.sign.as_deref().map(|file| signing::open(file, args.password_file.as_deref(), !args.json));
    let key = key.transpose().map_err(Failure::config)?;
    let sign = key.as_ref().map(|key| move |text: &str| signing::sign(key, text));
    let signer = sign.as_ref().map(|sign| sign as Signer<'_>);
    let request = PublishRequest {
        kind: if args.plugin { Kind::Plugin } else { Kind::Model },
        source: &args.source,
        models: &args.models,
        model: args.model.as_deref(),
        version: args.version.as_deref(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(Failure::unavailable)?;
    }
    let bar = progress_bar();
    let published = publish(request, signer, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        !stop.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    published.map_err(failure)
}

/// A bar on the standard error, and only if that is a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("copying {bar:30} {bytes} of {total_bytes}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn failure(error: PublishError) -> Failure {
    match error {
        PublishError::Usage(message) => Failure::config(message),
        PublishError::Refused(message) => Failure::failed(message),
        PublishError::Interrupted => Failure { message: error.to_string(), exit: EXIT_INTERRUPTED },
    }
}

fn print(published: &Published, as_json: bool) {
    let Published { model, version, path, files, bytes, signed } = published;
    if as_json {
        let path = path.display().to_string();
        println!(
            "{}",
            json!({
                "model": model, "version": version, "path": path, "files": files, "bytes": bytes,
                "signed": signed,
            })
        );
        return;
    }
    let plural = if *files == 1 { "file" } else { "files" };
    let signature = if *signed { ", signed" } else { "" };
    let size = text::bytes(*bytes as f64);
    println!("published {model} {version} ({files} {plural}, {size}{signature}): {}", path.display());
}
