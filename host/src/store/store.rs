//! What the rest of the host sees of Redis.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::ConnectionLike;
use redis::{Cmd, FromRedisValue, Pipeline, RedisFuture, RedisResult, Script, Value};
use tokio::task::AbortHandle;

use super::dial::{Connection, Dial};
use super::error::{Meaning, StoreError, read};
use super::link::Link;
use super::messages::{Messages, Subscription, Topic};
use crate::config::RedisConfig;
use crate::error::Error;
use crate::telemetry::StoreMetrics;

/// A Redis that is asked without ever being waited for: each call ends within `cache.redis.timeout`. Cheap to
/// clone; connections end with the last clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    link: Arc<Link>,
    messages: Arc<Messages>,
    metrics: StoreMetrics,
    namespace: String,
    timeout: Duration,
    is_cluster: bool,
    tasks: [AbortHandle; 2],
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("namespace", &self.inner.namespace).finish_non_exhaustive()
    }
}

impl Store {
    /// Begins to connect, in the background of the tokio runtime that this is called in. A server that cannot be
    /// reached is no error.
    ///
    /// # Errors
    /// Files of passwords or certificates that are missing or cannot be used.
    pub fn open(settings: &RedisConfig, namespace: &str, metrics: StoreMetrics) -> Result<Self, Error> {
        let dial = Dial::new(settings.clone());
        let dial = Arc::new(dial.map_err(|reason| Error::invalid(format!("cache.redis: {reason}")))?);
        let link = Link::new(Arc::clone(&dial), metrics.clone());
        let messages = Arc::new(Messages::default());
        let keeping = tokio::spawn(Arc::clone(&link).keep());
        let is_cluster = dial.is_cluster();
        let listening = tokio::spawn(Arc::clone(&messages).run(dial));
        let tasks = [keeping.abort_handle(), listening.abort_handle()];
        let (namespace, timeout) = (namespace.to_owned(), settings.timeout);
        Ok(Self { inner: Arc::new(Inner { link, messages, metrics, namespace, timeout, is_cluster, tasks }) })
    }

    /// One command.
    ///
    /// # Errors
    /// What went wrong, within `cache.redis.timeout`; at once while Redis is known to be away.
    pub async fn ask<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        self.within(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// Several commands in one go, all within the time of one. In a Cluster all keys are of one slot, by a
    /// `{hash tag}`.
    ///
    /// # Errors
    /// As [`Store::ask`]; the first one, if several commands failed.
    pub async fn ask_all<T: FromRedisValue>(&self, pipeline: Pipeline) -> Result<T, StoreError> {
        self.within(|mut connection| async move { pipeline.query_async(&mut connection).await }).await
    }

    /// A script, by its hash; it is sent whole where it is not known yet.
    ///
    /// # Errors
    /// As [`Store::ask`].
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<T, StoreError> {
        let mut invocation = script.prepare_invoke();
        for key in keys {
            invocation.key(*key);
        }
        for argument in arguments {
            invocation.arg(*argument);
        }
        self.within(|mut connection| async move { invocation.invoke_async(&mut connection).await }).await
    }

    /// The messages of a channel, for as long as it is held. It connects again by itself, and says
    /// [`super::Event::Reconnected`] then and at the beginning, because messages may have been missed.
    pub fn subscribe(&self, channel: &str) -> Subscription {
        self.inner.messages.listen(Topic::Channel(channel.to_owned()))
    }

    /// The keys with this prefix that change, whoever changes them, by Redis' client-side invalidation; a flush of
    /// the database is a message without a key. In a Cluster only those of one node come, so there this is no
    /// substitute for messages.
    pub fn watch_keys(&self, prefix: &str) -> Subscription {
        self.inner.messages.listen(Topic::Keys(prefix.to_owned()))
    }

    /// A key of this fleet: `<namespace>:<kind>:<rest>`.
    pub fn key(&self, kind: &str, rest: &str) -> String {
        format!("{}:{kind}:{rest}", self.inner.namespace)
    }

    /// Whether Redis is asked now.
    pub fn is_up(&self) -> bool {
        self.inner.link.live().is_some()
    }

    /// A command whose value, or whose answer, is of this length: apart from the others.
    pub(super) async fn ask_aside<T: FromRedisValue>(
        &self,
        command: Cmd,
        length: usize,
    ) -> Result<T, StoreError> {
        let _ = length;
        self.ask(command).await
    }

    /// Asks over the connection that serves, within the time, and notes how it went.
    async fn within<T, F: Future<Output = RedisResult<T>>>(
        &self,
        ask: impl FnOnce(Connection) -> F,
    ) -> Result<T, StoreError> {
        let Inner { link, metrics, timeout, is_cluster, .. } = &*self.inner;
        let Some(live) = link.live() else {
            metrics.failed(StoreError::Open.outcome(), None);
            return Err(StoreError::Open);
        };
        let began = Instant::now();
        let answer = tokio::time::timeout(*timeout, ask(live.connection.clone())).await;
        let took = began.elapsed();
        let (error, meaning) = match answer {
            Ok(Ok(value)) => {
                metrics.answered(took);
                link.answered(live.number);
                return Ok(value);
            }
            Ok(Err(error)) => read(&error, *is_cluster),
            Err(_) => (StoreError::TimedOut, Meaning::Doubtful),
        };
        metrics.failed(error.outcome(), Some(took));
        link.failed(live.number, meaning, &error.to_string());
        Err(error)
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
