//! Teaching at a terminal: the camera's picture, a key a label that keeps what is shown as a shot, training, and the
//! question whether the new prompt may stay. This module carries out what the keys ask for; what they mean is in `state`,
//! how it looks in `draw`. Every shot is on the disk before it is counted, so that whatever ends the view loses nothing.

mod draw;
mod picture;
mod regions;
mod shots;
mod state;
mod terminal;
mod train;
mod watch;

use super::super::output::count as count_of;
use super::super::{Context, Exit};
use super::adaptation::{Adaptation, Trained};
use crate::adapt::LabelledPictures;
use crate::prompt::labels::same_name;
use crate::store::Shot;
use crate::watch::{Hints, SharpnessHistory};
use anyhow::Context as _;
use draw::Look;
use ndarray::Array1;
use picture::Pixels;
use ratatui::crossterm::event::{Event, KeyEventKind};
use ratatui_image::protocol::Protocol;
use regions::Regions;
use state::{Action, Stage, State};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};
use terminal::{Depth, Screen};
use train::{Encoded, Training};
use watch::{Controls, InUse, Snapshot, ViewEvent, Watcher};

pub use terminal::is_there;
pub use watch::Source;

/// How long the view waits for a key before it looks at everything else.
const POLL: Duration = Duration::from_millis(30);
const GONE: &str = "the terminal is gone";
/// The shortest time between two pictures that are sent as pixels: they are ten times the bytes of blocks.
const PIXEL_PACE: Duration = Duration::from_millis(250);
/// What the view is opened with.
pub struct View<'a> {
    pub source: Source,
    /// What it is called.
    pub title: String,
    pub adaptation: &'a Adaptation,
    /// Whether to leave real pixels alone.
    pub blocks: bool,
}

/// A shot that is kept on the disk.
struct Kept {
    shot: Shot,
    class: usize,
    /// Unknown until the camera's thread has looked at it.
    feature: Option<Array1<f32>>,
    /// Whether it was taken since the view opened.
    ours: bool,
    /// The file that waited to be labelled, where it was one.
    origin: Option<PathBuf>,
}

/// How the view ended.
enum End {
    Keep(Box<Trained>),
    Quit,
}

/// Opens the view, and keeps the prompt that comes of it.
///
/// # Errors
/// If the terminal, the camera or the home folder fails; shots that were taken are kept.
pub fn run(view: &View, context: &Context) -> anyhow::Result<Exit> {
    let adaptation = view.adaptation;
    let prompt = &adaptation.plan.prompt;
    let folder = context.home.shots_folder(prompt)?;
    context.home.keep_shot_labels(prompt, &adaptation.labels)?;
    let class = |shot: &Shot| {
        let mut labels = adaptation.labels.iter();
        labels.position(|label| same_name(&label.name, &shot.label))
    };
    let kept = context.home.shots_in(&folder)?.into_iter();
    let kept = kept.filter_map(|shot| {
        Some(Kept {
            class: class(&shot)?,
            shot,
            feature: None,
            ours: false,
            origin: None,
        })
    });
    let kept: Vec<Kept> = kept.collect();
    let in_use = InUse::load(adaptation, context)?;
    let other = view
        .begin_regions(&folder, context)?
        .filter(|_| !kept.is_empty());
    let earlier: Vec<Shot> = kept.iter().map(|kept| kept.shot.clone()).collect();
    let controls = Controls::default();
    let (sender, camera) = mpsc::sync_channel(1);
    let end = thread::scope(|scope| {
        let (in_use, controls) = (&in_use, &controls);
        let watcher = Watcher {
            in_use,
            region: view.regions().first().cloned(),
            earlier: earlier.into_iter(),
            controls,
            events: sender,
        };
        let watcher = scope.spawn(move || watcher.watch(&view.source));
        let threads = CameraThread {
            in_use,
            controls,
            events: camera,
        };
        let session = Session::new(view, context, kept, threads);
        let end = session.and_then(|mut session| {
            if let Some(other) = other {
                session.state.warn(other);
            }
            session.run(scope)
        });
        controls.stop.store(true, Ordering::Relaxed);
        // Its panic, if it had one, has been reported.
        let _ = watcher.join();
        end
    });
    finish(end, view, context)
}

