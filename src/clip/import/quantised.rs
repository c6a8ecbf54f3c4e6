//! Turns an ONNX graph that onnxruntime quantised back into the float graph that it stands for: every quantised value
//! is read as the real number which it encodes, weights become `(q - zero point) * scale`, and activations are not
//! quantised at all.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::blocks;
use super::nodes::{integer, label};

/// Operators that move numbers without changing them, so that what is behind their first input is quantised alike.
const MOVES: [&str; 12] = [
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Which real numbers the integers of one constant stand for: `(q - zero point) * scale`.
#[derive(Clone, Debug, PartialEq)]
struct Quantisation {
    scale: String,
    zero_point: Option<String>,
    /// Along which the scales lie if there are several; counted from the back where negative.
    axis: i64,
    /// How many numbers along the axis share a scale; one where it is 0.
    block: i64,
}

/// Rewrites `model`, whose external data lies in `folder`, and returns how many constants were integers. The error
/// continues a sentence that begins with the file.
pub fn dequantise(model: &mut ModelProto, folder: &Path) -> Result<usize, String> {
    let Some(graph) = model
        .graph
        .as_mut()
        .filter(|graph| graph.node.iter().any(|node| is_quantised(&node.op_type)))
    else {
        return Ok(0);
    };
    turn_constants_into_initializers(graph);
    let quantisations = Rewriter::new(graph).rewrite()?;
    for (index, quantisation) in &quantisations {
        let tensor = dequantised(graph, folder, *index, quantisation)?;
        graph.initializer[*index] = tensor;
    }
    drop_unused(graph);
    Ok(quantisations.len())
}

fn is_quantised(operator: &str) -> bool {
    operator.contains("uantize") || operator.ends_with("Integer") || operator.starts_with("QLinear")
}

/// Constant nodes are initializers by another name.
fn turn_constants_into_initializers(graph: &mut GraphProto) {
    let GraphProto {
        node, initializer, ..
    } = graph;
    node.retain(|node| {
        let value = node
            .attribute
            .iter()
            .find(|attribute| attribute.name == "value")
            .and_then(|attribute| attribute.t.as_ref());
        match (value, node.output.first()) {
            (Some(value), Some(name)) if node.op_type == "Constant" => {
                initializer.push(TensorProto {
                    name: name.clone(),
                    ..value.clone()
                });
                false
            }
            _ => true,
        }
    });
}

struct Rewriter<'a> {
    graph: &'a mut GraphProto,
    /// Index of the initializer, by name.
    constants: HashMap<String, usize>,
    /// Index of the node that produces a value.
    producers: HashMap<String, usize>,
    /// Indices of the nodes that consume a value.
    consumers: HashMap<String, Vec<usize>>,
    quantisations: HashMap<usize, Quantisation>,
}

