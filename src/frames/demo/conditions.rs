//! What a camera does to a scene: night, fog, a dusty lens and so on. A condition is a function of the clean
//! picture and random numbers alone; it must not know what the picture shows.

use super::canvas::{Canvas, Colour, Field, luma, mix, scale, smoothstep};
use crate::rng::Rng;
use std::f32::consts::TAU;

/// A capture condition.
pub struct Condition {
    /// The name on the command line.
    pub name: &'static str,
    /// Never part of the training stream of the default model, so a true domain shift.
    pub held_out: bool,
    /// An English adjective phrase that fits "a ... photo".
    pub words: &'static str,
    /// How strong the effect is: 1 as drawn, 0 none.
    strength: f32,
    apply: fn(&mut Canvas, &mut Rng, f32),
}

const fn trained(
    name: &'static str,
    words: &'static str,
    apply: fn(&mut Canvas, &mut Rng, f32),
) -> Condition {
    Condition {
        name,
        held_out: false,
        words,
        strength: 1.0,
        apply,
    }
}

const fn held_out(
    name: &'static str,
    words: &'static str,
    strength: f32,
    apply: fn(&mut Canvas, &mut Rng, f32),
) -> Condition {
    Condition {
        name,
        held_out: true,
        words,
        strength,
        apply,
    }
}

/// All conditions. The strengths of the held-out ones were chosen so that the features move and the class stays readable.
pub const CONDITIONS: [Condition; 14] = [
    trained("clear", "clear", clear),
    trained("night", "dark night", night),
    trained("fog", "foggy", fog),
    trained("defocus", "blurry", defocus),
    trained("noise", "noisy", noise),
    trained("overexposed", "overexposed", overexposed),
    trained("vignette", "tinted", vignette),
    trained("rain", "rainy", rain),
    trained("motion", "shaky", motion),
    trained("dusk", "dusky", dusk),
    held_out("infrared", "infrared", 1.0, infrared),
    held_out("underwater", "underwater", 1.0, underwater),
    held_out("backlit", "backlit", 1.0, backlit),
    held_out("dusty-lens", "dusty", 1.0, dusty_lens),
];

/// Applies condition `condition` (an index into [`CONDITIONS`]) to `canvas`.
pub fn apply(condition: usize, canvas: &mut Canvas, rng: &mut Rng) {
    let Condition {
        apply, strength, ..
    } = CONDITIONS[condition];
    apply(canvas, rng, strength);
}

/// Random point of the picture.
fn anywhere(rng: &mut Rng) -> (f32, f32) {
    (rng.uniform(), rng.uniform())
}

fn clear(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let gain = 1.0 + strength * rng.range(-0.08, 0.08);
    canvas.map(|_, _, c| scale(c, gain));
    canvas.noise(rng, 0.008 * strength, 0.004 * strength);
}

fn night(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let (lamp, gain) = (anywhere(rng), rng.range(0.2, 0.34));
    canvas.map(|x, y, c| {
        let near = (-6.0 * ((x - lamp.0).powi(2) + (y - lamp.1).powi(2))).exp();
        let light = gain + 0.25 * near;
        mix(
            c,
            [
                c[0] * light * 0.85,
                c[1] * light * 0.92,
                c[2] * light * 1.15 + 0.02,
            ],
            strength,
        )
    });
    canvas.noise(rng, 0.025 * strength, 0.02 * strength);
}

fn fog(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let (thick, slope, banks) = (
        rng.range(0.42, 0.64),
        rng.range(-0.25, 0.25),
        Field::new(rng, 3, 3),
    );
    let grey = [rng.range(0.72, 0.86); 3];
    canvas.blur(0.006 * strength);
    canvas.map(|x, y, c| {
        let veil = thick + slope * (y - 0.5) + 0.1 * banks.at(x, y);
        mix(c, grey, strength * veil.min(0.72))
    });
}

fn defocus(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    canvas.blur(strength * rng.range(0.016, 0.03));
}

fn noise(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let amount = strength * rng.range(0.07, 0.13);
    canvas.noise(rng, amount, amount);
}

fn overexposed(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let (gain, lift) = (
        1.0 + strength * rng.range(0.15, 0.4),
        strength * rng.range(0.08, 0.18),
    );
    let centre = anywhere(rng);
    canvas.map(|_, _, c| c.map(|v| v * gain + lift));
    canvas.spot(centre, (0.6, 0.6), 1.0, |c, w| {
        mix(c, [1.1; 3], 0.35 * strength * w)
    });
}

fn vignette(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let cast: Colour = *rng.pick(&[
        [1.1, 0.88, 0.6],
        [0.75, 1.1, 0.78],
        [1.1, 0.75, 1.0],
        [0.72, 0.92, 1.12],
    ]);
    let dark = rng.range(1.1, 1.7);
    canvas.map(|x, y, c| {
        let fall = (1.0 - dark * ((x - 0.5).powi(2) + (y - 0.5).powi(2))).max(0.12);
        let tinted = std::array::from_fn(|i| mix(c, [luma(c); 3], 0.35)[i] * cast[i] * fall);
        mix(c, tinted, strength)
    });
}

fn rain(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let grey = [0.5, 0.53, 0.58];
    let slant = rng.range(-0.35, 0.35);
    canvas.map(|_, _, c| mix(scale(c, 0.85), grey, 0.25 * strength));
    for _ in 0..(strength * rng.range(24.0, 44.0)) as usize {
        let (from, length) = (anywhere(rng), rng.range(0.08, 0.2));
        let bright = strength * rng.range(0.25, 0.5);
        canvas.line(
            from,
            (from.0 + slant * length, from.1 + length),
            0.004,
            |c, w| mix(c, [0.9; 3], bright * w),
        );
    }
}

