//! An ONNX file without its large weights: they stay in the file, and their tensors say where, as those of weights in a
//! file of their own do. So a file of a gigabyte is not in memory once as it is, once parsed and once as tensors.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::host::memory;

/// Tensors of fewer bytes stay where they are: shapes and the like are looked at as they are.
const LARGE: usize = 1024;

/// Fields of the messages of ONNX, as onnx.proto numbers them.
const MODEL_GRAPH: u64 = 7;
const GRAPH_INITIALIZER: u64 = 5;
const TENSOR_RAW_DATA: u64 = 9;
const TENSOR_EXTERNAL_DATA: u64 = 13;
const TENSOR_DATA_LOCATION: u64 = 14;
/// A field with its length before it.
const BYTES: u64 = 2;

/// A model without its large weights, which are named as the bytes of the file that they are.
pub struct Slim {
    pub bytes: Vec<u8>,
    /// Where that file lies: elsewhere than it was named, if there is but a link to it.
    pub folder: PathBuf,
}

/// The model at `path` without its large weights. Nothing where the file is not one that can be taken apart so: it is read
/// as it is then.
///
/// # Errors
/// If the file cannot be opened.
pub fn read(path: &Path) -> io::Result<Option<Slim>> {
    // tract looks for the bytes under this name in the folder, and follows no link out of it. Caches of downloads are full of
    // links.
    let real = path.canonicalize()?;
    let folder = super::folder_of(path);
    let name = real.file_name().and_then(|name| name.to_str());
    let (Some(name), Some(real_folder)) = (name, real.parent()) else {
        return Ok(None);
    };
    let is_link = real_folder != folder.canonicalize()?;
    let map = memory::map(&File::open(&real)?)?;
    let slimmer = Slimmer {
        file: &map,
        name,
        outside: Cell::new(false),
    };
    let slim = slimmer.model().map(|bytes| Slim {
        bytes,
        folder: if is_link { real_folder } else { folder }.to_owned(),
    });
    // Files of weights lie where the link does.
    Ok(slim.filter(|_| !(is_link && slimmer.outside.get())))
}

struct Slimmer<'a> {
    file: &'a [u8],
    name: &'a str,
    /// Whether weights are in other files.
    outside: Cell<bool>,
}

/// One field of a message.
struct Field {
    number: u64,
    kind: u64,
    /// With its tag and length.
    whole: Range<usize>,
    value: Range<usize>,
}

impl Slimmer<'_> {
    fn model(&self) -> Option<Vec<u8>> {
        let mut slim = Vec::new();
        for field in self.fields(0..self.file.len())? {
            if (field.number, field.kind) == (MODEL_GRAPH, BYTES) {
                push(&mut slim, MODEL_GRAPH, &self.graph(field.value)?);
            } else {
                slim.extend(&self.file[field.whole]);
            }
        }
        Some(slim)
    }

    fn graph(&self, graph: Range<usize>) -> Option<Vec<u8>> {
        let mut slim = Vec::new();
        for field in self.fields(graph)? {
            let large = field.value.len() >= LARGE;
            let tensor = (field.number, field.kind) == (GRAPH_INITIALIZER, BYTES);
            match self.tensor(field.value).filter(|_| tensor && large) {
                Some(tensor) => push(&mut slim, GRAPH_INITIALIZER, &tensor),
                None => slim.extend(&self.file[field.whole]),
            }
        }
        Some(slim)
    }

    /// A tensor that says where its bytes are; nothing where it has few, or has them elsewhere already.
    fn tensor(&self, tensor: Range<usize>) -> Option<Vec<u8>> {
        let (mut slim, mut raw) = (Vec::new(), None);
        for field in self.fields(tensor)? {
            match field.number {
                // That it is in this file may be said as well.
                TENSOR_DATA_LOCATION if self.file[field.value.clone()] == [0] => {}
                TENSOR_EXTERNAL_DATA | TENSOR_DATA_LOCATION => {
                    self.outside.set(true);
                    return None;
                }
                TENSOR_RAW_DATA if field.kind == BYTES && raw.is_none() => raw = Some(field.value),
                TENSOR_RAW_DATA => return None,
                _ => slim.extend(&self.file[field.whole]),
            }
        }
        let raw = raw.filter(|raw| raw.len() >= LARGE)?;
        let (offset, length) = (raw.start.to_string(), raw.len().to_string());
        let entries = [
            ("location", self.name),
            ("offset", &offset),
            ("length", &length),
        ];
        for (key, value) in entries {
            let mut entry = Vec::new();
            push(&mut entry, 1, key.as_bytes());
            push(&mut entry, 2, value.as_bytes());
            push(&mut slim, TENSOR_EXTERNAL_DATA, &entry);
        }
        slim.extend([(TENSOR_DATA_LOCATION << 3) as u8, 1]);
        Some(slim)
    }

    /// The fields of the message at `message`, if it is one.
    fn fields(&self, message: Range<usize>) -> Option<Vec<Field>> {
        let (mut at, mut fields) = (message.start, Vec::new());
        while at < message.end {
            let start = at;
            let tag = self.varint(&mut at)?;
            let length = match tag & 7 {
                0 => {
                    let start = at;
                    self.varint(&mut at)?;
                    let length = at - start;
                    at = start;
                    length
                }
                1 => 8,
                BYTES => usize::try_from(self.varint(&mut at)?).ok()?,
                5 => 4,
                _ => return None,
            };
            let end = at.checked_add(length).filter(|&end| end <= message.end)?;
            fields.push(Field {
                number: tag >> 3,
                kind: tag & 7,
                whole: start..end,
                value: at..end,
            });
            at = end;
        }
        Some(fields)
    }

    fn varint(&self, at: &mut usize) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.file.get(*at)?;
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

