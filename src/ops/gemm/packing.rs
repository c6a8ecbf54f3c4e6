//! Packs matrices into the panels that tract's kernels read.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, s};
use tract_core::internal::{Blob, Tensor, ToDim};
use tract_linalg::mmm::{EagerPackedInput, MMMInputFormat, PackedExoticFact};
use tract_linalg::pack::PackedI8K4;

use super::kernel::Kernel;
use super::packed::{PackedMatrix, Panels};

/// Packs `values [out, in]` for a kernel that accumulates in i32.
pub(super) fn pack_integers(kernel: &Kernel, values: ArrayView2<i8>) -> PackedMatrix {
    PackedMatrix::new(kernel.clone(), values.dim(), |kernel, channels| {
        let values = values.slice(s![channels, ..]);
        let (rows, inner) = values.dim();
        let mut panels = PanelWriter::new(kernel.weight_format(), kernel.step(), rows, inner);
        if panels.write_columns(values) {
            return panels.finish();
        }
        let mut copy = vec![0; inner];
        for (index, row) in values.rows().into_iter().enumerate() {
            match row.to_slice() {
                Some(row) => panels.write(index, row),
                None => {
                    copy.iter_mut().zip(row).for_each(|(to, &from)| *to = from);
                    panels.write(index, &copy);
                }
            }
        }
        panels.finish()
    })
}

/// The rows of `matrix` as the panels of `format`.
pub(super) fn pack_floats(format: &dyn MMMInputFormat, matrix: ArrayView2<f32>) -> Panels {
    let matrix = matrix.as_standard_layout();
    let numbers = matrix
        .as_slice()
        .expect("the standard layout is contiguous");
    Tensor::from_shape(matrix.shape(), numbers)
        .and_then(|tensor| format.prepare_one(&tensor, 1, 0))
        .expect("a kernel's own f32 format packs any f32 matrix")
}

/// Writes rows of integers, one at a time, where a kernel's format wants them.
pub(super) enum PanelWriter<'a> {
    /// Groups of four numbers of a row, interleaved with those of the other rows: the layout of four-way dot products.
    Interleaved {
        format: &'a PackedI8K4,
        rows: usize,
        inner: usize,
        blob: Blob,
    },
    /// Any other format is packed from a plain matrix.
    Plain {
        format: &'a dyn MMMInputFormat,
        values: Array2<i8>,
    },
}

impl PanelWriter<'_> {
    /// For a kernel that reads `step` numbers of a row at a time.
    pub fn new(
        format: &dyn MMMInputFormat,
        step: usize,
        rows: usize,
        inner: usize,
    ) -> PanelWriter<'_> {
        let Some(format) = format.downcast_ref::<PackedI8K4>() else {
            let values = Array2::zeros((rows, inner));
            return PanelWriter::Plain { format, values };
        };
        // A kernel with longer steps than four reads on behind the last panel (and multiplies what is there by zero).
        let beyond = (inner.next_multiple_of(step.max(4)) - inner.next_multiple_of(4)) * format.r;
        let length = format.len(inner, rows);
        // SAFETY: the alignment is a power of two, and nothing is read before it is written, just below.
        let mut blob = unsafe { Blob::new_for_size_and_align(length + beyond, format.align) };
        blob[length..].fill(0);
        // What pads the last panel and the last group of four counts as zero. All other bytes are written row by row.
        if !rows.is_multiple_of(format.r) || !inner.is_multiple_of(4) {
            blob.fill(0);
        }
        PanelWriter::Interleaved {
            format,
            rows,
            inner,
            blob,
        }
    }

    pub fn write(&mut self, row: usize, numbers: &[i8]) {
        match self {
            PanelWriter::Plain { values, .. } => {
                let mut row = values.row_mut(row);
                row.iter_mut()
                    .zip(numbers)
                    .for_each(|(to, &from)| *to = from);
            }
            PanelWriter::Interleaved {
                format,
                inner,
                blob,
                ..
            } => {
                let panel = format.single_panel_len(*inner);
                let panel = &mut blob[row / format.r * panel..][..panel];
                let groups = panel.as_chunks_mut::<4>().0.iter_mut();
                let mut groups = groups.skip(row % format.r).step_by(format.r);
                let (whole, rest) = numbers.as_chunks::<4>();
                for (from, to) in whole.iter().zip(groups.by_ref()) {
                    *to = from.map(|number| number as u8);
                }
                if let (false, Some(to)) = (rest.is_empty(), groups.next()) {
                    to.iter_mut()
                        .zip(rest)
                        .for_each(|(to, &from)| *to = from as u8);
                }
            }
        }
    }

    /// Writes all rows at once if the matrix is stored column by column and the format allows it; row by row, every number
    /// would miss the cache. Returns whether it did.
    fn write_columns(&mut self, values: ArrayView2<i8>) -> bool {
        let PanelWriter::Interleaved {
            format,
            rows,
            inner,
            blob,
        } = self
        else {
            return false;
        };
        let (r, panel) = (format.r, format.single_panel_len(*inner));
        if values.strides()[0] != 1 || !inner.is_multiple_of(4) {
            return false;
        }
        let panels = blob.chunks_exact_mut(panel.max(1));
        for (index, panel) in panels.take(rows.div_ceil(r)).enumerate() {
            let channels = index * r..(*rows).min((index + 1) * r);
            for (group, to) in panel.chunks_exact_mut(4 * r).enumerate() {
                let column = |k: usize| {
                    let column = values.slice_move(s![channels.clone(), 4 * group + k]);
                    column.to_slice().unwrap_or_default()
                };
                let columns = [column(0), column(1), column(2), column(3)];
                let columns = columns.map(|column| &column[..channels.len()]);
                for (channel, to) in to.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    if channel < channels.len() {
                        *to = columns.map(|column| column[channel] as u8);
                    }
                }
            }
        }
        true
    }

    pub fn finish(self) -> Panels {
        match self {
            PanelWriter::Plain { format, values } => {
                let numbers = values.as_slice().expect("a fresh array is contiguous");
                Tensor::from_shape(values.shape(), numbers)
                    .and_then(|tensor| format.prepare_one(&tensor, 1, 0))
                    .expect("a kernel's own format packs any matrix of its integers")
            }
            PanelWriter::Interleaved {
                format,
                rows,
                inner,
                blob,
            } => Box::new(EagerPackedInput {
                fact: PackedExoticFact {
                    format: Box::new(format.clone()),
                    mn: rows.to_dim(),
                    k: inner,
                },
                packed: Arc::new(blob),
                panel_bytes: format.single_panel_len(inner),
                mn: rows,
            }),
        }
    }
}
