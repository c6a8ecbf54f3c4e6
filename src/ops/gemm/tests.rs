//! Products on every kernel that this processor has, against plain ones.

use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView2, s};

use super::*;
use crate::ops::check::{random, relative_error};
use crate::ops::{Activation, Matrix};
use crate::rng::Rng;

fn integers(rng: &mut Rng, shape: (usize, usize)) -> Array2<i8> {
    Array2::from_shape_simple_fn(shape, || rng.range(-128.0, 128.0).floor() as i8)
}

const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (3, 7, 5),
    (17, 33, 129),
    (50, 64, 48),
    (2, 130, 300),
    (300, 5, 20),
    (0, 4, 4),
    (2, 0, 3),
    (2, 3, 0),
];

#[test]
fn every_kernel_of_this_cpu_sums_exactly() {
    let mut rng = Rng::new(13);
    let kernels = IntegerKernel::all();
    assert!(!kernels.is_empty());
    for (rows, inner, out) in SIZES {
        let values = integers(&mut rng, (out, inner));
        // A row whose largest magnitude is 127 keeps its integers, with a scale of one.
        let mut x = integers(&mut rng, (rows, inner)).mapv(|x| f32::from(x.max(-127)));
        x.rows_mut()
            .into_iter()
            .for_each(|mut row| row.iter_mut().take(1).for_each(|x| *x = 127.0));
        let expected = x.mapv(f64::from).dot(&values.mapv(f64::from).t());
        let scales = Array1::from_shape_fn(out, |o| [1.0, 0.5, 2.0][o % 3]);
        let matrix = StoredIntegers::copied(values.view(), scales.clone());
        let expected = expected * scales.mapv(f64::from);
        for kernel in &kernels {
            println!("{kernel}: {rows} x {inner} x {out}");
            let product = Weight::integers_on(kernel, &matrix, Direction::Forward);
            let product = product.multiply(x.view(), Epilogue::default());
            assert_eq!(product.mapv(f64::from), expected);
        }
        let floats = Weight::quantised_on(None, &matrix, Direction::Forward)
            .multiply(x.view(), Epilogue::default());
        assert_eq!(floats.mapv(f64::from), expected);
    }
}

#[test]
fn quantised_rows_lose_little_and_every_path_agrees_on_both_products() {
    let mut rng = Rng::new(14);
    let values = integers(&mut rng, (96, 200));
    let scales = random(&mut rng, (1, 96)).mapv(|x| x.abs() as f32 + 0.1);
    let matrix = StoredIntegers::copied(values.view(), scales.row(0).to_owned());
    let floats = matrix.floats::<f64>();
    let (x, dy) = (random(&mut rng, (50, 200)), random(&mut rng, (50, 96)));
    let (forward, backward) = (x.dot(&floats.t()), dy.dot(&floats));
    let (x, dy) = (x.mapv(|x| x as f32), dy.mapv(|x| x as f32));
    let paths = IntegerKernel::all().into_iter().map(Some);
    for kernel in paths.chain([None]) {
        let kernel = kernel.as_ref();
        let limit = if kernel.is_some() { 0.02 } else { 1e-6 };
        let y = Weight::quantised_on(kernel, &matrix, Direction::Forward)
            .multiply(x.view(), Epilogue::default());
        let error = relative_error(&y.mapv(f64::from), &forward);
        assert!(error < limit, "{kernel:?}: x Wᵀ errs by {error}");
        let product = Weight::quantised_on(kernel, &matrix, Direction::Backward);
        let dx = product.multiply(dy.view(), Epilogue::default());
        let error = relative_error(&dx.mapv(f64::from), &backward);
        assert!(error < limit, "{kernel:?}: x W errs by {error}");
    }
}

