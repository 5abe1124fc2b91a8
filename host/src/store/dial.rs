//! How a connection to Redis is made: one server, the master that Sentinels know, or a Cluster.
//!
//! Owns the mapping from the settings to the client library's. Files of passwords and certificates are read anew
//! for each connection, on a blocking thread, so they may change while the server runs. It never waits longer than
//! `connect_timeout` for one server, and decides nothing about when to connect.

use std::path::Path;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, RedisError, TlsCertificates, TlsMode,
};

use super::error::words;
use crate::config::{RedisAddress, RedisConfig, RedisLogin, RedisPlace};

/// Commands that may wait to be written to one connection; more wait outside.
const BUFFERED: usize = 1024;
/// The largest password file, certificate or key that is read.
const MAX_FILE: u64 = 1 << 20;

/// A connection that commands share.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Server(MultiplexedConnection),
    /// To all nodes of a Cluster.
    Cluster(ClusterConnection),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Dial {
    settings: RedisConfig,
}

/// What was in the files that the settings name.
struct Files {
    password: Option<String>,
    sentinel_password: Option<String>,
    tls: Option<TlsCertificates>,
}

impl Dial {
    /// Looks whether the files that the settings name can be used.
    ///
    /// # Errors
    /// The file at fault, with what is wrong with it.
    pub(super) fn new(settings: RedisConfig) -> Result<Self, String> {
        if settings.tls.is_some() {
            // The client library takes the process's; whoever came first chose the same.
            drop(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default());
        }
        let files = read_files(&settings)?;
        if let Some(certificates) = files.tls {
            let probe = address(&RedisAddress { host: "localhost".to_owned(), port: 6379 }, true);
            let info = probe.into_connection_info().map_err(|error| words(&error))?;
            Client::build_with_tls(info, certificates)
                .map_err(|error| format!("cache.redis.tls: {error}"))?;
        }
        Ok(Self { settings })
    }

    /// Whether it is a Cluster.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.settings.place, RedisPlace::Cluster(_))
    }

    /// A connection for commands, after a server has answered over it. `on_push` hears of its end, but for a
    /// Cluster's.
    pub(super) async fn commands(&self, on_push: impl AsyncPushSender) -> Result<Connection, String> {
        let RedisPlace::Cluster(nodes) = &self.settings.place else {
            return self.server(on_push).await.map(Connection::Server);
        };
        let files = self.files().await?;
        let client = self.cluster(nodes, &files).map_err(|error| words(&error))?;
        let nodes = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let patience = self.settings.connect_timeout * nodes.saturating_add(1);
        let connecting = async {
            let mut connection = client.get_async_connection().await?;
            let pong: String = redis::cmd("PING").query_async(&mut connection).await?;
            Ok::<_, RedisError>((connection, pong))
        };
        match tokio::time::timeout(patience, connecting).await {
            Ok(Ok((connection, pong))) if pong == "PONG" => Ok(Connection::Cluster(connection)),
            Ok(Ok(_)) => Err("it answered a PING with something else".to_owned()),
            Ok(Err(error)) => Err(words(&error)),
            Err(_) => Err(format!("no node answered within {patience:?}")),
        }
    }

    /// A connection to one server: to the master, or to the first node of a Cluster that answers, where messages
    /// are those of all nodes.
    pub(super) async fn server(
        &self,
        on_push: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, String> {
        let files = self.files().await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.connect_timeout))
            .set_response_timeout(Some(self.settings.connect_timeout))
            .set_pipeline_buffer_size(BUFFERED)
            .set_push_sender(on_push);
        match &self.settings.place {
            RedisPlace::Server(address) => self.answering(&self.client(address, &files)?, &config).await,
            RedisPlace::Sentinel { nodes, master, login } => {
                let client = self.master(nodes, master, login, &files).await?;
                self.answering(&client, &config).await
            }
            RedisPlace::Cluster(nodes) => {
                let mut reason = "no node is named".to_owned();
                for node in nodes {
                    match self.answering(&self.client(node, &files)?, &config).await {
                        Ok(connection) => return Ok(connection),
                        Err(error) => reason = error,
                    }
                }
                Err(reason)
            }
        }
    }

    /// Connects, and asks for an answer that only a Redis that serves can give.
    async fn answering(
        &self,
        client: &Client,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, String> {
        const ECHO: &str = "nuke is here";
        let connecting = async {
            let mut connection = client.get_multiplexed_async_connection_with_config(config).await?;
            let echo: String = redis::cmd("PING").arg(ECHO).query_async(&mut connection).await?;
            Ok::<_, RedisError>((connection, echo))
        };
        match tokio::time::timeout(self.settings.connect_timeout, connecting).await {
            Ok(Ok((connection, echo))) if echo == ECHO => Ok(connection),
            Ok(Ok(_)) => Err("it answered a PING with something else".to_owned()),
            Ok(Err(error)) => Err(words(&error)),
            Err(_) => Err(format!("no answer within {:?}", self.settings.connect_timeout)),
        }
    }

    async fn master(
        &self,
        nodes: &[RedisAddress],
        master: &str,
        login: &RedisLogin,
        files: &Files,
    ) -> Result<Client, String> {
        let addresses = nodes.iter().map(|node| address(node, files.tls.is_some()));
        let build = || {
            let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
                .set_client_to_redis_protocol(ProtocolVersion::RESP3)
                .set_client_to_sentinel_protocol(ProtocolVersion::RESP3)
                .set_client_to_redis_tcp_settings(tcp())
                .set_client_to_sentinel_tcp_settings(tcp())
                .set_client_to_redis_db(i64::from(self.settings.db));
            if let Some(user) = &self.settings.login.user {
                builder = builder.set_client_to_redis_username(user);
            }
            if let Some(password) = &files.password {
                builder = builder.set_client_to_redis_password(password);
            }
            if let Some(user) = &login.user {
                builder = builder.set_client_to_sentinel_username(user);
            }
            if let Some(password) = &files.sentinel_password {
                builder = builder.set_client_to_sentinel_password(password);
            }
            if let Some(certificates) = &files.tls {
                builder = builder
                    .set_client_to_redis_tls_mode(TlsMode::Secure)
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates.clone());
            }
            builder.build()
        };
        let mut sentinels = build().map_err(|error| words(&error))?;
        // The library tries one after the other, each with its own second to connect and half of one to answer.
        let patience = self.settings.connect_timeout
            + Duration::from_secs(2) * u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        match tokio::time::timeout(patience, sentinels.async_get_client()).await {
            Ok(client) => client.map_err(|error| format!("sentinel: {}", words(&error))),
            Err(_) => Err(format!("no sentinel answered within {patience:?}")),
        }
    }

    fn cluster(
        &self,
        nodes: &[RedisAddress],
        files: &Files,
    ) -> Result<redis::cluster::ClusterClient, RedisError> {
        let infos = nodes.iter().map(|node| address(node, files.tls.is_some()).into_connection_info());
        let mut builder = ClusterClientBuilder::new(infos.collect::<Result<Vec<ConnectionInfo>, _>>()?)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(self.settings.connect_timeout)
            .response_timeout(self.settings.timeout)
            .tcp_settings(tcp())
            // Each command has its own bound, over all tries.
            .overall_response_timeout(None)
            .retries(2)
            .min_retry_wait(1)
            .max_retry_wait(10);
        if let Some(user) = &self.settings.login.user {
            builder = builder.username(user);
        }
        if let Some(password) = &files.password {
            builder = builder.password(password);
        }
        if let Some(certificates) = &files.tls {
            builder = builder.tls(TlsMode::Secure).certs(certificates.clone());
        }
        builder.build()
    }

    fn client(&self, node: &RedisAddress, files: &Files) -> Result<Client, String> {
        let mut login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        if !self.is_cluster() {
            login = login.set_db(i64::from(self.settings.db));
        }
        if let Some(user) = &self.settings.login.user {
            login = login.set_username(user);
        }
        if let Some(password) = &files.password {
            login = login.set_password(password);
        }
        let info =
            address(node, files.tls.is_some()).into_connection_info().map_err(|error| words(&error))?;
        let info = info.set_redis_settings(login).set_tcp_settings(tcp());
        let client = match &files.tls {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        };
        client.map_err(|error| words(&error))
    }

    async fn files(&self) -> Result<Files, String> {
        let settings = self.settings.clone();
        let reading = tokio::task::spawn_blocking(move || read_files(&settings));
        reading.await.unwrap_or_else(|_| Err("the host is stopping".to_owned()))
    }
}

