//! `adapt --unlabelled`: nobody says what the pictures show. Frames are collected until each label has enough that are sure,
//! a prompt is trained on those, and kept where nothing speaks against it. It must not know how the surest are found or judged.

use super::super::pictures::demo_labels;
use super::super::{Context, Exit, heap, usage};
use super::adaptation::{Adaptation, Trained};
use super::{Arguments, camera_options, plan};
use crate::adapt::features::encode_views;
use crate::adapt::trainer::StepReport;
use crate::adapt::unlabelled::{self, Outcome};
use crate::adapt::{self, AdaptError};
use crate::frames::{
    CameraSource, Frames, FramesError, MAX_PIXELS, Seen, pictures_in, read_picture,
};
use crate::prompt::{Delta, FactorsError, labels};
use crate::rng::Rng;
use anyhow::bail;
use image::RgbImage;
use ndarray::{Array1, Array2, Array3, ArrayView3};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

/// Sure pictures of a label that are trained on, unless `--shots` says otherwise.
const SHOTS: usize = 16;
/// Pictures that are collected for each label at most; the surest are a part of them.
const POOL: usize = 40;
/// Pictures with a cosine above are the same scene: one of them is enough.
const ALIKE: f32 = 0.995;
/// The demo camera's scenes: not those that `adapt --camera demo` learns from, nor those that `classify` shows.
const SEED: u64 = 2_000_000;

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let plan = plan(arguments, context)?;
    let mut source = Source::open(arguments)?;
    let labels = match &arguments.labels {
        Some(file) => labels::read(file)?,
        None if matches!(source, Source::Camera(Frames::Demo(_))) => demo_labels()?,
        None => return Err(usage("--unlabelled needs --labels FILE: what may be shown")),
    };
    let adaptation = Adaptation::open(plan, labels, context)?;
    let options = unlabelled::Options {
        training: adaptation.plan.options,
        shots: arguments.shots.map_or(SHOTS, |shots| shots as usize),
        rounds: arguments.rounds as usize,
    };
    let learner = Learner {
        arguments,
        adaptation: &adaptation,
        options,
        context,
    };
    let pool = learner.collect(&mut source)?;
    learner.adapt(&pool)
}

/// Where pictures come from.
enum Source {
    Files(std::vec::IntoIter<PathBuf>),
    Camera(Frames),
}

impl Source {
    fn open(arguments: &Arguments) -> anyhow::Result<Source> {
        if let Some(folder) = &arguments.images {
            let mut paths = pictures_in(&[folder])?;
            // Not the first names of the alphabet alone, where there are more than are collected.
            Rng::new(arguments.seed).shuffle(&mut paths);
            return Ok(Source::Files(paths.into_iter()));
        }
        let camera = arguments.camera.as_deref().unwrap_or_default();
        let camera: CameraSource = camera.parse().map_err(usage)?;
        let frames = camera.open(SEED + arguments.seed, &camera_options(arguments));
        Ok(Source::Camera(frames.map_err(|error| match error {
            FramesError::NotVideo { .. } => usage(error),
            error => error.into(),
        })?))
    }

    /// The next picture; none at the end.
    fn next(&mut self, context: &Context) -> anyhow::Result<Option<RgbImage>> {
        while !context.stopped() {
            match self {
                Source::Files(paths) => {
                    match paths.next().map(|path| read_picture(&path, MAX_PIXELS)) {
                        Some(Ok(picture)) => return Ok(Some(picture)),
                        Some(Err(error)) => context.output.warn(format!("{error}; skipped")),
                        None => return Ok(None),
                    }
                }
                Source::Camera(frames) => match frames.next(&|| context.stopped())? {
                    Seen::Frame(frame) => return Ok(Some(frame.image)),
                    Seen::Trouble(told) => context.output.warn(told),
                    Seen::End => return Ok(None),
                },
            }
        }
        Ok(None)
    }
}

/// Pictures that are unlike each other.
struct Pool {
    /// `[pictures, views, joint]`.
    features: Array3<f32>,
    /// All that were looked at.
    seen: usize,
    seconds: f64,
}

/// What collecting and adapting share.
struct Learner<'a> {
    arguments: &'a Arguments,
    adaptation: &'a Adaptation,
    options: unlabelled::Options,
    context: &'a Context,
}

