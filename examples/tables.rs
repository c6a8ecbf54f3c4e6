//! Makes the tables of the README, from drawn pictures that the default model has never seen:
//!
//!     cargo run --release --example tables -- model         # zero-shot accuracy, a row a condition, 5 seeds
//!     cargo run --release --example tables -- adaptation    # every held-out condition, 16 shots, 5 seeds
//!     cargo run --release --example tables -- base-to-new   # trained on half of the classes, 10 seeds
//!     cargo run --release --example tables -- ablation      # initialisation, dropout, rank, 3 seeds
//!     cargo run --release --example tables -- calibration   # calibration error, unknown pictures, 5 seeds
//!     cargo run --release --example tables -- unlabelled    # nobody there to label, 2 seeds
//!     cargo run --release --example tables -- drift         # pictures that change under a prompt in use
//!
//! A bundle file after the name of the table measures that model instead of the one compiled in; `unlabelled` takes
//! seeds in its place, as in 100,101, and tells each run on standard error. Every figure is a
//! mean over seeds on 50 test pictures a class; features are computed once and kept in memory.

#[path = "tables/calibration.rs"]
mod calibration;
#[path = "tables/drift.rs"]
mod drift;
#[path = "tables/unlabelled.rs"]
mod unlabelled;

use anyhow::{Result, bail};
use edge_rlp::adapt::features::{Extraction, FeatureSet, Loaded, extract};
use edge_rlp::adapt::loss::accuracy;
use edge_rlp::adapt::probe::Probe;
use edge_rlp::adapt::trainer::{Objective, Recipe, Shots, train};
use edge_rlp::adapt::{Options, Outcome, adapt};
use edge_rlp::classifier::{context_rows, text_features};
use edge_rlp::clip::Model;
use edge_rlp::clip::text_tower::DEFAULT_MEMORY;
use edge_rlp::frames::demo::{self, CLASSES, CONDITIONS, Choice, Purpose, Reserved, SceneSpec};
use edge_rlp::prompt::{Delta, Factors, Label, Method, Template, TokenLayout};
use edge_rlp::rng::Rng;
use ndarray::Array2;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

const SEEDS: u64 = 5;
/// The methods are close on base and new classes: more seeds to tell them apart.
const BASE_TO_NEW_SEEDS: u64 = 10;
/// There are many variants, and their differences are larger.
const ABLATION_SEEDS: u64 = 3;
const SHOTS: usize = 16;
const TEST: usize = 50;
const VIEWS: usize = 4;
/// The scenes of combinations that training never drew; training uses seeds below 1,000,000.
const UNSEEN_SEED: u64 = 2_000_000;
/// Weight decay of the logistic probe: the best of 1e-5, 1e-4, 3e-4, 1e-3 and 1e-2 on other pictures (seed 100) of the
/// held-out conditions.
const PENALTY: f32 = 1e-4;

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("drift") {
        return drift::table(&Model::embedded()?);
    }
    if std::env::args().nth(1).as_deref() == Some("unlabelled") {
        let seeds = std::env::args().nth(2).unwrap_or("0,1".into());
        let seeds = seeds
            .split(',')
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>()?;
        return unlabelled::table(&Model::embedded()?, &seeds);
    }
    let model = match std::env::args().nth(2) {
        Some(bundle) => Model::open(bundle.as_ref())?,
        None => Model::embedded()?,
    };
    match std::env::args().nth(1).as_deref() {
        Some("model") => zero_shot(&model),
        Some("adaptation") => adaptation(&model),
        Some("base-to-new") => base_to_new(&model),
        Some("ablation") => ablation(&model),
        Some("calibration") => calibration::table(&model),
        _ => bail!(
            "say which table: model, adaptation, base-to-new, ablation, calibration, unlabelled or drift"
        ),
    }
}

/// Training and test features of one condition and seed.
struct Task {
    train: FeatureSet,
    test: FeatureSet,
}

impl Task {
    fn new(model: &Model, condition: usize, seed: u64) -> Result<Task> {
        let train = features(model, &scenes(Purpose::Train, condition, seed), VIEWS, seed)?;
        let test = features(model, &scenes(Purpose::Test, condition, seed), 1, seed)?;
        Ok(Task { train, test })
    }

    /// The classes in `range` alone, numbered from 0.
    fn part(&self, range: std::ops::Range<usize>) -> Task {
        let keep = |class: usize| range.contains(&class).then(|| class - range.start);
        Task {
            train: self.train.filter_classes(keep),
            test: self.test.filter_classes(keep),
        }
    }
}

