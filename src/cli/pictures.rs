//! Labelled pictures for `adapt`: from a folder, from kept shots, or from the demo camera, whose generator stands in for
//! the person who labels. It decides what is taken; decoding happens later, one picture at a time.

use super::{Context, usage};
use crate::frames::demo::{self, CLASSES, Purpose, SceneSpec};
use crate::frames::{MAX_PIXELS, labelled_folder, read_picture};
use crate::prompt::{Label, labels};
use crate::rng::Rng;
use crate::store::{LABELS_FILE, Shot};
use anyhow::Context as _;
use image::RgbImage;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Pictures a label that the demo camera gives unless `--shots` says otherwise.
const DEMO_SHOTS: usize = 16;

/// What to train on, in order; nothing is decoded yet.
pub struct LabelledPictures {
    pub labels: Vec<Label>,
    pictures: Vec<(Origin, usize)>,
    /// Where the pictures of each label begin, if their crops depend on their place among those.
    begins: Option<Vec<usize>>,
    unreadable: Mutex<Vec<(usize, String)>>,
}

/// Where one picture comes from.
enum Origin {
    File(PathBuf),
    Scene(SceneSpec),
}

impl LabelledPictures {
    /// Up to `shots` pictures a label from a folder with one sub-folder a label, chosen at random from `seed`.
    pub fn from_folder(
        dir: &Path,
        labels: Option<&Path>,
        shots: Option<usize>,
        seed: u64,
        context: &Context,
    ) -> anyhow::Result<LabelledPictures> {
        let labels = match labels {
            Some(file) => labels::read(file)?,
            None => labels_of(dir, dir)?,
        };
        let names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
        let found = labelled_folder(dir, &names)?;
        for folder in &found.unused {
            context.output.warn(format!(
                "{}: no label has this folder's name; left out",
                folder.display()
            ));
        }
        Ok(LabelledPictures::from_files(
            labels,
            found.paths,
            shots,
            seed,
        ))
    }

    /// Up to `shots` pictures a label of those that were kept in `folder`, which is laid out as
    /// [`Home::shots_folder`](crate::store::Home::shots_folder) is.
    pub fn from_shots(
        folder: &Path,
        labels: Option<&Path>,
        shots: Option<usize>,
        seed: u64,
        context: &Context,
    ) -> anyhow::Result<LabelledPictures> {
        let kept = context.home.shots_in(folder)?;
        anyhow::ensure!(
            !kept.is_empty(),
            "{} holds no shots: take some with `edge-rlp adapt --camera SRC --labels FILE` at a terminal (pictures of your \
             own, one folder a label, go with --images DIR)",
            folder.display()
        );
        let listed = folder.join(LABELS_FILE);
        let labels = match labels {
            Some(file) => labels::read(file)?,
            None if listed.is_file() => labels::read(&listed)?,
            None => kept_names(&kept)?,
        };
        let mut paths = vec![Vec::new(); labels.len()];
        let mut unused = BTreeSet::new();
        for shot in kept {
            match labels.iter().position(|label| label.name == shot.label) {
                Some(class) => paths[class].push(shot.path),
                None => {
                    unused.insert(shot.label);
                }
            }
        }
        for label in unused {
            context.output.warn(format!(
                "{}: its shots of {label:?} are left out, for no label has this name",
                folder.display()
            ));
        }
        Ok(LabelledPictures::from_kept(labels, paths, shots, seed))
    }

    /// All `files` that were kept of each label in the order in which they were taken, or `shots` of them. Those taken later
    /// leave the crops of the earlier ones as they are.
    pub fn from_kept(
        labels: Vec<Label>,
        files: Vec<Vec<PathBuf>>,
        shots: Option<usize>,
        seed: u64,
    ) -> LabelledPictures {
        let classes = labels.len();
        let mut pictures = LabelledPictures::from_files(labels, files, shots, seed);
        let begin = |class| pictures.pictures.partition_point(|(_, of)| *of < class);
        pictures.begins = Some((0..classes).map(begin).collect());
        pictures
    }

    /// All `files` of each label, or `shots` of them, chosen at random from `seed`.
    pub fn from_files(
        labels: Vec<Label>,
        files: Vec<Vec<PathBuf>>,
        shots: Option<usize>,
        seed: u64,
    ) -> LabelledPictures {
        let mut rng = Rng::with_stream(seed, CHOICE_STREAM);
        let mut pictures = Vec::new();
        for (class, mut paths) in files.into_iter().enumerate() {
            if let Some(shots) = shots.filter(|&shots| shots < paths.len()) {
                rng.shuffle(&mut paths);
                paths.truncate(shots);
                paths.sort();
            }
            pictures.extend(paths.into_iter().map(|path| (Origin::File(path), class)));
        }
        LabelledPictures {
            labels,
            pictures,
            begins: None,
            unreadable: Mutex::default(),
        }
    }

