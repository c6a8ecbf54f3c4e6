use super::*;
use crate::autodiff::random::{self, Sizes, matrix};
use crate::ops::Activation;
use crate::rng::Rng;

fn weights() -> TextTowerWeights {
    let mut rng = Rng::new(31);
    let sizes = Sizes {
        width: 32,
        joint: 24,
        blocks: 3,
        heads: 4,
    };
    let transformer = random::weights(&mut rng, sizes, Activation::QuickGelu);
    TextTowerWeights {
        token_embedding: matrix(&mut rng, 50, 32, 1.0).into(),
        positions: matrix(&mut rng, 12, 32, 0.3),
        blocks: transformer.blocks,
        final_norm: transformer.final_norm,
        projection: transformer.projection,
        projection_bias: None,
        pooling_head: None,
        heads: transformer.heads,
        activation: transformer.activation,
        start_token: Some(48),
        end_token: 49,
        reading: Reading::Causal,
    }
}

impl TextTower {
    /// Features, and the gradient of the context, in whole sequences of which nothing is shared: the oracle.
    fn plain(
        &self,
        context: &Array2<f32>,
        suffixes: &[Vec<u32>],
        d_features: ArrayView2<f32>,
    ) -> (Array2<f32>, Array2<f32>) {
        let (n, width) = context.dim();
        let layout = RowLayout::new(0, suffixes.iter().map(|suffix| 1 + n + suffix.len()));
        let mut rows = Array2::zeros((layout.rows(), width));
        let starts = || {
            suffixes.iter().scan(0, |at, suffix| {
                let start = *at;
                *at += 1 + n + suffix.len();
                Some(start)
            })
        };
        for (start, suffix) in starts().zip(suffixes) {
            let own = start + 1 + n;
            let ids = [self.start_token.unwrap()];
            self.fill(rows.slice_mut(s![start..start + 1, ..]), 0, &ids)
                .unwrap();
            rows.slice_mut(s![start + 1..own, ..]).assign(context);
            self.fill(rows.slice_mut(s![own..own + suffix.len(), ..]), 0, suffix)
                .unwrap();
        }
        add_positions(&mut rows, self.positions.view(), &layout);
        let every = 0..rows.nrows();
        let nothing = self.transformer.zero_keys_values(0);
        let tape = self.transformer.forward(rows, layout, &nothing);
        let mut none = self.transformer.zero_keys_values(0);
        let d = self
            .transformer
            .backward(&tape, &nothing, &mut none, every, d_features);
        let d_context = starts().fold(Array2::zeros((n, width)), |sum, start| {
            sum + d.slice(s![start + 1..start + 1 + n, ..])
        });
        (tape.features().to_owned(), d_context)
    }

    /// The relative errors of features and gradient against [`TextTower::plain`], the greatest over memory for one pass
    /// and for many.
    pub(in crate::clip) fn errors_of_sharing(
        &self,
        context: &[u32],
        suffixes: &[Vec<u32>],
    ) -> (f32, f32) {
        let context = self.token_rows(context).unwrap();
        let d_features = matrix(&mut Rng::new(33), suffixes.len(), self.joint_width, 1.0);
        let (features, gradient) = self.plain(&context, suffixes, d_features.view());
        let errors = [DEFAULT_MEMORY, 0].map(|memory| {
            let (found, tape) = self.forward(context.view(), suffixes, memory).unwrap();
            let d_context = self.backward(&tape, d_features.view());
            (error(&found, &features), error(&d_context, &gradient))
        });
        (errors[0].0.max(errors[1].0), errors[0].1.max(errors[1].1))
    }
}

/// `|a - b| / |b|`, Frobenius norms.
fn error(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
    let norm = |m: &Array2<f32>| m.iter().map(|x| x * x).sum::<f32>().sqrt();
    norm(&(a - b)) / norm(b)
}

