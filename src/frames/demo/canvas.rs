//! The picture while it is being made: square, three floats a pixel, nominally in `[0, 1]`, in display
//! (sRGB) values. Offers the few pixel tools that scenery and conditions are made of.

use crate::rng::Rng;
use image::{Rgb, RgbImage};

/// One colour: red, green, blue, nominally in `[0, 1]`.
pub type Colour = [f32; 3];

/// `a` and `b` mixed: `a` at `t = 0`, `b` at `t = 1`.
pub fn mix(a: Colour, b: Colour, t: f32) -> Colour {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

/// Every channel of `c` multiplied by `gain`.
pub fn scale(c: Colour, gain: f32) -> Colour {
    c.map(|v| v * gain)
}

/// Rec. 601 luminance.
pub fn luma(c: Colour) -> f32 {
    0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]
}

/// 0 below `low`, 1 above `high`, smooth between.
pub fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A square picture of `size * size` pixels, row-major. Positions are fractions of the side unless said otherwise.
#[derive(Clone)]
pub struct Canvas {
    /// Pixels a side.
    pub size: usize,
    /// The pixels, row by row.
    pub pixels: Vec<Colour>,
}

impl Canvas {
    /// A picture whose pixel at `(x, y)` (centres, fractions of the side) is `paint(x, y)`.
    pub fn paint(size: usize, mut paint: impl FnMut(f32, f32) -> Colour) -> Canvas {
        let mut canvas = Canvas {
            size,
            pixels: vec![[0.0; 3]; size * size],
        };
        canvas.map(|x, y, _| paint(x, y));
        canvas
    }

    /// Replaces each pixel `c` at `(x, y)` by `paint(x, y, c)`.
    pub fn map(&mut self, mut paint: impl FnMut(f32, f32, Colour) -> Colour) {
        let step = 1.0 / self.size as f32;
        for (row, pixels) in self.pixels.chunks_exact_mut(self.size).enumerate() {
            let y = (row as f32 + 0.5) * step;
            for (column, pixel) in pixels.iter_mut().enumerate() {
                *pixel = paint((column as f32 + 0.5) * step, y, *pixel);
            }
        }
    }

    /// The picture in 8 bits a channel.
    pub fn to_image(&self) -> RgbImage {
        let size = self.size as u32;
        let mut image = RgbImage::new(size, size);
        for (out, pixel) in image.pixels_mut().zip(&self.pixels) {
            *out = Rgb(pixel.map(|v| (v * 255.0 + 0.5) as u8));
        }
        image
    }

    /// Averages over boxes of `radius` (fraction of the side), twice each way: close to a Gaussian.
    pub fn blur(&mut self, radius: f32) {
        blur(&mut self.pixels, self.size, radius * self.size as f32);
    }

    /// Averages along the line from `-(dx, dy)` to `(dx, dy)`, as a moving camera does.
    pub fn smear(&mut self, dx: f32, dy: f32) {
        let size = self.size as i32;
        let reach = dx.hypot(dy) * self.size as f32;
        let taps = (reach.ceil() as i32).max(1);
        let offsets: Vec<(i32, i32)> = (-taps..=taps)
            .map(|tap| tap as f32 / taps as f32 * size as f32)
            .map(|along| ((along * dx).round() as i32, (along * dy).round() as i32))
            .collect();
        let source = std::mem::take(&mut self.pixels);
        let weight = 1.0 / offsets.len() as f32;
        self.pixels = (0..size * size)
            .map(|index| {
                let (x, y) = (index % size, index / size);
                let mut sum = [0.0; 3];
                for &(ox, oy) in &offsets {
                    let (sx, sy) = ((x + ox).clamp(0, size - 1), (y + oy).clamp(0, size - 1));
                    let pixel = source[(sy * size + sx) as usize];
                    for channel in 0..3 {
                        sum[channel] += pixel[channel];
                    }
                }
                scale(sum, weight)
            })
            .collect();
    }

