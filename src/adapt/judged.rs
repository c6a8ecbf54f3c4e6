//! Training and judging: a prompt that is trained on all pictures, and prompts that were each trained without a part of them
//! and answer it. What comes of both leaves one question open, what is to answer in the end ([`Answers`]). When a few
//! pictures change, all of these prompts go on from where they were ([`Again`]).

use super::acceptance::{Comparison, Split, divided};
use super::cross_fit::{AS_KEPT, Answers, Scores};
use super::features::FeatureSet;
use super::options::{Judging, Options};
use super::outcome::Outcome;
use super::prototypes::{Discriminant, Strengths, prototypes};
use super::sisters::{Sister, Sisters};
use super::trainer::{Progress, Reached, StepReport};
use super::{AdaptError, Begin, Task, drift};
use crate::prompt::{Delta, FeatureStatistics};
use ndarray::Axis;
use std::collections::HashMap;

/// A training whose prompt only judges takes this part of the steps.
const SHORTER: usize = 2;
/// One that goes on from an earlier prompt takes this part of them.
const AGAIN: usize = 5;

/// Labelled pictures, some of which may have been learnt from before.
#[derive(Debug, Clone, Copy)]
pub struct Again<'a> {
    /// All that are to be learnt from now.
    pub pictures: &'a FeatureSet,
    /// What each of them is known by, the same from one training to the next.
    pub ids: &'a [u64],
    /// What the last training left; none begins at the template.
    pub memory: Option<&'a Memory>,
    /// Prompts of sister cameras, where training may begin that has no memory, and which may be kept in place of what is trained.
    pub sisters: &'a [Sister],
}

/// What a training leaves for the next one: its prompts, and which pictures each has not seen.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Trained on all pictures.
    whole: Option<Delta>,
    /// Trained without one part each.
    parts: Vec<Option<Delta>>,
    /// The part in which a picture judges, by its id; none for one that always trains.
    part_of: HashMap<u64, Option<usize>>,
}

impl Memory {
    /// Of the prompt in use, when nothing more than that is left: only the prompts that judge begin at the template.
    pub fn of_prompt(delta: &Delta) -> Memory {
        Memory {
            whole: Some(delta.clone()),
            ..Memory::default()
        }
    }
}

/// A sister, and what it makes of the pictures.
#[derive(Debug, Clone)]
struct AskedSister {
    sister: Sister,
    /// By its prompt alone, where that says something else of texts than with its class means.
    alone: Option<Scores>,
    /// With its class means, if it has any.
    with_means: Option<Scores>,
}

/// A prompt that was trained on all pictures, and what prompts that had not seen them make of each.
#[derive(Debug, Clone)]
pub struct Judged {
    delta: Delta,
    history: Vec<StepReport>,
    gaussians: Vec<Discriminant>,
    scores: Scores,
    sisters: Vec<AskedSister>,
    /// The name of the one that training went on from.
    start: Option<String>,
    /// Whether those that judged had not trained.
    unseen: bool,
    trained_on: usize,
    statistics: Option<FeatureStatistics>,
    scale: f32,
    memory: Memory,
}

impl Judged {
    /// Trains on `pictures` as `options` say; `progress` hears of every step and may end it.
    ///
    /// # Errors
    /// If a class has no picture, an option does not fit the model, or training fails.
    pub fn train(
        task: &Task,
        pictures: &FeatureSet,
        options: &Options,
        progress: &mut Progress,
    ) -> Result<Judged, AdaptError> {
        Judged::with_sisters(task, (pictures, &[]), options, progress)
    }

    /// The same with prompts of sister cameras.
    ///
    /// # Errors
    /// As [`Judged::train`], and if a sister's prompt does not fit the model.
    pub fn with_sisters(
        task: &Task,
        (pictures, sisters): (&FeatureSet, &[Sister]),
        options: &Options,
        progress: &mut Progress,
    ) -> Result<Judged, AdaptError> {
        let ids: Vec<u64> = (0..pictures.labels.len() as u64).collect();
        let again = Again {
            pictures,
            ids: &ids,
            memory: None,
            sisters,
        };
        Judged::again(task, &again, options, progress)
    }

