//! What an evaluation found, as a table for people and as JSON: means over seeds, and the details of one seed.

use super::super::output::{aligned, percent};
use super::super::report::texts::{ENGLISH, Texts};
use super::Protocol;
use super::evaluation::Evaluation;
use crate::evaluate::{
    Assessment, CalibrationError, Recognition, Tested, TrialResult, harmonic_mean, wilson,
};
use ndarray::ArrayView2;
use serde_json::{Value, json};

/// Everything found, a row a method.
pub struct Summary<'a> {
    pub evaluation: &'a Evaluation<'a>,
    pub rows: Vec<Row<'a>>,
}

/// One method: means over its seeds at the most shots.
pub struct Row<'a> {
    pub name: &'static str,
    /// The prompt that was given, if this is it.
    pub prompt: Option<&'a str>,
    /// Every trial, at all shots.
    pub trials: Vec<&'a TrialResult>,
    /// The trial whose details are reported: the first seed at the most shots.
    pub detail: &'a TrialResult,
    pub accuracy: f64,
    /// Standard deviation of the accuracy over seeds; none with one.
    pub deviation: Option<f64>,
    /// Sampling error of the test pictures, 95 %.
    pub interval: [f64; 2],
    pub base: Option<f64>,
    pub new: Option<f64>,
    pub harmonic_mean: Option<f64>,
    pub calibration_error: f64,
    /// What that would be if all probabilities were right.
    pub calibration_error_by_chance: f64,
    /// Of the answers of all seeds together.
    pub calibration_together: CalibrationError,
    /// What the pictures of the first part show.
    truth: &'a [usize],
    /// Of pictures of new classes; means over seeds.
    pub recognition: Option<Recognised>,
    pub parameters: usize,
    pub seconds: f64,
}

/// How pictures of none of the labels fare, a mean over seeds; what is never refused has no shares.
#[derive(Clone, Copy)]
pub struct Recognised {
    pub auroc: f64,
    pub known_refused: Option<f64>,
    pub unknown_refused: Option<f64>,
}

impl Recognised {
    fn of(trials: &[&TrialResult]) -> Option<Recognised> {
        let found = trials.iter().filter_map(|trial| trial.recognition);
        let found: Vec<Recognition> = found.collect();
        let share = |of: fn(&Recognition) -> Option<f64>| {
            let shares: Option<Vec<f64>> = found.iter().map(of).collect();
            shares.map(|shares| mean(&shares))
        };
        let auroc = share(|found| Some(found.unknown_auroc)).filter(|_| !found.is_empty())?;
        Some(Recognised {
            auroc,
            known_refused: share(|found| found.known_refused),
            unknown_refused: share(|found| found.unknown_refused),
        })
    }
}

