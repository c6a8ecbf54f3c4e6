//! A folder of demo scenes as anyone would lay out photographs: one sub-folder a label, training and test pictures
//! apart. Draws nothing itself, and leaves the writing to others.

use super::{CLASSES, Purpose, SIZE, condition_named, draw, scene};
use crate::frames::DemoError;
use image::ImageFormat;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// What [`folder`] holds.
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

/// The files of a folder, each drawn when it is asked for: `train/LABEL/*.png` and `test/LABEL/*.png`, [`SIZE`] pixels
/// a side, and `labels.txt` last, with their bytes.
///
/// # Errors
/// A condition that there is not.
pub fn folder(
    options: &FolderOptions,
) -> Result<impl Iterator<Item = (PathBuf, Vec<u8>)>, DemoError> {
    let condition = condition_named(&options.condition)?;
    let seed = options.seed;
    let parts = [
        ("train", Purpose::Train, options.shots),
        ("test", Purpose::Test, options.test),
    ];
    let pictures = parts.into_iter().flat_map(move |(part, purpose, count)| {
        let classes = CLASSES.iter().enumerate();
        classes.flat_map(move |(class, label)| {
            (0..count).map(move |shot| {
                let index = (shot * CLASSES.len() + class) as u64;
                let picture = draw(&scene(purpose, condition, seed, index), SIZE);
                let mut bytes = Cursor::new(Vec::new());
                let encoded = picture.write_to(&mut bytes, ImageFormat::Png);
                encoded.expect("memory takes any picture");
                let file = format!("{shot:04}.png");
                (Path::new(part).join(label).join(file), bytes.into_inner())
            })
        })
    });
    let labels = (CLASSES.join("\n") + "\n").into_bytes();
    Ok(pictures.chain([(PathBuf::from("labels.txt"), labels)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(condition: &str, seed: u64) -> Vec<(PathBuf, Vec<u8>)> {
        let options = FolderOptions {
            condition: condition.into(),
            shots: 2,
            test: 3,
            seed,
        };
        folder(&options).unwrap().collect()
    }

    #[test]
    fn the_folder_holds_every_class_and_no_picture_twice() {
        let files = files("night", 5);
        let (labels, pictures) = files.split_last().unwrap();
        assert_eq!(labels.0, Path::new("labels.txt"));
        let labels = std::str::from_utf8(&labels.1).unwrap();
        assert_eq!(labels.lines().collect::<Vec<_>>(), CLASSES);
        let mut seen = std::collections::HashSet::new();
        for class in CLASSES {
            for (part, count) in [("train", 2), ("test", 3)] {
                let folder = Path::new(part).join(class);
                let inside = pictures
                    .iter()
                    .filter(|(path, _)| path.starts_with(&folder));
                let inside: Vec<_> = inside.collect();
                assert_eq!(inside.len(), count);
                for (path, bytes) in inside {
                    let picture = image::load_from_memory(bytes).unwrap().into_rgb8();
                    assert_eq!(picture.dimensions(), (SIZE as u32, SIZE as u32));
                    assert!(seen.insert(picture.into_raw()), "{path:?} occurs twice");
                }
            }
        }
        assert_eq!(seen.len(), pictures.len());
    }

    #[test]
    fn a_seed_always_gives_the_same_files() {
        assert_eq!(files("peephole", 1), files("peephole", 1));
        assert_ne!(files("peephole", 1), files("peephole", 2));
    }

    #[test]
    fn an_unknown_condition_lists_the_known() {
        let options = FolderOptions {
            condition: "moonlight".into(),
            shots: 1,
            test: 1,
            seed: 0,
        };
        let message = folder(&options).err().unwrap().to_string();
        assert!(
            message.contains("infrared") && message.contains("fog"),
            "{message}"
        );
    }
}
