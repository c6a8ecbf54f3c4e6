//! The frozen model: bundle, import, tokeniser, preprocessing and the two towers. Of prompts it knows only how their
//! templates are cut into tokens, nothing of how they are trained or kept.

#[doc(hidden)]
pub mod bundle;
mod contents;
mod graph;
#[doc(hidden)]
pub mod image_tower;
pub mod import;
pub mod model;
pub mod preprocess;
#[doc(hidden)]
pub mod text_tower;
pub mod tokenizer;

pub use bundle::Fingerprint;
pub use contents::{Parity, Precision};
pub use image_tower::{ImageTower, ImageTowerError};
pub use model::{BundleHeader, Model, ModelError};
pub use preprocess::Preprocess;
#[doc(hidden)]
pub use text_tower::{BlockWeights, LinearWeights, NormWeights, TextTowerWeights};
pub use text_tower::{TextTower, TextTowerError};
pub use tokenizer::Tokenizer;
