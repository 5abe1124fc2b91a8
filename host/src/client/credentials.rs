//! What a command shows a host of who asks.
//!
//! Owns the arguments for it. Values are never shown: neither in help, nor in errors, nor by `Debug`.

use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::error::ClientError;
use crate::secret::Secret;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// At most one of these; one that is typed counts more than a variable.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Credentials")]
pub(super) struct CredentialArgs {
    /// A token or an API key, sent as 'authorization: Bearer'; others of this machine can see what is typed
    #[arg(long, value_name = "TOKEN", env = "NUKE_TOKEN", hide_env_values = true)]
    token: Option<Secret>,
    /// A file with the token; - reads the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "api_key")]
    token_file: Option<PathBuf>,
    /// An API key, sent as 'x-api-key'
    #[arg(long, value_name = "KEY", env = "NUKE_API_KEY", hide_env_values = true)]
    api_key: Option<Secret>,
}

impl CredentialArgs {
    /// Adds the header that these arguments stand for; one that was given by hand stays.
    ///
    /// # Errors
    /// [`ClientError::Usage`] for a file that cannot be read, and a text that no header can carry.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) -> Result<(), ClientError> {
        if headers.contains_key(header::AUTHORIZATION) || headers.contains_key(API_KEY) {
            return Ok(());
        }
        let (name, text) = match (&self.token_file, &self.token, &self.api_key) {
            (Some(file), ..) => (header::AUTHORIZATION, format!("Bearer {}", read(file)?)),
            (None, Some(token), _) if !token.reveal().is_empty() => {
                (header::AUTHORIZATION, format!("Bearer {}", token.reveal()))
            }
            (None, _, Some(key)) if !key.reveal().is_empty() => (API_KEY, key.reveal().to_owned()),
            _ => return Ok(()),
        };
        let unusable =
            |_| ClientError::Usage("the token has characters that a header cannot carry".to_owned());
        let mut value = HeaderValue::from_str(&text).map_err(unusable)?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }
}

/// Takes what says who asks out of a request for somebody else.
pub(super) fn remove_from(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, API_KEY, header::COOKIE] {
        headers.remove(name);
    }
}

fn read(file: &Path) -> Result<String, ClientError> {
    let bytes = super::predict::read_input(file)?;
    let text = std::str::from_utf8(&bytes).map(str::trim);
    match text {
        Ok(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(ClientError::Usage(format!("'{}' holds no token", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(args: &CredentialArgs) -> HeaderMap {
        let mut headers = HeaderMap::new();
        args.add_to(&mut headers).unwrap();
        headers
    }

    #[test]
    fn one_header_is_sent_and_never_shown() {
        let hidden = |text: &str| Some(Secret::from(text.to_owned()));
        let token = CredentialArgs { token: hidden("s3cret"), ..CredentialArgs::default() };
        assert_eq!(sent(&token)["authorization"], "Bearer s3cret");
        assert!(!format!("{token:?}{:?}", sent(&token)).contains("s3cret"));
        let key = CredentialArgs { api_key: hidden("k"), ..CredentialArgs::default() };
        assert_eq!(sent(&key)["x-api-key"], "k");
        assert!(sent(&CredentialArgs::default()).is_empty());
        assert!(sent(&CredentialArgs { token: hidden(""), ..CredentialArgs::default() }).is_empty());
        let mut own = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Bearer own"))]);
        token.add_to(&mut own).unwrap();
        assert_eq!(own["authorization"], "Bearer own");
        let odd = CredentialArgs { token: hidden("a\nb"), ..CredentialArgs::default() };
        let error = odd.add_to(&mut HeaderMap::new()).unwrap_err().to_string();
        assert!(error.contains("characters"), "{error}");
    }

    #[test]
    fn a_file_gives_the_token_without_its_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "abc\n").unwrap();
        let args = CredentialArgs { token_file: Some(path.clone()), ..CredentialArgs::default() };
        assert_eq!(sent(&args)["authorization"], "Bearer abc");
        std::fs::write(&path, "\n").unwrap();
        assert!(args.add_to(&mut HeaderMap::new()).is_err());
    }
}
