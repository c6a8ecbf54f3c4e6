//! Takes apart the operators that do several things at once: `Attention` of opset 23, and what onnxruntime's optimiser
//! fuses. What is left are operators that both towers are recognised by; what cannot be taken apart is refused with the
//! cure.

mod products;

use std::collections::HashMap;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, type_proto};

use super::nodes::{attribute, float, integer, label, list, number};

/// Practically minus infinity, as a mask adds it.
const HIDDEN: f32 = -1e30;
/// Operators that pass a mask on as it is.
const PASSES: [&str; 8] = [
    "Expand",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];
/// Operators that yield truth values.
const TRUTHS: [&str; 9] = [
    "And",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Not",
    "Or",
    "Xor",
];

/// Takes the nodes of `graph` apart where they do several things; texts have `length` tokens unless the file says
/// otherwise. The error continues a sentence that begins with the file.
pub fn take_apart(graph: &mut GraphProto, length: usize) -> Result<(), String> {
    let fused = |node: &NodeProto| is_known(&node.op_type);
    if !graph.node.iter().any(fused) {
        return Ok(());
    }
    let mut parts = Parts {
        length: declared_length(graph).unwrap_or(length),
        made: Vec::new(),
        initializers: Vec::new(),
        dims: graph
            .initializer
            .iter()
            .map(|it| (it.name.clone(), it.dims.clone()))
            .collect(),
        truths: truths(graph),
        ranks: products::ranks(graph),
        count: 0,
    };
    for node in std::mem::take(&mut graph.node) {
        if let Some(cure) = cure(&node.op_type) {
            return Err(format!(
                "needs the operator {} at node `{}`, which is not supported; {cure}",
                node.op_type,
                label(&node)
            ));
        }
        match (node.op_type.as_str(), node.domain.as_str()) {
            ("Attention", "" | "ai.onnx") => parts.attention(&node)?,
            ("Attention", _) => parts.packed_attention(&node)?,
            ("MultiHeadAttention", _) => parts.multi_head_attention(&node)?,
            ("SkipLayerNormalization", _) => parts.skip_layer_normalization(&node)?,
            ("FusedMatMul", _) => parts.scaled_product(&node)?,
            ("FusedConv", _) => parts.fused_convolution(&node)?,
            ("FastGelu", _) => parts.gelu(&node, "tanh"),
            ("BiasGelu", _) => parts.gelu(&node, "none"),
            ("QuickGelu", _) => parts.quick_gelu(&node),
            _ => parts.made.push(node),
        }
    }
    graph.node = parts.made;
    graph.initializer.extend(parts.initializers);
    Ok(())
}

/// Whether an operator is taken apart here, or refused with a cure.
pub fn is_known(operator: &str) -> bool {
    is_read(operator) || cure(operator).is_some()
}

fn is_read(operator: &str) -> bool {
    [
        "Attention",
        "BiasGelu",
        "FastGelu",
        "FusedConv",
        "FusedMatMul",
        "MultiHeadAttention",
        "QuickGelu",
        "SkipLayerNormalization",
    ]
    .contains(&operator)
}

/// What to do about an operator that stands in no tower which could be adapted.
fn cure(operator: &str) -> Option<&'static str> {
    match operator {
        "RotaryEmbedding" => {
            Some("no text tower with rotary positions can be adapted; take a CLIP or a SigLIP")
        }
        "GroupQueryAttention" | "SkipSimplifiedLayerNormalization" => {
            Some("export the model without onnxruntime's optimiser, or with opset 18")
        }
        _ => None,
    }
}

/// Tokens of a text, where the file fixes them.
fn declared_length(graph: &GraphProto) -> Option<usize> {
    use tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue;
    graph.input.iter().find_map(|input| {
        let type_proto::Value::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()?;
        let integers = [DataType::Int64 as i32, DataType::Int32 as i32];
        let dims = &tensor.shape.as_ref()?.dim;
        match dims.get(1)?.value.as_ref()? {
            DimValue(length) if dims.len() == 2 && integers.contains(&tensor.elem_type) => {
                usize::try_from(*length).ok().filter(|length| *length > 0)
            }
            _ => None,
        }
    })
}

