//! Owns the rules of ARCHITECTURE.md that a scan of the source text can check. It reads and reports; it
//! never changes a file.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::progress;

/// The folders that hold our Rust.
const FOLDERS: [&str; 5] = ["host", "plugin-sdk", "plugins", "tests", "xtask"];
/// Folders of these names hold what was built or fetched.
const SKIPPED: [&str; 3] = ["target", "node_modules", "gen"];
/// The longest a file may be, in lines.
const LINE_LIMIT: usize = 450;
/// A crate and the places in the host that may name it.
const HOMES: [(&str, &[&str]); 4] = [
    ("wasmtime", &["host/src/plugin"]),
    ("wasmtime_wasi", &["host/src/plugin"]),
    ("ort", &["host/src/model"]),
    ("redis", &["host/src/store", "host/src/cache/remote", "host/src/nodes", "host/src/auth/shared"]),
];

/// Checks every file.
///
/// # Errors
/// All that breaks a rule, one line each.
pub(crate) fn run(paths: &Paths) -> Result<()> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&paths.root.join(folder), &mut files)?;
    }
    files.sort();
    let mut findings = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(&paths.root).unwrap_or(file).to_string_lossy().into_owned();
        findings.extend(inspect(&name, &text));
    }
    if !findings.is_empty() {
        bail!("{} broken rules:\n{}", findings.len(), findings.join("\n"));
    }
    progress::note(&format!("tidy: {} files keep the rules", files.len()));
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().with_context(|| format!("cannot read {}", entry.path().display()))?;
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) && !name.starts_with('.') {
            collect(&entry.path(), files)?;
        } else if kind.is_file() && name.ends_with(".rs") {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// What is wrong with the file `name` (its path in the repository, with `/`).
fn inspect(name: &str, text: &str) -> Vec<String> {
    let first = text.lines().next().unwrap_or_default();
    if first.contains("@generated") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if !first.starts_with("//!") {
        findings.push(format!("{name}:1: starts without `//!`; say what the module owns and never does"));
    }
    let lines = text.lines().count();
    if lines > LINE_LIMIT {
        findings.push(format!("{name}: {lines} lines, at most {LINE_LIMIT}; split it"));
    }
    for (number, line) in text.lines().enumerate() {
        findings.extend(strangers(name, line).map(|(crate_name, homes)| {
            format!("{name}:{}: names `{crate_name}::`, which only {} may", number + 1, homes.join(", "))
        }));
    }
    findings
}

/// The crates that `line` names though `name` is not their home. Comments do not count.
fn strangers<'a>(
    name: &'a str,
    line: &'a str,
) -> impl Iterator<Item = (&'static str, &'static [&'static str])> + 'a {
    let code = line.split("//").next().unwrap_or_default();
    let in_host = name.starts_with("host/src/");
    let at_home = move |home: &str| name == format!("{home}.rs") || name.starts_with(&format!("{home}/"));
    HOMES.into_iter().filter(move |(crate_name, homes)| {
        in_host && !homes.iter().any(|home| at_home(home)) && has_path(code, crate_name)
    })
}

/// Whether `code` has a path that starts with the crate: `ort::`, but neither `export::` nor
/// `crate::ort::`.
fn has_path(code: &str, crate_name: &str) -> bool {
    let mut rest = code;
    let mut before = ' ';
    while let Some(at) = rest.find(crate_name) {
        let previous = rest[..at].chars().next_back().unwrap_or(before);
        let after = &rest[at + crate_name.len()..];
        let starts = !(previous.is_alphanumeric() || previous == '_' || previous == ':');
        let absolute = rest[..at].ends_with("::") && !rest[..at].trim_end_matches(':').ends_with(is_word);
        if (starts || absolute) && after.starts_with("::") {
            return true;
        }
        before = crate_name.chars().next_back().unwrap_or(' ');
        rest = after;
    }
    false
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::{LINE_LIMIT, has_path, inspect};

    const HEAD: &str = "//! Owns a thing.\n";

    #[test]
    fn a_crate_outside_its_home_is_found() {
        let text = format!("{HEAD}use wasmtime::Engine;\n");
        assert!(inspect("host/src/plugin/engine.rs", &text).is_empty());
        assert!(inspect("tests/contained.rs", &text).is_empty());
        let findings = inspect("host/src/http/router.rs", &text);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].starts_with("host/src/http/router.rs:2: names `wasmtime::`"), "{findings:?}");
    }

    #[test]
    fn a_home_is_a_file_or_a_folder_but_no_prefix() {
        let text = format!("{HEAD}fn f(c: redis::Client) {{}}\n");
        for home in ["host/src/store.rs", "host/src/store/link.rs", "host/src/cache/remote.rs"] {
            assert!(inspect(home, &text).is_empty(), "{home}");
        }
        for other in ["host/src/stored.rs", "host/src/cache/mod.rs"] {
            assert_eq!(inspect(other, &text).len(), 1, "{other}");
        }
    }

    #[test]
    fn paths_are_told_from_words_that_end_alike() {
        for code in ["ort::init()", "(ort::Session)", "use ::ort::x;", "export::a; ort::b"] {
            assert!(has_path(code, "ort"), "{code}");
        }
        for code in ["export::a", "crate::ort::a", "let ort = 1;", "port::a", "ort_sys::x", "ortort::x"] {
            assert!(!has_path(code, "ort"), "{code}");
        }
    }

    #[test]
    fn comments_may_name_anything() {
        assert!(inspect("host/src/a.rs", &format!("{HEAD}// as wasmtime::Store does\n")).is_empty());
    }

    #[test]
    fn a_file_without_its_purpose_or_too_long_is_found() {
        assert_eq!(inspect("host/src/a.rs", "use std::fs;\n").len(), 1);
        let long = HEAD.to_owned() + &"// x\n".repeat(LINE_LIMIT);
        assert_eq!(inspect("host/src/a.rs", &long).len(), 1);
        assert_eq!(inspect("host/src/a.rs", "").len(), 1);
    }

    #[test]
    fn generated_files_are_let_be() {
        let long = "// @generated by x\n".to_owned() + &"a\n".repeat(LINE_LIMIT + 1);
        assert!(inspect("plugin-sdk/src/bindings.rs", &long).is_empty());
    }
}
