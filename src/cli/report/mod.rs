//! The report of an evaluation: one self-contained page without scripts, fonts or anything else from a network. Every
//! name that comes from people is escaped.

mod charts;

use super::eval::evaluation::{Evaluation, TestPart};
use super::eval::summary::{Row, Summary};
use super::output::percent;
use crate::classifier::{best, context_rows};
use crate::evaluate::{Method, Predictor, Tested};
use crate::frames::{MAX_PIXELS, read_picture};
use crate::prompt::density::{information_density, singular_values};
use crate::visible::shown;
use anyhow::Context as _;
use base64::Engine as _;
use charts::{Scale, Series, bars, heat_map, legend, lines, reliability};
use image::codecs::jpeg::JpegEncoder;
use ndarray::ArrayView2;
use std::fmt::Write as _;
use std::path::Path;

/// How many mistakes are shown.
const MISTAKES: usize = 12;
/// Pixels a side of a thumbnail, and its JPEG quality.
const THUMBNAIL: u32 = 192;
const QUALITY: u8 = 80;
/// More classes than this have no bars of their own: the worst are shown.
const MOST_BARS: usize = 40;

/// Whether a page shows pictures: who gets it then gets those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thumbnails {
    LeftOut,
    Shown,
}

/// The whole page.
///
/// # Errors
/// If the text tower refuses the template.
pub fn page(summary: &Summary, thumbnails: Thumbnails) -> anyhow::Result<String> {
    let evaluation = summary.evaluation;
    let subject = subject(&summary.rows);
    let zero_shot = &summary.rows[0];
    let part = &evaluation.parts[0];
    let mut body = head(summary, subject, zero_shot);
    body += &methods(summary, subject);
    body += "<div class=\"grid2\">";
    if evaluation.configuration.shots.len() > 1 {
        body += &few_shot(summary);
    }
    if let (Some(tested), Some(before)) = (&subject.detail.parts[0], &zero_shot.detail.parts[0]) {
        body += &card(
            "What is taken for what",
            &format!(
                "{}, {} pictures of \u{201c}{}\u{201d}: rows are what a picture shows, columns what it was named.",
                escape(&subject.title()),
                tested.assessment.pictures,
                escape(&part.name)
            ),
            &heat_map(&part.classes.names(), &tested.assessment.confusion),
        );
        body += &calibration(subject, tested, before);
        body += &classes(subject, part, tested, before);
    }
    body += &loss(subject);
    body += &spectrum(subject, evaluation)?;
    body += "</div>";
    if let Some(tested) = &subject.detail.parts[0] {
        body += &mistakes(part, tested, thumbnails);
    }
    let title = format!(
        "edge-rlp: {} on {}",
        evaluation.configuration.protocol.name(),
        escape(&evaluation.source.name)
    );
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><meta \
         http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src \
         data:\"><link rel=\"icon\" href=\"data:,\"><title>{title}</title><style>{}</style></head>\n<body><main>{body}\
         </main></body></html>\n",
        include_str!("style.css")
    ))
}

/// The method the details are about: the prompt that was given, else `adapt`'s default, else rlp, else whatever there is.
fn subject<'a, 'b>(rows: &'b [Row<'a>]) -> &'b Row<'a> {
    let named = |method: Method| rows.iter().find(|row| row.name == method.name());
    rows.iter()
        .find(|row| row.prompt.is_some())
        .or_else(|| named(Method::Auto))
        .or_else(|| named(Method::Rlp))
        .unwrap_or(&rows[rows.len() - 1])
}

fn head(summary: &Summary, subject: &Row, zero_shot: &Row) -> String {
    let evaluation = summary.evaluation;
    let mut tiles = String::new();
    let mut tile = |value: String, what: String| {
        let _ = write!(
            tiles,
            "<div class=\"tile\"><b>{value}</b><span>{what}</span></div>"
        );
    };
    let [low, high] = subject.interval;
    tile(
        percent(subject.accuracy as f32),
        format!(
            "accuracy of {}, 95 % interval {:.1} to {:.1}",
            escape(&subject.title()),
            100.0 * low,
            100.0 * high
        ),
    );
    tile(
        percent(zero_shot.accuracy as f32),
        "zero-shot, the plain template".into(),
    );
    if let (Some(new), Some(harmonic)) = (subject.new, subject.harmonic_mean) {
        tile(percent(new as f32), "on new classes".into());
        tile(
            percent(harmonic as f32),
            "harmonic mean of base and new".into(),
        );
    }
    tile(
        percent(subject.calibration_error as f32),
        "expected calibration error".into(),
    );
    tile(
        format!("{:.1} ms", 1e3 * evaluation.seconds_each),
        "a picture, decoded and encoded on one core".into(),
    );
    let skipped = match evaluation.skipped() {
        0 => String::new(),
        count => format!("; {count} pictures could not be read"),
    };
    format!(
        "<h1>Evaluation: {}</h1><p class=\"soft\">{} · model {} · template \u{201c}{}\u{201d} · {} test pictures · \
         seeds {}{skipped}</p><div class=\"tiles\">{tiles}</div>",
        evaluation.configuration.protocol.name(),
        escape(&evaluation.source.name),
        escape(&evaluation.model.name),
        escape(&evaluation.configuration.template.to_string()),
        evaluation
            .parts
            .iter()
            .map(|part| part.files.len())
            .sum::<usize>(),
        evaluation.configuration.seeds.len(),
    )
}

