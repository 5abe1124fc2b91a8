//! `cache`: what is remembered on this node, and the Redis that nodes share.
//!
//! Owns the settings and how they are read. It opens no file: those that are named are read by `store/`.

use std::path::PathBuf;
use std::time::Duration;

use super::address::ListenAddress;
use super::quantity::ByteSize;
use super::redis_url::RedisUrl;
use super::section::Section;
use super::setting::{Text, Wrong};
use super::yaml_text;
use crate::secret::Secret;

const MILLISECOND: Duration = Duration::from_millis(1);
/// Nodes of a Cluster, or Sentinels, in a list.
const MOST_NODES: usize = 64;

/// `cache`: what is remembered, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// `memory`, default 256 MiB: bytes of answers that this node keeps in its own memory; 0 keeps none. Counts
    /// only for models that have a cache. Raise it where Redis is far, lower it where memory counts.
    pub memory: ByteSize,
    /// `namespace`, default nuke: what every key in Redis begins with. Nodes that are to share what they know
    /// have the same one; two fleets on one Redis have two.
    pub namespace: String,
    /// `redis`, default none: the storage that nodes share. Without it all stays on the node.
    pub redis: Option<RedisConfig>,
}

/// `cache.redis`: where Redis is, who asks, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// `url`, `host` with `port`, `sentinel` or `cluster`: where it is.
    pub place: RedisPlace,
    /// `db`, default 0: the number of the database; a Cluster has only 0.
    pub db: u32,
    /// `user`, `password`, `password_file`: who asks.
    pub login: RedisLogin,
    /// `tls`, default off: speak TLS, to Sentinels too.
    pub tls: Option<RedisTls>,
    /// `max_connections`, default 100: connections that this node opens to a server at a time, at least 3: one
    /// for commands, one for messages, the others for values over 64 KiB, so that small ones do not wait behind
    /// them.
    pub max_connections: usize,
    /// `timeout`, default 20 ms: how long a command may take. What takes longer counts as failed, and the request
    /// goes on without it. It is the most that a Redis that hangs costs a request.
    pub timeout: Duration,
    /// `connect_timeout`, default 1 s: how long connecting may take, TLS and login included. No request waits
    /// for that.
    pub connect_timeout: Duration,
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisPlace {
    /// One server, or something in front of several.
    Server(RedisAddress),
    /// The master of this name, as Sentinels know it.
    Sentinel {
        /// The Sentinels.
        nodes: Vec<RedisAddress>,
        /// The name that they watch the master under.
        master: String,
        /// Who asks the Sentinels; by default, nobody in particular.
        login: RedisLogin,
    },
    /// A Cluster, by some of its nodes.
    Cluster(Vec<RedisAddress>),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAddress {
    /// A name or an IP address without brackets.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisLogin {
    /// The user; without one, the server's default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// A file whose first line is the password. It is read again for each connection.
    pub password_file: Option<PathBuf>,
}

/// TLS to Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// `ca`, default those of the system: whose certificates are believed, in PEM.
    pub ca: Option<PathBuf>,
    /// `cert`, default none: the certificate that this node shows, in PEM.
    pub cert: Option<PathBuf>,
    /// `key`, default none: its key, in PEM.
    pub key: Option<PathBuf>,
}

impl Text for RedisAddress {
    fn expected() -> String {
        "an address like localhost:6379 or [::1]:6379".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let address = ListenAddress::parse(text).map_err(|_| Wrong::Form)?;
        match address.port() {
            0 => Err(Wrong::Because("port 0 is no server's".to_owned())),
            port => Ok(Self { host: address.host(), port }),
        }
    }

    fn show(&self) -> String {
        let host = &self.host;
        let text = if host.contains(':') {
            format!("[{host}]:{}", self.port)
        } else {
            format!("{host}:{}", self.port)
        };
        yaml_text::scalar(&text)
    }
}

/// A name, host or user: any text on one line.
pub(super) struct Line(pub(super) String);

impl Text for Line {
    fn expected() -> String {
        "a name of 1 to 256 characters without spaces".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let fits =
            (1..=256).contains(&text.len()) && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        fits.then(|| Self(text.to_owned())).ok_or(Wrong::Form)
    }

    fn show(&self) -> String {
        yaml_text::scalar(&self.0)
    }
}

/// What keys begin with.
struct Namespace(String);

impl Text for Namespace {
    fn expected() -> String {
        "1 to 64 letters, digits, '.', '_' or '-'".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(known);
        fits.then(|| Self(text.to_owned())).ok_or(Wrong::Form)
    }