impl<'a> Summary<'a> {
    pub fn new(evaluation: &'a Evaluation<'a>, results: &'a [TrialResult]) -> Summary<'a> {
        let configuration = &evaluation.configuration;
        let truth = &evaluation.parts[0].pictures.labels;
        let row = |prompt, trials| Row::new((configuration.protocol, truth), prompt, trials);
        let trained = configuration.draws().len() * configuration.methods.len();
        let (trained, given) = results.split_at(trained.min(results.len()));
        let mut rows: Vec<Row> = configuration
            .methods
            .iter()
            .map(|&method| {
                let trials = trained.iter().filter(|result| result.method == method);
                row(None, trials.collect())
            })
            .collect();
        if let (Some(result), Some((name, _))) = (given.first(), &configuration.prompt) {
            rows.insert(1, row(Some(name), vec![result]));
        }
        Summary { evaluation, rows }
    }

    /// The object that `--json` prints.
    pub fn json(&self) -> Value {
        let evaluation = self.evaluation;
        let names = |members: &[usize]| -> Vec<&str> {
            let labels = &evaluation.source.labels;
            members
                .iter()
                .map(|&class| labels[class].name.as_str())
                .collect()
        };
        let parts: Vec<Value> = evaluation
            .parts
            .iter()
            .map(|part| {
                json!({
                    "name": part.name,
                    "labels": part.classes.names(),
                    "pictures": part.files.len(),
                })
            })
            .collect();
        json!({
            "protocol": evaluation.configuration.protocol.name(),
            "images": evaluation.source.name,
            "model": {
                "name": evaluation.model.name,
                "fingerprint": evaluation.model.fingerprint.to_string(),
            },
            "template": evaluation.configuration.template.to_string(),
            "labels": names(&evaluation.fitted.members),
            "seeds": evaluation.configuration.seeds,
            "shots": evaluation.configuration.shots,
            "parts": parts,
            "skipped_images": evaluation.skipped(),
            "latency_ms": 1e3 * evaluation.seconds_each,
            "methods": self.rows.iter().map(|row| row.json(evaluation)).collect::<Vec<_>>(),
        })
    }

    /// The same for people, a line a method.
    pub fn table(&self) -> Vec<String> {
        let mut lines = aligned(&self.cells(&ENGLISH));
        if self.evaluation.configuration.protocol == Protocol::FewShot {
            lines.push(String::new());
            lines.extend(aligned(&self.few_shot_rows("method", |row, shots| {
                percent(mean(&row.accuracies(shots)) as f32)
            })));
            lines.push(String::new());
            let title = "calib. error, all seeds (by chance)";
            lines.extend(aligned(&self.few_shot_rows(title, |row, shots| {
                let found = row.calibration_together(shots);
                let [error, chance] = [found.error, found.by_chance].map(|x| percent(x as f32));
                format!("{error} ({chance})")
            })));
        }
        lines.push(self.remark());
        lines
    }

    /// A head and a row a method.
    pub fn cells(&self, texts: &Texts) -> Vec<Vec<String>> {
        let protocol = self.evaluation.configuration.protocol;
        let of = &texts.columns;
        let mut head = vec![of.method];
        head.extend(match protocol {
            Protocol::BaseToNew => vec![of.base, of.new, of.harmonic_mean],
            Protocol::Cross => vec![of.targets, of.source],
            _ => vec![of.accuracy, of.interval],
        });
        head.extend([of.deviation, of.calibration_error]);
        head.extend([of.calibration_together, of.calibration_by_chance]);
        if protocol == Protocol::BaseToNew {
            head.extend([of.unknown_auroc, of.known_refused, of.unknown_refused]);
        }
        head.extend([of.numbers, of.bytes, of.seconds]);
        let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        rows.extend(self.rows.iter().map(|row| row.cells(texts, protocol)));
        rows
    }

    /// A row a method with what `cell` makes of its trials at so many shots, under a `title`.
    fn few_shot_rows(
        &self,
        title: &str,
        cell: impl Fn(&Row, Option<usize>) -> String,
    ) -> Vec<Vec<String>> {
        let shots = &self.evaluation.configuration.shots;
        let head = shots.iter().flatten().map(|shots| format!("{shots} shots"));
        let mut rows = vec![std::iter::once(title.to_owned()).chain(head).collect()];
        for row in &self.rows {
            let cells = shots.iter().map(|&shots| {
                if row.accuracies(shots).is_empty() {
                    "-".to_owned()
                } else {
                    cell(row, shots)
                }
            });
            rows.push(std::iter::once(row.title()).chain(cells).collect());
        }
        rows
    }

    fn remark(&self) -> String {
        let evaluation = self.evaluation;
        let tested: Vec<String> = evaluation
            .parts
            .iter()
            .map(|part| {
                format!(
                    "{} {} pictures of {} labels",
                    part.name,
                    part.files.len(),
                    part.classes.labels.len()
                )
            })
            .collect();
        let seeds = match evaluation.configuration.seeds.len() {
            1 => "1 seed".to_owned(),
            count => format!("mean of {count} seeds"),
        };
        format!(
            "{}; {seeds}; {:.1} ms a picture",
            tested.join(", "),
            1e3 * evaluation.seconds_each
        )
    }
}

impl<'a> Row<'a> {
    fn new(
        (protocol, truth): (Protocol, &'a [usize]),
        prompt: Option<&'a str>,
        trials: Vec<&'a TrialResult>,
    ) -> Row<'a> {
        let most = trials.iter().map(|trial| trial.shots).max().flatten();
        let last: Vec<&TrialResult> = trials
            .iter()
            .copied()
            .filter(|trial| trial.shots == most)
            .collect();
        let detail = last[0];
        let part = |index: usize| -> Option<f64> {
            let found: Vec<f64> = last
                .iter()
                .filter_map(|trial| Some(trial.parts.get(index)?.as_ref()?.assessment.accuracy))
                .collect();
            (!found.is_empty()).then(|| mean(&found))
        };
        let assessed = |of: fn(&Assessment) -> f64| {
            let found = last.iter().filter_map(|trial| trial.parts[0].as_ref());
            mean(
                &found
                    .map(|tested| of(&tested.assessment))
                    .collect::<Vec<_>>(),
            )
        };
        let accuracies: Vec<f64> = last
            .iter()
            .filter_map(|trial| main_accuracy(protocol, trial))
            .collect();
        let accuracy = mean(&accuracies);
        let pictures: usize = main_parts(protocol, detail)
            .map(|tested| tested.assessment.pictures)
            .sum();
        let (base, new) = match protocol {
            Protocol::BaseToNew => (part(0), part(1)),
            _ => (None, None),
        };
        Row {
            name: detail.method.name(),
            prompt,
            detail,
            accuracy,
            deviation: (accuracies.len() > 1).then(|| deviation(&accuracies)),
            interval: wilson(accuracy * pictures as f64, pictures as f64),
            base,
            new,
            harmonic_mean: base.zip(new).map(|(base, new)| harmonic_mean(base, new)),
            calibration_error: assessed(|found| found.calibration_error),
            calibration_error_by_chance: assessed(|found| found.calibration_error_by_chance),
            calibration_together: together(&last, truth),
            truth,
            recognition: Recognised::of(&last),
            parameters: detail.fitted.parameters,
            seconds: mean(
                &last
                    .iter()
                    .map(|trial| trial.fitted.seconds)
                    .collect::<Vec<_>>(),
            ),
            trials,
        }
    }

