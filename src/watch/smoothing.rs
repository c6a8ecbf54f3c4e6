//! Answers smoothed over time: a moving average that forgets exponentially, so that one odd frame changes no label.

use crate::classifier::Answer;
use std::time::Duration;

/// The average of the answers so far.
pub struct Smoothing {
    /// In which an answer loses all but 1/e of its weight; zero keeps the newest answer alone.
    constant: Duration,
    mean: Option<Answer>,
}

impl Smoothing {
    /// With the time in which an answer loses all but 1/e of its weight.
    pub fn new(constant: Duration) -> Smoothing {
        Smoothing {
            constant,
            mean: None,
        }
    }

    /// The average with `answer`, which came `elapsed` after the one before.
    pub fn add(&mut self, answer: Answer, elapsed: Duration) -> Answer {
        let share = if self.constant.is_zero() {
            1.0
        } else {
            1.0 - (-elapsed.as_secs_f32() / self.constant.as_secs_f32()).exp()
        };
        let mean = match self.mean.take() {
            None => answer,
            Some(old) => old.towards(&answer, share),
        };
        self.mean = Some(mean.clone());
        mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Unknown;

    fn answer(first: f32) -> Answer {
        Answer::for_test(&[first, 1.0 - first], first, Unknown::Never)
    }

    const STEP: Duration = Duration::from_millis(100);

    #[test]
    fn one_odd_frame_changes_no_label_but_lasting_change_does() {
        let mut smoothing = Smoothing::new(5 * STEP);
        let mut named = |first| smoothing.add(answer(first), STEP).best().class;
        assert_eq!([1.0, 1.0, 0.0, 1.0].map(&mut named), [0, 0, 0, 0]);
        let later = [0.0; 10].map(&mut named);
        assert_eq!((later[1], later[9]), (0, 1));
    }

    #[test]
    fn after_one_time_constant_an_answer_weighs_one_part_in_e() {
        let mut smoothing = Smoothing::new(STEP);
        smoothing.add(answer(1.0), STEP);
        let mean = smoothing.add(answer(0.0), STEP);
        assert!((mean.probabilities[0] - (-1.0f32).exp()).abs() < 1e-6);
        assert!((mean.similarity - (-1.0f32).exp()).abs() < 1e-6);
        assert!((mean.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn without_a_time_constant_the_newest_answer_stands_alone() {
        let mut smoothing = Smoothing::new(Duration::ZERO);
        smoothing.add(answer(1.0), STEP);
        assert_eq!(smoothing.add(answer(0.25), Duration::ZERO), answer(0.25));
    }
}
