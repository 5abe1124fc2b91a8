//! The scenario's picture: latency over time in both runs, and below it workers and batches of the second.
//!
//! Owns the layout, the scales and the colours.

use std::time::Duration;

use super::super::super::text;
use super::series::Slice;
use super::svg::{Anchor, Svg};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 560;
/// Left and right edge of both panels.
const LEFT: f64 = 78.0;
const RIGHT: f64 = 768.0;
/// Top and bottom of the upper one, and of the lower.
const UPPER: (f64, f64) = (98.0, 378.0);
const LOWER: (f64, f64) = (426.0, 516.0);
/// Lines of words that would stand nearer than this to each other are moved apart.
const LINE: f64 = 15.0;

const STYLES: &str = "text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#334155}\n\
    .head{font-size:17px;font-weight:600;fill:#0f172a}\n.sub{fill:#64748b}\n\
    .note{fill:#64748b;paint-order:stroke;stroke:#fff;stroke-width:4px}\n\
    .grid{stroke:#e2e8f0;stroke-width:1}\n.axis{stroke:#94a3b8;stroke-width:1}\n\
    .goal{stroke:#64748b;stroke-width:1;stroke-dasharray:2 4}\n\
    polyline{fill:none;stroke-linejoin:round;stroke-linecap:round}\n\
    .one{stroke:#c2410c;stroke-width:2.4}\n.one99{stroke:#c2410c;stroke-width:1.2;stroke-dasharray:5 4;opacity:.65}\n\
    .both{stroke:#1d4ed8;stroke-width:2.4}\n.both99{stroke:#1d4ed8;stroke-width:1.2;stroke-dasharray:5 4;opacity:.65}\n\
    .workers{stroke:#1d4ed8;stroke-width:2}\n.batch{stroke:#0f766e;stroke-width:2}\n\
    text.one{stroke:none;fill:#c2410c;font-weight:600}\ntext.both{stroke:none;fill:#1d4ed8;font-weight:600}\n\
    text.workers{stroke:none;fill:#1d4ed8}\ntext.batch{stroke:none;fill:#0f766e}\n\
    text.one99{stroke:none;fill:#c2410c;opacity:1}\ntext.both99{stroke:none;fill:#1d4ed8;opacity:1}\n";

/// What is drawn.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    pub(super) title: String,
    pub(super) subtitle: String,
    /// One worker without batching.
    pub(super) one: &'a [Slice],
    /// Batching and scaling.
    pub(super) both: &'a [Slice],
    /// How long each was measured.
    pub(super) length_s: f64,
    /// The two means that are aimed at.
    pub(super) goals: [Duration; 2],
}

/// Draws it.
pub(super) fn draw(picture: &Picture<'_>) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT, &picture.title, STYLES);
    svg.words("head", (LEFT, 32.0), Anchor::Start, &picture.title);
    svg.words("sub", (LEFT, 52.0), Anchor::Start, &picture.subtitle);
    upper(&mut svg, picture);
    lower(&mut svg, picture);
    svg.finish()
}

