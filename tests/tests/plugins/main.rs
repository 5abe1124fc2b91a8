//! Plugins of every kind of misbehaviour, served by the real binary: each is held within its limit, answers
//! with the error that names it, and harms nobody else.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod faults;
mod instances;
mod logs;
mod neighbours;
mod refused;

use nuke_tests::{Repository, components};

/// A repository with one model for each of these fixtures, by their names, on the model `digits`. A machine
/// that stands still for a moment lets no request down.
fn serving(fixtures: &[&str]) -> Repository {
    fixtures.iter().fold(Repository::new(), |repository, name| {
        let repository = repository.model(name, "1", "digits").plugin(components::build(name));
        repository.model_yaml("queue: {timeout: 60s}\n")
    })
}
