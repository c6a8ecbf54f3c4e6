//! Whether a prompt that was trained without labels may stay: how far its answers agree with each other, and with those
//! of the prompt in use.

use super::pseudo_labels::PseudoLabels;
use crate::adapt::{Comparison, Evidence};
use crate::classifier::{best, probabilities};
use ndarray::{ArrayView2, ArrayView3, Axis};

/// The least gain in agreement that is worth a new prompt: less is chance.
const LEAST_GAIN: f32 = 0.03;
/// The least share of pictures on whose class the first and the last round must agree.
const LEAST_PERSISTENCE: f32 = 0.7;
/// The most that stability over views, and the spread over labels, may fall.
const MOST_LOSS: f32 = 0.1;
/// A prompt in use under which more views than this are named as their picture is left alone. It was 0.97 and more
/// where zero-shot is right in 99 %, 0.86 and less where there is something to gain; in the former, all that disagrees
/// with the vote is labels that the stream does not show (docs/unlabelled.md).
const STEADY: f32 = 0.92;

/// What is known of a prompt without labels, on pictures it was not trained on. All from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Measures {
    /// Share of the pictures named as the views' vote under the first prompt has it.
    pub agreement: f32,
    /// Share of the augmented views named as the picture itself.
    pub stability: f32,
    /// Mean lead of the best class's probability over the second's.
    pub margin: f32,
    /// Entropy of how often each class is named, as a share of its maximum: 0 where all are of one class.
    pub spread: f32,
}

impl Measures {
    /// Of the pictures at `rows` of `features [pictures, views, joint]`, under the prompt with the text features `texts
    /// [classes, joint]` at the model's logit scale. `vote` is what the views say under the first prompt.
    pub fn of(
        features: ArrayView3<f32>,
        rows: &[usize],
        texts: ArrayView2<f32>,
        scale: f32,
        vote: &PseudoLabels,
    ) -> Measures {
        let features = features.select(Axis(0), rows);
        let (pictures, views, _) = features.dim();
        let total = pictures.max(1) as f32;
        let plain = probabilities(features.index_axis(Axis(1), 0), texts, scale);
        let named: Vec<usize> = plain.outer_iter().map(best).collect();
        let labels = vote.labels();
        let agreeing = rows
            .iter()
            .zip(&named)
            .filter(|(row, named)| labels[**row] == **named);
        let stable: usize = (1..views)
            .map(|view| {
                let seen = probabilities(features.index_axis(Axis(1), view), texts, scale);
                let seen = seen.outer_iter().zip(&named);
                seen.filter(|(row, named)| best(row.view()) == **named)
                    .count()
            })
            .sum();
        let margins = plain.outer_iter().map(|row| {
            let first = best(row);
            let others = row.iter().enumerate().filter(|(class, _)| *class != first);
            row[first] - others.fold(0.0, |most: f32, (_, &x)| most.max(x))
        });
        let classes = texts.nrows();
        let entropy: f32 = (0..classes)
            .map(|class| super::count(&named, class) as f32 / total)
            .filter(|&share| share > 0.0)
            .map(|share| -share * share.ln())
            .sum();
        Measures {
            agreement: agreeing.count() as f32 / total,
            stability: stable as f32 / (total * (views.max(2) - 1) as f32),
            margin: margins.sum::<f32>() / total,
            spread: entropy / (classes as f32).ln(),
        }
    }
}

/// A new prompt beside the one in use, on pictures that nobody has labelled and neither was trained on.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Consistency {
    /// Pictures that it was measured on.
    pub pictures: usize,
    /// The prompt in use, or the plain template.
    pub before: Measures,
    /// The new prompt.
    pub after: Measures,
    /// Share of the pictures that the first and the last round take for the same class, in `0..=1`.
    pub persistence: f32,
    /// Why the prompt may not stay; none if it may.
    pub refusal: Option<Refusal>,
}

