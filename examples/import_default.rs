//! Makes `models/default/default.rlpm`, the model compiled into the program, from the ONNX files beside it:
//! `cargo run --release --example import_default [FOLDER OUTPUT]`.

use std::path::PathBuf;

use edge_rlp::clip::import::{Overrides, from_directory, import};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().unwrap_or_else(|| "models/default".into());
    let output = arguments
        .next()
        .unwrap_or_else(|| folder.join("default.rlpm"));
    let (bundle, report) = import(&from_directory(&folder, &Overrides::default())?)?;
    std::fs::write(&output, &bundle)?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
