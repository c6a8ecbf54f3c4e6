//! The speed of every kernel of this CPU at the product that a picture asks ViT-B/32 for most, `[50, 768]` times
//! `[3072, 768]`, on one thread: with quantising and scales for eight bits. A line of
//! JSON a kernel, GOP/s of the median round, then what this machine would choose and how long it took to choose.
//! `cargo bench --bench kernels`

use std::fmt::Display;
use std::hint::black_box;
use std::time::Instant;

use edge_rlp::ops::gemm::{
    Accumulator, Direction, Epilogue, IntegerKernel, Kernel, Kernels, Weight,
};
use edge_rlp::ops::matrix::StoredIntegers;
use ndarray::{Array1, Array2};

const ROWS: usize = 50;
const INNER: usize = 768;
const OUT: usize = 3072;
const ROUNDS: usize = 21;

fn main() {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .expect("the first use of the pool");
    let start = Instant::now();
    let chosen = Kernels::chosen();
    let choosing = start.elapsed().as_secs_f64() * 1e3;
    let x = Array2::from_shape_fn((ROWS, INNER), |(r, c)| {
        ((r * 31 + c * 7) % 23) as f32 - 11.0
    });
    let matrix = StoredIntegers::copied(Array2::ones((OUT, INNER)).view(), Array1::ones(OUT));
    for kernel in IntegerKernel::all() {
        let weight = Weight::integers_on(&kernel, &matrix, Direction::Forward);
        report("int8", &kernel, || {
            drop(black_box(weight.multiply(x.view(), Epilogue::default())))
        });
    }
    for kernel in Kernel::all(Accumulator::F32) {
        let weight = Weight::floats_on(&kernel, Array2::ones((OUT, INNER)).view());
        report("f32", &kernel, || {
            drop(black_box(weight.multiply(x.view(), Epilogue::default())))
        });
    }
    println!(
        "{}",
        serde_json::json!({
            "chosen": {"int8": chosen.integer(), "f32": chosen.float()},
            "choosing_ms": choosing,
        })
    );
}

fn report(number: &str, kernel: &dyn Display, mut product: impl FnMut()) {
    product();
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            product();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let operations = 2.0 * (ROWS * INNER * OUT) as f64;
    let gops = |time: f64| (operations / time / 1e8).round() / 10.0;
    println!(
        "{}",
        serde_json::json!({
            "number": number,
            "kernel": kernel.to_string(),
            "gops": gops(times[ROUNDS / 2]),
            "best": gops(times[0]),
        })
    );
}
