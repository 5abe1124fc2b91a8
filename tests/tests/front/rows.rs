//! Version 1 of the protocol: rows and whole tensors.

use nuke_tests::{Server, refused};
use serde_json::{Value, json};

use super::models;

#[test]
fn rows_and_columns_give_what_version_2_gives() {
    let server = Server::builder().repository(&models()).start();
    let ask = |path: &str, body: Value| server.post_json(path, &body).expect(200).json();
    let rows: Vec<Vec<f32>> =
        (0..3).map(|row| (0..16_u8).map(|at| f32::from(at) + row as f32).collect()).collect();
    let flat: Vec<f32> = rows.iter().flatten().copied().collect();
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 16], "data": flat}]});
    let expected = ask("/v2/models/tiny/infer", body)["outputs"][0]["data"].clone();
    for path in ["/v1/models/tiny:predict", "/v1/models/tiny/versions/1:predict", "/v1/models/tiny@1:predict"]
    {
        let answer = ask(path, json!({"instances": rows}));
        let predictions: Vec<Value> = answer["predictions"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap().clone())
            .collect();
        assert_eq!(Value::from(predictions), expected, "{path}");
    }
    let columns = ask("/v1/models/tiny:predict", json!({"inputs": {"x": rows}}));
    assert_eq!(columns["outputs"].as_array().unwrap().len(), 3);
    let two = json!({"instances": [{"A": [1, 2, 0, 0], "B": [3, 4, 0, 0]}, {"B": [0, 0, 0, 0], "A": [5, 6, 7, 8]}]});
    assert_eq!(
        ask("/v1/models/two_inputs:predict", two),
        json!({"predictions": [
            {"SUM": [4.0, 6.0, 0.0, 0.0], "DIFF": [-2.0, -2.0, 0.0, 0.0]},
            {"SUM": [5.0, 6.0, 7.0, 8.0], "DIFF": [5.0, 6.0, 7.0, 8.0]},
        ]})
    );
    let bytes = json!({"instances": ["text", {"b64": "/wA="}]});
    assert_eq!(
        ask("/v1/models/echo_bytes:predict", bytes),
        json!({"predictions": ["text", {"b64": "/wA="}]})
    );
    assert_eq!(
        server.get("/v1/models").expect(200).json(),
        json!({"models": ["echo_bytes", "tiny", "two_inputs"]})
    );
    assert_eq!(server.get("/v1/models/tiny").expect(200).json(), json!({"name": "tiny", "ready": true}));
}

#[test]
fn what_is_wrong_is_named() {
    let server = Server::builder().repository(&models()).start();
    let ask = |path: &str, body: &str| server.post(path, "application/json", body);
    let predict = "/v1/models/tiny:predict";
    refused(&ask(predict, ""), 400, &["body"]);
    refused(&ask(predict, "{}"), 400, &["instances", "inputs"]);
    refused(&ask(predict, r#"{"instances": [[1, 2, 3]]}"#), 400, &["'x'", "[-1, 16]"]);
    refused(&ask(predict, r#"{"instances": [{"y": 1}]}"#), 400, &["'y'", "'x'"]);
    refused(&ask("/v1/models/nobody:predict", "{}"), 404, &["nobody"]);
    refused(&ask("/v1/models/tiny:explain", "{}"), 501, &[":explain"]);
    let plain = ask("/v1/models/tiny", "{}");
    refused(&plain, 405, &[":predict"]);
    assert_eq!(plain.header("allow"), Some("GET,HEAD"));
    for path in [predict, "/v1/models/tiny/versions/1:predict", "/v1/models/tiny@1:predict"] {
        let got = server.get(path);
        refused(&got, 405, &[":predict", "POST"]);
        assert_eq!(got.header("allow"), Some("POST"), "{path}");
    }
    // Deeper than the model has dimensions: refused at the bracket, however much comes behind it.
    let deep = format!("{{\"instances\": {}{}0{}}}", "[0, ".repeat(3), "0, ".repeat(100_000), "]".repeat(3));
    refused(&ask(predict, &deep), 400, &["x"]);
    let deep = format!("{{\"instances\": {}{}0{}}}", "[".repeat(31), "0, ".repeat(100_000), "]".repeat(31));
    refused(&ask(predict, &deep), 400, &["deeper than the 2 dimensions of 'x'"]);
    let client = server.client();
    let binary =
        client.request("POST", predict).header("inference-header-content-length", "2").body("{}").send();
    refused(&binary, 400, &["/v2"]);
    refused(&server.get("/v1/models/nobody"), 404, &["nobody"]);
}