/// Keeps the prompt where the user wants it, and says what is left otherwise.
fn finish(end: anyhow::Result<End>, view: &View, context: &Context) -> anyhow::Result<Exit> {
    let adaptation = view.adaptation;
    let prompt = &adaptation.plan.prompt;
    let folder = context.home.shots_folder(prompt)?;
    let shots = context.home.shots_in(&folder)?.len();
    match end {
        Ok(End::Keep(trained)) => {
            let saved = adaptation.save(&trained, context)?;
            adaptation.report(&trained, Some(&saved), context)?;
            adaptation.describe(&trained, Some(&saved), context);
            Ok(Exit::Done)
        }
        Ok(End::Quit) => {
            context.output.note(format!(
                "no prompt was kept; {} in {}: the same command goes on there, `edge-rlp adapt --shots-from{}` trains on them",
                count_of(shots as u64, "shot"),
                folder.display(),
                match prompt.as_str() {
                    "default" => String::new(),
                    name => format!(" --prompt {name}"),
                },
            ));
            Ok(Exit::NothingAccepted)
        }
        Err(error) => {
            let kept = format!(
                "the view ended; {} kept in {}",
                count_of(shots as u64, "shot"),
                folder.display()
            );
            Err(error.context(kept))
        }
    }
}

/// The camera's thread, as the view sees it.
struct CameraThread<'a> {
    in_use: &'a InUse<'a>,
    controls: &'a Controls,
    events: Receiver<ViewEvent>,
}

/// The view while it is open.
struct Session<'a> {
    view: &'a View<'a>,
    context: &'a Context,
    camera: CameraThread<'a>,
    events: Receiver<Event>,
    screen: Screen,
    pixels: Option<Pixels>,
    depth: Depth,
    state: State,
    kept: Vec<Kept>,
    snapshot: Option<Box<Snapshot>>,
    hints: Hints,
    sharpness: SharpnessHistory,
    /// The number of the last frame that became a shot.
    stored: Option<u64>,
    /// The label of a shot that is taken as soon as the region that was just chosen is there.
    waiting: Option<usize>,
    trained: Option<Box<Trained>>,
    encoded: Arc<Encoded>,
    opened: Instant,
    /// What is shown has changed since it was drawn.
    stale: bool,
    /// The camera's stream has ended.
    ended: bool,
    drawn_pixels: Option<(Instant, Protocol, ratatui::layout::Rect)>,
}

/// A training on its thread.
type Running<'scope> = (
    Arc<Training>,
    ScopedJoinHandle<'scope, anyhow::Result<(Trained, state::Verdict)>>,
);

