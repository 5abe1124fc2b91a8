//! What `nuke precompute` and `nuke cache warm` are told.

use std::path::PathBuf;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use super::super::credentials::CredentialArgs;
use super::super::error::ClientError;
use super::super::host::{Host, model_path, predict_path};
use super::super::tls::TlsArgs;
use super::super::values::{Header, parse_duration, parse_header, parse_pair, parse_positive_duration};

/// Arguments of `nuke precompute` and of `nuke cache warm`.
#[derive(clap::Args, Clone, Debug)]
pub struct FillArgs {
    /// The running host
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "NUKE_URL")]
    pub(super) url: Host,
    /// The model's name
    #[arg(long, value_name = "MODEL")]
    pub(super) model: String,
    /// The files to send; of a folder all that is in it, hidden files left out
    #[arg(value_name = "FILE|FOLDER", required = true)]
    pub(super) inputs: Vec<PathBuf>,
    /// The model's version [default: the host's choice]
    #[arg(id = "model_version", long = "version", value_name = "V")]
    pub(super) version: Option<String>,
    /// The files are whole bodies of infer requests, JSON or with binary tensors; else predict gets them
    #[arg(long, conflicts_with_all = ["parameters", "content_type"])]
    pub(super) infer: bool,
    /// A parameter for the plugin, such as k=5 (may be given again)
    #[arg(long = "param", id = "parameters", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(super) parameters: Vec<(String, String)>,
    /// The files' media type [default: by each file's first bytes and its name]
    #[arg(long, value_name = "TYPE")]
    pub(super) content_type: Option<HeaderValue>,
    /// A request header (may be given again)
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(super) headers: Vec<Header>,
    /// Compute what is remembered already anew
    #[arg(long)]
    pub(super) force: bool,
    /// Requests at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) concurrency: u16,
    /// How long to wait for each answer
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_positive_duration)]
    pub(super) timeout: Duration,
    /// How long a file is sent again to a host that is busy (429, 503) or restarts; 0 for once only
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    pub(super) retry_for: Duration,
    /// Print the results as JSON
    #[arg(long)]
    pub(super) json: bool,
    // Last, as the headings of their help hold for what follows.
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    #[command(flatten)]
    pub(super) credentials: CredentialArgs,
}

impl FillArgs {
    /// Where each file goes.
    ///
    /// # Errors
    /// [`ClientError::Usage`] for an empty name.
    pub(super) fn path(&self) -> Result<String, ClientError> {
        let version = self.version.as_deref();
        if self.model.is_empty() || version == Some("") {
            return Err(ClientError::Usage("the name of a model or a version cannot be empty".to_owned()));
        }
        Ok(match self.infer {
            true => format!("{}/infer", model_path(&self.model, version)),
            false => predict_path(&self.model, version, &self.parameters),
        })
    }

    /// What all requests have, whatever the file.
    ///
    /// # Errors
    /// [`ClientError::Usage`] for credentials that cannot be read.
    pub(super) fn common_headers(&self) -> Result<HeaderMap, ClientError> {
        let mut headers = HeaderMap::new();
        for header in &self.headers {
            headers.append(header.name.clone(), header.value.clone());
        }
        if self.force {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        if let Some(content_type) = &self.content_type {
            headers.insert(CONTENT_TYPE, content_type.clone());
        }
        self.credentials.add_to(&mut headers)?;
        Ok(headers)
    }
}
