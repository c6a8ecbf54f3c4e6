//! A live camera: its frames are captured on a thread of their own, and only the newest waits for whoever asks, so that
//! slow work drops frames instead of falling behind. A camera that hangs, fails or goes away is opened again, with
//! growing pauses, until its time is up. It knows no kinds of cameras: each is a function that captures.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::frame::RawFrame;
use super::{Delivery, FramesError, reuse};

/// Captures until the stream ends for good (`Ok`) or fails. It hands each frame to the sink, and ends when the sink
/// wants no more.
pub type Capture = dyn Fn(&Sink) -> Result<(), FramesError> + Send + Sync;

/// How long a camera is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// An open camera without a frame for so long has hung: it is opened again.
    pub stall: Duration,
    /// The pause before the first new try; each further one is twice as long, up to [`Timeouts::stall`] and to 5 s.
    pub pause: Duration,
    /// Without a frame for so long, over all tries, it is given up. Only the time in which somebody waits for one counts.
    pub give_up: Duration,
    /// A frame that nobody has taken is what the camera sees for so long; after that it is taken for hanging.
    pub fresh: Duration,
    /// Whoever lets go of the camera waits for so long at most until it has been told so.
    pub goodbye: Duration,
}

impl Timeouts {
    /// The usual ones, but for when a camera is given up.
    pub fn within(give_up: Duration) -> Timeouts {
        let stall = Duration::from_secs(5);
        Timeouts {
            stall,
            pause: Duration::from_millis(500),
            give_up,
            fresh: stall,
            goodbye: Duration::ZERO,
        }
    }

    /// Those of a camera on the network: it may take half of the time until it is given up for a picture.
    pub fn on_network(give_up: Duration) -> Timeouts {
        let usual = Timeouts::within(give_up);
        let stall = (give_up / 2).max(usual.stall).min(give_up).mul_f32(1.25);
        Timeouts {
            stall,
            fresh: stall,
            ..usual
        }
    }
}

/// What comes of waiting for a camera.
#[derive(Debug)]
pub enum Event {
    /// The newest frame, and its number among all that were captured.
    Frame(RawFrame, u64),
    /// The camera failed or fell silent, and is opened again after a pause.
    Lost { reason: String, pause: Duration },
    /// The stream has ended, or the caller has asked to stop.
    End,
}

/// How many frames a live camera sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaptureCounts {
    /// All of them.
    pub captured: u64,
    /// Those that nobody looked at because a newer one came.
    pub dropped: u64,
}

/// Threads that hang in a driver cannot be ended; while so many run, no new one is started.
const MAX_CAPTURES: usize = 4;
/// The longest pause before a camera is opened again.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The longest one after a login that was refused.
const MAX_LOGIN_PAUSE: Duration = Duration::from_secs(60);
/// How often a waiting caller looks whether it should stop.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// A camera that is being captured.
pub struct Live {
    capture: Arc<Capture>,
    shared: Arc<Shared>,
    timeouts: Timeouts,
    /// When the last frame came, or the camera was first opened; later by the time in which nobody waited for one.
    last_frame: Instant,
    /// When the present capture was started; the same.
    opened: Instant,
    /// Since when nobody has waited.
    unattended: Option<Instant>,
    /// When to open again, and how long the pause is.
    reopen: Option<Instant>,
    pause: Duration,
    last_failure: Option<FramesError>,
    /// Since when no frame has been of use, though frames came.
    unusable: Option<Instant>,
    taken: u64,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    delivery: Delivery,
}

#[derive(Default)]
struct State {
    /// With when it came.
    newest: Option<(RawFrame, Instant)>,
    captured: u64,
    /// The capture that may hand over frames; others were given up.
    current: u64,
    /// Captures whose threads still run.
    running: usize,
    /// How the current capture ended.
    ended: Option<Result<(), FramesError>>,
}

/// Where a capture puts its frames.
pub struct Sink {
    shared: Arc<Shared>,
    generation: u64,
}

impl Sink {
    /// Hands over a frame, in place of one that nobody has taken; or, where every frame is wanted, once that one was taken.
    /// False if no more are wanted.
    pub fn put(&self, frame: RawFrame) -> bool {
        let mut state = lock(&self.shared.state);
        let every = self.shared.delivery == Delivery::Every;
        while every && state.newest.is_some() && state.current == self.generation {
            let waited = self.shared.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if state.current != self.generation {
            return false;
        }
        state.captured += 1;
        let before = state.newest.replace((frame, Instant::now()));
        before.into_iter().for_each(|(frame, _)| put_back(frame));
        self.shared.changed.notify_all();
        true
    }

    /// Whether more frames are wanted: to be asked by a capture that waits for long.
    pub fn wanted(&self) -> bool {
        lock(&self.shared.state).current == self.generation
    }
}

impl Live {
    /// Starts to capture, for the newest frames.
    pub fn start(capture: Arc<Capture>, timeouts: Timeouts) -> Live {
        Live::deliver(capture, timeouts, Delivery::Newest)
    }

