//! The nearest class mean: each class is the mean feature of its shots, by cosine.

use super::{Fitted, Predictor, class_means};
use crate::adapt::Task;
use crate::adapt::features::FeatureSet;
use ndarray::{Array1, Array2};

/// Takes the mean of each class.
pub fn fit(task: &Task, shots: &FeatureSet) -> Fitted {
    let weight = prototypes(shots, task.labels.len()) * task.model.logit_scale;
    let bias = Array1::zeros(weight.nrows());
    Fitted::untrained(weight.len(), Predictor::Linear { weight, bias })
}

/// The mean of each class, of length one.
fn prototypes(shots: &FeatureSet, classes: usize) -> Array2<f32> {
    let mut means = class_means(shots, classes);
    for mut mean in means.outer_iter_mut() {
        let length = mean.dot(&mean).sqrt();
        if length > 0.0 {
            mean /= length;
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::methods::tests::Case;

    #[test]
    fn cosines_to_the_means_are_those_of_numpy() {
        let case = Case::read();
        let prototypes = prototypes(&case.shots, case.classes);
        case.assert_near(&case.test.dot(&prototypes.t()), "ncm_cosines");
    }
}