    /// The method, and the prompt's name where it is one that was given.
    pub fn title(&self) -> String {
        match self.prompt {
            Some(prompt) => format!("{} ({prompt})", self.name),
            None => self.name.to_owned(),
        }
    }

    /// What was kept, in bytes, as 32-bit numbers.
    pub fn bytes(&self) -> usize {
        4 * self.parameters
    }

    /// The accuracy of every seed at `shots`.
    pub fn accuracies(&self, shots: Option<usize>) -> Vec<f64> {
        self.trials
            .iter()
            .filter(|trial| trial.shots == shots)
            .filter_map(|trial| Some(trial.parts[0].as_ref()?.assessment.accuracy))
            .collect()
    }

    /// Of the answers of every seed at `shots`.
    fn calibration_together(&self, shots: Option<usize>) -> CalibrationError {
        let trials = self.trials.iter().copied();
        let trials: Vec<_> = trials.filter(|trial| trial.shots == shots).collect();
        together(&trials, self.truth)
    }

    fn cells(&self, texts: &Texts, protocol: Protocol) -> Vec<String> {
        let share = |value: Option<f64>| value.map_or("-".to_owned(), |value| texts.percent(value));
        let [low, high] = self.interval.map(|bound| texts.number(100.0 * bound, 1));
        let mut cells = vec![self.title()];
        cells.extend(match protocol {
            Protocol::BaseToNew => {
                vec![share(self.base), share(self.new), share(self.harmonic_mean)]
            }
            Protocol::Cross => vec![
                share((!self.accuracy.is_nan()).then_some(self.accuracy)),
                share(Some(mean(&self.accuracies(self.detail.shots)))),
            ],
            _ => vec![
                share(Some(self.accuracy)),
                (texts.columns.from_to)(&low, &high),
            ],
        });
        cells.extend([
            self.deviation
                .map_or("-".to_owned(), |spread| texts.number(100.0 * spread, 1)),
            texts.percent(self.calibration_error),
            texts.percent(self.calibration_together.error),
            texts.percent(self.calibration_together.by_chance),
        ]);
        if protocol == Protocol::BaseToNew {
            let found = self.recognition;
            let auroc = found.map_or("-".to_owned(), |found| texts.number(found.auroc, 3));
            cells.extend([
                auroc,
                share(found.and_then(|found| found.known_refused)),
                share(found.and_then(|found| found.unknown_refused)),
            ]);
        }
        cells.extend([
            self.parameters.to_string(),
            self.bytes().to_string(),
            texts.number(self.seconds, 2),
        ]);
        cells
    }

