//! The frozen model: bundle, import, tokeniser, preprocessing and the two towers. It must not know prompts
//! that are being trained.

pub mod preprocess;
pub mod tokenizer;

pub use preprocess::Preprocess;
pub use tokenizer::Tokenizer;
