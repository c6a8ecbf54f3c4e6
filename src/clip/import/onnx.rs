//! Opens ONNX files with tract: one picture or one token sequence at a time, every shape known, one input and one
//! output a tower.

mod inputs;
mod slim;

pub use inputs::Role;

use inputs::{fix_input, roles};
use slim::Slim;
use std::path::{Path, PathBuf};

use ndarray::Array1;
use thiserror::Error;
use tract_core::internal::*;
use tract_core::ops::konst::Const;
use tract_onnx::pb;
use tract_onnx::prelude::{Framework, InferenceModelExt};

use super::{blocks, check, floats, operators, quantised};
use crate::clip::graph::guard::{self, GraphError, guarded};
use crate::files;

/// The largest message of Protobuf.
const LARGEST_FILE: u64 = 2 << 30;

/// Why an ONNX file cannot be used as a tower.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// tract cannot read or run the graph.
    #[error("{path}: {source}")]
    Tract {
        /// The file.
        path: PathBuf,
        /// What tract says.
        source: GraphError,
    },
    /// The file is not an ONNX model that can be used.
    #[error("{path} {what}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        what: String,
    },
    /// Its inputs and outputs are not those of a tower.
    #[error("{path} {what}")]
    Interface {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        what: String,
    },
    /// The file and the preprocessing are not of the same model.
    #[error(
        "{path} takes pictures `{input}` of shape [{takes}], but the preprocessing makes [1, 3, {size}, {size}]"
    )]
    PictureShape {
        /// The file.
        path: PathBuf,
        /// The name of the input for pictures.
        input: String,
        /// With `?` for dimensions that the file leaves open.
        takes: String,
        /// The side of the preprocessed picture, in pixels.
        size: usize,
    },
}

/// A tower as tract understands it.
pub struct Tower {
    /// As parsed, nothing fused: the reference.
    pub original: TypedModel,
    /// Simplified to tract's canonical operators.
    pub decluttered: TypedModel,
}

/// What is fed to a model, one item at a time.
#[derive(Clone, Copy)]
pub struct Feed {
    /// Pixels a side of a picture.
    pub size: usize,
    /// Tokens of a sequence, for files that leave it open.
    pub length: usize,
}

/// What becomes of a mask that a file takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masks {
    /// It hides nothing, once and for all.
    Ones,
    /// It is given with every text.
    Given,
}

/// A file with one tower or both, typed. Inputs beside pictures and token ids have become constants: an attention mask
/// that hides nothing, positions that count.
pub struct OnnxFile {
    path: PathBuf,
    model: TypedModel,
    inputs: Vec<(OutletId, Role)>,
    /// Whether it takes a mask that hides padding.
    pub takes_mask: bool,
    /// How many of its weights were integers; they are floats now.
    pub quantised: usize,
}

/// Pixels a side of the picture that the file at `path` takes, where it says so.
pub fn picture_size(path: &Path) -> Option<u32> {
    let Parsed { proto, .. } = parse(path).ok()?;
    proto.graph?.input.iter().find_map(|input| {
        let Some(pb::type_proto::Value::TensorType(tensor)) = &input.r#type.as_ref()?.value else {
            return None;
        };
        let side = |index: usize| match tensor.shape.as_ref()?.dim.get(index)?.value.as_ref()? {
            pb::tensor_shape_proto::dimension::Value::DimValue(side) => u32::try_from(*side).ok(),
            _ => None,
        };
        (tensor.shape.as_ref()?.dim.len() == 4)
            .then(|| side(3).filter(|side| *side > 0))
            .flatten()
    })
}

/// A model as its file says it.
pub struct Parsed {
    pub proto: pb::ModelProto,
    /// Where the files lie that hold its weights.
    pub folder: PathBuf,
}

