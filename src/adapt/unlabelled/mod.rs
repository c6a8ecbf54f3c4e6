//! Self-training, for cameras that nobody labels: the most confident pictures of each class, as the prompt in use and the
//! views of a picture see it, become shots, and a prompt is trained on them; the next round asks that prompt (after
//! unsupervised prompt learning, arXiv 2204.03649). Whether the result may stay is decided without labels.

mod consistency;
pub(crate) mod pseudo_labels;

pub use consistency::{Consistency, Measures, Refusal};

use super::features::FeatureSet;
use super::{
    AdaptError, Begin, MIN_SHOTS, Options, Outcome, Progress, Reached, Sisters, Split, Task, drift,
    fit,
};
use crate::prompt::Delta;
use ndarray::{Array2, ArrayView3, Axis};
use pseudo_labels::PseudoLabels;

/// Share of the pictures that only judge.
const JUDGING: f32 = 0.3;

/// How to adapt without labels.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SelfTraining {
    /// How each round trains; its hold-out is not used.
    pub training: Options,
    /// Pictures of a class to train on, at most.
    pub shots: usize,
    /// Times that the pictures are labelled and trained on; at least 1.
    pub rounds: usize,
}

impl SelfTraining {
    /// `rounds` rounds of `training` on the `shots` most confident pictures of each class.
    pub fn new(training: Options, shots: usize, rounds: usize) -> SelfTraining {
        SelfTraining {
            training,
            shots,
            rounds,
        }
    }
}

/// A class of which too few pictures were seen: there is nothing to learn it from yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scarce {
    /// Its index.
    pub class: usize,
    /// Pictures that seem to show it.
    pub pictures: usize,
}

/// The class that the fewest of `features [pictures, views, joint]` seem to show, if those are fewer than `enough`;
/// `texts [classes, joint]` are the text features of the prompt in use.
pub fn scarcest(
    features: ArrayView3<f32>,
    texts: &Array2<f32>,
    scale: f32,
    enough: usize,
) -> Option<Scarce> {
    let labels = PseudoLabels::of(features, texts.view(), scale).labels();
    let classes = (0..texts.nrows()).map(|class| Scarce {
        class,
        pictures: count(&labels, class),
    });
    classes
        .min_by_key(|scarce| scarce.pictures)
        .filter(|scarce| scarce.pictures < enough)
}

/// Adapts to `features [pictures, views, joint]` of which nothing is known but the labels that may occur. `current` is
/// the change of the prompt in use, none for the plain template. The outcome is the round that agrees best with the vote
/// of the pictures' views.
///
/// # Errors
/// [`AdaptError::TooFewSure`] if a class gets fewer than [`MIN_SHOTS`] pictures; if an option does not fit the model, or
/// training fails.
pub fn adapt(
    task: &Task,
    features: ArrayView3<f32>,
    current: Option<&Delta>,
    options: &SelfTraining,
    progress: &mut Progress,
) -> Result<Outcome<Consistency>, AdaptError> {
    let scale = task.model.logit_scale;
    // Pictures are split whatever they show: nobody knows.
    let unknown = vec![0; features.dim().0];
    let split = Split::new(&unknown, 1, JUDGING, options.training.seed)?;
    let texts = task.text_features(current)?;
    let mut rounds = vec![PseudoLabels::of(features, texts.view(), scale)];
    let measures = |texts: &Array2<f32>, vote: &PseudoLabels| {
        Measures::of(features, &split.holdout, texts.view(), scale, vote)
    };
    let before = measures(&texts, &rounds[0]);

    let mut best: Option<Outcome<Consistency>> = None;
    for _ in 0..options.rounds.max(1) {
        let newest = &rounds[rounds.len() - 1];
        let rows = newest.most_confident(&split.train, options.shots);
        let shots = newest.shots(features, &rows);
        check_shots(task, &shots)?;
        let begin = Begin::Anywhere(Vec::new());
        let (reached, _) = fit(task, &shots, &options.training, &begin, progress)?;
        let Reached { delta, history, .. } = reached;
        let texts = task.text_features(Some(&delta))?;
        let after = measures(&texts, &rounds[0]);
        rounds.push(PseudoLabels::of(features, texts.view(), scale));
        let better = |best: &Outcome<Consistency>| after.agreement > best.evidence.after.agreement;
        if best.as_ref().is_none_or(better) {
            let outcome = Outcome {
                delta,
                prototypes: None,
                history,
                trained_on: rows.len(),
                statistics: drift::statistics(features.index_axis(Axis(1), 0)),
                evidence: Consistency::new(before, after, &rounds, &split.holdout),
                sisters: Sisters::default(),
            };
            best = Some(outcome);
        }
    }
    Ok(best.expect("there is a round"))
}

/// Checks that every class has shots enough.
fn check_shots(task: &Task, shots: &FeatureSet) -> Result<(), AdaptError> {
    for (class, label) in task.labels.iter().enumerate() {
        let pictures = count(&shots.labels, class);
        if pictures < MIN_SHOTS {
            return Err(AdaptError::TooFewSure {
                label: label.name.clone(),
                pictures,
            });
        }
    }
    Ok(())
}

fn count(labels: &[usize], class: usize) -> usize {
    labels.iter().filter(|&&of| of == class).count()
}
