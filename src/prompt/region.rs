//! The part of a picture that is looked at: a rectangle in per cent of the picture or in pixels, with a name where there are
//! several. What is cut out is what is learnt, kept and named, so a prompt remembers its regions.

use std::fmt;
use std::str::FromStr;

use super::labels::{LabelFault, check_text};

/// The most regions of one camera.
pub const MAX_REGIONS: usize = 16;
/// The longest name of a region, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// The greatest coordinate, in pixels or hundredths of a per cent.
const MAX_COORDINATE: u32 = 1 << 20;
/// All of a picture's width or height, in hundredths of a per cent.
const WHOLE: u32 = 10_000;

/// A part of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// What people call it; may be empty.
    pub name: String,
    /// Which part of a picture it is.
    pub area: Area,
}

/// Where a region lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// In hundredths of a per cent of the picture's width and height: the same in pictures of any size.
    Share(Rectangle),
    /// In pixels: for pictures of one size.
    Pixels(Rectangle),
}

/// Its upper left corner and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// Pixels to the left of it.
    pub x: u32,
    /// Pixels above it.
    pub y: u32,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
}

/// Why a region cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// It is not of the form that regions have.
    #[error(
        "the region \"{0}\" is not left, top, width and height: write four numbers, in per cent as in 10,20,30,40 or in pixels as in 64,96,192,192px, with a name before them where there are several, as in door=10,20,30,40"
    )]
    Form(String),
    /// It has no pixels.
    #[error("the region \"{0}\" is empty: its width and height must be above 0")]
    Empty(String),
    /// Its per cent add up to more than the picture.
    #[error(
        "the region \"{0}\" reaches beyond 100 per cent of the picture: make it smaller, or write px behind it if these are pixels"
    )]
    BeyondWhole(String),
    /// Its pixels lie outside a picture.
    #[error("the region \"{region}\" lies beyond the picture of {width} x {height} pixels")]
    BeyondPicture {
        /// The region as it was given.
        region: String,
        /// The width of the picture in pixels.
        width: u32,
        /// The height of the picture in pixels.
        height: u32,
    },
    /// It is in pixels, and the picture is one that is reduced while it is decoded.
    #[error(
        "the region \"{0}\" is in pixels, and the picture is so large that it is reduced as it is read: write the region in per cent"
    )]
    Reduced(String),
    /// Its name cannot be used.
    #[error("the name of the region \"{region}\" cannot be used: {fault}")]
    Name {
        /// The region as it was given.
        region: String,
        /// What is wrong with the name.
        fault: LabelFault,
    },
    /// Its name is too long, or cannot be told from the numbers.
    #[error("the name of the region \"{0}\" has more than {MAX_NAME_BYTES} bytes, = or a comma")]
    NameForm(String),
    /// Two have this name.
    #[error("two regions are called \"{0}\": give each a name of its own, as in door=10,20,30,40")]
    SameName(String),
    /// There are more than [`MAX_REGIONS`].
    #[error("there are more than {MAX_REGIONS} regions")]
    TooMany,
}

impl Region {
    /// Where it lies in a picture of `width` x `height` pixels: at least one pixel.
    ///
    /// # Errors
    /// If it reaches beyond the picture.
    pub fn within(&self, width: u32, height: u32) -> Result<Rectangle, RegionError> {
        let rectangle = match self.area {
            Area::Pixels(rectangle) => rectangle,
            Area::Share(share) => {
                let at = |side: u32, share: u32| {
                    let exact = u64::from(side) * u64::from(share.min(WHOLE));
                    ((exact + u64::from(WHOLE / 2)) / u64::from(WHOLE)) as u32
                };
                let span = |side: u32, from: u32, length: u32| {
                    let begin = at(side, from).min(side.saturating_sub(1));
                    let end = at(side, from.saturating_add(length)).max(begin + 1);
                    (begin, end - begin)
                };
                let (x, width) = span(width, share.x, share.width);
                let (y, height) = span(height, share.y, share.height);
                Rectangle {
                    x,
                    y,
                    width,
                    height,
                }
            }
        };
        let inside =
            |from: u32, length: u32, side: u32| u64::from(from) + u64::from(length) <= side.into();
        if inside(rectangle.x, rectangle.width, width)
            && inside(rectangle.y, rectangle.height, height)
        {
            Ok(rectangle)
        } else {
            Err(RegionError::BeyondPicture {
                region: self.to_string(),
                width,
                height,
            })
        }
    }

