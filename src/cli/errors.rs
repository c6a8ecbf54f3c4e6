//! What an error says on the command line, and which exit code it means. The library says what happened, and to what; what
//! to type against it is added here, for every command alike.

use crate::adapt::PicturesError;
#[cfg(feature = "rtsp")]
use crate::frames::rtsp::RtspError;
use crate::frames::{FramesError, HttpError, SplitError};
use crate::store::{DiskError, ExistsError, MissingError, StoreError};
use std::error::Error;
use std::fmt;

/// A mistake on the command line that only shows once files or models are looked at: exit code 2.
#[derive(Debug)]
pub struct UsageError(Box<dyn Error + Send + Sync>);

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Error for UsageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// An error that only another command line can cure.
pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> anyhow::Error {
    UsageError(error.into()).into()
}

/// An impossible name of a model or prompt is wrong usage where the command line gave it; other errors stay as they are.
pub fn name_is_usage(error: anyhow::Error) -> anyhow::Error {
    match error.downcast() {
        Ok(error @ StoreError::Name(_)) => usage(error),
        Ok(error) => error.into(),
        Err(error) => error,
    }
}

/// The exit code of a command that failed with `error`.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let wrong_usage = error.is::<UsageError>()
        || matches!(error.downcast_ref(), Some(FramesError::NotVideo { .. }))
        || matches!(error.downcast_ref(), Some(PicturesError::NotDrawn { .. }));
    if wrong_usage { 2 } else { 1 }
}

/// An error, its causes and what can be done about it, in one line; a cause that the message before it already tells is left
/// out.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    match error.chain().find_map(hint) {
        Some(hint) => format!("{message}; {hint}"),
        None => message,
    }
}

/// What to type, or to do, where `error` is of a kind that the command line can cure.
fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(UsageError(error)) = error.downcast_ref() {
        return hint(&**error);
    }
    None.or_else(|| error.downcast_ref().and_then(store_hint))
        .or_else(|| error.downcast_ref().and_then(frames_hint))
        .or_else(|| error.downcast_ref().and_then(split_hint))
        .or_else(|| error.downcast_ref().and_then(pictures_hint))
        .or_else(|| super::model::hint(error).map(str::to_owned))
}

fn store_hint(error: &StoreError) -> Option<String> {
    Some(match error {
        StoreError::Missing(MissingError::Model { .. }) => {
            "`edge-rlp model list` names those that are".into()
        }
        StoreError::Missing(MissingError::Prompt { .. }) => {
            "`edge-rlp prompt list` names those that are".into()
        }
        StoreError::Missing(MissingError::Generation { name, .. }) => {
            format!("`edge-rlp prompt history {name}` names those that are")
        }
        StoreError::Exists(ExistsError::Model { .. } | ExistsError::File { .. }) => {
            "choose another name, or replace it with --force".into()
        }
        StoreError::Disk(DiskError::WriteHome { .. }) => {
            "make that folder writable with room to spare, or choose another with EDGE_RLP_HOME"
                .into()
        }
        _ => return None,
    })
}

fn frames_hint(error: &FramesError) -> Option<String> {
    Some(match error {
        FramesError::NotBuilt(_) | FramesError::NotBuiltRtsp(_) => {
            "use a program built with that feature, or pipe pictures in with --camera -".into()
        }
        FramesError::NotVideo { .. } => "`edge-rlp cameras` lists what there is".into(),
        FramesError::GaveUp { cause, .. } => match cause {
            Some(cause) if !waiting_helps(cause) => return frames_hint(cause),
            _ => "--camera-timeout waits longer".into(),
        },
        FramesError::Http(HttpError::LoginMissing) => LOGIN.into(),
        FramesError::Http(HttpError::Certificate { .. }) => {
            "--fingerprint SHA256 trusts that one certificate".into()
        }
        #[cfg(feature = "rtsp")]
        FramesError::Rtsp(RtspError::LoginMissing) => LOGIN.into(),
        #[cfg(feature = "rtsp")]
        FramesError::Rtsp(
            RtspError::Transport | RtspError::Channels(_) | RtspError::NoDatagrams,
        ) => "--rtsp-transport tcp|udp chooses".into(),
        FramesError::FileContent { .. } => {
            "file: reads motion JPEG; a picture is named without --camera".into()
        }
        FramesError::Http(HttpError::Status { status: 404, .. }) => {
            "what comes after the host may be wrong: the camera's manual names it".into()
        }
        FramesError::Address { .. } => {
            "give rtsp://HOST/PATH or http://HOST/PATH, or pipe the pictures in with --camera -"
                .into()
        }
        _ => return None,
    })
}

