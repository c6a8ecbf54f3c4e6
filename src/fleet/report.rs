//! What a box says became of notices, as JSON that the broker keeps. It is not signed: who may write to the broker can say
//! anything in a box's name, and nothing but what people see depends on it.

use serde::{Deserialize, Serialize};

use super::{Group, Record, Subscription, TrustedKey};

/// The longest report that is read.
pub const MAX_REPORT_BYTES: usize = 64 << 10;

/// What a box says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// What the box is called.
    pub name: String,
    /// The group that it follows.
    pub group: Group,
    /// The version of its program.
    pub program: String,
    /// When it said so, in seconds since 1970: at every change, and every hour.
    pub at_unix: u64,
    /// The numbers of the keys whose signatures it takes; older programs do not say.
    #[serde(default)]
    pub trusted: Vec<String>,
    /// Each region that it follows.
    pub regions: Vec<RegionReport>,
}

/// What a box says of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RegionReport {
    /// The region.
    pub region: String,
    /// The prompt of this box that it is.
    pub prompt: String,
    /// The newest generation that was dealt with; 0 before the first.
    pub generation: u64,
    /// What became of it, in a word: `accepted`, `refused`, `unjudged`, `restored`, `withdrawn`, `waits`, `none`.
    pub state: String,
    /// The same in a sentence.
    pub said: String,
    /// The accuracy of what was in use, in `0..=1`, on the box's own pictures.
    pub before: Option<f32>,
    /// Of what came.
    pub after: Option<f32>,
    /// How many pictures judged.
    pub pictures: usize,
    /// When, in seconds since 1970.
    pub at_unix: u64,
    /// Why the newest that came was not followed, if it was not.
    pub trouble: Option<String>,
}

impl RegionReport {
    /// Of what the box remembers.
    pub fn new(region: &str, prompt: &str, record: &Record) -> RegionReport {
        let taken = record.taken.as_ref();
        RegionReport {
            region: region.into(),
            prompt: prompt.into(),
            generation: record.generation,
            state: taken.map_or("none".into(), |taken| taken.state.clone()),
            said: taken.map_or("nothing was published yet".into(), |taken| {
                taken.said.clone()
            }),
            before: taken.and_then(|taken| taken.before),
            after: taken.and_then(|taken| taken.after),
            pictures: taken.map_or(0, |taken| taken.pictures),
            at_unix: taken.map_or(0, |taken| taken.at_unix),
            trouble: None,
        }
    }
}

impl Report {
    /// Of a box that follows, now.
    pub fn new(of: &Subscription, at_unix: u64, regions: Vec<RegionReport>) -> Report {
        Report {
            name: of.name.clone(),
            group: of.group.clone(),
            program: env!("CARGO_PKG_VERSION").into(),
            at_unix,
            trusted: of.trusted.iter().map(TrustedKey::id).collect(),
            regions,
        }
    }

    /// Whether the box says whom it trusts, and the key of this number is not among them.
    pub fn distrusts(&self, key: &str) -> bool {
        !self.trusted.is_empty() && !self.trusted.iter().any(|known| known == key)
    }

    /// What stands at a topic; none where that is no report.
    pub fn parse(payload: &[u8]) -> Option<Report> {
        if payload.len() > MAX_REPORT_BYTES {
            return None;
        }
        serde_json::from_slice(payload).ok()
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Strings and numbers alone: nothing of it can fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
