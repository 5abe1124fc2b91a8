//! `nuke` as an operator types it: what is refused, in which words and with which exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nuke_tests::{Repository, components, nuke};
use tempfile::TempDir;

/// Bad usage or configuration.
const EXIT_CONFIG: i32 = 64;
/// The machine lacks something.
const EXIT_UNAVAILABLE: i32 = 69;

/// An empty working folder with an empty folder of models in it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("models")).unwrap();
    folder
}

/// `nuke` with these arguments in a folder, run to its end.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = nuke();
    command.current_dir(folder).args(arguments).env("XDG_CACHE_HOME", folder.join("cache"));
    command
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The exit code is this, and one line of standard error has all of these in it.
#[track_caller]
fn fails(output: &Output, code: i32, needles: &[&str]) {
    let text = err(output);
    assert_eq!(output.status.code(), Some(code), "{}{text}", out(output));
    assert!(!text.contains("panicked"), "{text}");
    let found = text.lines().any(|line| needles.iter().all(|needle| line.contains(needle)));
    assert!(found, "no line has all of {needles:?}:\n{text}");
}

/// As `fails`, and that line is the only one.
#[track_caller]
fn fails_in_one_line(output: &Output, code: i32, needles: &[&str]) {
    fails(output, code, needles);
    assert_eq!(err(output).trim_end().lines().count(), 1, "{}", err(output));
}

