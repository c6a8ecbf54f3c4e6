//! What `adapt --unlabelled --watch` goes by and what it brings: how far pictures are from those that a prompt was trained
//! on, with and without a change of condition, and how right the prompt is before and after it follows a change.

use super::{TEST, VIEWS, cell, demo, features, labels, layout, mean, texts};
use anyhow::Result;
use edge_rlp::adapt::drift::{DRIFTED, Drift, Statistics, WINDOW};
use edge_rlp::adapt::features::FeatureSet;
use edge_rlp::adapt::loss::accuracy;
use edge_rlp::adapt::{AdaptError, Options, unlabelled};
use edge_rlp::clip::Model;
use edge_rlp::frames::demo::{CLASSES, CONDITIONS, Purpose};
use edge_rlp::prompt::{Delta, Method, TokenLayout};
use ndarray::{Array1, Array2, Axis};
use std::ops::ControlFlow;

/// Pictures of each label that a prompt is trained on, as the command collects at least.
const POOL: usize = 20;
/// Pictures of each label that come afterwards.
const LATER: usize = 20;
/// Conditions between which the second table changes.
const CHANGING: [&str; 5] = ["clear", "infrared", "upside-down", "squeezed", "peephole"];

pub fn table(model: &Model) -> Result<()> {
    distances(model)?;
    following(model)
}

fn drawn(
    model: &Model,
    condition: usize,
    seed: u64,
    a_class: usize,
    views: usize,
) -> Result<FeatureSet> {
    let turns = 0..(a_class * CLASSES.len()) as u64;
    let scenes: Vec<_> = turns
        .map(|turn| demo::scene(Purpose::Live, condition, seed, turn))
        .collect();
    features(model, &scenes, views, seed)
}

/// The distance after each picture of `later` from those that were trained on.
fn course(trained_on: &FeatureSet, later: impl Iterator<Item = Array1<f32>>) -> Vec<f32> {
    let statistics = Statistics::of(trained_on.plain().0.view()).expect("there are pictures");
    let mut drift = Drift::from(statistics);
    later
        .filter_map(|feature| {
            drift.add(feature);
            drift.distance()
        })
        .collect()
}

fn rows(set: &FeatureSet) -> impl Iterator<Item = Array1<f32>> {
    let plain = set.plain().0;
    (0..plain.nrows()).map(move |row| plain.index_axis(Axis(0), row).to_owned())
}

fn distances(model: &Model) -> Result<()> {
    let sets = |seed, a_class| -> Result<Vec<FeatureSet>> {
        (0..CONDITIONS.len())
            .map(|condition| drawn(model, condition, seed, a_class, 1))
            .collect()
    };
    let (pools, later) = (sets(0, POOL)?, sets(1, LATER)?);
    println!(
        "| condition | unchanged: mean, most | half of the labels: mean, most | other conditions: least | noticed | pictures until then, median |"
    );
    println!("|---|---|---|---|---|---|");
    let most = |values: &[f32]| values.iter().copied().fold(0.0, f32::max);
    let half = CLASSES.len() / 2;
    for (condition, described) in CONDITIONS.iter().enumerate() {
        let pool = &pools[condition];
        let same = course(pool, rows(&later[condition]));
        let fewer = later[condition].filter_classes(|class| (class < half).then_some(class));
        let fewer = course(pool, rows(&fewer));
        let mut ends = Vec::new();
        let mut waits = Vec::new();
        for other in (0..CONDITIONS.len()).filter(|&other| other != condition) {
            // A window of pictures as before, and then others.
            let before = rows(&later[condition]).take(WINDOW);
            let course = course(pool, before.chain(rows(&later[other])));
            ends.push(course[WINDOW]);
            waits.extend(course.iter().position(|&far| far > DRIFTED));
        }
        waits.sort_unstable();
        println!(
            "| {} | {:.1}, {:.1} | {:.1}, {:.1} | {:.1} | {} of {} | {} |",
            described.name,
            mean(&same),
            most(&same),
            mean(&fewer),
            most(&fewer),
            ends.iter().copied().fold(f32::INFINITY, f32::min),
            waits.len(),
            ends.len(),
            waits
                .get(waits.len() / 2)
                .map_or("-".into(), usize::to_string),
        );
    }
    Ok(())
}

