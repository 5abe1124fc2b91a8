//! The plugin, natively: every form of a body, and each way in which one can be wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use co2_forecast::Co2Forecast;
use nuke_plugin_sdk::testing::TestHost;
use nuke_plugin_sdk::{
    Context, ErrorCode, Outputs, Parameters, Plugin, Preprocessed, Request, Result, Tensor,
};
use proptest::prelude::*;

const WEEKS: usize = 52;

fn preprocess(content_type: &str, body: impl Into<Vec<u8>>) -> Result<Preprocessed> {
    TestHost::new().instance::<Co2Forecast>()?.preprocess(Request::new(content_type, body))
}

fn refusal(body: impl Into<Vec<u8>>) -> String {
    let error = preprocess("", body).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidInput, "{error}");
    error.message
}

fn answer(outputs: &[Tensor], context: Context) -> Result<String> {
    let plugin = TestHost::new().instance::<Co2Forecast>()?;
    let response = plugin.postprocess(Outputs::new(outputs), context, Parameters::default())?;
    assert_eq!(response.content_type, "application/json");
    Ok(String::from_utf8(response.body).unwrap())
}

fn forecast(shape: &[u32], values: &[f32]) -> Tensor {
    Tensor::from_f32("forecast", shape, values).unwrap()
}

fn values() -> Vec<f32> {
    (0..WEEKS).map(|week| 370.0 + week as f32 / 4.0).collect()
}

fn text(separator: &str) -> String {
    values().iter().map(f32::to_string).collect::<Vec<_>>().join(separator)
}

/// January to December 2001, a line a week.
fn dated() -> Vec<String> {
    let mut day = 6;
    let mut month = 0;
    let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut lines = Vec::new();
    for value in values() {
        lines.push(format!("2001-{:02}-{day:02},{value}", month + 1));
        day += 7;
        if day > lengths[month] {
            day -= lengths[month];
            month += 1;
        }
    }
    assert!(lines[WEEKS - 1].starts_with("2001-12-29"), "{lines:?}");
    lines
}

#[test]
fn every_form_becomes_the_same_tensor() {
    let lines = dated();
    let quoted = lines.join("\n").replace(',', "\" , \"").replace('\n', "\"\r\n\"");
    let bodies = [
        ("text/csv", lines.join("\n"), true),
        ("text/csv; charset=utf-8", format!("\u{feff}date,co2\r\n\r\n{}\r\n", lines.join("\r\n")), true),
        ("", format!("Date,CO2\n\"{quoted}\""), true),
        ("text/plain", lines.join("\n").replace('-', ""), true),
        ("text/plain", text("\n"), false),
        ("text/plain", format!("co2\n{}\n", text("\n")), false),
        ("application/x-www-form-urlencoded", text(","), false),
        ("application/json", format!("[{}]", text(",")), false),
        ("image/png", format!(" {{\"co2\": [{}]}}", text(", ")), false),
        ("", format!("{{\"until\": \"2001-12-29\", \"co2\": [{}]}}", text(",")), true),
    ];
    for (content_type, body, has_date) in bodies {
        let made = preprocess(content_type, body.as_str()).unwrap_or_else(|error| panic!("{error}: {body}"));
        let [tensor] = made.tensors.as_slice() else { panic!("one input") };
        assert_eq!((tensor.name.as_str(), tensor.shape.as_slice()), ("series", &[1, 52, 1][..]));
        assert_eq!(*tensor.as_f32().unwrap(), values(), "{body}");
        let answer = answer(&[forecast(&[1, 2], &[371.456, 372.0])], made.context).unwrap();
        let expected = if has_date {
            r#"{"forecast":[{"co2":371.46,"date":"2002-01-05"},{"co2":372.0,"date":"2002-01-12"}],"unit":"ppm"}"#
        } else {
            r#"{"forecast":[{"co2":371.46,"week":1},{"co2":372.0,"week":2}],"unit":"ppm"}"#
        };
        assert_eq!(answer, expected, "{body}");
    }
}

