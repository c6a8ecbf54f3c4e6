//! `edge-rlp prompt`: what prompts there are, what is in them, and how to go back to an earlier one. It must not
//! know how prompts are made or laid out on disk.

use super::output::{aligned, percent};
use super::{Context, Exit, prompt_diff, prompt_transfer, usage};
use crate::prompt::{Label, density};
use crate::store::{Generation, Listed, Loaded, Metrics, Prompt, StoreError, digest};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Name the prompts that are kept
    List,
    /// Say what is in a prompt and how good it is
    Show {
        /// A prompt by name, or a prompt file
        #[arg(value_name = "NAME|FILE")]
        prompt: PathBuf,
    },
    /// Name the generations of a prompt that are kept
    History { name: String },
    /// Go back to an earlier generation of a prompt
    Rollback {
        name: String,
        /// The generation to bring back [default: the one before that in use]
        #[arg(long, value_name = "GENERATION")]
        to: Option<u64>,
    },
    /// Say how far two prompts are from each other, and which pictures they answer differently
    Diff(prompt_diff::Arguments),
    /// Write a prompt to one file, to bring it to another camera: a prompt file, or JSON for people
    Export(prompt_transfer::Export),
    /// Keep a prompt that comes from elsewhere, once all of it was checked
    Import(prompt_transfer::Import),
    /// Remove a prompt with its history
    Remove { name: String },
}

pub fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    let done = match command {
        Command::List => list(context),
        Command::Show { prompt } => show(&prompt, context),
        Command::History { name } => history(&name, context),
        Command::Rollback { name, to } => rollback(&name, to, context),
        Command::Diff(arguments) => return prompt_diff::run(&arguments, context),
        Command::Export(arguments) => prompt_transfer::export(&arguments, context),
        Command::Import(arguments) => prompt_transfer::import(&arguments, context),
        Command::Remove { name } => remove(&name, context),
    };
    match done {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(match error.downcast() {
            Ok(error @ StoreError::Name { .. }) => usage(error),
            Ok(error) => error.into(),
            Err(error) => error,
        }),
    }
}

fn list(context: &Context) -> anyhow::Result<()> {
    let prompts = context.home.list()?;
    if prompts.is_empty() {
        let folder = context.home.root().display();
        context.output.note(format!(
            "no prompts in {folder}: `edge-rlp adapt` makes one"
        ));
        return Ok(());
    }
    let mut rows = vec![SUMMARY.map(str::to_owned)];
    for Listed { name, prompt } in &prompts {
        match prompt {
            Ok(loaded) => {
                context.output.object(&description(name, loaded)?)?;
                rows.push(summary(name, loaded));
                if let Some(warning) = &loaded.warning {
                    context.output.warn(warning);
                }
            }
            Err(error) => {
                context
                    .output
                    .object(&json!({ "prompt": name, "error": error.to_string() }))?;
                context.output.warn(error);
            }
        }
    }
    for line in aligned(&rows) {
        context.output.line(line);
    }
    Ok(())
}

fn show(prompt: &Path, context: &Context) -> anyhow::Result<()> {
    let loaded = context.home.load(prompt)?;
    if let Some(warning) = &loaded.warning {
        context.output.warn(warning);
    }
    let name = prompt.display().to_string();
    context.output.object(&description(&name, &loaded)?)?;
    context.output.line(page(&name, &loaded)?.join("\n"));
    Ok(())
}