    fn json(&self, evaluation: &Evaluation) -> Value {
        let detail: Vec<Value> = evaluation
            .parts
            .iter()
            .zip(&self.detail.parts)
            .map(|(part, tested)| match tested {
                Some(tested) => detail(&part.name, &part.classes.names(), tested),
                None => json!({ "part": part.name, "accuracy": null }),
            })
            .collect();
        let runs: Vec<Value> = self
            .trials
            .iter()
            .map(|trial| {
                let accuracies: serde_json::Map<String, Value> = evaluation
                    .parts
                    .iter()
                    .zip(&trial.parts)
                    .map(|(part, tested)| {
                        let accuracy = tested.as_ref().map(|tested| tested.assessment.accuracy);
                        (part.name.clone(), json!(accuracy))
                    })
                    .collect();
                json!({
                    "seed": trial.seed,
                    "shots": trial.shots,
                    "accuracy": accuracies,
                    "calibration_error": first(trial).map(|of| of.assessment.calibration_error),
                    "seconds": trial.fitted.seconds,
                })
            })
            .collect();
        let shots = evaluation.configuration.shots.iter();
        let by_shots: Vec<Value> = shots
            .map(|&shots| {
                let trials = self.trials.iter().filter(|trial| trial.shots == shots);
                let found: Vec<&Assessment> = trials
                    .filter_map(|trial| Some(&first(trial)?.assessment))
                    .collect();
                let over =
                    |of: fn(&&Assessment) -> f64| mean(&found.iter().map(of).collect::<Vec<_>>());
                json!({
                    "shots": shots,
                    "mean": over(|found| found.calibration_error),
                    "mean_by_chance": over(|found| found.calibration_error_by_chance),
                    "together": self.calibration_together(shots),
                })
            })
            .collect();
        json!({
            "method": self.name,
            "prompt": self.prompt,
            "accuracy": self.accuracy,
            "accuracy_deviation": self.deviation,
            "accuracy_interval": self.interval,
            "base": self.base,
            "new": self.new,
            "harmonic_mean": self.harmonic_mean,
            "calibration_error": self.calibration_error,
            "calibration_error_by_chance": self.calibration_error_by_chance,
            "calibration_error_together": self.calibration_together,
            "calibration_error_by_shots": by_shots,
            "unknown_auroc": self.recognition.map(|found| found.auroc),
            "known_refused": self.recognition.and_then(|found| found.known_refused),
            "unknown_refused": self.recognition.and_then(|found| found.unknown_refused),
            "parameters": self.parameters,
            "bytes": self.bytes(),
            "seconds": self.seconds,
            "runs": runs,
            "parts": detail,
        })
    }
}

/// The first part as it was tested.
fn first(trial: &TrialResult) -> Option<&Tested> {
    trial.parts.first()?.as_ref()
}

/// The calibration error on the first part, whose pictures show `truth`, of all `trials` together.
fn together(trials: &[&TrialResult], truth: &[usize]) -> CalibrationError {
    let tested = trials.iter().filter_map(|trial| first(trial));
    let tables: Vec<ArrayView2<f32>> = tested.map(|of| of.probabilities.view()).collect();
    CalibrationError::together(&tables, truth)
}

/// What `accuracy` means in a protocol: the other data sets' in cross, otherwise that of the classes that were fitted.
fn main_parts(protocol: Protocol, trial: &TrialResult) -> impl Iterator<Item = &Tested> {
    let parts = match protocol {
        Protocol::Cross => &trial.parts[1..],
        _ => &trial.parts[..1],
    };
    parts.iter().flatten()
}

fn main_accuracy(protocol: Protocol, trial: &TrialResult) -> Option<f64> {
    let found: Vec<f64> = main_parts(protocol, trial)
        .map(|tested| tested.assessment.accuracy)
        .collect();
    (!found.is_empty()).then(|| mean(&found))
}

fn detail(part: &str, names: &[&str], tested: &Tested) -> Value {
    let assessment = &tested.assessment;
    let classes: Vec<Value> = names
        .iter()
        .zip(&assessment.classes)
        .map(|(label, class)| {
            json!({
                "label": label,
                "precision": class.precision,
                "recall": class.recall,
                "f1": class.f1,
                "pictures": class.pictures,
            })
        })
        .collect();
    json!({
        "part": part,
        "pictures": assessment.pictures,
        "accuracy": assessment.accuracy,
        "accuracy_interval": assessment.interval,
        "calibration_error": assessment.calibration_error,
        "calibration_error_by_chance": assessment.calibration_error_by_chance,
        "reliability": assessment.reliability,
        "classes": classes,
        "confusion": assessment.confusion,
    })
}

/// NaN of nothing, which JSON shows as null.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation of a sample.
fn deviation(values: &[f64]) -> f64 {
    let middle = mean(values);
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}
