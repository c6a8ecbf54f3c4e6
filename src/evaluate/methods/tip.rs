//! Tip-Adapter without training (arXiv 2207.09519): a picture that resembles a remembered shot is drawn to its class,
//! beside what the plain template says. Classes without shots are left to the template.

use super::{Fitted, Predictor};
use crate::adapt::Task;
use crate::adapt::features::FeatureSet;
use ndarray::{Array2, ArrayView2};

/// Weight of the memories against the template, the paper's first choice.
const ALPHA: f32 = 1.0;
/// How sharply likeness counts, the paper's first choice.
const BETA: f32 = 5.5;

/// The remembered shots.
#[derive(Debug, Clone)]
pub struct Cache {
    /// L2-normalised features, `[shots, joint]`.
    keys: Array2<f32>,
    /// A class index for each.
    labels: Vec<usize>,
    classes: usize,
}

impl Cache {
    /// `alpha sum over shots of exp(-beta (1 - cosine))` of each class, `[pictures, classes]`.
    pub fn scores(&self, features: ArrayView2<f32>) -> Array2<f32> {
        let likeness = features
            .dot(&self.keys.t())
            .mapv(|cosine| (-BETA * (1.0 - cosine)).exp());
        let mut scores = Array2::zeros((features.nrows(), self.classes));
        for (mut score, likeness) in scores.outer_iter_mut().zip(likeness.outer_iter()) {
            for (&label, likeness) in self.labels.iter().zip(likeness) {
                score[label] += ALPHA * likeness;
            }
        }
        scores
    }
}

/// Remembers all shots.
pub fn fit(task: &Task, shots: &FeatureSet) -> Fitted {
    let (keys, labels) = shots.plain();
    let parameters = keys.len();
    let classes = task.labels.len();
    let cache = Cache {
        keys,
        labels,
        classes,
    };
    Fitted::untrained(parameters, Predictor::Cache(cache))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::methods::tests::Case;

    #[test]
    fn the_scores_are_those_of_numpy() {
        let case = Case::read();
        let (keys, labels) = case.shots.plain();
        let cache = Cache {
            keys,
            labels,
            classes: case.classes,
        };
        case.assert_near(&cache.scores(case.test.view()), "tip_scores");
    }
}
