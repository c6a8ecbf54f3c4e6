//! `edge-rlp bench`: what this box does with a model, as a user meets it: one picture, a hundred names, a training
//! step, a start from nothing, memory. It only measures; the numbers depend on nothing that it draws or trains.

use super::{Context, Exit, model, usage};
use crate::adapt::features::{self, Extraction, FeatureSet, Monitor, Pictures};
use crate::adapt::loss::cross_entropy;
use crate::adapt::{self, AdaptError, Options, Task};
use crate::classifier::{Classifier, context_rows};
use crate::clip::Model;
use crate::clip::text_tower::DEFAULT_MEMORY;
use crate::host::processes::this_program;
use crate::ops::Kernels;
use crate::prompt::{Label, Template, TokenLayout, Tuning};
use anyhow::{Context as _, bail};
use image::RgbImage;
use ndarray::Array2;
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::process::{self, Stdio};
use std::time::Instant;

/// How many labels `text_ms` encodes.
const NAMES: usize = 100;
/// How many labels the cold start and the measured adaptation have.
const FEW: usize = 10;
/// The pictures that a camera gives: 640 x 480.
const PICTURE: (u32, u32) = (640, 480);

#[derive(clap::Args)]
pub struct Arguments {
    /// A model of the home folder, or a bundle file [default: the one inside the program]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Measure only these
    #[arg(long, value_name = "FIGURE", value_delimiter = ',')]
    only: Vec<Figure>,
    /// Class counts of the training step
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [10, 100, 1000],
          value_parser = clap::value_parser!(u32).range(2..=10_000))]
    classes: Vec<u32>,
    /// How often each thing is measured; the largest training steps a third as often
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeats: u32,
    /// Do one thing from a cold start and print how much memory it took: what `bench` runs of itself
    #[arg(long, hide = true)]
    probe: Option<Probe>,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Figure {
    /// Features of one prepared picture
    Image,
    /// Features of 100 labels
    Text,
    /// A training step
    Step,
    /// Start, open the model, name one picture, end
    Start,
}

/// What a fresh process does to be measured from outside.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Probe {
    Classify,
    Adapt,
}

impl Probe {
    fn name(self) -> &'static str {
        match self {
            Probe::Classify => "classify",
            Probe::Adapt => "adapt",
        }
    }
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    if let Some(probe) = arguments.probe {
        return run_probe(probe, &arguments, context);
    }
    let wanted = |figure| arguments.only.is_empty() || arguments.only.contains(&figure);
    let mut figures = Map::new();
    // First, while this process holds no model: the children's memory is their own, but the machine's is shared.
    if wanted(Figure::Start) {
        figures.append(&mut cold_starts(&arguments, context)?);
    }
    let model = model::open(arguments.model.as_deref(), context)?;
    figures.insert(
        "model".into(),
        json!({"name": model.name, "fingerprint": model.fingerprint.to_string()}),
    );
    figures.insert("threads".into(), context.threads.into());
    if wanted(Figure::Image) {
        figures.append(&mut picture(&model, &arguments)?);
    }
    if wanted(Figure::Text) {
        figures.insert("text_ms".into(), names(&model, &arguments)?);
    }
    if wanted(Figure::Step) {
        let mut steps = Map::new();
        for &classes in &arguments.classes {
            if context.stopped() {
                break;
            }
            let step = step(&model, classes as usize, &arguments, context)?;
            steps.insert(classes.to_string(), step);
        }
        figures.insert("step_ms".into(), steps.into());
    }
    if let Some(kernels) = Kernels::in_force() {
        let chosen = json!({"f32": kernels.float(), "int8": kernels.integer()});
        figures.insert("kernels".into(), chosen);
    }
    context.output.object(&figures)?;
    print(&figures, context);
    Ok(Exit::Done)
}

/// Median and spread (the distance between the quartiles) of what was measured.
fn summary(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    json!({"median": round(at(0.5)), "spread": round(at(0.75) - at(0.25)), "repeats": values.len()})
}

