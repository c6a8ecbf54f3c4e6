//! The text tower and its gradient against PyTorch's autograd on the same weights. The fixtures and the script
//! that made them are in `tests/fixtures/text_tower`.

use std::collections::HashMap;
use std::path::Path;

use edge_rlp::clip::text_tower::{DEFAULT_MEMORY, Reading};
use edge_rlp::clip::{BlockWeights, LinearWeights, NormWeights, TextTower, TextTowerWeights};
use edge_rlp::ops::Activation;
use ndarray::{Array1, Array2};

#[derive(serde::Deserialize)]
struct Header {
    layers: usize,
    heads: usize,
    activation: String,
    epsilon: f32,
    start: u32,
    end: u32,
    context: Vec<u32>,
    suffixes: Vec<Vec<u32>>,
    labels: Vec<usize>,
    scale: f32,
    loss: f64,
    tensors: Vec<(String, Vec<usize>)>,
}

struct Fixture {
    header: Header,
    tensors: HashMap<String, Array2<f32>>,
}

impl Fixture {
    fn read(folder: &Path, name: &str) -> Fixture {
        let text = std::fs::read_to_string(folder.join(name).with_extension("json")).unwrap();
        let header: Header = serde_json::from_str(&text).unwrap();
        let bytes = std::fs::read(folder.join(name).with_extension("f32")).unwrap();
        let mut numbers = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let tensors = header.tensors.iter().map(|(name, shape)| {
            let columns = *shape.last().unwrap();
            let rows = shape.iter().product::<usize>() / columns;
            let tensor = Array2::from_shape_fn((rows, columns), |_| numbers.next().unwrap());
            (name.clone(), tensor)
        });
        Fixture {
            tensors: tensors.collect(),
            header,
        }
    }

    fn matrix(&self, name: &str) -> Array2<f32> {
        self.tensors[name].clone()
    }

    fn vector(&self, name: &str) -> Array1<f32> {
        self.tensors[name].row(0).to_owned()
    }

    fn linear(&self, name: &str) -> LinearWeights {
        let part = |part| format!("{name}.{part}");
        LinearWeights {
            weight: self.matrix(&part("weight")).into(),
            bias: self.vector(&part("bias")),
        }
    }

    fn norm(&self, name: &str) -> NormWeights {
        let part = |part| self.vector(&format!("{name}.{part}"));
        NormWeights {
            gain: part("weight"),
            bias: part("bias"),
            epsilon: self.header.epsilon,
        }
    }

    fn tower(&self) -> TextTower {
        let block = |index| {
            let linear = |part| self.linear(&format!("block{index}.{part}"));
            let norm = |part| self.norm(&format!("block{index}.{part}"));
            BlockWeights {
                norm1: norm("norm1"),
                query: linear("query"),
                key: linear("key"),
                value: linear("value"),
                out: linear("out"),
                norm2: norm("norm2"),
                up: linear("up"),
                down: linear("down"),
            }
        };
        TextTower::new(TextTowerWeights {
            token_embedding: self.matrix("token_embedding").into(),
            positions: self.matrix("positions"),
            blocks: (0..self.header.layers).map(block).collect(),
            final_norm: self.norm("final_norm"),
            projection: self.matrix("projection").into(),
            projection_bias: None,
            pooling_head: None,
            heads: self.header.heads,
            activation: match self.header.activation.as_str() {
                "quick_gelu" => Activation::QuickGelu,
                _ => Activation::Gelu,
            },
            start_token: Some(self.header.start),
            end_token: self.header.end,
            reading: Reading::Causal,
        })
        .unwrap()
    }
}

/// Mean cross-entropy of `softmax(scale * images · features)`, and its gradient by `features`.
fn loss(header: &Header, images: &Array2<f32>, features: &Array2<f32>) -> (f64, Array2<f32>) {
    let mut d_logits = images.dot(&features.t()) * header.scale;
    let mut loss = 0.0;
    for (mut row, &label) in d_logits.rows_mut().into_iter().zip(&header.labels) {
        let highest = row.fold(f32::MIN, |a, &b| a.max(b));
        row.mapv_inplace(|x| (x - highest).exp());
        row /= row.sum();
        loss -= f64::from(row[label].ln()) / header.labels.len() as f64;
        row[label] -= 1.0;
    }
    let d_features = d_logits.t().dot(images) * (header.scale / header.labels.len() as f32);
    (loss, d_features)
}

fn relative_error(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
    assert_eq!(a.dim(), b.dim());
    let norm = |m: &Array2<f32>| m.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    norm(&(a - b)) / norm(b)
}

/// Compares features, loss and the gradients of both factors with PyTorch's.
fn assert_parity(folder: &Path, name: &str, tolerance: f64) {
    let fixture = Fixture::read(folder, name);
    let (header, tower) = (&fixture.header, fixture.tower());
    let template = tower.token_rows(&header.context).unwrap();
    let plain = tower
        .class_features(template.view(), &header.suffixes)
        .unwrap();
    let whole = header
        .suffixes
        .iter()
        .map(|s| [&[header.start], &header.context[..], s].concat());
    let encoded = tower.encode(&whole.collect::<Vec<_>>()).unwrap();

    let (u, v) = (fixture.matrix("u"), fixture.matrix("v"));
    let prompt = &template + &u.dot(&v);
    let (features, tape) = tower
        .forward(prompt.view(), &header.suffixes, DEFAULT_MEMORY)
        .unwrap();
    let (loss, d_features) = loss(header, &fixture.matrix("images"), &features);
    let d_prompt = tower.backward(&tape, d_features.view());

    let errors = [
        (
            "features of the template, shared prefix",
            relative_error(&plain, &fixture.matrix("template_features")),
        ),
        (
            "features of the template, whole",
            relative_error(&encoded, &fixture.matrix("template_features")),
        ),
        (
            "features",
            relative_error(&features, &fixture.matrix("features")),
        ),
        ("loss", (loss / header.loss - 1.0).abs()),
        (
            "dU",
            relative_error(&d_prompt.dot(&v.t()), &fixture.matrix("d_u")),
        ),
        (
            "dV",
            relative_error(&u.t().dot(&d_prompt), &fixture.matrix("d_v")),
        ),
    ];
    for (what, error) in errors {
        println!("{name}: {what}: relative error {error:.1e}");
        assert!(
            error <= tolerance,
            "{name}: {what}: relative error {error:e}"
        );
    }
}

#[test]
fn features_and_gradients_of_small_towers_are_pytorchs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text_tower");
    // The issue asks for 1e-3; f32 against PyTorch in f64 leaves this.
    assert_parity(&folder, "quick_gelu", 2e-5);
    assert_parity(&folder, "gelu", 2e-5);
}

#[test]
#[ignore = "needs `make.py --full DIR`, with EDGE_RLP_TEXT_FIXTURE set to DIR"]
fn features_and_gradients_of_a_full_size_tower_are_pytorchs() {
    let folder =
        std::env::var_os("EDGE_RLP_TEXT_FIXTURE").expect("the folder that `make.py --full` wrote");
    assert_parity(Path::new(&folder), "vit_b32", 1e-3);
}
