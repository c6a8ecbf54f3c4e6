//! Tools, and parts of machines.

use crate::frames::demo::sketch::{Point, Sketch, trace};
use crate::rng::Rng;
use std::f32::consts::TAU;
use tiny_skia::PathBuilder;

pub fn hammer(sketch: &mut Sketch, rng: &mut Rng) {
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

pub fn scissors(sketch: &mut Sketch, rng: &mut Rng) {
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

pub fn key(sketch: &mut Sketch, rng: &mut Rng) {
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

pub fn gear(sketch: &mut Sketch, rng: &mut Rng) {
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

pub fn ladder(sketch: &mut Sketch, rng: &mut Rng) {
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
