//! A watched folder as a camera: looked at on a thread of its own, so that a share which hangs is noticed, and looked for
//! again where it has gone away, until its time is up.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::FramesError;
use super::live::Timeouts;
use super::watched_folder::{Arrival, WatchedFolder};

/// How often a waiting caller looks whether it should stop.
const STOP_INTERVAL: Duration = Duration::from_millis(50);
/// The longest pause before the folder is looked for again.
const MAX_PAUSE: Duration = Duration::from_secs(5);
const NO_ANSWER: &str = "the folder does not answer";
/// For so long whoever opens it waits for the first listing.
const FIRST_LISTING: Duration = Duration::from_secs(2);

/// A folder that may go away.
pub(super) struct FolderCamera {
    /// Asks for the next arrival; the thread ends when it is dropped.
    requests: Sender<()>,
    arrivals: Receiver<Found>,
    asked: bool,
    shared: Arc<Mutex<Health>>,
    timeouts: Timeouts,
    /// When something last came of it.
    heard: Instant,
    /// Whether it was told that it hangs.
    hangs: bool,
}

/// What comes of waiting for a picture of the folder.
pub(super) enum FolderEvent {
    /// Of the folder.
    Arrival(Arrival),
    /// It has gone, or hangs, and is looked for again after a pause.
    Away { reason: String, pause: Duration },
}

enum Found {
    Arrival(Arrival),
    Away(String, Duration),
}

/// How the folder was, when it was last looked at.
struct Health {
    /// When it was looked at.
    at: Instant,
    /// Since when it has been away, and why.
    away: Option<(Instant, String)>,
    /// Nobody asks any more.
    unwanted: bool,
}

impl Drop for FolderCamera {
    fn drop(&mut self) {
        lock(&self.shared).unwanted = true;
    }
}

impl FolderCamera {
    /// Watches the folder at `path`; one that is away is waited for.
    ///
    /// # Errors
    /// If it is no folder.
    pub fn open(path: &Path, timeouts: Timeouts) -> Result<FolderCamera, FramesError> {
        let (requests, asked) = mpsc::channel();
        let (sender, arrivals) = mpsc::channel();
        let (opened, listed) = mpsc::channel();
        let shared = Arc::new(Mutex::new(Health {
            at: Instant::now(),
            away: None,
            unwanted: false,
        }));
        let watcher = Watcher {
            asked,
            arrivals: sender,
            shared: Arc::clone(&shared),
            pause: timeouts.pause,
            timeouts,
        };
        let path = path.to_owned();
        thread::spawn(move || watcher.run(&path, &opened));
        // What is put there from here on is new.
        if let Ok(Err(error)) = listed.recv_timeout(FIRST_LISTING) {
            return Err(error);
        }
        Ok(FolderCamera {
            requests,
            arrivals,
            asked: false,
            shared,
            timeouts,
            heard: Instant::now(),
            hangs: false,
        })
    }

    /// Waits for the next event. `stop` is asked many times a second.
    ///
    /// # Errors
    /// [`FramesError::GaveUp`] once the folder has been away for as long as [`Timeouts::give_up`] allows.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<FolderEvent, FramesError> {
        if !self.asked {
            self.requests.send(()).map_err(|_| FramesError::Driver)?;
            (self.asked, self.heard) = (true, Instant::now());
        }
        loop {
            if stop() {
                return Ok(FolderEvent::Arrival(Arrival::Stopped));
            }
            match self.arrivals.recv_timeout(STOP_INTERVAL) {
                Ok(Found::Arrival(arrival)) => {
                    (self.asked, self.hangs) = (false, false);
                    return Ok(FolderEvent::Arrival(arrival));
                }
                Ok(Found::Away(reason, pause)) => {
                    self.heard = Instant::now();
                    return Ok(FolderEvent::Away { reason, pause });
                }
                Err(RecvTimeoutError::Disconnected) => return Err(FramesError::Driver),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let health = lock(&self.shared);
            let (looked, away) = (health.at.max(self.heard), health.away.clone());
            drop(health);
            let silent = looked.elapsed() >= self.timeouts.stall;
            let (since, reason) = match away {
                Some((since, reason)) => (Some(since), reason),
                None => (silent.then_some(looked), NO_ANSWER.into()),
            };
            if since.is_some_and(|since| since.elapsed() >= self.timeouts.give_up) {
                return Err(FramesError::GaveUp {
                    seconds: self.timeouts.give_up.as_secs_f32(),
                    cause: Some(Box::new(FramesError::Trouble(reason))),
                });
            }
            if silent && !std::mem::replace(&mut self.hangs, silent) {
                return Ok(FolderEvent::Away {
                    reason: format!("{NO_ANSWER} for {} s", self.timeouts.stall.as_secs_f32()),
                    pause: self.timeouts.pause,
                });
            }
            self.hangs &= silent;
        }
    }
}

