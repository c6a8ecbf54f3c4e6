//! How much of a JPEG picture its first scan holds, by walking through its codes without making pixels of them (ITU-T T.81,
//! annexes B and F). Decoders fill what is missing with grey or with noise, and such a picture would train a prompt, though its
//! end marker is in place.

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
    let lost = lost_units(Bits::of(scan.data), &blocks, units, tables.interval);
    let share = lost as f32 / units as f32;
    (share >= MOST_LOST).then_some(share)
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
}

#[derive(Clone, Copy)]
struct Component {
    id: u8,
    across: usize,
    down: usize,
}

/// The first scan.
struct Scan<'a> {
    /// Which component, and the numbers of its tables.
    components: Vec<(Component, usize, usize)>,
    /// From behind its header.
    data: &'a [u8],
}

/// How the coefficients of a block are coded: the first, and all others unless a later scan has them.
type Block<'a> = (&'a Codes, Option<&'a Codes>);

impl Tables {
    /// Reads up to the first scan.
    fn read<'a>(&mut self, bytes: &'a [u8]) -> Option<Scan<'a>> {
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
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
                0xdd => self.interval = usize::from(u16::from_be_bytes(*segment.first_chunk()?)),
                0xda => return self.scan(segment, rest),
                _ => {}
            }
        }
    }

    fn frame(&mut self, segment: &[u8], progressive: bool) -> Option<()> {
        let &[_, h0, h1, w0, w1, count] = segment.first_chunk::<6>()?;
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
            })
            .collect();
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

    fn scan<'a>(&self, segment: &[u8], data: &'a [u8]) -> Option<Scan<'a>> {
        let (&count, rest) = segment.split_first()?;
        let selected = rest.get(..2 * usize::from(count))?.chunks_exact(2);
        let component = |of: &[u8]| {
            let component = self.components.iter().find(|known| known.id == of[0])?;
            Some((*component, usize::from(of[1] >> 4), usize::from(of[1] & 15)))
        };
        let components = selected.map(component).collect::<Option<Vec<_>>>()?;
        (!components.is_empty()).then_some(Scan { components, data })
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