#[test]
fn too_few_and_too_many_are_counted() {
    assert_eq!(refusal("370.5"), "52 weekly values are expected, got 1");
    assert_eq!(refusal("370.5,371,372"), "52 weekly values are expected, got 3");
    assert_eq!(refusal("[]"), "52 weekly values are expected, got 0");
    assert_eq!(refusal("date,co2\n"), "52 weekly values are expected, got 0");
    let more = format!("{}\n399", text("\n"));
    assert_eq!(refusal(more), "52 weekly values are expected, got 53: send the last ones only");
    let many = format!("[{}1]", "400,".repeat(100_000));
    assert_eq!(refusal(many), "52 weekly values are expected, got 100001: send the last ones only");
    assert_eq!(refusal(" \n "), "the body is empty: send 52 weekly values as CSV or JSON");
}

/// The dated lines with one of them replaced; `None` takes it out.
fn with_line(index: usize, line: Option<&str>) -> String {
    let mut lines = dated();
    match line {
        Some(line) => lines[index] = line.to_owned(),
        None => drop(lines.remove(index)),
    }
    lines.join("\n")
}

#[test]
fn a_value_that_is_none_is_named() {
    for (line, message) in [
        ("2001-01-20,", "line 3 (2001-01-20) has no value: fill the gap, the model needs all 52 weeks"),
        ("2001-01-20,NaN", "line 3 (2001-01-20): NaN is no concentration, expected ppm from 100 to 2000"),
        ("2001-01-20,-inf", "line 3 (2001-01-20): -inf is no concentration, expected ppm from 100 to 2000"),
        ("2001-01-20,1e99", "line 3 (2001-01-20): 1e99 is no concentration, expected ppm from 100 to 2000"),
        (
            "2001-01-20,-99.99",
            "line 3 (2001-01-20): -99.99 is no concentration, expected ppm from 100 to 2000",
        ),
        (
            "2001-01-20,0.00037",
            "line 3 (2001-01-20): 0.00037 is no concentration, expected ppm from 100 to 2000",
        ),
        ("2001-01-20,high", "line 3 (2001-01-20): 'high' is no number"),
        ("2001-01-20,370.1,ok", "line 3 has 3 fields, expected a date and a value, or a value alone"),
    ] {
        assert_eq!(refusal(with_line(2, Some(line))), message);
    }
    for (value, message) in [
        ("null", "value 1 has no value: fill the gap, the model needs all 52 weeks"),
        ("\"370\"", "value 1: \\\"370\\\" is no number"),
        ("[370]", "value 1: [370] is no number"),
        ("true", "value 1: true is no number"),
        ("1e300", "value 1: 1e300 is no concentration, expected ppm from 100 to 2000"),
    ] {
        let message_of = refusal(format!("[{value},{}]", text(",")));
        assert!(message_of == message || message_of.replace("e+", "e") == message, "{message_of}");
    }
}

#[test]
fn weeks_have_to_follow_each_other() {
    assert_eq!(
        refusal(with_line(2, None)),
        "line 3: the week of 2001-01-20 is missing, 2001-01-13 is followed by 2001-01-27; fill the gap"
    );
    assert_eq!(
        refusal(with_line(2, Some("2001-01-14,370"))),
        "line 3: 2001-01-14 is less than a week after 2001-01-13; one value a week is expected, oldest first"
    );
    assert_eq!(refusal(with_line(2, Some("370"))), "line 3 has no date, but those before it have");
    assert_eq!(
        refusal(format!("370\n{}", dated().join("\n"))),
        "line 2 has a date, but those before it have none"
    );
    assert_eq!(
        refusal(with_line(2, Some("2001-02-30,370"))),
        "line 3: '2001-02-30' is no date like 2001-12-29"
    );
    assert_eq!(refusal("week,co2\n1,370"), "line 1: 'week' is no date like 2001-12-29");
}

