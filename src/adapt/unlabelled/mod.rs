//! Self-training, for cameras that nobody labels: the most confident pictures of each class, as the prompt in use, the
//! views of a picture and what pictures have in common see it, become shots, and a prompt is trained on them, with Gaussians
//! of all pictures beside it; the next round asks that prompt (after unsupervised prompt learning, arXiv 2204.03649). Whether
//! the result may stay is decided without labels.

mod consistency;
mod mixture;
mod mounting;
mod pseudo_labels;

pub use consistency::{Consistency, Measures, Refusal};
pub use mounting::{Mounted, Mounting};

use super::cross_fit::calibration_of;
use super::prototypes::{Discriminant, Strengths, prototypes};
use super::{
    AdaptError, Begin, MIN_SHOTS, Options, Outcome, Progress, Reached, Sisters, Split, Task, drift,
    fit,
};
use crate::classifier::Scorer;
use crate::prompt::{Delta, Prompt, Prototypes};
use mixture::Shown;
use ndarray::{ArrayView2, ArrayView3, Axis};
use pseudo_labels::PseudoLabels;

/// How much larger a share of the views the plain template must name as their picture to vote in place of the prompt in use.
const STEADIER: f32 = 0.05;
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

/// Pictures of which nobody says what they show.
#[derive(Debug, Clone, Copy)]
pub struct Unlabelled<'a> {
    /// `[pictures, views, joint]`; view 0 is the picture as it is.
    pub features: ArrayView3<'a, f32>,
    /// What the model says of them put right, `[pictures, classes]`, where it is far surer of them then ([`Mounted::surest`]).
    pub put_right: Option<ArrayView2<'a, f32>>,
}

/// The prompt in use: what it changes, and what is kept beside it. Neither for the plain template.
#[derive(Debug, Clone, Copy, Default)]
pub struct InUse<'a> {
    /// What it adds to the words of its template.
    pub delta: Option<&'a Delta>,
    /// Its prototypes.
    pub prototypes: Option<&'a Prototypes>,
}

impl<'a> From<&'a Prompt> for InUse<'a> {
    fn from(prompt: &'a Prompt) -> InUse<'a> {
        InUse {
            delta: Some(&prompt.delta),
            prototypes: prompt.prototypes.as_ref(),
        }
    }
}

impl<'a, E> From<&'a Outcome<E>> for InUse<'a> {
    fn from(outcome: &'a Outcome<E>) -> InUse<'a> {
        InUse {
            delta: Some(&outcome.delta),
            prototypes: outcome.prototypes.as_ref(),
        }
    }
}

impl InUse<'_> {
    /// What scores pictures.
    ///
    /// # Errors
    /// If the prompt is not one for the task's model and labels.
    pub fn scorer(&self, task: &Task) -> Result<Scorer, AdaptError> {
        let texts = match self.delta {
            None => task.text_features(None)?,
            Some(delta) => task.texts_in_use(delta, self.prototypes)?,
        };
        Ok(Scorer::new(texts.view(), self.prototypes)?)
    }

    /// What scores pictures by the plain template, and by the prompt in use: the same where there is none.
    fn beside_template(&self, task: &Task) -> Result<(Scorer, Scorer), AdaptError> {
        let template = InUse::default().scorer(task)?;
        let in_use = match (self.delta, self.prototypes) {
            (None, None) => template.clone(),
            _ => self.scorer(task)?,
        };
        Ok((template, in_use))
    }
}

/// The class that the fewest of `features [pictures, views, joint]` seem to show, if those are fewer than `enough`; `scorer`
/// is that of the prompt in use.
pub fn scarcest(
    features: ArrayView3<f32>,
    scorer: &Scorer,
    scale: f32,
    enough: usize,
) -> Option<Scarce> {
    let labels = PseudoLabels::voted(features, scorer, scale);
    let classes = (0..scorer.classes()).map(|class| Scarce {
        class,
        pictures: count(&labels, class),
    });
    classes
        .min_by_key(|scarce| scarce.pictures)
        .filter(|scarce| scarce.pictures < enough)
}

