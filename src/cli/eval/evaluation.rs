//! One evaluation, prepared and run: features once, then every trial on them. It must not know flags beyond the
//! extraction's, nor how results are shown.

use super::super::output::percent;
use super::super::{Context, usage};
use super::data_set::{DataSet, Extracted, File, extract};
use super::{Arguments, Plan, Protocol};
use crate::adapt::AdaptError;
use crate::adapt::features::{Extraction, FeatureSet};
use crate::adapt::trainer::StepReport;
use crate::classifier::context_rows;
use crate::clip::Model;
use crate::evaluate::{
    Classifier, EvaluateError, Fitted, Part, Task, Trial, TrialResult, base_and_new, choose_shots,
    run as run_trial, test,
};
use crate::prompt::{Template, TokenLayout};
use crate::store::LoadedPrompt;
use ndarray::Axis;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Classes that are told apart: some of a data set's.
pub struct Classes {
    pub names: Vec<String>,
    pub layout: TokenLayout,
    /// Their indices in the data set.
    pub members: Vec<usize>,
}

impl Classes {
    /// The pictures of these classes, numbered as they are here.
    fn pictures(&self, set: &FeatureSet) -> FeatureSet {
        set.filter_classes(|class| self.members.iter().position(|&member| member == class))
    }
}

/// One part of the test: classes, their pictures' features, and where the pictures are.
pub struct TestPart {
    pub name: String,
    pub classes: Classes,
    pub pictures: FeatureSet,
    pub files: Vec<PathBuf>,
    fitted: bool,
}

/// Everything that trials share.
pub struct Evaluation<'a> {
    pub plan: Plan,
    pub model: &'a Model,
    pub source: DataSet,
    /// The classes that methods are fitted to.
    pub fitted: Classes,
    train: Extracted,
    /// For each row of `train`, its place in `source.train`.
    train_files: Vec<usize>,
    pub parts: Vec<TestPart>,
    /// Processor time to decode and encode a picture.
    pub seconds_each: f64,
    skipped_tests: usize,
}

impl<'a> Evaluation<'a> {
    pub fn prepare(
        arguments: &Arguments,
        plan: Plan,
        source: DataSet,
        targets: Vec<DataSet>,
        model: &'a Model,
        context: &Context,
    ) -> anyhow::Result<Evaluation<'a>> {
        let threads = context.threads;
        let extraction = |views| Extraction {
            views,
            seed: 0,
            threads,
        };
        let everything: Vec<usize> = (0..source.labels.len()).collect();
        let classes =
            |data: &DataSet, members: &[usize]| classes(&plan.template, model, data, members);
        let (fitted, new) = match plan.protocol {
            Protocol::BaseToNew => base_and_new(&source.order),
            _ => (everything, Vec::new()),
        };

        // Only pictures that some trial trains on are decoded.
        let truth: Vec<usize> = source.train.iter().map(|(_, class)| *class).collect();
        let chosen: BTreeSet<usize> = plan
            .trains()
            .then_some(())
            .into_iter()
            .flat_map(|()| plan.draws())
            .flat_map(|(seed, shots)| choose_shots(&truth, source.labels.len(), shots, seed))
            .filter(|&row| fitted.contains(&truth[row]))
            .collect();
        let train_files: Vec<usize> = chosen.into_iter().collect();
        let files: Vec<File> = train_files
            .iter()
            .map(|&row| source.train[row].clone())
            .collect();
        let train = extract(model, &files, extraction(arguments.views as usize), context)?;
        let train_files = train.files.iter().map(|&row| train_files[row]).collect();