#[test]
fn values_may_lie_as_rows_as_columns_and_in_several_places() {
    let mut rng = Rng::new(16);
    for (rows, inner, heights) in [(3, 20, [40, 44, 12]), (13, 7, [5, 1, 30])] {
        let out = heights.iter().sum();
        let values = integers(&mut rng, (out, inner));
        let x = random(&mut rng, (rows, inner)).mapv(|x| x as f32);
        let dy = random(&mut rng, (rows, out)).mapv(|x| x as f32);
        let bytes = |values: ArrayView2<i8>| -> Arc<Vec<u8>> {
            Arc::new(values.iter().map(|&value| value as u8).collect())
        };
        let scales = Array1::from_shape_fn(out, |o| 0.01 * (o + 1) as f32);
        let whole = StoredIntegers::copied(values.view(), scales.clone());
        let columns = bytes(values.t());
        let columns = StoredIntegers::transposed(columns, 0..out * inner, inner, scales.clone());
        let mut from = 0;
        let parts = heights.map(|height| {
            let part = s![from..from + height, ..];
            let scales = scales.slice(s![from..from + height]).to_owned();
            from += height;
            Matrix::<f32>::Integers(StoredIntegers::copied(values.slice(part), scales))
        });
        let Matrix::Integers(stack) = Matrix::stack(&[&parts[0], &parts[1], &parts[2]]) else {
            panic!("a stack of integers is floats")
        };
        for kernel in IntegerKernel::all() {
            let both = |matrix: &StoredIntegers| {
                let forward = Weight::integers_on(&kernel, matrix, Direction::Forward);
                let backward = Weight::integers_on(&kernel, matrix, Direction::Backward);
                (
                    forward.multiply(x.view(), Epilogue::default()),
                    backward.multiply(dy.view(), Epilogue::default()),
                )
            };
            let expected = both(&whole);
            assert_eq!(both(&columns), expected, "{kernel}");
            let product = Weight::integers_on(&kernel, &columns, Direction::Forward);
            for time in 0..5 {
                // Its panels are packed for the second product, and again after they were given back.
                let y = product.multiply(x.view(), Epilogue::default());
                assert_eq!(y, expected.0, "{kernel}, product {time}");
                if time == 2 {
                    product.release();
                }
            }
            assert_eq!(both(&stack), expected, "{kernel}");
        }
    }
}

#[test]
fn every_part_of_an_epilogue_is_applied() {
    let mut rng = Rng::new(15);
    let values = integers(&mut rng, (300, 31));
    let matrix = StoredIntegers::copied(values.view(), Array1::from_elem(300, 0.01));
    let x = random(&mut rng, (7, 31)).mapv(|x| x as f32);
    let bias = random(&mut rng, (1, 300)).mapv(|x| x as f32);
    let residual = random(&mut rng, (7, 300)).mapv(|x| x as f32);
    for kernel in [
        IntegerKernel::all().first(),
        IntegerKernel::all().last(),
        None,
    ] {
        let weight = Weight::quantised_on(kernel, &matrix, Direction::Forward);
        let plain = weight.multiply(x.view(), Epilogue::default());
        for activation in [
            None,
            Some(Activation::QuickGelu),
            Some(Activation::Gelu),
            Some(Activation::GeluTanh),
        ] {
            let epilogue = Epilogue {
                bias: bias.as_slice(),
                activation,
                residual: Some(residual.view()),
            };
            let activate = |x| activation.map_or(x, |activation| activation.value(x));
            let expected = (&plain + &bias).mapv(activate) + &residual;
            let error = (weight.multiply(x.view(), epilogue) - expected).mapv(f32::abs);
            assert!(error.iter().all(|&e| e < 1e-6), "{kernel:?} {activation:?}");
            for bias in [None, Some(&bias)] {
                let epilogue = Epilogue {
                    bias: bias.and_then(|bias| bias.as_slice()),
                    activation,
                    ..Epilogue::default()
                };
                let sum = bias.map_or(plain.clone(), |bias| &plain + bias);
                let error = weight.multiply(x.view(), epilogue) - sum.mapv(activate);
                assert!(
                    error.iter().all(|e| e.abs() < 1e-6),
                    "{kernel:?} {activation:?}"
                );
            }
        }
        let epilogue = Epilogue {
            residual: Some(residual.view()),
            ..Epilogue::default()
        };
        assert_eq!(weight.multiply(x.view(), epilogue), &plain + &residual);
    }
}

