//! From what a camera shows to what is sent: states when they change, attributes when they are worth it, events, pictures.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use image::codecs::jpeg::JpegEncoder;
use image::{RgbImage, imageops};
use serde_json::{Value, json};

use super::date;
use super::discovery::CHANGED;
use super::shared::Shared;
use crate::watch::{Named, Shown};

/// How often a score that moves is sent at most.
const PACE: Duration = Duration::from_secs(2);
/// How far it must have moved for that.
const MOVED: f32 = 0.05;
/// How often a picture is sent at most.
const SNAPSHOT_PACE: Duration = Duration::from_secs(5);
/// How wide a picture is at most.
const SNAPSHOT_WIDTH: u32 = 960;
/// Its quality, of 100.
const SNAPSHOT_QUALITY: u8 = 80;
/// How many of the best labels are told.
const TOP: usize = 5;

/// What names the pictures of a region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptInUse {
    /// The prompt's name; none without one.
    pub name: Option<String>,
    /// Its generation.
    pub generation: Option<u64>,
}

/// What a region shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The label's name, or `unknown`.
    pub label: String,
    /// The probability of the nearest label, in `0..=1`.
    pub score: f32,
    /// The best labels and their probabilities, best first.
    pub top: Vec<(String, f32)>,
    /// What named it.
    pub prompt: PromptInUse,
}

/// Reports on one camera.
pub struct CameraReporter {
    shared: Arc<Shared>,
    camera: String,
    regions: HashMap<String, Told>,
    problem: Option<String>,
    snapshots: bool,
    /// A state that is the same is told again after so long.
    again: Option<Duration>,
}

/// What was last told of a region, and when.
struct Told {
    seen: Seen,
    attributes: Instant,
    state: Instant,
    snapshot: Option<Instant>,
}

impl CameraReporter {
    pub(super) fn new(shared: Arc<Shared>, camera: &str) -> CameraReporter {
        let state = shared.lock();
        let mut cameras = state.plan.cameras();
        let found = cameras.find(|(found, _)| found.name == camera);
        let (snapshots, again) = found.map_or((false, None), |(found, _)| {
            (found.snapshots, found.expires.map(|time| time / 3))
        });
        drop(cameras);
        drop(state);
        CameraReporter {
            shared,
            camera: camera.to_owned(),
            regions: HashMap::new(),
            problem: None,
            snapshots,
            again,
        }
    }

    /// A frame of `region` was named.
    pub fn named(&mut self, region: &str, named: &Named, prompt: &PromptInUse) {
        if named.frozen {
            self.problem("it sends the very same picture again and again");
        } else {
            self.working();
        }
        let answer = &named.answer;
        let best = answer.ranking().into_iter().take(TOP);
        let seen = Seen {
            label: Shown::of(answer).to_string(),
            score: answer.best().probability,
            top: best
                .map(|scored| (scored.label.to_owned(), scored.probability))
                .collect(),
            prompt: prompt.clone(),
        };
        self.seen(region, seen, &|| picture(&named.frame.image));
        if let Some(change) = &named.change {
            let from = change.previous.as_ref().map(ToString::to_string);
            let to = change.shown.to_string();
            self.changed(region, from.as_deref(), &to, change.score);
        }
    }

