//! What `adapt --unlabelled` brings under every condition, on streams in which labels occur alike, in part, in runs, one after
//! the other, or with as many pictures of other things. True labels are used for judging alone.

use super::{Classes, SceneSpec, TEST, VIEWS, cell, demo, features, mean, put_right, similarities};
use anyhow::Result;
use edge_rlp::adapt::features::FeatureSet;
use edge_rlp::adapt::unlabelled::{self, Consistency, InUse, SelfTraining, Unlabelled};
use edge_rlp::adapt::{AdaptError, Options, Outcome};
use edge_rlp::classifier::softmax_rows;
use edge_rlp::clip::Model;
use edge_rlp::evaluate::metrics::{Assessment, Recognition};
use edge_rlp::frames::demo::{CLASSES, CONDITIONS, Purpose};
use edge_rlp::prompt::Tuning;
use edge_rlp::rng::Rng;
use ndarray::{Axis, Slice};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Pictures of each label in the stream, of 40 that the command collects at most.
const STREAM: usize = 24;
/// Pictures that the command collects at most.
const POOL: usize = 40 * CLASSES.len();
/// Pictures of one label one after the other in a stream of runs.
const RUN: usize = 50;
const SHOTS: usize = 16;
const ROUNDS: usize = 2;

/// What a camera sees.
struct Stream {
    name: &'static str,
    /// The first so many labels are in the list.
    listed: usize,
    /// Whether collecting ends as the command's does, once every label has enough pictures that seem to show it.
    ends_early: bool,
    /// The label of each picture, one after the other.
    labels: fn(seed: u64) -> Vec<usize>,
}

const STREAMS: [Stream; 6] = [
    Stream {
        name: "all",
        listed: CLASSES.len(),
        ends_early: false,
        labels: |_| in_turns(CLASSES.len()),
    },
    Stream {
        name: "half",
        listed: CLASSES.len(),
        ends_early: false,
        labels: |_| in_turns(CLASSES.len() / 2),
    },
    Stream {
        name: "one",
        listed: CLASSES.len(),
        ends_early: true,
        labels: |seed| vec![seed as usize % CLASSES.len(); POOL],
    },
    Stream {
        name: "runs of 50",
        listed: CLASSES.len(),
        ends_early: true,
        labels: |seed| {
            let mut rng = Rng::with_stream(seed, RUN as u64);
            let runs = (0..POOL.div_ceil(RUN)).map(|_| rng.below(CLASSES.len()));
            let pictures = runs.flat_map(|label| std::iter::repeat_n(label, RUN));
            pictures.take(POOL).collect()
        },
    },
    Stream {
        name: "class by class",
        listed: CLASSES.len(),
        ends_early: true,
        labels: |_| {
            let mut labels = in_turns(CLASSES.len());
            labels.sort_unstable();
            labels
        },
    },
    Stream {
        name: "half of it unlisted",
        listed: CLASSES.len() / 2,
        ends_early: false,
        labels: |_| in_turns(CLASSES.len()),
    },
];

/// So many labels, one after the other and again.
fn in_turns(labels: usize) -> Vec<usize> {
    (0..STREAM * labels).map(|turn| turn % labels).collect()
}

