//! Cuts the bytes of one file into lines, whatever pieces they are read in.
//!
//! Invariants:
//! - How the bytes are cut into reads does not change the lines or their places.
//! - A line is given out once its newline has been read (or [`Lines::finish`] is called); until
//!   then [`Lines::resume`] stays at its first byte.
//! - No more than `keep_max` bytes of a line are held; the rest is counted and dropped.
//!
//! Pure: no I/O. `tail::file` reads the bytes, `tail::join` takes the lines.

/// One line as it lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawLine<'a> {
    /// Offset of the first byte.
    pub begin: u64,
    /// Offset after the newline.
    pub end: u64,
    /// The bytes without the newline, cut at the limit.
    pub text: &'a [u8],
    /// How many bytes beyond the limit were dropped.
    pub dropped: u64,
}

/// The open line of one file.
#[derive(Debug)]
pub struct Lines {
    keep_max: usize,
    /// First byte of the open line.
    begin: u64,
    /// Bytes of the open line seen, kept or not.
    seen: u64,
    kept: Vec<u8>,
}

impl Lines {
    /// Starts at `offset`, the first byte of a line, and keeps at most `keep_max` bytes of a line.
    #[must_use]
    pub fn new(offset: u64, keep_max: usize) -> Self {
        Self { keep_max, begin: offset, seen: 0, kept: Vec::new() }
    }

    /// Offset of the next byte to push.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.begin + self.seen
    }

    /// Offset of the first byte that is not in a finished line.
    #[must_use]
    pub fn resume(&self) -> u64 {
        self.begin
    }

    /// Takes the bytes at [`Lines::position`] and gives out each line that they finish.
    pub fn push(&mut self, mut chunk: &[u8], mut each: impl FnMut(RawLine<'_>)) {
        if self.seen > 0 {
            let Some(newline) = memchr::memchr(b'\n', chunk) else {
                self.keep(chunk);
                return;
            };
            self.keep(&chunk[..newline]);
            chunk = &chunk[newline + 1..];
            self.give(1, &mut each);
        }
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', chunk) {
            let line = &chunk[start..newline];
            let text = &line[..line.len().min(self.keep_max)];
            let end = self.begin + line.len() as u64 + 1;
            let dropped = (line.len() - text.len()) as u64;
            each(RawLine { begin: self.begin, end, text, dropped });
            self.begin = end;
            start = newline + 1;
        }
        self.keep(&chunk[start..]);
    }

    /// Gives out the open line, if there is one, although its newline never came.
    pub fn finish(&mut self, mut each: impl FnMut(RawLine<'_>)) {
        if self.seen > 0 {
            self.give(0, &mut each);
        }
    }

    /// Passes over `bytes` bytes that are not part of any line (a hole in the file). Only between
    /// lines.
    pub fn skip(&mut self, bytes: u64) {
        debug_assert_eq!(self.seen, 0, "a hole is passed over between lines only");
        self.begin += bytes;
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.keep_max.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.seen += bytes.len() as u64;
    }

    fn give(&mut self, newline: u64, each: &mut impl FnMut(RawLine<'_>)) {
        let end = self.begin + self.seen + newline;
        let dropped = self.seen - self.kept.len() as u64;
        each(RawLine { begin: self.begin, end, text: &self.kept, dropped });
        self.begin = end;
        self.seen = 0;
        // Most files end with a newline at most times: they should not hold a buffer.
        self.kept = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (u64, u64, Vec<u8>, u64);

    fn cut<'a>(keep_max: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Owned>, u64) {
        let mut lines = Lines::new(7, keep_max);
        let mut out = Vec::new();
        for chunk in chunks {
            lines.push(chunk, |l| out.push((l.begin, l.end, l.text.to_vec(), l.dropped)));
        }
        (out, lines.resume())
    }

    #[test]
    fn lines_and_their_places() {
        let (lines, resume) = cut(4, [&b"ab\n\ncdefgh\nxy"[..]]);
        let expected = vec![
            (7, 10, b"ab".to_vec(), 0),
            (10, 11, Vec::new(), 0),
            (11, 18, b"cdef".to_vec(), 2),
        ];
        assert_eq!((lines, resume), (expected, 18));
    }

    #[test]
    fn the_rest_comes_at_the_end() {
        let mut lines = Lines::new(0, 4);
        lines.push(b"abcdef", |_| panic!("no newline yet"));
        assert_eq!((lines.resume(), lines.position()), (0, 6));
        let mut out = Vec::new();
        lines.finish(|l| out.push((l.begin, l.end, l.text.to_vec(), l.dropped)));
        lines.finish(|_| panic!("nothing is open"));
        assert_eq!(out, [(0, 6, b"abcd".to_vec(), 2)]);
        assert_eq!((lines.resume(), lines.position()), (6, 6));
    }

    proptest! {
        #[test]
        fn any_reads_give_the_same_lines(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            sizes in proptest::collection::vec(1_usize..20, 1..40),
            keep_max in 1_usize..30,
        ) {
            let whole = cut(keep_max, [&bytes[..]]);
            let mut rest = &bytes[..];
            let mut chunks = Vec::new();
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (chunk, after) = rest.split_at(rest.len().min(*size));
                chunks.push(chunk);
                rest = after;
            }
            prop_assert_eq!(&whole, &cut(keep_max, chunks));
            // Against the oracle: split at newlines, the last piece is open.
            let mut oracle: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
            oracle.pop();
            let texts: Vec<&[u8]> = oracle.iter().map(|l| &l[..l.len().min(keep_max)]).collect();
            let found: Vec<&[u8]> = whole.0.iter().map(|l| &l.2[..]).collect();
            prop_assert_eq!(texts, found);
        }
    }
}
