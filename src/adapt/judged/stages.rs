//! The trainings of a plan, several at the same time: none waits for another, and the products of one are mostly too small to
//! keep several threads busy.

use super::{Plan, Training};
use crate::adapt::features::FeatureSet;
use crate::adapt::prototypes::Discriminant;
use crate::adapt::trainer::{Progress, Reached, StepReport};
use crate::adapt::{AdaptError, Task, fit};
use crate::ops::pool::side_by_side;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a training came to, from which of a plan's starts, and the Gaussians of its pictures.
pub(super) type Trained = ((Reached, Option<usize>), Vec<Discriminant>);

/// The rows of the pictures that a training sees, and how it is trained.
type Stage<'a> = (&'a [usize], &'a Training<'a>);

impl Plan<'_> {
    /// What the prompt itself came to, and then each part.
    pub(super) fn train(
        &self,
        task: &Task,
        pictures: &FeatureSet,
        progress: &mut Progress,
    ) -> Result<Vec<Trained>, AdaptError> {
        let mut stages: Vec<Stage> = vec![(&self.split.train, &self.whole)];
        for part in &self.parts {
            stages.push((&part.split.train, &part.training));
        }
        let next = AtomicUsize::new(0);
        let hearing = Hearing::new(progress, self.steps, stages.len());
        let found: Mutex<Vec<(usize, Result<Trained, AdaptError>)>> = Mutex::default();
        side_by_side(workers(task, &stages, self.whole.options.memory), || {
            while let place = next.fetch_add(1, Ordering::Relaxed)
                && let Some((rows, training)) = stages.get(place)
            {
                let trained = hearing.stage(place, (task, &pictures.select(rows)), training);
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.push((place, trained));
            }
        });
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Those that were stopped because another failed come after it.
        let stopped = |trained: &Result<_, _>| matches!(trained, Err(AdaptError::Stopped));
        found.sort_by_key(|(place, trained)| (stopped(trained), *place));
        found.into_iter().map(|(_, trained)| trained).collect()
    }
}

/// How many of the trainings go on at the same time: as many as there are threads for, if the steps of all of them fit into the
/// memory that one may take. Otherwise each would compute again what it cannot keep.
fn workers(task: &Task, stages: &[Stage], memory: usize) -> usize {
    let layout = task.layout;
    let a_step = task
        .model
        .text
        .step_memory(layout.context.len(), &layout.suffixes);
    let fitting = memory / a_step.max(1);
    stages.len().min(rayon::current_num_threads()).min(fitting)
}

/// Tells of the steps of several trainings as if they were one.
struct Hearing<'a, 'p> {
    heard: Mutex<Heard<'a, 'p>>,
    /// Steps of all trainings together.
    steps: usize,
}

struct Heard<'a, 'p> {
    progress: &'a mut Progress<'p>,
    /// Steps of each training so far; all that were planned once it has ended.
    done: Vec<usize>,
    stopped: bool,
}

impl<'a, 'p> Hearing<'a, 'p> {
    fn new(progress: &'a mut Progress<'p>, steps: usize, trainings: usize) -> Hearing<'a, 'p> {
        let heard = Heard {
            progress,
            done: vec![0; trainings],
            stopped: false,
        };
        Hearing {
            heard: Mutex::new(heard),
            steps,
        }
    }

    /// Trains on `shots`, unless another training has failed or been ended.
    fn stage(
        &self,
        place: usize,
        (task, shots): (&Task, &FeatureSet),
        Training { options, begin }: &Training,
    ) -> Result<Trained, AdaptError> {
        let trained = fit(task, shots, options, begin, &mut |report| {
            self.step(place, report)
        });
        let gaussians = || Discriminant::of_shots(shots, task.labels.len());
        let trained = trained.and_then(|reached| Ok((reached, gaussians()?)));
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.done[place] = options.recipe.steps;
        heard.stopped |= trained.is_err();
        trained
    }

    fn step(&self, place: usize, report: &StepReport) -> ControlFlow<()> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.stopped {
            return ControlFlow::Break(());
        }
        heard.done[place] = report.step;
        let told = StepReport {
            step: heard.done.iter().sum(),
            steps: self.steps,
            ..*report
        };
        let answer = (heard.progress)(&told);
        heard.stopped = answer.is_break();
        answer
    }
}
