//! What the first scan of a JPEG picture holds, by walking through its codes without making pixels of them (ITU-T T.81,
//! annexes B and F). How much of it is missing: decoders fill that with grey or with noise, and such a picture would train a
//! prompt, though its end marker is in place. And the mean grey of each block, which is enough to see whether anything moves.

use super::MAX_CAMERA_PIXELS;
use super::metadata::is_turned;

/// A picture that lacks less than this share is taken: cheap cameras often lose the last few rows.
const MOST_LOST: f32 = 0.125;
/// Bits of a code that are looked up at once.
const FAST: u32 = 9;

/// The share of a JPEG picture that is missing from the scan in `bytes`; none where it is so little that the picture can be
/// used, or where its coding is not Huffman's in blocks.
pub(super) fn share_lost(bytes: &[u8]) -> Option<f32> {
    let mut tables = Tables::default();
    let scan = tables.read(bytes)?;
    let blocks = tables.blocks(&scan.components)?;
    let units = tables.units(&scan.components)?;
    let lost = lost_units(scan.data, &blocks, (units, tables.interval), |_, _, _| {});
    let share = lost as f32 / units as f32;
    (share >= MOST_LOST).then_some(share)
}

/// A picture at an eighth of its width and height, grey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GreyBlocks {
    /// Pixels of the picture from side to side.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// The mean of each block of 8 x 8 pixels, `width.div_ceil(8)` in a row.
    pub means: Vec<u8>,
}

/// The blocks of a JPEG picture in its first scan. None where some are missing, where the picture is to be turned, and where it
/// is not coded as nearly all are: with Huffman's codes, 8 bits, and grey first.
pub(super) fn grey_blocks(bytes: &[u8]) -> Option<GreyBlocks> {
    let mut tables = Tables::default();
    let scan = tables.read(bytes)?;
    let blocks = tables.blocks(&scan.components)?;
    let units = tables.units(&scan.components)?;
    let mut means = tables.means(&scan)?;
    let add = |unit, block, difference| means.add(unit, block, difference);
    let lost = lost_units(scan.data, &blocks, (units, tables.interval), add);
    (lost == 0).then_some(GreyBlocks {
        width: u32::try_from(tables.width).ok()?,
        height: u32::try_from(tables.height).ok()?,
        means: means.found,
    })
}

/// What the segments before the scan say.
#[derive(Default)]
struct Tables {
    components: Vec<Component>,
    width: usize,
    height: usize,
    progressive: bool,
    /// Units from one restart marker to the next; 0 without.
    interval: usize,
    direct: [Option<Codes>; 4],
    alternating: [Option<Codes>; 4],
    /// By what the first coefficients were divided.
    steps: [i32; 4],
    /// Whether its samples are grey and two differences of colour, of 8 bits, in the order in which they are seen.
    ordinary: bool,
}

#[derive(Clone, Copy)]
struct Component {
    id: u8,
    across: usize,
    down: usize,
    /// The number of its table of steps.
    steps: usize,
}

/// The first scan.
struct Scan<'a> {
    /// Which component, and the numbers of its tables.
    components: Vec<(Component, usize, usize)>,
    /// The lower bits of each first coefficient that a later scan has.
    later_bits: u8,
    /// From behind its header.
    data: &'a [u8],
}

/// How the coefficients of a block are coded: the first, and all others unless a later scan has them.
type Block<'a> = (&'a Codes, Option<&'a Codes>);

