//! The central noun: a frozen [`Model`], a [`Prompt`] (or the plain template) and labels, ready to name pictures. What the
//! text tower makes of a prompt and what an answer's scores mean is written here and nowhere else.

mod distance;
mod texts;

pub use distance::Distance;
#[doc(hidden)]
pub use texts::{context_rows, text_features, with_new_classes};

use std::sync::Arc;

use image::RgbImage;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use crate::clip::{Model, ModelError, TextTowerError};
use crate::prompt::record::short_hex;
use crate::prompt::{Calibration, Label, Prompt, Prototypes, Template, TemplateError, labels};

/// Why pictures cannot be classified with a model, a prompt and labels.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassifierError {
    /// The prompt belongs to another model.
    #[error(
        "the prompt was trained for the model {trained_for} ({trained_for_fingerprint}), and this is {model} ({fingerprint})"
    )]
    OtherModel {
        /// The name of that model.
        trained_for: String,
        /// The first digits of its fingerprint, in hexadecimal.
        trained_for_fingerprint: String,
        /// The name of the model that is here.
        model: String,
        /// The first digits of its fingerprint.
        fingerprint: String,
    },
    /// The trained change is not as large as the words that it is added to; both as `(tokens, width)`.
    #[error(
        "its change is a table of {} x {}, and the words of its template are {} x {} for the model",
        change.0, change.1, words.0, words.1
    )]
    ChangeShape {
        /// Of the change.
        change: (usize, usize),
        /// Of the template's words.
        words: (usize, usize),
    },
    /// The prototypes are of features of another size.
    #[error("its prototypes are of {found} numbers, and the model's features have {expected}")]
    PrototypeWidth {
        /// Numbers of a prototype.
        found: usize,
        /// Of a feature.
        expected: usize,
    },
    /// Nothing to choose from.
    #[error("there is no label to choose from")]
    NoLabels,
    /// The template cannot hold the labels.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The text tower refuses the tokens.
    #[error(transparent)]
    Text(#[from] TextTowerError),
    /// The image tower refuses the picture.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// `softmax(scale * images . texts)`, `[pictures, classes]`, of features `[pictures, joint]` and `[classes, joint]`.
#[doc(hidden)]
pub fn probabilities(images: ArrayView2<f32>, texts: ArrayView2<f32>, scale: f32) -> Array2<f32> {
    softmax_rows(images.dot(&texts.t()), scale)
}

/// `softmax(scale * row)` of each row of `scores`.
#[doc(hidden)]
pub fn softmax_rows(mut scores: Array2<f32>, scale: f32) -> Array2<f32> {
    for mut row in scores.outer_iter_mut() {
        let highest = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        row.mapv_inplace(|score| (scale * (score - highest)).exp());
        let total = row.sum();
        row /= total;
    }
    scores
}

/// How much speaks for any of some classes together: `log(sum(exp(sharpness * score))) / sharpness` of their `scores`, a little more
/// than the highest (the negative energy of arXiv 2010.03759).
#[doc(hidden)]
pub fn evidence(scores: impl Iterator<Item = f32> + Clone, sharpness: f32) -> f32 {
    let highest = scores.clone().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = scores
        .map(|score| (sharpness * (score - highest)).exp())
        .sum();
    highest + total.ln() / sharpness
}

/// How near a picture is to what is known where `evidence` joins what is `near`: the mean of both, between -1 and 1. What prototypes
/// add to scores is no cosine, and may be more than 1.
#[doc(hidden)]
pub fn joined(near: f32, evidence: f32) -> f32 {
    let mean = 0.5 * (near + evidence);
    mean / (1.0 + mean.abs())
}

/// Text features with a prompt's prototypes, ready to score pictures: `f . (t + w) + b` for each class.
#[derive(Debug, Clone)]
pub struct Scorer {
    /// `[classes, joint]`.
    rows: Array2<f32>,
    bias: Array1<f32>,
    /// Class means of length one, `[known classes, joint]`.
    means: Array2<f32>,
    /// Of the prototypes; 0 without.
    sharpness: f32,
}

impl Scorer {
    /// Of the `texts [classes, joint]`, and the `prototypes` of the same classes.
    ///
    /// # Errors
    /// [`ClassifierError::PrototypeWidth`] if both are not of one size.
    pub fn new(
        texts: ArrayView2<f32>,
        prototypes: Option<&Prototypes>,
    ) -> Result<Scorer, ClassifierError> {
        let Some(prototypes) = prototypes else {
            return Ok(Scorer {
                bias: Array1::zeros(texts.nrows()),
                means: Array2::zeros((0, texts.ncols())),
                rows: texts.to_owned(),
                sharpness: 0.0,
            });
        };
        let (found, expected) = (prototypes.weight.values.ncols(), texts.ncols());
        if found != expected {
            return Err(ClassifierError::PrototypeWidth { found, expected });
        }
        let mut means = prototypes.means.table();
        let known: Vec<usize> = (0..means.nrows())
            .filter(|&class| prototypes.has_shots(class))
            .collect();
        means = means.select(Axis(0), &known);
        for mut mean in means.outer_iter_mut() {
            let length = mean.dot(&mean).sqrt().max(f32::MIN_POSITIVE);
            mean /= length;
        }
        Ok(Scorer {
            rows: &texts + &prototypes.weight.table(),
            bias: Array1::from(prototypes.bias.clone()),
            means,
            sharpness: prototypes.sharpness,
        })
    }

    /// How many classes it tells apart.
    pub fn classes(&self) -> usize {
        self.rows.nrows()
    }

    /// The scores of `features [pictures, joint]`: cosines, with what prototypes add; `[pictures, classes]`.
    pub fn scores(&self, features: ArrayView2<f32>) -> Array2<f32> {
        features.dot(&self.rows.t()) + &self.bias
    }

    /// How near `feature`, with its `scores [classes]`, is to what is known: the cosine of the nearest text of `texts [classes, joint]`,
    /// and where there are class means, half of it and half that of the nearest mean, [joined] with the [evidence] of the scores
    /// where the prototypes have a sharpness.
    pub fn similarity(
        &self,
        texts: ArrayView2<f32>,
        feature: ArrayView1<f32>,
        scores: ArrayView1<f32>,
    ) -> f32 {
        let nearest = |table: ArrayView2<f32>| {
            let cosines = table.dot(&feature);
            cosines.fold(f32::NEG_INFINITY, |most, &x| most.max(x))
        };
        if self.means.nrows() == 0 {
            return nearest(texts);
        }
        let near = 0.5 * (nearest(texts) + nearest(self.means.view()));
        if self.sharpness == 0.0 {
            return near;
        }
        joined(near, evidence(scores.iter().copied(), self.sharpness))
    }
}

/// The index of the highest score; the first one on a tie.
#[doc(hidden)]
pub fn best(scores: ArrayView1<f32>) -> usize {
    let mut winner = 0;
    for (index, &score) in scores.iter().enumerate() {
        if score > scores[winner] {
            winner = index;
        }
    }
    winner
}

/// A model and the labels to choose from, with the prompt's text features computed once.
#[derive(Clone)]
pub struct Classifier<'a> {
    model: &'a Model,
    labels: Arc<[Label]>,
    /// `[classes, joint]`, L2-normalised.
    texts: Array2<f32>,
    scorer: Scorer,
    /// What cosines are multiplied by before the softmax: the model's logit scale over the prompt's temperature.
    scale: f32,
    unknown: Unknown,
    /// The labels that a prompt was not trained on: how similar their pictures are is not known.
    new: Arc<[usize]>,
}

