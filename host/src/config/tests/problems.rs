//! Every problem is found at once, with its place and the remedy.

use super::super::{BundleConfig, Override, ServerConfig};
use super::{lines, variables};

fn server(text: &str) -> Vec<String> {
    lines(ServerConfig::from_text("config.yaml", text))
}

#[test]
fn all_problems_of_a_file_are_named() {
    let text = "\
server:
  http: 127.0.0.1
  htp: 127.0.0.1:80
  idle_timeout: 5 parsecs
  max_connections: 0
plugins:
  allow: [logging, imge, text]
  pooling: maybe
  memory: 8GiB
log: loud
insecure: perhaps
models:
  - {name: a/b, path: x.onnx}
  - {path: y.onnx, max_workers: many}
";
    let expected = [
        "config.yaml:2:9: server.http: expected an address like 127.0.0.1:8080, [::1]:8080 or localhost:8080, \
         got '127.0.0.1'; the port is missing; 0 lets the system choose one",
        "config.yaml:3:3: server.htp: unknown key; did you mean 'server.http'? known keys here: http, https, \
         max_body, redirect, grpc, admin, max_connections, max_connections_per_address, max_streams, max_header_size, \
         max_headers, header_timeout, idle_timeout, body_timeout, write_timeout, drain_delay, drain_timeout, \
         max_memory, error_details, max_message, request_timeout, \
         compression, cors, server_timing",
        "config.yaml:4:17: server.idle_timeout: expected a duration like 500ms, 2s or 1m, got '5 parsecs'",
        "config.yaml:5:20: server.max_connections: expected 1 to 1000000, got 0",
        "config.yaml:7:20: plugins.allow[1]: expected one of logging, bundle, image, got 'imge'; did you mean 'image'?",
        "config.yaml:7:26: plugins.allow[2]: expected one of logging, bundle, image, got 'text'; \
         this version does not serve it yet",
        "config.yaml:8:12: plugins.pooling: expected one of auto, on, off, got 'maybe'",
        "config.yaml:9:11: plugins.memory: expected 64KiB to 4GiB, got 8GiB",
        "config.yaml:10:6: log: expected a map of keys, got 'loud'",
        "config.yaml:11:11: insecure: expected true or false, got 'perhaps'",
        "config.yaml:13:12: models[0].name: expected a name of letters, digits, '.', '_' and '-', at most 128 of them, \
         got 'a/b'",
        "config.yaml:14:5: models[1].name: missing; expected a name of letters, digits, '.', '_' and '-', at most 128 of \
         them",
        "config.yaml:14:33: models[1].max_workers: expected a whole number like 16, got 'many'",
    ];
    assert_eq!(server(text), expected);
}

#[test]
fn other_forms_are_named() {
    let got = |text: &str| server(text).join("\n");
    assert_eq!(got("insecure:\n"), "config.yaml:1:9: insecure: expected true or false, got nothing");
    assert_eq!(got("insecure: [true]\n"), "config.yaml:1:11: insecure: expected true or false, got a list");
    assert_eq!(got("insecure: {a: b}\n"), "config.yaml:1:11: insecure: expected true or false, got a map");
    assert_eq!(got("[a]\n"), "config.yaml:1:1: expected a map of keys, got a list");
    let list = "config.yaml:1:9: models: expected a list of maps, got a map";
    assert_eq!(got("models: {a: b}\n"), list);
    let list = "predict.headers: expected a list [a, b], each the name of a header like accept-language, got 'accept'";
    assert_eq!(got("predict: {headers: accept}\n"), format!("config.yaml:1:20: {list}"));
    let twice = "config.yaml:1:20: predict.headers: 'accept' is listed twice; keep one";
    assert_eq!(got("predict: {headers: [accept, Accept]}\n"), twice);
}

#[test]
fn keys_in_the_wrong_section_are_led_home() {
    let found = server("http: 127.0.0.1:80\nquay: 80\n");
    assert!(
        found[0].contains(
            "http: unknown key; did you mean 'server.http'? known keys here: server, tls, repository"
        )
    );
    assert!(
        found[1].starts_with("config.yaml:2:1: quay: unknown key; known keys here: server"),
        "{}",
        found[1]
    );
}

