//! What scores are worth: calibration error, and how well pictures of none of the labels are recognised as such.

use super::{Classes, Drawn, SEEDS, cell, mean, similarities};
use anyhow::{Context as _, Result};
use edge_rlp::adapt::unlabelled::InUse;
use edge_rlp::adapt::{Answers, Options};
use edge_rlp::classifier::softmax_rows;
use edge_rlp::clip::Model;
use edge_rlp::evaluate::metrics::{Assessment, Recognition};
use edge_rlp::frames::demo::{CLASSES, CONDITIONS};
use edge_rlp::prompt::{Label, Tuning};
use edge_rlp::rng::Rng;
use ndarray::ArrayView1;

/// What one condition gives: calibration error, and how well pictures of none of the labels are recognised.
#[derive(Default)]
struct Reading {
    /// Expected calibration error of the template, of the prompt, and of the prompt with its temperature.
    errors: [Vec<f32>; 3],
    /// Area under the curve of known against unknown pictures, by probability and by similarity.
    areas: [Vec<f32>; 2],
    /// Share of the known pictures that the floor lets pass, and of the unknown ones that it refuses.
    floor: [Vec<f32>; 2],
}

impl Reading {
    fn cells(readings: &[&Reading]) -> String {
        let mean_of = |of: &dyn Fn(&Reading) -> &Vec<f32>| {
            let all: Vec<f32> = readings.iter().flat_map(|r| of(r)).copied().collect();
            mean(&all)
        };
        let errors = [0, 1, 2].map(|i| cell(mean_of(&|r| &r.errors[i])));
        let areas = [0, 1].map(|i| format!("{:.3}", mean_of(&|r| &r.areas[i])));
        let floor = [0, 1].map(|i| cell(mean_of(&|r| &r.floor[i])));
        [&errors[..], &areas, &floor].concat().join(" | ")
    }
}

/// Calibration error on all twelve labels; unknown pictures are those of the labels left out: the second half, the first
/// half, and both halves of a random division.
pub fn table(model: &Model) -> Result<()> {
    println!(
        "| condition | zero-shot error % | adapted | calibrated | AUROC by probability | by similarity | known that pass % | unknown refused % |\n|---|---|---|---|---|---|---|---|"
    );
    let every_class = Classes::all(model)?;
    let mut readings = Vec::new();
    for condition in CONDITIONS.iter().enumerate() {
        let mut reading = Reading::default();
        for seed in 0..SEEDS {
            let drawn = Drawn::new(model, condition.0, seed)?;
            calibration_errors(&every_class, &drawn, seed, &mut reading)?;
            let mut classes: Vec<usize> = (0..CLASSES.len()).collect();
            let halves = |classes: &[usize]| {
                let (first, second) = classes.split_at(CLASSES.len() / 2);
                [first.to_vec(), second.to_vec()]
            };
            let mut known = Vec::from(halves(&classes));
            Rng::with_stream(seed, DIVISION_STREAM).shuffle(&mut classes);
            known.extend(halves(&classes));
            for known in known {
                unknown_pictures(model, &drawn, &known, seed, &mut reading)?;
            }
        }
        println!("| {} | {} |", condition.1.name, Reading::cells(&[&reading]));
        readings.push((condition.1.held_out, reading));
    }
    for (name, chosen) in [("trained conditions", false), ("held-out conditions", true)] {
        let of: Vec<&Reading> = (readings.iter().filter(|(held_out, _)| *held_out == chosen))
            .map(|(_, reading)| reading)
            .collect();
        println!("| {name} | {} |", Reading::cells(&of));
    }
    let all: Vec<&Reading> = readings.iter().map(|(_, reading)| reading).collect();
    println!("| all | {} |", Reading::cells(&all));
    Ok(())
}

/// Keeps the random division of labels apart from other uses of the same seed.
const DIVISION_STREAM: u64 = 77;

fn calibration_errors(
    classes: &Classes,
    drawn: &Drawn,
    seed: u64,
    reading: &mut Reading,
) -> Result<()> {
    let outcome = classes.adapt(&drawn.train, &options(seed))?;
    let (features, truth) = drawn.test.plain();
    let error = |in_use: InUse, temperature: f32| -> Result<f32> {
        let scorer = in_use.scorer(&classes.task())?;
        let scale = classes.model.logit_scale / temperature;
        let shares = softmax_rows(scorer.scores(features.view()), scale);
        Ok(Assessment::new(shares.view(), &truth).calibration_error as f32)
    };
    let calibration = outcome.evidence.calibration.as_ref();
    let temperature = calibration.map_or(1.0, |found| found.temperature);
    let adapted = InUse::from(&outcome);
    let ways = [
        (InUse::default(), 1.0),
        (adapted, 1.0),
        (adapted, temperature),
    ];
    for (errors, (in_use, temperature)) in reading.errors.iter_mut().zip(ways) {
        errors.push(error(in_use, temperature)?);
    }
    Ok(())
}

/// As `adapt` does it.
fn options(seed: u64) -> Options {
    let usual = Options::of(Tuning::Rlp).with_answers(Answers::Best);
    usual.with_seed(seed)
}

/// Trains on the classes `known` alone and looks at test pictures of all.
fn unknown_pictures(
    model: &Model,
    drawn: &Drawn,
    known: &[usize],
    seed: u64,
    reading: &mut Reading,
) -> Result<()> {
    let keep = |class: usize| known.iter().position(|&of| of == class);
    let labels = known.iter().map(|&class| Label::new(CLASSES[class], None));
    let classes = Classes::of(model, labels.collect::<Result<_, _>>()?)?;
    let outcome = classes.adapt(&drawn.train.filter_classes(keep), &options(seed))?;
    let calibration = outcome.evidence.calibration.as_ref();
    let calibration = calibration.context("nothing was held out")?;
    let scorer = InUse::from(&outcome).scorer(&classes.task())?;
    let texts = classes.texts(Some(&outcome.delta))?;
    let (features, truth) = drawn.test.plain();
    let scores = scorer.scores(features.view());
    let shares = softmax_rows(scores, model.logit_scale / calibration.temperature);
    let highest = |row: ArrayView1<f32>| row.fold(0.0, |most: f32, &x| most.max(x));
    let surest: Vec<f32> = shares.outer_iter().map(highest).collect();
    let nearest = similarities(&scorer, texts.view(), features.view());
    let recognised = |of: &[f32], floor: Option<f32>| {
        let pictures = of.iter().copied().zip(&truth);
        let (known, unknown): (Vec<_>, Vec<_>) =
            pictures.partition(|(_, class)| keep(**class).is_some());
        let values = |of: Vec<(f32, &usize)>| of.into_iter().map(|(x, _)| x).collect::<Vec<f32>>();
        Recognition::new(&values(known), &values(unknown), floor).context("pictures of one kind")
    };
    let by_probability = recognised(&surest, None)?;
    let by_similarity = recognised(&nearest, Some(calibration.least_similarity()))?;
    for (areas, found) in reading
        .areas
        .iter_mut()
        .zip([&by_probability, &by_similarity])
    {
        areas.push(found.unknown_auroc as f32);
    }
    let share = |of: Option<f64>| of.unwrap_or_default() as f32;
    reading.floor[0].push(1.0 - share(by_similarity.known_refused));
    reading.floor[1].push(share(by_similarity.unknown_refused));
    Ok(())
}
