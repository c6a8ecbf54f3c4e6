//! A picture in a terminal: two pixels a cell as half-blocks in as many colours as there are, or its real pixels where the
//! terminal can show them.

use super::regions::Regions;
use super::terminal::Depth;
use image::{DynamicImage, Rgb, RgbImage, imageops};
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor;
use ratatui::layout::{Rect, Size};
use ratatui::style::Color;
use ratatui_image::Resize;
use ratatui_image::picker::{Picker, ProtocolType};
use ratatui_image::protocol::Protocol;
use ratatui_image::protocol::kitty::Kitty;
use std::io::{self, IsTerminal};

/// Two pictures of a Kitty terminal take turns, so that one is whole while the other arrives.
const KITTY_IDS: [u32; 2] = [0x0e_d6e1, 0x0e_d6e2];

/// The frame of the region that is looked at, and those of the others.
const LOOKED_AT: Rgb<u8> = Rgb([255, 221, 0]);
const OTHER: Rgb<u8> = Rgb([160, 160, 160]);

/// The largest size of `picture`'s shape, in half-block pixels, that fits into `area`; even in height.
fn fitted(picture: &RgbImage, area: Rect) -> (u32, u32) {
    let (width, height) = (
        picture.width().max(1) as f32,
        picture.height().max(1) as f32,
    );
    let (across, down) = (f32::from(area.width), 2.0 * f32::from(area.height));
    let scale = (across / width).min(down / height);
    let cells = (height * scale / 2.0).round().max(1.0) as u32;
    (
        ((width * scale).round().max(1.0) as u32).min(area.width.into()),
        2 * cells.min(area.height.into()),
    )
}

/// Draws `picture` into the middle of `area`, as large as it fits.
pub fn blocks(picture: &RgbImage, area: Rect, depth: Depth, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let (width, height) = fitted(picture, area);
    let small = imageops::thumbnail(picture, width, height);
    let left = area.x + (area.width - width as u16) / 2;
    let top = area.y + (area.height - height as u16 / 2) / 2;
    for row in 0..height / 2 {
        for column in 0..width {
            let Some(cell) = buffer.cell_mut((left + column as u16, top + row as u16)) else {
                continue;
            };
            let pixel = |half: u32| small.get_pixel(column, 2 * row + half).0;
            if depth == Depth::Grey {
                cell.set_char(shade(pixel(0), pixel(1)));
            } else {
                let colour = |half: u32| colour(pixel(half), depth, (column, 2 * row + half));
                cell.set_char('▀').set_fg(colour(0)).set_bg(colour(1));
            }
        }
    }
}

/// `picture` with frames around regions: the one that is looked at in yellow.
pub fn with_frames(picture: &RgbImage, regions: &Regions) -> RgbImage {
    let mut framed = picture.clone();
    let (width, height) = picture.dimensions();
    // Two half-blocks of the view, of pictures that fill it.
    let thick = (width.max(height) / 48).max(1);
    let others = regions.list.iter().enumerate();
    let others = others.filter(|(place, _)| *place != regions.current);
    let looked_at = regions.looked_at().map(|region| (region, LOOKED_AT));
    let all = others.map(|(_, region)| (region, OTHER)).chain(looked_at);
    for (region, colour) in all {
        let Ok(at) = region.within(width, height) else {
            continue;
        };
        let (right, bottom) = (at.x + at.width, at.y + at.height);
        for (y, x) in (at.y..bottom).flat_map(|y| (at.x..right).map(move |x| (y, x))) {
            let edge = (x - at.x)
                .min(right - 1 - x)
                .min(y - at.y)
                .min(bottom - 1 - y);
            if edge < thick {
                framed.put_pixel(x, y, colour);
            }
        }
    }
    framed
}

fn brightness([red, green, blue]: [u8; 3]) -> u32 {
    (299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue)) / 1000
}

/// A character as bright as two pixels, on a dark terminal.
fn shade(upper: [u8; 3], lower: [u8; 3]) -> char {
    const RAMP: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];
    let mean = (brightness(upper) + brightness(lower)) / 2;
    RAMP[(mean as usize * RAMP.len() / 256).min(RAMP.len() - 1)]
}

