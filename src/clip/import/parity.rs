//! Proves that a bundle computes what the files do: both are asked about the same random pictures and sentences.

use ndarray::{Array1, Array3, Axis};
use tract_core::prelude::*;

use super::onnx::vector;
use crate::clip::contents::Parity;
use crate::clip::graph::guard::{GraphError, guarded};
use crate::clip::model::{Model, ModelError};
use crate::clip::tokenizer::Tokenizer;
use crate::rng::Rng;

const TEXT_PROBES: usize = 8;
const IMAGE_PROBES: usize = 4;

/// Sentences without padding, and what the original text tower makes of them.
pub type TextReference = Vec<(Vec<u32>, Array1<f32>)>;

/// Pictures as preprocessing yields them, and what the original image tower makes of them.
pub type ImageReference = Vec<(Array3<f32>, Array1<f32>)>;

/// The lowest cosines between what the originals and what the bundle's towers make of pictures and sentences.
pub fn parity(
    model: &Model,
    pictures: &ImageReference,
    sentences: &[(Vec<u32>, Array1<f32>)],
) -> Result<Parity, ModelError> {
    let mut image = f32::INFINITY;
    for (pixels, expected) in pictures {
        let found = model.image.encode(pixels).map_err(ModelError::from)?;
        image = image.min(cosine(expected, &found));
    }
    let sequences: Vec<Vec<u32>> = sentences.iter().map(|(ids, _)| ids.clone()).collect();
    let found = model.text.encode(&sequences).map_err(ModelError::from)?;
    let mut text = f32::INFINITY;
    for ((_, expected), found) in sentences.iter().zip(found.outer_iter()) {
        text = text.min(cosine(expected, &found.to_owned()));
    }
    Ok(Parity { image, text })
}

/// What the original image tower makes of random pictures.
pub fn image_reference(original: TypedModel, size: usize) -> Result<ImageReference, GraphError> {
    let plan = guarded("prepare the original image tower", || {
        original.into_runnable()
    })?;
    let mut rng = Rng::new(0);
    let mut reference = Vec::with_capacity(IMAGE_PROBES);
    for probe in 0..IMAGE_PROBES {
        let pixels = probe_picture(&mut rng, [3, size, size], probe);
        let input = pixels.clone().insert_axis(Axis(0)).into_tensor();
        let features = guarded("run the original image tower", || {
            vector(&plan.run(tvec!(input.into()))?[0])
        })?;
        reference.push((pixels, features));
    }
    Ok(reference)
}

/// Pixels as preprocessing yields them: from noise to smooth shades.
pub fn probe_picture(
    rng: &mut Rng,
    [channels, height, width]: [usize; 3],
    probe: usize,
) -> Array3<f32> {
    let (slant, period) = (rng.range(-1.0, 1.0), rng.range(4.0, 40.0));
    let noise = 1.0 / (1 + probe) as f32;
    Array3::from_shape_fn((channels, height, width), |(c, y, x)| {
        let wave = ((x as f32 + slant * y as f32) / period + c as f32).sin();
        wave * (1.0 - noise) * 1.5 + noise * rng.normal()
    })
}

/// What the original text tower makes of random sentences, filled up with the token `filled_with`, or with a mask where
/// it takes one.
pub fn text_reference(
    original: TypedModel,
    words: &Words,
    length: usize,
    filled_with: u32,
) -> Result<TextReference, GraphError> {
    let kinds = guarded("type the original text tower", || {
        let inputs = original.input_outlets()?.iter();
        inputs
            .map(|&input| Ok(original.outlet_fact(input)?.datum_type))
            .collect::<TractResult<Vec<_>>>()
    })?;
    let plan = guarded("prepare the original text tower", || {
        original.into_runnable()
    })?;
    let mut rng = Rng::new(0);
    let mut reference = Vec::with_capacity(TEXT_PROBES);
    for probe in 0..TEXT_PROBES {
        let sequence = words.sequence(&mut rng, length, probe * probe);
        let ids = padded(&sequence, length, filled_with);
        let seen = padded(&vec![1; sequence.len()], length, 0);
        let features = guarded("run the original text tower", || {
            let inputs = [&ids, &seen].into_iter().zip(&kinds);
            let inputs =
                inputs.map(|(input, kind)| Ok(input.cast_to_dt(*kind)?.into_owned().into()));
            vector(&plan.run(inputs.collect::<TractResult<_>>()?)?[0])
        })?;
        reference.push((sequence, features));
    }
    Ok(reference)
}

/// What random sentences are made of.
pub struct Words<'a> {
    pub tokenizer: &'a Tokenizer,
    /// Tokens that the text tower has rows for.
    pub vocabulary: usize,
    pub padding: u32,
}

impl Words<'_> {
    /// A sentence of random words, at least `words + 1` of them where there is room.
    pub fn sequence(&self, rng: &mut Rng, length: usize, words: usize) -> Vec<u32> {
        let (start, end) = (self.tokenizer.start_token(), self.tokenizer.end_token());
        let around = self.tokenizer.sequence([]).len();
        let words = length.saturating_sub(around).min(1 + words);
        // CLIP's special tokens are the last ones; others' are anywhere.
        let word = |_| match start {
            Some(start) => rng.below(start.min(end).max(1) as usize) as u32,
            None if self.vocabulary <= 2 => 0,
            None => loop {
                let word = rng.below(self.vocabulary) as u32;
                if word != end && word != self.padding {
                    break word;
                }
            },
        };
        let words: Vec<u32> = (0..words).map(word).collect();
        self.tokenizer.sequence(words)
    }
}

/// Token ids `[1, length]`, filled up with `padding`.
pub fn padded(sequence: &[u32], length: usize, padding: u32) -> Tensor {
    let ids = (0..length).map(|at| i64::from(sequence.get(at).copied().unwrap_or(padding)));
    Array1::from_iter(ids).insert_axis(Axis(0)).into_tensor()
}

/// -1 where either is none: what is no number is not alike.
pub fn cosine(a: &Array1<f32>, b: &Array1<f32>) -> f32 {
    let cosine = a.dot(b) / (a.dot(a) * b.dot(b)).sqrt();
    if cosine.is_finite() { cosine } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is no number was left out of the lowest cosine, and a tower that yields nothing else passed.
    #[test]
    fn what_is_no_number_is_like_nothing() {
        let [fine, none, nothing] = [1.0, f32::NAN, 0.0].map(|x| Array1::from_elem(3, x));
        assert!((cosine(&fine, &fine) - 1.0).abs() < 1e-6);
        for other in [&none, &nothing, &(&fine * f32::INFINITY)] {
            assert_eq!((cosine(&fine, other), cosine(other, other)), (-1.0, -1.0));
        }
    }
}
