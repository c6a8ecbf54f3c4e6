//! What a prompt file says, and when it makes sense.

use super::labels::{MAX_LABEL_BYTES, MAX_LABELS, places_among, same_labels};
use super::region::check_regions;
use super::{Delta, Label, Prototypes, Region, Template, Tuning};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most context tokens of a prompt; known text towers read 77 at most.
pub const MAX_TOKENS: usize = 1024;
/// The greatest width of a prompt; known text towers are 1280 wide at most.
pub const MAX_WIDTH: usize = 16_384;
/// The longest name of a model or a device, and the longest recipe, in bytes.
const MAX_WORDS_BYTES: usize = 200;
/// The greatest sequence number of a generation.
pub const MAX_SEQUENCE: u64 = 999_999_999;

/// A trained prompt with everything needed to use it, to judge it and to say where it came from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Prompt {
    /// The model it was trained for, as people call it.
    pub model_name: String,
    /// BLAKE3 of that model's weights: the prompt is of no use with any other.
    pub model_fingerprint: [u8; 32],
    /// The sentence that labels stand in.
    pub template: Template,
    /// What it was trained to tell apart.
    pub labels: Vec<Label>,
    /// The trained change to the template's context.
    pub delta: Delta,
    /// Singular values of the whole context `P = P_init + delta`, largest first; empty where not recorded.
    pub context_singular_values: Vec<f32>,
    /// Seed of the training.
    pub seed: u64,
    /// How it was trained, in words: optimiser, dropout, views. May be empty.
    pub recipe: String,
    /// How training went.
    pub metrics: Metrics,
    /// How its scores are to be read; none where nothing was held out.
    pub calibration: Option<Calibration>,
    /// What the pictures looked like that it was trained on; none where that was not recorded.
    pub statistics: Option<FeatureStatistics>,
    /// The parts of the camera's pictures that it was trained on; none for whole pictures.
    pub regions: Vec<Region>,
    /// What is added to its scores; none where the prompt answers alone.
    pub prototypes: Option<Prototypes>,
    /// Where and when it was made.
    pub provenance: Provenance,
}

/// How training went. Accuracies are top-1 on the held-out pictures, from 0 to 1; without any they say nothing of how good
/// the prompt is: they are those on the training pictures, or 0 where nobody said what those show.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metrics {
    /// Of the plain template.
    pub zero_shot_accuracy: f32,
    /// Of the trained prompt.
    pub adapted_accuracy: f32,
    /// Pictures trained on.
    pub images: u32,
    /// Pictures held out for the comparison.
    pub holdout_images: u32,
    /// Optimiser steps.
    pub steps: u32,
}

/// How scores become probabilities, and when a picture shows none of the labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The scores are divided by it before the softmax; above 0.
    pub temperature: f32,
    /// (1 + s) / 2, where s is the least [similarity](crate::classifier::Answer::similarity) of a picture that is not unknown: from
    /// 0 to 1.
    pub unknown_threshold: f32,
}

impl Calibration {
    /// Scores are to be divided by `temperature`, above 0; what is less similar to every label than `least_similarity`, from -1 to
    /// 1, shows none of them.
    pub fn new(temperature: f32, least_similarity: f32) -> Calibration {
        Calibration {
            temperature,
            unknown_threshold: 0.5 * (1.0 + least_similarity.clamp(-1.0, 1.0)),
        }
    }

    /// The least similarity of a picture that is not unknown, from -1 to 1.
    pub fn least_similarity(&self) -> f32 {
        2.0 * self.unknown_threshold - 1.0
    }
}

/// What the pictures of a training look like to the model: enough to notice when later ones do not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureStatistics {
    /// The mean of the pictures' features, which have a length of 1.
    pub mean: Vec<f32>,
    /// The mean squared distance of a picture's feature from that mean.
    pub spread: f32,
    /// Pictures.
    pub pictures: u32,
}

impl FeatureStatistics {
    fn fault(&self) -> Option<String> {
        let norm: f32 = self.mean.iter().map(|x| x * x).sum();
        // With 1 from above: rounding of features and of their mean.
        let possible = |x: f32| (0.0..=1.001).contains(&x);
        let fine = (1..=MAX_WIDTH).contains(&self.mean.len())
            && possible(norm)
            && possible(self.spread)
            && self.pictures > 0;
        (!fine).then(|| "the statistics of its pictures cannot be those of any".into())
    }
}

/// Where and when a prompt was made: everything that may differ between two runs with the same seed.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Provenance {
    /// The machine, in words.
    pub device: String,
    /// Seconds the whole adaptation took.
    pub seconds: f32,
    /// Seconds since 1970, where the machine has a clock that can be trusted.
    pub created_unix: Option<u64>,
    /// The generation of this prompt in its home folder, from 1; 0 before it was kept.
    pub sequence: u64,
    /// The generation this one brings back, if it came from a rollback.
    pub restores: Option<u64>,
}

