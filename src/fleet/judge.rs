//! Whether a prompt that came from elsewhere is at least as good here: it and the one in use name this box's own labelled
//! pictures.

use ndarray::{Array2, Axis};

use crate::adapt::features::{Extraction, Monitor, Pictures, extract};
use crate::adapt::pictures::Choice;
use crate::adapt::{LabelledPictures, PicturesError};
use crate::classifier::{Classifier, ClassifierError};
use crate::clip::{Model, ModelError};
use crate::prompt::{Label, Prompt, labels};
use crate::store::Home;

/// The most pictures of a label that judge: a small box takes a tenth of a second for each.
const MOST_SHOTS: usize = 50;

/// Why nothing can be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// The pictures cannot be listed.
    #[error("this box's own pictures cannot be read: {0}")]
    Pictures(#[from] PicturesError),
    /// The pictures cannot be encoded.
    #[error("this box's own pictures cannot be encoded: {0}")]
    Model(#[from] ModelError),
    /// A prompt does not fit the model.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
}

/// A box's own labelled pictures as the model sees them.
#[derive(Clone, Debug)]
pub struct OwnPictures {
    /// What they can show.
    labels: Vec<Label>,
    /// What each shows, as an index.
    shown: Vec<usize>,
    /// `[pictures, joint]`.
    features: Array2<f32>,
}

/// Where the prompt in use came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From this box, or from somebody who brought it here.
    Own,
    /// From the fleet: it has not seen this box's pictures.
    Fleet,
}

/// What own pictures say.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Judgement {
    /// The accuracy of what is in use, in `0..=1`.
    pub before: f32,
    /// Of the candidate.
    pub after: f32,
    /// How many pictures judged.
    pub pictures: usize,
    /// Labels that the pictures show and the candidate does not know.
    pub unknown_labels: Vec<String>,
}

impl Judgement {
    /// The rule that adapting does no harm: the candidate is at least as good.
    pub fn accepts(&self) -> bool {
        self.after >= self.before
    }

    /// As in `71 -> 78 % on 40 own pictures`.
    pub fn in_words(&self) -> String {
        let percent = |share: f32| (100.0 * share).round();
        let pictures = if self.pictures == 1 {
            "picture"
        } else {
            "pictures"
        };
        let mut words = format!(
            "{} -> {} % on {} own {pictures}",
            percent(self.before),
            percent(self.after),
            self.pictures
        );
        if !self.unknown_labels.is_empty() {
            words += &format!("; it does not know {}", self.unknown_labels.join(", "));
        }
        words
    }
}

impl OwnPictures {
    /// Of features `[pictures, joint]` and what each shows, an index of `labels`.
    pub fn new(labels: Vec<Label>, shown: Vec<usize>, features: Array2<f32>) -> OwnPictures {
        OwnPictures {
            labels,
            shown,
            features,
        }
    }

    /// The shots that `home` keeps for the prompt `name`; none where it keeps none.
    ///
    /// # Errors
    /// If they cannot be read or encoded.
    pub fn of_shots(
        home: &Home,
        name: &str,
        model: &Model,
    ) -> Result<Option<OwnPictures>, JudgeError> {
        let folder = home.shots_folder(name).map_err(PicturesError::from)?;
        let choice = Choice {
            shots: Some(MOST_SHOTS),
            ..Choice::default()
        };
        let pictures = match LabelledPictures::from_shots(home, &folder, choice) {
            Err(PicturesError::NoShots { .. } | PicturesError::Unlabelled { .. }) => {
                return Ok(None);
            }
            pictures => pictures?,
        };
        let source = Pictures {
            count: pictures.len(),
            load: &|index| pictures.load(index),
        };
        let set = extract(model, source, Extraction::new(1, 0), Monitor::none())?;
        if set.labels.is_empty() {
            return Ok(None);
        }
        let (features, shown) = set.plain();
        Ok(Some(OwnPictures::new(
            pictures.labels.clone(),
            shown,
            features,
        )))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// What of them `classifier` names as they are labelled, in `0..=1`.
    pub fn accuracy(&self, classifier: &Classifier) -> f32 {
        let places: Vec<Option<usize>> = self
            .labels
            .iter()
            .map(|label| classifier.class_of(&label.name))
            .collect();
        let rows = self.features.axis_iter(Axis(0)).zip(&self.shown);
        let right = rows.filter(|(feature, shown)| {
            places[**shown] == Some(classifier.answer(*feature).best().class)
        });
        right.count() as f32 / self.len().max(1) as f32
    }

    /// Judges `candidate` against `in_use`, or the plain template where nothing is in use.
    ///
    /// # Errors
    /// If the candidate does not fit the model.
    pub fn judge(
        &self,
        model: &Model,
        in_use: Option<(&Prompt, Origin)>,
        candidate: &Prompt,
    ) -> Result<Judgement, JudgeError> {
        let classifier = Classifier::with_prompt(model, candidate)?;
        let knows = |label: &&Label| classifier.class_of(&label.name).is_none();
        let shown = self.labels.iter().enumerate();
        let shown = shown
            .filter(|(class, _)| self.shown.contains(class))
            .map(|(_, label)| label);
        let unknown_labels = shown
            .filter(knows)
            .map(|label| label.name.clone())
            .collect();
        let plain = || Classifier::zero_shot(model, &candidate.template, &candidate.labels);
        let before = match in_use {
            Some((prompt, Origin::Own)) if self.trained(prompt) => prompt.metrics.adapted_accuracy,
            Some((prompt, _)) if prompt.model_fingerprint == model.fingerprint.0 => {
                self.accuracy(&Classifier::with_prompt(model, prompt)?)
            }
            _ => self.accuracy(&plain()?),
        };
        Ok(Judgement {
            before,
            after: self.accuracy(&classifier),
            pictures: self.len(),
            unknown_labels,
        })
    }

    /// Whether `prompt` looks as if it had been trained on these very pictures: then what it makes of them flatters it, and what
    /// it is worth is what prompts that had not seen them made of them when it was trained, which it holds.
    fn trained(&self, prompt: &Prompt) -> bool {
        let (own, of_prompt) = (self.len(), prompt.metrics.images as usize);
        let known = |label: &Label| {
            let same = |of: &Label| labels::same_name(&of.name, &label.name);
            prompt.labels.iter().any(same)
        };
        prompt.metrics.holdout_images > 0
            && own <= 2 * of_prompt
            && of_prompt <= 2 * own
            && self.labels.iter().all(known)
    }
}
