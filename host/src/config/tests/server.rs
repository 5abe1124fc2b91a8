//! The sources of `config.yaml`'s values and what comes of them.

use std::path::Path;
use std::time::Duration;

use super::super::{
    ByteSize, Capability, LogFormat, Override, PluginSettings, Pooling, Report, RepositorySettings,
    ServerConfig, Source, Watch,
};
use super::variables;

fn source(report: &Report, path: &str) -> String {
    report.source(path).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn defaults_are_those_of_the_manual() {
    let loaded = ServerConfig::from_text("config.yaml", "").unwrap();
    let config = loaded.value;
    let machine = ServerConfig::default();
    let validation = machine.repository.validation;
    assert_eq!(
        ServerConfig {
            plugins: PluginSettings {
                compile_cache: machine.plugins.compile_cache,
                ..config.plugins.clone()
            },
            repository: RepositorySettings { validation, ..config.repository.clone() },
            ..config.clone()
        },
        ServerConfig::default()
    );
    assert_eq!(config.server.http.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.max_connections, 4096);
    assert_eq!(config.server.header_timeout, Duration::from_secs(10));
    assert_eq!(config.server.idle_timeout, Duration::from_secs(75));
    assert_eq!(config.server.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.server.request_timeout, Duration::from_secs(60));
    assert_eq!(config.server.max_body, ByteSize::mib(64));
    assert_eq!(config.repository.models, Path::new("./models"));
    assert_eq!(config.repository.rescan, Duration::from_secs(5));
    assert_eq!(config.repository.quiet, Duration::from_secs(1));
    assert_eq!(config.repository.watch, Watch::Auto);
    assert_eq!(config.plugins.time, Duration::from_millis(500));
    assert_eq!(config.plugins.memory, ByteSize::mib(256));
    assert!(config.plugins.instances >= 2 && config.plugins.threads >= 1);
    assert_eq!(config.plugins.pixels, 67_108_864);
    assert_eq!(config.plugins.pooling, Pooling::Auto);
    assert_eq!(config.plugins.allow, Capability::ALL);
    assert_eq!((config.runtime.ort_lib, config.runtime.intra_threads), (None, 1));
    assert_eq!(config.predict.headers, ["accept", "accept-language", "content-language"]);
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Auto, "info"));
    assert!(!config.insecure && config.models.is_empty());
    assert!(loaded.report.iter().all(|line| line.source == Source::Default));
}

#[test]
fn flag_beats_variable_beats_file_beats_default() {
    let text = "server:\n  http: 127.0.0.1:1\n  max_body: 1MiB\n  idle_timeout: 1m\n";
    let environment = variables(&[("NUKE_HTTP", "127.0.0.1:2"), ("NUKE_SERVER__MAX_BODY", "2MiB")]);
    let flags = [
        Override::new("server.http", "127.0.0.1:3", "--http"),
        Override::new("server.http", "127.0.0.1:4", "--http"),
    ];
    let loaded = ServerConfig::from_sources("config.yaml", text, &environment, &flags).unwrap();
    assert_eq!(loaded.value.server.http.port(), 4);
    assert_eq!(loaded.value.server.max_body, ByteSize::mib(2));
    assert_eq!(loaded.value.server.idle_timeout, Duration::from_secs(60));
    assert_eq!(source(&loaded.report, "server.http"), "--http");
    assert_eq!(source(&loaded.report, "server.max_body"), "NUKE_SERVER__MAX_BODY");
    assert_eq!(source(&loaded.report, "server.idle_timeout"), "config.yaml:4");
    assert_eq!(source(&loaded.report, "server.drain_timeout"), "default");
}

#[test]
fn paths_are_relative_to_the_file_that_names_them() {
    let text = "repository: {models: ./m}\nmodels: [{name: a, path: /abs/x.onnx}, {name: b, path: y.onnx}]\n";
    let environment = variables(&[("NUKE_PLUGINS", "p")]);
    let flags = [Override::new("runtime.ort_lib", "lib.so", "--ort-lib")];
    let config = ServerConfig::from_sources("conf/config.yaml", text, &environment, &flags).unwrap().value;
    assert_eq!(config.repository.models, Path::new("conf/m"));
    assert_eq!(config.repository.plugins, Path::new("p"));
    assert_eq!(config.runtime.ort_lib.as_deref(), Some(Path::new("lib.so")));
    assert_eq!(config.models[0].path, Path::new("/abs/x.onnx"));
    assert_eq!(config.models[1].path, Path::new("conf/y.onnx"));
    assert_eq!((config.models[1].version.as_str(), config.models[1].max_workers), ("1", None));
}

