//! Whether a prompt that was trained without labels may stay: how far its answers agree with each other, and with those
//! of the prompt in use.

use super::mixture::Shown;
use super::pseudo_labels::PseudoLabels;
use crate::adapt::cross_fit::named;
use crate::adapt::{Comparison, Evidence};
use crate::classifier::{Scorer, best, softmax_rows};
use crate::prompt::Calibration;
use ndarray::{ArrayView1, ArrayView2, ArrayView3, Axis};

/// A prompt in use that names more than this share of the pictures as they seem to be has nothing to learn.
const MOST_AGREEMENT: f32 = 0.97;
/// The least share of pictures that a new prompt, which was not trained on them, must name as they seem to be.
const LEAST_AGREEMENT: f32 = 0.65;
/// The least lead of a prompt in use: one with less guesses, and its guesses teach nothing. It was 0.05 to 0.08 where zero-shot
/// is right in a sixth, and 0.23 and more elsewhere (docs/results/unlabelled.md).
const LEAST_LEAD: f32 = 0.12;
/// How many fewer pictures, as a share, a new prompt may name as they seem to be than the prompt in use. It was 0.023 at the most for
/// 391 prompts that were accepted before there was this bound (docs/results/unlabelled.md).
const MOST_LOSS_OF_AGREEMENT: f32 = 0.05;
/// The least share of pictures on whose class the first and the last round must agree.
const LEAST_PERSISTENCE: f32 = 0.6;
/// The most that stability over views, and the spread over labels, may fall.
const MOST_LOSS: f32 = 0.1;
/// The most that the spread may fall where not all labels are taken to be shown: a prompt that has noticed names fewer of them.
const MOST_LOSS_OF_SPREAD: f32 = 0.25;
/// The least agreement and stability of a new prompt where some labels seem never to be shown: nothing else tells then whether
/// pictures that are alike are of one label. With the stability alone three of 21 prompts lost more than a point.
const SURE: f32 = 0.9;
/// The fewest labels that a new prompt must name: where a camera sees one thing for an hour, nothing tells whether it is called by
/// its right name. Prompts from such streams that named 1.3 to 1.5 labels gained 6 points, or lost 2 and 8; nine of ten pictures of one label
/// and the others of a second are 1.4.
const LEAST_LABELS: f32 = 1.6;
/// How many times as many pictures may be renamed as the prompt in use names views otherwise than their pictures. Where something
/// could be learnt it was 1 to 2.4, and 2.8 and more where the labels of many pictures were wrong.
const MOST_RENAMED: f32 = 2.6;
/// A prompt in use under which more views than this are named as their picture is left alone. It was 0.95 and more where
/// zero-shot is right in 99 %, but for noise, and mostly 0.93 and less where there is something to gain (docs/unlabelled.md).
const STEADY: f32 = 0.95;

/// What is known of a prompt without labels, on pictures it was not trained on. All but the last from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Measures {
    /// Share of the pictures named as what they seemed to show under the first prompt.
    pub agreement: f32,
    /// Share of the augmented views named as the picture itself.
    pub stability: f32,
    /// Mean lead of the best class's probability over the second's.
    pub margin: f32,
    /// Entropy of how often each class is named, as a share of its maximum: 0 where all are of one class.
    pub spread: f32,
    /// As many labels would have this entropy if they were named alike, at least 1.
    pub labels: f32,
}

impl Measures {
    /// Of the pictures at `rows` of `features [pictures, views, joint]`, under the prompt of `scorer` at the model's logit
    /// scale. `first` is what the pictures seem to show under the first prompt.
    pub fn of(
        features: ArrayView3<f32>,
        rows: &[usize],
        scorer: &Scorer,
        scale: f32,
        first: &PseudoLabels,
    ) -> Measures {
        let features = features.select(Axis(0), rows);
        let total = rows.len().max(1) as f32;
        let plain = softmax_rows(scorer.scores(features.index_axis(Axis(1), 0)), scale);
        let seen = named(plain.view());
        let labels = first.labels();
        let agreeing = rows
            .iter()
            .zip(&seen)
            .filter(|(row, seen)| labels[**row] == **seen);
        let classes = plain.ncols();
        let entropy = super::entropy(&seen, classes);
        Measures {
            agreement: agreeing.count() as f32 / total,
            stability: stability(features.view(), scorer),
            margin: lead(plain.view()) / total,
            spread: entropy / (classes as f32).ln(),
            labels: entropy.exp(),
        }
    }
}

/// The share of the augmented views of `features [pictures, views, joint]` that are named as the picture itself.
pub fn stability(features: ArrayView3<f32>, scorer: &Scorer) -> f32 {
    let (pictures, views, _) = features.dim();
    let named = |view| named(scorer.scores(features.index_axis(Axis(1), view)).view());
    let plain = named(0);
    let same = |view| {
        plain
            .iter()
            .zip(named(view))
            .filter(|(a, b)| **a == *b)
            .count()
    };
    let stable: usize = (1..views).map(same).sum();
    stable as f32 / (pictures * views.saturating_sub(1)).max(1) as f32
}

