//! `edge-rlp prompt diff`: how far two prompts of one model are from each other, and where they answer differently.

use crate::classifier::{Classifier, Distance, context_rows};
use crate::cli::output::percent;
use crate::cli::{Context, Exit, model};
use crate::clip::Model;
use crate::frames::{MAX_PIXELS, read_picture};
use crate::prompt::labels::{UNKNOWN, places_among, same_name};
use crate::prompt::{Label, density};
use crate::store::LoadedPrompt;
use ndarray::Array2;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// How many changed pictures are shown to people.
const SHOWN: usize = 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// A prompt by name, or a prompt file
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The prompt to compare it with
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Name the pictures in and below DIR that the two answer differently
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// A model of the home folder, or a bundle file [default: the one that A was made with]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

/// A prompt as its model sees it.
struct Side<'a> {
    name: String,
    classifier: Classifier<'a>,
    /// `[n, d]`, template and change.
    context: Array2<f32>,
    /// `[n, d]`, the change alone.
    change: Array2<f32>,
}

impl<'a> Side<'a> {
    fn new(name: &Path, loaded: &LoadedPrompt, model: &'a Model) -> anyhow::Result<Side<'a>> {
        let record = &loaded.record;
        let layout = model.layout(&record.template, &record.labels)?;
        Ok(Side {
            name: name.display().to_string(),
            classifier: Classifier::with_prompt(model, record)?,
            context: context_rows(&model.text, &layout, Some(&record.delta))?,
            change: record.delta.matrix(),
        })
    }

    fn labels(&self) -> &[Label] {
        self.classifier.labels()
    }

    fn spectrum(&self) -> Vec<f32> {
        density::singular_values(self.context.view())
    }
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let load = |name: &PathBuf| context.home.load(name);
    let (a, b) = (load(&arguments.a)?, load(&arguments.b)?);
    for warning in [&a, &b].iter().filter_map(|loaded| loaded.warning.as_ref()) {
        context.output.warn(warning);
    }
    let paths = match &arguments.images {
        Some(dir) => context.output.pictures_in(&[dir])?,
        None => Vec::new(),
    };
    let model = model::open_for(arguments.model.as_deref(), Some(&a), context)?;
    b.record.check_model(
        &b.path.display().to_string(),
        &model.name,
        &model.fingerprint.0,
    )?;
    let distance = Distance::between(&model, &a.record, &b.record)?;
    let a = Side::new(&arguments.a, &a, &model)?;
    let b = Side::new(&arguments.b, &b, &model)?;
    let predictions = Predictions::of(&a, &b, &paths, context)?;

    let mut object = json!({
        "a": side(&a),
        "b": side(&b),
        "distance": distance.euclidean,
        "cosine": distance.cosine,
        "text_cosine": distance.text_cosine,
        "only_in_a": only_in(&a, &b),
        "only_in_b": only_in(&b, &a),
    });
    if arguments.images.is_some() {
        object["pictures"] = predictions.pictures.into();
        object["changed"] = predictions.changed.iter().map(Changed::json).collect();
        object["skipped_images"] = predictions.skipped.into();
    }
    context.output.object(&object)?;
    for line in lines(&a, &b, &distance) {
        context.output.line(line);
    }
    if arguments.images.is_some() {
        predictions.print(&a, &b, context);
    }
    Ok(match predictions.skipped {
        0 => Exit::Done,
        _ => Exit::NothingAccepted,
    })
}

/// A picture that the two prompts name differently, one of them perhaps "unknown", with the probability of the best label.
struct Changed {
    source: String,
    /// The name of its folder, where that is a label.
    truth: Option<String>,
    a: (String, f32),
    b: (String, f32),
}

impl Changed {
    fn json(&self) -> Value {
        let side = |(label, score): &(String, f32)| json!({ "label": label, "score": score });
        json!({ "source": self.source, "truth": self.truth, "a": side(&self.a), "b": side(&self.b) })
    }
}

#[derive(Default)]
struct Predictions {
    pictures: usize,
    skipped: usize,
    changed: Vec<Changed>,
}

impl Predictions {
    fn of(a: &Side, b: &Side, paths: &[PathBuf], context: &Context) -> anyhow::Result<Predictions> {
        let mut found = Predictions::default();
        let bar = context.output.progress("pictures", paths.len() as u64);
        for path in paths {
            if context.stopped() {
                break;
            }
            bar.inc(1);
            let picture = match read_picture(path, MAX_PIXELS) {
                Ok(picture) => picture,
                Err(error) => {
                    context.output.warn(format!("{error}; skipped"));
                    found.skipped += 1;
                    continue;
                }
            };
            let feature = a.classifier.model().encode_image(&picture)?;
            found.pictures += 1;
            let answers = [a, b].map(|side| side.classifier.answer(feature.view()));
            let [of_a, of_b] = answers.each_ref().map(|answer| {
                let label = answer.label().unwrap_or(UNKNOWN);
                (label.to_owned(), answer.best().probability)
            });
            if same_name(&of_a.0, &of_b.0) {
                continue;
            }
            let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
            let folder = folder.to_string_lossy().into_owned();
            let mut labels = a.labels().iter().chain(b.labels());
            found.changed.push(Changed {
                source: path.display().to_string(),
                truth: labels
                    .any(|label| same_name(&label.name, &folder))
                    .then_some(folder),
                a: of_a,
                b: of_b,
            });
        }
        bar.finish_and_clear();
        Ok(found)
    }

