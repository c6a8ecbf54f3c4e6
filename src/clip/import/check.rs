//! Checks an ONNX file before tract allocates or runs anything for it: sizes, external files, names, circles,
//! operators.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path};

use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::blocks;
use super::nodes::label;
use crate::clip::graph::guard::MOST_VALUES;

/// No sequence of tokens is longer.
pub const LONGEST_SEQUENCE: usize = 4096;
/// Bytes of all weights of a file: twice those of the largest CLIP that an edge box could run (ViT-H/14 in f32).
const MOST_BYTES: u64 = 8 << 30;
/// Nodes of a graph; the largest exports have some thousands.
const MOST_NODES: usize = 15_000;
/// Numbers in a constant that could be a shape.
const LONGEST_SHAPE: usize = 16;

/// Checks `model`, whose external data lies in `folder`; `known` says which operators are supported. The error
/// continues a sentence that begins with the file.
pub fn check(
    model: &ModelProto,
    folder: &Path,
    known: &dyn Fn(&str) -> bool,
) -> Result<(), String> {
    let graph = model
        .graph
        .as_ref()
        .ok_or("holds no graph; it is not an ONNX model, or was cut off")?;
    let mut checker = Checker {
        folder,
        known,
        bytes: 0,
    };
    checker.graph(graph, &HashSet::new())
}

struct Checker<'a> {
    folder: &'a Path,
    known: &'a dyn Fn(&str) -> bool,
    /// Of the weights so far.
    bytes: u64,
}