    /// `shots` drawn pictures a label under a condition of the demo camera.
    pub fn from_demo(
        condition: usize,
        labels: Option<&Path>,
        shots: Option<usize>,
        seed: u64,
    ) -> anyhow::Result<LabelledPictures> {
        let labels = match labels {
            Some(file) => labels::read(file)?,
            None => demo_labels()?,
        };
        let mut pictures = Vec::new();
        for (index, label) in labels.iter().enumerate() {
            let class = drawn_class(label)?;
            // The same scenes as those that `demo --out` writes for this seed.
            for shot in 0..shots.unwrap_or(DEMO_SHOTS) {
                let turn = (shot * CLASSES.len() + class) as u64;
                let scene = demo::scene(Purpose::Train, condition, seed, turn);
                pictures.push((Origin::Scene(scene), index));
            }
        }
        Ok(LabelledPictures {
            labels,
            pictures,
            begins: None,
            unreadable: Mutex::default(),
        })
    }

    /// How many pictures there are, readable or not.
    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    /// What the crops of picture `index` follow from, beside the seed.
    pub fn number(&self, index: usize) -> usize {
        match &self.begins {
            None => index,
            Some(begins) => {
                let class = self.pictures[index].1;
                (class << 16) + (index - begins[class])
            }
        }
    }

    /// The file of picture `index`; none where it is drawn.
    pub fn file(&self, index: usize) -> Option<&Path> {
        match &self.pictures[index].0 {
            Origin::File(path) => Some(path),
            Origin::Scene(_) => None,
        }
    }

    /// Picture `index`, decoded or drawn, and its class; none where it cannot be read. Called from several threads.
    pub fn load(&self, index: usize) -> Option<(RgbImage, usize)> {
        let (source, class) = &self.pictures[index];
        match source.read() {
            Ok(picture) => Some((picture, *class)),
            Err(reason) => {
                self.unreadable().push((index, reason));
                None
            }
        }
    }

    /// Why pictures could not be read, in their order.
    pub fn warnings(&self) -> Vec<String> {
        let mut unreadable = std::mem::take(&mut *self.unreadable());
        unreadable.sort();
        unreadable.into_iter().map(|(_, reason)| reason).collect()
    }

    fn unreadable(&self) -> std::sync::MutexGuard<'_, Vec<(usize, String)>> {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    fn read(&self) -> Result<RgbImage, String> {
        match self {
            Origin::File(path) => read_picture(path, MAX_PIXELS).map_err(|error| error.to_string()),
            Origin::Scene(scene) => Ok(demo::draw(scene, demo::SIZE)),
        }
    }
}

/// Keeps the choice of shots apart from other uses of the same seed.
const CHOICE_STREAM: u64 = 0xc401ce;

/// All that the demo camera draws.
pub fn demo_labels() -> anyhow::Result<Vec<Label>> {
    let labels = CLASSES.iter().map(|name| Label::new(name, None));
    Ok(labels.collect::<Result<_, _>>()?)
}

/// The class that the demo camera draws for a label.
///
/// # Errors
/// Wrong usage if there is none.
pub fn drawn_class(label: &Label) -> anyhow::Result<usize> {
    let class = CLASSES.iter().position(|name| *name == label.name);
    class.ok_or_else(|| {
        let known = CLASSES.join(", ");
        usage(format!(
            "the demo camera draws no {:?}: it draws {known}",
            label.name
        ))
    })
}

/// A label for each that there is a shot of, by name.
fn kept_names(shots: &[Shot]) -> anyhow::Result<Vec<Label>> {
    let names: BTreeSet<&str> = shots.iter().map(|shot| shot.label.as_str()).collect();
    let label = |name: &str| {
        Label::new(name, None)
            .with_context(|| format!("the folder of shots {name:?} cannot be a label"))
    };
    names.into_iter().map(label).collect()
}

/// The labels of a data set: those in the labels.txt of `dir`, else one for each sub-folder of `pictures`, which is `dir` or
/// its `train`.
pub fn labels_of(dir: &Path, pictures: &Path) -> anyhow::Result<Vec<Label>> {
    let listed = dir.join(LABELS_FILE);
    if listed.is_file() {
        return Ok(labels::read(&listed)?);
    }
    let no_labels: [&str; 0] = [];
    let folders = labelled_folder(pictures, &no_labels)?.unused;
    anyhow::ensure!(
        !folders.is_empty(),
        "{}: put the pictures of each label into a sub-folder of its name",
        pictures.display()
    );
    let label = |folder: &PathBuf| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        Label::new(&name, None)
            .with_context(|| format!("{}: its name cannot be a label", folder.display()))
    };
    folders.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shots_taken_later_leave_the_crops_of_earlier_ones_as_they_are() {
        let labels = || demo_labels().unwrap().into_iter().take(3).collect();
        let numbers = |counts: [usize; 3]| {
            let path = |class: usize, shot: usize| PathBuf::from(format!("{class}/{shot}"));
            let of_class =
                |class: usize| (0..counts[class]).map(|shot| path(class, shot)).collect();
            let files: Vec<Vec<PathBuf>> = (0..3).map(of_class).collect();
            let kept = LabelledPictures::from_kept(labels(), files, None, 0);
            let numbered = (0..kept.len()).map(|index| {
                let file = kept.file(index).unwrap().to_owned();
                (file, kept.number(index))
            });
            numbered.collect::<Vec<_>>()
        };
        let (before, after) = (numbers([2, 0, 1]), numbers([3, 1, 2]));
        assert_eq!((before.len(), after.len()), (3, 6));
        assert!(before.iter().all(|picture| after.contains(picture)));
        let different: BTreeSet<usize> = after.iter().map(|(_, number)| *number).collect();
        assert_eq!(different.len(), 6);
    }
}
