//! Better together: ten boxes with a few shots a label each, alone, with prompts of the others beside them, with one prompt merged
//! of all ten, and with one that was trained on all their shots in one place. Boxes of a fleet look at the same kind of thing;
//! those of a mixed one through cameras with other faults.

use super::{CONDITIONS, Classes, Photographs, features, held_out, mean, photographs, scenes};
use anyhow::{Result, ensure};
use edge_rlp::adapt::features::{Extraction, FeatureSet, Monitor, Pictures, extract};
use edge_rlp::adapt::{Answers, Options, Sister, adapt_with};
use edge_rlp::classifier::Classifier;
use edge_rlp::clip::Model;
use edge_rlp::fleet::judge::{Origin, OwnPictures};
use edge_rlp::fleet::merge::{Mean, ensemble, merge};
use edge_rlp::frames::demo::Purpose;
use edge_rlp::image::{RgbImage, imageops};
use edge_rlp::ndarray::{Axis, concatenate};
use edge_rlp::prompt::{Label, Prompt, Template, Tuning};
use edge_rlp::rng::Rng;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const BOXES: usize = 10;
const SEEDS: u64 = 3;
/// Of each label, on each box.
const SHOTS: usize = 4;
/// Photographs of each label that nobody learns from.
const KEPT: usize = 20;
const VIEWS: usize = 4;

/// What is compared, in the order of the columns.
const COLUMNS: [&str; 10] = [
    "zero-shot",
    "alone",
    "a sister's prompt as it is",
    "`--sister` of one",
    "`--sister` of nine",
    "merged contexts",
    "merged scores",
    "merged scores, published",
    "`--sister` merged",
    "all shots in one place",
];

/// Ten boxes: what each has been shown, and what it is to name.
struct Fleet {
    shots: Vec<FeatureSet>,
    tests: Vec<FeatureSet>,
}

/// What a fleet gives, a number a seed in each column, and how often a box went another way than alone.
struct Found {
    name: String,
    columns: Vec<Vec<f32>>,
    kept: [usize; 3],
    starts: usize,
}

/// Of drawn pictures, or of the photographs in `folders` where there are some.
pub fn table(model: &Model, folders: &[PathBuf]) -> Result<()> {
    println!("| fleet | {} |", COLUMNS.join(" | "));
    println!("|---{}|", "|---".repeat(COLUMNS.len()));
    let mut all = Vec::new();
    if folders.is_empty() {
        all = drawn(model)?;
    }
    for folder in folders {
        all.extend(photographed(model, folder)?);
    }
    for (number, name) in COLUMNS.iter().enumerate() {
        let means: Vec<f32> = all.iter().map(|of| mean(&of.columns[number])).collect();
        eprintln!("{name}: {:.1} over all", 100.0 * mean(&means));
    }
    let boxes = all.len() * BOXES * SEEDS as usize;
    let sum = |of: &dyn Fn(&Found) -> usize| all.iter().map(of).sum::<usize>();
    println!(
        "\nOf {boxes} boxes {} kept their one sister's prompt, {} one of nine and {} the merged one; {} trainings went on from \
         the one sister's.",
        sum(&|of| of.kept[0]),
        sum(&|of| of.kept[1]),
        sum(&|of| of.kept[2]),
        sum(&|of| of.starts),
    );
    Ok(())
}

fn drawn(model: &Model) -> Result<Vec<Found>> {
    let classes = Classes::all(model)?;
    let conditions: Vec<usize> = held_out().collect();
    let mut found: Vec<Found> = conditions
        .iter()
        .map(|&condition| Found::new(format!("drawn, {}", CONDITIONS[condition].name)))
        .collect();
    let mut mixed = Found::new("drawn, mixed".into());
    for seed in 0..SEEDS {
        let mut fleets = Vec::new();
        for &condition in &conditions {
            let shots = |number: usize| -> Result<FeatureSet> {
                let own = 1000 * (seed + 1) + number as u64;
                let mut scenes = scenes(Purpose::Train, condition, own);
                scenes.truncate(SHOTS * classes.labels.len());
                features(model, &scenes, VIEWS, own)
            };
            let test = features(model, &scenes(Purpose::Test, condition, seed), 1, seed)?;
            fleets.push(Fleet {
                shots: (0..BOXES).map(shots).collect::<Result<_>>()?,
                tests: vec![test; BOXES],
            });
        }
        for (fleet, found) in fleets.iter().zip(&mut found) {
            found.add(&classes, fleet, seed)?;
        }
        mixed.add(&classes, &Fleet::mixed(&fleets), seed)?;
    }
    found.push(mixed);
    found.iter().for_each(Found::row);
    Ok(found)
}

