//! Where `nuke keys` finds the keys: a file, or Redis.
//!
//! Owns the arguments that say so, and the connection to Redis for the time of one command.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::Failure;
use crate::auth::{KeyStore, KeyStoreError, SharedKeys, Used, last_used};
use crate::config::{ApiKeyFile, Override, RedisConfig, ServerConfig, environment};
use crate::store::Store;
use crate::telemetry::{LogOptions, StoreMetrics, start_logging};

/// How long Redis may take for one command, and to be connected to: nobody's request waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where keys are.
#[derive(Args, Debug)]
pub(super) struct PlaceArgs {
    /// The file of keys: auth.api_keys.file of the host [default: keys.yaml]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["redis", "config"])]
    file: Option<PathBuf>,
    /// The host's configuration: keys are where that has them, in Redis if in both
    #[arg(long, value_name = "FILE", conflicts_with = "redis")]
    config: Option<PathBuf>,
    /// The Redis of the host: cache.redis.url. Others on this machine see what is typed; for a password, take --config
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// What keys in Redis begin with: cache.namespace of the host [default: nuke]
    #[arg(long, value_name = "NAME", requires = "redis")]
    namespace: Option<String>,
}

/// A place of keys.
pub(super) enum KeyPlace {
    /// A file.
    File(PathBuf),
    /// Redis.
    Redis(Box<RedisKeys>),
}

/// A connection for the time of one command.
pub(super) struct RedisKeys {
    runtime: tokio::runtime::Runtime,
    keys: SharedKeys,
}

impl KeyPlace {
    /// The place that the arguments name.
    pub(super) fn open(args: &PlaceArgs) -> Result<Self, Failure> {
        if let Some(path) = &args.config {
            let config = ServerConfig::load(Some(path), environment(), &[]).map_err(Failure::config)?.value;
            return match (config.auth.api_keys.redis, &config.cache.redis, &config.auth.api_keys.file) {
                (true, Some(redis), _) => RedisKeys::open(redis, &config.cache.namespace).map(Self::Redis),
                (_, _, Some(file)) => Ok(Self::File(file.clone())),
                _ => Err(Failure::config(format!(
                    "{}: expected auth.api_keys.file or auth.api_keys.redis, got neither; set one, or give --file",
                    path.display()
                ))),
            };
        }
        if let Some(url) = &args.redis {
            let mut settings = vec![Override::new("cache.redis.url", url, "--redis")];
            settings.extend(
                args.namespace.iter().map(|name| Override::new("cache.namespace", name, "--namespace")),
            );
            let config = ServerConfig::from_flags(&settings).map_err(Failure::config)?.value;
            let redis =
                config.cache.redis.ok_or_else(|| Failure::config("--redis: expected a URL, got nothing"))?;
            return RedisKeys::open(&redis, &config.cache.namespace).map(Self::Redis);
        }
        Ok(Self::File(args.file.clone().unwrap_or_else(|| "keys.yaml".into())))
    }

    /// The keys, and when they were last used.
    pub(super) fn read(&self) -> Result<(ApiKeyFile, Used), Failure> {
        match self {
            Self::File(path) => Ok((KeyStore::new(path).read().map_err(failure)?, last_used(path))),
            Self::Redis(place) => place.runtime.block_on(async {
                Ok((place.keys.all().await.map_err(failure)?, place.keys.last_used().await.map_err(failure)?))
            }),
        }
    }

    /// Changes the keys, or not: see [`KeyStore::change`] and [`SharedKeys::change`].
    pub(super) fn change<T>(
        &self,
        change: impl FnMut(&mut ApiKeyFile) -> Result<T, String>,
    ) -> Result<T, Failure> {
        match self {
            Self::File(path) => KeyStore::new(path).change(change).map_err(failure),
            Self::Redis(place) => place.runtime.block_on(place.keys.change(change)).map_err(failure),
        }
    }
}

impl RedisKeys {
    fn open(redis: &RedisConfig, namespace: &str) -> Result<Box<Self>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Failure::unavailable)?;
        // Why it cannot be reached is a line of the log.
        let log = LogOptions { json: Some(false), filter: "warn".to_owned() };
        let log = start_logging(&log).map_err(Failure::config)?;
        let keys = runtime.block_on(async {
            let settings = RedisConfig { timeout: PATIENCE, ..redis.clone() };
            let store =
                Store::open(&settings, namespace, StoreMetrics::default()).map_err(Failure::config)?;
            let began = Instant::now();
            while !store.is_up() {
                if began.elapsed() > PATIENCE {
                    let message = format!("redis cannot be reached within {} s", PATIENCE.as_secs());
                    return Err(Failure::unavailable(message));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(SharedKeys::new(store))
        });
        drop(log);
        Ok(Box::new(Self { runtime, keys: keys? }))
    }
}

fn failure(error: KeyStoreError) -> Failure {
    match error {
        KeyStoreError::Unreadable(reason) => Failure::failed(reason),
        undecided @ KeyStoreError::Undecided { .. } => Failure::failed(undecided),
        KeyStoreError::Malformed(problems) => Failure::config(problems),
    }
}
