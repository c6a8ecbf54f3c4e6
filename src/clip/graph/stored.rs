//! A constant whose numbers stay in the bundle until an operator asks for them, in the form that it wants: most weights are
//! never unpacked into floats.

use std::sync::Arc;

use tract_core::internal::*;
use tract_nnef::ast::{Argument, Document, Identifier, LValue, Literal, RValue, TypeName};
use tract_nnef::deser::{ModelBuilder, ResolvedInvocation, Value};
use tract_nnef::internal::Registry;
use tract_nnef::resource::Resource;

use crate::clip::bundle::{Bundle, BundleError};
use crate::ops::matrix::StoredIntegers;

/// A tensor of a bundle, as an operator without inputs.
#[derive(Clone)]
pub struct StoredTensor {
    pub bundle: Arc<Bundle>,
    /// What the bundle calls it.
    pub label: String,
    pub shape: Vec<usize>,
}

impl std::fmt::Debug for StoredTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredTensor({} {:?})", self.label, self.shape)
    }
}

impl PartialEq for StoredTensor {
    fn eq(&self, other: &StoredTensor) -> bool {
        Arc::ptr_eq(&self.bundle, &other.bundle) && self.label == other.label
    }
}

impl Eq for StoredTensor {}

impl StoredTensor {
    /// The numbers as floats.
    pub fn floats(&self) -> Result<Tensor, BundleError> {
        Ok(self.bundle.f32(&self.label)?.into_tensor())
    }

    /// The numbers as they are stored, if that is in eight bits: see [`Bundle::integers`].
    pub fn integers(&self) -> Result<Option<(StoredIntegers, usize)>, BundleError> {
        self.bundle.integers(&self.label)
    }
}

impl Op for StoredTensor {
    fn name(&self) -> StaticName {
        "StoredTensor".into()
    }

    op_as_typed_op!();
}

impl EvalOp for StoredTensor {
    // Folding it would unpack it.
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, _: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec!(self.floats()?.into_tvalue()))
    }
}

impl TypedOp for StoredTensor {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.shape)))
    }

    as_op!();
}

impl Resource for StoredTensor {}

/// What a graph calls a [`StoredTensor`] while it is parsed; no file contains it.
const PRIMITIVE: &str = "edge_rlp_stored";

/// Registers the primitive that [`defer`] writes.
pub fn register(registry: &mut Registry) {
    registry.register_primitive(
        PRIMITIVE,
        &[TypeName::String.named("label")],
        &[("output", TypeName::Scalar.tensor())],
        load,
    );
}

fn load(builder: &mut ModelBuilder, invocation: &ResolvedInvocation) -> TractResult<Value> {
    let label: String = invocation.named_arg_as(builder, "label")?;
    let resource = builder.proto_model.resources.get(&label).cloned();
    let stored = resource.and_then(|resource| resource.downcast_arc::<StoredTensor>().ok());
    let stored = stored.with_context(|| format!("no tensor {label}"))?;
    builder.wire(StoredTensor::clone(&stored), &[])
}

/// Turns the variables of `document` whose labels `is_stored` knows into stored tensors; `registry` is the name of the
/// registry that [`register`] was called with.
pub fn defer(document: &mut Document, registry: &str, is_stored: impl Fn(&str) -> bool) {
    // A graph that needs no other primitive of ours does not name the registry.
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
        call.id = Identifier(PRIMITIVE.to_owned());
        call.generic_type_name = None;
        call.arguments = vec![Argument {
            id: Some(Identifier("label".to_owned())),
            rvalue: RValue::Literal(Literal::String(label)),
        }];
    }
}
