//! The machine that the program runs on: how hot it is, how much memory it gives, what the program gives up, who supervises
//! it, and which signals end it.

#[cfg(all(feature = "rtsp", target_os = "linux"))]
#[allow(unsafe_code)]
pub(crate) mod decoder_memory;
pub(crate) mod limits;
#[cfg(feature = "mqtt")]
pub(crate) mod machine;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod memory;
pub(crate) mod processes;
pub(crate) mod sandbox;
pub(crate) mod signals;
pub(crate) mod supervisor;
pub(crate) mod temperature;
