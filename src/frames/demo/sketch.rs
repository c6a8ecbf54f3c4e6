//! A pad to draw silhouettes on: outlines become filled paths with a tone each. Knows nothing of what is drawn.

use tiny_skia::{FillRule, LineCap, LineJoin, Path, PathBuilder, Rect, Stroke};

/// One filled piece of an object; later parts cover earlier ones.
pub struct Part {
    /// Its outline.
    pub path: Path,
    /// Brightness against the object's own colour: 1 the same, below darker.
    pub tone: f32,
    /// How the outline is filled: by winding, or even-odd where it has holes.
    pub rule: FillRule,
}

/// The drawing so far.
pub struct Sketch(pub Vec<Part>);

/// A point, x and y.
pub type Point = (f32, f32);

impl Sketch {
    /// Adds what `builder` holds so that inner outlines are holes.
    pub fn with_holes(&mut self, tone: f32, builder: PathBuilder) {
        self.0.extend(builder.finish().map(|path| Part {
            path,
            tone,
            rule: FillRule::EvenOdd,
        }));
    }

    /// Adds an outline, filled; an empty or degenerate one draws nothing.
    pub fn add(&mut self, path: Option<Path>, tone: f32) {
        self.0.extend(path.map(|path| Part {
            path,
            tone,
            rule: FillRule::Winding,
        }));
    }

    /// A closed outline of straight lines.
    pub fn polygon(&mut self, tone: f32, points: &[Point]) {
        let mut builder = PathBuilder::new();
        trace(&mut builder, points);
        builder.close();
        self.add(builder.finish(), tone);
    }

    /// A closed smooth curve through `points` (Catmull-Rom).
    pub fn smooth(&mut self, tone: f32, points: &[Point]) {
        let count = points.len();
        let at = |index: usize| points[index % count];
        let mut builder = PathBuilder::new();
        builder.move_to(points[0].0, points[0].1);
        for index in 0..count {
            let (before, from, to, after) = (
                at(index + count - 1),
                at(index),
                at(index + 1),
                at(index + 2),
            );
            builder.cubic_to(
                from.0 + (to.0 - before.0) / 6.0,
                from.1 + (to.1 - before.1) / 6.0,
                to.0 - (after.0 - from.0) / 6.0,
                to.1 - (after.1 - from.1) / 6.0,
                to.0,
                to.1,
            );
        }
        builder.close();
        self.add(builder.finish(), tone);
    }

    /// A filled ellipse with half-axes `rx`, `ry`.
    pub fn ellipse(&mut self, tone: f32, (cx, cy): Point, rx: f32, ry: f32) {
        let rect = Rect::from_ltrb(cx - rx, cy - ry, cx + rx, cy + ry);
        self.add(rect.and_then(PathBuilder::from_oval), tone);
    }

    /// The outline of an ellipse, `width` thick.
    pub fn ring(&mut self, tone: f32, (cx, cy): Point, rx: f32, ry: f32, width: f32) {
        let rect = Rect::from_ltrb(cx - rx, cy - ry, cx + rx, cy + ry);
        self.stroke(tone, width, rect.and_then(PathBuilder::from_oval));
    }

    /// A line of round ends and corners through `points`.
    pub fn line(&mut self, tone: f32, width: f32, points: &[Point]) {
        let mut builder = PathBuilder::new();
        trace(&mut builder, points);
        self.stroke(tone, width, builder.finish());
    }

    /// A path drawn with a round pen.
    pub fn stroke(&mut self, tone: f32, width: f32, path: Option<Path>) {
        let pen = Stroke {
            width,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        // The resolution scale: a unit is some 30 pixels, so curves are cut finely enough.
        self.add(path.and_then(|path| path.stroke(&pen, 40.0)), tone);
    }
}

/// Draws straight lines through `points`.
pub fn trace(builder: &mut PathBuilder, points: &[Point]) {
    for (index, &(x, y)) in points.iter().enumerate() {
        if index == 0 {
            builder.move_to(x, y)
        } else {
            builder.line_to(x, y)
        }
    }
}
