//! Where pictures come from. Knows nothing of what is done with them.

pub mod demo;
