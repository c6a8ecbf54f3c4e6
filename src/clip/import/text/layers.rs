//! Recognises linear layers and layer norms backwards from their results, and takes their weights out.

use ndarray::{Array1, Array2, Axis, Slice as Range};
use tract_core::internal::*;
use tract_core::ops::math::{Add, Mul, Sub};
use tract_core::ops::nn::RmsNorm;

use crate::clip::graph::Graph;

/// `scale * (x W^T + bias)`, as it is written in the graph.
pub struct LinearLayer {
    pub input: OutletId,
    /// `[out, in]`
    pub weight: Array2<f32>,
    pub bias: Option<Array1<f32>>,
    pub scale: f32,
}

/// `gain * normalised(x) + bias`; either may have been simplified away by tract.
pub struct NormLayer {
    pub input: OutletId,
    pub gain: Option<Array1<f32>>,
    pub bias: Option<Array1<f32>>,
    pub epsilon: f32,
}

/// One of several equal pieces of the rows of a weight.
#[derive(Clone, Copy)]
struct Piece {
    index: usize,
    count: usize,
}

impl Piece {
    /// This piece of the first axis of `whole`.
    fn of<D: ndarray::RemoveAxis>(self, whole: &ndarray::Array<f32, D>) -> ndarray::Array<f32, D> {
        let length = whole.len_of(Axis(0)) / self.count;
        let range = Range::from(self.index * length..(self.index + 1) * length);
        whole.slice_axis(Axis(0), range).to_owned()
    }
}

/// One of several equal pieces of an axis, and what it is cut from.
fn piece(graph: Graph, outlet: OutletId) -> Option<(OutletId, Piece)> {
    let cut = graph.cut(outlet)?;
    let whole = *graph.shape(cut.input)?.get(cut.axis)?;
    let equal = whole.is_multiple_of(cut.length) && cut.start.is_multiple_of(cut.length);
    equal.then(|| {
        let piece = Piece {
            index: cut.start / cut.length,
            count: whole / cut.length,
        };
        (cut.input, piece)
    })
}

fn vector(graph: Graph, outlet: OutletId) -> Option<Array1<f32>> {
    graph.vector(outlet).map(Array1::from)
}

/// The product with a constant matrix: the variable operand and the matrix as `[out, in]`.
fn matrix_product(graph: Graph, outlet: OutletId) -> Option<(OutletId, Array2<f32>)> {
    let (einsum, inputs) = graph.product(outlet)?;
    let constant = usize::from(!graph.is_constant(inputs[0]));
    let weight = graph.constant(inputs[constant])?;
    let input = inputs[1 - constant];
    (!graph.is_constant(input)).then_some(())?;
    let (mut produced, mut contracted, mut rest) = (vec![], vec![], vec![]);
    for axis in einsum.axes.iter_all_axes() {
        let first = |places: &[usize]| places.first().copied();
        let place = (
            first(&axis.inputs[constant]),
            first(&axis.inputs[1 - constant]),
            first(&axis.outputs[0]),
        );
        match place {
            (Some(own), Some(theirs), None) => contracted.push((theirs, own)),
            (Some(own), None, Some(out)) => produced.push((out, own)),
            (Some(own), _, _) if weight.shape().get(own) == Some(&1) => rest.push((0, own)),
            (Some(_), _, _) => return None,
            (None, _, _) => {}
        }
    }
    produced.sort_unstable();
    contracted.sort_unstable();
    let size = |axes: &[(usize, usize)]| {
        axes.iter()
            .map(|&(_, own)| weight.shape()[own])
            .product::<usize>()
    };
    let shape = (size(&produced), size(&contracted));
    let order: Vec<usize> = rest
        .iter()
        .chain(&produced)
        .chain(&contracted)
        .map(|&(_, own)| own)
        .collect();
    (order.len() == weight.ndim()).then_some(())?;
    let matrix = weight
        .permuted_axes(order)
        .as_standard_layout()
        .into_owned();
    Some((
        graph.behind(input),
        matrix.into_shape_with_order(shape).ok()?,
    ))
}

/// The linear layer that ends at `outlet`, possibly a piece of a fused one, possibly scaled.
pub fn linear(graph: Graph, outlet: OutletId) -> Option<LinearLayer> {
    let (mut at, mut scale) = (outlet, 1.0);
    let (mut bias, mut piece_of) = (None::<Array1<f32>>, None::<Piece>);
    loop {
        at = graph.behind(at);
        if let Some((input, mut weight)) = matrix_product(graph, at) {
            if let Some(piece) = piece_of {
                // A bias that was added after the cut is the piece's own.
                let whole = weight.nrows() / piece.count * piece.count;
                bias = bias.map(|bias| {
                    if bias.len() == whole {
                        piece.of(&bias)
                    } else {
                        bias
                    }
                });
                weight = piece.of(&weight);
            }
            let rows = weight.nrows();
            let fits = bias.as_ref().is_none_or(|bias| bias.len() == rows);
            return fits.then_some(LinearLayer {
                input,
                weight,
                bias,
                scale,
            });
        }
        at = if bias.is_none()
            && let Some((input, factor)) = graph.scaled(at)
        {
            scale *= factor;
            input
        } else if bias.is_none()
            && let Some((input, addend)) = graph.with_constant::<Add>(at)
        {
            bias = Some(vector(graph, addend)?);
            input
        } else {
            let (input, piece) = piece(graph, at).filter(|_| piece_of.is_none())?;
            piece_of = Some(piece);
            input
        };
    }
}

/// The layer norm that ends at `outlet`.
pub fn norm(graph: Graph, outlet: OutletId) -> Option<NormLayer> {
    let mut at = graph.behind(outlet);
    let (mut gain, mut bias) = (None, None);
    if let Some((input, addend)) = graph.with_constant::<Add>(at) {
        bias = Some(vector(graph, addend)?);
        at = graph.behind(input);
    }
    if let Some((input, factor)) = graph.with_constant::<Mul>(at) {
        gain = Some(vector(graph, factor)?);
        at = graph.behind(input);
    }
    let norm = graph.operator::<RmsNorm>(at)?;
    let epsilon = norm.eps.cast_to_scalar::<f32>().ok()?;
    let [input, _mean] = graph.binary::<Sub>(graph.behind(graph.node(at).inputs[0]))?;
    Some(NormLayer {
        input: graph.behind(input),
        gain,
        bias,
        epsilon,
    })
}