impl Tables {
    /// Reads up to the first scan.
    fn read<'a>(&mut self, bytes: &'a [u8]) -> Option<Scan<'a>> {
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
        self.ordinary = true;
        loop {
            let (&[mark, marker], after) = rest.split_first_chunk::<2>()?;
            if mark != 0xff {
                return None;
            }
            if marker == 0xff {
                rest = &rest[1..];
                continue;
            }
            let &[high, low] = after.first_chunk::<2>()?;
            let length = usize::from(u16::from_be_bytes([high, low]));
            let segment = after.get(2..length)?;
            rest = after.get(length..)?;
            match marker {
                0xc0..=0xc2 => self.frame(segment, marker == 0xc2)?,
                // Other codings than Huffman's in blocks.
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return None,
                0xc4 => self.codes(segment)?,
                0xdb => self.steps(segment)?,
                0xe1 => self.ordinary &= !is_turned(segment),
                // Adobe's word on colours: 1 for grey and differences of colour.
                0xee => self.ordinary &= segment.get(11) != Some(&0),
                0xdd => self.interval = usize::from(u16::from_be_bytes(*segment.first_chunk()?)),
                0xda => return self.scan(segment, rest),
                _ => {}
            }
        }
    }

    fn frame(&mut self, segment: &[u8], progressive: bool) -> Option<()> {
        let &[bits, h0, h1, w0, w1, count] = segment.first_chunk::<6>()?;
        self.height = usize::from(u16::from_be_bytes([h0, h1]));
        self.width = usize::from(u16::from_be_bytes([w0, w1]));
        self.progressive = progressive;
        let described = segment.get(6..6 + 3 * usize::from(count))?;
        self.components = described
            .chunks_exact(3)
            .map(|of| Component {
                id: of[0],
                across: usize::from(of[1] >> 4),
                down: usize::from(of[1] & 15),
                steps: usize::from(of[2]),
            })
            .collect();
        let ids: Vec<u8> = self.components.iter().map(|of| of.id).collect();
        self.ordinary &= bits == 8 && matches!(count, 1 | 3) && ids != *b"RGB";
        let possible = |sampling: usize| (1..=4).contains(&sampling);
        let all = |of: &Component| possible(of.across) && possible(of.down);
        self.components.iter().all(all).then_some(())
    }

    fn codes(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&class, rest)) = segment.split_first() {
            let (lengths, rest) = rest.split_first_chunk::<16>()?;
            let count: usize = lengths.iter().map(|&count| usize::from(count)).sum();
            let codes = Codes::new(lengths, rest.get(..count)?);
            let tables = match class >> 4 {
                0 => &mut self.direct,
                1 => &mut self.alternating,
                _ => return None,
            };
            *tables.get_mut(usize::from(class & 15))? = Some(codes);
            segment = &rest[count..];
        }
        Some(())
    }

    fn steps(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&class, rest)) = segment.split_first() {
            let (step, length) = match class >> 4 {
                0 => (i32::from(*rest.first()?), 64),
                _ => (i32::from(u16::from_be_bytes(*rest.first_chunk()?)), 128),
            };
            *self.steps.get_mut(usize::from(class & 15))? = step;
            segment = rest.get(length..)?;
        }
        Some(())
    }

    fn scan<'a>(&self, segment: &[u8], data: &'a [u8]) -> Option<Scan<'a>> {
        let (&count, rest) = segment.split_first()?;
        let selected = rest.get(..2 * usize::from(count))?.chunks_exact(2);
        let component = |of: &[u8]| {
            let component = self.components.iter().find(|known| known.id == of[0])?;
            Some((*component, usize::from(of[1] >> 4), usize::from(of[1] & 15)))
        };
        let components = selected.map(component).collect::<Option<Vec<_>>>()?;
        let approximation = rest.get(2 * usize::from(count) + 2)?;
        (!components.is_empty()).then_some(Scan {
            components,
            later_bits: if self.progressive {
                approximation & 15
            } else {
                0
            },
            data,
        })
    }

    /// The blocks of a unit, in their order.
    fn blocks(&self, components: &[(Component, usize, usize)]) -> Option<Vec<Block<'_>>> {
        let mut blocks = Vec::new();
        for &(component, direct, alternating) in components {
            let direct = self.direct.get(direct)?.as_ref()?;
            let alternating = match self.progressive {
                // Its first scan has the first coefficients alone.
                true => None,
                false => Some(self.alternating.get(alternating)?.as_ref()?),
            };
            let count = match components.len() {
                1 => 1,
                _ => component.across * component.down,
            };
            blocks.extend(std::iter::repeat_n((direct, alternating), count));
        }
        Some(blocks)
    }

    /// What collects the means of the first component's blocks; none where that is not grey at full size.
    fn means(&self, scan: &Scan) -> Option<Means> {
        let grey = self.components.first()?;
        let largest = |of: &Component| of.across <= grey.across && of.down <= grey.down;
        let (first, ..) = scan.components.first()?;
        if !self.ordinary || first.id != grey.id || !self.components.iter().all(largest) {
            return None;
        }
        let (across, down) = match scan.components.len() {
            1 => (1, 1),
            _ => (grey.across, grey.down),
        };
        let (columns, rows) = (self.width.div_ceil(8), self.height.div_ceil(8));
        if (64 * columns * rows) as u64 > MAX_CAMERA_PIXELS {
            return None;
        }
        Some(Means {
            across,
            down,
            columns,
            a_row: self.width.div_ceil(8 * across),
            interval: self.interval,
            step: *self.steps.get(grey.steps)?,
            later_bits: scan.later_bits,
            coefficient: 0,
            found: vec![0; columns * rows],
        })
    }

    fn units(&self, components: &[(Component, usize, usize)]) -> Option<usize> {
        let most = |side: fn(&Component) -> usize| self.components.iter().map(side).max();
        let (across, down) = (most(|of| of.across)?, most(|of| of.down)?);
        let units = match components {
            // One component is not padded to whole units.
            [(component, ..)] => {
                let blocks = |side: usize, sampling: usize, most: usize| {
                    (side * sampling).div_ceil(most).div_ceil(8)
                };
                blocks(self.width, component.across, across)
                    * blocks(self.height, component.down, down)
            }
            _ => self.width.div_ceil(8 * across) * self.height.div_ceil(8 * down),
        };
        (units > 0).then_some(units)
    }
}

