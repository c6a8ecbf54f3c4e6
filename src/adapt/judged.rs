//! Training and judging: a prompt that is trained on all pictures, and prompts that were each trained without a part of them
//! and answer it. What comes of both leaves one question open, what is to answer in the end ([`Answers`]). When a few
//! pictures change, all of these prompts go on from where they were ([`Again`]).

use super::acceptance::{Comparison, Split, divided};
use super::cross_fit::{Answers, Scores};
use super::features::FeatureSet;
use super::options::{Judging, Options};
use super::outcome::Outcome;
use super::prototypes::Discriminant;
use super::sisters::{Sister, Sisters};
use super::trainer::{Progress, Reached, StepReport};
use super::{AdaptError, Begin, Task, drift, fit};
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

/// A prompt that was trained on all pictures, and what prompts that had not seen them make of each.
#[derive(Debug, Clone)]
pub struct Judged {
    delta: Delta,
    history: Vec<StepReport>,
    gaussians: Discriminant,
    scores: Scores,
    /// What each sister makes of the same pictures.
    sisters: Vec<(Sister, Scores)>,
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
        let mut done = 0;
        let mut stage = |shots: &FeatureSet, training: &Training| {
            let trained = fit(
                task,
                shots,
                &training.options,
                &training.begin,
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
            let ((reached, _), gaussians) = stage(&shots, &part.training)?;
            let delta = reached.delta;
            scores.add(task, (pictures, &part.split.holdout), &delta, &gaussians)?;
            memory.parts[part.number] = Some(delta);
        }
        let shots = pictures.select(&plan.split.train);
        let ((reached, start), gaussians) = stage(&shots, &plan.whole)?;
        let Reached { delta, history, .. } = reached;
        let unseen = !plan.parts.is_empty() || !plan.split.holdout.is_empty();
        if plan.parts.is_empty() {
            scores.add(task, (pictures, plan.split.judged()), &delta, &gaussians)?;
        }
        memory.whole = Some(delta.clone());
        let mut sisters = Vec::new();
        for sister in again.sisters.iter().filter(|_| unseen) {
            let (change, means) = (&sister.delta, sister.prototypes.as_ref());
            let answered = scores.answered_by(task, pictures, (change, means))?;
            sisters.push((sister.clone(), answered));
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
        let strength = if self.unseen {
            self.scores.strength(answers, self.scale)
        } else {
            answers.usual_strength()
        };
        let prototypes = || self.gaussians.prototypes(strength, self.scale);
        let evidence = Comparison::new(&self.scores, self.unseen, strength, self.scale);
        let mut sisters = Sisters {
            start: self.start.clone(),
            trained: evidence.adapted_accuracy,
            ..Sisters::default()
        };
        let mut outcome = Outcome {
            delta: self.delta.clone(),
            prototypes: (strength > 0.0).then(prototypes),
            history: self.history.clone(),
            trained_on: self.trained_on,
            statistics: self.statistics.clone(),
            evidence,
            sisters: Sisters::default(),
        };
        for (sister, scores) in &self.sisters {
            let means = sister.prototypes(answers);
            let strength = if means.is_some() { 1.0 } else { 0.0 };
            let evidence = Comparison::new(scores, self.unseen, strength, self.scale);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::Recipe;
    use crate::clip::Model;
    use crate::prompt::{Label, Prompt, Template, Tuning};
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
                sisters: &[],
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
            sisters: &[],
        };
        let plan = Plan::new(&task, &again, &other).unwrap();
        let anew = |training: &Training| matches!(training.begin, Begin::Anywhere(_));
        assert!(anew(&plan.whole) && plan.parts.iter().all(|part| anew(&part.training)));
    }

    #[test]
    fn with_one_picture_a_label_the_prompt_stays_nearer_to_the_template_and_says_so() {
        let model = Model::embedded().unwrap();
        let labels = ["mug", "key", "fish"].map(|name| Label::new(name, None).unwrap());
        let template = Template::default();
        let layout = model.layout(&template, &labels).unwrap();
        let task = Task::new(&model, &labels, &layout).unwrap();
        let options = Options::of(Tuning::Rlp).with_recipe(Recipe {
            steps: 20,
            starts: 1,
            ..Recipe::of(Tuning::Rlp)
        });
        let pulled = |shots: usize, tuning: Tuning, times: f32| {
            let mut options = Options { tuning, ..options };
            options.recipe.anchor *= times;
            let set = drawn(model.text.joint_width(), shots);
            let mut go_on = |_: &StepReport| ControlFlow::Continue(());
            let outcome = Judged::train(&task, &set, &options, &mut go_on).unwrap();
            let outcome = outcome.outcome(Answers::Prompt);
            let prompt = outcome.prompt(&task, &template, &options).unwrap();
            (outcome.delta, prompt.recipe)
        };
        let (one, words) = pulled(1, Tuning::Rlp, 1.0);
        assert!(words.contains("anchor 4,"), "{words}");
        let away = |delta: &Delta| {
            let texts =
                task.text_features(Some(delta)).unwrap() - task.text_features(None).unwrap();
            texts.iter().map(|x| x * x).sum::<f32>()
        };
        assert!(away(&one) < away(&pulled(1, Tuning::Rlp, 0.25).0));
        for (shots, tuning) in [(2, Tuning::Rlp), (1, Tuning::Coop)] {
            let (_, words) = pulled(shots, tuning, 1.0);
            assert!(words.contains("anchor 1,"), "{words}");
        }
    }

    #[test]
    fn a_sister_is_kept_where_it_is_better_than_what_was_trained_and_its_class_means_only_where_they_may_answer()
     {
        let model = Model::embedded().unwrap();
        let labels = ["mug", "key", "fish"].map(|name| Label::new(name, None).unwrap());
        let template = Template::default();
        let layout = model.layout(&template, &labels).unwrap();
        let task = Task::new(&model, &labels, &layout).unwrap();
        let recipe = Recipe {
            steps: 26,
            ..Recipe::of(Tuning::Rlp)
        };
        let options = Options::of(Tuning::Rlp).with_recipe(recipe);
        let mut go_on = |_: &StepReport| ControlFlow::Continue(());
        let all = drawn(model.text.joint_width(), 30);
        let (elsewhere, here): (Vec<usize>, Vec<usize>) = (0..90).partition(|row| *row >= 9);
        let (elsewhere, here) = (all.select(&elsewhere), all.select(&here));
        let mut turned = elsewhere.clone();
        turned.labels = turned.labels.iter().map(|label| (label + 1) % 3).collect();
        let mut sisters = Vec::new();
        for (name, set) in [("wrong", &turned), ("right", &elsewhere)] {
            let judged = Judged::train(&task, set, &options, &mut go_on).unwrap();
            let outcome = judged.outcome(Answers::WithPrototypes);
            let mut prompt = outcome.prompt(&task, &template, &options).unwrap();
            // A sister may have been taught the labels in another order.
            prompt.labels.rotate_left(1);
            let means = prompt.prototypes.as_ref().unwrap();
            prompt.prototypes = Some(means.for_labels(&labels, &prompt.labels));
            sisters.push(Sister::new(name, &prompt, &task, &template).unwrap());
        }
        // With dropout training begins at the template, and after a step it is there still.
        let idle = Recipe {
            steps: 1,
            ..recipe.with_dropout(0.1)
        };
        let idle = options.with_recipe(idle);
        let judged = Judged::with_sisters(&task, (&here, &sisters), &idle, &mut go_on).unwrap();
        let outcome = judged.outcome(Answers::Prompt);
        let found = &outcome.sisters;
        assert_eq!(found.kept.as_deref(), Some("right"), "{found:?}");
        assert_eq!(found.judged[1].1, outcome.evidence.adapted_accuracy);
        assert!(found.trained < outcome.evidence.adapted_accuracy);
        assert_eq!(
            (&outcome.delta, &outcome.prototypes),
            (&sisters[1].delta, &None)
        );
        let prompt = outcome.prompt(&task, &template, &idle).unwrap();
        assert_eq!(prompt.fault(), None);
        assert!(sisters[1].prototypes(Answers::Best).is_some());

        // With steps enough it begins there; what it then learns is its own.
        let judged = Judged::with_sisters(&task, (&here, &sisters), &options, &mut go_on).unwrap();
        assert_eq!(judged.start.as_deref(), Some("right"));
        let wrong = Judged::with_sisters(&task, (&here, &sisters[..1]), &options, &mut go_on);
        let found = wrong.unwrap().outcome(Answers::Best).sisters;
        assert_eq!((found.start, found.kept), (None, None));

        // Without pictures that were kept from training nobody is judged.
        let seen = options.with_judging(Judging::HeldOut { share: 0.0 });
        let judged = Judged::with_sisters(&task, (&here, &sisters), &seen, &mut go_on).unwrap();
        assert!(judged.outcome(Answers::Best).sisters.judged.is_empty());
    }

    #[test]
    fn a_prompt_of_another_model_template_or_task_is_no_sister() {
        let model = Model::embedded().unwrap();
        let label = |name| Label::new(name, None).unwrap();
        let labels = [label("mug"), label("key")];
        let template = Template::default();
        let layout = model.layout(&template, &labels).unwrap();
        let task = Task::new(&model, &labels, &layout).unwrap();
        let change = Delta::Full(Array2::zeros((layout.context.len(), model.text.width())));
        let of = |template: &Template, labels: Vec<Label>, fingerprint: [u8; 32]| {
            Prompt::new("m", fingerprint, template.clone(), labels, change.clone())
        };
        let refused = |prompt: &Prompt| Sister::new("x", prompt, &task, &template).unwrap_err();
        let own = model.fingerprint.0;
        let found = refused(&of(&template, labels.to_vec(), [1; 32]));
        assert!(found.to_string().contains("for the model m"), "{found}");
        let other = Template::parse("a drawing of a {}.").unwrap();
        let found = refused(&of(&other, labels.to_vec(), own));
        assert!(found.to_string().contains("a drawing of a"), "{found}");
        let found = refused(&of(&template, vec![label("jar")], own));
        assert!(found.to_string().contains("taught jar"), "{found}");
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
