//! The silhouettes of the object classes, as filled paths with a tone each. Knows geometry only: no colour,
//! no pattern, no light. Coordinates are about `[-1, 1]`, y downwards; the caller turns, scales and places.

use super::sketch::{Part, Point, Sketch, trace};
use crate::rng::Rng;
use std::f32::consts::{PI, TAU};
use tiny_skia::PathBuilder;

/// The names of the classes, in the order of the labels.
pub const CLASSES: [&str; 12] = [
    "mug",
    "bottle",
    "hammer",
    "scissors",
    "key",
    "umbrella",
    "fish",
    "gear",
    "boot",
    "chair",
    "ladder",
    "butterfly",
];

/// The parts of class `class` (an index into [`CLASSES`]), its proportions varied by `rng`.
pub fn parts(class: usize, rng: &mut Rng) -> Vec<Part> {
    const DRAW: [fn(&mut Sketch, &mut Rng); CLASSES.len()] = [
        mug, bottle, hammer, scissors, key, umbrella, fish, gear, boot, chair, ladder, butterfly,
    ];
    let mut sketch = Sketch(Vec::new());
    DRAW[class](&mut sketch, rng);
    sketch.0
}

fn mug(sketch: &mut Sketch, rng: &mut Rng) {
    let (half, taper, tall) = (
        rng.range(0.5, 0.64),
        rng.range(0.0, 0.14),
        rng.range(0.62, 0.78),
    );
    let (reach, thick) = (rng.range(0.3, 0.42), rng.range(0.15, 0.2));
    sketch.ring(
        0.86,
        (half - 0.06, 0.02),
        reach,
        tall * rng.range(0.5, 0.66),
        thick,
    );
    let foot = half - taper;
    sketch.smooth(
        1.0,
        &[
            (-half, -tall),
            (0.0, -tall - 0.02),
            (half, -tall),
            (half - taper * 0.4, 0.0),
            (foot, tall * 0.85),
            (foot * 0.7, tall),
            (0.0, tall + 0.03),
            (-foot * 0.7, tall),
            (-foot, tall * 0.85),
            (-half + taper * 0.4, 0.0),
        ],
    );
    sketch.ellipse(1.14, (0.0, -tall), half, 0.17);
    sketch.ellipse(0.5, (0.0, -tall + 0.01), half * 0.84, 0.11);
}

fn bottle(sketch: &mut Sketch, rng: &mut Rng) {
    let (half, neck, shoulder) = (
        rng.range(0.28, 0.38),
        rng.range(0.11, 0.14),
        rng.range(-0.35, -0.1),
    );
    let top = -0.92;
    sketch.smooth(
        1.0,
        &[
            (-neck, top),
            (neck, top),
            (neck, shoulder - 0.32),
            (neck + 0.02, shoulder - 0.22),
            (half * 0.9, shoulder),
            (half, shoulder + 0.15),
            (half, 0.5),
            (half, 0.92),
            (half * 0.85, 1.0),
            (0.0, 1.0),
            (-half * 0.85, 1.0),
            (-half, 0.92),
            (-half, 0.5),
            (-half, shoulder + 0.15),
            (-half * 0.9, shoulder),
            (-neck - 0.02, shoulder - 0.22),
            (-neck, shoulder - 0.32),
        ],
    );
    let cap = neck + 0.05;
    sketch.polygon(
        0.6,
        &[(-cap, -1.02), (cap, -1.02), (cap, -0.8), (-cap, -0.8)],
    );
    let label = rng.range(0.15, 0.3);
    sketch.polygon(
        1.22,
        &[
            (-half, label),
            (half, label),
            (half, label + 0.4),
            (-half, label + 0.4),
        ],
    );
    sketch.line(
        1.3,
        0.06,
        &[(-half * 0.6, shoulder + 0.15), (-half * 0.62, label - 0.08)],
    );
}