fn colour(rgb: [u8; 3], depth: Depth, (x, y): (u32, u32)) -> Color {
    match depth {
        Depth::True => Color::Rgb(rgb[0], rgb[1], rgb[2]),
        Depth::Palette => Color::Indexed(of_256(rgb)),
        Depth::Sixteen | Depth::Grey => {
            // With so few colours a mixture of neighbours says more than the nearest one.
            const ORDER: [[i16; 2]; 2] = [[-48, 16], [48, -16]];
            let nudge = ORDER[(y % 2) as usize][(x % 2) as usize];
            let nudged = rgb.map(|channel| (i16::from(channel) + nudge).clamp(0, 255) as u8);
            nearest_of_16(nudged)
        }
    }
}

/// The nearest of the 6 x 6 x 6 colours or the 24 greys of a palette of 256.
fn of_256(rgb: [u8; 3]) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let level = rgb.map(|channel| {
        (0..6)
            .min_by_key(|&level| LEVELS[level].abs_diff(channel))
            .unwrap_or(0)
    });
    let cube = level.map(|level| LEVELS[level]);
    let step = (brightness(rgb).saturating_sub(3) / 10).min(23) as u8;
    let grey = [8 + 10 * step; 3];
    if distance(grey, rgb) < distance(cube, rgb) {
        232 + step
    } else {
        16 + (36 * level[0] + 6 * level[1] + level[2]) as u8
    }
}

fn distance(a: [u8; 3], b: [u8; 3]) -> u32 {
    let squares = a
        .iter()
        .zip(b)
        .map(|(a, b)| u32::from(a.abs_diff(b)).pow(2));
    squares.sum()
}

fn nearest_of_16(rgb: [u8; 3]) -> Color {
    const COLOURS: [(Color, [u8; 3]); 16] = [
        (Color::Black, [0, 0, 0]),
        (Color::Red, [170, 0, 0]),
        (Color::Green, [0, 170, 0]),
        (Color::Yellow, [170, 85, 0]),
        (Color::Blue, [0, 0, 170]),
        (Color::Magenta, [170, 0, 170]),
        (Color::Cyan, [0, 170, 170]),
        (Color::Gray, [170, 170, 170]),
        (Color::DarkGray, [85, 85, 85]),
        (Color::LightRed, [255, 85, 85]),
        (Color::LightGreen, [85, 255, 85]),
        (Color::LightYellow, [255, 255, 85]),
        (Color::LightBlue, [85, 85, 255]),
        (Color::LightMagenta, [255, 85, 255]),
        (Color::LightCyan, [85, 255, 255]),
        (Color::White, [255, 255, 255]),
    ];
    let nearest = COLOURS.iter().min_by_key(|(_, of)| distance(*of, rgb));
    nearest.map_or(Color::Reset, |(colour, _)| *colour)
}

/// A terminal that shows real pixels.
pub struct Pixels {
    picker: Picker,
    turn: usize,
}

impl Pixels {
    /// Asks the terminal, which must be in raw mode, whether it shows pixels. None if it does not, or does not answer.
    pub fn ask() -> Option<Pixels> {
        // The question goes out on standard output and the answer comes in on standard input. A multiplexer would have to
        // be reconfigured to let pictures through, which is not for us to do.
        let multiplexed = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
        if !io::stdin().is_terminal()
            || !io::stdout().is_terminal()
            || ["TMUX", "STY"].into_iter().any(multiplexed)
        {
            return None;
        }
        // The picker leaves a thread behind that eats keys where no answer comes: first see that any comes at all.
        cursor::position().ok()?;
        let picker = Picker::from_query_stdio().ok()?;
        (picker.protocol_type() != ProtocolType::Halfblocks).then_some(Pixels { picker, turn: 0 })
    }