/// Accuracy under the template and under the prompt, and whether that was accepted.
struct Reading {
    before: f32,
    after: f32,
    accepted: bool,
    /// The calibration error of the prompt, with its temperature.
    error: Option<f32>,
    /// How well it tells pictures of labels that are not listed: the area under the curve.
    area: Option<f32>,
    /// Accuracy on test pictures of labels that are listed and did not occur, before and after; none where all occurred.
    absent: Option<[f32; 2]>,
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

/// A row a condition and stream, and the mean of each stream; accuracy is on test pictures of labels that are listed and occur.
/// `held_out` leaves out the conditions that the model was trained on.
pub fn table(model: &Model, seeds: &[u64], held_out: bool) -> Result<()> {
    println!(
        "| condition | labels that occur | zero-shot | prompt | gain | accepted | gain in use | worst accepted gain | calibration error | AUROC | labels that did not occur |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let mut all: [Vec<Reading>; STREAMS.len()] = Default::default();
    for (condition, described) in CONDITIONS.iter().enumerate() {
        if held_out && !described.held_out {
            continue;
        }
        let mut here: [Vec<Reading>; STREAMS.len()] = Default::default();
        for &seed in seeds {
            let test: Vec<usize> = (0..TEST * CLASSES.len())
                .map(|turn| turn % CLASSES.len())
                .collect();
            let test = Drawn::new(model, Purpose::Test, condition, seed, &[test])?.all;
            let labels: Vec<Vec<usize>> = STREAMS.iter().map(|of| (of.labels)(seed)).collect();
            let live = Drawn::new(model, Purpose::Live, condition, seed, &labels)?;
            for (found, stream) in here.iter_mut().zip(&STREAMS) {
                let (scenes, pictures) = live.stream(&(stream.labels)(seed));
                let classes = Classes::new(model, 0..stream.listed)?;
                let occurs =
                    |class: usize| class < stream.listed && pictures.labels.contains(&class);
                let unlisted = |class: usize| (class >= stream.listed).then_some(class);
                let test = Test {
                    known: test.filter_classes(|class| occurs(class).then_some(class)),
                    absent: test.filter_classes(|class| {
                        (class < stream.listed && !occurs(class)).then_some(class)
                    }),
                    unlisted: test.filter_classes(unlisted),
                };
                let pictures = match stream.ends_early {
                    true => collected(&classes, &pictures)?,
                    false => pictures,
                };
                let reading = learn(&classes, (&scenes, &pictures), &test, seed, &|note| {
                    eprintln!("{} {seed} {}: {note}", described.name, stream.name);
                })?;
                found.push(reading);
            }
        }
        for ((all, here), stream) in all.iter_mut().zip(here).zip(&STREAMS) {
            row(described.name, stream.name, &here);
            all.extend(here);
        }
    }
    for (all, stream) in all.iter().zip(&STREAMS) {
        row("mean", stream.name, all);
    }
    Ok(())
}

/// The scenes of several streams with their features, each scene once.
struct Drawn {
    scenes: Vec<SceneSpec>,
    all: FeatureSet,
    /// Where each turn of the demo lies.
    places: BTreeMap<usize, usize>,
}

impl Drawn {
    fn new(
        model: &Model,
        purpose: Purpose,
        condition: usize,
        seed: u64,
        streams: &[Vec<usize>],
    ) -> Result<Drawn> {
        let (mut scenes, mut places) = (Vec::new(), BTreeMap::new());
        for turn in streams.iter().flat_map(|labels| turns(labels)) {
            places.entry(turn).or_insert_with(|| {
                scenes.push(demo::scene(purpose, condition, seed, turn as u64));
                scenes.len() - 1
            });
        }
        let views = if purpose == Purpose::Test { 1 } else { VIEWS };
        let all = features(model, &scenes, views, seed)?;
        Ok(Drawn {
            scenes,
            all,
            places,
        })
    }

    /// Those of a stream of these labels.
    fn stream(&self, labels: &[usize]) -> (Vec<SceneSpec>, FeatureSet) {
        let turns = turns(labels).into_iter();
        let rows: Vec<usize> = turns.map(|turn| self.places[&turn]).collect();
        let scenes = rows.iter().map(|&row| self.scenes[row].clone()).collect();
        (scenes, self.all.select(&rows))
    }
}

/// The demo's turn for each picture of these labels, no two of them the same.
fn turns(labels: &[usize]) -> Vec<usize> {
    let mut shown = [0; CLASSES.len()];
    let turn = |&label: &usize| {
        shown[label] += 1;
        (shown[label] - 1) * CLASSES.len() + label
    };
    labels.iter().map(turn).collect()
}

/// The pictures up to the one with which every label has enough that seem to show it.
fn collected(classes: &Classes, stream: &FeatureSet) -> Result<FeatureSet> {
    let scorer = InUse::default().scorer(&classes.task())?;
    let scale = classes.model.logit_scale;
    let enough = |count: &usize| {
        let features = stream.features.slice_axis(Axis(0), Slice::from(..*count));
        unlabelled::scarcest(features, &scorer, scale, SHOTS).is_none()
    };
    let all = stream.labels.len();
    let count = (SHOTS * classes.labels.len()..all)
        .find(enough)
        .unwrap_or(all);
    Ok(stream.select(&(0..count).collect::<Vec<_>>()))
}

/// Pictures that judge.
struct Test {
    /// Of labels that are listed and occur.
    known: FeatureSet,
    /// Of labels that are listed and do not.
    absent: FeatureSet,
    unlisted: FeatureSet,
}

fn learn(
    classes: &Classes,
    (scenes, stream): (&[SceneSpec], &FeatureSet),
    test: &Test,
    seed: u64,
    note: &dyn Fn(String),
) -> Result<Reading> {
    let options = SelfTraining::new(Options::of(Tuning::Rlp).with_seed(seed), SHOTS, ROUNDS);
    let before = classes.accuracy(None, &test.known)?;
    let mut go_on = |_: &_| ControlFlow::Continue(());
    let nothing = InUse::default();
    let put_right = put_right(classes, scenes, stream)?;
    let pictures = Unlabelled {
        features: stream.features.view(),
        put_right: put_right.as_ref().map(|vote| vote.view()),
    };
    let outcome = match unlabelled::adapt(&classes.task(), pictures, nothing, &options, &mut go_on)
    {
        Ok(outcome) => outcome,
        Err(error @ AdaptError::TooFewSure { .. }) => {
            note(error.to_string());
            return Ok(Reading {
                before,
                after: before,
                accepted: false,
                error: None,
                area: None,
                absent: None,
            });
        }
        Err(error) => return Err(error.into()),
    };
    let reading = reading(classes, before, &outcome, test)?;
    let after = reading.after;
    note(format!("{before:.3} to {after:.3}, {:?}", outcome.evidence));
    Ok(reading)
}

/// What became of a prompt, which was `before` right under the template.
fn reading(
    classes: &Classes,
    before: f32,
    outcome: &Outcome<Consistency>,
    test: &Test,
) -> Result<Reading> {
    let learnt = InUse::from(outcome);
    let scorer = learnt.scorer(&classes.task())?;
    let (features, truth) = test.known.plain();
    let calibration = outcome.evidence.calibration.as_ref();
    let temperature = calibration.map_or(1.0, |found| found.temperature);
    let scale = classes.model.logit_scale / temperature;
    let shares = softmax_rows(scorer.scores(features.view()), scale);
    let prototypes = outcome.prototypes.as_ref();
    let texts = classes.task().texts_in_use(&outcome.delta, prototypes)?;
    let similarities = |of: &FeatureSet| similarities(&scorer, texts.view(), of.plain().0.view());
    let recognition = Recognition::new(
        &similarities(&test.known),
        &similarities(&test.unlisted),
        None,
    );
    let absent = match test.absent.labels.is_empty() {
        true => None,
        false => Some([
            classes.accuracy(None, &test.absent)?,
            classes.accuracy_in_use(learnt, &test.absent)?,
        ]),
    };
    Ok(Reading {
        absent,
        before,
        after: classes.accuracy_in_use(learnt, &test.known)?,
        accepted: outcome.accepted(),
        error: Some(Assessment::new(shares.view(), &truth).calibration_error as f32),
        area: recognition.map(|found| found.unknown_auroc as f32),
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
    let errors: Vec<f32> = readings.iter().filter_map(|of| of.error).collect();
    let areas: Vec<f32> = readings.iter().filter_map(|of| of.area).collect();
    let area = match areas.is_empty() {
        true => "-".into(),
        false => format!("{:.3}", mean(&areas)),
    };
    let absent: Vec<[f32; 2]> = readings.iter().filter_map(|of| of.absent).collect();
    let absent = match absent.is_empty() {
        true => "-".into(),
        false => {
            let [before, after] =
                [0, 1].map(|at| mean(&absent.iter().map(|of| of[at]).collect::<Vec<_>>()));
            format!("{:.1} to {:.1}", 100.0 * before, 100.0 * after)
        }
    };
    println!(
        "| {condition} | {stream} | {} | {} | {:+.1} | {} of {} | {:+.1} | {worst} | {} | {area} | {absent} |",
        cell(mean_of(|reading| reading.before)),
        cell(mean_of(|reading| reading.after)),
        100.0 * mean_of(|reading| reading.after - reading.before),
        accepted.len(),
        readings.len(),
        100.0 * mean_of(Reading::gain),
        cell(mean(&errors)),
    );
}