impl Consistency {
    /// Of the pictures at `rows`. `rounds` are the pseudo-labels under the prompt in use and under that of each round up
    /// to the new one.
    ///
    /// # Panics
    /// If there are no rounds.
    pub fn new(
        before: Measures,
        after: Measures,
        rounds: &[PseudoLabels],
        rows: &[usize],
    ) -> Consistency {
        let last = rounds.len() - 1;
        let (first, last) = (rounds[0].labels(), rounds[last].labels());
        let same = rows.iter().filter(|&&row| first[row] == last[row]).count();
        let persistence = same as f32 / rows.len().max(1) as f32;
        Consistency {
            pictures: rows.len(),
            refusal: refusal(&before, &after, persistence),
            before,
            after,
            persistence,
        }
    }
}

impl Evidence for Consistency {
    fn accepts(&self) -> bool {
        self.refusal.is_none()
    }

    fn comparison(&self) -> Option<&Comparison> {
        None
    }
}

/// Why a prompt that was trained without labels may not stay. All numbers are shares, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The prompt in use is sure of what it sees already.
    #[error("under the prompt in use {} of the views are named as their picture: there is little to gain", percent(.stability))]
    LittleToGain {
        /// The share of views that are named as their picture, from 0 to 1.
        stability: f32,
    },
    /// The new prompt agrees no more often with the vote of the views.
    #[error("it agrees with the vote of the pictures' views in {}, the prompt in use in {}: nothing is gained", percent(.after), percent(.before))]
    NothingGained {
        /// Under the prompt in use, from 0 to 1.
        before: f32,
        /// Under the new prompt, from 0 to 1.
        after: f32,
    },
    /// Training turned many labels into others.
    #[error("only {} of the pictures kept their label through training", percent(.persistence))]
    LabelsChanged {
        /// The share of pictures that kept their label, from 0 to 1.
        persistence: f32,
    },
    /// Views of a picture are named differently more often than before.
    #[error("the share of views that are named as their picture falls from {} to {}", percent(.before), percent(.after))]
    LessStable {
        /// Under the prompt in use, from 0 to 1.
        before: f32,
        /// Under the new prompt, from 0 to 1.
        after: f32,
    },
    /// Fewer labels share the pictures than before.
    #[error("how evenly labels are named falls from {} to {}", percent(.before), percent(.after))]
    LessEven {
        /// Under the prompt in use, from 0 to 1.
        before: f32,
        /// Under the new prompt, from 0 to 1.
        after: f32,
    },
}

fn percent(share: &f32) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn refusal(before: &Measures, after: &Measures, persistence: f32) -> Option<Refusal> {
    let gained = after.agreement >= before.agreement + LEAST_GAIN;
    let fell = |before: f32, after: f32| after < before - MOST_LOSS;
    if before.stability > STEADY {
        Some(Refusal::LittleToGain {
            stability: before.stability,
        })
    } else if !gained {
        Some(Refusal::NothingGained {
            before: before.agreement,
            after: after.agreement,
        })
    } else if persistence < LEAST_PERSISTENCE {
        Some(Refusal::LabelsChanged { persistence })
    } else if fell(before.stability, after.stability) {
        Some(Refusal::LessStable {
            before: before.stability,
            after: after.stability,
        })
    } else if fell(before.spread, after.spread) {
        Some(Refusal::LessEven {
            before: before.spread,
            after: after.spread,
        })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Measures = Measures {
        agreement: 0.5,
        stability: 0.7,
        margin: 0.7,
        spread: 0.8,
    };

    #[test]
    fn a_prompt_stays_only_where_nothing_speaks_against_it() {
        let better = Measures {
            agreement: 0.7,
            ..BEFORE
        };
        assert_eq!(refusal(&BEFORE, &better, 0.9), None);
        for (after, persistence, word) in [
            (BEFORE, 0.9, "nothing is gained"),
            (better, 0.5, "kept their label"),
            (
                Measures {
                    stability: 0.5,
                    ..better
                },
                0.9,
                "views",
            ),
            (
                Measures {
                    spread: 0.3,
                    ..better
                },
                0.9,
                "evenly",
            ),
        ] {
            let why = refusal(&BEFORE, &after, persistence).unwrap().to_string();
            assert!(why.contains(word), "{why}");
        }
        let steady = Measures {
            stability: 0.98,
            ..BEFORE
        };
        let why = refusal(&steady, &better, 0.9).unwrap().to_string();
        assert!(why.contains("little to gain"), "{why}");
    }
}
