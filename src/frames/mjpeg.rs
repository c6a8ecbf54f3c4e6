//! Cuts a stream of JPEG pictures (motion JPEG, as cameras and pipes write it) into pictures. It walks each picture's
//! markers, so that a thumbnail inside one ends nothing, skips whatever lies between pictures, and finds its way again
//! after garbage. It is no stricter than decoders: a picture without its end marker ends where its part of a multipart
//! stream does, or where the next one begins. The work is linear in the bytes, whatever they are.

use super::content::{Content, guess};
use super::scan::share_lost;

/// Bytes that a picture may have; a longer one is given up as garbage.
pub const MAX_FRAME_BYTES: usize = 16 << 20;
/// Steps from marker to marker that a picture that breaks off may have taken for the search to begin again right behind its
/// start, where the next picture may lie in what a damaged length claimed. After more, and after a scan, it begins where
/// the picture broke off: bytes must not be walked once for each false start that lies before them.
const MAX_STEPS_AGAIN: usize = 64;

/// A shorter picture is garbage: the tables alone, without which none can be decoded, take more.
const MIN_FRAME_BYTES: usize = 100;

/// How much of what lies before a picture is kept, to find the length of its part in it.
const GAP: usize = 512;
/// How much of what is no picture is kept, to tell what it is instead.
const SAMPLE: usize = 4 << 10;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// Finds pictures in bytes that come in pieces of any size. It holds one unfinished picture, and nothing else.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Where the unfinished picture starts, or the bytes that were not looked at yet.
    start: usize,
    /// How far the unfinished picture has been walked.
    walked: usize,
    /// Steps that the walk took.
    steps: usize,
    place: Place,
    skipped: u64,
    /// The last bytes before the unfinished picture.
    gap: Vec<u8>,
    /// Where the unfinished picture's part of a multipart stream ends, if that is known and has not been found wrong.
    part_end: Option<usize>,
    /// The first bytes that belonged to no picture.
    sample: Vec<u8>,
}

/// Where in a picture the walk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before one.
    #[default]
    Between,
    /// At a marker of the header.
    Header,
    /// In compressed data, which runs to the next marker.
    Scan,
    /// At a marker after compressed data.
    AfterScan,
}

/// What one look at the buffer shows.
enum Walk {
    /// The picture ends before this byte.
    Whole(usize),
    /// The same without its end marker.
    Endless(usize),
    /// It goes on in bytes that have not come yet.
    Open,
    /// It is not one: look for the next one from this byte on.
    Broken(usize),
}

