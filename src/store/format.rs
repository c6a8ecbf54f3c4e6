//! The bytes of a prompt file (`docs/prompt-file.md` describes each): magic, version, length, payload, checksum.

use super::bounded;
use super::file_system::{Disk, FileSystem};
use super::{PromptFileError, StoreError};
use crate::prompt::labels::MAX_LABELS;
use crate::prompt::record::{MAX_TOKENS, MAX_WIDTH};
use crate::prompt::region::MAX_REGIONS;
use crate::prompt::{
    Area, Calibration, Delta, EightBits, Factors, FeatureStatistics, Label, Metrics, Prompt,
    Prototypes, Provenance, Rectangle, Region, Template,
};
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Begins every prompt file, in every version; like PNG's, it shows a transfer that changed line ends.
pub const MAGIC: [u8; 8] = *b"\x89RLP\r\n\x1a\n";
/// The newest version. A prompt is written as the oldest that can hold it, which older programs read, too: 1 without
/// statistics, 2 with nothing but those.
pub const VERSION: u16 = 3;
/// The largest file that is read: a full table of a big model with the longest labels is far below.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

const HEADER_BYTES: usize = 14;
const CHECKSUM_BYTES: usize = 32;

/// Version 1's payload, in postcard's encoding. The order and the types are frozen: what must change becomes
/// another struct and another version.
#[derive(Serialize, Deserialize)]
struct PayloadV1 {
    trained: TrainedV1,
    provenance: Provenance,
}

/// Version 2's payload: version 1's with statistics in its midst.
#[derive(Serialize, Deserialize)]
struct PayloadV2 {
    trained: TrainedV1,
    statistics: FeatureStatistics,
    provenance: Provenance,
}

/// Version 3's payload: version 1's with any number of sections in its midst.
#[derive(Serialize, Deserialize)]
struct PayloadV3 {
    trained: TrainedV1,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_SECTIONS>")]
    sections: Vec<Section>,
    provenance: Provenance,
}

/// Something that not every prompt has. Sections come in the order of their kinds, each at most once.
#[derive(Serialize, Deserialize)]
struct Section {
    kind: u32,
    /// In postcard's encoding, all of it.
    content: Vec<u8>,
}

/// Far more than there are kinds.
const MAX_SECTIONS: usize = 16;
/// [`FeatureStatistics`].
const STATISTICS: u32 = 1;
/// A list of [`RegionV3`].
const REGIONS: u32 = 2;

/// [`PrototypesV3`].
const PROTOTYPES: u32 = 3;
/// The sharpness of prototypes that have one, a number above 0.
const SHARPNESS: u32 = 4;

/// What not every prompt has.
#[derive(Default)]
struct Optional {
    statistics: Option<FeatureStatistics>,
    regions: Vec<Region>,
    prototypes: Option<Prototypes>,
}

/// A region: its name, 0 for hundredths of a per cent or 1 for pixels, left, top, width and height.
#[derive(Serialize, Deserialize)]
struct RegionV3 {
    name: String,
    unit: u32,
    rectangle: [u32; 4],
}

