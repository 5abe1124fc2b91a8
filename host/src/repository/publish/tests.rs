//! Tests of publishing: what appears, what is refused, and what is left when it fails.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Barrier;

use super::*;
use crate::repository::{ManifestState, TrustedKeys, list_versions};

/// A model of no nodes: its version, and an empty graph.
const MODEL: &[u8] = &[0x08, 0x08, 0x3a, 0x00];

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(place.models()).unwrap();
        fs::create_dir_all(place.source().join("sub")).unwrap();
        fs::write(place.source().join("model.onnx"), MODEL).unwrap();
        fs::write(place.source().join("sub/labels.txt"), "a\nb\n").unwrap();
        place
    }

    fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("digits")
    }

    fn publish(&self, version: Option<&str>) -> Result<Published, PublishError> {
        let (source, models) = (self.source(), self.models());
        let request =
            PublishRequest { kind: Kind::Model, source: &source, models: &models, model: None, version };
        publish(request, None, &mut |_, _| true)
    }

    fn refused(&self, version: Option<&str>) -> String {
        let before = everything(&self.models());
        let error = self.publish(version).unwrap_err();
        assert_eq!(everything(&self.models()), before, "a refusal leaves nothing behind");
        error.to_string()
    }
}

/// All that lies in a folder, hidden or not.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            found.extend(everything(&entry.path()));
        }
    }
    found.sort();
    found
}

#[test]
fn versions_are_numbered_and_hold_what_their_manifest_says() {
    let place = Place::new();
    fs::write(place.source().join(".hidden"), "x").unwrap();
    let first = place.publish(None).unwrap();
    assert_eq!(
        (first.model.as_str(), first.version.as_str(), first.files, first.bytes),
        ("digits", "1", 2, 8)
    );
    assert!(!first.signed);
    assert_eq!(place.publish(None).unwrap().version, "2");
    assert_eq!(place.publish(Some("9.1.0")).unwrap().version, "9.1.0");
    assert_eq!(place.publish(None).unwrap().version, "10");
    let (manifest, _) = Manifest::read(&first.path).unwrap().unwrap();
    assert_eq!(manifest.verify(&first.path), Ok(()));
    let there: Vec<_> = everything(&first.path).into_iter().filter(|path| path.is_file()).collect();
    assert_eq!(there.len(), 3, "{there:?}");
    let listed = list_versions(&place.models(), None, true, &TrustedKeys::default()).unwrap();
    let names: Vec<_> = listed.iter().map(|listed| listed.version.as_str()).collect();
    assert_eq!(names, ["1", "2", "9.1.0", "10"]);
    assert!(listed.iter().all(|listed| listed.manifest == ManifestState::Ok && listed.bytes == 8));
}

#[test]
fn a_version_that_is_there_is_never_changed() {
    let place = Place::new();
    place.publish(Some("2")).unwrap();
    assert!(place.refused(Some("2")).contains("is there, and a version is never changed"));
    assert!(place.refused(Some("2.0.0")).contains("is the same number"));
    // Whatever has the name: it is not replaced.
    fs::create_dir(place.models().join("digits/3")).unwrap();
    fs::write(place.models().join("digits/4"), "").unwrap();
    symlink("nowhere", place.models().join("digits/5")).unwrap();
    for version in ["3", "4", "5"] {
        assert!(place.refused(Some(version)).contains("is there"), "{version}");
    }
    assert_eq!(place.publish(None).unwrap().version, "6");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let place = Place::new();
    for version in ["", "..", "../1", "a", "1/2", "1.0.0+x", "v1", ".1", "１"] {
        assert!(matches!(place.publish(Some(version)), Err(PublishError::Usage(_))), "{version}");
    }
    let (source, models) = (place.source(), place.models());
    for model in ["", "..", ".", "a/b", "../x", "a b", "ä", ".hidden"] {
        let request = PublishRequest {
            kind: Kind::Model,
            source: &source,
            models: &models,
            model: Some(model),
            version: None,
        };
        let outcome = publish(request, None, &mut |_, _| true);
        assert!(matches!(outcome, Err(PublishError::Usage(_))), "{model}");
        assert!(matches!(unpublish(&models, model, "1"), Err(PublishError::Usage(_))), "{model}");
    }
    assert_eq!(everything(&models), Vec::<PathBuf>::new());
}