fn history(name: &str, context: &Context) -> anyhow::Result<()> {
    let mut rows = vec![["", "generation", "created", "before", "after", ""].map(str::to_owned)];
    for Generation {
        sequence,
        path,
        prompt,
        current,
    } in context.home.history(name)?
    {
        match prompt {
            Ok(loaded) => {
                let mut object = description(name, &loaded)?;
                object["current"] = current.into();
                context.output.object(&object)?;
                let Prompt {
                    metrics,
                    provenance,
                    ..
                } = loaded.record;
                rows.push([
                    if current { "*" } else { "" }.into(),
                    sequence.to_string(),
                    provenance.created_unix.map_or("-".into(), utc),
                    held_out(&metrics, metrics.zero_shot_accuracy),
                    held_out(&metrics, metrics.adapted_accuracy),
                    provenance
                        .restores
                        .map_or(String::new(), |from| format!("brings back {from}")),
                ]);
            }
            Err(error) => {
                let path = path.display().to_string();
                context.output.object(&json!({
                    "prompt": name, "path": path, "sequence": sequence, "error": error.to_string(),
                }))?;
                context.output.warn(error);
            }
        }
    }
    for line in aligned(&rows) {
        context.output.line(line);
    }
    Ok(())
}

fn rollback(name: &str, to: Option<u64>, context: &Context) -> anyhow::Result<()> {
    let saved = context.home.rollback(name, to)?;
    let loaded = context.home.load(name)?;
    context.output.object(&description(name, &loaded)?)?;
    let from = loaded.record.provenance.restores.unwrap_or(saved.sequence);
    let metrics = &loaded.record.metrics;
    let accuracy = held_out(metrics, metrics.adapted_accuracy);
    context.output.line(format!(
        "{name} is back at generation {from} (held-out accuracy {accuracy}), kept as generation {}",
        saved.sequence
    ));
    Ok(())
}

fn remove(name: &str, context: &Context) -> anyhow::Result<()> {
    context.home.remove(name)?;
    context
        .output
        .object(&json!({ "prompt": name, "removed": true }))?;
    context
        .output
        .line(format!("{name} is removed, with its history"));
    Ok(())
}

/// Everything about a prompt, for machines. `singular_values` and `information_density` are those of the whole
/// context, null where it was not recorded, as accuracies are where no picture was held out; those that begin with
/// `change_` are of the trained change alone.
pub(super) fn description(name: &str, loaded: &Loaded) -> anyhow::Result<Value> {
    let record = &loaded.record;
    let measured = record.metrics.holdout_images > 0;
    let (tokens, width) = record.delta.shape();
    let spectrum = Some(&record.context_singular_values).filter(|values| !values.is_empty());
    let change = density::singular_values(record.delta.matrix().view());
    let label = |label: &Label| json!({ "label": label.name, "words": label.words });
    Ok(json!({
        "prompt": name,
        "path": loaded.path.display().to_string(),
        "bytes": loaded.bytes,
        "model": { "name": record.model_name, "fingerprint": hex(&record.model_fingerprint) },
        "template": record.template.to_string(),
        "labels": record.labels.iter().map(label).collect::<Vec<_>>(),
        "method": record.method().name(),
        "rank": record.delta.rank(),
        "tokens": tokens,
        "width": width,
        "parameters": record.delta.parameters(),
        "singular_values": spectrum,
        "information_density": spectrum.map(|values| density::information_density(values, 1)),
        "change_singular_values": change,
        "change_information_density": density::information_density(&change, 1),
        "zero_shot_accuracy": measured.then_some(record.metrics.zero_shot_accuracy),
        "adapted_accuracy": measured.then_some(record.metrics.adapted_accuracy),
        "images": record.metrics.images,
        "holdout_images": record.metrics.holdout_images,
        "steps": record.metrics.steps,
        "seed": record.seed,
        "recipe": record.recipe,
        "calibration": record.calibration,
        "statistics": record.statistics.as_ref().map(|statistics| {
            json!({ "pictures": statistics.pictures, "spread": statistics.spread })
        }),
        "device": record.provenance.device,
        "seconds": record.provenance.seconds,
        "created_unix": record.provenance.created_unix,
        "sequence": record.provenance.sequence,
        "restores": record.provenance.restores,
        "digest": digest(record)?.to_hex().as_str(),
        "warning": loaded.warning,
    }))
}