    /// A region shows this; `picture` is asked for a JPEG where one is to be sent.
    pub fn seen(&mut self, region: &str, seen: Seen, picture: &dyn Fn() -> Option<Vec<u8>>) {
        let now = Instant::now();
        let told = self.regions.get(region);
        let since = |then: Option<Instant>| then.map_or(Duration::MAX, |then| now - then);
        let changed = told.is_none_or(|told| told.seen.label != seen.label);
        let due = self
            .again
            .is_some_and(|again| since(told.map(|told| told.state)) >= again);
        let moved = told.is_none_or(|told| {
            told.seen.prompt != seen.prompt
                || ((told.seen.score - seen.score).abs() >= MOVED
                    && since(Some(told.attributes)) >= PACE)
        });
        if !(changed || due || moved) {
            return;
        }
        let (state_at, last) = told.map_or((now, None), |told| (told.state, told.snapshot));
        let pictured = self.snapshots && (changed || due) && since(last) >= SNAPSHOT_PACE;
        // Encoding one takes some milliseconds, and nobody waits for them but this camera.
        let picture = pictured.then(picture).flatten();
        let snapshot = if picture.is_some() { Some(now) } else { last };
        let mut state = self.shared.lock();
        let Some(topics) = state.plan.region(&self.camera, region).cloned() else {
            return;
        };
        let outbox = &mut state.outbox;
        if changed || due {
            outbox.hold_again(&topics.state(), seen.label.clone());
        }
        outbox.hold(&topics.attributes(), seen.attributes().to_string());
        if let Some(picture) = picture {
            outbox.hold(&topics.image(), picture);
        }
        drop(state);
        let told = Told {
            attributes: now,
            state: if changed || due { now } else { state_at },
            snapshot,
            seen,
        };
        self.regions.insert(region.to_owned(), told);
        self.shared.wake.notify_one();
    }

    /// A region shows another label than before; `from` is none for the first one.
    pub fn changed(&mut self, region: &str, from: Option<&str>, to: &str, score: f32) {
        let now = SystemTime::now();
        let what = json!({
            "event_type": CHANGED,
            "from": from,
            "to": to,
            "score": rounded(score),
            "at": date(now),
        });
        let mut state = self.shared.lock();
        if let Some(topics) = state.plan.region(&self.camera, region).cloned() {
            state.outbox.happened(&topics.event(), what, now);
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// A frame was looked at in which nothing has changed: what was told still holds.
    pub fn still(&mut self) {
        let Some(again) = self.again else { return };
        let now = Instant::now();
        for (region, told) in &mut self.regions {
            if now - told.state < again {
                continue;
            }
            told.state = now;
            let mut state = self.shared.lock();
            if let Some(topics) = state.plan.region(&self.camera, region).cloned() {
                state
                    .outbox
                    .hold_again(&topics.state(), told.seen.label.clone());
            }
        }
        self.shared.wake.notify_one();
    }

    /// The camera is there.
    pub fn working(&mut self) {
        self.tell(None);
    }

    /// The camera is down.
    pub fn problem(&mut self, reason: &str) {
        self.tell(Some(reason));
    }

    fn tell(&mut self, reason: Option<&str>) {
        let mut state = self.shared.lock();
        let Some(topics) = state.plan.camera(&self.camera).cloned() else {
            return;
        };
        let outbox = &mut state.outbox;
        if self.problem.as_deref() == reason && outbox.held(&topics.problem()).is_some() {
            return;
        }
        let word = if reason.is_some() { "ON" } else { "OFF" };
        outbox.hold(&topics.problem(), word);
        let attributes = json!({ "reason": reason, "since": date(SystemTime::now()) });
        outbox.hold(&topics.problem_attributes(), attributes.to_string());
        drop(state);
        self.problem = reason.map(str::to_owned);
        self.shared.wake.notify_one();
    }
}

impl Seen {
    fn attributes(&self) -> Value {
        let label =
            |(label, score): &(String, f32)| json!({ "label": label, "score": rounded(*score) });
        json!({
            "score": rounded(self.score),
            "top": self.top.iter().take(TOP).map(label).collect::<Vec<_>>(),
            "prompt": self.prompt.name,
            "generation": self.prompt.generation,
        })
    }
}

/// A probability as people read it: to a tenth of a per cent.
fn rounded(probability: f32) -> f64 {
    (f64::from(probability) * 1000.0).round() / 1000.0
}

/// A picture to be looked at, of some 100 KB at most, as a JPEG; none where it cannot be one.
pub fn picture(image: &RgbImage) -> Option<Vec<u8>> {
    let (width, height) = image.dimensions();
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, SNAPSHOT_QUALITY);
    if width > SNAPSHOT_WIDTH {
        let height = (u64::from(height) * u64::from(SNAPSHOT_WIDTH) / u64::from(width)).max(1);
        let small = imageops::thumbnail(image, SNAPSHOT_WIDTH, height as u32);
        encoder.encode_image(&small).ok()?;
    } else {
        encoder.encode_image(image).ok()?;
    }
    Some(bytes)
}
