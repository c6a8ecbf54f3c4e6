//! A prompt as JSON, for people and other programs: everything that its file holds, with names.

use super::PromptFileError;
use super::bounded;
use crate::prompt::labels::MAX_LABELS;
use crate::prompt::record::{MAX_TOKENS, MAX_WIDTH};
use crate::prompt::region::MAX_REGIONS;
use crate::prompt::{
    Calibration, Delta, EightBits, Factors, FeatureStatistics, Label, Metrics, Prompt, Prototypes,
    Provenance, Region, RegionError, Template,
};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// The largest text that is read: the numbers of the largest prompt file, written out.
pub const MAX_JSON_BYTES: u64 = 64 << 20;
/// What the text says that it is.
pub const FORMAT: &str = "edge-rlp prompt";
/// The version that is written, and the only one there is.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: String,
    version: u32,
    model: ModelText,
    template: String,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LABELS>")]
    labels: Vec<LabelText>,
    change: ChangeText,
    context_singular_values: Vec<f32>,
    seed: u64,
    recipe: String,
    metrics: Metrics,
    calibration: Option<Calibration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statistics: Option<FeatureStatistics>,
    /// As `--region` reads them.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<_, _, MAX_REGIONS>"
    )]
    regions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prototypes: Option<PrototypesText>,
    provenance: Provenance,
}

/// Tables in eight bits, by rows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrototypesText {
    means: EightBitsText,
    weight: EightBitsText,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LABELS>")]
    bias: Vec<f32>,
    #[serde(default, skip_serializing_if = "is_nothing")]
    sharpness: f32,
}

