//! The shots of a home folder: labelled pictures that a prompt is made from, kept so that adapting again needs no
//! camera. `shots/NAME/LABEL/000001.jpg` and so on: numbered through all labels of a prompt, so that the newest is
//! known without a clock.

use super::Home;
use super::names::check_prompt_name;
use crate::prompt::{Label, labels};
use crate::store::{DiskError, StoreError, atomic};
use std::io;
use std::path::{Path, PathBuf};

/// The file beside the label folders that says in which order and with which words the labels are read.
pub const LABELS_FILE: &str = "labels.txt";
/// How the file names of shots end.
const EXTENSION: &str = ".jpg";

/// A kept picture.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shot {
    /// Its place among all shots of the prompt, from 1.
    pub number: u64,
    /// The name of its label.
    pub label: String,
    pub path: PathBuf,
}

impl Home {
    /// Where the shots of the prompt `name` lie, or would lie.
    ///
    /// # Errors
    /// If no prompt can have this name.
    pub fn shots_folder(&self, name: &str) -> Result<PathBuf, StoreError> {
        check_prompt_name(name)?;
        Ok(self.root.join("shots").join(name))
    }

    /// The shots in a folder that is laid out as [`Home::shots_folder`] is, oldest first; none where it does not
    /// exist. Other files are left out.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn shots_in(&self, folder: &Path) -> Result<Vec<Shot>, StoreError> {
        let mut shots = Vec::new();
        for name in self.names_in(folder)? {
            if name.starts_with('.') || name == LABELS_FILE {
                continue;
            }
            let label_folder = folder.join(&name);
            let files = match self.names_in(&label_folder) {
                // A file that somebody put beside the label folders.
                Err(StoreError::Disk(DiskError::Read { source, .. }))
                    if source.kind() == io::ErrorKind::NotADirectory =>
                {
                    continue;
                }
                files => files?,
            };
            let label = label_of(&name);
            shots.extend(files.iter().filter_map(|file| {
                Some(Shot {
                    number: number_of(file)?,
                    label: label.clone(),
                    path: label_folder.join(file),
                })
            }));
        }
        shots.sort_by(|a, b| (a.number, &a.label).cmp(&(b.number, &b.label)));
        Ok(shots)
    }

    /// Keeps `picture`, the bytes of a JPEG file, as the newest shot of `label` for the prompt `name`.
    ///
    /// # Errors
    /// If it cannot be written; then there is no such shot.
    pub fn add_shot(&self, name: &str, label: &str, picture: &[u8]) -> Result<Shot, StoreError> {
        let shots = self.shots_folder(name)?;
        let _lock = self.lock_all()?;
        let folder = shots.join(folder_name(label));
        self.create_folder(&folder)?;
        atomic::clean(&*self.files, &folder);
        let newest = self.shots_in(&shots)?.last().map_or(0, |shot| shot.number);
        let number = newest + 1;
        let path = folder.join(format!("{number:06}{EXTENSION}"));
        self.write(&path, picture).inspect_err(|_| {
            // Written, but not for certain: a shot that was refused must not turn up later.
            let _ = self.files.remove_file(&path);
        })?;
        Ok(Shot {
            number,
            label: label.into(),
            path,
        })
    }

    /// Takes a shot back; one that is gone already stays so.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove_shot(&self, shot: &Shot) -> Result<(), StoreError> {
        let _lock = self.lock_all()?;
        match self.files.remove_file(&shot.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(StoreError::writing(&shot.path))?,
        }
        let folder = shot.path.parent().unwrap_or(&self.root);
        self.files
            .sync_dir(folder)
            .map_err(StoreError::writing(&shot.path))
    }

    /// Keeps the labels of the shots of the prompt `name` beside them.
    ///
    /// # Errors
    /// If they cannot be written; then those that were there before still are.
    pub fn keep_shot_labels(&self, name: &str, labels: &[Label]) -> Result<(), StoreError> {
        let folder = self.shots_folder(name)?;
        let path = folder.join(LABELS_FILE);
        let text = labels::to_text(labels);
        let kept = self.files.read(&path, text.len() as u64);
        if kept.is_ok_and(|kept| kept == text.as_bytes()) {
            return Ok(());
        }
        let _lock = self.lock_all()?;
        self.create_folder(&folder)?;
        atomic::clean(&*self.files, &folder);
        self.write(&path, text.as_bytes())
    }
}

