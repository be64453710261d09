//! Numbers and texts to bytes and back, for what the spool writes.
//!
//! Invariant: reading never panics and never takes more memory than the bytes at hand, whatever they
//! are.
//!
//! Pure.

/// The bytes are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}")]
pub struct Malformed {
    /// What could not be read.
    pub what: &'static str,
}

impl Malformed {
    /// An error of that part.
    #[must_use]
    pub const fn of(what: &'static str) -> Self {
        Self { what }
    }
}

/// Appends a number, seven bits a byte, the lowest first.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends bytes behind their length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what was put, in order.
#[derive(Clone, Copy, Debug)]
pub struct Take<'a> {
    rest: &'a [u8],
}

impl<'a> Take<'a> {
    /// From the first byte on.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn raw(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Malformed { what })?;
        self.rest = rest;
        Ok(head)
    }

    /// A number.
    ///
    /// # Errors
    /// When it is cut off or longer than 64 bits.
    pub fn number(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.raw(1, what)?[0];
            let bits = u64::from(byte & 0x7F);
            let shifted = bits << shift;
            if shifted >> shift != bits {
                return Err(Malformed { what });
            }
            value |= shifted;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed { what })
    }

    /// A number that is an index or a length.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn small(&mut self, what: &'static str) -> Result<u32, Malformed> {
        u32::try_from(self.number(what)?).map_err(|_| Malformed { what })
    }

    /// How many elements follow. Each takes a byte at least, so more than the bytes left cannot be.
    ///
    /// # Errors
    /// When there cannot be so many.
    pub fn count(&mut self, what: &'static str) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number(what)?).map_err(|_| Malformed { what })?;
        if count > self.rest.len() { Err(Malformed { what }) } else { Ok(count) }
    }

    /// Bytes behind their length.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let len = self.count(what)?;
        self.raw(len, what)
    }

    /// A text behind its length.
    ///
    /// # Errors
    /// When it is cut off or no UTF-8.
    pub fn text(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| Malformed { what })
    }

    /// Eight bytes, the lowest first.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn fixed(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let bytes = self.raw(8, what)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("the slice has eight bytes")))
    }

    /// That nothing follows.
    ///
    /// # Errors
    /// When something does.
    pub fn end(self, what: &'static str) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed { what }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(number: u64, shift in 0_u32..64, bytes: Vec<u8>, text: String) {
            let number = number >> shift;
            let mut out = Vec::new();
            put_number(&mut out, number);
            put_bytes(&mut out, &bytes);
            put_bytes(&mut out, text.as_bytes());
            let mut take = Take::new(&out);
            prop_assert_eq!(take.number("n"), Ok(number));
            prop_assert_eq!(take.bytes("b"), Ok(&bytes[..]));
            prop_assert_eq!(take.text("t"), Ok(&text[..]));
            prop_assert_eq!(take.end("end"), Ok(()));
            for cut in 0..out.len() {
                let mut take = Take::new(&out[..cut]);
                let whole = take.number("n").is_ok()
                    && take.bytes("b").is_ok()
                    && take.text("t").is_ok();
                prop_assert!(!whole);
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert!(Take::new(&[0xFF; 11]).number("n").is_err());
        assert!(
            Take::new(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2])
                .number("n")
                .is_err()
        );
        assert!(Take::new(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]).small("n").is_err());
        assert!(Take::new(&[9, 1]).bytes("b").is_err());
    }
}
