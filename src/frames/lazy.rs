//! A frame that is decoded when somebody first looks at it, and never if nobody does.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::frame::RawFrame;
use super::jpeg::mended;
use super::metadata::without_metadata;
use super::planes::Planes;
use super::{Frame, PictureError, cut, reuse};
use crate::prompt::Region;
use fast_image_resize::Resizer;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8x3};
use image::RgbImage;

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
    /// The planes of a video, half as large as the picture that is made from them, and that picture while somebody has it.
    Planes(Arc<RawFrame>, Weak<Frame>),
}

impl LazyFrame {
    /// As it came from the camera `source`.
    pub fn raw(raw: RawFrame, source: &str, index: u64) -> LazyFrame {
        let state = match raw {
            RawFrame::Planar { .. } => State::Planes(Arc::new(raw), Weak::new()),
            raw => State::Raw(raw),
        };
        LazyFrame {
            index,
            source: source.to_owned(),
            state: Mutex::new(state),
        }
    }

    /// A frame that was decoded. Of one that was made from `planes` these alone are kept, and it is made again where it is
    /// asked for when nobody has it any more.
    pub(crate) fn of(frame: &Arc<Frame>, planes: Option<Arc<RawFrame>>) -> LazyFrame {
        LazyFrame {
            index: frame.index,
            source: frame.source.clone(),
            state: Mutex::new(match planes {
                Some(planes) => State::Planes(planes, Arc::downgrade(frame)),
                None => State::Open(Arc::clone(frame)),
            }),
        }
    }

    /// The frame, where it was decoded already and is there still.
    pub fn opened(&self) -> Option<Arc<Frame>> {
        match &*self.locked() {
            State::Open(frame) => Some(Arc::clone(frame)),
            State::Planes(_, frame) => frame.upgrade(),
            State::Raw(_) => None,
        }
    }

    /// Its planes, where it is a video's and the picture need not be made from them first.
    fn planes(&self) -> Option<Arc<RawFrame>> {
        match &*self.locked() {
            State::Planes(planes, _) => Some(Arc::clone(planes)),
            State::Open(_) | State::Raw(_) => None,
        }
    }

    /// Its width in pixels.
    ///
    /// # Errors
    /// Those of [`LazyFrame::open`].
    pub fn width(&self) -> Result<u32, PictureError> {
        match self.planes().as_deref().and_then(Planes::of) {
            Some(planes) => Ok(planes.width),
            None => Ok(self.open()?.image.width()),
        }
    }

    /// What `region` holds of it; no more than that is made of a video.
    ///
    /// # Errors
    /// Those of [`LazyFrame::open`]; if the region reaches beyond it.
    pub fn part(&self, region: &Region) -> Result<RgbImage, PictureError> {
        match self.planes().as_deref().and_then(Planes::of) {
            Some(planes) => planes.part(region.within(planes.width, planes.height)?),
            None => Ok(cut(&self.open()?.image, region)?),
        }
    }

    /// It at a `width` in pixels that is less than it has.
    ///
    /// # Errors
    /// Those of [`LazyFrame::open`].
    pub fn narrower(&self, width: u32) -> Result<RgbImage, PictureError> {
        match self.planes().as_deref().and_then(Planes::of) {
            Some(planes) => planes.narrower(width),
            None => Ok(narrower(&self.open()?.image, width)),
        }
    }

    /// Whether the camera sent it as a JPEG.
    pub fn is_jpeg(&self) -> bool {
        match &*self.locked() {
            State::Open(frame) => frame.jpeg.is_some(),
            State::Planes(..) => false,
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
            State::Planes(planes, opened) => {
                if let Some(frame) = opened.upgrade() {
                    return Ok(frame);
                }
                let frame = Arc::new(Frame {
                    image: planes.decode()?,
                    source: self.source.clone(),
                    index: self.index,
                    label: None,
                    jpeg: None,
                    planes: None,
                });
                *opened = Arc::downgrade(&frame);
                return Ok(frame);
            }
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

impl Drop for LazyFrame {
    /// Leaves its planes to the next.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Planes(planes, _) = state {
            let gone = RawFrame::Jpeg(Vec::new());
            let planes = std::mem::replace(planes, Arc::new(gone));
            if let Some(RawFrame::Planar { data, .. }) = Arc::into_inner(planes) {
                reuse::put(data);
            }
        }
    }
}

impl From<Arc<Frame>> for LazyFrame {
    fn from(frame: Arc<Frame>) -> LazyFrame {
        LazyFrame::of(&frame, None)
    }
}

/// `image` at a width of `width` pixels, which is less than it has.
pub fn narrower(image: &RgbImage, width: u32) -> RgbImage {
    let (from_width, from_height) = image.dimensions();
    let height = height_at(width, (from_width, from_height));
    let resized = (|| {
        let from = TypedImageRef::<U8x3>::from_buffer(from_width, from_height, image.as_raw());
        let mut to = TypedImage::<U8x3>::new(width, height);
        Resizer::new()
            .resize_typed(&from.ok()?, &mut to, None)
            .ok()?;
        RgbImage::from_raw(width, height, U8x3::components(to.pixels()).to_vec())
    })();
    // What cannot be resized is no picture, and is shown as it is.
    resized.unwrap_or_else(|| image.clone())
}

/// The height of a picture of such a size at another width.
pub(super) fn height_at(width: u32, (from_width, from_height): (u32, u32)) -> u32 {
    let height = (u64::from(from_height) * u64::from(width) / u64::from(from_width.max(1))).max(1);
    u32::try_from(height).unwrap_or(from_height)
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