    /// Starts to capture.
    pub fn deliver(capture: Arc<Capture>, timeouts: Timeouts, delivery: Delivery) -> Live {
        let now = Instant::now();
        let mut live = Live {
            capture,
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
                delivery,
            }),
            timeouts,
            last_frame: now,
            opened: now,
            unattended: None,
            reopen: None,
            pause: timeouts.pause,
            last_failure: None,
            unusable: None,
            taken: 0,
        };
        live.open();
        live
    }

    /// Frames captured so far, and dropped of them.
    pub fn counts(&self) -> CaptureCounts {
        let state = lock(&self.shared.state);
        let waiting = u64::from(state.newest.is_some());
        CaptureCounts {
            captured: state.captured,
            dropped: state.captured - self.taken - waiting,
        }
    }

    /// To be told of each frame that was of use.
    pub fn usable(&mut self) {
        self.unusable = None;
    }

    /// To be told of each frame that was of no use, and why.
    ///
    /// # Errors
    /// [`FramesError::GaveUp`] once no frame has been of use for as long as [`Timeouts::give_up`] allows.
    pub fn unusable(&mut self, reason: &str) -> Result<(), FramesError> {
        let since = *self.unusable.get_or_insert_with(Instant::now);
        if since.elapsed() < self.timeouts.give_up {
            return Ok(());
        }
        Err(FramesError::GaveUp {
            seconds: self.timeouts.give_up.as_secs_f32(),
            cause: Some(Box::new(FramesError::Trouble(reason.to_owned()))),
        })
    }

    /// Waits for the newest frame, for a failure, or for the end. `stop` is asked many times a second.
    ///
    /// # Errors
    /// [`FramesError::GaveUp`] once no frame has come for as long as [`Timeouts::give_up`] allows.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Event, FramesError> {
        // Whoever comes back after a minute has not waited for a minute.
        if let Some(gap) = self.unattended.take().map(|since| since.elapsed()) {
            self.last_frame += gap;
            self.opened += gap;
        }
        let event = self.wait(stop);
        self.unattended = Some(Instant::now());
        event
    }

    fn wait(&mut self, stop: &dyn Fn() -> bool) -> Result<Event, FramesError> {
        loop {
            if stop() {
                return Ok(Event::End);
            }
            let shared = Arc::clone(&self.shared);
            let mut state = lock(&shared.state);
            if state.newest.is_none() && state.ended.is_none() {
                let waited = shared.changed.wait_timeout(state, STOP_INTERVAL);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if let Some((frame, came)) = state.newest.take() {
                if self.is_stale(came, &state) {
                    put_back(frame);
                    // How the capture has ended is met next.
                    if state.ended.is_some() {
                        continue;
                    }
                    drop(state);
                    let seconds = came.elapsed().as_secs_f32();
                    return Ok(self.failed(FramesError::Stalled { seconds }));
                }
                // A capture may wait to hand over the next.
                shared.changed.notify_all();
                self.taken += 1;
                self.last_frame = Instant::now();
                self.pause = self.timeouts.pause;
                self.last_failure = None;
                return Ok(Event::Frame(frame, state.captured - 1));
            }
            let ended = state.ended.take();
            drop(state);
            match ended {
                Some(Ok(())) => return Ok(Event::End),
                Some(Err(
                    error @ (FramesError::StdinContent { ended: true, .. }
                    | FramesError::FileContent { ended: true, .. }),
                )) => return Err(error),
                Some(Err(error)) => return Ok(self.failed(error)),
                None => {}
            }
            if self.last_frame.elapsed() >= self.timeouts.give_up {
                return Err(FramesError::GaveUp {
                    seconds: self.timeouts.give_up.as_secs_f32(),
                    cause: self.last_failure.take().map(Box::new),
                });
            }
            match self.reopen {
                Some(at) if Instant::now() >= at => self.open(),
                Some(_) => {}
                None if self.opened.max(self.last_frame).elapsed() >= self.timeouts.stall => {
                    let seconds = self.timeouts.stall.as_secs_f32();
                    return Ok(self.failed(FramesError::Stalled { seconds }));
                }
                None => {}
            }
        }
    }

    /// Whether a frame that `came` then, and nobody took, is no longer what the camera sees. What a stream ended with stays.
    fn is_stale(&self, came: Instant, state: &State) -> bool {
        self.shared.delivery == Delivery::Newest
            && came.elapsed() >= self.timeouts.fresh
            && !matches!(state.ended, Some(Ok(())))
    }

    /// Gives the present capture up, and plans the next.
    fn failed(&mut self, error: FramesError) -> Event {
        lock(&self.shared.state).current += 1;
        self.shared.changed.notify_all();
        let mut pause = self.pause;
        self.pause = (2 * pause).min(self.timeouts.stall).min(MAX_PAUSE);
        if error.is_refused_login() {
            // Cameras lock an account after a handful of wrong passwords.
            pause = pause.max(MAX_LOGIN_PAUSE.min(self.timeouts.give_up / 3));
        }
        self.reopen = Some(Instant::now() + pause);
        let reason = error.to_string();
        self.last_failure = Some(error);
        Event::Lost { reason, pause }
    }

    fn open(&mut self) {
        let mut state = lock(&self.shared.state);
        if state.running >= MAX_CAPTURES {
            self.reopen = Some(Instant::now() + self.timeouts.stall);
            return;
        }
        state.running += 1;
        state.ended = None;
        let sink = Sink {
            shared: Arc::clone(&self.shared),
            generation: state.current,
        };
        drop(state);
        (self.reopen, self.opened) = (None, Instant::now());
        let capture = Arc::clone(&self.capture);
        thread::spawn(move || {
            let captured =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| capture(&sink)));
            let ended = captured.unwrap_or(Err(FramesError::Driver));
            let mut state = lock(&sink.shared.state);
            state.running -= 1;
            if state.current == sink.generation {
                state.ended = Some(ended);
            }
            sink.shared.changed.notify_all();
        });
    }
}

