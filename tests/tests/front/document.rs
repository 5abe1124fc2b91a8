//! The document of all routes, against the real server.

use std::process::Command;

use nuke_tests::{Server, program, root};

use super::models;

#[test]
fn the_document_and_its_page_are_served_and_ask_no_other_host() {
    let server = Server::builder().repository(&models()).start();
    let document = server.get("/openapi.json").expect(200);
    assert_eq!(document.header("content-type"), Some("application/json"));
    let committed = std::fs::read(root().join("docs/openapi.json")).unwrap();
    assert!(document.body == committed, "docs/openapi.json is another document than /openapi.json");
    let page = server.get("/docs").expect(200);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let text = page.text();
    assert!(!text.contains("http://") && !text.contains("https://") && text.contains("openapi.json"));
}

#[test]
fn requests_made_from_the_document_find_the_server_as_it_says() {
    let Some(schemathesis) = program("NUKE_TEST_SCHEMATHESIS") else { return };
    let server = Server::builder().repository(&models()).start();
    let output = Command::new(schemathesis)
        .arg("--config-file")
        .arg(root().join("tests/python/schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", server.url()), "--no-color"])
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