#[test]
fn help_and_version_are_answers_and_wrong_usage_is_64() {
    let folder = folder();
    for arguments in
        [["--help"].as_slice(), &["help"], &["serve", "--help"], &["check", "--help"], &["bench", "-h"]]
    {
        let output = run(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(out(&output).contains("Usage: nuke") && output.stderr.is_empty(), "{arguments:?}");
    }
    let version = run(folder.path(), &["--version"]);
    assert_eq!(
        (version.status.code(), out(&version)),
        (Some(0), format!("nuke {}\n", env!("CARGO_PKG_VERSION")))
    );
    for (arguments, needle) in [
        (["--frobnicate"].as_slice(), "--frobnicate"),
        (&["frobnicate"], "frobnicate"),
        (&["serve", "--prot", "80"], "--prot"),
        (&["serve", "stray"], "stray"),
        (&["serve", "--http"], "--http"),
        (&["predict"], "required"),
        (&["bench", "--nonsense"], "--nonsense"),
    ] {
        fails(&run(folder.path(), arguments), EXIT_CONFIG, &[needle]);
    }
    assert_eq!(run(folder.path(), &[]).status.code(), Some(EXIT_CONFIG));
}

#[test]
fn every_unknown_key_of_the_configuration_is_named_with_its_place_and_the_nearest_key() {
    let folder = folder();
    let text =
        "server:\n  htp: 127.0.0.1:0\n  max_body: lots\nrepositry: {}\nlog: {filter: info, formt: json}\n";
    fs::write(folder.path().join("config.yaml"), text).unwrap();
    for arguments in [
        ["serve"].as_slice(),
        &["check"],
        &["serve", "--config", "config.yaml"],
        &["serve", "--print-config"],
    ] {
        let output = run(folder.path(), arguments);
        fails(&output, EXIT_CONFIG, &["config.yaml:2:3", "server.htp", "unknown key", "'server.http'"]);
        fails(&output, EXIT_CONFIG, &["config.yaml:3:13", "server.max_body", "'lots'", "64KiB"]);
        fails(&output, EXIT_CONFIG, &["config.yaml:4:1", "repositry", "'repository'"]);
        fails(&output, EXIT_CONFIG, &["config.yaml:5:21", "log.formt", "'log.format'"]);
        assert_eq!(err(&output).lines().count(), 4);
    }
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let folder = folder();
    let file = folder.path().join("config.yaml");
    let long = "#".repeat(2 << 20);
    for (text, needles) in [
        (b"server: [".as_slice(), ["not valid YAML"]),
        (b"\xff\xfe", ["UTF-8"]),
        (b"- a\n- b\n", ["map"]),
        (b"server: {http: 127.0.0.1:0}\nserver: {}\n", ["config.yaml:2:1"]),
        (b"a: &a [*a]\n", ["config.yaml"]),
        (b"server: !include x\n", ["config.yaml:1"]),
        (b"tls: {cert: a, key: b}\n", ["tls"]),
        (long.as_bytes(), ["1048576"]),
    ] {
        fs::write(&file, text).unwrap();
        fails(&run(folder.path(), &["serve"]), EXIT_CONFIG, &needles);
    }
    fails_in_one_line(&run(folder.path(), &["serve", "--config", "no.yaml"]), EXIT_CONFIG, &["no.yaml"]);
    fails_in_one_line(&run(folder.path(), &["serve", "--config", "models"]), EXIT_CONFIG, &["models"]);
}

#[test]
fn printed_configuration_names_the_source_of_each_value_and_can_be_read_again() {
    let folder = folder();
    let text =
        "server: {http: 127.0.0.1:7001, max_connections: 77}\nlog:\n  filter: warn\nplugins: {time: 3s}\n";
    fs::write(folder.path().join("config.yaml"), text).unwrap();
    let arguments = ["serve", "--http", "127.0.0.1:7003", "--set", "plugins.time=2s", "--print-config"];
    let printed = command(folder.path(), &arguments)
        .env("NUKE_SERVER__HTTP", "127.0.0.1:7002")
        .env("NUKE_SERVER__MAX_CONNECTIONS", "78")
        .env("NUKE_SERVER__IDLE_TIMEOUT", "9s")
        .output()
        .unwrap();
    assert_eq!(printed.status.code(), Some(0), "{}", err(&printed));
    let text = out(&printed);
    let line = |key: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{key}:")));
        line.unwrap_or_else(|| panic!("no {key} in\n{text}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // Flag before variable before file before default.
    assert_eq!(line("http"), "http: 127.0.0.1:7003 # --http");
    assert_eq!(line("max_connections"), "max_connections: 78 # NUKE_SERVER__MAX_CONNECTIONS");
    assert_eq!(line("idle_timeout"), "idle_timeout: 9s # NUKE_SERVER__IDLE_TIMEOUT");
    // Validation has a time of its own, further up.
    assert!(
        text.lines().any(|line| line.trim_start().starts_with("time: 2s ") && line.ends_with("# --set")),
        "{text}"
    );
    assert_eq!(line("filter"), "filter: warn # config.yaml:3");
    assert_eq!(line("drain_timeout"), "drain_timeout: 30s # default");

    fs::write(folder.path().join("again.yaml"), &printed.stdout).unwrap();
    let again = run(folder.path(), &["serve", "--config", "again.yaml", "--print-config"]);
    let values = |text: &str| {
        text.lines().map(|line| line.split(" #").next().unwrap().trim_end().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&out(&again)), values(&text), "{}", err(&again));
}

#[test]
fn a_variable_that_nobody_reads_is_refused_and_short_names_count() {
    let folder = folder();
    let with = |name: &str, value: &str| {
        command(folder.path(), &["serve", "--print-config"]).env(name, value).output().unwrap()
    };
    fails(&with("NUKE_HTP", "127.0.0.1:1"), EXIT_CONFIG, &["NUKE_HTP", "NUKE_HTTP"]);
    fails(&with("NUKE_SERVER__HTP", "127.0.0.1:1"), EXIT_CONFIG, &["NUKE_SERVER__HTP"]);
    fails(
        &with("NUKE_PLUGINS__TIME", "soon"),
        EXIT_CONFIG,
        &["NUKE_PLUGINS__TIME", "plugins.time", "'soon'"],
    );
    for (name, value) in [
        ("NUKE_HTTP", "127.0.0.1:7009"),
        ("NUKE_MODELS", "elsewhere"),
        ("NUKE_PLUGINS", "elsewhere"),
        ("NUKE_LOG", "debug"),
        ("NUKE_PLUGINS__TIME", "7s"),
    ] {
        let output = with(name, value);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", err(&output));
        let shown = out(&output);
        assert!(
            shown.lines().any(|line| line.contains(value) && line.ends_with(&format!("# {name}"))),
            "{shown}"
        );
    }
    let empty = with("NUKE_HTTP", "");
    assert!(out(&empty).contains("127.0.0.1:8080"), "a variable that is empty counts as not set");
}

#[test]
fn an_address_that_others_can_reach_needs_insecure() {
    let folder = folder();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.invalid:0"] {
        let output = run(folder.path(), &["serve", "--http", address]);
        fails_in_one_line(&output, EXIT_CONFIG, &["server.http", address, "--insecure"]);
        let output = command(folder.path(), &["serve"]).env("NUKE_HTTP", address).output().unwrap();
        fails_in_one_line(&output, EXIT_CONFIG, &["NUKE_HTTP", address, "--insecure"]);
    }
    fs::write(folder.path().join("config.yaml"), "server:\n  http: 0.0.0.0:0\n").unwrap();
    fails_in_one_line(
        &run(folder.path(), &["serve"]),
        EXIT_CONFIG,
        &["config.yaml:2", "0.0.0.0:0", "--insecure"],
    );
    let checked = run(folder.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(out(&checked).contains("--insecure"), "{}", out(&checked));

    let mut open = command(folder.path(), &["serve", "--insecure", "--log-format", "json"]);
    let mut open = open.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(open.stderr.take().unwrap()).lines().map_while(Result::ok);
    let listens = lines.any(|line| line.contains("\"address\":\"0.0.0.0:"));
    open.kill().unwrap();
    open.wait().unwrap();
    assert!(listens, "{:?}", lines.collect::<Vec<_>>());
}

#[test]
fn a_port_that_is_taken_is_one_line() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(folder.path(), &["serve", "--http", &address]);
    fails(&output, EXIT_UNAVAILABLE, &["cannot listen", &address]);
    for wrong in ["127.0.0.1", ":8080", "127.0.0.1:99999", "127.0.0.1:x", "http://127.0.0.1:80"] {
        fails_in_one_line(
            &run(folder.path(), &["serve", "--http", wrong]),
            EXIT_CONFIG,
            &["server.http", wrong],
        );
    }
}

#[test]
fn a_models_folder_that_is_not_there_is_one_line() {
    let folder = folder();
    let output =
        run(folder.path(), &["serve", "--http", "127.0.0.1:0", "--models", "no/such/folder", "--log", "off"]);
    fails_in_one_line(&output, EXIT_CONFIG, &["no/such/folder"]);
    fails_in_one_line(
        &run(folder.path(), &["check", "--models", "no/such/folder"]),
        EXIT_CONFIG,
        &["no/such/folder"],
    );
}

/// A shared library that passes for ONNX Runtime of a version that nobody serves any more.
fn too_old(folder: &Path) -> PathBuf {
    let source = r#"
        use std::ffi::{c_char, c_void};
        #[repr(C)]
        pub struct Base { api: extern "C" fn(u32) -> *const c_void, version: extern "C" fn() -> *const c_char }
        extern "C" fn api(_version: u32) -> *const c_void { std::ptr::null() }
        extern "C" fn version() -> *const c_char { c"1.10.0".as_ptr() }
        static BASE: Base = Base { api, version };
        #[unsafe(no_mangle)]
        pub extern "C" fn OrtGetApiBase() -> *const Base { &BASE }
    "#;
    let (file, library) = (folder.join("old.rs"), folder.join("libonnxruntime.so"));
    fs::write(&file, source).unwrap();
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(compiler);
    command
        .args(["--edition", "2024", "--crate-type", "cdylib", "-C", "panic=abort", "-o"])
        .arg(&library)
        .arg(&file);
    let output = command.output().expect("rustc, which has compiled this test");
    assert!(output.status.success(), "{}", err(&output));
    library
}

/// A shared library that is none of ONNX Runtime's: the C library of this process.
fn foreign() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]))
        .find(|path| path.contains("libc.so"));
    path.expect("a process that is linked to libc").into()
}

