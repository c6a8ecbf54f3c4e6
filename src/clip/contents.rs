//! Which tensors of a bundle make which tower: written here and read here, name by name.

use std::sync::Arc;

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};
use tract_core::prelude::{IntoTensor, Tensor};

use super::bundle::{Bundle, BundleError, BundleWriter};
use super::graph::stored::StoredTensor;
use super::image_tower::GraphText;
use super::preprocess::Preprocess;
use super::text_tower::{
    BlockWeights, LinearWeights, NormWeights, Pooling, PoolingHeadWeights, Reading,
    TextTowerWeights,
};
use crate::ops::Activation;

/// What a bundle says of a model beside its tensors; part of the fingerprint.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub preprocess: Preprocess,
    /// s: features' inner products are multiplied by it before the softmax.
    pub logit_scale: f32,
    /// What is added to them before the sigmoid, in a model that was trained with one.
    pub logit_bias: Option<f32>,
    pub text: TextDescription,
}

/// The description in a bundle of version 1: every CLIP with a causal text tower.
type First = (Preprocess, f32, TextDescription);
/// In a bundle of versions 2 and 3: the same, whether there is a start token, the bias, how texts are read. In version 3
/// that may be by a head of attention, which has tensors of its own.
type Second = (Preprocess, f32, TextDescription, bool, Option<f32>, Reading);

impl Description {
    /// The bytes of a bundle with this description, in the oldest version that can hold it.
    pub fn finish(&self, writer: BundleWriter, about: &About) -> Result<Vec<u8>, BundleError> {
        let Description {
            preprocess,
            logit_scale,
            logit_bias,
            text,
        } = self;
        let plain = text.starts && logit_bias.is_none() && text.reading == Reading::Causal;
        if plain {
            return writer.finish(1, &(preprocess, logit_scale, text), about);
        }
        let (starts, reading) = (text.starts, text.reading);
        let second = (preprocess, logit_scale, text, starts, logit_bias, reading);
        let by_attention = matches!(
            reading,
            Reading::Whole {
                pooling: Pooling::Attention,
                ..
            }
        );
        writer.finish(if by_attention { 3 } else { 2 }, &second, about)
    }

    /// The description of a bundle of any version.
    pub fn read(bundle: &Bundle) -> Result<Description, BundleError> {
        if bundle.version() == 1 {
            let (preprocess, logit_scale, text): First = bundle.description()?;
            return Ok(Description {
                preprocess,
                logit_scale,
                logit_bias: None,
                text,
            });
        }
        let second: Second = bundle.description()?;
        let (preprocess, logit_scale, text, starts, logit_bias, reading) = second;
        let text = TextDescription {
            starts,
            reading,
            ..text
        };
        Ok(Description {
            preprocess,
            logit_scale,
            logit_bias,
            text,
        })
    }
}

/// What the tensors of the text tower do not say about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextDescription {
    pub blocks: u32,
    pub heads: u32,
    pub activation: Activation,
    /// Of every layer norm.
    pub epsilon: f32,
    pub projection_bias: bool,
    /// 0 where there is none.
    pub start_token: u32,
    pub end_token: u32,
    /// Whether texts start with a token of their own.
    #[serde(skip, default = "yes")]
    pub starts: bool,
    #[serde(skip)]
    pub reading: Reading,
}

fn yes() -> bool {
    true
}

/// A model's name and provenance; not part of the fingerprint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub name: String,
    pub precision: Precision,
    pub parity: Parity,
}

/// How large matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Precision {
    /// Eight bits, symmetric, one scale for each output channel.
    Int8,
    /// 32-bit floats.
    F32,
}

impl Precision {
    /// `int8` or `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Int8 => "int8",
            Precision::F32 => "f32",
        }
    }
}

/// The lowest cosine, over the probes of the import, between features of the original and of the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parity {
    /// Of image features.
    pub image: f32,
    /// Of text features.
    pub text: f32,
}

/// The bundle's entry with the Hugging Face tokenizer.json.
pub(super) const TOKENIZER: &str = "tokenizer.json";
const GRAPH: &str = "image.graph";
pub(super) const IMAGE: &str = "image.weights.";
/// What the names of the text tower's tensors begin with.
pub(super) const TEXT: &str = "text.";

