//! The operators that graphs are written in: those of NNEF and tract, and ours. tract parses the declarations of all of
//! NNEF, twice, whenever it is asked for them; a graph that needs only what towers usually have gets those alone.

use tract_core::ops::{math, nn};
use tract_nnef::ast::parse::parse_fragment_decl;
use tract_nnef::ast::{Document, RValue};
use tract_nnef::internal::{Nnef, Registry};
use tract_nnef::ops::nnef::deser;
use tract_nnef::registry::ToTract;

use super::super::graph::stored;
use super::GeluExact;

/// What graphs call our additions to NNEF.
pub(super) const REGISTRY: &str = "edge_rlp";

/// All operators.
pub(super) fn whole() -> Nnef {
    tract_nnef::nnef().with_registry(ours())
}

/// All operators that `document` uses.
pub(super) fn of(document: &Document) -> Nnef {
    let nnef = Nnef {
        stdlib: Vec::new(),
        registries: vec![usual(), tract_nnef::ops::tract_core(), ours()],
        resource_loaders: Vec::new(),
        allow_extended_identifier_syntax: false,
        extern_all_constants: false,
    };
    let known = |name: &str| nnef.registries.iter().any(|registry| has(registry, name));
    let body = &document.graph_def.body;
    let enough = body
        .iter()
        .all(|assignment| calls_only(&assignment.right, &known));
    if enough { nnef } else { whole() }
}

fn ours() -> Registry {
    let mut registry = Registry::new(REGISTRY);
    registry.register_unit_element_wise("edge_rlp_gelu_exact", &GeluExact {});
    stored::register(&mut registry);
    registry
}

/// NNEF's operators that towers usually have and whose parameters are named: the declarations of its standard, and what reads
/// them.
const PRIMITIVES: [(&str, ToTract); 12] = [
    (
        "external<? = scalar>(shape: integer[]) -> (output: tensor<?>)",
        deser::external,
    ),
    (
        "variable<? = scalar>(shape: integer[], label: string) -> (output: tensor<?>)",
        deser::variable,
    ),
    (
        "reshape<?>(input: tensor<?>, shape: integer[], axis_start: integer = 0, axis_count: integer = -1) \
         -> (output: tensor<?>)",
        deser::reshape,
    ),
    (
        "transpose<?>(input: tensor<?>, axes: integer[]) -> (output: tensor<?>)",
        deser::transpose,
    ),
    (
        "concat<?>(values: tensor<?>[], axis: integer) -> (value: tensor<?>)",
        deser::concat,
    ),
    (
        "squeeze<?>(input: tensor<?>, axes: integer[]) -> (output: tensor<?>)",
        deser::squeeze,
    ),
    (
        "unsqueeze<?>(input: tensor<?>, axes: integer[]) -> (output: tensor<?>)",
        deser::unsqueeze,
    ),
    (
        "matmul(A: tensor<scalar>, B: tensor<scalar>, transposeA: logical = false, transposeB: logical = false) \
         -> (C: tensor<scalar>)",
        deser::matmul,
    ),
    (
        "conv(input: tensor<scalar>, filter: tensor<scalar>, bias: tensor<scalar> = 0.0, \
         border: string = 'constant', padding: (integer,integer)[] = [], stride: integer[] = [], \
         dilation: integer[] = [], groups: integer = 1) -> (output: tensor<scalar>)",
        deser::conv,
    ),
    (
        "sum_reduce(input: tensor<scalar>, axes: integer[], normalize: logical = false) \
         -> (output: tensor<scalar>)",
        deser::reduce,
    ),
    (
        "max_reduce(input: tensor<scalar>, axes: integer[]) -> (output: tensor<scalar>)",
        deser::reduce,
    ),
    (
        "softmax(x: tensor<scalar>, axes: integer[] = [1]) -> (y: tensor<scalar>)",
        deser::softmax,
    ),
];

