//! A constant matrix as files hold it: floats, or eight-bit integers that stay where they are stored until a kernel needs
//! them: the bytes come as a shared handle to whatever keeps them alive.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, CowArray, Ix2, concatenate};

use super::Real;

/// Bytes with an owner: a memory map, a part of the program, a buffer.
pub trait Bytes: Send + Sync {
    /// All of them.
    fn bytes(&self) -> &[u8];

    /// Says that these will not be read soon: an owner that can read them again may free their memory.
    fn release(&self, _bytes: Range<usize>) {}
}

impl Bytes for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Bytes with several owners.
pub type SharedBytes = Arc<dyn Bytes>;

/// A matrix in eight bits, symmetric, with one scale per output channel: `W[o, i] = values[o, i] * scales[o]`.
#[derive(Clone, Debug)]
pub struct QuantisedMatrix<'a> {
    /// `[out, in]`
    pub values: ArrayView2<'a, i8>,
    /// `[out]`
    pub scales: ArrayView1<'a, f32>,
}

impl QuantisedMatrix<'_> {
    /// The matrix in f32, `[out, in]`.
    pub fn dequantised(&self) -> Array2<f32> {
        let mut floats = self.values.mapv(f32::from);
        for (mut row, &scale) in floats.rows_mut().into_iter().zip(&self.scales) {
            row *= scale;
        }
        floats
    }
}

/// `W [out, in]`.
#[derive(Clone, Debug)]
pub enum Matrix<T = f32> {
    Floats(Array2<T>),
    Integers(StoredIntegers),
}

/// `W[o, i] = values[o, i] * scales[o]`, the values somewhere in shared bytes, as lines of equal length: one for each output
/// channel or, if it is transposed, one for each input.
#[derive(Clone)]
pub struct StoredIntegers {
    /// Of lines, one below the other.
    parts: Vec<(SharedBytes, Range<usize>)>,
    /// Of a line.
    length: usize,
    transposed: bool,
    scales: Array1<f32>,
}

impl StoredIntegers {
    /// The matrix of `scales.len()` rows and `columns` columns whose values are the signed bytes `values` of `bytes`.
    /// Panics if the sizes do not match.
    pub fn new(
        bytes: SharedBytes,
        values: Range<usize>,
        columns: usize,
        scales: Array1<f32>,
    ) -> StoredIntegers {
        assert!(
            values.end <= bytes.bytes().len() && values.len() == scales.len() * columns,
            "not one value for each row and column"
        );
        StoredIntegers {
            parts: vec![(bytes, values)],
            length: columns,
            transposed: false,
            scales,
        }
    }

    /// The same for values that are stored column by column.
    pub fn transposed(
        bytes: SharedBytes,
        values: Range<usize>,
        columns: usize,
        scales: Array1<f32>,
    ) -> StoredIntegers {
        let length = scales.len();
        StoredIntegers {
            length,
            transposed: true,
            ..StoredIntegers::new(bytes, values, columns, scales)
        }
    }

    /// A copy of `values [out, in]`, with a scale for each row. Panics unless there is one for each.
    pub fn copied(values: ArrayView2<i8>, scales: Array1<f32>) -> StoredIntegers {
        let bytes: Vec<u8> = values.iter().map(|&value| value as u8).collect();
        let range = 0..bytes.len();
        StoredIntegers::new(Arc::new(bytes), range, values.ncols(), scales)
    }

    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        if self.transposed {
            let columns = self.lines().map(|part| part.nrows()).sum();
            (self.length, columns)
        } else {
            (self.scales.len(), self.length)
        }
    }

    /// Of the rows.
    pub fn scales(&self) -> &Array1<f32> {
        &self.scales
    }

    /// The same values, every scale times `factor`.
    pub fn scaled(&self, factor: f32) -> StoredIntegers {
        StoredIntegers {
            scales: &self.scales * factor,
            ..self.clone()
        }
    }

    /// Whether a line is an input and not an output channel.
    pub fn is_transposed(&self) -> bool {
        self.transposed
    }

    /// A row's values and their scale. Panics if there is no such row or the matrix is transposed.
    pub fn row(&self, index: usize) -> (&[i8], f32) {
        assert!(!self.transposed, "a row of a transposed matrix");
        let mut at = index;
        for part in self.lines() {
            if at < part.nrows() {
                let values = part.to_slice().expect("the standard layout is contiguous");
                return (
                    &values[at * self.length..][..self.length],
                    self.scales[index],
                );
            }
            at -= part.nrows();
        }
        panic!("row {index} of {}", self.scales.len())
    }

    /// Passes the matrix to `work`, copied only if it is stored in several parts.
    pub fn with<R>(&self, work: impl FnOnce(&QuantisedMatrix) -> R) -> R {
        let parts: Vec<ArrayView2<i8>> = self.lines().collect();
        let together = match parts.as_slice() {
            [whole] => CowArray::from(*whole),
            parts => concatenate(Axis(0), parts)
                .expect("parts of equal width")
                .into(),
        };
        let lines = together.view();
        work(&QuantisedMatrix {
            values: if self.transposed {
                lines.reversed_axes()
            } else {
                lines
            },
            scales: self.scales.view(),
        })
    }

    /// Says that the values will not be read soon.
    pub fn release(&self) {
        for (bytes, values) in &self.parts {
            bytes.release(values.clone());
        }
    }

    /// The lines in each place, `[lines, length]`.
    pub fn lines(&self) -> impl Iterator<Item = ArrayView2<'_, i8>> {
        self.parts.iter().map(|(bytes, values)| {
            let bytes = &bytes.bytes()[values.clone()];
            // SAFETY: i8 has the size, the alignment and all the values of u8.
            let values: &[i8] =
                unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) };
            // Lines without values cannot be counted by their length.
            let lines = values
                .len()
                .checked_div(self.length)
                .unwrap_or(self.scales.len());
            ArrayView2::from_shape((lines, self.length), values).expect("checked when made")
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

    /// `matrices` stacked; integers stay where they are. Panics if their widths differ.
    pub fn stack(matrices: &[&Matrix<T>]) -> Matrix<T> {
        let integers = matrices.iter().map(|matrix| match matrix {
            Matrix::Integers(integers) if !integers.transposed => Some(integers),
            Matrix::Integers(_) | Matrix::Floats(_) => None,
        });
        if let Some(integers) = integers.collect::<Option<Vec<_>>>()
            && let [first, ..] = integers.as_slice()
        {
            assert!(integers.iter().all(|part| part.length == first.length));
            let scales = integers.iter().flat_map(|part| &part.scales);
            return Matrix::Integers(StoredIntegers {
                parts: integers
                    .iter()
                    .flat_map(|part| part.parts.clone())
                    .collect(),
                length: first.length,
                transposed: false,
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
        let bytes: SharedBytes = Arc::new(vec![9, 1, 255, 3, 128, 5, 127, 9]);
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

    #[test]
    fn integers_may_lie_column_by_column() {
        let bytes: SharedBytes = Arc::new(vec![1, 2, 3, 255, 254, 253]);
        let scales = Array1::from(vec![1.0, 10.0, 0.5]);
        let matrix = StoredIntegers::transposed(bytes, 0..6, 2, scales);
        let expected = ndarray::arr2(&[[1.0, -1.0], [20.0, -20.0], [1.5, -1.5]]);
        assert_eq!((matrix.dim(), matrix.floats::<f32>()), ((3, 2), expected));
    }
}
