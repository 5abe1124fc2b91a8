//! Both builds, natively: pictures to the model's input against Pillow, scores to labels, and each way
//! in which a request or a bundle can be wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use image_classify::ImageClassify;
use nuke_plugin_sdk::testing::TestHost;
use nuke_plugin_sdk::{
    Context, ErrorCode, Outputs, Parameters, Plugin, Preprocessed, Request, Result, Tensor,
};

const PNG: &[u8] = include_bytes!("data/drawing.png");
const JPEG: &[u8] = include_bytes!("data/drawing.jpg");
const WEBP: &[u8] = include_bytes!("data/drawing.webp");

fn host() -> TestHost {
    TestHost::new()
        .file("labels.txt", "espresso\nsoup bowl\ntripod\ncat\n")
        .setting("resize", 40)
        .setting("size", 32)
        .setting("top_k", 2)
}

fn preprocess(host: &TestHost, request: Request) -> Result<Preprocessed> {
    host.instance::<ImageClassify>()?.preprocess(request)
}

fn postprocess(host: &TestHost, outputs: impl Into<Vec<Tensor>>, k: u32) -> Result<String> {
    let context = Context(k.to_le_bytes().to_vec());
    let plugin = host.instance::<ImageClassify>()?;
    let response = plugin.postprocess(Outputs::new(outputs), context, Parameters::default())?;
    assert_eq!(response.content_type, "application/json");
    Ok(String::from_utf8(response.body).unwrap())
}

fn logits(shape: &[u32], values: &[f32]) -> Tensor {
    Tensor::from_f32("logits", shape, values).unwrap()
}

#[test]
fn each_format_becomes_the_tensor_that_pillow_and_numpy_make() {
    let host = host();
    // In units of a pixel. JPEG: another decoder, see the tests of `nuke-image`.
    for (bytes, expected, tolerance) in [
        (PNG, &include_bytes!("data/drawing.png.nchw")[..], 1.0),
        (JPEG, include_bytes!("data/drawing.jpg.nchw"), 4.0),
        (WEBP, include_bytes!("data/drawing.webp.nchw"), 1.0),
    ] {
        let preprocessed = preprocess(&host, Request::new("image/whatever", bytes)).unwrap();
        let [tensor] = preprocessed.tensors.as_slice() else { panic!("one input") };
        assert_eq!((tensor.name.as_str(), tensor.shape.as_slice()), ("input", &[1, 3, 32, 32][..]));
        let expected = expected.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        for (ours, theirs) in tensor.as_f32().unwrap().iter().zip(expected) {
            assert!((ours - theirs).abs() <= tolerance / 128.0, "{ours} against {theirs}");
        }
    }
}

#[test]
fn the_bundle_says_what_the_model_expects() {
    let host = host()
        .setting("input", "pixels")
        .setting("layout", "nhwc")
        .setting("datatype", "UINT8")
        .setting("channels", "gray");
    let preprocessed = preprocess(&host, Request::new("", PNG)).unwrap();
    let tensor = &preprocessed.tensors[0];
    assert_eq!((tensor.name.as_str(), tensor.shape.as_slice()), ("pixels", &[1, 32, 32, 1][..]));
    assert_eq!(tensor.data.len(), 32 * 32);
}

#[test]
fn scores_become_labels() {
    let host = host();
    let expected = r#"{"predictions":[{"label":"tripod","index":2,"probability":0.5},{"label":"cat","index":3,"probability":0.5}]}"#;
    assert_eq!(postprocess(&host, [logits(&[1, 4], &[-200.0, -200.0, 9.0, 9.0])], 2).unwrap(), expected);
    for shape in [&[4][..], &[1, 4, 1, 1]] {
        assert!(postprocess(&host, [logits(shape, &[1.0, 5.0, 0.0, 0.0])], 1).unwrap().contains("soup bowl"));
    }
}

#[test]
fn k_comes_from_the_request_else_from_the_bundle() {
    let host = host();
    let k = |request: Request| {
        let context = preprocess(&host, request).unwrap().context;
        let plugin = host.instance::<ImageClassify>().unwrap();
        let outputs = Outputs::new([logits(&[1, 4], &[0.0, 1.0, 2.0, 3.0])]);
        let body = plugin.postprocess(outputs, context, Parameters::default()).unwrap().body;
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        answer["predictions"].as_array().unwrap().len()
    };
    assert_eq!(k(Request::new("image/png", PNG)), 2);
    assert_eq!(k(Request::new("image/png", PNG).with_parameter("k", "3")), 3);
    assert_eq!(k(Request::new("image/png", PNG).with_parameter("k", "4")), 4);
}

