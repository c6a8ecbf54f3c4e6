//! Teaches a camera its own labels: a frozen, quantised CLIP whose text prompt is adapted on the device by tuning two
//! low-rank factors, about 500 numbers (RLP / DIP, arXiv 2312.10813). The program `edge-rlp` is this library's [`cli`].
//!
//! # Naming a picture
//!
//! A [`Model`] is the frozen CLIP, a [`Prompt`] what `edge-rlp adapt` trained for some labels, and a [`Classifier`] both,
//! ready for pictures of any size:
//!
//! ```
//! use edge_rlp::{Classifier, Model, Prompt};
//!
//! # use edge_rlp::frames::demo::{self, Purpose};
//! # use edge_rlp::prompt::{Delta, Template, Tuning, labels};
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("shelf.rlp");
//! # let shelf = labels::parse("mug\nfish\nkey\n", "labels.txt")?;
//! # let trained = Model::embedded()?;
//! # let change = Delta::init(Tuning::Rlp, 4, trained.text.width(), 1, 0)?;
//! # let fingerprint = trained.fingerprint.0;
//! # let shelf = Prompt::new(&trained.name, fingerprint, Template::default(), shelf, change);
//! # std::fs::write(&file, edge_rlp::store::encode(&shelf)?)?;
//! # let picture = demo::draw(&demo::scene(Purpose::Live, 0, 1, 0), demo::SIZE);
//! let model = Model::embedded()?;
//! let prompt = Prompt::open(&file)?;
//! let classifier = Classifier::with_prompt(&model, &prompt)?;
//! let answer = classifier.classify(&picture)?;
//! println!("{}, {:.1} %", answer.best().label, 100.0 * answer.best().probability);
//! # assert!(classifier.class_of(answer.best().label).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The modules
//!
//! Bottom to top; none imports one above it.
//!
//! | module | what it is |
//! |---|---|
//! | [`prompt`] | template, labels, what is trained, information density |
//! | [`clip`] | the frozen model: bundle, import, tokeniser, preprocessing, both towers |
//! | [`store`] | prompts, models and shots on disk |
//! | [`host`] | the machine: temperature, memory limits, signals, supervisor |
//! | [`classifier`] | a model, a prompt and labels, ready to name pictures |
//! | [`frames`] | where pictures come from: cameras, folders, drawn scenes |
//! | `download` | models over the network, with the feature `pull` |
//! | [`adapt`] | which pictures are taken, training, and whether the result may stay |
//! | [`evaluate`] | data sets, protocols, and methods to compare with |
//! | [`watch`] | from a camera's frames to typed events |
//! | `mqtt` | those events as reports to a broker, with the feature `mqtt` |
//! | `fleet` | signed prompts that travel over a broker, with the feature `fleet` |
//! | `serve` | many cameras in one process, a page and an API, with the feature `serve` |
//! | [`cli`] | the commands |
//!
//! Arrays are [`ndarray`]'s and pictures are [`image`]'s, in the versions that are re-exported here.

// Unsafe code is in `ops` (kernels and the memory they fill), in `host::memory` (the map of a bundle, the heap) and in
// `host::decoder_memory` (that of the H.264 decoder) alone;
// docs/security.md has the argument of each.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod adapt;
#[doc(hidden)]
pub mod autodiff;
pub mod classifier;
pub mod cli;
pub mod clip;
#[cfg(feature = "pull")]
pub mod download;
pub mod evaluate;
pub(crate) mod files;
#[cfg(feature = "fleet")]
pub mod fleet;
#[cfg(not(feature = "fleet"))]
#[path = "fleet/absent.rs"]
mod fleet;
pub mod frames;
#[doc(hidden)]
pub mod host;
#[doc(hidden)]
pub mod masked;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod ops;
pub mod prompt;
pub(crate) mod reach;
#[doc(hidden)]
pub mod rng;
#[cfg(feature = "serve")]
pub mod serve;
pub mod store;
pub(crate) mod visible;
pub mod watch;

pub use classifier::{Answer, Classifier, Unknown};
pub use clip::Model;
pub use image;
pub use ndarray;
pub use prompt::Prompt;