    fn show(&self) -> String {
        yaml_text::scalar(&self.0)
    }
}

/// Whether something may be kept in Redis: it has to be there.
pub(super) fn check_shared(is_shared: bool, has_redis: bool) -> Result<(), String> {
    match is_shared && !has_redis {
        true => Err("counts only with cache.redis, which is not set".to_owned()),
        false => Ok(()),
    }
}

/// Decodes `cache`.
pub(super) fn decode(section: &mut Section<'_>) -> CacheSettings {
    let most = ByteSize::mib(16 << 20);
    CacheSettings {
        memory: section.take_in("memory", ByteSize::mib(256), ByteSize::bytes(0)..=most),
        namespace: section.take("namespace", Namespace("nuke".to_owned())).0,
        redis: section.section("redis", redis),
    }
}

fn redis(section: &mut Section<'_>) -> Option<RedisConfig> {
    let url = section.take::<Option<RedisUrl>>("url", None);
    let host = section.take::<Option<Line>>("host", None).map(|line| line.0);
    let port = section.take_in("port", 6379, 1..=65_535_u32);
    let db = section.take_in("db", 0, 0..=1_000_000);
    let mut login = login(section);
    let mut tls = section.section("tls", tls);
    let sentinel = section.section("sentinel", sentinel);
    let nodes = section.take_if("cluster", Vec::new(), |nodes| at_most_nodes(nodes));
    let max_connections = section.take_in("max_connections", 100, 3..=10_000);
    let timeout = section.take_in("timeout", 20 * MILLISECOND, MILLISECOND..=10_000 * MILLISECOND);
    let connect_timeout =
        section.take_in("connect_timeout", 1000 * MILLISECOND, 10 * MILLISECOND..=60_000 * MILLISECOND);

    let place = section.place().clone();
    let given = [url.is_some(), host.is_some(), sentinel.is_some(), !nodes.is_empty()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        let message = "expected one of url, host, sentinel and cluster, got several";
        section.problem(if url.is_some() { "url" } else { "host" }, &place, message);
    }
    if !nodes.is_empty() && db != 0 {
        section.problem("db", &place, format!("a cluster has only database 0, got {db}"));
    }
    let mut config_db = db;
    let place = match (url, host, sentinel) {
        (Some(url), ..) => {
            config_db = url.db.unwrap_or(db);
            login.user = url.user.or(login.user);
            login.password = url.password.or(login.password);
            tls = tls.or(url.tls.then(RedisTls::default));
            RedisPlace::Server(url.address)
        }
        (None, Some(host), _) => {
            RedisPlace::Server(RedisAddress { host, port: u16::try_from(port).unwrap_or(6379) })
        }
        (None, None, Some(sentinel)) => sentinel,
        (None, None, None) if !nodes.is_empty() => RedisPlace::Cluster(nodes),
        (None, None, None) => return None,
    };
    Some(RedisConfig { place, db: config_db, login, tls, max_connections, timeout, connect_timeout })
}

fn login(section: &mut Section<'_>) -> RedisLogin {
    let login = RedisLogin {
        user: section.take::<Option<Line>>("user", None).map(|line| line.0),
        password: section.take("password", None),
        password_file: section.take("password_file", None),
    };
    if login.password.is_some() && login.password_file.is_some() {
        let place = section.place().clone();
        section.problem("password_file", &place, "expected password or password_file, got both");
    }
    login
}

fn tls(section: &mut Section<'_>) -> Option<RedisTls> {
    let enabled = section.take("enabled", false);
    let tls = RedisTls {
        ca: section.take("ca", None),
        cert: section.take("cert", None),
        key: section.take("key", None),
    };
    let place = section.place().clone();
    if tls.cert.is_some() != tls.key.is_some() {
        section.problem("cert", &place, "expected cert and key together, got one of them");
    }
    if enabled || tls != RedisTls::default() { Some(tls) } else { None }
}

fn sentinel(section: &mut Section<'_>) -> Option<RedisPlace> {
    let nodes: Vec<RedisAddress> = section.take_if("nodes", Vec::new(), |nodes| at_most_nodes(nodes));
    let master = section.take("master", Line("mymaster".to_owned())).0;
    let login = login(section);
    (!nodes.is_empty()).then_some(RedisPlace::Sentinel { nodes, master, login })
}

fn at_most_nodes(nodes: &[RedisAddress]) -> Result<(), String> {
    if nodes.len() <= MOST_NODES {
        return Ok(());
    }
    Err(format!("expected at most {MOST_NODES} addresses, got {}", nodes.len()))
}
