//! The camera's side of the labelling view, on a thread of its own: each frame with what the model makes of it, and the
//! features of shots that were kept before. It must not know the terminal, nor what is done with a frame.

use super::super::super::Context;
use super::super::adaptation::Adaptation;
use crate::classifier::Classifier;
use crate::frames::{
    CameraEvent, CameraOptions, CameraSource, Frame, Frames, MAX_PIXELS, read_picture,
};
use crate::store::Shot;
use image::RgbImage;
use ndarray::Array1;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

/// The shortest time from one frame to the next: more is not seen and costs the board.
const PACE: Duration = Duration::from_millis(100);
/// How long the demo camera shows a scene that nobody labels.
const SCENE: Duration = Duration::from_secs(4);
/// How often a waiting thread looks up.
const GLANCE: Duration = Duration::from_millis(20);
/// The demo scenes of the view: neither those that `adapt --camera demo` draws nor those that `classify` does.
const VIEW_SEED: u64 = 2_000_000;

/// A frame, and what the model makes of it.
pub struct Sight {
    pub frame: Frame,
    /// `[joint]`, L2-normalised.
    pub feature: Array1<f32>,
    /// The best label and its probability.
    pub guess: (usize, f32),
    /// Variance of the picture's second derivative, in squared steps of brightness: high where edges are sharp.
    pub sharpness: f32,
}

/// What comes from the camera's thread.
pub enum News {
    Sight(Box<Sight>),
    /// The feature of a shot that was kept earlier.
    Kept(Shot, Array1<f32>),
    /// Something went wrong, and watching goes on.
    Trouble(String),
    /// There will be no more frames: the stream ended, or why it failed.
    Ended(Option<anyhow::Error>),
}

/// What the view tells the camera's thread.
#[derive(Default)]
pub struct Wishes {
    pub stop: AtomicBool,
    pub paused: AtomicBool,
    /// The scene that is shown is labelled: draw the next.
    pub next: AtomicBool,
}

/// What names the pictures meanwhile.
pub struct Guesser<'a> {
    classifier: Classifier<'a>,
    /// What it comes from, for people.
    pub title: String,
}

impl<'a> Guesser<'a> {
    /// With the prompt in use where there is one of this model, else zero-shot.
    ///
    /// # Errors
    /// If the prompt's template cannot hold the labels.
    pub fn new(adaptation: &'a Adaptation, context: &Context) -> anyhow::Result<Guesser<'a>> {
        let Adaptation {
            plan,
            labels,
            model,
            ..
        } = adaptation;
        let in_use = context.home.load(&plan.prompt).ok();
        let in_use = in_use.filter(|loaded| loaded.record.model_fingerprint == model.fingerprint.0);
        let Some(loaded) = in_use else {
            return Ok(Guesser {
                classifier: Classifier::zero_shot(model, &plan.template, labels)?,
                title: "zero-shot".into(),
            });
        };
        let sequence = loaded.record.provenance.sequence;
        Ok(Guesser {
            classifier: Classifier::with_prompt_for(model, &loaded.record, labels)?,
            title: format!("prompt {}, generation {sequence}", plan.prompt),
        })
    }
}

/// Watches `source` until the view wants no more, and says why it ended otherwise. `earlier` are the shots that are
/// there already.
pub fn watch(
    source: &CameraSource,
    options: &CameraOptions,
    adaptation: &Adaptation,
    guesser: &Guesser,
    earlier: Vec<Shot>,
    wishes: &Wishes,
    news: &SyncSender<News>,
) {
    let mut watcher = Watcher {
        adaptation,
        guesser,
        earlier: earlier.into_iter(),
        wishes,
        news,
        scenes: matches!(source, CameraSource::Demo(_)),
    };
    let frames = source.open(VIEW_SEED, options).map_err(anyhow::Error::from);
    let ended = frames.and_then(|frames| watcher.run(frames));
    // Nobody listens to the end of a watch that was told to end.
    let _ = news.send(News::Ended(ended.err()));
}

struct Watcher<'a> {
    adaptation: &'a Adaptation,
    guesser: &'a Guesser<'a>,
    earlier: std::vec::IntoIter<Shot>,
    wishes: &'a Wishes,
    news: &'a SyncSender<News>,
    /// Whether each frame is a scene of its own.
    scenes: bool,
}