/// What the prompts of one seed come to under a condition.
struct Learner<'a> {
    model: &'a Model,
    layout: TokenLayout,
    names: Vec<String>,
    seed: u64,
}

impl Learner<'_> {
    fn accuracy(&self, test: &FeatureSet, delta: Option<&Delta>) -> Result<f32> {
        let (pictures, truth) = test.plain();
        let texts: Array2<f32> = texts(self.model, &self.layout, delta)?;
        Ok(accuracy(pictures.view(), &truth, texts.view()))
    }

    /// The prompt that is in use after adapting to `pool` with `current` in use, and whether it is a new one.
    fn follow(&self, pool: &FeatureSet, current: Option<&Delta>) -> Result<(Option<Delta>, bool)> {
        let options = unlabelled::Options {
            training: Options {
                seed: self.seed,
                ..Options::of(Method::Rlp)
            },
            shots: 16,
            rounds: 2,
        };
        let outcome = unlabelled::adapt(
            &self.model.text,
            &self.layout,
            &self.names,
            pool.features.view(),
            self.model.logit_scale,
            current,
            &options,
            &mut |_| ControlFlow::Continue(()),
        );
        match outcome {
            Ok(outcome) if outcome.verdict.refusal.is_none() => Ok((Some(outcome.delta), true)),
            Ok(_) | Err(AdaptError::TooFewSure { .. }) => Ok((current.cloned(), false)),
            Err(error) => Err(error.into()),
        }
    }
}

fn following(model: &Model) -> Result<()> {
    let conditions = CHANGING.map(|name| {
        let found = CONDITIONS
            .iter()
            .position(|condition| condition.name == name);
        found.expect("a condition of the demo")
    });
    println!("\n| from | to | zero-shot | prompt in use | after following | a new prompt |");
    println!("|---|---|---|---|---|---|");
    let (names, labels) = labels(0..CLASSES.len())?;
    let mut all = Vec::new();
    for &from in &conditions {
        for &to in conditions.iter().filter(|&&to| to != from) {
            let mut here = Vec::new();
            for seed in [0, 1] {
                let learner = Learner {
                    model,
                    layout: layout(model, &labels)?,
                    names: names.clone(),
                    seed,
                };
                let (first, _) = learner.follow(&drawn(model, from, seed, POOL, VIEWS)?, None)?;
                let test: Vec<_> = (0..(TEST * CLASSES.len()) as u64)
                    .map(|turn| demo::scene(Purpose::Test, to, seed, turn))
                    .collect();
                let test = features(model, &test, 1, seed)?;
                let pool = drawn(model, to, seed + 10, POOL, VIEWS)?;
                let (second, new) = learner.follow(&pool, first.as_ref())?;
                let reading = [
                    learner.accuracy(&test, None)?,
                    learner.accuracy(&test, first.as_ref())?,
                    learner.accuracy(&test, second.as_ref())?,
                    f32::from(new),
                ];
                eprintln!(
                    "{} to {}: {reading:?}",
                    CONDITIONS[from].name, CONDITIONS[to].name
                );
                here.push(reading);
            }
            row(CONDITIONS[from].name, CONDITIONS[to].name, &here);
            all.extend(here);
        }
    }
    row("mean", "", &all);
    Ok(())
}

fn row(from: &str, to: &str, readings: &[[f32; 4]]) {
    let column = |index: usize| {
        readings
            .iter()
            .map(|reading| reading[index])
            .collect::<Vec<_>>()
    };
    println!(
        "| {from} | {to} | {} | {} | {} | {} of {} |",
        cell(mean(&column(0))),
        cell(mean(&column(1))),
        cell(mean(&column(2))),
        column(3).iter().sum::<f32>(),
        readings.len(),
    );
}
