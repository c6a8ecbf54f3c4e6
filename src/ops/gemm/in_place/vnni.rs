//! The kernel for AVX-512 VNNI, whose four-way dot product has one unsigned operand: the weights, whose highest bit is
//! inverted. Ten rows and two vectors of sixteen channels are twenty sums, which the registers hold.

use std::arch::x86_64::*;
use std::ops::Range;

use tract_linalg::isa::{self, Isa};

use super::{Functions, InPlace, PANEL, Prefetch, TileInputs, TileOutputs, Vector};

/// The kernels of this CPU.
pub(super) fn all() -> Vec<InPlace> {
    // tract can be told to do without, and then this does, too.
    let here = isa::native().has(Isa::X86_64Avx512Vnni)
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    here.then_some(InPlace(&FUNCTIONS)).into_iter().collect()
}

static FUNCTIONS: Functions = Functions {
    name: "avx512vnni_in_place_10x32",
    tiles: [
        tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>, tile::<7>, tile::<8>,
        tile::<9>, tile::<10>,
    ],
    interleave,
    interleave_columns,
};

const LANES: usize = 16;
/// Vectors for each group inputs.
const WIDE: usize = PANEL / LANES;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn tile<const ROWS: usize>(panel: &[Vector], x: TileInputs, y: TileOutputs, prefetch: Prefetch) {
    let groups = panel.len() / WIDE;
    assert!(
        x.starts.len() == ROWS
            && x.stride == 4 * groups
            && x.values.len() == ROWS * x.stride
            && y.channels <= PANEL
            && y.sums.len() >= (ROWS - 1) * y.stride + y.channels
    );
    let mut sums: [[__m512i; WIDE]; ROWS] =
        std::array::from_fn(|row| [_mm512_set1_epi32(x.starts[row]); WIDE]);
    let (weights, values) = (panel.as_ptr().cast::<u8>(), x.values.as_ptr());
    for group in 0..groups {
        _mm_prefetch::<_MM_HINT_T0>(prefetch.start.wrapping_add(group * prefetch.step));
        // SAFETY: `group` is below the number of groups in the panel and in each row, as asserted.
        unsafe {
            let at = weights.add(group * WIDE * 64);
            let pair = [
                _mm512_loadu_si512(at.cast()),
                _mm512_loadu_si512(at.add(64).cast()),
            ];
            for (row, sums) in sums.iter_mut().enumerate() {
                let values = values.add(row * x.stride + 4 * group).cast::<i32>();
                let values = _mm512_set1_epi32(values.read_unaligned());
                for (sum, &weights) in sums.iter_mut().zip(&pair) {
                    *sum = _mm512_dpbusd_epi32(*sum, weights, values);
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (wide, &sum) in sums.iter().enumerate() {
            let mask = mask(y.channels.saturating_sub(wide * LANES).min(LANES)) as u16;
            let to = y
                .sums
                .as_mut_ptr()
                .wrapping_add(row * y.stride + wide * LANES);
            // SAFETY: the lanes of the mask lie within the row's channels, as asserted.
            unsafe { _mm512_mask_storeu_epi32(to.cast(), mask, sum) };
        }
    }
}

/// The lowest `count` of 64 bits.
fn mask(count: usize) -> u64 {
    match count {
        64.. => u64::MAX,
        _ => (1 << count) - 1,
    }
}

/// Turns sixteen lines of 64 values into sixteen vectors of four values a line.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn interleave(lines: &[&[i8]], panel: &mut [Vector]) {
    let groups = panel.len() / WIDE;
    let flip = _mm512_set1_epi8(-128);
    for (wide, lines) in lines.chunks(LANES).enumerate() {
        let inner = lines[0].len();
        assert!(inner <= 4 * groups && lines.iter().all(|line| line.len() == inner));
        for at in (0..inner).step_by(64) {
            let mask = mask(inner - at);
            let mut v = [_mm512_setzero_si512(); LANES];
            for (v, line) in v.iter_mut().zip(lines) {
                // SAFETY: the bytes of the mask lie within the line.
                let values = unsafe { _mm512_maskz_loadu_epi8(mask, line.as_ptr().add(at)) };
                *v = _mm512_xor_si512(values, flip);
            }
            for (group, v) in transposed(v).into_iter().enumerate() {
                if let Some(to) = panel.get_mut((at / 4 + group) * WIDE + wide) {
                    // SAFETY: a vector is 64 bytes.
                    unsafe { _mm512_storeu_si512(to.0.as_mut_ptr().cast(), v) };
                }
            }
        }
    }
}

/// Sixteen vectors of sixteen numbers of 32 bits, transposed.
#[target_feature(enable = "avx512f")]
fn transposed(mut v: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut t = v;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    for i in (0..LANES).step_by(4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    // What is left is a transposition of four by four lanes.
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    for i in 0..4 {
        t[i] = _mm512_shuffle_i32x4::<EVEN>(v[i], v[4 + i]);
        t[4 + i] = _mm512_shuffle_i32x4::<ODD>(v[i], v[4 + i]);
        t[8 + i] = _mm512_shuffle_i32x4::<EVEN>(v[8 + i], v[12 + i]);
        t[12 + i] = _mm512_shuffle_i32x4::<ODD>(v[8 + i], v[12 + i]);
    }
    for i in 0..4 {
        v[i] = _mm512_shuffle_i32x4::<EVEN>(t[i], t[8 + i]);
        v[8 + i] = _mm512_shuffle_i32x4::<ODD>(t[i], t[8 + i]);
        v[4 + i] = _mm512_shuffle_i32x4::<EVEN>(t[4 + i], t[12 + i]);
        v[12 + i] = _mm512_shuffle_i32x4::<ODD>(t[4 + i], t[12 + i]);
    }
    v
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn interleave_columns(lines: &[i8], length: usize, channels: Range<usize>, panel: &mut [Vector]) {
    assert!(channels.end <= length && lines.len().is_multiple_of(length));
    let flip = _mm512_set1_epi8(-128);
    let mask = mask(channels.len()) as u32;
    for (group, to) in panel.as_chunks_mut::<WIDE>().0.iter_mut().enumerate() {
        let mut values = [_mm256_setzero_si256(); 4];
        for (k, values) in values.iter_mut().enumerate() {
            let at = (4 * group + k) * length + channels.start;
            if at < lines.len() {
                // SAFETY: the bytes of the mask are the line's channels, which lie within it, as asserted.
                *values = unsafe { _mm256_maskz_loadu_epi8(mask, lines.as_ptr().add(at)) };
            }
        }
        let [a, b, c, d] = values;
        let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
        let (low_2, high_2) = (_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d));
        // Channels 0 to 3 and 16 to 19, 4 to 7 and 20 to 23, and so on.
        let quarters = [
            _mm256_unpacklo_epi16(low, low_2),
            _mm256_unpackhi_epi16(low, low_2),
            _mm256_unpacklo_epi16(high, high_2),
            _mm256_unpackhi_epi16(high, high_2),
        ];
        let [first, second] = [
            _mm512_castsi256_si512(quarters[0]),
            _mm512_castsi256_si512(quarters[2]),
        ];
        let first = _mm512_inserti64x4::<1>(first, quarters[1]);
        let second = _mm512_inserti64x4::<1>(second, quarters[3]);
        let vectors = [
            _mm512_shuffle_i32x4::<0b10_00_10_00>(first, second),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(first, second),
        ];
        for (to, vector) in to.iter_mut().zip(vectors) {
            let vector = _mm512_xor_si512(vector, flip);
            // SAFETY: a vector is 64 bytes.
            unsafe { _mm512_storeu_si512(to.0.as_mut_ptr().cast(), vector) };
        }
    }
}
