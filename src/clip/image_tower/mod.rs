//! The image tower: a tract model, kept in the bundle as the text of its graph (NNEF) and a table of tensors, so that
//! opening one neither parses ONNX nor simplifies a graph.

mod convolution;
mod dialect;
mod fuse;
mod operators;

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::{Array1, Array3, Axis};
use thiserror::Error;
use tract_core::ops::nn::GeluExact;
use tract_core::prelude::*;
use tract_nnef::ast::{Identifier, ProtoModel, dump::Dumper};
use tract_nnef::resource::Resource;

use super::graph::guard::{self, GraphError, guarded};
use super::graph::stored::{self, StoredTensor};
use super::graph::text;
use crate::ops::pool::on_pool;
pub use fuse::Fused;

/// Why an image tower cannot be built or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageTowerError {
    /// tract cannot load or run the graph.
    #[error(transparent)]
    Tract(#[from] GraphError),
    /// The pixels are not those that the tower takes.
    #[error(
        "the image tower takes pictures of shape {expected:?}, but got {found:?}; use the model's own preprocessing"
    )]
    Pixels {
        /// The shape that it takes.
        expected: Vec<usize>,
        /// The shape that it was given.
        found: Vec<usize>,
    },
    /// The graph is not an image tower.
    #[error(
        "the image tower must map one picture [1, 3, height, width] to one feature vector, but it maps {input} to {output}"
    )]
    Interface {
        /// The shape of its input.
        input: String,
        /// The shape of its output.
        output: String,
    },
    /// A feature cannot be normalised.
    #[error(
        "the image tower yields a feature vector that is zero or not finite; the model is broken"
    )]
    Features,
}

/// A graph as text, and the tensors that it refers to by name: those in memory, and those that stay in the bundle.
pub(super) struct GraphText {
    pub text: String,
    pub tensors: Vec<(String, Arc<Tensor>)>,
    pub stored: Vec<(String, StoredTensor)>,
}

/// Writes a decluttered model down. Node names become labels of tensors, so they must be plain identifiers.
pub(super) fn write_graph(model: &TypedModel) -> Result<GraphText, GraphError> {
    guarded("write the image tower down", || {
        let nnef = dialect::whole();
        let proto = tract_nnef::ser::to_proto_model(&nnef, model)?;
        let mut text = Vec::new();
        Dumper::new(&nnef, &mut text).document(&proto.doc)?;
        let mut tensors: Vec<_> = proto
            .tensors
            .into_iter()
            .map(|(name, tensor)| (name.0, tensor))
            .collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(GraphText {
            text: String::from_utf8(text)?,
            tensors,
            stored: Vec::new(),
        })
    })
}

/// The frozen image tower, ready to run. Cheap to clone; clones run on any thread.
#[derive(Clone)]
pub struct ImageTower {
    plan: Arc<TypedRunnableModel>,
    fused: Fused,
    shape: [usize; 3],
    joint_width: usize,
}

impl ImageTower {
    /// Builds the tower from what [`write_graph`] wrote.
    pub(super) fn read(graph: GraphText) -> Result<ImageTower, ImageTowerError> {
        let model = guarded("read the image tower", || {
            let tensors = graph.tensors.into_iter();
            let stored = graph.stored.into_iter();
            let stored: HashMap<String, Arc<dyn Resource>> = stored
                .map(|(name, stored)| (name, Arc::new(stored) as Arc<dyn Resource>))
                .collect();
            guard::text(&graph.text)?;
            let mut doc = text::parse(&graph.text)?;
            guard::fragments(&doc)?;
            stored::defer(&mut doc, dialect::REGISTRY, |label| {
                stored.contains_key(label)
            });
            let proto = ProtoModel {
                doc,
                tensors: tensors
                    .map(|(name, tensor)| (Identifier(name), tensor))
                    .collect(),
                quantization: None,
                resources: stored,
            };
            proto.validate()?;
            let translated = dialect::of(&proto.doc).translate(&proto, TypedModel::default());
            let model = translated.map_err(|(_, error)| error)?;
            guard::volumes(&model)
                .map_err(|what| tract_core::internal::anyhow!("the graph {what}"))?;
            Ok(model)
        })?;
        ImageTower::new(model)
    }

