//! A live camera: its frames are captured on a thread of their own, and only the newest waits for whoever asks, so that
//! slow work drops frames instead of falling behind. A camera that hangs, fails or goes away is opened again, with
//! growing pauses, until its time is up. It must not know kinds of cameras: each is a function that captures.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use image::RgbImage;

use super::{FramesError, MAX_PIXELS, PictureError, decode_picture};

/// A frame as a camera hands it over; nothing is decoded that nobody looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum RawFrame {
    /// A JPEG picture.
    Jpeg(Vec<u8>),
    /// Two bytes a pixel, Y U Y V, row by row (YUYV, also called YUY2), in the limited range of BT.601 as V4L2 means it.
    Yuyv {
        width: u32,
        height: u32,
        data: Vec<u8>,
    },
}

impl RawFrame {
    /// The picture, 8 bits a channel.
    ///
    /// # Errors
    /// If the bytes are no picture or too few.
    pub fn decode(&self) -> Result<RgbImage, PictureError> {
        match self {
            RawFrame::Jpeg(bytes) => decode_picture(bytes, MAX_PIXELS),
            RawFrame::Yuyv {
                width,
                height,
                data,
            } => yuyv(*width, *height, data),
        }
    }
}

fn yuyv(width: u32, height: u32, data: &[u8]) -> Result<RgbImage, PictureError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        let limit = MAX_PIXELS;
        return Err(PictureError::TooManyPixels {
            width,
            height,
            limit,
        });
    }
    if width % 2 == 1 || pixels == 0 || (data.len() as u64) < 2 * pixels {
        return Err(PictureError::Truncated);
    }
    let pairs = data.chunks_exact(4).take(pixels as usize / 2);
    let rgb = pairs.flat_map(|pair| {
        let [first, u, second, v] = [pair[0], pair[1], pair[2], pair[3]].map(f32::from);
        let (u, v) = (u - 128.0, v - 128.0);
        [first, second].into_iter().flat_map(move |y| {
            let y = 1.164_383 * (y - 16.0);
            [
                y + 1.596_027 * v,
                y - 0.391_762 * u - 0.812_968 * v,
                y + 2.017_232 * u,
            ]
            .map(|channel| channel.round().clamp(0.0, 255.0) as u8)
        })
    });
    RgbImage::from_raw(width, height, rgb.collect()).ok_or(PictureError::Truncated)
}

/// Captures until the stream ends for good (`Ok`) or fails. It hands each frame to the sink, and ends when the sink
/// wants no more.
pub type Capture = dyn Fn(&Sink) -> Result<(), FramesError> + Send + Sync;

/// How much a camera may try one's patience.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// An open camera without a frame for so long has hung: it is opened again.
    pub stall: Duration,
    /// The pause before the first new try; each further one is twice as long, up to [`Patience::stall`].
    pub pause: Duration,
    /// Without a frame for so long, over all tries, it is given up.
    pub give_up: Duration,
}

impl Patience {
    /// The usual patience, but for when a camera is given up.
    pub fn within(give_up: Duration) -> Patience {
        Patience {
            give_up,
            ..Patience::default()
        }
    }
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            stall: Duration::from_secs(5),
            pause: Duration::from_millis(500),
            give_up: Duration::from_secs(30),
        }
    }
}

/// What comes of waiting for a camera.
#[derive(Debug)]
pub enum Event {
    /// The newest frame, and its number among all that were captured.
    Frame(RawFrame, u64),
    /// Something went wrong and is being mended; in a sentence.
    Trouble(String),
    /// The stream has ended, or the caller has asked to stop.
    End,
}

/// Threads that hang in a driver cannot be ended; with more than this many, no new one is started.
const MOST_CAPTURES: usize = 4;
/// How often a waiting caller looks whether it should stop.
const GLANCE: Duration = Duration::from_millis(50);

