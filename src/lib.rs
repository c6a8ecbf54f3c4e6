//! The runtime that lets a camera teach itself: a frozen, quantised CLIP whose text prompt is adapted on the
//! device by tuning two low-rank factors, about 500 numbers (RLP / DIP, arXiv 2312.10813).
//!
//! Bottom to top: [`rng`] (deterministic random numbers), [`memory`] (maps and the heap), [`ops`] (operators with their vector-Jacobian
//! products), [`autodiff`] (the sweep over the text tower), [`clip`] (the frozen model), [`prompt`] (what is
//! trained), [`adapt`] (training and acceptance), [`evaluate`] (protocols, and methods to compare with),
//! [`frames`] (where pictures come from), [`store`] (what is kept on disk), `download` (what comes over the network,
//! with the feature `pull`) and [`cli`] (the commands). No module knows the one above it.

// Unsafe code is in `ops` (kernels and the memory they fill) and in `memory` (the map of a bundle, the heap) alone;
// docs/security.md has the argument of each.
#![deny(unsafe_code)]

pub mod adapt;
pub mod autodiff;
pub mod classifier;
pub mod cli;
pub mod clip;
#[cfg(feature = "pull")]
pub mod download;
pub mod evaluate;
pub mod frames;
#[allow(unsafe_code)]
pub mod memory;
#[allow(unsafe_code)]
pub mod ops;
pub mod prompt;
pub mod rng;
pub mod store;
