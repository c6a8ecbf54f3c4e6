//! A convolution as a product of its windows with its filters, so that it runs on the project's own kernels, in eight bits
//! where the bundle has the filters so.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::Arc;

use ndarray::ArrayView2;
use rayon::prelude::*;
use tract_core::internal::*;

use crate::clip::graph::numbers;
use crate::ops::fresh::filled;
use crate::ops::gemm::{Epilogue, Lines, Weight, Windows};
use crate::ops::pool::SHARED;

/// `[1, channels, height, width]`, or `[1, height, width, channels]` where channels are last, to `[1, down, across, out]`: what
/// comes out is what a product writes, and what a window is cut out of in few pieces.
#[derive(Clone, Debug)]
pub struct ConvolutionOp {
    /// `[out, channels * window height * window width]`, or with the channels last.
    pub weight: Arc<Weight>,
    pub bias: Arc<Vec<f32>>,
    /// Of the input: channels, height, width.
    pub input: [usize; 3],
    /// Height and width of a window.
    pub window: [usize; 2],
    pub strides: [usize; 2],
    /// Zeros above and left of the input.
    pub before: [usize; 2],
    /// Windows down and across.
    pub grid: [usize; 2],
    pub channels_last: bool,
}

impl PartialEq for ConvolutionOp {
    fn eq(&self, other: &ConvolutionOp) -> bool {
        Arc::ptr_eq(&self.weight, &other.weight) && Arc::ptr_eq(&self.bias, &other.bias)
    }
}

impl Eq for ConvolutionOp {}

