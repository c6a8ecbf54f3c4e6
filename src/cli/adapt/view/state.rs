//! What the labelling view knows and what its keys mean: plain data and functions, with no terminal, camera or disk, so
//! that every key can be tried in a test. Whoever holds it carries out the actions and reports how they went.

use super::regions::Regions;
use crate::adapt::MIN_SHOTS;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::time::Duration;

/// The keys of labels, in order: those that mean something else are left out.
const LABEL_KEYS: &str = "123456789acdefghijklmnoprstvwxyz";
/// Shots of a burst, and the time from one to the next.
const BURST_SHOTS: usize = 8;
const BURST_PACE: Duration = Duration::from_millis(400);
/// So many shots of a label do well.
pub const ENOUGH_SHOTS: usize = 16;

/// One label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    /// The key that stores a shot of it; with more labels than keys the last have none.
    pub key: Option<char>,
    /// Shots that are kept.
    pub shots: usize,
}

/// What the view is doing.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Showing the camera, taking shots.
    Looking,
    Training(Progress),
    /// Asking whether the trained prompt may stay.
    Verdict(Verdict),
}

/// How far training is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    pub what: &'static str,
    pub done: usize,
    pub of: usize,
    pub detail: String,
}

/// How a trained prompt did on the pictures that training never saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// In `0..=1`.
    pub zero_shot_accuracy: f32,
    pub adapted_accuracy: f32,
    /// Pictures held out; 0 if the training pictures had to be judged.
    pub holdout_pictures: usize,
    /// Whether it is at least as good as the plain template.
    pub accepted: bool,
    /// `confusion[shown][named]`: judged pictures of each label, by the label they were given.
    pub confusion: Vec<Vec<usize>>,
}

impl Verdict {
    /// The label of which the smallest share was named right; with equals the one that `shots` has fewest of.
    pub fn weakest(&self, shots: impl Fn(usize) -> usize) -> Option<usize> {
        let share = |class: usize| {
            let row = &self.confusion[class];
            let judged: usize = row.iter().sum();
            (judged > 0).then(|| row[class] as f32 / judged as f32)
        };
        let judged = (0..self.confusion.len()).filter_map(|class| Some((class, share(class)?)));
        judged
            .min_by(|a, b| a.1.total_cmp(&b.1).then(shots(a.0).cmp(&shots(b.0))))
            .map(|(class, _)| class)
    }
}

/// A line for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub text: String,
    /// Something went wrong.
    pub bad: bool,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Nothing,
    /// Keep the picture that is shown as a shot of this label.
    Store(usize),
    /// Take the last shot of this session back.
    Undo,
    /// Remove the newest shot of this label, of whatever session.
    RemoveNewest(usize),
    /// Look at another part of the camera's pictures.
    Look,
    /// Show the next picture, where they wait to be labelled.
    Skip,
    Train,
    /// End training without a result.
    Cancel,
    /// Keep the trained prompt.
    Keep,
    Quit,
}

struct Burst {
    class: usize,
    left: usize,
    next: Duration,
}

/// The view's state.
pub struct State {
    pub rows: Vec<Row>,
    /// The label that is marked.
    pub selected: usize,
    pub stage: Stage,
    pub paused: bool,
    /// Whether the next label key takes a burst.
    pub burst_armed: bool,
    pub help: bool,
    pub message: Option<Message>,
    /// The parts of the camera's pictures that are labelled.
    pub regions: Regions,
    /// The size of the camera's pictures, in pixels.
    pub size: (u32, u32),
    burst: Option<Burst>,
}

impl State {
    /// Labels with the shots that are kept of each.
    pub fn new(labels: impl IntoIterator<Item = (String, usize)>) -> State {
        let mut keys = LABEL_KEYS.chars();
        let rows = labels.into_iter().map(|(name, shots)| Row {
            name,
            key: keys.next(),
            shots,
        });
        State {
            rows: rows.collect(),
            selected: 0,
            stage: Stage::Looking,
            paused: false,
            burst_armed: false,
            help: false,
            message: None,
            regions: Regions::default(),
            size: (1, 1),
            burst: None,
        }
    }

    pub fn total(&self) -> usize {
        self.rows.iter().map(|row| row.shots).sum()
    }