/// Adapts to pictures of which nothing is known but the labels that may occur. The outcome is the
/// round that agrees best with what the pictures seemed to show first.
///
/// # Errors
/// [`AdaptError::OneView`] if pictures have no other views; [`AdaptError::TooFewSure`] if a class gets fewer than [`MIN_SHOTS`]
/// pictures though all seem to be shown, or all classes but one do; if an option does not fit the model, or training fails.
pub fn adapt(
    task: &Task,
    pictures: Unlabelled,
    in_use: InUse,
    options: &SelfTraining,
    progress: &mut Progress,
) -> Result<Outcome<Consistency>, AdaptError> {
    let scale = task.model.logit_scale;
    let features = pictures.features;
    if features.dim().1 < 2 {
        return Err(AdaptError::OneView);
    }
    // Pictures are split whatever they show: nobody knows.
    let unknown = vec![0; features.dim().0];
    let split = Split::new(&unknown, 1, JUDGING, options.training.seed)?;
    let (template, scorer) = in_use.beside_template(task)?;
    let steady = |scorer: &Scorer| consistency::stability(features, scorer);
    // A prompt that was learnt under other conditions may know less than the plain words.
    let votes = match steady(&template) > steady(&scorer) + STEADIER {
        true => &template,
        false => &scorer,
    };
    let mut rounds = vec![PseudoLabels::of(pictures, votes, scale)?];
    let measures = |scorer: &Scorer, first: &PseudoLabels| {
        Measures::of(features, &split.holdout, scorer, scale, first)
    };
    let before = measures(&scorer, &rounds[0]);
    let judges = rounds[0].shots(features, &split.holdout);

    let mut best: Option<Outcome<Consistency>> = None;
    for _ in 0..options.rounds.max(1) {
        let newest = &rounds[rounds.len() - 1];
        let named = newest.labels();
        let of_train: Vec<usize> = split.train.iter().map(|&row| named[row]).collect();
        check_shots(task, &of_train, newest)?;
        let enough = |row: &usize| count(&of_train, named[*row]) >= MIN_SHOTS;
        let seen: Vec<usize> = split.train.iter().copied().filter(enough).collect();
        let all = newest.shots(features, &seen);
        let rows = newest.most_confident(&split.train, options.shots);
        let shots = newest.shots(features, &rows);
        let shots = shots.filter_classes(|class| all.labels.contains(&class).then_some(class));
        let begin = Begin::Anywhere(Vec::new());
        let (reached, _) = fit(task, &shots, &options.training, &begin, progress)?;
        let Reached { delta, history, .. } = reached;
        let gaussians = Discriminant::of_shots(&all, task.labels.len())?;
        let strengths: Strengths = [newest.shown.strength(), 0.0];
        let beside = prototypes(&gaussians, strengths, scale);
        let calibration = calibration_of(task, &judges, (&delta, &beside))?;
        let scorer = InUse {
            delta: Some(&delta),
            prototypes: Some(&beside),
        };
        let scorer = scorer.scorer(task)?;
        let after = measures(&scorer, &rounds[0]);
        rounds.push(rounds[0].again(pictures, &scorer, scale)?);
        let better = |best: &Outcome<Consistency>| after.agreement > best.evidence.after.agreement;
        if best.as_ref().is_none_or(better) {
            let missing = beside.without_shots();
            let outcome = Outcome {
                delta,
                prototypes: Some(beside),
                history,
                trained_on: shots.labels.len(),
                statistics: drift::statistics(features.index_axis(Axis(1), 0)),
                evidence: Consistency::new(
                    before,
                    after,
                    calibration,
                    missing,
                    &rounds,
                    &split.holdout,
                ),
                sisters: Sisters::default(),
            };
            best = Some(outcome);
        }
    }
    Ok(best.expect("there is a round"))
}

/// Checks that there are pictures enough, which seem to show what `labels` say, of every class that may be shown, or of two at least
/// where these are not taken to be shown alike.
fn check_shots(task: &Task, labels: &[usize], of: &PseudoLabels) -> Result<(), AdaptError> {
    let among = of.among.iter().copied();
    let scarce: Vec<usize> = among
        .filter(|&class| count(labels, class) < MIN_SHOTS)
        .collect();
    let may_lack = match of.shown {
        Shown::Alike | Shown::SomeAlike => 0,
        Shown::AsTheyCome | Shown::AsVoted => of.among.len().saturating_sub(2),
    };
    match scarce.first() {
        Some(&class) if scarce.len() > may_lack => Err(AdaptError::TooFewSure {
            label: task.labels[class].name.clone(),
            pictures: count(labels, class),
        }),
        _ => Ok(()),
    }
}

/// Of how often each of so many classes is named; 0 where all are of one class.
fn entropy(labels: &[usize], classes: usize) -> f32 {
    let total = labels.len().max(1) as f32;
    entropy_of((0..classes).map(|class| count(labels, class) as f32 / total))
}

/// In nats, of shares that sum to one.
fn entropy_of(shares: impl Iterator<Item = f32>) -> f32 {
    let shares = shares.filter(|&share| share > 0.0);
    shares.map(|share| -share * share.ln()).sum()
}

fn count(labels: &[usize], class: usize) -> usize {
    labels.iter().filter(|&&of| of == class).count()
}