#[test]
fn links_special_files_and_odd_names_are_refused() {
    let place = Place::new();
    let odd = place.source().join("sub/odd");
    symlink("labels.txt", &odd).unwrap();
    assert!(place.refused(None).contains("is a link"));
    fs::remove_file(&odd).unwrap();
    symlink(place.models(), &odd).unwrap();
    assert!(place.refused(None).contains("is a link"));
    fs::remove_file(&odd).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&odd).unwrap();
    assert!(place.refused(None).contains("is no plain file"));
    fs::remove_file(&odd).unwrap();
    let control = place.source().join("a\nb");
    fs::write(&control, "").unwrap();
    assert!(place.refused(None).contains("control character"));
}

#[test]
fn what_could_not_be_served_is_refused() {
    let place = Place::new();
    let source = place.source();
    let bundle = source.join("bundle.yaml");
    fs::write(&bundle, "plugn: x\n").unwrap();
    let reason = place.refused(None);
    assert!(reason.starts_with("bundle.yaml:1:1: ") && reason.contains("unknown key"), "{reason}");
    fs::write(&bundle, "warmup: [sample.png]\n").unwrap();
    assert!(place.refused(None).contains("warm-up sample sample.png is not among the files"));
    fs::write(&bundle, "model: other.onnx\n").unwrap();
    assert!(place.refused(None).contains("model other.onnx is not among the files"));
    fs::write(&bundle, "plugin: p.wasm\n").unwrap();
    assert!(place.refused(None).contains("plugin p.wasm is not among the files"));
    fs::write(source.join("p.wasm"), "text").unwrap();
    assert!(place.refused(None).contains("plugin p.wasm is not valid WebAssembly"));
    fs::remove_file(&bundle).unwrap();
    fs::write(source.join("model.onnx"), &MODEL[..3]).unwrap();
    assert!(place.refused(None).contains("model.onnx: the file is cut short"));
    fs::write(source.join("model.onnx"), "").unwrap();
    assert!(place.refused(None).contains("model.onnx is empty"));
    fs::remove_file(source.join("model.onnx")).unwrap();
    assert!(place.refused(None).contains("model model.onnx is not among the files"));
}

#[test]
fn a_bare_model_needs_a_name() {
    let place = Place::new();
    let (source, models) = (place.source().join("model.onnx"), place.models());
    let request =
        PublishRequest { kind: Kind::Model, source: &source, models: &models, model: None, version: None };
    let error = publish(request, None, &mut |_, _| true).unwrap_err();
    assert!(error.to_string().contains("needs --model"), "{error}");
    let request = PublishRequest { model: Some("bare"), ..request };
    let published = publish(request, None, &mut |_, _| true).unwrap();
    assert_eq!((published.version.as_str(), published.files), ("1", 1));
    assert_eq!(fs::read(published.path.join("model.onnx")).unwrap(), MODEL);
}

#[test]
fn a_models_folder_inside_the_source_is_refused() {
    let place = Place::new();
    let whole = place.folder.path();
    let models = place.models();
    let request =
        PublishRequest { kind: Kind::Model, source: whole, models: &models, model: Some("m"), version: None };
    let error = publish(request, None, &mut |_, _| true).unwrap_err();
    assert!(error.to_string().contains("lies inside of"), "{error}");
}

#[test]
fn an_interrupted_publish_leaves_nothing() {
    let place = Place::new();
    let (source, models) = (place.source(), place.models());
    let request =
        PublishRequest { kind: Kind::Model, source: &source, models: &models, model: None, version: None };
    let mut seen = Vec::new();
    let outcome = publish(request, None, &mut |done, total| {
        seen.push((done, total));
        done < 4
    });
    assert_eq!(outcome, Err(PublishError::Interrupted));
    assert!(seen.contains(&(4, 8)), "{seen:?}");
    assert_eq!(everything(&models), Vec::<PathBuf>::new());
}

#[test]
fn only_what_was_left_behind_long_ago_is_removed() {
    let place = Place::new();
    place.publish(None).unwrap();
    let folder = place.models().join("digits");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    let age = |path: &Path| {
        fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    };
    for (name, old) in [(".publish-old", true), (".publish-busy", false), (".other", true)] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("model.onnx"), MODEL).unwrap();
        if old {
            age(&folder.join(name).join("model.onnx"));
        }
        age(&folder.join(name));
    }
    assert_eq!(place.publish(None).unwrap().version, "2");
    assert!(!folder.join(".publish-old").exists());
    assert!(folder.join(".publish-busy").exists() && folder.join(".other").exists());
}