impl Checker<'_> {
    /// `outer` are the values that a graph within a graph sees.
    fn graph(&mut self, graph: &GraphProto, outer: &HashSet<&str>) -> Result<(), String> {
        if graph.node.len() > MOST_NODES {
            return Err(format!(
                "has {} nodes, more than any CLIP (at most {MOST_NODES} are read)",
                graph.node.len()
            ));
        }
        for tensor in &graph.initializer {
            self.tensor(tensor, &tensor.name)?;
        }
        let inputs = graph.input.iter().map(|input| input.name.as_str());
        let initializers = graph.initializer.iter().map(|tensor| tensor.name.as_str());
        let mut made: HashSet<&str> = outer.clone();
        made.extend(inputs.chain(initializers));
        let outputs = graph.node.iter().flat_map(|node| &node.output);
        let mut all = made.clone();
        for name in outputs.filter(|name| !name.is_empty()) {
            if !all.insert(name) {
                return Err(format!("makes the value `{name}` twice; export it again"));
            }
        }
        let constants = Constants::of(graph);
        for node in &graph.node {
            self.node(&constants, node, &all)?;
        }
        if let Some(output) = graph
            .output
            .iter()
            .find(|output| !all.contains(output.name.as_str()))
        {
            return Err(format!(
                "has an output `{}` that no node makes; was it cut off?",
                output.name
            ));
        }
        circles(graph, made)
    }

    fn node(
        &mut self,
        constants: &Constants,
        node: &NodeProto,
        all: &HashSet<&str>,
    ) -> Result<(), String> {
        if !(self.known)(&node.op_type) {
            let domain = match node.domain.as_str() {
                "" | "ai.onnx" => String::new(),
                domain => format!(" of {domain}"),
            };
            let advice = if domain.contains("com.microsoft") {
                "export without onnxruntime's graph optimisations"
            } else {
                "export the model with ONNX's own operators"
            };
            return Err(format!(
                "needs the operator {}{domain} at node `{}`, which is not supported; {advice}",
                node.op_type,
                label(node)
            ));
        }
        let mut inputs = node.input.iter().filter(|name| !name.is_empty());
        if let Some(missing) = inputs.find(|name| !all.contains(name.as_str())) {
            return Err(format!(
                "takes a value `{missing}` at node `{}` that nothing makes; export it again",
                label(node)
            ));
        }
        for attribute in &node.attribute {
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                self.tensor(tensor, label(node))?;
            }
            for body in attribute.g.iter().chain(&attribute.graphs) {
                self.graph(body, all)?;
            }
        }
        let constant = |at: usize| constants.integers(node.input.get(at)?, &mut 32);
        let shape = match node.op_type.as_str() {
            "ConstantOfShape" => constant(0),
            "Expand" => constant(1).map(|shape| constants.expanded(&node.input[0], shape)),
            "Reshape" | "Tile" => constant(1),
            "Pad" => constant(1).map(|pads| pads.iter().map(|pad| pad.saturating_add(1)).collect()),
            "OneHot" => constant(1),
            "Resize" => constant(3),
            "Range" => range(constant(0), constant(1), constant(2)),
            _ => None,
        };
        let shape = shape.unwrap_or_default();
        // -1 and 0 keep a size, so what remains is a lower bound.
        let sizes: Vec<i64> = shape.iter().map(|&size| size.max(1)).collect();
        let negative = node.op_type == "Reshape" && shape.iter().any(|&size| size < -1);
        if negative || volume(&sizes).is_none_or(|volume| volume > MOST_VALUES) {
            return Err(format!(
                "asks for the shape {shape:?} at node `{}` ({}), which cannot be; the file is damaged",
                label(node),
                node.op_type
            ));
        }
        Ok(())
    }

    /// That a tensor has the numbers which it declares, inside the file or in a file beside it.
    fn tensor(&mut self, tensor: &TensorProto, name: &str) -> Result<(), String> {
        let kind = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
        let size = match kind {
            DataType::String => return Ok(()),
            DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
            DataType::Int4 | DataType::Uint4 => 1,
            DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
            DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
            DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
            other => {
                return Err(format!(
                    "holds `{name}` as {other:?}, which is not supported; export the model in float32, float16 or int8"
                ));
            }
        };
        let half_bytes = blocks::is_half_bytes(tensor);
        let declared = volume(&tensor.dims).and_then(|volume| match half_bytes {
            true => Some(volume.div_ceil(2)),
            false => volume.checked_mul(size),
        });
        let declared = declared.ok_or_else(|| {
            format!(
                "declares `{name}` with the shape {:?}, which cannot be; the file is damaged",
                tensor.dims
            )
        })?;
        let there = if tensor.data_location == Some(DataLocation::External as i32) {
            self.external(tensor, name)?
        } else if !tensor.raw_data.is_empty() {
            tensor.raw_data.len() as u64
        } else {
            let values = [
                tensor.float_data.len(),
                tensor.int32_data.len(),
                tensor.int64_data.len(),
                tensor.double_data.len(),
                tensor.uint64_data.len(),
            ];
            values.iter().map(|&count| count as u64).sum::<u64>() * size
        };
        if there != declared {
            return Err(format!(
                "declares `{name}` with {declared} bytes ({:?}), but {there} are there; the file is damaged or was cut off",
                tensor.dims
            ));
        }
        self.bytes += declared;
        if self.bytes > MOST_BYTES {
            return Err(format!(
                "holds more than {} GiB of weights, more than this program runs",
                MOST_BYTES >> 30
            ));
        }
        Ok(())
    }

    /// How many bytes a tensor has in its file, which must be in the folder.
    fn external(&self, tensor: &TensorProto, name: &str) -> Result<u64, String> {
        let entry = |key: &str| {
            let found = tensor.external_data.iter().find(|entry| entry.key == key);
            found.map(|entry| entry.value.as_str())
        };
        let location = entry("location").ok_or_else(|| {
            format!("keeps `{name}` in another file, but does not say in which; export it again")
        })?;
        let outside = || {
            format!(
                "keeps `{name}` in `{location}`, which is outside its own folder; put all files of the model in one folder"
            )
        };
        let inside = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(location).components().all(inside) {
            return Err(outside());
        }
        let missing = |error: std::io::Error| {
            format!(
                "keeps `{name}` in `{location}`, which cannot be read ({error}); put it beside the ONNX file"
            )
        };
        let folder = self.folder.canonicalize().map_err(missing)?;
        let path = folder.join(location).canonicalize().map_err(missing)?;
        if !path.starts_with(&folder) {
            return Err(outside());
        }
        let whole = std::fs::metadata(&path).map_err(missing)?.len();
        let number = |key: &str| match entry(key).map(str::parse::<u64>) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(format!(
                "has a wrong {key} for `{name}`, which is kept in `{location}`; export it again"
            )),
        };
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.unwrap_or(whole.saturating_sub(offset));
        match offset.checked_add(length) {
            Some(end) if end <= whole => Ok(length),
            _ => Err(format!(
                "keeps `{name}` in `{location}` from byte {offset} on, {length} bytes long, but that file has {whole} \
                 bytes; was it cut off?"
            )),
        }
    }
}

