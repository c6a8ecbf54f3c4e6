//! What `adapt --unlabelled` brings: every condition, on a stream in which all labels occur alike and on one in which
//! only half of them do. True labels are used for judging alone.

use super::{Classes, SceneSpec, TEST, VIEWS, cell, demo, features, mean};
use anyhow::Result;
use edge_rlp::adapt::features::FeatureSet;
use edge_rlp::adapt::unlabelled::{self, InUse, SelfTraining};
use edge_rlp::adapt::{AdaptError, Options};
use edge_rlp::clip::Model;
use edge_rlp::frames::demo::{CLASSES, CONDITIONS, Purpose};
use edge_rlp::prompt::Tuning;
use std::ops::ControlFlow;

/// Pictures of each label in the stream, of 40 that the command collects at most.
const STREAM: usize = 24;
const SHOTS: usize = 16;
const ROUNDS: usize = 2;

/// Accuracy under the template and under the prompt, and whether that was accepted.
struct Reading {
    before: f32,
    after: f32,
    accepted: bool,
}

impl Reading {
    /// What a user has: a refused prompt leaves the template in use.
    fn gain(&self) -> f32 {
        if self.accepted {
            self.after - self.before
        } else {
            0.0
        }
    }
}

/// Two rows a condition, one a stream, and the mean of each stream; accuracy is on test pictures of labels that occur.
/// `held_out` leaves out the conditions that the model was trained on.
pub fn table(model: &Model, seeds: &[u64], held_out: bool) -> Result<()> {
    println!(
        "| condition | labels that occur | zero-shot | prompt | gain | accepted | gain in use | worst accepted gain |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let classes = Classes::all(model)?;
    let half = CLASSES.len() / 2;
    let streams = [("all", CLASSES.len()), ("half", half)];
    let mut all: [Vec<Reading>; 2] = Default::default();
    for (condition, described) in CONDITIONS.iter().enumerate() {
        if held_out && !described.held_out {
            continue;
        }
        let mut here: [Vec<Reading>; 2] = Default::default();
        for &seed in seeds {
            let drawn = |purpose, a_class: usize| -> Vec<SceneSpec> {
                let turns = 0..(a_class * CLASSES.len()) as u64;
                turns
                    .map(|turn| demo::scene(purpose, condition, seed, turn))
                    .collect()
            };
            let stream = features(model, &drawn(Purpose::Live, STREAM), VIEWS, seed)?;
            let test = features(model, &drawn(Purpose::Test, TEST), 1, seed)?;
            for (found, (name, occurring)) in here.iter_mut().zip(streams) {
                let keep = |class: usize| (class < occurring).then_some(class);
                let (stream, test) = (stream.filter_classes(keep), test.filter_classes(keep));
                let reading = learn(&classes, &stream, &test, seed, &|note| {
                    eprintln!("{} {seed} {name}: {note}", described.name);
                })?;
                found.push(reading);
            }
        }
        for ((all, here), (name, _)) in all.iter_mut().zip(here).zip(streams) {
            row(described.name, name, &here);
            all.extend(here);
        }
    }
    for (all, (name, _)) in all.iter().zip(streams) {
        row("mean", name, all);
    }
    Ok(())
}

fn learn(
    classes: &Classes,
    stream: &FeatureSet,
    test: &FeatureSet,
    seed: u64,
    note: &dyn Fn(String),
) -> Result<Reading> {
    let options = SelfTraining::new(Options::of(Tuning::Rlp).with_seed(seed), SHOTS, ROUNDS);
    let before = classes.accuracy(None, test)?;
    let mut go_on = |_: &_| ControlFlow::Continue(());
    let features = stream.features.view();
    let nothing = InUse::default();
    let outcome = match unlabelled::adapt(&classes.task(), features, nothing, &options, &mut go_on)
    {
        Ok(outcome) => outcome,
        Err(error @ AdaptError::TooFewSure { .. }) => {
            note(error.to_string());
            return Ok(Reading {
                before,
                after: before,
                accepted: false,
            });
        }
        Err(error) => return Err(error.into()),
    };
    let learnt = InUse {
        delta: Some(&outcome.delta),
        prototypes: outcome.prototypes.as_ref(),
    };
    let after = classes.accuracy_in_use(learnt, test)?;
    note(format!("{before:.3} to {after:.3}, {:?}", outcome.evidence));
    Ok(Reading {
        before,
        after,
        accepted: outcome.accepted(),
    })
}

fn row(condition: &str, stream: &str, readings: &[Reading]) {
    let mean_of = |of: fn(&Reading) -> f32| mean(&readings.iter().map(of).collect::<Vec<f32>>());
    let accepted: Vec<f32> = (readings.iter().filter(|reading| reading.accepted))
        .map(Reading::gain)
        .collect();
    let worst = match accepted.iter().copied().reduce(f32::min) {
        Some(worst) => format!("{:+.1}", 100.0 * worst),
        None => "-".into(),
    };
    println!(
        "| {condition} | {stream} | {} | {} | {:+.1} | {} of {} | {:+.1} | {worst} |",
        cell(mean_of(|reading| reading.before)),
        cell(mean_of(|reading| reading.after)),
        100.0 * mean_of(|reading| reading.after - reading.before),
        accepted.len(),
        readings.len(),
        100.0 * mean_of(Reading::gain),
    );
}
