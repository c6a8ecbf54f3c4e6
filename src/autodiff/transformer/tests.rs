use ndarray::{Array1, Array2, s};

use super::*;
use crate::autodiff::random::{self, Sizes, matrix};
use crate::autodiff::{LinearWeights, PoolingHeadWeights, TransformerWeights};
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
        weight: l.weight.floats().mapv(f64::from).into(),
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
    let head = |h: PoolingHeadWeights| PoolingHeadWeights {
        scores: h.scores.mapv(f64::from),
        value: linear(h.value),
        out: linear(h.out),
        norm: norm(h.norm),
        up: linear(h.up),
        down: linear(h.down),
    };
    TransformerWeights {
        blocks: weights.blocks.into_iter().map(block).collect(),
        final_norm: norm(weights.final_norm),
        projection: weights.projection.floats().mapv(f64::from).into(),
        projection_bias: vector(weights.projection_bias),
        heads: weights.heads,
        activation: weights.activation,
        pooling: match weights.pooling {
            RowPooling::One => RowPooling::One,
            RowPooling::Mean => RowPooling::Mean,
            RowPooling::Attention(of) => RowPooling::Attention(Box::new(head(*of))),
        },
    }
}

#[test]
fn the_sweep_over_whole_sequences_matches_central_differences() {
    let mut rng = Rng::new(24);
    for pooling in [
        RowPooling::One,
        RowPooling::Mean,
        RowPooling::Attention(Box::new(random::pooling_head(&mut rng, 12, 3))),
        RowPooling::Attention(Box::new(random::pooling_head(&mut rng, 12, 1))),
    ] {
        let weights = TransformerWeights {
            pooling,
            ..random::weights(&mut rng, SMALL, Activation::GeluTanh)
        };
        let transformer = TextTransformer::new(widened(weights));
        let sequences = [(3, 2), (5, 1), (1, 0)];
        let layout = RowLayout::whole(
            sequences.map(|(rows, read)| crate::ops::WholeSequence { rows, read }),
        );
        let x = matrix(&mut rng, layout.rows(), 12, 1.0).mapv(f64::from);
        let dy = matrix(&mut rng, 3, 7, 1.0).mapv(f64::from);
        let nothing = transformer.zero_keys_values(0);
        let tape = transformer.forward(x.clone(), layout.clone(), &nothing);
        let mut none = transformer.zero_keys_values(0);
        let dx = transformer.backward(&tape, &nothing, &mut none, 0..layout.rows(), dy.view());
        let forward = |x: &Array2<f64>| transformer.features(x.clone(), &layout, &nothing).0;
        assert_product(forward, &x, &dy, &dx);
    }
}

