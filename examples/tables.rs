//! Makes the tables of docs/results, from drawn pictures that the default model has never seen:
//!
//!     cargo run --release --example tables -- model         # zero-shot accuracy, a row a condition, 5 seeds
//!     cargo run --release --example tables -- adaptation    # every held-out condition, 16 shots, 5 seeds
//!     cargo run --release --example tables -- base-to-new   # trained on half of the classes, 10 seeds
//!     cargo run --release --example tables -- ablation      # initialisation, dropout, rank, 3 seeds
//!     cargo run --release --example tables -- calibration   # calibration error, unknown pictures, 5 seeds
//!     cargo run --release --example tables -- unlabelled    # nobody there to label, 2 seeds
//!     cargo run --release --example tables -- drift         # pictures that change under a prompt in use
//!     cargo run --release --example tables -- fleet [FOLDER...]    # ten boxes, alone and together, 3 seeds
//!
//! A bundle file after the name of the table measures that model instead of the one compiled in; `unlabelled` takes
//! seeds in its place, as in 100,101, and reports each run on standard error; `fleet` takes folders of photographs, with one
//! sub-folder a label, in place of drawn pictures. Every figure is a mean over seeds, on 50 test pictures a class where they are
//! drawn; features are computed once and kept in memory.

#[path = "tables/calibration.rs"]
mod calibration;
#[path = "tables/drift.rs"]
mod drift;
#[path = "tables/fleet.rs"]
mod fleet;
#[path = "tables/unlabelled.rs"]
mod unlabelled;

use anyhow::{Result, bail};
use edge_rlp::adapt::features::{Extraction, FeatureSet, Monitor, Pictures, extract};
use edge_rlp::adapt::loss::accuracy;
use edge_rlp::adapt::trainer::{Objective, Shots, train};
use edge_rlp::adapt::{
    CommonShift, Comparison, Judging, Options, Outcome, Recipe, Reference, Task, adapt,
};
use edge_rlp::clip::Model;
use edge_rlp::evaluate::Probe;
use edge_rlp::frames::demo::{self, CLASSES, CONDITIONS, Choice, Purpose, Reserved, SceneSpec};
use edge_rlp::prompt::{Delta, Factors, Label, Template, TokenLayout, Tuning};
use edge_rlp::rng::Rng;
use ndarray::Array2;
use std::ops::{ControlFlow, Range};

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
    if std::env::args().nth(1).as_deref() == Some("fleet") {
        let folders: Vec<_> = std::env::args_os().skip(2).map(Into::into).collect();
        return fleet::table(&Model::embedded()?, &folders);
    }
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
            "say which table: model, adaptation, base-to-new, ablation, calibration, unlabelled, drift or fleet"
        ),
    }
}

/// Training and test features of one condition and seed.
struct Drawn {
    train: FeatureSet,
    test: FeatureSet,
}

impl Drawn {
    fn new(model: &Model, condition: usize, seed: u64) -> Result<Drawn> {
        let train = features(model, &scenes(Purpose::Train, condition, seed), VIEWS, seed)?;
        let test = features(model, &scenes(Purpose::Test, condition, seed), 1, seed)?;
        Ok(Drawn { train, test })
    }

