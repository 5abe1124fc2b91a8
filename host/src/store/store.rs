//! What the rest of the host sees of Redis.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::ConnectionLike;
use redis::{Cmd, FromRedisValue, Pipeline, RedisFuture, RedisResult, Script, Value};
use tokio::task::AbortHandle;
use tokio::time::error::Elapsed;

use super::aside::Asides;
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
    /// None for a Cluster, which has a connection to each node.
    asides: Option<Arc<Asides>>,
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
        let asides = settings.max_connections.saturating_sub(2);
        let asides = (!is_cluster).then(|| Asides::new(Arc::clone(&dial), asides));
        let listening = tokio::spawn(Arc::clone(&messages).run(dial));
        let tasks = [keeping.abort_handle(), listening.abort_handle()];
        let (namespace, timeout) = (namespace.to_owned(), settings.timeout);
        Ok(Self {
            inner: Arc::new(Inner { link, messages, asides, metrics, namespace, timeout, is_cluster, tasks }),
        })
    }

    /// One command.
    ///
    /// # Errors
    /// What went wrong, within `cache.redis.timeout`; at once while Redis is known to be away.
    pub async fn ask<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        self.within(
            self.inner.timeout,
            |mut connection| async move { command.query_async(&mut connection).await },
        )
        .await
    }

    /// Several commands in one go, all within the time of one. In a Cluster all keys are of one slot, by a
    /// `{hash tag}`.
    ///
    /// # Errors
    /// As [`Store::ask`]; the first one, if several commands failed.
    pub async fn ask_all<T: FromRedisValue>(&self, pipeline: Pipeline) -> Result<T, StoreError> {
        self.within(self.inner.timeout, |mut connection| async move {
            pipeline.query_async(&mut connection).await
        })
        .await
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
        self.within(self.inner.timeout, |mut connection| async move {
            invocation.invoke_async(&mut connection).await
        })
        .await
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

    /// Whether it is a Cluster, where a key has one node and a flush empties one.
    pub fn is_cluster(&self) -> bool {
        self.inner.is_cluster
    }

    /// Whether Redis is asked now.
    pub fn is_up(&self) -> bool {
        self.inner.link.live().is_some()
    }

    /// A command whose value, or whose answer, is of this length: apart from the others, and with more time.
    pub(super) async fn ask_aside<T: FromRedisValue>(
        &self,
        command: Cmd,
        length: usize,
    ) -> Result<T, StoreError> {
        let Inner { link, asides, timeout, metrics, is_cluster, .. } = &*self.inner;
        let mebibytes = u32::try_from(length >> 20).unwrap_or(u32::MAX);
        let patience = timeout.saturating_mul(mebibytes.saturating_add(2));
        let Some(live) = link.live() else { return Err(self.closed()) };
        let Some(mut aside) = asides.as_ref().and_then(|asides| asides.take(live.number)) else {
            let ask = |mut connection| async move { command.query_async(&mut connection).await };
            return self.within(patience, ask).await;
        };
        let began = Instant::now();
        let asking = command.query_async::<Value>(&mut aside.connection);
        let answer = judged(tokio::time::timeout(patience, asking).await, *is_cluster);
        let is_good = match &answer {
            Ok(_) => true,
            Err((_, meaning)) => matches!(meaning, Meaning::Answers | Meaning::Misplaced),
        };
        if let Some(asides) = asides.as_ref().filter(|_| is_good) {
            asides.give_back(aside);
        }
        let took = began.elapsed();
        answer.map_or_else(
            |(error, meaning)| {
                metrics.failed(error.outcome(), Some(took));
                if is_good {
                    link.failed(live.number, meaning, &error.to_string());
                }
                Err(error)
            },
            |value| {
                metrics.answered(took);
                understood(value)
            },
        )
    }

    /// Asks over the connection that serves, within the time, and notes how it went.
    async fn within<T: FromRedisValue, F: Future<Output = RedisResult<Value>>>(
        &self,
        patience: Duration,
        ask: impl FnOnce(Connection) -> F,
    ) -> Result<T, StoreError> {
        let Inner { link, metrics, is_cluster, .. } = &*self.inner;
        let Some(live) = link.live() else { return Err(self.closed()) };
        let began = Instant::now();
        let answer = tokio::time::timeout(patience, ask(live.connection.clone())).await;
        let took = began.elapsed();
        match judged(answer, *is_cluster) {
            Ok(value) => {
                metrics.answered(took);
                link.answered(live.number);
                understood(value)
            }
            Err((error, meaning)) => {
                metrics.failed(error.outcome(), Some(took));
                link.failed(live.number, meaning, &error.to_string());
                Err(error)
            }
        }
    }

    /// Redis is not asked.
    fn closed(&self) -> StoreError {
        self.inner.metrics.failed(StoreError::Open.outcome(), None);
        StoreError::Open
    }
}

/// What the asker makes of the answer. Others may have put anything there: that is no fault of the server.
fn understood<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|error| {
        let text = error.to_string();
        StoreError::Garbage(text.chars().filter(|c| !c.is_control()).take(200).collect())
    })
}

/// What became of a command, and what that says of the connection.
fn judged(
    answer: Result<RedisResult<Value>, Elapsed>,
    is_cluster: bool,
) -> Result<Value, (StoreError, Meaning)> {
    match answer {
        Ok(answer) => answer.map_err(|error| read(&error, is_cluster)),
        Err(_) => Err((StoreError::TimedOut, Meaning::Doubtful)),
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
