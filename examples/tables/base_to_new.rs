//! Trained on half of the labels, tested on each half: drawn scenes under the conditions that the model was not trained on,
//! and folders of photographs.

use super::{
    CLASSES, CONDITIONS, Classes, Drawn, Photographs, SHOTS, VIEWS, held_out, mean, photographs,
    scenes,
};
use anyhow::{Context as _, Result};
use edge_rlp::adapt::features::{Extraction, FeatureSet, Monitor, Pictures, extract};
use edge_rlp::clip::Model;
use edge_rlp::evaluate::methods::fit;
use edge_rlp::evaluate::{
    self, FitOptions, Fitted, Kept, Lesson, Method, Part, PartClasses, Predictor, Trial,
    base_and_new, choose_shots, test,
};
use edge_rlp::frames::demo::Purpose;
use edge_rlp::prompt::Label;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// The methods are close: many seeds to tell them apart.
pub const SEEDS: u64 = 10;
/// Of each drawn label.
const TEST: usize = 25;
const COLUMNS: [Column; 7] = [
    Column::Of(Method::ZeroShot),
    Column::Of(Method::Rlp),
    Column::ContextAlone(Method::Rlp),
    Column::Of(Method::Auto),
    Column::Of(Method::Coop),
    Column::Halfway(Method::Coop),
    Column::Of(Method::KgCoop),
];

/// A method, and how new labels are read.
#[derive(Clone, Copy, PartialEq)]
enum Column {
    /// As the method has it.
    Of(Method),
    /// In its context alone, as CoOp has it.
    ContextAlone(Method),
    /// Halfway to the template, as rlp has it.
    Halfway(Method),
}

impl Column {
    fn method(self) -> Method {
        let (Column::Of(method) | Column::ContextAlone(method) | Column::Halfway(method)) = self;
        method
    }

    fn name(self) -> String {
        let name = self.method().name();
        match self {
            Column::Of(_) => name.to_owned(),
            Column::ContextAlone(_) => format!("{name}, context alone"),
            Column::Halfway(_) => format!("{name}, halfway"),
        }
    }

    /// Makes what was fitted read new labels so.
    fn read(self, fitted: &mut Fitted) {
        let read = match (self, &fitted.predictor) {
            (Column::ContextAlone(_), Predictor::Kept(kept)) => {
                Predictor::Prompt(Some(kept.change.clone()))
            }
            (Column::Halfway(_), Predictor::Prompt(Some(change))) => {
                Predictor::Kept(Box::new(Kept {
                    change: change.clone(),
                    prototypes: None,
                    new: Vec::new(),
                }))
            }
            _ => return,
        };
        fitted.predictor = read;
    }
}

/// Pictures of labels in two halves, and of each half a draw a seed.
pub struct Set<'a> {
    pub name: String,
    pub base: Classes<'a>,
    pub new: Classes<'a>,
    pub draws: Vec<Draw>,
}

/// The base and the new half of the labels under one seed. Nobody trains on the new one.
pub struct Draw {
    pub seed: u64,
    pub base: Drawn,
    pub new: FeatureSet,
}

/// The `folders`, or without any the conditions that the model was not trained on.
pub fn sets<'a>(model: &'a Model, folders: &[PathBuf]) -> Result<Vec<Set<'a>>> {
    if folders.is_empty() {
        return held_out()
            .map(|condition| drawn(model, condition))
            .collect();
    }
    let folders = folders.iter();
    folders.map(|folder| photographed(model, folder)).collect()
}

fn drawn(model: &Model, condition: usize) -> Result<Set<'_>> {
    let half = CLASSES.len() / 2;
    let mut draws = Vec::new();
    for seed in 0..SEEDS {
        let base = |class: usize| (class < half).then_some(class);
        let of = |purpose, views, a_label: usize, keep: &dyn Fn(usize) -> Option<usize>| {
            let mut scenes = scenes(purpose, condition, seed);
            scenes.truncate(a_label * CLASSES.len());
            scenes.retain(|scene| keep(scene.class).is_some());
            let set = super::features(model, &scenes, views, seed)?;
            Ok::<_, anyhow::Error>(set.filter_classes(keep))
        };
        let test = of(Purpose::Test, 1, TEST, &Some)?;
        draws.push(Draw {
            seed,
            base: Drawn {
                train: of(Purpose::Train, VIEWS, SHOTS, &base)?,
                test: test.filter_classes(base),
            },
            new: test.filter_classes(|class| class.checked_sub(half)),
        });
    }
    Ok(Set {
        name: CONDITIONS[condition].name.to_owned(),
        base: Classes::new(model, 0..half)?,
        new: Classes::new(model, half..CLASSES.len())?,
        draws,
    })
}

