//! Training beside watching: one job at a time, on a thread of its own that steps back behind the cameras, paced by the
//! temperature of the box. What comes of it is judged and waits until somebody accepts it or keeps the old prompt.

mod job;
mod sisters;
pub(super) mod state;

#[cfg(feature = "fleet")]
pub(super) use job::step_back;
pub use state::{Lacking, Stage, TrainingState, Work};

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::cameras::Common;
use super::config::TrainingConfig;
use super::events::{Event, PromptAct, PromptChange};
use super::features::Features;
use crate::prompt::{Prompt, Region};
use crate::store::{Saved, StoreError};

/// Why a training does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// One is enough for a box.
    #[error("{0} is being trained: one at a time")]
    Busy(String),
    /// There is nothing to cancel.
    #[error("{0} is not being trained")]
    NotRunning(String),
    /// There is nothing to accept or to refuse.
    #[error("no training of {0} waits to be accepted")]
    NotJudged(String),
    /// What was trained is not as good as what is there.
    #[error("what is in use of {0} is better than what was trained: it stays in use")]
    InUse(String),
    /// The prompt cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no threads.
    #[error("no thread for the training could be started ({0})")]
    Start(std::io::Error),
}

/// How to train.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// What the shots were cut out of.
    pub regions: Vec<Region>,
    /// The prompts of all cameras.
    pub prompts: Vec<String>,
    /// What the configuration says.
    pub config: TrainingConfig,
}

/// The trainings of all prompts.
#[derive(Default)]
pub struct Training {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    states: BTreeMap<String, TrainingState>,
    /// What came of those that are judged; nothing where the prompt in use stays.
    judged: BTreeMap<String, Option<Prompt>>,
    running: Option<(String, Arc<AtomicBool>)>,
}

impl Training {
    /// How far the training of `prompt` is.
    pub fn state(&self, prompt: &str) -> TrainingState {
        let idle = || TrainingState {
            prompt: prompt.to_owned(),
            ..TrainingState::default()
        };
        self.locked()
            .states
            .get(prompt)
            .cloned()
            .unwrap_or_else(idle)
    }

    /// The prompt that is being trained.
    pub fn running(&self) -> Option<String> {
        self.locked()
            .running
            .as_ref()
            .map(|(prompt, _)| prompt.clone())
    }

    /// Starts to train `prompt` on its shots.
    ///
    /// # Errors
    /// If one is under way.
    pub fn start(
        self: &Arc<Self>,
        prompt: &str,
        how: How,
        common: &Arc<Common>,
        features: &Arc<Features>,
    ) -> Result<TrainingState, TrainingError> {
        let stop = Arc::new(AtomicBool::new(false));
        {
            let mut inner = self.locked();
            if let Some((busy, _)) = &inner.running {
                return Err(TrainingError::Busy(busy.clone()));
            }
            inner.running = Some((prompt.to_owned(), Arc::clone(&stop)));
            inner.judged.remove(prompt);
        }
        let begun = TrainingState {
            prompt: prompt.to_owned(),
            state: Stage::Running,
            stage: Some(Work::Pictures),
            ..TrainingState::default()
        };
        self.set(begun.clone(), common);
        let job = job::Job {
            prompt: prompt.to_owned(),
            how,
            common: Arc::clone(common),
            features: Arc::clone(features),
            stop,
        };
        let training = Arc::clone(self);
        let started = thread::Builder::new()
            .name("training".into())
            .spawn(move || {
                let tell = |state: TrainingState| training.set(state, &job.common);
                let ended = catch_unwind(AssertUnwindSafe(|| job.run(&tell)));
                training.ended(
                    &job,
                    ended.unwrap_or_else(|_| {
                        Err("this program has a fault here; what was kept before is whole".into())
                    }),
                );
            });
        if let Err(error) = started {
            let mut inner = self.locked();
            inner.running = None;
            inner.states.remove(prompt);
            return Err(TrainingError::Start(error));
        }
        Ok(begun)
    }

    fn ended(&self, job: &job::Job, ended: Result<(TrainingState, Option<Prompt>), String>) {
        let state = {
            let mut inner = self.locked();
            inner.running = None;
            match ended {
                Ok((state, prompt)) => {
                    inner.judged.insert(job.prompt.clone(), prompt);
                    state
                }
                Err(_) if job.stop.load(Ordering::Relaxed) => TrainingState {
                    prompt: job.prompt.clone(),
                    ..TrainingState::default()
                },
                Err(error) => TrainingState {
                    prompt: job.prompt.clone(),
                    state: Stage::Failed,
                    error: Some(error),
                    ..TrainingState::default()
                },
            }
        };
        self.set(state, &job.common);
    }

    /// Ends the training of `prompt` that is under way; nothing of it is kept.
    ///
    /// # Errors
    /// If there is none.
    pub fn cancel(&self, prompt: &str) -> Result<(), TrainingError> {
        match &self.locked().running {
            Some((running, stop)) if running == prompt => {
                stop.store(true, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(TrainingError::NotRunning(prompt.to_owned())),
        }
    }

    /// Ends whatever is under way.
    pub fn stop(&self) {
        if let Some((_, stop)) = &self.locked().running {
            stop.store(true, Ordering::Relaxed);
        }
    }

    /// Keeps what came of the training of `prompt` as its next generation.
    ///
    /// # Errors
    /// If none is judged, what is in use is better, or it cannot be written: then it can be tried again.
    pub fn accept(&self, prompt: &str, common: &Common) -> Result<Saved, TrainingError> {
        let missing = || TrainingError::NotJudged(prompt.to_owned());
        let judged = self
            .locked()
            .judged
            .get(prompt)
            .cloned()
            .ok_or_else(missing)?
            .ok_or_else(|| TrainingError::InUse(prompt.to_owned()))?;
        let saved = common.home.save(prompt, &judged)?;
        self.locked().judged.remove(prompt);
        self.forget(prompt, common);
        common.events.send(Event::Prompt(PromptChange {
            prompt: prompt.to_owned(),
            what: PromptAct::Accepted,
            generation: Some(saved.sequence),
        }));
        Ok(saved)
    }

    /// Forgets what came of the training of `prompt`: the old one stays.
    ///
    /// # Errors
    /// If none is judged.
    pub fn reject(&self, prompt: &str, common: &Common) -> Result<(), TrainingError> {
        let judged = self.locked().judged.remove(prompt);
        judged.ok_or_else(|| TrainingError::NotJudged(prompt.to_owned()))?;
        self.forget(prompt, common);
        Ok(())
    }

    fn forget(&self, prompt: &str, common: &Common) {
        let idle = TrainingState {
            prompt: prompt.to_owned(),
            ..TrainingState::default()
        };
        self.set(idle, common);
    }

    fn set(&self, state: TrainingState, common: &Common) {
        let mut inner = self.locked();
        inner.states.insert(state.prompt.clone(), state.clone());
        drop(inner);
        common.events.send(Event::Training(state));
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
