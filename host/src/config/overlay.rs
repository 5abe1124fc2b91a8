//! Environment variables and flags, laid over a file's tree as values with their own source.
//!
//! Nothing is decoded here: a variable becomes a leaf at its key's path, and the same reader that
//! judges the file judges the leaf.

use super::problem::Problem;
use super::tree::{Entry, Node, Place, Value};

/// A value given by a command-line flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The key that it sets, such as `server.http`.
    pub path: String,
    /// Its value as text; the elements of a list between commas.
    pub value: String,
    /// The flag as the operator typed it, such as `--http`.
    pub flag: String,
}

impl Override {
    /// A value for `path` from `flag`.
    pub fn new(path: &str, value: impl Into<String>, flag: &str) -> Self {
        Self { path: path.to_owned(), value: value.into(), flag: flag.to_owned() }
    }
}

/// What every variable's name begins with.
const PREFIX: &str = "NUKE_";

/// Names the configuration file itself.
pub(super) const CONFIG_VARIABLE: &str = "NUKE_CONFIG";

/// Short names for the keys that are set most.
const ALIASES: &[(&str, &str)] = &[
    ("NUKE_MODELS", "repository.models"),
    ("NUKE_PLUGINS", "repository.plugins"),
    ("NUKE_HTTP", "server.http"),
    ("NUKE_GRPC", "server.grpc"),
    ("NUKE_ORT_LIB", "runtime.ort_lib"),
    ("NUKE_LOG", "log.filter"),
];

/// Names that belong to the client and the set-up.
const FOREIGN: [&str; 6] =
    ["NUKE_URL", "NUKE_ADMIN_URL", "NUKE_TOKEN", "NUKE_API_KEY", "NUKE_CLIENT_CA", "NUKE_WASM_TOOLCHAIN"];

/// Whether a variable is one that sets a key. Empty ones count as not set, as those of a template
/// that was not filled in; the other names belong to the tests, the set-up and the
/// client.
pub(super) fn is_setting((name, value): &(String, String)) -> bool {
    let foreign = FOREIGN.contains(&name.as_str())
        || name.starts_with("NUKE_TEST_")
        || (name.starts_with("NUKE_CACHE") && !name.starts_with("NUKE_CACHE__"));
    name.starts_with(PREFIX) && name != CONFIG_VARIABLE && !value.is_empty() && !foreign
}

/// The path of the key that a variable sets.
fn variable_path(name: &str) -> String {
    if let Some((_, path)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        return (*path).to_owned();
    }
    name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase().replace("__", ".")
}

/// The names of all variables for these keys, short ones included.
pub(super) fn variable_names(paths: &[String]) -> Vec<String> {
    let long = paths.iter().filter(|path| !path.contains('[')).map(|path| long_name(path));
    let short = ALIASES.iter().map(|(alias, _)| (*alias).to_owned());
    long.chain(short).chain([CONFIG_VARIABLE.to_owned()]).collect()
}

fn long_name(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace('.', "__"))
}

/// Lays variables over the tree. Two that set the same key to different values are a problem.
pub(super) fn variables(root: &mut Node, variables: &[(String, String)], problems: &mut Vec<Problem>) {
    let mut seen: Vec<(String, &str, &str)> = Vec::new();
    for (name, value) in variables {
        let path = variable_path(name);
        if let Some((_, other, _)) = seen.iter().find(|(taken, _, text)| *taken == path && text != value) {
            let message = format!("{other} sets the same key to another value; unset one of them");
            problems.push(Problem { key: path, ..Problem::whole(name, message) });
            continue;
        }
        put(root, &path, value, &Place::Env(name.clone()), problems);
        seen.push((path, name, value));
    }
}

/// Lays flags over the tree; the last one for a key wins.
pub(super) fn flags(root: &mut Node, flags: &[Override], problems: &mut Vec<Problem>) {
    for Override { path, value, flag } in flags {
        put(root, path, value, &Place::Flag(flag.clone()), problems);
    }
}

/// Sets the leaf at a path, with the maps above it where they are missing. Where something else
/// than a map is above it, that is a problem.
fn put(root: &mut Node, path: &str, text: &str, place: &Place, problems: &mut Vec<Problem>) {
    let leaf = Value::Scalar { text: text.to_owned(), plain: false };
    let leaf = Node { value: leaf, place: place.clone() };
    if let Err(above) = put_below(root, path, leaf) {
        let (Place::Env(name) | Place::Flag(name)) = place else { return };
        let what = if above.is_empty() { "the file".to_owned() } else { format!("'{above}'") };
        let message = format!("{what} is not a map, so nothing can be set in it from here");
        problems.push(Problem { key: path.to_owned(), ..Problem::whole(name, message) });
    }
}

/// Sets the node at a path, or says which key above it holds something else than a map.
fn put_below<'p>(root: &mut Node, path: &'p str, leaf: Node) -> Result<(), &'p str> {
    let mut node = root;
    let mut done = 0;
    for key in path.split('.') {
        let above = path.get(..done).unwrap_or_default().trim_end_matches('.');
        let entries = entries_of(node, &leaf.place).ok_or(above)?;
        let index = find_or_add(entries, key, &leaf.place);
        let Some(entry) = entries.get_mut(index) else { return Err(above) };
        done += key.len() + 1;
        node = &mut entry.value;
    }
    *node = leaf;
    Ok(())
}

/// The entries of a map; a missing or empty value becomes one.
fn entries_of<'n>(node: &'n mut Node, place: &Place) -> Option<&'n mut Vec<Entry>> {
    if node.is_null() {
        *node = Node { value: Value::Mapping(Vec::new()), place: place.clone() };
    }
    match &mut node.value {
        Value::Mapping(entries) => Some(entries),
        _ => None,
    }
}

fn find_or_add(entries: &mut Vec<Entry>, key: &str, place: &Place) -> usize {
    entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
        let value = Node { value: Value::Mapping(Vec::new()), place: place.clone() };
        entries.push(Entry { key: key.to_owned(), place: place.clone(), value });
        entries.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables() {
        assert_eq!(variable_path("NUKE_SERVER__MAX_BODY"), "server.max_body");
        assert_eq!(variable_path("NUKE_PLUGINS"), "repository.plugins");
        assert_eq!(variable_path("NUKE_PLUGINS__TIME"), "plugins.time");
        assert_eq!(long_name("server.max_body"), "NUKE_SERVER__MAX_BODY");
        let setting = |name: &str, value: &str| is_setting(&(name.to_owned(), value.to_owned()));
        assert!(setting("NUKE_HTTP", "x") && setting("NUKE_CACHE__MEMORY", "x"));
        let ignored =
            ["NUKE_CONFIG", "NUKE_ADMIN_URL", "NUKE_TEST_X", "NUKE_CACHE", "NUKE_CACHE_DIR", "HOME"];
        assert!(!ignored.into_iter().any(|name| setting(name, "x")));
        assert!(!setting("NUKE_HTTP", ""));
    }
}
