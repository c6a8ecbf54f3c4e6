//! Whether anything in a picture changes: a small grey picture of it is compared with what is usually there, so that nothing
//! need be named while nothing happens. Light that changes slowly is no motion; a lamp that goes on is.

use crate::frames::glance::Glance;
use crate::prompt::Rectangle;

/// Cells of the small picture, across and down.
const ACROSS: usize = 32;
const DOWN: usize = 24;
/// Pixels of a cell that are looked at in each direction, at most: more tell nothing new.
const SAMPLES: u32 = 4;
/// Frames in which what is usual takes on 1 - 1/e of what has changed: light of the day.
const SLOW: f32 = 30.0;
/// Steps of grey, of 255, by which a cell must differ from its share of a change of light, at a sensitivity of 50.
const STEP: f32 = 10.0;
/// Cells that must differ at a sensitivity of 50, of a thousand.
const CELLS: f32 = 6.0;
/// By what all of a picture must have become lighter or darker, as a logarithm, at a sensitivity of 50: by half.
const LAMP: f32 = 0.4;
/// A cell that differs by so many times what is asked for is enough by itself.
const OUTRIGHT: f32 = 2.5;

/// How little a change need be to count: from 1, only large ones, to 100, all but noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sensitivity(u8);

impl Sensitivity {
    /// None where it is not from 1 to 100.
    pub fn new(value: u8) -> Option<Sensitivity> {
        (1..=100).contains(&value).then_some(Sensitivity(value))
    }

    /// 1 in the middle, 4 at the low end, a quarter at the high one.
    fn scale(self) -> f32 {
        4f32.powf((50.0 - f32::from(self.0)) / 50.0)
    }
}

impl Default for Sensitivity {
    fn default() -> Sensitivity {
        Sensitivity(50)
    }
}

/// Looks for changes in one part of the frames of one camera.
#[derive(Clone, Debug)]
pub struct Motion {
    sensitivity: Sensitivity,
    /// What is usually there, by cells; empty before the first frame.
    usual: Vec<f32>,
    /// What was there when something last changed or was told to: the picture that was named.
    named: Vec<f32>,
    size: (u32, u32),
}

impl Motion {
    /// Nothing was seen yet, so the first frame is a change.
    pub fn new(sensitivity: Sensitivity) -> Motion {
        Motion {
            sensitivity,
            usual: Vec::new(),
            named: Vec::new(),
            size: (0, 0),
        }
    }

    /// Whether something has changed in `place` of `glance`'s greys since the last frame that had something changed; the first
    /// frame has, and one of another size.
    pub(crate) fn look(&mut self, glance: &Glance, place: Rectangle) -> bool {
        let cells = cells(glance, place);
        let size = (place.width, place.height);
        if self.usual.is_empty() || self.size != size {
            self.size = size;
            self.usual.clone_from(&cells);
            self.named = cells;
            return true;
        }
        let lamp = light(&cells, &self.usual).ln().abs() > LAMP * self.sensitivity.scale();
        let changed =
            lamp || self.differs(&cells, &self.named) || self.differs(&cells, &self.usual);
        if changed {
            self.named.clone_from(&cells);
            self.usual = cells;
            return true;
        }
        // What was named goes along with the light, or a day of it would be a change.
        for (usual, cell) in self.usual.iter_mut().zip(&cells) {
            *usual += (cell - *usual) / SLOW;
        }
        for (named, cell) in self.named.iter_mut().zip(&cells) {
            *named += (cell - *named) / (4.0 * SLOW);
        }
        false
    }

    /// Whether cells differ by more than one change of light makes them.
    fn differs(&self, cells: &[f32], before: &[f32]) -> bool {
        let light = light(cells, before);
        let step = STEP * self.sensitivity.scale();
        let least = (CELLS * self.sensitivity.scale() * cells.len() as f32 / 1000.0).max(1.0);
        let (mut differ, mut most) = (0, 0.0f32);
        for (cell, before) in cells.iter().zip(before) {
            let difference = (cell - before * light).abs();
            differ += usize::from(difference > step);
            most = most.max(difference);
        }
        differ as f32 >= least || most > OUTRIGHT * step
    }
}

