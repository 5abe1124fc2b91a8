//! The flags of `nuke serve` and `nuke check`.
//!
//! Owns their names and which configuration key each stands for. Values are read by the configuration,
//! so that a flag, a variable and a file are held to the same rules.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::config::{Loaded, Override, ServerConfig, environment};

/// Flags override `NUKE_*` variables, which override the file, which overrides the defaults.
#[derive(Args, Debug)]
pub(super) struct HostFlags {
    /// The configuration file [default: ./config.yaml if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of models [default: ./models]
    #[arg(long, value_name = "DIR")]
    models: Option<String>,
    /// The folder of plugins that bundles name by `name@versions` [default: ./plugins]
    #[arg(long, value_name = "DIR")]
    plugins: Option<String>,
    /// Where to listen for HTTP, and for gRPC unless --grpc is given [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Where to listen for gRPC alone [default: the same address as HTTP]
    #[arg(long, value_name = "ADDR")]
    grpc: Option<String>,
    /// The ONNX Runtime library [default: that of `nuke runtime install`, else the system's]
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<String>,
    /// Which lines to log: `info`, `debug`, `info,access=off`
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How to log: `auto`, `pretty` or `json`
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any other key of the configuration, as in `--set plugins.time=2s`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Listen on an address that others can reach, although nobody has to say who they are
    #[arg(long)]
    insecure: bool,
    /// Print the configuration with where each value comes from, and stop
    #[arg(long)]
    pub(super) print_config: bool,
}

impl HostFlags {
    /// The configuration of flags, variables and file together.
    pub(super) fn load(&self) -> Result<Loaded<ServerConfig>, Failure> {
        let overrides = self.overrides()?;
        ServerConfig::load(self.config.as_deref(), environment(), &overrides).map_err(Failure::config)
    }

    fn overrides(&self) -> Result<Vec<Override>, Failure> {
        let named = [
            ("repository.models", &self.models, "--models"),
            ("repository.plugins", &self.plugins, "--plugins"),
            ("server.http", &self.http, "--http"),
            ("server.grpc", &self.grpc, "--grpc"),
            ("runtime.ort_lib", &self.ort_lib, "--ort-lib"),
            ("log.filter", &self.log, "--log"),
            ("log.format", &self.log_format, "--log-format"),
        ];
        let mut overrides: Vec<_> = named
            .into_iter()
            .filter_map(|(path, value, flag)| Some(Override::new(path, value.as_deref()?, flag)))
            .collect();
        if self.insecure {
            overrides.push(Override::new("insecure", "true", "--insecure"));
        }
        for setting in &self.settings {
            let Some((path, value)) = setting.split_once('=') else {
                return Err(Failure::config(format!(
                    "--set {setting}: expected KEY=VALUE, as in plugins.time=2s"
                )));
            };
            overrides.push(Override::new(path, value, "--set"));
        }
        Ok(overrides)
    }
}
