//! Turns an ONNX graph in half precision, whole or in part, into the same graph in f32: half precision is for storage
//! here, and everything is computed in f32.

use std::path::Path;

use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};
use tract_onnx::tensor::load_tensor;

use crate::clip::graph::guard::{GraphError, guarded};

const FLOAT: i32 = DataType::Float as i32;
const HALVES: [i32; 2] = [DataType::Float16 as i32, DataType::Bfloat16 as i32];

/// Rewrites `graph`, whose external data lies in `folder`.
pub fn in_f32(graph: &mut GraphProto, folder: &Path) -> Result<(), GraphError> {
    for tensor in &mut graph.initializer {
        widen(tensor, folder)?;
    }
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        if let Some(Value::TensorType(tensor)) =
            value.r#type.as_mut().and_then(|it| it.value.as_mut())
            && HALVES.contains(&tensor.elem_type)
        {
            tensor.elem_type = FLOAT;
        }
    }
    graph
        .node
        .iter_mut()
        .try_for_each(|node| widen_node(node, folder))
}

fn widen_node(node: &mut NodeProto, folder: &Path) -> Result<(), GraphError> {
    for attribute in &mut node.attribute {
        let kind = matches!(attribute.name.as_str(), "to" | "dtype" | "output_dtype");
        if kind && HALVES.contains(&(attribute.i as i32)) {
            attribute.i = FLOAT.into();
        }
        for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
            widen(tensor, folder)?;
        }
        for body in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            in_f32(body, folder)?;
        }
    }
    Ok(())
}

fn widen(tensor: &mut TensorProto, folder: &Path) -> Result<(), GraphError> {
    if !HALVES.contains(&tensor.data_type) {
        return Ok(());
    }
    let bfloat16 = tensor.data_type == DataType::Bfloat16 as i32;
    // tract does not read bfloat16, but its bits as integers: they are the upper half of a float's.
    let mut readable = std::mem::take(tensor);
    if bfloat16 {
        readable.data_type = DataType::Uint16 as i32;
    }
    let read = guarded("read a weight in half precision", || {
        load_tensor(&MmapDataResolver, &readable, folder.to_str())
    })?;
    let raw_data = guarded("widen a weight in half precision", || {
        if bfloat16 {
            let bits = read.to_plain_array_view::<u16>()?;
            let floats = bits
                .iter()
                .map(|&bits| f32::from_bits(u32::from(bits) << 16));
            return Ok(floats.flat_map(f32::to_le_bytes).collect());
        }
        let floats = read.cast_to::<f32>()?;
        let floats = floats.to_plain_array_view::<f32>()?;
        let bytes = floats.iter().flat_map(|float| float.to_le_bytes());
        Ok(bytes.collect())
    })?;
    *tensor = TensorProto {
        name: readable.name,
        dims: readable.dims,
        data_type: FLOAT,
        data_location: Some(DataLocation::Default as i32),
        raw_data,
        ..TensorProto::default()
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_core::internal::f16;

    #[test]
    fn both_kinds_of_half_precision_are_the_same_numbers_in_f32() {
        let values = [1.0f32, -0.5, 6.25, 0.0];
        let bfloat16s = values.iter().map(|v| (v.to_bits() >> 16) as u16);
        let half = values.iter().map(|&v| f16::from_f32(v).to_bits());
        for (kind, bits) in [
            (DataType::Bfloat16, bfloat16s.collect::<Vec<_>>()),
            (DataType::Float16, half.collect()),
        ] {
            let mut graph = GraphProto {
                initializer: vec![TensorProto {
                    dims: vec![2, 2],
                    data_type: kind as i32,
                    raw_data: bits.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
                    ..TensorProto::default()
                }],
                ..GraphProto::default()
            };
            in_f32(&mut graph, Path::new(".")).unwrap();
            let tensor = &graph.initializer[0];
            let expected: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!((tensor.data_type, &tensor.raw_data), (FLOAT, &expected));
            assert_eq!(tensor.dims, [2, 2]);
        }
    }
}
