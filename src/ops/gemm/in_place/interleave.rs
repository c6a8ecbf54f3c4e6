//! Panels written from weights where they lie: groups of four or sixteen inputs, each with those weights of all channels.
//! Squares of sixteen bytes are exchanged in vectors that every processor of an architecture has.

use std::ops::Range;

use super::{PANEL, Vector};

/// Bytes in a vector.
const WIDTH: usize = 16;

/// A [`super::Interleave`] with groups of `DEPTH` inputs, each exclusive-or `flip`.
#[inline(always)]
pub(super) fn lines<const DEPTH: usize>(lines: &[&[i8]], panel: &mut [Vector], flip: u8) {
    let panel = bytes(panel);
    let inner = lines.first().map_or(0, |line| line.len());
    assert!(lines.len() <= PANEL && lines.iter().all(|line| line.len() == inner));
    assert!(inner.next_multiple_of(DEPTH) * PANEL <= panel.len());
    for (first, lines) in (0..).step_by(4).zip(lines.chunks(4)) {
        for at in (0..inner).step_by(WIDTH) {
            let mut four = [[0; WIDTH]; 4];
            for (to, line) in four.iter_mut().zip(lines) {
                *to = sixteen(&line[at..]);
            }
            if DEPTH == WIDTH {
                // No kernel with groups of sixteen has unsigned weights.
                debug_assert_eq!(flip, 0);
                let to = &mut panel[at * PANEL + WIDTH * first..][..4 * WIDTH];
                to.copy_from_slice(four.as_flattened());
                continue;
            }
            let groups = (inner - at).div_ceil(4).min(4);
            for (group, words) in words_across(four, flip)
                .into_iter()
                .take(groups)
                .enumerate()
            {
                let to = (at + 4 * group) * PANEL + 4 * first;
                panel[to..][..WIDTH].copy_from_slice(&words);
            }
        }
    }
}

/// A [`super::InterleaveColumns`] with groups of `DEPTH` inputs, each exclusive-or `flip`.
#[inline(always)]
pub(super) fn columns<const DEPTH: usize>(
    lines: &[i8],
    length: usize,
    channels: Range<usize>,
    panel: &mut [Vector],
    flip: u8,
) {
    assert!(channels.end <= length && lines.len().is_multiple_of(length));
    let count = lines.len() / length;
    let groups = bytes(panel).chunks_exact_mut(DEPTH * PANEL);
    for (input, group) in (0..).step_by(DEPTH).zip(groups) {
        for (first, to) in (0..)
            .step_by(WIDTH)
            .zip(group.chunks_exact_mut(DEPTH * WIDTH))
        {
            // Sixteen channels from `first` on, of the four lines from `from` on.
            let square = |from: usize| {
                let mut four = [[0; WIDTH]; 4];
                let wanted = from..count.min(from + 4);
                for (to, line) in four.iter_mut().zip(wanted) {
                    let line = &lines[line * length..][channels.clone()];
                    *to = sixteen(line.get(first..).unwrap_or_default());
                }
                bytes_across(four, flip)
            };
            if DEPTH == 4 {
                to.copy_from_slice(square(input).as_flattened());
                continue;
            }
            let squares = [0, 4, 8, 12].map(|step| square(input + step));
            for (four, to) in to.chunks_exact_mut(4 * WIDTH).enumerate() {
                let words = words_across(squares.map(|square| square[four]), 0);
                to.copy_from_slice(words.as_flattened());
            }
        }
    }
}

/// The first sixteen values; zeros where there are fewer.
#[inline(always)]
fn sixteen(values: &[i8]) -> [u8; WIDTH] {
    match values.first_chunk::<WIDTH>() {
        Some(whole) => whole.map(|value| value as u8),
        None => {
            let mut some = [0; WIDTH];
            let values = values.iter().map(|&value| value as u8);
            some.iter_mut()
                .zip(values)
                .for_each(|(to, value)| *to = value);
            some
        }
    }
}

fn bytes(panel: &mut [Vector]) -> &mut [u8] {
    // SAFETY: a vector is 64 bytes without padding.
    unsafe { std::slice::from_raw_parts_mut(panel.as_mut_ptr().cast(), size_of_val(panel)) }
}

