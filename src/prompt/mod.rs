//! What is trained: the low-rank factors, the template they stand in, the labels, and the information density
//! of the result; and what a prompt file says of all that.

pub mod density;
pub mod factors;
pub mod labels;
pub mod prototypes;
pub mod record;
pub mod region;
pub mod template;

pub use factors::{Delta, Factors, FactorsError, Tuning};
pub use labels::{Label, LabelFault, LabelsError};
pub use prototypes::{EightBits, Prototypes};
pub use record::{
    Calibration, FeatureStatistics, Metrics, OtherModel, Prompt, Provenance, method_name,
};
pub use region::{Area, Rectangle, Region, RegionError};
pub use template::{Template, TemplateError, TokenLayout};