/// The model at `path`; its large weights stay in the file ([`slim`]), where tract finds them.
pub fn parse(path: &Path) -> Result<Parsed, OnnxError> {
    let file = std::fs::metadata(path).map_err(|source| OnnxError::Io {
        path: path.to_owned(),
        source,
    })?;
    if !file.is_file() || file.len() == 0 {
        return Err(OnnxError::Invalid {
            path: path.to_owned(),
            what: "is empty or not a file; take the model's ONNX file".into(),
        });
    }
    if file.len() > LARGEST_FILE {
        return Err(OnnxError::Invalid {
            path: path.to_owned(),
            what: "has more than 2 GiB, which an ONNX file cannot have; keep the weights in a file of their own"
                .into(),
        });
    }
    if files::is_lfs_pointer(path) {
        return Err(OnnxError::Invalid {
            path: path.to_owned(),
            what: format!("is {}", files::LFS_POINTER),
        });
    }
    let slim = slim::read(path).map_err(|source| OnnxError::Io {
        path: path.to_owned(),
        source,
    })?;
    let parsed = guarded("parse the file", || {
        let onnx = tract_onnx::onnx();
        match slim {
            Some(Slim { bytes, folder }) => Ok(Parsed {
                proto: onnx.proto_model_for_read(&mut &bytes[..])?,
                folder,
            }),
            None => Ok(Parsed {
                proto: onnx.proto_model_for_path(path)?,
                folder: folder_of(path).to_owned(),
            }),
        }
    });
    parsed.map_err(|source| OnnxError::Invalid {
        path: path.to_owned(),
        what: format!("is not an ONNX file, or was cut off ({source}); download it again"),
    })
}

/// The folder that a file lies in; the current one where it is but a name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

