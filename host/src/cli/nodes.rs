//! This host among those that share a Redis.
//!
//! Owns the order of it: what the others agree on is taken over before anything is loaded,
//! and this node is taken off the list after the last request.

use std::sync::Arc;

use super::listeners::Listeners;
use crate::config::ServerConfig;
use crate::http::Lifecycle;
use crate::nodes::{Addresses, Identity, Nodes, Shelf};
use crate::repository::{Decisions, KeeperHandle, ModelIndex, Sharing};
use crate::store::Store;
use crate::telemetry::{Metrics, NodeMetrics};

/// See the module.
pub(super) struct Fleet {
    /// Who is there.
    pub(super) nodes: Arc<Nodes>,
    /// What they agree on; `None` without a store.
    pub(super) sharing: Option<Arc<Sharing>>,
}

impl Fleet {
    /// Takes over what nodes agree on.
    pub(super) async fn open(
        config: &ServerConfig,
        (store, metrics): (Option<Store>, &Metrics),
        listeners: &Listeners,
        (index, decisions): (&Arc<ModelIndex>, &Arc<Decisions>),
        lifecycle: &Arc<Lifecycle>,
    ) -> Self {
        let identity = Identity::new(config.node.name.clone());
        let text = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string());
        let addresses = Addresses {
            http: listeners.address.to_string(),
            https: text(listeners.https_address),
            grpc: text(listeners.grpc_address),
            admin: text(listeners.admin_address),
        };
        let seen = store.as_ref().map(|_| metrics.nodes());
        let sharing = store.clone().zip(seen.clone()).map(|(store, seen)| {
            let (index, decisions) = (Arc::clone(index), Arc::clone(decisions));
            Arc::new(Sharing::new(Shelf::new(store), &identity.id, index, decisions, seen))
        });
        if let Some(sharing) = &sharing {
            sharing.begin().await;
        }
        let lifecycle = Arc::clone(lifecycle);
        let state = Box::new(move || lifecycle.as_str());
        let seen = seen.unwrap_or_else(|| Arc::new(NodeMetrics::default()));
        let beat = (store, config.node.heartbeat);
        let nodes = Nodes::new((identity, addresses), state, Arc::clone(index), beat, seen);
        Self { nodes: Arc::new(nodes), sharing }
    }

    /// Begins to exchange with the others.
    pub(super) fn start(&self, keeper: KeeperHandle) {
        tokio::spawn(Arc::clone(&self.nodes).run());
        if let Some(sharing) = &self.sharing {
            tokio::spawn(Arc::clone(sharing).run(keeper, Arc::clone(&self.nodes)));
        }
    }

    /// This host serves no more.
    pub(super) async fn leave(&self) {
        if let Some(sharing) = &self.sharing {
            sharing.end().await;
        }
        self.nodes.leave().await;
    }
}
