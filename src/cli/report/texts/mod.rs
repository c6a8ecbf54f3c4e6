//! All that a report says, in each of its languages: one file a language, whose fields the compiler asks for.

mod english;
mod german;

use super::super::eval::Protocol;
use super::super::output::percent;
use clap::ValueEnum;

pub use english::ENGLISH;

/// What a report is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    #[value(name = "en")]
    English,
    #[value(name = "de")]
    German,
}

impl Language {
    pub fn texts(self) -> &'static Texts {
        match self {
            Language::English => &ENGLISH,
            Language::German => &german::GERMAN,
        }
    }
}

/// The texts of one language. Where markup may stand in a text, the names in it are escaped already.
pub struct Texts {
    /// As HTML names it.
    pub language: &'static str,
    /// Between whole numbers and their fractions.
    pub point: &'static str,

    pub protocol: fn(Protocol) -> &'static str,
    /// A part of the test that is called so.
    pub part: fn(&str) -> &str,
    /// Of protocol and data set.
    pub title: fn(&str, &str) -> String,
    /// Of the protocol.
    pub heading: fn(&str) -> String,
    pub about: fn(About) -> String,
    pub skipped: fn(usize) -> String,

    pub tiles: Tiles,
    pub methods: Card,
    pub columns: Columns,
    pub confusion: Confusion,
    pub few_shot: FewShot,
    pub calibration: Calibration,
    pub classes: Classes,
    pub loss: Loss,
    pub spectrum: Spectrum,
    pub mistakes: Mistakes,
}

/// What was judged.
pub struct About<'a> {
    pub source: &'a str,
    pub model: &'a str,
    pub template: &'a str,
    pub pictures: usize,
    pub seeds: usize,
}

/// The figures at the top.
pub struct Tiles {
    /// Of what is judged, from the lower to the upper bound.
    pub accuracy: fn(&str, &str, &str) -> String,
    pub zero_shot: &'static str,
    pub new: &'static str,
    pub harmonic_mean: &'static str,
    pub calibration_error: &'static str,
    pub latency: &'static str,
}

/// What stands over something.
pub struct Card {
    pub title: &'static str,
    pub text: &'static str,
}

/// The table of methods.
pub struct Columns {
    pub method: &'static str,
    pub base: &'static str,
    pub new: &'static str,
    pub harmonic_mean: &'static str,
    pub targets: &'static str,
    pub source: &'static str,
    pub accuracy: &'static str,
    pub interval: &'static str,
    pub deviation: &'static str,
    pub calibration_error: &'static str,
    /// That of the answers of all seeds together.
    pub calibration_together: &'static str,
    /// What that would be if all probabilities were right.
    pub calibration_by_chance: &'static str,
    pub unknown_auroc: &'static str,
    pub known_refused: &'static str,
    pub unknown_refused: &'static str,
    pub numbers: &'static str,
    pub bytes: &'static str,
    pub seconds: &'static str,
    /// From the lower to the upper bound.
    pub from_to: fn(&str, &str) -> String,
}

/// What is taken for what.
pub struct Confusion {
    pub title: &'static str,
    /// Of a method, so many pictures, of a part.
    pub text: fn(&str, usize, &str) -> String,
    pub chart: &'static str,
    /// What was right, what was named, how often.
    pub cell: fn(&str, &str, usize) -> String,
}

/// Accuracy by shots.
pub struct FewShot {
    pub title: &'static str,
    pub text: &'static str,
    pub chart: &'static str,
    pub across: &'static str,
    pub up: &'static str,
}

/// Accuracy by confidence.
pub struct Calibration {
    pub title: &'static str,
    /// The error of what is judged, and that of zero-shot.
    pub text: fn(&str, &str) -> String,
    pub chart: &'static str,
    pub across: &'static str,
    pub up: &'static str,
    /// Of a method, so many pictures, their confidence and accuracy.
    pub bin: fn(&str, usize, &str, &str) -> String,
}

/// Label by label.
pub struct Classes {
    pub title: &'static str,
    pub text: &'static str,
    /// So many of all.
    pub worst: fn(usize, usize) -> String,
    pub chart: &'static str,
    pub numbers: &'static str,
    pub label: &'static str,
    pub precision: &'static str,
    pub recall: &'static str,
    pub f1: &'static str,
    pub pictures: &'static str,
}

/// The training.
pub struct Loss {
    pub title: &'static str,
    /// The seed, and how long it took.
    pub text: fn(u64, &str) -> String,
    pub chart: &'static str,
    pub series: &'static str,
    pub across: &'static str,
    pub up: &'static str,
}

/// The prompt's spectrum.
pub struct Spectrum {
    pub title: &'static str,
    /// The density of the template, of the prompt, and of the change alone.
    pub text: fn(&str, &str, &str) -> String,
    pub chart: &'static str,
    pub template: &'static str,
    /// The first, second, ...
    pub value: fn(usize) -> String,
}

/// What was named wrong.
pub struct Mistakes {
    pub title: &'static str,
    pub none: &'static str,
    /// So many of all.
    pub text: fn(usize, usize) -> String,
    /// What is right, what was named, and how surely.
    pub named: fn(&str, &str, &str) -> String,
}

impl Texts {
    /// A number with so many digits after the point.
    pub fn number(&self, value: f64, digits: usize) -> String {
        format!("{value:.digits$}").replace('.', self.point)
    }

    /// A share in per cent.
    pub fn percent(&self, share: f64) -> String {
        percent(share as f32).replace('.', self.point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_in_the_language() {
        let (english, german) = (Language::English.texts(), Language::German.texts());
        assert_eq!(english.percent(0.8125), "81.2 %");
        assert_eq!(german.percent(0.8125), "81,2 %");
        assert_eq!(english.number(1.5, 2), "1.50");
        assert_eq!(german.number(-1.5, 3), "-1,500");
    }
}