/// The scenes that `demo --out` writes for this condition and seed.
fn scenes(purpose: Purpose, condition: usize, seed: u64) -> Vec<SceneSpec> {
    let a_class = if purpose == Purpose::Train {
        SHOTS
    } else {
        TEST
    };
    let turns = 0..(a_class * CLASSES.len()) as u64;
    turns
        .map(|turn| demo::scene(purpose, condition, seed, turn))
        .collect()
}

fn features(model: &Model, scenes: &[SceneSpec], views: usize, seed: u64) -> Result<FeatureSet> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let load =
        |index: usize| Loaded::Picture(demo::draw(&scenes[index], demo::SIZE), scenes[index].class);
    let extraction = Extraction {
        views,
        seed,
        threads,
    };
    Ok(extract(
        model,
        scenes.len(),
        extraction,
        &load,
        &|_| (),
        &AtomicBool::new(false),
    )?)
}

fn labels(range: std::ops::Range<usize>) -> Result<(Vec<String>, Vec<Label>)> {
    let labels: Vec<Label> = CLASSES[range]
        .iter()
        .map(|name| Label::new(name, None))
        .collect::<Result<_, _>>()?;
    Ok((
        labels.iter().map(|label| label.name.clone()).collect(),
        labels,
    ))
}

fn layout(model: &Model, labels: &[Label]) -> Result<TokenLayout> {
    Ok(model.layout(&Template::default(), labels)?)
}

/// The text features of the context `template + delta`.
fn texts(model: &Model, layout: &TokenLayout, delta: Option<&Delta>) -> Result<Array2<f32>> {
    Ok(text_features(&model.text, layout, delta)?)
}

/// Accuracy on `test` of the context `template + delta`.
fn tested(
    model: &Model,
    layout: &TokenLayout,
    delta: Option<&Delta>,
    test: &FeatureSet,
) -> Result<f32> {
    let (features, labels) = test.plain();
    let texts = texts(model, layout, delta)?;
    Ok(accuracy(features.view(), &labels, texts.view()))
}

fn run(
    model: &Model,
    names: &[String],
    layout: &TokenLayout,
    set: &FeatureSet,
    options: &Options,
) -> Result<Outcome> {
    Ok(adapt(
        &model.text,
        layout,
        names,
        set,
        model.logit_scale,
        options,
        &mut |_| ControlFlow::Continue(()),
    )?)
}

