//! The report of an evaluation: one self-contained page without scripts, fonts or anything else from a network. Every
//! name that comes from people is escaped.

mod charts;
pub(super) mod texts;

use super::eval::evaluation::{Evaluation, TestPart};
use super::eval::summary::{Row, Summary};
use crate::classifier::{best, context_rows};
use crate::evaluate::{Method, Predictor, Tested};
use crate::frames::{MAX_PIXELS, read_picture};
use crate::prompt::density::{information_density, singular_values};
use crate::visible::shown;
use anyhow::Context as _;
use base64::Engine as _;
use charts::{Axes, Scale, Series, bars, heat_map, legend, lines, reliability};
use image::codecs::jpeg::JpegEncoder;
use ndarray::ArrayView2;
use std::fmt::Write as _;
use std::path::Path;
use texts::{About, Language, Texts};

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
pub fn page(
    summary: &Summary,
    thumbnails: Thumbnails,
    language: Language,
) -> anyhow::Result<String> {
    let texts = language.texts();
    let evaluation = summary.evaluation;
    let subject = subject(&summary.rows);
    let zero_shot = &summary.rows[0];
    let part = &evaluation.parts[0];
    let mut body = head(texts, summary, subject, zero_shot);
    body += &methods(texts, summary, subject);
    body += "<div class=\"grid2\">";
    if evaluation.configuration.shots.len() > 1 {
        body += &few_shot(texts, summary);
    }
    if let (Some(tested), Some(before)) = (&subject.detail.parts[0], &zero_shot.detail.parts[0]) {
        body += &card(
            texts.confusion.title,
            &(texts.confusion.text)(
                &escape(&subject.title()),
                tested.assessment.pictures,
                &escape((texts.part)(&part.name)),
            ),
            &heat_map(texts, &part.classes.names(), &tested.assessment.confusion),
        );
        body += &calibration(texts, subject, tested, before);
        body += &classes(texts, subject, part, (tested, before));
    }
    body += &loss(texts, subject);
    body += &spectrum(texts, subject, evaluation)?;
    body += "</div>";
    if let Some(tested) = &subject.detail.parts[0] {
        body += &mistakes(texts, part, tested, thumbnails);
    }
    let title = (texts.title)(
        (texts.protocol)(evaluation.configuration.protocol),
        &escape(&evaluation.source.name),
    );
    Ok(format!(
        "<!doctype html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><meta \
         http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src \
         data:\"><link rel=\"icon\" href=\"data:,\"><title>{title}</title><style>{}</style></head>\n<body><main>{body}\
         </main></body></html>\n",
        texts.language,
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

fn head(texts: &Texts, summary: &Summary, subject: &Row, zero_shot: &Row) -> String {
    let evaluation = summary.evaluation;
    let mut tiles = String::new();
    let mut tile = |value: String, what: &str| {
        let _ = write!(
            tiles,
            "<div class=\"tile\"><b>{value}</b><span>{what}</span></div>"
        );
    };
    let [low, high] = subject.interval;
    tile(
        texts.percent(subject.accuracy),
        &(texts.tiles.accuracy)(
            &escape(&subject.title()),
            &texts.number(100.0 * low, 1),
            &texts.number(100.0 * high, 1),
        ),
    );
    tile(texts.percent(zero_shot.accuracy), texts.tiles.zero_shot);
    if let (Some(new), Some(harmonic)) = (subject.new, subject.harmonic_mean) {
        tile(texts.percent(new), texts.tiles.new);
        tile(texts.percent(harmonic), texts.tiles.harmonic_mean);
    }
    tile(
        texts.percent(subject.calibration_error),
        texts.tiles.calibration_error,
    );
    let milliseconds = texts.number(1e3 * evaluation.seconds_each, 1);
    tile(format!("{milliseconds} ms"), texts.tiles.latency);
    let skipped = match evaluation.skipped() {
        0 => String::new(),
        count => (texts.skipped)(count),
    };
    let pictures = evaluation.parts.iter().map(|part| part.files.len());
    let about = (texts.about)(About {
        source: &escape(&evaluation.source.name),
        model: &escape(&evaluation.model.name),
        template: &escape(&evaluation.configuration.template.to_string()),
        pictures: pictures.sum(),
        seeds: evaluation.configuration.seeds.len(),
    });
    format!(
        "<h1>{}</h1><p class=\"soft\">{about}{skipped}</p><div class=\"tiles\">{tiles}</div>",
        (texts.heading)((texts.protocol)(evaluation.configuration.protocol)),
    )
}

fn card(title: &str, text: &str, content: &str) -> String {
    format!("<section><h2>{title}</h2><p class=\"soft\">{text}</p>{content}</section>")
}

fn methods(texts: &Texts, summary: &Summary, subject: &Row) -> String {
    let cells = summary.cells(texts);
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
        texts.methods.title,
        texts.methods.text,
        &format!("<div class=\"scroll\"><table>{table}</table></div>"),
    )
}

fn few_shot(texts: &Texts, summary: &Summary) -> String {
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
    let few_shot = &texts.few_shot;
    let axes = Axes {
        what: few_shot.chart,
        across: few_shot.across,
        up: few_shot.up,
        scale: Scale::Percent,
    };
    card(
        few_shot.title,
        few_shot.text,
        &(legend(series.iter().map(|series| series.name)) + &lines(texts, &axes, &series)),
    )
}

fn calibration(texts: &Texts, subject: &Row, tested: &Tested, before: &Tested) -> String {
    let bins = |tested: &Tested| {
        let bin =
            |bin: &crate::evaluate::metrics::Bin| (bin.pictures, bin.confidence, bin.accuracy);
        tested.assessment.reliability.iter().map(bin).collect()
    };
    let title = subject.title();
    card(
        texts.calibration.title,
        &(texts.calibration.text)(
            &texts.percent(tested.assessment.calibration_error),
            &texts.percent(before.assessment.calibration_error),
        ),
        &(legend(["zero-shot", &title])
            + &reliability(
                texts,
                &[("zero-shot", bins(before)), (&title, bins(tested))],
            )),
    )
}

/// `results` are those of the subject, and those of zero-shot.
fn classes(texts: &Texts, subject: &Row, part: &TestPart, results: (&Tested, &Tested)) -> String {
    let (tested, before) = results;
    let words = &texts.classes;
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
    let heads = [
        words.label,
        words.precision,
        words.recall,
        words.f1,
        words.pictures,
    ];
    let heads = heads.map(|head| format!("<th>{head}</th>")).concat();
    let mut table = format!("<tr>{heads}</tr>");
    for &class in &order {
        let class_found = &found[class];
        let _ = write!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&part.classes.labels[class].name),
            texts.percent(class_found.precision),
            texts.percent(class_found.recall),
            texts.percent(class_found.f1),
            class_found.pictures
        );
    }
    let chart = bars(
        words.chart,
        &names,
        &[recalls(before), recalls(tested)],
        1.0,
        |share| texts.percent(share),
    );
    let text = if found.len() > MOST_BARS {
        (words.worst)(MOST_BARS, found.len())
    } else {
        words.text.to_owned()
    };
    card(
        words.title,
        &text,
        &format!(
            "{}{chart}<details><summary>{}</summary><div class=\"scroll\"><table>{table}</table></div></details>",
            legend(["zero-shot", &subject.title()]),
            words.numbers
        ),
    )
}

