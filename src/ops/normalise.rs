//! L2 normalisation of rows.

use ndarray::{Array2, ArrayView2};

use super::Real;
use super::real::{add_scaled, dot};

/// Rows of length one, and what backward needs.
#[derive(Clone, Debug)]
pub struct UnitRows<T> {
    /// `[rows, width]`, every row of length one.
    pub rows: Array2<T>,
    inverse_norms: Vec<T>,
}

/// Divides every row of `x [rows, width]` by its length; a row of zeros stays as it is.
pub fn forward<T: Real>(x: Array2<T>) -> UnitRows<T> {
    let mut rows = if x.is_standard_layout() {
        x
    } else {
        x.as_standard_layout().into_owned()
    };
    let mut inverse_norms = Vec::with_capacity(rows.nrows());
    for mut row in rows.rows_mut() {
        let row = row
            .as_slice_mut()
            .expect("rows of the standard layout are contiguous");
        let inverse = T::one() / dot(row, row).sqrt().max(T::min_positive_value());
        row.iter_mut().for_each(|x| *x *= inverse);
        inverse_norms.push(inverse);
    }
    UnitRows {
        rows,
        inverse_norms,
    }
}

/// The gradient of `x`, from that of the unit rows (`[rows, width]`): its component along each row vanishes.
pub fn backward<T: Real>(saved: &UnitRows<T>, dy: ArrayView2<T>) -> Array2<T> {
    let mut dx = dy.as_standard_layout().into_owned();
    let rows = saved.rows.rows().into_iter().zip(&saved.inverse_norms);
    for (mut d, (y, &inverse)) in dx.rows_mut().into_iter().zip(rows) {
        let d = d
            .as_slice_mut()
            .expect("rows of the standard layout are contiguous");
        let y = y
            .to_slice()
            .expect("rows of the standard layout are contiguous");
        let along = dot(d, y);
        add_scaled(d, -along, y);
        d.iter_mut().for_each(|d| *d *= inverse);
    }
    dx
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_product, random};
    use crate::rng::Rng;

    #[test]
    fn backward_matches_central_differences() {
        let mut rng = Rng::new(6);
        let (x, dy) = (random(&mut rng, (3, 21)), random(&mut rng, (3, 21)));
        let dx = backward(&forward(x.clone()), dy.view());
        assert_product(|x| forward(x.clone()).rows, &x, &dy, &dx);
    }

    #[test]
    fn a_row_of_zeros_stays_finite() {
        let saved = forward(Array2::<f32>::zeros((1, 4)));
        assert_eq!(saved.rows, Array2::<f32>::zeros((1, 4)));
    }
}