/// The values that are true or false, by name.
fn truths(graph: &GraphProto) -> HashMap<String, bool> {
    let bool_type = DataType::Bool as i32;
    let constants = graph.initializer.iter();
    let mut truths: HashMap<String, bool> = constants
        .map(|tensor| (tensor.name.clone(), tensor.data_type == bool_type))
        .collect();
    for node in &graph.node {
        let attribute = |name: &str| node.attribute.iter().find(|it| it.name == name);
        let value = match node.op_type.as_str() {
            operator if TRUTHS.contains(&operator) => true,
            operator if PASSES.contains(&operator) => {
                let from = node.input.first().and_then(|name| truths.get(name));
                from.copied().unwrap_or(false)
            }
            "Cast" => attribute("to").is_some_and(|to| to.i == i64::from(bool_type)),
            "Constant" | "ConstantOfShape" => attribute("value")
                .and_then(|value| value.t.as_ref())
                .is_some_and(|tensor| tensor.data_type == bool_type),
            "Where" => {
                let from = node.input.get(1).and_then(|name| truths.get(name));
                from.copied().unwrap_or(false)
            }
            _ => false,
        };
        truths.extend(node.output.iter().map(|name| (name.clone(), value)));
    }
    truths
}

/// The nodes and constants that a graph becomes.
struct Parts {
    length: usize,
    made: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    dims: HashMap<String, Vec<i64>>,
    truths: HashMap<String, bool>,
    /// How many axes values have, where that is known.
    ranks: HashMap<String, usize>,
    count: usize,
}

/// One attention over queries, keys and values.
struct Attention<'a> {
    query: String,
    key: String,
    value: String,
    /// How many heads share a row; nothing where heads have an axis of their own.
    heads: Option<i64>,
    /// What the scores are multiplied with; by the root of a head's width they are divided without it.
    scale: Option<f32>,
    mask: Option<&'a str>,
    causal: bool,
    output: &'a str,
}

impl Parts {
    fn name(&mut self) -> String {
        self.count += 1;
        format!("edge_rlp_{}", self.count)
    }