fn held_out() -> impl Iterator<Item = usize> {
    (0..CONDITIONS.len()).filter(|&index| CONDITIONS[index].held_out)
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// A share in percent, for a table.
fn cell(share: f32) -> String {
    format!("{:5.1}", 100.0 * share)
}

fn zero_shot(model: &Model) -> Result<()> {
    let (_, labels) = labels(0..CLASSES.len())?;
    let layout = layout(model, &labels)?;
    println!("| condition | in training | zero-shot top-1 % |\n|---|---|---|");
    for (index, condition) in CONDITIONS.iter().enumerate() {
        let mut found = Vec::new();
        for seed in 0..SEEDS {
            let test = features(model, &scenes(Purpose::Test, index, seed), 1, seed)?;
            found.push(tested(model, &layout, None, &test)?);
        }
        let seen = if condition.held_out { "no" } else { "yes" };
        println!("| {} | {seen} | {} |", condition.name, cell(mean(&found)));
    }
    let clear = [demo::condition_named("clear")?];
    let classes: Vec<usize> = (0..CLASSES.len()).collect();
    let unseen = Choice {
        classes: &classes,
        conditions: &clear,
        reserved: Reserved::Only,
    };
    let mut rng = Rng::with_stream(UNSEEN_SEED, 0);
    let scenes: Vec<SceneSpec> = (0..TEST * CLASSES.len())
        .map(|_| demo::sample(&mut rng, &unseen))
        .collect();
    let found = tested(model, &layout, None, &features(model, &scenes, 1, 0)?)?;
    println!(
        "| clear, colour x class combinations never trained on | no | {} |",
        cell(found)
    );
    Ok(())
}

fn adaptation(model: &Model) -> Result<()> {
    let (names, labels) = labels(0..CLASSES.len())?;
    let layout = layout(model, &labels)?;
    println!(
        "| condition | zero-shot | adapted | gain | logistic probe | gap closed | accepted | worst accepted gain |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let (mut all_zero, mut all_adapted, mut all_probe) = (Vec::new(), Vec::new(), Vec::new());
    for condition in held_out() {
        let (mut zero, mut adapted, mut probe, mut accepted) =
            (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut worst = f32::INFINITY;
        for seed in 0..SEEDS {
            let task = Task::new(model, condition, seed)?;
            let before = tested(model, &layout, None, &task.test)?;
            let outcome = run(
                model,
                &names,
                &layout,
                &task.train,
                &Options {
                    seed,
                    ..Options::of(Method::Rlp)
                },
            )?;
            // A refused prompt leaves the template in use.
            let after = match outcome.accepted {
                true => tested(model, &layout, Some(&outcome.delta), &task.test)?,
                false => before,
            };
            if outcome.accepted {
                accepted += 1;
                worst = worst.min(after - before);
            }
            let (features, truth) = task.train.plain();
            let (test, test_truth) = task.test.plain();
            let fitted = Probe::fit(features.view(), &truth, CLASSES.len(), PENALTY);
            zero.push(before);
            adapted.push(after);
            probe.push(fitted.accuracy(test.view(), &test_truth));
        }
        row(
            CONDITIONS[condition].name,
            &zero,
            &adapted,
            &probe,
            accepted,
            worst,
        );
        all_zero.extend(zero);
        all_adapted.extend(adapted);
        all_probe.extend(probe);
    }
    let worst = all_adapted
        .iter()
        .zip(&all_zero)
        .map(|(after, before)| after - before)
        .fold(f32::INFINITY, f32::min);
    row(
        "mean",
        &all_zero,
        &all_adapted,
        &all_probe,
        all_zero.len(),
        worst,
    );
    Ok(())
}

fn row(name: &str, zero: &[f32], adapted: &[f32], probe: &[f32], accepted: usize, worst: f32) {
    let (zero, adapted, probe) = (mean(zero), mean(adapted), mean(probe));
    println!(
        "| {name} | {} | {} | {:+.1} | {} | {:.0} % | {accepted} | {:+.1} |",
        cell(zero),
        cell(adapted),
        100.0 * (adapted - zero),
        cell(probe),
        100.0 * (adapted - zero) / (probe - zero),
        100.0 * worst,
    );
}

/// Makes a prompt from tokens, labels, training pictures and a seed; none is the plain template.
type Trainer<'a> = dyn Fn(&TokenLayout, &[String], &FeatureSet, u64) -> Result<Option<Delta>> + 'a;

/// Base and new accuracy and their harmonic mean over the held-out conditions and seeds.
struct BaseNew {
    base: Vec<f32>,
    new: Vec<f32>,
}

impl BaseNew {
    fn measure(model: &Model, tasks: &[(u64, Task, Task)], prompt: &Trainer) -> Result<BaseNew> {
        let half = CLASSES.len() / 2;
        let (base_names, base_labels) = labels(0..half)?;
        let (_, new_labels) = labels(half..CLASSES.len())?;
        let (base_layout, new_layout) = (layout(model, &base_labels)?, layout(model, &new_labels)?);
        let mut found = BaseNew {
            base: Vec::new(),
            new: Vec::new(),
        };
        for (seed, base, new) in tasks {
            let delta = prompt(&base_layout, &base_names, &base.train, *seed)?;
            found
                .base
                .push(tested(model, &base_layout, delta.as_ref(), &base.test)?);
            found
                .new
                .push(tested(model, &new_layout, delta.as_ref(), &new.test)?);
        }
        Ok(found)
    }

    fn row(&self, name: &str, parameters: usize) {
        let (base, new) = (mean(&self.base), mean(&self.new));
        let harmonic = 2.0 * base * new / (base + new);
        println!(
            "| {name} | {} | {} | {} | {parameters} |",
            cell(base),
            cell(new),
            cell(harmonic)
        );
    }
}

/// The base and the new half of every held-out condition and seed.
fn halves(model: &Model, seeds: u64) -> Result<Vec<(u64, Task, Task)>> {
    let half = CLASSES.len() / 2;
    let mut tasks = Vec::new();
    for condition in held_out() {
        for seed in 0..seeds {
            let task = Task::new(model, condition, seed)?;
            tasks.push((seed, task.part(0..half), task.part(half..CLASSES.len())));
        }
    }
    Ok(tasks)
}

const BASE_NEW_HEAD: &str =
    "| prompt | base | new | harmonic mean | parameters |\n|---|---|---|---|---|";

fn base_to_new(model: &Model) -> Result<()> {
    let tasks = halves(model, BASE_TO_NEW_SEEDS)?;
    println!("{BASE_NEW_HEAD}");
    BaseNew::measure(model, &tasks, &|_, _, _, _| Ok(None))?.row("zero-shot template", 0);
    for method in [Method::Rlp, Method::Coop] {
        let found = with_options(model, &tasks, Options::of(method))?;
        found.row(method.name(), parameters(model, method, 1)?);
    }
    Ok(())
}

/// Every trained prompt, accepted or not: this compares methods, not verdicts.
fn with_options(model: &Model, tasks: &[(u64, Task, Task)], options: Options) -> Result<BaseNew> {
    BaseNew::measure(model, tasks, &|layout, names, set, seed| {
        Ok(Some(
            run(model, names, layout, set, &Options { seed, ..options })?.delta,
        ))
    })
}

fn parameters(model: &Model, method: Method, rank: usize) -> Result<usize> {
    let (_, labels) = labels(0..2)?;
    let tokens = layout(model, &labels)?.context.len();
    Ok(Delta::init(method, tokens, model.text.width(), rank, 0)?.parameters())
}

fn ablation(model: &Model) -> Result<()> {
    let tasks = halves(model, ABLATION_SEEDS)?;
    println!("{BASE_NEW_HEAD}");
    BaseNew::measure(model, &tasks, &|_, _, _, _| Ok(None))?.row("zero-shot template", 0);
    let default = Options::of(Method::Rlp);
    let variants = [
        ("rlp, rank 1: the default", default),
        ("dropout 0.1", with_recipe(default.recipe.with_dropout(0.1))),
        ("dropout 0.3", with_recipe(default.recipe.with_dropout(0.3))),
        ("dropout 0.5", with_recipe(default.recipe.with_dropout(0.5))),
        (
            "no pull towards the template",
            with_recipe(Recipe {
                anchor: 0.0,
                ..default.recipe
            }),
        ),
        (
            "one start instead of four",
            with_recipe(Recipe {
                starts: 1,
                ..default.recipe
            }),
        ),
        (
            "400 steps",
            with_recipe(Recipe {
                steps: 400,
                ..default.recipe
            }),
        ),
        ("rank 2", Options { rank: 2, ..default }),
        ("rank 4", Options { rank: 4, ..default }),
    ];
    for (name, options) in variants {
        with_options(model, &tasks, options)?
            .row(name, parameters(model, Method::Rlp, options.rank)?);
    }
    let found = with_options(model, &tasks, Options::of(Method::Coop))?;
    found.row("coop (full rank)", parameters(model, Method::Coop, 1)?);
    let pulled = Options {
        recipe: Recipe::of(Method::Rlp),
        ..Options::of(Method::Coop)
    };
    with_options(model, &tasks, pulled)?.row(
        "coop with the same pull",
        parameters(model, Method::Coop, 1)?,
    );
    let found = BaseNew::measure(model, &tasks, &|layout, _, set, seed| {
        Ok(Some(without_template(model, layout, set, seed)?))
    })?;
    found.row(
        "rank 1, started at random instead of at the template",
        parameters(model, Method::Rlp, 1)?,
    );
    Ok(())
}

fn with_recipe(recipe: Recipe) -> Options {
    Options {
        recipe,
        ..Options::of(Method::Rlp)
    }
}

/// Initialisation off: the context is `U V` alone, both factors random, as if there were no template. What comes
/// back is the change that turns the template into that context.
fn without_template(
    model: &Model,
    layout: &TokenLayout,
    set: &FeatureSet,
    seed: u64,
) -> Result<Delta> {
    let template = context_rows(&model.text, layout, None)?;
    let (tokens, width) = template.dim();
    let spread = (template.iter().map(|x| x * x).sum::<f32>() / template.len() as f32).sqrt();
    let mut rng = Rng::with_stream(seed, 0xab1a);
    let factors = Factors {
        u: Array2::from_shape_simple_fn((tokens, 1), || rng.normal()),
        v: Array2::from_shape_simple_fn((1, width), || spread * rng.normal()),
    };
    let (features, labels) = set.all_views(&(0..set.labels.len()).collect::<Vec<_>>());
    let objective = Objective {
        tower: &model.text,
        layout,
        initial: &Array2::zeros((tokens, width)),
        shots: Shots {
            features: features.view(),
            labels: &labels,
        },
        scale: model.logit_scale,
        memory: DEFAULT_MEMORY,
    };
    let recipe = Recipe {
        seed,
        ..Recipe::of(Method::Rlp)
    };
    let trained = train(&objective, &[Delta::LowRank(factors)], &recipe, &mut |_| {
        ControlFlow::Continue(())
    })?;
    Ok(Delta::Full(trained.delta.matrix() - template))
}