impl ConvolutionOp {
    pub(super) fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        let (out, inner) = self.weight.dim();
        let [channels, height, width] = self.input;
        let input = match self.channels_last {
            true => [1, height, width, channels],
            false => [1, channels, height, width],
        };
        let fits = inputs == [&input[..]]
            && inner == channels * self.window[0] * self.window[1]
            && self.bias.len() == out
            && self.strides.iter().chain(&self.grid).all(|&n| n > 0);
        ensure!(fits, "a convolution [{out}, {inner}] over {inputs:?}");
        Ok(tvec!(1, self.grid[0], self.grid[1], out))
    }

    pub(super) fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let (pixels, out) = (numbers(&inputs[0])?, self.weight.dim().0);
        filled(&[1, self.grid[0], self.grid[1], out], |y| {
            if self.channels_last {
                self.padded(pixels, |padded| self.write_last(padded, y));
                return Ok(());
            }
            let windows = self.padded(pixels, |padded| self.windows(padded));
            let x = ArrayView2::from_shape(
                (self.grid[0] * self.grid[1], self.weight.dim().1),
                &windows,
            )?;
            self.weight.write(x, Epilogue::bias(&self.bias), y);
            Ok(())
        })
    }

    /// Height and width of the input with its zeros around, as far as any window reaches.
    fn reach(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let last = (self.grid[axis] - 1) * self.strides[axis] + self.window[axis];
            last.max(self.before[axis] + self.input[axis + 1])
        })
    }

    /// Runs `work` with the input and its zeros around. Every thread keeps the memory for it, and takes it while it works: what
    /// waits for other threads may begin another picture meanwhile, which has memory of its own.
    fn padded<R>(&self, pixels: &[f32], work: impl FnOnce(&[f32]) -> R) -> R {
        thread_local! {
            static MEMORY: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
        }
        let ([channels, height, width], [tall, wide]) = (self.input, self.reach());
        // Pictures one below the other, and numbers of a pixel.
        let (pictures, deep) = match self.channels_last {
            true => (1, channels),
            false => (channels, 1),
        };
        let mut padded = MEMORY.take();
        padded.clear();
        let [above, left] = self.before;
        for picture in pixels.chunks_exact(height * width * deep).take(pictures) {
            let start = padded.len();
            padded.resize(start + (above * wide + left) * deep, 0.0);
            for line in picture.chunks_exact(width * deep) {
                padded.extend_from_slice(line);
                padded.resize(padded.len() + (wide - width) * deep, 0.0);
            }
            padded.resize(start + tall * wide * deep, 0.0);
        }
        let done = work(&padded);
        MEMORY.set(padded);
        done
    }

    /// The product of an input whose channels are last.
    fn write_last(&self, padded: &[f32], y: &mut [MaybeUninit<f32>]) {
        let (channels, wide) = (self.input[0], self.reach()[1]);
        let line = wide * channels;
        let lines = Lines {
            count: self.window[0],
            length: self.window[1] * channels,
            stride: line,
        };
        let steps = [self.strides[0] * line, self.strides[1] * channels];
        let windows = Windows::new(padded, self.grid, steps, lines);
        self.weight
            .write_windows(&windows, Epilogue::bias(&self.bias), y);
    }

    /// A row a window, in the order of the filters' numbers.
    fn windows(&self, padded: &[f32]) -> Vec<f32> {
        match self.window {
            [3, 3] => self.windows_of::<3, 3>(padded),
            [1, 1] => self.windows_of::<1, 1>(padded),
            _ => self.windows_of::<0, 0>(padded),
        }
    }

    /// `TALL` and `WIDE` are those of a window where they are known, or 0. Window by window: what is written lies in a row, and
    /// the lines that are read are few enough for the first cache.
    fn windows_of<const TALL: usize, const WIDE: usize>(&self, padded: &[f32]) -> Vec<f32> {
        let ([channels, ..], [tall, wide]) = (self.input, self.reach());
        let [down, across] = self.grid;
        let inner = channels * self.window[0] * self.window[1];
        let mut windows = vec![0.0; down * across * inner];
        let line = |(y, rows): (usize, &mut [f32])| {
            // Here, so that the copies below have a length that is known.
            let [window, width] = if WIDE > 0 { [TALL, WIDE] } else { self.window };
            for (x, row) in rows.chunks_exact_mut(inner).enumerate() {
                let first = y * self.strides[0] * wide + x * self.strides[1];
                let pieces = row.chunks_exact_mut(window * width);
                for (channel, piece) in padded.chunks_exact(tall * wide).zip(pieces) {
                    let lines = &channel[first..][..(window - 1) * wide + width];
                    for (v, to) in piece.chunks_exact_mut(width).enumerate() {
                        to.copy_from_slice(&lines[v * wide..][..width]);
                    }
                }
            }
        };
        if rayon::current_num_threads() > 1 && windows.len() >= SHARED {
            let lines = windows.par_chunks_exact_mut(across * inner).enumerate();
            lines.for_each(line);
        } else {
            let lines = windows.chunks_exact_mut(across * inner).enumerate();
            lines.for_each(line);
        }
        windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// Every product on its own, straight from the definition.
    fn slow(convolution: &ConvolutionOp, filters: &Array2<f32>, pixels: &[f32]) -> Vec<f32> {
        let [channels, height, width] = convolution.input;
        let ([tall, wide], [down, across]) = (convolution.window, convolution.grid);
        let at = |channel: usize, y: usize, x: usize| {
            let (y, x) = (
                y.checked_sub(convolution.before[0]),
                x.checked_sub(convolution.before[1]),
            );
            match (y, x) {
                (Some(y), Some(x)) if y < height && x < width => {
                    pixels[(channel * height + y) * width + x]
                }
                _ => 0.0,
            }
        };
        let mut results = Vec::new();
        for (out, filter) in filters.rows().into_iter().enumerate() {
            for (y, x) in (0..down).flat_map(|y| (0..across).map(move |x| (y, x))) {
                let mut sum = convolution.bias[out];
                for (index, &weight) in filter.iter().enumerate() {
                    let (channel, v, u) =
                        (index / (tall * wide), index / wide % tall, index % wide);
                    let (y, x) = (
                        y * convolution.strides[0] + v,
                        x * convolution.strides[1] + u,
                    );
                    sum += weight * at(channel.min(channels - 1), y, x);
                }
                results.push(sum);
            }
        }
        results
    }

    #[test]
    fn a_convolution_is_its_definition() {
        let cases = [
            ([3, 9, 8], [3, 3], [2, 2], [1, 1], [5, 4]),
            ([2, 5, 5], [3, 3], [1, 1], [1, 1], [5, 5]),
            ([4, 6, 4], [1, 1], [1, 1], [0, 0], [6, 4]),
            ([1, 7, 9], [5, 4], [2, 3], [2, 0], [4, 2]),
        ];
        for (input, window, strides, before, grid) in cases {
            let inner = input[0] * window[0] * window[1];
            let wave = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
            let area = window[0] * window[1];
            let filters = Array2::from_shape_fn((19, inner), |(o, i)| wave(o * 31 + i));
            let pixels: Vec<f32> = (0..input.iter().product()).map(wave).collect();
            let [channels, height, width] = input;
            for channels_last in [false, true] {
                // The same filters and pixels, each pixel's channels side by side.
                let last = |i: usize| i % channels * area + i / channels;
                let moved = |i: usize| i % channels * height * width + i / channels;
                let (weight, pixels_as_given, shape) = match channels_last {
                    false => (
                        filters.clone(),
                        pixels.clone(),
                        [1, channels, height, width],
                    ),
                    true => (
                        Array2::from_shape_fn((19, inner), |(o, i)| filters[[o, last(i)]]),
                        (0..pixels.len()).map(|i| pixels[moved(i)]).collect(),
                        [1, height, width, channels],
                    ),
                };
                let convolution = ConvolutionOp {
                    weight: Arc::new(Weight::new(weight.view())),
                    bias: Arc::new((0..19).map(wave).collect()),
                    input,
                    window,
                    strides,
                    before,
                    grid,
                    channels_last,
                };
                let tensor = Tensor::from_shape(&shape, &pixels_as_given).unwrap();
                let found = convolution.run(&[tensor.into_tvalue()]).unwrap();
                assert_eq!(found.shape(), &convolution.shape(&[&shape]).unwrap()[..]);
                let found = found.to_plain_array_view::<f32>().unwrap();
                let expected = slow(&convolution, &filters, &pixels);
                let count = grid[0] * grid[1];
                for (place, found) in found.iter().enumerate() {
                    let expected = expected[place % 19 * count + place / 19];
                    assert!((found - expected).abs() < 1e-3, "{found} {expected}");
                }
            }
        }
    }
}
