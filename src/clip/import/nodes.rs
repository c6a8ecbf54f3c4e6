//! What is read of a node of an ONNX graph, whatever its operator: what it is called and its attributes.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};

/// What a node is called, or else what it makes.
pub fn label(node: &NodeProto) -> &str {
    match (node.name.as_str(), node.output.first()) {
        ("", Some(output)) => output,
        (name, _) => name,
    }
}

/// An attribute of a node.
pub fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|it| it.name == name)
}

/// A whole number that a node has as an attribute.
pub fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name).map(|it| it.i)
}

/// A number that a node has as an attribute.
pub fn float(node: &NodeProto, name: &str) -> Option<f32> {
    attribute(node, name).map(|it| it.f)
}

/// An attribute that is a whole number.
pub fn number(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i: value,
        r#type: AttributeType::Int as i32,
        ..AttributeProto::default()
    }
}

/// An attribute that is a list of whole numbers.
pub fn list(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ints: values.to_vec(),
        r#type: AttributeType::Ints as i32,
        ..AttributeProto::default()
    }
}
