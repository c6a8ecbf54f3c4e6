//! rten's time for one picture through an ONNX image tower of ViT-B/32: `compare-rten FILE.onnx REPEATS` prints a JSON
//! list of milliseconds. Threads: `RTEN_NUM_THREADS`.

use rten::ModelOptions;
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, repeats] = &arguments[..] else {
        return Err("usage: compare-rten FILE.onnx REPEATS".into());
    };
    // Its weights packed ahead, as its documentation advises where speed matters more than memory.
    let mut options = ModelOptions::with_all_ops();
    options.prepack_weights(true);
    let model = options.load_file(file)?;
    let pixels = (0..3 * 224 * 224).map(|at| (at % 255) as f32 / 127.0 - 1.0);
    let picture = NdTensor::from_data([1, 3, 224, 224], pixels.collect::<Vec<f32>>());
    model.run_one(picture.nd_view::<4>().into(), None)?;
    let mut times = Vec::new();
    for _ in 0..repeats.parse::<usize>()? {
        let start = Instant::now();
        model.run_one(picture.nd_view::<4>().into(), None)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("{times:?}");
    Ok(())
}