fn hammer(sketch: &mut Sketch, rng: &mut Rng) {
    let (grip, head, claw) = (
        rng.range(0.09, 0.12),
        rng.range(0.17, 0.23),
        rng.range(0.5, 0.66),
    );
    sketch.polygon(
        1.18,
        &[
            (-grip * 0.8, -0.8),
            (grip * 0.8, -0.8),
            (grip, 0.3),
            (grip * 1.3, 1.0),
            (-grip * 1.3, 1.0),
            (-grip, 0.3),
        ],
    );
    sketch.line(0.8, 0.05, &[(-grip, 0.5), (grip, 0.5)]);
    sketch.line(0.8, 0.05, &[(-grip, 0.7), (grip, 0.7)]);
    let y = -0.68;
    sketch.polygon(
        0.78,
        &[
            (0.2, y - head * 0.75),
            (0.48, y - head * 0.75),
            (0.48, y + head * 0.75),
            (0.2, y + head * 0.75),
        ],
    );
    sketch.polygon(
        0.66,
        &[
            (0.44, y - head * 1.15),
            (0.66, y - head * 1.15),
            (0.66, y + head * 1.15),
            (0.44, y + head * 1.15),
        ],
    );
    sketch.polygon(
        0.78,
        &[
            (0.24, y - head),
            (-0.16, y - head),
            (-claw * 0.7, y - head * 0.7),
            (-claw - 0.1, y + head * 0.9),
            (-claw * 0.75, y + head * 0.25),
            (-0.18, y + head),
            (0.24, y + head),
        ],
    );
}

fn scissors(sketch: &mut Sketch, rng: &mut Rng) {
    let (open, ring) = (rng.range(0.22, 0.4), rng.range(0.22, 0.28));
    for side in [-1.0, 1.0] {
        let bow = (side * (open * 0.75 + 0.1), 0.7);
        sketch.line(0.85, 0.17, &[(0.0, 0.08), (bow.0 * 0.8, 0.48)]);
        sketch.ring(0.72, bow, ring, ring * 1.1, 0.15);
        let (tip, across) = ((-side * open, -1.0), 0.11 * side);
        sketch.polygon(
            1.12,
            &[
                (across * 0.9, 0.14),
                (-across * 0.9, 0.12),
                (-across - side * open * 0.45, -0.45),
                tip,
                (across * 0.8 - side * open * 0.35, -0.42),
            ],
        );
    }
    sketch.ellipse(0.5, (0.0, 0.06), 0.08, 0.08);
}

fn key(sketch: &mut Sketch, rng: &mut Rng) {
    let (bow, shaft) = (rng.range(0.3, 0.38), rng.range(0.085, 0.11));
    if rng.chance(0.4) {
        for (x, y) in [(-0.22, -0.5), (0.22, -0.5), (0.0, -0.82)] {
            sketch.ring(1.0, (x, y), 0.19, 0.19, 0.13);
        }
    } else {
        sketch.ring(1.0, (0.0, -0.64), bow, bow * rng.range(0.85, 1.0), 0.19);
    }
    sketch.polygon(
        0.96,
        &[(-shaft, -0.38), (shaft, -0.38), (shaft, 1.0), (-shaft, 1.0)],
    );
    sketch.polygon(
        0.8,
        &[
            (-shaft - 0.06, -0.28),
            (shaft + 0.06, -0.28),
            (shaft + 0.06, -0.18),
            (-shaft - 0.06, -0.18),
        ],
    );
    let teeth = 2 + rng.below(2);
    for tooth in 0..teeth {
        let (y, reach) = (0.98 - 0.25 * tooth as f32, rng.range(0.28, 0.4));
        sketch.polygon(
            0.9,
            &[
                (0.0, y - 0.15),
                (shaft + reach, y - 0.15),
                (shaft + reach, y),
                (0.0, y),
            ],
        );
    }
}

fn umbrella(sketch: &mut Sketch, rng: &mut Rng) {
    let (rise, hook) = (rng.range(0.75, 0.95), rng.range(0.15, 0.2));
    sketch.line(0.62, 0.1, &[(0.0, -0.1), (0.0, 0.82)]);
    let bend: Vec<Point> = (0..=8)
        .map(|k| PI * k as f32 / 8.0)
        .map(|a| (hook - hook * a.cos(), 0.82 + hook * a.sin()))
        .collect();
    sketch.line(0.62, 0.11, &bend);
    sketch.line(0.7, 0.09, &[(0.0, -rise - 0.05), (0.0, -rise + 0.1)]);
    let panels = 4 + rng.below(2) * 2;
    let mut dome = PathBuilder::new();
    dome.move_to(-1.0, 0.02);
    dome.cubic_to(-0.95, -rise * 0.75, -0.5, -rise, 0.0, -rise);
    dome.cubic_to(0.5, -rise, 0.95, -rise * 0.75, 1.0, 0.02);
    let edge = |k: usize| 1.0 - 2.0 * k as f32 / panels as f32;
    for k in 0..panels {
        dome.quad_to((edge(k) + edge(k + 1)) / 2.0, -0.2, edge(k + 1), 0.02);
    }
    dome.close();
    sketch.add(dome.finish(), 1.0);
    for k in 1..panels {
        let x = edge(k);
        let mut rib = PathBuilder::new();
        rib.move_to(0.0, -rise + 0.03);
        rib.quad_to(x * 0.95, -rise * 0.75, x, -0.02);
        sketch.stroke(0.74, 0.045, rib.finish());
    }
}