/// By what all of a picture has become lighter: the middle of what its cells have, which a change in a part of them leaves
/// alone.
fn light(cells: &[f32], before: &[f32]) -> f32 {
    let ratio = |(cell, before): (&f32, &f32)| (cell + 8.0) / (before + 8.0);
    let mut ratios: Vec<f32> = cells.iter().zip(before).map(ratio).collect();
    let middle = ratios.len() / 2;
    *ratios.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// The mean grey of each cell of `place`, from a few of its greys, row by row.
fn cells(glance: &Glance, place: Rectangle) -> Vec<f32> {
    let across = ACROSS.min(place.width as usize).max(1);
    let down = DOWN.min(place.height as usize).max(1);
    let span = |from: u32, length: u32, part: usize, parts: usize| {
        let at = |part: usize| from + (u64::from(length) * part as u64 / parts as u64) as u32;
        (at(part), at(part + 1).max(at(part) + 1))
    };
    let mut cells = Vec::with_capacity(across * down);
    for row in 0..down {
        let (top, bottom) = span(place.y, place.height, row, down);
        let down_by = (bottom - top).div_ceil(SAMPLES) as usize;
        for column in 0..across {
            let (left, right) = span(place.x, place.width, column, across);
            let across_by = (right - left).div_ceil(SAMPLES) as usize;
            let (mut sum, mut count) = (0u32, 0u32);
            for y in (top..bottom).step_by(down_by) {
                for x in (left..right).step_by(across_by) {
                    if let Some(grey) = glance.at(x, y) {
                        sum += grey;
                        count += 8;
                    }
                }
            }
            cells.push(sum as f32 / count.max(1) as f32);
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::RawFrame;
    use crate::frames::demo::{self, Purpose};
    use crate::frames::glance::Unopened;
    use crate::rng::Rng;
    use image::codecs::jpeg::JpegEncoder;
    use image::{Rgb, RgbImage};

    const WHOLE: Rectangle = Rectangle {
        x: 0,
        y: 0,
        width: 320,
        height: 240,
    };

    fn look(motion: &mut Motion, picture: &RgbImage, place: Rectangle) -> bool {
        motion.look(&Glance::Picture(picture), place)
    }

    /// A scene that does not change, but for light and noise.
    fn scene(light: f32, rng: &mut Rng) -> RgbImage {
        RgbImage::from_fn(320, 240, |x, y| {
            let shade = 60 + (x / 7 * 13 + y / 9 * 29) % 120;
            let noise = rng.below(9) as f32 - 4.0;
            Rgb([(shade as f32 * light + noise).clamp(0.0, 255.0) as u8; 3])
        })
    }

    #[test]
    fn noise_and_light_that_changes_slowly_are_no_motion() {
        let (mut motion, mut rng) = (Motion::new(Sensitivity::default()), Rng::new(1));
        let mut seen = 0;
        for frame in 0..600 {
            let light = 1.0 + 0.35 * (frame as f32 / 100.0).sin();
            seen += usize::from(look(&mut motion, &scene(light, &mut rng), WHOLE));
        }
        assert_eq!(seen, 1, "the first frame alone");
    }

    #[test]
    fn a_lamp_that_goes_on_or_off_is_seen_at_once() {
        let (mut motion, mut rng) = (Motion::new(Sensitivity::default()), Rng::new(4));
        for light in [1.0, 0.3, 1.1, 0.05, 0.9] {
            assert!(look(&mut motion, &scene(light, &mut rng), WHOLE), "{light}");
            for _ in 0..20 {
                assert!(
                    !look(&mut motion, &scene(light, &mut rng), WHOLE),
                    "{light}"
                );
            }
        }
    }

    #[test]
    fn something_that_comes_goes_or_moves_is_seen_at_once() {
        let (mut motion, mut rng) = (Motion::new(Sensitivity::default()), Rng::new(2));
        for _ in 0..50 {
            look(&mut motion, &scene(1.0, &mut rng), WHOLE);
        }
        for (x, y) in [(40, 40), (200, 150), (204, 150), (260, 20)] {
            let mut frame = scene(1.0, &mut rng);
            for (dx, dy) in (0..40).flat_map(|dx| (0..40).map(move |dy| (dx, dy))) {
                frame.put_pixel(x + dx, y + dy, Rgb([250, 250, 250]));
            }
            assert!(look(&mut motion, &frame, WHOLE), "{x}, {y}");
            assert!(!look(&mut motion, &frame, WHOLE), "{x}, {y}, again");
        }
        assert!(
            look(&mut motion, &scene(1.0, &mut rng), WHOLE),
            "gone again"
        );
        // What creeps in over many frames is seen, too.
        let mut seen = 0;
        for step in 0..80u8 {
            let mut frame = scene(1.0, &mut rng);
            for (dx, dy) in (0..60).flat_map(|dx| (0..60).map(move |dy| (dx, dy))) {
                let pixel = frame.get_pixel_mut(100 + dx, 100 + dy);
                pixel.0 = pixel.0.map(|value| value.saturating_add(step));
            }
            seen += usize::from(look(&mut motion, &frame, WHOLE));
        }
        assert!(seen >= 1);
    }

    #[test]
    fn what_happens_beside_the_place_is_not_seen() {
        let (mut motion, mut rng) = (Motion::new(Sensitivity::default()), Rng::new(3));
        let place = Rectangle {
            x: 0,
            y: 0,
            width: 100,
            height: 100,
        };
        let mut frame = scene(1.0, &mut rng);
        look(&mut motion, &frame, place);
        for (x, y) in (150..300).flat_map(|x| (120..200).map(move |y| (x, y))) {
            frame.put_pixel(x, y, Rgb([0; 3]));
        }
        assert!(!look(&mut motion, &frame, place));
        assert!(look(&mut motion, &frame, WHOLE), "another size");
        assert!(Sensitivity::new(0).is_none() && Sensitivity::new(101).is_none());
    }

    /// Scenes of the demo camera that show something else than the one before.
    #[test]
    fn none_of_200_changes_of_what_is_shown_is_missed() {
        let mut motion = Motion::new(Sensitivity::default());
        let mut missed = 0;
        for index in 0..=200 {
            let frame = demo::draw(&demo::scene(Purpose::Live, 0, 7, index), demo::SIZE);
            let place = Rectangle {
                width: frame.width(),
                height: frame.height(),
                ..WHOLE
            };
            missed += usize::from(!look(&mut motion, &frame, place));
            assert!(!look(&mut motion, &frame, place));
        }
        assert_eq!(missed, 0);
    }

    /// The same of JPEG pictures that are not decoded, with the noise of a sensor, each scene twice.
    #[test]
    fn none_of_200_changes_is_missed_in_the_blocks_of_a_jpeg() {
        let (mut motion, mut rng) = (Motion::new(Sensitivity::default()), Rng::new(6));
        let (mut missed, mut moved) = (0, 0);
        for index in 0..=200 {
            let scene = demo::draw(&demo::scene(Purpose::Live, 0, 7, index), demo::SIZE);
            for again in [false, true] {
                let mut frame = scene.clone();
                for value in frame.iter_mut() {
                    *value = value.saturating_add(rng.below(7) as u8);
                }
                let mut bytes = Vec::new();
                let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 80);
                encoder.encode_image(&frame).unwrap();
                let raw = RawFrame::Jpeg(bytes);
                let glance = Unopened::Raw(&raw).glance().unwrap();
                assert!(matches!(glance, Glance::Blocks(_)));
                let (width, height) = glance.size();
                let place = Rectangle {
                    width,
                    height,
                    ..WHOLE
                };
                let seen = motion.look(&glance, glance.greys_of(place).unwrap());
                missed += usize::from(!seen && !again);
                moved += usize::from(seen && again);
            }
        }
        assert_eq!((missed, moved), (0, 0));
    }
}