impl Watcher<'_> {
    fn run(&mut self, mut frames: Frames) -> anyhow::Result<()> {
        loop {
            let seen = frames.next(&|| self.stopped())?;
            let begun = Instant::now();
            let news = match seen {
                CameraEvent::Frame(frame) if self.draws_something_else(&frame) => continue,
                CameraEvent::Frame(frame) => News::Sight(Box::new(self.look(*frame)?)),
                CameraEvent::Problem(problem) => News::Trouble(problem.to_string()),
                CameraEvent::End => return Ok(()),
            };
            self.wishes.next.store(false, Ordering::Relaxed);
            if self.news.send(news).is_err() {
                return Ok(());
            }
            self.rest(begun)?;
        }
    }

    /// Whether a drawn scene shows what is no label: nobody could label it.
    fn draws_something_else(&self, frame: &Frame) -> bool {
        let mut labels = self.adaptation.labels.iter();
        let drawn = frame.label.as_ref();
        drawn.is_some_and(|drawn| !labels.any(|label| label.name == *drawn))
    }

    fn stopped(&self) -> bool {
        self.wishes.stop.load(Ordering::Relaxed)
    }

    /// Waits for the time of the next frame; shots of earlier days are encoded meanwhile.
    fn rest(&mut self, begun: Instant) -> anyhow::Result<()> {
        loop {
            if self.stopped() {
                return Ok(());
            }
            let shown = begun.elapsed();
            let due = match self.scenes {
                true => shown >= SCENE || self.wishes.next.load(Ordering::Relaxed),
                false => shown >= PACE,
            };
            let encoded = self.encode_one()?;
            if due && !self.wishes.paused.load(Ordering::Relaxed) {
                return Ok(());
            }
            if !encoded {
                thread::sleep(GLANCE);
            }
        }
    }

    /// Encodes one shot of an earlier day, if one is left. One that cannot be read is told when it is trained on.
    fn encode_one(&mut self) -> anyhow::Result<bool> {
        let Some(shot) = self.earlier.next() else {
            return Ok(false);
        };
        if let Ok(picture) = read_picture(&shot.path, MAX_PIXELS) {
            let feature = self.adaptation.model.encode_image(&picture)?;
            let _ = self.news.send(News::Kept(shot, feature));
        }
        Ok(true)
    }

    fn look(&self, frame: Frame) -> anyhow::Result<Sight> {
        let model = &self.adaptation.model;
        let feature = model.encode_image(&frame.image)?;
        let answer = self.guesser.classifier.answer(feature.view());
        let best = answer.best();
        Ok(Sight {
            sharpness: sharpness(&frame.image),
            frame,
            feature,
            guess: (best.class, best.probability),
        })
    }
}

/// The variance of the Laplacian of the brightness, on every other pixel at most 320 across.
fn sharpness(picture: &RgbImage) -> f32 {
    let step = (picture.width() / 320).max(1);
    let (width, height) = (picture.width() / step, picture.height() / step);
    if width < 3 || height < 3 {
        return 0.0;
    }
    let bright = |x: u32, y: u32| {
        let [red, green, blue] = picture.get_pixel(x * step, y * step).0.map(f32::from);
        0.299 * red + 0.587 * green + 0.114 * blue
    };
    let (mut sum, mut squares) = (0.0f64, 0.0f64);
    for y in 1..height - 1 {
        for x in 1..width - 1 {
            let around = bright(x - 1, y) + bright(x + 1, y) + bright(x, y - 1) + bright(x, y + 1);
            let second = f64::from(around - 4.0 * bright(x, y));
            sum += second;
            squares += second * second;
        }
    }
    let count = f64::from((width - 2) * (height - 2));
    (squares / count - (sum / count).powi(2)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::demo::{self, Purpose};
    use image::imageops;

    #[test]
    fn a_blurred_picture_is_less_sharp() {
        for index in 0..6 {
            let picture = demo::draw(&demo::scene(Purpose::Live, 0, 1, index), demo::SIZE);
            let blurred = imageops::blur(&picture, 2.0);
            let (sharp, soft) = (sharpness(&picture), sharpness(&blurred));
            assert!(soft < 0.5 * sharp, "{sharp} {soft}");
        }
        assert_eq!(sharpness(&RgbImage::new(40, 40)), 0.0);
        assert_eq!(sharpness(&RgbImage::new(2, 2)), 0.0);
    }
}