/// The same for people, in lines of at most 80 columns where names and paths allow it.
fn page(name: &str, loaded: &Loaded) -> anyhow::Result<Vec<String>> {
    let Prompt {
        metrics,
        provenance,
        delta,
        ..
    } = &loaded.record;
    let record = &loaded.record;
    let (tokens, width) = delta.shape();
    let change = density::singular_values(delta.matrix().view());
    let created = provenance
        .created_unix
        .map_or("at an unknown time".into(), utc);
    let restores = provenance
        .restores
        .map_or(String::new(), |from| format!(", brings back {from}"));
    let rows = [
        ("prompt", name.to_owned()),
        ("file", loaded.path.display().to_string()),
        ("bytes", loaded.bytes.to_string()),
        ("generation", format!("{}{restores}", provenance.sequence)),
        ("created", created),
        ("device", provenance.device.clone()),
        ("model", record.model_name.clone()),
        ("fingerprint", hex(&record.model_fingerprint)),
        ("template", record.template.to_string()),
        (
            "method",
            format!("{}, rank {}", record.method(), delta.rank()),
        ),
        (
            "parameters",
            format!("{} ({tokens} tokens of width {width})", delta.parameters()),
        ),
        (
            "accuracy",
            match metrics.holdout_images {
                0 => format!("{NOT_MEASURED}: no picture was held out"),
                pictures => format!(
                    "{} before (zero-shot), {} after, on {pictures} held-out pictures",
                    percent(metrics.zero_shot_accuracy),
                    percent(metrics.adapted_accuracy),
                ),
            },
        ),
        (
            "training",
            format!(
                "{} pictures, {} steps, {:.1} s, seed {}",
                metrics.images, metrics.steps, provenance.seconds, record.seed
            ),
        ),
        ("recipe", record.recipe.clone()),
        (
            "calibration",
            record
                .calibration
                .as_ref()
                .map_or("none".into(), |calibration| {
                    format!(
                        "temperature {:.3}, unknown below a similarity of {:.3}",
                        calibration.temperature,
                        calibration.least_similarity()
                    )
                }),
        ),
        (
            "statistics",
            record
                .statistics
                .as_ref()
                .map_or("none".into(), |statistics| {
                    format!(
                        "of the features of {} pictures, for adapt --watch",
                        statistics.pictures
                    )
                }),
        ),
        ("digest", digest(record)?.to_hex().to_string()),
    ];
    let mut lines: Vec<String> = rows
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key:<13}{value}"))
        .collect();
    lines.push("singular values, and information density (the share of the first)".into());
    if !record.context_singular_values.is_empty() {
        lines.extend(spectrum_lines("context", &record.context_singular_values));
    }
    lines.extend(spectrum_lines("change", &change));
    lines.push(format!("labels ({})", record.labels.len()));
    lines.extend(wrapped("  ", record.labels.iter().map(label_text), ", "));
    Ok(lines)
}

fn spectrum_lines(what: &str, values: &[f32]) -> Vec<String> {
    let share = percent(density::information_density(values, 1));
    let words = values
        .iter()
        .map(|value| format!("{value:.4}"))
        .chain([format!("({share})")]);
    wrapped(&format!("  {what:<11}"), words, "  ")
}

fn label_text(label: &Label) -> String {
    match label.words == label.name.replace('_', " ") {
        true => label.name.clone(),
        false => format!("{} = {}", label.name, label.words),
    }
}