impl<'a> Session<'a> {
    fn new(
        view: &'a View,
        context: &'a Context,
        kept: Vec<Kept>,
        camera: CameraThread<'a>,
    ) -> anyhow::Result<Session<'a>> {
        let labels = view.adaptation.labels.iter().enumerate();
        let count = |class| kept.iter().filter(|kept| kept.class == class).count();
        let mut state = State::new(labels.map(|(class, label)| (label.name.clone(), count(class))));
        state.regions = Regions::new(view.regions().to_vec());
        match kept.len() {
            0 => state.note("press a label's key while the camera shows it; ? for help"),
            1 => state.note("a shot of earlier is here; ? for help"),
            kept => state.note(format!("{kept} shots of earlier are here; ? for help")),
        }
        let screen = Screen::open().context("the terminal cannot be taken")?;
        let depth = Depth::of(|name| std::env::var(name).ok());
        let pixels = if view.blocks || depth == Depth::Grey {
            None
        } else {
            Pixels::ask()
        };
        Ok(Session {
            view,
            context,
            camera,
            // Not before the terminal was asked about pixels: its answer comes the same way.
            events: terminal::events(),
            screen,
            pixels,
            depth,
            state,
            kept,
            snapshot: None,
            hints: Hints::default(),
            sharpness: SharpnessHistory::default(),
            stored: None,
            waiting: None,
            trained: None,
            encoded: Arc::default(),
            opened: Instant::now(),
            stale: true,
            ended: false,
            drawn_pixels: None,
        })
    }

    /// Until the user or a signal ends it. The terminal is given back when this returns. Files that waited to be labelled and
    /// are shots now go.
    fn run<'scope>(mut self, scope: &'scope Scope<'scope, '_>) -> anyhow::Result<End>
    where
        'a: 'scope,
    {
        let mut running: Option<Running<'scope>> = None;
        let end = loop {
            if self.context.stopped() {
                break Ok(End::Quit);
            }
            let turn = self.turn(scope, &mut running);
            match turn {
                Ok(None) => {}
                Ok(Some(end)) => break Ok(end),
                Err(error) => break Err(error),
            }
        };
        if let Some((training, _)) = &running {
            training.stop.store(true, Ordering::Relaxed);
        }
        if end.is_ok() {
            let labelled = self.kept.iter().filter_map(|kept| kept.origin.as_ref());
            // One that stays is shown again, and then known to be nearly the same as a shot.
            labelled.for_each(|file| drop(std::fs::remove_file(file)));
        }
        end
    }

    fn turn<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        running: &mut Option<Running<'scope>>,
    ) -> anyhow::Result<Option<End>>
    where
        'a: 'scope,
    {
        loop {
            match self.camera.events.try_recv() {
                Ok(event) => self.take(event)?,
                Err(TryRecvError::Disconnected) if !self.ended => {
                    anyhow::bail!(
                        "watching the camera came upon a fault of this program: please report it"
                    )
                }
                Err(_) => break,
            }
        }
        if let Some((training, thread)) = running.take() {
            self.stale = true;
            if thread.is_finished() {
                self.finish_training(thread)?;
            } else {
                self.state.stage = Stage::Training(training.progress());
                *running = Some((training, thread));
            }
        }
        let mut action = self.state.tick(self.opened.elapsed());
        if action == Action::Nothing {
            if std::mem::take(&mut self.stale) {
                self.draw()?;
            }
            action = self.key()?;
        }
        self.stale |= action != Action::Nothing;
        self.camera
            .controls
            .paused
            .store(self.state.paused, Ordering::Relaxed);
        match action {
            Action::Nothing => {}
            Action::Store(class) => self.store(class),
            Action::Undo => self.undo(),
            Action::RemoveNewest(class) => self.remove_newest(class),
            Action::Look => self.look(),
            Action::Skip => self.skip(),
            Action::Train => *running = Some(self.train(scope)),
            Action::Cancel => {
                if let Some((training, _)) = running {
                    training.stop.store(true, Ordering::Relaxed);
                }
            }
            Action::Keep => return Ok(self.trained.take().map(End::Keep)),
            Action::Quit => return Ok(Some(End::Quit)),
        }
        Ok(None)
    }

    /// Waits for a key, a little.
    fn key(&mut self) -> anyhow::Result<Action> {
        let event = match self.events.recv_timeout(POLL) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(Action::Nothing),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!(GONE),
        };
        self.stale = true;
        Ok(match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                self.state.key(key, self.opened.elapsed())
            }
            _ => Action::Nothing,
        })
    }

    fn take(&mut self, event: ViewEvent) -> anyhow::Result<()> {
        self.stale = true;
        match event {
            ViewEvent::Snapshot(snapshot) => {
                self.sharpness.add(snapshot.sharpness);
                self.state.size = snapshot.whole.image.dimensions();
                self.snapshot = Some(snapshot);
                self.hint();
                if let Some(class) = self.waiting.take() {
                    self.store(class);
                }
            }
            ViewEvent::Kept(shot, feature) => {
                let known = self.kept.iter_mut().find(|kept| kept.shot == shot);
                if let Some(kept) = known {
                    kept.feature = Some(feature);
                }
            }
            ViewEvent::Problem(problem) => self.state.warn(problem.to_string()),
            ViewEvent::Ended(Some(error)) => return Err(error),
            ViewEvent::Ended(None) => {
                self.ended = true;
                self.state.note(if self.view.is_live() {
                    "the camera's stream has ended; what is shown was its last picture"
                } else {
                    "that was the last picture that waited; Enter trains on all shots"
                });
            }
        }
        Ok(())
    }

    fn train<'scope>(&mut self, scope: &'scope Scope<'scope, '_>) -> Running<'scope>
    where
        'a: 'scope,
    {
        let adaptation = self.view.adaptation;
        let mut files: Vec<Vec<PathBuf>> = vec![Vec::new(); adaptation.labels.len()];
        for kept in &self.kept {
            files[kept.class].push(kept.shot.path.clone());
        }
        let seed = adaptation.plan.options.seed;
        let pictures = LabelledPictures::from_kept(adaptation.labels.clone(), files, None, seed);
        let training = Arc::new(Training::default());
        let of_thread = Arc::clone(&training);
        self.state.message = None;
        self.state.stage = Stage::Training(training.progress());
        let encoded = Arc::clone(&self.encoded);
        let thread = scope.spawn(move || of_thread.run(adaptation, &pictures, &encoded));
        (training, thread)
    }

    fn finish_training(
        &mut self,
        thread: ScopedJoinHandle<anyhow::Result<(Trained, state::Verdict)>>,
    ) -> anyhow::Result<()> {
        self.state.stage = Stage::Looking;
        match thread.join() {
            Ok(Ok((mut trained, verdict))) => {
                if self.view.is_live() {
                    trained.regions.clone_from(&self.state.regions.list);
                }
                self.trained = Some(Box::new(trained));
                self.state.stage = Stage::Verdict(verdict);
            }
            Ok(Err(error)) => self.state.warn(error.to_string()),
            Err(_) => anyhow::bail!("training came upon a fault of this program: please report it"),
        }
        Ok(())
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        let Session {
            state,
            snapshot,
            hints,
            depth,
            pixels,
            drawn_pixels,
            ..
        } = self;
        let size = self.screen.terminal.size()?;
        let framed = snapshot
            .as_deref()
            .filter(|_| !state.regions.list.is_empty())
            .map(|snapshot| picture::with_frames(&snapshot.whole.image, &state.regions));
        let whole = snapshot.as_deref().map(|snapshot| &snapshot.whole.image);
        let picture = framed.as_ref().or(whole);
        if let (Some(pixels), Some(picture)) = (pixels, picture) {
            let place = draw::picture_place(state, size);
            let fresh = drawn_pixels.as_ref().is_some_and(|(at, _, inside)| {
                at.elapsed() < PIXEL_PACE && place.union(*inside) == place
            });
            if !fresh {
                let shown = pixels.picture(picture, place);
                *drawn_pixels = shown.map(|(protocol, inside)| (Instant::now(), protocol, inside));
            }
        }
        let look = Look {
            prompt: &self.view.adaptation.plan.prompt,
            source: match &snapshot {
                Some(waiting) if !self.view.is_live() => &waiting.whole.source,
                _ => &self.view.title,
            },
            in_use: &self.camera.in_use.title,
            snapshot: snapshot.as_deref(),
            picture,
            hints,
            depth: *depth,
            pixels: drawn_pixels
                .as_ref()
                .map(|(_, protocol, inside)| (protocol, *inside)),
        };
        let drawn = self
            .screen
            .terminal
            .draw(|frame| draw::draw(frame, state, &look));
        drawn.context(GONE)?;
        Ok(())
    }
}
