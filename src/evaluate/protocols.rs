//! The protocols of the papers as one thing: a list of trials, each of which fits every method to some shots and tests
//! it on some parts. It must not know how results are shown.

use super::methods::{Classifier, FitOptions, Fitted, Task, Technique, fit};
use super::{Assessment, EvaluateError};
use crate::adapt::features::FeatureSet;
use crate::adapt::trainer::StepReport;
use crate::clip::TextTower;
use crate::prompt::TokenLayout;
use crate::rng::Rng;
use ndarray::Array2;
use std::ops::ControlFlow;
use std::time::Instant;

/// Pictures to test on and the classes to choose from.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// `test`, `base`, `new`, or the name of another data set.
    pub name: &'a str,
    pub layout: &'a TokenLayout,
    pub pictures: &'a FeatureSet,
    /// Whether the classes are those that methods were fitted to.
    pub fitted: bool,
}

/// One fit of every method, and what it is tested on.
pub struct Trial<'a> {
    pub seed: u64,
    /// Shots a class; none is all there are.
    pub shots: Option<usize>,
    pub task: Task<'a>,
    pub parts: Vec<Part<'a>>,
}

/// One method in one trial.
#[derive(Debug, Clone)]
pub struct TrialResult {
    pub technique: Technique,
    pub seed: u64,
    pub shots: Option<usize>,
    pub fitted: Fitted,
    /// In the order of the trial's parts; none where the method has nothing to say about the classes.
    pub parts: Vec<Option<Tested>>,
}

/// A classifier on one part.
#[derive(Debug, Clone)]
pub struct Tested {
    /// `[pictures, classes]`.
    pub probabilities: Array2<f32>,
    pub assessment: Assessment,
    /// Time to score all pictures of the part, features excluded.
    pub seconds: f64,
}

/// Fits each of `techniques` in `trial` and tests it. `progress` is told of every training step, and may end the work,
/// which is an error.
///
/// # Errors
/// If a method cannot be fitted, or is ended.
pub fn run(
    trial: &Trial,
    techniques: &[Technique],
    options: &FitOptions,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Vec<TrialResult>, EvaluateError> {
    let options = FitOptions {
        seed: trial.seed,
        ..*options
    };
    techniques
        .iter()
        .map(|&technique| {
            let fitted = fit(technique, &trial.task, &options, progress)?;
            let Task { tower, scale, .. } = trial.task;
            let parts = trial
                .parts
                .iter()
                .map(|part| test(&fitted.classifier, tower, scale, part))
                .collect::<Result<_, _>>()?;
            Ok(TrialResult {
                technique,
                seed: trial.seed,
                shots: trial.shots,
                fitted,
                parts,
            })
        })
        .collect()
}

/// Scores the pictures of `part`; none where the classifier has nothing to say about the classes.
///
/// # Errors
/// If the text tower refuses the layout.
pub fn test(
    classifier: &Classifier,
    tower: &TextTower,
    scale: f32,
    part: &Part,
) -> Result<Option<Tested>, EvaluateError> {
    let started = Instant::now();
    let (features, truth) = part.pictures.plain();
    let found =
        classifier.probabilities(tower, scale, part.layout, part.fitted, features.view())?;
    Ok(found.map(|probabilities| Tested {
        assessment: Assessment::new(probabilities.view(), &truth),
        probabilities,
        seconds: started.elapsed().as_secs_f64(),
    }))
}

/// Up to `shots` rows of each class, at random from `seed`, in order; fewer shots of one seed are among the more.
pub fn choose_shots(
    labels: &[usize],
    classes: usize,
    shots: Option<usize>,
    seed: u64,
) -> Vec<usize> {
    let mut rng = Rng::with_stream(seed, SHOTS_STREAM);
    let mut chosen = Vec::new();
    for class in 0..classes {
        let mut members: Vec<usize> = (0..labels.len())
            .filter(|&row| labels[row] == class)
            .collect();
        rng.shuffle(&mut members);
        members.truncate(shots.unwrap_or(usize::MAX));
        chosen.extend(members);
    }
    chosen.sort_unstable();
    chosen
}

/// Keeps the choice of shots apart from other uses of the same seed.
const SHOTS_STREAM: u64 = 0x5407;

/// CoOp's halves: of the classes in their `order` the first, larger half is base, the rest is new. Both come back as
/// class indices.
pub fn base_and_new(order: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let (base, new) = order.split_at(order.len().div_ceil(2));
    (base.to_vec(), new.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shots_are_nested_and_balanced_and_differ_between_seeds() {
        let labels: Vec<usize> = (0..60).map(|row| row % 3).collect();
        let of = |shots, seed| choose_shots(&labels, 3, shots, seed);
        let (few, many) = (of(Some(2), 1), of(Some(8), 1));
        assert!(few.iter().all(|row| many.contains(row)));
        for class in 0..3 {
            assert_eq!(many.iter().filter(|&&row| labels[row] == class).count(), 8);
        }
        assert_ne!(of(Some(8), 1), of(Some(8), 2));
        assert_eq!(of(None, 1), (0..60).collect::<Vec<_>>());
        assert_eq!(of(Some(99), 1).len(), 60);
    }

    #[test]
    fn the_first_and_larger_half_is_base() {
        assert_eq!(base_and_new(&[4, 0, 2, 1, 3]), (vec![4, 0, 2], vec![1, 3]));
    }
}
