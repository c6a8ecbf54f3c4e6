//! `edge-rlp prompt show`: what is in a prompt and how good it is.

use super::describe::{NOT_MEASURED, description, fingerprint, without_pictures};
use crate::cli::Context;
use crate::cli::output::date;
use crate::cli::output::{percent, width};
use crate::prompt::{Label, Prompt, density, region};
use crate::store::{LoadedPrompt, digest};
use std::path::Path;

pub fn run(prompt: &Path, context: &Context) -> anyhow::Result<()> {
    let loaded = context.home.load(prompt)?;
    if let Some(warning) = &loaded.warning {
        context.output.warn(warning);
    }
    let name = prompt.display().to_string();
    context.output.object(&description(&name, &loaded)?)?;
    let page = page(&name, &loaded)?;
    page.iter().for_each(|line| context.output.line(line));
    Ok(())
}

/// A prompt for people, in lines of at most 80 columns where names and paths allow it.
fn page(name: &str, loaded: &LoadedPrompt) -> anyhow::Result<Vec<String>> {
    let record = &loaded.record;
    let mut rows = origin(name, loaded);
    rows.extend(training(record));
    rows.push(("digest", digest(record)?.to_hex().to_string()));
    let mut lines: Vec<String> = rows
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key:<13}{value}"))
        .collect();
    lines.push("singular values, and information density (the share of the first)".into());
    if !record.context_singular_values.is_empty() {
        lines.extend(spectrum_lines("context", &record.context_singular_values));
    }
    let change = density::singular_values(record.delta.matrix().view());
    lines.extend(spectrum_lines("change", &change));
    lines.push(format!("labels ({})", record.labels.len()));
    lines.extend(wrapped("  ", record.labels.iter().map(label_text), ", "));
    let without = without_pictures(record);
    if !without.is_empty() {
        lines.push("known by their words alone (there were no pictures to learn from)".into());
        lines.extend(wrapped("  ", without.into_iter().map(str::to_owned), ", "));
    }
    Ok(lines)
}

/// A key and its value; a row without a value is not shown.
type Row = (&'static str, String);

/// Which prompt it is, and where it comes from.
fn origin(name: &str, loaded: &LoadedPrompt) -> Vec<Row> {
    let record = &loaded.record;
    let provenance = &record.provenance;
    let created = provenance.created_unix.map(date);
    let restores = provenance
        .restores
        .map_or(String::new(), |from| format!(", brings back {from}"));
    vec![
        ("prompt", name.to_owned()),
        ("file", loaded.path.display().to_string()),
        ("bytes", loaded.bytes.to_string()),
        ("generation", format!("{}{restores}", provenance.sequence)),
        ("created", created.unwrap_or("at an unknown time".into())),
        ("device", provenance.device.clone()),
        ("model", record.model_name.clone()),
        ("fingerprint", fingerprint(record)),
        ("template", record.template.to_string()),
    ]
}

/// How it was trained, and what came of it.
fn training(record: &Prompt) -> Vec<Row> {
    let (metrics, delta) = (&record.metrics, &record.delta);
    let (tokens, width) = delta.shape();
    let accuracy = match metrics.holdout_images {
        0 => format!("{NOT_MEASURED}: no picture was held out"),
        pictures => format!(
            "{} before (zero-shot), {} after, on {pictures} held-out pictures",
            percent(metrics.zero_shot_accuracy),
            percent(metrics.adapted_accuracy),
        ),
    };
    let calibration = record.calibration.as_ref().map(|calibration| {
        format!(
            "temperature {:.3}, unknown below a similarity of {:.3}",
            calibration.temperature,
            calibration.least_similarity()
        )
    });
    let statistics = record.statistics.as_ref().map(|statistics| {
        format!(
            "of the features of {} pictures, for adapt --watch",
            statistics.pictures
        )
    });
    let (method, rank) = (record.method(), delta.rank());
    vec![
        ("method", format!("{method}, rank {rank}")),
        (
            "parameters",
            format!("{} ({tokens} tokens of width {width})", delta.parameters()),
        ),
        ("accuracy", accuracy),
        (
            "training",
            format!(
                "{} pictures, {} steps, {:.1} s, seed {}",
                metrics.images, metrics.steps, record.provenance.seconds, record.seed
            ),
        ),
        ("recipe", record.recipe.clone()),
        ("calibration", calibration.unwrap_or("none".into())),
        ("statistics", statistics.unwrap_or("none".into())),
        ("regions", region::in_words(&record.regions)),
    ]
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
    if label.words == label.name.replace('_', " ") {
        label.name.clone()
    } else {
        format!("{} = {}", label.name, label.words)
    }
}

/// Words in lines of at most 80 columns, the first after `first`, the others as far in.
fn wrapped(first: &str, words: impl Iterator<Item = String>, separator: &str) -> Vec<String> {
    let mut lines = vec![first.to_owned()];
    let mut words = words.peekable();
    let indent = width(first);
    while let Some(mut word) = words.next() {
        if words.peek().is_some() {
            word += separator;
        }
        if let Some(line) = lines.last_mut() {
            let columns = width(line);
            if columns == indent || columns + width(word.trim_end()) <= 80 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::prompt::tests::golden;

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
        assert!(lines.iter().all(|line| width(line) <= 80), "{text}");
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
                .all(|line| line.starts_with("  ") && width(line) <= 80)
        );
        assert!(lines.last().unwrap().ends_with("label 39"));
    }

    #[test]
    fn wide_letters_take_two_columns() {
        let lines = wrapped("  ", (0..40).map(|i| format!("消火栓{i}")), ", ");
        assert!(lines.iter().all(|line| width(line) <= 80));
        // 39 labels of 8 columns and a comma: 8 in a line.
        assert!(
            lines
                .iter()
                .any(|line| line.chars().count() < 60 && width(line) > 70)
        );
    }
}
