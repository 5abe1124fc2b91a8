//! `batching` in `model.yaml`: which requests run together.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::section::Section;
use super::setting::{Choice, Text, Wrong};

/// `batching`: which requests run together.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchingSettings {
    /// `max_batch_size`, default `auto`: items of a run, at most; 1 is no batching. `auto` times the model
    /// when it is loaded and takes the smallest size that costs nearly as little for each item as any up
    /// to 32, or 1 if batches gain less than 15 %.
    pub max_batch_size: Option<NonZeroUsize>,
    /// `max_batch_elements`, default null: elements of all inputs of a run together, at most. Where requests
    /// differ in size, such as texts in length, what a run costs follows these rather than its items. An item
    /// that has more by itself runs by itself.
    pub max_batch_elements: Option<NonZeroUsize>,
    /// `max_queue_delay`, default 0 ms: how long a request is held back for others to join it. A free
    /// worker takes what there is: batches fill by themselves when there is more to do than workers, so
    /// waiting pays only where a run costs the same whatever its size.
    pub max_queue_delay: Duration,
    /// `preferred`, default `[]`: sizes to prefer, ascending.
    pub preferred: Vec<usize>,
    /// `oversize`, default `run`: what becomes of a request of more than `max_batch_size` items.
    pub oversize: Oversize,
    /// `tolerance`, default 0.0001: how far an answer in a batch may be from the one alone, relative to the
    /// output's largest number. Checked when the model is loaded; a model that does not hold it is not
    /// batched.
    pub tolerance: f64,
}

/// `batching.oversize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversize {
    /// It runs whole, by itself.
    Run,
    /// It is cut into pieces.
    Split,
    /// It is refused (400).
    Refuse,
}

impl Choice for Oversize {
    const WORDS: &'static [(&'static str, Self)] =
        &[("run", Self::Run), ("split", Self::Split), ("refuse", Self::Refuse)];
}

/// The tolerance is never NaN: `Tolerance` reads no other numbers than finite ones.
impl Eq for BatchingSettings {}

impl Default for BatchingSettings {
    /// What is in effect without a `batching` in `model.yaml`.
    fn default() -> Self {
        Self {
            max_batch_size: None,
            max_batch_elements: None,
            max_queue_delay: Duration::ZERO,
            preferred: Vec::new(),
            oversize: Oversize::Run,
            tolerance: 1e-4,
        }
    }
}

/// Decodes the section.
pub(super) fn decode(section: &mut Section<'_>) -> BatchingSettings {
    let default = BatchingSettings::default();
    let ascending = |sizes: &Vec<usize>| {
        let rises = sizes.windows(2).all(|pair| pair[0] < pair[1]) && sizes.first() != Some(&0);
        rises
            .then_some(())
            .ok_or_else(|| "expected sizes from 1 on, each larger than the one before".to_owned())
    };
    let at_least_one = |most: &Option<usize>| match most {
        Some(0) => Err("expected null or a number from 1 on, got 0".to_owned()),
        _ => Ok(()),
    };
    BatchingSettings {
        max_batch_size: section.take_if("max_batch_size", BatchSize(default.max_batch_size), |_| Ok(())).0,
        max_batch_elements: section
            .take_if("max_batch_elements", default.max_batch_elements.map(NonZeroUsize::get), at_least_one)
            .and_then(NonZeroUsize::new),
        max_queue_delay: section.take_in(
            "max_queue_delay",
            default.max_queue_delay,
            Duration::ZERO..=Duration::from_secs(10),
        ),
        preferred: section.take_if("preferred", default.preferred, ascending),
        oversize: section.take("oversize", default.oversize),
        tolerance: section
            .take_in("tolerance", Tolerance(default.tolerance), Tolerance(0.0)..=Tolerance(1.0))
            .0,
    }
}

/// `auto`, or a number from 1 on.
struct BatchSize(Option<NonZeroUsize>);

impl Text for BatchSize {
    fn expected() -> String {
        "auto or a whole number from 1 to 65536".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "auto" {
            return Ok(Self(None));
        }
        let size = <usize as Text>::parse(text)?;
        NonZeroUsize::new(size)
            .filter(|size| size.get() <= 65_536)
            .map(|size| Self(Some(size)))
            .ok_or(Wrong::Form)
    }

    fn show(&self) -> String {
        self.0.map_or_else(|| "auto".to_owned(), |size| size.to_string())
    }
}

/// A part of a number's size.
#[derive(PartialEq, PartialOrd)]
struct Tolerance(f64);

impl Text for Tolerance {
    fn expected() -> String {
        "a number like 0.0001".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse().ok().filter(|value: &f64| value.is_finite()).map(Self).ok_or(Wrong::Form)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}