fn is_nothing(sharpness: &f32) -> bool {
    *sharpness == 0.0
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EightBitsText {
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LABELS>")]
    scales: Vec<f32>,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LABELS>")]
    rows: Vec<EightBitsRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct EightBitsRow(#[serde(deserialize_with = "bounded::list::<_, _, MAX_WIDTH>")] Vec<i8>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelText {
    name: String,
    fingerprint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelText {
    label: String,
    words: String,
}

/// Tables by rows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum ChangeText {
    LowRank {
        #[serde(deserialize_with = "bounded::list::<_, _, MAX_TOKENS>")]
        u: Vec<Row>,
        #[serde(deserialize_with = "bounded::list::<_, _, MAX_TOKENS>")]
        v: Vec<Row>,
    },
    Full(#[serde(deserialize_with = "bounded::list::<_, _, MAX_TOKENS>")] Vec<Row>),
}

/// One row of a table.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Row(#[serde(deserialize_with = "bounded::list::<_, _, MAX_WIDTH>")] Vec<f32>);

/// The text of `record`, indented, from which [`decode`] makes the same record.
///
/// # Errors
/// A record that makes no sense.
pub fn encode(record: &Prompt) -> Result<String, PromptFileError> {
    let invalid = |fault: String| PromptFileError::Invalid {
        file: "the prompt".into(),
        fault,
    };
    if let Some(fault) = record.fault() {
        return Err(invalid(fault));
    }
    let rows = |table: &Array2<f32>| table.outer_iter().map(|row| Row(row.to_vec())).collect();
    let text = Text {
        format: FORMAT.into(),
        version: VERSION,
        model: ModelText {
            name: record.model_name.clone(),
            fingerprint: blake3::Hash::from(record.model_fingerprint).to_string(),
        },
        template: record.template.to_string(),
        labels: record
            .labels
            .iter()
            .map(|label| LabelText {
                label: label.name.clone(),
                words: label.words.clone(),
            })
            .collect(),
        change: match &record.delta {
            Delta::LowRank(factors) => ChangeText::LowRank {
                u: rows(&factors.u),
                v: rows(&factors.v),
            },
            Delta::Full(table) => ChangeText::Full(rows(table)),
        },
        context_singular_values: record.context_singular_values.clone(),
        seed: record.seed,
        recipe: record.recipe.clone(),
        metrics: record.metrics.clone(),
        calibration: record.calibration.clone(),
        statistics: record.statistics.clone(),
        regions: record.regions.iter().map(Region::to_string).collect(),
        prototypes: record.prototypes.as_ref().map(PrototypesText::of),
        provenance: record.provenance.clone(),
    };
    serde_json::to_string_pretty(&text).map_err(|error| invalid(error.to_string()))
}

/// Reads what [`encode`] wrote, or people changed, checking everything that [`super::format::decode`] checks.
///
/// # Errors
/// Text that is not such JSON, and any shape, number or label that makes no sense; with `file` and what is wrong.
pub fn decode(bytes: &[u8], file: &str) -> Result<Prompt, PromptFileError> {
    let invalid = |fault: String| PromptFileError::Invalid {
        file: file.into(),
        fault,
    };
    if bytes.len() as u64 > MAX_JSON_BYTES {
        return Err(PromptFileError::TooLarge {
            file: file.into(),
            limit: MAX_JSON_BYTES,
        });
    }
    let text: Text = serde_json::from_slice(bytes)
        .map_err(|error| invalid(format!("it is not a prompt as JSON: {error}")))?;
    if text.format != FORMAT {
        return Err(invalid(format!(
            "its format is {:?}, not {FORMAT:?}",
            text.format
        )));
    }
    if text.version != VERSION {
        return Err(invalid(format!(
            "it is JSON of version {}, and this program reads version {VERSION}",
            text.version
        )));
    }
    let fingerprint = blake3::Hash::from_hex(&text.model.fingerprint)
        .map_err(|_| invalid("the model's fingerprint is not 64 hexadecimal digits".into()))?;
    let delta = match text.change {
        ChangeText::LowRank { u, v } => Delta::LowRank(Factors {
            u: table("u", u).map_err(invalid)?,
            v: table("v", v).map_err(invalid)?,
        }),
        ChangeText::Full(rows) => Delta::Full(table("full", rows).map_err(invalid)?),
    };
    let record = Prompt {
        model_name: text.model.name,
        model_fingerprint: *fingerprint.as_bytes(),
        template: Template::parse(&text.template).map_err(|error| invalid(error.to_string()))?,
        labels: text
            .labels
            .into_iter()
            .map(|label| Label {
                name: label.label,
                words: label.words,
            })
            .collect(),
        delta,
        context_singular_values: text.context_singular_values,
        seed: text.seed,
        recipe: text.recipe,
        metrics: text.metrics,
        calibration: text.calibration,
        statistics: text.statistics,
        regions: text
            .regions
            .iter()
            .map(|region| region.parse())
            .collect::<Result<_, RegionError>>()
            .map_err(|error| invalid(error.to_string()))?,
        prototypes: text
            .prototypes
            .map(PrototypesText::prototypes)
            .transpose()
            .map_err(invalid)?,
        provenance: text.provenance,
    };
    match record.fault() {
        Some(fault) => Err(invalid(fault)),
        None => Ok(record),
    }
}

fn table(name: &str, rows: Vec<Row>) -> Result<Array2<f32>, String> {
    let (height, width) = (rows.len(), rows.first().map_or(0, |row| row.0.len()));
    if height > MAX_TOKENS || width > MAX_WIDTH {
        return Err(format!(
            "the table {name} of {height} rows of {width} numbers cannot be"
        ));
    }
    if let Some(row) = rows.iter().position(|row| row.0.len() != width) {
        return Err(format!(
            "row {} of the table {name} has {} numbers, the first has {width}",
            row + 1,
            rows[row].0.len()
        ));
    }
    let numbers = rows.into_iter().flat_map(|row| row.0).collect();
    Array2::from_shape_vec((height, width), numbers).map_err(|error| format!("{name}: {error}"))
}

impl PrototypesText {
    fn of(prototypes: &Prototypes) -> PrototypesText {
        let table = |table: &EightBits| EightBitsText {
            scales: table.scales.clone(),
            rows: table
                .values
                .outer_iter()
                .map(|row| EightBitsRow(row.to_vec()))
                .collect(),
        };
        PrototypesText {
            means: table(&prototypes.means),
            weight: table(&prototypes.weight),
            bias: prototypes.bias.clone(),
            sharpness: prototypes.sharpness,
        }
    }

    fn prototypes(self) -> Result<Prototypes, String> {
        let table = |table: EightBitsText| {
            let joint = table.rows.first().map_or(0, |row| row.0.len());
            let numbers = table.rows.iter().flat_map(|row| row.0.iter().copied());
            let values = Array2::from_shape_vec((table.rows.len(), joint), numbers.collect());
            let fault = |_| "the rows of its prototypes are not of one length".to_owned();
            Ok::<_, String>(EightBits {
                values: values.map_err(fault)?,
                scales: table.scales,
            })
        };
        Ok(Prototypes {
            means: table(self.means)?,
            weight: table(self.weight)?,
            bias: self.bias,
            sharpness: self.sharpness,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::record::tests::record;
    use crate::rng::Rng;
    use serde_json::{Value, json};

    #[test]
    fn a_prompt_comes_back_from_its_text_to_the_last_bit() {
        let golden = include_bytes!("../../prompts/golden-v3.rlp");
        let golden = super::super::decode(golden, "golden").unwrap();
        let mut rng = Rng::new(3);
        let mut full = record();
        // Every pattern of bits that is a number.
        let any = |_| loop {
            let number = f32::from_bits(rng.next_u64() as u32);
            if number.is_finite() {
                break number;
            }
        };
        full.delta = Delta::Full(full.delta.matrix().map(any));
        full.context_singular_values.clear();
        let mut beside = record();
        beside.prototypes = Some(crate::prompt::prototypes::tests::prototypes(10, 12));
        for record in [golden, record(), full, beside] {
            let text = encode(&record).unwrap();
            assert_eq!(decode(text.as_bytes(), "x.json").unwrap(), record);
        }
    }

    #[test]
    fn whatever_makes_no_sense_is_refused_with_the_file_and_what_is_wrong() {
        let good: Value = serde_json::from_str(&encode(&record()).unwrap()).unwrap();
        let refused = |change: &dyn Fn(&mut Value), words: &str| {
            let mut text = good.clone();
            change(&mut text);
            let error = decode(text.to_string().as_bytes(), "shelf.json").unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains("shelf.json") && message.contains(words),
                "{message}"
            );
        };
        refused(&|t| t["format"] = "a shopping list".into(), "format");
        refused(&|t| t["version"] = 2.into(), "version 2");
        refused(
            &|t| t["model"]["fingerprint"] = "12".into(),
            "64 hexadecimal",
        );
        refused(&|t| t["labels"][0]["label"] = "../up".into(), "label");
        refused(&|t| t["labels"][1] = t["labels"][0].clone(), "label");
        refused(&|t| t["labels"] = json!([]), "label");
        refused(&|t| t["template"] = "a photo".into(), "{}");
        refused(&|t| t["change"]["low_rank"]["v"][0][3] = "x".into(), "JSON");
        refused(&|t| t["change"]["low_rank"]["v"][0][3] = 1e300.into(), "");
        refused(
            &|t| t["change"]["low_rank"]["u"][2] = json!([1, 2]),
            "row 3",
        );
        refused(&|t| t["change"] = json!({ "full": [[0.5]] }), "");
        refused(&|t| t["metrics"]["adapted_accuracy"] = 3.into(), "accuracy");
        let empty = json!({ "mean": [], "spread": 0, "pictures": 1 });
        refused(&|t| t["statistics"] = empty.clone(), "statistics");
        refused(&|t| t["regions"] = json!(["1,2,3"]), "region");
        refused(&|t| t["surprise"] = 1.into(), "surprise");
        for cut in [0, 1, 100] {
            assert!(decode(&good.to_string().as_bytes()[..cut], "x").is_err());
        }
        let deep = "[".repeat(100_000);
        assert!(decode(deep.as_bytes(), "x").is_err());
    }
}