impl Learner<'_> {
    /// Collects pictures until every label has enough that are sure, or there are as many as are wanted, or time is up.
    fn collect(&self, source: &mut Source) -> anyhow::Result<Pool> {
        let Adaptation { model, labels, .. } = self.adaptation;
        let texts = self.texts(self.in_use().as_ref())?;
        let most = self
            .arguments
            .pool
            .map_or(POOL * labels.len(), |most| most as usize);
        let live = matches!(source, Source::Camera(_));
        let bar = self.context.output.progress("pictures", most as u64);
        let (begun, mut seen) = (Instant::now(), 0);
        let mut plain: Vec<Array1<f32>> = Vec::new();
        let mut flat: Vec<f32> = Vec::new();
        let extraction = self.adaptation.plan.extraction;
        let shape = |count: usize| (count, extraction.views, model.text.joint_width());
        while plain.len() < most && !(live && begun.elapsed() >= self.arguments.collect_for) {
            let Some(picture) = source.next(self.context)? else {
                break;
            };
            seen += 1;
            let feature = model.encode_image(&picture)?;
            if plain.iter().any(|other| other.dot(&feature) > ALIKE) {
                continue;
            }
            for view in encode_views(model, &picture, plain.len(), extraction)? {
                flat.extend(view);
            }
            plain.push(feature);
            bar.set_position(plain.len() as u64);
            // Looking costs little, but not nothing.
            if live
                && plain.len() >= labels.len() * self.options.shots
                && plain.len().is_multiple_of(16)
            {
                let features = ArrayView3::from_shape(shape(plain.len()), &flat)?;
                let wanting =
                    unlabelled::wanting(features, &texts, model.logit_scale, self.options.shots);
                if wanting.is_none() {
                    break;
                }
            }
        }
        bar.finish_and_clear();
        if self.context.stopped() {
            return Err(AdaptError::Stopped.into());
        }
        if plain.is_empty() {
            bail!("not one picture came: there is nothing to learn from");
        }
        Ok(Pool {
            features: Array3::from_shape_vec(shape(plain.len()), flat)?,
            seen,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// The change of the prompt in use, where it is one for these labels.
    fn in_use(&self) -> Option<Delta> {
        let Adaptation {
            plan,
            labels,
            model,
            ..
        } = self.adaptation;
        let record = self.context.home.load(&plan.prompt).ok()?.record;
        let fits = record.model_fingerprint == model.fingerprint.0
            && record.labels == *labels
            && record.template == plan.template;
        fits.then_some(record.delta)
    }

    fn texts(&self, delta: Option<&Delta>) -> anyhow::Result<Array2<f32>> {
        let Adaptation { model, layout, .. } = self.adaptation;
        let mut rows = model.text.token_rows(&layout.context)?;
        if let Some(delta) = delta {
            rows += &delta.matrix();
        }
        Ok(model.text.class_features(rows.view(), &layout.suffixes)?)
    }

    /// Trains on the pool, and keeps the prompt where nothing speaks against it.
    fn adapt(&self, pool: &Pool) -> anyhow::Result<Exit> {
        let Adaptation {
            plan,
            labels,
            model,
            layout,
        } = self.adaptation;
        heap::keep_freed_memory();
        let names: Vec<String> = labels.iter().map(|label| label.name.clone()).collect();
        let steps = (self.options.training.recipe.steps * self.options.rounds) as u64;
        let bar = self.context.output.progress("training", steps);
        let mut progress = |_: &StepReport| {
            bar.inc(1);
            match self.context.stopped() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let trained = unlabelled::adapt(
            &model.text,
            layout,
            &names,
            pool.features.view(),
            model.logit_scale,
            self.in_use().as_ref(),
            &self.options,
            &mut progress,
        );
        bar.finish_and_clear();
        let (outcome, refusal) = match trained {
            Ok(outcome) => {
                let refusal = outcome.verdict.refusal.clone();
                (Some(outcome), refusal.filter(|_| !plan.force))
            }
            Err(AdaptError::Factors(error @ FactorsError::Rank { .. })) => {
                return Err(usage(error));
            }
            Err(error @ AdaptError::TooFewSure { .. }) => (None, Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let saved = match (&outcome, &refusal) {
            (Some(outcome), None) => {
                let record = self.adaptation.record(&self.trained(outcome))?;
                Some(self.context.home.save(&plan.prompt, &record)?)
            }
            _ => None,
        };
        let verdict = outcome.as_ref().map(|outcome| &outcome.verdict);
        self.context.output.object(&json!({
            "prompt": plan.prompt,
            "unlabelled": true,
            "path": saved.as_ref().map(|saved| saved.path.display().to_string()),
            "bytes": saved.as_ref().map(|saved| saved.bytes),
            "sequence": saved.as_ref().map(|saved| saved.sequence),
            "model": { "name": model.name, "fingerprint": model.fingerprint.to_string() },
            "labels": names,
            "seen": pool.seen,
            "distinct": pool.features.dim().0,
            "images": outcome.as_ref().map(|outcome| outcome.images),
            "judging": outcome.as_ref().map(|outcome| outcome.judging),
            "before": verdict.map(|verdict| verdict.before),
            "after": verdict.map(|verdict| verdict.after),
            "persistence": verdict.map(|verdict| verdict.persistence),
            "accepted": refusal.is_none() && outcome.is_some(),
            "kept": saved.is_some(),
            "refusal": refusal,
            "seconds": { "collecting": pool.seconds, "total": plan.started.elapsed().as_secs_f64() },
        }))?;
        let output = &self.context.output;
        output.line(format!(
            "{} pictures seen, {} of them distinct",
            pool.seen,
            pool.features.dim().0
        ));
        if let (Some(verdict), Some(saved)) = (verdict, &saved) {
            output.line(format!(
                "agreement with the vote of the pictures' views: {:.0} % before, {:.0} % after, on pictures not trained on",
                100.0 * verdict.before.agreement,
                100.0 * verdict.after.agreement
            ));
            output.line(format!(
                "kept as prompt {:?}, generation {}: {} bytes, {}",
                plan.prompt,
                saved.sequence,
                saved.bytes,
                saved.path.display()
            ));
        }
        Ok(match &refusal {
            Some(why) => {
                output.line(format!("not kept: {why}; what was in use stays in use"));
                Exit::NothingAccepted
            }
            None => Exit::Done,
        })
    }

    /// In the shape of an adaptation that somebody labelled, for the prompt file. Nothing was held out with labels, so its
    /// accuracies are not known: they stay 0, and `prompt` tells them as not measured.
    fn trained(&self, outcome: &Outcome) -> Trained {
        Trained {
            outcome: adapt::Outcome {
                delta: outcome.delta.clone(),
                history: vec![
                    StepReport {
                        step: 0,
                        steps: outcome.steps,
                        loss: 0.0,
                        accuracy: 0.0
                    };
                    outcome.steps
                ],
                zero_shot_accuracy: 0.0,
                adapted_accuracy: 0.0,
                holdout_pictures: 0,
                calibration: None,
                accepted: true,
            },
            images: outcome.images,
            skipped_images: 0,
            seconds: Default::default(),
        }
    }
}