/// Latencies, on a scale of powers of ten.
fn upper(svg: &mut Svg, picture: &Picture<'_>) {
    let slices = || picture.one.iter().chain(picture.both);
    let goals = picture.goals.map(|goal| goal.as_secs_f64() * 1e3);
    let least = slices().map(|slice| slice.mean_ms).chain(goals).fold(f64::INFINITY, f64::min);
    let most = slices().map(|slice| slice.p99_ms.max(slice.mean_ms)).chain(goals).fold(0.0, f64::max);
    let decades = decades(least, most);
    let y = |milliseconds: f64| {
        let share =
            (milliseconds.max(1e-6).log10() - f64::from(decades.0)) / f64::from(decades.1 - decades.0);
        UPPER.1 - share.clamp(0.0, 1.0) * (UPPER.1 - UPPER.0)
    };
    svg.words("sub", (LEFT, UPPER.0 - 12.0), Anchor::Start, "response time, from the moment it was due");
    for power in decades.0..=decades.1 {
        let at = 10_f64.powi(power);
        svg.line("grid", (LEFT, y(at)), (RIGHT, y(at)));
        svg.words("", (LEFT - 8.0, y(at) + 4.0), Anchor::End, &milliseconds(at));
    }
    for goal in goals {
        svg.line("goal", (LEFT, y(goal)), (RIGHT, y(goal)));
    }
    time_axis(svg, UPPER.1, picture.length_s, false);
    let mut labels = Vec::new();
    for (slices, class, class99, name) in [
        (picture.one, "one", "one99", "one worker, no batching"),
        (picture.both, "both", "both99", "batching and scaling"),
    ] {
        let points = |value: fn(&Slice) -> f64| -> Vec<(f64, f64)> {
            slices.iter().map(|slice| (x(slice.at_s, picture.length_s), y(value(slice)))).collect()
        };
        let (means, tails) = (points(|slice| slice.mean_ms), points(|slice| slice.p99_ms));
        svg.polyline(class99, &tails);
        svg.polyline(class, &means);
        labels.extend(means.last().map(|point| (point.1, class, name.to_owned())));
        labels.extend(tails.last().map(|point| (point.1, class99, "99 % of them".to_owned())));
    }
    // Over the lines, on a ground of their own.
    for goal in goals {
        svg.words("note", (RIGHT - 6.0, y(goal) + 4.0), Anchor::End, &milliseconds(goal));
    }
    name_lines(svg, labels);
}

/// Workers and batches.
fn lower(svg: &mut Svg, picture: &Picture<'_>) {
    let seen = |value: fn(&Slice) -> Option<f64>| -> Vec<(f64, f64)> {
        let slices = picture.both.iter();
        slices.filter_map(|slice| Some((x(slice.at_s, picture.length_s), value(slice)?))).collect()
    };
    let (workers, batches) = (seen(|slice| slice.workers), seen(|slice| slice.batch));
    let most = workers.iter().chain(&batches).map(|point| point.1).fold(1.0, f64::max);
    let step = step(most);
    let top = (most / step).ceil() * step;
    let y = |count: f64| LOWER.1 - count / top * (LOWER.1 - LOWER.0);
    svg.words("sub", (LEFT, LOWER.0 - 12.0), Anchor::Start, "batching and scaling: how it is done");
    for mark in 0..=((top / step).round() as u32) {
        let at = f64::from(mark) * step;
        svg.line("grid", (LEFT, y(at)), (RIGHT, y(at)));
        svg.words("", (LEFT - 8.0, y(at) + 4.0), Anchor::End, &format!("{at}"));
    }
    time_axis(svg, LOWER.1, picture.length_s, true);
    let mut labels = Vec::new();
    for (points, class, name) in
        [(batches, "batch", "items in a run, on average"), (stairs(&workers), "workers", "workers")]
    {
        let points: Vec<(f64, f64)> = points.into_iter().map(|(x, count)| (x, y(count))).collect();
        svg.polyline(class, &points);
        labels.extend(points.last().map(|point| (point.1, class, name.to_owned())));
    }
    name_lines(svg, labels);
}

fn x(at_s: f64, length_s: f64) -> f64 {
    LEFT + at_s / length_s * (RIGHT - LEFT)
}

/// The axis of time at the bottom of a panel; words only where nothing comes below.
fn time_axis(svg: &mut Svg, bottom: f64, length_s: f64, with_words: bool) {
    svg.line("axis", (LEFT, bottom), (RIGHT, bottom));
    let step = step(length_s);
    let marks = (length_s / step).floor() as u32;
    for mark in 0..=marks {
        let at = f64::from(mark) * step;
        svg.line("axis", (x(at, length_s), bottom), (x(at, length_s), bottom + 4.0));
        if with_words {
            let unit = if mark == marks { " s" } else { "" };
            svg.words("", (x(at, length_s), bottom + 18.0), Anchor::Middle, &format!("{at}{unit}"));
        }
    }
}

/// Names lines at their right ends, moved apart where they would overlap.
fn name_lines(svg: &mut Svg, mut labels: Vec<(f64, &str, String)>) {
    labels.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut free_from = f64::NEG_INFINITY;
    for (y, class, name) in labels {
        let y = y.max(free_from);
        svg.words(class, (RIGHT + 8.0, y + 4.0), Anchor::Start, &name);
        free_from = y + LINE;
    }
}

