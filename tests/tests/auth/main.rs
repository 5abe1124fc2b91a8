//! Who asks: tokens, API keys, scopes, limits and the audit log, at the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod https;
mod issuer;
mod issuer_server;
mod jwks;
mod keys;
mod limits;
mod scopes;
mod secrets;
mod tokens;

use std::path::Path;

use nuke_tests::{Answer, Client, Repository, Server, ServerBuilder, slow_request};
use serde_json::{Value, json};

/// What every host here has: the secret of the tests' issuer, and a model that takes its time.
struct Setup {
    folder: tempfile::TempDir,
    repository: Repository,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("jwt.key"), issuer::SECRET).unwrap();
        // Nobody here is refused by a queue, however long the machine makes them wait.
        let patient = "queue: {timeout: 1m}\n";
        let repository = Repository::new().model("slow", "1", "slow").model_yaml(patient);
        let repository = repository.model("other", "1", "slow").model_yaml(patient);
        Self { folder, repository }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Puts another file in a file's place, whole: a host that looks at it never sees a part.
    fn replace(&self, name: &str, text: &str) {
        std::fs::write(self.path("next"), text).unwrap();
        std::fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    /// A host whose config.yaml this is.
    fn builder(&self, config: &str) -> ServerBuilder {
        std::fs::write(self.path("config.yaml"), config).unwrap();
        let config = self.path("config.yaml");
        Server::builder().repository(&self.repository).arg("--config").arg(config)
    }

    /// A host that believes the tests' issuer and the keys of keys.yaml.
    fn start(&self, more: &str) -> Server {
        if !self.path("keys.yaml").exists() {
            std::fs::write(self.path("keys.yaml"), "keys: []\n").unwrap();
        }
        self.builder(&format!("{AUTH}{more}")).start()
    }
}

const AUTH: &str = "\
auth:
  jwt: {keys: [{algorithm: HS256, file: jwt.key}], issuer: me, audience: nuke}
  api_keys: {file: keys.yaml}
";

/// Asks the model `slow` for a millisecond.
fn infer(client: &Client, pair: (&str, &str)) -> Answer {
    infer_for(client, "slow", 1, pair)
}

fn infer_for(client: &Client, model: &str, milliseconds: u32, (name, value): (&str, &str)) -> Answer {
    let body = slow_request(milliseconds).to_string();
    let request = client.request("POST", &format!("/v2/models/{model}/infer")).body(body);
    request.header("content-type", "application/json").header(name, value).send()
}

/// The same with a token, or a key in its place.
fn infer_as(client: &Client, token: &str) -> Answer {
    infer(client, ("authorization", &bearer(token)))
}

/// The status of the answer to that.
fn ask(server: &Server, token: &str) -> u16 {
    infer_as(&server.client(), token).status
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Runs `nuke keys` on a file, and returns what it printed as JSON.
fn keys(file: &Path, arguments: &[&str]) -> Value {
    let output = nuke_tests::nuke()
        .arg("keys")
        .args(arguments)
        .arg("--json")
        .arg("--file")
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(json!(null))
}

/// An answer to somebody who is not known: always the same, whatever is wrong.
#[track_caller]
fn unauthenticated(answer: &Answer) {
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"nuke\""));
    assert_eq!(
        answer.text_without_id(),
        r#"{"error":"the credentials are not valid","code":"unauthenticated"}"#
    );
}
