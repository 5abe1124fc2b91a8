//! Signatures: versions and shared plugins that nobody who is trusted has signed are not served.

use std::fs;
use std::path::Path;

use nuke_tests::{Repository, Server, components};

use super::{digits, fails, publish, publish_command, run, versions};

/// Writes a new secret key and returns the public one.
fn key(path: &Path) -> String {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    fs::write(path, pair.sk.to_box(None).unwrap().into_string()).unwrap();
    pair.pk.to_base64()
}

#[test]
fn only_what_a_trusted_key_has_signed_is_served() {
    let keys = tempfile::tempdir().unwrap();
    let (ours, theirs) = (keys.path().join("ours.key"), keys.path().join("theirs.key"));
    let (trusted, _) = (key(&ours), key(&theirs));
    let (ours, theirs) = (ours.to_str().unwrap(), theirs.to_str().unwrap());
    let repository = Repository::new().model("plain", "1", "digits");
    let models = repository.models();
    for (model, sign) in
        [("good", Some(ours)), ("altered", Some(ours)), ("foreign", Some(theirs)), ("unsigned", None)]
    {
        let mut more = vec!["--model", model];
        if let Some(file) = sign {
            more.extend(["--sign", file]);
        }
        let published = publish(&digits(), &models, &more);
        assert_eq!(published["signed"], sign.is_some());
    }
    // Altered with its manifest, so that the two fit each other.
    let altered = models.join("altered/1");
    let foreign = fs::read(models.join("unsigned/1/manifest.json")).unwrap();
    fs::write(altered.join("manifest.json"), [foreign.as_slice(), b"\n"].concat()).unwrap();

    let plugins = repository.plugins();
    let wasm = keys.path().join("plugin.wasm");
    fs::write(&wasm, components::build("good")).unwrap();
    for (plugin, sign) in [("signed", Some(ours)), ("loose", None)] {
        let mut more = vec!["--plugin", "--model", plugin, "--version", "1.0.0"];
        if let Some(file) = sign {
            more.extend(["--sign", file]);
        }
        publish(&wasm, &plugins, &more);
        let source = keys.path().join(format!("with-{plugin}"));
        fs::create_dir(&source).unwrap();
        fs::copy(digits().join("model.onnx"), source.join("model.onnx")).unwrap();
        fs::write(source.join("bundle.yaml"), format!("plugin: {plugin}@^1\n")).unwrap();
        publish(&source, &models, &["--sign", ours]);
    }

    let server = Server::builder().repository(&repository).set("repository.trusted_keys", &trusted).start();
    assert_eq!(server.state("good", "1"), ("READY".to_owned(), String::new()));
    assert_eq!(server.state("with-signed", "1"), ("READY".to_owned(), String::new()));
    let refused = [
        ("plain", "is not signed, and repository.trusted_keys asks for it"),
        ("unsigned", "has no manifest.json.minisig"),
        ("foreign", "by a key that is not among repository.trusted_keys"),
        ("altered", "does not fit it"),
        ("with-loose", "loose/1.0.0 has no manifest.json.minisig"),
    ];
    for (model, needle) in refused {
        let (state, reason) = server.state(model, "1");
        assert_eq!(state, "UNAVAILABLE", "{model}");
        assert!(reason.contains(needle), "{model}: {reason}");
    }
    drop(server);
    let (code, listed) = versions(&models, &["--trusted-key", &trusted]);
    assert_eq!(code, Some(1));
    let fine: Vec<_> = listed.as_array().unwrap().iter().filter(|it| it["manifest"] == "ok").collect();
    assert_eq!(fine.len(), 3, "{listed}");
}

#[test]
fn a_key_that_cannot_be_used_publishes_nothing() {
    let repository = Repository::new();
    let models = repository.models();
    let file = models.join("no.key");
    let sign = ["--sign", file.to_str().unwrap()];
    fails(&run(publish_command(&digits(), &models, &sign)), 64, &["no.key cannot be read"]);
    fs::write(&file, "no key\n").unwrap();
    fails(&run(publish_command(&digits(), &models, &sign)), 64, &["is encrypted, or no minisign secret key"]);
    assert!(!models.join("digits").exists());
    let outcome = Server::builder().models(&models).set("repository.trusted_keys", "RWx").try_start();
    let exited = outcome.err().unwrap();
    assert_eq!(exited.status.code(), Some(64));
    assert!(exited.logs.join("\n").contains("a minisign public key"), "{exited}");
}
