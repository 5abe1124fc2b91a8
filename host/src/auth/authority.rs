//! Who is who: all that callers can show, and the keys that it is held against.
//!
//! Owns the reading of those keys at the start and whenever their files change. What is wrong with a file at the start
//! keeps the server from starting; later it is told in the log, and the keys of before stay. Every change, and every one
//! that was refused, is a line of the audit log. Keys in Redis are followed by `shared/`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

use super::api_keys::ApiKeys;
use super::identity::{Identity, Kind};
use super::key_store::{KeyStore, note_used};
use super::keys::{KeySet, LARGEST_KEY, VerificationKey, from_file};
use super::register::Register;
use super::remote::Remote;
use super::scopes::{Scopes, matches_glob};
use super::token::{NotBelieved, TokenRules, verify};
use super::verified::VerifiedTokens;
use super::watch::Files;
use super::{jwks, watch};
use crate::config::{AuthSettings, JwksSource};
use crate::telemetry::{Audit, KeyChange};

/// How often it is noted on the disk when keys were used.
const NOTE: Duration = Duration::from_secs(30);

/// Why callers cannot be told apart.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file of keys cannot be used.
    #[error("auth: {0}")]
    Keys(String),
    /// The system grants no thread.
    #[error("auth: files of keys cannot be watched: {0}")]
    Thread(std::io::Error),
}

/// Why somebody is not who they say. The text is for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It is not so.
    Refused(String),
    /// The keys that could tell are not there.
    NoKeys(String),
}

/// See the module.
#[derive(Debug)]
pub struct Authority {
    settings: AuthSettings,
    /// The files of keys, as they were when they were read at the start.
    files: Files,
    rules: TokenRules,
    certificates: Vec<(String, Scopes)>,
    anonymous: Arc<Identity>,
    keys: ArcSwap<KeySet>,
    /// The keys of the URL, and the number of the set that is in force.
    parts: Mutex<Parts>,
    api_keys: ApiKeys,
    verified: VerifiedTokens,
    remote: Option<Arc<Remote>>,
}