/// A line that stays and then jumps.
fn stairs(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut stairs: Vec<(f64, f64)> = Vec::with_capacity(2 * points.len());
    for &(x, count) in points {
        stairs.extend(stairs.last().map(|before| (x, before.1)).filter(|corner| corner.1 != count));
        stairs.push((x, count));
    }
    stairs
}

/// The powers of ten that hold both, at least one apart.
fn decades(least: f64, most: f64) -> (i32, i32) {
    let power = |value: f64| value.clamp(1e-3, 1e7).log10();
    let low = power(least).floor() as i32;
    (low, (power(most).ceil() as i32).max(low + 1))
}

/// A round step of which four to ten make `most`; never below one.
fn step(most: f64) -> f64 {
    let mut step = 1.0;
    for factor in [2.0, 2.5, 2.0].into_iter().cycle().take(18) {
        if most / step <= 8.0 {
            break;
        }
        step *= factor;
    }
    step
}

fn milliseconds(count: f64) -> String {
    let text = text::duration(Duration::try_from_secs_f64(count / 1e3).unwrap_or_default());
    // Round values need no digits behind the point.
    match text.split_once(' ') {
        Some((value, unit)) if value.contains('.') => {
            format!("{} {unit}", value.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(at_s: f64, mean_ms: f64, workers: f64) -> Slice {
        Slice { at_s, requests: 9, mean_ms, p99_ms: 3.0 * mean_ms, workers: Some(workers), batch: Some(4.5) }
    }

    #[test]
    fn both_runs_their_names_and_the_goals_are_in_the_picture() {
        let (one, both) =
            ([slice(0.5, 90.0, 1.0), slice(1.5, 400.0, 1.0)], [slice(0.5, 5.0, 1.0), slice(1.5, 3.0, 2.0)]);
        let goals = [Duration::from_millis(120), Duration::from_millis(45)];
        let (title, subtitle) = ("m & n".to_owned(), "sub".to_owned());
        let text = draw(&Picture { title, subtitle, one: &one, both: &both, length_s: 2.0, goals });
        // Mean and p99 of both, workers and batches.
        assert_eq!(text.matches("<polyline").count(), 6);
        for words in ["m &amp; n", "120 ms", "45 ms", ">1 ms<", ">10 s<", "no batching", "workers", "2 s"] {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(!text.contains("NaN") && !text.contains("inf"));
        // The later, slower slice of the first run stands higher.
        let line = text.lines().find(|line| line.starts_with("<polyline class=\"one\"")).unwrap();
        let points: Vec<f64> = line.split(['"', ' ', ',']).filter_map(|number| number.parse().ok()).collect();
        assert!(points[0] < points[2] && points[1] > points[3], "{points:?}");
    }

    #[test]
    fn a_run_without_a_single_answer_still_makes_a_picture() {
        let goals = [Duration::from_millis(120), Duration::from_millis(45)];
        let (title, subtitle) = (String::new(), String::new());
        let text = draw(&Picture { title, subtitle, one: &[], both: &[], length_s: 0.5, goals });
        assert!(!text.contains("<polyline") && text.ends_with("</svg>\n") && !text.contains("NaN"));
    }

    #[test]
    fn scales_are_round() {
        assert_eq!(
            [step(0.3), step(8.0), step(10.0), step(17.0), step(60.0), step(1000.0)],
            [1.0, 1.0, 2.0, 5.0, 10.0, 200.0]
        );
        assert_eq!([decades(0.7, 80.0), decades(10.0, 10.0), decades(0.0, 1e99)], [(-1, 2), (1, 2), (-3, 7)]);
        assert_eq!(
            ["0.1", "1", "45", "1000"].map(|count| milliseconds(count.parse().unwrap())),
            ["100 us", "1 ms", "45 ms", "1 s"]
        );
        assert_eq!(
            stairs(&[(0.0, 1.0), (1.0, 1.0), (2.0, 3.0)]),
            [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (2.0, 3.0)]
        );
    }
}
