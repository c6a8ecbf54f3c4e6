//! `edge-rlp demo`: a folder of drawn pictures, one sub-folder a label, to try everything on without a camera.

use super::{Context, Exit, usage};
use crate::frames::demo::{self, CONDITIONS, FolderOptions};
use crate::store::atomic;
use crate::store::file_system::Disk;
use serde_json::json;
use std::io::ErrorKind;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    /// Name the conditions, and say which were held out of the default model's training
    #[arg(long, conflicts_with = "out")]
    list: bool,
    /// The folder to write train/LABEL/*.png, test/LABEL/*.png and labels.txt into
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    out: Option<PathBuf>,
    /// The capture condition of the pictures
    #[arg(long, value_name = "NAME", default_value = "clear")]
    condition: String,
    /// Training pictures a label
    #[arg(long, value_name = "K", default_value_t = 16)]
    shots: usize,
    /// Test pictures a label
    #[arg(long, value_name = "N", default_value_t = 50)]
    test: usize,
    /// Other pictures for another seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let Some(out) = arguments.out else {
        return list(context);
    };
    demo::condition_named(&arguments.condition).map_err(usage)?;
    let options = FolderOptions {
        condition: arguments.condition.clone(),
        shots: arguments.shots,
        test: arguments.test,
        seed: arguments.seed,
    };
    let files = demo::folder(&options)?.map(|file| {
        if context.stopped() {
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(file)
    });
    atomic::write_folder(&Disk, &out, files).map_err(|error| {
        let out = out.display();
        match error.kind() {
            ErrorKind::DirectoryNotEmpty => {
                anyhow::anyhow!("{out} is not empty; name a new or an empty folder")
            }
            ErrorKind::Interrupted => anyhow::anyhow!("stopped: nothing was left in {out}"),
            _ => anyhow::anyhow!(
                "cannot write {out}: {error}; check the path, the space left and the permissions"
            ),
        }
    })?;
    let labels = demo::CLASSES.len();
    let (train, test) = (labels * arguments.shots, labels * arguments.test);
    context.output.object(&json!({
        "out": out.display().to_string(),
        "condition": arguments.condition,
        "labels": demo::CLASSES,
        "train": train,
        "test": test,
    }))?;
    context.output.line(format!(
        "{}: {train} training and {test} test pictures of {labels} labels, condition {}",
        out.display(),
        arguments.condition,
    ));
    Ok(Exit::Done)
}

fn list(context: &Context) -> anyhow::Result<Exit> {
    for condition in &CONDITIONS {
        context
            .output
            .object(&json!({ "name": condition.name, "held_out": condition.held_out }))?;
        let remark = if condition.held_out {
            "held out of training"
        } else {
            "seen in training"
        };
        context
            .output
            .line(format!("{:<14} {remark}", condition.name));
    }
    Ok(Exit::Done)
}