impl Rewriter<'_> {
    fn new(graph: &mut GraphProto) -> Rewriter<'_> {
        let (mut producers, mut consumers) = (HashMap::new(), HashMap::<String, Vec<usize>>::new());
        for (index, node) in graph.node.iter().enumerate() {
            producers.extend(node.output.iter().map(|name| (name.clone(), index)));
            for input in &node.input {
                consumers.entry(input.clone()).or_default().push(index);
            }
        }
        let constants = graph.initializer.iter().enumerate();
        let constants = constants.map(|(index, tensor)| (tensor.name.clone(), index));
        Rewriter {
            constants: constants.collect(),
            producers,
            consumers,
            quantisations: HashMap::new(),
            graph,
        }
    }

    /// Rewrites all nodes, and yields the constants that are to be dequantised.
    fn rewrite(mut self) -> Result<HashMap<usize, Quantisation>, String> {
        for index in 0..self.graph.node.len() {
            match self.graph.node[index].op_type.as_str() {
                "MatMulInteger" => self.product(index, "MatMul", -1)?,
                "ConvInteger" => self.product(index, "Conv", 0)?,
                "DequantizeLinear" => self.dequantize(index)?,
                _ => {}
            }
        }
        for node in &mut self.graph.node {
            match node.op_type.as_str() {
                "QuantizeLinear" | "DynamicQuantizeLinear" | "DequantizeLinear" => {
                    pass_through(node, 0)
                }
                operator if is_quantised(operator) => {
                    let (name, operator) = (label(node), operator);
                    return Err(format!(
                        "is quantised with the operator {operator} at node `{name}`, which is not supported; take the \
                         float32 file, or quantise with onnxruntime's quantize_dynamic or in the QDQ format"
                    ));
                }
                _ => {}
            }
        }
        Ok(self.quantisations)
    }

    fn node(&self, index: usize) -> &NodeProto {
        &self.graph.node[index]
    }

    fn producer(&self, value: &str) -> Option<&NodeProto> {
        self.producers.get(value).map(|&index| self.node(index))
    }

    fn unexpected(&self, index: usize, expected: &str) -> String {
        let node = self.node(index);
        format!(
            "is quantised in a way that is not supported: expected {expected} at node `{}` ({}); take the float32 file",
            label(node),
            node.op_type
        )
    }

    /// The only node that consumes the first output of another.
    fn consumer(&self, index: usize) -> Option<usize> {
        match self.consumers.get(self.node(index).output.first()?)?[..] {
            [consumer] => Some(consumer),
            _ => None,
        }
    }

    /// A product of integers, converted to floats and multiplied with the product of both scales, becomes the product
    /// of the real numbers. A constant operand has its scales along `axis`.
    fn product(&mut self, index: usize, operator: &str, axis: i64) -> Result<(), String> {
        let mut last = index;
        let mut multiplied = self.consumer(index);
        if let Some(cast) = multiplied.filter(|&at| self.node(at).op_type == "Cast") {
            (last, multiplied) = (cast, self.consumer(cast));
        }
        let expected = "its result multiplied with the product of two scales";
        let multiplied = multiplied
            .filter(|&at| self.node(at).op_type == "Mul" && self.node(at).input.len() == 2)
            .ok_or_else(|| self.unexpected(index, expected))?;
        let result = &self.node(last).output[0];
        let side = usize::from(&self.node(multiplied).input[0] != result);
        let scales = &self.node(multiplied).input[1 - side];
        let scales: [String; 2] = self
            .producer(scales)
            .filter(|node| node.op_type == "Mul")
            .and_then(|node| node.input.clone().try_into().ok())
            .ok_or_else(|| self.unexpected(index, expected))?;
        let inputs = self.node(index).input.clone();
        let constant_scales = scales.iter().filter(|it| self.constants.contains_key(*it));
        let mut constant_scales: Vec<String> = constant_scales.rev().cloned().collect();
        for operand in 0..2 {
            let value = inputs
                .get(operand)
                .ok_or_else(|| self.unexpected(index, "two operands"))?;
            if let Some(&constant) = self.constants.get(value) {
                let scale = constant_scales
                    .pop()
                    .ok_or_else(|| self.unexpected(index, "a constant scale of its weight"))?;
                let zero_point = inputs.get(2 + operand).filter(|name| !name.is_empty());
                let quantisation = Quantisation {
                    scale,
                    zero_point: zero_point.cloned(),
                    axis,
                    block: 0,
                };
                self.insert(index, constant, quantisation)?;
            }
        }
        let node = &mut self.graph.node[index];
        node.op_type = operator.into();
        node.input.truncate(2);
        pass_through(&mut self.graph.node[multiplied], side);
        Ok(())
    }

    /// A constant behind a DequantizeLinear is one of real numbers; so is any other value.
    fn dequantize(&mut self, index: usize) -> Result<(), String> {
        let node = self.node(index);
        let [value, scale] = [0, 1].map(|at| node.input.get(at).cloned());
        let (Some(value), Some(scale)) = (value, scale) else {
            return Err(self.unexpected(index, "a value and its scale"));
        };
        let axis = integer(node, "axis").unwrap_or(1);
        let block = integer(node, "block_size").unwrap_or(0);
        let zero_point = node.input.get(2).filter(|name| !name.is_empty()).cloned();
        let mut behind = value.clone();
        while !self.constants.contains_key(&behind) {
            match self.producer(&behind) {
                Some(node) if MOVES.contains(&node.op_type.as_str()) && !node.input.is_empty() => {
                    behind = node.input[0].clone();
                }
                _ => return Ok(()),
            }
        }
        let constant = self.constants[&behind];
        let several = self.constants.get(&scale).is_none_or(|&scale| {
            let dims = &self.graph.initializer[scale].dims;
            dims.iter().product::<i64>() != 1
        });
        if behind != value && several {
            return Err(self.unexpected(
                index,
                "one scale for a weight that is looked up or reshaped",
            ));
        }
        let quantisation = Quantisation {
            scale,
            zero_point,
            axis,
            block,
        };
        self.insert(index, constant, quantisation)
    }

    fn insert(
        &mut self,
        index: usize,
        constant: usize,
        quantisation: Quantisation,
    ) -> Result<(), String> {
        match self.quantisations.insert(constant, quantisation.clone()) {
            Some(other) if other != quantisation => {
                Err(self.unexpected(index, "one scale for all uses of a weight"))
            }
            _ => Ok(()),
        }
    }
}