    /// The same from where the last training ended: in a fifth of the steps where all is remembered. Pictures that were there
    /// before are judged by the prompts that had not seen them then; a new one joins the part that has the fewest of its label.
    ///
    /// # Errors
    /// As [`Judged::train`].
    pub fn again(
        task: &Task,
        again: &Again,
        options: &Options,
        progress: &mut Progress,
    ) -> Result<Judged, AdaptError> {
        let (pictures, classes) = (again.pictures, task.labels.len());
        if let Some(empty) = (0..classes).find(|class| !pictures.labels.contains(class)) {
            return Err(AdaptError::NoPictures {
                label: task.labels[empty].name.clone(),
            });
        }
        let plan = Plan::new(task, again, options)?;
        let mut memory = Memory {
            whole: None,
            parts: vec![
                None;
                plan.parts
                    .iter()
                    .map(|part| part.number + 1)
                    .max()
                    .unwrap_or(0)
            ],
            part_of: plan.part_of.clone(),
        };
        let mut scores = Scores::none(classes, pictures.features.dim().1);
        let mut trained = plan.train(task, pictures, progress)?.into_iter();
        let mut next = || trained.next().expect("one for each stage");
        let ((reached, start), gaussians) = next();
        let Reached { delta, history, .. } = reached;
        for part in &plan.parts {
            let ((reached, _), gaussians) = next();
            let delta = reached.delta;
            scores.add(task, (pictures, &part.split.holdout), &delta, &gaussians)?;
            memory.parts[part.number] = Some(delta);
        }
        let unseen = !plan.parts.is_empty() || !plan.split.holdout.is_empty();
        if plan.parts.is_empty() {
            scores.add(task, (pictures, plan.split.judged()), &delta, &gaussians)?;
        }
        memory.whole = Some(delta.clone());
        let mut sisters = Vec::new();
        for sister in again.sisters.iter().filter(|_| unseen) {
            let by = |means| scores.answered_by(task, pictures, (&sister.delta, means));
            let means = sister.prototypes.as_ref();
            let with_means = means.map(|means| by(Some(means))).transpose()?;
            let alone = match means {
                Some(means) if means.without_shots().is_empty() => None,
                _ => Some(by(None)?),
            };
            sisters.push(AskedSister {
                sister: sister.clone(),
                alone,
                with_means,
            });
        }
        Ok(Judged {
            sisters,
            start: start.map(|place| plan.starts[place].0.clone()),
            delta,
            history,
            gaussians,
            scores,
            unseen,
            trained_on: plan.split.train.len(),
            statistics: drift::statistics(pictures.features.index_axis(Axis(1), 0)),
            scale: task.model.logit_scale,
            memory,
        })
    }

    /// What the next training may go on from.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The prompt with what is to stand beside it, of what `answers` allows, and the evidence on that.
    pub fn outcome(&self, answers: Answers) -> Outcome<Comparison> {
        // Pictures that trained would choose the most that can be.
        let strengths = if self.unseen {
            self.scores.strengths(answers, self.scale)
        } else {
            answers.usual_strengths()
        };
        let counts = strengths != Strengths::default();
        let means = || prototypes(&self.gaussians, strengths, self.scale);
        let evidence = Comparison::new(&self.scores, self.unseen, strengths, self.scale);
        let mut sisters = Sisters {
            start: self.start.clone(),
            trained: evidence.adapted_accuracy,
            ..Sisters::default()
        };
        let mut outcome = Outcome {
            delta: self.delta.clone(),
            prototypes: counts.then(means),
            history: self.history.clone(),
            trained_on: self.trained_on,
            statistics: self.statistics.clone(),
            evidence,
            sisters: Sisters::default(),
        };
        for asked in &self.sisters {
            let (sister, means) = (&asked.sister, asked.sister.prototypes(answers));
            let (with_means, alone) = (asked.with_means.as_ref(), asked.alone.as_ref());
            let (scores, strengths) = match means {
                Some(_) => (with_means, AS_KEPT),
                None => (alone.or(with_means), Strengths::default()),
            };
            let scores = scores.expect("it was asked in one way at least");
            let evidence = Comparison::new(scores, self.unseen, strengths, self.scale);
            let accuracy = evidence.adapted_accuracy;
            sisters.judged.push((sister.name.clone(), accuracy));
            if accuracy > outcome.evidence.adapted_accuracy {
                sisters.kept = Some(sister.name.clone());
                outcome.delta = sister.delta.clone();
                outcome.prototypes = means.cloned();
                outcome.trained_on = sister.images;
                outcome.evidence = evidence;
            }
        }
        Outcome { sisters, ..outcome }
    }
}

