//! Puts the object on the background: its shape turned and placed, its colour and pattern, light and shadow.
//! Knows nothing of what the shapes are, nor of conditions.

use super::canvas::{Canvas, Colour, blur, luma, mix, scale, smoothstep};
use super::sketch::Part;
use crate::rng::Rng;
use tiny_skia::{Color, Paint, Pixmap, Shader, Transform};

/// The names of the colours.
pub const COLOURS: [&str; 10] = [
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black",
];

/// The names of the surface patterns.
pub const PATTERNS: [&str; 5] = ["plain", "striped", "dotted", "checked", "zigzag"];

const TINTS: [Colour; 10] = [
    [0.83, 0.12, 0.11],
    [0.96, 0.5, 0.07],
    [0.96, 0.86, 0.14],
    [0.12, 0.6, 0.2],
    [0.12, 0.3, 0.84],
    [0.5, 0.17, 0.68],
    [0.97, 0.52, 0.72],
    [0.44, 0.25, 0.12],
    [0.95, 0.95, 0.93],
    [0.1, 0.1, 0.12],
];

/// The tint of colour `colour`, a little varied.
pub fn tint(colour: usize, rng: &mut Rng) -> Colour {
    TINTS[colour].map(|v| v + rng.range(-0.04, 0.04))
}

/// Draws `parts` in colour `tint` with pattern `pattern` over `canvas`, at a random place, size and angle.
pub fn draw(canvas: &mut Canvas, parts: &[Part], tint: Colour, pattern: usize, rng: &mut Rng) {
    let size = canvas.size;
    let Some(placed) = place(parts, size as f32, rng) else {
        return;
    };
    let Some(drawing) = rasterise(parts, placed, size) else {
        return;
    };
    let mut height: Vec<[f32; 1]> = drawing.iter().map(|&(cover, _)| [cover]).collect();
    blur(&mut height, size, 0.022 * size as f32);

    let sun = rng.range(0.0, std::f32::consts::TAU);
    let (lx, ly) = (sun.cos(), sun.sin());
    let (bulge, slope, gloss) = (
        rng.range(0.9, 1.5),
        rng.range(0.05, 0.22),
        rng.range(0.0, 0.5),
    );
    let (shadow, reach) = (rng.range(0.25, 0.55), rng.range(0.02, 0.06) * size as f32);
    let (sx, sy) = ((lx * reach) as i32, (ly * reach) as i32);
    let at = |x: i32, y: i32| {
        height[(y.clamp(0, size as i32 - 1) * size as i32 + x.clamp(0, size as i32 - 1)) as usize]
            [0]
    };
    let surface = Surface::new(pattern, tint, placed, rng);
    let rim: Colour = if luma(tint) > 0.45 {
        scale(tint, 0.3)
    } else {
        mix(tint, [1.0; 3], 0.75)
    };

    for y in 0..size as i32 {
        for x in 0..size as i32 {
            let index = (y * size as i32 + x) as usize;
            let (cover, tone) = drawing[index];
            let near = height[index][0];
            let cast = at(x - sx, y - sy);
            if near <= 1e-4 && cast <= 1e-4 {
                continue;
            }
            let pixel = &mut canvas.pixels[index];
            *pixel = scale(*pixel, 1.0 - shadow * smoothstep(0.0, 0.9, cast));
            // A thin line of the opposite tone: whatever lies behind, the silhouette never vanishes.
            *pixel = mix(*pixel, rim, 0.45 * smoothstep(0.1, 0.5, near));
            if cover > 0.0 {
                let (gx, gy) = (at(x + 1, y) - at(x - 1, y), at(x, y + 1) - at(x, y - 1));
                let lit = (gx * lx + gy * ly) * bulge;
                let across = ((x as f32 / size as f32 - 0.5) * lx
                    + (y as f32 / size as f32 - 0.5) * ly)
                    * slope
                    * -2.0;
                let painted = scale(
                    surface.at(x as f32 + 0.5, y as f32 + 0.5),
                    tone * (1.0 + lit + across),
                );
                let shiny = mix(painted, [1.0; 3], gloss * smoothstep(0.12, 0.4, lit));
                *pixel = mix(*pixel, shiny, cover);
            }
        }
    }
}

/// A random turn, shear, mirror image and size, and a place where the whole object lies in the picture.
fn place(parts: &[Part], size: f32, rng: &mut Rng) -> Option<Transform> {
    let mirror = if rng.chance(0.5) { -1.0 } else { 1.0 };
    let stretch = rng.range(0.9, 1.1);
    let turned = Transform::from_scale(mirror * stretch, 1.0 / stretch)
        .post_concat(Transform::from_row(
            1.0,
            0.0,
            rng.range(-0.12, 0.12),
            1.0,
            0.0,
            0.0,
        ))
        .post_concat(Transform::from_rotate(rng.range(-35.0, 35.0)));
    let bounds = parts
        .iter()
        .filter_map(|part| part.path.clone().transform(turned)?.compute_tight_bounds());
    let (mut left, mut top, mut right, mut bottom) = (f32::MAX, f32::MAX, f32::MIN, f32::MIN);
    for rect in bounds {
        (left, top) = (left.min(rect.left()), top.min(rect.top()));
        (right, bottom) = (right.max(rect.right()), bottom.max(rect.bottom()));
    }
    let extent = (right - left).max(bottom - top);
    if extent.is_nan() || extent <= 0.0 {
        return None;
    }
    let zoom = rng.range(0.5, 0.85) * size / extent;
    let mut spot = |low: f32, high: f32| {
        let margin = 0.02 * size;
        rng.range(margin, size - margin - (high - low) * zoom) - low * zoom
    };
    let (dx, dy) = (spot(left, right), spot(top, bottom));
    Some(turned.post_scale(zoom, zoom).post_translate(dx, dy))
}

