//! The project's own operators as tract runs them: thin wrappers over `crate::ops`. Each checks the shapes of its inputs
//! when it is put into a graph.

use std::sync::Arc;

use ndarray::ArrayView2;
use tract_core::internal::*;

use super::convolution::ConvolutionOp;
use crate::clip::graph::{numbers, volume};
use crate::ops::fresh::filled;
use crate::ops::full_attention::{FullAttention, Rows};
use crate::ops::gemm::{Epilogue, Weight};
use crate::ops::{Activation, LayerNorm};

/// Layer norm over the last axis.
#[derive(Clone, Debug)]
pub struct NormOp(pub Arc<LayerNorm<f32>>);

/// `activation(x Wᵀ + bias) + residual` over the last axis; the residual is a second input.
#[derive(Clone, Debug)]
pub struct LinearOp {
    pub weight: Arc<Weight>,
    pub bias: Option<Arc<Vec<f32>>>,
    pub activation: Option<Activation>,
    pub residual: bool,
    /// Of the output: the same numbers in the same order may have more or fewer axes of length one.
    pub shape: TVec<usize>,
}

/// Attention in which every query sees every row. Each operand is a piece of the columns of an input.
#[derive(Clone, Debug)]
pub struct AttentionOp {
    /// Rows of the query; the keys and values have `rows`.
    pub queries: usize,
    pub rows: usize,
    pub heads: usize,
    pub head: usize,
    pub scale: f32,
    /// Of query, key and value: which input, and the first column.
    pub operands: [(usize, usize); 3],
}

/// A convolution whose windows tile the picture: `[1, channels, height, width]` to `[1, windows, out]`.
#[derive(Clone, Debug)]
pub struct PatchesOp {
    pub linear: LinearOp,
    pub channels: usize,
    /// Windows down and across.
    pub grid: [usize; 2],
    /// Height and width of a window.
    pub window: [usize; 2],
}

/// One row of several: as many numbers as its shape has, from those many times `row` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowOp {
    pub row: usize,
    /// Of the output.
    pub shape: TVec<usize>,
}

/// Equal when it is the same object: operators are compared only to find duplicates.
macro_rules! compared_by {
    ($operator:ty, $($field:tt).+) => {
        impl PartialEq for $operator {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.$($field).+, &other.$($field).+)
            }
        }

        impl Eq for $operator {}
    };
}

compared_by!(NormOp, 0);
compared_by!(LinearOp, weight);
compared_by!(PatchesOp, linear.weight);

impl PartialEq for AttentionOp {
    fn eq(&self, other: &AttentionOp) -> bool {
        let sizes = |a: &AttentionOp| (a.queries, a.rows, a.heads, a.head);
        let key = |a: &AttentionOp| (a.scale.to_bits(), a.operands);
        sizes(self) == sizes(other) && key(self) == key(other)
    }
}

impl Eq for AttentionOp {}

/// The weight of an operator that has one.
pub fn weight(operator: &dyn TypedOp) -> Option<&Weight> {
    let linear = || Some(&operator.downcast_ref::<LinearOp>()?.weight);
    let patches = || Some(&operator.downcast_ref::<PatchesOp>()?.linear.weight);
    let convolution = || Some(&operator.downcast_ref::<ConvolutionOp>()?.weight);
    let found = linear().or_else(patches).or_else(convolution)?;
    Some(found.as_ref())
}

macro_rules! operator {
    ($operator:ty, $name:literal) => {
        impl Op for $operator {
            fn name(&self) -> StaticName {
                $name.into()
            }

            op_as_typed_op!();
        }

        impl EvalOp for $operator {
            op_out_of_plan!();

            fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
                Ok(tvec!(self.run(&inputs)?.into_tvalue()))
            }
        }

        impl TypedOp for $operator {
            fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
                let shapes = inputs.iter().map(|fact| {
                    ensure!(fact.datum_type == f32::datum_type(), "an input is not f32");
                    fact.shape.as_concrete().context("a shape is not known")
                });
                let shapes: Vec<&[usize]> = shapes.collect::<TractResult<_>>()?;
                let shape = self.shape(&shapes)?;
                Ok(tvec!(f32::fact(&shape)))
            }

            as_op!();
        }
    };
}

operator!(NormOp, "FusedLayerNorm");
operator!(LinearOp, "FusedLinear");
operator!(AttentionOp, "FusedAttention");
operator!(PatchesOp, "FusedPatches");
operator!(RowOp, "Row");
operator!(ConvolutionOp, "FusedConvolution");

