//! Matrices that stay in their bundle. A vocabulary is large, and a prompt needs a dozen of its rows: it is read row by
//! row. Weights of integers become panels of a kernel, straight from the file.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayViewMut1};

use super::read::{Bundle, Storage};
use super::{BundleError, Encoding, damaged};
use crate::ops::Matrix;
use crate::ops::matrix::StoredIntegers;

/// A matrix of floats, or one that stays in its bundle.
#[derive(Clone, Debug)]
pub struct RowTable(Kept);

#[derive(Clone, Debug)]
enum Kept {
    Floats(Array2<f32>),
    /// Little-endian floats within the bytes of the bundle.
    Stored {
        storage: Storage,
        rows: usize,
        width: usize,
        values: Range<usize>,
    },
    Integers(StoredIntegers),
}

impl From<Array2<f32>> for RowTable {
    fn from(matrix: Array2<f32>) -> RowTable {
        RowTable(Kept::Floats(matrix))
    }
}

impl RowTable {
    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        match &self.0 {
            Kept::Floats(matrix) => matrix.dim(),
            &Kept::Stored { rows, width, .. } => (rows, width),
            Kept::Integers(integers) => integers.dim(),
        }
    }

    /// Writes row `index`, which must be below [`RowTable::dim`], into `row [columns]`.
    pub fn read(&self, index: usize, mut row: ArrayViewMut1<f32>) {
        match &self.0 {
            Kept::Floats(matrix) => row.assign(&matrix.row(index)),
            Kept::Stored {
                storage,
                width,
                values,
                ..
            } => {
                let bytes = &storage.bytes()[values.clone()][4 * width * index..][..4 * width];
                let numbers = bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&four| f32::from_le_bytes(four));
                row.iter_mut()
                    .zip(numbers)
                    .for_each(|(x, number)| *x = number);
            }
            Kept::Integers(integers) => {
                let (numbers, scale) = integers.row(index);
                let numbers = numbers.iter().map(|&number| f32::from(number) * scale);
                row.iter_mut()
                    .zip(numbers)
                    .for_each(|(x, number)| *x = number);
            }
        }
    }

    /// All of it: `[rows, columns]`.
    pub fn matrix(&self) -> Array2<f32> {
        let mut matrix = Array2::zeros(self.dim());
        for (index, row) in matrix.rows_mut().into_iter().enumerate() {
            self.read(index, row);
        }
        matrix
    }
}

impl Bundle {
    /// The matrix `name`, read row by row. One whose scales are not those of rows is turned into floats at once.
    pub fn rows(&self, name: &str) -> Result<RowTable, BundleError> {
        Ok(RowTable(match self.stored(name)? {
            MatrixEncoding::Floats(values, [rows, width]) => Kept::Stored {
                storage: self.storage(),
                rows,
                width,
                values,
            },
            MatrixEncoding::Integers(integers) => Kept::Integers(integers),
            MatrixEncoding::Otherwise => Kept::Floats(self.array(name)?),
        }))
    }

    /// The matrix `name`. Integers with a scale for each row stay in the bundle.
    pub fn matrix(&self, name: &str) -> Result<Matrix, BundleError> {
        match self.stored(name)? {
            MatrixEncoding::Integers(integers) => Ok(Matrix::Integers(integers)),
            MatrixEncoding::Floats(..) | MatrixEncoding::Otherwise => Ok(self.array(name)?.into()),
        }
    }