impl Splitter {
    /// Takes in the next bytes of the stream and returns the pictures that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut pictures = Vec::new();
        self.buffer.extend_from_slice(bytes);
        loop {
            if self.place == Place::Between && !self.find_start() {
                break;
            }
            match self.walk() {
                Walk::Whole(end) | Walk::Endless(end) if end - self.start < MIN_FRAME_BYTES => {
                    self.give_up(end);
                }
                Walk::Whole(end) => pictures.push(self.take(end)),
                Walk::Endless(end) => {
                    let end = self.without_part_head(end);
                    let mut picture = self.take(end);
                    picture.extend([0xff, END_OF_IMAGE]);
                    pictures.push(picture);
                }
                Walk::Broken(next) => self.give_up(next),
                Walk::Open if self.buffer.len() - self.start > MAX_FRAME_BYTES => {
                    self.give_up(self.buffer.len());
                }
                Walk::Open => break,
            }
        }
        self.forget();
        pictures
    }

    /// The picture that the end of the stream ends, if it lacks nothing but its end marker. Without one, all that is left belonged to none.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        let scanned = matches!(self.place, Place::Scan | Place::AfterScan);
        let end = self.without_part_head(self.buffer.len());
        if !scanned || end - self.start < MIN_FRAME_BYTES {
            self.skip_to(self.buffer.len());
            return None;
        }
        let mut picture = self.take(end);
        picture.extend([0xff, END_OF_IMAGE]);
        Some(picture)
    }

    /// Whether a picture has begun of which so much is missing that it cannot be used yet.
    pub fn lacks_more(&self) -> bool {
        match self.place {
            Place::Between => false,
            Place::Header => true,
            Place::Scan | Place::AfterScan => share_lost(&self.buffer[self.start..]).is_some(),
        }
    }

    /// Bytes that belonged to no whole picture so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// What the first bytes that belonged to no picture look like.
    pub fn guess(&self) -> Option<Content> {
        guess(&self.sample)
    }

    /// The unfinished picture, up to `end`.
    fn take(&mut self, end: usize) -> Vec<u8> {
        let picture = self.buffer[self.start..end].to_vec();
        self.start = end;
        self.place = Place::Between;
        self.gap.clear();
        picture
    }

    /// The end of a picture that ends before `end`, without the head of the next part of a multipart stream: a line that
    /// begins with two dashes, and lines of text after it.
    fn without_part_head(&self, end: usize) -> usize {
        let from = end.saturating_sub(GAP).max(self.start);
        let tail = &self.buffer[from..end];
        let text = |byte: &u8| matches!(byte, b'\r' | b'\n' | b'\t' | b' '..=b'~');
        let mut dashes = tail.windows(3).enumerate().rev();
        let head = dashes.find(|(at, bytes)| *bytes == b"\n--" && tail[*at..].iter().all(text));
        match head {
            Some((at, _)) if at > 0 && tail[at - 1] == b'\r' => from + at - 1,
            Some((at, _)) => from + at,
            None => end,
        }
    }

    fn give_up(&mut self, next: usize) {
        self.skip_to(next);
        self.place = Place::Between;
    }

    fn skip_to(&mut self, next: usize) {
        let skipped = &self.buffer[self.start..next];
        self.skipped += skipped.len() as u64;
        let room = SAMPLE - self.sample.len();
        self.sample.extend(&skipped[..skipped.len().min(room)]);
        self.gap
            .extend(&skipped[skipped.len().saturating_sub(GAP)..]);
        if self.gap.len() > 2 * GAP {
            self.gap.drain(..self.gap.len() - GAP);
        }
        self.start = next;
    }

    /// Drops the bytes that are done with once they are the larger part: what is left is then moved no more often than bytes
    /// came.
    fn forget(&mut self) {
        if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.walked = self.walked.saturating_sub(self.start);
            self.part_end = self.part_end.map(|end| end.saturating_sub(self.start));
            self.start = 0;
        }
    }

    /// Skips what lies before a picture; whether one starts here.
    fn find_start(&mut self) -> bool {
        // A start is followed by another marker, which distinguishes it from two stray bytes.
        let start = self.buffer[self.start..]
            .windows(3)
            .position(|bytes| bytes == [0xff, START_OF_IMAGE, 0xff]);
        match start {
            Some(start) => {
                self.skip_to(self.start + start);
                self.walked = self.start + 2;
                self.part_end = part_length(&self.gap).map(|length| self.start + length);
                self.gap.clear();
                self.steps = 0;
                self.place = Place::Header;
                true
            }
            None => {
                // Its first two bytes may be here already.
                self.skip_to(self.start.max(self.buffer.len().saturating_sub(2)));
                false
            }
        }
    }

    fn walk(&mut self) -> Walk {
        loop {
            let limit = self.part_end.unwrap_or(usize::MAX);
            let walk = self.walk_to(limit.min(self.buffer.len()));
            // Whether the part ends where it said shows in what follows it.
            if !matches!(walk, Walk::Open) || self.buffer.len() < limit.saturating_add(2) {
                return walk;
            }
            let scanned = matches!(self.place, Place::Scan | Place::AfterScan);
            let follows = &self.buffer[limit..limit + 2];
            if scanned && (follows == b"\r\n" || follows == b"--") {
                return Walk::Endless(limit);
            }
            self.part_end = None;
        }
    }

    /// Walks on, looking at nothing from `limit` on.
    fn walk_to(&mut self, limit: usize) -> Walk {
        loop {
            let ahead = &self.buffer[self.walked.min(limit)..limit];
            if self.place == Place::Scan {
                match end_of_scan(ahead) {
                    Some(marker) => {
                        self.walked += marker;
                        self.place = Place::AfterScan;
                    }
                    None => {
                        self.walked += ahead.len().saturating_sub(1);
                        return Walk::Open;
                    }
                }
                continue;
            }
            let scanned = self.place == Place::AfterScan;
            match *ahead {
                [] | [0xff] => return Walk::Open,
                // Any number of 0xff may stand before a marker's code.
                [0xff, 0xff, ..] => self.step(1),
                [0xff, END_OF_IMAGE, ..] => return Walk::Whole(self.walked + 2),
                // The next picture begins before this one has ended.
                [0xff, START_OF_IMAGE] if scanned => return Walk::Open,
                [0xff, START_OF_IMAGE, 0xff, ..] if scanned => return Walk::Endless(self.walked),
                [0xff, START_OF_IMAGE, ..] if !scanned => return Walk::Broken(self.walked),
                // What stands behind a fill byte is no marker, so it was data.
                [0xff, code, ..] if scanned && !ends_scan(code) || code == START_OF_IMAGE => {
                    self.step(2);
                    self.place = Place::Scan;
                }
                [0xff, 0, ..] => return self.broken(),
                [0xff, 0x01 | 0xd0..=0xd7, ..] => self.step(2),
                [0xff, _] | [0xff, _, _] => return Walk::Open,
                [0xff, code, high, low, ..] => {
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    if length < 2 {
                        return self.broken();
                    }
                    if ahead.len() < 2 + length {
                        return Walk::Open;
                    }
                    self.step(2 + length);
                    if code == START_OF_SCAN {
                        self.place = Place::Scan;
                    }
                }
                _ => return self.broken(),
            }
        }
    }

    fn step(&mut self, bytes: usize) {
        self.walked += bytes;
        self.steps += 1;
    }

    /// What to do where the bytes stop making sense.
    fn broken(&self) -> Walk {
        let again = self.place == Place::Header && self.steps <= MAX_STEPS_AGAIN;
        Walk::Broken(if again { self.start + 2 } else { self.walked })
    }
}

