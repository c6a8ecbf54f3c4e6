//! What is trained: the low-rank factors, the template they stand in, the labels, and the information density
//! of the result. It must not know how training is done nor where prompts are kept.

pub mod density;
pub mod factors;
pub mod labels;
pub mod template;

pub use factors::{Delta, Factors, FactorsError, Method};
pub use labels::{Label, LabelFault, LabelsError};
pub use template::{Template, TemplateError, TokenLayout};