/// Collects the means of the blocks of one component.
struct Means {
    /// Blocks of it in a unit.
    across: usize,
    down: usize,
    /// Blocks in a row of the picture.
    columns: usize,
    /// Units in a row.
    a_row: usize,
    /// Units from one restart to the next; 0 without.
    interval: usize,
    /// By what a first coefficient was divided.
    step: i32,
    /// The lower bits of it that a later scan has.
    later_bits: u8,
    /// That of the last block.
    coefficient: i32,
    found: Vec<u8>,
}

impl Means {
    /// Takes in by how much the first coefficient of a block of a unit differs from that of the block before.
    fn add(&mut self, unit: usize, block: usize, difference: i32) {
        if block >= self.across * self.down {
            return;
        }
        if block == 0 && self.interval > 0 && unit.is_multiple_of(self.interval) {
            self.coefficient = 0;
        }
        self.coefficient = self.coefficient.wrapping_add(difference);
        let column = unit % self.a_row * self.across + block % self.across;
        let row = unit / self.a_row * self.down + block / self.across;
        if column < self.columns
            && let Some(mean) = self.found.get_mut(row * self.columns + column)
        {
            // The middle of what it may be.
            let half = (1 << self.later_bits) >> 1;
            let coefficient = self.coefficient.wrapping_shl(self.later_bits.into());
            let whole = coefficient.wrapping_add(half).wrapping_mul(self.step);
            // The first coefficient is eight times the mean, which lies around 0.
            let grey = (whole >> 3).saturating_add(128);
            *mean = grey.clamp(0, 255) as u8;
        }
    }
}

/// How many of `units` `data` does not hold, which restart after so many. `found` gets the number of a unit, of a block in it,
/// and the difference of its first coefficient.
fn lost_units(
    data: &[u8],
    blocks: &[Block],
    (units, interval): (usize, usize),
    mut found: impl FnMut(usize, usize, i32),
) -> usize {
    let mut bits = Bits::of(data);
    let mut lost = 0;
    let mut next = 0;
    while next < units {
        let end = match interval {
            0 => units,
            interval => (next + interval).min(units),
        };
        let whole = (next..end).take_while(|&unit| {
            let mut blocks = blocks.iter().enumerate();
            blocks.all(|(block, &(direct, alternating))| {
                let difference = bits.skip_block(direct, alternating);
                difference.is_some_and(|difference| {
                    found(unit, block, difference);
                    true
                })
            })
        });
        lost += end - next - whole.count();
        next = end;
        if next < units {
            let Some(restart) = bits.restart() else {
                return lost + units - next;
            };
            // Restart markers count from 0 to 7: whole intervals may be missing.
            let expected = (next / interval - 1) % 8;
            let skipped = (restart + 8 - expected) % 8 * interval;
            let skipped = skipped.min(units - next);
            lost += skipped;
            next += skipped;
        }
    }
    lost
}

/// One table of Huffman's codes.
struct Codes {
    /// By the next bits: the code's length and value; a length of 0 for longer ones.
    fast: Vec<(u8, u8)>,
    /// By the next bits, for a table of coefficients other than the first: the bits of the code and of the coefficient behind
    /// it, and the places to go on. [`END`] is the end of the block, and 0 bits are those of a longer code or of none.
    steps: Vec<(u8, u8)>,
    /// By length: one more than the last code, and what to add to a code for its place among the values.
    limits: [(u32, i32); 17],
    values: Vec<u8>,
}

/// Places from anywhere in a block to behind its end.
const END: u8 = 64;

/// The bits of a coefficient other than the first, and the places to go on behind its code; none of a code that has no meaning.
fn step(value: u8) -> Option<(u8, u8)> {
    match (value >> 4, value & 15) {
        (0, 0) => Some((0, END)),
        // Sixteen zeros.
        (15, 0) => Some((0, 16)),
        (_, 0) => None,
        (run, size) => Some((size, run + 1)),
    }
}

