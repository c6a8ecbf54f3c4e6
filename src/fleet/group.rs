//! Which boxes: a group, and the share of it that is to try first; and what each of them looks at.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::NoticeError;
use crate::store::StoreError;
use crate::store::home::check_name;

/// The longest group: a topic has 65,535 bytes at most, and people read them.
const MAX_GROUP_BYTES: usize = 200;

/// Boxes that get the same: names with `/` between them, as in `shops/north`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Group(String);

impl Group {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Group {
    type Err = NoticeError;

    fn from_str(text: &str) -> Result<Group, NoticeError> {
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        let level = |level: &str| !level.is_empty() && level.chars().all(allowed);
        if text.len() <= MAX_GROUP_BYTES && text.split('/').all(level) {
            Ok(Group(text.into()))
        } else {
            Err(NoticeError::Group {
                group: text.chars().take(60).collect(),
            })
        }
    }
}

impl TryFrom<String> for Group {
    type Error = NoticeError;

    fn try_from(text: String) -> Result<Group, NoticeError> {
        text.parse()
    }
}

impl From<Group> for String {
    fn from(group: Group) -> String {
        group.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Whether `name` can be a region of a fleet: it is called as prompts are.
///
/// # Errors
/// If it cannot.
pub fn check_region(name: &str) -> Result<(), StoreError> {
    check_name(name, "region", ".rlp")
}

/// The share of the boxes that a notice is for, in hundredths of a per cent: 1 to 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Canary(u16);

impl Canary {
    /// All boxes.
    pub const ALL: Canary = Canary(10_000);

    /// So many hundredths of a per cent; none where that is no share.
    pub fn of_basis_points(points: u16) -> Option<Canary> {
        (1..=Canary::ALL.0)
            .contains(&points)
            .then_some(Canary(points))
    }

    /// In hundredths of a per cent.
    pub fn basis_points(self) -> u16 {
        self.0
    }
}

impl FromStr for Canary {
    type Err = NoticeError;

    fn from_str(text: &str) -> Result<Canary, NoticeError> {
        let number = text.trim();
        let number = number.strip_suffix('%').unwrap_or(number).trim_end();
        let share = number.parse().ok().filter(|percent: &f64| {
            let points = percent * 100.0;
            (1.0..=10_000.0).contains(&points) && (points - points.round()).abs() < 1e-6
        });
        match share {
            Some(percent) => Ok(Canary((percent * 100.0).round() as u16)),
            None => Err(NoticeError::Canary {
                share: text.chars().take(20).collect(),
            }),
        }
    }
}

impl fmt::Display for Canary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} %", f64::from(self.0) / 100.0)
    }
}
