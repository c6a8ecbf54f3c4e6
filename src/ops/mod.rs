//! Operators of both towers, each with its forward and its vector-Jacobian product side by side. A
//! residual connection needs no file: its forward pass is a sum, and its product with a gradient is that gradient, twice.

pub mod activation;
pub mod attention;
pub(crate) mod cells;
pub mod embedding;
pub(crate) mod fresh;
pub mod full_attention;
pub mod gemm;
pub mod layer_norm;
pub mod linear;
pub mod matrix;
pub mod normalise;
pub mod pool;
pub mod real;
pub mod rows;

pub use activation::Activation;
pub use gemm::Kernels;
pub use layer_norm::LayerNorm;
pub use linear::{Linear, Scalar};
pub use matrix::Matrix;
pub use real::Real;
pub use rows::{RowLayout, WholeSequence};

#[cfg(test)]
pub(crate) mod check;
