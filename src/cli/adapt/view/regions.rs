//! The parts of the camera's pictures that are labelled, and the keys that move them: plain data and functions.

use super::watch::Source;
use super::{Context, Session, View};
use crate::prompt::region::in_words;
use crate::prompt::{Area, Rectangle, Region};
use ratatui::crossterm::event::{KeyCode, KeyModifiers};
use std::path::Path;
use std::sync::atomic::Ordering;

/// All of a picture's width or height, as regions count it.
const WHOLE: u32 = 10_000;
/// How far a key moves an edge: 2 per cent.
const STEP: u32 = 200;
/// The smallest region that keys make: 4 per cent.
const LEAST: u32 = 400;

/// The regions, and which of them is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Regions {
    pub list: Vec<Region>,
    pub current: usize,
    /// Whether keys move the one that is looked at.
    pub moving: bool,
}

impl Regions {
    /// These, looking at the first.
    pub fn new(list: Vec<Region>) -> Regions {
        Regions {
            list,
            ..Regions::default()
        }
    }

    /// The one that is looked at; none for whole pictures.
    pub fn looked_at(&self) -> Option<&Region> {
        self.list.get(self.current)
    }

    /// Lets keys move the region; one in the middle is made where there is none. `size` is the picture's, in pixels.
    pub fn begin(&mut self, size: (u32, u32)) {
        self.moving = true;
        let Some(region) = self.list.get_mut(self.current) else {
            let middle = Rectangle {
                x: WHOLE / 4,
                y: WHOLE / 4,
                width: WHOLE / 2,
                height: WHOLE / 2,
            };
            self.list.push(Region {
                name: String::new(),
                area: Area::Share(middle),
            });
            return;
        };
        if let Area::Pixels(at) = region.area {
            region.area = Area::Share(share(at, size));
        }
    }

    /// What a key does while keys move the region; false if it means nothing.
    pub fn key(&mut self, code: KeyCode, modifiers: KeyModifiers, size: (u32, u32)) -> bool {
        match code {
            KeyCode::Enter | KeyCode::Esc => self.moving = false,
            KeyCode::Tab => {
                self.current = (self.current + 1) % self.list.len().max(1);
                self.begin(size);
            }
            KeyCode::Delete | KeyCode::Backspace | KeyCode::Char('x') => {
                if self.current < self.list.len() {
                    self.list.remove(self.current);
                }
                (self.current, self.moving) = (0, false);
            }
            _ => {
                let Some(Region {
                    area: Area::Share(at),
                    ..
                }) = self.list.get_mut(self.current)
                else {
                    return false;
                };
                return change(at, code, modifiers.contains(KeyModifiers::SHIFT));
            }
        }
        true
    }
}

/// Moves `at`, or changes its size; false if the key means nothing.
fn change(at: &mut Rectangle, code: KeyCode, shift: bool) -> bool {
    let (x, y) = (&mut at.x, &mut at.y);
    let (width, height) = (&mut at.width, &mut at.height);
    match (code, shift) {
        (KeyCode::Left, false) => *x = x.saturating_sub(STEP),
        (KeyCode::Right, false) => *x = (*x + STEP).min(WHOLE - *width),
        (KeyCode::Up, false) => *y = y.saturating_sub(STEP),
        (KeyCode::Down, false) => *y = (*y + STEP).min(WHOLE - *height),
        (KeyCode::Left, true) | (KeyCode::Char('n'), _) => shrink(width),
        (KeyCode::Right, true) | (KeyCode::Char('w'), _) => grow(*x, width),
        (KeyCode::Up, true) | (KeyCode::Char('l'), _) => shrink(height),
        (KeyCode::Down, true) | (KeyCode::Char('h'), _) => grow(*y, height),
        (KeyCode::Char('+' | '='), _) => {
            grow(*x, width);
            grow(*y, height);
        }
        (KeyCode::Char('-' | '_'), _) => {
            shrink(width);
            shrink(height);
        }
        _ => return false,
    }
    true
}

fn shrink(length: &mut u32) {
    *length = length.saturating_sub(STEP).max(LEAST.min(*length));
}

fn grow(from: u32, length: &mut u32) {
    *length = (*length + STEP).min(WHOLE - from);
}

/// Pixels of a picture of `size` in hundredths of a per cent, within it.
fn share(at: Rectangle, (width, height): (u32, u32)) -> Rectangle {
    let part = |pixels: u32, side: u32| {
        let exact = u64::from(pixels) * u64::from(WHOLE) / u64::from(side.max(1));
        exact.min(WHOLE.into()) as u32
    };
    let span = |from: u32, length: u32, side: u32| {
        let from = part(from, side).min(WHOLE - LEAST);
        (from, part(length, side).clamp(1, WHOLE - from))
    };
    let (x, width) = span(at.x, at.width, width);
    let (y, height) = span(at.y, at.height, height);
    Rectangle {
        x,
        y,
        width,
        height,
    }
}

