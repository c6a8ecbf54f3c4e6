//! The newest picture of a camera, and what viewers get of it: decoded where nobody needed that before and encoded when the
//! first asks, once for all who want the same size.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

use crate::frames::frame::kept_jpeg;
use crate::frames::lazy::narrower;
use crate::frames::{Frame, LazyFrame, PictureError};
use crate::prompt::Region;

/// The quality of the JPEGs that viewers get, of 100.
const QUALITY: u8 = 80;
/// The sizes of one picture that are kept.
const SIZES: usize = 8;

/// The bytes of a JPEG file.
pub type Jpeg = Arc<[u8]>;

/// A picture of a camera.
pub struct Picture {
    frame: LazyFrame,
    /// Its number since the camera was added, from 1.
    pub number: u64,
    /// When it came, in seconds since 1970.
    pub at: f64,
    encoded: Mutex<HashMap<View, Jpeg>>,
}

/// What a viewer wants to see of a picture.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The region as text; none for all of it.
    region: Option<String>,
    /// At most so many pixels wide; none as it is.
    width: Option<u32>,
}

impl Picture {
    /// Of what came from a camera.
    pub fn new(frame: LazyFrame, number: u64, at: f64) -> Picture {
        Picture {
            frame,
            number,
            at,
            encoded: Mutex::default(),
        }
    }

    /// As it came.
    ///
    /// # Errors
    /// If it is no picture, and nobody had to know yet.
    pub fn frame(&self) -> Result<Arc<Frame>, PictureError> {
        self.frame.open()
    }

    /// What lies in `region` as a JPEG to be kept, which loses next to nothing; all of it where there is none.
    ///
    /// # Errors
    /// If it is no picture, or the region reaches beyond it.
    pub fn shot(&self, region: Option<&Region>) -> Result<Vec<u8>, PictureError> {
        let Some(region) = region else {
            return self.frame.to_jpeg();
        };
        kept_jpeg(&self.frame.part(region)?)
    }

    /// A JPEG of `region`, or of all of it, at most `width` pixels wide.
    ///
    /// # Errors
    /// If it is no picture, if the region reaches beyond it, or it cannot be encoded.
    pub fn jpeg(&self, region: Option<&Region>, width: Option<u32>) -> Result<Jpeg, PictureError> {
        let view = View {
            region: region.map(Region::to_string),
            width: match width {
                Some(width) if width < self.frame.width()? => Some(width),
                _ => None,
            },
        };
        // Whoever wants the same waits for it.
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jpeg) = encoded.get(&view) {
            return Ok(Arc::clone(jpeg));
        }
        let jpeg: Jpeg = self.encode(region, view.width)?.into();
        if encoded.len() < SIZES {
            encoded.insert(view, Arc::clone(&jpeg));
        }
        Ok(jpeg)
    }

    fn encode(&self, region: Option<&Region>, width: Option<u32>) -> Result<Vec<u8>, PictureError> {
        // Most cameras send JPEGs: nothing need be encoded.
        if region.is_none() && width.is_none() && self.frame.is_jpeg() {
            return self.frame.to_jpeg();
        }
        match (region, width) {
            (None, None) => encoded(&self.frame.open()?.image),
            (None, Some(width)) => encoded(&self.frame.narrower(width)?),
            (Some(region), width) => {
                let part = self.frame.part(region)?;
                match width.filter(|width| *width < part.width()) {
                    Some(width) => encoded(&narrower(&part, width)),
                    None => encoded(&part),
                }
            }
        }
    }
}

fn encoded(image: &RgbImage) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode_image(image)
        .map_err(|error| PictureError::Encode(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::decode_picture;
    use crate::frames::demo;

    fn picture() -> Picture {
        let frame = Arc::new(demo::stream(vec![0], 3).next().unwrap());
        Picture::new(frame.into(), 1, 0.0)
    }

    #[test]
    fn a_picture_is_encoded_once_for_all_who_want_the_same() {
        let picture = picture();
        let first = picture.jpeg(None, Some(50)).unwrap();
        let again = picture.jpeg(None, Some(50)).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let small = decode_picture(&first, 1 << 20).unwrap();
        assert_eq!(small.width(), 50);
        let whole = picture.jpeg(None, None).unwrap();
        let wider = picture.jpeg(None, Some(100_000)).unwrap();
        assert!(Arc::ptr_eq(&whole, &wider), "nothing is made larger");
    }

    #[test]
    fn a_region_is_what_lies_in_it() {
        let picture = picture();
        let region: Region = "a=25,25,50,50".parse().unwrap();
        let (width, height) = picture.frame().unwrap().image.dimensions();
        let jpeg = picture.jpeg(Some(&region), None).unwrap();
        let part = decode_picture(&jpeg, 1 << 20).unwrap();
        assert_eq!(part.dimensions(), (width / 2, height / 2));
        let shot = decode_picture(&picture.shot(Some(&region)).unwrap(), 1 << 20).unwrap();
        assert_eq!(shot.dimensions(), part.dimensions());
        let beyond: Region = "b=0,0,9000,9000px".parse().unwrap();
        assert!(picture.jpeg(Some(&beyond), None).is_err());
    }
}
