//! The models of a home folder: `models/NAME.rlpm`, whole or absent.

use super::Home;
use super::names::check_name;
use crate::store::file_system::Access;
use crate::store::{ExistsError, MissingError, NameError, StoreError, atomic};
use std::path::PathBuf;

/// How the file names of model bundles end.
pub const MODEL_EXTENSION: &str = ".rlpm";
/// The name that no file can have: it is that of the model inside the program.
pub const RESERVED: &str = "default";

impl Home {
    /// Where the model `name` lies, or would lie.
    pub fn model_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        check_name(name, "model", MODEL_EXTENSION)?;
        if name == RESERVED {
            return Err(NameError::Reserved { name: name.into() }.into());
        }
        Ok(self
            .models_folder()
            .join(format!("{name}{MODEL_EXTENSION}")))
    }

    /// The folder of the models, which is made when the first is saved.
    pub fn models_folder(&self) -> PathBuf {
        self.root.join("models")
    }

    /// All models by name, with their files; none of them is opened.
    pub fn models(&self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        let names = self.names_in(&self.models_folder())?;
        let names = names
            .iter()
            .filter_map(|file| file.strip_suffix(MODEL_EXTENSION));
        Ok(names
            .filter_map(|name| Some((name.to_owned(), self.model_path(name).ok()?)))
            .collect())
    }

    /// Whether a model could be saved under `name`: to be asked before work that would be lost otherwise. With
    /// `replace` it may be there already.
    pub fn check_model(&self, name: &str, replace: bool) -> Result<(), StoreError> {
        let path = self.model_path(name)?;
        if !replace && self.model_exists(name)? {
            return Err(ExistsError::Model {
                name: name.into(),
                path,
            }
            .into());
        }
        self.try_out(self.models_folder())
    }

    /// Keeps the bundle `bytes` as the model `name`. Until it is whole and safe, a model that is replaced stays in
    /// use; whoever has it open keeps what it was.
    pub fn save_model(
        &self,
        name: &str,
        bytes: &[u8],
        replace: bool,
    ) -> Result<PathBuf, StoreError> {
        let path = self.model_path(name)?;
        let _lock = self.lock_all()?;
        if !replace && self.model_exists(name)? {
            return Err(ExistsError::Model {
                name: name.into(),
                path,
            }
            .into());
        }
        let folder = self.models_folder();
        self.create_folder(&folder, Access::Usual)?;
        atomic::clean(&*self.files, &folder);
        self.write(&path, bytes, Access::Usual)?;
        Ok(path)
    }

    /// Removes a model.
    pub fn remove_model(&self, name: &str) -> Result<(), StoreError> {
        let path = self.model_path(name)?;
        if !self.model_exists(name)? {
            return Err(MissingError::Model {
                name: name.into(),
                folder: self.models_folder(),
            }
            .into());
        }
        let _lock = self.lock_all()?;
        let folder = self.models_folder();
        atomic::clean(&*self.files, &folder);
        self.files
            .remove_file(&path)
            .and_then(|()| self.files.sync_dir(&folder))
            .map_err(StoreError::writing(&path))
    }

    fn model_exists(&self, name: &str) -> Result<bool, StoreError> {
        let file = format!("{name}{MODEL_EXTENSION}");
        Ok(self.names_in(&self.models_folder())?.contains(&file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faults::{Fault, FaultyDisk, Survival};
    use crate::store::file_system::FileSystem;
    use crate::store::home::tests::home;

    fn names(home: &Home) -> Vec<String> {
        let models = home.models().unwrap();
        models.into_iter().map(|(name, _)| name).collect()
    }

    fn content(disk: &FaultyDisk) -> Option<Vec<u8>> {
        disk.read("/home/models/b32.rlpm".as_ref(), 100).ok()
    }

    #[test]
    fn a_saved_model_is_listed_and_only_replaced_when_that_is_asked_for() {
        let (disk, home) = home();
        assert!(names(&home).is_empty());
        home.check_model("b32", false).unwrap();
        home.save_model("b32", b"old", false).unwrap();
        assert_eq!(names(&home), ["b32"]);
        for refused in [
            home.check_model("b32", false).unwrap_err(),
            home.save_model("b32", b"new", false).unwrap_err(),
        ] {
            assert!(
                matches!(refused, StoreError::Exists(ExistsError::Model { .. })),
                "{refused}"
            );
        }
        assert_eq!(content(&disk).unwrap(), b"old");
        home.check_model("b32", true).unwrap();
        home.save_model("b32", b"new", true).unwrap();
        assert_eq!(content(&disk).unwrap(), b"new");
        home.remove_model("b32").unwrap();
        assert!(names(&home).is_empty());
        assert!(matches!(
            home.remove_model("b32"),
            Err(StoreError::Missing(MissingError::Model { .. }))
        ));
    }

    #[test]
    fn the_default_and_names_that_leave_the_folder_are_refused() {
        let (disk, home) = home();
        assert!(matches!(
            home.save_model("default", b"x", true),
            Err(StoreError::Name(NameError::Reserved { .. }))
        ));
        for name in ["", "..", "a/b", "-x", ".x", "x.rlpm", "a b"] {
            let error = home.save_model(name, b"x", true).unwrap_err();
            assert!(matches!(error, StoreError::Name(_)), "{name:?}");
            assert!(error.to_string().contains("model"), "{error}");
        }
        assert_eq!(disk.operations(), 0);
    }

    /// Whether the model is there, and what happens to it.
    type Case = (
        Option<&'static [u8]>,
        fn(&Home) -> Result<(), StoreError>,
        Option<&'static [u8]>,
    );

    const CASES: [Case; 3] = [
        (None, save, Some(b"the new bundle")),
        (Some(b"the old bundle"), save, Some(b"the new bundle")),
        (
            Some(b"the old bundle"),
            |home| home.remove_model("b32"),
            None,
        ),
    ];

    fn save(home: &Home) -> Result<(), StoreError> {
        home.save_model("b32", b"the new bundle", true).map(|_| ())
    }

    fn prepared(before: Option<&[u8]>) -> (FaultyDisk, Home) {
        let (disk, home) = home();
        if let Some(bytes) = before {
            home.save_model("b32", bytes, false).unwrap();
        }
        disk.count_from_here();
        (disk, home)
    }

    #[test]
    fn whatever_fails_or_wherever_the_power_is_cut_a_model_is_the_old_one_or_the_new() {
        let mut tried = 0;
        for (before, run, after) in CASES {
            let (disk, home) = prepared(before);
            run(&home).unwrap();
            let operations = disk.operations();
            let survivals = Survival::all();
            let cuts = survivals.iter().map(|s| (Fault::PowerCut, *s));
            let failures = [Fault::FailOnce, Fault::FailFromThere].map(|f| (f, survivals[0]));
            for (fault, survival) in cuts.chain(failures) {
                for k in 1..=operations + 1 {
                    let (disk, home) = prepared(before);
                    disk.fault_at(k, fault);
                    let done = run(&home).is_ok();
                    match fault {
                        Fault::PowerCut => disk.restart(survival),
                        _ => disk.heal(),
                    }
                    let found = content(&disk);
                    let found = found.as_deref();
                    assert!(
                        found == after || (found == before && !done),
                        "{fault:?} at {k}, {survival:?}: {found:?}"
                    );
                    home.save_model("other", b"x", true).unwrap();
                    let left = disk.list("/home/models".as_ref()).unwrap();
                    assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
                    tried += 1;
                }
            }
        }
        println!("{tried} failures and power cuts survived");
    }
}
