//! Weights in blocks of a few bits, each block with a scale of its own, as onnxruntime keeps them in `_q4` and `_bnb4`
//! files: `MatMulNBits`, `MatMulBnb4` and `GatherBlockQuantized` become the product or look-up of the float weights
//! that they stand for. Activations, which onnxruntime may quantise on the way, stay floats.

use std::collections::HashMap;
use std::path::Path;

use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};
use tract_onnx::tensor::load_tensor;

use super::nodes::{integer, label, number};
use crate::clip::graph::guard::{GraphError, MOST_VALUES, guarded};

const OPERATORS: [&str; 3] = ["GatherBlockQuantized", "MatMulBnb4", "MatMulNBits"];
/// What the sixteen values of bitsandbytes' FP4 and NF4 stand for.
const BNB4: [[f32; 16]; 2] = [
    [
        0.0,
        5.208_333_3e-3,
        0.666_666_7,
        1.0,
        0.333_333_34,
        0.5,
        0.166_666_67,
        0.25,
        -0.0,
        -5.208_333_3e-3,
        -0.666_666_7,
        -1.0,
        -0.333_333_34,
        -0.5,
        -0.166_666_67,
        -0.25,
    ],
    [
        -1.0,
        -0.696_192_8,
        -0.525_073_05,
        -0.394_917_5,
        -0.284_441_38,
        -0.184_773_43,
        -0.091_050_036,
        0.0,
        0.079_580_3,
        0.160_930_2,
        0.246_112_3,
        0.337_915_24,
        0.440_709_83,
        0.562_617,
        0.722_956_84,
        1.0,
    ],
];

/// Whether an operator is read here.
pub fn is_read(operator: &str) -> bool {
    OPERATORS.contains(&operator)
}

/// Rewrites `graph`, whose external data lies in `folder`, and returns how many weights had few bits. The error
/// continues a sentence that begins with the file.
pub fn unpack(graph: &mut GraphProto, folder: &Path) -> Result<usize, String> {
    if !graph.node.iter().any(|node| is_read(&node.op_type)) {
        return Ok(0);
    }
    let constants = graph.initializer.iter().enumerate();
    let constants = constants.map(|(index, tensor)| (tensor.name.clone(), index));
    let mut unpacker = Unpacker {
        constants: constants.collect(),
        folder,
        made: Vec::new(),
    };
    let mut count = 0;
    for node in std::mem::take(&mut graph.node) {
        let weight = match node.op_type.as_str() {
            "MatMulNBits" => unpacker.few_bits(graph, &node)?,
            "MatMulBnb4" => unpacker.bnb4(graph, &node)?,
            "GatherBlockQuantized" => unpacker.table(graph, &node)?,
            _ => {
                unpacker.made.push(node);
                continue;
            }
        };
        graph.initializer.push(weight);
        count += 1;
    }
    graph.node = unpacker.made;
    let used = |name: &str| {
        let mut inputs = graph.node.iter().flat_map(|node| &node.input);
        inputs.any(|input| input == name)
    };
    let unused: Vec<String> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.clone())
        .filter(|name| !used(name) && !graph.output.iter().any(|output| output.name == *name))
        .collect();
    graph
        .initializer
        .retain(|tensor| !unused.contains(&tensor.name));
    Ok(count)
}

struct Unpacker<'a> {
    /// Index of the initializer, by name.
    constants: HashMap<String, usize>,
    folder: &'a Path,
    made: Vec<NodeProto>,
}