/// Faults of cameras that photographs are seen through in a mixed fleet.
const FAULTS: [fn(&RgbImage) -> RgbImage; 4] = [
    RgbImage::clone,
    |picture| {
        let grey = imageops::grayscale(picture);
        RgbImage::from_fn(grey.width(), grey.height(), |x, y| {
            let [light] = grey.get_pixel(x, y).0;
            [light; 3].into()
        })
    },
    |picture| imageops::rotate180(picture),
    |picture| imageops::brighten(&imageops::blur(picture, 1.5), -60),
];

fn photographed(model: &Model, folder: &Path) -> Result<Vec<Found>> {
    let Photographs { names, pictures } = photographs(folder)?;
    let labels = names.iter().map(|name| Label::new(name, None));
    let classes = Classes::of(model, labels.collect::<Result<_, _>>()?)?;
    // Each once through each fault: seeds only divide them anew.
    let mut seen = Vec::new();
    for fault in FAULTS {
        let source = Pictures {
            count: pictures.len(),
            load: &|index| Some((fault(&pictures[index].0), pictures[index].1)),
        };
        let extraction = Extraction::new(VIEWS, 0);
        seen.push(extract(model, source, extraction, Monitor::none())?);
    }
    let title = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut found = [
        Found::new(format!("{title}")),
        Found::new(format!("{title}, mixed")),
    ];
    for seed in 0..SEEDS {
        let divided = divided(&seen[0].labels, names.len(), seed)?;
        let fleets: Vec<Fleet> = seen.iter().map(|set| Fleet::of(set, &divided)).collect();
        found[0].add(&classes, &fleets[0], seed)?;
        found[1].add(&classes, &Fleet::mixed(&fleets), seed)?;
    }
    found.iter().for_each(Found::row);
    Ok(found.into())
}

/// The rows of each box's shots, and those that all are tested on.
fn divided(labels: &[usize], classes: usize, seed: u64) -> Result<(Vec<Vec<usize>>, Vec<usize>)> {
    let mut rng = Rng::with_stream(seed, 0xf1ee7);
    let (mut shots, mut test) = (vec![Vec::new(); BOXES], Vec::new());
    for class in 0..classes {
        let mut rows: Vec<usize> = (0..labels.len())
            .filter(|&row| labels[row] == class)
            .collect();
        ensure!(
            rows.len() >= BOXES * SHOTS + KEPT,
            "a label has {} pictures: {} are needed",
            rows.len(),
            BOXES * SHOTS + KEPT
        );
        rng.shuffle(&mut rows);
        test.extend(&rows[..KEPT]);
        for (own, rows) in shots.iter_mut().zip(rows[KEPT..].chunks(SHOTS)) {
            own.extend(rows);
        }
    }
    Ok((shots, test))
}

impl Fleet {
    fn of(set: &FeatureSet, (shots, test): &(Vec<Vec<usize>>, Vec<usize>)) -> Fleet {
        Fleet {
            shots: shots.iter().map(|rows| set.select(rows)).collect(),
            tests: vec![set.select(test); BOXES],
        }
    }

    /// Boxes of each fleet in turn.
    fn mixed(fleets: &[Fleet]) -> Fleet {
        let of = |number: usize| &fleets[number % fleets.len()];
        let boxes = 0..BOXES;
        Fleet {
            shots: boxes
                .clone()
                .map(|of_box| of(of_box).shots[of_box].clone())
                .collect(),
            tests: boxes
                .map(|of_box| of(of_box).tests[of_box].clone())
                .collect(),
        }
    }

    /// All shots in one place.
    fn pooled(&self) -> Result<FeatureSet> {
        let tables: Vec<_> = self.shots.iter().map(|set| set.features.view()).collect();
        Ok(FeatureSet {
            features: concatenate(Axis(0), &tables)?,
            labels: self
                .shots
                .iter()
                .flat_map(|set| set.labels.clone())
                .collect(),
        })
    }
}

/// What a box keeps, the name of what it kept in place of its own, and of what training went on from.
type Kept = (Prompt, Option<String>, Option<String>);

