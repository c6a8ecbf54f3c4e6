//! Labelled pictures of a prompt: kept, listed, moved to another label, taken back. Each is on the disk before it is
//! confirmed. The home folder does the work; here they have ids, and whoever listens hears of changes.

mod error;
mod ledger;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::cameras::{NoLabels, labels_of};
use super::changes::{now, seconds};
use super::config::ShotsConfig;
use super::events::{Event, Events, PromptAct, PromptChange, ShotAct, ShotChange};
use crate::frames::{Frame, MAX_PIXELS, decode_picture};
use crate::prompt::labels::{self, same_name};
use crate::prompt::{Label, LabelFault, LabelsError};
use crate::store::{Home, Shot, StoreError};
pub use error::ShotsError;
use ledger::Ledger;

/// How many of the last shots can be taken back.
const UNDO: usize = 200;

/// A shot with what is known of it.
#[derive(Clone, Debug, Serialize)]
pub struct ShotInfo {
    /// Which one it is; the same whatever label it has.
    pub id: String,
    /// Its label.
    pub label: String,
    /// When it was taken, in seconds since 1970; none where the clock of that moment was not set.
    pub at: Option<f64>,
    /// How much likelier another label is, as a difference of logarithms: above 0 the label looks wrong. None where that was
    /// not asked for, or cannot be told.
    pub suspicion: Option<f32>,
    /// The label that it looks like.
    pub seems: Option<String>,
}

/// A label and how many shots it has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelCount {
    /// Its name.
    pub label: String,
    /// The words that the model reads.
    pub words: String,
    /// Its shots.
    pub shots: usize,
}

/// The shots of all prompts.
pub struct Shots {
    home: Home,
    events: Events,
    /// What was kept here, to be taken back: the newest last.
    kept: Mutex<Vec<(String, Shot)>>,
    /// Held while labels are changed.
    turn: Mutex<()>,
    /// How many there are; held while one is kept.
    ledger: Mutex<Ledger>,
    /// How many there may be.
    limits: Mutex<ShotsConfig>,
}

impl Shots {
    /// Of `home`; `events` hears of changes.
    pub fn new(home: Home, events: Events) -> Shots {
        Shots {
            home,
            events,
            kept: Mutex::default(),
            turn: Mutex::default(),
            ledger: Mutex::default(),
            limits: Mutex::default(),
        }
    }

    /// Takes no more than this from now on; what is there stays.
    pub fn bound(&self, limits: ShotsConfig) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Refuses a shot of `bytes` where the prompt has as many as it may have.
    fn room_for(&self, ledger: &mut Ledger, prompt: &str, bytes: usize) -> Result<(), ShotsError> {
        let (most, most_bytes) = {
            let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            (limits.pictures, limits.bytes)
        };
        let fits = |(shots, kept): (usize, u64)| {
            shots < most && kept.saturating_add(bytes as u64) <= most_bytes
        };
        if fits(ledger.count(&self.home, prompt)?) {
            return Ok(());
        }
        // None is refused for what is only remembered.
        ledger.forget(prompt);
        let (pictures, kept) = ledger.count(&self.home, prompt)?;
        if fits((pictures, kept)) {
            return Ok(());
        }
        Err(ShotsError::Full {
            prompt: prompt.into(),
            pictures,
            megabytes: kept / 1_000_000,
        })
    }