impl Unpacker<'_> {
    /// Input number `at` of `node`, a constant; nothing where it is left out.
    fn constant<'g>(
        &self,
        graph: &'g GraphProto,
        node: &NodeProto,
        at: usize,
    ) -> Result<Option<&'g TensorProto>, String> {
        let Some(name) = node.input.get(at).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        match self.constants.get(name) {
            Some(&index) => Ok(Some(&graph.initializer[index])),
            None => Err(unread(node, &format!("`{name}` as a constant"))),
        }
    }

    fn needed<'g>(
        &self,
        graph: &'g GraphProto,
        node: &NodeProto,
        at: usize,
    ) -> Result<&'g TensorProto, String> {
        let found = self.constant(graph, node, at)?;
        found.ok_or_else(|| unread(node, "packed weights with their scales"))
    }

    fn bytes(&self, node: &NodeProto, tensor: &TensorProto) -> Result<Vec<u8>, String> {
        bytes(tensor, self.folder).map_err(|error| unreadable(node, &tensor.name, &error))
    }

    fn floats(&self, node: &NodeProto, tensor: &TensorProto) -> Result<Vec<f32>, String> {
        numbers(tensor, self.folder).map_err(|error| unreadable(node, &tensor.name, &error))
    }

    /// `x W^T (+ bias)`, each row of `W [N, K]` in blocks of integers with a scale and a zero point.
    fn few_bits(&mut self, graph: &GraphProto, node: &NodeProto) -> Result<TensorProto, String> {
        if node.input.get(4).is_some_and(|name| !name.is_empty()) {
            let expected = "blocks in the order of the columns (no g_idx, which GPTQ writes)";
            return Err(unread(node, expected));
        }
        let [columns, rows] = sizes(node, ["K", "N"])?;
        let bits = integer(node, "bits").unwrap_or(4);
        let block = integer(node, "block_size").unwrap_or(0);
        let (Ok(block), true) = (usize::try_from(block), [2, 4, 8].contains(&bits)) else {
            return Err(unread(node, "blocks of two, four or eight bits"));
        };
        if block == 0 {
            return Err(unread(node, "a size of its blocks"));
        }
        let (bits, blocks) = (bits as usize, columns.div_ceil(block));
        let sizes = || {
            let weights = rows.checked_mul(columns)?;
            let scales = rows.checked_mul(blocks)?;
            let a_block = block.checked_mul(bits)?.div_ceil(8);
            let a_row = blocks.checked_mul(bits)?.div_ceil(8);
            (weights as u64 <= MOST_VALUES).then_some((weights, scales, a_block, a_row))
        };
        let Some((all, scales_of_all, a_block, a_row)) = sizes() else {
            return Err(unread(node, "sizes that a matrix can have"));
        };
        let packed = self.bytes(node, self.needed(graph, node, 1)?)?;
        let scales = self.floats(node, self.needed(graph, node, 2)?)?;
        let weights = rows
            .checked_mul(blocks)
            .and_then(|n| n.checked_mul(a_block));
        if weights != Some(packed.len()) || scales.len() != scales_of_all {
            return Err(unread(node, "as many weights and scales as K and N say"));
        }
        let zero_point: Box<dyn Fn(usize, usize) -> f32> = match self.constant(graph, node, 3)? {
            None => Box::new(move |_, _| (1 << (bits - 1)) as f32),
            Some(tensor) if tensor.data_type == DataType::Uint8 as i32 => {
                let points = self.bytes(node, tensor)?;
                if Some(points.len()) != rows.checked_mul(a_row) {
                    return Err(unread(node, "a zero point for each scale"));
                }
                Box::new(move |row, index| unpacked(&points[row * a_row..], index, bits))
            }
            Some(tensor) => {
                let points = self.floats(node, tensor)?;
                if points.len() != scales_of_all {
                    return Err(unread(node, "a zero point for each scale"));
                }
                Box::new(move |row, index| points[row * blocks + index])
            }
        };
        // As ONNX multiplies: [K, N].
        let mut floats = vec![0f32; all];
        for row in 0..rows {
            for index in 0..blocks {
                let own = row * blocks + index;
                let (scale, zero) = (scales[own], zero_point(row, index));
                let from = index * block;
                for column in from..columns.min(from + block) {
                    let q = unpacked(&packed[own * a_block..], column - from, bits);
                    floats[column * rows + row] = (q - zero) * scale;
                }
            }
        }
        let bias = node.input.get(5).filter(|name| !name.is_empty());
        Ok(self.product(node, [columns, rows], floats, bias))
    }

    /// `x W^T`, all of `W [N, K]` in blocks of indices into a table of sixteen numbers, each with a scale.
    fn bnb4(&mut self, graph: &GraphProto, node: &NodeProto) -> Result<TensorProto, String> {
        let [columns, rows] = sizes(node, ["K", "N"])?;
        let kind = integer(node, "quant_type").unwrap_or(-1);
        let block = integer(node, "block_size").unwrap_or(0);
        let table = usize::try_from(kind).ok().and_then(|kind| BNB4.get(kind));
        let (Some(table), Ok(block @ 1..)) = (table, usize::try_from(block)) else {
            return Err(unread(node, "blocks of FP4 or NF4"));
        };
        if integer(node, "transB").is_some_and(|it| it != 1) {
            return Err(unread(node, "weights of one output after the other"));
        }
        let packed = self.bytes(node, self.needed(graph, node, 1)?)?;
        let scales = self.floats(node, self.needed(graph, node, 2)?)?;
        let count = columns.checked_mul(rows);
        if count.map(|count| count.div_ceil(2)) != Some(packed.len())
            || count.map(|count| count.div_ceil(block)) != Some(scales.len())
        {
            return Err(unread(node, "as many weights and scales as K and N say"));
        }
        let mut floats = vec![0f32; columns * rows];
        for at in 0..columns * rows {
            // The higher half of a byte comes first.
            let pair = packed[at / 2];
            let index = if at % 2 == 0 { pair >> 4 } else { pair & 15 };
            let (row, column) = (at / columns, at % columns);
            floats[column * rows + row] = table[usize::from(index)] * scales[at / block];
        }
        Ok(self.product(node, [columns, rows], floats, None))
    }

    /// A look-up in a table whose integers have scales in blocks along one axis.
    fn table(&mut self, graph: &GraphProto, node: &NodeProto) -> Result<TensorProto, String> {
        let data = self.needed(graph, node, 0)?;
        let scale = self.needed(graph, node, 2)?;
        let bits = integer(node, "bits").unwrap_or(4);
        let packed = data.data_type == DataType::Uint8 as i32;
        let block = integer(node, "block_size").unwrap_or(128);
        let (Ok(block @ 1..), true) = (usize::try_from(block), [2, 4, 8].contains(&bits)) else {
            return Err(unread(node, "blocks of two, four or eight bits"));
        };
        let mut shape: Vec<usize> = data.dims.iter().map(|&dim| dim.max(0) as usize).collect();
        let axis = integer(node, "quantize_axis").unwrap_or(1);
        let axis = if axis < 0 {
            axis + shape.len() as i64
        } else {
            axis
        };
        let axis = usize::try_from(axis).unwrap_or(usize::MAX);
        if axis >= shape.len() || packed && axis + 1 != shape.len() {
            return Err(unread(node, "blocks along an axis of the table"));
        }
        let bits = bits as usize;
        let unpack = |tensor: &TensorProto, row: usize| -> Result<Vec<f32>, String> {
            if !packed || bits == 8 {
                return self.floats(node, tensor);
            }
            // Rows begin with a byte of their own.
            let bytes = self.bytes(node, tensor)?;
            let rows = bytes.chunks((row * bits).div_ceil(8).max(1));
            let all = rows.flat_map(|line| (0..row).map(move |at| unpacked(line, at, bits)));
            Ok(all.collect())
        };
        if packed {
            shape[axis] *= 8 / bits;
        }
        let blocks = shape[axis].div_ceil(block);
        let (values, scales) = (unpack(data, shape[axis])?, self.floats(node, scale)?);
        let points = match self.constant(graph, node, 3)? {
            Some(tensor) => unpack(tensor, blocks)?,
            None if packed => vec![(1 << (bits - 1)) as f32; scales.len()],
            None => vec![0.0; scales.len()],
        };
        let inner: usize = shape[axis + 1..].iter().product();
        let outer: usize = shape[..axis].iter().product();
        let all = outer * shape[axis] * inner;
        if values.len() != all || [&scales, &points].map(Vec::len) != [outer * blocks * inner; 2] {
            return Err(unread(node, "a scale and a zero point for each block"));
        }
        let floats = values.into_iter().enumerate().map(|(at, q)| {
            let along = at / inner % shape[axis];
            let own = (at / inner / shape[axis] * blocks + along / block) * inner + at % inner;
            (q - points[own]) * scales[own]
        });
        let name = weight_name(node);
        let gather = number("axis", integer(node, "gather_axis").unwrap_or(0));
        self.made.push(NodeProto {
            op_type: "Gather".into(),
            domain: String::new(),
            input: vec![name.clone(), node.input[1].clone()],
            attribute: vec![gather],
            ..node.clone()
        });
        Ok(float_tensor(name, &shape, floats.collect()))
    }

    /// A product with `floats [K, N]`, plus a bias.
    fn product(
        &mut self,
        node: &NodeProto,
        dims: [usize; 2],
        floats: Vec<f32>,
        bias: Option<&String>,
    ) -> TensorProto {
        let name = weight_name(node);
        let sum = format!("{name}_product");
        let output = node.output.clone();
        self.made.push(NodeProto {
            op_type: "MatMul".into(),
            domain: String::new(),
            input: vec![node.input[0].clone(), name.clone()],
            output: if bias.is_some() {
                vec![sum.clone()]
            } else {
                output.clone()
            },
            attribute: Vec::new(),
            ..node.clone()
        });
        if let Some(bias) = bias {
            self.made.push(NodeProto {
                op_type: "Add".into(),
                input: vec![sum, bias.clone()],
                output,
                ..NodeProto::default()
            });
        }
        float_tensor(name, &dims, floats)
    }
}