        let mut parts = Vec::new();
        let tested = extract(model, &source.test, extraction(1), context)?;
        let (mut seconds_each, mut skipped_tests) = (tested.seconds_each, tested.skipped);
        let names = match plan.protocol {
            Protocol::BaseToNew => ["base", "new"],
            Protocol::Cross => ["source", ""],
            _ => ["test", ""],
        };
        let fitted_classes = classes(&source, &fitted)?;
        parts.push(part(
            names[0],
            classes(&source, &fitted)?,
            &source,
            &tested,
            true,
        ));
        if !new.is_empty() {
            parts.push(part(
                names[1],
                classes(&source, &new)?,
                &source,
                &tested,
                false,
            ));
        }
        for target in &targets {
            let all: Vec<usize> = (0..target.labels.len()).collect();
            let tested = extract(model, &target.test, extraction(1), context)?;
            seconds_each = seconds_each.max(tested.seconds_each);
            skipped_tests += tested.skipped;
            parts.push(part(
                &target.name,
                classes(target, &all)?,
                target,
                &tested,
                false,
            ));
        }
        Ok(Evaluation {
            fitted: fitted_classes,
            plan,
            model,
            source,
            train,
            train_files,
            parts,
            seconds_each,
            skipped_tests,
        })
    }

    pub fn skipped(&self) -> usize {
        self.train.skipped + self.skipped_tests
    }

    /// Fits and tests every method in every trial; the prompt that was given comes last in each.
    pub fn run(&self, context: &Context) -> anyhow::Result<Vec<TrialResult>> {
        let truth: Vec<usize> = self.source.train.iter().map(|(_, class)| *class).collect();
        let draws = self.plan.draws();
        let fits = (draws.len() * self.plan.techniques.len()) as u64;
        let bar = context.output.progress("methods", fits);
        let mut progress = |report: &StepReport| {
            bar.set_message(format!(
                "step {} of {}, loss {:.4}, accuracy {}",
                report.step,
                report.steps,
                report.loss,
                percent(report.accuracy)
            ));
            match context.stopped() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let mut results = Vec::new();
        for (seed, shots) in draws {
            let rows = choose_shots(&truth, self.source.labels.len(), shots, seed);
            if self.plan.trains() {
                self.enough(&rows)?;
            }
            let shots_set = self.fitted.pictures(&self.shots(&rows));
            let trial = Trial {
                seed,
                shots,
                task: Task {
                    tower: &self.model.text,
                    scale: self.model.logit_scale,
                    names: &self.fitted.names,
                    layout: &self.fitted.layout,
                    shots: &shots_set,
                },
                parts: self.parts.iter().map(TestPart::as_part).collect(),
            };
            for &technique in &self.plan.techniques {
                results.extend(
                    run_trial(&trial, &[technique], &self.plan.options, &mut progress)
                        .map_err(explained)?,
                );
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        if let Some((_, loaded)) = &self.plan.prompt {
            results.push(self.test_prompt(loaded)?);
        }
        Ok(results)
    }

    /// The rows of the training features that are of the files at `rows`.
    fn shots(&self, rows: &[usize]) -> FeatureSet {
        let present: Vec<usize> = (0..self.train_files.len())
            .filter(|&row| rows.binary_search(&self.train_files[row]).is_ok())
            .collect();
        FeatureSet {
            features: self.train.set.features.select(Axis(0), &present),
            labels: present
                .iter()
                .map(|&row| self.train.set.labels[row])
                .collect(),
        }
    }

    /// Every class that is fitted needs a picture that could be read.
    fn enough(&self, rows: &[usize]) -> anyhow::Result<()> {
        let found = self.shots(rows).labels;
        let missing = |class: &&usize| !found.contains(class);
        match self.fitted.members.iter().find(missing) {
            Some(&class) => Err(AdaptError::NoPictures {
                label: self.source.labels[class].name.clone(),
            }
            .into()),
            None => Ok(()),
        }
    }

    fn test_prompt(&self, loaded: &LoadedPrompt) -> anyhow::Result<TrialResult> {
        let record = &loaded.record;
        let (tower, layout) = (&self.model.text, &self.fitted.layout);
        let classifier = Classifier::Prompt {
            context: context_rows(tower, layout, Some(&record.delta))?,
            change: Some(record.delta.clone()),
        };
        let parts = self
            .parts
            .iter()
            .map(|part| {
                test(
                    &classifier,
                    &self.model.text,
                    self.model.logit_scale,
                    &part.as_part(),
                )
            })
            .collect::<Result<_, _>>()?;
        Ok(TrialResult {
            technique: record.method().into(),
            seed: record.seed,
            shots: None,
            fitted: Fitted {
                classifier,
                parameters: record.delta.parameters(),
                history: Vec::new(),
                seconds: f64::from(record.provenance.seconds),
            },
            parts,
        })
    }
}

impl TestPart {
    fn as_part(&self) -> Part<'_> {
        Part {
            name: &self.name,
            layout: &self.classes.layout,
            pictures: &self.pictures,
            fitted: self.fitted,
        }
    }
}

fn classes(
    template: &Template,
    model: &Model,
    data: &DataSet,
    members: &[usize],
) -> anyhow::Result<Classes> {
    let labels: Vec<_> = members
        .iter()
        .map(|&class| data.labels[class].clone())
        .collect();
    let layout = model.layout(template, &labels)?;
    Ok(Classes {
        names: labels.into_iter().map(|label| label.name).collect(),
        layout,
        members: members.to_vec(),
    })
}

fn part(
    name: &str,
    classes: Classes,
    data: &DataSet,
    tested: &Extracted,
    fitted: bool,
) -> TestPart {
    let files = tested
        .files
        .iter()
        .map(|&file| &data.test[file])
        .filter(|(_, class)| classes.members.contains(class))
        .map(|(path, _)| path.clone())
        .collect();
    TestPart {
        name: name.to_owned(),
        pictures: classes.pictures(&tested.set),
        classes,
        files,
        fitted,
    }
}

/// A rank that does not fit is a flag that cannot work.
fn explained(error: EvaluateError) -> anyhow::Error {
    match error {
        EvaluateError::Adapt(AdaptError::Factors(error)) => usage(error),
        error => error.into(),
    }
}