impl TextDescription {
    pub(super) fn of(weights: &TextTowerWeights) -> TextDescription {
        TextDescription {
            blocks: weights.blocks.len() as u32,
            heads: weights.heads as u32,
            activation: weights.activation,
            epsilon: weights.final_norm.epsilon,
            projection_bias: weights.projection_bias.is_some(),
            start_token: weights.start_token.unwrap_or(0),
            end_token: weights.end_token,
            starts: weights.start_token.is_some(),
            reading: weights.reading,
        }
    }
}

/// Writes tensors in one precision.
pub(super) struct WeightWriter<'a> {
    pub bundle: &'a mut BundleWriter,
    pub precision: Precision,
}

impl WeightWriter<'_> {
    fn matrix(&mut self, name: &str, matrix: ArrayView2<f32>) {
        match self.precision {
            Precision::Int8 => self.bundle.int8(name, matrix.into_dyn(), 0),
            Precision::F32 => self.bundle.f32(name, matrix.into_dyn()),
        }
    }

    fn vector(&mut self, name: &str, vector: ArrayView1<f32>) {
        self.bundle.f32(name, vector.into_dyn());
    }

    fn linear(&mut self, name: &str, linear: &LinearWeights) {
        self.matrix(&format!("{name}.weight"), linear.weight.floats().view());
        self.vector(&format!("{name}.bias"), linear.bias.view());
    }

    fn norm(&mut self, name: &str, norm: &NormWeights) {
        self.vector(&format!("{name}.gain"), norm.gain.view());
        self.vector(&format!("{name}.bias"), norm.bias.view());
    }

    /// The text tower. Embeddings are matrices with a scale for each row; positions stay floats.
    pub fn text(&mut self, weights: &TextTowerWeights) {
        self.matrix(
            "text.token_embedding",
            weights.token_embedding.matrix().view(),
        );
        self.bundle
            .f32("text.positions", weights.positions.view().into_dyn());
        for (index, block) in weights.blocks.iter().enumerate() {
            let name = |part: &str| format!("text.blocks.{index}.{part}");
            self.norm(&name("norm1"), &block.norm1);
            self.linear(&name("query"), &block.query);
            self.linear(&name("key"), &block.key);
            self.linear(&name("value"), &block.value);
            self.linear(&name("out"), &block.out);
            self.norm(&name("norm2"), &block.norm2);
            self.linear(&name("up"), &block.up);
            self.linear(&name("down"), &block.down);
        }
        self.norm("text.final_norm", &weights.final_norm);
        self.matrix("text.projection", weights.projection.floats().view());
        if let Some(bias) = &weights.projection_bias {
            self.vector("text.projection_bias", bias.view());
        }
        if let Some(head) = &weights.pooling_head {
            let scores = head.scores.view().into_dyn();
            self.bundle.f32("text.pooling.scores", scores);
            self.linear("text.pooling.value", &head.value);
            self.linear("text.pooling.out", &head.out);
            self.norm("text.pooling.norm", &head.norm);
            self.linear("text.pooling.up", &head.up);
            self.linear("text.pooling.down", &head.down);
        }
    }

    /// The image tower: its graph, and its tensors, each with the axis of its output channels if it is a weight.
    pub fn image(
        &mut self,
        graph: &str,
        tensors: Vec<(String, Arc<Tensor>, Option<usize>)>,
    ) -> Result<(), String> {
        self.bundle.bytes(GRAPH, graph.as_bytes());
        for (name, tensor, channels) in tensors {
            let label = format!("{IMAGE}{name}");
            if let Ok(integers) = tensor.to_plain_array_view::<i64>() {
                self.bundle.i64(&label, integers);
                continue;
            }
            let floats = tensor.to_plain_array_view::<f32>();
            let floats = floats.map_err(|_| format!("{name} holds {:?}", tensor.datum_type()))?;
            match (self.precision, channels) {
                (Precision::Int8, Some(axis)) => self.bundle.int8(&label, floats, axis),
                _ => self.bundle.f32(&label, floats),
            }
        }
        Ok(())
    }
}

struct TextReader<'a> {
    bundle: &'a Bundle,
    epsilon: f32,
}

