//! `edge-rlp embed`: the normalised features of pictures or texts, one line an input. Texts are read as they are, without
//! a template.

use super::{Context, Exit, model};
use crate::clip::Model;
use crate::frames::{MAX_PIXELS, read_picture};
use anyhow::Context as _;
use ndarray::ArrayView1;
use serde_json::json;
use std::io::{self, BufRead};
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("input").required(true))]
pub struct Arguments {
    /// Pictures, and folders of pictures
    #[arg(long, value_name = "PATH", num_args = 1.., group = "input")]
    image: Vec<PathBuf>,
    /// Texts; "-" reads one a line from standard input
    #[arg(long, value_name = "STRING", num_args = 1.., group = "input")]
    text: Vec<String>,
    /// A model of the home folder, or a bundle file [default: the one inside the program]
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let pictures = if arguments.image.is_empty() {
        Vec::new()
    } else {
        context.output.pictures_in(&arguments.image)?
    };
    let model = model::open(arguments.model.as_deref(), context)?;
    let mut missing = false;
    for path in &pictures {
        if context.stopped() {
            break;
        }
        match read_picture(path, MAX_PIXELS) {
            Ok(picture) => {
                let features = model.encode_image(&picture)?;
                print(&path.to_string_lossy(), features.view(), context)?;
            }
            Err(error) => {
                missing = true;
                context.output.warn(format!("{error}; skipped"));
            }
        }
    }
    for text in &arguments.text {
        if text != "-" {
            embed_text(&model, text, context)?;
            continue;
        }
        for line in io::stdin().lock().lines() {
            let line = line.context("standard input cannot be read as lines of UTF-8 text")?;
            embed_text(&model, &line, context)?;
            if context.stopped() {
                break;
            }
        }
    }
    Ok(if missing {
        Exit::NothingAccepted
    } else {
        Exit::Done
    })
}

fn embed_text(model: &Model, text: &str, context: &Context) -> anyhow::Result<()> {
    let mut ids = model.tokenizer.encode(text)?;
    let most = model.text.context_length() - model.tokenizer.sequence([]).len();
    if ids.len() > most {
        let beginning: String = text.chars().take(40).collect();
        context.output.warn(format!(
            "the text that begins with {beginning:?} has {} tokens and the model reads {}: the rest is left out",
            ids.len(),
            most
        ));
        ids.truncate(most);
    }
    let features = model.text.encode(&[model.tokenizer.sequence(ids)])?;
    print(text, features.row(0), context)
}

/// The input and its features, separated by tabs.
fn print(source: &str, features: ArrayView1<f32>, context: &Context) -> anyhow::Result<()> {
    let output = &context.output;
    output.object(&json!({ "source": source, "features": features.to_vec() }))?;
    if !output.is_json() {
        let numbers = features.iter().map(ToString::to_string);
        output.fields(std::iter::once(source.to_owned()).chain(numbers));
    }
    Ok(())
}