#[test]
fn the_whole_backward_pass_matches_central_differences() {
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
            let start = transformer.zero_keys_values(0);
            let tape = transformer.forward(x.clone(), layout.clone(), &start);
            let backward = |wanted| {
                let mut d_shared = transformer.zero_keys_values(layout.prefix());
                transformer.backward(&tape, &start, &mut d_shared, wanted, dy.view())
            };
            let dx = backward(0..layout.rows());
            let forward = |x: &Array2<f64>| transformer.features(x.clone(), &layout, &start).0;
            assert_product(forward, &x, &dy, &dx);
            let context = backward(1..4);
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
    let nothing = transformer.zero_keys_values(0);
    let tape = transformer.forward(stack(&shared), RowLayout::new(5, lengths), &nothing);
    let mut d_shared = transformer.zero_keys_values(5);
    let gradient = transformer.backward(&tape, &nothing, &mut d_shared, 0..5, dy.view());

    let whole: Vec<ArrayView2<f32>> = suffixes
        .iter()
        .flat_map(|s| [prefix.view(), s.view()])
        .collect();
    let layout = RowLayout::new(0, lengths.map(|n| 5 + n));
    let rows = layout.rows();
    let plain = transformer.forward(stack(&whole), layout, &nothing);
    let every = transformer.backward(&plain, &nothing, &mut nothing.clone(), 0..rows, dy.view());
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
    let tape = narrow.forward(x.clone(), layout.clone(), &narrow.zero_keys_values(0));
    let (nothing, mut d_shared) = (narrow.zero_keys_values(0), narrow.zero_keys_values(5));
    let gradient = narrow.backward(&tape, &nothing, &mut d_shared, 1..5, dy.view());
    let gradient = gradient.mapv(f64::from);
    drop(narrow);

    let wide = TextTransformer::new(widened(weights));
    let nothing = wide.zero_keys_values(0);
    let loss = |x: &Array2<f64>| {
        let (features, _) = wide.features(x.clone(), &layout, &nothing);
        (features * dy.mapv(f64::from)).sum()
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

/// In f64, so that nothing but a wrong term can make a difference.
#[test]
fn later_passes_leave_to_the_first_what_they_owe_the_prefix() {
    let mut rng = Rng::new(24);
    let weights = random::weights(&mut rng, SMALL, Activation::Gelu);
    let transformer = TextTransformer::new(widened(weights));
    let mut rows = |n| matrix(&mut rng, n, 12, 1.0).mapv(f64::from);
    let (start, context) = (rows(1), rows(3));
    let suffixes = [
        (rows(5), vec![2, 3]),
        (rows(1), vec![1]),
        (rows(6), vec![4, 2]),
    ];
    let dy = matrix(&mut rng, 5, 7, 1.0).mapv(f64::from);
    let stack = |parts: &[&Array2<f64>]| {
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        concatenate(Axis(0), &views).unwrap()
    };

    let nothing = transformer.zero_keys_values(0);
    let [a, b, c] = [0, 1, 2].map(|pass: usize| &suffixes[pass].0);
    let layout = RowLayout::new(4, [2, 3, 1, 4, 2]);
    let whole = transformer.forward(stack(&[&start, &context, a, b, c]), layout, &nothing);
    let mut d_shared = transformer.zero_keys_values(4);
    let expected = transformer.backward(&whole, &nothing, &mut d_shared, 1..4, dy.view());

    let (_, begun) = transformer.features(start, &RowLayout::new(1, []), &nothing);
    let first = RowLayout::after(1, 3, suffixes[0].1.clone());
    let (features, shared) = transformer.features(stack(&[&context, a]), &first, &begun);
    let close = |a: ArrayView2<f64>, b: ArrayView2<f64>| {
        assert!(relative_error(&a.to_owned(), &b.to_owned()) < 1e-12);
    };
    close(features.view(), whole.features().slice(s![..2, ..]));
    let mut d_shared = transformer.zero_keys_values(4);
    for ((rows, lengths), classes) in suffixes[1..].iter().zip([2..3, 3..5]) {
        let layout = RowLayout::after(4, 0, lengths.clone());
        let tape = transformer.forward(rows.clone(), layout, &shared);
        close(
            tape.features(),
            whole.features().slice(s![classes.clone(), ..]),
        );
        let dy = dy.slice(s![classes, ..]);
        let none = transformer.backward(&tape, &shared, &mut d_shared, 0..0, dy);
        assert_eq!(none.nrows(), 0);
    }
    let tape = transformer.forward(stack(&[&context, a]), first, &begun);
    let dy = dy.slice(s![..2, ..]);
    let found = transformer.backward(&tape, &begun, &mut d_shared, 0..3, dy);
    close(found.view(), expected.view());
}

/// Weights of integers, on the kernel of this machine, beside the same numbers in f32.
#[test]
fn eight_bits_turn_features_and_gradients_by_next_to_nothing() {
    let mut rng = Rng::new(25);
    let sizes = Sizes {
        width: 384,
        joint: 384,
        blocks: 4,
        heads: 6,
    };
    let integers = random::quantised(random::weights(&mut rng, sizes, Activation::QuickGelu));
    let mut floats = integers.clone();
    for block in &mut floats.blocks {
        let BlockWeights {
            query,
            key,
            value,
            out,
            up,
            down,
            ..
        } = block;
        for linear in [query, key, value, out, up, down] {
            linear.weight = linear.weight.floats().into_owned().into();
        }
    }
    floats.projection = floats.projection.floats().into_owned().into();
    let layout = RowLayout::new(5, [3, 4, 2, 5]);
    let x = matrix(&mut rng, layout.rows(), 384, 0.5);
    let dy = matrix(&mut rng, 4, 384, 1.0);
    let ask = |weights| {
        let transformer = TextTransformer::<f32>::new(weights);
        let nothing = transformer.zero_keys_values(0);
        let tape = transformer.forward(x.clone(), layout.clone(), &nothing);
        let mut d_shared = transformer.zero_keys_values(5);
        let d = transformer.backward(&tape, &nothing, &mut d_shared, 1..5, dy.view());
        (tape.features().to_owned(), d)
    };
    let (one, two) = (ask(integers), ask(floats));
    let cosine = |a: &Array2<f32>, b: &Array2<f32>| {
        let dot = |a: &Array2<f32>, b: &Array2<f32>| (a * b).sum();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let (features, gradient) = (cosine(&one.0, &two.0), cosine(&one.1, &two.1));
    println!("cosine of features {features}, of the gradient {gradient}");
    assert!(features >= 0.999 && gradient >= 0.999);
}