#[test]
fn windows_of_a_picture_are_multiplied_as_a_table_of_them_is() {
    let mut rng = Rng::new(16);
    // 7 x 9 pixels of 5 numbers, and windows of 3 x 2 pixels, two down and one across from each other.
    let numbers = random(&mut rng, (7, 9 * 5)).mapv(|x| x as f32);
    let mut broken = numbers.clone();
    broken[[4, 11]] = f32::INFINITY;
    let lines = Lines {
        count: 3,
        length: 2 * 5,
        stride: 9 * 5,
    };
    let values = integers(&mut rng, (40, 30));
    let matrix = StoredIntegers::copied(values.view(), Array1::from_elem(40, 0.01));
    for numbers in [&numbers, &broken] {
        let numbers = numbers.as_slice().unwrap();
        let windows = Windows::new(numbers, [3, 8], [2 * 9 * 5, 5], lines);
        let table = windows.gathered();
        assert_eq!(table.dim(), (24, 30));
        assert_eq!(table[[9, 13]].to_bits(), numbers[3 * 45 + 5 + 3].to_bits());
        for kernel in IntegerKernel::all().iter().map(Some).chain([None]) {
            let weight = Weight::quantised_on(kernel, &matrix, Direction::Forward);
            let expected = weight.multiply(table.view(), Epilogue::default());
            let mut found = Array2::uninit((24, 40));
            let to = found.as_slice_mut().unwrap();
            weight.write_windows(&windows, Epilogue::default(), to);
            // SAFETY: every number was written.
            let found = unsafe { found.assume_init() };
            let same =
                |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(found.iter().zip(&expected).all(same), "{kernel:?}");
        }
    }
}

#[test]
#[should_panic]
fn windows_that_reach_beyond_their_picture_are_refused() {
    let lines = Lines {
        count: 2,
        length: 3,
        stride: 5,
    };
    Windows::new(&[0.0; 19], [2, 3], [10, 1], lines);
}

#[test]
fn a_row_that_is_not_finite_spoils_itself_alone() {
    let values = Array2::<i8>::ones((4, 8));
    let matrix = StoredIntegers::copied(values.view(), Array1::ones(4));
    let mut x = Array2::<f32>::ones((4, 8));
    x[[1, 3]] = f32::NAN;
    x[[2, 0]] = f32::NEG_INFINITY;
    x.row_mut(3).fill(1e-42);
    for kernel in IntegerKernel::all() {
        let product = Weight::integers_on(&kernel, &matrix, Direction::Forward);
        let y = product.multiply(x.view(), Epilogue::default());
        assert!(y.row(0).iter().all(|y| (y - 8.0).abs() < 1e-6), "{kernel}");
        assert!(y.slice(s![1..3, ..]).iter().all(|y| y.is_nan()), "{kernel}");
        assert!(y.row(3).iter().all(|y| y.abs() < 1e-38), "{kernel}");
    }
}

#[test]
fn products_of_every_kernel_match_plain_ones_at_small_and_ragged_sizes() {
    let mut rng = Rng::new(11);
    for (rows, inner, out) in [
        (1, 1, 1),
        (3, 7, 5),
        (17, 33, 129),
        (60, 128, 64),
        (0, 4, 4),
        (2, 0, 3),
        (2, 3, 0),
        (300, 5, 300),
    ] {
        let weight = random(&mut rng, (out, inner)).mapv(|x| x as f32);
        let x = random(&mut rng, (rows, inner)).mapv(|x| x as f32);
        let expected = x.mapv(f64::from).dot(&weight.mapv(f64::from).t());
        for kernel in Kernel::all(Accumulator::F32) {
            let packed = Weight::floats_on(&kernel, weight.view());
            let product = packed.multiply(x.view(), Epilogue::default());
            let error = (product.mapv(f64::from) - &expected).mapv(f64::abs);
            assert!(
                error.iter().all(|&e| e <= 2e-6 * inner as f64),
                "{kernel}: {rows} x {inner} x {out}"
            );
        }
        assert_eq!(Weight::new(weight.view()).floats(), Some(weight));
    }
}

#[test]
fn a_transposed_view_packs_like_its_copy() {
    let mut rng = Rng::new(12);
    let weight = random(&mut rng, (6, 9)).mapv(|x| x as f32);
    let x = random(&mut rng, (4, 6)).mapv(|x| x as f32);
    let view = Weight::new(weight.t()).multiply(x.view(), Epilogue::default());
    assert_eq!(
        view,
        Weight::new(weight.t().to_owned().view()).multiply(x.view(), Epilogue::default())
    );
}