#[test]
fn duplicate_keys_are_refused_wherever_they_are() {
    let text = "log:\n  filter: info\n  filter: debug\nlog: {}\n? [a]\n: b\n";
    let expected = [
        "config.yaml:3:3: duplicate key 'filter', first given in line 2; keep one",
        "config.yaml:4:1: duplicate key 'log', first given in line 1; keep one",
        "config.yaml:5:3: a list or a map cannot be a key; expected a word",
    ];
    assert_eq!(server(text), expected);
}

#[test]
fn a_model_is_listed_once() {
    let text = "models:\n- {name: a, path: x}\n- {name: a, path: y, version: 2}\n- {name: a, path: z, version: '1'}\n";
    assert_eq!(
        server(text),
        ["config.yaml:4:3: models[2].name: version '1' of 'a' is listed twice; keep one"]
    );
}

#[test]
fn what_comes_later_is_not_called_unknown() {
    let found =
        lines(BundleConfig::from_text("bundle.yaml", "inputs: []\ncapabilities: [image, inference, imag]\n"));
    assert!(
        found[0].contains("inputs: this version does not serve a mapping of input tensors yet"),
        "{found:?}"
    );
    assert!(found[1].ends_with("'inference'; this version does not serve it yet"));
    assert!(found[2].ends_with("'imag'; did you mean 'image'?"));
}

#[test]
fn variables_and_flags_are_named_as_the_place() {
    let environment = variables(&[
        ("NUKE_SERVER_HTTP", "127.0.0.1:1"),
        ("NUKE_SERVER__HTP", "127.0.0.1:1"),
        ("NUKE_PLUGINS__TIME", "soon"),
        ("NUKE_TLS__MIN_VERSION", "1.1"),
        ("NUKE_CONFIGURATION", "x"),
        ("NUKE_TEST_ANYTHING", "x"),
        ("NUKE_CACHE_DIR", "x"),
        ("NUKE_MODELS__0__NAME", "x"),
        ("HOME", "/home/x"),
    ]);
    let flags = [Override::new("server.http", "nowhere", "--http")];
    let text = "models: [{name: a, path: b}]\nlog: {format: ugly}";
    let found = lines(ServerConfig::from_sources("config.yaml", text, &environment, &flags));
    let expected = [
        "config.yaml:2:15: log.format: expected one of auto, pretty, json, got 'ugly'",
        "--http: server.http: expected an address like 127.0.0.1:8080, [::1]:8080 or localhost:8080, got 'nowhere'; the \
         port is missing; 0 lets the system choose one",
        "NUKE_CONFIGURATION: configuration: unknown variable; a variable is NUKE_ and the key's path, as in \
         NUKE_SERVER__HTTP",
        "NUKE_MODELS__0__NAME: models.0.name: 'models' is not a map, so nothing can be set in it from here",
        "NUKE_PLUGINS__TIME: plugins.time: expected a duration like 500ms, 2s or 1m, got 'soon'",
        "NUKE_SERVER_HTTP: server_http: unknown variable; did you mean NUKE_SERVER__HTTP?",
        "NUKE_SERVER__HTP: server.htp: unknown variable; did you mean NUKE_SERVER__HTTP?",
        "NUKE_TLS__MIN_VERSION: tls.min_version: expected one of 1.2, 1.3, got '1.1'; did you mean '1.2'?",
    ];
    assert_eq!(found, expected);
}

#[test]
fn two_names_of_one_key_must_agree() {
    let both = |long: &str| {
        let environment = variables(&[("NUKE_HTTP", "127.0.0.1:1"), ("NUKE_SERVER__HTTP", long)]);
        lines(ServerConfig::from_sources("config.yaml", "", &environment, &[]))
    };
    assert!(both("127.0.0.1:1").is_empty());
    let expected =
        "NUKE_SERVER__HTTP: server.http: NUKE_HTTP sets the same key to another value; unset one of them";
    assert_eq!(both("127.0.0.1:2"), [expected]);
}

#[test]
fn a_broken_file_does_not_hide_a_broken_variable() {
    let environment = variables(&[("NUKE_HTTP", "x")]);
    let found = lines(ServerConfig::from_sources("config.yaml", "server: {http: [}\n", &environment, &[]));
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("config.yaml:1:") && found[0].contains("not valid YAML: "), "{found:?}");
    assert!(found[1].starts_with("NUKE_HTTP: server.http: expected an address"));
}
