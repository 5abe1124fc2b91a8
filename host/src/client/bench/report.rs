//! The results of a run for a person.
//!
//! Owns the wording. What could mislead is said beside the figure: errors, a generator that was the
//! limit, too few requests for a percentile, and what the mode cannot see.

use std::time::Duration;

use super::super::table::{Align, Table};
use super::super::text;
use super::summary::{Measured, Ratio, Report, RequestReport, RowReport, Times};

/// A generator busier than this may itself be the limit.
const BUSY: f64 = 0.9;
/// A generator that lacked a processor for more than this share of its time measures that too.
const STARVED: f64 = 0.15;
/// A median lag of the generator over this share of the median response time is worth a warning.
const LAG_SHARE: f64 = 0.1;

/// The whole report, ending in a line break.
pub(super) fn show(report: &Report) -> String {
    let mut shown = heading(report);
    shown.push('\n');
    shown.push_str(&table(report).render());
    for row in &report.rows {
        for line in remarks(report, row) {
            shown.push_str(&format!("{:>5} at once: {line}\n", row.concurrency));
        }
    }
    if report.interrupted {
        shown.push_str("ended early: the last row is not complete\n");
    }
    shown.push_str(&format!("\n{}\n", report.note));
    shown
}

fn heading(report: &Report) -> String {
    let settings = &report.settings;
    let mut shown = format!("{}, HTTP/{}\n", request_line(&settings.request), settings.http);
    if let Some(distinct) = settings.distinct {
        let law = settings.zipf.filter(|&zipf| zipf > 0.0);
        let law =
            law.map_or_else(|| "all alike".to_owned(), |zipf| format!("by Zipf's law, exponent {zipf}"));
        shown.push_str(&format!("  {distinct} different ones, {law}\n"));
    }
    for tensor in &settings.tensors {
        shown.push_str(&format!("  {tensor}\n"));
    }
    if let Some(baseline) = &settings.baseline {
        shown.push_str(&format!("baseline: {}\n", request_line(baseline)));
    }
    let amount = match (settings.duration_s, settings.requests) {
        (Some(seconds), _) => seconds_text(seconds),
        (None, requests) => format!("{} requests", requests.unwrap_or(0)),
    };
    let mode = match (settings.rate_per_s, settings.arrival) {
        (Some(rate), Some(arrival)) => {
            format!("open loop, {} requests/s ({arrival:?} gaps)", text::rate(rate)).to_lowercase()
        }
        _ => "closed loop".to_owned(),
    };
    let warmup = seconds_text(settings.warmup_s);
    let threads =
        if settings.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", settings.threads) };
    shown.push_str(&format!("{mode}, {amount} each after {warmup} of warm-up, {threads}\n"));
    shown
}

fn request_line(request: &RequestReport) -> String {
    let body = text::bytes(request.body_bytes as f64);
    format!("{} {}{}, body {body}", request.method, request.url, text::one_line(&request.path))
}