#[derive(Serialize, Deserialize)]
struct RegionsV3(#[serde(deserialize_with = "bounded::list::<_, _, MAX_REGIONS>")] Vec<RegionV3>);

/// Prototypes: numbers in a row, the tables of means and weights, one bias a label.
#[derive(Serialize, Deserialize)]
struct PrototypesV3 {
    joint: u32,
    means: EightBitsV3,
    weight: EightBitsV3,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LABELS>")]
    bias: Vec<f32>,
}

/// A scale a row, then the whole numbers by rows.
#[derive(Serialize, Deserialize)]
struct EightBitsV3 {
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LABELS>")]
    scales: Vec<f32>,
    values: Vec<i8>,
}

/// What the same run with the same seed makes again, byte for byte.
#[derive(Serialize, Deserialize)]
struct TrainedV1 {
    model_name: String,
    model_fingerprint: [u8; 32],
    template: String,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LABELS>")]
    labels: Vec<(String, String)>,
    tokens: u32,
    width: u32,
    delta: DeltaV1,
    context_singular_values: Vec<f32>,
    seed: u64,
    recipe: String,
    metrics: Metrics,
    calibration: Option<Calibration>,
}

#[derive(Serialize, Deserialize)]
enum DeltaV1 {
    LowRank { rank: u32, u: Vec<f32>, v: Vec<f32> },
    Full { table: Vec<f32> },
}

/// The file of `record`. A record that could not be read back is refused.
pub fn encode(record: &Prompt) -> Result<Vec<u8>, PromptFileError> {
    let invalid = |fault: String| PromptFileError::Invalid {
        file: "the new prompt".into(),
        fault,
    };
    if let Some(fault) = record.fault() {
        return Err(invalid(fault));
    }
    let (version, payload) = payload(record).map_err(|error| invalid(error.to_string()))?;
    let length = u32::try_from(payload.len()).map_err(|error| invalid(error.to_string()))?;
    let mut file = Vec::with_capacity(HEADER_BYTES + payload.len() + CHECKSUM_BYTES);
    file.extend(MAGIC);
    file.extend(version.to_le_bytes());
    file.extend(length.to_le_bytes());
    file.extend(payload);
    file.extend(blake3::hash(&file).as_bytes());
    if file.len() as u64 > MAX_FILE_BYTES {
        return Err(PromptFileError::TooLarge {
            file: "the new prompt".into(),
            limit: MAX_FILE_BYTES,
        });
    }
    Ok(file)
}

/// The payload of `record`, and its version.
fn payload(record: &Prompt) -> postcard::Result<(u16, Vec<u8>)> {
    let (trained, provenance) = (trained(record), record.provenance.clone());
    let mut sections = sections(record)?;
    let statistics = record.statistics.clone();
    Ok(match (&mut sections[..], statistics) {
        ([], _) => {
            let payload = PayloadV1 {
                trained,
                provenance,
            };
            (1, postcard::to_stdvec(&payload)?)
        }
        ([_], Some(statistics)) => {
            let payload = PayloadV2 {
                trained,
                statistics,
                provenance,
            };
            (2, postcard::to_stdvec(&payload)?)
        }
        _ => {
            let payload = PayloadV3 {
                trained,
                sections,
                provenance,
            };
            (3, postcard::to_stdvec(&payload)?)
        }
    })
}

/// What `record` has of all that not every prompt has.
fn sections(record: &Prompt) -> postcard::Result<Vec<Section>> {
    let mut sections = Vec::new();
    if let Some(statistics) = &record.statistics {
        sections.push(Section {
            kind: STATISTICS,
            content: postcard::to_stdvec(statistics)?,
        });
    }
    if !record.regions.is_empty() {
        let regions = record.regions.iter().map(RegionV3::of).collect();
        sections.push(Section {
            kind: REGIONS,
            content: postcard::to_stdvec(&RegionsV3(regions))?,
        });
    }
    if let Some(prototypes) = &record.prototypes {
        sections.push(Section {
            kind: PROTOTYPES,
            content: postcard::to_stdvec(&PrototypesV3::of(prototypes))?,
        });
        if prototypes.sharpness != 0.0 {
            sections.push(Section {
                kind: SHARPNESS,
                content: postcard::to_stdvec(&prototypes.sharpness)?,
            });
        }
    }
    Ok(sections)
}

/// What `sections` hold; a kind that is not known was written by a newer program, and the prompt may mean nothing without it.
fn optional(sections: Vec<Section>) -> Result<Optional, String> {
    let mut found = Optional::default();
    let mut before = 0;
    for Section { kind, content } in sections {
        if kind <= before {
            return Err("its sections are not in the order of their kinds".into());
        }
        before = kind;
        match kind {
            STATISTICS => found.statistics = Some(whole(&content)?),
            REGIONS => {
                let RegionsV3(regions) = whole(&content)?;
                found.regions = regions
                    .into_iter()
                    .map(RegionV3::region)
                    .collect::<Result<_, _>>()?;
                if found.regions.is_empty() {
                    return Err("its section of regions has none".into());
                }
            }
            PROTOTYPES => {
                let prototypes: PrototypesV3 = whole(&content)?;
                found.prototypes = Some(prototypes.prototypes()?);
            }
            SHARPNESS => {
                let sharpness: f32 = whole(&content)?;
                let of = found.prototypes.filter(|_| sharpness != 0.0);
                let of = of.ok_or("its section of a sharpness is of no prototypes, or of none")?;
                found.prototypes = Some(of.with_sharpness(sharpness));
            }
            kind => {
                return Err(format!(
                    "it has a section of kind {kind}, which this program does not know: a newer one made it"
                ));
            }
        }
    }
    Ok(found)
}

impl PrototypesV3 {
    fn of(prototypes: &Prototypes) -> PrototypesV3 {
        let table = |table: &EightBits| EightBitsV3 {
            scales: table.scales.clone(),
            values: table.values.iter().copied().collect(),
        };
        PrototypesV3 {
            joint: prototypes.means.values.ncols() as u32,
            means: table(&prototypes.means),
            weight: table(&prototypes.weight),
            bias: prototypes.bias.clone(),
        }
    }

    fn prototypes(self) -> Result<Prototypes, String> {
        let joint = self.joint as usize;
        let table = |table: EightBitsV3| {
            let (rows, found) = (table.scales.len(), table.values.len());
            let values = Array2::from_shape_vec((rows, joint), table.values);
            let fault = |_| {
                format!(
                    "a table of its prototypes has {found} numbers and should have {rows} x {joint}"
                )
            };
            Ok::<_, String>(EightBits {
                values: values.map_err(fault)?,
                scales: table.scales,
            })
        };
        Ok(Prototypes {
            means: table(self.means)?,
            weight: table(self.weight)?,
            bias: self.bias,
            sharpness: 0.0,
        })
    }
}

impl RegionV3 {
    fn of(region: &Region) -> RegionV3 {
        let (unit, at) = match region.area {
            Area::Share(at) => (0, at),
            Area::Pixels(at) => (1, at),
        };
        RegionV3 {
            name: region.name.clone(),
            unit,
            rectangle: [at.x, at.y, at.width, at.height],
        }
    }

    fn region(self) -> Result<Region, String> {
        let [x, y, width, height] = self.rectangle;
        let at = Rectangle {
            x,
            y,
            width,
            height,
        };
        let area = match self.unit {
            0 => Area::Share(at),
            1 => Area::Pixels(at),
            unit => return Err(format!("a region has the unit {unit}")),
        };
        let name = self.name;
        Ok(Region { name, area })
    }
}

impl Prompt {
    /// Reads the prompt file at `path`, as `adapt` writes it, and checks all of it.
    ///
    /// # Errors
    /// If it cannot be read, is not a prompt file, is damaged, or is newer than this program.
    pub fn open(path: impl AsRef<Path>) -> Result<Prompt, StoreError> {
        let path = path.as_ref();
        let bytes = Disk.read(path, MAX_FILE_BYTES);
        let bytes = bytes.map_err(StoreError::reading(path))?;
        Ok(decode(&bytes, &path.display().to_string())?)
    }
}

/// Reads a prompt from the bytes of `file`, checking everything: any flipped bit, any missing byte, any shape
/// or number that makes no sense is refused.
pub fn decode(bytes: &[u8], file: &str) -> Result<Prompt, PromptFileError> {
    let named = || file.to_owned();
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(PromptFileError::TooLarge {
            file: named(),
            limit: MAX_FILE_BYTES,
        });
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(PromptFileError::Magic { file: named() });
    }
    let cut_short = |expected: usize| PromptFileError::Length {
        file: named(),
        expected: expected as u64,
        found: bytes.len() as u64,
    };
    let (_, rest) = bytes.split_at(MAGIC.len());
    let Some((&[v0, v1, l0, l1, l2, l3], rest)) = rest.split_first_chunk::<6>() else {
        return Err(cut_short(HEADER_BYTES + CHECKSUM_BYTES));
    };
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if rest.len().checked_sub(CHECKSUM_BYTES) != Some(length) {
        return Err(cut_short(
            HEADER_BYTES
                .saturating_add(length)
                .saturating_add(CHECKSUM_BYTES),
        ));
    }
    let (sealed, checksum) = bytes.split_at(HEADER_BYTES + length);
    if blake3::hash(sealed).as_bytes() != checksum {
        return Err(PromptFileError::Checksum { file: named() });
    }
    let payload = &sealed[HEADER_BYTES..];
    let invalid = |fault: String| PromptFileError::Invalid {
        file: named(),
        fault,
    };
    let record = match u16::from_le_bytes([v0, v1]) {
        1 => decode_v1(payload).map_err(invalid)?,
        2 => decode_v2(payload).map_err(invalid)?,
        3 => decode_v3(payload).map_err(invalid)?,
        0 => return Err(invalid("there is no version 0 of prompt files".into())),
        version => {
            return Err(PromptFileError::NewerVersion {
                file: named(),
                version,
                supported: VERSION,
            });
        }
    };
    match record.fault() {
        Some(fault) => Err(invalid(fault)),
        None => Ok(record),
    }
}

