//! Opens ONNX files with tract: one picture or one token sequence at a time, every shape known, one input and one
//! output. It must not know what is made of the graphs.

use std::path::{Path, PathBuf};

use thiserror::Error;
use tract_core::internal::*;
use tract_core::ops::konst::Const;
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

/// Opens the image tower at `path` for pictures of `size` by `size` pixels.
pub fn image(path: &Path, size: usize) -> Result<Tower, OnnxError> {
    let mut model = parse(path)?;
    let interface = |what: String| OnnxError::Interface {
        path: path.to_owned(),
        what,
    };
    let kinds = input_kinds(&model).map_err(interface)?;
    if kinds[..] != [f32::datum_type()] {
        return Err(interface(format!(
            "takes {kinds:?}, not one picture of floats; are picture and text swapped?"
        )));
    }
    tower(path, |()| {
        model.set_input_fact(
            0,
            InferenceFact::dt_shape(f32::datum_type(), [1, 3, size, size]),
        )?;
        Ok(model)
    })
}

/// Opens the text tower at `path` for sequences of `length` tokens, or of the length that the file itself fixes. Inputs
/// beside the token ids become constants: an attention mask that hides nothing, positions that count.
pub fn text(path: &Path, length: usize) -> Result<Tower, OnnxError> {
    let mut model = parse(path)?;
    let interface = |what: String| OnnxError::Interface {
        path: path.to_owned(),
        what,
    };
    let kinds = input_kinds(&model).map_err(interface)?;
    if kinds.is_empty()
        || kinds
            .iter()
            .any(|kind| !kind.is_integer() && *kind != bool::datum_type())
    {
        return Err(interface(format!(
            "takes {kinds:?}, not token ids; are picture and text swapped?"
        )));
    }
    tower(path, |()| {
        let declared = model
            .input_fact(0)?
            .shape
            .dim(1)
            .and_then(|dim| dim.concretize()?.to_usize().ok());
        let shape = [1, declared.unwrap_or(length)];
        let mut ids = Vec::new();
        for (index, outlet) in model.inputs.clone().into_iter().enumerate() {
            model.set_input_fact(index, InferenceFact::dt_shape(kinds[index], shape))?;
            let name = model.node(outlet.node).name.to_lowercase();
            let constant = match () {
                () if name.contains("mask") => tract_ndarray::Array2::<i64>::ones(shape),
                () if name.contains("position") => {
                    tract_ndarray::Array2::from_shape_fn(shape, |(_, at)| at as i64)
                }
                () => {
                    ids.push(outlet);
                    continue;
                }
            };
            let constant = constant
                .into_tensor()
                .cast_to_dt(kinds[index])?
                .into_owned()
                .into_arc_tensor();
            model.node_mut(outlet.node).op = Box::new(Const::new(constant)?);
        }
        ensure!(
            ids.len() == 1,
            "{} of its inputs could be token ids, 1 was expected",
            ids.len()
        );
        model.set_input_outlets(&ids)?;
        Ok(model)
    })
}

fn parse(path: &Path) -> Result<InferenceModel, OnnxError> {
    let onnx = tract_onnx::onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true);
    guarded("parse", || onnx.model_for_path(path)).map_err(|source| OnnxError::Tract {
        path: path.to_owned(),
        source,
    })
}

fn input_kinds(model: &InferenceModel) -> Result<Vec<DatumType>, String> {
    let facts = model.inputs.iter().map(|&outlet| model.outlet_fact(outlet));
    let kinds = facts
        .map(|fact| fact.ok()?.datum_type.concretize())
        .collect::<Option<Vec<_>>>();
    kinds.ok_or_else(|| "does not say what its inputs are".to_owned())
}

/// Types and simplifies the model that `prepare` yields, and keeps the one output that is a feature vector.
fn tower(
    path: &Path,
    prepare: impl FnOnce(()) -> TractResult<InferenceModel>,
) -> Result<Tower, OnnxError> {
    let typed = guarded("type", || prepare(())?.into_typed());
    let mut original = typed.map_err(|source| OnnxError::Tract {
        path: path.to_owned(),
        source,
    })?;
    let output = features(&original).map_err(|what| OnnxError::Interface {
        path: path.to_owned(),
        what,
    })?;
    let simplified = guarded("simplify", || {
        original.select_output_outlets(&[output])?;
        let mut decluttered = original.clone().into_decluttered()?;
        decluttered.prop_consts()?;
        Ok((original, decluttered))
    });
    let (original, decluttered) = simplified.map_err(|source| OnnxError::Tract {
        path: path.to_owned(),
        source,
    })?;
    Ok(Tower {
        original,
        decluttered,
    })
}

/// The output of shape `[1, e]`; where there are several, the only one that is called an embedding or features.
fn features(model: &TypedModel) -> Result<OutletId, String> {
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
