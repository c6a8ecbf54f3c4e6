//! Teaching at a terminal: the camera's picture, a key a label that keeps what is shown as a shot, training, and the
//! question whether the new prompt may stay. This module carries out what the keys ask for; what they mean is in `state`,
//! how it looks in `draw`. Every shot is on the disk before it is counted, so that whatever ends the view loses nothing.

mod draw;
mod picture;
mod state;
mod terminal;
mod train;
mod watch;

use super::super::pictures::LabelledPictures;
use super::super::{Context, Exit};
use super::adaptation::{Adaptation, Trained};
use crate::frames::{CameraOptions, CameraSource};
use crate::store::Shot;
use anyhow::Context as _;
use draw::{Hints, Look};
use ndarray::Array1;
use picture::Pixels;
use ratatui::crossterm::event::{Event, KeyEventKind};
use ratatui_image::protocol::Protocol;
use state::{Action, Stage, State};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};
use terminal::{Depth, Screen};
use train::{Encoded, Training};
use watch::{Guesser, News, Sight, Wishes, watch};

pub use terminal::is_there;

/// How long the view waits for a key before it looks at everything else.
const GLANCE: Duration = Duration::from_millis(30);
const GONE: &str = "the terminal is gone";
/// The shortest time between two pictures that are sent as pixels: they are ten times the bytes of blocks.
const PIXEL_PACE: Duration = Duration::from_millis(250);
/// Two pictures whose features have a cosine above this show the same thing in the same way. With the default model the two
/// most alike of 3 x 192 demo scenes have 0.989, and most pictures have more with themselves under fresh noise.
const DUPLICATE: f32 = 0.99;
/// A picture with less than this share of the usual sharpness is blurred.
const BLURRED: f32 = 0.35;
/// Over how many frames the usual sharpness is taken.
const REMEMBERED: usize = 60;

/// What the view is opened with.
pub struct View<'a> {
    pub source: CameraSource,
    pub options: CameraOptions,
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
        labels.position(|label| label.name == shot.label)
    };
    let kept = context.home.shots_in(&folder)?.into_iter();
    let kept = kept.filter_map(|shot| {
        Some(Kept {
            class: class(&shot)?,
            shot,
            feature: None,
            ours: false,
        })
    });
    let kept: Vec<Kept> = kept.collect();
    let guesser = Guesser::new(adaptation, context)?;
    let earlier: Vec<Shot> = kept.iter().map(|kept| kept.shot.clone()).collect();
    let wishes = Wishes::default();
    let (sender, news) = mpsc::sync_channel(1);
    let end = thread::scope(|scope| {
        let (guesser, wishes) = (&guesser, &wishes);
        let watcher = scope.spawn(move || {
            let View {
                source, options, ..
            } = view;
            watch(
                source, options, adaptation, guesser, earlier, wishes, &sender,
            );
        });
        let session = Session::new(view, context, kept, guesser, wishes, news);
        let end = session.and_then(|session| session.run(scope));
        wishes.stop.store(true, Ordering::Relaxed);
        // Its panic, if it had one, has been told.
        let _ = watcher.join();
        end
    });
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
                "no prompt was kept; {shots} shots are in {}: the same command goes on with them, `edge-rlp adapt \
                 --shots-from{}` trains on them",
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
                "the view ended; {shots} shots are kept in {}",
                folder.display()
            );
            Err(error.context(kept))
        }
    }
}

