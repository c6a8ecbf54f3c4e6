//! Charts as inline SVG, drawn for a phone's width and scaled up from there. Colours are the page's classes.

use super::escape;
use super::texts::Texts;
use std::fmt::Write as _;

/// Units across every chart; about the pixels of a small phone.
const WIDTH: f64 = 340.0;
/// More classes than this have no names beside the heat map.
const MOST_NAMES: usize = 30;
/// Longer names are cut, so that charts keep their room.
const MOST_LETTERS: usize = 14;

/// How an axis is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From 0 to 100 %.
    Percent,
    /// From 0 to whatever there is.
    Number,
}

impl Scale {
    fn tick(self, texts: &Texts, value: f64) -> String {
        match self {
            Scale::Percent => format!("{:.0} %", 100.0 * value),
            Scale::Number => texts.number(value, 2),
        }
    }

    fn value(self, texts: &Texts, value: f64) -> String {
        match self {
            Scale::Percent => format!("{} %", texts.number(100.0 * value, 1)),
            Scale::Number => texts.number(value, 3),
        }
    }
}

/// What is drawn, and along what.
pub struct Axes<'a> {
    pub what: &'a str,
    pub across: &'a str,
    pub up: &'a str,
    pub scale: Scale,
}

/// A line or a set of bars by name.
pub struct Series<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, f64)>,
}

/// Pictures by right class (rows) and named class (columns); a darker cell holds more of its row.
pub fn heat_map(texts: &Texts, names: &[&str], confusion: &[Vec<usize>]) -> String {
    let named = names.len() <= MOST_NAMES;
    let margin = if named { 86.0 } else { 8.0 };
    let cell = (WIDTH - margin - 4.0) / names.len().max(1) as f64;
    let height = margin + cell * names.len() as f64 + 4.0;
    let mut body = String::new();
    for (right, row) in confusion.iter().enumerate() {
        let total = row.iter().sum::<usize>().max(1);
        let y = margin + cell * right as f64;
        if named {
            let name = short(names[right]);
            let _ = write!(
                body,
                r#"<text x="{:.1}" y="{:.1}" class="end">{name}</text>"#,
                margin - 5.0,
                y + cell / 2.0 + 3.5
            );
            let x = margin + cell * right as f64 + cell / 2.0 + 3.5;
            let _ = write!(
                body,
                r#"<text transform="translate({x:.1} {:.1}) rotate(-90)">{name}</text>"#,
                margin - 5.0
            );
        }
        for (guess, &count) in row.iter().enumerate() {
            let x = margin + cell * guess as f64;
            let class = if guess == right { "right" } else { "wrong" };
            let share = count as f64 / total as f64;
            let _ = write!(
                body,
                r#"<rect x="{x:.1}" y="{y:.1}" width="{0:.1}" height="{0:.1}" class="cell {class}" fill-opacity="{1:.3}"><title>{2}</title></rect>"#,
                (cell - 1.0).max(cell * 0.9),
                0.04 + 0.96 * share,
                (texts.confusion.cell)(&escape(names[right]), &escape(names[guess]), count),
            );
            if count > 0 && cell >= 13.0 {
                let ink = if share > 0.55 { "onfill" } else { "count" };
                let _ = write!(
                    body,
                    r#"<text x="{:.1}" y="{:.1}" class="middle {ink}">{count}</text>"#,
                    x + cell / 2.0,
                    y + cell / 2.0 + 3.0
                );
            }
        }
    }
    svg(height, texts.confusion.chart, &body)
}

/// Pictures, mean confidence and accuracy of one bin.
pub type BinPoint = (usize, f64, f64);