/// Turns a node into the identity of its input number `input`.
fn pass_through(node: &mut NodeProto, input: usize) {
    node.op_type = "Identity".into();
    node.domain.clear();
    node.attribute.clear();
    node.input = node.input.drain(..).skip(input).take(1).collect();
    node.output.truncate(1);
}

/// The initializer number `index` as the floats that it encodes.
fn dequantised(
    graph: &GraphProto,
    folder: &Path,
    index: usize,
    quantisation: &Quantisation,
) -> Result<TensorProto, String> {
    let proto = &graph.initializer[index];
    let failed = |reason: String| {
        let (name, reason) = (&proto.name, reason);
        format!(
            "has quantised weights `{name}` that cannot be read: {reason}; take the float32 file"
        )
    };
    let constant = |name: &str| {
        let found = graph.initializer.iter().find(|tensor| tensor.name == name);
        found.ok_or_else(|| failed(format!("`{name}` is computed, not a constant")))
    };
    let load = |proto: &TensorProto| {
        blocks::numbers(proto, folder).map_err(|error| failed(error.to_string()))
    };
    let weights = load(proto)?;
    let shape: Vec<usize> = proto.dims.iter().map(|&dim| dim.max(0) as usize).collect();
    let scales = load(constant(&quantisation.scale)?)?;
    let zero_points = match &quantisation.zero_point {
        Some(name) => load(constant(name)?)?,
        None => vec![0.0],
    };
    let axis = match quantisation.axis {
        axis if axis < 0 => shape.len() as i64 + axis,
        axis => axis,
    };
    let axis = usize::try_from(axis).unwrap_or(usize::MAX);
    let (channels, inner) = match shape.get(axis) {
        Some(&channels) => (channels, shape[axis + 1..].iter().product::<usize>()),
        None => (1, 1),
    };
    let block = usize::try_from(quantisation.block).unwrap_or(0);
    let blocks = channels
        .checked_div(block)
        .map_or(channels, |_| channels.div_ceil(block));
    let expected = match block {
        0 => channels,
        _ => weights.len() / channels.max(1) * blocks,
    };
    for (what, count) in [("scales", scales.len()), ("zero points", zero_points.len())] {
        if count != 1 && (count != expected || axis >= shape.len()) {
            return Err(failed(format!(
                "{count} {what} do not fit the shape {shape:?} along axis {axis}"
            )));
        }
    }
    let (inner, channels) = (inner.max(1), channels.max(1));
    let values = weights.into_iter().enumerate().map(|(at, q)| {
        let channel = at / inner % channels;
        let own = match channel.checked_div(block) {
            None => channel,
            Some(own) => (at / inner / channels * blocks + own) * inner + at % inner,
        };
        let of = |list: &[f32]| list[if list.len() == 1 { 0 } else { own }];
        (q - of(&zero_points)) * of(&scales)
    });
    Ok(TensorProto {
        name: proto.name.clone(),
        dims: proto.dims.clone(),
        data_type: DataType::Float as i32,
        data_location: Some(DataLocation::Default as i32),
        raw_data: values.flat_map(f32::to_le_bytes).collect(),
        ..TensorProto::default()
    })
}

/// Leaves out nodes and constants that no output depends on any more.
fn drop_unused(graph: &mut GraphProto) {
    let outputs = |node: &NodeProto, index: usize| {
        let named = |name: &String| (name.clone(), index);
        node.output.iter().map(named).collect::<Vec<_>>()
    };
    let nodes = graph.node.iter().enumerate();
    let producers: HashMap<String, usize> = nodes.flat_map(|(i, node)| outputs(node, i)).collect();
    let mut used: HashSet<String> = HashSet::new();
    let mut open: Vec<String> = graph.output.iter().map(|it| it.name.clone()).collect();
    while let Some(name) = open.pop() {
        if let Some(&producer) = producers.get(&name)
            && !used.contains(&name)
        {
            add_inputs(&graph.node[producer], &mut open);
        }
        used.insert(name);
    }
    graph
        .node
        .retain(|node| node.output.iter().any(|name| used.contains(name)));
    graph
        .initializer
        .retain(|tensor| used.contains(&tensor.name));
}

/// Adds all values that a node consumes, also those that graphs within it take from around them.
fn add_inputs(node: &NodeProto, names: &mut Vec<String>) {
    names.extend(node.input.iter().cloned());
    for body in node.attribute.iter().filter_map(|it| it.g.as_ref()) {
        names.extend(body.output.iter().map(|output| output.name.clone()));
        body.node.iter().for_each(|node| add_inputs(node, names));
    }
}