    /// Moves each pixel: the new one at `(x, y)` is the old one at `(x, y) + shift(x, y)`.
    pub fn warp(&mut self, shift: impl Fn(f32, f32) -> (f32, f32)) {
        let source = self.clone();
        self.map(|x, y, _| {
            let (dx, dy) = shift(x, y);
            source.at(x + dx, y + dy)
        });
    }

    /// The colour at `(x, y)`, bilinear, edges continued outwards.
    fn at(&self, x: f32, y: f32) -> Colour {
        let last = (self.size - 1) as f32;
        let fx = (x * self.size as f32 - 0.5).clamp(0.0, last);
        let fy = (y * self.size as f32 - 0.5).clamp(0.0, last);
        let (x0, y0) = (fx as usize, fy as usize);
        let (x1, y1) = ((x0 + 1).min(self.size - 1), (y0 + 1).min(self.size - 1));
        let row = |y: usize| {
            mix(
                self.pixels[y * self.size + x0],
                self.pixels[y * self.size + x1],
                fx - x0 as f32,
            )
        };
        mix(row(y0), row(y1), fy - y0 as f32)
    }

    /// Adds nearly normal noise: `grey` (standard deviation) the same in all channels, `colour` for each alone.
    pub fn noise(&mut self, rng: &mut Rng, grey: f32, colour: f32) {
        for pixel in &mut self.pixels {
            // Four sums of four 4-bit numbers: mean 30, variance 4 * 255 / 12.
            let bits = rng.next_u64();
            let draw = |word: u32| {
                let part = (bits >> (16 * word)) as u32;
                let sum = (part & 15) + (part >> 4 & 15) + (part >> 8 & 15) + (part >> 12 & 15);
                (sum as f32 - 30.0) / 9.219_544
            };
            let shared = draw(3) * grey;
            *pixel = std::array::from_fn(|channel| {
                pixel[channel] + shared + draw(channel as u32) * colour
            });
        }
    }

    /// Repaints an ellipse: `paint(c, w)` for each pixel `c`, where `w` falls from 1 at the centre to 0 at the
    /// rim; `softness` 1 falls all the way, near 0 is a disc with an antialiased edge.
    pub fn spot(
        &mut self,
        (cx, cy): (f32, f32),
        (rx, ry): (f32, f32),
        softness: f32,
        mut paint: impl FnMut(Colour, f32) -> Colour,
    ) {
        let edge = softness.max(1.5 / (rx.min(ry) * self.size as f32)).min(1.0);
        self.each_near(cx - rx, cx + rx, cy - ry, cy + ry, |x, y, pixel| {
            let distance = ((x - cx) / rx).hypot((y - cy) / ry);
            if distance < 1.0 {
                *pixel = paint(*pixel, 1.0 - smoothstep(1.0 - edge, 1.0, distance));
            }
        });
    }

    /// Repaints a line of half-width `half`: `paint(c, w)` with the coverage `w` of each pixel.
    pub fn line(
        &mut self,
        (ax, ay): (f32, f32),
        (bx, by): (f32, f32),
        half: f32,
        mut paint: impl FnMut(Colour, f32) -> Colour,
    ) {
        let pixel_width = 1.0 / self.size as f32;
        let reach = half + pixel_width;
        let (dx, dy) = (bx - ax, by - ay);
        let length = (dx * dx + dy * dy).max(1e-9);
        self.each_near(
            ax.min(bx) - reach,
            ax.max(bx) + reach,
            ay.min(by) - reach,
            ay.max(by) + reach,
            |x, y, pixel| {
                let t = (((x - ax) * dx + (y - ay) * dy) / length).clamp(0.0, 1.0);
                let distance = (x - ax - t * dx).hypot(y - ay - t * dy);
                let cover = ((half - distance) / pixel_width + 0.5)
                    .clamp(0.0, (2.0 * half / pixel_width).min(1.0));
                if cover > 0.0 {
                    *pixel = paint(*pixel, cover);
                }
            },
        );
    }

