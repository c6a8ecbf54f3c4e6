//! The text side of a training step on a text tower of ViT-B/32's size with random weights, one thread: forward
//! and backward with a shared prefix. One line of JSON a size, medians beside the best round. `cargo bench --bench text_step`

use std::time::Instant;

use edge_rlp::autodiff::random::{self, Sizes, matrix};
use edge_rlp::clip::{TextTower, TextTowerWeights};
use edge_rlp::ops::Activation;
use edge_rlp::rng::Rng;
use ndarray::Array2;

const REPEATS: usize = 15;

fn main() {
    let mut rng = Rng::new(1);
    let sizes = Sizes {
        width: 512,
        joint: 512,
        blocks: 12,
        heads: 8,
    };
    let transformer = random::weights(&mut rng, sizes, Activation::QuickGelu);
    let tower = TextTower::new(TextTowerWeights {
        token_embedding: matrix(&mut rng, 1000, 512, 0.02),
        positions: matrix(&mut rng, 77, 512, 0.01),
        blocks: transformer.blocks,
        final_norm: transformer.final_norm,
        projection: transformer.projection,
        projection_bias: None,
        heads: transformer.heads,
        activation: transformer.activation,
        start_token: 998,
        end_token: 999,
    })
    .expect("random weights of consistent shapes");
    let context = tower.token_rows(&[1, 2, 3, 4]).expect("four of the tokens");
    for classes in [10, 100] {
        // Three tokens of a name, a full stop and the end token.
        let suffixes: Vec<Vec<u32>> = (0..classes)
            .map(|c| vec![5 + c, 6 + c, 7 + c, 0, 999])
            .collect();
        let d_features = Array2::ones((classes as usize, 512));
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        // The first round packs the weights for backward and is not counted.
        for _ in 0..=REPEATS {
            let start = Instant::now();
            let (_, tape) = tower
                .forward(context.view(), &suffixes)
                .expect("texts of this tower");
            forward.push(start.elapsed().as_secs_f64() * 1e3);
            let start = Instant::now();
            tower.backward(&tape, d_features.view());
            backward.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let [(forward, forward_best), (backward, backward_best)] =
            [forward, backward].map(|mut times| median_and_best(&mut times[1..]));
        println!(
            r#"{{"bench":"text_step","classes":{classes},"forward_ms":{forward:.1},"backward_ms":{backward:.1},"forward_best_ms":{forward_best:.1},"backward_best_ms":{backward_best:.1}}}"#
        );
    }
}

fn median_and_best(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[0])
}
