//! What a person sets for good: `config.toml` in the home folder. It is read and never written.
//!
//! ```toml
//! [shots]
//! keep = "90d"    # shots older than this are removed
//! ```

use super::Home;
use crate::store::StoreError;
use serde::{Deserialize, Deserializer};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The longest file that is read.
const MAX_BYTES: u64 = 64 << 10;
/// Shots that were just taken are trained on before they go.
const SHORTEST: Duration = Duration::from_secs(60 * 60);

/// What is set; what is not stays as the program has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Settings {
    /// What is kept of shots.
    pub shots: ShotSettings,
}

/// How kept pictures are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ShotSettings {
    /// How old a shot may become; none means for ever.
    #[serde(deserialize_with = "duration")]
    pub keep: Option<Duration>,
}

impl Home {
    /// Where the settings lie, or would lie.
    pub fn settings_file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The settings; those of the program where there is no such file.
    ///
    /// # Errors
    /// If the file cannot be read, or says something that is not known.
    pub fn settings(&self) -> Result<Settings, StoreError> {
        let path = self.settings_file();
        let bytes = match self.files.read(&path, MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
            bytes => bytes.map_err(StoreError::reading(&path))?,
        };
        let fault = |fault: String| StoreError::Settings {
            path: path.clone(),
            fault: fault.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(fault(format!("it is above {} KiB", MAX_BYTES >> 10)));
        }
        let text = String::from_utf8(bytes).map_err(|_| fault("it is not UTF-8".into()))?;
        toml::from_str(&text).map_err(|error| {
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..before]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count();
            fault(format!("line {line}: {}", error.message()))
        })
    }
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    match humantime::parse_duration(&text) {
        Ok(duration) if duration >= SHORTEST => Ok(Some(duration)),
        Ok(_) => Err(serde::de::Error::custom("shots are kept for 1h at least")),
        Err(_) => Err(serde::de::Error::custom(
            "write how long shots are kept as in \"90d\" or \"12h\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file_system::{Access, FileSystem};
    use crate::store::home::tests::home;

    #[test]
    fn settings_are_read_and_what_is_not_known_is_a_sentence_with_its_line() {
        let (disk, home) = home();
        assert_eq!(home.settings().unwrap(), Settings::default());
        disk.create_dir("/home".as_ref(), Access::Owner).unwrap();
        let set = |text: &[u8]| {
            disk.write_synced(&home.settings_file(), text, Access::Usual)
                .unwrap();
            home.settings()
        };
        let keep = |text: &[u8]| set(text).unwrap().shots.keep;
        assert_eq!(keep(b""), None);
        assert_eq!(keep(b"# nothing\n[shots]\n"), None);
        let days = Duration::from_secs(90 * 24 * 3600);
        assert_eq!(keep(b"[shots]\nkeep = \"90d\"  # people\n"), Some(days));
        for (text, says) in [
            (&b"[shots]\nkeep = \"soon\""[..], "line 2: write how long"),
            (b"[shots]\nkeep = 90", "line 2: invalid type"),
            (
                b"[shots]\n\nkeep = \"1m\"",
                "line 3: shots are kept for 1h at least",
            ),
            (b"[shot]\nkeep = \"1d\"", "line 1: unknown field `shot`"),
            (b"[shots", "line 1"),
            (b"\xff", "not UTF-8"),
        ] {
            let message = set(text).unwrap_err().to_string();
            let place = "/home/config.toml";
            assert!(
                message.contains(says) && message.contains(place),
                "{message}"
            );
            assert!(!message.contains('\n'), "{message}");
        }
        let long = vec![b' '; MAX_BYTES as usize + 1];
        assert!(set(&long).is_err());
    }
}
