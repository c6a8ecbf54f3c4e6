//! A constant matrix as files hold it: floats, or eight-bit integers that stay where they lie until a kernel's panels
//! are made of them. It must not know files: the bytes come as a shared handle to whatever keeps them alive.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView2, Axis, CowArray, Ix2, concatenate};

use super::Real;
use super::matmul::QuantisedMatrix;

/// Bytes that somebody keeps: a memory map, a part of the program, a buffer.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// `W [out, in]`.
#[derive(Clone, Debug)]
pub enum Matrix<T = f32> {
    Floats(Array2<T>),
    Integers(StoredIntegers),
}

/// `values[o, i] * scales[o]`, the values somewhere in shared bytes.
#[derive(Clone)]
pub struct StoredIntegers {
    /// One below the other.
    parts: Vec<(SharedBytes, Range<usize>)>,
    columns: usize,
    scales: Array1<f32>,
}

impl StoredIntegers {
    /// The matrix of `scales.len()` rows and `columns` columns whose values are the signed bytes `values` of `bytes`.
    /// Panics where the sizes do not fit each other.
    pub fn new(
        bytes: SharedBytes,
        values: Range<usize>,
        columns: usize,
        scales: Array1<f32>,
    ) -> StoredIntegers {
        assert!(
            values.end <= (*bytes).as_ref().len() && values.len() == scales.len() * columns,
            "not one value for each row and column"
        );
        StoredIntegers {
            parts: vec![(bytes, values)],
            columns,
            scales,
        }
    }

    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        (self.scales.len(), self.columns)
    }

    /// A row's values and their scale. Panics where there is no such row.
    pub fn row(&self, index: usize) -> (&[i8], f32) {
        let mut at = index;
        for part in self.parts() {
            if at < part.nrows() {
                let values = part.to_slice().expect("the standard layout is contiguous");
                return (
                    &values[at * self.columns..][..self.columns],
                    self.scales[index],
                );
            }
            at -= part.nrows();
        }
        panic!("row {index} of {}", self.scales.len())
    }

    /// Hands the matrix to `work`, copied only where it lies in several places.
    pub fn with<R>(&self, work: impl FnOnce(&QuantisedMatrix) -> R) -> R {
        let parts: Vec<ArrayView2<i8>> = self.parts().collect();
        let together = match parts.as_slice() {
            [whole] => CowArray::from(*whole),
            parts => concatenate(Axis(0), parts)
                .expect("parts of equal width")
                .into(),
        };
        work(&QuantisedMatrix {
            values: together.view(),
            scales: self.scales.clone(),
        })
    }

    fn parts(&self) -> impl Iterator<Item = ArrayView2<'_, i8>> {
        self.parts.iter().map(|(bytes, values)| {
            let bytes = &(**bytes).as_ref()[values.clone()];
            // SAFETY: i8 has the size, the alignment and all the values of u8.
            let values: &[i8] =
                unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) };
            let rows = values.len().checked_div(self.columns).unwrap_or(0);
            ArrayView2::from_shape((rows, self.columns), values).expect("checked when made")
        })
    }
}

impl fmt::Debug for StoredIntegers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} integers", self.dim())
    }
}

impl<T> From<Array2<T>> for Matrix<T> {
    fn from(floats: Array2<T>) -> Matrix<T> {
        Matrix::Floats(floats)
    }
}

impl<T: Real> Matrix<T> {
    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        match self {
            Matrix::Floats(floats) => floats.dim(),
            Matrix::Integers(integers) => integers.dim(),
        }
    }

    /// All of it as floats.
    pub fn floats(&self) -> CowArray<'_, T, Ix2> {
        match self {
            Matrix::Floats(floats) => floats.view().into(),
            Matrix::Integers(integers) => integers.floats().into(),
        }
    }

    /// `matrices` one below the other; integers stay where they are. Panics where their widths differ.
    pub fn stack(matrices: &[&Matrix<T>]) -> Matrix<T> {
        let integers = matrices.iter().map(|matrix| match matrix {
            Matrix::Floats(_) => None,
            Matrix::Integers(integers) => Some(integers),
        });
        if let Some(integers) = integers.collect::<Option<Vec<_>>>()
            && let [first, ..] = integers.as_slice()
        {
            assert!(integers.iter().all(|part| part.columns == first.columns));
            let scales = integers.iter().flat_map(|part| &part.scales);
            return Matrix::Integers(StoredIntegers {
                parts: integers
                    .iter()
                    .flat_map(|part| part.parts.clone())
                    .collect(),
                columns: first.columns,
                scales: scales.copied().collect(),
            });
        }
        let floats: Vec<_> = matrices.iter().map(|matrix| matrix.floats()).collect();
        let views: Vec<_> = floats.iter().map(|floats| floats.view()).collect();
        concatenate(Axis(0), &views)
            .expect("matrices of one width")
            .into()
    }
}

impl StoredIntegers {
    /// The matrix as floats.
    pub fn floats<T: Real>(&self) -> Array2<T> {
        self.with(|matrix| matrix.dequantised())
            .mapv(|x| T::of(f64::from(x)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_of_stored_integers_is_the_stack_of_their_floats() {
        let bytes: SharedBytes = Arc::new([9, 1, 255, 3, 128, 5, 127, 9]);
        let matrix = |values: Range<usize>, scales: Vec<f32>| {
            Matrix::<f32>::Integers(StoredIntegers::new(bytes.clone(), values, 2, scales.into()))
        };
        let (one, two) = (matrix(1..3, vec![0.5]), matrix(3..7, vec![2.0, -1.0]));
        assert_eq!(one.floats(), ndarray::arr2(&[[0.5, -0.5]]));
        let stack = Matrix::stack(&[&one, &two]);
        assert!(matches!(stack, Matrix::Integers(_)));
        let expected = ndarray::arr2(&[[0.5, -0.5], [6.0, -256.0], [-5.0, -127.0]]);
        assert_eq!(stack.floats(), expected);
        let mixed = Matrix::stack(&[&one, &two.floats().into_owned().into()]);
        assert_eq!((mixed.dim(), mixed.floats()), ((3, 2), expected.into()));
    }
}
