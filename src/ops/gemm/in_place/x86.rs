//! The kernels for x86-64. Where there is a four-way dot product (VNNI), one of its operands is unsigned: the weights, whose
//! highest bit is inverted. Elsewhere weights and inputs are widened to sixteen bits, and two products summed at a time.
//! Ten or fewer rows and two vectors are as many sums as the registers hold; five and ten divide fifty, a picture's rows.

use std::arch::x86_64::*;
use std::ops::Range;

use tract_linalg::isa::{self, Isa};

use super::amx;
use super::tile::{Instructions, WIDE, tile};
use super::{
    Functions, InPlace, PANEL, Prefetch, Tile, TileInputs, TileOutputs, Tiles, Vector, interleave,
};

/// The kernels of this CPU, the likely fastest first.
pub(super) fn all() -> Vec<InPlace> {
    // tract can be told to do without, and then these do, too.
    let told = |isa| isa::native().has(isa);
    let avx512 = told(Isa::X86_64Avx512f)
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    let avx2 = told(Isa::X86_64Avx2) && is_x86_feature_detected!("avx2");
    let kernels = [
        (&AMX, avx512 && amx::here()),
        (
            &AVX512_VNNI,
            avx512 && told(Isa::X86_64Avx512Vnni) && is_x86_feature_detected!("avx512vnni"),
        ),
        (
            &AVX_VNNI,
            avx2 && told(Isa::X86_64AvxVnni) && is_x86_feature_detected!("avxvnni"),
        ),
        (&AVX512, avx512),
        (&AVX2, avx2),
        (&SSE4, is_x86_feature_detected!("sse4.1")),
    ];
    let here = kernels.into_iter().filter(|(_, here)| *here);
    here.map(|(kernel, _)| InPlace(kernel)).collect()
}

/// Weights as bytes that are 128 too large.
const FLIP: u8 = 0x80;

/// The functions of one set of instructions: tiles of as many rows as are listed, and how panels are interleaved.
macro_rules! kernel {
    (
        $module:ident, $functions:ident, $instructions:ident, $features:literal, $name:literal, $flip:expr,
        $input:ty, $inputs:ident, [$($rows:literal)*], $interleave:path, $columns:path
    ) => {
        static $functions: Functions = Functions {
            name: $name,
            depth: 4,
            step: 4,
            stride: |filled| filled,
            passes: PANEL / (WIDE * <$instructions as Instructions>::CHANNELS),
            unsigned: $flip == FLIP,
            tiles: Tiles::$inputs(&[$($module::tile_of::<$rows>),*]),
            interleave: $interleave,
            interleave_columns: $columns,
            finish: None,
        };

        mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            pub(super) fn tile_of<const ROWS: usize>(
                panel: &[Vector],
                x: TileInputs<$input>,
                y: TileOutputs,
                prefetch: Prefetch,
            ) {
                // SAFETY: the instructions are those that are enabled.
                unsafe { tile::<$instructions, ROWS>(panel, x, y, prefetch) }
            }

            #[allow(dead_code)]
            #[target_feature(enable = $features)]
            pub(super) fn lines(lines: &[&[i8]], panel: &mut [Vector]) {
                interleave::lines::<4>(lines, panel, $flip);
            }

            #[allow(dead_code)]
            #[target_feature(enable = $features)]
            pub(super) fn columns(
                lines: &[i8],
                length: usize,
                channels: Range<usize>,
                panel: &mut [Vector],
            ) {
                interleave::columns::<4>(lines, length, channels, panel, $flip);
            }
        }
    };
}

kernel!(
    avx512vnni, AVX512_VNNI, Avx512Vnni, "avx512f,avx512bw,avx512vl,avx512vnni", "avx512vnni_in_place_10x32", FLIP,
    i8, Bytes, [1 2 3 4 5 6 7 8 9 10], interleave_512::<FLIP>, interleave_columns_512::<FLIP>
);
static AMX: Functions = Functions {
    name: "amx_in_place_32x32",
    depth: 4,
    step: amx::STEP,
    stride: amx::stride,
    passes: amx::TALLEST / amx::PASS,
    unsigned: false,
    tiles: Tiles::Bytes(&[amx::tile as Tile<i8>; amx::TALLEST]),
    interleave: interleave_512::<0>,
    interleave_columns: interleave_columns_512::<0>,
    finish: Some(amx::release),
};

