//! Opens ONNX files with tract: one picture or one token sequence at a time, every shape known, one input and one
//! output. It must not know what is made of the graphs.

use std::path::{Path, PathBuf};

use thiserror::Error;
use tract_core::floats::FloatPrecisionTranslator;
use tract_core::internal::*;
use tract_core::ops::konst::Const;
use tract_core::transform::ModelTransform;
use tract_onnx::prelude::{Framework, InferenceFact, InferenceModel, InferenceModelExt};
use tract_onnx::tract_hir::infer::Factoid;

use crate::clip::image_tower::{ImageTowerError, guarded};

/// Why an ONNX file cannot be used as a tower.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OnnxError {
    #[error("{path}: {source}")]
    Tract {
        path: PathBuf,
        source: ImageTowerError,
    },
    #[error("{path}: {what}")]
    Interface { path: PathBuf, what: String },
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

/// Opens the image tower of the file at `path`, which may hold a text tower, too.
pub fn image(path: &Path, feed: Feed) -> Result<Tower, OnnxError> {
    tower(path, feed, Role::Picture)
}

/// Opens the text tower of the file at `path`, which may hold an image tower, too. Inputs beside the token ids become
/// constants: an attention mask that hides nothing, positions that count.
pub fn text(path: &Path, feed: Feed) -> Result<Tower, OnnxError> {
    tower(path, feed, Role::Tokens)
}

/// What an input is for.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Picture,
    Tokens,
    Mask,
    Positions,
}

impl Role {
    fn of(name: &str, kind: DatumType) -> Result<Role, String> {
        let name = name.to_lowercase();
        match kind {
            kind if kind.is_float() => Ok(Role::Picture),
            kind if !kind.is_integer() && kind != bool::datum_type() => Err(format!(
                "its input `{name}` of {kind:?} is neither a picture nor token ids"
            )),
            _ if name.contains("mask") => Ok(Role::Mask),
            _ if name.contains("position") => Ok(Role::Positions),
            _ => Ok(Role::Tokens),
        }
    }
}

fn parse(path: &Path) -> Result<InferenceModel, OnnxError> {
    let onnx = tract_onnx::onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true);
    guarded("parse the file", || onnx.model_for_path(path)).map_err(|source| OnnxError::Tract {
        path: path.to_owned(),
        source,
    })
}

/// Types and simplifies the part of the model at `path` that makes features of the one input of the role `wanted`.
fn tower(path: &Path, feed: Feed, wanted: Role) -> Result<Tower, OnnxError> {
    let tract = |source| OnnxError::Tract {
        path: path.to_owned(),
        source,
    };
    let interface = |what: String| OnnxError::Interface {
        path: path.to_owned(),
        what,
    };
    let mut model = parse(path)?;
    let mut wanted_inputs = Vec::new();
    for (index, outlet) in model.inputs.clone().into_iter().enumerate() {
        let name = model.node(outlet.node).name.clone();
        let fact = model.outlet_fact(outlet).cloned().unwrap_or_default();
        let kind = fact
            .datum_type
            .concretize()
            .ok_or_else(|| interface(format!("input `{name}` has no type")))?;
        let role = Role::of(&name, kind).map_err(interface)?;
        if role == wanted {
            wanted_inputs.push(outlet);
        }
        guarded("type the graph", || {
            fix_input(&mut model, index, role, kind, feed)
        })
        .map_err(tract)?;
    }
    let &[input] = &wanted_inputs[..] else {
        let what = if wanted == Role::Picture {
            "pictures"
        } else {
            "token ids"
        };
        let count = wanted_inputs.len();
        return Err(interface(format!(
            "has {count} inputs for {what}, not one; are image and text tower swapped?"
        )));
    };
    let original = guarded("type the graph", || {
        // Constants are no longer inputs; what remains is pictures and tokens.
        let remaining = model
            .inputs
            .iter()
            .copied()
            .filter(|at| !model.node(at.node).op_is::<Const>());
        let remaining: Vec<OutletId> = remaining.collect();
        model.set_input_outlets(&remaining)?;
        let name = model.node(input.node).name.clone();
        let typed = in_f32(model.into_typed()?)?;
        let input = typed
            .inputs
            .iter()
            .copied()
            .find(|at| typed.node(at.node).name == name);
        Ok((input.context("the input is lost")?, typed))
    });
    let (input, mut original) = original.map_err(tract)?;
    let output = features(&original, input).map_err(interface)?;
    let simplified = guarded("simplify the graph", || {
        original.set_input_outlets(&[input])?;
        original.select_output_outlets(&[output])?;
        original.compact()?;
        let mut decluttered = original.clone().into_decluttered()?;
        decluttered.prop_consts()?;
        Ok(Tower {
            original,
            decluttered,
        })
    });
    simplified.map_err(tract)
}

/// Half precision is for storage: everything is computed in f32.
fn in_f32(mut model: TypedModel) -> TractResult<TypedModel> {
    let half = f16::datum_type();
    let mut outputs = model.nodes.iter().flat_map(|node| &node.outputs);
    if outputs.any(|output| output.fact.datum_type == half) {
        FloatPrecisionTranslator::new(half, f32::datum_type()).transform(&mut model)?;
    }
    Ok(model)
}

/// Gives an input its shape, and its value if it only says what all inputs are like.
fn fix_input(
    model: &mut InferenceModel,
    index: usize,
    role: Role,
    kind: DatumType,
    feed: Feed,
) -> TractResult<()> {
    if role == Role::Picture {
        return model.set_input_fact(
            index,
            InferenceFact::dt_shape(kind, [1, 3, feed.size, feed.size]),
        );
    }
    let declared = model
        .input_fact(index)?
        .shape
        .dim(1)
        .and_then(|dim| dim.concretize()?.to_usize().ok());
    let shape = [1, declared.unwrap_or(feed.length)];
    model.set_input_fact(index, InferenceFact::dt_shape(kind, shape))?;
    let value = match role {
        Role::Mask => tract_ndarray::Array2::<i64>::ones(shape),
        Role::Positions => tract_ndarray::Array2::from_shape_fn(shape, |(_, at)| at as i64),
        Role::Picture | Role::Tokens => return Ok(()),
    };
    let value = value
        .into_tensor()
        .cast_to_dt(kind)?
        .into_owned()
        .into_arc_tensor();
    let node = model.inputs[index].node;
    model.node_mut(node).op = Box::new(Const::new(value)?);
    Ok(())
}

/// The output of shape `[1, e]` that depends on `input` alone; where there are several, the only one that is called an
/// embedding or features.
fn features(model: &TypedModel, input: OutletId) -> Result<OutletId, String> {
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
        matches!(shape, Some([1, width]) if *width > 1) && sources(model, **outlet) == [input]
    });
    let outputs: Vec<OutletId> = outputs.copied().collect();
    let named: Vec<_> = outputs
        .iter()
        .filter(|at| name(at).contains("embed") || name(at).contains("feature"))
        .collect();
    match (&outputs[..], &named[..]) {
        (&[output], _) | (_, &[&output]) => Ok(output),
        _ => {
            let all: Vec<_> = model.outputs.iter().map(name).collect();
            Err(format!(
                "has no output of shape [1, width] that is surely the features, only {}",
                all.join(", ")
            ))
        }
    }
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
