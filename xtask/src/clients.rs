//! Owns which client programs the tests drive, and where each comes from: packages of Python in environments of
//! their own, since they pin each other's dependencies, and programs (`programs.rs`). What the user names or has
//! on the path is taken instead.
//!
//! A program that this machine cannot run is no failure: the tests that want it say that they were skipped, and why.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::paths::Paths;
use crate::{process, programs, progress, python};

/// For each variable that the tests read, the program, or why there is none.
#[derive(Debug)]
pub(crate) struct Clients(Vec<(&'static str, Result<PathBuf, String>)>);

impl Clients {
    /// Finds or installs them all.
    ///
    /// # Errors
    /// A package of Python cannot be fetched.
    pub(crate) fn prepare(paths: &Paths) -> Result<Self> {
        let packages = |file: &str, what: &str| {
            python::environment(paths, &paths.root.join("tests/python").join(file), what)
        };
        let schemathesis = named("NUKE_TEST_SCHEMATHESIS").map_or_else(
            || Ok(packages("schemathesis.txt", "schemathesis (13 MB)")?.with_file_name("schemathesis")),
            Ok::<_, anyhow::Error>,
        )?;
        let kserve = named("NUKE_TEST_KSERVE_PYTHON")
            .map_or_else(|| packages("kserve.txt", "KServe's SDK (54 MB)"), Ok)?;
        let h2load = named("NUKE_TEST_H2LOAD").or_else(|| process::on_path("h2load"));
        let perf_analyzer = named("NUKE_TEST_PERF_ANALYZER").or_else(own_perf_analyzer);
        let program = |found: Option<PathBuf>, name: &str| match found {
            Some(path) => Ok(path),
            None => programs::ensure(paths, name).map_err(|error| format!("{error:#}")),
        };
        Ok(Self(vec![
            ("NUKE_TEST_SCHEMATHESIS", Ok(schemathesis)),
            ("NUKE_TEST_KSERVE_PYTHON", Ok(kserve)),
            ("NUKE_TEST_H2LOAD", program(h2load, "h2load")),
            ("NUKE_TEST_PERF_ANALYZER", program(perf_analyzer, "perf_analyzer")),
        ]))
    }

    /// Tells the tests where they are; says which are not.
    pub(crate) fn tell(&self, tests: &mut Command) {
        for (variable, program) in &self.0 {
            match program {
                Ok(path) => tests.env(variable, path),
                Err(reason) => {
                    progress::note(&format!("SKIPPED: the tests that {variable} would serve: {reason}"));
                    tests.env(format!("{variable}_MISSING"), reason.replace('\n', " "))
                }
            };
        }
    }
}

fn named(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The one on the path, if it runs: it is made for newer systems than many are.
fn own_perf_analyzer() -> Option<PathBuf> {
    let path = process::on_path("perf_analyzer")?;
    process::quiet(Command::new(&path).arg("--version")).ok().map(|_| path)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::Clients;

    #[test]
    fn what_is_not_there_is_told_with_its_reason() {
        let clients =
            Clients(vec![("A", Ok("/a/b".into())), ("C", Err("none\nfor this machine".to_owned()))]);
        let mut command = Command::new("x");
        clients.tell(&mut command);
        let told: Vec<_> = command.get_envs().map(|(name, value)| (name.to_str(), value.unwrap())).collect();
        assert_eq!(
            told,
            [(Some("A"), "/a/b".as_ref()), (Some("C_MISSING"), "none for this machine".as_ref())]
        );
    }
}