    /// Optimises `model` for this machine. It takes one picture `[1, 3, height, width]` and yields `[1, e]`.
    pub(super) fn new(mut model: TypedModel) -> Result<ImageTower, ImageTowerError> {
        let (input, output) = guarded("type the image tower", || {
            Ok((
                model.input_fact(0)?.shape.clone(),
                model.output_fact(0)?.shape.clone(),
            ))
        })?;
        let (shape, joint_width) = match (input.as_concrete(), output.as_concrete()) {
            (Some(&[1, 3, height, width]), Some(&[1, joint])) => ([3, height, width], joint),
            _ => {
                let (input, output) = (format!("{input:?}"), format!("{output:?}"));
                return Err(ImageTowerError::Interface { input, output });
            }
        };
        let (plan, fused) = guarded("optimise the image tower", || {
            let fused = fuse::fuse(&mut model)?;
            Ok((model.into_optimized()?.into_runnable()?, fused))
        })?;
        Ok(ImageTower {
            plan,
            fused,
            shape,
            joint_width,
        })
    }

    /// Channels, height and width of the picture that the tower takes.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// How much of the graph runs on the project's own operators.
    pub fn fused(&self) -> Fused {
        self.fused
    }

    /// e, the length of a feature vector.
    pub fn joint_width(&self) -> usize {
        self.joint_width
    }

    /// Gives back memory that only makes later pictures faster: weights that were put into another order.
    pub fn release(&self) {
        for node in &self.plan.model().nodes {
            if let Some(weight) = operators::weight(&*node.op) {
                weight.release();
            }
        }
    }

    /// The L2-normalised features `[e]` of one preprocessed picture `[3, height, width]`.
    pub fn encode(&self, pixels: &Array3<f32>) -> Result<Array1<f32>, ImageTowerError> {
        if pixels.shape() != self.shape {
            return Err(ImageTowerError::Pixels {
                expected: self.shape.to_vec(),
                found: pixels.shape().to_vec(),
            });
        }
        let input = pixels
            .view()
            .insert_axis(Axis(0))
            .as_standard_layout()
            .into_owned()
            .into_tensor();
        let run = || {
            let output = self.plan.run(tvec!(input.into()))?;
            let features = output[0].to_plain_array_view::<f32>()?;
            Ok(features.iter().copied().collect::<Array1<f32>>())
        };
        let features = guarded("run the image tower", || on_pool(run))?;
        let norm = features.dot(&features).sqrt();
        if !norm.is_finite() || norm == 0.0 {
            return Err(ImageTowerError::Features);
        }
        Ok(features / norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(body: &str) -> GraphText {
        let header =
            "version 1.0;\nextension tract_registry tract_core;\ngraph network(x) -> (y) {\n";
        let text = format!(
            "{header}x = tract_core_external(shape = [1, 3, 2, 2], datum_type = 'f32');\n{body}\n}}\n"
        );
        GraphText {
            text,
            tensors: Vec::new(),
            stored: Vec::new(),
        }
    }

    #[test]
    fn features_are_of_length_one() {
        let tower = ImageTower::read(graph("y = reshape(x, shape = [1, 12]);")).unwrap();
        assert_eq!((tower.shape(), tower.joint_width()), ([3, 2, 2], 12));
        let features = tower.encode(&Array3::from_elem((3, 2, 2), 5.0)).unwrap();
        assert!((features.dot(&features) - 1.0).abs() < 1e-6);
        assert!(features.iter().all(|&f| (f - features[0]).abs() < 1e-6));
    }

    #[test]
    fn pixels_that_cannot_be_encoded_are_errors() {
        let tower = ImageTower::read(graph("y = reshape(x, shape = [1, 12]);")).unwrap();
        let error = |pixels| tower.encode(&pixels).unwrap_err();
        assert!(matches!(
            error(Array3::zeros((3, 2, 3))),
            ImageTowerError::Pixels { .. }
        ));
        assert!(matches!(
            error(Array3::zeros((3, 2, 2))),
            ImageTowerError::Features
        ));
        assert!(matches!(
            error(Array3::from_elem((3, 2, 2), f32::NAN)),
            ImageTowerError::Features
        ));
    }

    #[test]
    fn graphs_that_are_no_image_tower_are_errors() {
        let error = |graph| ImageTower::read(graph).err().unwrap();
        assert!(matches!(
            error(graph("y = x;")),
            ImageTowerError::Interface { .. }
        ));
        assert!(matches!(
            error(graph("y = nonsense(x);")),
            ImageTowerError::Tract(_)
        ));
        assert!(matches!(
            error(graph(
                "y = variable<scalar>(label = 'none', shape = [1, 2]);"
            )),
            ImageTowerError::Tract(_)
        ));
        let text = String::from("\u{0}not a graph");
        assert!(matches!(
            error(GraphText {
                text,
                tensors: Vec::new(),
                stored: Vec::new(),
            }),
            ImageTowerError::Tract(_)
        ));
    }
}
