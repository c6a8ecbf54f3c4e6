//! Judges the default model, or another bundle, on a folder of ordinary photographs, one sub-folder a label:
//!
//!     cargo run --release --example photographs -- FOLDER [BUNDLE]
//!
//! Orientation tags, greyscale, transparency and any size are the reader's business; a file that cannot be read is named
//! and passed over. The same in one command: `edge-rlp eval --images FOLDER --methods zero-shot`.

use anyhow::{Context as _, Result, ensure};
use edge_rlp::classifier::{best, probabilities, text_features};
use edge_rlp::clip::Model;
use edge_rlp::evaluate::Assessment;
use edge_rlp::frames::{MAX_PIXELS, labelled_folder};
use edge_rlp::prompt::{Label, Template};
use ndarray::{Array2, Axis};
use std::path::Path;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("name a folder of photographs")?;
    let model = match arguments.next() {
        Some(bundle) => Model::open(bundle.as_ref())?,
        None => Model::embedded()?,
    };
    let (labels, texts) = classes(&model, folder.as_ref())?;
    let names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();

    let (mut rows, mut truth) = (Vec::new(), Vec::new());
    for (label, path, picture) in labelled_folder(folder.as_ref(), &names)?.pictures(MAX_PIXELS) {
        let picture = match picture {
            Ok(picture) => picture,
            Err(error) => {
                eprintln!("{error}; skipped");
                continue;
            }
        };
        let feature = model.encode_image(&picture)?.insert_axis(Axis(0));
        let scores = probabilities(feature.view(), texts.view(), model.logit_scale);
        let named = best(scores.row(0));
        println!(
            "{}  {} x {}  {} {:.1} %",
            path.display(),
            picture.width(),
            picture.height(),
            names[named],
            100.0 * scores[[0, named]]
        );
        rows.extend(scores);
        truth.push(label);
    }
    ensure!(!truth.is_empty(), "{folder}: no picture could be read");
    let table = Array2::from_shape_vec((truth.len(), names.len()), rows)?;
    let found = Assessment::new(table.view(), &truth);
    println!(
        "{} photographs: {:.1} % right (95 % interval {:.1} to {:.1}), calibration error {:.1} %",
        found.pictures,
        100.0 * found.accuracy,
        100.0 * found.interval[0],
        100.0 * found.interval[1],
        100.0 * found.calibration_error
    );
    Ok(())
}

/// A label for each sub-folder, and its text features in CLIP's own template.
fn classes(model: &Model, folder: &Path) -> Result<(Vec<Label>, Array2<f32>)> {
    let no_labels: [&str; 0] = [];
    let folders = labelled_folder(folder, &no_labels)?.unused;
    let labels: Vec<Label> = folders
        .iter()
        .map(|folder| {
            Label::new(
                &folder.file_name().unwrap_or_default().to_string_lossy(),
                None,
            )
        })
        .collect::<Result<_, _>>()?;
    let layout = model.layout(&Template::default(), &labels)?;
    let texts = text_features(&model.text, &layout, None)?;
    Ok((labels, texts))
}
