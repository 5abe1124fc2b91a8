//! What operators did, and were not allowed to do; changes of keys among it.
//!
//! Owns the form of these lines: target `audit` in the log, and the same as JSON in a file of its own if there is one. The
//! file is opened for each line, so that it can be renamed at any time; there are few of these lines.

use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::timestamp::timestamp;

/// One action.
#[derive(Clone, Debug, Serialize)]
pub struct AuditEntry {
    /// What was asked for, such as `POST /v2/repository/models/digits/load`.
    pub action: String,
    /// Who asked.
    pub subject: String,
    /// What it has shown: `token`, `api_key`, `certificate` or `anonymous`.
    pub kind: &'static str,
    /// Where it was asked from, as far as proxies are trusted.
    pub address: Option<IpAddr>,
    /// `done`, or the code of the error.
    pub outcome: &'static str,
    /// What the error said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Keys that came to be known, or did not, without a request: somebody has changed what the host follows.
#[derive(Clone, Debug, Serialize)]
pub struct KeyChange {
    /// Always `keys`.
    pub action: &'static str,
    /// Which keys: `api_keys` or `tokens`.
    pub subject: &'static str,
    /// Where they are kept: `file`, `url` or `redis`.
    pub kind: &'static str,
    /// `done`, or `refused`: those of before stay.
    pub outcome: &'static str,
    /// What is wrong with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is different now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

#[derive(Serialize)]
struct Line<'a, E> {
    time: String,
    #[serde(flatten)]
    entry: &'a E,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    file: Option<PathBuf>,
}

impl Audit {
    /// Keeps the lines in this file as well, if there is one.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file }
    }

    /// Keeps one line. It is in the file when this returns; if that cannot be written, the log says so.
    pub async fn record(&self, entry: AuditEntry) {
        tracing::info!(
            target: "audit",
            action = entry.action,
            subject = entry.subject,
            kind = entry.kind,
            address = entry.address.map(tracing::field::display),
            outcome = entry.outcome,
            reason = entry.reason,
            "an operator has asked for something"
        );
        self.keep(entry).await;
    }

    /// Keeps the line of a change of keys.
    pub async fn keys_changed(&self, change: KeyChange) {
        tell(&change);
        self.keep(change).await;
    }

    /// As [`Audit::keys_changed`], for threads that may wait for the disk.
    pub fn keys_changed_blocking(&self, change: &KeyChange) {
        tell(change);
        if let Some(path) = &self.file {
            append_or_tell(path, change);
        }
    }

    async fn keep(&self, entry: impl Serialize + Send + 'static) {
        let Some(path) = self.file.clone() else {
            return;
        };
        // Fails only if the process ends.
        let _ = tokio::task::spawn_blocking(move || append_or_tell(&path, &entry)).await;
    }
}

fn tell(change: &KeyChange) {
    tracing::info!(
        target: "audit",
        action = change.action,
        subject = change.subject,
        kind = change.kind,
        outcome = change.outcome,
        reason = change.reason,
        change = change.change,
        "keys were changed outside of this host"
    );
}

fn append_or_tell(path: &Path, entry: &impl Serialize) {
    if let Err(error) = append(path, entry) {
        tracing::error!(path = %path.display(), %error, "the audit log cannot be written");
    }
}

fn append(path: &Path, entry: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&Line { time: timestamp(SystemTime::now()), entry })?;
    line.push(b'\n');
    let mut file = File::options().append(true).create(true).mode(0o600).open(path)?;
    // One write, so that lines of several stay whole.
    file.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_was_renamed_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::new(Some(path.clone()));
        let entry = |action: &str| AuditEntry {
            action: action.to_owned(),
            subject: "ann\n".to_owned(),
            kind: "token",
            address: None,
            outcome: "done",
            reason: None,
        };
        audit.record(entry("one")).await;
        std::fs::rename(&path, folder.path().join("audit.1")).unwrap();
        audit.record(entry("two")).await;
        audit.record(entry("three")).await;
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (lines.len(), &lines[0]["action"], &lines[1]["subject"]),
            (2, &"two".into(), &"ann\n".into())
        );
    }
}