/// The bytes of a constant as they are, also of integers in half a byte.
fn bytes(tensor: &TensorProto, folder: &Path) -> Result<Vec<u8>, GraphError> {
    guarded("read a packed weight", || {
        let loaded = load_tensor(&MmapDataResolver, &as_bytes(tensor), folder.to_str())?;
        Ok(loaded
            .to_plain_array_view::<u8>()?
            .iter()
            .copied()
            .collect())
    })
}

/// A constant of integers in half a byte as one of bytes, which tract can read; any other as it is.
fn as_bytes(tensor: &TensorProto) -> TensorProto {
    let mut tensor = tensor.clone();
    if is_half_bytes(&tensor) {
        let count: i64 = tensor.dims.iter().product();
        tensor.dims = vec![(count + 1) / 2];
        tensor.data_type = DataType::Uint8 as i32;
    }
    tensor
}

/// Whether two integers share a byte.
pub fn is_half_bytes(tensor: &TensorProto) -> bool {
    [DataType::Uint4 as i32, DataType::Int4 as i32].contains(&tensor.data_type)
}

/// The numbers of a constant of any type as f32, those of integers in half a byte, the lower half first, too.
pub fn numbers(tensor: &TensorProto, folder: &Path) -> Result<Vec<f32>, GraphError> {
    if is_half_bytes(tensor) {
        let signed = tensor.data_type == DataType::Int4 as i32;
        let count = tensor.dims.iter().product::<i64>().max(0) as usize;
        let bytes = bytes(tensor, folder)?;
        let value = |at| match unpacked(&bytes, at, 4) {
            value if signed && value > 7.0 => value - 16.0,
            value => value,
        };
        return Ok((0..count.min(2 * bytes.len())).map(value).collect());
    }
    guarded("read a quantised weight", || {
        let loaded = load_tensor(&MmapDataResolver, tensor, folder.to_str())?;
        let floats = loaded.cast_to::<f32>()?;
        Ok(floats
            .to_plain_array_view::<f32>()?
            .iter()
            .copied()
            .collect())
    })
}

