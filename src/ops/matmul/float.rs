//! Products of f32 matrices. It knows neither layers nor gradients.

use std::mem::MaybeUninit;

use ndarray::{Array2, ArrayView2, s};
use tract_core::internal::Tensor;
use tract_linalg::mmm::MMMInputFormat;

use super::choice;
use super::finish::{self, Finish};
use super::kernel::Kernel;
use super::packed::{Packed, Panels};

/// An f32 matrix packed once into the panels of a kernel.
#[derive(Clone, Debug)]
pub struct PackedWeight(Packed);

impl PackedWeight {
    /// Packs `weight [out, in]` for the fastest kernel.
    pub fn new(weight: ArrayView2<f32>) -> PackedWeight {
        PackedWeight::on(choice::float(), weight)
    }

    /// `x Wᵀ`: rows `[rows, in]` to `[rows, out]`. Panics where the widths differ.
    pub fn multiply(&self, x: ArrayView2<f32>) -> Array2<f32> {
        self.finished(x, Finish::default())
    }

    /// `W` again, `[out, in]`.
    pub fn matrix(&self) -> Array2<f32> {
        let mut matrix = Array2::zeros(self.0.dim());
        for (channel, mut row) in matrix.rows_mut().into_iter().enumerate() {
            let row = row.as_slice_mut().expect("a fresh array is contiguous");
            let (panels, index) = self.0.piece(channel);
            panels
                .extract_at_mn_f32(index, row)
                .expect("the panels hold f32 rows");
        }
        matrix
    }

    /// Packs `weight [out, in]` for a kernel of [`super::Number::Float`].
    pub fn on(kernel: &Kernel, weight: ArrayView2<f32>) -> PackedWeight {
        let packed = Packed::new(kernel.clone(), weight.dim(), |kernel, channels| {
            pack(kernel.weight_format(), weight.slice(s![channels, ..]))
        });
        PackedWeight(packed)
    }

    /// `[out, in]`
    pub fn dim(&self) -> (usize, usize) {
        self.0.dim()
    }

    /// `x Wᵀ`, finished: rows `[rows, in]` to `[rows, out]`. Panics where sizes differ.
    pub fn finished(&self, x: ArrayView2<f32>, finish: Finish) -> Array2<f32> {
        let mut y = Array2::uninit((x.nrows(), self.0.dim().0));
        let numbers = y.as_slice_mut().expect("a fresh array is contiguous");
        self.write(x, finish, numbers);
        // SAFETY: `write` wrote every number.
        unsafe { y.assume_init() }
    }

    /// [`PackedWeight::finished`] into memory that the caller has, every number of it.
    pub fn write(&self, x: ArrayView2<f32>, finish: Finish, y: &mut [MaybeUninit<f32>]) {
        let (rows, inner) = x.dim();
        let (out, expected) = self.0.dim();
        assert_eq!(inner, expected, "a product of matrices whose widths differ");
        finish.check(rows, out);
        self.0.multiply(
            rows,
            |kernel, rows| (pack(kernel.input_format(), x.slice(s![rows, ..])), ()),
            |block, row, column, products, y| {
                let piece = finish.piece(block.rows.start + row, column, y.len());
                finish::floats(products, piece, y);
            },
            y,
        );
    }
}

/// The rows of `matrix` as the panels of `format`.
fn pack(format: &dyn MMMInputFormat, matrix: ArrayView2<f32>) -> Panels {
    let matrix = matrix.as_standard_layout();
    let numbers = matrix
        .as_slice()
        .expect("the standard layout is contiguous");
    Tensor::from_shape(matrix.shape(), numbers)
        .and_then(|tensor| format.prepare_one(&tensor, 1, 0))
        .expect("a kernel's own f32 format packs any f32 matrix")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::random;
    use crate::ops::matmul::Number;
    use crate::rng::Rng;

    #[test]
    fn products_of_every_kernel_match_plain_ones_at_small_and_ragged_sizes() {
        let mut rng = Rng::new(11);
        for (rows, inner, out) in [
            (1, 1, 1),
            (3, 7, 5),
            (17, 33, 129),
            (60, 128, 64),
            (0, 4, 4),
            (2, 0, 3),
            (2, 3, 0),
            (300, 5, 300),
        ] {
            let weight = random(&mut rng, (out, inner)).mapv(|x| x as f32);
            let x = random(&mut rng, (rows, inner)).mapv(|x| x as f32);
            let expected = x.mapv(f64::from).dot(&weight.mapv(f64::from).t());
            for kernel in Kernel::all(Number::Float) {
                let packed = PackedWeight::on(&kernel, weight.view());
                let product = packed.multiply(x.view());
                let error = (product.mapv(f64::from) - &expected).mapv(f64::abs);
                assert!(
                    error.iter().all(|&e| e <= 2e-6 * inner as f64),
                    "{kernel}: {rows} x {inner} x {out}"
                );
            }
            assert_eq!(PackedWeight::new(weight.view()).matrix(), weight);
        }
    }

    #[test]
    fn a_transposed_view_packs_like_its_copy() {
        let mut rng = Rng::new(12);
        let weight = random(&mut rng, (6, 9)).mapv(|x| x as f32);
        let x = random(&mut rng, (4, 6)).mapv(|x| x as f32);
        let view = PackedWeight::new(weight.t()).multiply(x.view());
        assert_eq!(
            view,
            PackedWeight::new(weight.t().to_owned().view()).multiply(x.view())
        );
    }
}