#[test]
fn lists_in_variables_are_split_at_commas() {
    let allow = |value: &str| {
        let environment = variables(&[("NUKE_PLUGINS__ALLOW", value)]);
        ServerConfig::from_sources("config.yaml", "plugins: {allow: [image]}", &environment, &[])
            .map(|loaded| loaded.value.plugins.allow)
    };
    assert_eq!(allow("logging, bundle"), Ok(vec![Capability::Logging, Capability::Bundle]));
    assert_eq!(allow("[]"), Ok(vec![]));
    // An empty variable is one that is not set.
    assert_eq!(allow(""), Ok(vec![Capability::Image]));
    assert!(allow("logging,,bundle").is_err());
}

#[test]
fn empty_sections_and_nulls_are_defaults() {
    let text = "server:\nplugins: ~\nmodels:\nruntime: {ort_lib: null}\n";
    let environment = variables(&[("NUKE_HTTP", "localhost:0")]);
    let config = ServerConfig::from_sources("config.yaml", text, &environment, &[]).unwrap().value;
    assert_eq!(config.server.http.to_string(), "localhost:0");
    assert_eq!(config.runtime.ort_lib, None);
}

#[test]
fn the_compile_cache_is_found_and_can_be_off() {
    let cache = |text: &str, pairs: &[(&str, &str)]| {
        let loaded = ServerConfig::from_sources("c/config.yaml", text, &variables(pairs), &[]).unwrap();
        loaded.value.plugins.compile_cache.map(|path| path.display().to_string())
    };
    assert_eq!(cache("", &[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).as_deref(), Some("/x/nuke/compiled"));
    assert_eq!(
        cache("", &[("XDG_CACHE_HOME", "x"), ("HOME", "/h")]).as_deref(),
        Some("/h/.cache/nuke/compiled")
    );
    assert_eq!(cache("", &[]), None);
    assert_eq!(cache("plugins: {compile_cache: off}", &[("HOME", "/h")]), None);
    assert_eq!(cache("plugins: {compile_cache: here}", &[]).as_deref(), Some("c/here"));
}

#[test]
fn an_open_address_needs_consent() {
    let check = |text: &str, environment: &[(&str, &str)]| {
        let loaded = ServerConfig::from_sources("config.yaml", text, &variables(environment), &[]).unwrap();
        loaded.check_exposure().map_err(|problem| problem.to_string())
    };
    assert_eq!(check("", &[]), Ok(()));
    assert_eq!(check("server: {http: 'localhost:80'}", &[]), Ok(()));
    assert_eq!(check("server: {http: 0.0.0.0:80}\ninsecure: true", &[]), Ok(()));
    let refused = check("server:\n  http: 0.0.0.0:80", &[]).unwrap_err();
    assert!(
        refused.starts_with("config.yaml:2:1: server.http: 0.0.0.0:80 can be reached by others"),
        "{refused}"
    );
    assert!(refused.contains("--insecure"));
    let refused = check("", &[("NUKE_HTTP", "[::]:80")]).unwrap_err();
    assert!(refused.starts_with("NUKE_HTTP: server.http: [::]:80 can be reached"), "{refused}");
    assert!(check("server: {http: 'my-host.example:80'}", &[]).is_err());
}

#[test]
fn tls_needs_its_files_and_a_client_certificate_is_consent() {
    let problems = |text: &str| super::lines(ServerConfig::from_text("config.yaml", text)).join("\n");
    let https = "server: {https: '0.0.0.0:443'}\n";
    let missing = problems(https);
    assert!(missing.contains("tls.cert: missing") && missing.contains("tls.key: missing"), "{missing}");
    assert!(problems("server: {redirect: true}").contains("server.redirect: needs server.https"));
    assert!(problems("tls: {cert: a, key: b, admin: true}").contains("tls.admin: server.admin is not set"));
    assert!(problems("tls: {client_crl: a}").contains("tls.client_crl: counts only with tls.client_ca"));
    assert!(problems("server: {max_body: 2GiB, max_memory: 1GiB}").contains("more than server.max_body"));
    assert!(problems("tls: {min_version: 1.1}").contains("one of 1.2, 1.3"));
    let check = |tls: &str| {
        let text = format!("{https}tls: {{cert: a, key: b{tls}}}");
        let loaded = ServerConfig::from_text("config.yaml", &text).unwrap();
        (loaded.check_exposure().is_ok(), loaded.value)
    };
    assert!(!check("").0 && !check(", client_ca: c, client_auth: optional").0);
    let (allowed, config) = check(", client_ca: c");
    assert!(allowed);
    assert_eq!(config.tls.cert.as_deref(), Some(Path::new("a")));
    assert_eq!(config.server.https.unwrap().port(), 443);
}
