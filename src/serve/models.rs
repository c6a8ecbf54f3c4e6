//! The models in memory: each once, whatever the number of cameras that use it, and as long as one does.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::clip::{BundleHeader, Model, ModelError};
use crate::prompt::Prompt;
use crate::store::{Home, StoreError};

/// What the model inside the program is called.
const EMBEDDED: &str = "default";

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelsError {
    /// Nothing has the name that the configuration says.
    #[error("there is no model {name:?} in {}: bring it, or name another", folder.display())]
    Missing {
        /// The name.
        name: String,
        /// Where it would be.
        folder: PathBuf,
    },
    /// The model that a prompt was trained with is gone.
    #[error(
        "the prompt was trained for the model {name}, which is not here: bring it, or train the prompt anew"
    )]
    Gone {
        /// Its name.
        name: String,
    },
    /// It cannot be opened.
    #[error("the model cannot be opened: {0}")]
    Model(#[from] ModelError),
    /// The home folder cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The models in memory.
pub struct Models {
    home: Home,
    open: Mutex<HashMap<[u8; 32], Weak<Model>>>,
}

impl Models {
    /// Those of `home`, and the one inside the program.
    pub fn new(home: Home) -> Models {
        Models {
            home,
            open: Mutex::default(),
        }
    }

    /// The model of this name; none for the one inside the program.
    ///
    /// # Errors
    /// If there is none, or it cannot be opened.
    pub fn named(&self, name: Option<&str>) -> Result<Arc<Model>, ModelsError> {
        let (header, path) = self.found(name)?;
        self.opened(header.fingerprint.0, path)
    }

    /// Whether there is one of this name, without opening it.
    ///
    /// # Errors
    /// If there is none, or its header is damaged.
    pub fn check(&self, name: Option<&str>) -> Result<(), ModelsError> {
        self.found(name).map(|_| ())
    }

    fn found(&self, name: Option<&str>) -> Result<(BundleHeader, Option<PathBuf>), ModelsError> {
        let name = name.unwrap_or(EMBEDDED);
        let found = self.all()?.into_iter().find(|(of, _)| of == name);
        let (_, path) = found.ok_or_else(|| ModelsError::Missing {
            name: name.into(),
            folder: self.home.models_folder(),
        })?;
        Ok((header(path.as_ref())?, path))
    }

    /// The model that `prompt` was trained with.
    ///
    /// # Errors
    /// If it is not here, or cannot be opened.
    pub fn of_prompt(&self, prompt: &Prompt) -> Result<Arc<Model>, ModelsError> {
        let wanted = prompt.model_fingerprint;
        if let Some(model) = self.in_memory(&wanted) {
            return Ok(model);
        }
        for (_, path) in self.all()? {
            // One that is damaged is not the one.
            if header(path.as_ref()).is_ok_and(|header| header.fingerprint.0 == wanted) {
                return self.opened(wanted, path);
            }
        }
        Err(ModelsError::Gone {
            name: prompt.model_name.clone(),
        })
    }

    /// Those that are open.
    pub fn open(&self) -> Vec<Arc<Model>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().filter_map(Weak::upgrade).collect()
    }

    fn in_memory(&self, fingerprint: &[u8; 32]) -> Option<Arc<Model>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(fingerprint).and_then(Weak::upgrade)
    }

    /// Opens it, unless it is open. Whoever else wants one waits meanwhile: it may be the same.
    fn opened(
        &self,
        fingerprint: [u8; 32],
        path: Option<PathBuf>,
    ) -> Result<Arc<Model>, ModelsError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = open.get(&fingerprint).and_then(Weak::upgrade) {
            return Ok(model);
        }
        let model = Arc::new(match path {
            Some(path) => Model::open(&path)?,
            None => Model::embedded()?,
        });
        open.retain(|_, model| model.strong_count() > 0);
        open.insert(fingerprint, Arc::downgrade(&model));
        Ok(model)
    }

    fn all(&self) -> Result<Vec<(String, Option<PathBuf>)>, ModelsError> {
        let kept = self.home.models()?.into_iter();
        let kept = kept.map(|(name, path)| (name, Some(path)));
        Ok(std::iter::once((EMBEDDED.to_owned(), None))
            .chain(kept)
            .collect())
    }
}

fn header(path: Option<&PathBuf>) -> Result<BundleHeader, ModelError> {
    match path {
        Some(path) => BundleHeader::read(path),
        None => BundleHeader::embedded(),
    }
}