/// How far the best class's probability leads over the second's, summed over the rows of `probabilities [pictures, classes]`.
pub fn lead(probabilities: ArrayView2<f32>) -> f32 {
    let lead = |row: ArrayView1<f32>| {
        let first = best(row);
        let others = row.iter().enumerate().filter(|(class, _)| *class != first);
        row[first] - others.fold(0.0, |most: f32, (_, &x)| most.max(x))
    };
    probabilities.outer_iter().map(lead).sum()
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
    /// How well pictures that are taken for one class hang together where all labels are taken to be shown alike, in `0..=1`.
    pub coherence: f32,
    /// Whether labels are taken to be shown alike, all of them or those that seem to be shown.
    pub alike: bool,
    /// Classes that seem never to be shown, in ascending order: nothing was learnt of them.
    pub missing: Vec<usize>,
    /// How scores are to be read, by what the pictures seem to show.
    pub calibration: Option<Calibration>,
    /// Why the prompt may not stay; none if it may.
    pub refusal: Option<Refusal>,
}

impl Consistency {
    /// Of the pictures at `rows`. `rounds` are the pseudo-labels under the prompt in use and under that of each round up
    /// to the new one, which learnt nothing of the classes that are `missing`.
    ///
    /// # Panics
    /// If there are no rounds.
    pub fn new(
        before: Measures,
        after: Measures,
        calibration: Option<Calibration>,
        missing: Vec<usize>,
        rounds: &[PseudoLabels],
        rows: &[usize],
    ) -> Consistency {
        let last = rounds.len() - 1;
        let (first, last) = (rounds[0].labels(), rounds[last].labels());
        let same = rows.iter().filter(|&&row| first[row] == last[row]).count();
        let persistence = same as f32 / rows.len().max(1) as f32;
        let shown = rounds[0].shown;
        Consistency {
            pictures: rows.len(),
            refusal: refusal(&before, &after, persistence, shown),
            before,
            after,
            persistence,
            coherence: rounds[0].coherence,
            alike: shown.evenly(),
            missing,
            calibration,
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

    fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
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
    /// The prompt in use names nearly all pictures as they seem to be.
    #[error("the prompt in use names {} of the pictures as a new one would: nothing is gained", percent(.agreement))]
    NothingGained {
        /// Under the prompt in use, from 0 to 1.
        agreement: f32,
    },
    /// The prompt in use hardly prefers one label to another.
    #[error("the prompt in use prefers its best label by {} only: it guesses, and nothing can be learnt from that. Label a few pictures of each", percent(.lead))]
    Guesses {
        /// The mean lead of the best label's probability over the second's, from 0 to 1.
        lead: f32,
    },
    /// The labels do not part the pictures well: some may never be shown, and which ones is not sure enough.
    #[error("the labels do not part the pictures well, as where some are never shown, and it names only {} of the pictures that it was not trained on as they seem to be. Leave labels out that are never shown, or label a few pictures of each", percent(.agreement))]
    LabelsMissing {
        /// Under the new prompt, from 0 to 1.
        agreement: f32,
    },
    /// What pictures seem to show could not be learnt.
    #[error("it names only {} of the pictures that it was not trained on as they seem to be", percent(.agreement))]
    NotLearnt {
        /// Under the new prompt, from 0 to 1.
        agreement: f32,
    },
    /// Nearly all pictures are named as one label.
    #[error(
        "nearly all pictures are named as one label, and nothing tells whether it is the right one. Let the camera see others too, or label a few pictures of each"
    )]
    OneLabel {
        /// As many labels as are named under the new prompt, by their entropy.
        labels: f32,
    },
    /// The prompt in use is steadier than what the pictures seem to show allows.
    #[error("the prompt in use names {} of the views as their picture, but only {} of the pictures as they seem to be: what they seem to be is not sure. Label a few pictures of each", percent(.stability), percent(.agreement))]
    Contradicted {
        /// The share of views that the prompt in use names as their picture, from 0 to 1.
        stability: f32,
        /// The share of pictures that it names as they seem to be, from 0 to 1.
        agreement: f32,
    },
    /// The prompt in use names more pictures as they seem to be.
    #[error("it names {} of the pictures that it was not trained on as they seem to be, and the prompt in use {}", percent(.after), percent(.before))]
    LessLearnt {
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
    /// Views of a picture are named differently too often.
    #[error("it names {} of the views as their picture, of {} that it should", percent(.stability), percent(.least))]
    Unstable {
        /// Under the new prompt, from 0 to 1.
        stability: f32,
        /// What would be enough.
        least: f32,
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

/// Why the prompt in use, as these measures see it, cannot or need not be improved upon.
fn nothing_to_learn(of: &Measures) -> Option<Refusal> {
    let (stability, agreement) = (of.stability, of.agreement);
    if stability > STEADY {
        Some(Refusal::LittleToGain { stability })
    } else if of.margin < LEAST_LEAD {
        Some(Refusal::Guesses { lead: of.margin })
    } else if 1.0 - agreement > MOST_RENAMED * (1.0 - stability) {
        Some(Refusal::Contradicted {
            stability,
            agreement,
        })
    } else {
        None
    }
}

fn refusal(before: &Measures, after: &Measures, persistence: f32, shown: Shown) -> Option<Refusal> {
    let (least_stability, most_loss_of_spread) = match shown {
        Shown::Alike => (before.stability - MOST_LOSS, MOST_LOSS),
        Shown::SomeAlike => (before.stability - MOST_LOSS, MOST_LOSS_OF_SPREAD),
        Shown::AsTheyCome => (SURE, MOST_LOSS_OF_SPREAD),
        Shown::AsVoted => (before.stability - MOST_LOSS, 1.0),
    };
    let of_prompt_in_use = match shown {
        // Then it does not matter what the prompt in use makes of the pictures as they are.
        Shown::AsVoted => None,
        _ => nothing_to_learn(before),
    };
    if of_prompt_in_use.is_some() {
        of_prompt_in_use
    } else if before.agreement > MOST_AGREEMENT {
        Some(Refusal::NothingGained {
            agreement: before.agreement,
        })
    } else if after.labels < LEAST_LABELS && shown != Shown::Alike {
        Some(Refusal::OneLabel {
            labels: after.labels,
        })
    } else if shown == Shown::AsTheyCome && after.agreement < SURE {
        Some(Refusal::LabelsMissing {
            agreement: after.agreement,
        })
    } else if after.agreement < LEAST_AGREEMENT {
        Some(Refusal::NotLearnt {
            agreement: after.agreement,
        })
    } else if after.agreement < before.agreement - MOST_LOSS_OF_AGREEMENT {
        Some(Refusal::LessLearnt {
            before: before.agreement,
            after: after.agreement,
        })
    } else if persistence < LEAST_PERSISTENCE {
        Some(Refusal::LabelsChanged { persistence })
    } else if after.stability < least_stability {
        Some(Refusal::Unstable {
            stability: after.stability,
            least: least_stability,
        })
    } else if after.spread < before.spread - most_loss_of_spread {
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
        labels: 7.0,
    };

    #[test]
    fn a_prompt_stays_only_where_nothing_speaks_against_it() {
        let better = Measures {
            agreement: 0.7,
            ..BEFORE
        };
        let measures = |agreement, stability, margin, spread| Measures {
            agreement,
            stability,
            margin,
            spread,
            labels: 7.0,
        };
        assert_eq!(refusal(&BEFORE, &better, 0.9, Shown::Alike), None);
        let guessing = Measures {
            margin: 0.05,
            agreement: 0.1,
            ..BEFORE
        };
        assert_eq!(refusal(&guessing, &better, 0.9, Shown::AsVoted), None);
        let missing = refusal(&BEFORE, &better, 0.9, Shown::AsTheyCome).unwrap();
        assert!(matches!(missing, Refusal::LabelsMissing { .. }));
        let learnt = measures(0.95, 0.7, 0.7, 0.8);
        let unsteady = refusal(&BEFORE, &learnt, 0.9, Shown::AsTheyCome).unwrap();
        assert!(matches!(unsteady, Refusal::Unstable { .. }));
        let one = Measures {
            labels: 1.5,
            ..learnt
        };
        let one = refusal(&BEFORE, &one, 0.9, Shown::SomeAlike).unwrap();
        assert!(matches!(one, Refusal::OneLabel { .. }));
        for (before, after, persistence, word) in [
            (
                measures(0.98, 0.9, 0.7, 0.8),
                better,
                0.9,
                "nothing is gained",
            ),
            (measures(0.5, 0.7, 0.1, 0.8), better, 0.9, "guesses"),
            (measures(0.7, 0.9, 0.7, 0.8), better, 0.9, "not sure"),
            (BEFORE, measures(0.6, 0.7, 0.7, 0.8), 0.9, "not trained on"),
            (
                measures(0.9, 0.93, 0.7, 0.8),
                measures(0.8, 0.93, 0.7, 0.8),
                0.9,
                "and the prompt in use 90 %",
            ),
            (BEFORE, better, 0.5, "kept their label"),
            (BEFORE, measures(0.7, 0.5, 0.7, 0.8), 0.9, "views"),
            (BEFORE, measures(0.7, 0.7, 0.7, 0.3), 0.9, "evenly"),
        ] {
            let why = refusal(&before, &after, persistence, Shown::Alike)
                .unwrap()
                .to_string();
            assert!(why.contains(word), "{why}");
        }
        let steady = Measures {
            stability: 0.98,
            ..BEFORE
        };
        let steadily = Measures {
            stability: 0.95,
            ..better
        };
        assert_eq!(refusal(&steady, &steadily, 0.9, Shown::AsVoted), None);
        let why = refusal(&steady, &better, 0.9, Shown::Alike)
            .unwrap()
            .to_string();
        assert!(why.contains("little to gain"), "{why}");
    }
}
