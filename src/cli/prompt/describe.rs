//! What several sub-commands say of a prompt: all of it for machines, and for people the accuracies and the date.

use crate::cli::output::percent;
use crate::prompt::{Label, Metrics, Prompt, Region, density};
use crate::store::{LoadedPrompt, digest};
use serde_json::{Value, json};

/// Everything about a prompt, for machines. `singular_values` and `information_density` are those of the whole
/// context, null where it was not recorded, as accuracies are where no picture was held out; those that begin with
/// `change_` are of the trained change alone.
pub fn description(name: &str, loaded: &LoadedPrompt) -> anyhow::Result<Value> {
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
        "model": { "name": record.model_name, "fingerprint": fingerprint(record) },
        "template": record.template.to_string(),
        "labels": record.labels.iter().map(label).collect::<Vec<_>>(),
        "method": record.method(),
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
        "calibration": record.calibration.as_ref().map(|of| json!({
            "temperature": of.temperature,
            "unknown_threshold": of.unknown_threshold,
            "least_similarity": of.least_similarity(),
        })),
        "without_pictures": without_pictures(record),
        "statistics": record.statistics.as_ref().map(|statistics| {
            json!({ "pictures": statistics.pictures, "spread": statistics.spread })
        }),
        "regions": record.regions.iter().map(Region::to_string).collect::<Vec<_>>(),
        "device": record.provenance.device,
        "seconds": record.provenance.seconds,
        "created_unix": record.provenance.created_unix,
        "sequence": record.provenance.sequence,
        "restores": record.provenance.restores,
        "digest": digest(record)?.to_hex().as_str(),
        "warning": loaded.warning,
    }))
}

/// The labels that nothing was learnt of beside others, by name.
pub fn without_pictures(record: &Prompt) -> Vec<&str> {
    let new = record.new_classes(&record.labels);
    new.into_iter()
        .map(|class| record.labels[class].name.as_str())
        .collect()
}

/// In place of an accuracy where no picture was held out.
pub const NOT_MEASURED: &str = "not measured";

/// An accuracy on held-out pictures, for people.
pub fn held_out(metrics: &Metrics, accuracy: f32) -> String {
    match metrics.holdout_images {
        0 => NOT_MEASURED.into(),
        _ => percent(accuracy),
    }
}

/// The fingerprint of the model that a prompt was trained for, in hexadecimal.
pub fn fingerprint(record: &Prompt) -> String {
    blake3::Hash::from(record.model_fingerprint).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::prompt::tests::golden;

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
}