/// BLAKE3 of everything but the provenance: two runs with the same seed on the same machine agree in it.
pub fn digest(record: &Prompt) -> Result<blake3::Hash, PromptFileError> {
    let fault = |error: postcard::Error| PromptFileError::Invalid {
        file: "the prompt".into(),
        fault: error.to_string(),
    };
    let mut bytes = postcard::to_stdvec(&trained(record)).map_err(fault)?;
    for section in sections(record).map_err(fault)? {
        match section.kind {
            // As it was before there were sections.
            STATISTICS => bytes.extend(section.content),
            _ => bytes.extend(postcard::to_stdvec(&section).map_err(fault)?),
        }
    }
    Ok(blake3::hash(&bytes))
}

fn trained(record: &Prompt) -> TrainedV1 {
    let numbers = |table: &Array2<f32>| table.iter().copied().collect();
    let (tokens, width) = record.delta.shape();
    TrainedV1 {
        model_name: record.model_name.clone(),
        model_fingerprint: record.model_fingerprint,
        template: record.template.to_string(),
        labels: record
            .labels
            .iter()
            .map(|l| (l.name.clone(), l.words.clone()))
            .collect(),
        tokens: tokens as u32,
        width: width as u32,
        delta: match &record.delta {
            Delta::LowRank(factors) => DeltaV1::LowRank {
                rank: factors.u.ncols() as u32,
                u: numbers(&factors.u),
                v: numbers(&factors.v),
            },
            Delta::Full(table) => DeltaV1::Full {
                table: numbers(table),
            },
        },
        context_singular_values: record.context_singular_values.clone(),
        seed: record.seed,
        recipe: record.recipe.clone(),
        metrics: record.metrics.clone(),
        calibration: record.calibration.clone(),
    }
}

