//! Cuts a region out of a picture.

use std::path::Path;

use image::imageops::crop_imm;
use image::{ImageReader, RgbImage};

use super::{PictureError, read_picture};
use crate::prompt::{Area, Region, RegionError};

/// What `region` holds of `picture`.
///
/// # Errors
/// If it reaches beyond the picture.
pub fn cut(picture: &RgbImage, region: &Region) -> Result<RgbImage, RegionError> {
    let at = region.within(picture.width(), picture.height())?;
    Ok(crop_imm(picture, at.x, at.y, at.width, at.height).to_image())
}

/// Reads a picture file as [`read_picture`] does, or the `region` of it.
///
/// # Errors
/// Those of [`read_picture`]; if the region reaches beyond the picture, or is in pixels and the picture so large that it is
/// reduced.
pub fn read_region(
    path: &Path,
    max_pixels: u64,
    region: Option<&Region>,
) -> Result<RgbImage, PictureError> {
    let picture = read_picture(path, max_pixels)?;
    let Some(region) = region else {
        return Ok(picture);
    };
    let part = match region.area {
        Area::Pixels(_) if is_reduced(&picture, path) => {
            Err(RegionError::Reduced(region.to_string()))
        }
        _ => cut(&picture, region),
    };
    part.map_err(|error| PictureError::File {
        path: path.to_owned(),
        problem: Box::new(error.into()),
    })
}

/// Whether `picture` has fewer pixels than its file.
fn is_reduced(picture: &RgbImage, path: &Path) -> bool {
    let pixels = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
    let file = || {
        let reader = ImageReader::open(path).ok()?.with_guessed_format().ok()?;
        reader.into_dimensions().ok()
    };
    let read = pixels(picture.dimensions());
    file().is_some_and(|size| pixels(size) > read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    /// A pixel region of a photograph of a phone was cut out of the reduced picture, elsewhere.
    #[test]
    fn a_region_in_pixels_of_a_picture_that_is_reduced_is_refused_and_in_per_cent_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("phone.jpg");
        let picture = RgbImage::from_fn(4400, 3300, |x, _| Rgb([(x / 18) as u8; 3]));
        picture.save(&path).unwrap();
        let read = |region: &str| read_region(&path, 50_000_000, Some(&region.parse().unwrap()));
        let message = read("0,0,1000,1000").unwrap_err().to_string();
        assert!(
            message.contains("phone.jpg") && message.contains("per cent"),
            "{message}"
        );
        let right = read("50,0,50,50").unwrap();
        assert_eq!(right.dimensions(), (1100, 825));
        assert!(right.get_pixel(0, 0)[0].abs_diff((2200u32 / 18) as u8) < 4);

        let small = dir.path().join("small.png");
        RgbImage::new(40, 30).save(&small).unwrap();
        let read = |region: &str| read_region(&small, 50_000_000, Some(&region.parse().unwrap()));
        assert_eq!(read("0,0,10,20px").unwrap().dimensions(), (10, 20));
        let message = read("0,0,10,31px").unwrap_err().to_string();
        assert!(
            message.contains("small.png") && message.contains("40 x 30"),
            "{message}"
        );
    }
}
