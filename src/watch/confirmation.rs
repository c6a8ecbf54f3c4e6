//! A change counts only after so many answers alike, for who would rather be late than wrong.

use super::Shown;

/// What a camera is taken to show, and what it may be about to show.
pub struct Confirmation {
    /// Answers alike that make a change; 0 and 1 take each as it comes.
    needed: usize,
    shown: Option<Shown>,
    /// What was answered last, if it is something else, and how many times in a row.
    candidate: Option<(Shown, usize)>,
}

impl Confirmation {
    /// With the answers alike that make a change.
    pub fn new(needed: usize) -> Confirmation {
        Confirmation {
            needed,
            shown: None,
            candidate: None,
        }
    }

    /// Takes the next answer. What was shown before comes back, none for the first answer, where this one makes a change.
    pub fn add(&mut self, answer: &Shown) -> Option<Option<Shown>> {
        if self.shown.as_ref() == Some(answer) {
            self.candidate = None;
            return None;
        }
        let alike = match self.candidate.take() {
            Some((shown, alike)) if shown == *answer => alike + 1,
            _ => 1,
        };
        // Nothing is taken back by the first answer.
        if self.shown.is_some() && alike < self.needed {
            self.candidate = Some((answer.clone(), alike));
            return None;
        }
        Some(self.shown.replace(answer.clone()))
    }

    /// Whether the last answer was something else than what is shown, and more are needed.
    pub fn is_undecided(&self) -> bool {
        self.candidate.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes among answers, a letter each; `?` is none of the labels.
    fn changes(needed: usize, answers: &str) -> String {
        let mut confirmation = Confirmation::new(needed);
        let changes = answers.chars().filter(|&letter| {
            let shown = match letter {
                '?' => Shown::Unknown,
                letter => Shown::Label(letter.into()),
            };
            confirmation.add(&shown).is_some()
        });
        changes.collect()
    }

    #[test]
    fn a_change_counts_after_so_many_answers_alike() {
        assert_eq!(changes(3, "aabbaabbbbabab"), "ab");
        assert_eq!(changes(3, "a?b?b???"), "a?");
        for at_once in [0, 1] {
            assert_eq!(changes(at_once, "aabba?"), "aba?");
        }
    }
}