/// Small commands are sent at once: waiting for an acknowledgement would take longer than `timeout`.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn address(node: &RedisAddress, tls: bool) -> ConnectionAddr {
    match tls {
        true => ConnectionAddr::TcpTls {
            host: node.host.clone(),
            port: node.port,
            insecure: false,
            tls_params: None,
        },
        false => ConnectionAddr::Tcp(node.host.clone(), node.port),
    }
}

fn read_files(settings: &RedisConfig) -> Result<Files, String> {
    let sentinel_password = match &settings.place {
        RedisPlace::Sentinel { login, .. } => password(login)?,
        RedisPlace::Server(_) | RedisPlace::Cluster(_) => None,
    };
    let tls = settings.tls.as_ref().map(|tls| {
        let client_tls = match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? })
            }
            _ => None,
        };
        let root_cert = tls.ca.as_deref().map(read_authorities).transpose()?;
        Ok::<_, String>(TlsCertificates { client_tls, root_cert })
    });
    Ok(Files { password: password(&settings.login)?, sentinel_password, tls: tls.transpose()? })
}

fn password(login: &RedisLogin) -> Result<Option<String>, String> {
    let Some(path) = &login.password_file else {
        return Ok(login.password.as_ref().map(|password| password.reveal().to_owned()));
    };
    let text = read(path)?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8(line.to_vec()).ok().map(|line| line.trim_end_matches('\r').to_owned());
    match line.filter(|line| !line.is_empty()) {
        Some(line) => Ok(Some(line)),
        None => Err(format!("{}: expected a password in its first line, got none", path.display())),
    }
}

fn read_authorities(path: &Path) -> Result<Vec<u8>, String> {
    let text = read(path)?;
    // The library takes a file without any for one that trusts nobody.
    if text.windows(11).any(|part| part == b"CERTIFICATE") {
        return Ok(text);
    }
    Err(format!("{}: expected certificates in PEM, got none", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let of = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
    let size = std::fs::metadata(path).map_err(|error| of(&error))?.len();
    if size > MAX_FILE {
        return Err(of(&format!("expected at most {MAX_FILE} bytes, got {size}")));
    }
    std::fs::read(path).map_err(|error| of(&error))
}