    /// What is wrong with it wherever it lies, if anything.
    pub(crate) fn fault(&self) -> Option<RegionError> {
        let shown = || self.to_string();
        if !self.name.is_empty() {
            if let Some(fault) = check_text(&self.name).err() {
                return Some(RegionError::Name {
                    region: shown(),
                    fault,
                });
            }
            if self.name.len() > MAX_NAME_BYTES
                || self.name.contains(['=', ','])
                || self.name.trim() != self.name
            {
                return Some(RegionError::NameForm(shown()));
            }
        }
        let (Area::Share(at) | Area::Pixels(at)) = self.area;
        let whole = match self.area {
            Area::Share(_) => WHOLE,
            Area::Pixels(_) => MAX_COORDINATE,
        };
        let beyond = |from: u32, length: u32| u64::from(from) + u64::from(length) > whole.into();
        if at.width == 0 || at.height == 0 {
            Some(RegionError::Empty(shown()))
        } else if beyond(at.x, at.width) || beyond(at.y, at.height) {
            Some(RegionError::BeyondWhole(shown()))
        } else {
            None
        }
    }
}

/// What is wrong with `regions` of one camera, if anything: each by itself, their names and their number.
pub fn check_regions(regions: &[Region]) -> Result<(), RegionError> {
    if regions.len() > MAX_REGIONS {
        return Err(RegionError::TooMany);
    }
    for (index, region) in regions.iter().enumerate() {
        if let Some(fault) = region.fault() {
            return Err(fault);
        }
        if regions[..index]
            .iter()
            .any(|other| other.name == region.name)
        {
            return Err(RegionError::SameName(region.name.clone()));
        }
    }
    Ok(())
}

/// Regions for people: `door=10,20,30,40% window=50,20,30,40%`, or "the whole picture".
pub fn in_words(regions: &[Region]) -> String {
    match regions {
        [] => "the whole picture".into(),
        regions => {
            let shown: Vec<String> = regions.iter().map(Region::to_string).collect();
            shown.join(" ")
        }
    }
}

impl FromStr for Region {
    type Err = RegionError;

    /// Reads `[NAME=]X,Y,W,H`, with `%` or `px` behind each number or the last. Numbers without either are per cent, unless
    /// one is above 100, and then pixels.
    fn from_str(text: &str) -> Result<Region, RegionError> {
        let form = || RegionError::Form(text.to_owned());
        let (name, numbers) = match text.rsplit_once('=') {
            Some((name, _)) if name.trim().is_empty() => return Err(form()),
            Some((name, numbers)) => (name.trim(), numbers),
            None => ("", text),
        };
        let mut values = [0.0f64; 4];
        let (mut share, mut pixels) = (false, false);
        let parts: Vec<&str> = numbers.split(',').collect();
        if parts.len() != values.len() {
            return Err(form());
        }
        for (value, part) in values.iter_mut().zip(parts) {
            let mut part = part.trim();
            if let Some(number) = part.strip_suffix('%') {
                (share, part) = (true, number.trim_end());
            } else if let Some(number) = part.strip_suffix("px") {
                (pixels, part) = (true, number.trim_end());
            }
            *value = part.parse().map_err(|_| form())?;
            if !(0.0..=f64::from(MAX_COORDINATE)).contains(value) {
                return Err(form());
            }
        }
        if share && pixels {
            return Err(form());
        }
        let pixels = pixels || (!share && values.iter().any(|value| *value > 100.0));
        if pixels && values.iter().any(|value| value.fract() != 0.0) {
            return Err(form());
        }
        let unit = if pixels {
            1.0
        } else {
            f64::from(WHOLE) / 100.0
        };
        let [x, y, width, height] = values.map(|value| (value * unit).round() as u32);
        let rectangle = Rectangle {
            x,
            y,
            width,
            height,
        };
        let region = Region {
            name: name.to_owned(),
            area: if pixels {
                Area::Pixels(rectangle)
            } else {
                Area::Share(rectangle)
            },
        };
        match region.fault() {
            Some(fault) => Err(fault),
            None => Ok(region),
        }
    }
}