/// Four words of each of four rows, transposed, each byte exclusive-or `flip`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn words_across(rows: [[u8; WIDTH]; 4], flip: u8) -> [[u8; WIDTH]; 4] {
    use std::arch::x86_64::*;
    // SAFETY: every x86-64 has SSE2, whose vectors are sixteen bytes of any value.
    unsafe {
        let flip = _mm_set1_epi8(flip as i8);
        let [a, b, c, d] = std::mem::transmute::<[[u8; WIDTH]; 4], [__m128i; 4]>(rows);
        let (low, high) = (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
        let (low_2, high_2) = (_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
        let words = [
            _mm_xor_si128(_mm_unpacklo_epi64(low, low_2), flip),
            _mm_xor_si128(_mm_unpackhi_epi64(low, low_2), flip),
            _mm_xor_si128(_mm_unpacklo_epi64(high, high_2), flip),
            _mm_xor_si128(_mm_unpackhi_epi64(high, high_2), flip),
        ];
        std::mem::transmute::<[__m128i; 4], [[u8; WIDTH]; 4]>(words)
    }
}

/// The first byte of each of four rows, then the second of each, and so on, each exclusive-or `flip`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn bytes_across(rows: [[u8; WIDTH]; 4], flip: u8) -> [[u8; WIDTH]; 4] {
    use std::arch::x86_64::*;
    // SAFETY: as above.
    unsafe {
        let flip = _mm_set1_epi8(flip as i8);
        let [a, b, c, d] = std::mem::transmute::<[[u8; WIDTH]; 4], [__m128i; 4]>(rows);
        let (low, high) = (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b));
        let (low_2, high_2) = (_mm_unpacklo_epi8(c, d), _mm_unpackhi_epi8(c, d));
        let bytes = [
            _mm_xor_si128(_mm_unpacklo_epi16(low, low_2), flip),
            _mm_xor_si128(_mm_unpackhi_epi16(low, low_2), flip),
            _mm_xor_si128(_mm_unpacklo_epi16(high, high_2), flip),
            _mm_xor_si128(_mm_unpackhi_epi16(high, high_2), flip),
        ];
        std::mem::transmute::<[__m128i; 4], [[u8; WIDTH]; 4]>(bytes)
    }
}

/// Four words of each of four rows, transposed, each byte exclusive-or `flip`.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn words_across(rows: [[u8; WIDTH]; 4], flip: u8) -> [[u8; WIDTH]; 4] {
    use std::arch::aarch64::*;
    // SAFETY: every aarch64 has NEON, whose vectors are sixteen bytes of any value.
    unsafe {
        let [a, b, c, d] = rows.map(|row| {
            let row = veorq_u8(vld1q_u8(row.as_ptr()), vdupq_n_u8(flip));
            vreinterpretq_u32_u8(row)
        });
        let low = vreinterpretq_u64_u32(vzip1q_u32(a, b));
        let high = vreinterpretq_u64_u32(vzip2q_u32(a, b));
        let low_2 = vreinterpretq_u64_u32(vzip1q_u32(c, d));
        let high_2 = vreinterpretq_u64_u32(vzip2q_u32(c, d));
        let words = [
            vzip1q_u64(low, low_2),
            vzip2q_u64(low, low_2),
            vzip1q_u64(high, high_2),
            vzip2q_u64(high, high_2),
        ];
        std::mem::transmute::<[uint64x2_t; 4], [[u8; WIDTH]; 4]>(words)
    }
}

/// The first byte of each of four rows, then the second of each, and so on, each exclusive-or `flip`.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn bytes_across(rows: [[u8; WIDTH]; 4], flip: u8) -> [[u8; WIDTH]; 4] {
    use std::arch::aarch64::*;
    // SAFETY: as above.
    unsafe {
        let [a, b, c, d] = rows.map(|row| veorq_u8(vld1q_u8(row.as_ptr()), vdupq_n_u8(flip)));
        let low = vreinterpretq_u16_u8(vzip1q_u8(a, b));
        let high = vreinterpretq_u16_u8(vzip2q_u8(a, b));
        let low_2 = vreinterpretq_u16_u8(vzip1q_u8(c, d));
        let high_2 = vreinterpretq_u16_u8(vzip2q_u8(c, d));
        let bytes = [
            vzip1q_u16(low, low_2),
            vzip2q_u16(low, low_2),
            vzip1q_u16(high, high_2),
            vzip2q_u16(high, high_2),
        ];
        std::mem::transmute::<[uint16x8_t; 4], [[u8; WIDTH]; 4]>(bytes)
    }
}

/// Four words of each of four rows, transposed, each byte exclusive-or `flip`.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn words_across(rows: [[u8; WIDTH]; 4], flip: u8) -> [[u8; WIDTH]; 4] {
    std::array::from_fn(|word| {
        std::array::from_fn(|byte| rows[byte / 4][4 * word + byte % 4] ^ flip)
    })
}

/// The first byte of each of four rows, then the second of each, and so on, each exclusive-or `flip`.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn bytes_across(rows: [[u8; WIDTH]; 4], flip: u8) -> [[u8; WIDTH]; 4] {
    std::array::from_fn(|quarter| {
        std::array::from_fn(|byte| rows[byte % 4][4 * quarter + byte / 4] ^ flip)
    })
}