fn card(title: &str, text: &str, content: &str) -> String {
    format!("<section><h2>{title}</h2><p class=\"soft\">{text}</p>{content}</section>")
}

fn methods(summary: &Summary, subject: &Row) -> String {
    let cells = summary.cells();
    let row = |cells: &[String], tag: &str| -> String {
        let cell = |text: &String| format!("<{tag}>{}</{tag}>", escape(text));
        cells.iter().map(cell).collect()
    };
    let mut table = format!("<tr>{}</tr>", row(&cells[0], "th"));
    for (cells, method) in cells[1..].iter().zip(&summary.rows) {
        let class = if std::ptr::eq(method, subject) {
            " class=\"subject\""
        } else {
            ""
        };
        let _ = write!(table, "<tr{class}>{}</tr>", row(cells, "td"));
    }
    card(
        "Methods",
        "All on the same features of the same pictures; bytes are those of the numbers a method keeps.",
        &format!("<div class=\"scroll\"><table>{table}</table></div>"),
    )
}

fn few_shot(summary: &Summary) -> String {
    let shots = &summary.evaluation.configuration.shots;
    let series: Vec<Series> = summary
        .rows
        .iter()
        .filter(|row| row.prompt.is_none())
        .map(|row| Series {
            name: row.name,
            points: shots
                .iter()
                .filter_map(|&shots| {
                    let found = row.accuracies(shots);
                    let mean = found.iter().sum::<f64>() / found.len() as f64;
                    Some((shots? as f64, mean))
                })
                .collect(),
        })
        .collect();
    card(
        "Accuracy by shots",
        "Mean over seeds.",
        &(legend(series.iter().map(|series| series.name))
            + &lines(
                "Accuracy by shots a class",
                "shots a class",
                "accuracy",
                &series,
                Scale::Percent,
            )),
    )
}

fn calibration(subject: &Row, tested: &Tested, before: &Tested) -> String {
    let bins = |tested: &Tested| {
        let bin =
            |bin: &crate::evaluate::metrics::Bin| (bin.pictures, bin.confidence, bin.accuracy);
        tested.assessment.reliability.iter().map(bin).collect()
    };
    let title = subject.title();
    card(
        "How sure it is, and how right",
        &format!(
            "On the dashed line confidence is accuracy; a larger dot stands for more pictures. Calibration error {} \
             (zero-shot {}).",
            percent(tested.assessment.calibration_error as f32),
            percent(before.assessment.calibration_error as f32)
        ),
        &(legend(["zero-shot", &title])
            + &reliability(&[("zero-shot", bins(before)), (&title, bins(tested))])),
    )
}

fn classes(subject: &Row, part: &TestPart, tested: &Tested, before: &Tested) -> String {
    let found = &tested.assessment.classes;
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by(|&a, &b| found[a].recall.total_cmp(&found[b].recall));
    order.truncate(MOST_BARS);
    let names: Vec<String> = order
        .iter()
        .map(|&class| part.classes.labels[class].name.clone())
        .collect();
    let recalls = |tested: &Tested| {
        let recall = |&class: &usize| tested.assessment.classes[class].recall;
        order.iter().map(recall).collect::<Vec<f64>>()
    };
    let mut table =
        "<tr><th>label</th><th>precision</th><th>recall</th><th>F1</th><th>pictures</th></tr>"
            .to_owned();
    for &class in &order {
        let class_found = &found[class];
        let _ = write!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&part.classes.labels[class].name),
            percent(class_found.precision as f32),
            percent(class_found.recall as f32),
            percent(class_found.f1 as f32),
            class_found.pictures
        );
    }
    let chart = bars(
        "Recall of each label",
        &names,
        &[recalls(before), recalls(tested)],
        1.0,
        |share| percent(share as f32),
    );
    let text = if found.len() > MOST_BARS {
        format!(
            "Recall, the {MOST_BARS} worst of {} labels first.",
            found.len()
        )
    } else {
        "Recall, the worst first.".to_owned()
    };
    card(
        "Label by label",
        &text,
        &format!(
            "{}{chart}<details><summary>Precision and recall in numbers</summary><div \
             class=\"scroll\"><table>{table}</table></div></details>",
            legend(["zero-shot", &subject.title()])
        ),
    )
}

