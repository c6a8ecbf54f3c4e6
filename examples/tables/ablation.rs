//! What each part of DIP (arXiv 2312.10813) and of our recipe does: trained on half of the labels, with one thing changed.

use super::base_to_new::{Found, Set, away, sets};
use super::{Classes, mean};
use anyhow::Result;
use edge_rlp::adapt::features::FeatureSet;
use edge_rlp::adapt::trainer::{Objective, Shots, train};
use edge_rlp::adapt::{CommonShift, Judging, Options, Recipe, Reference};
use edge_rlp::clip::Model;
use edge_rlp::prompt::{Delta, Factors, Tuning, density};
use edge_rlp::rng::Rng;
use ndarray::Array2;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// How a variant comes to its prompt.
enum Way {
    Template,
    Trained(Options),
    /// The context is two random factors alone.
    WithoutTemplate,
}

/// A variant on every set: accuracy, and the information density that the context reached.
struct Row {
    found: Vec<Found>,
    densities: Vec<f32>,
    parameters: usize,
}

pub fn table(model: &Model, folders: &[PathBuf]) -> Result<()> {
    let sets = sets(model, folders)?;
    println!("| prompt | numbers | density | base | new | harmonic mean | against the default |");
    println!("|---|---|---|---|---|---|---|");
    let default = Row::measure(&sets, &Way::Trained(Options::of(Tuning::Rlp)))?;
    default.print("**rlp, rank 4: the default**", &default);
    for (name, way) in variants() {
        Row::measure(&sets, &way)?.print(name, &default);
    }
    Ok(())
}

/// What is compared with the default, what training takes longest for last.
fn variants() -> Vec<(&'static str, Way)> {
    let changed = |change: fn(&mut Options)| {
        let mut options = Options::of(Tuning::Rlp);
        change(&mut options);
        Way::Trained(options)
    };
    let pulled = Options::of(Tuning::Coop).with_recipe(Recipe::of(Tuning::Rlp));
    let dropped = |rate| {
        let recipe = Recipe::of(Tuning::Rlp).with_dropout(rate);
        Way::Trained(Options::of(Tuning::Rlp).with_recipe(recipe))
    };
    vec![
        ("zero-shot template", Way::Template),
        (
            "density term, weight 1",
            changed(|of| of.recipe.density.gain = 1.0),
        ),
        (
            "singular values by place, weight 1",
            changed(|of| of.recipe.density.tail = 1.0),
        ),
        (
            "both, weight 1",
            changed(|of| {
                of.recipe.density.gain = 1.0;
                of.recipe.density.tail = 1.0;
            }),
        ),
        ("rank 1", changed(|of| of.rank = Some(1))),
        ("rank 2", changed(|of| of.rank = Some(2))),
        (
            "rank 1, full-rank path of 40 steps",
            changed(|of| {
                of.rank = Some(1);
                of.recipe.density.full_rank_steps = 40;
            }),
        ),
        (
            "rank 1, all of DIP: path, both terms",
            changed(|of| {
                of.rank = Some(1);
                of.recipe.density.full_rank_steps = 40;
                of.recipe.density.gain = 1.0;
                of.recipe.density.tail = 1.0;
            }),
        ),
        (
            "rank 1, started at random instead of at the template",
            Way::WithoutTemplate,
        ),
        (
            "no pull towards the template",
            changed(|of| of.recipe.anchor = 0.0),
        ),
        (
            "pull towards seventeen sentences",
            changed(|of| of.recipe.reference = Reference::Sentences),
        ),
        (
            "the common shift free of the pull",
            changed(|of| of.recipe.common_shift = CommonShift::Free),
        ),
        (
            "coop: the full table, no pull",
            Way::Trained(Options::of(Tuning::Coop)),
        ),
        ("the full table with the pull of rlp", Way::Trained(pulled)),
        ("dropout 0.1", dropped(0.1)),
        ("dropout 0.3", dropped(0.3)),
    ]
}

impl Row {
    fn measure(sets: &[Set], way: &Way) -> Result<Row> {
        let mut row = Row {
            found: Vec::new(),
            densities: Vec::new(),
            parameters: 0,
        };
        for set in sets {
            let mut found = Found::default();
            for draw in &set.draws {
                let delta = prompt(&set.base, &draw.base.train, way, draw.seed)?;
                let delta = delta.as_ref();
                let context = set.base.task().context(delta)?;
                let values = density::singular_values(context.view());
                row.densities.push(density::information_density(&values, 1));
                row.parameters = delta.map_or(0, Delta::parameters);
                found.base.push(set.base.accuracy(delta, &draw.base.test)?);
                found.new.push(set.new.accuracy(delta, &draw.new)?);
            }
            row.found.push(found);
        }
        Ok(row)
    }

    fn print(&self, name: &str, default: &Row) {
        let over = |of: fn(&Found) -> f32| {
            let values: Vec<f32> = self.found.iter().map(of).collect();
            format!("{:.1}", 100.0 * mean(&values))
        };
        let cells = [
            name.to_owned(),
            self.parameters.to_string(),
            format!("{:.3}", mean(&self.densities)),
            over(|found| mean(&found.base)),
            over(|found| mean(&found.new)),
            over(Found::harmonic),
            away(&self.found, &default.found),
        ];
        println!("| {} |", cells.join(" | "));
    }
}

/// What `way` makes of the shots `set`, accepted or not: this compares methods, not verdicts.
fn prompt(classes: &Classes, set: &FeatureSet, way: &Way, seed: u64) -> Result<Option<Delta>> {
    match way {
        Way::Template => Ok(None),
        Way::Trained(options) => {
            let options = options.with_judging(Judging::HeldOut { share: 0.0 });
            Ok(Some(classes.adapt(set, &options.with_seed(seed))?.delta))
        }
        Way::WithoutTemplate => without_template(classes, set, seed).map(Some),
    }
}

/// Initialisation off: the context is `U V` alone, both factors random, as if there were no template. What comes
/// back is the change that turns the template into that context.
fn without_template(classes: &Classes, set: &FeatureSet, seed: u64) -> Result<Delta> {
    let template = classes.task().context(None)?;
    let (tokens, width) = template.dim();
    let spread = (template.iter().map(|x| x * x).sum::<f32>() / template.len() as f32).sqrt();
    let mut rng = Rng::with_stream(seed, 0xab1a);
    let factors = Factors {
        u: Array2::from_shape_simple_fn((tokens, 1), || rng.normal()),
        v: Array2::from_shape_simple_fn((1, width), || spread * rng.normal()),
    };
    let (features, labels) = set.every_view();
    let objective = Objective {
        task: classes.task(),
        initial: &Array2::zeros((tokens, width)),
        shots: Shots {
            features: features.view(),
            labels: &labels,
        },
    };
    let options = Options::of(Tuning::Rlp).with_seed(seed);
    let start = [Delta::LowRank(factors)];
    let reached = train(&objective, &start, &options, &mut |_| {
        ControlFlow::Continue(())
    })?;
    Ok(Delta::Full(reached.delta.matrix() - template))
}