/// What is wrong with which keys, as it was told last: what is tried again is not told again.
#[derive(Debug, Default)]
struct Told(HashMap<&'static str, String>);

impl Told {
    /// Whether a change is to be told. What keeps keys from being read is an error of the log as well.
    fn is_news(&mut self, change: &KeyChange) -> bool {
        let Some(reason) = &change.reason else {
            self.0.remove(change.subject);
            return true;
        };
        if self.0.insert(change.subject, reason.clone()).as_ref() == Some(reason) {
            return false;
        }
        match change.subject {
            "api_keys" => tracing::error!(%reason, "API keys cannot be read; those of before stay"),
            _ => tracing::error!(%reason, "keys of tokens cannot be read; those of before stay"),
        }
        true
    }
}

#[derive(Debug, Default)]
struct Parts {
    files: Vec<VerificationKey>,
    /// `None` until the URL has answered once.
    remote: Option<Vec<VerificationKey>>,
    /// SHA-256 of its last answer.
    answer: Option<[u8; 32]>,
    epoch: u64,
}

impl Authority {
    /// Reads all files of keys.
    ///
    /// # Errors
    /// What is wrong with the first of them that cannot be used.
    pub fn open(settings: &AuthSettings) -> Result<Self, AuthError> {
        let rules = TokenRules::new(&settings.jwt);
        // Before they are read: what changes from now on is seen, however long the start takes.
        let followed = Files::about_to_be_read(files_of(settings));
        let files = read_files(settings, &rules).map_err(AuthError::Keys)?;
        let api_keys = match &settings.api_keys.file {
            Some(path) => {
                KeyStore::new(path).read().map_err(|error| AuthError::Keys(error.to_string()))?.into()
            }
            None => Register::default(),
        };
        let remote = match &settings.jwt.jwks {
            Some(JwksSource::Url(url)) => {
                Some(Arc::new(Remote::new(url.clone(), settings.jwt.refresh, settings.jwt.cooldown)))
            }
            _ => None,
        };
        let certificates = settings.certificates.iter();
        let authority = Self {
            certificates: certificates.map(|one| (one.subject.clone(), Scopes::of(&one.scopes))).collect(),
            anonymous: Arc::new(Identity::anonymous(match settings.is_configured() {
                true => Scopes::of(&settings.anonymous),
                false => Scopes::everything(),
            })),
            keys: ArcSwap::default(),
            parts: Mutex::new(Parts { files, ..Parts::default() }),
            api_keys: ApiKeys::new(api_keys, settings.api_keys.redis),
            verified: VerifiedTokens::new(settings.jwt.cache),
            settings: settings.clone(),
            files: followed,
            rules,
            remote,
        };
        authority.publish(|_| ());
        Ok(authority)
    }

    /// Follows the files and the URL from now on, for as long as the authority is there, and tells of changes. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// When the system grants no thread.
    pub fn follow(self: &Arc<Self>, audit: &Audit) -> Result<(), AuthError> {
        if let Some(remote) = &self.remote {
            let (authority, audit) = (Arc::downgrade(self), audit.clone());
            tokio::spawn(Arc::clone(remote).run(move |text| take_remote(&authority, &audit, text)));
        }
        if self.files.is_empty() {
            return Ok(());
        }
        let (authority, audit) = (Arc::downgrade(self), audit.clone());
        let (mut noted, mut told) = (Instant::now(), Told::default());
        watch::follow(self.files.clone(), move |changed| {
            let authority = authority.upgrade()?;
            let mut failed = Vec::new();
            for (change, paths) in authority.reload(changed) {
                if told.is_news(&change) {
                    audit.keys_changed_blocking(&change);
                }
                if change.reason.is_some() {
                    failed.extend(paths);
                }
            }
            if noted.elapsed() >= NOTE {
                noted = Instant::now();
                authority.note_used();
            }
            Some(failed)
        })
        .map_err(AuthError::Thread)
    }

    /// Whether callers have to say who they are.
    pub fn is_configured(&self) -> bool {
        self.settings.is_configured()
    }

    /// Notes on the disk when keys were used. Blocks on the disk.
    pub fn note_used(&self) {
        let Some(path) = &self.settings.api_keys.file else {
            return;
        };
        let used = self.api_keys.last_used(false);
        if used.is_empty() {
            return;
        }
        if let Err(error) = note_used(path, &used) {
            tracing::debug!(%error, "when API keys were used cannot be noted beside their file");
        }
    }

    /// Who shows this API key.
    pub(super) fn api_key(&self, key: &str) -> Result<Arc<Identity>, Unknown> {
        self.api_keys.find(key, SystemTime::now())
    }

    /// Who shows this token. Waits only for keys that are on their way.
    pub(super) async fn token(&self, token: &str) -> Result<Arc<Identity>, Unknown> {
        if !self.settings.jwt.is_configured() {
            return Err(Unknown::Refused("a token was shown, and 'auth.jwt' is not set up".to_owned()));
        }
        let place = VerifiedTokens::place(token);
        let keys = self.keys.load_full();
        if let Some(identity) = self.verified.find(place, keys.epoch) {
            return Ok(identity);
        }
        let mut outcome = verify(token, &keys, &self.rules);
        let mut epoch = keys.epoch;
        if let (Err(NotBelieved::UnknownKey(_) | NotBelieved::NoKey(_)), Some(remote)) =
            (&outcome, &self.remote)
        {
            remote.newer().await;
            let newer = self.keys.load_full();
            if newer.epoch != epoch {
                (outcome, epoch) = (verify(token, &newer, &self.rules), newer.epoch);
            }
        }
        match outcome {
            Ok(believed) => Ok(self.verified.keep(place, believed, epoch)),
            Err(NotBelieved::Refused(reason)) => Err(Unknown::Refused(reason)),
            Err(NotBelieved::UnknownKey(kid)) => {
                Err(self.without_key(format!("no key '{}' is known", kid.escape_debug())))
            }
            Err(NotBelieved::NoKey(reason)) => Err(self.without_key(reason)),
        }
    }

    fn without_key(&self, reason: String) -> Unknown {
        let never = self.remote.is_some() && self.lock().remote.is_none();
        if never { Unknown::NoKeys(reason) } else { Unknown::Refused(reason) }
    }

    /// What a client certificate of this subject gives; `None` if it is none of those that are named.
    pub(super) fn certificate(&self, subject: &str) -> Option<Arc<Identity>> {
        let (_, scopes) = self.certificates.iter().find(|(pattern, _)| matches_glob(pattern, subject))?;
        Some(Arc::new(Identity::new(Kind::Certificate, subject.to_owned(), scopes.clone())))
    }

    /// Somebody who shows nothing.
    pub(super) fn anonymous(&self) -> Arc<Identity> {
        Arc::clone(&self.anonymous)
    }

    /// The API keys that are known.
    pub(super) fn api_keys(&self) -> &ApiKeys {
        &self.api_keys
    }

    /// Reads what has changed. Returns what came of it, and of which files.
    fn reload(&self, changed: &[PathBuf]) -> Vec<(KeyChange, Vec<PathBuf>)> {
        let (keys, others): (Vec<_>, Vec<_>) =
            changed.iter().cloned().partition(|path| Some(path) == self.settings.api_keys.file.as_ref());
        let api_keys = keys.first().map(|path| {
            let read =
                KeyStore::new(path.as_path()).read().map(|file| self.api_keys.take_file(file.into()).told());
            read.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
        });
        let api_keys = api_keys.map(|outcome| (key_change("api_keys", "file", outcome), keys));
        let tokens = (!others.is_empty()).then(|| {
            let outcome = read_files(&self.settings, &self.rules).map(|files| {
                let count = files.len();
                self.publish(|parts| parts.files = files);
                Some(format!("{count} keys"))
            });
            (key_change("tokens", "file", outcome), others)
        });
        api_keys.into_iter().chain(tokens).collect()
    }

    /// Changes the parts and puts them together.
    fn publish(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.lock();
        change(&mut parts);
        parts.epoch += 1;
        let keys = parts.files.iter().chain(parts.remote.iter().flatten()).cloned().collect();
        self.keys.store(Arc::new(KeySet { keys, epoch: parts.epoch }));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of the audit log: what is different now, or why everything is as it was.
pub(super) fn key_change(
    subject: &'static str,
    kind: &'static str,
    outcome: Result<Option<String>, String>,
) -> KeyChange {
    let (outcome, change, reason) = match outcome {
        Ok(change) => ("done", change, None),
        Err(reason) => ("refused", None, Some(reason)),
    };
    KeyChange { action: "keys", subject, kind, outcome, reason, change }
}

fn take_remote(authority: &Weak<Authority>, audit: &Audit, text: &[u8]) -> Result<usize, String> {
    let authority = authority.upgrade().ok_or("the server stops")?;
    let keys = jwks::read(text, false, &authority.rules)?;
    let count = keys.len();
    // The same answer again must not have every token verified anew.
    let digest = Sha256::digest(text).into();
    if authority.lock().answer != Some(digest) {
        authority.publish(|parts| (parts.remote, parts.answer) = (Some(keys), Some(digest)));
        let (audit, change) = (audit.clone(), key_change("tokens", "url", Ok(Some(format!("{count} keys")))));
        tokio::spawn(async move { audit.keys_changed(change).await });
    }
    Ok(count)
}

/// All files that keys are in.
fn files_of(settings: &AuthSettings) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = settings.jwt.keys.iter().map(|key| key.file.clone()).collect();
    if let Some(JwksSource::File(path)) = &settings.jwt.jwks {
        paths.push(path.clone());
    }
    paths.extend(settings.api_keys.file.clone());
    paths
}

fn read_files(settings: &AuthSettings, rules: &TokenRules) -> Result<Vec<VerificationKey>, String> {
    let mut keys = Vec::new();
    for entry in &settings.jwt.keys {
        let bytes = watch::read(&entry.file, LARGEST_KEY)?;
        let key = from_file(entry.algorithm, &entry.file, &bytes)?;
        keys.push(VerificationKey::new(entry.kid.clone(), &[entry.algorithm], key, rules));
    }
    if let Some(JwksSource::File(path)) = &settings.jwt.jwks {
        let text = watch::read(path, jwks::LARGEST as u64)?;
        keys.extend(
            jwks::read(&text, true, rules).map_err(|reason| format!("{}: {reason}", path.display()))?,
        );
    }
    Ok(keys)
}