/// When a picture shows none of the labels.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Unknown {
    /// Never: every picture is given the nearest label.
    Never,
    /// Where the best label's probability is lower than this, in `0..=1`.
    BelowProbability(f32),
    /// Where the [similarity](Answer::similarity) is lower than this, in `-1..=1`, and the best label is one that the prompt, if there
    /// is one, was trained on: of others it is not known how similar their pictures are.
    BelowSimilarity(f32),
}

/// What a picture shows, according to the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    labels: Arc<[Label]>,
    unknown: Unknown,
    /// As in the classifier.
    new: Arc<[usize]>,
    /// A probability for each label, in the order of [`Classifier::labels`]; they sum to 1.
    pub probabilities: Vec<f32>,
    /// How near the picture is to what is known (docs/calibration.md): the cosine of its feature and that of the nearest label; of
    /// a prompt with prototypes also that of the nearest label's mean picture, and how high all scores are.
    pub similarity: f32,
}

/// A label and how probable it is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scored<'a> {
    /// Its place in [`Classifier::labels`].
    pub class: usize,
    /// Its name.
    pub label: &'a str,
    /// In `0..=1`.
    pub probability: f32,
}

impl<'a> Classifier<'a> {
    /// Chooses from the labels that `prompt` was trained on, with its calibration.
    ///
    /// # Errors
    /// If the prompt belongs to another model, or does not fit this one.
    pub fn with_prompt(
        model: &'a Model,
        prompt: &Prompt,
    ) -> Result<Classifier<'a>, ClassifierError> {
        Classifier::with_prompt_for(model, prompt, &prompt.labels)
    }

    /// Chooses from other labels with the context of `prompt`; those that it was not trained on are read half in the plain
    /// template. Its calibration is used only for the labels that it was made for.
    ///
    /// # Errors
    /// If the prompt belongs to another model, or the labels do not fit its template.
    pub fn with_prompt_for(
        model: &'a Model,
        prompt: &Prompt,
        labels: &[Label],
    ) -> Result<Classifier<'a>, ClassifierError> {
        if prompt.model_fingerprint != model.fingerprint.0 {
            return Err(ClassifierError::OtherModel {
                trained_for: prompt.model_name.clone(),
                trained_for_fingerprint: short_hex(&prompt.model_fingerprint),
                model: model.name.clone(),
                fingerprint: short_hex(&model.fingerprint.0),
            });
        }
        let layout = model.layout(&prompt.template, labels)?;
        let new = prompt.new_classes(labels);
        let texts = with_new_classes(&model.text, &layout, &prompt.delta, &new)?;
        let prototypes = prompt.prototypes.as_ref();
        let prototypes = prototypes.map(|kept| kept.for_labels(&prompt.labels, labels));
        let classifier = Classifier::from_text_features(model, labels, texts, prototypes.as_ref())?;
        let classifier = Classifier {
            new: new.into(),
            ..classifier
        };
        Ok(match prompt.calibration_for(labels) {
            Some(calibration) => classifier.calibrated(calibration),
            None => classifier,
        })
    }

    /// Chooses from `labels` in the plain template, with nothing trained.
    ///
    /// # Errors
    /// If the labels do not fit the template or the model.
    pub fn zero_shot(
        model: &'a Model,
        template: &Template,
        labels: &[Label],
    ) -> Result<Classifier<'a>, ClassifierError> {
        let layout = model.layout(template, labels)?;
        let texts = text_features(&model.text, &layout, None)?;
        Classifier::from_text_features(model, labels, texts, None)
    }

    fn from_text_features(
        model: &'a Model,
        labels: &[Label],
        texts: Array2<f32>,
        prototypes: Option<&Prototypes>,
    ) -> Result<Classifier<'a>, ClassifierError> {
        if labels.is_empty() {
            return Err(ClassifierError::NoLabels);
        }
        // Pictures come next, which need the other tower.
        model.release_text();
        Ok(Classifier {
            model,
            labels: labels.into(),
            scorer: Scorer::new(texts.view(), prototypes)?,
            texts,
            scale: model.logit_scale,
            unknown: Unknown::Never,
            new: Arc::default(),
        })
    }

    fn calibrated(self, calibration: &Calibration) -> Classifier<'a> {
        Classifier {
            scale: self.model.logit_scale / calibration.temperature,
            unknown: Unknown::BelowSimilarity(calibration.least_similarity()),
            ..self
        }
    }

    /// The same without the prompt's calibration: probabilities as the model gives them, and no picture is unknown.
    pub fn uncalibrated(self) -> Classifier<'a> {
        Classifier {
            scale: self.model.logit_scale,
            unknown: Unknown::Never,
            ..self
        }
    }

    /// The same with another rule for what is unknown.
    pub fn with_unknown(self, unknown: Unknown) -> Classifier<'a> {
        Classifier { unknown, ..self }
    }

    /// The model that pictures are encoded with.
    pub fn model(&self) -> &'a Model {
        self.model
    }

    /// The labels to choose from.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// Which label has this name, or one that reads the same ([`labels::normal`]), as its place in [`Classifier::labels`].
    pub fn class_of(&self, name: &str) -> Option<usize> {
        let exact = self.labels.iter().position(|label| label.name == name);
        exact.or_else(|| {
            let same = |label: &Label| labels::same_name(&label.name, name);
            self.labels.iter().position(same)
        })
    }

    /// The labels' text features, `[classes, joint]`, L2-normalised.
    pub fn texts(&self) -> ArrayView2<'_, f32> {
        self.texts.view()
    }

    /// When a picture shows none of the labels.
    pub fn unknown(&self) -> Unknown {
        self.unknown
    }

    /// Names one picture, of any size.
    ///
    /// # Errors
    /// If the image tower refuses it.
    pub fn classify(&self, picture: &RgbImage) -> Result<Answer, ClassifierError> {
        let feature = self.model.encode_image(picture)?;
        Ok(self.answer(feature.view()))
    }

    /// Names a picture by its feature `[joint]`, as [`Model::encode_image`] gives it.
    pub fn answer(&self, feature: ArrayView1<f32>) -> Answer {
        let scores = self.scorer.scores(feature.insert_axis(Axis(0)));
        let texts = self.texts.view();
        Answer {
            labels: Arc::clone(&self.labels),
            unknown: self.unknown,
            new: Arc::clone(&self.new),
            similarity: self.scorer.similarity(texts, feature, scores.row(0)),
            probabilities: softmax_rows(scores, self.scale).into_iter().collect(),
        }
    }
}

