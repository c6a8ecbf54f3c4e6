//! Labelled pictures to learn from: those of a folder, kept shots, or what the demo camera draws, whose generator stands in for
//! the person who labels. It decides which are taken; decoding happens later, one picture at a time.

use crate::frames::demo::{self, CLASSES, Purpose, SceneSpec};
use crate::frames::{
    FolderError, LeftOut, MAX_PIXELS, PictureError, cut, labelled_folder, loose_pictures,
    read_region,
};
use crate::prompt::labels::{self, LabelFault, LabelsError, normal};
use crate::prompt::{Label, Region};
use crate::rng::Rng;
use crate::store::{Home, LABELS_FILE, Shot, StoreError};
use image::RgbImage;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Pictures a label that the demo camera gives where nothing is said.
const DEMO_SHOTS: usize = 16;

/// Which of the pictures that there are to take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// A label file; without one, the labels follow from the folders or from what is drawn.
    pub labels: Option<&'a Path>,
    /// The most pictures of a label; none takes all that there are.
    pub shots: Option<usize>,
    /// What the choice follows from where there are more.
    pub seed: u64,
}

/// Why there is nothing to learn from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PicturesError {
    /// A folder has no sub-folder.
    #[error("{}: put the pictures of each label into a sub-folder of its name", dir.display())]
    NoFolders {
        /// The folder that was to hold one for each label.
        dir: PathBuf,
    },
    /// The labels are to follow from the folders, and one has an impossible name.
    #[error("{}: its name cannot be a label", folder.display())]
    FolderName {
        /// The folder of that name.
        folder: PathBuf,
        /// What is wrong with the name.
        source: LabelFault,
    },
    /// Two folders that read as one label.
    #[error("{}: the folders {first:?} and {second:?} read as the same label: make them one", dir.display())]
    Alike {
        /// The folder that they lie in.
        dir: PathBuf,
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// No shots were kept.
    #[error("{} holds no shots", folder.display())]
    NoShots {
        /// Where they would be.
        folder: PathBuf,
    },
    /// There are pictures, and none has a label.
    #[error(
        "{}: {pictures} pictures wait to be labelled: do it at a terminal with the same command, or sort them into a folder a label",
        folder.display()
    )]
    Unlabelled {
        /// Where they lie.
        folder: PathBuf,
        /// How many there are.
        pictures: usize,
    },
    /// The demo camera has no object of that name.
    #[error("the demo camera draws no {label:?}: it draws {}", CLASSES.join(", "))]
    NotDrawn {
        /// The label's name.
        label: String,
    },
    /// The label file cannot be used.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// The folders do not fit the labels.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The shots cannot be listed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What to train on, in order; nothing is decoded yet.
pub struct LabelledPictures {
    /// The classes, in order.
    pub labels: Vec<Label>,
    /// Folders that are left out because no label has their name: worth a warning.
    pub unused: Vec<PathBuf>,
    /// Files beside the pictures that people may take for some: worth a warning, too.
    pub left_out: LeftOut,
    pictures: Vec<(Origin, usize)>,
    /// What is cut out of each picture; each region of one picture is one to learn from.
    regions: Vec<Region>,
    /// Where the pictures of each label begin, if their crops depend on their place among those.
    begins: Option<Vec<usize>>,
    unreadable: Mutex<Vec<(usize, PictureError)>>,
}

/// Where one picture comes from.
enum Origin {
    File(PathBuf),
    Scene(SceneSpec),
}

impl LabelledPictures {
    /// Pictures from a folder with one sub-folder a label, chosen at random.
    ///
    /// # Errors
    /// If the label file or the folders cannot be used, or do not fit each other.
    pub fn from_folder(dir: &Path, choice: Choice) -> Result<LabelledPictures, PicturesError> {
        let labels = match choice.labels {
            Some(file) => labels::read(file)?,
            None => labels_of(dir, dir)?,
        };
        let names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
        let found = labelled_folder(dir, &names)?;
        let mut pictures =
            LabelledPictures::from_files(labels, found.paths, choice.shots, choice.seed);
        pictures.unused = found.unused;
        pictures.left_out = found.left_out;
        Ok(pictures)
    }