fn loss(subject: &Row) -> String {
    let history = &subject.detail.fitted.history;
    if history.is_empty() {
        return String::new();
    }
    let series = Series {
        name: "cross-entropy",
        points: history
            .iter()
            .map(|report| (report.step as f64, f64::from(report.loss)))
            .collect(),
    };
    let blank = Series {
        name: "",
        points: Vec::new(),
    };
    card(
        "Training",
        &format!(
            "Cross-entropy on the training pictures, seed {}; {:.1} s.",
            subject.detail.seed, subject.detail.fitted.seconds
        ),
        &lines(
            "Loss by training step",
            "step",
            "loss",
            &[blank, series],
            Scale::Number,
        ),
    )
}

/// The singular spectrum of the context before and after, where the subject is a trained prompt.
fn spectrum(subject: &Row, evaluation: &Evaluation) -> anyhow::Result<String> {
    let (Predictor::Prompt(Some(change)) | Predictor::Prototypes(change, _)) =
        &subject.detail.fitted.predictor
    else {
        return Ok(String::new());
    };
    let template = context_rows(&evaluation.model.text, &evaluation.fitted.layout, None)?;
    let values = |matrix: ArrayView2<f32>| -> Vec<f64> {
        let values = singular_values(matrix);
        values.into_iter().map(f64::from).collect()
    };
    let density = |values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        percent(information_density(&values, 1))
    };
    let change = change.matrix();
    let (before, after) = (
        values(template.view()),
        values((&template + &change).view()),
    );
    let changed = values(change.view());
    let top = before.iter().chain(&after).copied().fold(0.0, f64::max);
    let names: Vec<String> = (1..=before.len())
        .map(|index| format!("value {index}"))
        .collect();
    let title = subject.title();
    Ok(card(
        "Spectrum of the prompt",
        &format!(
            "Singular values of the context. Information density, the share of the first: template {}, prompt {}, the \
             trained change alone {}.",
            density(&before),
            density(&after),
            density(&changed)
        ),
        &(legend(["template", &title])
            + &bars(
                "Singular values of the context",
                &names,
                &[before, after],
                top,
                |value| format!("{value:.3}"),
            )),
    ))
}

/// The pictures that were named wrong with the most confidence.
fn mistakes(part: &TestPart, tested: &Tested, thumbnails: Thumbnails) -> String {
    let mut wrong: Vec<(f32, usize, usize)> = tested
        .probabilities
        .outer_iter()
        .enumerate()
        .filter_map(|(picture, row)| {
            let named = best(row);
            (named != part.pictures.labels[picture]).then_some((row[named], picture, named))
        })
        .collect();
    wrong.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let count = wrong.len();
    let mut figures = String::new();
    for (confidence, picture, named) in wrong.into_iter().take(MISTAKES) {
        let path = &part.files[picture];
        let right = part.pictures.labels[picture];
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let image = match thumbnails {
            Thumbnails::LeftOut => String::new(),
            Thumbnails::Shown => format!(
                "<img src=\"{}\" alt=\"{}\" loading=\"lazy\">",
                thumbnail(path).unwrap_or_else(|_| "data:,".into()),
                escape(&name)
            ),
        };
        let _ = write!(
            figures,
            "<figure>{image}<figcaption><b>{}</b> named {} ({})<br><span \
             class=\"soft\">{}</span></figcaption></figure>",
            escape(&part.classes.labels[right].name),
            escape(&part.classes.labels[named].name),
            percent(confidence),
            escape(&name)
        );
    }
    if figures.is_empty() {
        return card("Worst mistakes", "There are none.", "");
    }
    card(
        "Worst mistakes",
        &format!(
            "{count} of {} pictures were named wrong; these with the most confidence.",
            part.files.len()
        ),
        &format!("<div class=\"mistakes\">{figures}</div>"),
    )
}

/// A picture file, small, as a `data:` address.
fn thumbnail(path: &Path) -> anyhow::Result<String> {
    let picture = read_picture(path, MAX_PIXELS)?;
    let small = if picture.width().max(picture.height()) > THUMBNAIL {
        image::DynamicImage::from(picture)
            .thumbnail(THUMBNAIL, THUMBNAIL)
            .into_rgb8()
    } else {
        picture
    };
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode_image(&small)
        .context("a thumbnail cannot be encoded")?;
    let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
    Ok(format!("data:image/jpeg;base64,{text}"))
}

/// Text that is safe between tags and in double quotes, and all of it seen.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in shown(text).chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        assert_eq!(
            escape("<a href='x'>\"&"),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;"
        );
        assert_eq!(escape("a\u{202e}b\n"), "a\\u{202e}b\\n");
    }
}
