//! What is computed does not depend on how many threads compute it: features of pictures and texts, gradients and a
//! trained prompt, to the last bit.

use std::ops::ControlFlow;

use edge_rlp::adapt::features::{Extraction, Monitor, Pictures, extract};
use edge_rlp::adapt::{Options, Task, adapt};
use edge_rlp::autodiff::random::{self, Sizes, matrix};
use edge_rlp::clip::{Model, TextTower, TextTowerWeights, text_tower::Reading};
use edge_rlp::ops::{Activation, Kernels};
use edge_rlp::prompt::{Label, Template, Tuning};
use edge_rlp::rng::Rng;
use image::RgbImage;
use ndarray::Array2;

/// What `work` yields on a pool of one, of two and of three threads, all of them equal.
fn on_any_pool<R: PartialEq + std::fmt::Debug + Send>(work: impl Fn() -> R + Sync) {
    // Which kernels are used must not be measured within a pool.
    Kernels::chosen();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(&work)
    };
    let alone = on(1);
    for threads in [2, 3] {
        assert!(on(threads) == alone, "{threads} threads compute otherwise");
    }
}

fn picture(index: usize) -> RgbImage {
    RgbImage::from_fn(90, 70, |x, y| {
        let (x, y, index) = (x as usize, y as usize, index + 1);
        image::Rgb([x * index, y * 3 + index * 40, x * y / index].map(|c| c as u8))
    })
}

#[test]
fn features_of_pictures_do_not_depend_on_the_number_of_threads() {
    on_any_pool(|| {
        let model = Model::embedded().unwrap();
        // Twice: the second time some weights lie otherwise.
        [0, 1, 0].map(|index| model.encode_image(&picture(index)).unwrap())
    });
}

#[test]
fn features_and_gradients_of_texts_do_not_depend_on_the_number_of_threads() {
    // Wide enough that every product is cut into pieces.
    let sizes = Sizes {
        width: 384,
        joint: 256,
        blocks: 2,
        heads: 6,
    };
    for quantised in [false, true] {
        on_any_pool(|| {
            let mut rng = Rng::new(5);
            let mut transformer = random::weights(&mut rng, sizes, Activation::QuickGelu);
            if quantised {
                transformer = random::quantised(transformer);
            }
            let tower = TextTower::new(TextTowerWeights {
                token_embedding: matrix(&mut rng, 60, sizes.width, 0.02).into(),
                positions: matrix(&mut rng, 20, sizes.width, 0.01),
                blocks: transformer.blocks,
                final_norm: transformer.final_norm,
                projection: transformer.projection,
                projection_bias: None,
                pooling_head: None,
                heads: transformer.heads,
                activation: transformer.activation,
                start_token: Some(58),
                end_token: 59,
                reading: Reading::Causal,
            })
            .unwrap();
            let context = tower.token_rows(&[1, 2, 3, 4]).unwrap();
            let suffixes: Vec<Vec<u32>> = (0..90).map(|c| vec![5 + c % 50, 7, 0, 59]).collect();
            let whole: Vec<Vec<u32>> = (0..9).map(|c| vec![58, 5 + c, 7, 59]).collect();
            // So little memory that the classes come in several passes.
            let (features, tape) = tower.forward(context.view(), &suffixes, 4 << 20).unwrap();
            let towards =
                Array2::from_shape_fn(features.dim(), |(r, c)| ((r + c) % 7) as f32 - 3.0);
            let gradient = tower.backward(&tape, towards.view());
            (features, gradient, tower.encode(&whole).unwrap())
        });
    }
}

#[test]
fn a_trained_prompt_does_not_depend_on_the_number_of_threads() {
    let model = Model::embedded().unwrap();
    let names = ["mug", "key", "hammer"];
    let labels: Vec<Label> = names
        .iter()
        .map(|name| Label::new(name, None).unwrap())
        .collect();
    let layout = model.layout(&Template::default(), &labels).unwrap();
    on_any_pool(|| {
        let mut extraction = Extraction::new(2, 3);
        extraction.threads = rayon::current_num_threads();
        let pictures = Pictures {
            count: 12,
            load: &|index| Some((picture(index), index % names.len())),
        };
        let set = extract(&model, pictures, extraction, Monitor::none()).unwrap();
        let mut options = Options::of(Tuning::Rlp);
        options.recipe.steps = 30;
        let task = Task::new(&model, &labels, &layout).unwrap();
        let outcome = adapt(&task, &set, &options, &mut |_| ControlFlow::Continue(()));
        outcome.unwrap().delta.matrix()
    });
}