    /// Pictures of those that were kept in `folder`, which is laid out as [`Home::shots_folder`] is.
    ///
    /// # Errors
    /// If there are none, or the folder or the labels cannot be used.
    pub fn from_shots(
        home: &Home,
        folder: &Path,
        choice: Choice,
    ) -> Result<LabelledPictures, PicturesError> {
        let kept = home.shots_in(folder)?;
        if kept.is_empty() {
            let folder = folder.to_owned();
            return Err(match loose_pictures(&folder).unwrap_or_default().len() {
                0 => PicturesError::NoShots { folder },
                pictures => PicturesError::Unlabelled { folder, pictures },
            });
        }
        let listed = folder.join(LABELS_FILE);
        let labels = match choice.labels {
            Some(file) => labels::read(file)?,
            None if listed.is_file() => labels::read(&listed)?,
            None => kept_labels(&kept)?,
        };
        let mut paths = vec![Vec::new(); labels.len()];
        let mut unused = BTreeSet::new();
        for shot in kept {
            match labels
                .iter()
                .position(|label| labels::same_name(&label.name, &shot.label))
            {
                Some(class) => paths[class].push(shot.path),
                None => unused.extend(shot.path.parent().map(Path::to_owned)),
            }
        }
        let mut pictures = LabelledPictures::from_kept(labels, paths, choice.shots, choice.seed);
        pictures.unused = unused.into_iter().collect();
        Ok(pictures)
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
        LabelledPictures::of(labels, pictures)
    }

    fn of(labels: Vec<Label>, pictures: Vec<(Origin, usize)>) -> LabelledPictures {
        LabelledPictures {
            labels,
            unused: Vec::new(),
            left_out: LeftOut::default(),
            pictures,
            regions: Vec::new(),
            begins: None,
            unreadable: Mutex::default(),
        }
    }

    /// Drawn pictures of each label under a condition of the demo camera: 16 where nothing is said.
    ///
    /// # Errors
    /// If the label file cannot be used, or has a label that is not drawn.
    pub fn from_demo(condition: usize, choice: Choice) -> Result<LabelledPictures, PicturesError> {
        let labels = match choice.labels {
            Some(file) => labels::read(file)?,
            None => demo_labels(),
        };
        let mut pictures = Vec::new();
        for (index, label) in labels.iter().enumerate() {
            let class = drawn_class(label)?;
            // The same scenes as those that `demo --out` writes for this seed.
            for shot in 0..choice.shots.unwrap_or(DEMO_SHOTS) {
                let turn = (shot * CLASSES.len() + class) as u64;
                let scene = demo::scene(Purpose::Train, condition, choice.seed, turn);
                pictures.push((Origin::Scene(scene), index));
            }
        }
        Ok(LabelledPictures::of(labels, pictures))
    }

    /// The same with `regions` cut out of each picture, every one of them a picture of its label.
    pub fn cut(self, regions: Vec<Region>) -> LabelledPictures {
        LabelledPictures { regions, ..self }
    }