/// Accuracy by confidence, with the diagonal of perfect calibration.
pub fn reliability(texts: &Texts, series: &[(&str, Vec<BinPoint>)]) -> String {
    let frame = Frame::new((0.0, 1.0), (0.0, 1.0), 300.0);
    let axes = Axes {
        what: texts.calibration.chart,
        across: texts.calibration.across,
        up: texts.calibration.up,
        scale: Scale::Percent,
    };
    let mut body = frame.axes(texts, &axes);
    let (x0, y0) = frame.place(0.0, 0.0);
    let (x1, y1) = frame.place(1.0, 1.0);
    let _ = write!(
        body,
        r#"<line x1="{x0:.1}" y1="{y0:.1}" x2="{x1:.1}" y2="{y1:.1}" class="guide"/>"#
    );
    for (index, (name, bins)) in series.iter().enumerate() {
        let most = bins.iter().map(|bin| bin.0).max().unwrap_or(1).max(1) as f64;
        let filled: Vec<_> = bins.iter().filter(|bin| bin.0 > 0).collect();
        let points = filled.iter().map(|bin| (bin.1, bin.2)).collect();
        body += &frame.line(index, &points);
        for (pictures, confidence, accuracy) in filled {
            let (x, y) = frame.place(*confidence, *accuracy);
            let _ = write!(
                body,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="{:.1}" class="dot s{index}"><title>{}</title></circle>"#,
                2.0 + 5.0 * (*pictures as f64 / most).sqrt(),
                (texts.calibration.bin)(
                    &escape(name),
                    *pictures,
                    &axes.scale.value(texts, *confidence),
                    &axes.scale.value(texts, *accuracy)
                ),
            );
        }
    }
    svg(300.0, axes.what, &body)
}

/// Lines over a common axis of whole numbers or shares.
pub fn lines(texts: &Texts, axes: &Axes, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|series| &series.points);
    let right = points().map(|point| point.0).fold(1.0, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    let left = points().map(|point| point.0).fold(right, f64::min);
    let top = match axes.scale {
        Scale::Percent => 1.0,
        Scale::Number => top.max(1e-9) * 1.05,
    };
    let frame = Frame::new((left.min(right - 1e-9), right), (0.0, top), 230.0);
    let mut body = frame.axes(texts, axes);
    for (index, series) in series.iter().enumerate() {
        body += &frame.line(index, &series.points);
        for &(x, y) in series.points.iter().filter(|_| series.points.len() <= 12) {
            let (cx, cy) = frame.place(x, y);
            let value = axes.scale.value(texts, y);
            let _ = write!(
                body,
                r#"<circle cx="{cx:.1}" cy="{cy:.1}" r="3" class="dot s{index}"><title>{}, {x}: {value}</title></circle>"#,
                escape(series.name)
            );
        }
    }
    svg(230.0, axes.what, &body)
}

/// For each name a bar of each series, from 0 to `top`; values are written beside them.
pub fn bars(
    what: &str,
    names: &[String],
    series: &[Vec<f64>],
    top: f64,
    show: impl Fn(f64) -> String,
) -> String {
    let (margin, bar) = (92.0, 9.0);
    let row = bar * series.len() as f64 + 8.0;
    let room = WIDTH - margin - 52.0;
    let mut body = String::new();
    for (index, name) in names.iter().enumerate() {
        let y = row * index as f64 + 4.0;
        let _ = write!(
            body,
            r#"<text x="{:.1}" y="{:.1}" class="end">{}</text>"#,
            margin - 6.0,
            y + row / 2.0,
            short(name)
        );
        for (which, values) in series.iter().enumerate() {
            let length = room * (values[index] / top.max(1e-12)).clamp(0.0, 1.0);
            let y = y + bar * which as f64;
            let _ = write!(
                body,
                r#"<rect x="{margin}" y="{y:.1}" width="{length:.1}" height="{:.1}" class="bar s{which}"/><text x="{:.1}" y="{:.1}" class="value">{}</text>"#,
                bar - 1.5,
                margin + length + 4.0,
                y + bar - 1.6,
                show(values[index]),
            );
        }
    }
    svg(row * names.len() as f64 + 8.0, what, &body)
}

/// What the colours mean.
pub fn legend<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let keys = names.into_iter().enumerate().map(|(index, name)| {
        format!(
            r#"<span class="key"><i class="k{index}"></i>{}</span>"#,
            escape(name)
        )
    });
    format!(r#"<p class="legend">{}</p>"#, keys.collect::<String>())
}

fn short(name: &str) -> String {
    if name.chars().count() <= MOST_LETTERS {
        return escape(name);
    }
    let head: String = name.chars().take(MOST_LETTERS - 1).collect();
    escape(&head) + "…"
}

fn svg(height: f64, what: &str, body: &str) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{}">{body}</svg>"#,
        escape(what)
    )
}

/// A rectangle of data coordinates inside the chart.
struct Frame {
    across: (f64, f64),
    up: (f64, f64),
    height: f64,
}

impl Frame {
    const LEFT: f64 = 44.0;
    const RIGHT: f64 = 10.0;
    const TOP: f64 = 10.0;
    const BOTTOM: f64 = 36.0;

