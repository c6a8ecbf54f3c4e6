//! What `adapt --unlabelled --watch` goes by and what it brings: how far pictures are from those that a prompt was trained
//! on, with and without a change of condition, and how right the prompt is before and after it follows a change.

use super::{Classes, SceneSpec, TEST, VIEWS, cell, demo, features, mean, put_right};
use anyhow::Result;
use edge_rlp::adapt::drift::{DRIFTED, Drift, WINDOW, statistics};
use edge_rlp::adapt::features::FeatureSet;
use edge_rlp::adapt::unlabelled::{self, Consistency, InUse, SelfTraining, Unlabelled};
use edge_rlp::adapt::{AdaptError, Options, Outcome};
use edge_rlp::clip::Model;
use edge_rlp::frames::demo::{CLASSES, CONDITIONS, Purpose};
use edge_rlp::prompt::Tuning;
use ndarray::{Array1, Axis};
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
    features(model, &scenes(condition, seed, a_class), views, seed)
}

fn scenes(condition: usize, seed: u64, a_class: usize) -> Vec<SceneSpec> {
    let turns = 0..(a_class * CLASSES.len()) as u64;
    let scene = |turn| demo::scene(Purpose::Live, condition, seed, turn);
    turns.map(scene).collect()
}

/// The distance after each picture of `later` from those that were trained on.
fn course(trained_on: &FeatureSet, later: impl Iterator<Item = Array1<f32>>) -> Vec<f32> {
    let statistics = statistics(trained_on.plain().0.view()).expect("there are pictures");
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

/// A prompt that was made without labels.
type Learnt = Outcome<Consistency>;

fn in_use(learnt: Option<&Learnt>) -> InUse<'_> {
    learnt.map(InUse::from).unwrap_or_default()
}

/// A new prompt from pictures of `condition` that follow from `pool`, with `current` in use; none where that stays.
fn follow(
    classes: &Classes,
    (condition, pool): (usize, u64),
    current: Option<&Learnt>,
    seed: u64,
) -> Result<Option<Learnt>> {
    let scenes = scenes(condition, pool, POOL);
    let pool = features(classes.model, &scenes, VIEWS, pool)?;
    let options = SelfTraining::new(Options::of(Tuning::Rlp).with_seed(seed), 16, 2);
    let mut go_on = |_: &_| ControlFlow::Continue(());
    let current = in_use(current);
    // The pictures have changed: the prompt in use does not know them.
    let put_right = put_right(classes, &scenes, &pool)?;
    let pictures = Unlabelled {
        features: pool.features.view(),
        put_right: put_right.as_ref().map(|vote| vote.view()),
    };
    match unlabelled::adapt(&classes.task(), pictures, current, &options, &mut go_on) {
        Ok(outcome) => Ok(outcome.accepted().then_some(outcome)),
        Err(AdaptError::TooFewSure { .. }) => Ok(None),
        Err(error) => Err(error.into()),
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
    let classes = Classes::all(model)?;
    let mut all = Vec::new();
    for &from in &conditions {
        for &to in conditions.iter().filter(|&&to| to != from) {
            let mut here = Vec::new();
            for seed in [0, 1] {
                let first = follow(&classes, (from, seed), None, seed)?;
                let test: Vec<_> = (0..(TEST * CLASSES.len()) as u64)
                    .map(|turn| demo::scene(Purpose::Test, to, seed, turn))
                    .collect();
                let test = features(model, &test, 1, seed)?;
                let second = follow(&classes, (to, seed + 10), first.as_ref(), seed)?;
                let (first, second) = (first.as_ref(), second.as_ref());
                let reading = [
                    classes.accuracy(None, &test)?,
                    classes.accuracy_in_use(in_use(first), &test)?,
                    classes.accuracy_in_use(in_use(second.or(first)), &test)?,
                    f32::from(second.is_some()),
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