    /// A new node; what it makes is called `output`, or something new.
    fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        output: Option<&str>,
    ) -> String {
        let output = output.map_or_else(|| self.name(), str::to_owned);
        self.made.push(NodeProto {
            op_type: operator.into(),
            name: output.clone(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.clone()],
            attribute: attributes,
            ..NodeProto::default()
        });
        output
    }

    fn integers(&mut self, values: &[i64]) -> String {
        let name = self.name();
        self.initializers.push(TensorProto {
            name: name.clone(),
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            int64_data: values.to_vec(),
            ..TensorProto::default()
        });
        name
    }

    fn floats(&mut self, dims: &[i64], values: Vec<f32>) -> String {
        let name = self.name();
        self.initializers.push(TensorProto {
            name: name.clone(),
            dims: dims.to_vec(),
            data_type: DataType::Float as i32,
            raw_data: values.into_iter().flat_map(f32::to_le_bytes).collect(),
            ..TensorProto::default()
        });
        name
    }

    /// `Attention` of opset 23 and 24.
    fn attention(&mut self, node: &NodeProto) -> Result<(), String> {
        let [query, key, value] = inputs(node)?;
        only_first_output(node)?;
        let further = node.input.iter().skip(4).any(|name| !name.is_empty());
        let capped = float(node, "softcap").is_some_and(|cap| cap != 0.0);
        let heads = integer(node, "q_num_heads");
        if further || capped || integer(node, "kv_num_heads") != heads {
            return Err(unread(
                node,
                "a plain attention, without a cache, softcap or grouped heads",
            ));
        }
        self.plain(Attention {
            query,
            key,
            value,
            heads,
            scale: float(node, "scale"),
            mask: node
                .input
                .get(3)
                .map(String::as_str)
                .filter(|it| !it.is_empty()),
            causal: integer(node, "is_causal") == Some(1),
            output: &node.output[0],
        });
        Ok(())
    }

    /// onnxruntime's `MultiHeadAttention`, whose bias, if any, is those of queries, keys and values in one.
    fn multi_head_attention(&mut self, node: &NodeProto) -> Result<(), String> {
        let mut rows = inputs(node)?;
        only_first_output(node)?;
        let input = |at: usize| node.input.get(at).filter(|name| !name.is_empty());
        let further = node.input.iter().enumerate();
        let mut further =
            further.filter(|(at, name)| ![0, 1, 2, 3, 5].contains(at) && !name.is_empty());
        if further.next().is_some() {
            return Err(unread(node, "an attention without padding mask and cache"));
        }
        if let Some(bias) = input(3) {
            let width = self.dims.get(bias).and_then(|dims| dims.first().copied());
            let width = width.ok_or_else(|| unread(node, "a constant bias"))? / 3;
            for (at, row) in rows.iter_mut().enumerate() {
                let own = self.slice(bias, 0, at as i64 * width..(at as i64 + 1) * width);
                *row = self.node("Add", &[&*row, &own], vec![], None);
            }
        }
        let [query, key, value] = rows;
        self.plain(Attention {
            query,
            key,
            value,
            heads: integer(node, "num_heads"),
            scale: float(node, "scale"),
            mask: input(5).map(String::as_str),
            causal: integer(node, "unidirectional") == Some(1),
            output: &node.output[0],
        });
        Ok(())
    }

    /// onnxruntime's `Attention`: queries, keys and values come from one product.
    fn packed_attention(&mut self, node: &NodeProto) -> Result<(), String> {
        let [rows, weight, bias] = inputs(node)?;
        only_first_output(node)?;
        let further = node.input.iter().enumerate();
        let mut further =
            further.filter(|(at, name)| ![0, 1, 2, 5].contains(at) && !name.is_empty());
        let width = self.dims.get(&weight).and_then(|dims| dims.get(1).copied());
        let (Some(width), None) = (width, further.next()) else {
            return Err(unread(node, "an attention without padding mask and cache"));
        };
        let all = self.node("MatMul", &[&rows, &weight], vec![], None);
        let all = self.node("Add", &[&all, &bias], vec![], None);
        let width = width / 3;
        let [query, key, value] =
            [0, 1, 2].map(|at| self.slice(&all, 2, at * width..(at + 1) * width));
        self.plain(Attention {
            query,
            key,
            value,
            heads: integer(node, "num_heads"),
            scale: float(node, "scale"),
            mask: node
                .input
                .get(5)
                .map(String::as_str)
                .filter(|it| !it.is_empty()),
            causal: integer(node, "unidirectional") == Some(1),
            output: &node.output[0],
        });
        Ok(())
    }

    fn slice(&mut self, value: &str, axis: i64, range: std::ops::Range<i64>) -> String {
        let [start, end, axis] =
            [range.start, range.end, axis].map(|number| self.integers(&[number]));
        self.node("Slice", &[value, &start, &end, &axis], vec![], None)
    }

    /// Products, a mask and a softmax.
    fn plain(&mut self, attention: Attention) {
        let Attention { heads, output, .. } = attention;
        let mut split = |value: String| match heads {
            None => value,
            Some(heads) => {
                let shape = self.integers(&[0, 0, heads, -1]);
                let rows = self.node("Reshape", &[&value, &shape], vec![], None);
                self.node(
                    "Transpose",
                    &[&rows],
                    vec![list("perm", &[0, 2, 1, 3])],
                    None,
                )
            }
        };
        let (query, key) = (split(attention.query), split(attention.key));
        let value = split(attention.value);
        let key = self.node(
            "Transpose",
            &[&key],
            vec![list("perm", &[0, 1, 3, 2])],
            None,
        );
        let scores = self.node("MatMul", &[&query, &key], vec![], None);
        let mut scores = match attention.scale.filter(|scale| *scale != 0.0) {
            Some(scale) => {
                let scale = self.floats(&[1], vec![scale]);
                self.node("Mul", &[&scores, &scale], vec![], None)
            }
            None => {
                let shape = self.node("Shape", &[&query], vec![], None);
                let last = self.integers(&[3]);
                let width = self.node("Gather", &[&shape, &last], vec![], None);
                let float = vec![number("to", DataType::Float as i64)];
                let width = self.node("Cast", &[&width], float, None);
                let root = self.node("Sqrt", &[&width], vec![], None);
                self.node("Div", &[&scores, &root], vec![], None)
            }
        };
        if attention.causal {
            let length = self.length;
            let hidden = (0..length * length).map(|at| {
                if at % length > at / length {
                    HIDDEN
                } else {
                    0.0
                }
            });
            let dims = [1, 1, length as i64, length as i64];
            let mask = self.floats(&dims, hidden.collect());
            scores = self.node("Add", &[&scores, &mask], vec![], None);
        }
        if let Some(mask) = attention.mask {
            let mask = if self.truths.get(mask).copied().unwrap_or(false) {
                let [seen, hidden] = [0.0, HIDDEN].map(|value| self.floats(&[1], vec![value]));
                self.node("Where", &[mask, &seen, &hidden], vec![], None)
            } else {
                mask.to_owned()
            };
            scores = self.node("Add", &[&scores, &mask], vec![], None);
        }
        let shares = self.node("Softmax", &[&scores], vec![number("axis", -1)], None);
        if heads.is_none() {
            self.node("MatMul", &[&shares, &value], vec![], Some(output));
            return;
        }
        let mixed = self.node("MatMul", &[&shares, &value], vec![], None);
        let rows = self.node(
            "Transpose",
            &[&mixed],
            vec![list("perm", &[0, 2, 1, 3])],
            None,
        );
        let shape = self.integers(&[0, 0, -1]);
        self.node("Reshape", &[&rows, &shape], vec![], Some(output));
    }

    /// A sum, which may be used elsewhere, and its layer norm.
    fn skip_layer_normalization(&mut self, node: &NodeProto) -> Result<(), String> {
        let [rows, skip, gain] = inputs(node)?;
        let output = |at: usize| node.output.get(at).filter(|name| !name.is_empty());
        if output(1).or(output(2)).is_some() {
            return Err(unread(node, "a layer norm whose mean is used nowhere else"));
        }
        let input = |at: usize| node.input.get(at).filter(|name| !name.is_empty());
        let rows = match input(4) {
            Some(bias) => self.node("Add", &[&rows, bias], vec![], None),
            None => rows,
        };
        let sum = self.node(
            "Add",
            &[&rows, &skip],
            vec![],
            output(3).map(String::as_str),
        );
        let epsilon = AttributeProto {
            name: "epsilon".into(),
            f: float(node, "epsilon").unwrap_or(1e-12),
            r#type: AttributeType::Float as i32,
            ..AttributeProto::default()
        };
        let mut of = vec![sum.as_str(), gain.as_str()];
        of.extend(input(3).map(String::as_str));
        let attributes = vec![number("axis", -1), epsilon];
        self.node("LayerNormalization", &of, attributes, Some(&node.output[0]));
        Ok(())
    }

    fn gelu(&mut self, node: &NodeProto, approximate: &str) {
        let rows = match node.input.get(1).filter(|name| !name.is_empty()) {
            Some(bias) => self.node("Add", &[&node.input[0], bias], vec![], None),
            None => node.input[0].clone(),
        };
        let approximate = AttributeProto {
            name: "approximate".into(),
            s: approximate.as_bytes().to_vec(),
            r#type: AttributeType::String as i32,
            ..AttributeProto::default()
        };
        self.node("Gelu", &[&rows], vec![approximate], Some(&node.output[0]));
    }

    fn quick_gelu(&mut self, node: &NodeProto) {
        let alpha = float(node, "alpha").unwrap_or(1.702);
        let alpha = self.floats(&[1], vec![alpha]);
        let scaled = self.node("Mul", &[&node.input[0], &alpha], vec![], None);
        let gate = self.node("Sigmoid", &[&scaled], vec![], None);
        self.node(
            "Mul",
            &[&node.input[0], &gate],
            vec![],
            Some(&node.output[0]),
        );
    }
}

/// The first three inputs, which must be there.
fn inputs(node: &NodeProto) -> Result<[String; 3], String> {
    let there = [0, 1, 2].map(|at| node.input.get(at).filter(|name| !name.is_empty()));
    match there {
        [Some(a), Some(b), Some(c)] => Ok([a, b, c].map(Clone::clone)),
        _ => Err(unread(node, "queries, keys and values")),
    }
}

fn only_first_output(node: &NodeProto) -> Result<(), String> {
    let mut further = node.output.iter().skip(1).filter(|name| !name.is_empty());
    match (node.output.first(), further.next()) {
        (Some(_), None) => Ok(()),
        _ => Err(unread(node, "one output")),
    }
}

fn unread(node: &NodeProto, expected: &str) -> String {
    format!(
        "has an operator {} at node `{}` that cannot be taken apart: expected {expected}; export the model without \
         onnxruntime's optimiser, or with opset 18",
        node.op_type,
        label(node)
    )
}
