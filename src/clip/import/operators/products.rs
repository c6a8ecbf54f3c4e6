//! onnxruntime's products that do something beside: `FusedMatMul`, whose factors may be transposed, and `FusedConv`.

use std::collections::HashMap;

use tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, ValueInfoProto, type_proto};

use super::{Parts, attribute, integer, list, only_first_output, unread};

/// What `FusedMatMul` does to its first and its second factor: whether the last two axes change places, and whether the first
/// axis goes behind those of the batch.
const TURNS: [[&str; 2]; 2] = [["transA", "transBatchA"], ["transB", "transBatchB"]];

impl Parts {
    /// A product times a number, of factors that may be transposed.
    pub(super) fn scaled_product(&mut self, node: &NodeProto) -> Result<(), String> {
        let [a, b] = &node.input[..] else {
            return Err(unread(node, "two factors"));
        };
        let factors = [
            self.turned(node, a, TURNS[0])?,
            self.turned(node, b, TURNS[1])?,
        ];
        let factors = factors.each_ref().map(String::as_str);
        let Some(alpha) = super::float(node, "alpha").filter(|&alpha| alpha != 1.0) else {
            self.node("MatMul", &factors, vec![], Some(&node.output[0]));
            return Ok(());
        };
        let product = self.node("MatMul", &factors, vec![], None);
        let alpha = self.floats(&[1], vec![alpha]);
        self.node("Mul", &[&product, &alpha], vec![], Some(&node.output[0]));
        Ok(())
    }

    /// A factor as it is multiplied. A rank that was not found out rightly does not pass: tract wants as many axes.
    fn turned(
        &mut self,
        node: &NodeProto,
        factor: &str,
        [ends, batch]: [&str; 2],
    ) -> Result<String, String> {
        let [ends, batch] = [ends, batch].map(|name| integer(node, name) == Some(1));
        if !ends && !batch {
            return Ok(factor.to_owned());
        }
        let rank = self.ranks.get(factor).filter(|&&rank| rank >= 2);
        let &rank = rank.ok_or_else(|| {
            unread(
                node,
                &format!("`{factor}`, which it transposes, of a known number of axes"),
            )
        })?;
        let mut axes: Vec<i64> = (0..rank as i64).collect();
        if batch {
            axes[..rank - 1].rotate_left(1);
        }
        if ends {
            axes.swap(rank - 2, rank - 1);
        }
        Ok(self.node("Transpose", &[factor], vec![list("perm", &axes)], None))
    }

    /// A convolution, a sum and an activation.
    pub(super) fn fused_convolution(&mut self, node: &NodeProto) -> Result<(), String> {
        only_first_output(node)?;
        let own = |it: &&AttributeProto| !it.name.starts_with("activation");
        let attributes: Vec<AttributeProto> = node.attribute.iter().filter(own).cloned().collect();
        let activation = attribute(node, "activation").map(|it| &it.s[..]);
        let activation = match activation.unwrap_or_default() {
            b"" => None,
            b"Relu" => Some("Relu"),
            b"Sigmoid" => Some("Sigmoid"),
            b"Tanh" => Some("Tanh"),
            _ => return Err(unread(node, "Relu, Sigmoid, Tanh or nothing after it")),
        };
        let there = |name: &&String| !name.is_empty();
        let convolved: Vec<&str> = node.input.iter().take(3).map(String::as_str).collect();
        let added = node.input.get(3).filter(there);
        let output = Some(node.output[0].as_str());
        let last = |more: bool| if more { None } else { output };
        let ends = added.is_none() && activation.is_none();
        let mut value = self.node("Conv", &convolved, attributes, last(!ends));
        if let Some(added) = added {
            let to = last(activation.is_some());
            value = self.node("Add", &[&value, added], vec![], to);
        }
        if let Some(activation) = activation {
            self.node(activation, &[&value], vec![], output);
        }
        Ok(())
    }
}

