//! Reading `/metrics`.

/// One reading of all series.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Takes the text of one answer.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The sum of the series of this full name (`nuke_requests_total`) that have all these labels;
    /// `None` if there is no such series.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let values: Vec<f64> = self
            .text
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let (labels, value) = match rest.strip_prefix('{') {
                    Some(rest) => rest.rsplit_once("} ")?,
                    None => ("", rest.strip_prefix(' ')?),
                };
                let there: Vec<&str> = labels.split(',').collect();
                wanted.iter().all(|label| there.contains(&label.as_str())).then(|| value.parse().ok())?
            })
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// As [`Metrics::find`], with 0 for a series that is not there.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn series_are_picked_by_name_and_labels() {
        let metrics = Metrics::new(
            "# TYPE a counter\na_total{m=\"x\",o=\"ok\"} 2\na_total{m=\"x\",o=\"bad\"} 3\nb 1.5\n",
        );
        assert_eq!(metrics.find("a_total", &[("m", "x")]), Some(5.0));
        assert_eq!(metrics.find("a_total", &[("o", "bad"), ("m", "x")]), Some(3.0));
        assert_eq!(metrics.find("a_total", &[("m", "y")]), None);
        assert_eq!(metrics.sum("b", &[]), 1.5);
        assert_eq!(metrics.find("a", &[]), None);
    }
}