fn refusal(change: impl FnOnce(&mut TextTowerWeights)) -> String {
    let mut weights = weights();
    change(&mut weights);
    TextTower::new(weights)
        .err()
        .expect("a refusal")
        .to_string()
}

#[test]
fn a_prompt_of_token_rows_has_the_features_of_its_tokens() {
    let tower = TextTower::new(weights()).unwrap();
    let context = [3, 1, 4, 1];
    let suffixes = vec![vec![5, 9, 49], vec![2, 49], vec![6, 5, 3, 5, 49]];
    let whole: Vec<Vec<u32>> = suffixes
        .iter()
        .map(|s| [&[48], &context[..], s].concat())
        .collect();
    let plain = tower.encode(&whole).unwrap();
    let rows = tower.token_rows(&context).unwrap();
    let shared = tower.class_features(rows.view(), &suffixes).unwrap();
    assert_eq!(plain.dim(), (3, 24));
    assert!((&plain - &shared).iter().all(|e| e.abs() < 1e-5));
    assert_eq!(
        tower
            .forward(rows.view(), &suffixes, DEFAULT_MEMORY)
            .unwrap()
            .0,
        shared
    );
    assert!(
        plain
            .rows()
            .into_iter()
            .all(|row| (row.dot(&row) - 1.0).abs() < 1e-5)
    );
}

#[test]
fn many_texts_are_encoded_in_passes_without_changing_one() {
    let tower = TextTower::new(weights()).unwrap();
    let texts: Vec<Vec<u32>> = (0..100)
        .map(|i| vec![48, i % 48, (i * 7) % 48, 49])
        .collect();
    let together = tower.encode(&texts).unwrap();
    for index in [0, 63, 64, 99] {
        let alone = tower.encode(&texts[index..=index]).unwrap();
        assert!(
            (&together.row(index) - &alone.row(0))
                .iter()
                .all(|e| e.abs() < 1e-5)
        );
    }
    assert_eq!(tower.encode(&[]).unwrap().dim(), (0, 24));
}

#[test]
fn the_same_question_has_the_same_bits() {
    let (one, two) = (
        TextTower::new(weights()).unwrap(),
        TextTower::new(weights()).unwrap(),
    );
    let context = one.token_rows(&[1, 2, 3, 4]).unwrap();
    let suffixes = vec![vec![5, 49], vec![6, 7, 49]];
    let ask = |tower: &TextTower| {
        let (features, tape) = tower
            .forward(context.view(), &suffixes, DEFAULT_MEMORY)
            .unwrap();
        let gradient = tower.backward(&tape, features.view());
        (features, gradient)
    };
    assert_eq!(ask(&one), ask(&two));
}

#[test]
fn bad_texts_are_refused_by_number() {
    let tower = TextTower::new(weights()).unwrap();
    let message = |texts: &[Vec<u32>]| tower.encode(texts).unwrap_err().to_string();
    assert!(message(&[vec![48, 49], vec![48, 50, 49]]).starts_with("text 1 holds token 50"));
    assert!(message(&[vec![48, 49], vec![]]).starts_with("text 1 has no tokens"));
    assert!(message(&[vec![1; 13]]).starts_with("text 0 takes 13 tokens, but the model reads 12"));
    let wide = tower
        .class_features(Array2::zeros((4, 31)).view(), &[vec![49]])
        .unwrap_err();
    assert!(
        wide.to_string()
            .starts_with("the prompt's rows are 31 wide")
    );
    assert!(matches!(
        tower.token_rows(&[99]),
        Err(TextTowerError::Token { token: 99, .. })
    ));
    // A context that leaves no room is refused, also where there are no classes at all.
    let long = tower.class_features(Array2::zeros((40, 32)).view(), &[vec![49]]);
    assert!(matches!(
        long,
        Err(TextTowerError::TooLong { tokens: 42, .. })
    ));
    assert_eq!(
        tower
            .class_features(Array2::zeros((40, 32)).view(), &[])
            .unwrap()
            .dim(),
        (0, 24)
    );
}

