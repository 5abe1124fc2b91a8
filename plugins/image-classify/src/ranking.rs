//! Scores to the most probable classes.

use std::cmp::Ordering;

use nuke_plugin_sdk::{Result, ensure};
use serde::ser::{Serialize, SerializeStruct, Serializer};

/// A class with its probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ranked {
    pub(crate) index: usize,
    pub(crate) probability: f32,
}

/// How many sums run beside each other. A sum in one variable is slow in WebAssembly: the host's check
/// of the time at each turn of a loop makes it spill; and the processor adds faster than one chain allows.
const LANES: usize = 8;

/// The `k` largest of the scores' softmax, largest first; of equal ones the first class.
pub(crate) fn top(scores: &[f32], k: usize) -> Result<Vec<Ranked>> {
    if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
        ensure!(false, internal, "class {index} has a score of {}, which is no number", scores[index]);
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let by_score =
        |a: &usize, b: &usize| -> Ordering { scores[*b].total_cmp(&scores[*a]).then_with(|| a.cmp(b)) };
    if k < order.len() && k > 0 {
        order.select_nth_unstable_by(k - 1, by_score);
    }
    order.truncate(k);
    order.sort_unstable_by(by_score);
    let Some(&best) = order.first() else {
        return Ok(Vec::new());
    };
    // Shifted by the largest score, so that no power overflows and the sum is at least 1.
    let largest = scores[best];
    let sum = sum_of_powers(scores, largest);
    let probability = |index: usize| (scores[index] - largest).exp() / sum;
    Ok(order.into_iter().map(|index| Ranked { index, probability: probability(index) }).collect())
}

/// The sum of `exp(score - largest)`.
fn sum_of_powers(scores: &[f32], largest: f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *sum += (score - largest).exp();
        }
    }
    for (sum, score) in sums.iter_mut().zip(rest) {
        *sum += (score - largest).exp();
    }
    sums.iter().sum()
}

/// The answer: `{"predictions":[{"label":…,"index":…,"probability":…}]}`.
pub(crate) struct Predictions<'a> {
    pub(crate) ranked: &'a [Ranked],
    /// One for each class.
    pub(crate) labels: &'a [String],
}

impl Serialize for Predictions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let predictions: Vec<Prediction<'_>> = self
            .ranked
            .iter()
            .map(|ranked| Prediction { label: &self.labels[ranked.index], ranked: *ranked })
            .collect();
        let mut object = serializer.serialize_struct("Predictions", 1)?;
        object.serialize_field("predictions", &predictions)?;
        object.end()
    }
}

struct Prediction<'a> {
    label: &'a str,
    ranked: Ranked,
}

impl Serialize for Prediction<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Prediction", 3)?;
        object.serialize_field("label", self.label)?;
        object.serialize_field("index", &self.ranked.index)?;
        object.serialize_field("probability", &self.ranked.probability)?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_come_first_and_of_equals_the_first() {
        let ranked = top(&[1.0, 3.0, 1.0, 2.0], 3).unwrap();
        assert_eq!(ranked.iter().map(|ranked| ranked.index).collect::<Vec<_>>(), [1, 3, 0]);
        // Python: e = np.exp([1, 3, 1, 2]); e / e.sum()
        let expected = [0.610_295_8, 0.224_515_24, 0.082_594_484];
        for (ranked, expected) in ranked.iter().zip(expected) {
            assert!((ranked.probability - expected).abs() < 1e-6, "{ranked:?}");
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let ranked = top(&[1e30, -1e30, 1e30], 3).unwrap();
        assert_eq!(ranked[0], Ranked { index: 0, probability: 0.5 });
        assert_eq!(ranked[2], Ranked { index: 1, probability: 0.0 });
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        let error = top(&[0.0, f32::NAN], 1).unwrap_err();
        assert_eq!(error.message, "class 1 has a score of NaN, which is no number");
        assert!(top(&[f32::INFINITY], 1).is_err());
        assert!(top(&[], 1).unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn all_probabilities_sum_to_one(scores in prop::collection::vec(-50.0_f32..50.0, 1..300), k in 1_usize..300) {
            let all = top(&scores, scores.len()).unwrap();
            let sum: f64 = all.iter().map(|ranked| f64::from(ranked.probability)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-4, "{}", sum);
            prop_assert!(all.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
            let some = top(&scores, k).unwrap();
            prop_assert_eq!(&some[..], &all[..k.min(all.len())]);
        }
    }
}
