//! Backpropagation through a text transformer: which operators stand on the path of the prompt, in what order,
//! and what to keep.
//!
//! Three exact savings (none is an approximation): rows of a shared prefix are computed once; the last block has
//! queries and an MLP only where a feature is read; no weight has a gradient, so backward costs one product a
//! linear layer. Sequences may come in several passes: a later one sees of the prefix its keys and values, and what
//! it finds for their gradients is gathered until the backward pass through the prefix, which comes last. Sequences of
//! which every row sees every other share nothing, and only the last two savings are left.

mod block;
mod pooling;
pub mod random;
mod transformer;

pub use block::{BlockWeights, LinearWeights, NormWeights};
pub use pooling::{PoolingHeadWeights, RowPooling};
pub use transformer::{KeysValues, Tape, TextTransformer, TransformerWeights};