#[test]
fn a_bad_k_is_refused_before_the_picture_is_looked_at() {
    let host = host();
    for (k, message) in [
        ("0", "parameter 'k' must be from 1 to 4, got 0"),
        ("5", "parameter 'k' must be from 1 to 4, got 5"),
        ("all", "parameter 'k' must be a whole number of at least 0, got 'all'"),
        ("-1", "parameter 'k' must be a whole number of at least 0, got '-1'"),
    ] {
        let error = preprocess(&host, Request::new("", "x").with_parameter("k", k)).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::InvalidInput, message));
    }
}

#[test]
fn a_media_type_counts_only_against_a_body_that_is_no_picture() {
    let host = host();
    for content_type in ["text/plain", "application/json; charset=utf-8", "multipart/form-data; boundary=x"] {
        assert!(preprocess(&host, Request::new(content_type, JPEG)).is_ok(), "{content_type}");
        let error = preprocess(&host, Request::new(content_type, "hello")).unwrap_err();
        assert_eq!(error.code, ErrorCode::UnsupportedMediaType, "{content_type}");
    }
    for content_type in
        ["", "application/octet-stream", "application/x-www-form-urlencoded", "image/gif", "IMAGE/PNG"]
    {
        assert!(preprocess(&host, Request::new(content_type, WEBP)).is_ok(), "{content_type}");
        let error = preprocess(&host, Request::new(content_type, "hello")).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidInput, "{content_type}");
        assert!(error.message.starts_with("the body is no picture: neither JPEG, PNG nor WebP"), "{error}");
    }
    let error = preprocess(&host, Request::new("text/plain", "hello")).unwrap_err();
    assert_eq!(
        error.message,
        "a body of text/plain is not read: send the picture itself, a JPEG, PNG or WebP"
    );
}

#[test]
fn a_damaged_or_empty_or_huge_picture_is_refused() {
    let host = host();
    let error = preprocess(&host, Request::new("text/plain", &JPEG[..900])).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidInput);
    assert!(error.message.contains("cut short"), "{error}");
    let error = preprocess(&host, Request::new("image/png", "")).unwrap_err();
    assert_eq!(error.message, "the body is empty: send a JPEG, PNG or WebP picture");
    let host = host.setting("max_pixels", 1000);
    let error = preprocess(&host, Request::new("image/png", PNG)).unwrap_err();
    assert_eq!(error.code, ErrorCode::TooLarge);
    assert_eq!(error.message, "a picture of 121x90 has 10890 pixels, at most 1000 are allowed");
}

#[test]
fn outputs_that_do_not_fit_are_the_bundles_fault() {
    let host = host();
    let refusal = |outputs: Vec<Tensor>| {
        let error = postprocess(&host, outputs, 1).unwrap_err();
        assert_eq!(error.code, ErrorCode::Internal);
        error.message
    };
    assert_eq!(
        refusal(vec![logits(&[1, 3], &[0.0; 3])]),
        "output 'logits' has 3 classes, but labels.txt has 4 labels"
    );
    assert_eq!(
        refusal(vec![logits(&[2, 4], &[0.0; 8])]),
        "output 'logits' has shape [2, 4]: one picture takes one row, not 2"
    );
    assert_eq!(
        refusal(vec![logits(&[1, 4], &[0.0, f32::NAN, 0.0, 0.0])]),
        "output 'logits': class 1 has a score of NaN, which is no number"
    );
    assert_eq!(refusal(vec![]), "the model has no output of FP32, only none at all");
}

#[test]
fn the_bundle_may_name_the_output() {
    let host = host().setting("output", "scores");
    let scores = Tensor::from_f32("scores", [1, 4], [0.0, 0.0, 0.0, 9.0]).unwrap();
    let other = logits(&[1, 2], &[0.0; 2]);
    assert!(postprocess(&host, [other.clone(), scores], 1).unwrap().contains("cat"));
    let error = postprocess(&host, [other], 1).unwrap_err();
    assert_eq!(error.message, "the model has no output 'scores', only logits (FP32)");
}

#[test]
fn a_bundle_that_cannot_work_says_so_at_once() {
    let error = TestHost::new().instance::<ImageClassify>().unwrap_err();
    assert_eq!(error.message, "the bundle has no file 'labels.txt': put it beside the model");
    let host = TestHost::new().file("labels.txt", "a\nb").setting("top_k", 3);
    let error = host.instance::<ImageClassify>().unwrap_err();
    assert_eq!(error.message, "setting 'top_k' is 3, but labels.txt has only 2 labels");
    // A default that is too much is lowered.
    assert!(TestHost::new().file("labels.txt", "a\nb").instance::<ImageClassify>().is_ok());
}

#[test]
fn a_context_of_another_size_is_refused() {
    let plugin = host().instance::<ImageClassify>().unwrap();
    let outputs = Outputs::new([logits(&[1, 4], &[0.0; 4])]);
    let error = plugin.postprocess(outputs, Context::default(), Parameters::default()).unwrap_err();
    assert_eq!(error.message, "the context has 0 bytes, not the 4 of preprocess");
}
