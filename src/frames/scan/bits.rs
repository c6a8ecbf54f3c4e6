//! The bits of a scan and its codes, as many at a time as can be looked up (ITU-T T.81, annex F).

/// Bits of a code that are looked up at once.
const FAST: u32 = 9;

/// One table of Huffman's codes.
pub struct Codes {
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
    /// The table whose codes of 1 to 16 bits are so many, for these values.
    pub fn new(lengths: &[u8; 16], values: &[u8]) -> Codes {
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
pub struct Bits<'a> {
    data: &'a [u8],
    /// From the uppermost on, with zeros behind those that are there.
    bits: u64,
    /// How many are there.
    count: u32,
}

impl Bits<'_> {
    /// From the beginning of `data` on.
    pub fn of(data: &[u8]) -> Bits<'_> {
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
    pub fn skip_block(&mut self, direct: &Codes, alternating: Option<&Codes>) -> Option<i32> {
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
    pub fn restart(&mut self) -> Option<usize> {
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
