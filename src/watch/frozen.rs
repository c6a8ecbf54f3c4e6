//! Whether a camera that should be live has frozen: it goes on to send the very same picture. A sensor never sees the same
//! twice, for it has noise; a driver, an encoder or a recorder that hangs sends its last picture again.

use std::fmt;
use std::time::{Duration, Instant};

/// Bytes of a picture, as it was coded, that are compared first: in a live picture some of them differ, and the others need not be looked at.
const SAMPLE: usize = 4096;

/// The time that a camera is usually given before it is said to have frozen.
pub const FROZEN_AFTER: Duration = Duration::from_secs(300);

/// Looks out for a camera that has frozen.
#[derive(Debug)]
pub struct FrozenCamera {
    after: Duration,
    last: Option<Last>,
}

/// The newest picture.
#[derive(Debug)]
struct Last {
    sample: blake3::Hash,
    /// Of all its bytes, once it came a second time.
    whole: Option<blake3::Hash>,
    /// Since when it has been certain to be the same.
    since: Instant,
    told: bool,
}

/// What has become of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It has sent the same picture for so long.
    Frozen(Duration),
    /// It sends other pictures again, after so long.
    Moving(Duration),
}

impl fmt::Display for Liveness {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let whole =
            |time: &Duration| humantime::format_duration(Duration::from_secs(time.as_secs()));
        match self {
            Liveness::Frozen(lasted) => write!(
                formatter,
                "has sent the very same picture for {}: it seems to have frozen, so see whether it must be switched off and on",
                whole(lasted)
            ),
            Liveness::Moving(lasted) => write!(
                formatter,
                "sends other pictures again, after {} of the same",
                whole(lasted)
            ),
        }
    }
}

impl FrozenCamera {
    /// One that has sent the same picture for as long as `after`.
    pub fn new(after: Duration) -> FrozenCamera {
        FrozenCamera { after, last: None }
    }

    /// Takes the next picture, as it was coded; says once that the camera has frozen, and once that it moves again.
    pub fn look(&mut self, picture: &[u8]) -> Option<Liveness> {
        self.look_at(picture, Instant::now())
    }

    /// Whether the camera was last said to have frozen.
    pub fn is_frozen(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.told)
    }

    fn look_at(&mut self, picture: &[u8], now: Instant) -> Option<Liveness> {
        let sample = sample(picture);
        if let Some(last) = self.last.as_mut().filter(|last| last.sample == sample) {
            let whole = blake3::hash(picture);
            match last.whole {
                // The one before was not hashed as a whole, as none is of a camera that lives: from here on it is certain.
                None => {
                    (last.whole, last.since) = (Some(whole), now);
                    return None;
                }
                Some(before) if before == whole => {
                    let lasted = now.saturating_duration_since(last.since);
                    let frozen = !last.told && lasted >= self.after;
                    last.told |= frozen;
                    return frozen.then_some(Liveness::Frozen(lasted));
                }
                Some(_) => {}
            }
        }
        let before = self.last.replace(Last {
            sample,
            whole: None,
            since: now,
            told: false,
        });
        let before = before.filter(|last| last.told)?;
        let lasted = now.saturating_duration_since(before.since);
        Some(Liveness::Moving(lasted))
    }
}

/// The length of a picture, and bytes from all over it.
fn sample(bytes: &[u8]) -> blake3::Hash {
    // Not a multiple of 2 or 3, so that all channels and most columns are among them.
    let step = bytes.len() / SAMPLE / 6 * 6 + 1;
    let mut some: Vec<u8> = bytes.iter().copied().step_by(step).collect();
    some.extend(bytes.len().to_le_bytes());
    blake3::hash(&some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;

    fn picture(shade: u8) -> Vec<u8> {
        RgbImage::from_fn(320, 240, |x, y| image::Rgb([x as u8, y as u8, shade])).into_raw()
    }

    #[test]
    fn a_camera_that_freezes_is_told_once_and_again_when_it_moves() {
        let mut camera = FrozenCamera::new(Duration::from_secs(10));
        let start = Instant::now();
        let mut look =
            |shade, second| camera.look_at(&picture(shade), start + Duration::from_secs(second));
        for second in 0..100 {
            assert_eq!(look(second as u8 % 2, second), None, "it moves");
        }
        for second in 100..110 {
            assert_eq!(look(7, second), None, "not for long");
        }
        let seconds = Duration::from_secs;
        assert_eq!(look(7, 110), None);
        assert_eq!(look(7, 111), Some(Liveness::Frozen(seconds(10))));
        for second in 112..500 {
            assert_eq!(look(7, second), None, "it was told");
        }
        assert_eq!(look(8, 500), Some(Liveness::Moving(seconds(399))));
        assert_eq!((look(9, 501), look(9, 502)), (None, None));
        assert_eq!(look(9, 512), Some(Liveness::Frozen(seconds(10))));
        assert!(camera.is_frozen());
    }

    #[test]
    fn one_pixel_that_changes_is_enough_wherever_it_lies() {
        let start = Instant::now();
        for at in [0, 1, 2, 1000, 76_799] {
            let mut camera = FrozenCamera::new(Duration::from_secs(2));
            let mut other = picture(0);
            other[3 * at + at % 3] ^= 1;
            for second in 0..10 {
                let shown = if second % 2 == 0 { &other } else { &picture(0) };
                let told = camera.look_at(shown, start + Duration::from_secs(second));
                assert_eq!(told, None, "pixel {at}");
            }
        }
    }
}
