//! What several hosts share by Redis: API keys, revocations and limits, at the real binary and a real Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod failover;
mod faults;
mod keys;
mod limits;
mod places;
mod undecided;

use std::time::Instant;

use nuke_tests::{Answer, Client, Redis, Repository, Server, nuke, slow_request};
use serde_json::{Value, json};

/// A Redis, and hosts that share it.
struct Fleet<R = Redis> {
    folder: tempfile::TempDir,
    repository: Repository,
    redis: R,
    /// `cache.redis` of all hosts.
    place: String,
}

impl Fleet {
    fn new() -> Self {
        let redis = Redis::start();
        let place = format!("{{url: '{}'}}", redis.url());
        Self::at(redis, place)
    }

    fn url(&self) -> String {
        self.redis.url()
    }
}

impl<R> Fleet<R> {
    fn at(redis: R, place: String) -> Self {
        let repository = Repository::new().model("slow", "1", "slow");
        let fleet = Self { folder: tempfile::tempdir().unwrap(), repository, redis, place };
        fleet.write_config("");
        fleet
    }

    /// The configuration of all hosts, with more at its end.
    fn write_config(&self, more: &str) {
        let config = format!(
            "cache: {{namespace: fleet, redis: {}}}\n\
             auth: {{api_keys: {{redis: true, file: keys.yaml}}}}\n{more}",
            self.place
        );
        std::fs::write(self.path("config.yaml"), config).unwrap();
        if !self.path("keys.yaml").exists() {
            std::fs::write(self.path("keys.yaml"), "keys: []\n").unwrap();
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn host(&self) -> Server {
        Server::builder().repository(&self.repository).arg("--config").arg(self.path("config.yaml")).start()
    }

    /// Runs `nuke keys` with the hosts' configuration, and returns what it printed as JSON.
    fn keys(&self, arguments: &[&str]) -> Value {
        let config = self.path("config.yaml");
        run_keys(&[arguments, &["--json", "--config", config.to_str().unwrap()]].concat()).unwrap()
    }

    /// A key for everybody, known to these hosts.
    fn key_for(&self, hosts: &[&Server]) -> String {
        let made = self.keys(&["create", "ci", "--scope", "predict:*"]);
        let key = text(&made, "key");
        for host in hosts {
            within_a_second("a new key at a host", || ask(host, &key) == 200);
        }
        key
    }
}

/// Runs `nuke keys`; what it said is wrong, if it failed.
fn run_keys(arguments: &[&str]) -> Result<Value, String> {
    let output = nuke().arg("keys").args(arguments).output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap_or(json!(null))),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no '{name}' in {value}")).to_owned()
}

/// Asks the model for a millisecond.
fn infer(client: &Client, key: &str) -> Answer {
    let request = client.request("POST", "/v2/models/slow/infer").body(slow_request(1).to_string());
    request.header("content-type", "application/json").header("x-api-key", key).send()
}

fn ask(host: &Server, key: &str) -> u16 {
    infer(&host.client(), key).status
}

/// Waits for something that is promised within a second, and prints how long it took. A machine that is busy with
/// other things is given more.
#[track_caller]
fn within_a_second(what: &str, condition: impl FnMut() -> bool) {
    let began = Instant::now();
    nuke_tests::eventually(what, condition);
    println!("{what}: after {} ms", began.elapsed().as_millis());
}