fn decode_v1(payload: &[u8]) -> Result<Prompt, String> {
    let PayloadV1 {
        trained,
        provenance,
    } = whole(payload)?;
    assemble(trained, Optional::default(), provenance)
}

fn decode_v2(payload: &[u8]) -> Result<Prompt, String> {
    let PayloadV2 {
        trained,
        statistics,
        provenance,
    } = whole(payload)?;
    let statistics = Some(statistics);
    let optional = Optional {
        statistics,
        ..Optional::default()
    };
    assemble(trained, optional, provenance)
}

fn decode_v3(payload: &[u8]) -> Result<Prompt, String> {
    let PayloadV3 {
        trained,
        sections,
        provenance,
    } = whole(payload)?;
    assemble(trained, optional(sections)?, provenance)
}

/// All of `payload` as one value: no byte may be left.
fn whole<'a, Payload: Deserialize<'a>>(payload: &'a [u8]) -> Result<Payload, String> {
    let (value, rest) = postcard::take_from_bytes(payload).map_err(|error| error.to_string())?;
    match rest.len() {
        0 => Ok(value),
        left => Err(format!("{left} bytes follow the payload")),
    }
}

fn assemble(
    trained: TrainedV1,
    optional: Optional,
    provenance: Provenance,
) -> Result<Prompt, String> {
    let (tokens, width) = (trained.tokens as usize, trained.width as usize);
    if tokens > MAX_TOKENS || width > MAX_WIDTH {
        return Err(format!(
            "a context of {tokens} tokens of width {width} cannot be"
        ));
    }
    let table = |what: &str, rows, columns, numbers: Vec<f32>| {
        let found = numbers.len();
        Array2::from_shape_vec((rows, columns), numbers)
            .map_err(|_| format!("{what} has {found} numbers and should have {rows} x {columns}"))
    };
    let delta = match trained.delta {
        DeltaV1::LowRank { rank, u, v } => {
            let rank = rank as usize;
            if rank > MAX_TOKENS {
                return Err(format!("rank {rank} does not fit {tokens} tokens"));
            }
            let (u, v) = (table("U", tokens, rank, u)?, table("V", rank, width, v)?);
            Delta::LowRank(Factors { u, v })
        }
        DeltaV1::Full { table: numbers } => {
            Delta::Full(table("the context", tokens, width, numbers)?)
        }
    };
    Ok(Prompt {
        model_name: trained.model_name,
        model_fingerprint: trained.model_fingerprint,
        template: Template::parse(&trained.template).map_err(|error| error.to_string())?,
        labels: trained
            .labels
            .into_iter()
            .map(|(name, words)| Label { name, words })
            .collect(),
        delta,
        context_singular_values: trained.context_singular_values,
        seed: trained.seed,
        recipe: trained.recipe,
        metrics: trained.metrics,
        calibration: trained.calibration,
        statistics: optional.statistics,
        regions: optional.regions,
        prototypes: optional.prototypes,
        provenance,
    })
}

#[cfg(test)]
mod tests;
