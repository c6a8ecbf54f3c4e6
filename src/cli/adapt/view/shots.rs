//! Keeping what is shown as a shot of a label, and taking shots back.

use super::{Kept, Session};
use crate::watch::Hints;
use std::sync::atomic::Ordering;

impl Session<'_> {
    /// What is to be said about the picture that is shown.
    pub(super) fn hint(&mut self) {
        let Some(snapshot) = &self.snapshot else {
            return;
        };
        let shots = self.kept.iter();
        let shots = shots.filter_map(|kept| Some((kept.feature.as_ref()?, kept.class)));
        let feature = snapshot.feature.view();
        self.hints = Hints::of(feature, snapshot.sharpness, &self.sharpness, shots);
    }

    pub(super) fn store(&mut self, class: usize) {
        let Some(snapshot) = &self.snapshot else {
            return self.state.warn("there is no picture yet");
        };
        if self.stored == Some(snapshot.frame.index) {
            // A burst meets the same frame where the camera is slower than it.
            if self.state.burst_left().is_none() {
                self.state.note(
                    "this very picture is a shot already: wait for the next, or take it back with u",
                );
            }
            return;
        }
        if self.view.is_live() && snapshot.region.as_ref() != self.state.regions.looked_at() {
            self.waiting = Some(class);
            return;
        }
        let name = &self.view.adaptation.labels[class].name;
        let home = &self.context.home;
        let jpeg = snapshot.frame.to_jpeg().map_err(|error| error.to_string());
        let stored = jpeg.and_then(|jpeg| {
            home.add_shot(&self.view.adaptation.plan.prompt, name, &jpeg)
                .map_err(|error| error.to_string())
        });
        let shot = match stored {
            Ok(shot) => shot,
            Err(message) => return self.state.warn(message),
        };
        self.stored = Some(snapshot.frame.index);
        self.state.rows[class].shots += 1;
        let doubt = match (self.hints.blurred, self.hints.duplicate) {
            (true, _) => ", but it is blurred",
            (_, true) => ", but it is nearly the same as one that is kept",
            _ => "",
        };
        let count = self.state.rows[class].shots;
        self.state.note(format!("{name} {count} kept{doubt}"));
        self.kept.push(Kept {
            shot,
            class,
            feature: Some(snapshot.feature.clone()),
            ours: true,
            origin: (!self.view.is_live()).then(|| snapshot.whole.source.clone().into()),
        });
        self.hint();
        (self.camera.controls.next_scene).store(true, Ordering::Relaxed);
    }

    pub(super) fn undo(&mut self) {
        match self.kept.iter().rposition(|kept| kept.ours) {
            Some(place) => self.remove(place),
            None => self.state.note(
                "nothing of this session is left to take back; Delete removes the newest shot of the marked label",
            ),
        }
    }

    pub(super) fn remove_newest(&mut self, class: usize) {
        match self.kept.iter().rposition(|kept| kept.class == class) {
            Some(place) => self.remove(place),
            None => self.state.note("the marked label has no shot"),
        }
    }

    fn remove(&mut self, place: usize) {
        let Kept { shot, class, .. } = &self.kept[place];
        if let Err(error) = self.context.home.remove_shot(shot) {
            return self.state.warn(error.to_string());
        }
        let row = &mut self.state.rows[*class];
        row.shots = row.shots.saturating_sub(1);
        let message = format!("a shot of {} was taken back", row.name);
        self.kept.remove(place);
        self.stored = None;
        self.state.note(message);
        self.hint();
    }
}
