//! What is applied to a product while its numbers are still in the cache: scales, bias, activation and residual.

use multiversion::multiversion;
use ndarray::ArrayView2;

use crate::ops::Activation;

/// `y = activation(product + bias) + residual`; each part is optional.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[out]`
    pub bias: Option<&'a [f32]>,
    /// Applied before the residual is added.
    pub activation: Option<Activation>,
    /// `[rows, out]`, in the standard layout.
    pub residual: Option<ArrayView2<'a, f32>>,
}

impl<'a> Epilogue<'a> {
    /// Adds `bias` and nothing else.
    pub fn bias(bias: &'a [f32]) -> Epilogue<'a> {
        Epilogue {
            bias: Some(bias),
            ..Epilogue::default()
        }
    }

    /// Panics if a part does not have the size of the product, as a sum in ndarray does.
    pub(super) fn check(&self, rows: usize, out: usize) {
        assert!(
            self.bias.is_none_or(|bias| bias.len() == out),
            "a bias of another width than its product"
        );
        assert!(
            self.residual.is_none_or(
                |residual| residual.dim() == (rows, out) && residual.is_standard_layout()
            ),
            "a residual of another shape than its product"
        );
    }

    /// The part for `width` numbers of `row` from `column` on.
    pub(super) fn span(&self, row: usize, column: usize, width: usize) -> EpilogueSpan<'_> {
        EpilogueSpan {
            bias: self.bias.map(|bias| &bias[column..][..width]),
            activation: self.activation,
            residual: self.residual.as_ref().map(|residual| {
                let (_, out) = residual.dim();
                let numbers = residual
                    .as_slice()
                    .expect("the standard layout is contiguous");
                &numbers[row * out + column..][..width]
            }),
        }
    }
}

/// An [`Epilogue`] restricted to consecutive numbers of one row.
#[derive(Clone, Copy)]
pub(super) struct EpilogueSpan<'a> {
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    residual: Option<&'a [f32]>,
}

/// Epiloguees the f32 `products`, given as bits, into `y`.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
pub(super) fn floats(products: &[u32], span: EpilogueSpan, y: &mut [f32]) {
    let products = products.iter().map(|&bits| f32::from_bits(bits));
    match span.bias {
        None => y.iter_mut().zip(products).for_each(|(y, p)| *y = p),
        Some(bias) => {
            let products = products.zip(bias);
            y.iter_mut()
                .zip(products)
                .for_each(|(y, (p, bias))| *y = p + bias);
        }
    }
    activate_and_add(y, span);
}

/// Epiloguees the i32 `products` into `y`, each first times `scale` and, where there are any, the scale of its output
/// channel.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
pub(super) fn integers(
    products: &[u32],
    scale: f32,
    channels: Option<&[f32]>,
    span: EpilogueSpan,
    y: &mut [f32],
) {
    let products = products.iter().map(|&bits| bits as i32 as f32 * scale);
    match channels {
        None => y.iter_mut().zip(products).for_each(|(y, p)| *y = p),
        Some(channels) => {
            let products = products.zip(channels);
            y.iter_mut()
                .zip(products)
                .for_each(|(y, (p, channel))| *y = p * channel);
        }
    }
    if let Some(bias) = span.bias {
        y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
    }
    activate_and_add(y, span);
}

#[inline(always)]
fn activate_and_add(y: &mut [f32], span: EpilogueSpan) {
    // One loop for each: a loop that asks which activation it is would not become vector instructions.
    match span.activation {
        None => {}
        Some(Activation::QuickGelu) => y
            .iter_mut()
            .for_each(|y| *y = Activation::QuickGelu.value(*y)),
        Some(Activation::Gelu) => y.iter_mut().for_each(|y| *y = Activation::Gelu.value(*y)),
        Some(Activation::GeluTanh) => y
            .iter_mut()
            .for_each(|y| *y = Activation::GeluTanh.value(*y)),
    }
    if let Some(residual) = span.residual {
        y.iter_mut()
            .zip(residual)
            .for_each(|(y, residual)| *y += residual);
    }
}