/// How many of `units` the data do not hold.
fn lost_units(mut bits: Bits, blocks: &[Block], units: usize, interval: usize) -> usize {
    let mut lost = 0;
    let mut next = 0;
    while next < units {
        let end = match interval {
            0 => units,
            interval => (next + interval).min(units),
        };
        let whole = (next..end).take_while(|_| {
            blocks
                .iter()
                .all(|&(direct, alternating)| bits.skip_block(direct, alternating).is_some())
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
    /// By length: one more than the last code, and what to add to a code for its place among the values.
    limits: [(u32, i32); 17],
    values: Vec<u8>,
}

impl Codes {
    fn new(lengths: &[u8; 16], values: &[u8]) -> Codes {
        let mut codes = Codes {
            fast: vec![(0, 0); 1 << FAST],
            limits: [(0, 0); 17],
            values: values.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(lengths) {
            codes.limits[length as usize].1 = place as i32 - code as i32;
            for &value in &values[place..place + usize::from(count)] {
                if length <= FAST {
                    let from = (code as usize) << (FAST - length);
                    let filled = codes.fast.iter_mut().skip(from).take(1 << (FAST - length));
                    filled.for_each(|entry| *entry = (length as u8, value));
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
    bits: u64,
    /// How many of the lower bits are there.
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

    fn fill(&mut self) {
        while self.count <= 48 {
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
            self.bits = (self.bits << 8) | u64::from(byte);
            self.count += 8;
        }
    }

    /// The next `count` bits, with zeros for those that are missing.
    fn peek(&self, count: u32) -> u32 {
        let bits = match self.count.checked_sub(count) {
            Some(more) => self.bits >> more,
            None => self.bits << (count - self.count),
        };
        (bits & ((1 << count) - 1)) as u32
    }

    /// Steps over `count` bits; none where they are missing.
    fn skip(&mut self, count: u32) -> Option<()> {
        self.count = self.count.checked_sub(count)?;
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

    /// Steps over a block; none where it is not whole.
    fn skip_block(&mut self, direct: &Codes, alternating: Option<&Codes>) -> Option<()> {
        let size = self.value(direct)?;
        self.skip(u32::from(size.min(16)))?;
        let Some(alternating) = alternating else {
            return Some(());
        };
        let mut place = 1;
        while place < 64 {
            let value = self.value(alternating)?;
            let (run, size) = (value >> 4, value & 15);
            match (run, size) {
                // The end of the block, or sixteen zeros.
                (0, 0) => break,
                (15, 0) => place += 16,
                (_, 0) => return None,
                _ => {
                    self.skip(size.into())?;
                    place += u32::from(run) + 1;
                }
            }
        }
        (place <= 64).then_some(())
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
mod tests {
    use super::*;
    use crate::frames::{MAX_PIXELS, PictureError, decode_picture};

    fn fixture(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/");
        std::fs::read(format!("{folder}{name}")).unwrap()
    }

    /// All JPEG pictures among the fixtures.
    fn pictures() -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        for folder in ["", "lost/"] {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/").to_owned();
            for entry in std::fs::read_dir(path + folder).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name.ends_with(".jpg")
                    && !name.starts_with("broken")
                    && !name.starts_with("tail")
                {
                    let name = format!("{folder}{name}");
                    let bytes = fixture(&name);
                    found.push((name, bytes));
                }
            }
        }
        assert!(found.len() >= 16, "{}", found.len());
        found
    }

    #[test]
    fn whole_pictures_of_all_kinds_lack_nothing() {
        for (name, bytes) in pictures() {
            let mut tables = Tables::default();
            let scan = tables.read(&bytes).expect(&name);
            let blocks = tables.blocks(&scan.components).expect(&name);
            let units = tables.units(&scan.components).expect(&name);
            let lost = lost_units(Bits::of(scan.data), &blocks, units, tables.interval);
            assert_eq!(lost, 0, "{name}: of {units} units");
        }
    }

    #[test]
    fn a_picture_whose_scan_is_cut_before_its_end_marker_is_not_half_grey() {
        for name in [
            "lost/whole.jpg",
            "lost/restarts.jpg",
            "lost/progressive.jpg",
        ] {
            let whole = fixture(name);
            let begin = whole
                .windows(2)
                .position(|pair| pair == [0xff, 0xda])
                .unwrap();
            let after = |share: f64| begin + ((whole.len() - begin) as f64 * share) as usize;
            for (share, lost) in [(0.02, true), (0.3, true), (0.7, true), (0.999, false)] {
                // A progressive picture is there in outline once its first scan is.
                let lost = lost && !(name == "lost/progressive.jpg" && share > 0.2);
                let cut = [&whole[..after(share)], &[0xff, 0xd9]].concat();
                match decode_picture(&cut, MAX_PIXELS) {
                    Err(PictureError::Lost(_)) => assert!(lost, "{name}, {share}"),
                    Err(error) => panic!("{name}, {share}: {error}"),
                    Ok(_) => assert!(!lost, "{name}, {share}"),
                }
            }
        }
    }

    #[test]
    fn the_share_that_is_missing_is_that_of_the_blocks() {
        let lost = share_lost(&fixture("lost/tail.jpg")).unwrap();
        assert!((0.4..0.6).contains(&lost), "{lost}");
        // One interval of six is gone, from its marker to the next.
        let restarts = fixture("lost/restarts.jpg");
        let marker = |number: u8| {
            restarts
                .windows(2)
                .position(|pair| pair == [0xff, number])
                .unwrap()
        };
        let cut = [&restarts[..marker(0xd1)], &restarts[marker(0xd2)..]].concat();
        let lost = share_lost(&cut).unwrap();
        assert!((0.1..0.3).contains(&lost), "{lost}");
    }

    #[test]
    fn no_flipped_or_missing_byte_panics() {
        for name in ["lost/restarts.jpg", "lost/progressive.jpg", "cmyk.jpg"] {
            let bytes = fixture(name);
            for at in 0..bytes.len() {
                let _ = share_lost(&bytes[..at]);
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                let _ = share_lost(&flipped);
            }
        }
    }
}
