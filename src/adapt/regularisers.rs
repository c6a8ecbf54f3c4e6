//! What holds a prompt back while it is trained: the pull of its text features towards frozen ones (KgCoOp, arXiv
//! 2303.13283), and the information density of its context (DIP, arXiv 2312.10813). Each is a value with its gradient.

use super::options::{CommonShift, Density, Reference};
use super::{AdaptError, Task};
use crate::classifier::text_features;
use crate::prompt::{Template, density};
use ndarray::{Array2, ArrayView2, Axis};

/// The sentences whose mean stands for a label's name, besides the template: what a camera sees and how, in plain words.
const SENTENCES: [&str; 16] = [
    "a picture of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a close-up photo of a {}.",
    "a bright photo of a {}.",
    "a dark photo of a {}.",
    "a blurry photo of a {}.",
    "a grainy photo of a {}.",
    "a black and white photo of a {}.",
    "a cropped photo of a {}.",
    "a photo of a large {}.",
    "a photo of a small {}.",
    "a camera image of a {}.",
    "a photo taken outside of a {}.",
    "a photo taken inside of a {}.",
    "there is a {} in the picture.",
];

/// Half the mean squared distance of the text features from frozen ones, times a weight. For features of length one and
/// a single reference that is one minus the mean cosine.
pub struct Pull {
    /// `[classes, joint]`.
    target: Array2<f32>,
    weight: f32,
    common: CommonShift,
}

impl Pull {
    /// Towards what `reference` names, for the classes of `task` in the context rows `initial [n, d]`.
    ///
    /// # Errors
    /// If the text tower refuses the layout.
    pub fn new(
        task: &Task,
        initial: &Array2<f32>,
        (reference, common, weight): (Reference, CommonShift, f32),
    ) -> Result<Pull, AdaptError> {
        let tower = &task.model.text;
        let mut target = tower.class_features(initial.view(), &task.layout.suffixes)?;
        if reference == Reference::Sentences {
            for sentence in SENTENCES {
                let template = Template::parse(sentence).expect("a sentence with one place");
                // A label that just fits the template may be too long for a sentence: then the others stand for it.
                if let Ok(layout) = task.model.layout(&template, task.labels) {
                    target += &text_features(tower, &layout, None)?;
                }
            }
            for mut row in target.outer_iter_mut() {
                let length = row.dot(&row).sqrt().max(f32::MIN_POSITIVE);
                row /= length;
            }
        }
        Ok(Pull {
            target,
            weight,
            common,
        })
    }

    /// Its value for `texts [classes, joint]`; its gradient is added to `gradient`, of the same shape.
    pub fn add(&self, texts: ArrayView2<f32>, gradient: &mut Array2<f32>) -> f32 {
        let mut away = &texts - &self.target;
        if self.common == CommonShift::Free {
            let shift = away
                .mean_axis(Axis(0))
                .expect("a task has at least two labels");
            away -= &shift;
        }
        let weight = self.weight / texts.nrows() as f32;
        gradient.scaled_add(weight, &away);
        0.5 * weight * away.iter().map(|x| x * x).sum::<f32>()
    }
}

/// What DIP asks of the spectrum of a context `[n, d]`: `density.gain (1 - ID_1)`, and `density.tail` times the mean
/// singular value weighted by its place, as a share of the template's mean singular value.
pub struct Spectrum {
    density: Density,
    /// The sum of the singular values of the template's context.
    scale: f64,
}

impl Spectrum {
    /// None where the recipe asks nothing of the spectrum.
    pub fn new(density: Density, initial: ArrayView2<f32>) -> Option<Spectrum> {
        let asks = density.gain != 0.0 || density.tail != 0.0;
        asks.then(|| Spectrum {
            density,
            scale: density::singular_values(initial)
                .iter()
                .map(|&value| f64::from(value))
                .sum::<f64>()
                .max(f64::MIN_POSITIVE),
        })
    }