impl Provenance {
    /// Of this machine and this moment, after an adaptation that took so long.
    pub fn here(took: Duration) -> Provenance {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        Provenance {
            device: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            seconds: took.as_secs_f32(),
            created_unix: since.map(|since| since.as_secs()),
            ..Provenance::default()
        }
    }
}

/// A prompt that was trained for another model than the one it is to be used with.
#[derive(Debug, thiserror::Error)]
#[error(
    "{file} was trained for the model {trained_for} ({trained_for_fingerprint}) and cannot be used with {model} ({model_fingerprint}): choose that model or adapt again"
)]
#[non_exhaustive]
pub struct OtherModel {
    /// Where the prompt came from.
    pub file: String,
    /// The name of the model that it was trained for.
    pub trained_for: String,
    /// The first digits, in hexadecimal.
    pub trained_for_fingerprint: String,
    /// The name of the model that is in use.
    pub model: String,
    /// The first digits, in hexadecimal.
    pub model_fingerprint: String,
}

/// How what answers is named: by what of the prompt is tuned, and `+gda` where prototypes stand beside it.
pub fn method_name(tuning: Tuning, with_prototypes: bool) -> String {
    let prototypes = if with_prototypes { "+gda" } else { "" };
    format!("{tuning}{prototypes}")
}

impl Prompt {
    /// What answers: `rlp`, `coop`, or either with `+gda`.
    pub fn method(&self) -> String {
        method_name(self.tuning(), self.prototypes.is_some())
    }

    /// A prompt for the model of this name and fingerprint, of which nothing more is known than what was trained: the
    /// `change` to the context of `template`.
    pub fn new(
        model_name: &str,
        model_fingerprint: [u8; 32],
        template: Template,
        labels: Vec<Label>,
        change: Delta,
    ) -> Prompt {
        Prompt {
            model_name: model_name.to_owned(),
            model_fingerprint,
            template,
            labels,
            delta: change,
            context_singular_values: Vec::new(),
            seed: 0,
            recipe: String::new(),
            metrics: Metrics::default(),
            calibration: None,
            statistics: None,
            regions: Vec::new(),
            prototypes: None,
            provenance: Provenance::default(),
        }
    }

    /// Which of `labels`, as their indices, it was not trained on; labels are one where their names read the same. Labels of its own
    /// without shots are among them.
    pub fn new_classes(&self, labels: &[Label]) -> Vec<usize> {
        let prototypes = self.prototypes.as_ref();
        let without_shots = prototypes.map_or(Vec::new(), Prototypes::without_shots);
        let known = |own: usize| !without_shots.contains(&own);
        let places = places_among(&self.labels, labels).into_iter().enumerate();
        let new = places.filter(|(_, own)| !own.is_some_and(known));
        new.map(|(class, _)| class).collect()
    }

    /// Its calibration, if `labels` are those that it was made for, in whatever order.
    pub fn calibration_for(&self, labels: &[Label]) -> Option<&Calibration> {
        let calibration = self.calibration.as_ref();
        calibration.filter(|_| same_labels(&self.labels, labels))
    }

    /// What was tuned.
    pub fn tuning(&self) -> Tuning {
        self.delta.tuning()
    }

    /// Refuses a model other than the one the prompt was trained for, naming both. `file` is where the prompt
    /// came from.
    pub fn check_model(
        &self,
        file: &str,
        name: &str,
        fingerprint: &[u8; 32],
    ) -> Result<(), OtherModel> {
        if self.model_fingerprint == *fingerprint {
            return Ok(());
        }
        Err(OtherModel {
            file: file.into(),
            trained_for: self.model_name.clone(),
            trained_for_fingerprint: short_hex(&self.model_fingerprint),
            model: name.into(),
            model_fingerprint: short_hex(fingerprint),
        })
    }

    /// What is wrong with the record, in words, if anything: shapes against ranks, numbers, texts, sizes.
    pub(crate) fn fault(&self) -> Option<String> {
        words_fault("name of the model", &self.model_name, 1)
            .or_else(|| words_fault("recipe", &self.recipe, 0))
            .or_else(|| words_fault("device", &self.provenance.device, 0))
            .or_else(|| labels_fault(&self.labels))
            .or_else(|| delta_fault(&self.delta))
            .or_else(|| self.statistics.as_ref().and_then(FeatureStatistics::fault))
            .or_else(|| {
                let prototypes = self.prototypes.as_ref()?;
                prototypes.fault(self.labels.len())
            })
            .or_else(|| {
                check_regions(&self.regions)
                    .err()
                    .map(|error| error.to_string())
            })
            .or_else(|| self.numbers_fault())
    }

