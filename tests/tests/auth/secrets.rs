//! Nothing that the host writes or answers holds a secret, even where it tells everything.

use nuke_tests::{Server, nuke};
use serde_json::json;

use super::issuer::{Issuer, SECRET};
use super::{Setup, bearer, infer, keys};

/// Asks over HTTP/2.
fn infer_h2(server: &Server, pairs: &[(&str, &str)]) -> u16 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut request = http::Request::get(format!("{}/v2/models/slow", server.url()));
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        let (answer, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        let status = answer.await.unwrap().status().as_u16();
        driver.abort();
        status
    })
}

#[test]
fn no_log_no_answer_and_no_configuration_shows_one() {
    let setup = Setup::new();
    let made = keys(&setup.path("keys.yaml"), &["create", "ci", "--scope", "admin", "--scope", "predict:*"]);
    let key = made["key"].as_str().unwrap().to_owned();
    let server =
        setup.builder(&format!("{}log: {{filter: trace, audit: audit.jsonl}}\n", super::AUTH)).start();
    let token = Issuer::hs256().token(json!({"nonce": "a-word-inside-of-a-token"}));
    let mut answers = String::new();
    let wrong_token = format!("{token}x");
    let wrong_key = format!("{}0123456789abcdef", &key[..key.len() - 16]);
    for (name, value) in [
        ("authorization", bearer(&token)),
        ("authorization", bearer(&wrong_token)),
        ("authorization", token.clone()),
        ("authorization", format!("Basic {token}")),
        ("x-api-key", key.clone()),
        ("x-api-key", wrong_key.clone()),
        ("authorization", bearer(&key)),
    ] {
        let answer = infer(&server.client(), (name, &value));
        answers.push_str(&format!("{:?} {}", answer.headers, answer.text()));
        infer_h2(&server, &[(name, &value)]);
    }
    for path in ["/v2/repository/models/slow/unload", "/v2/repository/models/nowhere/load"] {
        let answer = server.client().request("POST", path).header("x-api-key", &key).send();
        answers.push_str(&answer.text());
    }
    let audit = std::fs::read_to_string(setup.path("audit.jsonl")).unwrap();
    let printed =
        nuke().args(["serve", "--print-config", "--config"]).arg(setup.path("config.yaml")).output().unwrap();
    assert!(printed.status.success());
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(printed.contains("jwt.key"), "{printed}");
    let logs = server.terminate().logs.join("\n");
    assert!(logs.contains("TRACE"), "the log tells everything");
    let signature = token.rsplit('.').next().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let secret = std::str::from_utf8(SECRET).unwrap();
    let key_secret = key.rsplit('_').next().unwrap();
    for (what, hidden) in [
        ("the issuer's secret", secret),
        ("a token's signature", signature),
        ("a token's claims", claims),
        ("a key's secret", &key_secret[..16]),
        ("a claim", "a-word-inside-of-a-token"),
    ] {
        for (place, text) in
            [("log", &logs), ("answers", &answers), ("audit", &audit), ("configuration", &printed)]
        {
            let shown = text.lines().find(|line| line.contains(hidden));
            assert!(shown.is_none(), "{what} is in the {place}: {}", shown.unwrap());
        }
    }
}

#[test]
fn the_client_shows_who_it_is_and_never_what_it_shows() {
    let setup = Setup::new();
    let made = keys(&setup.path("keys.yaml"), &["create", "ci", "--scope", "admin", "--scope", "predict:*"]);
    let key = made["key"].as_str().unwrap();
    let server = setup.start("");
    std::fs::write(setup.path("token"), format!("{key}\n")).unwrap();
    let run = |arguments: &[&str], variable: Option<&str>| {
        let mut command = nuke();
        command.args(["traffic", "show", "slow", "--url", &server.url()]).args(arguments);
        command.envs(variable.map(|name| (name, key)));
        let output = command.output().unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains(&key[20..]), "{text}");
        (output.status.code(), text)
    };
    let (code, text) = run(&[], None);
    assert!(code == Some(1) && text.contains("credentials are missing"), "{text}");
    let file = setup.path("token").display().to_string();
    for (arguments, variable) in [
        (["--token", key].as_slice(), None),
        (&["--api-key", key], None),
        (&["--token-file", &file], None),
        (&[], Some("NUKE_TOKEN")),
        (&[], Some("NUKE_API_KEY")),
    ] {
        let (code, text) = run(arguments, variable);
        assert_eq!(code, Some(0), "{arguments:?} {variable:?}: {text}");
    }
    let help = nuke().args(["predict", "--help"]).env("NUKE_TOKEN", key).output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains(&key[20..]));
}
