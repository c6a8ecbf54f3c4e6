//! What the inputs of an ONNX file are for, and the shape or the value that each is given.

use super::{Feed, Masks};
use crate::clip::import::check;
use tract_core::internal::*;
use tract_core::ops::konst::Const;
use tract_onnx::prelude::{InferenceFact, InferenceModel};
use tract_onnx::tract_hir::infer::Factoid;

/// What an input is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    Picture,
    Tokens,
    Mask,
    Positions,
}

impl Role {
    fn of(name: &str, kind: DatumType) -> Result<Role, String> {
        let name = name.to_lowercase();
        if name.contains("token_type") || name.contains("segment") {
            return Err(format!(
                "is not a CLIP text tower: it takes `{name}`, as BERT does; take a model whose text tower is a CLIP's or a SigLIP's"
            ));
        }
        match kind {
            kind if kind.is_float() => Ok(Role::Picture),
            kind if !kind.is_integer() && kind != bool::datum_type() => Err(format!(
                "has an input `{name}` of {kind:?}, which is neither a picture nor token ids"
            )),
            _ if name.contains("mask") => Ok(Role::Mask),
            _ if name.contains("position") => Ok(Role::Positions),
            _ => Ok(Role::Tokens),
        }
    }
}

/// An input of a file.
pub(super) struct Input {
    pub name: String,
    pub role: Role,
    pub kind: DatumType,
    /// As the file declares it.
    pub fact: InferenceFact,
}

impl Input {
    /// Nothing for dimensions that are left open.
    fn dimensions(&self) -> Vec<Option<usize>> {
        let dims = self.fact.shape.dims();
        dims.map(|dim| dim.concretize().and_then(|dim| dim.to_usize().ok()))
            .collect()
    }

    /// Whether it takes what the preprocessing makes.
    pub fn takes_pictures(&self, size: usize) -> bool {
        match self.dimensions()[..] {
            [_, channels, height, width] => [(channels, 3), (height, size), (width, size)]
                .iter()
                .all(|(declared, fed)| declared.is_none_or(|declared| declared == *fed)),
            _ => self.fact.shape.is_open(),
        }
    }

    pub fn declared_shape(&self) -> String {
        let sizes = self.dimensions().into_iter();
        let sizes: Vec<String> = sizes
            .map(|size| size.map_or("?".into(), |size| size.to_string()))
            .collect();
        sizes.join(", ")
    }
}

/// What each input of `model` is for. The error continues a sentence that begins with the file.
pub(super) fn roles(model: &InferenceModel) -> Result<Vec<Input>, String> {
    let input = |outlet: &OutletId| {
        let name = model.node(outlet.node).name.clone();
        let fact = model.outlet_fact(*outlet).cloned().unwrap_or_default();
        let kind = fact.datum_type.concretize();
        let kind = kind.ok_or_else(|| format!("has an input `{name}` of no type"))?;
        let role = Role::of(&name, kind)?;
        Ok(Input {
            name,
            role,
            kind,
            fact,
        })
    };
    model.inputs.iter().map(input).collect()
}

/// Gives an input its shape, and its value if it only says what all inputs are like.
pub(super) fn fix_input(
    model: &mut InferenceModel,
    index: usize,
    &Input { role, kind, .. }: &Input,
    feed: Feed,
    masks: Masks,
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
    ensure!(
        shape[1] <= check::LONGEST_SEQUENCE,
        "its input takes {} tokens",
        shape[1]
    );
    model.set_input_fact(index, InferenceFact::dt_shape(kind, shape))?;
    let value = match role {
        Role::Mask => tract_ndarray::Array2::<i64>::ones(shape),
        Role::Positions => tract_ndarray::Array2::from_shape_fn(shape, |(_, at)| at as i64),
        Role::Picture | Role::Tokens => return Ok(()),
    };
    if role == Role::Mask && masks == Masks::Given {
        return Ok(());
    }
    let value = value
        .into_tensor()
        .cast_to_dt(kind)?
        .into_owned()
        .into_arc_tensor();
    let node = model.inputs[index].node;
    model.node_mut(node).op = Box::new(Const::new(value)?);
    Ok(())
}