/// Coverage and tone of each pixel.
fn rasterise(parts: &[Part], placed: Transform, size: usize) -> Option<Vec<(f32, f32)>> {
    let mut pixmap = Pixmap::new(size as u32, size as u32)?;
    for part in parts {
        // Half the tone, so that brighter than the object fits too.
        let grey = (part.tone * 0.5).clamp(0.0, 1.0);
        let colour = Color::from_rgba(grey, grey, grey, 1.0)?;
        let paint = Paint {
            shader: Shader::SolidColor(colour),
            anti_alias: true,
            ..Paint::default()
        };
        pixmap.fill_path(&part.path, &paint, part.rule, placed, None);
    }
    let tones = pixmap.pixels().iter().map(|pixel| {
        let alpha = f32::from(pixel.alpha());
        (alpha / 255.0, 2.0 * f32::from(pixel.red()) / alpha.max(1.0))
    });
    Some(tones.collect())
}

/// The patterned surface, painted in the object's own coordinates, so that it turns with the object.
struct Surface {
    pattern: usize,
    light: Colour,
    dark: Colour,
    to_object: Transform,
    period: f32,
    turn: (f32, f32),
    softness: f32,
}

impl Surface {
    fn new(pattern: usize, tint: Colour, placed: Transform, rng: &mut Rng) -> Surface {
        let depth = rng.range(0.3, 0.42);
        let bright = luma(tint);
        let dark = scale(tint, 1.0 - depth * smoothstep(0.05, 0.3, bright));
        let light = mix(tint, [1.0; 3], (0.55 - bright).clamp(0.0, 0.28));
        let period = rng.range(0.26, 0.38);
        let angle = rng.range(-0.4, 0.4)
            + if rng.chance(0.5) {
                std::f32::consts::FRAC_PI_2
            } else {
                0.0
            };
        let per_pixel = 1.0 / placed.get_scale().0.abs().max(1e-3);
        Surface {
            pattern,
            light,
            dark,
            to_object: placed.invert().unwrap_or_default(),
            period,
            turn: (angle.cos(), angle.sin()),
            softness: (per_pixel / period).min(0.4),
        }
    }

    /// The colour at a point of the picture, in pixels.
    fn at(&self, x: f32, y: f32) -> Colour {
        let t = self.to_object;
        let (ox, oy) = (t.sx * x + t.kx * y + t.tx, t.ky * x + t.sy * y + t.ty);
        let u = (ox * self.turn.0 + oy * self.turn.1) / self.period;
        let v = (oy * self.turn.0 - ox * self.turn.1) / self.period;
        // Distance to the nearest edge, in periods; positive in the dark areas.
        let wave = |w: f32| 0.25 - ((w - w.floor()) - 0.5).abs();
        let inside = match self.pattern {
            1 => wave(u),
            2 => 0.31 - (u - u.floor() - 0.5).hypot(v - v.floor() - 0.5),
            3 => {
                let (a, b) = (wave(u * 0.8), wave(v * 0.8));
                if (a > 0.0) == (b > 0.0) {
                    a.abs().min(b.abs())
                } else {
                    -a.abs().min(b.abs())
                }
            }
            4 => wave(u + 1.1 * wave(v * 0.8).abs() * 2.0),
            _ => return mix(self.light, self.dark, 0.15),
        };
        mix(
            self.light,
            self.dark,
            smoothstep(-self.softness, self.softness, inside),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::shapes::{CLASSES, parts};
    use super::*;

    #[test]
    fn objects_lie_wholly_in_the_picture_and_fill_a_good_part_of_it() {
        const SIZE: usize = 96;
        let mut rng = Rng::new(2);
        for (class, name) in CLASSES.iter().enumerate() {
            for _ in 0..40 {
                let parts = parts(class, &mut rng);
                let placed = place(&parts, SIZE as f32, &mut rng).unwrap();
                let drawing = rasterise(&parts, placed, SIZE).unwrap();
                let covered = (0..SIZE * SIZE).filter(|&index| drawing[index].0 > 0.5);
                let places: Vec<_> = covered.map(|index| (index % SIZE, index / SIZE)).collect();
                let span = |axis: fn(&(usize, usize)) -> usize| {
                    (
                        places.iter().map(axis).min().unwrap(),
                        places.iter().map(axis).max().unwrap(),
                    )
                };
                let ((left, right), (top, bottom)) = (span(|at| at.0), span(|at| at.1));
                assert!(
                    left > 0 && top > 0 && right < SIZE - 1 && bottom < SIZE - 1,
                    "{name} is cut off"
                );
                let extent = (right - left).max(bottom - top) as f32 / SIZE as f32;
                assert!((0.45..=0.87).contains(&extent), "{name}: {extent}");
            }
        }
    }
}
