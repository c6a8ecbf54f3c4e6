//! How far a training is, as the API and events tell it.

use serde::Serialize;

/// How far the training of a prompt is.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct TrainingState {
    /// The prompt.
    pub prompt: String,
    /// Where it stands.
    pub state: Stage,
    /// What it does, while it runs.
    pub stage: Option<Work>,
    /// How many steps of that are done.
    pub step: usize,
    /// How many there are; 0 while that is not known.
    pub steps: usize,
    /// The accuracy of the plain template on pictures that judged, in `0..=1`.
    pub before: Option<f32>,
    /// Of the prompt, on the same pictures.
    pub after: Option<f32>,
    /// The gains that are credible, 95 %, lowest and highest.
    pub interval: Option<[f32; 2]>,
    /// Whether it is better, worse, or cannot be told.
    pub judgement: Option<&'static str>,
    /// Whether it does no harm.
    pub accepted: Option<bool>,
    /// Pictures that judged.
    pub judged_by: Option<usize>,
    /// The pictures that judged, by what they show (rows) and what they are taken for (columns).
    pub confusion: Option<Vec<Vec<usize>>>,
    /// The labels of rows and columns.
    pub labels: Vec<String>,
    /// The prompt of a sister camera from which training went on; none where it was the plain template.
    pub started_from: Option<String>,
    /// The prompt that answers better than what was trained and is to be kept in its place: that of a sister camera, or, where
    /// it is this one, what is in use and came from the fleet.
    pub kept_sister: Option<String>,
    /// Labels that lack shots, and about how many.
    pub lacking: Vec<Lacking>,
    /// Pictures that could not be read, in sentences.
    pub unreadable: Vec<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// How long it took so far, in seconds.
    pub seconds: f32,
}

/// A label that lacks shots.
#[derive(Clone, Debug, Serialize)]
pub struct Lacking {
    /// Its name.
    pub label: String,
    /// About how many more.
    pub shots: usize,
}

/// Where a training stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// There is none.
    #[default]
    Idle,
    /// It is under way.
    Running,
    /// It is done, and waits for somebody to accept it or to keep the old prompt.
    Judged,
    /// It failed.
    Failed,
}

/// What a training does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Pictures become features.
    Pictures,
    /// The prompt is trained and judged.
    Training,
}