fn seconds_text(seconds: f64) -> String {
    text::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn table(report: &Report) -> Table {
    const NUMBERS: [&str; 9] = ["req/s", "mean", "p50", "p90", "p95", "p99", "p99.9", "max", "errors"];
    let right = |name: &str| (name.to_owned(), Align::Right);
    let columns = [right("at once"), (String::new(), Align::Left)];
    let traffic = [right("sent"), right("received")];
    let mut table = Table::new(columns.into_iter().chain(NUMBERS.into_iter().map(right)).chain(traffic));
    for row in &report.rows {
        push_rows(&mut table, row.concurrency, "", &row.measured);
        if let Some(baseline) = &row.baseline {
            push_rows(&mut table, row.concurrency, "baseline ", baseline);
        }
        if let Some(ratio) = &row.ratio {
            table.push(ratio_cells(row.concurrency, ratio));
        }
    }
    table
}

fn push_rows(table: &mut Table, concurrency: u32, prefix: &str, measured: &Measured) {
    let mut first = vec![concurrency.to_string()];
    let name = if measured.response_time.is_some() { "response" } else { "service" };
    first.extend([format!("{prefix}{name}"), text::rate(measured.throughput_per_s)]);
    first.extend(time_cells(measured.main_times()));
    first.push(measured.failed.to_string());
    let traffic = [measured.sent_bytes_per_s, measured.received_bytes_per_s];
    first.extend(traffic.map(|rate| format!("{}/s", text::bytes(rate))));
    table.push(first);
    if measured.response_time.is_some() {
        let mut second = vec![String::new(), format!("{prefix}service"), String::new()];
        second.extend(time_cells(&measured.service_time));
        table.push(second);
    }
}

fn ratio_cells(concurrency: u32, ratio: &Ratio) -> Vec<String> {
    let shown = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
    let cells = [concurrency.to_string(), "ratio".to_owned(), shown(ratio.throughput), String::new()];
    cells.into_iter().chain([shown(ratio.p50)]).collect()
}

fn time_cells(times: &Times) -> impl Iterator<Item = String> {
    let all =
        [times.mean_us, times.p50_us, times.p90_us, times.p95_us, times.p99_us, times.p99_9_us, times.max_us];
    all.into_iter().map(microseconds)
}

fn microseconds(count: f64) -> String {
    seconds_text(count / 1e6)
}

/// What has to be said of a row beside its figures.
fn remarks(report: &Report, row: &RowReport) -> Vec<String> {
    let mut remarks = side_remarks(report, &row.measured, "");
    if let Some(baseline) = &row.baseline {
        remarks.extend(side_remarks(report, baseline, "baseline: "));
    }
    if let Some(ratio) = &row.ratio {
        let by_turn = &ratio.throughput_by_turn;
        let least = by_turn.iter().copied().fold(f64::INFINITY, f64::min);
        let most = by_turn.iter().copied().fold(0.0, f64::max);
        if !by_turn.is_empty() {
            let count = by_turn.len();
            remarks.push(format!("ratio of throughput {least:.3} to {most:.3} over {count} pairs of turns"));
        }
    }
    remarks
}

fn side_remarks(report: &Report, measured: &Measured, prefix: &str) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut say = |remark: String| remarks.push(format!("{prefix}{remark}"));
    if measured.failed > 0 {
        let kinds: Vec<_> = measured.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let of = measured.requests;
        say(format!("{} of {of} requests failed ({}), not in the times", measured.failed, kinds.join(", ")));
        let first = measured.first_error.as_deref().unwrap_or_default();
        say(format!("first error: {}", text::one_line(&text::shorten(first, 600))));
    }
    if let Some(share) = measured.cache_hit_share {
        say(format!("{:.1} % of the answers came from the host's cache", share * 100.0));
    }
    if (1..1000).contains(&measured.succeeded) {
        say(format!("p99.9 of {} requests is their maximum", measured.succeeded));
    }
    generator_remarks(report, measured, &mut say);
    if measured.generator.reconnects > 0 {
        say(format!("{} connections had to be made anew", measured.generator.reconnects));
    }
    open_remarks(report, measured, &mut say);
    remarks
}

/// Whether the generator's own limits are in the figures.
fn generator_remarks(report: &Report, measured: &Measured, say: &mut impl FnMut(String)) {
    let busy = measured.generator.busy_share.unwrap_or(0.0);
    if busy > BUSY {
        say(format!(
            "the generator was busy for {:.0} % of its time and may be the limit: try --threads {}",
            busy * 100.0,
            report.settings.threads + 1
        ));
    }
    let starved = measured.generator.starved_share.unwrap_or(0.0);
    if starved > STARVED {
        say(format!(
            "the generator was ready but had no processor for {:.0} % of its time: other work, or the host \
             itself, shares this machine's, and the times hold that wait too",
            starved * 100.0
        ));
    }
}

/// Whether the open loop kept its schedule, and whose fault it is if not.
fn open_remarks(report: &Report, measured: &Measured, say: &mut impl FnMut(String)) {
    let Some(rate) = report.settings.rate_per_s else { return };
    if let Some(lag) = &measured.generator.lag {
        say(format!(
            "generator lag: p50 {}, p99 {}, max {}",
            microseconds(lag.p50_us),
            microseconds(lag.p99_us),
            microseconds(lag.max_us)
        ));
        if lag.p50_us > LAG_SHARE * measured.main_times().p50_us {
            say("the lag is a good part of the median response time: read the service time beside it"
                .to_owned());
        }
    }
    if let (Some(waited @ 1..), Some(wait)) = (measured.generator.waited, &measured.generator.wait) {
        let of = measured.requests;
        let longest = microseconds(wait.max_us);
        say(format!(
            "{waited} of {of} requests found no idle connection and waited up to {longest} (in their \
             response time): the host was slower than the rate, --concurrency is too low, or the generator \
             was held up"
        ));
    }
    let reached = measured.throughput_per_s;
    if measured.failed == 0 && reached < 0.97 * rate && measured.requests >= 100 {
        say(format!("asked for {} requests/s, reached {}", text::rate(rate), text::rate(reached)));
    }
}
