//! Tensors of tract that are written before anything reads them, without zeros first.

use std::mem::MaybeUninit;
use tract_core::internal::{Tensor, TractResult};

/// A tensor of `shape` whose numbers `write` writes, every one of them, unless it fails: the crate's operators alone
/// may be given it.
///
/// # Errors
/// Those of `write`.
pub(crate) fn filled(
    shape: &[usize],
    write: impl FnOnce(&mut [MaybeUninit<f32>]) -> TractResult<()>,
) -> TractResult<Tensor> {
    // SAFETY: `write` is given memory that nothing reads before it was written; every operator writes all of it.
    unsafe {
        let mut tensor = Tensor::uninitialized::<f32>(shape)?;
        let length = tensor.len();
        let start = tensor.as_ptr_mut_unchecked::<f32>().cast();
        write(std::slice::from_raw_parts_mut(start, length))?;
        Ok(tensor)
    }
}