impl Drop for Live {
    /// Tells the capture to end, and gives it time to say goodbye where its camera wants that; one that hangs is left to the end of
    /// the process.
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.current += 1;
        self.shared.changed.notify_all();
        let shared = &self.shared.changed;
        let _ = shared.wait_timeout_while(state, self.timeouts.goodbye, |state| state.running > 0);
    }
}

fn put_back(frame: RawFrame) {
    if let RawFrame::Planar { data, .. } = frame {
        reuse::put(data);
    }
}

/// What a panic left behind is whole: every change to the state is one assignment.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    const QUICK: Timeouts = Timeouts {
        stall: Duration::from_millis(60),
        pause: Duration::from_millis(5),
        give_up: Duration::from_millis(600),
        fresh: Duration::from_secs(60),
        goodbye: Duration::ZERO,
    };
    /// Of captures that do not hang, on a machine that has much else to do.
    const PATIENT: Timeouts = Timeouts {
        stall: Duration::from_secs(60),
        give_up: Duration::from_secs(120),
        ..QUICK
    };

    fn frame(number: u8) -> RawFrame {
        RawFrame::Jpeg(vec![number])
    }

    fn live(capture: impl Fn(&Sink) -> Result<(), FramesError> + Send + Sync + 'static) -> Live {
        Live::start(Arc::new(capture), PATIENT)
    }

    /// Waits for the next frame; the failures before it.
    fn next_frame(live: &mut Live) -> (RawFrame, Vec<String>) {
        let mut reported = Vec::new();
        loop {
            match live.next(&|| false).unwrap() {
                Event::Frame(frame, _) => return (frame, reported),
                Event::Lost { reason, .. } => reported.push(reason),
                Event::End => panic!("ended after {reported:?}"),
            }
        }
    }

    fn broken(what: &'static str) -> FramesError {
        FramesError::Stdin(std::io::Error::other(what))
    }

    #[test]
    fn only_the_newest_frame_waits_and_the_others_are_counted() {
        let mut live = live(|sink| {
            (0..100).for_each(|number| assert!(sink.put(frame(number))));
            Ok(())
        });
        while lock(&live.shared.state).running > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let Event::Frame(newest, number) = live.next(&|| false).unwrap() else {
            panic!("a frame waits")
        };
        assert_eq!((newest, number), (frame(99), 99));
        let CaptureCounts { captured, dropped } = live.counts();
        assert_eq!((captured, dropped), (100, 99));
        assert!(matches!(live.next(&|| false).unwrap(), Event::End));
    }

    #[test]
    fn nothing_is_dropped_where_every_frame_is_wanted() {
        let capture = |sink: &Sink| {
            (0..100).for_each(|number| assert!(sink.put(frame(number))));
            Ok(())
        };
        let mut live = Live::deliver(Arc::new(capture), QUICK, Delivery::Every);
        for number in 0..100 {
            let Event::Frame(found, index) = live.next(&|| false).unwrap() else {
                panic!("frame {number} is missing")
            };
            assert_eq!((found, index), (frame(number), number.into()));
            if number % 40 == 0 {
                // A slow consumer is no reason to take the capture for hanging.
                thread::sleep(2 * QUICK.stall);
            }
        }
        assert!(matches!(live.next(&|| false).unwrap(), Event::End));
        let CaptureCounts { captured, dropped } = live.counts();
        assert_eq!((captured, dropped), (100, 0));
        // A capture that waits ends with whoever wanted its frames.
        let shared = Arc::clone(&live.shared);
        drop(live);
        assert_eq!(lock(&shared.state).running, 0);
    }

    #[test]
    fn a_camera_that_fails_is_opened_again_and_the_failure_reported() {
        let tries = AtomicUsize::new(0);
        let mut live = live(move |sink| match tries.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Err(broken("unplugged")),
            _ => {
                while sink.put(frame(7)) {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            }
        });
        let (found, reported) = next_frame(&mut live);
        assert_eq!(found, frame(7));
        assert_eq!(reported.len(), 2, "{reported:?}");
        assert!(reported[0].contains("unplugged"), "{reported:?}");
    }

    /// With `--every 1m` the first failure ended the program without one new try: its own rest counted as the camera's silence.
    #[test]
    fn time_in_which_nobody_waits_is_no_silence_of_the_camera() {
        let tries = AtomicUsize::new(0);
        let capture = move |sink: &Sink| {
            assert!(sink.put(frame(tries.fetch_add(1, Ordering::SeqCst) as u8)));
            Err(broken("unplugged"))
        };
        let timeouts = Timeouts {
            give_up: Duration::from_secs(3),
            ..PATIENT
        };
        let mut live = Live::start(Arc::new(capture), timeouts);
        assert_eq!(next_frame(&mut live).0, frame(0));
        thread::sleep(timeouts.give_up + timeouts.pause);
        let (found, reported) = next_frame(&mut live);
        assert_eq!((found, reported.len()), (frame(1), 1));
    }

    #[test]
    fn a_frame_that_has_waited_since_the_camera_fell_silent_is_not_what_it_sees() {
        let tries = AtomicUsize::new(0);
        let timeouts = Timeouts {
            fresh: Duration::from_secs(1),
            ..PATIENT
        };
        let capture = move |sink: &Sink| {
            let nth = tries.fetch_add(1, Ordering::SeqCst) as u8;
            assert!(sink.put(frame(nth)));
            while sink.wanted() {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        };
        let mut live = Live::start(Arc::new(capture), timeouts);
        while lock(&live.shared.state).newest.is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(timeouts.fresh);
        let (found, reported) = next_frame(&mut live);
        assert_eq!((found, reported.len()), (frame(1), 1), "{reported:?}");
    }

    #[test]
    fn a_camera_that_hangs_is_left_and_opened_again() {
        let timeouts = Timeouts {
            give_up: PATIENT.give_up,
            ..QUICK
        };
        let tries = AtomicUsize::new(0);
        let (put, puts) = mpsc::channel();
        let capture = move |sink: &Sink| {
            if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                while tries.load(Ordering::SeqCst) == 1 {
                    thread::sleep(Duration::from_millis(1));
                }
                put.send(sink.put(frame(0))).unwrap();
                return Err(broken("late"));
            }
            while sink.put(frame(1)) {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        };
        let mut live = Live::start(Arc::new(capture), timeouts);
        let (found, reported) = next_frame(&mut live);
        assert_eq!(found, frame(1));
        assert!(reported[0].contains("no frame for"), "{reported:?}");
        let late = puts.recv().unwrap();
        assert!(!late, "a capture that was given up puts nothing");
    }

    #[test]
    fn a_camera_that_never_comes_back_is_given_up_with_the_last_reason() {
        let capture = |_: &Sink| Err(broken("no such device"));
        let mut live = Live::start(Arc::new(capture), QUICK);
        let error = loop {
            match live.next(&|| false) {
                Ok(Event::Lost { .. }) => {}
                Ok(event) => panic!("{event:?}"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("no such device"), "{error}");
    }

    #[test]
    fn captures_that_all_hang_are_few_and_a_panic_is_a_failure() {
        let started = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&started);
        let hang = move |_: &Sink| {
            count.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_secs(2));
            Ok(())
        };
        let mut hanging = Live::start(Arc::new(hang), QUICK);
        while hanging.next(&|| false).is_ok() {}
        assert!(started.load(Ordering::SeqCst) <= MAX_CAPTURES);

        let mut panicking = live(|_| panic!("a driver's mistake (part of a test)"));
        let Event::Lost { reason, .. } = panicking.next(&|| false).unwrap() else {
            panic!("a panic is a failure")
        };
        assert!(reason.contains("driver"), "{reason}");
    }

    #[test]
    fn whoever_waits_can_stop() {
        let mut live = live(|_| {
            thread::sleep(Duration::from_secs(2));
            Ok(())
        });
        assert!(matches!(live.next(&|| true).unwrap(), Event::End));
    }
}