/// Refuses a graph with nodes that wait for each other; `ready` are the values that no node makes.
fn circles<'a>(graph: &'a GraphProto, mut ready: HashSet<&'a str>) -> Result<(), String> {
    let mut waiting: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut missing = vec![0usize; graph.node.len()];
    let mut open = Vec::new();
    for (index, node) in graph.node.iter().enumerate() {
        let needed: HashSet<&str> = node
            .input
            .iter()
            .map(String::as_str)
            .filter(|name| !name.is_empty() && !ready.contains(name))
            .collect();
        missing[index] = needed.len();
        if needed.is_empty() {
            open.push(index);
        }
        for name in needed {
            waiting.entry(name).or_default().push(index);
        }
    }
    while let Some(index) = open.pop() {
        for output in &graph.node[index].output {
            if !ready.insert(output) {
                continue;
            }
            for &next in waiting.get(output.as_str()).into_iter().flatten() {
                missing[next] -= 1;
                if missing[next] == 0 {
                    open.push(next);
                }
            }
        }
    }
    match missing.iter().position(|&count| count > 0) {
        None => Ok(()),
        Some(index) => Err(format!(
            "runs in a circle at node `{}`; export it again",
            label(&graph.node[index])
        )),
    }
}

/// How many numbers a shape holds, unless a size is negative or the product is beyond reason.
fn volume(sizes: &[i64]) -> Option<u64> {
    // A zero makes the product zero however large the others are, so they are looked at for themselves.
    let positive = sizes.iter().map(|&size| u64::try_from(size).ok());
    let bound = positive
        .clone()
        .try_fold(1u64, |product, size| product.checked_mul(size?.max(1)))?;
    let empty = sizes.contains(&0);
    Some(if empty { 0 } else { bound })
}

/// The values of a graph that are known before it runs, by name.
struct Constants<'a> {
    initializers: HashMap<&'a str, &'a TensorProto>,
    producers: HashMap<&'a str, &'a NodeProto>,
}