#[test]
fn an_onnx_runtime_that_cannot_be_used_is_one_line_with_the_remedy() {
    let folder = folder();
    let text = folder.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    let empty = folder.path().join("empty.so");
    fs::write(&empty, "").unwrap();
    let old = too_old(folder.path());
    let missing = folder.path().join("missing.so");
    for library in [&missing, &text, &empty, &foreign(), &old, &folder.path().join("models")] {
        let shown = library.display().to_string();
        let needles = ["ONNX Runtime", &shown, "1.22", "--ort-lib", "NUKE_ORT_LIB"];
        for command in ["serve", "check"] {
            let output = run(
                folder.path(),
                &[command, "--log", "off", "--set", "server.http=127.0.0.1:0", "--ort-lib", &shown],
            );
            fails_in_one_line(&output, EXIT_UNAVAILABLE, &needles);
        }
    }
    let old = run(folder.path(), &["check", "--ort-lib", &old.display().to_string()]);
    fails(&old, EXIT_UNAVAILABLE, &["1.10.0"]);
    let mut lost = command(folder.path(), &["check"]);
    lost.env_remove("NUKE_ORT_LIB").env_remove("NUKE_CACHE").env("HOME", folder.path());
    let lost = lost.output().unwrap();
    // A machine may have one in /usr/lib: then there is nothing to complain of.
    if lost.status.code() != Some(0) {
        let needles = ["ONNX Runtime was not found", "nuke runtime install", "--ort-lib"];
        fails_in_one_line(&lost, EXIT_UNAVAILABLE, &needles);
    }
}