fn fish(sketch: &mut Sketch, rng: &mut Rng) {
    let (deep, tail) = (rng.range(0.36, 0.5), rng.range(0.34, 0.48));
    sketch.smooth(
        0.82,
        &[
            (0.5, 0.0),
            (0.78, -tail * 0.7),
            (1.02, -tail),
            (0.86, 0.0),
            (1.02, tail),
            (0.78, tail * 0.7),
        ],
    );
    sketch.smooth(
        0.78,
        &[
            (-0.3, -deep * 0.8),
            (-0.1, -deep - 0.26),
            (0.3, -deep - 0.16),
            (0.34, -deep * 0.5),
            (0.0, -deep * 0.5),
        ],
    );
    sketch.smooth(
        0.78,
        &[
            (-0.1, deep * 0.7),
            (0.08, deep + 0.22),
            (0.28, deep + 0.12),
            (0.22, deep * 0.5),
        ],
    );
    sketch.smooth(
        1.0,
        &[
            (-0.98, 0.04),
            (-0.7, -deep * 0.68),
            (-0.2, -deep),
            (0.3, -deep * 0.6),
            (0.66, -0.1),
            (0.66, 0.1),
            (0.3, deep * 0.6),
            (-0.2, deep),
            (-0.7, deep * 0.72),
        ],
    );
    sketch.line(
        0.72,
        0.05,
        &[(-0.42, -deep * 0.62), (-0.34, 0.0), (-0.42, deep * 0.62)],
    );
    sketch.smooth(0.8, &[(-0.2, 0.06), (0.12, 0.0), (0.16, 0.16), (0.0, 0.24)]);
    sketch.ellipse(1.6, (-0.64, -deep * 0.25), 0.1, 0.1);
    sketch.ellipse(0.2, (-0.65, -deep * 0.25), 0.055, 0.055);
}

fn gear(sketch: &mut Sketch, rng: &mut Rng) {
    let (teeth, root, hole) = (
        7 + rng.below(4),
        rng.range(0.68, 0.76),
        rng.range(0.24, 0.38),
    );
    let mut builder = PathBuilder::new();
    let outline: Vec<Point> = (0..teeth)
        .flat_map(|tooth| {
            [(-0.27, root), (-0.17, 1.0), (0.17, 1.0), (0.27, root)]
                .map(|(t, r)| (tooth as f32 + t, r))
        })
        .map(|(turn, radius)| (turn / teeth as f32 * TAU, radius))
        .map(|(angle, radius)| (radius * angle.cos(), radius * angle.sin()))
        .collect();
    trace(&mut builder, &outline);
    builder.close();
    builder.push_circle(0.0, 0.0, hole);
    sketch.with_holes(1.0, builder);
    sketch.ring(0.76, (0.0, 0.0), hole + 0.06, hole + 0.06, 0.09);
    sketch.ring(0.86, (0.0, 0.0), root - 0.06, root - 0.06, 0.06);
}

fn boot(sketch: &mut Sketch, rng: &mut Rng) {
    let (top, toe, heel) = (
        rng.range(-1.0, -0.8),
        rng.range(0.75, 0.95),
        rng.range(0.16, 0.24),
    );
    let calf = rng.range(0.0, 0.1);
    sketch.smooth(
        1.0,
        &[
            (-0.58, top),
            (-0.2, top + 0.02),
            (0.12, top),
            (0.13 + calf, top + 0.4),
            (0.06, 0.1),
            (0.22, 0.28),
            (toe * 0.75, 0.38),
            (toe, 0.62),
            (toe * 0.9, 0.76),
            (0.0, 0.78),
            (-0.5, 0.76),
            (-0.62, 0.6),
            (-0.54, 0.1),
            (-0.6 - calf, top + 0.4),
        ],
    );
    sketch.polygon(
        0.55,
        &[
            (-0.66, 0.7),
            (toe + 0.06, 0.7),
            (toe + 0.04, 0.84),
            (-0.12, 0.84),
            (-0.16, 0.78 + heel),
            (-0.64, 0.78 + heel),
        ],
    );
    sketch.polygon(
        0.74,
        &[
            (-0.62, top - 0.04),
            (0.16, top - 0.04),
            (0.16, top + 0.15),
            (-0.62, top + 0.15),
        ],
    );
    for lace in 0..3 {
        let y = -0.35 + 0.22 * lace as f32;
        sketch.line(1.35, 0.05, &[(-0.16, y + 0.04), (0.04, y)]);
    }
}