/// Words in lines of at most 80 columns, the first after `first`, the others as far in.
fn wrapped(first: &str, words: impl Iterator<Item = String>, separator: &str) -> Vec<String> {
    let mut lines = vec![first.to_owned()];
    let mut words = words.peekable();
    let indent = first.chars().count();
    while let Some(mut word) = words.next() {
        if words.peek().is_some() {
            word += separator;
        }
        if let Some(line) = lines.last_mut() {
            let columns = line.chars().count();
            if columns == indent || columns + word.trim_end().chars().count() <= 80 {
                line.push_str(&word);
                continue;
            }
        }
        lines.push(format!("{:indent$}{word}", ""));
    }
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

const SUMMARY: [&str; 8] = [
    "prompt",
    "generation",
    "method",
    "rank",
    "labels",
    "before",
    "after",
    "model",
];

fn summary(name: &str, loaded: &Loaded) -> [String; 8] {
    let record = &loaded.record;
    [
        name.into(),
        record.provenance.sequence.to_string(),
        record.method().to_string(),
        record.delta.rank().to_string(),
        record.labels.len().to_string(),
        held_out(&record.metrics, record.metrics.zero_shot_accuracy),
        held_out(&record.metrics, record.metrics.adapted_accuracy),
        record.model_name.clone(),
    ]
}

/// What stands for an accuracy that no held-out picture tells.
const NOT_MEASURED: &str = "not measured";

/// An accuracy, which is nothing where no picture was held out with its label.
fn held_out(metrics: &Metrics, accuracy: f32) -> String {
    match metrics.holdout_images {
        0 => NOT_MEASURED.into(),
        _ => percent(accuracy),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds since 1970 as a date and a time of day.
fn utc(seconds: u64) -> String {
    let (mut day, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Whole cycles of 400 years first, so that any number ends soon.
    let mut year = 1970 + 400 * (day / 146_097);
    day %= 146_097;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02} UTC", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::decode;

    const GOLDEN: &[u8] = include_bytes!("../../prompts/golden-v1.rlp");

    fn golden() -> Loaded {
        let record = decode(GOLDEN, "golden").unwrap();
        Loaded {
            record,
            path: "prompts/golden-v1.rlp".into(),
            bytes: GOLDEN.len(),
            warning: None,
        }
    }

    #[test]
    fn a_page_says_everything_within_80_columns() {
        let lines = page("golden", &golden()).unwrap();
        let text = lines.join("\n");
        for part in [
            "a photo of a {}.",
            "rlp, rank 1",
            "516 (4 tokens of width 512)",
            "bytes        2396",
            "62.5 % before (zero-shot), 87.5 % after, on 40 held-out pictures",
            "washer = metal washer",
            "work_glove, hammer",
            "2025-11-22 00:00 UTC",
            "golden",
            "(100.0 %)",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(
            lines.iter().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }

    #[test]
    fn a_description_has_the_stable_names() {
        let value = description("golden", &golden()).unwrap();
        assert_eq!(value["parameters"], 516);
        assert_eq!(value["model"]["name"], "golden");
        assert_eq!(
            value["labels"][3],
            json!({ "label": "washer", "words": "metal washer" })
        );
        assert_eq!(value["singular_values"].as_array().unwrap().len(), 4);
        assert!((value["change_information_density"].as_f64().unwrap() - 1.0).abs() < 1e-6);
        let share = value["information_density"].as_f64().unwrap();
        assert!(share > 0.25 && share < 1.0, "{share}");
    }

    #[test]
    fn a_context_that_was_not_recorded_is_null_and_has_no_line() {
        let mut loaded = golden();
        loaded.record.context_singular_values.clear();
        assert!(description("x", &loaded).unwrap()["information_density"].is_null());
        assert!(!page("x", &loaded).unwrap().join("\n").contains("  context"));
    }

    #[test]
    fn many_labels_wrap_with_an_indent() {
        let lines = wrapped("  ", (0..40).map(|i| format!("label {i}")), ", ");
        assert!(lines.len() > 3);
        assert!(
            lines
                .iter()
                .all(|line| line.starts_with("  ") && line.chars().count() <= 80)
        );
        assert!(lines.last().unwrap().ends_with("label 39"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_735_689_599), "2024-12-31 23:59 UTC");
        assert_eq!(utc(4_107_542_399), "2100-02-28 23:59 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00 UTC");
        assert!(utc(u64::MAX).ends_with("UTC"));
    }
}
