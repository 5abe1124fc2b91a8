//! A running Redis: the real server on a free port of the loopback, with nothing on disk.
//!
//! Owns the process from its start to its end; it never outlives the [`Redis`]. It speaks to the server in plain
//! words over a connection of its own, so that a test needs no client library.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::paths::{redis_server, scratch};
use crate::server::eventually;

/// How long a server has to answer a test.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    arguments: Vec<String>,
    /// Where its own things are said: a Sentinel's file, and that is all.
    file: Option<&'static str>,
    port: u16,
    /// Nobody else takes its ports, also while it is away.
    ports: Vec<File>,
    is_plain: bool,
    folder: TempDir,
}

impl Redis {
    /// A server with nothing special.
    ///
    /// # Panics
    /// If there is no Redis, or it does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server with more arguments, as in its configuration file: `--maxmemory`, `2mb`.
    ///
    /// # Panics
    /// As [`Redis::start`].
    #[track_caller]
    pub fn with(arguments: &[&str]) -> Self {
        let mut redis = Self::prepared("port", arguments);
        redis.spawn();
        redis
    }

    /// A server that speaks only TLS, with the certificate, key and authority in these files.
    ///
    /// # Panics
    /// As [`Redis::start`].
    #[track_caller]
    pub fn with_tls(cert: &Path, key: &Path, authority: &Path, arguments: &[&str]) -> Self {
        let mut redis = Self::prepared("tls-port", arguments);
        redis.is_plain = false;
        for (name, path) in [("cert-file", cert), ("key-file", key), ("ca-cert-file", authority)] {
            redis.arguments.extend([format!("--tls-{name}"), path.display().to_string()]);
        }
        redis.arguments.extend(["--port".to_owned(), "0".to_owned()]);
        redis.spawn();
        redis
    }

    /// A Sentinel that watches this master under the name `mymaster`, where one Sentinel's word is enough.
    ///
    /// # Panics
    /// As [`Redis::start`].
    #[track_caller]
    pub fn sentinel(master: &Self) -> Self {
        let mut sentinel = Self::prepared("port", &[]);
        let text = format!(
            "sentinel monitor mymaster 127.0.0.1 {} 1\nsentinel down-after-milliseconds mymaster 500\n\
             sentinel failover-timeout mymaster 2000\n",
            master.port
        );
        std::fs::write(sentinel.folder.path().join("sentinel.conf"), text).expect("a Sentinel's file");
        sentinel.file = Some("sentinel.conf");
        sentinel.arguments.clear();
        sentinel.arguments.extend(["--sentinel".to_owned(), "--port".to_owned(), sentinel.port.to_string()]);
        sentinel.spawn();
        sentinel
    }

    fn prepared(port_name: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("nuke-redis-").tempdir();
        let folder = folder.expect("a folder for temporary files");
        let (port, lock) = free_port();
        let mut own: Vec<String> = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir"]
            .map(ToOwned::to_owned)
            .to_vec();
        own.extend([folder.path().display().to_string(), format!("--{port_name}"), port.to_string()]);
        own.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Self { child: None, arguments: own, file: None, port, ports: vec![lock], is_plain: true, folder }
    }

