//! A constant of the graph whose numbers stay in the bundle until an operator asks for them, in the form that it wants:
//! most weights are never unpacked into floats. It must not know which operators those are.

use std::sync::Arc;

use tract_core::internal::*;
use tract_nnef::ast::{Argument, Document, Identifier, LValue, Literal, RValue, TypeName};
use tract_nnef::deser::{ModelBuilder, ResolvedInvocation, Value};
use tract_nnef::internal::Registry;
use tract_nnef::resource::Resource;

use crate::clip::bundle::{Bundle, BundleError};
use crate::ops::matrix::StoredIntegers;

/// A tensor of a bundle.
#[derive(Clone)]
pub struct Stored {
    pub bundle: Arc<Bundle>,
    /// What the bundle calls it.
    pub label: String,
    pub shape: Vec<usize>,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({} {:?})", self.label, self.shape)
    }
}

impl PartialEq for Stored {
    fn eq(&self, other: &Stored) -> bool {
        Arc::ptr_eq(&self.bundle, &other.bundle) && self.label == other.label
    }
}

impl Eq for Stored {}

impl Stored {
    /// The numbers as floats.
    pub fn floats(&self) -> Result<Tensor, BundleError> {
        Ok(self.bundle.f32(&self.label)?.into_tensor())
    }

    /// The numbers as they are kept, if that is in eight bits: see [`Bundle::integers`].
    pub fn integers(&self) -> Result<Option<(StoredIntegers, usize)>, BundleError> {
        self.bundle.integers(&self.label)
    }
}

impl Op for Stored {
    fn name(&self) -> StaticName {
        "Stored".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Stored {
    // Folding it would unpack it.
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, _: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec!(self.floats()?.into_tvalue()))
    }
}

impl TypedOp for Stored {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.shape)))
    }

    as_op!();
}

impl Resource for Stored {}

/// What the graph calls a [`Stored`] constant while it is read; no file has it.
const WORD: &str = "edge_rlp_stored";

/// Makes `registry` understand what [`defer`] writes.
pub fn register(registry: &mut Registry) {
    registry.register_primitive(
        WORD,
        &[TypeName::String.named("label")],
        &[("output", TypeName::Scalar.tensor())],
        load,
    );
}

fn load(builder: &mut ModelBuilder, invocation: &ResolvedInvocation) -> TractResult<Value> {
    let label: String = invocation.named_arg_as(builder, "label")?;
    let resource = builder.proto_model.resources.get(&label).cloned();
    let stored = resource.and_then(|resource| resource.downcast_arc::<Stored>().ok());
    let stored = stored.with_context(|| format!("no tensor {label}"))?;
    builder.wire(Stored::clone(&stored), &[])
}

/// Rewrites the variables of `document` whose labels `is_stored` knows to what `registry` understands.
pub fn defer(document: &mut Document, registry: &str, is_stored: impl Fn(&str) -> bool) {
    // A graph that needs no other word of ours does not name the registry.
    let needed = (Identifier("tract_registry".to_owned()), registry.to_owned());
    if !document.extension.contains(&needed) {
        document.extension.push(needed);
    }
    for assignment in &mut document.graph_def.body {
        let (LValue::Identifier(_), RValue::Invocation(call)) =
            (&assignment.left, &mut assignment.right)
        else {
            continue;
        };
        let label = call.arguments.iter().find_map(|argument| {
            let named = argument.id.as_ref().is_some_and(|id| id.0 == "label");
            match &argument.rvalue {
                RValue::Literal(Literal::String(label)) if named => Some(label.clone()),
                _ => None,
            }
        });
        let Some(label) = label.filter(|label| call.id.0 == "variable" && is_stored(label)) else {
            continue;
        };
        call.id = Identifier(WORD.to_owned());
        call.generic_type_name = None;
        call.arguments = vec![Argument {
            id: Some(Identifier("label".to_owned())),
            rvalue: RValue::Literal(Literal::String(label)),
        }];
    }
}