impl TextReader<'_> {
    fn linear(&self, name: &str) -> Result<LinearWeights, BundleError> {
        let (weight, bias) = (
            self.bundle.matrix(&format!("{name}.weight"))?,
            self.bundle.array(&format!("{name}.bias"))?,
        );
        Ok(LinearWeights { weight, bias })
    }

    fn norm(&self, name: &str) -> Result<NormWeights, BundleError> {
        let (gain, bias) = (
            self.bundle.array(&format!("{name}.gain"))?,
            self.bundle.array(&format!("{name}.bias"))?,
        );
        Ok(NormWeights {
            gain,
            bias,
            epsilon: self.epsilon,
        })
    }

    fn block(&self, index: u32) -> Result<BlockWeights, BundleError> {
        let name = |part: &str| format!("text.blocks.{index}.{part}");
        Ok(BlockWeights {
            norm1: self.norm(&name("norm1"))?,
            query: self.linear(&name("query"))?,
            key: self.linear(&name("key"))?,
            value: self.linear(&name("value"))?,
            out: self.linear(&name("out"))?,
            norm2: self.norm(&name("norm2"))?,
            up: self.linear(&name("up"))?,
            down: self.linear(&name("down"))?,
        })
    }

    fn pooling_head(&self) -> Result<PoolingHeadWeights, BundleError> {
        Ok(PoolingHeadWeights {
            scores: self.bundle.array("text.pooling.scores")?,
            value: self.linear("text.pooling.value")?,
            out: self.linear("text.pooling.out")?,
            norm: self.norm("text.pooling.norm")?,
            up: self.linear("text.pooling.up")?,
            down: self.linear("text.pooling.down")?,
        })
    }
}

/// The weights of the text tower; matrices of integers stay in the bundle.
pub(super) fn read_text(
    bundle: &Bundle,
    text: &TextDescription,
) -> Result<TextTowerWeights, BundleError> {
    let reader = TextReader {
        bundle,
        epsilon: text.epsilon,
    };
    Ok(TextTowerWeights {
        token_embedding: bundle.rows("text.token_embedding")?,
        positions: bundle.array("text.positions")?,
        blocks: (0..text.blocks)
            .map(|index| reader.block(index))
            .collect::<Result<_, _>>()?,
        final_norm: reader.norm("text.final_norm")?,
        projection: bundle.matrix("text.projection")?,
        projection_bias: text
            .projection_bias
            .then(|| bundle.array("text.projection_bias"))
            .transpose()?,
        pooling_head: match text.reading {
            Reading::Whole {
                pooling: Pooling::Attention,
                ..
            } => Some(reader.pooling_head()?),
            _ => None,
        },
        heads: text.heads as usize,
        activation: text.activation,
        start_token: text.starts.then_some(text.start_token),
        end_token: text.end_token,
        reading: text.reading,
    })
}

/// Numbers from which on a tensor stays in the bundle until an operator asks for it.
const LARGE: u64 = 4096;

/// The graph of the image tower with its tensors, the large ones where they are.
pub(super) fn read_image(bundle: &Arc<Bundle>) -> Result<GraphText, BundleError> {
    let text = std::str::from_utf8(bundle.bytes(GRAPH)?);
    let text = text.map_err(|error| BundleError::Damaged {
        what: format!("the image tower's graph: {error}"),
    })?;
    let (mut tensors, mut stored) = (Vec::new(), Vec::new());
    for label in bundle.names() {
        let Some(name) = label.strip_prefix(IMAGE) else {
            continue;
        };
        if let Some(shape) = bundle.float_shape(label, LARGE)? {
            let (bundle, label) = (bundle.clone(), label.to_owned());
            let tensor = StoredTensor {
                bundle,
                label,
                shape,
            };
            stored.push((name.to_owned(), tensor));
        } else {
            let tensor = match bundle.i64(label)? {
                Some(integers) => integers.into_tensor(),
                None => bundle.f32(label)?.into_tensor(),
            };
            tensors.push((name.to_owned(), Arc::new(tensor)));
        }
    }
    Ok(GraphText {
        text: text.to_owned(),
        tensors,
        stored,
    })
}