/// How one prompt is trained.
struct Training<'a> {
    options: Options,
    begin: Begin<'a>,
}

/// Pictures that one prompt judges.
struct Part<'a> {
    number: usize,
    split: Split,
    training: Training<'a>,
}

/// Which pictures train and judge, and how.
struct Plan<'a> {
    /// Trainings whose only use is to judge.
    parts: Vec<Part<'a>>,
    part_of: HashMap<u64, Option<usize>>,
    /// What the prompt itself is trained on, and where there are no parts, those that judge and never train.
    split: Split,
    whole: Training<'a>,
    /// Where a training may begin but at the template, with the name of the sister.
    starts: Vec<(String, Delta)>,
    /// Steps of all trainings together.
    steps: usize,
}

impl<'a> Plan<'a> {
    fn new(task: &Task, again: &Again<'a>, options: &Options) -> Result<Plan<'a>, AdaptError> {
        let (labels, classes) = (&again.pictures.labels, task.labels.len());
        let share = match options.judging {
            Judging::CrossFitted { .. } => 0.0,
            Judging::HeldOut { share } => share,
        };
        let split = Split::new(labels, classes, share, options.seed)?;
        // Parts train on fewer pictures, but stand for what is trained on all.
        let options = &options.for_pictures(split.train.len(), classes);
        let context = (task.layout.context.len(), task.model.text.width());
        let sisters = again.sisters.iter();
        let starts: Vec<(String, Delta)> = sisters
            .filter_map(|sister| Some((sister.name.clone(), sister.start(options, context)?)))
            .collect();
        let training = |start: Option<&'a Delta>, shorter: usize| {
            let deltas = || starts.iter().map(|(_, delta)| delta.clone()).collect();
            let (begin, share) = match start.filter(|delta| fits(delta, options, context)) {
                Some(delta) => (Begin::At(delta), AGAIN),
                None => (Begin::Anywhere(deltas()), 1),
            };
            let mut options = *options;
            options.recipe.steps = options.recipe.steps.div_ceil(shorter * share);
            Training { options, begin }
        };
        let remembered = |number: usize| again.memory?.parts.get(number)?.as_ref();
        let (part_of, parts) = match options.judging {
            Judging::CrossFitted { parts } => {
                let before: Vec<Option<Option<usize>>> = again
                    .ids
                    .iter()
                    .map(|id| again.memory?.part_of.get(id).copied())
                    .collect();
                let part_of = divided(labels, classes, (parts, options.seed), &before);
                let parts = Split::of_parts(&part_of)
                    .into_iter()
                    .map(|(number, split)| Part {
                        number,
                        split,
                        training: training(remembered(number), SHORTER),
                    });
                (part_of.clone(), parts.collect())
            }
            Judging::HeldOut { .. } => (Vec::new(), Vec::new()),
        };
        let whole = training(again.memory.and_then(|memory| memory.whole.as_ref()), 1);
        let of_parts = |part: &Part| part.training.options.recipe.steps;
        Ok(Plan {
            steps: whole.options.recipe.steps + parts.iter().map(of_parts).sum::<usize>(),
            part_of: again.ids.iter().copied().zip(part_of).collect(),
            parts,
            split,
            whole,
            starts,
        })
    }
}

/// Whether training as `options` say may begin at `delta`, in a context of so many tokens of such a width.
fn fits(delta: &Delta, options: &Options, context: (usize, usize)) -> bool {
    let rank = match delta {
        Delta::LowRank(factors) => factors.u.ncols() == options.rank_for(context.0),
        Delta::Full(_) => true,
    };
    delta.tuning() == options.tuning && delta.shape() == context && rank
}

mod stages;
#[cfg(test)]
mod tests;