/// All of NNEF's operators that towers usually have.
fn usual() -> Registry {
    let mut registry = Registry::new("tract_nnef");
    for (declaration, read) in PRIMITIVES {
        let declaration = parse_fragment_decl(&format!("fragment {declaration}"))
            .expect("a declaration of NNEF's own");
        let (parameters, results) = (&declaration.parameters, &declaration.results);
        registry.register_primitive(&declaration.id, parameters, results, read);
    }
    registry.register_binary("add", &math::Add {});
    registry.register_binary("sub", &math::Sub {});
    registry.register_binary("mul", &math::Mul {});
    registry.register_binary("div", &math::Div {});
    registry.register_binary("pow", &math::Pow {});
    registry.register_binary("min", &math::Min {});
    registry.register_binary("max", &math::Max {});
    registry.register_unit_element_wise("exp", &math::Exp {});
    registry.register_unit_element_wise("sqrt", &math::Sqrt {});
    registry.register_unit_element_wise("rsqrt", &math::Rsqrt {});
    registry.register_unit_element_wise("tanh", &math::Tanh {});
    registry.register_unit_element_wise("sigmoid", &nn::Sigmoid {});
    registry
}

fn has(registry: &Registry, name: &str) -> bool {
    registry.primitives.keys().any(|id| id.0 == name)
        || registry.fragments.keys().any(|id| id.0 == name)
        || registry
            .unit_element_wise_ops
            .iter()
            .any(|(id, _)| id.0 == name)
        || registry
            .element_wise_ops
            .iter()
            .any(|(id, ..)| id.0 == name)
        || registry.binary_ops.iter().any(|(id, _)| id.0 == name)
}

/// Whether all calls in a value are known; an operator between values calls others, too.
fn calls_only(value: &RValue, known: &impl Fn(&str) -> bool) -> bool {
    let all = |values: &[RValue]| values.iter().all(|value| calls_only(value, known));
    match value {
        RValue::Identifier(_) | RValue::Literal(_) => true,
        RValue::Tuple(values) | RValue::Array(values) => all(values),
        RValue::Invocation(call) => {
            let mut arguments = call.arguments.iter();
            known(&call.id.0) && arguments.all(|argument| calls_only(&argument.rvalue, known))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_nnef::ast::parse::parse_document;

    #[test]
    fn usual_operators_are_declared_as_tract_declares_them() {
        let (usual, whole) = (usual(), tract_nnef::ops::tract_nnef());
        for (id, primitive) in &usual.primitives {
            let theirs = &whole.primitives[id];
            assert_eq!(primitive.decl.parameters, theirs.decl.parameters, "{id:?}");
            assert_eq!(primitive.decl.results, theirs.decl.results, "{id:?}");
            assert!(
                std::ptr::fn_addr_eq(primitive.to_tract, theirs.to_tract),
                "{id:?}"
            );
        }
        for (id, op) in &usual.binary_ops {
            let theirs = whole.binary_ops.iter().find(|(name, _)| name == id);
            assert_eq!(theirs.map(|(_, op)| op.name()), Some(op.name()), "{id:?}");
        }
        for (id, op) in &usual.unit_element_wise_ops {
            let theirs = whole
                .unit_element_wise_ops
                .iter()
                .find(|(name, _)| name == id);
            assert_eq!(theirs.map(|(_, op)| op.name()), Some(op.name()), "{id:?}");
        }
    }

    #[test]
    fn a_graph_with_other_operators_gets_all_of_them() {
        let declared = |body: &str| {
            let text = format!("version 1.0; graph g(a) -> (b) {{ {body} }}");
            let nnef = of(&parse_document(&text).expect("a graph"));
            nnef.registries
                .iter()
                .map(|r| r.primitives.len())
                .sum::<usize>()
        };
        let few = declared("b = add(softmax(a), [1.0]);");
        let all = declared("b = deconv(a, a);");
        assert!(few < all);
        assert_eq!(declared("b = a + a;"), all);
        assert_eq!(declared("b = add(a, unstack(a));"), all);
    }
}
