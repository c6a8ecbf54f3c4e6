//! What a prompt leaves over, in closed form: for each label the mean feature of its shots, and what is added to its
//! score. Kept in eight bits.

use super::Label;
use super::labels::places_among;
use super::record::MAX_WIDTH;
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// Of what is added to the scores of labels with shots.
const SHARE_OF_NEW: f32 = 0.5;
/// More than any number here: what is added to cosines, and scales of rows of features, are about 1 or less.
const LARGEST: f32 = 1e6;

/// The mean features of labels, and a linear function that is added to the prompt's scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Prototypes {
    /// The mean feature of each label's shots, `[labels, joint]`; zero where there were none.
    pub means: EightBits,
    /// Added to the text features where pictures are scored, `[labels, joint]`; zero for a label without shots.
    pub weight: EightBits,
    /// Added to the scores, which are cosines before; one a label.
    pub bias: Vec<f32>,
    /// What scores are multiplied by where [their evidence](crate::classifier::evidence) joins the similarity; 0 where it does
    /// not, as in prompts that older programs made.
    pub sharpness: f32,
}

impl Prototypes {
    /// Of `means` and `weight`, `[labels, joint]` both, and one `bias` a label.
    pub fn new(means: ArrayView2<f32>, weight: ArrayView2<f32>, bias: &Array1<f32>) -> Prototypes {
        Prototypes {
            means: EightBits::of(means),
            weight: EightBits::of(weight),
            bias: bias.to_vec(),
            sharpness: 0.0,
        }
    }

    /// The same with another sharpness.
    pub fn with_sharpness(self, sharpness: f32) -> Prototypes {
        Prototypes { sharpness, ..self }
    }

    /// Whether there were shots of the label with this index.
    pub fn has_shots(&self, label: usize) -> bool {
        self.means.scales[label] > 0.0
    }

    /// The labels without shots beside labels with some, as their indices. None where no label has any: such prototypes are what the
    /// mean of several prompts' contexts misses of their scores, and say nothing of who was shown what.
    pub fn without_shots(&self) -> Vec<usize> {
        let labels = 0..self.bias.len();
        let (with, without): (Vec<usize>, Vec<usize>) =
            labels.partition(|&label| self.has_shots(label));
        if with.is_empty() { with } else { without }
    }

    /// The same where labels without shots have added to their scores what [`Prototypes::for_labels`] gives those that are not here.
    pub fn with_share_of_new(mut self) -> Prototypes {
        let share = self.share_of_new();
        for label in self.without_shots() {
            self.bias[label] = share;
        }
        self
    }

    /// The same for other `labels`, by name: those of `own`, in whose order these are, keep theirs. All others have no mean, and half of
    /// what is added to a label's own mean feature, in the mean, added to their scores.
    pub fn for_labels(&self, own: &[Label], labels: &[Label]) -> Prototypes {
        let share = self.share_of_new();
        let places = places_among(own, labels);
        let bias = |place: &Option<usize>| place.map_or(share, |place| self.bias[place]);
        Prototypes {
            means: self.means.rows(&places),
            weight: self.weight.rows(&places),
            bias: places.iter().map(bias).collect(),
            sharpness: self.sharpness,
        }
    }

    /// What is added to the score of a label without shots beside labels with some: half of what these add to the score of their
    /// own mean feature, in the mean. What is known of a label speaks for it wherever it is near; with nothing against that, a
    /// label of which nothing is known would hardly be chosen even for pictures of its own (docs/results/adaptation.md).
    fn share_of_new(&self) -> f32 {
        let (means, weight) = (self.means.table(), self.weight.table());
        let with_shots = (0..self.bias.len()).filter(|&label| self.has_shots(label));
        let added: Vec<f32> = with_shots
            .map(|label| weight.row(label).dot(&means.row(label)) + self.bias[label])
            .collect();
        SHARE_OF_NEW * added.iter().sum::<f32>() / added.len().max(1) as f32
    }

    /// Numbers that are kept.
    pub fn numbers(&self) -> usize {
        let table = |table: &EightBits| table.values.len() + table.scales.len();
        table(&self.means) + table(&self.weight) + self.bias.len()
    }

    /// What cannot be of `labels` labels, if anything.
    pub fn fault(&self, labels: usize) -> Option<String> {
        let joint = self.means.values.ncols();
        let shape = |table: &EightBits| {
            table.values.dim() == (labels, joint) && table.scales.len() == labels
        };
        let sound = (1..=MAX_WIDTH).contains(&joint)
            && shape(&self.means)
            && shape(&self.weight)
            && self.bias.len() == labels;
        let scales = self.means.scales.iter().chain(&self.weight.scales);
        let possible = scales.clone().all(|scale| (0.0..=LARGEST).contains(scale));
        let finite = possible && self.bias.iter().all(|bias| bias.abs() <= LARGEST);
        let sharpness = self.sharpness;
        if !sound {
            Some(format!("its prototypes are not those of {labels} labels"))
        } else if !finite {
            Some(
                "its prototypes hold a number that is not finite, too large, or negative where it must not be"
                    .into(),
            )
        } else if sharpness != 0.0 && !(1e-3..=1e6).contains(&sharpness) {
            Some(format!("the sharpness of its prototypes is {sharpness}"))
        } else {
            None
        }
    }
}

/// A table in eight bits: each row is whole numbers from -127 to 127 times the row's scale.
#[derive(Clone, Debug, PartialEq)]
pub struct EightBits {
    /// One a row, not negative.
    pub scales: Vec<f32>,
    /// The whole numbers.
    pub values: Array2<i8>,
}

