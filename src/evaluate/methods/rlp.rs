//! Two low-rank factors (arXiv 2312.10813), exactly as `edge-rlp adapt` trains and calibrates them, with what stands beside the
//! prompt.

use super::{Fitted, Kept, Predictor};
use crate::adapt::{Answers, Judged, Outcome};

/// What `answers` makes of a training, and how its scores are to be read.
pub fn fit(judged: &Judged, answers: Answers) -> Fitted {
    let Outcome {
        delta,
        prototypes,
        history,
        evidence,
        ..
    } = judged.outcome(answers);
    let numbers = prototypes.as_ref().map_or(0, |kept| kept.numbers());
    let parameters = delta.parameters() + numbers;
    let predictor = Predictor::Kept(Box::new(Kept {
        change: delta,
        prototypes,
        new: Vec::new(),
    }));
    Fitted {
        history,
        calibration: evidence.calibration,
        ..Fitted::untrained(parameters, predictor)
    }
}