    /// How many pictures there are, readable or not.
    pub fn len(&self) -> usize {
        self.pictures.len() * self.regions.len().max(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pictures.is_empty()
    }

    /// What the crops of picture `index` follow from, beside the seed.
    pub fn number(&self, index: usize) -> usize {
        match &self.begins {
            None => index,
            Some(begins) => {
                let index = index / self.regions.len().max(1);
                let class = self.pictures[index].1;
                (class << 16) + (index - begins[class])
            }
        }
    }

    /// The file of picture `index`; none where it is drawn.
    pub fn file(&self, index: usize) -> Option<&Path> {
        match &self.pictures[index / self.regions.len().max(1)].0 {
            Origin::File(path) => Some(path),
            Origin::Scene(_) => None,
        }
    }

    /// The class of picture `index`.
    pub fn class(&self, index: usize) -> usize {
        self.pictures[index / self.regions.len().max(1)].1
    }

    /// Picture `index`, decoded or drawn, and its class; none where it cannot be read. Called from several threads.
    pub fn load(&self, index: usize) -> Option<(RgbImage, usize)> {
        let parts = self.regions.len().max(1);
        let (source, class) = &self.pictures[index / parts];
        match source.read(self.regions.get(index % parts)) {
            Ok(picture) => Some((picture, *class)),
            Err(error) => {
                self.failures().push((index, error));
                None
            }
        }
    }

    /// Why pictures could not be read, in their order, since this was last asked.
    pub fn unreadable(&self) -> Vec<PictureError> {
        let mut failures = std::mem::take(&mut *self.failures());
        failures.sort_by_key(|(index, _)| *index);
        failures.into_iter().map(|(_, error)| error).collect()
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Vec<(usize, PictureError)>> {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    fn read(&self, region: Option<&Region>) -> Result<RgbImage, PictureError> {
        match self {
            Origin::File(path) => read_region(path, MAX_PIXELS, region),
            Origin::Scene(scene) => {
                let drawn = demo::draw(scene, demo::SIZE);
                Ok(match region {
                    Some(region) => cut(&drawn, region)?,
                    None => drawn,
                })
            }
        }
    }
}

/// Keeps the choice of shots apart from other uses of the same seed.
const CHOICE_STREAM: u64 = 0xc401ce;

/// A label for each object that the demo camera draws.
pub fn demo_labels() -> Vec<Label> {
    CLASSES
        .map(|name| Label::new(name, None).expect("what is drawn has names of letters"))
        .into()
}

/// The class that the demo camera draws for a label.
///
/// # Errors
/// [`PicturesError::NotDrawn`] if there is none.
pub fn drawn_class(label: &Label) -> Result<usize, PicturesError> {
    let class = CLASSES.iter().position(|name| *name == label.name);
    class.ok_or_else(|| PicturesError::NotDrawn {
        label: label.name.clone(),
    })
}

/// A label for each that there is a shot of, by name.
fn kept_labels(shots: &[Shot]) -> Result<Vec<Label>, PicturesError> {
    let folders: BTreeMap<&str, &Path> = shots
        .iter()
        .filter_map(|shot| Some((shot.label.as_str(), shot.path.parent()?)))
        .collect();
    folders
        .into_iter()
        .map(|(name, folder)| label_of(name, folder))
        .collect()
}

/// The labels of a data set: those in the labels.txt of `dir`, else one for each sub-folder of `pictures`, which is `dir` or
/// its `train`.
///
/// # Errors
/// If there are none, or they cannot be used.
pub fn labels_of(dir: &Path, pictures: &Path) -> Result<Vec<Label>, PicturesError> {
    let listed = dir.join(LABELS_FILE);
    if listed.is_file() {
        return Ok(labels::read(&listed)?);
    }
    let no_labels: [&str; 0] = [];
    let folders = labelled_folder(pictures, &no_labels)?.unused;
    if folders.is_empty() {
        return Err(PicturesError::NoFolders {
            dir: pictures.into(),
        });
    }
    let label = |folder: &PathBuf| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        label_of(&name, folder)
    };
    let labels: Vec<Label> = folders.iter().map(label).collect::<Result<_, _>>()?;
    let mut read = BTreeMap::new();
    for label in &labels {
        if let Some(first) = read.insert(normal(&label.name), &label.name) {
            return Err(PicturesError::Alike {
                dir: pictures.into(),
                first: first.clone(),
                second: label.name.clone(),
            });
        }
    }
    Ok(labels)
}

/// The label called `name` as `folder` is.
fn label_of(name: &str, folder: &Path) -> Result<Label, PicturesError> {
    Label::new(name, None).map_err(|source| PicturesError::FolderName {
        folder: folder.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_read_alike_are_one_label_and_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["fish", "red car", "red_car"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let error = labels_of(dir.path(), dir.path()).unwrap_err().to_string();
        assert!(error.contains("\"red car\" and \"red_car\""), "{error}");
    }

    #[test]
    fn shots_taken_later_leave_the_crops_of_earlier_ones_as_they_are() {
        let labels = || demo_labels().into_iter().take(3).collect();
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
