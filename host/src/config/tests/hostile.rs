//! Text that means harm: none of it panics, none of it costs more than its limits.

use proptest::prelude::*;

use super::super::tree::{self, MAX_DEPTH, MAX_NODES, Node};
use super::super::{BundleConfig, ModelConfig, ServerConfig};
use super::variables;

fn parse(text: &str) -> (Option<Node>, String) {
    let mut problems = Vec::new();
    let root = tree::parse(text, "x.yaml", &mut problems);
    (root, problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

#[test]
fn depth_is_limited() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000), "? ".repeat(100_000)] {
        let (root, problems) = parse(&text);
        // The parser looks ahead in brackets and has a limit of its own there.
        let ours = problems.contains(&format!("nested deeper than {MAX_DEPTH} levels"));
        assert!(root.is_none() && (ours || problems.contains("recursion limit exceeded")), "{problems}");
    }
    assert!(parse(&format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH))).0.is_some());
}

#[test]
fn bombs_do_not_go_off() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let alias = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
    }
    let (root, problems) = parse(&bomb);
    assert!(root.is_none() && problems.contains("over the limit of"), "{problems}");
    // One large text, many times.
    let wide = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 1000].join(", "));
    assert!(parse(&wide).1.contains("over the limit of"));
    // Deep by aliases only.
    let deep = format!(
        "a0: &a0 {}x{}\nb: {}*a0{}\n",
        "[".repeat(20),
        "]".repeat(20),
        "[".repeat(20),
        "]".repeat(20)
    );
    assert!(parse(&deep).1.contains("deeper than"));
    assert!(parse("a: &a [*a]\n").0.is_none());
    let many = format!("[{}]", vec!["x"; MAX_NODES].join(","));
    assert!(parse(&many).1.contains("over the limit of"));
}

#[test]
fn aliases_within_limits_are_copies() {
    let (root, problems) = parse("a: &one {k: v}\nb: *one\n");
    let (same, _) = parse("a: {k: v}\nb: {k: v}\n");
    assert_eq!(problems, "");
    assert_eq!(root.map(|node| node.describe()), same.map(|node| node.describe()));
    let text = "server: &s {max_body: 1MiB}\nplugins: *s\n";
    let problems = ServerConfig::from_text("x.yaml", text).unwrap_err().to_string();
    assert!(problems.starts_with("x.yaml:1:13: plugins.max_body: unknown key"), "{problems}");
}

#[test]
fn odd_documents_are_refused() {
    assert!(parse("a: b\n---\nc: d\n").1.contains("x.yaml:2:1: a second document begins here"));
    assert!(parse("a: !secret b\n").1.contains("a tag (!…) means nothing here"));
    assert!(parse("a: *nothing\n").1.contains("not valid YAML"));
    assert!(parse("a:\n\t- b\n").1.contains("x.yaml:2:"));
    assert!(parse(&format!("? {}\n: b\n", "k".repeat(300))).1.contains("a key of 300 bytes"));
    for text in ["", "\u{feff}", "# only a comment\n", "---\n", "---\n...\n"] {
        assert_eq!(parse(text).1, "", "{text:?}");
    }
}

/// Pieces that meet in configuration files.
const PIECES: &str = "server:|  http: |plugins:|  allow: |[|]|{|}|, |- |: |\n|\n  |'|\"|&a |*a|!t |#|~|null|5s|1MiB|a|é|\t|? |---\n\
                      |versions: |latest: |models:|settings: |warmup: |../x|%|@|`|\\|\u{0}|0|-1|on|>\n|\\|\n|name: |path: ";

proptest! {
    #[test]
    fn any_text_is_decoded_or_refused(text in any::<String>()) {
        let _ = ServerConfig::from_text("x.yaml", &text).map_err(|problems| problems.to_string());
    }

    #[test]
    fn any_shuffle_of_pieces_is_decoded_or_refused(
        pieces in prop::collection::vec(prop::sample::select(PIECES.split('|').collect::<Vec<_>>()), 0..60)
    ) {
        let text = pieces.concat();
        let _ = ServerConfig::from_text("x.yaml", &text).map_err(|problems| problems.to_string());
        let _ = ModelConfig::from_text("x.yaml", &text).map_err(|problems| problems.to_string());
        let _ = BundleConfig::from_text("x.yaml", &text).map_err(|problems| problems.to_string());
    }

    #[test]
    fn any_variable_is_decoded_or_refused(name in "[A-Z_0-9é.\\[\\]]{0,20}", value in any::<String>()) {
        let environment = variables(&[(&format!("NUKE_{name}"), &value)]);
        let text = "server: {http: 127.0.0.1:1}\nmodels: [{name: a, path: b}]\nlog:\n";
        let _ = ServerConfig::from_sources("x.yaml", text, &environment, &[]).map_err(|problems| problems.to_string());
    }
}
