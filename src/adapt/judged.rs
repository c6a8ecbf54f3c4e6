//! Training and judging: a prompt that is trained on all pictures, and prompts that were each trained without a part of them
//! and answer it. What comes of both leaves one question open, what is to answer in the end ([`Answers`]). When a few
//! pictures change, all of these prompts go on from where they were ([`Again`]).

use super::acceptance::{Comparison, Split, divided};
use super::cross_fit::{Answers, Scores};
use super::features::FeatureSet;
use super::options::{Judging, Options};
use super::outcome::Outcome;
use super::prototypes::Discriminant;
use super::trainer::{Progress, StepReport};
use super::{AdaptError, Task, drift, fit};
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

/// A prompt that was trained on all pictures, and what prompts that had not seen them make of each.
#[derive(Debug, Clone)]
pub struct Judged {
    delta: Delta,
    history: Vec<StepReport>,
    gaussians: Discriminant,
    scores: Scores,
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
        let ids: Vec<u64> = (0..pictures.labels.len() as u64).collect();
        let again = Again {
            pictures,
            ids: &ids,
            memory: None,
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
        let mut done = 0;
        let mut stage = |shots: &FeatureSet, training: &Training| {
            let trained = fit(
                task,
                shots,
                &training.options,
                training.start,
                &mut |report| {
                    progress(&StepReport {
                        step: done + report.step,
                        steps: plan.steps,
                        ..*report
                    })
                },
            )?;
            done += training.options.recipe.steps;
            Ok::<_, AdaptError>((trained, Discriminant::of_shots(shots, classes)?))
        };
        for part in &plan.parts {
            let shots = pictures.select(&part.split.train);
            let ((delta, _), gaussians) = stage(&shots, &part.training)?;
            scores.add(task, (pictures, &part.split.holdout), &delta, &gaussians)?;
            memory.parts[part.number] = Some(delta);
        }
        let shots = pictures.select(&plan.split.train);
        let ((delta, history), gaussians) = stage(&shots, &plan.whole)?;
        let unseen = !plan.parts.is_empty() || !plan.split.holdout.is_empty();
        if plan.parts.is_empty() {
            scores.add(task, (pictures, plan.split.judged()), &delta, &gaussians)?;
        }
        memory.whole = Some(delta.clone());
        Ok(Judged {
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
        let strength = if self.unseen {
            self.scores.strength(answers, self.scale)
        } else {
            answers.usual_strength()
        };
        let prototypes = || self.gaussians.prototypes(strength, self.scale);
        Outcome {
            delta: self.delta.clone(),
            prototypes: (strength > 0.0).then(prototypes),
            history: self.history.clone(),
            trained_on: self.trained_on,
            statistics: self.statistics.clone(),
            evidence: Comparison::new(&self.scores, self.unseen, strength, self.scale),
        }
    }
}

/// How one prompt is trained.
struct Training<'a> {
    options: Options,
    /// Where it begins, if not at the template.
    start: Option<&'a Delta>,
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
    /// Steps of all trainings together.
    steps: usize,
}

impl<'a> Plan<'a> {
    fn new(task: &Task, again: &Again<'a>, options: &Options) -> Result<Plan<'a>, AdaptError> {
        let (labels, classes) = (&again.pictures.labels, task.labels.len());
        let context = (task.layout.context.len(), task.model.text.width());
        let training = |start: Option<&'a Delta>, shorter: usize| {
            let start = start.filter(|delta| fits(delta, options, context));
            let share = if start.is_some() { AGAIN } else { 1 };
            let mut options = *options;
            options.recipe.steps = options.recipe.steps.div_ceil(shorter * share);
            Training { options, start }
        };
        let remembered = |number: usize| again.memory?.parts.get(number)?.as_ref();
        let (part_of, parts, share) = match options.judging {
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
                (part_of.clone(), parts.collect(), 0.0)
            }
            Judging::HeldOut { share } => (Vec::new(), Vec::new(), share),
        };
        let split = Split::new(labels, classes, share, options.seed)?;
        let whole = training(again.memory.and_then(|memory| memory.whole.as_ref()), 1);
        let of_parts = |part: &Part| part.training.options.recipe.steps;
        Ok(Plan {
            steps: whole.options.recipe.steps + parts.iter().map(of_parts).sum::<usize>(),
            part_of: again.ids.iter().copied().zip(part_of).collect(),
            parts,
            split,
            whole,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::Recipe;
    use crate::clip::Model;
    use crate::prompt::{Label, Template, Tuning};
    use crate::rng::Rng;
    use ndarray::{Array2, Array3, s};
    use std::ops::ControlFlow;

    /// `shots` pictures each of three labels around three directions.
    fn drawn(joint: usize, shots: usize) -> FeatureSet {
        let mut rng = Rng::new(5);
        let centres = Array2::from_shape_simple_fn((3, joint), || rng.normal());
        let labels: Vec<usize> = (0..3 * shots).map(|row| row % 3).collect();
        let mut features = Array3::zeros((labels.len(), 1, joint));
        for (row, &label) in labels.iter().enumerate() {
            let mut feature = features.slice_mut(s![row, 0, ..]);
            feature.assign(&centres.row(label));
            feature.mapv_inplace(|x| x + 0.5 * rng.normal());
            let length = feature.iter().map(|x| x * x).sum::<f32>().sqrt();
            feature /= length;
        }
        FeatureSet { features, labels }
    }

    #[test]
    fn after_a_change_every_prompt_goes_on_and_judges_only_what_it_has_not_seen() {
        let model = Model::embedded().unwrap();
        let labels = ["mug", "key", "fish"].map(|name| Label::new(name, None).unwrap());
        let layout = model.layout(&Template::default(), &labels).unwrap();
        let task = Task::new(&model, &labels, &layout).unwrap();
        let recipe = Recipe {
            steps: 20,
            starts: 1,
            ..Recipe::of(Tuning::Rlp)
        };
        let options = Options::of(Tuning::Rlp).with_recipe(recipe);
        let set = drawn(model.text.joint_width(), 6);
        let run = |set: &FeatureSet, ids: &[u64], memory: Option<&Memory>| {
            let again = Again {
                pictures: set,
                ids,
                memory,
            };
            let mut steps = 0;
            let judged = Judged::again(&task, &again, &options, &mut |report| {
                steps = report.steps;
                ControlFlow::Continue(())
            });
            (judged.unwrap(), steps)
        };
        // All but the last picture; then it comes, and the first is taken away.
        let (before, after): (Vec<usize>, Vec<usize>) = ((0..17).collect(), (1..18).collect());
        let ids = |rows: &[usize]| {
            rows.iter()
                .map(|&row| 100 + row as u64)
                .collect::<Vec<u64>>()
        };
        let (first, steps) = run(&set.select(&before), &ids(&before), None);
        assert_eq!(steps, 20 + 3 * 10);
        let (second, steps) = run(&set.select(&after), &ids(&after), Some(first.memory()));
        assert_eq!(steps, 4 + 3 * 2);
        for row in 1..17 {
            let id = 100 + row as u64;
            assert_eq!(second.memory().part_of[&id], first.memory().part_of[&id]);
        }
        assert!(second.memory().part_of[&117].is_some());
        assert!(!second.memory().part_of.contains_key(&100));
        let loss = |judged: &Judged| judged.history.last().unwrap().loss;
        assert!(loss(&second) < first_loss(&run(&set.select(&after), &ids(&after), None).0));
        assert_eq!(second.outcome(Answers::Prompt).evidence.held_out(), 17);

        // Another rank has nothing to go on from.
        let other = Options {
            rank: Some(1),
            ..options
        };
        let (set, ids) = (set.select(&after), ids(&after));
        let again = Again {
            pictures: &set,
            ids: &ids,
            memory: Some(second.memory()),
        };
        let plan = Plan::new(&task, &again, &other).unwrap();
        assert!(
            plan.whole.start.is_none()
                && plan.parts.iter().all(|part| part.training.start.is_none())
        );
    }

    /// The loss that a training from the template begins with.
    fn first_loss(judged: &Judged) -> f32 {
        judged.history[0].loss
    }

    #[test]
    fn a_label_whose_pictures_are_all_in_one_part_still_trains() {
        // Two pictures of label 1 that were both in part 2 under other labels.
        let labels = [0, 0, 0, 1, 1];
        let before = [
            Some(Some(0)),
            Some(Some(1)),
            Some(None),
            Some(Some(2)),
            Some(Some(2)),
        ];
        let part_of = divided(&labels, 2, (3, 0), &before);
        assert_eq!(part_of[..3], [Some(0), Some(1), None]);
        assert_eq!(part_of[3..].iter().flatten().count(), 1);
        let new = divided(&labels, 2, (3, 0), &[None; 5]);
        assert!(new.iter().all(Option::is_some));
    }
}
