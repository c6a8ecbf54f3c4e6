//! The machine that the program runs on: how hot it is, how much memory it gives, who supervises the program, and which
//! signals end it.

pub mod limits;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod memory;
pub mod signals;
pub mod supervisor;
pub mod temperature;
