//! Files that are broken or hostile: each is refused with a sentence, without a panic and without much memory. They
//! are put together here byte by byte, because no library writes them.

use std::path::Path;

use super::onnx::{Feed, Masks, OnnxFile};

const FEED: Feed = Feed {
    size: 24,
    length: 12,
};
const FLOAT: u64 = 1;
const LONG: u64 = 7;

/// A protobuf message in the making.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(mut self, field: u64, value: u64) -> Message {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Message {
        self.varint(field << 3 | 2);
        self.varint(bytes.as_ref().len() as u64);
        self.0.extend(bytes.as_ref());
        self
    }

    fn all<T>(self, field: u64, items: &[T], message: impl Fn(&T) -> Message) -> Message {
        let add = |whole: Message, item| whole.bytes(field, message(item).0);
        items.iter().fold(self, add)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A node with its inputs and its one output.
fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let node = inputs.iter().fold(Message::default(), |m, i| m.bytes(1, i));
    node.bytes(2, output).bytes(4, operator)
}

fn value(name: &str, kind: u64, shape: &[u64]) -> Message {
    let shape = Message::default().all(1, shape, |&dim| Message::default().number(1, dim));
    let tensor = Message::default().number(1, kind).bytes(2, shape.0);
    let kind = Message::default().bytes(1, tensor.0);
    Message::default().bytes(1, name).bytes(2, kind.0)
}

/// A tensor that says its shape and has these bytes.
fn tensor(name: &str, kind: u64, dims: &[i64], raw: &[u8]) -> Message {
    let tensor = dims
        .iter()
        .fold(Message::default(), |m, &dim| m.number(1, dim as u64));
    let tensor = tensor.number(2, kind).bytes(8, name);
    if raw.is_empty() {
        tensor
    } else {
        tensor.bytes(9, raw)
    }
}

fn longs(name: &str, values: &[i64]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, LONG, &[values.len() as i64], &raw)
}