impl<'a> Constants<'a> {
    fn of(graph: &'a GraphProto) -> Constants<'a> {
        let initializers = graph.initializer.iter();
        let producers = graph.node.iter().flat_map(|node| {
            let outputs = node.output.iter();
            outputs.map(move |output| (output.as_str(), node))
        });
        Constants {
            initializers: initializers
                .map(|tensor| (tensor.name.as_str(), tensor))
                .collect(),
            producers: producers.collect(),
        }
    }

    /// The few integers of a constant, also where a few nodes (at most `budget`) put them together.
    fn integers(&self, name: &str, budget: &mut usize) -> Option<Vec<i64>> {
        if let Some(tensor) = self.initializers.get(name) {
            return constant(tensor);
        }
        *budget = budget.checked_sub(1)?;
        let node = self.producers.get(name)?;
        let attribute = |name: &str| node.attribute.iter().find(|it| it.name == name);
        match node.op_type.as_str() {
            "Constant" => match ["value", "value_ints", "value_int"].map(attribute) {
                [Some(value), ..] => constant(value.t.as_ref()?),
                [_, Some(value), _] => Some(value.ints.clone()),
                [.., Some(value)] => Some(vec![value.i]),
                _ => None,
            },
            "Identity" | "Cast" | "Squeeze" | "Unsqueeze" | "Reshape" => {
                self.integers(node.input.first()?, budget)
            }
            "Concat" => {
                let mut all = Vec::new();
                for input in &node.input {
                    all.extend(self.integers(input, budget)?);
                }
                (all.len() <= LONGEST_SHAPE).then_some(all)
            }
            "Mul" => {
                let [a, b] = &node.input[..] else { return None };
                let (a, b) = (self.integers(a, budget)?, self.integers(b, budget)?);
                each(&a, &b, i64::saturating_mul)
            }
            // Exporters choose so between a size and "as it is", -1; whatever may be chosen counts.
            "Where" => {
                let [_, a, b] = &node.input[..] else {
                    return None;
                };
                match (self.integers(a, budget), self.integers(b, budget)) {
                    (Some(a), Some(b)) => each(&a, &b, i64::max),
                    (one, other) => one.or(other),
                }
            }
            _ => None,
        }
    }

    /// The shape that `name` has once it is expanded to `shape`: each axis of a constant that is longer stays so.
    fn expanded(&self, name: &str, mut shape: Vec<i64>) -> Vec<i64> {
        let tensor = self.initializers.get(name);
        let dims = tensor.map_or(&[][..], |tensor| &tensor.dims[..]);
        for (size, dim) in shape.iter_mut().rev().zip(dims.iter().rev()) {
            *size = (*size).max(*dim);
        }
        shape
    }
}

/// `with` of the numbers of `a` and `b`, the first of which stands for all where there are fewer.
fn each(a: &[i64], b: &[i64], with: impl Fn(i64, i64) -> i64) -> Option<Vec<i64>> {
    let at = |part: &[i64], index: usize| part.get(index).or(part.first()).copied();
    (0..a.len().max(b.len()))
        .map(|index| Some(with(at(a, index)?, at(b, index)?)))
        .collect()
}

/// The length of a range from its start, limit and step.
fn range(
    start: Option<Vec<i64>>,
    limit: Option<Vec<i64>>,
    step: Option<Vec<i64>>,
) -> Option<Vec<i64>> {
    let first = |values: Option<Vec<i64>>| values?.first().copied();
    let (start, limit, step) = (first(start)?, first(limit)?, first(step)?);
    let apart = i128::from(limit) - i128::from(start);
    // No exporter takes steps of fractions, which are read as none.
    let length = match i128::from(step) {
        0 if apart == 0 => 0,
        0 => i128::from(i64::MAX),
        step if (step < 0) != (apart < 0) => 0,
        step => apart.abs() / step.abs(),
    };
    Some(vec![i64::try_from(length).unwrap_or(i64::MAX)])
}

/// Numbers that could be a shape, whole ones of whatever type.
fn constant(tensor: &TensorProto) -> Option<Vec<i64>> {
    if volume(&tensor.dims)? > LONGEST_SHAPE as u64 {
        return None;
    }
    let raw = &tensor.raw_data;
    match DataType::try_from(tensor.data_type).ok()? {
        DataType::Int64 if raw.is_empty() => Some(tensor.int64_data.clone()),
        DataType::Int64 => {
            let numbers = raw.as_chunks::<8>().0.iter();
            Some(numbers.map(|&bytes| i64::from_le_bytes(bytes)).collect())
        }
        DataType::Int32 if raw.is_empty() => {
            Some(tensor.int32_data.iter().map(|&n| n.into()).collect())
        }
        DataType::Int32 => {
            let numbers = raw.as_chunks::<4>().0.iter();
            Some(
                numbers
                    .map(|&bytes| i32::from_le_bytes(bytes).into())
                    .collect(),
            )
        }
        DataType::Float if raw.is_empty() => {
            Some(tensor.float_data.iter().map(|&n| n as i64).collect())
        }
        DataType::Float => {
            let numbers = raw.as_chunks::<4>().0.iter();
            Some(
                numbers
                    .map(|&bytes| f32::from_le_bytes(bytes) as i64)
                    .collect(),
            )
        }
        _ => None,
    }
}