impl Answer {
    /// The labels that were chosen from.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The labels and their probabilities, best first.
    pub fn ranking(&self) -> Vec<Scored<'_>> {
        let classes = 0..self.probabilities.len();
        let mut ranking: Vec<Scored> = classes.map(|class| self.scored(class)).collect();
        ranking.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        ranking
    }

    /// The nearest label, whether or not the picture is unknown.
    pub fn best(&self) -> Scored<'_> {
        self.scored(best(ArrayView1::from(&self.probabilities)))
    }

    /// The name of the best label; none where the picture shows none of them.
    pub fn label(&self) -> Option<&str> {
        (!self.is_unknown()).then(|| self.best().label)
    }

    /// Whether the picture shows none of the labels, by the classifier's rule, or one that is
    /// [never told](Label::is_untold).
    pub fn is_unknown(&self) -> bool {
        self.labels[self.best().class].is_untold() || self.is_below()
    }

    fn is_below(&self) -> bool {
        match self.unknown {
            Unknown::Never => false,
            Unknown::BelowProbability(least) => self.best().probability < least,
            Unknown::BelowSimilarity(least) => {
                self.similarity < least && !self.new.contains(&self.best().class)
            }
        }
    }

    /// This answer moved towards a `newer` one of the same labels by `share`, from 0 to 1.
    pub(crate) fn towards(&self, newer: &Answer, share: f32) -> Answer {
        let between = |old: f32, new: f32| old + share * (new - old);
        let pairs = self.probabilities.iter().zip(&newer.probabilities);
        Answer {
            labels: Arc::clone(&newer.labels),
            unknown: newer.unknown,
            new: Arc::clone(&newer.new),
            probabilities: pairs.map(|(&old, &new)| between(old, new)).collect(),
            similarity: between(self.similarity, newer.similarity),
        }
    }

    fn scored(&self, class: usize) -> Scored<'_> {
        Scored {
            class,
            label: &self.labels[class].name,
            probability: self.probabilities[class],
        }
    }

    /// An answer of labels "0", "1" and so on.
    #[cfg(test)]
    pub(crate) fn for_test(probabilities: &[f32], similarity: f32, unknown: Unknown) -> Answer {
        let labels = (0..probabilities.len()).map(|class| Label::new(&class.to_string(), None));
        Answer {
            labels: labels.map(Result::unwrap).collect(),
            unknown,
            new: Arc::default(),
            probabilities: probabilities.into(),
            similarity,
        }
    }
}

#[cfg(test)]
mod tests;
