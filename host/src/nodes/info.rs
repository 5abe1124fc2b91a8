//! What a node says of itself.
//!
//! Owns the form that it is kept in, and what is read of others' is held to.

use serde::{Deserialize, Serialize};

use crate::repository::{Model, ModelIndex};

/// Bytes that a node may say of itself.
const LONGEST: usize = 8 << 20;

/// A node and what it serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// No other node and no other process has it.
    pub id: String,
    /// What its operator calls it.
    pub name: String,
    /// Where it listens.
    pub addresses: Addresses,
    /// The host's version.
    pub version: String,
    /// When the process began, in milliseconds since 1970.
    pub started: u64,
    /// When it said this, in milliseconds since 1970.
    pub at: u64,
    /// `starting`, `ready`, `draining` or `stopping`.
    pub state: String,
    /// Requests that use a version now.
    pub in_use: u64,
    /// Requests that wait for a worker now.
    pub waiting: u64,
    /// Its models.
    pub models: Vec<NodeModel>,
}

/// Where a node listens; addresses of loopback lead to it from its own machine only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// HTTP.
    pub http: String,
    /// HTTP over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// gRPC, where it has an address of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
    /// The admin interface, where it has an address of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
}

/// A model on a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeModel {
    /// Its name.
    pub name: String,
    /// The strategy of its traffic.
    pub strategy: String,
    /// Its versions, the earliest first.
    pub versions: Vec<NodeVersion>,
}

/// A version on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeVersion {
    /// Its name.
    pub version: String,
    /// As in the repository index.
    pub state: String,
    /// The SHA-256 of its content, if it serves: equal digests are equal answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl NodeInfo {
    /// What the node of this id says of itself; `None` if that is nothing that a host says.
    pub fn read(id: &[u8], bytes: &[u8]) -> Option<Self> {
        if bytes.len() > LONGEST {
            return None;
        }
        serde_json::from_slice(bytes).ok().filter(|info: &Self| info.id.as_bytes() == id)
    }

    /// The versions of a model that answer on this node.
    pub fn serving(&self, model: &str) -> usize {
        let found = self.models.iter().find(|one| one.name == model);
        found.map_or(0, |one| one.versions.iter().filter(|version| version.digest.is_some()).count())
    }
}

/// All models of an index as a node tells of them.
pub(super) fn models(index: &ModelIndex) -> Vec<NodeModel> {
    index.all().iter().map(|(name, model)| describe(name, model)).collect()
}

fn describe(name: &str, model: &Model) -> NodeModel {
    let versions = model.versions.iter().map(|(version, status)| NodeVersion {
        version: version.clone(),
        state: status.as_str().to_owned(),
        digest: status.found().map(|found| found.digest().to_owned()),
    });
    NodeModel {
        name: name.to_owned(),
        strategy: model.traffic.strategy().to_owned(),
        versions: versions.collect(),
    }
}

/// Requests that use versions of an index, and that wait for them.
pub(super) fn load(index: &ModelIndex) -> (u64, u64) {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let generations = index.generations();
    let sum = |of: fn(&crate::pipeline::Generation) -> usize| {
        generations.iter().map(|generation| count(of(generation))).sum()
    };
    (sum(|one| one.usage().in_use()), sum(|one| one.scheduler().waiting()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_node_says_is_read_or_passed_over() {
        let version = |name: &str, digest: Option<&str>| NodeVersion {
            version: name.to_owned(),
            state: "ready".to_owned(),
            digest: digest.map(str::to_owned),
        };
        let model = NodeModel {
            name: "m".to_owned(),
            strategy: "latest".to_owned(),
            versions: vec![version("1", Some("ab")), version("2", None)],
        };
        let info = NodeInfo { id: "a".to_owned(), models: vec![model], ..NodeInfo::default() };
        let bytes = serde_json::to_vec(&info).unwrap();
        assert_eq!(NodeInfo::read(b"a", &bytes), Some(info.clone()));
        assert_eq!((info.serving("m"), info.serving("n")), (1, 0));
        for cut in 0..bytes.len() {
            assert_eq!(NodeInfo::read(b"a", &bytes[..cut]), None);
        }
        assert_eq!(NodeInfo::read(b"b", &bytes), None, "it is another node's");
        assert_eq!(NodeInfo::read(b"a", br#"{"id": 7}"#), None);
        assert_eq!(NodeInfo::read(b"a", &vec![b' '; LONGEST + 1]), None);
    }
}
