//! Tests of the manifest: its form, hostile ones, and that no change of a folder goes unnoticed.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn manifest_of(files: &[(&str, &[u8])]) -> Manifest {
    let sums = files.iter().map(|(path, content)| ((*path).to_owned(), FileSum::of(content)));
    Manifest::new(sums.collect()).unwrap()
}

fn folder_of(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        write(&folder.path().join(path), content);
    }
    folder
}

fn write(path: &PathBuf, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

const FILES: [(&str, &[u8]); 4] =
    [("bundle.yaml", b"{}"), ("model.onnx", b"model"), ("samples/a \"b\".png", b"png"), ("empty", b"")];

#[test]
fn what_is_written_is_sorted_stable_and_reads_back() {
    let manifest = manifest_of(&FILES);
    let text = manifest.to_json();
    assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
    let mut reversed = FILES;
    reversed.reverse();
    assert_eq!(manifest_of(&reversed).to_json(), text);
    let paths = text.lines().filter(|line| line.contains("path")).count();
    assert_eq!((paths, manifest.bytes()), (4, 10));
    // The hash of nothing, as the standard has it.
    assert!(text.contains("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), "{text}");
}

#[test]
fn hostile_manifests_are_refused_by_name() {
    let entry = |path: &str, sha: &str| format!(r#"{{"path": {path:?}, "size": 1, "sha256": "{sha}"}}"#);
    let sha = "0".repeat(64);
    let with = |files: &str| format!(r#"{{"format": 1, "files": [{files}]}}"#);
    let long = "x/".repeat(600) + "x";
    let twice = format!("{}, {}", entry("a", &sha), entry("a", &sha));
    let many = vec![entry("a", &sha); 10_001].join(",");
    let cases = [
        (String::new(), "no manifest"),
        ("[]".to_owned(), "no manifest"),
        ("[".repeat(100_000), "no manifest"),
        (with(""), "lists no file"),
        (format!(r#"{{"format": 2, "files": [{}]}}"#, entry("a", &sha)), "format 2, this host reads 1"),
        (format!(r#"{{"format": 1, "more": 1, "files": [{}]}}"#, entry("a", &sha)), "unknown field `more`"),
        (format!(r#"{{"format": 1, "format": 1, "files": [{}]}}"#, entry("a", &sha)), "duplicate field"),
        (with(&entry("a", &sha).replace("size", "length")), "unknown field `length`"),
        (with(&entry("a", &sha).replace(": 1", ": -1")), "no manifest"),
        (with(&entry("/etc/passwd", &sha)), "absolute"),
        (with(&entry("a/../../b", &sha)), "'..'"),
        (with(&entry("..", &sha)), "'..'"),
        (with(&entry("./a", &sha)), "'.'"),
        (with(&entry("a//b", &sha)), "empty part"),
        (with(&entry("", &sha)), "empty part"),
        (with(&entry("a\\b", &sha)), "backslash"),
        (with(&entry("a\\u0000b", &sha).replace("\\\\", "\\")), "control character"),
        (with(&entry("a/.hidden", &sha)), "hidden"),
        (with(&entry("manifest.json", &sha)), "the manifest's own"),
        (with(&entry(&long, &sha)), "longer than 1024"),
        (with(&entry("a", "00")), "expected a sha-256"),
        (with(&entry("a", &"A".repeat(64))), "expected a sha-256"),
        (with(&twice), "listed twice"),
        (with(&many), "10001 files"),
        (" ".repeat(LARGEST + 1), "at most"),
    ];
    for (text, reason) in cases {
        let error = Manifest::parse(text.as_bytes()).unwrap_err();
        assert!(error.contains(reason), "expected '{reason}': {error}");
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn a_manifest_is_read_within_its_limit_and_from_its_folder_only() {
    let folder = folder_of(&FILES);
    assert_eq!(Manifest::read(folder.path()), Ok(None));
    write(&folder.path().join(MANIFEST_FILE), &vec![b' '; LARGEST + 1]);
    assert!(Manifest::read(folder.path()).unwrap_err().contains("more than 4194304 bytes"));
    std::fs::remove_file(folder.path().join(MANIFEST_FILE)).unwrap();
    let outside = folder_of(&[("m", manifest_of(&FILES).to_json().as_bytes())]);
    std::os::unix::fs::symlink(outside.path().join("m"), folder.path().join(MANIFEST_FILE)).unwrap();
    assert!(Manifest::read(folder.path()).unwrap_err().contains("leads out of its folder"));
    std::fs::remove_file(folder.path().join(MANIFEST_FILE)).unwrap();
    std::fs::create_dir(folder.path().join(MANIFEST_FILE)).unwrap();
    assert!(Manifest::read(folder.path()).unwrap_err().contains("no plain file"));
}

#[test]
fn every_difference_is_named() {
    let manifest = manifest_of(&FILES);
    let folder = folder_of(&FILES);
    write(&folder.path().join(MANIFEST_FILE), manifest.to_json().as_bytes());
    write(&folder.path().join(".hidden/file"), b"x");
    assert_eq!(manifest.verify(folder.path()), Ok(()));
    write(&folder.path().join("bundle.yaml"), b"[]");
    write(&folder.path().join("model.onnx"), b"mode");
    write(&folder.path().join("samples/more"), b"");
    std::fs::remove_file(folder.path().join("empty")).unwrap();
    let named: Vec<String> =
        manifest.verify(folder.path()).unwrap_err().iter().map(ToString::to_string).collect();
    let expected = [
        "bundle.yaml has the sha-256 4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945, \
         manifest.json lists it with 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a; \
         publish the version again",
        "empty is missing; manifest.json lists it with 0 bytes",
        "model.onnx has 4 bytes, manifest.json lists it with 5; publish the version again",
        "samples/more is not listed in manifest.json; remove it, or publish a new version with it",
    ];
    assert_eq!(named, expected);
    assert_eq!(manifest.check_sizes(folder.path()).unwrap_err().len(), 3);
    assert_eq!(manifest.check("model.onnx", b"model"), Ok(()));
    assert!(matches!(manifest.check("model.onnx", b"Model"), Err(Mismatch::Content { .. })));
    assert!(matches!(manifest.check("model", b"model"), Err(Mismatch::Extra { .. })));
}

#[test]
fn links_that_lead_out_and_folders_in_a_files_place_are_differences() {
    let manifest = manifest_of(&FILES);
    let (folder, outside) = (folder_of(&FILES), folder_of(&FILES));
    std::fs::remove_file(folder.path().join("model.onnx")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("model.onnx"), folder.path().join("model.onnx")).unwrap();
    std::fs::remove_file(folder.path().join("empty")).unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let named = manifest.verify(folder.path()).unwrap_err();
    assert_eq!(named.len(), 2, "{named:?}");
    assert!(named[0].to_string().contains("no plain file"), "{named:?}");
    assert!(named[1].to_string().contains("leads out of its folder"), "{named:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_byte_is_noticed(
        contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 1..5),
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let names = ["a", "b/c", "b/d", "e"];
        let mut files: Vec<(&str, Vec<u8>)> = names.into_iter().zip(contents).collect();
        let listed: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
        let (manifest, folder) = (manifest_of(&listed), folder_of(&listed));
        prop_assert_eq!(manifest.verify(folder.path()), Ok(()));
        let (name, content) = which.get_mut(&mut files);
        let place = place.index(content.len());
        content[place] ^= flip;
        write(&folder.path().join(*name), content);
        let named = manifest.verify(folder.path()).unwrap_err();
        let as_expected = matches!(named.as_slice(), [Mismatch::Content { path, .. }] if path == name);
        prop_assert!(as_expected, "{:?}", named);
        prop_assert!(manifest.check(name, content).is_err());
    }

    #[test]
    fn a_truncated_or_altered_manifest_never_reads_as_the_same(
        cut in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let manifest = manifest_of(&FILES);
        let text = manifest.to_json().into_bytes();
        let body = text.len() - 1;
        let at = cut.index(body);
        prop_assert!(Manifest::parse(&text[..at]).is_err());
        let mut altered = text.clone();
        altered[at] = byte;
        if let Ok(read) = Manifest::parse(&altered) {
            let blank = |byte: u8| matches!(byte, b' ' | b'\n' | b'\t' | b'\r');
            prop_assert!(read != manifest || byte == text[at] || (blank(byte) && blank(text[at])));
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::parse(&text);
    }
}