kernel!(
    avxvnni, AVX_VNNI, AvxVnni, "avx2,avxvnni", "avxvnni_in_place_5x16", FLIP,
    i8, Bytes, [1 2 3 4 5], interleave_256::<FLIP>, avxvnni::columns
);
kernel!(
    avx512, AVX512, Avx512, "avx512f,avx512bw,avx512vl", "avx512_in_place_10x16", 0,
    i16, Words, [1 2 3 4 5 6 7 8 9 10], interleave_512::<0>, interleave_columns_512::<0>
);
kernel!(
    avx2, AVX2, Avx2, "avx2", "avx2_in_place_5x8", 0,
    i16, Words, [1 2 3 4 5], interleave_256::<0>, avx2::columns
);
kernel!(
    sse4, SSE4, Sse4, "sse4.1", "sse4_in_place_5x4", 0,
    i16, Words, [1 2 3 4 5], sse4::lines, sse4::columns
);

/// Sixteen channels a vector.
struct Avx512Vnni;

impl Instructions for Avx512Vnni {
    type Input = i8;
    type Vector = __m512i;
    const CHANNELS: usize = 16;

    #[inline(always)]
    unsafe fn start(start: i32) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_set1_epi32(start) }
    }

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn inputs(at: *const i8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_set1_epi32(at.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add(sum: __m512i, weights: __m512i, inputs: __m512i) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_dpbusd_epi32(sum, weights, inputs) }
    }

    #[inline(always)]
    unsafe fn store([low, high]: [__m512i; WIDE], to: *mut u32) {
        // SAFETY: promised by the caller.
        unsafe {
            _mm512_storeu_si512(to.cast(), low);
            _mm512_storeu_si512(to.add(16).cast(), high);
        }
    }
}

/// Eight channels a vector.
struct AvxVnni;

impl Instructions for AvxVnni {
    type Input = i8;
    type Vector = __m256i;
    const CHANNELS: usize = 8;

    #[inline(always)]
    unsafe fn start(start: i32) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_set1_epi32(start) }
    }

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    #[inline(always)]
    unsafe fn inputs(at: *const i8) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_set1_epi32(at.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add(sum: __m256i, weights: __m256i, inputs: __m256i) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_dpbusd_avx_epi32(sum, weights, inputs) }
    }

    #[inline(always)]
    unsafe fn store([low, high]: [__m256i; WIDE], to: *mut u32) {
        // SAFETY: promised by the caller.
        unsafe {
            _mm256_storeu_si256(to.cast(), low);
            _mm256_storeu_si256(to.add(8).cast(), high);
        }
    }
}

/// Eight channels a vector, each with a sum of the first two inputs and one of the others.
struct Avx512;

impl Instructions for Avx512 {
    type Input = i16;
    type Vector = __m512i;
    const CHANNELS: usize = 8;

    #[inline(always)]
    unsafe fn start(start: i32) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_set1_epi32(start) }
    }

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(at.cast())) }
    }

    #[inline(always)]
    unsafe fn inputs(at: *const i16) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_set1_epi64(at.cast::<i64>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add(sum: __m512i, weights: __m512i, inputs: __m512i) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_add_epi32(sum, _mm512_madd_epi16(weights, inputs)) }
    }

    #[inline(always)]
    unsafe fn store([low, high]: [__m512i; WIDE], to: *mut u32) {
        // SAFETY: promised by the caller.
        unsafe {
            // Even and odd sums, as the indices of a permutation of both vectors.
            let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            let even = _mm512_permutex2var_epi32(low, even, high);
            let odd = _mm512_permutex2var_epi32(low, odd, high);
            _mm512_storeu_si512(to.cast(), _mm512_add_epi32(even, odd));
        }
    }
}

/// Four channels a vector, each with a sum of the first two inputs and one of the others.
struct Avx2;

impl Instructions for Avx2 {
    type Input = i16;
    type Vector = __m256i;
    const CHANNELS: usize = 4;

    #[inline(always)]
    unsafe fn start(start: i32) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_set1_epi32(start) }
    }

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn inputs(at: *const i16) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_set1_epi64x(at.cast::<i64>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add(sum: __m256i, weights: __m256i, inputs: __m256i) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(weights, inputs)) }
    }

    #[inline(always)]
    unsafe fn store([low, high]: [__m256i; WIDE], to: *mut u32) {
        // SAFETY: promised by the caller.
        unsafe {
            // Channels 0, 1, 4, 5, 2, 3, 6, 7.
            let sums = _mm256_hadd_epi32(low, high);
            let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(sums);
            _mm256_storeu_si256(to.cast(), sums);
        }
    }
}