#[test]
fn many_at_once_get_versions_of_their_own() {
    let place = Place::new();
    let barrier = Barrier::new(8);
    let mut versions: Vec<u64> = std::thread::scope(|scope| {
        let start = || {
            barrier.wait();
            place.publish(None).unwrap().version.parse().unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6, 7, 8]);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| place.publish(Some("9")))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
}

#[test]
fn what_was_published_is_published_again_only_unaltered_and_keeps_its_signature() {
    let place = Place::new();
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let sign = |text: &str| {
        let signature = minisign::sign(None, &pair.sk, text.as_bytes(), None, None);
        signature.map(|signature| signature.into_string()).map_err(|error| error.to_string())
    };
    let (source, models) = (place.source(), place.models());
    let request =
        PublishRequest { kind: Kind::Model, source: &source, models: &models, model: None, version: None };
    let first = publish(request, Some(&sign), &mut |_, _| true).unwrap();
    assert!(first.signed);
    let request = PublishRequest { kind: Kind::Model, source: &first.path, ..request };
    let second = publish(request, None, &mut |_, _| true).unwrap();
    assert_eq!((second.model.as_str(), second.version.as_str(), second.signed), ("digits", "2", true));
    let key = pair.pk.to_base64();
    let keys = TrustedKeys::parse([key.as_str()]).unwrap();
    let listed = list_versions(&models, Some("digits"), true, &keys).unwrap();
    assert!(listed.iter().all(|listed| listed.manifest == ManifestState::Ok), "{listed:?}");
    fs::write(first.path.join("sub/labels.txt"), "a\nc\n").unwrap();
    let error = publish(request, None, &mut |_, _| true).unwrap_err().to_string();
    assert!(error.contains("sub/labels.txt is not as its manifest.json lists it"), "{error}");
    fs::remove_file(first.path.join("sub/labels.txt")).unwrap();
    let error = publish(request, None, &mut |_, _| true).unwrap_err().to_string();
    assert!(error.contains("sub/labels.txt is not as"), "{error}");
    let listed = list_versions(&models, None, false, &keys).unwrap();
    assert_eq!(listed[0].manifest.as_str(), "broken");
    assert_eq!(listed[1].manifest.as_str(), "ok");
}

#[test]
fn unpublish_takes_the_whole_version() {
    let place = Place::new();
    place.publish(None).unwrap();
    place.publish(None).unwrap();
    let removed = unpublish(&place.models(), "digits", "1").unwrap();
    assert!(!removed.exists());
    let left: Vec<_> = fs::read_dir(place.models().join("digits")).unwrap().map(Result::unwrap).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(unpublish(&place.models(), "digits", "1").unwrap_err().to_string().contains("cannot be read"));
    assert!(unpublish(&place.models(), "other", "1").is_err());
    assert!(!place.models().join("other").exists());
    symlink("2", place.models().join("digits/3")).unwrap();
    assert!(unpublish(&place.models(), "digits", "3").unwrap_err().to_string().contains("is no folder"));
}

#[test]
fn a_plugin_needs_a_semantic_version_and_is_a_component() {
    let place = Place::new();
    let models = place.models();
    let wasm = place.folder.path().join("resize.wasm");
    fs::write(&wasm, b"\0asm\x0d\0\x01\0").unwrap();
    let request = PublishRequest {
        kind: Kind::Plugin,
        source: &wasm,
        models: &models,
        model: Some("resize"),
        version: Some("1"),
    };
    let error = publish(request, None, &mut |_, _| true).unwrap_err();
    assert!(matches!(&error, PublishError::Usage(text) if text.contains("semantic version")), "{error}");
    let request = PublishRequest { version: Some("1.0.0"), ..request };
    let error = publish(request, None, &mut |_, _| true).unwrap_err();
    assert!(error.to_string().contains("plugin plugin.wasm exports neither"), "{error}");
    let source = place.source();
    let error = publish(PublishRequest { source: &source, ..request }, None, &mut |_, _| true).unwrap_err();
    assert!(error.to_string().contains("plugin plugin.wasm is not among the files"), "{error}");
    assert_eq!(everything(&models), Vec::<PathBuf>::new());
}