#[test]
fn tensors_of_a_wrong_shape_are_refused_by_name() {
    let found = refusal(|w| w.blocks[1].key.weight = Array2::zeros((32, 31)).into());
    assert!(
        found.starts_with("the text tower's block 1 key weight has shape [32, 31]"),
        "{found}"
    );
    assert!(refusal(|w| w.blocks[2].down.bias = Array1::zeros(3)).contains("block 2 down bias"));
    assert!(refusal(|w| w.blocks[0].norm2.gain = Array1::zeros(3)).contains("block 0 norm2 gain"));
    assert!(refusal(|w| w.positions = Array2::zeros((12, 3))).contains("positions"));
    assert!(refusal(|w| w.projection = Array2::zeros((24, 3)).into()).contains("projection"));
    assert!(refusal(|w| w.projection_bias = Some(Array1::zeros(3))).contains("projection bias"));
    assert!(refusal(|w| w.heads = 5).contains("5 heads"));
    assert!(refusal(|w| w.heads = 0).contains("0 heads"));
    assert!(refusal(|w| w.blocks.clear()).contains("0 blocks"));
    assert!(refusal(|w| w.end_token = 50).contains("token 50"));
}

#[test]
fn a_small_budget_takes_several_passes_and_changes_nothing() {
    let tower = TextTower::new(weights()).unwrap();
    let context = tower.token_rows(&[3, 1, 4]).unwrap();
    let suffixes: Vec<Vec<u32>> = (0..40)
        .map(|class| vec![class, class + 5, 7, 49][class as usize % 3..].to_vec())
        .collect();
    let d_features = matrix(&mut Rng::new(32), 40, 24, 1.0);
    let ask = |memory| {
        let (features, tape) = tower.forward(context.view(), &suffixes, memory).unwrap();
        let gradient = tower.backward(&tape, d_features.view());
        (tape.passes.len(), features, gradient)
    };
    let (one, features, gradient) = ask(DEFAULT_MEMORY);
    assert_eq!(one, 1);
    for (memory, least) in [(200_000, 3), (0, 40)] {
        let (count, again, same) = ask(memory);
        assert!(count >= least, "{count} passes in {memory} bytes");
        let (features, gradient) = (error(&again, &features), error(&same, &gradient));
        assert!(
            features <= 1e-5 && gradient <= 1e-5,
            "features {features:e}, gradient {gradient:e}"
        );
    }
}

/// Every way of reading whole texts.
fn whole_readings() -> impl Iterator<Item = Reading> {
    [Padding::Hidden, Padding::Token(7)]
        .into_iter()
        .flat_map(|padding| {
            [Pooling::End, Pooling::Last, Pooling::Mean]
                .map(|pooling| Reading::Whole { padding, pooling })
        })
}

#[test]
fn whole_texts_after_a_prompt_are_the_texts_in_one_piece_whatever_the_memory() {
    for reading in whole_readings() {
        for start in [Some(48), None] {
            let tower = TextTower::new(TextTowerWeights {
                start_token: start,
                reading,
                ..weights()
            })
            .unwrap();
            let context = [3, 1, 4];
            let suffixes = vec![vec![5, 9, 49], vec![2, 49], vec![6, 5, 3, 5, 49]];
            let whole: Vec<Vec<u32>> = suffixes
                .iter()
                .map(|suffix| [start.as_slice(), &context, suffix].concat())
                .collect();
            let plain = tower.encode(&whole).unwrap();
            let rows = tower.token_rows(&context).unwrap();
            let d_features = matrix(&mut Rng::new(34), 3, 24, 1.0);
            let found = tower.class_features(rows.view(), &suffixes).unwrap();
            assert!(error(&found, &plain) < 1e-5, "{reading:?}");
            let mut gradients = Vec::new();
            for memory in [DEFAULT_MEMORY, 0] {
                let (found, tape) = tower.forward(rows.view(), &suffixes, memory).unwrap();
                assert!(error(&found, &plain) < 1e-5, "{reading:?}");
                gradients.push(tower.backward(&tape, d_features.view()));
            }
            assert!(error(&gradients[1], &gradients[0]) < 1e-5, "{reading:?}");
            let expected = match reading {
                Reading::Whole {
                    padding: Padding::Token(_),
                    ..
                } => 3 * 12,
                _ => whole.iter().map(Vec::len).sum(),
            };
            assert_eq!(tower.rows(3, &suffixes), expected);
        }
    }
}

