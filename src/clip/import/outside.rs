//! Weights that an ONNX file keeps in other files.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{GraphProto, TensorProto};

use super::onnx::{self, OnnxError, Parsed, folder_of};
use crate::files;

/// The files that the ONNX file at `path` keeps weights in, as they are called from its own folder, each once.
///
/// # Errors
/// A file that is not ONNX, and names outside its folder.
pub fn outside_weights(path: &Path) -> Result<Vec<String>, OnnxError> {
    let Parsed { proto, .. } = onnx::parse(path)?;
    let mut names = BTreeSet::new();
    if let Some(graph) = &proto.graph {
        in_graph(graph, &mut names);
    }
    // Its own bytes are named so while it is read.
    if let Some(own) = path
        .canonicalize()
        .ok()
        .as_deref()
        .and_then(Path::file_name)
    {
        names.retain(|name| own.to_str() != Some(name));
    }
    for name in &names {
        let inside = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        // A backslash or a question mark would mean something else to a server or on another system.
        if !Path::new(name).components().all(inside) || name.contains(['\\', '?', '#', '%']) {
            return Err(OnnxError::Invalid {
                path: path.to_owned(),
                what: format!("keeps weights in `{name}`, which is outside its own folder"),
            });
        }
    }
    Ok(names.into_iter().collect())
}

fn in_graph(graph: &GraphProto, names: &mut BTreeSet<String>) {
    let mut tensor = |tensor: &TensorProto| {
        if tensor.data_location == Some(DataLocation::External as i32) {
            let location = tensor
                .external_data
                .iter()
                .find(|entry| entry.key == "location");
            names.extend(location.map(|entry| entry.value.clone()));
        }
    };
    graph.initializer.iter().for_each(&mut tensor);
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    for attribute in attributes() {
        let tensors = attribute.t.iter().chain(&attribute.tensors);
        tensors.for_each(&mut tensor);
    }
    for attribute in attributes() {
        for body in attribute.g.iter().chain(&attribute.graphs) {
            in_graph(body, names);
        }
    }
}

/// That the file at `path` is a model, and neither it nor a file with weights of it a pointer of Git LFS. It is cheap.
///
/// # Errors
/// The file that is something else.
pub fn check_files(path: &Path) -> Result<(), OnnxError> {
    for name in outside_weights(path)? {
        let weights = folder_of(path).join(name);
        if files::is_lfs_pointer(&weights) {
            return Err(OnnxError::Invalid {
                path: weights,
                what: format!("is {}", files::LFS_POINTER),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_outside_are_read_from_the_file_itself() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
        let found = outside_weights(&folder.join("hf-external/textual.onnx")).unwrap();
        assert_eq!(found, ["textual.onnx.data"]);
        let whole = outside_weights(&folder.join("hf-dynamo18/textual.onnx")).unwrap();
        assert!(whole.is_empty());
        assert!(outside_weights(&folder.join("make.py")).is_err());
    }
}