/// What `adapt` keeps of `shots`, with prompts of sisters; refused ones leave the template.
fn taught(
    classes: &Classes,
    shots: &FeatureSet,
    sisters: &[(String, Prompt)],
    seed: u64,
) -> Result<Kept> {
    let options = Options::of(Tuning::Rlp)
        .with_seed(seed)
        .with_answers(Answers::Best);
    let (task, template) = (classes.task(), Template::default());
    let sisters = sisters.iter();
    let sisters: Vec<Sister> = sisters
        .map(|(name, prompt)| Sister::new(name, prompt, &task, &template))
        .collect::<Result<_, _>>()?;
    let mut go_on = |_: &_| ControlFlow::Continue(());
    let outcome = adapt_with(&task, shots, &sisters, &options, &mut go_on)?;
    let mut prompt = outcome.prompt(&task, &template, &options)?;
    if !outcome.accepted() {
        let (tokens, width) = prompt.delta.shape();
        prompt.delta = edge_rlp::prompt::Delta::init(Tuning::Rlp, tokens, width, 4, 0)?;
        prompt.prototypes = None;
    }
    Ok((prompt, outcome.sisters.kept, outcome.sisters.start))
}

impl Found {
    fn new(name: String) -> Found {
        Found {
            name,
            columns: vec![Vec::new(); COLUMNS.len()],
            kept: [0; 3],
            starts: 0,
        }
    }

    fn add(&mut self, classes: &Classes, fleet: &Fleet, seed: u64) -> Result<()> {
        let (model, template) = (classes.model, Template::default());
        let own = |set: &FeatureSet| {
            let (features, shown) = set.plain();
            OwnPictures::new(classes.labels.clone(), shown, features)
        };
        let tests: Vec<OwnPictures> = fleet.tests.iter().map(own).collect();
        let right = |number: usize, prompt: &Prompt| -> Result<f32> {
            Ok(tests[number].accuracy(&Classifier::with_prompt(model, prompt)?))
        };
        let mut alone: Vec<(String, Prompt)> = Vec::new();
        for (number, shots) in fleet.shots.iter().enumerate() {
            let (prompt, _, _) = taught(classes, shots, &[], seed)?;
            alone.push((format!("box {number}"), prompt));
        }
        let contexts = merge(&alone, Mean::Contexts)?;
        let scores = ensemble(model, &alone)?;
        let (pooled, _, _) = taught(classes, &fleet.pooled()?, &[], seed)?;
        let merged = [("merged".to_owned(), scores.clone())];
        let plain = Classifier::zero_shot(model, &template, &classes.labels)?;
        let mut sums = vec![0.0; COLUMNS.len()];
        for (number, shots) in fleet.shots.iter().enumerate() {
            let mut others = alone.clone();
            let (_, by_itself) = others.remove(number);
            let next = &alone[(number + 1) % BOXES..][..1];
            let one = taught(classes, shots, next, seed)?;
            let nine = taught(classes, shots, &others, seed)?;
            let with_merged = taught(classes, shots, &merged, seed)?;
            for (count, kept) in self.kept.iter_mut().zip([&one, &nine, &with_merged]) {
                *count += usize::from(kept.1.is_some());
            }
            self.starts += usize::from(one.2.is_some());
            let judged = own(shots).judge(model, Some((&by_itself, Origin::Own)), &scores)?;
            let published = if judged.accepts() {
                &scores
            } else {
                &by_itself
            };
            let prompts = [
                &by_itself,
                &next[0].1,
                &one.0,
                &nine.0,
                &contexts,
                &scores,
                published,
                &with_merged.0,
                &pooled,
            ];
            sums[0] += tests[number].accuracy(&plain);
            for (sum, prompt) in sums[1..].iter_mut().zip(prompts) {
                *sum += right(number, prompt)?;
            }
        }
        for (column, sum) in self.columns.iter_mut().zip(sums) {
            column.push(sum / BOXES as f32);
        }
        eprintln!("{}, seed {seed}: done", self.name);
        Ok(())
    }

    fn row(&self) {
        let cells: Vec<String> = self
            .columns
            .iter()
            .map(|values| with_spread(values))
            .collect();
        println!("| {} | {} |", self.name, cells.join(" | "));
    }
}

/// The mean in per cent, and the standard deviation over seeds.
fn with_spread(values: &[f32]) -> String {
    let middle = mean(values);
    let squares: f32 = values.iter().map(|x| (x - middle).powi(2)).sum();
    let spread = (squares / (values.len().max(2) - 1) as f32).sqrt();
    format!("{:.1} ± {:.1}", 100.0 * middle, 100.0 * spread)
}
