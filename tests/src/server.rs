//! A running host: the real binary in a process of its own, with its log.
//!
//! Owns the process from its start to its end; it never outlives the [`Server`].

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Answer, Client};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::raw::RawConnection;
use crate::repository::Repository;
use crate::{binary, nuke, paths};

/// What nothing that is waited for should take, however busy the machine is.
const GUARD: Duration = Duration::from_secs(120);
/// From SIGTERM to SIGKILL when a test is over.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within two minutes.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < GUARD, "waited {GUARD:?} in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// How a host is to be started.
#[derive(Debug, Default)]
pub struct ServerBuilder {
    models: Option<PathBuf>,
    plugins: Option<PathBuf>,
    repository: Option<Arc<TempDir>>,
    settings: Vec<(String, String)>,
    arguments: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    unready: bool,
}

impl ServerBuilder {
    /// Serves this folder of models; without one, an empty folder.
    #[must_use]
    pub fn models(mut self, folder: impl AsRef<Path>) -> Self {
        self.models = Some(folder.as_ref().to_path_buf());
        self
    }

    /// Takes shared plugins from this folder; without one, from an empty folder.
    #[must_use]
    pub fn plugins(mut self, folder: impl AsRef<Path>) -> Self {
        self.plugins = Some(folder.as_ref().to_path_buf());
        self
    }

    /// Serves the models of a repository, with its plugins. Its folder stays as long as the server.
    #[must_use]
    pub fn repository(mut self, repository: &Repository) -> Self {
        self.repository = Some(repository.folder());
        self.models(repository.models()).plugins(repository.plugins())
    }

    /// Sets a key of the configuration, as `--set KEY=VALUE` does.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Adds an argument after `nuke serve`.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Returns as soon as the host listens, before its models are loaded.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.unready = true;
        self
    }

    /// Starts the host and waits until it is ready.
    ///
    /// # Panics
    /// If it ends instead; the panic shows its log.
    #[track_caller]
    pub fn start(self) -> Server {
        self.try_start().unwrap_or_else(|exited| panic!("the host ended at its start: {exited}"))
    }

    /// Starts the host and waits until it is ready.
    ///
    /// # Errors
    /// How it ended instead.
    pub fn try_start(self) -> Result<Server, Exited> {
        let unready = self.unready;
        let mut server = self.spawn();
        server.wait_for_address()?;
        if !unready {
            server.wait_until_ready()?;
        }
        Ok(server)
    }

    fn spawn(self) -> Server {
        let folder = tempfile::Builder::new().prefix("nuke-serve-").tempdir();
        let folder = folder.expect("a folder for temporary files");
        let mut command = nuke();
        command.current_dir(folder.path()).args(["serve", "--http", "127.0.0.1:0", "--log-format", "json"]);
        command.arg("--models").arg(self.models.unwrap_or_else(|| empty(&folder, "models")));
        command.arg("--plugins").arg(self.plugins.unwrap_or_else(|| empty(&folder, "plugins")));
        // Repositories of tests are as fresh as can be: waiting out the usual second at each start is of no use.
        let compiled = paths::scratch("compiled").display().to_string();
        let validated = paths::scratch("validated").display().to_string();
        for (key, value) in [
            ("plugins.compile_cache", compiled.as_str()),
            ("repository.validation.verdicts", validated.as_str()),
            ("repository.quiet", "50ms"),
        ] {
            if !self.settings.iter().any(|(set, _)| set == key) {
                command.arg("--set").arg(format!("{key}={value}"));
            }
        }
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.args(self.arguments).envs(self.variables);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
        let log = Log::create();
        let readers = vec![log.follow(child.stdout.take()), log.follow(child.stderr.take())];
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let (client, _repository) = (Client::new(""), self.repository);
        Server { child, readers, log, address, client, _folder: folder, _repository }
    }
}

fn empty(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// A host that has ended.
#[derive(Debug)]
pub struct Exited {
    /// How.
    pub status: ExitStatus,
    /// All that it wrote, in lines.
    pub logs: Vec<String>,
}

impl std::fmt::Display for Exited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}", self.status, self.logs.join("\n"))
    }
}

/// A running host. Dropped, it is stopped; if the test has failed, the end of its log is shown.
#[derive(Debug)]
pub struct Server {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    log: Log,
    address: SocketAddr,
    client: Client,
    _folder: TempDir,
    _repository: Option<Arc<TempDir>>,
}

impl Server {
    /// How to start one.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Where it listens, as `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens beside that: `https` or `admin`.
    ///
    /// # Panics
    /// If it does not listen there.
    #[track_caller]
    pub fn also_at(&self, name: &str) -> SocketAddr {
        let lines = self.log.lines();
        let mut lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| line["message"] == "listening").expect("it listens");
        line[name]
            .as_str()
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {line}"))
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A client; all from one server share their kept connections.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A bare connection.
    #[track_caller]
    pub fn connect(&self) -> RawConnection {
        RawConnection::open(self.address)
    }