impl NormOp {
    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        let &[input] = inputs else {
            bail!("layer norm has one input")
        };
        let width = self.0.gain.len();
        ensure!(
            width > 0 && self.0.bias.len() == width && input.last() == Some(&width),
            "layer norm of {width} numbers over {input:?}"
        );
        Ok(input.into())
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let x = numbers(&inputs[0])?;
        filled(inputs[0].shape(), |y| {
            self.0.apply(x, y);
            Ok(())
        })
    }
}

impl LinearOp {
    pub fn rows(&self) -> usize {
        volume(&self.shape) / self.weight.dim().0.max(1)
    }

    /// How many numbers a row of the input has.
    pub fn inner(&self) -> usize {
        self.weight.dim().1
    }

    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        let (out, inner) = self.weight.dim();
        let rows = self.rows();
        let fits = inputs.len() == 1 + usize::from(self.residual)
            && out > 0
            && self.shape.last() == Some(&out)
            && volume(inputs[0]) == rows * inner
            && (!self.residual || volume(inputs[1]) == rows * out)
            && self.bias.as_ref().is_none_or(|bias| bias.len() == out);
        ensure!(fits, "a linear layer [{out}, {inner}] over {inputs:?}");
        Ok(self.shape.clone())
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let residual = if self.residual {
            Some(numbers(&inputs[1])?)
        } else {
            None
        };
        self.multiply(numbers(&inputs[0])?, residual)
    }

    fn multiply(&self, x: &[f32], residual: Option<&[f32]>) -> TractResult<Tensor> {
        let ((out, inner), rows) = (self.weight.dim(), self.rows());
        let x = ArrayView2::from_shape((rows, inner), x)?;
        let residual = residual
            .map(|residual| ArrayView2::from_shape((rows, out), residual))
            .transpose()?;
        let epilogue = Epilogue {
            bias: self.bias.as_ref().map(|bias| bias.as_slice()),
            activation: self.activation,
            residual,
        };
        filled(&self.shape, |y| {
            self.weight.write(x, epilogue, y);
            Ok(())
        })
    }
}

impl AttentionOp {
    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        let width = self.heads * self.head;
        ensure!(
            self.queries > 0 && self.rows > 0 && width > 0,
            "attention over an empty sequence"
        );
        let rows = [self.queries, self.rows, self.rows];
        for ((input, column), rows) in self.operands.into_iter().zip(rows) {
            let shape = inputs.get(input).context("attention lacks an input")?;
            let (numbers, stride) = (volume(shape), shape.last().copied().unwrap_or(0));
            ensure!(
                numbers == rows * stride && column + width <= stride,
                "attention of {rows} rows over {shape:?}"
            );
        }
        Ok(tvec!(self.queries, self.heads, self.head))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let operand = |(input, offset): (usize, usize)| {
            let input = &inputs[input];
            Ok::<_, TractError>(Rows {
                numbers: numbers(input)?,
                offset,
                stride: input.shape().last().copied().unwrap_or(0),
            })
        };
        let [query, key, value] = self.operands;
        let attention = FullAttention {
            query: operand(query)?,
            key: operand(key)?,
            value: operand(value)?,
            queries: self.queries,
            rows: self.rows,
            heads: self.heads,
            head: self.head,
            scale: self.scale,
        };
        filled(&[self.queries, self.heads, self.head], |y| {
            attention.write(y);
            Ok(())
        })
    }
}

impl RowOp {
    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        let &[input] = inputs else {
            bail!("a row is one input's")
        };
        let width = volume(&self.shape);
        ensure!(
            volume(input) >= (self.row + 1) * width,
            "row {} of {width} numbers of {input:?}",
            self.row
        );
        Ok(self.shape.clone())
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let width = volume(&self.shape);
        let row = &numbers(&inputs[0])?[self.row * width..][..width];
        Tensor::from_shape(&self.shape, row)
    }
}

impl PatchesOp {
    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        let ([down, across], [height, width]) = (self.grid, self.window);
        let expected = [1, self.channels, down * height, across * width];
        let patch = [1, down * across, self.channels * height * width];
        ensure!(
            inputs == [&expected[..]],
            "patches of {expected:?} over {inputs:?}"
        );
        self.linear.shape(&[&patch])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let pixels = numbers(&inputs[0])?;
        let ([down, across], [height, width]) = (self.grid, self.window);
        let line = across * width;
        let mut patches = Vec::with_capacity(pixels.len());
        for (y, x) in (0..down).flat_map(|y| (0..across).map(move |x| (y, x))) {
            for (channel, v) in (0..self.channels).flat_map(|c| (0..height).map(move |v| (c, v))) {
                let start = ((channel * down + y) * height + v) * line + x * width;
                patches.extend_from_slice(&pixels[start..][..width]);
            }
        }
        self.linear.multiply(&patches, None)
    }
}
