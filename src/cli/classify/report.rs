//! Prints answers, for people or machines, and counts them.

use super::super::Context;
use super::super::output::{count, percent};
use super::Arguments;
use crate::classifier::Answer;
use crate::prompt::Label;
use crate::prompt::labels::UNKNOWN;
use crate::visible::{csv_field, shown};
use crate::watch::Named;
use indicatif::ProgressBar;
use serde_json::json;
use std::fmt::Display;
use std::time::Duration;

/// Whether a picture of `truth`, one of the answer's labels, was answered right: one that is never told is to be unknown.
fn agrees(answer: &Answer, truth: &str) -> bool {
    let untold = |label: &Label| label.name == truth && label.is_untold();
    if answer.labels().iter().any(untold) {
        answer.is_unknown()
    } else {
        answer.label() == Some(truth)
    }
}

/// A picture that was named.
pub struct Picture<'a> {
    /// Its file, or the camera.
    pub source: &'a str,
    /// Its number in the camera's stream; 0 of a file.
    pub frame: u64,
    /// The region of it that was named; empty for all of it.
    pub region: &'a str,
    /// The label that the folder's name or the demo camera gives, where that is one of those to choose from.
    pub truth: Option<&'a str>,
    pub answer: &'a Answer,
    /// How long naming it took.
    pub latency: Duration,
    /// Whether the answer before was another.
    pub changed: bool,
    /// Whether the camera has frozen.
    pub frozen: bool,
}

impl<'a> Picture<'a> {
    /// A frame of a camera.
    pub fn of(named: &'a Named) -> Picture<'a> {
        Picture {
            source: &named.frame.source,
            frame: named.frame.index,
            region: &named.region,
            truth: named.truth(),
            answer: &named.answer,
            latency: named.latency,
            changed: named.change.is_some(),
            frozen: named.frozen,
        }
    }
}

/// Answers on their way to standard output.
pub struct Report<'a> {
    pub arguments: &'a Arguments,
    pub context: &'a Context,
    pub pictures: usize,
    pub skipped: usize,
    /// How many of how many files were looked at, where the user ended it before the last.
    pub cut_short: Option<(usize, usize)>,
    /// Frames of a live camera that came while another was being named.
    pub dropped: u64,
    /// How fast frames were named, once watching is over.
    pub rates: Option<String>,
    /// What naming only what changes has saved.
    pub saved: Option<String>,
    /// Pictures whose right label is known, and how many of those were named so.
    judged: usize,
    right: usize,
    unknown: usize,
    busy: Duration,
    /// The line of a terminal that changes while a camera is watched.
    bar: ProgressBar,
}

impl<'a> Report<'a> {
    pub fn new(arguments: &'a Arguments, context: &'a Context) -> Report<'a> {
        if arguments.csv {
            context
                .output
                .line("source,frame,label,score,unknown,latency_ms");
        }
        Report {
            arguments,
            context,
            pictures: 0,
            skipped: 0,
            cut_short: None,
            dropped: 0,
            rates: None,
            saved: None,
            judged: 0,
            right: 0,
            unknown: 0,
            busy: Duration::ZERO,
            bar: if arguments.watches() {
                context.output.spinner("watching")
            } else {
                ProgressBar::hidden()
            },
        }
    }

    pub fn skip(&mut self, reason: &str) {
        self.skipped += 1;
        self.warn(format!("{reason}; skipped"));
    }

    pub fn warn(&self, message: impl Display) {
        self.bar.suspend(|| self.context.output.warn(message));
    }

    pub fn note(&self, message: impl Display) {
        self.bar.suspend(|| self.context.output.note(message));
    }

    /// How it goes: on a terminal the line that changes, else a line on standard error.
    pub fn status(&self, words: String) {
        if self.bar.is_hidden() {
            self.context.output.note(words);
        } else {
            self.bar.set_message(shown(&words).into_owned());
        }
    }

    /// One answer.
    ///
    /// # Errors
    /// If the answer cannot be written as JSON.
    pub fn picture(&mut self, picture: &Picture) -> anyhow::Result<()> {
        let &Picture {
            source,
            frame,
            region,
            truth,
            answer,
            latency,
            changed,
            frozen,
        } = picture;
        let score = answer.best().probability;
        let unknown = answer.is_unknown();
        let label = answer.label().unwrap_or(UNKNOWN);
        self.pictures += 1;
        self.busy += latency;
        self.judged += usize::from(truth.is_some());
        self.right += usize::from(truth.is_some_and(|truth| agrees(answer, truth)));
        self.unknown += usize::from(unknown);

        let output = &self.context.output;
        let latency = latency.as_secs_f64() * 1e3;
        if output.is_json() {
            output.object(&json!({
                "source": source,
                "frame": frame,
                "region": Some(region).filter(|region| !region.is_empty()),
                "label": label,
                "score": score,
                "top": self.top(answer).map(|(label, score)| json!({ "label": label, "score": score })).collect::<Vec<_>>(),
                "unknown": unknown,
                "latency_ms": latency,
                "truth": truth,
                "frozen": frozen,
            }))?;
        } else if self.arguments.csv {
            let source = match region {
                "" => csv_field(source),
                region => csv_field(&format!("{source} {region}")),
            };
            let label = csv_field(label);
            output.line(format!(
                "{source},{frame},{label},{score},{unknown},{latency:.3}"
            ));
        } else if !self.arguments.watches() || self.arguments.every_frame || changed {
            let mut place = if self.arguments.watches() {
                format!("{source} #{frame}")
            } else {
                source.to_owned()
            };
            if !region.is_empty() {
                place += &format!("  {region}");
            }
            let scored = |(label, score)| format!("{label} {}", percent(score));
            let mut named: Vec<String> = self.top(answer).map(scored).collect();
            if unknown {
                named[0] = format!("{UNKNOWN}, nearest {}", named[0]);
            }
            self.bar
                .suspend(|| output.line(format!("{place}  {}", named.join(", "))));
        }
        Ok(())
    }

    /// The best labels, as many as were asked for.
    fn top<'b>(&self, answer: &'b Answer) -> impl Iterator<Item = (&'b str, f32)> + use<'b> {
        let best = answer.ranking().into_iter();
        best.take(self.arguments.top as usize)
            .map(|scored| (scored.label, scored.probability))
    }

    pub fn summary(&self) {
        self.bar.finish_and_clear();
        if self.pictures == 0 {
            return;
        }
        let each = self.busy.as_secs_f64() * 1e3 / self.pictures as f64;
        let mut words = match &self.rates {
            Some(rates) => rates.clone(),
            None if self.pictures == 1 => format!("1 picture, {each:.1} ms"),
            None => format!("{} pictures, {each:.1} ms each", self.pictures),
        };
        if self.judged > 0 {
            let known = if self.arguments.watches() {
                "drawn"
            } else {
                "folders'"
            };
            let share = percent(self.right as f32 / self.judged as f32);
            words += &format!(
                "; {} of {} agree with the {known} labels ({share})",
                self.right, self.judged
            );
        }
        if self.unknown > 0 {
            words += &format!("; {} unknown", self.unknown);
        }
        if self.dropped > 0 {
            words += &format!("; {} dropped", count(self.dropped, "older frame"));
        }
        if self.skipped > 0 {
            words += &format!("; {} could not be read", self.skipped);
        }
        if let Some(saved) = &self.saved {
            words += &format!("; {saved}");
        }
        self.context.output.note(words);
    }
}