/// Of each label half of the photographs are tested on, the same for every seed, and the shots are drawn from the others.
fn photographed<'a>(model: &'a Model, folder: &Path) -> Result<Set<'a>> {
    let Photographs { names, pictures } = photographs(folder)?;
    let source = Pictures {
        count: pictures.len(),
        load: &|index| Some(pictures[index].clone()),
    };
    let all = extract(model, source, Extraction::new(VIEWS, 0), Monitor::none())?;
    let mut seen = vec![0; names.len()];
    let (pool, test): (Vec<usize>, Vec<usize>) = (0..all.labels.len()).partition(|&row| {
        seen[all.labels[row]] += 1;
        seen[all.labels[row]] % 2 == 0
    });
    let (pool, test) = (all.select(&pool), all.select(&test));
    let order: Vec<usize> = (0..names.len()).collect();
    let (base, new) = base_and_new(&order);
    let half = base.len();
    let labelled = |classes: &[usize]| {
        let labels = classes.iter().map(|&class| Label::new(&names[class], None));
        Classes::of(model, labels.collect::<Result<_, _>>()?)
    };
    let of_base = |class: usize| (class < half).then_some(class);
    let draw = |seed| Draw {
        seed,
        base: Drawn {
            train: pool
                .select(&choose_shots(&pool.labels, names.len(), Some(SHOTS), seed))
                .filter_classes(of_base),
            test: test.filter_classes(of_base),
        },
        new: test.filter_classes(|class| class.checked_sub(half)),
    };
    Ok(Set {
        name: folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into(),
        base: labelled(&base)?,
        new: labelled(&new)?,
        draws: (0..SEEDS).map(draw).collect(),
    })
}

/// Accuracy on both halves, a number a seed each.
#[derive(Default)]
pub struct Found {
    pub base: Vec<f32>,
    pub new: Vec<f32>,
}

impl Found {
    /// The harmonic mean of the mean accuracies.
    pub fn harmonic(&self) -> f32 {
        harmonic_mean(mean(&self.base), mean(&self.new))
    }

    /// The harmonic mean of each seed.
    pub fn by_seed(&self) -> Vec<f32> {
        let both = self.base.iter().zip(&self.new);
        both.map(|(&base, &new)| harmonic_mean(base, new)).collect()
    }
}

fn harmonic_mean(base: f32, new: f32) -> f32 {
    evaluate::harmonic_mean(base.into(), new.into()) as f32
}

/// A row a set, then the mean and how far it is from rlp's, with the standard error over seeds.
pub fn table(model: &Model, folders: &[PathBuf]) -> Result<()> {
    let names = COLUMNS.map(Column::name).join(" | ");
    println!("| set | {names} |\n|---{}|", "|---".repeat(COLUMNS.len()));
    let mut all: Vec<Vec<Found>> = COLUMNS.iter().map(|_| Vec::new()).collect();
    for set in sets(model, folders)? {
        let mut found: Vec<Found> = COLUMNS.iter().map(|_| Found::default()).collect();
        for draw in &set.draws {
            measure(&set, draw, &mut found)?;
        }
        let cells = found.iter().map(|found| {
            let [base, new] = [&found.base, &found.new].map(|of| 100.0 * mean(of));
            format!("{:.1} ({base:.1} / {new:.1})", 100.0 * found.harmonic())
        });
        println!(
            "| {} | {} |",
            set.name,
            cells.collect::<Vec<_>>().join(" | ")
        );
        for (all, found) in all.iter_mut().zip(found) {
            all.push(found);
        }
    }
    let ours = COLUMNS
        .iter()
        .position(|&of| of == Column::Of(Method::Rlp))
        .unwrap_or(0);
    let cells = all.iter().map(|found| {
        let harmonic: Vec<f32> = found.iter().map(Found::harmonic).collect();
        format!(
            "{:.1} ({})",
            100.0 * mean(&harmonic),
            away(found, &all[ours])
        )
    });
    println!("| mean | {} |", cells.collect::<Vec<_>>().join(" | "));
    Ok(())
}

fn measure(set: &Set, draw: &Draw, found: &mut [Found]) -> Result<()> {
    let mut options = FitOptions::default();
    options.seed = draw.seed;
    let parts = [
        ("base", &set.base, &draw.base.test, PartClasses::Base),
        ("new", &set.new, &draw.new, PartClasses::New),
    ];
    let part = parts.map(|(name, classes, pictures, known)| Part {
        name,
        layout: &classes.layout,
        pictures,
        classes: known,
    });
    let trial = Trial {
        seed: draw.seed,
        shots: Some(SHOTS),
        lesson: Lesson::new(set.base.task(), &draw.base.train, options),
        parts: part.into(),
    };
    for (column, found) in COLUMNS.into_iter().zip(found) {
        let mut go_on = |_: &_| ControlFlow::Continue(());
        let mut fitted = fit(column.method(), &trial.lesson, &mut go_on)?;
        column.read(&mut fitted);
        let parts = test(&fitted, set.base.model, &trial.parts)?;
        let accuracy = |part: usize| {
            let tested = parts[part].as_ref().context("it names any labels")?;
            Ok::<_, anyhow::Error>(tested.assessment.accuracy as f32)
        };
        found.base.push(accuracy(0)?);
        found.new.push(accuracy(1)?);
    }
    Ok(())
}

/// How far the harmonic means of `these` sets are from `those`, in points, with the standard error over seeds.
pub fn away(these: &[Found], those: &[Found]) -> String {
    let by_seed = |sets: &[Found]| -> Vec<f32> {
        let each: Vec<Vec<f32>> = sets.iter().map(Found::by_seed).collect();
        let seeds = 0..each[0].len();
        seeds
            .map(|seed| mean(&each.iter().map(|of| of[seed]).collect::<Vec<_>>()))
            .collect()
    };
    let (these, those) = (by_seed(these), by_seed(those));
    let pairs = these.iter().zip(&those);
    let away: Vec<f32> = pairs.map(|(this, that)| this - that).collect();
    let middle = mean(&away);
    let squares: f32 = away.iter().map(|x| (x - middle).powi(2)).sum();
    let count = away.len() as f32;
    let error = (squares / (count - 1.0).max(1.0) / count).sqrt();
    format!("{:+.1} ± {:.1}", 100.0 * middle, 100.0 * error)
}
