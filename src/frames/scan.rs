//! What the first scan of a JPEG picture holds, by walking through its codes without making pixels of them (ITU-T T.81,
//! annexes B and F). How much of it is missing: decoders fill that with grey or with noise, and such a picture would train a
//! prompt, though its end marker is in place. And the mean grey of each block, which is enough to see whether anything moves.

mod bits;

use super::MAX_CAMERA_PIXELS;
use super::metadata::is_turned;
use bits::{Bits, Codes};

/// A picture that lacks less than one part of so many is taken: cheap cameras often lose the last few rows.
const LOST_OF: usize = 8;

/// The share of a JPEG picture that is missing from the scan in `bytes`; none where it is so little that the picture can be
/// used, or where its coding is not Huffman's in blocks.
pub(super) fn share_lost(bytes: &[u8]) -> Option<f32> {
    let mut tables = Tables::default();
    let scan = tables.read(bytes)?;
    let units = tables.units(&scan.components)?;
    let size = Size {
        units,
        interval: tables.interval,
        // Those behind them are less than the share that matters.
        enough: units - (units - 1) / LOST_OF,
    };
    let blocks = tables.blocks(&scan)?;
    let lost = lost_units(scan.data, &blocks, size, |_, _, _| {});
    let share = lost as f32 / units as f32;
    (lost * LOST_OF >= units).then_some(share)
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
    let units = tables.units(&scan.components)?;
    let size = Size {
        units,
        interval: tables.interval,
        enough: units,
    };
    let mut means = tables.means(&scan)?;
    let (width, height) = (tables.width, tables.height);
    let blocks = tables.blocks(&scan)?;
    let add = |unit, block, difference| means.add(unit, block, difference);
    let lost = lost_units(scan.data, &blocks, size, add);
    (lost == 0).then_some(GreyBlocks {
        width: u32::try_from(width).ok()?,
        height: u32::try_from(height).ok()?,
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
    fn blocks(&mut self, scan: &Scan) -> Option<Vec<Block<'_>>> {
        let components = &scan.components;
        if !self.progressive {
            for &(.., alternating) in components {
                let codes = self.alternating.get_mut(alternating)?.as_mut()?;
                codes.look_up_several(scan.data.len());
            }
        }
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

/// Units of a scan.
struct Size {
    units: usize,
    /// From one restart marker to the next; 0 without.
    interval: usize,
    /// Once so many were whole, the rest is not looked at.
    enough: usize,
}

/// How many units of a scan of that size `data` does not hold. `found` gets the number of a unit, of a block in it, and the
/// difference of its first coefficient.
fn lost_units(
    data: &[u8],
    blocks: &[Block],
    size: Size,
    mut found: impl FnMut(usize, usize, i32),
) -> usize {
    let (units, interval) = (size.units, size.interval);
    let mut bits = Bits::of(data);
    let mut lost = 0;
    let mut left = size.enough;
    let mut next = 0;
    while next < units {
        let end = match interval {
            0 => units,
            interval => (next + interval).min(units),
        };
        let whole = (next..end).take(left).take_while(|&unit| {
            let mut blocks = blocks.iter().enumerate();
            blocks.all(|(block, &(direct, alternating))| {
                let difference = bits.skip_block(direct, alternating);
                difference.is_some_and(|difference| {
                    found(unit, block, difference);
                    true
                })
            })
        });
        let whole = whole.count();
        left -= whole;
        if left == 0 {
            return lost;
        }
        lost += end - next - whole;
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

#[cfg(test)]
mod tests;
