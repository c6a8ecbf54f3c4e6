//! A frame that is decoded when somebody first looks at it, and never if nobody does.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::frame::RawFrame;
use super::jpeg::mended;
use super::metadata::without_metadata;
use super::{Frame, PictureError};

/// A frame, decoded or not yet.
pub struct LazyFrame {
    /// Its number in the stream, from 0; frames that were dropped count.
    pub index: u64,
    source: String,
    state: Mutex<State>,
}

enum State {
    Raw(RawFrame),
    Open(Arc<Frame>),
}

impl LazyFrame {
    /// As it came from the camera `source`.
    pub fn raw(raw: RawFrame, source: &str, index: u64) -> LazyFrame {
        LazyFrame {
            index,
            source: source.to_owned(),
            state: Mutex::new(State::Raw(raw)),
        }
    }

    /// The frame, where it was decoded already.
    pub fn opened(&self) -> Option<Arc<Frame>> {
        match &*self.locked() {
            State::Open(frame) => Some(Arc::clone(frame)),
            State::Raw(_) => None,
        }
    }

    /// Whether the camera sent it as a JPEG.
    pub fn is_jpeg(&self) -> bool {
        match &*self.locked() {
            State::Open(frame) => frame.jpeg.is_some(),
            State::Raw(raw) => matches!(raw, RawFrame::Jpeg(_)),
        }
    }

    /// The frame, decoded for the first who asks; others wait for it.
    ///
    /// # Errors
    /// If the bytes are not a picture, or too few.
    pub fn open(&self) -> Result<Arc<Frame>, PictureError> {
        let mut state = self.locked();
        let raw = match &mut *state {
            State::Open(frame) => return Ok(Arc::clone(frame)),
            State::Raw(raw) => raw,
        };
        raw.make_whole();
        let image = raw.decode()?;
        let raw = std::mem::replace(raw, RawFrame::Jpeg(Vec::new()));
        let frame = Arc::new(raw.into_frame(image, &self.source, self.index));
        *state = State::Open(Arc::clone(&frame));
        Ok(frame)
    }

    /// See [`Frame::to_jpeg`]; a JPEG that nobody decoded is not decoded for it, unless it has to be turned.
    ///
    /// # Errors
    /// Those of [`LazyFrame::open`] and of [`Frame::to_jpeg`].
    pub fn to_jpeg(&self) -> Result<Vec<u8>, PictureError> {
        if let State::Raw(RawFrame::Jpeg(bytes)) = &*self.locked()
            && let Some(jpeg) = without_metadata(&mended(bytes))
        {
            return Ok(jpeg);
        }
        self.open()?.to_jpeg()
    }

    /// What a panic left behind is whole: the one change to it is an assignment.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Arc<Frame>> for LazyFrame {
    fn from(frame: Arc<Frame>) -> LazyFrame {
        LazyFrame {
            index: frame.index,
            source: frame.source.clone(),
            state: Mutex::new(State::Open(frame)),
        }
    }
}

impl fmt::Debug for LazyFrame {
    /// Without its bytes.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let (index, opened) = (self.index, self.opened().is_some());
        (formatter.debug_struct("LazyFrame"))
            .field("index", &index)
            .field("opened", &opened)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::demo;

    fn jpeg() -> Vec<u8> {
        demo::stream(vec![0], 1).next().unwrap().to_jpeg().unwrap()
    }

    #[test]
    fn a_frame_is_decoded_once_and_not_at_all_for_the_jpeg_that_it_came_as() {
        let lazy = LazyFrame::raw(RawFrame::Jpeg(jpeg()), "door", 7);
        assert_eq!(lazy.to_jpeg().unwrap(), jpeg());
        assert!(lazy.opened().is_none());
        let frame = lazy.open().unwrap();
        assert_eq!((frame.source.as_str(), frame.index), ("door", 7));
        assert_eq!(frame.jpeg, Some(jpeg()));
        assert!(Arc::ptr_eq(&frame, &lazy.open().unwrap()));
        assert!(Arc::ptr_eq(&frame, &lazy.opened().unwrap()));
    }

    #[test]
    fn what_is_no_picture_is_said_whenever_somebody_asks() {
        let lazy = LazyFrame::raw(RawFrame::Jpeg(jpeg()[..40].to_vec()), "door", 0);
        for _ in 0..2 {
            assert!(lazy.open().is_err() && lazy.opened().is_none());
        }
    }
}