/// Milliseconds of `repeats` runs of `work`, after one that does not count.
fn time(repeats: u32, mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Value> {
    work()?;
    let mut times = Vec::new();
    for _ in 0..repeats {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(summary(times))
}

fn picture(model: &Model, arguments: &Arguments) -> anyhow::Result<Map<String, Value>> {
    let picture = drawing(0);
    let prepared = model.preprocess.apply(&picture)?;
    let mut figures = Map::new();
    let tower = time(arguments.repeats, || {
        std::hint::black_box(model.image.encode(&prepared)?);
        Ok(())
    })?;
    figures.insert("image_ms".into(), tower);
    let preparation = time(arguments.repeats, || {
        std::hint::black_box(model.preprocess.apply(&picture)?);
        Ok(())
    })?;
    figures.insert("preprocess_ms".into(), preparation);
    Ok(figures)
}

fn names(model: &Model, arguments: &Arguments) -> anyhow::Result<Value> {
    let layout = layout(model, NAMES)?;
    let words = context_rows(&model.text, &layout, None)?;
    time(arguments.repeats, || {
        std::hint::black_box(model.text.class_features(words.view(), &layout.suffixes)?);
        Ok(())
    })
}

/// One step as training takes it, but for the optimiser's arithmetic on a few hundred numbers.
fn step(
    model: &Model,
    classes: usize,
    arguments: &Arguments,
    context: &Context,
) -> anyhow::Result<Value> {
    crate::host::memory::keep_freed();
    let layout = layout(model, classes)?;
    let words = context_rows(&model.text, &layout, None)?;
    let labels: Vec<usize> = (0..classes).collect();
    let pictures = Array2::from_elem(
        (classes, model.text.joint_width()),
        (model.text.joint_width() as f32).powf(-0.5),
    );
    let repeats = if classes > 100 {
        arguments.repeats.div_ceil(3)
    } else {
        arguments.repeats
    };
    time(repeats, || {
        if context.stopped() {
            bail!("stopped");
        }
        let (texts, tape) = model
            .text
            .forward(words.view(), &layout.suffixes, DEFAULT_MEMORY)?;
        let loss = cross_entropy(pictures.view(), &labels, texts.view(), model.logit_scale);
        std::hint::black_box(model.text.backward(&tape, loss.text_gradient.view()));
        Ok(())
    })
}

/// Starts this program anew for each measurement, as a person or a service would.
fn cold_starts(arguments: &Arguments, context: &Context) -> anyhow::Result<Map<String, Value>> {
    // A model that cannot be opened is reported once, and by name.
    drop(model::open(arguments.model.as_deref(), context)?);
    let program = this_program().context("cannot find this program to start it anew")?;
    let (mut cold_starts, mut peaks) = (Vec::new(), Map::new());
    for (probe, repeats) in [
        (Probe::Classify, arguments.repeats),
        (Probe::Adapt, arguments.repeats.div_ceil(5)),
    ] {
        let mut memory = Vec::new();
        // The first start fills the page cache and is not counted.
        for round in 0..=repeats {
            if context.stopped() {
                bail!("stopped");
            }
            let mut command = process::Command::new(&program);
            command
                .args(["bench", "--probe", probe.name(), "--threads"])
                .arg(context.threads.to_string());
            command.env("EDGE_RLP_HOME", context.home.root());
            if let Some(model) = &arguments.model {
                command.args(["--model", model]);
            }
            let start = Instant::now();
            let output = command
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .output()?;
            let milliseconds = start.elapsed().as_secs_f64() * 1e3;
            if !output.status.success() {
                bail!(
                    "a fresh start of this program with the model did not succeed ({})",
                    output.status
                );
            }
            if round == 0 {
                continue;
            }
            if probe == Probe::Classify {
                cold_starts.push(milliseconds);
            }
            memory.extend(
                String::from_utf8_lossy(&output.stdout)
                    .trim()
                    .parse::<f64>(),
            );
        }
        let peak = (!memory.is_empty()).then(|| summary(memory));
        peaks.insert(probe.name().into(), peak.unwrap_or(Value::Null));
    }
    Ok(Map::from_iter([
        ("cold_start_ms".to_owned(), summary(cold_starts)),
        ("peak_mb".to_owned(), peaks.into()),
    ]))
}

/// Names one picture, or adapts to a few, and prints the peak of memory in MB.
fn run_probe(probe: Probe, arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let model = model::open(arguments.model.as_deref(), context)?;
    match probe {
        Probe::Classify => {
            let classifier = Classifier::zero_shot(&model, &Template::default(), &labels(FEW))?;
            std::hint::black_box(classifier.classify(&drawing(0))?);
        }
        Probe::Adapt => {
            let layout = layout(&model, FEW)?;
            let set = shots(&model, context.threads)?;
            model.release_image();
            let mut options = Options::of(Tuning::Rlp);
            options.recipe.steps = 3;
            options.recipe.starts = 1;
            let labels = labels(FEW);
            let task = Task::new(&model, &labels, &layout)?;
            let outcome = adapt::adapt(&task, &set, &options, &mut |_| ControlFlow::Continue(()));
            match outcome {
                // A model of random weights may well diverge; its memory is the same.
                Ok(_) | Err(AdaptError::Diverged { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    if let Some(peak) = crate::host::memory::peak() {
        println!("{:.1}", peak as f64 / 1e6);
    }
    Ok(Exit::Done)
}

/// Features of four pictures of each of a few classes.
fn shots(model: &Model, threads: usize) -> anyhow::Result<FeatureSet> {
    let extraction = Extraction {
        views: 1,
        seed: 0,
        threads,
    };
    let pictures = Pictures {
        count: 4 * FEW,
        load: &|index| Some((drawing(index as u32), index % FEW)),
    };
    Ok(features::extract(
        model,
        pictures,
        extraction,
        Monitor::none(),
    )?)
}

/// A picture of a camera's size in which no two rows are alike.
fn drawing(index: u32) -> RgbImage {
    RgbImage::from_fn(PICTURE.0, PICTURE.1, |x, y| {
        image::Rgb([
            (x + 7 * index) as u8,
            (y ^ index) as u8,
            (x ^ y.wrapping_mul(index + 1)) as u8,
        ])
    })
}

fn layout(model: &Model, classes: usize) -> anyhow::Result<TokenLayout> {
    let layout = model.layout(&Template::default(), &labels(classes));
    layout.map_err(usage)
}

const THINGS: [&str; 25] = [
    "mug", "bottle", "hammer", "key", "chair", "lamp", "box", "shoe", "book", "plate", "fork",
    "bag", "clock", "brush", "pipe", "wheel", "glove", "rope", "bucket", "ladder", "door",
    "window", "table", "basket", "knife",
];
const KINDS: [&str; 20] = [
    "red", "green", "blue", "white", "black", "yellow", "old", "new", "small", "large", "round",
    "long", "short", "broken", "clean", "dirty", "wooden", "metal", "plastic", "paper",
];

/// Labels of two to four words: "red mug", then, past all pairs, "red mug 2".
fn labels(count: usize) -> Vec<Label> {
    (0..count)
        .map(|index| {
            let (kind, thing) = (
                KINDS[index / THINGS.len() % KINDS.len()],
                THINGS[index % THINGS.len()],
            );
            let words = match index / (THINGS.len() * KINDS.len()) {
                0 => format!("{kind} {thing}"),
                round => format!("{kind} {thing} {}", round + 1),
            };
            Label {
                name: words.clone(),
                words,
            }
        })
        .collect()
}

fn print(figures: &Map<String, Value>, context: &Context) {
    let rows = [
        ("one picture", "/image_ms", "ms"),
        ("preparing a 640 x 480 picture", "/preprocess_ms", "ms"),
        ("100 labels", "/text_ms", "ms"),
        (
            "start, open the model, name a picture",
            "/cold_start_ms",
            "ms",
        ),
        ("memory at its peak, classify", "/peak_mb/classify", "MB"),
        (
            "memory at its peak, adapt to 10 labels",
            "/peak_mb/adapt",
            "MB",
        ),
    ];
    let figures = Value::Object(figures.clone());
    let line = |what: &str, value: &Value, unit: &str| {
        let (Some(median), Some(spread)) = (value["median"].as_f64(), value["spread"].as_f64())
        else {
            return;
        };
        context.output.line(format!(
            "{what:40} {median:10.1} {unit}  (middle half within {spread:.1})"
        ));
    };
    let name = figures["model"]["name"].as_str().unwrap_or_default();
    context.output.line(format!(
        "model {name}, threads: {}; medians",
        figures["threads"]
    ));
    for (what, at, unit) in rows {
        if let Some(value) = figures.pointer(at) {
            line(what, value, unit);
        }
    }
    let kernel = |number: &str| figures["kernels"][number].as_str();
    if let Some(float) = kernel("f32") {
        let integer = kernel("int8").unwrap_or("none that is faster than f32 here");
        context
            .output
            .line(format!("kernels: f32 {float}; int8 {integer}"));
    }
    for (classes, value) in figures["step_ms"].as_object().into_iter().flatten() {
        line(
            &format!("a training step with {classes} labels"),
            value,
            "ms",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_labels_are_a_thousand_different_ones() {
        let mut names: Vec<String> = labels(1000).into_iter().map(|label| label.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 1000);
    }

    #[test]
    fn the_summary_is_the_median_and_the_distance_of_the_quartiles() {
        let summary = summary(vec![9.0, 1.0, 2.0, 4.0, 3.0]);
        assert_eq!(
            (&summary["median"], &summary["spread"]),
            (&json!(3.0), &json!(2.0))
        );
    }
}