impl EightBits {
    /// The nearest to `table`.
    pub fn of(table: ArrayView2<f32>) -> EightBits {
        let largest = |row: ndarray::ArrayView1<f32>| row.fold(0.0f32, |most, x| most.max(x.abs()));
        let scales: Vec<f32> = table.outer_iter().map(|row| largest(row) / 127.0).collect();
        let values = Array2::from_shape_fn(table.dim(), |(row, column)| match scales[row] {
            0.0 => 0,
            scale => (table[[row, column]] / scale).round() as i8,
        });
        EightBits { scales, values }
    }

    /// As ordinary numbers.
    pub fn table(&self) -> Array2<f32> {
        let mut table = self.values.mapv(f32::from);
        for (mut row, &scale) in table.outer_iter_mut().zip(&self.scales) {
            row *= scale;
        }
        table
    }

    /// The rows at `places`; of none a row of zeros.
    fn rows(&self, places: &[Option<usize>]) -> EightBits {
        let mut values = Array2::zeros((places.len(), self.values.ncols()));
        for (mut row, place) in values.outer_iter_mut().zip(places) {
            if let Some(place) = place {
                row.assign(&self.values.index_axis(Axis(0), *place));
            }
        }
        EightBits {
            scales: places
                .iter()
                .map(|place| place.map_or(0.0, |place| self.scales[place]))
                .collect(),
            values,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Prototypes of `labels` labels and `joint` numbers each.
    pub fn prototypes(labels: usize, joint: usize) -> Prototypes {
        let mut rng = Rng::new(6);
        let mut table = || Array2::from_shape_simple_fn((labels, joint), || 0.1 * rng.normal());
        let (means, weight) = (table(), table());
        let bias = Array1::from_shape_fn(labels, |label| 0.01 * label as f32);
        Prototypes::new(means.view(), weight.view(), &bias).with_sharpness(20.0)
    }

    #[test]
    fn eight_bits_are_half_a_scale_away_at_most() {
        let mut rng = Rng::new(2);
        let mut table = Array2::from_shape_simple_fn((3, 50), || rng.normal());
        table.row_mut(1).fill(0.0);
        let kept = EightBits::of(table.view());
        for ((row, column), x) in kept.table().indexed_iter() {
            assert!((x - table[[row, column]]).abs() <= 0.5001 * kept.scales[row]);
        }
        assert_eq!(kept.scales[1], 0.0);
        assert_eq!(EightBits::of(kept.table().view()).values, kept.values);
    }

    #[test]
    fn labels_keep_theirs_by_name_and_new_ones_have_half_of_what_these_add_to_their_own() {
        let label = |name| Label::new(name, None).unwrap();
        let own = [label("red_mug"), label("key")];
        let kept = prototypes(2, 4);
        let other = kept.for_labels(&own, &[label("key"), label("jar"), label("Red mug")]);
        let (before, after) = (kept.weight.table(), other.weight.table());
        assert_eq!(after.row(0), before.row(1));
        assert_eq!(after.row(2), before.row(0));
        assert!(after.row(1).iter().all(|&x| x == 0.0));
        let added =
            |label: usize| before.row(label).dot(&kept.means.table().row(label)) + kept.bias[label];
        let share = 0.25 * (added(0) + added(1));
        assert!(share.abs() > 1e-3 && (other.bias[1] - share).abs() < 1e-6);
        assert_eq!([other.bias[0], other.bias[2]], [kept.bias[1], kept.bias[0]]);
        assert_eq!(other.means.table().row(0), kept.means.table().row(1));
        assert_eq!(other.fault(3), None);
    }

    #[test]
    fn a_label_without_shots_has_the_share_of_new_ones() {
        let kept = prototypes(3, 4);
        let mut means = kept.means.table();
        means.row_mut(1).fill(0.0);
        let (weight, bias) = (kept.weight.table(), Array1::from(kept.bias.clone()));
        let kept = Prototypes::new(means.view(), weight.view(), &bias);
        let shared = kept.clone().with_share_of_new();
        let new = kept.for_labels(&[], &[Label::new("jar", None).unwrap()]);
        assert_ne!(new.bias[0], kept.bias[1]);
        assert_eq!(shared.bias, [kept.bias[0], new.bias[0], kept.bias[2]]);
    }

    #[test]
    fn prototypes_of_other_labels_or_without_numbers_are_faulty() {
        let mut kept = prototypes(3, 4);
        assert_eq!(kept.fault(3), None);
        assert!(kept.fault(2).is_some());
        for sharpness in [f32::NAN, -1.0] {
            let fault = kept.clone().with_sharpness(sharpness).fault(3).unwrap();
            assert!(fault.contains("sharpness"), "{fault}");
        }
        // Numbers that eight bits can be multiplied by, and whose sums are still numbers; a scale below zero would hide a mean.
        for number in [f32::NAN, f32::INFINITY, 3e38] {
            let (mut bias, mut means, mut weight) = (kept.clone(), kept.clone(), kept.clone());
            bias.bias[0] = number;
            means.means.scales[1] = number;
            weight.weight.scales[2] = number;
            for faulty in [bias, means, weight] {
                assert!(faulty.fault(3).unwrap().contains("too large"));
            }
        }
        kept.means.scales[0] = -0.1;
        assert!(kept.fault(3).is_some());
    }
}
