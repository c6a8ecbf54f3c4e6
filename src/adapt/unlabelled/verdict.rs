//! Whether a prompt that was trained without labels may stay. It must not know how it was trained.

use super::consensus::Consensus;
use crate::classifier::{best, probabilities};
use ndarray::{ArrayView2, ArrayView3, Axis};

/// The least gain in agreement that is worth a new prompt: less is chance.
const GAIN: f32 = 0.03;
/// The least share of pictures on whose class the first and the last round must agree.
const PERSISTENCE: f32 = 0.7;
/// The most that stability over views, and the spread over labels, may fall.
const LOSS: f32 = 0.1;

/// A prompt in use under which more views than this are named as their picture is left alone. It was 0.97 and more
/// where zero-shot is right in 99 %, 0.86 and less where there is something to gain; in the former, all that disagrees
/// with the vote is labels that the stream does not show (docs/unlabelled.md).
const STEADY: f32 = 0.92;

/// What can be told of a prompt without labels, on pictures it was not trained on. All from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Measures {
    /// Share of the pictures named as the views' vote under the first prompt has it.
    pub agreement: f32,
    /// Share of the augmented views named as the picture itself.
    pub stability: f32,
    /// Mean lead of the best class's probability over the second's.
    pub margin: f32,
    /// Entropy of how often each class is named, beside that of all alike: 0 where all is one class.
    pub spread: f32,
}

impl Measures {
    pub fn of(
        features: ArrayView3<f32>,
        texts: ArrayView2<f32>,
        scale: f32,
        rows: &[usize],
        consensus: &Consensus,
    ) -> Measures {
        let features = features.select(Axis(0), rows);
        let (pictures, views, _) = features.dim();
        let total = pictures.max(1) as f32;
        let plain = probabilities(features.index_axis(Axis(1), 0), texts, scale);
        let named: Vec<usize> = plain.outer_iter().map(best).collect();
        let labels = consensus.labels();
        let same = rows
            .iter()
            .zip(&named)
            .filter(|(row, named)| labels[**row] == **named);
        let agreeing = same.count() as f32 / total;
        let mut stable = 0;
        for view in 1..views {
            let seen = probabilities(features.index_axis(Axis(1), view), texts, scale);
            let seen = seen.outer_iter().zip(&named);
            stable += seen
                .filter(|(row, named)| best(row.view()) == **named)
                .count();
        }
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
            agreement: agreeing,
            stability: stable as f32 / (total * (views.max(2) - 1) as f32),
            margin: margins.sum::<f32>() / total,
            spread: entropy / (classes as f32).ln(),
        }
    }
}

/// The verdict on a new prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub before: Measures,
    pub after: Measures,
    /// Share of the judging pictures that the first and the last round take for the same class.
    pub persistence: f32,
    /// Why the prompt may not stay; none if it may.
    pub refusal: Option<String>,
}

impl Verdict {
    /// `consensuses` are those of the prompt in use and of each round up to the new one.
    pub fn new(
        before: Measures,
        after: Measures,
        consensuses: &[Consensus],
        rows: &[usize],
    ) -> Verdict {
        let last = consensuses.len() - 1;
        let (first, last) = (consensuses[0].labels(), consensuses[last].labels());
        let same = rows.iter().filter(|&&row| first[row] == last[row]).count();
        let persistence = same as f32 / rows.len().max(1) as f32;
        Verdict {
            refusal: refusal(&before, &after, persistence),
            before,
            after,
            persistence,
        }
    }
}

fn refusal(before: &Measures, after: &Measures, persistence: f32) -> Option<String> {
    let percent = |share: f32| format!("{:.0} %", 100.0 * share);
    let fell = |name: &str, before: f32, after: f32| {
        (after < before - LOSS).then(|| {
            format!(
                "{name} falls from {} to {}",
                percent(before),
                percent(after)
            )
        })
    };
    if before.stability > STEADY {
        return Some(format!(
            "under the prompt in use {} of the views are named as their picture: there is little to gain",
            percent(before.stability)
        ));
    }
    let gained = after.agreement >= before.agreement + GAIN;
    (!gained)
        .then(|| {
            format!(
                "it agrees with the vote of the pictures' views in {}, the prompt in use in {}: nothing is gained",
                percent(after.agreement),
                percent(before.agreement)
            )
        })
        .or_else(|| {
            (persistence < PERSISTENCE).then(|| {
                format!(
                    "only {} of the pictures kept their label through training",
                    percent(persistence)
                )
            })
        })
        .or_else(|| {
            let share = "the share of views that are named as their picture";
            fell(share, before.stability, after.stability)
        })
        .or_else(|| fell("how evenly labels are named", before.spread, after.spread))
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
            let why = refusal(&BEFORE, &after, persistence).unwrap();
            assert!(why.contains(word), "{why}");
        }
        let steady = Measures {
            stability: 0.98,
            ..BEFORE
        };
        let why = refusal(&steady, &better, 0.9).unwrap();
        assert!(why.contains("little to gain"), "{why}");
    }
}
