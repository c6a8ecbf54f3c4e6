//! Things of a household.

use crate::frames::demo::sketch::{Point, Sketch};
use crate::rng::Rng;
use std::f32::consts::PI;
use tiny_skia::PathBuilder;

pub fn mug(sketch: &mut Sketch, rng: &mut Rng) {
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

pub fn bottle(sketch: &mut Sketch, rng: &mut Rng) {
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

pub fn umbrella(sketch: &mut Sketch, rng: &mut Rng) {
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

pub fn boot(sketch: &mut Sketch, rng: &mut Rng) {
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

pub fn chair(sketch: &mut Sketch, rng: &mut Rng) {
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