#[test]
fn json_of_another_form_is_refused() {
    let list = text(",");
    for (body, message) in [
        ("{}".to_owned(), "field 'co2' is not there or no list: it holds the weekly values, oldest first"),
        (
            r#"{"co2":370}"#.to_owned(),
            "field 'co2' is not there or no list: it holds the weekly values, oldest first",
        ),
        (format!(r#"{{"values":[{list}]}}"#), "field 'values' is unknown, expected 'co2' and 'until'"),
        (
            format!(r#"{{"co2":[{list}],"until":20011229}}"#),
            "field 'until': 20011229 is no date like \"2001-12-29\"",
        ),
        (format!(r#"{{"co2":[{list}],"until":null}}"#), "field 'until': null is no date like \"2001-12-29\""),
    ] {
        assert_eq!(refusal(body), message);
    }
    for body in ["[370,", "{\"co2\":[NaN]}", "[1]]"] {
        assert!(refusal(body).starts_with("the body is no JSON: "), "{body}");
    }
    let deep = refusal("[".repeat(100_000));
    assert!(deep.starts_with("the body is no JSON: "), "{deep}");
}

#[test]
fn what_is_no_text_is_refused_by_what_it_says_it_is() {
    assert!(refusal(vec![0xff, 0xfe]).starts_with("the body is no UTF-8 text"));
    let error = preprocess("image/png", vec![0x89, b'P', b'N', b'G', 0xff]).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnsupportedMediaType);
    assert_eq!(error.message, "a body of image/png is not read: send 52 weekly values as CSV or JSON");
}

#[test]
fn a_long_piece_of_a_body_is_not_sent_back_whole() {
    let message = refusal(format!("{}\n1", "x".repeat(1 << 20)));
    assert_eq!(message, format!("line 1: '{}…' is no number", "x".repeat(32)));
    let mut control = String::new();
    write!(control, "2001-01-06,\u{7}\u{1b}[31m\n2").unwrap();
    assert_eq!(refusal(control), "line 1 (2001-01-06): '\\u{7}\\u{1b}[31m' is no number");
}

#[test]
fn outputs_that_do_not_fit_are_the_bundles_fault() {
    for (outputs, message) in [
        (vec![], "the model has no output of FP32, only none at all"),
        (
            vec![forecast(&[2, 1], &[1.0, 2.0])],
            "output 'forecast' has shape [2, 1]: one series takes one row, [1, weeks]",
        ),
        (
            vec![forecast(&[2], &[1.0, 2.0])],
            "output 'forecast' has shape [2]: one series takes one row, [1, weeks]",
        ),
        (vec![forecast(&[1, 2], &[1.0, f32::NAN])], "output 'forecast': week 2 is NaN, which is no number"),
    ] {
        let error = answer(&outputs, Context::default()).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::Internal, message));
    }
    let error = answer(&[forecast(&[1, 1], &[370.0])], Context(vec![1, 2])).unwrap_err();
    assert_eq!(error.message, "the context has 2 bytes, not the 4 of preprocess");
}

#[test]
fn the_last_day_of_all_breaks_nothing() {
    let context = Context(i32::MAX.to_le_bytes().to_vec());
    assert!(answer(&[forecast(&[1, 1], &[370.0])], context).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200), lines in "([0-9a-z\",.\\-\\[{: ]{0,14}\n){0,8}") {
        let _ = preprocess("", body);
        let _ = preprocess("text/csv", lines);
    }

    #[test]
    fn an_accepted_body_keeps_its_values(numbers in prop::collection::vec(100.0_f32..2000.0, WEEKS)) {
        for separator in ["\n", ",", " , ", "\r\n\r\n"] {
            let body = numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(separator);
            let made = preprocess("", body).unwrap();
            prop_assert_eq!(made.tensors[0].as_f32().unwrap().to_vec(), numbers.clone());
        }
    }
}