    /// The classes in `range` alone, numbered from 0.
    fn part(&self, range: Range<usize>) -> Drawn {
        let keep = |class: usize| range.contains(&class).then(|| class - range.start);
        Drawn {
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
    let extraction = Extraction::new(views, seed);
    let pictures = Pictures {
        count: scenes.len(),
        load: &|index| {
            let scene = &scenes[index];
            Some((demo::draw(scene, demo::SIZE), scene.class))
        },
    };
    Ok(extract(model, pictures, extraction, Monitor::none())?)
}

/// Labels of the demo in the default template, as a model reads them.
struct Classes<'a> {
    model: &'a Model,
    labels: Vec<Label>,
    layout: TokenLayout,
}

impl<'a> Classes<'a> {
    fn new(model: &'a Model, range: Range<usize>) -> Result<Classes<'a>> {
        let labels = CLASSES[range].iter().map(|name| Label::new(name, None));
        Classes::of(model, labels.collect::<Result<_, _>>()?)
    }

    fn all(model: &'a Model) -> Result<Classes<'a>> {
        Classes::new(model, 0..CLASSES.len())
    }

    fn of(model: &'a Model, labels: Vec<Label>) -> Result<Classes<'a>> {
        let layout = model.layout(&Template::default(), &labels)?;
        Ok(Classes {
            model,
            labels,
            layout,
        })
    }

    fn task(&self) -> Task<'_> {
        Task::new(self.model, &self.labels, &self.layout).expect("there are labels enough")
    }

    /// The text features of the context `template + delta`.
    fn texts(&self, delta: Option<&Delta>) -> Result<Array2<f32>> {
        Ok(self.task().text_features(delta)?)
    }

    /// Accuracy on `test` of the context `template + delta`.
    fn accuracy(&self, delta: Option<&Delta>, test: &FeatureSet) -> Result<f32> {
        let (features, truth) = test.plain();
        Ok(accuracy(features.view(), &truth, self.texts(delta)?.view()))
    }

    fn adapt(&self, set: &FeatureSet, options: &Options) -> Result<Outcome<Comparison>> {
        let mut go_on = |_: &_| ControlFlow::Continue(());
        Ok(adapt(&self.task(), set, options, &mut go_on)?)
    }
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
    let classes = Classes::all(model)?;
    println!("| condition | in training | zero-shot top-1 % |\n|---|---|---|");
    for (index, condition) in CONDITIONS.iter().enumerate() {
        let mut found = Vec::new();
        for seed in 0..SEEDS {
            let test = features(model, &scenes(Purpose::Test, index, seed), 1, seed)?;
            found.push(classes.accuracy(None, &test)?);
        }
        let seen = if condition.held_out { "no" } else { "yes" };
        println!("| {} | {seen} | {} |", condition.name, cell(mean(&found)));
    }
    let clear = [demo::condition_named("clear")?];
    let every_class: Vec<usize> = (0..CLASSES.len()).collect();
    let unseen = Choice {
        classes: &every_class,
        conditions: &clear,
        reserved: Reserved::Only,
    };
    let mut rng = Rng::with_stream(UNSEEN_SEED, 0);
    let scenes: Vec<SceneSpec> = (0..TEST * CLASSES.len())
        .map(|_| demo::sample(&mut rng, &unseen))
        .collect();
    let found = classes.accuracy(None, &features(model, &scenes, 1, 0)?)?;
    println!(
        "| clear, colour x class combinations never trained on | no | {} |",
        cell(found)
    );
    Ok(())
}

/// What one condition gives, a number a seed.
#[derive(Default)]
struct Reading {
    zero_shot: Vec<f32>,
    adapted: Vec<f32>,
    probe: Vec<f32>,
    /// Gains of the prompts that were accepted.
    accepted: Vec<f32>,
}

impl Reading {
    fn add(&mut self, classes: &Classes, drawn: &Drawn, seed: u64) -> Result<()> {
        let before = classes.accuracy(None, &drawn.test)?;
        let options = Options::of(Tuning::Rlp).with_seed(seed);
        let outcome = classes.adapt(&drawn.train, &options)?;
        // A refused prompt leaves the template in use.
        let mut after = before;
        if outcome.accepted() {
            after = classes.accuracy(Some(&outcome.delta), &drawn.test)?;
            self.accepted.push(after - before);
        }
        let (features, truth) = drawn.train.plain();
        let (test, test_truth) = drawn.test.plain();
        let fitted = Probe::fit(features.view(), &truth, CLASSES.len(), PENALTY);
        self.zero_shot.push(before);
        self.adapted.push(after);
        self.probe.push(fitted.accuracy(test.view(), &test_truth));
        Ok(())
    }

    fn row(&self, name: &str) {
        let [zero, adapted, probe] =
            [&self.zero_shot, &self.adapted, &self.probe].map(|of| mean(of));
        println!(
            "| {name} | {} | {} | {:+.1} | {} | {:.0} % | {} | {:+.1} |",
            cell(zero),
            cell(adapted),
            100.0 * (adapted - zero),
            cell(probe),
            100.0 * (adapted - zero) / (probe - zero),
            self.accepted.len(),
            100.0 * self.accepted.iter().copied().fold(f32::INFINITY, f32::min),
        );
    }
}

fn adaptation(model: &Model) -> Result<()> {
    let classes = Classes::all(model)?;
    println!(
        "| condition | zero-shot | adapted | gain | logistic probe | gap closed | accepted | worst accepted gain |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut all = Reading::default();
    for condition in held_out() {
        let mut reading = Reading::default();
        for seed in 0..SEEDS {
            let drawn = Drawn::new(model, condition, seed)?;
            reading.add(&classes, &drawn, seed)?;
        }
        reading.row(CONDITIONS[condition].name);
        all.zero_shot.extend(reading.zero_shot);
        all.adapted.extend(reading.adapted);
        all.probe.extend(reading.probe);
        all.accepted.extend(reading.accepted);
    }
    all.row("mean");
    Ok(())
}

/// Makes a prompt from classes, training pictures and a seed; none is the plain template.
type Trainer<'a> = dyn Fn(&Classes, &FeatureSet, u64) -> Result<Option<Delta>> + 'a;

/// Base and new accuracy and their harmonic mean over the held-out conditions and seeds.
struct BaseNew {
    base: Vec<f32>,
    new: Vec<f32>,
}

impl BaseNew {
    fn measure(model: &Model, halves: &[Halves], prompt: &Trainer) -> Result<BaseNew> {
        let half = CLASSES.len() / 2;
        let base = Classes::new(model, 0..half)?;
        let new = Classes::new(model, half..CLASSES.len())?;
        let mut found = BaseNew {
            base: Vec::new(),
            new: Vec::new(),
        };
        for drawn in halves {
            let delta = prompt(&base, &drawn.base.train, drawn.seed)?;
            let delta = delta.as_ref();
            found.base.push(base.accuracy(delta, &drawn.base.test)?);
            found.new.push(new.accuracy(delta, &drawn.new.test)?);
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

/// The base and the new half of the classes, under one condition and seed.
struct Halves {
    seed: u64,
    base: Drawn,
    new: Drawn,
}

/// Those of every held-out condition and `seeds` seeds.
fn halves(model: &Model, seeds: u64) -> Result<Vec<Halves>> {
    let half = CLASSES.len() / 2;
    let mut halves = Vec::new();
    for condition in held_out() {
        for seed in 0..seeds {
            let drawn = Drawn::new(model, condition, seed)?;
            halves.push(Halves {
                seed,
                base: drawn.part(0..half),
                new: drawn.part(half..CLASSES.len()),
            });
        }
    }
    Ok(halves)
}

const BASE_NEW_HEAD: &str =
    "| prompt | base | new | harmonic mean | parameters |\n|---|---|---|---|---|";

fn base_to_new(model: &Model) -> Result<()> {
    let halves = halves(model, BASE_TO_NEW_SEEDS)?;
    println!("{BASE_NEW_HEAD}");
    BaseNew::measure(model, &halves, &|_, _, _| Ok(None))?.row("zero-shot template", 0);
    for tuning in [Tuning::Rlp, Tuning::Coop] {
        let options = Options::of(tuning);
        let found = with_options(model, &halves, options)?;
        found.row(tuning.name(), parameters(model, &options)?);
    }
    Ok(())
}

/// Every trained prompt, accepted or not: this compares methods, not verdicts.
fn with_options(model: &Model, halves: &[Halves], options: Options) -> Result<BaseNew> {
    let options = options.with_judging(Judging::HeldOut { share: 0.0 });
    BaseNew::measure(model, halves, &|classes, set, seed| {
        let outcome = classes.adapt(set, &options.with_seed(seed))?;
        Ok(Some(outcome.delta))
    })
}

fn parameters(model: &Model, options: &Options) -> Result<usize> {
    let tokens = Classes::new(model, 0..2)?.layout.context.len();
    let (width, rank) = (model.text.width(), options.rank_for(tokens));
    Ok(Delta::init(options.tuning, tokens, width, rank, 0)?.parameters())
}

fn ablation(model: &Model) -> Result<()> {
    let halves = halves(model, ABLATION_SEEDS)?;
    println!("{BASE_NEW_HEAD}");
    BaseNew::measure(model, &halves, &|_, _, _| Ok(None))?.row("zero-shot template", 0);
    let default = Options::of(Tuning::Rlp);
    let changed = |change: fn(&mut Options)| {
        let mut options = default;
        change(&mut options);
        options
    };
    let dropped = |rate| default.with_recipe(default.recipe.with_dropout(rate));
    let variants = [
        ("rlp, rank 4: the default", default),
        ("dropout 0.1", dropped(0.1)),
        ("dropout 0.3", dropped(0.3)),
        (
            "no pull towards the template",
            changed(|options| options.recipe.anchor = 0.0),
        ),
        (
            "pull towards sixteen sentences",
            changed(|options| options.recipe.reference = Reference::Sentences),
        ),
        (
            "the common shift free of the pull",
            changed(|options| options.recipe.common_shift = CommonShift::Free),
        ),
        (
            "density term, weight 1",
            changed(|options| options.recipe.density.gain = 1.0),
        ),
        (
            "singular values by place, weight 1",
            changed(|options| options.recipe.density.tail = 1.0),
        ),
        ("rank 1", changed(|options| options.rank = Some(1))),
        ("rank 2", changed(|options| options.rank = Some(2))),
        (
            "rank 1, full-rank path of 40 steps",
            changed(|options| {
                options.rank = Some(1);
                options.recipe.density.full_rank_steps = 40;
            }),
        ),
    ];
    for (name, options) in variants {
        with_options(model, &halves, options)?.row(name, parameters(model, &options)?);
    }
    let found = with_options(model, &halves, Options::of(Tuning::Coop))?;
    let coop = parameters(model, &Options::of(Tuning::Coop))?;
    found.row("coop (full rank)", coop);
    let pulled = Options::of(Tuning::Coop).with_recipe(Recipe::of(Tuning::Rlp));
    with_options(model, &halves, pulled)?.row("coop with the same pull", coop);
    let found = BaseNew::measure(model, &halves, &|classes, set, seed| {
        Ok(Some(without_template(classes, set, seed)?))
    })?;
    found.row(
        "rank 1, started at random instead of at the template",
        parameters(model, &changed(|options| options.rank = Some(1)))?,
    );
    Ok(())
}

/// Initialisation off: the context is `U V` alone, both factors random, as if there were no template. What comes
/// back is the change that turns the template into that context.
fn without_template(classes: &Classes, set: &FeatureSet, seed: u64) -> Result<Delta> {
    let template = classes.task().context(None)?;
    let (tokens, width) = template.dim();
    let spread = (template.iter().map(|x| x * x).sum::<f32>() / template.len() as f32).sqrt();
    let mut rng = Rng::with_stream(seed, 0xab1a);
    let factors = Factors {
        u: Array2::from_shape_simple_fn((tokens, 1), || rng.normal()),
        v: Array2::from_shape_simple_fn((1, width), || spread * rng.normal()),
    };
    let (features, labels) = set.every_view();
    let objective = Objective {
        task: classes.task(),
        initial: &Array2::zeros((tokens, width)),
        shots: Shots {
            features: features.view(),
            labels: &labels,
        },
    };
    let options = Options::of(Tuning::Rlp).with_seed(seed);
    let start = [Delta::LowRank(factors)];
    let reached = train(&objective, &start, &options, &mut |_| {
        ControlFlow::Continue(())
    })?;
    Ok(Delta::Full(reached.delta.matrix() - template))
}