impl fmt::Display for Region {
    /// As [`Region::from_str`] reads it, with its unit.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(out, "{}=", self.name)?;
        }
        match self.area {
            Area::Pixels(at) => write!(out, "{},{},{},{}px", at.x, at.y, at.width, at.height),
            Area::Share(at) => {
                let share = |value: u32| f64::from(value) / 100.0;
                write!(
                    out,
                    "{},{},{},{}%",
                    share(at.x),
                    share(at.y),
                    share(at.width),
                    share(at.height)
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Region {
        text.parse().unwrap()
    }

    fn at(x: u32, y: u32, width: u32, height: u32) -> Rectangle {
        Rectangle {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn regions_are_read_in_per_cent_or_pixels_and_shown_again() {
        let door = read("door=10,20,30,40");
        assert_eq!(door.name, "door");
        assert_eq!(door.area, Area::Share(at(1000, 2000, 3000, 4000)));
        assert_eq!(door.to_string(), "door=10,20,30,40%");
        assert_eq!(
            read(" back door = 12.5, 0, 50, 100 ").to_string(),
            "back door=12.5,0,50,100%"
        );
        assert_eq!(
            read("64,96,192,192").area,
            Area::Pixels(at(64, 96, 192, 192))
        );
        assert_eq!(read("0,0,50,50px").area, Area::Pixels(at(0, 0, 50, 50)));
        for text in ["10%,20%,30%,40%", "64px,96px,192px,192px", "a=0,0,100,100"] {
            let region = read(text);
            assert_eq!(read(&region.to_string()), region, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_forms_there_are() {
        for text in [
            "",
            "10,20,30",
            "10,20,30,40,50",
            "a,b,c,d",
            "=1,2,3,4",
            "-1,2,3,4",
            "1,2,nan,4",
            "1%,2px,3,4",
            "0.5,0,200,200",
            "1e9,0,1,1",
        ] {
            let message = text.parse::<Region>().unwrap_err().to_string();
            assert!(message.contains("door=10,20,30,40"), "{text}: {message}");
        }
        let refused = |text: &str| text.parse::<Region>().unwrap_err().to_string();
        assert!(refused("10,20,0,40").contains("empty"));
        assert!(refused("10,20,30,90").contains("beyond 100 per cent"));
        assert!(refused("a\u{200b}b=1,2,3,4").contains("invisible"));
        assert!(refused(&format!("{}=1,2,3,4", "x".repeat(65))).contains("64 bytes"));
    }

    #[test]
    fn a_region_lies_within_pictures_of_any_size() {
        let door = read("10,20,30,40");
        assert_eq!(door.within(640, 480), Ok(at(64, 96, 192, 192)));
        assert_eq!(door.within(1, 1), Ok(at(0, 0, 1, 1)));
        assert_eq!(
            read("99.99,99.99,0.01,0.01").within(10, 10),
            Ok(at(9, 9, 1, 1))
        );
        assert_eq!(read("0,0,100,100").within(641, 481), Ok(at(0, 0, 641, 481)));
        let pixels = read("600,0,100,100");
        assert!(pixels.within(700, 100).is_ok());
        let message = pixels.within(640, 480).unwrap_err().to_string();
        assert!(message.contains("640 x 480"), "{message}");
    }

    #[test]
    fn names_are_told_apart_and_counted() {
        let two = [read("1,2,3,4"), read("5,6,7,8")];
        assert!(matches!(check_regions(&two), Err(RegionError::SameName(_))));
        let many: Vec<Region> = (0..17).map(|i| read(&format!("r{i}=1,2,3,4"))).collect();
        assert!(check_regions(&many[..16]).is_ok());
        assert_eq!(check_regions(&many), Err(RegionError::TooMany));
        assert_eq!(in_words(&[]), "the whole picture");
    }
}