/// Where in compressed data the first marker stands that can follow them.
fn end_of_scan(data: &[u8]) -> Option<usize> {
    // So many bytes are looked at together: most have no 0xff among them.
    const BLOCK: usize = 32;
    let mut from = 0;
    while let Some(block) = data.get(from..from + BLOCK) {
        if block.iter().fold(false, |any, &byte| any | (byte == 0xff)) {
            // With the byte behind the block, which may be a marker's code.
            let block = &data[from..data.len().min(from + BLOCK + 1)];
            if let Some(at) = marker_in(block) {
                return Some(from + at);
            }
        }
        from += BLOCK;
    }
    marker_in(&data[from..]).map(|at| from + at)
}

fn marker_in(data: &[u8]) -> Option<usize> {
    data.windows(2)
        .position(|pair| pair[0] == 0xff && ends_scan(pair[1]))
}

/// Whether a marker of this code can follow compressed data: the end, another picture, tables, a scan, what applications
/// put in, or the number of lines. Zero and the restart markers belong to the data, and so do codes that no picture has.
fn ends_scan(code: u8) -> bool {
    matches!(code, 0xc4 | 0xd8..=0xdd | 0xe0..=0xef | 0xfe | 0xff)
}

/// The length that the head of a part says of what follows it, where it ends with an empty line.
fn part_length(gap: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(gap.rsplit(|byte| !byte.is_ascii()).next()?).ok()?;
    if !text.ends_with("\r\n\r\n") && !text.ends_with("\n\n") {
        return None;
    }
    let lines = text.lines().rev();
    let mut values = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.trim().eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse::<usize>().ok())?
    });
    values
        .next()
        .filter(|length| (MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(length))
}

#[cfg(test)]
mod tests;
