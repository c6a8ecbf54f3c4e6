//! Makes the tables of docs/results, from drawn pictures that the default model has never seen:
//!
//!     cargo run --release --example tables -- model         # zero-shot accuracy, a row a condition, 5 seeds
//!     cargo run --release --example tables -- adaptation    # every held-out condition, 16 shots, 5 seeds
//!     cargo run --release --example tables -- base-to-new [FOLDER...] # trained on half of the classes, 10 seeds
//!     cargo run --release --example tables -- ablation [FOLDER...]    # each part of DIP on and off, 10 seeds
//!     cargo run --release --example tables -- calibration   # calibration error, unknown pictures, 5 seeds
//!     cargo run --release --example tables -- unlabelled    # nobody there to label, 2 seeds
//!     cargo run --release --example tables -- drift         # pictures that change under a prompt in use
//!     cargo run --release --example tables -- fleet [FOLDER...]    # ten boxes, alone and together, 3 seeds
//!
//! `model`, `adaptation` and `calibration` take a bundle file, which is measured instead of the one compiled in; `unlabelled` takes
//! seeds, as in 100,101, then `held-out` for the conditions that the model was not trained on alone, and reports
//! each run on standard error; folders of photographs, with one sub-folder a
//! label, are measured in place of drawn pictures by `fleet`, `base-to-new` and `ablation`. Every figure is a mean over seeds, on 50
//! test pictures a class where they are drawn, of the latter two on 25; features are computed once and kept in memory.

#[path = "tables/ablation.rs"]
mod ablation;
#[path = "tables/base_to_new.rs"]
mod base_to_new;
#[path = "tables/calibration.rs"]
mod calibration;
#[path = "tables/drift.rs"]
mod drift;
#[path = "tables/fleet.rs"]
mod fleet;
#[path = "tables/unlabelled.rs"]
mod unlabelled;

use anyhow::{Context as _, Result, bail};
use edge_rlp::adapt::features::{Extraction, FeatureSet, Monitor, Pictures, extract};
use edge_rlp::adapt::loss::{accuracy, share_right};
use edge_rlp::adapt::unlabelled::{InUse, Mounted};
use edge_rlp::adapt::{Comparison, Options, Outcome, Task, adapt};
use edge_rlp::classifier::Scorer;
use edge_rlp::clip::Model;
use edge_rlp::evaluate::Probe;
use edge_rlp::frames::demo::{self, CLASSES, CONDITIONS, Choice, Purpose, Reserved, SceneSpec};
use edge_rlp::frames::{MAX_PIXELS, labelled_folder};
use edge_rlp::image::RgbImage;
use edge_rlp::prompt::{Delta, Label, Template, TokenLayout, Tuning};
use edge_rlp::rng::Rng;
use ndarray::{Array2, ArrayView2, Axis};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

const SEEDS: u64 = 5;
const SHOTS: usize = 16;
const TEST: usize = 50;
const VIEWS: usize = 4;
/// The scenes of combinations that training never drew; training uses seeds below 1,000,000.
const UNSEEN_SEED: u64 = 2_000_000;
/// Weight decay of the logistic probe: the best of 1e-5, 1e-4, 3e-4, 1e-3 and 1e-2 on other pictures (seed 100) of the
/// held-out conditions.
const PENALTY: f32 = 1e-4;

fn main() -> Result<()> {
    let folders: Vec<PathBuf> = std::env::args_os().skip(2).map(Into::into).collect();
    match std::env::args().nth(1).as_deref() {
        Some("fleet") => return fleet::table(&Model::embedded()?, &folders),
        Some("base-to-new") => return base_to_new::table(&Model::embedded()?, &folders),
        Some("ablation") => return ablation::table(&Model::embedded()?, &folders),
        _ => {}
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
        let held_out = std::env::args().nth(3).as_deref() == Some("held-out");
        return unlabelled::table(&Model::embedded()?, &seeds, held_out);
    }
    let model = match std::env::args().nth(2) {
        Some(bundle) => Model::open(bundle.as_ref())?,
        None => Model::embedded()?,
    };
    match std::env::args().nth(1).as_deref() {
        Some("model") => zero_shot(&model),
        Some("adaptation") => adaptation(&model),
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

/// What the model says of `scenes` put right, `[pictures, classes]`, where it is far surer of them then; `seen` are their features
/// as they are.
fn put_right(
    classes: &Classes,
    scenes: &[SceneSpec],
    seen: &FeatureSet,
) -> Result<Option<Array2<f32>>> {
    let mut mounted = Mounted::new(classes.task(), InUse::default())?;
    let features = seen.features.index_axis(Axis(1), 0);
    for (scene, feature) in scenes.iter().zip(features.outer_iter()) {
        mounted.add(&demo::draw(scene, demo::SIZE), feature)?;
    }
    Ok(mounted.surest().map(|(_, vote)| vote))
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

    /// Accuracy on `test` of a prompt that was made without labels, or of the plain template.
    fn accuracy_in_use(&self, in_use: InUse, test: &FeatureSet) -> Result<f32> {
        let (features, truth) = test.plain();
        let scores = in_use.scorer(&self.task())?.scores(features.view());
        Ok(share_right(scores.view(), &truth))
    }

    fn adapt(&self, set: &FeatureSet, options: &Options) -> Result<Outcome<Comparison>> {
        let mut go_on = |_: &_| ControlFlow::Continue(());
        Ok(adapt(&self.task(), set, options, &mut go_on)?)
    }
}

fn held_out() -> impl Iterator<Item = usize> {
    (0..CONDITIONS.len()).filter(|&index| CONDITIONS[index].held_out)
}

/// How near each of `features [pictures, joint]` is to what is known, by the scorer and its `texts [classes, joint]`.
fn similarities(scorer: &Scorer, texts: ArrayView2<f32>, features: ArrayView2<f32>) -> Vec<f32> {
    let scores = scorer.scores(features);
    let rows = features.outer_iter().zip(scores.outer_iter());
    rows.map(|(feature, scores)| scorer.similarity(texts, feature, scores))
        .collect()
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

/// Photographs, each with the place of its label among `names`.
struct Photographs {
    names: Vec<String>,
    pictures: Vec<(RgbImage, usize)>,
}

/// Those in `folder`, labelled by the folders that they lie in.
fn photographs(folder: &Path) -> Result<Photographs> {
    let no_labels: [&str; 0] = [];
    let folders = labelled_folder(folder, &no_labels)?.unused;
    let name = |of: &PathBuf| of.file_name().unwrap_or_default().to_string_lossy().into();
    let names: Vec<String> = folders.iter().map(name).collect();
    let mut pictures = Vec::new();
    for (label, path, picture) in labelled_folder(folder, &names)?.pictures(MAX_PIXELS) {
        let picture = picture.with_context(|| path.display().to_string())?;
        pictures.push((picture, label));
    }
    Ok(Photographs { names, pictures })
}