/// Appends a field with its length before it.
fn push(message: &mut Vec<u8>, number: u64, value: &[u8]) {
    for mut number in [number << 3 | BYTES, value.len() as u64] {
        while number >= 0x80 {
            message.push(number as u8 | 0x80);
            number >>= 7;
        }
        message.push(number as u8);
    }
    message.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::data_resolver::MmapDataResolver;
    use tract_onnx::prelude::*;
    use tract_onnx::tensor::load_tensor;

    #[test]
    fn weights_that_stay_in_the_file_are_the_same() {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import/hf-dynamo18");
        let path = folder.join("textual.onnx");
        let slim = read(&path).unwrap().unwrap().bytes;
        let size = std::fs::metadata(&path).unwrap().len() as usize;
        assert!(slim.len() < size / 2, "{} of {size} bytes", slim.len());
        let onnx = tract_onnx::onnx();
        let slim = onnx.proto_model_for_read(&mut &slim[..]).unwrap();
        let whole = onnx.proto_model_for_path(&path).unwrap();
        let (slim, whole) = (slim.graph.unwrap(), whole.graph.unwrap());
        assert_eq!(slim.node, whole.node);
        assert_eq!(slim.initializer.len(), whole.initializer.len());
        let mut outside = 0;
        for (a, b) in slim.initializer.iter().zip(&whole.initializer) {
            assert_eq!((&a.name, &a.dims), (&b.name, &b.dims));
            let load = |tensor| load_tensor(&MmapDataResolver, tensor, folder.to_str()).unwrap();
            assert_eq!(load(a), load(b), "{}", a.name);
            outside += usize::from(!a.external_data.is_empty());
        }
        assert!(outside > 5, "{outside} weights stay in the file");
    }

    #[test]
    fn what_is_cut_off_or_no_message_is_left_to_the_whole_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let fixture = "tests/fixtures/import/hf-dynamo18/textual.onnx";
        let whole = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture)).unwrap();
        for content in [&whole[..whole.len() / 2], b"<html>", &[0xff; 64]] {
            std::fs::write(&path, content).unwrap();
            assert!(read(&path).unwrap().is_none());
        }
    }

    /// As the caches of Hugging Face's tools have them: it was in memory twice.
    #[cfg(unix)]
    #[test]
    fn weights_of_a_file_behind_a_link_stay_there_unless_others_lie_beside_the_link() {
        let folder = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
        let link = |case: &str| {
            let link = folder.path().join(case);
            let file = fixtures.join(case).join("textual.onnx");
            std::os::unix::fs::symlink(file, &link).unwrap();
            read(&link).unwrap()
        };
        let slim = link("hf-dynamo18").unwrap();
        let real = fixtures.join("hf-dynamo18").canonicalize().unwrap();
        assert_eq!(slim.folder, real);
        assert!(slim.bytes.len() < 100_000, "{}", slim.bytes.len());
        assert!(link("hf-external").is_none());
    }
}