fn number_of(file: &str) -> Option<u64> {
    let digits = file.strip_suffix(EXTENSION)?;
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok()?;
    (all_digits && number > 0).then_some(number)
}

/// Names that mean devices on Windows, with any extension.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// The name of a label's folder on any file system, memory cards included: what some of them refuse, or what means
/// something else here, is written as its bytes, `%3F` for a question mark.
fn folder_name(label: &str) -> String {
    let lower = label.to_lowercase();
    let stem = lower.split('.').next().unwrap_or_default();
    let taken = lower == LABELS_FILE || DEVICES.contains(&stem);
    let last = label.chars().count().saturating_sub(1);
    let mut name = String::with_capacity(label.len());
    for (place, c) in label.chars().enumerate() {
        let refused = c.is_control() || "<>:\"/\\|?*%".contains(c);
        let at_an_end = (place == 0 && (c == '.' || taken)) || (place == last && ". ".contains(c));
        if refused || at_an_end {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                name.push_str(&format!("%{byte:02X}"));
            }
        } else {
            name.push(c);
        }
    }
    name
}

/// The label of a folder; one that [`folder_name`] did not make means what it says.
fn label_of(folder: &str) -> String {
    let mut bytes = Vec::with_capacity(folder.len());
    let mut rest = folder.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| byte == b'%');
        let decoded = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(byte));
        rest = match decoded {
            Some(_) => &after[2..],
            None => after,
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faults::{Fault, FaultyDisk, Survival};
    use crate::store::file_system::FileSystem;
    use crate::store::home::tests::home;

    fn shots(home: &Home) -> Vec<Shot> {
        let folder = home.shots_folder("shelf").unwrap();
        home.shots_in(&folder).unwrap()
    }

    fn numbered(home: &Home) -> Vec<(u64, String)> {
        let shots = shots(home).into_iter();
        shots.map(|shot| (shot.number, shot.label)).collect()
    }

    #[test]
    fn shots_are_numbered_through_all_labels_and_taken_back_one_by_one() {
        let (disk, home) = home();
        assert!(shots(&home).is_empty());
        home.add_shot("shelf", "mug", b"one").unwrap();
        let fish = home.add_shot("shelf", "fish", b"two").unwrap();
        home.add_shot("door", "mug", b"of another prompt").unwrap();
        assert_eq!(fish.path, Path::new("/home/shots/shelf/fish/000002.jpg"));
        assert_eq!(numbered(&home), [(1, "mug".into()), (2, "fish".into())]);
        assert_eq!(disk.read(&fish.path, 100).unwrap(), b"two");
        home.remove_shot(&fish).unwrap();
        home.remove_shot(&fish).unwrap();
        assert_eq!(numbered(&home), [(1, "mug".into())]);
        home.add_shot("shelf", "mug", b"again").unwrap();
        assert_eq!(numbered(&home), [(1, "mug".into()), (2, "mug".into())]);
    }

    #[test]
    fn files_that_are_not_shots_are_left_out() {
        let (disk, home) = home();
        home.add_shot("shelf", "mug", b"one").unwrap();
        home.keep_shot_labels("shelf", &[Label::new("mug", None).unwrap()])
            .unwrap();
        let folder = home.shots_folder("shelf").unwrap();
        for file in ["notes", "mug/a.jpg", "mug/0.jpg", "mug/7.png", "mug/+9.jpg"] {
            disk.write_synced(&folder.join(file), b"x").unwrap();
        }
        assert_eq!(numbered(&home), [(1, "mug".into())]);
    }

    #[test]
    fn any_label_is_a_folder_and_comes_back() {
        let (_, home) = home();
        let labels = [
            "red cup",
            "猫",
            "what?",
            "50 % off",
            "%41",
            "nul",
            "Com1.x",
            "labels.txt",
            "end.",
            "a:b*c|d<e>f\"g",
            "é",
        ];
        for label in labels {
            let name = folder_name(label);
            assert_eq!(label_of(&name), label);
            assert!(
                !name.contains(['?', ':', '*', '"', '<', '>', '|', '/', '\\']),
                "{name}"
            );
            home.add_shot("shelf", label, b"x").unwrap();
        }
        let kept: Vec<String> = shots(&home).into_iter().map(|shot| shot.label).collect();
        assert_eq!(kept, labels);
        assert_eq!(folder_name("../.."), "%2E.%2F.%2E");
        // Folders that a person made.
        for name in ["100%", "%zz", "%e9"] {
            assert_eq!(label_of(name), name);
        }
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let (disk, home) = home();
        for name in ["", "..", "a/b", "-x"] {
            let error = home.add_shot(name, "mug", b"x").unwrap_err();
            assert!(matches!(error, StoreError::Name(_)), "{name:?}");
        }
        assert_eq!(disk.operations(), 0);
    }

    /// A command, and the numbers of the shots before and after it.
    struct Case {
        before: u64,
        run: fn(&Home) -> Result<(), StoreError>,
        after: u64,
    }

    const CASES: [Case; 3] = [
        Case {
            before: 0,
            run: |home| home.add_shot("shelf", "mug", b"picture 1").map(|_| ()),
            after: 1,
        },
        Case {
            before: 2,
            run: |home| home.add_shot("shelf", "mug", b"picture 3").map(|_| ()),
            after: 3,
        },
        Case {
            before: 2,
            run: |home| home.remove_shot(&shots(home)[1]),
            after: 1,
        },
    ];

    fn prepared(case: &Case) -> (FaultyDisk, Home) {
        let (disk, home) = home();
        for number in 1..=case.before {
            let picture = format!("picture {number}");
            home.add_shot("shelf", "mug", picture.as_bytes()).unwrap();
        }
        disk.count_from_here();
        (disk, home)
    }

    #[test]
    fn whatever_fails_or_wherever_the_power_is_cut_every_shot_is_whole_and_earlier_ones_stay() {
        let mut tried = 0;
        for case in &CASES {
            let (disk, home) = prepared(case);
            (case.run)(&home).unwrap();
            let operations = disk.operations();
            let survivals = Survival::all();
            let cuts = survivals.iter().map(|s| (Fault::PowerCut, *s));
            let failures = [Fault::FailOnce, Fault::FailFromThere].map(|f| (f, survivals[0]));
            for (fault, survival) in cuts.chain(failures) {
                for k in 1..=operations + 1 {
                    let (disk, home) = prepared(case);
                    disk.fault_at(k, fault);
                    let done = (case.run)(&home).is_ok();
                    match fault {
                        Fault::PowerCut => disk.restart(survival),
                        _ => disk.heal(),
                    }
                    let context = format!("{fault:?} at {k} of {operations}, {survival:?}");
                    let found = shots(&home);
                    let count = found.len() as u64;
                    assert!(
                        count == case.after || (count == case.before && !done),
                        "{context}: {found:?}"
                    );
                    for shot in found {
                        let picture = disk.read(&shot.path, 100).unwrap();
                        assert_eq!(picture, format!("picture {}", shot.number).as_bytes());
                    }
                    home.add_shot("shelf", "mug", b"next").unwrap();
                    let left = disk.list("/home/shots/shelf/mug".as_ref()).unwrap();
                    assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
                    tried += 1;
                }
            }
        }
        println!("{tried} failures and power cuts survived");
    }
}