    /// The tensor `name` as a matrix of its output channels and all else, if it is kept in eight bits: the integers, not
    /// copied, and the axis of their scales, which must be the first or the last of those longer than one.
    pub fn integers(&self, name: &str) -> Result<Option<(StoredIntegers, usize)>, BundleError> {
        let entry = self.entry(name)?;
        let Encoding::Int8 { axis, scales } = entry.encoding else {
            return Ok(None);
        };
        let (shape, count) = self.shape(entry)?;
        let axis = usize::from(axis);
        let channels = *shape
            .get(axis)
            .ok_or_else(|| damaged(format!("tensor `{name}` has no axis {axis}")))?;
        let (before, after): (usize, usize) = (
            shape[..axis].iter().product(),
            shape[axis + 1..].iter().product(),
        );
        let make = match (before, after) {
            (1, _) => StoredIntegers::new,
            (_, 1) => StoredIntegers::transposed,
            _ => return Ok(None),
        };
        let values = self.range(name, entry.offset, count, 1)?;
        let scales = self.scales(name, scales, channels)?;
        let bytes = Arc::new(self.storage());
        Ok(Some((make(bytes, values, before * after, scales), axis)))
    }

    fn scales(&self, name: &str, offset: u64, count: usize) -> Result<Array1<f32>, BundleError> {
        let range = self.range(name, offset, count as u64, 4)?;
        let storage = self.storage();
        let scales = storage.bytes()[range].as_chunks().0.iter();
        Ok(scales.map(|&four| f32::from_le_bytes(four)).collect())
    }

    fn stored(&self, name: &str) -> Result<MatrixEncoding, BundleError> {
        let entry = self.entry(name)?;
        let (shape, count) = self.shape(entry)?;
        let &[rows, width] = shape.as_slice() else {
            return Err(BundleError::Rank {
                name: name.to_owned(),
                found: shape,
                rank: 2,
            });
        };
        match entry.encoding {
            Encoding::F32 => {
                let values = self.range(name, entry.offset, count, 4)?;
                Ok(MatrixEncoding::Floats(values, [rows, width]))
            }
            Encoding::Int8 { axis: 0, scales } => {
                let scales = self.scales(name, scales, rows)?;
                let values = self.range(name, entry.offset, count, 1)?;
                let bytes = Arc::new(self.storage());
                let integers = StoredIntegers::new(bytes, values, width, scales);
                Ok(MatrixEncoding::Integers(integers))
            }
            Encoding::Int8 { .. } => Ok(MatrixEncoding::Otherwise),
            Encoding::I64 | Encoding::Bytes => {
                Err(damaged(format!("tensor `{name}` does not hold floats")))
            }
        }
    }
}

/// How a bundle holds a matrix.
enum MatrixEncoding {
    Floats(Range<usize>, [usize; 2]),
    Integers(StoredIntegers),
    Otherwise,
}

#[cfg(test)]
mod tests {
    use super::super::BundleWriter;
    use super::*;

    #[test]
    fn rows_are_those_of_the_whole_tensor_in_every_encoding() {
        let matrix = Array2::from_shape_fn((5, 7), |(r, c)| (r * 7 + c) as f32 - 11.5);
        let mut writer = BundleWriter::default();
        writer.bytes("odd", b"x");
        writer.f32("floats", matrix.view().into_dyn());
        writer.int8("rows", matrix.view().into_dyn(), 0);
        writer.int8("columns", matrix.view().into_dyn(), 1);
        writer.f32("vector", matrix.row(0).into_dyn());
        let bundle = Bundle::from_bytes(writer.finish(1, &(), &()).unwrap()).unwrap();
        for name in ["floats", "rows", "columns"] {
            let table = bundle.rows(name).unwrap();
            assert_eq!(table.dim(), (5, 7));
            assert_eq!(table.matrix(), bundle.array(name).unwrap(), "{name}");
            let floats = bundle.matrix(name).unwrap().floats().into_owned();
            assert_eq!(floats, table.matrix(), "{name}");
        }
        assert!(matches!(
            bundle.rows("vector"),
            Err(BundleError::Rank { rank: 2, .. })
        ));
        assert!(matches!(
            bundle.rows("none"),
            Err(BundleError::Missing { .. })
        ));
        assert!(matches!(
            bundle.rows("odd"),
            Err(BundleError::Rank { .. } | BundleError::Damaged { .. })
        ));
    }
}
