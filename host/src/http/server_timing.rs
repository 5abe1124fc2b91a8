//! `Server-Timing`: where an answer's time went, for whoever asked.
//!
//! Owns the header's form and who gets it. Times tell a stranger something of the models and of other requests, so the
//! operator decides.

use std::fmt::Write as _;
use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::access::Served;
use crate::pipeline::Stage;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Asks for it, whatever its value.
const ASKS: HeaderName = HeaderName::from_static("x-nuke-server-timing");

/// Who gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTiming {
    /// Nobody.
    #[default]
    Off,
    /// Requests with the header `x-nuke-server-timing`.
    Asked,
    /// All.
    On,
}

impl ServerTiming {
    pub(super) fn wanted(self, headers: &HeaderMap) -> bool {
        match self {
            Self::Off => false,
            Self::Asked => headers.contains_key(ASKS),
            Self::On => true,
        }
    }
}

/// Puts it into the answer.
pub(super) fn add(response: &mut Response, total: Duration) {
    let times = response.extensions().get::<Served>().map(|served| served.times).unwrap_or_default();
    let mut text = String::with_capacity(96);
    let stages = Stage::ALL.into_iter().filter_map(|stage| Some((stage.as_str(), times.get(stage)?)));
    for (name, took) in stages.chain([("total", total)]) {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing into a string cannot fail.
        let _written = write!(text, "{comma}{name};dur={:.3}", took.as_secs_f64() * 1e3);
    }
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(SERVER_TIMING, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::StageTimes;

    #[test]
    fn stages_that_took_place_come_in_their_order() {
        let mut response = Response::default();
        let mut times = StageTimes::default();
        times.set(Stage::Infer, Duration::from_micros(1234));
        times.set(Stage::Queue, Duration::from_micros(7));
        response.extensions_mut().insert(Served {
            model: "m".into(),
            version: "1".into(),
            times,
            recalled: None,
        });
        add(&mut response, Duration::from_millis(2));
        assert_eq!(response.headers()[SERVER_TIMING], "queue;dur=0.007, infer;dur=1.234, total;dur=2.000");
    }
}