impl View<'_> {
    /// Whether it is a camera that is looked at, and not pictures that were cut out already.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.source, Source::Camera(..))
    }

    /// The regions that it opens with.
    pub(super) fn regions(&self) -> &[Region] {
        match self.source {
            Source::Camera(..) => &self.adaptation.plan.regions,
            Source::Kept(_) => &[],
        }
    }

    /// Notes which regions the shots in `folder` are of from here on. What to say where those of earlier are of others.
    pub(super) fn begin_regions(
        &self,
        folder: &Path,
        context: &Context,
    ) -> anyhow::Result<Option<String>> {
        if !self.is_live() {
            return Ok(None);
        }
        let regions = self.regions();
        let earlier = context.home.shot_regions(folder);
        if earlier.is_none() && regions.is_empty() {
            return Ok(None);
        }
        let prompt = &self.adaptation.plan.prompt;
        context.home.keep_shot_regions(prompt, regions)?;
        let earlier = earlier.unwrap_or_default();
        Ok((earlier != regions).then(|| {
            format!(
                "the shots of earlier show {}, not {}: take them again, or remove them",
                in_words(&earlier),
                in_words(regions)
            )
        }))
    }
}

impl Session<'_> {
    /// Looks at the region that the keys have made.
    pub(super) fn look(&mut self) {
        if !self.view.is_live() {
            self.state.regions = Regions::default();
            return self
                .state
                .note("pictures that were kept are labelled as they are");
        }
        let regions = &self.state.regions;
        self.camera.controls.look_at(regions.looked_at().cloned());
        if regions.moving {
            let shown = regions.looked_at().map(Region::to_string);
            return self
                .state
                .note(format!("region {}", shown.unwrap_or_default()));
        }
        let (home, prompt) = (&self.context.home, &self.view.adaptation.plan.prompt);
        if let Err(error) = home.keep_shot_regions(prompt, &regions.list) {
            return self.state.warn(error.to_string());
        }
        let shown = in_words(&regions.list);
        self.state.note(match self.state.total() {
            0 => format!("shots are of {shown} from here on"),
            shots => format!(
                "shots are of {shown} from here on; {shots} are of what was looked at before"
            ),
        });
    }

    /// Shows the next of the pictures that wait to be labelled.
    pub(super) fn skip(&mut self) {
        if self.view.is_live() {
            return self
                .state
                .note("→ is for pictures that wait to be labelled; Tab, then → moves the region");
        }
        (self.camera.controls.next_scene).store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::region::check_regions;

    const SIZE: (u32, u32) = (640, 480);

    fn press(regions: &mut Regions, code: KeyCode, times: usize) {
        (0..times).for_each(|_| assert!(regions.key(code, KeyModifiers::NONE, SIZE)));
    }

    fn shown(regions: &Regions) -> String {
        let list = regions.list.iter().map(Region::to_string);
        list.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_region_is_made_moved_and_resized_and_never_leaves_the_picture() {
        let mut regions = Regions::default();
        regions.begin(SIZE);
        assert_eq!(shown(&regions), "25,25,50,50%");
        press(&mut regions, KeyCode::Right, 3);
        press(&mut regions, KeyCode::Up, 2);
        assert_eq!(shown(&regions), "31,21,50,50%");
        assert!(regions.key(KeyCode::Right, KeyModifiers::SHIFT, SIZE));
        assert!(regions.key(KeyCode::Up, KeyModifiers::SHIFT, SIZE));
        assert_eq!(shown(&regions), "31,21,52,48%");
        press(&mut regions, KeyCode::Char('-'), 1);
        press(&mut regions, KeyCode::Char('w'), 1);
        press(&mut regions, KeyCode::Char('h'), 2);
        assert_eq!(shown(&regions), "31,21,52,50%");
        for code in [
            KeyCode::Left,
            KeyCode::Up,
            KeyCode::Char('+'),
            KeyCode::Right,
            KeyCode::Down,
            KeyCode::Char('n'),
            KeyCode::Char('l'),
            KeyCode::Right,
            KeyCode::Down,
        ] {
            press(&mut regions, code, 80);
            assert_eq!(check_regions(&regions.list), Ok(()), "{code:?}");
        }
        assert_eq!(shown(&regions), "96,96,4,4%");
        assert!(!regions.key(KeyCode::Char('9'), KeyModifiers::NONE, SIZE));
        press(&mut regions, KeyCode::Enter, 1);
        assert!(!regions.moving && regions.looked_at().is_some());
        regions.begin(SIZE);
        press(&mut regions, KeyCode::Char('x'), 1);
        assert_eq!((regions.looked_at(), regions.moving), (None, false));
    }

    #[test]
    fn one_of_several_is_looked_at_and_one_in_pixels_becomes_per_cent_when_it_is_moved() {
        let list = ["door=64,96,192,192px", "shelf=0,0,50,50"].map(|text| text.parse().unwrap());
        let mut regions = Regions::new(list.to_vec());
        assert_eq!(regions.looked_at().unwrap().name, "door");
        regions.begin(SIZE);
        assert_eq!(shown(&regions), "door=10,20,30,40% shelf=0,0,50,50%");
        press(&mut regions, KeyCode::Tab, 1);
        press(&mut regions, KeyCode::Down, 1);
        assert_eq!(shown(&regions), "door=10,20,30,40% shelf=0,2,50,50%");
        press(&mut regions, KeyCode::Tab, 1);
        assert_eq!(regions.looked_at().unwrap().name, "door");
        // A camera that now sends smaller pictures.
        let mut regions = Regions::new(vec!["600,400,100,100px".parse().unwrap()]);
        regions.begin((320, 240));
        assert_eq!(check_regions(&regions.list), Ok(()));
    }
}
