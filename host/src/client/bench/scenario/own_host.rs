//! A host that a scenario starts: this very program in a process of its own, on a free port of the loopback.
//!
//! Owns the process from its start to its end: dropped, it is ended. What it says goes to a file, and is shown
//! only if it does not come up.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::super::super::error::ClientError;
use super::super::super::exchange::{Outgoing, fetch};
use super::super::super::host::Host;
use super::super::super::text;
use super::workplace::Workplace;

/// How long a host may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks.
const NAP: Duration = Duration::from_millis(10);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(5);
/// Of its log, in characters, when it does not come up.
const QUOTED: usize = 1500;
/// Variables that a host of the scenario takes over; all others of the host's would change what is compared.
const KEPT: [&str; 3] = ["NUKE_ORT_LIB", "NUKE_RUNTIME__", "NUKE_CACHE"];

/// See the module.
#[derive(Debug)]
pub(super) struct OwnHost {
    child: Child,
    log: PathBuf,
    url: Host,
}

impl OwnHost {
    /// Starts a host on the workplace's model, and waits until that is ready.
    ///
    /// # Errors
    /// [`ClientError::Usage`] if it ends, fails or takes too long, with what it said.
    pub(super) fn start(place: &Workplace, stop: &AtomicBool) -> Result<Self, ClientError> {
        let log = place.log();
        let cannot = |error: std::io::Error| ClientError::Usage(format!("cannot start a host: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
        command.args(["serve", "--http", "127.0.0.1:0", "--log", "info", "--log-format", "json"]);
        command.arg("--config").arg(place.config()).arg("--models").arg(place.models());
        command.arg("--plugins").arg(place.plugins()).args(["--set", "log.access=false"]);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("NUKE_") && !KEPT.iter().any(|kept| name.starts_with(kept)) {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).map_err(cannot)?);
        let child = command.spawn().map_err(cannot)?;
        let nowhere = "http://127.0.0.1:0".parse().map_err(ClientError::Usage)?;
        let mut host = Self { child, log, url: nowhere };
        let begun = Instant::now();
        host.url = host.wait(stop, begun, |host| Ok(host.address()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        host.wait(stop, begun, |host| host.is_ready(&runtime, &place.model))?;
        Ok(host)
    }

    /// Where it listens.
    pub(super) const fn url(&self) -> &Host {
        &self.url
    }

    fn wait<T>(
        &mut self,
        stop: &AtomicBool,
        begun: Instant,
        look: impl Fn(&Self) -> Result<Option<T>, ClientError>,
    ) -> Result<T, ClientError> {
        loop {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            if stop.load(Ordering::Relaxed) {
                return Err(ClientError::Usage("ended while a host was starting".to_owned()));
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.complaint(&format!("the host ended ({status})")));
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.complaint(&format!("the host was not ready after {PATIENCE:?}")));
            }
            std::thread::sleep(NAP);
        }
    }

    fn complaint(&self, what: &str) -> ClientError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let skipped = log.chars().count().saturating_sub(QUOTED);
        let end: String = log.chars().skip(skipped).collect();
        ClientError::Usage(format!("{what}; its log ends with:\n{}", text::printable(end.trim_end())))
    }

    /// The address that its log names.
    fn address(&self) -> Option<Host> {
        let log = fs::read_to_string(&self.log).ok()?;
        let line = log.lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "listening").then(|| line["address"].as_str().map(str::to_owned))?
        })?;
        format!("http://{line}").parse().ok()
    }

    /// `Some` once all has been loaded and the model serves.
    fn is_ready(&self, runtime: &Runtime, model: &str) -> Result<Option<()>, ClientError> {
        let ask = |path: String| {
            let outgoing =
                Outgoing { method: Method::GET, path, headers: HeaderMap::new(), body: Bytes::new() };
            runtime.block_on(fetch(&self.url, outgoing, LOOK))
        };
        if !ask("/v2/health/ready".to_owned()).is_ok_and(|answer| answer.status.is_success()) {
            return Ok(None);
        }
        let answer = ask(super::super::super::host::model_path(model, None))?;
        if answer.status.is_success() {
            return Ok(Some(()));
        }
        Err(ClientError::from_answer(answer.status, &answer.body))
    }
}

impl Drop for OwnHost {
    fn drop(&mut self) {
        // It holds nothing that is worth an orderly end. Both fail only if it has ended.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