fn loss(texts: &Texts, subject: &Row) -> String {
    let history = &subject.detail.fitted.history;
    if history.is_empty() {
        return String::new();
    }
    let words = &texts.loss;
    let series = Series {
        name: words.series,
        points: history
            .iter()
            .map(|report| (report.step as f64, f64::from(report.loss)))
            .collect(),
    };
    let blank = Series {
        name: "",
        points: Vec::new(),
    };
    let axes = Axes {
        what: words.chart,
        across: words.across,
        up: words.up,
        scale: Scale::Number,
    };
    let seconds = texts.number(subject.detail.fitted.seconds, 1);
    card(
        words.title,
        &(words.text)(subject.detail.seed, &seconds),
        &lines(texts, &axes, &[blank, series]),
    )
}

/// The singular spectrum of the context before and after, where the subject is a trained prompt.
fn spectrum(texts: &Texts, subject: &Row, evaluation: &Evaluation) -> anyhow::Result<String> {
    let change = match &subject.detail.fitted.predictor {
        Predictor::Prompt(Some(change)) => change,
        Predictor::Kept(kept) => &kept.change,
        _ => return Ok(String::new()),
    };
    let template = context_rows(&evaluation.model.text, &evaluation.fitted.layout, None)?;
    let values = |matrix: ArrayView2<f32>| -> Vec<f64> {
        let values = singular_values(matrix);
        values.into_iter().map(f64::from).collect()
    };
    let density = |values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        texts.percent(f64::from(information_density(&values, 1)))
    };
    let change = change.matrix();
    let (before, after) = (
        values(template.view()),
        values((&template + &change).view()),
    );
    let changed = values(change.view());
    let top = before.iter().chain(&after).copied().fold(0.0, f64::max);
    let words = &texts.spectrum;
    let names: Vec<String> = (1..=before.len()).map(words.value).collect();
    let title = subject.title();
    Ok(card(
        words.title,
        &(words.text)(&density(&before), &density(&after), &density(&changed)),
        &(legend([words.template, &title])
            + &bars(words.chart, &names, &[before, after], top, |value| {
                texts.number(value, 3)
            })),
    ))
}

/// The pictures that were named wrong with the most confidence.
fn mistakes(texts: &Texts, part: &TestPart, tested: &Tested, thumbnails: Thumbnails) -> String {
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
            "<figure>{image}<figcaption>{}<br><span class=\"soft\">{}</span></figcaption></figure>",
            (texts.mistakes.named)(
                &format!("<b>{}</b>", escape(&part.classes.labels[right].name)),
                &escape(&part.classes.labels[named].name),
                &texts.percent(f64::from(confidence)),
            ),
            escape(&name)
        );
    }
    if figures.is_empty() {
        return card(texts.mistakes.title, texts.mistakes.none, "");
    }
    card(
        texts.mistakes.title,
        &(texts.mistakes.text)(count, part.files.len()),
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
