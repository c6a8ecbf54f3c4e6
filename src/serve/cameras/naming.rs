//! What names the regions of a camera: the prompt of each where it was trained, else the plain template with the labels that
//! were chosen for it, else nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::Common;
use crate::classifier::{Classifier, ClassifierError, Unknown};
use crate::clip::Model;
use crate::prompt::{Label, LabelsError, Prompt, Template, labels};
use crate::serve::config::{CameraConfig, RegionConfig};
use crate::store::{Home, LABELS_FILE, StoreError};

/// Fewer labels leave nothing to tell apart.
const MIN_LABELS: usize = 2;

/// What is to name one region.
pub struct Namer {
    pub region: RegionConfig,
    model: Arc<Model>,
    with: With,
}

enum With {
    Prompt(Box<Prompt>),
    Template(Vec<Label>),
}

impl Namer {
    /// Of a region; none where nothing is known to choose from.
    ///
    /// # Errors
    /// In words for people: the prompt is damaged, its model is gone, its labels cannot be read.
    pub fn of(region: &RegionConfig, common: &Common) -> Result<Option<Namer>, String> {
        let with = match common.home.load(&region.prompt) {
            Ok(loaded) => With::Prompt(Box::new(loaded.record)),
            Err(error) if error.is_missing_prompt() => {
                let labels =
                    labels_of(&common.home, &region.prompt).map_err(|error| error.to_string())?;
                if labels.len() < MIN_LABELS {
                    return Ok(None);
                }
                With::Template(labels)
            }
            Err(error) => return Err(error.to_string()),
        };
        let model = match &with {
            With::Prompt(prompt) => common.models.of_prompt(prompt),
            With::Template(_) => common.models.named(common.usual_model().as_deref()),
        };
        Ok(Some(Namer {
            region: region.clone(),
            model: model.map_err(|error| error.to_string())?,
            with,
        }))
    }

    /// Ready to name pictures.
    ///
    /// # Errors
    /// If prompt, labels and model do not fit each other.
    pub fn classifier(&self) -> Result<Classifier<'_>, ClassifierError> {
        let classifier = match &self.with {
            With::Prompt(prompt) => Classifier::with_prompt(&self.model, prompt),
            With::Template(labels) => {
                Classifier::zero_shot(&self.model, &Template::default(), labels)
            }
        }?;
        Ok(match self.region.threshold {
            Some(threshold) => classifier.with_unknown(Unknown::BelowProbability(threshold)),
            None => classifier,
        })
    }

    /// The generation of the prompt; none where nothing was trained.
    pub fn generation(&self) -> Option<u64> {
        match &self.with {
            With::Prompt(prompt) => Some(prompt.provenance.sequence),
            With::Template(_) => None,
        }
    }
}

/// Why labels cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum NoLabels {
    /// The label file is damaged.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// Shots cannot be listed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The labels that were chosen for a prompt: those of the file beside its shots, else those that it was trained on, else
/// those that there are shots of.
///
/// # Errors
/// If what is there cannot be read.
pub fn labels_of(home: &Home, prompt: &str) -> Result<Vec<Label>, NoLabels> {
    if let Some(text) = home.shot_labels(prompt)? {
        return match labels::parse(&text, &format!("{LABELS_FILE} of {prompt}")) {
            Err(LabelsError::Empty { .. }) => Ok(Vec::new()),
            labels => Ok(labels?),
        };
    }
    if let Ok(loaded) = home.load(prompt) {
        return Ok(loaded.record.labels);
    }
    let mut names: Vec<String> = home
        .shots_in(&home.shots_folder(prompt)?)?
        .into_iter()
        .map(|shot| shot.label)
        .collect();
    names.sort();
    names.dedup();
    // Folders have names that labels can have, or somebody made them by hand.
    Ok(names
        .iter()
        .filter_map(|name| Label::new(name, None).ok())
        .collect())
}

/// When a file was changed, and its size; none where it is missing.
pub type Stamp = Option<(SystemTime, u64)>;

/// When the files were changed that decide what names the regions of `camera`, for other programs may change them.
/// The file of each region's prompt, and that of its labels.
pub fn stamp(camera: &CameraConfig, home: &Home) -> Vec<[Stamp; 2]> {
    let of = |path: &Path| {
        let metadata = path.metadata().ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let regions = camera.regions.iter();
    regions
        .map(|region| {
            let prompt = home.prompt_path(&region.prompt);
            let labels = home.shots_folder(&region.prompt);
            [
                prompt.ok().and_then(|path| of(&path)),
                labels.ok().and_then(|folder| of(&folder.join(LABELS_FILE))),
            ]
        })
        .collect()
}