    /// `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.client.get(path)
    }

    /// `POST path` with a body and its media type; an empty type sends no header.
    #[track_caller]
    pub fn post(&self, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.client.post(path, content_type, body)
    }

    /// `POST path` with a JSON body.
    #[track_caller]
    pub fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.client.post_json(path, body)
    }

    /// A reading of `/metrics`.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let ask = || self.client.request("GET", "/metrics").try_send();
        // The host may end a kept connection, idle or crowded out, in the moment in which it is used again.
        let answer = ask().or_else(|_| ask()).unwrap_or_else(|error| panic!("no answer came: {error}"));
        Metrics::new(answer.expect(200).text())
    }

    /// State and reason of one version in the repository index.
    ///
    /// # Panics
    /// If it is not there.
    #[track_caller]
    pub fn state(&self, model: &str, version: &str) -> (String, String) {
        let index = self.post("/v2/repository/index", "", "").expect(200).json();
        let entries = index.as_array().expect("the index is a list");
        let entry = entries.iter().find(|entry| entry["name"] == model && entry["version"] == version);
        let entry = entry.unwrap_or_else(|| panic!("{model} {version} is not in {index}"));
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("reason"))
    }

    /// All lines so far. The host writes its lines together, some 50 ms after the first: this waits that
    /// long. On a busy machine it takes longer: a line that has to be there is waited for by [`eventually`].
    pub fn logs(&self) -> Vec<String> {
        std::thread::sleep(std::time::Duration::from_millis(100));
        self.log.lines()
    }

    /// Waits until so many lines have this text in them; there are no more of them then.
    ///
    /// # Panics
    /// If there are more.
    #[track_caller]
    pub fn tells(&self, text: &str, times: usize) {
        let count = |lines: Vec<String>| lines.iter().filter(|line| line.contains(text)).count();
        eventually(&format!("the log has {text:?}"), || count(self.log.lines()) >= times);
        assert_eq!(count(self.logs()), times, "{text:?}");
    }

    /// The JSON lines so far of one target (`access`, `plugin`, `nuke_host::…`).
    pub fn log_lines(&self, target: &str) -> Vec<Value> {
        let lines = self.logs().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        lines.filter(|line| line["target"] == target).collect()
    }

    /// Where all lines are written to as well, until the server is dropped by a test that passes.
    pub fn log_file(&self) -> &Path {
        self.log.path()
    }

    /// Memory of the process that is in RAM, in bytes.
    ///
    /// # Panics
    /// If it has ended.
    pub fn rss(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let kibibytes = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        });
        kibibytes.unwrap_or_else(|| panic!("no VmRSS: the host has ended")) << 10
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Sends a signal and returns at once.
    pub fn signal(&self, signal: Signal) {
        // A process that has ended needs no signal.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// If it does not come within two minutes.
    #[track_caller]
    pub fn terminate(mut self) -> Exited {
        self.signal(Signal::TERM);
        self.wait_for_exit()
    }

    /// Waits for the end, which something else has brought about.
    ///
    /// # Panics
    /// If it does not come within two minutes.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> Exited {
        let mut status = None;
        eventually("the host ends", || {
            status = self.child.try_wait().expect("a child of this process");
            status.is_some()
        });
        self.exited(status.expect("it has ended"))
    }

    fn exited(&mut self, status: ExitStatus) -> Exited {
        for reader in self.readers.drain(..) {
            // What a reader that panicked has read is in the log.
            let _ = reader.join();
        }
        Exited { status, logs: self.log.lines() }
    }

    fn wait_for_address(&mut self) -> Result<(), Exited> {
        self.wait_for("the line `listening`", |server| {
            let address = server.logs().iter().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                (line["message"] == "listening").then(|| line["address"].as_str()?.parse().ok())?
            });
            server.address = address.unwrap_or(server.address);
            address.is_some()
        })?;
        self.client = Client::new(&self.url());
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<(), Exited> {
        self.wait_for("/v2/health/ready", |server| {
            let request = server.client.request("GET", "/v2/health/ready");
            request.try_send().is_ok_and(|answer| answer.status == 200)
        })
    }

    fn wait_for(&mut self, what: &str, condition: impl Fn(&mut Self) -> bool) -> Result<(), Exited> {
        let mut ended = None;
        eventually(what, || {
            ended = self.child.try_wait().expect("a child of this process");
            ended.is_some() || condition(self)
        });
        match ended {
            Some(status) => Err(self.exited(status)),
            None => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while self.is_running() && asked.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !thread::panicking() {
            let _ = std::fs::remove_file(self.log.path());
            return;
        }
        let lines = self.logs();
        let last: Vec<String> = lines.iter().rev().take(25).rev().map(|line| shorten(line)).collect();
        eprintln!("the host's log ({}) ends:\n{}", self.log.path().display(), last.join("\n"));
    }
}

fn shorten(line: &str) -> String {
    line.chars().take(1000).collect()
}
