//! What is known of a camera at this moment, as the API shows it.

use std::collections::VecDeque;

use serde::Serialize;

use crate::classifier::Answer;
use crate::prompt::Area;
use crate::serve::changes::{Change, optional_shown};
use crate::serve::config::{CameraConfig, RegionConfig};
use crate::watch::Shown;

/// How many of the last changes of a region are known.
const CHANGES: usize = 20;
/// How many of the best labels are named.
const TOP: usize = 5;

/// A camera at this moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CameraState {
    /// Its name.
    pub name: String,
    /// Where its pictures come from, without a password.
    pub source: String,
    /// What it does.
    pub state: Phase,
    /// What went wrong last, while it is wrong.
    pub error: Option<String>,
    /// Pictures that are looked at in a second.
    pub fps: f32,
    /// Pictures that nobody looked at because a newer one came.
    pub dropped: u64,
    /// Pictures that it sent.
    pub captured: u64,
    /// Pictures that were looked at.
    pub looked_at: u64,
    /// The size of its pictures, in pixels; 0 before the first.
    pub width: u32,
    /// See [`CameraState::width`].
    pub height: u32,
    /// Whether its pictures are drawn: each is another scene.
    pub drawn: bool,
    /// What is looked at.
    pub regions: Vec<RegionState>,
}

/// What a camera does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is being opened.
    Starting,
    /// It sends pictures.
    Live,
    /// It has sent none for a while, or the same one; it is waited for.
    Stalled,
    /// Its stream is over.
    Ended,
    /// It was given up for now; it is opened again after a pause.
    Failed,
}

impl Phase {
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Live => "live",
            Phase::Stalled => "stalled",
            Phase::Ended => "ended",
            Phase::Failed => "failed",
        }
    }
}

/// A region at this moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RegionState {
    /// Its name.
    pub name: String,
    /// Where it begins, as a share of the picture's width; none while that is not known.
    pub x: Option<f64>,
    /// As a share of the picture's height.
    pub y: Option<f64>,
    /// As a share of the picture's width.
    pub width: Option<f64>,
    /// As a share of the picture's height.
    pub height: Option<f64>,
    /// The prompt that names it.
    pub prompt: String,
    /// The generation of that prompt; none where nothing was trained yet.
    pub generation: Option<u64>,
    /// The labels that are chosen from.
    pub labels: Vec<String>,
    /// What it shows, `unknown` for none of the labels; none before it was named.
    #[serde(serialize_with = "optional_shown")]
    pub label: Option<Shown>,
    /// How probable the nearest label is, in `0..=1`.
    pub probability: Option<f32>,
    /// The best labels.
    pub top: Vec<Scored>,
    /// Since when it shows that, in seconds since 1970.
    pub since: Option<f64>,
    /// The last changes, the newest first.
    pub changes: VecDeque<Change>,
    /// Why it cannot be named.
    pub error: Option<String>,
}

/// A label and how probable it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// Its name.
    pub label: String,
    /// In `0..=1`.
    pub probability: f32,
}

/// A region was named.
#[derive(Clone, Debug, Serialize)]
pub struct Named {
    /// The camera's name.
    pub camera: String,
    /// The region's name.
    pub region: String,
    /// When, in seconds since 1970.
    pub at: f64,
    /// What it shows.
    #[serde(serialize_with = "optional_shown")]
    pub label: Option<Shown>,
    /// How probable the nearest label is, in `0..=1`.
    pub probability: f32,
    /// The best labels.
    pub top: Vec<Scored>,
    /// How long naming took, in milliseconds.
    pub latency_ms: f64,
}

/// The best labels of an answer.
pub fn top(answer: &Answer) -> Vec<Scored> {
    let best = answer.ranking().into_iter().take(TOP);
    best.map(|scored| Scored {
        label: scored.label.to_owned(),
        probability: scored.probability,
    })
    .collect()
}

impl CameraState {
    /// Of a camera that is not open yet.
    pub fn starting(camera: &CameraConfig) -> CameraState {
        CameraState {
            name: camera.name.clone(),
            source: camera.source.to_string(),
            state: Phase::Starting,
            error: None,
            fps: 0.0,
            dropped: 0,
            captured: 0,
            looked_at: 0,
            width: 0,
            height: 0,
            drawn: camera.is_drawn(),
            regions: camera.regions.iter().map(RegionState::unnamed).collect(),
        }
    }

    /// The region of this name.
    pub fn region_mut(&mut self, name: &str) -> Option<&mut RegionState> {
        self.regions.iter_mut().find(|region| region.name == name)
    }

    /// Takes note of the size of its pictures; whether that is another than before.
    pub fn resize(&mut self, (width, height): (u32, u32), camera: &CameraConfig) -> bool {
        if (self.width, self.height) == (width, height) {
            return false;
        }
        (self.width, self.height) = (width, height);
        for (state, region) in self.regions.iter_mut().zip(&camera.regions) {
            state.place(region, width, height);
        }
        true
    }
}

impl RegionState {
    fn unnamed(region: &RegionConfig) -> RegionState {
        let mut state = RegionState {
            name: region.name.clone(),
            x: None,
            y: None,
            width: None,
            height: None,
            prompt: region.prompt.clone(),
            generation: None,
            labels: Vec::new(),
            label: None,
            probability: None,
            top: Vec::new(),
            since: None,
            changes: VecDeque::new(),
            error: None,
        };
        state.place(region, 0, 0);
        state
    }

    /// Where it lies in pictures of this size, as shares of it.
    fn place(&mut self, region: &RegionConfig, width: u32, height: u32) {
        let shares = match region.area {
            None => Some([0.0, 0.0, 1.0, 1.0]),
            Some(Area::Share(at)) => {
                let parts = [at.x, at.y, at.width, at.height];
                Some(parts.map(|part| f64::from(part) / 1e4))
            }
            Some(Area::Pixels(_)) if width == 0 || height == 0 => None,
            Some(Area::Pixels(at)) => {
                let share = |part: u32, of: u32| f64::from(part) / f64::from(of);
                Some([
                    share(at.x, width),
                    share(at.y, height),
                    share(at.width, width),
                    share(at.height, height),
                ])
            }
        };
        [self.x, self.y, self.width, self.height] =
            shares.map_or([None; 4], |shares| shares.map(Some));
    }

    /// Takes note of an answer; `change` where it is another than before.
    pub fn named(&mut self, named: &Named, change: Option<Change>) {
        self.probability = Some(named.probability);
        self.top.clone_from(&named.top);
        self.error = None;
        if let Some(change) = change {
            self.label = Some(change.to.clone());
            self.since = Some(change.at);
            self.changes.push_front(change);
            self.changes.truncate(CHANGES);
        }
    }
}