/// A camera that is being captured.
pub struct Live {
    capture: Arc<Capture>,
    shared: Arc<Shared>,
    patience: Patience,
    /// When the last frame came, or the camera was first opened.
    last_frame: Instant,
    /// When the present capture was started.
    opened: Instant,
    /// When to open again, and how long the pause is.
    reopen: Option<Instant>,
    pause: Duration,
    last_failure: Option<String>,
    taken: u64,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    newest: Option<RawFrame>,
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
    /// Hands over a frame, in place of one that nobody has taken. False if no more are wanted.
    pub fn put(&self, frame: RawFrame) -> bool {
        let mut state = lock(&self.shared.state);
        if state.current != self.generation {
            return false;
        }
        state.captured += 1;
        state.newest = Some(frame);
        self.shared.changed.notify_all();
        true
    }

    /// Whether more frames are wanted: to be asked by a capture that waits for long.
    pub fn wanted(&self) -> bool {
        lock(&self.shared.state).current == self.generation
    }
}

impl Live {
    /// Starts to capture.
    pub fn start(capture: Arc<Capture>, patience: Patience) -> Live {
        let now = Instant::now();
        let mut live = Live {
            capture,
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
            patience,
            last_frame: now,
            opened: now,
            reopen: None,
            pause: patience.pause,
            last_failure: None,
            taken: 0,
        };
        live.open();
        live
    }

    /// Frames captured so far, and those of them that were dropped because a newer one came.
    pub fn counts(&self) -> (u64, u64) {
        let state = lock(&self.shared.state);
        let waiting = u64::from(state.newest.is_some());
        (state.captured, state.captured - self.taken - waiting)
    }

    /// Waits for the newest frame, for trouble to tell, or for the end. `stop` is asked many times a second.
    ///
    /// # Errors
    /// [`FramesError::GaveUp`] once no frame has come for as long as [`Patience::give_up`] allows.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Event, FramesError> {
        loop {
            if stop() {
                return Ok(Event::End);
            }
            let shared = Arc::clone(&self.shared);
            let mut state = lock(&shared.state);
            if state.newest.is_none() && state.ended.is_none() {
                let waited = shared.changed.wait_timeout(state, GLANCE);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if let Some(frame) = state.newest.take() {
                self.taken += 1;
                self.last_frame = Instant::now();
                self.pause = self.patience.pause;
                self.last_failure = None;
                return Ok(Event::Frame(frame, state.captured - 1));
            }
            let ended = state.ended.take();
            drop(state);
            match ended {
                Some(Ok(())) => return Ok(Event::End),
                Some(Err(error)) => return Ok(self.failed(error.to_string())),
                None => {}
            }
            if self.last_frame.elapsed() >= self.patience.give_up {
                return Err(FramesError::GaveUp {
                    seconds: self.patience.give_up.as_secs_f32(),
                    reason: self.last_failure.take(),
                });
            }
            match self.reopen {
                Some(at) if Instant::now() >= at => self.open(),
                Some(_) => {}
                None if self.opened.max(self.last_frame).elapsed() >= self.patience.stall => {
                    let seconds = self.patience.stall.as_secs_f32();
                    return Ok(self.failed(format!("no frame for {seconds} s")));
                }
                None => {}
            }
        }
    }

    /// Gives the present capture up, and plans the next.
    fn failed(&mut self, reason: String) -> Event {
        lock(&self.shared.state).current += 1;
        let again = format!(
            "{reason}; trying again in {:.1} s",
            self.pause.as_secs_f32()
        );
        self.reopen = Some(Instant::now() + self.pause);
        self.pause = (2 * self.pause).min(self.patience.stall);
        self.last_failure = Some(reason);
        Event::Trouble(again)
    }

