//! The frozen model: bundle, import, tokeniser, preprocessing and the two towers. It must not know prompts
//! that are being trained.

pub mod preprocess;
pub mod text_tower;
pub mod tokenizer;

pub use preprocess::Preprocess;
pub use text_tower::{
    BlockWeights, LinearWeights, NormWeights, TextTower, TextTowerError, TextTowerWeights,
};
pub use tokenizer::Tokenizer;
