//! What the text tower makes of labels: in the plain template, or in the context of a prompt.

use super::ClassifierError;
use crate::clip::TextTower;
use crate::prompt::{Delta, TokenLayout};
use ndarray::Array2;

/// The rows that stand before every label, `[n, d]`: the token rows of the template's words, plus what was trained.
///
/// # Errors
/// If the change has another shape than those rows, or the tower has no such tokens.
pub fn context_rows(
    tower: &TextTower,
    layout: &TokenLayout,
    change: Option<&Delta>,
) -> Result<Array2<f32>, ClassifierError> {
    let mut rows = tower.token_rows(&layout.context)?;
    if let Some(change) = change {
        let (change_shape, words) = (change.shape(), rows.dim());
        if change_shape != words {
            return Err(ClassifierError::ChangeShape {
                change: change_shape,
                words,
            });
        }
        rows += &change.matrix();
    }
    Ok(rows)
}

/// The text feature of every class of `layout`, `[classes, joint]`, L2-normalised; without a change those of the plain
/// template.
///
/// # Errors
/// As [`context_rows`], and if a class is too long for the tower.
pub fn text_features(
    tower: &TextTower,
    layout: &TokenLayout,
    change: Option<&Delta>,
) -> Result<Array2<f32>, ClassifierError> {
    let rows = context_rows(tower, layout, change)?;
    Ok(tower.class_features(rows.view(), &layout.suffixes)?)
}

/// [`text_features`], where the classes in `new`, their indices, are ones that `change` was not learnt from. These are read halfway
/// between its context and the plain template (as WiSE-FT, arXiv 2109.01903, goes between weights): what some labels taught is
/// partly about them alone, and costs others some of what the template knew (docs/results/adaptation.md).
///
/// # Errors
/// As [`text_features`].
pub fn with_new_classes(
    tower: &TextTower,
    layout: &TokenLayout,
    change: &Delta,
    new: &[usize],
) -> Result<Array2<f32>, ClassifierError> {
    let mut features = text_features(tower, layout, Some(change))?;
    if new.is_empty() {
        return Ok(features);
    }
    let suffixes = new.iter().map(|&class| layout.suffixes[class].clone());
    let of_new = TokenLayout {
        context: layout.context.clone(),
        suffixes: suffixes.collect(),
    };
    let plain = text_features(tower, &of_new, None)?;
    for (&class, plain) in new.iter().zip(plain.outer_iter()) {
        let mut feature = features.row_mut(class);
        feature += &plain;
        let length = feature.dot(&feature).sqrt().max(f32::MIN_POSITIVE);
        feature /= length;
    }
    Ok(features)
}
