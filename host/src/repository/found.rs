//! What a request found in the index: a version in memory, or the door of one that is loaded on demand.
//!
//! Owns the way from either to a generation. Requests for what is in memory never wait here.

use std::sync::Arc;
use std::time::Instant;

use super::door::Door;
use super::index::ModelIndex;
use crate::error::{Error, ErrorCode};
use crate::pipeline::Generation;

/// See the module.
#[derive(Clone, Debug)]
pub enum Found {
    /// It is in memory.
    Loaded(Arc<Generation>),
    /// It is loaded for whoever waits at its door.
    Standby(Arc<Door>),
}

impl Found {
    /// The model's name.
    pub fn model(&self) -> &str {
        match self {
            Self::Loaded(generation) => generation.model(),
            Self::Standby(door) => door.model(),
        }
    }

    /// The version's name.
    pub fn version(&self) -> &str {
        match self {
            Self::Loaded(generation) => generation.version(),
            Self::Standby(door) => door.version(),
        }
    }

    /// Tells its content from every other, in hexadecimal.
    pub fn digest(&self) -> &str {
        match self {
            Self::Loaded(generation) => generation.digest(),
            Self::Standby(door) => door.digest(),
        }
    }

    /// What is in memory, if it is.
    pub fn loaded(&self) -> Option<&Arc<Generation>> {
        match self {
            Self::Loaded(generation) => Some(generation),
            Self::Standby(_) => None,
        }
    }
}

/// How often a version may change under one who waits for it.
const TRIES: usize = 8;

impl ModelIndex {
    /// The generation behind what was found, once it is in memory.
    ///
    /// # Errors
    /// `ResourceExhausted` at once if too many wait, `Unavailable` with the reason if it cannot be loaded,
    /// `DeadlineExceeded`; those of [`ModelIndex::find`] if the version has gone meanwhile.
    pub async fn awake(&self, mut found: Found, deadline: Instant) -> Result<Arc<Generation>, Error> {
        for _ in 0..TRIES {
            let door = match found {
                Found::Loaded(generation) => return Ok(generation),
                Found::Standby(door) => door,
            };
            if let Some(generation) = door.wait(deadline).await? {
                return Ok(generation);
            }
            found = self.find(door.model(), Some(door.version()))?;
        }
        Err(Error::new(ErrorCode::Unavailable, format!("model '{}' is changing; try again", found.model())))
    }
}
