//! Latencies as a file of HdrHistogram percentiles, the text form that its plotters read.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;

use super::super::error::ClientError;
use super::session::Row;

/// Steps for each halving of the distance to 100 %.
const STEPS: u32 = 5;

/// Writes a file for each row, and one for its baseline: `FILE` itself if there is one only, else
/// with the concurrency and the side before the extension.
///
/// # Errors
/// [`ClientError::Usage`], naming the file that cannot be written.
pub(super) fn write_all(path: &Path, rows: &[Row], is_open: bool) -> Result<(), ClientError> {
    let is_only = rows.len() == 1 && rows.iter().all(|row| row.baseline.is_none());
    for row in rows {
        for (outcome, side) in [(Some(&row.measured), ""), (row.baseline.as_ref(), "-baseline")] {
            let Some(outcome) = outcome else { continue };
            let file = if is_only { path.to_owned() } else { named(path, row.concurrency, side) };
            let histogram = if is_open { &outcome.tally.response } else { &outcome.tally.service };
            std::fs::write(&file, percentiles(histogram))
                .map_err(|error| ClientError::Usage(format!("cannot write '{}': {error}", file.display())))?;
        }
    }
    Ok(())
}

fn named(path: &Path, concurrency: u32, side: &str) -> PathBuf {
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let extension = path.extension().map_or_else(String::new, |end| format!(".{}", end.to_string_lossy()));
    path.with_file_name(format!("{stem}-c{concurrency}{side}{extension}"))
}

/// Values in milliseconds.
fn percentiles(histogram: &Histogram<u64>) -> String {
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut count = 0;
    for step in histogram.iter_quantiles(STEPS) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / 1e6, step.quantile_iterated_to());
        let _ = match quantile < 1.0 {
            true => {
                writeln!(text, "{value:>12.4} {quantile:>14.12} {count:>10} {:>14.2}", 1.0 / (1.0 - quantile))
            }
            false => writeln!(text, "{value:>12.4} {quantile:>14.12} {count:>10} {:>14}", "inf"),
        };
    }
    let mean = if histogram.is_empty() { 0.0 } else { histogram.mean() / 1e6 };
    let deviation = if histogram.is_empty() { 0.0 } else { histogram.stdev() / 1e6 };
    let _ = writeln!(text, "#[Mean    = {mean:>12.4}, StdDeviation   = {deviation:>12.4}]");
    let _ =
        writeln!(text, "#[Max     = {:>12.4}, Total count    = {:>12}]", histogram.max() as f64 / 1e6, count);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_ends_with_all_requests_at_one_hundred_percent() {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
        (1..=1000).for_each(|value| histogram.saturating_record(value * 1_000_000));
        let text = percentiles(&histogram);
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        let fields: Vec<&str> = last.split_whitespace().collect();
        assert_eq!(&fields[1..], ["1.000000000000", "1000", "inf"]);
        assert!(text.contains("Total count    =         1000"), "{text}");
        let median = text.lines().find(|line| line.contains(" 0.500000000000 ")).unwrap();
        assert!(median.trim_start().starts_with("500."), "{median}");
        assert!(percentiles(&Histogram::new(3).unwrap()).contains("Total count    =            0"));
    }

    #[test]
    fn several_rows_get_a_file_each() {
        let name = |side| named(Path::new("a/b.hgrm"), 16, side);
        assert_eq!(name("-baseline"), Path::new("a/b-c16-baseline.hgrm"));
        assert_eq!(named(Path::new("b"), 1, ""), Path::new("b-c1"));
    }
}
