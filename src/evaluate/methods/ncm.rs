//! The nearest class mean: each class is the mean feature of its shots, by cosine.

use super::{Classifier, Fitted, Task, class_means};
use crate::adapt::features::FeatureSet;
use ndarray::{Array1, Array2};

pub fn fit(task: &Task) -> Fitted {
    let weight = prototypes(task.shots, task.layout.suffixes.len()) * task.scale;
    Fitted {
        parameters: weight.len(),
        classifier: Classifier::Linear {
            bias: Array1::zeros(weight.nrows()),
            weight,
        },
        history: Vec::new(),
        seconds: 0.0,
    }
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
