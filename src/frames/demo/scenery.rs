//! What lies behind the object: six surfaces and the clutter upon them. Knows nothing of the object.

use super::canvas::{Canvas, Colour, Field, luma, mix, scale, smoothstep};
use crate::rng::Rng;

/// The names of the backgrounds.
pub const BACKGROUNDS: [&str; 6] = ["grass", "wood", "tiles", "sand", "sky", "concrete"];

/// The typical colour of each background, in the order of [`BACKGROUNDS`].
const TYPICAL: [Colour; 6] = [
    [0.33, 0.52, 0.2],
    [0.62, 0.43, 0.26],
    [0.74, 0.79, 0.82],
    [0.86, 0.75, 0.54],
    [0.47, 0.68, 0.92],
    [0.57, 0.57, 0.56],
];

/// Paints background `background`, bright or dark enough that an object of colour `object` stands out from it.
pub fn draw(background: usize, object: Colour, size: usize, rng: &mut Rng) -> Canvas {
    let jitter: Colour = std::array::from_fn(|_| rng.range(-0.05, 0.05));
    let base = scale(
        mix(TYPICAL[background], [0.5; 3], rng.range(0.0, 0.15)),
        rng.range(0.85, 1.1),
    );
    let base = set_off(std::array::from_fn(|i| base[i] + jitter[i]), object);
    const PAINT: [fn(Colour, usize, &mut Rng) -> Canvas; 6] =
        [grass, wood, tiles, sand, sky, concrete];
    let mut canvas = PAINT[background](base, size, rng);
    clutter(&mut canvas, base, background, rng);
    canvas
}

/// How far apart two colours look: luminance first, then hue.
fn contrast(a: Colour, b: Colour) -> f32 {
    let (la, lb) = (luma(a), luma(b));
    let chroma: f32 = (0..3).map(|i| ((a[i] - la) - (b[i] - lb)).powi(2)).sum();
    ((la - lb).powi(2) + 0.3 * chroma).sqrt()
}

/// The contrast an object must have against its background.
const ENOUGH: f32 = 0.3;

/// `base`, made darker or lighter (as another light would) until `object` stands out from it.
fn set_off(base: Colour, object: Colour) -> Colour {
    let toned = |step: i32| {
        let amount = step as f32 * 0.08;
        if step < 0 {
            scale(base, 1.0 + amount)
        } else {
            mix(base, [0.97; 3], amount)
        }
    };
    let near_first = [0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5, -6, 6, -7, 7];
    near_first
        .map(toned)
        .into_iter()
        .find(|&tone| contrast(tone, object) >= ENOUGH)
        .unwrap_or(base)
}

fn grass(base: Colour, size: usize, rng: &mut Rng) -> Canvas {
    let (patches, blades) = (Field::new(rng, 5, 5), Field::new(rng, 44, 13));
    let dry = [base[0] + 0.12, base[1] + 0.06, base[2]];
    Canvas::paint(size, |x, y| {
        let patch = patches.at(x, y);
        scale(
            mix(base, dry, 0.5 + 0.5 * patch),
            1.0 + 0.3 * blades.at(x, y) + 0.08 * patch,
        )
    })
}

fn wood(base: Colour, size: usize, rng: &mut Rng) -> Canvas {
    let upright = rng.chance(0.5);
    let planks = rng.range(2.5, 4.5);
    let (grain, drift) = (Field::new(rng, 4, 40), Field::new(rng, 3, 3));
    let tones: Vec<f32> = (0..8).map(|_| rng.range(0.88, 1.08)).collect();
    let offset = rng.uniform();
    Canvas::paint(size, |x, y| {
        let (along, across) = if upright { (y, x) } else { (x, y) };
        let place = across * planks + offset;
        let plank = place as usize;
        let seam = smoothstep(0.0, 0.05, 0.5 - (place.fract() - 0.5).abs());
        let fibre = grain.at(along, (across + 0.03 * drift.at(x, y)).abs());
        scale(
            base,
            tones[plank % tones.len()] * (1.0 + 0.13 * fibre) * (0.6 + 0.4 * seam),
        )
    })
}

