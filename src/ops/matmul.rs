//! Products with a constant matrix, on the kernels of tract-linalg. This is the one module that reaches
//! tract-linalg, whose interface changes between patch releases. It knows neither layers nor gradients.

use ndarray::{Array2, ArrayView2, Ix2};
use tract_core::internal::{DatumType, Tensor, TractResult};
use tract_linalg::MmmDispatch;
use tract_linalg::mmm::{AsInputValue, FusedSpec, MMMInputValue, MatMatMul, Query};

/// A constant matrix `W [out, in]`, kept as its products want it.
pub trait Weight<T>: Send + Sync {
    /// Keeps `weight` (`[out, in]`).
    fn new(weight: ArrayView2<T>) -> Self;

    /// `x Wᵀ`: rows `[rows, in]` to `[rows, out]`. Panics where the widths differ, as ndarray's `dot` does.
    fn multiply(&self, x: ArrayView2<T>) -> Array2<T>;

    /// `W` again, `[out, in]`.
    fn matrix(&self) -> Array2<T>;
}

/// An f64 matrix as it is, multiplied by ndarray.
#[derive(Clone, Debug)]
pub struct PlainWeight(Array2<f64>);

impl Weight<f64> for PlainWeight {
    fn new(weight: ArrayView2<f64>) -> PlainWeight {
        PlainWeight(weight.to_owned())
    }

    fn multiply(&self, x: ArrayView2<f64>) -> Array2<f64> {
        x.dot(&self.0.t())
    }

    fn matrix(&self) -> Array2<f64> {
        self.0.clone()
    }
}

/// An f32 matrix packed once into the panels of the kernel that this machine runs.
#[derive(Clone, Debug)]
pub struct PackedWeight {
    kernel: Box<dyn MatMatMul>,
    packing: usize,
    panels: Box<dyn MMMInputValue>,
}

impl Weight<f32> for PackedWeight {
    fn new(weight: ArrayView2<f32>) -> PackedWeight {
        let (out, inner) = weight.dim();
        let (kernel, packing, _) = kernel(out, inner);
        let panels = pack(&*kernel.packings()[packing].0, weight);
        PackedWeight {
            kernel,
            packing,
            panels,
        }
    }

    fn multiply(&self, x: ArrayView2<f32>) -> Array2<f32> {
        let (rows, inner) = x.dim();
        assert_eq!(
            inner,
            self.panels.k(),
            "a product of matrices whose widths differ"
        );
        if rows == 0 {
            return Array2::zeros((0, self.panels.mn()));
        }
        let x = pack(&*self.kernel.packings()[self.packing].1, x);
        self.run(rows, &*x)
            .expect("the kernel was selected for these operands and this output")
    }

    fn matrix(&self) -> Array2<f32> {
        let mut matrix = Array2::zeros((self.panels.mn(), self.panels.k()));
        for (index, mut row) in matrix.rows_mut().into_iter().enumerate() {
            let row = row.as_slice_mut().expect("a fresh array is contiguous");
            self.panels
                .extract_at_mn_f32(index, row)
                .expect("the panels hold f32 rows");
        }
        matrix
    }
}

impl PackedWeight {
    /// The kernel computes `W xᵀ`; storing it column by column leaves `x Wᵀ` row by row.
    fn run(&self, rows: usize, x: &dyn MMMInputValue) -> TractResult<Array2<f32>> {
        let out = self.panels.mn();
        // SAFETY: `y` holds rows * out numbers, and the kernel writes every one of them, at the strides given
        // here, before anything reads it. Both operands were packed by this kernel's own formats.
        let y = unsafe {
            let y = Tensor::uninitialized::<f32>(&[rows, out])?;
            let store = self.kernel.c_view(Some(1), Some(0)).wrap(&y.view());
            let product = FusedSpec::AddMatMul {
                a: AsInputValue::Borrowed(&*self.panels),
                b: AsInputValue::Borrowed(x),
                packing: self.packing,
            };
            self.kernel
                .run(out, rows, &[product, FusedSpec::Store(store)])?;
            y
        };
        Ok(y.into_plain_array::<f32>()?.into_dimensionality::<Ix2>()?)
    }
}

/// The kernel for `[out, inner]` times columns, whatever their number.
fn kernel(out: usize, inner: usize) -> tract_linalg::mmm::Suitable {
    let query = Query {
        allow_extractor: false,
        ..Query::plain(DatumType::F32, Some(out), Some(inner), None)
    };
    MmmDispatch::native()
        .pick(&query)
        .expect("tract-linalg has a portable f32 kernel")
}

/// The rows of `matrix` as the panels of `format`.
fn pack(
    format: &dyn tract_linalg::mmm::MMMInputFormat,
    matrix: ArrayView2<f32>,
) -> Box<dyn MMMInputValue> {
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
    use crate::rng::Rng;

    #[test]
    fn packed_products_match_plain_ones_at_every_small_and_ragged_size() {
        let mut rng = Rng::new(11);
        for (rows, inner, out) in [
            (1, 1, 1),
            (3, 7, 5),
            (17, 33, 129),
            (60, 128, 64),
            (0, 4, 4),
        ] {
            let weight = random(&mut rng, (out, inner)).mapv(|x| x as f32);
            let x = random(&mut rng, (rows, inner)).mapv(|x| x as f32);
            let packed = PackedWeight::new(weight.view());
            let expected = x.mapv(f64::from).dot(&weight.mapv(f64::from).t());
            let error = (packed.multiply(x.view()).mapv(f64::from) - expected).mapv(f64::abs);
            assert!(
                error.iter().all(|&e| e < 2e-6 * inner as f64),
                "{rows} x {inner} x {out}"
            );
            assert_eq!(packed.matrix(), weight);
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