    fn print(&self, a: &Side, b: &Side, context: &Context) {
        let right = |of: fn(&Changed) -> &String| {
            let is_right = |changed: &&Changed| {
                let truth = changed.truth.as_ref();
                truth.is_some_and(|truth| same_name(truth, of(changed)))
            };
            self.changed.iter().filter(is_right).count()
        };
        context.output.line(format!(
            "{} of {} pictures are named differently; of those {} are right with {}, {} with {}",
            self.changed.len(),
            self.pictures,
            right(|changed| &changed.a.0),
            a.name,
            right(|changed| &changed.b.0),
            b.name,
        ));
        for changed in self.changed.iter().take(SHOWN) {
            context.output.line(format!(
                "{}  {} {} -> {} {}",
                changed.source,
                changed.a.0,
                percent(changed.a.1),
                changed.b.0,
                percent(changed.b.1),
            ));
        }
        if self.changed.len() > SHOWN {
            let more = self.changed.len() - SHOWN;
            context
                .output
                .line(format!("and {more} more (--json names all)"));
        }
    }
}

fn side(side: &Side) -> Value {
    let spectrum = side.spectrum();
    json!({
        "prompt": side.name,
        "information_density": density::information_density(&spectrum, 1),
        "singular_values": spectrum,
        "change_norm": side.change.iter().map(|x| x * x).sum::<f32>().sqrt(),
    })
}

fn only_in(one: &Side, other: &Side) -> Vec<String> {
    let places = places_among(other.labels(), one.labels()).into_iter();
    let missing = places
        .zip(one.labels())
        .filter(|(place, _)| place.is_none());
    missing.map(|(_, label)| label.name.clone()).collect()
}

fn lines(a: &Side, b: &Side, distance: &Distance) -> Vec<String> {
    let number = |value: Option<f32>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    let mut lines = vec![
        format!(
            "distance     {} (Frobenius norm of the difference of the contexts)",
            number(distance.euclidean)
        ),
        format!("changes      cosine {}", number(distance.cosine)),
        format!(
            "labels       mean cosine {} of the text features of shared labels",
            number(distance.text_cosine)
        ),
    ];
    for side in [a, b] {
        let spectrum = side.spectrum();
        let values: Vec<String> = spectrum.iter().map(|value| format!("{value:.4}")).collect();
        lines.push(format!(
            "spectrum     {}: {} (information density {})",
            side.name,
            values.join("  "),
            percent(density::information_density(&spectrum, 1))
        ));
    }
    for (side, other) in [(a, b), (b, a)] {
        let only = only_in(side, other);
        if !only.is_empty() {
            lines.push(format!("only in {}: {}", side.name, only.join(", ")));
        }
    }
    lines
}