fn motion(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let (angle, reach) = (rng.range(0.0, TAU), strength * rng.range(0.025, 0.05));
    canvas.smear(reach * angle.cos(), reach * angle.sin());
}

fn dusk(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let gain = rng.range(0.5, 0.65);
    let glow = [0.5, 0.24, 0.12];
    canvas.map(|_, y, c| {
        let warm = [c[0] * gain * 1.15, c[1] * gain * 0.85, c[2] * gain * 0.72];
        mix(c, mix(warm, glow, 0.3 * (1.0 - y)), strength)
    });
}

/// Near infrared: no colour, tones partly turned over, warm spots that glow.
fn infrared(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    canvas.blur(0.006 * strength);
    let (bias, contrast) = (rng.range(0.06, 0.14), rng.range(0.62, 0.78));
    canvas.map(|_, _, c| {
        let heat = 0.5 * c[0] + 0.4 * c[1] + 0.1 * c[2];
        mix(c, [bias + contrast * (1.0 - heat); 3], strength)
    });
    for _ in 0..2 + rng.below(3) {
        let (centre, radius) = (anywhere(rng), rng.range(0.1, 0.24));
        let glow = strength * rng.range(0.3, 0.55);
        canvas.spot(
            centre,
            (radius, radius * rng.range(0.6, 1.0)),
            1.0,
            |c, w| mix(c, [0.97; 3], glow * w),
        );
    }
    let rows = rng.range(90.0, 140.0);
    canvas.map(|_, y, c| scale(c, 1.0 + 0.08 * strength * (y * rows * 2.0).sin()));
    canvas.noise(rng, 0.035 * strength, 0.0);
}

/// Under water: red is gone, everything veiled and bent, caustics play over it.
fn underwater(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let (phase, bend) = (rng.range(0.0, TAU), 0.014 * strength);
    canvas.warp(|x, y| {
        (
            bend * (14.0 * y + phase).sin(),
            bend * (11.0 * x + 1.7 * phase).sin(),
        )
    });
    canvas.blur(0.01 * strength);
    let (veil, depth) = (
        [0.03, rng.range(0.3, 0.42), rng.range(0.4, 0.52)],
        rng.range(0.2, 0.36),
    );
    let web = (Field::new(rng, 6, 6), Field::new(rng, 9, 9));
    canvas.map(|x, y, c| {
        let filtered = [0.38 * c[0] + 0.04, 0.72 * c[1] + 0.08, 0.8 * c[2] + 0.12];
        let ray = 1.0 - smoothstep(0.0, 0.12, (web.0.at(x, y) + 0.5 * web.1.at(x, y)).abs());
        let water = mix(filtered, veil, depth).map(|v| v + 0.22 * ray);
        mix(c, water, strength)
    });
}

/// Against the light: a dark foreground under glare.
fn backlit(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let (sun, gain) = (
        (rng.range(0.1, 0.9), rng.range(0.0, 0.5)),
        rng.range(0.28, 0.4),
    );
    let warm = [1.0, 0.93, 0.78];
    let (arms, phase) = (rng.range(3.0, 7.0).floor(), rng.range(0.0, TAU));
    canvas.map(|x, y, c| {
        let dim = mix(scale(c, gain), [gain * luma(c) * 0.8; 3], 0.5);
        let (dx, dy) = (x - sun.0, y - sun.1);
        let far = dx.hypot(dy);
        let streak = (0.5 + 0.5 * (arms * dy.atan2(dx) + phase).cos()).powi(4);
        let glare = 0.95 * (-7.0 * far).exp() + (0.3 + 0.3 * streak) * (-2.2 * far).exp() + 0.12;
        let lit = std::array::from_fn(|i| dim[i] + warm[i] * glare * 0.8);
        mix(c, lit, strength)
    });
    for step in 1..4 {
        let t = step as f32 * rng.range(0.3, 0.45);
        let centre = (
            sun.0 + t * (0.5 - sun.0) * 2.0,
            sun.1 + t * (0.5 - sun.1) * 2.0,
        );
        let radius = rng.range(0.04, 0.1);
        canvas.spot(centre, (radius, radius), 0.3, |c, w| {
            mix(c, [0.75, 0.95, 0.8], 0.25 * strength * w)
        });
    }
}

/// A dirty lens: low contrast, a greasy smear, specks out of focus.
fn dusty_lens(canvas: &mut Canvas, rng: &mut Rng, strength: f32) {
    let (angle, grease) = (rng.range(0.0, TAU), Field::new(rng, 3, 3));
    let mut wiped = canvas.clone();
    wiped.smear(0.06 * strength * angle.cos(), 0.06 * strength * angle.sin());
    let mut smeared = wiped.pixels.into_iter();
    let dust = [0.66, 0.6, 0.5];
    let veil = rng.range(0.28, 0.42);
    canvas.map(|x, y, c| {
        let patch = smoothstep(-0.5, 0.4, grease.at(x, y));
        let soft = mix(c, smeared.next().unwrap_or(c), patch);
        mix(soft, dust, strength * (veil + 0.12 * patch))
    });
    for _ in 0..(strength * rng.range(14.0, 26.0)) as usize {
        let (centre, radius) = (anywhere(rng), rng.range(0.015, 0.07));
        let (tone, cover) = (
            [*rng.pick(&[0.22, 0.3, 0.85]); 3],
            strength * rng.range(0.3, 0.6),
        );
        canvas.spot(
            centre,
            (radius, radius * rng.range(0.7, 1.0)),
            0.6,
            |c, w| mix(c, tone, cover * w),
        );
    }
}