    /// Shows a message.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.message = Some(Message { text, bad: false });
    }

    /// Shows that something went wrong.
    pub fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.message = Some(Message { text, bad: true });
    }

    /// What `key`, pressed at `now` since the view opened, asks for.
    pub fn key(&mut self, key: KeyEvent, now: Duration) -> Action {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control {
            return match (key.code, &self.stage) {
                (KeyCode::Char('c'), Stage::Training(_)) => Action::Cancel,
                (KeyCode::Char('c'), _) => Action::Quit,
                _ => Action::Nothing,
            };
        }
        if std::mem::take(&mut self.help) {
            return Action::Nothing;
        }
        // Letters are keys in whatever case: caps lock is no reason to miss a shot.
        let code = match key.code {
            KeyCode::Char(c) => KeyCode::Char(c.to_ascii_lowercase()),
            code => code,
        };
        if code == KeyCode::Char('?') {
            self.help = true;
            return Action::Nothing;
        }
        match &self.stage {
            Stage::Looking if self.regions.moving => {
                if self.regions.key(code, key.modifiers, self.size) {
                    return Action::Look;
                }
                self.note("Enter when the region is right: then keys are labels again");
                Action::Nothing
            }
            Stage::Looking => self.key_looking(code, now),
            Stage::Training(_) if code == KeyCode::Esc => Action::Cancel,
            Stage::Training(_) => Action::Nothing,
            Stage::Verdict(verdict) => {
                let accepted = verdict.accepted;
                self.key_verdict(code, accepted)
            }
        }
    }

    fn key_looking(&mut self, code: KeyCode, now: Duration) -> Action {
        self.burst = None;
        let last = self.rows.len().saturating_sub(1);
        match code {
            KeyCode::Enter => return self.train(),
            KeyCode::Backspace | KeyCode::Char('u') => return Action::Undo,
            KeyCode::Delete => return Action::RemoveNewest(self.selected),
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Tab => {
                self.regions.begin(self.size);
                return Action::Look;
            }
            KeyCode::Right => return Action::Skip,
            KeyCode::Char('b') => self.burst_armed = !self.burst_armed,
            KeyCode::Up => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down => self.selected = (self.selected + 1).min(last),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(10),
            KeyCode::PageDown => self.selected = (self.selected + 10).min(last),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            KeyCode::Esc if self.burst_armed => self.burst_armed = false,
            KeyCode::Esc => self.note("q or Ctrl-C leaves; your shots are kept"),
            KeyCode::Char('0') => return self.shoot(self.selected, now),
            KeyCode::Char(c) => {
                if let Some(class) = self.rows.iter().position(|row| row.key == Some(c)) {
                    return self.shoot(class, now);
                }
                self.note(format!("no label has the key {c}: ? shows the keys"));
            }
            _ => {}
        }
        Action::Nothing
    }

    fn key_verdict(&mut self, code: KeyCode, accepted: bool) -> Action {
        match code {
            KeyCode::Char('k') => return Action::Keep,
            KeyCode::Enter if accepted => return Action::Keep,
            KeyCode::Enter | KeyCode::Char('m') | KeyCode::Esc => self.more(),
            KeyCode::Char('q') => return Action::Quit,
            _ => {}
        }
        Action::Nothing
    }

    /// Back to the camera, with the weakest label marked.
    fn more(&mut self) {
        let Stage::Verdict(verdict) = std::mem::replace(&mut self.stage, Stage::Looking) else {
            return;
        };
        if let Some(weakest) = verdict.weakest(|class| self.rows[class].shots) {
            self.selected = weakest;
            self.note(format!(
                "take more of {:?}, in other places and from other sides; Enter trains again",
                self.rows[weakest].name
            ));
        }
    }

    fn shoot(&mut self, class: usize, now: Duration) -> Action {
        self.selected = class;
        if std::mem::take(&mut self.burst_armed) {
            // The first is taken at once.
            self.burst = Some(Burst {
                class,
                left: BURST_SHOTS - 1,
                next: now + BURST_PACE,
            });
        }
        Action::Store(class)
    }

    /// What time asks for: the next shot of a burst.
    pub fn tick(&mut self, now: Duration) -> Action {
        let Some(burst) = &mut self.burst else {
            return Action::Nothing;
        };
        if now < burst.next || self.stage != Stage::Looking {
            return Action::Nothing;
        }
        let class = burst.class;
        burst.left -= 1;
        burst.next = now + BURST_PACE;
        if burst.left == 0 {
            self.burst = None;
        }
        Action::Store(class)
    }

    /// Shots that a burst will still take.
    pub fn burst_left(&self) -> Option<usize> {
        self.burst.as_ref().map(|burst| burst.left)
    }

    fn train(&mut self) -> Action {
        let short = self.rows.iter().position(|row| row.shots < MIN_SHOTS);
        if let Some(class) = short {
            let Row { name, shots, .. } = &self.rows[class];
            let have = match shots {
                0 => "no shot yet".to_owned(),
                _ => "only 1 shot".to_owned(),
            };
            let text = format!(
                "{name:?} has {have}: take at least {MIN_SHOTS} of every label, better {ENOUGH_SHOTS}"
            );
            self.selected = class;
            self.warn(text);
            return Action::Nothing;
        }
        self.paused = false;
        Action::Train
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::ZERO;

    fn state(labels: &[(&str, usize)]) -> State {
        State::new(labels.iter().map(|&(name, shots)| (name.to_owned(), shots)))
    }

    fn press(state: &mut State, code: KeyCode) -> Action {
        state.key(KeyEvent::new(code, KeyModifiers::NONE), START)
    }

    fn letter(state: &mut State, c: char) -> Action {
        press(state, KeyCode::Char(c))
    }

    fn control_c(state: &mut State) -> Action {
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        state.key(key, START)
    }

    fn verdict(accepted: bool) -> Stage {
        Stage::Verdict(Verdict {
            zero_shot_accuracy: 0.5,
            adapted_accuracy: 0.75,
            holdout_pictures: 4,
            accepted,
            confusion: vec![vec![2, 0], vec![1, 1]],
        })
    }

    #[test]
    fn each_label_has_a_key_as_long_as_there_are_keys_and_none_is_taken_twice() {
        let many: Vec<(String, usize)> = (0..40).map(|i| (format!("label {i}"), 0)).collect();
        let mut state = State::new(many);
        let keys: Vec<char> = state.rows.iter().filter_map(|row| row.key).collect();
        let distinct: std::collections::BTreeSet<&char> = keys.iter().collect();
        assert_eq!((keys.len(), distinct.len()), (32, 32));
        assert!(keys.iter().all(|key| !"0buq?".contains(*key)));
        assert_eq!(letter(&mut state, '9'), Action::Store(8));
        assert_eq!(letter(&mut state, 'a'), Action::Store(9));
        assert_eq!(letter(&mut state, 'C'), Action::Store(10));
        // Those without a key are marked with the arrows.
        press(&mut state, KeyCode::End);
        assert_eq!(letter(&mut state, '0'), Action::Store(39));
        press(&mut state, KeyCode::Down);
        assert_eq!(state.selected, 39);
        press(&mut state, KeyCode::PageUp);
        assert_eq!(state.selected, 29);
        press(&mut state, KeyCode::Delete);
        assert_eq!(press(&mut state, KeyCode::Delete), Action::RemoveNewest(29));
    }

    #[test]
    fn keys_without_a_meaning_say_so() {
        let mut state = state(&[("mug", 0), ("fish", 0)]);
        assert_eq!(letter(&mut state, '7'), Action::Nothing);
        assert!(state.message.unwrap().text.contains("no label has the key"));
    }

    #[test]
    fn training_waits_for_enough_shots_and_names_the_label_that_lacks_them() {
        let mut state = state(&[("mug", 2), ("fish", 1)]);
        assert_eq!(press(&mut state, KeyCode::Enter), Action::Nothing);
        assert!(state.message.as_ref().unwrap().text.contains("\"fish\""));
        assert_eq!(state.selected, 1);
        state.rows[1].shots = 2;
        assert_eq!(press(&mut state, KeyCode::Enter), Action::Train);
    }

    #[test]
    fn a_burst_takes_its_shots_in_time_and_any_key_ends_it() {
        let mut state = state(&[("mug", 0), ("fish", 0)]);
        letter(&mut state, 'b');
        assert!(state.burst_armed);
        assert_eq!(letter(&mut state, '2'), Action::Store(1));
        assert_eq!(state.tick(START), Action::Nothing);
        let mut taken = 1;
        for tick in 1..100 {
            let action = state.tick(tick * BURST_PACE / 2);
            taken += usize::from(action == Action::Store(1));
        }
        assert_eq!(taken, BURST_SHOTS);
        assert_eq!(state.burst_left(), None);

        letter(&mut state, 'b');
        letter(&mut state, '1');
        letter(&mut state, ' ');
        assert_eq!(state.tick(100 * BURST_PACE), Action::Nothing);
        // Armed by mistake.
        letter(&mut state, 'b');
        press(&mut state, KeyCode::Esc);
        assert!(!state.burst_armed);
    }

    #[test]
    fn escape_and_control_c_cancel_training_and_only_control_c_leaves() {
        let mut state = state(&[("mug", 2), ("fish", 2)]);
        assert_eq!(press(&mut state, KeyCode::Esc), Action::Nothing);
        assert_eq!(control_c(&mut state), Action::Quit);
        assert_eq!(letter(&mut state, 'q'), Action::Quit);
        state.stage = Stage::Training(Progress::default());
        assert_eq!(press(&mut state, KeyCode::Esc), Action::Cancel);
        assert_eq!(control_c(&mut state), Action::Cancel);
        assert_eq!(letter(&mut state, '1'), Action::Nothing);
        assert_eq!(letter(&mut state, 'q'), Action::Nothing);
    }

    #[test]
    fn a_good_prompt_is_kept_by_enter_and_a_worse_one_only_by_its_own_key() {
        let mut state = state(&[("mug", 4), ("fish", 4)]);
        state.stage = verdict(true);
        assert_eq!(press(&mut state, KeyCode::Enter), Action::Keep);
        state.stage = verdict(false);
        assert_eq!(press(&mut state, KeyCode::Enter), Action::Nothing);
        assert_eq!((state.selected, &state.stage), (1, &Stage::Looking));
        assert!(state.message.as_ref().unwrap().text.contains("\"fish\""));
        state.stage = verdict(false);
        assert_eq!(letter(&mut state, 'k'), Action::Keep);
    }

    #[test]
    fn the_weakest_label_is_the_one_named_wrong_most_and_then_the_one_with_fewest_shots() {
        let Stage::Verdict(mut verdict) = verdict(true) else {
            unreachable!()
        };
        assert_eq!(verdict.weakest(|_| 5), Some(1));
        verdict.confusion = vec![vec![2, 0], vec![0, 2]];
        assert_eq!(verdict.weakest(|class| [5, 4][class]), Some(1));
        verdict.confusion = vec![vec![0, 0], vec![0, 0]];
        assert_eq!(verdict.weakest(|_| 5), None);
    }

    #[test]
    fn keys_move_the_region_until_enter_and_are_labels_again_then() {
        let mut state = state(&[("mug", 2), ("fish", 2)]);
        assert_eq!(press(&mut state, KeyCode::Tab), Action::Look);
        assert_eq!(press(&mut state, KeyCode::Left), Action::Look);
        let region = state.regions.looked_at().unwrap().to_string();
        assert_eq!(region, "23,25,50,50%");
        assert_eq!(letter(&mut state, '1'), Action::Nothing);
        assert!(state.message.as_ref().unwrap().text.contains("Enter"));
        assert_eq!(press(&mut state, KeyCode::Enter), Action::Look);
        assert_eq!(letter(&mut state, '1'), Action::Store(0));
        assert_eq!(press(&mut state, KeyCode::Right), Action::Skip);
        assert_eq!(control_c(&mut state), Action::Quit);
    }

    #[test]
    fn help_is_shown_until_the_next_key() {
        let mut state = state(&[("mug", 2), ("fish", 2)]);
        letter(&mut state, '?');
        assert!(state.help);
        assert_eq!(letter(&mut state, '1'), Action::Nothing);
        assert!(!state.help);
        assert_eq!(letter(&mut state, '1'), Action::Store(0));
    }
}
