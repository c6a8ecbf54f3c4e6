//! The protocols of the papers as one thing: a list of trials, each of which fits every method to some shots and tests
//! it on some parts.

use super::methods::{Fitted, Lesson, Method, fit};
use super::{Assessment, EvaluateError, Recognition};
use crate::adapt::Progress;
use crate::adapt::features::FeatureSet;
use crate::clip::Model;
use crate::prompt::TokenLayout;
use crate::rng::Rng;
use ndarray::Array2;
use std::time::Instant;

/// Pictures to test on and the classes to choose from.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// `test`, `base`, `new`, or the name of another data set.
    pub name: &'a str,
    /// The tokens of the classes.
    pub layout: &'a TokenLayout,
    /// What is tested on.
    pub pictures: &'a FeatureSet,
    /// Whether methods know the classes.
    pub classes: PartClasses,
}

/// What a fitted method knows of the classes of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartClasses {
    /// They are those it was fitted to, in their order.
    Base,
    /// It has seen no picture of them, and none of them is one that it was fitted to.
    New,
    /// They are those of another data set.
    Foreign,
}

/// One fit of every method, and what it is tested on.
pub struct Trial<'a> {
    /// Seed of the shots and of the training.
    pub seed: u64,
    /// Shots a class; none is all there are.
    pub shots: Option<usize>,
    /// What methods are fitted to, with the trial's seed.
    pub lesson: Lesson<'a>,
    /// What is tested on.
    pub parts: Vec<Part<'a>>,
}

/// One method in one trial.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TrialResult {
    /// What was fitted.
    pub method: Method,
    /// The trial's seed.
    pub seed: u64,
    /// The trial's shots a class; none is all there are.
    pub shots: Option<usize>,
    /// The method, ready for pictures.
    pub fitted: Fitted,
    /// In the order of the trial's parts; none where the method has nothing to say about the classes.
    pub parts: Vec<Option<Tested>>,
    /// How well it tells pictures of new classes from those of the classes that it was fitted to; none where there are none.
    pub recognition: Option<Recognition>,
}

/// A predictor on one part.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Tested {
    /// `[pictures, classes]`.
    pub probabilities: Array2<f32>,
    /// How right they are.
    pub assessment: Assessment,
    /// Time to score all pictures of the part, features excluded.
    pub seconds: f64,
}

/// Fits `method` in `trial` and tests it. `progress` hears of every training step, and may end the work, which is an error.
///
/// # Errors
/// If the method cannot be fitted, or is ended.
pub fn run(
    trial: &Trial,
    method: Method,
    progress: &mut Progress,
) -> Result<TrialResult, EvaluateError> {
    let fitted = fit(method, &trial.lesson, progress)?;
    let model = trial.lesson.task.model;
    Ok(TrialResult {
        method,
        seed: trial.seed,
        shots: trial.shots,
        parts: test(&fitted, model, &trial.parts)?,
        recognition: recognition(&fitted, model, &trial.parts)?,
        fitted,
    })
}

/// Scores the pictures of each of `parts`; none where what was fitted has nothing to say about the classes.
///
/// # Errors
/// If the text tower refuses a layout.
pub fn test(
    fitted: &Fitted,
    model: &Model,
    parts: &[Part],
) -> Result<Vec<Option<Tested>>, EvaluateError> {
    let test = |part: &Part| {
        let started = Instant::now();
        let own = fitted.calibration.as_ref();
        let own = own.filter(|_| part.classes == PartClasses::Base);
        let temperature = own.map_or(1.0, |calibration| calibration.temperature);
        let found = fitted.predictor.probabilities(model, part, temperature)?;
        Ok(found.map(|probabilities| Tested {
            assessment: Assessment::new(probabilities.view(), &part.pictures.labels),
            probabilities,
            seconds: started.elapsed().as_secs_f64(),
        }))
    };
    parts.iter().map(test).collect()
}

/// How well pictures of new classes among `parts` are told from those of the classes of the first.
fn recognition(
    fitted: &Fitted,
    model: &Model,
    parts: &[Part],
) -> Result<Option<Recognition>, EvaluateError> {
    let Some((base, others)) = parts.split_first() else {
        return Ok(None);
    };
    let similarities = |part: &Part| {
        let (features, _) = part.pictures.plain();
        let predictor = &fitted.predictor;
        predictor.similarities(model, base.layout, features.view())
    };
    let Some(known) = similarities(base)? else {
        return Ok(None);
    };
    let mut unknown = Vec::new();
    for part in others
        .iter()
        .filter(|part| part.classes == PartClasses::New)
    {
        unknown.extend(similarities(part)?.unwrap_or_default());
    }
    let calibration = fitted.calibration.as_ref();
    let floor = calibration.map(|calibration| calibration.least_similarity());
    Ok(Recognition::new(&known, &unknown, floor))
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
