//! How sharp a picture is, to warn of blurred ones.

use image::RgbImage;

/// The variance of the Laplacian of the brightness, in squared steps of brightness: high where edges are sharp. Taken on a
/// grid at most 640 pixels across; 0 of a picture with no inside.
pub fn sharpness(picture: &RgbImage) -> f32 {
    let step = (picture.width() / 320).max(1);
    let (width, height) = (picture.width() / step, picture.height() / step);
    if width < 3 || height < 3 {
        return 0.0;
    }
    let bright = |x: u32, y: u32| {
        let [red, green, blue] = picture.get_pixel(x * step, y * step).0.map(f32::from);
        0.299 * red + 0.587 * green + 0.114 * blue
    };
    let (mut sum, mut squares) = (0.0f64, 0.0f64);
    for y in 1..height - 1 {
        for x in 1..width - 1 {
            let around = bright(x - 1, y) + bright(x + 1, y) + bright(x, y - 1) + bright(x, y + 1);
            let second = f64::from(around - 4.0 * bright(x, y));
            sum += second;
            squares += second * second;
        }
    }
    let count = f64::from((width - 2) * (height - 2));
    (squares / count - (sum / count).powi(2)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::demo::{self, Purpose};
    use image::imageops;

    #[test]
    fn a_blurred_picture_is_less_sharp() {
        for index in 0..6 {
            let picture = demo::draw(&demo::scene(Purpose::Live, 0, 1, index), demo::SIZE);
            let blurred = imageops::blur(&picture, 2.0);
            let (sharp, soft) = (sharpness(&picture), sharpness(&blurred));
            assert!(soft < 0.5 * sharp, "{sharp} {soft}");
        }
        assert_eq!(sharpness(&RgbImage::new(40, 40)), 0.0);
        assert_eq!(sharpness(&RgbImage::new(2, 2)), 0.0);
    }
}