    #[track_caller]
    fn spawn(&mut self) {
        let mut command = Command::new(redis_server());
        command.current_dir(self.folder.path()).args(self.file).args(&self.arguments);
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log");
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", redis_server().display()));
        self.child = Some(child);
        eventually("redis answers", || {
            let ended =
                self.child.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            assert!(!ended, "redis ended at its start:\n{}", self.log());
            match self.is_plain {
                // It may ask for a password first; that is an answer, too.
                true => self.try_ask(&["PING"]).is_ok_and(|answer| !answer.starts_with("-LOADING")),
                false => TcpStream::connect(("127.0.0.1", self.port)).is_ok(),
            }
        });
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it is, as a URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// What it answers to a command: `+OK`, `-ERR …`, `:1`, or the text of a string; of an array, all of it in
    /// lines.
    ///
    /// # Panics
    /// If it does not answer.
    #[track_caller]
    pub fn ask(&self, command: &[&str]) -> String {
        self.try_ask(command).unwrap_or_else(|error| panic!("{command:?}: {error}\n{}", self.log()))
    }

    fn try_ask(&self, command: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = format!("*{}\r\n", command.len());
        for part in command {
            text.push_str(&format!("${}\r\n{part}\r\n", part.len()));
        }
        stream.write_all(text.as_bytes())?;
        answer(&mut BufReader::new(stream))
    }

    /// A signal, such as `STOP` and `CONT`; returns at once.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // One that has ended needs no signal.
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// Ends it at once, as the system does for want of memory.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Ended already, then.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port, empty, after [`Redis::kill`].
    ///
    /// # Panics
    /// As [`Redis::start`].
    #[track_caller]
    pub fn start_again(&mut self) {
        self.kill();
        self.spawn();
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A master, its replica and a Sentinel that watches both.
#[derive(Debug)]
pub struct SentinelPair {
    /// The master at the beginning.
    pub master: Redis,
    /// What takes its place.
    pub replica: Redis,
    /// Who decides that.
    pub sentinel: Redis,
}

impl SentinelPair {
    /// Starts the three.
    ///
    /// # Panics
    /// If they do not come together.
    #[track_caller]
    pub fn start() -> Self {
        let master = Redis::with(&["--repl-diskless-sync-delay", "0"]);
        let replica = Redis::with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
        eventually("the replica follows", || {
            replica.ask(&["INFO", "replication"]).contains("master_link_status:up")
        });
        let sentinel = Redis::sentinel(&master);
        eventually("the sentinel knows the replica", || {
            sentinel.ask(&["SENTINEL", "REPLICAS", "mymaster"]).contains(&replica.port.to_string())
        });
        Self { master, replica, sentinel }
    }
}

/// A Cluster of three masters.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes, each with a third of the slots.
    pub nodes: Vec<Redis>,
}

impl Cluster {
    /// Starts three nodes and waits until they agree; `arguments` are for each of them.
    ///
    /// # Panics
    /// If they do not.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        let bounds = [0, 5461, 10_923, 16_384];
        let mut nodes = Vec::new();
        for part in bounds.windows(2) {
            let (bus, lock) = free_port();
            let bus = bus.to_string();
            let own = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus];
            let mut node = Redis::with(&[&own[..], arguments].concat());
            node.ports.push(lock);
            let slots = ["CLUSTER", "ADDSLOTSRANGE", &part[0].to_string(), &(part[1] - 1).to_string()];
            assert_eq!(node.ask(&slots), "+OK");
            nodes.push((node, bus));
        }
        for (node, bus) in &nodes[1..] {
            let meet = ["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), bus];
            assert_eq!(nodes[0].0.ask(&meet), "+OK");
        }
        for (node, _) in &nodes {
            eventually("the cluster is whole", || {
                let info = node.ask(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            });
        }
        Self { nodes: nodes.into_iter().map(|(node, _)| node).collect() }
    }

    /// Where they are, with commas between.
    pub fn addresses(&self) -> String {
        self.nodes.iter().map(Redis::address).collect::<Vec<_>>().join(",")
    }
}

/// A port that nobody listens at now, and what keeps other tests from it: a server may be about to listen, or
/// be away for a moment.
fn free_port() -> (u16, File) {
    // Below the system's own range, so that no outgoing connection takes it meanwhile, and above the usual servers.
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 100).unwrap_or(0) * 100;
    loop {
        let port = 20_000 + (spread + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let lock = File::create(scratch("ports").join(port.to_string())).expect("a lock for a port");
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            && TcpListener::bind(("127.0.0.1", port)).is_ok()
        {
            return (port, lock);
        }
    }
}

/// One answer of the protocol, arrays in lines.
fn answer(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end().to_owned();
    let count = || line.get(1..).and_then(|digits| digits.parse::<i64>().ok()).unwrap_or(-1);
    match line.as_bytes().first() {
        Some(b'$') => {
            let Ok(length) = usize::try_from(count()) else { return Ok("(nil)".to_owned()) };
            let mut text = vec![0; length + 2];
            reader.read_exact(&mut text)?;
            text.truncate(length);
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Some(b'*') => {
            let mut lines = Vec::new();
            for _ in 0..count().max(0) {
                lines.push(answer(reader)?);
            }
            Ok(lines.join("\n"))
        }
        _ => Ok(line),
    }
}
