//! CoOp's own recipe beside what `adapt` does, on the same pictures: a full context by SGD with momentum 0.9 and weight
//! decay 5e-4, batches of 32, 200 epochs, one of them at a rate of 1e-5 and then from 0.002 down a cosine (arXiv
//! 2109.01134, and its published configuration). Each epoch sees one of 16 augmented views of each picture, encoded
//! beforehand, where CoOp encodes a new one. The loss is the mean cross-entropy of the plain training pictures.
//!
//!     cargo run --release --example coop_recipe [-- SEEDS]
//!
//! prints one JSON object: for each method the means over seeds and the held-out conditions of the default model.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::Result;
use edge_rlp::adapt::features::{Extraction, FeatureSet, Monitor, Pictures, extract};
use edge_rlp::adapt::loss::cross_entropy;
use edge_rlp::adapt::{Judging, Options, Task, adapt};
use edge_rlp::clip::Model;
use edge_rlp::clip::text_tower::DEFAULT_MEMORY;
use edge_rlp::frames::demo::{self, CLASSES, CONDITIONS, Purpose};
use edge_rlp::prompt::{Label, Template, TokenLayout, Tuning};
use edge_rlp::rng::Rng;
use ndarray::{Array2, ArrayView2, Axis};
use serde_json::json;

const SHOTS: usize = 16;
const TEST: usize = 50;
/// Of each picture: those that `adapt` trains on, and those that CoOp's epochs draw from.
const VIEWS: usize = 4;
const COOP_VIEWS: usize = 16;
const EPOCHS: usize = 200;
const BATCH: usize = 32;

fn main() -> Result<()> {
    let seeds = std::env::args()
        .nth(1)
        .map_or(Ok(1), |seeds| seeds.parse())?;
    let model = Model::embedded()?;
    let every_class = Classes::new(&model)?;
    let held_out: Vec<usize> = (0..CONDITIONS.len())
        .filter(|&condition| CONDITIONS[condition].held_out)
        .collect();
    let mut sums = [[0.0; 4]; 3];
    for (&condition, seed) in held_out
        .iter()
        .flat_map(|condition| (0..seeds).map(move |seed| (condition, seed)))
    {
        let train = features(&model, Purpose::Train, condition, seed, COOP_VIEWS)?;
        let test = features(&model, Purpose::Test, condition, seed, 1)?;
        let contexts = [
            (every_class.task()?.context(None)?, 0, 0.0),
            every_class.coop(&train, seed)?,
            every_class.ours(&train, seed)?,
        ];
        for (sums, (context, steps, seconds)) in sums.iter_mut().zip(contexts) {
            let (loss, _) = every_class.judged(context.view(), &train)?;
            let (_, accuracy) = every_class.judged(context.view(), &test)?;
            let row = [f64::from(loss), f64::from(accuracy), steps as f64, seconds];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
    }
    let runs = held_out.len() as f64 * seeds as f64;
    let rows = ["zero-shot", "CoOp's recipe", "adapt"].iter().zip(&sums).map(|(name, sums)| {
        let [loss, accuracy, steps, seconds] = sums.map(|sum| sum / runs);
        json!({"method": name, "loss": loss, "accuracy": accuracy, "steps": steps, "seconds": seconds})
    });
    println!(
        "{}",
        json!({"runs": runs, "methods": rows.collect::<Vec<_>>()})
    );
    Ok(())
}

/// All classes of the demo on one model.
struct Classes<'a> {
    model: &'a Model,
    labels: Vec<Label>,
    layout: TokenLayout,
}

impl<'a> Classes<'a> {
    fn new(model: &'a Model) -> Result<Classes<'a>> {
        let labels = CLASSES.iter().map(|name| Label::new(name, None));
        let labels: Vec<Label> = labels.collect::<Result<_, _>>()?;
        let layout = model.layout(&Template::default(), &labels)?;
        Ok(Classes {
            model,
            labels,
            layout,
        })
    }

    fn task(&self) -> Result<Task<'_>> {
        Ok(Task::new(self.model, &self.labels, &self.layout)?)
    }

