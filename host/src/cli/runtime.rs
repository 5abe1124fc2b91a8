//! `nuke runtime`: the ONNX Runtime library of this machine.
//!
//! Owns the command's flags and its report. The path of an installed library is all that goes to standard
//! output, so that a script can use it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{EXIT_INTERRUPTED, Failure};
use crate::install::{self, Flavour, InstallError, Order, Registry, State, VERSION};
use crate::model::{Device, Runtime, RuntimeOptions};
use crate::paths;

/// What to do with the library.
#[derive(Debug, Subcommand)]
pub(super) enum RuntimeCommand {
    /// Get the library that this host is built for, and print where it is.
    Install(InstallArgs),
    /// Tell which libraries are there, which one `nuke serve` takes, and whether it can use a GPU.
    #[command(alias = "list")]
    Status(StatusArgs),
}

/// The flags of `nuke runtime install`.
#[derive(Args, Debug)]
pub(super) struct InstallArgs {
    /// Get the one that can use NVIDIA's devices as well (Linux; 256 MB are fetched)
    #[arg(long)]
    cuda: bool,
    /// Get it again, whether or not it is there
    #[arg(long)]
    force: bool,
    /// Where it goes [default: a folder in the cache, where `nuke serve` looks]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Take it out of this package, which was fetched elsewhere
    #[arg(long, value_name = "FILE.whl")]
    from: Option<PathBuf>,
}

/// The flags of `nuke runtime status`.
#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// The library to look at [default: the one that `nuke serve` takes]
    #[arg(long, value_name = "FILE", env = "NUKE_ORT_LIB")]
    ort_lib: Option<PathBuf>,
}

pub(super) fn run(command: RuntimeCommand) -> ExitCode {
    let done = match command {
        RuntimeCommand::Install(args) => run_install(&args),
        RuntimeCommand::Status(args) => status(args),
    };
    done.unwrap_or_else(|failure| failure.report())
}

fn run_install(args: &InstallArgs) -> Result<ExitCode, Failure> {
    let flavour = if args.cuda { Flavour::Cuda } else { Flavour::Cpu };
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let pin = install::pin(flavour, os, arch).map_err(Failure::unavailable)?;
    let folder = match &args.dir {
        Some(dir) => dir.clone(),
        None => install::folder(&cache()?, flavour),
    };
    let order = Order { pin, folder: &folder, from: args.from.as_deref(), force: args.force };
    let bar = bar();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::unavailable)?.block_on(async {
        let registry = || {
            bar.enable_steady_tick(Duration::from_millis(200));
            bar.set_message(pin.wheel);
            Registry::detect()
        };
        tokio::select! {
            outcome = install::install(order, registry, &bar) => Some(outcome),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    bar.finish_and_clear();
    let Some(outcome) = outcome else {
        eprintln!("nuke: interrupted; what has come is kept, and the next try goes on from there");
        return Ok(ExitCode::from(EXIT_INTERRUPTED));
    };
    let library = outcome.map_err(|error| match error {
        InstallError::Setting { .. } => Failure::config(error),
        error => Failure::failed(error),
    })?;
    println!("{}", library.display());
    Ok(ExitCode::SUCCESS)
}

fn cache() -> Result<PathBuf, Failure> {
    paths::cache_folder().ok_or_else(|| Failure::config(InstallError::NoFolder))
}

/// On standard error, and only if that is a terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = "{msg} {bar:30} {bytes} of {total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn status(args: StatusArgs) -> Result<ExitCode, Failure> {
    let cache = cache()?;
    for flavour in Flavour::ALL {
        let (folder, package) = (install::folder(&cache, flavour), flavour.package());
        let state = match install::pin(flavour, std::env::consts::OS, std::env::consts::ARCH) {
            Err(_) => "there is none for this platform".to_owned(),
            Ok(pin) => match install::inspect(pin, &folder) {
                State::Missing => format!("not installed; `nuke runtime install{}` gets it", flag(flavour)),
                State::Intact => format!("installed in {}", folder.display()),
                State::Damaged(name) => format!(
                    "damaged in {}: {name} is not the pinned one; `nuke runtime install{}` mends it",
                    folder.display(),
                    flag(flavour)
                ),
            },
        };
        println!("{package} {VERSION}: {state}");
    }
    let options = RuntimeOptions { library: args.ort_lib, intra_threads: 1 };
    let runtime = Runtime::start(options).map_err(Failure::unavailable)?;
    println!("library in use: {}", runtime.library().display());
    println!("its build: {}", Runtime::build_info());
    match runtime.why_not_on(Device::Cuda(0)) {
        None => println!("GPU: cuda:0 can be used"),
        Some(reason) => println!("GPU: none can be used: {reason}"),
    }
    Ok(ExitCode::SUCCESS)
}

const fn flag(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Cpu => "",
        Flavour::Cuda => " --cuda",
    }
}