#[test]
fn an_onnx_runtime_that_was_cut_short_is_one_line_and_no_crash() {
    let folder = folder();
    let whole = fs::read(foreign()).unwrap();
    for length in [64, 5000, whole.len() / 2, whole.len() - 5000] {
        let cut = folder.path().join("cut.so");
        fs::write(&cut, &whole[..length]).unwrap();
        let output = run(folder.path(), &["check", "--ort-lib", &cut.display().to_string()]);
        fails_in_one_line(&output, EXIT_UNAVAILABLE, &["ONNX Runtime", "cut.so", "--ort-lib"]);
    }
}

/// Thirteen versions with one fault or more, and two without.
fn all_kinds_of_bundles() -> Repository {
    Repository::new()
        .model("good", "1", "tiny")
        .model("bad-keys", "1", "tiny")
        .model_yaml("queu: {size: 1}\nworkers:\n  maks: 2\n")
        .model("bad-bundle", "1", "tiny")
        .bundle_yaml("plugn: x.wasm\nmodel: ../outside.onnx\ncapabilities: [image, network]\n")
        .empty_version("no-model", "1")
        .model("no-onnx", "1", "not-onnx")
        .model("wrong-op", "1", "wrong-op")
        .model("wrong-version", "1", "digits")
        .plugin(components::build("wrong-version"))
        .model("wrong-world", "1", "digits")
        .plugin(components::build("wrong-world"))
        .model("not-wasm", "1", "digits")
        .plugin(components::build("not-wasm"))
        .model("no-plugin-folder", "1", "digits")
        .bundle_yaml("plugin: nowhere@^1\n")
        .model("no-plugin-version", "1", "digits")
        .bundle_yaml("plugin: shared@^2\n")
        .shared_plugin("shared", "1.0.0", components::build("good"))
        .model("no-such-version", "1", "tiny")
        .model_yaml("versions: [1, 7]\n")
        .model("not-granted", "1", "digits")
        .plugin(components::build("uses-image"))
        .model("warm-up-fails", "1", "digits")
        .plugin(components::build("trap"))
        .bundle_yaml("plugin: plugin.wasm\nwarmup: [sample]\n")
        .file("sample", "x")
}