impl OnnxFile {
    /// Opens and types the file at `path`. Whatever it declares is checked before anything is allocated for it.
    pub fn open(path: &Path, feed: Feed, masks: Masks) -> Result<OnnxFile, OnnxError> {
        let invalid = |what: String| OnnxError::Invalid {
            path: path.to_owned(),
            what,
        };
        let tract = |source| OnnxError::Tract {
            path: path.to_owned(),
            source,
        };
        let Parsed { mut proto, folder } = parse(path)?;
        let folder = &*folder;
        let onnx = tract_onnx::onnx()
            .with_ignore_output_shapes(true)
            .with_ignore_value_info(true);
        let known = |operator: &str| {
            onnx.op_register.0.contains_key(operator)
                || operators::is_known(operator)
                || blocks::is_read(operator)
        };
        check::check(&proto, folder, &known).map_err(invalid)?;
        if let Some(graph) = &mut proto.graph {
            floats::in_f32(graph, folder).map_err(tract)?;
        }
        let mut quantised = 0;
        if let Some(graph) = &mut proto.graph {
            quantised += blocks::unpack(graph, folder).map_err(invalid)?;
            operators::take_apart(graph, feed.length).map_err(invalid)?;
        }
        quantised += quantised::dequantise(&mut proto, folder).map_err(invalid)?;
        let parsed = guarded("read the graph", || {
            let folder = folder.to_str().context("the folder's name is not UTF-8")?;
            let parsed = onnx.parse(&proto, Some(folder))?;
            match &parsed.unresolved_inputs[..] {
                [] => Ok(parsed.model),
                [name, ..] => bail!("nothing makes the value `{name}`"),
            }
        });
        drop(proto);
        let mut model = parsed.map_err(tract)?;
        let roles = roles(&model).map_err(invalid)?;
        for input in &roles {
            if input.role == Role::Picture && !input.takes_pictures(feed.size) {
                return Err(OnnxError::PictureShape {
                    path: path.to_owned(),
                    input: input.name.clone(),
                    takes: input.declared_shape(),
                    size: feed.size,
                });
            }
        }
        let model = guarded("type the graph", || {
            for (index, input) in roles.iter().enumerate() {
                fix_input(&mut model, index, input, feed, masks)?;
            }
            // Constants are no longer inputs; what remains is pictures and tokens.
            let inputs = model.inputs.iter().copied();
            let remaining = inputs.filter(|at| !model.node(at.node).op_is::<Const>());
            let remaining: Vec<OutletId> = remaining.collect();
            model.set_input_outlets(&remaining)?;
            model.into_typed()
        })
        .map_err(tract)?;
        guard::volumes(&model).map_err(invalid)?;
        let role = |outlet: &OutletId| {
            let name = &model.node(outlet.node).name;
            let found = roles.iter().find(|input| input.name == *name)?;
            Some((*outlet, found.role))
        };
        Ok(OnnxFile {
            path: path.to_owned(),
            inputs: model.inputs.iter().filter_map(role).collect(),
            takes_mask: roles.iter().any(|input| input.role == Role::Mask),
            model,
            quantised,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The image tower as parsed, which takes `[1, 3, size, size]`.
    pub fn image(&self) -> Result<TypedModel, OnnxError> {
        self.original(self.model.clone(), Role::Picture)
    }

    /// The image tower simplified. Its weights are in memory once: nothing of the file is left.
    pub fn into_simplified_image(mut self) -> Result<TypedModel, OnnxError> {
        let model = std::mem::take(&mut self.model);
        let original = self.original(model, Role::Picture)?;
        self.simplified(original)
    }

    /// The text tower, which takes `[1, length]` token ids.
    pub fn text(&self) -> Result<Tower, OnnxError> {
        let original = self.original(self.model.clone(), Role::Tokens)?;
        let decluttered = self.simplified(original.clone())?;
        Ok(Tower {
            original,
            decluttered,
        })
    }

    fn interface(&self, what: String) -> OnnxError {
        OnnxError::Interface {
            path: self.path.clone(),
            what,
        }
    }

    fn tract(&self, source: GraphError) -> OnnxError {
        OnnxError::Tract {
            path: self.path.clone(),
            source,
        }
    }

    fn input(&self, wanted: Role) -> Result<OutletId, OnnxError> {
        let mut all = self.inputs.iter().filter(|(_, role)| *role == wanted);
        match (all.next(), all.count()) {
            (Some((input, _)), 0) => Ok(*input),
            (first, others) => {
                let count = usize::from(first.is_some()) + others;
                let what = match wanted {
                    Role::Picture => "pictures",
                    _ => "token ids",
                };
                Err(self.interface(format!(
                    "has {count} inputs for {what}, not one; are image and text tower swapped?"
                )))
            }
        }
    }

    /// Masks that are given.
    fn masks(&self) -> impl Iterator<Item = OutletId> {
        let masks = self.inputs.iter().filter(|(_, role)| *role == Role::Mask);
        masks.map(|(input, _)| *input)
    }

    /// The part of `model`, which is the file's, that makes features of the one input of the role `wanted`.
    fn original(&self, mut model: TypedModel, wanted: Role) -> Result<TypedModel, OnnxError> {
        let input = self.input(wanted)?;
        let output = self.features(&model, input);
        let output = output.map_err(|what| self.interface(what))?;
        let cut = guarded("cut out a tower", || {
            let mut inputs = vec![input];
            inputs.extend(self.masks().filter(|_| wanted == Role::Tokens));
            model.set_input_outlets(&inputs)?;
            model.select_output_outlets(&[output])?;
            model.compact()?;
            Ok(model)
        });
        cut.map_err(|source| self.tract(source))
    }

    fn simplified(&self, original: TypedModel) -> Result<TypedModel, OnnxError> {
        let simplified = guarded("simplify the graph", || {
            let mut decluttered = original.into_decluttered()?;
            decluttered.prop_consts()?;
            Ok(decluttered)
        });
        simplified.map_err(|source| self.tract(source))
    }

    /// The output of shape `[1, e]` that depends on `input` alone, and masks; where there are several, the only one that
    /// is called an embedding, features or pooled.
    fn features(&self, model: &TypedModel, input: OutletId) -> Result<OutletId, String> {
        let name = |outlet: &OutletId| {
            let label = model
                .outlet_label(*outlet)
                .unwrap_or(&model.node(outlet.node).name);
            label.to_lowercase()
        };
        let outputs = model.outputs.iter().filter(|outlet| {
            let fact = model.outlet_fact(**outlet).ok();
            let shape = fact.and_then(|fact| {
                fact.shape
                    .as_concrete()
                    .filter(|_| fact.datum_type.is_float())
            });
            matches!(shape, Some([1, width]) if *width > 1)
                && self.depends_on(model, **outlet) == [input]
        });
        let outputs: Vec<OutletId> = outputs.copied().collect();
        let named: Vec<_> = outputs
            .iter()
            .filter(|at| {
                ["embed", "feature", "pool"]
                    .iter()
                    .any(|word| name(at).contains(word))
            })
            .collect();
        match (&outputs[..], &named[..]) {
            (&[output], _) | (_, &[&output]) => Ok(output),
            _ => {
                let all: Vec<_> = model.outputs.iter().map(name).collect();
                if all.iter().all(|name| name.contains("logit")) {
                    return Err(format!(
                        "has logits only ({}), but the features of both towers are needed; export them as further outputs \
                     (text_embeds, image_embeds), or the towers as files of their own",
                        all.join(", ")
                    ));
                }
                Err(format!(
                    "has no output of shape [1, width] that is surely the features, only {}",
                    all.join(", ")
                ))
            }
        }
    }

    /// The inputs that a value depends on, but for masks.
    fn depends_on(&self, model: &TypedModel, outlet: OutletId) -> Vec<OutletId> {
        let masks: Vec<OutletId> = self.masks().collect();
        let mut all = sources(model, outlet);
        all.retain(|input| !masks.contains(input));
        all
    }

    /// What a file with both towers makes of cosines, found by running it: `probes` are pictures `[1, 3, size, size]` and
    /// token ids. Nothing where no output holds logits, or they are not a multiple of the cosines, with or without a bias.
    pub fn logits(&self, probes: Vec<(Tensor, Tensor)>) -> Result<Option<Logits>, OnnxError> {
        let (Ok(picture), Ok(tokens)) = (self.input(Role::Picture), self.input(Role::Tokens))
        else {
            return Ok(None);
        };
        let model = &self.model;
        let mut both = vec![picture, tokens];
        both.sort_unstable();
        let logits = model.outputs.iter().copied().find(|outlet| {
            let mut depends = sources(model, *outlet);
            depends.sort_unstable();
            let single = |fact: &TypedFact| {
                let volume = fact.shape.as_concrete().map(|shape| shape.iter().product());
                fact.datum_type.is_float() && volume == Some(1usize)
            };
            depends == both && model.outlet_fact(*outlet).is_ok_and(single)
        });
        let towers = [picture, tokens].map(|input| self.features(model, input).ok());
        let (Some(logits), [Some(image), Some(text)]) = (logits, towers) else {
            return Ok(None);
        };
        let points = guarded("run both towers", || {
            let mut whole = model.clone();
            whole.set_input_outlets(&[picture, tokens])?;
            whole.select_output_outlets(&[logits, image, text])?;
            whole.compact()?;
            let kind = whole.input_fact(1)?.datum_type;
            let plan = whole.into_runnable()?;
            let mut points = Vec::new();
            for (pixels, ids) in probes {
                let ids = ids.cast_to_dt(kind)?.into_owned();
                let outputs = plan.run(tvec!(pixels.into(), ids.into()))?;
                let [logit, a, b] = [0, 1, 2].map(|index| vector(&outputs[index]));
                let (logit, a, b) = (logit?, a?, b?);
                points.push([a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt(), logit[0]]);
            }
            Ok(points)
        });
        let points = points.map_err(|source| self.tract(source))?;
        Ok(Logits::through(&points))
    }
}

/// What becomes of a cosine: `scale * cosine + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logits {
    pub scale: f32,
    pub bias: Option<f32>,
}

impl Logits {
    /// The line through points of cosine and logit, through zero if one fits.
    fn through(points: &[[f32; 2]]) -> Option<Logits> {
        let sum =
            |of: &dyn Fn(f32, f32) -> f32| points.iter().map(|&[c, logit]| of(c, logit)).sum();
        let squares: f32 = sum(&|c, _| c * c);
        let scale = sum(&|c, logit| c * logit) / squares;
        let count = points.len() as f32;
        let (mean, middle) = (sum(&|c, _| c) / count, sum(&|_, logit| logit) / count);
        let steep: f32 = sum(&|c, logit| (c - mean) * (logit - middle));
        let steep = steep / sum(&|c, _| (c - mean) * (c - mean));
        let lines = [
            Logits { scale, bias: None },
            Logits {
                scale: steep,
                bias: Some(middle - steep * mean),
            },
        ];
        lines.into_iter().find(|line| {
            let fits = |&[c, logit]: &[f32; 2]| {
                let found = c * line.scale + line.bias.unwrap_or(0.0);
                (found - logit).abs() <= 1e-3 * (logit.abs() + line.scale.abs() * 0.1)
            };
            line.scale.is_finite() && line.scale > 0.0 && points.iter().all(fits)
        })
    }
}

/// All numbers of a value, as f32.
pub fn vector(value: &Tensor) -> TractResult<Array1<f32>> {
    Ok(value
        .cast_to::<f32>()?
        .to_plain_array_view::<f32>()?
        .iter()
        .copied()
        .collect())
}

/// The inputs of the model that a value depends on.
fn sources(model: &TypedModel, outlet: OutletId) -> Vec<OutletId> {
    let (mut open, mut seen) = (vec![outlet.node], vec![false; model.nodes.len()]);
    while let Some(node) = open.pop() {
        if !std::mem::replace(&mut seen[node], true) {
            open.extend(model.node(node).inputs.iter().map(|input| input.node));
        }
    }
    model
        .inputs
        .iter()
        .copied()
        .filter(|input| seen[input.node])
        .collect()
}