    /// All shots of `prompt` by their ids, oldest first.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn all(&self, prompt: &str) -> Result<Vec<(String, Shot)>, StoreError> {
        let shots = self.home.shots_in(&self.home.shots_folder(prompt)?)?;
        let mut before: Option<u64> = None;
        let mut same = 1;
        Ok(shots
            .into_iter()
            .map(|shot| {
                // Folders that were put together by hand may have a number twice.
                same = if before == Some(shot.number) {
                    same + 1
                } else {
                    1
                };
                before = Some(shot.number);
                let id = match same {
                    1 => shot.number.to_string(),
                    nth => format!("{}.{nth}", shot.number),
                };
                (id, shot)
            })
            .collect())
    }

    /// The shot of this id.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(&self, prompt: &str, id: &str) -> Result<Shot, ShotsError> {
        let found = self.all(prompt)?.into_iter().find(|(of, _)| of == id);
        found
            .map(|(_, shot)| shot)
            .ok_or_else(|| ShotsError::NoShot {
                prompt: prompt.into(),
                id: id.into(),
            })
    }

    /// What is known of the shots of `prompt`, of all labels or of one, the newest first.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn list(&self, prompt: &str, label: Option<&str>) -> Result<Vec<ShotInfo>, StoreError> {
        let mut all = self.all(prompt)?;
        all.retain(|(_, shot)| label.is_none_or(|label| same_name(&shot.label, label)));
        let info = all.into_iter().rev().filter_map(|(id, shot)| {
            // One that has gone meanwhile is not listed.
            let (taken, _) = self.home.shot_file(&shot).ok()?;
            Some(ShotInfo {
                id,
                at: taken.map(seconds),
                label: shot.label,
                suspicion: None,
                seems: None,
            })
        });
        Ok(info.collect())
    }

    /// Keeps `jpeg` as a shot of `label`; its id.
    ///
    /// # Errors
    /// If the prompt has no such label or as many shots as it may have, or it cannot be written: then there is no such shot.
    pub fn add(&self, prompt: &str, label: &str, jpeg: &[u8]) -> Result<ShotInfo, ShotsError> {
        let label = self.known(prompt, label)?;
        let (shot, of_label) = {
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            self.room_for(&mut ledger, prompt, jpeg.len())?;
            let shot = self.home.add_shot(prompt, &label, jpeg)?;
            let of_label = ledger.add(&self.home, prompt, &shot, jpeg.len());
            (shot, of_label)
        };
        let info = ShotInfo {
            id: shot.number.to_string(),
            label: label.clone(),
            at: Some(now()),
            suspicion: None,
            seems: None,
        };
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push((prompt.to_owned(), shot));
            if kept.len() > UNDO {
                kept.remove(0);
            }
        }
        self.tell_with(
            prompt,
            ShotAct::Added,
            vec![info.id.clone()],
            &label,
            of_label,
        );
        Ok(info)
    }

    /// Keeps a picture file that somebody sent as a shot of `label`.
    ///
    /// # Errors
    /// If it is no picture that can be used, and as [`Shots::add`].
    pub fn upload(&self, prompt: &str, label: &str, file: Vec<u8>) -> Result<ShotInfo, ShotsError> {
        let image = decode_picture(&file, MAX_PIXELS)?;
        let is_jpeg = file.starts_with(&[0xff, 0xd8]);
        let frame = Frame {
            image,
            source: String::new(),
            index: 0,
            label: None,
            jpeg: is_jpeg.then_some(file),
            planes: None,
        };
        // What a phone says of place and time is not kept.
        self.add(prompt, label, &frame.to_jpeg()?)
    }

    /// Takes the last shot that was kept here back.
    ///
    /// # Errors
    /// If nothing is left, or it cannot be removed.
    pub fn undo(&self, prompt: &str) -> Result<ShotInfo, ShotsError> {
        loop {
            let taken = {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                let last = kept.iter().rposition(|(of, _)| of == prompt);
                last.map(|last| kept.remove(last).1)
            };
            let Some(shot) = taken else {
                return Err(ShotsError::NothingToUndo);
            };
            // It may have another label by now.
            let id = shot.number.to_string();
            let Ok(now) = self.find(prompt, &id) else {
                continue;
            };
            self.remove(prompt, std::slice::from_ref(&id))?;
            return Ok(ShotInfo {
                id,
                label: now.label,
                at: None,
                suspicion: None,
                seems: None,
            });
        }
    }

    /// Removes the shots of these ids for good; how many there were.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn remove(&self, prompt: &str, ids: &[String]) -> Result<usize, ShotsError> {
        self.by_label(prompt, ids, |label, shots, ids| {
            let removed = self.home.remove_shots(&shots)?;
            self.tell(prompt, ShotAct::Removed, ids, label);
            Ok(removed)
        })
    }

    /// Removes all shots of `label` for good; how many there were.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn remove_label(&self, prompt: &str, label: &str) -> Result<usize, ShotsError> {
        let of_label = self.all(prompt)?.into_iter();
        let ids = of_label
            .filter(|(_, shot)| same_name(&shot.label, label))
            .map(|(id, _)| id);
        self.remove(prompt, &ids.collect::<Vec<_>>())
    }

    /// Gives the shots of these ids another label; how many have it now.
    ///
    /// # Errors
    /// If the prompt has no such label, or one cannot be moved.
    pub fn relabel(&self, prompt: &str, ids: &[String], label: &str) -> Result<usize, ShotsError> {
        let label = self.known(prompt, label)?;
        let moved = self.by_label(prompt, ids, |_, shots, ids| {
            let count = shots.len();
            self.home.move_shots(prompt, &shots, &label)?;
            self.tell(prompt, ShotAct::Moved, ids, &label);
            Ok(count)
        })?;
        Ok(moved)
    }

    /// Does something with the shots of these ids, those of each label together; the sum of what it counts.
    fn by_label(
        &self,
        prompt: &str,
        ids: &[String],
        act: impl Fn(&str, Vec<Shot>, Vec<String>) -> Result<usize, ShotsError>,
    ) -> Result<usize, ShotsError> {
        let mut groups: BTreeMap<String, (Vec<Shot>, Vec<String>)> = BTreeMap::new();
        for (id, shot) in self.all(prompt)? {
            if ids.contains(&id) {
                let (shots, of) = groups.entry(shot.label.clone()).or_default();
                shots.push(shot);
                of.push(id);
            }
        }
        let mut sum = 0;
        for (label, (shots, ids)) in groups {
            sum += act(&label, shots, ids)?;
        }
        Ok(sum)
    }

    /// The labels of `prompt` with their shots, and those that there are shots of and that are no label.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn labels(&self, prompt: &str) -> Result<(Vec<LabelCount>, Vec<LabelCount>), NoLabels> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for shot in self.home.shots_in(&self.home.shots_folder(prompt)?)? {
            *counts.entry(shot.label).or_default() += 1;
        }
        let labels = labels_of(&self.home, prompt)?;
        let listed: Vec<LabelCount> = labels
            .into_iter()
            .map(|label| {
                let of: Vec<String> = counts
                    .keys()
                    .filter(|name| same_name(name, &label.name))
                    .cloned()
                    .collect();
                LabelCount {
                    shots: of.iter().filter_map(|name| counts.remove(name)).sum(),
                    label: label.name,
                    words: label.words,
                }
            })
            .collect();
        let others = counts.into_iter().map(|(label, shots)| LabelCount {
            words: label.clone(),
            label,
            shots,
        });
        Ok((listed, others.collect()))
    }

    /// Makes the labels of `prompt` these, in this order. Shots of others stay where they are.
    ///
    /// # Errors
    /// If one cannot be a label, two read the same, or they cannot be written.
    pub fn set_labels(&self, prompt: &str, labels: &[Label]) -> Result<(), ShotsError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_labels(prompt, labels)
    }

    fn write_labels(&self, prompt: &str, labels: &[Label]) -> Result<(), ShotsError> {
        let text = labels::to_text(labels);
        match labels::parse(&text, "labels") {
            Err(LabelsError::Empty { .. }) => {}
            Err(error) => return Err(ShotsError::Labels(error)),
            Ok(read) if read == labels => {}
            Ok(_) => {
                let odd = labels.iter().find(|label| label.name.contains(['=', '#']));
                return Err(ShotsError::Name {
                    label: odd.map_or(String::new(), |label| label.name.clone()),
                    fault: LabelFault::NoName,
                });
            }
        }
        self.home.keep_shot_labels(prompt, labels)?;
        self.events.send(Event::Prompt(PromptChange {
            prompt: prompt.to_owned(),
            what: PromptAct::Labels,
            generation: None,
        }));
        Ok(())
    }

    /// Calls the label `from` `to`; where there is such a label already, the two become one.
    ///
    /// # Errors
    /// If there is no label `from`, `to` cannot be one, or something cannot be written.
    pub fn rename(&self, prompt: &str, from: &str, to: &str) -> Result<(), ShotsError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut labels = labels_of(&self.home, prompt)?;
        let Some(place) = labels.iter().position(|label| label.name == from) else {
            return Err(ShotsError::NoLabel {
                prompt: prompt.into(),
                label: from.into(),
            });
        };
        let known = labels.iter().position(|label| same_name(&label.name, to));
        let name = match known {
            // Only written otherwise: shots are found under either, and the two may not both be listed.
            Some(same) if same == place => {
                let new = label(to)?;
                let name = new.name.clone();
                let old = &mut labels[place];
                if old.words == old.name {
                    old.words = new.words;
                }
                old.name.clone_from(&name);
                name
            }
            Some(other) => labels[other].name.clone(),
            None => {
                let old = &labels[place];
                // Words of its own are what the model reads: the name is for people.
                let own = (old.words != old.name).then(|| old.words.clone());
                let new = label(to)?;
                let name = new.name.clone();
                let new = Label {
                    words: own.unwrap_or(new.words),
                    ..new
                };
                // Both until all shots are moved: whatever interrupts this, each shot has a label that is listed.
                labels.insert(place, new);
                name
            }
        };
        if name != from {
            self.home.keep_shot_labels(prompt, &labels)?;
            let of_label = self.all(prompt)?.into_iter();
            let of_label = of_label.filter(|(_, shot)| shot.label == from);
            let (ids, shots): (Vec<String>, Vec<Shot>) = of_label.unzip();
            if !shots.is_empty() {
                self.home.move_shots(prompt, &shots, &name)?;
                self.tell(prompt, ShotAct::Moved, ids, &name);
            }
            labels.retain(|label| label.name != from);
        }
        self.write_labels(prompt, &labels)
    }

    /// The name of a label of `prompt` that reads as `label` does.
    fn known(&self, prompt: &str, label: &str) -> Result<String, ShotsError> {
        let labels = labels_of(&self.home, prompt)?;
        let found = labels
            .into_iter()
            .find(|known| same_name(&known.name, label));
        found
            .map(|known| known.name)
            .ok_or_else(|| ShotsError::NoLabel {
                prompt: prompt.into(),
                label: label.into(),
            })
    }

    fn tell(&self, prompt: &str, what: ShotAct, ids: Vec<String>, label: &str) {
        let all = self.all(prompt).unwrap_or_default();
        let shots = all
            .iter()
            .filter(|(_, shot)| same_name(&shot.label, label))
            .count();
        self.tell_with(prompt, what, ids, label, shots);
    }

    fn tell_with(&self, prompt: &str, what: ShotAct, ids: Vec<String>, label: &str, shots: usize) {
        self.events.send(Event::Shot(ShotChange {
            prompt: prompt.to_owned(),
            what,
            ids,
            label: label.to_owned(),
            shots,
        }));
    }
}

/// A label of this name, read as it is written.
///
/// # Errors
/// If no label can have it.
pub fn label(name: &str) -> Result<Label, ShotsError> {
    Label::new(name, None).map_err(|fault| ShotsError::Name {
        label: name.into(),
        fault,
    })
}

#[cfg(test)]
mod tests;