    fn new(across: (f64, f64), up: (f64, f64), height: f64) -> Frame {
        Frame { across, up, height }
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        (
            Self::LEFT + share(x, self.across) * (WIDTH - Self::LEFT - Self::RIGHT),
            self.height
                - Self::BOTTOM
                - share(y, self.up) * (self.height - Self::TOP - Self::BOTTOM),
        )
    }

    fn axes(&self, texts: &Texts, axes: &Axes) -> String {
        let mut body = String::new();
        let right = WIDTH - Self::RIGHT;
        for tick in 0..=4 {
            let value = self.up.0 + (self.up.1 - self.up.0) * f64::from(tick) / 4.0;
            let (_, y) = self.place(self.across.0, value);
            let text = axes.scale.tick(texts, value);
            let _ = write!(
                body,
                r#"<line x1="{0}" y1="{y:.1}" x2="{right}" y2="{y:.1}" class="grid"/><text x="{1}" y="{2:.1}" class="end">{text}</text>"#,
                Self::LEFT,
                Self::LEFT - 5.0,
                y + 3.5
            );
        }
        for tick in [0.0, 0.5, 1.0] {
            let value = self.across.0 + (self.across.1 - self.across.0) * tick;
            let (x, _) = self.place(value, self.up.0);
            let text = if self.across.1 <= 1.0 {
                format!("{:.0} %", 100.0 * value)
            } else {
                format!("{value:.0}")
            };
            let anchor = ["start", "middle", "end"][(tick * 2.0) as usize];
            let _ = write!(
                body,
                r#"<text x="{x:.1}" y="{:.1}" text-anchor="{anchor}">{text}</text>"#,
                self.height - Self::BOTTOM + 14.0
            );
        }
        let _ = write!(
            body,
            r#"<text x="{:.1}" y="{:.1}" class="middle">{}</text><text transform="translate(9 {:.1}) rotate(-90)" class="middle">{}</text>"#,
            (Self::LEFT + right) / 2.0,
            self.height - 6.0,
            escape(axes.across),
            (self.height - Self::BOTTOM + Self::TOP) / 2.0,
            escape(axes.up),
        );
        body
    }

    fn line(&self, index: usize, points: &Vec<(f64, f64)>) -> String {
        let mut path = String::new();
        for &(x, y) in points {
            let (x, y) = self.place(x, y);
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        format!(
            r#"<polyline points="{}" class="line l{index}"/>"#,
            path.trim_end()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::texts::{ENGLISH, Language};
    use super::*;

    #[test]
    fn a_hostile_name_stays_text_in_every_chart() {
        let names = ["<script>alert(1)</script>".to_owned(), "a&\"b".to_owned()];
        let charts = [
            heat_map(
                &ENGLISH,
                &names.each_ref().map(String::as_str),
                &[vec![3, 1], vec![0, 2]],
            ),
            bars("b", &names, &[vec![0.5, 1.0]], 1.0, |x| x.to_string()),
            legend(names.iter().map(String::as_str)),
        ];
        for chart in charts {
            assert!(!chart.contains("<script"), "{chart}");
        }
    }

    #[test]
    fn charts_of_nothing_hold_no_nan() {
        let axes = Axes {
            what: "l",
            across: "x",
            up: "y",
            scale: Scale::Number,
        };
        let empty = [
            heat_map(&ENGLISH, &[], &[]),
            heat_map(&ENGLISH, &["a"], &[vec![0]]),
            reliability(&ENGLISH, &[("x", vec![(0, 0.0, 0.0)])]),
            lines(Language::German.texts(), &axes, &[]),
            bars("b", &["a".into()], &[vec![0.0]], 0.0, |x| x.to_string()),
        ];
        for chart in empty {
            assert!(!chart.contains("NaN") && !chart.contains("inf"), "{chart}");
        }
    }

    #[test]
    fn a_large_matrix_has_no_names_but_every_cell() {
        let names: Vec<String> = (0..40).map(|class| format!("class {class}")).collect();
        let chart = heat_map(
            &ENGLISH,
            &names.iter().map(String::as_str).collect::<Vec<_>>(),
            &vec![vec![1; 40]; 40],
        );
        assert_eq!(chart.matches("<rect").count(), 1600);
        assert!(!chart.contains("rotate"));
    }
}
