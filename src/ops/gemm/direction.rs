//! The two products that a constant matrix takes part in.

/// Which product a matrix `W [out, in]` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `x Wᵀ`: rows `[rows, in]` to `[rows, out]`.
    Forward,
    /// `x W`: gradients of an output `[rows, out]` to those of the input `[rows, in]`.
    Backward,
}
