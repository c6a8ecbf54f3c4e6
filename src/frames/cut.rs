//! Cuts a region out of a picture.

use image::RgbImage;
use image::imageops::crop_imm;

use crate::prompt::{Region, RegionError};

/// What `region` holds of `picture`.
///
/// # Errors
/// If it reaches beyond the picture.
pub fn cut(picture: &RgbImage, region: &Region) -> Result<RgbImage, RegionError> {
    let at = region.within(picture.width(), picture.height())?;
    Ok(crop_imm(picture, at.x, at.y, at.width, at.height).to_image())
}