    /// `picture` for `area`, and where in it; none where the terminal's protocol cannot.
    pub fn picture(&mut self, picture: &RgbImage, area: Rect) -> Option<(Protocol, Rect)> {
        let font = self.picker.font_size();
        let (across, down) = (f32::from(font.width.max(1)), f32::from(font.height.max(1)));
        let (width, height) = (
            picture.width().max(1) as f32,
            picture.height().max(1) as f32,
        );
        let scale =
            (f32::from(area.width) * across / width).min(f32::from(area.height) * down / height);
        let size = Size::new(
            (width * scale / across).clamp(1.0, area.width.max(1).into()) as u16,
            (height * scale / down).clamp(1.0, area.height.max(1).into()) as u16,
        );
        let place = Rect {
            x: area.x + (area.width.saturating_sub(size.width)) / 2,
            y: area.y + (area.height.saturating_sub(size.height)) / 2,
            width: size.width,
            height: size.height,
        };
        let resize = Resize::Scale(None);
        let picture = DynamicImage::from(picture.clone());
        let protocol = match self.picker.protocol_type() {
            ProtocolType::Kitty => {
                self.turn ^= 1;
                let sized = resize.resize(&picture, font, size, None);
                Kitty::new(sized, size, KITTY_IDS[self.turn], false, false).map(Protocol::Kitty)
            }
            _ => self.picker.new_protocol(picture, size, resize),
        };
        Some((protocol.ok()?, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(picture: &RgbImage, (width, height): (u16, u16), depth: Depth) -> Buffer {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        blocks(picture, area, depth, &mut buffer);
        buffer
    }

    #[test]
    fn a_picture_keeps_its_shape_in_the_middle_of_its_place() {
        let wide = RgbImage::from_pixel(40, 20, Rgb([200, 10, 10]));
        let buffer = drawn(&wide, (20, 10), Depth::True);
        let rows: Vec<bool> = (0..10)
            .map(|y| buffer.cell((10, y)).unwrap().symbol() == "▀")
            .collect();
        // 20 x 10 pixels: 5 rows of cells.
        assert_eq!(rows.iter().filter(|&&drawn| drawn).count(), 5);
        assert!(!rows[0] && !rows[9] && rows[4]);
        let cell = buffer.cell((10, 4)).unwrap();
        assert_eq!(
            (cell.fg, cell.bg),
            (Color::Rgb(200, 10, 10), Color::Rgb(200, 10, 10))
        );
        for size in [(1, 1), (0, 3), (200, 1), (1, 60)] {
            drawn(&wide, size, Depth::Palette);
            drawn(&RgbImage::new(1, 300), size, Depth::Sixteen);
        }
    }

    #[test]
    fn regions_are_framed_and_the_rest_of_the_picture_stays() {
        let grey = RgbImage::from_pixel(96, 48, Rgb([90; 3]));
        let list = ["a=0,0,50,100", "b=50,50,50,50", "c=0,0,500,500px"];
        let mut regions = Regions::new(list.map(|text| text.parse().unwrap()).to_vec());
        let framed = with_frames(&grey, &regions);
        assert_eq!(*framed.get_pixel(0, 0), LOOKED_AT);
        assert_eq!(*framed.get_pixel(47, 30), LOOKED_AT);
        assert_eq!(*framed.get_pixel(50, 24), OTHER);
        assert_eq!(*framed.get_pixel(20, 20), Rgb([90; 3]));
        assert_eq!(*framed.get_pixel(80, 10), Rgb([90; 3]));
        regions.current = 1;
        assert_eq!(*with_frames(&grey, &regions).get_pixel(50, 24), LOOKED_AT);
    }

    #[test]
    fn the_two_halves_of_a_cell_have_their_own_colours() {
        let mut picture = RgbImage::from_pixel(1, 2, Rgb([255, 0, 0]));
        picture.put_pixel(0, 1, Rgb([0, 0, 255]));
        let cell = drawn(&picture, (1, 1), Depth::True)
            .cell((0, 0))
            .unwrap()
            .clone();
        assert_eq!(
            (cell.fg, cell.bg),
            (Color::Rgb(255, 0, 0), Color::Rgb(0, 0, 255))
        );
    }

    #[test]
    fn fewer_colours_are_the_nearest_there_are() {
        assert_eq!(of_256([255, 255, 255]), 231);
        assert_eq!(of_256([0, 0, 0]), 16);
        assert_eq!(of_256([255, 0, 0]), 196);
        assert_eq!(of_256([128, 128, 128]), 244);
        assert_eq!(nearest_of_16([250, 250, 250]), Color::White);
        assert_eq!(nearest_of_16([180, 10, 10]), Color::Red);
        let white = RgbImage::from_pixel(4, 4, Rgb([255, 255, 255]));
        let grey = drawn(&white, (4, 2), Depth::Grey);
        let cell = grey.cell((1, 1)).unwrap();
        assert_eq!((cell.symbol(), cell.fg), ("@", Color::Reset));
    }
}
