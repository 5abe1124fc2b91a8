//! The targets with the committed corpus, and with what random changes make of it.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{} has too few files", folder.display());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn each_target_takes_its_corpus() {
    for (name, target) in TARGETS {
        corpus(name).iter().for_each(|input| target(input));
    }
}

#[test]
fn each_target_has_a_file_for_the_fuzzer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let text = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(text.contains(&format!("nuke_host::fuzzing::{name}(data)")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

/// One change to an input.
#[derive(Clone, Debug)]
enum Change {
    Cut(usize),
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    // Bytes that mean something to one reader or another.
    let words = prop::sample::select(vec![
        &b"["[..],
        b"]",
        b"{",
        b"}",
        b"\"",
        b",",
        b":",
        b"-",
        b"0",
        b"1e309",
        b"null",
        b"\\u0000",
        b"\xff",
        b"\n",
        b"&a ",
        b"*a",
        b"b64",
    ]);
    prop_oneof![
        any::<usize>().prop_map(Change::Cut),
        (any::<usize>(), 1_u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (any::<usize>(), words).prop_map(|(at, word)| Change::Insert(at, word.to_vec())),
        (any::<usize>(), 1_usize..20).prop_map(|(at, length)| Change::Remove(at, length)),
        (any::<usize>(), 1_usize..40).prop_map(|(at, length)| Change::Repeat(at, length)),
    ]
}

fn changed(mut input: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let length = input.len().max(1);
        match change {
            Change::Cut(at) => input.truncate(at % length),
            Change::Flip(at, bits) => {
                if let Some(byte) = input.get_mut(at % length) {
                    *byte ^= bits;
                }
            }
            Change::Insert(at, word) => {
                let at = (at % length).min(input.len());
                drop(input.splice(at..at, word.iter().copied()));
            }
            Change::Remove(at, count) => {
                let at = (at % length).min(input.len());
                drop(input.drain(at..(at + count).min(input.len())));
            }
            Change::Repeat(at, count) => {
                let at = (at % length).min(input.len());
                let part = input[at..(at + count).min(input.len())].repeat(3);
                drop(input.splice(at..at, part));
            }
        }
    }
    input
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn each_target_takes_what_becomes_of_its_corpus(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        for (name, target) in TARGETS {
            let corpus = corpus(name);
            target(&changed(which.get(&corpus).clone(), &changes));
        }
    }

    #[test]
    fn each_target_takes_any_bytes(data in prop::collection::vec(any::<u8>(), 0..400)) {
        for (_, target) in TARGETS {
            target(&data);
        }
    }
}