    fn numbers_fault(&self) -> Option<String> {
        let share = |x: f32| (0.0..=1.0).contains(&x);
        let (tokens, width) = self.delta.shape();
        let spectrum = &self.context_singular_values;
        let fault = if !share(self.metrics.zero_shot_accuracy)
            || !share(self.metrics.adapted_accuracy)
        {
            "an accuracy is not between 0 and 1"
        } else if !(self.provenance.seconds.is_finite() && self.provenance.seconds >= 0.0) {
            "the time taken is not a duration"
        } else if self.provenance.sequence > MAX_SEQUENCE {
            "its sequence number is too large"
        } else if !(spectrum.is_empty() || spectrum.len() == tokens.min(width)) {
            "the singular values are not as many as the context has"
        } else if !spectrum.iter().all(|x| x.is_finite() && *x >= 0.0)
            || !spectrum.is_sorted_by(|a, b| a >= b)
        {
            "the singular values are not numbers from 0 up, largest first"
        } else if self.calibration.as_ref().is_some_and(|calibration| {
            let temperature = calibration.temperature;
            !(temperature.is_finite() && temperature > 0.0 && share(calibration.unknown_threshold))
        }) {
            "the calibration is not a temperature above 0 and a threshold between 0 and 1"
        } else {
            return None;
        };
        Some(fault.into())
    }
}

fn labels_fault(labels: &[Label]) -> Option<String> {
    if labels.is_empty() || labels.len() > MAX_LABELS {
        return Some(format!(
            "it has {} labels, 1 to {MAX_LABELS} are allowed",
            labels.len()
        ));
    }
    let mut names = HashSet::new();
    labels.iter().find_map(
        |label| match Label::of_prompt(&label.name, Some(&label.words)) {
            Err(fault) => {
                let name: String = label.name.chars().take(MAX_LABEL_BYTES).collect();
                Some(format!("the label {name:?} cannot be used: {fault}"))
            }
            Ok(clean) if clean != *label => {
                Some(format!("the label {:?} has stray spaces", label.name))
            }
            Ok(_) if !names.insert(&label.name) => {
                Some(format!("the label {:?} is there twice", label.name))
            }
            Ok(_) => None,
        },
    )
}

fn delta_fault(delta: &Delta) -> Option<String> {
    let (tokens, width) = delta.shape();
    if !(1..=MAX_TOKENS).contains(&tokens) || !(1..=MAX_WIDTH).contains(&width) {
        return Some(format!(
            "a context of {tokens} tokens of width {width} cannot be"
        ));
    }
    let finite = match delta {
        Delta::LowRank(factors) => {
            let rank = factors.u.ncols();
            if rank == 0 || rank > tokens.min(width) || factors.v.nrows() != rank {
                return Some(format!(
                    "rank {rank} does not fit {tokens} tokens of width {width}"
                ));
            }
            factors.u.iter().chain(&factors.v).all(|x| x.is_finite())
        }
        Delta::Full(table) => table.iter().all(|x| x.is_finite()),
    };
    (!finite).then(|| "a trained number is not finite".into())
}

/// Words of at most [`MAX_WORDS_BYTES`] bytes without control characters, or what is wrong.
fn words_fault(what: &str, words: &str, at_least: usize) -> Option<String> {
    let length = at_least..=MAX_WORDS_BYTES;
    let fine = length.contains(&words.len()) && !words.contains(char::is_control);
    (!fine)
        .then(|| format!("the {what} is not {at_least} to {MAX_WORDS_BYTES} bytes of plain text"))
}

