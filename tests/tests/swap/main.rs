//! Hot swap of the real binary: folders change while it serves. Each test changes files as an operator
//! would, and looks at answers, the repository index, metrics and the log.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod files;
mod load;
mod settings;
mod shared;

use std::fs;
use std::path::{Path, PathBuf};

use nuke_tests::marks::tiny;
use nuke_tests::{Answer, Client, Repository, Server, ServerBuilder, components, eventually, marks};

/// What a model made by [`tiny`] makes of ones: its factor, if the whole answer is of one model.
fn factor(answer: &Answer) -> Option<f64> {
    marks::factor(answer).ok()
}

fn ask(client: &Client, path: &str) -> Answer {
    client.post(path, "application/json", marks::infer_body())
}

/// The factor of the model that answers now.
fn answers(server: &Server, path: &str) -> Option<f64> {
    let answer = ask(&server.client(), path);
    if answer.status == 200 { factor(&answer) } else { None }
}

#[track_caller]
fn eventually_answers(server: &Server, path: &str, factor: f64) {
    eventually(&format!("{path} answers with {factor}"), || answers(server, path) == Some(factor));
}

/// The component `good` with another answer, two bytes long.
fn saying(word: &str) -> Vec<u8> {
    let mut bytes = components::build("good");
    // The data segment: address 2048, and two bytes.
    let segment = b"\x41\x80\x10\x0b\x02ok";
    let at = bytes.windows(segment.len()).position(|window| window == segment).expect("`good` says ok");
    bytes[at + 5..at + 7].copy_from_slice(word.as_bytes());
    bytes
}

/// Makes a folder with these files beside the models and renames it into place.
fn drop_in(repository: &Repository, place: &str, files: &[(&str, &[u8])]) {
    let fresh = repository.models().with_file_name("fresh");
    fs::create_dir_all(&fresh).unwrap();
    for (name, bytes) in files {
        fs::write(fresh.join(name), bytes).unwrap();
    }
    let place = repository.models().join(place);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    if place.exists() {
        fs::rename(&place, old(repository)).unwrap();
    }
    fs::rename(fresh, place).unwrap();
}

/// Replaces one file whole.
fn replace(path: &Path, bytes: &[u8]) {
    let next = path.with_extension("tmp");
    fs::write(&next, bytes).unwrap();
    fs::rename(next, path).unwrap();
}

/// A place that nobody looks at.
fn old(repository: &Repository) -> PathBuf {
    let folder = repository.models().with_file_name("old");
    fs::create_dir_all(&folder).unwrap();
    let count = fs::read_dir(&folder).unwrap().count();
    folder.join(count.to_string())
}

fn builder(repository: &Repository) -> ServerBuilder {
    Server::builder().repository(repository).set("repository.quiet", "200ms").set("repository.rescan", "1s")
}

/// A repository with version 1 of `tiny`.
fn one_tiny() -> Repository {
    let repository = Repository::new();
    drop_in(&repository, "tiny/1", &[("model.onnx", &tiny(1.0))]);
    repository
}

const INFER: &str = "/v2/models/tiny/infer";
