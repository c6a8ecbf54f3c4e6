//! The yardstick for `benches/compare`: an ONNX tower of ViT-B/32 as tract runs it as it comes, milliseconds of one run.
//! `cargo run --release --example plain_tract -- FILE.onnx THREADS REPEATS` prints a JSON list. An image tower gets one
//! picture, a text tower two rows of 77 tokens.

use std::time::Instant;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

fn main() -> TractResult<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, threads, repeats] = &arguments[..] else {
        return Err(TractError::msg(
            "usage: plain_tract FILE.onnx THREADS REPEATS",
        ));
    };
    let repeats: usize = repeats.parse()?;
    if threads != "1" {
        return Err(TractError::msg("tract as it comes has one thread"));
    }
    let mut model = onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true)
        .model_for_path(file)?;
    let is_text = model.input_fact(0)?.datum_type.concretize() == Some(i64::datum_type());
    let input =
        if is_text {
            let rows = tract_ndarray::Array2::from_shape_fn((2, 77), |(_, at)| {
                if at == 0 { 49406i64 } else { 49407 }
            });
            model.set_input_fact(0, InferenceFact::dt_shape(i64::datum_type(), [2, 77]))?;
            rows.into_tensor()
        } else {
            model.set_input_fact(
                0,
                InferenceFact::dt_shape(f32::datum_type(), [1, 3, 224, 224]),
            )?;
            tract_ndarray::Array4::from_shape_fn((1, 3, 224, 224), |(_, c, y, x)| {
                ((x + 3 * y + 7 * c) % 255) as f32 / 127.0 - 1.0
            })
            .into_tensor()
        };
    let plan = model.into_optimized()?.into_runnable()?;
    plan.run(tvec!(input.clone().into()))?;
    let mut times = Vec::new();
    for _ in 0..repeats {
        let start = Instant::now();
        plan.run(tvec!(input.clone().into()))?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("{times:?}");
    Ok(())
}
