//! Which shots are meant: by number, by label, or all of a prompt.

use crate::cli::{Context, usage};
use crate::prompt::labels::same_name;
use crate::store::Shot;
use anyhow::ensure;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Shots of one prompt.
#[derive(clap::Args)]
pub struct Chosen {
    /// The prompt that the shots were taken for
    #[arg(value_name = "NAME")]
    pub prompt: String,
    /// Shots by number, as `shots show` names them: 17, or 20-24
    #[arg(value_name = "NUMBER")]
    pub numbers: Vec<Numbers>,
    /// Only shots of this label
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
}

/// A number, or all from one to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers(RangeInclusive<u64>);

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Numbers, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.parse().ok().filter(|&number: &u64| number > 0);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Numbers(first..=last)),
            _ => Err("give a number from 1 on, or two with - between them, as in 20-24".into()),
        }
    }
}

impl Chosen {
    /// The shots that are meant, oldest first; all of the prompt where neither numbers nor a label are given.
    ///
    /// # Errors
    /// If the prompt has no shots, or none of a number or of the label.
    pub fn shots(&self, context: &Context) -> anyhow::Result<Vec<Shot>> {
        let folder = context.home.shots_folder(&self.prompt).map_err(usage)?;
        let kept = context.home.shots_in(&folder)?;
        let name = &self.prompt;
        ensure!(
            !kept.is_empty(),
            "there are no shots of {name} in {}; `edge-rlp shots list` names the prompts that have some",
            folder.display()
        );
        let of_label = |shot: &&Shot| {
            let label = self.label.as_ref();
            label.is_none_or(|label| same_name(label, &shot.label))
        };
        let of_label: Vec<&Shot> = kept.iter().filter(of_label).collect();
        if let Some(label) = self.label.as_ref().filter(|_| of_label.is_empty()) {
            anyhow::bail!(
                "{name} has no shots of {label:?}; `edge-rlp shots list {name}` names the labels that have some"
            );
        }
        for Numbers(numbers) in &self.numbers {
            let found = of_label.iter().any(|shot| numbers.contains(&shot.number));
            let (first, last) = (numbers.start(), numbers.end());
            let asked = if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            };
            let of = self.label.as_ref();
            let of = of.map_or(String::new(), |label| format!(" of {label:?}"));
            ensure!(
                found,
                "{name} has no shot {asked}{of}; `edge-rlp shots show {name}` names those that are"
            );
        }
        let meant = of_label.into_iter().filter(|shot| {
            let holds = |Numbers(numbers): &Numbers| numbers.contains(&shot.number);
            self.numbers.is_empty() || self.numbers.iter().any(holds)
        });
        Ok(meant.cloned().collect())
    }

    /// Whether it was said which shots of the prompt are meant.
    pub fn says_which(&self) -> bool {
        !self.numbers.is_empty() || self.label.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_one_or_a_range() {
        let numbers = |text: &str| text.parse::<Numbers>();
        assert_eq!(numbers("17"), Ok(Numbers(17..=17)));
        assert_eq!(numbers("20-24"), Ok(Numbers(20..=24)));
        for wrong in ["", "0", "-1", "1-", "5-4", "x", "1-2-3", "+1x"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
    }
}