    /// Loss and accuracy on the plain pictures.
    fn judged(&self, context: ArrayView2<f32>, set: &FeatureSet) -> Result<(f32, f32)> {
        let texts = self
            .model
            .text
            .class_features(context, &self.layout.suffixes)?;
        let (features, labels) = set.plain();
        let scale = self.model.logit_scale;
        let report = cross_entropy(features.view(), &labels, texts.view(), scale);
        Ok((report.loss, report.accuracy))
    }

    /// The context, the number of steps, and seconds of training.
    fn coop(&self, train: &FeatureSet, seed: u64) -> Result<(Array2<f32>, usize, f64)> {
        let start = Instant::now();
        let mut rng = Rng::new(seed);
        let mut context = self.task()?.context(None)?;
        let mut velocity = Array2::<f32>::zeros(context.dim());
        let mut order: Vec<usize> = (0..train.labels.len()).collect();
        let mut steps = 0;
        for epoch in 0..EPOCHS {
            let rate = match epoch {
                0 => 1e-5,
                _ => {
                    let turn = std::f32::consts::PI * epoch as f32 / EPOCHS as f32;
                    0.002 * 0.5 * (1.0 + turn.cos())
                }
            };
            rng.shuffle(&mut order);
            // As CoOp's loader, which drops what does not fill a batch.
            for batch in order.chunks_exact(BATCH) {
                let mut images = Array2::zeros((batch.len(), train.features.len_of(Axis(2))));
                for (mut row, &picture) in images.outer_iter_mut().zip(batch) {
                    let view = rng.below(COOP_VIEWS);
                    row.assign(&train.features.index_axis(Axis(0), picture).row(view));
                }
                let labels: Vec<usize> =
                    batch.iter().map(|&picture| train.labels[picture]).collect();
                let text = &self.model.text;
                let (texts, tape) =
                    text.forward(context.view(), &self.layout.suffixes, DEFAULT_MEMORY)?;
                let scale = self.model.logit_scale;
                let loss = cross_entropy(images.view(), &labels, texts.view(), scale);
                let gradient = text.backward(&tape, loss.text_gradient.view());
                velocity = velocity * 0.9 + &gradient + &(&context * 5e-4);
                context -= &(&velocity * rate);
                steps += 1;
            }
        }
        Ok((context, steps, start.elapsed().as_secs_f64()))
    }

    /// What `adapt` trains, with nothing held out.
    fn ours(&self, train: &FeatureSet, seed: u64) -> Result<(Array2<f32>, usize, f64)> {
        let views = train.features.slice_axis(Axis(1), (..VIEWS).into());
        let set = FeatureSet {
            features: views.to_owned(),
            labels: train.labels.clone(),
        };
        let options = Options::of(Tuning::Rlp)
            .with_seed(seed)
            .with_judging(Judging::HeldOut { share: 0.0 });
        let start = Instant::now();
        let task = self.task()?;
        let outcome = adapt(&task, &set, &options, &mut |_| ControlFlow::Continue(()))?;
        let seconds = start.elapsed().as_secs_f64();
        let context = task.context(Some(&outcome.delta))?;
        Ok((context, outcome.history.len(), seconds))
    }
}

fn features(
    model: &Model,
    purpose: Purpose,
    condition: usize,
    seed: u64,
    views: usize,
) -> Result<FeatureSet> {
    let a_class = if purpose == Purpose::Train {
        SHOTS
    } else {
        TEST
    };
    let scenes: Vec<_> = (0..(a_class * CLASSES.len()) as u64)
        .map(|turn| demo::scene(purpose, condition, seed, turn))
        .collect();
    let pictures = Pictures {
        count: scenes.len(),
        load: &|index| {
            let scene = &scenes[index];
            Some((demo::draw(scene, demo::SIZE), scene.class))
        },
    };
    let mut extraction = Extraction::new(views, seed);
    extraction.threads = 1;
    Ok(extract(model, pictures, extraction, Monitor::none())?)
}