    /// Visits the pixels of a rectangle (fractions of the side), as far as they lie in the picture.
    fn each_near(
        &mut self,
        left: f32,
        right: f32,
        top: f32,
        bottom: f32,
        mut visit: impl FnMut(f32, f32, &mut Colour),
    ) {
        let size = self.size;
        let span = |low: f32, high: f32| {
            let at = |v: f32| (v * size as f32).clamp(0.0, size as f32) as usize;
            at(low)..(at(high) + 1).min(size)
        };
        for row in span(top, bottom) {
            for column in span(left, right) {
                let (x, y) = (
                    (column as f32 + 0.5) / size as f32,
                    (row as f32 + 0.5) / size as f32,
                );
                visit(x, y, &mut self.pixels[row * size + column]);
            }
        }
    }
}

/// Two box averages each way over `size * size` values; `radius` in pixels, fractions allowed.
pub fn blur<const N: usize>(values: &mut [[f32; N]], size: usize, radius: f32) {
    let mut other = values.to_vec();
    for _ in 0..2 {
        blur_down(values, &mut other, size, radius);
        blur_down(&other, values, size, radius);
        for row in 0..size {
            for column in 0..row {
                values.swap(row * size + column, column * size + row);
            }
        }
    }
}

/// One box average down every column; edges are continued outwards. Whole rows at a time, for the vector units.
fn blur_down<const N: usize>(from: &[[f32; N]], to: &mut [[f32; N]], size: usize, radius: f32) {
    let whole = radius as i32;
    let part = radius - whole as f32;
    let norm = 1.0 / (2.0 * radius + 1.0);
    let row = |index: i32| &from[index.clamp(0, size as i32 - 1) as usize * size..][..size];
    let mut sums = vec![[0.0; N]; size];
    for index in -whole..=whole {
        for (sum, value) in sums.iter_mut().zip(row(index)) {
            *sum = std::array::from_fn(|i| sum[i] + value[i]);
        }
    }
    for (index, out) in (0..).zip(to.chunks_exact_mut(size)) {
        let (before, after, leaving) = (
            row(index - whole - 1),
            row(index + whole + 1),
            row(index - whole),
        );
        for column in 0..size {
            let (sum, before, after) = (&mut sums[column], before[column], after[column]);
            out[column] = std::array::from_fn(|i| (sum[i] + part * (before[i] + after[i])) * norm);
            *sum = std::array::from_fn(|i| sum[i] + after[i] - leaving[column][i]);
        }
    }
}

/// Smooth random values over the unit square: a lattice of numbers in `[-1, 1)`, interpolated.
pub struct Field {
    columns: usize,
    rows: usize,
    values: Vec<f32>,
}

impl Field {
    /// A field of `columns * rows` cells, both at least 1.
    pub fn new(rng: &mut Rng, columns: usize, rows: usize) -> Field {
        let values = (0..(columns + 1) * (rows + 1))
            .map(|_| rng.range(-1.0, 1.0))
            .collect();
        Field {
            columns,
            rows,
            values,
        }
    }

    /// The value at `(x, y)`, fractions of the side.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let place = |v: f32, cells: usize| {
            let scaled = v.clamp(0.0, 0.999_99) * cells as f32;
            let cell = (scaled as usize).min(cells - 1);
            let t = scaled - cell as f32;
            (cell, t * t * (3.0 - 2.0 * t))
        };
        let (column, tx) = place(x, self.columns);
        let (row, ty) = place(y, self.rows);
        let corner = row * (self.columns + 1) + column;
        let lerp = |a: f32, b: f32, t: f32| a + (b - a) * t;
        let top = lerp(self.values[corner], self.values[corner + 1], tx);
        let below = corner + self.columns + 1;
        lerp(
            top,
            lerp(self.values[below], self.values[below + 1], tx),
            ty,
        )
    }
}
