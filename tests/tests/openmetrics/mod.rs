//! A strict reader of OpenMetrics 1.0 text: whatever a scraper might stumble over is an error here.

use std::collections::{BTreeMap, BTreeSet};

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// The full name, `nuke_requests_total`.
    pub(crate) name: String,
    /// Name and unescaped value, in order of the names.
    pub(crate) labels: BTreeMap<String, String>,
    /// The value.
    pub(crate) value: f64,
}

/// One metric with all its samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Family {
    /// `counter`, `gauge`, `histogram`, `info` …
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

/// Reads a whole exposition.
///
/// # Errors
/// The first line that is not right, and why.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with '# EOF'")?;
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("the line before '# EOF' does not end".to_owned());
    }
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in body.lines() {
        let wrong = |why: &str| format!("{why}: {line:?}");
        if let Some(rest) = line.strip_prefix("# ") {
            let (keyword, rest) = rest.split_once(' ').ok_or_else(|| wrong("no metadata"))?;
            let (name, value) = rest.split_once(' ').ok_or_else(|| wrong("no value"))?;
            if !is_name(name, true) {
                return Err(wrong("no name of a metric"));
            }
            if current.as_deref() != Some(name) {
                if families.contains_key(name) {
                    return Err(wrong("the metric's lines are not together"));
                }
                families.insert(name.to_owned(), Family::default());
                current = Some(name.to_owned());
            }
            let family = families.get_mut(name).ok_or_else(|| wrong("no family"))?;
            describe(family, keyword, name, value).map_err(|why| wrong(&why))?;
            continue;
        }
        let name = current.as_ref().ok_or_else(|| wrong("a sample before any metadata"))?;
        let sample = sample(line).map_err(|why| wrong(&why))?;
        let family = families.get_mut(name).ok_or_else(|| wrong("no family"))?;
        let suffix =
            sample.name.strip_prefix(name.as_str()).ok_or_else(|| wrong("a sample of another metric"))?;
        fits(family, suffix, &sample).map_err(|why| wrong(&why))?;
        let twice =
            family.samples.iter().any(|other| other.name == sample.name && other.labels == sample.labels);
        if twice {
            return Err(wrong("the series is there twice"));
        }
        family.samples.push(sample);
    }
    for (name, family) in &families {
        whole(family).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(families)
}

fn describe(family: &mut Family, keyword: &str, name: &str, value: &str) -> Result<(), String> {
    const KINDS: [&str; 8] =
        ["counter", "gauge", "histogram", "gaugehistogram", "info", "stateset", "summary", "unknown"];
    if !family.samples.is_empty() {
        return Err("metadata after samples".to_owned());
    }
    let field = match keyword {
        "TYPE" if KINDS.contains(&value) => &mut family.kind,
        "UNIT" if name.ends_with(&format!("_{value}")) => &mut family.unit,
        "HELP" => &mut family.help,
        _ => return Err("unknown metadata, or a value that does not fit".to_owned()),
    };
    if !field.is_empty() {
        return Err("the same metadata twice".to_owned());
    }
    *field = value.to_owned();
    Ok(())
}

/// The suffixes that a type has, and what each may hold.
fn fits(family: &Family, suffix: &str, sample: &Sample) -> Result<(), String> {
    let counts = |value: f64| value >= 0.0 && value.fract() == 0.0 && value.is_finite();
    let right = match (family.kind.as_str(), suffix) {
        ("counter", "_total") => sample.value >= 0.0 && sample.value.is_finite(),
        ("gauge", "") | ("histogram", "_sum") => !sample.value.is_nan(),
        ("info", "_info") => sample.value == 1.0,
        ("histogram", "_count") => counts(sample.value),
        ("histogram", "_bucket") => counts(sample.value) && sample.labels.contains_key("le"),
        _ => false,
    };
    if right { Ok(()) } else { Err(format!("no sample of a {}", family.kind)) }
}

/// What can only be said of all samples of a metric together.
fn whole(family: &Family) -> Result<(), String> {
    if family.kind.is_empty() || family.help.is_empty() {
        return Err("without TYPE or HELP".to_owned());
    }
    if family.kind != "histogram" {
        return Ok(());
    }
    let without_le = |sample: &Sample| {
        let mut labels = sample.labels.clone();
        labels.remove("le");
        labels
    };
    let series: BTreeSet<_> = family.samples.iter().map(without_le).collect();
    for labels in series {
        let of = |suffix: &str| {
            family
                .samples
                .iter()
                .filter(|sample| sample.name.ends_with(suffix) && without_le(sample) == labels)
                .collect::<Vec<_>>()
        };
        let bounds: Vec<(f64, f64)> = of("_bucket")
            .into_iter()
            .map(|sample| Ok((number(&sample.labels["le"])?, sample.value)))
            .collect::<Result<_, String>>()?;
        if !bounds.is_sorted_by(|left, right| left.0 < right.0 && left.1 <= right.1) {
            return Err(format!("buckets of {labels:?} do not rise: {bounds:?}"));
        }
        let (last, counts, sums) = (bounds.last(), of("_count"), of("_sum"));
        let [count] = counts.as_slice() else {
            return Err(format!("not one _count for {labels:?}"));
        };
        if sums.len() != 1 || last.is_none_or(|&(le, value)| le != f64::INFINITY || value != count.value) {
            return Err(format!("no +Inf bucket that equals _count, or no _sum, for {labels:?}"));
        }
    }
    Ok(())
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("no name".to_owned());
    }
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").ok_or("no label")?;
            if !is_name(label, false) {
                return Err(format!("no name of a label: {label:?}"));
            }
            let (value, after) = quoted(after)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("label {label} twice"));
            }
            rest = match after.strip_prefix(',') {
                Some(more) if !more.starts_with('}') => more,
                None if after.starts_with('}') => after,
                _ => return Err("labels do not end".to_owned()),
            };
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').ok_or("no blank before the value")?;
    Ok(Sample { name: name.to_owned(), labels, value: number(value)? })
}

/// A label's value up to its closing quote, and what follows that.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                _ => return Err("an unknown escape".to_owned()),
            },
            _ => value.push(char),
        }
    }
    Err("a label's value does not end".to_owned())
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E')) => {
            text.parse().map_err(|_| format!("no number: {text:?}"))
        }
        _ => Err(format!("no number: {text:?}")),
    }
}

fn is_name(text: &str, colons: bool) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    text.bytes().next().is_some_and(|first| !first.is_ascii_digit()) && text.bytes().all(fits)
}
