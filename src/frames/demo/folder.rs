//! Writes demo scenes to a folder as anyone would lay out photographs: one sub-folder a label, training and
//! test pictures apart. Draws nothing itself.

use super::{CLASSES, DemoError, Purpose, SIZE, condition_named, draw, scene};
use std::fs;
use std::path::{Path, PathBuf};

/// What [`write_folder`] writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderOptions {
    /// The name of the condition.
    pub condition: String,
    /// Training pictures a class.
    pub shots: usize,
    /// Test pictures a class.
    pub test: usize,
    /// Decides the pictures; those for training and for test never coincide.
    pub seed: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderSummary {
    /// The file of labels, one a line.
    pub labels: PathBuf,
    /// How many classes.
    pub classes: usize,
    /// Training pictures in all.
    pub train: usize,
    /// Test pictures in all.
    pub test: usize,
}

/// Writes `out/labels.txt`, `out/train/LABEL/*.png` and `out/test/LABEL/*.png`, [`SIZE`] pixels a side.
/// `out` is made where it is missing, and must be empty.
pub fn write_folder(out: &Path, options: &FolderOptions) -> Result<FolderSummary, DemoError> {
    let condition = condition_named(&options.condition)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DemoError::Write { path, source }
    };
    fs::create_dir_all(out).map_err(failed(out))?;
    if fs::read_dir(out).map_err(failed(out))?.next().is_some() {
        return Err(DemoError::NotEmpty {
            path: out.to_owned(),
        });
    }
    for (folder, purpose, count) in [
        ("train", Purpose::Train, options.shots),
        ("test", Purpose::Test, options.test),
    ] {
        for (class, label) in CLASSES.iter().enumerate() {
            let folder = out.join(folder).join(label);
            fs::create_dir_all(&folder).map_err(failed(&folder))?;
            for shot in 0..count {
                let path = folder.join(format!("{shot:04}.png"));
                let index = (shot * CLASSES.len() + class) as u64;
                let picture = draw(&scene(purpose, condition, options.seed, index), SIZE);
                picture
                    .save(&path)
                    .map_err(|source| DemoError::Encode { path, source })?;
            }
        }
    }
    let labels = out.join("labels.txt");
    fs::write(&labels, CLASSES.join("\n") + "\n").map_err(failed(&labels))?;
    let classes = CLASSES.len();
    Ok(FolderSummary {
        labels,
        classes,
        train: classes * options.shots,
        test: classes * options.test,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(condition: &str, seed: u64) -> FolderOptions {
        FolderOptions {
            condition: condition.into(),
            shots: 2,
            test: 3,
            seed,
        }
    }

    fn pictures(folder: &Path) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths
            .iter()
            .map(|path| image::open(path).unwrap().into_rgb8().into_raw())
            .collect()
    }

    #[test]
    fn the_folder_holds_every_class_and_no_picture_twice() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("new/scenes");
        let summary = write_folder(&out, &options("night", 5)).unwrap();
        assert_eq!((summary.classes, summary.train, summary.test), (12, 24, 36));
        assert_eq!(
            fs::read_to_string(summary.labels)
                .unwrap()
                .lines()
                .collect::<Vec<_>>(),
            CLASSES
        );
        let mut seen = std::collections::HashSet::new();
        for class in CLASSES {
            let (train, test) = (
                pictures(&out.join("train").join(class)),
                pictures(&out.join("test").join(class)),
            );
            assert_eq!((train.len(), test.len()), (2, 3));
            for picture in train.into_iter().chain(test) {
                assert_eq!(picture.len(), SIZE * SIZE * 3);
                assert!(seen.insert(picture), "{class}: a picture occurs twice");
            }
        }
    }

    #[test]
    fn a_seed_always_gives_the_same_files() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, seed| {
            let out = home.path().join(name);
            write_folder(&out, &options("peephole", seed)).unwrap();
            fs::read(out.join("test/key/0002.png")).unwrap()
        };
        let first = write("a", 1);
        assert_eq!(first, write("b", 1));
        assert_ne!(first, write("c", 2));
    }

    #[test]
    fn a_folder_in_use_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("holiday.jpg"), b"mine").unwrap();
        let message = write_folder(home.path(), &options("clear", 1))
            .unwrap_err()
            .to_string();
        assert!(message.contains("not empty"), "{message}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unknown_condition_writes_nothing_and_lists_the_known() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("scenes");
        let message = write_folder(&out, &options("moonlight", 1))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("infrared") && message.contains("fog"),
            "{message}"
        );
        assert!(!out.exists());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, b"").unwrap();
        let message = write_folder(&file.join("scenes"), &options("clear", 1))
            .unwrap_err()
            .to_string();
        assert!(message.contains("scenes"), "{message}");
    }
}