    fn open(&mut self) {
        let mut state = lock(&self.shared.state);
        if state.running >= MOST_CAPTURES {
            self.reopen = Some(Instant::now() + self.patience.stall);
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
    /// Tells the capture to end; one that hangs is left to the end of the process.
    fn drop(&mut self) {
        lock(&self.shared.state).current += 1;
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

    const QUICK: Patience = Patience {
        stall: Duration::from_millis(60),
        pause: Duration::from_millis(5),
        give_up: Duration::from_millis(600),
    };

    fn frame(number: u8) -> RawFrame {
        RawFrame::Jpeg(vec![number])
    }

    fn live(capture: impl Fn(&Sink) -> Result<(), FramesError> + Send + Sync + 'static) -> Live {
        Live::start(Arc::new(capture), QUICK)
    }

    /// Waits for the next frame; what was told before it.
    fn next_frame(live: &mut Live) -> (RawFrame, Vec<String>) {
        let mut told = Vec::new();
        loop {
            match live.next(&|| false).unwrap() {
                Event::Frame(frame, _) => return (frame, told),
                Event::Trouble(sentence) => told.push(sentence),
                Event::End => panic!("ended after {told:?}"),
            }
        }
    }

    fn broken(what: &str) -> FramesError {
        FramesError::Camera(what.into())
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
        assert_eq!(live.counts(), (100, 99));
        assert!(matches!(live.next(&|| false).unwrap(), Event::End));
    }

    #[test]
    fn a_camera_that_fails_is_opened_again_and_the_failure_told() {
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
        let (found, told) = next_frame(&mut live);
        assert_eq!(found, frame(7));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("unplugged") && told[0].contains("again"),
            "{told:?}"
        );
    }

    #[test]
    fn a_camera_that_hangs_is_left_and_opened_again() {
        let tries = AtomicUsize::new(0);
        let mut live = live(move |sink| {
            if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                thread::sleep(Duration::from_millis(400));
                assert!(
                    !sink.put(frame(0)),
                    "a capture that was given up puts nothing"
                );
                return Err(broken("late"));
            }
            sink.put(frame(1));
            thread::sleep(Duration::from_millis(500));
            Ok(())
        });
        let (found, told) = next_frame(&mut live);
        assert_eq!(found, frame(1));
        assert!(told[0].contains("no frame for"), "{told:?}");
    }

    #[test]
    fn a_camera_that_never_comes_back_is_given_up_with_the_last_reason() {
        let mut live = live(|_| Err(broken("no such device")));
        let error = loop {
            match live.next(&|| false) {
                Ok(Event::Trouble(_)) => {}
                Ok(event) => panic!("{event:?}"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("no such device"), "{error}");
    }

    #[test]
    fn captures_that_all_hang_are_few_and_a_panic_is_trouble() {
        let started = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&started);
        let mut hanging = live(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_secs(2));
            Ok(())
        });
        while hanging.next(&|| false).is_ok() {}
        assert!(started.load(Ordering::SeqCst) <= MOST_CAPTURES);

        let mut panicking = live(|_| panic!("a driver's mistake (part of a test)"));
        let Event::Trouble(told) = panicking.next(&|| false).unwrap() else {
            panic!("trouble is told")
        };
        assert!(told.contains("driver"), "{told}");
    }

    #[test]
    fn whoever_waits_can_stop() {
        let mut live = live(|_| {
            thread::sleep(Duration::from_secs(2));
            Ok(())
        });
        assert!(matches!(live.next(&|| true).unwrap(), Event::End));
    }

    #[test]
    fn yuyv_is_bt601_and_too_few_bytes_are_an_error() {
        // White, black; then pure red (ITU-R BT.601: Y 81, Cb 90, Cr 240).
        let data = vec![235, 128, 16, 128, 81, 90, 81, 240, 0, 0];
        let raw = |data| RawFrame::Yuyv {
            width: 2,
            height: 2,
            data,
        };
        let picture = raw(data.clone()).decode().unwrap();
        let pixels: Vec<[u8; 3]> = picture.pixels().map(|pixel| pixel.0).collect();
        assert_eq!(pixels[..2], [[255; 3], [0; 3]]);
        assert!(
            pixels[2][0] >= 254 && pixels[2][1] <= 1 && pixels[2][2] <= 1,
            "{pixels:?}"
        );
        assert!(matches!(
            raw(data[..7].to_vec()).decode(),
            Err(PictureError::Truncated)
        ));
    }
}
