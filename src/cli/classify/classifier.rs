//! Labels as text features, ready for pictures, and how their scores are to be read. It must not know where pictures
//! come from nor how answers are told.

use super::super::Context;
use crate::adapt::loss::softmax_rows;
use crate::clip::Model;
use crate::prompt::{Label, Template};
use crate::store::{Calibration, Loaded};
use image::RgbImage;
use ndarray::{Array2, Axis};
use std::time::{Duration, Instant};

/// A model and the labels to choose from.
pub struct Classifier<'a> {
    model: &'a Model,
    pub labels: Vec<Label>,
    /// `[classes, joint]`.
    texts: Array2<f32>,
    /// What cosines are multiplied by before the softmax.
    scale: f32,
    pub unknown: Unknown,
}

/// When a picture shows none of the labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unknown {
    /// Where the best label's probability is lower.
    BelowProbability(f32),
    /// Where the cosine of the nearest label is lower.
    BelowSimilarity(f32),
}

/// What a picture shows, as far as the model can tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// A probability for each label.
    pub probabilities: Vec<f32>,
    /// The cosine of the nearest label.
    pub similarity: f32,
    pub latency: Duration,
}

impl<'a> Classifier<'a> {
    /// Labels `labels`, or those of `prompt`; one of both is given. `threshold` replaces what the prompt calls unknown.
    ///
    /// # Errors
    /// If the labels do not fit the template or the model.
    pub fn new(
        model: &'a Model,
        labels: Option<Vec<Label>>,
        prompt: Option<Loaded>,
        threshold: Option<f32>,
        context: &Context,
    ) -> anyhow::Result<Classifier<'a>> {
        let template = prompt
            .as_ref()
            .map_or_else(Template::default, |loaded| loaded.record.template.clone());
        let calibration = calibration(labels.as_deref(), prompt.as_ref(), context);
        let labels = match (labels, &prompt) {
            (Some(labels), _) => labels,
            (None, Some(loaded)) => loaded.record.labels.clone(),
            (None, None) => unreachable!("without labels a prompt was loaded"),
        };
        let layout = model.layout(&template, &labels)?;
        let mut rows = model.text.token_rows(&layout.context)?;
        match &prompt {
            Some(loaded) => {
                context
                    .output
                    .detail(format!("prompt {}", loaded.path.display()));
                rows += &loaded.record.delta.matrix();
            }
            None => context
                .output
                .note("zero-shot: no prompt is in use (--prompt NAME uses one)"),
        }
        let texts = model.text.class_features(rows.view(), &layout.suffixes)?;
        let unknown = match (threshold, &calibration) {
            (Some(least), _) => Unknown::BelowProbability(least),
            (None, Some(of)) => Unknown::BelowSimilarity(of.least_similarity()),
            (None, None) => Unknown::BelowProbability(0.0),
        };
        let temperature = calibration.map_or(1.0, |calibration| calibration.temperature);
        Ok(Classifier {
            model,
            labels,
            texts,
            scale: model.logit_scale / temperature,
            unknown,
        })
    }

    /// Names one picture.
    ///
    /// # Errors
    /// If the image tower refuses it.
    pub fn classify(&self, picture: &RgbImage) -> anyhow::Result<Answer> {
        let started = Instant::now();
        let feature = self.model.encode_image(picture)?.insert_axis(Axis(0));
        let similarities = feature.dot(&self.texts.t());
        let similarity = similarities.fold(f32::NEG_INFINITY, |most, &x| most.max(x));
        let probabilities = softmax_rows(similarities, self.scale);
        Ok(Answer {
            probabilities: probabilities.into_iter().collect(),
            similarity,
            latency: started.elapsed(),
        })
    }
}

impl Answer {
    /// Classes and their probabilities, best first.
    pub fn ranking(&self) -> Vec<(usize, f32)> {
        let mut ranking: Vec<(usize, f32)> =
            self.probabilities.iter().copied().enumerate().collect();
        ranking.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranking
    }

    /// The best class and its probability.
    pub fn best(&self) -> (usize, f32) {
        let pairs = self.probabilities.iter().copied().enumerate();
        let better = |best: (usize, f32), next: (usize, f32)| match next.1 > best.1 {
            true => next,
            false => best,
        };
        pairs.reduce(better).unwrap_or((0, 0.0))
    }

    /// Whether the picture shows none of the labels.
    pub fn is_unknown(&self, unknown: Unknown) -> bool {
        match unknown {
            Unknown::BelowProbability(least) => self.best().1 < least,
            Unknown::BelowSimilarity(least) => self.similarity < least,
        }
    }
}

/// The prompt's calibration, if it has one and is used with the labels that it was made for; else `-v` says why not.
fn calibration(
    labels: Option<&[Label]>,
    prompt: Option<&Loaded>,
    context: &Context,
) -> Option<Calibration> {
    let record = &prompt?.record;
    let own = labels.is_none_or(|labels| labels == record.labels);
    let why = match &record.calibration {
        Some(calibration) if own => return Some(calibration.clone()),
        Some(_) => "the prompt's calibration is for the labels it was trained on, not for these",
        None => "the prompt holds no calibration",
    };
    context.output.detail(format!(
        "{why}: scores are as the model gives them, and no picture is unknown unless --threshold says so"
    ));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_what_lies_below_the_threshold_that_is_in_force() {
        let answer = Answer {
            probabilities: vec![0.1, 0.6, 0.3],
            similarity: 0.4,
            latency: Duration::ZERO,
        };
        assert_eq!(answer.best(), (1, 0.6));
        assert_eq!(answer.ranking(), [(1, 0.6), (2, 0.3), (0, 0.1)]);
        for (unknown, expected) in [
            (Unknown::BelowProbability(0.0), false),
            (Unknown::BelowProbability(0.7), true),
            (Unknown::BelowSimilarity(0.3), false),
            (Unknown::BelowSimilarity(0.5), true),
        ] {
            assert_eq!(answer.is_unknown(unknown), expected, "{unknown:?}");
        }
    }
}
