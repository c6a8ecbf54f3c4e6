//! The loss: cross-entropy of pictures against the text features of their labels, and what else scores and labels say
//! about a classifier.

use crate::classifier::{best, probabilities};
use ndarray::{Array2, ArrayView2, Axis};

/// Numbers of the table of probabilities that are kept at once.
const MOST_CELLS: usize = 1 << 22;

/// What one pass over all pictures gives.
#[derive(Debug, Clone)]
pub struct LossReport {
    /// Mean cross-entropy of `softmax(scale * image . text)`, in nats.
    pub loss: f32,
    /// Share of pictures whose best label is the right one, in `0..=1`.
    pub accuracy: f32,
    /// Gradient of the loss with respect to the text features, `[classes, joint]`.
    pub text_gradient: Array2<f32>,
}

/// Cross-entropy of `images [pictures, joint]` against `texts [classes, joint]`, both L2-normalised, with its
/// vector-Jacobian product for `texts`. `labels` holds a class index for each picture.
pub fn cross_entropy(
    images: ArrayView2<f32>,
    labels: &[usize],
    texts: ArrayView2<f32>,
    scale: f32,
) -> LossReport {
    // Thousands of labels have tables of gigabytes otherwise, one for each prompt that is trained.
    let rows = (MOST_CELLS / texts.nrows().max(1)).max(1);
    in_parts(rows, images, labels, texts, scale)
}

/// [`cross_entropy`], of so many pictures at a time.
fn in_parts(
    rows: usize,
    images: ArrayView2<f32>,
    labels: &[usize],
    texts: ArrayView2<f32>,
    scale: f32,
) -> LossReport {
    let pictures = labels.len().max(1) as f32;
    let (mut loss, mut correct) = (0.0f64, 0usize);
    let mut gradient: Option<Array2<f32>> = None;
    let parts = images.axis_chunks_iter(Axis(0), rows);
    for (images, labels) in parts.zip(labels.chunks(rows)) {
        let mut probabilities = probabilities(images, texts, scale);
        for (mut row, &label) in probabilities.outer_iter_mut().zip(labels) {
            correct += usize::from(best(row.view()) == label);
            loss -= f64::from(row[label].max(f32::MIN_POSITIVE).ln());
            row[label] -= 1.0;
        }
        let of_part = probabilities.t().dot(&images);
        gradient = Some(match gradient {
            Some(sum) => sum + of_part,
            None => of_part,
        });
    }
    let gradient = gradient.unwrap_or_else(|| Array2::zeros(texts.dim()));
    LossReport {
        loss: (loss / f64::from(pictures)) as f32,
        accuracy: correct as f32 / pictures,
        text_gradient: gradient * (scale / pictures),
    }
}

/// Share of pictures whose best label is the right one, in `0..=1`; 0 without pictures.
pub fn accuracy(images: ArrayView2<f32>, labels: &[usize], texts: ArrayView2<f32>) -> f32 {
    share_right(images.dot(&texts.t()).view(), labels)
}

/// Share of the rows of `scores [pictures, classes]` that are highest at their label; 0 without rows.
pub fn share_right(scores: ArrayView2<f32>, labels: &[usize]) -> f32 {
    let right = scores
        .outer_iter()
        .zip(labels)
        .filter(|(row, label)| best(row.view()) == **label)
        .count();
    right as f32 / labels.len().max(1) as f32
}

/// Pictures by the class that they show (rows) and the class whose score is highest (columns), of
/// `scores [pictures, classes]`.
pub fn confusion(scores: ArrayView2<f32>, labels: &[usize]) -> Array2<usize> {
    let mut counts = Array2::zeros((scores.ncols(), scores.ncols()));
    for (row, &label) in scores.outer_iter().zip(labels) {
        counts[[label, best(row)]] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn pictures_in_parts_have_the_loss_of_all() {
        let mut rng = Rng::new(8);
        let (images, texts) = (unit_rows(&mut rng, 11, 6), unit_rows(&mut rng, 4, 6));
        let labels: Vec<usize> = (0..11).map(|picture| picture % 4).collect();
        let of = |rows| in_parts(rows, images.view(), &labels, texts.view(), 9.0);
        let (whole, parts) = (of(20), of(3));
        assert_eq!(whole.accuracy, parts.accuracy);
        assert!((whole.loss - parts.loss).abs() < 1e-6);
        let apart = whole.text_gradient - parts.text_gradient;
        assert!(apart.iter().all(|x| x.abs() < 1e-6), "{apart}");
    }

    fn unit_rows(rng: &mut Rng, rows: usize, width: usize) -> Array2<f32> {
        let mut drawn = Array2::from_shape_simple_fn((rows, width), || rng.normal());
        for mut row in drawn.outer_iter_mut() {
            let norm = row.dot(&row).sqrt();
            row /= norm;
        }
        drawn
    }

    #[test]
    fn gradient_matches_central_differences() {
        let mut rng = Rng::new(5);
        let images = unit_rows(&mut rng, 7, 6);
        let texts = unit_rows(&mut rng, 3, 6);
        let labels = [0, 1, 2, 2, 1, 0, 0];
        let loss = |texts: &Array2<f32>| {
            let scores = images.dot(&texts.t()).mapv(|x| f64::from(x) * 10.0);
            let total: f64 = scores
                .outer_iter()
                .zip(&labels)
                .map(|(row, &label)| row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[label])
                .sum();
            total / labels.len() as f64
        };
        let report = cross_entropy(images.view(), &labels, texts.view(), 10.0);
        assert!((f64::from(report.loss) - loss(&texts)).abs() < 1e-5);
        for index in [(0, 0), (1, 3), (2, 5)] {
            let step = 1e-2;
            let (mut above, mut below) = (texts.clone(), texts.clone());
            above[index] += step;
            below[index] -= step;
            let difference = (loss(&above) - loss(&below)) / f64::from(2.0 * step);
            let found = f64::from(report.text_gradient[index]);
            assert!(
                (difference - found).abs() <= 1e-3 * difference.abs().max(0.1),
                "{difference} {found}"
            );
        }
    }

    #[test]
    fn far_scores_neither_overflow_nor_lose_the_loss() {
        let images = ndarray::arr2(&[[1.0f32, 0.0]]);
        let texts = ndarray::arr2(&[[1.0f32, 0.0], [-1.0, 0.0]]);
        let report = cross_entropy(images.view(), &[1], texts.view(), 100.0);
        assert!(
            report.loss.is_finite() && report.loss > 80.0,
            "{}",
            report.loss
        );
        assert!(report.text_gradient.iter().all(|x| x.is_finite()));
    }
}