fn external(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> Message {
    let tensor = tensor(name, FLOAT, dims, &[]);
    let entry = |entry: &(&str, &str)| Message::default().bytes(1, entry.0).bytes(2, entry.1);
    tensor.all(13, entries, entry).number(14, 1)
}

/// A model from `ids` to `embeds`.
fn model(nodes: &[Message], tensors: &[Message]) -> Vec<u8> {
    let graph = Message::default()
        .all(1, nodes, Message::clone)
        .bytes(2, "graph")
        .all(5, tensors, Message::clone)
        .bytes(11, value("ids", LONG, &[1, 12]).0)
        .bytes(12, value("embeds", FLOAT, &[1, 16]).0);
    let opset = Message::default().number(2, 17);
    let model = Message::default().number(1, 8).bytes(8, opset.0);
    model.bytes(7, graph.0).0
}

/// What is said of a file with this content.
fn refusal(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    refusal_in(folder.path(), content)
}

fn refusal_in(folder: &Path, content: &[u8]) -> String {
    let path = folder.join("model.onnx");
    std::fs::write(&path, content).unwrap();
    let error = OnnxFile::open(&path, FEED, Masks::Ones)
        .and_then(|file| file.text())
        .err()
        .expect("a refusal")
        .to_string();
    assert!(error.contains("model.onnx"), "{error}");
    assert!(error.len() < 2000 && !error.contains('\n'), "{error}");
    error
}

#[track_caller]
fn says(content: &[u8], parts: &[&str]) {
    let refusal = refusal(content);
    for part in parts {
        assert!(refusal.contains(part), "{part:?} is not in: {refusal}");
    }
}

#[test]
fn files_that_are_not_models_are_named_so() {
    says(b"", &["empty"]);
    says(b"GIF89a and so on", &["not an ONNX file"]);
    says(b"<html><body>404</body></html>", &["ONNX"]);
    says(&[0xff; 4096], &["not an ONNX file"]);
    says(&Message::default().number(1, 8).0, &["holds no graph"]);
    let missing = OnnxFile::open(Path::new("no-such-file.onnx"), FEED, Masks::Ones);
    assert!(missing.err().unwrap().to_string().contains("no-such-file"));
}

#[test]
fn operators_that_are_not_taken_apart_are_refused_by_name_with_the_cure() {
    let of = |operator: &str, inputs: &[&str]| {
        let bytes = |name| tensor(name, 2, &[1], &[0]);
        let tensors = ["b", "s", "z", "g"].map(bytes);
        model(&[node(operator, inputs, "embeds")], &tensors)
    };
    let rotary = of("RotaryEmbedding", &["ids", "s", "z"]);
    says(
        &rotary,
        &["RotaryEmbedding at node `embeds`", "take a CLIP"],
    );
    for operator in ["GroupQueryAttention", "SkipSimplifiedLayerNormalization"] {
        let file = of(operator, &["ids", "s", "z"]);
        says(&file, &[operator, "without onnxruntime's optimiser"]);
    }
    let gptq = of("MatMulNBits", &["ids", "b", "s", "z", "g"]);
    says(&gptq, &["few bits", "no g_idx", "float32, float16 or int8"]);
    let sizeless = of("MatMulBnb4", &["ids", "b", "s"]);
    says(&sizeless, &["expected K at node `embeds` (MatMulBnb4)"]);
    let cached = of("Attention", &["ids", "s", "z", "", "b"]);
    says(&cached, &["Attention at node `embeds`", "without a cache"]);
}

#[test]
fn sizes_that_a_file_only_declares_cost_nothing() {
    let identity = [node("Identity", &["w"], "embeds")];
    let declared = |tensor: Message| model(&identity, &[tensor]);
    let huge = [70_000, 70_000];
    says(
        &declared(tensor("w", FLOAT, &huge, &[0; 4])),
        &["`w`", "19600000000 bytes", "4 are there"],
    );
    says(&declared(tensor("w", FLOAT, &huge, &[])), &["0 are there"]);
    says(
        &declared(tensor("w", FLOAT, &[1 << 40, 1 << 40], &[0; 4])),
        &["cannot be"],
    );
    says(
        &declared(tensor("w", FLOAT, &[0, i64::MAX, i64::MAX], &[])),
        &["cannot be"],
    );
    says(
        &declared(tensor("w", FLOAT, &[-2, 3], &[0; 24])),
        &["[-2, 3]"],
    );
    says(&declared(tensor("w", 17, &[1], &[0])), &["not supported"]);
    says(&declared(tensor("w", 99, &[1], &[0])), &["not supported"]);
}

#[test]
fn external_data_stays_in_its_folder() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    for file in [outer.path().join("secret"), folder.join("data")] {
        std::fs::write(file, [0; 64]).unwrap();
    }
    let absolute = outer.path().join("secret").display().to_string();
    let refused = |dims: &[i64], entries: &[(&str, &str)]| {
        let identity = [node("Identity", &["w"], "embeds")];
        refusal_in(&folder, &model(&identity, &[external("w", dims, entries)]))
    };
    for location in ["../secret", &absolute, "x/../../secret"] {
        let refusal = refused(&[1, 16], &[("location", location)]);
        assert!(refusal.contains("outside its own folder"), "{refusal}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
        let refusal = refused(&[1, 16], &[("location", "link")]);
        assert!(refusal.contains("outside its own folder"), "{refusal}");
    }
    for (entries, part) in [
        (&[("location", "none")][..], "cannot be read"),
        (&[("offset", "0")], "does not say in which"),
        (
            &[("location", "data"), ("length", "20000000000")],
            "has 64 bytes",
        ),
        (&[("location", "data"), ("offset", "65")], "has 64 bytes"),
        (&[("location", "data"), ("offset", "-1")], "wrong offset"),
        (&[("location", "data"), ("length", "60")], "60 are there"),
    ] {
        let refusal = refused(&[1, 16], entries);
        assert!(refusal.contains(part), "{refusal}");
    }
    let refusal = refused(&[70_000, 70_000], &[("location", "data")]);
    assert!(refusal.contains("64 are there"), "{refusal}");
}

#[test]
fn graphs_that_cannot_run_are_refused_by_node() {
    let chain = |operator| model(&[node(operator, &["ids"], "embeds")], &[]);
    says(&chain("Nonsense"), &["operator Nonsense", "`embeds`"]);
    let contributed = node("QAttention", &["ids"], "embeds").bytes(7, "com.microsoft");
    says(
        &model(&[contributed], &[]),
        &["QAttention of com.microsoft", "graph optimisations"],
    );
    let circle = [
        node("Add", &["ids", "b"], "a"),
        node("Neg", &["a"], "b"),
        node("Neg", &["b"], "embeds"),
    ];
    says(&model(&circle, &[]), &["circle", "`a`"]);
    says(
        &model(&[node("Neg", &["nowhere"], "embeds")], &[]),
        &["`nowhere`", "nothing makes"],
    );
    says(
        &model(&[node("Neg", &["ids"], "a")], &[]),
        &["output `embeds`"],
    );
    let twice = [
        node("Neg", &["ids"], "embeds"),
        node("Neg", &["ids"], "embeds"),
    ];
    says(&model(&twice, &[]), &["twice"]);
    says(
        &model(&[node("QLinearAdd", &["ids"], "embeds")], &[]),
        &["QLinearAdd"],
    );
    says(
        &model(&[node("MatMulInteger", &["ids", "ids"], "embeds")], &[]),
        &["MatMulInteger"],
    );
    let dequantise = node("DequantizeLinear", &["w", "ids"], "embeds");
    says(
        &model(&[dequantise], &[longs("w", &[1])]),
        &["quantised weights `w`", "`ids` is computed"],
    );
}

#[test]
fn shapes_that_a_graph_makes_are_bounded() {
    const MANY: i64 = 1 << 20;
    let asks = |nodes: &[Message], tensors: &[Message]| {
        says(&model(nodes, tensors), &["cannot be"]);
    };
    asks(
        &[node("ConstantOfShape", &["s"], "embeds")],
        &[longs("s", &[MANY, MANY])],
    );
    asks(
        &[node("Expand", &["one", "s"], "embeds")],
        &[longs("one", &[1]), longs("s", &[MANY, MANY])],
    );
    asks(
        &[node("Reshape", &["ids", "s"], "embeds")],
        &[longs("s", &[-5, 2])],
    );
    asks(
        &[
            node("Concat", &["s", "s"], "t"),
            node("Expand", &["s", "t"], "embeds"),
        ],
        &[longs("s", &[MANY])],
    );
    asks(
        &[
            node("Mul", &["s", "s"], "t"),
            node("ConstantOfShape", &["t"], "embeds"),
        ],
        &[longs("s", &[MANY])],
    );
    // As fuzzing found it: a small file that asked for 1.6 GB.
    asks(
        &[
            node("Where", &["chosen", "s", "usual"], "t"),
            node("Expand", &["token", "t"], "embeds"),
        ],
        &[
            longs("s", &[1, 16 * MANY, 1]),
            longs("usual", &[-1, -1, -1]),
            tensor("chosen", LONG, &[1], &[0; 8]),
            tensor("token", LONG, &[1, 1, 24], &[0; 24 * 8]),
        ],
    );
    let three = ["a", "b", "c"].map(|name| tensor(name, LONG, &[], &0i64.to_le_bytes()));
    let [start, _, _] = three;
    let scalar = |name: &str, value: i64| tensor(name, LONG, &[], &value.to_le_bytes());
    asks(
        &[node("Range", &["a", "b", "c"], "embeds")],
        &[start, scalar("b", 1 << 40), scalar("c", 1)],
    );
    // Downwards, and by steps of nothing.
    for (from, step) in [(1 << 40, -1), (1 << 10, 0)] {
        let ends = [scalar("a", from), scalar("b", 0), scalar("c", step)];
        asks(&[node("Range", &["a", "b", "c"], "embeds")], &ends);
    }
    // What depends on the input is bounded once its shape is known.
    let nodes = [
        node("Unsqueeze", &["ids", "zero"], "a"),
        node("Tile", &["a", "s"], "b"),
        node("Tile", &["b", "s"], "embeds"),
    ];
    let tensors = [longs("zero", &[0]), longs("s", &[1 << 10, 1 << 10, 1])];
    let refusal = refusal(&model(&nodes, &tensors));
    assert!(refusal.contains("no CLIP needs"), "{refusal}");
}

#[test]
fn a_long_chain_does_not_overflow_the_stack() {
    let name = |index: usize| match index {
        0 => "ids".to_owned(),
        19_999 => "embeds".to_owned(),
        index => format!("v{index}"),
    };
    let nodes: Vec<_> = (1..20_000)
        .map(|index| node("Neg", &[&name(index - 1)], &name(index)))
        .collect();
    says(&model(&nodes, &[]), &["nodes"]);
}

#[test]
fn a_flipped_byte_never_does_more_than_refuse() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import/dynamic-int8");
    let whole = std::fs::read(folder.join("textual.onnx")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let mut rng = crate::rng::Rng::new(5);
    for _ in 0..60 {
        let mut broken = whole.clone();
        let at = rng.below(broken.len());
        broken[at] ^= 1 << rng.below(8);
        std::fs::write(&path, &broken).unwrap();
        // Some flips are harmless; none may end the program.
        let _ = OnnxFile::open(&path, FEED, Masks::Ones).and_then(|file| file.text());
    }
}
