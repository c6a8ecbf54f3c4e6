use ndarray::{Array1, Array2, s};

use super::*;
use crate::autodiff::random::{self, Sizes, matrix};
use crate::autodiff::{LinearWeights, TransformerWeights};
use crate::ops::check::{assert_product, relative_error};
use crate::rng::Rng;

const SMALL: Sizes = Sizes {
    width: 12,
    joint: 7,
    blocks: 3,
    heads: 3,
};

/// The same weights in f64.
fn widened(weights: TransformerWeights) -> TransformerWeights<f64> {
    let vector = |v: Array1<f32>| v.mapv(f64::from);
    let norm = |n: NormWeights| NormWeights {
        gain: vector(n.gain),
        bias: vector(n.bias),
        epsilon: f64::from(n.epsilon),
    };
    let linear = |l: LinearWeights| LinearWeights {
        weight: l.weight.mapv(f64::from),
        bias: vector(l.bias),
    };
    let block = |b: BlockWeights| BlockWeights {
        norm1: norm(b.norm1),
        query: linear(b.query),
        key: linear(b.key),
        value: linear(b.value),
        out: linear(b.out),
        norm2: norm(b.norm2),
        up: linear(b.up),
        down: linear(b.down),
    };
    TransformerWeights {
        blocks: weights.blocks.into_iter().map(block).collect(),
        final_norm: norm(weights.final_norm),
        projection: weights.projection.mapv(f64::from),
        projection_bias: vector(weights.projection_bias),
        heads: weights.heads,
        activation: weights.activation,
    }
}

#[test]
fn the_whole_sweep_matches_central_differences() {
    for activation in [
        Activation::QuickGelu,
        Activation::Gelu,
        Activation::GeluTanh,
    ] {
        for blocks in 1..=3 {
            let mut rng = Rng::new(21);
            let weights = random::weights(&mut rng, Sizes { blocks, ..SMALL }, activation);
            let transformer = TextTransformer::new(widened(weights));
            let layout = RowLayout::new(4, [2, 3, 1]);
            let x = matrix(&mut rng, layout.rows(), 12, 1.0).mapv(f64::from);
            let dy = matrix(&mut rng, 3, 7, 1.0).mapv(f64::from);
            let tape = transformer.forward(x.clone(), layout.clone());
            let dx = transformer.backward(&tape, 0..layout.rows(), dy.view());
            let forward = |x: &Array2<f64>| {
                transformer
                    .forward(x.clone(), layout.clone())
                    .into_features()
            };
            assert_product(forward, &x, &dy, &dx);
            let context = transformer.backward(&tape, 1..4, dy.view());
            assert_eq!(context, dx.slice(s![1..4, ..]));
        }
    }
}

/// Features and the gradient of the shared rows, once with the prefix shared and once in whole sequences whose
/// gradients are added up.
#[test]
fn a_shared_prefix_changes_neither_features_nor_gradients() {
    let mut rng = Rng::new(22);
    let sizes = Sizes {
        width: 64,
        joint: 32,
        blocks: 4,
        heads: 4,
    };
    let transformer =
        TextTransformer::<f32>::new(random::weights(&mut rng, sizes, Activation::QuickGelu));
    let lengths = [3, 1, 5, 2];
    let prefix = matrix(&mut rng, 5, 64, 1.0);
    let suffixes: Vec<Array2<f32>> = lengths
        .iter()
        .map(|&n| matrix(&mut rng, n, 64, 1.0))
        .collect();
    let dy = matrix(&mut rng, 4, 32, 1.0);
    let stack = |parts: &[ArrayView2<f32>]| ndarray::concatenate(ndarray::Axis(0), parts).unwrap();

    let mut shared = vec![prefix.view()];
    shared.extend(suffixes.iter().map(|s| s.view()));
    let tape = transformer.forward(stack(&shared), RowLayout::new(5, lengths));
    let gradient = transformer.backward(&tape, 0..5, dy.view());

    let whole: Vec<ArrayView2<f32>> = suffixes
        .iter()
        .flat_map(|s| [prefix.view(), s.view()])
        .collect();
    let layout = RowLayout::new(0, lengths.map(|n| 5 + n));
    let rows = layout.rows();
    let plain = transformer.forward(stack(&whole), layout);
    let every = transformer.backward(&plain, 0..rows, dy.view());
    let mut summed = Array2::<f32>::zeros((5, 64));
    let mut at = 0;
    for n in lengths {
        summed += &every.slice(s![at..at + 5, ..]);
        at += 5 + n;
    }

    let wide = |m: ArrayView2<f32>| m.mapv(f64::from);
    let features = relative_error(&wide(tape.features()), &wide(plain.features()));
    let gradients = relative_error(&wide(gradient.view()), &wide(summed.view()));
    println!("features {features:e}, gradient {gradients:e}");
    assert!(
        features <= 1e-5 && gradients <= 1e-5,
        "features {features:e}, gradient {gradients:e}"
    );
}

/// The text tower of ViT-B/32 at its full size: the f32 gradient against f64 central differences of the same
/// weights, along random directions.
#[test]
fn a_full_size_tower_matches_central_differences_along_random_directions() {
    let mut rng = Rng::new(23);
    let sizes = Sizes {
        width: 512,
        joint: 512,
        blocks: 12,
        heads: 8,
    };
    let weights = random::weights(&mut rng, sizes, Activation::QuickGelu);
    let layout = RowLayout::new(5, [3, 4]);
    let x = matrix(&mut rng, layout.rows(), 512, 0.1);
    let dy = matrix(&mut rng, 2, 512, 1.0);
    let narrow = TextTransformer::<f32>::new(weights.clone());
    let tape = narrow.forward(x.clone(), layout.clone());
    let gradient = narrow.backward(&tape, 1..5, dy.view()).mapv(f64::from);
    drop(narrow);

    let wide = TextTransformer::new(widened(weights));
    let loss = |x: &Array2<f64>| {
        (wide.forward(x.clone(), layout.clone()).into_features() * dy.mapv(f64::from)).sum()
    };
    let (x, step) = (x.mapv(f64::from), 1e-5);
    // Along the gradient itself the slope is the gradient's length; along others, whatever it is.
    let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    for direction in [
        &gradient / length,
        matrix(&mut rng, 4, 512, 1.0 / 45.0).mapv(f64::from),
    ] {
        let mut moved = Array2::zeros(x.dim());
        moved
            .slice_mut(s![1..5, ..])
            .assign(&(direction.clone() * step));
        let numeric = (loss(&(&x + &moved)) - loss(&(&x - &moved))) / (2.0 * step);
        let error = ((&gradient * &direction).sum() - numeric).abs() / length;
        println!("slope {numeric:e} of a gradient {length:e} long, error {error:e}");
        assert!(error <= 1e-4, "relative error {error:e}");
    }
}
