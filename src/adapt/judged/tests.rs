use super::*;
use crate::adapt::Recipe;
use crate::classifier::{Classifier, softmax_rows};
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
        let texts = task.text_features(Some(delta)).unwrap() - task.text_features(None).unwrap();
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
fn a_label_that_a_prompt_was_not_taught_is_judged_as_it_is_used() {
    let model = Model::embedded().unwrap();
    let labels = ["mug", "key", "fish"].map(|name| Label::new(name, None).unwrap());
    let layout = model.layout(&Template::default(), &labels).unwrap();
    let task = Task::new(&model, &labels, &layout).unwrap();
    let mut rng = Rng::new(8);
    let change = task.context(None).unwrap();
    let change = Delta::Full(change.mapv(|_| 0.3 * rng.normal()));
    let set = drawn(model.text.joint_width(), 10);
    let taught = set.filter_classes(|class| (class < 2).then_some(class));
    let gaussians = Discriminant::of_shots(&taught, labels.len()).unwrap();
    let kept = prototypes(&gaussians, [1.6, 0.0], model.logit_scale);
    assert_eq!(kept.without_shots(), [2]);

    let mut scores = Scores::none(labels.len(), set.features.dim().1);
    let every: Vec<usize> = (0..set.labels.len()).collect();
    scores
        .add(&task, (&set, &every), &change, &gaussians)
        .unwrap();
    let asked = scores.answered_by(&task, &set, (&change, Some(&kept)));
    let judged = asked.unwrap().together(AS_KEPT, model.logit_scale);
    let prompt = Prompt {
        prototypes: Some(kept),
        ..Prompt::new(
            &model.name,
            model.fingerprint.0,
            Template::default(),
            labels.to_vec(),
            change,
        )
    };
    let used = Classifier::with_prompt(&model, &prompt).unwrap();
    let used = used.uncalibrated();
    let (features, _) = set.every_view();
    for (judged, feature) in judged.outer_iter().zip(features.outer_iter()) {
        let row = judged.to_owned().insert_axis(Axis(0));
        let expected = softmax_rows(row, model.logit_scale);
        let found = used.answer(feature).probabilities;
        let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        assert!(far.fold(0.0, f32::max) < 1e-4, "{found:?} {expected}");
    }
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
