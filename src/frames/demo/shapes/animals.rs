//! Animals.

use crate::frames::demo::sketch::{Point, Sketch};
use crate::rng::Rng;

pub fn fish(sketch: &mut Sketch, rng: &mut Rng) {
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

pub fn butterfly(sketch: &mut Sketch, rng: &mut Rng) {
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
