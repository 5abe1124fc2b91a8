//! What is remembered between starts: contents found good, and those alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nuke_tests::{Repository, Server, eventually, nuke, root};
use serde_json::Value;

use super::builder;

fn start(repository: &Repository, verdicts: &Path) -> Server {
    builder(repository)
        .set("repository.validation.verdicts", &verdicts.display().to_string())
        .set("log.filter", "info,nuke_host::repository::validation=debug")
        .start()
}

/// Waits until these models have been validated, each remembered or not.
#[track_caller]
fn validates(server: &Server, expected: &[(&str, bool)]) {
    let expected: Vec<_> = expected.iter().map(|(model, known)| ((*model).to_owned(), *known)).collect();
    eventually(&format!("{expected:?}"), || remembered(server) == expected);
}

/// For each validated model, whether it was remembered.
fn remembered(server: &Server) -> Vec<(String, bool)> {
    let lines = server.log_lines("nuke_host::repository::validation");
    let mut all: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "validated")
        .map(|line| (line["model"].as_str().unwrap().to_owned(), line["remembered"] == Value::Bool(true)))
        .collect();
    all.sort();
    all
}

#[test]
fn a_good_content_is_validated_once_and_a_bad_one_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let verdicts = folder.path().join("verdicts");
    let repository = Repository::new().model("tiny", "1", "tiny").model("wrong-op", "1", "wrong-op");
    let server = start(&repository, &verdicts);
    validates(&server, &[("tiny", false)]);
    drop(server);
    assert_eq!(fs::metadata(&verdicts).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&verdicts).unwrap().count(), 1);

    let repository = repository.model("gather", "1", "gather");
    let server = start(&repository, &verdicts);
    validates(&server, &[("gather", false), ("tiny", true)]);
    assert!(server.state("wrong-op", "1").1.contains("NoSuchOperator"));
    drop(server);
    assert_eq!(fs::read_dir(&verdicts).unwrap().count(), 2);

    // The same name with another content is another content.
    let other = fs::read(root().join("tests/fixtures/models/fixed/1/model.onnx")).unwrap();
    let repository = repository.empty_version("gather", "1").file("model.onnx", other);
    let server = start(&repository, &verdicts);
    validates(&server, &[("gather", false), ("tiny", true)]);
}

#[test]
fn a_folder_that_others_may_write_to_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let repository = Repository::new().model("tiny", "1", "tiny");
    let server = start(&repository, folder.path());
    validates(&server, &[("tiny", false)]);
    assert!(server.logs().iter().any(|line| line.contains("repository.validation.verdicts")));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn check_validates_too_and_it_can_be_switched_off() {
    let repository = Repository::new().model("endless", "1", "endless");
    let check = |settings: &[&str]| {
        let mut command = nuke();
        command.arg("check").arg("--models").arg(repository.models());
        for setting in settings {
            command.args(["--set", setting]);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = check(&["repository.validation.time=2s"]);
    assert!(
        code == Some(1) && text.contains("FAILED  endless 1:") && text.contains("longer than 2s"),
        "{text}"
    );
    let good = Repository::new().model("tiny", "1", "tiny");
    let server = builder(&good).set("repository.validation.enabled", "false").start();
    assert_eq!(remembered(&server), []);
    assert_eq!(server.state("tiny", "1").0, "READY");
}

#[test]
fn the_command_refuses_whoever_is_not_its_host() {
    let run = |input: &[u8], parent: u32| {
        let library = std::env::var_os("NUKE_ORT_LIB").unwrap_or_else(|| "/nowhere".into());
        let mut command = nuke();
        command.args([
            "validate-version",
            "--memory",
            "4294967296",
            "--cpu",
            "60",
            "--parent",
            &parent.to_string(),
        ]);
        command
            .arg("--ort-lib")
            .arg(library)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may end before it has read all.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input);
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    assert!(run(b"", 1 << 22).contains("the host that asked is gone"));
    let own = std::process::id();
    for (input, needle) in [
        (b"".as_slice(), "standard input ends"),
        (b"GET / HTTP/1.1\r\n\r\n", "standard input is no version"),
        (b"nukeval1\xff\xff\xff\xff\xff\xff\xff\xff", "at most"),
        (b"nukeval1\x02\0\0\0\0\0\0\0{}", "the head is not as expected"),
        (b"nukeval1\x02\0\0\0\0\0\0\0", "standard input ends after 0 of 2"),
    ] {
        let said = run(input, own);
        assert!(said.lines().last().unwrap().starts_with("{\"bad\":") && said.contains(needle), "{said}");
    }
}
