//! A year of weekly CO2 concentrations in, the quarter that follows out, with its dates:
//!
//! ```json
//! {"forecast":[{"co2":371.73,"date":"2002-01-05"}],"unit":"ppm"}
//! ```
//!
//! The body is CSV ([`csv`]) or JSON ([`json`]); its first character says which. Weeks may come without
//! dates; the answer then counts them: `{"co2":371.73,"week":1}`.

mod csv;
mod date;
mod json;
mod series;

use nuke_plugin_sdk::{
    Context, DataType, Error, Outputs, Parameters, Plugin, Preprocessed, Request, Response, Result, Tensor,
    ensure, export_plugin,
};
use serde_json::{Value, json};

use crate::date::Date;
use crate::series::{Series, WEEKS};

/// The plugin. It keeps nothing.
#[derive(Debug)]
pub struct Co2Forecast;

export_plugin!(Co2Forecast);

impl Plugin for Co2Forecast {
    fn new() -> Result<Self> {
        Ok(Self)
    }

    fn preprocess(&self, request: Request) -> Result<Preprocessed> {
        let series = read(&request)?;
        let input = Tensor::from_f32("series", [1, WEEKS as u32, 1], &series.values)?;
        let last = series.last.map(|date| date.0.to_le_bytes().to_vec()).unwrap_or_default();
        Ok(Preprocessed::from(input).with_context(Context(last)))
    }

    fn postprocess(&self, outputs: Outputs, context: Context, _: Parameters) -> Result<Response> {
        let last = last_date(&context)?;
        let output = outputs.first(DataType::Fp32)?;
        let values = output.as_f32()?;
        ensure!(
            output.shape.len() == 2 && output.shape[0] == 1,
            internal,
            "output '{}' has shape {:?}: one series takes one row, [1, weeks]",
            output.name,
            output.shape
        );
        let weeks = values.iter().zip(1..).map(|(&value, week)| entry(&output.name, last, week, value));
        let weeks = weeks.collect::<Result<Vec<Value>>>()?;
        Response::json(&json!({ "unit": "ppm", "forecast": weeks }))
    }
}

/// The body's weeks.
fn read(request: &Request) -> Result<Series> {
    let text = request.text().map_err(|error| match request.media_type().as_str() {
        media_type if media_type.starts_with("image/") => Error::unsupported_media_type(format!(
            "a body of {media_type} is not read: send {WEEKS} weekly values as CSV or JSON"
        )),
        _ => error,
    })?;
    let text = text.trim_start_matches('\u{feff}').trim();
    ensure!(!text.is_empty(), invalid, "the body is empty: send {WEEKS} weekly values as CSV or JSON");
    if text.starts_with(['{', '[']) { json::read(text) } else { csv::read(text) }
}

/// What [`Co2Forecast::preprocess`] left for the answer.
fn last_date(context: &Context) -> Result<Option<Date>> {
    if context.0.is_empty() {
        return Ok(None);
    }
    let bytes = <[u8; 4]>::try_from(context.0.as_slice());
    let bytes = bytes.map_err(|_| {
        Error::internal(format!("the context has {} bytes, not the 4 of preprocess", context.0.len()))
    })?;
    Ok(Some(Date(i32::from_le_bytes(bytes))))
}

/// One week of the answer, `week` weeks after the last one that was sent.
fn entry(output: &str, last: Option<Date>, week: i32, value: f32) -> Result<Value> {
    ensure!(value.is_finite(), internal, "output '{output}': week {week} is {value}, which is no number");
    // Tenths are what the data have; a digit more shows the slope.
    let co2 = (f64::from(value) * 100.0).round() / 100.0;
    Ok(match last {
        Some(last) => json!({ "date": last.weeks_later(week).to_string(), "co2": co2 }),
        None => json!({ "week": week, "co2": co2 }),
    })
}
