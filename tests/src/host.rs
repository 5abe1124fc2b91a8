//! A running host together with the folder that it serves.
//!
//! Owns that the folder outlives the host, for tests that make both in one place.

use std::ops::Deref;

use crate::repository::Repository;
use crate::server::{Server, ServerBuilder};

/// A host, and its folder of models. Everything that a [`Server`] can be asked, this can.
#[derive(Debug)]
pub struct Host {
    /// The host; it ends before its folder goes.
    pub server: Server,
    /// What it serves.
    pub repository: Repository,
}

impl Host {
    /// Starts the host that `builder` makes of a folder.
    pub fn start(repository: Repository, builder: impl FnOnce(&Repository) -> ServerBuilder) -> Self {
        let server = builder(&repository).start();
        Self { server, repository }
    }
}

impl Deref for Host {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
