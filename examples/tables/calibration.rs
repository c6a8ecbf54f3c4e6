//! What scores are worth: calibration error, and how well pictures of none of the labels are recognised as such.

use super::{Classes, Drawn, SEEDS, cell, mean};
use anyhow::{Context as _, Result};
use edge_rlp::adapt::Options;
use edge_rlp::classifier::probabilities;
use edge_rlp::clip::Model;
use edge_rlp::evaluate::metrics::Assessment;
use edge_rlp::frames::demo::{CLASSES, CONDITIONS};
use edge_rlp::prompt::{Label, Tuning};
use edge_rlp::rng::Rng;
use ndarray::Array2;

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
    let options = Options::of(Tuning::Rlp).with_seed(seed);
    let outcome = classes.adapt(&drawn.train, &options)?;
    let (features, truth) = drawn.test.plain();
    let error = |texts: &Array2<f32>, temperature: f32| {
        let scale = classes.model.logit_scale / temperature;
        let shares = probabilities(features.view(), texts.view(), scale);
        Assessment::new(shares.view(), &truth).calibration_error as f32
    };
    let adapted = classes.texts(Some(&outcome.delta))?;
    reading.errors[0].push(error(&classes.texts(None)?, 1.0));
    reading.errors[1].push(error(&adapted, 1.0));
    let calibration = outcome.evidence.calibration;
    let temperature = calibration.map_or(1.0, |found| found.temperature);
    reading.errors[2].push(error(&adapted, temperature));
    Ok(())
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
    let options = Options::of(Tuning::Rlp).with_seed(seed);
    let outcome = classes.adapt(&drawn.train.filter_classes(keep), &options)?;
    let calibration = outcome.evidence.calibration;
    let calibration = calibration.context("nothing was held out")?;
    let (temperature, least_similarity) = (calibration.temperature, calibration.least_similarity());
    let texts = classes.texts(Some(&outcome.delta))?;
    let (features, truth) = drawn.test.plain();
    let highest = |table: Array2<f32>| -> Vec<f32> {
        let rows = table.outer_iter();
        rows.map(|row| row.fold(f32::NEG_INFINITY, |most, &x| most.max(x)))
            .collect()
    };
    let shares = probabilities(
        features.view(),
        texts.view(),
        model.logit_scale / temperature,
    );
    let similarities = highest(features.dot(&texts.t()));
    let is_known: Vec<bool> = truth.iter().map(|&class| keep(class).is_some()).collect();
    reading.areas[0].push(area_under_curve(&highest(shares), &is_known));
    reading.areas[1].push(area_under_curve(&similarities, &is_known));
    let share = |of: bool, passes: bool| {
        let chosen = similarities.iter().zip(&is_known);
        let chosen: Vec<f32> = chosen
            .filter(|(_, known)| **known == of)
            .map(|(&x, _)| f32::from(u8::from((x >= least_similarity) == passes)))
            .collect();
        mean(&chosen)
    };
    reading.floor[0].push(share(true, true));
    reading.floor[1].push(share(false, false));
    Ok(())
}

/// The share of pairs of a known and an unknown picture in which the known one scores higher; ties count half.
fn area_under_curve(scores: &[f32], is_known: &[bool]) -> f32 {
    let of = |which: bool| {
        let chosen = scores.iter().zip(is_known);
        let mut chosen: Vec<f32> = chosen
            .filter(|(_, known)| **known == which)
            .map(|(&score, _)| score)
            .collect();
        chosen.sort_by(f32::total_cmp);
        chosen
    };
    let (known, unknown) = (of(true), of(false));
    let wins = known.iter().map(|score| {
        let below = unknown.partition_point(|x| x < score);
        let up_to = unknown.partition_point(|x| x <= score);
        0.5 * (below + up_to) as f64
    });
    (wins.sum::<f64>() / (known.len() * unknown.len()) as f64) as f32
}
