//! What happens in the process, as one stream that anybody may listen to: the page by server-sent events, a broker, a test.
//! Listeners that are slow lose events; nothing waits for them. Whatever an event says can be asked for, too, so a listener
//! that lost some asks anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::cameras::state::{CameraState, Named};
use super::changes::{Change, RecentChange};
use super::training::state::TrainingState;

/// How many events a listener may be behind.
const BACKLOG: usize = 1024;

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Event {
    /// A region was named. There are as many of these as there are pictures.
    Named(Named),
    /// A region shows something else than before.
    Change(Change),
    /// A camera was added or changed, or is in another state than before; also now and then, for its rates.
    Camera(CameraState),
    /// A camera is gone from the configuration.
    CameraGone {
        /// Its name.
        camera: String,
        /// Always true.
        gone: bool,
    },
    /// How far a training is.
    Training(TrainingState),
    /// A prompt or its labels changed.
    Prompt(PromptChange),
    /// Shots of a prompt came, went or have another label.
    Shot(ShotChange),
    /// A picture that is worth labelling was kept, or is gone.
    Recent(RecentChange),
}

impl Event {
    /// What the stream of events calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Named(_) => "named",
            Event::Change(_) => "change",
            Event::Camera(_) | Event::CameraGone { .. } => "camera",
            Event::Training(_) => "training",
            Event::Prompt(_) => "prompt",
            Event::Shot(_) => "shot",
            Event::Recent(_) => "recent",
        }
    }
}

impl Event {
    /// The camera that it is of; none where it is of none.
    pub fn camera(&self) -> Option<&str> {
        match self {
            Event::Named(named) => Some(&named.camera),
            Event::Change(change) => Some(&change.camera),
            Event::Camera(state) => Some(&state.name),
            Event::CameraGone { camera, .. } => Some(camera),
            Event::Recent(change) => Some(&change.camera),
            Event::Training(_) | Event::Prompt(_) | Event::Shot(_) => None,
        }
    }
}

/// What became of a prompt.
#[derive(Clone, Debug, Serialize)]
pub struct PromptChange {
    /// Its name.
    pub prompt: String,
    /// What happened.
    pub what: PromptAct,
    /// The generation in use; none where there is none yet.
    pub generation: Option<u64>,
}

/// What can happen to a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptAct {
    /// It was trained and accepted.
    Accepted,
    /// An earlier generation is in use again.
    Restored,
    /// Its file was changed by another program.
    Replaced,
    /// Its labels changed.
    Labels,
}

/// What became of shots.
#[derive(Clone, Debug, Serialize)]
pub struct ShotChange {
    /// The prompt that they are of.
    pub prompt: String,
    /// What happened.
    pub what: ShotAct,
    /// Which.
    pub ids: Vec<String>,
    /// Their label, the new one where they were moved.
    pub label: String,
    /// How many shots that label has now.
    pub shots: usize,
}

/// What can happen to shots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShotAct {
    /// They were kept.
    Added,
    /// They have another label.
    Moved,
    /// They are gone for good.
    Removed,
}

/// Where events are sent to and listened for.
#[derive(Clone)]
pub struct Events {
    sender: Sender<Arc<Event>>,
    /// The generation of each prompt that was told last.
    told: Arc<Mutex<HashMap<String, u64>>>,
}

impl Default for Events {
    fn default() -> Events {
        Events {
            sender: broadcast::channel(BACKLOG).0,
            told: Arc::default(),
        }
    }
}

impl Events {
    /// Sends `event` to all who listen.
    pub fn send(&self, event: Event) {
        if let Event::Prompt(PromptChange {
            prompt,
            generation: Some(generation),
            ..
        }) = &event
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.insert(prompt.clone(), *generation);
        }
        // Nobody listening is no failure.
        let _ = self.sender.send(Arc::new(event));
    }

    /// Whether the last event of `prompt` that named a generation named this one.
    pub fn have_told(&self, prompt: &str, generation: u64) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(prompt) == Some(&generation)
    }

    /// All events from now on.
    pub fn listen(&self) -> Receiver<Arc<Event>> {
        self.sender.subscribe()
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }
}