/// The view while it is open.
struct Session<'a> {
    view: &'a View<'a>,
    context: &'a Context,
    guesser: &'a Guesser<'a>,
    wishes: &'a Wishes,
    news: Receiver<News>,
    events: Receiver<Event>,
    screen: Screen,
    pixels: Option<Pixels>,
    depth: Depth,
    state: State,
    kept: Vec<Kept>,
    sight: Option<Box<Sight>>,
    hints: Hints,
    sharpness: VecDeque<f32>,
    /// The number of the last frame that became a shot.
    stored: Option<u64>,
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
        guesser: &'a Guesser<'a>,
        wishes: &'a Wishes,
        news: Receiver<News>,
    ) -> anyhow::Result<Session<'a>> {
        let labels = view.adaptation.labels.iter().enumerate();
        let count = |class| kept.iter().filter(|kept| kept.class == class).count();
        let mut state = State::new(labels.map(|(class, label)| (label.name.clone(), count(class))));
        match kept.len() {
            0 => state.tell("press a label's key while the camera shows it; ? for help"),
            count => state.tell(format!("{count} shots of earlier are here; ? for help")),
        }
        let screen = Screen::open().context("the terminal cannot be taken")?;
        let depth = Depth::of(|name| std::env::var(name).ok());
        let pixels = match view.blocks || depth == Depth::Grey {
            true => None,
            false => Pixels::ask(),
        };
        Ok(Session {
            view,
            context,
            guesser,
            wishes,
            news,
            // Not before the terminal was asked about pixels: its answer comes the same way.
            events: terminal::events(),
            screen,
            pixels,
            depth,
            state,
            kept,
            sight: None,
            hints: Hints::default(),
            sharpness: VecDeque::new(),
            stored: None,
            trained: None,
            encoded: Arc::default(),
            opened: Instant::now(),
            stale: true,
            ended: false,
            drawn_pixels: None,
        })
    }

    /// Until the user or a signal ends it. The terminal is given back when this returns.
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
            match self.news.try_recv() {
                Ok(news) => self.hear(news)?,
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
        self.wishes
            .paused
            .store(self.state.paused, Ordering::Relaxed);
        match action {
            Action::Nothing => {}
            Action::Store(class) => self.store(class),
            Action::Undo => self.undo(),
            Action::RemoveNewest(class) => self.remove_newest(class),
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
        let event = match self.events.recv_timeout(GLANCE) {
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

    fn hear(&mut self, news: News) -> anyhow::Result<()> {
        self.stale = true;
        match news {
            News::Sight(sight) => {
                if self.sharpness.len() == REMEMBERED {
                    self.sharpness.pop_front();
                }
                self.sharpness.push_back(sight.sharpness);
                self.sight = Some(sight);
                self.hint();
            }
            News::Kept(shot, feature) => {
                let known = self.kept.iter_mut().find(|kept| kept.shot == shot);
                if let Some(kept) = known {
                    kept.feature = Some(feature);
                }
            }
            News::Trouble(told) => self.state.complain(told),
            News::Ended(Some(error)) => return Err(error),
            News::Ended(None) => {
                self.ended = true;
                self.state
                    .tell("the camera's stream has ended; what is shown was its last picture");
            }
        }
        Ok(())
    }

    /// What is to be said about the picture that is shown.
    fn hint(&mut self) {
        let Some(sight) = &self.sight else {
            return;
        };
        let mut usual: Vec<f32> = self.sharpness.iter().copied().collect();
        usual.sort_by(f32::total_cmp);
        let sharpest = usual.last().copied().unwrap_or(0.0).max(f32::MIN_POSITIVE);
        let middle = usual[usual.len() / 2];
        let likeness = |kept: &Kept| Some((kept.feature.as_ref()?.dot(&sight.feature), kept.class));
        let closest = self
            .kept
            .iter()
            .filter_map(likeness)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        self.hints = Hints {
            sharpness: (sight.sharpness / sharpest).sqrt(),
            blurred: sight.sharpness < BLURRED * middle,
            closest,
            duplicate: closest.is_some_and(|(cosine, _)| cosine > DUPLICATE),
        };
    }

    fn store(&mut self, class: usize) {
        let Some(sight) = &self.sight else {
            return self.state.complain("there is no picture yet");
        };
        if self.stored == Some(sight.frame.index) {
            // A burst meets the same frame where the camera is slower than it.
            if self.state.burst_left().is_none() {
                let told = "this very picture is a shot already: wait for the next, or take it back with u";
                self.state.tell(told);
            }
            return;
        }
        let name = &self.view.adaptation.labels[class].name;
        let home = &self.context.home;
        let jpeg = sight.frame.to_jpeg().map_err(|error| error.to_string());
        let stored = jpeg.and_then(|jpeg| {
            home.add_shot(&self.view.adaptation.plan.prompt, name, &jpeg)
                .map_err(|error| error.to_string())
        });
        let shot = match stored {
            Ok(shot) => shot,
            Err(told) => return self.state.complain(told),
        };
        self.stored = Some(sight.frame.index);
        self.state.rows[class].shots += 1;
        let doubt = match (self.hints.blurred, self.hints.duplicate) {
            (true, _) => ", but it is blurred",
            (_, true) => ", but it is nearly the same as one that is kept",
            _ => "",
        };
        let count = self.state.rows[class].shots;
        self.state.tell(format!("{name} {count} kept{doubt}"));
        self.kept.push(Kept {
            shot,
            class,
            feature: Some(sight.feature.clone()),
            ours: true,
        });
        self.hint();
        self.wishes.next.store(true, Ordering::Relaxed);
    }

    fn undo(&mut self) {
        match self.kept.iter().rposition(|kept| kept.ours) {
            Some(place) => self.remove(place),
            None => self.state.tell(
                "nothing of this session is left to take back; Delete removes the newest shot of the marked label",
            ),
        }
    }

    fn remove_newest(&mut self, class: usize) {
        match self.kept.iter().rposition(|kept| kept.class == class) {
            Some(place) => self.remove(place),
            None => self.state.tell("the marked label has no shot"),
        }
    }

    fn remove(&mut self, place: usize) {
        let Kept { shot, class, .. } = &self.kept[place];
        if let Err(error) = self.context.home.remove_shot(shot) {
            return self.state.complain(error.to_string());
        }
        let row = &mut self.state.rows[*class];
        row.shots = row.shots.saturating_sub(1);
        let told = format!("a shot of {} was taken back", row.name);
        self.kept.remove(place);
        self.stored = None;
        self.state.tell(told);
        self.hint();
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
        let told = Arc::clone(&training);
        self.state.message = None;
        self.state.stage = Stage::Training(training.progress());
        let encoded = Arc::clone(&self.encoded);
        let thread = scope.spawn(move || told.run(adaptation, &pictures, &encoded));
        (training, thread)
    }

    fn finish_training(
        &mut self,
        thread: ScopedJoinHandle<anyhow::Result<(Trained, state::Verdict)>>,
    ) -> anyhow::Result<()> {
        self.state.stage = Stage::Looking;
        match thread.join() {
            Ok(Ok((trained, verdict))) => {
                self.trained = Some(Box::new(trained));
                self.state.stage = Stage::Verdict(verdict);
            }
            Ok(Err(error)) => self.state.complain(error.to_string()),
            Err(_) => anyhow::bail!("training came upon a fault of this program: please report it"),
        }
        Ok(())
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        let Session {
            state,
            sight,
            hints,
            depth,
            pixels,
            drawn_pixels,
            ..
        } = self;
        let size = self.screen.terminal.size()?;
        if let (Some(pixels), Some(sight)) = (pixels, sight.as_deref()) {
            let place = draw::picture_place(state, size);
            let fresh = drawn_pixels.as_ref().is_some_and(|(at, _, inside)| {
                at.elapsed() < PIXEL_PACE && place.union(*inside) == place
            });
            if !fresh {
                let shown = pixels.picture(&sight.frame.image, place);
                *drawn_pixels = shown.map(|(protocol, inside)| (Instant::now(), protocol, inside));
            }
        }
        let source = self.view.source.to_string();
        let look = Look {
            prompt: &self.view.adaptation.plan.prompt,
            source: &source,
            guesser: &self.guesser.title,
            sight: sight.as_deref(),
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
