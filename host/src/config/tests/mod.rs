//! The configuration as a whole: sources, problems, the manual, hostile input.

mod auth;
mod cache;
mod files;
mod hostile;
mod problems;
mod round_trip;
mod server;
mod traffic;

use super::{Loaded, Problems};

/// The problems as lines.
fn lines<T>(result: Result<Loaded<T>, Problems>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(problems) => problems.to_string().lines().map(ToOwned::to_owned).collect(),
    }
}

/// Variables from literals.
fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