    /// Its value for a `context`, and the gradient.
    pub fn at(&self, context: ArrayView2<f32>) -> (f32, Array2<f32>) {
        let triples = density::singular_triples(context);
        let total: f64 = triples.iter().map(|triple| triple.value).sum();
        let first = triples.first().map_or(0.0, |triple| triple.value);
        let share = if total > 0.0 { first / total } else { 1.0 };
        let (gain, tail) = (f64::from(self.density.gain), f64::from(self.density.tail));
        let last = (triples.len().max(2) - 1) as f64;
        let mut value = gain * (1.0 - share);
        let mut gradient = Array2::<f32>::zeros(context.dim());
        for (place, triple) in triples.iter().enumerate() {
            let by_place = tail * place as f64 / last / self.scale;
            value += by_place * triple.value;
            if triple.value <= f64::EPSILON * first {
                continue;
            }
            let mut weight = by_place;
            if total > 0.0 {
                weight += gain * (share - f64::from(u8::from(place == 0))) / total;
            }
            for (mut row, left) in gradient.outer_iter_mut().zip(&triple.left) {
                for (entry, right) in row.iter_mut().zip(&triple.right) {
                    *entry += (weight * left * right) as f32;
                }
            }
        }
        (value as f32, gradient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn table(rng: &mut Rng, rows: usize, width: usize) -> Array2<f32> {
        Array2::from_shape_simple_fn((rows, width), || rng.normal())
    }

    /// The greatest difference of `gradient` from central differences of `value` at `at`.
    fn gap(gradient: &Array2<f32>, at: &Array2<f32>, value: &dyn Fn(&Array2<f32>) -> f32) -> f32 {
        let mut most = 0.0f32;
        for (index, &slope) in gradient.indexed_iter() {
            let moved = |by: f32| {
                let mut there = at.clone();
                there[index] += by;
                value(&there)
            };
            most = most.max((slope - (moved(1e-2) - moved(-1e-2)) / 2e-2).abs());
        }
        most
    }

    #[test]
    fn the_gradient_of_the_pull_matches_central_differences_with_and_without_the_common_shift() {
        let mut rng = Rng::new(3);
        let (target, texts) = (table(&mut rng, 4, 6), table(&mut rng, 4, 6));
        for common in [CommonShift::Held, CommonShift::Free] {
            let pull = Pull {
                target: target.clone(),
                weight: 1.5,
                common,
            };
            let mut gradient = Array2::zeros(texts.dim());
            pull.add(texts.view(), &mut gradient);
            let value = |texts: &Array2<f32>| pull.add(texts.view(), &mut Array2::zeros((4, 6)));
            assert!(gap(&gradient, &texts, &value) < 2e-3);
        }
    }

    #[test]
    fn values_and_gradients_are_those_of_pytorch() {
        let fixture = include_str!("../../tests/fixtures/adapt/regularisers.json");
        let fixture: serde_json::Value = serde_json::from_str(fixture).unwrap();
        let number = |value: &serde_json::Value| value.as_f64().unwrap() as f32;
        let table = |value: &serde_json::Value| {
            let rows: Vec<Vec<f32>> = serde_json::from_value(value.clone()).unwrap();
            Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j])
        };
        let assert_near = |name: &str, value: f32, gradient: &Array2<f32>| {
            let expected = &fixture[name];
            assert!((value - number(&expected["value"])).abs() < 1e-4, "{name}");
            let away = gradient - &table(&expected["gradient"]);
            assert!(away.iter().all(|x| x.abs() < 1e-5), "{name}: {away}");
        };
        let texts = table(&fixture["texts"]);
        for (name, common) in [("held", CommonShift::Held), ("free", CommonShift::Free)] {
            let pull = Pull {
                target: table(&fixture["target"]),
                weight: number(&fixture["weight"]),
                common,
            };
            let mut gradient = Array2::zeros(texts.dim());
            let value = pull.add(texts.view(), &mut gradient);
            assert_near(name, value, &gradient);
        }
        let density = Density {
            gain: number(&fixture["gain"]),
            tail: number(&fixture["tail"]),
            ..Density::default()
        };
        let spectrum = Spectrum::new(density, table(&fixture["initial"]).view()).unwrap();
        let (value, gradient) = spectrum.at(table(&fixture["context"]).view());
        assert_near("spectrum", value, &gradient);
    }

    #[test]
    fn a_shift_of_all_labels_costs_nothing_only_where_it_is_free() {
        let mut rng = Rng::new(4);
        let target = table(&mut rng, 3, 5);
        let shifted = &target + &ndarray::arr1(&[0.5, -0.25, 0.0, 1.0, 0.125]);
        let value = |common| {
            let pull = Pull {
                target: target.clone(),
                weight: 1.0,
                common,
            };
            pull.add(shifted.view(), &mut Array2::zeros((3, 5)))
        };
        assert!(value(CommonShift::Held) > 0.5);
        assert!(value(CommonShift::Free) < 1e-9);
    }

    #[test]
    fn the_gradients_of_both_density_terms_match_central_differences() {
        let mut rng = Rng::new(5);
        let (initial, context) = (table(&mut rng, 4, 9), table(&mut rng, 4, 9));
        for (gain, tail) in [(2.0, 0.0), (0.0, 3.0), (0.7, 0.9)] {
            let density = Density {
                gain,
                tail,
                ..Density::default()
            };
            let spectrum = Spectrum::new(density, initial.view()).unwrap();
            let (_, gradient) = spectrum.at(context.view());
            let value = |context: &Array2<f32>| spectrum.at(context.view()).0;
            let gap = gap(&gradient, &context, &value);
            assert!(gap < 1e-3, "gain {gain}, tail {tail}: {gap}");
        }
        assert!(Spectrum::new(Density::default(), initial.view()).is_none());
    }

    #[test]
    fn a_context_of_rank_one_has_all_density_and_no_tail() {
        let column = ndarray::arr2(&[[1.0f32], [2.0], [-1.0]]);
        let context = column.dot(&ndarray::arr2(&[[0.5f32, 0.0, -1.0, 2.0]]));
        let density = Density {
            gain: 1.0,
            tail: 1.0,
            ..Density::default()
        };
        let spectrum = Spectrum::new(density, context.view()).unwrap();
        let (value, gradient) = spectrum.at(context.view());
        assert!(value.abs() < 1e-6, "{value}");
        assert!(gradient.iter().all(|x| x.is_finite()));
    }
}
