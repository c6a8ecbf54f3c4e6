//! Troubles of a camera that repeat: told once, then counted, and told again with their number from time to time, so that a
//! camera that misbehaves for a day does not fill the log.

use std::time::{Duration, Instant};

use super::CameraProblem;
use super::event::without_numbers;

/// How long a trouble that repeats is only counted.
const QUIET: Duration = Duration::from_secs(10 * 60);
/// How many kinds of troubles are told apart; more are one kind.
const MAX_KINDS: usize = 16;
/// How many files of a folder are named that have the same fault: people want to know which.
const NAMED_FILES: u64 = 5;

/// The troubles of one camera.
#[derive(Debug, Default)]
pub(super) struct Troubles(Vec<Kind>);

#[derive(Debug)]
struct Kind {
    /// What its troubles have in common.
    common: String,
    /// What the newest says.
    words: String,
    /// Those that were told one by one.
    told: u64,
    /// Those since one was told.
    more: u64,
    /// When one was told last.
    last: Instant,
    camera: String,
}

impl Troubles {
    /// What there is to say of one more trouble that came at `now`; nothing where it is one more of a kind.
    pub fn add(&mut self, problem: CameraProblem, now: Instant) -> Option<CameraProblem> {
        let (camera, mut words) = problem.said();
        let mut common = without_numbers(&words);
        let known = self.0.iter().position(|kind| kind.common == common);
        if known.is_none() && self.0.len() >= MAX_KINDS {
            words = "other troubles".into();
            common.clone_from(&words);
        }
        let known = known.or_else(|| self.0.iter().position(|kind| kind.common == common));
        let Some(known) = known else {
            self.0.push(Kind {
                common,
                words,
                told: 1,
                more: 0,
                last: now,
                camera,
            });
            return Some(problem);
        };
        let kind = &mut self.0[known];
        let named = match problem {
            CameraProblem::File(_) => NAMED_FILES,
            _ => 1,
        };
        if kind.told < named {
            (kind.told, kind.last) = (kind.told + 1, now);
            return Some(problem);
        }
        kind.more += 1;
        kind.words = words;
        if now.saturating_duration_since(kind.last) < QUIET {
            return None;
        }
        kind.last = now;
        Some(kind.repeated())
    }

    /// What was counted and not told yet, a kind at a time.
    pub fn rest(&mut self) -> Option<CameraProblem> {
        let counted = self.0.iter_mut().find(|kind| kind.more > 0)?;
        Some(counted.repeated())
    }
}

impl Kind {
    fn repeated(&mut self) -> CameraProblem {
        CameraProblem::Repeated {
            camera: self.camera.clone(),
            words: self.words.clone(),
            more: std::mem::take(&mut self.more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PictureError;
    use super::*;

    fn broken(index: u64) -> CameraProblem {
        CameraProblem::Picture {
            camera: "http://cam/".into(),
            index,
            error: PictureError::Damaged(format!("block {index}")),
        }
    }

    fn told(problem: Option<CameraProblem>) -> String {
        problem.map(|told| told.to_string()).unwrap_or_default()
    }

    #[test]
    fn one_trouble_300_times_is_told_once_and_counted() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        let first = told(troubles.add(broken(0), now));
        assert!(
            first.contains("picture 0") && first.contains("block 0"),
            "{first}"
        );
        for index in 1..298 {
            assert_eq!(told(troubles.add(broken(index), now)), "");
        }
        let rest = told(troubles.rest());
        assert!(
            rest.contains("297 more like it") && rest.contains("block 297"),
            "{rest}"
        );
        assert_eq!(told(troubles.rest()), "");
    }

    #[test]
    fn troubles_without_end_are_counted_every_ten_minutes_and_their_kinds_are_bounded() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        let lost = |reason: String| CameraProblem::Lost {
            camera: "0".into(),
            reason,
            pause: Duration::from_secs(1),
        };
        let letters = |kind: u32| char::from_u32(u32::from('a') + kind).unwrap().to_string();
        let mut lines = 0;
        // A day of 40 troubles that take turns, one every ten seconds.
        for step in 0..8640u32 {
            let kind = step % 40;
            let words = letters(kind / 20) + &letters(kind % 20);
            let at = now + Duration::from_secs(10 * u64::from(step));
            lines += usize::from(troubles.add(lost(words), at).is_some());
        }
        assert!(troubles.0.len() <= MAX_KINDS + 1);
        assert!(lines < 24 * 200, "{lines}");
        let again = told(troubles.rest());
        assert!(again.contains("more like it"), "{again}");
    }

    #[test]
    fn files_are_named_a_few_times() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        let file = |index: usize| {
            CameraProblem::File(PictureError::File {
                path: format!("in/{index}.png").into(),
                problem: Box::new(PictureError::Empty),
            })
        };
        let named = (0..20).filter(|&index| troubles.add(file(index), now).is_some());
        assert_eq!(named.count() as u64, NAMED_FILES);
        assert!(told(troubles.rest()).contains("15 more like it"));
    }
}
