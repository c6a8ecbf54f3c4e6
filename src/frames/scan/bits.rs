//! The bits of a scan and its codes, as many at a time as can be looked up (ITU-T T.81, annex F).

/// Bits of a code that are looked up at once.
const FAST: u32 = 9;
/// The most bits in which several coefficients are looked up at once.
const SEVERAL: u32 = 12;

/// One table of Huffman's codes.
pub struct Codes {
    /// By the next bits: the code's length and value; a length of 0 for longer ones.
    fast: Vec<(u8, u8)>,
    /// By the next bits, for a table of coefficients other than the first: the bits of the code and of the coefficient behind
    /// it, and the places to go on. [`END`] is the end of the block, and 0 bits are those of a longer code or of none.
    steps: Vec<(u8, u8)>,
    /// By the next bits, so many of them: the bits of all coefficients whose codes are among these, and the places to go on,
    /// with [`END`] added where they end the block. 0 bits where there is none.
    several: Vec<(u8, u8)>,
    looked_up: u32,
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
            several: Vec::new(),
            looked_up: FAST,
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

    /// Prepares for blocks of a scan of so many bytes. A table of more bits takes longer to make than a short scan to walk
    /// through. Components share their codes: those that are prepared stay as they are.
    pub fn look_up_several(&mut self, bytes: usize) {
        if !self.several.is_empty() {
            return;
        }
        let worth = bytes.max(1).ilog2().saturating_sub(5);
        self.looked_up = worth.clamp(FAST, SEVERAL);
        let width = self.looked_up;
        let of = |index: usize| {
            let (mut bits, mut places) = (0, 0);
            // Those behind the first, as long as their codes are whole and no block is longer.
            while bits < width {
                let next = (index << bits) & ((1 << width) - 1);
                let place = next >> (width - FAST);
                let (length, _) = self.fast[place];
                let (taken, on) = self.steps[place];
                if taken == 0 || bits + u32::from(length) > width {
                    break;
                }
                if on != END && places + on >= END {
                    break;
                }
                bits += u32::from(taken);
                places += on;
                if on == END {
                    break;
                }
            }
            (bits as u8, places)
        };
        self.several = (0..1 << width).map(of).collect();
    }
}

/// The bits of a scan, up to its next marker.
#[derive(Clone, Copy)]
pub struct Bits<'a> {
    data: &'a [u8],
    /// From the uppermost on. Behind those that are counted there are zeros, or the next ones already.
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
    #[inline(always)]
    fn fill(&mut self) {
        if let Some(&next) = self.data.first_chunk() {
            let next = u64::from_be_bytes(next);
            // Whether one of eight bytes is 0xff.
            let inverse = !next;
            let marks = inverse.wrapping_sub(0x0101_0101_0101_0101) & next & 0x8080_8080_8080_8080;
            if marks == 0 {
                // What does not fit whole lies behind already as it will be put there.
                self.bits |= next >> self.count;
                let bytes = (63 - self.count) / 8;
                self.count += 8 * bytes;
                self.data = &self.data[bytes as usize..];
                return;
            }
        }
        *self = self.filled_byte_by_byte();
    }

    /// By value, so that those of the caller stay in registers.
    #[inline(never)]
    fn filled_byte_by_byte(mut self) -> Self {
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
                [0xff, ..] | [] => return self,
                [byte, ref rest @ ..] => {
                    self.data = rest;
                    byte
                }
            };
            self.bits |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        self
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

    /// The value of the next code, which is longer than is looked up at once.
    fn value_of_long_code(mut self, codes: &Codes) -> Option<(Self, u8)> {
        for length in FAST + 1..=16 {
            let code = self.peek(length);
            let (limit, offset) = codes.limits[length as usize];
            if code < limit {
                self.skip(length)?;
                let value = codes.values.get((code as i32 + offset) as usize)?;
                return Some((self, *value));
            }
        }
        None
    }

    /// Steps over the first coefficient of a block: by how much it differs from that of the block before.
    #[inline(always)]
    fn difference(&mut self, direct: &Codes) -> Option<i32> {
        if self.count < 32 {
            self.fill();
        }
        let (length, mut size) = direct.fast[self.peek(FAST) as usize];
        if length == 0 {
            (*self, size) = self.value_of_long_code(direct)?;
        }
        let (length, size) = (u32::from(length), u32::from(size.min(16)));
        let bits = ((self.bits << length) >> 1 >> (63 - size)) as i32;
        self.skip(length + size)?;
        // Those that begin with 0 are negative.
        let negative = bits < (1 << size) >> 1;
        Some(if negative {
            bits - (1 << size) + 1
        } else {
            bits
        })
    }

    /// Steps over a block; by how much its first coefficient differs from the one before, or none where it is not whole.
    #[inline(always)]
    pub fn skip_block(&mut self, direct: &Codes, alternating: Option<&Codes>) -> Option<i32> {
        let difference = self.difference(direct)?;
        let Some(alternating) = alternating else {
            return Some(difference);
        };
        let mut place = 1;
        while place < 64 {
            if self.count < 32 {
                self.fill();
            }
            // Those that belong to this block for certain; the last places are filled one by one.
            let (bits, places) = alternating.several[self.peek(alternating.looked_up) as usize];
            if bits > 0 && place + u32::from(places % END) < 64 {
                self.skip(bits.into())?;
                if places >= END {
                    return Some(difference);
                }
                place += u32::from(places);
                continue;
            }
            let next = self.peek(FAST) as usize;
            let (bits, places) = match alternating.steps[next] {
                (0, _) if alternating.fast[next].0 > 0 => return None,
                (0, _) => {
                    let value;
                    (*self, value) = self.value_of_long_code(alternating)?;
                    step(value)?
                }
                known => known,
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
