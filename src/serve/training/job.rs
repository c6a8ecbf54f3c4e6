//! One training, from shots to a judged prompt, as `adapt --shots-from` does it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{How, Lacking, Stage, TrainingState, Work, sisters};
use crate::adapt::features::{Extraction, Monitor};
use crate::adapt::{
    self, Answers, Comparison, Judgement, Options, Outcome, Progress, Task, check_pictures,
};
use crate::clip::text_tower::DEFAULT_MEMORY;
use crate::host::temperature::Pacing;
use crate::host::{limits, memory};
use crate::prompt::{Label, Prompt, Provenance, Template, Tuning};
use crate::serve::cameras::Common;
use crate::serve::features::{Features, Lesson, model_of};

/// How often it says how far it is.
const TELL: Duration = Duration::from_millis(250);

/// What to train.
pub struct Job {
    pub prompt: String,
    pub how: How,
    pub common: Arc<Common>,
    pub features: Arc<Features>,
    pub stop: Arc<AtomicBool>,
}

/// Who hears how far it is.
type Tell<'a> = dyn Fn(TrainingState) + Sync + 'a;

impl Job {
    /// Trains and judges. No prompt comes back where the one in use stays.
    ///
    /// # Errors
    /// In words for people; whatever they are where it was stopped.
    pub fn run(&self, tell: &Tell) -> Result<(TrainingState, Option<Prompt>), String> {
        let nice = self.how.config.nice;
        step_back(nice);
        // Products of this thread run on threads that step back as well.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(rayon::current_num_threads())
            .start_handler(move |_| step_back(nice))
            .build()
            .map_err(|error| error.to_string())?;
        let trained = pool.install(|| self.train(tell));
        // The cameras go on for months with what is left.
        memory::give_back();
        trained
    }

    fn train(&self, tell: &Tell) -> Result<(TrainingState, Option<Prompt>), String> {
        let begun = Instant::now();
        let common = &self.common;
        let usual = common.usual_model();
        let model = model_of(&common.home, &common.models, &self.prompt, usual.as_deref())
            .map_err(|error| error.to_string())?;
        let lesson = self.lesson(model, begun, tell)?;
        let labels = &lesson.pictures.labels;
        check_pictures(labels, &lesson.set).map_err(|error| error.to_string())?;
        let template = Template::default();
        let layout = lesson
            .model
            .layout(&template, labels)
            .map_err(|error| error.to_string())?;
        let task = Task::new(&lesson.model, labels, &layout).map_err(|error| error.to_string())?;
        let mut options = Options::of(Tuning::Rlp).with_answers(Answers::Best);
        options.recipe.steps = self.how.config.steps.unwrap_or(options.recipe.steps);
        options.memory = limits::memory_to_keep(DEFAULT_MEMORY, rayon::current_num_threads());
        let mut pacing = Pacing::begin();
        let told = Every::new(TELL);
        let mut progress = |report: &adapt::StepReport| {
            let _ = pacing.after_step();
            if told.is_due() {
                tell(self.running(Work::Training, (report.step, report.steps), begun));
            }
            if self.stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let progress: &mut Progress = &mut progress;
        let (own, prompts) = (&self.prompt, &self.how.prompts);
        let sisters = sisters::of(&common.home, own, prompts, &task, &template);
        let outcome = adapt::adapt_with(&task, &lesson.set, &sisters, &options, progress)
            .map_err(|error| error.to_string())?;
        let judged = self.judged(&lesson, &outcome, begun);
        if judged.kept_sister.as_ref() == Some(&self.prompt) {
            return Ok((judged, None));
        }
        let mut prompt = outcome
            .prompt(&task, &template, &options)
            .map_err(|error| error.to_string())?;
        prompt.provenance = Provenance::here(begun.elapsed());
        prompt.regions.clone_from(&self.how.regions);
        Ok((judged, Some(prompt)))
    }

    fn lesson(
        &self,
        model: Arc<crate::clip::Model>,
        begun: Instant,
        tell: &Tell,
    ) -> Result<Lesson, String> {
        let home = &self.common.home;
        let count = home
            .shots_folder(&self.prompt)
            .and_then(|folder| home.shots_in(&folder))
            .map_or(0, |shots| shots.len());
        let most = AtomicUsize::new(0);
        let told = Every::new(TELL);
        let done = |count_done: usize| {
            // Several threads say so, not in order.
            let done = most
                .fetch_max(count_done, Ordering::Relaxed)
                .max(count_done);
            if told.is_due() {
                tell(self.running(Work::Pictures, (done, count), begun));
            }
        };
        let monitor = Monitor {
            done: &done,
            stop: &self.stop,
        };
        let mut extraction = Extraction::new(self.how.config.views, 0);
        extraction.threads = rayon::current_num_threads();
        self.features
            .lesson(home, model, &self.prompt, extraction, monitor)
            .map_err(|error| error.to_string())
    }

    fn running(&self, work: Work, (step, steps): (usize, usize), begun: Instant) -> TrainingState {
        TrainingState {
            prompt: self.prompt.clone(),
            state: Stage::Running,
            stage: Some(work),
            step,
            steps,
            seconds: begun.elapsed().as_secs_f32(),
            ..TrainingState::default()
        }
    }

    fn judged(
        &self,
        lesson: &Lesson,
        outcome: &Outcome<Comparison>,
        begun: Instant,
    ) -> TrainingState {
        let comparison = &outcome.evidence;
        let verdict = &comparison.verdict;
        let labels = &lesson.pictures.labels;
        let (judgement, lacking) = match &verdict.judgement {
            Judgement::Better => ("better", Vec::new()),
            Judgement::Worse => ("worse", Vec::new()),
            Judgement::Unsure(more) => {
                let lacking = more.classes.iter().map(|&class| Lacking {
                    label: labels[class].name.clone(),
                    shots: more.shots,
                });
                ("unsure", lacking.collect())
            }
        };
        let confusion = comparison.confusion.outer_iter();
        let unreadable = lesson.pictures.unreadable();
        TrainingState {
            prompt: self.prompt.clone(),
            state: Stage::Judged,
            before: Some(comparison.zero_shot_accuracy),
            after: Some(comparison.adapted_accuracy),
            interval: Some([verdict.credible.0, verdict.credible.1]),
            judgement: Some(judgement),
            accepted: Some(outcome.accepted()),
            judged_by: Some(comparison.held_out()),
            confusion: Some(confusion.map(|row| row.to_vec()).collect()),
            labels: labels
                .iter()
                .map(|label: &Label| label.name.clone())
                .collect(),
            started_from: outcome.sisters.start.clone(),
            kept_sister: outcome.sisters.kept.clone(),
            lacking,
            unreadable: unreadable.iter().map(ToString::to_string).collect(),
            seconds: begun.elapsed().as_secs_f32(),
            ..TrainingState::default()
        }
    }
}

/// Steps back behind other threads; a system that does not let a thread do so runs it all the same.
pub fn step_back(nice: u8) {
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::process::nice(nice.into());
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

/// Says when so much time has gone by since it last did.
struct Every {
    pace: Duration,
    last: Mutex<Option<Instant>>,
}

impl Every {
    fn new(pace: Duration) -> Every {
        Every {
            pace,
            last: Mutex::new(None),
        }
    }

    fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|at| at.elapsed() >= self.pace);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