/// Integer number `at` of those with `bits` bits in `bytes`, from the lowest bits of each byte up.
fn unpacked(bytes: &[u8], at: usize, bits: usize) -> f32 {
    let byte = u16::from(bytes[at * bits / 8]);
    f32::from(byte >> (at * bits % 8) & ((1 << bits) - 1))
}

fn sizes<const N: usize>(node: &NodeProto, names: [&str; N]) -> Result<[usize; N], String> {
    let mut sizes = [0; N];
    for (size, name) in sizes.iter_mut().zip(names) {
        let found = integer(node, name).and_then(|size| usize::try_from(size).ok());
        *size = found
            .filter(|&size| size > 0)
            .ok_or_else(|| unread(node, name))?;
    }
    Ok(sizes)
}

fn weight_name(node: &NodeProto) -> String {
    let output = node.output.first().map_or("", String::as_str);
    format!("{output}_unpacked")
}

fn float_tensor(name: String, dims: &[usize], floats: Vec<f32>) -> TensorProto {
    TensorProto {
        name,
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: DataType::Float as i32,
        data_location: Some(DataLocation::Default as i32),
        raw_data: floats.into_iter().flat_map(f32::to_le_bytes).collect(),
        ..TensorProto::default()
    }
}

fn unread(node: &NodeProto, expected: &str) -> String {
    format!(
        "has weights of few bits that are not read: expected {expected} at node `{}` ({}); take the float32, float16 or \
         int8 files of the model",
        label(node),
        node.op_type
    )
}

fn unreadable(node: &NodeProto, name: &str, error: &GraphError) -> String {
    format!(
        "has packed weights `{name}` at node `{}` that cannot be read: {error}; download the file again",
        label(node)
    )
}