/// Two channels a vector, each with a sum of the first two inputs and one of the others.
struct Sse4;

impl Instructions for Sse4 {
    type Input = i16;
    type Vector = __m128i;
    const CHANNELS: usize = 2;

    #[inline(always)]
    unsafe fn start(start: i32) -> __m128i {
        // SAFETY: promised by the caller.
        unsafe { _mm_set1_epi32(start) }
    }

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> __m128i {
        // SAFETY: promised by the caller.
        unsafe { _mm_cvtepi8_epi16(_mm_loadl_epi64(at.cast())) }
    }

    #[inline(always)]
    unsafe fn inputs(at: *const i16) -> __m128i {
        // SAFETY: promised by the caller.
        unsafe { _mm_castpd_si128(_mm_loaddup_pd(at.cast())) }
    }

    #[inline(always)]
    unsafe fn add(sum: __m128i, weights: __m128i, inputs: __m128i) -> __m128i {
        // SAFETY: promised by the caller.
        unsafe { _mm_add_epi32(sum, _mm_madd_epi16(weights, inputs)) }
    }

    #[inline(always)]
    unsafe fn store([low, high]: [__m128i; WIDE], to: *mut u32) {
        // SAFETY: promised by the caller.
        unsafe { _mm_storeu_si128(to.cast(), _mm_hadd_epi32(low, high)) }
    }
}

/// A [`super::Interleave`] for AVX2: eight words of each of eight lines at a time, each byte exclusive-or `FLIP`.
#[target_feature(enable = "avx2")]
fn interleave_256<const FLIP: u8>(lines: &[&[i8]], panel: &mut [Vector]) {
    const STEP: usize = 32;
    let inner = lines.first().map_or(0, |line| line.len());
    assert!(lines.len() <= PANEL && lines.iter().all(|line| line.len() == inner));
    assert!(inner.next_multiple_of(4) * PANEL <= size_of_val(panel));
    let panel = panel.as_mut_ptr().cast::<u8>();
    let flip = _mm256_set1_epi8(FLIP as i8);
    for (first, lines) in (0..).step_by(8).zip(lines.chunks(8)) {
        for at in (0..inner).step_by(STEP) {
            let mut v = [_mm256_setzero_si256(); 8];
            for (v, line) in v.iter_mut().zip(lines) {
                let values = &line[at..];
                let mut some = [0; STEP];
                let whole = values.first_chunk::<STEP>().unwrap_or_else(|| {
                    some[..values.len()].copy_from_slice(values);
                    &some
                });
                // SAFETY: there are as many values.
                *v = unsafe { _mm256_loadu_si256(whole.as_ptr().cast()) };
            }
            let groups = (inner - at).div_ceil(4).min(8);
            for (group, v) in transposed_256(v).into_iter().take(groups).enumerate() {
                // SAFETY: the group is one of the panel's, and has room for four weights of each of 32 channels, as
                // asserted.
                unsafe {
                    let to = panel.add((at + 4 * group) * PANEL + 4 * first);
                    _mm256_storeu_si256(to.cast(), _mm256_xor_si256(v, flip));
                }
            }
        }
    }
}

/// Eight vectors of eight numbers of 32 bits, transposed.
#[target_feature(enable = "avx2")]
fn transposed_256(v: [__m256i; 8]) -> [__m256i; 8] {
    let (mut t, mut u) = (v, v);
    for i in 0..4 {
        t[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    for i in [0, 4] {
        u[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for i in 0..4 {
        t[i] = _mm256_permute2x128_si256::<0x20>(u[i], u[i + 4]);
        t[i + 4] = _mm256_permute2x128_si256::<0x31>(u[i], u[i + 4]);
    }
    t
}

const LANES: usize = 16;

/// The lowest `count` of 64 bits.
fn mask(count: usize) -> u64 {
    match count {
        64.. => u64::MAX,
        _ => (1 << count) - 1,
    }
}

/// Turns sixteen lines of 64 values into sixteen vectors of four values a line.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn interleave_512<const FLIP: u8>(lines: &[&[i8]], panel: &mut [Vector]) {
    let groups = panel.len() / WIDE;
    let flip = _mm512_set1_epi8(FLIP as i8);
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn interleave_columns_512<const FLIP: u8>(
    lines: &[i8],
    length: usize,
    channels: Range<usize>,
    panel: &mut [Vector],
) {
    assert!(channels.end <= length && lines.len().is_multiple_of(length));
    let flip = _mm512_set1_epi8(FLIP as i8);
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