/// How many axes the values of `graph` have, by name, as far as that is plain.
pub(super) fn ranks(graph: &GraphProto) -> HashMap<String, usize> {
    let constants = graph.initializer.iter();
    let mut ranks: HashMap<String, usize> = constants
        .map(|tensor| (tensor.name.clone(), tensor.dims.len()))
        .collect();
    let declared = graph.input.iter().chain(&graph.value_info);
    ranks.extend(declared.filter_map(|value| Some((value.name.clone(), declared_rank(value)?))));
    // Of values that say how many axes another one gets.
    let mut lengths: HashMap<&str, usize> = HashMap::new();
    for tensor in &graph.initializer {
        if let [length] = tensor.dims[..] {
            lengths.insert(&tensor.name, length as usize);
        }
    }
    for value in &graph.value_info {
        if let Some(length) = declared_length(value) {
            lengths.insert(&value.name, length);
        }
    }
    for node in &graph.node {
        if let Some(length) = length_made(node, &lengths) {
            lengths.extend(node.output.iter().map(|name| (name.as_str(), length)));
        }
        if let Some(rank) = rank_made(node, &ranks, &lengths) {
            for name in &node.output {
                ranks.entry(name.clone()).or_insert(rank);
            }
        }
    }
    ranks
}

fn dimensions(value: &ValueInfoProto) -> Option<&[tract_onnx::pb::tensor_shape_proto::Dimension]> {
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    Some(&tensor.shape.as_ref()?.dim)
}

fn declared_rank(value: &ValueInfoProto) -> Option<usize> {
    dimensions(value).map(<[_]>::len)
}

fn declared_length(value: &ValueInfoProto) -> Option<usize> {
    match dimensions(value)? {
        [dim] => match dim.value {
            Some(DimValue(length)) => usize::try_from(length).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The length of a list of sizes that `node` makes.
fn length_made(node: &NodeProto, lengths: &HashMap<&str, usize>) -> Option<usize> {
    let of = |name: &String| lengths.get(name.as_str()).copied();
    match node.op_type.as_str() {
        "Constant" => match attribute(node, "value")?.t.as_ref()?.dims[..] {
            [length] => usize::try_from(length).ok(),
            _ => None,
        },
        // Of a size by itself.
        "Unsqueeze" => Some(1),
        "Concat" => node.input.iter().map(of).sum(),
        "Cast" | "Identity" => of(node.input.first()?),
        _ => None,
    }
}

fn rank_made(
    node: &NodeProto,
    ranks: &HashMap<String, usize>,
    lengths: &HashMap<&str, usize>,
) -> Option<usize> {
    let of = |name: &String| ranks.get(name).copied();
    let input = |at: usize| node.input.get(at).and_then(of);
    let axes = || {
        let given = attribute(node, "axes").map(|it| it.ints.len());
        given.or_else(|| lengths.get(node.input.get(1)?.as_str()).copied())
    };
    match node.op_type.as_str() {
        "Constant" => Some(attribute(node, "value")?.t.as_ref()?.dims.len()),
        "Transpose" => attribute(node, "perm")
            .map(|perm| perm.ints.len())
            .or(input(0)),
        "Reshape" | "Expand" | "ConstantOfShape" => {
            let shape = node.input.last()?;
            lengths.get(shape.as_str()).copied()
        }
        "MatMul" | "FusedMatMul" | "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Where" => {
            let all: Option<Vec<usize>> = node.input.iter().map(of).collect();
            all?.into_iter().max()
        }
        "Gather" => (input(0)? + input(1)?).checked_sub(1),
        "Unsqueeze" => Some(input(0)? + axes()?),
        "Squeeze" => input(0)?.checked_sub(axes()?),
        "Shape" | "Size" | "Flatten" | "Einsum" | "ReduceMean" | "ReduceSum" | "ReduceMax" => None,
        // Most others yield values like the one that they take.
        _ => input(0),
    }
}