/// How a camera gets the name and the password that it asks for.
const LOGIN: &str =
    "write USER:PASSWORD@ before the camera's host, or put them into a file for --camera-config";

/// Whether what is wrong with a camera may pass by itself; else somebody must change something.
fn waiting_helps(error: &FramesError) -> bool {
    match error {
        FramesError::Http(error) => !matches!(
            error,
            HttpError::LoginMissing
                | HttpError::LoginElsewhere(_)
                | HttpError::LoginRefused
                | HttpError::LoginKind(_)
                | HttpError::Tls(_)
                | HttpError::Certificate { .. }
                | HttpError::OtherCertificate { .. }
                | HttpError::RedirectScheme(_)
                | HttpError::RedirectPlace(_)
                | HttpError::NoPicture { .. }
                | HttpError::Compressed(_)
                | HttpError::NotBuilt
                | HttpError::Status { status: 404, .. }
        ),
        #[cfg(feature = "rtsp")]
        FramesError::Rtsp(error) => error.may_pass(),
        FramesError::StdinContent { .. }
        | FramesError::FileContent { .. }
        | FramesError::NotBuilt(_) => false,
        _ => true,
    }
}

fn split_hint(error: &SplitError) -> Option<String> {
    Some(match error {
        SplitError::NoPictures { .. } => "say with --images where the pictures are".into(),
        SplitError::Several { .. } => "name one with --split FILE".into(),
        _ => return None,
    })
}

fn pictures_hint(error: &PicturesError) -> Option<String> {
    Some(match error {
        PicturesError::NoShots { .. } => {
            "take some with `edge-rlp adapt --camera SRC --labels FILE` at a terminal (pictures of your own, one folder a label, \
             go with --images DIR)"
                .into()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use std::io;

    fn unwritable() -> StoreError {
        StoreError::Disk(DiskError::WriteHome {
            path: "/home/prompts".into(),
            source: io::ErrorKind::StorageFull.into(),
        })
    }

    #[test]
    fn a_home_that_cannot_be_written_is_a_sentence_with_the_path_and_the_cure() {
        let message = sentence(&unwritable().into());
        assert!(
            message.contains("/home/prompts") && message.contains("EDGE_RLP_HOME"),
            "{message}"
        );
    }

    #[test]
    fn a_hint_is_found_below_contexts_and_in_wrong_usage_and_told_once_at_the_end() {
        let below = Err::<(), _>(unwritable()).context("the prompt is lost");
        let message = sentence(&below.unwrap_err());
        assert!(message.starts_with("the prompt is lost: cannot write"));
        assert!(message.ends_with("EDGE_RLP_HOME"), "{message}");
        assert_eq!(message.matches("EDGE_RLP_HOME").count(), 1);

        let device = FramesError::NotVideo {
            path: "/dev/null".into(),
        };
        let wrong = usage(device);
        assert!(sentence(&wrong).ends_with("`edge-rlp cameras` lists what there is"));
        assert_eq!(exit_code(&wrong), 2);
    }

    #[test]
    fn other_errors_are_told_as_they_are_and_mean_failure() {
        let error = anyhow::anyhow!("no space").context("cannot save");
        assert_eq!(sentence(&error), "cannot save: no space");
        assert_eq!(exit_code(&error), 1);
        let device: anyhow::Error = FramesError::NotVideo {
            path: "/dev/null".into(),
        }
        .into();
        assert_eq!(exit_code(&device), 2);
    }
}
