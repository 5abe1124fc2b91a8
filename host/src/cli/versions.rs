//! `nuke versions`.
//!
//! Owns its arguments and the table. It loads nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Failure;
use crate::client::table::{Align, Table};
use crate::client::text;
use crate::repository::{ListedVersion, ManifestState, TrustedKeys, list_versions};

/// Exits with 1 if a version is not as it was published.
#[derive(Args, Debug)]
pub(super) struct VersionsArgs {
    /// The folder of models (or of plugins)
    #[arg(value_name = "MODELS_DIR")]
    models: PathBuf,
    /// Only this model's
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// Look at names and sizes only, without reading the files
    #[arg(long)]
    quick: bool,
    /// A minisign public key; versions that none of these has signed are broken
    #[arg(long = "trusted-key", value_name = "KEY")]
    trusted_keys: Vec<String>,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VersionsArgs) -> ExitCode {
    let listed = match list(args) {
        Ok(listed) => listed,
        Err(failure) => return failure.report(),
    };
    if args.json {
        println!("{}", serde_json::Value::from_iter(listed.iter().map(as_json)));
    } else {
        print!("{}", as_text(&listed));
    }
    let broken = listed.iter().any(|listed| matches!(listed.manifest, ManifestState::Broken(_)));
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn list(args: &VersionsArgs) -> Result<Vec<ListedVersion>, Failure> {
    let keys = TrustedKeys::parse(args.trusted_keys.iter().map(String::as_str)).map_err(Failure::config)?;
    list_versions(&args.models, args.model.as_deref(), !args.quick, &keys).map_err(Failure::config)
}

fn reasons(listed: &ListedVersion) -> &[String] {
    match &listed.manifest {
        ManifestState::Broken(reasons) => reasons,
        _ => &[],
    }
}

fn as_json(listed: &ListedVersion) -> serde_json::Value {
    json!({
        "model": listed.model,
        "version": listed.version,
        "path": listed.path.display().to_string(),
        "files": listed.files,
        "bytes": listed.bytes,
        "manifest": listed.manifest.as_str(),
        "reasons": reasons(listed),
    })
}

fn as_text(listed: &[ListedVersion]) -> String {
    let columns = [
        ("model", Align::Left),
        ("version", Align::Left),
        ("files", Align::Right),
        ("size", Align::Right),
        ("manifest", Align::Left),
    ];
    let mut table = Table::new(columns.map(|(name, align)| (name.to_owned(), align)));
    for listed in listed {
        table.push(vec![
            listed.model.clone(),
            listed.version.clone(),
            listed.files.to_string(),
            text::bytes(listed.bytes as f64),
            listed.manifest.as_str().to_owned(),
        ]);
    }
    let mut rendered = table.render();
    for listed in listed {
        for reason in reasons(listed) {
            rendered.push_str(&format!("FAILED  {} {}: {reason}\n", listed.model, listed.version));
        }
    }
    rendered
}