fn chair(sketch: &mut Sketch, rng: &mut Rng) {
    let (wide, lean, leg) = (
        rng.range(0.42, 0.52),
        rng.range(0.1, 0.22),
        rng.range(0.13, 0.16),
    );
    let (seat, back) = (0.12, -1.0);
    sketch.line(
        0.66,
        leg * 0.9,
        &[(-wide + 0.3, seat), (-wide + 0.28, 0.78)],
    );
    sketch.line(
        0.66,
        leg * 0.9,
        &[(wide + 0.28, seat - 0.1), (wide + 0.3, 0.78)],
    );
    sketch.line(
        0.84,
        leg,
        &[(-wide - 0.04, seat + 0.1), (-wide - 0.08, 1.0)],
    );
    sketch.line(0.84, leg, &[(wide, seat + 0.1), (wide, 1.0)]);
    let (left, right) = (-wide + 0.28, wide + 0.28);
    sketch.line(0.92, leg, &[(left, seat - 0.1), (left + lean * 0.4, back)]);
    sketch.line(
        0.92,
        leg,
        &[(right, seat - 0.1), (right + lean * 0.4, back)],
    );
    let slats = 2 + rng.below(2);
    for slat in 0..slats {
        let y = back + 0.06 + 0.28 * slat as f32;
        sketch.line(
            1.08,
            0.15,
            &[(left + lean * 0.35, y), (right + lean * 0.35, y)],
        );
    }
    sketch.polygon(
        1.1,
        &[
            (-wide - 0.14, seat + 0.16),
            (wide + 0.06, seat + 0.16),
            (wide + 0.36, seat - 0.2),
            (-wide + 0.2, seat - 0.2),
        ],
    );
    sketch.polygon(
        0.74,
        &[
            (-wide - 0.14, seat + 0.15),
            (wide + 0.06, seat + 0.15),
            (wide + 0.06, seat + 0.28),
            (-wide - 0.14, seat + 0.28),
        ],
    );
}

fn ladder(sketch: &mut Sketch, rng: &mut Rng) {
    let (foot, top, rungs) = (
        rng.range(0.38, 0.5),
        rng.range(0.28, 0.38),
        4 + rng.below(3),
    );
    for rung in 0..rungs {
        let t = (rung as f32 + 0.6) / rungs as f32;
        let half = top + (foot - top) * t;
        sketch.line(
            0.82,
            0.12,
            &[(-half, -1.0 + 2.0 * t), (half, -1.0 + 2.0 * t)],
        );
    }
    for side in [-1.0, 1.0] {
        sketch.line(1.05, 0.16, &[(side * top, -1.0), (side * foot, 1.0)]);
    }
}

fn butterfly(sketch: &mut Sketch, rng: &mut Rng) {
    let (span, lift, low) = (
        rng.range(0.88, 1.0),
        rng.range(0.7, 0.86),
        rng.range(0.55, 0.75),
    );
    for side in [-1.0, 1.0] {
        let wing = |points: &[Point]| {
            points
                .iter()
                .map(|&(x, y)| (side * x, y))
                .collect::<Vec<_>>()
        };
        sketch.line(0.45, 0.06, &wing(&[(0.03, -0.42), (0.2, -0.86)]));
        sketch.smooth(
            0.86,
            &wing(&[
                (0.04, 0.0),
                (0.5, 0.02),
                (0.74, 0.3),
                (0.62, low),
                (0.36, low + 0.1),
                (0.14, 0.4),
            ]),
        );
        sketch.smooth(
            1.04,
            &wing(&[
                (0.04, -0.26),
                (0.34, -lift * 0.86),
                (0.72, -lift),
                (span, -lift * 0.82),
                (0.92, -0.3),
                (0.66, 0.02),
                (0.2, 0.06),
            ]),
        );
        sketch.ellipse(0.66, (side * 0.68, -lift * 0.55), 0.13, 0.13);
        sketch.ellipse(1.35, (side * 0.46, 0.34), 0.1, 0.1);
    }
    sketch.ellipse(0.45, (0.0, -0.02), 0.1, 0.5);
}