/// The folder's thread.
struct Watcher {
    asked: Receiver<()>,
    arrivals: Sender<Found>,
    shared: Arc<Mutex<Health>>,
    timeouts: Timeouts,
    pause: Duration,
}

impl Watcher {
    /// Watches until nobody wants more. `opened` hears once the folder was looked for.
    fn run(mut self, path: &Path, opened: &Sender<Result<(), FramesError>>) {
        let mut folder = loop {
            let alive = || lock(&self.shared).at = Instant::now();
            match WatchedFolder::new(path, &alive) {
                Ok(folder) => break folder,
                Err(error) if is_no_folder(&error) => {
                    return drop(opened.send(Err(error)));
                }
                Err(error) => {
                    let wanted = self.away(&error);
                    let _ = opened.send(Ok(()));
                    if !wanted || !self.rest() {
                        return;
                    }
                }
            }
        };
        let _ = opened.send(Ok(()));
        while self.asked.recv().is_ok() {
            loop {
                let well = || {
                    let mut health = lock(&self.shared);
                    (health.at, health.away) = (Instant::now(), None);
                    health.unwanted
                };
                match folder.next(&well) {
                    Ok(arrival) => {
                        well();
                        if self.arrivals.send(Found::Arrival(arrival)).is_err() {
                            return;
                        }
                        break;
                    }
                    Err(error) => {
                        if !self.away(&error) || !self.rest() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Tells that the folder is away. False if nobody wants to hear it any more.
    fn away(&mut self, error: &FramesError) -> bool {
        let reason = error.to_string();
        let mut health = lock(&self.shared);
        health.at = Instant::now();
        self.pause = match health.away {
            Some(_) => (2 * self.pause).min(self.timeouts.stall).min(MAX_PAUSE),
            None => self.timeouts.pause,
        };
        let since = health.away.take().map_or(health.at, |(since, _)| since);
        health.away = Some((since, reason.clone()));
        drop(health);
        self.arrivals.send(Found::Away(reason, self.pause)).is_ok()
    }

    /// Waits for a while. False if nobody wants more.
    fn rest(&self) -> bool {
        let until = Instant::now() + self.pause;
        loop {
            let mut health = lock(&self.shared);
            health.at = Instant::now();
            if health.unwanted {
                return false;
            }
            drop(health);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(STOP_INTERVAL));
        }
    }
}

fn is_no_folder(error: &FramesError) -> bool {
    matches!(error, FramesError::Folder { source, .. } if source.kind() == ErrorKind::NotADirectory)
}

/// What a panic left behind is whole: every change is an assignment.
fn lock(shared: &Mutex<Health>) -> MutexGuard<'_, Health> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const QUICK: Timeouts = Timeouts {
        stall: Duration::from_secs(5),
        pause: Duration::from_millis(20),
        give_up: Duration::from_millis(800),
        fresh: Duration::from_secs(60),
        goodbye: Duration::ZERO,
    };
    /// Of a machine that has much else to do.
    const PATIENT: Timeouts = Timeouts {
        give_up: Duration::from_secs(120),
        ..QUICK
    };

    fn save(folder: &Path, name: &str) {
        image::RgbImage::new(8, 8).save(folder.join(name)).unwrap();
    }

    /// The next picture's file name, however often the folder is away before it.
    fn next(camera: &mut FolderCamera) -> String {
        loop {
            match camera.next(&|| false).unwrap() {
                FolderEvent::Arrival(Arrival::Picture(_, path)) => {
                    return path.file_name().unwrap().to_string_lossy().into_owned();
                }
                FolderEvent::Arrival(Arrival::Replaced(_)) => {}
                FolderEvent::Arrival(_) => panic!("no picture"),
                FolderEvent::Away { reason, .. } => {
                    assert!(reason.contains("shots"), "{reason}");
                }
            }
        }
    }

    /// Until the folder is told to be away.
    fn until_away(camera: &mut FolderCamera) {
        match camera.next(&|| false).unwrap() {
            FolderEvent::Away { reason, .. } => assert!(reason.contains("shots"), "{reason}"),
            FolderEvent::Arrival(_) => panic!("it is away"),
        }
    }

    /// A share that went away for a second ended the watch, or had all of its old pictures named once more.
    #[test]
    fn a_share_that_goes_away_for_a_moment_is_told_and_its_old_pictures_stay_old() {
        let dir = tempfile::tempdir().unwrap();
        let (shots, aside) = (dir.path().join("shots"), dir.path().join("aside"));
        fs::create_dir(&shots).unwrap();
        save(&shots, "old.png");
        let mut camera = FolderCamera::open(&shots, PATIENT).unwrap();
        save(&shots, "1.png");
        assert_eq!(next(&mut camera), "1.png");

        fs::rename(&shots, &aside).unwrap();
        until_away(&mut camera);
        fs::rename(&aside, &shots).unwrap();
        save(&shots, "2.png");
        assert_eq!(next(&mut camera), "2.png");

        // An empty folder that things are mounted on stays in its place.
        fs::rename(&shots, &aside).unwrap();
        until_away(&mut camera);
        fs::create_dir(&shots).unwrap();
        while !matches!(
            camera.next(&|| false).unwrap(),
            FolderEvent::Arrival(Arrival::Replaced(0))
        ) {}
        fs::rename(&aside, &shots).unwrap();
        save(&shots, "3.png");
        assert_eq!(next(&mut camera), "3.png");
    }

    #[test]
    fn a_share_that_is_not_there_yet_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let shots = dir.path().join("shots");
        let mut camera = FolderCamera::open(&shots, PATIENT).unwrap();
        until_away(&mut camera);
        fs::create_dir(&shots).unwrap();
        // What lies there when it is first listed is old.
        let saved = thread::spawn({
            let shots = shots.clone();
            move || {
                for number in 0.. {
                    thread::sleep(Duration::from_millis(100));
                    if fs::exists(shots.join("enough")).unwrap() {
                        break;
                    }
                    save(&shots, &format!("{number}.png"));
                }
            }
        });
        assert!(next(&mut camera).ends_with(".png"));
        fs::write(shots.join("enough"), "").unwrap();
        saved.join().unwrap();
    }

    #[test]
    fn a_share_that_stays_away_is_given_up_once_its_time_is_up() {
        let dir = tempfile::tempdir().unwrap();
        let shots = dir.path().join("shots");
        fs::create_dir(&shots).unwrap();
        let mut camera = FolderCamera::open(&shots, QUICK).unwrap();
        fs::remove_dir_all(&shots).unwrap();
        let error = loop {
            match camera.next(&|| false) {
                Ok(FolderEvent::Away { .. }) => {}
                Ok(_) => panic!("there is nothing"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(
            error.contains("0.8 s") && error.contains("shots"),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_no_folder_whatever_is_waited_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = FolderCamera::open(file.path(), QUICK).err().unwrap();
        assert!(error.to_string().contains("cannot be watched"), "{error}");
    }
}
