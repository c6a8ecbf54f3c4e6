//! `edge-rlp shots move`: shots that were given the wrong label get the right one.

use super::chosen::Chosen;
use super::count;
use crate::cli::{Context, Exit, usage};
use crate::prompt::Label;
use crate::prompt::labels::{self, same_name};
use crate::store::LABELS_FILE;
use serde_json::json;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    chosen: Chosen,
    /// The label that they are to have
    #[arg(long, value_name = "LABEL")]
    to: String,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let Arguments { chosen, to } = arguments;
    if !chosen.says_which() {
        return Err(usage(
            "say which shots are to be moved: their numbers, or --label LABEL for all of one",
        ));
    }
    // Names that no label can have are refused before a folder is made for one.
    let label = Label::new(to, None).map_err(usage)?.name;
    let shots = chosen.shots(context)?;
    // A name that reads as one that there is already is that one.
    let home = &context.home;
    let kept = home.shots_in(&home.shots_folder(&chosen.prompt)?)?;
    let trained = home.load(&chosen.prompt).map(|loaded| loaded.record.labels);
    let trained = trained.unwrap_or_default().into_iter();
    let known = kept.into_iter().map(|shot| shot.label);
    let label = match known.clone().any(|known| known == label) {
        true => label,
        false => (known.chain(trained.map(|known| known.name)))
            .find(|known| same_name(known, &label))
            .unwrap_or(label),
    };
    let longer = longer_list(&chosen.prompt, &label, context)?;
    let moved = context.home.move_shots(&chosen.prompt, &shots, &label)?;
    if let Some(labels) = longer {
        home.keep_shot_labels(&chosen.prompt, &labels)?;
    }
    for shot in &moved {
        context.output.object(&json!({
            "prompt": chosen.prompt,
            "number": shot.number,
            "label": shot.label,
            "path": shot.path.display().to_string(),
        }))?;
    }
    let already = shots.len() - moved.len();
    let already = match already {
        0 => String::new(),
        already => format!("; {} had that label", count(already)),
    };
    context.output.line(format!(
        "{} of {} moved to {label}{already}",
        count(moved.len()),
        chosen.prompt
    ));
    Ok(Exit::Done)
}

/// The labels that the shots of `prompt` are listed with, and `label`, where it is none of them: training goes by the list, and what is
/// not in it is left out.
///
/// # Errors
/// If the list cannot be read, or could not be read again with this label.
fn longer_list(prompt: &str, label: &str, context: &Context) -> anyhow::Result<Option<Vec<Label>>> {
    let listed = context.home.shots_folder(prompt)?.join(LABELS_FILE);
    if !listed.is_file() {
        return Ok(None);
    }
    let mut labels = labels::read(&listed)?;
    if labels.iter().any(|known| same_name(&known.name, label)) {
        return Ok(None);
    }
    let known: Vec<&str> = labels.iter().map(|known| known.name.as_str()).collect();
    let said = format!(
        "{label} is a new label of {prompt}: there were {}",
        known.join(", ")
    );
    labels.push(Label::new(label, None).map_err(usage)?);
    let read = labels::parse(&labels::to_text(&labels), "labels");
    if !read.is_ok_and(|read| read == labels) {
        return Err(usage(format!(
            "{label:?} cannot stand in a list of labels: take one without = and #"
        )));
    }
    context.output.warn(said);
    Ok(Some(labels))
}