fn tiles(base: Colour, size: usize, rng: &mut Rng) -> Canvas {
    let count = rng.range(3.0, 5.5);
    let (left, top) = (rng.uniform(), rng.uniform());
    let tones: Vec<f32> = (0..64).map(|_| rng.range(0.93, 1.05)).collect();
    let grout = scale(base, rng.range(0.62, 0.75));
    Canvas::paint(size, |x, y| {
        let (u, v) = (x * count + left, y * count + top);
        let edge = u
            .fract()
            .min(1.0 - u.fract())
            .min(v.fract().min(1.0 - v.fract()));
        let tile = tones[(u as usize * 8 + v as usize) % tones.len()];
        let glaze = 1.0 + 0.05 * (1.0 - u.fract() - v.fract());
        mix(
            grout,
            scale(base, tile * glaze),
            smoothstep(0.02, 0.06, edge),
        )
    })
}

fn sand(base: Colour, size: usize, rng: &mut Rng) -> Canvas {
    let (dunes, grains) = (Field::new(rng, 4, 4), Field::new(rng, 60, 60));
    let (ripples, turn) = (rng.range(25.0, 50.0), rng.range(-0.6, 0.6));
    Canvas::paint(size, |x, y| {
        let dune = dunes.at(x, y);
        let ripple = (ripples * (y + turn * x) + 3.0 * dune).sin();
        scale(
            base,
            1.0 + 0.045 * ripple + 0.1 * grains.at(x, y) + 0.05 * dune,
        )
    })
}

fn sky(base: Colour, size: usize, rng: &mut Rng) -> Canvas {
    let (clouds, wisps) = (Field::new(rng, 3, 4), Field::new(rng, 8, 10));
    let cover = rng.range(-0.1, 0.5);
    let white = mix(base, [0.98; 3], 0.55);
    Canvas::paint(size, |x, y| {
        let blue = scale(base, 0.9 + 0.2 * y);
        let cloud = smoothstep(cover, cover + 0.7, clouds.at(x, y) + 0.4 * wisps.at(x, y));
        mix(blue, white, cloud)
    })
}

fn concrete(base: Colour, size: usize, rng: &mut Rng) -> Canvas {
    let (stains, grit) = (Field::new(rng, 6, 6), Field::new(rng, 48, 48));
    let mut canvas = Canvas::paint(size, |x, y| {
        scale(base, 1.0 + 0.09 * stains.at(x, y) + 0.09 * grit.at(x, y))
    });
    let mut from = (rng.uniform(), rng.uniform());
    for _ in 0..rng.below(5) {
        let to = (
            from.0 + rng.range(-0.25, 0.25),
            from.1 + rng.range(-0.25, 0.25),
        );
        canvas.line(from, to, 0.004, |pixel, cover| {
            scale(pixel, 1.0 - 0.4 * cover)
        });
        from = to;
    }
    canvas
}

/// Pebbles, blots and straws: small, low in contrast, never like an object.
fn clutter(canvas: &mut Canvas, base: Colour, background: usize, rng: &mut Rng) {
    let airborne = BACKGROUNDS[background] == "sky";
    for _ in 0..rng.below(7) {
        let centre = (rng.uniform(), rng.uniform());
        let tone = scale(
            mix(base, [rng.uniform(), rng.uniform(), rng.uniform()], 0.35),
            rng.range(0.6, 1.25),
        );
        let radius = rng.range(0.015, 0.045);
        match rng.below(3) {
            0 if !airborne => {
                let below = (centre.0 + 0.3 * radius, centre.1 + 0.4 * radius);
                canvas.spot(below, (1.2 * radius, radius), 0.6, |pixel, cover| {
                    scale(pixel, 1.0 - 0.4 * cover)
                });
                canvas.spot(centre, (radius, radius * 0.8), 0.3, |pixel, cover| {
                    mix(pixel, tone, cover)
                });
            }
            1 => {
                let to = (
                    centre.0 + rng.range(-0.2, 0.2),
                    centre.1 + rng.range(-0.2, 0.2),
                );
                canvas.line(centre, to, 0.006, |pixel, cover| {
                    mix(pixel, tone, 0.6 * cover)
                });
            }
            _ => canvas.spot(centre, (2.5 * radius, 2.0 * radius), 1.0, |pixel, cover| {
                mix(pixel, tone, 0.5 * cover)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::object::{COLOURS, tint};
    use super::*;

    #[test]
    fn any_object_stands_out_from_any_background() {
        let mut rng = Rng::new(1);
        for base in TYPICAL {
            for (colour, name) in COLOURS.iter().enumerate() {
                for _ in 0..50 {
                    let tint = tint(colour, &mut rng);
                    assert!(
                        contrast(set_off(base, tint), tint) >= ENOUGH,
                        "{name} on {base:?}"
                    );
                }
            }
        }
    }
}