/// The first eight digits, enough to tell two models apart at a glance.
pub(crate) fn short_hex(fingerprint: &[u8; 32]) -> String {
    fingerprint
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::prompt::{Factors, density};
    use crate::rng::Rng;
    use ndarray::Array2;

    /// A prompt of rank 1 at width 512 with ten labels.
    pub fn record() -> Prompt {
        let mut rng = Rng::new(11);
        let mut factors = Factors::init(4, 512, 1, 11).unwrap();
        factors.v = Array2::from_shape_simple_fn((1, 512), || 0.3 * rng.normal());
        let context = Array2::from_shape_simple_fn((4, 512), || 0.02 * rng.normal());
        let names = [
            "mug",
            "key",
            "bolt",
            "washer",
            "scissors",
            "bottle",
            "glove",
            "hammer",
            "red_lamp",
            "empty shelf",
        ];
        Prompt {
            model_name: "default".into(),
            model_fingerprint: *blake3::hash(b"weights").as_bytes(),
            template: Template::default(),
            labels: names
                .iter()
                .map(|name| Label::new(name, None).unwrap())
                .collect(),
            context_singular_values: density::singular_values((context + factors.product()).view()),
            delta: Delta::LowRank(factors),
            seed: 11,
            recipe: "a test".into(),
            metrics: Metrics {
                zero_shot_accuracy: 0.625,
                adapted_accuracy: 0.875,
                images: 160,
                holdout_images: 40,
                steps: 60,
            },
            calibration: Some(Calibration {
                temperature: 1.25,
                unknown_threshold: 0.5,
            }),
            statistics: None,
            regions: Vec::new(),
            prototypes: None,
            provenance: Provenance {
                device: "a test".into(),
                seconds: 1.5,
                created_unix: Some(1_700_000_000),
                sequence: 1,
                restores: None,
            },
        }
    }

    /// Statistics of `pictures` whose mean is `norm` long.
    pub fn statistics(norm: f32, pictures: u32) -> FeatureStatistics {
        FeatureStatistics {
            mean: vec![0.0, -norm, 0.0],
            spread: 1.0 - (norm * norm).min(1.0),
            pictures,
        }
    }

    #[test]
    fn a_sound_record_has_no_fault_and_each_broken_one_has() {
        assert_eq!(record().fault(), None);
        type Damage = fn(&mut Prompt);
        let damages: [(&str, Damage); 19] = [
            ("recipe", |r| r.recipe = "\u{1b}[2J".into()),
            ("model", |r| r.model_name.clear()),
            ("model", |r| r.model_name = "a\nb".into()),
            ("device", |r| r.provenance.device = "x".repeat(201)),
            ("0 labels", |r| r.labels.clear()),
            ("twice", |r| r.labels[1] = r.labels[0].clone()),
            ("\"../etc\"", |r| r.labels[0].name = "../etc".into()),
            ("stray", |r| r.labels[0].words = " mug".into()),
            ("finite", |r| {
                r.delta = Delta::Full(Array2::from_elem((4, 512), f32::NAN))
            }),
            ("0 tokens", |r| {
                r.delta = Delta::Full(Array2::zeros((0, 512)))
            }),
            ("rank 5", |r| {
                let (u, v) = (Array2::zeros((4, 5)), Array2::zeros((5, 512)));
                r.delta = Delta::LowRank(Factors { u, v });
            }),
            ("accuracy", |r| r.metrics.adapted_accuracy = 1.5),
            ("duration", |r| r.provenance.seconds = f32::INFINITY),
            ("sequence", |r| r.provenance.sequence = MAX_SEQUENCE + 1),
            ("singular", |r| r.context_singular_values.reverse()),
            ("calibration", |r| {
                r.calibration = Some(Calibration {
                    temperature: 0.0,
                    unknown_threshold: 0.5,
                });
            }),
            ("statistics", |r| r.statistics = Some(statistics(0.8, 0))),
            ("statistics", |r| r.statistics = Some(statistics(1.2, 9))),
            ("statistics", |r| {
                r.statistics = Some(statistics(f32::NAN, 9))
            }),
        ];
        for (part, damage) in damages {
            let mut broken = record();
            damage(&mut broken);
            let fault = broken.fault().unwrap_or_default();
            assert!(fault.contains(part), "{part}: {fault}");
        }
    }

    #[test]
    fn labels_are_new_by_name_or_without_shots() {
        let mut prompt = record();
        let mut labels = prompt.labels.clone();
        assert!(prompt.new_classes(&labels).is_empty());
        labels[2] = Label::new("zebra", None).unwrap();
        labels[0] = Label::new(&labels[0].name.to_uppercase(), None).unwrap();
        assert_eq!(prompt.new_classes(&labels), [2]);
        let mut kept = crate::prompt::prototypes::tests::prototypes(labels.len(), 5);
        kept.means.scales[1] = 0.0;
        prompt.prototypes = Some(kept.clone());
        assert_eq!(prompt.new_classes(&labels), [1, 2]);
        // Of several prompts without class means together: nobody knows what they were shown.
        kept.means.scales.fill(0.0);
        prompt.prototypes = Some(kept);
        assert_eq!(prompt.new_classes(&labels), [2]);
    }

    #[test]
    fn a_prompt_of_another_model_is_refused_with_both_names() {
        let record = record();
        assert!(
            record
                .check_model("shelf.rlp", "default", &record.model_fingerprint)
                .is_ok()
        );
        let message = record
            .check_model("shelf.rlp", "vit-b-32", &[7; 32])
            .unwrap_err()
            .to_string();
        for part in ["shelf.rlp", "default", "vit-b-32", "07070707"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
