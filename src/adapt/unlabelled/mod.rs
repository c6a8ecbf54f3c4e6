//! Adapting with nobody there: the surest pictures of each class, as the prompt in use and the views of a picture see
//! it, become shots, and a prompt is trained on them; the next round asks that prompt (after unsupervised prompt
//! learning, arXiv 2204.03649). Whether the result may stay is told without labels. It must not know where pictures
//! come from.

pub mod consensus;
mod verdict;

pub use verdict::{Measures, Verdict};

use super::trainer::StepReport;
use super::{AdaptError, Options as Training, Split, adapt as train};
use crate::classifier::text_features;
use crate::clip::TextTower;
use crate::prompt::{Delta, TokenLayout};
use consensus::Consensus;
use ndarray::{Array2, ArrayView3};
use std::ops::ControlFlow;

/// Fewer sure pictures of a class than this are too few to learn from.
pub const FEWEST: usize = 2;
/// Share of the pictures that only judge.
const JUDGING: f32 = 0.3;

/// How to adapt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How each round trains; its hold-out is not used.
    pub training: Training,
    /// Pictures of a class to train on, at most.
    pub shots: usize,
    /// At least 1.
    pub rounds: usize,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The prompt of the round that agrees best with the vote of the pictures' views.
    pub delta: Delta,
    /// Pictures that it was trained on.
    pub images: usize,
    /// Pictures that only judged.
    pub judging: usize,
    /// Steps of its training.
    pub steps: usize,
    pub verdict: Verdict,
}

/// A class of which too few pictures were seen: there is nothing to learn it from yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanting {
    pub class: usize,
    pub pictures: usize,
}

/// The class of which the fewest of `features [pictures, views, joint]` are sure to be shown, if they are too few to
/// begin; `texts` are those of the prompt in use.
pub fn wanting(
    features: ArrayView3<f32>,
    texts: &Array2<f32>,
    scale: f32,
    enough: usize,
) -> Option<Wanting> {
    let labels = Consensus::of(features, texts.view(), scale).labels();
    let count = |class: usize| labels.iter().filter(|&&of| of == class).count();
    let fewest = (0..texts.nrows()).map(|class| Wanting {
        class,
        pictures: count(class),
    });
    fewest
        .min_by_key(|wanting| wanting.pictures)
        .filter(|wanting| wanting.pictures < enough)
}

/// Adapts to `features [pictures, views, joint]` of which nothing is known but the labels that may occur. `current` is
/// the change of the prompt in use, none for the plain template.
///
/// # Errors
/// If there are fewer than two classes or a class gets too few pictures, or an option does not fit the model.
#[allow(clippy::too_many_arguments)]
pub fn adapt(
    tower: &TextTower,
    layout: &TokenLayout,
    labels: &[String],
    features: ArrayView3<f32>,
    scale: f32,
    current: Option<&Delta>,
    options: &Options,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Outcome, AdaptError> {
    if labels.len() < 2 {
        return Err(AdaptError::OneClass);
    }
    let before = text_features(tower, layout, current)?;
    let training = Training {
        holdout: 0.0,
        ..options.training
    };
    // Pictures are split whatever they show: nobody knows.
    let alike = vec![0; features.dim().0];
    let split = Split::new(&alike, 1, JUDGING, training.seed)?;

    let judge = |texts: &Array2<f32>, first: &Consensus| {
        Measures::of(features, texts.view(), scale, &split.holdout, first)
    };
    let mut consensuses = vec![Consensus::of(features, before.view(), scale)];
    let measured_before = judge(&before, &consensuses[0]);
    let mut best: Option<Outcome> = None;
    for _ in 0..options.rounds.max(1) {
        let consensus = &consensuses[consensuses.len() - 1];
        let rows = consensus.surest(&split.train, options.shots);
        let shots = consensus.shots(features, &rows);
        let of_class = |class: usize| count(&shots.labels, class);
        if let Some(class) = (0..labels.len()).find(|&class| of_class(class) < FEWEST) {
            return Err(AdaptError::TooFewSure {
                label: labels[class].clone(),
                pictures: of_class(class),
            });
        }
        let trained = train(tower, layout, labels, &shots, scale, &training, progress)?;
        let texts = text_features(tower, layout, Some(&trained.delta))?;
        let after = judge(&texts, &consensuses[0]);
        consensuses.push(Consensus::of(features, texts.view(), scale));
        let better = |best: &Outcome| after.agreement > best.verdict.after.agreement;
        if best.as_ref().is_none_or(better) {
            best = Some(Outcome {
                steps: trained.history.len(),
                delta: trained.delta,
                images: rows.len(),
                judging: split.holdout.len(),
                verdict: Verdict::new(measured_before, after, &consensuses, &split.holdout),
            });
        }
    }
    Ok(best.expect("there is a round"))
}

fn count(labels: &[usize], class: usize) -> usize {
    labels.iter().filter(|&&of| of == class).count()
}
