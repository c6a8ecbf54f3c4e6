//! One evaluation, prepared and run: features once, then every trial on them.

use super::super::output::{self, percent};
use super::super::{Context, usage};
use super::features::{Extracted, extract};
use super::{Configuration, Protocol};
use crate::adapt::features::{Extraction, FeatureSet};
use crate::adapt::{AdaptError, StepReport, Task};
use crate::clip::Model;
use crate::evaluate::data_set::{DataSet, File};
use crate::evaluate::{
    EvaluateError, FitOptions, Fitted, Kept, Lesson, Part, PartClasses, Predictor, Trial,
    TrialResult, base_and_new, choose_shots, run as run_trial, test,
};
use crate::prompt::{Label, Region, Template, TokenLayout};
use crate::store::LoadedPrompt;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Classes to choose from: some of a data set's.
pub struct Classes {
    pub labels: Vec<Label>,
    pub layout: TokenLayout,
    /// Their indices in the data set.
    pub members: Vec<usize>,
}

impl Classes {
    pub fn names(&self) -> Vec<&str> {
        let names = self.labels.iter().map(|label| label.name.as_str());
        names.collect()
    }

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
    kind: PartClasses,
}

/// Everything that trials share.
pub struct Evaluation<'a> {
    pub configuration: Configuration,
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
    /// Reads and encodes the pictures of `source` that some trial trains on, and all that are tested on.
    pub fn prepare(
        configuration: Configuration,
        source: DataSet,
        targets: Vec<DataSet>,
        model: &'a Model,
        context: &Context,
    ) -> anyhow::Result<Evaluation<'a>> {
        let everything = || (0..source.labels.len()).collect();
        let (base, new) = match configuration.protocol {
            Protocol::BaseToNew => base_and_new(&source.order),
            _ => (everything(), Vec::new()),
        };
        let chosen = training_rows(&configuration, &source, &base);
        let files: Vec<File> = chosen
            .iter()
            .map(|&row| source.train[row].clone())
            .collect();
        let train = extract(
            model,
            &files,
            &configuration.regions,
            extraction(configuration.views, context),
            context,
        )?;
        let train_files = train.files.iter().map(|&row| chosen[row]).collect();

        let mut tests = Tests {
            template: &configuration.template,
            regions: &configuration.regions,
            model,
            context,
            parts: Vec::new(),
            seconds_each: 0.0,
            skipped: 0,
        };
        let tested = tests.extract(&source)?;
        let name = match configuration.protocol {
            Protocol::BaseToNew => "base",
            Protocol::Cross => "source",
            _ => "test",
        };
        tests.add(name, PartClasses::Base, &source, &tested, &base)?;
        if !new.is_empty() {
            tests.add("new", PartClasses::New, &source, &tested, &new)?;
        }
        for target in &targets {
            let tested = tests.extract(target)?;
            let all: Vec<usize> = (0..target.labels.len()).collect();
            tests.add(&target.name, PartClasses::Foreign, target, &tested, &all)?;
        }
        let Tests {
            parts,
            seconds_each,
            skipped,
            ..
        } = tests;
        Ok(Evaluation {
            fitted: Classes::new(&configuration.template, model, &source, &base)?,
            configuration,
            model,
            source,
            train,
            train_files,
            parts,
            seconds_each,
            skipped_tests: skipped,
        })
    }

    /// Pictures that could not be read.
    pub fn skipped(&self) -> usize {
        self.train.skipped + self.skipped_tests
    }

    /// Fits and tests every method in every trial; the prompt that was given comes last in each.
    pub fn run(&self, context: &Context) -> anyhow::Result<Vec<TrialResult>> {
        let truth: Vec<usize> = self.source.train.iter().map(|(_, class)| *class).collect();
        let draws = self.configuration.draws();
        let fits = (draws.len() * self.configuration.methods.len()) as u64;
        let bar = context.output.progress("methods", fits);
        let mut progress = |report: &StepReport| {
            bar.set_message(format!(
                "step {} of {}, loss {:.4}, accuracy {}",
                report.step,
                report.steps,
                report.loss,
                percent(report.accuracy)
            ));
            if context.stopped() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let mut results = Vec::new();
        if self.configuration.trains()
            && let Some(few) = self.too_few(&truth, draws.iter().filter_map(|(_, shots)| *shots))
        {
            context.output.note(few);
        }
        for (seed, shots) in draws {
            let rows = choose_shots(&truth, self.source.labels.len(), shots, seed);
            if self.configuration.trains() {
                self.enough(&rows)?;
            }
            let pictures = self.fitted.pictures(&self.shots(&rows));
            let options = FitOptions {
                seed,
                ..self.configuration.options
            };
            let task = Task::new(self.model, &self.fitted.labels, &self.fitted.layout)?;
            let trial = Trial {
                seed,
                shots,
                lesson: Lesson::new(task, &pictures, options),
                parts: self.parts.iter().map(TestPart::as_part).collect(),
            };
            for &method in &self.configuration.methods {
                let result = run_trial(&trial, method, &mut progress);
                results.push(result.map_err(explained)?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        if let Some((_, loaded)) = &self.configuration.prompt {
            results.push(self.test_prompt(loaded, context)?);
        }
        Ok(results)
    }

    /// The rows of the training features that are of the files at `rows`.
    fn shots(&self, rows: &[usize]) -> FeatureSet {
        let present: Vec<usize> = (0..self.train_files.len())
            .filter(|&row| rows.binary_search(&self.train_files[row]).is_ok())
            .collect();
        self.train.set.select(&present)
    }

    /// Says which class has fewer pictures than some trial is to take of each, if any has.
    fn too_few(&self, truth: &[usize], shots: impl Iterator<Item = usize>) -> Option<String> {
        let most = shots.max()?;
        let count = |class: usize| truth.iter().filter(|&&of| of == class).count();
        let members = self.fitted.members.iter();
        let (pictures, &class) = members.map(|class| (count(*class), class)).min()?;
        let label = &self.source.labels[class].name;
        (pictures < most).then(|| {
            let pictures = output::count(pictures as u64, "picture");
            format!("{label} has {pictures} to learn from, and {most} of each label were asked for: where there are not as many, all are used")
        })
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

    fn test_prompt(&self, loaded: &LoadedPrompt, context: &Context) -> anyhow::Result<TrialResult> {
        let record = &loaded.record;
        if self.configuration.protocol == Protocol::BaseToNew {
            let learnt = |part: &&TestPart| {
                part.kind == PartClasses::New
                    && record.new_classes(&part.classes.labels).len() < part.classes.labels.len()
            };
            if self.parts.iter().any(|part| learnt(&part)) {
                context.output.note("the prompt was trained on labels that are taken for new ones here: its figures on those are no measure of what it knows of others");
            }
        }
        let prototypes = record.prototypes.as_ref();
        let predictor = |labels: &[Label]| {
            Predictor::Kept(Box::new(Kept {
                change: record.delta.clone(),
                prototypes: prototypes.map(|kept| kept.for_labels(&record.labels, labels)),
                new: record.new_classes(labels),
            }))
        };
        let fitted = |labels: &[Label]| Fitted {
            predictor: predictor(labels),
            calibration: record.calibration_for(labels).cloned(),
            parameters: record.delta.parameters() + prototypes.map_or(0, |kept| kept.numbers()),
            history: Vec::new(),
            seconds: f64::from(record.provenance.seconds),
        };
        let mut parts = Vec::new();
        for part in &self.parts {
            // Names that the prompt does not know have no prototypes, whatever the part is of.
            let of_part = Part {
                classes: PartClasses::Base,
                ..part.as_part()
            };
            parts.extend(test(&fitted(&part.classes.labels), self.model, &[of_part])?);
        }
        Ok(TrialResult {
            method: record.into(),
            seed: record.seed,
            shots: None,
            parts,
            recognition: None,
            fitted: fitted(&record.labels),
        })
    }
}

/// The rows of `source.train` that some trial trains on, for the classes `base`: no others are decoded.
fn training_rows(configuration: &Configuration, source: &DataSet, base: &[usize]) -> Vec<usize> {
    if !configuration.trains() {
        return Vec::new();
    }
    let truth: Vec<usize> = source.train.iter().map(|(_, class)| *class).collect();
    let draws = configuration.draws().into_iter();
    let chosen: BTreeSet<usize> = draws
        .flat_map(|(seed, shots)| choose_shots(&truth, source.labels.len(), shots, seed))
        .filter(|&row| base.contains(&truth[row]))
        .collect();
    chosen.into_iter().collect()
}

fn extraction(views: usize, context: &Context) -> Extraction {
    Extraction {
        views,
        seed: 0,
        threads: context.threads,
    }
}

impl TestPart {
    fn as_part(&self) -> Part<'_> {
        Part {
            name: &self.name,
            layout: &self.classes.layout,
            pictures: &self.pictures,
            classes: self.kind,
        }
    }
}

impl Classes {
    /// The classes `members` of `data`, in `template`.
    fn new(
        template: &Template,
        model: &Model,
        data: &DataSet,
        members: &[usize],
    ) -> anyhow::Result<Classes> {
        let labels = members.iter().map(|&class| data.labels[class].clone());
        let labels: Vec<Label> = labels.collect();
        Ok(Classes {
            layout: model.layout(template, &labels)?,
            labels,
            members: members.to_vec(),
        })
    }
}

/// The parts of the test as they are put together.
struct Tests<'a> {
    template: &'a Template,
    regions: &'a [Region],
    model: &'a Model,
    context: &'a Context,
    parts: Vec<TestPart>,
    /// The longest that a picture of a data set took.
    seconds_each: f64,
    skipped: usize,
}

impl Tests<'_> {
    /// The features of all test pictures of `data`.
    fn extract(&mut self, data: &DataSet) -> anyhow::Result<Extracted> {
        let extraction = extraction(1, self.context);
        let tested = extract(
            self.model,
            &data.test,
            self.regions,
            extraction,
            self.context,
        )?;
        self.seconds_each = self.seconds_each.max(tested.seconds_each);
        self.skipped += tested.skipped;
        Ok(tested)
    }

    /// Adds the classes `members` of `data`, whose features are `tested`.
    fn add(
        &mut self,
        name: &str,
        kind: PartClasses,
        data: &DataSet,
        tested: &Extracted,
        members: &[usize],
    ) -> anyhow::Result<()> {
        let classes = Classes::new(self.template, self.model, data, members)?;
        let files = tested.files.iter().map(|&file| &data.test[file]);
        let files = files.filter(|(_, class)| members.contains(class));
        self.parts.push(TestPart {
            name: name.to_owned(),
            pictures: classes.pictures(&tested.set),
            files: files.map(|(path, _)| path.clone()).collect(),
            classes,
            kind,
        });
        Ok(())
    }
}

/// A rank that does not fit is a flag that cannot work.
fn explained(error: EvaluateError) -> anyhow::Error {
    match error {
        EvaluateError::Adapt(AdaptError::Factors(error)) => usage(error),
        error => error.into(),
    }
}