/// Along the gradient itself, the loss falls as fast as the gradient says.
#[test]
fn gradients_of_whole_texts_match_finite_differences() {
    for reading in whole_readings() {
        let tower = TextTower::new(TextTowerWeights {
            reading,
            ..weights()
        })
        .unwrap();
        let context = tower.token_rows(&[3, 1, 4]).unwrap();
        let suffixes = vec![vec![5, 9, 49], vec![2, 49], vec![6, 5, 3, 5, 49]];
        let towards = matrix(&mut Rng::new(35), 3, 24, 1.0);
        let loss = |context: &Array2<f32>| {
            let features = tower.class_features(context.view(), &suffixes).unwrap();
            let products = features.iter().zip(&towards);
            products
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum::<f64>()
        };
        let (_, tape) = tower
            .forward(context.view(), &suffixes, DEFAULT_MEMORY)
            .unwrap();
        let gradient = tower.backward(&tape, towards.view());
        let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        let step = &gradient * (0.01 / norm);
        let slope = (loss(&(&context + &step)) - loss(&(&context - &step))) / 0.02;
        let relative = (slope / f64::from(norm) - 1.0).abs();
        assert!(relative < 5e-3, "{reading:?}: {relative:e}");
    }
}

#[test]
fn whole_texts_that_are_too_long_or_empty_are_refused_by_number() {
    let tower = TextTower::new(TextTowerWeights {
        reading: whole_readings().last().unwrap(),
        ..weights()
    })
    .unwrap();
    let message = |texts: &[Vec<u32>]| tower.encode(texts).unwrap_err().to_string();
    assert!(message(&[vec![48, 49], vec![]]).starts_with("text 1 has no tokens"));
    assert!(message(&[vec![1; 13]]).starts_with("text 0 takes 13 tokens, but the model reads 12"));
    assert_eq!(tower.encode(&[]).unwrap().dim(), (0, 24));
    let padding = refusal(|w| {
        w.reading = Reading::Whole {
            padding: Padding::Token(50),
            pooling: Pooling::End,
        }
    });
    assert!(padding.contains("token 50"), "{padding}");
}

#[test]
fn passes_hold_every_text_once_and_keep_to_the_limit() {
    for (lengths, held, limit) in [
        (vec![3; 100], 5, 64),
        (vec![1, 9, 2, 2, 7], 4, 10),
        (vec![30, 1, 1], 5, 8),
        (vec![], 5, 8),
        (vec![2; 7], 0, 0),
    ] {
        let cut = passes(&lengths, held, limit);
        let covered: Vec<usize> = cut.iter().cloned().flatten().collect();
        assert_eq!(covered, (0..lengths.len()).collect::<Vec<_>>());
        for (index, pass) in cut.iter().enumerate() {
            let rows: usize = lengths[pass.clone()].iter().sum();
            let held = if index == 0 { held } else { 0 };
            assert!(rows + held <= limit || pass.len() <= 1, "{cut:?}");
        }
    }
}

#[test]
fn a_feature_that_is_no_number_is_no_feature() {
    let mut features = Array2::from_elem((3, 4), 0.5);
    assert!(found(features.clone()).is_ok());
    features[[1, 2]] = f32::NAN;
    let error = found(features).unwrap_err();
    assert!(matches!(error, TextTowerError::Features { text: 1 }));
}