#[test]
fn check_lists_all_problems_of_all_bundles_and_what_is_fine() {
    let repository = all_kinds_of_bundles();
    let folder = folder();
    let (models, plugins) =
        (repository.models().display().to_string(), repository.plugins().display().to_string());
    let output = run(folder.path(), &["check", "--models", &models, "--plugins", &plugins]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(1), "{text}{}", err(&output));
    assert!(!err(&output).contains("panicked"), "{}", err(&output));
    let expected: [(&str, &[&str]); 19] = [
        ("ok      good 1", &[]),
        ("FAILED  bad-keys 1", &["model.yaml:1:1", "queu", "'queue'"]),
        ("FAILED  bad-keys 1", &["model.yaml:3:3", "workers.maks", "max"]),
        ("FAILED  bad-bundle 1", &["bundle.yaml:1:1", "plugn", "'plugin'"]),
        ("FAILED  bad-bundle 1", &["bundle.yaml:2:8", "model", "../outside.onnx"]),
        ("FAILED  bad-bundle 1", &["bundle.yaml:3:", "network"]),
        ("FAILED  no-model 1", &["model.onnx"]),
        ("FAILED  no-onnx 1", &["model.onnx"]),
        ("FAILED  wrong-op 1", &["NoSuchOperator"]),
        ("FAILED  wrong-version 1", &["0.9.0", "0.1"]),
        ("FAILED  wrong-world 1", &["plugin"]),
        ("FAILED  not-wasm 1", &["plugin.wasm", "not valid WebAssembly"]),
        ("FAILED  no-plugin-folder 1", &["nowhere", "--plugins"]),
        ("FAILED  no-plugin-version 1", &["shared", "^2", "1.0.0"]),
        ("ok      no-such-version 1", &[]),
        ("FAILED  no-such-version 7", &["model.yaml", "'7'"]),
        ("FAILED  not-granted 1", &["image", "capabilities"]),
        ("FAILED  warm-up-fails 1", &["warm-up", "sample"]),
        ("2 ready, 13 failed", &[]),
    ];
    let mut missing = Vec::new();
    for (start, needles) in expected {
        let found = text
            .lines()
            .any(|line| line.starts_with(start) && needles.iter().all(|needle| line.contains(needle)));
        if !found {
            missing.push((start, needles));
        }
    }
    assert!(missing.is_empty(), "no such lines: {missing:#?}\nin:\n{text}");
    // Each problem is one line that names its model.
    let stray: Vec<_> = text
        .lines()
        .filter(|line| {
            !line.starts_with("ok      ") && !line.starts_with("FAILED  ") && !line.ends_with(" failed")
        })
        .collect();
    assert!(stray.is_empty(), "{stray:#?}");
    let not_wasm = text.lines().filter(|line| line.starts_with("FAILED  not-wasm 1")).count();
    assert_eq!(not_wasm, 1, "one problem is one line:\n{text}");
}

#[test]
fn check_lists_both_faults_of_one_bundle() {
    let repository =
        Repository::new().model("both", "1", "wrong-op").plugin(components::build("wrong-version"));
    let folder = folder();
    let output = run(folder.path(), &["check", "--models", &repository.models().display().to_string()]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("model.onnx"), "the model is named:\n{text}");
    assert!(text.contains("0.9.0"), "and the plugin too:\n{text}");
}

#[test]
fn check_is_content_with_what_is_fine() {
    let repository = Repository::new()
        .model("tiny", "1", "tiny")
        .model("good", "1.2.3", "digits")
        .plugin(components::build("good"))
        .bundle_yaml("plugin: plugin.wasm\nwarmup: [sample]\n")
        .file("sample", "x");
    let folder = folder();
    let output = run(folder.path(), &["check", "--models", &repository.models().display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    assert_eq!(out(&output), "ok      good 1.2.3\nok      tiny 1\n2 ready, 0 failed\n");
}
