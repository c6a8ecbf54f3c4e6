//! The text side of a training step on a text tower of ViT-B/32's size with random weights, one thread: forward and
//! backward of 10, 100 and 1,000 classes with names of one to three tokens, in eight bits and in floats, and of 10 and 100
//! in towers of which every token sees every other, read at the end token and by a head of attention. A line of JSON a size, medians beside the best round. `cargo bench --bench text_step`

use std::time::Instant;

use edge_rlp::autodiff::random::{self, Sizes, matrix};
use edge_rlp::clip::text_tower::{DEFAULT_MEMORY, Padding, Pooling, Reading};
use edge_rlp::clip::{TextTower, TextTowerWeights};
use edge_rlp::host::memory::keep_freed;
use edge_rlp::ops::Activation;
use edge_rlp::rng::Rng;
use ndarray::Array2;
use serde_json::json;

const SIZES: Sizes = Sizes {
    width: 512,
    joint: 512,
    blocks: 12,
    heads: 8,
};

fn main() {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .expect("the first use of the pool");
    keep_freed();
    let whole = |padding, pooling| Reading::Whole { padding, pooling };
    let seen = Padding::Token(0);
    // MobileCLIP sees its padding, so every text has 77 rows.
    let readings = [
        ("causal", Reading::Causal),
        (
            "whole, padding hidden",
            whole(Padding::Hidden, Pooling::End),
        ),
        ("whole, padding seen", whole(seen, Pooling::End)),
        ("whole, pooling head", whole(seen, Pooling::Attention)),
    ];
    let towers = [("int8", true), ("f32", false)].map(|(precision, quantised)| {
        readings.map(|(name, reading)| (precision, name, tower(quantised, reading)))
    });
    for (precision, reading, tower) in towers.iter().flatten() {
        for (classes, rounds) in [(10, 21), (100, 7), (1000, 2)] {
            if *reading != "causal" && classes > 100 {
                continue;
            }
            let step = Step::measure(tower, classes, rounds);
            println!(
                "{}",
                json!({
                    "bench": "text_step",
                    "precision": precision,
                    "reading": reading,
                    "classes": classes,
                    "tokens": step.tokens,
                    "rows": step.rows,
                    "forward_ms": step.forward[0],
                    "forward_best_ms": step.forward[1],
                    "backward_ms": step.backward[0],
                    "backward_best_ms": step.backward[1],
                })
            );
        }
    }
}

fn tower(quantised: bool, reading: Reading) -> TextTower {
    let mut rng = Rng::new(1);
    let by_attention = matches!(
        reading,
        Reading::Whole {
            pooling: Pooling::Attention,
            ..
        }
    );
    let head = by_attention.then(|| random::pooling_head(&mut rng, SIZES.width, SIZES.heads));
    let mut transformer = random::weights(&mut rng, SIZES, Activation::QuickGelu);
    if quantised {
        transformer = random::quantised(transformer);
    }
    TextTower::new(TextTowerWeights {
        token_embedding: matrix(&mut rng, 1000, SIZES.width, 0.02).into(),
        positions: matrix(&mut rng, 77, SIZES.width, 0.01),
        blocks: transformer.blocks,
        final_norm: transformer.final_norm,
        projection: transformer.projection,
        projection_bias: None,
        pooling_head: head,
        heads: transformer.heads,
        activation: transformer.activation,
        start_token: Some(998),
        end_token: 999,
        reading,
    })
    .expect("random weights of consistent shapes")
}

struct Step {
    /// Of all classes, without the prefix.
    tokens: usize,
    /// That a step computes.
    rows: usize,
    /// Milliseconds of the median and of the best round.
    forward: [f64; 2],
    backward: [f64; 2],
}

impl Step {
    fn measure(tower: &TextTower, classes: u32, rounds: usize) -> Step {
        let context = tower.token_rows(&[1, 2, 3, 4]).expect("four of the tokens");
        // One to three tokens of a name, a full stop and the end token.
        let suffixes: Vec<Vec<u32>> = (0..classes)
            .map(|class| {
                let name = [5, 6, 7].map(|token| token + class % 900);
                [&name[..1 + class as usize % 3], &[0, 999]].concat()
            })
            .collect();
        let d_features = Array2::ones((suffixes.len(), SIZES.joint));
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        // The first round packs the weights for backward and is not counted.
        for _ in 0..=rounds {
            let start = Instant::now();
            let (_, tape) = tower
                .forward(context.view(), &suffixes, DEFAULT_MEMORY)
                .expect("texts of this tower");
            forward.push(start.elapsed().as_secs_f64() * 1e3);
            let start = Instant::now();
            tower.backward(&tape, d_features.view());
            backward.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let [forward, backward] = [forward, backward].map(|mut times| {
            let times = &mut times[1..];
            times.sort_by(f64::total_cmp);
            [times[times.len() / 2], times[0]]
        });
        Step {
            tokens: suffixes.iter().map(Vec::len).sum(),
            rows: tower.rows(context.nrows(), &suffixes),
            forward,
            backward,
        }
    }
}