impl Codes {
    fn new(lengths: &[u8; 16], values: &[u8]) -> Codes {
        let mut codes = Codes {
            fast: vec![(0, 0); 1 << FAST],
            steps: vec![(0, 0); 1 << FAST],
            limits: [(0, 0); 17],
            values: values.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(lengths) {
            codes.limits[length as usize].1 = place as i32 - code as i32;
            for &value in &values[place..place + usize::from(count)] {
                if length <= FAST {
                    let from = (code as usize) << (FAST - length);
                    let filled = from..(from + (1 << (FAST - length))).min(1 << FAST);
                    let step =
                        step(value).map_or((0, 0), |(size, places)| (length as u8 + size, places));
                    for at in filled {
                        (codes.fast[at], codes.steps[at]) = ((length as u8, value), step);
                    }
                }
                code += 1;
            }
            place += usize::from(count);
            codes.limits[length as usize].0 = code;
            code <<= 1;
        }
        codes
    }
}

/// The bits of a scan, up to its next marker.
struct Bits<'a> {
    data: &'a [u8],
    /// From the uppermost on, with zeros behind those that are there.
    bits: u64,
    /// How many are there.
    count: u32,
}

impl Bits<'_> {
    fn of(data: &[u8]) -> Bits<'_> {
        Bits {
            data,
            bits: 0,
            count: 0,
        }
    }

    /// Makes 57 bits of them, where there are so many.
    fn fill(&mut self) {
        if let Some(&next) = self.data.first_chunk() {
            let next = u64::from_be_bytes(next);
            // Whether one of eight bytes is 0xff.
            let inverse = !next;
            let marks = inverse.wrapping_sub(0x0101_0101_0101_0101) & next & 0x8080_8080_8080_8080;
            if marks == 0 {
                let bytes = (64 - self.count) / 8;
                let taken = next & !(u64::MAX.checked_shr(8 * bytes).unwrap_or(0));
                self.bits |= taken >> self.count;
                self.count += 8 * bytes;
                self.data = &self.data[bytes as usize..];
                return;
            }
        }
        while self.count <= 56 {
            let byte = match *self.data {
                [0xff, 0, ref rest @ ..] => {
                    self.data = rest;
                    0xff
                }
                // Fill bytes before a zero are data for some cameras' firmware, and for decoders.
                [0xff, 0xff, ..] => {
                    self.data = &self.data[1..];
                    continue;
                }
                [0xff, ..] | [] => return,
                [byte, ref rest @ ..] => {
                    self.data = rest;
                    byte
                }
            };
            self.bits |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next `count` bits, 1 to 16, with zeros for those that are missing.
    fn peek(&self, count: u32) -> u32 {
        (self.bits >> (64 - count)) as u32
    }

    /// Steps over `count` bits, 31 at most; none where they are missing.
    fn skip(&mut self, count: u32) -> Option<()> {
        self.count = self.count.checked_sub(count)?;
        self.bits <<= count;
        Some(())
    }

    fn value(&mut self, codes: &Codes) -> Option<u8> {
        if self.count < 32 {
            self.fill();
        }
        let (length, value) = codes.fast[self.peek(FAST) as usize];
        if length > 0 {
            self.skip(length.into())?;
            return Some(value);
        }
        for length in FAST + 1..=16 {
            let code = self.peek(length);
            let (limit, offset) = codes.limits[length as usize];
            if code < limit {
                self.skip(length)?;
                return codes.values.get((code as i32 + offset) as usize).copied();
            }
        }
        None
    }

    /// Steps over a block; by how much its first coefficient differs from the one before, or none where it is not whole.
    fn skip_block(&mut self, direct: &Codes, alternating: Option<&Codes>) -> Option<i32> {
        let difference = match u32::from(self.value(direct)?.min(16)) {
            0 => 0,
            size => {
                let bits = self.peek(size) as i32;
                self.skip(size)?;
                // Those that begin with 0 are negative.
                match bits >> (size - 1) {
                    0 => bits - (1 << size) + 1,
                    _ => bits,
                }
            }
        };
        let Some(alternating) = alternating else {
            return Some(difference);
        };
        let mut place = 1;
        while place < 64 {
            if self.count < 32 {
                self.fill();
            }
            let (bits, places) = alternating.steps[self.peek(FAST) as usize];
            let (bits, places) = match bits {
                0 => step(self.value(alternating)?)?,
                _ => (bits, places),
            };
            self.skip(bits.into())?;
            if places == END {
                return Some(difference);
            }
            place += u32::from(places);
        }
        (place <= 64).then_some(difference)
    }

    /// Goes on behind the next restart marker, whose number it is; none where there is none before another marker.
    fn restart(&mut self) -> Option<usize> {
        (self.bits, self.count) = (0, 0);
        loop {
            match *self.data {
                [0xff, marker @ 0xd0..=0xd7, ref rest @ ..] => {
                    self.data = rest;
                    return Some(usize::from(marker - 0xd0));
                }
                [0xff, 0 | 0xff, ..] => self.data = &self.data[1..],
                [0xff, ..] | [] => return None,
                [_, ref rest @ ..] => self.data = rest,
            }
        }
    }
}

#[cfg(test)]
mod tests;
